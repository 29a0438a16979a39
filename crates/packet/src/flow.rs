//! The flow key: every field that a table can match or an action can set, for one packet.
//!
//! [`Flow`] is plain data without padding, so the same value can be seen as fields or, by [`Flow::words`], as
//! [`FLOW_WORDS`] 64-bit words; masks ([`FlowWildcards`]) have the same shape, and packing, hashing, comparing
//! and masking work on words. The order of members is the order in which lookups stage them: metadata, then
//! link layer, network layer, transport layer; each stage begins at a word boundary.
//!
//! Values in network order have a `Be` type; the others are in host order. In the datapath `in_port` holds a
//! [`DpPort`](crate::types::DpPort), above it an [`OfPort`](crate::types::OfPort).
//!
//! Some fields share storage because their protocols exclude each other: ARP uses `nw_src` (spa), `nw_dst`
//! (tpa), `nw_proto` (op), `arp_sha`, `arp_tha`; ICMP type and code are in `tp_src` and `tp_dst`; neighbour
//! discovery link-layer options are in `arp_sha` (source) and `arp_tha` (target), its reserved word in
//! `igmp_group_ip4` and its option type in `tcp_flags`.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::types::{Be16, Be32, Be64, MacAddr};

pub type Ipv6Bytes = [u8; 16];

/// VLAN headers that a flow key can hold.
pub const FLOW_MAX_VLAN_HEADERS: usize = 2;
/// MPLS labels that a flow key can hold (one more slot pads the array to whole words).
pub const FLOW_MAX_MPLS_LABELS: usize = 3;
/// The bit of a label stack entry that says that it is the last.
pub const MPLS_BOS_MASK: u32 = 0x100;
/// Number of 32-bit registers.
pub const FLOW_N_REGS: usize = 32;
/// Bytes of tunnel option data that a flow key can hold, over all `tun_metadata` fields.
pub const TUN_METADATA_BYTES: usize = 256;

/// VLAN tag present ("CFI") bit of a TCI in a flow key.
pub const VLAN_CFI: u16 = 0x1000;
pub const VLAN_VID_MASK: u16 = 0x0fff;
pub const VLAN_PCP_MASK: u16 = 0xe000;
pub const VLAN_PCP_SHIFT: u32 = 13;

/// Bits of `nw_frag`.
pub const NW_FRAG_ANY: u8 = 1;
pub const NW_FRAG_LATER: u8 = 2;
pub const NW_FRAG_MASK: u8 = 3;

/// Bits of `nw_tos`.
pub const IP_ECN_MASK: u8 = 0x03;
pub const IP_DSCP_MASK: u8 = 0xfc;

/// Bits of `ct_state` (feature order of the datapath interface).
pub const CS_NEW: u8 = 0x01;
pub const CS_ESTABLISHED: u8 = 0x02;
pub const CS_RELATED: u8 = 0x04;
pub const CS_REPLY_DIR: u8 = 0x08;
pub const CS_INVALID: u8 = 0x10;
pub const CS_TRACKED: u8 = 0x20;
pub const CS_SRC_NAT: u8 = 0x40;
pub const CS_DST_NAT: u8 = 0x80;

/// Bits of `tunnel.flags`; `tun_flags` of OpenFlow shows only OAM.
pub const FLOW_TNL_F_OAM: u16 = 1 << 0;
pub const FLOW_TNL_F_DONT_FRAGMENT: u16 = 1 << 1;
pub const FLOW_TNL_F_CSUM: u16 = 1 << 2;
pub const FLOW_TNL_F_KEY: u16 = 1 << 3;
pub const FLOW_TNL_PUB_F_MASK: u16 = FLOW_TNL_F_OAM;
pub const FLOW_TNL_F_MASK: u16 = 0xf;

/// Packet type of an Ethernet frame (name space 0, type 0).
pub const PT_ETH: u32 = 0;
/// Builds a packet type from its name space and type.
pub const fn packet_type(ns: u16, ns_type: u16) -> u32 {
    (ns as u32) << 16 | ns_type as u32
}

/// Options of a tunnel header: raw option values laid out by the bridge's TLV table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TunMetadata {
    /// One bit for each `tun_metadata` field that is present.
    pub present: u64,
    /// Bytes of `opts` in use when the options are raw TLVs of a datapath (not yet mapped to fields).
    pub len: u8,
    pub pad: [u8; 7],
    pub opts: [u8; TUN_METADATA_BYTES],
}

