//! Taking the outer header off: what it said becomes the packet's tunnel metadata.
//!
//! The header is checked as its receiver must (RFC 791, 768, 7348): lengths, the IPv4 header's
//! checksum, the UDP checksum unless it is 0 or someone has vouched for it, reserved bits. The
//! checksum cannot be verified, and need not be, when the inner packet is still incomplete: then
//! it comes from this host.

use std::net::IpAddr;

use ferrovs_packet::buffer::{Checksum, NO_OFFSET, Offload, Packet};
use ferrovs_packet::checksum::{Sum, checksum, pseudo_v4, pseudo_v6};
use ferrovs_packet::flow::{FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT, FlowTnl};
use ferrovs_packet::types::{eth_type, ip_proto};
use ferrovs_runtime::coverage;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::header::{ETH_LEN, IPV4_LEN, IPV6_LEN, UDP_LEN};
use crate::row::{Left, PopError, Received, TunnelType};

pub(crate) static RL: RateLimit = RateLimit::new(60, 5);

/// Decapsulates a packet that was sent to a tunnel port of that type. On an error the packet is
/// to be dropped.
pub fn pop(ty: &TunnelType, packet: &mut Packet) -> Result<(), PopError> {
    let checksum = packet.offload.checksum;
    let l3 = packet.l3;
    let (data, md) = packet.with_metadata();
    let (at, end, inner) = md.tunnel.fill(|tnl| {
        let (mut at, end, protocol) = ip(data, l3, checksum, tnl)?;
        let transport = &ty.transport;
        if protocol != transport.protocol && !transport.listens.contains(&protocol) {
            return Err(PopError::Header);
        }
        if protocol == ip_proto::UDP {
            udp(data, at, end, checksum, tnl)?;
            at += UDP_LEN;
        }
        let received = Received {
            bytes: data.get(at..end).unwrap_or_default(),
            behind: at,
            protocol,
            trusted: matches!(checksum, Checksum::Partial { .. }),
        };
        Ok((at, end, (ty.pop)(&received, tnl)?))
    })?;
    match inner.at {
        Some(own) if at + own > end => return Err(PopError::Truncated),
        Some(own) => strip(packet, at + own, end, inner.packet_type),
        None => packet.md.packet_type = inner.packet_type,
    }
    if let Some(left) = inner.left {
        take_over(packet, &left);
    }
    Ok(())
}

/// What the sender of the inner packet left to be done is left to whoever sends it on.
fn take_over(packet: &mut Packet, left: &Left) {
    packet.offload = left.offload;
    if let Some(tci) = left.vlan {
        // Moves the checksum's place too.
        packet.push(4);
        let data = packet.data_mut();
        data.copy_within(4..16, 0);
        data[12..14].copy_from_slice(&eth_type::VLAN_8021Q.to_be_bytes());
        data[14..16].copy_from_slice(&tci.to_be_bytes());
    }
}

