//! Gathers sends and segments, sorts them by socket, finds the socket at the other end, and pairs
//! them ([`super::pairs`]). Memory grows with the events of the span: 32 bytes a send, 24 a segment.

use super::group::{Grouping, Key};
use super::hash::FastMap;
use super::identity::Identity;
use super::load::{Chunk, Scan};
use super::pairs::{Gaps, Metric, Pair, Receive, Send, Socket, Unpaired};
use super::report::Context;
use super::rows::Rows;
use super::window::Window;
use anyhow::Result;
use rayon::prelude::*;

/// What a pair needs of its send besides times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    /// Group of the send.
    pub key: u32,
    /// Thread that sent.
    pub tid: u32,
    /// Size that was asked for, if the trace has it.
    pub requested: Option<u32>,
    /// When the call returned: the moment at which names are looked up.
    pub returned: u64,
}

/// All sends and segments of a span, by socket.
pub(crate) struct Latencies {
    sends: Vec<(u32, Send)>,
    /// By [`Send::row`].
    pub details: Vec<Detail>,
    /// By [`Detail::key`].
    pub keys: Vec<Key>,
    receives: Vec<(u32, Receive)>,
    peers: FastMap<u32, u32>,
    gaps: Gaps,
}

/// The latencies of one socket by one metric.
pub(crate) struct Found {
    /// Socket id.
    pub sock: u32,
    /// Which.
    pub metric: Metric,
    /// Each with the index of its send's [`Detail`].
    pub pairs: Vec<(Pair, u32)>,
    /// Not paired; counted with the socket's first send.
    pub unpaired: Unpaired,
    /// Detail of the socket's first send.
    pub first: u32,
}

impl Latencies {
    /// Reads what is asked for: sends of the span that `--where` left, and every segment from its begin on.
    pub fn gather(context: &Context, grouping: &Grouping) -> Result<Self> {
        let (mut sends, details, keys) = gather_sends(context, grouping)?;
        let mut receives = gather_receives(context)?;
        context.trace.install(|| {
            sends.par_sort_unstable_by_key(|(sock, send)| (*sock, send.entry, send.row));
            receives.par_sort_by_key(|(sock, receive)| (*sock, receive.ts));
        });
        let peers = context.trace.identity("sock").map(|socks| peers(&socks)).unwrap_or_default();
        let gaps = gaps(context);
        Ok(Self { sends, details, keys, receives, peers, gaps })
    }

    /// Pairs by each of the metrics, in the order of sockets.
    pub fn pair(&self, context: &Context, metrics: &[Metric]) -> Vec<Found> {
        let sockets: Vec<&[(u32, Send)]> = self.sends.chunk_by(|a, b| a.0 == b.0).collect();
        let one = |sends: &&[(u32, Send)]| self.pair_socket(sends, metrics);
        let found: Vec<Vec<Found>> = context.trace.install(|| sockets.par_iter().map(one).collect());
        found.into_iter().flatten().collect()
    }

    fn pair_socket(&self, keyed: &[(u32, Send)], metrics: &[Metric]) -> Vec<Found> {
        let Some(&(sock, first)) = keyed.first() else { return Vec::new() };
        let sends: Vec<Send> = keyed.iter().map(|(_, send)| *send).collect();
        let receives = self.receives_of(sock);
        let peer = self.peers.get(&sock).map(|&peer| self.receives_of(peer));
        let socket = Socket { sends: &sends, receives: &receives, peer: peer.as_deref() };
        let one = |&metric: &Metric| {
            let mut pairs = Vec::new();
            let unpaired = socket.pair(metric, &self.gaps, &mut pairs);
            let pairs = pairs.into_iter().map(|pair| (pair, sends[pair.send].row)).collect();
            Found { sock, metric, pairs, unpaired, first: first.row }
        };
        metrics.iter().map(one).collect()
    }

    fn receives_of(&self, sock: u32) -> Vec<Receive> {
        let from = self.receives.partition_point(|(other, _)| *other < sock);
        let to = self.receives.partition_point(|(other, _)| *other <= sock);
        self.receives[from..to].iter().map(|(_, receive)| *receive).collect()
    }
}

/// What the fold over sends collects; keys are numbered as they are met.
#[derive(Default)]
struct Sends {
    list: Vec<(u32, Send)>,
    details: Vec<Detail>,
    numbers: FastMap<Key, u32>,
    keys: Vec<Key>,
}

impl Sends {
    fn number(&mut self, key: Key) -> u32 {
        let next = self.keys.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.keys.push(key);
        }
        number
    }

    fn merge(&mut self, later: Self) {
        let numbers: Vec<u32> = later.keys.iter().map(|&key| self.number(key)).collect();
        let base = self.details.len() as u32;
        self.details.extend(
            later.details.into_iter().map(|detail| Detail { key: numbers[detail.key as usize], ..detail }),
        );
        let moved = later.list.into_iter().map(|(sock, send)| (sock, Send { row: send.row + base, ..send }));
        self.list.extend(moved);
    }
}

type Gathered = (Vec<(u32, Send)>, Vec<Detail>, Vec<Key>);

