//! A 64-bit counter that many threads add to without sharing a cache line.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

use crate::primitive::atomic::{AtomicU64, Ordering::Relaxed};

const SHARDS: usize = 16;

#[repr(align(64))]
#[derive(Debug)]
struct Shard(AtomicU64);

/// A sharded counter: adding is one uncontended atomic, reading sums the shards.
#[derive(Debug)]
pub struct Counter {
    shards: [Shard; SHARDS],
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % SHARDS);
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}

impl Counter {
    /// A counter at 0.
    pub const fn new() -> Counter {
        Counter {
            shards: [const { Shard(AtomicU64::new(0)) }; SHARDS],
        }
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        // A thread that is being torn down has no shard of its own any more.
        let shard = MINE.try_with(Cell::get).unwrap_or(0);
        self.shards[shard].0.fetch_add(n, Relaxed);
    }

    /// The total of all threads.
    pub fn sum(&self) -> u64 {
        self.shards
            .iter()
            .fold(0, |sum, s| sum.wrapping_add(s.0.load(Relaxed)))
    }
}
