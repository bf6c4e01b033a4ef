//! Words that stand for several probes, or for something else than they say: patterns of events, short names of
//! libraries, presets, files of probes.

use super::named::{able, program, record};
use super::support::{CAPTURE, live, scratch, text};
use super::trace::{bytes, rows};
use std::process::{Command, Output};

fn probes_of(trace: &std::path::Path) -> Vec<String> {
    let named = rows(trace, "probe").into_iter().filter(|row| bytes(row, "group") == b"named");
    let mut names: Vec<_> =
        named.map(|row| String::from_utf8_lossy(bytes(&row, "name")).into_owned()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_pattern_of_events_is_a_probe_and_a_table_for_each() {
    if !able() {
        return;
    }
    let (program, trace) = program("named-patterns");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-e", "t:syscalls:sys_enter_getp*id", "-e", "rt:sched_process_e*"]);
    let output = capture.arg("--").arg(&program).args(["700", "storm"]).output().expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    assert_eq!(rows(&trace, "sys_enter_getppid").len(), 700);
    assert_eq!(rows(&trace, "sched_process_exit").len(), 1, "the program ends");
    let probes = probes_of(&trace);
    for name in ["sys_enter_getpgid", "sys_enter_getpid", "sys_enter_getppid", "sched_process_exec"] {
        assert!(probes.iter().any(|probe| probe == name), "{name} is not in {probes:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_pattern_of_static_probes_too() {
    if !able() {
        return;
    }
    let trace = record("named-patterns-static", &["usdt:@:tape*:t*(arg1)"], 40);
    assert_eq!(rows(&trace, "tick").len(), 40);
}

#[test]
fn a_library_goes_by_its_usual_name_and_a_preset_by_a_thread() {
    if !live() {
        return;
    }
    let trace = scratch("named-libc").join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    let output = capture.arg("-o").arg(&trace).args(["-e", "u:libc:*alloc", "--", "ls", "/"]).output();
    let output = output.expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    assert!(!rows(&trace, "alloc").is_empty(), "every program allocates: {}", text(&output));
    let mut idle = Command::new("sleep").arg("30").spawn().expect("sleep runs");
    let (tid, trace) = (idle.id().to_string(), trace.with_file_name("tid.bin"));
    let mut capture = Command::new(CAPTURE);
    let output = capture.arg("-o").arg(&trace).args(["-e", "malloc", "--tid", &tid, "-d", "200ms"]).output();
    idle.kill().expect("our own child");
    idle.wait().expect("our own child");
    let output = output.expect("capture runs");
    assert!(output.status.success() && trace.exists(), "{}", text(&output));
}

fn refused(words: &[&str]) -> String {
    let output: Output = Command::new(CAPTURE)
        .args(["-o", "/dev/null", "--force"])
        .args(words)
        .output()
        .expect("capture runs");
    assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output));
    text(&output)
}

#[test]
fn what_is_wrong_with_a_probe_is_said_with_its_place() {
    if !live() {
        return;
    }
    let file = scratch("named-places").join("probes");
    std::fs::write(&file, "# one that is good\nt:sched:sched_switch\n\nt:sched:sched_swich\n")
        .expect("our own file");
    let name = file.to_str().expect("plain");
    let said = refused(&["-f", name]);
    assert!(said.starts_with(&format!("capture: -f {name}, line 4: there is no tracepoint")), "{said}");
    let said = refused(&["-e", "u:no-such-library:f"]);
    assert!(said.contains("there is no program, library or file 'no-such-library'"), "{said}");
    assert!(said.ends_with("\n  u:no-such-library:f\n    ^\n"), "{said}");
    let said = Command::new(CAPTURE).args(["--list", "schedd:*"]).output().expect("capture runs");
    assert!(text(&said).contains("no category 'schedd', the nearest name is sched"), "{}", text(&said));
    let said = refused(&["-e", "t:syscalls:*"]);
    assert!(said.contains("stands for at most 64") && said.ends_with("\n    ^\n"), "{said}");
    let said = refused(&["-e", "rt:sched_switch(pid=prev->pid) /pidd == 1/"]);
    assert!(said.contains("'pidd' is not among the arguments, the nearest name is pid"), "{said}");
}
