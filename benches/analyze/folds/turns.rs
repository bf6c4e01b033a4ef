//! Of connections.

use super::{ById, fold};
use rayon::prelude::*;
use std::collections::HashMap;
use tapedeck::schema::{Column, TraceReader};

const SECOND: u64 = 1_000_000_000;

/// Rows that the reports of totals and of flows are asked for.
const MOST_BYTES: usize = 20;
const MOST_FLOWS: usize = 10;

fn sent(ret: u32) -> u64 {
    u64::try_from(ret.cast_signed()).unwrap_or(0)
}

pub fn sends(reader: &TraceReader) -> anyhow::Result<u64> {
    type Seconds = HashMap<u64, (u64, u64, u64)>;
    let add = |seconds: &mut Seconds, columns: &[&Column], rows: usize| {
        let (ts, ret) = (columns[0].u64s(), columns[1].u32s());
        let mut last = (u64::MAX, (0, 0, 0));
        for row in 0..rows {
            if ts[row] / SECOND != last.0 {
                let sums = seconds.entry(last.0).or_default();
                *sums = (sums.0 + last.1.0, sums.1 + last.1.1, sums.2 + last.1.2);
                last = (ts[row] / SECOND, (0, 0, 0));
            }
            last.1.0 += 1;
            last.1.1 += sent(ret[row]);
            last.1.2 += u64::from(ret[row].cast_signed() < 0);
        }
        let sums = seconds.entry(last.0).or_default();
        *sums = (sums.0 + last.1.0, sums.1 + last.1.1, sums.2 + last.1.2);
    };
    let merge = |all: &mut Seconds, later: Seconds| {
        for (second, sums) in later {
            let to = all.entry(second).or_default();
            *to = (to.0 + sums.0, to.1 + sums.1, to.2 + sums.2);
        }
    };
    let all: Seconds = fold(reader, "sock_send", &["ts", "ret"], add, merge)?;
    Ok(all.values().map(|sums| sums.0).sum())
}

/// Bytes sent and received by an id of the events.
pub fn by_id(reader: &TraceReader, id: &str) -> anyhow::Result<u64> {
    let merge = |all: &mut ById<[u64; 2]>, later: ById<[u64; 2]>| {
        for (id, sums) in later {
            let to = all.entry(id).or_default();
            *to = [to[0] + sums[0], to[1] + sums[1]];
        }
    };
    let add_sent = |all: &mut ById<[u64; 2]>, columns: &[&Column], _: usize| {
        for (&id, &ret) in columns[0].u32s().iter().zip(columns[1].u32s()) {
            all.entry(id).or_default()[0] += sent(ret);
        }
    };
    let add_received = |all: &mut ById<[u64; 2]>, columns: &[&Column], _: usize| {
        let flags = columns[2].u32s();
        for (row, (&id, &ret)) in columns[0].u32s().iter().zip(columns[1].u32s()).enumerate() {
            if flags[row] & 2 == 0 {
                all.entry(id).or_default()[1] += sent(ret);
            }
        }
    };
    let mut all = fold(reader, "sock_send", &[id, "ret"], add_sent, merge)?;
    merge(&mut all, fold(reader, "sock_recv", &[id, "ret", "flags"], add_received, merge)?);
    let mut list: Vec<(u64, u32)> = all.iter().map(|(&id, sums)| (sums[0] + sums[1], id)).collect();
    list.sort_unstable();
    Ok(list.iter().rev().take(MOST_BYTES).map(|(bytes, _)| bytes).sum())
}

#[derive(Default)]
struct Flow {
    calls: [u64; 2],
    bytes: [u64; 2],
    times: Option<(u64, u64)>,
    srtt: Option<(u64, u32)>,
    latencies: Vec<u64>,
}

impl Flow {
    fn see(&mut self, ts: u64) {
        let (first, last) = self.times.unwrap_or((ts, ts));
        self.times = Some((first.min(ts), last.max(ts)));
    }

    fn merge(&mut self, later: Self) {
        for way in 0..2 {
            self.calls[way] += later.calls[way];
            self.bytes[way] += later.bytes[way];
        }
        if let Some((first, last)) = later.times {
            self.see(first);
            self.see(last);
        }
        self.srtt = self.srtt.max(later.srtt);
        self.latencies.extend(later.latencies);
    }
}

pub fn flows(reader: &TraceReader) -> anyhow::Result<Vec<u64>> {
    let merge = |all: &mut ById<Flow>, later: ById<Flow>| {
        for (sock, flow) in later {
            all.entry(sock).or_default().merge(flow);
        }
    };
    let add_sends = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts) = (columns[0].u32s(), columns[1].u64s());
        let (ret, latency) = (columns[2].u32s(), columns[3].u64s());
        for row in 0..rows {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.calls[0] += 1;
            flow.bytes[0] += sent(ret[row]);
            flow.latencies.extend((latency[row] > 0).then_some(latency[row]));
        }
    };
    let add_receives = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts) = (columns[0].u32s(), columns[1].u64s());
        let (ret, flags) = (columns[2].u32s(), columns[3].u32s());
        for row in (0..rows).filter(|&row| flags[row] & 2 == 0) {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.calls[1] += 1;
            flow.bytes[1] += sent(ret[row]);
        }
    };
    let add_segments = |all: &mut ById<Flow>, columns: &[&Column], rows: usize| {
        let (sock, ts, srtt) = (columns[0].u32s(), columns[1].u64s(), columns[2].u32s());
        for row in 0..rows {
            let flow = all.entry(sock[row]).or_default();
            flow.see(ts[row]);
            flow.srtt = flow.srtt.max((srtt[row] > 0).then_some((ts[row], srtt[row])));
        }
    };
    let mut all = fold(reader, "sock_send", &["sock", "ts", "ret", "latency"], add_sends, merge)?;
    merge(&mut all, fold(reader, "sock_recv", &["sock", "ts", "ret", "flags"], add_receives, merge)?);
    merge(&mut all, fold(reader, "tcp_rx", &["sock", "ts", "srtt"], add_segments, merge)?);
    let quantiles = |flow: &mut Flow| {
        flow.latencies.sort_unstable();
        let n = flow.latencies.len();
        let of = |q: f64| flow.latencies.get(((n as f64 * q).ceil() as usize).max(1) - 1).copied();
        (flow.bytes[0] + flow.bytes[1], [0.5, 0.9, 0.99, 0.999, 1.0].map(of))
    };
    let mut found: Vec<_> = all.par_iter_mut().map(|(_, flow)| quantiles(flow)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(MOST_FLOWS);
    let latencies = |at: usize| found.iter().filter_map(|flow| flow.1[at]).sum();
    Ok(std::iter::once(found.iter().map(|flow| flow.0).sum()).chain((0..5).map(latencies)).collect())
}
