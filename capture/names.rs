//! Names of the numbers in events, as this kernel means them: rows of table `enum`.

use super::layout::Layout;
use super::record::Row;
use std::collections::BTreeSet;
use syscalls::{Errno, Sysno};

/// The kernel's own errors are below this; a return value of up to 4095 less than 0 is one.
const ERRORS: i32 = 4096;

const TCP_STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// Names of the numbers that tables refer to.
#[must_use]
pub fn rows(layouts: &[Layout]) -> Vec<Vec<u8>> {
    let used = |name: &str| {
        layouts.iter().flat_map(|layout| &layout.def.columns).any(|column| column.enumeration == name)
    };
    let row = |name: &str, value: u64, label: &str| Row::new().text(name).u64(value).text(label).bytes();
    let ours = all().filter(|name| used(name.0)).map(|(name, value, label)| row(name, value, label));
    // Those of the programs' own enums: two tables may share one.
    let theirs: BTreeSet<_> = layouts.iter().flat_map(|layout| &layout.labels).collect();
    ours.chain(theirs.into_iter().map(|(name, value, label)| row(name, *value, label))).collect()
}

/// Enumeration, value and label.
fn all() -> impl Iterator<Item = (&'static str, u64, &'static str)> {
    let states = (1..).zip(TCP_STATES).map(|(value, label)| ("tcp_state", value, label));
    let calls = Sysno::iter().map(|call| ("syscall", call.id().cast_unsigned().into(), call.name()));
    let errors = (1..ERRORS)
        .filter_map(|number| Some(("errno", number.cast_unsigned().into(), Errno::new(number).name()?)));
    let others =
        [("family", 2, "IPv4"), ("family", 10, "IPv6"), ("side", 1, "server"), ("side", 2, "client")];
    states.chain(calls).chain(errors).chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_this_architecture() {
        let name = |list, number| all().find(|name| name.0 == list && name.1 == number).map(|name| name.2);
        assert_eq!(name("syscall", libc::SYS_openat.cast_unsigned()), Some("openat"));
        assert_eq!(name("errno", 2), Some("ENOENT"));
        assert_eq!(name("tcp_state", 10), Some("LISTEN"));
        assert!(rows(&[]).is_empty(), "only what a table refers to");
    }
}
