//! The integration tests: one binary, because each one that links polars takes its time.
//!
//! - `format`: the file, from outside: cut, flipped, read by stock tools.

mod format;
