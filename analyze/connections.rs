//! Connections from their changes of state, joined per socket and in the order of time.
//!
//! A connection begins when its socket leaves CLOSE or LISTEN and ends when it is CLOSE again; one that
//! was open before the start has no beginning here, one that is open at the end has no end. Neither is
//! guessed: both are counted as censored.

use super::load::{Chunk, Scan};
use super::report::Context;
use super::window::Window;
use anyhow::Result;

/// States as the kernel numbers them.
pub(crate) const ESTABLISHED: i64 = 1;
pub(crate) const SYN_SENT: i64 = 2;
pub(crate) const SYN_RECV: i64 = 3;
pub(crate) const FIN_WAIT1: i64 = 4;
pub(crate) const FIN_WAIT2: i64 = 5;
pub(crate) const CLOSE: i64 = 7;
pub(crate) const CLOSE_WAIT: i64 = 8;
pub(crate) const LAST_ACK: i64 = 9;
pub(crate) const LISTEN: i64 = 10;
pub(crate) const CLOSING: i64 = 11;

/// A change of state.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    ts: u64,
    acked: u64,
    received: u64,
    sock: u32,
    retrans: u32,
    segs_in: u32,
    old: u8,
    new: u8,
}

/// One connection, as far as it lies in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Its socket.
    pub sock: u32,
    /// When it went to SYN-SENT: only for active opens.
    pub syn_sent: Option<u64>,
    /// When it was established.
    pub established: Option<u64>,
    /// When it was closed.
    pub closed: Option<u64>,
    /// Its first change of state is that of a new connection.
    pub begun: bool,
    /// Payload that the peer acknowledged.
    pub sent: u64,
    /// Payload that was received.
    pub received: u64,
    /// Segments that were sent again.
    pub retrans: u32,
    /// Segments that came.
    pub segs_in: u32,
}

/// All connections of a recording up to the end of the span, by socket and time.
pub(crate) struct Connections(Vec<Connection>);

impl Connections {
    /// Joins table `tcp_state`, whatever the conditions and the begin of the span.
    pub fn gather(context: &Context) -> Result<Self> {
        let window = Window { from: context.trace.span.from, to: context.window.to };
        let mut scan = Scan::new(context.trace, context.table("tcp_state")?, window);
        let (ts, sock) = (scan.column("ts")?, scan.column("sock")?);
        let (old, new) = (scan.column("old")?, scan.column("new")?);
        let counts = ["acked", "received", "retrans", "segs_in"].map(|name| scan.column_or_null(name));
        let [acked, received, retrans, segs_in] = counts;
        let (acked, received, retrans, segs_in) = (acked?, received?, retrans?, segs_in?);
        let add = |steps: &mut Vec<Step>, chunk: &Chunk| {
            let rows = chunk.rows();
            steps.extend(chunk.each().map(|row| Step {
                ts: rows.raw(ts, row),
                acked: rows.raw(acked, row),
                received: rows.raw(received, row),
                sock: rows.raw(sock, row) as u32,
                retrans: rows.raw(retrans, row) as u32,
                segs_in: rows.raw(segs_in, row) as u32,
                old: rows.raw(old, row) as u8,
                new: rows.raw(new, row) as u8,
            }));
        };
        let mut steps = scan.fold(Vec::new, add, Vec::extend);
        steps.sort_by_key(|step| (step.sock, step.ts));
        Ok(Self::of(&steps))
    }

    /// From steps by socket and time.
    fn of(steps: &[Step]) -> Self {
        let ends = |a: &Step, b: &Step| a.sock == b.sock && i64::from(a.new) != CLOSE;
        let lives = steps.chunk_by(ends).filter(|life| !listens(life));
        Self(lives.map(connection).collect())
    }

    /// The connection that went to SYN-SENT then.
    pub fn opened(&self, sock: u32, ts: u64) -> Option<&Connection> {
        self.of_socket(sock).iter().find(|connection| connection.syn_sent == Some(ts))
    }

    /// The connection that was closed then.
    pub fn closed(&self, sock: u32, ts: u64) -> Option<&Connection> {
        self.of_socket(sock).iter().find(|connection| connection.closed == Some(ts))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.0.iter()
    }

    fn of_socket(&self, sock: u32) -> &[Connection] {
        let from = self.0.partition_point(|connection| connection.sock < sock);
        let to = self.0.partition_point(|connection| connection.sock <= sock);
        &self.0[from..to]
    }
}

/// A listener, or a listener's end.
fn listens(life: &[Step]) -> bool {
    let last = life.last().copied().unwrap_or_default();
    i64::from(last.new) == LISTEN || i64::from(last.old) == LISTEN && i64::from(last.new) == CLOSE
}

fn connection(life: &[Step]) -> Connection {
    let at = |state| life.iter().find(|step| i64::from(step.new) == state).map(|step| step.ts);
    let (first, last) = (life.first().copied().unwrap_or_default(), life.last().copied().unwrap_or_default());
    let (syn, our_fin, their_fin) = counted(life);
    Connection {
        sock: first.sock,
        syn_sent: at(SYN_SENT),
        established: at(ESTABLISHED),
        closed: at(CLOSE),
        begun: matches!(i64::from(first.new), SYN_SENT | SYN_RECV),
        sent: last.acked.saturating_sub(u64::from(syn) + u64::from(our_fin)),
        received: last.received.saturating_sub(u64::from(their_fin)),
        retrans: last.retrans,
        segs_in: last.segs_in,
    }
}

