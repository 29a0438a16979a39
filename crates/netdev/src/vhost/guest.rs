//! What a port knows of its guest, shared by the device, its queues and the thread that speaks with the front-end.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::NETDEV_DPDK;
use ferrovs_sync::Counter;

use super::format::Broken;
use super::tally::Sums;
use super::vring::Ring;
use super::wire::Features;
use crate::Capabilities;
use crate::changes::changed;

/// Rings that a guest may have: two for each pair of queues.
pub const MAX_VRINGS: usize = 2 * MAX_PAIRS;
pub const MAX_PAIRS: usize = 128;
const DEFAULT_MTU: u32 = 1500;

/// One of the rings, whether it is in use or not.
#[derive(Debug, Default)]
pub struct Slot {
    /// None while it is not to be used. Held for a batch, and while the ring is set up.
    ring: Mutex<Option<Box<Ring>>>,
    /// Whether there is one, as seen without the lock.
    active: AtomicBool,
    pub sums: Sums,
}

impl Slot {
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    pub fn lock(&self) -> MutexGuard<'_, Option<Box<Ring>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if somebody else has it, or there is none.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Option<Box<Ring>>>> {
        if !self.is_active() {
            return None;
        }
        match self.ring.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Puts a ring in use or out of use, and returns the one that was.
    pub fn set(&self, ring: Option<Box<Ring>>) -> Option<Box<Ring>> {
        let mut held = self.lock();
        self.active.store(ring.is_some(), Relaxed);
        std::mem::replace(&mut *held, ring)
    }
}

/// What a running guest is like, as `Interface.status` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub features: u64,
    pub numa: u32,
    /// The size of each ring.
    pub sizes: Vec<u16>,
}

#[derive(Debug)]
pub struct Guest {
    /// The port's.
    pub name: String,
    slots: [OnceLock<Box<Slot>>; MAX_VRINGS],
    /// Whether there is a guest that can send and receive.
    running: AtomicBool,
    /// Whether the port is set up.
    pub up: AtomicBool,
    can: AtomicU16,
    /// Of the longest frame that is sent, without Ethernet header; 0 before a guest was there.
    pub mtu: AtomicU32,
    /// What it shall be while a guest is there.
    pub wanted_mtu: AtomicU32,
    pub max_retries: AtomicU32,
    facts: Mutex<Facts>,
    seq: AtomicU64,
    pub tx_dropped: Counter,
    pub retries: Counter,
    pub tx_failed: Counter,
    pub over_mtu: Counter,
    /// Of guests that are gone.
    pub malformed: Counter,
}

impl Guest {
    pub fn new(name: &str) -> Guest {
        Guest {
            name: name.to_owned(),
            slots: std::array::from_fn(|_| OnceLock::new()),
            running: false.into(),
            up: true.into(),
            can: 0.into(),
            mtu: 0.into(),
            wanted_mtu: DEFAULT_MTU.into(),
            max_retries: 0.into(),
            facts: Mutex::default(),
            seq: 1.into(),
            tx_dropped: Counter::new(),
            retries: Counter::new(),
            tx_failed: Counter::new(),
            over_mtu: Counter::new(),
            malformed: Counter::new(),
        }
    }

    /// The ring of that number, if there ever was one.
    #[inline]
    pub fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)?.get().map(|slot| &**slot)
    }

    /// The same, made if there was none; None for a number that no ring has.
    pub fn make_slot(&self, index: usize) -> Option<&Slot> {
        self.slots
            .get(index)
            .map(|slot| &**slot.get_or_init(Box::default))
    }

    /// All rings that there ever were, by number.
    pub fn slots(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let all = self.slots.iter().enumerate();
        all.filter_map(|(i, slot)| Some((i, &**slot.get()?)))
    }

    #[inline]
    pub fn is_running(&self) -> bool {
        self.running.load(Acquire)
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// What the guest's driver can take, beyond plain frames.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::from_bits_truncate(self.can.load(Relaxed))
    }

    /// A guest came that is like this.
    pub fn run(&self, facts: Facts) {
        let features = Features::from_bits_truncate(facts.features);
        self.can.store(capabilities(features).bits(), Relaxed);
        self.set_facts(facts);
        self.mtu.store(self.wanted_mtu.load(Relaxed), Relaxed);
        self.running.store(true, Release);
        self.changed();
    }

    /// It is gone.
    pub fn stop(&self) {
        if self.running.swap(false, Release) {
            self.can.store(0, Relaxed);
            self.changed();
        }
    }

    pub fn facts(&self) -> Facts {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.clone()
    }

    /// Something about a running guest is otherwise.
    pub fn update(&self, facts: Facts) {
        if self.facts() != facts {
            self.set_facts(facts);
            self.changed();
        }
    }

    fn set_facts(&self, facts: Facts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    pub fn changed(&self) {
        self.seq.fetch_add(1, Relaxed);
        changed(&self.name);
    }

    pub fn change_seq(&self) -> u64 {
        self.seq.load(Relaxed)
    }

    /// A ring makes no sense any more: it is not used again before the guest sets it up anew.
    #[cold]
    pub fn is_broken(&self, index: usize, ring: &mut Option<Box<Ring>>, why: Broken) {
        static RL: RateLimit = RateLimit::new(60, 5);
        *ring = None;
        if let Some(slot) = self.slot(index) {
            slot.active.store(false, Relaxed);
        }
        vlog::warn_rl!(
            RL,
            NETDEV_DPDK,
            "{}: the guest's queue {index} is not used any more: {why}",
            self.name
        );
        self.changed();
    }
}

fn capabilities(features: Features) -> Capabilities {
    let mut can = Capabilities::empty();
    if features.contains(Features::GUEST_CSUM) {
        can |= Capabilities::TCP_CSUM | Capabilities::UDP_CSUM;
        if features.contains(Features::GUEST_TSO4 | Features::GUEST_TSO6) {
            can |= Capabilities::TCP_SEG;
        }
        if features.contains(Features::GUEST_USO4 | Features::GUEST_USO6) {
            can |= Capabilities::UDP_SEG;
        }
    }
    can
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_takes_what_it_has_said_and_no_segments_without_sums() {
        let tso = Features::GUEST_TSO4 | Features::GUEST_TSO6;
        let sums = Capabilities::TCP_CSUM | Capabilities::UDP_CSUM;
        for (features, can) in [
            (Features::CSUM | Features::HOST_TSO4, Capabilities::empty()),
            (tso, Capabilities::empty()),
            (Features::GUEST_CSUM, sums),
            (Features::GUEST_CSUM | Features::GUEST_TSO4, sums),
            (Features::GUEST_CSUM | tso, sums | Capabilities::TCP_SEG),
        ] {
            assert_eq!(capabilities(features), can, "{features:?}");
        }
    }
}
