//! Requests to block devices, joined from their parts.
//!
//! The parts of a request have its address, which is used again once it is complete; they run on any processor
//! and lie in different frames, so they are joined in the order of time ([`super::order`]). The first part that is
//! seen is the begin: it runs in the task that asked, so it says who that was, and conditions, groups and
//! intervals are about it. A request may be issued several times (the driver gave it back) and complete in
//! pieces: the last issue and the last piece count, and all bytes.
//!
//! What began before the recording, had not ended at its end, or became part of another request is no
//! request of the result. Each is counted, none is guessed.

use super::group::{Group, Grouping, Merge};
use super::hash::FastMap;
use super::load::{Chunk, Scan};
use super::order::{Gaps, Numbers, SHARES, before, columns, gaps, waves};
use super::report::Context;
use super::rows::Value;
use super::trace::Trace;
use super::window::Window;
use crate::schema::reader::Frame;
use anyhow::Result;
use rayon::prelude::*;

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

/// What is no request of the result, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Not complete when the recording ended.
    open: u64,
    /// Completed, but begun before the recording, or without a part that this kernel tells of (flushes without data
    /// before Linux 6.5).
    headless: u64,
    /// Events were lost between begin and end.
    lost: u64,
    /// Became part of another request.
    merged: u64,
}

impl Left {
    fn add(&mut self, other: Self) {
        self.open += other.open;
        self.headless += other.headless;
        self.lost += other.lost;
        self.merged += other.merged;
    }

