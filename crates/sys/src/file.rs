//! Files that a daemon opens by name, perhaps as root, in directories that may belong to somebody else.
//!
//! Whoever owns a directory chooses what its names mean. So where others than root may change names, root
//! follows no link: neither a symbolic one nor a second name of a file that lies elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

/// Opens `path` for appending, creating it with `mode` less the umask.
pub fn open_append(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let (dir, name) = place(path)?;
    let guarded = crate::process::effective_ids().0 == 0 && !is_roots_alone(&dir)?;
    let flags = match guarded {
        true => flags | OFlags::NOFOLLOW,
        false => flags,
    };
    let file = File::from(openat(&dir, name, flags, Mode::from_raw_mode(mode))?);
    if guarded && file.metadata()?.is_file() && file.metadata()?.nlink() > 1 {
        return Err(io::Error::from_raw_os_error(libc::EMLINK));
    }
    Ok(file)
}

/// Opens `path` for writing without looking at what it holds, creating it with `mode` less the umask. A
/// symbolic link is not followed.
pub fn open_plain(path: &Path, mode: u32) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?;
    Ok(File::from(file))
}

/// Gives an open file to `uid` and `gid`; what is no plain file, such as a terminal, stays as it is.
pub fn give(file: &File, uid: u32, gid: u32) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => std::os::unix::fs::fchown(file, Some(uid), Some(gid)),
        false => Ok(()),
    }
}

/// The directory in which `path` is a name, and the name.
fn place(path: &Path) -> io::Result<(OwnedFd, &std::ffi::OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(dir, flags, Mode::empty())?, name))
}

/// Whether nobody but root can change names in a directory.
fn is_roots_alone(dir: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(dir)?;
    Ok(stat.st_uid == 0 && stat.st_mode & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A directory with a secret outside of it, and the directory that others may write.
    fn scene() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
        (dir, secret, open)
    }

    #[test]
    fn root_follows_no_link_that_others_may_have_made() {
        if crate::process::effective_ids().0 != 0 {
            return;
        }
        let (dir, secret, open) = scene();
        let link = open.join("log");
        symlink(&secret, &link).unwrap();
        let e = open_append(&link, 0o660).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&secret, &link).unwrap();
        let e = open_append(&link, 0o660).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EMLINK));
        // Root's own links are meant.
        let own = dir.path().join("own");
        symlink(open.join("elsewhere"), &own).unwrap();
        open_append(&own, 0o660).unwrap();
        assert!(open.join("elsewhere").exists());
    }

    #[test]
    fn a_pidfile_is_never_a_link() {
        let (_dir, secret, open) = scene();
        symlink(&secret, open.join("pid")).unwrap();
        let e = open_plain(&open.join("pid"), 0o666).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ELOOP));
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    }
}
