//! The flight recorder: what it writes, when, and for whom.

use super::bounds::{check_books, set_of};
use super::support::{CAPTURE, Installed, live, patiently, scratch, signal, text, truth, wait_for};
use super::trace::{by_time, known, number, open, rows};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A flight recorder whose command runs until it is killed.
struct Flight {
    capture: Option<Child>,
    path: PathBuf,
}

impl Flight {
    fn start(name: &str, options: &[&str], script: &str) -> Self {
        let path = scratch(name).join("trace.bin");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args(options).args(["--", "sh", "-c"]);
        command.arg(format!("echo ready; {script}")).env("TRUTH", truth());
        let mut capture =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("capture runs");
        let mut ready = String::new();
        BufReader::new(capture.stdout.take().expect("a pipe")).read_line(&mut ready).expect("a line");
        assert_eq!(ready, "ready\n");
        Self { capture: Some(capture), path }
    }

    /// Waits until so many dumps are complete.
    fn wait_for_dumps(&self, count: usize) {
        wait_for(&format!("{count} dumps"), || {
            set_of(&self.path).iter().filter(|file| complete(file)).count() >= count
        });
    }

    fn capture(&self) -> &Child {
        self.capture.as_ref().expect("it runs until the end")
    }

    fn end(mut self) -> String {
        signal(self.capture(), libc::SIGINT);
        let output = self.capture.take().map(Child::wait_with_output);
        text(&output.expect("it ran").expect("capture ends"))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(mut capture) = self.capture.take() {
            signal(&capture, libc::SIGINT); // its command ends with it
            let _ = capture.wait();
        }
    }
}

fn complete(file: &PathBuf) -> bool {
    tapedeck::schema::TraceReader::open(file).is_ok_and(|trace| trace.footer.is_some())
}

fn dump(path: &Path) -> std::process::Output {
    Command::new(CAPTURE).arg("--dump").arg(path).output().expect("capture runs")
}

fn reason(path: &Path) -> String {
    open(path).footer.expect("a footer").reason
}

const STEADY: &str = "exec $TRUTH pingpong --count 100000 --size 50 --delay-ms 5 >/dev/null";

#[test]
fn nothing_is_written_until_somebody_asks_and_no_row_twice() {
    if !live() {
        return;
    }
    patiently(|| {
        let flight =
            Flight::start("flight-ask", &["-g", "net", "--flight", "30s,64MiB", "--post", "0s"], STEADY);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(set_of(&flight.path), Vec::<PathBuf>::new());
        signal(flight.capture(), libc::SIGUSR1);
        flight.wait_for_dumps(1);
        let asked = dump(&flight.path);
        assert!(asked.status.success(), "{}", text(&asked));
        let files = set_of(&flight.path);
        assert_eq!(files.len(), 2);
        assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), files[1].display().to_string());
        assert_eq!(reason(&files[0]), "dumped: SIGUSR1");
        assert_eq!(reason(&files[1]), "dumped: asked for with --dump");
        let times = |file: &PathBuf| {
            let mut times: Vec<i128> = rows(file, "sock_send").iter().map(|row| number(row, "ts")).collect();
            times.sort_unstable();
            times
        };
        let (first, second) = (times(&files[0]), times(&files[1]));
        assert!(first.len() > 100 && second.len() > 50, "{} and {} rows", first.len(), second.len());
        let both = first.iter().filter(|ts| second.binary_search(ts).is_ok()).count();
        assert_eq!(both, 0, "rows that are in both");
        // Between the two there is no hole: one send follows another within some ten milliseconds.
        let hole = second[0] - first[first.len() - 1];
        assert!(hole < 500_000_000, "{} ms between the dumps", hole / 1_000_000);
        for file in &files {
            check_books(file);
        }
        let said = flight.end();
        assert!(said.contains("left the memory without a dump"), "{said}");
    });
}

#[test]
fn the_memory_holds_the_last_seconds_only() {
    if !live() {
        return;
    }
    patiently(|| {
        let flight = Flight::start("flight-window", &["-g", "net", "--flight", "2s"], STEADY);
        std::thread::sleep(Duration::from_secs(6));
        assert!(dump(&flight.path).status.success());
        let times: Vec<i128> =
            rows(&set_of(&flight.path)[0], "sock_send").iter().map(|row| number(row, "ts")).collect();
        let span = times.iter().max().expect("rows") - times.iter().min().expect("rows");
        // The window, an epoch that ends in it, and what came until the dump.
        assert!((1_500_000_000..4_500_000_000).contains(&span), "{} ms", span / 1_000_000);
        flight.end();
    });
}

