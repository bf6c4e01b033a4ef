//! Running the programs: the recorder, the workload, and whatever else has to run beside them.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

pub const CAPTURE: &str = env!("CARGO_BIN_EXE_capture");

/// Skips the test unless probes can be loaded here; with `REQUIRE_LIVE`, whatever it says, that is a failure.
pub fn live() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    let able = *ABLE.get_or_init(|| std::fs::metadata("/sys/kernel/btf/vmlinux").is_ok() && probes_load());
    if able {
        own_network();
        heed_signals();
    }
    assert!(
        able || std::env::var_os("REQUIRE_LIVE").is_none(),
        "REQUIRE_LIVE is set, but BPF programs do not load here"
    );
    able || skip("it needs root and a kernel that loads BPF programs")
}

/// Gives this test's thread, and so all that it starts, a network namespace with nothing but loopback.
fn own_network() {
    // SAFETY: affects the calling thread only; the result is checked.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip, of iproute2, brings loopback up");
}

/// Whoever runs the tests in the background may have had these ignored; what the tests start must not.
fn heed_signals() {
    for number in [libc::SIGHUP, libc::SIGINT] {
        // SAFETY: plain system call; the usual action is no code of ours.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

fn probes_load() -> bool {
    let output = Command::new(CAPTURE).arg("--list").output().expect("capture runs");
    String::from_utf8_lossy(&output.stdout).contains("probe process_exit   tracepoint")
}

/// Says aloud that the test is skipped, and why; with `REQUIRE_LIVE=1` that is a failure, with
/// `REQUIRE_LIVE=probes` (a guest has few programs) it is not. Always false.
pub fn skip(why: &str) -> bool {
    let forbidden = std::env::var_os("REQUIRE_LIVE").is_some_and(|what| what != "probes");
    assert!(!forbidden, "REQUIRE_LIVE is set, but this test cannot run: {why}");
    aloud(why);
    false
}

/// Three attempts at what compares with a clock or with somebody else's rate: a machine whose processors are taken away
/// meanwhile may spoil one. Each attempt that fails is told aloud: read it, since some of them count as well. Nothing that
/// only counts has more than one attempt.
pub fn patiently(attempt: impl Fn()) {
    const ATTEMPTS: u32 = 3;
    for number in 1..ATTEMPTS {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(&attempt)).is_ok() {
            return;
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "AGAIN {name}: attempt {number} of {ATTEMPTS} failed");
    }
    attempt();
}

/// Says what a test leaves out on this kernel, and why. Not by the macro: the output of tests that pass is kept
/// back, and this one passes.
pub fn aloud(why: &str) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", thread.name().unwrap_or("a test"));
}

/// Whether this kernel is at least of that version: for what no file of the kernel tells.
pub fn kernel_is(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Whether a program is there; skips if not.
pub fn has(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|directory| directory.join(program).exists());
    found || skip(&format!("{program} is not installed"))
}

/// A directory of this test's own, emptied.
pub fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the target directory is writable");
    path
}

/// The workload program, built beside this test.
pub fn truth() -> PathBuf {
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    let path = path.join("examples/truth");
    assert!(
        path.exists(),
        "no workload: `cargo test` builds it, `cargo test --test live` needs `cargo build --example truth` before"
    );
    path
}

/// Something to undo at the end of a test, however it ends.
pub struct Undo<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Copies of programs where every user may run them, under names of the test's own; gone with the value.
pub struct Installed(PathBuf);

