//! Undoing a transform ([`super::transform`]): from byte planes to the values of a column.
//!
//! This is most of what reading costs beside zstd, so memory is used again from frame to frame (fresh
//! memory costs a page fault per 4 KiB), bytes are put together in blocks of fixed length, which the
//! compiler turns into vector instructions, and what columns with one key have in common is found once.

use super::column::Column;
use super::error::{FormatError, Result};
use super::order;
use super::transform::{By, Number, Numbers, Span, Transform};

/// Rows that are put together at a time: their planes and values stay in the nearest cache.
const BLOCK: usize = 256;
/// Larger buffers than this many bytes are not kept: no usual frame needs them.
const KEPT: usize = 2 << 20;

/// What decoding a frame leaves for the next one.
#[derive(Default)]
pub struct Spare {
    /// Buffers of columns, by width.
    pub(super) u8s: Vec<Vec<u8>>,
    pub(super) u16s: Vec<Vec<u16>>,
    pub(super) u32s: Vec<Vec<u32>>,
    pub(super) u64s: Vec<Vec<u64>>,
    links: Links,
    /// Planes in the order of rows.
    planes: Vec<u8>,
}

/// Where the key of each row was last met: the same for every column with this key. Kept as positions, so that
/// no column has to ask which rows are new: with many flows nobody could predict the answer.
#[derive(Default)]
struct Links {
    /// The key column; `None`: not yet known for this frame.
    by: Option<u16>,
    /// Per row, the row before with the same key; where there is none, the number of rows.
    before: Vec<u32>,
    /// Per row, where it is stored if rows whose key is new stand before all others.
    stored: Vec<u32>,
    /// Rows whose key is new.
    new: usize,
    /// Per key, its last row; between frames only memory.
    last: Vec<u32>,
}

impl Spare {
    /// What was known of the frame before is no more.
    pub(super) fn next_frame(&mut self) {
        self.links.by = None;
    }

    /// Takes a column's memory back.
    pub(super) fn keep(&mut self, column: Column) {
        match column {
            Column::U8(values) => keep(values, &mut self.u8s),
            Column::U16(values) => keep(values, &mut self.u16s),
            Column::U32(values) => keep(values, &mut self.u32s),
            Column::U64(values) => keep(values, &mut self.u64s),
            Column::Absent | Column::Text(_) => {}
        }
    }

    fn room<T: Number>(&mut self, rows: usize) -> Vec<T> {
        let mut values = T::spare(self).pop().unwrap_or_default();
        // Every value is overwritten: only what is longer than before has to be zeroed.
        values.resize(rows, T::default());
        values
    }
}

fn keep<T>(values: Vec<T>, to: &mut Vec<Vec<T>>) {
    if values.capacity() > 0 && values.capacity() * size_of::<T>() <= KEPT {
        to.push(values);
    }
}

impl Links {
    fn find(&mut self, by: By, rows: usize) -> Result<()> {
        let (column, keys) = (by.column, by.keys());
        // A column without rows names no keys, whatever it claims.
        if self.by == Some(column) && keys.len() == rows && self.before.len() == rows {
            return Ok(());
        }
        let span = Span::of(keys).filter(|_| keys.len() == rows);
        let span =
            span.ok_or_else(|| FormatError::Batch(format!("{} keys for {rows} values", keys.len())))?;
        let none = rows as u32; // at most MAX_ROWS
        self.last.clear();
        self.last.resize(span.length(), none);
        let last = &mut self.last[..];
        let before = |(row, &key): (u32, &u32)| std::mem::replace(&mut last[span.place(key)], row);
        self.before.clear();
        self.before.extend((0u32..).zip(keys).map(before));
        self.new = self.before.iter().filter(|&&before| before == none).count();
        let (new, mut met) = (self.new as u32, 0);
        let stored = |(row, &before): (u32, &u32)| {
            let at = if before == none { met } else { new + row - met };
            met += u32::from(before == none);
            at
        };
        self.stored.clear();
        self.stored.extend((0u32..).zip(&self.before).map(stored));
        self.by = Some(column);
        Ok(())
    }
}