#[test]
fn a_trigger_brings_its_cause_and_what_follows() {
    if !live() {
        return;
    }
    patiently(|| {
        let options = [
            "-g",
            "proc",
            "--flight",
            "30s",
            "--post",
            "2s",
            "--cool-down",
            "60s",
            "--trigger",
            "process_exit.code = 7",
        ];
        let script = "sleep 1; sh -c 'exit 3'; sleep 1; sh -c 'exit 7'; sleep 1; sh -c 'exit 9'; sleep 1; sh -c 'exit 7'; exec sleep 30";
        let flight = Flight::start("flight-trigger", &options, script);
        flight.wait_for_dumps(1);
        std::thread::sleep(Duration::from_secs(4));
        let files = set_of(&flight.path);
        assert_eq!(files.len(), 1, "the cool-down");
        let codes: Vec<i128> =
            by_time(rows(&files[0], "process_exit")).iter().filter_map(|row| known(row, "code")).collect();
        let codes: Vec<i128> = codes.into_iter().filter(|&code| code != 0).collect();
        assert!(codes.starts_with(&[3, 7, 9]), "before, the cause, and after: {codes:?}");
        assert_eq!(reason(&files[0]), "dumped: process_exit.code = 7");
        flight.end();
    });
}

#[test]
fn a_file_that_appears_and_the_end_of_the_recording_are_triggers() {
    if !live() {
        return;
    }
    let mark = scratch("flight-mark").join("now");
    let file = format!("file:{}", mark.display());
    let options =
        ["-g", "proc", "--flight", "30s", "--cool-down", "0s", "--trigger", &file, "--trigger", "end"];
    let flight = Flight::start("flight-file", &options, "exec sleep 60");
    std::fs::write(&mark, "").expect("the test's own directory");
    flight.wait_for_dumps(1);
    let path = flight.path.clone();
    flight.end();
    let reasons: Vec<String> = set_of(&path).iter().map(|file| reason(file)).collect();
    assert_eq!(reasons, [format!("dumped: {file}"), "dumped: the recording ended: interrupted".into()]);
    assert!(!path.with_file_name("trace.bin.sock").exists(), "the control socket goes with the recorder");
}

/// The one row of a table that has but one, where the workload passed the limit once.
fn the_one(file: &Path, table: &str) -> i128 {
    let rows = rows(file, table);
    assert_eq!(rows.len(), 1, "{table}: {rows:?}");
    number(&rows[0], "latency")
}

#[test]
fn a_response_that_takes_too_long_is_a_trigger() {
    if !live() {
        return;
    }
    patiently(|| {
        let options = ["-g", "net,net-rx", "--flight", "30s", "--post", "0s", "--cool-down", "60s"];
        let options = [&options[..], &["--trigger", "tcplat.response > 100ms"]].concat();
        let account = scratch("flight-response-truth").join("slow.json");
        let script = format!(
            "$TRUTH pingpong --count 50 --size 20 --delay-ms 2 >/dev/null; \
         $TRUTH pingpong --count 1 --size 20 --reply 300 --delay-ms 150 --output {}; \
         $TRUTH pingpong --count 50 --size 20 --delay-ms 2 >/dev/null; exec sleep 30",
            account.display()
        );
        let flight = Flight::start("flight-response", &options, &script);
        flight.wait_for_dumps(1);
        let file = &set_of(&flight.path)[0];
        assert_eq!(reason(file), "dumped: tcplat.response > 100ms");
        let took = the_one(file, "tcp_slow");
        let truth: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&account).expect("an account")).expect("JSON");
        let of = |value: &serde_json::Value| i128::from(value[0].as_i64().expect("a time"));
        let (held, response) = (of(&truth["server"]["held_ns"]), of(&truth["response_ns"]));
        assert!(
            (held..=response).contains(&took),
            "the server held it for {held}, the client waited for {response}: {took}"
        );
        check_books(file);
        flight.end();
    });
}

