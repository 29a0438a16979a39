//! Connections that helpers have seen announced and that have not begun yet.
//!
//! There are so many at most for one connection and in all; the oldest of a connection makes room for its next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::alg::Helper;
use crate::table::Place;
use crate::tuple::{Addr, Tuple};

/// Announcements that one control connection may have open.
const PER_PARENT: usize = 8;
/// Announcements that there may be in all.
const MAX: usize = 65_536;

/// A connection that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its original tuple; from which port is not known, and is zero.
    pub tuple: Tuple,
    /// The control connection: its original tuple, where it is, and which of those that were there it is.
    pub parent: Tuple,
    pub place: Place,
    pub serial: u32,
    pub mark: u32,
    pub labels: [u8; 16],
    pub helper: Helper,
    /// Addresses of its replies, source first, and the port of their source.
    pub reply: (Addr, Addr, u16),
}

#[derive(Default)]
struct Inner {
    by_tuple: HashMap<Tuple, Expected>,
    /// By parent, the oldest first.
    by_parent: HashMap<Tuple, VecDeque<Tuple>>,
}

/// See the module's text.
#[derive(Default)]
pub struct Expectations {
    len: AtomicUsize,
    inner: Mutex<Inner>,
}

impl Inner {
    fn remove(&mut self, tuple: &Tuple) -> bool {
        let Some(old) = self.by_tuple.remove(tuple) else {
            return false;
        };
        if let Some(list) = self.by_parent.get_mut(&old.parent) {
            list.retain(|t| t != tuple);
            if list.is_empty() {
                self.by_parent.remove(&old.parent);
            }
        }
        true
    }
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, in place of one for the same tuple; false if there is no room.
    pub fn add(&self, e: Expected) -> bool {
        let mut inner = self.lock();
        inner.remove(&e.tuple);
        let oldest = inner
            .by_parent
            .get(&e.parent)
            .filter(|l| l.len() >= PER_PARENT)
            .and_then(|l| l.front().copied());
        if let Some(oldest) = oldest {
            inner.remove(&oldest);
        }
        let room = inner.by_tuple.len() < MAX;
        if room {
            inner
                .by_parent
                .entry(e.parent)
                .or_default()
                .push_back(e.tuple);
            inner.by_tuple.insert(e.tuple, e);
        }
        self.len.store(inner.by_tuple.len(), Relaxed);
        room
    }

    /// The one that a connection fulfils.
    #[inline]
    pub fn find(&self, orig: &Tuple) -> Option<Expected> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let from_anywhere = Tuple { src_l4: 0, ..*orig };
        self.lock().by_tuple.get(&from_anywhere).copied()
    }

    /// Forgets those of a control connection.
    pub fn forget(&self, parent: &Tuple) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut inner = self.lock();
        for tuple in inner.by_parent.remove(parent).unwrap_or_default() {
            inner.by_tuple.remove(&tuple);
        }
        self.len.store(inner.by_tuple.len(), Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Expected> {
        self.lock().by_tuple.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(parent: u8, port: u32) -> Expected {
        let tuple = |a, l4| Tuple {
            src: [a; 16],
            dst_l4: l4,
            ..Tuple::default()
        };
        Expected {
            tuple: tuple(parent, port),
            parent: tuple(parent, 21),
            place: Place { shard: 0, slot: 0 },
            serial: 1,
            mark: 0,
            labels: [0; 16],
            helper: Helper::Ftp,
            reply: ([0; 16], [0; 16], 0),
        }
    }

    #[test]
    fn one_connection_has_a_few_announcements_and_its_newest() {
        let all = Expectations::default();
        for port in 1..=20 {
            assert!(all.add(expected(1, port)));
        }
        all.add(expected(1, 20));
        all.add(expected(2, 1));
        let found = |a, port| {
            let mut t = expected(a, port).tuple;
            t.src_l4 = 7777;
            all.find(&t).is_some()
        };
        assert_eq!(all.all().len(), PER_PARENT + 1);
        assert!(found(1, 20) && found(1, 13) && !found(1, 12) && found(2, 1));
        all.forget(&expected(1, 0).parent);
        assert!(!found(1, 20) && found(2, 1));
    }
}