fn gather_sends(context: &Context, grouping: &Grouping) -> Result<Gathered> {
    let mut scan = grouping.with_keys(&context.scan("sock_send")?);
    let [sock, ret, seq, tid] = columns(&mut scan, ["sock", "ret", "seq", "tid"])?;
    let requested = scan.column_or_null("requested")?;
    let latency = scan.column_or_null("latency")?;
    let ts = scan.column("ts")?;
    let each = |all: &mut Sends, rows: &Rows, row: usize| {
        let sent = rows.get(ret, row).and_then(|ret| u32::try_from(ret).ok()).filter(|&sent| sent > 0);
        let Some(sent) = sent else { return }; // refused, or empty: nothing that could be acknowledged
        let returned = rows.raw(ts, row);
        let entry = returned - rows.get(latency, row).map_or(0, i64::cast_unsigned).min(returned);
        let key = all.number(grouping.key(rows, row));
        let requested = rows.get(requested, row).map(|size| size as u32);
        let end = (rows.raw(seq, row) as u32).wrapping_add(sent);
        let send = Send { entry, end, sent, row: all.details.len() as u32 };
        all.details.push(Detail { key, tid: rows.raw(tid, row) as u32, requested, returned });
        all.list.push((rows.raw(sock, row) as u32, send));
    };
    let fold = |all: &mut Sends, chunk: &Chunk| chunk.each().for_each(|row| each(all, chunk.rows(), row));
    let all = scan.fold(Sends::default, fold, Sends::merge);
    Ok((all.list, all.details, all.keys))
}

fn gather_receives(context: &Context) -> Result<Vec<(u32, Receive)>> {
    // An answer may come after the span of its send.
    let window = Window { from: context.window.from, to: context.trace.span.to };
    let mut scan = Scan::new(context.trace, context.table("tcp_rx")?, window);
    let [sock, ts, seq, ack, len] = columns(&mut scan, ["sock", "ts", "seq", "ack", "len"])?;
    let each = |rows: &Rows, row: usize| {
        let number = |column| rows.raw(column, row) as u32;
        let receive = Receive {
            ts: rows.raw(ts, row),
            ack: number(ack),
            end: number(seq).wrapping_add(number(len)),
            len: number(len),
        };
        (number(sock), receive)
    };
    let fold = |all: &mut Vec<_>, chunk: &Chunk| all.extend(chunk.each().map(|row| each(chunk.rows(), row)));
    Ok(scan.fold(Vec::new, fold, Extend::extend))
}

fn columns<const N: usize>(scan: &mut Scan, names: [&str; N]) -> Result<[usize; N]> {
    let mut found = [0; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = scan.column(name)?;
    }
    Ok(found)
}

/// The socket at the other end: addresses and ports swapped, in the same recording. Where a pair of
/// ports was used again, the one that began nearest in time; the same network namespace first.
fn peers(socks: &Identity) -> FastMap<u32, u32> {
    let names = ["laddr", "lport", "raddr", "rport", "netns", "ts"];
    let [Some(laddr), Some(lport), Some(raddr), Some(rport), netns, ts] =
        names.map(|name| socks.column(name))
    else {
        return FastMap::default();
    };
    let ends = |row: u32, swap: bool| {
        let local = (socks.bytes(laddr, row).to_vec(), socks.get(lport, row));
        let remote = (socks.bytes(raddr, row).to_vec(), socks.get(rport, row));
        if swap { (remote, local) } else { (local, remote) }
    };
    let ids: Vec<(u64, u32)> =
        socks.keys().filter_map(|key| Some((key, socks.find(key, u64::MAX)?))).collect();
    let mut by_ends: std::collections::HashMap<_, Vec<(u64, u32)>> = std::collections::HashMap::new();
    for &(key, row) in &ids {
        by_ends.entry(ends(row, false)).or_default().push((key, row));
    }
    let mut peers = FastMap::default();
    for &(key, row) in &ids {
        let cell = |column: Option<usize>, row| column.and_then(|column| socks.get(column, row)).unwrap_or(0);
        let first = |key| socks.versions(key).first().map_or(0, |&row| cell(ts, row));
        let distance = |other: &&(u64, u32)| {
            (cell(netns, other.1) != cell(netns, row), first(other.0).abs_diff(first(key)), other.0)
        };
        let candidates = by_ends.get(&ends(row, true)).into_iter().flatten().filter(|other| other.0 != key);
        if let Some(peer) = candidates.min_by_key(distance) {
            peers.insert(key as u32, peer.0 as u32);
        }
    }
    peers
}

/// Where events of either table were lost, as sorted and disjoint spans.
fn gaps(context: &Context) -> Gaps {
    let mut lossy: Vec<(u64, u64)> = context
        .trace
        .ledger()
        .lossy(context.trace, &context.tables())
        .iter()
        .map(|w| (w.from, w.to))
        .collect();
    lossy.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for gap in lossy {
        match merged.last_mut() {
            Some(last) if gap.0 <= last.1 => last.1 = last.1.max(gap.1),
            _ => merged.push(gap),
        }
    }
    Gaps(merged)
}
