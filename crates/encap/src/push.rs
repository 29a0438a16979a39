//! Putting a prebuilt outer header on packets.
//!
//! Only what depends on the packet is filled in: lengths, the IPv4 checksum (an update by the
//! length), the UDP source port (a hash of the inner flow) and the UDP checksum if there is one.
//!
//! What the inner packet leaves to the hardware stays left: a partial inner checksum is completed
//! by whoever sends the frame, at its new place, and a large inner frame makes a large tunnel frame
//! (see [`gso`]). The outer checksum over a partial inner one needs no pass over the data: from
//! where the inner checksum begins, the completed packet sums up to the complement of what its
//! checksum field holds now (the kernel calls this local checksum offload).

use ferrovs_packet::buffer::{Checksum, NO_OFFSET, Packet};
use ferrovs_packet::checksum::{Sum, pseudo_v4, pseudo_v6};
use ferrovs_packet::flow::PT_ETH;
use ferrovs_packet::gso;
use ferrovs_packet::hash::{fold32, mix};
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::header::{self, ETH_LEN, IPV4_LEN, IPV6_LEN, TunnelHeader};
use crate::row::{Outer, PortState};

/// Greatest length of an IP packet.
const IP_MAX: usize = 65535;

/// Whether the packet gets the header as it is: it need not be cut, and becomes no longer than an IP packet can be.
#[inline]
pub fn fits(packet: &Packet, header: &TunnelHeader) -> bool {
    packet.size() + header.bytes.len() - ETH_LEN <= IP_MAX
        && (packet.offload.gso.is_none() || (header.ty.large)(packet))
}

/// Encapsulates `packet`; emits one frame or, when a large one has to be cut, several.
/// Nothing comes out of a packet that cannot be encapsulated.
pub fn push(
    mut packet: Packet,
    header: &TunnelHeader,
    state: Option<&PortState>,
    mut emit: impl FnMut(Packet),
) {
    let mut one = |mut part: Packet| {
        if fits(&part, header) && push_in_place(&mut part, header, state) {
            emit(part);
        }
    };
    if packet.offload.gso.is_none() || fits(&packet, header) {
        one(packet);
    } else if packet.md.packet_type != PT_ETH {
        // What cuts packets finds their headers behind one of Ethernet.
        let ty = packet.md.packet_type as u16;
        packet.push(ETH_LEN)[12..].copy_from_slice(&ty.to_be_bytes());
        gso::segment(packet, |mut part| {
            part.pull(ETH_LEN);
            part.l3 = 0;
            one(part);
        });
    } else if (header.ty.large)(&packet) {
        gso::split(packet, IP_MAX / 2, one);
    } else {
        gso::segment(packet, one);
    }
}

/// Encapsulates a packet that [`fits`]; false if the prebuilt header has no IP.
#[inline]
pub fn push_in_place(p: &mut Packet, header: &TunnelHeader, state: Option<&PortState>) -> bool {
    let bytes = header.bytes.as_slice();
    let v6 = match bytes.get(12..ETH_LEN) {
        Some(ty) if *ty == eth_type::IP.to_be_bytes() => false,
        Some(ty) if *ty == eth_type::IPV6.to_be_bytes() => true,
        _ => return false,
    };
    let l4 = ETH_LEN + if v6 { IPV6_LEN } else { IPV4_LEN };
    let hash = p.rss_hash.unwrap_or_else(|| inner_hash(p));
    p.push(bytes.len()).copy_from_slice(bytes);
    p.l2_5 = NO_OFFSET;
    p.l3 = ETH_LEN as u16;
    p.l4 = l4 as u16;
    p.l2_pad = 0;
    p.rss_hash = Some(hash);
    if matches!(p.offload.checksum, Checksum::Good | Checksum::Claimed) {
        p.offload.checksum = Checksum::Unknown;
    }
    p.md.tunnel.clear();
    p.md.packet_type = PT_ETH;
    let len = p.size();
    let data = p.data_mut();
    if v6 {
        put(data, ETH_LEN + 4, (len - l4) as u16);
    } else {
        let total = (len - ETH_LEN) as u16;
        put(data, ETH_LEN + 2, total);
        // The prebuilt checksum is that of a length of 0.
        let sum = Sum::ZERO
            .add_u16(!get(data, ETH_LEN + 10))
            .add_u16(total)
            .finish();
        put(data, ETH_LEN + 10, sum);
    }
    let outer = Outer {
        l4,
        v6,
        hash,
        state,
    };
    (header.ty.finish)(p, &outer);
    true
}

