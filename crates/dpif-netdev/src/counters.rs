//! What a thread has done, counted by itself and read by others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrovs_runtime::clock;
use ferrovs_sys::cycles;

/// Kinds of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Packets that ports received.
    Recv,
    /// Packets that were given to the thread from above.
    Executed,
    /// Copies of packets, less the originals that ended because a copy had gone where they should.
    Copied,
    /// Packets that whoever answers questions kept.
    TakenUp,
    /// Packets that came again by recirculation.
    Recirc,
    /// Packets that somebody else recognised.
    MarkHit,
    SimpleHit,
    EmcHit,
    SmcHit,
    MegaflowHit,
    /// Masks that were tried for megaflow hits.
    MaskLookup,
    /// Upcalls that were answered.
    Miss,
    /// Upcalls that were not.
    Lost,
    /// Packets that ports were given.
    SentPackets,
    SentBatches,
    /// Cycles in iterations with and without packets.
    CyclesBusy,
    CyclesIdle,
    CyclesUpcall,
    IterationsBusy,
    IterationsIdle,
    /// Batches that ports received.
    RecvBatches,
    /// Times and microseconds that a polling thread slept.
    Sleeps,
    SleptUs,
}

pub const N_COUNTS: usize = Count::SleptUs as usize + 1;

/// Counts of one thread.
#[derive(Debug)]
pub struct Counters {
    now: [AtomicU64; N_COUNTS],
    /// Values at the last clear.
    zero: [AtomicU64; N_COUNTS],
    /// When that was, by the clock and by the processor.
    cleared: Mutex<(Instant, u64)>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            now: Default::default(),
            zero: Default::default(),
            cleared: Mutex::new((clock::now(), cycles::now())),
        }
    }
}

impl Counters {
    /// For the owning thread.
    #[inline]
    pub fn add(&self, count: Count, n: u64) {
        let c = &self.now[count as usize];
        c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Since the thread began.
    pub fn total(&self, count: Count) -> u64 {
        self.now[count as usize].load(Relaxed)
    }

    /// All of them, since the thread began.
    pub fn totals(&self) -> [u64; N_COUNTS] {
        std::array::from_fn(|i| self.now[i].load(Relaxed))
    }

    /// Since the last clear.
    pub fn since_clear(&self, count: Count) -> u64 {
        let i = count as usize;
        self.now[i]
            .load(Relaxed)
            .wrapping_sub(self.zero[i].load(Relaxed))
    }

    pub fn clear(&self) {
        for (zero, now) in self.zero.iter().zip(&self.now) {
            zero.store(now.load(Relaxed), Relaxed);
        }
        let now = (clock::now(), cycles::now());
        *self.cleared.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When the last clear was, by the clock and by the processor.
    pub fn cleared(&self) -> (Instant, u64) {
        *self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Intervals over which loads are told.
pub const INTERVALS: usize = 12;
/// Length of an interval.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Cycles in each of the last intervals of five seconds: a minute in all.
#[derive(Debug, Default)]
pub struct Load {
    current: AtomicU64,
    past: [AtomicU64; INTERVALS],
    next: AtomicUsize,
}

impl Load {
    /// For the owning thread.
    #[inline]
    pub fn add(&self, cycles: u64) {
        let now = self.current.load(Relaxed).wrapping_add(cycles);
        self.current.store(now, Relaxed);
    }

    /// Ends an interval; for the owning thread.
    pub fn turn(&self) {
        let at = self.next.load(Relaxed);
        self.past[at].store(self.current.swap(0, Relaxed), Relaxed);
        self.next.store((at + 1) % INTERVALS, Relaxed);
    }

    /// Cycles in the intervals that have ended.
    pub fn recent(&self) -> u64 {
        self.of_last(INTERVALS)
    }

    /// Cycles in the last `n` intervals that have ended.
    pub fn of_last(&self, n: usize) -> u64 {
        let next = self.next.load(Relaxed);
        let last = (1..=n.min(INTERVALS)).map(|i| (next + INTERVALS - i) % INTERVALS);
        last.map(|i| self.past[i].load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_that_of_the_last_intervals() {
        let load = Load::default();
        for n in 1..=15 {
            load.add(n);
            load.turn();
        }
        load.add(1000);
        assert_eq!(load.of_last(1), 15);
        assert_eq!(load.of_last(2), 29);
        assert_eq!(load.recent(), (4..=15).sum::<u64>());
    }
}
