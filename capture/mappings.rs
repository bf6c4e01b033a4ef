//! Address spaces: which file each process had mapped where, and when.
//!
//! The kernel tells of every executable mapping, exec, fork and exit through perf events, as `perf record`
//! learns of them; a process from before the start is read from /proc when it is first asked for. So a
//! process that has ended by the time that its samples are read is still known. Nothing of this reaches the
//! file but the mappings that recorded stacks refer to.

use super::perf_ring::{Change, PerfRings};
use crate::symbols::build_id;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An address space that ended or was replaced may still be asked for by samples that lag this far, ns.
const LAG: u64 = 5_000_000_000;

/// A piece of a file, or of memory that a just-in-time compiler filled, that a process had mapped as code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// As the process sees it; `//anon` or `[vdso]` for what is no file.
    pub path: String,
    /// The process.
    pub pid: u32,
}

impl Mapping {
    /// Whether it is of a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.path.starts_with('/') && !self.path.starts_with("//")
    }

    /// Where the file can be opened from here: by way of the process while it lives, which is right for files that were
    /// removed or are in other mount namespaces, else by the path.
    #[must_use]
    pub fn places(&self) -> [PathBuf; 3] {
        let Self { pid, start, end, path, .. } = self;
        let process = [format!("map_files/{start:x}-{end:x}"), format!("root{path}")];
        let [mapped, there] = process.map(|place| Path::new("/proc").join(pid.to_string()).join(place));
        [mapped, there, PathBuf::from(path)]
    }

    /// The build id of the file; empty where it is none, has none, or is gone.
    #[must_use]
    pub fn build_id(&self) -> String {
        let ids = self.places().into_iter().filter(|_| self.is_file()).map(|path| build_id(&path));
        ids.into_iter().find(|id| !id.is_empty()).unwrap_or_default()
    }
}

/// From one exec to the next.
#[derive(Clone, Debug, Default)]
struct Space {
    since: u64,
    /// Of all mappings that it has; else /proc may know more.
    complete: bool,
    /// Process that it is a copy of, while that is not complete either.
    parent: Option<u32>,
    regions: BTreeMap<u64, Arc<Mapping>>,
}

impl Space {
    fn insert(&mut self, mapping: Mapping) {
        let covered = self.regions.range(..mapping.end).filter(|(_, old)| old.end > mapping.start);
        let covered: Vec<u64> = covered.map(|(&start, _)| start).collect();
        for start in covered {
            self.regions.remove(&start);
        }
        self.regions.insert(mapping.start, Arc::new(mapping));
    }

    fn find(&self, address: u64) -> Option<&Arc<Mapping>> {
        self.regions.range(..=address).next_back().map(|(_, found)| found).filter(|found| address < found.end)
    }
}

#[derive(Debug, Default)]
struct Process {
    /// Oldest first.
    spaces: Vec<Space>,
    ended: Option<u64>,
}

/// All address spaces.
pub struct Mappings {
    rings: PerfRings,
    processes: HashMap<u32, Process>,
}

impl Mappings {
    /// Knows of nothing yet, but hears of every change from now on.
    #[must_use]
    pub fn open() -> Self {
        Self { rings: PerfRings::open(), processes: HashMap::new() }
    }

    /// Takes in what has changed since the last time.
    pub fn update(&mut self) {
        let (changes, lost) = self.rings.drain();
        let newest = changes.last().map(|(ts, _)| *ts);
        for (ts, change) in changes {
            self.apply(ts, change);
        }
        if lost {
            let spaces = self.processes.values_mut().flat_map(|process| &mut process.spaces);
            spaces.for_each(|space| space.complete = false);
        }
        let Some(horizon) = newest.map(|newest| newest.saturating_sub(LAG)) else { return };
        self.processes.retain(|_, process| process.ended.is_none_or(|ended| ended > horizon));
        for process in self.processes.values_mut() {
            let old = process.spaces.partition_point(|space| space.since <= horizon);
            process.spaces.drain(..old.saturating_sub(1));
        }
    }

