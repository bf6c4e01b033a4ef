//! The verbs on small traces: what is where nothing is taken out, and what is said where something is.

use crate::analyze::testkit::{Folder, Tape};

mod absent;

/// Four seconds of sends by two threads on two sockets, 100 a second, of which ten were lost in the third.
fn tape() -> Tape {
    let mut tape = Tape::new();
    tape.task(0, 7, 70, "web").task(0, 8, 80, "db").task(0, 9, 90, "other");
    tape.owned(0, 1, (2, 4711, 80), 7).owned(0, 2, (2, 4712, 443), 9);
    for at in 0..400 {
        tape.send(at * 10_000_000, 7 + at % 2, 1 + at % 2, 100, 100);
    }
    for second in 0..4u64 {
        tape.ledger(second * 1_000_000_000, 100, if second == 2 { 10 } else { 0 });
    }
    tape.rows_per_frame(50);
    tape
}

const REPORTS: [&str; 3] = [
    "tcpsend --format csv",
    "tcpsend --by comm,rport,owner_comm --format csv",
    "events --table sock_send --format csv",
];

#[test]
fn a_copy_says_what_its_source_says() {
    let folder = Folder::new();
    folder.put("a.bin", &tape().bytes());
    for verb in
        ["recover", "recompress -l 3", "slice", "merge", "redact --args keep --names keep --addresses keep"]
    {
        let (exit, out, messages) = folder.run(&format!("a.bin {verb} -o b.bin --force"));
        assert_eq!(exit, 3, "ten events were lost already: {out}{messages}");
        for report in REPORTS.iter().chain(&["check --format json"]) {
            let (a, b) = (folder.run(&format!("a.bin {report}")), folder.run(&format!("b.bin {report}")));
            if *report == REPORTS[0] || !report.starts_with("check") {
                assert_eq!(a, b, "{verb}: {report}");
            }
            assert_eq!((a.0, a.2), (b.0, b.2), "{verb}: {report}");
        }
        let (_, out, _) = folder.run("b.bin check");
        assert!(out.contains("the ledger closes") && out.contains("no gap"), "{verb}: {out}");
    }
}

#[test]
fn what_was_damaged_is_a_loss_of_the_recovered_file() {
    let mut bytes = tape().bytes();
    let trace = Tape::open_bytes(bytes.clone(), 1);
    let frame = trace.reader.frames_of(2).nth(3).expect("eight frames");
    let at = frame.offset as usize + frame.header.header_length() + 40;
    bytes[at] ^= 0x10;
    let end = trace.reader.frames.last().expect("a footer").offset as usize;
    for cut in [bytes.len(), end + 20] {
        let folder = Folder::new();
        folder.put("a.bin", &bytes[..cut]);
        let (exit, out, messages) = folder.run("a.bin recover -o b.bin");
        assert_eq!(exit, 3, "{out}{messages}");
        for report in REPORTS {
            let (a, b) = (folder.run(&format!("a.bin {report}")), folder.run(&format!("b.bin {report}")));
            assert_eq!(a.1, b.1, "{report}");
            assert_eq!((a.0, b.0), (3, 3));
        }
        let (exit, out, messages) = folder.run("b.bin check");
        assert_eq!(exit, 3, "what is lost stays lost: {out}");
        assert!(out.contains("no gap") && out.contains("the ledger closes"), "{out}");
        assert!(out.contains("attempted 410 = stored 400") && out.contains("discarded 50"), "{out}");
        assert!(messages.contains("ring_full 10") && messages.contains("discarded 50"), "{messages}");
        let whole = folder.bytes("b.bin");
        assert!(zstd::stream::decode_all(&whole[..]).is_ok(), "stock tools read it to its end");
        if cut < bytes.len() {
            let (_, info, _) = folder.run("b.bin info");
            assert!(info.contains("recovered from a file that was damaged in 1 places"), "{info}");
        }
    }
}

#[test]
fn a_slice_says_what_its_span_of_the_source_says() {
    let folder = Folder::new();
    folder.put("a.bin", &tape().bytes());
    let (exit, out, messages) = folder.run("a.bin slice --from 1500ms --to 3s -o b.bin");
    assert_eq!(exit, 3, "{out}{messages}");
    for report in REPORTS {
        let span = folder.run(&format!("a.bin {report} --from 1500ms --to 3s"));
        assert_eq!(span, folder.run(&format!("b.bin {report}")), "{report}");
    }
    let (_, out, _) = folder.run("b.bin check");
    assert!(out.contains("stored 150") && out.contains("the ledger closes"), "{out}");
    let (_, a, _) = folder.run("a.bin tcpsend --interval all --from 2s --to 2500ms --format csv");
    let (_, b, _) = folder.run("b.bin tcpsend --interval all --from 500ms --to 1s --format csv");
    assert_eq!(a, b, "time zero is the begin of the slice");
}

