//! An immutable value that is replaced as a whole and read without a lock.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A published value of type `T`.
#[derive(Debug, Default)]
pub struct Snapshot<T>(ArcSwap<T>);

impl<T> Snapshot<T> {
    /// Publishes the first value.
    pub fn new(value: T) -> Snapshot<T> {
        Snapshot(ArcSwap::from_pointee(value))
    }

    /// The current value, for a short look: cheaper than [`Snapshot::load_full`], but a thread
    /// should hold only a few guards at a time.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// The current value, to keep.
    pub fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value. Readers that loaded before keep theirs.
    pub fn publish(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}
