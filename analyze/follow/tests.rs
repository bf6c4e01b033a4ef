//! Traces that grow while they are followed.

use super::part::Part;
use super::tail::Tail;
use crate::analyze::testkit::{Folder, START, Tape, run_bytes};
use crate::schema::parts::{GOES_ON, part_path};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Ten seconds, written second by second.
fn tape() -> Tape {
    let mut tape = Tape::new();
    tape.task(0, 7, 70, "web").sock(0, 1, 2, 4711, 80);
    for at in 0..100 {
        tape.send(at * 100_000_000, 7, 1, 100, 100);
    }
    for second in 0..10u64 {
        tape.ledger(second * 1_000_000_000, 10, 0);
    }
    tape.rows_per_frame(10);
    tape
}

#[test]
fn what_is_followed_is_what_is_there_in_the_end() {
    let folder = Folder::new();
    let bytes = tape().bytes();
    folder.put("a.bin", &bytes[..bytes.len() / 3]);
    let path = folder.path().join("a.bin");
    let rest = bytes[bytes.len() / 3..].to_vec();
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(path).expect("it is there");
        for piece in rest.chunks(rest.len() / 5 + 1) {
            std::thread::sleep(Duration::from_millis(60));
            file.write_all(piece).expect("the file takes more");
        }
    });
    for report in ["tcpsend --by comm", "events --table sock_send", "tcpsend --interval 3s"] {
        let live = folder.run(&format!("a.bin {report} --format csv --follow"));
        let words: Vec<&str> = report.split(' ').chain(["--format", "csv"]).collect();
        assert_eq!(live, run_bytes(&bytes, &words), "{report}");
    }
    writer.join().expect("it wrote everything");
}

#[test]
fn a_pipe_that_ends_too_early_says_so() {
    let folder = Folder::new();
    let bytes = tape().bytes();
    let trace = Tape::open_bytes(bytes.clone(), 1);
    let sends = trace.table("sock_send").expect("the table is there").number;
    let last = trace.reader.frames_of(sends).last().expect("ten frames").offset as usize;
    // In the middle of a frame, between two, and not too early.
    for (end, exit, said) in [(last + 100, 3, "is cut"), (last, 3, "without the end"), (bytes.len(), 0, "")] {
        let (path, bytes) = (folder.pipe(&format!("{end}.bin")), bytes[..end].to_vec());
        let writer = std::thread::spawn(move || std::fs::write(path, bytes).expect("it is read"));
        let (found, out, messages) = folder.run(&format!("{end}.bin tcpsend --format csv --follow"));
        writer.join().expect("it wrote everything");
        assert_eq!(found, exit, "{messages}");
        assert!(messages.contains(said) && (exit > 0 || messages.is_empty()), "{messages}");
        // A second of ten calls was in the frame that is not whole.
        let cut = out.lines().any(|line| line.contains(",true,"));
        assert_eq!(cut, end == last + 100, "{out}");
    }
}

#[test]
fn several_files_are_followed_side_by_side() {
    let folder = Folder::new();
    let (mut web, mut db) = (tape(), tape());
    web.host(|it| it.hostname = "web".into());
    // Its monotonic clock began two seconds later, and so did its recording.
    db.host(|it| (it.hostname, it.start_real) = ("db".into(), it.start_real + 2_000_000_000));
    let bytes = db.bytes();
    folder.put("a.bin", &web.bytes()).put("b.bin", &bytes[..bytes.len() / 3]);
    let path = folder.path().join("b.bin");
    let rest = bytes[bytes.len() / 3..].to_vec();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        let mut file = OpenOptions::new().append(true).open(path).expect("it is there");
        file.write_all(&rest).expect("the file takes more");
    });
    let live = folder.run("a.bin b.bin tcpsend --format csv --follow");
    writer.join().expect("it wrote everything");
    let mut after = folder.run("a.bin b.bin tcpsend --format csv");
    assert!(live.1.starts_with("time,host,lower_bound,calls,"), "{}", live.1);
    // A host has no row for an interval before its start or after its end, where all is one answer.
    let calls = |out: &str, host: &str| {
        let rows = out.lines().filter(|row| row.contains(&format!(",{host},")));
        rows.map(|row| row.split(',').nth(3).unwrap_or("").parse::<u64>().unwrap_or(0)).collect::<Vec<_>>()
    };
    for host in ["web", "db"] {
        let nonzero = |out: &str| calls(out, host).into_iter().filter(|&calls| calls > 0).collect::<Vec<_>>();
        assert_eq!(nonzero(&live.1), nonzero(&after.1), "{host}: {}", live.1);
        assert_eq!(nonzero(&live.1).iter().sum::<u64>(), 100);
    }
    after = folder.run("a.bin b.bin tcpsend --by file --format csv --follow");
    assert!(after.1.starts_with("time,file,") && after.1.contains("a.bin,"), "{}", after.1);
}

