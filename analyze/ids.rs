//! Which group a row belongs to, in numbers: its interval, and the ids that stand for what `--by` names.

use super::bins::{Bins, Run};
use super::error::Failure;
use super::input::{Input, Link, Source};
use super::load::{Chunk, Scan};
use super::rows::Rows;
use super::states::{Only, States};
use super::strip::{STRIP, Strip};
use crate::schema::hash::FastMap;
use std::hash::{Hash, Hasher};
use std::sync::{PoisonError, RwLock};

/// Ids that make up a key; columns of one identity row share one.
pub(crate) const MOST: usize = 4;
/// Stands for "not known".
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Interval and ids of a group; ids that nothing needs are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    /// Interval.
    pub bin: u32,
    /// What else tells groups apart.
    pub ids: [u64; MOST],
}

impl Key {
    /// The same ids in another interval: for what does not belong to that of its row.
    pub fn in_bin(self, bin: u32) -> Self {
        Self { bin, ..self }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, to: &mut H) {
        to.write_u64(self.ids[0] ^ u64::from(self.bin) << 40);
        // Most groups have one id or two, and each word costs as much as the rest of a row.
        self.ids[1..].iter().filter(|&&id| id != 0).for_each(|&id| to.write_u64(id));
    }
}

/// How rows get their keys.
pub(crate) struct Ids {
    /// The intervals.
    bins: Bins,
    list: Vec<Id>,
    /// Per column of `--by`, its id.
    pub of: Vec<usize>,
    texts: RwLock<Texts>,
}

/// Where an id comes from.
enum Id {
    /// A number of the event; what it refers to is looked up afterwards where no moment matters to that.
    Number(usize),
    /// A number in whole units of so many of its own: `latency_us`.
    Whole(usize, i64),
    Text(usize),
    Row(Link),
    /// The recording's name: all rows have it.
    Same,
}

/// Texts in events, numbered as they are met; the numbers do not outlive the fold.
#[derive(Default)]
struct Texts {
    numbers: FastMap<Vec<u8>, u64>,
    list: Vec<Vec<u8>>,
}

/// The groups of a strip's rows, as positions of their states.
pub(crate) enum Slots<'a> {
    /// All rows are of one.
    One(u32),
    /// Row by row.
    Each(&'a [u32]),
}

impl Slots<'_> {
    /// That of a row of the strip.
    #[inline]
    pub fn of(&self, at: usize) -> u32 {
        match self {
            Self::One(slot) => *slot,
            Self::Each(slots) => slots[at],
        }
    }
}

impl Ids {
    /// For intervals and columns.
    pub fn new(bins: &Bins, by: &[Input]) -> Result<Self, Failure> {
        let mut list: Vec<Id> = Vec::new();
        let mut of = Vec::new();
        for input in by {
            let id = Id::of(input);
            let shared = list.iter().position(|other| other.same(&id));
            of.push(shared.unwrap_or(list.len()));
            list.extend(shared.is_none().then_some(id));
        }
        if list.len() > MOST {
            return Err(Failure::usage(format!(
                "--by names {} independent things, at most {MOST} are possible",
                list.len()
            )));
        }
        Ok(Self { bins: bins.clone(), list, of, texts: RwLock::default() })
    }

    /// The only part in which keys can differ.
    pub fn only(&self) -> Option<Only> {
        match (self.bins.len(), self.list.len()) {
            (_, 0) => Some(Only::Bin),
            (1, 1) => Some(Only::Id),
            _ => None,
        }
    }

