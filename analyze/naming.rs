//! From ids to names: each id is named once, and names are compared by their ranks.

use super::ids::{Key, MOST};
use super::rows::Value;
use crate::schema::hash::FastMap;
use rayon::prelude::*;

/// So many groups are named and sorted before a thread is awake.
pub(crate) const FEW: usize = 1000;

/// The values that an id takes in keys.
struct Met {
    /// Each value once, to its position.
    positions: FastMap<u64, u32>,
    /// The values by position.
    list: Vec<u64>,
}

/// A column of the result: the rank of each id, the value of each rank.
pub(crate) struct Names {
    /// By position of the id.
    ranks: Vec<u32>,
    values: Vec<Value>,
}

impl Met {
    /// In keys at some positions.
    fn of(keys: &[Key], positions: &[u32], id: usize) -> Self {
        let mut met = Self { positions: FastMap::default(), list: Vec::new() };
        for &at in positions {
            let (id, next) = (keys[at as usize].ids[id], met.list.len() as u32);
            if *met.positions.entry(id).or_insert(next) == next {
                met.list.push(id);
            }
        }
        met
    }

    /// Where a value of the keys stands.
    fn position(&self, id: u64) -> usize {
        self.positions[&id] as usize
    }
}

impl Names {
    /// By the name of each position.
    pub fn of(values: &[Value]) -> Self {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.par_sort_unstable_by(|&a, &b| values[a as usize].cmp(&values[b as usize]));
        let mut names = Self { ranks: vec![0; values.len()], values: Vec::new() };
        for position in order {
            let value = &values[position as usize];
            if names.values.last() != Some(value) {
                names.values.push(value.clone());
            }
            names.ranks[position as usize] = names.values.len() as u32 - 1;
        }
        names
    }

    /// Whether each position has a name of its own.
    fn differ(&self) -> bool {
        self.values.len() == self.ranks.len()
    }

    /// The rank of what stands at a position.
    fn rank(&self, position: usize) -> u32 {
        self.ranks[position]
    }

    /// The name of a rank.
    fn value(&self, rank: u32) -> Value {
        self.values[rank as usize].clone()
    }
}

/// The names of keys.
pub(crate) struct Named<'a> {
    met: Vec<Met>,
    /// Per column.
    names: Vec<Names>,
    /// Per column, its id.
    of: &'a [usize],
}

/// Some keys by the ranks of their names.
pub(crate) struct Ranked {
    /// Which.
    pub positions: Vec<u32>,
    bins: Vec<u32>,
    /// A row for each, end to end.
    ranks: Vec<u32>,
    width: usize,
}

impl<'a> Named<'a> {
    /// Of keys at some positions, of which column `at` has the id `of[at]`; `name` names the ids of a column.
    pub fn of(
        keys: &[Key],
        positions: &[u32],
        of: &'a [usize],
        mut name: impl FnMut(usize, &[u64]) -> Names,
    ) -> Self {
        let ids = of.iter().max().map_or(0, |most| most + 1);
        let met: Vec<Met> = (0..ids).map(|id| Met::of(keys, positions, id)).collect();
        let names = of.iter().enumerate().map(|(at, &id)| name(at, &met[id].list)).collect();
        Self { met, names, of }
    }

    /// Whether no two keys have the same names: each id has a name of its own in one of its columns.
    pub fn tells_all_apart(&self) -> bool {
        let tells =
            |id: usize| self.of.iter().zip(&self.names).any(|(&of, names)| of == id && names.differ());
        (0..self.met.len()).all(tells)
    }

    /// Per column, the rank of a key's name there. Columns share ids, and where an id stands is far from the cache.
    fn rank(&self, key: &Key) -> impl Iterator<Item = u32> {
        let mut places = [0; MOST];
        places
            .iter_mut()
            .zip(&self.met)
            .zip(key.ids)
            .for_each(|((place, met), id)| *place = met.position(id));
        self.names.iter().zip(self.of).map(move |(names, &id)| names.rank(places[id]))
    }

    /// Keys at some positions. If they are many it runs on the threads of the caller's pool.
    pub fn ranks(&self, keys: &[Key], positions: Vec<u32>) -> Ranked {
        let (width, key) = (self.names.len(), |position: &u32| &keys[*position as usize]);
        let bins = positions.iter().map(|position| key(position).bin).collect();
        let mut ranks = vec![0; positions.len() * width];
        let fill = |(row, at): (&mut [u32], &u32)| {
            row.iter_mut().zip(self.rank(key(at))).for_each(|(to, rank)| *to = rank);
        };
        if positions.len() > FEW {
            ranks.par_chunks_exact_mut(width.max(1)).zip(&positions).for_each(fill);
        } else {
            ranks.chunks_exact_mut(width.max(1)).zip(&positions).for_each(fill);
        }
        Ranked { positions, bins, ranks, width }
    }

    /// The names of a key.
    pub fn values(&self, key: &Key) -> Vec<Value> {
        self.rank(key).zip(&self.names).map(|(rank, names)| names.value(rank)).collect()
    }
}

impl Ranked {
    /// Interval and ranks of one: equal where they are to be one group.
    pub fn group(&self, at: u32) -> (u32, &[u32]) {
        (self.bins[at as usize], &self.ranks[at as usize * self.width..][..self.width])
    }
}
