//! Answers about stacks: top functions, folded lines, flame graphs, and bcc's layout.
//!
//! A report adds up a weight per pair of stacks (samples, or time that was waited) and hands the groups over;
//! the rest is the same for all: `--folded`, `--svg`, `--user`, `--kernel`, `--symbols`, `--lines`.

use super::answer::Answer;
use super::error::Failure;
use super::escape::visible;
use super::functions::Functions;
use super::group::{Group, Grouping, Merge};
use super::report::{Context, Flag};
use super::rows::Value;
use super::stacks::{Function, Naming, Stacks, plain};
use super::table::Output;
use super::tally::Tally;
use crate::schema::hash::FastMap;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The options of every report about stacks.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::switch(
        "folded",
        "Print one line per stack: names from the outermost on, separated by ';', and the weight",
    )
    .letter('f'),
    Flag::valued("svg", "FILE", "Write a flame graph as well"),
    Flag::switch("user", "User functions only").letter('U'),
    Flag::switch("kernel", "Kernel functions only").letter('K'),
    Flag::valued(
        "symbols",
        "DIR",
        "Name functions by the files with debug information in this directory, matched by build id",
    ),
    Flag::switch("lines", "Source file and line behind each function, where they are known"),
];

/// The columns of the table of functions.
pub(crate) const OUTPUTS: [Output; 6] = [
    Output::new("function", "", "function, or the file that it is in, in brackets"),
    Output::new("binary", "", "file that the code is in"),
    Output::count("self", "", "in the function itself"),
    Output::count(
        "total",
        "",
        "in the function and what it called; once per stack, also if it called itself",
    ),
    Output::measure("self_pct", "%", 1, "share of the interval's sum"),
    Output::measure("total_pct", "%", 1, "share of the interval's sum"),
];

/// The same where weights are microseconds.
pub(crate) const TIMES: [Output; 6] = [
    OUTPUTS[0],
    OUTPUTS[1],
    Output::count("self_us", "us", "in the function itself"),
    Output::count(
        "total_us",
        "us",
        "in the function and what it called; once per stack, also if it called itself",
    ),
    OUTPUTS[4],
    OUTPUTS[5],
];

/// Kernel stack and user stack; 0: none.
pub(crate) type Pair = (u32, u32);

/// What was added up per pair of stacks, which is one number: each row looks its pair up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights(Tally);

impl Weights {
    /// Adds a weight.
    #[inline]
    pub fn add(&mut self, (kernel, user): Pair, weight: u64) {
        self.0.add(u64::from(kernel) << 32 | u64::from(user), weight);
    }

    /// In no order.
    pub fn each(&self) -> impl Iterator<Item = (Pair, u64)> {
        self.0.iter().map(|(pair, weight)| (((pair >> 32) as u32, pair as u32), weight))
    }

    /// In the order of stacks.
    pub fn sorted(&self) -> BTreeMap<Pair, u64> {
        self.each().collect()
    }

    fn sum(&self) -> u64 {
        self.each().map(|(_, weight)| weight).sum()
    }
}

impl Merge for Weights {
    fn merge(&mut self, later: Self) {
        later.0.iter().for_each(|(pair, weight)| self.0.add(pair, weight));
    }
}

/// The pair of what a row has in the columns of its stacks.
pub(crate) fn pair(kernel: Option<i64>, user: Option<i64>) -> Pair {
    let stack = |column: Option<i64>| column.unwrap_or(0) as u32;
    (stack(kernel), stack(user))
}

/// What a report about stacks is about.
pub(crate) struct Subject {
    /// Of the flame graph.
    pub title: &'static str,
    /// Of the weights.
    pub unit: &'static str,
    /// Column of a function's own weight.
    pub own: &'static str,
    /// And with what it called.
    pub total: &'static str,
}

/// The groups of a report, and the names of their functions.
pub(crate) struct Flame<'a> {
    context: &'a Context<'a>,
    groups: &'a [Group<Weights>],
    stacks: Stacks,
    /// User functions, kernel functions.
    shown: (bool, bool),
}

/// Whether the answer is lines of stacks, which are told apart by program unless `--by` says otherwise.
pub(crate) fn wants_lines(context: &Context) -> bool {
    context.flag("folded").is_some() || context.flag("svg").is_some()
}

impl<'a> Flame<'a> {
    /// Looks names up.
    pub fn new(context: &'a Context<'a>, groups: &'a [Group<Weights>]) -> Result<Self> {
        let stacks = Stacks::load(context.trace, &Naming::of(context)?);
        let (user, kernel) = (context.flag("user").is_some(), context.flag("kernel").is_some());
        if user && kernel {
            return Err(Failure::usage("--user and --kernel exclude each other").into());
        }
        Ok(Self { context, groups, stacks, shown: (!kernel, !user) })
    }

