//! Tables for people: aligned columns, names made harmless, lower bounds marked `≥`, scaled counts `≈`, and what is at
//! most so large `≤`.

use super::answer::{Answer, Body, Page, Section};
use super::cells::{Cell, Cells, Field};
use super::clock::{Clock, Stamps};
use super::escape::{push_visible, visible};
use super::ledger::Losses;
use super::table::{Show, Table};
use super::{blocks, json};
use polars::prelude::AnyValue;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

/// The whole answer as text.
pub(crate) fn page(page: &Page, threads: usize, out: &mut dyn Write) -> io::Result<()> {
    if let Some(table) = &page.answer.table {
        lines(table, page.clock, &mut Vec::new(), (true, threads), out)?;
        if !page.answer.sections.is_empty() {
            out.write_all(b"\n")?;
        }
    }
    out.write_all(below(page.answer, page.clock).as_bytes())
}

/// What stands below the table: sections and notes.
pub(crate) fn below(answer: &Answer, clock: &Clock) -> String {
    let mut text = sections(answer, clock);
    if !answer.notes.is_empty() {
        text.push('\n');
    }
    answer.notes.iter().for_each(|note| writeln!(text, "# {}", visible(note)).expect("a String grows"));
    text
}

/// What goes with the table, part by part.
pub(crate) fn sections(answer: &Answer, clock: &Clock) -> String {
    let parts: Vec<String> = answer.sections.iter().map(|part| section(part, clock)).collect();
    parts.join("\n")
}

fn section(section: &Section, clock: &Clock) -> String {
    let mut text = String::new();
    if !section.title.is_empty() {
        writeln!(text, "{}", visible(&section.title)).expect("a String grows");
    }
    match &section.body {
        Body::Facts(facts) => {
            let width = facts.iter().map(|fact| fact.0.len()).max().unwrap_or(0);
            for (name, _, shown) in facts {
                writeln!(text, "{name:width$}  {}", visible(shown)).expect("a String grows");
            }
        }
        Body::Table(table) => text.push_str(&grid(table, clock)),
        Body::Histogram(histogram, unit) => text.push_str(&histogram.render(unit)),
        Body::Lines(lines) => {
            for line in lines {
                writeln!(text, "{}", visible(line)).expect("a String grows");
            }
        }
    }
    text
}

/// One table: numbers to the right, the last column as long as it is.
pub(crate) fn grid(table: &Table, clock: &Clock) -> String {
    let mut text = Vec::new();
    lines(table, clock, &mut Vec::new(), (true, 1), &mut text).expect("a Vec takes everything");
    String::from_utf8(text).expect("lines are text")
}

/// Rows of a table, some at a time, below those that came before with their `widths`; the first ones have the heading
/// above. Cells are written twice, to know how wide they are and to print them: to keep them would take more room than
/// the table has.
pub(crate) fn lines(
    table: &Table,
    clock: &Clock,
    widths: &mut Vec<usize>,
    (first, threads): (bool, usize),
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut paper = Paper::new(table, clock);
    let names: Vec<String> = paper.shown.iter().map(|&at| visible(&table.headings[at].name)).collect();
    widths.resize(paper.shown.len(), 0);
    let heading = first.then_some(names);
    for (width, name) in widths.iter_mut().zip(heading.iter().flatten()) {
        *width = (*width).max(self::width(name));
    }
    for block in blocks::each(table.height(), threads, |block| paper.widths(block)) {
        widths.iter_mut().zip(block).for_each(|(width, here)| *width = (*width).max(here));
    }
    paper.widths.clone_from(widths);
    let mut top = String::new();
    if let Some(names) = heading {
        names.iter().enumerate().for_each(|(at, name)| paper.put(at, name, &mut top));
        end_line(&mut top);
    }
    out.write_all(top.as_bytes())?;
    blocks::write(table.height(), threads, |block, to| paper.rows(block, to), out)
}

