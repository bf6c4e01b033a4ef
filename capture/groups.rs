//! The groups of probes: which are recorded where the command line names none, and how many events to expect.
//!
//! A family of programs is one line here. Rates are for planning, on a busy host of 64 processors. Costs are those of
//! `DESIGN.md` (what recording costs), measured on two: the time that a probe adds to what it watches, where that was measured
//! by itself, and the bytes of the file. What a recording does cost, it says itself at its end.

use clap::builder::PossibleValuesParser;

/// One group.
pub struct Group {
    /// As `-g` names it; a file of `bpf/`.
    pub name: &'static str,
    /// Recorded unless `-g` says otherwise.
    pub default: bool,
    /// Events to expect.
    pub rate: &'static str,
    /// What an event takes.
    pub cost: &'static str,
}

const fn group(name: &'static str, default: bool, rate: &'static str, cost: &'static str) -> Group {
    Group { name, default, rate, cost }
}

/// All groups.
pub const GROUPS: &[Group] = &[
    group("proc", true, "up to 5,000 events/s", "18 bytes per event; fork and exec keep 97 % of their pace"),
    group(
        "net",
        true,
        "5,000 to 300,000 events/s, most of them sends and receives",
        "1.3 to 2.5 bytes per event; nginx keeps 89 % of its pace, redis 88, a TCP ping-pong 87",
    ),
    group(
        "stat",
        true,
        "a row per thread each --stat-interval",
        "too little to be measured, with one process",
    ),
    group("cpu", true, "-F samples/s per processor", "too little to be measured, at 49 samples/s"),
    group(
        "net-rx",
        false,
        "20,000 to 1,000,000 events/s: each TCP segment",
        "177 ns and 1.4 bytes per event",
    ),
    group(
        "file",
        false,
        "10,000 to 500,000 events/s, most of them reads and writes",
        "703 ns and 1.3 bytes per event",
    ),
    group(
        "block",
        true,
        "4,000 to 200,000 events/s: two to four per I/O",
        "1.3 µs per I/O, 2.0 bytes per event",
    ),
    group(
        "sched",
        false,
        "100,000 to 2,000,000 events/s; far fewer with --min-wait",
        "1.7 bytes per event; two processes that only wake each other keep 82 % of their pace",
    ),
    group(
        "syscalls",
        false,
        "100,000 to 5,000,000 calls/s, added up to some thousand rows",
        "346 ns per call added up; 333 ns and 0.8 to 1.3 bytes per call with --syscalls each",
    ),
];

/// What is known of a group.
#[must_use]
pub fn about(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// What `-g` accepts.
#[must_use]
pub fn words() -> impl clap::builder::TypedValueParser<Value = String> {
    PossibleValuesParser::new(GROUPS.iter().map(|group| group.name).chain(["default"]))
}

/// Replaces the word `default` by the groups that it stands for.
#[must_use]
pub fn expand(words: &[String]) -> Vec<String> {
    let defaults = || GROUPS.iter().filter(|group| group.default).map(|group| group.name.to_owned());
    let mut groups: Vec<String> = Vec::new();
    for word in words {
        let meant = if word == "default" { defaults().collect() } else { vec![word.clone()] };
        groups.extend(meant.into_iter().filter(|name| !words.contains(name) || name == word));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::probes::FAMILIES;

    #[test]
    fn every_family_has_a_line() {
        for (name, _) in FAMILIES {
            assert!(about(name).is_some(), "{name} has no line in capture/groups.rs");
        }
    }

    #[test]
    fn default_is_a_word_for_several() {
        let groups = |words: &[&str]| expand(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(groups(&["default"]).contains(&"proc".to_owned()));
        assert!(!groups(&["net"]).contains(&"proc".to_owned()));
        let more = groups(&["default", "proc", "syscalls"]);
        assert_eq!(more.iter().filter(|name| *name == "proc").count(), 1);
        assert_eq!(more.last().map(String::as_str), Some("syscalls"));
    }
}
