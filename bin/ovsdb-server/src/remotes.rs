//! Listeners and connections, and the sessions of the clients behind them.
//!
//! A remote is a listener (`punix:`, `ptcp:`, `pssl:`) with any number of clients, or one
//! connection that is kept up (`unix:`, `tcp:`, `ssl:`). Requests of a client are read only while
//! it takes its replies, so a client that never reads costs one reply and what `Monitors` keeps.
//!
//! A turn costs what the clients do that have something to do, not what there are clients ([`Watch`]).
//! Updates go to many clients for one transaction, so they are paced: a round of them that took long
//! is followed by a pause in which transactions run and their updates become one. A transaction's
//! own client never waits for that: its updates and its reply go at the end of the turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_ovsdb::monitor::SessionId;
use ferrovs_ovsdb::server::{self, Access, Now, Server};
use ferrovs_ovsdb::{Atom, Datum, Uuid};
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::OVSDB_JSONRPC_SERVER;
use ferrovs_runtime::{Poller, clock, vlog};
use ferrovs_stream::jsonrpc::{Connection, Incoming, Limits, Msg, Session, Text};
use ferrovs_stream::{PStream, error_text, needs_probes, reconnect};
use hashbrown::HashMap;

use crate::db_config::Options;
use crate::now::now;
use crate::watch::Watch;

/// Requests of one client in one turn of the loop.
const REQUESTS_PER_TURN: usize = 50;
/// Bytes of replies to one client that may wait for the end of the turn.
const MAX_PENDING: usize = 1 << 16;
/// Bytes of requests that are not complete, of all clients together; more, and the client that
/// holds the most is dropped.
const MAX_HELD: usize = 128 << 20;
/// Bytes that are held for all clients together: incomplete requests, what they have not read, and
/// their locks, monitors and waiting transactions; more, and the client with the most is dropped.
const MAX_TOTAL: usize = 2 << 30;
/// Accepted connections of one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How often status columns are brought up to date.
const STATUS_INTERVAL: Duration = Duration::from_millis(2500);
/// How long to wait before a listener that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// After a round of updates, so many times its duration goes to other work.
const PAUSE_FACTOR: u32 = 15;
/// A pause shorter than that is none: nobody waits for a few clients' updates.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// No pause is longer.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// Stands for the listeners; sessions count from 1.
const LISTENERS: SessionId = 0;

/// Connections that cannot be accepted.
static ACCEPT_LIMIT: RateLimit = RateLimit::new(5, 1);

struct Client {
    session: Session,
    seqno: u64,
    remote: Arc<str>,
    /// Bytes of requests that are not complete.
    held: usize,
    /// Bytes that are held for it, whatever for.
    total: usize,
}

struct Remote {
    options: Options,
    listener: Option<PStream>,
    clients: BTreeSet<SessionId>,
    /// A listener that could not be opened.
    failed: bool,
}

pub struct Remotes {
    remotes: BTreeMap<Arc<str>, Remote>,
    clients: HashMap<SessionId, Client>,
    watch: Watch,
    /// Clients that may wait for something else than before.
    touched: Vec<SessionId>,
    /// Bytes of requests that are not complete.
    held: usize,
    /// Bytes that are held for all clients.
    total: usize,
    /// Updates pause until then.
    pause: Option<Instant>,
    next_status: Option<Instant>,
    retry_at: Option<Instant>,
}

