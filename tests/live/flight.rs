//! The flight recorder: what it writes, when, and for whom.

use super::bounds::{check_books, set_of};
use super::support::{CAPTURE, Installed, live, patiently, scratch, signal, text, truth, wait_for};
use super::trace::{bytes, number, open, rows};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A flight recorder whose command runs until it is killed.
pub struct Flight {
    capture: Option<Child>,
    pub path: PathBuf,
}

impl Flight {
    pub fn start(name: &str, options: &[&str], script: &str) -> Self {
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
    pub fn wait_for_dumps(&self, count: usize) {
        wait_for(&format!("{count} dumps"), || {
            set_of(&self.path).iter().filter(|file| complete(file)).count() >= count
        });
    }

    fn capture(&self) -> &Child {
        self.capture.as_ref().expect("it runs until the end")
    }

    pub fn end(mut self) -> String {
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

pub fn complete(file: &Path) -> bool {
    tapedeck::schema::TraceReader::open(file).is_ok_and(|trace| trace.footer.is_some())
}

fn dump(path: &Path) -> std::process::Output {
    Command::new(CAPTURE).arg("--dump").arg(path).output().expect("capture runs")
}

pub fn reason(path: &Path) -> String {
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

/// Names of functions are looked up for each dump, and not only when the recording ends.
#[test]
fn each_dump_names_the_functions_of_its_stacks() {
    if !live() {
        return;
    }
    let options = ["-g", "cpu", "-F", "499", "--flight", "30s", "--post", "0s"];
    let script = "exec $TRUTH storm --count 100000000 --ms 1 >/dev/null";
    let flight = Flight::start("flight-names", &options, script);
    for at in 0..2 {
        std::thread::sleep(Duration::from_secs(2));
        assert!(dump(&flight.path).status.success());
        let file = &set_of(&flight.path)[at];
        let symbols = rows(file, "symbol");
        let has = |column: &str, part: &str| {
            symbols.iter().any(|row| String::from_utf8_lossy(bytes(row, column)).contains(part))
        };
        assert!(has("function", "pipe_"), "the kernel's, dump {at}: {symbols:?}");
        assert!(has("file", "storm.rs"), "the workload's, dump {at}: {symbols:?}");
        let keys: BTreeSet<_> =
            symbols.iter().map(|row| (number(row, "frame"), number(row, "level"))).collect();
        assert_eq!(keys.len(), symbols.len(), "each is there once");
    }
    flight.end();
}
