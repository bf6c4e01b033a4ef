//! From a command line to an exit code.

use super::answer::{Answer, Page};
use super::args::{self, Call, Parsed};
use super::clock::Clock;
use super::error::{Exit, Failure};
use super::escape::visible;
use super::ledger::Losses;
use super::options::{Format, Options};
use super::output::{self, Output};
use super::printer::Printer;
use super::report::{Context, Report};
use super::shape::Shape;
use super::table::{TIME, Table};
use super::trace::Trace;
use super::window::Window;
use super::{
    beside, check, expected, export, files, follow, handles, info, input, json, list, overview, print,
    replay, report, rewrite, slices, sql, threshold,
};
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

/// The program: runs on the process's own output and prints errors with their hints.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    handles::allow();
    let args: Vec<OsString> = args.into_iter().collect();
    let terminal = io::stdout().is_terminal();
    let error = match run(&args, &mut io::stdout().lock(), &mut io::stderr().lock(), terminal) {
        Ok(exit) => return exit,
        Err(error) => of_output(error),
    };
    let pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(pipe) {
        return Exit::Ok;
    }
    // Nothing is left to tell it to if this fails too.
    let mut said = io::stderr().lock();
    // An error may name what stands in the file, which must not command the terminal either.
    let text: Vec<String> = format!("analyze: {error:#}").lines().map(visible).collect();
    let _ = writeln!(said, "{}", text.join("\n"));
    let failure = error.downcast_ref::<Failure>();
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        let _ = writeln!(said, "hint: {}", visible(hint));
    }
    failure.map_or(Exit::Unusable, |failure| failure.exit)
}

/// What has no name of a file with it went where answers go; when there is no room for it, that is said.
fn of_output(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<io::Error>() {
        Some(reason) if reason.kind() == io::ErrorKind::StorageFull => {
            Failure::new(Exit::Unusable, format!("the answer could not be written whole: {reason}"))
                .hint("make room where the output goes, or send it elsewhere")
                .into()
        }
        _ => error,
    }
}

/// Runs one command line, program name first. `terminal`: whether `out` is one.
///
/// # Errors
/// When the line is wrong, a file cannot be used, or the trace cannot answer.
pub fn run(
    args: &[impl AsRef<OsStr>],
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    let args: Vec<OsString> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let call = match args::parse(&args)? {
        Parsed::Call(call) => call,
        Parsed::Rewrite(verb, call, matches) => return rewrite::run(verb, &call, &matches, out, messages),
        Parsed::Help(text) => {
            out.write_all(text.as_bytes())?;
            return Ok(Exit::Ok);
        }
    };
    let report = call.verb.as_deref().and_then(args::report);
    if let (true, Some(verb)) = (call.options.quick, &call.verb) {
        return Err(Failure::usage(format!("--quick is for the first page, and {verb} is not it")).into());
    }
    let replays = call.verb.as_deref() == Some("replay");
    if let (None, false, Some(option)) = (report, replays, call.options.of_reports()) {
        return Err(Failure::usage(format!("--{option} is for reports"))
            .hint("name one: analyze --help lists them")
            .into());
    }
    if replays && call.options.follow {
        let report = call.operand.as_deref().unwrap_or("tcptop");
        return Err(Failure::usage("replay shows what was recorded, and --follow what is being recorded")
            .hint(format!("the report itself can be followed: analyze TRACE {report} --follow"))
            .into());
    }
    if let (Some(report), true) = (report, call.traces.is_empty()) {
        return columns(report, None, out);
    }
    if let (Some(report), true) = (report, call.options.follow) {
        return follow::run(report, &call, out, messages, terminal);
    }
    let files = files::named(&call.traces, messages)?;
    if let (Some(path), true) = (&call.options.check, call.options.update) {
        output::not_an_input(path, &files)?;
    }
    // Before the answer is worked out: that it cannot be written is known now.
    let Some(path) = &call.options.output else { return ask(report, &call, &files, out, messages, terminal) };
    let terminal = terminal && path.as_os_str() == "-";
    let mut file = Output::create(path, true, &files, out)?;
    let exit = ask(report, &call, &files, &mut file, messages, terminal)?;
    file.finish()?;
    Ok(exit)
}