/// Whether SYN, our FIN and the peer's FIN are in the kernel's counters: each takes one number of the
/// sequence space, and the kernel counts numbers.
///
/// A SYN of ours is counted with its acknowledgement; that of an accepted connection was acknowledged
/// to the listener. A FIN is counted where the state says that it came, and in the last steps, which an
/// RST or a timeout can take as well, where the counter moved with the step.
fn counted(life: &[Step]) -> (bool, bool, bool) {
    let went = |old, new| {
        life.iter().any(|step| i64::from(step.old) == old && (i64::from(step.new) == new || new == 0))
    };
    let syn = went(SYN_SENT, ESTABLISHED) || went(SYN_SENT, SYN_RECV);
    let moved = |old, counter: fn(&Step) -> u64| {
        let pair = life.windows(2).find(|pair| {
            i64::from(pair[1].old) == old && i64::from(pair[0].new) == old && i64::from(pair[1].new) == CLOSE
        });
        pair.is_some_and(|pair| counter(&pair[1]) > counter(&pair[0]))
    };
    let acked = |step: &Step| step.acked;
    let ours = went(FIN_WAIT1, FIN_WAIT2) || moved(LAST_ACK, acked) || moved(CLOSING, acked);
    let theirs = went(CLOSE_WAIT, 0)
        || life.iter().any(|step| matches!(i64::from(step.new), CLOSE_WAIT | CLOSING))
        || moved(FIN_WAIT2, |step| step.received);
    (syn, ours, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of one socket: old, new, acked, received.
    fn life(steps: &[(i64, i64, u64, u64)]) -> Vec<Connection> {
        let step = |(ts, &(old, new, acked, received)): (u64, &(i64, i64, u64, u64))| Step {
            ts,
            acked,
            received,
            sock: 1,
            old: old as u8,
            new: new as u8,
            ..Step::default()
        };
        Connections::of(&(1..).zip(steps).map(step).collect::<Vec<_>>()).0
    }

    fn bytes(steps: &[(i64, i64, u64, u64)]) -> (u64, u64) {
        let connection = life(steps)[0];
        (connection.sent, connection.received)
    }

    #[test]
    fn payload_is_what_remains_without_syn_and_fin() {
        let client_first = [
            (CLOSE, SYN_SENT, 0, 0),
            (SYN_SENT, ESTABLISHED, 1, 0),
            (ESTABLISHED, FIN_WAIT1, 1001, 100),
            (FIN_WAIT1, FIN_WAIT2, 1002, 100),
            (FIN_WAIT2, CLOSE, 1002, 101),
        ];
        assert_eq!(bytes(&client_first), (1000, 100));
        let server_last = [
            (LISTEN, SYN_RECV, 0, 0),
            (SYN_RECV, ESTABLISHED, 0, 0),
            (ESTABLISHED, CLOSE_WAIT, 100, 1001),
            (CLOSE_WAIT, LAST_ACK, 100, 1001),
            (LAST_ACK, CLOSE, 101, 1001),
        ];
        assert_eq!(bytes(&server_last), (100, 1000));
        let both_at_once = [
            (LISTEN, SYN_RECV, 0, 0),
            (SYN_RECV, ESTABLISHED, 0, 0),
            (ESTABLISHED, FIN_WAIT1, 100, 1000),
            (FIN_WAIT1, CLOSING, 100, 1001),
            (CLOSING, CLOSE, 101, 1001),
        ];
        assert_eq!(bytes(&both_at_once), (100, 1000));
    }

    #[test]
    fn a_reset_counts_no_fin() {
        let reset = [
            (CLOSE, SYN_SENT, 0, 0),
            (SYN_SENT, ESTABLISHED, 1, 0),
            (ESTABLISHED, FIN_WAIT1, 1001, 100),
            (FIN_WAIT1, CLOSE, 1001, 100),
        ];
        assert_eq!(bytes(&reset), (1000, 100));
        let gone = [(LISTEN, SYN_RECV, 0, 0), (SYN_RECV, ESTABLISHED, 0, 0), (ESTABLISHED, CLOSE, 7, 9)];
        assert_eq!(bytes(&gone), (7, 9));
        let timed_out = [
            (SYN_RECV, ESTABLISHED, 0, 0),
            (ESTABLISHED, CLOSE_WAIT, 100, 11),
            (CLOSE_WAIT, LAST_ACK, 100, 11),
            (LAST_ACK, CLOSE, 100, 11),
        ];
        assert_eq!(bytes(&timed_out), (100, 10));
    }

    #[test]
    fn a_socket_that_connects_again_is_another_connection() {
        let again = life(&[
            (CLOSE, SYN_SENT, 0, 0),
            (SYN_SENT, CLOSE, 0, 0),
            (CLOSE, SYN_SENT, 0, 0),
            (SYN_SENT, ESTABLISHED, 1, 0),
        ]);
        let times: Vec<_> = again.iter().map(|c| (c.syn_sent, c.established, c.closed)).collect();
        assert_eq!(times, [(Some(1), None, Some(2)), (Some(3), Some(4), None)]);
    }

    #[test]
    fn a_listener_is_no_connection_and_an_old_one_did_not_begin() {
        assert_eq!(life(&[(CLOSE, LISTEN, 0, 0), (LISTEN, CLOSE, 0, 0)]), []);
        assert!(!life(&[(ESTABLISHED, CLOSE_WAIT, 5, 6)])[0].begun);
        assert!(life(&[(LISTEN, SYN_RECV, 0, 0)])[0].begun);
    }
}
