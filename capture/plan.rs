//! What a recording needs: from group names to families, tables and probes.

use super::args::Args;
use super::layout::Layout;
use super::ledger::Counts;
use super::named::probe::{Named, resolve};
use super::probes::{FAMILIES, NONE, Outcome, Probe, probes_of};
use super::record::Own;
use super::sampling;
use crate::schema::Role;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// One family's part of the plan.
pub struct FamilyPlan {
    /// Name of the group.
    pub group: &'static str,
    /// Its compiled object.
    pub object: &'static [u8],
    /// Whether its events are recorded; else only its identity.
    pub enabled: bool,
    /// All its probes.
    pub probes: Vec<Probe>,
    /// BTF id of a struct → number of its table + 1, for the knob `table_number`.
    pub table_number: Vec<u8>,
}

impl FamilyPlan {
    /// Whether this recording needs a probe: its group is on, or it keeps an identity that is referred to.
    #[must_use]
    pub fn needs(&self, probe: &Probe) -> bool {
        self.enabled || probe.keeps.is_some()
    }

    /// Whether its programs run in the interrupt of a sampling clock: they then write to rings of their own.
    #[must_use]
    pub fn samples(&self) -> bool {
        self.enabled && self.probes.iter().flat_map(|probe| &probe.variants).any(|v| v.kind == sampling::KIND)
    }
}

/// The whole plan.
pub struct Plan {
    /// Families to load, in order.
    pub families: Vec<FamilyPlan>,
    /// All tables, by number.
    pub layouts: Vec<Layout>,
}

/// BTF ids that the knob has room for, as in `bpf/common.bpf.h`.
const TYPE_IDS: usize = 1024;

impl Plan {
    /// Of the groups and probes that the command line names.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Plan::add_named`], and for a probe that this machine does not have.
    pub fn of(args: &Args) -> Result<(Self, Vec<Named>)> {
        let mut plan = Self::new(&args.groups())?;
        let task = args.pid.first().copied().or(args.tid);
        let mut named = resolve(&args.all_probes()?, task, args.selects_tasks())?;
        plan.add_named(&mut named)?;
        Ok((plan, named))
    }

    /// Resolves group names.
    ///
    /// # Errors
    /// For a group that there is not, or an object that breaks the rules of `bpf/event.h`.
    pub fn new(groups: &[String]) -> Result<Self> {
        for group in groups {
            if !FAMILIES.iter().any(|(name, _)| name == group) {
                let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
                bail!(
                    "there is no group '{group}': the groups are {}; `capture --list` explains them",
                    known.join(", ")
                );
            }
        }
        let mut declared = Vec::new();
        for (group, object) in FAMILIES {
            declared.push((*group, *object, Layout::from_btf(group, object)?, probes_of(group, object)?));
        }
        // At a process's end it stops to be a wanted one, which must be the last that programs learn of it.
        declared.sort_by_key(|(group, ..)| *group == "proc");
        let enabled = |group: &str| groups.iter().any(|name| name == group);
        let referred = referred(
            declared.iter().filter(|(group, ..)| enabled(group)).flat_map(|(_, _, tables, _)| tables),
        );
        let mut plan = Self { families: Vec::new(), layouts: Vec::new() };
        for (group, object, tables, probes) in declared {
            let keeps =
                |probe: &Probe| probe.keeps.as_ref().is_some_and(|identity| referred.contains(identity));
            if enabled(group) || probes.iter().any(keeps) {
                plan.add(group, object, enabled(group), tables, probes);
            }
        }
        plan.number_own();
        Ok(plan)
    }

    fn add(
        &mut self,
        group: &'static str,
        object: &'static [u8],
        enabled: bool,
        tables: Vec<(u32, Layout)>,
        probes: Vec<Probe>,
    ) {
        let mut table_number = vec![0; TYPE_IDS];
        for (id, layout) in tables {
            if enabled || layout.def.role == Role::Identity {
                table_number[id as usize] = u8::try_from(self.number(layout) + 1).expect("at most 64 tables");
            }
        }
        self.families.push(FamilyPlan { group, object, enabled, probes, table_number });
    }

    /// Adds the tables of probes that the user names.
    ///
    /// # Errors
    /// When there are more tables than the ledger has room for.
    ///
    /// # Panics
    /// Never: the number of tables has just been checked.
    pub fn add_named(&mut self, named: &mut [Named]) -> Result<()> {
        for probe in &mut *named {
            if self.layouts.len() == super::ledger::TABLES {
                bail!("-e: a trace has at most {} tables: leave groups out", super::ledger::TABLES);
            }
            while self.layouts.iter().any(|known| known.def.name == probe.layout.def.name) {
                probe.layout.def.name.push('_');
            }
            probe.layout.def.number =
                u16::try_from(self.number(probe.layout.clone())).expect("at most 64 tables");
        }
        let own = Own::OF_STACKS.len() + Own::OF_NAMED.len();
        if !named.is_empty() && self.layouts.len() + own > super::ledger::TABLES {
            bail!("-e: a trace has at most {} tables: leave groups out", super::ledger::TABLES);
        }
        self.number_own();
        Ok(())
    }

    /// Events stored, by group.
    #[must_use]
    pub fn stored(&self, totals: &BTreeMap<usize, Counts>) -> BTreeMap<String, u64> {
        let mut stored = BTreeMap::new();
        for (&table, counts) in totals {
            let def = &self.layouts[table].def;
            if def.role == Role::Event {
                *stored.entry(def.group.clone()).or_default() += counts.stored;
            }
        }
        stored
    }

