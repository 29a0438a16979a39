//! TLS below "ssl:" and "pssl:" streams, by rustls.
//!
//! Open vSwitch's model is not the web's: both ends prove themselves with certificates of a private
//! authority, and host names do not matter. `--ca-cert` (or `--bootstrap-ca-cert`, which fetches the
//! authority's certificate from the first peer and keeps it) says whom to trust, "none" to trust
//! everybody; `--peer-ca-cert` is sent along so that the peer can bootstrap.
//!
//! The log speaks as OpenSSL does, which Open vSwitch is built on: see `text`.
//!
//! Invariants: a connection whose peer did not verify never carries a byte of the application's;
//! nothing here blocks, however slowly a peer shakes hands.

mod bootstrap;
mod certificate;
mod choice;
mod config;
mod material;
mod text;
mod verify;

pub use config::{configure, reconfigure};

use crate::{errno, error_text, protocol_error};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use rustls::Connection;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

static RL: RateLimit = RateLimit::new(10, 25);

/// Plain text that waits to be encrypted; more is refused until some of it went.
const SEND_BUFFER: usize = 256 * 1024;
/// So much is kept of how the peer began, to say what it is if it is not TLS.
const HEAD: usize = 8;

/// The TLS state of one stream.
pub(crate) struct Session {
    connection: Connection,
    /// Decrypted bytes that nobody has taken yet.
    pending: usize,
    /// Where the peer's authority goes once the handshake is complete.
    bootstrap: Option<PathBuf>,
    /// The handshake failed: nothing else will ever happen.
    failed: Option<i32>,
    client: bool,
    /// A handshake that succeeds says who the peer is.
    verifies: bool,
    /// How the peer began.
    head: Vec<u8>,
}

/// Reads and writes the socket that lies below.
struct Socket<'a> {
    fd: BorrowedFd<'a>,
    head: &'a mut Vec<u8>,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, n) = rustix::net::recv(self.fd, &mut *buffer, rustix::net::RecvFlags::empty())
            .map_err(errno)?;
        let room = HEAD.saturating_sub(self.head.len()).min(n);
        self.head.extend_from_slice(&buffer[..room]);
        Ok(n)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustix::net::send(self.fd, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(errno)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock
}

fn system_error(what: &str, e: &io::Error) {
    let text = error_text(e);
    vlog::warn_rl!(RL, modules::STREAM_SSL, "{what}: system error ({text})");
}

impl Session {
    /// The client's side; `host` is what stood before the port.
    pub fn client(host: &str) -> io::Result<Session> {
        let client = config::client(host)?;
        let connection = Connection::Client(client.connection);
        let mut session = Session::new(connection, true, client.verifies);
        session.bootstrap = client.bootstrap;
        Ok(session)
    }

    /// The server's side.
    pub fn server() -> io::Result<Session> {
        let (connection, verifies) = config::server()?;
        Ok(Session::new(
            Connection::Server(connection),
            false,
            verifies,
        ))
    }

    fn new(mut connection: Connection, client: bool, verifies: bool) -> Session {
        connection.set_buffer_limit(Some(SEND_BUFFER));
        Session {
            connection,
            pending: 0,
            bootstrap: None,
            failed: None,
            client,
            verifies,
            head: Vec::new(),
        }
    }

