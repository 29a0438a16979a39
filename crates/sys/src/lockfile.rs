//! Advisory file locks in Open vSwitch's manner: fcntl write locks.
//!
//! Two uses: a file `.NAME.~lock~` beside a database NAME, and pidfiles, whose owner can be asked
//! for by anybody. The kernel drops such a lock when the process ends in any way, so a crash leaves
//! nothing that stops the next start; and a lock belongs to the process, not to the descriptor, so
//! locking the same file twice in one process is caught here instead.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it; 0 if that process cannot be told.
    #[error("held by process {0}")]
    Held(i32),
    /// This process holds it already.
    #[error("already locked by this process")]
    Deadlock,
    /// The lock file could not be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

static MINE: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

fn flock(kind: libc::c_int) -> libc::flock {
    // SAFETY: all-zero is a valid struct flock (offset 0, whole file, pid 0).
    let mut l: libc::flock = unsafe { std::mem::zeroed() };
    l.l_type = kind as libc::c_short;
    l.l_whence = libc::SEEK_SET as libc::c_short;
    l
}

/// Takes a write lock on the whole of `file`, without waiting.
pub fn lock(file: &File) -> Result<(), LockError> {
    let l = flock(libc::F_WRLCK);
    loop {
        // SAFETY: a valid descriptor and a valid struct flock.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &l) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EACCES) | Some(libc::EAGAIN) => {
                return Err(LockError::Held(holder(file)?.unwrap_or(0)));
            }
            _ => return Err(error.into()),
        }
    }
}

/// The process that holds a lock on `file`, other than this one.
pub fn holder(file: &File) -> io::Result<Option<i32>> {
    let mut l = flock(libc::F_WRLCK);
    // SAFETY: a valid descriptor, and a struct flock that the kernel fills.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut l) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((l.l_type != libc::F_UNLCK as libc::c_short).then_some(l.l_pid))
}

/// A held lock on a file `.NAME.~lock~`; dropping it unlocks.
#[derive(Debug)]
pub struct Lockfile {
    file: File,
    path: PathBuf,
    id: (u64, u64),
}

/// The lock file that belongs to `file`: `.NAME.~lock~` in the same directory, where symbolic
/// links are followed first so that all names of a file share one lock.
pub fn lock_path(file: &Path) -> PathBuf {
    let real = match std::fs::canonicalize(file) {
        Ok(p) => p,
        Err(_) => file.to_path_buf(),
    };
    let name = real
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    real.with_file_name(format!(".{name}.~lock~"))
}

impl Lockfile {
    /// Locks `file` by its lock file, creating that as needed. Never waits.
    pub fn lock(file: &Path) -> Result<Lockfile, LockError> {
        let path = lock_path(file);
        let f = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let meta = f.metadata()?;
        let id = (meta.dev(), meta.ino());
        let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
        if mine.contains(&id) {
            // Closing `f` would drop the lock that this process holds through another descriptor:
            // it stays open for the life of the process. This happens once per mistake.
            std::mem::forget(f);
            return Err(LockError::Deadlock);
        }
        lock(&f)?;
        mine.push(id);
        Ok(Lockfile { file: f, path, id })
    }

    /// The lock file's own path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lockfile {
    fn drop(&mut self) {
        let l = flock(libc::F_UNLCK);
        // SAFETY: a valid descriptor and a valid struct flock.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLK, &l) };
        let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
        mine.retain(|id| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_and_can_be_locked_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("conf.db");
        std::fs::write(&db, b"x").unwrap();
        let a = Lockfile::lock(&db).unwrap();
        assert_eq!(a.path().file_name().unwrap(), ".conf.db.~lock~");
        assert!(matches!(Lockfile::lock(&db), Err(LockError::Deadlock)));
        drop(a);
        Lockfile::lock(&db).unwrap();
    }
}
