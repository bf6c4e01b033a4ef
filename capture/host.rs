//! Facts about this machine that the trace needs to stand alone.

use super::clocks::Reading;
use crate::schema::Host;
use crate::schema::host::FORMAT;
use std::ffi::CStr;
use std::fs;

/// A clock of the kernel in ns; 0 for one that it does not have.
#[must_use]
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// `CLOCK_MONOTONIC`, the clock of all events, in ns.
#[must_use]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Processors that may ever run a program: what per-CPU maps are sized for.
#[must_use]
pub fn possible_cpus() -> usize {
    libbpf_rs::num_possible_cpus().unwrap_or(1)
}

/// The host record, but for what only the session knows.
#[must_use]
pub fn describe(command: Vec<String>) -> Host {
    let (zone, zone_offset) = time_zone();
    let start = Reading::now();
    Host {
        required_reader: FORMAT,
        recorder: concat!("tapedeck capture ", env!("CARGO_PKG_VERSION")).to_owned(),
        hostname: read("/proc/sys/kernel/hostname"),
        kernel: read("/proc/sys/kernel/osrelease"),
        machine: std::env::consts::ARCH.to_owned(),
        cpus: u32::try_from(possible_cpus()).unwrap_or(u32::MAX),
        command,
        start_mono: start.mono,
        start_real: start.real,
        zone,
        zone_offset,
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        recording: read("/proc/sys/kernel/random/uuid"),
        page_size: 4096,
        ..Host::default()
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Name and offset of the machine's time zone right now.
fn time_zone() -> (String, i32) {
    let mut parts = libc::tm { tm_zone: std::ptr::null(), ..unsafe_zeroed_tm() };
    let seconds = i64::try_from(clock(libc::CLOCK_REALTIME) / 1_000_000_000).unwrap_or(0);
    // SAFETY: both pointers are valid; localtime_r writes only to `parts`, and this runs before any
    // thread that could change the environment.
    let zone = unsafe {
        libc::localtime_r(&raw const seconds, &raw mut parts);
        if parts.tm_zone.is_null() { c"UTC" } else { CStr::from_ptr(parts.tm_zone) }
    };
    (zone.to_string_lossy().into_owned(), i32::try_from(parts.tm_gmtoff).unwrap_or(0))
}

fn unsafe_zeroed_tm() -> libc::tm {
    // SAFETY: `tm` is integers and one pointer, for all of which zero is valid.
    unsafe { std::mem::zeroed() }
}
