//! What each probe was meant to get, what it got, and why.
//!
//! An event table is filled by the probe of the same name, and by those that say so. Some probes tell a filter what
//! is wanted: which processes are descendants, which sockets are theirs. What such a probe misses may cost events of
//! any table, and nobody can say how many.

use super::escape::lossless;
use super::trace::Trace;
use std::collections::BTreeMap;

/// One probe's fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// The way of attaching that it got, or empty.
    pub kind: String,
    /// The best way.
    pub wanted: String,
    /// `attached`, `failed` or `off`.
    pub status: String,
    /// Why better ways were not taken.
    pub reason: String,
    /// `table.column` that this way cannot fill.
    pub absent: String,
    /// Hits that the kernel did not run the program for.
    pub missed: u64,
    /// The event table that it fills; empty: the one of its own name.
    pub fills: String,
    /// What the filters of the recording learned from it; empty: nothing.
    pub feeds: String,
}

impl Probe {
    /// One line: what it got, and why not the best.
    pub fn describe(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        match self.status.as_str() {
            "attached" if self.kind == self.wanted => format!("{} by {}", self.name, self.kind),
            "attached" => format!("{} by {} instead of {}{why}", self.name, self.kind, self.wanted),
            status => format!("{} {status}{why}", self.name),
        }
    }
}

/// All probes by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    by_name: BTreeMap<String, Probe>,
}

impl Probes {
    /// The last row of a name counts.
    pub fn load(trace: &Trace) -> Self {
        let mut probes = Self::default();
        let Some(rows) = trace.gather("probe") else { return probes };
        let text = |name, row| {
            rows.def.column(name).map_or(String::new(), |column| lossless(rows.bytes(column, row)))
        };
        for row in 0..rows.len() {
            let probe = Probe {
                name: text("name", row),
                group: text("group", row),
                kind: text("kind", row),
                wanted: text("wanted", row),
                status: text("status", row),
                reason: text("reason", row),
                absent: text("absent", row),
                missed: rows.def.column("missed").map_or(0, |column| rows.raw(column, row)),
                fills: text("fills", row),
                feeds: text("feeds", row),
            };
            probes.by_name.insert(probe.name.clone(), probe);
        }
        probes
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Probe> {
        self.by_name.values()
    }

    /// Hits that the kernel missed of those that fill a table.
    pub fn missed(&self, table: &str) -> u64 {
        let fills = |probe: &&Probe| probe.fills == table || probe.fills.is_empty() && probe.name == table;
        self.iter().filter(fills).fold(0, |missed, probe| missed.saturating_add(probe.missed))
    }

    /// Hits that the filters missed: of several probes that tell the same, those that none of them can have told.
    pub fn missed_by_filters(&self) -> u64 {
        let mut least: BTreeMap<&str, u64> = BTreeMap::new();
        for probe in self.iter().filter(|probe| !probe.feeds.is_empty() && probe.status == "attached") {
            let missed = least.entry(&probe.feeds).or_insert(probe.missed);
            *missed = probe.missed.min(*missed);
        }
        least.into_values().fold(0, u64::saturating_add)
    }

    /// The probe that fills a table.
    pub fn of(&self, table: &str) -> Option<&Probe> {
        self.by_name.get(table)
    }
}
