//! Parts of a recording that are not among its files. Numbers that are skipped tell of them in a set; the footer does in
//! a file that was made of one.

use super::error::{FormatError, Result};
use super::message;
use super::trace_capnp::{absent, footer};

/// A footer has so many at most: a list costs a reader more than the file where its elements are empty.
const MAX_ABSENT: usize = 1 << 16;

/// Parts that follow each other, and are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Absent {
    /// The numbers of the first and the last of them.
    pub parts: (u32, u32),
    /// The moments that they tell of: from the first one to before the second.
    pub times: (u64, u64),
}

impl Absent {
    /// What is left of their time in a span, given in the same way; `None`: nothing.
    #[must_use]
    pub fn within(&self, (from, to): (u64, u64)) -> Option<Self> {
        let times = (self.times.0.max(from), self.times.1.min(to));
        (times.0 < times.1).then_some(Self { times, ..*self })
    }

    /// What is not here once one of the parts, which tells of some moments, is: parts before it and parts after it, which
    /// told of a moment at least.
    #[must_use]
    pub fn without(&self, part: u32, (from, to): (u64, u64)) -> [Option<Self>; 2] {
        let ((first, last), (begin, end)) = (self.parts, self.times);
        if !(first..=last).contains(&part) {
            return [Some(*self), None];
        }
        let (till, since) = (from.clamp(begin, end), to.clamp(begin, end));
        let before = (part > first)
            .then(|| Self { parts: (first, part - 1), times: (begin, till.max(begin.saturating_add(1))) });
        let after = (part < last)
            .then(|| Self { parts: (part + 1, last), times: (since.min(end.saturating_sub(1)), end) });
        [before, after]
    }

    /// From the first part and moment of both to the last.
    fn with(self, other: Self) -> Self {
        let hull = |a: (u64, u64), b: (u64, u64)| (a.0.min(b.0), a.1.max(b.1));
        let parts = (self.parts.0.min(other.parts.0), self.parts.1.max(other.parts.1));
        Self { parts, times: hull(self.times, other.times) }
    }

    fn read(from: absent::Reader) -> Result<Self> {
        let (parts, times) = ((from.get_first(), from.get_last()), (from.get_from(), from.get_to()));
        if parts.0 > parts.1 || times.0 > times.1 {
            return Err(FormatError::Batch("parts that are not here end before they begin".into()));
        }
        Ok(Self { parts, times })
    }
}

/// Each once: slices of one recording tell of the same parts, each of its own time.
#[must_use]
pub fn united(mut all: Vec<Absent>) -> Vec<Absent> {
    all.sort_unstable();
    all.dedup_by(|later, kept| {
        let touch = later.parts == kept.parts && later.times.0 <= kept.times.1;
        kept.times.1 = if touch { kept.times.1.max(later.times.1) } else { kept.times.1 };
        touch
    });
    all
}

pub(super) fn read(from: footer::Reader) -> Result<Vec<Absent>> {
    let list = from.get_absent()?;
    if list.len() as usize > MAX_ABSENT {
        let found = list.len();
        let what = format!("{found} gaps between parts, at most {MAX_ABSENT} are possible");
        return Err(FormatError::Batch(what));
    }
    list.iter().map(Absent::read).collect()
}

/// Beyond what a reader takes, the last ones are told of as one.
pub(super) fn write(all: &[Absent], to: footer::Builder) {
    let (each, rest) = all.split_at(all.len().min(MAX_ABSENT - 1));
    let rest = rest.iter().copied().reduce(Absent::with);
    let listed: Vec<&Absent> = each.iter().chain(&rest).collect();
    if listed.is_empty() {
        return;
    }
    let mut list = to.init_absent(message::count(listed.len()));
    for (at, absent) in (0..).zip(listed) {
        let mut to = list.reborrow().get(at);
        to.set_first(absent.parts.0);
        to.set_last(absent.parts.1);
        to.set_from(absent.times.0);
        to.set_to(absent.times.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::singles::read_footer;

    fn absent(part: u32, from: u64, to: u64) -> Absent {
        Absent { parts: (part, part), times: (from, to) }
    }

    fn footer_with(all: &[Absent]) -> Result<Vec<Absent>> {
        let message = message::build(64, |root| write(all, root.init_footer()));
        message::parse(&message, read_footer).map(|footer| footer.absent)
    }

    #[test]
    fn a_part_that_is_here_splits_those_that_are_not() {
        let all = Absent { parts: (2, 4), times: (10, 40) };
        let of = |parts, times| Some(Absent { parts, times });
        assert_eq!(all.without(1, (0, 10)), [Some(all), None]);
        assert_eq!(all.without(2, (10, 20)), [None, of((3, 4), (20, 40))]);
        assert_eq!(all.without(3, (20, 30)), [of((2, 2), (10, 20)), of((4, 4), (30, 40))]);
        assert_eq!(all.without(4, (30, 40)), [of((2, 3), (10, 30)), None]);
        assert_eq!(absent(7, 5, 9).without(7, (6, 8)), [None, None]);
        let ends = Absent { parts: (0, u32::MAX), times: (0, u64::MAX) };
        assert_eq!(ends.without(0, (0, u64::MAX)), [None, of((1, u32::MAX), (u64::MAX - 1, u64::MAX))]);
        assert_eq!(all.without(3, (5, 50)), [of((2, 2), (10, 11)), of((4, 4), (39, 40))]);
        assert_eq!(ends.without(u32::MAX, (1, 2)), [of((0, u32::MAX - 1), (0, 1)), None]);
    }

    #[test]
    fn a_footer_says_what_it_was_given() {
        for all in [vec![], vec![absent(2, 0, u64::MAX)], vec![absent(2, 5, 5), absent(u32::MAX, 7, 9)]] {
            assert_eq!(footer_with(&all).expect("in order"), all);
        }
    }

    #[test]
    fn what_ends_before_it_begins_is_refused() {
        for bad in [Absent { parts: (3, 2), times: (0, 1) }, absent(2, 1, 0), absent(0, u64::MAX, 0)] {
            let found = footer_with(&[absent(1, 0, 1), bad]);
            assert!(matches!(found, Err(FormatError::Batch(_))), "{bad:?}: {found:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_refused_and_never_written() {
        let most = MAX_ABSENT as u32;
        let message = message::build(64, |root| {
            root.init_footer().init_absent(most + 1);
        });
        assert!(matches!(message::parse(&message, read_footer), Err(FormatError::Batch(_))));
        let all: Vec<Absent> =
            (1..=most + 2).map(|part| absent(part, part.into(), (part + 1).into())).collect();
        let found = footer_with(&all).expect("as many as a reader takes");
        let last = Absent { parts: (most, most + 2), times: (most.into(), (most + 3).into()) };
        assert_eq!((found.len(), &found[..2], found.last()), (MAX_ABSENT, &all[..2], Some(&last)));
    }

    #[test]
    fn slices_unite_to_what_they_were_cut_from() {
        let whole = [absent(2, 10, 30), Absent { parts: (4, 6), times: (50, 60) }];
        let cut = |from, to| whole.iter().filter_map(move |absent| absent.within((from, to)));
        assert_eq!(cut(0, 10).chain(cut(30, 50)).chain(cut(60, 70)).count(), 0, "nothing of it is in these");
        assert_eq!(united(cut(15, 100).chain(cut(0, 15)).collect()), whole);
        assert_eq!(united(cut(0, 55).chain(cut(20, 100)).collect()), whole);
        let apart = [absent(2, 10, 12), absent(2, 20, 30)];
        assert_eq!(united(cut(20, 40).chain(cut(0, 12)).collect()), apart);
    }
}