    /// Whether what is recorded has stacks.
    #[must_use]
    pub fn has_stacks(&self) -> bool {
        let mut columns = self.layouts.iter().flat_map(|layout| &layout.def.columns);
        columns.any(|column| column.references == Own::Stack.name())
    }

    /// Whether it has one of the recorder's own tables.
    #[must_use]
    pub fn has(&self, own: Own) -> bool {
        self.layouts.iter().any(|layout| layout.def.name == own.name())
    }

    /// Numbers the recorder's own tables.
    fn number_own(&mut self) {
        let stacks = self.has_stacks();
        let stat = self.families.iter().any(|family| family.enabled && family.group == Own::GROUP_OF_STAT);
        let own = Own::ALWAYS.iter().chain(Own::OF_STACKS.iter().filter(|_| stacks));
        let named = self.layouts.iter().any(|layout| layout.def.group == super::named::probe::GROUP);
        let own = own.chain(Own::OF_NAMED.iter().filter(|_| named));
        for own in own.chain(Own::OF_STAT.iter().filter(|_| stat)) {
            self.number(own.layout());
        }
    }

    /// The table's number: a new one, or the one that its name has.
    fn number(&mut self, mut layout: Layout) -> usize {
        if let Some(number) = self.layouts.iter().position(|known| known.def.name == layout.def.name) {
            return number;
        }
        let number = self.layouts.len();
        assert!(number < super::ledger::TABLES, "more tables than the ledger has room for");
        layout.def.number = u16::try_from(number).expect("at most 64 tables");
        self.layouts.push(layout);
        number
    }

    /// Without a filter nothing is anybody else's: every reference brings the name of what it refers to.
    pub fn name_others(&mut self) {
        self.layouts.iter_mut().for_each(|layout| layout.others.clear());
    }

    /// Marks the columns that the attached variants cannot fill.
    pub fn mark_absent(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            for column in &outcome.lacks {
                let Some((table, column)) = column.split_once('.') else { continue };
                let defs = self.layouts.iter_mut().filter(|layout| layout.def.name == table);
                for def in defs.flat_map(|layout| &mut layout.def.columns).filter(|def| def.name == column) {
                    let got = outcome.got.as_deref().unwrap_or("none");
                    def.absent = format!("{} is attached as {got}, which does not see it", outcome.probe);
                }
            }
        }
    }
}

/// The identity tables that tables refer to, directly or through other identity tables.
fn referred<'a>(tables: impl Iterator<Item = &'a (u32, Layout)>) -> BTreeSet<String> {
    let references = tables.flat_map(|(_, layout)| &layout.def.columns).map(|column| &column.references);
    references.filter(|name| !name.is_empty()).cloned().chain(["task".to_owned()]).collect()
}

/// `--attach PROBE=KIND`, checked against the probes that there are.
///
/// # Errors
/// For an unknown probe, or a kind that it does not have.
pub fn forced_kinds(plan: &Plan, named: &[Named], words: &[String]) -> Result<BTreeMap<String, String>> {
    let mut forced = BTreeMap::new();
    for word in words {
        let Some((name, kind)) = word.split_once('=') else { bail!("--attach {word}: expected PROBE=KIND") };
        if let Some(probe) = named.iter().find(|probe| probe.layout.def.name == name) {
            probe.check_kind(kind)?;
            forced.insert(name.to_owned(), kind.to_owned());
            continue;
        }
        let Some(probe) =
            plan.families.iter().flat_map(|family| &family.probes).find(|probe| probe.name == name)
        else {
            bail!("--attach {word}: this recording has no probe '{name}'; `capture --list` names them");
        };
        if kind == NONE && probe.keeps.is_some() {
            bail!("--attach {word}: {name} keeps what other tables refer to, and cannot be left out");
        }
        if kind != NONE && !probe.variants.iter().any(|variant| variant.kind == kind) {
            let kinds: Vec<&str> = probe.variants.iter().map(|variant| variant.kind.as_str()).collect();
            bail!("--attach {word}: {name} attaches as {}, or {NONE}", kinds.join(", "));
        }
        forced.insert(name.to_owned(), kind.to_owned());
    }
    Ok(forced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiving_alone_still_keeps_sockets_and_tasks() {
        let plan = Plan::new(&["net-rx".into()]).expect("a plan");
        let groups: Vec<_> = plan.families.iter().map(|family| (family.group, family.enabled)).collect();
        assert_eq!(groups, [("net", false), ("net-rx", true), ("proc", false)]);
        let names: Vec<&str> = plan.layouts.iter().map(|layout| layout.def.name.as_str()).collect();
        assert!(names.contains(&"sock") && names.contains(&"task") && names.contains(&"tcp_rx"));
        assert!(!names.contains(&"sock_send"));
        let net = &plan.families[0];
        let needed: Vec<_> =
            net.probes.iter().filter(|probe| net.needs(probe)).map(|probe| probe.name.as_str()).collect();
        assert_eq!(needed, ["sock_end", "sock_start", "tcp_state"]);
    }

    #[test]
    fn unknown_names_are_explained() {
        assert!(Plan::new(&["nett".into()]).err().expect("unknown").to_string().contains("net-rx"));
        let plan = Plan::new(&["net".into()]).expect("a plan");
        let error = forced_kinds(&plan, &[], &["sock_send=lsm".into()]).unwrap_err().to_string();
        assert!(error.contains("fentry, tracepoint, kprobe"), "{error}");
        assert!(forced_kinds(&plan, &[], &["sock_accept=none".into()]).is_ok());
        assert!(
            forced_kinds(&plan, &[], &["tcp_state=none".into()]).unwrap_err().to_string().contains("keeps")
        );
    }
}
