//! Pairs sends with segments ([`super::pairs`]) in the order of time, some frames at a time.
//!
//! A send is recorded when its call returns and counts from its entry, so a frame may reach back as far
//! as its longest call. A first pass over two columns finds where each frame begins; frames are then
//! read in that order, and what lies before the begin of every frame that is still to come is paired.
//! Sockets fall into fixed shares that go through a wave side by side. What is held is a wave, what
//! overlaps the next one, and what still waits on each socket.

use super::group::Grouping;
use super::ids::Key;
use super::load::{Chunk, Scan};
use super::order::{Gaps, Numbers, SHARES, before, columns, gaps, waves};
use super::pairs::{Metric, Pair, Receive, Send, Socket, Unpaired, Waiting};
use super::report::Context;
use super::window::Window;
use super::{peers, strip};
use crate::schema::hash::FastMap;
use crate::schema::reader::Frame;
use anyhow::Result;
use rayon::prelude::*;

/// What becomes of latencies. Sockets come in any order, the latencies of one in the order of time.
pub(crate) trait Sink: std::marker::Send {
    /// One latency of a socket.
    fn pair(&mut self, sock: u32, pair: &Pair);
    /// What was not paired; `key` is the group of the socket's first send.
    fn unpaired(&mut self, sock: u32, metric: Metric, key: u32, unpaired: Unpaired);
}

/// Pairs what is asked for: sends of the span that `--where` left, and every segment from its begin on.
/// Returns what the shares found, and the groups by [`Send::key`].
pub(crate) fn fold<S: Sink>(
    context: &Context,
    grouping: &Grouping,
    metrics: &[Metric],
    sink: impl Fn() -> S,
) -> Result<(Vec<S>, Vec<Key>)> {
    let (sends, receives) = (Sends::new(context, grouping)?, Receives::new(context)?);
    let peers = context.trace.identity("sock").filter(|_| metrics.contains(&Metric::Delivery));
    let peers = peers.map(|socks| peers::of(&socks)).unwrap_or_default();
    let rules = Rules { metrics, gaps: gaps(context) };
    let mut frames = sends.begins();
    frames.extend(receives.0.frames().into_iter().map(|frame| (frame.header.min_time, false, frame)));
    let mut numbers = Numbers::default();
    let mut shares: Vec<Share<S>> = (0..SHARES).map(|_| Share::new(sink())).collect();
    waves(frames, |wave, until| {
        let of = |sent: bool| wave.iter().filter(|frame| frame.1 == sent).map(|frame| frame.2).collect();
        let (sent, received): (Vec<&Frame>, Vec<&Frame>) = (of(true), of(false));
        let mut sent = sends.scan.map(&sent, |chunk| sends.read(chunk, &peers));
        sent.iter_mut().flatten().for_each(|part| part.numbers = numbers.adopt(&part.keys));
        let received = receives.0.map(&received, |chunk| receives.read(chunk));
        let run = |(at, share): (usize, &mut Share<S>)| {
            sent.iter().flatten().for_each(|part| share.take_sends(&part.shares[at], &part.numbers));
            received.iter().flatten().for_each(|part| share.receives.extend_from_slice(&part[at]));
            share.run(until, &rules);
        };
        context.trace.install(|| shares.par_iter_mut().enumerate().for_each(run));
    });
    Ok((shares.into_iter().map(|share| share.finish(metrics)).collect(), numbers.keys))
}

fn share_of(sock: u32) -> usize {
    sock as usize / 2 % SHARES
}

/// The sends of one frame, by share; their groups are numbered within it.
#[derive(Default)]
struct Part {
    shares: [ShareOfSends; SHARES],
    keys: Vec<Key>,
    /// Per group of this part, its number.
    numbers: Vec<u32>,
}

#[derive(Default)]
struct ShareOfSends {
    /// By the sockets that sent.
    sends: Vec<(u32, Send)>,
    /// By the sockets at the other end, where that is known: peer, sender, send.
    arrivals: Vec<(u32, u32, Send)>,
}

struct Sends<'s, 'g> {
    scan: Scan<'s>,
    grouping: &'g Grouping<'s>,
    columns: [usize; 7],
}

