//! What takes its time shows how far it is, on a terminal and nowhere else.

use super::tools::{output, tools};
use std::process::Command;

#[test]
fn a_slow_copy_has_a_bar_on_a_terminal() {
    if !tools(&["script"]) {
        return;
    }
    let copy = std::env::temp_dir().join(format!("tapedeck-progress-{}.bin", std::process::id()));
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nginx.bin");
    // The highest level takes seconds for what a glance decodes.
    let line = format!(
        "'{}' --threads 1 '{fixture}' recompress -l 19 -o '{}' --force",
        env!("CARGO_BIN_EXE_analyze"),
        copy.display()
    );
    let shown = |command: &mut Command| String::from_utf8_lossy(&output(command, b"")).into_owned();
    let terminal = shown(Command::new("script").args(["-qec", &line, "/dev/null"]));
    assert!(terminal.contains("reading ") && terminal.contains(" left"), "{terminal}");
    let pipe = shown(Command::new("sh").args(["-c", &format!("{line} 2>&1")]));
    assert!(pipe.contains("122480 rows") && !pipe.contains("reading "), "{pipe}");
    std::fs::remove_file(&copy).expect("it was written");
}
