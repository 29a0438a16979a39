//! Outer headers, built once for each flow.
//!
//! The bytes hold everything that does not depend on the packet; lengths, the UDP source port and
//! checksums are filled in by [`push`](crate::push). A checksum field of 0xffff in a prebuilt UDP
//! header asks for one.
//!
//! ```text
//!   | Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | VXLAN 8 | packet ...
//! ```

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use ferrovs_packet::checksum::checksum;
use ferrovs_packet::flow::{FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT, FlowTnl};
use ferrovs_packet::types::{MacAddr, eth_type, ip_proto};

use crate::config::TunnelConfig;
use crate::row::{HeaderType, Inside, TunnelType};

/// Sizes of headers in bytes.
pub const ETH_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
pub const UDP_LEN: usize = 8;

/// Source ports of outer UDP headers: least and greatest.
static PORT_MIN: AtomicU32 = AtomicU32::new(32768);
static PORT_MAX: AtomicU32 = AtomicU32::new(61000);

/// The least and the greatest source port.
pub fn source_ports() -> (u16, u16) {
    let port = |p: &AtomicU32| p.load(Ordering::Relaxed) as u16;
    (port(&PORT_MIN), port(&PORT_MAX))
}

/// Changes the range of source ports; both orders are understood.
pub fn set_source_ports(a: u16, b: u16) {
    PORT_MIN.store(u32::from(a.min(b)), Ordering::Relaxed);
    PORT_MAX.store(u32::from(a.max(b)), Ordering::Relaxed);
}

/// The source port for packets with hash `hash`: the same flow always gets the same.
pub fn source_port(hash: u32) -> u16 {
    let (min, max) = (
        PORT_MIN.load(Ordering::Relaxed),
        PORT_MAX.load(Ordering::Relaxed),
    );
    (((u64::from(hash) * u64::from(max - min)) >> 32) as u32 + min) as u16
}

/// What the header of a tunnel says besides the tunnel's metadata.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Address of the device that the packet leaves by.
    pub eth_src: MacAddr,
    /// Address of the next hop.
    pub eth_dst: MacAddr,
    /// Source address.
    pub src: IpAddr,
}

/// A whole outer header; lengths, checksums and the UDP source port are filled in for each packet.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelHeader {
    pub ty: &'static HeaderType,
    pub bytes: Vec<u8>,
}

/// The header of a tunnel type for the destination, key, flags and so on that the flow says. None when the addresses do
/// not fit together, or the type has no header for that.
pub fn build(
    ty: &TunnelType,
    config: &TunnelConfig,
    inside: &Inside<'_>,
    link: &Link,
) -> Option<TunnelHeader> {
    let tnl = inside.tnl;
    let mut bytes = outer_ip(tnl, link, ty.transport.protocol)?;
    let v6 = link.src.is_ipv6();
    if ty.transport.protocol == ip_proto::UDP {
        outer_udp(&mut bytes, config, tnl, v6);
    }
    (ty.build)(&mut bytes, config, inside)?;
    let ty = if v6 { ty.header6 } else { ty.header };
    Some(TunnelHeader { ty, bytes })
}

fn destination(tnl: &FlowTnl) -> Option<IpAddr> {
    if tnl.ip_dst.get() != 0 {
        Some(tnl.ip_dst.get().to_be_bytes().into())
    } else if tnl.ipv6_dst != [0; 16] {
        Some(tnl.ipv6_dst.into())
    } else {
        None
    }
}

/// UDP's header.
fn outer_udp(b: &mut Vec<u8>, config: &TunnelConfig, tnl: &FlowTnl, v6: bool) {
    // Unless configured, UDP over IPv6 has a checksum and UDP over IPv4 has none.
    let csum = match config.csum {
        Some(c) => c,
        None => v6 || tnl.flags & FLOW_TNL_F_CSUM != 0,
    };
    b.extend_from_slice(&[0, 0]);
    b.extend_from_slice(&config.dst_port.to_be_bytes());
    b.extend_from_slice(&[0, 0]);
    b.extend_from_slice(&(if csum { 0xffffu16 } else { 0 }).to_be_bytes());
}

