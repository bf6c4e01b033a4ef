//! Contents that are in order and mean to mislead: names that look like conditions, formulas and commands, threads that
//! are their own parents. What nobody thought of is the fuzzer's: `tests/fuzz`, replayed by `tests/hostile.rs`.

use super::args;
use super::testkit::{Folder, Tape};
use super::trace::Trace;
use super::{files, options::Options};
use crate::schema::frame::{ALL_COLUMNS, FrameHeader, MAX_ROWS, Part};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

#[test]
fn threads_that_are_their_own_parents_end() {
    let folder = Folder::new();
    let mut tape = Tape::new();
    for (tid, parent) in [(7u64, 8u64), (8, 7), (9, 9)] {
        let numbers = [tid, tid, parent, 0].map(super::testkit::Cell::from);
        let head = [super::testkit::START, 0].map(super::testkit::Cell::from);
        tape.push("task", head.into_iter().chain(numbers).chain(["loop".into()]).collect());
        tape.send(tid, tid, 1, 100, 100);
    }
    folder.put("a.bin", &tape.bytes());
    for line in ["tcpsend --by comm,ppid", "slice --to 1s -o b.bin", "redact -o c.bin", "check"] {
        assert_eq!(folder.run(&format!("a.bin {line}")).0, 0, "{line}");
    }
}

#[test]
fn names_do_not_become_conditions_formulas_or_commands() {
    let folder = Folder::new();
    let mut tape = Tape::new();
    tape.task(0, 7, 70, "'; DROP TABLE x; --").task(0, 8, 80, "=1+1").task(0, 9, 90, "\x1b[2Jx");
    (0..3).for_each(|at| {
        tape.send(at, 7 + at, 1, 100, 100);
    });
    tape.ledger(0, 3, 0);
    folder.put("a.bin", &tape.bytes());
    let csv =
        |more: &str| folder.run(&format!("a.bin tcpsend --by comm --interval all --format csv{more}")).1;
    assert!(csv("").contains("\n=1+1,") && csv("").contains("\x1b[2J"), "data is as it is");
    assert!(csv(" --csv-safe").contains("\n'=1+1,"), "{}", csv(" --csv-safe"));
    let (_, table, _) = folder.run("a.bin tcpsend --by comm --interval all");
    assert!(table.contains("\\x1b[2Jx") && !table.contains('\x1b'), "{table}");
    let (exit, out, _) =
        folder.run("a.bin tcpsend --interval all --format csv --where comm~=~'''~OR~1=1~--'");
    assert_eq!((exit, out.lines().nth(1)), (0, Some("false,0,0.0,0,0")), "{out}");
    let (exit, ..) = folder.run("a.bin tcpsend --where comm~=~'a';~DROP~TABLE~x");
    assert_eq!(exit, 2);
    assert!(args::report("tcpsend").is_some());
}

/// As the command line opens it.
fn open(path: &Path) -> Trace {
    let opened = files::open(&[path.to_owned()], &Options::default()).expect("a trace");
    opened.all(&mut std::io::sink()).expect("a trace").remove(0)
}

/// A thousand sends in twenty frames.
fn sends() -> Vec<u8> {
    let mut tape = Tape::new();
    (0..1000).for_each(|at| {
        tape.send(at, 7, 1, 100, 100);
    });
    tape.rows_per_frame(50).bytes()
}

#[test]
fn no_room_is_made_for_rows_that_headers_only_claim() {
    let folder = Folder::new();
    let bytes = sends();
    let trace = Tape::open_bytes(bytes.clone(), 1);
    let sends = trace.table("sock_send").expect("the table is there").number;
    let last = trace.reader.frames_of(sends).last().expect("twenty frames");
    let mut hostile = bytes[..(last.offset + last.header.length()) as usize].to_vec();
    let empty = Part { column: ALL_COLUMNS, stored: 0, raw: 0 };
    for at in 1..20_000 {
        let (sequence, rows_before) = (last.header.sequence + at, 1000 + (at - 1) * u64::from(MAX_ROWS));
        let parts = vec![empty];
        let claim = FrameHeader { rows: MAX_ROWS, sequence, rows_before, parts, ..last.header.clone() };
        hostile.extend(claim.to_bytes());
    }
    folder.put("a.bin", &hostile);
    for more in ["", " --format csv", " --sort tid", " --top 5 --format json"] {
        let (exit, out, messages) = folder.run(&format!("a.bin events --table sock_send{more}"));
        // Behind the first rows nothing is read.
        let (rows, status) = if more.contains("--top") { (5, 0) } else { (1000, 3) };
        assert_eq!((exit, out.matches("100").count() / 2), (status, rows), "{more}: {messages}");
    }
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_read_loses_its_end_and_says_so() {
    let folder = Folder::new();
    let bytes = sends();
    folder.put("a.bin", &bytes);
    let path = folder.path().join("a.bin");
    let trace = open(&path);
    let half = trace.reader.frames_of(2).nth(10).expect("twenty frames").offset;
    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(half)).expect("it is cut");
    assert_eq!(trace.gather("sock_send").expect("the table").len(), 500);
    let lost: u64 = trace.unreadable().iter().map(|(_, frame)| frame.rows).sum();
    assert_eq!(lost, 500, "{:?}", trace.unreadable());
    let losses = trace.ledger().losses(&trace, trace.span, &[2]);
    assert!(losses.damage.iter().any(|place| place.contains("bytes, 0 are there")), "{:?}", losses.damage);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_what_it_was_when_it_was_opened() {
    let folder = Folder::new();
    let bytes = sends();
    let whole = Tape::open_bytes(bytes.clone(), 1);
    let half = whole.reader.frames_of(2).nth(10).expect("twenty frames").offset as usize;
    folder.put("a.bin", &bytes[..half]);
    let path = folder.path().join("a.bin");
    let before = open(&path);
    let grown =
        OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(&bytes[half..]));
    grown.expect("the file takes more");
    assert_eq!(before.gather("sock_send").expect("the table").len(), 500);
    assert!(before.unreadable().is_empty() && before.reader.damage.is_empty());
    assert_eq!(open(&path).gather("sock_send").expect("the table").len(), 1000);
}
