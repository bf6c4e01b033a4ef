//! Which groups are shown, where that is known before they have names: of a hundred thousand the first twenty.

use super::bins::Bins;
use std::collections::BTreeMap;

/// Of each interval, or of all, at most so many rows, the largest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leading(pub usize);

impl Leading {
    /// Leaves out what cannot be among them. Ties stay, since names decide between them. `of` gives the interval and the
    /// weight of an item.
    pub fn keep(self, bins: &Bins, items: &mut Vec<u32>, of: impl Fn(u32) -> (u32, u64)) {
        if items.len() <= self.0 || self.0 == 0 {
            return;
        }
        let mut weights: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for &item in &*items {
            let (bin, weight) = of(item);
            weights.entry(bin).or_default().push(weight);
        }
        let mut bounds = vec![0; bins.len()];
        for (bin, mut weights) in weights {
            if let Some(last) = weights.len().checked_sub(self.0) {
                bounds[bin as usize] = *weights.select_nth_unstable(last).1;
            }
        }
        items.retain(|&item| {
            let (bin, weight) = of(item);
            weight >= bounds[bin as usize]
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn what_is_shown_is_what_would_be_shown_of_all() {
        let mut tape = Tape::new();
        for tid in 0..50 {
            // Two threads of each name, and many of the same weight.
            tape.task(0, 100 + tid, 100 + tid, &format!("p{}", tid % 25)).sock(0, tid, 2, 1, tid);
            for at in 0..=(tid % 7) {
                tape.send(tid * 40_000_000 + at, 100 + tid, tid, 100, 100);
            }
        }
        for (verb, sort) in [("tcpsend", "calls"), ("tcptop", "bytes"), ("flows", "bytes")] {
            for by in ["comm", "tid", "tid,rport", "comm,rport", "raddr,rport"] {
                for interval in ["all", "1s"] {
                    let line = [verb, "--by", by, "--interval", interval, "--format", "csv", "--top"];
                    let rows = |words: &[&str]| tape.run(&[&line, words].concat()).1;
                    let first = |top: &str| rows(&[top]);
                    // A condition on the result, true of all, needs all of it.
                    let of_all = |top: &str| rows(&[top, "--having", &format!("{sort} >= 0")]);
                    for top in ["1", "3", "10", "49", "100"] {
                        assert_eq!(first(top), of_all(top), "{verb} {by} {interval} {top}");
                    }
                }
            }
        }
    }
}
