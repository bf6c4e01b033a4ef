//! Adding up by interval and by what `--by` names.
//!
//! The fold works on ids alone (interval, thread row, socket, plain numbers); their names are looked
//! up once per group afterwards, and groups of the same names are merged.

use super::bins::{Bins, Run};
use super::error::Failure;
use super::hash::{FastMap, Mixer};
use super::input::{Input, Link, Source};
use super::load::{Chunk, Scan};
use super::rows::{Rows, Value, address, named};
use super::trace::Trace;
use crate::schema::ColumnType;
use hashbrown::HashTable;
use rayon::prelude::*;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Something that can be added up. Merging must be associative.
pub(crate) trait Merge: Default + Send {
    /// Adds what came later.
    fn merge(&mut self, later: Self);
}

/// Ids that make up a key; columns of one identity row share one.
const MOST: usize = 4;
/// Stands for "not known".
const UNKNOWN: u64 = u64::MAX;
/// Numbers below this find their group in a list; ids are given out one by one, so most are.
const DENSE: u64 = 1 << 20;
/// In that list: no group yet.
const NONE: u32 = u32::MAX;

/// Interval and ids of a group; ids that nothing needs are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    bin: u32,
    ids: [u64; MOST],
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

/// How to group the rows of a table.
pub(crate) struct Grouping<'a> {
    trace: &'a Trace,
    /// The intervals.
    pub bins: Bins,
    /// What `--by` names.
    pub by: Vec<Input>,
    ids: Vec<Id>,
    /// Per `by`, its id.
    id_of: Vec<usize>,
    texts: Mutex<Texts>,
}

/// Where an id comes from.
enum Id {
    /// A number of the event; what it refers to is looked up afterwards where no moment matters to that.
    Number(usize),
    /// A number in whole units of so many of its own: `latency_us`.
    Whole(usize, i64),
    Text(usize),
    Row(Link),
}

/// What the values of an id mean, and in which order.
struct Ids {
    /// Each value once, to its position.
    positions: FastMap<u64, u32>,
    list: Vec<u64>,
}

/// A column of the result: the rank of each id, the value of each rank.
struct Names {
    /// By position of the id.
    ranks: Vec<u32>,
    values: Vec<Value>,
}

/// Texts in events, numbered as they are met; the numbers do not outlive the fold.
#[derive(Default)]
struct Texts {
    numbers: FastMap<Vec<u8>, u64>,
    list: Vec<Vec<u8>>,
}

/// One group of the result.
#[derive(Clone, Debug)]
pub(crate) struct Group<A> {
    /// Its interval.
    pub bin: u32,
    /// A value per `--by`.
    pub keys: Vec<Value>,
    /// What was added up.
    pub state: A,
}

/// The one part of a key in which groups can differ, where there is one.
#[derive(Clone, Copy)]
enum Only {
    Bin,
    Id,
}

/// States by key, in the order in which keys were met.
struct Groups<A> {
    /// Positions in `states`, by the only part of the key.
    list: Vec<u32>,
    /// Positions of all other keys: those are in `keys`, so they need not be here too.
    index: HashTable<u32>,
    keys: Vec<Key>,
    /// Apart from their keys, so that more of them fit the processor's caches.
    states: Vec<A>,
    last: usize,
}

impl<A> Default for Groups<A> {
    fn default() -> Self {
        Self { list: Vec::new(), index: HashTable::new(), keys: Vec::new(), states: Vec::new(), last: 0 }
    }
}

fn hash(key: &Key) -> u64 {
    let mut mixer = Mixer::default();
    key.hash(&mut mixer);
    mixer.finish()
}

impl<A: Default> Groups<A> {
    /// The state of a key of which `only` says everything.
    #[inline]
    fn state_of(&mut self, key: Key, only: Option<Only>) -> &mut A {
        let number = match only {
            Some(Only::Bin) => key.bin.into(),
            Some(Only::Id) => key.ids[0],
            None => UNKNOWN,
        };
        if number >= DENSE {
            return self.state(key);
        }
        let number = number as usize;
        let at = match self.list.get(number) {
            Some(&at) if at != NONE => at as usize,
            _ => self.number(number, key),
        };
        &mut self.states[at]
    }

    #[cold]
    fn number(&mut self, number: usize, key: Key) -> usize {
        if number >= self.list.len() {
            self.list.resize((number + 1).next_power_of_two(), NONE);
        }
        let at = self.states.len();
        self.list[number] = at as u32;
        self.keys.push(key);
        self.states.push(A::default());
        at
    }

