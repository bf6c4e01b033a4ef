//! Long lists: one slice of the span after the other.
//!
//! Each row is of one event, and rows stand in the order of time, so a slice of the span is a slice of the list. It is
//! printed and forgotten: the first lines of a long recording are there at once, and however long it is they take the
//! same room. With `--top` the first rows of what came before and of the slice are kept, and without another order no more is
//! read than that takes. A table for people has columns that are as wide as the widest cell of all, so it is cut
//! only if `--memory` has no room for it as a whole. Another order of all rows, and Parquet, take them together.

use super::answer::{Answer, Page};
use super::ledger::Losses;
use super::options::{ALL, Format, Options};
use super::printer::Printer;
use super::report::Context;
use super::room::Slices;
use super::run::{run_report, shape, unshaped};
use super::table::Table;
use super::{pages, print};
use anyhow::Result;
use std::io::Write;

/// What a list says.
pub(crate) fn answer(
    context: &Context,
    slices: Slices,
    out: &mut dyn Write,
    terminal: bool,
) -> Result<Answer> {
    pages::keep();
    if is_cut(context.options) {
        return first(context, slices);
    }
    stream(context, slices, out, terminal)
}

/// What the whole says where no slice has a row, such as why.
fn nothing(context: &Context) -> Result<Vec<String>> {
    if !context.options.has_notes() {
        return Ok(Vec::new());
    }
    Ok(run_report(&context.slice(context.asked))?.notes)
}

/// Whether the first rows are all that is asked for.
fn is_cut(options: &Options) -> bool {
    options.top.is_some_and(|top| top != ALL)
}

/// Whether a list can be had in slices.
pub(crate) fn are_possible(options: &Options) -> bool {
    is_cut(options) || in_the_way(options).is_none()
}

/// Whether it is to be had in slices of so many rows though there is room for the whole of it. A condition on rows of the
/// result may look at all of them, and the first rows are put into order with each slice anew.
pub(crate) fn are_better(options: &Options, rows: u64) -> bool {
    let fits = match options.top.filter(|&top| top != ALL) {
        Some(top) => top as u64 <= rows,
        None => options.format() != Format::Table,
    };
    fits && options.having.is_none()
}

/// What keeps a list from being printed slice by slice, as what to do about it.
pub(crate) fn in_the_way(options: &Options) -> Option<&'static str> {
    [
        (options.sort.is_some(), "leave out --sort"),
        (options.compat, "leave out --compat"),
        (options.check.is_some(), "leave out --check"),
        (options.format() == Format::Parquet, "take another format"),
    ]
    .into_iter()
    .find_map(|(there, instead)| there.then_some(instead))
}

/// The first rows in any order.
fn first(context: &Context, mut slices: Slices) -> Result<Answer> {
    let mut all = Answer::default();
    while let Some(window) = slices.next() {
        let mut answer = unshaped(&context.slice(window))?;
        slices.left(height(&answer));
        if let (Some(before), Some(table)) = (all.table, answer.table.as_mut()) {
            table.frame = before.frame.vstack(&table.frame)?;
        }
        shape(context.report, context.options, &mut answer)?;
        answer.notes = together(all.notes, answer.notes);
        all = answer;
        // What is later comes behind those.
        if context.options.sort.is_none() && all.table.as_ref().map(Table::height) == context.options.top {
            break;
        }
    }
    if height(&all) == 0 {
        all.notes = nothing(context)?;
    }
    Ok(all)
}

fn height(answer: &Answer) -> u64 {
    answer.table.as_ref().map_or(0, Table::height) as u64
}

/// Prints rows as they come; what is left to be printed below.
fn stream(context: &Context, mut slices: Slices, out: &mut dyn Write, terminal: bool) -> Result<Answer> {
    let (clock, mut below) = (&context.trace.clock, Answer::default());
    let (mut printer, losses) = (Printer::new(context.options, terminal), Losses::default());
    let (report, trace, span) = (context.report.name, context.trace.name.as_str(), context.window);
    let mut rows = 0;
    while let Some(window) = slices.next() {
        let answer = run_report(&context.slice(window))?;
        slices.left(height(&answer));
        rows += height(&answer);
        match &answer.table {
            Some(_) if context.options.format() == Format::Json => {
                let page = Page { report, trace, window: span, clock, answer: &answer, losses: &losses };
                below.written.rows(&page, context.options.threads, out)?;
            }
            Some(table) => printer.rows(table, clock, out)?,
            None => {}
        }
        below.notes = together(below.notes, answer.notes);
    }
    if rows == 0 {
        below.notes = nothing(context)?;
    }
    below.plain = match context.options.format() {
        Format::Json => None,
        Format::Table => Some(print::below(&below, clock)),
        _ => Some(String::new()),
    };
    Ok(below)
}

