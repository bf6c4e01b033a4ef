//! The command line.

use super::governor::{parse_rate, parse_share};
use super::groups::{expand, words};
use super::limit::{Limit, parse_duration, parse_interval, parse_limit, parse_size};
use super::place::CpuList;
use super::sampling;
use super::threshold;
use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Record what the kernel does into a trace file; `analyze` answers questions from it later.
#[expect(
    clippy::doc_markdown,
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "switches, named as they are typed; the help is plain text"
)]
#[derive(Debug, Parser)]
#[command(name = "capture", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    /// Trace file to write; `-` writes to standard output
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["list", "dump", "dry_run"])]
    pub output: Option<PathBuf>,

    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,

    /// Stop after this time (500ms, 30s, 5m)
    #[arg(short, long, visible_alias = "max-duration", value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Stop before the recording takes more on disk than this (64MiB, 2GiB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Stop when less than this is free where the trace is written
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB")]
    pub min_free: u64,

    /// Record fewer flows and tasks when the recording takes more of all processors than this (1%, 0.5%): to measure that
    /// takes CAP_SYS_ADMIN
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub max_overhead: Option<f64>,

    /// Record fewer flows or tasks of a group when it has more events each second (net=100000)
    #[arg(long, value_name = "GROUP=N", value_parser = parse_rate)]
    pub max_rate: Vec<(String, f64)>,

    /// Begin a new file of this size, age, or both (1GiB, 10m, 1GiB/10m): FILE.000001, FILE.000002, …, each complete in itself
    #[arg(long, value_name = "LIMIT", value_parser = parse_limit, conflicts_with = "flight")]
    pub rotate: Option<Limit>,

    /// Of the files of --rotate or --flight keep only so many, the latest
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,

    /// Flight recorder: keep the last seconds in memory (30s, 512MiB, or 30s,512MiB), and write them to FILE.000001, …
    /// on SIGUSR1, --dump or a --trigger
    #[arg(long, value_name = "LIMIT", value_parser = parse_limit)]
    pub flight: Option<Limit>,

    /// What makes the flight recorder write
    #[arg(long, value_name = "WHAT", requires = "flight", help = TRIGGERS)]
    pub trigger: Vec<String>,

    /// How much of what follows a trigger is in its dump too
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s", requires = "flight")]
    pub post: Duration,

    /// After a dump take no notice of triggers for this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s", requires = "flight")]
    pub cool_down: Duration,

    /// Ask the flight recorder that was started with -o FILE to write, and print the name of what it wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "list"])]
    pub dump: Option<PathBuf>,

    /// Probe groups to record, separated by commas: see --list [default: `default`, which stands for several; with -e alone, no group]
    #[arg(short, long, value_name = "GROUPS", value_delimiter = ',', value_parser = words(), hide_possible_values = true)]
    pub groups: Option<Vec<String>>,

    /// Record a probe of your own, as in `t:sched:sched_switch`, `f:tcp_sendmsg(size)`, `ur:c:malloc(arg1)`; or a
    /// preset: dns, bash, ssl (lengths only), mysql, malloc, memleak
    #[arg(short = 'e', long = "probe", value_name = "SPEC")]
    pub probes: Vec<String>,

    /// Read probes as for -e from FILE, one in a line; # begins a comment
    #[arg(short = 'f', long = "probes-from", value_name = "FILE")]
    pub probe_files: Vec<PathBuf>,

    /// System calls: add them up in the kernel, or record each
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub syscalls: Syscalls,

    /// How often group `stat` takes stock
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "1s")]
    pub stat_interval: Duration,

    /// How often what is added up in the kernel is written
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "1s")]
    pub agg_interval: Duration,

    /// Record only these processes and their descendants
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Record only this thread; COMMAND then says for how long
    #[arg(short, long, value_name = "TID")]
    pub tid: Option<u32>,

    /// Record only threads of this name
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,

    /// Record only tasks of this user id or name
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,

    /// Record only tasks in this cgroup v2 directory and below
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Record only this network namespace: a name of `ip netns`, or a path such as /proc/PID/ns/net
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<String>,

    /// Record only TCP sockets with this local or remote port, and no event without a socket
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// With COMMAND: record the whole system, not only the command and its descendants
    #[arg(short, long)]
    pub all: bool,

    /// Leave the arguments of commands out
    #[arg(long)]
    pub no_args: bool,

    /// Samples per second on each processor (group cpu)
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = sampling::DEFAULT_HZ, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub frequency: u32,

    /// Record only runs, sleeps and waits of at least this time, and these with stacks (group sched)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_wait: Option<Duration>,

    /// Record only calls that took at least this time (file=1ms, net=5ms, syscalls=100us): shorter ones are counted as
    /// filtered. Sends and receives, calls about files, and system calls with `--syscalls each`
    #[arg(long, value_name = "GROUP=TIME", value_delimiter = ',', value_parser = threshold::parse)]
    pub min_latency: Vec<(String, Duration)>,

    /// Do not look up names of functions at the end: `analyze --symbols` can do so later
    #[arg(long)]
    pub no_symbols: bool,

    /// Write pseudonyms instead of names and arguments: equal ones stay equal
    #[arg(long)]
    pub hash_names: bool,

    /// Write pseudonyms instead of addresses: those that share a prefix still do
    #[arg(long)]
    pub hash_addresses: bool,

    /// Key of the pseudonyms, so that several recordings have the same; only its owner may read it
    /// (umask 077; head -c32 /dev/urandom >FILE). Without it each has its own, which nobody knows
    #[arg(long, value_name = "FILE")]
    pub hash_key_file: Option<PathBuf>,

    /// Run COMMAND as this user
    #[arg(long, value_name = "NAME", requires = "command")]
    pub user: Option<String>,

    /// Once all is attached, keep only the capabilities that the rest needs: CAP_BPF and CAP_PERFMON, and for further files as
    /// root CAP_DAC_OVERRIDE and CAP_CHOWN, for names of functions what looking them up takes. What the probes cost is
    /// then not estimated
    #[arg(long, conflicts_with = "max_overhead")]
    pub least_privilege: bool,

    /// Attach a probe in this way only (see --list), or leave it out: PROBE=none. Where --list says that exec_failed or
    /// sock_accept is a tracepoint, leaving it out saves the whole machine 60 ns on each system call
    #[arg(long, value_name = "PROBE=KIND")]
    pub attach: Vec<String>,

    /// Bound of rings, batches and queue together (32MiB); half of it are the rings [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,

    /// Total size of the kernel-side rings in KiB [default: 8192]
    #[arg(long, value_name = "KIB")]
    pub rings: Option<u32>,

    /// Run the recorder on these processors only (0-3,8)
    #[arg(long, value_name = "LIST")]
    pub cpu_list: Option<CpuList>,

    /// Priority of the recorder, -20 to 19: higher gives way to others
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub nice: Option<i32>,

    /// zstd level of the trace
    #[arg(long, value_name = "LEVEL", default_value_t = 1, allow_negative_numbers = true)]
    pub level: i32,

    /// Leave writing to disk to the kernel: a power loss may then cost more than a second
    #[arg(long)]
    pub no_sync: bool,

    /// Say what this kernel can attach and how, and exit; or list the probes of a PATTERN for -e with their arguments, as in
    /// 'tcp:*', 'f:tcp_*', 'f:tcp_sendmsg(sk)', 'rt:sched_*', 'u:c:*alloc', 'usdt:/usr/bin/python3:*'
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "")]
    pub list: Option<String>,

    /// Record nothing: count for this time, and say what a recording would take
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["output", "command"])]
    pub dry_run: Option<Duration>,

    /// No progress and no summary
    #[arg(short, long)]
    pub quiet: bool,

    /// When to show progress
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub progress: When,

    /// Do not read the rings for this time after the start, to provoke loss in tests
    #[arg(long, value_name = "TIME", value_parser = parse_duration, hide = true)]
    pub stall: Option<Duration>,

    /// Room for so many sockets, calls and tasks in each map that the programs keep, to fill these in tests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), hide = true)]
    pub state_limit: Option<u32>,

    /// Command to run and record; its exit status becomes ours
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl Args {
    /// Whether standard output is taken by the trace.
    #[must_use]
    pub fn writes_to_stdout(&self) -> bool {
        self.output.as_deref() == Some(std::path::Path::new("-"))
    }

    /// The groups to record: those that are named; with probes of the user's own none, else the usual ones.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        match &self.groups {
            Some(groups) => expand(groups),
            None if self.names_probes() => Vec::new(),
            None => expand(&["default".to_owned()]),
        }
    }

    /// Whether the recording is of some tasks, not of the whole system.
    #[must_use]
    pub fn selects_tasks(&self) -> bool {
        let of_the_command = !self.command.is_empty() && !self.all;
        let named = self.comm.is_some() || self.uid.is_some() || self.cgroup.is_some();
        of_the_command || named || !self.pid.is_empty() || self.tid.is_some()
    }

    fn names_probes(&self) -> bool {
        !self.probes.is_empty() || !self.probe_files.is_empty()
    }

    /// The probes of the command line, and those of the files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn all_probes(&self) -> anyhow::Result<Vec<Asked>> {
        let mut probes: Vec<Asked> =
            self.probes.iter().map(|text| Asked { text: text.clone(), by: "-e".into() }).collect();
        for path in &self.probe_files {
            let name = format!("-f {}", path.display());
            let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
            let lines = (1..).zip(text.lines().map(without_comment)).filter(|(_, line)| !line.is_empty());
            probes.extend(
                lines.map(|(line, text)| Asked { text: text.into(), by: format!("{name}, line {line}") }),
            );
        }
        Ok(probes)
    }
}

