//! `execs`: processes that start, run a program and end, with known arguments and known ends.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::json::{Object, quote};
use crate::options::Options;
use crate::process::now_ns;

/// No such program.
const MISSING: &str = "/nonexistent/truth";

/// Starts `--count` programs one after the other: /bin/true, every third one `truth nop 3 …`, which exits with 3,
/// and the last one of several `truth nop term …`, which dies of SIGTERM. Before them, `--missing` processes are
/// forked whose exec fails, and which exit.
pub fn execs(options: &Options) -> io::Result<Object> {
    for _ in 0..options.missing {
        match Command::new(MISSING).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return Err(io::Error::other(format!("{MISSING}: {other:?}"))),
        }
    }
    let myself = std::env::current_exe()?;
    let mut runs = Vec::new();
    let mut ends = Ends::default();
    for index in 0..options.count {
        let (program, arguments) = plan(index, options.count, &myself);
        runs.push(run(&program, arguments, &mut ends)?);
    }
    let missing =
        Object::new().value("count", options.missing).text("path", MISSING).value("errno", libc::ENOENT);
    Ok(Object::new()
        .value("pid", std::process::id())
        .value("execs", options.count)
        .value("exit_0", ends.zero)
        .value("exit_other", ends.other)
        .value("killed", ends.killed)
        .object("missing", missing)
        .objects("runs", runs))
}

/// How many runs ended in which way.
#[derive(Default)]
struct Ends {
    zero: u64,
    other: u64,
    killed: u64,
}

/// One program from fork to wait.
fn run(program: &Path, arguments: Vec<String>, ends: &mut Ends) -> io::Result<Object> {
    let start = now_ns();
    let mut child = Command::new(program).args(&arguments).spawn()?;
    let pid = child.id();
    let status = child.wait()?;
    let end = now_ns();
    *match status.code() {
        Some(0) => &mut ends.zero,
        Some(_) => &mut ends.other,
        None => &mut ends.killed,
    } += 1;
    let argv = std::iter::once(program.to_string_lossy().into_owned()).chain(arguments);
    Ok(Object::new()
        .value("pid", pid)
        .list("argv", argv.map(|argument| quote(&argument)))
        .value("exit_code", status.code().map_or_else(|| "null".to_owned(), |code| code.to_string()))
        .value("signal", status.signal().unwrap_or(0))
        .value("start_ns", start)
        .value("wall_ns", end - start))
}

/// The program of run `index`, and its arguments (the index is the last one, to tell the runs apart).
fn plan(index: u64, count: u64, myself: &Path) -> (PathBuf, Vec<String>) {
    let own = |end: &str| (myself.to_owned(), vec!["nop".to_owned(), end.to_owned(), index.to_string()]);
    if count > 1 && index == count - 1 {
        return own("term");
    }
    if index % 3 == 1 {
        return own("3");
    }
    let true_program = Path::new("/bin/true");
    if true_program.exists() { (true_program.to_owned(), vec![index.to_string()]) } else { own("0") }
}

/// `nop END …`: ends at once, with that exit status, or by SIGTERM if END is `term`.
pub fn nop(arguments: &[String]) -> i32 {
    match arguments.first().map(String::as_str) {
        Some("term") => {
            // SAFETY: plain system call; the signal has its default effect.
            unsafe { libc::raise(libc::SIGTERM) };
            1
        }
        Some(code) => code.parse().unwrap_or(2),
        None => 0,
    }
}
