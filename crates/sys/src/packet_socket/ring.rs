//! The ring of slots through which the kernel hands frames over.
//!
//! ```text
//!   slot: | tpacket2_hdr (status,len,snaplen,mac,vlan) | pad | vnet hdr 10 | frame ...      |
//!                                                                          ^ tp_mac
//! ```
//!
//! Invariant: a slot belongs to us from the moment its status shows TP_STATUS_USER until we store
//! TP_STATUS_KERNEL there; slots are visited in ring order.

use std::mem::{offset_of, size_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::tpacket2_hdr;

use crate::vnet::{VNET_HDR_SIZE, VnetHdr};

pub const SLOT_SIZE: usize = 2048;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;

/// What the kernel says about a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxMeta {
    /// Checksum and segmentation state.
    pub vnet: VnetHdr,
    /// Length of the frame, without a VLAN tag kept beside it.
    pub len: usize,
    /// TPID and TCI of a tag that the kernel took out of the frame.
    pub vlan: Option<(u16, u16)>,
}

/// The next frame of a ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Slot<'a> {
    /// No frame waits.
    Empty,
    /// A frame, whole.
    Frame(RxMeta, &'a [u8]),
    /// A frame larger than a slot: make room for `RxMeta::len` bytes and call `recv_large`.
    Large(RxMeta),
    /// A frame that was cut off because the socket's queue was full.
    Truncated,
}

/// Memory of slots that somebody else fills.
///
/// # Safety
///
/// From `base`, which is aligned to 16, `count * SLOT_SIZE` initialised bytes stay where they are and may be read, and
/// the slots' status words written, as long as the value lives. Whoever fills slots leaves one alone from the moment
/// that he stores TP_STATUS_USER in its status until he finds TP_STATUS_KERNEL there. There is at least one slot.
pub unsafe trait Slots {
    fn base(&self) -> NonNull<u8>;
    fn count(&self) -> usize;
}

/// See the module's text.
#[derive(Debug)]
pub struct Ring<S> {
    memory: S,
    /// The slot that is looked at; less than there are.
    next: usize,
}

impl<S: Slots> Ring<S> {
    pub fn new(memory: S) -> Ring<S> {
        Ring { memory, next: 0 }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.memory.count()
    }

    #[inline]
    fn slot(&self) -> NonNull<u8> {
        // SAFETY: next < count, so the slot lies within the memory.
        unsafe { self.memory.base().add(self.next * SLOT_SIZE) }
    }

    #[inline]
    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot starts with the 32-bit status word, aligned to 16; whoever fills it accesses it
        // concurrently, hence atomic.
        unsafe { self.slot().cast::<AtomicU32>().as_ref() }
    }

    /// Looks at the next frame without consuming it. Call [`Ring::release`] afterwards unless it is `Empty`.
    #[inline]
    pub fn peek(&mut self) -> Slot<'_> {
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return Slot::Empty;
        }
        // SAFETY: the slot is ours (TP_STATUS_USER, acquired) until `release`, which cannot be called while it is
        // borrowed; it is initialised and as long as this.
        let slot = unsafe { self.slot().cast::<[u8; SLOT_SIZE]>().as_ref() };
        read(status, slot)
    }

    /// Gives the slot that `peek` showed back.
    #[inline]
    pub fn release(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next += 1;
        if self.next == self.memory.count() {
            self.next = 0;
        }
    }
}

/// What a slot with that status holds.
#[inline]
fn read(status: u32, slot: &[u8; SLOT_SIZE]) -> Slot<'_> {
    let word = |at| u32::from_ne_bytes(bytes(slot, at));
    let half = |at| u16::from_ne_bytes(bytes(slot, at));
    let vlan = (status & TP_STATUS_VLAN_VALID != 0).then(|| {
        let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 {
            half(offset_of!(tpacket2_hdr, tp_vlan_tpid))
        } else {
            libc::ETH_P_8021Q as u16
        };
        (tpid, half(offset_of!(tpacket2_hdr, tp_vlan_tci)))
    });
    let mac = usize::from(half(offset_of!(tpacket2_hdr, tp_mac)));
    let snaplen = word(offset_of!(tpacket2_hdr, tp_snaplen)) as usize;
    let len = word(offset_of!(tpacket2_hdr, tp_len)) as usize;
    let Some(data) = slot.get(mac..mac + snaplen) else {
        return Slot::Truncated;
    };
    if mac < size_of::<tpacket2_hdr>() + VNET_HDR_SIZE {
        return Slot::Truncated;
    }
    let vnet = VnetHdr::from_bytes(&bytes(slot, mac - VNET_HDR_SIZE));
    let meta = RxMeta { vnet, len, vlan };
    if status & libc::TP_STATUS_COPY != 0 {
        Slot::Large(meta)
    } else if snaplen < len {
        Slot::Truncated
    } else {
        Slot::Frame(meta, data)
    }
}

