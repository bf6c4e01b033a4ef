//! What can be wrong with a trace file.

use std::io;

/// Result of reading or writing a trace.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Why bytes are not (or cannot become) a trace: what, where, expected, found.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The file has no frame of ours at all.
    #[error(
        "not a tapedeck trace: no frame header in {length} bytes; expected the bytes 'tapedeck' near the start"
    )]
    NotATrace {
        /// Size of the file.
        length: u64,
    },
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
        "{path} is not a key: expected {expected}, found {found}; make one: head -c32 /dev/urandom >FILE"
    )]
    Key {
        /// The file.
        path: String,
        /// How long a key is.
        expected: String,
        /// How long it is, as far as it was read.
        found: usize,
    },
    /// A message that is well-formed bytes but not well-formed content.
    #[error("bad message: {0}")]
    Message(#[from] capnp::Error),
    /// A message with a number that has no meaning.
    #[error("bad message: {0}")]
    Enumeration(#[from] capnp::NotInSchema),
    /// Text of a message that is not UTF-8.
    #[error("bad message: text is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// Content that contradicts itself.
    #[error("bad batch: {0}")]
    Batch(String),
}

impl FormatError {
    /// For `map_err`: keeps what was being done.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
