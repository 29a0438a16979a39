//! A packet in memory: one owned buffer with headroom, the offsets of its layers, what came with it from its
//! port or from earlier passes ([`Metadata`]), and the work that the sender left to the hardware ([`Offload`]).
//!
//! ```text
//!  storage  |<-- headroom -->|<------------- data ------------->|<-- tailroom -->|
//!                            ^ l2 = 0   ^ l2_5   ^ l3    ^ l4
//! ```
//!
//! Buffers come from and return to a free list of the thread, so that the packet path does not allocate. A
//! packet is owned by exactly one stage at a time.

use std::cell::RefCell;

use arrayvec::ArrayVec;

use crate::flow::{FlowTnl, PT_ETH};
use crate::types::DpPort;

/// Packets that a stage handles at once.
pub const BATCH: usize = 32;
/// Room in front of a received packet, enough for two tunnel headers.
pub const HEADROOM: usize = 256;
/// Room for the largest GSO frame with its link-layer header.
pub const MAX_DATA: usize = 65536 + 512;
/// Offset that says "this layer is absent".
pub const NO_OFFSET: u16 = u16::MAX;

/// A run of packets that one stage owns.
pub type Batch = ArrayVec<Packet, BATCH>;

/// Checksum work that is left to the port that sends the packet, as in `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Nothing is known; the bytes are as they came.
    #[default]
    Unknown,
    /// The receiver has verified the transport checksum.
    Good,
    /// The transport checksum is still to be computed: sum from `start` to the end, stored at `start + offset`
    /// (both from the beginning of the packet); the field holds the pseudo-header's sum.
    Partial { start: u16, offset: u16 },
}

/// Segmentation that is left to the port that sends the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoType {
    Tcp4,
    Tcp6,
    /// UDP segmentation (USO), one datagram a segment.
    Udp,
}

/// A frame that stands for several: `size` is the payload of each segment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    pub kind: GsoType,
    pub size: u16,
    /// Length of all headers up to the payload, in bytes; 0 when unknown.
    pub hdr_len: u16,
    pub ecn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    pub checksum: Checksum,
    pub gso: Option<Gso>,
}

/// Original tuple of a tracked connection, as the `ct_nw_src` family of fields shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CtOrigTuple {
    pub ipv6: bool,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub proto: u8,
    pub tp_src: u16,
    pub tp_dst: u16,
}

/// What is known of a packet beyond its bytes. Reset for each packet that a port receives.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub in_port: DpPort,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    pub ct_state: u8,
    pub ct_zone: u16,
    pub ct_mark: u32,
    pub ct_label: [u8; 16],
    pub ct_orig: CtOrigTuple,
    pub packet_type: u32,
    /// Outer header, when the packet came through a tunnel or an action set one.
    pub tunnel: Option<Tunnel>,
}

impl Default for Metadata {
    fn default() -> Self {
        Metadata {
            in_port: DpPort::NONE,
            recirc_id: 0,
            dp_hash: 0,
            skb_priority: 0,
            pkt_mark: 0,
            ct_state: 0,
            ct_zone: 0,
            ct_mark: 0,
            ct_label: [0; 16],
            ct_orig: CtOrigTuple::default(),
            packet_type: PT_ETH,
            tunnel: None,
        }
    }
}

/// One packet; see the module's text for the layout.
#[derive(Debug)]
pub struct Packet {
    storage: Storage,
    start: u32,
    end: u32,
    /// Offsets from the start of the data; [`NO_OFFSET`] when the layer is absent.
    pub l2_5: u16,
    pub l3: u16,
    pub l4: u16,
    /// Bytes at the end that the link layer padded.
    pub l2_pad: u16,
    /// Receive-side hash of the five-tuple, when known.
    pub rss_hash: Option<u32>,
    /// Bytes that an earlier `trunc` action cut from the next output, 0 for none.
    pub cutlen: u32,
    pub offload: Offload,
    pub md: Metadata,
}

impl Packet {
    /// An empty packet that can grow to `capacity` bytes behind [`HEADROOM`].
    pub fn with_capacity(capacity: usize) -> Packet {
        let storage = Storage::alloc(HEADROOM + capacity);
        Packet {
            storage,
            start: HEADROOM as u32,
            end: HEADROOM as u32,
            l2_5: NO_OFFSET,
            l3: NO_OFFSET,
            l4: NO_OFFSET,
            l2_pad: 0,
            rss_hash: None,
            cutlen: 0,
            offload: Offload::default(),
            md: Metadata::default(),
        }
    }

