//! What the recorder left out to keep within its bounds, and what counts would be with it.
//!
//! Over a bound the governor records only some flows (groups `net`), tasks or requests, chosen by a hash of their id, and
//! counts per table how many events the others had. So what a count would be is known as a ratio: recorded and left out
//! over recorded, in the interval of the count. Counts are multiplied by that and marked `≈`:
//!
//! ```text
//! time      calls     calls_per_s    bytes      errors
//! 12:01:08   2201        2201.00   2253824           3
//! 12:01:09  ≈9120       ≈9120.00  ≈9338880          ≈0
//! # from 1.2 s to the end one of 4 flows, tasks or requests of group net was recorded (…)
//! ```
//!
//! The sum over everything is exact; a part of it is an estimate, the better the more flows or tasks it has. Not scaled,
//! but marked `≥`, are counts of what was recorded whole or not at all (`--by` flow, or process where tasks are chosen), of
//! hits that were added up (how many rows they are says nothing of how many hits), and counts of intervals in which events were lost in other ways too, or of which nothing was recorded.

use super::bins::Bins;
use super::ledger::{Counts, overlap};
use super::named::adds_up;
use super::threshold;
use super::trace::Trace;
use super::window::Window;
use std::collections::BTreeSet;

const SECOND: f64 = super::clock::SECOND as f64;

/// Columns of `--by` that name one flow.
const FLOW: [&str; 2] = ["sock", "lport"];
/// … one task.
const TASK: [&str; 3] = ["pid", "tid", "tgid"];

/// By how much the counts of each interval are to be multiplied; none: they are what they are.
pub(crate) fn factors(trace: &Trace, bins: &Bins, by: &[&str], tables: &[u16]) -> Vec<Option<f64>> {
    let ledger = trace.ledger();
    let governed: Vec<u16> = tables
        .iter()
        .copied()
        .filter(|table| ledger.totals().get(table).is_some_and(|t| t.left_out > 0))
        .collect();
    let added_up = |&table: &u16| trace.tables.get(usize::from(table)).is_some_and(|def| adds_up(def));
    let cut = threshold::cut(trace, tables, 0).is_some();
    if cut || governed.is_empty() || names_a_unit(trace, by, &governed) || governed.iter().any(added_up) {
        return vec![None; bins.len()];
    }
    let otherwise = ledger.lossy_otherwise(trace, tables);
    let factor = |bin: u32| {
        let window = bins.window(bin);
        let whole = otherwise.iter().all(|&lossy| !overlap(lossy, window));
        let (stored, left_out) = ledger.shares(open_ended(trace.span, window), &governed);
        (whole && left_out > 0.0 && stored > 0.0).then(|| (stored + left_out) / stored)
    };
    (0..bins.len() as u32).map(factor).collect()
}

/// The ledger counts until it is read, which is before the first event and after the last one too.
fn open_ended(span: Window, window: Window) -> Window {
    let from = if window.from <= span.from { 0 } else { window.from };
    let to = if window.to >= span.to { u64::MAX } else { window.to };
    Window { from, to }
}

/// Whether each group is of what was recorded whole or not at all.
fn names_a_unit(trace: &Trace, by: &[&str], tables: &[u16]) -> bool {
    groups(trace, tables).iter().all(|group| {
        let units = if group.starts_with("net") { &FLOW[..] } else { &TASK[..] };
        // A connection has two ports: the local one alone may be a server's.
        by.iter().any(|name| units.contains(name) && (*name != "lport" || by.contains(&"rport")))
    })
}

fn groups(trace: &Trace, tables: &[u16]) -> BTreeSet<String> {
    let group = |&table: &u16| trace.tables.get(usize::from(table)).map(|def| def.group.clone());
    tables.iter().filter_map(group).filter(|group| !group.is_empty()).collect()
}

/// A sentence for each step of the governor that is about some of the tables and touches the span.
pub(crate) fn steps(trace: &Trace, window: Window, tables: &[u16]) -> Vec<String> {
    let asked = groups(trace, tables);
    let steps = all_steps(trace)
        .into_iter()
        .filter(|step| asked.contains(&step.group) && step.one_of != 1 || step.bare);
    let touching = steps.filter(|step| overlap(step.window, window) && asked.contains(&step.group));
    touching.map(|step| step.sentence(trace.span)).collect()
}

/// A sentence for each step of the governor.
pub(crate) fn history(trace: &Trace) -> Vec<String> {
    all_steps(trace).iter().map(|step| step.sentence(trace.span)).collect()
}