/// Opens the files and answers.
fn ask(
    report: Option<&Report>,
    call: &Call,
    files: &[PathBuf],
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    let (traces, opened) = files::open(files, &call.options)?.usable(messages)?;
    let exit = match (report, &traces[..]) {
        (Some(report), [trace, ..]) if call.options.columns => columns(report, Some(trace), out),
        (Some(report), all) if all.len() > 1 || beside::is_asked(call) => {
            beside::answer(&traces, report, call, out, messages, terminal)
        }
        (None, [_, _, ..]) if call.options.output.is_some() => {
            Err(Failure::usage("-o takes the answer for one trace").into())
        }
        _ => {
            let mut exit = Exit::Ok;
            for trace in &traces {
                let several = traces.len() > 1;
                exit = exit.max(answer((trace, several), report, call, out, messages, terminal)?);
            }
            Ok(exit)
        }
    }?;
    Ok(exit.max(opened))
}

/// The answer of a trace; of one of several, what it lost is said under its name.
fn answer(
    (trace, several): (&Trace, bool),
    report: Option<&Report>,
    call: &Call,
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    let window = window(trace.span, &trace.clock, report, call)?;
    let verb = call.verb.as_deref().unwrap_or("overview");
    if verb == "replay" {
        let (tables, remarks) = replay::run(trace, call, window, out, terminal)?;
        tell(&remarks, messages)?;
        return report_losses(&lost(trace, several, window, &tables), messages);
    }
    let context = report.map(|report| Context::new(trace, report, call, window)).transpose()?;
    let context = context.map(Context::by_and_by);
    let all = || trace.tables.iter().map(|table| table.number).collect();
    let (answer, tables): (Answer, Vec<u16>) = match (&context, verb) {
        (Some(context), _) => {
            let whole = run_report(context);
            let answer = match context.slices() {
                Some(slices) => slices::answer(context, slices, out, terminal)?,
                None => whole?,
            };
            tell(&cut_short(context, &answer), messages)?;
            (answer, context.tables())
        }
        (None, "info") => (info::answer(trace), all()),
        (None, "check") => (check::answer(trace), all()),
        (None, "list") => (list::answer(trace)?, Vec::new()),
        (None, "sql") => sql(trace, window, call)?,
        (None, _) => (first_page(trace, window, call, out)?, all()),
    };
    let losses = lost(trace, several, window, &tables);
    if !matches!(verb, "info" | "check" | "list") && call.options.check.is_none() {
        let remarks = context.as_ref().map(Context::cut_remarks);
        let remarks = remarks.unwrap_or_else(|| threshold::of_tables(trace, &tables, 0));
        aside(&remarks, &answer, &call.options, messages)?;
    }
    let page = Page {
        report: verb,
        trace: &trace.name,
        window,
        clock: &trace.clock,
        answer: &answer,
        losses: &losses,
    };
    match context.as_ref().filter(|_| call.options.compat && call.options.check.is_none()) {
        Some(context) => {
            write(&compat(context, &answer)?, out)?;
            report_losses(&losses, messages)
        }
        None => deliver(&page, call, out, messages, terminal),
    }
}

fn lost(trace: &Trace, several: bool, window: Window, tables: &[u16]) -> Losses {
    let losses = trace.ledger().losses(trace, window, tables);
    if !several {
        return losses;
    }
    let mut named = Losses::default();
    named.add(&trace.name, losses);
    named
}

/// That a table has long calls only, where that is not among the notes that are printed.
pub(super) fn aside(
    remarks: &[String],
    answer: &Answer,
    options: &Options,
    messages: &mut dyn Write,
) -> Result<()> {
    let untold = remarks.iter().filter(|remark| !(options.has_notes() && answer.notes.contains(remark)));
    tell(&untold.cloned().collect::<Vec<_>>(), messages)
}

