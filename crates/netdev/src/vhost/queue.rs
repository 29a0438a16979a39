//! Queues of a port: what a guest sends is received from its odd rings, what is sent to it goes into its even ones.
//!
//! A ring is held for a batch. Who polls does not wait for one that somebody else holds, who sends does: threads that
//! share a ring take turns.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ferrovs_packet::buffer::{Batch, Packet};

use super::format::Broken;
use super::guest::{Guest, Slot};
use super::tally::Tally;
use super::vring::Ring;
use crate::{Loss, Losses, Rxq, Txq, offload};

/// Link-layer header with a VLAN tag: so much longer than the MTU a frame may be.
const OVER_MTU: usize = 18;

#[derive(Debug)]
pub struct VhostRxq {
    pub guest: Arc<Guest>,
    /// The ring that it polls.
    pub index: usize,
}

impl Rxq for VhostRxq {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let guest = &*self.guest;
        let Some(slot) = guest.slot(self.index) else {
            return Ok(0);
        };
        let Some(mut held) = slot.try_lock() else {
            return Ok(0);
        };
        let Some(ring) = &mut *held else {
            return Ok(0);
        };
        if !guest.is_running() || !guest.is_up() {
            return Ok(0);
        }
        let before = batch.len();
        let mut tally = Tally::default();
        let received = ring.receive(batch, &mut tally);
        if tally.packets + tally.malformed > 0 {
            slot.sums.add(&tally);
        }
        if let Err(why) = received {
            guest.is_broken(self.index, &mut held, why);
        }
        Ok(batch.len() - before)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub struct VhostTxq {
    pub guest: Arc<Guest>,
    pub queue: usize,
    /// How many queues there are.
    pub n: usize,
}

impl VhostTxq {
    /// The ring to send to: the queue's own, or another if the guest does not use that one.
    #[inline]
    fn slot(&self) -> Option<(usize, &Slot)> {
        let active = |queue: usize| {
            let slot = self.guest.slot(2 * queue).filter(|slot| slot.is_active());
            slot.map(|slot| (2 * queue, slot))
        };
        active(self.queue).or_else(|| {
            let others = (1..self.n).map(|i| (self.queue + i) % self.n);
            others.into_iter().find_map(active)
        })
    }
}

impl Txq for VhostTxq {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let guest = &*self.guest;
        let slot = self.slot().filter(|_| guest.is_running() && guest.is_up());
        let Some((index, slot)) = slot else {
            return lost(guest, batch);
        };
        let mut held = slot.lock();
        let Some(ring) = &mut *held else {
            drop(held);
            return lost(guest, batch);
        };
        let mut tally = Tally::default();
        let mut broken = None;
        let losses = offload::complete(batch, guest.capabilities(), |packets| {
            send(guest, ring, packets, &mut tally, &mut broken)
        });
        slot.sums.add(&tally);
        if let Some(why) = broken {
            guest.is_broken(index, &mut held, why);
        }
        if !losses.is_empty() {
            guest.tx_dropped.add(losses.total());
        }
        losses
    }
}

/// There is nobody to send to.
fn lost(guest: &Guest, batch: &mut Batch) -> Losses {
    let n = batch.len();
    ferrovs_packet::buffer::free(batch);
    guest.tx_failed.add(n as u64);
    guest.tx_dropped.add(n as u64);
    Losses::all(Loss::Down, n)
}

/// Sends packets, again and again while the guest takes some but not all, as often as that may be tried. A ring that
/// turns out to be broken takes no more.
fn send(
    guest: &Guest,
    ring: &mut Ring,
    packets: &[Packet],
    tally: &mut Tally,
    broken: &mut Option<Broken>,
) -> Losses {
    let max = guest.mtu.load(Relaxed) as usize + OVER_MTU;
    let fits = |p: &Packet| p.size() <= max || p.offload.gso.is_some();
    let mut losses = Losses::default();
    let (mut sent, mut retries) = (0, 0);
    while sent < packets.len() && broken.is_none() {
        let rest = &packets[sent..];
        let good = rest.iter().take_while(|p| fits(p)).count();
        if good == 0 {
            guest.over_mtu.add(1);
            losses.add(Loss::OverMtu);
            sent += 1;
            continue;
        }
        let done = ring.send(&rest[..good], tally, &mut losses);
        let done = done.unwrap_or_else(|why| {
            *broken = Some(why);
            0
        });
        sent += done;
        if done == good {
            continue;
        }
        if done == 0 || retries == guest.max_retries.load(Relaxed) {
            break;
        }
        retries += 1;
    }
    if retries > 0 {
        guest.retries.add(retries.into());
    }
    let failed = packets.len() - sent;
    if failed > 0 {
        let why = match broken {
            Some(_) => Loss::Down,
            None => Loss::QueueFull,
        };
        (0..failed).for_each(|_| losses.add(why));
        guest.tx_failed.add(failed as u64);
    }
    losses
}
