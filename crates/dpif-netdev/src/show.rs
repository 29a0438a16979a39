//! What the threads tell about themselves.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ferrovs_runtime::clock;
use ferrovs_sys::cycles;

use crate::counters::{Count, INTERVAL, INTERVALS};
use crate::datapath::Datapath;
use crate::perf::Metrics;
use crate::thread::{Message, Thread};
use crate::threads::PATIENCE;

/// Options of a command beyond the datapath and the thread.
#[derive(Debug, Default)]
pub struct Args {
    /// `-secs`.
    pub secs: Option<usize>,
    /// Whether `-pmd` chose a thread.
    pub one_thread: bool,
    /// `-nh`.
    pub no_histograms: bool,
    /// `-it` and `-ms`: how many of the last iterations and milliseconds.
    pub iterations: usize,
    pub milliseconds: usize,
}

fn header(out: &mut String, thread: &Thread) {
    if thread.is_pmd() {
        _ = writeln!(
            out,
            "pmd thread numa_id {} core_id {}:",
            thread.numa, thread.id.0
        );
    } else {
        out.push_str("main thread:\n");
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

pub fn stats(out: &mut String, _: &Datapath, threads: &[Arc<Thread>], _: &Args) {
    for thread in threads {
        header(out, thread);
        let c = |count| thread.counters.since_clear(count);
        let (recv, recirc) = (c(Count::Recv), c(Count::Recirc));
        _ = write!(
            out,
            "  packets received: {recv}\n  packet recirculations: {recirc}\n  \
             avg. datapath passes per packet: {:.2}\n  phwol hits: {}\n  mfex opt hits: 0\n  \
             simple match hits: {}\n  emc hits: {}\n  smc hits: {}\n  megaflow hits: {}\n  \
             avg. subtable lookups per megaflow hit: {:.2}\n  miss with success upcall: {}\n  \
             miss with failed upcall: {}\n  avg. packets per output batch: {:.2}\n",
            ratio(recv + recirc, recv),
            c(Count::MarkHit),
            c(Count::SimpleHit),
            c(Count::EmcHit),
            c(Count::SmcHit),
            c(Count::MegaflowHit),
            ratio(c(Count::MaskLookup), c(Count::MegaflowHit)),
            c(Count::Miss),
            c(Count::Lost),
            ratio(c(Count::SentPackets), c(Count::SentBatches)),
        );
        let (idle, busy) = (c(Count::CyclesIdle), c(Count::CyclesBusy));
        if !thread.is_pmd() || idle + busy == 0 {
            continue;
        }
        let total = idle + busy;
        _ = write!(
            out,
            "  idle cycles: {idle} ({:.2}%)\n  processing cycles: {busy} ({:.2}%)\n",
            ratio(idle, total) * 100.0,
            ratio(busy, total) * 100.0
        );
        if recv > 0 {
            _ = write!(
                out,
                "  avg cycles per packet: {:.2} ({total}/{recv})\n  \
                 avg processing cycles per packet: {:.2} ({busy}/{recv})\n",
                ratio(total, recv),
                ratio(busy, recv)
            );
        }
    }
}

pub fn clear(_: &mut String, _: &Datapath, threads: &[Arc<Thread>], _: &Args) {
    for thread in threads {
        thread.counters.clear();
        thread.post(Message::ClearMetrics);
    }
}

/// A share in percent, of what has been measured; nothing yet means that it is not known.
fn usage(out: &mut String, part: u64, whole: u64) {
    match (part * 100).checked_div(whole) {
        Some(share) => _ = writeln!(out, "{share:2} %"),
        None => out.push_str("NOT AVAIL\n"),
    }
}

pub fn rxqs(out: &mut String, _: &Datapath, threads: &[Arc<Thread>], args: &Args) {
    let secs = INTERVAL.as_secs() as usize;
    let most = secs * INTERVALS;
    let n = match args.secs {
        Some(s) if (1..most).contains(&s) => s.div_ceil(secs),
        _ => INTERVALS,
    };
    if !args.one_thread || threads.iter().any(|t| t.is_pmd()) {
        _ = writeln!(out, "Displaying last {} seconds pmd usage %", n * secs);
    }
    for thread in threads.iter().filter(|t| t.is_pmd()) {
        header(out, thread);
        let rxqs = thread.rxqs.load();
        let isolated = thread.isolated.load(Relaxed);
        _ = writeln!(out, "  isolated : {isolated}");
        let mut list: Vec<_> = rxqs.iter().collect();
        list.sort_by_key(|a| (a.port.name.clone(), a.queue));
        let total = thread.load.of_last(n);
        let mut used = 0;
        for a in list {
            let state = match a.port.netdev.rxq_enabled(a.queue) {
                true => "(enabled) ",
                false => "(disabled)",
            };
            _ = write!(
                out,
                "  port: {:<16}  queue-id: {:2} {state}  pmd usage: ",
                a.port.name, a.queue
            );
            let part = a.load.of_last(n);
            used += part;
            usage(out, part, total);
        }
        if !rxqs.is_empty() {
            let busy = thread.busy.of_last(n);
            out.push_str("  overhead: ");
            usage(out, busy.saturating_sub(used), total);
        }
    }
}

pub fn sleeps(out: &mut String, dp: &Datapath, threads: &[Arc<Thread>], _: &Args) {
    let config = dp.shared.config.load();
    _ = writeln!(out, "Default max sleep: {:4} us", config.pmd_sleep_max);
    for thread in threads.iter().filter(|t| t.is_pmd()) {
        header(out, thread);
        let max = config.sleep_of(thread.id.0);
        _ = writeln!(out, "  max sleep: {max:4} us");
    }
}

fn line(out: &mut String, label: &str, value: u64, rest: std::fmt::Arguments<'_>) {
    _ = writeln!(out, "{label:<22}{value:>12}{rest}");
}

/// `HH:MM:SS.mmm` of now.
fn time_of_day(out: &mut String) {
    let ms = clock::wall_ms().rem_euclid(86_400_000);
    _ = write!(
        out,
        "{:02}:{:02}:{:02}.{:03}",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    );
}

pub fn perf(out: &mut String, _: &Datapath, threads: &[Arc<Thread>], args: &Args) {
    let now = clock::now();
    // The one that does not poll comes last.
    let (polling, others): (Vec<_>, Vec<_>) = threads.iter().partition(|t| t.is_pmd());
    for thread in polling.into_iter().chain(others) {
        let perf = Perf::new(thread, now);
        out.push_str("\nTime: ");
        time_of_day(out);
        _ = write!(out, "\nMeasurement duration: {:.3} s\n\n", perf.seconds);
        header(out, thread);
        out.push('\n');
        if thread.is_pmd() {
            perf.iterations(out);
        }
        perf.received(out);
        perf.sent(out);
        if let Some(metrics) = metrics(thread) {
            write_metrics(out, &metrics, args);
        }
    }
}

/// What the iterations of a thread did, if that is noted.
fn metrics(thread: &Thread) -> Option<Box<Metrics>> {
    let reply = thread.is_pmd().then(|| thread.ask(Message::Metrics))?;
    reply.recv_timeout(PATIENCE).ok()?
}

fn write_metrics(out: &mut String, metrics: &Metrics, args: &Args) {
    if !args.no_histograms {
        out.push('\n');
        metrics.write_histograms(out);
    }
    if args.iterations > 0 {
        out.push('\n');
        metrics.write_iterations(out, args.iterations);
    }
    if args.milliseconds > 0 {
        out.push('\n');
        metrics.write_milliseconds(out, args.milliseconds);
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    ratio(part, whole) * 100.0
}

/// What a polling thread has done since its counters were cleared.
struct Perf<'a> {
    thread: &'a Thread,
    seconds: f64,
    /// Cycles in a second.
    hz: f64,
}

impl Perf<'_> {
    fn new(thread: &Thread, now: Instant) -> Perf<'_> {
        let (since, at_cycles) = thread.counters.cleared();
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let hz = match seconds > 0.0 {
            true => cycles::now().wrapping_sub(at_cycles) as f64 / seconds,
            false => 1.0,
        };
        Perf {
            thread,
            seconds,
            hz,
        }
    }

    fn count(&self, count: Count) -> u64 {
        self.thread.counters.since_clear(count)
    }

    fn us(&self, cycles: f64) -> f64 {
        cycles / self.hz * 1e6
    }

    /// Thousands in a second.
    fn kpps(&self, n: u64) -> f64 {
        match self.seconds > 0.0 {
            true => n as f64 / self.seconds / 1000.0,
            false => 0.0,
        }
    }

    fn iterations(&self, out: &mut String) {
        let (idle, busy) = (self.count(Count::CyclesIdle), self.count(Count::CyclesBusy));
        let idle_it = self.count(Count::IterationsIdle);
        let busy_it = self.count(Count::IterationsBusy);
        let (iterations, used) = (idle_it + busy_it, idle + busy);
        let all = (self.hz * self.seconds) as u64;
        let (sleeps, slept) = (self.count(Count::Sleeps), self.count(Count::SleptUs));
        line(
            out,
            "  Iterations:",
            iterations,
            format_args!("  ({:.2} us/it)", self.us(ratio(used, iterations))),
        );
        for (label, value, part, whole, of) in [
            ("  - Used TSC cycles:", used, used, all, "total cycles"),
            ("  - idle iterations:", idle_it, idle, used, "used cycles"),
            ("  - busy iterations:", busy_it, busy, used, "used cycles"),
            (
                "  - sleep iterations:",
                sleeps,
                sleeps,
                iterations,
                "iterations",
            ),
        ] {
            let share = percent(part, whole);
            line(out, label, value, format_args!("  ({share:5.1} % of {of})"));
        }
        line(
            out,
            "  Sleep time (us):",
            slept,
            format_args!("  ({:3.0} us/iteration avg.)", ratio(slept, sleeps)),
        );
    }

    fn received(&self, out: &mut String) {
        let (recv, recirc) = (self.count(Count::Recv), self.count(Count::Recirc));
        if recv == 0 {
            return line(out, "  Rx packets:", 0, format_args!(""));
        }
        let cycles = ratio(self.count(Count::CyclesBusy), recv);
        line(
            out,
            "  Rx packets:",
            recv,
            format_args!("  ({:.0} Kpps, {cycles:.0} cycles/pkt)", self.kpps(recv)),
        );
        let passes = recv + recirc;
        line(
            out,
            "  Datapath passes:",
            passes,
            format_args!("  ({:.2} passes/pkt)", ratio(passes, recv)),
        );
        for (label, n) in [
            ("  - PHWOL hits:", self.count(Count::MarkHit)),
            ("  - MFEX Opt hits:", 0),
            ("  - Simple Match hits:", self.count(Count::SimpleHit)),
            ("  - EMC hits:", self.count(Count::EmcHit)),
            ("  - SMC hits:", self.count(Count::SmcHit)),
        ] {
            let share = percent(n, passes);
            line(out, label, n, format_args!("  ({share:5.1} %)"));
        }
        let mega = self.count(Count::MegaflowHit);
        line(
            out,
            "  - Megaflow hits:",
            mega,
            format_args!(
                "  ({:5.1} %, {:.2} subtbl lookups/hit)",
                percent(mega, passes),
                ratio(self.count(Count::MaskLookup), mega)
            ),
        );
        let (upcalls, lost) = (self.count(Count::Miss), self.count(Count::Lost));
        let each = ratio(self.count(Count::CyclesUpcall), upcalls);
        line(
            out,
            "  - Upcalls:",
            upcalls,
            format_args!(
                "  ({:5.1} %, {:.1} us/upcall)",
                percent(upcalls, passes),
                self.us(each)
            ),
        );
        let share = percent(lost, passes);
        line(
            out,
            "  - Lost upcalls:",
            lost,
            format_args!("  ({share:5.1} %)"),
        );
    }

    fn sent(&self, out: &mut String) {
        let sent = self.count(Count::SentPackets);
        if sent == 0 {
            line(out, "  Tx packets:", 0, format_args!(""));
            return out.push('\n');
        }
        let batches = self.count(Count::SentBatches);
        line(
            out,
            "  Tx packets:",
            sent,
            format_args!("  ({:.0} Kpps)", self.kpps(sent)),
        );
        line(
            out,
            "  Tx batches:",
            batches,
            format_args!("  ({:.2} pkts/batch)", ratio(sent, batches)),
        );
    }
}
