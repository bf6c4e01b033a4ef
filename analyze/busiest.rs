//! Who did most: the lists of the overview.
//!
//! The footer of a recording has totals by task and by socket, so for a whole recording nothing is decoded but the
//! names of those that are listed, from the frames of one epoch each. The totals are exact while a recording has few
//! thousand ids; above, the footer says by how much it may be wrong, and where that could change the list, or where
//! a part of the recording is asked for, or where the recording did not come to a footer, the events are counted.
//!
//! Where events are missing, the lines say so as those of a report do: `≥`, or where the governor left them out
//! ([`super::sampled`]) `≈` and scaled, if one table is counted and each line has a part of what was left out. A flow was
//! recorded whole or not at all, and of several tables each was left out to an extent of its own.

use super::answer::{Answer, Body};
use super::bins::Bins;
use super::flow::moved;
use super::group::{Grouping, Merge};
use super::input::Inputs;
use super::ledger::overlap;
use super::load::Scan;
use super::rows::{Rows, Value};
use super::sampled;
use super::table::{Builder, Output};
use super::threshold;
use super::trace::Trace;
use super::window::Window;
use crate::schema::singles::Footer;
use crate::schema::top::{ROWS, Top, Total};
use crate::schema::{Batch, Column, TableDef};
use anyhow::Result;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Lines of a list.
const LINES: usize = 5;

/// Epochs whose names are read: a list of those that live is in the last ones.
const EPOCHS: usize = 64;

/// A list of the overview.
pub(crate) struct List {
    section: &'static str,
    pub title: &'static str,
    /// The columns that say who, and whether they are text.
    keys: &'static [(&'static str, bool)],
    /// The column of events with the id that is counted.
    id: &'static str,
    /// What is added up; `None`: rows are counted.
    sum: Option<&'static str>,
    /// Several ids may be one line, as the threads of a process are.
    shared: bool,
    outputs: &'static [Shown],
}

const EVENTS: Output = Output::count("events", "", "events that it caused");
const FLOW_BYTES: Output = Output::count("bytes", "bytes", "bytes sent and received by calls");
const CALLS: Output = Output::count("calls", "", "send and receive calls");

/// The lists, in the order of the page.
pub(crate) const LISTS: [List; 2] = [
    List {
        section: "top_tasks",
        title: "Busiest processes",
        keys: &[("pid", false), ("comm", true)],
        id: "tid",
        sum: None,
        shared: true,
        outputs: &[(&EVENTS, |sum| sum.rows)],
    },
    List {
        section: "top_flows",
        title: "Largest TCP flows",
        keys: &[("laddr", true), ("lport", false), ("raddr", true), ("rport", false)],
        id: "sock",
        sum: Some("ret"),
        shared: false,
        outputs: &[(&FLOW_BYTES, |sum| sum.weight), (&CALLS, |sum| sum.rows)],
    },
];

/// What a line comes to.
#[derive(Clone, Copy, Default)]
struct Sum {
    weight: u64,
    rows: u64,
}

impl Merge for Sum {
    fn merge(&mut self, later: Self) {
        self.weight = self.weight.saturating_add(later.weight);
        self.rows = self.rows.saturating_add(later.rows);
    }
}

/// What the counts of a list are, for what is missing.
#[derive(Clone, Copy)]
enum Exactness {
    /// Nothing is.
    Whole,
    /// They are lower bounds.
    AtLeast,
    /// They are multiplied by this, for what the governor left out.
    Scaled(f64),
}