    /// What the log calls the handshake.
    fn handshake_name(&self) -> &'static str {
        if self.client {
            "SSL_connect"
        } else {
            "SSL_accept"
        }
    }

    /// Whether [`Session::handshake`] has something to do or to say.
    pub fn in_handshake(&self) -> bool {
        self.connection.is_handshaking() || self.bootstrap.is_some() || self.failed.is_some()
    }

    /// Drives the handshake on: `WouldBlock` until it is complete. `name` is the stream's.
    pub fn handshake(&mut self, fd: impl AsFd, name: &str) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(io::Error::from_raw_os_error(error));
        }
        let result = self.shake(&fd, name);
        if let Err(e) = &result
            && !would_block(e)
        {
            self.failed = e.raw_os_error();
        }
        result
    }

    fn shake(&mut self, fd: &impl AsFd, name: &str) -> io::Result<()> {
        let what = self.handshake_name();
        let system = |e: io::Error| {
            if !would_block(&e) {
                system_error(what, &e);
            }
            e
        };
        while self.connection.is_handshaking() {
            self.flush(fd).map_err(system)?;
            if !self.connection.is_handshaking() {
                break;
            }
            if self.connection.wants_read() {
                let n = self.read(fd).map_err(system)?;
                if let Err(e) = self.process(fd) {
                    let text = text::failure(&e, &self.head, self.client);
                    vlog::warn_rl!(RL, modules::STREAM_SSL, "{what}: {text}");
                    if self.head.first().is_some_and(|b| b"{[".contains(b)) {
                        vlog::warn_rl!(
                            RL,
                            modules::STREAM_SSL,
                            "{name}: received JSON-RPC data on SSL/TLS channel"
                        );
                    }
                    return Err(protocol_error());
                }
                if n == 0 {
                    // Open vSwitch has OpenSSL take the end of the stream for the end of the session.
                    vlog::err_rl!(
                        RL,
                        modules::STREAM_SSL,
                        "{what}: unexpected SSL_ERROR_ZERO_RETURN"
                    );
                    return Err(protocol_error());
                }
            }
        }
        match self.flush(fd) {
            Err(e) if !would_block(&e) => return Err(system(e)),
            _ => {}
        }
        if let Some(file) = self.bootstrap.take() {
            let chain = self.connection.peer_certificates().unwrap_or_default();
            return Err(bootstrap::bootstrap(&file, chain));
        }
        Ok(())
    }

    /// Takes decrypted bytes; 0 is the end.
    pub fn recv(&mut self, fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        // Whoever receives gives what waits to be sent its chance, too. If it cannot go, reading
        // tells why: the peer may have said something before it went away.
        self.flush(&fd).ok();
        loop {
            match self.connection.reader().read(buffer) {
                Ok(n) => {
                    self.pending = self.pending.saturating_sub(n);
                    return Ok(n);
                }
                // The end is the end, announced or not: what is above has its own framing.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if !would_block(&e) => return Err(e),
                Err(_) => {}
            }
            let n = self.read(&fd).inspect_err(|e| {
                if !would_block(e) {
                    system_error("SSL_read", e);
                }
            })?;
            if let Err(e) = self.process(&fd) {
                let text = text::failure(&e, &[], self.client);
                vlog::warn_rl!(RL, modules::STREAM_SSL, "SSL_read: {text}");
                return Err(errno(rustix::io::Errno::IO));
            }
            if n == 0 && self.pending == 0 {
                return Ok(0);
            }
        }
    }

    /// Encrypts and sends what fits.
    pub fn send(&mut self, fd: impl AsFd, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.flush_for_send(&fd)?;
        let n = self.connection.writer().write_vectored(parts)?;
        self.flush_for_send(&fd)?;
        if n == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    }

    fn flush_for_send(&mut self, fd: &impl AsFd) -> io::Result<()> {
        match self.flush(fd) {
            Err(e) if !would_block(&e) => {
                system_error("SSL_write", &e);
                Err(e)
            }
            _ => Ok(()),
        }
    }

    /// Sends what is encrypted already.
    pub fn flush(&mut self, fd: impl AsFd) -> io::Result<()> {
        while self.connection.wants_write() {
            let mut socket = Socket {
                fd: fd.as_fd(),
                head: &mut self.head,
            };
            match self.connection.write_tls(&mut socket) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Reads from the socket; 0 is the end.
    fn read(&mut self, fd: &impl AsFd) -> io::Result<usize> {
        loop {
            let mut socket = Socket {
                fd: fd.as_fd(),
                head: &mut self.head,
            };
            match self.connection.read_tls(&mut socket) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Decrypts what was read.
    fn process(&mut self, fd: &impl AsFd) -> Result<(), rustls::Error> {
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.pending = state.plaintext_bytes_to_read();
                Ok(())
            }
            Err(e) => {
                // The alert that says why is worth a try.
                self.flush(fd).ok();
                vlog::dbg!(modules::STREAM_SSL, "{e}");
                Err(e)
            }
        }
    }

    /// Says goodbye, so that the peer can tell an end from an accident.
    pub fn close(&mut self, fd: impl AsFd) {
        if !self.connection.is_handshaking() {
            self.connection.send_close_notify();
            self.flush(fd).ok();
        }
    }

    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether something can be taken without the socket.
    pub fn has_pending(&self) -> bool {
        self.pending > 0
    }

    /// The common name in the peer's certificate, if it was verified.
    pub fn peer_name(&self) -> Option<String> {
        if !self.verifies || self.in_handshake() {
            return None;
        }
        certificate::common_name(self.connection.peer_certificates()?.first()?)
    }
}

#[cfg(test)]
mod tests;
