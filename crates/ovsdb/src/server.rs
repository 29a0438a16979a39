//! The OVSDB server without its sockets: sessions, databases, locks, waiting transactions,
//! monitors, and the `_Server` database that describes the others.
//!
//! The program feeds requests in (`request`) and takes texts for each session out (`output`); the
//! time comes with each call. After a round of requests it calls `flush`, which composes the
//! updates of all clients that keep up with reading.

mod convert;
mod db;
pub mod locks;
mod methods;
mod mirror;
mod server_db;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use serde_json::Value;

use crate::monitor::SessionId;
use crate::{Error, Uuid};

pub use convert::convert;
pub use db::{Backing, Compaction, Db};
pub use mirror::Forwarded;
pub use server_db::SERVER_DB;
pub use session::{Access, Session, Text};

/// The time of a call: for timeouts and for dates in the log.
#[derive(Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub wall_ms: i64,
}

/// A result of more bytes than that is not copied to be sent.
const MAX_COPIED: usize = 4096;

fn unknown_database(params: &Value, method: &str, name: &str) -> Error {
    Error::about(
        params,
        crate::error::tag::UNKNOWN_DATABASE,
        format!("{method} request specifies unknown database {name}"),
    )
}

pub struct Server {
    pub(crate) dbs: BTreeMap<String, Db>,
    pub(crate) sessions: HashMap<SessionId, Session>,
    next_session: SessionId,
    /// Number of the last request that was passed on.
    next_forward: u64,
    pub(crate) locks: locks::Locks,
    id: Uuid,
    /// Something in `_Server` may be out of date.
    stale: bool,
    /// Commits of databases that were removed.
    removed_commits: u64,
    /// Write changed columns as differences.
    pub column_diff: bool,
    /// Conditional monitoring is refused, as servers that do not know it would.
    pub monitor_cond_disabled: bool,
    /// Sessions that must be closed, and why.
    doomed: Vec<(SessionId, String)>,
    /// Sessions that have output.
    busy: Vec<SessionId>,
}

impl Server {
    pub fn new(now: Now) -> Self {
        let mut s = Self {
            dbs: BTreeMap::new(),
            sessions: HashMap::new(),
            next_session: 1,
            next_forward: 0,
            locks: locks::Locks::default(),
            id: crate::uuid::random(),
            stale: true,
            removed_commits: 0,
            column_diff: true,
            monitor_cond_disabled: false,
            doomed: Vec::new(),
            busy: Vec::new(),
        };
        s.dbs.insert(
            SERVER_DB.to_owned(),
            Db::new(server_db::database(), Backing::Memory),
        );
        s.run(now);
        s
    }

    pub fn db(&self, name: &str) -> Option<&Db> {
        self.dbs.get(name)
    }

    pub fn db_mut(&mut self, name: &str) -> Option<&mut Db> {
        self.dbs.get_mut(name)
    }

    pub fn dbs(&self) -> impl Iterator<Item = &Db> {
        self.dbs.values()
    }

    /// Adds a database; false if one with its name is there.
    pub fn add_db(&mut self, db: Db) -> bool {
        let name = db.name().to_owned();
        if self.dbs.contains_key(&name) {
            return false;
        }
        self.dbs.insert(name, db);
        self.stale = true;
        true
    }

    /// Removes a database: its monitors end, its waiting transactions are canceled.
    pub fn remove_db(&mut self, name: &str) -> bool {
        if name == SERVER_DB || !self.dbs.contains_key(name) {
            return false;
        }
        self.cancel_clients(name);
        if let Some(db) = self.dbs.remove(name) {
            self.removed_commits += db.n_commits + 1;
            self.reply_all_canceled(db.triggers);
        }
        self.stale = true;
        true
    }

    fn reply_all_canceled(&mut self, waiting: Vec<db::Trigger>) {
        for t in waiting {
            self.reply_canceled(t.session, &t.id);
        }
    }

