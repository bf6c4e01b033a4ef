//! `capture --dry-run TIME`: what a recording would take, from counting alone.
//!
//! Attaches the probes with the filters that are given, as a recording would (`-e` and `--attach` included); each counts
//! what it would record and records nothing: no ring, no thread, no file. What is added up in the kernel is added up and
//! taken out, and snapshots are taken, at their intervals. Prints the events per second of each table and what follows:
//!
//! ```text
//! 2.0 s counted with proc,net: 48,210 events/s would be recorded, 1,204/s filtered out
//!
//! table          events/s  in the ring
//! sock_recv        24,080    1.5 MiB/s
//! sock_send        24,070    1.9 MiB/s
//!
//! file      roughly 346 KiB/s: 20 MiB a minute, 1.2 GiB an hour; down to 14 KiB/s where events are all alike; and 14 KiB once
//! rings     8192 KiB; the busiest processor fills its share in 1.1 s
//! probes    about 0.9 % of one processor
//! recorder  about 0.5 % of one processor
//! ```
//!
//! Counts are exact. What they lead to is an estimate from three figures. That the recorder needs 110 ns for a row,
//! compression included, was measured by `make bench-capture`. The other two are judgement: a row takes a tenth of its
//! record in the file, and storing a record takes the probe 40 ns more than counting it. How far a trace shrinks depends on how
//! alike its events are: storms of equal calls took 0.29 to 1.26 bytes an event, other loads 2.1 to 5.1, so the growth
//! of the file is rough, and what the most equal storm would take is said beside it. A file in which nothing happens
//! grows too, by what the recorder says of itself each second, and has a begin and an end, whose size is exact: an empty
//! one is written to nowhere (`bare.rs`). Names of functions, which only those that were met have, come on top.

use super::aggregate::{Aggregates, Taken};
use super::args::Args;
use super::attach::{self, run_time, set_variable};
use super::budget::Budget;
use super::cost;
use super::family::{Family, Moment, SharedMaps};
use super::filter::Filter;
use super::host::now;
use super::ledger::{Counts, Ledger};
use super::plan::{FamilyPlan, Plan};
use super::probes::Outcome;
use super::procfs::Procfs;
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
/// Of an event that is as the one before.
const LEAST_BYTES: f64 = 0.29;
const STORING_NS: f64 = 40.0;
const RECORDER_NS: f64 = 110.0;
/// Clocks, ledger, costs and repeated definitions take so much of a file each second (795 bytes on two idle processors).
const OWN_BYTES: f64 = 800.0;
/// A ring should outlast this much of its processor's events: the reader may be late by half of it.
const SHOULD_HOLD: f64 = 0.2;

/// Counts for `time` and prints what it means.
///
/// # Errors
/// When the probes cannot be attached, or a filter or probe names what is not there.
pub fn dry_run(args: &Args, time: Duration) -> Result<u8> {
    super::session::require_linux_with_btf()?;
    let (plan, named) = Plan::of(args)?;
    let mut filter = Filter::new(args, None)?;
    filter.knobs.insert("count_only", vec![1]);
    let rings =
        Rings::plan(&Budget::new(args.memory, args.rings), plan.families.iter().any(FamilyPlan::samples));
    let mut maps = SharedMaps::default();
    let families = attach::all(args, &plan, &named, &filter, &rings, &mut maps)?;
    let outcomes: Vec<Outcome> = families.iter().flat_map(|family| family.outcomes.clone()).collect();
    attach::add_wanted(&maps, &filter, &outcomes)?;
    for family in &families {
        family.run_iterators(Moment::Start)?;
    }
    let apart = Apart {
        procfs: Procfs::new(&outcomes, &plan.layouts, &filter, &maps)?,
        aggregates: Aggregates::start(&maps, &plan.layouts, now(), args.agg_interval)?,
        families,
        stock_due: now(),
        stock_every: args.stat_interval,
        rows: BTreeMap::new(),
    };
    let once = super::bare::size(args, &plan, &filter, &outcomes)?;
    let counted = Counted { once, ..count(apart, &maps, time)? };
    let probes = named.iter().map(|probe| probe.layout.def.name.clone());
    let what: Vec<String> = args.groups().into_iter().chain(probes).collect();
    print!("{}", counted.text(&plan, &what.join(","), &rings));
    Ok(0)
}

/// What was counted, and for how long.
struct Counted {
    seconds: f64,
    tables: BTreeMap<usize, Counts>,
    /// Stored records per processor and table.
    processors: BTreeMap<(u16, usize), u64>,
    /// Rows that need no ring, per table.
    apart: BTreeMap<usize, u64>,
    /// Events that the programs added up.
    added: u64,
    probes_ns: u64,
    /// Bytes of a file without events.
    once: u64,
}

/// Rows that come at intervals: through no ring, but for what iterators write.
struct Apart {
    families: Vec<Family>,
    procfs: Procfs,
    aggregates: Aggregates,
    stock_due: u64,
    stock_every: Duration,
    rows: BTreeMap<usize, u64>,
}

