//! Why a recording ends.

use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// COMMAND has ended.
    Command,
    /// COMMAND could not be run.
    NotStarted,
    /// `--duration` is over.
    Duration,
    /// A signal.
    Signal,
    /// An error of the file.
    File,
    /// `--max-size` is reached.
    Size,
    /// `--min-free` is passed.
    Space,
}

impl End {
    /// Whether it is the end that the command line asked for, of which nothing need be said.
    #[must_use]
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Command | Self::Duration)
    }
}

impl fmt::Display for End {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(match self {
            Self::Command => "the command ended",
            Self::NotStarted => "the command did not start",
            Self::Duration => "the duration is over",
            Self::Signal => "interrupted",
            Self::File => "the file could not be written",
            Self::Size => "the size that --max-size allows is reached",
            Self::Space => "less is free on the disk than --min-free asks for",
        })
    }
}
