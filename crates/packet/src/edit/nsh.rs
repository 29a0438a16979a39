//! Network Service Header (RFC 8300).

use super::{put_u16, u16_at};
use crate::buffer::{NO_OFFSET, Packet};
use crate::flow::{FlowNsh, PT_ETH, packet_type};
use crate::types::eth_type;

/// Type of an NSH packet as `packet_type`.
const PT_NSH: u32 = packet_type(1, eth_type::NSH);

/// What follows the header, by its `np` member.
const NEXT: [(u8, u32); 4] = [
    (1, packet_type(1, eth_type::IP)),
    (2, packet_type(1, eth_type::IPV6)),
    (3, PT_ETH),
    (4, PT_NSH),
];

/// Puts an NSH header in front of the packet, with context words for metadata type 1 or raw metadata for type 2.
/// Packets of a type that NSH cannot carry are left alone.
pub fn push_nsh(packet: &mut Packet, nsh: &FlowNsh, md2: &[u8]) {
    let Some((np, _)) = NEXT.iter().find(|(_, pt)| *pt == packet.md.packet_type) else {
        return;
    };
    let len = match nsh.mdtype {
        1 => 24,
        2 if md2.len() <= 248 && md2.len().is_multiple_of(4) => 8 + md2.len(),
        _ => return,
    };
    let header = packet.push(len);
    let word = u16::from(nsh.flags & 3) << 12 | u16::from(nsh.ttl & 0x3f) << 6 | (len / 4) as u16;
    put_u16(header, 0, word);
    header[2] = nsh.mdtype & 0x0f;
    header[3] = *np;
    header[4..8].copy_from_slice(&nsh.path_hdr.to_bytes());
    if nsh.mdtype == 1 {
        for (i, context) in nsh.context.iter().enumerate() {
            header[8 + i * 4..12 + i * 4].copy_from_slice(&context.to_bytes());
        }
    } else {
        header[8..].copy_from_slice(md2);
    }
    packet.md.packet_type = PT_NSH;
    // What is behind the header is not seen any more, labels and transport neither.
    (packet.l2_5, packet.l3, packet.l4) = (NO_OFFSET, 0, NO_OFFSET);
}

/// Removes the NSH header of a packet that begins with one; false, and nothing done, if it does not.
pub fn pop_nsh(packet: &mut Packet) -> bool {
    if packet.md.packet_type != PT_NSH || packet.size() < 8 {
        return false;
    }
    let len = usize::from(u16_at(packet.data(), 0) & 0x3f) * 4;
    let np = packet.data()[3];
    let Some((_, next)) = NEXT.iter().find(|(n, _)| *n == np) else {
        return false;
    };
    let is_whole = (8..=packet.size()).contains(&len);
    if is_whole {
        packet.pull(len);
        packet.md.packet_type = *next;
    }
    is_whole
}

/// Sets flags, TTL, path and contexts of the header, under a mask of the same shape.
pub fn set_nsh(packet: &mut Packet, new: &FlowNsh, mask: &FlowNsh) {
    let l3 = usize::from(packet.l3);
    if packet.l3_data().len() < 8 {
        return;
    }
    let nsh = &mut packet.data_mut()[l3..];
    let word = u16_at(nsh, 0);
    let bits = u16::from(new.flags & 3) << 12 | u16::from(new.ttl & 0x3f) << 6;
    let bits_mask = u16::from(mask.flags & 3) << 12 | u16::from(mask.ttl & 0x3f) << 6;
    put_u16(nsh, 0, word & !bits_mask | bits & bits_mask);
    let mut put = |ofs: usize, new: [u8; 4], mask: [u8; 4]| {
        for i in 0..4 {
            nsh[ofs + i] = nsh[ofs + i] & !mask[i] | new[i] & mask[i];
        }
    };
    put(4, new.path_hdr.to_bytes(), mask.path_hdr.to_bytes());
    let md1 = word & 0x3f == 6;
    if md1 && packet.l3_data().len() >= 24 {
        let nsh = &mut packet.data_mut()[l3..];
        for (i, (new, mask)) in new.context.iter().zip(&mask.context).enumerate() {
            let (new, mask) = (new.to_bytes(), mask.to_bytes());
            for j in 0..4 {
                let byte = &mut nsh[8 + i * 4 + j];
                *byte = *byte & !mask[j] | new[j] & mask[j];
            }
        }
    }
}
