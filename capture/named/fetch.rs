//! What the interpreter is told: `struct probe` of `bpf/named.bpf.c`, byte for byte.

use super::spec::{ARGS, Stacks, TESTS};

/// Offsets in one chain of pointers.
pub const HOPS: usize = 5;
/// Bytes of a record before its values: `struct hit`.
pub const HEAD: usize = 48;
/// Where the latency is in a record, and the returned value.
pub const LATENCY: usize = 24;
/// See [`LATENCY`].
pub const RET: usize = 32;
/// Where the stacks are, as `FieldKind::Stack` has them.
pub const STACKS: [usize; 2] = [40, 44];
/// The thread.
pub const TID: usize = 12;
/// Which of several functions it was.
pub const FUNCTION: usize = 16;
/// Of hits that are added up: `AGGREGATE` of `bpf/event.h`, then `struct sum_key` of `bpf/named_sum.bpf.h`.
pub mod sums {
    /// Begin of the interval.
    pub const SINCE: usize = 16;
    /// The process.
    pub const TGID: usize = 24;
    /// Which of several functions it was.
    pub const FUNCTION: usize = 28;
    /// The power of two of a value.
    pub const SLOT: usize = 32;
    /// In place of the power of two, where there is none.
    pub const NO_SLOT: u8 = 255;
    /// The error number or sign of what calls returned.
    pub const RET: usize = 40;
    /// Where the arguments begin; the sums, of eight bytes each, follow them.
    pub const ARGS: usize = 48;
    /// Bytes before the key.
    pub const HEAD: usize = SINCE;
}
/// Largest record.
pub const RECORD: usize = 640;
/// Slots of conditions beyond the arguments'.
pub const SLOT_RET: u8 = ARGS as u8;
/// See [`SLOT_RET`].
pub const SLOT_LATENCY: u8 = SLOT_RET + 1;
/// No slot: what is added up has no value.
pub const NO_VALUE: u8 = SLOT_LATENCY + 1;

/// How a value is got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FetchKind {
    /// A number of `size` bytes.
    #[default]
    Number = 0,
    /// Text at the address.
    Text = 1,
    /// Text at the offset from the context that the number at the address says.
    DataLoc = 2,
    /// The first offset itself.
    Constant = 3,
    /// A number where an argument points to, as it is when the call returns.
    AtReturn = 4,
    /// Bytes at the address: `limit`, or fewer where the value at `size - 1` says so.
    Bytes = 5,
    /// The address in a `struct sockaddr` at the address.
    Address = 6,
    /// The port in it.
    Port = 7,
}

/// A chain of pointers that starts at the program's context: `hops` of them are followed, each at an offset
/// from where the one before led; the value is at `offset[hops]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Offsets in bytes.
    pub offset: Vec<i32>,
    /// What is there.
    pub kind: FetchKind,
    /// Bytes of a number; see [`FetchKind::Bytes`].
    pub size: u8,
    /// Beyond the context it is the process's memory.
    pub user: bool,
    /// Big-endian.
    pub swap: bool,
    /// Signed.
    pub sign: bool,
    /// Bytes of text at most.
    pub limit: u16,
}

impl Fetch {
    /// A number that lies in the context.
    #[must_use]
    pub fn context(offset: i32, size: u8, sign: bool) -> Self {
        Self { offset: vec![offset], size, sign, ..Self::default() }
    }

    /// What the value points to, in the process's memory if `user` says so.
    #[must_use]
    pub fn behind(mut self, user: bool) -> Self {
        self.offset.push(0);
        Self { user, ..self }
    }

    /// Whether it is text, or as long as that may be.
    #[must_use]
    pub fn is_text(&self) -> bool {
        use FetchKind::{Address, Bytes, DataLoc, Text};
        matches!(self.kind, Text | DataLoc | Bytes | Address)
    }

    fn write(&self, text: u32, to: &mut Vec<u8>) {
        for hop in 0..HOPS {
            to.extend(self.offset.get(hop).copied().unwrap_or(0).to_le_bytes());
        }
        to.extend(text.to_le_bytes());
        to.extend(self.limit.to_le_bytes());
        let hops = u8::try_from(self.offset.len().saturating_sub(1)).expect("at most HOPS");
        to.extend([hops, self.kind as u8, self.size, self.user.into(), self.swap.into(), self.sign.into()]);
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Index of an argument, [`SLOT_RET`] or [`SLOT_LATENCY`].
    pub slot: u8,
    /// As in [`super::spec::Test`].
    pub op: u8,
    /// Compared as signed numbers.
    pub sign: bool,
    /// With what.
    pub value: u64,
}

/// How deep a call is on its stack: `STACK_…` of `bpf/named_fetch.bpf.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frame {
    /// It is not known.
    #[default]
    Unknown,
    /// As deep as the context, which lies on it.
    Context,
    /// As the stack pointer says, at this offset in the context.
    Pointer(i32),
}