#[test]
fn a_slow_disk_and_an_error_are_triggers() {
    use super::block::Loop;
    if !live() {
        return;
    }
    let Some(disk) = Loop::new("flight-disk") else { return };
    let options = ["-g", "block,file", "--flight", "30s", "--post", "0s"];
    let triggers = ["--cool-down", "0s", "--trigger", "biolatency > 1us", "--trigger", "file_open.ret = -2"];
    let script = format!("{}; sleep 3; cat /no/such/file; exec sleep 30", disk.workload(1, 1));
    let flight = Flight::start("flight-disk", &[&options[..], &triggers].concat(), &script);
    let told =
        |cause: &str| set_of(&flight.path).iter().any(|file| complete(file) && reason(file).contains(cause));
    // Which comes first is open, and whether one dump has both: programs look for files that are not there.
    wait_for("dumps with both causes", || told("biolatency > 1us") && told("file_open.ret = -2"));
    let all =
        |table: &str| set_of(&flight.path).iter().flat_map(|file| rows(file, table)).collect::<Vec<_>>();
    let (slow, parts) = (all("block_slow"), all("block_rq"));
    assert!(!slow.is_empty());
    for row in &slow {
        let of = |part: i128, at: i128| {
            let mut same = parts.iter().filter(|other| number(other, "rq") == number(row, "rq"));
            same.any(|other| number(other, "part") == part && number(other, "ts") == at)
        };
        let (end, latency) = (number(row, "ts"), number(row, "latency"));
        assert!(of(5, end) && of(3, end - latency), "no completion or no issue of {row:?}");
    }
    flight.end();
}

#[test]
fn a_stalled_machine_is_a_trigger() {
    if !live() {
        return;
    }
    patiently(|| {
        if !Path::new("/proc/pressure/cpu").exists() {
            super::support::skip("this kernel has no pressure information");
            return;
        }
        let options = ["-g", "proc", "--flight", "30s", "--post", "0s", "--trigger", "psi:cpu:some:10%"];
        // One more than there are processors wants one; other tests need not wait for them.
        let script = "for i in $(seq $(($(nproc) + 1))); do timeout 5 nice -n 19 sh -c 'while :; do :; done' & done; wait; exec sleep 30";
        let flight = Flight::start("flight-pressure", &options, script);
        flight.wait_for_dumps(1);
        assert_eq!(reason(&set_of(&flight.path)[0]), "dumped: psi:cpu:some:10%");
        flight.end();
    });
}

#[test]
fn only_its_owner_may_ask() {
    use std::os::unix::process::CommandExt as _;
    if !live() {
        return;
    }
    let flight = Flight::start("flight-owner", &["-g", "proc", "--flight", "30s"], "exec sleep 60");
    let installed = Installed::new("flight-owner");
    let capture = installed.add(Path::new(CAPTURE), "capture");
    let link = capture.with_file_name("trace.bin.sock");
    // Whatever the socket's mode: the kernel says who connects.
    let socket = flight.path.with_file_name("trace.bin.sock");
    std::fs::hard_link(&socket, &link)
        .or_else(|_| std::os::unix::fs::symlink(&socket, &link))
        .expect("a link");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("our own");
    let mut command = Command::new(&capture);
    command.arg("--dump").arg(capture.with_file_name("trace.bin")).uid(65_534).gid(65_534);
    let refused = command.output().expect("capture runs");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("may not ask") || text(&refused).contains("ermission"),
        "{}",
        text(&refused)
    );
    assert_eq!(set_of(&flight.path), Vec::<PathBuf>::new());
    flight.end();
}

#[test]
fn armed_and_idle_it_costs_next_to_nothing() {
    if !live() {
        return;
    }
    patiently(|| {
        let flight = Flight::start(
            "flight-idle",
            &["-g", "proc,net,net-rx", "--flight", "30s,512MiB"],
            "exec sleep 60",
        );
        let used = || {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", flight.capture().id())).expect("it runs");
            let fields: Vec<u64> = stat
                .rsplit(')')
                .next()
                .expect("a line")
                .split_whitespace()
                .skip(11)
                .take(2)
                .map(|n| n.parse().expect("a number"))
                .collect();
            fields[0] + fields[1]
        };
        std::thread::sleep(Duration::from_secs(1));
        let before = used();
        std::thread::sleep(Duration::from_secs(10));
        // Ticks of 10 ms in ten seconds: five are 0.5 %. Another test's load makes a debug build slower: twice that.
        let ticks = used() - before;
        assert!(ticks <= 10, "{ticks} ticks of 10 ms in 10 s");
        flight.end();
    });
}
