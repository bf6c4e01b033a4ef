//! Sends and the segments that answer them: the four latencies of one TCP socket.
//!
//! Pairing is by socket and sequence number, never by thread: receives run in interrupt context,
//! under whatever task happens to be current. All times are those of the event itself; a send counts
//! from the entry of the call, since its ACK may well arrive before the call returns.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    /// Entry of the call, ns.
    pub entry: u64,
    /// Sequence number after its last byte.
    pub end: u32,
    /// Bytes accepted.
    pub sent: u32,
    /// Row that it came from, for the caller.
    pub row: u32,
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
    /// Position of the send among those of its socket; of a turn, its first.
    pub send: usize,
    /// Begin, ns.
    pub start: u64,
    /// End, ns.
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

/// Spans in which events were lost, sorted and disjoint.
pub(crate) struct Gaps(pub Vec<(u64, u64)>);

impl Gaps {
    fn touch(&self, start: u64, end: u64) -> bool {
        let next = self.0.partition_point(|gap| gap.1 < start);
        self.0.get(next).is_some_and(|gap| gap.0 <= end)
    }
}

/// a ≥ b for sequence numbers: modulo 2³², half the circle is "after".
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() >= 0
}

/// One socket's events, each list in order of time.
pub(crate) struct Socket<'a> {
    /// Its sends, by entry.
    pub sends: &'a [Send],
    /// Its segments.
    pub receives: &'a [Receive],
    /// The segments of the socket at the other end, where the recording has it.
    pub peer: Option<&'a [Receive]>,
}

impl Socket<'_> {
    /// Pairs by one metric. Pairs that cross a gap are dropped and counted.
    pub fn pair(&self, metric: Metric, gaps: &Gaps, to: &mut Vec<Pair>) -> Unpaired {
        let first = to.len();
        let mut unpaired = match metric {
            Metric::Ack => self.covered(metric, self.receives, |receive| receive.ack, to),
            Metric::Delivery => self
                .peer
                .map_or_else(Unpaired::default, |peer| self.covered(metric, peer, |receive| receive.end, to)),
            Metric::Response => self.turns(to),
            Metric::FirstSegment => self.first_segments(to),
        };
        let all = to.len();
        let mut kept = first;
        for at in first..all {
            if !gaps.touch(to[at].start, to[at].end) {
                to[kept] = to[at];
                kept += 1;
            }
        }
        to.truncate(kept);
        unpaired.lost += (all - kept) as u64;
        unpaired
    }

    /// For each send the first segment at or after its entry whose `position` has reached its end.
    fn covered(
        &self,
        metric: Metric,
        receives: &[Receive],
        position: impl Fn(&Receive) -> u32,
        to: &mut Vec<Pair>,
    ) -> Unpaired {
        let (mut unpaired, mut at, mut from, mut before) = (Unpaired::default(), 0, 0, None);
        for (index, send) in self.sends.iter().enumerate() {
            while receives.get(from).is_some_and(|receive| receive.ts < send.entry) {
                from += 1;
            }
            // Ends mostly grow, and then the search goes on where it stood; two writers may swap.
            let grown = before.is_none_or(|before| at_or_after(send.end, before));
            at = if grown { at.max(from) } else { from };
            before = Some(send.end);
            while receives.get(at).is_some_and(|receive| !at_or_after(position(receive), send.end)) {
                at += 1;
            }
            match receives.get(at) {
                Some(receive) => to.push(pair(metric, index, send, receive, send.sent.into())),
                None => unpaired.open += 1,
            }
        }
        unpaired
    }

    /// A turn is all sends up to the next segment that brings new data.
    fn turns(&self, to: &mut Vec<Pair>) -> Unpaired {
        let mut sends = self.sends.iter().enumerate().peekable();
        let mut turn: Option<(usize, u64)> = None;
        let mut newest = None;
        for receive in self.receives {
            while let Some((index, send)) = sends.next_if(|(_, send)| send.entry <= receive.ts) {
                let turn = turn.get_or_insert((index, 0));
                turn.1 += u64::from(send.sent);
            }
            let news = receive.len > 0 && newest.is_none_or(|newest| !at_or_after(newest, receive.end));
            if news {
                newest = Some(receive.end);
                if let Some((index, bytes)) = turn.take() {
                    to.push(pair(Metric::Response, index, &self.sends[index], receive, bytes));
                }
            }
        }
        Unpaired { open: u64::from(turn.is_some() || sends.next().is_some()), lost: 0 }
    }

    fn first_segments(&self, to: &mut Vec<Pair>) -> Unpaired {
        let mut sends = self.sends.iter().enumerate().peekable();
        let mut last = None;
        for receive in self.receives {
            while let Some(send) = sends.next_if(|(_, send)| send.entry <= receive.ts) {
                last = Some(send);
            }
            if let Some((index, send)) = last.take() {
                to.push(pair(Metric::FirstSegment, index, send, receive, send.sent.into()));
            }
        }
        Unpaired { open: u64::from(last.is_some() || sends.next().is_some()), lost: 0 }
    }
}