/// Undoes [`super::transform::encode`]. `by` is the other column when the transform needs it.
///
/// # Errors
/// When the planes do not fit the number of rows or the width.
pub fn decode<T: Number>(
    numbers: &Numbers,
    planes: &[u8],
    rows: usize,
    by: Option<By>,
    spare: &mut Spare,
) -> Result<Vec<T>> {
    let by = by.unwrap_or(By { column: numbers.by, values: &Column::Absent });
    if matches!(numbers.transform, Transform::DeltaBy | Transform::Apart) {
        spare.links.find(by, rows)?;
    }
    let mut memory = std::mem::take(&mut spare.planes);
    let values = match numbers.transform {
        Transform::Apart => apart(numbers, planes, spare, &mut memory),
        _ => in_order::<T>(planes, rows, numbers.sorted, &mut memory)
            .and_then(|planes| in_place(numbers, planes, by, spare.room(rows), &spare.links)),
    };
    spare.planes = memory;
    let mut values = values?;
    values.truncate(rows);
    Ok(values)
}

/// The planes in the order of rows.
fn in_order<'a, T: Number>(
    planes: &'a [u8],
    rows: usize,
    sorted: u8,
    memory: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    if sorted == 0 {
        return Ok(planes);
    }
    order::restore(planes, rows, sorted, memory).ok_or_else(|| wrong::<T>(planes, rows))
}

/// Transforms of which each row is stored where it belongs.
fn in_place<T: Number>(
    numbers: &Numbers,
    planes: &[u8],
    by: By,
    mut values: Vec<T>,
    links: &Links,
) -> Result<Vec<T>> {
    let base = T::cut(numbers.base);
    let mut before = base;
    match numbers.transform {
        Transform::Delta => unpack(planes, &mut values, |block| {
            unzigzag(block);
            for value in block {
                before = before.plus(*value);
                *value = before;
            }
        })?,
        Transform::Span => {
            let mut spans = by.spans().iter();
            if spans.len() != values.len() {
                let (spans, rows) = (spans.len(), values.len());
                return Err(FormatError::Batch(format!("{spans} spans for {rows} values")));
            }
            unpack(planes, &mut values, |block| {
                unzigzag(block);
                for (value, &span) in block.iter_mut().zip(&mut spans) {
                    before = before.plus(*value).plus(T::cut(span));
                    *value = before;
                }
            })?;
        }
        Transform::DeltaBy => {
            unpack(planes, &mut values, unzigzag)?;
            values.push(base);
            for (row, &before) in links.before.iter().enumerate() {
                values[row] = values[row].plus(values[before as usize]);
            }
        }
        _ if planes.is_empty() => values.fill(base),
        _ => unpack(planes, &mut values, |block| add(block, base))?,
    }
    Ok(values)
}

/// Rows whose key is new are stored before all others.
fn apart<T: Number>(
    numbers: &Numbers,
    planes: &[u8],
    spare: &mut Spare,
    memory: &mut Vec<u8>,
) -> Result<Vec<T>> {
    let rows = spare.links.before.len();
    let (mut values, mut stored): (Vec<T>, Vec<T>) = (spare.room(rows), spare.room(rows));
    let links = &spare.links;
    let new = links.new * usize::from(numbers.new_planes);
    let (new, others) = planes.split_at_checked(new).ok_or_else(|| wrong::<T>(planes, links.new))?;
    let others = in_order::<T>(others, rows - links.new, numbers.sorted, memory)?;
    let base = T::cut(numbers.base);
    unpack(new, &mut stored[..links.new], |block| add(block, base))?;
    unpack(others, &mut stored[links.new..], unzigzag)?;
    values.push(T::default());
    for (row, (&before, &at)) in links.before.iter().zip(&links.stored).enumerate() {
        values[row] = values[before as usize].plus(stored[at as usize]);
    }
    keep(stored, T::spare(spare));
    Ok(values)
}

fn add<T: Number>(block: &mut [T], base: T) {
    for value in block {
        *value = value.plus(base);
    }
}

fn unzigzag<T: Number>(block: &mut [T]) {
    for value in block {
        *value = value.unzigzag();
    }
}

