//! A pollable sequence number.
//!
//! The writer calls [`Seq::change`] after it changed something. A reader remembers the value that
//! it saw *before* it looked at that something; as long as `read()` still returns it, nothing has
//! changed since. To sleep until a change, a poll loop hands its waker to [`Seq::watch`]; the
//! registration is one-shot and is spent by the next change, so nothing leaks when the loop stops
//! being interested, and a wake for a change that no longer matters is harmless.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Waker;

/// A sequence number that changes whenever its owner says so.
#[derive(Debug)]
pub struct Seq {
    value: AtomicU64,
    watched: AtomicBool,
    watchers: Mutex<Vec<Arc<Waker>>>,
}

impl Default for Seq {
    fn default() -> Seq {
        Seq::new()
    }
}

impl Seq {
    /// Creates a sequence number; its first value is 1, so that 0 means "never looked".
    pub const fn new() -> Seq {
        Seq {
            value: AtomicU64::new(1),
            watched: AtomicBool::new(false),
            watchers: Mutex::new(Vec::new()),
        }
    }

    /// The current value. Everything published before the change that produced it is visible.
    pub fn read(&self) -> u64 {
        self.value.load(Ordering::SeqCst)
    }

    /// Announces a change and wakes whoever watches.
    pub fn change(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.watched.load(Ordering::SeqCst) {
            let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            self.watched.store(false, Ordering::SeqCst);
            for w in watchers.drain(..) {
                w.wake();
            }
        }
    }

    /// Asks for one wake at the first change after value `last`. Returns false, and registers
    /// nothing, if that change has already happened.
    pub fn watch(&self, last: u64, waker: &Arc<Waker>) -> bool {
        if self.read() != last {
            return false;
        }
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if !watchers.iter().any(|w| Arc::ptr_eq(w, waker)) {
            watchers.push(waker.clone());
        }
        self.watched.store(true, Ordering::SeqCst);
        // A change between the first look and the registration has not seen the registration.
        // It stays in the list: the wake that it causes later is spurious and harmless.
        self.read() == last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_is_woken_once_by_the_next_change() {
        let seq = Seq::new();
        let w = Arc::new(Waker::new().unwrap());
        let v = seq.read();
        assert!(seq.watch(v, &w));
        assert!(seq.watch(v, &w));
        assert!(!w.drain());
        seq.change();
        assert!(w.drain());
        seq.change();
        assert!(!w.drain());
    }

    #[test]
    fn a_change_that_already_happened_is_reported_at_once() {
        let seq = Seq::new();
        let w = Arc::new(Waker::new().unwrap());
        let v = seq.read();
        seq.change();
        assert!(!seq.watch(v, &w));
    }
}