    /// Of stacks that programs at tracepoints have taken: without these programs.
    pub fn without_probes(mut self) -> Self {
        self.stacks = self.stacks.without_probes();
        self
    }

    /// As the options ask.
    pub fn answer(&self, grouping: &Grouping, subject: &Subject) -> Result<Answer> {
        let answer = self.folded_answer().map_or_else(|| self.top(grouping, subject), Ok)?;
        self.finish(answer, subject.title, subject.unit)
    }

    /// Folded lines, if they are asked for.
    pub fn folded_answer(&self) -> Option<Answer> {
        self.context.flag("folded")?;
        Some(Answer { plain: Some(self.folded().concat()), ..Answer::default() })
    }

    /// With the flame graph, if it is asked for, and with what is missing from stacks.
    pub fn finish(&self, mut answer: Answer, title: &str, unit: &str) -> Result<Answer> {
        if let Some(file) = self.context.flag("svg") {
            self.write_svg(file, title, unit)?;
            answer = answer.note(format!("flame graph written to {file}"));
        }
        answer.notes.extend(self.remarks(unit));
        Ok(answer)
    }

    /// The functions of a pair of stacks that are shown, innermost first.
    pub fn functions(&self, pair: Pair) -> impl Iterator<Item = &Arc<Function>> {
        let (kernel, user) = self.seen(pair);
        self.stacks.functions(kernel).chain(self.stacks.functions(user))
    }

    /// What of a pair of stacks is shown.
    fn seen(&self, (kernel, user): Pair) -> Pair {
        (if self.shown.1 { kernel } else { 0 }, if self.shown.0 { user } else { 0 })
    }

    fn top(&self, grouping: &Grouping, subject: &Subject) -> Result<Answer> {
        let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
        let mut rows: Vec<Group<()>> = Vec::new();
        let mut found: Vec<(Arc<Function>, u64, u64)> = Vec::new();
        let mut functions = Functions::of(&self.stacks);
        for group in self.groups {
            *sums.entry(group.bin).or_default() += group.state.sum();
            let seen = group.state.each().map(|(pair, weight)| (self.seen(pair), weight));
            found.extend(functions.sums(seen));
            rows.resize(found.len(), Group { bin: group.bin, keys: group.keys.clone(), state: () });
        }
        let context = self.context;
        let mut table = context.keys(grouping, &rows);
        let share = |part: u64, bin| 100.0 * part as f64 / sums.get(&bin).copied().unwrap_or(0).max(1) as f64;
        let bins = || rows.iter().map(|row| row.bin);
        table
            .ints(context.output(subject.own), found.iter().map(|row| Some(row.1)))
            .ints(context.output(subject.total), found.iter().map(|row| Some(row.2)))
            .floats(
                context.output("self_pct"),
                found.iter().zip(bins()).map(|(row, bin)| Some(share(row.1, bin))),
            )
            .floats(
                context.output("total_pct"),
                found.iter().zip(bins()).map(|(row, bin)| Some(share(row.2, bin))),
            );
        // Last, since names can be long.
        table.key("binary", "", true, found.iter().map(|row| Value::Text(Arc::clone(&row.0.binary))));
        table.key("function", "", true, found.iter().map(|row| Value::Text(row.0.shown().into())));
        Ok(Answer::of(table.build()?))
    }

    /// Lines as flame graph tools read them, in order.
    fn folded(&self) -> Vec<String> {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for group in self.groups {
            let root: Vec<String> = group.keys.iter().map(label).collect();
            for (pair, weight) in group.state.sorted() {
                let mut names: Vec<String> = self.functions(pair).map(|function| frame(function)).collect();
                if self.shown.0 && pair.1 != 0 && !self.stacks.is_whole(pair.1) {
                    names.push("[incomplete]".to_owned());
                }
                names.extend(root.iter().rev().cloned());
                names.reverse();
                *lines.entry(names.join(";")).or_default() += weight;
            }
        }
        lines
            .into_iter()
            .filter(|line| line.1 > 0)
            .map(|(stack, weight)| format!("{stack} {weight}\n"))
            .collect()
    }

