//! Return probes with room for calls that wait.
//!
//! A kretprobe follows only so many calls at a time, and misses the rest: one per processor on a
//! kernel without preemption, unless told otherwise. A server with more threads than that waiting in
//! `recv()` would lose nearly all of them. The usual way to attach, a perf event of the kprobe kind,
//! cannot ask for more; a kprobe event in tracefs can, and a program attaches to it all the same.

use super::perf_event::{self, Whose};
use super::tracefs;
use anyhow::{Context as _, Error, Result};
use libbpf_rs::{Link, ProgramMut};
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::path::Path;

/// Calls that one probe follows at a time: the most that the kernel allows, about half a megabyte.
const CALLS: u32 = 4096;
const GROUP: &str = "tapedeck_";

/// An event of ours in tracefs; dropping it removes it, once nothing is attached to it any more.
pub struct Event(String);

impl Drop for Event {
    fn drop(&mut self) {
        // What cannot be removed does nothing, and the next recording tries again.
        let _ = command(&format!("-:{}", self.0));
    }
}

/// Attaches to the return of a function.
///
/// # Errors
/// Where tracefs is not mounted or has no kprobe events, and where the kernel refuses the function.
pub fn attach(program: &ProgramMut, function: &str) -> Result<(Link, Event)> {
    remove_left_over();
    let name = format!("{GROUP}{}/{}", std::process::id(), program.name().to_string_lossy());
    command(&format!("r{CALLS}:{name} {function}"))?;
    let event = Event(name);
    let path = tracefs::events().map_err(Error::msg)?.join(&event.0).join("id");
    let id = fs::read_to_string(path).context("the event's id")?;
    let id = id.trim().parse().context("the event's id is a number")?;
    // For a kprobe event one open is enough, whichever processor it names.
    let opened =
        perf_event::open(&perf_event::attributes(libbpf_sys::PERF_TYPE_TRACEPOINT, id), Whose::Processor(0))?;
    let link = program.attach_perf_event(opened.as_raw_fd())?;
    let _ = opened.into_raw_fd(); // the link closes it
    Ok((link, event))
}

/// Where kprobe events are made and listed.
fn events() -> Result<std::path::PathBuf> {
    Ok(tracefs::root().map_err(Error::msg)?.join("kprobe_events"))
}

fn command(text: &str) -> Result<()> {
    let path = events()?;
    let mut file = fs::OpenOptions::new().append(true).open(&path).context("open kprobe_events")?;
    file.write_all(text.as_bytes()).with_context(|| format!("write '{text}' to kprobe_events"))
}

/// Events of recorders that were killed.
fn remove_left_over() {
    let events = events().and_then(|path| Ok(fs::read_to_string(path)?));
    for event in events.unwrap_or_default().lines() {
        let Some(name) = event.split_whitespace().next().and_then(|word| word.split_once(':')) else {
            continue;
        };
        let owner = name.1.strip_prefix(GROUP).and_then(|rest| rest.split_once('/'));
        if owner.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            let _ = command(&format!("-:{}", name.1)); // busy: its recorder lives in another pid namespace
        }
    }
}
