//! The trace file: who may read it, and whose it is.

use super::disk::{Disk, Syncing};
use crate::schema::lock;
use anyhow::{Context as _, Result, bail};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::sync::Arc;

/// For its owner only.
const PRIVATE: u32 = 0o600;

/// Where the trace goes.
pub enum Output {
    /// A file of ours.
    File(Arc<Disk>),
    /// A pipe.
    Pipe(io::Stdout),
}

impl Output {
    /// Creates the file, readable by its owner only; under sudo it belongs to the invoking user.
    /// Never follows a symbolic link, and replaces a file only if told to.
    ///
    /// # Errors
    /// When it exists, cannot be created, or standard output is a terminal.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if path.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                bail!("a trace is not text: redirect standard output, or name a file with -o");
            }
            return Ok(Self::Pipe(io::stdout()));
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(PRIVATE).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
        let file = options.open(path).map_err(|error| refusal(path, error))?;
        // A device or a named pipe is not ours to give away.
        if file.metadata().is_ok_and(|meta| meta.is_file()) {
            make_private(&file).with_context(|| format!("give {} to the invoking user", path.display()))?;
            lock::hold(&file);
        }
        Ok(Self::File(Disk::new(file, path)))
    }

    /// Takes back the file of a recording that could not begin.
    pub fn remove(path: &Path) {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
            // What remains is an empty file, and the user is being told about the failure anyway.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Waits until the file is on the disk; a pipe has none.
    ///
    /// # Errors
    /// When it will never be.
    pub fn sync(&self) -> io::Result<()> {
        let Self::File(disk) = self else { return Ok(()) };
        disk.sync_all()
    }

    /// Has the file synced from now on. None for a pipe.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn keep_synced(&self) -> io::Result<Option<Syncing>> {
        let Self::File(disk) = self else { return Ok(None) };
        Syncing::start(disk).map(Some)
    }
}

/// Bytes that are free for us where a file is or will be; none where a file system does not say.
#[must_use]
pub fn free_space(path: &Path) -> Option<u64> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: zero is valid for every field of statvfs; the name is a C string and the pointer valid.
    let (failed, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &raw mut found) != 0, found)
    };
    (!failed && found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

fn refusal(path: &Path, error: io::Error) -> anyhow::Error {
    let name = path.display();
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
        return anyhow::anyhow!("{name} is a symbolic link, which is not followed: name the file itself");
    }
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{name} exists: choose another name, or replace it with --force")
        }
        io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path).display();
            anyhow::anyhow!("cannot create {name}: there is no folder {folder}: make it (mkdir -p {folder})")
        }
        _ => anyhow::Error::new(error).context(format!("cannot create {name}")),
    }
}

/// A file that was there keeps its mode when it is opened; the trace in it is no less private.
fn make_private(file: &File) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(PRIVATE))?;
    if let Some((uid, gid)) = sudo_user() {
        fchown(file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// User and group that called sudo, if that is how we became root.
#[must_use]
pub fn sudo_user() -> Option<(u32, u32)> {
    id_of("SUDO_UID").zip(id_of("SUDO_GID"))
}

fn id_of(variable: &str) -> Option<u32> {
    // Only root can have been made root by sudo; anybody else may have set the variable.
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    std::env::var(variable).ok()?.parse().ok()
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(disk) => disk.write(bytes),
            Self::Pipe(pipe) => pipe.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Pipe(pipe) => pipe.flush(),
        }
    }
}
