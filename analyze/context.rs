//! One run of a report on a trace: what is asked of it, the rows that `--where` leaves, its groups and intervals, what is a
//! lower bound, and whether there is room for its list.

use super::args::Call;
use super::bins::Bins;
use super::error::Failure;
use super::fit::{defined, fit, no_table, recorded};
use super::group::{Group, Grouping};
use super::input::Inputs;
use super::leading::Leading;
use super::ledger::overlap;
use super::load::Scan;
use super::mask::Mask;
use super::options::{Align, Options};
use super::quantile::Keep;
use super::report::{Need, Report};
use super::room::{self, Row, SLICE, Slices};
use super::sampled;
use super::slices;
use super::table::{Builder, Output};
use super::threshold;
use super::trace::Trace;
use super::window::Window;
use super::zoom::Zoom;
use crate::schema::TableDef;
use anyhow::Result;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One run of a report on a trace.
pub(crate) struct Context<'a> {
    pub trace: &'a Trace,
    pub report: &'a Report,
    pub options: &'a Options,
    /// The span that is looked at.
    pub window: Window,
    /// The span that is asked for: of a list in slices, all of them.
    pub asked: Window,
    flags: &'a BTreeMap<&'static str, String>,
    masks: RefCell<BTreeMap<u16, Arc<Mask>>>,
    /// Tables that the report can do without and that it had.
    also: RefCell<Vec<&'static Need>>,
    /// What became of those that it did not have.
    remarks: RefCell<Vec<String>>,
    /// What keeps any answer of this trace from being exact.
    pub shortcomings: Vec<String>,
    /// Numbers of the tables that it reads.
    scanned: RefCell<BTreeSet<u16>>,
    /// How closely this run looks at values that are counted.
    zoom: RefCell<Arc<Zoom>>,
    /// How many those are at most.
    counted: Cell<u64>,
    /// It shows nothing that took less, ns.
    shown: Cell<u64>,
    /// The answer can be taken in slices.
    in_slices: bool,
    /// Into what the span is cut then for a list that is long.
    slices: RefCell<Option<Slices>>,
    /// It is one of those, which has room.
    is_slice: bool,
}

impl<'a> Context<'a> {
    /// Fails with the reason if the trace cannot answer.
    pub fn new(trace: &'a Trace, report: &'a Report, call: &'a Call, window: Window) -> Result<Self> {
        let shortcomings = fit(trace, report)?;
        Ok(Self {
            trace,
            report,
            options: &call.options,
            window,
            asked: window,
            flags: &call.flags,
            masks: RefCell::default(),
            also: RefCell::default(),
            remarks: RefCell::default(),
            shortcomings,
            scanned: RefCell::default(),
            zoom: RefCell::default(),
            counted: Cell::default(),
            shown: Cell::default(),
            in_slices: false,
            slices: RefCell::default(),
            is_slice: false,
        })
    }

    /// The same question about a slice of the span.
    pub fn slice(&self, window: Window) -> Self {
        Self {
            window,
            shortcomings: self.shortcomings.clone(),
            // A frame's bits are the same in each.
            masks: self.masks.clone(),
            also: RefCell::default(),
            remarks: RefCell::default(),
            scanned: RefCell::default(),
            zoom: RefCell::default(),
            counted: Cell::default(),
            shown: self.shown.clone(),
            slices: RefCell::default(),
            is_slice: true,
            ..*self
        }
    }

    /// Whether there is more of the answer than this run sees.
    pub fn is_part(&self) -> bool {
        self.window != self.asked
    }

    /// For who can take the answer in slices.
    pub fn by_and_by(self) -> Self {
        Self { in_slices: true, ..self }
    }

    /// The slices in which a list is to be had; none for what has room as a whole, or whose rows depend on each other.
    pub fn slices(&self) -> Option<Slices> {
        self.slices.take()
    }

