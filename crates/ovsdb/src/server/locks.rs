//! Locks: names that one session at a time owns, the rest waiting in turn (RFC 7047 section 4.1.8).

use std::collections::{BTreeMap, VecDeque};

use crate::monitor::SessionId;

/// A session's place in a queue.
#[derive(Clone, Copy)]
struct Waiter {
    session: SessionId,
    /// It took the lock by force: whoever does the same to it gets rid of it.
    stole: bool,
}

#[derive(Default)]
struct Queue {
    /// The front is the owner.
    waiters: VecDeque<Waiter>,
    /// Those whom a theft put out of the queue. They have to unlock before they lock again.
    robbed: Vec<SessionId>,
}

#[derive(Default)]
pub struct Locks {
    queues: BTreeMap<String, Queue>,
}

impl Queue {
    fn owner(&self) -> Option<SessionId> {
        self.waiters.front().map(|w| w.session)
    }

    fn wants(&self, session: SessionId) -> bool {
        self.waiters.iter().any(|w| w.session == session) || self.robbed.contains(&session)
    }
}

impl Locks {
    /// True if the session owns the lock or waits for it.
    pub fn wants(&self, session: SessionId, name: &str) -> bool {
        self.queues.get(name).is_some_and(|q| q.wants(session))
    }

    pub fn owns(&self, session: SessionId, name: &str) -> bool {
        self.queues.get(name).and_then(Queue::owner) == Some(session)
    }

    /// Queues for the lock; true if it is owned at once.
    pub fn lock(&mut self, session: SessionId, name: &str) -> bool {
        let q = self.queues.entry(name.to_owned()).or_default();
        let stole = false;
        q.waiters.push_back(Waiter { session, stole });
        q.waiters.len() == 1
    }

    /// Takes the lock; returns the owner that lost it.
    pub fn steal(&mut self, session: SessionId, name: &str) -> Option<SessionId> {
        let q = self.queues.entry(name.to_owned()).or_default();
        let victim = q.waiters.front().copied();
        if let Some(victim) = victim.filter(|v| v.stole) {
            q.waiters.pop_front();
            q.robbed.push(victim.session);
        }
        let stole = true;
        q.waiters.push_front(Waiter { session, stole });
        victim.map(|v| v.session)
    }

    /// Gives the lock or the place in its queue up; returns who owns the lock then. (That owner is
    /// told "locked" again even if it owned the lock before: Open vSwitch does so, and clients
    /// expect to be told more often than needed rather than less.)
    pub fn unlock(&mut self, session: SessionId, name: &str) -> Option<SessionId> {
        let q = self.queues.get_mut(name)?;
        let queued = q.waiters.iter().any(|w| w.session == session);
        q.waiters.retain(|w| w.session != session);
        q.robbed.retain(|s| *s != session);
        let owner = q.owner();
        if owner.is_none() && q.robbed.is_empty() {
            self.queues.remove(name);
        }
        owner.filter(|_| queued)
    }

    /// Every lock that the session wants.
    pub fn of(&self, session: SessionId) -> Vec<String> {
        self.queues
            .iter()
            .filter(|(_, q)| q.wants(session))
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// The locks that the session owns, for status columns.
    pub fn owned(&self, session: SessionId) -> Vec<&str> {
        self.queues
            .iter()
            .filter(|(_, q)| q.owner() == Some(session))
            .map(|(n, _)| n.as_str())
            .collect()
    }

    /// The locks that the session has to wait for.
    pub fn waiting(&self, session: SessionId) -> Vec<&str> {
        self.queues
            .iter()
            .filter(|(_, q)| q.waiters.iter().skip(1).any(|w| w.session == session))
            .map(|(n, _)| n.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stole_and_is_robbed_does_not_get_the_lock_back() {
        let mut locks = Locks::default();
        let [a, b, c] = [1, 2, 3];
        assert_eq!(locks.steal(a, "x"), None);
        assert_eq!(locks.steal(b, "x"), Some(a));
        assert!(locks.wants(a, "x") && !locks.owns(a, "x"));
        assert_eq!(locks.unlock(b, "x"), None);
        assert!(locks.lock(c, "x"));
        assert_eq!(locks.unlock(a, "x"), None);
        assert!(locks.owns(c, "x") && !locks.wants(a, "x"));
    }

    #[test]
    fn who_waited_for_the_lock_gets_it_back_from_a_thief() {
        let mut locks = Locks::default();
        let [a, b] = [1, 2];
        assert!(locks.lock(a, "x"));
        assert_eq!(locks.steal(b, "x"), Some(a));
        assert_eq!(locks.unlock(b, "x"), Some(a));
        assert!(locks.owns(a, "x"));
    }
}
