//! The analyzer: answers from a trace, on any machine, long after.
//!
//! ```text
//! analyze trace.bin                    what happened, in one page
//! analyze trace.bin tcpsend            what that report says
//! analyze trace.bin info               what is in the file
//! analyze trace.bin check              is all of it there?
//! analyze trace.bin list               which reports does it answer?
//! analyze trace.bin replay filetop     what the live tool would have shown
//! analyze trace.bin sql "SELECT …"     anything else
//! analyze trace.bin slice … -o b.bin   another trace: a part of it, one without names, a whole one
//! ```
//!
//! The way of an answer: [`args`] → [`trace`] opens the file → the verb's [`report`] names tables and
//! columns → [`load`] decodes them in parallel, [`mask`] applies `--where`, [`group`] adds up by
//! interval and `--by` → a small [`table`] → [`shape`] sorts and cuts → [`mod@print`], [`json`] or
//! [`export`]. What is missing is known by [`ledger`] and said each time.
//!
//! rayon folds what is large, polars holds what is small, and polars is never called inside a rayon
//! task. Results do not depend on the number of threads.
//!
//! Exit codes: 0 ok, 1 unusable, 2 usage, 3 finished but something is missing from the span that was
//! asked for, 4 differs from the expected result, 5 inconclusive, 6 this trace cannot answer that.

mod answer;
mod args;
mod backtrace;
mod beside;
mod bins;
mod blocks;
mod buckets;
mod busiest;
mod cells;
mod censored;
mod check;
mod clock;
mod coarse;
mod columns;
mod compat;
mod condition;
mod connections;
mod context;
mod counters;
mod distinct;
mod error;
mod escape;
mod expected;
mod export;
mod files;
mod fit;
mod flag;
mod flame;
mod flights;
mod flow;
mod follow;
mod functions;
mod gathered;
mod group;
mod handles;
mod hits;
#[cfg(test)]
mod hostile;
mod identity;
mod ids;
mod info;
mod input;
mod json;
mod keys;
mod latency;
mod leading;
mod ledger;
mod list;
mod listing;
mod load;
mod load_average;
mod looked_up;
mod mask;
mod meant;
mod members;
mod missing;
mod named;
mod named_sums;
mod naming;
mod options;
mod order;
mod output;
mod outstanding;
mod overview;
mod pages;
mod pairs;
mod paths;
mod pattern;
mod peers;
mod print;
mod printer;
mod probes;
mod progress;
mod quantile;
mod ranks;
mod replay;
mod report;
mod requests;
mod rewrite;
mod room;
mod rows;
mod run;
mod sampled;
mod scratch;
mod shape;
mod shares;
mod slices;
mod spread;
mod sql;
mod stacks;
mod states;
mod strip;
mod sysstat;
mod table;
mod tally;
#[cfg(test)]
mod testkit;
mod threads;
mod threshold;
mod trace;
mod window;
mod zoom;

pub use error::Exit;
pub use report::{layouts, names as reports};
pub use run::{main, run};