impl Apart {
    /// Counts them until `end`.
    fn count(&mut self, end: u64) -> Result<()> {
        while now() < end {
            if now() >= self.stock_due {
                self.families.iter().try_for_each(|family| family.run_iterators(Moment::Tick))?;
                self.add(self.procfs.records(Moment::Tick));
                self.stock_due += u64::try_from(self.stock_every.as_nanos()).unwrap_or(u64::MAX);
            }
            if now() >= self.aggregates.due() {
                self.close_interval()?;
            }
            let next = end.min(self.stock_due).min(self.aggregates.due());
            std::thread::sleep(Duration::from_nanos(next.saturating_sub(now())));
        }
        Ok(())
    }

    fn close_interval(&mut self) -> Result<()> {
        let begin = now();
        set_variable(&self.families, "interval", begin)?;
        let taken = self.aggregates.take(begin)?;
        self.add(taken);
        Ok(())
    }

    fn add(&mut self, taken: Taken) {
        for (table, records) in taken {
            *self.rows.entry(table).or_default() += records.len() as u64;
        }
    }
}

fn count(mut apart: Apart, maps: &SharedMaps, time: Duration) -> Result<Counted> {
    let map = maps.get("cpu_states").context("the ledger's map")?;
    let statistics = cost::statistics_on();
    let (began, before) = (now(), run_time(&apart.families).0);
    let mut ledger = Ledger::start(map, began)?;
    set_variable(&apart.families, "interval", began)?;
    set_variable(&apart.families, "gate", began)?;
    apart.count(began.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))?;
    set_variable(&apart.families, "gate", 0)?;
    let (ended, probes_ns) = (now(), run_time(&apart.families).0 - before);
    drop(statistics);
    apart.close_interval()?;
    let mut processors: BTreeMap<_, u64> = BTreeMap::new();
    for row in ledger.read(map, ended)? {
        let row = super::ledger::stored_in(&row);
        *processors.entry((row.0, row.1)).or_default() += row.2;
    }
    let added = ledger.added();
    for (&table, &rows) in &apart.rows {
        ledger.stored((began, ended), table, rows);
    }
    let seconds = (ended - began) as f64 / 1e9;
    let tables = ledger.totals().clone();
    Ok(Counted { seconds, tables, processors, apart: apart.rows, added, probes_ns, once: 0 })
}

impl Counted {
    fn text(&self, plan: &Plan, what: &str, rings: &Rings) -> String {
        let is_event = |table: usize| plan.layouts[table].def.role == Role::Event;
        let size = |table: usize| plan.layouts[table].size as u64 + HEADER;
        let events = || self.tables.iter().filter(|&(&table, _)| is_event(table));
        let stored: u64 = events().map(|(_, counts)| counts.stored).sum();
        let filtered: u64 = events().map(|(_, counts)| counts.filtered).sum();
        let raw: u64 = events().map(|(&table, counts)| counts.stored * size(table)).sum();
        let mut text = format!(
            "{:.1} s counted with {what}: {} events/s would be recorded, {}/s filtered out\n\n",
            self.seconds,
            rate(self.per_second(stored)),
            rate(self.per_second(filtered))
        );
        let _ = writeln!(text, "{:<18} {:>12} {:>14}", "table", "events/s", "in the ring");
        for (&table, counts) in events().filter(|(_, counts)| counts.stored > 0) {
            let through = counts.stored - self.apart.get(&table).copied().unwrap_or(0);
            let through = match through {
                0 => "none".into(),
                rows => format!("{}/s", bytes(self.per_second(rows * size(table)))),
            };
            let (name, rate) = (&plan.layouts[table].def.name, rate(self.per_second(counts.stored)));
            let _ = writeln!(text, "{name:<18} {rate:>12} {through:>14}");
        }
        let _ = writeln!(text);
        if self.added > 0 {
            let rate = rate(self.per_second(self.added));
            let _ = writeln!(text, "added up  {rate} events/s in the kernel, into the rows without a ring");
        }
        let growth = OWN_BYTES + self.per_second(raw) * FILE_SHARE;
        let least = OWN_BYTES + self.per_second(stored) * LEAST_BYTES;
        let _ = writeln!(
            text,
            "file      roughly {}/s: {} a minute, {} an hour; down to {}/s where events are all alike; and {} once",
            bytes(growth),
            bytes(growth * 60.0),
            bytes(growth * 3600.0),
            bytes(least),
            bytes(self.once as f64)
        );
        let _ = writeln!(text, "rings     {}", self.rings(rings, &size));
        self.write_cost(&mut text, stored);
        text
    }

    fn write_cost(&self, text: &mut String, stored: u64) {
        let in_rings = stored - self.apart.values().sum::<u64>().min(stored);
        let share = |ns: f64| ns / self.seconds / 1e7;
        let probes = share(self.probes_ns as f64 + in_rings as f64 * STORING_NS);
        let recorder = share(stored as f64 * RECORDER_NS);
        let _ = writeln!(text, "probes    about {probes:.1} % of one processor");
        let _ = writeln!(text, "recorder  about {recorder:.1} % of one processor");
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
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

/// A rate: of what is rare, not as a zero.
fn rate(number: f64) -> String {
    if number > 0.0 && number < 10.0 {
        format!("{number:.2}")
    } else {
        HumanCount(number.round() as u64).to_string()
    }
}

fn bytes(number: f64) -> String {
    HumanBytes(number.round() as u64).to_string()
}
