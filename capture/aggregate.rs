//! What programs add up in the kernel, taken out once per interval (`bpf/aggregate.bpf.h`).
//!
//! A map `agg_TABLE` holds rows of table TABLE without their head: the key begins with the interval,
//! the value is the sums of one processor. A row is therefore head, key and value, one after the other,
//! and this file knows no table.
//!
//! Where a key refers to stacks, each as a hash of eight bytes, a map `stk_TABLE` has their words, once per interval. They
//! are put behind the row, where a record of a ring has them.

use super::family::SharedMaps;
use super::layout::{FieldKind, Layout};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use std::time::Duration;

/// Time, table, processor and four bytes of nothing: `AGGREGATE` in `bpf/event.h` up to the interval.
const HEAD: usize = 16;
const PREFIX: &str = "agg_";
const STACKS: &str = "stk_";

/// The map of a table.
#[must_use]
pub fn map_of(table: &str) -> String {
    format!("{PREFIX}{table}")
}

/// The map of the stacks that a table's sums are of.
#[must_use]
pub fn stacks_of(table: &str) -> String {
    format!("{STACKS}{table}")
}

/// A record of what was added up, as it would be in a ring.
pub struct Summed {
    /// Head, key, sums, and the words of the stacks.
    pub record: Vec<u8>,
    /// When these stacks were met, each at one of these moments: what their addresses mean can change later.
    pub met: u64,
}

/// The rows of the intervals that have ended, by table.
pub type Taken = Vec<(usize, Vec<Summed>)>;

/// The maps of one recording.
pub struct Aggregates {
    tables: Vec<Table>,
    every: u64,
    due: u64,
}

impl Aggregates {
    /// Finds the maps of the tables that are recorded.
    ///
    /// # Errors
    /// When a map does not fit its table.
    pub fn start(maps: &SharedMaps, layouts: &[Layout], now: u64, every: Duration) -> Result<Self> {
        let tables =
            (0..).zip(layouts).filter_map(|(number, layout)| Table::open(maps, number, layout).transpose());
        let tables = tables.collect::<Result<Vec<_>>>()?;
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let due = if tables.is_empty() { u64::MAX } else { now + every };
        Ok(Self { tables, every, due })
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
    pub fn take(&mut self, begin: u64) -> Result<Taken> {
        if self.tables.is_empty() {
            return Ok(Taken::new());
        }
        // A late start of this interval does not shift those after it.
        self.due = (self.due.saturating_add(self.every)).max(begin + self.every / 2);
        wait_for_programs();
        self.tables.iter().map(|table| Ok((usize::from(table.number), table.take(begin)?))).collect()
    }
}

/// The maps of one table.
struct Table {
    number: u16,
    sums: MapHandle,
    stacks: Option<MapHandle>,
    /// Where a record refers to stacks.
    places: Vec<usize>,
}

impl Table {
    /// None where the table's rows are not added up.
    fn open(maps: &SharedMaps, number: u16, layout: &Layout) -> Result<Option<Self>> {
        let name = &layout.def.name;
        let Some(map) = maps.get(&map_of(name)) else { return Ok(None) };
        let (key, value) = (map.key_size() as usize, map.value_size() as usize);
        if HEAD + key + value != layout.size {
            bail!(
                "the map {PREFIX}{name} has keys of {key} and values of {value} bytes, \
                 which with a head of {HEAD} is no row of {} bytes",
                layout.size
            );
        }
        let open = |map| MapHandle::try_from(map).with_context(|| format!("open a map of {name}"));
        let stacks = maps.get(&stacks_of(name)).map(open).transpose()?;
        let places = layout.fields.iter().filter(|field| field.kind == FieldKind::Stack);
        let places = places.map(|field| field.offset).collect();
        Ok(Some(Self { number, sums: open(map)?, stacks, places }))
    }

    fn take(&self, begin: u64) -> Result<Vec<Summed>> {
        let mut rows = Vec::new();
        for key in ended(&self.sums, begin) {
            let sums = self.sums.lookup_percpu(&key, MapFlags::ANY).context("read what was added up")?;
            self.sums.delete(&key).context("take out what was added up")?;
            let stacks = self.stacks_of(&key)?;
            for (cpu, sums) in (0u16..).zip(sums.unwrap_or_default()) {
                if sums.iter().any(|&byte| byte != 0) {
                    rows.push(self.summed((begin - 1, cpu), (&key, &sums), &stacks));
                }
            }
        }
        if let Some(stacks) = &self.stacks {
            for key in ended(stacks, begin) {
                stacks.delete(&key).context("take out a stack of what was added up")?;
            }
        }
        Ok(rows)
    }

    /// The stacks that a key refers to, each with its place in a record.
    fn stacks_of(&self, key: &[u8]) -> Result<Vec<(usize, Kept)>> {
        let mut found = Vec::new();
        for (&place, map) in self.places.iter().zip(std::iter::repeat(&self.stacks)) {
            let hash = &key[place - HEAD..place - HEAD + 8];
            let (Some(map), true) = (map, hash.iter().any(|&byte| byte != 0)) else { continue };
            let kept = map.lookup(&[&key[..8], hash].concat(), MapFlags::ANY).context("read a stack")?;
            found.push((place, Kept::new(&kept.context("a stack of what was added up is not there")?)?));
        }
        Ok(found)
    }

    fn summed(&self, (ts, cpu): (u64, u16), (key, sums): (&[u8], &[u8]), stacks: &[(usize, Kept)]) -> Summed {
        let mut record = Vec::with_capacity(HEAD + key.len() + sums.len());
        record.extend(ts.to_ne_bytes());
        record.extend(self.number.to_ne_bytes());
        record.extend(cpu.to_ne_bytes());
        record.extend([0; 4]);
        record.extend(key);
        record.extend(sums);
        self.places.iter().for_each(|&place| record[place..place + 8].fill(0));
        for (place, stack) in stacks {
            let at =
                [record.len(), stack.words.len()].map(|n| u16::try_from(n).expect("some thousand bytes"));
            record[*place..place + 2].copy_from_slice(&at[0].to_ne_bytes());
            record[place + 2..place + 4].copy_from_slice(&at[1].to_ne_bytes());
            record.extend(&stack.words);
        }
        Summed { record, met: stacks.iter().map(|(_, stack)| stack.met).max().unwrap_or(ts) }
    }
}

/// The keys of the intervals that have ended.
fn ended(map: &MapHandle, begin: u64) -> Vec<Vec<u8>> {
    map.keys().filter(|key| key[..8] != begin.to_ne_bytes()).collect()
}

/// `struct kept_stack` of `bpf/named_sum.bpf.h`.
struct Kept {
    met: u64,
    words: Vec<u8>,
}

impl Kept {
    fn new(value: &[u8]) -> Result<Self> {
        let (met, rest) = value.split_first_chunk().context("a stack has a time")?;
        let (size, words) = rest.split_first_chunk().context("a stack has a size")?;
        let size = usize::try_from(u64::from_ne_bytes(*size)).context("the size of a stack")?;
        let words = words.get(..size).context("a stack is longer than its place")?.to_vec();
        Ok(Self { met: u64::from_ne_bytes(*met), words })
    }
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
