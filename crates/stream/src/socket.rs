//! Sockets below the streams: creation, options, binding, long Unix paths.

use crate::{errno, error_text};
use ferrovs_runtime::vlog::{self, modules};
use rustix::fs::{Mode, OFlags};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

pub(crate) fn tcp_socket(address: &SocketAddr, dscp: Option<u8>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = net::socket_with(family, SocketType::STREAM, FLAGS, None).map_err(errno)?;
    if let Some(dscp) = dscp {
        set_dscp(&fd, address, dscp).ok();
    }
    Ok(fd)
}

pub(crate) fn set_dscp(fd: &OwnedFd, address: &SocketAddr, dscp: u8) -> io::Result<()> {
    let class = dscp << 2;
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_tos(fd, class),
        SocketAddr::V6(_) => sockopt::set_ipv6_tclass(fd, u32::from(class)),
    }
    .map_err(errno)
}

/// Latency matters more than segments: requests are small and answers wait for them.
pub(crate) fn set_nodelay(fd: &OwnedFd) {
    sockopt::set_tcp_nodelay(fd, true).ok();
}

/// Starts a connection; true if it is complete at once.
pub(crate) fn connect_tcp(fd: &OwnedFd, address: &SocketAddr) -> io::Result<bool> {
    match net::connect(fd, address) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS) => Ok(false),
        Err(e) => Err(errno(e)),
    }
}

pub(crate) fn listen_tcp(address: &SocketAddr, dscp: Option<u8>) -> io::Result<OwnedFd> {
    let fd = tcp_socket(address, dscp)?;
    sockopt::set_socket_reuseaddr(&fd, true).map_err(errno)?;
    net::bind(&fd, address).map_err(errno)?;
    net::listen(&fd, 64).map_err(errno)?;
    Ok(fd)
}

pub(crate) fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let fd =
        net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(errno)?;
    with_unix_address(path, |address| net::connect(&fd, address).map_err(errno))?;
    Ok(fd)
}

/// Listens on `path`; whatever was there goes first. Group and owner may connect.
pub(crate) fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let fd =
        net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(errno)?;
    // The mode of the socket's inode before binding, less the umask, is the mode of the file.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o770)).ok();
    with_unix_address(path, |address| net::bind(&fd, address).map_err(errno))?;
    net::listen(&fd, 64).map_err(errno)?;
    Ok(fd)
}

/// What fits into a Unix socket's address.
const MAX_UNIX_PATH: usize = 107;

/// Calls `f` with an address for `path`. A path too long for a socket address is reached through
/// a descriptor of its directory.
fn with_unix_address<T>(
    path: &Path,
    f: impl FnOnce(&SocketAddrUnix) -> io::Result<T>,
) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_UNIX_PATH {
        return f(&SocketAddrUnix::new(path).map_err(errno)?);
    }
    let too_long = || {
        vlog::warn!(
            modules::SOCKET_UTIL_UNIX,
            "Unix socket name {} is longer than maximum {MAX_UNIX_PATH} bytes",
            path.display()
        );
        errno(rustix::io::Errno::NAMETOOLONG)
    };
    let (Some(dir), Some(base)) = (path.parent(), path.file_name()) else {
        return Err(too_long());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(e) => {
            let (name, e) = (dir.display(), errno(e));
            let text = error_text(&e);
            vlog::warn!(modules::SOCKET_UTIL_UNIX, "{name}: open failed ({text})");
            too_long();
            return Err(e);
        }
    };
    let short = Path::new("/proc/self/fd")
        .join(opened.as_raw_fd().to_string())
        .join(base);
    if short.as_os_str().len() > MAX_UNIX_PATH {
        return Err(too_long());
    }
    f(&SocketAddrUnix::new(short).map_err(errno)?)
}
