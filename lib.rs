//! tapedeck: record a kernel trace once, ask every question later.
//!
//! [`schema`] is the trace file, [`capture`] the recorder, [`analyze`] the analyzer, [`symbols`] what both
//! know of names of code. The data path in eight stops is in `DESIGN.md`.

#[cfg(feature = "analyze")]
pub mod analyze;
#[cfg(all(feature = "capture", target_os = "linux"))]
pub mod capture;
pub mod schema;
#[cfg(any(feature = "analyze", feature = "capture"))]
pub mod symbols;
