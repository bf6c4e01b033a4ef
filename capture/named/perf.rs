//! Perf events: what the kernel or a counter of the processor counts, a hit for each so many.
//!
//! Of a whole machine there is an event on each processor. Of some processes (`--pid`, COMMAND) there is one in each of their
//! threads, which threads and processes to come inherit: nobody else is interrupted.

use super::fetch::Fetch;
use super::place::{Names, Place, Target, Way, program};
use super::spec::{Arg, Rate, Spec, Type, Wrong};
use super::value::{Value, nearest};
use super::{kernel, regs};
use crate::capture::perf_event::{self, Whose};
use crate::capture::sampling::{DEFAULT_HZ, KIND};
use anyhow::Result;
use libbpf_rs::{Link, ProgramMut};
use libbpf_sys as sys;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::path::Path;

/// An event that can be named.
struct Event {
    name: &'static str,
    hardware: bool,
    number: u32,
    /// It happens once in a while: each is a hit, where a clock or a counter is sampled.
    each: bool,
    /// An address goes with it.
    addressed: bool,
}

const fn software(name: &'static str, number: u32, each: bool, addressed: bool) -> Event {
    Event { name, hardware: false, number, each, addressed }
}

const fn hardware(name: &'static str, number: u32) -> Event {
    Event { name, hardware: true, number, each: false, addressed: false }
}

/// By the names that `perf list` has for them.
const EVENTS: [Event; 18] = [
    software("cpu-clock", sys::PERF_COUNT_SW_CPU_CLOCK, false, false),
    software("task-clock", sys::PERF_COUNT_SW_TASK_CLOCK, false, false),
    software("page-faults", sys::PERF_COUNT_SW_PAGE_FAULTS, true, true),
    software("minor-faults", sys::PERF_COUNT_SW_PAGE_FAULTS_MIN, true, true),
    software("major-faults", sys::PERF_COUNT_SW_PAGE_FAULTS_MAJ, true, true),
    software("alignment-faults", sys::PERF_COUNT_SW_ALIGNMENT_FAULTS, true, true),
    software("emulation-faults", sys::PERF_COUNT_SW_EMULATION_FAULTS, true, false),
    software("context-switches", sys::PERF_COUNT_SW_CONTEXT_SWITCHES, true, false),
    software("cpu-migrations", sys::PERF_COUNT_SW_CPU_MIGRATIONS, true, false),
    hardware("cycles", sys::PERF_COUNT_HW_CPU_CYCLES),
    hardware("ref-cycles", sys::PERF_COUNT_HW_REF_CPU_CYCLES),
    hardware("bus-cycles", sys::PERF_COUNT_HW_BUS_CYCLES),
    hardware("instructions", sys::PERF_COUNT_HW_INSTRUCTIONS),
    hardware("cache-references", sys::PERF_COUNT_HW_CACHE_REFERENCES),
    hardware("cache-misses", sys::PERF_COUNT_HW_CACHE_MISSES),
    hardware("branches", sys::PERF_COUNT_HW_BRANCH_INSTRUCTIONS),
    hardware("branch-misses", sys::PERF_COUNT_HW_BRANCH_MISSES),
    hardware("stalled-cycles-frontend", sys::PERF_COUNT_HW_STALLED_CYCLES_FRONTEND),
];

impl Event {
    fn counter(&self, rate: Rate) -> Counter {
        let kind = if self.hardware { sys::PERF_TYPE_HARDWARE } else { sys::PERF_TYPE_SOFTWARE };
        Counter { kind, number: self.number, rate }
    }

    fn usual(&self) -> Rate {
        if self.each { Rate::Period(1) } else { Rate::Frequency(DEFAULT_HZ.into()) }
    }

    fn kind(&self) -> &'static str {
        if self.hardware { "hardware" } else { "software" }
    }

    /// Why this machine does not count it, if so.
    fn missing(&self) -> Option<String> {
        let mut attributes = self.counter(self.usual()).attributes();
        attributes.set_disabled(1);
        let reason = perf_event::open(&attributes, Whose::Task(0)).err()?;
        let guest = "; virtual machines often pass no counters on, but pe:cpu-clock and other software events work everywhere";
        let guest = if self.hardware { guest } else { "" };
        Some(format!("this machine does not count it ({reason:#}{guest})"))
    }

    /// What can be asked of it, as `--list` prints it.
    fn spell(&self) -> String {
        let addr = if self.addressed { ", addr: u64" } else { "" };
        let missing = self.missing().map(|reason| format!("   {reason}")).unwrap_or_default();
        format!("pe:{}(ip: u64{addr}){missing}", self.name)
    }
}

/// The names of all, and how each is spelled with what can be asked of it.
pub(super) fn all() -> impl Iterator<Item = (&'static str, String)> {
    EVENTS.iter().map(|event| (event.name, event.spell()))
}

impl Names {
    /// A perf event.
    pub(super) fn perf(&self, spec: &Spec) -> Result<Place> {
        let (event, period) = event(spec)?;
        if let Some(reason) = event.missing() {
            return Err(Wrong::new(&spec.text, spec.target.1, format!("{}: {reason}", event.name)).into());
        }
        let addr =
            if event.addressed { kernel::offset(self.types()?, "perf_sample_data", "addr") } else { None };
        let values =
            spec.args.iter().flatten().map(|arg| value(spec, arg, addr)).collect::<Result<Vec<_>, _>>()?;
        let rate = spec.rate.or(period).unwrap_or_else(|| event.usual());
        let way = Way {
            kind: KIND,
            programs: &["hit__perf"],
            program: program(&values),
            target: Target::Perf(event.counter(rate)),
        };
        Ok(Place { values, ret: None, functions: vec![event.name.to_owned()], ways: vec![vec![way]] })
    }
}

