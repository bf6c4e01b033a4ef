//! What is missing, from every source that knows: the recorder's ledger, the kernel's miss counters,
//! sequence numbers of frames, frames that cannot be decoded.
//!
//! The recorder's ledger counts per processor, table and tick of 2^30 ns. Its sums close:
//!
//! ```text
//! attempted = stored + filtered + left_out + ring_full + state_full
//! rows in the file = stored - discarded + carried_in - carried_out
//! ```
//!
//! Rows are carried where one file of a set ends and the next begins: the programs counted them before
//! the border, and they were still in a ring.

use super::trace::Trace;
use super::window::Window;
use crate::schema::Role;
use crate::schema::absent::Absent;
use crate::schema::reader::Frame;
use std::collections::BTreeMap;

/// Sums of ledger rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records put into the ring.
    pub stored: u64,
    /// Rejected by a filter.
    pub filtered: u64,
    /// Lost: no space in the ring.
    pub ring_full: u64,
    /// Lost: no space in a map, or the kernel did not tell of one half of what is recorded as one.
    pub state_full: u64,
    /// Lost: taken from the ring, not written.
    pub discarded: u64,
    /// Not recorded, to keep the recording within its bounds.
    pub left_out: u64,
    /// Counted in the file before this one of a set, and in this one.
    pub carried_in: u64,
    /// Counted here, and in the next file of the set.
    pub carried_out: u64,
}

impl Counts {
    /// Rows that should be in the file.
    pub fn due(self) -> u64 {
        let counted = self.stored.saturating_add(self.carried_in);
        counted.saturating_sub(self.discarded.saturating_add(self.carried_out))
    }

    /// Events that are not in the file although no filter rejected them.
    pub fn lost(self) -> u64 {
        sum([self.ring_full, self.state_full, self.discarded, self.left_out])
    }

    /// Rows that a program had to say something about.
    pub fn attempted(self) -> u64 {
        sum([self.stored, self.filtered, self.left_out, self.ring_full, self.state_full])
    }

    fn add(&mut self, other: Self) {
        let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        add(&mut self.stored, other.stored);
        add(&mut self.filtered, other.filtered);
        add(&mut self.ring_full, other.ring_full);
        add(&mut self.state_full, other.state_full);
        add(&mut self.discarded, other.discarded);
        add(&mut self.left_out, other.left_out);
        add(&mut self.carried_in, other.carried_in);
        add(&mut self.carried_out, other.carried_out);
    }
}

/// A sum that a file cannot make overflow: its counts are as large as it says.
fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// One ledger row.
#[derive(Clone, Copy, Debug)]
struct Entry {
    window: Window,
    table: u16,
    counts: Counts,
}

/// Rows that are gone from the file between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    window: Window,
    table: u16,
    rows: u64,
    /// The frame that tells of them.
    told_at: Option<u64>,
}

/// The ledger of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    gaps: Vec<Gap>,
}

/// What is missing in a span, for some tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// From the ledger.
    pub counts: Counts,
    /// Hits that the kernel skipped; known for the whole recording only.
    pub kernel_missed: u64,
    /// Of those, what the filters should have learned from: how many events that cost is not known.
    pub filter_missed: u64,
    /// Rows that the file once held, or should.
    pub missing_rows: u64,
    /// Of several files, those that are known to lack rows, and how many.
    pub within: Vec<(String, u64)>,
    /// Places of the file that cannot be read, whatever they held.
    pub damage: Vec<String>,
    /// Parts of the recording that are not there, whatever they held.
    pub absent: Vec<String>,
    /// What the recorder did to keep within its bounds: see [`super::sampled`].
    pub steps: Vec<String>,
}

impl Losses {
    /// Adds what another recording, of that name, lost.
    pub fn add(&mut self, name: &str, other: Self) {
        if other.within.is_empty() && other.events() > 0 {
            self.within.push((name.to_owned(), other.events()));
        }
        self.within.extend(other.within.iter().cloned());
        self.counts.add(other.counts);
        self.kernel_missed = self.kernel_missed.saturating_add(other.kernel_missed);
        self.filter_missed = self.filter_missed.saturating_add(other.filter_missed);
        self.missing_rows = self.missing_rows.saturating_add(other.missing_rows);
        let named = |what: Vec<String>| what.into_iter().map(move |what| format!("{name}: {what}"));
        self.damage.extend(named(other.damage));
        self.absent.extend(named(other.absent));
        self.steps.extend(named(other.steps));
    }

