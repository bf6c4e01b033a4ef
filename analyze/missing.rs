//! What a command line names and is not there: a file, or a verb with a slip in it.

use super::error::{Exit, Failure, akin, nearest};
use super::{files, pattern};
use crate::schema::parts;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What people call a verb that is none here, and what does it.
const ELSEWHERE: [(&[&str], &str); 1] = [(
    &["compare", "cmp", "diff", "difference"],
    "traces are compared by a report: 'analyze a.bin b.bin REPORT' puts both side by side, \
     'analyze a.bin REPORT --check FILE --update' and then 'analyze b.bin REPORT --check FILE' says what differs",
)];

/// Whether all files are there. One that is not may be a verb of `verbs` with a slip, where no verb was found.
pub(crate) fn check(words: &[OsString], verb: Option<&str>, verbs: &[&str]) -> Result<(), Failure> {
    for (at, word) in words.iter().enumerate() {
        let path = Path::new(word);
        if let Some(found) = pattern::files(path) {
            found?;
        } else if !is_there(path) && !is_gone(path, words) {
            let word = &*word.to_string_lossy();
            let plain = !word.contains(['/', '.']);
            let slip = verb.is_none() && plain && (at > 0 || nearest(word, verbs.iter().copied()).is_some());
            return Err(if slip { no_verb(word, words, verbs) } else { no_file(path, verb) });
        }
    }
    Ok(())
}

fn is_there(path: &Path) -> bool {
    path.as_os_str() == "-" || path.exists()
}

/// A recorder that keeps the last few files of a set may remove one that the shell has just found.
fn is_gone(path: &Path, words: &[OsString]) -> bool {
    let later: Vec<PathBuf> = words.iter().map(PathBuf::from).filter(|other| &**other > path).collect();
    files::is_of_a_set(path, &later) && later.iter().any(|other| other.exists())
}

fn no_verb(word: &str, words: &[OsString], verbs: &[&str]) -> Failure {
    let missing = Failure::usage(format!("there is no report or verb '{word}', and no file of that name"));
    if let Some((_, way)) = ELSEWHERE.iter().find(|(called, _)| called.contains(&word)) {
        return missing.hint(*way);
    }
    let names = || verbs.iter().copied();
    let near = nearest(word, names()).or_else(|| akin(word, names()));
    let near = near.map_or(String::new(), |near| format!("did you mean '{near}'? "));
    let trace = words.iter().find(|word| is_there(Path::new(word)));
    let trace = trace.map_or("TRACE".into(), |word| word.to_string_lossy());
    missing.hint(format!(
        "{near}analyze {trace} list says what the trace answers, analyze --help lists all verbs"
    ))
}

fn no_file(path: &Path, verb: Option<&str>) -> Failure {
    let missing = Failure::new(Exit::Unusable, format!("{}: no such file", path.display()));
    let verb = verb.unwrap_or("tcpsend");
    match (set(path), neighbour(path)) {
        (Some(set), _) => {
            missing.hint(format!("its recording went to a set of files: analyze '{set}' {verb}"))
        }
        (None, Some(near)) => missing.hint(format!("did you mean '{near}'?")),
        (None, None) => missing.hint("traces come before the verb: analyze trace.bin tcpsend"),
    }
}

/// The pattern of the files that `capture --rotate` or `--flight` has put in the place of a missing one.
fn set(missing: &Path) -> Option<String> {
    let there = parts::parts(missing).is_ok_and(|files| !files.is_empty());
    let first = there.then(|| parts::part_path(missing, 1))?;
    Some(first.display().to_string().replace(".000001", ".[0-9]*"))
}

/// The file beside a missing one whose name is most like it.
fn neighbour(missing: &Path) -> Option<String> {
    let folder = missing.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let near = nearest(missing.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(missing.with_file_name(near).display().to_string())
}