fn get(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

/// Reads and checks the outer IP header of a frame, which begins at `l3`; returns the offset of its payload, the end of
/// it, and the protocol.
pub(crate) fn ip(
    data: &[u8],
    l3: u16,
    known: Checksum,
    tnl: &mut FlowTnl,
) -> Result<(usize, usize, u8), PopError> {
    let l3 = match l3 {
        NO_OFFSET => ETH_LEN,
        l3 => usize::from(l3),
    };
    // Actions may have taken the Ethernet header off before, or put others in front.
    let head = l3
        .checked_sub(2)
        .and_then(|at| data.get(at..)?.first_chunk::<{ 2 + IPV4_LEN }>());
    let Some(&[t0, t1, ref ip @ ..]) = head.filter(|_| l3 >= ETH_LEN) else {
        return Err(PopError::Truncated);
    };
    match u16::from_be_bytes([t0, t1]) {
        eth_type::IP => ipv4(data, l3, ip, known, tnl),
        eth_type::IPV6 => {
            if data.len() < l3 + IPV6_LEN {
                return Err(PopError::Truncated);
            }
            let end = l3 + IPV6_LEN + usize::from(get(data, l3 + 4));
            if end > data.len() {
                return Err(PopError::Truncated);
            }
            tnl.ipv6_src.copy_from_slice(&data[l3 + 8..l3 + 24]);
            tnl.ipv6_dst.copy_from_slice(&data[l3 + 24..l3 + 40]);
            tnl.ip_tos = (get(data, l3) >> 4) as u8;
            tnl.ip_ttl = data[l3 + 7];
            Ok((l3 + IPV6_LEN, end, data[l3 + 6]))
        }
        _ => Err(PopError::Header),
    }
}

/// The same for an IPv4 header, whose fixed part is `ip`.
#[inline]
fn ipv4(
    data: &[u8],
    l3: usize,
    ip: &[u8; IPV4_LEN],
    known: Checksum,
    tnl: &mut FlowTnl,
) -> Result<(usize, usize, u8), PopError> {
    let header = usize::from(ip[0] & 15) * 4;
    if header < IPV4_LEN || data.len() < l3 + header {
        return Err(PopError::Truncated);
    }
    if known == Checksum::Unknown {
        coverage::NATIVE_TNL_L3CSUM_CHECKED.inc();
        // Nearly all headers have no options, and then the sum is a few additions.
        let sum = match header {
            IPV4_LEN => checksum(ip),
            _ => checksum(&data[l3..l3 + header]),
        };
        if sum != 0 {
            coverage::NATIVE_TNL_L3CSUM_ERR.inc();
            vlog::warn_rl!(RL, NATIVE_TNL, "ip packet has invalid checksum");
            return Err(PopError::Checksum);
        }
    }
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let actual = data.len() - l3;
    if total > actual {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "ip packet is truncated (IP length {total}, actual {actual})"
        );
        return Err(PopError::Truncated);
    }
    if total < header {
        return Err(PopError::Truncated);
    }
    if header > IPV4_LEN {
        vlog::warn_rl!(
            RL,
            NATIVE_TNL,
            "ip options not supported on tunnel packets ({header} bytes)"
        );
        return Err(PopError::Header);
    }
    tnl.ip_src = u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]).into();
    tnl.ip_dst = u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]).into();
    (tnl.ip_tos, tnl.ip_ttl) = (ip[1], ip[8]);
    if ip[6] & 0x40 != 0 {
        tnl.flags |= FLOW_TNL_F_DONT_FRAGMENT;
    }
    Ok((l3 + header, l3 + total, ip[9]))
}

/// Whether the sum over a whole transport packet is that of a right checksum.
pub(crate) fn verify(sum: Sum) -> Result<(), PopError> {
    coverage::NATIVE_TNL_L4CSUM_CHECKED.inc();
    match sum.finish() {
        0 => Ok(()),
        _ => {
            coverage::NATIVE_TNL_L4CSUM_ERR.inc();
            Err(PopError::Checksum)
        }
    }
}

/// Reads and checks the outer UDP header at `l4`.
fn udp(
    data: &[u8],
    l4: usize,
    end: usize,
    known: Checksum,
    tnl: &mut FlowTnl,
) -> Result<(), PopError> {
    let header = data.get(l4..end).and_then(|l4| l4.first_chunk::<UDP_LEN>());
    let Some(&[s0, s1, d0, d1, _, _, sum @ ..]) = header else {
        return Err(PopError::Truncated);
    };
    if sum != [0; 2] {
        // The inner packet is still incomplete: it comes from this host.
        let partial = matches!(known, Checksum::Partial { .. });
        if known != Checksum::Good && !partial {
            let len = end - l4;
            let pseudo = match addresses(tnl) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    pseudo_v4(s.octets(), d.octets(), ip_proto::UDP, len as u32)
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    pseudo_v6(&s.octets(), &d.octets(), ip_proto::UDP, len as u32)
                }
                _ => Sum::ZERO,
            };
            verify(pseudo.add(&data[l4..end]))?;
        }
        tnl.flags |= FLOW_TNL_F_CSUM;
    }
    tnl.tp_src = u16::from_be_bytes([s0, s1]).into();
    tnl.tp_dst = u16::from_be_bytes([d0, d1]).into();
    Ok(())
}

