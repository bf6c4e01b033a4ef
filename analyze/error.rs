//! How a run ends: exit codes, and errors that name the next step.

/// What the process returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything that was asked for is there.
    Ok = 0,
    /// The input cannot be used.
    Unusable = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Finished, but something is missing from the trace in the span that was asked for.
    Incomplete = 3,
    /// The result differs from the expected one.
    Regression = 4,
    /// The data does not decide.
    Inconclusive = 5,
    /// This trace cannot answer that.
    CannotAnswer = 6,
}

/// An error with its exit code and, where there is one, the next step.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    /// What the process returns.
    pub exit: Exit,
    what: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    /// An error of a kind.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    /// The command line is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// This trace cannot answer that.
    pub fn cannot(what: impl Into<String>) -> Self {
        Self::new(Exit::CannotAnswer, what)
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The name most like `word`, if one is close: for 'did you mean'.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (distance(word, name), name));
    let (score, name) = scored.min()?;
    (score <= 1 + word.len() / 4).then_some(name)
}

/// Letters that two names must have in common to be akin.
const PIECE: usize = 4;

/// The name that shares the longest piece with `word`; of several the nearest: for whom an edit distance is no help.
pub(crate) fn akin<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (usize::MAX - shared(word, name), distance(word, name), name));
    let (rest, _, name) = scored.min()?;
    (usize::MAX - rest >= PIECE).then_some(name)
}

/// Length of the longest piece that is in both.
fn shared(a: &str, b: &str) -> usize {
    let starts = |word: &str| word.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
    let common =
        |(x, y): (usize, usize)| a[x..].chars().zip(b[y..].chars()).take_while(|(x, y)| x == y).count();
    let pairs = starts(a).into_iter().flat_map(|x| starts(b).into_iter().map(move |y| (x, y)));
    pairs.map(common).max().unwrap_or(0)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        assert_eq!(nearest("tcpsned", ["tcptop", "tcpsend"]), Some("tcpsend"));
        assert_eq!(nearest("trace.bin", ["tcptop", "tcpsend"]), None);
    }

    #[test]
    fn a_name_of_another_kin_is_found_by_what_it_shares() {
        assert_eq!(akin("biolatency", ["filetop", "funclatency", "runqlat"]), Some("funclatency"));
        assert_eq!(akin("xfsdist", ["filetop", "funclatency"]), None);
    }
}