/// That a program gets the first rows only although it did not ask for those: people see as much by the number of lines.
fn cut_short(context: &Context, answer: &Answer) -> Vec<String> {
    let options = context.options;
    let silent =
        matches!(options.format(), Format::Table) || options.top.is_some() || options.check.is_some();
    let rows = answer.table.as_ref().map_or(0, Table::height);
    let most = context.report.defaults.top.filter(|&top| !silent && rows >= top);
    let timed = answer.table.as_ref().is_some_and(|table| !answer.events && table.heading(TIME).is_ok());
    let of = if timed { " of an interval" } else { "" };
    let told = |top| format!("no more than {top} rows{of} are printed: --top 0 prints all");
    most.map(told).into_iter().collect()
}

/// Says something beside the answer.
pub(super) fn tell(remarks: &[String], messages: &mut dyn Write) -> Result<()> {
    remarks.iter().try_for_each(|remark| Ok(writeln!(messages, "analyze: {}", visible(remark))?))
}

/// The overview. What needs no look at the events is printed before the look is taken, where it goes to people.
fn first_page(trace: &Trace, window: Window, call: &Call, out: &mut dyn Write) -> Result<Answer> {
    let options = &call.options;
    let (mut answer, rest) = overview::instant(trace, window)?;
    let at_once = options.format() == Format::Table && options.output.is_none() && options.check.is_none();
    if at_once {
        writeln!(out, "{}", print::sections(&answer, &trace.clock))?;
        out.flush()?;
        answer.sections.clear();
    }
    let later = overview::rest(trace, window, &rest, options.quick)?;
    answer.sections.extend(later.sections);
    answer.notes.extend(later.notes);
    Ok(answer)
}

/// Compares an answer or prints it, and says what is missing.
pub(super) fn deliver(
    page: &Page,
    call: &Call,
    out: &mut dyn Write,
    messages: &mut dyn Write,
    terminal: bool,
) -> Result<Exit> {
    if let Some(file) = &call.options.check {
        return compare(file, page, call.options.update, out);
    }
    match &page.answer.plain {
        Some(lines) => write(lines.as_bytes(), out)?,
        None => render(page, &call.options, out, terminal)?,
    }
    report_losses(page.losses, messages)
}

/// The part of a span that is asked for.
pub(super) fn window(span: Window, clock: &Clock, report: Option<&Report>, call: &Call) -> Result<Window> {
    let options = &call.options;
    let interval =
        options.interval(report.and_then(|report| report.defaults.interval))?.unwrap_or(super::clock::SECOND);
    let at = options.at.as_deref().map(|at| (at, interval));
    Ok(span.narrow(clock, options.from.as_deref(), options.to.as_deref(), at)?)
}

fn sql(trace: &Trace, window: Window, call: &Call) -> Result<(Answer, Vec<u16>)> {
    if call.flags.contains_key("tables") {
        return Ok((sql::tables(trace), Vec::new()));
    }
    let Some(query) = &call.operand else {
        return Err(Failure::usage("sql needs a query")
            .hint("analyze TRACE sql \"SELECT …\"; analyze TRACE sql --tables lists tables and columns")
            .into());
    };
    sql::answer(trace, window, query, call.options.memory())
}

/// Runs a report and shapes its result.
pub(super) fn run_report(context: &Context) -> Result<Answer> {
    let mut answer = unshaped(context)?;
    shape(context.report, context.options, &mut answer)?;
    Ok(answer)
}

/// What a report says, with all its notes, not yet filtered, sorted or cut.
pub(super) fn unshaped(context: &Context) -> Result<Answer> {
    let mut answer = (context.report.run)(context)?;
    while context.look_closer() {
        answer = (context.report.run)(context)?;
    }
    answer.notes.extend(context.shortcomings.iter().cloned());
    let exactness = context.report.exactness;
    let cut = context.cut();
    answer.notes.push(if cut.is_some() {
        format!("of what was recorded: {exactness}")
    } else {
        exactness.to_owned()
    });
    answer.notes.extend(context.remarks());
    answer.notes.extend(context.sources());
    Ok(answer)
}

