//! Ethernet, VLAN, MPLS and ARP.

use super::{ArpFields, put_u16, u16_at};
use crate::buffer::{NO_OFFSET, Packet};
use crate::flow::{PT_ETH, VLAN_CFI, packet_type};
use crate::types::{MacAddr, eth_type};

fn mac_at(data: &[u8], ofs: usize) -> MacAddr {
    let mut mac = MacAddr::ZERO;
    mac.0.copy_from_slice(&data[ofs..ofs + 6]);
    mac
}

/// Source and destination of an Ethernet packet.
pub fn eth_addrs(packet: &Packet) -> Option<(MacAddr, MacAddr)> {
    let data = packet.data();
    (packet.md.packet_type == PT_ETH && data.len() >= 14)
        .then(|| (mac_at(data, 6), mac_at(data, 0)))
}

pub fn set_eth_addrs(packet: &mut Packet, src: MacAddr, dst: MacAddr) {
    if eth_addrs(packet).is_some() {
        packet.data_mut()[..6].copy_from_slice(&dst.0);
        packet.data_mut()[6..12].copy_from_slice(&src.0);
    }
}

/// The outermost EtherType, which is that of a VLAN if there is one.
pub fn eth_type_of(packet: &Packet) -> Option<u16> {
    eth_addrs(packet).map(|_| u16_at(packet.data(), 12))
}

/// Puts a VLAN header in front of the others.
pub fn push_vlan(packet: &mut Packet, tpid: u16, tci: u16) {
    if eth_addrs(packet).is_none() {
        return;
    }
    packet.push(4);
    let data = packet.data_mut();
    data.copy_within(4..16, 0);
    put_u16(data, 12, tpid);
    put_u16(data, 14, tci & !VLAN_CFI);
}

/// Removes the outermost VLAN header.
pub fn pop_vlan(packet: &mut Packet) {
    let vlan = matches!(
        eth_type_of(packet),
        Some(eth_type::VLAN_8021Q | eth_type::VLAN_8021AD)
    );
    if vlan && packet.size() >= 18 {
        packet.data_mut().copy_within(0..12, 4);
        packet.pull(4);
    }
}

/// Length of the link-layer header: where labels, or else the network header, begin.
fn l2_len(packet: &Packet) -> Option<usize> {
    let ofs = if packet.l2_5 != NO_OFFSET {
        packet.l2_5
    } else {
        packet.l3
    };
    (ofs != NO_OFFSET && usize::from(ofs) <= packet.size()).then_some(usize::from(ofs))
}

/// Sets the EtherType right in front of the payload, or for a packet without Ethernet header its type.
fn set_inner_type(packet: &mut Packet, l2_len: usize, ty: u16) {
    if packet.md.packet_type != PT_ETH {
        packet.md.packet_type = packet_type(1, ty);
    } else if l2_len >= 14 {
        put_u16(packet.data_mut(), l2_len - 2, ty);
    }
}

/// The outermost label stack entry.
pub fn mpls_lse(packet: &Packet) -> Option<u32> {
    let labels = packet.data().get(usize::from(packet.l2_5)..)?;
    Some(u32::from_be_bytes(*labels.first_chunk()?))
}

pub fn set_mpls_lse(packet: &mut Packet, lse: u32) {
    if mpls_lse(packet).is_some() {
        let ofs = usize::from(packet.l2_5);
        packet.data_mut()[ofs..ofs + 4].copy_from_slice(&lse.to_be_bytes());
    }
}

/// Puts a label behind the Ethernet and VLAN headers.
pub fn push_mpls(packet: &mut Packet, ty: u16, lse: u32) {
    let Some(len) = l2_len(packet) else { return };
    set_inner_type(packet, len, ty);
    insert_label(packet, len, lse);
}

fn insert_label(packet: &mut Packet, at: usize, lse: u32) {
    packet.push(4);
    let data = packet.data_mut();
    data.copy_within(4..at + 4, 0);
    data[at..at + 4].copy_from_slice(&lse.to_be_bytes());
    packet.l2_5 = at as u16;
}

/// Puts a label behind the Ethernet header, or in front of it and all else (`l2` false), which makes the packet
/// one without Ethernet header.
pub fn add_mpls(packet: &mut Packet, ty: u16, lse: u32, l2: bool) {
    if l2 {
        return push_mpls(packet, ty, lse);
    }
    insert_label(packet, 0, lse);
    packet.l3 = 4;
    packet.md.packet_type = packet_type(1, ty);
}

/// Removes the outermost label; what follows is of type `ty`.
pub fn pop_mpls(packet: &mut Packet, ty: u16) {
    let Some(lse) = mpls_lse(packet) else { return };
    let len = usize::from(packet.l2_5);
    set_inner_type(packet, len, ty);
    packet.data_mut().copy_within(0..len, 4);
    packet.pull(4);
    packet.l2_5 = if lse & 0x100 != 0 {
        NO_OFFSET
    } else {
        len as u16
    };
}

/// Puts an Ethernet header in front of a packet that has none.
pub fn push_eth(packet: &mut Packet, src: MacAddr, dst: MacAddr) {
    if packet.md.packet_type == PT_ETH {
        return;
    }
    let ty = packet.md.packet_type as u16;
    let header = packet.push(14);
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    put_u16(header, 12, ty);
    packet.md.packet_type = PT_ETH;
}

/// Removes the Ethernet header of a packet without VLANs.
pub fn pop_eth(packet: &mut Packet) {
    let Some(ty) = eth_type_of(packet) else {
        return;
    };
    let Some(len) = l2_len(packet).filter(|&len| len >= 14) else {
        return;
    };
    packet.pull(len);
    packet.md.packet_type = packet_type(1, ty);
}

/// The fields of an ARP packet for IPv4 over Ethernet.
pub fn arp(packet: &Packet) -> Option<ArpFields> {
    let arp = packet.l3_data().first_chunk::<28>()?;
    let four = |ofs: usize| [arp[ofs], arp[ofs + 1], arp[ofs + 2], arp[ofs + 3]];
    Some(ArpFields {
        op: u16_at(arp, 6),
        sip: four(14),
        tip: four(24),
        sha: mac_at(arp, 8),
        tha: mac_at(arp, 18),
    })
}

pub fn set_arp(packet: &mut Packet, new: &ArpFields) {
    if arp(packet).is_none() {
        return;
    }
    let l3 = usize::from(packet.l3);
    let data = &mut packet.data_mut()[l3..];
    put_u16(data, 6, new.op);
    data[8..14].copy_from_slice(&new.sha.0);
    data[14..18].copy_from_slice(&new.sip);
    data[18..24].copy_from_slice(&new.tha.0);
    data[24..28].copy_from_slice(&new.tip);
}