    /// As bcc's tools print stacks: each with its two keys, the largest weight last.
    pub fn print(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut stacks: Vec<(u64, usize, Pair)> = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            stacks.extend(group.state.sorted().into_iter().map(|(pair, weight)| (weight, at, pair)));
        }
        stacks.sort_unstable();
        for (weight, at, pair) in stacks {
            for function in self.functions(pair) {
                writeln!(out, "    {}", visible(&function.shown()))?;
            }
            let keys: Vec<String> = self.groups[at].keys.iter().map(label).collect();
            writeln!(out, "    {:<16} {} ({})\n        {weight}\n", "-", keys[0], keys[1])?;
        }
        Ok(())
    }

    fn write_svg(&self, file: &str, title: &str, unit: &str) -> Result<()> {
        let mut options = inferno::flamegraph::Options::default();
        title.clone_into(&mut options.title);
        unit.clone_into(&mut options.count_name);
        options.deterministic = true;
        let lines = self.folded();
        if lines.is_empty() {
            return Err(Failure::cannot(format!("--svg {file}: there is no stack to draw")).into());
        }
        let mut svg = Vec::new();
        inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
        std::fs::write(file, svg).with_context(|| format!("--svg {file}"))
    }

    /// What is missing from stacks, so that nobody takes the end of one for its beginning.
    fn remarks(&self, unit: &str) -> Vec<String> {
        let mut known: FastMap<u32, (bool, bool)> = FastMap::default();
        let mut look = |stack| {
            *known.entry(stack).or_insert_with(|| (self.stacks.is_whole(stack), self.stacks.is_cut(stack)))
        };
        let (mut user, mut incomplete, mut cut) = (0, 0, 0);
        for (pair, weight) in self.groups.iter().flat_map(|group| group.state.each()) {
            let [(_, cut_kernel), (whole, cut_user)] = [pair.0, pair.1].map(&mut look);
            user += if pair.1 != 0 { weight } else { 0 };
            incomplete += if pair.1 != 0 && !whole { weight } else { 0 };
            cut += if cut_kernel || cut_user { weight } else { 0 };
        }
        let mut remarks = Vec::new();
        if incomplete > 0 && self.shown.0 {
            remarks.push(format!(
                "{incomplete} of {user} {unit} have a user stack that ends before its thread's first function: code \
                 without frame pointers, or not named; outer callers are missing ([incomplete])"
            ));
        }
        if cut > 0 {
            remarks.push(format!("{cut} {unit} have a stack that is deeper than stacks are followed"));
        }
        remarks
    }
}

fn label(key: &Value) -> String {
    match key {
        Value::Null => "-".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => visible(&plain(text)),
    }
}

