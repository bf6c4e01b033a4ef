//! The command line: `analyze [OPTIONS] TRACE… [VERB [ARGS]]`.
//!
//! Reports are verbs. The first plain word after a trace that is a verb is the verb; options stand on
//! either side of it, and a report's own options are known wherever its verb is.

use super::error::Failure;
use super::missing;
use super::options::Options;
use super::report::{Flag, REPORTS, Report};
use super::rewrite;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, value_parser};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Verbs that are not reports.
pub(crate) const VERBS: [(&str, &str); 5] = [
    ("info", "what is in this trace: host, options, tables with their columns, probes"),
    ("check", "is every frame readable, nothing missing, and does the loss ledger close?"),
    ("list", "which reports does this trace answer, exactly or not, and why?"),
    ("replay", "what the live tool would have shown, interval by interval: replay filetop"),
    ("sql", "any question, in SQL: sql \"SELECT comm, count(*) FROM process_exec GROUP BY comm\""),
];

/// Verbs that a word stands behind, and what it is.
const OPERANDS: [(&str, &str); 2] = [("replay", "REPORT"), ("sql", "QUERY")];

/// Options of verbs that are not reports.
static OWN: [(&str, Flag); 2] = [
    ("replay", Flag::valued("speed", "TIMES", "so many times as fast, or 'max' [default: 1]")),
    ("sql", Flag::switch("tables", "list the tables, their columns and units")),
];

/// A command line that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Files; `-` is standard input.
    pub traces: Vec<PathBuf>,
    /// What to do; `None`: the overview page.
    pub verb: Option<String>,
    /// The word behind the verb, where the verb takes one.
    pub operand: Option<String>,
    /// Common options.
    pub options: Options,
    /// The verb's own options: name and value (`true` for switches).
    pub flags: BTreeMap<&'static str, String>,
}

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// To run.
    Call(Box<Call>),
    /// To write another trace, with the verb's own options.
    Rewrite(&'static rewrite::Verb, Box<Call>, Box<ArgMatches>),
    /// To print a help text and end well.
    Help(String),
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(words: &[OsString]) -> Result<Parsed, Failure> {
    // Names of files may be any bytes; verbs and options are text.
    let args: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let verb = find_verb(&args);
    let own = verb.map(|at| own_flags(&args[at..])).unwrap_or_default();
    let report = verb.and_then(|at| report(&args[at]));
    let command = command(verb.map(|at| args[at].as_str()), report, &own);
    let matches = match command.try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Parsed::Help(error.render().to_string())),
        Err(error) => return Err(usage(&error)),
    };
    let options = Options::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    let mut words: Vec<OsString> = matches.get_many("words").into_iter().flatten().cloned().collect();
    let verb = verb.map(|at| args[at].clone());
    let operand = take_operand(verb.as_deref(), &mut words)?;
    let listing = options.columns && report.is_some();
    if words.is_empty() && !listing {
        let example = format!("analyze trace.bin {}", verb.as_deref().unwrap_or("tcpsend"));
        return Err(
            Failure::usage("no trace is named").hint(format!("traces come before the verb: {example}"))
        );
    }
    missing::check(&words, verb.as_deref(), &names())?;
    let flags = flags(&own, &matches);
    let rewrite = verb.as_deref().and_then(rewriting);
    let traces = words.into_iter().map(PathBuf::from).collect();
    let call = Box::new(Call { traces, verb, operand, options, flags });
    Ok(match rewrite {
        Some(verb) => Parsed::Rewrite(verb, call, Box::new(matches)),
        None => Parsed::Call(call),
    })
}

/// Leaves the traces in `words`, and returns what stands behind the verb.
fn take_operand(verb: Option<&str>, words: &mut Vec<OsString>) -> Result<Option<String>, Failure> {
    let Some(verb) = verb else { return Ok(None) };
    let at = words.iter().position(|word| word.to_str() == Some(verb)).unwrap_or(words.len());
    let extra = words.split_off((at + 1).min(words.len()));
    words.truncate(at);
    let takes = OPERANDS.iter().any(|operand| operand.0 == verb);
    match &extra[..] {
        [operand] if takes => Ok(Some(operand.to_string_lossy().into_owned())),
        [] => Ok(None),
        [first, ..] => Err(Failure::usage(format!("'{}' stands behind the verb {verb}", first.display()))
            .hint("traces come before the verb; a query is one word: put it in quotes")),
    }
}

/// A report by name.
pub(crate) fn report(name: &str) -> Option<&'static Report> {
    REPORTS.iter().copied().find(|report| report.name == name)
}

/// A verb that writes another trace, by name.
fn rewriting(name: &str) -> Option<&'static rewrite::Verb> {
    rewrite::VERBS.iter().copied().find(|verb| verb.name == name)
}

/// Every verb.
fn names() -> Vec<&'static str> {
    REPORTS.iter().map(|report| report.name).chain(verbs_about().map(|verb| verb.0)).collect()
}

