//! Passive streams: "punix:FILE", "ptcp:[PORT][:HOST]", "pssl:[PORT][:HOST]".
//!
//! A Unix socket's file is removed when its listener goes, also when a signal ends the program.
//!
//! Clients cannot take a process all its descriptors: the last few are for the control socket and
//! for files, and a client that would get one of them is hung up on. A listener that cannot accept
//! for another reason (the system is out of files, out of memory) rests for a moment, since it
//! would be ready again at once.

use crate::stream::unix_path;
use crate::{Stream, address_family_error, errno, error_text, inet, socket};
use ferrovs_runtime::{Interest, Poller, clock, is_quiet};
use ferrovs_runtime::{coverage, fatal_signal, vlog};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vlog::modules;

/// Numbers the Unix connections of this process: "unix#0", "unix#1"...
static UNIX_CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Descriptors that no client gets.
const RESERVED: u64 = 8;
/// How long a listener that cannot accept rests.
const REST: Duration = Duration::from_millis(500);

enum Kind {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Tls(SocketAddr),
}

/// A listener.
pub struct PStream {
    name: String,
    fd: OwnedFd,
    kind: Kind,
    /// Nothing is accepted until then.
    resting: Option<Instant>,
}

impl PStream {
    /// Listens on "TYPE:ARGS". A port that is left out is OVSDB's.
    pub fn open(name: &str) -> io::Result<PStream> {
        PStream::open_with(name, Some(crate::OVSDB_PORT), Some(crate::DSCP_DEFAULT))
    }

    /// Listens on "TYPE:ARGS" with a default port and a DSCP for IP traffic.
    pub fn open_with(
        name: &str,
        default_port: Option<u16>,
        dscp: Option<u8>,
    ) -> io::Result<PStream> {
        coverage::PSTREAM_OPEN.inc();
        let (class, target) = name.split_once(':').ok_or_else(address_family_error)?;
        match class {
            "punix" => PStream::open_unix(name, unix_path(target)),
            "ptcp" => PStream::open_tcp(target, default_port, dscp, Kind::Tcp),
            "pssl" => PStream::open_tcp(target, default_port, dscp, Kind::Tls),
            _ => Err(address_family_error()),
        }
    }

    fn open_unix(name: &str, path: PathBuf) -> io::Result<PStream> {
        if let Err(e) = std::fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            let (name, text) = (path.display(), error_text(&e));
            vlog::warn!(modules::SOCKET_UTIL_UNIX, "unlinking \"{name}\": {text}");
        }
        match socket::listen_unix(&path) {
            Ok(fd) => {
                fatal_signal::unlink_on_exit(&path);
                Ok(PStream {
                    name: name.into(),
                    fd,
                    kind: Kind::Unix(path),
                    resting: None,
                })
            }
            Err(e) => {
                // Open vSwitch cleans up, and reports what that said.
                let e = unlink(&path).err().unwrap_or(e);
                let text = error_text(&e);
                vlog::err!(
                    modules::STREAM_UNIX,
                    "{}: binding failed: {text}",
                    path.display()
                );
                Err(e)
            }
        }
    }

    fn open_tcp(
        target: &str,
        default_port: Option<u16>,
        dscp: Option<u8>,
        kind: fn(SocketAddr) -> Kind,
    ) -> io::Result<PStream> {
        // As for active streams, fields are counted: the port is missing if there are none.
        let missing = target.split(':').all(str::is_empty) || target.starts_with(':');
        let asked = inet::parse_passive(target, default_port.filter(|_| missing))?;
        let fd = socket::listen_tcp(&asked, dscp).inspect_err(|e| {
            vlog::err!(modules::SOCKET_UTIL, "{target}: bind: {}", error_text(e));
        })?;
        let bound = rustix::net::getsockname(&fd)
            .ok()
            .and_then(|a| SocketAddr::try_from(a).ok())
            .unwrap_or(asked);
        if asked.port() == 0 {
            vlog::info!(
                modules::SOCKET_UTIL,
                "{target}: listening on port {}",
                bound.port()
            );
        }
        let kind = kind(bound);
        let class = if matches!(kind, Kind::Tls(_)) {
            "pssl"
        } else {
            "ptcp"
        };
        let name = match bound {
            SocketAddr::V4(a) => format!("{class}:{}:{}", a.port(), a.ip()),
            SocketAddr::V6(a) => format!("{class}:{}:[{}]", a.port(), a.ip()),
        };
        Ok(PStream {
            name,
            fd,
            kind,
            resting: None,
        })
    }

    /// The name, with the address that was bound.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The TCP port that was bound.
    pub fn bound_port(&self) -> Option<u16> {
        match &self.kind {
            Kind::Tcp(address) | Kind::Tls(address) => Some(address.port()),
            Kind::Unix(_) => None,
        }
    }

    /// Takes the next connection, if there is one. After an error the listener may wait for
    /// something else than before.
    pub fn accept(&mut self) -> io::Result<Option<Stream>> {
        let now = clock::now();
        // A clock that stands still ends no rest.
        if self.resting.is_some_and(|t| now < t) && !clock::is_stopped() {
            return Ok(None);
        }
        self.resting = None;
        if is_quiet(self.fd.as_fd()) {
            return Ok(None);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = match rustix::net::accept_with(&self.fd, flags) {
            Ok(fd) => fd,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(e) => {
                self.resting = Some(now + REST);
                return Err(errno(e));
            }
        };
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if is_reserved(fd.as_raw_fd(), limit) {
            return Err(errno(Errno::MFILE));
        }
        Ok(Some(match &self.kind {
            Kind::Unix(_) => {
                let number = UNIX_CONNECTIONS.fetch_add(1, Ordering::Relaxed);
                Stream::from_fd(format!("unix#{number}"), fd, None)
            }
            Kind::Tcp(_) | Kind::Tls(_) => {
                let peer = rustix::net::getpeername(&fd)
                    .map_err(errno)
                    .and_then(|a| a.ok_or_else(address_family_error))
                    .and_then(|a| SocketAddr::try_from(a).map_err(|_| address_family_error()))?;
                match &self.kind {
                    Kind::Tls(_) => Stream::accept_tls(format!("ssl:{peer}"), fd, peer)?,
                    _ => Stream::from_fd(format!("tcp:{peer}"), fd, Some(peer)),
                }
            }
        }))
    }

    /// Wakes when a connection waits.
    pub fn wait(&self, poller: &mut Poller) {
        if let Some(t) = self.resting.filter(|_| !clock::is_stopped()) {
            poller.wait_until(t);
            return;
        }
        poller.wait_fd(self.fd.as_fd(), Interest::READ);
    }
}

