//! The limit on packet-ins of one kind (no match, action) to one controller: a token bucket.
//!
//! As long as there are tokens packets go at once. The others wait in a queue for each port; as many may wait as a
//! burst has, and when there are more the port with the longest queue loses its oldest.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ferrovs_packet::types::OfPort;
use ferrovs_runtime::Poller;

/// Tokens that a packet costs.
const COST: u64 = 1000;

#[derive(Debug, Default)]
pub struct Schedule {
    /// Packets per second; 0 is without limit.
    rate: u32,
    burst: u32,
    tokens: u64,
    filled: Option<Instant>,
    by_port: BTreeMap<OfPort, VecDeque<Vec<u8>>>,
    /// Messages that wait.
    len: usize,
    /// The port that is served next.
    next: OfPort,
}

impl Schedule {
    pub fn set_limits(&mut self, rate: u32, burst: u32) {
        self.rate = rate;
        self.burst = if burst == 0 { rate / 4 } else { burst }.max(1);
        if rate == 0 {
            self.clear();
        }
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.by_port.clear();
        self.len = 0;
        self.filled = None;
    }

    /// Takes a message about a packet that came in through `port`, or gives it back if it may be sent at once.
    pub fn push(&mut self, port: OfPort, msg: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if self.rate == 0 || (self.len == 0 && self.take_token(now)) {
            return Some(msg);
        }
        if self.len >= self.burst as usize {
            let longest = self.by_port.iter().max_by_key(|(_, q)| q.len());
            if let Some(port) = longest.map(|(port, _)| *port) {
                self.pop_from(port);
            }
        }
        self.by_port.entry(port).or_default().push_back(msg);
        self.len += 1;
        None
    }

    /// The next message that may be sent now; ports take turns.
    pub fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        let later = self.by_port.range(self.next..).next();
        let port = *later.or_else(|| self.by_port.iter().next())?.0;
        if !self.take_token(now) {
            return None;
        }
        self.next = OfPort(port.0.wrapping_add(1));
        self.pop_from(port)
    }

    fn pop_from(&mut self, port: OfPort) -> Option<Vec<u8>> {
        let q = self.by_port.get_mut(&port)?;
        let msg = q.pop_front();
        if q.is_empty() {
            self.by_port.remove(&port);
        }
        self.len -= usize::from(msg.is_some());
        msg
    }

    fn take_token(&mut self, now: Instant) -> bool {
        let cap = u64::from(self.burst) * COST;
        let elapsed = self.filled.map_or(cap, |at| {
            now.saturating_duration_since(at).as_millis() as u64 * u64::from(self.rate)
        });
        if elapsed > 0 {
            self.tokens = (self.tokens + elapsed).min(cap);
            self.filled = Some(now);
        }
        let enough = self.tokens >= COST;
        if enough {
            self.tokens -= COST;
        }
        enough
    }

    pub fn wait(&self, poller: &mut Poller) {
        if self.rate > 0
            && self.len > 0
            && let Some(filled) = self.filled
        {
            let missing = COST.saturating_sub(self.tokens);
            poller
                .wait_until(filled + Duration::from_millis(missing.div_ceil(u64::from(self.rate))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `n` packets from one port go at once.
    fn push(s: &mut Schedule, port: u16, n: usize, now: Instant) -> usize {
        (0..n)
            .filter_map(|_| s.push(OfPort(port), vec![port as u8], now))
            .count()
    }

    /// The ports of the messages that may be sent.
    fn pop(s: &mut Schedule, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| s.pop(now)).map(|m| m[0]).collect()
    }

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let start = ferrovs_runtime::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Rate, burst, and how many of 200 packets go at once, after 100 ms more, and in the end.
        for (rate, burst, at_once, then, all) in [
            (100, 0, 25, 10, 50),
            (100, 40, 40, 10, 80),
            (200, 0, 50, 20, 100),
            (1000, 0, 200, 0, 200),
            (0, 0, 200, 0, 200),
        ] {
            let mut s = Schedule::default();
            s.set_limits(rate, burst);
            let n = push(&mut s, 1, 200, start);
            let n_then = pop(&mut s, at(100)).len();
            let rest: usize = (2..30).map(|i| pop(&mut s, at(i * 100)).len()).sum();
            assert_eq!(
                (n, n_then, n + n_then + rest),
                (at_once, then, all),
                "{rate}"
            );
        }
    }

    #[test]
    fn a_flood_from_one_port_leaves_room_for_others() {
        let mut s = Schedule::default();
        s.set_limits(100, 0);
        let start = ferrovs_runtime::clock::now();
        assert_eq!(push(&mut s, 1, 60, start), 25);
        assert_eq!(push(&mut s, 2, 60, start), 0);
        let later = start + Duration::from_secs(1);
        let sent = pop(&mut s, later);
        let from = |port| sent.iter().filter(|p| **p == port).count();
        assert_eq!((from(1), from(2)), (12, 13));
        // A packet that waited costs a token, too.
        assert_eq!(push(&mut s, 1, 10, later), 0);
        s.set_limits(0, 0);
        assert_eq!(
            (push(&mut s, 1, 10, later), pop(&mut s, later).len()),
            (10, 0)
        );
    }
}
