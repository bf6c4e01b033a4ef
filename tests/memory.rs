//! Peak memory of `analyze`, as the kernel counts it: that of reports that add up does not grow with the events, nor
//! does that of percentiles under `--memory`, which are exact all the same, nor that of lists, nor that of a pipe. What has
//! no room is refused. And it has a bound: what the program takes for a trace of nothing, and twice `--memory`.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Batch, Column, Kind, TraceReader, TraceWriter};

/// Runs a command and prints its peak, in KiB. Not the test itself: the peak of who forks is inherited.
const PEAK: &str = "import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

/// What a run may take more than another, in KiB: allocators and threads are never twice the same.
const SLACK: u64 = 6 << 10;
/// The same where sends wait for their answers, and frames are read some at a time. All rows would be 70 MiB more.
const WAITING: u64 = 32 << 10;

/// What decoding on two threads may take beyond a trace of nothing, whatever the trace, in KiB.
const DECODING: u64 = 48 << 10;

/// Events of a fixture, again and again, one after the other.
fn repeated(fixture: &str, times: u64, to: &Path) -> u64 {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/{fixture}.bin"));
    let reader = TraceReader::open(&fixture).expect("a fixture");
    let file = std::io::BufWriter::new(std::fs::File::create(to).expect("the temporary folder takes a file"));
    let mut writer = TraceWriter::new(file, 1, &reader.host, reader.tables.clone()).expect("a file of ours");
    let (mut scratch, mut rows) = (Scratch::new(), 0);
    let frames: Vec<(Kind, u32, Batch)> = reader
        .frames
        .iter()
        .filter(|frame| frame.header.kind.has_rows())
        .map(|frame| {
            let batch = reader.read(frame, None, &mut scratch).expect("a whole fixture");
            (frame.header.kind, frame.header.epoch, batch)
        })
        .collect();
    let footer = reader.footer.as_ref().expect("a whole fixture");
    let length = footer.end_mono - reader.host.start_mono + 1;
    for time in 0..times {
        for (kind, epoch, batch) in frames.iter().filter(|frame| time == 0 || frame.0 == Kind::Events) {
            let mut batch = batch.clone();
            let ts = reader.tables[usize::from(batch.table)].time();
            if let Some(Column::U64(values)) = ts.map(|ts| &mut batch.columns[ts]) {
                for value in values {
                    *value += time * length;
                }
            }
            writer.append(*kind, *epoch, &batch).expect("a file of ours");
            rows += if *kind == Kind::Events { batch.rows as u64 } else { 0 };
        }
    }
    writer.finish("repeated").expect("a file of ours");
    rows
}

/// Words of a command line; `~` is a space.
fn split(words: &str) -> impl Iterator<Item = String> {
    words.split(' ').map(|word| word.replace('~', " "))
}

/// KiB. `- ` before the words: from standard input.
fn peak(trace: &Path, words: &str) -> u64 {
    let analyze = env!("CARGO_BIN_EXE_analyze");
    let mut command = Command::new("python3");
    command.args(["-c", PEAK, analyze, "--threads", "2"]);
    let Some(words) = words.strip_prefix("- ") else {
        command.arg(trace).args(split(words));
        return peak_of(command, words);
    };
    let (mut cat, pipe) = piped(trace);
    command.arg("-").args(words.split(' ')).stdin(pipe);
    let peak = peak_of(command, words);
    cat.wait().expect("cat ends with the pipe");
    peak
}

/// A trace that comes through a pipe.
fn piped(trace: &Path) -> (Child, ChildStdout) {
    let mut cat = Command::new("cat").arg(trace).stdout(Stdio::piped()).spawn().expect("cat runs");
    let pipe = cat.stdout.take().expect("it was asked for");
    (cat, pipe)
}

fn peak_of(mut command: Command, words: &str) -> u64 {
    let output = command.output().expect("python3 runs");
    let said = String::from_utf8(output.stdout).expect("two numbers");
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let &[status, peak] = &numbers[..] else { panic!("{words}: {said}") };
    assert!(status == 0 || status == 3, "{words} ended with {status}");
    peak
}

