//! Stream sockets of the host whose messages bring descriptors along. Nothing here waits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Descriptors that one message may bring.
pub const MAX_FDS: usize = 16;

/// A listening or a connected socket.
#[derive(Debug)]
pub struct UnixSocket(OwnedFd);

impl From<OwnedFd> for UnixSocket {
    fn from(fd: OwnedFd) -> UnixSocket {
        UnixSocket(fd)
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn socket() -> io::Result<OwnedFd> {
    let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None);
    Ok(made?)
}

impl UnixSocket {
    /// Connects to who listens there. Whoever has too many waiting already says EAGAIN.
    pub fn connect(path: &Path) -> io::Result<UnixSocket> {
        let fd = socket()?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(UnixSocket(fd))
    }

    /// Listens there; the file must not exist yet.
    pub fn listen(path: &Path) -> io::Result<UnixSocket> {
        let fd = socket()?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&fd, 16)?;
        Ok(UnixSocket(fd))
    }

    /// The next connection; None if nobody waits.
    pub fn accept(&self) -> io::Result<Option<UnixSocket>> {
        match rustix::net::accept_with(&self.0, FLAGS) {
            Ok(fd) => Ok(Some(UnixSocket(fd))),
            Err(e) if [rustix::io::Errno::AGAIN, rustix::io::Errno::CONNABORTED].contains(&e) => {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Reads what has come, 0 at the end, and adds the descriptors that came along.
    pub fn recv(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(got.bytes)
    }

    /// Sends bytes and descriptors; returns how many bytes found room. The descriptors go with the first.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(bytes)],
            &mut control,
            flags,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_come_with_the_bytes_they_were_sent_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(UnixSocket::connect(&path).is_err());
        let server = UnixSocket::listen(&path).unwrap();
        assert!(server.accept().unwrap().is_none());
        assert!(UnixSocket::listen(&path).is_err());
        let client = UnixSocket::connect(&path).unwrap();
        let peer = server.accept().unwrap().unwrap();
        let file = crate::guest::file(123).unwrap();
        assert_eq!(
            client.send(b"abc", &[file.as_fd(), file.as_fd()]).unwrap(),
            3
        );
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        assert_eq!(peer.recv(&mut bytes, &mut fds).unwrap(), 3);
        assert_eq!((&bytes[..3], fds.len()), (&b"abc"[..], 2));
        assert_eq!(rustix::fs::fstat(&fds[1]).unwrap().st_size, 123);
        let empty = peer.recv(&mut bytes, &mut fds).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(client);
        assert_eq!(peer.recv(&mut bytes, &mut fds).unwrap(), 0);
    }
}
