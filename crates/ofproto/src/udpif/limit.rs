//! How many flows a datapath may hold, and what `upcall/show` tells of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ferrovs_runtime::coverage;
use ferrovs_runtime::vlog::modules::OFPROTO_DPIF_UPCALL;
use ferrovs_runtime::vlog::{self, RateLimit};

/// Where the limit begins.
const FIRST: usize = 10_000;
/// No datapath is held to less.
const LEAST: usize = 1000;

/// The limit, and the numbers that it follows from.
#[derive(Debug)]
pub struct FlowLimit {
    now: AtomicUsize,
    /// How long the last round took.
    pub duration_ms: AtomicU64,
    pub n_flows: AtomicUsize,
    pub max_n_flows: AtomicUsize,
    pub avg_n_flows: AtomicUsize,
}

impl Default for FlowLimit {
    fn default() -> FlowLimit {
        FlowLimit {
            now: AtomicUsize::new(FIRST),
            duration_ms: AtomicU64::new(0),
            n_flows: AtomicUsize::new(0),
            max_n_flows: AtomicUsize::new(0),
            avg_n_flows: AtomicUsize::new(0),
        }
    }
}

impl FlowLimit {
    pub fn get(&self) -> usize {
        self.now.load(Relaxed)
    }

    pub fn set(&self, limit: usize) {
        self.now.store(limit, Relaxed);
    }

    /// Notes how many flows there are as a round begins.
    pub fn begin(&self, n_flows: usize) {
        self.n_flows.store(n_flows, Relaxed);
        self.max_n_flows.fetch_max(n_flows, Relaxed);
        let avg = (self.avg_n_flows.load(Relaxed) + n_flows) / 2;
        self.avg_n_flows.store(avg, Relaxed);
    }

    /// Fits the limit to what one round can look at in a second; `most` is the user's.
    pub fn end(&self, duration: Duration, most: usize) {
        let ms = (duration.as_millis() as u64).max(1);
        self.duration_ms.store(ms, Relaxed);
        if ms > 2000 {
            vlog::info!(
                OFPROTO_DPIF_UPCALL,
                "Spent an unreasonably long {ms}ms dumping flows"
            );
        }
        self.set(next(self.get(), self.n_flows.load(Relaxed), ms, most));
    }
}

/// The limit after a round of so many milliseconds over so many flows.
fn next(limit: usize, n_flows: usize, ms: u64, most: usize) -> usize {
    let fitting = match ms {
        2001.. => {
            coverage::UPCALL_FLOW_LIMIT_SCALED.inc();
            limit / (ms / 1000) as usize
        }
        1301.. => {
            coverage::UPCALL_FLOW_LIMIT_REDUCED.inc();
            limit * 3 / 4
        }
        ..1000 if limit < n_flows.saturating_mul(1000) / ms.max(1) as usize => limit + 1000,
        _ => limit,
    };
    fitting.max(LEAST).min(most)
}

/// Tells that flows are removed whether they are used or not.
pub fn tell_emergency(n_flows: usize, limit: usize) {
    static RL: RateLimit = RateLimit::new(1, 1);
    vlog::warn_rl!(
        RL,
        OFPROTO_DPIF_UPCALL,
        "Number of datapath flows ({n_flows}) twice as high as current dynamic flow limit ({limit}).  \
         Starting to delete flows unconditionally as an emergency measure."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_how_long_a_round_takes() {
        for (limit, n_flows, ms, most, want) in [
            (10_000, 500, 1, 200_000, 11_000),
            (10_000, 9000, 950, 200_000, 10_000),
            (10_000, 10_000, 950, 200_000, 11_000),
            (10_000, 200_000, 1100, 200_000, 10_000),
            (10_000, 200_000, 1400, 200_000, 7500),
            (10_000, 200_000, 4100, 200_000, 2500),
            (1200, 200_000, 9000, 200_000, 1000),
            (200_000, 500_000, 10, 200_000, 200_000),
            (10_000, 0, 1, 500, 500),
            (10_000, 5, 1, 200_000, 10_000),
        ] {
            let got = next(limit, n_flows, ms, most);
            assert_eq!(got, want, "{limit} {n_flows} {ms} {most}");
        }
    }

    #[test]
    fn a_round_is_told() {
        let limit = FlowLimit::default();
        limit.begin(100);
        limit.begin(50);
        limit.end(Duration::from_micros(10), 200_000);
        let told = [&limit.n_flows, &limit.max_n_flows, &limit.avg_n_flows];
        assert_eq!(told.map(|n| n.load(Relaxed)), [50, 100, 50]);
        assert_eq!(limit.duration_ms.load(Relaxed), 1);
        assert_eq!(limit.get(), 11_000);
    }
}