/// Every verb that is no report, with what it does.
fn verbs_about() -> impl Iterator<Item = (&'static str, &'static str)> {
    VERBS.into_iter().chain(rewrite::VERBS.iter().map(|verb| (verb.name, verb.about)))
}

fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    Failure::usage(text.trim_start_matches("error: ").trim_end())
}

/// Position of the first plain word that is a verb. Options that take a value hide it from this search.
fn find_verb(args: &[String]) -> Option<usize> {
    let common = Options::augment_args(Command::new("analyze"));
    let own = rewrite::VERBS.map(|verb| (verb.options)(Command::new(verb.name)));
    let takes_value = |arg: &str| {
        let of_report = REPORTS
            .iter()
            .flat_map(|report| report.flags)
            .chain(OWN.iter().map(|own| &own.1))
            .any(|flag| flag.value.is_some() && flag.is_typed(arg));
        let common = own.iter().chain([&common]).flat_map(Command::get_arguments).any(|option| {
            let long = option.get_long().is_some_and(|long| arg.strip_prefix("--") == Some(long));
            let short = option
                .get_short()
                .is_some_and(|short| arg.strip_prefix('-') == Some(short.to_string().as_str()));
            (long || short) && option.get_action().takes_values()
        });
        of_report || common
    };
    let mut at = 1;
    while at < args.len() {
        let arg = args[at].as_str();
        if arg == "--" {
            return None;
        }
        if is_verb(arg) {
            return Some(at);
        }
        at += 1 + usize::from(arg.starts_with('-') && takes_value(arg));
    }
    None
}

fn is_verb(word: &str) -> bool {
    report(word).is_some() || verbs_about().any(|verb| verb.0 == word)
}

fn command(verb: Option<&str>, report: Option<&'static Report>, own: &[&'static Flag]) -> Command {
    let words = Arg::new("words")
        .value_name("TRACE")
        .num_args(0..)
        .value_parser(value_parser!(OsString))
        .help("Trace files ('-': standard input), then a verb");
    let mut command = Options::augment_args(Command::new("analyze")).arg(words);
    command = command.version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    for flag in own {
        command = command.arg(flag.arg());
    }
    let Some(report) = report else {
        let about = verb.and_then(|verb| verbs_about().find(|known| known.0 == verb)).map(|known| known.1);
        if let Some(verb) = verb.and_then(rewriting) {
            command = (verb.options)(command);
        }
        return command
            .about(
                about.unwrap_or("Answer questions from a trace: without a verb, what happened in one page"),
            )
            .override_usage("analyze [OPTIONS] TRACE… [VERB [OPTIONS]]")
            .after_help(verbs());
    };
    command
        .about(report.question)
        .override_usage(format!("analyze [OPTIONS] TRACE… {} [OPTIONS]", report.name))
        .after_help(format!("{}\n\n{}", report.exactness, super::report::outputs(report)))
}

fn verbs() -> String {
    let reports = REPORTS.iter().map(|report| (report.name, report.question));
    let line = |(name, question): (&str, &str)| format!("  {name:<14} {question}\n");
    let lines: String = verbs_about().chain(reports).map(line).collect();
    format!("Verbs:\n{lines}\nEach report explains itself: analyze VERB --help")
}

impl Flag {
    fn is_typed(&self, arg: &str) -> bool {
        let name = format!("{}{}", if self.name.len() == 1 { "-" } else { "--" }, self.name);
        arg == name || self.letter.is_some_and(|letter| arg == format!("-{letter}"))
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).help(self.doc).help_heading("This verb");
        // A name of one letter is that of the live tool's option.
        let only = self.name.chars().next().filter(|_| self.name.len() == 1);
        let arg = if only.is_some() { arg } else { arg.long(self.name) };
        let arg = arg.short(self.letter.or(only));
        match self.value {
            Some(value) => arg.value_name(value),
            None => arg.action(ArgAction::SetTrue),
        }
    }
}

/// The options that a verb has of its own; `args` begins with it. What is replayed has its own too.
fn own_flags(args: &[String]) -> Vec<&'static Flag> {
    let verb = args[0].as_str();
    let replayed = args[1..].iter().find_map(|word| report(word)).filter(|_| verb == "replay");
    let of_report = report(verb).or(replayed).into_iter().flat_map(|report| report.flags);
    of_report.chain(OWN.iter().filter(|own| own.0 == verb).map(|own| &own.1)).collect()
}