/// As flame graph tools colour them: kernel functions and inlined ones are marked.
fn frame(function: &Function) -> String {
    let mark = if function.kernel {
        "_[k]"
    } else if function.inlined {
        "_[i]"
    } else {
        ""
    };
    format!("{}{mark}", visible(&function.plain()))
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    /// Programs `web` and `db` in the same functions: kernel `read` (frame 1), user `work` (2) called by `main` (3), which
    /// `_start` (4) called, and a frame without a name (5). `work` is inlined into `run`.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.stacks();
        tape.table(
            "cpu_sample",
            &["ts:u64", "cpu:u16", "tid:u32>task", "kstack:u32~stack", "ustack:u32~stack"],
        );
        tape.task(0, 7, 7, "web").task(0, 8, 8, "db");
        tape.mapping(1, "/usr/bin/web").mapping(2, "/usr/lib/libc.so.6");
        tape.frame(1, true, 0, "read").frame(2, false, 1, "work;run").frame(3, false, 1, "main");
        tape.frame(4, false, 2, "_start").frame(5, false, 2, "");
        tape.stack(1, &[1]).stack(2, &[2, 3, 4]).stack(3, &[5, 3]).stack(4, &[3, 3, 4]);
        for (at, tid, kernel, user) in [(1, 7, 0, 2), (2, 7, 1, 2), (3, 8, 0, 3), (4, 8, 0, 4), (5, 8, 0, 4)]
        {
            tape.event("cpu_sample", at, [tid, kernel, user]);
        }
        tape
    }

    #[test]
    fn lines_of_stacks_cannot_command_a_terminal() {
        let mut tape = Tape::new();
        tape.stacks().table(
            "cpu_sample",
            &["ts:u64", "cpu:u16", "tid:u32>task", "kstack:u32~stack", "ustack:u32~stack"],
        );
        tape.task(0, 7, 7, "w\x1b[2J")
            .mapping(1, "/usr/bin/web")
            .frame(1, false, 1, "ma\x1bin")
            .stack(1, &[1]);
        tape.event("cpu_sample", 1, [7, 0, 1]);
        assert_eq!(tape.run(&["profile", "--folded"]).1, "w\\x1b[2J;[incomplete];ma\\x1bin 1\n");
    }

    fn csv(words: &[&str]) -> Vec<String> {
        let (exit, out, messages) = tape().run(&[&["profile", "--format", "csv"], words].concat());
        assert_eq!((exit, messages.as_str()), (0, ""));
        out.lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_function_counts_once_per_stack_and_inlined_ones_count_too() {
        let rows = csv(&[]);
        let expected = [
            "false,2,5,40.0,100.0,web,main",
            "false,1,2,20.0,40.0,web,work",
            "false,1,1,20.0,20.0,[kernel],read",
            "false,1,1,20.0,20.0,libc.so.6,[libc.so.6]",
            "false,0,4,0.0,80.0,libc.so.6,_start",
            "false,0,2,0.0,40.0,web,run",
        ];
        assert_eq!(rows, expected);
        assert_eq!(csv(&["--kernel"]).len(), 1);
        assert_eq!(csv(&["--user", "--by", "comm", "--top", "1"]), ["db,false,2,3,40.0,60.0,web,main"]);
    }

    #[test]
    fn lines_are_folded_by_program_and_say_what_is_incomplete() {
        let (exit, out, _) = tape().run(&["profile", "--folded"]);
        let expected = "db;[incomplete];main;[libc.so.6] 1\ndb;_start;main;main 2\n\
                        web;_start;main;run;work_[i] 1\nweb;_start;main;run;work_[i];read_[k] 1\n";
        assert_eq!((exit, out.as_str()), (0, expected));
        let page = tape().run(&["profile"]).1;
        assert!(page.contains("1 of 5 samples have a user stack that ends before"), "{page}");
    }

    #[test]
    fn a_flame_graph_is_a_picture_of_the_folded_lines() {
        let file = std::env::temp_dir().join(format!("tapedeck-flame-{}.svg", std::process::id()));
        let name = file.to_str().expect("UTF-8");
        assert_eq!(tape().run(&["profile", "--svg", name]).0, 0);
        let svg = std::fs::read_to_string(&file).expect("written");
        std::fs::remove_file(&file).expect("our own file");
        assert!(svg.contains("<svg") && svg.contains("work (2 samples"), "{svg}");
        let (exit, _, messages) = tape().run(&["profile", "--where", "cpu = 9", "--svg", name]);
        assert!(exit == 6 && messages.contains("no stack to draw"), "{messages}");
    }

    #[test]
    fn the_layout_of_bcc_has_the_innermost_function_first_and_the_largest_count_last() {
        let out = tape().run(&["profile", "--compat"]).1;
        let last = "    main\n    main\n    _start\n    -                db (8)\n        2\n\n";
        assert!(out.ends_with(last), "{out}");
        let kernel =
            "    read\n    work\n    run\n    main\n    _start\n    -                web (7)\n        1\n";
        assert!(out.contains(kernel), "{out}");
    }

    #[test]
    fn lines_of_source_files_are_behind_functions_on_request() {
        let mut tape = Tape::new();
        tape.stacks().task(0, 7, 7, "web").mapping(1, "/usr/bin/web");
        tape.table(
            "cpu_sample",
            &["ts:u64", "cpu:u16", "tid:u32>task", "kstack:u32~stack", "ustack:u32~stack"],
        );
        tape.frame(1, false, 1, "work@/src/work.c:7;run@/src/run.c:31").frame(2, false, 1, "_start");
        tape.frame(3, false, 1, "work@/src/work.c:9;run@/src/run.c:31");
        tape.stack(1, &[1, 2]).stack(2, &[3, 2]).event("cpu_sample", 1, [7, 0, 1]).event(
            "cpu_sample",
            2,
            [7, 0, 2],
        );
        let folded = tape.run(&["profile", "--folded", "--lines"]).1;
        let expected =
            "web;_start;run run.c:31;work work.c:7_[i] 1\nweb;_start;run run.c:31;work work.c:9_[i] 1\n";
        assert_eq!(folded, expected);
        assert_eq!(tape.run(&["profile", "--folded"]).1, "web;_start;run;work_[i] 2\n");
        let page = tape.run(&["profile", "--lines"]).1;
        assert!(page.contains("  work work.c:7\n") && !page.contains("incomplete"), "{page}");
    }

    #[test]
    fn wrong_options_are_explained() {
        assert_eq!(tape().run(&["profile", "--user", "--kernel"]).0, 2);
        let (exit, _, messages) = tape().run(&["profile", "--symbols", "/nonexistent"]);
        assert!(exit == 2 && messages.contains("not a directory"), "{messages}");
    }
}
