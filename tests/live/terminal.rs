//! What a person sees: progress on a terminal, and the demo.

use super::support::{CAPTURE, has, live, scratch, text};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn on_a_terminal_rate_size_and_losses_are_shown_while_recording() {
    if !live() || !has("script") {
        return;
    }
    let path = scratch("terminal-progress").join("trace.bin");
    // The loop forks about a thousand times: there is something to show.
    let work = "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done";
    let line = format!("{CAPTURE} -o {} -g proc -- sh -c '{work}'", path.display());
    // script(1) gives its child a terminal of its own, and writes what appears there.
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let progress = shown.split('\r').filter(|line| line.contains("events/s") && line.contains("lost 0"));
    let sizes = progress.filter(|line| line.contains("KiB") || line.contains(" B ")).count();
    assert!(sizes >= 2, "rate, size and losses, again and again: {shown}");
    assert!(shown.contains("events captured"), "the summary takes its place: {shown}");
    let mut plain = Command::new(CAPTURE);
    plain.arg("-o").arg(&path).args(["--force", "-g", "proc", "--", "sleep", "1"]);
    let plain = plain.output().expect("capture runs");
    assert!(!text(&plain).contains("events/s"), "elsewhere it is not: {}", text(&plain));
}

#[test]
fn the_demo_says_why_it_cannot_record_and_reads_a_fixture() {
    if !live() || !has("setpriv") || !has("python3") {
        return;
    }
    // Root without any capability: the files can be read and no probe can be loaded.
    let demo = |capabilities: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let programs = Path::new(CAPTURE).parent().expect("a folder");
        let mut command = Command::new("setpriv");
        command.args(capabilities).args(["sh", "-c", "exec contrib/demo.sh \"$0\" 2>&1"]).arg(programs);
        command.current_dir(root).output().expect("setpriv runs")
    };
    let without = demo(&["--bounding-set=-all", "--inh-caps=-all"]);
    let said = String::from_utf8_lossy(&without.stdout);
    assert!(without.status.success(), "{said}");
    assert!(said.contains("CAP_BPF") && said.contains("reading fixtures/pingpong.bin instead"), "{said}");
    assert!(said.contains("analyze fixtures/pingpong.bin tcplat") && said.contains("response"), "{said}");
    let with = demo(&[]);
    let said = String::from_utf8_lossy(&with.stdout);
    assert!(with.status.success() && said.contains("analyze demo.bin tcplat"), "{said}");
    assert!(said.contains("events captured") && !said.contains("reading fixtures"), "{said}");
}
