//! Calls that began and did not end: what is left in the interpreter's map when the recording ends (`bpf/named_call.bpf.h`).

use super::probe::GROUP;
use crate::capture::family::SharedMaps;
use crate::capture::host::now;
use crate::capture::layout::Layout;
use crate::capture::record::Row;
use anyhow::{Context as _, Result};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

/// The map of calls, shared by all probes.
const CALLS: &str = "named_calls";

/// Rows of the recorder's table of such calls, for the named probes among the tables.
///
/// # Errors
/// When the map cannot be read.
pub fn rows(maps: &SharedMaps, layouts: &[Layout]) -> Result<Vec<Vec<u8>>> {
    let Some(map) = maps.get(CALLS) else { return Ok(Vec::new()) };
    let ended = now();
    let mut rows = Vec::new();
    for key in map.keys() {
        let Some((tid, probe, function)) = parts(&key) else { continue };
        let layout = layouts.get(probe as usize).filter(|layout| layout.def.group == GROUP);
        if let (Some(layout), Some(began)) = (layout, began(map, &key)?) {
            let label = layout.labels.iter().find(|label| label.1 == u64::from(function));
            let row = Row::new().u64(began).u64(ended).u32(tid).text(&layout.def.name);
            rows.push(row.text(label.map_or("", |label| &label.2)).bytes());
        }
    }
    Ok(rows)
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
