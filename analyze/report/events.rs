//! What exactly was recorded? The rows of any table, one line each, in the order of time.
//!
//! ```text
//! $ analyze trace.bin events --table sock_accept
//! time             cpu    tid  sock  fd
//! 12:01:07.269846    1  31447     3   8
//! ```
//!
//! It knows no table: columns, units and names come from the trace, so that it prints tables that are
//! newer than this program. `info` lists the tables, `--columns` what else can be named: `--by` counts
//! instead, and `--where` may use the columns of what an event refers to.
//!
//! ```text
//! $ analyze trace.bin events --table tcp_state --where "comm = 'nginx'" --by old,new
//! ```

use super::{Context, Defaults, Flag, Report};
use crate::analyze::answer::Answer;
use crate::analyze::error::Failure;
use crate::analyze::input::{Input, Inputs};
use crate::analyze::listing::count;
use crate::analyze::load::{Chunk, Scan};
use crate::analyze::room::Row;
use crate::analyze::rows::Value;
use crate::analyze::table::{Builder, Output};
use crate::schema::Role;
use anyhow::Result;

/// The rows of any table.
pub static REPORT: Report = Report {
    name: "events",
    question: "what exactly was recorded, row by row?",
    exactness: "rows as they were recorded, in the order of time",
    needs: &[],
    outputs: &[Output::count("events", "", "with --by: how many; else the table's own columns")],
    defaults: Defaults { by: "none", sort: "", top: None, interval: None },
    flags: &[Flag::valued("table", "NAME", "which table; info lists them").needed()],
    fit: None,
    run,
    compat: None,
};

fn run(context: &Context) -> Result<Answer> {
    let Some(name) = context.flag("table") else {
        let names: Vec<&str> = context.trace.tables.iter().map(|table| table.name.as_str()).collect();
        return Err(Failure::usage("events needs --table NAME")
            .hint(format!("this trace has {}", names.join(", ")))
            .into());
    };
    let scan = context.scan(name)?;
    if context.options.by.is_some() || context.options.interval.is_some() {
        return count(context, &scan, "events");
    }
    Ok(Answer { events: true, ..Answer::of(list(context, scan)?.build()?) })
}

fn list(context: &Context, mut scan: Scan) -> Result<Builder, Failure> {
    let def = scan.def.clone();
    let inputs = Inputs::of(context.trace, &def);
    let hidden = |name: &str| name == "ts" || (def.role == Role::Identity && name == "ended");
    let named = def.columns.iter().filter(|column| !hidden(&column.name) && column.absent.is_empty());
    let own: Vec<&Input> = named.filter_map(|column| inputs.get(&column.name)).collect();
    own.iter().flat_map(|input| input.needs(&def)).for_each(|column| scan.add(column));
    let ts = def.time();
    if let Some(ts) = ts {
        scan.add(ts);
    }
    let texts = own.iter().filter(|input| input.text).count();
    // What has no moment cannot be cut by it.
    context.room(&[&scan], Row { numbers: own.len() - texts, texts }, ts.is_some())?;
    let fold = |lines: &mut Vec<(u64, Vec<Value>)>, chunk: &Chunk| {
        let rows = chunk.rows();
        let values = |row| own.iter().map(|input| input.value(context.trace, rows, row)).collect();
        lines.extend(chunk.each().map(|row| (ts.map_or(0, |ts| rows.raw(ts, row)), values(row))));
    };
    let mut lines = scan.fold(Vec::new, fold, Extend::extend);
    lines.sort();
    let mut table = Builder::default();
    if ts.is_some() {
        table.time(6, lines.iter().map(|line| context.trace.clock.wall(line.0)));
    }
    for (at, input) in own.iter().enumerate() {
        table.key(&input.name, &input.unit, input.text, lines.iter().map(|line| line.1[at].clone()));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use crate::analyze::testkit::Tape;

    #[test]
    fn any_table_is_listed_or_counted() {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "web").send(2_000_000, 7, 1, 100, 60).send(1_000_000, 7, 1, 100, 100);
        let (exit, out, messages) = tape.run(&["events", "--table", "sock_send", "--format", "csv"]);
        assert_eq!(exit, 0, "{messages}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("time,cpu,tid,sock,requested,ret,latency"), "{out}");
        assert!(lines[1].contains(",100,100,") && lines[2].contains(",100,60,"), "in the order of time: {out}");
        let (_, out, _) = tape.run(&["events", "--table", "sock_send", "--by", "comm", "--format", "csv"]);
        assert!(out.contains("web,false,2"), "{out}");
        let (exit, _, messages) = tape.run(&["events", "--table", "sock_sends"]);
        assert_eq!(exit, 6);
        let said = "this trace has no table 'sock_sends': did you mean 'sock_send'?\nit has ";
        assert!(messages.starts_with(said) && messages.contains("sock, sock_send, ledger"), "{messages}");
        let (exit, _, messages) = tape.run(&["events"]);
        assert!(exit == 2 && messages.contains("sock_send"), "{messages}");
    }
}
