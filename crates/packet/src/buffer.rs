//! A packet in memory: a buffer with headroom, the offsets of its layers, what came with it from its port or from
//! earlier passes ([`Metadata`]), and the work that the sender left to the hardware ([`Offload`]).
//!
//! ```text
//!  Packet --> PacketBuf { offsets, metadata, .. } --+
//!                                                   v
//!  bytes    |<-- headroom -->|<------------- data ------------->|<-- tailroom -->|
//!                            ^ l2 = 0   ^ l2_5   ^ l3    ^ l4
//!                                                   ^
//!  Packet --> PacketBuf { offsets, metadata, .. } --+   a duplicate, until one of them changes its bytes
//! ```
//!
//! A [`Packet`] is a handle, eight bytes that stages hand on; what it holds lies still. Handles come from and return
//! to a free list of the thread with their buffers, so that the packet path does not allocate. Duplicates share the
//! bytes; whoever changes them first gets a copy of its own. A packet is owned by exactly one stage at a time.

use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;
use ferrovs_sys::bytes::SharedBytes;

use crate::flow::{Flow, FlowTnl, PT_ETH, TunMetadata};
use crate::types::{DpPort, eth_type};

mod pool;

pub use pool::{Maker, copy, free, make};

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
    /// The receiver says so of a checksum that may be wrong, as only devices for tests do: when what it covers
    /// changes, it is computed anew.
    Claimed,
    /// The transport checksum is still to be computed: sum from `start` to the end, stored at `start + offset`
    /// (both from the beginning of the packet); the field holds the pseudo-header's sum.
    Partial { start: u16, offset: u16 },
}

/// What is known of the checksum of the IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IpChecksum {
    /// It is as it came, and follows changes of the header.
    #[default]
    AsIs,
    /// As [`Checksum::Claimed`].
    Claimed,
    /// It is still to be computed.
    Open,
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

impl CtOrigTuple {
    /// The one that a key shows; all zero if it shows none.
    pub fn of_flow(flow: &Flow) -> CtOrigTuple {
        if flow.ct_nw_proto == 0 {
            return CtOrigTuple::default();
        }
        let ipv6 = flow.dl_type.get() == eth_type::IPV6;
        let (mut src, mut dst) = (flow.ct_ipv6_src, flow.ct_ipv6_dst);
        if !ipv6 {
            (src, dst) = ([0; 16], [0; 16]);
            src[..4].copy_from_slice(flow.ct_nw_src.as_ref());
            dst[..4].copy_from_slice(flow.ct_nw_dst.as_ref());
        }
        CtOrigTuple {
            ipv6,
            src,
            dst,
            proto: flow.ct_nw_proto,
            tp_src: flow.ct_tp_src.get(),
            tp_dst: flow.ct_tp_dst.get(),
        }
    }
}

/// The connection that a tracker found a packet to be of, in the tracker's terms; a serial number of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CtConn {
    pub serial: u32,
    pub slot: u32,
    pub shard: u16,
    /// The packet is an error about the connection.
    pub related: bool,
}

impl CtConn {
    pub fn new(shard: u16, slot: u32, serial: u32, related: bool) -> CtConn {
        CtConn {
            serial,
            slot,
            shard,
            related,
        }
    }

    #[inline]
    pub fn is_some(&self) -> bool {
        self.serial != 0
    }
}

/// What is known of a packet beyond its bytes. Reset for each packet that a port receives.
// What all packets set comes first, and what few have last.
#[derive(Debug)]
#[repr(C)]
pub struct Metadata {
    pub in_port: DpPort,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    pub packet_type: u32,
    pub ct_mark: u32,
    pub ct_conn: CtConn,
    pub ct_label: [u8; 16],
    pub ct_zone: u16,
    pub ct_state: u8,
    pub ip_checksum: IpChecksum,
    pub tunnel: Outer,
    /// Nothing without a state.
    pub ct_orig: CtOrigTuple,
}

/// The outer header, when the packet came through a tunnel or an action set one. It is part of the packet, so that
/// to set it allocates nothing.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Outer {
    is_set: bool,
    /// The header may have options; otherwise they are all zero, and are left alone: they are most of it.
    options: bool,
    header: FlowTnl,
}