#[test]
fn a_slice_by_condition_names_nobody_else() {
    let folder = Folder::new();
    folder.put("a.bin", &tape().bytes());
    let (exit, ..) = folder.run("a.bin slice --where comm~=~'web' -o b.bin");
    assert_eq!(exit, 3);
    let (_, out, _) = folder.run("b.bin tcpsend --by comm,rport --interval all --format csv");
    assert!(out.contains("web,80,true,200,") && out.lines().count() == 2, "{out}");
    let bytes = folder.bytes("b.bin");
    let trace = Tape::open_bytes(bytes, 1);
    let names = trace.gather("task").expect("the table is there");
    let comm = names.def.column("comm").expect("a name");
    let found: Vec<&[u8]> = (0..names.len()).map(|row| names.bytes(comm, row)).collect();
    assert_eq!(found, [b"web"], "the thread and owner of the chosen events, and nobody else");
    let (_, info, _) = folder.run("b.bin info");
    assert!(info.contains("slice --where comm = 'web'"), "{info}");
    let (_, out, _) = folder.run("b.bin check");
    assert!(out.contains("the ledger closes"), "{out}");
}

#[test]
fn a_table_that_a_slice_leaves_out_is_not_zero() {
    let folder = Folder::new();
    let mut tape = tape();
    tape.states().state(5, 7, 1, (7, 1), [1, 2, 0]);
    folder.put("a.bin", &tape.bytes());
    folder.run("a.bin slice --tables tcp_state -o b.bin");
    let (exit, _, messages) = folder.run("b.bin tcpsend");
    assert_eq!(exit, 6);
    assert!(messages.contains("needs the table sock_send, which was not recorded"), "{messages}");
    let (exit, out, _) = folder.run("b.bin events --table tcp_state --format csv");
    assert_eq!((exit, out.lines().count()), (0, 2), "{out}");
    let (exit, _, messages) = folder.run("a.bin slice --tables tcp_stat -o c.bin");
    assert_eq!(exit, 2);
    assert!(messages.contains("did you mean 'tcp_state'?"), "{messages}");
    let (_, out, _) = folder.run("a.bin slice --where requested~=~100 -o c.bin");
    assert!(out.contains("left out: tcp_state: table tcp_state has no column 'requested'"), "{out}");
}

#[test]
fn slices_merge_to_what_they_were_cut_from() {
    let folder = Folder::new();
    folder.put("a.bin", &tape().bytes());
    folder.run("a.bin slice --to 1700ms -o first.bin");
    folder.run("a.bin slice --from 1700ms -o second.bin");
    let (exit, out, messages) = folder.run("second.bin first.bin merge -o b.bin");
    assert_eq!(exit, 3, "{out}{messages}");
    for report in REPORTS {
        assert_eq!(
            folder.run(&format!("a.bin {report}")),
            folder.run(&format!("b.bin {report}")),
            "{report}"
        );
    }
}

#[test]
fn ids_of_two_recordings_do_not_meet() {
    let folder = Folder::new();
    let mut other = Tape::new();
    other.task(0, 7, 70, "web").sock(0, 1, 2, 5000, 8080).sock(0, 3, 2, 5001, 8081);
    other.send(3, 7, 1, 100, 100).send(4, 7, 3, 100, 100).ledger(0, 2, 0);
    folder.put("a.bin", &tape().bytes()).put("b.bin", &other.bytes());
    let (exit, out, messages) = folder.run("a.bin b.bin merge -o c.bin");
    assert_eq!(exit, 3, "{out}{messages}");
    let (_, out, _) =
        folder.run("c.bin tcpsend --by pid,rport,lport --interval all --sort rport --format csv");
    let rows: Vec<&str> = out.lines().skip(1).collect();
    let expected =
        ["70,80,4711,true,200,", "80,443,4712,true,200,", "70,8080,5000,true,1,", "70,8081,5001,true,1,"];
    assert_eq!(rows.len(), 4, "{out}");
    rows.iter().zip(expected).for_each(|(row, expected)| assert!(row.starts_with(expected), "{out}"));
}

