//! Listeners and connections, and the sessions of the clients behind them.
//!
//! A remote is a listener (`punix:`, `ptcp:`, `pssl:`) with any number of clients, or one
//! connection that is kept up (`unix:`, `tcp:`, `ssl:`). Requests of a client are read only while
//! it takes its replies, so a client that never reads costs one reply and what `Monitors` keeps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrovs_ovsdb::monitor::SessionId;
use ferrovs_ovsdb::server::{self, Access, Now, Server};
use ferrovs_ovsdb::{Atom, Datum, Uuid};
use ferrovs_runtime::vlog::modules::{JSONRPC, OVSDB_JSONRPC_SERVER};
use ferrovs_runtime::{Poller, clock, vlog};
use ferrovs_stream::jsonrpc::{Connection, Incoming, Limits, Msg, Session, Text};
use ferrovs_stream::{PStream, error_text};
use hashbrown::HashMap;

use crate::app::now;
use crate::db_config::Options;

/// Requests of one client in one turn of the loop.
const REQUESTS_PER_TURN: usize = 50;
/// Bytes of replies to one client that may wait for the end of the turn.
const MAX_PENDING: usize = 1 << 16;
/// Accepted connections of one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How often status columns are brought up to date.
const STATUS_INTERVAL: Duration = Duration::from_millis(2500);
/// How long to wait before a listener that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

struct Client {
    id: SessionId,
    session: Session,
    seqno: u64,
}

struct Remote {
    options: Options,
    listener: Option<PStream>,
    clients: Vec<Client>,
    /// A listener that could not be opened.
    failed: bool,
}

#[derive(Default)]
pub struct Remotes {
    remotes: BTreeMap<String, Remote>,
    /// Which remote and which position each session has.
    places: HashMap<SessionId, String>,
    next_status: Option<Instant>,
    retry_at: Option<Instant>,
}

