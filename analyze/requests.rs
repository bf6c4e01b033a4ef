//! Requests to block devices, joined from their parts.
//!
//! The parts of a request have its address, which is used again once it is complete; they run on any processor
//! and lie in different frames, so they are joined in the order of time ([`super::order`]). The first part that is
//! seen is the begin: it runs in the task that asked, so it says who that was, and conditions, groups and
//! intervals are about it. What the parts of one address come to is in [`super::flights`].
//!
//! What began before the recording, had not ended at its end, or became part of another request is no
//! request of the result. Each is counted, none is guessed.

pub(crate) use super::flights::Request;
use super::flights::{Flights, Part, Step, What, is_whole};
use super::group::{Group, Grouping, Merge, NONE};
use super::ids::Key;
use super::load::{Chunk, Scan};
use super::order::{Gaps, Numbers, SHARES, before, columns, gaps, waves};
use super::report::Context;
use super::rows::Value;
use super::strip;
use super::trace::Trace;
use super::window::Window;
use crate::schema::hash::FastMap;
use crate::schema::reader::Frame;
use anyhow::Result;
use rayon::prelude::*;

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

/// Adds up the requests that began in the span and that `--where` left, by their groups.
pub(crate) fn fold<A: Merge + Send>(
    context: &Context,
    grouping: &Grouping,
    each: impl Fn(&mut A, &Request) + Sync,
) -> Result<(Vec<Group<A>>, Left)> {
    let parts = Parts::new(context, grouping)?;
    let gaps = gaps(context);
    let mut numbers = Numbers::default();
    let mut shares: Vec<Share<A>> = (0..SHARES).map(|_| Share::default()).collect();
    let frames = parts.scan.frames().into_iter().map(|frame| (frame.header.min_time, (), frame));
    waves(frames.collect(), |wave, until| {
        let frames: Vec<&Frame> = wave.iter().map(|frame| frame.2).collect();
        let read = parts.scan.map(&frames, |chunk| parts.read(chunk));
        let read: Vec<(Vec<u32>, [Vec<Part>; SHARES])> =
            read.into_iter().flatten().map(|(keys, shares)| (numbers.adopt(&keys), shares)).collect();
        let run = |(at, share): (usize, &mut Share<A>)| {
            for (numbers, shares) in &read {
                let number = |key: u32| numbers.get(key as usize).copied().unwrap_or(NONE);
                share.parts.extend(shares[at].iter().map(|part| Part { key: number(part.key), ..*part }));
            }
            share.run(until, &gaps, &each);
        };
        context.trace.install(|| shares.par_iter_mut().enumerate().for_each(run));
    });
    let mut left = Left::default();
    let mut sums = Vec::new();
    for share in shares {
        left.add(share.left);
        left.open += share.flights.open();
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

/// All parts from the begin of the span on: a request may end after the span.
struct Parts<'s, 'g> {
    scan: Scan<'s>,
    columns: [usize; 7],
    whats: Vec<(Option<i64>, What)>,
    /// What requests can begin with, as far as it is asked for.
    begins: Scan<'s>,
    grouping: &'g Grouping<'s>,
}

impl<'s, 'g> Parts<'s, 'g> {
    fn new(context: &Context<'s>, grouping: &'g Grouping<'s>) -> Result<Self> {
        let mut begins = grouping.with_keys(&context.scan("block_rq")?);
        let part = begins.column("part")?;
        let first = ["start", "insert", "issue"].map(|name| context.trace.number("block_part", name));
        let begins = begins.only([part], move |[part]| first.contains(&part));
        let window = Window { from: context.window.from, to: context.trace.span.to };
        let mut scan = Scan::new(context.trace, context.table("block_rq")?, window).beside(&begins);
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
        let whats = whats.into_iter().map(number).collect();
        Ok(Self { scan, columns, whats, begins, grouping })
    }

    fn read(&self, chunk: &Chunk) -> (Vec<Key>, [Vec<Part>; SHARES]) {
        let (groups, keys) = self.grouping.numbered(&chunk.asked_by(&self.begins));
        // With some room: to grow is to move all of them.
        let room = chunk.rows().len() / SHARES * 5 / 4;
        let mut shares: [Vec<Part>; SHARES] = std::array::from_fn(|_| Vec::with_capacity(room));
        let mut numbers = strip::Numbers::new();
        for strip in chunk.strips() {
            for (at, values) in numbers.read(chunk.rows(), self.columns, &strip).enumerate() {
                let part = self.part(values, keys[strip.row(at)]);
                if let Some(part) = part {
                    shares[share_of(part.rq)].push(part);
                }
            }
        }
        (groups, shares)
    }

    fn part(&self, values: [Option<i64>; 7], key: u32) -> Option<Part> {
        let &(_, what) = self.whats.iter().find(|known| known.0 == values[2])?;
        let [ts, rq, _, sector, bytes, left, error] = values;
        let [ts, rq] = [ts, rq].map(|number| number.unwrap_or(0).cast_unsigned());
        let (bytes, last) = (bytes.unwrap_or(0) as u32, left.unwrap_or(0) as u32 == 0);
        let (sector, error) = (sector.map(i64::cast_unsigned), error.unwrap_or(0) as i32);
        Some(Part { ts, rq, sector, bytes, error, key, what, last })
    }
}

/// Some of the requests: what has been read and lies ahead, what is on its way, what was added up.
#[derive(Default)]
struct Share<A> {
    parts: Vec<Part>,
    flights: Flights,
    sums: FastMap<u32, A>,
    left: Left,
}

impl<A: Merge> Share<A> {
    /// Goes through everything before a moment.
    fn run(&mut self, until: u64, gaps: &Gaps, each: &impl Fn(&mut A, &Request)) {
        for part in before(&mut self.parts, until, |part| part.ts) {
            let (step, broken) = self.flights.take(&part);
            self.left.lost += u64::from(broken.is_some());
            match step {
                Step::Done(Some(key), request) if is_whole(&request, &part, gaps) => {
                    each(self.sums.entry(key).or_default(), &request);
                }
                Step::Done(Some(_), _) => self.left.lost += 1,
                Step::Merged(Some(_)) => self.left.merged += 1,
                // Each piece would count: only the last one does.
                Step::Headless if part.what == What::Complete && part.last => self.left.headless += 1,
                _ => {}
            }
        }
    }
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
