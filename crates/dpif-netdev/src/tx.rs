//! What a thread sends: a batch for each port, and the thread's own transmit queue of it.
//!
//! Packets gather until the received batch from which they came is done, or `tx-flush-interval` is over; a batch
//! that is full goes at once. A queue is opened when the first packet goes out of it, so that a thread has
//! none of ports that it never sends to.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ferrovs_netdev::{Loss, Losses, Txq};
use ferrovs_packet::buffer::{BATCH, Batch};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::miniflow::hash_5tuple;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{coverage, vlog};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::counters::Count;
use crate::drops::Reason;
use crate::port::Port;
use crate::thread::Thread;

/// Packets that are worth sending by themselves, without waiting for others.
const DIRECT: usize = BATCH / 2;

struct TxPort {
    out: Out,
    batch: Batch,
}

/// A port's way out.
struct Out {
    port: Arc<Port>,
    /// The thread's own queue.
    queue: Option<Box<dyn Txq>>,
    /// All of the device's queues, once packets are spread over them.
    all: Vec<Box<dyn Txq>>,
}

/// The ports that a thread can send to.
pub struct TxSet {
    me: Arc<Thread>,
    ports: HashMap<u32, TxPort, FixedState>,
    /// Ports with packets to send.
    dirty: Vec<u32>,
    /// When packets that wait for others shall go.
    flush_at: Option<Instant>,
    /// `tx-flush-interval`, as last looked at.
    pub interval: Duration,
}

impl TxSet {
    pub fn new(me: Arc<Thread>) -> TxSet {
        TxSet {
            me,
            ports: HashMap::default(),
            dirty: Vec::new(),
            flush_at: None,
            interval: Duration::ZERO,
        }
    }

    pub fn add(&mut self, port: &Arc<Port>) {
        let tx = TxPort {
            out: Out {
                port: port.clone(),
                queue: None,
                all: Vec::new(),
            },
            batch: Batch::new(),
        };
        self.ports.insert(port.number.0, tx);
    }

    /// Sends what waits, then forgets the port and closes its queue.
    pub fn remove(&mut self, port: &Arc<Port>) {
        let ours = |p: &Arc<Port>| Arc::ptr_eq(p, port);
        if self.port(port.number).is_some_and(ours) {
            self.flush();
            self.ports.remove(&port.number.0);
        }
    }

    pub fn port(&self, number: DpPort) -> Option<&Arc<Port>> {
        self.ports.get(&number.0).map(|tx| &tx.out.port)
    }

    /// Takes packets that shall go out of a port; leaves them where they are if there is no such port.
    pub fn output(&mut self, batch: &mut Batch, number: DpPort) {
        let Some(tx) = self.ports.get_mut(&number.0) else {
            return;
        };
        if tx.batch.is_empty() {
            if batch.len() >= DIRECT
                && self.interval.is_zero()
                && batch.iter().all(|p| p.cutlen == 0)
            {
                tx.out.send(batch, &self.me);
                return;
            }
            self.dirty.push(number.0);
        }
        for mut packet in batch.drain(..) {
            if packet.cutlen > 0 {
                gso::cut(&mut packet);
            }
            tx.batch.push(packet);
            if tx.batch.is_full() {
                tx.out.send(&mut tx.batch, &self.me);
            }
        }
    }

    /// A received batch is done: what it sent goes now, or when the interval is over.
    pub fn batch_done(&mut self, now: Instant) {
        if self.interval.is_zero() {
            self.flush();
        } else if !self.dirty.is_empty() && self.flush_at.is_none() {
            self.flush_at = Some(now + self.interval);
        }
    }

    /// When [`TxSet::flush_due`] will have something to do.
    pub fn due(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Sends what has waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush();
        }
    }

    /// Sends all that waits.
    pub fn flush(&mut self) {
        self.flush_at = None;
        while let Some(number) = self.dirty.pop() {
            if let Some(tx) = self.ports.get_mut(&number)
                && !tx.batch.is_empty()
            {
                tx.out.send(&mut tx.batch, &self.me);
            }
        }
    }
}

