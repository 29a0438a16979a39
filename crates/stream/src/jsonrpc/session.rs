//! A JSON-RPC connection that is kept up: reconnection, several remotes in turn, echo.

use super::{Connection, Incoming, Limits, Msg, Text};
use crate::json::Value;
use crate::reconnect::{Action, Reconnect, Stats};
use crate::{PStream, Stream, error_text, needs_probes, stream, verify_passive};
use ferrovs_runtime::Poller;
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use std::io;
use std::time::{Duration, Instant};

static RL: RateLimit = RateLimit::new(1, 5);

/// A session: see the module documentation.
pub struct Session {
    reconnect: Reconnect,
    remotes: Vec<String>,
    next_remote: usize,
    connection: Option<Connection>,
    connecting: Option<Stream>,
    listener: Option<PStream>,
    /// Bumped whenever a connection begins or ends: whoever kept state for one starts over.
    seqno: u64,
    last_error: Option<String>,
    dscp: u8,
    backlog: (usize, usize),
    limits: Limits,
    reliable: bool,
    /// The probe interval is the one that goes with the remote's kind.
    default_probes: bool,
}

impl Session {
    /// Keeps a session with `remote` up, for ever if `retry`, else one attempt.
    pub fn open(remote: &str, retry: bool, now: Instant) -> Session {
        Session::open_multiple(vec![remote.into()], retry, now)
    }

    /// Like [`Session::open`], with remotes that take turns (the caller orders them).
    pub fn open_multiple(remotes: Vec<String>, retry: bool, now: Instant) -> Session {
        let mut session = Session::bare(now);
        session.remotes = remotes;
        session.pick_remote(now);
        // Without retrying, each remote gets its one chance.
        let tries = u32::try_from(session.remotes.len()).unwrap_or(u32::MAX);
        session
            .reconnect
            .set_max_tries(if retry { None } else { Some(tries) });
        if session.remotes.len() > 1 {
            session
                .reconnect
                .set_backoff_free_tries(session.remotes.len() as u32);
        }
        session.reconnect.enable(now);
        session
    }

    /// A session over a connection that was accepted: it ends when the connection ends.
    pub fn unreliable(connection: Connection, now: Instant) -> Session {
        let mut session = Session::bare(now);
        session.reliable = false;
        session.reconnect.set_quiet(true);
        session.reconnect.set_name(connection.name());
        session.reconnect.set_max_tries(Some(0));
        if !matches!(connection.name().split_once(':'), Some(("tcp" | "ssl", _))) {
            session.reconnect.set_probe_interval(None);
        }
        session.reconnect.connected(now);
        session.seqno = 1;
        session.connection = Some(connection);
        session
    }

    fn bare(now: Instant) -> Session {
        Session {
            reconnect: Reconnect::new(now),
            remotes: Vec::new(),
            next_remote: 0,
            connection: None,
            connecting: None,
            listener: None,
            seqno: 0,
            last_error: None,
            dscp: crate::DSCP_DEFAULT,
            backlog: (0, 0),
            limits: Limits::default(),
            reliable: true,
            default_probes: true,
        }
    }

    fn pick_remote(&mut self, now: Instant) {
        let Some(name) = self.remotes.get(self.next_remote) else {
            return;
        };
        self.next_remote = (self.next_remote + 1) % self.remotes.len();
        self.reconnect.set_name(name);
        self.reconnect.set_passive(verify_passive(name), now);
        // Remotes of different kinds may take turns; what the owner said counts for all.
        if self.default_probes && verify_or_passive(name) {
            let probes = needs_probes(name).then_some(crate::reconnect::PROBE_INTERVAL);
            self.reconnect.set_probe_interval(probes);
        }
    }

    /// The name of the remote in use.
    pub fn name(&self) -> &str {
        self.reconnect.name()
    }

    /// The remotes given at the start.
    pub fn remotes(&self) -> &[String] {
        &self.remotes
    }

    /// Takes other remotes without a look at the connection: they count from the next attempt on.
    pub fn replace_remotes(&mut self, remotes: Vec<String>) {
        let current = remotes.iter().position(|r| r == self.reconnect.name());
        self.next_remote = current.map_or(0, |at| (at + 1) % remotes.len());
        self.reconnect.set_backoff_free_tries(match remotes.len() {
            0 | 1 => 0,
            n => n as u32,
        });
        self.remotes = remotes;
    }

