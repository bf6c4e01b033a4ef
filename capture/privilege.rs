//! What this process may do, and what of that it keeps.
//!
//! | capability | for |
//! |---|---|
//! | `CAP_BPF`, `CAP_PERFMON` | loading and attaching programs: without them nothing works |
//! | `CAP_DAC_READ_SEARCH` | classic tracepoints, whose numbers are in tracefs; without it those probes are not attached |
//! | `CAP_SYS_ADMIN` | an estimate of what the probes cost; it stands for the first two before Linux 5.8 |
//! | `CAP_SYS_PTRACE`, `CAP_SYSLOG` | names of functions of others' processes, and of the kernel |
//! | `CAP_SYS_RESOURCE` | pressure triggers before Linux 6.5 |
//! | `CAP_DAC_OVERRIDE`, `CAP_CHOWN` | as root: files in others' directories, and giving them to the user of sudo |

use anyhow::{Context as _, Result, bail};
use std::fs;

const CAP_CHOWN: u32 = 0;
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_KILL: u32 = 5;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Checks that tracing programs can be loaded.
///
/// # Errors
/// With the capabilities that are missing.
pub fn require_loading() -> Result<()> {
    let missing = missing_for_loading(effective());
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "loading BPF programs needs CAP_BPF and CAP_PERFMON; this process lacks {}: run capture with sudo, or give it those \
         (setpriv --ambient-caps=+bpf,+perfmon, or a systemd unit with AmbientCapabilities=)",
        missing.join(" and ")
    )
}

fn missing_for_loading(set: u64) -> Vec<&'static str> {
    let has = |capability: u32| set & (1 << capability) != 0;
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    let missing = needed.into_iter().filter(|&(capability, _)| !has(capability) && !has(CAP_SYS_ADMIN));
    missing.map(|(_, name)| name).collect()
}

fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// What a recording lacks for want of a capability, for its summary; `symbols`: functions are to be named.
#[must_use]
pub fn lacking(symbols: bool) -> Vec<&'static str> {
    let has = |capability: u32| effective() & (1 << capability) != 0;
    let mut lacking = Vec::new();
    if symbols && !kernel_names_are_told() {
        lacking.push("CAP_SYSLOG: functions of the kernel have no names");
    }
    if symbols && !has(CAP_SYS_PTRACE) {
        lacking.push("CAP_SYS_PTRACE: functions of other users' processes may have no names");
    }
    lacking
}

/// Who may not know them reads zeros, by the kernel's own rule of capabilities and settings.
fn kernel_names_are_told() -> bool {
    use std::io::{BufRead as _, BufReader};
    let Ok(file) = fs::File::open("/proc/kallsyms") else { return false };
    let address =
        |line: String| line.split(' ').next().is_some_and(|word| word.bytes().any(|byte| byte != b'0'));
    BufReader::new(file).lines().take(100).flatten().any(address)
}

/// What the rest of a recording needs once all is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Further files are created.
    pub files: bool,
    /// The command may run as somebody else, and is told to end.
    pub command: bool,
    /// Functions of any process, and of the kernel, are looked up.
    pub symbols: bool,
}

/// Gives up everything else, system calls included, for this thread and those that it starts from now on, and for good.
///
/// # Errors
/// When the kernel refuses.
pub fn reduce(needs: Needs) -> Result<()> {
    let mut kept = vec![CAP_BPF, CAP_PERFMON];
    kept.extend([CAP_DAC_OVERRIDE, CAP_CHOWN].into_iter().filter(|_| needs.files));
    kept.extend([CAP_KILL].into_iter().filter(|_| needs.command));
    let symbols = [CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYSLOG];
    kept.extend(symbols.into_iter().filter(|_| needs.symbols));
    let mask = kept.into_iter().fold(0_u64, |mask, capability| mask | 1 << capability) & effective();
    // SAFETY: plain numbers; it concerns this process only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error()).context("forgo new privileges");
    }
    set(mask).context("give up capabilities")?;
    super::seccomp::confine(needs)
}

/// As the kernel's header has it: version 3, two words of 32 bits for each set.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set(mask: u64) -> std::io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |bits: u64| Sets { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let sets = [word(mask & 0xffff_ffff), word(mask >> 32)];
    // SAFETY: both point to structs laid out as capset(2) says, which it only reads.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing_for_loading(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_for_loading(1 << CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_for_loading(1 << CAP_SYS_ADMIN).is_empty());
        assert!(missing_for_loading(1 << CAP_BPF | 1 << CAP_PERFMON).is_empty());
    }

    #[test]
    fn what_is_given_up_is_gone_in_this_thread_and_its_children() {
        let kept = std::thread::spawn(|| {
            reduce(Needs { files: true, ..Needs::default() }).expect("one may always give up");
            let of_thread = || fs::read_to_string("/proc/thread-self/status").expect("procfs");
            let own = of_thread();
            let child = std::thread::spawn(of_thread).join().expect("it reads a file");
            (own, child)
        });
        let (own, child) = kept.join().expect("it does not panic");
        let line = |status: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("a line");
            u64::from_str_radix(line.trim(), 16).expect("a number")
        };
        let allowed = [CAP_BPF, CAP_PERFMON, CAP_DAC_OVERRIDE, CAP_CHOWN]
            .into_iter()
            .fold(0, |mask, bit| mask | 1 << bit);
        assert_eq!(line(&own) & !allowed, 0, "{own}");
        assert_eq!(line(&own), line(&child));
        assert!(own.contains("NoNewPrivs:\t1") && own.contains("Seccomp:\t2"), "{own}");
    }
}