impl Frame {
    fn code(self) -> i32 {
        match self {
            Self::Unknown => -1,
            Self::Context => -2,
            Self::Pointer(offset) => offset,
        }
    }
}

/// How hits are added up: `SUM_…` of `bpf/named_fetch.bpf.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adding {
    /// They are recorded.
    #[default]
    Not,
    /// How many, and the sum of the value in this slot.
    Count(u8),
    /// The same by power of two of the value.
    BySlot(u8),
}

impl Adding {
    /// Which, and of what.
    fn bytes(self) -> [u8; 2] {
        match self {
            Self::Not => [0, NO_VALUE],
            Self::Count(slot) => [1, slot],
            Self::BySlot(slot) => [2, slot],
        }
    }
}

/// All that the interpreter is told about one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The arguments.
    pub args: Vec<Fetch>,
    /// The returned value; with no bytes it is not recorded.
    pub ret: Fetch,
    /// All must hold.
    pub tests: Vec<Compare>,
    /// ns.
    pub threshold: u64,
    /// Hits in each tick of the ledger (2^30 ns) at most; 0: all.
    pub most: u64,
    /// Which stacks are recorded.
    pub stacks: Stacks,
    /// Innermost frames of the kernel's stack that are the program's own, and what called it.
    pub skip: u8,
    /// The return address, where no frame of the stack holds it yet; with no bytes all frames do.
    pub caller: Fetch,
    /// Where a call's frame is.
    pub stack: Frame,
    /// Whether the attach cookie says which function it is.
    pub cookie: bool,
    /// Whether hits are added up.
    pub adding: Adding,
}

impl Program {
    /// All that takes room in a record besides its head: the arguments, then what is returned.
    fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.args.iter().chain([&self.ret])
    }

    /// Where the text of each of [`Self::fetches`] lies in a record.
    fn text_places(&self) -> Vec<usize> {
        let mut end = HEAD + 8 * self.args.len();
        let place = |fetch: &Fetch| {
            let start = end;
            end += if fetch.is_text() { usize::from(fetch.limit) } else { 0 };
            start
        };
        self.fetches().map(place).collect()
    }

    /// Bytes of a record, all text included, in whole words.
    #[must_use]
    pub fn record_size(&self) -> usize {
        let text: usize =
            self.fetches().filter(|fetch| fetch.is_text()).map(|fetch| usize::from(fetch.limit)).sum();
        (HEAD + 8 * self.args.len() + text).next_multiple_of(8)
    }

    /// The bytes of `struct probe`.
    ///
    /// # Panics
    /// When it has more than the grammar allows.
    #[must_use]
    pub fn bytes(&self, table: u16) -> Vec<u8> {
        let mut to = Vec::new();
        let places = self.text_places();
        let place = |index: usize| u32::try_from(places[index]).expect("limited by RECORD");
        for index in 0..ARGS {
            match self.args.get(index) {
                Some(fetch) => fetch.write(place(index), &mut to),
                None => Fetch::default().write(0, &mut to),
            }
        }
        self.ret.write(place(self.args.len()), &mut to);
        self.caller.write(0, &mut to);
        for index in 0..TESTS {
            let test = self.tests.get(index);
            to.extend(test.map_or(0, |test| test.value).to_le_bytes());
            to.extend(test.map_or([0; 3], |test| [test.slot, test.op, test.sign.into()]));
            to.extend([0; 5]);
        }
        to.resize(to.len().next_multiple_of(8), 0);
        to.extend(self.threshold.to_le_bytes());
        to.extend(self.most.to_le_bytes());
        to.extend(self.stack.code().to_le_bytes());
        to.extend(u32::try_from(self.record_size()).expect("small").to_le_bytes());
        to.extend(table.to_le_bytes());
        let count = |length: usize| u8::try_from(length).expect("limited by the grammar");
        to.extend([count(self.args.len()), count(self.tests.len()), self.cookie.into()]);
        to.extend([self.stacks.kernel.into(), self.stacks.user.into(), self.skip]);
        to.extend(self.adding.bytes());
        to.resize(to.len().next_multiple_of(8), 0);
        to
    }
}
