//! Which memory was allocated and not released, and from where?
//!
//! ```text
//! $ capture -o trace.bin -e memleak -- ./named 100 leak
//! $ analyze trace.bin memleak
//!   pid  comm   bytes  allocations  stack
//! 26312  named  50000           50  __libc_start_call_main;main;take
//! 26312  named  15000           50  __libc_start_call_main;main
//! ```
//!
//! Allocations in the span that nothing released before its end, by process and stack; `--to` asks for an earlier moment.
//! `--older 500ms` leaves out what is so young that its release may just be to come. What a process that ended had not
//! released is in it as well.
//!
//! `capture -e memleak` records the calls of the C library's allocator with user stacks, `-e malloc` without. An allocator of one's
//! own is named like these: whatever has a `size` allocates, at the `address` it names or at what it returned; whatever
//! has an `address` alone releases.
//!
//! ```text
//! $ capture -e 'ur:./app:get(size=arg1) {ret=ptr, ustack}' -e 'u:./app:put(address=arg1)' -- ./app
//! $ capture -e 't:kmem:kmalloc(address=ptr, size=bytes_alloc) {kstack}' -e 't:kmem:kfree(address=ptr)' -d 5s
//! $ analyze trace.bin memleak --where "size > 4096" --svg leaks.svg
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::error::Failure;
use crate::analyze::escape::visible;
use crate::analyze::flame::{self, Flame, Pair, Weights};
use crate::analyze::group::Group;
use crate::analyze::named::{self, Probes};
use crate::analyze::outstanding::{self, Found, Outstanding, Tables};
use crate::analyze::table::Output;
use crate::analyze::window::duration;
use anyhow::Result;
use std::io;

/// Stacks that bcc prints.
const TOP: usize = 10;

