//! `analyze TRACE info`: what is in the file.

use super::answer::{Answer, Body};
use super::trace::Trace;
use crate::schema::{ColumnType, Role, TableDef};
use serde_json::{Value as Json, json};

/// Names and values: key, value for programs, text for people.
type Facts = Vec<(&'static str, Json, String)>;

/// The answer.
pub(crate) fn answer(trace: &Trace) -> Answer {
    let mut answer = Answer::default();
    answer.section("host", "", Body::Facts(host(trace)));
    answer.section(
        "probes",
        "Probes",
        Body::Lines(trace.probes().iter().map(super::probes::Probe::describe).collect()),
    );
    let mut lines = Vec::new();
    trace.tables.iter().for_each(|def| lines.extend(table(trace, def)));
    answer.section("tables", "Tables", Body::Lines(lines));
    answer
}

/// Where and how it was recorded.
pub(crate) fn host(trace: &Trace) -> Facts {
    let host = &trace.reader.host;
    let wall = |mono| trace.clock.rfc3339(trace.clock.wall(mono));
    let mut facts: Facts = Vec::new();
    let mut add = |name, text: String| facts.push((name, text.clone().into(), text));
    add("host", host.hostname.clone());
    add("kernel", format!("{} {}, {} processors", host.kernel, host.machine, host.cpus));
    add("start", wall(trace.span.from));
    add("end", wall(trace.span.to - 1));
    let seconds = trace.span.seconds();
    facts.push(("span_s", json!(seconds), format!("{seconds:.3}")));
    let mut list = |name, list: &[String], none: &str| {
        let text = if list.is_empty() { none.to_owned() } else { list.join(" ") };
        facts.push((name, list.into(), text));
    };
    list("command", &host.command, "-");
    list("groups", &host.groups, "-");
    list("filters", &host.filters, "none");
    if !host.hidden.is_empty() {
        facts.push(("hidden", host.hidden.clone().into(), host.hidden.join(", ")));
    }
    if host.part > 0 {
        facts.push(("part", host.part.into(), format!("{} of recording {}", host.part, host.recording)));
    }
    let (reason, text) = match &trace.reader.footer {
        Some(footer) => (json!(footer.reason), footer.reason.clone()),
        None if trace.settled.is_some() => (Json::Null, "not yet: it is still being recorded".to_owned()),
        None => {
            (Json::Null, "not by a clean stop: up to the last unfinished second may be missing".to_owned())
        }
    };
    facts.push(("ended", reason, text));
    facts.push(("bytes", trace.reader.length().into(), trace.reader.length().to_string()));
    facts
}

/// How many rows the table should have and has not.
fn missing(trace: &Trace, def: &TableDef) -> String {
    let totals = trace.ledger().totals();
    let counts = totals.into_iter().find(|(table, _)| *table == def.number).map(|(_, counts)| counts);
    let Some(counts) = counts.filter(|_| def.role == Role::Event) else { return String::new() };
    let part = |count: u64, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let left_out = counts.left_out;
    part(left_out, "left out by a bound") + &part(counts.lost() - left_out.min(counts.lost()), "lost")
}

fn table(trace: &Trace, def: &TableDef) -> Vec<String> {
    let role = match def.role {
        Role::Event => "events",
        Role::Identity => "identity",
        Role::Record => "record",
    };
    let group = if def.group.is_empty() { String::new() } else { format!(", group {}", def.group) };
    let rows = trace.rows_of(def.number);
    let mut lines =
        vec![format!("{}: {rows} rows{}, {role}{group}: {}", def.name, missing(trace, def), def.doc)];
    for column in &def.columns {
        let kind = match column.kind {
            ColumnType::Number { width, signed } => {
                format!("{}{}", if signed { "i" } else { "u" }, u32::from(width) * 8)
            }
            ColumnType::Text => "text".to_owned(),
            ColumnType::Ip => "ip".to_owned(),
            ColumnType::Unknown(_) => "?".to_owned(),
        };
        let absent = if column.absent.is_empty() {
            String::new()
        } else {
            format!(" (not in this trace: {})", column.absent)
        };
        lines.push(
            format!("  {:<12} {kind:<5} {:<8} {}{absent}", column.name, column.unit, column.doc)
                .trim_end()
                .to_owned(),
        );
    }
    lines
}
