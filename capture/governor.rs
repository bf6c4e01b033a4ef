//! Keeps a recording within what it may cost (`--max-overhead`) and how fast its groups may grow (`--max-rate`).
//!
//! Once a second it compares. Over the bound, the group whose programs took most (where that cannot be measured, the one
//! with the most events) leaves stacks out, if it takes any; then it records only one of two flows, tasks or requests, then one of four, and so on down to none, which then are only
//! counted: chosen by a hash of their id in the kernel, so that what is recorded of one is complete. With room for twice
//! as much for some seconds it goes one step back. Each step is a row of table `governor`, and the ledger counts what
//! was left out: `analyze` scales counts of that time, or says that it cannot.

use super::args::Args;
use super::family::Family;
use super::filter::Filter;
use super::plan::Plan;
use super::record::Row;
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// One of 2^10 ids; the next step is none.
const LAST: u32 = 10;
const OFF: u32 = LAST + 1;
/// Steps down at once are at most so many: the estimate behind them is rough.
const STRIDE: u32 = 3;
/// So many readings with room before a step back.
const PATIENCE: u32 = 5;
const SECOND: f64 = 1e9;
/// What happened in less says little, ns.
const SHORTEST: u64 = 900_000_000;

/// Bounds and where each group stands.
pub struct Governor {
    /// Share of all processors.
    budget: Option<f64>,
    /// Events per second by group.
    rates: BTreeMap<String, f64>,
    groups: Vec<Group>,
    cpus: f64,
    last: Option<(u64, u64)>,
}

struct Group {
    name: String,
    /// It takes stacks, which can be left out.
    stacks: bool,
    /// It does so now.
    bare: bool,
    level: u32,
    with_room: u32,
    stored: u64,
    rate: f64,
    /// Time of its programs in the last measured slice, ns.
    cost: u64,
}

/// What has happened since the start.
pub struct Reading {
    /// `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Processor time of probes and recorder, ns.
    pub cost: u64,
    /// Events stored, by group.
    pub stored: BTreeMap<String, u64>,
    /// Time of the programs in the last measured slice, by group, ns.
    pub run_time: BTreeMap<String, u64>,
}

/// A group records more or less than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub group: String,
    /// For the programs.
    pub mask: u32,
    /// One of so many ids is recorded; 0: none.
    pub one_of: u64,
    /// Without stacks.
    pub bare: bool,
    /// Why.
    pub why: String,
}

impl Step {
    fn to(group: &Group, why: String) -> Self {
        let (mask, one_of) = match group.level {
            OFF => (u32::MAX, 0),
            level => ((1 << level) - 1, 1 << level),
        };
        Self { group: group.name.clone(), mask, one_of, bare: group.bare, why }
    }

    /// The row for table `governor`.
    #[must_use]
    pub fn row(&self, at: u64) -> Vec<u8> {
        let row = Row::new().u64(at).text(&self.group).u64(self.one_of).text(&self.why);
        row.u64(self.bare.into()).bytes()
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, one_of, why, bare, .. } = self;
        match one_of {
            0 => write!(to, "events of group {group} are only counted: {why}"),
            1 if *bare => write!(to, "group {group} is recorded without stacks: {why}"),
            1 => write!(to, "all of group {group} is recorded: {why}"),
            many => write!(to, "one of {many} flows, tasks or requests of group {group} is recorded: {why}"),
        }
    }
}

