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
use crate::analyze::listing::Listing;
use crate::analyze::table::Output;
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
    let (identity, timed) = (scan.def.role == Role::Identity, scan.def.time().is_some());
    let list = Listing::new(context, scan, "events");
    if context.counts() {
        return list.answer(); // without reading what it would list
    }
    let list = list.all_but(|column| identity && column == "ended");
    // What has no moment cannot be cut by it.
    let list = if timed { list } else { list.together() };
    list.answer()
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
        assert!(
            lines[1].contains(",100,100,") && lines[2].contains(",100,60,"),
            "in the order of time: {out}"
        );
        let (_, out, _) = tape.run(&["events", "--table", "sock_send", "--by", "comm", "--format", "csv"]);
        assert!(out.contains("web,false,2"), "{out}");
        let (exit, _, messages) = tape.run(&["events", "--table", "sock_sends"]);
        assert_eq!(exit, 6);
        let said = "this trace has no table 'sock_sends': did you mean 'sock_send'?\nit has ";
        assert!(messages.starts_with(said) && messages.contains("sock, sock_send, ledger"), "{messages}");
        let (exit, _, messages) = tape.run(&["events"]);
        assert!(exit == 2 && messages.contains("sock_send"), "{messages}");
    }

    #[test]
    fn a_table_without_moments_is_listed_and_other_lists_have_a_time() {
        let mut tape = Tape::new();
        tape.table("bare", &["n:u32", "name:text"]).table("sock_accept", &["fd:i32"]);
        for n in [3u64, 1, 2] {
            tape.push("bare", vec![n.into(), format!("n{n}").as_str().into()]);
            tape.push("sock_accept", vec![n.into()]);
        }
        let run = |line: &str| tape.run(&line.split(' ').collect::<Vec<_>>());
        let (exit, out, messages) = run("events --table bare --format csv");
        assert_eq!((exit, out.as_str()), (0, "n,name\r\n1,n1\r\n2,n2\r\n3,n3\r\n"), "{messages}");
        let (exit, out, messages) = run("tcpaccept --format csv");
        assert!(exit == 0 && out.starts_with("time,") && out.lines().count() == 4, "{out} {messages}");
    }
}
