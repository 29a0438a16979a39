//! When a log is due to be written anew by itself.
//!
//! Not before ten to twenty minutes have passed since it was opened or last written anew (a random
//! number, so that the databases of one server, and the servers of one network, do not do it at the
//! same time); after a failure, one to two minutes. From then on as soon as the log has a hundred
//! records, ten megabytes and twice the size that it began with; after a day with any record at
//! all.

use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const RECORDS: usize = 100;
const SIZE: u64 = 10 << 20;

#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    not_before: Instant,
    at_latest: Instant,
}

impl Schedule {
    /// For a log that is opened, or was written anew, now.
    pub fn new(now: Instant) -> Self {
        Self {
            not_before: after(now, 10 * MINUTE),
            at_latest: now + DAY,
        }
    }

    /// Puts the next attempt off after one that failed.
    pub fn retry(&mut self, now: Instant) {
        self.not_before = after(now, MINUTE);
    }

    /// When a log of so many records, of this size and that size at its beginning, is due; none if
    /// it has no records.
    pub fn due(&self, records: usize, size: u64, base: u64) -> Option<Instant> {
        if records == 0 {
            return None;
        }
        let grown = records >= RECORDS && size > SIZE && size / 2 > base;
        Some(if grown {
            self.not_before
        } else {
            self.at_latest.max(self.not_before)
        })
    }
}

/// A random time from `shortest` to twice that from now.
fn after(now: Instant, shortest: Duration) -> Instant {
    let [a, b, c, d, ..] = *crate::uuid::random().as_bytes();
    let part = f64::from(u32::from_ne_bytes([a, b, c, d])) / f64::from(u32::MAX);
    now + shortest + shortest.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: u64 = 11 << 20;

    /// Any instant will do.
    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_log_that_grew_waits_ten_to_twenty_minutes() {
        let now = start();
        let mut seen = Vec::new();
        for _ in 0..100 {
            let due = Schedule::new(now).due(100, BIG, 0).unwrap() - now;
            assert!((10 * MINUTE..=20 * MINUTE).contains(&due), "{due:?}");
            seen.push(due);
        }
        seen.sort();
        assert!(
            seen[99].saturating_sub(seen[0]) > 5 * MINUTE,
            "the times are spread"
        );
    }

    #[test]
    fn one_that_did_not_grow_enough_waits_a_day() {
        let now = start();
        let s = Schedule::new(now);
        for (records, size, base) in [
            (99, BIG, 0),
            (1000, SIZE, 0),
            (1000, BIG, BIG / 2),
            (1, 1, 0),
        ] {
            let due = s.due(records, size, base);
            assert_eq!(due, Some(now + DAY), "{records} {size} {base}");
        }
        assert!(s.due(1000, BIG, BIG / 2 - 1).unwrap() < now + DAY);
    }

    #[test]
    fn one_without_records_is_never_due() {
        assert_eq!(Schedule::new(start()).due(0, BIG, 0), None);
    }

    #[test]
    fn after_a_failure_it_waits_one_to_two_minutes() {
        let now = start();
        let mut s = Schedule::new(now);
        let later = now + 2 * DAY;
        s.retry(later);
        for records in [1, 100] {
            let due = s.due(records, BIG, 0).unwrap() - later;
            assert!((MINUTE..=2 * MINUTE).contains(&due), "{due:?}");
        }
    }
}