/// A table on its way to paper.
struct Paper<'a> {
    table: &'a Table,
    clock: &'a Clock,
    cells: Cells,
    /// Columns that people see, whether they stand to the right, and how wide they are.
    shown: Vec<usize>,
    right: Vec<bool>,
    widths: Vec<usize>,
}

impl<'a> Paper<'a> {
    fn new(table: &'a Table, clock: &'a Clock) -> Self {
        let seen = |&at: &usize| table.headings[at].show != Show::Hidden;
        let shown: Vec<usize> = (0..table.headings.len()).filter(seen).collect();
        let right = shown.iter().map(|&at| is_number(table, at)).collect();
        Self { table, clock, cells: Cells::of(table), shown, right, widths: Vec::new() }
    }

    /// How wide the widest cell of each column is.
    fn widths(&self, rows: Range<usize>) -> Vec<usize> {
        let fields = self.cells.fields(&self.table.headings);
        let (mut text, mut stamps) = (String::new(), self.clock.stamps());
        let mut wide = |column: usize, row: usize| {
            text.clear();
            self.cell((column, row), self.mark(row), &mut stamps, &mut text);
            width(&text)
        };
        let mut of = |&column: &usize| match self.plain(&fields, column) {
            Some(Field::Times(_)) => rows.clone().take(1).map(|row| wide(column, row)).max(),
            Some(Field::Ints(numbers)) => ends(&numbers[rows.clone()]).map(digits).into_iter().max(),
            Some(Field::UInts(numbers)) => ends(&numbers[rows.clone()]).map(digits).into_iter().max(),
            _ => rows.clone().map(|row| wide(column, row)).max(),
        };
        self.shown.iter().map(|column| of(column).unwrap_or(0)).collect()
    }

    fn rows(&self, rows: Range<usize>, to: &mut String) {
        let fields = self.cells.fields(&self.table.headings);
        let plain: Vec<Option<&Field>> =
            self.shown.iter().map(|&column| self.plain(&fields, column)).collect();
        let (mut text, mut stamps, mut digits) = (String::new(), self.clock.stamps(), itoa::Buffer::new());
        for row in rows {
            let mark = self.mark(row);
            for (at, (&column, plain)) in self.shown.iter().zip(&plain).enumerate() {
                match plain {
                    Some(Field::Ints(numbers)) => self.put(at, digits.format(numbers[row]), to),
                    Some(Field::UInts(numbers)) => self.put(at, digits.format(numbers[row]), to),
                    _ => {
                        text.clear();
                        self.cell((column, row), mark, &mut stamps, &mut text);
                        self.put(at, &text, to);
                    }
                }
            }
            end_line(to);
        }
    }

    /// A column of numbers or moments, if none of its cells has a mark.
    fn plain<'f, 't>(&self, fields: &'f [Field<'t>], column: usize) -> Option<&'f Field<'t>> {
        let marked = match self.table.headings[column].show {
            Show::Count | Show::Decimal(_) => self.cells.have_bounds(),
            Show::Typical(_) => true,
            _ => false,
        };
        fields.get(column).filter(|_| !marked)
    }

    /// Adds a cell of the column that is shown as number `at`, and the gap to the next one.
    fn put(&self, at: usize, text: &str, to: &mut String) {
        let pad = self.widths[at].saturating_sub(width(text));
        let (before, after) = if self.right[at] { (pad, 2) } else { (0, pad + 2) };
        space(before, to);
        to.push_str(text);
        space(after, to);
    }

    /// What stands before the counts of a row.
    fn mark(&self, row: usize) -> &'static str {
        match (self.cells.is_lower_bound(row), self.cells.is_approximate(row)) {
            (true, _) => "≥",
            (_, true) => "≈",
            _ => "",
        }
    }

    fn cell(&self, (column, row): (usize, usize), mark: &str, stamps: &mut Stamps, to: &mut String) {
        let show = self.table.headings[column].show;
        let cell = self.cells.get(column, row);
        match show {
            _ if cell == Cell::Null => {}
            Show::Count | Show::Decimal(_) => to.push_str(mark),
            Show::Typical(_) if self.cells.is_of_long_ones(row) => to.push('≤'),
            _ => {}
        }
        match (cell, show) {
            (Cell::Null, _) => to.push('-'),
            (Cell::Int(wall), Show::Time(digits)) => stamps.push_time_of_day(wall, digits, to),
            (Cell::Float(number), Show::Decimal(digits) | Show::Measure(digits) | Show::Typical(digits)) => {
                write!(to, "{number:.digits$}").expect("a String grows");
            }
            (Cell::Float(number), _) => write!(to, "{}", AnyValue::Float64(number)).expect("a String grows"),
            (Cell::Text(text), _) => push_visible(&text, to),
            (other, _) => json::push_plain(&other, to),
        }
    }
}