    /// What to know of them.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let say = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        [
            say(self.open, "requests were not complete at the end, and are not counted"),
            say(self.headless, "completions have no begin in the recording, and are not counted"),
            say(self.lost, "requests are left out, since events were lost between their begin and their end"),
            say(
                self.merged,
                "requests became part of another before the driver got them: they are counted with that",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start,
    Insert,
    Issue,
    Requeue,
    Complete,
    Merge,
}

/// A row of `block_rq`.
#[derive(Clone, Copy, Debug)]
struct Part {
    ts: u64,
    rq: u64,
    what: What,
    sector: Option<u64>,
    bytes: u64,
    left: u64,
    error: i32,
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
enum Step {
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
struct Flights(FastMap<u64, Flight>);

impl Flights {
    /// Takes the next part. `key` is the group of the request, should this part be its first. Also returns the
    /// group of a request that had this address and whose end was not seen.
    fn take(&mut self, part: &Part, key: Option<u32>) -> (Step, Option<u32>) {
        let begins = matches!(part.what, What::Start | What::Insert | What::Issue);
        let goes_on = |flight: &Flight| match part.what {
            What::Start => false,
            What::Insert => flight.requeued || flight.request.issued.is_none(),
            _ => true,
        };
        let known = self.0.get(&part.rq).is_some_and(goes_on);
        if !known && !begins {
            return (Step::Headless, None);
        }
        let mut broken = None;
        if !known {
            let request = Request { begin: part.ts, ..Request::default() };
            let before = self.0.insert(part.rq, Flight { key, requeued: false, request });
            broken = before.and_then(|flight| flight.key);
        }
        let Some(flight) = self.0.get_mut(&part.rq) else { return (Step::Headless, broken) };
        let step = flight.advance(part);
        if step != Step::On {
            self.0.remove(&part.rq);
        }
        (step, broken)
    }
}

impl Flight {
    fn advance(&mut self, part: &Part) -> Step {
        let request = &mut self.request;
        match part.what {
            What::Start | What::Insert | What::Issue => {
                (request.sector, request.size) = (part.sector, part.bytes);
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
                request.done = request.done.saturating_add(part.bytes);
                request.end = part.ts;
                if request.error == 0 {
                    request.error = part.error;
                }
                if part.left == 0 {
                    return Step::Done(self.key, *request);
                }
            }
        }
        Step::On
    }
}

/// Adds up the requests that began in the span and that `--where` left, by their groups.
pub(crate) fn fold<A: Merge + Send>(
    context: &Context,
    grouping: &Grouping,
    each: impl Fn(&mut A, &Request) + Sync,
) -> Result<(Vec<Group<A>>, Left)> {
    let (begins, parts) = (Begins::new(context, grouping)?, Parts::new(context)?);
    let gaps = gaps(context);
    let mut numbers = Numbers::default();
    let mut shares: Vec<Share<A>> = (0..SHARES).map(|_| Share::default()).collect();
    let frames = parts.scan.frames().into_iter().map(|frame| (frame.header.min_time, (), frame));
    waves(frames.collect(), |wave, until| {
        let frames: Vec<&Frame> = wave.iter().map(|frame| frame.2).collect();
        let asked = begins.scan.map(&frames, |chunk| begins.read(chunk));
        let asked: Vec<(Vec<u32>, [Vec<Begin>; SHARES])> =
            asked.into_iter().flatten().map(|(keys, shares)| (numbers.adopt(&keys), shares)).collect();
        let read = parts.scan.map(&frames, |chunk| parts.read(chunk));
        let run = |(at, share): (usize, &mut Share<A>)| {
            for (numbers, shares) in &asked {
                share.begins.extend(shares[at].iter().map(|&(ts, rq, key)| (ts, rq, numbers[key as usize])));
            }
            read.iter().flatten().for_each(|shares| share.parts.extend_from_slice(&shares[at]));
            share.run(until, &gaps, &each);
        };
        context.trace.install(|| shares.par_iter_mut().enumerate().for_each(run));
    });
    let mut left = Left::default();
    let mut sums = Vec::new();
    for share in shares {
        left.add(share.left);
        left.open += share.flights.0.values().filter(|flight| flight.key.is_some()).count() as u64;
        sums.extend(share.sums.into_iter().map(|(key, sum)| (numbers.keys[key as usize], sum)));
    }
    if context.window.from > context.trace.span.from || context.options.condition.is_some() {
        left.headless = 0; // nobody knows whether they were asked for
    }
    Ok((grouping.collect(sums), left))
}

fn share_of(rq: u64) -> usize {
    (rq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SHARES
}

/// When a request began, its address, and the number of its group.
type Begin = (u64, u64, u32);

/// What requests can begin with, as far as it is asked for.
struct Begins<'s, 'g> {
    scan: Scan<'s>,
    grouping: &'g Grouping<'s>,
    columns: [usize; 2],
}

impl<'s, 'g> Begins<'s, 'g> {
    fn new(context: &Context<'s>, grouping: &'g Grouping<'s>) -> Result<Self> {
        let mut scan = grouping.with_keys(&context.scan("block_rq")?);
        let columns = columns(&mut scan, ["ts", "rq"])?;
        let part = scan.column("part")?;
        let begins = ["start", "insert", "issue"].map(|name| context.trace.number("block_part", name));
        let scan = scan.keeping(move |rows, row| begins.contains(&rows.get(part, row)));
        Ok(Self { scan, grouping, columns })
    }

    fn read(&self, chunk: &Chunk) -> (Numbers, [Vec<Begin>; SHARES]) {
        let (mut numbers, mut shares): (Numbers, [Vec<Begin>; SHARES]) = Default::default();
        let rows = chunk.rows();
        let [ts, rq] = self.columns;
        for row in chunk.each() {
            let key = numbers.of(self.grouping.key(rows, row));
            let rq = rows.raw(rq, row);
            shares[share_of(rq)].push((rows.raw(ts, row), rq, key));
        }
        (numbers, shares)
    }
}

/// All parts from the begin of the span on: a request may end after the span.
struct Parts<'s> {
    scan: Scan<'s>,
    columns: [usize; 7],
    whats: Vec<(Option<i64>, What)>,
}

impl<'s> Parts<'s> {
    fn new(context: &Context<'s>) -> Result<Self> {
        let window = Window { from: context.window.from, to: context.trace.span.to };
        let mut scan = Scan::new(context.trace, context.table("block_rq")?, window);
        let columns = columns(&mut scan, ["ts", "rq", "part", "sector", "bytes", "left", "error"])?;
        let whats = [
            ("start", What::Start),
            ("insert", What::Insert),
            ("issue", What::Issue),
            ("requeue", What::Requeue),
            ("complete", What::Complete),
            ("merge", What::Merge),
        ];
        let number = |(name, what)| (context.trace.number("block_part", name), what);
        Ok(Self { scan, columns, whats: whats.into_iter().map(number).collect() })
    }

