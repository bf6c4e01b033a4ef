//! What programs that walk over all tasks tell, from /proc instead: where a kernel does not load such programs.
//!
//! A probe says so with `__otherwise("procfs")`. Its records are filled by the names of their columns. They are the
//! kernel's own counters as the programs have them, but that moments and shares of CPU time are in hundredths of a second,
//! as /proc has them, and that a thread's files are read one after the other.

use super::aggregate::{Summed, Taken};
use super::family::{Moment, SharedMaps};
use super::filter::{Filter, cgroup_mount};
use super::host::{clock, now};
use super::layout::{FieldKind, Layout};
use super::probes::Outcome;
use crate::schema::Role;
use libbpf_rs::MapHandle;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How this way is called.
const KIND: &str = "procfs";
/// What is filled from here: probes, and their tables.
const TABLES: [(&str, &str); 2] = [("task_start", "task"), ("task_stat", "task_stat")];
/// The unit of times in /proc is a hundredth of a second in every kernel, whatever its own tick is.
const TICK: u64 = 10_000_000;
/// In field `flags` of /proc/PID/stat: a thread of the kernel's.
const PF_KTHREAD: u64 = 0x0020_0000;
/// The first field of /proc/PID/stat behind the name, as proc(5) counts them.
const FIRST_FIELD: usize = 3;

/// The tables that are filled from /proc in this recording.
pub struct Procfs {
    tables: Vec<(Moment, usize, Layout)>,
    wanted: Wanted,
}

impl Procfs {
    /// Those whose probes got this way.
    ///
    /// # Errors
    /// When a map of the programs cannot be opened.
    pub fn new(
        outcomes: &[Outcome],
        layouts: &[Layout],
        filter: &Filter,
        maps: &SharedMaps,
    ) -> anyhow::Result<Self> {
        let mut tables = Vec::new();
        for outcome in outcomes.iter().filter(|outcome| outcome.got.as_deref() == Some(KIND)) {
            let table = TABLES.iter().find(|table| table.0 == outcome.probe).map(|table| table.1);
            let found =
                layouts.iter().enumerate().find(|(_, layout)| Some(layout.def.name.as_str()) == table);
            let Some((number, layout)) = found else { continue };
            let moment = if layout.def.role == Role::Identity { Moment::Start } else { Moment::Tick };
            tables.push((moment, number, layout.clone()));
        }
        let tgids = maps.get("wanted_tgids").filter(|_| filter.uses("filter_tgid"));
        let wanted = Wanted { tgids: tgids.map(MapHandle::try_from).transpose()?, ..Wanted::of(filter) };
        Ok(Self { tables, wanted })
    }

    /// Records of all threads that are due now, by table. Identity is everybody's.
    #[must_use]
    pub fn records(&self, moment: Moment) -> Taken {
        let due = self.tables.iter().filter(|table| table.0 == moment);
        due.map(|(_, number, layout)| (*number, self.of_table(*number, layout))).collect()
    }

    fn of_table(&self, number: usize, layout: &Layout) -> Vec<Summed> {
        let all = layout.def.role == Role::Identity;
        let chosen = threads().filter(|thread| all || self.wanted.has(thread));
        chosen.map(|thread| Summed { record: record(number, layout, &thread), met: 0 }).collect()
    }
}

/// The threads that there are; one that ends meanwhile may be left out.
fn threads() -> impl Iterator<Item = Thread> {
    let processes = numbered(Path::new("/proc"));
    let threads = processes.flat_map(|(tgid, path)| {
        numbered(&path.join("task")).map(move |(tid, path)| Thread::read(tgid, tid, path)).collect::<Vec<_>>()
    });
    threads.flatten()
}

