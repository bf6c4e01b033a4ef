//! Loading the object of one family: knobs, shared maps, retries, links.

use super::kretprobe;
use super::probes::{Choice, Outcome};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{DataSec, Func, FuncProto, Var};
use libbpf_rs::{
    Link, MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel, ProgramMut,
};
use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Mutex;

/// Values for the knobs of `bpf/common.bpf.h`, by name, as their bytes.
pub type Knobs = HashMap<&'static str, Vec<u8>>;

/// A knob of this name followed by that of a kernel function is set to the number of its parameters.
const PARAMS_OF: &str = "params_of_";

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
    attached: Vec<Attached>,
    object: Object,
    gate: Option<usize>,
    /// What each probe got.
    pub outcomes: Vec<Outcome>,
}

/// What libbpf said while loading: the only place where it names the program that was refused.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn listen(level: PrintLevel, text: String) {
    if level == PrintLevel::Warn
        && let Ok(mut said) = SAID.lock()
    {
        said.push(text);
    }
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
        mut choice: Choice,
    ) -> Result<Self> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
        let variables = Variables::of(group, object)?;
        let facts = variables.kernel_facts();
        loop {
            let (loaded, gate) = match open(group, object, &variables, (knobs, &facts), rings, maps, &choice)?
            {
                Opened::Loaded(loaded, gate) => (loaded, gate),
                Opened::Refused(program, reason) => {
                    refuse(&mut choice, &program, &reason)?;
                    continue;
                }
            };
            match attach(&loaded, &choice) {
                Ok(attached) => {
                    share(&loaded, maps)?;
                    return Ok(Self { attached, object: loaded, gate, outcomes: choice.outcomes(group) });
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
        let map = self
            .object
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(".bss"))
            .context("a .bss map")?;
        let mut value = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?.context(".bss has its one entry")?;
        value[offset..offset + 4].copy_from_slice(&u32::from(open).to_ne_bytes());
        map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY).context("open the gate")
    }

    /// Runs the iterators: state from before the start.
    ///
    /// # Errors
    /// When reading one fails.
    pub fn run_iterators(&self) -> Result<()> {
        for Attached { program, link, .. } in
            self.attached.iter().filter(|attached| attached.program.ends_with("__iter"))
        {
            let mut iterator = libbpf_rs::Iter::new(link).with_context(|| format!("start {program}"))?;
            std::io::copy(&mut iterator, &mut std::io::sink()).with_context(|| format!("run {program}"))?;
        }
        Ok(())
    }

    /// Detaches everything and returns how many hits the kernel missed, per program.
    pub fn detach(&mut self) -> HashMap<String, u64> {
        let mut missed = HashMap::new();
        for attached in self.attached.drain(..) {
            *missed.entry(attached.program).or_default() += missed_by(&attached.link);
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

fn open(
    group: &str,
    object: &[u8],
    variables: &Variables,
    (knobs, facts): (&Knobs, &[Fact]),
    rings: u32,
    maps: &SharedMaps,
    choice: &Choice,
) -> Result<Opened> {
    let mut builder = ObjectBuilder::default();
    let mut open = builder
        .name(group.replace('-', "_"))?
        .open_memory(object)
        .with_context(|| format!("open the family {group}"))?;
    let wanted = choice.programs();
    for mut program in open.progs_mut() {
        let load = wanted.iter().any(|name| program.name() == *name);
        program.set_autoload(load);
    }
    let knobs = knobs.iter().map(|(name, value)| (*name, value.as_slice()));
    let facts = facts.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    set_knobs(&mut open, variables, knobs.chain(facts))?;
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
    let of_kind = kind == "fentry" && reason.contains("not permitted")
        || kind == "kprobe" && reason.contains("not built in");
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
    if let Some(verdict) = verdict(&said.concat()) {
        return verifier_reason(verdict);
    }
    let reason = what.trim().trim_start_matches("BPF program load failed: ");
    match reason {
        "-EPERM" | "Operation not permitted" => "Operation not permitted".into(),
        other => other.lines().next().unwrap_or(other).to_owned(),
    }
}

fn verifier_reason(verdict: &str) -> String {
    let helper = verdict.split_once("func ").and_then(|(_, helper)| helper.rsplit_once('#'));
    match helper {
        Some(("unknown", number)) => return format!("this kernel has no BPF helper {number}"),
        Some((name, _)) => return format!("this kernel does not let such programs call {name}"),
        None => {}
    }
    if let Some((_, member)) =
        verdict.strip_prefix("failed to resolve CO-RE").and_then(|rest| rest.split_once("] "))
    {
        return format!("this kernel has no {}", member.split(" (").next().unwrap_or(member));
    }
    format!("the verifier: {verdict}")
}

/// The last thing that the verifier says before its statistics is why it refused.
fn verdict(log: &str) -> Option<&str> {
    let (_, log) = log.split_once("-- BEGIN PROG LOAD LOG --")?;
    let (log, _) = log.split_once("-- END PROG LOAD LOG --")?;
    let statistics = |line: &str| {
        ["processed ", "verification time", "stack depth"].iter().any(|start| line.starts_with(start))
    };
    log.lines().map(str::trim).rfind(|line| !line.is_empty() && !statistics(line))
}

/// An attached program.
struct Attached {
    program: String,
    link: Link,
    /// What the link hangs on, if that is ours to remove. Last: it must go after the link.
    _event: Option<kretprobe::Event>,
}

fn attach(object: &Object, choice: &Choice) -> std::result::Result<Vec<Attached>, (String, String)> {
    let wanted = choice.programs();
    let mut attached = Vec::new();
    for program in object.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if !wanted.contains(&name.as_str()) {
            continue;
        }
        match attach_program(&program) {
            Ok((link, event)) => attached.push(Attached { program: name, link, _event: event }),
            Err(error) => return Err((name.clone(), attach_reason(choice.kind_of(&name), &error))),
        }
    }
    Ok(attached)
}

fn attach_program(program: &ProgramMut) -> libbpf_rs::Result<(Link, Option<kretprobe::Event>)> {
    let section = program.section().to_string_lossy();
    if let Some(function) = section.strip_prefix("kretprobe/").filter(|_| has_kprobes())
        && let Ok((link, event)) = kretprobe::attach(program, function)
    {
        return Ok((link, Some(event)));
    }
    Ok((program.attach()?, None))
}

fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

fn attach_reason(kind: Option<&str>, error: &libbpf_rs::Error) -> String {
    if kind == Some("kprobe") && !has_kprobes() {
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
                let name = btf
                    .type_by_id::<Var>(info.ty)
                    .and_then(|var| Some(var.name()?.to_string_lossy().into_owned()));
                if let Some(name) = name {
                    variables.insert(name, (info.offset as usize, info.size));
                }
            }
        }
        Ok(Self(variables))
    }

    /// Values of the knobs that the kernel's own type information answers.
    fn kernel_facts(&self) -> Vec<Fact> {
        let asked = || self.0.keys().filter_map(|name| Some((name, name.strip_prefix(PARAMS_OF)?)));
        if asked().next().is_none() {
            return Vec::new(); // reading the kernel's types takes some milliseconds
        }
        let Ok(kernel) = Btf::from_vmlinux() else { return Vec::new() };
        let parameters = |function: &str| {
            let prototype = FuncProto::try_from(kernel.type_by_name::<Func>(function)?.next_type()?).ok()?;
            u32::try_from(prototype.len()).ok()
        };
        let fact = |(name, function): (&String, &str)| {
            Some((name.clone(), parameters(function)?.to_ne_bytes().to_vec()))
        };
        asked().filter_map(fact).collect()
    }
}