impl Remotes {
    /// True if a listener failed and should be tried again.
    pub fn retry_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|t| t <= now)
    }

    /// Opens, changes and closes remotes until they are the wanted ones.
    pub fn configure(
        &mut self,
        server: &mut Server,
        wanted: BTreeMap<String, Options>,
        now: Instant,
    ) {
        let gone: Vec<String> = self
            .remotes
            .keys()
            .filter(|n| !wanted.contains_key(*n))
            .cloned()
            .collect();
        for name in gone {
            if let Some(r) = self.remotes.remove(&name) {
                vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: remote deconfigured");
                for c in r.clients {
                    self.places.remove(&c.id);
                    server.remove_session(c.id);
                }
            }
        }
        let retry = self.retry_due(now);
        if retry {
            self.retry_at = None;
        }
        for (name, options) in wanted {
            match self.remotes.get_mut(&name) {
                Some(r) => {
                    if r.options != options {
                        r.options = options;
                        for c in &mut r.clients {
                            apply(&r.options, &mut c.session, now);
                            server.set_access(c.id, access(&r.options, &c.session));
                        }
                    }
                    if r.failed && retry {
                        let options = r.options.clone();
                        if let Some(new) = self.open(server, &name, options, now) {
                            self.remotes.insert(name, new);
                        }
                    }
                }
                None => {
                    if let Some(r) = self.open(server, &name, options, now) {
                        self.remotes.insert(name, r);
                    }
                }
            }
        }
    }

    fn open(
        &mut self,
        server: &mut Server,
        name: &str,
        options: Options,
        now: Instant,
    ) -> Option<Remote> {
        let dscp = options.dscp.or(Some(ferrovs_stream::DSCP_DEFAULT));
        let mut remote = Remote {
            options,
            listener: None,
            clients: Vec::new(),
            failed: false,
        };
        let no_class = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
        match PStream::open_with(name, Some(ferrovs_stream::OVSDB_PORT), dscp) {
            Ok(listener) => remote.listener = Some(listener),
            // A host name that is being looked up.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                remote.failed = true;
                self.retry_at.get_or_insert(now + RETRY);
            }
            Err(e) if e.raw_os_error() != Some(no_class) => {
                let text = error_text(&e);
                vlog::err!(OVSDB_JSONRPC_SERVER, "{name}: listen failed: {text}");
                remote.failed = true;
                self.retry_at.get_or_insert(now + RETRY);
            }
            Err(_) => {
                // No listener: a connection to be made.
                let mut session = Session::open(name, true, now);
                session.set_limits(Limits::SERVER);
                self.adopt(server, &mut remote, name, session, now);
            }
        }
        Some(remote)
    }

    fn adopt(
        &mut self,
        server: &mut Server,
        remote: &mut Remote,
        name: &str,
        mut session: Session,
        now: Instant,
    ) {
        apply(&remote.options, &mut session, now);
        let id = server.add_session(access(&remote.options, &session));
        self.places.insert(id, name.to_owned());
        let seqno = session.seqno();
        remote.clients.push(Client { id, session, seqno });
    }

    /// Accepts, reads requests, has them handled.
    pub fn run(&mut self, server: &mut Server) {
        let now = now();
        let names: Vec<String> = self.remotes.keys().cloned().collect();
        for name in names {
            let Some(mut remote) = self.remotes.remove(&name) else {
                continue;
            };
            self.accept(server, &name, &mut remote, now.instant);
            remote.clients.retain_mut(|c| {
                let alive = c.run(server, &remote.options, now);
                if !alive {
                    self.places.remove(&c.id);
                    server.remove_session(c.id);
                }
                alive
            });
            self.remotes.insert(name, remote);
        }
        let doomed = server.take_doomed();
        if !doomed.is_empty() {
            // Who is dropped gets the answers that are ready.
            self.deliver(server);
        }
        for (id, why) in doomed {
            self.drop_session(server, id, &why, now.instant);
        }
    }

    fn accept(&mut self, server: &mut Server, name: &str, remote: &mut Remote, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &mut remote.listener else {
                return;
            };
            match listener.accept() {
                Ok(Some(stream)) => {
                    let connection = Connection::with_limits(stream, Limits::SERVER);
                    let session = Session::unreliable(connection, now);
                    self.adopt(server, remote, name, session, now);
                }
                Ok(None) => return,
                Err(e) => {
                    let (name, text) = (listener.name(), error_text(&e));
                    vlog::warn!(OVSDB_JSONRPC_SERVER, "{name}: accept failed: {text}");
                    return;
                }
            }
        }
    }

    fn client(&mut self, id: SessionId) -> Option<&mut Client> {
        let remote = self.remotes.get_mut(self.places.get(&id)?)?;
        remote.clients.iter_mut().find(|c| c.id == id)
    }

    fn drop_session(&mut self, server: &mut Server, id: SessionId, why: &str, now: Instant) {
        if let Some(c) = self.client(id) {
            let name = c.session.name().to_owned();
            vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: disconnecting ({why})");
            c.session.force_reconnect(now);
            c.session.run(now);
        }
        server.reset_session(id);
    }

    /// Drops every connection, so that clients connect anew.
    pub fn reconnect(&mut self, why: &str, now: Instant) {
        for r in self.remotes.values_mut() {
            for c in &mut r.clients {
                if c.session.is_connected() {
                    let name = c.session.name();
                    vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: disconnecting ({why})");
                }
                c.session.force_reconnect(now);
            }
        }
    }

    /// Composes updates for clients that keep up, and hands all output to the connections.
    pub fn deliver(&mut self, server: &mut Server) {
        if server.has_news() {
            let mut ready = std::collections::BTreeSet::new();
            for r in self.remotes.values() {
                ready.extend(
                    r.clients
                        .iter()
                        .filter(|c| c.session.backlog() == 0)
                        .map(|c| c.id),
                );
            }
            server.flush(|id| ready.contains(&id));
        }
        server.output(|id, texts| {
            if let Some(c) = self.client(id) {
                c.session.send_texts(texts.into_iter().map(|t| match t {
                    server::Text::Shared(t) => Text::Shared(t),
                    server::Text::Own(t) => Text::Own(t),
                }));
            }
        });
    }

    pub fn wait(&self, poller: &mut Poller) {
        for r in self.remotes.values() {
            if let Some(l) = &r.listener {
                l.wait(poller);
            }
            for c in &r.clients {
                c.session.wait(poller);
                if c.session.backlog() == 0 {
                    c.session.recv_wait(poller);
                }
            }
        }
        for t in [self.retry_at, self.next_status].into_iter().flatten() {
            poller.wait_until(t);
        }
    }

    pub fn backlog(&self) -> usize {
        self.remotes
            .values()
            .flat_map(|r| &r.clients)
            .map(|c| c.session.backlog())
            .sum()
    }

    /// Writes the status of remotes that rows describe back to those rows.
    pub fn update_status(&mut self, server: &mut Server, now: Now) {
        if self.next_status.is_some_and(|t| t > now.instant) {
            return;
        }
        if !self.remotes.values().any(|r| r.options.row.is_some()) {
            self.next_status = None;
            return;
        }
        self.next_status = Some(now.instant + STATUS_INTERVAL);
        for r in self.remotes.values() {
            let Some((db, table, row)) = &r.options.row else {
                continue;
            };
            write_status(server, r, db, table, *row, now);
        }
    }
}

