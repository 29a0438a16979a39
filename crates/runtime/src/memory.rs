//! `memory/show`: how many of each kind of thing the program holds.
//!
//! Components add to a [`Usage`]; equal names add up. Growth of the process is logged, at first
//! every ten seconds, together with the same numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::clock;
use crate::unixctl::{Commands, Output};
use crate::vlog;
use crate::vlog::modules::MEMORY;

/// Counts by kind.
#[derive(Debug, Default, Clone)]
pub struct Usage(BTreeMap<String, u64>);

impl Usage {
    /// Nothing counted yet.
    pub fn new() -> Usage {
        Usage::default()
    }

    /// Adds `n` things of kind `name`.
    pub fn add(&mut self, name: &str, n: u64) {
        *self.0.entry(name.to_string()).or_default() += n;
    }

    fn text(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        parts.join(" ")
    }
}

/// Watches the process grow.
#[derive(Debug)]
pub struct Monitor {
    start: Instant,
    next: Instant,
    reported_kb: i64,
    wanted: bool,
}

const INTERVAL: Duration = Duration::from_secs(10);

impl Default for Monitor {
    fn default() -> Monitor {
        Monitor::new()
    }
}

impl Monitor {
    /// Starts watching.
    pub fn new() -> Monitor {
        // A daemon that its monitor started again goes on with the time of the first.
        let start = clock::boot();
        Monitor {
            start,
            next: start + INTERVAL,
            reported_kb: 0,
            wanted: false,
        }
    }

    /// Checks the size when it is due; returns whether the caller should [`Monitor::report`].
    pub fn run(&mut self) -> bool {
        let now = clock::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            let kb = ferrovs_sys::process::process_usage().max_rss_kb;
            let secs = now.saturating_duration_since(self.start).as_secs_f64();
            if self.reported_kb == 0 {
                vlog::info!(
                    MEMORY,
                    "{kb} kB peak resident set size after {secs:.1} seconds"
                );
                self.reported_kb = kb;
                self.wanted = true;
            } else if kb > self.reported_kb + self.reported_kb / 2 {
                vlog::info!(
                    MEMORY,
                    "peak resident set size grew {:.0}% in last {secs:.1} seconds, from {} kB to {kb} kB",
                    (kb as f64 / self.reported_kb as f64 - 1.0) * 100.0,
                    self.reported_kb
                );
                self.start = now;
                self.reported_kb = kb;
                self.wanted = true;
            }
        }
        std::mem::take(&mut self.wanted)
    }

    /// Logs what the program holds.
    pub fn report(&self, usage: &Usage) {
        let text = usage.text();
        if !text.is_empty() {
            vlog::info!(MEMORY, "{text}");
        }
    }

    /// Asks to be run when the next check is due.
    pub fn wait(&self, poller: &mut crate::Poller) {
        poller.wait_until(self.next);
    }
}

/// Registers `memory/show`; `usage` counts what the application holds.
pub fn register<S: 'static>(
    commands: &mut Commands<S>,
    usage: impl Fn(&mut S, &mut Usage) + 'static,
) {
    commands.register("memory/show", "", 0, 0, move |s, _| {
        let mut u = Usage::new();
        usage(s, &mut u);
        Ok(Output::Text(u.text()))
    });
}
