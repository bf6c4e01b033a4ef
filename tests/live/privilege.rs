//! With how little privilege it works, and what it says when that is too little.

use super::support::{CAPTURE, Installed, has, live, scratch, text};
use super::trace::{bytes, open, rows};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `capture` as nobody with these capabilities and no others, and returns where the trace should be.
fn with(name: &str, capabilities: &str, installed: &Installed) -> (Output, PathBuf) {
    recorded(name, capabilities, installed, &["-g", "proc,net", "--", "/bin/true"])
}

fn recorded(name: &str, capabilities: &str, installed: &Installed, words: &[&str]) -> (Output, PathBuf) {
    let capture = installed.add(Path::new(CAPTURE), "capture");
    let path = capture.with_file_name(format!("{name}.bin"));
    let directory = capture.parent().expect("a directory");
    std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("our own");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(format!("--inh-caps=-all{capabilities}")).arg(format!("--ambient-caps=-all{capabilities}"));
    command.arg(&capture).arg("-o").arg(&path).args(["--min-free", "0B", "--force"]).args(words);
    (command.output().expect("setpriv runs"), path)
}

#[test]
fn two_capabilities_are_enough() {
    if !live() || !has("setpriv") {
        return;
    }
    let installed = Installed::new("privilege-two");
    let (output, path) = with("two", ",+bpf,+perfmon", &installed);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(rows(&path, "process_exec").len(), 1, "{}", text(&output));
    // What the others would add is said.
    assert!(text(&output).contains("CAP_DAC_READ_SEARCH"), "{}", text(&output));
    assert!(text(&output).contains("probes: not estimated"), "{}", text(&output));
    let (output, path) = with("three", ",+bpf,+perfmon,+dac_read_search", &installed);
    assert!(output.status.success() && !text(&output).contains("exec_failed"), "{}", text(&output));
    assert_eq!(rows(&path, "process_exec").len(), 1);
}

#[test]
fn a_capability_that_is_missing_is_named() {
    if !live() || !has("setpriv") {
        return;
    }
    let installed = Installed::new("privilege-missing");
    for (given, missing) in [
        (",+bpf", "lacks CAP_PERFMON:"),
        (",+perfmon", "lacks CAP_BPF:"),
        ("", "lacks CAP_BPF and CAP_PERFMON:"),
    ] {
        let (output, path) = with("missing", given, &installed);
        assert_eq!(output.status.code(), Some(125), "{}", text(&output));
        assert!(text(&output).contains(missing), "{}", text(&output));
        assert!(!path.exists());
    }
}

#[test]
fn a_bound_on_what_cannot_be_measured_is_refused() {
    if !live() || !has("setpriv") {
        return;
    }
    let installed = Installed::new("privilege-bound");
    let words = ["-g", "net", "--max-overhead", "1%", "--", "/bin/true"];
    let (output, path) = recorded("bound", ",+bpf,+perfmon", &installed, &words);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(
        text(&output).contains("--max-overhead") && text(&output).contains("CAP_SYS_ADMIN"),
        "{}",
        text(&output)
    );
    assert!(!path.exists());
    let (output, path) = recorded("bound", ",+bpf,+perfmon,+sys_admin", &installed, &words);
    assert!(output.status.success() && path.exists(), "{}", text(&output));
}