    fn read(&self, chunk: &Chunk) -> [Vec<Part>; SHARES] {
        let mut shares: [Vec<Part>; SHARES] = Default::default();
        let rows = chunk.rows();
        let [ts, rq, part, sector, bytes, left, error] = self.columns;
        for row in chunk.each() {
            let number = rows.get(part, row);
            let Some(&(_, what)) = self.whats.iter().find(|known| known.0 == number) else { continue };
            let rq = rows.raw(rq, row);
            shares[share_of(rq)].push(Part {
                ts: rows.raw(ts, row),
                rq,
                what,
                sector: rows.get(sector, row).map(i64::cast_unsigned),
                bytes: rows.raw(bytes, row),
                left: rows.raw(left, row),
                error: rows.get(error, row).unwrap_or(0) as i32,
            });
        }
        shares
    }
}

/// Some of the requests: what has been read and lies ahead, what is on its way, what was added up.
#[derive(Default)]
struct Share<A> {
    begins: Vec<Begin>,
    parts: Vec<Part>,
    flights: Flights,
    sums: FastMap<u32, A>,
    left: Left,
}

impl<A: Merge> Share<A> {
    /// Goes through everything before a moment.
    fn run(&mut self, until: u64, gaps: &Gaps, each: &impl Fn(&mut A, &Request)) {
        let begins: FastMap<(u64, u64), u32> = before(&mut self.begins, until, |begin| begin.0)
            .into_iter()
            .map(|(ts, rq, key)| ((ts, rq), key))
            .collect();
        for part in before(&mut self.parts, until, |part| part.ts) {
            let (step, broken) = self.flights.take(&part, begins.get(&(part.ts, part.rq)).copied());
            self.left.lost += u64::from(broken.is_some());
            match step {
                Step::Done(Some(key), request) if is_whole(&request, &part, gaps) => {
                    each(self.sums.entry(key).or_default(), &request);
                }
                Step::Done(Some(_), _) => self.left.lost += 1,
                Step::Merged(Some(_)) => self.left.merged += 1,
                // Each piece would count: only the last one does.
                Step::Headless if part.what == What::Complete && part.left == 0 => self.left.headless += 1,
                _ => {}
            }
        }
    }
}

/// Whether begin and end are surely of one request: where events were lost between them, they must be of the
/// same sectors, since the end of one and the begin of the next may be what is missing.
fn is_whole(request: &Request, last: &Part, gaps: &Gaps) -> bool {
    let end = |sector: Option<u64>, bytes: u64| sector.map(|sector| sector.saturating_add(bytes / 512));
    let same =
        request.done == request.size && end(request.sector, request.done) == end(last.sector, last.bytes);
    same || !gaps.touch(request.begin, request.end)
}

/// The words for the flags of requests, as bcc's biolatency has them.
const FLAGS: [(u64, &str); 8] = [
    (1 << 20, "Background"),
    (1 << 19, "ReadAhead"),
    (1 << 18, "Preflush"),
    (1 << 16, "Integrity"),
    (1 << 17, "ForcedUnitAccess"),
    (1 << 13, "Priority"),
    (1 << 12, "Metadata"),
    (1 << 11, "Sync"),
];

/// Puts words for the numbers in column `flags`, if groups have that.
pub(crate) fn name_flags<A>(grouping: &mut Grouping, groups: &mut [Group<A>]) {
    let Some(at) = grouping.by.iter().position(|input| input.name == "flags") else { return };
    grouping.by[at].text = true;
    for group in groups {
        if let Value::Int(flags) = group.keys[at] {
            let set = FLAGS.iter().filter(|(bit, _)| flags.cast_unsigned() & bit != 0);
            let words: Vec<&str> = set.map(|flag| flag.1).collect();
            let text = if words.is_empty() { "none".to_owned() } else { words.join("-") };
            group.keys[at] = Value::Text(text.into());
        }
    }
}

/// Major and minor number of a disk by its name; zeros where it is not known.
pub(crate) fn numbers_of(trace: &Trace, disk: &str) -> (u64, u64) {
    let Some(disks) = trace.identity("disk") else { return (0, 0) };
    let Some(name) = disks.column("disk") else { return (0, 0) };
    let named = |&&row: &&u32| disks.bytes(name, row) == disk.as_bytes();
    let dev = disks.all().iter().find(named).map_or(0, |&row| disks.key(row));
    (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & !0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ts: u64, what: What, bytes: u64, left: u64) -> Part {
        Part { ts, rq: 7, what, sector: Some(100), bytes, left, error: 0 }
    }

    /// What each part did, and how many requests of the same address had no end.
    fn steps(parts: &[Part]) -> (Vec<Step>, usize) {
        let mut flights = Flights::default();
        let taken: Vec<_> = parts.iter().map(|part| flights.take(part, Some(0))).collect();
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
