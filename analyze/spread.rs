//! How a duration is distributed, by group: exact percentiles and bcc's histogram.

use super::answer::{Answer, Body};
use super::coarse::{Coarse, NOTE, Place};
use super::group::{Group, Grouping, Merge};
use super::load::Scan;
use super::quantile::{Keep, Log2, Samples, USUAL, us};
use super::report::{Context, Flag};
use super::rows::Value;
use super::table::{Builder, Output};
use anyhow::Result;
use std::io;

/// Which groups of an interval have a picture of their own.
#[derive(Clone, Copy)]
pub(crate) enum Pictures {
    /// All; if they are many, there is one of them together.
    Few,
    /// So many, those with most in them.
    Largest(usize),
}

impl Pictures {
    /// Where pictures are asked for: of as many groups as rows are shown.
    pub fn asked(context: &Context) -> Self {
        Self::Largest(context.options.top.or(context.report.defaults.top).unwrap_or(usize::MAX))
    }
}

/// More are many.
const FEW: usize = 8;

/// The columns of the result.
pub(crate) const OUTPUTS: [Output; 7] = [
    Output::count("n", "", "how many"),
    Output::measure("avg_us", "us", 3, "mean"),
    Output::measure("p50_us", "us", 3, "half were at most so long"),
    Output::measure("p90_us", "us", 3, "nine in ten were; empty where n is too small to say"),
    Output::measure("p99_us", "us", 3, "99 in 100 were"),
    Output::measure("p99_9_us", "us", 3, "999 in 1000 were"),
    Output::measure("max_us", "us", 3, "the longest"),
];

/// bcc's options for histograms.
pub(crate) const MILLISECONDS: Flag = Flag::switch("milliseconds", "Histogram in milliseconds").letter('m');
/// Of the scheduler's reports: what tells histograms apart.
pub(crate) const PROCESSES: Flag = Flag::switch("per-process", "A histogram for each process").letter('P');
/// The same by thread.
pub(crate) const THREADS: Flag = Flag::switch("per-thread", "A histogram for each thread").letter('L');

/// What is kept of a group's durations, or other numbers.
#[derive(Default)]
pub(crate) struct Spread {
    /// All of them.
    pub values: Samples,
    /// What they and the coarse ones add up to.
    pub sum: u64,
    /// Those that were added up in the kernel.
    pub coarse: Coarse,
    histogram: Log2,
}

impl Merge for Spread {
    fn merge(&mut self, later: Self) {
        self.values.merge(later.values);
        self.sum = self.sum.saturating_add(later.sum);
        self.coarse.merge(later.coarse);
        self.histogram.merge(&later.histogram);
    }
}

impl Spread {
    /// Counts a value, in the histogram as what it is there.
    pub fn add(&mut self, value: u64, shown: u64, keep: &Keep) {
        self.values.add(value, keep);
        self.sum = self.sum.saturating_add(value);
        self.histogram.add(shown);
    }

    /// Counts values that were added up: how many, their sum and the largest.
    pub fn add_up(&mut self, place: Place, count: u64, (sum, most): (u64, u64)) {
        self.coarse.add(place, count, sum, most);
        self.sum = self.sum.saturating_add(sum);
        match place {
            Place::At(value) => self.histogram.add_slot(value.max(1).ilog2() as usize, count),
            Place::Slot(slot) => self.histogram.add_slot(usize::try_from(slot).unwrap_or(usize::MAX), count),
            Place::Unknown => {}
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.coarse.len().saturating_add(self.values.len() as u64)
    }

    /// Their mean.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum as f64 / self.count() as f64)
    }

    /// What durations add up to.
    pub fn total_us(&self) -> Option<f64> {
        (self.count() > 0).then(|| us(self.sum))
    }

    /// The largest.
    pub fn max(&self) -> Option<u64> {
        self.values.max().max(self.coarse.max())
    }

    /// Several quantiles, from the lowest on; above the median where n says more than the maximum does.
    pub fn quantiles<const N: usize>(&mut self, all: [f64; N]) -> [Option<f64>; N] {
        if self.coarse.len() > 0 {
            return all.map(|q| self.coarse.quantile(&self.values, q));
        }
        self.values.all(all).map(|value| value.map(|value| value as f64))
    }
}

/// How durations are taken, as the options say.
pub(crate) struct Scale {
    keep: Keep,
    divisor: u64,
    unit: &'static str,
}

impl Scale {
    /// For values of which each row of the scan may have one.
    pub fn of(context: &Context, scan: &Scan) -> Self {
        let milliseconds = context.flag("milliseconds").is_some();
        let (divisor, unit) = if milliseconds { (1_000_000, "msecs") } else { (1_000, "usecs") };
        Self { keep: context.keep(&[scan]), divisor, unit }
    }

    /// Counts a duration.
    pub fn add(&self, spread: &mut Spread, ns: u64) {
        spread.add(ns, ns / self.divisor, &self.keep);
    }
}

/// The distribution of a column in nanoseconds; rows in which it is not known are left out.
pub(crate) fn answer(context: &Context, mut scan: Scan, column: &str) -> Result<Answer> {
    let column = scan.column(column)?;
    let scan = scan.only([column], |[ns]| ns.is_some());
    let scale = Scale::of(context, &scan);
    let by = match [PROCESSES, THREADS].map(|flag| context.flag(flag.name).is_some()) {
        [_, true] => "tid,comm",
        [true, false] => "pid,comm",
        [false, false] => context.report.defaults.by,
    };
    let grouping = context.grouping_by(&scan, by)?;
    let groups = grouping.sum(&scan, [column], |spread: &mut Spread, [ns]| {
        scale.add(spread, ns.unwrap_or(0).cast_unsigned());
    });
    show(context, &grouping, groups, &scale, |_| {})
}

