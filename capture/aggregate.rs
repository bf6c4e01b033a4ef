//! What programs add up in the kernel, taken out once per interval (`bpf/aggregate.bpf.h`).
//!
//! A map `agg_TABLE` holds rows of table TABLE without their head: the key begins with the interval,
//! the value is the sums of one processor. A row is therefore head, key and value, one after the other,
//! and this file knows no table.

use super::family::SharedMaps;
use super::layout::Layout;
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::time::Duration;

/// Time, table, processor and four bytes of nothing: `AGGREGATE` in `bpf/event.h` up to the interval.
const HEAD: usize = 16;
const PREFIX: &str = "agg_";

/// The map of a table.
#[must_use]
pub fn map_of(table: &str) -> String {
    format!("{PREFIX}{table}")
}

/// The maps of one recording.
pub struct Aggregates {
    maps: Vec<(usize, MapHandle)>,
    every: u64,
    due: u64,
}

impl Aggregates {
    /// Finds the maps of the tables that are recorded.
    ///
    /// # Errors
    /// When a map does not fit its table.
    pub fn start(maps: &SharedMaps, layouts: &[Layout], now: u64, every: Duration) -> Result<Self> {
        let mut found = Vec::new();
        for (table, layout) in layouts.iter().enumerate() {
            let name = &layout.def.name;
            let Some(map) = maps.get(&map_of(name)) else { continue };
            let (key, value) = (map.key_size() as usize, map.value_size() as usize);
            if HEAD + key + value != layout.size {
                bail!(
                    "the map {PREFIX}{name} has keys of {key} and values of {value} bytes, \
                     which with a head of {HEAD} is no row of {} bytes",
                    layout.size
                );
            }
            found.push((table, MapHandle::try_from(map).with_context(|| format!("open {PREFIX}{name}"))?));
        }
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let due = if found.is_empty() { u64::MAX } else { now + every };
        Ok(Self { maps: found, every, due })
    }

    /// When the interval is to end.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.due
    }

    /// The rows of the intervals before the one that began at `begin`, by table. The programs have been
    /// told of the new one.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn take(&mut self, begin: u64) -> Result<Vec<(usize, Vec<Vec<u8>>)>> {
        if self.maps.is_empty() {
            return Ok(Vec::new());
        }
        // A late start of this interval does not shift those after it.
        self.due = (self.due.saturating_add(self.every)).max(begin + self.every / 2);
        wait_for_programs();
        let mut taken = Vec::new();
        for (table, map) in &self.maps {
            let keys: Vec<Vec<u8>> = map.keys().filter(|key| key[..8] != begin.to_ne_bytes()).collect();
            let mut rows = Vec::new();
            for key in keys {
                let sums = map.lookup_percpu(&key, MapFlags::ANY).context("read what was added up")?;
                map.delete(&key).context("take out what was added up")?;
                for (cpu, sums) in (0u16..).zip(sums.unwrap_or_default()) {
                    if sums.iter().any(|&byte| byte != 0) {
                        rows.push(row((begin - 1, *table, cpu), &key, &sums));
                    }
                }
            }
            taken.push((*table, rows));
        }
        Ok(taken)
    }
}

fn row((ts, table, cpu): (u64, usize, u16), key: &[u8], sums: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + key.len() + sums.len());
    row.extend(ts.to_ne_bytes());
    row.extend(u16::try_from(table).expect("at most 64 tables").to_ne_bytes());
    row.extend(cpu.to_ne_bytes());
    row.extend([0; 4]);
    row.extend(key);
    row.extend(sums);
    row
}

/// Until every program that now runs has ended, so that none still adds to the interval before.
fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers; the command waits for a grace period of the kernel, within which programs run.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        // Not on kernels with processors that never tick; a program takes microseconds.
        std::thread::sleep(Duration::from_millis(10));
    }
}
