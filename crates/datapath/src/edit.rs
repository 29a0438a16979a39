//! Actions that change a packet, applied to it: header members, tags and labels, metadata.
//!
//! Pure functions over a packet whose layer offsets are set (the parser does that). Checksums are updated by
//! the difference (RFC 1624), never computed anew, so that a damaged packet stays damaged; work that the sender
//! left to the hardware stays left: only the pseudo-header's part of such a checksum is kept right.

use ferrovs_packet::buffer::{Checksum, NO_OFFSET, Packet};
use ferrovs_packet::flow::{VLAN_CFI, packet_type};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::{MacAddr, eth_type};

use crate::action::{Action, EthernetKey, Masked, Set};

mod ip;
mod nsh;
mod transport;

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

/// Applies an action that changes the packet or its metadata.
pub fn apply(action: &Action, packet: &mut Packet) -> Outcome {
    match action {
        Action::Set(set) => apply_set(set, packet),
        // The bit that says "tag present" in flow keys is no part of the tag on the wire.
        Action::PushVlan { tpid, tci } => push_vlan(packet, *tpid, *tci & !VLAN_CFI),
        Action::PopVlan => pop_vlan(packet),
        Action::PushMpls { lse, eth_type } => push_mpls(packet, lse.get(), *eth_type),
        Action::AddMpls {
            lse,
            eth_type,
            tun_flags,
        } => {
            if tun_flags & ADD_MPLS_L3 == 0 {
                add_mpls_l2(packet, lse.get(), *eth_type);
            } else {
                push_mpls(packet, lse.get(), *eth_type);
            }
        }
        Action::PopMpls { eth_type } => pop_mpls(packet, *eth_type),
        Action::PushEth { src, dst } => push_eth(packet, *src, *dst),
        Action::PopEth => pop_eth(packet),
        Action::PushNsh(push) => nsh::push(packet, push),
        Action::PopNsh => {
            if !nsh::pop(packet) {
                return Outcome::Drop;
            }
        }
        Action::CtClear => {
            let md = &mut packet.md;
            (md.ct_state, md.ct_zone, md.ct_mark) = (0, 0, 0);
            md.ct_label = [0; 16];
            md.ct_orig = Default::default();
        }
        _ => return Outcome::NotAnEdit,
    }
    Outcome::Done
}

/// The label stack entry goes between the link and the network layer (`OVS_MPLS_L3_TUNNEL_FLAG_MASK`).
const ADD_MPLS_L3: u16 = 1;

fn apply_set(set: &Set, packet: &mut Packet) {
    let merge = |old: u32, m: &Masked<u32>| old & !m.mask | m.value & m.mask;
    match set {
        Set::SkbPriority(m) => packet.md.skb_priority = merge(packet.md.skb_priority, m),
        Set::SkbMark(m) => packet.md.pkt_mark = merge(packet.md.pkt_mark, m),
        Set::CtMark(m) => packet.md.ct_mark = merge(packet.md.ct_mark, m),
        Set::CtLabels(m) => {
            for ((old, value), mask) in packet.md.ct_label.iter_mut().zip(m.value).zip(m.mask) {
                *old = *old & !mask | value & mask;
            }
        }
        Set::Tunnel(tunnel) => packet.md.tunnel = Some(tunnel.clone()),
        Set::Ethernet(m) => set_ethernet(packet, m),
        Set::Mpls(m) => {
            let at = usize::from(packet.l2_5);
            if packet.l2_5 != NO_OFFSET
                && let Some(lse) = packet.data_mut().get_mut(at..at + 4)
            {
                let old = u32::from_be_bytes([lse[0], lse[1], lse[2], lse[3]]);
                lse.copy_from_slice(&merge(old, m).to_be_bytes());
            }
        }
        Set::Ipv4(m) => ip::set_ipv4(packet, m),
        Set::Ipv6(m) => ip::set_ipv6(packet, m),
        Set::Tcp(m) => transport::set_ports(packet, m, transport::TCP_CSUM),
        Set::Udp(m) => transport::set_ports(packet, m, transport::UDP_CSUM),
        Set::Sctp(m) => transport::set_sctp(packet, m),
        Set::Icmp(m) | Set::Icmpv6(m) => transport::set_icmp(packet, m),
        Set::Arp(m) => transport::set_arp(packet, m),
        Set::Nd(m) => transport::set_nd(packet, m),
        Set::NdExtensions(m) => transport::set_nd_ext(packet, m),
        Set::Nsh(m) => nsh::set(packet, m),
    }
}

/// Replaces the bits of `field` that `mask` has.
fn blend(field: &mut [u8], value: &[u8], mask: &[u8]) {
    for ((f, v), m) in field.iter_mut().zip(value).zip(mask) {
        *f = *f & !m | v & m;
    }
}

fn set_ethernet(packet: &mut Packet, m: &Masked<EthernetKey>) {
    if packet.md.packet_type != 0 || packet.size() < 14 {
        return;
    }
    let data = packet.data_mut();
    blend(&mut data[..6], &m.value.dst.0, &m.mask.dst.0);
    blend(&mut data[6..12], &m.value.src.0, &m.mask.src.0);
}

/// Moves what refers to places behind `at` by `by` bytes.
fn shift(packet: &mut Packet, by: i32) {
    let moved = |ofs: u16| match ofs {
        NO_OFFSET => NO_OFFSET,
        _ => u16::try_from(i32::from(ofs) + by).unwrap_or(NO_OFFSET),
    };
    packet.l2_5 = moved(packet.l2_5);
    packet.l3 = moved(packet.l3);
    packet.l4 = moved(packet.l4);
    if let Checksum::Partial { start, offset } = packet.offload.checksum {
        packet.offload.checksum = match u16::try_from(i32::from(start) + by) {
            Ok(start) => Checksum::Partial { start, offset },
            Err(_) => Checksum::Unknown,
        };
    }
    if let Some(gso) = &mut packet.offload.gso
        && gso.hdr_len != 0
    {
        gso.hdr_len = u16::try_from(i32::from(gso.hdr_len) + by).unwrap_or(0);
    }
}

