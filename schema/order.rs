//! Byte planes in the order of the plane above.
//!
//! What a low byte may be depends on the byte above it: latencies of 300 to 310 ns and of 2000 to 2100 ns share no low
//! byte's distribution. An entropy coder that sees the low bytes in the order of rows mixes them all. Here they are put
//! in the order of the byte above (and, under the same one, of rows), so that what is alike lies together and each
//! stretch gets a code of its own. The reader has the plane above before it needs this one, and so knows the order.
//!
//! This is what a binary arithmetic coder would gain from the byte above as a context, for the price of a counting sort.

use super::transform::weight;
use std::ops::Range;

/// Planes of fewer bytes stay in the order of rows.
const WORTH_SORTING: usize = 4096;
/// A stretch with a code of its own has at least so many bytes.
const STRETCH: usize = 1024;
/// Bits that one more code costs: a zstd frame's header and checksum, and a table of Huffman weights.
const CODE: f32 = 8.0 * (13.0 + 64.0);
/// Sorting must save this part of the plane, for what it costs to undo.
const GAIN: f32 = 1.0 / 16.0;
/// Of less than so many bits a byte, repetitions may be what makes the plane small, and sorting would hide them.
const FULL: f32 = 3.0;

type Counts = [u32; 256];

/// How the planes of a column are put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// One bit per plane: it is in the order of the plane above.
    pub planes: u8,
    /// Where, in all the bytes, a stretch with a code of its own begins or ends.
    pub codes: Vec<usize>,
}

/// Sorts those planes, of `rows` bytes each, that become smaller. `first` is where they begin within what is cut.
pub(super) fn sort(bytes: &mut [u8], rows: usize, first: usize) -> Sorted {
    let mut sorted = Sorted::default();
    if rows < WORTH_SORTING {
        return sorted;
    }
    // From the lowest up, so that the plane above is still in the order of rows.
    for plane in 0..(bytes.len() / rows).saturating_sub(1) {
        let (low, above) = bytes[plane * rows..(plane + 2) * rows].split_at_mut(rows);
        if let Some((in_order, ends)) = gain(low, above) {
            low.copy_from_slice(&in_order);
            let begin = first + plane * rows;
            sorted.planes |= 1 << plane;
            sorted.codes.push(begin);
            sorted.codes.extend(ends.iter().map(|end| begin + end));
        }
    }
    sorted
}

/// The plane in order, and where its stretches end; `None` where it is better left alone.
fn gain(low: &[u8], above: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
    let whole = bits(&count(low));
    if whole < FULL * low.len() as f32 {
        return None;
    }
    let (mut in_order, mut places) = (vec![0; low.len()], Places::of(above));
    places.each(above, |row, place| in_order[place] = low[row]);
    let (ends, total) = stretches(&in_order, &count(above));
    (total < whole * (1.0 - GAIN)).then_some((in_order, ends))
}

/// Divides the plane between values of the byte above, so that all codes together are short.
fn stretches(in_order: &[u8], above: &Counts) -> (Vec<usize>, f32) {
    let mut found: Vec<(Range<usize>, Counts, f32)> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for &rows in above {
        end += rows as usize;
        if end - begin < STRETCH && end < in_order.len() || end == begin {
            continue;
        }
        let (mut range, mut counts) = (begin..end, count(&in_order[begin..end]));
        let mut cost = bits(&counts) + CODE;
        // With the one before, if that makes one code that is no longer than both.
        while let Some((before, its, its_cost)) = found.last() {
            let both: Counts = std::array::from_fn(|byte| its[byte] + counts[byte]);
            let cost_of_both = bits(&both) + CODE;
            if cost_of_both > cost + its_cost && range.len() >= STRETCH {
                break;
            }
            (range, counts, cost) = (before.start..range.end, both, cost_of_both);
            found.pop();
        }
        found.push((range, counts, cost));
        begin = end;
    }
    (found.iter().map(|(range, ..)| range.end).collect(), found.iter().map(|(.., cost)| cost).sum())
}

fn count(bytes: &[u8]) -> Counts {
    let mut counts = [[0; 256]; 2];
    for pair in bytes.chunks(2) {
        for (counts, &byte) in counts.iter_mut().zip(pair) {
            counts[usize::from(byte)] += 1;
        }
    }
    std::array::from_fn(|byte| counts[0][byte] + counts[1][byte])
}

/// What an ideal code without context takes.
fn bits(counts: &Counts) -> f32 {
    let total = counts.iter().sum();
    weight(total) - counts.iter().map(|&count| weight(count)).sum::<f32>()
}

/// Rows that are placed side by side: with one chain of counters each row would wait for the one before it.
const CHAINS: usize = 4;

/// The next place of each value, for each quarter of the rows.
struct Places([Counts; CHAINS]);

impl Places {
    fn of(above: &[u8]) -> Self {
        let (quarter, mut places) = (above.len() / CHAINS, [[0; 256]; CHAINS]);
        for (chain, counts) in places.iter_mut().enumerate() {
            *counts = count(&above[Self::rows(chain, quarter, above.len())]);
        }
        let mut next = 0;
        for value in 0..256 {
            for counts in &mut places {
                next += std::mem::replace(&mut counts[value], next);
            }
        }
        Self(places)
    }

