//! The loss ledger: reads what the programs counted, per processor and tick, and turns it into rows.
//!
//! The counters only ever grow, and a tick's slot is used again after eight ticks, so a difference
//! between two readings belongs to one tick as long as the reader is not eight ticks late; totals
//! are exact whenever it reads.

use super::record::Row;
use anyhow::{Context as _, Result};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::collections::BTreeMap;

/// As in `bpf/common.bpf.h`.
pub const TABLES: usize = 64;
const TICKS: usize = 8;
const TICK_SHIFT: u32 = 30;
const COUNTERS: usize = 3;
/// Filtered and left out, per table.
const PLAIN: usize = 2 * TABLES;
/// Words before them: bytes in the ring, the run queue, and what was added up.
const HEAD: usize = 3;
const ADDED: usize = 2;
const WORDS: usize = HEAD + PLAIN + TABLES * TICKS * COUNTERS;

/// What the programs counted for one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records put into the ring.
    pub stored: u64,
    /// Events that a filter rejected.
    pub filtered: u64,
    /// Events that the governor left out.
    pub left_out: u64,
    /// Lost: no space in the ring.
    pub ring_full: u64,
    /// Lost: no space in a map, or the kernel did not tell of one half of what is recorded as one.
    pub state_full: u64,
}

impl Counts {
    /// Events that a probe saw.
    #[must_use]
    pub fn attempted(&self) -> u64 {
        self.stored + self.filtered + self.left_out + self.ring_full + self.state_full
    }

    /// Events that are gone.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ring_full + self.state_full
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.filtered += other.filtered;
        self.left_out += other.left_out;
        self.ring_full += other.ring_full;
        self.state_full += other.state_full;
    }
}

/// Reads the counters and remembers what it has seen.
#[derive(Default)]
pub struct Ledger {
    seen: Vec<Vec<u64>>,
    read_at: u64,
    totals: BTreeMap<usize, Counts>,
    /// Events that the programs added up.
    added: u64,
    /// Rows that did not come through a ring.
    taken: u64,
}

impl Ledger {
    /// Starts at `now` (ns) with the counters as they are: what was counted before is not part of the recording.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn start(map: &MapHandle, now: u64) -> Result<Self> {
        let mut ledger = Self { read_at: now, ..Self::default() };
        ledger.read(map, now)?;
        ledger.totals.clear();
        ledger.added = 0;
        Ok(ledger)
    }

    /// Totals per table so far.
    #[must_use]
    pub fn totals(&self) -> &BTreeMap<usize, Counts> {
        &self.totals
    }

    /// Events that the probes saw: those of a row each, and those that were added up.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.totals.values().map(Counts::attempted).sum::<u64>() + self.added - self.taken
    }

    /// Events that the programs added up.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Counts rows that did not come through a ring, and returns the row that says so.
    pub fn stored(&mut self, span: (u64, u64), table: usize, stored: u64) -> Vec<u8> {
        let counts = Counts { stored, ..Counts::default() };
        *self.totals.entry(table).or_default() += counts;
        self.taken += stored;
        row(usize::from(u16::MAX), table, span, counts)
    }

    /// Counts events that no program could count as lost, and returns the row that says so.
    pub fn lost(&mut self, span: (u64, u64), table: usize, lost: u64) -> Vec<u8> {
        let counts = Counts { state_full: lost, ..Counts::default() };
        *self.totals.entry(table).or_default() += counts;
        row(usize::from(u16::MAX), table, span, counts)
    }

    /// Reads the map and returns one row per processor, table and tick with news, for table `ledger`.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn read(&mut self, map: &MapHandle, now: u64) -> Result<Vec<Vec<u8>>> {
        let values = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY).context("read the ledger")?;
        let values: Vec<Vec<u64>> =
            values.context("the ledger has its one entry")?.iter().map(|value| words(value)).collect();
        Ok(self.update(values, now))
    }

    fn update(&mut self, values: Vec<Vec<u64>>, now: u64) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        let empty = vec![0; WORDS];
        for (cpu, value) in values.iter().enumerate() {
            let seen = self.seen.get(cpu).unwrap_or(&empty);
            let difference = |at: usize| value.get(at).copied().unwrap_or(0).wrapping_sub(seen[at]);
            self.added += difference(ADDED);
            for table in 0..TABLES {
                // These have no ticks: all that is known is that it was since the last reading. Counts are scaled by
                // what was left out, so that has a row that says so.
                let (mut filtered, left_out) = (difference(HEAD + table), difference(HEAD + TABLES + table));
                if left_out > 0 {
                    let counts = Counts { left_out, ..Counts::default() };
                    *self.totals.entry(table).or_default() += counts;
                    rows.push(row(cpu, table, (self.read_at, now), counts));
                }
                for (tick, span) in ticks(self.read_at, now) {
                    let at = HEAD + PLAIN + (table * TICKS + tick) * COUNTERS;
                    let counts = Counts {
                        stored: difference(at),
                        ring_full: difference(at + 1),
                        state_full: difference(at + 2),
                        filtered: std::mem::take(&mut filtered),
                        ..Counts::default()
                    };
                    if counts != Counts::default() {
                        *self.totals.entry(table).or_default() += counts;
                        rows.push(row(cpu, table, span, counts));
                    }
                }
            }
        }
        self.seen = values
            .into_iter()
            .map(|mut value| {
                value.resize(WORDS, 0);
                value
            })
            .collect();
        self.read_at = now;
        rows
    }
}

