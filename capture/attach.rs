//! Everything that a recording attaches: the probes that the user names, then the families, behind one closed gate.

use super::args::Args;
use super::family::{Family, SharedMaps};
use super::filter::Filter;
use super::governor::Step;
use super::host::now;
use super::knobs::Knobs;
use super::named::probe::Named;
use super::plan::{FamilyPlan, Plan, forced_kinds};
use super::probes::{Choice, Outcome};
use super::record::Row;
use super::rings::Rings;
use super::spare;
use super::threshold;
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{MapCore as _, MapFlags};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// `wanted_tgids` holds as many marks per element.
const TGID_BLOCK: u32 = 64;

/// Loads and attaches all that the plan and the user name.
///
/// # Errors
/// When an object cannot be loaded, a probe that the user names has no way that works, or `--attach` asks for one that
/// is not possible.
pub(super) fn all(
    args: &Args,
    plan: &Plan,
    named: &[Named],
    filter: &Filter,
    rings: &Rings,
    maps: &mut SharedMaps,
) -> Result<Vec<Family>> {
    let forced = forced_kinds(plan, named, &args.attach)?;
    threshold::check(filter, plan)?;
    // First, so that they see the end of a process before `proc` forgets that it was wanted.
    let mut own = Vec::new();
    let mut tgids: Vec<u32> = filter.tgids.iter().copied().collect();
    tgids.sort_unstable();
    for probe in named {
        let knobs = common_knobs(filter, rings, false);
        own.extend(probe.load(&knobs, rings.total(), maps, &forced, &tgids)?);
    }
    let mut families = Vec::new();
    for family in &plan.families {
        let mut probes = family.probes.clone();
        probes.iter_mut().filter(|probe| !filter.uses(&probe.feeds)).for_each(|probe| probe.feeds.clear());
        let choice = Choice::new(probes, |probe| family.needs(probe), &forced);
        families.push(load(family, filter, rings, maps, choice)?);
    }
    families.extend(own);
    spare::objects();
    let outcomes: Vec<&Outcome> = families.iter().flat_map(|family| &family.outcomes).collect();
    check_forced(&outcomes, &forced)?;
    Ok(families)
}

fn check_forced(outcomes: &[&Outcome], forced: &BTreeMap<String, String>) -> Result<()> {
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
    let mut knobs = common_knobs(filter, rings, family.samples());
    knobs.insert("table_number", family.table_number.clone());
    knobs.insert("group_enabled", vec![family.enabled.into()]);
    let least = filter.least.get(family.group).copied().unwrap_or(0);
    knobs.insert(threshold::KNOB, least.to_ne_bytes().to_vec());
    Family::load(family.group, family.object, &knobs, rings.total(), maps, choice)
}

/// What every object is told; those that sample have rings of their own.
fn common_knobs(filter: &Filter, rings: &Rings, sampling: bool) -> Knobs {
    let mut knobs = filter.knobs.clone();
    knobs.insert("ring_of", rings.of_each.clone());
    let first = if sampling { rings.count } else { 0 };
    knobs.insert("ring_first", first.to_ne_bytes().to_vec());
    knobs.insert("wake_mask", u64::from(rings.size_of(first) / 4 - 1).to_ne_bytes().to_vec());
    knobs
}

/// As `bpf/common.bpf.h` has it.
const WANTED: u8 = 1;
/// See [`WANTED`].
const WANTED_FROM_EXEC: u8 = 2;

