//! Files of later versions of the format: what can be read of them is read, and what would mislead is refused.
//!
//! Our own writer makes them, so they are what a later one could write; `WRITE_NEWER=1 cargo test newer` does it anew.

use super::made::{host, number, table};
use std::path::{Path, PathBuf};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Batch, Column, ColumnDef, ColumnType, Host, Kind, TraceReader, TraceWriter};

/// A second of sends with a column that no version has, one of a type that no version has, and frames of a kind that
/// no version has; with an index, as it is in order.
fn newer() -> Vec<u8> {
    let column = |name: &str, kind| ColumnDef::new(name, kind);
    let sends = vec![
        column("ts", number(8, false)),
        column("mood", ColumnType::Unknown(200)),
        column("ret", number(4, true)),
        column("weight", number(2, false)),
    ];
    let tables = vec![table(0, "sock_send", sends), table(1, "later", vec![column("ts", number(8, false))])];
    let mut writer = TraceWriter::new(Vec::new(), 1, &host(), tables).expect("a Vec takes everything");
    for frame in 0..3u64 {
        let rows: Vec<u64> = (0..100).map(|row| 17 + frame * 100 + row).collect();
        let columns = vec![
            Column::U64(rows.clone()),
            Column::U64(rows.iter().map(|row| row * 7).collect()),
            Column::U32(vec![10; 100]),
            Column::U16(vec![3; 100]),
        ];
        let batch = Batch { table: 0, stream: 0, rows: 100, columns };
        writer.append(Kind::Events, 0, &batch).expect("a batch that fits");
        let later = Batch { table: 1, stream: 1, rows: 100, columns: vec![Column::U64(rows)] };
        writer.append(Kind::Unknown(200), 0, &later).expect("a batch that fits");
    }
    writer.finish("done").expect("a Vec takes everything").0
}

/// What its rows mean no reader of today knows.
fn misleading() -> Vec<u8> {
    let host = Host { required_reader: 2, ..host() };
    let writer = TraceWriter::new(Vec::new(), 1, &host, Vec::new()).expect("a Vec takes everything");
    writer.finish("done").expect("a Vec takes everything").0
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[test]
fn the_files_of_later_versions_are_what_the_writer_makes() {
    for (name, made) in [("format-1-newer.bin", newer()), ("format-2.bin", misleading())] {
        let path = fixture(name);
        if std::env::var_os("WRITE_NEWER").is_some() {
            std::fs::write(&path, &made).expect("the folder of the fixtures takes a file");
        }
        // Another zstd may compress otherwise: what is in it is the same.
        let (committed, made) = (TraceReader::open(&path), TraceReader::from_bytes(made));
        match (committed, made) {
            (Ok(committed), Ok(made)) => assert_eq!(committed.tables, made.tables, "{name}"),
            (committed, made) => assert_eq!(
                committed.err().map(|error| error.to_string()),
                made.err().map(|error| error.to_string()),
                "{name}"
            ),
        }
    }
}

#[test]
fn what_is_known_of_a_newer_file_is_read() {
    let trace = TraceReader::open(&fixture("format-1-newer.bin")).expect("a trace");
    assert_eq!((trace.damage.len(), trace.missing().len()), (0, 0));
    let def = &trace.tables[0];
    assert_eq!(def.columns[1].kind, ColumnType::Unknown(200));
    let mut scratch = Scratch::new();
    for frame in trace.frames_of(0) {
        let batch = trace.read(frame, None, &mut scratch).expect("a whole frame");
        assert_eq!(batch.columns[1], Column::Absent);
        assert_eq!(batch.columns[2], Column::U32(vec![10; 100]));
    }
    assert_eq!((trace.frames_of(0).count(), trace.frames_of(1).count()), (3, 0));
}

#[cfg(feature = "analyze")]
mod command_line {
    use super::fixture;
    use std::process::Command;

    fn analyze(name: &str, words: &[&str]) -> (Option<i32>, String, String) {
        let mut analyze = Command::new(env!("CARGO_BIN_EXE_analyze"));
        let output = analyze.arg(fixture(name)).args(words).output().expect("analyze runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn reports_answer_from_a_newer_file() {
        let newer = |words: &[&str]| analyze("format-1-newer.bin", words);
        let (exit, out, messages) =
            newer(&["tcpsend", "--by", "none", "--interval", "all", "--format", "csv"]);
        assert_eq!((exit, messages.as_str()), (Some(0), ""));
        assert!(
            out.lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("false,300,") && line.ends_with(",3000,0")),
            "{out}"
        );
        assert_eq!(newer(&["check"]).0, Some(0));
        let (exit, out, _) = newer(&["info"]);
        assert!(
            exit == Some(0) && out.contains("mood") && out.contains("later version of the format"),
            "{out}"
        );
        let (exit, out, _) = newer(&["sql", "SELECT sum(weight) AS w FROM sock_send", "--format", "csv"]);
        assert_eq!((exit, out.as_str()), (Some(0), "w\r\n900\r\n"));
        let (exit, _, messages) = newer(&["tcpsend", "--where", "mood > 1"]);
        assert!(exit == Some(6) && messages.contains("later version"), "{messages}");
        assert_eq!(newer(&["sql", "SELECT * FROM sock_send"]).0, Some(0));
    }

    #[test]
    fn a_copy_says_what_it_lacks_and_answers_the_same() {
        let copy = std::env::temp_dir().join(format!("tapedeck-newer-{}.bin", std::process::id()));
        let name = copy.display().to_string();
        let (exit, out, messages) = analyze("format-1-newer.bin", &["recover", "-o", &name, "--force"]);
        assert_eq!((exit, messages.as_str()), (Some(0), ""));
        assert!(out.contains("left out: 3 frames of kinds that only a later version knows"), "{out}");
        let line = ["tcpsend", "--by", "none", "--interval", "all", "--format", "csv"];
        // An absolute path is itself, joined to whatever folder.
        assert_eq!(analyze(&name, &line), analyze("format-1-newer.bin", &line));
        assert!(analyze(&name, &["info"]).1.contains("later version of the format"));
        std::fs::remove_file(&copy).expect("it was written");
    }

    #[test]
    fn what_would_mislead_is_refused() {
        for words in [&["tcpsend"][..], &["check"], &["info"], &["recover", "-o", "/nonexistent/x"]] {
            let (exit, out, messages) = analyze("format-2.bin", words);
            assert_eq!((exit, out.as_str()), (Some(1), ""), "{words:?}");
            assert!(
                messages.contains("needs a reader of format 2") && messages.contains("newer analyze"),
                "{messages}"
            );
        }
    }
}
