//! The current version of a set of tables, and which older versions somebody still reads.
//!
//! A writer adds and removes rules for version N + 1 while readers look at N, then publishes
//! N + 1. A removed rule may be unlinked from its table only when no reader looks at a version in
//! which it was visible: [`Versions::oldest_pinned`] tells. A pin is one store into a slot of its
//! own cache line: no reader ever waits for a writer.
//!
//! Why it is right: a reader stores its version and then looks at the current one again; a writer
//! publishes and then scans the slots. All four are sequentially consistent, so either the writer
//! sees the pin, or the reader sees the new version and pins that one instead.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

use crate::primitive::atomic::{AtomicU64, Ordering::SeqCst};
use crate::primitive::yield_now;

/// Pins that can be held at the same time; a thread needs one for each nested translation. Tests run out of them.
const SLOTS: usize = if cfg!(test) { 2 } else { 256 };

#[repr(align(64))]
#[derive(Debug)]
struct Slot(AtomicU64);

/// The version counter and its reader pins.
#[derive(Debug)]
pub struct Versions {
    current: AtomicU64,
    slots: Box<[Slot]>,
}

static NEXT_HINT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where this thread looks for a free slot first: distinct for the first 32 threads.
    static HINT: Cell<usize> = Cell::new(NEXT_HINT.fetch_add(8, SeqCst));
}

impl Default for Versions {
    fn default() -> Versions {
        Versions::new(1)
    }
}

impl Versions {
    /// Starts at version `first`, which must not be 0.
    pub fn new(first: u64) -> Versions {
        assert_ne!(first, 0, "version 0 marks a free slot");
        Versions {
            current: AtomicU64::new(first),
            slots: (0..SLOTS).map(|_| Slot(AtomicU64::new(0))).collect(),
        }
    }

    /// The version that a reader who starts now sees.
    pub fn current(&self) -> u64 {
        self.current.load(SeqCst)
    }

    /// Makes `version` the one that new readers see. Must grow.
    pub fn publish(&self, version: u64) {
        debug_assert!(version >= self.current());
        self.current.store(version, SeqCst);
    }

    /// Pins the current version until the guard is dropped.
    pub fn pin(&self) -> VersionGuard<'_> {
        let start = HINT.with(Cell::get);
        let mut version = self.current();
        let slot = 'claim: loop {
            for i in 0..SLOTS {
                let slot = &self.slots[(start + i) % SLOTS].0;
                if slot.load(SeqCst) == 0
                    && slot.compare_exchange(0, version, SeqCst, SeqCst).is_ok()
                {
                    break 'claim slot;
                }
            }
            yield_now();
            version = self.current();
        };
        loop {
            let now = self.current();
            if now == version {
                return VersionGuard { slot, version };
            }
            version = now;
            slot.store(version, SeqCst);
        }
    }

    /// The oldest version that a reader may be looking at. Rules that are invisible in it and in
    /// every later version can be unlinked.
    pub fn oldest_pinned(&self) -> u64 {
        let current = self.current();
        let pinned = self
            .slots
            .iter()
            .map(|s| s.0.load(SeqCst))
            .filter(|&v| v != 0);
        pinned.fold(current, u64::min)
    }
}

/// A pinned version.
#[derive(Debug)]
pub struct VersionGuard<'a> {
    slot: &'a AtomicU64,
    /// The version that this guard keeps readable.
    pub version: u64,
}

impl Drop for VersionGuard<'_> {
    fn drop(&mut self) {
        self.slot.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Three readers share two slots.
    #[test]
    fn no_order_lets_a_writer_overtake_a_pinned_reader() {
        let round = || {
            let versions = Arc::new(Versions::new(1));
            // Every version below this one is gone.
            let unlinked = Arc::new(AtomicU64::new(0));
            let reader = || {
                let (versions, unlinked) = (versions.clone(), unlinked.clone());
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        let pin = versions.pin();
                        assert!(pin.version >= unlinked.load(SeqCst));
                        assert!(versions.oldest_pinned() <= pin.version);
                        assert!(pin.version >= unlinked.load(SeqCst));
                    }
                })
            };
            let readers = [reader(), reader(), reader()];
            for n in 2..5 {
                versions.publish(n);
                unlinked.fetch_max(versions.oldest_pinned(), SeqCst);
            }
            for reader in readers {
                reader.join().unwrap();
            }
            assert_eq!(versions.oldest_pinned(), 4);
        };
        shuttle::check_random(round, 2000);
        shuttle::check_pct(round, 2000, 3);
    }
}