    /// The scan with the columns that keys are made of.
    pub fn scan<'s>(&self, scan: &Scan<'s>) -> Scan<'s> {
        let time = scan.def.time().filter(|_| self.list.iter().any(|id| matches!(id, Id::Row(_))));
        scan.clone().binned(&self.bins).with(self.list.iter().filter_map(Id::column).chain(time))
    }

    /// The key of a row whose moment was decoded.
    pub fn key(&self, rows: &Rows, row: usize) -> Key {
        let mut key = Key { bin: self.bins.of(rows.moment(row)), ids: [0; MOST] };
        key.ids.iter_mut().zip(&self.list).for_each(|(part, id)| *part = self.value(id, rows, row));
        key
    }

    /// Finds the groups of a chunk's rows in `states`, strip by strip.
    pub fn walk<A: Default>(
        &self,
        states: &mut States<A>,
        chunk: &Chunk,
        mut each: impl FnMut(&mut [A], &Slots, &Strip),
    ) {
        let rows = chunk.rows();
        let timed = self.bins.len() > 1 && rows.has_moments();
        let whole = self.bins.of(chunk.frame.header.min_time);
        // Room is made where it is needed: a frame has few strips, and what nobody reads need not be cleared.
        let mut ids = vec![[0; STRIP]; self.list.len()];
        let mut moments = timed.then(|| Box::new([0; STRIP]));
        let (mut run, mut slots, mut in_bins) = (Run::default(), Vec::new(), [whole; STRIP]);
        for strip in chunk.strips() {
            for (id, values) in self.list.iter().zip(&mut ids) {
                self.read(id, rows, &strip, values);
            }
            if let Some(moments) = &mut moments {
                rows.moments(&strip, moments);
                let moments = moments[..strip.len()].iter();
                in_bins.iter_mut().zip(moments).for_each(|(bin, &moment)| *bin = run.bin(&self.bins, moment));
            }
            let key = |at: usize| {
                let id = |id: usize| ids.get(id).map_or(0, |values| values[at]);
                Key { bin: in_bins[at], ids: std::array::from_fn(id) }
            };
            if ids.is_empty() && !timed {
                let slot = states.find(Key { bin: whole, ids: [0; MOST] });
                each(&mut states.list, &Slots::One(slot), &strip);
                continue;
            }
            slots.resize(strip.len(), 0);
            match (&ids[..], states.only()) {
                ([ids], Some(Only::Id)) => slots.iter_mut().zip(ids).for_each(|(slot, &id)| {
                    *slot = states.find_number(id, || Key { bin: 0, ids: [id, 0, 0, 0] });
                }),
                (_, None) => states.find_all(key, &mut slots),
                _ => slots.iter_mut().enumerate().for_each(|(at, slot)| *slot = states.find(key(at))),
            }
            each(&mut states.list, &Slots::Each(&slots), &strip);
        }
    }

    /// The values of an id in the rows of a strip.
    fn read(&self, id: &Id, rows: &Rows, strip: &Strip, to: &mut [u64; STRIP]) {
        match id {
            Id::Number(column) => return rows.raws(*column, UNKNOWN, strip, to),
            Id::Text(column) => return self.number_texts(rows, *column, strip, to),
            _ => {}
        }
        for (at, to) in to[..strip.len()].iter_mut().enumerate() {
            *to = self.value(id, rows, strip.row(at));
        }
    }

    fn value(&self, id: &Id, rows: &Rows, row: usize) -> u64 {
        let number = |column| rows.get(column, row);
        match id {
            Id::Number(column) => number(*column).map_or(UNKNOWN, |_| rows.raw(*column, row)),
            Id::Whole(column, unit) => {
                number(*column).map_or(UNKNOWN, |number| number.div_euclid(*unit).cast_unsigned())
            }
            Id::Text(column) => self.number_text(rows.bytes(*column, row)),
            Id::Row(link) => link.find(rows, row).map_or(UNKNOWN, u64::from),
            Id::Same => 0,
        }
    }

    /// The numbers of a strip's texts. Threads only wait for each other where one is new.
    fn number_texts(&self, rows: &Rows, column: usize, strip: &Strip, to: &mut [u64; STRIP]) {
        let to = &mut to[..strip.len()];
        let texts = self.texts.read().unwrap_or_else(PoisonError::into_inner);
        for (at, to) in to.iter_mut().enumerate() {
            let known = texts.numbers.get(rows.bytes(column, strip.row(at)));
            *to = known.copied().unwrap_or(UNKNOWN);
        }
        drop(texts);
        for (at, to) in to.iter_mut().enumerate().filter(|(_, to)| **to == UNKNOWN) {
            *to = self.number_text(rows.bytes(column, strip.row(at)));
        }
    }

    fn number_text(&self, text: &[u8]) -> u64 {
        self.texts.write().unwrap_or_else(PoisonError::into_inner).number(text)
    }

    /// The text behind a number that keys have in its place.
    pub fn text(&self, id: u64) -> Vec<u8> {
        let texts = self.texts.read().unwrap_or_else(PoisonError::into_inner);
        texts.list.get(id as usize).cloned().unwrap_or_default()
    }
}

impl Id {
    fn of(input: &Input) -> Self {
        match &input.source {
            Source::Via { link, .. } if link.is_fixed() => Self::Number(link.key),
            Source::Via { link, .. } => Self::Row(link.clone()),
            Source::Recording(_) => Self::Same,
            Source::Own(column) if input.is_bytes() => Self::Text(*column),
            Source::Own(column) if input.divisor.is_some() => Self::Whole(*column, input.whole()),
            Source::Own(column) => Self::Number(*column),
        }
    }

    fn column(&self) -> Option<usize> {
        match self {
            Self::Number(column) | Self::Whole(column, _) | Self::Text(column) => Some(*column),
            Self::Row(link) => Some(link.key),
            Self::Same => None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) | (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Whole(a, unit), Self::Whole(b, other)) => (a, unit) == (b, other),
            (Self::Row(a), Self::Row(b)) => a.same(b),
            (Self::Same, Self::Same) => true,
            _ => false,
        }
    }
}

impl Texts {
    fn number(&mut self, text: &[u8]) -> u64 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.list.len() as u64;
        self.list.push(text.to_vec());
        self.numbers.insert(text.to_vec(), number);
        number
    }
}