fn numbered(path: &Path) -> impl Iterator<Item = (u32, PathBuf)> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// A record as a program leaves it in a ring.
fn record(number: usize, layout: &Layout, thread: &Thread) -> Vec<u8> {
    let mut record = vec![0; layout.size];
    record[8..10].copy_from_slice(&u16::try_from(number).expect("few tables").to_le_bytes());
    for (column, field) in layout.def.columns.iter().zip(&layout.fields) {
        let to = &mut record[field.offset..];
        match field.kind {
            FieldKind::Number(width) => {
                let value = thread.value(&column.name).or(column.null).unwrap_or(0);
                to[..width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            FieldKind::Chars(room) => {
                let length = thread.comm.len().min(room - 1);
                to[..length].copy_from_slice(&thread.comm[..length]);
            }
            _ => {}
        }
    }
    record
}

/// A thread, as its files in /proc have it.
struct Thread {
    path: PathBuf,
    tgid: u32,
    tid: u32,
    comm: Vec<u8>,
    /// Fields of `stat` behind the name; a negative one is counted down from 2^64.
    stat: Vec<u64>,
    status: String,
}

impl Thread {
    /// None: it has ended.
    fn read(tgid: u32, tid: u32, path: PathBuf) -> Option<Self> {
        let stat = fs::read(path.join("stat")).ok()?;
        let status = fs::read(path.join("status")).ok()?;
        let (comm, stat) = fields(&stat)?;
        let status = String::from_utf8_lossy(&status).into_owned();
        Some(Self { path, tgid, tid, comm: comm.to_vec(), stat, status })
    }

    /// What a column of that name says of it; none: /proc does not tell.
    fn value(&self, column: &str) -> Option<u64> {
        let ticks = |field| self.field(field).map(|ticks| ticks.saturating_mul(TICK));
        let kib = |name| self.status(name).map(|kib| kib.saturating_mul(1024));
        match column {
            "ts" => Some(now()),
            "tgid" => Some(self.tgid.into()),
            "tid" => Some(self.tid.into()),
            "ppid" => self.field(4),
            "uid" => self.status("Uid"),
            "netns" => self.inode("ns/net"),
            "mntns" => self.inode("ns/mnt"),
            "pidns" => self.inode("ns/pid_for_children"),
            "cgroup" => fs::metadata(self.cgroup()?).ok().map(|meta| meta.ino()),
            "kthread" => self.field(9).map(|flags| u64::from(flags & PF_KTHREAD != 0)),
            "start" => ticks(22).map(|start| start.saturating_sub(slept())),
            "runtime" => self.number("schedstat", 0).or_else(|| Some(ticks(14)? + ticks(15)?)),
            "wait" => self.number("schedstat", 1),
            "utime" => ticks(14),
            "stime" => ticks(15),
            "guest" => ticks(43),
            "io_wait" => ticks(42).filter(|_| counts_delays()),
            "minor_faults" => self.field(10),
            "major_faults" => self.field(12),
            "voluntary" => self.status("voluntary_ctxt_switches"),
            "involuntary" => self.status("nonvoluntary_ctxt_switches"),
            "read" => self.line("io", "read_bytes"),
            "written" => self.line("io", "write_bytes"),
            "cancelled" => self.line("io", "cancelled_write_bytes"),
            "vsz" => kib("VmSize"),
            "rss" => kib("VmRSS"),
            "stack" => kib("VmStk"),
            "threads" => self.status("Threads"),
            "fds" => fs::read_dir(self.path.join("fd")).ok().map(|all| all.count() as u64),
            "processor" => self.field(39),
            // As the scheduler has it, real time below 100; /proc has normal ones from 0 on.
            "priority" => self.field(18).map(|priority| priority.wrapping_add(100)),
            "policy" => self.field(41),
            _ => None,
        }
    }

    fn field(&self, number: usize) -> Option<u64> {
        self.stat.get(number - FIRST_FIELD).copied()
    }

    fn status(&self, name: &str) -> Option<u64> {
        named(&self.status, name)
    }

    fn line(&self, file: &str, name: &str) -> Option<u64> {
        named(&fs::read_to_string(self.path.join(file)).ok()?, name)
    }

    fn number(&self, file: &str, word: usize) -> Option<u64> {
        fs::read_to_string(self.path.join(file)).ok()?.split_whitespace().nth(word)?.parse().ok()
    }

    fn inode(&self, link: &str) -> Option<u64> {
        fs::metadata(self.path.join(link)).ok().map(|meta| meta.ino())
    }

    /// Its directory in the second version's file system of cgroups.
    fn cgroup(&self) -> Option<PathBuf> {
        let all = fs::read_to_string(self.path.join("cgroup")).ok()?;
        let path = all.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(cgroup_mount(Path::new("/"))?.join(path))
    }
}

/// Name, and the numbers behind it, of a `stat` file. A name may hold anything, so its end is looked for from the end.
fn fields(stat: &[u8]) -> Option<(&[u8], Vec<u64>)> {
    let begin = stat.iter().position(|&byte| byte == b'(')? + 1;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let number = |word: &str| word.parse().ok().or_else(|| word.parse().ok().map(i64::cast_unsigned));
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    // The state is a letter.
    Some((stat.get(begin..end)?, rest.split_whitespace().map(|word| number(word).unwrap_or(0)).collect()))
}

/// The first number of the line of that name.
fn named(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// By how much the clock of /proc, which goes on while the host sleeps, is ahead of the clock of events.
fn slept() -> u64 {
    let monotonic = now();
    clock(libc::CLOCK_BOOTTIME).saturating_sub(monotonic)
}

/// Whether the kernel measures how long threads wait for disks.
fn counts_delays() -> bool {
    fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|on| on.trim() == "1")
}

/// What `task_wanted()` of `bpf/common.bpf.h` asks.
#[derive(Default)]
struct Wanted {
    nobody: bool,
    tgids: Option<MapHandle>,
    tid: Option<u64>,
    uid: Option<u64>,
    comm: Option<Vec<u8>>,
    /// Inode, and how far below the mount.
    cgroup: Option<(u64, usize)>,
    netns: Option<u64>,
}

impl Wanted {
    fn of(filter: &Filter) -> Self {
        let number = |knob| filter.uses(knob).then(|| filter.number(knob));
        Self {
            nobody: filter.uses("want_port"),
            tgids: None,
            tid: number("want_tid"),
            uid: filter.uses("filter_uid").then(|| filter.number("want_uid")),
            comm: filter.knobs.get("want_comm").cloned(),
            cgroup: number("want_cgroup").map(|id| (id, filter.number("want_cgroup_level") as usize)),
            netns: number("want_netns"),
        }
    }

    fn has(&self, thread: &Thread) -> bool {
        let is = |wanted: Option<u64>, column| wanted.is_none_or(|id| thread.value(column) == Some(id));
        !self.nobody
            && thread.tgid != std::process::id()
            && self.tgids.as_ref().is_none_or(|map| super::attach::is_wanted(map, thread.tgid))
            && is(self.tid, "tid")
            && is(self.uid, "uid")
            && is(self.netns, "netns")
            && self.comm.as_ref().is_none_or(|comm| *comm == thread.comm)
            && self.cgroup.is_none_or(|(id, level)| ancestor(thread, level) == Some(id))
    }
}

/// The inode of the cgroup that a thread is in at a level.
fn ancestor(thread: &Thread, level: usize) -> Option<u64> {
    let path = thread.cgroup()?;
    let mount = cgroup_mount(&path)?;
    let below: Vec<_> = path.strip_prefix(&mount).ok()?.components().take(level).collect();
    let there = below.len() == level;
    there.then(|| fs::metadata(mount.join(below.iter().collect::<PathBuf>())).ok().map(|meta| meta.ino()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_ends_it() {
        let (comm, fields) = fields(b"7 (a) (\xff b) S 1 -2 18446744073709551615 x\n").expect("a line");
        assert_eq!(comm, b"a) (\xff b");
        assert_eq!(fields, [0, 1, 2u64.wrapping_neg(), u64::MAX, 0]);
        assert!(super::fields(b"7 S 1").is_none());
    }

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let text = "read_bytes_more: 1\nread_bytes: 4096\nUid:\t1000\t0\n";
        assert_eq!(
            (named(text, "read_bytes"), named(text, "Uid"), named(text, "Gid")),
            (Some(4096), Some(1000), None)
        );
    }

    #[test]
    fn this_thread_is_as_it_knows_itself() {
        let id = std::process::id();
        let thread = threads().find(|thread| thread.tid == id).expect("the first thread");
        assert_eq!((thread.value("tgid"), thread.value("kthread")), (Some(id.into()), Some(0)));
        // SAFETY: no preconditions.
        assert_eq!(thread.value("uid"), Some(unsafe { libc::getuid() }.into()));
        let namespace = fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
        assert_eq!(thread.value("netns"), Some(namespace));
        let age = now() - thread.value("start").expect("a moment");
        assert!(age < 3_600_000_000_000 && thread.value("runtime") > Some(0), "{age} ns old");
        assert_eq!(thread.value("of another table"), None);
        let named = |comm: &[u8]| Wanted { comm: Some(comm.to_vec()), ..Wanted::default() };
        let other = threads().find(|thread| thread.tgid != id).expect("another process");
        assert!(named(&other.comm).has(&other) && !named(b"nobody's name").has(&other));
        assert!(
            !Wanted { nobody: true, ..Wanted::default() }.has(&other) && !named(&thread.comm).has(&thread)
        );
    }
}
