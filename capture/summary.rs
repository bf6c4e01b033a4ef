//! What the user sees while recording, and at the end, on standard error.

use super::args::{Args, When};
use super::cost::{Cost, own_usage};
use super::end::End;
use super::ledger::Counts;
use super::plan::Plan;
use super::probes::Outcome;
use super::recorder::Written;
use crate::schema::Role;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The line that moves.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    last: (Instant, u64),
}

impl Progress {
    /// Shows itself on a terminal only, unless told otherwise.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        let wanted = match args.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stderr().is_terminal(),
        };
        let bar = (wanted && !args.quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, quiet: args.quiet, last: (Instant::now(), 0) }
    }

    /// Rate, size and losses so far.
    pub fn show(&mut self, written: &Written, lost: u64) {
        let rows: u64 = written.progress.totals.iter().map(|totals| totals.rows).sum();
        let rate = (rows.saturating_sub(self.last.1)) as f64 / self.last.0.elapsed().as_secs_f64().max(0.001);
        self.last = (Instant::now(), rows);
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "{rate:.0} events/s  {}  lost {}",
                HumanBytes(written.progress.bytes),
                HumanCount(lost)
            ));
        }
    }

    /// Says something while recording.
    pub fn say(&self, text: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(format!("capture: {text}")),
            None => tell(&format!("capture: {text}\n")),
        }
    }

    /// Takes the line away and prints the summary.
    pub fn finish(&self, summary: &Summary) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.quiet {
            tell(&summary.text());
        }
    }
}

/// Writes to standard error. That nobody reads it any more (`2>&1 | head`) must not end a recording, so unlike
/// `eprint!` this does not panic.
pub fn tell(text: &str) {
    _ = std::io::stderr().write_all(text.as_bytes());
}

/// The figures of a finished recording.
pub struct Summary<'a> {
    /// Tables and groups.
    pub plan: &'a Plan,
    /// The file.
    pub written: &'a Written,
    /// What the programs counted.
    pub ledger: &'a BTreeMap<usize, Counts>,
    /// What each probe got, and what the kernel missed.
    pub outcomes: &'a [Outcome],
    /// Records that made no sense.
    pub malformed: u64,
    /// What it took.
    pub cost: &'a Cost,
    /// Events that the probes saw, those too that were added up.
    pub hits: u64,
    /// Length in ns.
    pub span: u64,
    /// Why it ended.
    pub end: End,
    /// What is missing for want of a capability.
    pub lacking: Vec<&'static str>,
}

impl Summary<'_> {
    fn is_event(&self, table: usize) -> bool {
        self.plan.layouts.get(table).is_some_and(|layout| layout.def.role == Role::Event)
    }

    fn counts(&self) -> Counts {
        let events =
            self.ledger.iter().filter(|&(&table, _)| self.is_event(table)).map(|(_, counts)| *counts);
        events.fold(Counts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }

    /// As text: captured, filtered, lost by cause, bytes, cost.
    #[must_use]
    pub fn text(&self) -> String {
        let counts = self.counts();
        let rows: u64 = (0..)
            .zip(&self.written.progress.totals)
            .filter(|&(table, _)| self.is_event(table))
            .map(|(_, totals)| totals.rows)
            .sum();
        let seconds = self.span as f64 / 1e9;
        let mut text = String::new();
        let captured = HumanCount(rows);
        let _ = writeln!(
            text,
            "{captured} events captured in {seconds:.1} s, {} filtered out, {} lost",
            HumanCount(counts.filtered),
            HumanCount(self.lost(&counts))
        );
        if !self.end.is_planned() {
            let _ = writeln!(text, "ended: {}", self.end);
        }
        if counts.left_out > 0 {
            let _ = writeln!(text, "  left out {}: to keep within the bounds", HumanCount(counts.left_out));
        }
        self.write_losses(&mut text, &counts);
        self.write_files(&mut text, rows);
        self.write_cost(&mut text, seconds);
        if let (waits @ 1.., ns) = self.cost.waits() {
            let seconds = ns as f64 / 1e9;
            let _ = writeln!(
                text,
                "the writer was behind {waits} times, {seconds:.3} s in all: the rings held what came"
            );
        }
        for outcome in self.outcomes.iter().filter(|outcome| outcome.got.is_none() && !outcome.off) {
            let _ = writeln!(text, "not attached: {}: {}", outcome.probe, outcome.reasons.join("; "));
        }
        for what in &self.lacking {
            let _ = writeln!(text, "without {what}");
        }
        text
    }

    fn write_files(&self, text: &mut String, rows: u64) {
        let progress = &self.written.progress;
        let per_event = progress.bytes as f64 / rows.max(1) as f64;
        let _ = writeln!(text, "{} written ({per_event:.1} bytes per event)", HumanBytes(progress.bytes));
        if progress.let_go > 0 {
            let _ = writeln!(text, "{} events left the memory without a dump", HumanCount(progress.let_go));
        }
        for path in &progress.files {
            let _ = writeln!(text, "  {}", path.display());
        }
        for fault in progress.faults.iter().chain(&self.written.faults) {
            let _ = writeln!(text, "a dump failed: {fault}");
        }
    }

    fn lost(&self, counts: &Counts) -> u64 {
        let missed: u64 = self.outcomes.iter().map(|outcome| outcome.missed).sum();
        counts.lost() + missed + self.malformed + self.written.discarded.values().sum::<u64>()
    }

    fn write_losses(&self, text: &mut String, counts: &Counts) {
        let missed = self.outcomes.iter().map(|outcome| outcome.missed).sum();
        let causes = [
            (counts.ring_full, "no space in the ring (larger --rings may help)"),
            (counts.state_full, "no space in a map of the probes, or the kernel did not tell of one half"),
            (missed, "missed by the kernel"),
            (self.written.discarded.values().sum(), "taken from the ring but not written"),
            (self.malformed, "records that made no sense"),
        ];
        for (count, cause) in causes.iter().filter(|(count, _)| *count > 0) {
            let _ = writeln!(text, "  lost {}: {cause}", HumanCount(*count));
        }
    }

    fn write_cost(&self, text: &mut String, seconds: f64) {
        let own = own_usage();
        let cpu = (own.user_ns + own.system_ns) as f64 / 1e9;
        let _ = write!(
            text,
            "recorder: {cpu:.2} s CPU ({:.1} % of one), {} memory",
            100.0 * cpu / seconds.max(0.001),
            HumanBytes(own.rss)
        );
        let _ = match self.cost.estimate(self.hits) {
            Some((ns, _)) => writeln!(
                text,
                "; probes: about {:.3} s CPU ({:.0} ns per event, estimated)",
                ns as f64 / 1e9,
                ns as f64 / self.hits.max(1) as f64
            ),
            None if self.cost.is_refused() => {
                writeln!(text, "; probes: not estimated, which takes CAP_SYS_ADMIN")
            }
            None => writeln!(text, "; probes: not estimated, since nothing happened while it was measured"),
        };
    }
}