    /// Whether there is room for a list of all rows of some scans. If not, and each row is of one event `alone`, the
    /// list can be had in slices: those are of few rows where it is printed as it comes, and else of as many as
    /// `--memory` has room for.
    ///
    /// # Errors
    /// When there is none; also when [`Context::slices`] has the slices now, and then nobody reads what it says.
    pub fn room(&self, scans: &[&Scan], row: Row, alone: bool) -> Result<(), Failure> {
        let (each, memory) = (row.listed(self.options.check.is_some()), self.options.memory());
        let most = scans.iter().map(|scan| scan.most_rows()).sum::<u64>().saturating_mul(each);
        let in_slices = alone && self.in_slices && slices::are_possible(self.options);
        let slice = memory.min(SLICE);
        let held = if in_slices && slices::are_better(self.options, slice / each) { slice } else { memory };
        if self.is_slice || most <= held {
            return Ok(());
        }
        let slices = || Slices::of(scans, self.window, (held / each, memory / each));
        let sliced = |slices| {
            self.slices.replace(Some(slices));
            Err(Failure::usage(format!("{} is to be had in slices", self.report.name)))
        };
        if let Some(slices) = (held < memory).then(slices).filter(Slices::are_several) {
            return sliced(slices);
        }
        if most <= memory {
            return Ok(());
        }
        // A report's own conditions may leave few of them.
        let rows: u64 = scans.iter().map(|scan| scan.count()).sum();
        let hint =
            if alone { room::instead(slices::in_the_way(self.options)) } else { room::AS_A_WHOLE.to_owned() };
        match room::check(self.report.name, rows, rows.saturating_mul(each), memory, &hint) {
            // Of what begins with one frame at least that is printed.
            Err(_) if in_slices => sliced(slices()),
            checked => checked,
        }
    }

    /// Value of an option of this report.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// Whether a report that lists events shall count them instead.
    pub fn counts(&self) -> bool {
        self.options.by.is_some() || self.options.interval.is_some()
    }

