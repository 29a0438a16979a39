//! What each iteration of a polling thread did, while `pmd-perf-metrics` is on: histograms, the last iterations and the
//! last milliseconds one by one, and the search for iterations that took suspiciously long.
//!
//! The thread owns its [`Metrics`]; whoever wants to show them asks it for a copy.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::PMD_PERF;

/// Bins of a histogram; the last takes all that is beyond its walls.
const BINS: usize = 32;
/// Iterations and milliseconds that are remembered.
pub const HISTORY: usize = 1000;

/// How often values lay between walls: a bin counts what is greater than the wall before it and not greater than its own.
#[derive(Clone, Debug)]
pub struct Histogram {
    walls: [u32; BINS - 1],
    bins: [u64; BINS],
}

impl Histogram {
    /// Walls at equal distances.
    fn linear(min: u32, max: u32) -> Histogram {
        let step = f64::from(max - min) / (BINS - 2) as f64;
        let wall = |i: usize| (f64::from(min) + step * i as f64) as u32;
        Histogram {
            walls: std::array::from_fn(wall),
            bins: [0; BINS],
        }
    }

    /// Walls at equal ratios, each at least one above the last. A minimum of 0 has a wall of its own.
    fn logarithmic(min: u32, max: u32) -> Histogram {
        let mut walls = [0; BINS - 1];
        let first = usize::from(min == 0);
        let (low, high) = (f64::from(min.max(1)).ln(), f64::from(max).ln());
        let steps = (walls.len() - first - 1) as f64;
        let mut least = first as u32;
        for (i, wall) in walls[first..].iter_mut().enumerate() {
            let exact = (low + i as f64 * (high - low) / steps).exp() as u32;
            *wall = exact.max(least);
            least = *wall + 1;
        }
        walls[BINS - 2] = walls[BINS - 2].max(max);
        Histogram {
            walls,
            bins: [0; BINS],
        }
    }

    fn add(&mut self, value: u64) {
        let bin = self.walls.partition_point(|w| u64::from(*w) < value);
        self.bins[bin] += 1;
    }
}

/// What an iteration did, or the iterations of a millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Number of the iteration, or the time in milliseconds.
    pub at: u64,
    pub iterations: u64,
    pub cycles: u64,
    /// Cycles of iterations with packets.
    pub busy: u64,
    pub packets: u64,
    pub batches: u64,
    pub upcalls: u64,
    pub upcall_cycles: u64,
}

impl Work {
    fn add(&mut self, other: &Work) {
        self.iterations += other.iterations;
        self.cycles += other.cycles;
        self.busy += other.busy;
        self.packets += other.packets;
        self.batches += other.batches;
        self.upcalls += other.upcalls;
        self.upcall_cycles += other.upcall_cycles;
    }
}

/// The last so many of something; those that have not been yet are zero.
#[derive(Clone, Debug)]
struct Ring {
    entries: Vec<Work>,
    /// The one that is newest.
    newest: usize,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            entries: vec![Work::default(); HISTORY],
            newest: HISTORY - 1,
        }
    }

    fn push(&mut self, work: Work) {
        self.newest = (self.newest + 1) % HISTORY;
        self.entries[self.newest] = work;
    }

    fn newest_mut(&mut self) -> &mut Work {
        &mut self.entries[self.newest]
    }

    /// The newest first.
    fn last(&self, n: usize) -> impl Iterator<Item = &Work> {
        let at = |i| (self.newest + HISTORY - i) % HISTORY;
        (0..n.min(HISTORY)).map(move |i| &self.entries[at(i)])
    }
}

/// `dpif-netdev/pmd-perf-log-set`: which iterations are told in the log, and how many around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub on: bool,
    pub before: u32,
    pub after: u32,
    /// Another suspicious iteration among those after one makes what is told longer.
    pub extend: bool,
    /// Microseconds from which on an iteration is suspicious.
    pub us: u32,
    /// Packets in the queue of a vhost-user device, likewise.
    pub qlen: u32,
}

impl LogSettings {
    const DEFAULT: LogSettings = LogSettings {
        on: false,
        before: 5,
        after: 5,
        extend: false,
        us: 250,
        qlen: 128,
    };

