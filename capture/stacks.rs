//! Stacks become numbers: each distinct stack is a row of `stack`, each of its places in code a row of `frame`.
//!
//! A frame is where code is in a file (or in the kernel), and not where that was in memory: the same function
//! of two processes is one frame, and its name can be looked up later and elsewhere, by build id and offset.
//! A caller's address is that of its call, one byte before the return address, since what follows the
//! call may be another function or another line.

use super::layout::Layout;
use super::mappings::{Mapping, Mappings};
use super::record::{Own, Row};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// So many stacks are remembered; then all are forgotten, and a stack that comes again gets another number.
const REMEMBERED: u32 = 1 << 20;
/// So many mappings of processes are.
const KNOWN: usize = 1 << 16;
/// Frames that a probe collects at most, as in `bpf/stack.bpf.h`.
const FRAMES: usize = 127;
/// Set in the word before the frames where there was no room for more, as there.
const CUT: u64 = 1 << 63;

/// A place in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Number of the mapping; 0: none is known, or the kernel.
    pub mapping: u32,
    /// Offset in the mapping's file; an address where there is no file.
    pub offset: u64,
    /// Whether it is the kernel's.
    pub kernel: bool,
}

/// Everything that stacks were made of, for looking names up.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Number of the first is 1.
    pub frames: Vec<Frame>,
    /// With build ids; number of the first is 1.
    pub mappings: Vec<(Arc<Mapping>, String)>,
}

/// Numbers stacks for all rings of a recording.
pub struct Stacks(Mutex<Numbers>);

struct Numbers {
    spaces: Mappings,
    tables: [u16; 3],
    places: Places,
    frames: HashMap<Frame, u32>,
    /// By process, address and path: to read a build id takes opening a file.
    known: HashMap<(u32, u64, String), u32>,
    /// By path and build id.
    mappings: HashMap<(String, String, u32), u32>,
    stacks: HashMap<Box<[u32]>, u32>,
    /// Numbers given so far, and of those how many are forgotten.
    given: u32,
    forgotten: u32,
}