/// Table and pictures of durations; `more` adds columns to those of every such report.
pub(crate) fn show(
    context: &Context,
    grouping: &Grouping,
    mut groups: Vec<Group<Spread>>,
    scale: &Scale,
    more: impl FnOnce(&mut Builder),
) -> Result<Answer> {
    let mut table = table(context, grouping, &mut groups);
    more(&mut table);
    let mut answer = Answer::of(table.build()?);
    let asked = [PROCESSES, THREADS].into_iter().any(|flag| context.flag(flag.name).is_some());
    let which = if asked { Pictures::asked(context) } else { Pictures::Few };
    picture(&mut answer, grouping, &groups, |spread| spread, (which, scale.unit));
    Ok(answer)
}

/// Adds the histograms of the groups, which have a spread each; values are in `unit`.
pub(crate) fn picture<A>(
    answer: &mut Answer,
    grouping: &Grouping,
    groups: &[Group<A>],
    of: impl Fn(&A) -> &Spread,
    (which, unit): (Pictures, &'static str),
) {
    let spreads: Vec<(&Group<A>, &Spread)> = groups.iter().map(|group| (group, of(&group.state))).collect();
    for (title, histogram) in pictures(grouping, &spreads, which) {
        answer.section("histogram", title, Body::Histogram(Box::new(histogram), unit));
    }
}

fn table(context: &Context, grouping: &Grouping, groups: &mut [Group<Spread>]) -> Builder {
    let mut table = context.keys(grouping, groups);
    let count = |group: &Group<Spread>| group.state.values.len() as u64;
    table.ints(context.output("n"), groups.iter().map(|group| Some(count(group))));
    let mean = |group: &Group<Spread>| group.state.mean().map(|mean| mean / 1e3);
    table.floats(context.output("avg_us"), groups.iter().map(mean));
    let quantiles: Vec<_> =
        grouping.of_each(groups, |spread| spread.values.all_us(USUAL.map(|usual| usual.1)));
    for (at, (name, _)) in USUAL.iter().enumerate() {
        table.floats(context.output(&format!("{name}_us")), quantiles.iter().map(|of| of[at]));
    }
    table.floats(context.output("max_us"), groups.iter().map(|group| group.state.values.max().map(us)));
    table
}

/// What to know of quantiles of values that were added up.
pub(crate) fn remark<'a>(answer: Answer, mut spreads: impl Iterator<Item = &'a Spread>) -> Answer {
    if spreads.any(|spread| spread.coarse.rounded()) { answer.note(NOTE) } else { answer }
}

/// The histogram of all groups together.
pub(crate) fn together<'a>(spreads: impl Iterator<Item = &'a Spread>) -> Log2 {
    let mut all = Log2::default();
    spreads.for_each(|spread| all.merge(&spread.histogram));
    all
}

/// A histogram for each interval, and for each of its groups as `which` says, with its title.
fn pictures<A>(grouping: &Grouping, groups: &[(&Group<A>, &Spread)], which: Pictures) -> Vec<(String, Log2)> {
    let mut all = Vec::new();
    for interval in groups.chunk_by(|a, b| a.0.bin == b.0.bin) {
        let together = together(interval.iter().map(|(_, spread)| *spread));
        // An interval in which nothing was is no picture.
        if grouping.bins.interval.is_some() && together.is_empty() {
            continue;
        }
        let time = grouping.time(interval[0].0.bin);
        let own = if grouping.by.is_empty() { Vec::new() } else { with_own(interval, which) };
        if own.is_empty() {
            all.push((time.unwrap_or_default(), together));
            continue;
        }
        let title = |group: &Group<A>| title(time.as_deref(), grouping, group);
        all.extend(own.into_iter().map(|(group, spread)| (title(group), spread.histogram.clone())));
    }
    all
}

/// The groups of an interval that have pictures of their own; none: there is one of them together.
fn with_own<'g, A>(
    interval: &[(&'g Group<A>, &'g Spread)],
    which: Pictures,
) -> Vec<(&'g Group<A>, &'g Spread)> {
    let mut own = interval.to_vec();
    match which {
        Pictures::Few if own.len() > FEW => own.clear(),
        Pictures::Few => {}
        Pictures::Largest(most) => {
            own.sort_by_key(|(_, spread)| std::cmp::Reverse(spread.count()));
            own.truncate(most);
        }
    }
    own
}

fn title<A>(time: Option<&str>, grouping: &Grouping, group: &Group<A>) -> String {
    let keys = grouping.by.iter().zip(&group.keys);
    let keys = keys.map(|(input, key)| format!("{} = {}", input.name, shown(key)));
    time.map(str::to_owned).into_iter().chain(keys).collect::<Vec<_>>().join(", ")
}

fn shown(key: &Value) -> String {
    match key {
        Value::Null => "-".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => text.to_string(),
    }
}

/// As bcc prints it: the histograms alone.
pub(crate) fn compat(_: &Context, answer: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    for section in &answer.sections {
        if !section.title.is_empty() {
            writeln!(out, "\n{}", super::escape::visible(&section.title))?;
        }
        if let Body::Histogram(histogram, unit) = &section.body {
            write!(out, "{}", histogram.render(unit))?;
        }
    }
    Ok(())
}
