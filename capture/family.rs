//! Loading the object of one family: knobs, shared maps, retries, links.

use super::knobs::{Fact, Knobs, STATE_LIMIT, Variables, set_knobs};
use super::probes::{Choice, Outcome};
use super::{core_types, kretprobe, refusal, sampling};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{
    Link, MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder, OpenMapMut, OpenProgramMut, ProgramMut,
};
use std::collections::HashMap;
use std::os::fd::AsFd as _;

/// Maps that families share: the first that declares a name creates it.
#[derive(Default)]
pub struct SharedMaps(HashMap<String, MapHandle>);

impl SharedMaps {
    /// A map by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&MapHandle> {
        self.0.get(name)
    }
}

/// The section of what is set while recording. No program writes there: a write from here is one of the whole section.
const LIVE: &str = ".data.live";

/// The section of programs that sample.
const SAMPLING: &str = "perf_event";

/// When an iterator runs; the end of its name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the recording: what is there already.
    Start,
    /// Again and again while it runs, at its begin and its end too.
    Tick,
    /// After it: what has not ended.
    End,
}

impl Moment {
    fn suffix(self) -> &'static str {
        match self {
            Self::Start => "__iter",
            Self::Tick => "__tick",
            Self::End => "__last",
        }
    }
}

/// How a program is attached to one processor.
type OnProcessor = Box<dyn Fn(&ProgramMut, i32) -> Result<Link> + Send>;

/// A family that is loaded and attached; dropping it detaches it.
pub struct Family {
    /// Links first: they must go before the object.
    attached: Vec<Attached>,
    object: Object,
    variables: Variables,
    /// Name of its group.
    pub group: String,
    /// If it has a program that is attached to each processor apart.
    on_processor: Option<OnProcessor>,
    /// What each probe got.
    pub outcomes: Vec<Outcome>,
}

impl Family {
    /// Loads and attaches, trying variants until every probe has one that works or none is left.
    ///
    /// # Errors
    /// When the object cannot be loaded for a reason that is no program's.
    pub fn load(
        group: &str,
        object: &[u8],
        knobs: &Knobs,
        rings: u32,
        maps: &mut SharedMaps,
        choice: Choice,
    ) -> Result<Self> {
        let hz = sampling::frequency(knobs);
        let family = Self::load_at(group, object, knobs, rings, maps, choice, &Declared(hz))?;
        Ok(family.on_each(move |program, cpu| sampling::attach_on(program, hz, cpu)))
    }

    /// Loads programs that attach where `site` says.
    ///
    /// # Errors
    /// As [`Family::load`].
    pub fn load_at(
        group: &str,
        object: &[u8],
        knobs: &Knobs,
        rings: u32,
        maps: &mut SharedMaps,
        mut choice: Choice,
        site: &dyn Site,
    ) -> Result<Self> {
        refusal::listen();
        let variables = Variables::of(group, object)?;
        let facts = variables.kernel_facts();
        loop {
            // In the order of the chains, in which one of them may stand before the other.
            for (kind, reason) in refusal::of_kinds() {
                choice.refuse_kind(kind, reason);
            }
            let loaded = match open(group, object, &variables, (knobs, &facts), rings, maps, (&choice, site))?
            {
                Opened::Loaded(loaded) => loaded,
                Opened::Refused(program, reason) => {
                    refuse(&mut choice, &program, &reason)?;
                    continue;
                }
            };
            match attach(&loaded, &choice, site) {
                Ok(attached) => {
                    share(&loaded, maps, site)?;
                    return Ok(Self {
                        attached,
                        object: loaded,
                        variables,
                        group: group.to_owned(),
                        on_processor: None,
                        outcomes: choice.outcomes(group),
                    });
                }
                Err((program, reason)) => refuse(&mut choice, &program, &reason)?,
            }
        }
    }

    /// Its programs that sample, or count what a processor does, attach so to a processor that comes online later.
    #[must_use]
    pub fn on_each(self, attach: impl Fn(&ProgramMut, i32) -> Result<Link> + Send + 'static) -> Self {
        Self { on_processor: Some(Box::new(attach)), ..self }
    }

    /// Whether its flows or tasks can be left out: see `bpf/sample.bpf.h`.
    #[must_use]
    pub fn can_leave_out(&self) -> bool {
        self.variables.offset("sample_mask").is_some()
    }

    /// Whether it takes stacks, and can do without.
    #[must_use]
    pub fn can_drop_stacks(&self) -> bool {
        self.variables.offset("drop_stacks").is_some()
    }

