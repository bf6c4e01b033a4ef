//! Rows in columns, as they are in memory on both sides of the file.

use super::table::ColumnType;

/// Rows of one table, from one stream, in columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of the table.
    pub table: u16,
    /// The ring that the rows came from; [`crate::schema::frame::RECORDER`] for the recorder's own.
    pub stream: u16,
    /// Number of rows; every column that is present has as many.
    pub rows: usize,
    /// One per column of the table's definition, in its order.
    pub columns: Vec<Column>,
}

/// The values of one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Column {
    /// Not stored, or not asked for.
    #[default]
    Absent,
    /// One-byte numbers; signed ones as two's complement, here and below.
    U8(Vec<u8>),
    /// Two-byte numbers.
    U16(Vec<u16>),
    /// Four-byte numbers.
    U32(Vec<u32>),
    /// Eight-byte numbers.
    U64(Vec<u64>),
    /// Text or addresses.
    Text(Text),
}

/// Byte strings, stored one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// Length of each value in bytes.
    pub lengths: Vec<u32>,
    /// The values without separators.
    pub bytes: Vec<u8>,
}

impl Text {
    /// Adds one value.
    ///
    /// # Panics
    /// With a value of 4 GiB or more.
    pub fn push(&mut self, value: &[u8]) {
        self.lengths.push(u32::try_from(value.len()).expect("a value is at most 64 KiB"));
        self.bytes.extend_from_slice(value);
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        self.lengths.iter().map(move |&length| {
            let start = at;
            at += length as usize;
            &self.bytes[start..at]
        })
    }
}

impl Column {
    /// Adds a number, cut to the column's width; to texts an empty one, to what is absent nothing.
    pub fn push(&mut self, number: u64) {
        match self {
            Self::Absent => {}
            Self::U8(v) => v.push(number as u8),
            Self::U16(v) => v.push(number as u16),
            Self::U32(v) => v.push(number as u32),
            Self::U64(v) => v.push(number),
            Self::Text(v) => v.push(&[]),
        }
    }

    /// A column that is stored in the same way, without values.
    #[must_use]
    pub fn emptied(&self) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::U8(_) => Self::U8(Vec::new()),
            Self::U16(_) => Self::U16(Vec::new()),
            Self::U32(_) => Self::U32(Vec::new()),
            Self::U64(_) => Self::U64(Vec::new()),
            Self::Text(_) => Self::Text(Text::default()),
        }
    }

    /// Adds the values of another; false if that is stored in another way.
    pub fn append(&mut self, more: Self) -> bool {
        match (self, more) {
            (Self::Absent, Self::Absent) => {}
            (Self::U8(to), Self::U8(from)) => to.extend(from),
            (Self::U16(to), Self::U16(from)) => to.extend(from),
            (Self::U32(to), Self::U32(from)) => to.extend(from),
            (Self::U64(to), Self::U64(from)) => to.extend(from),
            (Self::Text(to), Self::Text(from)) => {
                to.lengths.extend(from.lengths);
                to.bytes.extend(from.bytes);
            }
            _ => return false,
        }
        true
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::Text(v) => v.lengths.len(),
        }
    }

    /// Whether it holds no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the values are stored as a definition of this type wants them.
    #[must_use]
    pub fn fits(&self, kind: ColumnType) -> bool {
        match (self, kind) {
            (Self::U8(_), ColumnType::Number { width: 1, .. })
            | (Self::U16(_), ColumnType::Number { width: 2, .. })
            | (Self::U32(_), ColumnType::Number { width: 4, .. })
            | (Self::U64(_), ColumnType::Number { width: 8, .. })
            | (Self::Text(_), ColumnType::Text)
            // What is of an unknown type cannot contradict it.
            | (_, ColumnType::Unknown(_))
            | (Self::Absent, _) => true,
            (Self::Text(text), ColumnType::Ip) => text.lengths.iter().all(|&length| length == 16),
            _ => false,
        }
    }

    /// Bytes that the values take as the record holds them.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len() * 2,
            Self::U32(v) => v.len() * 4,
            Self::U64(v) => v.len() * 8,
            Self::Text(v) => v.lengths.len() * 4 + v.bytes.len(),
        }
    }

    /// Where each text begins; nothing for numbers.
    #[must_use]
    pub fn starts(&self) -> Vec<u32> {
        let lengths = self.text().map_or(&[][..], |text| &text.lengths);
        let next = |at: &mut u32, length: &u32| Some(std::mem::replace(at, *at + length));
        lengths.iter().scan(0, next).collect()
    }

    /// Some of the values; `starts` says where each text begins.
    #[must_use]
    pub fn pick(&self, starts: &[u32], rows: &[u32]) -> Self {
        fn each<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|&row| values[row as usize]).collect()
        }
        match self {
            Self::Absent => Self::Absent,
            Self::U8(v) => Self::U8(each(v, rows)),
            Self::U16(v) => Self::U16(each(v, rows)),
            Self::U32(v) => Self::U32(each(v, rows)),
            Self::U64(v) => Self::U64(each(v, rows)),
            Self::Text(text) => {
                let mut picked = Text::default();
                for &row in rows {
                    let (row, start) = (row as usize, starts[row as usize] as usize);
                    picked.push(&text.bytes[start..start + text.lengths[row] as usize]);
                }
                Self::Text(picked)
            }
        }
    }

    /// The number in row `row`, widened without its sign; text and missing columns give `None`.
    #[must_use]
    pub fn number(&self, row: usize) -> Option<u64> {
        match self {
            Self::U8(v) => v.get(row).map(|&x| x.into()),
            Self::U16(v) => v.get(row).map(|&x| x.into()),
            Self::U32(v) => v.get(row).map(|&x| x.into()),
            Self::U64(v) => v.get(row).copied(),
            Self::Absent | Self::Text(_) => None,
        }
    }

    /// Takes the numbers in order, widened without their sign; text and missing columns have none.
    pub fn each_number(&self, mut take: impl FnMut(u64)) {
        match self {
            Self::U8(v) => v.iter().for_each(|&x| take(x.into())),
            Self::U16(v) => v.iter().for_each(|&x| take(x.into())),
            Self::U32(v) => v.iter().for_each(|&x| take(x.into())),
            Self::U64(v) => v.iter().for_each(|&x| take(x)),
            Self::Absent | Self::Text(_) => {}
        }
    }

    /// The values of a four-byte column; empty for any other.
    #[must_use]
    pub fn u32s(&self) -> &[u32] {
        if let Self::U32(v) = self { v } else { &[] }
    }

    /// The values of an eight-byte column; empty for any other.
    #[must_use]
    pub fn u64s(&self) -> &[u64] {
        if let Self::U64(v) = self { v } else { &[] }
    }

    /// The text of a text column.
    #[must_use]
    pub fn text(&self) -> Option<&Text> {
        if let Self::Text(v) = self { Some(v) } else { None }
    }
}
