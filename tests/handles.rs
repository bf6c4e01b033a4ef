//! What the system may refuse: more files than may be open at first, room for the answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Host, TraceReader, TraceWriter};

const PARTS: u32 = 100;

/// A folder with a set, each part of which has all rows of a fixture; gone with the value.
struct Set(PathBuf);

impl Set {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tapedeck-handles-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        let set = Self(folder);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pingpong.bin");
        let reader = TraceReader::open(&fixture).expect("a fixture");
        for part in 1..=PARTS {
            let host = Host { recording: "r".into(), part, ..reader.host.clone() };
            let file =
                std::fs::File::create(set.0.join(format!("t.{part:06}.bin"))).expect("a folder of ours");
            let mut writer = TraceWriter::new(file, 1, &host, reader.tables.clone()).expect("a file of ours");
            let (mut scratch, rows) = (Scratch::new(), |frame: &&_| is_of_rows(frame));
            for frame in reader.frames.iter().filter(rows) {
                let batch = reader.read(frame, None, &mut scratch).expect("a whole fixture");
                writer.append(frame.header.kind, frame.header.epoch, &batch).expect("a file of ours");
            }
            writer.finish("a test").expect("a file of ours");
        }
        set
    }

    /// Asks all files at once, in a shell that has set a limit.
    fn ask(&self, limit: &str) -> Output {
        ask_of(&self.0, limit, &[])
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks files at once, in a shell that has set a limit, with more words.
fn ask_of(files: &Path, limit: &str, more: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    let line = format!("ulimit {limit} && exec \"$@\"");
    shell.args(["-c", &line, "sh", env!("CARGO_BIN_EXE_analyze")]).arg(files);
    shell.args(["events", "--table", "sock_send", "--by", "comm", "--format", "csv"]).args(more);
    shell.output().expect("a shell runs")
}

fn is_of_rows(frame: &tapedeck::schema::reader::Frame) -> bool {
    frame.header.kind.has_rows()
}

#[test]
fn a_set_has_more_files_than_may_be_open_at_first() {
    let set = Set::new();
    let (all, few) = (set.ask("-Sn 1000"), set.ask("-Sn 64"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(all.status.code(), Some(0), "{}", text(&all.stderr));
    assert!(text(&all.stdout).lines().count() > 1);
    assert_eq!((few.status.code(), text(&few.stdout)), (Some(0), text(&all.stdout)), "{}", text(&few.stderr));
    // Where no more are allowed at all, the error says so, and what to do; also of files that are found on the way.
    let first = set.0.join("t.000001.bin");
    for refused in
        [set.ask("-n 64"), ask_of(&set.0, "-n 64", &["--follow"]), ask_of(&first, "-n 64", &["--follow"])]
    {
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("Too many open files") && said.contains("hint: each file stays open"),
            "{said}"
        );
        assert!(said.contains("'ulimit -Hn'"), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_an_empty_file_are_said_with_the_next_step() {
    let said = |trace: &str, out: std::process::Stdio| {
        let mut analyze = Command::new(env!("CARGO_BIN_EXE_analyze"));
        let output = analyze.args([trace, "tcpsend"]).stdout(out).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pingpong.bin");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let (exit, text) = said(fixture, full.into());
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.starts_with("analyze: the answer could not be written whole: No space left"), "{text}");
    assert!(text.contains("\nhint: make room"), "{text}");
    let (exit, text) = said("/dev/null", std::process::Stdio::null());
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("hint: the file is empty"), "{text}");
}
