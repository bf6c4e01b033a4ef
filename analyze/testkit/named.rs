//! Probes that the user named.

use super::Tape;
use super::define::def;
use crate::schema::Role;

impl Tape {
    /// A probe: its table, the functions that it may hit, its arguments, and whether it records whole calls, which have
    /// `latency` before and `ret` after the function.
    pub fn named(&mut self, name: &str, functions: &[&str], args: &[&str], calls: bool) -> &mut Self {
        let function = format!("function:u32={name}.function");
        let mut columns = vec!["ts:u64", "cpu:u16", "tid:u32>task", &function];
        if calls {
            columns.extend(["latency:u64?ns", "ret:u64"]);
        }
        columns.extend(args);
        self.own(name, functions, &columns)
    }

    /// A probe whose hits are added up: the columns after the function.
    pub fn added_up(&mut self, name: &str, functions: &[&str], columns: &[&str]) -> &mut Self {
        let function = format!("function:u32={name}.function");
        let head = ["ts:u64", "cpu:u16", "since:u64", "tgid:u32>task", &function];
        self.own(name, functions, &[&head[..], columns].concat())
    }

    /// Calls of probes that had not returned at the end, and when they began.
    pub fn in_flight(&mut self, calls: &[(&str, u64)]) -> &mut Self {
        let columns = ["ts:u64", "until:u64", "tid:u32>task", "probe:text", "function:text"];
        self.define(def("in_flight", Role::Record, &columns));
        for (probe, began) in calls {
            self.push(
                "in_flight",
                vec![(*began).into(), 0u64.into(), 7u64.into(), (*probe).into(), (*probe).into()],
            );
        }
        self
    }

    fn own(&mut self, name: &str, functions: &[&str], columns: &[&str]) -> &mut Self {
        let mut table = def(name, Role::Event, columns);
        table.group = "named".into();
        self.define(table);
        for (number, label) in (0u64..).zip(functions) {
            self.push(
                "enum",
                vec![format!("{name}.function").as_str().into(), number.into(), (*label).into()],
            );
        }
        self
    }
}
