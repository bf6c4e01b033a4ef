//! The system calls that a recorder still makes once all is attached; all others fail with EPERM from then on
//! (`--least-privilege`).
//!
//! | for | calls |
//! |---|---|
//! | memory, threads, signals, time | those of the C library and of Rust's |
//! | rings, ledger, iterators, own cost | `bpf`, `perf_event_open`, `epoll_*`, `poll`, `membarrier`, `getrusage` |
//! | the trace and what is read of /proc and of programs | `openat`, `read`, `write`, `fdatasync`, `stat*`, `readlink*`, … |
//! | COMMAND | `wait4`, `waitid`, `kill` |
//! | `--rotate`, `--flight` | `unlink*`, `rename*`, `fchmod`, `fchown` |
//! | the control socket of `--flight` | `socket`, `bind`, `listen`, `accept4`, `recv*`, `send*` |
//!
//! What is not there is how a process that was taken over would get further: it can start no program, connect to nobody,
//! trace nobody, mount nothing, change no user. The list is what strace saw of recordings with each feature, and what the
//! same library functions call elsewhere. A call that a later version of a library makes instead fails, and is reported
//! as that function's error: nothing is killed.

use super::privilege::Needs;
use anyhow::{Context as _, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const ALWAYS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_membarrier,
    libc::SYS_ppoll,
    libc::SYS_getrusage,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];
/// The same under names that newer architectures lack.
#[cfg(target_arch = "x86_64")]
const ALSO: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
const ALSO: &[i64] = &[];
const COMMAND: &[i64] = &[libc::SYS_kill, libc::SYS_wait4, libc::SYS_waitid];
const FILES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
];
#[cfg(target_arch = "x86_64")]
const ALSO_FILES: &[i64] = &[libc::SYS_chmod, libc::SYS_chown, libc::SYS_rename, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const ALSO_FILES: &[i64] = &[];

/// From now on, in this thread and those that it starts, for good. New privileges must have been forgone before.
///
/// # Errors
/// When the kernel has no such filters, or refuses.
pub fn confine(needs: Needs) -> Result<()> {
    let mut calls = [ALWAYS, ALSO].concat();
    if needs.command {
        calls.extend(COMMAND);
    }
    if needs.files {
        calls.extend([FILES, ALSO_FILES].concat());
    }
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let here = std::env::consts::ARCH.try_into().context("filter system calls on this architecture")?;
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, here).context("filter system calls")?;
    let program: BpfProgram = filter.try_into().context("filter system calls")?;
    seccompiler::apply_filter(&program)
        .context("filter system calls (the kernel needs CONFIG_SECCOMP_FILTER)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_fails_and_the_rest_works() {
        let confined = std::thread::spawn(|| {
            // SAFETY: plain numbers; it concerns this thread only.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
            confine(Needs { command: true, ..Needs::default() }).expect("any thread may confine itself");
            let listens = std::net::TcpListener::bind("127.0.0.1:0").map(|_| ());
            let starts = std::process::Command::new("/bin/true").status().map(|_| ());
            let reads = std::fs::read("/proc/self/status").map(|_| ());
            let begins = std::thread::spawn(|| ()).join().is_ok();
            (listens, starts, reads, begins)
        });
        let (listens, starts, reads, begins) = confined.join().expect("it does not panic");
        let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error() == Some(libc::EPERM);
        assert!(refused(listens) && refused(starts), "neither sockets nor programs");
        assert!(reads.is_ok() && begins, "files and threads");
    }
}
