use crate::analyze::testkit::{Folder, Tape};
use crate::schema::{TraceReader, lock, parts};
use std::fs::File;
use std::io::Write as _;

fn sends(host: &str) -> Vec<u8> {
    let mut tape = Tape::new();
    tape.send(0, 7, 1, 100, 100).host(|it| it.hostname = host.into());
    tape.bytes()
}

#[test]
fn one_file_that_cannot_be_used_costs_itself_alone() {
    let folder = Folder::new();
    folder.put("a.bin", &sends("web")).put("b.bin", &sends("db"));
    folder.put("broken.bin", &[&sends("x")[..20], &[0; 500]].concat());
    let line = "tcpsend --interval all --format csv";
    let whole = folder.run(&format!("a.bin b.bin {line}"));
    assert_eq!(whole.0, 0, "{}", whole.2);
    let at = folder.path().display().to_string();
    for named in ["a.bin broken.bin b.bin", &at] {
        let (exit, out, messages) = folder.run(&format!("{named} {line}"));
        assert_eq!((exit, &out), (3, &whole.1), "{messages}");
        assert!(messages.contains("broken.bin: not a tapedeck trace"), "{messages}");
    }
    // Alone, or for a trace that would lack it, it is an error.
    assert_eq!(folder.run(&format!("broken.bin {line}")).0, 1);
    assert_eq!(folder.run(&format!("{at} merge -o all.bin")).0, 1);
}

/// Ten seconds of a set's part, ten sends in each.
fn part(number: u32) -> Vec<u8> {
    let mut tape = Tape::new();
    let begin = u64::from(number - 1) * 10_000_000_000;
    tape.host(|it| {
        (it.recording, it.part) = ("r".into(), number);
        (it.start_mono, it.start_real) = (it.start_mono + begin, it.start_real + begin);
    });
    for at in 0..100 {
        tape.send(begin + at * 100_000_000, 7, 1, 100, 100);
    }
    tape.rows_per_frame(10).ending(parts::GOES_ON)
}

#[test]
fn a_file_that_is_being_recorded_is_answered_as_far_as_all_is_there() {
    let folder = Folder::new();
    let bytes = part(1);
    folder.put("a.bin", &bytes[..bytes.len() / 2]);
    let calls = |out: &str| -> u64 {
        let count = |line: &str| line.split(',').nth(2).and_then(|calls| calls.parse::<u64>().ok());
        out.lines().filter_map(count).sum()
    };
    let recorder = File::options().append(true).open(folder.path().join("a.bin")).expect("ours");
    lock::hold(&recorder);
    let (exit, out, messages) = folder.run("a.bin tcpsend --format csv");
    assert_eq!((exit, messages.lines().count(), out.contains("true")), (0, 1, false), "{messages}");
    assert!(messages.starts_with("analyze: a.bin: still being recorded: "), "{messages}");
    let settled = calls(&out);
    let (_, out, _) = folder.run("a.bin check");
    assert!(out.contains("still being recorded") && !out.contains("no footer"), "{out}");
    // A copy is of all bytes, and says that its end is none.
    let (exit, _, messages) = folder.run("a.bin recompress -o b.bin");
    assert!(exit == 3 && !messages.contains("still"), "{messages}");
    drop(recorder);
    let (exit, out, messages) = folder.run("a.bin tcpsend --format csv");
    assert!(exit == 3 && messages.contains("cut"), "{messages}");
    assert!(settled > 0 && calls(&out) == settled + 20, "two seconds more: {out}");
}

#[test]
fn files_of_a_set_come_and_go_while_it_is_read() {
    let folder = Folder::new();
    folder.put("t.000002.bin", &part(2)).put("t.000003.bin", b"");
    let third = File::options().append(true).open(folder.path().join("t.000003.bin")).expect("ours");
    lock::hold(&third);
    let alone = folder.run("t.000002.bin tcpsend --format csv");
    let (exit, out, messages) = folder.run("t.000001.bin t.000002.bin t.000003.bin tcpsend --format csv");
    assert_eq!((exit, &out), (0, &alone.1), "{messages}");
    let said: Vec<&str> = messages.lines().collect();
    assert_eq!(
        said,
        [
            "analyze: t.000001.bin: removed (--keep) before being read",
            "analyze: t.000003.bin: it has just begun, and nothing is in it yet"
        ]
    );
    // What nothing is left of, and what nobody records, is an error.
    assert_eq!(folder.run("t.000003.bin tcpsend").0, 1);
    assert_eq!(folder.run("t.000002.bin t.000009.bin tcpsend").0, 1);
    drop(third);
    assert_eq!(folder.run("t.000002.bin t.000003.bin tcpsend").0, 3);
}

