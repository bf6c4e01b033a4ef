//! Making a column small before zstd sees it; [`super::undo`] has the way back.
//!
//! Integers become differences where neighbours are alike (to the smallest value, to the row before,
//! or to the last row with the same key), and then byte planes: all lowest bytes, all second bytes,
//! and so on, as many planes as the largest difference needs. What is of rows whose key is new has planes
//! of its own, and planes that are smaller so are put in the order of the plane above ([`super::order`]). The
//! writer tries each transform on a sample and takes the one whose planes have the lowest entropy; the
//! column names it.

use super::column::Column;
use super::order::{self, Sorted};
use super::undo::Spare;
use std::sync::LazyLock;

/// Which difference is stored; see `Numbers.Transform` in `trace.capnp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// To `base`.
    Offset,
    /// To the row before, zigzag; the first to `base`.
    Delta,
    /// To the last row with the same value in column `by`, zigzag; the first to `base`. Only read: `Apart` is smaller.
    DeltaBy,
    /// The same, but rows whose key is new stand apart, before all others: theirs is the difference to `base`.
    Apart,
    /// Of a moment that ends what column `by` measures: from the moment of the row before to the begin, zigzag.
    Span,
}

/// How to undo the transform of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Which it is.
    pub transform: Transform,
    /// See [`Transform`].
    pub base: u64,
    /// Index of the other column of [`Transform::DeltaBy`], [`Transform::Apart`] and [`Transform::Span`].
    pub by: u16,
    /// [`Transform::Apart`]: how many of the planes are of rows whose key is new.
    pub new_planes: u8,
    /// Which planes are in the order of the plane above, a bit for each; those of rows whose key is new not counted.
    pub sorted: u8,
}

/// What is left of a column: a byte per row and plane, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    /// One after the other.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// Where stretches with codes of their own begin and end ([`super::order`]).
    pub codes: Vec<usize>,
}

/// A transformed column.
pub type Coded = (Numbers, Planes);

impl Numbers {
    fn new(transform: Transform, base: u64) -> Self {
        Self { transform, base, by: 0, new_planes: 0, sorted: 0 }
    }
}

impl Planes {
    /// Adds as many as the largest value needs.
    fn with<T: Number>(mut self, values: &[T]) -> Self {
        let all = values.iter().fold(0, |all, value| all | value.wide());
        let count = (u64::BITS - all.leading_zeros()).div_ceil(8) as usize;
        self.bytes.reserve(count * values.len());
        for plane in 0..count {
            self.bytes.extend(values.iter().map(|value| value.wide().to_le_bytes()[plane]));
            self.ends.push(self.bytes.len());
        }
        self
    }

    /// Those of all rows, or of all but the rows whose key is new, with some of them sorted; and which.
    fn ordered<T: Number>(self, values: &[T]) -> (u8, Self) {
        let first = self.bytes.len();
        let mut all = self.with(values);
        let Sorted { planes, codes } = order::sort(&mut all.bytes[first..], values.len(), first);
        (planes, Self { codes, ..all })
    }
}

/// The column that a `by` hint points at: keys of four bytes, or spans of eight.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Its index in the table.
    pub column: u16,
    /// Its values; within a frame always the same.
    pub values: &'a Column,
}

impl<'a> By<'a> {
    /// Its values where they are keys.
    pub(super) fn keys(self) -> &'a [u32] {
        self.values.u32s()
    }

    /// Its values where they are spans.
    pub(super) fn spans(self) -> &'a [u64] {
        self.values.u64s()
    }
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
    /// Buffers of such numbers.
    fn spare(of: &mut Spare) -> &mut Vec<Vec<Self>>;
}

macro_rules! number {
    ($($type:ty, $spare:ident);*) => {$(
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
            fn spare(of: &mut Spare) -> &mut Vec<Vec<Self>> { &mut of.$spare }
        }
    )*};
}
number!(u8, u8s; u16, u16s; u32, u32s; u64, u64s);

