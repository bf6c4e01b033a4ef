//! What must not be probed, and why. The kernel refuses some functions itself; these it would let us probe.

use super::elf::{Binary, matches};

/// Kernel functions, by pattern.
const KERNEL: [(&str, &str); 14] = [
    ("bpf_*", OWN),
    ("__bpf_*", OWN),
    ("*htab_*", OWN),
    ("array_map_*", OWN),
    ("*ringbuf*", OWN),
    ("*ktime_get*", OWN),
    ("copy_from_*_nofault", OWN),
    ("trace_call_bpf", OWN),
    ("unwind_*", "reading stacks calls it"),
    ("*_unwind_*", "reading stacks calls it"),
    ("*uprobe*", "it is what makes probes work"),
    ("*kprobe*", "it is what makes probes work"),
    ("ftrace_*", "it is what makes probes work"),
    ("rcu_read_*", "whatever a program does lies between two of its calls"),
];

const OWN: &str = "the programs of probes call it, so that a hit would hit it again";

/// Functions of the C library that return more often than they are called.
const TWICE: [&str; 8] =
    ["setjmp", "_setjmp", "__sigsetjmp", "sigsetjmp", "vfork", "__vfork", "getcontext", "swapcontext"];

/// What is jumped to and not called, by pattern: a program's first instruction, what a signal handler returns to, what binds a
/// function at its first call, a context that begins. What is on top of the stack there is something else than a return address.
const JUMPED: [&str; 8] = [
    "_start",
    "_dl_start_user",
    "__restore",
    "__restore_rt",
    "_dl_runtime_*",
    "_dl_tlsdesc_*",
    "__start_context",
    "__morestack*",
];

/// Why a kernel function is not probed.
#[must_use]
pub fn kernel(name: &str) -> Option<&'static str> {
    KERNEL.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, reason)| *reason)
}

/// Whether a function of a program returns as often as it is called, to where it was called.
#[must_use]
pub fn returns(name: &str) -> bool {
    !TWICE.contains(&name) && !JUMPED.iter().any(|pattern| matches(pattern, name))
}

/// Why the returns of a program's function are not probed: a return probe puts an address of its own where the
/// function is to return to.
#[must_use]
pub fn of_calls(binary: &Binary, name: &str) -> Option<&'static str> {
    if JUMPED.iter().any(|pattern| matches(pattern, name)) {
        return Some(
            "it is jumped to and not called, so that the probe would overwrite something else than a return address: that \
             would be the end of the process; u: probes its entry",
        );
    }
    if !returns(name) {
        return Some(
            "it returns twice, the second time to an address that the probe left: that would be the end of the process",
        );
    }
    let moved = "Go moves stacks, and does not know the address that the probe leaves there: that would be the end of the \
                 process; u: probes its entry";
    binary.is_go().then_some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::named::place::Names;
    use crate::capture::named::spec::Spec;

    #[test]
    fn what_a_probe_itself_calls_is_refused_and_patterns_leave_it_out() {
        assert!(kernel("bpf_ringbuf_reserve").is_some() && kernel("tcp_sendmsg").is_none());
        let names = Names::new(None);
        let of = |text: &str| names.resolve(&Spec::parse(text).expect(text));
        let error = of("f:bpf_ringbuf_reserve").expect_err("refused").to_string();
        assert!(error.contains("would hit it again"), "{error}");
        let found = of("f:*_get_ns").map(|place| place.functions).unwrap_or_default();
        assert!(!found.iter().any(|name| name.contains("ktime_get")), "{found:?}");
    }

    #[test]
    fn returns_of_what_returns_twice_are_refused_and_entries_are_not() {
        let names = Names::new(None);
        let of = |text: &str| names.resolve(&Spec::parse(text).expect(text));
        let error = of("ur:c:_setjmp").expect_err("refused").to_string();
        assert!(error.contains("returns twice"), "{error}");
        assert_eq!(of("u:c:_setjmp").expect("an entry").functions, ["_setjmp"]);
        let found = of("ur:c:*fork").expect("others").functions;
        assert!(found.iter().all(|name| returns(name)) && !found.is_empty(), "{found:?}");
        let error = of("ur:c:__restore_rt").map(drop).map_err(|error| error.to_string());
        assert!(!returns("_start") && !returns("_dl_runtime_resolve_xsavec") && returns("start_thread"));
        assert!(
            error.is_err_and(|error| error.contains("is jumped to") || error.contains("has no function"))
        );
    }
}
