//! What "every field" means for one packet: the exact mask of a key.
//!
//! Fields that the packet cannot have (IPv6 addresses of an ARP packet, say) stay wildcarded, so that the mask
//! says no more than the key, and datapaths that know only some combinations of fields can express it.

use crate::flow::{Flow, FlowTnl, FlowWildcards, NW_FRAG_LATER, NW_FRAG_MASK, VLAN_CFI};
use crate::types::{Be16, Be32, MacAddr, eth_type, ip_proto};

const MAC: MacAddr = MacAddr::BROADCAST;
const IP6: [u8; 16] = [0xff; 16];
const U16: Be16 = Be16::MAX_VALUE;
const U32: Be32 = Be32::MAX_VALUE;

impl FlowWildcards {
    /// The mask that matches exactly the packets with the key `flow`, apart from the reserved bits and option type
    /// of neighbour discovery, which only some datapaths know.
    pub fn for_packet(flow: &Flow) -> FlowWildcards {
        let mut wc = FlowWildcards::catchall();
        let m = &mut wc.masks;
        mask_link(flow, m);
        if mask_network(flow, m) {
            mask_transport(flow, m);
        }
        wc
    }
}

/// Masks what every packet has: where it comes from, what is known of it, and its Ethernet and VLAN headers.
fn mask_link(flow: &Flow, m: &mut Flow) {
    if flow.tunnel.dst_is_set() {
        mask_tunnel(&flow.tunnel, &mut m.tunnel);
    } else {
        // An action may have set it for a tunnel to come.
        m.tunnel.tun_id = u64::MAX.into();
    }
    m.metadata = u64::MAX.into();
    m.regs = [u32::MAX; crate::flow::FLOW_N_REGS];
    m.skb_priority = u32::MAX;
    m.pkt_mark = u32::MAX;
    m.ct_state = u8::MAX;
    m.ct_zone = u16::MAX;
    m.ct_mark = u32::MAX;
    m.ct_label = IP6;
    m.recirc_id = u32::MAX;
    m.dp_hash = u32::MAX;
    m.in_port = u32::MAX;
    m.packet_type = U32;
    m.dl_dst = MAC;
    m.dl_src = MAC;
    m.dl_type = U16;
    for (i, vlan) in flow.vlans.iter().enumerate() {
        // The first tag's absence is part of the key, that of the others follows from it.
        if i > 0 && flow.vlans[i - 1].tci.get() & VLAN_CFI == 0 {
            break;
        }
        m.vlans[i].tci = U16;
        if vlan.tci.get() & VLAN_CFI != 0 {
            m.vlans[i].tpid = U16;
        }
    }
}

/// Masks the header above Ethernet; true if it is of IP and one of a transport follows.
fn mask_network(flow: &Flow, m: &mut Flow) -> bool {
    let ct = flow.ct_nw_proto != 0;
    match flow.dl_type.get() {
        eth_type::IP => {
            m.nw_src = U32;
            m.nw_dst = U32;
            if ct {
                m.ct_nw_src = U32;
                m.ct_nw_dst = U32;
            }
        }
        eth_type::IPV6 => {
            m.ipv6_src = IP6;
            m.ipv6_dst = IP6;
            m.ipv6_label = 0xf_ffff.into();
            if ct {
                m.ct_ipv6_src = IP6;
                m.ct_ipv6_dst = IP6;
            }
        }
        eth_type::ARP | eth_type::RARP => {
            m.nw_src = U32;
            m.nw_dst = U32;
            m.nw_proto = u8::MAX;
            m.arp_sha = MAC;
            m.arp_tha = MAC;
            return false;
        }
        eth_type::MPLS | eth_type::MPLS_MCAST => {
            for (i, lse) in flow.mpls_lse.iter().enumerate() {
                if i < crate::flow::FLOW_MAX_MPLS_LABELS {
                    m.mpls_lse[i] = U32;
                }
                if lse.get() & 0x100 != 0 {
                    break;
                }
            }
            return false;
        }
        eth_type::NSH => {
            m.nsh.flags = u8::MAX;
            m.nsh.ttl = u8::MAX;
            m.nsh.mdtype = u8::MAX;
            m.nsh.np = u8::MAX;
            m.nsh.path_hdr = U32;
            m.nsh.context = [U32; 4];
            return false;
        }
        _ => return false,
    }
    m.nw_frag = NW_FRAG_MASK;
    m.nw_tos = u8::MAX;
    m.nw_ttl = u8::MAX;
    m.nw_proto = u8::MAX;
    if ct {
        m.ct_nw_proto = u8::MAX;
        m.ct_tp_src = U16;
        m.ct_tp_dst = U16;
    }
    flow.nw_frag & NW_FRAG_LATER == 0
}

