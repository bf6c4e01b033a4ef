//! `storm`: two threads that the scheduler never leaves in peace, and what the kernel's own books say of each.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use crate::json::Object;
use crate::options::Options;
use crate::process::{check, now_ns, pipe, set_comm, tid};

/// Two threads hand a byte to and fro through pipes `--count` times; then each sleeps ten times for `--ms`. The account
/// of a thread is /proc/self/task/TID/schedstat: ns on a processor, ns in its queue, and how often it came to run.
pub fn storm(options: &Options) -> io::Result<Object> {
    let ((near_in, far_out), (far_in, near_out)) = (pipe()?, pipe()?);
    let (count, nap) = (options.count, Duration::from_millis(options.ms));
    let near = thread::spawn(move || one("storm-near", near_in.into(), near_out.into(), true, count, nap));
    let far = thread::spawn(move || one("storm-far", far_in.into(), far_out.into(), false, count, nap));
    let join = |thread: thread::JoinHandle<io::Result<Object>>| {
        thread.join().map_err(|_| io::Error::other("a thread panicked"))?
    };
    Ok(Object::new().value("pid", std::process::id()).objects("threads", [join(near)?, join(far)?]))
}

fn one(
    name: &str,
    mut from: File,
    mut to: File,
    first: bool,
    count: u64,
    nap: Duration,
) -> io::Result<Object> {
    set_comm(name);
    let mut byte = [7];
    for _ in 0..count {
        if first {
            to.write_all(&byte)?;
        }
        from.read_exact(&mut byte)?;
        if !first {
            to.write_all(&byte)?;
        }
    }
    let start = now_ns();
    (0..10).for_each(|_| thread::sleep(nap));
    let slept = now_ns() - start;
    let tid = tid();
    let books = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"))?;
    let mut books = books.split_whitespace();
    let mut next = || books.next().unwrap_or("0");
    Ok(Object::new()
        .value("tid", tid)
        .text("comm", name)
        .value("ran_ns", next())
        .value("queued_ns", next())
        .value("times", next())
        .value("naps_ns", slept))
}

/// A thread asks for one processor and another in turn, `--count` times. Its account of how often it moved is that of
/// /proc/self/sched; none where the kernel has no such file.
pub fn hops(options: &Options) -> io::Result<Object> {
    let processors = thread::available_parallelism()?.get();
    let before = moves();
    for hop in 0..options.count {
        // SAFETY: a set of ours, which may be all zeros; the processor is one of those that there are.
        check(unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(hop as usize % processors, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
        })?;
    }
    let account = Object::new().value("tid", tid()).value("processors", processors);
    Ok(match (before, moves()) {
        (Some(before), Some(after)) => account.value("moves", after - before),
        _ => account,
    })
}

fn moves() -> Option<u64> {
    let book = std::fs::read_to_string("/proc/self/sched").ok()?;
    book.lines().find_map(|line| line.strip_prefix("se.nr_migrations")?.rsplit(' ').next()?.parse().ok())
}