    /// Events that are known to be gone.
    pub fn events(&self) -> u64 {
        sum([self.counts.lost(), self.kernel_missed, self.missing_rows])
    }

    /// Nothing is missing.
    pub fn none(&self) -> bool {
        self.events() == 0 && self.filter_missed == 0 && self.damage.is_empty() && self.absent.is_empty()
    }

    /// The causes that apply, with their counts.
    pub fn causes(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("ring_full", self.counts.ring_full),
            ("state_full", self.counts.state_full),
            ("discarded", self.counts.discarded),
            ("left_out", self.counts.left_out),
            ("kernel_missed", self.kernel_missed),
            ("missing_rows", self.missing_rows),
        ];
        all.into_iter().filter(|cause| cause.1 > 0).collect()
    }
}

impl Ledger {
    /// Reads table `ledger`, and finds what the file lost afterwards.
    pub fn load(trace: &Trace) -> Self {
        let mut ledger = Self { entries: entries(trace).unwrap_or_default(), gaps: Vec::new() };
        let seen = ledger.find_gaps(trace);
        ledger.find_cut(trace);
        ledger.find_tails(trace, &seen);
        ledger
    }

    /// Each frame says how many rows of its table and stream came before it. Returns the last moment of each.
    fn find_gaps(&mut self, trace: &Trace) -> BTreeMap<(u16, u16), u64> {
        let mut seen: BTreeMap<(u16, u16), (u64, u64)> = BTreeMap::new();
        for frame in trace.reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
            let header = &frame.header;
            let (rows, last) = seen.entry((header.table, header.stream)).or_insert((0, trace.span.from));
            if header.rows_before > *rows {
                let window = Window { from: *last, to: header.min_time.max(*last).saturating_add(1) };
                let told_at = Some(frame.offset);
                let rows = header.rows_before - *rows;
                self.gaps.push(Gap { window, table: header.table, rows, told_at });
            }
            *rows = header.rows_before.saturating_add(header.rows.into());
            *last = header.max_time.max(*last);
        }
        seen.into_iter().map(|(key, (_, last))| (key, last)).collect()
    }

    /// The last frame of a table and stream, where it is cut: its header says what was in it. Of any other the next one says it.
    fn find_cut(&mut self, trace: &Trace) {
        if trace.reader.cut.is_empty() {
            return;
        }
        let of = |frame: &Frame| ((frame.header.table, frame.header.stream), frame.offset);
        let whole = trace.reader.frames.iter().filter(|frame| frame.header.kind.has_rows());
        let last: BTreeMap<(u16, u16), u64> = whole.map(of).collect();
        for frame in &trace.reader.cut {
            let (of, offset) = of(frame);
            if last.get(&of).is_none_or(|&last| last < offset) {
                let header = &frame.header;
                let window = Window { from: header.min_time, to: header.max_time.saturating_add(1) };
                let (rows, told_at) = (header.rows.into(), Some(offset));
                self.gaps.push(Gap { window, table: header.table, rows, told_at });
            }
        }
    }

    /// Rows that no later frame gives away, but that the ledger counted.
    fn find_tails(&mut self, trace: &Trace, seen: &BTreeMap<(u16, u16), u64>) {
        for (table, found, due) in self.unbalanced(trace) {
            let known = sum(self.gaps.iter().filter(|gap| gap.table == table).map(|gap| gap.rows));
            let last = seen.range((table, 0)..=(table, u16::MAX)).map(|(_, &last)| last).min();
            let window = Window { from: last.unwrap_or(trace.span.from), to: trace.span.to };
            let seen = found.saturating_add(known);
            if due > seen {
                self.gaps.push(Gap { window, table, rows: due - seen, told_at: None });
            }
        }
    }

    /// Rows that the file once held, or should, with their table and the span that they were of.
    pub fn gone(&self, trace: &Trace) -> Vec<(Window, u16, u64)> {
        let unreadable = trace.unreadable().into_iter().map(|(_, frame)| {
            let window = Window { from: frame.times.0, to: frame.times.1.saturating_add(1) };
            (window, frame.table, frame.rows)
        });
        self.gaps.iter().map(|gap| (gap.window, gap.table, gap.rows)).chain(unreadable).collect()
    }

    /// Sums per table number over the whole recording.
    pub fn totals(&self) -> BTreeMap<u16, Counts> {
        self.sums(|_| true)
    }

    fn sums(&self, of: impl Fn(&Entry) -> bool) -> BTreeMap<u16, Counts> {
        let mut totals: BTreeMap<u16, Counts> = BTreeMap::new();
        let entries = self.entries.iter().filter(|entry| of(entry));
        entries.for_each(|entry| totals.entry(entry.table).or_default().add(entry.counts));
        totals
    }

    /// What is missing of `tables` in a span. A tick that overlaps the span counts whole.
    pub fn losses(&self, trace: &Trace, window: Window, tables: &[u16]) -> Losses {
        let mut losses = Losses::default();
        let asked = |entry: &&Entry| tables.contains(&entry.table) && overlap(entry.window, window);
        self.entries.iter().filter(asked).for_each(|entry| losses.counts.add(entry.counts));
        let gaps = self.gaps.iter().filter(|gap| tables.contains(&gap.table) && overlap(gap.window, window));
        let mut within: BTreeMap<&str, u64> = BTreeMap::new();
        let mut lacks = |offset: u64, rows: u64| {
            if let Some((_, file)) = trace.file_at(offset).filter(|_| rows > 0) {
                let all = within.entry(file).or_default();
                *all = all.saturating_add(rows);
            }
        };
        for gap in gaps {
            losses.missing_rows = losses.missing_rows.saturating_add(gap.rows);
            gap.told_at.into_iter().for_each(|offset| lacks(offset, gap.rows));
        }
        for (offset, frame) in trace.unreadable() {
            // A frame without rows is of no table and of no time: only `check` looks at those.
            let asked = tables.contains(&frame.table) && window.touches(frame.times.0, frame.times.1);
            if asked || frame.rows == 0 {
                losses.missing_rows = losses.missing_rows.saturating_add(frame.rows);
                losses.damage.push(format!("{}: {}", trace.place(offset), frame.why));
                lacks(offset, frame.rows);
            }
        }
        losses.within = within.into_iter().map(|(file, rows)| (file.to_owned(), rows)).collect();
        let damage = trace.reader.damage.iter();
        losses.damage.extend(damage.map(|damage| format!("{}: {}", trace.place(damage.offset), damage.what)));
        let absent = trace.reader.absent.iter().filter(|absent| overlap(span_of(absent), window));
        losses.absent = absent.map(not_here).collect();
        losses.kernel_missed = sum(tables.iter().map(|&table| missed(trace, table)));
        losses.filter_missed = missed_by_filters(trace, tables);
        losses.steps = super::sampled::steps(trace, window, tables);
        losses
    }

    /// What the tables' counts come to in a span, recorded and left out.
    pub fn shares(&self, window: Window, tables: &[u16]) -> (f64, f64) {
        let asked = self.entries.iter().filter(|entry| tables.contains(&entry.table));
        let shares = asked.map(|entry| super::sampled::share(entry.window, entry.counts, window));
        shares.fold((0.0, 0.0), |sum, share| (sum.0 + share.0, sum.1 + share.1))
    }

    /// The moments in which something of `tables` was lost: counts there are lower bounds.
    pub fn lossy(&self, trace: &Trace, tables: &[u16]) -> Vec<Window> {
        self.moments(trace, tables, Counts::lost)
    }

    /// The same without what was left out to keep the recording within its bounds.
    pub fn lossy_otherwise(&self, trace: &Trace, tables: &[u16]) -> Vec<Window> {
        self.moments(trace, tables, |counts| counts.lost() - counts.left_out.min(counts.lost()))
    }

    fn moments(&self, trace: &Trace, tables: &[u16], lost: fn(Counts) -> u64) -> Vec<Window> {
        let everywhere = missed_by_filters(trace, tables) > 0;
        if everywhere || tables.iter().any(|&table| missed(trace, table) > 0) {
            return vec![trace.span];
        }
        let entries =
            self.entries.iter().filter(|entry| tables.contains(&entry.table) && lost(entry.counts) > 0);
        let gaps = self.gaps.iter().filter(|gap| tables.contains(&gap.table)).map(|gap| gap.window);
        let absent = trace.reader.absent.iter().map(span_of);
        let mut lossy: Vec<Window> = entries.map(|entry| entry.window).chain(gaps).chain(absent).collect();
        for (_, frame) in trace.unreadable() {
            if tables.contains(&frame.table) {
                lossy.push(Window { from: frame.times.0, to: frame.times.1.saturating_add(1) });
            }
        }
        lossy
    }

    /// Per event table: rows in the file, rows that the ledger says must be there; only where these differ.
    /// Identity rows repeat in every epoch, so their number says nothing. In a file that is being written the ledger is
    /// ahead of the rows in one tick and behind them in another: there, rows of what is settled must be there at least.
    pub fn unbalanced(&self, trace: &Trace) -> Vec<(u16, u64, u64)> {
        let due = |(table, counts): (u16, Counts)| (table, trace.rows_of(table), counts.due());
        let events =
            |table: u16| trace.tables.get(usize::from(table)).is_some_and(|def| def.role == Role::Event);
        let totals = self.sums(|entry| trace.settled.is_none_or(|settled| entry.window.to <= settled));
        let totals = totals.into_iter().filter(|total| events(total.0)).map(due);
        let wrong = |found, due| if trace.settled.is_some() { found < due } else { found != due };
        totals.filter(|&(_, found, due)| wrong(found, due)).collect()
    }
}