/// Marks the processes that the filter names; the command's from its exec on, if exec is seen.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn add_wanted(maps: &SharedMaps, filter: &Filter, outcomes: &[Outcome]) -> Result<()> {
    let Some(map) = maps.get("wanted_tgids") else { return Ok(()) };
    let sees_exec = outcomes.iter().any(|outcome| outcome.probe == "process_exec" && outcome.got.is_some());
    for &tgid in &filter.tgids {
        let (index, offset) = ((tgid / TGID_BLOCK).to_ne_bytes(), (tgid % TGID_BLOCK) as usize);
        let mut block = map.lookup(&index, MapFlags::ANY)?.context("a process id is below 2^22")?;
        let from_exec = sees_exec && filter.command == Some(tgid);
        block[offset] = if from_exec { WANTED_FROM_EXEC } else { WANTED };
        map.update(&index, &block, MapFlags::ANY).context("select a process")?;
    }
    Ok(())
}

/// Whether the programs want a process's events, or will want them when it is executed, as far as that is a matter of its id.
pub(super) fn is_wanted(map: &libbpf_rs::MapHandle, tgid: u32) -> bool {
    let block = map.lookup(&(tgid / TGID_BLOCK).to_ne_bytes(), MapFlags::ANY).ok().flatten();
    let mark = block.and_then(|block| block.get((tgid % TGID_BLOCK) as usize).copied());
    matches!(mark, Some(WANTED | WANTED_FROM_EXEC))
}

/// Detaches all, and returns what each probe got, with what is known of it at the end.
pub(super) fn detach(families: &mut [Family]) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    let missed = detach_together(families);
    for (family, missed) in families.iter().zip(missed) {
        let known = outcomes.len();
        outcomes.extend(family.outcomes.iter().cloned());
        // A named probe may be at several files: the first of its families has the outcome.
        let from = if family.outcomes.is_empty() { known.saturating_sub(1) } else { known };
        for outcome in outcomes.iter_mut().skip(from) {
            outcome.missed += outcome.programs.iter().filter_map(|program| missed.get(program)).sum::<u64>();
        }
    }
    outcomes
}

/// For each link the kernel waits until no processor still runs its program: on a thread each, families share those waits.
fn detach_together(families: &mut [Family]) -> Vec<HashMap<String, u64>> {
    let mut missed = vec![HashMap::new(); families.len()];
    let threads = families.len();
    let todo = Mutex::new(families.iter_mut().zip(&mut missed));
    let next = || todo.lock().expect("nothing panics while it is held").next();
    let work = || {
        while let Some((family, missed)) = next() {
            *missed = family.detach();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where there can be no further thread, this one takes longer.
            _ = std::thread::Builder::new().name("detach".into()).spawn_scoped(scope, work);
        }
        work();
    });
    missed
}

pub(super) fn set_variable(families: &[Family], name: &str, value: u64) -> Result<()> {
    families.iter().try_for_each(|family| family.set_variable(name, value))
}

pub(super) fn run_time(families: &[Family]) -> (u64, u64) {
    families.iter().map(Family::run_time).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// Time of each group's programs, of what each family took.
pub(super) fn by_group(families: &[Family], took: &[u64]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (family, ns) in families.iter().zip(took) {
        *sums.entry(family.group.clone()).or_default() += ns;
    }
    sums
}

/// Has a group's programs leave out what the governor says.
pub(super) fn set_step(families: &[Family], step: &Step) -> Result<()> {
    families.iter().filter(|family| family.group == step.group).try_for_each(|family| {
        family.set_variable("sample_mask", step.mask.into())?;
        family.set_variable("drop_stacks", step.bare.into())
    })
}

/// What became of a probe, as a row of table `probe`.
pub(super) fn probe_row(outcome: &Outcome) -> Vec<u8> {
    let status = match (&outcome.got, outcome.off) {
        (_, true) => "off",
        (Some(_), _) => "attached",
        (None, _) => "failed",
    };
    let row = Row::new().u64(now()).text(&outcome.probe).text(&outcome.group);
    let row = row.text(outcome.got.as_deref().unwrap_or("")).text(&outcome.wanted).text(status);
    row.text(&outcome.reasons.join("; "))
        .text(&outcome.lacks.join(","))
        .u64(outcome.missed)
        .text(&outcome.fills)
        .text(&outcome.feeds)
        .bytes()
}