    /// The last quarter has what is left.
    fn rows(chain: usize, quarter: usize, rows: usize) -> Range<usize> {
        chain * quarter..if chain + 1 == CHAINS { rows } else { (chain + 1) * quarter }
    }

    /// Each row with its place in the order.
    fn each(&mut self, above: &[u8], mut put: impl FnMut(usize, usize)) {
        let quarter = above.len() / CHAINS;
        let mut place = |chain: usize, row: usize| {
            let next = &mut self.0[chain][usize::from(above[row])];
            put(row, *next as usize);
            *next += 1;
        };
        for at in 0..quarter {
            for chain in 0..CHAINS {
                place(chain, chain * quarter + at);
            }
        }
        (CHAINS * quarter..above.len()).for_each(|row| place(CHAINS - 1, row));
    }
}

/// Undoes [`sort`]: all planes in the order of rows. `None`: there is no plane above one that goes by it.
pub(super) fn restore<'a>(stored: &[u8], rows: usize, planes: u8, to: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let count = stored.len().checked_div(rows).filter(|count| count * rows == stored.len())?;
    let below = count.saturating_sub(1).min(8);
    if u32::from(planes) >> below != 0 {
        return None;
    }
    to.clear();
    to.extend_from_slice(stored);
    for plane in (0..below).rev().filter(|plane| planes >> plane & 1 == 1) {
        let from = &stored[plane * rows..][..rows];
        let (low, above) = to[plane * rows..(plane + 2) * rows].split_at_mut(rows);
        Places::of(above).each(above, |row, place| low[row] = from[place]);
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn planes(values: &[u32], count: usize) -> Vec<u8> {
        (0..count).flat_map(|plane| values.iter().map(move |value| value.to_le_bytes()[plane])).collect()
    }

    /// Two peaks, each a few ns wide and with the low bytes of its own.
    fn two_peaks(rows: u32) -> Vec<u32> {
        let noise = |row: u32| row.wrapping_mul(0x9E37_79B9) >> 16;
        (0..rows)
            .map(|row| if noise(row) & 1 == 0 { 0x110 + noise(row) % 13 } else { 0x7c0 + noise(row) % 29 })
            .collect()
    }

    #[test]
    fn low_bytes_of_two_peaks_get_two_codes() {
        let values = two_peaks(20_000);
        let mut bytes = planes(&values, 2);
        let before = bytes.clone();
        let sorted = sort(&mut bytes, values.len(), 100);
        assert_eq!(sorted.planes, 1);
        let first = values.iter().filter(|&&value| value < 0x200).count();
        assert_eq!(sorted.codes, [100, 100 + first, 20_100]);
        assert_eq!(restore(&bytes, values.len(), 1, &mut Vec::new()), Some(&before[..]));
    }

    #[test]
    fn noise_stays_in_the_order_of_rows() {
        let values: Vec<u32> = (0..20_000u32).map(|row| row.wrapping_mul(0x9E37_79B9) >> 8).collect();
        let mut bytes = planes(&values, 3);
        assert_eq!(sort(&mut bytes, values.len(), 0), Sorted::default());
        assert_eq!(bytes, planes(&values, 3));
    }

    #[test]
    fn an_order_without_a_plane_above_is_refused() {
        let restored =
            |length, rows, planes| restore(&vec![7; length], rows, planes, &mut Vec::new()).map(<[u8]>::len);
        assert_eq!(restored(20, 10, 0b01), Some(20));
        assert_eq!(restored(20, 10, 0b10), None);
        assert_eq!(restored(0, 10, 0b01), None);
        assert_eq!(restored(0, 10, 0), Some(0));
        assert_eq!(restored(21, 10, 0b01), None);
        assert_eq!(restored(1, 0, 0b01), None);
        assert_eq!(restored(90, 10, 0b1000_0000), Some(90));
    }

    proptest! {
        #[test]
        fn any_planes_come_back(values in prop::collection::vec(0u32..5000, WORTH_SORTING..3 * WORTH_SORTING), count in 1usize..4) {
            let before = planes(&values, count);
            let mut bytes = before.clone();
            let sorted = sort(&mut bytes, values.len(), 0);
            prop_assert!(sorted.codes.is_sorted());
            let mut memory = Vec::new();
            prop_assert_eq!(restore(&bytes, values.len(), sorted.planes, &mut memory), Some(&before[..]));
        }

        #[test]
        fn any_order_is_undone_as_it_was_made(above in prop::collection::vec(any::<u8>(), 0..200)) {
            let low: Vec<u8> = (0..above.len()).map(|row| row as u8).collect();
            let mut by_hand: Vec<usize> = (0..above.len()).collect();
            by_hand.sort_by_key(|&row| above[row]);
            let stored: Vec<u8> = by_hand.iter().map(|&row| low[row]).chain(above.iter().copied()).collect();
            if !above.is_empty() {
                let mut memory = Vec::new();
                let rows = above.len();
                prop_assert_eq!(restore(&stored, rows, 1, &mut memory), Some(&[low, above].concat()[..]));
            }
        }
    }
}
