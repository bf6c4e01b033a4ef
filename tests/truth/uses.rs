//! `uses`: CPU time, memory, a file, descriptors and sleeps, and what the kernel says of it all.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::json::Object;
use crate::options::Options;
use crate::process::{check, now_ns};

const MIB: usize = 1 << 20;

/// Burns CPU in two threads, touches 40 MiB, writes 6 MiB to the disk under `--dir`, holds 20 more descriptors, and sleeps
/// 100 times, then for longer than snapshots are apart. Then it says what getrusage(2) and /proc have counted.
pub fn uses(options: &Options) -> io::Result<Object> {
    let workers = [(); 2].map(|()| thread::spawn(burn));
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a thread panicked"))??;
    }
    let memory = black_box(vec![1_u8; 40 * MIB]);
    let path = options.dir.as_ref().map_or_else(PathBuf::new, PathBuf::from).join("uses.data");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    file.write_all(&memory[..6 * MIB])?;
    file.sync_all()?;
    let held = (0..20).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<_>>>()?;
    (0..100).for_each(|_| thread::sleep(Duration::from_millis(2)));
    thread::sleep(Duration::from_millis(1200));
    let account = account();
    drop((held, memory, file));
    std::fs::remove_file(path)?;
    account
}

/// Until this thread has used 0.3 s of a processor.
fn burn() -> io::Result<()> {
    loop {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is ours.
        check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) })?;
        if time.tv_sec > 0 || time.tv_nsec >= 300_000_000 {
            return Ok(());
        }
    }
}

fn account() -> io::Result<Object> {
    let fds = std::fs::read_dir("/proc/self/fd")?.count() - 1; // the folder's own
    let (io, status) =
        (std::fs::read_to_string("/proc/self/io")?, std::fs::read_to_string("/proc/self/status")?);
    let of = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    // SAFETY: plain numbers, which may all be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is ours.
    check(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) })?;
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Object::new()
        .value("at", now_ns())
        .value("pid", std::process::id())
        .value("cpu", seconds(usage.ru_utime) + seconds(usage.ru_stime))
        .value("minor", usage.ru_minflt)
        .value("voluntary", usage.ru_nvcsw)
        .value("involuntary", usage.ru_nivcsw)
        .value("written", of(&io, "write_bytes"))
        .value("read", of(&io, "read_bytes"))
        .value("rss", 1024 * of(&status, "VmRSS"))
        .value("vsz", 1024 * of(&status, "VmSize"))
        .value("fds", fds))
}