/// `--having`, `--sort`, `--top`.
pub(super) fn shape(report: &Report, options: &Options, answer: &mut Answer) -> Result<()> {
    let shape = Shape {
        having: options.having.as_deref(),
        sort: options.sort.as_deref(),
        default_sort: answer.sort.unwrap_or(report.defaults.sort),
        top: options.top.or(report.defaults.top),
        events: answer.events,
        threads: options.threads,
    };
    answer.table = answer.table.take().map(|table| shape.apply(table)).transpose()?;
    Ok(())
}

/// The answer as the bcc tool prints it.
pub(super) fn compat(context: &Context, answer: &Answer) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let name = context.report.name;
    let print = context
        .report
        .compat
        .ok_or_else(|| Failure::usage(format!("{name} has no other layout: leave out --compat")))?;
    if context.options.by.is_some() {
        return Err(
            Failure::usage("--compat prints the columns that the bcc tool has: leave out --by").into()
        );
    }
    print(context, answer, &mut text)?;
    Ok(text)
}

/// Prints the answer as the options say.
fn render(page: &Page, options: &Options, out: &mut dyn Write, terminal: bool) -> Result<()> {
    let table = || {
        page.answer.table.as_ref().ok_or_else(|| {
            Failure::usage(format!("{} is not one table", page.report)).hint("use --format json")
        })
    };
    match options.format() {
        Format::Table => print::page(page, options.threads, out)?,
        Format::Json => page.answer.written.finish(page, options.threads, out)?,
        Format::Ndjson | Format::Csv => Printer::new(options, terminal).rows(table()?, page.clock, out)?,
        Format::Parquet if terminal => {
            return Err(Failure::usage("Parquet is not for a terminal")
                .hint("name a file: -o FILE.parquet")
                .into());
        }
        Format::Parquet => out.write_all(&export::parquet(table()?)?)?,
    }
    Ok(out.flush()?)
}

fn write(text: &[u8], out: &mut dyn Write) -> Result<()> {
    Ok(out.write_all(text).and_then(|()| out.flush())?)
}

pub(super) fn report_losses(losses: &Losses, messages: &mut dyn Write) -> Result<Exit> {
    let Some(banner) = print::banner(losses) else { return Ok(Exit::Ok) };
    for line in banner.lines() {
        writeln!(messages, "analyze: {line}")?;
    }
    Ok(Exit::Incomplete)
}

fn compare(file: &std::path::Path, page: &Page, update: bool, out: &mut dyn Write) -> Result<Exit> {
    let headings = page.answer.table.iter().flat_map(|table| &table.headings);
    let keys: Vec<&str> =
        headings.filter(|heading| heading.key).map(|heading| heading.name.as_str()).collect();
    let lines = expected::check(file, &json::page(page), &keys, update)?;
    if lines.is_empty() {
        let done = if update { "stored" } else { "as expected" };
        writeln!(out, "{}: {done}", file.display())?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "{} differs from {}:", page.report, file.display())?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok(Exit::Regression)
}

/// `--columns`: what can be named before and after.
fn columns(report: &Report, trace: Option<&Trace>, out: &mut dyn Write) -> Result<Exit> {
    let first = report.needs.first();
    if let Some((trace, need)) = trace.zip(first) {
        let def = report::recorded(trace, report, need)?;
        writeln!(out, "Columns for --where and --by ({}):", visible(&def.name))?;
        for input in input::Inputs::of(trace, def).iter() {
            let absent = &input.def.absent;
            let absent =
                if absent.is_empty() { String::new() } else { format!(" (not in this trace: {absent})") };
            let line = format!("  {:<16} {:<6} {}{absent}", input.name, input.unit, input.def.doc);
            writeln!(out, "{}", visible(&line))?;
        }
        writeln!(out)?;
    }
    write!(out, "{}", report::outputs(report))?;
    Ok(Exit::Ok)
}
