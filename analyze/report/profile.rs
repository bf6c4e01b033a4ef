//! Where does CPU time go?
//!
//! ```text
//! $ analyze trace.bin profile
//! self  total  self_pct  total_pct  binary  function
//!  146    146      73.0       73.0  burn    burn_hot
//!   52     52      26.0       26.0  burn    burn_cold
//!    0    198       0.0       99.0  burn    burn_inner
//! ```
//!
//! Each sample is what a processor was doing when its sampling clock ticked, `capture -F` times a second; a
//! processor that idled gives none. A sample stands for one period of CPU time, so shares are estimates: of n samples,
//! a share p has a standard error of √(p (1 − p) / n). `total` counts a function once per stack. Functions that
//! were inlined count as functions where debug information tells of them.
//!
//! User stacks are followed by frame pointers. Code without them hides its callers; what ends too early is
//! marked `[incomplete]`, and a note says how much that is.
//!
//! ```text
//! $ analyze trace.bin profile --by comm,pid              as bcc's profile tells them apart
//! $ analyze trace.bin profile --svg flame.svg            a flame graph, by program
//! $ analyze trace.bin profile --folded --by cpu          lines for other tools
//! $ analyze trace.bin profile --symbols /srv/debug       names from files with debug information
//! $ analyze trace.bin profile --lines                    by line of the source, where that is known
//! $ analyze trace.bin profile --where "cpu = 1 AND ustack IS NULL"
//! ```

use super::{Context, Defaults, Need, Report};
use crate::analyze::answer::Answer;
use crate::analyze::flame::{self, Flame, Subject, Weights, pair};
use crate::analyze::group::{Group, Grouping};
use anyhow::Result;
use std::io;

/// Samples by function.
pub static REPORT: Report = Report {
    name: "profile",
    question: "which functions take the CPU time, and who calls them?",
    exactness: "samples of what processors were doing, not counts of calls; idle processors are left out",
    needs: &[Need::of("cpu_sample", "cpu")],
    outputs: &flame::OUTPUTS,
    defaults: Defaults { by: "none", sort: "self,total", top: Some(30), interval: None },
    flags: flame::FLAGS,
    fit: Some(|_| Ok(vec!["a sample stands for one period of CPU time: shares are estimates".into()])),
    run,
    compat: Some(compat),
};

fn run(context: &Context) -> Result<Answer> {
    let default = if flame::wants_lines(context) { "comm" } else { "none" };
    let (grouping, groups) = gather(context, default)?;
    let flame = Flame::new(context, &groups)?;
    flame.answer(&grouping, &Subject { title: "CPU time", unit: "samples", own: "self", total: "total" })
}

fn gather<'a>(context: &Context<'a>, default: &str) -> Result<(Grouping<'a>, Vec<Group<Weights>>)> {
    let mut scan = context.scan("cpu_sample")?;
    let (kernel, user) = (scan.column("kstack")?, scan.column("ustack")?);
    let grouping = context.grouping_by(&scan, default)?;
    let groups = grouping.sum(&scan, [kernel, user], |weights: &mut Weights, [kernel, user]| {
        weights.add(pair(kernel, user), 1);
    });
    Ok((grouping, groups))
}

/// As bcc's profile prints it: each stack with its process, the most frequent last.
fn compat(context: &Context, _: &Answer, out: &mut dyn io::Write) -> io::Result<()> {
    let (_, groups) = gather(context, "comm,pid").map_err(io::Error::other)?;
    Flame::new(context, &groups).map_err(io::Error::other)?.print(out)
}
