//! Sends of known number and size, over IPv4, IPv6 and IPv4-mapped addresses.

use super::support::{Cell, live, record, rows};

#[test]
fn every_send_is_recorded_with_its_size() {
    if !live() {
        return;
    }
    for family in ["v4", "v6", "mapped"] {
        let name = format!("sends-{family}");
        let recording = record(&name, &["-g", "net,net-rx,proc"], &["sends", "--family", family, "--count", "300", "--size", "777"]);
        let sends = rows(&recording.path, "sock_send");
        let client = recording.truth["client"]["tid"].as_i64().expect("a tid");
        let ours: Vec<_> = sends.iter().filter(|row| row["tid"] == Cell::Number(client.into())).collect();
        assert_eq!(ours.len(), 300, "{family}");
        assert!(ours.iter().all(|row| row["ret"] == Cell::Number(777)), "{family}");
        if std::env::var_os("SHOW").is_some() {
            for table in ["sock", "task", "sock_send", "sock_recv", "tcp_rx", "tcp_state", "sock_accept", "process_exec", "process_exit", "ledger", "probe", "cost", "clock"] {
                rows(&recording.path, table).iter().take(12).for_each(|row| eprintln!("{table} {row:?}"));
            }
        }
    }
}