#[test]
fn an_interval_from_before_a_host_s_clock_began_has_no_rate() {
    let folder = Folder::new();
    let (mut web, mut db) = (tape(), tape());
    web.host(|it| it.hostname = "web".into());
    db.host(|it| (it.hostname, it.start_real) = ("db".into(), it.start_real + 2_000_000_000_000));
    folder.put("a.bin", &web.bytes()).put("b.bin", &db.bytes());
    let (_, out, messages) = folder.run("a.bin b.bin tcpsend --interval 500s --format csv --follow");
    let first: Vec<&str> = out.lines().filter(|line| line.contains(",db,")).take(1).collect();
    assert!(first[0].ends_with(",db,false,0,,0,0") && !out.contains("NaN"), "{out}{messages}");
}

#[test]
fn an_interval_waits_until_its_rows_are_written() {
    let folder = Folder::new();
    folder.put("a.bin", &tape().bytes());
    let part = Part::open(&folder.path().join("a.bin")).expect("a trace");
    let tail = Tail::new("a.bin".into(), part);
    assert_eq!(tail.complete(false), START + 9_900_000_000 - crate::analyze::trace::LAG);
    assert_eq!(tail.complete(true), START + 9_900_000_001);
}

#[test]
fn a_file_that_becomes_shorter_is_an_error_and_no_crash() {
    let folder = Folder::new();
    let bytes = tape().bytes();
    folder.put("a.bin", &bytes[..bytes.len() / 2]);
    let path = folder.path().join("a.bin");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(100)).expect("it is cut");
    });
    let (exit, _, messages) = folder.run("a.bin tcpsend --follow");
    writer.join().expect("it was cut");
    assert_eq!(exit, 1);
    assert!(messages.contains("shorter"), "{messages}");
    assert_eq!(folder.run("a.bin tcpsend --follow --from 1s").0, 2);
    assert_eq!(folder.run("a.bin info --follow").0, 2);
}

/// Part of a recording: sends ten times a second from second to second.
fn part(number: u32, seconds: std::ops::Range<u64>) -> Tape {
    filled(Tape::new(), number, seconds)
}

fn filled(mut tape: Tape, number: u32, seconds: std::ops::Range<u64>) -> Tape {
    let second = 1_000_000_000;
    tape.host(|it| {
        (it.recording, it.part) = ("r".into(), number);
        (it.start_mono, it.start_real) =
            (it.start_mono + seconds.start * second, it.start_real + seconds.start * second);
    });
    tape.task(seconds.start * second, 7, 70, "web").sock(seconds.start * second, 1, 2, 4711, 80);
    // The first one was still in a ring when the file began.
    let first = (seconds.start * 10).saturating_sub(1);
    for at in first..seconds.end * 10 - 1 {
        tape.send(at * second / 10, 7, 1, 100, 100);
    }
    tape.ledger(seconds.start * second, seconds.end * 10 - 1 - first, 0).rows_per_frame(10);
    tape
}

/// Three files of a recording. All but the last one say that it goes on.
fn set() -> [Vec<u8>; 3] {
    [part(1, 0..4).ending(GOES_ON), part(2, 4..7).ending(GOES_ON), part(3, 7..10).bytes()]
}

/// Where a part of the set is.
fn place(folder: &Folder, number: u32) -> PathBuf {
    part_path(&folder.path().join("t.bin"), number)
}