    fn state(&mut self, key: Key) -> &mut A {
        // Neighbours are often of one group.
        if self.keys.get(self.last).is_none_or(|last| *last != key) {
            let keys = &self.keys;
            let same = |&at: &u32| keys[at as usize] == key;
            let of = |&at: &u32| hash(&keys[at as usize]);
            let next = keys.len();
            self.last = *self.index.entry(hash(&key), same, of).or_insert(next as u32).get() as usize;
            if self.last == next {
                self.keys.push(key);
                self.states.push(A::default());
            }
        }
        &mut self.states[self.last]
    }
}

impl<'a> Grouping<'a> {
    /// Groups by interval and columns.
    pub fn new(trace: &'a Trace, bins: Bins, by: Vec<Input>) -> Result<Self, Failure> {
        let mut grouping =
            Self { trace, bins, by, ids: Vec::new(), id_of: Vec::new(), texts: Mutex::default() };
        for at in 0..grouping.by.len() {
            let id = grouping.id(at);
            grouping.id_of.push(id);
        }
        if grouping.ids.len() > MOST {
            return Err(Failure::usage(format!(
                "--by names {} independent things, at most {MOST} are possible",
                grouping.ids.len()
            )));
        }
        Ok(grouping)
    }

    /// The id behind a column, new or shared.
    fn id(&mut self, at: usize) -> usize {
        let id = match &self.by[at].source {
            Source::Via { link, .. } if link.is_fixed() => Id::Number(link.key),
            Source::Via { link, .. } => Id::Row(link.clone()),
            Source::Own(column) if self.by[at].is_bytes() => Id::Text(*column),
            Source::Own(column) if self.by[at].divisor.is_some() => Id::Whole(*column, self.by[at].whole()),
            Source::Own(column) => Id::Number(*column),
        };
        let shared = self.ids.iter().position(|other| other.same(&id));
        shared.unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        })
    }

    /// Adds up the rows of a scan: `each` gets a group's state and a row.
    pub fn fold<A: Merge>(
        &self,
        scan: &Scan,
        each: impl Fn(&mut A, &Rows, usize) + Sync + Send,
    ) -> Vec<Group<A>> {
        let scan = self.with_parts(scan);
        let only = self.only();
        let fold = |groups: &mut Groups<A>, chunk: &Chunk| {
            let rows = chunk.rows();
            let mut run = Run::default();
            chunk.each().for_each(|row| {
                let bin = if self.bins.len() == 1 { 0 } else { run.bin(&self.bins, rows.moment(row)) };
                let key = Key { bin, ids: self.ids(rows, row) };
                each(groups.state_of(key, only), rows, row);
            });
        };
        let merge = |groups: &mut Groups<A>, later: Groups<A>| {
            let parts = later.keys.into_iter().zip(later.states);
            parts.for_each(|(key, state)| groups.state_of(key, only).merge(state));
        };
        self.named(scan.fold(Groups::default, fold, merge))
    }

    fn only(&self) -> Option<Only> {
        match (self.bins.len(), self.ids.len()) {
            (_, 0) => Some(Only::Bin),
            (1, 1) => Some(Only::Id),
            _ => None,
        }
    }

    /// The scan with the columns that tell groups apart: a moment costs as much to decode as all else together.
    fn with_parts<'s>(&self, scan: &Scan<'s>) -> Scan<'s> {
        let column = |id: &Id| match id {
            Id::Number(column) | Id::Whole(column, _) | Id::Text(column) => *column,
            Id::Row(link) => link.key,
        };
        let timed = self.bins.len() > 1 || self.ids.iter().any(|id| matches!(id, Id::Row(_)));
        let time = scan.def.time().filter(|_| timed);
        scan.clone().with(self.ids.iter().map(column).chain(time))
    }

    /// The scan with the columns that keys are made of.
    pub fn with_keys<'s>(&self, scan: &Scan<'s>) -> Scan<'s> {
        let mut scan = scan.clone();
        let needs: Vec<usize> = self.by.iter().flat_map(|input| input.needs(&scan.def)).collect();
        needs.into_iter().chain(scan.def.time()).for_each(|column| scan.add(column));
        scan
    }

    /// Groups from states that were keyed one by one, for reports that join rows before they add up.
    pub fn collect<A: Merge>(&self, parts: impl IntoIterator<Item = (Key, A)>) -> Vec<Group<A>> {
        let mut groups: Groups<A> = Groups::default();
        parts.into_iter().for_each(|(key, part): (Key, A)| groups.state(key).merge(part));
        self.named(groups)
    }

    /// The group that a row belongs to; its scan must come from [`Grouping::with_keys`].
    pub fn key(&self, rows: &Rows, row: usize) -> Key {
        Key { bin: self.bins.of(rows.moment(row)), ids: self.ids(rows, row) }
    }

    #[inline]
    fn ids(&self, rows: &Rows, row: usize) -> [u64; MOST] {
        let mut ids = [0; MOST];
        // Most questions are about one number or none.
        if let [Id::Number(column)] = self.ids[..] {
            ids[0] = known(rows, column, row);
            return ids;
        }
        for (slot, id) in ids.iter_mut().zip(&self.ids) {
            *slot = match id {
                Id::Number(column) => known(rows, *column, row),
                Id::Whole(column, unit) => {
                    rows.get(*column, row).map_or(UNKNOWN, |number| number.div_euclid(*unit).cast_unsigned())
                }
                Id::Text(column) => {
                    self.texts.lock().unwrap_or_else(PoisonError::into_inner).number(rows.bytes(*column, row))
                }
                Id::Row(link) => link.find(rows, row).map_or(UNKNOWN, u64::from),
            };
        }
        ids
    }

    /// Groups by name, in the order of interval and names. Each id is named once, and names are compared
    /// by their ranks.
    fn named<A: Merge>(&self, groups: Groups<A>) -> Vec<Group<A>> {
        let ids: Vec<Ids> = (0..self.ids.len()).map(|id| Ids::of(&groups.keys, id)).collect();
        let names: Vec<Names> =
            (0..self.by.len()).map(|at| self.names(at, &ids[self.id_of[at]].list)).collect();
        let mut keyed: Vec<((u32, Vec<u32>), A)> = groups
            .keys
            .into_iter()
            .zip(groups.states)
            .map(|(Key { bin, ids: key }, state)| {
                let positions: Vec<usize> =
                    ids.iter().zip(key).map(|(ids, id)| ids.positions[&id] as usize).collect();
                let rank = |(names, &id): (&Names, &usize)| names.ranks[positions[id]];
                ((bin, names.iter().zip(&self.id_of).map(rank).collect()), state)
            })
            .collect();
        if self.by.is_empty() {
            // An interval without events is a row of zeros.
            keyed.extend((0..self.bins.len() as u32).map(|bin| ((bin, Vec::new()), A::default())));
        }
        // Stable: equal names are merged in the order of the file.
        self.trace.install(|| keyed.par_sort_by(|a, b| a.0.cmp(&b.0)));
        let mut named: Vec<Group<A>> = Vec::new();
        let mut last = None;
        for (key, state) in keyed {
            match named.last_mut() {
                Some(group) if last.as_ref() == Some(&key) => group.state.merge(state),
                _ => {
                    let value = |(names, &rank): (&Names, &u32)| names.values[rank as usize].clone();
                    let keys = names.iter().zip(&key.1).map(value).collect();
                    named.push(Group { bin: key.0, keys, state });
                    last = Some(key);
                }
            }
        }
        named
    }

    fn names(&self, at: usize, ids: &[u64]) -> Names {
        self.trace.labels(); // read before the threads need them
        self.trace.install(|| {
            let values: Vec<Value> = ids.par_iter().map(|&id| self.name(at, id)).collect();
            Names::of(&values)
        })
    }

    fn name(&self, at: usize, id: u64) -> Value {
        let input = &self.by[at];
        match &input.source {
            _ if id == UNKNOWN => Value::Null,
            Source::Via { link, column } => {
                let row = if link.is_fixed() { link.find_id(id, 0) } else { Some(id as u32) };
                match row.map_or(Value::Null, |row| link.identity.value(self.trace, *column, row)) {
                    Value::Int(number) => Value::Int(number.div_euclid(input.whole())),
                    value => value,
                }
            }
            Source::Own(_) if input.divisor.is_some() => Value::Int(id.cast_signed()),
            Source::Own(_) if input.is_bytes() => {
                let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = texts.list.get(id as usize).map_or(&[][..], Vec::as_slice);
                if input.def.kind == ColumnType::Ip { address(bytes, None) } else { Value::text(bytes) }
            }
            Source::Own(_) => {
                let number = input.def.value(id).and_then(|number| i64::try_from(number).ok());
                number
                    .map_or(Value::Null, |number| named(self.trace.labels(), &input.def.enumeration, number))
            }
        }
    }
}

