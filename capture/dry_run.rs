//! `capture --dry-run TIME`: what a recording would take, from counting alone.
//!
//! Attaches the probes with the filters that are given; each counts what it would record and records nothing: no
//! ring, no thread, no file. Prints the events per second of each table and what follows from them:
//!
//! ```text
//! 2.0 s counted with proc,net: 48,210 events/s would be recorded, 1,204 filtered out
//!
//! table          events/s  in the ring
//! sock_recv        24,080    1.5 MiB/s
//! sock_send        24,070    1.9 MiB/s
//!
//! file      roughly 345 KiB/s: 20 MiB a minute, 1.2 GiB an hour; rough, since what is recorded decides
//! rings     8192 KiB; the busiest processor fills its share in 1.1 s
//! probes    about 0.9 % of one processor
//! recorder  about 0.5 % of one processor
//! ```
//!
//! Counts are exact. What they lead to is an estimate from three figures. That the recorder needs 110 ns for a row,
//! compression included, was measured by `make bench-capture`. The other two are judgement: a row takes a tenth of its
//! record in the file, and storing a record takes the probe 40 ns more than counting it. How far a trace shrinks depends on how
//! alike its events are: storms of equal calls took 0.36 to 1.26 bytes an event, other loads 2.3 to 5.1, so the growth
//! of the file is rough.

use super::args::Args;
use super::attach::{add_wanted, load, run_time, set_variable};
use super::budget::Budget;
use super::cost;
use super::family::{Family, Moment, SharedMaps};
use super::filter::Filter;
use super::host::now;
use super::ledger::{Counts, Ledger};
use super::plan::{FamilyPlan, Plan};
use super::probes::Choice;
use super::rings::Rings;
use crate::schema::Role;
use anyhow::{Context as _, Result};
use indicatif::{HumanBytes, HumanCount};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Of a record in the ring.
const HEADER: u64 = 8;
const FILE_SHARE: f64 = 0.1;
const STORING_NS: f64 = 40.0;
const RECORDER_NS: f64 = 110.0;
/// A ring should outlast this much of its processor's events: the reader may be late by half of it.
const SHOULD_HOLD: f64 = 0.2;

/// Counts for `time` and prints what it means.
///
/// # Errors
/// When the probes cannot be attached, or a filter names what is not there.
pub fn dry_run(args: &Args, time: Duration) -> Result<u8> {
    super::session::require_linux_with_btf()?;
    let plan = Plan::new(&args.groups())?;
    let mut filter = Filter::new(args, None)?;
    filter.knobs.insert("count_only", vec![1]);
    let rings =
        Rings::plan(&Budget::new(args.memory, args.rings), plan.families.iter().any(FamilyPlan::samples));
    let mut maps = SharedMaps::default();
    let mut families = Vec::new();
    for family in &plan.families {
        let choice = Choice::new(family.probes.clone(), |probe| family.needs(probe), &BTreeMap::new());
        families.push(load(family, &filter, &rings, &mut maps, choice)?);
    }
    add_wanted(&maps, &filter, &[])?;
    for family in &families {
        family.run_iterators(Moment::Start)?;
    }
    let counted = count(&families, &maps, time)?;
    print!("{}", counted.text(&plan, &args.groups().join(","), &rings));
    Ok(0)
}

/// What was counted, and for how long.
struct Counted {
    seconds: f64,
    tables: BTreeMap<usize, Counts>,
    /// Stored records per processor and table.
    processors: BTreeMap<(u16, usize), u64>,
    probes_ns: u64,
}

