//! Dummy devices: ports whose other end is a test.
//!
//! What a dummy port transmits goes to a capture file and to streams; what it receives comes from
//! `netdev-dummy/receive`, from streams, and from nowhere else. Streams connect the dummy ports of
//! two processes: each frame travels behind its length in two bytes, most significant first.
//!
//! Three types differ in name and in who polls them: `dummy`, `dummy-internal` and `dummy-pmd`.
//! [`enable`] adds them, and may put them in the place of the real types, so that tests run
//! unprivileged.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog::modules::NETDEV_DUMMY;
use ferrovs_runtime::{Poller, vlog};
use ferrovs_sync::{Counter, Seq, Waker};

use crate::changes::changed;
use crate::registry::{self, Class};
use crate::{
    Capabilities, Features, Flags, Layout, Loss, LossCounters, LossSums, Losses, Netdev, Rxq,
    Stats, Txq, offload,
};

mod commands;
mod conn;
mod offloads;
mod pcap;

pub use commands::register as register_commands;
use conn::Conn;
use offloads::Offloads;
use pcap::PcapWriter;

/// Packets that wait in a queue before more are dropped.
const MAX_QUEUE: usize = 100;
const ETH_HEADER_LEN: usize = 14;

/// Which types dummy devices replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// None.
    Nothing,
    /// The type "system".
    System,
    /// Every type but patch ports, tunnels too.
    All,
}

/// Adds the dummy types.
pub fn enable(replace: Replace) {
    let mut kinds = vec!["dummy", "dummy-internal", "dummy-pmd"];
    match replace {
        Replace::Nothing => {}
        Replace::System => kinds.push("system"),
        Replace::All => kinds.extend(registry::kinds().into_iter().filter(|k| *k != "patch")),
    }
    for kind in kinds {
        registry::register(Class { kind, open });
    }
}

/// Told about every address that a dummy device is given: device, address, prefix length.
pub type AddressHook = fn(&str, IpAddr, u8);

static ADDRESS_HOOK: OnceLock<AddressHook> = OnceLock::new();

/// Who keeps routes calls this once: no kernel reports the addresses of dummy devices.
pub fn set_address_hook(hook: AddressHook) {
    let _ = ADDRESS_HOOK.set(hook);
}

/// Called when a command has made a dummy device receive packets.
pub type ReceiveHook = fn();

static RECEIVE_HOOK: OnceLock<ReceiveHook> = OnceLock::new();

/// Who forwards packets calls this once, with what waits until those that were received are handled: so the
/// answer to the command means that they are.
pub fn set_receive_hook(hook: ReceiveHook) {
    let _ = RECEIVE_HOOK.set(hook);
}

/// Dummy devices that are open, oldest first.
static DEVICES: Mutex<Vec<Weak<Dummy>>> = Mutex::new(Vec::new());
/// Those of them that have a stream: all that the main loop has to look at.
static STREAMING: Mutex<Vec<Weak<Dummy>>> = Mutex::new(Vec::new());
/// Changes when a stream has something left to send.
static POKED: Seq = Seq::new();

fn devices() -> Vec<Arc<Dummy>> {
    open_of(&DEVICES)
}

fn open_of(list: &Mutex<Vec<Weak<Dummy>>>) -> Vec<Arc<Dummy>> {
    let mut d = list.lock().unwrap_or_else(PoisonError::into_inner);
    d.retain(|w| w.strong_count() > 0);
    d.iter().filter_map(Weak::upgrade).collect()
}

fn device(name: &str) -> Option<Arc<Dummy>> {
    devices().into_iter().find(|d| d.name == name)
}

/// Lets streams make progress.
pub(crate) fn run() {
    for d in open_of(&STREAMING) {
        d.run();
    }
}

/// Says what would make `run` worth calling.
pub(crate) fn wait(poller: &mut Poller) {
    for d in open_of(&STREAMING) {
        if d.state().conn.wait(poller) {
            poller.wait_seq(&POKED, d.poked.load(Ordering::Relaxed));
        }
    }
}

#[derive(Debug)]
struct Device(Arc<Dummy>);

#[derive(Debug)]
struct Dummy {
    name: String,
    kind: &'static str,
    state: Mutex<State>,
    /// Frames that wait for each open receive queue.
    queues: Mutex<Vec<(usize, Weak<Queue>)>>,
    seq: AtomicU64,
    poked: AtomicU64,
    rx: Vec<QueueStats>,
    tx: Vec<QueueStats>,
    rx_losses: LossCounters,
}

/// Queue counters are allocated once; more queues than this are refused.
const MAX_QUEUES: usize = 1024;
/// Queues beyond these share the last counter.
const COUNTED_QUEUES: usize = 16;

