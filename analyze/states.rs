//! States by key, in the order in which keys were met: flat tables, since folds meet a key in every row.

use super::group::Merge;
use super::ids::Key;
use crate::schema::hash::Mixer;
use hashbrown::HashTable;
use std::hash::{Hash, Hasher};
use std::hint::select_unpredictable;

/// Numbers below this find their state in a list; ids are given out one by one, so most are. Each thread has a list,
/// of 16 MiB at most.
const DENSE: u64 = 1 << 22;
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
    /// Positions of keys that are short.
    short: Shorts,
    /// Positions of all other keys, which are in `keys`.
    long: HashTable<u32>,
    keys: Vec<Key>,
    /// Apart from their keys, so that more of them fit the processor's caches.
    pub list: Vec<A>,
}

/// Interval and two ids in few bytes: most keys are so, and with many groups each byte is one that is not in the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short([u32; 3]);

impl Short {
    /// What no key is: there are not so many intervals.
    const NO: Self = Self([u32::MAX; 3]);

    /// Without a branch, since it is asked in every row. [`super::ids::UNKNOWN`] is the largest number here too, and what else would be
    /// does not fit.
    #[inline]
    fn of(key: &Key) -> Option<Self> {
        let [first, second, third, fourth] = key.ids;
        let over = (first.wrapping_add(1) | second.wrapping_add(1)) >> 32;
        let short = Self([key.bin, first as u32, second as u32]);
        select_unpredictable(over | third | fourth == 0, Some(short), None)
    }

    #[inline]
    fn hash(self) -> u64 {
        let Self([bin, first, second]) = self;
        let mut mixer = Mixer::default();
        mixer.write_u64(u64::from(second) << 32 | u64::from(first));
        mixer.write_u32(bin);
        mixer.finish()
    }
}

/// Positions by short key, with the keys: what is looked up lies in one place.
struct Shorts {
    /// A power of two of them. Most keys are at home: where their hash says.
    places: Vec<(Short, u32)>,
    taken: usize,
}

impl Shorts {
    const FREE: (Short, u32) = (Short::NO, NONE);

    fn home(&self, short: Short) -> usize {
        short.hash() as usize & (self.places.len() - 1)
    }

    /// The position of a key that is at home; else [`NONE`]. No branch depends on what memory says, so that a processor
    /// waits for many keys at once.
    #[inline]
    fn at_home(&self, short: Short) -> u32 {
        let (other, at) = self.places[self.home(short)];
        select_unpredictable(other == short, at, NONE)
    }

    /// Where a key is, or would be.
    fn place(&self, short: Short) -> usize {
        let mut place = self.home(short);
        while self.places[place].0 != short && self.places[place].1 != NONE {
            place = (place + 1) & (self.places.len() - 1);
        }
        place
    }

    fn find(&self, short: Short) -> Option<u32> {
        let at = self.places[self.place(short)].1;
        (at != NONE).then_some(at)
    }

    fn insert(&mut self, short: Short, at: u32) {
        self.taken += 1;
        if 2 * self.taken > self.places.len() {
            let more = 2 * self.places.len();
            let before = std::mem::replace(&mut self.places, vec![Self::FREE; more]);
            before.into_iter().filter(|place| place.1 != NONE).for_each(|place| self.put(place));
        }
        self.put((short, at));
    }

    fn put(&mut self, known: (Short, u32)) {
        let place = self.place(known.0);
        self.places[place] = known;
    }
}

impl Default for Shorts {
    fn default() -> Self {
        Self { places: vec![Self::FREE; 16], taken: 0 }
    }
}

fn hash(key: &Key) -> u64 {
    let mut mixer = Mixer::default();
    key.hash(&mut mixer);
    mixer.finish()
}

impl<A: Default> States<A> {
    /// None so far; `only` is promised to say everything of a key.
    pub fn new(only: Option<Only>) -> Self {
        let (short, long) = (Shorts::default(), HashTable::new());
        Self { only, numbers: Vec::new(), short, long, keys: Vec::new(), list: Vec::new() }
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

    /// Where the states of keys are, those of a strip at once.
    pub fn find_all(&mut self, key: impl Fn(usize) -> Key, to: &mut [u32]) {
        for (at, to) in to.iter_mut().enumerate() {
            *to = self.short.at_home(Short::of(&key(at)).unwrap_or(Short::NO));
        }
        for (at, to) in to.iter_mut().enumerate().filter(|(_, to)| **to == NONE) {
            *to = self.find(key(at));
        }
    }

    fn find_key(&mut self, key: Key) -> u32 {
        let Some(short) = Short::of(&key) else { return self.find_long(key) };
        self.short.find(short).unwrap_or_else(|| {
            let at = self.add(key);
            self.short.insert(short, at);
            at
        })
    }

    fn find_long(&mut self, key: Key) -> u32 {
        let keys = &self.keys;
        let same = |&at: &u32| keys[at as usize] == key;
        let of = |&at: &u32| hash(&keys[at as usize]);
        let next = keys.len() as u32;
        let at = *self.long.entry(hash(&key), same, of).or_insert(next).get();
        if at == next {
            self.add(key);
        }
        at
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
        // All places first: a processor waits for many of them at once, as long as nothing else is between them.
        let places: Vec<u32> = later.keys.into_iter().map(|key| self.find(key)).collect();
        for (at, state) in places.into_iter().zip(later.list) {
            self.list[at as usize].merge(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::UNKNOWN;
    use super::*;

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

    #[test]
    fn keys_of_two_ids_are_told_apart_at_the_ends_of_what_is_short() {
        let most = u64::from(u32::MAX);
        let ends = [0, 1, most - 1, most, most + 1, UNKNOWN];
        let keys = || {
            let pairs = ends.iter().flat_map(|&a| ends.map(|b| [a, b, 0, 0]));
            pairs.flat_map(|ids| [0, 1].map(|bin| Key { bin, ids }))
        };
        let mut states: States<Sum> = States::new(None);
        let (all, mut slots): (Vec<Key>, _) = (keys().collect(), vec![0; keys().count()]);
        states.find_all(|at| all[at], &mut slots);
        (0..2).for_each(|_| states.add_all(keys().map(|key| (key, Sum(1)))));
        assert!(slots.iter().enumerate().all(|(at, &slot)| at == slot as usize));
        let (found, sums) = states.into_parts();
        assert!(found.into_iter().eq(keys()));
        assert!(sums.iter().all(|sum| sum.0 == 2));
    }
}
