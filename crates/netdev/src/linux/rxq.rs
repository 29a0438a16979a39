//! Receive queues of Linux devices.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrovs_packet::buffer::{Batch, MAX_DATA, Packet};
use ferrovs_runtime::text;
use ferrovs_runtime::vlog::modules::NETDEV_LINUX;
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_sys::packet_socket::{PacketRx, RxMeta, Slot};
use ferrovs_sys::vnet::VnetHdr;

use super::{Io, Linux, lock};
use crate::{Loss, Rxq, offload};

/// Slots (2 KB each) of a receive ring: a longer burst is dropped by the kernel.
const SLOTS: usize = 1024;
/// With more rings than this, new ones are small, so that a thousand ports fit in memory.
const LARGE_RINGS: usize = 32;
const FEW_SLOTS: usize = 128;

static RINGS: AtomicUsize = AtomicUsize::new(0);

pub(super) fn open(device: &Arc<Linux>) -> io::Result<Box<dyn Rxq>> {
    match &device.io {
        Io::Tap(_) => Ok(Box::new(TapRxq(device.clone()))),
        Io::Socket(binders) => {
            let index = device.ifindex.load(Ordering::Relaxed);
            let n = RINGS.fetch_add(1, Ordering::Relaxed);
            let count = RingCount;
            let slots = if n < LARGE_RINGS { SLOTS } else { FEW_SLOTS };
            let rx = PacketRx::open(index, slots)?;
            lock(binders).push(rx.binder()?);
            // Merged frames could not be forwarded as they came; failing means there are none.
            let _ = ferrovs_sys::ethtool::disable_lro(&device.name);
            Ok(Box::new(SocketRxq {
                rx,
                device: device.clone(),
                empty: 0,
                _count: count,
            }))
        }
    }
}

#[derive(Debug)]
struct RingCount;

impl Drop for RingCount {
    fn drop(&mut self) {
        RINGS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct SocketRxq {
    rx: PacketRx,
    device: Arc<Linux>,
    /// Calls in a row that found nothing.
    empty: u32,
    _count: RingCount,
}

/// A packet from a frame in a ring slot.
#[inline]
fn packet(meta: &RxMeta, data: &[u8]) -> Option<Packet> {
    if data.len() < 14 {
        return None;
    }
    match meta.vlan {
        None => {
            let mut p = Packet::from_slice(data);
            p.offload = offload::from_vnet(&meta.vnet, data.len(), 0)?;
            Some(p)
        }
        Some(tag) => {
            let mut p = Packet::with_capacity(data.len() + 4);
            p.append(&data[..12]);
            p.append(&vlan(tag));
            p.append(&data[12..]);
            p.offload = offload::from_vnet(&meta.vnet, data.len() + 4, 4)?;
            Some(p)
        }
    }
}

fn vlan((tpid, tci): (u16, u16)) -> [u8; 4] {
    let (t, c) = (tpid.to_be_bytes(), tci.to_be_bytes());
    [t[0], t[1], c[0], c[1]]
}

impl SocketRxq {
    /// A pending error (the device is down or gone, which the monitor reports) keeps poll(2) awake
    /// until it is taken. Looking for one costs a system call, so only after a while.
    fn found_nothing(&mut self) -> io::Result<()> {
        const PATIENCE: u32 = 64;
        self.empty += 1;
        if !self.empty.is_multiple_of(PATIENCE) {
            return Ok(());
        }
        let pending = self.rx.take_error();
        pending.inspect_err(|error| {
            static RL: RateLimit = RateLimit::new(20, 5);
            vlog::warn_rl!(
                RL,
                NETDEV_LINUX,
                "error receiving Ethernet packet on {}: {}",
                self.device.name,
                text::errno(error)
            );
        })
    }

    /// Fetches a frame that did not fit its slot.
    fn large(&mut self, meta: &RxMeta) -> io::Result<Option<Packet>> {
        let room = if meta.vlan.is_some() { 4 } else { 0 };
        let mut p = Packet::with_capacity(meta.len.min(MAX_DATA) + room);
        p.set_size(room + meta.len.min(MAX_DATA));
        let (vnet, len) = self.rx.recv_large(&mut p.data_mut()[room..])?;
        if !(14..=MAX_DATA).contains(&len) {
            return Ok(None);
        }
        p.set_size(room + len);
        if let Some(tag) = meta.vlan {
            p.data_mut().copy_within(4..16, 0);
            p.data_mut()[12..16].copy_from_slice(&vlan(tag));
        }
        Ok(offload::from_vnet(&vnet, room + len, room as u16).map(|o| {
            p.offload = o;
            p
        }))
    }
}

impl Rxq for SocketRxq {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let mut n = 0;
        while !batch.is_full() {
            let got = match self.rx.peek() {
                Slot::Empty => {
                    if n == 0 {
                        self.found_nothing()?;
                    }
                    break;
                }
                Slot::Frame(meta, data) => packet(&meta, data),
                Slot::Large(meta) => self.large(&meta).unwrap_or(None),
                Slot::Truncated => None,
            };
            self.rx.release();
            match got {
                Some(p) => {
                    batch.push(p);
                    n += 1;
                }
                None => self.device.rx_losses.add(Loss::Malformed, 1),
            }
            self.empty = 0;
        }
        Ok(n)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.rx.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        self.rx.drain();
        Ok(())
    }
}

impl Drop for SocketRxq {
    fn drop(&mut self) {
        if let Io::Socket(binders) = &self.device.io {
            lock(binders).retain(|b| !b.is_of(&self.rx));
        }
    }
}

#[derive(Debug)]
struct TapRxq(Arc<Linux>);

thread_local! {
    /// The buffer that the next read fills: large frames leave in it, small ones are copied out.
    static SPARE: RefCell<Option<Packet>> = const { RefCell::new(None) };
}

/// Frames up to this size are copied into a small buffer.
const COPY_LIMIT: usize = 2048;

impl TapRxq {
    fn read(&self, spare: &mut Option<Packet>) -> io::Result<Option<Packet>> {
        let Io::Tap(tap) = &self.0.io else {
            return Ok(None);
        };
        let p = spare.get_or_insert_with(|| {
            let mut p = Packet::with_capacity(MAX_DATA);
            p.set_size(MAX_DATA);
            p
        });
        let (vnet, len): (VnetHdr, usize) = tap.recv(p.data_mut(), &mut [])?;
        if len < 14 {
            return Ok(None);
        }
        let mut p = if len <= COPY_LIMIT {
            Packet::from_slice(&p.data()[..len])
        } else {
            let mut p = spare.take().expect("the buffer just read into");
            p.set_size(len);
            p
        };
        Ok(offload::from_vnet(&vnet, len, 0).map(|o| {
            p.offload = o;
            p
        }))
    }
}

impl Rxq for TapRxq {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        SPARE.with_borrow_mut(|spare| {
            let mut n = 0;
            while !batch.is_full() {
                match self.read(spare) {
                    Ok(Some(p)) => {
                        batch.push(p);
                        n += 1;
                    }
                    Ok(None) => self.0.rx_losses.add(Loss::Malformed, 1),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock || n > 0 => break,
                    Err(e) => return Err(e),
                }
            }
            Ok(n)
        })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0.io {
            Io::Tap(tap) => Some(tap.as_fd()),
            Io::Socket(_) => None,
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        let Io::Tap(tap) = &self.0.io else {
            return Ok(());
        };
        let mut byte = [0; 1];
        // The kernel cuts what does not fit. Bounded by the device's queue of 1000 frames.
        for _ in 0..10_000 {
            match tap.recv(&mut byte, &mut []) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