fn addresses(tnl: &FlowTnl) -> (IpAddr, IpAddr) {
    if tnl.ip_dst.get() != 0 {
        (
            tnl.ip_src.get().to_be_bytes().into(),
            tnl.ip_dst.get().to_be_bytes().into(),
        )
    } else {
        (tnl.ipv6_src.into(), tnl.ipv6_dst.into())
    }
}

/// Removes everything before `inner` and behind `end`.
fn strip(packet: &mut Packet, inner: usize, end: usize, packet_type: u32) {
    packet.truncate(end);
    // A checksum that was vouched for, or is left open, belongs to the outer header if it begins
    // there, and so do segments; then nothing is known of the inner one.
    match packet.offload.checksum {
        Checksum::Partial { start, .. } if usize::from(start) >= inner => {}
        Checksum::Partial { .. } => packet.offload = Offload::default(),
        _ => packet.offload.checksum = Checksum::Unknown,
    }
    (packet.l2_5, packet.l3, packet.l4, packet.l2_pad) = (NO_OFFSET, NO_OFFSET, NO_OFFSET, 0);
    packet.pull(inner);
    packet.rss_hash = None;
    packet.md.packet_type = packet_type;
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::flow::FLOW_TNL_F_KEY;

    use super::*;
    use crate::types::vxlan::PORT;

    fn frame() -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 8, 0];
        f.extend_from_slice(&[
            0x45, 0xc, 0, 50, 0, 1, 0x40, 0, 9, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let sum = checksum(&f[14..34]);
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f.extend_from_slice(&[0x90, 1, 0x12, 0xb5, 0, 30, 0, 0, 8, 0, 0, 0, 0, 1, 2, 0]);
        f.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5]);
        f.extend_from_slice(&[0; 6]); // Ethernet padding
        f
    }

    #[test]
    fn a_packet_without_an_ethernet_header_is_none_of_a_tunnels() {
        for l3 in [0, 1, 13, 40, 60_000] {
            let mut p = Packet::from_slice(&[0x45; 50]);
            p.l3 = l3;
            assert_eq!(pop(&PORT, &mut p), Err(PopError::Truncated), "{l3}");
        }
    }

    #[test]
    fn the_outer_header_becomes_metadata_and_padding_goes() {
        let mut p = Packet::from_slice(&frame());
        pop(&PORT, &mut p).unwrap();
        assert_eq!(p.size(), 14);
        let t = p.md.tunnel.get().unwrap();
        assert_eq!((t.ip_src.get(), t.ip_dst.get()), (0x0a00_0001, 0x0a00_0002));
        assert_eq!(
            (t.tun_id.get(), t.ip_tos, t.ip_ttl, t.tp_src.get()),
            (0x102, 0xc, 9, 0x9001)
        );
        assert_eq!(t.flags, FLOW_TNL_F_KEY | FLOW_TNL_F_DONT_FRAGMENT);
    }

    #[test]
    fn wrong_headers_are_refused() {
        let with = |at: usize, value: u8| {
            let mut f = frame();
            f[at] = value;
            pop(&PORT, &mut Packet::from_slice(&f))
        };
        assert_eq!(with(24, 0xff), Err(PopError::Checksum));
        assert_eq!(with(40, 1), Err(PopError::Checksum));
        assert_eq!(with(42, 0), Err(PopError::Header));
        assert_eq!(with(49, 1), Err(PopError::Header));
        for len in 0..64 {
            assert!(
                pop(&PORT, &mut Packet::from_slice(&frame()[..len])).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn an_incomplete_inner_packet_stays_so() {
        let mut f = frame();
        f[40] = 0x12; // Some outer checksum, right only once the inner one is filled in.
        let mut p = Packet::from_slice(&f);
        p.offload.checksum = Checksum::Partial {
            start: 60,
            offset: 2,
        };
        pop(&PORT, &mut p).unwrap();
        assert_eq!(
            p.offload.checksum,
            Checksum::Partial {
                start: 10,
                offset: 2
            }
        );
        assert_ne!(p.md.tunnel.get().unwrap().flags & FLOW_TNL_F_CSUM, 0);
    }
}
