//! A datapath thread as others see it: its flows, its counters, and the mailbox that it reads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ferrovs_datapath::dpif::{Execute, PmdId};
use ferrovs_sync::Waker;

use crate::counters::{Counters, Load};
use crate::flow::DpFlow;
use crate::flow_table::FlowTable;
use crate::perf::Metrics;
use crate::port::Port;

/// What others ask of a thread.
pub enum Message {
    /// Begin to look the flow up.
    Insert(Arc<DpFlow>),
    /// Forget the flow, which is dead.
    Remove(Arc<DpFlow>),
    Execute(Box<Execute>),
    /// Send to the port from now on; the thread that sleeps also receives from those that are not polled.
    PortAdded(Arc<Port>),
    /// Let go of the port.
    PortGone(Arc<Port>),
    /// A polling thread has other queues: [`Thread::rxqs`].
    Serve,
    /// The configuration has changed.
    Configure,
    /// Answer.
    Barrier(SyncSender<()>),
    /// Handle what waits in the queues, then answer.
    Quiesce(SyncSender<()>),
    /// Answer with a copy of what each iteration did, if that is noted.
    Metrics(SyncSender<Option<Box<Metrics>>>),
    /// Forget what iterations did so far.
    ClearMetrics,
    Exit,
}

/// A receive queue that a thread shall serve.
#[derive(Clone)]
pub struct Assigned {
    pub port: Arc<Port>,
    pub queue: usize,
    /// Pinned to the thread by the user.
    pub pinned: bool,
    /// Cycles that its packets took.
    pub load: Arc<Load>,
}

pub struct Thread {
    pub id: PmdId,
    pub numa: u32,
    /// Which transmit queue of a port is the thread's; unlike its core, the least number that is free.
    pub tx_id: AtomicUsize,
    pub counters: Counters,
    /// All cycles, and those of iterations with packets.
    pub load: Load,
    pub busy: Load,
    pub flows: FlowTable,
    /// The queues of a polling thread.
    pub rxqs: ArcSwap<Vec<Assigned>>,
    /// Serves only queues that the user pinned to it.
    pub isolated: AtomicBool,
    pending: AtomicBool,
    mailbox: Mutex<Vec<Message>>,
    pub waker: Waker,
}

impl Thread {
    pub fn new(id: PmdId, numa: u32) -> std::io::Result<Thread> {
        Ok(Thread {
            id,
            numa,
            tx_id: AtomicUsize::new(0),
            counters: Counters::default(),
            load: Load::default(),
            busy: Load::default(),
            flows: FlowTable::default(),
            rxqs: ArcSwap::default(),
            isolated: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            mailbox: Mutex::default(),
            waker: Waker::new()?,
        })
    }

    pub fn is_pmd(&self) -> bool {
        self.id != PmdId::NON_PMD
    }

    /// Puts a message into the mailbox and wakes the thread if it sleeps.
    pub fn post(&self, message: Message) {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        mailbox.push(message);
        if !self.pending.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Whether messages wait; for the thread.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// All messages that wait, oldest first; for the thread.
    pub fn take_mail(&self) -> Vec<Message> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.store(false, Ordering::SeqCst);
        self.waker.drain();
        std::mem::take(&mut *mailbox)
    }

    /// Begins a wait until everything that was posted before is done, and what `message` asks for.
    pub fn ask<T>(&self, message: impl Fn(SyncSender<T>) -> Message) -> Receiver<T> {
        let (done, wait) = sync_channel(1);
        self.post(message(done));
        wait
    }
}
