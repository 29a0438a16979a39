//! The daemon's side of the control socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::framing::Framer;
use super::{Commands, Format, Output, Reply, Request};
use crate::vlog::modules::{FATAL_SIGNAL, JSONRPC, STREAM_UNIX, UNIXCTL};
use crate::vlog::{self, RateLimit};
use crate::{Interest, Poller, clock, coverage, dirs, fatal_signal, is_quiet};

/// Most clients at a time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 100;
/// Output that a client has not read yet, beyond which its next request waits.
const MAX_BACKLOG: usize = 1 << 20;

/// How long a listener that cannot accept rests.
const REST: Duration = Duration::from_millis(500);

struct Connection {
    name: String,
    stream: UnixStream,
    framer: Framer,
    output: VecDeque<u8>,
    format: Format,
    /// A request whose handler answers later: its id and itself.
    pending: Option<(Value, Request)>,
}

/// Why a connection ends.
enum Broken {
    /// The client went away.
    Gone,
    /// What came is not JSON-RPC.
    Framing(String),
    /// A message of a kind that only servers send.
    Unexpected(&'static str),
}

/// Takes a message apart that must be a request: method, parameters, id.
fn parse_request(value: &Value) -> Result<(&str, &Vec<Value>, &Value), Broken> {
    let bad = |text: &str| Broken::Framing(format!("received bad JSON-RPC message: {text}"));
    let present = |name| value.get(name).filter(|v| !v.is_null());
    if present("result").is_some() {
        return Err(Broken::Unexpected("reply"));
    }
    if present("error").is_some() {
        return Err(Broken::Unexpected("error"));
    }
    if !value.is_object() {
        return Err(bad("message is not a JSON object"));
    }
    let method = present("method").ok_or_else(|| bad("request must have \"method\""))?;
    let method = method
        .as_str()
        .ok_or_else(|| bad("\"method\" must be JSON string"))?;
    let params = present("params").ok_or_else(|| bad("request must have \"params\""))?;
    let params = params
        .as_array()
        .ok_or_else(|| bad("\"params\" must be JSON array"))?;
    let id = present("id").ok_or(Broken::Unexpected("notification"))?;
    Ok((method, params, id))
}

/// The listening control socket and its clients.
#[derive(Default)]
pub struct Server {
    listener: Option<UnixListener>,
    path: Option<PathBuf>,
    connections: Vec<Connection>,
    serial: u32,
    /// Nothing is accepted until then.
    resting: Option<Instant>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens at `path`; `None` is the program's default place, and "none" nowhere.
    pub fn open(path: Option<&Path>) -> io::Result<Server> {
        let path = match path {
            Some(p) if p == Path::new("none") => return Ok(Server::default()),
            Some(p) => dirs::rundir().join(p),
            None => default_path(),
        };
        match listen(&path) {
            Ok(listener) => {
                let mut server = Server::default();
                server.listener = Some(listener);
                server.path = Some(path);
                Ok(server)
            }
            Err(e) => {
                let (name, text) = (path.display(), crate::text::errno(&e));
                vlog::warn!(FATAL_SIGNAL, "could not unlink \"{name}\" ({text})");
                vlog::err!(STREAM_UNIX, "{name}: binding failed: {text}");
                crate::program_error(format_args!(
                    "{name}: could not initialize control socket ({text})"
                ));
                Err(e)
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Serves what clients have sent.
    pub fn run<S>(&mut self, commands: &mut Commands<S>, state: &mut S) {
        // A clock that stands still ends no rest.
        if clock::is_stopped() || self.resting.is_some_and(|t| t <= clock::now()) {
            self.resting = None;
        }
        while self.connections.len() < MAX_CONNECTIONS && self.resting.is_none() {
            let Some(listener) = &self.listener else {
                return;
            };
            if is_quiet(listener.as_fd()) {
                break;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    let name = format!("unix#{}", self.serial);
                    self.serial += 1;
                    self.connections.push(Connection {
                        name,
                        stream,
                        framer: Framer::default(),
                        output: VecDeque::new(),
                        format: Format::Text,
                        pending: None,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    static RL: RateLimit = RateLimit::new(5, 1);
                    let text = crate::text::errno(&e);
                    let path = self.path.as_deref().unwrap_or(Path::new("")).display();
                    vlog::warn_rl!(RL, UNIXCTL, "punix:{path}: accept failed: {text}");
                    // Whoever waits to be accepted would wake the loop again at once.
                    self.resting = Some(clock::now() + REST);
                    break;
                }
            }
        }
        // A handler may take long; clients are served in turn, each up to a few requests.
        self.connections
            .retain_mut(|c| match c.run(commands, state) {
                Ok(()) => true,
                Err(e) => {
                    static RL: RateLimit = RateLimit::new(5, 1);
                    let name = &c.name;
                    match e {
                        Broken::Gone => {}
                        Broken::Framing(e) => vlog::warn_rl!(RL, JSONRPC, "{name}: {e}"),
                        Broken::Unexpected(kind) => {
                            vlog::warn_rl!(
                                RL,
                                UNIXCTL,
                                "{name}: received unexpected {kind} message"
                            );
                        }
                    }
                    false
                }
            });
    }

    /// Waits for clients.
    pub fn wait(&self, poller: &mut Poller) {
        if let Some(l) = &self.listener
            && self.connections.len() < MAX_CONNECTIONS
        {
            match self.resting {
                Some(t) => poller.wait_until(t),
                None => poller.wait_fd(l.as_fd(), Interest::READ),
            }
        }
        for c in &self.connections {
            c.wait(poller);
        }
    }

    /// Sends what is queued, waiting for clients for a moment: for a daemon that is about to exit.
    pub fn flush(&mut self) {
        for c in &mut self.connections {
            c.take_late_reply();
            let _ = c.stream.set_nonblocking(false);
            let _ = c
                .stream
                .set_write_timeout(Some(std::time::Duration::from_millis(500)));
            c.output.make_contiguous();
            let _ = c.stream.write_all(c.output.as_slices().0);
        }
        self.connections.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.flush();
        if let Some(p) = &self.path {
            fatal_signal::unlink_now(p);
        }
    }
}

fn default_path() -> PathBuf {
    let name = format!(
        "{}.{}.ctl",
        dirs::program_name(),
        ferrovs_sys::process::pid()
    );
    dirs::rundir().join(name)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    coverage::PSTREAM_OPEN.inc();
    // A socket that a killed predecessor left is in the way, and nobody listens there.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = bind(path)?;
    listener.set_nonblocking(true)?;
    fatal_signal::unlink_on_exit(path);
    Ok(listener)
}

/// Binds, for the owner and the group, through a descriptor of the directory if the name is too
/// long for a socket address.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let old = ferrovs_sys::process::umask(0);
    ferrovs_sys::process::umask(old | 0o007);
    let result = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            via_directory(path, |p| UnixListener::bind(p))
        }
        r => r,
    };
    ferrovs_sys::process::umask(old);
    result
}

/// Runs `f` on a short name for `path`.
pub(super) fn via_directory<T>(
    path: &Path,
    f: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let dir = std::fs::File::open(parent)?;
    let name = path.file_name().unwrap_or_default();
    f(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

impl Connection {
    fn run<S>(&mut self, commands: &mut Commands<S>, state: &mut S) -> Result<(), Broken> {
        self.take_late_reply();
        self.send()?;
        for _ in 0..10 {
            if self.pending.is_some() || self.output.len() > MAX_BACKLOG {
                return Ok(());
            }
            let message = loop {
                match self.framer.next() {
                    Ok(Some(m)) => break m,
                    Ok(None) => {}
                    Err(e) => return Err(Broken::Framing(format!("error parsing stream: {e}"))),
                }
                let mut buf = [0u8; 4096];
                match self.stream.read(&mut buf) {
                    Ok(0) => return Err(Broken::Gone),
                    Ok(n) => self.framer.push(&buf[..n]),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        let text = crate::text::errno(&e);
                        return Err(Broken::Framing(format!("receive error: {text}")));
                    }
                }
            };
            self.request(&message, commands, state)?;
            self.send()?;
        }
        Ok(())
    }

    fn request<S>(
        &mut self,
        message: &Value,
        commands: &mut Commands<S>,
        state: &mut S,
    ) -> Result<(), Broken> {
        let (method, params, id) = parse_request(message)?;
        coverage::UNIXCTL_RECEIVED.inc();
        vlog::dbg!(
            UNIXCTL,
            "received request {method}{}, id={id}",
            Value::from(params.clone())
        );
        let mut argv = vec![method.to_string()];
        for p in params {
            match p.as_str() {
                Some(s) => argv.push(s.to_string()),
                None => {
                    self.reply(
                        id,
                        Err(format!("\"{method}\" command has non-string argument")),
                    );
                    return Ok(());
                }
            }
        }
        let request = Request::new(argv, self.format);
        let reply = if method == "set-options" && request.argv.len() == 3 {
            self.set_options(&request)
        } else {
            commands.call(state, &request)
        };
        match reply {
            Ok(Output::Deferred) => {
                self.pending = Some((id.clone(), request));
                self.take_late_reply();
            }
            reply => self.reply(id, reply),
        }
        Ok(())
    }

    fn set_options(&mut self, request: &Request) -> Reply {
        if request.argv[1] != "--format" {
            return Err(format!("unrecognized option '{}'", request.argv[1]));
        }
        self.format = match request.argv[2].as_str() {
            "text" => Format::Text,
            "json" => Format::Json,
            other => return Err(format!("option format has invalid value {other}")),
        };
        Ok(Output::empty())
    }

    fn take_late_reply(&mut self) {
        let Some((_, request)) = &self.pending else {
            return;
        };
        let reply = request
            .slot
            .reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reply) = reply
            && let Some((id, _)) = self.pending.take()
        {
            self.reply(&id, reply);
        }
    }

    fn reply(&mut self, id: &Value, reply: Reply) {
        coverage::UNIXCTL_REPLIED.inc();
        let (result, error) = match reply {
            Ok(Output::Json(v)) if self.format == Format::Json => (v, Value::Null),
            Ok(Output::Json(v)) => (Value::from(format!("{v}\n")), Value::Null),
            Ok(Output::Text(t)) if self.format == Format::Json => {
                (json!({ "reply-format": "plain", "reply": t }), Value::Null)
            }
            Ok(Output::Text(t)) => (Value::from(t), Value::Null),
            Ok(Output::Deferred) => (Value::from(""), Value::Null),
            Err(e) => (Value::Null, Value::from(e)),
        };
        if error.is_null() {
            vlog::dbg!(UNIXCTL, "replying with success, id={id}: {result}");
        } else {
            vlog::dbg!(UNIXCTL, "replying with error, id={id}: {error}");
        }
        // Members in the order, and with the omissions, that clients of Open vSwitch have always
        // seen: an error has no result.
        let message = if error.is_null() {
            format!("{{\"id\":{id},\"result\":{result},\"error\":null}}")
        } else {
            format!("{{\"id\":{id},\"error\":{error}}}")
        };
        self.output.extend(message.as_bytes());
    }

    fn send(&mut self) -> Result<(), Broken> {
        while !self.output.is_empty() {
            match self.stream.write(self.output.as_slices().0) {
                Ok(n) => {
                    self.output.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(Broken::Gone),
                Err(e) => {
                    return Err(Broken::Framing(format!(
                        "send error: {}",
                        crate::text::errno(&e)
                    )));
                }
            }
        }
        Ok(())
    }

    fn wait(&self, poller: &mut Poller) {
        let fd = self.stream.as_fd();
        if !self.output.is_empty() {
            poller.wait_fd(fd, Interest::WRITE);
        }
        match &self.pending {
            Some((_, request)) => {
                let last = request.slot.changed.read();
                let here = request
                    .slot
                    .reply
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if here.is_some() {
                    poller.wake_now();
                } else {
                    poller.wait_seq(&request.slot.changed, last);
                }
            }
            None if self.output.len() <= MAX_BACKLOG => poller.wait_fd(fd, Interest::READ),
            None => {}
        }
    }
}