#[test]
fn what_came_into_a_file_before_the_next_one_is_read_too() {
    let (folder, first) = (Folder::new(), part(1));
    folder.put("t.000001.bin", &first[..first.len() / 2]).put("t.000002.bin", &part(2));
    let path = folder.path().join("t.000001.bin");
    let recorder = File::options().append(true).open(&path).expect("ours");
    lock::hold(&recorder);
    let open = |name: &str| TraceReader::open(&folder.path().join(name)).expect("a trace");
    let mut files = Vec::from(["t.000002.bin", "t.000001.bin"].map(|name| (name.to_owned(), open(name))));
    assert!(files[1].1.growing);
    (&recorder).write_all(&first[first.len() / 2..]).expect("room");
    let set = super::in_order(&mut files).expect("they are there");
    assert_eq!(set[0], ("t.000001.bin".to_owned(), first.len() as u64));
    let all = super::joined(files).expect("one recording");
    assert!(all.footer.is_some() && !all.growing && all.missing().is_empty());
}

#[test]
fn the_file_in_which_something_is_missing_is_named() {
    let (folder, mut second) = (Folder::new(), part(2));
    let trace = TraceReader::from_bytes(second.clone()).expect("a trace");
    let frames: Vec<_> = trace.frames_of(2).collect();
    // One frame of ten rows cannot be read, and one is gone.
    second[frames[1].offset as usize + frames[1].header.header_length() + 40] ^= 0x10;
    let gone = frames[5].offset as usize..frames[6].offset as usize;
    second.drain(gone);
    folder.put("t.000001.bin", &part(1)).put("t.000002.bin", &second).put("t.000003.bin", &part(3));
    folder.put("a.bin", &sends("web")).put("b.bin", &second);
    let set = "t.000001.bin t.000002.bin t.000003.bin";
    let (exit, out, messages) = folder.run(&format!("{set} check"));
    assert!(exit == 3 && messages.contains("missing_rows 20; 20 in t.000002.bin)"), "{messages}");
    let place = format!("damaged: t.000002.bin: byte {}: ", frames[1].offset);
    assert!(messages.contains(&place), "{place}: {messages}");
    assert!(out.contains("t.000002.bin: stream 2: 10 rows of sock_send are missing"), "{out}");
    for line in ["check", "tcpsend --by file"] {
        let (_, _, messages) = folder.run(&format!("a.bin b.bin {line}"));
        assert!(messages.contains("; 20 in b.bin)") && messages.contains("b.bin: byte"), "{messages}");
    }
    // One alone needs no name.
    let (_, _, messages) = folder.run("b.bin check");
    assert!(messages.contains("(missing_rows 20): ") && messages.contains("damaged: byte "), "{messages}");
}

#[test]
fn too_many_files_are_no_damaged_ones() {
    let reason = std::io::Error::from_raw_os_error(super::TOO_MANY_OPEN);
    assert!(reason.to_string().starts_with("Too many open files"), "{reason}");
    let error = super::FormatError::Io { what: "open", reason };
    assert!(super::is_for_want_of_handles(&error));
    let hint = super::unusable("a.bin", &error).hint.expect("the next step");
    assert!(hint.contains("ulimit -n"), "{hint}");
}

#[test]
fn a_pipe_is_read_as_the_file_would_be() {
    let folder = Folder::new();
    let bytes = sends("web");
    folder.put("a.bin", &bytes);
    let path = folder.pipe("p.bin");
    let writer = std::thread::spawn(move || std::fs::write(path, bytes).expect("it is read"));
    let line = "tcpsend --interval all --format csv";
    assert_eq!(folder.run(&format!("p.bin {line}")), folder.run(&format!("a.bin {line}")));
    writer.join().expect("it wrote everything");
    // What is endless and no trace is given up.
    let (exit, _, messages) = folder.run("/dev/zero tcpsend");
    assert!(exit == 1 && messages.contains("no frame header in 1048576 bytes"), "{messages}");
}

#[test]
fn a_file_counts_once_however_often_it_is_named() {
    let folder = Folder::new();
    folder.put("a.bin", &sends("web"));
    let once = folder.run("a.bin tcpsend --interval all --format csv");
    let at = folder.path().display().to_string();
    for named in ["a.bin a.bin", &format!("{at} a.bin")] {
        let (exit, out, messages) = folder.run(&format!("{named} tcpsend --interval all --format csv"));
        assert_eq!((exit, &out), (0, &once.1));
        assert!(messages.contains("a.bin is the same as a.bin: it counts once"), "{messages}");
    }
}
