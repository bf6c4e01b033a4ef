//! States by key, in the order in which keys were met: flat tables, since folds meet a key in every row.

use super::group::Merge;
use super::hash::Mixer;
use super::ids::Key;
use hashbrown::HashTable;
use std::hash::{Hash, Hasher};

/// Numbers below this find their state in a list; ids are given out one by one, so most are.
const DENSE: u64 = 1 << 20;
/// In that list: no state yet.
const NONE: u32 = u32::MAX;

/// The one part of a key in which keys can differ, where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only {
    /// The interval.
    Bin,
    /// The first id.
    Id,
}

/// States by key.
pub(crate) struct States<A> {
    only: Option<Only>,
    /// Positions in `list`, by the only part of the key.
    numbers: Vec<u32>,
    /// Positions of all other keys: those are in `keys`, so they need not be here too.
    index: HashTable<u32>,
    keys: Vec<Key>,
    /// Apart from their keys, so that more of them fit the processor's caches.
    pub list: Vec<A>,
    last: u32,
}

fn hash(key: &Key) -> u64 {
    let mut mixer = Mixer::default();
    key.hash(&mut mixer);
    mixer.finish()
}

impl<A: Default> States<A> {
    /// None so far; `only` is promised to say everything of a key.
    pub fn new(only: Option<Only>) -> Self {
        let index = HashTable::new();
        Self { only, numbers: Vec::new(), index, keys: Vec::new(), list: Vec::new(), last: 0 }
    }

    /// The only part in which keys differ.
    pub fn only(&self) -> Option<Only> {
        self.only
    }

    /// Where the state of a key is.
    pub fn find(&mut self, key: Key) -> u32 {
        match self.only {
            Some(Only::Bin) => self.find_number(key.bin.into(), || key),
            Some(Only::Id) => self.find_number(key.ids[0], || key),
            None => self.find_key(key),
        }
    }

    /// Where the state of a number is; `key` makes the key of which that is the only part.
    #[inline]
    pub fn find_number(&mut self, number: u64, key: impl FnOnce() -> Key) -> u32 {
        match self.numbers.get(number as usize) {
            Some(&at) if at != NONE => at,
            _ => self.meet(number, key()),
        }
    }

    #[cold]
    fn meet(&mut self, number: u64, key: Key) -> u32 {
        if number >= DENSE {
            return self.find_key(key);
        }
        let number = number as usize;
        if number >= self.numbers.len() {
            self.numbers.resize((number + 1).next_power_of_two(), NONE);
        }
        self.numbers[number] = self.add(key);
        self.numbers[number]
    }

    fn find_key(&mut self, key: Key) -> u32 {
        // Neighbours are often of one group.
        if self.keys.get(self.last as usize).is_none_or(|last| *last != key) {
            let keys = &self.keys;
            let same = |&at: &u32| keys[at as usize] == key;
            let of = |&at: &u32| hash(&keys[at as usize]);
            let next = keys.len() as u32;
            self.last = *self.index.entry(hash(&key), same, of).or_insert(next).get();
            if self.last == next {
                self.add(key);
            }
        }
        self.last
    }

    fn add(&mut self, key: Key) -> u32 {
        self.keys.push(key);
        self.list.push(A::default());
        self.list.len() as u32 - 1
    }

    /// The keys, and a state for each.
    pub fn into_parts(self) -> (Vec<Key>, Vec<A>) {
        (self.keys, self.list)
    }
}

impl<A: Merge> States<A> {
    /// Adds what came later.
    pub fn add_all(&mut self, parts: impl IntoIterator<Item = (Key, A)>) {
        for (key, state) in parts {
            let at = self.find(key);
            self.list[at as usize].merge(state);
        }
    }

    /// Adds later states.
    pub fn merge(&mut self, later: Self) {
        self.add_all(later.keys.into_iter().zip(later.list));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::ids::UNKNOWN;

    #[derive(Default)]
    struct Sum(u64);

    impl Merge for Sum {
        fn merge(&mut self, later: Self) {
            self.0 += later.0;
        }
    }

    #[test]
    fn a_key_has_one_state_however_large_its_numbers_are() {
        for only in [None, Some(Only::Id)] {
            let mut states: States<Sum> = States::new(only);
            let id = |id: u64| Key { bin: 0, ids: [id, 0, 0, 0] };
            let met = [7, DENSE - 1, DENSE, 7, UNKNOWN, DENSE, 0, UNKNOWN, 7];
            states.add_all(met.map(|number| (id(number), Sum(1))));
            let mut later = States::new(only);
            later.add_all([(id(7), Sum(10)), (id(8), Sum(10))]);
            states.merge(later);
            let (keys, states) = states.into_parts();
            let found: Vec<(u64, u64)> =
                keys.iter().zip(states).map(|(key, state)| (key.ids[0], state.0)).collect();
            assert_eq!(found, [(7, 13), (DENSE - 1, 1), (DENSE, 2), (UNKNOWN, 2), (0, 1), (8, 10)]);
        }
    }
}
