//! The integration tests: one binary, because each one that links polars takes its time.
//!
//! - `container`: the recipe for a container says what the README says.
//! - `format`: the file, from outside: cut, flipped, read by stock tools.
//! - `cap`: no allocation of this program is larger than any that a reader has reason for.
//! - `fresh`: what is committed although it could be made is what would be made.
//! - `handles`: more files than may be open at first.
//! - `hostile`: traces that mean to mislead, through every report: what the analyzer's fuzz targets run.
//! - `progress`: on a terminal, what takes its time shows how far it is.
//! - `memory`: what the analyzer takes at most, as the kernel counts it.

#[path = "fuzz/cap.rs"]
mod cap;
mod container;
mod format;
mod fresh;
#[cfg(feature = "analyze")]
mod handles;
#[cfg(feature = "analyze")]
mod hostile;
#[cfg(all(feature = "analyze", target_os = "linux"))]
mod memory;
#[cfg(all(feature = "analyze", target_os = "linux"))]
mod progress;
mod tools;
