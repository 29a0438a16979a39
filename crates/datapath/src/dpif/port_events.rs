//! Which ports of a datapath came, went or got another number, whoever did that.
//!
//! A datapath writes a [`PortLog`]; each reader has its own place in it. A reader that is far behind is told to look
//! at all ports.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_sync::Seq;

/// How many changes are remembered.
const KEPT: usize = 4096;

/// See the module's text.
#[derive(Default)]
pub struct PortLog {
    inner: Mutex<Inner>,
    seq: Seq,
}

#[derive(Default)]
struct Inner {
    /// Names of the ports that changed last.
    names: VecDeque<Arc<str>>,
    /// How many were forgotten.
    forgotten: u64,
}

impl PortLog {
    /// Notes that the port of that name came, went, or got another number.
    pub fn note(&self, name: &str) {
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.names.push_back(name.into());
            if inner.names.len() > KEPT {
                inner.names.pop_front();
                inner.forgotten += 1;
            }
        }
        self.seq.change();
    }

    /// A reader of what changes from now on.
    pub fn subscribe(self: &Arc<Self>) -> PortEvents {
        let seen = self.seq.read();
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        PortEvents {
            log: self.clone(),
            seen,
            at: inner.forgotten + inner.names.len() as u64,
        }
    }
}

/// What changed since a reader looked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortChanges {
    /// These ports, each perhaps more than once.
    Named(Vec<Arc<str>>),
    /// So many that any port may have changed.
    Any,
}

/// A reader of a [`PortLog`].
pub struct PortEvents {
    log: Arc<PortLog>,
    seen: u64,
    /// How many changes were read, or passed over.
    at: u64,
}

impl PortEvents {
    /// What changed since the last call; none if nothing did, which costs one comparison.
    pub fn take(&mut self) -> Option<PortChanges> {
        let seen = self.log.seq.read();
        if seen == self.seen {
            return None;
        }
        self.seen = seen;
        let inner = self
            .log
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let end = inner.forgotten + inner.names.len() as u64;
        let at = std::mem::replace(&mut self.at, end);
        if at == end {
            return None;
        }
        Some(match at.checked_sub(inner.forgotten) {
            Some(skip) => {
                PortChanges::Named(inner.names.iter().skip(skip as usize).cloned().collect())
            }
            None => PortChanges::Any,
        })
    }

    /// Changes with the next event, and the value that it had when [`PortEvents::take`] was called.
    pub fn seq(&self) -> (&Seq, u64) {
        (&self.log.seq, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_is_told_what_changed_since_it_looked() {
        let log = Arc::new(PortLog::default());
        log.note("a");
        let mut one = log.subscribe();
        assert_eq!(one.take(), None);
        log.note("b");
        log.note("c");
        let mut two = log.subscribe();
        let named = |names: &[&str]| {
            Some(PortChanges::Named(
                names.iter().map(|n| Arc::from(*n)).collect(),
            ))
        };
        assert_eq!(one.take(), named(&["b", "c"]));
        assert_eq!(one.take(), None);
        log.note("d");
        assert_eq!(one.take(), named(&["d"]));
        for _ in 0..KEPT {
            log.note("e");
        }
        assert_eq!(two.take(), Some(PortChanges::Any));
        assert_eq!(two.take(), None);
        assert!(matches!(one.take(), Some(PortChanges::Named(n)) if n.len() == KEPT));
    }
}