impl Governor {
    /// As the command line says, over the groups that are recorded and whose flows or tasks can be left out.
    ///
    /// # Errors
    /// For a bound on what cannot be recorded in part.
    pub fn of(args: &Args, plan: &Plan, families: &[Family], filter: &Filter) -> Result<Self> {
        // Those of the plan come first, then the probes that the user names.
        let enabled = plan.families.iter().map(|family| family.enabled).chain(std::iter::repeat(true));
        // System calls that are added up in the kernel are few rows whatever happens.
        let few = |group: &str| group == "syscalls" && !filter.uses("each_syscall");
        let able = enabled.zip(families).filter(|(enabled, family)| *enabled && family.can_leave_out());
        let stacks = |family: &Family| family.can_drop_stacks() && filter.uses("min_wait");
        let able = able.map(|(_, family)| (family.group.clone(), stacks(family)));
        let able: BTreeMap<String, bool> = able.filter(|(group, _)| !few(group)).collect();
        let groups: Vec<&str> = able.keys().map(String::as_str).collect();
        if let Some((group, _)) = args.max_rate.iter().find(|(group, _)| !able.contains_key(group)) {
            bail!("--max-rate {group}: {}", not_in_part(&groups));
        }
        if args.max_overhead.is_some() && able.is_empty() {
            bail!("--max-overhead: of {} nothing can be left out", args.groups().join(", "));
        }
        let rates = args.max_rate.iter().cloned().collect();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::new(args.max_overhead, rates, able, cpus))
    }

    /// For the groups that can be governed, each with whether it takes stacks.
    fn new(
        budget: Option<f64>,
        rates: BTreeMap<String, f64>,
        groups: BTreeMap<String, bool>,
        cpus: usize,
    ) -> Self {
        let group = |(name, stacks)| Group {
            name,
            stacks,
            bare: false,
            level: 0,
            with_room: 0,
            stored: 0,
            rate: 0.0,
            cost: 0,
        };
        let groups = groups.into_iter().map(group).collect();
        Self { budget, rates, groups, cpus: cpus.max(1) as f64, last: None }
    }

    /// Whether there is anything to keep to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.budget.is_some() || !self.rates.is_empty()
    }

    /// Compares, and says what is to change.
    pub fn read(&mut self, reading: &Reading) -> Vec<Step> {
        let (at, cost) = (reading.at, reading.cost);
        if self.last.is_some_and(|before| at < before.0 + SHORTEST) {
            return Vec::new();
        }
        let before = self.last.replace((at, cost));
        let seconds = before.map_or(0.0, |before| at.saturating_sub(before.0) as f64 / SECOND);
        for group in &mut self.groups {
            let stored = reading.stored.get(&group.name).copied().unwrap_or(0);
            group.rate = stored.saturating_sub(std::mem::replace(&mut group.stored, stored)) as f64 / seconds;
            group.cost = reading.run_time.get(&group.name).copied().unwrap_or(0);
        }
        let Some(before) = before.filter(|_| self.is_on() && seconds > 0.0) else { return Vec::new() };
        let load = cost.saturating_sub(before.1) as f64 / (seconds * SECOND * self.cpus);
        let mut steps = self.keep_rates();
        steps.extend(self.keep_budget(load));
        if steps.is_empty() {
            steps.extend(self.step_back(load));
        }
        steps
    }

    fn keep_rates(&mut self) -> Vec<Step> {
        let rates = &self.rates;
        let over = |group: &mut Group| {
            let bound = rates.get(&group.name).copied().filter(|&bound| group.rate > bound)?;
            let why = format!("{:.0} events/s, {bound:.0} are allowed", group.rate);
            group.fewer(group.rate / bound).then(|| Step::to(group, why))
        };
        self.groups.iter_mut().filter_map(over).collect()
    }

    fn keep_budget(&mut self, load: f64) -> Option<Step> {
        let budget = self.budget.filter(|&budget| load > budget)?;
        let able = |group: &&mut Group| group.level < OFF && (group.rate > 0.0 || group.cost > 0);
        let dearest = self.groups.iter_mut().filter(able);
        let dearest = dearest.max_by(|a, b| a.cost.cmp(&b.cost).then(a.rate.total_cmp(&b.rate)))?;
        let why = format!("{:.2} % of all processors, {:.2} % are allowed", 100.0 * load, 100.0 * budget);
        dearest.step_down(load / budget).then(|| Step::to(dearest, why))
    }

    /// Twice as much would still be within all bounds, and has been for a while.
    fn step_back(&mut self, load: f64) -> Option<Step> {
        let budget = self.budget.unwrap_or(f64::INFINITY);
        let rates = &self.rates;
        for group in &mut self.groups {
            let bound = rates.get(&group.name).copied().unwrap_or(f64::INFINITY);
            let room = (group.level > 0 || group.bare) && 2.0 * load <= budget && 2.0 * group.rate <= bound;
            group.with_room = if room { group.with_room + 1 } else { 0 };
        }
        let group = self.groups.iter_mut().find(|group| group.with_room >= PATIENCE)?;
        group.step_up();
        Some(Step::to(group, "there is room again".into()))
    }
}