impl Out {
    /// Sends and empties a batch.
    fn send(&mut self, batch: &mut Batch, me: &Thread) {
        me.counters.add(Count::SentPackets, batch.len() as u64);
        me.counters.add(Count::SentBatches, 1);
        coverage::NETDEV_SENT.inc();
        if self.port.spread.load(Relaxed) {
            return self.spread(batch);
        }
        if self.queue.is_none() {
            // With fewer queues than threads some share one.
            let n = self.port.netdev.layout().n_txq.max(1);
            self.queue = open(&self.port, me.tx_id.load(Relaxed) % n);
        }
        send(&self.port, self.queue.as_mut(), batch);
    }

    /// Sends packets each through the queue that its hash chooses.
    #[cold]
    fn spread(&mut self, batch: &mut Batch) {
        if self.all.is_empty() {
            let n = self.port.netdev.layout().n_txq;
            self.all = (0..n).filter_map(|queue| open(&self.port, queue)).collect();
        }
        let n = self.all.len() as u32;
        if n == 0 {
            return send(&self.port, None, batch);
        }
        let mut hashes = [0; BATCH];
        for (hash, packet) in hashes.iter_mut().zip(batch.iter_mut()) {
            let known = packet.rss_hash;
            *hash = known.unwrap_or_else(|| hash_5tuple(&Flow::from_packet(packet), 0)) % n;
        }
        let mut packets: ArrayVec<_, BATCH> = batch.drain(..).zip(hashes).collect();
        for (i, queue) in self.all.iter_mut().enumerate() {
            let mut others = ArrayVec::new();
            for (packet, hash) in packets {
                match hash == i as u32 {
                    true => batch.push(packet),
                    false => others.push((packet, hash)),
                }
            }
            packets = others;
            if !batch.is_empty() {
                send(&self.port, Some(queue), batch);
            }
        }
    }
}

/// Sends and empties a batch, and counts what could not be sent.
fn send(port: &Port, queue: Option<&mut Box<dyn Txq>>, batch: &mut Batch) {
    let losses = match queue {
        Some(queue) => queue.send(batch),
        None => Losses::all(Loss::Failed, batch.len()),
    };
    batch.clear();
    if !losses.is_empty() {
        for (loss, n) in losses.iter() {
            port.drops.tally.add(Reason::sending(loss), n);
        }
    }
}