/// Ethernet and IP headers.
fn outer_ip(tnl: &FlowTnl, link: &Link, proto: u8) -> Option<Vec<u8>> {
    let mut b = Vec::with_capacity(96);
    b.extend_from_slice(&link.eth_dst.0);
    b.extend_from_slice(&link.eth_src.0);
    match (link.src, destination(tnl)?) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            b.extend_from_slice(&eth_type::IP.to_be_bytes());
            let df = if tnl.flags & FLOW_TNL_F_DONT_FRAGMENT != 0 {
                0x40
            } else {
                0
            };
            let ip = b.len();
            b.extend_from_slice(&[0x45, tnl.ip_tos, 0, 0, 0, 0, df, 0, tnl.ip_ttl, proto, 0, 0]);
            b.extend_from_slice(&src.octets());
            b.extend_from_slice(&dst.octets());
            let sum = checksum(&b[ip..]);
            b[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            b.extend_from_slice(&eth_type::IPV6.to_be_bytes());
            let word = 0x6000_0000u32 | u32::from(tnl.ip_tos) << 20;
            b.extend_from_slice(&word.to_be_bytes());
            b.extend_from_slice(&[0, 0, proto, tnl.ip_ttl]);
            b.extend_from_slice(&src.octets());
            b.extend_from_slice(&dst.octets());
        }
        _ => return None,
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::vxlan;

    fn made(config: &TunnelConfig, tnl: &FlowTnl, link: &Link) -> Option<TunnelHeader> {
        let packet_type = ferrovs_packet::flow::PT_ETH;
        build(&vxlan::PORT, config, &Inside { tnl, packet_type }, link)
    }

    #[test]
    fn a_vxlan_header_is_what_open_vswitch_builds() {
        let tnl = FlowTnl {
            ip_dst: 0xac1f_0102.into(),
            tun_id: 0x2a.into(),
            ip_ttl: 64,
            flags: FLOW_TNL_F_DONT_FRAGMENT,
            ..FlowTnl::default()
        };
        let link = Link {
            eth_src: "26:7b:ba:f0:2d:4c".parse().unwrap(),
            eth_dst: "2a:48:cb:85:51:a7".parse().unwrap(),
            src: "172.31.1.1".parse().unwrap(),
        };
        let config = TunnelConfig::new(&vxlan::PORT);
        let h = made(&config, &tnl, &link).unwrap();
        assert_eq!((h.ty.number, h.bytes.len()), (4, 50));
        assert_eq!(h.bytes[14..24], [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(checksum(&h.bytes[14..34]), 0);
        assert_eq!(
            h.bytes[34..],
            [0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x2a, 0]
        );
        let gpe = TunnelConfig {
            exts: 2,
            ..config.clone()
        };
        let h = made(&gpe, &tnl, &link).unwrap();
        assert_eq!(h.bytes[42..46], [0x0c, 0, 0, 3]);
        let gbp = TunnelConfig {
            exts: 1,
            ..config.clone()
        };
        let marked = FlowTnl {
            gbp_id: 0x1234.into(),
            gbp_flags: 0x08,
            ..tnl
        };
        let h = made(&gbp, &marked, &link).unwrap();
        assert_eq!(h.bytes[42..46], [0x88, 0x08, 0x12, 0x34]);
        let six = FlowTnl {
            ip_dst: 0.into(),
            ipv6_dst: [9; 16],
            ip_tos: 0x28,
            ..tnl
        };
        assert_eq!(made(&config, &six, &link), None);
        let link = Link {
            src: "fd00::1".parse().unwrap(),
            ..link
        };
        let h = made(&config, &six, &link).unwrap();
        assert_eq!(h.bytes.len(), 70);
        assert_eq!(h.bytes[14..18], [0x62, 0x80, 0, 0]);
        assert_eq!(h.bytes[60..62], [0xff, 0xff]);
    }

    #[test]
    fn source_ports_cover_the_range_and_nothing_else() {
        assert_eq!(source_port(0), 32768);
        assert_eq!(source_port(u32::MAX), 60999);
    }
}
