//! Sampling clocks: a program that the kernel runs on every processor, so many times a second.

use super::knobs::Knobs;
use super::perf_event::{self, Whose};
use anyhow::Result;
use libbpf_rs::{Link, ProgramMut};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};

/// The kind of the programs that sample.
pub const KIND: &str = "perf-event";
/// The knob that says how often.
pub const KNOB: &str = "sample_hz";
/// As bcc's profile: not a divisor of what else happens periodically, so that it does not march in step with it.
pub const DEFAULT_HZ: u32 = 49;

/// How often, as the knobs say.
pub(crate) fn frequency(knobs: &Knobs) -> u32 {
    let bytes = knobs.get(KNOB).and_then(|bytes| bytes.as_slice().try_into().ok());
    bytes.map_or(DEFAULT_HZ, u32::from_ne_bytes)
}

/// Starts a clock on every processor that runs now.
///
/// # Errors
/// When the kernel refuses an event or the program.
pub(crate) fn attach(program: &ProgramMut, hz: u32) -> Result<Vec<Link>> {
    perf_event::online_cpus()?.into_iter().map(|cpu| attach_on(program, hz, cpu)).collect()
}

/// Starts the clock of one processor. It counts time, idle or not, and needs no hardware counter.
///
/// # Errors
/// As [`attach`].
pub(crate) fn attach_on(program: &ProgramMut, hz: u32, cpu: i32) -> Result<Link> {
    let clock = u64::from(libbpf_sys::PERF_COUNT_SW_CPU_CLOCK);
    let mut attributes = perf_event::attributes(libbpf_sys::PERF_TYPE_SOFTWARE, clock);
    attributes.set_freq(1);
    attributes.__bindgen_anon_1.sample_freq = hz.into();
    let event = perf_event::open(&attributes, Whose::Processor(cpu))?;
    let link = program.attach_perf_event(event.as_raw_fd())?;
    let _ = event.into_raw_fd(); // the link closes it
    Ok(link)
}
