//! The recorder: probes in the kernel, one ring and one thread per processor, one writer.
//!
//! The data path, stop by stop: a program of `bpf/` fills a record ([`layout`] knows its shape from
//! the program's own type information); [`source`] hands it out of its ring; [`batch`] turns records
//! into columns; [`recorder`] gives them, and the [`identity`] of what they refer to, to
//! [`crate::schema::TraceWriter`]. [`session`] starts and ends all this; [`plan`], [`probes`] and
//! [`family`] decide what is attached and how; [`ledger`] closes the books. [`stacks`] numbers the stacks of records, with what [`mappings`] knows of address spaces;
//! [`function_names`] names them at the end, those of the kernel as [`kallsyms`] finds them, [`naming`] for a dump before that.

pub mod aggregate;
pub mod args;
pub mod attach;
pub mod bare;
pub mod batch;
pub mod books;
pub mod budget;
pub mod clocks;
pub mod command;
pub mod control;
pub mod core_types;
pub mod cost;
pub mod disk;
pub mod dry_run;
pub mod dumps;
pub mod end;
pub mod family;
pub mod filter;
pub mod flight;
pub mod function_names;
pub mod governor;
pub mod groups;
pub mod hidden;
pub mod host;
pub mod identity;
pub mod kallsyms;
pub mod knobs;
pub mod kretprobe;
pub mod layout;
pub mod ledger;
pub mod limit;
pub mod list;
pub mod mappings;
pub mod medium;
pub mod named;
pub mod names;
pub mod naming;
pub mod output;
pub mod perf_event;
pub mod perf_ring;
pub mod place;
pub mod plan;
pub mod preface;
pub mod privilege;
pub mod probes;
pub mod processors;
pub mod procfs;
pub mod record;
pub mod recorder;
pub mod refusal;
pub mod rings;
pub mod sampling;
pub mod seccomp;
pub mod session;
pub mod set;
pub mod signals;
pub mod snapshot;
pub mod source;
pub mod spare;
pub mod stacks;
pub mod stage;
pub mod summary;
pub mod system;
pub mod target;
pub mod threshold;
pub mod topology;
pub mod tracefs;
pub mod trigger;