fn write_status(server: &mut Server, r: &Remote, db: &str, table: &str, row: Uuid, now: Now) {
    let connected = r
        .clients
        .iter()
        .filter(|c| c.session.is_connected())
        .count();
    let mut status: Vec<(Atom, Atom)> = Vec::new();
    let mut put = |k: &str, v: String| status.push((k.into(), v.into()));
    if let Some(port) = r.listener.as_ref().and_then(PStream::bound_port) {
        put("bound_port", port.to_string());
    }
    if r.listener.is_some() {
        // What Open vSwitch says of a listener, whoever is connected.
        put("sec_since_connect", "0".into());
        put("sec_since_disconnect", "0".into());
        if connected > 1 {
            put("n_connections", connected.to_string());
        }
    } else if let Some(c) = r.clients.first() {
        let stats = c.session.stats(now.instant);
        put("state", stats.state.to_owned());
        let ago = |t: Instant| {
            now.instant
                .saturating_duration_since(t)
                .as_secs()
                .to_string()
        };
        stats
            .last_connected
            .into_iter()
            .for_each(|t| put("sec_since_connect", ago(t)));
        stats
            .last_disconnected
            .into_iter()
            .for_each(|t| put("sec_since_disconnect", ago(t)));
        // The error that ended a connection, not that of an attempt to make one.
        let ended = stats.last_connected.is_some() && !c.session.is_connected();
        if let Some(e) = c.session.last_error().filter(|_| ended) {
            put("last_error", e.to_owned());
        }
        let (held, waiting) = server.locks_of(c.id);
        if !held.is_empty() {
            put("locks_held", held.join(" "));
        }
        if !waiting.is_empty() {
            put("locks_waiting", waiting.join(" "));
        }
    }
    let values = [
        ("is_connected", Datum::from(connected > 0)),
        ("status", Datum::from_pairs(status)),
    ];
    if let Err(e) = server.set_columns(db, table, row, &values, now) {
        vlog::warn!(OVSDB_JSONRPC_SERVER, "Failed to update remote status: {e}");
    }
}

/// What the clients of a remote may do.
fn access(options: &Options, session: &Session) -> Access {
    Access {
        read_only: options.read_only,
        role: options.role.clone(),
        client: session.stream().and_then(ferrovs_stream::Stream::peer_name),
    }
}

fn apply(options: &Options, session: &mut Session, now: Instant) {
    if let Some(d) = options.max_backoff {
        session.set_max_backoff(d.max(Duration::from_secs(1)));
    }
    if let Some(p) = options.probe_interval {
        session.set_probe_interval((!p.is_zero()).then_some(p));
    }
    if let Some(d) = options.dscp {
        session.set_dscp(d, now);
    }
}

impl Client {
    /// False once the session is over.
    fn run(&mut self, server: &mut Server, options: &Options, now: Now) -> bool {
        self.session.run(now.instant);
        if self.session.seqno() != self.seqno {
            self.seqno = self.session.seqno();
            server.reset_session(self.id);
        }
        for _ in 0..REQUESTS_PER_TURN {
            if self.session.backlog() > 0 || server.pending(self.id) > MAX_PENDING {
                break;
            }
            let Some(incoming) = self.session.recv_incoming(now.instant) else {
                break;
            };
            if !options.role.is_empty() {
                // The certificate is known once the handshake is over.
                server.set_access(self.id, access(options, &self.session));
            }
            let msg = match incoming {
                Incoming::Msg(msg) => msg,
                Incoming::Large { params, id, .. } => {
                    server.transact_text(self.id, params, id, now);
                    continue;
                }
            };
            match msg {
                Msg::Request { method, params, id } => {
                    server.request(self.id, &method, params, id, now);
                }
                Msg::Notify { method, params } => server.notification(self.id, &method, &params),
                Msg::Reply { .. } | Msg::Error { .. } => {
                    let kind = if matches!(msg, Msg::Reply { .. }) {
                        "reply"
                    } else {
                        "error"
                    };
                    let name = self.session.name().to_owned();
                    vlog::warn!(JSONRPC, "{name}: received unexpected {kind} message");
                    self.session.force_reconnect(clock::now());
                    break;
                }
            }
        }
        self.session.is_alive()
    }
}