impl Outer {
    #[inline]
    pub fn get(&self) -> Option<&FlowTnl> {
        self.is_set.then_some(&self.header)
    }

    pub fn set(&mut self, header: &FlowTnl) {
        self.header.set_fixed(header);
        let options = header.has_options();
        if options || self.options {
            self.header.metadata = header.metadata;
        }
        (self.is_set, self.options) = (true, options);
    }

    /// Has an empty header filled. Where that fails, there is none.
    #[inline]
    pub fn fill<T, E>(&mut self, fill: impl FnOnce(&mut FlowTnl) -> Result<T, E>) -> Result<T, E> {
        self.clear();
        self.header.set_fixed(&FlowTnl::ZERO);
        if std::mem::replace(&mut self.options, true) {
            self.header.metadata = TunMetadata::NONE;
        }
        let filled = fill(&mut self.header)?;
        (self.is_set, self.options) = (true, self.header.has_options());
        Ok(filled)
    }

    #[inline]
    pub fn clear(&mut self) {
        self.is_set = false;
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_set
    }
}

impl Metadata {
    /// Forgets everything.
    #[inline]
    fn reset(&mut self) {
        let Metadata {
            in_port,
            recirc_id,
            dp_hash,
            skb_priority,
            pkt_mark,
            ct_state,
            ip_checksum,
            ct_zone,
            ct_mark,
            ct_label,
            ct_orig,
            ct_conn,
            packet_type,
            tunnel,
        } = self;
        *in_port = DpPort::NONE;
        (*recirc_id, *dp_hash, *skb_priority, *pkt_mark) = (0, 0, 0, 0);
        if *ct_state != 0 {
            *ct_orig = CtOrigTuple::default();
        }
        (*ct_state, *ct_zone, *ct_mark, *ct_label) = (0, 0, 0, [0; 16]);
        *ip_checksum = IpChecksum::AsIs;
        *ct_conn = CtConn::default();
        *packet_type = PT_ETH;
        tunnel.clear();
    }

    /// Takes over what is known of another packet.
    fn copy_from(&mut self, other: &Metadata) {
        let Metadata {
            in_port,
            recirc_id,
            dp_hash,
            skb_priority,
            pkt_mark,
            ct_state,
            ip_checksum,
            ct_zone,
            ct_mark,
            ct_label,
            ct_orig,
            ct_conn,
            packet_type,
            tunnel,
        } = self;
        *in_port = other.in_port;
        (*recirc_id, *dp_hash) = (other.recirc_id, other.dp_hash);
        (*skb_priority, *pkt_mark) = (other.skb_priority, other.pkt_mark);
        (*ct_state, *ct_zone, *ct_mark) = (other.ct_state, other.ct_zone, other.ct_mark);
        (*ct_label, *ct_orig) = (other.ct_label, other.ct_orig);
        *ip_checksum = other.ip_checksum;
        *ct_conn = other.ct_conn;
        *packet_type = other.packet_type;
        match other.tunnel.get() {
            Some(header) => tunnel.set(header),
            None => tunnel.clear(),
        }
    }
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
            ip_checksum: IpChecksum::AsIs,
            ct_zone: 0,
            ct_mark: 0,
            ct_label: [0; 16],
            ct_orig: CtOrigTuple::default(),
            ct_conn: CtConn::default(),
            packet_type: PT_ETH,
            tunnel: Outer::default(),
        }
    }
}

/// One packet; see the module's text for the layout. What it holds is a [`PacketBuf`].
#[derive(Debug)]
pub struct Packet(Option<Box<PacketBuf>>);

/// What a [`Packet`] holds.
// What is set for each packet that comes, and forgotten when it goes, is in two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PacketBuf {
    storage: SharedBytes,
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

const _: () = assert!(
    std::mem::offset_of!(PacketBuf, md) + std::mem::offset_of!(Metadata, tunnel) < 2 * 64,
    "whether there is a tunnel is in the second cache line"
);

impl Deref for Packet {
    type Target = PacketBuf;

    #[inline]
    fn deref(&self) -> &PacketBuf {
        match &self.0 {
            Some(buf) => buf,
            None => gone(),
        }
    }
}

impl DerefMut for Packet {
    #[inline]
    fn deref_mut(&mut self) -> &mut PacketBuf {
        match &mut self.0 {
            Some(buf) => buf,
            None => gone(),
        }
    }
}

