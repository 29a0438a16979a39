//! Queues of a port: both halves of a socket, each of which one thread at a time uses.
//!
//! A half is held for a batch. Who polls does not wait for one that somebody else holds (who gave the queue away and has
//! not noticed yet), who sends does: threads that share a queue take turns.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use ferrovs_packet::buffer::{self, Batch, Packet};
use ferrovs_runtime::text;
use ferrovs_runtime::vlog::modules::NETDEV_AFXDP;
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_sys::xdp::{FRAME_SIZE, Xsk, XskRx, XskStatistics, XskTx};

use super::{Sums, lock, unfinished};
use crate::{Capabilities, Loss, Losses, Rxq, Txq, offload};

/// No frame is shorter.
const MIN_FRAME: usize = 14;

#[derive(Debug)]
pub struct Queue {
    name: String,
    socket: Xsk,
    rx: Mutex<XskRx>,
    tx: Mutex<XskTx>,
    /// Frames were put, and the kernel has not sent all of them.
    behind: AtomicBool,
    /// The kernel refused to send, as it does when the device is down.
    refused: AtomicBool,
    /// Checksums may be unfinished.
    local: bool,
    sums: Arc<Sums>,
}

impl Queue {
    pub fn new(
        name: &str,
        local: bool,
        (socket, rx, tx): (Xsk, XskRx, XskTx),
        sums: Arc<Sums>,
    ) -> Queue {
        Queue {
            name: name.to_owned(),
            local,
            socket,
            rx: Mutex::new(rx),
            tx: Mutex::new(tx),
            behind: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            sums,
        }
    }

    pub fn statistics(&self) -> XskStatistics {
        self.socket.statistics().unwrap_or_default()
    }

    /// Sends what was put, and says in the log why the kernel does not.
    fn flush(&self, tx: &mut XskTx) -> Result<(), Loss> {
        let sent = tx.flush();
        self.refused.store(sent.is_err(), Ordering::Relaxed);
        self.behind.store(tx.is_behind(), Ordering::Relaxed);
        sent.map_err(|error| {
            static RL: RateLimit = RateLimit::new(20, 5);
            let loss = Loss::of(&error);
            let (name, error) = (&self.name, text::errno(&error));
            vlog::warn_rl!(
                RL,
                NETDEV_AFXDP,
                "error sending Ethernet packet on {name}: {error}"
            );
            loss
        })
    }

    /// Sends what the kernel could not send at first, unless somebody else is about to.
    #[cold]
    fn catch_up(&self) {
        if let Ok(mut tx) = self.tx.try_lock() {
            // It was said why, and will be again when there is more to send.
            _ = tx.flush();
            self.behind.store(tx.is_behind(), Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
pub struct XdpRxq {
    pub queue: Arc<Queue>,
}

impl Rxq for XdpRxq {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let queue = &*self.queue;
        if queue.behind.load(Ordering::Relaxed) {
            queue.catch_up();
        }
        let mut rx = match queue.rx.try_lock() {
            Ok(rx) => rx,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(0),
        };
        let before = batch.len();
        let room = batch.remaining_capacity();
        let (mut taken, invalid) = (0, rx.invalid());
        buffer::make(batch, |maker| {
            taken = rx.recv(room, |data| {
                if data.len() >= MIN_FRAME {
                    let packet = maker.add(data.len(), |to| to.copy_from_slice(data));
                    if queue.local {
                        packet.offload.checksum = unfinished::checksum(data);
                    }
                }
            });
        });
        let got = batch.len() - before;
        let malformed = (taken - got) as u64 + rx.invalid() - invalid;
        if malformed > 0 {
            queue.sums.malformed.add(malformed);
        }
        Ok(got)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.socket.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut rx = lock(&self.queue.rx);
        // Bounded: the kernel may refill as fast as we empty.
        for _ in 0..4 {
            rx.recv(usize::MAX, |_| {});
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct XdpTxq {
    pub queue: Arc<Queue>,
}

impl Txq for XdpTxq {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let queue = &*self.queue;
        let mut tx = lock(&queue.tx);
        if queue.refused.load(Ordering::Relaxed)
            && let Err(loss) = queue.flush(&mut tx)
        {
            // What would be put now would be sent whenever the device is up again.
            let losses = Losses::all(loss, batch.len());
            buffer::free(batch);
            queue.sums.tx_dropped.add(losses.total());
            return losses;
        }
        let losses = offload::complete(batch, Capabilities::empty(), |packets| {
            let mut losses = Losses::default();
            for p in packets {
                if let Some(loss) = put(queue, &mut tx, p) {
                    losses.add(loss);
                }
            }
            losses
        });
        _ = queue.flush(&mut tx);
        if !losses.is_empty() {
            queue.sums.tx_dropped.add(losses.total());
        }
        losses
    }
}

/// Puts a packet among those to send; says why not.
#[inline]
fn put(queue: &Queue, tx: &mut XskTx, packet: &Packet) -> Option<Loss> {
    if packet.size() > FRAME_SIZE {
        return Some(Loss::OverMtu);
    }
    if tx.put(packet.data()) {
        return None;
    }
    // What was put before makes room.
    _ = queue.flush(tx);
    (!tx.put(packet.data())).then_some(Loss::QueueFull)
}
