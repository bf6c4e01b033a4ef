//! One recording, from start to end.

use super::args::Args;
use super::command::{Command, NotStarted};
use super::cost::Cost;
use super::family::{Family, SharedMaps};
use super::filter::{Filter, user_id};
use super::host::{describe, now};
use super::ledger::{self, Ledger};
use super::output::Output;
use super::plan::{FamilyPlan, Plan, forced_kinds};
use super::probes::{Choice, Outcome};
use super::record::{Own, Row};
use super::recorder::{Message, Recorder, Written, clock_row};
use super::rings::Rings;
use super::summary::{Progress, Summary};
use crate::schema::Host;
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{MapCore as _, MapFlags};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
const CLOCK_EVERY: u64 = 10 * SECOND;

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
    let plan = Plan::new(&args.groups)?;
    let filter = Filter::new(args, command.as_ref().map(Command::pid))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("handle signals")?;
    }
    let path = args.output.as_deref().context("-o FILE is required")?;
    let output = Output::create(path, args.force)?;
    let mut session = Session::start(args, plan, &filter, output).inspect_err(|_| Output::remove(path))?;
    if let Some(Err(error)) = command.as_mut().map(Command::release) {
        let code = error.downcast_ref::<NotStarted>().map_or(125, NotStarted::exit_code);
        session.finish("the command did not start")?;
        eprintln!("capture: {error:#}");
        return Ok(code);
    }
    let (reason, status) = session.run(args, &stop, command.as_mut())?;
    session.finish(reason)?;
    Ok(status)
}

fn require_linux_with_btf() -> Result<()> {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 && !super::privilege::may_load() {
        bail!("loading BPF programs needs root, or CAP_BPF and CAP_PERFMON: run capture with sudo");
    }
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
    maps: SharedMaps,
    recorder: Option<Recorder>,
    drains: Vec<JoinHandle<u64>>,
    draining: Arc<AtomicBool>,
    ledger: Ledger,
    cost: Cost,
    started: u64,
    clock_due: u64,
    plan: Plan,
    progress: Progress,
    _sync: Option<std::sync::mpsc::Sender<()>>,
}

impl Session {
    /// Attaches everything behind a closed gate, takes stock of what is there, and opens the gate.
    fn start(args: &Args, mut plan: Plan, filter: &Filter, output: Output) -> Result<Self> {
        let rings = Rings::plan(args.rings);
        let mut maps = SharedMaps::default();
        let forced = forced_kinds(&plan, &args.attach)?;
        let mut families = Vec::new();
        for family in &plan.families {
            let choice = Choice::new(family.probes.clone(), |probe| family.needs(probe), &forced);
            families.push(load(family, filter, &rings, &mut maps, choice)?);
        }
        let outcomes: Vec<Outcome> = families.iter().flat_map(|family| family.outcomes.clone()).collect();
        check_forced(&outcomes, &forced)?;
        plan.mark_absent(&outcomes);
        rings.create(&maps)?;
        add_wanted(&maps, filter)?;
        let layouts = Arc::new(plan.layouts.clone());
        let sync = if args.no_sync { None } else { output.sync_in_background() };
        let host = host_of(args, filter);
        let recorder = Recorder::start(output, args.level, &host, &layouts)?;
        let draining = Arc::new(AtomicBool::new(true));
        let drains = rings.drain(&maps, &layouts, &recorder.to, &draining, args.stall)?;
        for family in &families {
            family.run_iterators()?;
        }
        let started = now();
        let map = maps.get("cpu_states").context("the ledger's map")?;
        let ledger = Ledger::start(map, started)?;
        for family in &families {
            family.set_gate(true)?;
        }
        let (cost, progress) = (Cost::new(started), Progress::new(args));
        let session = Self {
            families,
            maps,
            recorder: Some(recorder),
            drains,
            draining,
            ledger,
            cost,
            started,
            clock_due: started,
            plan,
            progress,
            _sync: sync,
        };
        session.send_rows(Own::Probe, outcomes.iter().map(|outcome| probe_row(outcome, 0)).collect());
        session.send_rows(Own::Enum, super::names::rows(&layouts));
        Ok(session)
    }

    fn send_rows(&self, own: Own, rows: Vec<Vec<u8>>) {
        if let (Some(recorder), false) = (&self.recorder, rows.is_empty()) {
            // A recorder that is gone has kept its reason, which finish() reports.
            let _ = recorder.to.send(Message::Rows(own, rows));
        }
    }

