//! How sysstat's pidstat prints: blocks of columns, each below the time of its interval, or `Average:`.

use super::compat::{Line, Lines};
use std::io;

/// A part of the live tool's output: the column by which the answer has it, its heading, and name, width and digits of
/// each column.
type Part = (&'static str, &'static str, &'static [(&'static str, usize, usize)]);

const PARTS: [Part; 7] = [
    (
        "usr_pct",
        "    %usr %system  %guest   %wait    %CPU   CPU",
        &[
            ("usr_pct", 7, 2),
            ("system_pct", 7, 2),
            ("guest_pct", 7, 2),
            ("wait_pct", 7, 2),
            ("cpu_pct", 7, 2),
            ("cpu", 5, 0),
        ],
    ),
    (
        "minflt_s",
        "  minflt/s  majflt/s     VSZ     RSS",
        &[("minflt_s", 9, 2), ("majflt_s", 9, 2), ("vsz_kb", 7, 0), ("rss_kb", 7, 0)],
    ),
    // What of a stack is in use is not recorded.
    ("stk_kb", " StkSize", &[("stk_kb", 7, 0)]),
    (
        "rd_kb_s",
        "   kB_rd/s   kB_wr/s kB_ccwr/s iodelay",
        &[("rd_kb_s", 9, 2), ("wr_kb_s", 9, 2), ("ccwr_kb_s", 9, 2), ("iodelay_ms", 7, 0)],
    ),
    ("cswch_s", "   cswch/s nvcswch/s", &[("cswch_s", 9, 2), ("nvcswch_s", 9, 2)]),
    ("threads", " threads   fd-nr", &[("threads", 7, 0), ("fds", 7, 0)]),
    ("policy", "  prio policy", &[("prio", 5, 0), ("policy", 6, 0)]),
];

/// The only columns that are no averages, and no numbers.
const PROCESSOR: &str = "cpu";
const POLICY: &str = "policy";

/// All rows of an answer, below one time.
pub(crate) fn print(time: &str, lines: &Lines, out: &mut dyn io::Write) -> io::Result<()> {
    print_rows(time, lines, &lines.iter().collect::<Vec<_>>(), out)
}

/// Some rows of an answer.
pub(crate) fn print_rows(
    time: &str,
    lines: &Lines,
    rows: &[Line],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let threads = lines.has("tid");
    let ids = if threads { "   UID      TGID       TID" } else { "   UID       PID" };
    for (_, heading, columns) in PARTS.iter().filter(|part| lines.has(part.0)) {
        writeln!(out, "{time:<11}{ids}{heading}  Command")?;
        for row in rows {
            write!(out, "{time:<11} {:>5} {:>9}", row.int("uid"), row.int("pid"))?;
            if threads {
                write!(out, " {:>9}", row.int("tid"))?;
            }
            for &(name, width, digits) in *columns {
                match name {
                    PROCESSOR if !lines.has(super::table::TIME) => write!(out, " {:>width$}", "-")?,
                    POLICY => write!(out, " {:>width$}", row.text(name))?,
                    _ => write!(out, " {:>width$.digits$}", row.float(name))?,
                }
            }
            writeln!(out, "  {}", row.text("comm"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What pidstat calls a scheduling policy.
pub(crate) fn policy(number: u64) -> String {
    let names = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLN"];
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}
