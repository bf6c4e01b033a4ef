//! The fixtures: recorded traces, compared with what workload and observer saw (`*.truth.json`), with the
//! independent reader, and with the reports' own earlier output (`fixtures/golden`), which guards layout.
//!
//! `UPDATE_GOLDEN=1 cargo test --test fixtures` rewrites the goldens; read the difference before committing.

#[path = "fixtures/golden.rs"]
mod golden;

use golden::{GOLDEN, formats, golden};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tapedeck::schema::TraceReader;
use tapedeck::schema::reader::Scratch;

const FIXTURES: [&str; 15] = [
    "redis", "nginx", "pingpong", "execs", "files", "compile", "block", "lossy", "burn", "named", "storm",
    "locks", "naps", "calls", "stat",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(format!("{name}.bin"))
}

/// Runs `analyze TRACE WORDS` inside this process: exit code, output, messages.
fn analyze(trace: &Path, words: &[&str]) -> (i32, String, String) {
    let line = ["analyze", "--utc", trace.to_str().expect("UTF-8")]
        .into_iter()
        .chain(words.iter().copied())
        .map(str::to_owned);
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    let exit = match tapedeck::analyze::run(&line.collect::<Vec<_>>(), &mut out, &mut messages, false) {
        Ok(exit) => exit as i32,
        Err(error) => {
            messages.extend(format!("{error:#}\n").bytes());
            -1
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (exit, text(out), text(messages))
}

#[test]
fn reports_say_what_workloads_and_observers_saw() {
    for name in FIXTURES {
        let truth =
            std::fs::read(fixture(name).with_extension("truth.json")).expect("a truth beside each fixture");
        let checks: Vec<Value> = serde_json::from_slice(&truth).expect("a list of checks");
        assert!(!checks.is_empty(), "{name}");
        for check in checks {
            let words: Vec<&str> =
                check["args"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
            let (_, out, messages) = analyze(&fixture(name), &[&words[..], &["--format", "json"]].concat());
            let result: Value =
                serde_json::from_str(&out).unwrap_or_else(|_| panic!("{name} {words:?}: {messages}"));
            let column = check["column"].as_str().expect("a column");
            let [row] = &result["rows"].as_array().expect("rows")[..] else {
                panic!("{name} {words:?}: not one row: {out}")
            };
            let found =
                row[column].as_f64().unwrap_or_else(|| panic!("{name} {words:?}: no {column}: {out}"));
            let bound =
                |end: &str| check[end].as_f64().or(check["equal"].as_f64()).expect("equal, or from and to");
            let source = &check["source"];
            assert!(
                bound("from") <= found && found <= bound("to"),
                "{name} {words:?}: {column} is {found}, {source} says {check}"
            );
        }
    }
}

fn golden_file(name: &str, words: &[&str], format: &str) -> PathBuf {
    let line = if words.is_empty() { "overview" } else { &words.join("-") };
    root().join("fixtures/golden").join(format!("{name}.{}.{format}", line.replace([',', '-'], "_")))
}

#[test]
fn goldens_are_as_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for name in FIXTURES {
        for words in golden(name) {
            for format in formats(words) {
                let (exit, out, messages) =
                    analyze(&fixture(name), &[words, &["--format", format][..]].concat());
                let path = root().to_str().expect("UTF-8");
                let text = format!(
                    "$ analyze fixtures/{name}.bin {} --format {format}\n{out}{messages}exit {exit}\n",
                    words.join(" ")
                );
                let text = text.replace(&format!("{path}/"), "");
                let file = golden_file(name, words, format);
                if update {
                    std::fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
                    std::fs::write(&file, &text).expect("writable");
                } else if std::fs::read_to_string(&file).ok().as_deref() != Some(&text) {
                    changed.push(format!("{}:\n{text}", file.display()));
                }
            }
        }
    }
    assert!(
        changed.is_empty(),
        "differ from their goldens (UPDATE_GOLDEN=1 rewrites them):\n{}",
        changed.join("\n")
    );
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    for words in GOLDEN {
        let one = analyze(&fixture("redis"), &[&["--threads", "1"], *words].concat());
        let four = analyze(&fixture("redis"), &[&["--threads", "4"], *words].concat());
        assert_eq!(one, four, "{words:?}");
    }
}

/// A row each says whom a report was compared with; a new one without would be believed unseen.
#[test]
fn every_report_has_a_row_of_proof() {
    let text = std::fs::read_to_string(root().join("tests/live/README.md")).expect("it is committed");
    let first = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let proved: Vec<&str> = first.flat_map(|cell| cell.split(", ")).collect();
    let missing: Vec<&str> = tapedeck::analyze::reports().filter(|report| !proved.contains(report)).collect();
    assert!(missing.is_empty(), "no row in tests/live/README.md: {missing:?}");
}

#[test]
fn no_golden_is_of_a_line_that_is_not_asked_any_more() {
    let kept: BTreeSet<PathBuf> = FIXTURES
        .into_iter()
        .flat_map(|name| golden(name).into_iter().map(move |words| (name, words)))
        .flat_map(|(name, words)| formats(words).iter().map(move |format| golden_file(name, words, format)))
        .collect();
    let files = std::fs::read_dir(root().join("fixtures/golden")).expect("it is committed");
    let left: Vec<PathBuf> =
        files.map(|file| file.expect("readable").path()).filter(|file| !kept.contains(file)).collect();
    assert!(left.is_empty(), "delete {left:?}");
}

/// What a script of `tests` says of a fixture.
fn independent(script: &str, name: &str) -> Value {
    let output = Command::new("python3").arg(root().join("tests").join(script)).arg(fixture(name)).output();
    let output = output.expect("python3 runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The columns of `like` in each row, in an order of their own.
fn projected(rows: &Value, like: &Value) -> Vec<String> {
    let names: Vec<&String> = like.as_object().expect("a row").keys().collect();
    let cells = |row: &Value| names.iter().map(|name| row[name.as_str()].to_string()).collect::<Vec<_>>();
    let mut rows: Vec<String> =
        rows.as_array().expect("rows").iter().map(|row| cells(row).join(" ")).collect();
    rows.sort();
    rows
}

/// Counts and bytes by task, port and connection, worked out twice: by `analyze`, and by a script that shares no code.
#[test]
fn reports_are_what_the_independent_reader_counts() {
    for name in FIXTURES {
        let said = independent("independent_reports.py", name);
        let reports = said.as_array().expect("a list of reports");
        assert!(reports.len() > 1, "{name}: {said}");
        for report in reports {
            let words: Vec<&str> =
                report["args"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
            let (_, out, messages) = analyze(&fixture(name), &[&words[..], &["--format", "json"]].concat());
            let result: Value =
                serde_json::from_str(&out).unwrap_or_else(|_| panic!("{name} {words:?}: {messages}"));
            let like = &report["rows"][0];
            assert_eq!(
                projected(&result["rows"], like),
                projected(&report["rows"], like),
                "{name} {words:?}"
            );
        }
    }
}

#[test]
fn the_independent_reader_agrees() {
    for name in FIXTURES {
        let said = independent("independent_reader.py", name);
        let trace = TraceReader::open(&fixture(name)).expect("a trace");
        let mut scratch = Scratch::new();
        for def in &trace.tables {
            let (mut rows, mut sums) = (0u64, vec![0u64; def.columns.len()]);
            for frame in trace.frames_of(def.number) {
                let batch = trace.read(frame, None, &mut scratch).expect("a whole frame");
                rows += batch.rows as u64;
                for (sum, (column, info)) in sums.iter_mut().zip(batch.columns.iter().zip(&def.columns)) {
                    let numbers = (0..column.len()).filter_map(|row| info.value(column.number(row)?));
                    numbers.for_each(|number| *sum = sum.wrapping_add(number as u64));
                }
            }
            let table = &said["tables"][&def.name];
            assert_eq!(table["rows"].as_u64().unwrap_or(0), rows, "{name} {}", def.name);
            for (sum, column) in sums.iter().zip(&def.columns) {
                if let Some(theirs) = table["columns"][&column.name]["sum"].as_u64() {
                    assert_eq!(theirs, *sum, "{name} {}.{}", def.name, column.name);
                }
            }
        }
    }
}

/// What stays the same when a verb that takes nothing away has written a trace anew: every report, word for word.
#[test]
fn a_copy_says_what_its_source_says_in_every_report() {
    const COPIES: [&str; 5] =
        ["recover", "recompress -l 3", "redact --args keep --names keep --addresses keep", "slice", "merge"];
    let folder = std::env::temp_dir().join(format!("tapedeck-copies-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    let said = |trace: &Path, report: &str| {
        let (exit, out, messages) = analyze(trace, &[report, "--format", "json"]);
        let name = trace.to_str().expect("UTF-8");
        (exit, out.replace(name, "TRACE"), messages.replace(name, "TRACE"))
    };
    let check = |name: &str| {
        // Each is made from the one before, so that the last one went through all of them.
        let mut copies = vec![fixture(name)];
        for (at, verb) in COPIES.iter().enumerate() {
            let to = folder.join(format!("{name}.{at}.bin"));
            let words: Vec<&str> = verb.split(' ').chain(["-o", to.to_str().expect("UTF-8")]).collect();
            let (exit, out, messages) = analyze(&copies[at], &words);
            assert!(exit == 0 || exit == 3, "{name} {verb}: {out}{messages}");
            copies.push(to);
        }
        let mut answered = 0;
        for report in tapedeck::analyze::reports().filter(|&report| report != "events").chain(["list"]) {
            let first = said(&copies[0], report);
            answered += usize::from(first.0 >= 0);
            if first != said(&copies[COPIES.len()], report) {
                let differs = |copy: &PathBuf| said(copy, report) != first;
                let at = copies.iter().position(differs).expect("the last one differs");
                panic!(
                    "{name}: {report} changed in {}:\n{:?}\n{first:?}",
                    COPIES[at - 1],
                    said(&copies[at], report)
                );
            }
        }
        assert!(answered > 3, "{name} answers {answered} reports");
    };
    let check = &check;
    std::thread::scope(|scope| {
        for name in FIXTURES {
            scope.spawn(move || check(name));
        }
    });
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
}

/// Side by side, each of two fixtures says what it says alone, and a condition can name one of them.
#[test]
fn of_two_recordings_each_says_what_it_says_alone() {
    let path = |name: &str| fixture(name).to_str().expect("UTF-8").to_owned();
    let rows = |trace: &str, words: &[&str]| {
        let whole = ["--interval", "all", "--top", "1000000", "--format", "json"];
        let (_, out, messages) = analyze(&fixture(trace), &[words, &whole].concat());
        let said: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words:?}: {messages}"));
        let mut rows: Vec<String> =
            said["rows"].as_array().into_iter().flatten().map(Value::to_string).collect();
        rows.sort_unstable();
        rows
    };
    let tcp = &["tcpsend", "tcptop", "flows", "tcplife", "tcplat", "tcpconnlat", "exitsnoop"][..];
    let sched = &["cpudist", "runqlat", "runqslower"][..];
    for (first, second, reports) in [("redis", "nginx", tcp), ("naps", "storm", sched)] {
        let (other, only) = (path(second), format!("file = '{}'", path(second)));
        for report in reports {
            let both = rows(first, &[&other, report, "--by", "file"]);
            let [one, two] = [first, second].map(|trace| rows(trace, &[report, "--by", "file"]));
            assert!(!two.is_empty(), "{report} of {second}");
            let mut each = [one, two.clone()].concat();
            each.sort_unstable();
            assert_eq!(both, each, "{report}");
            assert_eq!(rows(first, &[&other, report, "--by", "file", "--where", &only]), two, "{report}");
        }
    }
    // One that the condition leaves out need not have what the report asks for.
    let words = [&path("block"), "tcpsend", "--interval", "all", "--format", "csv"];
    let (exit, out, messages) = analyze(&fixture("redis"), &words);
    assert!(exit == 3 && messages.contains("sock_send"), "{out}{messages}");
    let only = format!("file = '{}'", path("redis"));
    let (exit, named, messages) = analyze(&fixture("redis"), &[&words[..], &["--where", &only]].concat());
    assert_eq!((exit, named, messages.as_str()), (0, out, ""));
    // Events with files of their own, too.
    let only = format!("file = '{}'", path("files"));
    for report in ["filetop", "opensnoop", "vfsstat", "statsnoop"] {
        assert_eq!(rows("files", &[report, "--where", &only]), rows("files", &[report]), "{report}");
        assert_ne!(
            rows("files", &[report, "--where", "file = 'another'"]),
            rows("files", &[report]),
            "{report}"
        );
    }
}

/// Cut in two, merged and compressed anew, every fixture still says what it said.
#[test]
fn what_is_cut_and_merged_again_answers_the_same() {
    let folder = std::env::temp_dir().join(format!("tapedeck-fixtures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    let file = |name: &str| folder.join(name);
    let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    for name in FIXTURES {
        let (first, second, merged, small) = (file("first"), file("second"), file("merged"), file("small"));
        let write = |from: &Path, words: &[&str], to: &PathBuf| {
            let (exit, out, messages) = analyze(from, &[words, &["--force", "-o", &text(to)]].concat());
            assert!(exit == 0 || exit == 3, "{name} {words:?}: {out}{messages}");
        };
        write(&fixture(name), &["slice", "--to", "700ms"], &first);
        write(&fixture(name), &["slice", "--from", "700ms"], &second);
        write(&first, &[&text(&second), "merge"], &merged);
        write(&merged, &["recompress", "-l", "3"], &small);
        let rows = |words: &&&[&str]| {
            let of_rows =
                words.first().is_some_and(|verb| !["info", "check", "list", "replay"].contains(verb));
            of_rows && !words.iter().any(|word| ["--folded", "--compat", "--tables"].contains(word))
        };
        for words in golden(name).iter().filter(rows) {
            let rows = |path: &Path| {
                let (exit, out, messages) = analyze(path, &[words, &["--format", "json"][..]].concat());
                let said: Value =
                    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words:?}: {messages}"));
                (exit, said["rows"].clone())
            };
            assert_eq!(rows(&fixture(name)), rows(&small), "{name} {words:?}");
        }
    }
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
}