/// A number as it is stored, where this row has one.
#[inline]
fn known(rows: &Rows, column: usize, row: usize) -> u64 {
    rows.get(column, row).map_or(UNKNOWN, |_| rows.raw(column, row))
}

impl Id {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) | (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Whole(a, unit), Self::Whole(b, other)) => (a, unit) == (b, other),
            (Self::Row(a), Self::Row(b)) => a.same(b),
            _ => false,
        }
    }
}

impl Ids {
    fn of(keys: &[Key], id: usize) -> Self {
        let mut ids = Self { positions: FastMap::default(), list: Vec::new() };
        for key in keys {
            let next = ids.list.len() as u32;
            if *ids.positions.entry(key.ids[id]).or_insert(next) == next {
                ids.list.push(key.ids[id]);
            }
        }
        ids
    }
}

impl Names {
    fn of(values: &[Value]) -> Self {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.par_sort_unstable_by(|&a, &b| values[a as usize].cmp(&values[b as usize]));
        let mut names = Self { ranks: vec![0; values.len()], values: Vec::new() };
        for position in order {
            let value = &values[position as usize];
            if names.values.last() != Some(value) {
                names.values.push(value.clone());
            }
            names.ranks[position as usize] = names.values.len() as u32 - 1;
        }
        names
    }
}

