//! The word that a probe begins with: what kind of place it is at.

use super::parse::Cursor;
use super::spec::{Kind, Wrong};
use super::value::nearest;

/// Each with whether it is about whole calls.
const KINDS: [(&str, Kind, bool); 11] = [
    ("t", Kind::Tracepoint, false),
    ("rt", Kind::Raw, false),
    ("tb", Kind::Raw, false),
    ("f", Kind::Function, false),
    ("fx", Kind::Function, true),
    ("k", Kind::Kprobe, false),
    ("kr", Kind::Kprobe, true),
    ("u", Kind::User, false),
    ("ur", Kind::User, true),
    ("usdt", Kind::Usdt, false),
    ("pe", Kind::Perf, false),
];

/// What other tracers call them.
const ELSEWHERE: [(&str, &str); 16] = [
    ("tracepoint", "t"),
    ("tp", "t"),
    ("rawtracepoint", "rt"),
    ("raw_tp", "rt"),
    ("tp_btf", "rt"),
    ("kprobe", "k"),
    ("kretprobe", "kr"),
    ("fentry", "f"),
    ("kfunc", "f"),
    ("fexit", "fx"),
    ("kretfunc", "fx"),
    ("uprobe", "u"),
    ("uretprobe", "ur"),
    ("software", "pe"),
    ("hardware", "pe"),
    ("sdt", "usdt"),
];

const EXPLAINED: &str = "a probe begins with its kind: t:, rt:, f:, fx:, k:, kr:, u:, ur:, usdt: or pe: (as in t:sched:sched_switch)";

impl Cursor<'_> {
    /// Up to the first colon.
    pub(super) fn kind(&mut self) -> Result<(Kind, bool), Wrong> {
        let start = self.at;
        let word = self.while_(|c| c != ':');
        if ["p", "r"].contains(&word) {
            return self.kind_of_bcc(word == "r");
        }
        let found = KINDS.iter().find(|(name, ..)| *name == word);
        let &(_, kind, calls) = found.ok_or_else(|| {
            let reason = if self.rest().is_empty() { EXPLAINED.into() } else { unknown(word) };
            Wrong::new(self.text, start, reason)
        })?;
        self.expect(":")?;
        Ok((kind, calls))
    }
}

/// Whether this begins with what another tracer calls a kind.
pub(super) fn is_elsewhere(text: &str) -> bool {
    text.split_once(':').is_some_and(|(word, _)| ELSEWHERE.iter().any(|(name, _)| *name == word))
}

/// What to write for a word that is none.
fn unknown(word: &str) -> String {
    if let Some((name, ours)) = ELSEWHERE.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return format!("write {ours}: for {name}: here");
    }
    let guess = nearest(word, KINDS.iter().map(|(name, ..)| *name));
    format!("there is no kind '{word}:'{guess}: {EXPLAINED}")
}

#[cfg(test)]
mod tests {
    use super::super::spec::Spec;
    use super::*;

    #[test]
    fn words_of_other_tracers_are_translated_and_typing_errors_guessed() {
        let of = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        for (text, said) in [
            ("tracepoint:sched:sched_switch", "write t: for tracepoint: here"),
            ("kprobe:tcp_sendmsg", "write k: for kprobe: here"),
            ("x=uretprobe:c:malloc", "write ur: for uretprobe: here"),
            ("usdtt:c:x", "there is no kind 'usdtt:', the nearest name is usdt: a probe begins"),
        ] {
            assert!(of(text).starts_with(said), "{}", of(text));
        }
        assert!(of("x=kprobe:f").ends_with("\n    ^"), "{}", of("x=kprobe:f"));
        for (_, ours) in ELSEWHERE {
            assert!(KINDS.iter().any(|(name, ..)| *name == ours), "{ours} is no kind");
        }
    }
}