/// The name of a knob, and its value.
type Fact = (String, Vec<u8>);

fn set_knobs<'a>(
    open: &mut OpenObject,
    variables: &Variables,
    knobs: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    let mut maps = open.maps_mut();
    let Some(mut map) = maps.find(|map| map.name().to_string_lossy().ends_with(".rodata")) else {
        return Ok(());
    };
    let memory = map.initial_value_mut().context("knobs have initial values")?;
    for (name, value) in knobs {
        let Some(&(offset, size)) = variables.0.get(name) else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_the_verifier_is_the_reason() {
        let said = [
            "libbpf: prog 'x': BPF program load failed: -EINVAL\n",
            "libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\n\
            ; if (!e)\n608: (15) if r7 == 0x0 goto pc-321\nUnreleased reference id=5 alloc_insn=248\n\
            processed 700 insns (limit 1000000) max_states_per_insn 1\n-- END PROG LOAD LOG --\n",
        ];
        let refused = refused_program(&said.map(str::to_owned));
        let reason = "the verifier: Unreleased reference id=5 alloc_insn=248".to_owned();
        assert_eq!(refused, Some(("x".to_owned(), reason)));
    }

    #[test]
    fn a_missing_helper_and_a_missing_member_are_named() {
        let log = |line: &str| {
            format!("-- BEGIN PROG LOAD LOG --\n{line}\nprocessed 3 insns\n-- END PROG LOAD LOG --\n")
        };
        let reason = |line: &str| plain_reason("BPF program load failed: -EINVAL", &[log(line)]);
        assert_eq!(reason("invalid func unknown#184"), "this kernel has no BPF helper 184");
        assert_eq!(
            reason("failed to resolve CO-RE relocation <byte_off> [7] struct net.ns (0:1 @ offset 8)"),
            "this kernel has no struct net.ns"
        );
    }
}