/// Groups of several tables, grouped by columns of the same names, as one list in the same order.
pub(crate) fn join<A: Merge>(tables: impl IntoIterator<Item = Vec<Group<A>>>) -> Vec<Group<A>> {
    tables.into_iter().reduce(join_two).unwrap_or_default()
}

fn join_two<A: Merge>(first: Vec<Group<A>>, second: Vec<Group<A>>) -> Vec<Group<A>> {
    let mut joined = Vec::with_capacity(first.len().max(second.len()));
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        let order = (a.bin, &a.keys).cmp(&(b.bin, &b.keys));
        let mut group = if order.is_gt() { None } else { first.next() };
        if order.is_ge()
            && let Some(more) = second.next()
        {
            match &mut group {
                Some(group) => group.state.merge(more.state),
                None => group = Some(more),
            }
        }
        joined.extend(group);
    }
    joined.extend(first.chain(second));
    joined
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testkit::Tape;

    #[test]
    fn groups_of_one_name_are_one_row() {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").task(0, 8, 70, "web").task(0, 9, 90, "web");
        for at in 0..30 {
            tape.send(at * 1_000, 7 + at % 3, 1, 100, 100);
        }
        let rows = |by| tape.run(&["tcpsend", "--interval", "all", "--format", "csv", "--by", by]).1;
        assert!(
            rows("comm").starts_with("comm,lower_bound,calls,calls_per_s,bytes,errors\r\nweb,false,30,"),
            "{}",
            rows("comm")
        );
        assert_eq!(rows("task").lines().count(), 3);
        assert_eq!(rows("tid").lines().count(), 4);
    }

    #[test]
    fn a_time_in_another_unit_groups_by_whole_units() {
        let mut tape = Tape::new();
        tape.table("call", &["ts:u64", "cpu:u16", "latency:u64?ns"]);
        for latency in [1_000, 1_999, 2_000, 2_500_000] {
            tape.event("call", 0, [latency]);
        }
        let rows = |by| {
            let line = ["events", "--table", "call", "--format", "csv", "--sort", by, "--by", by];
            let out = tape.run(&line).1;
            out.lines().skip(1).map(|line| line.replace(",false,", " ")).collect::<Vec<_>>()
        };
        assert_eq!(rows("latency_us"), ["1 2", "2 1", "2500 1"]);
        assert_eq!(rows("latency_ms"), ["0 3", "2 1"]);
        assert_eq!(rows("latency").len(), 4);
    }

    #[test]
    fn groups_of_two_tables_meet_by_interval_and_keys() {
        #[derive(Debug, Default, PartialEq)]
        struct Sum(u64);
        impl Merge for Sum {
            fn merge(&mut self, later: Self) {
                self.0 += later.0;
            }
        }
        let group = |bin, key, sum| Group { bin, keys: vec![Value::Int(key)], state: Sum(sum) };
        let joined = join([vec![group(0, 1, 10), group(1, 1, 20)], vec![group(0, 0, 1), group(1, 1, 2)]]);
        let found: Vec<_> = joined.into_iter().map(|g| (g.bin, g.keys[0].clone(), g.state.0)).collect();
        assert_eq!(found, [(0, Value::Int(0), 1), (0, Value::Int(1), 10), (1, Value::Int(1), 22)]);
    }

    #[test]
    fn an_unknown_name_is_null_and_not_another() {
        let mut tape = Tape::new();
        tape.send(0, 7, 1, 100, 100);
        let (exit, out, _) = tape.run(&["tcpsend", "--interval", "all", "--by", "comm,sock,rport"]);
        assert_eq!(exit, 0);
        assert!(out.lines().nth(1).is_some_and(|line| line.starts_with("-        1      -")), "{out}");
    }
}
