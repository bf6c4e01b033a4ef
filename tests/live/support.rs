//! Running the programs and reading what they leave.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Column, TraceReader};

/// Skips the test unless probes can be loaded here; with `REQUIRE_LIVE=1` that is a failure.
pub fn live() -> bool {
    let able = std::fs::metadata("/sys/kernel/btf/vmlinux").is_ok() && probes_load();
    assert!(able || std::env::var_os("REQUIRE_LIVE").is_none(), "REQUIRE_LIVE is set, but no probe can be loaded here");
    if !able {
        eprintln!("SKIPPED: needs root and a kernel that loads BPF programs");
    }
    able
}

fn probes_load() -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_capture")).arg("--list").output().expect("capture runs");
    String::from_utf8_lossy(&output.stdout).contains("probe process_exit   tracepoint")
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
    path.join("examples/truth")
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
    let mut capture = Command::new(env!("CARGO_BIN_EXE_capture"));
    capture.arg("-o").arg(&path).args(options).arg("--").arg(truth()).args(words).arg("--output").arg(&account);
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

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Not known.
    Null,
    /// A number.
    Number(i128),
    /// Text.
    Text(Vec<u8>),
}

impl Cell {
    /// The number; panics for anything else.
    pub fn number(&self) -> i128 {
        if let Self::Number(number) = self { *number } else { panic!("{self:?} is no number") }
    }
}

/// A row by column name.
pub type Row = BTreeMap<String, Cell>;

/// The rows of a table, straight from the file, in file order.
pub fn rows(path: &Path, table: &str) -> Vec<Row> {
    let trace = TraceReader::open(path).expect("a trace");
    assert!(trace.damage.is_empty() && trace.missing().is_empty(), "{:?}", trace.damage);
    let def = trace.table(table).unwrap_or_else(|| panic!("no table {table}"));
    let mut scratch = Scratch::new();
    let mut rows = Vec::new();
    for frame in trace.frames_of(def.number) {
        let batch = trace.read(frame, None, &mut scratch).expect("a whole frame");
        let texts: Vec<Vec<&[u8]>> =
            batch.columns.iter().map(|c| c.text().map(|t| t.iter().collect()).unwrap_or_default()).collect();
        for row in 0..batch.rows {
            let cell = |(index, column): (usize, &Column)| {
                let value = match column {
                    Column::Absent => Cell::Null,
                    Column::Text(_) => Cell::Text(texts[index][row].to_vec()),
                    _ => column.number(row).and_then(|n| def.columns[index].value(n)).map_or(Cell::Null, Cell::Number),
                };
                (def.columns[index].name.clone(), value)
            };
            rows.push(batch.columns.iter().enumerate().map(cell).collect());
        }
    }
    rows
}

/// Sum of a column over rows.
pub fn sum(rows: &[Row], column: &str) -> i128 {
    rows.iter().map(|row| if let Cell::Number(number) = row[column] { number } else { 0 }).sum()
}
