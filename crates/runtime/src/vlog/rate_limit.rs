//! Holding back messages that repeat too fast.
//!
//! A token bucket: a burst of messages may pass at once, then so many a minute. The next message
//! that passes is preceded by one that tells how many did not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Level, Module};
use crate::clock;

struct Bucket {
    /// Messages that may still pass, in 1/60000 of a message: a millisecond adds `per_minute`.
    tokens: u64,
    filled: Option<Instant>,
    dropped: u32,
    first_drop: Option<Instant>,
    last_drop: Option<Instant>,
}

/// A limit on how often one message is logged; put it in a `static` beside the call.
pub struct RateLimit {
    burst: u32,
    per_minute: u32,
    bucket: Mutex<Bucket>,
}

const MESSAGE: u64 = 60_000;

impl RateLimit {
    /// Lets `burst` messages pass at once and `per_minute` in the long run.
    pub const fn new(burst: u32, per_minute: u32) -> RateLimit {
        RateLimit {
            burst,
            per_minute,
            bucket: Mutex::new(Bucket {
                tokens: 0,
                filled: None,
                dropped: 0,
                first_drop: None,
                last_drop: None,
            }),
        }
    }

    /// Whether a message of `level` from `module` must not be logged now.
    pub fn should_drop(&self, module: &Module, level: Level) -> bool {
        if !module.enabled(level) {
            return true;
        }
        if !module.honors_rate_limits() {
            return false;
        }
        let now = clock::now();
        let (dropped, first, last) = {
            let mut b = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if !b.withdraw(now, self.burst, self.per_minute) {
                b.dropped += 1;
                b.first_drop.get_or_insert(now);
                b.last_drop = Some(now);
                return true;
            }
            (
                std::mem::take(&mut b.dropped),
                b.first_drop.take(),
                b.last_drop.take(),
            )
        };
        if dropped > 0 {
            let ago = |t: Option<Instant>| {
                t.map_or(Duration::ZERO, |t| now.saturating_duration_since(t))
                    .as_secs()
            };
            super::write(
                module,
                level,
                format_args!(
                    "Dropped {dropped} log messages in last {} seconds \
                     (most recently, {} seconds ago) due to excessive rate",
                    ago(first),
                    ago(last)
                ),
            );
        }
        false
    }
}

impl Bucket {
    fn withdraw(&mut self, now: Instant, burst: u32, per_minute: u32) -> bool {
        let full = u64::from(burst) * MESSAGE;
        match self.filled {
            None => self.tokens = full,
            Some(t) => {
                let ms = now.saturating_duration_since(t).as_millis() as u64;
                self.tokens = (self.tokens + ms.saturating_mul(per_minute.into())).min(full);
            }
        }
        self.filled = Some(now);
        if self.tokens < MESSAGE {
            return false;
        }
        self.tokens -= MESSAGE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_minute() {
        let mut b = Bucket {
            tokens: 0,
            filled: None,
            dropped: 0,
            first_drop: None,
            last_drop: None,
        };
        let t = clock::now();
        let passed = (0..10).filter(|_| b.withdraw(t, 3, 6)).count();
        assert_eq!(passed, 3);
        assert!(!b.withdraw(t + Duration::from_millis(9_999), 3, 6));
        assert!(b.withdraw(t + Duration::from_millis(10_000), 3, 6));
        assert!(!b.withdraw(t + Duration::from_millis(10_000), 3, 6));
    }
}
