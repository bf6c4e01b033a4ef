//! The groups of probes: which are recorded where the command line names none, and how many events to expect.
//!
//! A family of programs is one line here. The rates are for planning, on a busy host of 64 processors; what a
//! recording does cost, it says itself at its end.

use clap::builder::PossibleValuesParser;

/// One group.
pub struct Group {
    /// As `-g` names it; a file of `bpf/`.
    pub name: &'static str,
    /// Recorded unless `-g` says otherwise.
    pub default: bool,
    /// Events to expect.
    pub rate: &'static str,
}

const fn group(name: &'static str, default: bool, rate: &'static str) -> Group {
    Group { name, default, rate }
}

/// All groups.
pub const GROUPS: &[Group] = &[
    group("proc", true, "up to 5,000 a second"),
    group("net", true, "5,000 to 300,000 a second, mostly sends and receives"),
    group("stat", true, "a row for each thread and --stat-interval"),
    group("cpu", false, "processors times the sampling rate"),
    group("net-rx", false, "20,000 to 1,000,000 a second: each TCP segment"),
    group("file", false, "10,000 to 500,000 a second, mostly reads and writes"),
    group("block", false, "4,000 to 200,000 a second: two to four for each I/O"),
    group("sched", false, "100,000 to 2,000,000 a second; far less with --min-wait"),
    group("syscalls", false, "100,000 to 5,000,000 calls a second, added up to some thousand rows"),
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
