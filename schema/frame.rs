//! The header of a frame: a zstd skippable frame of our own fixed layout.
//!
//! All numbers are little-endian.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | zstd's skippable magic, 0x184D2A5A |
//! | 4 | 4 | bytes that follow: 60 + 12 × parts |
//! | 8 | 8 | `tapedeck`: where a reader finds its feet again after damage |
//! | 16 | 1 | kind |
//! | 17 | 1 | lowest format number that a reader must implement (also in `Host`, which may be damaged) |
//! | 18 | 2 | parts of the payload: messages, each one or a few zstd frames |
//! | 20 | 2 | table |
//! | 22 | 2 | stream: the ring, or 65535 for the recorder itself |
//! | 24 | 4 | rows |
//! | 28 | 4 | epoch |
//! | 32 | 8 | sequence number in the stream, from 0, without gaps |
//! | 40 | 8 | smallest `ts` of the rows |
//! | 48 | 8 | largest `ts` of the rows |
//! | 56 | 8 | rows of this table and stream in all frames before: what a missing frame held |
//! | 64 | 12 × parts | per part: column (65535: all), 0, stored bytes, raw bytes |
//! | … | 4 | CRC-32C of everything from offset 8 to here |
//!
//! Why parts and not a header for each column: rows stand or fall together, one sequence number
//! covers them, and a batch of ten columns saves 570 bytes.

use super::error::{FormatError, Result};

/// zstd's magic for skippable frames is 0x184D2A50 to …5F; …50 and …5E belong to others.
pub const MAGIC: u32 = 0x184D_2A5A;
/// Marks a header of ours.
pub const SYNC: [u8; 8] = *b"tapedeck";
/// Marks the last frame of a cleanly ended file: magic, 16, this, offset of the footer.
pub const END: [u8; 8] = *b"tapeends";
/// Length of the last frame.
pub const TRAILER: usize = 24;
/// Stream number of what the recorder itself writes.
pub const RECORDER: u16 = u16::MAX;
/// In a part: the message holds all columns.
pub const ALL_COLUMNS: u16 = u16::MAX;
/// A header's length up to its parts.
pub const FIXED: usize = 64;
const PART: usize = 12;
/// A table has at most this many columns, so a header at most this many parts.
pub const MAX_PARTS: usize = 1024;
/// No frame's payload is larger, compressed or not, nor what its rows decode to: a few constant columns
/// of many rows take no bytes in the file, so the sizes of messages alone bound nothing.
pub const MAX_MESSAGE: u32 = 64 << 20;
/// No frame holds more rows.
pub const MAX_ROWS: u32 = 1 << 22;
/// A writer refuses larger batches: whatever the transforms add, the frame then stays below [`MAX_MESSAGE`].
pub const MAX_APPEND: usize = 32 << 20;
/// A trace has at most this many tables.
pub const MAX_TABLES: usize = 1024;
/// … with this many columns in all: definitions that all share one list are small in the file and large in memory.
pub const MAX_COLUMNS: usize = 1 << 14;
/// What readers must implement to read what this build writes.
pub const REQUIRED_READER: u8 = 1;
/// Longest header.
pub const MAX_HEADER: usize = FIXED + PART * MAX_PARTS + 4;

/// What a frame holds. Readers skip kinds that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine and the recording; first.
    Host,
    /// Table definitions.
    Tables,
    /// Rows of the clock table.
    Clock,
    /// Rows of an identity table.
    Identity,
    /// Rows of an event table.
    Events,
    /// Rows of the recorder's tables: losses, probes, cost.
    Stats,
    /// Index.
    Checkpoint,
    /// Totals; last.
    Footer,
    /// From a newer writer.
    Unknown(u8),
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::Tables => 2,
            Self::Clock => 3,
            Self::Identity => 4,
            Self::Events => 5,
            Self::Stats => 6,
            Self::Checkpoint => 7,
            Self::Footer => 8,
            Self::Unknown(number) => number,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Host,
            2 => Self::Tables,
            3 => Self::Clock,
            4 => Self::Identity,
            5 => Self::Events,
            6 => Self::Stats,
            7 => Self::Checkpoint,
            8 => Self::Footer,
            other => Self::Unknown(other),
        }
    }

    /// Whether the payload is rows of a table.
    #[must_use]
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Clock | Self::Identity | Self::Events | Self::Stats)
    }
}

impl Kind {
    /// Whether a frame that says that it has rows means rows of a table: those of a newer writer are there, though
    /// nobody here can read them.
    pub(super) fn may_have_rows(self) -> bool {
        self.has_rows() || matches!(self, Self::Unknown(_))
    }
}

/// A message of the payload: one or a few zstd frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The column it holds, or [`ALL_COLUMNS`].
    pub column: u16,
    /// Bytes in the file.
    pub stored: u32,
    /// Bytes of the message.
    pub raw: u32,
}

/// The header of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: Kind,
    /// Table of the rows.
    pub table: u16,
    /// Ring that the rows came from.
    pub stream: u16,
    /// Number of rows.
    pub rows: u32,
    /// The part of the file that stands alone and that this belongs to.
    pub epoch: u32,
    /// Number of this frame in its stream.
    pub sequence: u64,
    /// Smallest `ts`, `CLOCK_MONOTONIC` ns.
    pub min_time: u64,
    /// Largest `ts`.
    pub max_time: u64,
    /// Rows of the same table and stream before this frame.
    pub rows_before: u64,
    /// The payload.
    pub parts: Vec<Part>,
}

impl FrameHeader {
    /// Bytes of the header itself.
    #[must_use]
    pub fn header_length(&self) -> usize {
        FIXED + PART * self.parts.len() + 4
    }

