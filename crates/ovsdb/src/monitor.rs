//! Monitors: what a client wants to see of a database, and the updates that it gets.
//!
//! Clients with the same wishes (tables, columns, conditions, form of the update) share one
//! `Group`. The database keeps a short log of commits; each monitor has a position in it. An update
//! covers everything from a monitor's position to the end, is encoded once per group and span, and
//! goes to every client as the same shared text. A client that does not read keeps its position
//! until the log gets long; then its part is folded into a map of rows (first old, last new), so
//! what a slow client costs is bounded by the size of the database.

mod encode;
mod spec;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde_json::Value;

use crate::Uuid;
use crate::db::Database;
use crate::txn::Change;

pub use spec::{Select, Spec, TableSpec, Version};

/// Commits that the log may hold for slow clients before they are folded.
const MAX_LAG: usize = 256;
/// What a monitor takes beside its id and its conditions.
const MONITOR: usize = 2048;
/// Conditions take so many times their text.
const SPEC_FACTOR: usize = 4;
/// Changed rows that those commits may have together.
const MAX_LAG_ROWS: usize = 1 << 16;
/// Changed rows that may wait for one session, over all its monitors: some 60 MB. A client that
/// lets that much pile up is better off with a new copy.
const MAX_UNSEEN: usize = 200_000;

/// Names a session to the monitors.
pub type SessionId = u64;

/// Changes of several commits seen as one.
#[derive(Default)]
struct Folded {
    changes: Vec<Change>,
    by_row: HashMap<(usize, Uuid), usize, RandomState>,
}

impl Folded {
    fn add(&mut self, changes: &[Change]) {
        for c in changes {
            match self.by_row.entry((c.table, c.uuid)) {
                hashbrown::hash_map::Entry::Occupied(e) => {
                    self.changes[*e.get()].new.clone_from(&c.new);
                }
                hashbrown::hash_map::Entry::Vacant(e) => {
                    e.insert(self.changes.len());
                    self.changes.push(c.clone());
                }
            }
        }
    }
}

struct Monitor {
    session: SessionId,
    /// The id that the client gave, as JSON text.
    id: Arc<str>,
    group: usize,
    /// The first commit that the client has not seen.
    position: u64,
    /// Unseen changes from before `position`.
    folded: Folded,
}

struct Group {
    key: String,
    spec: Spec,
    members: usize,
    /// The last update. Most members want the same.
    last: Option<Update>,
    /// Somebody got the initial contents, and nothing of them has changed since.
    fresh: bool,
}

/// An update that was composed: for a span of commits and a monitor id, its text if there was
/// anything to say.
struct Update {
    from: u64,
    to: u64,
    id: Arc<str>,
    text: Option<Arc<str>>,
}

/// All monitors of one database.
#[derive(Default)]
pub struct Monitors {
    monitors: Vec<Monitor>,
    groups: Vec<Option<Group>>,
    log: VecDeque<Arc<[Change]>>,
    /// Number of the first commit in the log.
    base: u64,
    /// Changed rows in the log.
    n_rows: usize,
    /// Sessions that too much waits for.
    hopeless: Vec<SessionId>,
}

