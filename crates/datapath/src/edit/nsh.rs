//! Network Service Header (RFC 8300).

use ferrovs_packet::buffer::{NO_OFFSET, Packet};
use ferrovs_packet::flow::packet_type;
use ferrovs_packet::types::eth_type;

use super::{blend, insert, remove, reparse};
use crate::action::{Masked, NshKey, PushNsh};

/// "Next protocol" numbers and the EtherTypes that they stand for.
const NEXT: [(u8, u16); 4] = [
    (1, eth_type::IP),
    (2, eth_type::IPV6),
    (4, eth_type::NSH),
    (5, eth_type::MPLS),
];
const NEXT_ETHERNET: u8 = 3;

pub fn push(packet: &mut Packet, push: &PushNsh) {
    let pt = packet.md.packet_type;
    let next = if pt == 0 {
        NEXT_ETHERNET
    } else {
        match NEXT.iter().find(|(_, ty)| u32::from(*ty) == pt & 0xffff) {
            Some((next, _)) => *next,
            None => return,
        }
    };
    let k = &push.key;
    let metadata: Vec<u8> = match k.mdtype {
        1 => k
            .context
            .iter()
            .flat_map(|c| c.get().to_be_bytes())
            .collect(),
        2 => push.md2.clone(),
        _ => return,
    };
    let size = 8 + metadata.len();
    insert(packet, 0, size);
    let data = packet.data_mut();
    // Version 0, then the OAM bit and the unassigned ones, TTL and the length in words.
    let word = u16::from(k.flags & 3) << 12 | u16::from(k.ttl & 0x3f) << 6 | (size / 4) as u16;
    data[..2].copy_from_slice(&word.to_be_bytes());
    data[2] = k.mdtype & 0xf;
    data[3] = next;
    data[4..8].copy_from_slice(k.path_hdr.as_ref());
    data[8..size].copy_from_slice(&metadata);
    packet.md.packet_type = packet_type(1, eth_type::NSH);
    reparse(packet);
}

/// Removes the header; false when there is none or it is malformed.
pub fn pop(packet: &mut Packet) -> bool {
    if packet.md.packet_type != packet_type(1, eth_type::NSH) || packet.size() < 8 {
        return false;
    }
    let data = packet.data();
    let size = usize::from(data[1] & 0x3f) * 4;
    if size < 8 || size > data.len() {
        return false;
    }
    let pt = match data[3] {
        NEXT_ETHERNET => 0,
        next => match NEXT.iter().find(|(n, _)| *n == next) {
            Some((_, ty)) => packet_type(1, *ty),
            None => return false,
        },
    };
    remove(packet, 0, size);
    packet.md.packet_type = pt;
    reparse(packet);
    true
}

pub fn set(packet: &mut Packet, m: &Masked<NshKey>) {
    let at = usize::from(packet.l3);
    if packet.l3 == NO_OFFSET {
        return;
    }
    let Some(header) = packet.data_mut().get_mut(at..) else {
        return;
    };
    if header.len() < 8 {
        return;
    }
    let word = |k: &NshKey| u16::from(k.flags & 3) << 12 | u16::from(k.ttl & 0x3f) << 6;
    let (value, mask) = (word(&m.value).to_be_bytes(), word(&m.mask).to_be_bytes());
    blend(&mut header[..2], &value, &mask);
    blend(
        &mut header[4..8],
        m.value.path_hdr.as_ref(),
        m.mask.path_hdr.as_ref(),
    );
    if header[2] & 0xf == 1 && header.len() >= 24 {
        for i in 0..4 {
            let (value, mask) = (m.value.context[i], m.mask.context[i]);
            blend(
                &mut header[8 + 4 * i..12 + 4 * i],
                value.as_ref(),
                mask.as_ref(),
            );
        }
    }
}
