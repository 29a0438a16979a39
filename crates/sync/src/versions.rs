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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

/// Pins that can be held at the same time; a thread needs one for each nested translation.
const SLOTS: usize = 256;

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
            std::thread::yield_now();
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
    use super::*;

    #[test]
    fn the_oldest_pin_holds_back_and_its_drop_releases() {
        let v = Versions::new(5);
        let a = v.pin();
        v.publish(6);
        let b = v.pin();
        v.publish(9);
        assert_eq!((a.version, b.version), (5, 6));
        assert_eq!(v.oldest_pinned(), 5);
        drop(a);
        assert_eq!(v.oldest_pinned(), 6);
        drop(b);
        assert_eq!(v.oldest_pinned(), 9);
    }

    #[test]
    fn a_writer_never_overtakes_a_pinned_reader() {
        let v = Versions::new(1);
        let unlinked = AtomicU64::new(0); // every version below this one is gone
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        let g = v.pin();
                        assert!(g.version >= unlinked.load(SeqCst));
                    }
                });
            }
            for n in 2..20_000 {
                v.publish(n);
                unlinked.fetch_max(v.oldest_pinned(), SeqCst);
            }
        });
    }
}
