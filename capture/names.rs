//! Names of the numbers in events, as this kernel means them: rows of table `enum`.

use super::layout::Layout;
use super::record::Row;
use std::collections::BTreeSet;

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

/// The rows: what the kernel's numbers mean, and the enums of the tables that are recorded.
#[must_use]
pub fn rows(layouts: &[Layout]) -> Vec<Vec<u8>> {
    let row = |name: &str, value: u64, label: &str| Row::new().text(name).u64(value).text(label).bytes();
    let enums: BTreeSet<_> = layouts.iter().flat_map(|layout| &layout.labels).collect();
    let states = (1..).zip(TCP_STATES).map(|(value, label)| row("tcp_state", value, label));
    states
        .chain([
            row("family", 2, "IPv4"),
            row("family", 10, "IPv6"),
            row("side", 1, "server"),
            row("side", 2, "client"),
        ])
        .chain(enums.iter().map(|(name, value, label)| row(name, *value, label)))
        .collect()
}
