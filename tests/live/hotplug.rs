//! A processor that goes away while it is recorded, and comes back. In guests alone: nobody takes a processor from the
//! machine that runs the tests.

use super::bounds::check_books;
use super::support::{Watch, account, free_port, live, truth, workload};
use super::trace::{number, rows, total};
use std::path::Path;
use std::time::Duration;

/// Switches the second processor of a guest on and off; none: this is no guest.
fn switch() -> Option<impl Fn(&str)> {
    let switch = Path::new("/sys/devices/system/cpu/cpu1/online");
    let in_guest = std::env::var_os("REQUIRE_LIVE").is_some_and(|what| what == "probes");
    if !in_guest || !live() {
        return None;
    }
    assert!(switch.exists(), "a guest has two processors, of which the second can be switched off");
    Some(move |on: &str| std::fs::write(switch, on).expect("the guest's own processor"))
}

#[test]
fn a_processor_that_comes_back_is_sampled_again() {
    let Some(online) = switch() else { return };
    online("0");
    let watch =
        Watch::start("hotplug-samples", &["-a", "-g", "cpu", "-F", "199", "-e", "ticks=pe:cpu-clock"]);
    let mut burns: Vec<_> =
        (0..2).map(|_| workload("sh", &["-c", "while :; do :; done"]).spawn().expect("a shell")).collect();
    std::thread::sleep(Duration::from_millis(500));
    online("1");
    std::thread::sleep(Duration::from_millis(1500));
    let path = watch.path.clone();
    let stderr = watch.finish();
    for burn in &mut burns {
        burn.kill().expect("our own child");
        burn.wait().expect("our own child");
    }
    assert!(stderr.contains("processor 1 has come online: it is recorded from now on"), "{stderr}");
    for table in ["cpu_sample", "ticks"] {
        let samples = rows(&path, table).iter().filter(|row| number(row, "cpu") == 1).count();
        assert!(samples > 20, "{table}: {samples}: {stderr}");
    }
    check_books(&path);
}

#[test]
fn a_processor_that_goes_and_comes_back_costs_no_count() {
    let Some(online) = switch() else { return };
    let port = free_port().to_string();
    let watch = Watch::start("hotplug", &["-a", "-g", "net,proc", "--port", &port]);
    let storm = std::thread::spawn(move || {
        let words = ["sends", "--count", "20000", "--size", "20", "--port", &port];
        account(workload(truth(), &words))
    });
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        online("0");
        std::thread::sleep(Duration::from_millis(400));
        online("1");
    }
    let said = storm.join().expect("the workload ends well");
    let path = watch.path.clone();
    let stderr = watch.finish();
    let counter = |counter| total(&path, "sock_send", counter);
    let sends = counter("stored") + counter("ring_full") + counter("state_full");
    assert_eq!(sends, i128::from(said["calls"].as_i64().expect("a number")), "{stderr}");
    assert_eq!(rows(&path, "sock_send").len() as i128, counter("stored"), "{stderr}");
    check_books(&path);
}
