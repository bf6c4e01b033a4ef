//! `files`: a tree of files that is written, read back, looked at, renamed and removed, each call counted.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use crate::json::Object;
use crate::options::Options;
use crate::process::{check, now_ns, tid};

/// How often each call was made, and what it moved.
#[derive(Default)]
struct Tally {
    opens: u64,
    opens_failed: u64,
    created: u64,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    write_bytes: u64,
    stats: u64,
    stats_failed: u64,
    syncs: u64,
    renames: u64,
    unlinks: u64,
    /// The longest life of a file, from its open to its unlink.
    life_ns: u64,
}

/// An open file by its descriptor alone: nothing but the calls below touches it.
struct Open(i32);

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and is not used again.
        unsafe { libc::close(self.0) };
    }
}

/// Makes `--count` files in four directories below `--dir`, writes four blocks of `--size` bytes to each and the
/// first one with a vector, reads them back by read, pread and readv, looks at each and at as many that do not exist,
/// syncs every eighth, renames every other, and removes all.
pub fn files(options: &Options) -> io::Result<Object> {
    let root =
        PathBuf::from(options.dir.clone().unwrap_or_else(|| format!("/tmp/truth-{}", std::process::id())));
    let mut tally = Tally::default();
    for directory in 0..4 {
        std::fs::create_dir_all(root.join(directory.to_string()))?;
    }
    for index in 0..options.count {
        let path = root.join((index % 4).to_string()).join(format!("f{index}"));
        tally.one(&path, index, options.size)?;
    }
    std::fs::remove_dir_all(&root)?;
    let text = root.to_string_lossy();
    Ok(tally.json().text("dir", &text).value("pid", std::process::id()).value("tid", tid()))
}

impl Tally {
    /// The life of one file.
    fn one(&mut self, path: &Path, index: u64, size: usize) -> io::Result<()> {
        let born = now_ns();
        self.fill(path, size, index.is_multiple_of(8))?;
        self.read_back(path, size)?;
        self.look(path)?;
        let mut last = path.to_owned();
        if index % 2 == 1 {
            last.set_extension("moved");
            std::fs::rename(path, &last)?;
            self.renames += 1;
        }
        std::fs::remove_file(&last)?;
        self.unlinks += 1;
        self.life_ns = self.life_ns.max(now_ns() - born);
        Ok(())
    }

    fn fill(&mut self, path: &Path, size: usize, sync: bool) -> io::Result<()> {
        let file = self.open(path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY)?;
        self.created += 1;
        let block = vec![b'x'; size];
        let parts = [iovec(&block), iovec(&block)];
        // SAFETY: the vector and what it points to outlive the call.
        self.wrote(unsafe { libc::writev(file.0, parts.as_ptr(), 2) })?;
        for _ in 0..2 {
            // SAFETY: the slice outlives the call.
            self.wrote(unsafe { libc::write(file.0, block.as_ptr().cast(), size) })?;
        }
        if sync {
            // SAFETY: plain system call.
            check(unsafe { libc::fsync(file.0) })?;
            self.syncs += 1;
        }
        Ok(())
    }

    fn read_back(&mut self, path: &Path, size: usize) -> io::Result<()> {
        let file = self.open(path, libc::O_RDONLY)?;
        let mut block = vec![0u8; size];
        for at in [0, i64::try_from(size).unwrap_or(0)] {
            // SAFETY: the slice outlives the call.
            self.got(unsafe { libc::pread(file.0, block.as_mut_ptr().cast(), size, at) })?;
        }
        let parts = [iovec(&block)];
        // SAFETY: the vector and what it points to outlive the call.
        self.got(unsafe { libc::readv(file.0, parts.as_ptr(), 1) })?;
        // SAFETY: the slice outlives the call.
        while self.got(unsafe { libc::read(file.0, block.as_mut_ptr().cast(), size) })? > 0 {}
        Ok(())
    }

    fn look(&mut self, path: &Path) -> io::Result<()> {
        let missing = path.with_extension("missing");
        for (path, there) in [(path, true), (&missing, false)] {
            let name = c_path(path)?;
            // SAFETY: zero bytes are a valid stat; it is only written to.
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            // SAFETY: both outlive the call.
            let found = unsafe { libc::stat(name.as_ptr(), &raw mut stat) };
            assert_eq!(found == 0, there, "{}", path.display());
            self.stats += 1;
            self.stats_failed += u64::from(!there);
        }
        let refused = self.open(&missing, libc::O_RDONLY);
        assert!(refused.is_err(), "{}", missing.display());
        Ok(())
    }

    fn open(&mut self, path: &Path, flags: i32) -> io::Result<Open> {
        let name = c_path(path)?;
        self.opens += 1;
        // SAFETY: the name outlives the call.
        let opened = check(unsafe { libc::open(name.as_ptr(), flags | libc::O_CLOEXEC, 0o600) });
        self.opens_failed += u64::from(opened.is_err());
        opened.map(Open)
    }

    fn wrote(&mut self, returned: isize) -> io::Result<()> {
        self.writes += 1;
        self.write_bytes += u64::try_from(check(i64::try_from(returned).unwrap_or(-1))?).unwrap_or(0);
        Ok(())
    }

    fn got(&mut self, returned: isize) -> io::Result<i64> {
        self.reads += 1;
        let bytes = check(i64::try_from(returned).unwrap_or(-1))?;
        self.read_bytes += u64::try_from(bytes).unwrap_or(0);
        Ok(bytes)
    }

    fn json(&self) -> Object {
        Object::new()
            .value("opens", self.opens)
            .value("opens_failed", self.opens_failed)
            .value("created", self.created)
            .value("reads", self.reads)
            .value("read_bytes", self.read_bytes)
            .value("writes", self.writes)
            .value("write_bytes", self.write_bytes)
            .value("stats", self.stats)
            .value("stats_failed", self.stats_failed)
            .value("syncs", self.syncs)
            .value("renames", self.renames)
            .value("unlinks", self.unlinks)
            .value("life_ns", self.life_ns)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn iovec(block: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: block.as_ptr().cast_mut().cast(), iov_len: block.len() }
}