impl Drop for PStream {
    fn drop(&mut self) {
        if let Kind::Unix(path) = &self.kind {
            unlink(path).ok();
        }
    }
}

/// The lowest free number was given out, so this is one of the last that the limit leaves.
fn is_reserved(fd: RawFd, limit: Option<u64>) -> bool {
    let fd = u64::try_from(fd).unwrap_or(0);
    limit.is_some_and(|limit| fd >= limit - RESERVED.min(limit / 4))
}

/// Removes a socket's file, now and not at the program's end.
fn unlink(path: &Path) -> io::Result<()> {
    fatal_signal::keep(path);
    std::fs::remove_file(path).inspect_err(|e| {
        let (name, text) = (path.display(), error_text(e));
        vlog::warn!(
            modules::FATAL_SIGNAL,
            "could not unlink \"{name}\" ({text})"
        );
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_unix_socket_may_have_any_path_replaces_a_stale_one_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("socket");
        std::fs::write(&path, "stale").unwrap();
        let name = format!("punix:{}", path.display());
        let mut listener = PStream::open(&name).unwrap();
        assert_eq!(listener.name(), name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7, 0);
        let mut here = Stream::open(&format!("unix:{}", path.display())).unwrap();
        here.connect().unwrap();
        let mut there = listener.accept().unwrap().unwrap();
        assert!(there.name().starts_with("unix#"));
        assert_eq!(there.send(b"hi").unwrap(), 2);
        let mut buffer = [0; 4];
        assert_eq!(here.recv(&mut buffer).unwrap(), 2);
        drop(listener);
        assert!(!path.exists());
        let gone = Stream::open(&format!("unix:{}", path.display())).err();
        assert_eq!(gone.map(|e| e.kind()), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn the_last_descriptors_are_not_for_clients() {
        for (limit, first) in [(40, 32), (1024, 1016), (8, 6), (2, 2)] {
            assert!(!is_reserved(first - 1, Some(limit)));
            assert!(is_reserved(first, Some(limit)));
        }
        assert!(!is_reserved(RawFd::MAX, None));
    }

    #[test]
    fn a_name_too_long_by_itself_is_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(120));
        assert!(PStream::open(&format!("punix:{}", path.display())).is_err());
        let error = Stream::open(&format!("unix:{}", path.display())).err();
        assert_eq!(
            error.and_then(|e| e.raw_os_error()),
            Some(rustix::io::Errno::NAMETOOLONG.raw_os_error())
        );
    }

    #[test]
    fn port_zero_is_any_port_and_names_say_which() {
        let mut listener = PStream::open("ptcp:0:[::1]").unwrap();
        let port = listener.bound_port().unwrap();
        assert_eq!(listener.name(), format!("ptcp:{port}:[::1]"));
        let mut here = Stream::open(&format!("tcp:[::1]:{port}")).unwrap();
        while here.connect().is_err() {}
        let there = listener.accept().unwrap().unwrap();
        let back = here.local().unwrap();
        assert_eq!(there.name(), format!("tcp:{back}"));
    }
}
