//! The threads of a datapath: how they begin and end, and how all of them are told something.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use ferrovs_datapath::dpif::{DpStats, Errno, PmdId, Shard};

use crate::counters::{Count, N_COUNTS};
use crate::port::Ports;
use crate::shared::Shared;
use crate::thread::{Message, Thread};
use crate::worker::Worker;

/// How long a thread may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Threads {
    shared: Arc<Shared>,
    list: ArcSwap<Vec<Arc<Thread>>>,
    handles: Mutex<HashMap<PmdId, JoinHandle<()>>>,
    /// Totals of threads that have ended.
    retired: Mutex<[u64; N_COUNTS]>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error's number; what has none is an invalid argument.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(Errno::EINVAL.0))
}

impl Threads {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Threads {
        Threads {
            shared,
            list: ArcSwap::default(),
            handles: Mutex::default(),
            retired: Mutex::new([0; N_COUNTS]),
        }
    }

    /// All of them as they are now: the one that sleeps first, then those that poll, by their cores.
    pub fn list(&self) -> Arc<Vec<Arc<Thread>>> {
        self.list.load_full()
    }

    pub fn get(&self, id: PmdId) -> Option<Arc<Thread>> {
        self.list.load().iter().find(|t| t.id == id).cloned()
    }

    /// Starts the thread `id` on a memory node; it may send to `ports`. The caller sees to it that neither ports nor
    /// threads change meanwhile.
    pub fn start(&self, id: PmdId, numa: u32, ports: &Ports) -> Result<(), Errno> {
        let thread = Arc::new(Thread::new(id, numa).map_err(|e| errno(&e))?);
        let mut list = Vec::clone(&self.list.load());
        let taken: Vec<_> = (list.iter())
            .map(|t| t.tx_id.load(Ordering::Relaxed))
            .collect();
        let free = (0..).find(|id| !taken.contains(id)).unwrap_or(0);
        thread.tx_id.store(free, Ordering::Relaxed);
        let worker = Worker::new(self.shared.clone(), thread.clone()).map_err(|e| errno(&e))?;
        for port in ports.iter() {
            thread.post(Message::PortAdded(port.clone()));
        }
        thread.post(Message::Configure);
        let name = if thread.is_pmd() {
            format!("pmd-c{:02}/id:", thread.id.0)
        } else {
            "dp".to_owned()
        };
        let handle = std::thread::Builder::new()
            .name(name)
            .stack_size(ferrovs_datapath::upcall::STACK_SIZE)
            .spawn(move || worker.run())
            .map_err(|e| errno(&e))?;
        lock(&self.handles).insert(id, handle);
        list.push(thread);
        list.sort_by_key(|t| (t.is_pmd(), t.id));
        self.list.store(Arc::new(list));
        Ok(())
    }

    /// Ends a thread and keeps its totals.
    pub fn stop(&self, thread: &Arc<Thread>) {
        let mut list = Vec::clone(&self.list.load());
        list.retain(|t| !Arc::ptr_eq(t, thread));
        self.list.store(Arc::new(list));
        thread.post(Message::Exit);
        if let Some(handle) = lock(&self.handles).remove(&thread.id) {
            // A thread that panicked has said so; there is nothing more to do here.
            _ = handle.join();
        }
        let offloads = &self.shared.offloads;
        thread
            .flows
            .for_each(Shard::WHOLE, |flow| offloads.del(flow));
        let retired = &mut *lock(&self.retired);
        for (sum, n) in retired.iter_mut().zip(thread.counters.totals()) {
            *sum = sum.wrapping_add(n);
        }
    }

    pub fn tell(&self, message: impl Fn() -> Message) {
        self.list.load().iter().for_each(|t| t.post(message()));
    }

    /// Tells those that poll.
    pub fn tell_polling(&self, message: impl Fn() -> Message) {
        let list = self.list.load();
        let polling = list.iter().filter(|t| t.is_pmd());
        polling.for_each(|t| t.post(message()));
    }

    /// Waits until every thread has done what was posted before, and what `message` asks for.
    pub fn ask(&self, message: impl Fn(SyncSender<()>) -> Message) {
        let list = self.list.load();
        let waits: Vec<_> = list.iter().map(|t| t.ask(&message)).collect();
        for wait in waits {
            // An error means that the thread has ended, with all that was in its mailbox.
            _ = wait.recv_timeout(PATIENCE);
        }
    }

    /// What all threads have counted that there are and were.
    pub fn total(&self, count: Count) -> u64 {
        let list = self.list.load();
        let running = list.iter().map(|t| t.counters.total(count));
        running.fold(lock(&self.retired)[count as usize], u64::wrapping_add)
    }

    pub fn stats(&self) -> DpStats {
        let hits = [
            Count::MarkHit,
            Count::SimpleHit,
            Count::EmcHit,
            Count::SmcHit,
            Count::MegaflowHit,
        ];
        DpStats {
            n_hit: hits.map(|hit| self.total(hit)).iter().sum(),
            n_missed: self.total(Count::Miss),
            n_lost: self.total(Count::Lost),
            n_flows: self.list.load().iter().map(|t| t.flows.len() as u64).sum(),
        }
    }
}