fn mask_transport(flow: &Flow, m: &mut Flow) {
    match flow.nw_proto {
        ip_proto::TCP => {
            m.tcp_flags = 0xfff.into();
            m.tp_src = U16;
            m.tp_dst = U16;
        }
        ip_proto::ICMP | ip_proto::UDP | ip_proto::SCTP => {
            m.tp_src = U16;
            m.tp_dst = U16;
        }
        ip_proto::ICMPV6 => {
            m.tp_src = U16;
            m.tp_dst = U16;
            if flow.is_nd() {
                m.nd_target = IP6;
                m.arp_sha = MAC;
                m.arp_tha = MAC;
            }
        }
        ip_proto::IGMP => {
            m.tp_src = U16;
            m.tp_dst = U16;
            m.igmp_group_ip4 = U32;
        }
        _ => {}
    }
}

fn mask_tunnel(tunnel: &FlowTnl, m: &mut FlowTnl) {
    if tunnel.ip_dst.get() != 0 {
        m.ip_src = U32;
        m.ip_dst = U32;
    } else {
        m.ipv6_src = IP6;
        m.ipv6_dst = IP6;
    }
    m.tun_id = u64::MAX.into();
    m.flags = crate::flow::FLOW_TNL_F_MASK;
    m.ip_tos = u8::MAX;
    m.ip_ttl = u8::MAX;
    m.tp_src = U16;
    m.tp_dst = U16;
    m.gbp_id = U16;
    m.gbp_flags = u8::MAX;
    m.erspan_ver = u8::MAX;
    m.erspan_idx = u32::MAX;
    m.erspan_dir = u8::MAX;
    m.erspan_hwid = u8::MAX;
    m.gtpu_flags = u8::MAX;
    m.gtpu_msgtype = u8::MAX;
    m.metadata.present = tunnel.metadata.present;
    m.metadata.len = u8::MAX;
    m.metadata.opts = [0xff; crate::flow::TUN_METADATA_BYTES];
}

impl Flow {
    /// Whether it is a neighbour solicitation or advertisement.
    pub fn is_nd(&self) -> bool {
        self.dl_type.get() == eth_type::IPV6
            && self.nw_proto == ip_proto::ICMPV6
            && matches!(self.tp_src.get(), 135 | 136)
            && self.tp_dst.get() == 0
    }

    /// Whether it is IPv4 or IPv6.
    pub fn is_ip_any(&self) -> bool {
        matches!(self.dl_type.get(), eth_type::IP | eth_type::IPV6)
    }

    /// Whether it is an Ethernet packet.
    pub fn is_ethernet(&self) -> bool {
        self.packet_type.get() == crate::flow::PT_ETH
    }

    /// Whether the outermost VLAN tag is there.
    pub fn has_vlan(&self) -> bool {
        self.vlans[0].tci.get() & VLAN_CFI != 0
    }

    /// Number of VLAN tags.
    pub fn n_vlans(&self) -> usize {
        let present = |v: &&crate::flow::VlanHdr| v.tci.get() & VLAN_CFI != 0;
        self.vlans.iter().take_while(present).count()
    }

    /// Number of MPLS labels that the key shows.
    pub fn n_mpls(&self) -> usize {
        if !matches!(self.dl_type.get(), eth_type::MPLS | eth_type::MPLS_MCAST) {
            return 0;
        }
        let bottom = self.mpls_lse.iter().position(|lse| lse.get() & 0x100 != 0);
        bottom.map_or(crate::flow::FLOW_MAX_MPLS_LABELS, |i| i + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compose::tests::any_packet_flow;

    proptest! {
        #[test]
        fn the_exact_mask_keeps_every_bit_of_a_packet_s_key(flow in any_packet_flow()) {
            let wc = FlowWildcards::for_packet(&flow);
            let mut flow = flow;
            if flow.is_nd() {
                flow.tcp_flags = 0.into();
                flow.igmp_group_ip4 = 0.into();
            }
            let mut masked = flow;
            masked.mask(&wc);
            prop_assert_eq!(masked, flow);
        }
    }
}