    pub fn from_slice(data: &[u8]) -> Packet {
        let mut packet = Packet::with_capacity(data.len());
        packet.append(data);
        packet
    }

    /// A copy with its own buffer.
    pub fn duplicate(&self) -> Packet {
        let mut copy = Packet::from_slice(self.data());
        copy.take_after(self);
        copy.l2_pad = self.l2_pad;
        copy.cutlen = self.cutlen;
        copy.offload = self.offload;
        copy
    }

    /// Says of this packet what is known of `other`, whose headers it has.
    pub(crate) fn take_after(&mut self, other: &Packet) {
        self.l2_5 = other.l2_5;
        self.l3 = other.l3;
        self.l4 = other.l4;
        self.rss_hash = other.rss_hash;
        self.md = other.md.clone();
    }

    pub fn data(&self) -> &[u8] {
        &self.storage.bytes()[self.start as usize..self.end as usize]
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.storage.bytes_mut()[self.start as usize..self.end as usize]
    }

    /// Size of the data in bytes.
    pub fn size(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    pub fn tailroom(&self) -> usize {
        self.storage.bytes().len() - self.end as usize
    }

    /// The whole free space behind the headroom, for a port to receive into; follow with [`Packet::set_size`].
    pub fn receive_area(&mut self) -> &mut [u8] {
        let start = self.start as usize;
        &mut self.storage.bytes_mut()[start..]
    }

    /// Says how many bytes of the receive area hold the packet.
    pub fn set_size(&mut self, size: usize) {
        assert!(
            self.start as usize + size <= self.storage.bytes().len(),
            "packet larger than its buffer"
        );
        self.end = self.start + size as u32;
    }

    /// Adds bytes at the end, growing the buffer if it must.
    pub fn append(&mut self, data: &[u8]) {
        self.reserve(0, data.len());
        let end = self.end as usize;
        self.storage.bytes_mut()[end..end + data.len()].copy_from_slice(data);
        self.end += data.len() as u32;
    }

    /// Opens `n` bytes in front of the data (their content is arbitrary). Layer offsets, and what the offload
    /// says of the packet, move along.
    pub fn push(&mut self, n: usize) -> &mut [u8] {
        self.reserve(n, 0);
        self.start -= n as u32;
        self.move_offsets(n as isize);
        let start = self.start as usize;
        &mut self.storage.bytes_mut()[start..start + n]
    }

    /// Removes `n` bytes from the front; panics if there are fewer, which callers have checked. Layers that
    /// began in them are absent then.
    pub fn pull(&mut self, n: usize) {
        assert!(n <= self.size(), "pull beyond the packet");
        self.start += n as u32;
        self.move_offsets(-(n as isize));
    }

    fn move_offsets(&mut self, by: isize) {
        let moved = |ofs: u16| u16::try_from(ofs as isize + by).unwrap_or(NO_OFFSET);
        for ofs in [&mut self.l2_5, &mut self.l3, &mut self.l4] {
            if *ofs != NO_OFFSET {
                *ofs = moved(*ofs);
            }
        }
        if let Checksum::Partial { start, offset } = self.offload.checksum {
            self.offload.checksum = match moved(start) {
                NO_OFFSET => Checksum::Unknown,
                start => Checksum::Partial { start, offset },
            };
        }
        if let Some(gso) = &mut self.offload.gso
            && gso.hdr_len != 0
        {
            gso.hdr_len = u16::try_from(gso.hdr_len as isize + by).unwrap_or(0);
        }
    }

    /// The data from the network header on; empty when there is none.
    pub fn l3_data(&self) -> &[u8] {
        self.data().get(usize::from(self.l3)..).unwrap_or_default()
    }

    /// The data from the transport header to the end of the network layer's payload; empty when there is none.
    pub fn l4_data(&self) -> &[u8] {
        let end = self.size().saturating_sub(usize::from(self.l2_pad));
        self.data()
            .get(usize::from(self.l4)..end)
            .unwrap_or_default()
    }

    pub fn truncate(&mut self, size: usize) {
        if size < self.size() {
            self.end = self.start + size as u32;
        }
    }

    fn reserve(&mut self, front: usize, back: usize) {
        if self.headroom() >= front && self.tailroom() >= back {
            return;
        }
        let headroom = self.headroom().max(front + HEADROOM);
        let mut storage = Storage::alloc(headroom + self.size() + self.tailroom().max(back + 64));
        storage.bytes_mut()[headroom..headroom + self.size()].copy_from_slice(self.data());
        self.end = (headroom + self.size()) as u32;
        self.start = headroom as u32;
        self.storage = storage;
    }
}

/// Sizes of pooled buffers: ordinary frames, and GSO frames.
const SMALL: usize = 2048 + HEADROOM;
const LARGE: usize = MAX_DATA + HEADROOM;
/// Buffers of each size that a thread keeps.
const KEEP_SMALL: usize = 1024;
const KEEP_LARGE: usize = 96;

/// Outer headers that a thread keeps.
const KEEP_TUNNELS: usize = 256;

#[derive(Default)]
struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    /// Their places, which packets take and give back.
    #[allow(clippy::vec_box)]
    tunnels: Vec<Box<FlowTnl>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Debug)]