impl Group {
    /// Costs less, by about this factor. False: there is no further step.
    fn step_down(&mut self, factor: f64) -> bool {
        self.with_room = 0;
        if self.stacks && !self.bare {
            self.bare = true;
            return true;
        }
        self.fewer(factor)
    }

    /// The last that was left out comes first.
    fn step_up(&mut self) {
        self.with_room = 0;
        if self.level > 0 {
            self.level -= 1;
        } else {
            self.bare = false;
        }
    }

    /// Fewer ids.
    fn fewer(&mut self, factor: f64) -> bool {
        let steps = (factor.log2().ceil() as u32).clamp(1, STRIDE);
        let before = self.level;
        self.level = (before + steps).min(OFF);
        self.with_room = 0;
        self.level > before
    }
}

/// Why a group cannot be bound, where these can.
fn not_in_part(able: &[&str]) -> String {
    match able {
        [] => "nothing that is recorded here can be left out in part: groups of flows, files, requests and runs can, such as \
               net"
            .into(),
        able => format!("of what is recorded, these can be in part: {}", able.join(", ")),
    }
}

/// `1%`, `0.5%`: a share of all processors.
///
/// # Errors
/// With what is expected.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    share.filter(|share| (0.01..=100.0).contains(share)).map(|share| share / 100.0).ok_or_else(|| {
        format!("'{text}' is not a share of the processors: write 1% or 0.5%, from 0.01% to 100%")
    })
}

