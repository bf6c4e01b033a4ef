//! The stacks of single hits, for reports that list them: functions from the outermost on, as in a folded line.

use super::compat::{Line, Lines};
use super::flame;
use super::hits::Hit;
use super::named::{self, Probes, STACKS};
use super::report::{Context, Flag};
use super::rows::Value;
use super::stacks::{Naming, Stacks};
use anyhow::Result;
use std::io;

/// The options of a report that can print stacks.
pub(crate) const FLAGS: [Flag; 5] = [
    Flag::switch("stacks", "the recorded stacks too, the user's and the kernel's"),
    Flag::switch("user", "user stacks").letter('U'),
    Flag::switch("kernel", "kernel stacks").letter('K'),
    flame::FLAGS[4],
    flame::FLAGS[5],
];
/// The column of the result.
const STACK: &str = "stack";
/// The columns that hits must have been read with.
pub(crate) const COLUMNS: &[&str] = &STACKS;

/// Names for stacks.
pub(crate) struct Backtraces {
    stacks: Stacks,
    /// Kernel stacks, user stacks.
    shown: [bool; 2],
}

impl Backtraces {
    /// `None`: they are not asked for.
    ///
    /// # Errors
    /// When no probe has recorded any.
    pub fn asked(context: &Context) -> Result<Option<Self>> {
        let [all, kernel, user] = ["stacks", "kernel", "user"].map(|flag| context.flag(flag).is_some());
        if !(all || kernel || user) {
            return Ok(None);
        }
        named::with_stacks(Probes::asked(context))?;
        let stacks = Stacks::load(context.trace, &Naming::of(context)?).without_probes();
        Ok(Some(Self { stacks, shown: [all || kernel, all || user] }))
    }

    /// Of a hit that was read with [`COLUMNS`]; `None`: it has none.
    pub fn of(&self, hit: &Hit) -> Option<String> {
        let stack = |at: usize| match hit.extra.get(at) {
            Some(Value::Int(number)) if self.shown[at] => u32::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let functions = self.stacks.functions(stack(0)).chain(self.stacks.functions(stack(1)));
        let mut names: Vec<String> = functions.map(|function| function.plain()).collect();
        names.reverse();
        (!names.is_empty()).then(|| names.join(";"))
    }
}

/// What bcc prints below a line: a function a line, the innermost first.
pub(crate) fn below(lines: &Lines, line: &Line, out: &mut dyn io::Write) -> io::Result<()> {
    if !lines.has(STACK) {
        return Ok(());
    }
    line.text(STACK).rsplit(';').try_for_each(|name| writeln!(out, "        {name}"))?;
    writeln!(out)
}
