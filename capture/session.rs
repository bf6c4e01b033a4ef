//! One recording, from start to end.

use super::aggregate::{Aggregates, Taken};
use super::args::Args;
use super::attach::{self, probe_row};
use super::budget::Budget;
use super::clocks::Clocks;
use super::command::{Command, NotStarted};
use super::control::Control;
use super::cost::Cost;
use super::dumps::Dumps;
use super::end::End;
use super::family::{Family, Moment, SharedMaps};
use super::filter::{Filter, user_id};
use super::function_names;
use super::governor::{Governor, Reading};
use super::host::{describe, now};
use super::ledger::{self, Ledger};
use super::named::{in_flight, probe::Named};
use super::naming::Naming;
use super::place;
use super::plan::{FamilyPlan, Plan};
use super::privilege::{Needs, reduce};
use super::probes::Outcome;
use super::processors::Processors;
use super::procfs::Procfs;
use super::record::Own;
use super::recorder::{Message, Recorder, Rules, Written};
use super::rings::Rings;
use super::signals::Signals;
use super::snapshot::Ticks;
use super::stacks::Stacks;
use super::stage::Stage;
use super::summary::{Progress, Summary};
use super::target::{Target, free_if_low};
use super::trigger::Triggers;
use crate::schema::Host;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// Signals and triggers are looked for this often.
const POLL: Duration = Duration::from_millis(100);

/// Records as the command line says and returns the exit status.
///
/// # Errors
/// When the recording cannot start, or the file could not be written.
pub fn record(args: &Args) -> Result<u8> {
    let user = args.user.as_deref().map(user_id).transpose()?;
    let mut command = match args.command.as_slice() {
        [] => None,
        words => Some(Command::fork(words, user.as_ref(), args.writes_to_stdout())?),
    };
    require_linux_with_btf()?;
    super::cost::require(args.max_overhead)?;
    let (plan, named) = Plan::of(args)?;
    let filter = Filter::new(args, command.as_ref().map(Command::pid))?;
    let signals = Signals::listen()?;
    args.cpu_list.as_ref().map_or(Ok(()), place::bind)?;
    args.nice.map_or(Ok(()), place::set_nice)?;
    let target = Target::new(args)?;
    let mut session =
        Session::start(args, plan, &named, &filter, target).inspect_err(|_| Target::withdraw(args))?;
    if let Some(Err(error)) = command.as_mut().map(Command::release) {
        let code = error.downcast_ref::<NotStarted>().map_or(125, NotStarted::exit_code);
        session.finish(End::NotStarted)?;
        super::summary::tell(&format!("capture: {error:#}\n"));
        return Ok(code);
    }
    let (end, status) = session.run(args, &signals, command.as_mut())?;
    session.finish(end).map_err(|error| early_end(&error, args))?;
    Ok(status)
}

/// Which file ends early, and what to do about it.
fn early_end(error: &anyhow::Error, args: &Args) -> anyhow::Error {
    if args.flight.is_some() {
        return anyhow::anyhow!("{error}; its events are among those that are lost");
    }
    let file = args.output.as_deref().unwrap_or(Path::new("-")).display();
    let full = if error.to_string().contains("No space left") {
        "; --max-size and --min-free end a recording before that, --rotate with --keep makes room"
    } else {
        ""
    };
    anyhow::anyhow!("{file}: {error}; what is in it can be read{full}")
}

pub(super) fn require_linux_with_btf() -> Result<()> {
    super::privilege::require_loading()?;
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "this kernel has no type information (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF, Linux 5.8 or newer"
        );
    }
    Ok(())
}

/// Attached probes, running threads, and the bookkeeping between them.
struct Session {
    families: Vec<Family>,
    procfs: Procfs,
    maps: SharedMaps,
    recorder: Option<Recorder>,
    drains: Vec<JoinHandle<u64>>,
    stage: Stage,
    /// Where names of functions are to be looked up.
    stacks: Option<Arc<Stacks>>,
    ledger: Ledger,
    aggregates: Aggregates,
    ticks: Ticks,
    cost: Cost,
    started: u64,
    /// Nothing is recorded any more since then.
    stopped: Option<u64>,
    clocks: Clocks,
    processors: Processors,
    plan: Plan,
    progress: Progress,
    triggers: Triggers,
    governor: Governor,
    /// Free bytes, if less than there should be.
    low: Option<u64>,
    _control: Option<Control>,
}