/// Opens `n` bytes at offset `at`.
fn insert(packet: &mut Packet, at: usize, n: usize) {
    packet.push(n);
    packet.data_mut().copy_within(n..n + at, 0);
    shift(packet, n as i32);
}

/// Removes `n` bytes at offset `at`.
fn remove(packet: &mut Packet, at: usize, n: usize) {
    packet.data_mut().copy_within(0..at, n);
    packet.pull(n);
    shift(packet, -(n as i32));
}

fn push_vlan(packet: &mut Packet, tpid: u16, tci: u16) {
    if packet.md.packet_type != 0 || packet.size() < 14 {
        return;
    }
    insert(packet, 12, 4);
    let data = packet.data_mut();
    data[12..14].copy_from_slice(&tpid.to_be_bytes());
    data[14..16].copy_from_slice(&tci.to_be_bytes());
}

fn pop_vlan(packet: &mut Packet) {
    if packet.md.packet_type != 0 || packet.size() < 18 {
        return;
    }
    let data = packet.data();
    let ty = u16::from_be_bytes([data[12], data[13]]);
    if matches!(ty, eth_type::VLAN_8021Q | eth_type::VLAN_8021AD) {
        remove(packet, 12, 4);
    }
}

/// Finds the layers anew, where an action has changed which there are.
fn reparse(packet: &mut Packet) {
    MiniflowBuf::new().extract(packet);
}

/// Offset of what follows the link layer.
fn after_link(packet: &Packet) -> Option<usize> {
    let at = if packet.l2_5 != NO_OFFSET {
        packet.l2_5
    } else {
        packet.l3
    };
    (at != NO_OFFSET && usize::from(at) <= packet.size()).then_some(usize::from(at))
}

fn set_eth_type(packet: &mut Packet, end_of_link: usize, ty: u16) {
    if packet.md.packet_type == 0 {
        if end_of_link >= 14 {
            packet.data_mut()[end_of_link - 2..end_of_link].copy_from_slice(&ty.to_be_bytes());
        }
    } else {
        packet.md.packet_type = packet_type(1, ty);
    }
}

fn push_mpls(packet: &mut Packet, lse: u32, ty: u16) {
    if !matches!(ty, eth_type::MPLS | eth_type::MPLS_MCAST) {
        return;
    }
    let Some(at) = after_link(packet) else { return };
    insert(packet, at, 4);
    packet.data_mut()[at..at + 4].copy_from_slice(&lse.to_be_bytes());
    set_eth_type(packet, at, ty);
    reparse(packet);
}

/// Puts the label stack entry in front of the whole frame.
fn add_mpls_l2(packet: &mut Packet, lse: u32, ty: u16) {
    insert(packet, 0, 4);
    packet.data_mut()[..4].copy_from_slice(&lse.to_be_bytes());
    packet.md.packet_type = packet_type(1, ty);
    reparse(packet);
}

fn pop_mpls(packet: &mut Packet, ty: u16) {
    let at = usize::from(packet.l2_5);
    if packet.l2_5 == NO_OFFSET || at + 4 > packet.size() {
        return;
    }
    remove(packet, at, 4);
    if packet.md.packet_type != 0 && ty == eth_type::TEB {
        packet.md.packet_type = 0;
    } else {
        set_eth_type(packet, at, ty);
    }
    reparse(packet);
}

fn push_eth(packet: &mut Packet, src: MacAddr, dst: MacAddr) {
    if packet.md.packet_type == 0 {
        return;
    }
    let ty = (packet.md.packet_type & 0xffff) as u16;
    insert(packet, 0, 14);
    let data = packet.data_mut();
    data[..6].copy_from_slice(&dst.0);
    data[6..12].copy_from_slice(&src.0);
    data[12..14].copy_from_slice(&ty.to_be_bytes());
    packet.md.packet_type = 0;
    reparse(packet);
}

fn pop_eth(packet: &mut Packet) {
    if packet.md.packet_type != 0 || packet.size() < 14 {
        return;
    }
    let at = after_link(packet).filter(|at| *at >= 14).unwrap_or(14);
    let data = packet.data();
    let ty = u16::from_be_bytes([data[at - 2], data[at - 1]]);
    packet.pull(at);
    shift(packet, -(at as i32));
    packet.md.packet_type = packet_type(1, ty);
    reparse(packet);
}

/// One's complement sum, folded to 16 bits.
fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum of bytes as 16-bit words, an odd last one padded.
fn sum(bytes: &[u8]) -> u32 {
    let mut pairs = bytes.chunks_exact(2);
    let mut total = 0;
    for pair in &mut pairs {
        total += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u32::from(*last) << 8;
    }
    u32::from(fold(total))
}

/// A checksum after `old` bytes have become `new`, of even length (RFC 1624).
fn updated(csum: u16, old: &[u8], new: &[u8]) -> u16 {
    !fold(u32::from(!csum) + u32::from(!fold(sum(old))) + sum(new))
}

/// The same for a sum that is not complemented: the pseudo-header's in an unfinished checksum.
fn updated_sum(partial: u16, old: &[u8], new: &[u8]) -> u16 {
    fold(u32::from(partial) + u32::from(!fold(sum(old))) + sum(new))
}

#[cfg(test)]
mod tests;
