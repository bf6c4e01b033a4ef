//! `locks`: threads that want one lock, and how long each waited for it by its own clock.

use std::io;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::json::Object;
use crate::options::Options;
use crate::process::{now_ns, set_comm, tid};

const THREADS: usize = 4;

/// Each of four threads takes the lock `--count` times and computes for `--ms` while it has it, so that the others sleep until
/// it is theirs; no thread sleeps for anything else. The account of a thread is how long it waited, in all.
pub fn locks(options: &Options) -> io::Result<Object> {
    let (lock, begin) = (Mutex::new(()), Barrier::new(THREADS));
    let hold = Duration::from_millis(options.ms);
    let threads = thread::scope(|scope| {
        let one = |number| {
            let (lock, begin) = (&lock, &begin);
            scope.spawn(move || one(number, lock, begin, options.count, hold))
        };
        let all: Vec<_> = (0..THREADS).map(one).collect();
        all.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    let threads = threads.map_err(|_| io::Error::other("a thread panicked"))?;
    Ok(Object::new().value("pid", std::process::id()).objects("threads", threads))
}

fn one(number: usize, lock: &Mutex<()>, begin: &Barrier, count: u64, hold: Duration) -> Object {
    let name = format!("lock-{number}");
    set_comm(&name);
    // For the others to begin, too.
    let begun = now_ns();
    begin.wait();
    let mut waited = now_ns() - begun;
    for _ in 0..count {
        let asked = now_ns();
        let held = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        waited += now_ns() - asked;
        compute(hold);
        drop(held);
        // The lock is not fair: who has just had it lets others in.
        compute(hold / 2);
    }
    Object::new().value("tid", tid()).text("comm", &name).value("waited_ns", waited)
}

fn compute(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
