//! Live tests: what `capture` records, against what the workload itself or an outside observer says
//! of the same run. They need root and a kernel that lets BPF programs load; elsewhere they skip,
//! aloud, unless `REQUIRE_LIVE=1` forbids it. They record processes of their own only, and take away
//! what they make: namespaces, control groups, mounts.

mod abuse;
mod block;
mod bounds;
mod cli;
mod clocks;
mod cost;
mod crash;
mod dry_run;
mod ends;
mod exec;
mod files;
mod filters;
mod flight;
mod follow;
mod governor;
mod growing;
mod hotplug;
mod kernel_functions;
mod kills;
mod ledger;
mod made_up;
mod named;
mod named_open;
mod named_patterns;
mod named_perf;
mod named_stacks;
mod named_sums;
mod named_tracers;
mod named_values;
mod observers;
mod odd;
mod output;
mod presets;
mod privacy;
mod privilege;
mod profile;
mod receive;
mod resources;
mod sched;
mod sends;
mod slow;
mod stat;
mod state;
mod support;
mod syscalls;
mod sysstat;
mod terminal;
mod thresholds;
mod trace;
mod triggers;
