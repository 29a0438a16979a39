//! The userspace datapath in a program of its own: devices in memory below it, and a made-up switch above it.
//!
//! What a device receives comes from a test or a bench ([`Device::receive`]), what is sent through it goes there
//! ([`Device::sent`]). A datapath hears of new frames as it would of a socket's, or polls for them (`memory-pmd`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{Dpif, DpifClass, PackedMatch, PmdId, Ufid};
use ferrovs_datapath::text::parse_actions;
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallKind, UpcallReply, complete};
use ferrovs_netdev::{Class, Features, Flags, Layout, Loss, Losses, Netdev, Rxq, Stats, Txq};
use ferrovs_packet::buffer::{BATCH, Batch, Packet};
use ferrovs_packet::flow::{FlowWildcards, Match};
use ferrovs_packet::gso;
use ferrovs_packet::types::MacAddr;
use ferrovs_sync::Waker;

/// Longer than any machine is busy with others.
const PATIENCE: Duration = Duration::from_secs(30);

/// A moment in the life of a receive queue, for whoever watches it on its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The datapath asks for packets: it is done with those that it got before.
    Begins,
    /// It gets so many.
    Ends(usize),
}

/// What a device loses of what is sent through it.
struct Loses {
    /// One frame in so many; 0: none.
    every: u64,
    loss: Loss,
    tried: u64,
}

type Watch = Box<dyn FnMut(Look) + Send>;

/// A device in memory, from outside.
pub struct Device {
    waiting: Mutex<VecDeque<Vec<Vec<u8>>>>,
    waker: Waker,
    sent: Mutex<Vec<Vec<u8>>>,
    something_sent: Condvar,
    /// Whether frames that are sent are thrown away.
    is_sink: AtomicBool,
    n_sent: AtomicU64,
    loses: Mutex<Loses>,
    watch: Mutex<Option<Watch>>,
    n_rxq: AtomicUsize,
    wanted_rxq: AtomicUsize,
    /// Queues that are open.
    open: AtomicUsize,
    /// How often a queue was opened to receive, and how often one was looked at.
    opened: AtomicU64,
    looked_at: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static DEVICES: Mutex<Option<HashMap<String, Arc<Device>>>> = Mutex::new(None);

/// The device called `name`.
pub fn device(name: &str) -> Arc<Device> {
    let mut devices = lock(&DEVICES);
    let devices = devices.get_or_insert_default();
    let device = devices.entry(name.to_owned()).or_insert_with(|| {
        Arc::new(Device {
            waiting: Mutex::default(),
            waker: Waker::new().expect("an event descriptor"),
            sent: Mutex::default(),
            something_sent: Condvar::new(),
            is_sink: AtomicBool::new(false),
            n_sent: AtomicU64::new(0),
            loses: Mutex::new(Loses {
                every: 0,
                loss: Loss::Failed,
                tried: 0,
            }),
            watch: Mutex::default(),
            n_rxq: AtomicUsize::new(1),
            wanted_rxq: AtomicUsize::new(1),
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
        })
    });
    device.clone()
}

impl Device {
    /// Lets the device receive these frames, one batch after the other.
    pub fn receive(&self, batches: impl IntoIterator<Item = Vec<Vec<u8>>>) {
        lock(&self.waiting).extend(batches);
        self.waker.wake();
    }

    /// Lets it receive one more frame, with those that wait if there is room.
    pub fn receive_one(&self, frame: &[u8]) {
        let mut waiting = lock(&self.waiting);
        match waiting.back_mut().filter(|batch| batch.len() < BATCH) {
            Some(batch) => batch.push(frame.to_vec()),
            None => waiting.push_back(vec![frame.to_vec()]),
        }
        drop(waiting);
        self.waker.wake();
    }

    /// The frames that were sent since the last call.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.sent))
    }

    /// Those that were sent, as soon as there are some.
    pub fn wait_sent(&self) -> Vec<Vec<u8>> {
        let sent = lock(&self.sent);
        let (mut sent, timeout) = self
            .something_sent
            .wait_timeout_while(sent, PATIENCE, |sent| sent.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "nothing was sent");
        std::mem::take(&mut sent)
    }

