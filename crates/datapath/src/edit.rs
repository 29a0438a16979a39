//! Actions that change a packet, applied to it: header members, tags and labels, metadata.
//!
//! The bytes are the business of [`ferrovs_packet::edit`], which sets whole members and keeps checksums and
//! layer offsets right; here masks are merged with what the packet has.

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::edit as bytes;
use ferrovs_packet::flow::{FlowNsh, VLAN_CFI};
use ferrovs_packet::types::MacAddr;

use crate::action::{Action, Masked, NshKey, PortsKey, Set};

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet has been changed, or the action does not apply to it and left it alone.
    Done,
    /// The packet cannot go on.
    Drop,
    /// The action is none that changes a packet.
    NotAnEdit,
}

/// The label stack entry goes between the link and the network layer (`OVS_MPLS_L3_TUNNEL_FLAG_MASK`).
const ADD_MPLS_L3: u16 = 1;

/// Applies an action that changes the packet, whose layer offsets are set, or its metadata.
pub fn apply(action: &Action, packet: &mut Packet) -> Outcome {
    match action {
        Action::Set(set) => apply_set(set, packet),
        // The bit that says "tag present" in flow keys is no part of the tag on the wire.
        Action::PushVlan { tpid, tci } => bytes::push_vlan(packet, *tpid, *tci & !VLAN_CFI),
        Action::PopVlan => bytes::pop_vlan(packet),
        Action::PushMpls { lse, eth_type } => bytes::push_mpls(packet, *eth_type, lse.get()),
        Action::AddMpls {
            lse,
            eth_type,
            tun_flags,
        } => bytes::add_mpls(packet, *eth_type, lse.get(), tun_flags & ADD_MPLS_L3 != 0),
        Action::PopMpls { eth_type } => bytes::pop_mpls(packet, *eth_type),
        Action::PushEth { src, dst } => bytes::push_eth(packet, *src, *dst),
        Action::PopEth => bytes::pop_eth(packet),
        Action::PushNsh(push) => bytes::push_nsh(packet, &nsh(&push.key), &push.md2),
        Action::PopNsh => {
            if !bytes::pop_nsh(packet) {
                return Outcome::Drop;
            }
        }
        Action::CtClear => {
            let md = &mut packet.md;
            (md.ct_state, md.ct_zone, md.ct_mark) = (0, 0, 0);
            md.ct_label = [0; 16];
            md.ct_orig = Default::default();
            md.ct_conn = Default::default();
        }
        _ => return Outcome::NotAnEdit,
    }
    Outcome::Done
}

fn nsh(k: &NshKey) -> FlowNsh {
    FlowNsh {
        flags: k.flags,
        ttl: k.ttl,
        mdtype: k.mdtype,
        np: k.np,
        path_hdr: k.path_hdr,
        context: k.context,
    }
}

/// `old` with the bits of `value` that `mask` has.
fn merge<const N: usize>(old: [u8; N], value: &[u8], mask: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| old[i] & !mask[i] | value[i] & mask[i])
}

fn merge8(old: u8, value: u8, mask: u8) -> u8 {
    old & !mask | value & mask
}

fn merge32(old: u32, m: &Masked<u32>) -> u32 {
    old & !m.mask | m.value & m.mask
}

fn merge_mac(old: MacAddr, value: MacAddr, mask: MacAddr) -> MacAddr {
    MacAddr(merge(old.0, &value.0, &mask.0))
}