/// Only [`Packet::drop`] takes the buffer.
#[cold]
fn gone() -> ! {
    unreachable!("a packet has its buffer as long as it lives")
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        if let Some(buf) = self.0.take() {
            pool::with(|pool| pool.give(buf));
        }
    }
}

impl Packet {
    /// An empty packet that can grow to `capacity` bytes behind [`HEADROOM`].
    pub fn with_capacity(capacity: usize) -> Packet {
        Packet::alloc(HEADROOM + capacity, HEADROOM)
    }

    /// An empty packet in a buffer of that size at least.
    fn alloc(size: usize, headroom: usize) -> Packet {
        let mut buf = pool::take(size);
        (buf.start, buf.end) = (headroom as u32, headroom as u32);
        Packet(Some(buf))
    }

    pub fn from_slice(data: &[u8]) -> Packet {
        let mut packet = Packet::with_capacity(data.len());
        packet.append(data);
        packet
    }

    /// Takes the packet out; what is left holds none, and is only to be dropped.
    #[inline]
    pub fn take(&mut self) -> Packet {
        Packet(self.0.take())
    }

    /// Another packet with the same bytes, which they share until one of them changes them.
    pub fn duplicate(&self) -> Packet {
        let mut copy = pool::take_bare();
        copy.storage = self.storage.clone();
        (copy.start, copy.end) = (self.start, self.end);
        copy.take_after(self);
        copy.l2_pad = self.l2_pad;
        copy.cutlen = self.cutlen;
        copy.offload = self.offload;
        Packet(Some(copy))
    }
}

impl PacketBuf {
    fn new(storage: SharedBytes) -> Box<PacketBuf> {
        Box::new(PacketBuf {
            storage,
            start: 0,
            end: 0,
            l2_5: NO_OFFSET,
            l3: NO_OFFSET,
            l4: NO_OFFSET,
            l2_pad: 0,
            rss_hash: None,
            cutlen: 0,
            offload: Offload::default(),
            md: Metadata::default(),
        })
    }

    /// Forgets everything about the packet but its bytes.
    #[inline]
    fn reset(&mut self) {
        (self.l2_5, self.l3, self.l4, self.l2_pad) = (NO_OFFSET, NO_OFFSET, NO_OFFSET, 0);
        (self.rss_hash, self.cutlen) = (None, 0);
        self.offload = Offload::default();
        self.md.reset();
    }

    /// Says of this packet what is known of `other`, whose headers it has.
    pub fn take_after(&mut self, other: &PacketBuf) {
        self.l2_5 = other.l2_5;
        self.l3 = other.l3;
        self.l4 = other.l4;
        self.rss_hash = other.rss_hash;
        self.md.copy_from(&other.md);
    }

