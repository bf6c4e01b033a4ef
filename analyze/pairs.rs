//! Sends and the segments that answer them: the four latencies of one TCP socket.
//!
//! Pairing is by socket and sequence number, never by thread: receives run in interrupt context,
//! under whatever task happens to be current. All times are those of the event itself; a send counts
//! from the entry of the call, since its ACK may well arrive before the call returns. What is kept of a
//! socket is what still waits, so memory grows with sockets and open sends, not with events.

use std::collections::VecDeque;

/// What a latency is the time of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Metric {
    /// Entry of a send → first segment on the socket that acknowledges its last byte.
    Ack,
    /// Entry of the first send of a turn → first segment with new data on the socket.
    Response,
    /// Entry of a send → first segment on the peer's socket that covers its last byte (same host only).
    Delivery,
    /// Entry of the last send → next segment of any kind on the socket, as naive tools measure it.
    FirstSegment,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Ack, Self::Response, Self::Delivery, Self::FirstSegment];

    /// As reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Response => "response",
            Self::Delivery => "delivery",
            Self::FirstSegment => "first_segment",
        }
    }
}

/// A send that was accepted in whole or part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Send {
    /// Entry of the call, ns.
    pub entry: u64,
    /// When the call returned: the moment at which names are looked up.
    pub returned: u64,
    /// Sequence number after its last byte.
    pub end: u32,
    /// Bytes accepted.
    pub sent: u32,
    /// Size that was asked for, if the trace has it.
    pub requested: Option<u32>,
    /// Thread that sent.
    pub tid: u32,
    /// Number of the group that it belongs to.
    pub key: u32,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receive {
    /// When, ns.
    pub ts: u64,
    /// Acknowledges everything before this.
    pub ack: u32,
    /// Sequence number after its last byte.
    pub end: u32,
    /// Payload bytes.
    pub len: u32,
}

/// One latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Which.
    pub metric: Metric,
    /// The send; of a turn, its first.
    pub send: Send,
    /// End, ns; it begins with the entry of the send.
    pub end: u64,
    /// Bytes of the send, or of all sends of the turn.
    pub bytes: u64,
}

/// What could not be paired, and why: never guessed, always counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpaired {
    /// The answer had not come when the recording (or the connection) ended.
    pub open: u64,
    /// Events were lost between the two ends.
    pub lost: u64,
}

/// a ≥ b for sequence numbers: modulo 2³², half the circle is "after".
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() >= 0
}

/// Sends that wait until a position is reached, by entry.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    sends: VecDeque<Send>,
    /// Ends mostly grow, and then the first one that has to wait on tells for all; two writers may swap.
    swapped: bool,
}

impl Waiting {
    /// A send whose entry is not before those that wait already.
    pub fn push(&mut self, send: Send) {
        self.swapped |= self.sends.back().is_some_and(|last| !at_or_after(send.end, last.end));
        self.sends.push_back(send);
    }

    /// Hands out the sends that end at a position or before it.
    pub fn reach(&mut self, position: u32, mut take: impl FnMut(Send)) {
        if self.swapped {
            self.sends.retain(|&send| {
                let reached = at_or_after(position, send.end);
                if reached {
                    take(send);
                }
                !reached
            });
            self.swapped = self.sends.len() > 1;
            return;
        }
        while let Some(&send) = self.sends.front().filter(|send| at_or_after(position, send.end)) {
            take(send);
            self.sends.pop_front();
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.sends.len()
    }
}

/// What a socket's sends still wait for. Its events come in the order of time, sends by their entry and
/// before segments of the same moment.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    acks: Waiting,
    /// First send of the turn, and bytes of all of them.
    turn: Option<(Send, u64)>,
    last: Option<Send>,
    /// End of the newest data that came.
    newest: Option<u32>,
}

impl Socket {
    /// A send.
    pub fn send(&mut self, send: Send, metrics: &[Metric]) {
        if metrics.contains(&Metric::Ack) {
            self.acks.push(send);
        }
        self.turn.get_or_insert((send, 0)).1 += u64::from(send.sent);
        self.last = Some(send);
    }

    /// A segment, which may end some latencies. A turn is all sends up to the next segment with new data.
    pub fn receive(&mut self, receive: &Receive, mut take: impl FnMut(Pair)) {
        let mut pair = |metric, send: Send, bytes| take(Pair { metric, send, end: receive.ts, bytes });
        self.acks.reach(receive.ack, |send| pair(Metric::Ack, send, send.sent.into()));
        if receive.len > 0 && self.newest.is_none_or(|newest| !at_or_after(newest, receive.end)) {
            self.newest = Some(receive.end);
            if let Some((send, bytes)) = self.turn.take() {
                pair(Metric::Response, send, bytes);
            }
        }
        if let Some(send) = self.last.take() {
            pair(Metric::FirstSegment, send, send.sent.into());
        }
    }

    /// What nothing has answered; deliveries are the peer's.
    pub fn open(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Ack => self.acks.len() as u64,
            Metric::Response => self.turn.is_some().into(),
            Metric::FirstSegment => self.last.is_some().into(),
            Metric::Delivery => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(entry: u64, end: u32) -> Send {
        Send { entry, end, sent: 100, ..Send::default() }
    }

    fn segment(ts: u64, ack: u32, end: u32, len: u32) -> Receive {
        Receive { ts, ack, end, len }
    }

    /// Begin and length of each latency, and what stays open.
    fn times(sends: &[Send], receives: &[Receive], metric: Metric) -> (Vec<(u64, u64)>, u64) {
        let (mut socket, mut found) = (Socket::default(), Vec::new());
        let mut sends = sends.iter().peekable();
        for receive in receives {
            while let Some(&send) = sends.next_if(|send| send.entry <= receive.ts) {
                socket.send(send, &Metric::ALL);
            }
            socket.receive(receive, |pair| found.push(pair));
        }
        sends.for_each(|&send| socket.send(send, &Metric::ALL));
        let times = found.iter().filter(|pair| pair.metric == metric);
        (times.map(|pair| (pair.send.entry, pair.end - pair.send.entry)).collect(), socket.open(metric))
    }

    #[test]
    fn each_send_waits_for_the_ack_of_its_own_end() {
        // Two sends, one ACK for both, across the wrap of the sequence space.
        let sends = [send(10, u32::MAX - 50), send(20, 49), send(400, 149)];
        let receives = [segment(15, u32::MAX - 150, 0, 0), segment(100, 49, 0, 0)];
        assert_eq!(times(&sends, &receives, Metric::Ack), (vec![(10, 90), (20, 80)], 1));
    }

    #[test]
    fn a_turn_is_answered_once_and_not_by_a_retransmission() {
        let sends = [send(10, 100), send(12, 200), send(50, 300)];
        let receives = [
            segment(20, 200, 0, 0),
            segment(30, 200, 1010, 10),
            segment(55, 200, 1010, 10), // the same data again
            segment(90, 300, 1020, 10),
        ];
        assert_eq!(times(&sends, &receives, Metric::Response), (vec![(10, 20), (50, 40)], 0));
        assert_eq!(times(&sends, &receives, Metric::FirstSegment), (vec![(12, 8), (50, 5)], 0));
    }

    #[test]
    fn two_writers_whose_entries_swapped_keep_their_own_acks() {
        let sends = [send(10, 200), send(11, 100), send(12, 300)];
        let receives = [segment(20, 100, 0, 0), segment(30, 200, 0, 0), segment(40, 300, 0, 0)];
        assert_eq!(times(&sends, &receives, Metric::Ack).0, [(11, 9), (10, 20), (12, 28)]);
    }
}
