//! The loop of a datapath thread.
//!
//! A thread for ports that are not polled sleeps in epoll(7) until a queue has packets or its mailbox has
//! messages; a polling thread goes around its queues without sleeping. Both handle a batch completely, transmit
//! included, before they look at the next.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::Execute;
use ferrovs_packet::buffer::{self, BATCH, Batch};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{clock, coverage, vlog};
use ferrovs_sys::cycles;

use crate::counters::{Count, INTERVAL};
use crate::drops::Reason;
use crate::lookup::{Lookup, Scratch};
use crate::perf::{self, Metrics, Work};
use crate::random::Random;
use crate::rx::RxSet;
use crate::share::Share;
use crate::shared::Shared;
use crate::thread::{Message, Thread};
use crate::tx::TxSet;

/// Passes over the queues that quiescing makes at most, lest traffic keep it for ever.
const QUIESCE_PASSES: usize = 256;
/// How often masks are ranked.
const RANK_EVERY: Duration = Duration::from_secs(1);
/// Batches that are taken from one queue before the next has its turn.
const BATCHES_PER_QUEUE: usize = 4;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub me: Arc<Thread>,
    pub rx: RxSet,
    /// The queue whose packets are being handled, and those of them that needed upcalls.
    pub serving: Option<usize>,
    pub missed: usize,
    pub share: Share,
    pub tx: TxSet,
    pub lookup: Lookup,
    pub scratch: Vec<Box<Scratch>>,
    pub now: Instant,
    pub random: Random,
    /// `emc-insert-inv-prob` and `smc-enable`, as last looked at.
    pub emc_inverse: u32,
    pub smc: bool,
    ranked: Instant,
    turned: Instant,
    /// How long to sleep next, when there is little to do: `pmd-sleep-max`.
    nap_us: u64,
    nap_max: u64,
    /// What each iteration did, while `pmd-perf-metrics` is on.
    pub metrics: Option<Box<Metrics>>,
    /// The clock and the counter of cycles at the beginning, and the cycles in a second since then.
    began: (Instant, u64),
    hz: Option<f64>,
    /// Counters after the iteration that was noted last.
    noted: Work,
    exit: bool,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, me: Arc<Thread>) -> std::io::Result<Worker> {
        let now = clock::now();
        Ok(Worker {
            shared,
            random: Random::default(),
            rx: RxSet::new(&me.waker)?,
            serving: None,
            missed: 0,
            share: Share::default(),
            tx: TxSet::new(me.clone()),
            me,
            lookup: Lookup::default(),
            scratch: Vec::new(),
            now,
            emc_inverse: 0,
            smc: false,
            ranked: now,
            turned: now,
            nap_us: 0,
            nap_max: 0,
            metrics: None,
            began: (now, cycles::now()),
            hz: None,
            noted: Work::default(),
            exit: false,
        })
    }

    pub fn run(mut self) {
        if self.me.is_pmd() {
            vlog::set_thread_name(&format!("pmd-c{:02}/id:", self.me.id.0));
            // A core that is not there or not allowed leaves the thread where it may run.
            _ = ferrovs_sys::affinity::set_current(&[self.me.id.0]);
            self.run_polling();
        } else {
            // In the log it is as if the main thread did it, which does in Open vSwitch.
            ferrovs_sys::process::set_thread_name("dp");
            self.run_sleeping();
        }
    }

    fn run_polling(&mut self) {
        let mut spins = 0u32;
        let mut start = cycles::now();
        while !self.exit {
            if self.me.has_mail() {
                self.mail();
                start = cycles::now();
                continue;
            }
            // The clock is read often enough for statistics, and whenever there is work.
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(64) {
                self.now = clock::now();
                self.housekeeping();
            }
            let (mut n, mut most) = (0, 0);
            for slot in self.rx.slots() {
                let got = self.receive(slot);
                n += got;
                most = most.max(got);
            }
            if self.tx.due().is_some() {
                self.now = clock::now();
                self.tx.flush_due(self.now);
            }
            let end = cycles::now();
            let took = end.wrapping_sub(start);
            self.count_iteration(n, took);
            self.note_iteration(n, took);
            start = end;
            if self.rx.is_empty() {
                self.sleep(&mut Vec::new());
                start = cycles::now();
            } else {
                if n == 0 {
                    std::hint::spin_loop();
                }
                self.maybe_nap(most);
            }
        }
    }

    fn count_iteration(&self, packets: usize, cycles: u64) {
        let c = &self.me.counters;
        self.me.load.add(cycles);
        if packets > 0 {
            self.me.busy.add(cycles);
            c.add(Count::CyclesBusy, cycles);
            c.add(Count::IterationsBusy, 1);
        } else {
            c.add(Count::CyclesIdle, cycles);
            c.add(Count::IterationsIdle, 1);
        }
    }

    /// Notes what an iteration did.
    fn note_iteration(&mut self, packets: usize, cycles: u64) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        let now = counted(&self.me);
        let work = Work {
            cycles,
            busy: if packets > 0 { cycles } else { 0 },
            packets: packets as u64,
            batches: now.batches.wrapping_sub(self.noted.batches),
            upcalls: now.upcalls.wrapping_sub(self.noted.upcalls),
            upcall_cycles: now.upcall_cycles.wrapping_sub(self.noted.upcall_cycles),
            ..Work::default()
        };
        self.noted = now;
        let ms = self
            .now
            .saturating_duration_since(clock::boot())
            .as_millis();
        metrics.iteration(work, ms as u64, self.hz);
    }

    /// Sleeps a little longer each time that no queue had half a batch, up to `pmd-sleep-max`.
    fn maybe_nap(&mut self, most: usize) {
        if most >= BATCH / 2 {
            self.nap_us = 0;
            return;
        }
        let max = self.nap_max;
        if max == 0 {
            return;
        }
        self.nap_us = (self.nap_us + 1).min(max);
        self.tx.flush();
        std::thread::sleep(Duration::from_micros(self.nap_us));
        self.me.counters.add(Count::Sleeps, 1);
        self.me.counters.add(Count::SleptUs, self.nap_us);
        self.now = clock::now();
    }

    fn run_sleeping(&mut self) {
        let mut ready: Vec<usize> = Vec::new();
        while !self.exit {
            if self.me.has_mail() {
                self.now = clock::now();
                self.mail();
                // Messages may have ended the thread.
                continue;
            }
            let start = cycles::now();
            let mut n = 0;
            if !ready.is_empty() {
                self.now = clock::now();
                // A slot that was emptied meanwhile, or is another's now, has nothing.
                for slot in ready.drain(..) {
                    n += self.receive(slot);
                }
                self.housekeeping();
                self.count_iteration(n, cycles::now().wrapping_sub(start));
            }
            if self.tx.due().is_some() {
                self.now = clock::now();
                self.tx.flush_due(self.now);
            }
            self.now = clock::now();
            self.sleep(&mut ready);
        }
    }

    /// Sleeps until a queue or the mailbox has something; tells the slots of the queues that have.
    fn sleep(&mut self, ready: &mut Vec<usize>) {
        // Packets that wait for others to be sent with may wait so long, and connections to be forgotten.
        let swept = self.shared.conntrack.sweep(self.now);
        let due = match (self.tx.due(), swept) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let left = |at: Instant| at.saturating_duration_since(self.now);
        self.rx.wait(due.map(left), ready);
    }

    fn mail(&mut self) {
        let mut waiting: Vec<SyncSender<()>> = Vec::new();
        let (mut serve, mut quiesce) = (false, false);
        for message in self.me.take_mail() {
            match message {
                Message::Insert(flow) => {
                    if !flow.is_dead() {
                        self.lookup.adopt(&flow);
                    }
                }
                Message::Remove(flow) => self.lookup.remove(&flow),
                Message::Execute(execute) => self.execute_message(*execute),
                Message::Configure => self.configure(),
                Message::PortAdded(port) => {
                    self.tx.add(&port);
                    if !self.me.is_pmd() && !port.netdev.is_pmd() {
                        for queue in 0..port.netdev.layout().n_rxq {
                            self.rx.open(&port, queue, port.load(queue));
                        }
                    }
                }
                Message::PortGone(port) => {
                    for queue in 0..port.netdev.layout().n_rxq {
                        self.rx.close(&port, queue);
                    }
                    self.tx.remove(&port);
                }
                Message::Serve => serve = true,
                Message::Barrier(done) => waiting.push(done),
                Message::Quiesce(done) => {
                    waiting.push(done);
                    quiesce = true;
                }
                Message::Metrics(reply) => {
                    // Who asked may have given up.
                    _ = reply.try_send(self.metrics.clone());
                }
                Message::ClearMetrics => {
                    if let Some(metrics) = &mut self.metrics {
                        metrics.clear();
                    }
                }
                Message::Exit => self.exit = true,
            }
        }
        if serve {
            // The list is that of the last message, or of one that is yet to come.
            let assigned = self.me.rxqs.load_full();
            self.rx.serve(&assigned);
        }
        self.tx.flush();
        if quiesce {
            self.quiesce();
        }
        for done in waiting {
            // Who asked may have given up.
            _ = done.try_send(());
        }
    }

    /// Handles what waits in the queues.
    fn quiesce(&mut self) {
        let mut ready = Vec::new();
        for _ in 0..QUIESCE_PASSES {
            let start = cycles::now();
            if self.me.is_pmd() {
                ready.extend(self.rx.slots());
            } else {
                self.rx.wait(Some(Duration::ZERO), &mut ready);
            }
            // A queue may be ready without a packet, for its device has failed.
            let n: usize = ready.drain(..).map(|slot| self.receive(slot)).sum();
            if n == 0 {
                break;
            }
            self.count_iteration(n, cycles::now().wrapping_sub(start));
        }
        self.tx.flush();
    }

    fn execute_message(&mut self, execute: Execute) {
        let actions = execute.actions.clone();
        let mut batch = Batch::new();
        batch.push(execute.into_packet());
        self.me.counters.add(Count::Executed, 1);
        self.execute(&mut batch, &actions, 0);
    }

    /// Takes over what the thread looks at for every packet.
    fn configure(&mut self) {
        let config = self.shared.config.load();
        self.emc_inverse = config.emc_inverse;
        self.smc = config.smc;
        self.tx.interval = Duration::from_micros(config.tx_flush_interval);
        self.nap_max = config.sleep_of(self.me.id.0);
        match &mut self.metrics {
            Some(metrics) if config.pmd_perf_metrics => metrics.configure_log(perf::log_settings()),
            _ => {
                self.metrics = config.pmd_perf_metrics.then(|| Box::new(Metrics::new()));
                self.noted = counted(&self.me);
            }
        }
    }

    /// Handles some batches of a queue; returns the number of packets.
    fn receive(&mut self, slot: usize) -> usize {
        let (mut total, mut more) = (0, true);
        (self.serving, self.missed) = (Some(slot), 0);
        for _ in 0..BATCHES_PER_QUEUE {
            let mut batch = Batch::new();
            more = false;
            let Some(q) = self.rx.get_mut(slot) else {
                break;
            };
            let n = match q.rxq.recv(&mut batch) {
                Ok(n) => n,
                Err(error) => {
                    self.failed(slot, &error);
                    break;
                }
            };
            if n == 0 {
                break;
            }
            let number = q.port.number;
            let emc = q.port.emc_enabled();
            for packet in &mut batch {
                packet.md.in_port = number;
            }
            let start = cycles::now();
            self.me.counters.add(Count::Recv, n as u64);
            self.me.counters.add(Count::RecvBatches, 1);
            if let Some(metrics) = &mut self.metrics {
                metrics.batch(n);
            }
            coverage::NETDEV_RECEIVED.inc();
            total += n;
            more = batch.is_full();
            self.received(&mut batch, number, emc);
            self.tx.batch_done(self.now);
            let took = cycles::now().wrapping_sub(start);
            if let Some(q) = self.rx.get_mut(slot) {
                q.load.add(took);
            }
            if !more {
                break;
            }
        }
        self.serving = None;
        if more {
            let hits = total.saturating_sub(self.missed);
            self.share.more_wait(cycles::now(), total, hits);
        }
        total
    }

    /// Counts packets that are dropped on their way from, or to, a port.
    pub fn count_drops(&self, reason: Reason, port: DpPort, n: usize) {
        if n == 0 {
            return;
        }
        let port = self.tx.port(port).map(|p| &p.drops.tally);
        port.unwrap_or(&self.shared.drops.others)
            .add(reason, n as u64);
    }

    /// Drops the packets of a batch, which came from one port.
    pub fn drop_all(&self, reason: Reason, batch: &mut Batch) {
        let port = batch.first().map_or(DpPort::NONE, |p| p.md.in_port);
        self.count_drops(reason, port, batch.len());
        buffer::free(batch);
    }

    /// A queue whose device is gone would keep the thread awake for ever: it is not waited for any more, unless the
    /// device is only down.
    fn failed(&mut self, slot: usize, error: &std::io::Error) {
        const ENETDOWN: i32 = 100;
        static RL: RateLimit = RateLimit::new(60, 5);
        if let Some(q) = self.rx.get_mut(slot) {
            vlog::err_rl!(
                RL,
                DPIF_NETDEV,
                "error receiving data from {}: {}",
                q.port.name,
                ferrovs_runtime::text::errno(error)
            );
            if error.raw_os_error() != Some(ENETDOWN) {
                self.rx.give_up(slot);
            }
        }
    }

    fn housekeeping(&mut self) {
        if self.now.saturating_duration_since(self.turned) >= INTERVAL {
            self.turned = self.now;
            self.me.load.turn();
            self.me.busy.turn();
            self.rx.iter().for_each(|q| q.load.turn());
        }
        if self.now.saturating_duration_since(self.ranked) >= RANK_EVERY {
            self.ranked = self.now;
            self.lookup.rank();
            let (at, count) = self.began;
            let seconds = self.now.saturating_duration_since(at).as_secs_f64();
            self.hz = Some(cycles::now().wrapping_sub(count) as f64 / seconds);
        }
        if self.me.is_pmd() {
            // The others do it before they sleep.
            self.shared.conntrack.sweep(self.now);
        }
    }
}

/// What a thread has counted so far of what is told by the iteration.
fn counted(thread: &Thread) -> Work {
    let total = |count| thread.counters.total(count);
    Work {
        batches: total(Count::RecvBatches),
        upcalls: total(Count::Miss),
        upcall_cycles: total(Count::CyclesUpcall),
        ..Work::default()
    }
}