    /// Does what can be done now: sends, connects, probes, drops.
    pub fn run(&mut self, now: Instant) {
        self.run_listener(now);
        if let Some(connection) = &mut self.connection {
            let backlog = connection.backlog();
            connection.run();
            if connection.backlog() < backlog {
                // That the peer takes bytes is a sign of life.
                self.reconnect.activity(now);
            }
            if let Some(error) = connection.error() {
                self.reconnect.disconnected(now, Some(&error));
                self.disconnect(now, Some(&error));
            }
        } else if let Some(mut stream) = self.connecting.take() {
            stream.run();
            match stream.connect() {
                Ok(()) => {
                    self.reconnect.connected(now);
                    self.adopt(stream);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.connecting = Some(stream),
                Err(e) => {
                    self.last_error = Some(error_text(&e));
                    self.reconnect.connect_failed(now, Some(&e));
                    self.pick_remote(now);
                }
            }
        }
        match self.reconnect.run(now) {
            Some(Action::Connect) => self.connect(now),
            Some(Action::Disconnect) => {
                self.reconnect.disconnected(now, None);
                self.disconnect(now, None);
            }
            Some(Action::Probe) => {
                if let Some(connection) = &mut self.connection {
                    connection.send(&Msg::Request {
                        method: "echo".into(),
                        params: Vec::new(),
                        id: "echo".into(),
                    });
                }
            }
            None => {}
        }
    }

    fn run_listener(&mut self, now: Instant) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        match listener.accept() {
            Ok(None) => {}
            Ok(Some(stream)) => {
                if self.connection.is_some() {
                    let name = self.reconnect.name();
                    vlog::info_rl!(
                        RL,
                        modules::JSONRPC,
                        "{name}: new connection replacing active connection"
                    );
                    self.connection = None;
                    self.seqno += 1;
                }
                self.reconnect.connected(now);
                self.adopt(stream);
            }
            Err(e) => {
                self.reconnect.listen_error(now, Some(&e));
                self.listener = None;
            }
        }
    }

    fn adopt(&mut self, stream: Stream) {
        let mut connection = Connection::with_limits(stream, self.limits);
        connection.set_backlog_threshold(self.backlog.0, self.backlog.1);
        self.connection = Some(connection);
        self.seqno += 1;
    }

    fn connect(&mut self, now: Instant) {
        self.disconnect(now, None);
        let name = self.reconnect.name().to_string();
        if self.reconnect.is_passive() {
            match PStream::open_with(&name, Some(crate::OVSDB_PORT), Some(self.dscp)) {
                Ok(listener) => {
                    self.reconnect.listening(now);
                    self.listener = Some(listener);
                }
                Err(e) => {
                    self.last_error = Some(error_text(&e));
                    self.reconnect.connect_failed(now, Some(&e));
                }
            }
        } else {
            let opened = Stream::open_with(&name, Some(crate::OVSDB_PORT), Some(self.dscp));
            self.reconnect.connecting(now);
            match opened {
                Ok(stream) => self.connecting = Some(stream),
                Err(e) => {
                    self.last_error = Some(error_text(&e));
                    self.reconnect.connect_failed(now, Some(&e));
                    self.pick_remote(now);
                }
            }
        }
        self.seqno += 1;
    }

    fn disconnect(&mut self, now: Instant, error: Option<&io::Error>) {
        let had = self.connection.take().is_some() | self.connecting.take().is_some();
        if let Some(error) = error {
            self.last_error = Some(error_text(error));
        }
        if had {
            self.seqno += 1;
            self.pick_remote(now);
        }
        self.listener = None;
    }

    /// Wakes when [`Session::run`] has something to do.
    pub fn wait(&self, poller: &mut Poller) {
        if let Some(connection) = &self.connection {
            connection.wait(poller);
        } else if let Some(stream) = &self.connecting {
            stream.run_wait(poller);
            stream.connect_wait(poller);
        }
        if let Some(listener) = &self.listener {
            listener.wait(poller);
        }
        if let Some(deadline) = self.reconnect.deadline() {
            poller.wait_until(deadline);
        }
    }

    /// Queues a message; it is lost if there is no connection.
    pub fn send(&mut self, msg: &Msg) -> bool {
        match &mut self.connection {
            Some(connection) => {
                connection.send(msg);
                connection.error().is_none()
            }
            None => false,
        }
    }

    /// Queues messages that are text already.
    pub fn send_texts(&mut self, texts: impl IntoIterator<Item = Text>) {
        if let Some(connection) = &mut self.connection {
            connection.send_texts(texts);
        }
    }