#[inline]
fn bytes<const N: usize>(slot: &[u8; SLOT_SIZE], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&slot[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;

    #[repr(align(16))]
    #[expect(dead_code, reason = "reached by its address alone")]
    struct Line(UnsafeCell<[u8; 16]>);

    /// Slots in plain memory, exactly as long as they are.
    struct Heap(Box<[Line]>);

    // SAFETY: whoever shares it keeps to the statuses of the slots.
    unsafe impl Sync for Heap {}

    impl Heap {
        fn new(slots: usize) -> Arc<Heap> {
            let line = || Line(UnsafeCell::new([0; 16]));
            let lines = (0..slots * SLOT_SIZE / 16).map(|_| line());
            Arc::new(Heap(lines.collect()))
        }
    }

    // SAFETY: the lines are aligned to 16, stay where they are, are initialised, and may be written by way of a shared
    // reference; `Kernel` fills them as is agreed.
    unsafe impl Slots for Arc<Heap> {
        fn base(&self) -> NonNull<u8> {
            NonNull::from(&*self.0).cast()
        }

        fn count(&self) -> usize {
            self.0.len() * 16 / SLOT_SIZE
        }
    }

    /// What a frame's slot says of it.
    #[derive(Clone, Copy)]
    struct Header {
        status: u32,
        len: u32,
        snaplen: u32,
        mac: u16,
        tci: u16,
        tpid: u16,
    }

    /// Fills slots as the kernel does.
    struct Kernel {
        memory: Arc<Heap>,
        next: usize,
    }

    impl Kernel {
        fn write(&self, at: usize, bytes: &[u8]) {
            assert!(at + bytes.len() <= SLOT_SIZE);
            let at = self.next * SLOT_SIZE + at;
            // SAFETY: within the slot `next`, which lies within the memory.
            let to = unsafe { self.memory.base().add(at) };
            // SAFETY: so many bytes from there lie within the slot, which is the kernel's.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        }

        fn status(&self) -> &AtomicU32 {
            // SAFETY: within the memory.
            let slot = unsafe { self.memory.base().add(self.next * SLOT_SIZE) };
            // SAFETY: a slot begins with its status, which is aligned, and accessed as an atomic alone.
            unsafe { slot.cast().as_ref() }
        }

        /// False if the ring is full. What does not fit the slot is left out.
        fn put(&mut self, h: Header, vnet: VnetHdr, frame: &[u8]) -> bool {
            if self.status().load(Ordering::Acquire) != libc::TP_STATUS_KERNEL {
                return false;
            }
            self.write(offset_of!(tpacket2_hdr, tp_len), &h.len.to_ne_bytes());
            let (snaplen, mac) = (h.snaplen.to_ne_bytes(), h.mac.to_ne_bytes());
            self.write(offset_of!(tpacket2_hdr, tp_snaplen), &snaplen);
            self.write(offset_of!(tpacket2_hdr, tp_mac), &mac);
            let (tci, tpid) = (h.tci.to_ne_bytes(), h.tpid.to_ne_bytes());
            self.write(offset_of!(tpacket2_hdr, tp_vlan_tci), &tci);
            self.write(offset_of!(tpacket2_hdr, tp_vlan_tpid), &tpid);
            let mac = usize::from(h.mac);
            if mac >= size_of::<tpacket2_hdr>() + VNET_HDR_SIZE && mac + frame.len() <= SLOT_SIZE {
                self.write(mac - VNET_HDR_SIZE, &vnet.to_bytes());
                self.write(mac, frame);
            }
            let status = self.status();
            status.store(libc::TP_STATUS_USER | h.status, Ordering::Release);
            self.next = (self.next + 1) % self.memory.count();
            true
        }
    }

    fn pair(slots: usize) -> (Kernel, Ring<Arc<Heap>>) {
        let memory = Heap::new(slots);
        let ring = Ring::new(memory.clone());
        (Kernel { memory, next: 0 }, ring)
    }

    /// The same numbers each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) as usize % n
        }
    }

    const FIRST: usize = size_of::<tpacket2_hdr>() + VNET_HDR_SIZE;

    fn whole(mac: usize, frame: &[u8]) -> Header {
        Header {
            status: 0,
            len: frame.len() as u32,
            snaplen: frame.len() as u32,
            mac: mac as u16,
            tci: 0,
            tpid: 0,
        }
    }

    #[test]
    fn frames_come_as_they_were_put_wherever_they_lie() {
        let (mut kernel, mut ring) = pair(3);
        let mut numbers = Numbers(1);
        let mut waiting: VecDeque<(RxMeta, Vec<u8>)> = VecDeque::new();
        for step in 0..600 {
            if numbers.below(2) == 0 {
                let mac = FIRST + numbers.below(SLOT_SIZE - FIRST + 1);
                // Up to the last byte of the slot, often.
                let len = match numbers.below(3) {
                    0 => SLOT_SIZE - mac,
                    _ => numbers.below(SLOT_SIZE - mac + 1),
                };
                let frame: Vec<u8> = (0..len).map(|i| (i + step) as u8).collect();
                let vnet = VnetHdr::from_bytes(&[step as u8; VNET_HDR_SIZE]);
                let (status, vlan) = match numbers.below(3) {
                    0 => (0, None),
                    1 => (TP_STATUS_VLAN_VALID, Some((0x8100, 7))),
                    _ => (
                        TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID,
                        Some((0x88a8, 7)),
                    ),
                };
                let header = Header {
                    status,
                    tci: 7,
                    tpid: 0x88a8,
                    ..whole(mac, &frame)
                };
                assert_eq!(kernel.put(header, vnet, &frame), waiting.len() < 3);
                if waiting.len() < 3 {
                    waiting.push_back((RxMeta { vnet, len, vlan }, frame));
                }
            } else {
                match waiting.pop_front() {
                    None => assert_eq!(ring.peek(), Slot::Empty),
                    Some((meta, frame)) => {
                        assert_eq!(ring.peek(), Slot::Frame(meta, &frame));
                        ring.release();
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_lie_in_its_slot_is_no_frame() {
        let (mut kernel, mut ring) = pair(2);
        let good = [7; 60];
        for (mac, snaplen) in [
            (0, 0),
            (FIRST - 1, 60),
            (SLOT_SIZE - 59, 60),
            (SLOT_SIZE, 1),
            (SLOT_SIZE + 1, 0),
            (FIRST, SLOT_SIZE),
            (FIRST, u32::MAX as usize),
            (usize::from(u16::MAX), u32::MAX as usize),
        ] {
            let header = Header {
                len: snaplen as u32,
                snaplen: snaplen as u32,
                ..whole(mac, &[])
            };
            assert!(kernel.put(header, VnetHdr::default(), &[]));
            assert!(kernel.put(whole(FIRST, &good), VnetHdr::default(), &good));
            assert_eq!(ring.peek(), Slot::Truncated, "{mac} {snaplen}");
            ring.release();
            assert!(matches!(ring.peek(), Slot::Frame(_, data) if data == good));
            ring.release();
        }
    }

    #[test]
    fn a_frame_that_waits_elsewhere_and_one_that_was_cut_are_told_apart() {
        let (mut kernel, mut ring) = pair(1);
        let cut = |status| Header {
            status,
            len: 9000,
            ..whole(FIRST, &[1; 60])
        };
        let vnet = VnetHdr::default();
        assert!(kernel.put(cut(libc::TP_STATUS_COPY), vnet, &[1; 60]));
        assert!(matches!(ring.peek(), Slot::Large(meta) if meta.len == 9000));
        ring.release();
        assert!(kernel.put(cut(0), vnet, &[1; 60]));
        assert_eq!(ring.peek(), Slot::Truncated);
    }

    #[test]
    fn a_slot_is_read_only_when_it_was_filled() {
        const N: usize = 200;
        let (mut kernel, mut ring) = pair(2);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..N {
                    let frame = [n as u8; 100];
                    while !kernel.put(whole(FIRST, &frame), VnetHdr::default(), &frame) {
                        std::thread::yield_now();
                    }
                }
            });
            for n in 0..N {
                while ring.peek() == Slot::Empty {
                    std::thread::yield_now();
                }
                assert!(matches!(ring.peek(), Slot::Frame(_, data) if *data == [n as u8; 100]));
                ring.release();
            }
        });
    }
}