/// A probe that the user names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it is, or a preset.
    pub text: String,
    /// Where that stands, for what is said of it.
    pub by: String,
}

/// A comment begins with `#`, at the begin of a line or behind a space: a format may have `%#x`.
fn without_comment(line: &str) -> &str {
    let comment = line
        .match_indices('#')
        .find(|(at, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at]).trim()
}

/// When to do something that suits a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If standard error is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

const TRIGGERS: &str = "\
What makes the flight recorder write: a row (TABLE, or TABLE.COLUMN>VALUE, as in sock_send.latency>100ms or \
process_exit.code!=0), a latency of a report (tcplat.response>100ms, biolatency>50ms), lost events (lost), stalls (psi:memory:some:10%), a file that appears (file:PATH), the end \
of the recording (end)";

/// What group `syscalls` records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Syscalls {
    /// Each, if a filter selects tasks; else sums.
    Auto,
    /// Sums by process, number, error and power of two of the latency, per interval.
    Agg,
    /// Each call.
    Each,
}

const EXAMPLES: &str = "\
Examples:
  capture -o trace.bin -d 30s                    the default groups, the whole system, 30 seconds
  capture -o trace.bin -- curl http://localhost  a command and its descendants
  capture -o trace.bin -g net,net-rx --port 6379 what `analyze trace.bin tcplat` needs, for one port
  capture -o trace.bin --rotate 1GiB --keep 5    the last five files of 1 GiB each
  capture -o trace.bin --flight 30s,256MiB --trigger 'sock_recv.latency>200ms'
                                                 the 30 seconds before each slow receive
  capture --dump trace.bin                       … or whenever you like
  capture -o trace.bin -e dns -e t:oom:mark_victim
                                                 who looks up which host names, and a tracepoint
  capture --dry-run 2s                           what that would take, without recording
  capture --list                                 groups, probes, and how they attach here