    /// All of the buffer, for this packet alone.
    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        if self.storage.is_shared() {
            self.move_to(self.headroom(), self.tailroom());
        }
        self.storage.get_mut().unwrap_or_default()
    }

    /// Moves the packet into another buffer, with so much room before and behind at least.
    #[cold]
    fn move_to(&mut self, headroom: usize, tailroom: usize) {
        let mut other = Packet::alloc(headroom + self.size() + tailroom, headroom);
        if let Some(bytes) = other.storage.get_mut() {
            bytes[headroom..headroom + self.size()].copy_from_slice(self.data());
        }
        self.end = (headroom + self.size()) as u32;
        self.start = headroom as u32;
        std::mem::swap(&mut self.storage, &mut other.storage);
    }

    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.storage[self.start as usize..self.end as usize]
    }

    /// The data, and what is known beyond it.
    #[inline]
    pub fn with_metadata(&mut self) -> (&[u8], &mut Metadata) {
        let data = &self.storage[self.start as usize..self.end as usize];
        (data, &mut self.md)
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        &mut self.bytes_mut()[start..end]
    }

    /// Size of the data in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    pub fn tailroom(&self) -> usize {
        self.storage.len() - self.end as usize
    }

    /// Says how many bytes of the receive area hold the packet.
    pub fn set_size(&mut self, size: usize) {
        assert!(
            self.start as usize + size <= self.storage.len(),
            "packet larger than its buffer"
        );
        self.end = self.start + size as u32;
    }

    /// Adds bytes at the end, growing the buffer if it must.
    pub fn append(&mut self, data: &[u8]) {
        self.reserve(0, data.len());
        let end = self.end as usize;
        self.bytes_mut()[end..end + data.len()].copy_from_slice(data);
        self.end += data.len() as u32;
    }

    /// Opens `n` bytes in front of the data (their content is arbitrary). Layer offsets, and what the offload
    /// says of the packet, move along.
    pub fn push(&mut self, n: usize) -> &mut [u8] {
        self.reserve(n, 0);
        self.start -= n as u32;
        self.move_offsets(n as isize);
        let start = self.start as usize;
        &mut self.bytes_mut()[start..start + n]
    }

    /// Removes `n` bytes from the front; panics if there are fewer, which callers have checked. Layers that
    /// began in them are absent then.
    #[inline]
    pub fn pull(&mut self, n: usize) {
        assert!(n <= self.size(), "pull beyond the packet");
        self.start += n as u32;
        self.move_offsets(-(n as isize));
    }

    #[inline]
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

    /// Cuts off what is behind `size` bytes: first the padding, then what the layers hold.
    #[inline]
    pub fn truncate(&mut self, size: usize) {
        if let Some(cut) = self.size().checked_sub(size) {
            self.end -= cut as u32;
            self.l2_pad = usize::from(self.l2_pad).saturating_sub(cut) as u16;
        }
    }

    fn reserve(&mut self, front: usize, back: usize) {
        if self.headroom() < front || self.tailroom() < back {
            let headroom = self.headroom().max(front + HEADROOM);
            self.move_to(headroom, self.tailroom().max(back + 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn duplicates_share_their_bytes_until_one_changes_them() {
        let mut a = Packet::from_slice(b"abc");
        a.md.tunnel.set(&FlowTnl {
            ip_ttl: 9,
            ..FlowTnl::default()
        });
        let mut b = a.duplicate();
        let mut c = b.duplicate();
        let at = |p: &Packet| p.data().as_ptr();
        assert_eq!(at(&a), at(&c));
        // To look at less of the same bytes changes none.
        c.pull(1);
        c.truncate(1);
        assert_eq!((c.data(), at(&c)), (&b"b"[..], at(&a).wrapping_add(1)));
        b.data_mut()[0] = b'x';
        c.push(2).copy_from_slice(b"yy");
        c.append(b"z");
        assert_eq!(
            (a.data(), b.data(), c.data()),
            (&b"abc"[..], &b"xbc"[..], &b"yybz"[..])
        );
        assert_eq!(c.md.tunnel.get().map(|t| t.ip_ttl), Some(9));
        drop((a, b, c));
        // Nothing is left in what is used again.
        let d = Packet::from_slice(b"d");
        assert!(d.md.tunnel.get().is_none() && d.l3 == NO_OFFSET);
    }

    #[test]
    fn what_is_cut_off_is_padding_first() {
        let mut packet = Packet::from_slice(&[7; 60]);
        (packet.l4, packet.l2_pad) = (20, 10);
        for (size, l4, pad) in [
            (60, 30, 10),
            (55, 30, 5),
            (50, 30, 0),
            (40, 20, 0),
            (70, 20, 0),
        ] {
            packet.truncate(size);
            assert_eq!((packet.l4_data().len(), packet.l2_pad), (l4, pad), "{size}");
        }
    }

    #[test]
    fn what_packets_held_is_used_again() {
        let held = || pool::with(|p| (p.small.len(), p.large.len(), p.bare.len())).unwrap();
        let round = || {
            let batch: Vec<_> = (0..8).map(|_| Packet::from_slice(&[1; 60])).collect();
            let copies: Vec<_> = batch.iter().map(Packet::duplicate).collect();
            let mut changed: Vec<_> = copies.iter().map(Packet::duplicate).collect();
            changed.iter_mut().for_each(|p| p.data_mut()[0] = 2);
            // In either order, the last holder of the bytes gives them back.
            drop(batch);
            drop(changed);
            drop(copies);
            drop(Packet::with_capacity(60_000));
        };
        round();
        round();
        let first = held();
        assert_eq!((first.0, first.1), (16, 1));
        for _ in 0..5 {
            round();
            assert_eq!(held(), first);
        }
    }
}
