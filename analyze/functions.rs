//! What stacks add up to, by function: each by itself, and with what it called.
//!
//! Functions are numbered, whatever frames and stacks they are in, and a stack is looked up once, however many pairs it
//! is in: then a pair of stacks is two lists of numbers.

use super::flame::Pair;
use super::stacks::{Function, Stacks};
use crate::schema::hash::FastMap;
use std::ops::Range;
use std::sync::Arc;

/// The functions that were met so far.
pub(crate) struct Functions<'a> {
    stacks: &'a Stacks,
    numbers: FastMap<Arc<Function>, u32>,
    /// The same, by where in memory the function of a place is.
    by_place: FastMap<usize, u32>,
    /// By number.
    list: Vec<Arc<Function>>,
    /// The functions of all stacks, innermost first, and where each stack's are.
    places: Vec<u32>,
    known: FastMap<u32, Range<usize>>,
    /// By number, of the pairs that are being added up.
    sums: Vec<Sum>,
    pairs: u64,
}

/// What is known of one.
#[derive(Clone, Copy, Default)]
struct Sum {
    own: u64,
    total: u64,
    /// The pair that it was last met in; 0: none of these.
    last: u64,
}

impl<'a> Functions<'a> {
    /// None so far.
    pub fn of(stacks: &'a Stacks) -> Self {
        Self {
            stacks,
            numbers: FastMap::default(),
            by_place: FastMap::default(),
            list: Vec::new(),
            places: Vec::new(),
            known: FastMap::default(),
            sums: Vec::new(),
            pairs: 0,
        }
    }

    /// Weights of each function by itself and with what it called, in the order of functions. Of a pair the first stack
    /// is called by the second.
    pub fn sums(&mut self, pairs: impl Iterator<Item = (Pair, u64)>) -> Vec<(Arc<Function>, u64, u64)> {
        let mut met = Vec::new();
        for ((inner, outer), weight) in pairs {
            self.pairs += 1;
            let (inner, outer) = (self.stack(inner), self.stack(outer));
            for (depth, &number) in self.places[inner].iter().chain(&self.places[outer]).enumerate() {
                let sum = &mut self.sums[number as usize];
                if sum.last == 0 {
                    met.push(number);
                }
                sum.own += if depth == 0 { weight } else { 0 };
                // Once per pair, also where it called itself.
                sum.total += if sum.last == self.pairs { 0 } else { weight };
                sum.last = self.pairs;
            }
        }
        let of = |number: u32| {
            let sum = std::mem::take(&mut self.sums[number as usize]);
            (Arc::clone(&self.list[number as usize]), sum.own, sum.total)
        };
        let mut sums: Vec<_> = met.into_iter().map(of).collect();
        sums.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        sums
    }

    /// Where the functions of a stack are.
    fn stack(&mut self, stack: u32) -> Range<usize> {
        if let Some(known) = self.known.get(&stack) {
            return known.clone();
        }
        let from = self.places.len();
        for function in self.stacks.functions(stack) {
            let number = self.number(function);
            self.places.push(number);
        }
        let range = from..self.places.len();
        self.known.insert(stack, range.clone());
        range
    }

    /// By place, since a place is in many stacks, and names are long.
    fn number(&mut self, function: &Arc<Function>) -> u32 {
        let place = Arc::as_ptr(function).addr();
        if let Some(&number) = self.by_place.get(&place) {
            return number;
        }
        let number = self.new_number(function);
        self.by_place.insert(place, number);
        number
    }

    /// What is inlined here and called there is one function.
    fn new_number(&mut self, function: &Arc<Function>) -> u32 {
        let called = || Arc::new(Function { inlined: false, ..Function::clone(function) });
        let function = if function.inlined { called() } else { Arc::clone(function) };
        if let Some(&number) = self.numbers.get(&function) {
            return number;
        }
        let number = self.list.len() as u32;
        self.list.push(Arc::clone(&function));
        self.sums.push(Sum::default());
        self.numbers.insert(function, number);
        number
    }
}