impl<'s, 'g> Sends<'s, 'g> {
    fn new(context: &Context<'s>, grouping: &'g Grouping<'s>) -> Result<Self> {
        let mut scan = grouping.with_keys(&context.scan("sock_send")?);
        let [sock, ret, seq, tid, ts] = columns(&mut scan, ["sock", "ret", "seq", "tid", "ts"])?;
        let (requested, latency) = (scan.column_or_null("requested")?, scan.column_or_null("latency")?);
        Ok(Self { scan, grouping, columns: [sock, ret, seq, tid, ts, requested, latency] })
    }

    /// The frames by the earliest entry in each.
    fn begins(&self) -> Vec<(u64, bool, &'s Frame)> {
        let [.., ts, _, latency] = self.columns;
        let times = self.scan.bare().with([ts, latency]);
        let frames = self.scan.frames();
        let begin = |chunk: &Chunk| {
            let rows = chunk.rows();
            (0..rows.len()).map(|row| rows.raw(ts, row).saturating_sub(rows.raw(latency, row))).min()
        };
        let begins = times.map(&frames, begin);
        let read = frames.into_iter().zip(begins);
        read.filter_map(|(frame, begin)| Some((begin??, true, frame))).collect()
    }

    fn read(&self, chunk: &Chunk, peers: &FastMap<u32, u32>) -> Part {
        let (keys, groups) = self.grouping.numbered(chunk);
        let mut part = Part { keys, ..Part::default() };
        let mut numbers = strip::Numbers::new();
        for strip in chunk.strips() {
            for (at, values) in numbers.read(chunk.rows(), self.columns, &strip).enumerate() {
                part.take(values, groups[strip.row(at)], peers);
            }
        }
        part
    }
}

impl Part {
    fn take(&mut self, values: [Option<i64>; 7], key: u32, peers: &FastMap<u32, u32>) {
        let [sock, ret, seq, tid, ts, requested, latency] = values;
        let sent = ret.and_then(|ret| u32::try_from(ret).ok()).filter(|&sent| sent > 0);
        let Some(sent) = sent else { return }; // refused, or empty: nothing that could be acknowledged
        let [sock, seq, tid] = [sock, seq, tid].map(|number| number.unwrap_or(0) as u32);
        let returned = ts.unwrap_or(0).cast_unsigned();
        let send = Send {
            entry: returned - latency.map_or(0, i64::cast_unsigned).min(returned),
            returned,
            end: seq.wrapping_add(sent),
            sent,
            requested: requested.map(|size| size as u32),
            tid,
            key,
        };
        self.shares[share_of(sock)].sends.push((sock, send));
        if let Some(&peer) = peers.get(&sock) {
            self.shares[share_of(peer)].arrivals.push((peer, sock, send));
        }
    }
}

struct Receives<'s>(Scan<'s>, [usize; 5]);

impl<'s> Receives<'s> {
    /// An answer may come after the span of its send.
    fn new(context: &Context<'s>) -> Result<Self> {
        let window = Window { from: context.window.from, to: context.trace.span.to };
        let mut scan = Scan::new(context.trace, context.table("tcp_rx")?, window);
        let columns = columns(&mut scan, ["sock", "ts", "seq", "ack", "len"])?;
        Ok(Self(scan, columns))
    }

    fn read(&self, chunk: &Chunk) -> [Vec<(u32, Receive)>; SHARES] {
        let mut shares: [Vec<(u32, Receive)>; SHARES] = Default::default();
        let mut numbers = strip::Numbers::new();
        for strip in chunk.strips() {
            for values in numbers.read(chunk.rows(), self.1, &strip) {
                let [sock, ts, seq, ack, len] = values.map(|number| number.unwrap_or(0).cast_unsigned());
                let [sock, seq, ack, len] = [sock, seq, ack, len].map(|number| number as u32);
                shares[share_of(sock)].push((sock, Receive { ts, ack, end: seq.wrapping_add(len), len }));
            }
        }
        shares
    }
}

/// What holds for every socket.
struct Rules<'a> {
    metrics: &'a [Metric],
    gaps: Gaps,
}

/// Some of the sockets: what has been read and lies ahead, what they wait for, what was found.
struct Share<S> {
    sends: Vec<(u32, Send)>,
    arrivals: Vec<(u32, u32, Send)>,
    receives: Vec<(u32, Receive)>,
    sockets: FastMap<u32, State>,
    /// By the socket where sends arrive: from which socket, and which are on their way.
    incoming: FastMap<u32, Vec<(u32, Incoming)>>,
    sink: S,
}