/// Writes files as the recorder does: the next one is begun before the one before has ended, and of those that have
/// ended only one is kept.
fn record(folder: &Folder, files: &[Vec<u8>]) {
    let open = |number: usize| {
        let path = place(folder, number as u32 + 1);
        OpenOptions::new().create(true).append(true).open(path).expect("a folder of ours")
    };
    for (at, bytes) in files.iter().enumerate() {
        let had = place(folder, at as u32 + 1).metadata().map_or(0, |file| file.len() as usize);
        let (mut file, rest) = (open(at), &bytes[had..]);
        let pieces: Vec<&[u8]> = rest.chunks(rest.len() / 3 + 1).collect();
        for (number, piece) in pieces.iter().enumerate() {
            std::thread::sleep(Duration::from_millis(70));
            if number + 1 == pieces.len() && at + 1 < files.len() {
                open(at + 1);
                std::thread::sleep(Duration::from_millis(130));
            }
            file.write_all(piece).expect("the file takes more");
        }
        if at > 0 && at + 1 < files.len() {
            std::fs::remove_file(place(folder, at as u32)).expect("an older file");
        }
    }
}

#[test]
fn a_recording_is_followed_into_its_next_files() {
    for report in ["tcpsend --by comm", "events --table sock_send", "tcpsend --interval 3s"] {
        let (live, done) = (Folder::new(), Folder::new());
        let files = set();
        for (number, bytes) in (1..).zip(&files) {
            done.put(&format!("t.00000{number}.bin"), bytes);
        }
        live.put("t.000001.bin", &files[0][..files[0].len() / 2]);
        // Somebody else's.
        live.put("t.000009.bin", b"").put("t.000008.bin", &tape().bytes());
        let found = std::thread::scope(|scope| {
            scope.spawn(|| record(&live, &files));
            live.run(&format!("t.000001.bin {report} --format csv --follow"))
        });
        let names = "t.000001.bin t.000002.bin t.000003.bin";
        assert_eq!(found, done.run(&format!("{names} {report} --format csv")), "{report}");
        assert!(!place(&live, 1).exists() && place(&live, 2).exists(), "one was kept");
        // From a later file on, and from all that are there.
        let later = "t.000002.bin t.000003.bin";
        let two = done.run(&format!("{later} {report} --format csv"));
        assert!(two.0 == 0 && two != found, "{}", two.2);
        for named in ["t.000002.bin", "t.000003.bin t.000002.bin"] {
            assert_eq!(
                live.run(&format!("{named} {report} --format csv --follow")),
                two,
                "{named}: {report}"
            );
        }
    }
}

#[test]
fn a_file_of_a_set_that_is_gone_is_told_of_once() {
    let folder = Folder::new();
    let [first, _, last] = set();
    folder.put("t.000001.bin", &first).put("t.000003.bin", &last);
    let line = "t.000001.bin tcpsend --format csv";
    let (exit, out, messages) = folder.run(&format!("{line} --follow"));
    let gone = "part 2 of the recording is not here";
    let said = format!("analyze: {gone}: removed (--keep) before being read\n");
    assert_eq!((exit, messages), (3, said));
    let at_rest = "t.000001.bin t.000003.bin tcpsend --format csv";
    let report = folder.run(at_rest);
    assert_eq!((exit, &out), (report.0, &report.1));
    assert_eq!(report.2, format!("analyze: {gone}\n"));
    // The first file ends before second 4, and the third begins at second 7.
    let marks: Vec<bool> = out.lines().skip(1).map(|line| line.contains(",true,")).collect();
    assert!(
        marks[4..7].iter().all(|&mark| mark) && !marks[..3].iter().chain(&marks[8..]).any(|&mark| mark),
        "{out}"
    );
    let (exit, out, _) = folder.run("t.000001.bin t.000003.bin check");
    assert!(exit == 3 && out.contains(gone), "{out}");
    assert_eq!(folder.run("t.000001.bin t.000003.bin recompress -o one.bin").0, 3);
    let (_, info, _) = folder.run("one.bin info");
    assert!(info.contains(gone), "{info}");
    let (exit, _, messages) = folder.run(&format!("{at_rest} --to 2s"));
    assert_eq!((exit, messages.as_str()), (0, ""), "what is not asked for is not missed");
    // The recorder has begun the next file before it says that there is one: this one was left behind.
    folder.put("alone.bin", &first);
    for named in ["t.000003.bin", "alone.bin", "t.000001.bin"] {
        if named == "t.000001.bin" {
            std::fs::remove_file(place(&folder, 3)).expect("a file of ours");
        }
        let (exit, _, messages) = folder.run(&format!("{named} tcpsend --format csv --follow"));
        let missing = messages.contains("no file with its part 2 or a later one is here");
        assert_eq!((exit == 3, missing), (named != "t.000003.bin", named != "t.000003.bin"), "{messages}");
    }
}