    /// The rows of a table that are asked for.
    pub fn scan(&self, table: &str) -> Result<Scan<'a>> {
        self.scan_of(self.table(table)?)
    }

    /// The same of a table at hand: a trace may have two of one name.
    pub fn scan_of(&self, def: &Arc<TableDef>) -> Result<Scan<'a>> {
        self.scanned.borrow_mut().insert(def.number);
        let mask =
            self.options.condition.as_deref().map(|condition| self.mask(def, condition)).transpose()?;
        Ok(Scan::new(self.trace, def, self.window).masked(mask))
    }

    /// All rows of a table in the span, whatever `--where` says.
    pub fn scan_all(&self, def: &Arc<TableDef>) -> Scan<'a> {
        self.scanned.borrow_mut().insert(def.number);
        Scan::new(self.trace, def, self.window)
    }

    /// The rows of a table that the report can do without; a note says what is empty for want of it.
    pub fn optional(&self, need: &'static Need, what: &str) -> Option<Scan<'a>> {
        let found = recorded(self.trace, self.report, need).map_err(|failure| {
            let hint = failure.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
            format!("{what} not known: {failure}{hint}")
        });
        // A condition on columns that this table does not have is about the other tables.
        let found = found.and_then(|_| {
            self.scan(need.table).map_err(|error| format!("{what} not known under this --where: {error}"))
        });
        match found {
            Ok(scan) => {
                self.also.borrow_mut().push(need);
                Some(scan)
            }
            Err(remark) => {
                self.remarks.borrow_mut().push(remark);
                None
            }
        }
    }

    /// What to keep of values of which each row of some scans has one: all of them where `--memory` holds
    /// them twice, since merging copies, else counts.
    pub fn keep(&self, scans: &[&Scan]) -> Keep {
        let rows: u64 = scans.iter().map(|scan| scan.most_rows()).sum();
        if rows.saturating_mul(2 * size_of::<u64>() as u64) <= self.options.memory() {
            return Keep::All;
        }
        self.counted.set(self.counted.get().max(rows));
        Keep::Buckets(Arc::clone(&self.zoom.borrow()))
    }

    /// Whether a closer look at the same rows is due, since a percentile is known to a range only; then all that
    /// was noted in the run before is forgotten.
    pub fn look_closer(&self) -> bool {
        let closer = self.zoom.borrow().closer(self.options.memory());
        let Some(closer) = closer else { return false };
        self.zoom.replace(Arc::new(closer));
        self.also.borrow_mut().clear();
        self.remarks.borrow_mut().clear();
        true
    }

    /// What became of percentiles whose values were counted instead of held.
    fn exactness(&self) -> Option<String> {
        let rows = Some(self.counted.get()).filter(|&rows| rows > 0)?;
        let (zoom, memory) = (self.zoom.borrow(), self.options.memory());
        let why = format!("up to {rows} values are more than --memory {memory} holds");
        match (zoom.is_exact(), zoom.passes) {
            // Each group was small enough.
            (true, 0) => None,
            (true, passes) => Some(format!("percentiles are exact, in {} passes: {why}", passes + 1)),
            (false, _) => Some(format!("percentiles are at most 1/32 too small: {why}")),
        }
    }

    /// What to know about tables that were not there, or of which a cut file has nothing.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.remarks.borrow().clone();
        remarks.extend(self.exactness());
        let empty = |need: &&Need| {
            self.trace.table(need.table).is_some_and(|def| self.trace.rows_of(def.number) == 0)
        };
        if let Some(cut) = self.trace.cut() {
            let tables: Vec<&str> = self.used().into_iter().filter(empty).map(|need| need.table).collect();
            if !tables.is_empty() {
                remarks.push(format!(
                    "nothing of {} is in the file up to where it ends: {cut}",
                    tables.join(", ")
                ));
            }
        }
        remarks
    }

    fn mask(&self, def: &Arc<TableDef>, condition: &str) -> Result<Arc<Mask>> {
        if let Some(mask) = self.masks.borrow().get(&def.number) {
            return Ok(Arc::clone(mask));
        }
        let mask = Arc::new(Mask::new(self.trace, def, self.window, condition)?);
        self.masks.borrow_mut().insert(def.number, Arc::clone(&mask));
        Ok(mask)
    }

    /// The definition of a table, or why the trace does not have it.
    pub fn table(&self, name: &str) -> Result<&'a Arc<TableDef>, Failure> {
        defined(self.trace, self.report.name, &format!(" of {name}"))?;
        self.trace.table(name).ok_or_else(|| no_table(self.trace, name))
    }

    /// Groups by the interval and the columns that were asked for.
    pub fn grouping(&self, scan: &Scan) -> Result<Grouping<'a>> {
        self.grouping_by(scan, self.report.defaults.by)
    }

    /// The same, with what `--by` is where it is not given.
    pub fn grouping_by(&self, scan: &Scan, default: &str) -> Result<Grouping<'a>> {
        self.grouping_on(scan, self.options.by.as_deref().unwrap_or(default))
    }

    /// The same by just these columns.
    pub fn grouping_on(&self, scan: &Scan, by: &str) -> Result<Grouping<'a>> {
        self.grouping_in(scan, by, self.options.interval(self.report.defaults.interval)?)
    }

    /// The same in intervals of so many ns; `None`: the whole span is one.
    pub fn grouping_in(&self, scan: &Scan, by: &str, interval: Option<u64>) -> Result<Grouping<'a>> {
        let bins = Bins::new(self.window, &self.trace.clock, interval, self.options.align == Align::Start)?;
        let by = if by == "none" { Vec::new() } else { Inputs::of(self.trace, &scan.def).list(by)? };
        Ok(Grouping::new(self.trace, bins, by)?.leading(self.leading(interval)))
    }

    /// How many groups are shown, where it is the report's own order that decides which, and nothing else.
    fn leading(&self, interval: Option<u64>) -> Option<Leading> {
        let (options, defaults) = (self.options, &self.report.defaults);
        let sorted = options.sort.as_ref();
        let usual = sorted.is_none_or(|sort| sort == defaults.sort && interval.is_none());
        let top = options.top.or(defaults.top).filter(|_| usual && options.having.is_none());
        top.map(Leading)
    }

    /// The columns that tell groups apart, and which of them are lower bounds; the report adds its own.
    pub fn keys<A>(&self, grouping: &Grouping, groups: &[Group<A>]) -> Builder {
        let mut table = Builder::default();
        let bins = &grouping.bins;
        if bins.interval.is_some() {
            table.time(bins.digits(), groups.iter().map(|group| bins.start(group.bin)));
        }
        for (at, input) in grouping.by.iter().enumerate() {
            table.key(
                &input.name,
                &input.unit,
                input.text,
                groups.iter().map(|group| group.keys[at].clone()),
            );
        }
        let lossy = self.lossy();
        let marks: Vec<bool> = (0..bins.len() as u32)
            .map(|bin| lossy.iter().any(|&lossy| overlap(lossy, bins.window(bin))))
            .collect();
        let names: Vec<&str> = grouping.by.iter().map(|input| input.name.as_str()).collect();
        let factors = sampled::factors(self.trace, bins, &names, &self.tables());
        let of = |group: &Group<A>| factors[group.bin as usize];
        table.lower_bound(groups.iter().map(|group| marks[group.bin as usize] && of(group).is_none()));
        if factors.iter().any(Option::is_some) {
            table.approximate(groups.iter().map(of).collect());
        }
        if let Some(least) = self.cut() {
            table.only_from(groups.len(), least);
        }
        table
    }

    /// The report shows nothing that took less than so many ns: what a recording leaves out below that is no loss.
    pub fn shows_from(&self, least: u64) {
        self.shown.set(least);
    }

    /// How long calls had to take to be in its tables, ns, where that leaves out what the report would show.
    pub fn cut(&self) -> Option<u64> {
        threshold::cut(self.trace, &self.tables(), self.shown.get())
    }

    /// What to say of that.
    pub fn cut_remarks(&self) -> Vec<String> {
        threshold::of_tables(self.trace, &self.tables(), self.shown.get())
    }

    /// The moments in which something of the report's tables is missing: counts there are lower bounds.
    pub fn lossy(&self) -> Vec<Window> {
        if self.cut().is_some() {
            return vec![self.trace.span];
        }
        self.trace.ledger().lossy(self.trace, &self.tables())
    }

    /// So many in a group's interval, per second; none where it has no length, as that of another host may have.
    pub fn per_second<A>(grouping: &Grouping, group: &Group<A>, count: u64) -> Option<f64> {
        let seconds = Self::seconds(grouping, group);
        (seconds > 0.0).then(|| count as f64 / seconds)
    }

    /// Length of a group's interval inside the span.
    pub fn seconds<A>(grouping: &Grouping, group: &Group<A>) -> f64 {
        grouping.bins.window(group.bin).seconds()
    }

    /// One of the report's columns.
    ///
    /// # Panics
    /// When the report does not list it.
    pub fn output(&self, name: &str) -> &'static Output {
        let outputs = self.report.outputs;
        outputs
            .iter()
            .find(|output| output.name == name)
            .unwrap_or_else(|| panic!("{} lists its column {name}", self.report.name))
    }

    /// Numbers of the tables that the report reads.
    pub fn tables(&self) -> Vec<u16> {
        let needed = self.used().into_iter().filter_map(|need| Some(self.trace.table(need.table)?.number));
        let numbers: BTreeSet<u16> = needed.chain(self.scanned.borrow().iter().copied()).collect();
        numbers.into_iter().collect()
    }

    fn used(&self) -> Vec<&'static Need> {
        self.report.needs.iter().chain(self.also.borrow().iter().copied()).collect()
    }

    /// How the report's tables were filled, for the notes.
    pub fn sources(&self) -> Option<String> {
        let probes: Vec<String> = self
            .used()
            .iter()
            .filter_map(|need| Some(self.trace.probes().of(need.table)?.describe()))
            .collect();
        (!probes.is_empty()).then(|| format!("recorded: {}", probes.join("; ")))
    }
}
