//! What a person sees: progress on a terminal, a replay's keys, and the demo.

use super::support::{CAPTURE, has, live, patiently, scratch, text, wait_for};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// Waits until the screen shows something that it did not show before `from`, and returns how much there is by then.
fn shown(screen: &Mutex<String>, from: usize, what: &str) -> usize {
    wait_for(&format!("{what} on the screen"), || screen.lock().expect("whole")[from..].contains(what));
    screen.lock().expect("whole").len()
}

/// The recording lasts 3.5 s, so there are seven or eight screens, each drawn over the one before.
#[test]
fn keys_stop_a_replay_lead_it_on_and_end_it() {
    if !has("script") {
        return;
    }
    patiently(|| {
        let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pingpong.bin");
        let line = format!(
            "{} {} replay tcptop --interval 500ms --speed 0.5",
            env!("CARGO_BIN_EXE_analyze"),
            trace.display()
        );
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().expect("script runs");
        let (mut keys, mut out) =
            (script.stdin.take().expect("a pipe"), script.stdout.take().expect("a pipe"));
        let screen = Arc::new(Mutex::new(String::new()));
        let filling = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                filling.lock().expect("whole").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let mut press =
            |key: &str| keys.write_all(key.as_bytes()).and_then(|()| keys.flush()).expect("it listens");
        let first = shown(&screen, 0, "tcptop 1/");
        press("n");
        let second = shown(&screen, first, " stopped");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(screen.lock().expect("whole").len(), second, "stopped is stopped");
        press("n");
        let third = shown(&screen, second, " stopped");
        press(" ");
        let fourth = shown(&screen, third, " ×0.5 ");
        press("+");
        shown(&screen, fourth, " ×1 ");
        press("q");
        let status = script.wait().expect("our own child");
        reader.join().expect("it reads on to the end");
        assert!(status.success(), "{status}");
        let text = screen.lock().expect("whole");
        let screens: Vec<&str> = text.split("\x1b[H\x1b[2J").skip(1).collect();
        let numbers: Vec<&str> =
            screens.iter().filter_map(|screen| screen.strip_prefix("tcptop ")?.split('/').next()).collect();
        let expected: Vec<String> = (1..=screens.len()).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected, "each screen once, in order, and drawn over the one before");
        let last =
            screens[0].split('/').nth(1).and_then(|rest| rest.split(' ').next()).expect("how many there are");
        assert!(
            (5..8).contains(&screens.len()) && numbers.last() != Some(&last),
            "ended by its key: {numbers:?} of {last}"
        );
    });
}
