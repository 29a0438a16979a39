//! What threads share: snapshots, pollable sequence numbers, wakers, version pins, counters.
//!
//! The rule of the house is that configuration flows down by replacement. A writer builds an
//! immutable value, publishes it in a [`Snapshot`] and bumps a [`Seq`]; readers load without a
//! lock and learn of the change when they next look or wake. Nothing here does I/O other than the
//! eventfd by which one thread wakes another's poll.
//!
//! The tests beside the code run it under shuttle, which takes turns between threads at every atomic operation and
//! tries many orders; `tests/` runs it on real threads.

#![forbid(unsafe_code)]

mod counter;
mod seq;
mod snapshot;
mod versions;
mod waker;

/// What orders between threads are made of.
mod primitive {
    #[cfg(test)]
    pub use shuttle::{
        sync::{Mutex, atomic},
        thread::yield_now,
    };
    #[cfg(not(test))]
    pub use std::{
        sync::{Mutex, atomic},
        thread::yield_now,
    };
}

pub use arc_swap::ArcSwap;
pub use counter::Counter;
pub use seq::Seq;
pub use snapshot::Snapshot;
pub use versions::{VersionGuard, Versions};
pub use waker::Waker;
