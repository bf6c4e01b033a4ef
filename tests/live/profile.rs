//! Samples of a program that knows where its time goes, against its own clock, getrusage, and perf.

use super::support::{CAPTURE, aloud, has, live, patiently, scratch};
use super::trace::{bytes, known, number, rows};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles one of the burners of `tests/burn` and returns the program.
fn burner(directory: &Path, name: &str, compiler: &[&str], source: &str) -> PathBuf {
    let program = directory.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/burn").join(source);
    let status = Command::new(compiler[0]).args(&compiler[1..]).arg("-o").arg(&program).arg(source).status();
    assert!(status.expect("the compiler runs").success(), "{compiler:?}");
    program
}

const WITH: &[&str] = &["cc", "-O2", "-g", "-fno-omit-frame-pointer"];
const WITHOUT: &[&str] = &["cc", "-O2", "-g", "-fomit-frame-pointer"];
const RUST: &[&str] = &["rustc", "--edition", "2024", "-O", "-g", "-C", "force-frame-pointers=yes"];

/// Records a command with samples, and returns the trace and what the command printed.
fn record(directory: &Path, hz: &str, options: &[&str], command: &[&str]) -> (PathBuf, String) {
    let trace = directory.join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(["-g", "cpu,proc", "-F", hz, "--force"]).args(options).arg("--");
    let output = capture.args(command).output().expect("capture runs");
    assert!(output.status.success(), "{}", super::support::text(&output));
    (trace, String::from_utf8(output.stdout).expect("UTF-8"))
}

/// What `analyze` prints.
pub fn analyze(trace: &Path, words: &[&str]) -> String {
    let trace = trace.to_str().expect("UTF-8");
    let line: Vec<String> = ["analyze", trace].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let mut out = Vec::new();
    tapedeck::analyze::run(&line, &mut out, &mut std::io::sink(), false).expect("an answer");
    String::from_utf8(out).expect("UTF-8")
}

/// Samples of a function itself and of all under it, and of all functions.
fn profile(trace: &Path, words: &[&str]) -> (BTreeMap<String, (u64, u64)>, u64) {
    let words = [&["profile", "--top", "9999", "--format", "json"], words].concat();
    let page: Value = serde_json::from_str(&analyze(trace, &words)).expect("JSON");
    let rows = page["rows"].as_array().expect("rows");
    let row = |row: &Value| {
        let number = |name: &str| row[name].as_u64().expect("a count");
        (row["function"].as_str().expect("a name").to_owned(), (number("self"), number("total")))
    };
    let functions: Vec<(String, (u64, u64))> = rows.iter().map(row).collect();
    let sum = functions.iter().map(|function| function.1.0).sum();
    (functions.into_iter().collect(), sum)
}

/// Of n samples, a share p is off by more than four standard errors once in fifteen thousand runs; half a
/// sample more, for a share near 0 or 1.
fn close(found: u64, n: u64, share: f64) -> bool {
    let error = 4.0 * (share * (1.0 - share) / n as f64).sqrt() + 0.5 / n as f64;
    (found as f64 / n as f64 - share).abs() <= error
}

#[test]
fn samples_divide_time_as_the_program_s_own_clock_does() {
    if !live() || !has("cc") {
        return;
    }
    patiently(|| {
        let directory = scratch("profile-c");
        for (name, compiler) in [("burn", WITH), ("bare", WITHOUT)] {
            let program = burner(&directory, name, compiler, "burn.c");
            let (trace, said) = record(&directory, "997", &[], &[program.to_str().expect("UTF-8"), "1.5"]);
            let truth: Value = serde_json::from_str(&said).expect("JSON");
            let ns = |key: &str| truth[key].as_f64().expect("a time");
            let where_ours = ["--where", &format!("comm = '{name}'")];
            let (functions, sum) = profile(&trace, &where_ours);
            // A sample is lost where the machine is stolen from us for longer than a period.
            let stands_for = sum as f64 * 1e9 / 997.0;
            let share = stands_for / ns("cpu_ns");
            assert!((0.9..1.05).contains(&share), "{name}: samples are {share} of what getrusage says");
            for (function, key) in [("burn_hot", "hot_ns"), ("burn_cold", "cold_ns")] {
                let (_, total) = functions[function];
                let share = ns(key) / ns("cpu_ns");
                assert!(
                    close(total, sum, share),
                    "{name}: {function} has {total} of {sum}, its clock says {share}"
                );
            }
            let under = |function: &str| functions.get(function).map_or(0, |count| count.1);
            let folded = analyze(&trace, &[&["profile", "--folded"], &where_ours[..]].concat());
            if name == "burn" {
                assert!(
                    under("burn_inner") * 100 > sum * 98 && under("main") * 100 > sum * 98,
                    "{functions:?}"
                );
                assert!(folded.contains(";main;burn_outer;burn_inner;burn_hot "), "{folded}");
            } else {
                assert_eq!(under("burn_inner"), 0, "nobody can follow stacks of this program");
                assert!(folded.contains("[incomplete];"), "and that is said: {folded}");
            }
        }
    });
}