    /// What follows when the command has these arguments; none if they are wrong.
    fn next(self, args: &[String]) -> Option<LogSettings> {
        let mut next = self;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || args.next()?.parse::<u32>().ok();
            match arg.as_str() {
                "on" => next.on = true,
                "off" => next.on = false,
                "-e" => next.extend = true,
                "-ne" => next.extend = false,
                "-b" => next.before = number()?,
                "-a" => next.after = number()?,
                "-us" => next.us = number()?,
                "-q" => next.qlen = number()?,
                _ => return None,
            }
        }
        // With the iteration itself no more than is remembered beside the one that is being made.
        let room = HISTORY as u32 - 2;
        next.before = next.before.min(room);
        next.after = next.after.min(room - next.before);
        Some(next)
    }
}

static SETTINGS: Mutex<LogSettings> = Mutex::new(LogSettings::DEFAULT);

/// The settings as they are, for all threads of all datapaths.
pub fn log_settings() -> LogSettings {
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over what the command says; false if its arguments are wrong.
pub fn set_log(args: &[String]) -> bool {
    let mut settings = SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(next) = settings.next(args) else {
        return false;
    };
    *settings = next;
    let state = if next.on { "on" } else { "off" };
    let LogSettings {
        before,
        after,
        extend,
        us,
        qlen,
        ..
    } = next;
    vlog::info!(
        PMD_PERF,
        "pmd-perf-log-set: {state}, before={before}, after={after}, extend={extend}, us_thr={us}, q_thr={qlen}"
    );
    true
}

/// Iterations that will be told when the last of them is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: u64,
    last: u64,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Metrics {
    cycles: Histogram,
    packets: Histogram,
    cycles_per_packet: Histogram,
    packets_per_batch: Histogram,
    max_vhost_qlen: Histogram,
    upcalls: Histogram,
    cycles_per_upcall: Histogram,
    total: Work,
    iterations: Ring,
    milliseconds: Ring,
    log: LogSettings,
    window: Option<Window>,
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics {
            cycles: Histogram::logarithmic(500, 24_000_000),
            packets: Histogram::logarithmic(0, 1000),
            cycles_per_packet: Histogram::linear(100, 30_000),
            packets_per_batch: Histogram::linear(0, 32),
            max_vhost_qlen: Histogram::logarithmic(0, 512),
            upcalls: Histogram::linear(0, 30),
            cycles_per_upcall: Histogram::logarithmic(1000, 1_000_000),
            total: Work::default(),
            iterations: Ring::new(),
            milliseconds: Ring::new(),
            log: log_settings(),
            window: None,
        }
    }

    /// Forgets everything but what is to be logged.
    pub fn clear(&mut self) {
        *self = Metrics::new();
    }

    pub fn configure_log(&mut self, log: LogSettings) {
        self.log = log;
    }

    /// A batch was received.
    pub fn batch(&mut self, packets: usize) {
        self.packets_per_batch.add(packets as u64);
    }

    /// An iteration is over, at `now` in milliseconds; the processor makes `hz` cycles a second, where that is known.
    pub fn iteration(&mut self, mut work: Work, now: u64, hz: Option<f64>) {
        work.iterations = 1;
        self.total.add(&work);
        work.at = self.total.iterations;
        self.cycles.add(work.cycles);
        self.packets.add(work.packets);
        if let Some(each) = work.cycles.checked_div(work.packets) {
            self.cycles_per_packet.add(each);
        }
        self.max_vhost_qlen.add(0);
        self.upcalls.add(work.upcalls);
        if let Some(each) = work.upcall_cycles.checked_div(work.upcalls) {
            self.cycles_per_upcall.add(each);
        }
        self.iterations.push(work);
        if self.milliseconds.newest_mut().at != now {
            self.milliseconds.push(Work {
                at: now,
                ..Work::default()
            });
        }
        self.milliseconds.newest_mut().add(&work);
        if self.log.on
            && let Some(hz) = hz
        {
            self.watch(&work, hz);
        }
    }

    /// Tells an iteration that took too long, and what was around such a one.
    fn watch(&mut self, work: &Work, hz: f64) {
        static RL: RateLimit = RateLimit::new(600, 600);
        let limit = f64::from(self.log.us) * hz / 1e6;
        if work.cycles as f64 > limit {
            vlog::warn_rl!(
                RL,
                PMD_PERF,
                "Suspicious iteration (Excessive total cycles): iter={} duration={:.0} us",
                work.at,
                work.cycles as f64 / hz * 1e6
            );
            self.suspect(work.at);
        }
        if let Some(window) = self.window.take_if(|w| w.last <= work.at) {
            let n = (window.last + 1 - window.first) as usize;
            let mut text = String::new();
            iteration_rows(&mut text, self.iterations.last(n));
            vlog::warn_rl!(
                RL,
                PMD_PERF,
                "Neighborhood of suspicious iteration:\n{}",
                text.trim_end_matches('\n')
            );
        }
    }

    /// Notes which iterations around a suspicious one are to be told.
    fn suspect(&mut self, at: u64) {
        let last = at + u64::from(self.log.after);
        match &mut self.window {
            // No more than is remembered.
            Some(window) if self.log.extend => {
                window.last = last.min(window.first + HISTORY as u64 - 2);
            }
            Some(_) => {}
            None => {
                let first = at.saturating_sub(self.log.before.into()).max(1);
                self.window = Some(Window { first, last });
            }
        }
    }

    /// The histograms side by side, and averages.
    pub fn write_histograms(&self, out: &mut String) {
        let columns = [
            ("cycles/it", &self.cycles),
            ("packets/it", &self.packets),
            ("cycles/pkt", &self.cycles_per_packet),
            ("pkts/batch", &self.packets_per_batch),
            ("max vhost qlen", &self.max_vhost_qlen),
            ("upcalls/it", &self.upcalls),
            ("cycles/upcall", &self.cycles_per_upcall),
        ];
        out.push_str("Histograms\n");
        let titles = columns.map(|(title, _)| title.to_owned());
        row(out, &titles);
        for bin in 0..BINS {
            let cell = |h: &Histogram| match h.walls.get(bin) {
                Some(wall) => format!("{wall:<9} {:<11}", h.bins[bin]),
                None => format!("{:<9} {:<11}", ">", h.bins[bin]),
            };
            row(out, &columns.map(|(_, h)| cell(h)));
        }
        out.push_str(&"-".repeat(154));
        out.push('\n');
        let mut titles = titles;
        titles[4] = "vhost qlen".to_owned();
        row(out, &titles);
        let t = &self.total;
        let whole = |a: u64, b: u64| a.checked_div(b).unwrap_or(0).to_string();
        let share =
            |a: u64, b: u64| format!("{:.5}", if b == 0 { 0.0 } else { a as f64 / b as f64 });
        let averages = [
            whole(t.cycles, t.iterations),
            share(t.packets, t.iterations),
            whole(t.busy, t.packets),
            share(t.packets, t.batches),
            share(0, t.iterations),
            share(t.upcalls, t.iterations),
            whole(t.upcall_cycles, t.upcalls),
        ];
        row(out, &averages);
    }

    /// The last iterations, the newest first.
    pub fn write_iterations(&self, out: &mut String, n: usize) {
        iteration_rows(out, self.iterations.last(n));
    }

    /// The last milliseconds, the newest first.
    pub fn write_milliseconds(&self, out: &mut String, n: usize) {
        _ = writeln!(
            out,
            "   {:<12}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}",
            "ms",
            "iterations",
            "cycles/it",
            "Kpps",
            "cycles/pkt",
            "pkts/batch",
            "vhost qlen",
            "upcalls",
            "cycles/upcall"
        );
        for w in self.milliseconds.last(n) {
            let each = |a: u64, b: u64| a.checked_div(b).unwrap_or(0);
            _ = writeln!(
                out,
                "   {:<12}   {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}",
                w.at,
                w.iterations,
                each(w.cycles, w.iterations),
                w.packets,
                each(w.busy, w.packets),
                each(w.packets, w.batches),
                0,
                w.upcalls,
                each(w.upcall_cycles, w.upcalls)
            );
        }
    }
}

