//! `capture --list`: groups and probes, and how they attach on this machine.

use super::args::Args;
use super::budget::Budget;
use super::family::{Family, SharedMaps};
use super::knobs::Knobs;
use super::named::{catalog, preset};
use super::plan::Plan;
use super::probes::{Choice, FAMILIES, Outcome};
use super::rings::Rings;
use crate::schema::Role;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints what `--list` asks for.
///
/// # Errors
/// When nothing is named so, or the objects break their own rules.
pub fn list(args: &Args) -> Result<()> {
    match args.list.as_deref() {
        None | Some("") => groups(),
        Some(pattern) => {
            let mut lines = catalog::lines(pattern, args.pid.first().copied())?;
            lines.push(String::new());
            // Nobody need read it to its end.
            let _ = std::io::stdout().write_all(lines.join("\n").as_bytes());
            Ok(())
        }
    }
}

const ABOUT: &str = "\
Rates: what to expect on a busy host of 64 processors (`capture --dry-run 2s` counts on this one). Costs: as measured on
two processors with Linux 6.18, see DESIGN.md (what recording costs); each recording says its own at its end.

";

/// Groups and presets; with the privilege to load programs it tries each probe.
fn groups() -> Result<()> {
    let groups: Vec<String> = FAMILIES.iter().map(|(group, _)| (*group).to_owned()).collect();
    let plan = Plan::new(&groups)?;
    let mut text = String::from(ABOUT);
    let mut maps = SharedMaps::default();
    for family in &plan.families {
        let about = super::groups::about(family.group);
        let default = about.is_some_and(|group| group.default);
        let _ = writeln!(text, "group {}{}", family.group, if default { " (default)" } else { "" });
        if let Some(about) = about {
            let _ = writeln!(text, "  rate  {}\n  cost  {}", about.rate, about.cost);
        }
        for layout in plan.layouts.iter().filter(|l| l.def.group == family.group && l.def.role == Role::Event)
        {
            let _ = writeln!(text, "  table {:<14} {}", layout.def.name, layout.def.doc);
        }
        let choice = Choice::new(family.probes.clone(), |_| true, &BTreeMap::new());
        let rings = Rings::plan(&Budget::new(None, Some(64)), true);
        match Family::load(family.group, family.object, &Knobs::new(), rings.total(), &mut maps, choice) {
            Ok(loaded) => loaded.outcomes.iter().for_each(|outcome| write_outcome(&mut text, outcome)),
            Err(error) => {
                let reason = format!("{error:#}");
                _ = writeln!(text, "  probes: not tried: {}", reason.lines().next().unwrap_or(""));
            }
        }
    }
    let _ = writeln!(text, "presets of -e\n{}", preset::list());
    print!("{text}");
    Ok(())
}

fn write_outcome(text: &mut String, outcome: &Outcome) {
    let got = outcome.got.as_deref().unwrap_or("not possible");
    let _ = write!(text, "  probe {:<14} {got}", outcome.probe);
    if !outcome.lacks.is_empty() {
        let _ = write!(text, ", without {}", outcome.lacks.join(", "));
    }
    let _ = match outcome.reasons.as_slice() {
        [] => writeln!(text),
        reasons => writeln!(text, " ({})", reasons.join("; ")),
    };
}
