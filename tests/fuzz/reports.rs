//! What the fuzz targets of the analyzer do with their input: a trace made from it (`pieces.rs`), and one command line
//! on that. Nothing may panic, hang, or send a terminal a command.

#[path = "pieces.rs"]
mod pieces;

use pieces::{Choices, FIXTURES, Pieces};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No single command line on such a small trace works longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Linux counts processor time in these.
const TICK: Duration = Duration::from_millis(10);
/// Things that are changed in one trace, at most.
const MOST: usize = 8;

/// A fixture in which some things are not as they were; the file may be cut or flipped after that.
pub fn report(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut line: Vec<&str> = verb(&mut choices);
    line.extend(choices.of(&MORE));
    let damage = choices.below(8);
    let mut pieces = choices_of_fixture(&mut choices);
    for _ in 0..MOST {
        if choices.is_empty() {
            break;
        }
        pieces.mutate(&mut choices);
    }
    let mut bytes = pieces.bytes();
    let at = choices.below(bytes.len().min(65_536)) * bytes.len().div_ceil(65_536);
    match damage {
        6 => bytes[at] ^= 0x10,
        7 => bytes.truncate(at),
        _ => {}
    }
    ask(&bytes, &line);
}

/// A fixture whose tasks, sockets, files, stacks are the input's, and a question about them.
pub fn identity(data: &[u8]) {
    let mut choices = Choices::new(data);
    let line = choices.of(&NAMING);
    let mut pieces = choices_of_fixture(&mut choices);
    pieces.name_anew(&mut choices);
    ask(&pieces.bytes(), &line.split(' ').collect::<Vec<_>>());
}

fn choices_of_fixture(choices: &mut Choices) -> Pieces {
    FIXTURES[choices.below(FIXTURES.len())].clone()
}

/// Questions that look names up, follow references, or write names. The corpus numbers them: new ones go to the end.
const NAMING: [&str; 38] = [
    "tcpsend --by comm,ppid",
    "tcpsend --by connection,owner_comm --interval all",
    "tcptop",
    "tcplife",
    "flows",
    "tcplat --by comm",
    "execsnoop",
    "exitsnoop",
    "opensnoop --full-path --extended",
    "filetop --by comm,type",
    "filelife",
    "profile",
    "profile --folded",
    "profile --compat",
    "events --table task --format json",
    "events --table sock --format csv",
    "redact --names hash --addresses hash -o OUT --force",
    "slice --from 1s --to -1s -o OUT --force",
    "merge -o OUT --force",
    "check",
    "biolatency --by comm",
    "biosnoop",
    "biotop",
    "bitesize",
    "runqlat --by comm",
    "runqslower",
    "offcputime --folded",
    "wakeuptime --folded",
    "cpudist --by comm",
    "migrations --by comm",
    "syscount --process",
    "pidstat",
    "trace",
    "stackcount --folded",
    "memleak",
    "gethostlatency",
    "sslsniff --format csv",
    "funclatency --by comm",
];

/// Options that most reports have. The corpus numbers them too.
const MORE: [&[&str]; 16] = [
    &[],
    &["--format", "json"],
    &["--interval", "all", "--format", "csv"],
    &["--by", "comm", "--format", "ndjson"],
    &["--where", "comm LIKE '%a%' OR rport > 0"],
    &["--where", "latency > 1000 OR ret >= 0", "--by", "none"],
    &["--from", "1s", "--to", "-1s"],
    &["--by", "connection", "--format", "csv"],
    &["--interval", "10ms", "--top", "3", "--sort", "lower_bound"],
    &["--memory", "100"],
    &["--compat"],
    &["--having", "lower_bound OR calls > 0"],
    &["--format", "parquet", "-o", "OUT"],
    &["--by", "host", "--format", "csv"],
    &["--by", "comm", "--csv-safe", "--format", "csv", "--utc"],
    &["--interval", "all", "--format", "json", "-o", "OUT"],
];