#[test]
fn files_that_are_gone_and_answered_are_let_go() {
    let folder = Folder::new();
    for (number, bytes) in (1..).zip(set()) {
        folder.put(&format!("t.00000{number}.bin"), &bytes);
    }
    let mut tail = Tail::new("t".into(), Part::open(&place(&folder, 1)).expect("a trace"));
    assert!(tail.refresh().expect("three files"));
    std::fs::remove_file(place(&folder, 1)).expect("a file of ours");
    let second = |second: u64| START + second * 1_000_000_000;
    for (until, begin) in
        [(second(3), second(0)), (second(4), second(4) - 100_000_000), (second(9), second(4) - 100_000_000)]
    {
        tail.forget(until);
        assert_eq!(tail.begin(), begin, "a file that is there stays");
    }
}

#[test]
fn a_file_stays_until_the_time_of_the_parts_behind_it_is_answered() {
    let folder = Folder::new();
    let [first, _, last] = set();
    folder.put("t.000001.bin", &first).put("t.000003.bin", &last);
    let mut tail = Tail::new("t".into(), Part::open(&place(&folder, 1)).expect("a trace"));
    assert!(tail.refresh().expect("two files"));
    std::fs::remove_file(place(&folder, 1)).expect("a file of ours");
    let second = |second: u64| START + second * 1_000_000_000;
    for (until, begin) in [(6, second(0)), (7, second(7) - 100_000_000)] {
        tail.forget(second(until));
        assert_eq!(tail.begin(), begin, "{until} s");
    }
}

#[test]
fn a_recording_has_one_end_also_where_its_files_turned_after_it() {
    let folder = Folder::new();
    let [first, _, _] = set();
    // When programs had ended, the recorder turned to another file to write the rest.
    let mut turned = part(2, 4..7);
    turned.ledger(7_600_000_000, 0, 0).ledger(9_200_000_000, 0, 0);
    let last = part(3, 7..7).ending_at(START + 7_500_000_000);
    for (number, bytes) in (1..).zip([first, turned.ending(GOES_ON), last]) {
        folder.put(&format!("t.00000{number}.bin"), &bytes);
    }
    let live = folder.run("t.000001.bin tcpsend --format csv --follow");
    assert_eq!(live, folder.run("t.000001.bin t.000002.bin t.000003.bin tcpsend --format csv"));
    assert_eq!(live.1.lines().count(), 1 + 8, "{}", live.1);
}

#[test]
fn a_clock_that_is_set_meanwhile_is_followed() {
    let (live, done) = (Folder::new(), Folder::new());
    let files = [(1, 0..4, 0), (2, 4..7, 3_600), (3, 7..10, 3_600)].map(|(number, seconds, ahead)| {
        let mut tape = Tape::new();
        tape.clock(seconds.start * 1_000_000_000 + 500_000_000, ahead * 1_000_000_000);
        filled(tape, number, seconds)
    });
    let files = [files[0].ending(GOES_ON), files[1].ending(GOES_ON), files[2].bytes()];
    for (number, bytes) in (1..).zip(&files) {
        done.put(&format!("t.00000{number}.bin"), bytes);
    }
    live.put("t.000001.bin", &files[0][..files[0].len() / 2]);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| record(&live, &files));
        live.run("t.000001.bin tcpsend --format csv --follow")
    });
    assert_eq!(found, done.run("t.000001.bin t.000002.bin t.000003.bin tcpsend --format csv"));
    assert!(found.1.contains("T12:01:11") && found.1.contains("T13:01:12"), "{}", found.1);
}