pub(crate) fn get(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

pub(crate) fn put(data: &mut [u8], at: usize, value: u16) {
    data[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sum of the pseudo-header of what is behind the IP header, to the end of the frame.
pub(crate) fn pseudo(data: &[u8], v6: bool, proto: u8, len: usize) -> Sum {
    if v6 {
        let a = |i: usize| {
            let mut out = [0; 16];
            out.copy_from_slice(&data[i..i + 16]);
            out
        };
        pseudo_v6(&a(ETH_LEN + 8), &a(ETH_LEN + 24), proto, len as u32)
    } else {
        let a = |i: usize| [data[i], data[i + 1], data[i + 2], data[i + 3]];
        pseudo_v4(a(ETH_LEN + 12), a(ETH_LEN + 16), proto, len as u32)
    }
}

/// The checksum of everything from `at` on. Of a packet whose own checksum is still to be completed, as if it were.
pub fn sum_to_the_end(p: &Packet, at: usize) -> u16 {
    sum_from(p, at, Sum::ZERO).finish()
}

fn sum_from(p: &Packet, at: usize, sum: Sum) -> Sum {
    let data = p.data();
    if let Checksum::Partial { start, offset } = p.offload.checksum {
        let inner = usize::from(start);
        let field = inner + usize::from(offset);
        if field + 2 <= data.len() && inner >= at {
            return sum.add(&data[at..inner]).add_u16(!get(data, field));
        }
    }
    sum.add(&data[at..])
}

/// Of UDP headers: source port, length, checksum.
pub fn finish_udp(p: &mut Packet, outer: &Outer<'_>) {
    let (udp, v6) = (outer.l4, outer.v6);
    let offload = p.offload;
    let data = p.data_mut();
    let len = data.len() - udp;
    put(data, udp, header::source_port(outer.hash));
    put(data, udp + 4, len as u16);
    if get(data, udp + 6) == 0 {
        return;
    }
    let pseudo = pseudo(data, v6, ip_proto::UDP, len);
    if offload.gso.is_some() {
        // Not zero, so that every segment gets one; its value is computed for each.
        put(data, udp + 6, pseudo.fold().max(1));
    } else if matches!(offload.checksum, Checksum::Partial { .. }) {
        put(data, udp + 6, 0);
        let sum = sum_from(p, udp, pseudo).finish();
        put(p.data_mut(), udp + 6, if sum == 0 { 0xffff } else { sum });
    } else {
        put(data, udp + 6, pseudo.fold());
        p.offload.checksum = Checksum::Partial {
            start: udp as u16,
            offset: 6,
        };
    }
}

/// Hash of the inner flow: the five-tuple of IP, else the Ethernet header.
fn inner_hash(p: &Packet) -> u32 {
    let data = p.data();
    let word = |i: usize| -> u64 {
        data.get(i..i + 8).map_or(0, |b| {
            u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
        })
    };
    let l3 = usize::from(p.l3);
    let ports = |at: usize| {
        data.get(at..at + 4).map_or(0, |b| {
            u64::from(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
        })
    };
    let with_ports = |proto: u8| matches!(proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
    match data.get(l3).map(|b| b >> 4) {
        Some(4) if p.l3 != NO_OFFSET && data.len() >= l3 + IPV4_LEN => {
            let proto = data[l3 + 9];
            let fragment = get(data, l3 + 6) & 0x3fff != 0;
            let h = mix(u64::from(proto), word(l3 + 12));
            let tp = if with_ports(proto) && !fragment {
                ports(usize::from(p.l4))
            } else {
                0
            };
            fold32(mix(h, tp))
        }
        Some(6) if p.l3 != NO_OFFSET && data.len() >= l3 + IPV6_LEN => {
            let h = (0..4).fold(6, |h, i| mix(h, word(l3 + 8 + i * 8)));
            let tp = if with_ports(data[l3 + 6]) {
                ports(l3 + IPV6_LEN)
            } else {
                0
            };
            fold32(mix(h, tp))
        }
        _ => fold32(mix(mix(0, word(0)), word(6))),
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::flow::FlowTnl;

    use super::*;
    use crate::config::TunnelConfig;
    use crate::pop;
    use crate::row::Inside;
    use crate::types::vxlan;

    fn header(csum: bool, v6: bool) -> TunnelHeader {
        let mut tnl = FlowTnl {
            tun_id: 42.into(),
            ip_ttl: 64,
            ..FlowTnl::default()
        };
        let src = if v6 {
            tnl.ipv6_dst = [9; 16];
            "fd00::1".parse().unwrap()
        } else {
            tnl.ip_dst = 0xac1f_0102.into();
            "172.31.1.1".parse().unwrap()
        };
        let config = TunnelConfig {
            csum: Some(csum),
            ..TunnelConfig::new(&vxlan::PORT)
        };
        let link = header::Link {
            eth_src: "02:00:00:00:00:01".parse().unwrap(),
            eth_dst: "02:00:00:00:00:02".parse().unwrap(),
            src,
        };
        let inside = Inside {
            tnl: &tnl,
            packet_type: PT_ETH,
        };
        header::build(&vxlan::PORT, &config, &inside, &link).unwrap()
    }

    /// An inner UDP datagram whose checksum is partial.
    fn inner() -> Packet {
        let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 8, 0];
        f.extend_from_slice(&[
            0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        f.extend_from_slice(&[0, 1, 0, 2, 0, 13, 0, 0, 1, 2, 3, 4, 5]);
        let sum = pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], 17, 13).fold();
        f[40..42].copy_from_slice(&sum.to_be_bytes());
        let mut p = Packet::from_slice(&f);
        p.offload.checksum = Checksum::Partial {
            start: 34,
            offset: 6,
        };
        (p.l3, p.l4) = (14, 34);
        p
    }

    fn pushed(p: Packet, h: &TunnelHeader) -> Packet {
        let mut out = Vec::new();
        push(p, h, None, |p| out.push(p));
        assert_eq!(out.len(), 1);
        out.pop().unwrap()
    }

    #[test]
    fn outer_checksums_are_right_once_the_inner_one_is_complete() {
        for v6 in [false, true] {
            let a = header(true, v6);
            let mut p = pushed(inner(), &a);
            gso::complete_checksum(&mut p);
            let udp = if v6 { 54 } else { 34 };
            let d = p.data();
            assert_eq!(
                pseudo(d, v6, ip_proto::UDP, d.len() - udp)
                    .add(&d[udp..])
                    .finish(),
                0
            );
            // With a complete inner checksum the outer one is left to the sender.
            let mut whole = inner();
            gso::complete_checksum(&mut whole);
            let mut p2 = pushed(whole, &a);
            assert_eq!(
                p2.offload.checksum,
                Checksum::Partial {
                    start: udp as u16,
                    offset: 6
                }
            );
            gso::complete_checksum(&mut p2);
            assert_eq!(p2.data(), p.data());
        }
    }

    #[test]
    fn what_is_pushed_can_be_popped() {
        for (csum, v6) in [(false, false), (true, false), (true, true)] {
            let mut p = pushed(inner(), &header(csum, v6));
            if !v6 {
                assert_eq!(Sum::ZERO.add(&p.data()[14..34]).finish(), 0);
            }
            gso::complete_checksum(&mut p);
            pop::pop(&vxlan::PORT, &mut p).unwrap();
            let mut want = inner();
            gso::complete_checksum(&mut want);
            assert_eq!(p.data(), want.data());
            let t = p.md.tunnel.get().unwrap();
            assert_eq!((t.tun_id.get(), t.ip_ttl, t.tp_dst.get()), (42, 64, 4789));
        }
    }

    #[test]
    fn a_flow_keeps_its_source_port_and_others_get_another() {
        let a = header(false, false);
        let port = |p: Packet| get(pushed(p, &a).data(), 34);
        let first = port(inner());
        assert_eq!(port(inner()), first);
        assert!((32768..61000).contains(&first));
        let mut other = inner();
        other.data_mut()[35] = 77;
        assert_ne!(port(other), first);
    }
}