/// From when until when a group recorded how much.
struct Step {
    window: Window,
    group: String,
    one_of: u64,
    bare: bool,
    why: String,
}

impl Step {
    fn sentence(&self, span: Window) -> String {
        let at = |time: u64| format!("{:.1} s", time.saturating_sub(span.from) as f64 / SECOND);
        let until = if self.window.to >= span.to { "the end".into() } else { at(self.window.to) };
        let what = match self.one_of {
            0 => format!("events of group {} were only counted", self.group),
            1 if self.bare => format!("group {} was recorded without stacks", self.group),
            1 => format!("all of group {} was recorded", self.group),
            many => format!("one of {many} flows, tasks or requests of group {} was recorded", self.group),
        };
        format!("from {} to {until} {what} ({})", at(self.window.from), self.why)
    }
}

fn all_steps(trace: &Trace) -> Vec<Step> {
    let Some(rows) = trace.gather("governor") else { return Vec::new() };
    let columns = ["ts", "group", "one_of", "why"].map(|name| rows.def.column(name));
    let [Some(ts), Some(group), Some(one_of), Some(why)] = columns else { return Vec::new() };
    let bare = rows.def.column("bare");
    let text = |column, row| super::escape::lossless(rows.bytes(column, row));
    let until = |row: usize| {
        let later = (0..rows.len()).filter(|&other| rows.bytes(group, other) == rows.bytes(group, row));
        let later = later.map(|other| rows.raw(ts, other)).filter(|&other| other > rows.raw(ts, row));
        later.min().unwrap_or(trace.span.to)
    };
    let step = |row| Step {
        window: Window { from: rows.raw(ts, row), to: until(row) },
        group: text(group, row),
        one_of: rows.raw(one_of, row),
        bare: bare.is_some_and(|bare| rows.raw(bare, row) != 0),
        why: text(why, row),
    };
    (0..rows.len()).map(step).collect()
}

/// The part of an entry's counts that falls into a span, if they are spread evenly over its own.
pub(crate) fn share(of: Window, counts: Counts, window: Window) -> (f64, f64) {
    let length = of.to.saturating_sub(of.from).max(1) as f64;
    let within = of.to.min(window.to).saturating_sub(of.from.max(window.from)) as f64;
    let part = (within / length).min(1.0);
    (counts.stored as f64 * part, counts.left_out as f64 * part)
}

#[cfg(test)]
mod tests {
    use crate::analyze::clock::SECOND;
    use crate::analyze::testkit::Tape;

    /// Ten sends of one flow in each of three seconds; in the second one of four flows was recorded.
    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.group("sock_send", "net");
        for second in 0..3 {
            for send in 0..10 {
                tape.send(second * SECOND + send * 1000, 7, 1, 100, 100);
            }
            tape.left_out(second * SECOND, 10, if second == 1 { 30 } else { 0 });
        }
        tape.step(SECOND, "net", 4).step(2 * SECOND, "net", 1);
        tape
    }

    #[test]
    fn counts_of_a_sampled_second_are_scaled_and_said_to_be() {
        let (exit, out, messages) = tape().run(&["tcpsend", "--align", "start"]);
        let lines: Vec<&str> = out.lines().skip(1).collect();
        assert!(lines[0].contains("  10  ") && !lines[0].contains('≈'), "{out}");
        assert!(lines[1].contains("≈40") && lines[1].contains("≈4000"), "{out}");
        assert!(!lines[2].contains('≈') && !out.contains('≥'), "{out}");
        assert_eq!(exit, 3, "{messages}");
        assert!(messages.contains("from 1.0 s to 2.0 s one of 4 flows"), "{messages}");
    }

    #[test]
    fn all_of_it_is_exact_a_flow_is_not_scaled_and_other_losses_make_bounds() {
        let all = tape().run(&["tcpsend", "--interval", "all"]).1;
        assert!(all.contains("≈60"), "30 recorded and 30 left out: {all}");
        let flow = tape().run(&["tcpsend", "--interval", "all", "--by", "sock"]).1;
        assert!(flow.contains("≥30"), "the flow was recorded whole: {flow}");
        let mut lossy = tape();
        lossy.ledger(SECOND, 0, 5);
        let lossy = lossy.run(&["tcpsend", "--align", "start"]).1;
        assert!(lossy.contains("≥10") && !lossy.contains('≈'), "{lossy}");
        let csv = tape().run(&["tcpsend", "--interval", "all", "--format", "csv"]).1;
        assert!(
            csv.starts_with("lower_bound,approximate,calls") && csv.contains("\r\nfalse,true,60,"),
            "{csv}"
        );
    }
}