#[cold]
fn open(port: &Port, queue: usize) -> Option<Box<dyn Txq>> {
    static RL: RateLimit = RateLimit::new(60, 5);
    let opened = port.netdev.txq_open(queue);
    let failed = |error: &std::io::Error| {
        vlog::warn_rl!(
            RL,
            DPIF_NETDEV,
            "{}: cannot open transmit queue {queue}: {error}",
            port.name
        );
    };
    opened.inspect_err(failed).ok()
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::dpif::PmdId;
    use ferrovs_netdev::dummy;
    use ferrovs_packet::buffer::Packet;
    use ferrovs_runtime::clock;

    use super::*;
    use crate::port::Ports;

    /// A set with the ports 1 and 2, which are devices that count.
    fn set(names: [&str; 2]) -> (TxSet, Ports) {
        let mut ports = Ports::default();
        let mut tx = TxSet::new(Arc::new(Thread::new(PmdId::NON_PMD, 0).unwrap()));
        for (n, name) in names.into_iter().enumerate() {
            let netdev = ferrovs_netdev::open(name, "null").unwrap();
            let port = Arc::new(Port::new(DpPort(n as u32 + 1), name, "null", netdev));
            tx.add(&port);
            ports.insert(port);
        }
        (tx, ports)
    }

    fn sent(ports: &Ports, number: u32) -> u64 {
        let stats = ports.get(DpPort(number)).unwrap().netdev.stats().unwrap();
        stats.tx_packets.unwrap()
    }

    fn packets(n: usize) -> Batch {
        (0..n).map(|_| Packet::from_slice(&[0; 60])).collect()
    }

    #[test]
    fn packets_wait_for_others_until_the_batch_is_done() {
        let (mut tx, ports) = set(["tx-a", "tx-b"]);
        for n in [3, 30, 5] {
            tx.output(&mut packets(n), DpPort(1));
        }
        // A full batch has gone; the rest goes with the received batch.
        assert_eq!(sent(&ports, 1), 32);
        tx.batch_done(clock::now());
        assert_eq!((sent(&ports, 1), tx.due()), (38, None));
        // Half a batch does not wait.
        tx.output(&mut packets(16), DpPort(2));
        assert_eq!(sent(&ports, 2), 16);
    }

    #[test]
    fn with_an_interval_packets_go_when_it_is_over() {
        let (mut tx, ports) = set(["tx-c", "tx-d"]);
        tx.interval = Duration::from_micros(50);
        let now = clock::now();
        tx.output(&mut packets(20), DpPort(1));
        tx.batch_done(now);
        tx.flush_due(now + Duration::from_micros(49));
        assert_eq!(sent(&ports, 1), 0);
        assert_eq!(tx.due(), Some(now + tx.interval));
        tx.flush_due(now + tx.interval);
        assert_eq!((sent(&ports, 1), tx.due()), (20, None));
    }

    #[test]
    fn packets_are_spread_over_all_queues_by_their_hashes_if_told_so() {
        dummy::enable(dummy::Replace::Nothing);
        let netdev = ferrovs_netdev::open("tx-h", "dummy-pmd").unwrap();
        let queues = [("n_txq".to_owned(), "3".to_owned())];
        netdev.set_config(&queues.into()).unwrap();
        netdev.reconfigure().unwrap();
        let port = Arc::new(Port::new(DpPort(1), "tx-h", "dummy-pmd", netdev.clone()));
        let mut tx = TxSet::new(Arc::new(Thread::new(PmdId::NON_PMD, 0).unwrap()));
        tx.add(&port);
        let sent = || {
            let custom = netdev.stats().unwrap().custom;
            [0, 1, 2].map(|q| {
                let name = format!("tx_q{q}_packets");
                custom.iter().find(|(n, _)| *n == name).unwrap().1
            })
        };
        let mut send = || {
            for hash in 0..20 {
                let mut packet = Packet::from_slice(&[0; 60]);
                packet.rss_hash = Some(hash);
                tx.output(&mut [packet].into_iter().collect(), DpPort(1));
            }
            tx.flush();
            sent()
        };
        assert_eq!(send(), [20, 0, 0]);
        port.spread.store(true, Relaxed);
        assert_eq!(send(), [27, 7, 6]);
        port.spread.store(false, Relaxed);
        assert_eq!(send(), [47, 7, 6]);
    }

    #[test]
    fn a_port_that_is_gone_gets_no_packet() {
        let (mut tx, ports) = set(["tx-e", "tx-f"]);
        let gone = ports.get(DpPort(1)).unwrap();
        tx.output(&mut packets(1), DpPort(1));
        tx.remove(gone);
        let mut late = packets(1);
        tx.output(&mut late, DpPort(1));
        assert_eq!(late.len(), 1);
        tx.flush();
        // What was on its way out when the port was taken away still went.
        assert_eq!(sent(&ports, 1), 1);
        assert!(tx.port(DpPort(1)).is_none() && tx.port(DpPort(2)).is_some());
        // Another port has its number now.
        let netdev = ferrovs_netdev::open("tx-g", "null").unwrap();
        tx.add(&Arc::new(Port::new(DpPort(1), "tx-g", "null", netdev)));
        tx.remove(gone);
        assert_eq!(tx.port(DpPort(1)).unwrap().name, "tx-g");
    }
}
