//! Adding up by interval and by what `--by` names.
//!
//! The fold works on ids alone (interval, thread row, socket, plain numbers: [`super::ids`]); their names are
//! looked up once per group afterwards ([`super::naming`]), and groups of the same names are merged.

use super::bins::Bins;
use super::error::Failure;
use super::ids::{Ids, Key, Slots, UNKNOWN};
use super::input::{Input, Link, Source};
use super::leading::Leading;
use super::load::{Chunk, Scan};
use super::naming::{FEW, Named, Names, Ranked};
use super::rows::{Rows, Value, address, named};
use super::states::States;
use super::strip::Numbers;
use super::trace::Trace;
use crate::schema::ColumnType;
use rayon::prelude::*;
use std::sync::Arc;

/// Number of no group.
pub(crate) const NONE: u32 = u32::MAX;

/// Something that can be added up. Merging must be associative.
pub(crate) trait Merge: Default + Send {
    /// Adds what came later.
    fn merge(&mut self, later: Self);

    /// What rows are sorted by unless the user says otherwise, the largest first, where only rows that are shown need to
    /// be looked at further.
    fn weight(&self) -> Option<u64> {
        None
    }
}

/// How to group the rows of a table.
pub(crate) struct Grouping<'a> {
    trace: &'a Trace,
    /// The intervals.
    pub bins: Bins,
    /// What `--by` names.
    pub by: Vec<Input>,
    ids: Ids,
    /// What is shown, where weights decide.
    leading: Option<Leading>,
}

/// What one of several tables adds to groups.
pub(crate) struct Part<'a, A> {
    grouping: Grouping<'a>,
    scan: Scan<'a>,
    add: Box<Add<'a, A>>,
}

type Add<'a, A> = dyn Fn(&Grouping<'a>, &mut States<A>, &Chunk) + Sync + Send + 'a;

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

impl<'a> Grouping<'a> {
    /// Groups by interval and columns.
    pub fn new(trace: &'a Trace, bins: Bins, by: Vec<Input>) -> Result<Self, Failure> {
        let ids = Ids::new(&bins, &by)?;
        Ok(Self { trace, bins, by, ids, leading: None })
    }

    /// Only those groups are shown, if they have weights.
    #[must_use]
    pub fn leading(self, leading: Option<Leading>) -> Self {
        Self { leading, ..self }
    }

    /// Adds up the rows of a scan: `each` gets a group's state and what a row has in some columns.
    pub fn sum<A: Merge, const N: usize>(
        &self,
        scan: &Scan,
        columns: [usize; N],
        each: impl Fn(&mut A, [Option<i64>; N]) + Sync + Send,
    ) -> Vec<Group<A>> {
        self.fold_chunks(&scan.clone().with(columns), |states, chunk| {
            self.add_rows(states, chunk, columns, &each);
        })
    }

    /// Adds up the rows of several tables into the groups that they share, as long as keys of all mean the same; else
    /// groups meet by name.
    pub fn sum_all<A: Merge>(parts: Vec<Part<'a, A>>) -> Vec<Group<A>> {
        let mut alike: Vec<Vec<Part<A>>> = Vec::new();
        for part in parts {
            match alike.iter_mut().find(|others| others[0].grouping.means_same(&part.grouping)) {
                Some(others) => others.push(part),
                None => alike.push(vec![part]),
            }
        }
        // What is little in one may be much together.
        let whole = alike.len() == 1;
        let sum = |parts: &Vec<Part<A>>| {
            let scans: Vec<&Scan> = parts.iter().map(|part| &part.scan).collect();
            let first = &parts[0].grouping;
            let none = || States::new(first.ids.only());
            let add = |states: &mut States<A>, at: usize, chunk: &Chunk| {
                let Part { grouping, add, .. } = &parts[at];
                add(grouping, states, chunk);
            };
            let leading = first.leading.filter(|_| whole);
            first.named(Scan::fold_all(&scans, none, add, States::merge), leading)
        };
        join(alike.iter().map(sum))
    }