/// Outstanding allocations by stack.
pub static REPORT: Report = Report {
    name: "memleak",
    question: "which memory was allocated and not released, and from where?",
    exactness: "allocations that were recorded and not released before the span's end; others are unknown",
    needs: named::NEEDS,
    outputs: &[
        Output::count("bytes", "bytes", "not released"),
        Output::count("allocations", "", "in so many allocations"),
        Output::new("stack", "", "functions from the outermost on, as far as they can be followed"),
    ],
    defaults: Defaults { by: "pid,comm", sort: "bytes", top: Some(TOP), interval: None },
    flags: &[
        flame::FLAGS[0],
        flame::FLAGS[1],
        flame::FLAGS[2],
        flame::FLAGS[3],
        flame::FLAGS[4],
        flame::FLAGS[5],
        named::PROBE,
        Flag::valued("older", "TIME", "only what was allocated so long before the end"),
    ],
    fit: Some(|trace| allocations(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn find<'a>(context: &Context<'a>, by: &str) -> Result<Found<'a>> {
    let older = context.flag("older").unwrap_or("0s");
    let age = duration(older)
        .ok_or_else(|| Failure::usage(format!("--older {older}: expected a time as in 500ms")))?;
    outstanding::find(context, &allocations(Probes::asked(context))?, by, age)
}

fn allocations<'a>(probes: Probes<'a, '_>) -> Result<Tables<'a>, Failure> {
    let tables = named::of_preset(probes, "memleak", &[], outstanding::concerns)?;
    Tables::of(tables)
        .ok_or_else(|| Failure::cannot("no probe records allocations: a column 'size' tells them"))
}

/// The bytes, for what draws stacks.
fn weights(groups: &[Group<Outstanding>]) -> Vec<Group<Weights>> {
    let of = |group: &Group<Outstanding>| {
        let mut weights = Weights::default();
        group.state.0.iter().for_each(|(pair, sum)| weights.add(*pair, sum.0));
        Group { bin: group.bin, keys: group.keys.clone(), state: weights }
    };
    groups.iter().map(of).collect()
}

fn run(context: &Context) -> Result<Answer> {
    let found = find(context, "pid,comm")?;
    let weights = weights(&found.groups);
    let flame = Flame::new(context, &weights)?;
    let remarks = &found.remarks;
    let answer = flame.folded_answer().map_or_else(|| table(context, &found, &flame), Ok)?;
    let answer = flame.finish(answer, "Bytes not released", "bytes")?;
    let answer =
        answer.note(format!("{} allocations were seen, {} released", remarks.allocated, remarks.released));
    Ok(match remarks.unknown {
        0 => answer,
        count => answer.note(format!(
            "{count} releases of memory whose allocation was not recorded, or left out by --where"
        )),
    })
}

fn table(context: &Context, found: &Found, flame: &Flame) -> Result<Answer> {
    let mut rows: Vec<Group<(Pair, u64, u64)>> = Vec::new();
    for group in &found.groups {
        for (&pair, &(bytes, count)) in &group.state.0 {
            rows.push(Group { bin: group.bin, keys: group.keys.clone(), state: (pair, bytes, count) });
        }
    }
    let mut table = context.keys(&found.grouping, &rows);
    table
        .ints(context.output("bytes"), rows.iter().map(|row| Some(row.state.1)))
        .ints(context.output("allocations"), rows.iter().map(|row| Some(row.state.2)))
        .texts(context.output("stack"), rows.iter().map(|row| Some(stack(flame, row.state.0))));
    Ok(Answer::of(table.build()?))
}

/// From the outermost function on; empty: it was not recorded.
fn stack(flame: &Flame, pair: Pair) -> String {
    let mut names: Vec<String> = flame.functions(pair).map(|function| function.plain()).collect();
    names.reverse();
    names.join(";")
}

/// As bcc's memleak prints it: the smallest of the largest first.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let found = find(context, "none").map_err(io::Error::other)?;
    let weights = weights(&found.groups);
    let flame = Flame::new(context, &weights).map_err(io::Error::other)?;
    let mut stacks: Vec<(u64, u64, Pair)> = Vec::new();
    for group in &found.groups {
        stacks.extend(group.state.0.iter().map(|(&pair, &(bytes, count))| (bytes, count, pair)));
    }
    stacks.sort_unstable();
    let shown = context.options.top.unwrap_or(TOP).min(stacks.len());
    let end = context.trace.clock.time_of_day(context.trace.clock.wall(context.window.to), 0);
    writeln!(out, "[{end}] Top {shown} stacks with outstanding allocations:")?;
    for (bytes, count, pair) in &stacks[stacks.len() - shown..] {
        writeln!(out, "\t{bytes} bytes in {count} allocations from stack")?;
        for function in flame.functions(*pair) {
            writeln!(out, "\t\t{} [{}]", visible(&function.shown()), visible(&function.binary))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    /// `main` allocates 10 and 30 bytes, by way of `parse` 5 three times; the 30 bytes and one of the fives are released.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.stacks().task(0, 7, 70, "app").task(0, 8, 80, "db").mapping(1, "/usr/bin/app");
        tape.frame(1, false, 1, "main").frame(2, false, 1, "parse").stack(1, &[1]).stack(2, &[2, 1]);
        tape.named("malloc", &["malloc"], &["size:u64", "ustack:u32~stack"], true);
        tape.named("realloc", &["realloc"], &["old:u64", "size:u64", "ustack:u32~stack"], true);
        tape.named("calloc", &["calloc"], &["count:u64", "size:u64", "ustack:u32~stack"], true);
        tape.named("free", &["free"], &["address:u64"], false);
        for (at, address, size, stack) in
            [(1, 100, 10, 1), (2, 200, 30, 1), (3, 300, 5, 2), (4, 400, 5, 2), (5, 500, 5, 2)]
        {
            tape.event("malloc", 1_000 * at, [7, 0, 100, address, size, stack]);
        }
        tape.event("free", 6_000, [7, 0, 200]).event("free", 7_000, [7, 0, 300]);
        tape.event("free", 7_500, [8, 0, 400]); // of another process
        tape
    }

    fn lines(tape: &Tape, words: &[&str]) -> Vec<String> {
        let (exit, out, messages) = tape.run(&[&["memleak", "--format", "csv"], words].concat());
        assert_eq!(exit, 0, "{messages}");
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn what_was_not_released_is_listed_by_process_and_stack() {
        assert_eq!(lines(&tape(), &[]), ["70,app,false,10,1,main", "70,app,false,10,2,main;parse"]);
        assert_eq!(lines(&tape(), &["--where", "size > 5"]), ["70,app,false,10,1,main"]);
        assert_eq!(lines(&tape(), &["--older", "1s"]).len(), 0);
        assert_eq!(tape().run(&["memleak", "--older", "much"]).0, 2);
        let (_, out, _) = tape().run(&["memleak"]);
        assert!(out.contains("5 allocations were seen, 2 released"), "{out}");
        assert!(out.contains("1 releases of memory whose allocation"), "{out}");
        let folded = tape().run(&["memleak", "--folded", "--by", "none"]).1;
        assert_eq!(folded, "[incomplete];main 10\n[incomplete];main;parse 10\n");
        let compat = tape().run(&["memleak", "--compat"]).1;
        assert!(
            compat.contains("Top 2 stacks with outstanding allocations:\n\t10 bytes in 1 allocations"),
            "{compat}"
        );
        assert!(
            compat.ends_with("\t10 bytes in 2 allocations from stack\n\t\tparse [app]\n\t\tmain [app]\n"),
            "{compat}"
        );
    }

    #[test]
    fn a_new_size_takes_the_place_of_the_old_and_an_allocator_inside_another_counts_once() {
        let mut tape = tape();
        // 400 becomes 600 with 50 bytes; meanwhile another thread gets the place at 400.
        tape.event("realloc", 9_000, [7, 0, 800, 600, 400, 50, 1]);
        tape.event("malloc", 8_900, [7, 0, 10, 400, 7, 1]);
        // calloc calls malloc, whose place it returns.
        tape.event("malloc", 9_500, [7, 0, 10, 700, 12, 2]).event("calloc", 9_600, [7, 0, 500, 700, 3, 4, 2]);
        // It fails, and leaves what was.
        tape.event("realloc", 9_900, [7, 0, 10, 0, 500, 1 << 40, 1]);
        assert_eq!(lines(&tape, &[]), ["70,app,false,67,3,main", "70,app,false,17,2,main;parse"]);
        let (_, out, _) = tape.run(&["memleak"]);
        assert!(out.contains("8 allocations were seen, 3 released"), "{out}");
    }

    #[test]
    fn without_allocations_it_says_what_to_record() {
        let mut tape = Tape::new();
        tape.named("free", &["free"], &["address:u64"], false);
        let (exit, _, messages) = tape.run(&["memleak"]);
        assert!(exit == 6 && messages.contains("'size'"), "{messages}");
        let (exit, _, messages) = Tape::new().run(&["memleak"]);
        assert!(exit == 6 && messages.contains("capture -e"), "{messages}");
    }
}
