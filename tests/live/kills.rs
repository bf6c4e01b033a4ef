//! A hundred recordings, each killed at a random moment: while it starts, while it records, while it turns to the next file
//! of a set, while it makes a dump. What is left opens, says that it is cut, and lacks a second at most.

use super::bounds::set_of;
use super::crash::check_tail;
use super::support::{CAPTURE, free_port, line, live, now, scratch, signal, truth, wait_for, workload};
use super::trace::{Row, distance, number, of_thread, rows_of};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tapedeck::schema::{FormatError, TraceReader};

const KILLS: u64 = 100;
/// At once: recorders mostly wait.
const WORKERS: usize = 5;
const SECOND: i128 = 1_000_000_000;
/// Of a request.
const SIZE: i128 = 50;
/// Where so many recorders share the processors with other tests, one may be a little late in what it promises; …
const LATE: usize = 5;
/// … never by more than this.
const LATEST: i128 = 2 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Rotating,
    /// Some time after a dump was asked for: it waits for its last rows, or looks names up.
    Asked,
    /// Once its file is there.
    Dumping,
}

impl Kind {
    fn of(round: u64) -> Self {
        match round % 10 {
            0..5 => Self::Plain,
            5..8 => Self::Rotating,
            8 => Self::Asked,
            _ => Self::Dumping,
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["-g", "net"],
            Self::Rotating => &["-g", "net", "--rotate", "150ms"],
            Self::Asked | Self::Dumping => {
                &["-g", "net,cpu", "-F", "499", "--flight", "30s", "--post", "0s", "--level", "12"]
            }
        }
    }
}

/// A conversation, and a recorder of it, whose command tells when it began.
struct Running {
    talk: Child,
    capture: Child,
    path: PathBuf,
}

/// What a kill has left.
struct Killed {
    path: PathBuf,
    client: i128,
    at: i128,
    /// For how long it had recorded, s; none if it had not begun.
    recorded: Option<f64>,
}