/// A socket that sends.
#[derive(Default)]
struct State {
    socket: Socket,
    /// Group of its first send.
    first: Option<u32>,
    /// Per metric.
    lost: [u64; Metric::ALL.len()],
}

/// What is on the way from one socket to another.
#[derive(Default)]
struct Incoming {
    waiting: Waiting,
    first: u32,
    lost: u64,
}

impl<S: Sink> Share<S> {
    fn new(sink: S) -> Self {
        Self {
            sends: Vec::new(),
            arrivals: Vec::new(),
            receives: Vec::new(),
            sockets: FastMap::default(),
            incoming: FastMap::default(),
            sink,
        }
    }

    fn take_sends(&mut self, from: &ShareOfSends, numbers: &[u32]) {
        let numbered = |send: &Send| Send { key: numbers[send.key as usize], ..*send };
        self.sends.extend(from.sends.iter().map(|(sock, send)| (*sock, numbered(send))));
        let arrivals = from.arrivals.iter().map(|(peer, sock, send)| (*peer, *sock, numbered(send)));
        self.arrivals.extend(arrivals);
    }

    /// Goes through everything before a moment.
    fn run(&mut self, until: u64, rules: &Rules) {
        let sends = before(&mut self.sends, until, |send| send.1.entry);
        let arrivals = before(&mut self.arrivals, until, |send| send.2.entry);
        let receives = before(&mut self.receives, until, |receive| receive.1.ts);
        let (mut sends, mut arrivals) = (sends.into_iter().peekable(), arrivals.into_iter().peekable());
        for (sock, receive) in receives {
            while let Some((sock, send)) = sends.next_if(|send| send.1.entry <= receive.ts) {
                self.send(sock, send, rules);
            }
            while let Some(arrival) = arrivals.next_if(|send| send.2.entry <= receive.ts) {
                self.expect(arrival);
            }
            self.receive(sock, &receive, rules);
        }
        sends.for_each(|(sock, send)| self.send(sock, send, rules));
        arrivals.for_each(|arrival| self.expect(arrival));
    }

    fn send(&mut self, sock: u32, send: Send, rules: &Rules) {
        let state = self.sockets.entry(sock).or_default();
        state.first.get_or_insert(send.key);
        state.socket.send(send, rules.metrics);
    }

    fn expect(&mut self, (peer, sock, send): (u32, u32, Send)) {
        let from = self.incoming.entry(peer).or_default();
        let at = from.iter().position(|from| from.0 == sock).unwrap_or_else(|| {
            from.push((sock, Incoming { first: send.key, ..Incoming::default() }));
            from.len() - 1
        });
        from[at].1.waiting.push(send);
    }

    fn receive(&mut self, sock: u32, receive: &Receive, rules: &Rules) {
        let Self { sockets, incoming, sink, .. } = self;
        let State { socket, lost, .. } = sockets.entry(sock).or_default();
        socket.receive(receive, |pair| {
            if !rules.metrics.contains(&pair.metric) {
            } else if rules.gaps.touch(pair.send.entry, pair.end) {
                lost[pair.metric as usize] += 1;
            } else {
                sink.pair(sock, &pair);
            }
        });
        for (from, Incoming { waiting, lost, .. }) in incoming.get_mut(&sock).into_iter().flatten() {
            waiting.reach(receive.end, |send| {
                if rules.gaps.touch(send.entry, receive.ts) {
                    *lost += 1;
                } else {
                    let (metric, end, bytes) = (Metric::Delivery, receive.ts, send.sent.into());
                    sink.pair(*from, &Pair { metric, send, end, bytes });
                }
            });
        }
    }

    /// The recording is over: what waits now stays open.
    fn finish(mut self, metrics: &[Metric]) -> S {
        let mut say = |sock, metric, key, unpaired| {
            if unpaired != Unpaired::default() {
                self.sink.unpaired(sock, metric, key, unpaired);
            }
        };
        for (&sock, state) in &self.sockets {
            let Some(first) = state.first else { continue };
            for &metric in metrics {
                let (open, lost) = (state.socket.open(metric), state.lost[metric as usize]);
                say(sock, metric, first, Unpaired { open, lost });
            }
        }
        for (sock, from) in self.incoming.values().flatten() {
            let unpaired = Unpaired { open: from.waiting.len() as u64, lost: from.lost };
            say(*sock, Metric::Delivery, from.first, unpaired);
        }
        self.sink
    }
}
