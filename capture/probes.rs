//! Probes, their ways of attaching, and loading a family by the best way that works.
//!
//! A family's object says itself what its programs are for: declaration tags name the probe, the
//! rank of the variant and its kind (`__probe` in `bpf/common.bpf.h`). Kernel versions are never
//! compared. The loader tries the best variant of every probe; when the kernel refuses a program it
//! notes the reason, takes the probe's next variant and tries again.

use super::layout::Tags;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use std::collections::BTreeMap;

include!(concat!(env!("OUT_DIR"), "/families.rs"));

/// One way to attach a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// fentry, kprobe, tracepoint, iterator, perf-event or procfs.
    pub kind: String,
    /// Names of the programs that work together; none: see [`super::procfs`].
    pub programs: Vec<String>,
    /// Those of them whose missed hits are lost events: all but those that only note a call's start.
    pub recording: Vec<String>,
    /// `table.column` that this way cannot fill.
    pub lacks: Vec<String>,
}

/// One question that a family answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Name.
    pub name: String,
    /// The identity table that it keeps, if any: attached whenever something refers to that.
    pub keeps: Option<String>,
    /// The event table that it fills; empty: the one of its own name.
    pub fills: String,
    /// The knob of the filter that learns from it; empty: none.
    pub feeds: String,
    /// Best first.
    pub variants: Vec<Variant>,
}

/// The probes of a family, as its object declares them.
///
/// # Errors
/// When the object has no BTF, or a tag is not of the form `probe:NAME:RANK:KIND`.
pub fn probes_of(group: &str, object: &[u8]) -> anyhow::Result<Vec<Probe>> {
    let btf =
        Btf::from_raw(group, object)?.ok_or_else(|| anyhow::anyhow!("{group}: the object has no BTF"))?;
    let tags = Tags::of(&btf);
    let mut probes: BTreeMap<String, (Probe, BTreeMap<u32, Variant>)> = BTreeMap::new();
    for func in btf.type_by_kind::<Func>() {
        let id = func.type_id();
        let program = func.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A program may serve several probes: one tag for each.
        for tag in tags.all(id, None).iter().filter_map(|tag| tag.strip_prefix("probe:")) {
            let mut parts = tag.splitn(3, ':');
            let (Some(name), Some(Ok(rank)), Some(kind)) =
                (parts.next(), parts.next().map(str::parse), parts.next())
            else {
                anyhow::bail!("{group}: the tag 'probe:{tag}' is not probe:NAME:RANK:KIND");
            };
            let (probe, variants) = probes.entry(name.to_owned()).or_default();
            let said = |what| tags.get(id, None, what).map(str::to_owned);
            probe.keeps = said("keeps:").or(probe.keeps.take());
            probe.fills = said("fills:").unwrap_or(std::mem::take(&mut probe.fills));
            probe.feeds = said("feeds:").unwrap_or(std::mem::take(&mut probe.feeds));
            let empty = || Variant { kind: kind.to_owned(), ..Variant::default() };
            let variant = variants.entry(rank).or_insert_with(empty);
            if !tags.all(id, None).iter().any(|tag| tag == "notes") {
                variant.recording.push(program.clone());
            }
            variant.programs.push(program.clone());
            let lacks = tags.get(id, None, "lacks:").unwrap_or("");
            variant.lacks.extend(lacks.split(',').filter(|column| !column.is_empty()).map(str::to_owned));
            if let Some(kind) = said("otherwise:") {
                variants.insert(u32::MAX, Variant { kind, ..Variant::default() });
            }
        }
    }
    let probe = |(name, (probe, variants)): (String, (Probe, BTreeMap<u32, Variant>))| Probe {
        name,
        variants: variants.into_values().collect(),
        ..probe
    };
    Ok(probes.into_iter().map(probe).collect())
}

/// The kind of `--attach` that no probe has: it is left out.
pub const NONE: &str = "none";

/// What became of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Name.
    pub probe: String,
    /// Family.
    pub group: String,
    /// The kind that it got; none if no way worked.
    pub got: Option<String>,
    /// The best kind.
    pub wanted: String,
    /// Not needed for this recording.
    pub off: bool,
    /// Why better ways were not taken.
    pub reasons: Vec<String>,
    /// `table.column` that the way it got cannot fill.
    pub lacks: Vec<String>,
    /// Its programs whose missed hits are lost events.
    pub programs: Vec<String>,
    /// The event table that it fills; empty: the one of its own name.
    pub fills: String,
    /// The knob of the filter that learns from it; empty: none.
    pub feeds: String,
    /// Hits that the kernel did not run the programs for, known at the end.
    pub missed: u64,
}

/// Which variant of each probe is being tried.
pub struct Choice {
    probes: Vec<Probe>,
    /// Index into the variants; past the end: none works.
    tried: Vec<usize>,
    /// Which variant was refused, and why.
    reasons: Vec<Vec<(usize, String)>>,
    off: Vec<bool>,
}

