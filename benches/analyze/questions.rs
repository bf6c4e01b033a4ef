//! What is asked, and who answers.

use std::path::{Path, PathBuf};

/// Of which trace.
#[derive(Clone, Copy)]
pub enum Trace {
    /// Connections.
    Turns,
    /// System calls, the scheduler, files, disks, samples.
    Work,
}

impl Trace {
    /// Where it lies.
    pub fn file(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Turns => "trace.bin",
            Self::Work => "work.bin",
        })
    }
}

/// Something to ask of a trace.
pub struct Question {
    pub name: &'static str,
    pub trace: Trace,
    /// Verb and options; empty: there is no report of it.
    pub report: &'static [&'static str],
    /// Names in [`super::folds`].
    pub folds: &'static [&'static str],
    /// What `peers.py` calls it, if it knows it.
    pub peers: Option<&'static str>,
    /// Columns of the result whose sums all others must find, in the order of their figures.
    pub figures: &'static [&'static str],
    /// Options with which the answer has all rows that these sums are of, beyond what it shows by itself.
    pub whole: &'static [&'static str],
}

impl Question {
    const fn of(trace: Trace, name: &'static str, report: &'static [&'static str]) -> Self {
        Self { name, trace, report, folds: &[], peers: None, figures: &[], whole: &[] }
    }

    /// Where a fold finds the same figures.
    const fn like(self, folds: &'static [&'static str], figures: &'static [&'static str]) -> Self {
        Self { folds, figures, ..self }
    }

    /// Where the report shows the largest only.
    const fn largest_of(self, whole: &'static [&'static str]) -> Self {
        Self { whole, ..self }
    }

    /// Where peers do.
    const fn peers(self, peers: &'static str) -> Self {
        Self { peers: Some(peers), ..self }
    }

    /// The fold that answers all of it.
    pub fn fold(&self) -> Option<&'static str> {
        self.folds.first().copied().filter(|_| !self.figures.is_empty())
    }
}

const ALL_ROWS: &[&str] = &["--top", "100000"];
const WHOLE: [&str; 2] = ["--interval", "all"];
/// Too little memory for a closer look.
const LITTLE: [&str; 2] = ["--memory", "100"];

/// All of them.
pub fn questions() -> Vec<Question> {
    turns().into_iter().chain(work()).collect()
}

fn turns() -> Vec<Question> {
    let of = |name, report| Question::of(Trace::Turns, name, report);
    vec![
        of("decode all columns", &["check"]).like(&["zstd", "zstd-1", "decode", "decode-1"], &[]),
        of("sends per second", &["tcpsend"]).like(&["sends"], &["calls"]),
        of("bytes by task", &["tcptop", WHOLE[0], WHOLE[1], "--by", "task"]).like(&["tasks"], &["bytes"]),
        of("bytes by socket", &["tcptop", WHOLE[0], WHOLE[1], "--by", "sock"])
            .like(&["bytes", "bytes-1"], &["bytes"])
            .peers("bytes by socket"),
        of("flow table", &["flows", "--by", "sock", "--top", "10"])
            .like(
                &["flows"],
                &["bytes", "send_p50_us", "send_p90_us", "send_p99_us", "send_p99_9_us", "send_max_us"],
            )
            .peers("flow table"),
        of("flow table, from histograms", &["flows", "--by", "sock", "--top", "10", LITTLE[0], LITTLE[1]])
            .like(&[], &["bytes"])
            .peers("flow table"),
        of(
            "one port, one second",
            &["tcpsend", WHOLE[0], WHOLE[1], "--from", "5s", "--to", "6s", "--where", "lport = 10005"],
        )
        .like(&[], &["calls", "bytes"])
        .peers("one port, one second"),
        of("sends, line by line", &["events", "--table", "sock_send", "--format", "csv", "--memory", "100G"])
            .like(&["lines"], &["exact", "latency"])
            .peers("lines"),
        of("latencies", &["tcplat"]),
        of("first page", &[]),
        of("first page, --quick", &["--quick"]),
    ]
}

fn work() -> Vec<Question> {
    const TIMES: &[&str] = &["n", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"];
    let of = |name, report| Question::of(Trace::Work, name, report);
    vec![
        of("system calls", &["syscount"])
            .like(&["calls"], &["calls", "errors", "p50_us", "p99_us", "max_us"]),
        of("waits for a processor", &["runqlat"]).like(&["queued"], TIMES),
        of("sleeps by function", &["offcputime"])
            .like(&["sleeps"], &["self_us", "total_us"])
            .largest_of(ALL_ROWS),
        of("files", &["filetop", WHOLE[0], WHOLE[1]]).like(&["files"], &["all"]),
        of("requests to disks", &["biolatency"]).like(&["requests"], TIMES),
        of("samples by function", &["profile"]).like(&["samples"], &["self", "total"]).largest_of(ALL_ROWS),
        of("opens by program", &["opensnoop", "--by", "comm"]),
    ]
}
