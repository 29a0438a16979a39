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
    if u16_at(l4, 6) == 0 || is_partial(packet) {
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
    if packet.l4_data().len() < 12 {
        return;
    }
    if is_partial(packet) {
        l4_mut(packet)[..4].copy_from_slice(&joined(src, dst));
        return;
    }
    let sctp = packet.l4_data();
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
    /// Of the first option with a link-layer address, which is the one that [`set_nd_ext`] sets.
    pub option_type: u8,
}

/// Where the options begin.
const ND_OPTIONS: usize = 24;
/// Length of an option with a link-layer address.
const ND_OPTION_LEN: usize = 8;

/// The first option with a link-layer address of those that begin at `ofs`: its type and where it is.
fn nd_option(message: &[u8], mut ofs: usize) -> Option<(u8, usize)> {
    while let Some(&[ty, len, ..]) = message.get(ofs..)?.first_chunk::<ND_OPTION_LEN>() {
        let len = usize::from(len) * 8;
        if len == 0 || ofs + len > message.len() {
            break;
        }
        if len == ND_OPTION_LEN && matches!(ty, 1 | 2) {
            return Some((ty, ofs));
        }
        ofs += len;
    }
    None
}

pub fn nd(packet: &Packet) -> Option<NdFields> {
    let message = packet.l4_data();
    let head = message.first_chunk::<ND_OPTIONS>()?;
    let mut fields = NdFields::default();
    fields.target.copy_from_slice(&head[8..24]);
    fields.reserved = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut ofs = ND_OPTIONS;
    while let Some((ty, at)) = nd_option(message, ofs) {
        let mac = if ty == 1 {
            &mut fields.sll
        } else {
            &mut fields.tll
        };
        mac.0.copy_from_slice(&message[at + 2..at + 8]);
        if fields.option_type == 0 {
            fields.option_type = ty;
        }
        ofs = at + ND_OPTION_LEN;
    }
    Some(fields)
}

/// The message to be changed, and whether its checksum is to be left alone; none if there is no such message.
fn nd_mut(packet: &mut Packet) -> Option<(&mut [u8], bool)> {
    let len = packet.l4_data().len();
    let partial = is_partial(packet);
    (len >= ND_OPTIONS).then(|| (&mut l4_mut(packet)[..len], partial))
}

fn put(message: &mut [u8], ofs: usize, new: &[u8], partial: bool) {
    if partial {
        message[ofs..ofs + new.len()].copy_from_slice(new);
    } else {
        replace_summed(message, ofs, new, 2);
    }
}

/// Sets target and link-layer addresses; an address whose option is missing has nowhere to go.
pub fn set_nd(packet: &mut Packet, target: &[u8; 16], sll: MacAddr, tll: MacAddr) {
    let Some((message, partial)) = nd_mut(packet) else {
        return;
    };
    put(message, 8, target, partial);
    let mut ofs = ND_OPTIONS;
    while let Some((ty, at)) = nd_option(message, ofs) {
        let address = if ty == 1 { sll } else { tll };
        put(message, at + 2, &address.0, partial);
        ofs = at + ND_OPTION_LEN;
    }
}

/// Sets the reserved word and the type of the first option with a link-layer address.
pub fn set_nd_ext(packet: &mut Packet, reserved: u32, option_type: u8) {
    let Some((message, partial)) = nd_mut(packet) else {
        return;
    };
    put(message, 4, &reserved.to_be_bytes(), partial);
    if let Some((_, at)) = nd_option(message, ND_OPTIONS) {
        put(message, at, &[option_type, 1], partial);
    }
}