impl Choice {
    /// Begins with the best variants; `wanted` says which probes are needed, `forced` the only kind
    /// that a probe may have.
    #[must_use]
    pub fn new(
        mut probes: Vec<Probe>,
        wanted: impl Fn(&Probe) -> bool,
        forced: &BTreeMap<String, String>,
    ) -> Self {
        for probe in &mut probes {
            if let Some(kind) = forced.get(&probe.name).filter(|kind| *kind != NONE) {
                probe.variants.retain(|variant| variant.kind == *kind);
            }
        }
        let count = probes.len();
        let off = probes.iter().map(|probe| !wanted(probe)).collect();
        let mut choice = Self { probes, tried: vec![0; count], reasons: vec![Vec::new(); count], off };
        for (index, probe) in choice.probes.iter().enumerate() {
            if forced.get(&probe.name).is_some_and(|kind| kind == NONE) {
                choice.off[index] = true;
                choice.reasons[index].push((0, format!("left out by --attach {}={NONE}", probe.name)));
            }
        }
        choice
    }

    /// The programs to load now.
    #[must_use]
    pub fn programs(&self) -> Vec<&str> {
        let variants = (0..self.probes.len()).filter(|&i| !self.off[i]).filter_map(|i| self.variant(i));
        variants.flat_map(|variant| variant.programs.iter().map(String::as_str)).collect()
    }

    fn variant(&self, index: usize) -> Option<&Variant> {
        self.probes[index].variants.get(self.tried[index])
    }

    /// Notes that a program was refused and moves its probe on. False: no probe has that program.
    pub fn refuse(&mut self, program: &str, reason: &str) -> bool {
        let has = |variant: &Variant| variant.programs.iter().any(|name| name == program);
        let Some(index) = (0..self.probes.len()).find(|&i| self.variant(i).is_some_and(has)) else {
            return false;
        };
        self.move_on(index, reason);
        true
    }

    /// A refusal that is about a kind as such (policy, not built in) holds for every probe.
    pub fn refuse_kind(&mut self, kind: &str, reason: &str) {
        for index in 0..self.probes.len() {
            while self.variant(index).is_some_and(|variant| variant.kind == kind) {
                self.move_on(index, reason);
            }
        }
    }

    fn move_on(&mut self, index: usize, reason: &str) {
        self.reasons[index].push((self.tried[index], reason.to_owned()));
        self.tried[index] += 1;
    }

    /// The kind that a program is a variant of.
    #[must_use]
    pub fn kind_of(&self, program: &str) -> Option<&str> {
        let has = |variant: &&Variant| variant.programs.iter().any(|name| name == program);
        self.probes.iter().flat_map(|probe| &probe.variants).find(has).map(|variant| variant.kind.as_str())
    }

    /// Why better ways were not taken; a way that differs from the one taken only inside is none.
    fn reasons_of(&self, index: usize, got: Option<&Variant>) -> Vec<String> {
        let mut reasons = Vec::new();
        for (tried, reason) in &self.reasons[index] {
            let variant = &self.probes[index].variants[*tried];
            let text = format!("{}: {reason}", variant.kind);
            let same = got.is_some_and(|got| got.kind == variant.kind && got.lacks == variant.lacks);
            if !same && !reasons.contains(&text) {
                reasons.push(text);
            }
        }
        reasons
    }