#[test]
fn perf_sees_the_same_shares_of_the_same_run() {
    if !live() || !has("cc") {
        return;
    }
    patiently(|| {
        // Not a failure, and not installed by contrib/setup.sh: each distribution has it in another package, of its own kernel.
        if !Command::new("perf").arg("--version").output().is_ok_and(|output| output.status.success()) {
            return aloud("perf is not installed");
        }
        let directory = scratch("profile-perf");
        let program = burner(&directory, "burn", WITH, "burn.c");
        let data = directory.join("perf.data");
        let [data, program] = [&data, &program].map(|path| path.to_str().expect("UTF-8"));
        let perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-o", data, "--", program, "2"];
        let (trace, _) = record(&directory, "499", &[], &perf);
        let report = ["report", "-i", data, "--stdio", "-q", "--comm", "burn", "-F", "sample,sym", "-t", ","];
        let output = Command::new("perf").args(report).output().expect("perf runs");
        let theirs = String::from_utf8(output.stdout).expect("UTF-8");
        let theirs = |function: &str| {
            let line = theirs.lines().find(|line| line.ends_with(&format!("] {function}")));
            let line = line.unwrap_or_else(|| panic!("no {function}: {theirs}"));
            line.split(',').next().expect("a count").trim().parse::<f64>().expect("a number")
        };
        let (functions, _) = profile(&trace, &["--where", "comm = 'burn'"]);
        let ours = |function: &str| functions[function].0 as f64;
        for function in ["burn_hot", "burn_cold"] {
            // Two samplers of one run: each count is off by at most four times its root.
            let (ours, theirs) = (ours(function), theirs(function));
            let tolerance = 4.0 * (ours + theirs).sqrt();
            assert!((ours - theirs).abs() <= tolerance, "{function}: {ours} samples, perf has {theirs}");
        }
    });
}

#[test]
fn inlined_functions_of_rust_have_names_and_debug_files_give_them_later() {
    if !live() || !has("rustc") || !has("strip") {
        return;
    }
    let directory = scratch("profile-rust");
    let program = burner(&directory, "rusty", RUST, "burn.rs");
    let debug = directory.join("debug");
    std::fs::create_dir(&debug).expect("writable");
    std::fs::copy(&program, debug.join("kept-under-another-name")).expect("a copy");
    assert!(Command::new("strip").arg(&program).status().expect("strip runs").success());
    let (trace, _) = record(&directory, "499", &[], &[program.to_str().expect("UTF-8"), "1"]);
    let where_ours = ["--where", "comm = 'rusty'", "--user"];
    let (bare, _) = profile(&trace, &where_ours);
    assert!(!bare.contains_key("burn::burn_hot"), "{bare:?}");
    let symbols = ["--symbols", debug.to_str().expect("UTF-8")];
    let (named, sum) = profile(&trace, &[&where_ours[..], &symbols].concat());
    for function in ["burn::burn_inner", "burn::burn_inlined", "burn::main"] {
        assert!(named[function].1 * 100 > sum * 95, "{function}: {named:?}");
    }
    let hot = named["burn::burn_hot"].1;
    assert!(close(hot, sum, 0.75), "three of four calls: {hot} of {sum}");
}

#[test]
fn tasks_that_have_ended_keep_their_names() {
    if !live() || !has("cc") {
        return;
    }
    let directory = scratch("profile-short");
    let program = burner(&directory, "short", WITH, "burn.c");
    // Each lives for less than the time after which rings are read.
    let script =
        format!("i=0; while [ $i -lt 40 ]; do {} 0.02 >/dev/null; i=$((i+1)); done", program.display());
    let (trace, _) = record(&directory, "997", &[], &["sh", "-c", &script]);
    let (functions, _) = profile(&trace, &["--where", "comm = 'short'", "--user"]);
    let count = |function: &str| functions.get(function).map_or(0, |count| count.0);
    let unknown = count("[unknown]");
    assert!(count("burn_hot") > 100, "{functions:?}");
    // A sample between an exec and the first mapping has no file: a few, more on a busy machine.
    assert!(unknown * 50 <= count("burn_hot"), "{unknown} samples have no file: {functions:?}");
}

#[test]
fn only_what_was_sampled_is_in_the_file() {
    if !live() || !has("cc") {
        return;
    }
    let directory = scratch("profile-filter");
    let program = burner(&directory, "only", WITH, "burn.c");
    let (trace, _) = record(&directory, "199", &[], &[program.to_str().expect("UTF-8"), "0.5"]);
    let samples = rows(&trace, "cpu_sample");
    let used: std::collections::BTreeSet<i128> =
        samples.iter().flat_map(|row| [known(row, "kstack"), known(row, "ustack")]).flatten().collect();
    let stacks = rows(&trace, "stack");
    assert!(stacks.iter().all(|row| used.contains(&number(row, "stack"))), "no stack but those of samples");
    for mapping in rows(&trace, "mapping") {
        let path = String::from_utf8_lossy(bytes(&mapping, "path")).into_owned();
        let ours = ["/only", "/capture", "libc.so", "ld-linux", "[vdso]"];
        assert!(ours.iter().any(|name| path.contains(name)), "a file of somebody else: {path}");
    }
    for row in &samples {
        assert_eq!(number(row, "period"), 1_000_000_000 / 199);
        assert!((1..1000).contains(&number(row, "runnable")), "it runs itself");
    }
}
