//! The asking side of the control socket.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::framing::Framer;
use crate::vlog::modules::UNIXCTL;
use crate::{Interest, Poller, dirs, vlog};

/// A connection to a daemon's control socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    serial: u64,
    poller: Poller,
}

/// The socket that `target` means: a path, or the name of a program with a pidfile in the run
/// directory. The error comes with the text that tells what was tried.
pub fn target_path(target: &str) -> Result<PathBuf, (io::Error, String)> {
    if target.starts_with('/') {
        return Ok(PathBuf::from(target));
    }
    let pidfile = dirs::rundir().join(format!("{target}.pid"));
    match crate::daemon::read_pidfile(&pidfile) {
        Ok(pid) => Ok(dirs::rundir().join(format!("{target}.{pid}.ctl"))),
        Err(e) => Err((e, format!("cannot read pidfile \"{}\"", pidfile.display()))),
    }
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let result = match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                super::server::via_directory(path, |p| UnixStream::connect(p))
            }
            r => r,
        };
        let stream = match result {
            Ok(s) => s,
            Err(e) => {
                vlog::warn!(UNIXCTL, "failed to connect to {}", path.display());
                return Err(e);
            }
        };
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            framer: Framer::default(),
            serial: 0,
            poller: Poller::new(),
        })
    }

    /// Sends a command and waits for the answer: its result, or its error text.
    pub fn transact(
        &mut self,
        command: &str,
        args: &[String],
    ) -> io::Result<Result<Value, String>> {
        let id = self.serial;
        self.serial += 1;
        let request = json!({ "id": id, "method": command, "params": args }).to_string();
        self.send(request.as_bytes())?;
        loop {
            let reply = self.receive()?;
            if reply.get("id") != Some(&Value::from(id)) {
                continue;
            }
            return Ok(match reply.get("error") {
                None | Some(Value::Null) => Ok(reply.get("result").cloned().unwrap_or(Value::Null)),
                Some(Value::String(e)) => Err(e.clone()),
                Some(other) => {
                    vlog::warn!(
                        UNIXCTL,
                        "{}: unexpected error type in JSON RPC reply: {other}",
                        command
                    );
                    return Err(io::Error::from_raw_os_error(22));
                }
            });
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.poller.wait_fd(self.stream.as_fd(), Interest::WRITE);
                    self.poller.block();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Value> {
        loop {
            match self.framer.next() {
                Ok(Some(m)) => return Ok(m),
                Ok(None) => {}
                Err(_) => return Err(io::Error::from_raw_os_error(71)),
            }
            let mut buf = [0u8; 65536];
            match self.stream.read(&mut buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.framer.push(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.poller.wait_fd(self.stream.as_fd(), Interest::READ);
                    self.poller.block();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
