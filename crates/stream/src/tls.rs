//! TLS below "ssl:" and "pssl:" streams, by rustls.
//!
//! Open vSwitch's model is not the web's: both ends prove themselves with certificates of a private
//! authority, and host names do not matter. `--ca-cert` (or `--bootstrap-ca-cert`, which fetches the
//! authority's certificate from the first peer and keeps it) says whom to trust, "none" to trust
//! everybody; `--peer-ca-cert` is sent along so that the peer can bootstrap.
//!
//! The files are read when a connection begins and again after they changed. Invariant: a
//! connection whose peer did not verify never carries a byte of the application's.

mod certificate;
mod config;
mod verify;

pub use config::configure;

pub(crate) use config::{check_client, check_server};

use crate::{errno, protocol_error};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use rustls::Connection;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

static RL: RateLimit = RateLimit::new(10, 25);

/// Plain text that waits to be encrypted; more is refused until some of it went.
const SEND_BUFFER: usize = 256 * 1024;

/// The TLS state of one stream.
pub(crate) struct Session {
    connection: Connection,
    /// Decrypted bytes that nobody has taken yet.
    pending: usize,
    /// Where the peer's authority goes once the handshake is complete.
    bootstrap: Option<PathBuf>,
    bootstrapped: bool,
    client: bool,
}

/// Reads and writes the socket that lies below.
struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustix::net::recv(self.0, buffer, rustix::net::RecvFlags::empty())
            .map(|(_, n)| n)
            .map_err(errno)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustix::net::send(self.0, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(errno)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// The client's side; `host` is what stood before the port.
    pub fn client(host: &str) -> io::Result<Session> {
        let (connection, bootstrap) = config::client(host)?;
        Ok(Session::new(
            Connection::Client(connection),
            bootstrap,
            true,
        ))
    }

    /// The server's side.
    pub fn server() -> io::Result<Session> {
        let connection = config::server()?;
        Ok(Session::new(Connection::Server(connection), None, false))
    }

    fn new(mut connection: Connection, bootstrap: Option<PathBuf>, client: bool) -> Session {
        connection.set_buffer_limit(Some(SEND_BUFFER));
        Session {
            connection,
            pending: 0,
            bootstrap,
            bootstrapped: false,
            client,
        }
    }

    /// Drives the handshake: `WouldBlock` until it is complete.
    pub fn handshake(&mut self, fd: impl AsFd) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.flush(&fd)?;
            if !self.connection.is_handshaking() {
                break;
            }
            if self.connection.wants_read() && self.fill(&fd)? == 0 {
                return Err(protocol_error());
            }
        }
        self.flush(&fd)?;
        if let Some(file) = self.bootstrap.take() {
            self.bootstrapped = true;
            certificate::bootstrap(
                &file,
                self.connection.peer_certificates().unwrap_or_default(),
            );
        }
        // Trust begins with the next connection, which can be verified.
        if self.bootstrapped {
            Err(protocol_error())
        } else {
            Ok(())
        }
    }

    /// Takes decrypted bytes; 0 is the end.
    pub fn recv(&mut self, fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
        // Whoever receives gives what waits to be sent its chance, too.
        match self.flush(&fd) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        loop {
            match self.connection.reader().read(buffer) {
                Ok(n) => {
                    self.pending = self.pending.saturating_sub(n);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                Err(_) => {}
            }
            if self.fill(&fd)? == 0 {
                return Ok(0);
            }
        }
    }

    /// Encrypts and sends what fits.
    pub fn send(&mut self, fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
        match self.flush(&fd) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        let n = self.connection.writer().write(bytes)?;
        match self.flush(&fd) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        if n == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    }

    /// Sends what is encrypted already.
    pub fn flush(&mut self, fd: impl AsFd) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Socket(fd.as_fd()))?;
        }
        Ok(())
    }

    /// Reads from the socket and decrypts; 0 is the end.
    fn fill(&mut self, fd: impl AsFd) -> io::Result<usize> {
        let n = self.connection.read_tls(&mut Socket(fd.as_fd()))?;
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.pending = state.plaintext_bytes_to_read();
                Ok(n)
            }
            Err(e) => {
                // The alert that says why is worth a try.
                let _ = self.flush(&fd);
                let (what, error) = match (self.connection.is_handshaking(), self.client) {
                    (true, true) => ("SSL_connect", protocol_error()),
                    (true, false) => ("SSL_accept", protocol_error()),
                    (false, _) => ("SSL_read", errno(rustix::io::Errno::IO)),
                };
                vlog::warn_rl!(RL, modules::STREAM_SSL, "{what}: {e}");
                Err(error)
            }
        }
    }

    /// Says goodbye, so that the peer can tell an end from an accident.
    pub fn close(&mut self, fd: impl AsFd) {
        self.connection.send_close_notify();
        let _ = self.flush(fd);
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
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
        certificate::common_name(self.connection.peer_certificates()?.first()?)
    }
}

#[cfg(test)]
mod tests;