impl Default for Remotes {
    fn default() -> Self {
        Self {
            remotes: BTreeMap::new(),
            clients: HashMap::new(),
            watch: Watch::new(),
            touched: Vec::new(),
            held: 0,
            total: 0,
            pause: None,
            next_status: None,
            retry_at: None,
        }
    }
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
        let gone: Vec<Arc<str>> = self
            .remotes
            .keys()
            .filter(|n| !wanted.contains_key(&***n))
            .cloned()
            .collect();
        for name in gone {
            if let Some(r) = self.remotes.remove(&name) {
                vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: remote deconfigured");
                for id in r.clients {
                    self.remove(server, id);
                }
            }
        }
        let retry = self.retry_due(now);
        if retry {
            self.retry_at = None;
        }
        for (name, options) in wanted {
            let name: Arc<str> = name.into();
            match self.remotes.get_mut(&name) {
                Some(r) => {
                    if r.options != options {
                        r.options = options;
                        for id in &r.clients {
                            if let Some(c) = self.clients.get_mut(id) {
                                apply(&name, &r.options, &mut c.session, now);
                                server.set_access(*id, access(&r.options, &c.session));
                                self.touched.push(*id);
                                self.watch.run_again(*id);
                            }
                        }
                    }
                    if r.failed && retry {
                        let options = r.options.clone();
                        self.open(server, &name, options, now);
                    }
                }
                None => self.open(server, &name, options, now),
            }
        }
        // Closed listeners went with their descriptors, and numbers may have come back.
        self.watch.forget(LISTENERS);
        self.watch_listeners();
        self.watch.run_again(LISTENERS);
    }

    fn watch_listeners(&mut self) {
        let listeners = self.remotes.values().filter_map(|r| r.listener.as_ref());
        self.watch.update(LISTENERS, 0, |poller| {
            listeners.for_each(|l| l.wait(poller));
        });
    }

    fn open(&mut self, server: &mut Server, name: &Arc<str>, options: Options, now: Instant) {
        let dscp = options.dscp.or(Some(ferrovs_stream::DSCP_DEFAULT));
        let mut remote = Remote {
            options,
            listener: None,
            clients: BTreeSet::new(),
            failed: false,
        };
        let no_class = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
        match PStream::open_with(name, Some(ferrovs_stream::OVSDB_PORT), dscp) {
            Ok(listener) => remote.listener = Some(listener),
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
        self.remotes.insert(Arc::clone(name), remote);
    }

    fn adopt(
        &mut self,
        server: &mut Server,
        remote: &mut Remote,
        name: &Arc<str>,
        mut session: Session,
        now: Instant,
    ) {
        apply(name, &remote.options, &mut session, now);
        let id = server.add_session(access(&remote.options, &session));
        remote.clients.insert(id);
        self.clients.insert(
            id,
            Client {
                seqno: session.seqno(),
                session,
                remote: Arc::clone(name),
                held: 0,
                total: 0,
            },
        );
        // It may have sent something already.
        self.watch.run_again(id);
    }

    fn remove(&mut self, server: &mut Server, id: SessionId) {
        if let Some(c) = self.clients.remove(&id) {
            self.held -= c.held;
            self.total -= c.total;
            if let Some(r) = self.remotes.get_mut(&c.remote) {
                r.clients.remove(&id);
            }
        }
        self.watch.forget(id);
        server.remove_session(id);
    }

    /// Accepts, reads requests, has them handled.
    pub fn run(&mut self, server: &mut Server) {
        let now = now();
        for id in self.watch.ready(now.instant) {
            if id == LISTENERS {
                self.accept(server, now.instant);
            } else {
                self.run_client(server, id, now);
            }
        }
        // New clients get their turn at once.
        for id in self.watch.newcomers() {
            self.run_client(server, id, now);
        }
        let (too_much, size): (_, fn(&Client) -> usize) = if self.held > MAX_HELD {
            ("incomplete requests take too much memory", |c| c.held)
        } else {
            ("what is held for clients takes too much memory", |c| {
                c.total
            })
        };
        if self.held > MAX_HELD || self.total > MAX_TOTAL {
            let most = self.clients.iter().max_by_key(|(_, c)| size(c));
            if let Some(id) = most.map(|(id, _)| *id) {
                self.drop_session(server, id, too_much, now.instant);
            }
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

    fn run_client(&mut self, server: &mut Server, id: SessionId, now: Now) {
        let Some(c) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(remote) = self.remotes.get(&c.remote) else {
            return;
        };
        let alive = c.run(server, id, &remote.options, now);
        let held = c.session.buffered();
        self.held = self.held - c.held + held;
        c.held = held;
        if alive {
            self.touched.push(id);
        } else {
            self.remove(server, id);
        }
    }

    fn accept(&mut self, server: &mut Server, now: Instant) {
        let names: Vec<Arc<str>> = self.remotes.keys().cloned().collect();
        for name in names {
            let Some(mut remote) = self.remotes.remove(&name) else {
                continue;
            };
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(listener) = &mut remote.listener else {
                    break;
                };
                match listener.accept() {
                    Ok(Some(stream)) => {
                        let connection = Connection::with_limits(stream, Limits::SERVER);
                        let session = Session::unreliable(connection, now);
                        self.adopt(server, &mut remote, &name, session, now);
                    }
                    Ok(None) => break,
                    Err(e) => {
                        let (name, text) = (listener.name(), error_text(&e));
                        vlog::warn_rl!(
                            ACCEPT_LIMIT,
                            OVSDB_JSONRPC_SERVER,
                            "{name}: accept failed: {text}"
                        );
                        break;
                    }
                }
            }
            self.remotes.insert(name, remote);
        }
        // Some may rest for a while, or have rested.
        self.watch_listeners();
    }

    fn drop_session(&mut self, server: &mut Server, id: SessionId, why: &str, now: Instant) {
        if let Some(c) = self.clients.get_mut(&id) {
            if c.session.is_connected() {
                let name = c.session.name();
                vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: disconnecting ({why})");
            }
            c.session.force_reconnect(now);
            c.session.run(now);
            self.watch.run_again(id);
        }
        server.reset_session(id);
    }

    /// Drops every connection, so that clients connect anew.
    pub fn reconnect(&mut self, why: &str, now: Instant) {
        for (id, c) in &mut self.clients {
            if c.session.is_connected() {
                let name = c.session.name();
                vlog::info!(OVSDB_JSONRPC_SERVER, "{name}: disconnecting ({why})");
            }
            c.session.force_reconnect(now);
            self.watch.run_again(*id);
        }
    }

    /// Hands replies to the connections, and the updates that are due.
    pub fn deliver(&mut self, server: &mut Server) {
        self.send(server);
        if !server.has_news() {
            return;
        }
        let start = clock::now();
        if self.pause.is_some_and(|t| start < t) {
            return;
        }
        let clients = &self.clients;
        server.flush(|id| clients.get(&id).is_some_and(|c| c.session.backlog() == 0));
        self.send(server);
        let end = clock::now();
        let pause = (end.saturating_duration_since(start) * PAUSE_FACTOR).min(MAX_PAUSE);
        // A clock that stands still ends no pause.
        let sensible = pause >= MIN_PAUSE && !clock::is_stopped();
        self.pause = sensible.then(|| end + pause);
    }

    fn send(&mut self, server: &mut Server) {
        server.output(|id, texts| {
            if let Some(c) = self.clients.get_mut(&id) {
                c.session.send_texts(texts.into_iter().map(|t| match t {
                    server::Text::Shared(t) => Text::Shared(t),
                    server::Text::Own(t) => Text::Own(t),
                }));
                if c.session.backlog() > 0 {
                    self.touched.push(id);
                }
            }
        });
    }

    pub fn wait(&mut self, server: &Server, poller: &mut Poller) {
        for id in std::mem::take(&mut self.touched) {
            let Some(c) = self.clients.get_mut(&id) else {
                continue;
            };
            let total = c.held + c.session.backlog() + server.held(id);
            self.total = self.total - c.total + total;
            c.total = total;
            self.watch.update(id, c.session.seqno(), |poller| {
                c.session.wait(poller);
                if c.session.backlog() == 0 {
                    c.session.recv_wait(poller);
                }
            });
        }
        self.watch.wait(poller);
        if server.has_news()
            && let Some(t) = self.pause
        {
            poller.wait_until(t);
        }
        for t in [self.retry_at, self.next_status].into_iter().flatten() {
            poller.wait_until(t);
        }
    }

    pub fn backlog(&self) -> usize {
        self.clients.values().map(|c| c.session.backlog()).sum()
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
            let clients = r.clients.iter();
            let sessions: Vec<(SessionId, &Session)> = clients
                .filter_map(|id| Some((*id, &self.clients.get(id)?.session)))
                .collect();
            write_status(server, r, &sessions, db, table, *row, now);
        }
    }
}