/// A column, and where its value is.
type Shown = (&'static Output, fn(&Sum) -> u64);

/// Who, and how much.
type Line = (Vec<Value>, Sum);

impl List {
    /// Adds the list from the footer's totals; false where they cannot tell it for certain.
    pub fn by_totals(&self, trace: &Trace, window: Window, answer: &mut Answer) -> Result<bool> {
        let totals = trace.reader.footer.as_ref().filter(|_| window == trace.span);
        let Some((def, top)) = totals.and_then(|footer| self.totals(trace, footer)) else {
            return Ok(self.tables(trace).is_empty());
        };
        if top.error > 0 {
            return Ok(false); // too many ids to say for certain: nothing need be named
        }
        let mut ids: Vec<(u32, Total)> = top.list();
        ids.sort_by_key(|&(id, total)| (Reverse(total.weight), id));
        if !self.shared {
            ids.truncate(LINES);
        }
        let epochs: BTreeSet<u32> = ids.iter().map(|(_, total)| total.epoch).collect();
        // The last epochs name most. What they do not name may add to a line, unless each id is one of its own.
        let epochs: BTreeSet<u32> = epochs.into_iter().rev().take(EPOCHS).collect();
        if self.shared && !ids.iter().all(|(_, total)| epochs.contains(&total.epoch)) {
            return Ok(false);
        }
        self.show(self.named(trace, &def, &epochs, &ids)?, self.exactness(trace, window)?, answer)?;
        Ok(true)
    }

    /// Adds the list by counting events.
    pub fn by_events(&self, trace: &Trace, window: Window, answer: &mut Answer) -> Result<()> {
        let mut all: BTreeMap<Vec<Value>, Sum> = BTreeMap::new();
        for def in self.tables(trace) {
            let mut scan = Scan::new(trace, def, window);
            let summed = self.sum.map(|column| scan.column(column)).transpose()?;
            let grouping = self.grouping(trace, def, window)?;
            let count = |sum: &mut Sum, weight| sum.merge(Sum { weight, rows: 1 });
            let groups = match summed {
                Some(column) => grouping.sum(&scan, [column], |sum, [value]| count(sum, moved(value))),
                None => grouping.sum(&scan, [], |sum, []| count(sum, 1)),
            };
            for group in groups {
                all.entry(group.keys).or_default().merge(group.state);
            }
        }
        self.show(all.into_iter().collect(), self.exactness(trace, window)?, answer)
    }

    /// What is missing of the tables that are counted.
    fn exactness(&self, trace: &Trace, window: Window) -> Result<Exactness> {
        let lossy = |table| {
            threshold::cut(trace, &[table], 0).is_some()
                || trace.ledger().lossy(trace, &[table]).iter().any(|&lossy| overlap(lossy, window))
        };
        let tables: Vec<(u16, bool)> =
            self.with_ids(trace).map(|def| (def.number, lossy(def.number))).collect();
        if !tables.iter().any(|&(_, lossy)| lossy) {
            return Ok(Exactness::Whole);
        }
        let counted = tables.into_iter().filter(|&(table, lossy)| lossy || trace.rows_of(table) > 0);
        let counted: Vec<u16> = counted.map(|(table, _)| table).collect();
        let by: Vec<&str> = self.keys.iter().map(|(name, _)| *name).collect();
        let bins = Bins::new(window, &trace.clock, None, false)?;
        let factor = match counted[..] {
            [_] => sampled::factors(trace, &bins, &by, &counted).into_iter().next().flatten(),
            _ => None,
        };
        Ok(factor.map_or(Exactness::AtLeast, Exactness::Scaled))
    }

    /// The event tables that have such ids, and rows.
    fn tables<'t>(&self, trace: &'t Trace) -> Vec<&'t Arc<TableDef>> {
        self.with_ids(trace).filter(|def| trace.rows_of(def.number) > 0).collect()
    }

    /// The event tables that have such ids.
    fn with_ids<'t>(&self, trace: &'t Trace) -> impl Iterator<Item = &'t Arc<TableDef>> {
        let has = move |def: &&Arc<TableDef>| {
            let id = def.column(self.id).filter(|&at| !def.columns[at].references.is_empty());
            id.is_some() && self.sum.is_none_or(|sum| def.column(sum).is_some())
        };
        trace.events().filter(has)
    }

    /// The footer's totals of all those tables, if it has them, and one of the tables.
    fn totals(&self, trace: &Trace, footer: &Footer) -> Option<(Arc<TableDef>, Top)> {
        let (mut all, mut last) = (Top::default(), None);
        for def in self.tables(trace) {
            let id = def.column(self.id)?;
            if def.columns[id].totals != self.sum.unwrap_or(ROWS) {
                return None;
            }
            all.merge(footer.tops.get(&(def.number, u16::try_from(id).ok()?))?.clone());
            last = Some(Arc::clone(def));
        }
        Some((last?, all))
    }

    /// Lines by name: the ids as rows of an event table, grouped as its rows would be.
    fn named(
        &self,
        trace: &Trace,
        def: &Arc<TableDef>,
        epochs: &BTreeSet<u32>,
        ids: &[(u32, Total)],
    ) -> Result<Vec<Line>> {
        let names = trace.of_epochs(epochs)?;
        let mut columns = vec![Column::Absent; def.columns.len()];
        let mut set = |name, values| def.column(name).map(|at| columns[at] = values);
        set("ts", Column::U64(vec![trace.span.to; ids.len()]));
        set(self.id, Column::U32(ids.iter().map(|(id, _)| *id).collect()));
        let batch = Batch { table: def.number, rows: ids.len(), columns, ..Batch::default() };
        let rows = Rows::new(Arc::clone(def), batch);
        let grouping = self.grouping(&names, def, trace.span)?;
        let sums = ids.iter().map(|(_, total)| Sum { weight: total.weight, rows: total.rows });
        let groups = grouping.collect(sums.enumerate().map(|(row, sum)| (grouping.key(&rows, row), sum)));
        Ok(groups.into_iter().map(|group| (group.keys, group.state)).collect())
    }

    fn grouping<'t>(&self, trace: &'t Trace, def: &TableDef, window: Window) -> Result<Grouping<'t>> {
        let by: Vec<&str> = self.keys.iter().map(|(name, _)| *name).collect();
        let inputs = Inputs::of(trace, def).list(&by.join(","))?;
        Ok(Grouping::new(trace, Bins::new(window, &trace.clock, None, false)?, inputs)?)
    }

    fn show(&self, mut lines: Vec<Line>, exactness: Exactness, answer: &mut Answer) -> Result<()> {
        // Nobody: an interrupt, or an id that the trace does not name.
        lines.retain(|(keys, _)| keys.iter().any(|key| *key != Value::Null));
        lines.sort_by(|a, b| (b.1.weight, &a.0).cmp(&(a.1.weight, &b.0)));
        lines.truncate(LINES);
        if lines.is_empty() {
            return Ok(());
        }
        let mut table = Builder::default();
        for (at, &(name, text)) in self.keys.iter().enumerate() {
            table.key(name, "", text, lines.iter().map(|line| line.0[at].clone()));
        }
        match exactness {
            Exactness::Whole => {}
            Exactness::AtLeast => {
                table.lower_bound(lines.iter().map(|_| true));
            }
            Exactness::Scaled(factor) => {
                table.approximate(vec![Some(factor); lines.len()]);
            }
        }
        for (output, value) in self.outputs {
            table.ints(output, lines.iter().map(|line| Some(value(&line.1))));
        }
        answer.section(self.section, self.title, Body::Table(table.build()?));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::clock::SECOND;
    use crate::analyze::testkit::{Cell, START, Tape};

    /// Three processes, one of two threads, that send over more sockets than a list has lines.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.task(0, 10, 10, "web").task(0, 11, 10, "web").task(0, 20, 20, "db").task(0, 30, 30, "cron");
        for sock in 1..=9u64 {
            tape.sock(0, sock, 2, 4000 + sock, 80);
        }
        for at in 0..3_000u64 {
            let tid = [10, 11, 20, 10, 30, 11, 99][at as usize % 7];
            tape.send(at * 1_000, tid, 1 + at % 9, 100, [at as i32 % 500, -11][usize::from(at % 50 == 0)]);
        }
        tape.rows_per_frame(200);
        tape
    }

    fn lists(trace: &Trace, events: bool) -> (bool, String) {
        let (mut answer, mut certain) = (Answer::default(), true);
        for list in &LISTS {
            if events {
                list.by_events(trace, trace.span, &mut answer).expect("counts");
            } else {
                certain &= list.by_totals(trace, trace.span, &mut answer).expect("reads the footer");
            }
        }
        (certain, crate::analyze::print::sections(&answer, &trace.clock))
    }

    #[test]
    fn the_totals_say_what_counting_says() {
        let trace = tape().open();
        let (certain, totals) = lists(&trace, false);
        assert!(certain && totals.contains("web") && totals.contains("4009"), "{totals}");
        assert_eq!(totals, lists(&trace, true).1);
    }

    #[test]
    fn without_a_footer_or_for_a_part_the_totals_say_nothing() {
        let mut bytes = tape().bytes();
        let frames = tape().open().reader.frames;
        bytes.truncate(frames.last().expect("the footer").offset as usize);
        assert!(!lists(&Tape::open_bytes(bytes, 1), false).0);
        let trace = tape().open();
        let part = Window { from: trace.span.from + 1, ..trace.span };
        assert!(!LISTS[0].by_totals(&trace, part, &mut Answer::default()).expect("looks"));
    }

    #[test]
    fn totals_that_may_be_too_small_are_not_shown() {
        let mut trace = tape().open();
        let footer = trace.reader.footer.as_mut().expect("it ended");
        footer.tops.values_mut().for_each(|top| top.error = 1);
        let (certain, shown) = lists(&trace, false);
        assert!(!certain && shown.is_empty(), "{shown}");
    }

    #[test]
    fn what_the_governor_left_out_is_scaled_for_processes_and_a_bound_for_flows() {
        let mut tape = tape();
        tape.group("sock_send", "net").left_out(0, 3_000, 3_000).step(0, "net", 2);
        let trace = tape.open();
        let (certain, totals) = lists(&trace, false);
        let of = |name: &str| totals.lines().find(|line| line.contains(name)).unwrap_or_default();
        // Seven threads take turns: ten and eleven, both of `web`, have four of them.
        assert!(certain && of(" web").contains('≈') && !of(" web").contains('≥'), "{totals}");
        assert!(of("4009").contains('≥') && !of("4009").contains('≈'), "{totals}");
        assert_eq!(totals, lists(&trace, true).1);
        let whole = lists(&self::tape().open(), false).1;
        let events = |page: &str| {
            let line = page.lines().find(|line| line.contains(" web")).expect("web is listed").to_owned();
            let last = line.split_whitespace().last().expect("events").trim_start_matches('≈').to_owned();
            last.parse::<u64>().expect("a number")
        };
        assert_eq!(events(&totals), 2 * events(&whole), "{totals}");
    }
    #[test]
    fn what_was_lost_makes_lower_bounds() {
        let marked = |tape: &Tape| {
            let trace = tape.open();
            let totals = lists(&trace, false).1;
            assert_eq!(totals, lists(&trace, true).1);
            let line = |name: &str| totals.lines().find(|line| line.contains(name)).unwrap_or_default();
            assert!(!totals.contains('≈'), "{totals}");
            [line(" web"), line("4009")].map(|line| line.contains('≥'))
        };
        assert_eq!(marked(&tape()), [false, false]);
        assert_eq!(marked(tape().ledger(0, 3_000, 5)), [true, true], "the ring was full");
        assert_eq!(marked(tape().probe("attached", "fentry", 3)), [true, true], "the kernel skipped hits");
        assert_eq!(marked(tape().ledger(0, 3_001, 0)), [true, true], "the file had a row more");
        // What the governor left out is known by its ratio, what else was lost is not.
        let mut tape = self::tape();
        tape.group("sock_send", "net").left_out(0, 3_000, 3_000).step(0, "net", 2);
        assert_eq!(marked(tape.ledger(0, 0, 5)), [true, true]);
        // Processes are counted in a table of which nothing came through, and flows are not.
        let mut tape = self::tape();
        tape.table("exits", &["ts:u64", "cpu:u16", "tid:u32+task/rows"]);
        let number = tape.open().table("exits").expect("it is defined").number;
        let cells = [START, START + SECOND, 0, number.into(), 0, 0, 7, 0, 0, 0];
        tape.push("ledger", cells.map(Cell::from).to_vec());
        assert_eq!(marked(&tape), [true, false]);
        // A part of the recording from which nothing is missing.
        let mut tape = self::tape();
        let trace =
            tape.send(3 * SECOND, 10, 1, 100, 100).ledger(0, 3_000, 5).ledger(3 * SECOND, 1, 0).open();
        let part = Window { from: START + 2 * SECOND, ..trace.span };
        let mut answer = Answer::default();
        LISTS[0].by_events(&trace, part, &mut answer).expect("counts");
        let text = crate::analyze::print::sections(&answer, &trace.clock);
        assert!(text.contains("web") && !text.contains('≥'), "{text}");
    }
}
