//! Calls that began and did not end: what is left in the interpreter's map when the recording ends (`bpf/named_call.bpf.h`).

use super::probe::GROUP;
use crate::capture::family::SharedMaps;
use crate::capture::host::now;
use crate::capture::layout::Layout;
use crate::capture::probes::Outcome;
use crate::capture::record::Row;
use anyhow::{Context as _, Result};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::collections::BTreeMap;
use std::path::Path;

/// The map of calls, shared by all probes.
const CALLS: &str = "named_calls";

/// Calls whose return was not seen.
#[derive(Default)]
pub struct Left {
    /// Of calls that have not returned: rows of the recorder's table of such calls.
    pub rows: Vec<Vec<u8>>,
    /// Of calls that have returned unseen, by table: how many.
    pub unseen: BTreeMap<usize, u64>,
}

/// What is left of the named probes among the tables.
///
/// A kernel function returns before its thread ends. So where the thread is gone, the kernel has not told of the return,
/// as a trampoline does for calls that another tracer comes or goes in (see `bpf/pending.bpf.h`); calls of probes that
/// are attached in other ways are counted by the kernel when they are missed, or end with their process.
///
/// # Errors
/// When the map cannot be read.
pub fn left(maps: &SharedMaps, layouts: &[Layout], outcomes: &[&Outcome]) -> Result<Left> {
    let mut left = Left::default();
    let Some(map) = maps.get(CALLS) else { return Ok(left) };
    let ended = now();
    for key in map.keys() {
        let Some((tid, probe, function)) = parts(&key) else { continue };
        let layout = layouts.get(probe as usize).filter(|layout| layout.def.group == GROUP);
        let Some((layout, began)) = layout.zip(began(map, &key)?) else { continue };
        let on_trampoline =
            |outcome: &&Outcome| outcome.probe == layout.def.name && outcome.got.as_deref() == Some("fentry");
        if outcomes.iter().any(on_trampoline) && !is_alive(tid) {
            *left.unseen.entry(probe as usize).or_default() += 1;
            continue;
        }
        let label = layout.labels.iter().find(|label| label.1 == u64::from(function));
        let row = Row::new().u64(began).u64(ended).u32(tid).text(&layout.def.name);
        left.rows.push(row.text(label.map_or("", |label| &label.2)).bytes());
    }
    Ok(left)
}

fn is_alive(tid: u32) -> bool {
    Path::new("/proc").join(tid.to_string()).exists()
}

/// `struct call_key`: thread, number of the probe's table, function.
fn parts(key: &[u8]) -> Option<(u32, u32, u32)> {
    let mut words = key.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four")));
    Some((words.next()?, words.next()?, words.next()?))
}

/// When a call began; none: it has just been noted, or has returned meanwhile.
fn began(map: &MapHandle, key: &[u8]) -> Result<Option<u64>> {
    let call = map.lookup(key, MapFlags::ANY).context("read a call in flight")?;
    let began = call.and_then(|call| Some(u64::from_ne_bytes(*call.first_chunk()?)));
    Ok(began.filter(|&began| began > 0))
}
