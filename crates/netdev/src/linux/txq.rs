//! Transmit queues of Linux devices.
//!
//! A packet socket belongs to the queue, so threads do not meet in it. A tap has one descriptor for all: a second
//! one would be a second queue, which the host would fill too.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_runtime::text;
use ferrovs_runtime::vlog::modules::NETDEV_LINUX;
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_sys::packet_socket::{PacketTx, TxFrame};
use ferrovs_sys::tap::Tap;

use super::{Io, Linux, lock};
use crate::{Capabilities, Loss, Losses, Txq, offload};

pub(super) fn open(device: &Arc<Linux>) -> io::Result<Box<dyn Txq>> {
    let device = device.clone();
    Ok(match &device.io {
        Io::Tap(_) => Box::new(TapTxq(device)),
        Io::Socket(binders) => {
            let tx = PacketTx::open(device.ifindex.load(Ordering::Relaxed))?;
            lock(binders).push(tx.binder()?);
            Box::new(SocketTxq { tx, device })
        }
    })
}

#[derive(Debug)]
struct SocketTxq {
    tx: PacketTx,
    device: Arc<Linux>,
}

impl Txq for SocketTxq {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        offload::complete(batch, Capabilities::KERNEL, |packets| {
            let mut losses = Losses::default();
            let frames = packets.iter().map(|p| TxFrame {
                vnet: offload::to_vnet(&p.offload, false),
                data: p.data(),
            });
            let name = &self.device.name;
            self.tx
                .send(frames, |error| losses.add(refused(name, &error)));
            if !losses.is_empty() {
                self.device.tx_dropped.add(losses.total());
            }
            losses
        })
    }
}

impl Drop for SocketTxq {
    fn drop(&mut self) {
        if let Io::Socket(binders) = &self.device.io {
            lock(binders).retain(|b| !b.is_of_tx(&self.tx));
        }
    }
}

/// Says in the log that a frame was not sent; a full queue is no news.
#[cold]
fn refused(name: &str, error: &io::Error) -> Loss {
    static RL: RateLimit = RateLimit::new(20, 5);
    let loss = Loss::of(error);
    if loss != Loss::QueueFull {
        let error = text::errno(error);
        vlog::warn_rl!(
            RL,
            NETDEV_LINUX,
            "error sending Ethernet packet on {name}: {error}"
        );
    }
    loss
}

#[derive(Debug)]
struct TapTxq(Arc<Linux>);

impl Txq for TapTxq {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let Io::Tap(tap) = &self.0.io else {
            let losses = Losses::all(Loss::Failed, batch.len());
            batch.clear();
            return losses;
        };
        offload::complete(batch, Capabilities::KERNEL, |packets| {
            let mut losses = Losses::default();
            for p in packets {
                if let Err(e) = write(tap, p) {
                    self.0.tx_dropped.add(1);
                    losses.add(match Loss::of(&e) {
                        // The host has set it down, which is its business.
                        Loss::Down => Loss::Down,
                        _ => refused(&self.0.name, &e),
                    });
                }
            }
            losses
        })
    }
}

fn write(tap: &Tap, p: &Packet) -> io::Result<()> {
    let vnet = offload::to_vnet(&p.offload, true);
    loop {
        match tap.send(vnet, p.data()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
