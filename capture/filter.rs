//! What to record, from the words of the command line to the knobs of the programs.

use super::args::{Args, Syscalls};
use super::knobs::{Knobs, STATE_LIMIT};
use super::sampling;
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The filters of one recording.
#[derive(Debug, Default)]
pub struct Filter {
    /// For the programs.
    pub knobs: Knobs,
    /// Processes selected by --pid, with their descendants of now; later ones join at fork.
    pub tgids: HashSet<u32>,
    /// Of these the one that has yet to execute COMMAND.
    pub command: Option<u32>,
    /// Per group, how long a call must take to be recorded, ns.
    pub least: BTreeMap<String, u64>,
    /// As the trace states them.
    pub words: Vec<String>,
}

impl Filter {
    /// Resolves names and checks that what is named is there.
    ///
    /// # Errors
    /// When a process, user, cgroup or namespace does not exist.
    pub fn new(args: &Args, command: Option<u32>) -> Result<Self> {
        let mut filter = Self::default();
        filter.knob("self_tgid", std::process::id());
        filter.knob(sampling::KNOB, args.frequency);
        filter.select_tasks(args, command)?;
        if let Some(port) = args.port {
            filter.knobs.insert("want_port", port.to_ne_bytes().to_vec());
            filter.words.push(format!("port {port}"));
        }
        if let Some(name) = &args.netns {
            filter.knob("want_netns", netns_inode(name)?);
            filter.words.push(format!("netns {name}"));
        }
        let about_tasks =
            filter.words.iter().any(|word| !word.starts_with("port") && !word.starts_with("netns"));
        filter.flag("task_filter", about_tasks);
        filter.flag(
            "each_syscall",
            match args.syscalls {
                Syscalls::Auto => about_tasks,
                Syscalls::Agg => false,
                Syscalls::Each => true,
            },
        );
        filter.flag("any_filter", !filter.words.is_empty());
        filter.flag("with_args", !args.no_args);
        if let Some(least) = args.min_wait {
            let ns = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
            filter.knobs.insert("min_wait", ns.to_ne_bytes().to_vec());
            filter.words.push(format!("min-wait {least:?}"));
        }
        super::threshold::set(&mut filter, &args.min_latency)?;
        for (knob, limit) in super::trigger::limits(&args.trigger)? {
            filter.knobs.insert(knob, limit.to_ne_bytes().to_vec());
        }
        if let Some(limit) = args.state_limit {
            filter.knob(STATE_LIMIT, limit);
        }
        // SAFETY: no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        filter.knob("page_size", u32::try_from(page).unwrap_or(4096));
        Ok(filter)
    }

    fn select_tasks(&mut self, args: &Args, command: Option<u32>) -> Result<()> {
        if !args.pid.is_empty() {
            self.tgids = with_descendants(&args.pid)?;
            self.words.push(format!("pid {}", join(&args.pid)));
        }
        if let (Some(pid), false) = (command, args.all || args.tid.is_some()) {
            self.tgids.insert(pid);
            self.command = Some(pid);
            self.words.push("the command and its descendants".into());
        }
        self.flag("filter_tgid", !self.tgids.is_empty());
        if let Some(tid) = args.tid {
            if !Path::new("/proc").join(tid.to_string()).exists() {
                bail!("--tid {tid}: there is no such thread");
            }
            self.knob("want_tid", tid);
            self.words.push(format!("tid {tid}"));
        }
        if let Some(comm) = &args.comm {
            if comm.len() > 15 {
                bail!("--comm {comm}: the kernel keeps 15 bytes of a name, this one has {}", comm.len());
            }
            self.knobs.insert("want_comm", comm.as_bytes().to_vec());
            self.flag("filter_comm", true);
            self.words.push(format!("comm {comm}"));
        }
        if let Some(user) = &args.uid {
            self.knob("want_uid", user.parse().or_else(|_| user_id(user).map(|user| user.uid))?);
            self.flag("filter_uid", true);
            self.words.push(format!("uid {user}"));
        }
        if let Some(path) = &args.cgroup {
            let (id, level) = cgroup(path)?;
            self.knobs.insert("want_cgroup", id.to_ne_bytes().to_vec());
            self.knob("want_cgroup_level", level);
            self.words.push(format!("cgroup {}", path.display()));
        }
        Ok(())
    }