fn write_status(
    server: &mut Server,
    r: &Remote,
    sessions: &[(SessionId, &Session)],
    db: &str,
    table: &str,
    row: Uuid,
    now: Now,
) {
    let connected = sessions.iter().filter(|(_, s)| s.is_connected()).count();
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
    } else if let Some((id, session)) = sessions.first() {
        let stats = session.stats(now.instant);
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
        let ended = stats.last_connected.is_some() && !session.is_connected();
        if let Some(e) = session.last_error().filter(|_| ended) {
            put("last_error", e.to_owned());
        }
        let (held, waiting) = server.locks_of(*id);
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

/// Gives a session the options of its remote, or the defaults for such a name.
fn apply(target: &str, options: &Options, session: &mut Session, now: Instant) {
    let backoff = options.max_backoff.unwrap_or(reconnect::MAX_BACKOFF);
    session.set_max_backoff(backoff.max(Duration::from_secs(1)));
    let default = needs_probes(target).then_some(reconnect::PROBE_INTERVAL);
    let probe = options.probe_interval.or(default);
    session.set_probe_interval(probe.filter(|p| !p.is_zero()));
    session.set_dscp(options.dscp.unwrap_or(ferrovs_stream::DSCP_DEFAULT), now);
}

impl Client {
    /// False once the session is over.
    fn run(&mut self, server: &mut Server, id: SessionId, options: &Options, now: Now) -> bool {
        let session = id;
        self.session.run(now.instant);
        if self.session.seqno() != self.seqno {
            self.seqno = self.session.seqno();
            server.reset_session(session);
        }
        for _ in 0..REQUESTS_PER_TURN {
            if self.session.backlog() > 0 || server.pending(session) > MAX_PENDING {
                break;
            }
            let Some(incoming) = self.session.recv_incoming(now.instant) else {
                break;
            };
            if !options.role.is_empty() {
                // The certificate is known once the handshake is over.
                server.set_access(session, access(options, &self.session));
            }
            let msg = match incoming {
                Incoming::Msg(msg) => msg,
                Incoming::Large { params, id, .. } => {
                    server.transact_text(session, params, id, now);
                    continue;
                }
                // Nobody asked for it.
                Incoming::LargeReply { .. } => continue,
            };
            match msg {
                Msg::Request { method, params, id } => {
                    server.request(session, &method, params, id, now);
                }
                Msg::Notify { method, params } => server.notification(session, &method, &params),
                Msg::Reply { .. } | Msg::Error { .. } => {
                    let kind = if matches!(msg, Msg::Reply { .. }) {
                        "reply"
                    } else {
                        "error"
                    };
                    let name = self.session.name().to_owned();
                    vlog::warn!(
                        OVSDB_JSONRPC_SERVER,
                        "{name}: received unexpected {kind} message"
                    );
                    self.session.force_reconnect(clock::now());
                    break;
                }
            }
        }
        self.session.is_alive()
    }
}