impl Monitors {
    fn head(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    pub fn len(&self) -> usize {
        self.monitors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.monitors.is_empty()
    }

    /// Distinct views: what is monitored, conditions and the form of the updates aside.
    pub fn n_views(&self) -> usize {
        let groups = self.groups.iter().flatten();
        groups.map(|g| g.spec.view()).collect::<HashSet<_>>().len()
    }

    /// Initial contents that are still those of now and that all clients of a group get alike, in the
    /// forms of the updates that came after the first. Open vSwitch keeps the text of each.
    pub fn n_fresh(&self) -> usize {
        self.groups.iter().flatten().filter(|g| g.fresh).count()
    }

    pub fn contains(&self, session: SessionId, id: &str) -> bool {
        self.find(session, id).is_some()
    }

    fn find(&self, session: SessionId, id: &str) -> Option<usize> {
        self.monitors
            .iter()
            .position(|m| m.session == session && *m.id == *id)
    }

    /// Bytes that the monitors of a session take, roughly.
    pub fn weight(&self, session: SessionId) -> usize {
        let own = self.monitors.iter().filter(|m| m.session == session);
        let group = |m: &Monitor| self.groups[m.group].as_ref().map_or(0, |g| g.key.len());
        own.map(|m| MONITOR + m.id.len() + SPEC_FACTOR * group(m))
            .sum()
    }

    /// Adds a monitor and returns its initial contents as `<table-updates>` text.
    pub fn add(&mut self, db: &Database, session: SessionId, id: Arc<str>, spec: Spec) -> String {
        let initial = encode::initial(db, &spec);
        let shared = spec.version != Version::V1 && spec.is_unconditional();
        let group = self.join(spec);
        if let Some(group) = &mut self.groups[group] {
            group.fresh |= shared;
        }
        let position = self.head();
        self.monitors.push(Monitor {
            session,
            id,
            group,
            position,
            folded: Folded::default(),
        });
        initial
    }

    fn join(&mut self, spec: Spec) -> usize {
        let key = spec.key();
        let same = |g: &Option<Group>| g.as_ref().is_some_and(|g| g.key == key);
        if let Some(i) = self.groups.iter().position(same) {
            if let Some(g) = &mut self.groups[i] {
                g.members += 1;
            }
            return i;
        }
        let group = Group {
            key,
            spec,
            members: 1,
            last: None,
            fresh: false,
        };
        match self.groups.iter().position(Option::is_none) {
            Some(i) => {
                self.groups[i] = Some(group);
                i
            }
            None => {
                self.groups.push(Some(group));
                self.groups.len() - 1
            }
        }
    }

    fn leave(&mut self, group: usize) {
        if let Some(g) = &mut self.groups[group] {
            g.members -= 1;
            if g.members == 0 {
                self.groups[group] = None;
            }
        }
    }

    /// Removes a monitor; false if there is none.
    pub fn remove(&mut self, session: SessionId, id: &str) -> bool {
        let Some(i) = self.find(session, id) else {
            return false;
        };
        let m = self.monitors.swap_remove(i);
        self.leave(m.group);
        self.trim();
        true
    }

    /// Removes everything that a session monitors.
    pub fn remove_session(&mut self, session: SessionId) {
        let gone: Vec<usize> = self
            .monitors
            .iter()
            .filter(|m| m.session == session)
            .map(|m| m.group)
            .collect();
        self.monitors.retain(|m| m.session != session);
        gone.into_iter().for_each(|g| self.leave(g));
        self.trim();
    }

    /// Sessions and ids of all monitors.
    pub fn all(&self) -> impl Iterator<Item = (SessionId, &Arc<str>)> {
        self.monitors.iter().map(|m| (m.session, &m.id))
    }

    /// The spec of a monitor.
    pub fn spec(&self, session: SessionId, id: &str) -> Option<&Spec> {
        let m = &self.monitors[self.find(session, id)?];
        self.groups[m.group].as_ref().map(|g| &g.spec)
    }

    /// Gives a monitor another spec (conditions) and id. Returns the update that takes the client
    /// from the old view to the new one. The caller has flushed the monitor before.
    pub fn change(
        &mut self,
        db: &Database,
        session: SessionId,
        id: &str,
        new_id: Arc<str>,
        spec: Spec,
    ) -> Option<Arc<str>> {
        let i = self.find(session, id)?;
        let old = self.groups[self.monitors[i].group].as_ref()?.spec.clone();
        let body = encode::condition_change(db, &old, &spec);
        let version = spec.version;
        self.leave(self.monitors[i].group);
        let group = self.join(spec);
        self.monitors[i].group = group;
        self.monitors[i].id = Arc::clone(&new_id);
        body.map(|b| notification(version, &new_id, &b))
    }

    /// Notes a commit.
    pub fn committed(&mut self, changes: &[Change]) {
        if self.monitors.is_empty() {
            self.base += 1;
            return;
        }
        for group in self.groups.iter_mut().flatten().filter(|g| g.fresh) {
            group.fresh = !changes.iter().any(|c| group.spec.sees(c));
        }
        self.n_rows += changes.len();
        self.log.push_back(changes.into());
    }

    /// True if some monitor has not seen everything.
    pub fn has_news(&self) -> bool {
        !self.log.is_empty() || self.monitors.iter().any(|m| !m.folded.changes.is_empty())
    }

    /// Sends what is new to each monitor whose session `ready` admits.
    pub fn flush(
        &mut self,
        db: &Database,
        ready: &mut dyn FnMut(SessionId) -> bool,
        send: &mut dyn FnMut(SessionId, Arc<str>),
    ) {
        if !self.has_news() {
            return;
        }
        for i in 0..self.monitors.len() {
            if ready(self.monitors[i].session)
                && let Some(text) = self.update(db, i)
            {
                send(self.monitors[i].session, text);
            }
        }
        self.trim();
    }

    /// The update that brings a monitor to the end of the log, if there is something to say.
    fn update(&mut self, db: &Database, i: usize) -> Option<Arc<str>> {
        let (head, base) = (self.head(), self.base);
        let m = &mut self.monitors[i];
        let folded = std::mem::take(&mut m.folded);
        let from = m.position;
        if from == head && folded.changes.is_empty() {
            return None;
        }
        m.position = head;
        let (id, group) = (Arc::clone(&m.id), m.group);
        let group = self.groups[group].as_mut()?;
        if folded.changes.is_empty()
            && let Some(last) = &group.last
            && (last.from, last.to) == (from, head)
            && last.id == id
        {
            return last.text.clone();
        }
        let span = (from - base) as usize..;
        let private = !folded.changes.is_empty();
        let body = if !private && self.log.len() - span.start == 1 {
            encode::update(db, &group.spec, &self.log[span.start])
        } else {
            let mut folded = folded;
            self.log.range(span).for_each(|c| folded.add(c));
            encode::update(db, &group.spec, &folded.changes)
        };
        let text = body.map(|b| notification(group.spec.version, &id, &b));
        if !private {
            group.last = Some(Update {
                from,
                to: head,
                id,
                text: text.clone(),
            });
        }
        text
    }

    /// Drops what everybody has seen, and folds the part of those who lag too far behind.
    fn trim(&mut self) {
        let head = self.head();
        if self.log.len() > MAX_LAG || self.n_rows > MAX_LAG_ROWS {
            let mut unseen: HashMap<SessionId, usize> = HashMap::new();
            for m in &mut self.monitors {
                for c in self.log.range((m.position - self.base) as usize..) {
                    m.folded.add(c);
                }
                m.position = head;
                *unseen.entry(m.session).or_default() += m.folded.changes.len();
            }
            let too_many = unseen.into_iter().filter(|(_, n)| *n > MAX_UNSEEN);
            self.hopeless.extend(too_many.map(|(session, _)| session));
        }
        let first = self
            .monitors
            .iter()
            .map(|m| m.position)
            .min()
            .unwrap_or(head);
        for seen in self.log.drain(..(first - self.base) as usize) {
            self.n_rows -= seen.len();
        }
        self.base = first;
    }

    /// Sessions that do not keep up and should be closed.
    pub fn take_hopeless(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.hopeless)
    }
}

/// The zero UUID: standalone databases have no history to resume from.
pub const NO_TXN: &str = "00000000-0000-0000-0000-000000000000";

fn notification(version: Version, id: &str, body: &str) -> Arc<str> {
    let method = match version {
        Version::V1 => "update",
        Version::V2 => "update2",
        Version::V3 => "update3",
    };
    let last = if version == Version::V3 {
        format!("\"{NO_TXN}\",")
    } else {
        String::new()
    };
    format!("{{\"id\":null,\"method\":\"{method}\",\"params\":[{id},{last}{body}]}}").into()
}

/// JSON text of an id.
pub fn id_text(id: &Value) -> Arc<str> {
    crate::json::to_string(id).into()
}