const SAMPLE: usize = 1024;

/// Transforms a column. `signed` orders the values as two's complement.
#[must_use]
pub fn encode<T: Number>(values: &[T], signed: bool, by: Option<By>) -> Coded {
    let Some(&first) = values.first() else {
        return (Numbers::new(Transform::Offset, 0), Planes::default());
    };
    let by = by.filter(|by| by.values.len() == values.len());
    let low = smallest(values, signed);
    let transform = cheapest(&values[..values.len().min(SAMPLE)], (signed, low), by);
    let planes = Planes::default();
    let (numbers, (sorted, planes)) = match (transform, by) {
        (Transform::Delta, _) => {
            let deltas: Vec<T> = deltas(values, first).collect();
            (Numbers::new(Transform::Delta, first.wide()), planes.ordered(&deltas))
        }
        (Transform::Span, Some(by)) => {
            let (base, gaps) = gaps(values, by.spans());
            let numbers = Numbers { by: by.column, ..Numbers::new(Transform::Span, base.wide()) };
            (numbers, planes.ordered(&gaps))
        }
        (Transform::Apart, Some(by)) => {
            let (base, new, others) = apart(values, by.keys(), signed);
            let planes = planes.with(&new);
            let (by, new_planes) = (by.column, planes.ends.len() as u8);
            let numbers = Numbers { by, new_planes, ..Numbers::new(Transform::Apart, base.wide()) };
            (numbers, planes.ordered(&others))
        }
        _ => {
            let offsets: Vec<T> = values.iter().map(|&value| value.minus(low)).collect();
            (Numbers::new(Transform::Offset, low.wide()), planes.ordered(&offsets))
        }
    };
    (Numbers { sorted, ..numbers }, planes)
}