    /// Waits until so many frames were sent since the last call of [`Device::sent`].
    pub fn wait_sent_frames(&self, n: usize) {
        let sent = lock(&self.sent);
        let wait = self
            .something_sent
            .wait_timeout_while(sent, PATIENCE, |sent| sent.len() < n);
        let timeout = wait.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!timeout.timed_out(), "not all was sent");
    }

    /// Throws away what is sent from now on, and only counts it.
    pub fn become_sink(&self) {
        self.is_sink.store(true, SeqCst);
    }

    /// Loses one frame in so many that are sent from now on; 0: none.
    pub fn lose(&self, every: u64, loss: Loss) {
        let mut loses = lock(&self.loses);
        (loses.every, loses.loss) = (every, loss);
    }

    /// Frames that were ever sent.
    pub fn n_sent(&self) -> u64 {
        self.n_sent.load(SeqCst)
    }

    /// Calls `watch` around each look for received packets.
    pub fn watch(&self, watch: impl FnMut(Look) + Send + 'static) {
        *lock(&self.watch) = Some(Box::new(watch));
    }

    /// Asks for so many receive queues, which it has when its queues have been closed.
    pub fn want_rxq(&self, n: usize) {
        self.wanted_rxq.store(n, SeqCst);
    }

    /// Its receive queues.
    pub fn n_rxq(&self) -> usize {
        self.n_rxq.load(SeqCst)
    }

    /// Queues of either kind that are open.
    pub fn n_open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// How often a receive queue was opened, and how often one was looked at.
    pub fn times(&self) -> [u64; 2] {
        [&self.opened, &self.looked_at].map(|n| n.load(SeqCst))
    }

    fn look(&self, look: Look) {
        if let Some(watch) = &mut *lock(&self.watch) {
            watch(look);
        }
    }
}

/// A queue that is open.
struct Open(Arc<Device>);

impl Open {
    fn new(device: &Arc<Device>) -> Open {
        device.open.fetch_add(1, SeqCst);
        Open(device.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

struct In {
    queue: Open,
    is_polled: bool,
}

impl Rxq for In {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let device = &*self.queue.0;
        device.look(Look::Begins);
        device.looked_at.fetch_add(1, SeqCst);
        let mut waiting = lock(&device.waiting);
        let frames = waiting.pop_front().unwrap_or_default();
        if waiting.is_empty() {
            device.waker.drain();
        }
        drop(waiting);
        batch.extend(frames.iter().map(|frame| Packet::from_slice(frame)));
        device.look(Look::Ends(frames.len()));
        Ok(frames.len())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_polled).then(|| self.queue.0.waker.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Out(Open);

impl Txq for Out {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let device = &self.0.0;
        let mut tried = lock(&device.loses);
        let Loses { every, loss, .. } = *tried;
        let mut losses = Losses::default();
        batch.retain(|_| {
            tried.tried += 1;
            let lost = every > 0 && tried.tried.is_multiple_of(every);
            match lost {
                true => losses.add(loss),
                false => _ = device.n_sent.fetch_add(1, SeqCst),
            }
            !lost
        });
        if !device.is_sink.load(SeqCst) {
            let mut sent = lock(&device.sent);
            for p in batch.iter_mut() {
                // What a card would do to an ordinary frame; a large one is kept as it is.
                if p.offload.gso.is_none() {
                    gso::complete_ip_checksum(p);
                    gso::complete_checksum(p);
                }
                sent.push(p.data().to_vec());
            }
            drop(sent);
            device.something_sent.notify_all();
        }
        batch.clear();
        losses
    }
}

/// A device in memory, as the datapath sees it.
struct Memory {
    name: String,
    kind: &'static str,
    device: Arc<Device>,
}

/// The class whose devices are polled.
const POLLED: &str = "memory-pmd";

/// Makes the classes `memory` and `memory-pmd` known, and lets local ports be such devices too.
pub fn register() {
    for kind in ["memory", POLLED, "dummy-internal"] {
        ferrovs_netdev::register(Class { kind, open });
    }
}

fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Memory {
        name: name.to_owned(),
        kind,
        device: device(name),
    }))
}

