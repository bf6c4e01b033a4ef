//! What can be wrong with a trace file.

use std::io;

/// Result of reading or writing a trace.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Why bytes are not (or cannot become) a trace: what, where, expected, found.
///
/// Each message has its reason in it, so none has a `source()`: who prints a chain of errors would print
/// the reason twice.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("{what}: {reason}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The reason.
        reason: io::Error,
    },
    /// The file has no frame of ours at all.
    #[error(
        "not a tapedeck trace: no frame header in {length} bytes; expected the bytes 'tapedeck' near the start"
    )]
    NotATrace {
        /// Size of the file.
        length: u64,
    },
    /// A recorder has the file open, and it is not known yet what the rows will be.
    #[error("the recording has just begun, and nothing is in the file yet: ask again in a second")]
    JustBegun,
    /// A damaged or cut place in the file.
    #[error("damaged at byte {offset}: {what}")]
    Damaged {
        /// File offset of the frame.
        offset: u64,
        /// What was expected and found.
        what: String,
    },
    /// A newer program wrote the file in a way that this one would misread.
    #[error(
        "this trace needs a reader of format {required}, this program reads up to {supported}: use a newer analyze"
    )]
    TooNew {
        /// What the file asks for.
        required: u32,
        /// What this build implements.
        supported: u32,
    },
    /// A key file that is no key.
    #[error(
        "{path} is not a key: expected {expected}, found {found}; make one: (umask 077; head -c32 /dev/urandom >FILE)"
    )]
    Key {
        /// The file.
        path: String,
        /// How long a key is.
        expected: String,
        /// How long it is, as far as it was read.
        found: usize,
    },
    /// A key file that others than its owner can read.
    #[error(
        "others can read the key in {path} (mode {mode:o}), which then hides nothing from them: chmod 600 {path}"
    )]
    KeyIsNoSecret {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// A message of well-formed bytes but not well-formed content, a number without a meaning, or text that is
    /// not UTF-8.
    #[error("bad message: {0}")]
    Message(String),
    /// Content that contradicts itself.
    #[error("bad batch: {0}")]
    Batch(String),
}

impl FormatError {
    /// For `map_err`: keeps what was being done.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io { what, reason }
    }
}

impl From<capnp::Error> for FormatError {
    fn from(error: capnp::Error) -> Self {
        Self::Message(error.to_string())
    }
}

impl From<capnp::NotInSchema> for FormatError {
    fn from(error: capnp::NotInSchema) -> Self {
        Self::Message(error.to_string())
    }
}

impl From<std::str::Utf8Error> for FormatError {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::Message(format!("text is not UTF-8: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_printed_once() {
        let error = FormatError::io("write the trace")(io::Error::other("no space"));
        assert_eq!(error.to_string(), "write the trace: no space");
        assert!(std::error::Error::source(&error).is_none());
        let error = FormatError::from(capnp::NotInSchema(7));
        assert!(
            error.to_string().starts_with("bad message: ") && std::error::Error::source(&error).is_none()
        );
    }
}