    /// Bytes of header and payload.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.header_length() as u64 + self.parts.iter().map(|part| u64::from(part.stored)).sum::<u64>()
    }

    /// The header as it is in the file.
    ///
    /// # Panics
    /// With more than [`MAX_PARTS`] parts.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        assert!(self.parts.len() <= MAX_PARTS, "a frame has at most {MAX_PARTS} parts");
        let length = self.header_length();
        let mut to = Vec::with_capacity(length);
        to.extend(MAGIC.to_le_bytes());
        to.extend(u32::try_from(length - 8).expect("bounded by MAX_PARTS").to_le_bytes());
        to.extend(SYNC);
        to.extend([self.kind.number(), REQUIRED_READER]);
        to.extend(u16::try_from(self.parts.len()).expect("bounded by MAX_PARTS").to_le_bytes());
        to.extend(self.table.to_le_bytes());
        to.extend(self.stream.to_le_bytes());
        to.extend(self.rows.to_le_bytes());
        to.extend(self.epoch.to_le_bytes());
        to.extend(self.sequence.to_le_bytes());
        to.extend(self.min_time.to_le_bytes());
        to.extend(self.max_time.to_le_bytes());
        to.extend(self.rows_before.to_le_bytes());
        for part in &self.parts {
            to.extend(part.column.to_le_bytes());
            to.extend([0, 0]);
            to.extend(part.stored.to_le_bytes());
            to.extend(part.raw.to_le_bytes());
        }
        to.extend(crc32c::crc32c(&to[8..]).to_le_bytes());
        to
    }

    /// The length of the header that begins `bytes`, which hold at least [`FIXED`]; `None` if none does.
    #[must_use]
    pub fn announced_length(bytes: &[u8]) -> Option<usize> {
        let parts = usize::from(u16_at(bytes, 18)?);
        let length = FIXED + PART * parts + 4;
        let ours = u32_at(bytes, 0)? == MAGIC && bytes.get(8..16)? == SYNC && parts <= MAX_PARTS;
        (ours && u32_at(bytes, 4)? as usize == length - 8).then_some(length)
    }

    /// Reads a header and checks it. `offset` is for the message only.
    ///
    /// # Errors
    /// When the bytes are too few, the checksum differs, or a length is over its cap.
    pub fn parse(bytes: &[u8], offset: u64) -> Result<Self> {
        let damaged = |what: String| FormatError::Damaged { offset, what };
        let length =
            Self::announced_length(bytes).ok_or_else(|| damaged("expected a frame header".into()))?;
        let bytes = bytes.get(..length).ok_or_else(|| damaged(format!("header of {length} bytes is cut")))?;
        let stored = u32_at(bytes, length - 4).unwrap_or(0);
        let found = crc32c::crc32c(&bytes[8..length - 4]);
        if stored != found {
            return Err(damaged(format!("header checksum is {found:#010x}, expected {stored:#010x}")));
        }
        if bytes[17] > REQUIRED_READER {
            return Err(FormatError::TooNew {
                required: bytes[17].into(),
                supported: REQUIRED_READER.into(),
            });
        }
        let header = Self::fields(bytes);
        header.check_caps().map_err(damaged)?;
        Ok(header)
    }

    /// The bytes have been checked for length.
    fn fields(bytes: &[u8]) -> Self {
        let u16_of = |at| u16_at(bytes, at).unwrap_or(0);
        let u32_of = |at| u32_at(bytes, at).unwrap_or(0);
        let u64_of = |at| u64_at(bytes, at).unwrap_or(0);
        let part = |index: usize| {
            let at = FIXED + PART * index;
            Part { column: u16_of(at), stored: u32_of(at + 4), raw: u32_of(at + 8) }
        };
        Self {
            kind: Kind::from_number(bytes[16]),
            table: u16_of(20),
            stream: u16_of(22),
            rows: u32_of(24),
            epoch: u32_of(28),
            sequence: u64_of(32),
            min_time: u64_of(40),
            max_time: u64_of(48),
            rows_before: u64_of(56),
            parts: (0..usize::from(u16_of(18))).map(part).collect(),
        }
    }

    fn check_caps(&self) -> std::result::Result<(), String> {
        if self.rows > MAX_ROWS {
            return Err(format!("{} rows in a frame, at most {MAX_ROWS} are possible", self.rows));
        }
        let sum = |bytes: fn(&Part) -> u32| self.parts.iter().map(|part| u64::from(bytes(part))).sum::<u64>();
        let largest = sum(|part| part.stored).max(sum(|part| part.raw));
        if largest > MAX_MESSAGE.into() {
            return Err(format!("a payload of {largest} bytes, at most {MAX_MESSAGE} are possible"));
        }
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The eight bytes at `at` as a number.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The frame that ends a file: where its footer is.
#[must_use]
pub fn trailer(footer: u64) -> [u8; TRAILER] {
    let mut to = [0; TRAILER];
    to[..4].copy_from_slice(&MAGIC.to_le_bytes());
    to[4..8].copy_from_slice(&16u32.to_le_bytes());
    to[8..16].copy_from_slice(&END);
    to[16..].copy_from_slice(&footer.to_le_bytes());
    to
}

/// Where the footer is, if these are the last bytes of a cleanly ended file.
#[must_use]
pub fn footer_offset(bytes: &[u8]) -> Option<u64> {
    let ours = u32_at(bytes, 0)? == MAGIC && u32_at(bytes, 4)? == 16 && bytes.get(8..16)? == END;
    if ours { u64_at(bytes, 16) } else { None }
}
