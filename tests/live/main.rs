//! Live tests: what `capture` records, against what the workload itself or an outside observer says
//! of the same run. They need root and a kernel that lets BPF programs load; elsewhere they skip,
//! aloud, unless `REQUIRE_LIVE=1` forbids it.

mod ledger;
mod sends;
mod support;
