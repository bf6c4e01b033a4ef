//! Processes: what ran with which arguments, and how it ended.

use super::support::{CAPTURE, has, live, record, scratch};
use super::trace::{Row, bytes, mentions, number, of_thread, rows, told};
use serde_json::Value;
use std::process::Command;

/// The one row of a process in a table.
fn single(rows: &[Row], pid: i128, what: &str) -> Row {
    let mut ours = of_thread(rows.to_vec(), pid);
    assert_eq!(ours.len(), 1, "rows of {what} for process {pid}");
    ours.remove(0)
}

/// Arguments as the table has them: each ended by a NUL.
fn arguments(run: &Value) -> Vec<u8> {
    let words = run["argv"].as_array().expect("argv").iter().map(|word| word.as_str().expect("text"));
    words.flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
}

fn check_run(run: &Value, execs: &[Row], exits: &[Row]) {
    let pid = told(&run["pid"]);
    let exec = single(execs, pid, "process_exec");
    assert_eq!(bytes(&exec, "file"), run["argv"][0].as_str().expect("text").as_bytes());
    assert_eq!(bytes(&exec, "args"), arguments(run), "arguments of {pid}");
    assert_eq!(number(&exec, "argc") as usize, run["argv"].as_array().expect("argv").len());
    let exit = single(exits, pid, "process_exit");
    let code = run["exit_code"].as_i64().unwrap_or(0);
    assert_eq!(
        (number(&exit, "code"), number(&exit, "signal")),
        (code.into(), told(&run["signal"])),
        "end of {pid}"
    );
    let (start, wall) = (told(&run["start_ns"]), told(&run["wall_ns"]));
    assert!(number(&exit, "age") <= wall, "{pid} lived longer than its parent waited");
    assert!((start..=start + wall).contains(&number(&exec, "ts")), "{pid} ran at another time");
}

#[test]
fn two_hundred_programs_are_two_hundred_rows_with_arguments_and_ends() {
    if !live() {
        return;
    }
    let recording = record("exec-200", &["-g", "proc"], &["execs", "--count", "200", "--missing", "20"]);
    let execs = rows(&recording.path, "process_exec");
    let (done, failed): (Vec<Row>, Vec<Row>) = execs.into_iter().partition(|row| number(row, "ret") == 0);
    let exits: Vec<Row> =
        rows(&recording.path, "process_exit").into_iter().filter(|row| number(row, "last") == 1).collect();
    let runs = recording.truth["runs"].as_array().expect("runs");
    assert_eq!((runs.len(), done.len()), (200, 201), "and the workload itself");
    for run in runs {
        check_run(run, &done, &exits);
    }
    let forks = rows(&recording.path, "process_fork");
    for run in runs {
        let born = forks.iter().filter(|row| number(row, "child") == told(&run["pid"])).count();
        assert_eq!(born, 1, "one fork for {}", run["pid"]);
    }
    let missing = &recording.truth["missing"];
    assert_eq!(failed.len() as i128, told(&missing["count"]), "programs that do not exist");
    for row in &failed {
        assert_eq!(number(row, "ret"), -told(&missing["errno"]));
        assert_eq!(bytes(row, "file"), missing["path"].as_str().expect("text").as_bytes());
        assert_eq!(bytes(row, "args"), b"/nonexistent/truth\0");
    }
}

#[test]
fn tasks_carry_their_names_parents_and_processes() {
    if !live() {
        return;
    }
    let recording = record("exec-tasks", &["-g", "proc,net"], &["twothreads", "--count", "5"]);
    let tasks = rows(&recording.path, "task");
    for writer in recording.truth["writers"].as_array().expect("writers") {
        let ours = of_thread(tasks.clone(), told(&writer["tid"]));
        let last = ours.iter().max_by_key(|row| number(row, "ts")).expect("a row");
        assert_eq!(bytes(last, "comm"), writer["comm"].as_str().expect("text").as_bytes());
        assert_eq!(number(last, "tgid"), told(&writer["pid"]));
    }
    let server = of_thread(tasks, told(&recording.truth["server"]["pid"]));
    assert!(server.iter().all(|row| number(row, "ppid") == told(&recording.truth["writers"][0]["pid"])));
    let renames = of_thread(rows(&recording.path, "task_rename"), told(&recording.truth["server"]["tid"]));
    assert_eq!(renames.len(), 1);
    assert_eq!(bytes(&renames[0], "comm"), b"truth-server");
}

/// Runs two programs with an argument that is easy to find, one of which does not exist.
fn argument_recording(name: &str, options: &[&str], argument: &str) -> std::path::PathBuf {
    let path = scratch(name).join("trace.bin");
    let script = format!("/bin/true {argument}; /nonexistent/program {argument}; true");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&path).args(options).args(["--", "sh", "-c", &script]);
    let output = capture.output().expect("capture runs");
    assert!(output.status.success(), "{}", super::support::text(&output));
    path
}

#[test]
fn no_args_leaves_no_argument_anywhere_in_the_file() {
    if !live() || !has("zstd") {
        return;
    }
    let argument = "x-argument-that-nobody-may-see";
    let without = argument_recording("exec-no-args", &["-g", "proc,net", "--no-args"], argument);
    assert!(!mentions(&without, argument), "an argument is in the file");
    assert!(mentions(&without, "/nonexistent/program"), "paths are not arguments");
    let execs = rows(&without, "process_exec");
    assert!(execs.len() >= 3 && execs.iter().all(|row| bytes(row, "args").is_empty()));
    let with = argument_recording("exec-args", &["-g", "proc"], argument);
    assert!(mentions(&with, argument), "otherwise this test proves nothing");
}