impl TunMetadata {
    /// No options.
    pub const NONE: TunMetadata = zerocopy::transmute!([0u64; size_of::<TunMetadata>() / 8]);
}

/// The outer header of a packet that came through a tunnel, or shall leave through one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowTnl {
    pub ip_dst: Be32,
    pub ip_src: Be32,
    pub ipv6_dst: Ipv6Bytes,
    pub ipv6_src: Ipv6Bytes,
    pub tun_id: Be64,
    pub flags: u16,
    pub ip_tos: u8,
    pub ip_ttl: u8,
    pub tp_src: Be16,
    pub tp_dst: Be16,
    pub gbp_id: Be16,
    pub gbp_flags: u8,
    pub erspan_ver: u8,
    pub erspan_idx: u32,
    pub erspan_dir: u8,
    pub erspan_hwid: u8,
    pub gtpu_flags: u8,
    pub gtpu_msgtype: u8,
    pub pad: [u8; 4],
    pub metadata: TunMetadata,
}

/// Words of a [`FlowTnl`] in front of its options.
const FLOW_TNL_FIXED_WORDS: usize = std::mem::offset_of!(FlowTnl, metadata) / 8;

/// A [`FlowTnl`] as words.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FlowTnlWords {
    fixed: [u64; FLOW_TNL_FIXED_WORDS],
    options: [u64; size_of::<TunMetadata>() / 8],
}

impl FlowTnl {
    /// One that says nothing.
    pub const ZERO: FlowTnl = zerocopy::transmute!([0u64; size_of::<FlowTnl>() / 8]);

    /// Whether a tunnel destination is set, over IPv4 or IPv6.
    #[inline]
    pub fn dst_is_set(&self) -> bool {
        self.ip_dst.get() != 0 || self.ipv6_dst != [0; 16]
    }

    /// Whether there are options, mapped to fields or raw.
    #[inline]
    pub fn has_options(&self) -> bool {
        self.metadata.present != 0 || self.metadata.len != 0
    }

    /// The words without the options.
    #[inline]
    pub fn fixed(&self) -> &[u64; FLOW_TNL_FIXED_WORDS] {
        let words: &FlowTnlWords = zerocopy::transmute_ref!(self);
        &words.fixed
    }

    /// Takes over all of another but its options.
    #[inline]
    pub fn set_fixed(&mut self, other: &FlowTnl) {
        let words: &mut FlowTnlWords = zerocopy::transmute_mut!(self);
        words.fixed = *other.fixed();
    }
}

impl Default for FlowTnl {
    fn default() -> Self {
        FlowTnl::ZERO
    }
}

/// One VLAN header; `tci` has [`VLAN_CFI`] set when the header is there.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VlanHdr {
    pub tpid: Be16,
    pub tci: Be16,
}

/// Network Service Header (RFC 8300) with the four context words of metadata type 1.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowNsh {
    pub flags: u8,
    pub ttl: u8,
    pub mdtype: u8,
    pub np: u8,
    /// Service path identifier (24 bits) and service index (8 bits).
    pub path_hdr: Be32,
    pub context: [Be32; 4],
}

/// A flow key, or with the same shape a mask: see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Flow {
    // Metadata.
    pub tunnel: FlowTnl,
    pub metadata: Be64,
    pub regs: [u32; FLOW_N_REGS],
    pub skb_priority: u32,
    pub pkt_mark: u32,
    pub dp_hash: u32,
    pub in_port: u32,
    pub recirc_id: u32,
    pub ct_state: u8,
    pub ct_nw_proto: u8,
    pub ct_zone: u16,
    pub ct_mark: u32,
    pub packet_type: Be32,
    /// Connection label, most significant byte first.
    pub ct_label: [u8; 16],
    pub conj_id: u32,
    pub actset_output: u32,

    // Link layer.
    pub dl_dst: MacAddr,
    pub dl_src: MacAddr,
    /// EtherType after all VLAN headers; [`eth_type::NOT_ETH`](crate::types::eth_type::NOT_ETH) for 802.2 frames.
    pub dl_type: Be16,
    pub pad1: [u8; 2],
    pub vlans: [VlanHdr; FLOW_MAX_VLAN_HEADERS],
    pub mpls_lse: [Be32; FLOW_MAX_MPLS_LABELS + 1],

    // Network layer.
    pub nw_src: Be32,
    pub nw_dst: Be32,
    pub ct_nw_src: Be32,
    pub ct_nw_dst: Be32,
    pub ipv6_src: Ipv6Bytes,
    pub ipv6_dst: Ipv6Bytes,
    pub ct_ipv6_src: Ipv6Bytes,
    pub ct_ipv6_dst: Ipv6Bytes,
    pub ipv6_label: Be32,
    pub nw_frag: u8,
    pub nw_tos: u8,
    pub nw_ttl: u8,
    pub nw_proto: u8,
    pub nsh: FlowNsh,

    // Transport layer.
    pub nd_target: Ipv6Bytes,
    pub arp_sha: MacAddr,
    pub arp_tha: MacAddr,
    pub tcp_flags: Be16,
    pub pad2: [u8; 2],
    pub tp_src: Be16,
    pub tp_dst: Be16,
    pub ct_tp_src: Be16,
    pub ct_tp_dst: Be16,
    pub igmp_group_ip4: Be32,
    pub pad3: [u8; 4],
}

