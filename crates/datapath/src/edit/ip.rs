//! IP headers, and the transport checksums that depend on them.

use ferrovs_packet::buffer::{Checksum, NO_OFFSET, Packet};
use ferrovs_packet::types::ip_proto;

use super::{blend, updated, updated_sum};
use crate::action::{Ipv4Key, Ipv6Key, Masked};

const TCP_CSUM: usize = 16;
const UDP_CSUM: usize = 6;
const ICMP_CSUM: usize = 2;

/// Keeps the transport checksum right when bytes of the pseudo-header change.
fn pseudo_changed(packet: &mut Packet, proto: u8, old: &[u8], new: &[u8], v6: bool) {
    if packet.l4 == NO_OFFSET {
        return;
    }
    let at = usize::from(packet.l4)
        + match proto {
            ip_proto::TCP => TCP_CSUM,
            ip_proto::UDP => UDP_CSUM,
            ip_proto::ICMPV6 if v6 => ICMP_CSUM,
            _ => return,
        };
    let partial = matches!(
        packet.offload.checksum,
        Checksum::Partial { start, offset } if usize::from(start) + usize::from(offset) == at
    );
    let Some(field) = packet.data_mut().get_mut(at..at + 2) else {
        return;
    };
    let csum = u16::from_be_bytes([field[0], field[1]]);
    let new = if partial {
        updated_sum(csum, old, new)
    } else if proto == ip_proto::UDP && csum == 0 {
        // The sender computed none.
        return;
    } else {
        match updated(csum, old, new) {
            0 if proto == ip_proto::UDP => 0xffff,
            sum => sum,
        }
    };
    field.copy_from_slice(&new.to_be_bytes());
}

pub fn set_ipv4(packet: &mut Packet, m: &Masked<Ipv4Key>) {
    let at = usize::from(packet.l3);
    if packet.l3 == NO_OFFSET {
        return;
    }
    let Some(header) = packet.data_mut().get_mut(at..at + 20) else {
        return;
    };
    if header[0] >> 4 != 4 {
        return;
    }
    let mut old = [0; 20];
    old.copy_from_slice(header);
    blend(
        &mut header[12..16],
        m.value.src.as_ref(),
        m.mask.src.as_ref(),
    );
    blend(
        &mut header[16..20],
        m.value.dst.as_ref(),
        m.mask.dst.as_ref(),
    );
    blend(&mut header[1..2], &[m.value.tos], &[m.mask.tos]);
    blend(&mut header[8..9], &[m.value.ttl], &[m.mask.ttl]);
    if header[..] == old {
        return;
    }
    let csum = u16::from_be_bytes([old[10], old[11]]);
    let csum = updated(csum, &old, header);
    header[10..12].copy_from_slice(&csum.to_be_bytes());
    let mut addresses = [0; 8];
    addresses.copy_from_slice(&header[12..20]);
    // Only the first fragment has the transport header.
    let later = u16::from_be_bytes([old[6], old[7]]) & 0x1fff != 0;
    if addresses[..] != old[12..20] && !later {
        pseudo_changed(packet, old[9], &old[12..20], &addresses, false);
    }
}

/// The transport protocol, and whether a routing header with segments left hides the final destination.
fn ipv6_transport(data: &[u8]) -> Option<(u8, bool)> {
    let mut proto = *data.get(6)?;
    let mut at = 40;
    let mut routed = false;
    loop {
        match proto {
            // Hop-by-hop and destination options, routing.
            0 | 60 | ip_proto::ROUTING => {
                let header = data.get(at..at + 8)?;
                routed |= proto == ip_proto::ROUTING && header[3] > 0;
                proto = header[0];
                at += (usize::from(header[1]) + 1) * 8;
            }
            ip_proto::AH => {
                let header = data.get(at..at + 8)?;
                proto = header[0];
                at += (usize::from(header[1]) + 2) * 4;
            }
            ip_proto::FRAGMENT => {
                let header = data.get(at..at + 8)?;
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return None;
                }
                proto = header[0];
                at += 8;
            }
            other => return Some((other, routed)),
        }
    }
}

pub fn set_ipv6(packet: &mut Packet, m: &Masked<Ipv6Key>) {
    let at = usize::from(packet.l3);
    if packet.l3 == NO_OFFSET || packet.size() < at + 40 {
        return;
    }
    let transport = ipv6_transport(&packet.data()[at..]);
    let header = &mut packet.data_mut()[at..at + 40];
    if header[0] >> 4 != 6 {
        return;
    }
    let mut old = [0; 32];
    old.copy_from_slice(&header[8..40]);
    let mut new = old;
    blend(&mut new[..16], &m.value.src, &m.mask.src);
    blend(&mut new[16..], &m.value.dst, &m.mask.dst);
    header[8..40].copy_from_slice(&new);
    let word = |label: u32, tclass: u8| (label & 0xf_ffff | u32::from(tclass) << 20).to_be_bytes();
    let (value, mask) = (
        word(m.value.label.get(), m.value.tclass),
        word(m.mask.label.get(), m.mask.tclass),
    );
    blend(&mut header[..4], &value, &mask);
    blend(&mut header[7..8], &[m.value.hlimit], &[m.mask.hlimit]);
    let Some((proto, routed)) = transport else {
        return;
    };
    if new[..16] != old[..16] {
        pseudo_changed(packet, proto, &old[..16], &new[..16], true);
    }
    // With segments left the checksum covers the last of them, not this destination.
    if new[16..] != old[16..] && !routed {
        pseudo_changed(packet, proto, &old[16..], &new[16..], true);
    }
}
