//! What the switch has to tell its controllers: changes of flows and ports, and packets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_openflow::port::{PortConfig, PortDesc, PortStatus};
use ferrovs_packet::types::OfPort;
use ferrovs_sync::Waker;

use super::{Ofproto, Port};
use crate::tables::TableEvent;
use crate::xlate::snapshot::{AsyncPacketIn, PacketInSink};

/// Packets that may wait for the main thread; more are dropped.
const MAX_QUEUE: usize = 4096;

/// A port's description as it is, and as it was before a change.
#[derive(Clone, Debug)]
pub struct PortEvent {
    pub status: PortStatus,
    pub old: Option<PortDesc>,
}

/// What happened; to flows first.
#[derive(Debug, Default)]
pub struct Events {
    /// Change by change.
    pub flows: VecDeque<Vec<TableEvent>>,
    pub ports: Vec<PortEvent>,
}

impl Ofproto {
    /// Takes what happened since the last time.
    pub fn take_events(&mut self) -> Events {
        Events {
            flows: self.tables.take_events(),
            ports: std::mem::take(&mut self.port_events),
        }
    }

    /// Takes the packets that wait for controllers.
    pub fn take_packet_ins(&self) -> impl Iterator<Item = AsyncPacketIn> {
        let all = self.packet_ins.take().into_iter();
        all.filter(move |packet_in| !self.forbids_packet_in(packet_in))
    }

    /// Whether the port that a packet came in through shall not make packet-ins.
    fn forbids_packet_in(&self, packet_in: &AsyncPacketIn) -> bool {
        let port = OfPort(packet_in.flow.in_port as u16);
        let forbids = |p: &Port| p.config.contains(PortConfig::NO_PACKET_IN);
        packet_in.miss && self.ports.get(&port).is_some_and(forbids)
    }

    /// Whether packets that meet no flow go to controllers when their table does not say.
    pub fn set_wants_misses(&self, wants: bool) {
        self.packet_ins.wants_misses.store(wants, Relaxed);
    }
}

/// Packets for controllers, which any thread hands to the main thread.
pub struct PacketInQueue {
    queue: Mutex<VecDeque<AsyncPacketIn>>,
    wants_misses: AtomicBool,
    waker: Arc<Waker>,
}

impl PacketInQueue {
    pub(super) fn new(waker: Arc<Waker>) -> PacketInQueue {
        PacketInQueue {
            queue: Mutex::default(),
            wants_misses: AtomicBool::new(false),
            waker,
        }
    }

    fn take(&self) -> VecDeque<AsyncPacketIn> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PacketInSink for PacketInQueue {
    fn send(&self, packet_in: AsyncPacketIn) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < MAX_QUEUE {
            // The main thread forgets wakes before it takes what waits, so who finds others waiting need not wake it.
            if queue.is_empty() {
                self.waker.wake();
            }
            queue.push_back(packet_in);
        }
    }

    fn wants_misses(&self) -> bool {
        self.wants_misses.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connmgr::fail_open::bogus_packet_in;

    #[test]
    fn the_main_thread_is_woken_once_for_all_that_waits() {
        let waker = Arc::new(Waker::new().unwrap());
        let queue = PacketInQueue::new(waker.clone());
        let now = ferrovs_runtime::clock::now();
        queue.send(bogus_packet_in(now));
        assert!(waker.drain());
        queue.send(bogus_packet_in(now));
        assert!(!waker.drain());
        assert_eq!(queue.take().len(), 2);
        queue.send(bogus_packet_in(now));
        assert!(waker.drain());
    }
}