/// What it prints.
fn answer(trace: &Path, words: &str) -> String {
    let mut analyze = Command::new(env!("CARGO_BIN_EXE_analyze"));
    let output = analyze.arg(trace).args(split(words)).output().expect("analyze runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A trace that goes with the test, however that ends.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Made {
    /// So many times the events of a fixture, and how many those are.
    fn new(fixture: &str, times: u64) -> (Self, u64) {
        let name = format!("tapedeck-memory-{}-{fixture}-{times}.bin", std::process::id());
        let made = Self(std::env::temp_dir().join(name));
        let rows = repeated(fixture, times, &made.0);
        (made, rows)
    }
}

/// A trace of nothing.
fn nothing() -> u64 {
    peak(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1.bin"), "info")
}

#[test]
fn memory_does_not_grow_with_events() {
    // Two sizes of the same recording.
    let [(small, few), (large, many)] = [6, 24].map(|times| Made::new("redis", times));
    let nothing = nothing();
    for words in [
        "tcpsend --interval all",
        "tcpsend --interval all --by comm,rport",
        "tcpsend --interval all --where ret>0",
        "- tcpsend --interval all",
        "--quick",
        "tcptop --interval all",
        "events --table sock_send --by comm",
        "flows --memory 100K",
        "tcplat --memory 100K",
        "check",
    ] {
        let waves = words.starts_with("tcplat") || words.contains("--where");
        let slack = if waves { WAITING } else { SLACK };
        let (before, after) = (peak(&small.0, words), peak(&large.0, words));
        eprintln!("{words}: {before} KiB for {few} events, {after} for {many}");
        assert!(after < before + slack, "{words}: {before} KiB for {few} events, {after} for {many}");
        let bound = nothing + DECODING + if waves { WAITING } else { 0 };
        assert!(after < bound, "{words}: {after} KiB, {nothing} for nothing");
    }
    // 3 MiB of latencies, of which 1 MiB may be held.
    let bound = peak(&large.0, "flows --by comm --memory 1M");
    assert!(bound < nothing + DECODING + (2 << 10), "{bound} KiB, {nothing} for nothing");
    // The values are some megabytes, and the percentiles are those of all of them.
    for words in ["flows --by comm", "tcplat"] {
        let (held, counted) = (answer(&small.0, words), answer(&small.0, &format!("{words} --memory 256K")));
        let rows = |text: &str| text.split("\n#").next().map(str::to_owned);
        assert_eq!(rows(&held), rows(&counted), "{words}");
        assert!(counted.contains("# percentiles are exact, in"), "{words}: {counted}");
    }
}

/// How a run ends that is refused, and what it says.
fn refused(trace: &Path, words: &str) -> (Option<i32>, String) {
    let mut analyze = Command::new(env!("CARGO_BIN_EXE_analyze"));
    let output = analyze.arg(trace).args(split(words)).output().expect("analyze runs");
    assert!(output.stdout.is_empty(), "{words}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Rows that are held as they are: 25 MiB of columns, and more than that for a query.
#[test]
fn lists_stay_within_what_memory_allows() {
    let ((made, _), nothing) = (Made::new("redis", 12), nothing());
    let list = "events --table sock_send";
    for words in ["--format csv", "--format json", "", "--format json --top 5", "--sort latency --top 5"] {
        let line = format!("{list} {words} --memory 8M").replace("  ", " ");
        let peak = peak(&made.0, &line);
        eprintln!("{line}: {peak} KiB, {nothing} for nothing");
        assert!(peak < nothing + DECODING + (16 << 10), "{line}: {peak} KiB, {nothing} for nothing");
    }
    for (words, instead) in [
        (&*format!("{list} --format parquet"), "take another format"),
        (&*format!("{list} --sort ret"), "leave out --sort"),
        (&*format!("replay {list} --interval 1h"), "take a shorter --interval"),
        ("sql SELECT~*~FROM~sock_send", "name fewer columns"),
    ] {
        let (status, said) = refused(&made.0, &format!("{words} --memory 8M"));
        assert_eq!(status, Some(2), "{words}: {said}");
        assert!(said.contains("288048 rows take about") && said.contains("--memory allows 8 MiB"), "{said}");
        assert!(said.contains(&format!("hint: {instead}")) && said.contains("--from"), "{said}");
    }
}

#[test]
fn a_list_that_is_printed_as_it_comes_takes_no_more_the_longer_it_is() {
    // 100 MiB of columns.
    let ((made, _), nothing) = (Made::new("redis", 48), nothing());
    for words in ["--format csv", "--format ndjson", "--format json", "--top 5", "--sort latency --top 5"] {
        let line = format!("events --table sock_send {words}");
        let peak = peak(&made.0, &line);
        eprintln!("{line}: {peak} KiB, {nothing} for nothing");
        assert!(peak < nothing + DECODING + (48 << 10), "{line}: {peak} KiB, {nothing} for nothing");
    }
}