fn row(out: &mut String, cells: &[String; 7]) {
    out.push_str("   ");
    for (i, cell) in cells.iter().enumerate() {
        let gap = if i > 0 { "  " } else { "" };
        _ = write!(out, "{gap}{cell:<21}");
    }
    out.push('\n');
}

fn iteration_rows<'a>(out: &mut String, works: impl Iterator<Item = &'a Work>) {
    _ = writeln!(
        out,
        "   {:<17}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}   {:<10}",
        "iter",
        "cycles",
        "packets",
        "cycles/pkt",
        "pkts/batch",
        "vhost qlen",
        "upcalls",
        "cycles/upcall"
    );
    for w in works {
        let each = |a: u64, b: u64| a.checked_div(b).unwrap_or(0);
        _ = writeln!(
            out,
            "   {:<17}   {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}  {:<11}",
            w.at,
            w.cycles,
            w.packets,
            each(w.cycles, w.packets),
            each(w.packets, w.batches),
            0,
            w.upcalls,
            each(w.upcall_cycles, w.upcalls)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_are_those_of_open_vswitch() {
        let walls = Histogram::logarithmic(500, 24_000_000).walls;
        assert_eq!(walls[..4], [499, 716, 1025, 1469]);
        assert_eq!(walls[28..], [11_698_454, 16_755_981, 24_000_000]);
        let walls = Histogram::logarithmic(0, 1000).walls;
        assert_eq!(walls[..4], [0, 1, 2, 3]);
        assert_eq!(walls[10..16], [10, 11, 13, 17, 22, 28]);
        assert_eq!(walls[30], 1000);
        assert_eq!(Histogram::linear(0, 32).walls[13..17], [13, 14, 16, 17]);
        assert_eq!(Histogram::linear(100, 30_000).walls[..3], [100, 1096, 2093]);
    }

    #[test]
    fn a_value_counts_in_the_bin_whose_wall_it_does_not_exceed() {
        let mut h = Histogram::linear(0, 30);
        for value in [0, 1, 1, 30, 31, u64::MAX] {
            h.add(value);
        }
        assert_eq!(h.bins[..3], [1, 2, 0]);
        assert_eq!(h.bins[30..], [1, 2]);
    }

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_keeps_what_it_does_not_name_and_no_more_than_is_remembered() {
        let s = LogSettings::DEFAULT;
        let next = s.next(&args("on -b 10 -a 20 -e")).unwrap();
        let want = LogSettings {
            on: true,
            before: 10,
            after: 20,
            extend: true,
            ..s
        };
        assert_eq!(next, want);
        assert_eq!(next.next(&args("off -us 7 -ne")).unwrap().before, 10);
        let limits = |text| {
            let s = s.next(&args(text)).unwrap();
            (s.before, s.after)
        };
        assert_eq!(limits("-b 2000"), (998, 0));
        assert_eq!(limits("-b 900 -a 99"), (900, 98));
        for wrong in ["x", "-b", "-b -1", "-q 12x", "-us 1000000000000"] {
            assert_eq!(s.next(&args(wrong)), None, "{wrong}");
        }
    }

    fn metrics(text: &str) -> Metrics {
        let mut m = Metrics::new();
        m.configure_log(LogSettings::DEFAULT.next(&args(text)).unwrap());
        m
    }

    /// Iterations of so many microseconds.
    fn run(m: &mut Metrics, us: &[u64]) {
        for us in us {
            let work = Work {
                cycles: us * 1000,
                ..Work::default()
            };
            m.iteration(work, 5, Some(1e9));
        }
    }

    #[test]
    fn what_is_told_ends_after_the_suspicious_iteration_or_the_last_one_of_several() {
        let mut m = metrics("on -us 100 -b 2 -a 3");
        run(&mut m, &[1, 1, 1, 1, 200]);
        assert_eq!(m.window, Some(Window { first: 3, last: 8 }));
        run(&mut m, &[300, 1]);
        assert_eq!(m.window, Some(Window { first: 3, last: 8 }));
        run(&mut m, &[1]);
        assert_eq!(m.window, None);
        let mut m = metrics("on -us 100 -b 2 -a 3 -e");
        run(&mut m, &[200, 1, 101]);
        assert_eq!(m.window, Some(Window { first: 1, last: 6 }));
    }

    #[test]
    fn rows_are_the_newest_first_and_milliseconds_are_sums() {
        let mut m = metrics("off");
        for (i, now) in [7, 7, 9].into_iter().enumerate() {
            let work = Work {
                cycles: 1000,
                busy: 1000,
                packets: i as u64,
                batches: 1,
                ..Work::default()
            };
            m.iteration(work, now, None);
        }
        let (mut iterations, mut milliseconds) = (String::new(), String::new());
        m.write_iterations(&mut iterations, 4);
        m.write_milliseconds(&mut milliseconds, 2);
        let columns = |text: &str| -> Vec<Vec<u64>> {
            let row = |l: &str| l.split_whitespace().map(|n| n.parse().unwrap()).collect();
            text.lines().skip(1).map(row).collect()
        };
        let want = [
            [3, 1000, 2, 500, 2, 0, 0, 0],
            [2, 1000, 1, 1000, 1, 0, 0, 0],
            [1, 1000, 0, 0, 0, 0, 0, 0],
            [0; 8],
        ];
        assert_eq!(columns(&iterations), want);
        let want = [
            [9, 1, 1000, 2, 500, 2, 0, 0, 0],
            [7, 2, 1000, 1, 2000, 0, 0, 0, 0],
        ];
        assert_eq!(columns(&milliseconds), want);
    }
}