    /// Whether it has programs that are attached to each processor apart.
    #[must_use]
    pub fn samples(&self) -> bool {
        self.on_processor.is_some() && self.object.progs().any(|program| program.section() == SAMPLING)
    }

    /// Attaches those to one more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sample_on(&mut self, cpu: i32) -> Result<()> {
        let Some(attach) = &self.on_processor else { return Ok(()) };
        for program in self.object.progs_mut().filter(|program| program.section() == SAMPLING) {
            let attached =
                self.attached.iter_mut().find(|attached| program.name() == attached.program.as_str());
            if let Some(attached) = attached {
                attached.links.push(attach(&program, cpu)?);
            }
        }
        Ok(())
    }

    /// Writes a variable that the programs read while they run, if this family has it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_variable(&self, name: &str, value: u64) -> Result<()> {
        let Some(offset) = self.variables.offset(name) else { return Ok(()) };
        let map = self
            .object
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(LIVE))
            .with_context(|| format!("a map of {LIVE}"))?;
        let mut all = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?.context("it has its one entry")?;
        all[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        map.update(&0u32.to_ne_bytes(), &all, MapFlags::ANY).with_context(|| format!("write {name}"))
    }

    /// Runs the iterators of a moment.
    ///
    /// # Errors
    /// When reading one fails.
    pub fn run_iterators(&self, moment: Moment) -> Result<()> {
        let due = self.attached.iter().filter(|attached| attached.program.ends_with(moment.suffix()));
        for (program, link) in due.flat_map(|a| a.links.iter().map(|link| (&a.program, link))) {
            let mut iterator = libbpf_rs::Iter::new(link).with_context(|| format!("start {program}"))?;
            std::io::copy(&mut iterator, &mut std::io::sink()).with_context(|| format!("run {program}"))?;
        }
        Ok(())
    }

    /// Detaches everything and returns how many hits the kernel missed, per program.
    pub fn detach(&mut self) -> HashMap<String, u64> {
        let mut missed = HashMap::new();
        for attached in self.attached.drain(..) {
            *missed.entry(attached.program).or_default() += attached.links.iter().map(missed_by).sum::<u64>();
        }
        for program in self.object.progs() {
            let name = program.name().to_string_lossy().into_owned();
            *missed.entry(name).or_default() += recursion_misses(&program);
        }
        missed
    }

    /// The loaded programs' run counts and times so far, while the kernel keeps them.
    #[must_use]
    pub fn run_time(&self) -> (u64, u64) {
        let infos = self.object.progs().filter_map(|program| program_info(&program));
        infos.fold((0, 0), |(ns, runs), info| (ns + info.run_time_ns, runs + info.run_cnt))
    }
}

enum Opened {
    Loaded(Object),
    Refused(String, String),
}

fn open(
    group: &str,
    object: &[u8],
    variables: &Variables,
    (knobs, facts): (&Knobs, &[Fact]),
    rings: u32,
    maps: &SharedMaps,
    (choice, site): (&Choice, &dyn Site),
) -> Result<Opened> {
    let mut builder = ObjectBuilder::default();
    if let Some(types) = core_types::path(object) {
        builder.btf_custom_path(types)?;
    }
    let mut open = builder
        .name(group.replace('-', "_"))?
        .open_memory(object)
        .with_context(|| format!("open the family {group}"))?;
    let wanted = choice.programs();
    for mut program in open.progs_mut() {
        let load = wanted.iter().any(|name| program.name() == *name);
        program.set_autoload(load);
        if load {
            site.prepare(&mut program)?;
        }
    }
    let limit = knobs
        .get(STATE_LIMIT)
        .and_then(|value| value.first_chunk())
        .map_or(u32::MAX, |value| u32::from_ne_bytes(*value));
    let knobs = knobs.iter().map(|(name, value)| (*name, value.as_slice()));
    let facts = facts.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    set_knobs(&mut open, variables, knobs.chain(facts))?;
    for mut map in open.maps_mut() {
        site.size(&mut map)?;
        let name = site.shared_as(&map.name().to_string_lossy());
        if let Some(shared) = maps.get(&name) {
            map.reuse_fd(shared.as_fd()).with_context(|| format!("share the map {name}"))?;
        } else if name == "rings" {
            map.set_max_entries(rings)?;
        } else if map.map_type() == libbpf_rs::MapType::Hash && limit < map.max_entries() {
            map.set_max_entries(limit)?;
        }
    }
    drop(refusal::take_said());
    match open.load() {
        Ok(loaded) => Ok(Opened::Loaded(loaded)),
        Err(error) => {
            let said = refusal::take_said();
            match refusal::refused_program(&said) {
                Some((program, reason)) => Ok(Opened::Refused(program, reason)),
                None => bail!("load the family {group}: {error}\n{}", said.concat()),
            }
        }
    }
}

