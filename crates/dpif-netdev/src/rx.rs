//! The receive queues of a thread, and the sleep until one of them has packets.
//!
//! The epoll(7) set lives as long as the thread: a queue that is opened or closed costs one call, however many others
//! there are. What epoll tells is the slot of a queue, which stays the same as long as the queue is open.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use ferrovs_netdev::Rxq;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_sync::Waker;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::counters::Load;
use crate::port::Port;
use crate::share::Debt;
use crate::thread::Assigned;

/// An open receive queue.
pub struct Queue {
    pub port: Arc<Port>,
    pub rxq: Box<dyn Rxq>,
    /// Cycles that its packets take.
    pub load: Arc<Load>,
    /// What its upcalls owe to others.
    pub debt: Debt,
}

/// See the module's text.
pub struct RxSet {
    slots: Vec<Option<Queue>>,
    /// Slots that are empty.
    free: Vec<usize>,
    /// The slot of each queue, by port number and queue.
    places: HashMap<(u32, usize), usize, FixedState>,
    epoll: rustix::fd::OwnedFd,
}

/// What epoll tells instead of a slot when the mailbox has messages.
const MAIL: u64 = u64::MAX;

impl RxSet {
    /// No queues yet; `mail` ends sleeps.
    pub fn new(mail: &Waker) -> io::Result<RxSet> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(MAIL);
        epoll::add(&epoll, mail.as_fd(), data, epoll::EventFlags::IN)?;
        Ok(RxSet {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            epoll,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All slots, those too that are empty.
    pub fn slots(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    /// The queue in a slot, if there is (still) one.
    #[inline]
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Queue> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.slots.iter().flatten()
    }

    /// Opens a queue and waits for its packets from now on. A failure is told in the log.
    pub fn open(&mut self, port: &Arc<Port>, queue: usize, load: Arc<Load>) {
        let rxq = match port.netdev.rxq_open(queue) {
            Ok(rxq) => rxq,
            Err(error) => {
                let name = &port.name;
                vlog::warn!(
                    DPIF_NETDEV,
                    "{name}: cannot open receive queue {queue}: {error}"
                );
                return;
            }
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(fd) = rxq.fd() {
            let data = epoll::EventData::new_u64(slot as u64);
            if let Err(error) = epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN) {
                vlog::warn!(
                    DPIF_NETDEV,
                    "{}: cannot wait for packets on descriptor {}: {error}",
                    port.name,
                    fd.as_raw_fd()
                );
            }
        }
        self.slots[slot] = Some(Queue {
            port: port.clone(),
            rxq,
            load,
            debt: Debt::default(),
        });
        self.places.insert((port.number.0, queue), slot);
    }

    /// Closes a queue, if it is open.
    pub fn close(&mut self, port: &Arc<Port>, queue: usize) {
        let key = (port.number.0, queue);
        let ours = |slot: &&usize| {
            let open = self.slots[**slot].as_ref();
            open.is_some_and(|q| Arc::ptr_eq(&q.port, port))
        };
        if let Some(slot) = self.places.get(&key).filter(ours).copied() {
            self.places.remove(&key);
            // The descriptor may belong to the device, which can stay.
            self.give_up(slot);
            self.slots[slot] = None;
            self.free.push(slot);
        }
    }

    /// Opens and closes queues so that those of `assigned` are open.
    pub fn serve(&mut self, assigned: &[Assigned]) {
        let wanted = |(number, queue): &(u32, usize), open: &Queue| {
            let of_it = |a: &&Assigned| a.queue == *queue && a.port.number.0 == *number;
            let now = assigned.iter().find(of_it);
            now.is_some_and(|a| Arc::ptr_eq(&a.port, &open.port))
        };
        let stale: Vec<(Arc<Port>, usize)> = self
            .places
            .iter()
            .filter_map(|(key, slot)| Some((key, self.slots[*slot].as_ref()?)))
            .filter(|(key, open)| !wanted(key, open))
            .map(|(key, open)| (open.port.clone(), key.1))
            .collect();
        for (port, queue) in stale {
            self.close(&port, queue);
        }
        for a in assigned {
            if !self.places.contains_key(&(a.port.number.0, a.queue)) {
                self.open(&a.port, a.queue, a.load.clone());
            }
        }
    }

    /// Does not wait for the packets of a queue any more.
    pub fn give_up(&mut self, slot: usize) {
        let queue = self.slots.get(slot).and_then(Option::as_ref);
        if let Some(fd) = queue.and_then(|q| q.rxq.fd()) {
            // It may have been given up before.
            _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Sleeps until a queue or the mailbox has something, but not longer than told. Adds the slots whose queues have.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<usize>) {
        let mut events: [MaybeUninit<epoll::Event>; 64] = [const { MaybeUninit::uninit() }; 64];
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        // An error is an interrupted call.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            let slots = events.iter().map(|e| e.data.u64()).filter(|d| *d != MAIL);
            ready.extend(slots.map(|slot| slot as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_netdev::dummy;
    use ferrovs_packet::types::DpPort;

    fn port(name: &str, number: u32) -> Arc<Port> {
        dummy::enable(dummy::Replace::Nothing);
        let netdev = ferrovs_netdev::open(name, "dummy").unwrap();
        Arc::new(Port::new(DpPort(number), name, "dummy", netdev))
    }

    fn ready(rx: &RxSet) -> Vec<usize> {
        let mut ready = Vec::new();
        rx.wait(Some(Duration::ZERO), &mut ready);
        ready
    }

    #[test]
    fn a_queue_keeps_its_slot_while_others_come_and_go() {
        let waker = Waker::new().unwrap();
        let mut rx = RxSet::new(&waker).unwrap();
        let ports: Vec<_> = (1..=3).map(|n| port(&format!("rx{n}"), n)).collect();
        for p in &ports {
            rx.open(p, 0, Arc::default());
        }
        rx.close(&ports[1], 0);
        rx.close(&ports[1], 0);
        let at = |rx: &mut RxSet, slot| rx.get_mut(slot).map(|q| q.port.number.0);
        assert_eq!(
            [at(&mut rx, 0), at(&mut rx, 1), at(&mut rx, 2)],
            [Some(1), None, Some(3)]
        );
        let fourth = port("rx4", 4);
        rx.open(&fourth, 0, Arc::default());
        assert_eq!((at(&mut rx, 1), rx.slots()), (Some(4), 0..3));
        assert_eq!(rx.iter().count(), 3);
        // The mailbox is no slot.
        assert!(ready(&rx).is_empty());
        waker.wake();
        assert!(ready(&rx).is_empty());
        // A device that goes leaves nothing behind.
        let before = Arc::strong_count(&ports[0]);
        rx.close(&ports[0], 0);
        assert_eq!(Arc::strong_count(&ports[0]), before - 1);
    }

    #[test]
    fn a_polling_thread_opens_what_it_is_given_and_closes_the_rest() {
        let waker = Waker::new().unwrap();
        let mut rx = RxSet::new(&waker).unwrap();
        let assigned = |port: &Arc<Port>, queue| Assigned {
            port: port.clone(),
            queue,
            pinned: false,
            load: Arc::default(),
        };
        let (a, b) = (port("serve1", 1), port("serve2", 2));
        rx.serve(&[assigned(&a, 0), assigned(&a, 1), assigned(&b, 0)]);
        assert_eq!(rx.iter().count(), 3);
        rx.serve(&[assigned(&a, 1)]);
        assert_eq!(rx.iter().count(), 1);
        // Another port under the same number is another port.
        let again = port("serve3", 1);
        rx.serve(&[assigned(&again, 1)]);
        assert!(rx.iter().all(|q| Arc::ptr_eq(&q.port, &again)));
        rx.serve(&[]);
        assert!(rx.is_empty());
    }
}