    /// What became of every probe.
    #[must_use]
    pub fn outcomes(&self, group: &str) -> Vec<Outcome> {
        let outcome = |(index, probe): (usize, &Probe)| {
            let variant = self.variant(index).filter(|_| !self.off[index]);
            Outcome {
                probe: probe.name.clone(),
                group: group.to_owned(),
                got: variant.map(|variant| variant.kind.clone()),
                wanted: probe.variants.first().map(|variant| variant.kind.clone()).unwrap_or_default(),
                off: self.off[index],
                reasons: self.reasons_of(index, variant),
                lacks: variant.map(|variant| variant.lacks.clone()).unwrap_or_default(),
                programs: variant.map(|variant| variant.recording.clone()).unwrap_or_default(),
                fills: probe.fills.clone(),
                feeds: probe.feeds.clone(),
                missed: 0,
            }
        };
        self.probes.iter().enumerate().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> Vec<Probe> {
        let (group, object) = FAMILIES.iter().find(|(group, _)| *group == "net").expect("the family net");
        probes_of(group, object).expect("tags are well formed")
    }

    #[test]
    fn every_probe_has_a_way_from_tracepoints_alone() {
        for (group, object) in FAMILIES {
            for probe in probes_of(group, object).expect("tags are well formed") {
                let plain = |variant: &Variant| {
                    ["tracepoint", "iterator", "perf-event"].contains(&variant.kind.as_str())
                };
                assert!(probe.variants.iter().any(plain), "{}", probe.name);
            }
        }
    }

    #[test]
    fn what_is_set_while_recording_is_apart_from_what_programs_count() {
        use libbpf_rs::btf::types::{DataSec, Var};
        for (group, object) in FAMILIES {
            let types = libbpf_rs::btf::Btf::from_raw(group, object).expect("BTF").expect("of an object");
            let section =
                types.type_by_kind::<DataSec>().find(|section| section.name() == Some(".data.live".as_ref()));
            let section = section.unwrap_or_else(|| panic!("{group} has nothing to set"));
            let name = |number| {
                types.type_by_id::<Var>(number).and_then(|var| Some(var.name()?.to_str()?.to_owned()))
            };
            let names: Vec<String> = section.iter().filter_map(|info| name(info.ty)).collect();
            let known = ["gate", "interval", "sample_mask", "drop_stacks"];
            assert!(
                names.contains(&"gate".to_owned()) && names.iter().all(|name| known.contains(&name.as_str())),
                "{names:?}"
            );
        }
    }

    #[test]
    fn a_refused_program_moves_its_probe_to_the_next_way() {
        let mut choice = Choice::new(net(), |_| true, &BTreeMap::new());
        assert!(choice.programs().contains(&"send__fexit"));
        assert!(choice.refuse("send_locked__fentry", "Operation not permitted"));
        assert!(!choice.programs().contains(&"send__fexit"));
        assert!(choice.programs().contains(&"send__tp"));
        let outcomes = choice.outcomes("net");
        let send = outcomes.iter().find(|outcome| outcome.probe == "sock_send").expect("sock_send");
        assert_eq!((send.got.as_deref(), send.wanted.as_str()), (Some("tracepoint"), "fentry"));
        assert_eq!(send.reasons, ["fentry: Operation not permitted"]);
    }

    #[test]
    fn a_missed_note_is_no_lost_event() {
        let choice = Choice::new(net(), |_| true, &BTreeMap::new());
        assert!(choice.programs().contains(&"send__fentry"));
        let outcomes = choice.outcomes("net");
        let send = outcomes.iter().find(|outcome| outcome.probe == "sock_send").expect("sock_send");
        assert_eq!(send.programs, ["send__fexit"]);
    }

    #[test]
    fn of_two_ways_of_one_kind_the_refused_one_goes_unmentioned() {
        let mut choice = Choice::new(net(), |_| true, &BTreeMap::new());
        assert!(choice.refuse("recv__fexit", "no such helper"));
        let outcomes = choice.outcomes("net");
        let receive = outcomes.iter().find(|outcome| outcome.probe == "sock_recv").expect("sock_recv");
        assert_eq!((receive.got.as_deref(), receive.reasons.len()), (Some("fentry"), 0));
    }

    #[test]
    fn programs_say_which_knob_they_feed_and_which_table_they_fill() {
        let all =
            || FAMILIES.iter().flat_map(|(group, object)| probes_of(group, object).expect("well formed"));
        let names = |knob: &str| {
            all().filter(|probe| probe.feeds == knob).map(|probe| probe.name).collect::<Vec<_>>()
        };
        assert_eq!(names("filter_tgid"), ["descendants", "process_fork"]);
        assert_eq!(names("task_filter"), ["tcp_state"]);
        let failed = all().find(|probe| probe.name == "exec_failed").expect("a probe of proc");
        assert_eq!(failed.fills, "process_exec");
    }

    #[test]
    fn a_forced_kind_is_the_only_one() {
        let forced = BTreeMap::from([("sock_send".to_owned(), "kprobe".to_owned())]);
        let mut choice = Choice::new(net(), |_| true, &forced);
        assert!(choice.programs().contains(&"send__kretprobe"));
        choice.refuse_kind("kprobe", "not built in");
        assert!(choice.programs().iter().all(|name| !name.starts_with("send_")));
    }

    #[test]
    fn a_probe_that_is_left_out_says_so() {
        let forced = BTreeMap::from([("sock_accept".to_owned(), NONE.to_owned())]);
        let choice = Choice::new(net(), |_| true, &forced);
        assert!(choice.programs().iter().all(|name| !name.starts_with("accept")));
        let outcomes = choice.outcomes("net");
        let accept = outcomes.iter().find(|outcome| outcome.probe == "sock_accept").expect("sock_accept");
        assert_eq!((accept.got.as_deref(), accept.off), (None, true));
        assert_eq!(accept.reasons, ["fentry: left out by --attach sock_accept=none"]);
    }

    #[test]
    fn tracepoints_of_system_calls_are_the_last_resort() {
        for (group, object) in FAMILIES {
            let mut builder = libbpf_rs::ObjectBuilder::default();
            let open = builder.open_memory(object).expect("an object");
            let on_calls = |program: &libbpf_rs::OpenProgram| {
                program.section().to_string_lossy().starts_with("tracepoint/syscalls/")
            };
            let slow: Vec<_> =
                open.progs().filter(on_calls).map(|program| program.name().to_owned()).collect();
            for probe in probes_of(group, object).expect("tags are well formed") {
                let is_slow = |variant: &Variant| {
                    variant.programs.iter().any(|program| slow.iter().any(|name| name == program.as_str()))
                };
                let last = probe.variants.iter().position(is_slow).map_or(probe.variants.len(), |at| at + 1);
                assert_eq!(last, probe.variants.len(), "{}", probe.name);
            }
        }
    }
}