fn refuse(choice: &mut Choice, program: &str, reason: &str) -> Result<()> {
    let kind = choice.kind_of(program).unwrap_or("").to_owned();
    if refusal::is_of_kind(&kind, reason) {
        choice.refuse_kind(&kind, reason);
    } else if !choice.refuse(program, reason) {
        bail!("the program {program} was refused, and no probe has it: {reason}");
    }
    Ok(())
}

/// An attached program.
struct Attached {
    program: String,
    /// One, or one per processor.
    links: Vec<Link>,
    /// What the link hangs on, if that is ours to remove. Last: it must go after the link.
    _event: Option<kretprobe::Event>,
}

fn attach(
    object: &Object,
    choice: &Choice,
    site: &dyn Site,
) -> std::result::Result<Vec<Attached>, (String, String)> {
    let wanted = choice.programs();
    let mut attached = Vec::new();
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if !wanted.contains(&name.as_str()) {
            continue;
        }
        match site.attach(&program) {
            Ok((links, event)) => attached.push(Attached { program: name, links, _event: event }),
            Err(error) => return Err((name.clone(), refusal::attach_reason(choice.kind_of(&name), &error))),
        }
    }
    Ok(attached)
}

/// Where programs attach, and with which maps.
pub trait Site {
    /// The name that objects share a map under: its own, but for maps that this site has alone.
    fn shared_as(&self, map: &str) -> String {
        map.to_owned()
    }

    /// Sizes a map before it is made.
    ///
    /// # Errors
    /// When the map cannot have that size.
    fn size(&self, _: &mut OpenMapMut) -> libbpf_rs::Result<()> {
        Ok(())
    }

    /// Before the program is loaded.
    ///
    /// # Errors
    /// When the program cannot have such a target.
    fn prepare(&self, program: &mut OpenProgramMut) -> libbpf_rs::Result<()>;

    /// After it was.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn attach(&self, program: &ProgramMut) -> libbpf_rs::Result<Held>;
}

/// What keeps a program attached: links, and what they hang on, if that is ours to remove.
pub type Held = (Vec<Link>, Option<kretprobe::Event>);

/// Where the section of each program says; samples are taken so often in a second.
struct Declared(u32);

impl Site for Declared {
    fn prepare(&self, _: &mut OpenProgramMut) -> libbpf_rs::Result<()> {
        Ok(())
    }

    fn attach(&self, program: &ProgramMut) -> libbpf_rs::Result<Held> {
        let section = program.section().to_string_lossy();
        if section == SAMPLING {
            let other = |error: anyhow::Error| libbpf_rs::Error::from(std::io::Error::other(error));
            return Ok((sampling::attach(program, self.0).map_err(other)?, None));
        }
        if let Some(function) = section.strip_prefix("kretprobe/").filter(|_| refusal::has_kprobes())
            && let Ok((link, event)) = kretprobe::attach(program, function)
        {
            return Ok((vec![link], Some(event)));
        }
        Ok((vec![program.attach()?], None))
    }
}

fn share(object: &Object, maps: &mut SharedMaps, site: &dyn Site) -> Result<()> {
    for map in object.maps() {
        let name = site.shared_as(&map.name().to_string_lossy());
        if !name.contains('.') && !maps.0.contains_key(&name) {
            maps.0.insert(name, MapHandle::try_from(&map)?);
        }
    }
    Ok(())
}

fn missed_by(link: &Link) -> u64 {
    use libbpf_rs::query::{LinkTypeInfo, PerfEventType};
    match link.info().map(|info| info.info) {
        Ok(LinkTypeInfo::KprobeMulti(all)) => all.missed,
        Ok(LinkTypeInfo::PerfEvent(event)) => match event.event_type {
            PerfEventType::Kprobe { missed, .. } => missed,
            _ => 0,
        },
        _ => 0,
    }
}

fn recursion_misses(program: &libbpf_rs::Program) -> u64 {
    program_info(program).map_or(0, |info| info.recursion_misses)
}

fn program_info(program: &libbpf_rs::Program) -> Option<libbpf_sys::bpf_prog_info> {
    use std::os::fd::AsRawFd as _;
    let fd = program.as_fd().as_raw_fd();
    if fd < 0 {
        return None; // not loaded: a variant that was not chosen
    }
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = u32::try_from(size_of_val(&info)).expect("a small struct");
    // SAFETY: `info` and `length` are valid and describe each other; the kernel writes at most `length` bytes.
    let result = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd, (&raw mut info).cast(), &raw mut length) };
    (result == 0).then_some(info)
}