#[derive(Debug, Default)]
struct QueueStats {
    packets: Counter,
    bytes: Counter,
}

impl QueueStats {
    fn all() -> Vec<QueueStats> {
        (0..COUNTED_QUEUES).map(|_| QueueStats::default()).collect()
    }

    fn sums(&self) -> (u64, u64) {
        (self.packets.sum(), self.bytes.sum())
    }
}

#[derive(Debug)]
struct State {
    mac: MacAddr,
    mtu: u32,
    flags: Flags,
    ifindex: Option<u32>,
    layout: Layout,
    requested: Layout,
    conn: Conn,
    offloads: Offloads,
    rxq_pcap: Option<Arc<PcapWriter>>,
    tx_pcap: Option<Arc<PcapWriter>>,
    addresses: Vec<(IpAddr, u8)>,
}

#[derive(Debug)]
struct Queue {
    packets: Mutex<VecDeque<Packet>>,
    len: AtomicUsize,
    waker: Waker,
}

fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dummy = Arc::new(Dummy {
        name: name.to_owned(),
        kind,
        state: Mutex::new(State {
            mac: MacAddr([0xaa, 0x55, 0xaa, 0x55, (n >> 8) as u8, n as u8]),
            mtu: 1500,
            flags: Flags::UP,
            ifindex: None,
            layout: Layout::SINGLE,
            requested: Layout::SINGLE,
            conn: Conn::None,
            offloads: Offloads::default(),
            rxq_pcap: None,
            tx_pcap: None,
            addresses: Vec::new(),
        }),
        queues: Mutex::default(),
        seq: AtomicU64::new(1),
        poked: AtomicU64::new(0),
        rx: QueueStats::all(),
        tx: QueueStats::all(),
        rx_losses: LossCounters::default(),
    });
    crate::known::remember(&DEVICES, &dummy);
    Ok(Arc::new(Device(dummy)))
}

impl Dummy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        changed(&self.name);
    }

    /// Notes whether there is a stream.
    fn streams(self: &Arc<Dummy>, any: bool) {
        let mut all = STREAMING.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|w| !std::ptr::eq(w.as_ptr(), Arc::as_ptr(self)));
        if any {
            all.push(Arc::downgrade(self));
        }
    }

    fn run(&self) {
        self.poked.store(POKED.read(), Ordering::Relaxed);
        let mut frames = Vec::new();
        self.state().conn.run(&mut frames);
        for f in frames {
            self.receive(0, Packet::from_slice(&f));
        }
    }

    /// A frame arrives at receive queue `queue`.
    fn receive(&self, queue: usize, mut packet: Packet) {
        let st = self.state();
        let (pcap, offloads) = (st.rxq_pcap.clone(), st.offloads);
        drop(st);
        if let Some(pcap) = pcap {
            pcap.write(packet.data());
        }
        offloads.mark(&mut packet);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|(_, q)| q.strong_count() > 0);
        let mut targets: Vec<Arc<Queue>> = queues
            .iter()
            .filter(|(id, _)| *id == queue)
            .filter_map(|(_, q)| q.upgrade())
            .collect();
        let last = targets.pop();
        for q in targets {
            self.push(&q, packet.duplicate());
        }
        if let Some(q) = last {
            self.push(&q, packet);
        }
    }

    fn push(&self, queue: &Queue, packet: Packet) {
        if !queue.push(packet) {
            self.rx_losses.add(Loss::QueueFull, 1);
        }
    }

    /// The answer to an ARP request for one of our addresses.
    fn arp_reply(&self, frame: &[u8], mac: MacAddr, addresses: &[(IpAddr, u8)]) -> Option<Packet> {
        const ARP_REQUEST: &[u8] = &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
        if frame.len() < 42 || frame[12..22] != *ARP_REQUEST {
            return None;
        }
        let target = Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]);
        if !addresses.iter().any(|(a, _)| *a == IpAddr::V4(target)) {
            return None;
        }
        let mut reply = Packet::with_capacity(42);
        reply.append(&frame[6..12]);
        reply.append(&mac.0);
        reply.append(&frame[12..20]);
        reply.append(&[0, 2]);
        reply.append(&mac.0);
        reply.append(&frame[38..42]);
        reply.append(&frame[22..32]);
        Some(reply)
    }

    fn transmit(&self, queue: usize, frame: &[u8]) -> Result<(), Loss> {
        let mut st = self.state();
        let vlan =
            frame.len() > ETH_HEADER_LEN + 4 && matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]);
        let max = match st.offloads.does.contains(Capabilities::TCP_SEG) {
            // A train is not measured.
            true => usize::MAX,
            false => st.mtu as usize + ETH_HEADER_LEN + if vlan { 4 } else { 0 },
        };
        if frame.len() < ETH_HEADER_LEN {
            return Err(Loss::Malformed);
        }
        if frame.len() > max {
            return Err(Loss::OverMtu);
        }
        let q = &self.tx[queue.min(COUNTED_QUEUES - 1)];
        q.packets.add(1);
        q.bytes.add(frame.len() as u64);
        if st.conn.send(frame) {
            POKED.change();
        }
        let reply = self.arp_reply(frame, st.mac, &st.addresses);
        let pcap = st.tx_pcap.clone();
        drop(st);
        if let Some(r) = reply {
            self.receive(0, r);
        }
        if let Some(pcap) = pcap {
            pcap.write(frame);
        }
        Ok(())
    }
}