/// Number of 64-bit words in a [`Flow`].
pub const FLOW_WORDS: usize = size_of::<Flow>() / 8;

const _: () = assert!(size_of::<Flow>().is_multiple_of(8) && FLOW_WORDS <= 128);

impl Default for Flow {
    fn default() -> Self {
        Flow::new_zeroed()
    }
}

impl Flow {
    /// The key as words in host memory order.
    pub fn words(&self) -> &[u64; FLOW_WORDS] {
        zerocopy::transmute_ref!(self)
    }

    pub fn words_mut(&mut self) -> &mut [u64; FLOW_WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// The EtherType of what the packet is: the type inside a packet type takes the place of the frame's.
    pub fn ether_type(&self) -> u16 {
        let packet_type = self.packet_type.get();
        if packet_type >> 16 == 1 {
            packet_type as u16
        } else {
            self.dl_type.get()
        }
    }

    /// Clears every bit that `mask` does not have.
    pub fn mask(&mut self, mask: &FlowWildcards) {
        for (value, mask) in self.words_mut().iter_mut().zip(mask.masks.words()) {
            *value &= mask;
        }
    }

    pub fn xreg(&self, i: usize) -> u64 {
        u64::from(self.regs[i * 2]) << 32 | u64::from(self.regs[i * 2 + 1])
    }

    pub fn set_xreg(&mut self, i: usize, value: u64) {
        self.regs[i * 2] = (value >> 32) as u32;
        self.regs[i * 2 + 1] = value as u32;
    }
}

/// Which bits of a flow key matter: 1 = matched exactly, 0 = wildcarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FlowWildcards {
    pub masks: Flow,
}

impl FlowWildcards {
    /// Nothing matters.
    pub fn catchall() -> Self {
        Self::default()
    }

    pub fn is_catchall(&self) -> bool {
        self.masks.words().iter().all(|&w| w == 0)
    }

    /// Makes every bit of `other` matter too.
    pub fn fold(&mut self, other: &FlowWildcards) {
        for (a, b) in self.masks.words_mut().iter_mut().zip(other.masks.words()) {
            *a |= b;
        }
    }
}

/// A key and its mask. Bits of `flow` outside `wc` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Match {
    pub flow: Flow,
    pub wc: FlowWildcards,
}

impl Match {
    pub fn catchall() -> Self {
        Self::default()
    }

    pub fn new(flow: &Flow, wc: &FlowWildcards) -> Self {
        let mut m = Match {
            flow: *flow,
            wc: *wc,
        };
        m.flow.mask(wc);
        m
    }

    /// Whether `flow` agrees with the match in every bit that matters.
    pub fn matches(&self, flow: &Flow) -> bool {
        let pairs = self.flow.words().iter().zip(self.wc.masks.words());
        pairs
            .zip(flow.words())
            .all(|((want, mask), have)| want == &(have & mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_whole_words_and_fields_show_in_them() {
        assert_eq!(FLOW_WORDS, 92);
        let mut flow = Flow::default();
        flow.in_port = 7;
        assert_eq!(flow.words().iter().filter(|&&w| w != 0).count(), 1);
        flow.set_xreg(1, 0x0123_4567_89ab_cdef);
        assert_eq!(
            (flow.regs[2], flow.regs[3], flow.xreg(1)),
            (0x0123_4567, 0x89ab_cdef, 0x0123_4567_89ab_cdef)
        );
    }
}
