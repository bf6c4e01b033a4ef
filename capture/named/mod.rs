//! Probes that the user names: `capture -e SPEC`.
//!
//! A probe becomes a table of the trace, as if it had been declared in `bpf/event.h`: its columns are
//! the arguments, and `analyze` reads it as any other. What differs is where the table comes from:
//!
//! - [`parse`] reads the grammar of [`spec`], and points at what is wrong; [`preset`] has specs under one word, and a
//!   [`pattern`] of events stands for several;
//! - [`place`] finds what it names, through [`kernel`] (types of the running kernel), [`mod@format`]
//!   (tracefs), [`user`], [`elf`] and [`sdt`] (programs and libraries), [`perf`] (what the kernel and processors count), and turns each argument into a chain of
//!   offsets ([`fetch`]), once for each way of attaching, since [`regs`] and typed contexts differ;
//! - [`refused`] knows what must not be probed, and why;
//! - [`catalog`] lists what there is to name (`capture --list PATTERN`);
//! - [`table`] makes the table's layout; [`probe`] loads and attaches `bpf/named.bpf.c` for it.

pub mod argdist;
pub mod bcc;
pub mod catalog;
pub mod elf;
pub mod fetch;
mod files;
pub mod format;
pub mod in_flight;
pub mod kernel;
mod kinds;
mod options;
pub mod parse;
pub mod pattern;
pub mod perf;
pub mod place;
pub mod preset;
pub mod probe;
pub mod refused;
pub mod regs;
pub mod sdt;
pub mod spec;
pub mod table;
mod types;
pub mod user;
pub mod value;