/// Of all that add something, one after the other is left out: what is missing then is said, and that alone is missing.
#[test]
fn each_capability_adds_what_is_said_of_it() {
    const ALL: [&str; 6] = ["bpf", "perfmon", "dac_read_search", "sys_admin", "sys_ptrace", "syslog"];
    if !live() || !has("setpriv") {
        return;
    }
    let restricted = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("procfs");
    let installed = Installed::new("privilege-each");
    // The command works in the kernel, and long enough for a slice of the estimate.
    let copy = ["timeout", "1", "dd", "if=/dev/zero", "of=/dev/null", "bs=64k"];
    let words = [&["-g", "proc,net,cpu,syscalls", "-F", "199", "--"], &copy[..]].concat();
    for (missing, said) in [
        ("nothing", ""),
        ("dac_read_search", "not attached: descendants"),
        ("sys_admin", "not estimated, which takes CAP_SYS_ADMIN"),
        ("sys_ptrace", "without CAP_SYS_PTRACE"),
        ("syslog", "without CAP_SYSLOG"),
    ] {
        let given = ALL.iter().filter(|one| **one != missing).map(|one| format!(",+{one}"));
        let (output, path) = recorded(missing, &given.collect::<String>(), &installed, &words);
        let text = text(&output);
        assert!(path.exists() && text.contains("events captured"), "without {missing}: {text}");
        // Where the kernel tells its addresses to everybody, nothing is missing.
        let told = missing == "syslog" && restricted.trim().parse::<i32>().is_ok_and(|level| level <= 1);
        for words in ["not attached: descendants", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYSLOG"] {
            assert_eq!(text.contains(words), said.contains(words) && !told, "without {missing}: {text}");
        }
        let kernel =
            |name: &[u8]| name == b"read_zero" || name.starts_with(b"ksys_") || name.starts_with(b"vfs_");
        let named = rows(&path, "symbol").iter().any(|row| kernel(bytes(row, "function")));
        assert_eq!(named, missing != "syslog" || told, "without {missing}: names of the kernel's functions");
    }
}

#[test]
fn what_is_not_needed_any_more_is_given_up_by_all_threads() {
    if !live() {
        return;
    }
    let path = scratch("privilege-least").join("trace.bin");
    let script = "cat /proc/$PPID/task/*/status | grep -E '^(CapPrm|NoNewPrivs|Seccomp):' | sort -u";
    let output = Command::new(CAPTURE)
        .arg("-o")
        .arg(&path)
        .args(["--least-privilege", "-g", "proc,net", "--", "sh", "-c", script])
        .output()
        .expect("capture runs");
    assert!(output.status.success(), "{}", text(&output));
    // CAP_BPF and CAP_PERFMON, and CAP_KILL for a command that runs as somebody else.
    let kept = 1_u64 << 39 | 1 << 38 | 1 << 5;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("CapPrm:\t{kept:016x}\nNoNewPrivs:\t1\nSeccomp:\t2\n")
    );
    assert!(open(&path).footer.is_some());
    assert!(!rows(&path, "process_exec").is_empty());
}

/// What each feature calls is in the list of `capture/seccomp.rs`.
#[test]
fn with_the_least_every_feature_still_works() {
    if !live() {
        return;
    }
    let directory = scratch("privilege-features");
    let run = |name: &str, options: &[&str], script: &str| {
        let path = directory.join(name).with_extension("bin");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).arg("--least-privilege").args(options).args(["--", "sh", "-c", script]);
        let output = command.output().expect("capture runs");
        assert!(output.status.success(), "{name}: {}", text(&output));
        assert!(!text(&output).contains("not permitted"), "{name}: {}", text(&output));
        path
    };
    let groups = "proc,net,net-rx,block,file,sched,stat,syscalls";
    let all = run("all", &["-g", groups], "sleep 1; ls /");
    assert!(!rows(&all, "task_stat").is_empty() && !rows(&all, "file_open").is_empty());
    let spin = "timeout 1 sh -c 'while :; do :; done'; true";
    let symbols = run("symbols", &["-g", "cpu,proc", "-F", "199"], spin);
    assert!(!rows(&symbols, "symbol").is_empty(), "names of functions, looked up at the end");
    let rotated = run("rotated", &["-g", "proc", "--rotate", "1s", "--keep", "2"], "sleep 4");
    assert_eq!(super::bounds::set_of(&rotated).len(), 2, "of four files or five the oldest went");
    let flown = run(
        "flown",
        &["-g", "proc", "--flight", "30s", "--post", "0s", "--trigger", "end"],
        &format!("sleep 1; {CAPTURE} --dump {}; true", directory.join("flown.bin").display()),
    );
    assert_eq!(super::bounds::set_of(&flown).len(), 2, "one asked for, one at the end");
}
