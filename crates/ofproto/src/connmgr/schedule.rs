//! The limit on packet-ins to one controller: a token bucket with one queue for each kind (no match, action),
//! each bounded; when a queue is full the port whose packets fill it most loses one.
//!
//! Without a limit packets are sent at once, as long as the peer keeps up.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ferrovs_packet::types::OfPort;
use ferrovs_runtime::Poller;

const DEFAULT_QUEUE: u32 = 512;

#[derive(Debug, Default)]
struct Queue {
    by_port: BTreeMap<OfPort, VecDeque<Vec<u8>>>,
    len: usize,
    /// The port that is served next.
    next: OfPort,
}

impl Queue {
    fn push(&mut self, port: OfPort, msg: Vec<u8>, max: usize) {
        if self.len >= max {
            // The first of the longest queues loses its oldest packet.
            let longest = self
                .by_port
                .iter()
                .max_by_key(|(_, q)| q.len())
                .map(|(p, _)| *p);
            if let Some(port) = longest {
                self.pop_from(port);
            }
        }
        self.by_port.entry(port).or_default().push_back(msg);
        self.len += 1;
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

    /// Ports take turns.
    fn pop(&mut self) -> Option<Vec<u8>> {
        let after = self
            .by_port
            .range(self.next..)
            .next()
            .or_else(|| self.by_port.iter().next());
        let port = *after?.0;
        self.next = OfPort(port.0.wrapping_add(1));
        self.pop_from(port)
    }
}

#[derive(Debug, Default)]
pub struct Schedule {
    rate: u32,
    burst: u32,
    max_queue: u32,
    /// Thousandths of a packet.
    tokens: u64,
    filled: Option<Instant>,
    queues: [Queue; 2],
    turn: usize,
}

impl Schedule {
    pub fn set_limits(&mut self, rate: u32, burst: u32, max_queue: u32) {
        self.rate = rate;
        self.burst = if burst == 0 { rate / 4 } else { burst }.max(1);
        self.max_queue = if max_queue == 0 {
            DEFAULT_QUEUE
        } else {
            max_queue
        };
    }

    pub fn is_limited(&self) -> bool {
        self.rate > 0
    }

    pub fn clear(&mut self) {
        self.queues = Default::default();
        self.filled = None;
    }

    /// Queues a message about a packet that came in through `port`.
    pub fn push(&mut self, miss: bool, port: OfPort, msg: Vec<u8>) {
        let max = self.max_queue as usize;
        self.queues[usize::from(!miss)].push(port, msg, max);
    }

    /// The next message that may be sent now.
    pub fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.queues.iter().all(|q| q.len == 0) {
            return None;
        }
        let cap = u64::from(self.burst) * 1000;
        let elapsed = self.filled.map_or(cap, |at| {
            now.saturating_duration_since(at).as_millis() as u64 * u64::from(self.rate)
        });
        if elapsed > 0 {
            self.tokens = (self.tokens + elapsed).min(cap);
            self.filled = Some(now);
        }
        if self.tokens < 1000 {
            return None;
        }
        self.tokens -= 1000;
        self.turn ^= 1;
        let turn = self.turn;
        self.queues[turn]
            .pop()
            .or_else(|| self.queues[turn ^ 1].pop())
    }

    pub fn wait(&self, poller: &mut Poller) {
        if self.rate > 0
            && self.queues.iter().any(|q| q.len > 0)
            && let Some(filled) = self.filled
        {
            let missing = 1000u64.saturating_sub(self.tokens);
            poller
                .wait_until(filled + Duration::from_millis(missing.div_ceil(u64::from(self.rate))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut s = Schedule::default();
        s.set_limits(100, 25, 0);
        let start = ferrovs_runtime::clock::now();
        (0..100).for_each(|i| s.push(true, OfPort(i % 3), vec![i as u8]));
        let burst = std::iter::from_fn(|| s.pop(start)).count();
        let later = start + Duration::from_millis(100);
        let rest = std::iter::from_fn(|| s.pop(later)).count();
        assert_eq!((burst, rest), (25, 10));
    }

    #[test]
    fn a_flood_from_one_port_leaves_room_for_others() {
        let mut s = Schedule::default();
        s.set_limits(100, 100, 10);
        let start = ferrovs_runtime::clock::now();
        s.push(false, OfPort(2), vec![2]);
        (0..100).for_each(|_| s.push(false, OfPort(1), vec![1]));
        let sent: Vec<_> = std::iter::from_fn(|| s.pop(start)).collect();
        assert!(sent.len() == 10 && sent.contains(&vec![2]));
    }
}
