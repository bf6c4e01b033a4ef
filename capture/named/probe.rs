//! One named probe: its table, and how it is loaded and attached.

use super::fetch::{Adding, Program};
use super::place::{Names, Place, Target, UserPlace, Way};
use super::preset;
use super::spec::Spec;
use super::table::{layout, sum_key};
use crate::capture::aggregate;
use crate::capture::args::Asked;
use crate::capture::family::{Family, Held, SharedMaps, Site};
use crate::capture::knobs::Knobs;
use crate::capture::layout::Layout;
use crate::capture::probes::{Choice, Outcome, Probe, Variant};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{
    KprobeMultiOpts, KprobeOpts, OpenMapMut, OpenProgramMut, ProgramMut, TracepointCategory, UprobeMultiOpts,
    UprobeOpts,
};
use std::collections::BTreeMap;

/// The interpreter.
pub static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/named.bpf.o"));

/// Group of the tables of all named probes.
pub const GROUP: &str = "named";

/// A probe that the user named.
#[derive(Clone, Debug)]
pub struct Named {
    /// What it was named as.
    pub spec: Spec,
    /// What that is on this machine.
    pub place: Place,
    /// Its table.
    pub layout: Layout,
}

/// Resolves what the command line names; tables get names of their own. `filtered`: the recording is of some tasks.
///
/// # Errors
/// For the first probe that is not well formed, or that this machine does not have.
pub fn resolve(words: &[Asked], pid: Option<u32>, filtered: bool) -> Result<Vec<Named>> {
    let mut all: Vec<Named> = Vec::new();
    if words.is_empty() {
        return Ok(all);
    }
    let names = Names::new(pid);
    for word in words {
        let probes = preset::resolve(&word.text, &names, filtered).with_context(|| word.by.clone())?;
        for (spec, place) in probes {
            let name = unused(&table_name(&spec, &place), &all);
            let layout = layout(&spec, &place, &name);
            all.push(Named { spec, place, layout });
        }
    }
    Ok(all)
}

