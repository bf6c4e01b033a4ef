//! Making a column small before zstd sees it, and undoing it.
//!
//! Integers become differences where neighbours are alike (to the smallest value, to the row before,
//! or to the last row with the same key), and then byte planes: all lowest bytes, all second bytes,
//! and so on, as many planes as the largest difference needs. The writer tries each transform on a
//! sample and takes the one whose planes have the lowest entropy; the column names it.

use super::column::Text;
use super::error::{FormatError, Result};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Which difference is stored; see `Numbers.Transform` in `trace.capnp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// To `base`.
    Offset,
    /// To the row before, zigzag; the first to `base`.
    Delta,
    /// To the last row with the same value in column `by`, zigzag; the first to `base`.
    DeltaBy,
}

/// A transformed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// How to undo it.
    pub transform: Transform,
    /// See [`Transform`].
    pub base: u64,
    /// Index of the key column of [`Transform::DeltaBy`].
    pub by: u16,
    /// `rows` bytes per plane, lowest first.
    pub planes: Vec<u8>,
}

/// The key column that a `by` hint points at.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Its index in the table.
    pub column: u16,
    /// Its values.
    pub values: &'a [u32],
}

/// An unsigned integer that a column can hold.
#[expect(clippy::return_self_not_must_use, reason = "arithmetic: nobody calls it for an effect")]
pub trait Number: Copy + Default + Ord {
    /// Bytes.
    const WIDTH: usize;
    /// The value with only the sign bit set.
    const SIGN: Self;
    /// Widened.
    fn wide(self) -> u64;
    /// Cut to the width.
    fn cut(wide: u64) -> Self;
    /// self − other, modulo the width.
    fn minus(self, other: Self) -> Self;
    /// self + other, modulo the width.
    fn plus(self, other: Self) -> Self;
    /// Sign flipped: orders two's complement numbers as unsigned ones.
    fn flip(self) -> Self;
    /// Small differences of either sign become small numbers.
    fn zigzag(self) -> Self;
    /// Undoes [`Number::zigzag`].
    fn unzigzag(self) -> Self;
    /// Adds a byte plane.
    fn with_byte(self, byte: u8, plane: u32) -> Self;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const WIDTH: usize = size_of::<$type>();
            const SIGN: Self = 1 << (<$type>::BITS - 1);
            fn wide(self) -> u64 { self.into() }
            #[allow(clippy::unnecessary_cast, reason = "u64 is one of the types")]
            fn cut(wide: u64) -> Self { wide as $type }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn flip(self) -> Self { self ^ Self::SIGN }
            fn zigzag(self) -> Self { (self << 1) ^ (0 as $type).wrapping_sub(self >> (<$type>::BITS - 1)) }
            fn unzigzag(self) -> Self { (self >> 1) ^ (0 as $type).wrapping_sub(self & 1) }
            fn with_byte(self, byte: u8, plane: u32) -> Self { self | (<$type>::from(byte) << (8 * plane)) }
        }
    )*};
}
number!(u8, u16, u32, u64);

const SAMPLE: usize = 1024;

/// Transforms a column. `signed` orders the values as two's complement.
#[must_use]
pub fn encode<T: Number>(values: &[T], signed: bool, keys: Option<Keys>) -> Numbers {
    let Some(&first) = values.first() else {
        return Numbers { transform: Transform::Offset, base: 0, by: 0, planes: Vec::new() };
    };
    let keys = keys.filter(|keys| keys.values.len() == values.len() && LastByKey::<T>::fits(keys.values));
    let low = smallest(values, signed);
    let sample = values.len().min(SAMPLE);
    let mut best = (Transform::Offset, entropy(values[..sample].iter().map(|&v| v.minus(low))));
    let mut consider = |transform, cost| {
        if cost < best.1 {
            best = (transform, cost);
        }
    };
    consider(Transform::Delta, entropy(deltas(&values[..sample], first)));
    if let Some(keys) = keys {
        consider(
            Transform::DeltaBy,
            entropy(keyed_deltas(&values[..sample], &keys.values[..sample], first).into_iter()),
        );
    }
    let by = keys.map_or(0, |keys| keys.column);
    match (best.0, keys) {
        (Transform::Delta, _) => pack(Transform::Delta, first, 0, &deltas(values, first).collect::<Vec<T>>()),
        (Transform::DeltaBy, Some(keys)) => {
            pack(Transform::DeltaBy, first, by, &keyed_deltas(values, keys.values, first))
        }
        _ => pack(Transform::Offset, low, 0, &values.iter().map(|&v| v.minus(low)).collect::<Vec<T>>()),
    }
}

fn smallest<T: Number>(values: &[T], signed: bool) -> T {
    let low = |values: &mut dyn Iterator<Item = T>| values.min().unwrap_or_default();
    if signed { low(&mut values.iter().map(|v| v.flip())).flip() } else { low(&mut values.iter().copied()) }
}

fn deltas<T: Number>(values: &[T], first: T) -> impl Iterator<Item = T> {
    values.iter().scan(first, |before, &value| {
        let difference = value.minus(*before).zigzag();
        *before = value;
        Some(difference)
    })
}

fn keyed_deltas<T: Number>(values: &[T], keys: &[u32], first: T) -> Vec<T> {
    let mut last = LastByKey::new(keys, first);
    values.iter().zip(keys).map(|(&value, &key)| value.minus(last.replace(key, value)).zigzag()).collect()
}

/// The last value per key, in a table as long as the span of keys: ids are dense, so that is short.
struct LastByKey<T> {
    low: u32,
    last: Vec<T>,
}

impl<T: Number> LastByKey<T> {
    /// Writer and reader both keep to this, so neither can be made to allocate much.
    fn fits(keys: &[u32]) -> bool {
        let low = keys.iter().min().copied().unwrap_or(0);
        let high = keys.iter().max().copied().unwrap_or(0);
        ((high - low) as usize) < 4 * keys.len() + 4096
    }

    fn new(keys: &[u32], first: T) -> Self {
        let low = keys.iter().min().copied().unwrap_or(0);
        let high = keys.iter().max().copied().unwrap_or(0);
        Self { low, last: vec![first; (high - low) as usize + 1] }
    }

    fn replace(&mut self, key: u32, value: T) -> T {
        std::mem::replace(&mut self.last[(key - self.low) as usize], value)
    }
}

/// n × log2(n) for each count that a sample can have: small frames are mostly this logarithm otherwise.
static WEIGHTS: LazyLock<[f32; SAMPLE + 1]> =
    LazyLock::new(|| std::array::from_fn(|count| count as f32 * (count.max(1) as f32).log2()));

/// Bits that an ideal order-0 coder would need for each byte plane of a sample, summed.
fn entropy<T: Number>(values: impl Iterator<Item = T>) -> f32 {
    let mut counts = [[0u16; 256]; 8];
    let counts = &mut counts[..T::WIDTH];
    let mut total = 0;
    for value in values {
        total += 1;
        let bytes = value.wide().to_le_bytes();
        for (counts, byte) in counts.iter_mut().zip(bytes) {
            counts[usize::from(byte)] += 1;
        }
    }
    let weights = &*WEIGHTS;
    counts
        .iter()
        .map(|counts| weights[total] - counts.iter().map(|&count| weights[usize::from(count)]).sum::<f32>())
        .sum()
}

fn pack<T: Number>(transform: Transform, base: T, by: u16, values: &[T]) -> Numbers {
    let all = values.iter().fold(0, |all, value| all | value.wide());
    let count = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
    let mut planes = vec![0; count * values.len()];
    for (plane, bytes) in planes.chunks_exact_mut(values.len().max(1)).enumerate() {
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = value.wide().to_le_bytes()[plane];
        }
    }
    Numbers { transform, base: base.wide(), by, planes }
}

/// Undoes [`encode`]. `keys` holds the values of column `by` when the transform needs them.
///
/// # Errors
/// When the planes do not fit the number of rows or the width.
pub fn decode<T: Number>(numbers: &Numbers, rows: usize, keys: Option<&[u32]>) -> Result<Vec<T>> {
    let planes = numbers.planes.len().checked_div(rows).unwrap_or(0);
    if planes * rows != numbers.planes.len() || planes > T::WIDTH {
        let found = numbers.planes.len();
        return Err(FormatError::Batch(format!(
            "{found} bytes of planes for {rows} rows of {} bytes",
            T::WIDTH
        )));
    }
    let mut values: Vec<T> = unpack(&numbers.planes, rows);
    let base = T::cut(numbers.base);
    match numbers.transform {
        Transform::Offset => values.iter_mut().for_each(|v| *v = v.plus(base)),
        Transform::Delta => {
            let mut before = base;
            for value in &mut values {
                before = before.plus(value.unzigzag());
                *value = before;
            }
        }
        Transform::DeltaBy => undo_keyed(&mut values, keys, base)?,
    }
    Ok(values)
}

fn undo_keyed<T: Number>(values: &mut [T], keys: Option<&[u32]>, base: T) -> Result<()> {
    let keys = keys.unwrap_or(&[]);
    if keys.len() != values.len() || !LastByKey::<T>::fits(keys) {
        return Err(FormatError::Batch(format!("{} keys for {} values", keys.len(), values.len())));
    }
    let mut last = LastByKey::new(keys, base);
    for (value, &key) in values.iter_mut().zip(keys) {
        let slot = &mut last.last[(key - last.low) as usize];
        *slot = slot.plus(value.unzigzag());
        *value = *slot;
    }
    Ok(())
}

fn unpack<T: Number>(planes: &[u8], rows: usize) -> Vec<T> {
    let mut planes = planes.chunks_exact(rows.max(1));
    // The lowest plane makes the values: most columns have no other, and memory is written once.
    let lowest =
        planes.next().map(|bytes| bytes.iter().map(|&byte| T::default().with_byte(byte, 0)).collect());
    let mut values: Vec<T> = lowest.unwrap_or_else(|| vec![T::default(); rows]);
    for (plane, bytes) in (1u32..).zip(planes) {
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = value.with_byte(byte, plane);
        }
    }
    values
}

/// Text with each distinct value once; `None` where that would not be shorter.
#[must_use]
pub fn dictionary(text: &Text) -> Option<(Vec<u32>, Text)> {
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let mut entries = Text::default();
    let mut codes = Vec::with_capacity(text.lengths.len());
    let limit = text.lengths.len() / 2;
    for value in text.iter() {
        let next = u32::try_from(numbers.len()).ok()?;
        let code = *numbers.entry(value).or_insert_with(|| {
            entries.push(value);
            next
        });
        codes.push(code);
        if numbers.len() > limit {
            return None;
        }
    }
    Some((codes, entries))
}

/// Undoes [`dictionary`].
///
/// # Errors
/// When a code has no entry, or the text would be longer than `room`.
pub fn expand(codes: &[u32], entries: &Text, room: usize) -> Result<Text> {
    let values: Vec<&[u8]> = entries.iter().collect();
    let mut text = Text { lengths: Vec::with_capacity(codes.len()), bytes: Vec::new() };
    for &code in codes {
        let value = values.get(code as usize);
        let value = value
            .ok_or_else(|| FormatError::Batch(format!("code {code} in a dictionary of {}", values.len())))?;
        if text.bytes.len() + value.len() > room {
            return Err(FormatError::Batch(format!("text of one batch exceeds its {room} bytes")));
        }
        text.push(value);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: Number + std::fmt::Debug>(values: &[T], signed: bool, keys: &[u32]) {
        let keyed = Keys { column: 3, values: keys };
        for keys in [None, Some(keyed)] {
            let numbers = encode(values, signed, keys);
            let back: Vec<T> =
                decode(&numbers, values.len(), keys.map(|keys| keys.values)).expect("own encoding");
            assert_eq!(back, values);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(values in prop::collection::vec(any::<u64>(), 0..300), signed: bool) {
            let keys: Vec<u32> = values.iter().map(|v| (v % 7) as u32).collect();
            round_trip(&values, signed, &keys);
            round_trip(&values.iter().map(|&v| v as u32).collect::<Vec<_>>(), signed, &keys);
            round_trip(&values.iter().map(|&v| v as u16).collect::<Vec<_>>(), signed, &keys);
            round_trip(&values.iter().map(|&v| v as u8).collect::<Vec<_>>(), signed, &keys);
        }

        #[test]
        fn any_text_comes_back(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..60)) {
            let mut text = Text::default();
            for value in &values {
                text.push(value);
            }
            if let Some((codes, entries)) = dictionary(&text) {
                let room = text.bytes.len();
                prop_assert_eq!(expand(&codes, &entries, room).expect("own dictionary"), text);
            }
        }

        #[test]
        fn any_planes_are_refused_or_read(planes in prop::collection::vec(any::<u8>(), 0..64), rows in 0usize..40, base: u64, kind in 0u8..3) {
            let transform = [Transform::Offset, Transform::Delta, Transform::DeltaBy][usize::from(kind)];
            let numbers = Numbers { transform, base, by: 0, planes };
            let keys: Vec<u32> = (0..rows as u32).map(|row| row.wrapping_mul(0x9E37_79B9)).collect();
            if let Ok(values) = decode::<u32>(&numbers, rows, Some(&keys)) {
                prop_assert_eq!(values.len(), rows);
            }
        }
    }

    #[test]
    fn sequence_numbers_of_mixed_sockets_need_one_plane() {
        let keys: Vec<u32> = (0..1000).map(|row| row % 5).collect();
        let values: Vec<u32> = (0..1000u32).map(|row| (row % 5) * 0x1234_5678 + row / 5 * 100).collect();
        let numbers = encode(&values, false, Some(Keys { column: 0, values: &keys }));
        assert_eq!(numbers.transform, Transform::DeltaBy);
    }

    #[test]
    fn a_constant_takes_no_bytes() {
        let numbers = encode(&[-5i32 as u32; 100], true, None);
        assert_eq!((numbers.base as u32, numbers.planes.len()), (-5i32 as u32, 0));
    }
}