fn pair(metric: Metric, index: usize, send: &Send, receive: &Receive, bytes: u64) -> Pair {
    Pair { metric, send: index, start: send.entry, end: receive.ts, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(entry: u64, end: u32) -> Send {
        Send { entry, end, sent: 100, row: 0 }
    }

    fn segment(ts: u64, ack: u32, end: u32, len: u32) -> Receive {
        Receive { ts, ack, end, len }
    }

    fn times(socket: &Socket, metric: Metric, gaps: &Gaps) -> (Vec<(u64, u64)>, Unpaired) {
        let mut pairs = Vec::new();
        let unpaired = socket.pair(metric, gaps, &mut pairs);
        (pairs.iter().map(|pair| (pair.start, pair.end - pair.start)).collect(), unpaired)
    }

    const NO_GAPS: Gaps = Gaps(Vec::new());

    #[test]
    fn each_send_waits_for_the_ack_of_its_own_end() {
        // Two sends, one ACK for both, across the wrap of the sequence space.
        let sends = [send(10, u32::MAX - 50), send(20, 49), send(400, 149)];
        let receives = [segment(15, u32::MAX - 150, 0, 0), segment(100, 49, 0, 0)];
        let socket = Socket { sends: &sends, receives: &receives, peer: None };
        let (ack, unpaired) = times(&socket, Metric::Ack, &NO_GAPS);
        assert_eq!(ack, [(10, 90), (20, 80)]);
        assert_eq!(unpaired, Unpaired { open: 1, lost: 0 });
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
        let socket = Socket { sends: &sends, receives: &receives, peer: None };
        assert_eq!(times(&socket, Metric::Response, &NO_GAPS).0, [(10, 20), (50, 40)]);
        assert_eq!(times(&socket, Metric::FirstSegment, &NO_GAPS).0, [(12, 8), (50, 5)]);
    }

    #[test]
    fn the_peer_tells_when_data_was_delivered() {
        let sends = [send(10, 100), send(11, 200)];
        let peer = [segment(13, 0, 150, 150), segment(14, 0, 200, 50)];
        let socket = Socket { sends: &sends, receives: &[], peer: Some(&peer) };
        assert_eq!(times(&socket, Metric::Delivery, &NO_GAPS).0, [(10, 3), (11, 3)]);
        let alone = Socket { peer: None, ..socket };
        assert_eq!(times(&alone, Metric::Delivery, &NO_GAPS), (vec![], Unpaired::default()));
    }

    #[test]
    fn pairs_across_a_gap_are_dropped_and_counted() {
        let sends = [send(10, 100), send(30, 200), send(60, 300)];
        let receives = [segment(20, 100, 0, 0), segment(50, 200, 0, 0), segment(61, 300, 0, 0)];
        let socket = Socket { sends: &sends, receives: &receives, peer: None };
        let (ack, unpaired) = times(&socket, Metric::Ack, &Gaps(vec![(40, 45)]));
        assert_eq!(ack, [(10, 10), (60, 1)]);
        assert_eq!(unpaired, Unpaired { open: 0, lost: 1 });
    }

    #[test]
    fn two_writers_whose_entries_swapped_keep_their_own_acks() {
        let sends = [send(10, 200), send(11, 100)];
        let receives = [segment(20, 100, 0, 0), segment(30, 200, 0, 0)];
        let socket = Socket { sends: &sends, receives: &receives, peer: None };
        assert_eq!(times(&socket, Metric::Ack, &NO_GAPS).0, [(10, 20), (11, 9)]);
    }
}