impl Queue {
    /// False if it is full.
    fn push(&self, packet: Packet) -> bool {
        let mut p = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = p.len() < MAX_QUEUE;
        if fits {
            p.push_back(packet);
            self.len.store(p.len(), Ordering::Release);
            self.waker.wake();
        }
        fits
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(95)) // EOPNOTSUPP
}

/// An integer option as atoi(3) reads it.
fn int(options: &BTreeMap<String, String>, key: &str, default: i64) -> i64 {
    options
        .get(key)
        .and_then(|v| v.trim().parse().ok())
        .unwrap_or(default)
}

impl Netdev for Device {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        self.0.kind
    }

    fn is_pmd(&self) -> bool {
        self.0.kind == "dummy-pmd"
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        let d = &self.0;
        let text = |k: &str| options.get(k).map(String::as_str);
        let pcap = |k: &str| text(k).and_then(|p| PcapWriter::append(p).map(Arc::new));
        let mut st = d.state();
        st.ifindex = u32::try_from(int(options, "ifindex", -1)).ok();
        st.conn.configure(text("pstream"), text("stream"));
        st.offloads = Offloads::read(options);
        d.streams(!matches!(st.conn, Conn::None));
        match text("pcap") {
            Some(_) => {
                st.rxq_pcap = pcap("pcap");
                st.tx_pcap = st.rxq_pcap.clone();
            }
            None => {
                st.rxq_pcap = pcap("rxq_pcap");
                st.tx_pcap = pcap("tx_pcap");
            }
        }
        if self.is_pmd() {
            let (rxq, txq) = (int(options, "n_rxq", 1), int(options, "n_txq", 1));
            if rxq.max(txq) > MAX_QUEUES as i64 {
                vlog::warn!(
                    NETDEV_DUMMY,
                    "The one or both of interface {} queues(rxq: {rxq}, txq: {txq}) exceed {MAX_QUEUES}. Sets it {MAX_QUEUES}.",
                    d.name
                );
            }
            let queues = |n: i64| n.clamp(1, MAX_QUEUES as i64) as usize;
            st.requested = Layout {
                n_rxq: queues(rxq),
                n_txq: queues(txq),
                numa_id: u32::try_from(int(options, "numa_id", 0)).unwrap_or(0),
                serial: 0,
            };
        }
        drop(st);
        d.changed();
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        let st = self.0.state();
        let mut c = BTreeMap::new();
        if let Some(i) = st.ifindex {
            c.insert("ifindex".to_owned(), i.to_string());
        }
        if let Some((key, name)) = st.conn.config() {
            c.insert(key.to_owned(), name.to_owned());
        }
        c.extend(st.offloads.config());
        if self.is_pmd() {
            let Layout {
                n_rxq,
                n_txq,
                numa_id,
                ..
            } = st.layout;
            c.insert("n_rxq".to_owned(), n_rxq.to_string());
            c.insert("n_txq".to_owned(), n_txq.to_string());
            c.insert("numa_id".to_owned(), numa_id.to_string());
        }
        c
    }

    fn layout(&self) -> Layout {
        self.0.state().layout
    }

    fn requested(&self) -> Layout {
        self.0.state().requested
    }

    fn reconfigure(&self) -> io::Result<()> {
        let mut st = self.0.state();
        st.layout = st.requested;
        Ok(())
    }

    fn rxq_open(&self, queue: usize) -> io::Result<Box<dyn Rxq>> {
        let q = Arc::new(Queue {
            packets: Mutex::default(),
            len: AtomicUsize::new(0),
            waker: Waker::new()?,
        });
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push((queue, Arc::downgrade(&q)));
        Ok(Box::new(DummyRxq {
            id: queue,
            queue: q,
            device: self.0.clone(),
        }))
    }

    fn txq_open(&self, queue: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(DummyTxq {
            id: queue,
            device: self.0.clone(),
        }))
    }

    fn capabilities(&self) -> Capabilities {
        self.0.state().offloads.does
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(self.0.state().mac)
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        let mut st = self.0.state();
        if st.mac != mac {
            st.mac = mac;
            drop(st);
            self.0.changed();
        }
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        Ok(self.0.state().mtu)
    }

    fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        const MIN_MTU: u32 = 68;
        const MAX_MTU: u32 = 65535;
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(io::Error::from_raw_os_error(22)); // EINVAL
        }
        let mut st = self.0.state();
        if st.mtu != mtu {
            st.mtu = mtu;
            drop(st);
            self.0.changed();
        }
        Ok(())
    }

    fn flags(&self) -> io::Result<Flags> {
        Ok(self.0.state().flags)
    }

    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()> {
        if (off | on).contains(Flags::LOOPBACK) {
            return Err(io::Error::from_raw_os_error(22)); // EINVAL
        }
        let mut st = self.0.state();
        let new = (st.flags | on) - off;
        if new != st.flags {
            st.flags = new;
            drop(st);
            self.0.changed();
        }
        Ok(())
    }

    fn carrier(&self) -> bool {
        self.0.state().flags.contains(Flags::UP)
    }

    fn ifindex(&self) -> Option<u32> {
        self.0.state().ifindex
    }

    fn stats(&self) -> io::Result<Stats> {
        let d = &*self.0;
        let Layout { n_rxq, n_txq, .. } = d.state().layout;
        let total = |all: &[QueueStats]| {
            all.iter()
                .map(QueueStats::sums)
                .fold((0, 0), |(p, b), (x, y)| (p + x, b + y))
        };
        let (rx, tx) = (total(&d.rx), total(&d.tx));
        let mut custom = vec![
            ("rx_custom_packets_1".to_owned(), rx.0),
            ("rx_custom_packets_2".to_owned(), rx.0),
        ];
        for (dir, all, n) in [("rx", &d.rx, n_rxq), ("tx", &d.tx, n_txq)] {
            for (i, q) in all.iter().take(n).enumerate() {
                let (packets, bytes) = q.sums();
                custom.push((format!("{dir}_q{i}_bytes"), bytes));
                custom.push((format!("{dir}_q{i}_packets"), packets));
            }
        }
        Ok(Stats {
            rx_packets: Some(rx.0),
            rx_bytes: Some(rx.1),
            tx_packets: Some(tx.0),
            tx_bytes: Some(tx.1),
            custom,
            ..Stats::default()
        })
    }

    fn rx_losses(&self) -> LossSums {
        self.0.rx_losses.sums()
    }

    fn features(&self) -> io::Result<Features> {
        unsupported()
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(self.0.state().addresses.clone())
    }

    fn status(&self) -> BTreeMap<String, String> {
        offload::status(self.capabilities())
    }

    fn change_seq(&self) -> u64 {
        self.0.seq.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct DummyTxq {
    id: usize,
    device: Arc<Dummy>,
}

impl Txq for DummyTxq {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let offloads = self.device.state().offloads;
        offload::complete(batch, offloads.does, |packets| {
            let mut losses = Losses::default();
            for p in packets {
                let completed = offloads.complete(p);
                let data = completed.as_ref().unwrap_or(p).data();
                if let Err(loss) = self.device.transmit(self.id, data) {
                    losses.add(loss);
                }
            }
            losses
        })
    }
}

#[derive(Debug)]
struct DummyRxq {
    id: usize,
    queue: Arc<Queue>,
    device: Arc<Dummy>,
}

impl Rxq for DummyRxq {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        if self.queue.len.load(Ordering::Acquire) == 0 {
            return Ok(0);
        }
        let mut p = self
            .queue
            .packets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let n = p.len().min(batch.remaining_capacity());
        let mut bytes = 0;
        for packet in p.drain(..n) {
            bytes += packet.size() as u64;
            batch.push(packet);
        }
        self.queue.len.store(p.len(), Ordering::Release);
        if p.is_empty() {
            self.queue.waker.drain();
        }
        drop(p);
        let stats = &self.device.rx[self.id.min(COUNTED_QUEUES - 1)];
        stats.packets.add(n as u64);
        stats.bytes.add(bytes);
        Ok(n)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        // A queue of dummy-pmd is polled by a thread that never sleeps.
        (self.device.kind != "dummy-pmd").then(|| self.queue.waker.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut p = self
            .queue
            .packets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        p.clear();
        self.queue.len.store(0, Ordering::Release);
        self.queue.waker.drain();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
