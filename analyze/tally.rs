//! Sums by number, asked for in every row.
//!
//! Most numbers are known, and where their hash says: one look at memory finds the number and its sum together, in a dozen
//! instructions less than a general table takes for a row.

use crate::schema::hash::Mixer;
use std::hash::Hasher as _;

/// Places before there is anything to add.
const FIRST: usize = 16;

/// What was added up by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// A power of two of them: the number, and its sum and 1; 0: the place is free.
    places: Vec<(u64, u64)>,
    taken: usize,
}

fn hash(number: u64) -> usize {
    let mut mixer = Mixer::default();
    mixer.write_u64(number);
    mixer.finish() as usize
}

impl Tally {
    /// Adds to the sum of a number; a sum that is too large stays the largest there is.
    #[inline]
    pub fn add(&mut self, number: u64, more: u64) {
        let home = hash(number) & self.places.len().wrapping_sub(1);
        match self.places.get_mut(home) {
            Some((known, sum)) if *known == number && *sum > 0 => *sum = sum.saturating_add(more),
            _ => self.add_elsewhere(number, more),
        }
    }

    #[inline(never)]
    fn add_elsewhere(&mut self, number: u64, more: u64) {
        if 2 * self.taken >= self.places.len() {
            let larger = vec![(0, 0); (2 * self.places.len()).max(FIRST)];
            let before = std::mem::replace(&mut self.places, larger);
            for place in before.into_iter().filter(|place| place.1 > 0) {
                let at = self.place(place.0);
                self.places[at] = place;
            }
        }
        let at = self.place(number);
        let (known, sum) = &mut self.places[at];
        self.taken += usize::from(*sum == 0);
        *known = number;
        *sum = (*sum).max(1).saturating_add(more);
    }

    /// Where a number is, or would be.
    fn place(&self, number: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut at = hash(number) & mask;
        while self.places[at].1 > 0 && self.places[at].0 != number {
            at = (at + 1) & mask;
        }
        at
    }

    /// Numbers and sums, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.places.iter().filter(|place| place.1 > 0).map(|&(number, sum)| (number, sum - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn sums_are_those_of_a_plain_map(rows in prop::collection::vec((0u64..300, 0u64..9), 0..900)) {
            let (mut tally, mut plain) = (Tally::default(), BTreeMap::<u64, u64>::new());
            for (number, more) in rows {
                // Numbers that differ in few bits, and the ends of what there is.
                let number = number.wrapping_sub(3) << (number % 5);
                tally.add(number, more);
                *plain.entry(number).or_default() += more;
            }
            prop_assert_eq!(tally.iter().collect::<BTreeMap<_, _>>(), plain);
        }
    }

    #[test]
    fn a_sum_that_is_too_large_stays_the_largest() {
        let mut tally = Tally::default();
        for more in [u64::MAX, 7, 0] {
            tally.add(0, more);
        }
        assert_eq!(tally.iter().collect::<Vec<_>>(), [(0, u64::MAX - 1)]);
    }
}
