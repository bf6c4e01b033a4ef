//! What the recording does to its host.

use super::support::{Watch, account, free_port, live, truth, workload};
use super::trace::{events, rows};

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

#[test]
fn no_event_wakes_the_recorder() {
    if !live() {
        return;
    }
    let port = free_port().to_string();
    let watch = Watch::start("cost-switches", &["-a", "-g", "net,net-rx", "--port", &port]);
    let before = switches(watch.pid());
    let began = std::time::Instant::now();
    account(workload(truth(), &["sends", "--count", "100000", "--size", "64", "--port", &port]));
    let seconds = began.elapsed().as_secs_f64();
    let count = switches(watch.pid()) - before;
    let path = watch.path.clone();
    watch.finish();
    assert_eq!(rows(&path, "sock_send").len(), 100_000);
    let events = events(&path).len();
    let figures = format!("{count} switches in {seconds:.1} s for {events} events");
    eprintln!("{figures}");
    assert!((count as usize) < events / 1000, "{figures}");
}