/// The name, with a number behind it if another probe's table has it.
fn unused(wanted: &str, all: &[Named]) -> String {
    let used = |name: &String| all.iter().any(|other| other.layout.def.name == *name);
    let numbered = (2..).map(|number| format!("{wanted}_{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !used(name)).expect("there are more numbers than probes")
}

/// The name that the user gave, or that of the place: letters, digits and underscores.
fn table_name(spec: &Spec, place: &Place) -> String {
    let plain = |word: &str| -> String {
        let kept = word.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        kept.collect::<String>().trim_matches('_').to_owned()
    };
    let name = match (&spec.name, place.functions.as_slice()) {
        (Some(name), _) => plain(name),
        (None, [function]) => plain(function),
        (None, _) => plain(spec.target.0.rsplit(':').next().unwrap_or_default()),
    };
    if name.is_empty() { "all".into() } else { name }
}

impl Named {
    /// Loads and attaches it, by the first way that works. What all ways were refused for is in the outcome.
    ///
    /// # Errors
    /// When no way works, with the reasons of all.
    pub fn load(
        &self,
        knobs: &Knobs,
        rings: u32,
        maps: &mut SharedMaps,
        forced: &BTreeMap<String, String>,
        tgids: &[u32],
    ) -> Result<Vec<Family>> {
        let name = &self.layout.def.name;
        let forced = forced.get(name);
        let ways = self.place.ways.iter().filter(|way| forced.is_none_or(|kind| way[0].kind == *kind));
        let mut outcome = Outcome {
            probe: name.clone(),
            group: GROUP.into(),
            wanted: self.place.ways[0][0].kind.into(),
            ..Outcome::default()
        };
        for way in ways {
            let mut parts = Vec::new();
            for part in way {
                let family = load_part((name, part, tgids), self.layout.def.number, knobs, rings, maps)?;
                let got = family.outcomes[0].got.is_some();
                outcome.reasons.extend(family.outcomes[0].reasons.iter().cloned());
                parts.push(family);
                if !got {
                    break;
                }
            }
            if let Some(last) =
                parts.last().and_then(|family| family.outcomes.first()).filter(|last| last.got.is_some())
            {
                outcome.got.clone_from(&last.got);
                outcome.programs.clone_from(&last.programs);
                for family in &mut parts {
                    family.outcomes.clear();
                }
                parts[0].outcomes.push(outcome);
                return Ok(parts);
            }
        }
        bail!("-e: {} cannot be attached here: {}", self.spec.text, outcome.reasons.join("; "))
    }

    /// Whether it can be attached in this way at all.
    ///
    /// # Errors
    /// When it cannot; the message names the ways that there are.
    pub fn check_kind(&self, kind: &str) -> Result<()> {
        let kinds: Vec<&str> = self.place.ways.iter().map(|way| way[0].kind).collect();
        if !kinds.contains(&kind) {
            bail!("--attach {}={kind}: it attaches as {}", self.layout.def.name, kinds.join(", "));
        }
        Ok(())
    }
}

fn load_part(
    (name, part, tgids): (&str, &Way, &[u32]),
    table: u16,
    knobs: &Knobs,
    rings: u32,
    maps: &mut SharedMaps,
) -> Result<Family> {
    let mut knobs = knobs.clone();
    knobs.insert("probe", part.program.bytes(table));
    let programs: Vec<String> = part.programs.iter().map(|&program| program.to_owned()).collect();
    let variant = Variant {
        kind: part.kind.into(),
        // A call whose entry is missed is as lost as one whose return is.
        recording: programs.clone(),
        programs,
        lacks: Vec::new(),
    };
    let probe = Probe { name: name.to_owned(), variants: vec![variant], ..Probe::default() };
    let choice = Choice::new(vec![probe], |_| true, &BTreeMap::new());
    let site = Part { way: part, table: name, tgids };
    let family = Family::load_at(GROUP, OBJECT, &knobs, rings, maps, choice, &site)?;
    match part.target {
        // Those of some processes follow their threads to any processor.
        Target::Perf(counter) if tgids.is_empty() => {
            Ok(family.on_each(move |program, cpu| counter.attach_on(program, cpu)))
        }
        _ => Ok(family),
    }
}

/// The map of what is added up, and that of the stacks among it.
const SUMS: &str = "named_sums";
const STACKS: &str = "named_stacks";

/// A way to attach, for the table of this name.
struct Part<'a> {
    way: &'a Way,
    table: &'a str,
    /// The processes that are recorded; none: all.
    tgids: &'a [u32],
}

impl Site for Part<'_> {
    fn shared_as(&self, map: &str) -> String {
        match map {
            _ if self.way.program.adding == Adding::Not => map.to_owned(),
            SUMS => aggregate::map_of(self.table),
            STACKS => aggregate::stacks_of(self.table),
            _ => map.to_owned(),
        }
    }

    fn size(&self, map: &mut OpenMapMut) -> libbpf_rs::Result<()> {
        let Program { adding, stacks, .. } = &self.way.program;
        let adds = *adding != Adding::Not;
        match map.name().to_str() {
            Some(SUMS) if adds => map.set_key_size(u32::try_from(sum_key(&self.way.program)).expect("small")),
            Some(STACKS) if adds && (stacks.kernel || stacks.user) => Ok(()),
            Some(SUMS | STACKS) => map.set_max_entries(1),
            _ => Ok(()),
        }
    }

    fn prepare(&self, program: &mut OpenProgramMut) -> libbpf_rs::Result<()> {
        match &self.way.target {
            Target::Kernel(functions) if self.way.kind == "fentry" => {
                program.set_attach_target(0, functions.first().cloned())
            }
            _ => Ok(()),
        }
    }

    fn attach(&self, program: &ProgramMut) -> libbpf_rs::Result<Held> {
        let name = program.name().to_string_lossy();
        let at_return = name.starts_with("end__");
        let links = match &self.way.target {
            Target::Tracepoint(category, event) => {
                vec![program.attach_tracepoint(TracepointCategory::Custom(category.clone()), event)?]
            }
            Target::Raw(event) => vec![program.attach_raw_tracepoint(event)?],
            Target::Kernel(_) if self.way.kind == "fentry" => vec![program.attach()?],
            Target::Kernel(functions) if self.way.kind == "kprobe-multi" => {
                let cookies = (0..functions.len() as u64).collect();
                let symbols = functions.clone();
                let options =
                    KprobeMultiOpts { symbols, cookies, retprobe: at_return, ..KprobeMultiOpts::default() };
                vec![program.attach_kprobe_multi_with_opts(options)?]
            }
            Target::Kernel(functions) => {
                vec![program.attach_kprobe_with_opts(at_return, &functions[0], KprobeOpts::default())?]
            }
            Target::User(path, places) if self.way.kind == "uprobe-multi" => {
                let offset = |place: &UserPlace| usize::try_from(place.offset).unwrap_or(usize::MAX);
                let options = UprobeMultiOpts {
                    offsets: places.iter().map(offset).collect(),
                    cookies: (0..places.len() as u64).collect(),
                    retprobe: at_return,
                    ..UprobeMultiOpts::default()
                };
                vec![program.attach_uprobe_multi_with_opts(-1, path, "", options)?]
            }
            Target::User(path, places) => {
                let attach = |(cookie, place): (u64, &UserPlace)| {
                    let options = UprobeOpts {
                        cookie: if self.way.program.cookie { cookie } else { 0 },
                        ref_ctr_offset: usize::try_from(place.semaphore).unwrap_or(0),
                        retprobe: at_return,
                        ..UprobeOpts::default()
                    };
                    let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
                    program.attach_uprobe_with_opts(-1, path, offset, options)
                };
                (0..).zip(places).map(attach).collect::<libbpf_rs::Result<_>>()?
            }
            Target::Perf(counter) => {
                let other = |error: anyhow::Error| libbpf_rs::Error::from(std::io::Error::other(error));
                counter.attach(program, self.tgids).map_err(other)?
            }
        };
        Ok((links, None))
    }
}
