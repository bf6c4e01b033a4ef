//! What a busy machine does beside its network: system calls, waits for processors, files, disks, and samples of it.

use super::{Maker, Story, Take};

/// Threads, the id of the first, and how many a process has.
const THREADS: u64 = 64;
const FIRST: u64 = 2000;
const OF_PROCESS: u64 = 8;
/// Files of a process.
const FILES: u64 = 600;
/// Requests that are on their way to the disk.
const FLYING: u64 = 32;
const KERNEL_STACKS: u64 = 300;
const USER_STACKS: u64 = 1000;
const DISK: u64 = 8 << 8;
/// System calls: read, write, openat, futex.
const CALLS: [u64; 4] = [0, 1, 257, 202];

/// See the module.
#[derive(Default)]
pub struct Work {
    turns: u64,
    record: Stack,
}

/// A stack as programs leave it: whose it is, and its addresses.
#[derive(Default)]
struct Stack(Vec<u8>);

impl Stack {
    /// Of 8 to 23 functions; those of one number are always the same.
    fn of(&mut self, owner: u32, number: u64) -> &[u8] {
        self.0.clear();
        self.0.extend(u64::from(owner).to_ne_bytes());
        let base = if owner == 0 { 0xffff_ffff_8100_0000 } else { 0x1000 };
        for depth in 0..8 + number % 16 {
            // Outer functions are shared by many stacks.
            let place = (number << depth).wrapping_mul(0x9E37_79B9) >> 8 & 0xfff0;
            self.0.extend((base + place).to_ne_bytes());
        }
        &self.0
    }
}

impl Story for Work {
    fn groups(&self) -> &'static [&'static str] {
        &["syscalls", "sched", "file", "block", "cpu", "proc"]
    }

    /// Only then have waits stacks.
    fn filters(&self) -> Vec<String> {
        vec!["min-wait 1us".into()]
    }

    fn events(&self) -> u64 {
        14
    }

    fn define(&mut self, maker: &mut Maker, take: Take) {
        for thread in 0..THREADS {
            let (tid, tgid) = (FIRST + thread, FIRST + thread / OF_PROCESS * OF_PROCESS);
            let comm = format!("worker-{}", thread / OF_PROCESS);
            let ids = [("tid", tid), ("tgid", tgid), ("ppid", 1)];
            maker.emit_with("task", &ids, &[("comm", comm.as_bytes())], take);
        }
        for file in 1..=FILES * THREADS / OF_PROCESS {
            // One in ten is a socket.
            let kind = if file % 10 == 0 { 12 } else { 8 };
            let name = format!("{file}.data");
            let path = format!("/srv/data/{}/{name}", file % 100);
            let texts = [("path", path.as_bytes()), ("name", name.as_bytes()), ("fstype", b"ext4")];
            maker.emit_with("file", &[("file", file), ("inode", file), ("type", kind)], &texts, take);
        }
        maker.emit_with("disk", &[("dev", DISK)], &[("disk", b"sda")], take);
    }

    /// A thread comes to a processor, calls the kernel, reads and writes, and is looked at.
    fn turn(&mut self, maker: &mut Maker, take: Take) {
        self.turns += 1;
        let tid = FIRST + maker.random.skewed(THREADS);
        (0..2).for_each(|_| self.wait(maker, tid, take));
        for number in CALLS {
            call(maker, tid, number, take);
        }
        for op in [1, 2] {
            transfer(maker, tid, op, take);
        }
        open(maker, tid, take);
        self.request(maker, tid, take);
        (0..2).for_each(|_| self.sample(maker, tid, take));
    }
}

impl Work {
    fn wait(&mut self, maker: &mut Maker, tid: u64, take: Take) {
        maker.now += 500 + maker.random.next() % 1500;
        let (queued, slept) = (maker.random.log_normal(8.5, 1.0), maker.random.log_normal(11.0, 1.5));
        let state = u64::from(!maker.random.next().is_multiple_of(8));
        let off = queued + state * slept;
        let stack = maker.random.skewed(KERNEL_STACKS);
        let numbers = [("tid", tid), ("off", off), ("queued", queued), ("state", state)];
        maker.emit_with("sched_wait", &numbers, &[("kstack", self.record.of(0, stack))], take);
    }

