//! Network namespaces: open, enter and leave them by handle.
//!
//! A namespace is an attribute of the thread, so entering one changes the calling thread only.
//! [`NetNs::run`] is the safe way for a short excursion: it returns to the old namespace even if
//! the closure panics.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A handle on a network namespace; it keeps the namespace alive.
#[derive(Debug)]
pub struct NetNs(File);

impl NetNs {
    /// The calling thread's namespace.
    pub fn current() -> io::Result<NetNs> {
        File::open("/proc/thread-self/ns/net").map(NetNs)
    }

    /// The namespace that `ip netns` calls `name`.
    pub fn named(name: &str) -> io::Result<NetNs> {
        NetNs::open(&Path::new("/run/netns").join(name))
    }

    /// The namespace behind `path` (a bind mount, or `/proc/PID/ns/net`).
    pub fn open(path: &Path) -> io::Result<NetNs> {
        File::open(path).map(NetNs)
    }

    /// Moves the calling thread into the namespace.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: setns takes a descriptor and a flag; no memory is involved.
        let rc = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        if rc < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Runs `f` inside the namespace and comes back.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        struct Back(NetNs);
        impl Drop for Back {
            fn drop(&mut self) {
                // Without the way back the thread would go on in the wrong namespace.
                self.0
                    .enter()
                    .expect("return to the previous network namespace");
            }
        }
        let _back = Back(NetNs::current()?);
        self.enter()?;
        Ok(f())
    }

    /// Inode number: equal for handles on the same namespace.
    pub fn id(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.0.metadata()?.ino())
    }
}

/// Moves the calling thread into a fresh, empty namespace.
pub fn unshare() -> io::Result<()> {
    // SAFETY: unshare takes only flags.
    let rc = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excursion_returns_to_where_it_started() {
        let home = NetNs::current().unwrap();
        unshare().unwrap();
        let here = NetNs::current().unwrap().id().unwrap();
        assert_ne!(here, home.id().unwrap());
        let seen = home
            .run(|| NetNs::current().unwrap().id().unwrap())
            .unwrap();
        assert_eq!(seen, home.id().unwrap());
        assert_eq!(NetNs::current().unwrap().id().unwrap(), here);
    }
}