impl Netdev for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        self.kind == POLLED
    }

    fn set_config(&self, _: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn layout(&self) -> Layout {
        Layout {
            n_rxq: self.device.n_rxq(),
            ..Layout::SINGLE
        }
    }

    fn requested(&self) -> Layout {
        Layout {
            n_rxq: self.device.wanted_rxq.load(SeqCst),
            ..Layout::SINGLE
        }
    }

    fn reconfigure(&self) -> io::Result<()> {
        if self.device.n_open() > 0 {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let n = self.requested().n_rxq;
        self.device.n_rxq.store(n, SeqCst);
        Ok(())
    }

    fn rxq_open(&self, _: usize) -> io::Result<Box<dyn Rxq>> {
        self.device.opened.fetch_add(1, SeqCst);
        Ok(Box::new(In {
            queue: Open::new(&self.device),
            is_polled: self.is_pmd(),
        }))
    }

    fn txq_open(&self, _: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(Out(Open::new(&self.device))))
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(MacAddr([2, 0, 0, 0, 0, 9]))
    }

    fn set_etheraddr(&self, _: MacAddr) -> io::Result<()> {
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        Ok(1500)
    }

    fn set_mtu(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn flags(&self) -> io::Result<Flags> {
        Ok(Flags::UP)
    }

    fn update_flags(&self, _: Flags, _: Flags) -> io::Result<()> {
        Ok(())
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(Stats::default())
    }

    fn features(&self) -> io::Result<Features> {
        Ok(Features::default())
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(Vec::new())
    }

    fn status(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn change_seq(&self) -> u64 {
        1
    }
}

/// A datapath of the class `dummy` among `classes`, whose local port is in memory too, with ports of these names and
/// kinds that all its threads know.
pub fn datapath(
    classes: &[Arc<dyn DpifClass>],
    name: &str,
    ports: &[(&str, &str)],
) -> Arc<dyn Dpif> {
    register();
    let class = classes.iter().find(|c| c.kind() == "dummy");
    let opened = class.expect("the class").open(name, true);
    let dp = opened.expect("a datapath");
    for (port, kind) in ports {
        dp.port_add(port, kind, None).expect("a port");
    }
    dp.quiesce();
    dp
}

/// A switch that answers misses by a table: recirculation identifier, actions. A packet whose identifier it does not know
/// is lost.
pub struct Answers {
    actions: Vec<(u32, Arc<[Action]>)>,
    looks_at: FlowWildcards,
    installs: bool,
    misses: AtomicU64,
    sent_up: Mutex<Vec<usize>>,
}

impl Answers {
    /// One whose flows match the port, the identifier, the destination address and the EtherType.
    pub fn new(actions: &[(u32, &str)]) -> Answers {
        let mut looks_at = FlowWildcards::default();
        looks_at.masks.dl_dst = MacAddr::BROADCAST;
        looks_at.masks.dl_type = u16::MAX.into();
        let parsed =
            |(id, text): &(u32, &str)| (*id, parse_actions(text, None).expect(text).into());
        Answers {
            actions: actions.iter().map(parsed).collect(),
            looks_at,
            installs: true,
            misses: AtomicU64::new(0),
            sent_up: Mutex::default(),
        }
    }

    /// Lets flows match this instead.
    pub fn looking_at(self, looks_at: FlowWildcards) -> Answers {
        Answers { looks_at, ..self }
    }

    /// Lets it install no flows.
    pub fn without_flows(self) -> Answers {
        Answers {
            installs: false,
            ..self
        }
    }

    /// How often it was asked.
    pub fn misses(&self) -> u64 {
        self.misses.load(SeqCst)
    }

    /// Sizes of the packets that actions sent up.
    pub fn sent_up(&self) -> Vec<usize> {
        lock(&self.sent_up).clone()
    }
}

/// The ticket of every flow.
const TICKET: u64 = 7;

impl UpcallHandler for Answers {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        let mut wc = self.looks_at;
        let reply = |actions, install| UpcallReply {
            actions,
            flow_actions: None,
            install,
        };
        if let UpcallKind::Action { .. } = upcall.kind {
            lock(&self.sent_up).push(upcall.packet.size());
            return Some(reply(Arc::default(), None));
        }
        self.misses.fetch_add(1, SeqCst);
        let mut key = *upcall.flow;
        let (_, actions) = self.actions.iter().find(|(id, _)| *id == key.recirc_id)?;
        complete(&mut wc);
        key.mask(&wc);
        let ufid = key.words().iter().fold(7u128, |hash, &word| {
            (hash ^ u128::from(word)).wrapping_mul(0x1_0000_01b3_0000_0193)
        });
        let install = Install {
            ufid: Ufid(ufid),
            match_: Arc::new(PackedMatch::new(&Match {
                flow: *upcall.flow,
                wc,
            })),
            ticket: TICKET,
        };
        Some(reply(actions.clone(), self.installs.then_some(install)))
    }

    fn installed(&self, install: Install, _: PmdId, installed: bool) {
        assert!(installed && install.ticket == TICKET);
    }
}