/// Each note once.
fn together(mut notes: Vec<String>, more: Vec<String>) -> Vec<String> {
    for note in more {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};

    /// Ten seconds of opens, in frames of twenty.
    fn folder() -> Folder {
        let mut tape = Tape::new();
        tape.files().task(0, 7, 70, "cc1").rows_per_frame(20);
        for at in 0..500u64 {
            // Frames overlap, as those of two processors do.
            let at_ns = at * 20_000_000 + if at % 2 == 0 { 70_000_000 } else { 0 };
            tape.open_call(at_ns, 7, 0, 0, if at % 50 == 0 { -13 } else { 3 }, &format!("/src/{at}.c"));
        }
        let folder = Folder::new();
        folder.put("a.bin", &tape.bytes());
        folder
    }

    #[test]
    fn a_list_in_slices_is_the_list() {
        let folder = folder();
        for words in [
            "opensnoop --format csv",
            "opensnoop --format ndjson --having fd=3",
            "opensnoop",
            "opensnoop --format json",
            "opensnoop --format json --having fd=4",
            "opensnoop --format csv --top 3",
            "opensnoop --format json --top 30 --sort path:desc",
            "opensnoop --failed --format csv",
            "opensnoop --format csv --from 2s --to 7s",
            "events --table file_open --format csv",
        ] {
            let (whole, slices) =
                (folder.run(&format!("a.bin {words}")), folder.run(&format!("a.bin {words} --memory 40K")));
            assert_eq!((whole.0, &whole.2), (0, &String::new()));
            assert!(whole.1.lines().count() > 3, "{}", whole.1);
            assert_eq!(slices, whole, "{words}");
            // However few a slice may have, down to those of a frame.
            assert_eq!(folder.run(&format!("a.bin {words} --memory 2K")), whole, "{words}");
        }
    }

    #[test]
    fn a_list_that_has_room_is_printed_as_it_comes_too() {
        let folder = folder();
        // In one piece: with a condition on the result it may not be cut.
        for words in ["--format csv", "--format json", "--format ndjson", "--format csv --top 450"] {
            let line = format!("a.bin opensnoop {words}");
            assert_eq!(folder.run(&line), folder.run(&format!("{line} --having true")), "{words}");
        }
        let largest = "opensnoop --format csv --having fd=max(fd)";
        assert_eq!(folder.run(&format!("a.bin {largest}")).1.lines().count(), 1 + 490);
    }

    #[test]
    fn what_needs_all_rows_is_refused_with_the_next_step() {
        let folder = folder();
        for words in
            ["opensnoop --sort path", "opensnoop --format parquet", "events --table file_open --sort ret"]
        {
            let (exit, out, messages) = folder.run(&format!("a.bin {words} --memory 40K"));
            assert_eq!((exit, out.as_str()), (2, ""), "{words}: {messages}");
            let said =
                messages.contains(": 500 rows take about ") && messages.contains("--memory allows 40 KiB");
            assert!(said, "{messages}");
        }
        // As CSV it is written as it comes; what is compared with a stored answer is held as JSON.
        let sorted = "opensnoop --sort path --memory 200K";
        assert_eq!(folder.run(&format!("a.bin {sorted}")).0, 0);
        let to = folder.path().join("stored.json").display().to_string();
        let (exit, _, messages) = folder.run(&format!("a.bin {sorted} --check {to} --update"));
        assert!(exit == 2 && messages.contains("--memory allows 200 KiB"), "{exit} {messages}");
        // What it counts has room, and so have few rows.
        for words in
            ["opensnoop --by comm", "opensnoop --sort path --failed", "opensnoop --sort path --to 500ms"]
        {
            assert_eq!(folder.run(&format!("a.bin {words} --memory 40K")).0, 0, "{words}");
        }
    }
}
