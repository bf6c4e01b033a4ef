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
        let mut table = def(name, Role::Event, &columns);
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