    /// Has every client that does not know that databases come and go connect anew.
    pub fn disconnect_unaware(&mut self, why: &str) {
        let unaware: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.change_aware)
            .map(|(id, _)| *id)
            .collect();
        for id in unaware {
            self.doom(id, why);
        }
    }

    /// Ends the monitors and cancels the waiting transactions of a database whose schema goes away,
    /// and tells the clients that asked to be told. The others are to be disconnected, see
    /// `disconnect_unaware`.
    pub(crate) fn cancel_clients(&mut self, name: &str) {
        let Some(db) = self.dbs.get_mut(name) else {
            return;
        };
        // The source answers what was passed on to it.
        let (passed_on, waiting) = std::mem::take(&mut db.triggers)
            .into_iter()
            .partition(|t| t.forward != db::Forward::No);
        db.triggers = passed_on;
        self.reply_all_canceled(waiting);
        let Some(db) = self.dbs.get_mut(name) else {
            return;
        };
        let all: Vec<(SessionId, Arc<str>)> = db
            .monitors
            .all()
            .map(|(s, id)| (s, Arc::clone(id)))
            .collect();
        for (session, id) in all {
            let aware = self.sessions.get(&session).is_some_and(|s| s.change_aware);
            if let Some(db) = self.dbs.get_mut(name) {
                db.monitors.remove(session, &id);
            }
            if aware {
                let text =
                    format!("{{\"id\":null,\"method\":\"monitor_canceled\",\"params\":[{id}]}}");
                self.send(session, Text::Own(text.into_bytes()));
            }
        }
    }

    /// Opens a session for a client.
    pub fn add_session(&mut self, access: Access) -> SessionId {
        let id = self.next_session;
        self.next_session += 1;
        self.sessions.insert(id, Session::new(access));
        id
    }

    /// Forgets everything about a client: its monitors, locks and waiting transactions.
    pub fn remove_session(&mut self, id: SessionId) {
        self.reset_session(id);
        self.sessions.remove(&id);
    }

    /// The same for a client that connected anew under the same session.
    pub fn reset_session(&mut self, id: SessionId) {
        for db in self.dbs.values_mut() {
            db.monitors.remove_session(id);
            db.triggers.retain(|t| t.session != id);
        }
        for name in self.locks.of(id) {
            if let Some(next) = self.locks.unlock(id, &name) {
                self.notify_lock(next, "locked", &name);
            }
        }
        if let Some(s) = self.sessions.get_mut(&id) {
            s.reset();
        }
    }

    /// Changes what a client may do.
    pub fn set_access(&mut self, id: SessionId, access: Access) {
        if let Some(s) = self.sessions.get_mut(&id) {
            s.access = access;
        }
    }

    /// The identity that clients get by `get_server_id`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    fn notify_lock(&mut self, session: SessionId, method: &str, name: &str) {
        let name = crate::json::to_string(&Value::from(name));
        let text = format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{name}]}}");
        self.send(session, Text::Own(text.into_bytes()));
    }

    fn doom(&mut self, session: SessionId, why: &str) {
        if !self.doomed.iter().any(|d| d.0 == session) {
            self.doomed.push((session, why.to_owned()));
        }
    }

    /// Sessions to disconnect.
    pub fn take_doomed(&mut self) -> Vec<(SessionId, String)> {
        std::mem::take(&mut self.doomed)
    }

    pub(crate) fn send(&mut self, session: SessionId, text: Text) {
        if let Some(s) = self.sessions.get_mut(&session) {
            s.send(session, text, &mut self.busy);
        }
    }

    pub(crate) fn reply(&mut self, session: SessionId, id: &Value, result: Vec<u8>) {
        let mut text = Vec::with_capacity(64 + result.len().min(MAX_COPIED));
        text.extend_from_slice(b"{\"id\":");
        crate::json::write(&mut text, id);
        text.extend_from_slice(b",\"result\":");
        let end = b",\"error\":null}";
        if result.len() <= MAX_COPIED {
            text.extend_from_slice(&result);
            text.extend_from_slice(end);
            self.send(session, Text::Own(text));
        } else {
            let mut result = result;
            result.extend_from_slice(end);
            self.send(session, Text::Own(text));
            self.send(session, Text::Own(result));
        }
    }

    /// An error, as Open vSwitch's server words it: without a `result` member.
    pub(crate) fn reply_error(&mut self, session: SessionId, id: &Value, error: &Value) {
        let mut text = b"{\"id\":".to_vec();
        crate::json::write(&mut text, id);
        text.extend_from_slice(b",\"error\":");
        crate::json::write(&mut text, error);
        text.push(b'}');
        self.send(session, Text::Own(text));
    }

    /// Bytes that wait in a session's output.
    pub fn pending(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, |s| s.pending)
    }

    /// What is to be sent, session by session, in order. The pieces are not each a message.
    pub fn output(&mut self, mut send: impl FnMut(SessionId, Vec<Text>)) {
        for id in std::mem::take(&mut self.busy) {
            if let Some(s) = self.sessions.get_mut(&id) {
                s.pending = 0;
                send(id, std::mem::take(&mut s.output));
            }
        }
    }

    /// Does what time or earlier changes make due.
    pub fn run(&mut self, now: Now) {
        if std::mem::take(&mut self.stale) {
            self.refresh_server_db(now);
        }
        let names: Vec<String> = self
            .dbs
            .iter()
            .filter(|(_, d)| d.triggers_due(now.instant))
            .map(|(n, _)| n.clone())
            .collect();
        for name in names {
            self.run_triggers(&name, now);
        }
    }

    /// When `run` has to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.dbs.values().filter_map(Db::deadline).min()
    }

    /// Databases whose logs should be compacted now.
    pub fn due_for_compaction(&mut self, now: Instant) -> Vec<String> {
        self.dbs
            .iter_mut()
            .filter_map(|(name, d)| d.wants_compaction(now).then(|| name.clone()))
            .collect()
    }

    /// Composes updates for the sessions that `ready` admits.
    pub fn flush(&mut self, mut ready: impl FnMut(SessionId) -> bool) {
        let mut hopeless = Vec::new();
        for db in self.dbs.values_mut() {
            let Db {
                database, monitors, ..
            } = db;
            let (sessions, busy) = (&mut self.sessions, &mut self.busy);
            monitors.flush(database, &mut ready, &mut |id, text| {
                if let Some(s) = sessions.get_mut(&id) {
                    s.send(id, Text::Shared(text), busy);
                }
            });
            hopeless.append(&mut monitors.take_hopeless());
        }
        for id in hopeless {
            self.doom(id, "too many updates wait to be read");
        }
    }

    /// Updates for one session, before a reply to it.
    pub(crate) fn flush_session(&mut self, db: &str, session: SessionId) {
        let Some(db) = self.dbs.get_mut(db) else {
            return;
        };
        let Db {
            database, monitors, ..
        } = db;
        let mut texts = Vec::new();
        monitors.flush(database, &mut |s| s == session, &mut |_, text| {
            texts.push(text)
        });
        for t in texts {
            self.send(session, Text::Shared(t));
        }
    }

    /// True if some update is still to be composed.
    pub fn has_news(&self) -> bool {
        self.dbs.values().any(|d| d.monitors.has_news())
    }

    /// Lines about changes of tables that are to be logged.
    pub fn take_log_lines(&mut self) -> Vec<String> {
        self.dbs
            .values_mut()
            .flat_map(|d| std::mem::take(&mut d.log_lines))
            .collect()
    }

    /// Counts commits to any database, so that others notice a change cheaply.
    pub fn commits(&self) -> u64 {
        self.dbs.values().map(|d| d.n_commits).sum::<u64>() + self.removed_commits
    }

    /// Locks that a session owns, and those that it waits for.
    pub fn locks_of(&self, session: SessionId) -> (Vec<&str>, Vec<&str>) {
        (self.locks.owned(session), self.locks.waiting(session))
    }

    /// Sets columns of a row on the server's own account. Columns that the table does not have
    /// and a row that is gone are no error; contents that are another server's stay as they are.
    pub fn set_columns(
        &mut self,
        db: &str,
        table: &str,
        row: Uuid,
        values: &[(&str, crate::Datum)],
        now: Now,
    ) -> Result<(), Error> {
        let diff = self.column_diff;
        let Some(db) = self.dbs.get_mut(db) else {
            return Ok(());
        };
        if db.read_only || db.is_relay() {
            return Ok(());
        }
        db.set_columns(table, row, values, now, diff)
    }

    pub fn n_sessions(&self) -> usize {
        self.sessions.len()
    }
}