impl Stacks {
    /// For a recording whose tables refer to stacks; none for any other.
    ///
    /// # Panics
    /// Never: a recording has at most 64 tables.
    #[must_use]
    pub fn new(layouts: &[Layout]) -> Option<Arc<Self>> {
        let number = |own: Own| layouts.iter().position(|layout| layout.def.name == own.name());
        let tables = [number(Own::Stack)?, number(Own::Frame)?, number(Own::Mapping)?];
        let tables = tables.map(|number| u16::try_from(number).expect("at most 64 tables"));
        Some(Arc::new(Self(Mutex::new(Numbers {
            spaces: Mappings::open(),
            tables,
            places: Places::default(),
            frames: HashMap::new(),
            known: HashMap::new(),
            mappings: HashMap::new(),
            stacks: HashMap::new(),
            given: 0,
            forgotten: 0,
        }))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has changed in address spaces; to be called before the records of a ring are read, and often
    /// enough for the kernel not to drop any.
    pub fn update(&self) {
        self.lock().spaces.update();
    }

    /// The number of a stack as `bpf/stack.bpf.h` leaves it; 0 for none. `define` gets the identity records
    /// of what is new.
    ///
    /// # Panics
    /// Never: the words are of eight bytes.
    pub fn number(&self, ts: u64, stack: &[u8], define: impl FnMut(Vec<u8>)) -> u32 {
        let mut words = stack.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight")));
        let Some(owner) = words.next() else { return 0 };
        let cut = stack.len() / 8 > FRAMES || owner & CUT != 0;
        self.lock().number(ts, (owner as u32, cut), words, define)
    }

    /// What all stacks were made of so far.
    pub fn places(&self) -> Places {
        self.lock().places.clone()
    }
}

impl Numbers {
    fn number(
        &mut self,
        ts: u64,
        (owner, cut): (u32, bool),
        addresses: impl Iterator<Item = u64>,
        mut define: impl FnMut(Vec<u8>),
    ) -> u32 {
        let frames = addresses.enumerate().map(|(depth, address)| {
            let address = address.saturating_sub(u64::from(depth > 0));
            self.frame(ts, owner, address, &mut define)
        });
        let frames: Box<[u32]> = frames.collect();
        if let Some(&number) = self.stacks.get(&frames) {
            return number;
        }
        if self.stacks.len() >= REMEMBERED as usize {
            self.forget(ts, &mut define);
        }
        self.given += 1;
        define(stack_row(ts, self.tables[0], self.given, cut, &frames));
        self.stacks.insert(frames, self.given);
        self.given
    }

    fn forget(&mut self, ts: u64, mut define: impl FnMut(Vec<u8>)) {
        self.stacks.clear();
        (self.forgotten + 1..=self.given).for_each(|number| define(end_row(ts, self.tables[0], number)));
        self.forgotten = self.given;
    }

    fn frame(&mut self, ts: u64, owner: u32, address: u64, mut define: impl FnMut(Vec<u8>)) -> u32 {
        let mapping = if owner == 0 { None } else { self.spaces.find(owner, ts, address) };
        let offset = mapping.as_ref().filter(|mapping| mapping.is_file());
        let offset = offset.map_or(address, |mapping| address - mapping.start + mapping.offset);
        let mapping = mapping.map_or(0, |mapping| self.mapping(ts, mapping, &mut define));
        let frame = Frame { mapping, offset, kernel: owner == 0 };
        if let Some(&number) = self.frames.get(&frame) {
            return number;
        }
        self.places.frames.push(frame);
        let number = u32::try_from(self.places.frames.len()).unwrap_or(u32::MAX);
        self.frames.insert(frame, number);
        let row = Row::new().u64(ts).u16(self.tables[1]).u16(frame.kernel.into());
        define(row.u32(number).u32(mapping).u64(offset).bytes());
        number
    }

    fn mapping(&mut self, ts: u64, mapping: Arc<Mapping>, define: impl FnMut(Vec<u8>)) -> u32 {
        let known = (mapping.pid, mapping.start, mapping.path.clone());
        if let Some(&number) = self.known.get(&known) {
            return number;
        }
        let number = self.new_mapping(ts, mapping, define);
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(known, number);
        number
    }

    fn new_mapping(&mut self, ts: u64, mapping: Arc<Mapping>, mut define: impl FnMut(Vec<u8>)) -> u32 {
        // What is no file differs from process to process.
        let pid = if mapping.is_file() { 0 } else { mapping.pid };
        let build_id = mapping.build_id();
        let key = (mapping.path.clone(), build_id.clone(), pid);
        if let Some(&number) = self.mappings.get(&key) {
            return number;
        }
        let number = u32::try_from(self.places.mappings.len() + 1).unwrap_or(u32::MAX);
        let row = Row::new().u64(ts).u16(self.tables[2]).u16(0).u32(number).u32(mapping.pid);
        let row = row.u64(mapping.start).u64(mapping.end).u64(mapping.offset);
        define(row.text(&build_id).text(&mapping.path).bytes());
        self.mappings.insert(key, number);
        self.places.mappings.push((mapping, build_id));
        number
    }
}

fn stack_row(ts: u64, table: u16, number: u32, cut: bool, frames: &[u32]) -> Vec<u8> {
    let frames: Vec<u8> = frames.iter().flat_map(|frame| frame.to_le_bytes()).collect();
    Row::new().u64(ts).u16(table).u16(cut.into()).u32(number).u32(0).data(&frames).bytes()
}

fn end_row(ts: u64, table: u16, number: u32) -> Vec<u8> {
    Row::new().u64(ts).u16(table).u16(0).u32(number).u32(1).data(&[]).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::plan::Plan;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_same_stack_is_the_same_number_and_told_once() {
        let plan = Plan::new(&["cpu".into()]).expect("a plan");
        let stacks = Stacks::new(&plan.layouts).expect("samples have stacks");
        let table = |record: &[u8]| {
            let number = usize::from(u16::from_le_bytes([record[8], record[9]]));
            plan.layouts[number].def.name.clone()
        };
        let mut told = Vec::new();
        let mut number = |stack: &[u64]| stacks.number(1, &words(stack), |row| told.push(table(&row)));
        let kernel = 0xffff_ffff_8100_0000;
        let (one, two) = (number(&[0, kernel, kernel + 64]), number(&[0, kernel + 64]));
        assert_eq!((one, two, number(&[0, kernel, kernel + 64]), number(&[])), (1, 2, 1, 0));
        assert_eq!(told, ["frame", "frame", "stack", "frame", "stack"]);
        let frames = stacks.places().frames;
        let offsets: Vec<u64> = frames.iter().map(|frame| frame.offset - kernel).collect();
        assert_eq!(offsets, [0, 63, 64], "a caller is where it calls");
    }

    #[test]
    fn code_of_a_file_is_an_offset_in_it() {
        let plan = Plan::new(&["cpu".into()]).expect("a plan");
        let stacks = Stacks::new(&plan.layouts).expect("samples have stacks");
        let code = words as fn(&[u64]) -> Vec<u8> as usize as u64;
        assert_eq!(stacks.number(1, &words(&[std::process::id().into(), code, 3]), |_| {}), 1);
        let places = stacks.places();
        let mapping = &places.mappings[0].0;
        let file = Frame { mapping: 1, offset: code - mapping.start + mapping.offset, kernel: false };
        assert_eq!(places.frames, [file, Frame { mapping: 0, offset: 2, kernel: false }]);
    }
}