fn count(families: &[Family], maps: &SharedMaps, time: Duration) -> Result<Counted> {
    let map = maps.get("cpu_states").context("the ledger's map")?;
    let statistics = cost::statistics_on();
    let (began, before) = (now(), run_time(families).0);
    let mut ledger = Ledger::start(map, began)?;
    set_variable(families, "gate", began)?;
    std::thread::sleep(time);
    set_variable(families, "gate", 0)?;
    let (ended, probes_ns) = (now(), run_time(families).0 - before);
    drop(statistics);
    let mut processors: BTreeMap<_, u64> = BTreeMap::new();
    for row in ledger.read(map, ended)? {
        let row = super::ledger::stored_in(&row);
        *processors.entry((row.0, row.1)).or_default() += row.2;
    }
    let seconds = (ended - began) as f64 / 1e9;
    Ok(Counted { seconds, tables: ledger.totals().clone(), processors, probes_ns })
}

impl Counted {
    fn text(&self, plan: &Plan, groups: &str, rings: &Rings) -> String {
        let is_event = |table: usize| plan.layouts[table].def.role == Role::Event;
        let size = |table: usize| plan.layouts[table].size as u64 + HEADER;
        let per_second = |count: u64| count as f64 / self.seconds;
        let events = || self.tables.iter().filter(|&(&table, _)| is_event(table));
        let stored: u64 = events().map(|(_, counts)| counts.stored).sum();
        let filtered: u64 = events().map(|(_, counts)| counts.filtered).sum();
        let raw: u64 = events().map(|(&table, counts)| counts.stored * size(table)).sum();
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:.1} s counted with {groups}: {} events/s would be recorded, {} filtered out\n",
            self.seconds,
            whole(per_second(stored)),
            whole(per_second(filtered))
        );
        let _ = writeln!(text, "{:<18} {:>12} {:>14}", "table", "events/s", "in the ring");
        for (&table, counts) in events().filter(|(_, counts)| counts.stored > 0) {
            let name = &plan.layouts[table].def.name;
            let bytes = bytes(per_second(counts.stored * size(table)));
            let _ = writeln!(text, "{name:<18} {:>12} {:>12}/s", whole(per_second(counts.stored)), bytes);
        }
        let growth = per_second(raw) * FILE_SHARE;
        let _ = writeln!(
            text,
            "\nfile      roughly {}/s: {} a minute, {} an hour; rough, since what is recorded decides",
            bytes(growth),
            bytes(growth * 60.0),
            bytes(growth * 3600.0)
        );
        let _ = writeln!(text, "rings     {}", self.rings(rings, &size));
        let storing = stored as f64 * STORING_NS;
        let share = |ns: f64| ns / self.seconds / 1e7;
        let _ = writeln!(
            text,
            "probes    about {:.1} % of one processor",
            share(self.probes_ns as f64 + storing)
        );
        let recorder = share(stored as f64 * RECORDER_NS);
        let _ = writeln!(text, "recorder  about {recorder:.1} % of one processor");
        text
    }

    /// Whether they are large enough: identity goes through them too.
    fn rings(&self, rings: &Rings, size: &dyn Fn(usize) -> u64) -> String {
        let mut filling: BTreeMap<u8, u64> = BTreeMap::new();
        for (&(cpu, table), &stored) in &self.processors {
            let ring = rings.of_each[usize::from(cpu) % rings.of_each.len()];
            *filling.entry(ring).or_default() += stored * size(table);
        }
        let total = u64::from(rings.size) * u64::from(rings.count) / 1024;
        let busiest = filling.values().max().copied().unwrap_or(0) as f64 / self.seconds;
        if busiest == 0.0 {
            return format!("{total} KiB; nothing to put into them");
        }
        let lasts = f64::from(rings.size) / busiest;
        let mut text = format!("{total} KiB; the busiest processor fills its share in {lasts:.2} s");
        if lasts < SHOULD_HOLD {
            let wanted = (busiest * SHOULD_HOLD) as u64;
            let wanted = wanted.next_power_of_two() * u64::from(rings.count) / 1024;
            let _ = write!(text, ": --rings {wanted} would be safer");
        }
        text
    }
}

fn whole(number: f64) -> HumanCount {
    HumanCount(number.round() as u64)
}

fn bytes(number: f64) -> String {
    HumanBytes(number.round() as u64).to_string()
}