impl Session {
    /// Attaches everything behind a closed gate, takes stock of what is there, and opens the gate.
    fn start(args: &Args, mut plan: Plan, named: &[Named], filter: &Filter, target: Target) -> Result<Self> {
        let mut rings =
            Rings::plan(&Budget::new(args.memory, args.rings), plan.families.iter().any(FamilyPlan::samples));
        let mut maps = SharedMaps::default();
        let families = attach::all(args, &plan, named, filter, &rings, &mut maps)?;
        let outcomes: Vec<Outcome> = families.iter().flat_map(|family| family.outcomes.clone()).collect();
        plan.mark_absent(&outcomes);
        if filter.words.is_empty() {
            plan.name_others();
        }
        rings.create(&maps)?;
        attach::add_wanted(&maps, filter, &outcomes)?;
        let layouts = Arc::new(plan.layouts.clone());
        let mut triggers = Triggers::new(&args.trigger, &layouts)?;
        if args.least_privilege {
            // Before there are other threads: capabilities are a thread's own.
            reduce(Needs {
                files: args.rotate.is_some() || args.flight.is_some(),
                command: !args.command.is_empty(),
                symbols: plan.has_stacks(),
            })?;
        }
        let tables = layouts.iter().map(|layout| layout.def.clone()).collect();
        let medium = target.medium(args, host_of(args, filter), tables)?;
        let stacks = Stacks::new(&layouts);
        let nameable = stacks.clone().filter(|_| !args.no_symbols);
        let rules = Rules {
            naming: nameable.clone().map(Naming::new),
            stacks: stacks.clone(),
            ..rules(args, &mut triggers)
        };
        let recorder = Recorder::start(medium, &layouts, rules)?;
        let control = control(args, &recorder)?;
        let stage = Stage::default();
        let drains = rings.drain(&layouts, stacks.as_ref(), &recorder.to, &stage, args.stall)?;
        let procfs = Procfs::new(&outcomes, &layouts, filter, &maps)?;
        for family in &families {
            family.run_iterators(Moment::Start)?;
        }
        for (table, records) in procfs.records(Moment::Start) {
            let _ = recorder.to.send(Message::Events(table, records));
        }
        let started = now();
        let map = maps.get("cpu_states").context("the ledger's map")?;
        let ledger = Ledger::start(map, started)?;
        let aggregates = Aggregates::start(&maps, &layouts, started, args.agg_interval)?;
        attach::set_variable(&families, "interval", started)?;
        attach::set_variable(&families, "gate", started)?;
        let governor = Governor::of(args, &plan, &families, filter)?;
        let cost = Cost::new(started, Arc::clone(&rings.queue));
        let cost = if governor.is_on() { cost.closely() } else { cost };
        let progress = Progress::new(args);
        let mut session = Self {
            families,
            procfs,
            maps,
            recorder: Some(recorder),
            drains,
            stage,
            stacks: nameable,
            ledger,
            aggregates,
            ticks: Ticks::every(args.stat_interval),
            cost,
            started,
            stopped: None,
            clocks: Clocks::start(),
            processors: Processors::new(),
            plan,
            progress,
            triggers,
            governor,
            low: None,
            _control: control,
        };
        session.send_rows(Own::Probe, outcomes.iter().map(probe_row).collect());
        session.send_rows(Own::Enum, super::names::rows(&layouts));
        session.take_stock()?;
        Ok(session)
    }

    fn send_rows(&self, own: Own, rows: Vec<Vec<u8>>) {
        if !rows.is_empty() {
            self.send(Message::Rows(own, rows));
        }
    }

    fn send(&self, message: Message) {
        if let Some(recorder) = &self.recorder {
            // A recorder that is gone has kept its reason, which finish() reports.
            let _ = recorder.to.send(message);
        }
    }