impl Running {
    fn start(directory: &Path, round: u64) -> Self {
        let port = free_port().to_string();
        let words = ["pingpong", "--count", "1000000", "--size", "50", "--delay-ms", "1", "--port", &port];
        let talk = workload(truth(), &words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the workload runs");
        let path = directory.join(format!("{round}.bin"));
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args(["-q", "-a", "--port", &port]).args(Kind::of(round).options());
        command.args(["--", "sh", "-c", "read up rest </proc/uptime; echo $up; exec cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { talk, capture: command.spawn().expect("capture runs"), path }
    }

    fn output(&mut self) -> ChildStdout {
        self.capture.stdout.take().expect("a pipe")
    }

    fn kill(mut self, told: Option<String>) -> Killed {
        let (at, up) = (now(), uptime(&std::fs::read_to_string("/proc/uptime").expect("procfs")));
        self.capture.kill().expect("our own child");
        drop(self.capture.stdin.take()); // the command's end
        self.talk.kill().expect("our own child");
        for child in [&mut self.capture, &mut self.talk] {
            child.wait().expect("our own child");
        }
        let told = told.unwrap_or_else(|| {
            let mut told = String::new();
            self.output().read_to_string(&mut told).expect("a pipe");
            told
        });
        let recorded = up.zip(uptime(&told)).map(|(up, began)| up - began);
        Killed { path: self.path, client: i128::from(self.talk.id()), at, recorded }
    }
}

fn uptime(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Random, and the same for the same seed.
fn random(seed: u64, round: u64, below_ms: u64) -> Duration {
    let mut mixed = seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    Duration::from_micros((mixed ^ mixed >> 31) % (below_ms * 1000))
}

/// One recording and its end.
fn kill_one(directory: &Path, seed: u64, round: u64) -> Killed {
    let mut running = Running::start(directory, round);
    let kind = Kind::of(round);
    if matches!(kind, Kind::Plain | Kind::Rotating) {
        std::thread::sleep(random(seed, round, 3000));
        return running.kill(None);
    }
    let mut output = BufReader::new(running.output());
    let told = line(&mut output);
    std::thread::sleep(random(seed, round + KILLS, 500));
    signal(&running.capture, libc::SIGUSR1);
    if kind == Kind::Dumping {
        wait_for("a dump", || !set_of(&running.path).is_empty());
        std::thread::sleep(random(seed, round, 12));
    } else {
        std::thread::sleep(random(seed, round, 1400));
    }
    running.kill(Some(told))
}

/// What was found in what a hundred kills have left.
#[derive(Debug, Default)]
struct Found {
    whole: usize,
    cut: usize,
    cut_dumps: usize,
    empty: usize,
    /// Of recordings of more than a second: from the first send that is missing to the kill, ns.
    gone: Vec<i128>,
}

impl Found {
    fn check(&mut self, kind: Kind, killed: &Killed) {
        let files = if kind == Kind::Plain { vec![killed.path.clone()] } else { set_of(&killed.path) };
        let mut sends = Vec::new();
        for (file, after) in files.iter().zip((0..files.len()).rev()) {
            let Some(trace) = self.open(file, after, kind) else { continue };
            if trace.table("sock_send").is_some() {
                sends.extend(of_thread(rows_of(&trace, "sock_send"), killed.client));
            }
        }
        sends.sort_by_key(|row| number(row, "ts"));
        if matches!(kind, Kind::Plain | Kind::Rotating) && killed.recorded.is_some_and(|time| time > 1.1) {
            let until = complete_until(&sends).expect("rows of the time before the last second");
            self.gone.push(killed.at - until);
        }
    }

    /// A file that one may be able to read: each but those that the recorder had only just created.
    fn open(&mut self, file: &Path, after: usize, kind: Kind) -> Option<TraceReader> {
        match TraceReader::open(file) {
            Ok(trace) => {
                check_tail(&trace);
                let whole = trace.footer.is_some();
                // The next file is there before this one has its end, so that there is always one to write to.
                assert!(whole || after < 2, "{}: only the last may be cut", file.display());
                assert_eq!(says_it_is_cut(file), !whole, "{}", file.display());
                self.whole += usize::from(whole);
                self.cut += usize::from(!whole);
                self.cut_dumps += usize::from(!whole && matches!(kind, Kind::Asked | Kind::Dumping));
                Some(trace)
            }
            Err(FormatError::NotATrace { length: 0 } | FormatError::Io { .. }) if after == 0 => {
                self.empty += 1;
                None
            }
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
}

/// The last send before the first that is missing: each begins where the one before ended.
fn complete_until(sends: &[Row]) -> Option<i128> {
    let follows = |pair: &[Row]| distance(number(&pair[0], "seq"), number(&pair[1], "seq")) == SIZE;
    let gap = sends.windows(2).position(|pair| !follows(pair));
    gap.map_or(sends.last(), |gap| sends.get(gap)).map(|row| number(row, "ts"))
}

fn says_it_is_cut(file: &Path) -> bool {
    let words = ["analyze".to_owned(), file.display().to_string(), "check".to_owned()];
    let mut out = Vec::new();
    // That a trace is cut is no error of the program that says so.
    _ = tapedeck::analyze::run(&words, &mut out, &mut std::io::sink(), false);
    String::from_utf8_lossy(&out).contains("no footer")
}

#[test]
fn a_hundred_kills_cost_a_second_each_and_say_so() {
    if !live() {
        return;
    }
    let seed = std::env::var("KILLS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::try_from(now()).expect("after the boot"));
    println!("KILLS_SEED={seed}");
    let (directory, began) = (scratch("kills"), Instant::now());
    let next = AtomicU64::new(0);
    let rounds =
        || std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|n| *n < KILLS);
    let work = || rounds().map(|n| (n, kill_one(&directory, seed, n))).collect::<Vec<_>>();
    let killed: Vec<(u64, Killed)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a recorder that starts")).collect()
    });
    let mut found = Found::default();
    for (round, killed) in &killed {
        println!("round {round}: {:?}, recorded {:?} s", Kind::of(*round), killed.recorded);
        found.check(Kind::of(*round), killed);
    }
    found.gone.sort_unstable();
    println!("{found:?} after {:?}", began.elapsed());
    assert_eq!(killed.len() as u64, KILLS);
    assert!(found.cut > 20 && found.whole > 20 && found.cut_dumps > 0 && found.gone.len() > 4, "{found:?}");
    let late = found.gone.iter().filter(|gone| **gone > SECOND).count();
    assert!(late <= LATE && found.gone.iter().all(|gone| *gone < LATEST), "{late} have lost more: {found:?}");
}
