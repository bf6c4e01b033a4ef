//! Why the kernel refused a program, in words that a user can act on.

use libbpf_rs::PrintLevel;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// What libbpf said while loading: the only place where it names the program that was refused.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what libbpf says from now on, instead of printing it.
pub(crate) fn listen() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, hear)));
}

/// What it has said since the last time.
pub(crate) fn take_said() -> Vec<String> {
    SAID.lock().map(|mut said| std::mem::take(&mut *said)).unwrap_or_default()
}

fn hear(level: PrintLevel, text: String) {
    if level == PrintLevel::Warn
        && let Ok(mut said) = SAID.lock()
    {
        said.push(text);
    }
}

/// The first "prog 'NAME': … failed …" in what libbpf said, and why.
pub(crate) fn refused_program(said: &[String]) -> Option<(String, String)> {
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

/// Whether this kernel has kprobes at all.
pub(crate) fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// Why the kernel refuses fentry programs as such, once it has: policy holds for every one of them.
static FENTRY: OnceLock<String> = OnceLock::new();
const NO_KPROBES: &str = "kprobes are not built in";

/// Whether a refusal is about a kind of program as such, not about one target of it: to try others would only take time.
pub(crate) fn is_of_kind(kind: &str, reason: &str) -> bool {
    let policy = kind == "fentry" && reason.contains("not permitted");
    if policy {
        FENTRY.get_or_init(|| reason.to_owned());
    }
    policy || kind == "kprobe" && reason == NO_KPROBES
}

/// The kinds that this kernel is known to refuse as such, and why: a program that is never loaded costs the verifier
/// nothing, nor do those that would have been loaded with it.
pub(crate) fn of_kinds() -> Vec<(&'static str, &'static str)> {
    let fentry = FENTRY.get().map(|reason| ("fentry", reason.as_str()));
    fentry.into_iter().chain((!has_kprobes()).then_some(("kprobe", NO_KPROBES))).collect()
}

/// Why a program that loaded could not be attached.
pub(crate) fn attach_reason(kind: Option<&str>, error: &libbpf_rs::Error) -> String {
    if kind == Some("kprobe") && !has_kprobes() {
        return NO_KPROBES.into();
    }
    if kind == Some("tracepoint")
        && let Err(reason) = super::tracefs::root()
    {
        return reason.into();
    }
    match error.kind() {
        libbpf_rs::ErrorKind::NotFound => "this kernel has no such target".into(),
        _ => format!("{error:#}").lines().next().unwrap_or("").to_owned(),
    }
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