/// `net=100000`: events per second of a group.
///
/// # Errors
/// With what is expected.
pub fn parse_rate(text: &str) -> Result<(String, f64), String> {
    let (group, rate) = text.split_once('=').unwrap_or_default();
    match rate.parse::<f64>() {
        Ok(rate) if rate >= 1.0 && !group.is_empty() => Ok((group.to_owned(), rate)),
        _ => Err(format!("'{text}': expected GROUP=EVENTS, as in net=100000 (each second)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of `net` each second, and what they cost at 1 µs an event, on two processors.
    struct Host {
        governor: Governor,
        seconds: u64,
        stored: u64,
    }

    impl Host {
        fn new(budget: Option<f64>, rate: Option<f64>) -> Self {
            let rates = rate.map(|rate| ("net".to_owned(), rate)).into_iter().collect();
            let groups = [("net".into(), false), ("net-rx".into(), false)].into();
            let governor = Governor::new(budget, rates, groups, 2);
            Self { governor, seconds: 0, stored: 0 }
        }

        /// A second in which so many events happen, of which the mask leaves some.
        fn second(&mut self, events: u64, mask: &mut u32) -> Vec<Step> {
            let kept = if *mask == u32::MAX { 0 } else { events / (u64::from(*mask) + 1) };
            self.seconds += 1;
            self.stored += kept;
            let steps = self.governor.read(&Reading {
                at: self.seconds * 1_000_000_000,
                cost: self.stored * 1000,
                stored: [("net".to_owned(), self.stored)].into(),
                run_time: BTreeMap::new(),
            });
            if let Some(step) = steps.last() {
                *mask = step.mask;
            }
            steps
        }
    }

    #[test]
    fn over_budget_it_steps_down_and_later_back() {
        let (mut host, mut mask) = (Host::new(Some(0.01), None), 0);
        assert_eq!(host.second(200_000, &mut mask), [], "nothing to compare with");
        let steps = host.second(200_000, &mut mask);
        assert_eq!(steps.len(), 1);
        assert_eq!(
            (steps[0].one_of, mask),
            (8, 7),
            "10 % of the processors instead of 1 %: at most a stride"
        );
        assert!(steps[0].why.contains("10.00 %"), "{}", steps[0].why);
        for _ in 0..10 {
            host.second(200_000, &mut mask);
        }
        assert_eq!(mask, 15, "0.6 %: within the budget, but twice that is not");
        for _ in 0..40 {
            host.second(100, &mut mask);
        }
        assert_eq!(mask, 0, "the load has gone, and all flows are recorded again");
    }

    #[test]
    fn stacks_go_first_and_come_back_last() {
        let mut governor = Governor::new(Some(0.01), BTreeMap::new(), [("sched".into(), true)].into(), 1);
        let mut second = 0;
        let mut read = |events: u64, governor: &mut Governor| {
            second += 1;
            let before = governor.groups[0].stored;
            let stored = [("sched".to_owned(), before + events)].into();
            let cost = governor.last.map_or(0, |last| last.1) + events * 1000;
            let run_time = BTreeMap::new();
            let steps = governor.read(&Reading { at: second * 1_000_000_000, cost, stored, run_time });
            steps.first().map(|step| (step.bare, step.one_of))
        };
        assert_eq!(read(15_000, &mut governor), None, "nothing to compare with");
        assert_eq!(read(15_000, &mut governor), Some((true, 1)), "stacks first");
        assert_eq!(read(15_000, &mut governor), Some((true, 2)), "then tasks");
        let back: Vec<_> = (0..20).filter_map(|_| read(10, &mut governor)).collect();
        assert_eq!(back, [(true, 1), (false, 1)]);
    }

    #[test]
    fn what_costs_most_steps_down_not_what_happens_most() {
        let groups = [("net".into(), false), ("named".into(), false)].into();
        let mut governor = Governor::new(Some(0.01), BTreeMap::new(), groups, 1);
        let mut read = |second: u64, named: u64| {
            let stored = [("net".to_owned(), second * 10_000), ("named".to_owned(), second * 100)].into();
            let run_time = [("net".to_owned(), 1_000_000), ("named".to_owned(), named)].into();
            let cost = second * 100_000_000;
            let steps = governor.read(&Reading { at: second * 1_000_000_000, cost, stored, run_time });
            steps.into_iter().map(|step| step.group).collect::<Vec<_>>()
        };
        assert!(read(1, 9_000_000).is_empty(), "nothing to compare with");
        assert_eq!(read(2, 9_000_000), ["named"], "rare, and most of the time");
        assert_eq!(read(3, 500_000), ["net"], "by now the other one takes more");
    }

    #[test]
    fn a_rate_is_kept_by_its_group() {
        let (mut host, mut mask) = (Host::new(None, Some(1000.0)), 0);
        host.second(3000, &mut mask);
        let steps = host.second(3000, &mut mask);
        assert_eq!((steps[0].group.as_str(), steps[0].one_of), ("net", 4));
        assert!(steps[0].why.contains("3000 events/s"));
    }

    #[test]
    fn what_still_costs_too_much_is_switched_off() {
        let (mut host, mut mask) = (Host::new(Some(0.0001), None), 0);
        for _ in 0..8 {
            host.second(100_000_000, &mut mask);
        }
        assert_eq!(mask, u32::MAX);
        assert_eq!(host.governor.groups[0].level, OFF);
    }

    #[test]
    fn without_bounds_nothing_happens() {
        let (mut host, mut mask) = (Host::new(None, None), 0);
        host.second(1, &mut mask);
        assert_eq!(host.second(u64::MAX / 1_000_000, &mut mask), []);
    }

    #[test]
    fn what_cannot_be_bound_is_told_what_can() {
        assert!(not_in_part(&["net", "file"]).ends_with(": net, file"));
        assert!(not_in_part(&[]).contains("such as net"));
    }

    #[test]
    fn bounds_have_units() {
        assert_eq!(parse_share("1%"), Ok(0.01));
        assert!(parse_share("1").unwrap_err().contains("0.5%") && parse_share("0%").is_err());
        assert_eq!(parse_rate("net-rx=5000"), Ok(("net-rx".into(), 5000.0)));
        assert!(parse_rate("5000").unwrap_err().contains("GROUP=EVENTS") && parse_rate("net=0").is_err());
    }
}
