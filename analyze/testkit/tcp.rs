//! Threads and sockets, and what TCP did with them.

use super::{Cell, START, Tape};

impl Tape {
    /// A thread, `at` ns after the start.
    pub fn task(&mut self, at: u64, tid: u64, tgid: u64, comm: &str) -> &mut Self {
        self.push(
            "task",
            vec![
                (START + at).into(),
                0u64.into(),
                tid.into(),
                tgid.into(),
                1u64.into(),
                0u64.into(),
                comm.into(),
            ],
        )
    }

    /// A socket from 10.0.0.1 to 10.0.0.2, or from `::1` to `::1`.
    pub fn sock(&mut self, at: u64, sock: u64, family: u64, lport: u64, rport: u64) -> &mut Self {
        self.owned(at, sock, (family, lport, rport), 0)
    }

    /// The same with its owner.
    pub fn owned(&mut self, at: u64, sock: u64, what: (u64, u64, u64), owner: u64) -> &mut Self {
        let (family, lport, rport) = what;
        let v4 = |last| Cell::Bytes(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]);
        let v6 = || Cell::Bytes(std::net::Ipv6Addr::LOCALHOST.octets().to_vec());
        let (local, remote) = if family == 2 { (v4(1), v4(2)) } else { (v6(), v6()) };
        self.push(
            "sock",
            vec![
                (START + at).into(),
                0u64.into(),
                sock.into(),
                family.into(),
                lport.into(),
                rport.into(),
                local,
                remote,
                4_026_531_833u64.into(),
                owner.into(),
            ],
        )
    }

    /// Adds table `tcp_state`.
    pub fn states(&mut self) -> &mut Self {
        let columns = [
            "ts:u64",
            "cpu:u16",
            "tid:u32~task",
            "sock:u32>sock",
            "old:u8=tcp_state",
            "new:u8=tcp_state",
            "acked:u64",
            "received:u64",
            "segs_in:u32",
            "retrans:u32",
            "srtt:u32?us",
        ];
        self.table("tcp_state", &columns)
    }

    /// A change of state from one to another, with bytes acknowledged and received and segments retransmitted.
    pub fn state(&mut self, at: u64, tid: i64, sock: i64, change: (i64, i64), counts: [i64; 3]) -> &mut Self {
        let [acked, received, retrans] = counts;
        self.event("tcp_state", at, [tid, sock, change.0, change.1, acked, received, 3, retrans, 25])
    }

    /// Adds table `sock_recv`.
    pub fn receives(&mut self) -> &mut Self {
        let columns =
            ["ts:u64", "cpu:u16", "tid:u32>task", "sock:u32>sock", "ret:i32", "flags:u32", "latency:u64?ns"];
        self.table("sock_recv", &columns)
    }

    /// A call of `tcp_recvmsg`.
    pub fn receive(&mut self, at: u64, tid: i64, sock: i64, ret: i64, flags: i64) -> &mut Self {
        self.event("sock_recv", at, [tid, sock, ret, flags, 2_500])
    }

    /// A call of `tcp_sendmsg`.
    pub fn send(&mut self, at: u64, tid: u64, sock: u64, requested: u64, ret: i32) -> &mut Self {
        let ret = Cell::Number(u64::from(ret.cast_unsigned()));
        self.push(
            "sock_send",
            vec![
                (START + at).into(),
                0u64.into(),
                tid.into(),
                sock.into(),
                requested.into(),
                ret,
                1_500u64.into(),
            ],
        )
    }
}
