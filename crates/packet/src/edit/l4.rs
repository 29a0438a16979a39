//! TCP, UDP, SCTP, ICMP and neighbour discovery.

use super::{is_partial, put_u16, replace_summed, u16_at};
use crate::buffer::Packet;
use crate::checksum::crc32c_add;
use crate::types::MacAddr;

/// Source and destination port, whichever protocol has them.
pub fn ports(packet: &Packet) -> Option<(u16, u16)> {
    let l4 = packet.l4_data().first_chunk::<4>()?;
    Some((u16_at(l4, 0), u16_at(l4, 2)))
}

fn l4_mut(packet: &mut Packet) -> &mut [u8] {
    let l4 = usize::from(packet.l4);
    packet.data_mut().get_mut(l4..).unwrap_or_default()
}

fn joined(src: u16, dst: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (src.to_be_bytes(), dst.to_be_bytes());
    [a, b, c, d]
}

pub fn set_tcp_ports(packet: &mut Packet, src: u16, dst: u16) {
    if packet.l4_data().len() < 20 {
        return;
    }
    if is_partial(packet) {
        l4_mut(packet)[..4].copy_from_slice(&joined(src, dst));
    } else {
        replace_summed(l4_mut(packet), 0, &joined(src, dst), 16);
    }
}

pub fn set_udp_ports(packet: &mut Packet, src: u16, dst: u16) {
    let l4 = packet.l4_data();
    if l4.len() < 8 {
        return;
    }
    if is_partial(packet) || u16_at(l4, 6) == 0 {
        l4_mut(packet)[..4].copy_from_slice(&joined(src, dst));
        return;
    }
    let udp = l4_mut(packet);
    replace_summed(udp, 0, &joined(src, dst), 6);
    if u16_at(udp, 6) == 0 {
        put_u16(udp, 6, 0xffff);
    }
}

pub fn set_sctp_ports(packet: &mut Packet, src: u16, dst: u16) {
    let sctp = packet.l4_data();
    if sctp.len() < 12 {
        return;
    }
    if is_partial(packet) {
        l4_mut(packet)[..4].copy_from_slice(&joined(src, dst));
        return;
    }
    // A checksum that was wrong stays wrong by the same bits.
    let crc = |header: &[u8], rest: &[u8]| {
        let crc = crc32c_add(!0, header);
        !crc32c_add(crc32c_add(crc, &[0; 4]), rest)
    };
    let old = u32::from_le_bytes([sctp[8], sctp[9], sctp[10], sctp[11]]);
    let was = crc(&sctp[..8], &sctp[12..]);
    let mut header = [0; 8];
    header[..4].copy_from_slice(&joined(src, dst));
    header[4..].copy_from_slice(&sctp[4..8]);
    let now = old ^ was ^ crc(&header, &sctp[12..]);
    let sctp = l4_mut(packet);
    sctp[..8].copy_from_slice(&header);
    sctp[8..12].copy_from_slice(&now.to_le_bytes());
}

/// Type and code of an ICMP or ICMPv6 packet.
pub fn icmp(packet: &Packet) -> Option<(u8, u8)> {
    let l4 = packet.l4_data().first_chunk::<8>()?;
    Some((l4[0], l4[1]))
}

pub fn set_icmp(packet: &mut Packet, ty: u8, code: u8) {
    if icmp(packet).is_none() {
        return;
    }
    if is_partial(packet) {
        l4_mut(packet)[..2].copy_from_slice(&[ty, code]);
    } else {
        replace_summed(l4_mut(packet), 0, &[ty, code], 2);
    }
}

/// Fields of neighbour solicitation and advertisement; addresses that no option carries are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NdFields {
    pub target: [u8; 16],
    pub sll: MacAddr,
    pub tll: MacAddr,
    pub reserved: u32,
    pub option_type: u8,
}

/// Offsets in the message of the options with link-layer addresses: type and where.
fn nd_options(message: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    let mut ofs = 24;
    while ofs + 8 <= message.len() {
        let len = usize::from(message[ofs + 1]) * 8;
        if len == 0 || ofs + len > message.len() {
            break;
        }
        if len == 8 && matches!(message[ofs], 1 | 2) {
            found.push((message[ofs], ofs));
        }
        ofs += len;
    }
    found
}

pub fn nd(packet: &Packet) -> Option<NdFields> {
    let message = packet.l4_data();
    let head = message.first_chunk::<24>()?;
    let mut fields = NdFields::default();
    fields.target.copy_from_slice(&head[8..24]);
    fields.reserved = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    for (ty, ofs) in nd_options(message) {
        let mac = if ty == 1 {
            &mut fields.sll
        } else {
            &mut fields.tll
        };
        mac.0.copy_from_slice(&message[ofs + 2..ofs + 8]);
        fields.option_type = ty;
    }
    Some(fields)
}

/// Sets target and link-layer addresses; an address whose option is missing has nowhere to go.
pub fn set_nd(packet: &mut Packet, target: &[u8; 16], sll: MacAddr, tll: MacAddr) {
    if nd(packet).is_none() {
        return;
    }
    let options = nd_options(packet.l4_data());
    let partial = is_partial(packet);
    let message = l4_mut(packet);
    let mut put = |ofs: usize, new: &[u8]| {
        if partial {
            message[ofs..ofs + new.len()].copy_from_slice(new);
        } else {
            replace_summed(message, ofs, new, 2);
        }
    };
    put(8, target);
    for (ty, ofs) in options {
        put(ofs + 2, if ty == 1 { &sll.0 } else { &tll.0 });
    }
}

/// Sets the reserved word and the type of the first option with a link-layer address.
pub fn set_nd_ext(packet: &mut Packet, reserved: u32, option_type: u8) {
    if nd(packet).is_none() {
        return;
    }
    let option = nd_options(packet.l4_data()).first().copied();
    let partial = is_partial(packet);
    let message = l4_mut(packet);
    let mut put = |ofs: usize, new: &[u8]| {
        if partial {
            message[ofs..ofs + new.len()].copy_from_slice(new);
        } else {
            replace_summed(message, ofs, new, 2);
        }
    };
    put(4, &reserved.to_be_bytes());
    if let Some((_, ofs)) = option {
        put(ofs, &[option_type, 1]);
    }
}
