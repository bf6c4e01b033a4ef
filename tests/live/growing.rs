//! Reports from a recording that goes on, asked again and again without `--follow`: in one file, and in a set whose files
//! come and go. Nothing is lost, so nothing may be called lost, until the recorder is killed.

use super::bounds::set_of;
use super::support::{CAPTURE, live, scratch, wait_for};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ANALYZE: &str = env!("CARGO_BIN_EXE_analyze");
/// Some hundred programs each second, until it is killed.
const BUSY: &str = "while :; do /bin/true; sleep 0.005; done";
const SPAN: Duration = Duration::from_secs(7);
const EVERY: Duration = Duration::from_millis(200);

/// A recorder, and the work that it records; both are gone with the value.
struct Recording {
    capture: Child,
    work: Child,
}

impl Recording {
    fn start(path: &Path, options: &[&str]) -> Self {
        let work = Command::new("sh").args(["-c", BUSY]).spawn().expect("sh runs");
        let mut capture = Command::new(CAPTURE);
        capture
            .arg("-o")
            .arg(path)
            .args(["-g", "proc,file,stat", "--pid", &work.id().to_string()])
            .args(options);
        let capture = capture.stderr(Stdio::null()).spawn().expect("capture runs");
        Self { capture, work }
    }

    fn kill(&mut self) {
        for child in [&mut self.capture, &mut self.work] {
            // One that has ended is what is wanted.
            _ = child.kill();
            child.wait().expect("our own child");
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Exit status, output and messages of a report.
fn ask(files: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(ANALYZE).arg(files).args(words).output().expect("analyze runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Asks again and again; how many times the answer had a program in it.
fn ask_meanwhile(files: &Path) -> usize {
    let (began, mut answers) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        let round = Instant::now();
        for words in [&["execsnoop", "--format", "csv"][..], &["check"], &[]] {
            let (exit, out, messages) = ask(files, words);
            let when = began.elapsed();
            let false_losses = ["missing_rows", "damaged", "not here"];
            assert!(
                !false_losses.iter().any(|word| messages.contains(word)),
                "{words:?} at {when:?}: {messages}"
            );
            // A machine that is busy with other things may lose events in truth.
            assert!(exit == Some(0) || messages.contains("ring_full"), "{words:?} at {when:?}: {messages}");
            answers += usize::from(out.contains(",true,"));
        }
        std::thread::sleep(EVERY.saturating_sub(round.elapsed()));
    }
    answers
}

#[test]
fn a_file_is_read_while_it_is_written_and_nothing_is_called_lost() {
    if !live() {
        return;
    }
    let path = scratch("growing-file").join("trace.bin");
    let mut recording = Recording::start(&path, &[]);
    wait_for("the trace", || path.metadata().is_ok_and(|file| file.len() > 0));
    wait_for("its tables", || ask(&path, &["info"]).0 == Some(0));
    assert!(ask_meanwhile(&path) > 0, "programs ran all the time");
    let (_, _, messages) = ask(&path, &["execsnoop"]);
    assert!(messages.contains("still being recorded: this is what it says up to "), "{messages}");
    recording.kill();
    let (_, out, messages) = ask(&path, &["check"]);
    assert!(out.contains("no footer: the recording did not stop cleanly"), "{out}");
    assert!(!messages.contains("still being recorded"), "{messages}");
}

#[test]
fn a_set_is_read_while_its_files_come_and_go() {
    if !live() {
        return;
    }
    let folder = scratch("growing-set");
    let mut recording = Recording::start(&folder.join("trace.bin"), &["--rotate", "500ms", "--keep", "6"]);
    wait_for("a file", || ask(&folder, &["info"]).0 == Some(0));
    assert!(ask_meanwhile(&folder) > 0, "programs ran all the time");
    recording.kill();
    let files = set_of(&folder.join("trace.bin"));
    assert!(files.len() >= 6, "{} files", files.len());
    let (_, out, messages) = ask(&folder, &["check"]);
    assert!(out.contains("no footer: the recording did not stop cleanly"), "{out}{messages}");
}
