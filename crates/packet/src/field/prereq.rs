//! What must hold of a packet for a field to mean something.

use crate::flow::{
    CS_DST_NAT, CS_ESTABLISHED, CS_INVALID, CS_NEW, CS_RELATED, CS_REPLY_DIR, CS_SRC_NAT,
    CS_TRACKED, Flow, FlowWildcards, Match, NW_FRAG_LATER, NW_FRAG_MASK, PT_ETH, VLAN_CFI,
};
use crate::types::{Be16, Be32, eth_type, ip_proto};

/// Prerequisite of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prereq {
    None,
    Ethernet,
    VlanVid,
    Mpls,
    Ipv4,
    Ipv6,
    /// IPv4 or IPv6.
    IpAny,
    /// ARP or RARP.
    Arp,
    Nsh,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    /// Neighbour discovery, solicitation or advertisement.
    Nd,
    NdSolicit,
    NdAdvert,
    /// A valid tracked connection.
    Ct,
}

/// ICMPv6 types of neighbour discovery.
pub const ND_SOLICIT: u16 = 135;
pub const ND_ADVERT: u16 = 136;

impl Prereq {
    /// Whether a packet with this key fulfils it.
    pub fn ok(self, flow: &Flow) -> bool {
        if let Prereq::Ct = self {
            // A tracked packet that is valid is always one of these.
            return flow.ct_state & (CS_NEW | CS_ESTABLISHED | CS_REPLY_DIR) != 0;
        }
        self.ok_on_packet(flow)
    }

    fn ok_on_packet(self, flow: &Flow) -> bool {
        let ethernet = flow.packet_type.get() == PT_ETH;
        let ty = flow.ether_type();
        let l4 = |proto| flow.nw_proto == proto && flow.nw_frag & NW_FRAG_LATER == 0;
        let ip_any = ty == eth_type::IP || ty == eth_type::IPV6;
        let nd = |types: &[u16]| {
            ty == eth_type::IPV6
                && l4(ip_proto::ICMPV6)
                && flow.tp_dst.get() == 0
                && types.contains(&flow.tp_src.get())
        };
        match self {
            Prereq::None | Prereq::Ct => true,
            Prereq::Ethernet => ethernet,
            Prereq::VlanVid => ethernet && flow.vlans[0].tci.get() & VLAN_CFI != 0,
            Prereq::Mpls => ty == eth_type::MPLS || ty == eth_type::MPLS_MCAST,
            Prereq::Ipv4 => ty == eth_type::IP,
            Prereq::Ipv6 => ty == eth_type::IPV6,
            Prereq::IpAny => ip_any,
            Prereq::Arp => ty == eth_type::ARP || ty == eth_type::RARP,
            Prereq::Nsh => ty == eth_type::NSH,
            Prereq::Tcp => ip_any && l4(ip_proto::TCP),
            Prereq::Udp => ip_any && l4(ip_proto::UDP),
            Prereq::Sctp => ip_any && l4(ip_proto::SCTP),
            Prereq::Icmpv4 => ty == eth_type::IP && l4(ip_proto::ICMP),
            Prereq::Icmpv6 => ty == eth_type::IPV6 && l4(ip_proto::ICMPV6),
            Prereq::Nd => nd(&[ND_SOLICIT, ND_ADVERT]),
            Prereq::NdSolicit => nd(&[ND_SOLICIT]),
            Prereq::NdAdvert => nd(&[ND_ADVERT]),
        }
    }

    /// Whether a match fulfils it: the match must demand what makes the field meaningful, with values that bits
    /// outside the mask, being zero, cannot feign.
    pub fn match_ok(self, m: &Match) -> bool {
        if let Prereq::Ct = self {
            let state = m.flow.ct_state;
            let valid =
                CS_NEW | CS_ESTABLISHED | CS_RELATED | CS_REPLY_DIR | CS_SRC_NAT | CS_DST_NAT;
            let not_invalid = m.wc.masks.ct_state & CS_INVALID != 0 && state & CS_INVALID == 0;
            return state & valid != 0 || state & CS_TRACKED != 0 && not_invalid;
        }
        self.ok_on_packet(&m.flow)
    }

    /// Makes what [`Prereq::ok`] looks at matter.
    pub fn mask(self, wc: &mut FlowWildcards) {
        let masks = &mut wc.masks;
        match self {
            Prereq::None => return,
            Prereq::Ct => {
                masks.ct_state |= CS_NEW | CS_ESTABLISHED | CS_REPLY_DIR;
                return;
            }
            Prereq::VlanVid => {
                masks.vlans[0].tci = (masks.vlans[0].tci.get() | VLAN_CFI).into();
            }
            Prereq::Ethernet
            | Prereq::Mpls
            | Prereq::Ipv4
            | Prereq::Ipv6
            | Prereq::IpAny
            | Prereq::Arp
            | Prereq::Nsh => {}
            Prereq::Tcp | Prereq::Udp | Prereq::Sctp | Prereq::Icmpv4 | Prereq::Icmpv6 => {
                masks.nw_proto = u8::MAX;
                masks.nw_frag |= NW_FRAG_MASK;
            }
            Prereq::Nd | Prereq::NdSolicit | Prereq::NdAdvert => {
                masks.nw_proto = u8::MAX;
                masks.nw_frag |= NW_FRAG_MASK;
                masks.tp_src = Be16::MAX_VALUE;
                masks.tp_dst = Be16::MAX_VALUE;
            }
        }
        if matches!(self, Prereq::Ethernet | Prereq::VlanVid) {
            masks.packet_type = Be32::MAX_VALUE;
        } else {
            masks.dl_type = Be16::MAX_VALUE;
        }
    }
}
