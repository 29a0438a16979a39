//! A pollable sequence number.
//!
//! The writer calls [`Seq::change`] after it changed something. A reader remembers the value that
//! it saw *before* it looked at that something; as long as `read()` still returns it, nothing has
//! changed since. To sleep until a change, a poll loop hands its waker to [`Seq::watch`]; the
//! registration is one-shot and is spent by the next change, so nothing leaks when the loop stops
//! being interested, and a wake for a change that no longer matters is harmless.

use std::sync::{Arc, PoisonError};

use crate::Waker;
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};

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
    use crate::Snapshot;

    /// One thread publishes twice; another sleeps between its looks, as a poll loop does, until it has seen the last.
    #[test]
    fn no_order_of_changes_and_watches_loses_a_wake() {
        let round = || {
            let shared = Arc::new((Seq::new(), Snapshot::new(0)));
            let writer = shared.clone();
            let writer = shuttle::thread::spawn(move || {
                let (seq, snapshot) = &*writer;
                for n in 1..3 {
                    snapshot.publish(n);
                    seq.change();
                }
            });
            let (seq, snapshot) = &*shared;
            let waker = Arc::new(Waker::new().unwrap());
            loop {
                let before = seq.read();
                let seen = *snapshot.load_full();
                assert!(
                    seen + 1 >= before,
                    "what a number stands for is visible with it"
                );
                if seen == 2 {
                    break;
                }
                if seq.watch(before, &waker) {
                    // A wake that was lost keeps this going until shuttle finds that it takes too long.
                    while !waker.drain() {
                        shuttle::thread::yield_now();
                    }
                }
            }
            writer.join().unwrap();
        };
        shuttle::check_random(round, 2000);
        shuttle::check_pct(round, 2000, 3);
    }
}