    /// Takes the next message that is not about keeping the session alive.
    pub fn recv(&mut self, now: Instant) -> Option<Msg> {
        match self.next(now, Connection::recv_whole)? {
            Incoming::Msg(msg) => Some(msg),
            _ => None,
        }
    }

    /// Like [`Session::recv`], but the result of a large reply stays text.
    pub fn recv_result(&mut self, now: Instant) -> Option<Incoming> {
        self.next(now, Connection::recv_result)
    }

    /// Like [`Session::recv`], but the parameters of a large request stay text.
    pub fn recv_incoming(&mut self, now: Instant) -> Option<Incoming> {
        self.next(now, Connection::recv_incoming)
    }

    fn next(
        &mut self,
        now: Instant,
        recv: impl Fn(&mut Connection) -> io::Result<Option<Incoming>>,
    ) -> Option<Incoming> {
        loop {
            let connection = self.connection.as_mut()?;
            let buffered = connection.buffered();
            let received = recv(connection);
            self.reconnect.receive_attempted(now);
            if !matches!(received, Ok(None)) || connection.buffered() != buffered {
                self.reconnect.activity(now);
            }
            match received {
                Ok(Some(Incoming::Msg(Msg::Request { method, params, id })))
                    if method == "echo" =>
                {
                    connection.send(&Msg::reply(Value::Array(params), id));
                    if connection.backlog() > 0 {
                        // A peer that does not read its replies gets no more of them.
                        return None;
                    }
                }
                Ok(Some(Incoming::Msg(Msg::Reply {
                    id: Value::String(id),
                    ..
                }))) if id == "echo" => {}
                Ok(Some(incoming)) => return Some(incoming),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Wakes when [`Session::recv`] has something to say.
    pub fn recv_wait(&self, poller: &mut Poller) {
        if let Some(connection) = &self.connection {
            connection.recv_wait(poller);
        }
    }

    /// Gives up keeping the session up; what is left is the connection, if there is one.
    pub fn into_connection(self) -> Option<Connection> {
        self.connection
    }

    /// False once nothing will ever be connected again.
    pub fn is_alive(&self) -> bool {
        self.connection.is_some()
            || self.connecting.is_some()
            || self.listener.is_some()
            || self.reconnect.is_enabled()
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Changes whenever a connection begins or ends.
    pub fn seqno(&self) -> u64 {
        self.seqno
    }

    /// The last error that ended a connection or an attempt at one; none while one stands.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error
            .as_deref()
            .filter(|_| self.connection.is_none())
    }

    pub fn stats(&self, now: Instant) -> Stats {
        self.reconnect.stats(now)
    }

    /// Drops the connection and makes a new one (an accepted session just ends).
    pub fn force_reconnect(&mut self, now: Instant) {
        self.reconnect.force_reconnect(now);
    }

    /// After a deliberate reconnect: reconnects at once instead of after the backoff.
    pub fn skip_backoff(&mut self) {
        self.reconnect.skip_backoff();
    }

    /// What a message may take on connections that are made from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes that were received but not yet handed out as messages.
    pub fn buffered(&self) -> usize {
        self.connection.as_ref().map_or(0, Connection::buffered)
    }

    pub fn set_max_backoff(&mut self, max: Duration) {
        self.reconnect
            .set_backoff(crate::reconnect::MIN_BACKOFF, max);
    }

    /// `None` turns probing off.
    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.default_probes = false;
        self.reconnect.set_probe_interval(interval);
    }

    /// Applies to the connections that are made from now on; a change reconnects.
    pub fn set_dscp(&mut self, dscp: u8, now: Instant) {
        if self.dscp != dscp {
            self.dscp = dscp;
            self.force_reconnect(now);
        }
    }

    pub fn set_backlog_threshold(&mut self, max_messages: usize, max_bytes: usize) {
        self.backlog = (max_messages, max_bytes);
        if let Some(connection) = &mut self.connection {
            connection.set_backlog_threshold(max_messages, max_bytes);
        }
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.connection.as_ref().map_or(0, Connection::backlog)
    }

    /// The stream in use, for addresses.
    pub fn stream(&self) -> Option<&Stream> {
        self.connection.as_ref().map(Connection::stream)
    }
}

fn verify_or_passive(name: &str) -> bool {
    stream::verify_active(name) || verify_passive(name)
}