    /// What a table adds to [`Grouping::sum_all`]; `each` as for [`Grouping::sum`].
    pub fn part<A: Merge, const N: usize>(
        self,
        scan: &Scan<'a>,
        columns: [usize; N],
        each: impl Fn(&mut A, [Option<i64>; N]) + Sync + Send + 'a,
    ) -> Part<'a, A> {
        let scan = self.ids.scan(&scan.clone().with(columns));
        let add = move |grouping: &Self, states: &mut States<A>, chunk: &Chunk| {
            grouping.add_rows(states, chunk, columns, &each);
        };
        Part { grouping: self, scan, add: Box::new(add) }
    }

    fn means_same(&self, other: &Self) -> bool {
        self.ids.of == other.ids.of
            && self.by.iter().zip(&other.by).all(|(input, other)| input.means_same(other))
    }

    fn add_rows<A: Merge, const N: usize>(
        &self,
        states: &mut States<A>,
        chunk: &Chunk,
        columns: [usize; N],
        each: &impl Fn(&mut A, [Option<i64>; N]),
    ) {
        let mut numbers = Numbers::new();
        self.ids.walk(states, chunk, |states, slots, strip| {
            let values = numbers.read(chunk.rows(), columns, strip);
            match slots {
                Slots::One(slot) => {
                    let state = &mut states[*slot as usize];
                    values.for_each(|values| each(state, values));
                }
                Slots::Each(slots) => {
                    slots
                        .iter()
                        .zip(values)
                        .for_each(|(&slot, values)| each(&mut states[slot as usize], values));
                }
            }
        });
    }

    /// Adds up the rows of a scan where more than numbers matters: `each` gets a group's state and a row.
    pub fn fold<A: Merge>(
        &self,
        scan: &Scan,
        each: impl Fn(&mut A, &Rows, usize) + Sync + Send,
    ) -> Vec<Group<A>> {
        self.fold_chunks(scan, |states, chunk| {
            self.ids.walk(states, chunk, |states, slots, strip| {
                for at in 0..strip.len() {
                    each(&mut states[slots.of(at) as usize], chunk.rows(), strip.row(at));
                }
            });
        })
    }

    fn fold_chunks<A: Merge>(
        &self,
        scan: &Scan,
        each: impl Fn(&mut States<A>, &Chunk) + Sync + Send,
    ) -> Vec<Group<A>> {
        let none = || States::new(self.ids.only());
        self.named(self.ids.scan(scan).fold(none, each, States::merge), self.leading)
    }

    /// Something of each group's state that takes long, such as quantiles: all threads work on it.
    pub fn of_each<A: Send, R: Send>(
        &self,
        groups: &mut [Group<A>],
        of: impl Fn(&mut A) -> R + Sync + Send,
    ) -> Vec<R> {
        self.trace.install(|| groups.par_iter_mut().map(|group| of(&mut group.state)).collect())
    }

    /// When an interval begins, for people; `None`: the whole span is one.
    pub fn time(&self, bin: u32) -> Option<String> {
        let clock = &self.trace.clock;
        self.bins.interval.map(|_| clock.time_of_day(self.bins.start(bin), self.bins.digits()))
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
        let mut states = States::new(self.ids.only());
        states.add_all(parts);
        self.named(states, self.leading)
    }

    /// The group that a row belongs to; its scan must come from [`Grouping::with_keys`].
    pub fn key(&self, rows: &Rows, row: usize) -> Key {
        self.ids.key(rows, row)
    }

    /// The groups of a chunk's rows, numbered as they are met, and for each row of its frame the number, or [`NONE`]
    /// where the row is not asked for; its scan must come from [`Grouping::with_keys`].
    pub fn numbered(&self, chunk: &Chunk) -> (Vec<Key>, Vec<u32>) {
        let mut states: States<()> = States::new(self.ids.only());
        let mut numbers = vec![NONE; chunk.rows().len()];
        self.ids.walk(&mut states, chunk, |_, slots, strip| {
            (0..strip.len()).for_each(|at| numbers[strip.row(at)] = slots.of(at));
        });
        (states.into_parts().0, numbers)
    }

    /// Groups by name, in the order of interval and names; where only the leading ones are shown, those.
    fn named<A: Merge>(&self, states: States<A>, leading: Option<Leading>) -> Vec<Group<A>> {
        let (mut keys, mut states) = states.into_parts();
        if self.by.is_empty() {
            // An interval without events is a row of zeros.
            keys.extend((0..self.bins.len() as u32).map(|bin| Key { bin, ..Key::default() }));
            states.resize_with(keys.len(), A::default);
        }
        let weighed = states.first().is_some_and(|state| state.weight().is_some());
        let leading = leading.filter(|_| weighed && !self.by.is_empty());
        let keep_leading = |positions: &mut Vec<u32>, states: &[A]| {
            let of = |at: u32| (keys[at as usize].bin, states[at as usize].weight().unwrap_or(0));
            if let Some(leading) = leading {
                leading.keep(&self.bins, positions, of);
            }
        };
        let mut positions: Vec<u32> = (0..keys.len() as u32).collect();
        // Where numbers tell groups apart, of a million only those that are shown need names.
        let by_numbers = self.numbers_tell_apart();
        if by_numbers {
            keep_leading(&mut positions, &states);
        }
        let mut met = Vec::new();
        let named = Named::of(&keys, &positions, &self.ids.of, |at, ids| self.names(at, ids, &mut met));
        if !by_numbers && named.tells_all_apart() {
            keep_leading(&mut positions, &states);
        }
        let ranked = self.many(positions.len(), || named.ranks(&keys, positions));
        let mut firsts = self.merge_equal(&ranked, &mut states);
        keep_leading(&mut firsts, &states);
        let values = self.map(&firsts, |&at| named.values(&keys[at as usize]));
        let group = |(at, values): (u32, Vec<Value>)| Group {
            bin: keys[at as usize].bin,
            keys: values,
            state: std::mem::take(&mut states[at as usize]),
        };
        let groups = firsts.into_iter().zip(values).map(group).collect();
        if states.len() > FEW {
            // A million states have a million allocations to give back: work for all threads.
            self.trace.install(|| states.into_par_iter().for_each(drop));
        }
        groups
    }

    /// Whether each id is a number that is shown as such: two of them never have the same name.
    fn numbers_tell_apart(&self) -> bool {
        let shown = |input: &Input| {
            let small = matches!(input.def.kind, ColumnType::Number { width: ..=4, .. });
            let own = matches!(input.source, Source::Own(_));
            own && small && input.divisor.is_none() && input.def.enumeration.is_empty()
        };
        let ids = self.ids.of.iter().max().map_or(0, |most| most + 1);
        (0..ids).all(|id| self.ids.of.iter().zip(&self.by).any(|(&of, input)| of == id && shown(input)))
    }

    /// Merges states whose keys have the same names, in the order of the file. Returns the first of each, in the order of
    /// interval and names.
    fn merge_equal<A: Merge>(&self, ranked: &Ranked, states: &mut [A]) -> Vec<u32> {
        let mut firsts: Vec<u32> = Vec::new();
        let mut last = None;
        for at in self.in_order(ranked) {
            let (position, group) = (ranked.positions[at as usize], ranked.group(at));
            match firsts.last() {
                Some(&first) if last == Some(group) => {
                    let later = std::mem::take(&mut states[position as usize]);
                    states[first as usize].merge(later);
                }
                _ => {
                    firsts.push(position);
                    last = Some(group);
                }
            }
        }
        firsts
    }

    /// Places in the list of what was ranked, since states are large.
    fn in_order(&self, ranked: &Ranked) -> Vec<u32> {
        let mut order: Vec<u32> = (0..ranked.positions.len() as u32).collect();
        let by_name = |&a: &u32, &b: &u32| (ranked.group(a), a).cmp(&(ranked.group(b), b));
        if order.len() <= FEW {
            order.sort_unstable_by(by_name);
        } else {
            self.trace.install(|| order.par_sort_unstable_by(by_name));
        }
        order
    }

    /// On this trace's threads, if there is work for them.
    fn many<R: Send>(&self, items: usize, run: impl FnOnce() -> R + Send) -> R {
        if items > FEW { self.trace.install(run) } else { run() }
    }

    /// Something of each item, in order.
    fn map<T: Sync, R: Send>(&self, items: &[T], of: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
        if items.len() > FEW {
            self.trace.install(|| items.par_iter().map(of).collect())
        } else {
            items.iter().map(of).collect()
        }
    }

    /// What the ids of a column are called. Columns of one identity row look it up once: in `met`.
    fn names(&self, at: usize, ids: &[u64], met: &mut Vec<Behind>) -> Names {
        self.trace.labels(); // read before the threads need them
        let (input, of) = (&self.by[at], self.ids.of[at]);
        let Source::Via { link, column } = &input.source else {
            let values = self.map(ids, |&id| self.name(input, id));
            return self.many(ids.len(), || Names::of(&values));
        };
        let known = met.iter().position(|behind| behind.of == of && behind.link.same(link));
        let known = known.unwrap_or_else(|| {
            let row = |&id: &u64| match id {
                UNKNOWN => None,
                id if link.is_fixed() => link.find_id(id, 0),
                row => Some(row as u32),
            };
            met.push(Behind { of, link: link.clone(), rows: self.map(ids, row) });
            met.len() - 1
        });
        let values = self.map(&met[known].rows, |row| {
            match row.map(|row| link.identity.value(self.trace, *column, row)) {
                Some(Value::Int(number)) => Value::Int(number.div_euclid(input.whole())),
                value => value.unwrap_or(Value::Null),
            }
        });
        self.many(ids.len(), || Names::of(&values))
    }

    /// What an id is called that is of the event itself, or of the recording.
    fn name(&self, input: &Input, id: u64) -> Value {
        match &input.source {
            _ if id == UNKNOWN => Value::Null,
            Source::Recording(name) => Value::Text(Arc::clone(name)),
            Source::Via { .. } => Value::Null, // rows have those
            Source::Own(_) if input.divisor.is_some() => Value::Int(id.cast_signed()),
            Source::Own(_) if input.is_bytes() => {
                let bytes = self.ids.text(id);
                if input.def.kind == ColumnType::Ip { address(&bytes, None) } else { Value::text(&bytes) }
            }
            Source::Own(_) => {
                let number = input.def.value(id).and_then(|number| i64::try_from(number).ok());
                number
                    .map_or(Value::Null, |number| named(self.trace.labels(), &input.def.enumeration, number))
            }
        }
    }
}

/// Which identity rows ids stand for.
struct Behind {
    /// Position of the id in keys.
    of: usize,
    link: Link,
    rows: Vec<Option<u32>>,
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