    /// Whether programs that feed this knob matter: the filter uses it.
    #[must_use]
    pub fn uses(&self, knob: &str) -> bool {
        self.knobs.get(knob).is_some_and(|value| value.iter().any(|&byte| byte != 0))
    }

    /// What a knob is set to; 0 where it is not.
    #[must_use]
    pub fn number(&self, knob: &str) -> u64 {
        let bytes = self.knobs.get(knob).map_or(&[][..], Vec::as_slice);
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn knob(&mut self, name: &'static str, value: u32) {
        self.knobs.insert(name, value.to_ne_bytes().to_vec());
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.knobs.insert(name, vec![value.into()]);
    }
}

fn join(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The processes and all that descend from them now.
fn with_descendants(pids: &[u32]) -> Result<HashSet<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = HashSet::new();
    let mut queue = pids.to_vec();
    while let Some(pid) = queue.pop() {
        if pids.contains(&pid) && !Path::new(&format!("/proc/{pid}")).exists() {
            bail!("--pid {pid}: there is no such process");
        }
        if found.insert(pid) {
            queue.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(found)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so what follows its end is counted from there.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Name, for the groups that it is in.
    pub name: String,
    /// Home directory.
    pub home: String,
}

/// Looks a user up by name.
///
/// # Errors
/// When there is none of that name.
pub fn user_id(name: &str) -> Result<User> {
    let name_c = std::ffi::CString::new(name).context("a user name")?;
    // SAFETY: a valid C string; the result points to static memory that is copied before any other call.
    let entry = unsafe { libc::getpwnam(name_c.as_ptr()).as_ref() };
    let entry = entry.with_context(|| format!("there is no user '{name}' on this machine"))?;
    // SAFETY: getpwnam's strings are valid C strings.
    let home = unsafe { std::ffi::CStr::from_ptr(entry.pw_dir) }.to_string_lossy().into_owned();
    Ok(User { uid: entry.pw_uid, gid: entry.pw_gid, name: name.to_owned(), home })
}

/// Where the cgroup v2 file system that holds a path is mounted; for `/`, where one is.
#[must_use]
pub fn cgroup_mount(path: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (mount, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2" && (path.starts_with(mount) || path == Path::new("/"))).then(|| mount.into())
    });
    mounts.max_by_key(|mount: &PathBuf| mount.as_os_str().len())
}

/// Id and depth of a cgroup v2 directory: its inode, and how far below the mount it is.
fn cgroup(path: &Path) -> Result<(u64, u32)> {
    let path = path.canonicalize().with_context(|| format!("--cgroup {}", path.display()))?;
    let Some(mount) = cgroup_mount(&path) else {
        bail!("--cgroup {}: not a directory of a cgroup v2 file system", path.display());
    };
    let level = path.strip_prefix(&mount).map_or(0, |below| below.components().count());
    let meta = fs::metadata(&path).with_context(|| format!("--cgroup {}", path.display()))?;
    Ok((meta.ino(), u32::try_from(level).context("cgroup depth")?))
}

fn netns_inode(name: &str) -> Result<u32> {
    let path = if name.contains('/') { name.to_owned() } else { format!("/run/netns/{name}") };
    let meta = fs::metadata(&path).with_context(|| format!("--netns {name}: no namespace at {path}"))?;
    u32::try_from(meta.ino()).with_context(|| format!("--netns {name}: {path} is not a namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_comes_with_its_descendants() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep");
        let found = with_descendants(&[std::process::id()]).expect("our own process exists");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert!(found.contains(&child.id()) && found.contains(&std::process::id()));
        assert!(with_descendants(&[u32::MAX]).is_err());
    }

    #[test]
    fn names_resolve_or_say_what_is_missing() {
        assert_eq!(user_id("root").expect("root").uid, 0);
        assert!(user_id("no such user").unwrap_err().to_string().contains("no such user"));
        assert!(netns_inode("no-such-namespace").is_err());
        assert!(cgroup(Path::new("/proc")).unwrap_err().to_string().contains("cgroup v2"));
    }
}
