//! The life of one request, from its first part to its last.
//!
//! An address is a request from the part that begins it to the one that ends it, and then another one. A request may be
//! issued several times (the driver gave it back) and complete in pieces: the last issue and the last piece count, and
//! all bytes.

use super::group::NONE;
use super::order::Gaps;
use crate::schema::hash::FastMap;
use std::collections::hash_map::Entry;

/// A request that is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its first part.
    pub begin: u64,
    /// When the driver got it, the last time.
    pub issued: Option<u64>,
    /// Its last completion.
    pub end: u64,
    /// First sector on the disk; `None` for commands to the driver.
    pub sector: Option<u64>,
    /// Its size when it was issued.
    pub size: u64,
    /// What was done of it.
    pub done: u64,
    /// The error number of its first failure, negative, or 0.
    pub error: i32,
    /// How often the driver gave it back.
    pub requeues: u32,
}

impl Request {
    /// Time from the begin until the driver had it.
    pub fn queued(&self) -> Option<u64> {
        Some(self.issued?.saturating_sub(self.begin))
    }

    /// Time from there to the end.
    pub fn latency(&self) -> Option<u64> {
        Some(self.end.saturating_sub(self.issued?))
    }

    /// Both together.
    pub fn whole(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Start,
    Insert,
    Issue,
    Requeue,
    Complete,
    Merge,
}

/// A row of `block_rq`. There are many, and each is moved a few times: it is no larger than it must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub ts: u64,
    pub rq: u64,
    pub sector: Option<u64>,
    pub bytes: u32,
    pub error: i32,
    /// Number of its request's group, should it be the first; [`NONE`] where that is not asked for.
    pub key: u32,
    pub what: What,
    /// Nothing of its request is left to be done.
    pub last: bool,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Number of its group; `None`: it was not asked for.
    key: Option<u32>,
    requeued: bool,
    request: Request,
}

/// What a part did to the request of its address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    On,
    /// It is over.
    Done(Option<u32>, Request),
    /// It was merged away.
    Merged(Option<u32>),
    /// There is none.
    Headless,
}

/// The requests of some addresses.
#[derive(Debug, Default)]
pub(super) struct Flights(FastMap<u64, Flight>);

impl Flights {
    /// How many that were asked for have not ended.
    pub(super) fn open(&self) -> u64 {
        self.0.values().filter(|flight| flight.key.is_some()).count() as u64
    }

    /// Takes the next part. Also returns the group of a request that had this address and whose end was not seen.
    pub(super) fn take(&mut self, part: &Part) -> (Step, Option<u32>) {
        let begins = matches!(part.what, What::Start | What::Insert | What::Issue);
        let goes_on = |flight: &Flight| match part.what {
            What::Start => false,
            What::Insert => flight.requeued || flight.request.issued.is_none(),
            _ => true,
        };
        let new = || Flight {
            key: Some(part.key).filter(|&key| key != NONE),
            requeued: false,
            request: Request { begin: part.ts, ..Request::default() },
        };
        let (mut flight, broken) = match self.0.entry(part.rq) {
            Entry::Occupied(known) if goes_on(known.get()) => (known, None),
            _ if !begins => return (Step::Headless, None),
            Entry::Occupied(mut known) => {
                let before = known.insert(new());
                (known, before.key)
            }
            Entry::Vacant(free) => (free.insert_entry(new()), None),
        };
        let step = flight.get_mut().advance(part);
        if step != Step::On {
            flight.remove();
        }
        (step, broken)
    }
}

impl Flight {
    fn advance(&mut self, part: &Part) -> Step {
        let request = &mut self.request;
        match part.what {
            What::Start | What::Insert | What::Issue => {
                (request.sector, request.size) = (part.sector, part.bytes.into());
                if part.what == What::Issue {
                    request.issued = Some(part.ts);
                    self.requeued = false;
                }
            }
            What::Requeue => {
                request.requeues += 1;
                self.requeued = true;
            }
            What::Merge => return Step::Merged(self.key),
            What::Complete => {
                request.done = request.done.saturating_add(part.bytes.into());
                request.end = part.ts;
                if request.error == 0 {
                    request.error = part.error;
                }
                if part.last {
                    return Step::Done(self.key, *request);
                }
            }
        }
        Step::On
    }
}