/// The transform that makes the least of a sample, of which the column's smallest value is known.
fn cheapest<T: Number>(sample: &[T], (signed, low): (bool, T), by: Option<By>) -> Transform {
    let mut best = (Transform::Offset, entropy(sample.iter().map(|&v| v.minus(low))));
    let mut consider = |transform, cost| {
        if cost < best.1 {
            best = (transform, cost);
        }
    };
    consider(Transform::Delta, entropy(deltas(sample, sample[0])));
    let Some(by) = by else { return best.0 };
    if !by.spans().is_empty() {
        let (_, gaps) = gaps(sample, &by.spans()[..sample.len()]);
        consider(Transform::Span, entropy(gaps.into_iter()));
    } else if !by.keys().is_empty() && Span::of(by.keys()).is_some() {
        let (_, new, others) = apart(sample, &by.keys()[..sample.len()], signed);
        consider(Transform::Apart, entropy(new.into_iter()) + entropy(others.into_iter()));
    }
    best.0
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

/// From the moment of the row before to where each span begins; the first is the base.
fn gaps<T: Number>(values: &[T], spans: &[u64]) -> (T, Vec<T>) {
    let begin = |(&value, &span): (&T, &u64)| value.minus(T::cut(span));
    let base = values.iter().zip(spans).next().map(begin).unwrap_or_default();
    let before = std::iter::once(&base).chain(values);
    (
        base,
        values
            .iter()
            .zip(spans)
            .zip(before)
            .map(|(row, &before)| begin(row).minus(before).zigzag())
            .collect(),
    )
}

/// A base, the differences to it where the key is new, and the differences to the last row with the key elsewhere.
fn apart<T: Number>(values: &[T], keys: &[u32], signed: bool) -> (T, Vec<T>, Vec<T>) {
    let span = Span::around(keys);
    let mut last = span.table(None);
    let (mut new, mut others) = (Vec::new(), Vec::with_capacity(values.len()));
    for (&value, &key) in values.iter().zip(keys) {
        match last[span.place(key)].replace(value) {
            None => new.push(value),
            Some(before) => others.push(value.minus(before).zigzag()),
        }
    }
    let base = smallest(&new, signed);
    for value in &mut new {
        *value = value.minus(base);
    }
    (base, new, others)
}

/// From the smallest key to the largest. Ids are dense, so a table with a place for each is short.
#[derive(Clone, Copy)]
pub(super) struct Span {
    low: u32,
    length: usize,
}

impl Span {
    /// Writer and reader both keep to this bound, so neither can be made to allocate much.
    pub(super) fn of(keys: &[u32]) -> Option<Self> {
        Some(Self::around(keys)).filter(|span| span.length <= 4 * keys.len() + 4096)
    }

    /// For keys that are some of those that the bound holds for.
    fn around(keys: &[u32]) -> Self {
        let low = keys.iter().min().copied().unwrap_or(0);
        let high = keys.iter().max().copied().unwrap_or(0);
        Self { low, length: (high - low) as usize + 1 }
    }

    pub(super) fn table<V: Clone>(self, value: V) -> Vec<V> {
        vec![value; self.length]
    }

    /// Places of the table.
    pub(super) fn length(self) -> usize {
        self.length
    }

    /// The place of a key.
    pub(super) fn place(self, key: u32) -> usize {
        (key - self.low) as usize
    }

    /// The key of a place.
    pub(super) fn id(self, place: u32) -> u32 {
        self.low + place
    }
}

/// n × log2(n) for each count that a sample can have: small frames are mostly this logarithm otherwise.
static WEIGHTS: LazyLock<[f32; SAMPLE + 1]> =
    LazyLock::new(|| std::array::from_fn(|count| exactly(count as f32)));

fn exactly(count: f32) -> f32 {
    count * count.max(1.0).log2()
}

/// n × log2(n): what the entropy of a set of symbols is made of.
pub(super) fn weight(count: u32) -> f32 {
    WEIGHTS.get(count as usize).copied().unwrap_or_else(|| exactly(count as f32))
}

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

#[cfg(test)]
mod tests {
    use super::super::undo::decode;
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: Number + std::fmt::Debug>(values: &[T], signed: bool, others: &[&Column]) {
        let by = |values| Some(By { column: 3, values });
        for by in others.iter().map(|others| by(others)).chain([None]) {
            let (numbers, planes) = encode(values, signed, by);
            // What is left of another column must not shine through.
            let mut spare = Spare::default();
            T::spare(&mut spare).push(vec![T::SIGN; values.len() / 2 + 7]);
            let back: Vec<T> =
                decode(&numbers, &planes.bytes, values.len(), by, &mut spare).expect("own encoding");
            assert_eq!(back, values);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(values in prop::collection::vec(any::<u64>(), 0..300), signed: bool) {
            let keys = Column::U32(values.iter().map(|v| (v % 7) as u32).collect());
            let spans = Column::U64(values.iter().map(|v| v.rotate_left(9)).collect());
            let others = [&keys, &spans];
            round_trip(&values, signed, &others);
            round_trip(&values.iter().map(|&v| v as u32).collect::<Vec<_>>(), signed, &others);
            round_trip(&values.iter().map(|&v| v as u16).collect::<Vec<_>>(), signed, &others);
            round_trip(&values.iter().map(|&v| v as u8).collect::<Vec<_>>(), signed, &others);
        }

        #[test]
        fn any_planes_are_refused_or_read(planes in prop::collection::vec(any::<u8>(), 0..64), rows in 0usize..40, base: u64, kind in 0usize..5, new_planes in 0u8..10, sorted: u8) {
            let transform =
                [Transform::Offset, Transform::Delta, Transform::DeltaBy, Transform::Apart, Transform::Span][kind];
            let numbers = Numbers { new_planes, sorted, ..Numbers::new(transform, base) };
            let number = |row: usize| (row as u32).wrapping_mul(0x9E37_79B9) % 17;
            let keys = Column::U32((0..rows).map(number).collect());
            let spans = Column::U64((0..rows).map(|row| number(row).into()).collect());
            let by = Some(By { column: 0, values: if transform == Transform::Span { &spans } else { &keys } });
            if let Ok(values) = decode::<u32>(&numbers, &planes, rows, by, &mut Spare::default()) {
                prop_assert_eq!(values.len(), rows);
            }
        }
    }

    #[test]
    fn sequence_numbers_of_mixed_sockets_need_one_plane() {
        let keys = Column::U32((0..1000).map(|row| row % 5).collect());
        let values: Vec<u32> = (0..1000u32).map(|row| (row % 5) * 0x1234_5678 + row / 5 * 100).collect();
        let (numbers, planes) = encode(&values, false, Some(By { column: 0, values: &keys }));
        assert_eq!((numbers.transform, numbers.new_planes), (Transform::Apart, 4));
        assert_eq!(planes.ends, [5, 10, 15, 20, 1015], "five first numbers, then a plane of differences");
    }

    #[test]
    fn the_keys_of_a_sample_may_lie_further_apart_than_those_of_a_frame() {
        let keys: Vec<u32> = (0..10_000u32).map(|row| row.wrapping_mul(0x9E37_79B9) % 30_000).collect();
        assert!(Span::of(&keys).is_some() && Span::of(&keys[..SAMPLE]).is_none());
        round_trip(&keys.iter().map(|key| key << 16).collect::<Vec<_>>(), false, &[&Column::U32(keys)]);
    }

    #[test]
    fn calls_that_follow_each_other_leave_the_gaps_between_them() {
        let spans: Vec<u64> = (0..500u64).map(|row| 1000 + row * 7919 % 3000).collect();
        let ends = spans.iter().scan(1 << 40, |end, span| {
            *end += span + 50;
            Some(*end)
        });
        let ends: Vec<u64> = ends.collect();
        let spans = Column::U64(spans);
        let (numbers, planes) = encode(&ends, false, Some(By { column: 2, values: &spans }));
        assert_eq!((numbers.transform, numbers.by, planes.ends), (Transform::Span, 2, vec![500]));
        round_trip(&ends, false, &[&spans]);
    }

    #[test]
    fn sorted_planes_come_back_whatever_the_transform() {
        let noise = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let spans: Vec<u64> = (0..9000)
            .map(|row| if noise(row) & 1 == 0 { 0x110 + noise(row) % 13 } else { 0x7c0 + noise(row) % 29 })
            .collect();
        assert_eq!(encode(&spans, false, None).0.sorted, 1);
        let keys = Column::U32((0..9000).map(|row| row % 5).collect());
        round_trip(&spans, false, &[&keys]);
        let sum = |sum: &mut u64, span: &u64| {
            *sum += span;
            Some(*sum)
        };
        let ends: Vec<u64> = spans.iter().scan(0, sum).collect();
        round_trip(&ends, false, &[&keys, &Column::U64(spans)]);
        assert_eq!(
            encode(&ends, false, None).0,
            Numbers { sorted: 1, ..Numbers::new(Transform::Delta, ends[0]) }
        );
    }

    #[test]
    fn differences_by_key_as_older_traces_have_them_are_read() {
        let (keys, base) = (vec![7, 8, 7, 8, 7], 100u32);
        let stored: Vec<u32> = [0i32, 5, 1, -2, 3].map(|by| by.cast_unsigned().zigzag()).into();
        let numbers = Numbers::new(Transform::DeltaBy, base.into());
        let planes = Planes::default().with(&stored).bytes;
        let read = |keys| {
            let by = Some(By { column: 0, values: &Column::U32(keys) });
            decode::<u32>(&numbers, &planes, 5, by, &mut Spare::default())
        };
        assert_eq!(read(keys.clone()).expect("it fits"), [100, 105, 101, 103, 104]);
        assert!(read(keys[..4].to_vec()).is_err());
    }

    #[test]
    fn a_constant_takes_no_bytes() {
        let (numbers, planes) = encode(&[-5i32 as u32; 100], true, None);
        assert_eq!((numbers.base as u32, planes), (-5i32 as u32, Planes::default()));
    }
}
