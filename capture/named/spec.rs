//! A probe as the user writes it; [`super::parse`] reads the grammar.
//!
//! ```text
//! [NAME=]KIND:TARGET[(ARGUMENT, …)] [/CONDITION && …/] [{OPTION, …}]
//!
//! KIND:TARGET   t:sched:sched_switch          tracepoint
//!               rt:sched_switch, tb:…         raw tracepoint, arguments by BTF name
//!               f:tcp_sendmsg                 kernel function, at its entry
//!               fx:tcp_sendmsg                … at its return, with what it was given and how long it took
//!               k:, kr:                       the same, by kprobe only
//!               u:BINARY:SYMBOL, ur:…         user function: a path, or a name (c, libc, libc.so.6, bash); SYMBOL+8, 0x1234: a place in it
//!               usdt:BINARY:[PROVIDER:]NAME   static user probe
//!               pe:EVENT[:PERIOD]             perf event: page-faults, context-switches, cpu-clock, cycles, …
//!               with * for any part: functions as one probe, events and static probes as one for each
//! ARGUMENT      [LABEL=][*]PATH[:TYPE]        sk->__sk_common.skc_dport, size, arg1, arg1+8:u32, filename:ustr;
//!                                             *arg4:u64 of calls: what it points to when the call returns
//! TYPE          u8 … u64, i8 … i64, be16, be32, bool, ptr; behind a pointer:
//!               str[N]                        text up to a NUL
//!               bytes[N], bytes[LABEL,N]      as many bytes, or as many as an argument before it says, up to 128 or N
//!               sockaddr                      address, port and family, as LABEL, LABEL_port and LABEL_family
//!               ustr, ubytes, usockaddr       … in the process's memory; kstr, kbytes, ksockaddr: in the kernel's
//! CONDITION     LABEL (==|!=|<|<=|>|>=) NUMBER    of the arguments, ret and latency; times as 10ms
//! OPTION        thr=TIME, ret=TYPE            of calls: only those that take so long; what they return
//!               max=N                         at most so many each second: the others are counted as left out
//!               period=N, freq=N              of perf events: a hit for each so many, or so often each second
//!               kstack, ustack                the kernel's stack, the process's; of calls, when they return
//!               count                         hits are added up in the kernel, each second, by process, by the
//!                                             arguments, and by the sign or error number that a call returns
//!               hist, hist=LABEL              … and by power of two of a call's latency, or of an argument or ret;
//!                                             with kstack or ustack by stack too; also agg=count, agg=hist=LABEL
//! ```
//!
//! The spellings of bcc's `trace` (`p::f`, `r:lib:f(char *name) (retval < 0) "%s", name`; [`super::bcc`]) and `argdist`
//! (`p:c:malloc(size_t n):size_t:n`; [`super::argdist`]) mean the same. Limits, which are errors and not
//! silent cuts: 8 arguments, 4 pointers in one path, 4 conditions, 512 bytes of text in one record.

use std::fmt;

/// Arguments of one probe at most.
pub const ARGS: usize = 8;
/// Conditions of one probe at most.
pub const TESTS: usize = 4;

/// What kind of place a probe is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event of tracefs.
    Tracepoint,
    /// A tracepoint with its arguments as the kernel passes them.
    Raw,
    /// A kernel function, by the best way that there is.
    Function,
    /// A kernel function, by kprobe.
    Kprobe,
    /// A function of a program or library.
    User,
    /// A static probe of a program or library.
    Usdt,
    /// What the kernel, or a counter of the processor, counts.
    Perf,
}

/// How often a perf event is a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Each so many.
    Period(u64),
    /// About so often in a second.
    Frequency(u64),
}

