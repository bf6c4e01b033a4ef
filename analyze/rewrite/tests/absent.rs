//! What is made of a set that lacks a part misses that part as the set does.

use super::REPORTS;
use crate::analyze::clock::SECOND;
use crate::analyze::testkit::{Folder, START, Tape};
use crate::schema::absent::Absent;

const SET: &str = "t.000001.bin t.000003.bin";

/// Two seconds of sends, and two more from second 5 on: what was between them is in the part that is not here.
fn set_with_a_hole() -> Folder {
    let folder = Folder::new();
    put_part(&folder, "r", 1, 0);
    put_part(&folder, "r", 3, 5 * SECOND);
    folder
}

/// A file of a set.
fn put_part(folder: &Folder, recording: &str, number: u32, from: u64) {
    let mut tape = Tape::new();
    tape.host(|it| {
        (it.recording, it.part) = (recording.into(), number);
        (it.start_mono, it.start_real) = (it.start_mono + from, it.start_real + from);
    });
    tape.task(0, 7, 70, "web").sock(0, 1, 2, 4711, 80);
    for at in 0..20 {
        tape.send(from + at * SECOND / 10, 7, 1, 100, 100);
    }
    tape.ledger(from, 10, 0).ledger(from + SECOND, 10, 0);
    folder.put(&format!("t.00000{number}.bin"), &tape.bytes());
}

#[test]
fn a_part_that_is_merged_in_is_not_missed() {
    let folder = set_with_a_hole();
    folder.run(&format!("{SET} merge -o holed.bin"));
    put_part(&folder, "another", 2, 2 * SECOND);
    let (exit, out, messages) = folder.run("holed.bin t.000002.bin merge -o b.bin");
    assert_eq!(exit, 3, "part 2 of another recording: {out}{messages}");
    put_part(&folder, "r", 2, 2 * SECOND);
    let set = "t.000001.bin t.000002.bin t.000003.bin";
    folder.run(&format!("{set} merge -o whole.bin"));
    for line in ["holed.bin t.000002.bin", "t.000002.bin holed.bin"] {
        let (exit, out, messages) = folder.run(&format!("{line} merge -o b.bin --force"));
        assert_eq!(exit, 0, "{out}{messages}");
        assert!(!folder.run("b.bin info").1.contains("not here"));
        for report in REPORTS {
            assert_eq!(folder.run(&format!("b.bin {report}")), folder.run(&format!("whole.bin {report}")));
        }
    }
}

const GONE: &str = "part 2 of the recording is not here";

#[test]
fn parts_that_are_not_here_are_missed_in_a_copy_and_its_copy() {
    let folder = set_with_a_hole();
    let verbs = ["merge", "recover", "recompress", "slice", "redact --names keep --addresses keep"];
    for verb in verbs {
        folder.run(&format!("{SET} {verb} -o b.bin --force"));
        folder.run(&format!("b.bin {verb} -o c.bin --force"));
        for report in
            REPORTS.iter().chain(&["tcpsend --format csv --to 1s", "tcpsend --format csv --from 6s"])
        {
            let set = folder.run(&format!("{SET} {report}"));
            assert_eq!(set.0, if report.contains(" --from ") || report.contains(" --to ") { 0 } else { 3 });
            for file in ["b.bin", "c.bin"] {
                assert_eq!(folder.run(&format!("{file} {report}")), set, "{verb}: {report}");
            }
        }
        let (exit, out, messages) = folder.run("c.bin check");
        assert!(exit == 3 && out.contains(GONE) && out.contains("the ledger closes"), "{out}");
        assert_eq!(messages, format!("analyze: {GONE}\n"), "{verb}");
        let (_, info, _) = folder.run("c.bin info");
        assert_eq!(info.matches(GONE).count(), 1, "{verb}: {info}");
    }
    let (exit, out, messages) = folder.run("c.bin tcpsend --format csv");
    assert_eq!((exit, &messages), (3, &format!("analyze: {GONE}\n")), "{out}");
    assert_eq!(folder.run("c.bin tcpsend --format csv --follow"), (exit, out.clone(), messages));
    let marks: Vec<bool> = out.lines().skip(1).map(|line| line.contains(",true,")).collect();
    assert_eq!(marks, [false, false, true, true, true, true, false, false], "{out}");
}

#[test]
fn a_slice_misses_what_is_not_here_of_its_span() {
    let folder = set_with_a_hole();
    for (span, exit) in [("--to 1s", 0), ("--from 6s", 0), ("--from 3s --to 6s", 3), ("--to 4s", 3)] {
        folder.run(&format!("{SET} slice {span} -o b.bin --force"));
        for report in REPORTS {
            let set = folder.run(&format!("{SET} {report} {span}"));
            assert_eq!(folder.run(&format!("b.bin {report}")), set, "{span}: {report}");
            assert_eq!(set.0, exit, "{span}: {report}");
        }
        let (_, info, _) = folder.run("b.bin info");
        assert_eq!(info.contains(GONE), exit == 3, "{span}: {info}");
    }
    folder.run(&format!("{SET} merge -o b.bin --force"));
    folder.run("b.bin slice --to 1s -o c.bin");
    let (_, info, _) = folder.run("c.bin info");
    assert!(!info.contains("not here"), "nothing is missing there: {info}");
    folder.run(&format!("{SET} slice --to 3s -o first.bin"));
    folder.run(&format!("{SET} slice --from 3s -o second.bin"));
    let (exit, out, messages) = folder.run("second.bin first.bin merge -o b.bin --force");
    assert_eq!(exit, 3, "{out}{messages}");
    for report in REPORTS.iter().chain(&["check --format json"]) {
        let (set, merged) = (folder.run(&format!("{SET} {report}")), folder.run(&format!("b.bin {report}")));
        assert!((set.0, &set.2) == (merged.0, &merged.2), "{report}: {}", merged.2);
        assert!(report.starts_with("check") || set.1 == merged.1, "{report}: {}", merged.1);
    }
}

#[test]
fn absurd_spans_of_what_is_not_here_do_no_harm() {
    let mut tape = Tape::new();
    (0..4).for_each(|second| {
        tape.send(second * SECOND, 7, 1, 100, 100).ledger(second * SECOND, 1, 0);
    });
    let ends = [0, 1, START, START + SECOND, u64::MAX - 1, u64::MAX];
    let times = ends.iter().flat_map(|&from| ends.map(|to| (from, to))).filter(|(from, to)| from < to);
    let parts = [(0, 0), (0, u32::MAX), (u32::MAX, u32::MAX)].into_iter().cycle();
    let absurd: Vec<Absent> = parts.zip(times).map(|(parts, times)| Absent { parts, times }).collect();
    let folder = Folder::new();
    folder.put("all.bin", &tape.lacking(absurd.clone()));
    for line in ["check", "info", "tcpsend", "tcpsend --interval 1ms --format json", "merge -o b.bin --force"]
    {
        assert_eq!(folder.run(&format!("all.bin {line}")).0, 3, "{line}");
    }
    let end = START + 3 * SECOND + 1;
    for absent in absurd {
        folder.put("a.bin", &tape.lacking(vec![absent]));
        for (line, from) in [
            ("tcpsend --format csv", START),
            ("tcpsend --interval 1s --follow", START),
            ("recompress -o b.bin --force", START),
            ("slice --from 1s -o b.bin --force", START + SECOND),
        ] {
            let expected = if absent.within((from, end)).is_some() { 3 } else { 0 };
            assert_eq!(folder.run(&format!("a.bin {line}")).0, expected, "{absent:?}: {line}");
        }
    }
}
