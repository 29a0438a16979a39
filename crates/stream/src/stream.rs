//! Active streams: "unix:FILE", "tcp:HOST:PORT", "ssl:HOST:PORT".
//!
//! A stream is opened at once and connects in its own time: [`Stream::connect`] says how far it
//! is. Afterwards `send` and `recv` move bytes without blocking; `WouldBlock` means wait.

use crate::{address_family_error, errno, inet, socket, tls};
use ferrovs_runtime::{Interest, Poller};
use ferrovs_runtime::{coverage, dirs, vlog};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use vlog::modules;

/// A non-blocking byte stream to a peer.
pub struct Stream {
    name: String,
    fd: OwnedFd,
    connected: bool,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    tls: Option<Box<tls::Session>>,
}

impl Stream {
    /// Opens "TYPE:ARGS". A port that is left out is OVSDB's.
    pub fn open(name: &str) -> io::Result<Stream> {
        Stream::open_with(name, Some(crate::OVSDB_PORT), Some(crate::DSCP_DEFAULT))
    }

    /// Opens "TYPE:ARGS" with a default port and a DSCP for IP traffic.
    pub fn open_with(
        name: &str,
        default_port: Option<u16>,
        dscp: Option<u8>,
    ) -> io::Result<Stream> {
        coverage::STREAM_OPEN.inc();
        let (class, target) = name.split_once(':').ok_or_else(address_family_error)?;
        match class {
            "unix" => {
                let fd = socket::connect_unix(&unix_path(target))?;
                Ok(Stream {
                    name: name.into(),
                    fd,
                    connected: true,
                    local: None,
                    peer: None,
                    tls: None,
                })
            }
            "tcp" => {
                let (name, target) = with_default_port(name, target, default_port);
                Stream::open_tcp(name, &target, dscp)
            }
            "ssl" => {
                let (name, target) = with_default_port(name, target, default_port);
                let mut stream = Stream::open_tcp(name, &target, dscp)?;
                let session = tls::Session::client(inet::host(&target))?;
                stream.tls = Some(Box::new(session));
                Ok(stream)
            }
            _ => Err(address_family_error()),
        }
    }

    fn open_tcp(name: String, target: &str, dscp: Option<u8>) -> io::Result<Stream> {
        let opened = inet::parse_active(target, None).and_then(|address| {
            let fd = socket::tcp_socket(&address, dscp)?;
            let connected = socket::connect_tcp(&fd, &address)?;
            Ok((fd, connected, address))
        });
        match opened {
            Ok((fd, connected, address)) => {
                let mut stream = Stream {
                    name,
                    fd,
                    connected: false,
                    local: None,
                    peer: Some(address),
                    tls: None,
                };
                if connected {
                    stream.established();
                }
                Ok(stream)
            }
            Err(e) => {
                let text = crate::error_text(&e);
                if name.starts_with("ssl:") {
                    vlog::err!(modules::STREAM_SSL, "{name}: connect: {text}");
                } else {
                    vlog::err!(modules::STREAM_TCP, "{name}: connect: {text}");
                }
                Err(e)
            }
        }
    }

    /// A stream over a socket that is connected already.
    pub fn from_fd(name: String, fd: OwnedFd, peer: Option<SocketAddr>) -> Stream {
        let mut stream = Stream {
            name,
            fd,
            connected: false,
            local: None,
            peer,
            tls: None,
        };
        stream.established();
        stream
    }

    /// The server's side of TLS over a socket that is connected already.
    pub(crate) fn accept_tls(name: String, fd: OwnedFd, peer: SocketAddr) -> io::Result<Stream> {
        let mut stream = Stream::from_fd(name, fd, Some(peer));
        stream.tls = Some(Box::new(tls::Session::server()?));
        Ok(stream)
    }

    /// The common name in the peer's certificate, of TLS streams whose peer was verified.
    pub fn peer_name(&self) -> Option<String> {
        self.tls.as_ref()?.peer_name()
    }

    /// Whether the bytes are encrypted on their way.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Two streams connected to each other.
    pub fn pair() -> io::Result<(Stream, Stream)> {
        let (a, b) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(errno)?;
        Ok((
            Stream::from_fd("unix".into(), a, None),
            Stream::from_fd("unix".into(), b, None),
        ))
    }

    fn established(&mut self) {
        self.connected = true;
        if self.peer.is_some() {
            socket::set_nodelay(&self.fd);
            self.local = rustix::net::getsockname(&self.fd)
                .ok()
                .and_then(|a| SocketAddr::try_from(a).ok());
        }
    }

