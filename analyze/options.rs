//! The options that every verb has.

use super::error::Failure;
use super::window::duration;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One object with rows, units, notes and losses.
    Json,
    /// One object per row.
    Ndjson,
    /// RFC 4180.
    Csv,
    /// Typed columns; needs -o.
    Parquet,
}

/// Where intervals begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Align {
    /// At whole intervals of the host's wall clock.
    #[default]
    Wall,
    /// At the start of the span.
    Start,
}

/// Options that every verb has.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Options {
    /// Begin of the span: offset (10s, 1m30s, -5s from the end) or wall clock (12:01:07)
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// End of the span
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// One interval from this moment on
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with_all = ["from", "to"])]
    pub at: Option<String>,
    /// Condition in SQL on single events: "rport = 443 AND comm LIKE 'nginx%'"
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Condition in SQL on rows of the result
    #[arg(long, value_name = "SQL")]
    pub having: Option<String>,
    /// Break the result down by these columns; 'none' for the total
    #[arg(long, value_name = "COLUMNS")]
    pub by: Option<String>,
    /// Order of the rows: column[:asc|desc],…
    #[arg(long, value_name = "COLUMNS")]
    pub sort: Option<String>,
    /// At most so many rows (per interval, unless --sort is given); 0: all
    #[arg(long, value_name = "N", value_parser = rows)]
    pub top: Option<usize>,
    /// Length of an interval (1s, 100ms), or 'all' for the whole span
    #[arg(long, value_name = "TIME")]
    pub interval: Option<String>,
    /// Where intervals begin
    #[arg(long, value_enum, default_value_t)]
    pub align: Align,
    /// Output format [default: table, or by the name of -o FILE]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write the result to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// List the report's columns: those for --where and --by, and those of the result
    #[arg(long)]
    pub columns: bool,
    /// Print as the bcc tool of that name does
    #[arg(long)]
    pub compat: bool,
    /// Compare with a stored result; exit 4 if it differs
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// With --check: store the result instead
    #[arg(long, requires = "check")]
    pub update: bool,
    /// Read a trace that is still being written, or a pipe, and print intervals as they arrive
    #[arg(long)]
    pub follow: bool,
    /// In CSV, put ' before text that a spreadsheet would take for a formula
    #[arg(long)]
    pub csv_safe: bool,
    /// Times in UTC and not in the recording host's zone
    #[arg(long)]
    pub utc: bool,
    /// Threads that decode [default: as many as there are processors]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = threads)]
    pub threads: usize,
    /// The first page without what would have to be decoded: at once, whatever the size of the file
    #[arg(long)]
    pub quick: bool,
    /// What values and rows may take: beyond it percentiles are worked out from counts, in more passes, lists are
    /// printed piece by piece, and what has to be held as a whole is refused [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
}

/// More threads than any host has processors only cost: starting some thousand of them takes minutes.
const MOST_THREADS: usize = 512;

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number <= MOST_THREADS);
    number.ok_or_else(|| format!("expected a number up to {MOST_THREADS} (0: one for each processor)"))
}

/// `2GiB`, `512M`, `1000000`; decimal units are not guessed at: M and `MiB` are both 2^20.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 =
        text[..digits].parse().map_err(|_| "expected a size such as 2GiB or 512M".to_owned())?;
    let shift = match text[digits..].trim_end_matches('B').trim_end_matches('i') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        other => return Err(format!("unit '{other}': expected K, M or G")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "more than any machine has".to_owned())
}

impl Options {
    /// What values and rows may take, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(2 << 30)
    }

    /// The interval: as asked for, else the report's; `None`: all is one.
    pub fn interval(&self, default: Option<&str>) -> Result<Option<u64>, Failure> {
        match self.interval.as_deref().or(default) {
            None | Some("all") => Ok(None),
            Some(text) => duration(text).filter(|&length| length > 0).map(Some).ok_or_else(|| {
                Failure::usage(format!(
                    "--interval {text}: expected a length of time such as 1s or 100ms, or 'all'"
                ))
            }),
        }
    }

    /// An option that was given and that only reports have.
    pub fn of_reports(&self) -> Option<&'static str> {
        let given = [
            ("where", self.condition.is_some()),
            ("having", self.having.is_some()),
            ("by", self.by.is_some()),
            ("sort", self.sort.is_some()),
            ("top", self.top.is_some()),
            ("interval", self.interval.is_some() && self.at.is_none()),
            ("columns", self.columns),
            ("compat", self.compat),
            ("follow", self.follow),
        ];
        given.into_iter().find(|option| option.1).map(|option| option.0)
    }

    /// An option that was given and that a verb which writes a trace does not have.
    pub fn not_of(&self, verb: &str) -> Option<&'static str> {
        let span = [("from", &self.from), ("to", &self.to), ("at", &self.at), ("where", &self.condition)];
        let of_slice = span.into_iter().find(|option| option.1.is_some() && verb != "slice");
        let format = self.format.map(|_| "format").or(self.check.as_ref().map(|_| "check"));
        let of_reports = Self { condition: None, ..self.clone() }.of_reports();
        let of_answers = self.csv_safe.then_some("csv-safe");
        of_slice.map(|option| option.0).or(of_reports).or(of_answers).or(format)
    }

    /// Whether notes are printed with the rows.
    pub fn has_notes(&self) -> bool {
        matches!(self.format(), Format::Table | Format::Json) && !self.compat
    }

    /// The format: as asked for, else by the file's name.
    pub fn format(&self) -> Format {
        let by_name = || match self.output.as_ref()?.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            "parquet" => Some(Format::Parquet),
            _ => None,
        };
        self.format.or_else(by_name).unwrap_or_default()
    }
}

/// More rows than any answer has.
pub(crate) const ALL: usize = usize::MAX;

fn rows(text: &str) -> Result<usize, std::num::ParseIntError> {
    text.parse().map(|rows| if rows == 0 { ALL } else { rows })
}

#[cfg(test)]
mod tests {
    use super::threads;

    #[test]
    fn more_threads_than_any_host_has_processors_are_refused() {
        assert_eq!((threads("0"), threads("512")), (Ok(0), Ok(512)));
        for text in ["513", "100000", "-1", "two"] {
            assert!(threads(text).expect_err(text).contains("up to 512"), "{text}");
        }
    }
}