Exit status: 0 recorded; 1 failed; 2 usage; with COMMAND its own status, or 125 when capture
failed, 126 when COMMAND cannot be run, 127 when it was not found.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn an_unknown_group_is_a_matter_of_usage() {
        let error = Args::try_parse_from(["capture", "-o", "t.bin", "-g", "proc,nett"]).expect_err("nett");
        assert_eq!(error.exit_code(), 2);
        let said = error.to_string();
        assert!(said.contains("'nett'") && said.contains("'net'") && said.contains("syscalls"), "{said}");
        Args::try_parse_from(["capture", "-o", "t.bin", "-g", "default,cpu"]).expect("known");
    }

    #[test]
    fn one_thread_is_some_tasks() {
        let selects = |words: &[&str]| {
            let words = ["capture", "-o", "t.bin"].iter().chain(words);
            Args::try_parse_from(words).expect("well formed").selects_tasks()
        };
        assert!(selects(&["--tid", "7"]) && selects(&["--pid", "7"]) && selects(&["--", "ls"]));
        assert!(!selects(&[]) && !selects(&["--all", "--", "ls"]) && !selects(&["--port", "80"]));
    }

    #[test]
    fn probes_of_a_file_know_their_lines() {
        let path = std::env::temp_dir().join(format!("tapedeck-probes-{}", std::process::id()));
        std::fs::write(&path, "# two\n\nt:a:b # one\ndns\n").expect("a folder for temporary files");
        let name = path.to_str().expect("plain");
        let args = Args::try_parse_from(["capture", "-o", "t.bin", "-e", "bash", "-f", name]).expect("known");
        let probes = args.all_probes().expect("it can be read");
        std::fs::remove_file(&path).expect("our own file");
        let probes: Vec<(&str, &str)> = probes.iter().map(|asked| (&*asked.text, &*asked.by)).collect();
        let (three, four) = (format!("-f {name}, line 3"), format!("-f {name}, line 4"));
        assert_eq!(probes, [("bash", "-e"), ("t:a:b", &*three), ("dns", &*four)]);
    }
}
