//! Contents that are in order and mean to mislead: names that look like conditions, formulas and commands, threads that
//! are their own parents. What nobody thought of is the fuzzer's: `tests/fuzz`, replayed by `tests/hostile.rs`.

use super::args;
use super::testkit::{Folder, Tape};

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