/// `[software:|hardware:]NAME[:PERIOD]`.
fn event(spec: &Spec) -> Result<(&'static Event, Option<Rate>), Wrong> {
    let (target, at) = (spec.target.0.as_str(), spec.target.1);
    let mut words: Vec<&str> = target.split(':').collect();
    let kind = words.first().copied().filter(|word| ["software", "hardware"].contains(word));
    if kind.is_some() {
        words.remove(0);
    }
    let (name, period) = match words.as_slice() {
        [name] => (*name, None),
        [name, period] => {
            let period = period.parse().ok().filter(|period| *period > 0);
            let reason = "expected an event and a period, as in pe:page-faults:100";
            (*name, Some(Rate::Period(period.ok_or_else(|| Wrong::new(&spec.text, at, reason))?)))
        }
        _ => {
            return Err(Wrong::new(
                &spec.text,
                at,
                "expected an event, as in pe:page-faults or pe:cpu-clock",
            ));
        }
    };
    let found =
        EVENTS.iter().find(|event| event.name == name && kind.is_none_or(|kind| event.kind() == kind));
    let event = found.ok_or_else(|| {
        let guess = nearest(name, EVENTS.iter().map(|event| event.name));
        Wrong::new(
            &spec.text,
            at,
            format!("there is no perf event '{name}'{guess}; capture --list 'pe:*' names them"),
        )
    })?;
    Ok((event, period))
}

/// The program's context leads to the registers and to what the event brings.
fn value(spec: &Spec, arg: &Arg, addr: Option<i32>) -> Result<Value, Wrong> {
    let wrong = |reason: &str| Wrong::new(&spec.text, arg.at, reason);
    let offset = match (arg.base.as_str(), addr) {
        _ if !arg.members.is_empty() || arg.offset.is_some() => None,
        ("ip", _) => Some(vec![0, regs::IP]),
        ("addr", Some(addr)) => Some(vec![8, addr]),
        ("addr", None) => return Err(wrong("no address goes with this event")),
        _ => None,
    };
    let offset =
        offset.ok_or_else(|| wrong("a perf event has ip, where it was hit, and with faults addr"))?;
    let fetch = Fetch { offset, ..Fetch::default() };
    Ok(Value::typed(arg, Type::Int(8, false, false), fetch, false))
}

/// An event as the kernel is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    kind: u32,
    number: u32,
    rate: Rate,
}

impl Counter {
    fn attributes(&self) -> sys::perf_event_attr {
        let mut attributes = perf_event::attributes(self.kind, self.number.into());
        match self.rate {
            Rate::Period(period) => attributes.__bindgen_anon_1.sample_period = period,
            Rate::Frequency(hz) => {
                attributes.set_freq(1);
                attributes.__bindgen_anon_1.sample_freq = hz;
            }
        }
        attributes
    }

    /// Attaches a program: to all threads of these processes, or, with none, to all processors.
    ///
    /// # Errors
    /// When the kernel refuses the event or the program.
    pub fn attach(&self, program: &ProgramMut, tgids: &[u32]) -> Result<Vec<Link>> {
        let mut attributes = self.attributes();
        attributes.set_inherit(u64::from(!tgids.is_empty()));
        let mut links = Vec::new();
        let mut attach = |whose| -> Result<()> {
            links.push(attach_to(program, &attributes, whose)?);
            Ok(())
        };
        if tgids.is_empty() {
            perf_event::online_cpus()?.into_iter().try_for_each(|cpu| attach(Whose::Processor(cpu)))?;
        }
        for &tgid in tgids {
            of_threads(tgid, |tid| attach(Whose::Task(tid)))?;
        }
        Ok(links)
    }

    /// Attaches a program to one more processor.
    ///
    /// # Errors
    /// As [`Counter::attach`].
    pub fn attach_on(&self, program: &ProgramMut, cpu: i32) -> Result<Link> {
        attach_to(program, &self.attributes(), Whose::Processor(cpu))
    }
}

fn attach_to(program: &ProgramMut, attributes: &sys::perf_event_attr, whose: Whose) -> Result<Link> {
    let event = perf_event::open(attributes, whose)?;
    let link = program.attach_perf_event(event.as_raw_fd())?;
    let _ = event.into_raw_fd(); // the link closes it
    Ok(link)
}

/// For each thread of a process once, also for those that others, not seen yet, make in the meantime.
fn of_threads(tgid: u32, mut each: impl FnMut(i32) -> Result<()>) -> Result<()> {
    let mut seen = BTreeSet::new();
    loop {
        let before = seen.len();
        let path = format!("/proc/{tgid}/task");
        let Ok(threads) = std::fs::read_dir(&path) else { return Ok(()) }; // it has ended
        for thread in threads.flatten() {
            let Some(tid) = thread.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if seen.insert(tid) {
                each(tid).or_else(|error| {
                    if Path::new(&path).join(tid.to_string()).exists() { Err(error) } else { Ok(()) }
                })?;
            }
        }
        if seen.len() == before {
            return Ok(());
        }
    }
}
