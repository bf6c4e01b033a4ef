//! The trace file: what is in it, and the only code that knows its bytes.
//!
//! `trace.bin` is a zstd stream. Every *frame* of ours is a zstd skippable frame that holds a fixed
//! header ([`frame`]), followed by one or more ordinary zstd frames, each of which decompresses to
//! one Cap'n Proto message (`trace.capnp`). Tools that know nothing of us therefore read a trace:
//!
//! ```text
//! zstd -t trace.bin
//! zstd -dc trace.bin | capnp decode schema/trace.capnp Frame
//! ```
//!
//! Rows travel as a [`Batch`]: one table, one stream (a ring), columns as typed vectors. The writer
//! makes each column small ([`transform`]) and the reader undoes it; neither knows any table, since
//! definitions ([`table`]) are part of the file.

pub mod column;
pub mod error;
pub mod frame;
pub mod histogram;
pub mod host;
mod message;
pub mod reader;
pub mod table;
pub mod transform;
pub mod writer;

capnp::generated_code!(mod trace_capnp, "schema/trace_capnp.rs");

pub use column::{Batch, Column, Text};
pub use error::{FormatError, Result};
pub use frame::{FrameHeader, Kind};
pub use host::Host;
pub use reader::TraceReader;
pub use table::{ColumnDef, ColumnType, Role, TableDef};
pub use writer::{TraceTotals, TraceWriter};