    fn apply(&mut self, ts: u64, change: Change) {
        match change {
            Change::Exec { pid } => {
                let process = self.processes.entry(pid).or_default();
                process.ended = None;
                process.spaces.push(Space { since: ts, complete: true, ..Space::default() });
            }
            Change::Fork { pid, parent } => {
                let copy = self.latest(parent).map(|space| Space { since: ts, ..space.clone() });
                let mut copy = copy.unwrap_or_else(|| Space { since: ts, ..Space::default() });
                copy.parent = Some(parent).filter(|_| !copy.complete);
                self.processes.insert(pid, Process { spaces: vec![copy], ended: None });
            }
            Change::Exit { pid } => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.ended = Some(ts);
                }
            }
            Change::Map(mapping) => {
                let process = self.processes.entry(mapping.pid).or_default();
                if process.spaces.is_empty() {
                    process.spaces.push(Space::default());
                }
                process.spaces.last_mut().expect("there is one").insert(mapping);
            }
        }
    }

    fn latest(&self, pid: u32) -> Option<&Space> {
        self.processes.get(&pid)?.spaces.last()
    }

    /// What process `pid` had at `address` at the moment `ts`.
    pub fn find(&mut self, pid: u32, ts: u64, address: u64) -> Option<Arc<Mapping>> {
        let process = self.processes.entry(pid).or_default();
        if process.spaces.is_empty() {
            process.spaces.push(Space::default());
        }
        let at = process.spaces.partition_point(|space| space.since <= ts).saturating_sub(1);
        let space = &mut process.spaces[at];
        if let Some(found) = space.find(address) {
            return Some(Arc::clone(found));
        }
        if space.complete {
            return None;
        }
        let parent = space.parent;
        for mapping in
            [Some(pid), parent].into_iter().flatten().map(read_maps).find(|maps| !maps.is_empty())?
        {
            space.insert(mapping);
        }
        space.complete = true; // what comes later, the kernel tells
        space.find(address).cloned()
    }
}

/// The executable mappings of a process that lives.
fn read_maps(pid: u32) -> Vec<Mapping> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("maps"));
    text.unwrap_or_default().lines().filter_map(|line| parse_line(pid, line)).collect()
}

/// `7f00-7f10 r-xp 00002000 fe:00 4711   /usr/lib/libc.so.6`
fn parse_line(pid: u32, line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        word
    };
    let (range, access, offset) = (word(), word(), word());
    let (_device, _inode) = (word(), word());
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let path = rest.trim_start();
    let path = if path.is_empty() { "//anon" } else { path };
    let mapping = Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(offset)?,
        path: path.to_owned(),
        pid,
    };
    access.contains('x').then_some(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pid: u32, start: u64, end: u64, path: &str) -> Change {
        Change::Map(Mapping { start, end, offset: 0, path: path.into(), pid })
    }

    fn empty() -> Mappings {
        Mappings { rings: PerfRings::default(), processes: HashMap::new() }
    }

    /// A process id that no system hands out, so that /proc does not know it.
    const NOBODY: u32 = u32::MAX - 7;

    #[test]
    fn an_address_is_what_it_was_at_that_moment() {
        let mut mappings = empty();
        mappings.apply(10, Change::Exec { pid: NOBODY });
        mappings.apply(11, map(NOBODY, 0x1000, 0x2000, "/bin/old"));
        mappings.apply(20, Change::Fork { pid: NOBODY - 1, parent: NOBODY });
        mappings.apply(30, Change::Exec { pid: NOBODY });
        mappings.apply(31, map(NOBODY, 0x1000, 0x3000, "/bin/new"));
        mappings.apply(40, Change::Exit { pid: NOBODY });
        let mut path = |pid, ts, address| mappings.find(pid, ts, address).map(|found| found.path.clone());
        assert_eq!(path(NOBODY, 15, 0x1800).as_deref(), Some("/bin/old"));
        assert_eq!(path(NOBODY, 35, 0x1800).as_deref(), Some("/bin/new"));
        assert_eq!(path(NOBODY - 1, 99, 0x1fff).as_deref(), Some("/bin/old"), "a child has its parent's");
        assert_eq!(path(NOBODY, 35, 0x3000), None);
    }

    #[test]
    fn what_is_mapped_over_another_replaces_it() {
        let mut space = Space::default();
        for (start, end, path) in [(0, 10, "/a"), (10, 20, "/b"), (5, 15, "/c")] {
            space.insert(Mapping { start, end, path: path.into(), ..Mapping::default() });
        }
        let paths: Vec<_> = [4, 7, 14, 16].map(|at| space.find(at).map(|found| found.path.as_str())).to_vec();
        assert_eq!(paths, [None, Some("/c"), Some("/c"), None]);
    }

    #[test]
    fn our_own_mappings_are_known_and_have_build_ids() {
        let mut mappings = empty();
        let address = read_maps as fn(u32) -> Vec<Mapping> as usize as u64;
        let found = mappings.find(std::process::id(), 1, address).expect("this code is mapped");
        let exe = std::env::current_exe().expect("a path");
        assert_eq!((found.path.as_str(), found.build_id()), (exe.to_str().expect("UTF-8"), build_id(&exe)));
        assert!(found.start <= address && address < found.end);
    }
}
