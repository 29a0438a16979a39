//! Actions of a datapath flow, decoded once when the flow is installed.
//!
//! The variants are those of the datapath interface (`OVS_ACTION_ATTR_*`) and of the userspace datapath; their
//! text form is in the `text` module. A list that is empty drops the packet.

use ferrovs_encap::TunnelHeader;
use ferrovs_packet::flow::{FlowTnl, Ipv6Bytes};
use ferrovs_packet::types::{Be16, Be32, DpPort, MacAddr};

/// One datapath action.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Output(DpPort),
    Userspace(Userspace),
    /// Sets the bits of a header that `mask` selects; without a mask the whole of it.
    Set(Set),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    /// With a probability of `probability / 2^32` runs `actions`, on a copy.
    Sample {
        probability: u32,
        actions: Vec<Action>,
    },
    Recirc(u32),
    Hash {
        alg: HashAlg,
        basis: u32,
    },
    PushMpls {
        lse: Be32,
        eth_type: u16,
    },
    PopMpls {
        eth_type: u16,
    },
    Ct(Box<Ct>),
    CtClear,
    /// Limits the next output to so many bytes.
    Trunc(u32),
    PushEth {
        src: MacAddr,
        dst: MacAddr,
    },
    PopEth,
    PushNsh(Box<PushNsh>),
    PopNsh,
    Meter(u32),
    /// Runs actions on a copy; the packet goes on unchanged.
    Clone(Vec<Action>),
    CheckPktLen {
        size: u16,
        greater: Vec<Action>,
        less_equal: Vec<Action>,
    },
    AddMpls {
        lse: Be32,
        eth_type: u16,
        tun_flags: u16,
    },
    DecTtl {
        exceeded: Vec<Action>,
    },
    Drop(DropReason),
    Psample {
        group: u32,
        cookie: Vec<u8>,
    },
    TunnelPush(Box<TunnelPush>),
    TunnelPop(DpPort),
    LbOutput(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlg {
    L4,
    SymL4,
}

/// Sends the packet up, with a cookie that says why.
#[derive(Clone, Debug, PartialEq)]
pub struct Userspace {
    /// Netlink port of the reader; the userspace datapath calls its handler instead and ignores it.
    pub pid: u32,
    pub cookie: Cookie,
    /// Tells the reader which actions the packet would have met.
    pub with_actions: bool,
    pub tunnel_out_port: Option<DpPort>,
}

/// Why a packet is sent up by an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Cookie {
    Sflow {
        vlan_tci: Be16,
        output: u32,
        ofp_in_port: u16,
        ofproto: u128,
    },
    SlowPath {
        reason: SlowPath,
        ofp_in_port: u16,
        ofproto: u128,
    },
    FlowSample {
        probability: u16,
        collector_set_id: u32,
        obs_domain_id: u32,
        obs_point_id: u32,
        output_port: DpPort,
        direction: SampleDirection,
        ofp_in_port: u16,
        ofproto: u128,
    },
    Ipfix {
        output_port: DpPort,
        ofp_in_port: u16,
        ofproto: u128,
    },
    Controller {
        dont_send: bool,
        continuation: bool,
        reason: u8,
        recirc_id: u32,
        rule_cookie: u64,
        controller_id: u16,
        max_len: u16,
        ofp_in_port: u16,
        ofproto: u128,
    },
    /// Bytes that are none of the above.
    Raw(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SampleDirection {
    #[default]
    None,
    Ingress,
    Egress,
}

/// Reasons to handle every packet of a flow above the datapath; a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SlowPath(pub u32);

impl SlowPath {
    pub const NONE: SlowPath = SlowPath(0);
    pub const CFM: SlowPath = SlowPath(1 << 0);
    pub const BFD: SlowPath = SlowPath(1 << 1);
    pub const LACP: SlowPath = SlowPath(1 << 2);
    pub const STP: SlowPath = SlowPath(1 << 3);
    pub const LLDP: SlowPath = SlowPath(1 << 4);
    /// Actions that the datapath cannot do.
    pub const ACTION: SlowPath = SlowPath(1 << 5);
    /// A match that the datapath cannot express.
    pub const MATCH: SlowPath = SlowPath(1 << 6);
    /// Bits and their names in texts.
    pub const NAMES: [(SlowPath, &'static str); 7] = [
        (SlowPath::CFM, "cfm"),
        (SlowPath::BFD, "bfd"),
        (SlowPath::LACP, "lacp"),
        (SlowPath::STP, "stp"),
        (SlowPath::LLDP, "lldp"),
        (SlowPath::ACTION, "action"),
        (SlowPath::MATCH, "match"),
    ];

    pub(crate) const ALL: u32 = (1 << SlowPath::NAMES.len()) - 1;

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, reason: SlowPath) -> bool {
        self.0 & reason.0 != 0
    }
}

impl std::ops::BitOrAssign for SlowPath {
    fn bitor_assign(&mut self, other: SlowPath) {
        self.0 |= other.0;
    }
}

/// A value and which of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Masked<T> {
    pub value: T,
    pub mask: T,
}

/// A header or metadata member to set, each with its mask; an all-ones mask is printed as plain `set(...)`.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    SkbPriority(Masked<u32>),
    SkbMark(Masked<u32>),
    CtMark(Masked<u32>),
    CtLabels(Masked<[u8; 16]>),
    Ethernet(Masked<EthernetKey>),
    Mpls(Masked<u32>),
    Ipv4(Masked<Ipv4Key>),
    Ipv6(Masked<Ipv6Key>),
    Tcp(Masked<PortsKey>),
    Udp(Masked<PortsKey>),
    Sctp(Masked<PortsKey>),
    Icmp(Masked<IcmpKey>),
    Icmpv6(Masked<IcmpKey>),
    Arp(Masked<ArpKey>),
    Nd(Masked<NdKey>),
    NdExtensions(Masked<NdExtensionsKey>),
    Nsh(Box<Masked<NshKey>>),
    /// Always exact.
    Tunnel(Box<FlowTnl>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EthernetKey {
    pub src: MacAddr,
    pub dst: MacAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ipv4Key {
    pub src: Be32,
    pub dst: Be32,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    pub frag: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ipv6Key {
    pub src: Ipv6Bytes,
    pub dst: Ipv6Bytes,
    pub label: Be32,
    pub proto: u8,
    pub tclass: u8,
    pub hlimit: u8,
    pub frag: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortsKey {
    pub src: Be16,
    pub dst: Be16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IcmpKey {
    pub icmp_type: u8,
    pub code: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ArpKey {
    pub sip: Be32,
    pub tip: Be32,
    pub op: Be16,
    pub sha: MacAddr,
    pub tha: MacAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NdKey {
    pub target: Ipv6Bytes,
    pub sll: MacAddr,
    pub tll: MacAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NdExtensionsKey {
    pub reserved: Be32,
    pub options_type: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NshKey {
    pub flags: u8,
    pub ttl: u8,
    pub mdtype: u8,
    pub np: u8,
    pub path_hdr: Be32,
    pub context: [Be32; 4],
}

#[derive(Clone, Debug, PartialEq)]
pub struct PushNsh {
    pub key: NshKey,
    pub md2: Vec<u8>,
}

/// Connection tracking.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ct {
    pub commit: bool,
    pub force: bool,
    pub zone: u16,
    pub mark: Option<Masked<u32>>,
    pub labels: Option<Masked<[u8; 16]>>,
    pub helper: Option<String>,
    pub timeout: Option<String>,
    pub nat: Option<Nat>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Nat {
    pub kind: NatKind,
    pub ipv6: bool,
    pub ip_min: Ipv6Bytes,
    pub ip_max: Ipv6Bytes,
    pub port_min: u16,
    pub port_max: u16,
    pub persistent: bool,
    pub hash: bool,
    pub random: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NatKind {
    /// Only translates what an established connection says.
    #[default]
    Existing,
    Src,
    Dst,
}

/// Prepends a prebuilt outer header and sends the packet on from `out_port`.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelPush {
    pub tnl_port: DpPort,
    pub out_port: DpPort,
    pub header: TunnelHeader,
}

/// Why a packet is dropped by a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum DropReason {
    #[default]
    Ok = 0,
    BridgeNotFound,
    RecursionTooDeep,
    TooManyResubmits,
    StackTooDeep,
    NoRecirculationContext,
    RecirculationConflict,
    TooManyMplsLabels,
    InvalidTunnelMetadata,
    UnsupportedPacketType,
    CongestionDrop,
    ForwardingDisabled,
    TunnelRoutingFailed,
    TunnelOutputNoEthernet,
    TunnelNeighCacheMiss,
    TunnelHeaderBuildFailed,
}
