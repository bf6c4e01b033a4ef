//! Which socket of the recording is at the other end of which.

use super::identity::Identity;
use crate::schema::hash::FastMap;

/// When a socket was first told of, ns, and its id.
type Begin = (i64, u64);

/// Sockets of one pair of ends. A client that goes round its ports makes many of them.
#[derive(Default)]
struct Alike {
    /// By network namespace.
    within: Vec<(i64, Begin)>,
    /// The same in the order of time, where there are several.
    anywhere: Vec<Begin>,
}

/// The socket at the other end of each: addresses and ports swapped, in the same recording. Where a pair of
/// ports was used again, the one that began nearest in time; the same network namespace first.
pub(crate) fn of(socks: &Identity) -> FastMap<u32, u32> {
    let names = ["laddr", "lport", "raddr", "rport", "netns", "ts"];
    let [Some(laddr), Some(lport), Some(raddr), Some(rport), netns, ts] =
        names.map(|name| socks.column(name))
    else {
        return FastMap::default();
    };
    let address = |column, row| <[u8; 16]>::try_from(socks.bytes(column, row)).unwrap_or_default();
    let local = |row| (address(laddr, row), socks.get(lport, row));
    let remote = |row| (address(raddr, row), socks.get(rport, row));
    let cell = |column: Option<usize>, row| column.and_then(|column| socks.get(column, row)).unwrap_or(0);
    let begin = |key| (socks.versions(key).first().map_or(0, |&row| cell(ts, row)), key);
    let known = || socks.keys().filter_map(|key| Some((key, socks.find(key, u64::MAX)?)));
    let mut by_ends: FastMap<_, Alike> = FastMap::default();
    for (key, row) in known() {
        by_ends.entry((local(row), remote(row))).or_default().add(cell(netns, row), begin(key));
    }
    by_ends.values_mut().for_each(Alike::sort);
    let peer = |(key, row)| {
        let found = by_ends.get(&(remote(row), local(row)))?.nearest(cell(netns, row), begin(key))?;
        Some((key as u32, found as u32))
    };
    known().filter_map(peer).collect()
}

impl Alike {
    fn add(&mut self, netns: i64, begin: Begin) {
        self.within.push((netns, begin));
    }

    fn sort(&mut self) {
        self.within.sort_unstable();
        if self.within.first().map(|one| one.0) != self.within.last().map(|one| one.0) {
            self.anywhere = self.within.iter().map(|one| one.1).collect();
            self.anywhere.sort_unstable();
        }
    }

    /// Another socket than this one.
    fn nearest(&self, netns: i64, of: Begin) -> Option<u64> {
        let from = self.within.partition_point(|one| one.0 < netns);
        let here = &self.within[from..];
        let here = &here[..here.partition_point(|one| one.0 == netns)];
        nearest(here, |one| one.1, of).or_else(|| match &self.anywhere[..] {
            [] => nearest(&self.within, |one| one.1, of),
            anywhere => nearest(anywhere, |&one| one, of),
        })
    }
}

/// The id that began nearest, the smaller of two, of a list in order; not the one itself.
fn nearest<T>(list: &[T], begin: impl Fn(&T) -> Begin, (ts, id): Begin) -> Option<u64> {
    let at = list.partition_point(|one| begin(one).0 < ts);
    let (before, after) = list.split_at(at);
    // Of those that began at one moment the first has the smallest id.
    let before = before.last().map(|last| {
        let first = before.partition_point(|one| begin(one).0 < begin(last).0);
        begin(&before[first])
    });
    let after = after.iter().map(begin).find(|one| one.1 != id);
    [before, after].into_iter().flatten().min_by_key(|one| (one.0.abs_diff(ts), one.1)).map(|one| one.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few moments and namespaces, so that many are alike.
        #[test]
        fn it_is_the_nearest_of_all(all in prop::collection::vec((0i64..3, 0i64..6), 0..12)) {
            let mut alike = Alike::default();
            for (id, &(netns, ts)) in (0..).zip(&all) {
                alike.add(netns, (ts, id));
            }
            alike.sort();
            for (id, &(netns, ts)) in (0..=20).zip(all.iter().chain(&[(1, 3), (5, 2)])) {
                let others = (0..).zip(&all).filter(|(other, _)| *other != id);
                let expected =
                    others.min_by_key(|&(other, of)| (of.0 != netns, of.1.abs_diff(ts), other)).map(|one| one.0);
                prop_assert_eq!(alike.nearest(netns, (ts, id)), expected);
            }
        }
    }
}
