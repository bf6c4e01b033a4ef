//! Names of files with `*`, `?` and `[…]` in them, where no shell has put the files in their place: quoted, or with more
//! names than a command line holds.
//!
//! They mean what they mean to the shell: no `*` goes beyond a folder or stands for the dot of a hidden file. A file that
//! is called so is meant itself.

use super::error::{Exit, Failure};
use glob::MatchOptions;
use std::path::{Path, PathBuf};

const AS_THE_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that a name stands for, sorted; `None`: it is no pattern.
pub(crate) fn files(name: &Path) -> Option<Result<Vec<PathBuf>, Failure>> {
    let text = name.to_str().filter(|text| text.contains(['*', '?', '[']) && !name.exists())?;
    let unusable = |what: String| Failure::new(Exit::Unusable, what);
    let wrong = |error: glob::PatternError| {
        unusable(format!("{text}: no such file, and as a pattern it is wrong: {error}"))
            .hint("a pattern has * for any letters, ? for one, [0-9] for one of several")
    };
    let found = match glob::glob_with(text, AS_THE_SHELL) {
        Ok(found) => found.flatten().collect::<Vec<PathBuf>>(),
        Err(error) => return Some(Err(wrong(error))),
    };
    let none = || {
        unusable(format!("{text}: no file has a name like that"))
            .hint("a pattern stands for what is there now, from this folder on; a folder stands for the traces in it")
    };
    Some(if found.is_empty() { Err(none()) } else { Ok(found) })
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::{Folder, Tape};

    /// A recording of so many sends.
    fn sends(calls: u64) -> Vec<u8> {
        let mut tape = Tape::new();
        (0..calls).for_each(|at| {
            tape.send(at * 1_000_000, 7, 1, 100, 100);
        });
        tape.bytes()
    }

    #[test]
    fn a_pattern_stands_for_files_as_to_the_shell() {
        let folder = Folder::new();
        for (calls, name) in (1..).zip(["web1.bin", "web2.bin", "web10.bin", ".web3.bin", "db.bin"]) {
            folder.put(name, &sends(calls));
        }
        let ask = |named: &str| folder.run(&format!("{named} tcpsend --interval all --format csv"));
        for (pattern, files) in [
            ("web*.bin", "web1.bin web10.bin web2.bin"),
            ("web[0-9].bin", "web1.bin web2.bin"),
            ("?b.bin", "db.bin"),
            ("w*1.bin db.bin", "web1.bin db.bin"),
        ] {
            let (exit, out, messages) = ask(pattern);
            assert_eq!((exit, &out), (0, &ask(files).1), "{pattern}: {messages}");
        }
        // A name is taken at its word where there is such a file, and counts once beside its pattern.
        folder.put("web[12].bin", &sends(7));
        assert!(ask("web[12].bin").1.contains("false,7,"));
        let (_, _, messages) = ask("web1.bin web?.bin");
        assert!(messages.contains("web1.bin is the same as web1.bin: it counts once"), "{messages}");
    }

    #[test]
    fn what_stands_for_nothing_says_so() {
        let folder = Folder::new();
        folder.put("web1.bin", &sends(1));
        for (line, said) in [
            ("mail*.bin tcpsend", "mail*.bin: no file has a name like that"),
            ("web1.bin mail? tcpsend", "mail?: no file has a name like that"),
            ("web[.bin", "web[.bin: no such file, and as a pattern it is wrong: "),
        ] {
            let (exit, _, messages) = folder.run(line);
            assert!(exit == 1 && messages.contains(said), "{line}: {messages}");
        }
    }
}
