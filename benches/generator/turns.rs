//! Request and response over many connections.

use super::{Maker, Story, Take};

/// Turns over so many connections.
pub struct Turns {
    sequences: Vec<[u32; 2]>,
}

impl Turns {
    /// Of so many connections.
    pub fn over(flows: u32) -> Self {
        let sequence = |flow: u32| [flow.wrapping_mul(0x9E37_79B9), flow.wrapping_mul(0x85EB_CA6B)];
        Self { sequences: (0..flows).map(sequence).collect() }
    }
}

impl Story for Turns {
    fn groups(&self) -> &'static [&'static str] {
        &["net", "net-rx", "proc"]
    }

    fn events(&self) -> u64 {
        4
    }

    fn define(&mut self, maker: &mut Maker, take: Take) {
        for tid in 1..=9u64 {
            maker.emit("task", &[("tid", 1000 + tid), ("tgid", 1000 + tid), ("ppid", 1)], take);
        }
        for flow in 0..self.sequences.len() as u64 {
            let (client, server, port) = (2 * flow + 1, 2 * flow + 2, 10_000 + flow % 50_000);
            let ends = [("sock", client), ("family", 2), ("lport", port), ("rport", 6379), ("owner", 1001)];
            maker.emit("sock", &ends, take);
            let ends = [("sock", server), ("family", 2), ("lport", 6379), ("rport", port), ("owner", 1009)];
            maker.emit("sock", &[&ends[..], &[("side", 1)]].concat(), take);
        }
    }

    /// Send, segment at the peer, its receive, and the ACK.
    fn turn(&mut self, maker: &mut Maker, take: Take) {
        let flow = maker.random.skewed(self.sequences.len() as u64) as usize;
        let (client, server) = (2 * flow as u64 + 1, 2 * flow as u64 + 2);
        let size = [64, 64, 64, 200, 1448][(maker.random.next() % 5) as usize];
        let [seq, ack] = self.sequences[flow].map(u64::from);
        self.sequences[flow][0] = (seq + size) as u32;
        let tid = 1001 + client % 8;
        maker.now += 800 + maker.random.next() % 2000;
        let segment = [("seq", seq), ("ack", ack), ("len", size), ("srtt", 30 + seq % 7)];
        let state = [("sock", server), ("cwnd", 10), ("flags", 24), ("state", 1)];
        maker.emit("tcp_rx", &[segment, state].concat(), take);
        maker.now += 300 + maker.random.next() % 500;
        let latency = maker.random.log_normal(9.0, 0.6);
        let call = [("tid", tid), ("sock", client), ("requested", size), ("ret", size)];
        maker.emit(
            "sock_send",
            &[&call[..], &[("seq", seq), ("latency", latency), ("exact", 1)]].concat(),
            take,
        );
        maker.now += 500 + maker.random.next() % 900;
        let call = [("tid", 1009), ("sock", server), ("ret", size), ("seq", seq + size)];
        maker.emit("sock_recv", &call, take);
        maker.now += 500 + maker.random.next() % 900;
        let segment = [("seq", ack), ("ack", (seq + size) & 0xffff_ffff), ("srtt", 31)];
        let state = [("sock", client), ("cwnd", 10), ("flags", 16), ("state", 1)];
        maker.emit("tcp_rx", &[&segment[..], &state].concat(), take);
    }
}
