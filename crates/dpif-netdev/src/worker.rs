//! The loop of a datapath thread.
//!
//! A thread for ports that are not polled sleeps in epoll(7) until a queue has packets or its mailbox has
//! messages; a polling thread goes around its queues without sleeping. Both handle a batch completely, transmit
//! included, before they look at the next.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::Execute;
use ferrovs_netdev::Rxq;
use ferrovs_packet::buffer::{BATCH, Batch};
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{clock, coverage, vlog};
use ferrovs_sys::cycles;
use hashbrown::HashMap;
use rustix::event::epoll;

use crate::counters::{Count, INTERVAL, Load};
use crate::datapath::Datapath;
use crate::lookup::{Keys, Lookup};
use crate::port::Port;
use crate::random::Random;
use crate::thread::{Message, Thread};
use crate::tx::TxSet;

/// An open receive queue.
struct Queue {
    port: Arc<Port>,
    queue: usize,
    rxq: Box<dyn Rxq>,
    load: Arc<Load>,
}

/// Passes over all queues that a barrier makes at most, lest traffic keep it for ever.
const BARRIER_PASSES: usize = 256;
/// How often masks are ranked.
const RANK_EVERY: Duration = Duration::from_secs(1);
/// Batches that are taken from one queue before the next has its turn.
const BATCHES_PER_QUEUE: usize = 4;

pub struct Worker {
    pub dp: Arc<Datapath>,
    pub me: Arc<Thread>,
    queues: Vec<Queue>,
    pub tx: TxSet,
    pub lookup: Lookup,
    pub keys: Vec<Box<Keys>>,
    pub now: Instant,
    pub random: Random,
    epoll: Option<rustix::fd::OwnedFd>,
    ranked: Instant,
    turned: Instant,
    /// How long to sleep next, when there is little to do: `pmd-sleep-max`.
    nap_us: u64,
    nap_max: u64,
    exit: bool,
}

impl Worker {
    pub fn new(dp: Arc<Datapath>, me: Arc<Thread>) -> std::io::Result<Worker> {
        let now = clock::now();
        Ok(Worker {
            dp,
            random: Random::default(),
            tx: TxSet::new(me.clone()),
            me,
            queues: Vec::new(),
            lookup: Lookup::default(),
            keys: Vec::new(),
            now,
            epoll: None,
            ranked: now,
            turned: now,
            nap_us: 0,
            nap_max: 0,
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
                continue;
            }
            // The clock is read often enough for statistics, and whenever there is work.
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(64) {
                self.now = clock::now();
                self.housekeeping();
            }
            let (mut n, mut most) = (0, 0);
            for i in 0..self.queues.len() {
                let got = self.receive(i);
                n += got;
                most = most.max(got);
            }
            if self.tx.due().is_some() {
                self.now = clock::now();
                self.tx.flush_due(self.now);
            }
            let end = cycles::now();
            self.count_iteration(n, end.wrapping_sub(start));
            start = end;
            if self.queues.is_empty() {
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
                for i in ready.drain(..) {
                    // A reload may have shortened the list; epoll says again what is ready.
                    if i < self.queues.len() {
                        n += self.receive(i);
                    }
                }
                self.housekeeping();
                self.count_iteration(n, cycles::now().wrapping_sub(start));
            }
            if self.tx.due().is_some() {
                self.now = clock::now();
                self.tx.flush_due(self.now);
            }
            self.sleep(&mut ready);
        }
    }

