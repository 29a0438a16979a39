//! Locks: names that one session at a time owns, the rest waiting in turn (RFC 7047 section 4.1.8).

use std::collections::{BTreeMap, VecDeque};

use crate::monitor::SessionId;

#[derive(Default)]
pub struct Locks {
    /// The front of each queue is the owner.
    queues: BTreeMap<String, VecDeque<SessionId>>,
}

impl Locks {
    /// True if the session owns the lock or waits for it.
    pub fn wants(&self, session: SessionId, name: &str) -> bool {
        self.queues.get(name).is_some_and(|q| q.contains(&session))
    }

    pub fn owns(&self, session: SessionId, name: &str) -> bool {
        self.queues.get(name).and_then(VecDeque::front) == Some(&session)
    }

    /// Queues for the lock; true if it is owned at once.
    pub fn lock(&mut self, session: SessionId, name: &str) -> bool {
        let q = self.queues.entry(name.to_owned()).or_default();
        q.push_back(session);
        q.len() == 1
    }

    /// Takes the lock; returns the owner that lost it.
    pub fn steal(&mut self, session: SessionId, name: &str) -> Option<SessionId> {
        let q = self.queues.entry(name.to_owned()).or_default();
        let victim = q.front().copied();
        q.push_front(session);
        victim
    }

    /// Gives the lock or the place in its queue up; returns who owns the lock then. (That owner is
    /// told "locked" again even if it owned the lock before: Open vSwitch does so, and clients
    /// expect to be told more often than needed rather than less.)
    pub fn unlock(&mut self, session: SessionId, name: &str) -> Option<SessionId> {
        let q = self.queues.get_mut(name)?;
        q.retain(|s| *s != session);
        let owner = q.front().copied();
        if owner.is_none() {
            self.queues.remove(name);
        }
        owner
    }

    /// Every lock that the session wants.
    pub fn of(&self, session: SessionId) -> Vec<String> {
        self.queues
            .iter()
            .filter(|(_, q)| q.contains(&session))
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// The locks that the session owns, for status columns.
    pub fn owned(&self, session: SessionId) -> Vec<&str> {
        self.queues
            .iter()
            .filter(|(_, q)| q.front() == Some(&session))
            .map(|(n, _)| n.as_str())
            .collect()
    }

    /// The locks that the session has to wait for.
    pub fn waiting(&self, session: SessionId) -> Vec<&str> {
        self.queues
            .iter()
            .filter(|(_, q)| q.iter().skip(1).any(|s| *s == session))
            .map(|(n, _)| n.as_str())
            .collect()
    }
}