#[test]
fn redacted_columns_are_gone_or_pseudonyms() {
    let folder = Folder::new();
    let mut tape = tape();
    tape.table("exec", &["ts:u64", "cpu:u16", "tid:u32>task", "args:text"]);
    tape.push("exec", vec![5u64.into(), 0u64.into(), 7u64.into(), "secret --password".into()]);
    folder.put("a.bin", &tape.bytes()).put("key.bin", &[7; 32]);
    let key = folder.path().join("key.bin");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("our own file");
    let key = key.display().to_string();
    for out in ["b.bin", "c.bin"] {
        let (_, said, messages) = folder.run(&format!("a.bin redact --hash-key-file {key} -o {out}"));
        assert!(
            said.contains("hashed: task: comm") && said.contains("dropped: exec: args"),
            "{said}{messages}"
        );
        assert!(said.contains("changes: tcpsend has pseudonyms for comm, laddr, raddr"), "{said}");
    }
    assert_eq!(folder.bytes("b.bin"), folder.bytes("c.bin"), "one key, one result");
    let plain = zstd::stream::decode_all(&folder.bytes("b.bin")[..]).expect("a zstd stream");
    for secret in [&b"password"[..], b"web", b"other", b"box"] {
        assert!(
            !plain.windows(secret.len()).any(|window| window == secret),
            "{}",
            String::from_utf8_lossy(secret)
        );
    }
    let calls = |file| {
        folder.run(&format!("{file} tcpsend --by comm,raddr --interval all --format csv --sort calls")).1
    };
    assert_eq!(calls("a.bin").lines().count(), calls("b.bin").lines().count());
    let (exit, _, messages) = folder.run("b.bin events --table exec --where args~=~''");
    assert_eq!(exit, 6);
    assert!(messages.contains("it was redacted"), "{messages}");
}

#[test]
fn files_are_not_overwritten_by_accident() {
    let folder = Folder::new();
    let bytes = tape().bytes();
    folder.put("a.bin", &bytes).put("b.bin", b"mine");
    let (exit, _, messages) = folder.run("a.bin recover -o b.bin");
    assert_eq!((exit, folder.bytes("b.bin")), (2, b"mine".to_vec()));
    assert!(messages.contains("b.bin exists"), "{messages}");
    for force in ["", " --force"] {
        let (exit, _, messages) = folder.run(&format!("a.bin recover -o a.bin{force}"));
        assert_eq!((exit, folder.bytes("a.bin") == bytes), (2, true));
        assert!(messages.contains("the input, which is never overwritten"), "{messages}");
    }
    assert_eq!(folder.run("a.bin recover -o b.bin --force").0, 3);
    assert_eq!(folder.run("b.bin check").0, 3);
    let (exit, _, messages) = folder.run("a.bin recover");
    assert_eq!(exit, 2);
    assert!(messages.contains("-o FILE"), "{messages}");
    for line in [
        "a.bin recover --where 1=1 -o c.bin",
        "a.bin recover --from 1s -o c.bin",
        "a.bin slice --by comm -o c.bin",
    ] {
        let (exit, _, messages) = folder.run(line);
        assert_eq!(exit, 2, "{line}");
        assert!(messages.contains("has no option --"), "{messages}");
    }
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "nothing is left lying about");
}

#[test]
fn a_column_that_one_trace_lacks_is_there_for_the_other_after_a_merge() {
    let folder = Folder::new();
    for (name, sock) in [("a", 1), ("b", 2)] {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").sock(sock, sock, 2, 4711, 80).send(sock * 1000, 7, sock, 100, 100);
        folder.put(&format!("{name}.bin"), &tape.bytes());
    }
    folder.run("a.bin redact --names keep --args keep --addresses drop -o hidden.bin");
    for order in ["hidden.bin b.bin", "b.bin hidden.bin"] {
        folder.run(&format!("{order} merge -o m.bin --force"));
        let (exit, out, messages) = folder.run("m.bin tcpsend --interval all --by raddr --format csv");
        let rows: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split(",false,").next()).collect();
        assert_eq!((exit, rows), (0, vec!["10.0.0.2", ""]), "{order}: {out}{messages}");
        assert_eq!(folder.run("m.bin check").0, 0, "{order}");
    }
}
