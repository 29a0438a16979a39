//! Forgetting what has expired, a small part of the table at a time.
//!
//! Packets never find a connection that has expired; to sweep only gives its place back. In each interval all of the
//! table is looked through once, in steps that hold one shard for some microseconds.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use crate::Tracker;
use crate::conn::Conn;
use crate::table::SHARDS;

/// Places that one step looks at; it holds their shard for a part of them at a time.
const STEP: u32 = 256;
/// Steps that one call makes at most, when it comes late: whoever calls has packets to handle.
const MAX_STEPS: usize = 4;
/// Milliseconds in which all is looked through, unless somebody says otherwise.
const INTERVAL_MS: u32 = 20_000;

/// Where the next step goes, and when.
#[derive(Default)]
struct Cursor {
    shard: u16,
    slot: u32,
    due: Option<Instant>,
}

/// See the module's text.
pub struct Sweeper {
    interval_ms: AtomicU32,
    cursor: Mutex<Cursor>,
}

impl Default for Sweeper {
    fn default() -> Self {
        Sweeper {
            interval_ms: AtomicU32::new(INTERVAL_MS),
            cursor: Mutex::default(),
        }
    }
}

impl Sweeper {
    pub fn interval_ms(&self) -> u32 {
        self.interval_ms.load(Relaxed)
    }

    pub fn set_interval_ms(&self, ms: u32) {
        self.interval_ms.store(ms, Relaxed);
        let mut cursor = match self.cursor.lock() {
            Ok(cursor) => cursor,
            Err(poisoned) => poisoned.into_inner(),
        };
        cursor.due = None;
    }
}

impl Tracker {
    /// Does what is due; returns when to be called again, unless there is nothing to sweep.
    pub fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut cursor = match self.sweeper.cursor.try_lock() {
            Ok(cursor) => cursor,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody else is at it.
            Err(TryLockError::WouldBlock) => return Some(now + self.pause(1)),
        };
        let now_ms = self.ms(now);
        self.frags.expire(now_ms);
        if self.table.count() == 0 && self.frags.is_empty() {
            cursor.due = None;
            return None;
        }
        // Who comes much too late looks through all of the table once, a call's share at a time.
        let whole = Duration::from_millis(self.sweeper.interval_ms().into());
        let oldest = now.checked_sub(whole).unwrap_or(now);
        let mut due = (*cursor.due.get_or_insert(now)).max(oldest);
        for _ in 0..MAX_STEPS {
            if due > now {
                break;
            }
            let Cursor { shard, slot, .. } = *cursor;
            let places = self.table.lock(shard).places();
            let (end, mut next) = (slot.saturating_add(STEP), Some(slot));
            while let Some(at) = next.filter(|at| *at < end) {
                let expired = &mut |c: &Conn| c.has_expired(now_ms);
                next = self.forget_in(shard, at, end - at, expired).next;
            }
            (cursor.shard, cursor.slot) = match next {
                Some(at) => (shard, at),
                None => ((shard + 1) % SHARDS as u16, 0),
            };
            due += self.pause(places.div_ceil(STEP).max(1));
        }
        cursor.due = Some(due);
        Some(due)
    }

    /// Between two steps, where a shard takes so many.
    fn pause(&self, steps: u32) -> Duration {
        let whole = Duration::from_millis(self.sweeper.interval_ms().into());
        (whole / SHARDS as u32 / steps).max(Duration::from_micros(100))
    }
}
