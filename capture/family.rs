//! Loading the object of one family: knobs, shared maps, retries, links.

use super::probes::{Choice, Outcome};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{DataSec, Var};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel};
use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

/// Values for the knobs of `bpf/common.bpf.h`, by name, as their bytes.
pub type Knobs = HashMap<&'static str, Vec<u8>>;

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

/// A family that is loaded and attached; dropping it detaches it.
pub struct Family {
    /// Links first: they must go before the object.
    links: Vec<(String, Link)>,
    object: Object,
    gate: Option<usize>,
    /// What each probe got.
    pub outcomes: Vec<Outcome>,
}

/// What libbpf said while loading: the only place where it names the program that was refused.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn listen(level: PrintLevel, text: String) {
    if level == PrintLevel::Warn {
        if let Ok(mut said) = SAID.lock() {
            said.push(text);
        }
    }
}

impl Family {
    /// Loads and attaches, trying variants until every probe has one that works or none is left.
    ///
    /// # Errors
    /// When the object cannot be loaded for a reason that is no program's.
    pub fn load(group: &str, object: &[u8], knobs: &Knobs, rings: u32, maps: &mut SharedMaps, mut choice: Choice) -> Result<Self> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
        loop {
            let (loaded, gate) = match open(group, object, knobs, rings, maps, &choice)? {
                Opened::Loaded(loaded, gate) => (loaded, gate),
                Opened::Refused(program, reason) => {
                    refuse(&mut choice, &program, &reason)?;
                    continue;
                }
            };
            match attach(&loaded, &choice) {
                Ok(links) => {
                    share(&loaded, maps)?;
                    return Ok(Self { links, object: loaded, gate, outcomes: choice.outcomes(group) });
                }
                Err((program, reason)) => refuse(&mut choice, &program, &reason)?,
            }
        }
    }

    /// Opens (or closes) the gate: from here on events count.
    ///
    /// # Errors
    /// When the kernel refuses to write the variable.
    pub fn set_gate(&self, open: bool) -> Result<()> {
        let Some(offset) = self.gate else { return Ok(()) };
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).context("a .bss map")?;
        let mut value = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?.context(".bss has its one entry")?;
        value[offset..offset + 4].copy_from_slice(&u32::from(open).to_ne_bytes());
        map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY).context("open the gate")
    }

    /// Runs the iterators: state from before the start.
    ///
    /// # Errors
    /// When reading one fails.
    pub fn run_iterators(&self) -> Result<()> {
        for (program, link) in self.links.iter().filter(|(program, _)| program.ends_with("__iter")) {
            let mut iterator = libbpf_rs::Iter::new(link).with_context(|| format!("start {program}"))?;
            std::io::copy(&mut iterator, &mut std::io::sink()).with_context(|| format!("run {program}"))?;
        }
        Ok(())
    }

    /// Detaches everything and returns how many hits the kernel missed, per program.
    pub fn detach(&mut self) -> HashMap<String, u64> {
        let mut missed = HashMap::new();
        for (program, link) in self.links.drain(..) {
            *missed.entry(program).or_default() += missed_by(&link);
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
    Loaded(Object, Option<usize>),
    Refused(String, String),
}

fn open(group: &str, object: &[u8], knobs: &Knobs, rings: u32, maps: &SharedMaps, choice: &Choice) -> Result<Opened> {
    let mut builder = ObjectBuilder::default();
    let mut open = builder.name(group.replace('-', "_"))?.open_memory(object).with_context(|| format!("open the family {group}"))?;
    let wanted = choice.programs();
    for mut program in open.progs_mut() {
        let load = wanted.iter().any(|name| program.name() == *name);
        program.set_autoload(load);
    }
    let variables = Variables::of(group, object)?;
    set_knobs(&mut open, &variables, knobs)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(shared) = maps.get(&name) {
            map.reuse_fd(shared.as_fd()).with_context(|| format!("share the map {name}"))?;
        } else if name == "rings" {
            map.set_max_entries(rings)?;
        }
    }
    SAID.lock().expect("listeners do not panic").clear();
    match open.load() {
        Ok(loaded) => Ok(Opened::Loaded(loaded, variables.0.get("gate").map(|at| at.0))),
        Err(error) => {
            let said = std::mem::take(&mut *SAID.lock().expect("listeners do not panic"));
            match refused_program(&said) {
                Some((program, reason)) => Ok(Opened::Refused(program, reason)),
                None => bail!("load the family {group}: {error}\n{}", said.concat()),
            }
        }
    }
}

