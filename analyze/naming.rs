//! From ids to names: each id is named once, and names are compared by their ranks.

use super::ids::Key;
use super::rows::Value;
use crate::schema::hash::FastMap;
use rayon::prelude::*;

/// The values that an id takes in keys.
pub(crate) struct Met {
    /// Each value once, to its position.
    positions: FastMap<u64, u32>,
    /// The values by position.
    pub list: Vec<u64>,
}

/// A column of the result: the rank of each id, the value of each rank.
pub(crate) struct Names {
    /// By position of the id.
    ranks: Vec<u32>,
    values: Vec<Value>,
}

impl Met {
    /// In keys.
    pub fn of(keys: &[Key], id: usize) -> Self {
        let mut met = Self { positions: FastMap::default(), list: Vec::new() };
        for key in keys {
            let next = met.list.len() as u32;
            if *met.positions.entry(key.ids[id]).or_insert(next) == next {
                met.list.push(key.ids[id]);
            }
        }
        met
    }

    /// Where a value of the keys stands.
    pub fn position(&self, id: u64) -> usize {
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

    /// The rank of what stands at a position.
    pub fn rank(&self, position: usize) -> u32 {
        self.ranks[position]
    }

    /// The name of a rank.
    pub fn value(&self, rank: u32) -> Value {
        self.values[rank as usize].clone()
    }
}