impl Installed {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tapedeck-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a directory for temporary files");
        open_to_all(&path);
        Self(path)
    }

    pub fn add(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.0.join(name);
        // By another process: what some other test starts meanwhile could hold a file of ours open for writing, and
        // then nobody could execute it.
        let copied = Command::new("cp").arg(program).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy of {}", program.display());
        open_to_all(&path);
        path
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The rows of a report, as the analyzer's JSON has them. From the library, since guests have no program to ask.
pub fn report(trace: &Path, words: &[&str]) -> Vec<Value> {
    let trace = trace.to_str().expect("UTF-8");
    let line = [&["analyze", trace], words, &["--format", "json"]].concat();
    let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
    let mut out = Vec::new();
    let done = tapedeck::analyze::run(&line, &mut out, &mut std::io::sink(), false);
    done.unwrap_or_else(|error| panic!("{words:?}: {error:#}"));
    let page: Value = serde_json::from_slice(&out).expect("JSON");
    page["rows"].as_array().expect("rows").clone()
}

/// A finished recording.
pub struct Recording {
    /// The trace.
    pub path: PathBuf,
    /// What capture printed.
    pub stderr: String,
    /// The workload's own account.
    pub truth: Value,
}

/// Records `truth WORDS` with further options for capture.
pub fn record(name: &str, options: &[&str], words: &[&str]) -> Recording {
    let directory = scratch(name);
    let path = directory.join("trace.bin");
    let account = directory.join("truth.json");
    let mut capture = Command::new(CAPTURE);
    capture
        .arg("-o")
        .arg(&path)
        .args(options)
        .arg("--")
        .arg(truth())
        .args(words)
        .arg("--output")
        .arg(&account);
    let output = capture.output().expect("capture runs");
    let stderr = text(&output);
    assert!(output.status.success(), "capture failed:\n{stderr}");
    let truth = serde_json::from_slice(&std::fs::read(account).expect("an account")).expect("JSON");
    Recording { path, stderr, truth }
}

/// Standard error of a program.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a program that prints JSON has to say.
pub fn account(mut program: Command) -> Value {
    let output = program.stderr(Stdio::inherit()).output().expect("the program runs");
    assert!(output.status.success(), "{program:?} failed");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The workload, to be run by the test itself.
pub fn workload(program: impl AsRef<OsStr>, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

/// The next line that a program prints; without its end.
pub fn line(from: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

/// A recording of what other processes do, for as long as the test wants: its command says when all is attached, and
/// ends when its standard input does.
pub struct Watch {
    capture: Child,
    stdout: BufReader<ChildStdout>,
    pub path: PathBuf,
}

impl Watch {
    /// Returns when the recording runs.
    pub fn start(name: &str, options: &[&str]) -> Self {
        let path = scratch(name).join("trace.bin");
        let mut command = Command::new(CAPTURE);
        command.arg("-o").arg(&path).args(options).args(["--", "sh", "-c", "echo ready; exec cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut capture = command.spawn().expect("capture runs");
        let mut stdout = BufReader::new(capture.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("a line");
        if ready != "ready\n" {
            let output = capture.wait_with_output().expect("its output");
            panic!("capture did not start:\n{}", text(&output));
        }
        Self { capture, stdout, path }
    }

    /// Process id of the recorder.
    pub fn pid(&self) -> u32 {
        self.capture.id()
    }

    /// Ends the recording; it must have gone well. Returns what capture printed.
    pub fn finish(mut self) -> String {
        drop(self.capture.stdin.take());
        let output = self.capture.wait_with_output().expect("capture ends");
        drop(self.stdout); // not before: some cats get a SIGPIPE though they have nothing to write
        assert!(output.status.success(), "capture failed, {}:\n{}", output.status, text(&output));
        text(&output)
    }

    /// Kills the recorder as nothing else does: it cannot even notice.
    pub fn kill(mut self) -> ExitStatus {
        self.capture.kill().expect("our own child");
        self.capture.wait().expect("our own child")
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(child: &Child, number: i32) {
    // SAFETY: plain system call; the child has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), number) }, 0);
}

/// `CLOCK_MONOTONIC`, the clock of the trace, in nanoseconds.
pub fn now() -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours; this clock exists on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Waits until something is so; fails after half a minute.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain for {what}");
}

/// A TCP port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("an address").port()
}
