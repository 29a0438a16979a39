//! Passive streams: "punix:FILE", "ptcp:[PORT][:HOST]", "pssl:[PORT][:HOST]".
//!
//! A Unix socket's file is removed when its listener goes, also when a signal ends the program.

use crate::stream::unix_path;
use crate::{Stream, address_family_error, errno, error_text, inet, socket};
use ferrovs_runtime::{Interest, Poller};
use ferrovs_runtime::{fatal_signal, vlog};
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use vlog::modules;

/// Numbers the Unix connections of this process: "unix#0", "unix#1"...
static UNIX_CONNECTIONS: AtomicU64 = AtomicU64::new(0);

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
        Ok(PStream { name, fd, kind })
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

    /// Takes the next connection, if there is one.
    pub fn accept(&mut self) -> io::Result<Option<Stream>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = match rustix::net::accept_with(&self.fd, flags) {
            Ok(fd) => fd,
            Err(
                rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED,
            ) => return Ok(None),
            Err(e) => return Err(errno(e)),
        };
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