/// Whether begin and end are surely of one request: where events were lost between them, they must be of the
/// same sectors, since the end of one and the begin of the next may be what is missing.
pub(super) fn is_whole(request: &Request, last: &Part, gaps: &Gaps) -> bool {
    let end = |sector: Option<u64>, bytes: u64| sector.map(|sector| sector.saturating_add(bytes / 512));
    let same = request.done == request.size
        && end(request.sector, request.done) == end(last.sector, last.bytes.into());
    same || !gaps.touch(request.begin, request.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ts: u64, what: What, bytes: u32, left: u32) -> Part {
        Part { ts, rq: 7, what, sector: Some(100), bytes, last: left == 0, error: 0, key: 0 }
    }

    /// What each part did, and how many requests of the same address had no end.
    fn steps(parts: &[Part]) -> (Vec<Step>, usize) {
        let mut flights = Flights::default();
        let taken: Vec<_> = parts.iter().map(|part| flights.take(part)).collect();
        let broken = taken.iter().filter(|step| step.1.is_some()).count();
        (taken.into_iter().map(|step| step.0).filter(|step| *step != Step::On).collect(), broken)
    }

    #[test]
    fn the_last_issue_and_the_last_piece_count() {
        let (steps, broken) = steps(&[
            part(10, What::Start, 8192, 0),
            part(12, What::Insert, 8192, 0),
            part(20, What::Issue, 8192, 0),
            part(21, What::Requeue, 8192, 0),
            part(25, What::Insert, 8192, 0),
            part(30, What::Issue, 8192, 0),
            part(40, What::Complete, 4096, 4096),
            Part { error: -5, ..part(50, What::Complete, 4096, 0) },
        ]);
        let [Step::Done(Some(0), request)] = steps[..] else { panic!("{steps:?}") };
        assert_eq!((request.queued(), request.latency(), request.whole()), (Some(20), Some(20), 40));
        assert_eq!((request.done, request.error, request.requeues, broken), (8192, -5, 1, 0));
    }

    #[test]
    fn an_address_is_used_again() {
        let life = |at| [part(at, What::Issue, 512, 0), part(at + 5, What::Complete, 512, 0)];
        let (done, broken) = steps(&[life(0), life(10)].concat());
        let begins: Vec<u64> = done
            .iter()
            .map(|step| if let Step::Done(_, request) = step { request.begin } else { u64::MAX })
            .collect();
        assert_eq!((begins, broken), (vec![0, 10], 0));
        // The end of the first is missing: it is not that of the second.
        let cut = [life(0)[0], part(10, What::Start, 512, 0), part(11, What::Issue, 512, 0), life(10)[1]];
        let (done, broken) = steps(&cut);
        let [Step::Done(_, request)] = done[..] else { panic!("{done:?}") };
        assert_eq!((request.begin, broken), (10, 1));
    }

    #[test]
    fn what_has_no_begin_or_is_merged_is_no_request() {
        let (found, _) = steps(&[
            part(1, What::Complete, 512, 0),
            part(2, What::Start, 512, 0),
            part(3, What::Merge, 512, 0),
            part(4, What::Requeue, 512, 0),
        ]);
        assert_eq!(found, [Step::Headless, Step::Merged(Some(0)), Step::Headless]);
    }

    #[test]
    fn across_a_gap_both_ends_must_be_of_the_same_sectors() {
        let gaps = Gaps(vec![(12, 14)]);
        let request =
            Request { begin: 10, end: 20, sector: Some(100), size: 1024, done: 1024, ..Request::default() };
        let last = |sector, bytes| Part { sector: Some(sector), ..part(20, What::Complete, bytes, 0) };
        assert!(is_whole(&request, &last(101, 512), &Gaps(vec![(30, 40)])));
        assert!(is_whole(&request, &last(101, 512), &gaps), "the second of two pieces");
        assert!(!is_whole(&request, &last(300, 1024), &gaps));
    }
}
