//! The share of a thread's time that upcalls have.
//!
//! An upcall takes as long as a hundred packets of known flows. Who sends packets of ever new flows would so take the
//! thread from everybody else whose packets it handles. While packets of known flows wait, upcalls have a sixteenth of
//! the time, in equal parts for the queues that need them; packets beyond that are lost. While none wait, they have all
//! the time that they need.

/// Cycles in which times are compared, about a millisecond.
const WINDOW: u64 = 1 << 21;
/// Upcalls have one cycle in so many while packets wait.
const PART: u64 = 16;
/// Cycles that an upcall is charged at most, half of that part of a window: one that takes longer has been waiting, for a
/// processor or a lock, and those that come next are not to pay for that.
const DEAREST: u64 = WINDOW / PART / 2;

/// What the thread remembers.
#[derive(Debug, Default)]
pub struct Share {
    /// Number of the window, as [`cycles`](ferrovs_sys::cycles) count.
    window: u64,
    /// Queues that have needed upcalls in it, and those that had in the one before.
    asking: u64,
    asked: u64,
    /// The last window in which packets of known flows waited.
    crowded: Option<u64>,
}

/// What it remembers of a queue.
#[derive(Debug, Default)]
pub struct Debt {
    /// When it was up to date.
    window: u64,
    /// Cycles that the queue's upcalls took beyond their part.
    cycles: u64,
}

impl Share {
    fn go_to(&mut self, now: u64) -> u64 {
        let window = now / WINDOW;
        if window != self.window {
            let next = window == self.window.wrapping_add(1);
            self.asked = if next { self.asking } else { 0 };
            (self.window, self.asking) = (window, 0);
        }
        window
    }

    /// As many packets of a queue as may be in one turn were handled at `now`, so many of them without an upcall: more
    /// wait.
    pub fn more_wait(&mut self, now: u64, packets: usize, hits: usize) {
        if hits * 4 >= packets {
            self.crowded = Some(self.go_to(now));
        }
    }

    /// Whether a packet of the queue may have an upcall now.
    pub fn allows(&mut self, debt: &mut Debt, now: u64) -> bool {
        let window = self.go_to(now);
        let since = window.wrapping_sub(debt.window);
        if since != 0 {
            self.asking += 1;
        }
        let crowded = self.crowded.is_some_and(|c| window.wrapping_sub(c) <= 1);
        let part = WINDOW / PART / self.asked.max(self.asking).max(1);
        debt.cycles = match crowded {
            true => debt.cycles.saturating_sub(part.saturating_mul(since)),
            false => 0,
        };
        debt.window = window;
        debt.cycles < part
    }
}

impl Debt {
    /// An upcall took so many cycles.
    pub fn add(&mut self, cycles: u64) {
        self.cycles = self.cycles.saturating_add(cycles.min(DEAREST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPCALL: u64 = 15_000;

    /// Upcalls of each queue in a second's windows, when each wants so many in a window.
    fn run(crowded: bool, wanted: &[u64]) -> Vec<u64> {
        let mut share = Share::default();
        let mut queues: Vec<_> = wanted.iter().map(|w| (*w, Debt::default(), 0)).collect();
        for window in 7..1007 {
            let start = window * WINDOW;
            if crowded {
                share.more_wait(start, 128, 100);
            }
            for step in 0..wanted.iter().copied().max().unwrap() {
                let now = start + step;
                for (wanted, debt, n) in &mut queues {
                    if step < *wanted && share.allows(debt, now) {
                        debt.add(UPCALL);
                        *n += 1;
                    }
                }
            }
        }
        queues.into_iter().map(|q| q.2).collect()
    }

    #[test]
    fn upcalls_have_their_part_while_packets_wait() {
        assert_eq!(run(false, &[100, 3]), [100_000, 3_000]);
        let all = 1000 * WINDOW / PART / UPCALL;
        let alone = run(true, &[100])[0];
        assert!(alone.abs_diff(all) <= all / 100, "{alone} of {all}");
        // Who needs little has it; a flood beside it has no more than its part.
        let [flood, little] = run(true, &[100, 3])[..] else {
            panic!()
        };
        assert_eq!(little, 3_000);
        assert!(flood.abs_diff(all / 2) <= all / 50, "{flood} of {all}");
        // The parts of many queues are smaller than an upcall.
        let many = run(true, &[50; 64]);
        let sum: u64 = many.iter().sum();
        assert!(
            sum <= all + all / 20 && sum >= all - all / 5,
            "{sum} of {all}"
        );
        assert!(many.iter().all(|n| n.abs_diff(many[0]) <= 2), "{many:?}");
    }

    #[test]
    fn an_upcall_that_had_to_wait_does_not_stop_the_next() {
        let (mut share, mut debt) = (Share::default(), Debt::default());
        let now = 50 * WINDOW;
        share.more_wait(now, 128, 128);
        assert!(share.allows(&mut debt, now));
        debt.add(100 * WINDOW);
        assert!(share.allows(&mut debt, now + 100));
    }

    #[test]
    fn only_packets_of_known_flows_are_protected() {
        let (mut share, mut debt) = (Share::default(), Debt::default());
        let now = 50 * WINDOW;
        // New flows alone fill a queue.
        share.more_wait(now, 128, 3);
        assert!((0..1000).all(|_| {
            debt.add(UPCALL);
            share.allows(&mut debt, now)
        }));
        share.more_wait(now, 128, 90);
        (0..9).for_each(|_| debt.add(UPCALL));
        assert!(!share.allows(&mut debt, now));
        // Until a while after they waited last.
        assert!(share.allows(&mut debt, now + 2 * WINDOW));
    }
}