    /// Sleeps until a queue or the mailbox has something; tells which queues have.
    fn sleep(&mut self, ready: &mut Vec<usize>) {
        let Some(epoll) = &self.epoll else {
            // Without epoll there is nothing to wait for but messages, which reload tries again.
            std::thread::sleep(Duration::from_millis(10));
            ready.extend(0..self.queues.len());
            return;
        };
        let mut events: [std::mem::MaybeUninit<epoll::Event>; 64] =
            [const { std::mem::MaybeUninit::uninit() }; 64];
        // Packets that wait for others to be sent with may wait so long.
        let timeout = self.tx.due().map(|at| {
            let left = at.saturating_duration_since(self.now);
            rustix::time::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        // An error is an interrupted call.
        if let Ok((events, _)) = epoll::wait(epoll, &mut events, timeout.as_ref()) {
            for event in events.iter() {
                let data = event.data.u64();
                if data != u64::MAX {
                    ready.push(data as usize);
                }
            }
        }
    }

    fn mail(&mut self) {
        let mut barriers: Vec<SyncSender<()>> = Vec::new();
        let mut reloaded = false;
        for message in self.me.take_mail() {
            match message {
                Message::Insert(flow) => {
                    if !flow.is_dead() {
                        self.lookup.adopt(flow);
                    }
                }
                Message::Remove(flow) => self.lookup.remove(&flow),
                Message::Execute(execute) => self.execute_message(*execute),
                // The first sees what all that wait here were sent for.
                Message::Configure => self.configure(),
                Message::Reload if reloaded => {}
                Message::Reload => {
                    self.reload();
                    reloaded = true;
                }
                Message::Barrier(done) => barriers.push(done),
                Message::Exit => self.exit = true,
            }
        }
        self.tx.flush();
        if !barriers.is_empty() {
            for _ in 0..BARRIER_PASSES {
                let mut n = 0;
                for i in 0..self.queues.len() {
                    n += self.receive(i);
                }
                if n == 0 {
                    break;
                }
            }
            self.tx.flush();
        }
        for done in barriers {
            // Who asked may have given up.
            _ = done.try_send(());
        }
    }

    fn execute_message(&mut self, execute: Execute) {
        let actions = execute.actions.clone();
        let mut batch = Batch::new();
        batch.push(execute.into_packet());
        self.execute(&mut batch, &actions, 0);
    }

    /// Takes over what the thread looks at for every packet.
    fn configure(&mut self) {
        let config = self.dp.config.load();
        self.tx.interval = Duration::from_micros(config.tx_flush_interval);
        self.nap_max = config.sleep_of(self.me.id.0);
    }

    /// Opens the queues that are new and closes those that are gone; forgets ports that are gone.
    fn reload(&mut self) {
        self.configure();
        let assigned = self.me.rxqs.load_full();
        let key = |port: &Arc<Port>, queue: usize| (Arc::as_ptr(port), queue);
        let mut old: HashMap<_, Queue> = std::mem::take(&mut self.queues)
            .into_iter()
            .map(|q| (key(&q.port, q.queue), q))
            .collect();
        for a in assigned.iter() {
            if let Some(q) = old.remove(&key(&a.port, a.queue)) {
                self.queues.push(q);
                continue;
            }
            match a.port.netdev.rxq_open(a.queue) {
                Ok(rxq) => self.queues.push(Queue {
                    port: a.port.clone(),
                    queue: a.queue,
                    rxq,
                    load: a.load.clone(),
                }),
                Err(error) => vlog::warn!(
                    DPIF_NETDEV,
                    "{}: cannot open receive queue {}: {error}",
                    a.port.name,
                    a.queue
                ),
            }
        }
        drop(old);
        self.tx.follow(&self.dp.ports.load());
        self.rebuild_epoll();
    }

    fn rebuild_epoll(&mut self) {
        let build = || -> rustix::io::Result<rustix::fd::OwnedFd> {
            let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = epoll::EventFlags::IN;
            let mail = epoll::EventData::new_u64(u64::MAX);
            epoll::add(&set, self.me.waker.as_fd(), mail, flags)?;
            for (i, q) in self.queues.iter().enumerate() {
                let Some(fd) = q.rxq.fd() else { continue };
                let data = epoll::EventData::new_u64(i as u64);
                if let Err(error) = epoll::add(&set, fd, data, flags) {
                    vlog::warn!(
                        DPIF_NETDEV,
                        "{}: cannot wait for packets on descriptor {}: {error}",
                        q.port.name,
                        fd.as_raw_fd()
                    );
                }
            }
            Ok(set)
        };
        self.epoll = build().ok();
    }

    /// Handles some batches of a queue; returns the number of packets.
    fn receive(&mut self, at: usize) -> usize {
        let mut total = 0;
        for _ in 0..BATCHES_PER_QUEUE {
            let mut batch = Batch::new();
            let q = &mut self.queues[at];
            let n = match q.rxq.recv(&mut batch) {
                Ok(n) => n,
                Err(error) => {
                    self.failed(at, &error);
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
            coverage::NETDEV_RECEIVED.inc();
            total += n;
            let full = batch.is_full();
            self.process(&mut batch, emc, 0);
            self.tx.batch_done(self.now);
            let took = cycles::now().wrapping_sub(start);
            self.queues[at].load.add(took);
            if !full {
                break;
            }
        }
        total
    }

    /// A queue whose device is gone would keep the thread awake for ever: it is not waited for any more, until
    /// the queues are opened anew.
    fn failed(&mut self, at: usize, error: &std::io::Error) {
        static RL: RateLimit = RateLimit::new(60, 5);
        let q = &self.queues[at];
        vlog::err_rl!(
            RL,
            DPIF_NETDEV,
            "error receiving data from {}: {}",
            q.port.name,
            ferrovs_runtime::text::errno(error)
        );
        if let (Some(epoll), Some(fd)) = (&self.epoll, q.rxq.fd()) {
            // It may have been taken out before.
            _ = epoll::delete(epoll, fd);
        }
    }

    fn housekeeping(&mut self) {
        if self.now.saturating_duration_since(self.turned) >= INTERVAL {
            self.turned = self.now;
            self.me.load.turn();
            self.me.busy.turn();
            for q in &self.queues {
                q.load.turn();
            }
        }
        if self.now.saturating_duration_since(self.ranked) >= RANK_EVERY {
            self.ranked = self.now;
            self.lookup.rank();
        }
        self.lookup.sweep();
    }
}