    /// The name it was opened by, a default port made explicit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The peer's address, for IP streams.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// This end's address, for IP streams that are connected.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// How the connection gets on: `WouldBlock` while it is being made.
    pub fn connect(&mut self) -> io::Result<()> {
        if !self.connected {
            let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
            let ready = rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default()));
            if ready.map_err(errno)? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            sockopt::socket_error(&self.fd)
                .map_err(errno)?
                .map_err(errno)?;
            self.established();
        }
        match &mut self.tls {
            Some(tls) if tls.in_handshake() => tls.handshake(&self.fd, &self.name),
            _ => Ok(()),
        }
    }

    /// Receives into `buffer`; 0 is the end of the stream.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connect()?;
        if let Some(tls) = &mut self.tls {
            return tls.recv(&self.fd, buffer);
        }
        let flags = rustix::net::RecvFlags::empty();
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, flags) {
                Ok((_, n)) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }

    /// Sends what fits of `bytes`; returns how many bytes went.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_parts(&[io::IoSlice::new(bytes)])
    }

    /// Sends what fits of `parts`, one after another, as one; returns how many bytes went.
    pub fn send_parts(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.connect()?;
        if let Some(tls) = &mut self.tls {
            return tls.send(&self.fd, parts);
        }
        let mut control = rustix::net::SendAncillaryBuffer::default();
        let flags = rustix::net::SendFlags::NOSIGNAL;
        loop {
            match rustix::net::sendmsg(&self.fd, parts, &mut control, flags) {
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }

    /// Lets the stream do its own work: what is encrypted already goes out.
    pub fn run(&mut self) {
        if let Some(tls) = &mut self.tls
            && self.connected
        {
            // An error shows again where the caller can see it.
            tls.flush(&self.fd).ok();
        }
    }

    /// Wakes when [`Stream::run`] has something to do.
    pub fn run_wait(&self, poller: &mut Poller) {
        if self.connected && self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            poller.wait_fd(self.fd.as_fd(), Interest::WRITE);
        }
    }

    /// Wakes when [`Stream::connect`] may have come further.
    pub fn connect_wait(&self, poller: &mut Poller) {
        match &self.tls {
            _ if !self.connected => poller.wait_fd(self.fd.as_fd(), Interest::WRITE),
            Some(tls) if tls.in_handshake() => self.handshake_wait(tls, poller),
            _ => poller.wake_now(),
        }
    }

    fn handshake_wait(&self, tls: &tls::Session, poller: &mut Poller) {
        let interest = if tls.wants_write() {
            Interest::BOTH
        } else {
            Interest::READ
        };
        poller.wait_fd(self.fd.as_fd(), interest);
    }

    /// Wakes when something can be received.
    pub fn recv_wait(&self, poller: &mut Poller) {
        match &self.tls {
            _ if !self.connected => poller.wait_fd(self.fd.as_fd(), Interest::WRITE),
            Some(tls) if tls.in_handshake() => self.handshake_wait(tls, poller),
            Some(tls) if tls.has_pending() => poller.wake_now(),
            _ => poller.wait_fd(self.fd.as_fd(), Interest::READ),
        }
    }

    /// Wakes when something can be sent.
    pub fn send_wait(&self, poller: &mut Poller) {
        match &self.tls {
            Some(tls) if self.connected && tls.in_handshake() => self.handshake_wait(tls, poller),
            _ => poller.wait_fd(self.fd.as_fd(), Interest::WRITE),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls
            && self.connected
        {
            tls.close(&self.fd);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A Unix socket's path; a relative one is in the run directory.
pub(crate) fn unix_path(target: &str) -> PathBuf {
    dirs::rundir().join(target)
}

/// Open vSwitch counts the fields between colons: fewer than three means that the port is missing.
fn with_default_port(name: &str, target: &str, port: Option<u16>) -> (String, String) {
    match port {
        Some(port) if name.split(':').filter(|field| !field.is_empty()).count() < 3 => {
            tell_new_port(port);
            (format!("{name}:{port}"), format!("{target}:{port}"))
        }
        _ => (name.into(), target.into()),
    }
}

/// Says once that who relies on a default relies on another one than long ago.
fn tell_new_port(port: u16) {
    static OVSDB: AtomicBool = AtomicBool::new(false);
    static OPENFLOW: AtomicBool = AtomicBool::new(false);
    let (what, old, told) = match port {
        crate::OVSDB_PORT => ("OVSDB", 6632, &OVSDB),
        crate::OPENFLOW_PORT => ("OpenFlow", 6633, &OPENFLOW),
        _ => return,
    };
    if !told.swap(true, Ordering::Relaxed) {
        vlog::warn!(
            modules::STREAM,
            "The default {what} port number has changed from {old} to {port}"
        );
    }
}

/// Checks that some class of active streams knows `name`; the class is all that is looked at.
pub fn verify_active(name: &str) -> bool {
    matches!(name.split_once(':'), Some(("unix" | "tcp" | "ssl", _)))
}

/// Checks that some class of passive streams knows `name`.
pub fn verify_passive(name: &str) -> bool {
    matches!(name.split_once(':'), Some(("punix" | "ptcp" | "pssl", _)))
}

/// Whether inactivity of `name` can only be noticed by probing: not for Unix sockets.
pub fn needs_probes(name: &str) -> bool {
    matches!(
        name.split_once(':'),
        Some(("tcp" | "ssl" | "ptcp" | "pssl", _))
    )
}
