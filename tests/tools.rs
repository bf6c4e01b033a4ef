//! Programs of others, as second opinions.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Whether these programs are there. With `REQUIRE_TOOLS=1` they must be.
pub fn tools(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            let mut command = Command::new(name);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "not installed: {missing:?}");
    // Not by the macro: the output of tests that pass is kept back, and this one passes.
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: not installed: {missing:?}");
    false
}

/// Its standard output; it must succeed.
pub fn output(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("a child");
    feed.join().expect("no panic").expect("the program reads all of its input");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}