/// A report or another verb, with what it needs.
fn verb(choices: &mut Choices) -> Vec<&'static str> {
    const OTHERS: [&[&str]; 15] = [
        &[],
        &["info"],
        &["check"],
        &["list"],
        &["--quick"],
        &["sql", "SELECT * FROM sock_send"],
        // A mutated span can be any, and each interval of it is shown: that is long, and no fault.
        &["replay", "tcptop", "--speed", "max", "--to", "10s"],
        &["recover", "-o", "OUT", "--force"],
        &["slice", "--where", "rport > 0", "-o", "OUT", "--force"],
        &["redact", "-o", "OUT", "--force"],
        &["argdist", "-H", "ret"],
        &["syscount", "--latency"],
        &["sql", "SELECT comm, count(*) AS n FROM faults GROUP BY comm ORDER BY n"],
        &["sql", "SELECT * FROM sched_wait JOIN task ON sched_wait.tid = task.tid LIMIT 9"],
        &["replay", "runqlat", "--speed", "max", "--to", "10s"],
    ];
    const SOCKETS: [&str; 7] =
        ["sock_send", "task", "sock", "ledger", "tcp_state", "process_exec", "file_io"];
    const REST: [&str; 8] =
        ["block_rq", "sched_wait", "sched_wake", "syscall_agg", "task_stat", "faults", "switches", "stack"];
    let tables = [&SOCKETS[..], &REST].concat();
    let reports: Vec<&str> = tapedeck::analyze::reports().collect();
    let at = choices.below(reports.len() + OTHERS.len());
    match reports.get(at) {
        Some(&"events") => vec!["events", "--table", choices.of(&tables)],
        Some(report) => vec![report],
        None => OTHERS[at - reports.len()].to_vec(),
    }
}

/// What this process has used so far, where procfs says so.
fn processor_time() -> Option<Duration> {
    let ticks = |stat: String| {
        let words: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(words.get(11)?.parse::<u32>().ok()? + words.get(12)?.parse::<u32>().ok()?)
    };
    std::fs::read_to_string("/proc/self/stat").ok().and_then(ticks).map(|ticks| TICK * ticks)
}

/// Answers, or says why not.
fn ask(trace: &[u8], line: &[&str]) {
    let path = |what: &str| -> PathBuf {
        let thread = std::thread::current().id();
        std::env::temp_dir().join(format!("tapedeck-fuzz-{}-{thread:?}.{what}", std::process::id()))
    };
    let (file, out_file) = (path("bin"), path("out"));
    std::fs::write(&file, trace).expect("the temporary folder takes a file");
    let text = |path: &Path| path.display().to_string();
    let words = line.iter().map(|&word| if word == "OUT" { text(&out_file) } else { word.to_owned() });
    let threads = (1 + trace.len() % 2).to_string();
    let head = ["analyze".to_owned(), "--threads".into(), threads, text(&file)];
    let beside = beside(line, &path("beside"));
    let args: Vec<String> = head.into_iter().chain(beside.as_deref().map(text)).chain(words).collect();
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    let (begin, worked) = (Instant::now(), processor_time());
    // On a terminal `replay` clears the screen itself.
    let terminal = line.first() != Some(&"replay");
    // That a misleading trace is refused is an answer too.
    let _ = tapedeck::analyze::run(&args, &mut out, &mut messages, terminal);
    // A machine that does something else meanwhile proves nothing.
    let worked = processor_time().zip(worked).map(|(now, before)| now.saturating_sub(before));
    let took = worked.map_or(begin.elapsed(), |worked| worked.min(begin.elapsed()));
    assert!(took < LONGEST, "{line:?} took {took:?}");
    // bcc's tools indent by tabs.
    let indents = line.contains(&"--compat");
    let commands = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\n' | b'\r') && !(indents && *byte == b'\t');
    assert!(!out.iter().chain(&messages).any(commands), "{line:?} sends control characters");
    for path in beside.iter().chain([&file, &out_file]) {
        // Not every line writes something.
        let _ = std::fs::remove_file(path);
    }
}

/// A whole fixture that a question about several is asked of as well.
fn beside(line: &[&str], path: &Path) -> Option<PathBuf> {
    let several = line.contains(&"merge") || line.contains(&"host");
    several.then(|| {
        std::fs::write(path, FIXTURES[0].bytes()).expect("the temporary folder takes a file");
        path.to_owned()
    })
}