    fn request(&mut self, maker: &mut Maker, tid: u64, take: Take) {
        let slot = self.turns % FLYING;
        let (sector, bytes) = (|turn: u64| turn % 1_000_000 * 8, 4096);
        let place = |turn| [("rq", slot), ("sector", sector(turn)), ("bytes", bytes), ("dev", DISK)];
        let op = |turn: u64| ("op", turn / FLYING % 2);
        if let Some(before) = self.turns.checked_sub(FLYING).filter(|&before| before > 0) {
            maker.now += 500 + maker.random.next() % 1500;
            maker.emit("block_rq", &[&place(before)[..], &[op(before), ("part", 5)]].concat(), take);
        }
        for part in [1, 3] {
            maker.now += 500 + maker.random.next() % 1500;
            let what = [op(self.turns), ("part", part), ("tid", tid)];
            maker.emit("block_rq", &[&place(self.turns)[..], &what].concat(), take);
        }
    }

    fn sample(&mut self, maker: &mut Maker, tid: u64, take: Take) {
        maker.now += 500 + maker.random.next() % 1500;
        let number = maker.random.skewed(USER_STACKS);
        // Most samples are of user code; the rest is of one of a few paths that it takes into the kernel.
        let path = maker.random.next() % 32;
        let user = Stack::default().of(std::process::id(), number).to_vec();
        let kernel = if path < 8 { self.record.of(0, (8 * number + path) % KERNEL_STACKS) } else { &[] };
        let numbers = [("tid", tid), ("period", 1_000_000), ("runnable", 2)];
        maker.emit_with("cpu_sample", &numbers, &[("kstack", kernel), ("ustack", &user)], take);
    }
}

/// One in sixteen fails with EAGAIN.
fn call(maker: &mut Maker, tid: u64, number: u64, take: Take) {
    maker.now += 500 + maker.random.next() % 1500;
    let latency = maker.random.log_normal(7.0, 1.2);
    let failed = maker.random.next().is_multiple_of(16);
    let (errno, ret) = if failed { (11, u64::MAX - 10) } else { (0, 4096) };
    let what = [("tid", tid), ("syscall", number), ("errno", errno), ("ret", ret), ("latency", latency)];
    maker.emit("syscall", &what, take);
}

/// One of the files of a thread's process.
fn file_of(maker: &mut Maker, tid: u64) -> u64 {
    1 + (tid - FIRST) / OF_PROCESS * FILES + maker.random.skewed(FILES)
}

fn transfer(maker: &mut Maker, tid: u64, op: u64, take: Take) {
    maker.now += 500 + maker.random.next() % 1500;
    let (file, latency) = (file_of(maker, tid), maker.random.log_normal(7.5, 0.8));
    let ret = 512 << (maker.random.next() % 5);
    let what = [("tid", tid), ("file", file), ("op", op), ("latency", latency)];
    let sizes = [("requested", 16_384), ("ret", ret), ("offset", 0)];
    maker.emit("file_io", &[&what[..], &sizes].concat(), take);
}

fn open(maker: &mut Maker, tid: u64, take: Take) {
    maker.now += 500 + maker.random.next() % 1500;
    let (file, latency) = (file_of(maker, tid), maker.random.log_normal(8.0, 0.8));
    let failed = maker.random.next().is_multiple_of(4);
    let (file, ret) = if failed { (0, u64::MAX - 1) } else { (file, 3) };
    let path = format!("/srv/data/{}/{file}.data", file % 100);
    let what = [("tid", tid), ("file", file), ("ret", ret), ("latency", latency)];
    maker.emit_with("file_open", &what, &[("path", path.as_bytes())], take);
}
