//! IPv4 and IPv6 headers.

use super::{replace_summed, u16_at, update_pseudo};
use crate::buffer::{IpChecksum, Packet};
use crate::parse::skip_ipv6_extensions;
use crate::types::ip_proto;

/// What can be set in an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ipv4Fields {
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub tos: u8,
    pub ttl: u8,
}

/// What can be set in an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ipv6Fields {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    /// 20 bits.
    pub label: u32,
    pub tclass: u8,
    pub hlimit: u8,
}

fn header<const N: usize>(packet: &Packet, version: u8) -> Option<[u8; N]> {
    let header = *packet.l3_data().first_chunk::<N>()?;
    (header[0] >> 4 == version).then_some(header)
}

pub(super) fn take<const N: usize>(data: &[u8], ofs: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&data[ofs..ofs + N]);
    out
}

/// The IPv4 header of a packet that has one.
pub fn ipv4(packet: &Packet) -> Option<Ipv4Fields> {
    let h = header::<20>(packet, 4)?;
    Some(Ipv4Fields {
        src: take(&h, 12),
        dst: take(&h, 16),
        tos: h[1],
        ttl: h[8],
    })
}

/// Sets the fields of an IPv4 header.
pub fn set_ipv4(packet: &mut Packet, new: &Ipv4Fields) {
    if packet.md.ip_checksum != IpChecksum::AsIs {
        return set_open_ipv4(packet, new);
    }
    let Some(h) = header::<20>(packet, 4) else {
        return;
    };
    let l3 = usize::from(packet.l3);
    // Only the first fragment has the transport header.
    let has_l4 = u16_at(&h, 6) & 0x1fff == 0;
    for (at, new) in [(12, new.src), (16, new.dst)] {
        let old: [u8; 4] = take(&h, at);
        if old != new {
            if has_l4 && h[9] != ip_proto::ICMPV6 {
                update_pseudo(packet, h[9], &old, &new);
            }
            replace_summed(&mut packet.data_mut()[l3..], at, &new, 10);
        }
    }
    if h[1] != new.tos {
        replace_summed(&mut packet.data_mut()[l3..], 0, &[h[0], new.tos], 10);
    }
    if h[8] != new.ttl {
        replace_summed(&mut packet.data_mut()[l3..], 8, &[new.ttl, h[9]], 10);
    }
}

/// Sets the fields of an IPv4 header whose checksum is computed later, or has to be then.
#[cold]
fn set_open_ipv4(packet: &mut Packet, new: &Ipv4Fields) {
    let changes = ipv4(packet).is_some_and(|old| old != *new);
    let was = std::mem::take(&mut packet.md.ip_checksum);
    let at = usize::from(packet.l3) + 10;
    let sum: Option<[u8; 2]> = packet.l3_data().get(10..12).and_then(|s| s.try_into().ok());
    set_ipv4(packet, new);
    packet.md.ip_checksum = if changes { IpChecksum::Open } else { was };
    if let Some(sum) = sum {
        packet.data_mut()[at..at + 2].copy_from_slice(&sum);
    }
}

/// The IPv6 header of a packet that has one.
pub fn ipv6(packet: &Packet) -> Option<Ipv6Fields> {
    let h = header::<40>(packet, 6)?;
    let word = u32::from_be_bytes(take(&h, 0));
    Some(Ipv6Fields {
        src: take(&h, 8),
        dst: take(&h, 24),
        label: word & 0xf_ffff,
        tclass: (word >> 20) as u8,
        hlimit: h[7],
    })
}

/// Sets the fields of an IPv6 header.
pub fn set_ipv6(packet: &mut Packet, new: &Ipv6Fields) {
    let Some(h) = header::<40>(packet, 6) else {
        return;
    };
    let l3 = usize::from(packet.l3);
    let upper = skip_ipv6_extensions(packet.l3_data());
    let upper = upper.filter(|(_, _, frag)| frag & crate::flow::NW_FRAG_LATER == 0);
    let routed = routes_on(packet.l3_data());
    for (at, new) in [(8, new.src), (24, new.dst)] {
        let old: [u8; 16] = take(&h, at);
        if old == new {
            continue;
        }
        // The checksum covers the final destination, which is not the one in the header while a routing header
        // has hops left.
        if let Some((proto, ..)) = upper.filter(|_| at == 8 || !routed) {
            update_pseudo(packet, proto, &old, &new);
        }
        packet.data_mut()[l3 + at..l3 + at + 16].copy_from_slice(&new);
    }
    let word = 6 << 28 | u32::from(new.tclass) << 20 | new.label & 0xf_ffff;
    let data = &mut packet.data_mut()[l3..];
    data[..4].copy_from_slice(&word.to_be_bytes());
    data[7] = new.hlimit;
}

/// Whether a routing header with segments left is among the extension headers.
fn routes_on(ip: &[u8]) -> bool {
    let (mut proto, mut ofs) = (ip[6], 40);
    while let Some(&[next, len, _, left]) = ip.get(ofs..).and_then(<[u8]>::first_chunk::<4>) {
        match proto {
            ip_proto::ROUTING => return left > 0,
            0 | 60 => ofs += usize::from(len) * 8 + 8,
            ip_proto::AH => ofs += usize::from(len) * 4 + 8,
            ip_proto::FRAGMENT => ofs += 8,
            _ => return false,
        }
        proto = next;
    }
    false
}

/// Decrements the TTL or hop limit; false, and nothing done, if it would reach zero.
pub fn dec_ttl(packet: &mut Packet) -> bool {
    if let Some(mut fields) = ipv4(packet) {
        if fields.ttl <= 1 {
            return false;
        }
        fields.ttl -= 1;
        set_ipv4(packet, &fields);
    } else if let Some(fields) = ipv6(packet) {
        if fields.hlimit <= 1 {
            return false;
        }
        let l3 = usize::from(packet.l3);
        packet.data_mut()[l3 + 7] = fields.hlimit - 1;
    }
    true
}
