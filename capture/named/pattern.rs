//! Patterns of events and static probes: `t:block:*` is a probe for each event that it names.
//!
//! Functions need none of this: they declare no fields of their own, so that a pattern of them is one probe and one table.

use super::elf::matches;
use super::place::Names;
use super::spec::{Kind, Spec, Wrong};
use super::user::{binary_and_name, open};
use super::value::nearest;
use super::{format, kernel};
use anyhow::{Error, Result};
use std::collections::BTreeSet;

/// Probes that one pattern may stand for; each is a table of the trace.
const MOST: usize = 64;

impl Names {
    /// The probes that this one stands for: itself, unless its place is a pattern of what has fields of its own.
    ///
    /// # Errors
    /// When it names nothing, or too much.
    pub fn each(&self, spec: Spec) -> Result<Vec<Spec>> {
        let known = match spec.kind {
            _ if !spec.target.0.contains('*') => return Ok(vec![spec]),
            Kind::Tracepoint => events(&spec)?,
            Kind::Raw => kernel::tracepoints(self.types()?).collect(),
            Kind::Usdt => self.static_probes(&spec)?,
            _ => return Ok(vec![spec]),
        };
        let matching: Vec<&String> = known.iter().filter(|name| matches(&spec.target.0, name)).collect();
        let (pattern, at) = (&spec.target.0, spec.target.1);
        if matching.is_empty() {
            let guess = nearest(pattern, known.iter().map(String::as_str));
            return Err(Wrong::new(&spec.text, at, format!("'{pattern}' names nothing{guess}")).into());
        }
        if matching.len() > MOST {
            let reason = format!(
                "'{pattern}' names {}, and a pattern stands for at most {MOST}, each with a table of its own: narrow it",
                matching.len()
            );
            return Err(Wrong::new(&spec.text, at, reason).into());
        }
        let one = |name: &&String| Spec { target: ((*name).clone(), at), ..spec.clone() };
        Ok(matching.iter().map(one).collect())
    }

    /// `FILE:PROVIDER:NAME` of those of the file; a pattern without a provider is of all of them.
    fn static_probes(&self, spec: &Spec) -> Result<BTreeSet<String>> {
        let (file, pattern, _) = binary_and_name(spec)?;
        let binary = open(spec, file, self.root.as_deref())?;
        let probes = binary.static_probes()?;
        let provider = |name: &str| if pattern.contains(':') { format!("{name}:") } else { String::new() };
        let spelled =
            probes.iter().map(|probe| format!("{file}:{}{}", provider(&probe.provider), probe.name));
        Ok(spelled.collect())
    }
}

/// `CATEGORY:EVENT` of all.
fn events(spec: &Spec) -> Result<BTreeSet<String>> {
    let all = format::events()
        .map_err(|error| Error::from(Wrong::new(&spec.text, spec.target.1, error.to_string())))?;
    Ok(all.into_iter().map(|(category, event)| format!("{category}:{event}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Result<Vec<String>> {
        let specs = Names::new(None).each(Spec::parse(text).expect(text))?;
        Ok(specs.into_iter().map(|spec| spec.target.0).collect())
    }

    #[test]
    fn a_pattern_is_a_probe_for_each_event_that_it_names() {
        let found = targets("rt:sched_process_*").expect("events of the scheduler");
        assert!(found.iter().any(|name| name == "sched_process_exec") && found.len() > 3, "{found:?}");
        assert!(found.iter().all(|name| name.starts_with("sched_process_")), "{found:?}");
        assert_eq!(targets("rt:sched_switch").expect("no pattern"), ["sched_switch"]);
        assert_eq!(targets("f:vfs_*").expect("one probe of several functions"), ["vfs_*"]);
    }

    #[test]
    fn too_much_and_nothing_are_errors_that_point_at_the_pattern() {
        let error = |text: &str| targets(text).expect_err(text).to_string();
        assert!(error("rt:*").contains("stands for at most 64"), "{}", error("rt:*"));
        assert!(error("rt:sched_swich*").contains("names nothing, the nearest name is sched_switch"));
        assert!(error("rt:*").ends_with("\n     ^"), "{}", error("rt:*"));
    }
}