    /// Until something ends the recording: why, and the exit status.
    fn run(
        &mut self,
        args: &Args,
        stop: &AtomicBool,
        mut command: Option<&mut Command>,
    ) -> Result<(&'static str, u8)> {
        let end = args
            .duration
            .map(|duration| self.started + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        let mut next = self.started + SECOND;
        loop {
            if let Some(status) = command.as_mut().and_then(|command| command.try_wait()) {
                return Ok(("the command ended", status));
            }
            let reason = match () {
                () if stop.load(Ordering::Relaxed) => Some("interrupted"),
                () if end.is_some_and(|end| now() >= end) => Some("the duration is over"),
                () if self.written().error.is_some() => Some("the file could not be written"),
                () => None,
            };
            if let Some(reason) = reason {
                return Ok((reason, command.map_or(0, end_command)));
            }
            let wait = next.min(end.unwrap_or(u64::MAX)).saturating_sub(now()).min(20_000_000);
            std::thread::sleep(Duration::from_nanos(wait));
            if now() >= next || self.cost.is_due() {
                self.keep_books()?;
                next = now() + SECOND;
            }
        }
    }

    fn written(&self) -> Written {
        self.recorder.as_ref().map(Recorder::progress).unwrap_or_default()
    }

    /// Once a second: the ledger, our own cost, the clocks.
    fn keep_books(&mut self) -> Result<()> {
        let time = now();
        let map = self.maps.get("cpu_states").context("the ledger's map")?;
        let rows = self.ledger.read(map, time)?;
        self.send_rows(Own::Ledger, rows);
        if time >= self.clock_due {
            self.send_rows(Own::Clock, vec![clock_row()]);
            self.clock_due = time + CLOCK_EVERY;
        }
        let (families, attempted) = (&self.families, self.attempted());
        self.cost.tick(|| run_time(families), attempted);
        self.send_rows(Own::Cost, vec![self.cost.row(attempted)]);
        let lost = self.ledger.totals().values().map(ledger::Counts::lost).sum();
        self.progress.show(&self.written(), lost);
        Ok(())
    }

    fn attempted(&self) -> u64 {
        self.ledger.totals().values().map(ledger::Counts::attempted).sum()
    }

    /// Closes the gate, empties the rings, closes the books and the file.
    fn finish(mut self, reason: &str) -> Result<()> {
        for family in &self.families {
            family.set_gate(false)?;
        }
        let mut outcomes = Vec::new();
        for family in &mut self.families {
            let missed = family.detach();
            for outcome in &family.outcomes {
                let missed = outcome.programs.iter().filter_map(|program| missed.get(program)).sum();
                outcomes.push((outcome.clone(), missed));
            }
        }
        self.draining.store(false, Ordering::Relaxed);
        let malformed: u64 =
            self.drains.drain(..).map(|drain| drain.join().expect("a drain thread does not panic")).sum();
        self.clock_due = 0;
        self.keep_books()?;
        self.send_rows(
            Own::Probe,
            outcomes.iter().map(|(outcome, missed)| probe_row(outcome, *missed)).collect(),
        );
        self.account_for_discarded();
        let recorder = self.recorder.take().context("a session finishes once")?;
        let written = recorder.finish(reason);
        let summary = Summary {
            plan: &self.plan,
            written: &written,
            ledger: self.ledger.totals(),
            outcomes: &outcomes,
            malformed,
            cost: &self.cost,
            span: now() - self.started,
        };
        self.progress.finish(&summary);
        match &written.error {
            Some(error) => bail!("{error}: the trace ends early"),
            None => Ok(()),
        }
    }

    fn account_for_discarded(&self) {
        let row = |(&table, &count): (&u16, &u64)| ledger::discarded_row(self.started, now(), table, count);
        let rows = self.written().discarded.iter().map(row).collect();
        self.send_rows(Own::Ledger, rows);
    }
}

fn run_time(families: &[Family]) -> (u64, u64) {
    families.iter().map(Family::run_time).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// The recording ends before its command: it is asked to end too, and given some time.
fn end_command(command: &mut Command) -> u8 {
    command.terminate();
    for _ in 0..200 {
        if let Some(status) = command.try_wait() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    125
}

fn check_forced(outcomes: &[Outcome], forced: &std::collections::BTreeMap<String, String>) -> Result<()> {
    for outcome in outcomes.iter().filter(|outcome| outcome.got.is_none() && !outcome.off) {
        if let Some(kind) = forced.get(&outcome.probe) {
            bail!("--attach {}={kind} is not possible here: {}", outcome.probe, outcome.reasons.join("; "));
        }
    }
    Ok(())
}

fn load(
    family: &FamilyPlan,
    filter: &Filter,
    rings: &Rings,
    maps: &mut SharedMaps,
    choice: Choice,
) -> Result<Family> {
    let mut knobs = filter.knobs.clone();
    knobs.insert("table_number", family.table_number.clone());
    knobs.insert("group_enabled", vec![family.enabled.into()]);
    knobs.insert("ring_mask", (rings.count - 1).to_ne_bytes().to_vec());
    knobs.insert("wake_mask", u64::from(rings.size / 4 - 1).to_ne_bytes().to_vec());
    Family::load(family.group, family.object, &knobs, rings.count, maps, choice)
}

fn add_wanted(maps: &SharedMaps, filter: &Filter) -> Result<()> {
    let Some(map) = maps.get("wanted_tgids") else { return Ok(()) };
    for tgid in &filter.tgids {
        map.update(&tgid.to_ne_bytes(), &[1], MapFlags::ANY).context("select a process")?;
    }
    Ok(())
}

fn host_of(args: &Args, filter: &Filter) -> Host {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let left_out = if args.no_args { args.command.len().saturating_sub(1) } else { 0 };
    let command = words.take(std::env::args_os().len() - left_out).collect();
    Host { filters: filter.words.clone(), groups: args.groups.clone(), ..describe(command) }
}

fn probe_row(outcome: &Outcome, missed: u64) -> Vec<u8> {
    let status = match (&outcome.got, outcome.off) {
        (_, true) => "off",
        (Some(_), _) => "attached",
        (None, _) => "failed",
    };
    let row = Row::new().u64(now()).text(&outcome.probe).text(&outcome.group);
    let row = row.text(outcome.got.as_deref().unwrap_or("")).text(&outcome.wanted).text(status);
    row.text(&outcome.reasons.join("; ")).text(&outcome.lacks.join(",")).u64(missed).bytes()
}