fn flags(own: &[&'static Flag], matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    let value = |flag: &Flag| match flag.value {
        Some(_) => matches.get_one::<String>(flag.name).cloned(),
        None => matches.get_flag(flag.name).then(|| "true".to_owned()),
    };
    own.iter().filter_map(|flag| Some((flag.name, value(flag)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::error::Exit;

    fn call(line: &str) -> Result<Call, Failure> {
        let args: Vec<OsString> =
            std::iter::once("analyze").chain(line.split(' ')).map(OsString::from).collect();
        match parse(&args)? {
            Parsed::Call(call) | Parsed::Rewrite(_, call, _) => Ok(*call),
            Parsed::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn options_stand_on_either_side_of_the_verb() {
        for line in [
            "--top 3 Cargo.toml tcpsend --by comm",
            "Cargo.toml --by comm tcpsend --top 3",
            "Cargo.toml tcpsend --top=3 --by comm",
        ] {
            let call = call(line).expect(line);
            assert_eq!(
                (call.verb.as_deref(), call.options.top, call.options.by.as_deref()),
                (Some("tcpsend"), Some(3), Some("comm"))
            );
            assert_eq!(call.traces, [PathBuf::from("Cargo.toml")]);
        }
        assert_eq!(
            call("--from -5s Cargo.toml info").expect("a moment from the end").options.from.as_deref(),
            Some("-5s")
        );
        assert_eq!(call("Cargo.toml").expect("no verb").verb, None);
    }

    #[test]
    fn wrong_lines_say_what_to_do() {
        let hint = |line| call(line).expect_err(line).hint.expect("a hint");
        assert!(hint("Cargo.toml tcpsned").contains("did you mean 'tcpsend'?"));
        assert!(hint("tcpsned Cargo.toml").contains("did you mean 'tcpsend'?"));
        let list = "analyze Cargo.toml list says what the trace answers";
        assert!(hint("Cargo.toml killsnoop").contains(&format!("snoop'? {list}")));
        assert!(hint("Cargo.toml zzz").starts_with(list));
        for line in ["Cargo.toml compare", "Cargo.toml Cargo.lock diff", "Cargo.toml cmp --by comm"] {
            let way = hint(line);
            assert!(way.contains("analyze a.bin b.bin REPORT") && way.contains("--check FILE"), "{way}");
        }
        assert!(hint("tcpsend").contains("traces come before the verb: analyze trace.bin tcpsend"));
        assert!(hint("tcpsend Cargo.toml").contains("traces come before the verb"));
        assert!(hint("Cargo.toml sql SELECT 1").contains("put it in quotes"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_may_have_any_name() {
        use std::os::unix::ffi::OsStringExt as _;
        let folder = crate::analyze::testkit::Folder::new();
        let name = OsString::from_vec(b"\xff\xfe.trace".to_vec());
        let path = folder.path().join(&name).into_os_string();
        std::fs::write(&path, "").expect("a folder of ours");
        let args = ["analyze".into(), path.clone(), "tcpsend".into()];
        let Ok(Parsed::Call(call)) = parse(&args) else { panic!("a call") };
        assert_eq!((call.traces, call.verb.as_deref()), (vec![PathBuf::from(path)], Some("tcpsend")));
    }

    #[test]
    fn letters_of_the_live_tools_are_known_and_none_has_two_meanings() {
        for report in REPORTS {
            // The parser itself panics on a letter that two options have.
            command(Some(report.name), Some(report), &report.flags.iter().collect::<Vec<_>>()).debug_assert();
        }
        for (line, flag) in [
            ("syscount -L", "latency"),
            ("syscount -PL", "process"),
            ("opensnoop -x", "failed"),
            ("runqlat -m", "milliseconds"),
            ("biolatency -DF", "flags"),
            ("profile -f", "folded"),
            ("replay syscount -x", "failed"),
        ] {
            let call = call(&format!("Cargo.toml {line}")).expect(line);
            assert!(call.flags.contains_key(flag), "{line}: {:?}", call.flags);
        }
    }

    #[test]
    fn a_set_is_named_where_its_first_name_is_missing() {
        let folder = crate::analyze::testkit::Folder::new();
        folder.put("r.000003.bin", b"").put("s.bin", b"");
        let at = folder.path().display();
        let failure = call(&format!("{at}/r.bin flows")).expect_err("no such file");
        assert_eq!(failure.to_string(), format!("{at}/r.bin: no such file"));
        let hint = failure.hint.expect("a hint");
        assert_eq!(hint, format!("its recording went to a set of files: analyze '{at}/r.[0-9]*.bin' flows"));
        assert!(call(&format!("{at}/r.[0-9]*.bin flows")).is_ok(), "what it says works");
    }

    #[test]
    fn a_missing_file_is_a_missing_file() {
        for line in ["Cargo.tml", "Cargo.tml tcpsend", "Cargo.toml Cargo.tml tcpsend", "./Cargo.tml list"] {
            let failure = call(line).expect_err(line);
            assert_eq!(failure.exit, Exit::Unusable);
            assert!(failure.to_string().ends_with("Cargo.tml: no such file"), "{failure}");
            assert!(failure.hint.is_some_and(|hint| hint.ends_with("Cargo.toml'?")), "{line}");
        }
        let far = call("/nowhere/trace.bin").expect_err("no such folder");
        assert!(far.hint.is_some_and(|hint| hint.contains("traces come before the verb")));
    }
}