struct Storage(Option<Box<[u8]>>);

impl Storage {
    fn alloc(size: usize) -> Storage {
        let pooled = POOL.with_borrow_mut(|pool| match size {
            0..=SMALL => pool.small.pop(),
            n if n <= LARGE => pool.large.pop(),
            _ => None,
        });
        let size = match size {
            0..=SMALL => SMALL,
            n if n <= LARGE => LARGE,
            _ => size,
        };
        Storage(Some(
            pooled.unwrap_or_else(|| vec![0; size].into_boxed_slice()),
        ))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let Some(buffer) = self.0.take() else { return };
        // A thread that is ending has no pool any more; the buffer is then simply freed.
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut() {
                match buffer.len() {
                    SMALL if pool.small.len() < KEEP_SMALL => pool.small.push(buffer),
                    LARGE if pool.large.len() < KEEP_LARGE => pool.large.push(buffer),
                    _ => {}
                }
            }
        });
    }
}

/// The outer header that a packet had or shall get. Its place comes from and returns to the free list of the thread.
#[derive(Debug)]
pub struct Tunnel(Option<Box<FlowTnl>>);

impl Tunnel {
    /// One that says nothing.
    pub fn zeroed() -> Tunnel {
        Tunnel::from(&NO_TUNNEL)
    }
}

static NO_TUNNEL: FlowTnl = FlowTnl::ZERO;

impl From<&FlowTnl> for Tunnel {
    fn from(tnl: &FlowTnl) -> Tunnel {
        let pooled = POOL.with_borrow_mut(|pool| pool.tunnels.pop());
        Tunnel(Some(match pooled {
            Some(mut place) => {
                *place = *tnl;
                place
            }
            None => Box::new(*tnl),
        }))
    }
}

impl Clone for Tunnel {
    fn clone(&self) -> Tunnel {
        Tunnel::from(&**self)
    }
}

impl std::ops::Deref for Tunnel {
    type Target = FlowTnl;

    fn deref(&self) -> &FlowTnl {
        self.0.as_deref().unwrap_or(&NO_TUNNEL)
    }
}

impl std::ops::DerefMut for Tunnel {
    fn deref_mut(&mut self) -> &mut FlowTnl {
        self.0.get_or_insert_default()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let Some(place) = self.0.take() else { return };
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool.tunnels.len() < KEEP_TUNNELS
            {
                pool.tunnels.push(place);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_takes_the_place_of_one_that_went_and_nothing_of_what_it_said() {
        let mut first = Tunnel::zeroed();
        first.ip_ttl = 9;
        let copy = first.clone();
        let place: *const FlowTnl = &*first;
        drop(first);
        let second = Tunnel::zeroed();
        assert_eq!(
            (place, &*second),
            (&*second as *const _, &FlowTnl::default())
        );
        assert_eq!(copy.ip_ttl, 9);
        drop((second, copy));
        assert_eq!(POOL.with_borrow(|pool| pool.tunnels.len()), 2);
    }

    #[test]
    fn headers_can_be_pushed_beyond_the_headroom_and_pulled_again() {
        let mut packet = Packet::from_slice(b"payload");
        for i in 0..100u8 {
            packet.push(50).fill(i);
        }
        assert_eq!(packet.size(), 5007);
        packet.pull(5000);
        assert_eq!(packet.data(), b"payload");
        packet.append(&[1; 70_000]);
        assert_eq!(packet.size(), 70_007);
        packet.truncate(7);
        assert_eq!(packet.duplicate().data(), b"payload");
    }
}
