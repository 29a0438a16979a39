//! The lock of a database file: a POSIX record lock on `.<name>.~lock~` beside it, so that it goes
//! away with the process however that ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::disk::Warn;
use crate::error::strerror;

/// A lock that this process holds.
#[derive(Debug)]
pub struct Lockfile {
    path: PathBuf,
    id: (u64, u64),
    _file: File,
}

/// Locks of this process by device and inode: the kernel would grant them again.
static HELD: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

impl Lockfile {
    /// Locks `.<name>.~lock~` beside `path`.
    pub fn lock(path: &Path, warn: Warn<'_>) -> std::io::Result<Self> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = path.with_file_name(format!(".{file_name}.~lock~"));
        let shown = lock_path.display();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path);
        let file = opened.map_err(|e| {
            let op = match e.raw_os_error() {
                // Nothing can be there to be opened.
                Some(code) if code == rustix::io::Errno::NOTDIR.raw_os_error() => "stat",
                _ => "open",
            };
            let text = strerror(&e);
            warn(
                "lockfile",
                &format!("{shown}: failed to {op} lock file: {text}"),
            );
            // A lock that somebody else keeps may show as this, too.
            let e = match e.kind() {
                std::io::ErrorKind::PermissionDenied => rustix::io::Errno::AGAIN.into(),
                _ => e,
            };
            let text = strerror(&e);
            warn("lockfile", &format!("{shown}: failed to lock file: {text}"));
            e
        })?;
        let m = file.metadata()?;
        let id = (m.dev(), m.ino());
        let mut held = HELD
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.contains(&id) {
            warn(
                "lockfile",
                &format!("{shown}: cannot lock file because this process has already locked it"),
            );
            return Err(rustix::io::Errno::DEADLK.into());
        }
        let op = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if let Err(e) = rustix::fs::fcntl_lock(&file, op) {
            let want = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
            let owner = rustix::process::fcntl_getlk(&file, &want).ok().flatten();
            match owner.and_then(|f| f.pid) {
                Some(pid) => warn(
                    "lockfile",
                    &format!(
                        "{shown}: cannot lock file because it is already locked by pid {}",
                        pid.as_raw_nonzero()
                    ),
                ),
                None => warn("lockfile", &format!("{shown}: failed to lock file: {e}")),
            }
            return Err(rustix::io::Errno::AGAIN.into());
        }
        held.push(id);
        Ok(Self {
            path: lock_path,
            id,
            _file: file,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lockfile {
    fn drop(&mut self) {
        let mut held = HELD
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        held.retain(|id| *id != self.id);
    }
}