    /// Until something ends the recording: why, and the exit status.
    fn run(
        &mut self,
        args: &Args,
        signals: &Signals,
        mut command: Option<&mut Command>,
    ) -> Result<(End, u8)> {
        let end = args
            .duration
            .map(|duration| self.started + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        let mut next = self.started + SECOND;
        loop {
            if let Some(status) = command.as_mut().and_then(|command| command.try_wait()) {
                return Ok((End::Command, status));
            }
            let over = end.is_some_and(|end| now() >= end);
            if let Some(end) = self.reason_to_end(signals.stop(), over) {
                return Ok((end, command.map_or(0, Command::end)));
            }
            let next_deed =
                next.min(self.aggregates.due()).min(self.ticks.due()).min(end.unwrap_or(u64::MAX));
            let pause = Duration::from_nanos(next_deed.saturating_sub(now())).min(POLL);
            match &command {
                Some(command) => command.sleep(pause),
                None => std::thread::sleep(pause),
            }
            let clocks = self.clocks.look();
            self.send_rows(Own::Clock, clocks);
            if now() >= self.aggregates.due() {
                self.close_interval()?;
            }
            if now() >= self.ticks.due() {
                self.take_stock()?;
            }
            if now() >= next || self.cost.is_due() {
                self.keep_books()?;
                self.low = free_if_low(args.output.as_deref().unwrap_or(Path::new("-")), args.min_free);
                next = now() + SECOND;
            }
            self.look_for_triggers(signals);
            self.follow_processors();
        }
    }

    /// Samples on processors that have come online too.
    fn follow_processors(&mut self) {
        if !self.families.iter().any(Family::samples) {
            return;
        }
        for cpu in self.processors.arrived() {
            let sampled = self.families.iter_mut().try_for_each(|family| family.sample_on(cpu));
            self.progress.say(&match sampled {
                Ok(()) => format!("processor {cpu} has come online: it is recorded from now on"),
                Err(error) => format!("processor {cpu} has come online and is not recorded: {error:#}"),
            });
        }
    }

    fn reason_to_end(&self, interrupted: bool, over: bool) -> Option<End> {
        let written = self.written();
        match () {
            () if interrupted => Some(End::Signal),
            () if over => Some(End::Duration),
            () if written.error.is_some() => Some(End::File),
            () if written.full => Some(End::Size),
            () if self.low.is_some() => Some(End::Space),
            () => None,
        }
    }

    fn look_for_triggers(&mut self, signals: &Signals) {
        let lost = self.lost();
        let by_hand = signals.dump().then(|| "SIGUSR1".to_owned());
        let triggered = self.triggers.look(lost);
        for (why, by_hand) in
            by_hand.map(|why| (why, true)).into_iter().chain(triggered.map(|why| (why, false)))
        {
            self.ask_for_dump(why, by_hand);
        }
    }

    fn ask_for_dump(&self, why: String, by_hand: bool) {
        if let Some(recorder) = &self.recorder {
            // A recorder that is gone has kept its reason, which finish() reports.
            let _ = recorder.to.send(Message::Dump { why, done: None, by_hand });
        }
    }

    fn lost(&self) -> u64 {
        self.ledger.totals().values().map(ledger::Counts::lost).sum()
    }

    fn written(&self) -> Written {
        self.recorder.as_ref().map(Recorder::progress).unwrap_or_default()
    }

    /// Once a second: the ledger, our own cost.
    fn keep_books(&mut self) -> Result<()> {
        let time = self.moment();
        let map = self.maps.get("cpu_states").context("the ledger's map")?;
        let rows = self.ledger.read(map, time)?;
        self.send_rows(Own::Ledger, rows);
        self.govern(time)?;
        let (families, attempted) = (&self.families, self.attempted());
        self.cost.tick(|| families.iter().map(Family::run_time).collect(), attempted);
        self.send_rows(Own::Cost, vec![self.cost.row(attempted)]);
        self.progress.show(&self.written(), self.lost());
        Ok(())
    }

    /// What is repeated while the recording runs.
    fn take_stock(&mut self) -> Result<()> {
        self.ticks.pass();
        self.families.iter().try_for_each(|family| family.run_iterators(Moment::Tick))?;
        self.record(self.procfs.records(Moment::Tick));
        self.take_stock_of_host();
        Ok(())
    }

    fn take_stock_of_host(&self) {
        for own in [Own::Load].iter().chain(&Own::OF_STAT).filter(|own| self.plan.has(**own)) {
            self.send_rows(*own, super::system::rows(*own));
        }
    }

    /// Takes out what was added up in the interval that ends now.
    fn close_interval(&mut self) -> Result<()> {
        let begin = self.moment();
        attach::set_variable(&self.families, "interval", begin)?;
        let taken = self.aggregates.take(begin)?;
        self.record(taken);
        Ok(())
    }

    /// Records that come through no ring.
    fn record(&mut self, taken: Taken) {
        for (table, records) in taken {
            let row = self.ledger.stored((self.started, self.moment()), table, records.len() as u64);
            self.send_rows(Own::Ledger, vec![row]);
            self.send(Message::Events(table, records));
        }
    }

    /// Leaves flows or tasks out where a bound is passed, and takes them in again.
    fn govern(&mut self, time: u64) -> Result<()> {
        if !self.governor.is_on() {
            return Ok(());
        }
        let reading = Reading {
            at: time,
            cost: self.cost.spent(self.attempted()),
            stored: self.plan.stored(self.ledger.totals()),
            run_time: attach::by_group(&self.families, self.cost.shares()),
        };
        let steps = self.governor.read(&reading);
        for step in &steps {
            attach::set_step(&self.families, step)?;
            self.progress.say(&step.to_string());
        }
        self.send_rows(Own::Governor, steps.iter().map(|step| step.row(time)).collect());
        Ok(())
    }

    fn attempted(&self) -> u64 {
        self.ledger.hits()
    }

    /// This moment, or that at which the recording stopped.
    fn moment(&self) -> u64 {
        self.stopped.unwrap_or_else(now)
    }

    /// Closes the gate: what has still to be done is no part of the recording.
    fn stop(&mut self) -> Result<()> {
        attach::set_variable(&self.families, "gate", 0)?;
        self.stopped = Some(now());
        self.stage.stopped();
        let clocks = self.clocks.end();
        self.send_rows(Own::Clock, clocks);
        Ok(())
    }

    /// Stops, empties the rings, closes the books and the file.
    fn finish(mut self, end: End) -> Result<()> {
        self.take_stock()?;
        self.stop()?;
        for family in &self.families {
            family.run_iterators(Moment::End)?;
        }
        self.close_interval()?;
        self.note_unreturned()?;
        let outcomes = attach::detach(&mut self.families);
        self.stage.detached();
        let malformed: u64 =
            self.drains.drain(..).map(|drain| drain.join().expect("a drain thread does not panic")).sum();
        self.keep_books()?;
        self.send_rows(Own::Probe, outcomes.iter().map(probe_row).collect());
        self.account_for_discarded();
        if let Some(stacks) = &self.stacks {
            self.send_rows(Own::Symbol, function_names::rows(&stacks.places()));
        }
        if self.triggers.end {
            self.ask_for_dump(format!("the recording ended: {end}"), true);
        }
        let recorder = self.recorder.take().context("a session finishes once")?;
        let written = recorder.finish(&end.to_string(), self.moment());
        let summary = Summary {
            plan: &self.plan,
            written: &written,
            ledger: self.ledger.totals(),
            outcomes: &outcomes,
            malformed,
            cost: &self.cost,
            hits: self.ledger.hits(),
            span: self.moment() - self.started,
            end,
            lacking: super::privilege::lacking(self.stacks.is_some()),
        };
        self.progress.finish(&summary);
        written.fault().map_or(Ok(()), |fault| bail!(fault))
    }

    /// Calls that the programs still wait for.
    fn note_unreturned(&mut self) -> Result<()> {
        let outcomes: Vec<_> = self.families.iter().flat_map(|family| &family.outcomes).collect();
        let left = in_flight::left(&self.maps, &self.plan.layouts, &outcomes)?;
        let span = (self.started, self.moment());
        let lost = |(table, calls)| self.ledger.lost(span, table, calls);
        let rows = left.unseen.into_iter().map(lost).collect();
        self.send_rows(Own::InFlight, left.rows);
        self.send_rows(Own::Ledger, rows);
        Ok(())
    }

    fn account_for_discarded(&self) {
        let row =
            |(&table, &count): (&u16, &u64)| ledger::discarded_row(self.started, self.moment(), table, count);
        let written = self.recorder.as_ref().map(Recorder::settled).unwrap_or_default();
        let rows = written.unaccounted().iter().map(row).collect();
        self.send_rows(Own::Ledger, rows);
    }
}

fn rules(args: &Args, triggers: &mut Triggers) -> Rules {
    Rules {
        naming: None,
        stacks: None,
        max_size: args.max_size,
        conditions: std::mem::take(&mut triggers.conditions),
        dumps: args.flight.map(|_| Dumps::new(args.post, args.cool_down)),
    }
}

fn control(args: &Args, recorder: &Recorder) -> Result<Option<Control>> {
    let path = args.output.as_deref().filter(|_| args.flight.is_some());
    path.map(|path| Control::listen(path, recorder.to.clone())).transpose()
}

pub(super) fn host_of(args: &Args, filter: &Filter) -> Host {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let left_out = if args.no_args { args.command.len().saturating_sub(1) } else { 0 };
    let command = words.take(std::env::args_os().len() - left_out).collect();
    Host { filters: filter.words.clone(), groups: args.groups(), ..describe(command) }
}