fn words(value: &[u8]) -> Vec<u64> {
    value
        .chunks_exact(8)
        .map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("chunks of eight")))
        .collect()
}

/// The ticks' slots, the latest tick first, each with the span that its news belong to: from the last
/// reading (or the tick's begin, if later) to now (or the tick's end, if earlier).
fn ticks(from: u64, to: u64) -> impl Iterator<Item = (usize, (u64, u64))> {
    let last = to >> TICK_SHIFT;
    (0..TICKS as u64).map(move |back| {
        let tick = last.saturating_sub(back);
        let late = back == TICKS as u64 - 1 && from >> TICK_SHIFT < tick;
        let begin = if late { from } else { (tick << TICK_SHIFT).max(from).min(to) };
        let end = ((tick + 1) << TICK_SHIFT).min(to).max(begin);
        ((tick % TICKS as u64) as usize, (begin, end))
    })
}

fn row(cpu: usize, table: usize, span: (u64, u64), counts: Counts) -> Vec<u8> {
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let counted =
        [counts.stored, counts.filtered, counts.ring_full, counts.state_full, 0, 0, 0, counts.left_out];
    entry(span, small(cpu), small(table), counted)
}

/// Processor, table and stored records of a row.
#[must_use]
pub fn stored_in(row: &[u8]) -> (u16, usize, u64) {
    let small = |at: usize| row[at..].first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
    (small(16), small(18).into(), row[20..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

/// The row for events that user space took and could not write.
#[must_use]
pub fn discarded_row(begin: u64, end: u64, table: u16, discarded: u64) -> Vec<u8> {
    entry((begin, end), u16::MAX, table, [0, 0, 0, 0, discarded, 0, 0, 0])
}

/// The row for events that were counted in one file of a set and are in the next: (in, out).
#[must_use]
pub fn carried_row(at: u64, table: u16, (carried_in, carried_out): (u64, u64)) -> Vec<u8> {
    entry((at, at), u16::MAX, table, [0, 0, 0, 0, 0, carried_in, carried_out, 0])
}

fn entry((begin, end): (u64, u64), cpu: u16, table: u16, counted: [u64; 8]) -> Vec<u8> {
    let row = Row::new().u64(begin).u64(end).u16(cpu).u16(table);
    counted.into_iter().fold(row, Row::u64).bytes()
}

/// Table and number of stored records in a row of the ledger.
#[must_use]
pub fn stored_of(row: &[u8]) -> Option<(u16, u64)> {
    let table = row.get(18..20)?.first_chunk::<2>()?;
    let stored = row.get(20..28)?.first_chunk::<8>()?;
    Some((u16::from_le_bytes(*table), u64::from_le_bytes(*stored)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1 << TICK_SHIFT;

    fn value(table: usize, tick: usize, stored: u64, ring_full: u64) -> Vec<u64> {
        let mut words = vec![0; WORDS];
        let at = HEAD + PLAIN + (table * TICKS + tick) * COUNTERS;
        words[at] = stored;
        words[at + 1] = ring_full;
        words[HEAD + table] = 7;
        words
    }

    #[test]
    fn news_belong_to_their_tick_and_totals_are_exact() {
        let mut ledger = Ledger { read_at: 10 * SECOND, ..Ledger::default() };
        assert_eq!(ledger.update(vec![value(3, 10 % TICKS, 5, 1)], 10 * SECOND + SECOND / 2).len(), 1);
        let rows = ledger.update(vec![value(3, 10 % TICKS, 9, 2)], 11 * SECOND + 1);
        assert_eq!(rows.len(), 1, "only tick 10 has news");
        assert_eq!(rows[0][..8], (10 * SECOND + SECOND / 2).to_le_bytes());
        assert_eq!(rows[0][8..16], (11 * SECOND).to_le_bytes());
        assert_eq!(ledger.totals()[&3], Counts { stored: 9, filtered: 7, ring_full: 2, ..Counts::default() });
        assert_eq!(ledger.totals()[&3].attempted(), 18);
    }

    #[test]
    fn a_row_says_what_was_stored_where_the_table_has_it() {
        let counts = Counts { stored: 11, filtered: 12, ..Counts::default() };
        assert_eq!(stored_of(&row(1, 7, (2, 3), counts)), Some((7, 11)));
        let layout = super::super::record::Own::Ledger.layout();
        let offset = |name| layout.find(|column| column.name == name).expect("a column").offset;
        assert_eq!((offset("table"), offset("stored")), (18, 20));
        assert_eq!(row(1, 7, (2, 3), counts).len(), layout.size);
    }

    #[test]
    fn what_was_added_up_counts_by_the_event_not_by_the_row() {
        let mut ledger = Ledger::default();
        let mut words = value(3, 1, 5, 1);
        words[ADDED] = 1000;
        ledger.update(vec![words], SECOND + 1);
        ledger.stored((0, SECOND), 4, 20);
        assert_eq!(ledger.totals()[&4].stored, 20);
        assert_eq!(ledger.hits(), 5 + 1 + 7 + 1000);
    }

    #[test]
    fn a_late_reader_still_gets_every_count_once() {
        let mut ledger = Ledger { read_at: SECOND, ..Ledger::default() };
        let mut late = vec![0; WORDS];
        (0..TICKS).for_each(|tick| late[HEAD + PLAIN + (2 * TICKS + tick) * COUNTERS] = 100);
        ledger.update(vec![late], 40 * SECOND);
        assert_eq!(ledger.totals()[&2].stored, 800);
    }
}
