//! What is added up for a connection: bytes and calls each way, counters, latencies.

use super::group::Merge;
use super::quantile::{Samples, inverse_cdf};
use crate::schema::hash::FastMap;

/// What one direction moved.
#[derive(Default)]
pub(crate) struct Way {
    pub bytes: u64,
    pub calls: u64,
}

/// The latest that a socket's counters said.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    pub retrans: Option<i64>,
    /// Time and value.
    pub srtt: Option<(i64, i64)>,
}

/// What a connection did, or all connections of a group.
#[derive(Default)]
pub(crate) struct Flow {
    /// By `tcp_sendmsg`.
    pub sent: Way,
    /// By `tcp_recvmsg`.
    pub received: Way,
    /// First and last event.
    pub times: Option<(i64, i64)>,
    /// Inside `tcp_sendmsg`, ns.
    pub latencies: Samples,
    /// By socket.
    pub sockets: Sockets,
}

/// The counters of a group's sockets. Most groups are one socket, whose counters are met in every segment.
#[derive(Default)]
pub(crate) struct Sockets {
    first: Option<(i64, Counters)>,
    others: Option<Box<FastMap<i64, Counters>>>,
}

impl Sockets {
    /// Takes over what is larger or later.
    pub fn merge(&mut self, sock: i64, counters: &Counters) {
        match &mut self.first {
            Some((first, known)) if *first == sock => known.merge(counters),
            Some(_) => {
                self.others.get_or_insert_default().entry(sock).or_default().merge(counters);
            }
            None => self.first = Some((sock, *counters)),
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Counters)> {
        let first = self.first.iter().map(|(sock, counters)| (*sock, counters));
        first.chain(
            self.others.iter().flat_map(|others| others.iter()).map(|(&sock, counters)| (sock, counters)),
        )
    }
}

impl Way {
    /// A call and what it returned.
    pub fn add(&mut self, ret: Option<i64>) {
        self.calls += 1;
        self.bytes = self.bytes.saturating_add(moved(ret));
    }
}

impl Counters {
    /// Takes over what is larger or later.
    pub fn merge(&mut self, other: &Self) {
        self.retrans = self.retrans.max(other.retrans);
        self.srtt = self.srtt.max(other.srtt);
    }
}

impl Merge for Flow {
    fn merge(&mut self, later: Self) {
        for (way, more) in [(&mut self.sent, later.sent), (&mut self.received, later.received)] {
            way.bytes = way.bytes.saturating_add(more.bytes);
            way.calls = way.calls.saturating_add(more.calls);
        }
        if let Some((first, last)) = later.times {
            self.see(Some(first));
            self.see(Some(last));
        }
        self.latencies.merge(later.latencies);
        later.sockets.iter().for_each(|(sock, counters)| self.sockets.merge(sock, counters));
    }

    fn weight(&self) -> Option<u64> {
        Some(self.bytes())
    }
}

impl Flow {
    /// An event.
    pub fn see(&mut self, ts: Option<i64>) {
        let Some(ts) = ts else { return };
        let (first, last) = self.times.unwrap_or((ts, ts));
        self.times = Some((first.min(ts), last.max(ts)));
    }

    /// Both ways together.
    pub fn bytes(&self) -> u64 {
        self.sent.bytes + self.received.bytes
    }

    /// Segments that were sent again, where that is known.
    pub fn retrans(&self) -> Option<u64> {
        let known = self.sockets.iter().filter_map(|(_, counters)| counters.retrans);
        known.map(i64::cast_unsigned).reduce(|sum, more| sum + more)
    }

    /// The last round-trip time, of several sockets the median.
    pub fn srtt(&self) -> Option<u64> {
        let mut values: Vec<i64> =
            self.sockets.iter().filter_map(|(_, counters)| Some(counters.srtt?.1)).collect();
        values.sort_unstable();
        inverse_cdf(&values, 0.5).map(i64::cast_unsigned)
    }
}

/// The bytes that a call moved, by what it returned.
pub(crate) fn moved(ret: Option<i64>) -> u64 {
    ret.and_then(|ret| u64::try_from(ret).ok()).unwrap_or(0)
}

/// Whether a call was told `MSG_PEEK`: the bytes stay in the socket.
pub(crate) fn peeks(flags: Option<i64>) -> bool {
    flags.is_some_and(|flags| flags & 2 != 0)
}

/// Before the first sample the kernel's estimate is 0.
pub(crate) fn measured(ts: Option<i64>, srtt: Option<i64>) -> Option<(i64, i64)> {
    ts.zip(srtt.filter(|&srtt| srtt > 0))
}