fn refuse(choice: &mut Choice, program: &str, reason: &str) -> Result<()> {
    let kind = choice.kind_of(program).unwrap_or("").to_owned();
    // Refused as such, not for this target: trying each probe of the kind would only take time.
    let of_kind = kind == "fentry" && reason.contains("not permitted") || kind == "kprobe" && reason.contains("not built in");
    if of_kind {
        choice.refuse_kind(&kind, reason);
    } else if !choice.refuse(program, reason) {
        bail!("the program {program} was refused, and no probe has it: {reason}");
    }
    Ok(())
}

/// The first "prog 'NAME': … failed …" in what libbpf said, and why.
fn refused_program(said: &[String]) -> Option<(String, String)> {
    said.iter().find_map(|line| {
        let (_, rest) = line.split_once("prog '")?;
        let (program, what) = rest.split_once("': ")?;
        what.contains("fail").then(|| (program.to_owned(), plain_reason(what, said)))
    })
}

/// A reason that a user can act on, from what libbpf and the verifier printed.
fn plain_reason(what: &str, said: &[String]) -> String {
    if let Some((_, target)) = what.split_once("failed to find kernel BTF type ID of '") {
        return format!("this kernel has no {}", target.split('\'').next().unwrap_or(target));
    }
    let unknown = said.iter().flat_map(|text| text.lines()).find(|line| line.contains("unknown func") || line.contains("invalid func"));
    if let Some(line) = unknown {
        return format!("the verifier: {}", line.trim());
    }
    let reason = what.trim().trim_start_matches("BPF program load failed: ");
    match reason {
        "-EPERM" | "Operation not permitted" => "Operation not permitted".into(),
        other => other.lines().next().unwrap_or(other).to_owned(),
    }
}

type Links = Vec<(String, Link)>;

fn attach(object: &Object, choice: &Choice) -> std::result::Result<Links, (String, String)> {
    let wanted = choice.programs();
    let mut links = Vec::new();
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if !wanted.contains(&name.as_str()) {
            continue;
        }
        match program.attach() {
            Ok(link) => links.push((name, link)),
            Err(error) => return Err((name.clone(), attach_reason(choice.kind_of(&name), &error))),
        }
    }
    Ok(links)
}

fn attach_reason(kind: Option<&str>, error: &libbpf_rs::Error) -> String {
    if kind == Some("kprobe") && !std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return "kprobes are not built in".into();
    }
    match error.kind() {
        libbpf_rs::ErrorKind::NotFound => "this kernel has no such target".into(),
        _ => format!("{error:#}").lines().next().unwrap_or("").to_owned(),
    }
}

fn share(object: &Object, maps: &mut SharedMaps) -> Result<()> {
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        if !name.contains('.') && !maps.0.contains_key(&name) {
            maps.0.insert(name, MapHandle::try_from(&map)?);
        }
    }
    Ok(())
}

/// Global variables of an object: offset in their section, and size.
struct Variables(HashMap<String, (usize, usize)>);

impl Variables {
    fn of(group: &str, object: &[u8]) -> Result<Self> {
        let btf = Btf::from_raw(group, object)?.context("the object has no BTF")?;
        let mut variables = HashMap::new();
        for section in btf.type_by_kind::<DataSec>() {
            for info in section.iter() {
                let name = btf.type_by_id::<Var>(info.ty).and_then(|var| Some(var.name()?.to_string_lossy().into_owned()));
                if let Some(name) = name {
                    variables.insert(name, (info.offset as usize, info.size));
                }
            }
        }
        Ok(Self(variables))
    }
}

fn set_knobs(open: &mut OpenObject, variables: &Variables, knobs: &Knobs) -> Result<()> {
    let mut maps = open.maps_mut();
    let Some(mut map) = maps.find(|map| map.name().to_string_lossy().ends_with(".rodata")) else { return Ok(()) };
    let memory = map.initial_value_mut().context("knobs have initial values")?;
    for (name, value) in knobs {
        let Some(&(offset, size)) = variables.0.get(*name) else { continue };
        if value.len() > size {
            bail!("the knob {name} takes {size} bytes, not {}", value.len());
        }
        memory[offset..offset + value.len()].copy_from_slice(value);
    }
    Ok(())
}

fn missed_by(link: &Link) -> u64 {
    use libbpf_rs::query::{LinkTypeInfo, PerfEventType};
    let Ok(LinkTypeInfo::PerfEvent(event)) = link.info().map(|info| info.info) else { return 0 };
    if let PerfEventType::Kprobe { missed, .. } = event.event_type { missed } else { 0 }
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