/// One probe as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// All of it.
    pub text: String,
    /// What its table is to be called.
    pub name: Option<String>,
    /// What kind of place.
    pub kind: Kind,
    /// Whether it is about whole calls: recorded at their return.
    pub calls: bool,
    /// The place, without the kind, and where it begins in the text.
    pub target: (String, usize),
    /// What to record; none: what the place itself declares.
    pub args: Option<Vec<Arg>>,
    /// All must hold.
    pub tests: Vec<Test>,
    /// Calls that take less are not recorded, ns.
    pub threshold: u64,
    /// Hits or calls each second at most; 0: all.
    pub most: u64,
    /// Type of what a call returns.
    pub ret: Type,
    /// Whether the kernel's stack is recorded, and the process's.
    pub stacks: Stacks,
    /// Of a perf event, if it is given.
    pub rate: Option<Rate>,
    /// Whether hits are added up instead of recorded.
    pub sum: Option<Sum>,
}

/// How hits are added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Their number, and the time that calls took.
    Count,
    /// And by power of two of what this label names: an argument, `ret` or `latency`.
    Hist(String),
}

/// Which stacks a probe records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// The kernel's.
    pub kernel: bool,
    /// The process's.
    pub user: bool,
}

/// One value to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Name of its column.
    pub label: String,
    /// Name of the parameter or field that it begins with.
    pub base: String,
    /// Bytes to add to the base before what follows is read (`arg1+8`).
    pub offset: Option<i64>,
    /// It points to the value, which is read when the call returns.
    pub at_return: bool,
    /// Members on the way from there.
    pub members: Vec<Member>,
    /// Type, where the user says it.
    pub ty: Option<Type>,
    /// Where it begins in the text.
    pub at: usize,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `->`: through a pointer.
    pub arrow: bool,
    /// Name.
    pub name: String,
    /// Where it is in the text.
    pub at: usize,
}

/// A type that the user gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An integer: bytes, sign, big-endian.
    Int(u8, bool, bool),
    /// A place in memory.
    Address,
    /// Text behind a pointer: most bytes, and whether it is the process's memory (none: as the probe's kind).
    Text(u16, Option<bool>),
    /// Bytes behind a pointer: how many at most, by which argument (from 0 on; none: as many), and whose memory.
    Bytes(u16, Option<u8>, Option<bool>),
    /// Of a `struct sockaddr` behind a pointer this part, and whose memory.
    Sockaddr(Part, Option<bool>),
}

/// What is recorded of a socket's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The address itself.
    Address,
    /// The port.
    Port,
    /// The family: all there is to be known of others than IPv4 and IPv6.
    Family,
}

impl Part {
    /// All of them, with what is behind the label in their columns' names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Address, ""), (Self::Port, "_port"), (Self::Family, "_family")];
}

impl Type {
    /// Whether it is a number and not behind a pointer.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int(..) | Self::Address)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Int(size, _, true) => write!(f, "be{}", 8 * size),
            Self::Int(size, true, false) => write!(f, "i{}", 8 * size),
            Self::Int(size, false, false) => write!(f, "u{}", 8 * size),
            Self::Address => write!(f, "ptr"),
            Self::Text(length, _) => write!(f, "str[{length}]"),
            Self::Bytes(length, ..) => write!(f, "bytes[{length}]"),
            Self::Sockaddr(..) => write!(f, "sockaddr"),
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Of an argument, `ret` or `latency`.
    pub label: String,
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`, numbered as in `bpf/named.bpf.c`.
    pub op: u8,
    /// What it is compared with.
    pub value: i64,
    /// Where it begins in the text.
    pub at: usize,
}

/// What is wrong with a probe, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    text: String,
    at: usize,
    reason: String,
}

impl Wrong {
    /// At a byte of the text.
    pub fn new(text: &str, at: usize, reason: impl Into<String>) -> Self {
        Self { text: text.to_owned(), at, reason: reason.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let before = self.text.get(..self.at).map_or(0, |before| before.chars().count());
        write!(f, "{}\n  {}\n  {:before$}^", self.reason, self.text, "")
    }
}

impl std::error::Error for Wrong {}
