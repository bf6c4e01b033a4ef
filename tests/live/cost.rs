//! What the recording does to its host.

use super::support::{Watch, account, free_port, live, patiently, truth, workload};
use super::trace::{events, rows};
use std::time::{Duration, Instant};

/// How often the threads of a process have gone to sleep and been woken so far.
fn switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let status =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
    let count = |status: String| {
        let line =
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.flatten().map(|task| count(status(task))).sum()
}

/// How many switches there are per second, and for how many seconds, while something is done.
fn rate(pid: u32, work: impl FnOnce()) -> (f64, f64) {
    let (before, began) = (switches(pid), Instant::now());
    work();
    let seconds = began.elapsed().as_secs_f64();
    ((switches(pid) - before) as f64 / seconds, seconds)
}

#[test]
fn no_event_wakes_the_recorder() {
    if !live() {
        return;
    }
    patiently(|| {
        let port = free_port().to_string();
        let watch =
            Watch::start("cost-switches", &["-a", "-g", "net,net-rx", "--rings", "65536", "--port", &port]);
        // Clocks wake it too: so many times a second, whatever happens.
        let (idle, _) = rate(watch.pid(), || std::thread::sleep(Duration::from_secs(1)));
        let storm = || {
            _ = account(workload(truth(), &["sends", "--count", "100000", "--size", "64", "--port", &port]));
        };
        let (busy, seconds) = rate(watch.pid(), storm);
        let path = watch.path.clone();
        watch.finish();
        assert_eq!(rows(&path, "sock_send").len(), 100_000);
        let events = events(&path).len();
        let figures =
            format!("{busy:.0} switches/s in {seconds:.1} s with {events} events, {idle:.0} without");
        assert!((busy - idle) * seconds < events as f64 / 1000.0, "{figures}");
        assert!(
            idle < 20.0 * (10.0 + std::thread::available_parallelism().map_or(1, usize::from) as f64),
            "{figures}"
        );
    });
}
