//! What threads share: snapshots, pollable sequence numbers, wakers, version pins, counters.
//!
//! The rule of the house is that configuration flows down by replacement. A writer builds an
//! immutable value, publishes it in a [`Snapshot`] and bumps a [`Seq`]; readers load without a
//! lock and learn of the change when they next look or wake. Nothing here does I/O other than the
//! eventfd by which one thread wakes another's poll.

#![deny(clippy::undocumented_unsafe_blocks)]

mod counter;
mod seq;
mod snapshot;
mod versions;
mod waker;

pub use arc_swap::ArcSwap;
pub use counter::Counter;
pub use seq::Seq;
pub use snapshot::Snapshot;
pub use versions::{VersionGuard, Versions};
pub use waker::Waker;
