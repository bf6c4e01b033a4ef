//! Which ways through the code lead to a function or event?
//!
//! ```text
//! $ capture -o trace.bin -e 'u:c:malloc(size=arg1) {ustack}' -- sort /etc/passwd
//! $ analyze trace.bin stackcount --top 2
//! self  total  self_pct  total_pct  binary     function
//!  220    220      99.5       99.5  libc.so.6  __GI___libc_malloc
//!    0    132       0.0       59.7  libc.so.6  _nl_make_l10nflist
//! ```
//!
//! Hits of the user's own probes that record stacks (`{kstack}`, `{ustack}`), by function: `self` where it was the
//! innermost, which for a probe at a function's entry is that function; `total` where it led there. A probe of whole calls
//! has the stack of the return, which begins with the caller. User stacks are followed by frame pointers: code without them
//! hides its callers, and a note says how much that is.
//!
//! ```text
//! $ analyze trace.bin stackcount --compat                each stack with its count, as bcc prints it
//! $ analyze trace.bin stackcount --folded --by comm
//! $ analyze trace.bin stackcount --probe malloc --where "arg1 > 4096" --svg large.svg
//! ```

use super::{Context, Defaults, Report};
use crate::analyze::answer::Answer;
use crate::analyze::escape::visible;
use crate::analyze::flame::{self, Flame, Pair, Subject, Weights};
use crate::analyze::group::{Group, Grouping, join};
use crate::analyze::named::{self, Probes};
use crate::analyze::named_sums::Weight;
use anyhow::Result;
use std::io;

/// Hits by stack.
pub static REPORT: Report = Report {
    name: "stackcount",
    question: "which ways through the code lead to a function or event?",
    exactness: "hits of the probes that the user named with stacks; calls are counted at their return",
    needs: named::NEEDS,
    outputs: &flame::OUTPUTS,
    defaults: Defaults { by: "none", sort: "total,self", top: Some(30), interval: None },
    flags: &[
        flame::FLAGS[0],
        flame::FLAGS[1],
        flame::FLAGS[2],
        flame::FLAGS[3],
        flame::FLAGS[4],
        flame::FLAGS[5],
        named::PROBE,
    ],
    fit: Some(|trace| named::with_stacks(Probes::of(trace)).map(|_| Vec::new())),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let default = if flame::wants_lines(context) { "comm" } else { "none" };
    let (grouping, groups) = gather(context, default)?;
    let flame = Flame::new(context, &groups)?;
    flame.answer(&grouping, &Subject { title: "Hits", unit: "hits", own: "self", total: "total" })
}

fn gather<'a>(context: &Context<'a>, default: &str) -> Result<(Grouping<'a>, Vec<Group<Weights>>)> {
    let mut parts: Vec<Vec<Group<Weights>>> = Vec::new();
    let mut last = None;
    for table in named::with_stacks(Probes::asked(context))? {
        let mut scan = context.scan_of(table)?;
        let stacks = named::STACKS.map(|name| table.column(name).and_then(|_| scan.column(name).ok()));
        let hits = Weight::of(&mut scan)?;
        let grouping = context.grouping_by(&scan, default)?;
        parts.push(grouping.fold(&scan, |weights: &mut Weights, rows, row| {
            let [kernel, user] = stacks.map(|column| column.map_or(0, |column| rows.raw(column, row) as u32));
            weights.add((kernel, user), hits.of_row(rows, row));
        }));
        last = Some(grouping);
    }
    Ok((last.expect("there is a table, or it had said so"), join(parts)))
}

/// As bcc's stackcount prints it: each stack, the most frequent last.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (_, groups) = gather(context, "none").map_err(io::Error::other)?;
    let flame = Flame::new(context, &groups).map_err(io::Error::other)?;
    let mut stacks: Vec<(u64, Pair)> =
        groups.iter().flat_map(|group| group.state.sorted()).map(|(pair, hits)| (hits, pair)).collect();
    stacks.sort_unstable();
    for (hits, pair) in stacks {
        for function in flame.functions(pair) {
            writeln!(out, "  {}", visible(&function.shown()))?;
        }
        writeln!(out, "    {hits}\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.stacks().task(0, 7, 7, "web").mapping(1, "/usr/bin/web");
        tape.named("alloc", &["malloc"], &["size:u64", "ustack:u32~stack"], false);
        tape.named("switch", &["sched_switch"], &["kstack:u32~stack"], false);
        tape.named("bare", &["free"], &[], false);
        for (frame, name) in [(1, "malloc"), (2, "parse"), (3, "main")] {
            tape.frame(frame, false, 1, name);
        }
        tape.frame(4, true, 0, "schedule").stack(1, &[1, 2, 3]).stack(2, &[1, 3]).stack(3, &[4]);
        for (at, size, stack) in [(1, 10, 1), (2, 20, 1), (3, 30, 2)] {
            tape.event("alloc", at, [7, 0, size, stack]);
        }
        tape.event("switch", 4, [7, 0, 3]).event("bare", 5, [7, 0]);
        tape
    }

    #[test]
    fn hits_are_counted_by_function_and_by_stack() {
        let lines = |line: &[&str]| {
            let (exit, out, messages) = tape().run(&[&["stackcount", "--format", "csv"], line].concat());
            assert_eq!(exit, 0, "{messages}");
            out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let malloc = ["false,3,3,100.0,100.0,web,malloc", "false,0,3,0.0,100.0,web,main"];
        assert_eq!(lines(&["--probe", "alloc"])[..2], malloc);
        assert!(lines(&["--probe", "alloc"])[2].starts_with("false,0,2,0.0,66.6"));
        assert_eq!(lines(&["--kernel"]).len(), 1);
        assert_eq!(
            lines(&["--probe", "alloc", "--where", "size > 15", "--top", "1"])[0],
            "false,2,2,100.0,100.0,web,malloc"
        );
        let folded = tape().run(&["stackcount", "--folded", "--probe", "alloc"]).1;
        assert_eq!(folded, "web;[incomplete];main;malloc 1\nweb;[incomplete];main;parse;malloc 2\n");
        let compat = tape().run(&["stackcount", "--compat", "--probe", "alloc"]).1;
        assert_eq!(compat, "  malloc\n  main\n    1\n\n  malloc\n  parse\n  main\n    2\n\n");
    }

    #[test]
    fn without_stacks_it_says_how_to_record_them() {
        let (exit, _, messages) = tape().run(&["stackcount", "--probe", "bare"]);
        assert!(exit == 6 && messages.contains("{ustack}"), "{messages}");
    }
}