/// The smallest and the largest; none of nothing.
fn ends<T: Copy + Ord>(numbers: &[T]) -> [Option<T>; 2] {
    [numbers.iter().min().copied(), numbers.iter().max().copied()]
}

/// How wide a number is.
fn digits<T: itoa::Integer>(number: Option<T>) -> usize {
    number.map_or(0, |number| itoa::Buffer::new().format(number).len())
}

fn space(mut columns: usize, to: &mut String) {
    const SPACES: &str = "                                ";
    while columns > 0 {
        let some = columns.min(SPACES.len());
        to.push_str(&SPACES[..some]);
        columns -= some;
    }
}

fn end_line(to: &mut String) {
    to.truncate(to.trim_end_matches(' ').len());
    to.push('\n');
}

fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

fn is_number(table: &Table, column: usize) -> bool {
    let number = table.frame.columns().get(column).is_some_and(|column| column.dtype().is_numeric());
    number && !matches!(table.headings[column].show, Show::Time(_))
}

/// The files that lack events, where there are several.
fn within(losses: &Losses) -> String {
    const NAMED: usize = 5;
    let of = |(file, events): &(String, u64)| format!("{events} in {}", visible(file));
    let named: Vec<String> = losses.within.iter().take(NAMED).map(of).collect();
    match losses.within.len() {
        0 => String::new(),
        all if all > NAMED => format!("; {}, and in {} more", named.join(", "), all - NAMED),
        _ => format!("; {}", named.join(", ")),
    }
}

/// What a reader must know before believing a number; `None` if nothing is missing.
pub(crate) fn banner(losses: &Losses) -> Option<String> {
    if losses.none() && losses.steps.is_empty() {
        return None;
    }
    let mut text = String::new();
    if losses.events() > 0 {
        let causes: Vec<String> =
            losses.causes().iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        let (all, causes, within) = (losses.events(), causes.join(", "), within(losses));
        write!(text, "{all} events of this span are missing ({causes}{within}): ").expect("a String grows");
        text.push_str("counts marked ≥ are lower bounds\n");
    }
    for step in &losses.steps {
        writeln!(text, "{}", visible(step)).expect("a String grows");
    }
    if !losses.steps.is_empty() {
        text.push_str("counts marked ≈ are scaled by what was left out\n");
    }
    if losses.filter_missed > 0 {
        writeln!(
            text,
            "the filters missed {} forks or connections that they should have followed, and nobody knows what these \
             did: counts marked ≥ are lower bounds",
            losses.filter_missed
        )
        .expect("a String grows");
    }
    for what in &losses.absent {
        writeln!(text, "{}", visible(what)).expect("a String grows");
    }
    for place in losses.damage.iter().take(5) {
        writeln!(text, "damaged: {}", visible(place)).expect("a String grows");
    }
    if losses.damage.len() > 5 {
        writeln!(text, "damaged: {} more places; `check` lists them", losses.damage.len() - 5)
            .expect("a String grows");
    }
    Some(text)
}