/// When it was.
pub(crate) fn span_of(absent: &Absent) -> Window {
    Window { from: absent.times.0, to: absent.times.1 }
}

/// A sentence about them.
pub(crate) fn not_here(absent: &Absent) -> String {
    match absent.parts {
        (first, last) if first == last => format!("part {first} of the recording is not here"),
        (first, last) => format!("parts {first} to {last} of the recording are not here"),
    }
}

/// Whether two spans share a moment.
pub(crate) fn overlap(a: Window, b: Window) -> bool {
    a.from < b.to && b.from < a.to
}

fn missed(trace: &Trace, table: u16) -> u64 {
    trace.tables.get(usize::from(table)).map_or(0, |def| trace.probes().missed(&def.name))
}

/// It matters to events alone: identity is written for what they refer to, and the recorder's own tables are whole.
fn missed_by_filters(trace: &Trace, tables: &[u16]) -> u64 {
    let is_event =
        |&table: &u16| trace.tables.get(usize::from(table)).is_some_and(|def| def.role == Role::Event);
    if tables.iter().any(is_event) { trace.probes().missed_by_filters() } else { 0 }
}

fn entries(trace: &Trace) -> Option<Vec<Entry>> {
    let rows = trace.gather("ledger")?;
    let column = |name: &str| rows.def.column(name);
    let (ts, until, table) = (column("ts")?, column("until")?, column("table")?);
    let number = |name: &str, row| column(name).map_or(0, |column| rows.raw(column, row));
    let entry = |row| Entry {
        window: Window { from: rows.raw(ts, row), to: rows.raw(until, row) },
        table: rows.raw(table, row) as u16,
        counts: Counts {
            stored: number("stored", row),
            filtered: number("filtered", row),
            ring_full: number("ring_full", row),
            state_full: number("state_full", row),
            discarded: number("discarded", row),
            left_out: number("left_out", row),
            carried_in: number("carried_in", row),
            carried_out: number("carried_out", row),
        },
    };
    Some((0..rows.len()).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testkit::Tape;

    #[test]
    fn what_a_filter_did_not_learn_makes_counts_lower_bounds() {
        let mut tape = Tape::new();
        tape.send(0, 7, 1, 100, 100).feeds("process_fork", 3, "filter_tgid");
        let run = |tape: &Tape| {
            let (exit, out, messages) = tape.run(&["tcpsend", "--interval", "all", "--format", "csv"]);
            (exit, out.lines().nth(1).is_some_and(|line| line.starts_with("true,1,")), messages)
        };
        let (exit, lower_bound, messages) = run(&tape);
        assert_eq!((exit, lower_bound), (3, true), "{messages}");
        assert!(messages.contains("the filters missed 3 "), "{messages}");
        // Another probe told the same, and none of it was missed; without a filter nothing learns.
        assert_eq!(run(tape.clone().feeds("descendants", 0, "filter_tgid")).0, 0);
        assert_eq!(run(tape.feeds("process_fork", 3, "")), (0, false, String::new()));
    }

    #[test]
    fn rows_are_due_where_they_were_carried_to() {
        let mut counts = Counts { stored: 100, discarded: 10, carried_in: 7, ..Counts::default() };
        counts.add(Counts { stored: 1, carried_out: 5, ..Counts::default() });
        assert_eq!((counts.due(), counts.lost()), (93, 10));
    }
}