fn apply_set(set: &Set, packet: &mut Packet) {
    match set {
        Set::SkbPriority(m) => packet.md.skb_priority = merge32(packet.md.skb_priority, m),
        Set::SkbMark(m) => packet.md.pkt_mark = merge32(packet.md.pkt_mark, m),
        Set::CtMark(m) => packet.md.ct_mark = merge32(packet.md.ct_mark, m),
        Set::CtLabels(m) => packet.md.ct_label = merge(packet.md.ct_label, &m.value, &m.mask),
        Set::Tunnel(tunnel) => packet.md.tunnel.set(tunnel),
        Set::Ethernet(m) => {
            if let Some((src, dst)) = bytes::eth_addrs(packet) {
                let src = merge_mac(src, m.value.src, m.mask.src);
                let dst = merge_mac(dst, m.value.dst, m.mask.dst);
                bytes::set_eth_addrs(packet, src, dst);
            }
        }
        Set::Mpls(m) => {
            if let Some(lse) = bytes::mpls_lse(packet) {
                bytes::set_mpls_lse(packet, merge32(lse, m));
            }
        }
        Set::Ipv4(m) => {
            if let Some(mut ip) = bytes::ipv4(packet) {
                let (v, m) = (&m.value, &m.mask);
                ip.src = merge(ip.src, v.src.as_ref(), m.src.as_ref());
                ip.dst = merge(ip.dst, v.dst.as_ref(), m.dst.as_ref());
                ip.tos = merge8(ip.tos, v.tos, m.tos);
                ip.ttl = merge8(ip.ttl, v.ttl, m.ttl);
                bytes::set_ipv4(packet, &ip);
            }
        }
        Set::Ipv6(m) => {
            if let Some(mut ip) = bytes::ipv6(packet) {
                let (v, m) = (&m.value, &m.mask);
                ip.src = merge(ip.src, &v.src, &m.src);
                ip.dst = merge(ip.dst, &v.dst, &m.dst);
                ip.label = ip.label & !m.label.get() | v.label.get() & m.label.get();
                ip.tclass = merge8(ip.tclass, v.tclass, m.tclass);
                ip.hlimit = merge8(ip.hlimit, v.hlimit, m.hlimit);
                bytes::set_ipv6(packet, &ip);
            }
        }
        Set::Tcp(m) => set_ports(packet, m, bytes::set_tcp_ports),
        Set::Udp(m) => set_ports(packet, m, bytes::set_udp_ports),
        Set::Sctp(m) => set_ports(packet, m, bytes::set_sctp_ports),
        Set::Icmp(m) | Set::Icmpv6(m) => {
            if let Some((kind, code)) = bytes::icmp(packet) {
                let kind = merge8(kind, m.value.icmp_type, m.mask.icmp_type);
                let code = merge8(code, m.value.code, m.mask.code);
                bytes::set_icmp(packet, kind, code);
            }
        }
        Set::Arp(m) => {
            if let Some(mut arp) = bytes::arp(packet) {
                let (v, m) = (&m.value, &m.mask);
                arp.op = arp.op & !m.op.get() | v.op.get() & m.op.get();
                arp.sip = merge(arp.sip, v.sip.as_ref(), m.sip.as_ref());
                arp.tip = merge(arp.tip, v.tip.as_ref(), m.tip.as_ref());
                arp.sha = merge_mac(arp.sha, v.sha, m.sha);
                arp.tha = merge_mac(arp.tha, v.tha, m.tha);
                bytes::set_arp(packet, &arp);
            }
        }
        Set::Nd(m) => {
            if let Some(nd) = bytes::nd(packet) {
                let (v, m) = (&m.value, &m.mask);
                let target = merge(nd.target, &v.target, &m.target);
                let sll = merge_mac(nd.sll, v.sll, m.sll);
                let tll = merge_mac(nd.tll, v.tll, m.tll);
                bytes::set_nd(packet, &target, sll, tll);
            }
        }
        Set::NdExtensions(m) => {
            if let Some(nd) = bytes::nd(packet) {
                let (v, m) = (&m.value, &m.mask);
                let reserved =
                    nd.reserved & !m.reserved.get() | v.reserved.get() & m.reserved.get();
                let kind = merge8(nd.option_type, v.options_type, m.options_type);
                bytes::set_nd_ext(packet, reserved, kind);
            }
        }
        Set::Nsh(m) => bytes::set_nsh(packet, &nsh(&m.value), &nsh(&m.mask)),
    }
}

fn set_ports(packet: &mut Packet, m: &Masked<PortsKey>, set: fn(&mut Packet, u16, u16)) {
    if let Some((src, dst)) = bytes::ports(packet) {
        let merged = |old: u16, value: u16, mask: u16| old & !mask | value & mask;
        let src = merged(src, m.value.src.get(), m.mask.src.get());
        let dst = merged(dst, m.value.dst.get(), m.mask.dst.get());
        set(packet, src, dst);
    }
}

#[cfg(test)]
mod tests;