fn wrong<T: Number>(planes: &[u8], rows: usize) -> FormatError {
    FormatError::Batch(format!("{} bytes of planes for {rows} rows of {} bytes", planes.len(), T::WIDTH))
}

/// The values of all rows; each block is `undo`ne while it is near.
fn unpack<T: Number>(planes: &[u8], to: &mut [T], undo: impl FnMut(&mut [T])) -> Result<()> {
    let count = planes.len().checked_div(to.len()).unwrap_or(0);
    if count * to.len() != planes.len() || count > T::WIDTH {
        return Err(wrong::<T>(planes, to.len()));
    }
    // A loop for each number of planes: the compiler knows it, and takes many rows at once. As many fit a
    // register as the narrowest type that holds the planes allows, so they are put together in that.
    match count {
        0 => together::<T, u8, 0>(planes, to, undo),
        1 => together::<T, u8, 1>(planes, to, undo),
        2 => together::<T, u16, 2>(planes, to, undo),
        3 => together::<T, u32, 3>(planes, to, undo),
        4 => together::<T, u32, 4>(planes, to, undo),
        5 => together::<T, u64, 5>(planes, to, undo),
        6 => together::<T, u64, 6>(planes, to, undo),
        7 => together::<T, u64, 7>(planes, to, undo),
        _ => together::<T, u64, 8>(planes, to, undo),
    }
    Ok(())
}

fn together<T: Number, Narrow: Number, const N: usize>(
    planes: &[u8],
    to: &mut [T],
    mut undo: impl FnMut(&mut [T]),
) {
    let rows = to.len();
    let planes: [&[u8]; N] = std::array::from_fn(|plane| &planes[plane * rows..][..rows]);
    let (blocks, rest) = to.as_chunks_mut::<BLOCK>();
    for (at, block) in blocks.iter_mut().enumerate() {
        let bytes = planes.map(|plane| plane[at * BLOCK..].first_chunk().expect("as many bytes as rows"));
        join::<T, Narrow, N>(bytes, block);
        undo(block);
    }
    if !rest.is_empty() {
        let mut bytes = [[0; BLOCK]; N];
        for (bytes, plane) in bytes.iter_mut().zip(planes) {
            bytes[..rest.len()].copy_from_slice(&plane[rows - rest.len()..]);
        }
        let mut block = [T::default(); BLOCK];
        join::<T, Narrow, N>(bytes.each_ref(), &mut block);
        rest.copy_from_slice(&block[..rest.len()]);
        undo(rest);
    }
}

/// Two loops: in one, the compiler would work at the width of the wider type, which is too few rows to be worth it.
#[inline]
fn join<T: Number, Narrow: Number, const N: usize>(planes: [&[u8; BLOCK]; N], to: &mut [T; BLOCK]) {
    let mut narrow = [Narrow::default(); BLOCK];
    for (row, value) in narrow.iter_mut().enumerate() {
        let bytes = planes.iter().zip(0u32..);
        *value = bytes.fold(Narrow::default(), |value, (plane, at)| value.with_byte(plane[row], at));
    }
    to.iter_mut().zip(narrow).for_each(|(to, value)| *to = T::cut(value.wide()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_column_does_not_go_by_the_keys_of_another() {
        let numbers = Numbers { transform: Transform::DeltaBy, base: 3, by: 7, new_planes: 0, sorted: 0 };
        let mut spare = Spare::default();
        let mut read = |rows, by| decode::<u32>(&numbers, &[], rows, by, &mut spare);
        let keys = Column::U32(vec![1, 2, 1]);
        let by = Some(By { column: 7, values: &keys });
        assert_eq!(read(3, by).expect("no differences"), [3, 3, 3]);
        assert!(read(0, None).expect("nothing").is_empty());
        assert!(read(3, None).is_err());
    }

    #[test]
    fn kept_memory_is_used_again_and_is_bounded() {
        let mut spare = Spare::default();
        let values: Vec<u64> = spare.room(1000);
        let place = values.as_ptr();
        spare.keep(Column::U64(values));
        spare.keep(Column::U64(Vec::with_capacity(KEPT)));
        assert_eq!(spare.u64s.len(), 1);
        let again: Vec<u64> = spare.room(900);
        assert_eq!(again.as_ptr(), place);
    }
}
