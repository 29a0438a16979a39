//! Taking rtnetlink messages apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Addr, Link, LinkStats, Neigh, Route, Rule};

pub(super) const IFLA_XDP: u16 = 43;
pub(super) const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_PROG_ID: u16 = 4;

/// One netlink message.
pub(super) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
}

fn u16_at(b: &[u8], i: usize) -> Option<u16> {
    b.get(i..i + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]))
}

fn u32_at(b: &[u8], i: usize) -> Option<u32> {
    b.get(i..i + 4)
        .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

pub(super) fn i32_at(b: &[u8], i: usize) -> Option<i32> {
    u32_at(b, i).map(|v| v as i32)
}

/// The messages of a datagram.
pub(super) fn messages(mut b: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(b, 0)? as usize;
        if len < 16 || len > b.len() {
            return None;
        }
        let m = Message {
            kind: u16_at(b, 4)?,
            flags: u16_at(b, 6)?,
            seq: u32_at(b, 8)?,
            body: &b[16..len],
        };
        b = b.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(m)
    })
}

/// The attributes behind a family header of `header` bytes: type (without flag bits) and value.
pub(super) fn attrs(b: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut b = b.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = u16_at(b, 0)? as usize;
        if len < 4 || len > b.len() {
            return None;
        }
        let a = (u16_at(b, 2)? & 0x3fff, &b[4..len]);
        b = b.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(a)
    })
}

fn string(b: &[u8]) -> String {
    let end = b.iter().position(|c| *c == 0).unwrap_or(b.len());
    String::from_utf8_lossy(&b[..end]).into_owned()
}

fn mac(b: &[u8]) -> Option<[u8; 6]> {
    b.try_into().ok()
}

fn addr(b: &[u8]) -> Option<IpAddr> {
    if let Ok(a) = <[u8; 4]>::try_from(b) {
        Some(Ipv4Addr::from(a).into())
    } else {
        <[u8; 16]>::try_from(b)
            .ok()
            .map(|a| Ipv6Addr::from(a).into())
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match libc::c_int::from(family) {
        libc::AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        libc::AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

impl LinkStats {
    fn parse(b: &[u8]) -> LinkStats {
        let f = |i: usize| {
            b.get(i * 8..i * 8 + 8)
                .and_then(|b| <[u8; 8]>::try_from(b).ok())
                .map_or(0, u64::from_ne_bytes)
        };
        LinkStats {
            rx_packets: f(0),
            tx_packets: f(1),
            rx_bytes: f(2),
            tx_bytes: f(3),
            rx_errors: f(4),
            tx_errors: f(5),
            rx_dropped: f(6),
            tx_dropped: f(7),
            multicast: f(8),
            collisions: f(9),
            rx_length_errors: f(10),
            rx_over_errors: f(11),
            rx_crc_errors: f(12),
            rx_frame_errors: f(13),
            rx_fifo_errors: f(14),
            rx_missed_errors: f(15),
        }
    }
}

impl Link {
    pub(super) fn parse(b: &[u8]) -> Option<Link> {
        const IFLA_CARRIER_CHANGES: u16 = 35;
        let mut l = Link {
            hw_type: u16_at(b, 2)?,
            index: u32_at(b, 4)?,
            flags: u32_at(b, 8)?,
            ..Link::default()
        };
        for (kind, v) in attrs(b, 16) {
            match kind {
                libc::IFLA_IFNAME => l.name = string(v),
                libc::IFLA_ADDRESS => l.mac = mac(v),
                libc::IFLA_MTU => l.mtu = u32_at(v, 0)?,
                libc::IFLA_LINK => l.link = u32_at(v, 0),
                libc::IFLA_MASTER => l.master = u32_at(v, 0),
                libc::IFLA_GROUP => l.group = u32_at(v, 0)?,
                libc::IFLA_STATS64 => l.stats = LinkStats::parse(v),
                libc::IFLA_LINKINFO => {
                    for (k, v) in attrs(v, 0) {
                        if k == libc::IFLA_INFO_KIND {
                            l.kind = string(v);
                        }
                    }
                }
                IFLA_XDP => {
                    let mut inner = attrs(v, 0).filter(|(k, _)| *k == IFLA_XDP_PROG_ID);
                    l.xdp_program = inner.find_map(|(_, v)| u32_at(v, 0)).unwrap_or(0);
                }
                IFLA_CARRIER_CHANGES => l.carrier_changes = u32_at(v, 0)?,
                _ => {}
            }
        }
        Some(l)
    }
}

impl Addr {
    pub(super) fn parse(b: &[u8]) -> Option<Addr> {
        let (mut local, mut address) = (None, None);
        for (kind, v) in attrs(b, 8) {
            match kind {
                libc::IFA_LOCAL => local = addr(v),
                libc::IFA_ADDRESS => address = addr(v),
                _ => {}
            }
        }
        Some(Addr {
            index: u32_at(b, 4)?,
            addr: local.or(address)?,
            prefix_len: *b.get(1)?,
            scope: *b.get(3)?,
        })
    }
}

impl Route {
    pub(super) fn parse(b: &[u8]) -> Option<Route> {
        if b.len() < 12 {
            return None;
        }
        let mut r = Route {
            table: b[4].into(),
            dst: unspecified(b[0])?,
            dst_len: b[1],
            gateway: None,
            oif: None,
            prefsrc: None,
            priority: 0,
            kind: b[7],
            protocol: b[5],
            scope: b[6],
            multipath: false,
            shared_hop: None,
        };
        for (kind, v) in attrs(b, 12) {
            match kind {
                libc::RTA_DST => r.dst = addr(v)?,
                libc::RTA_GATEWAY => r.gateway = addr(v),
                libc::RTA_OIF => r.oif = u32_at(v, 0),
                libc::RTA_PREFSRC => r.prefsrc = addr(v),
                libc::RTA_PRIORITY => r.priority = u32_at(v, 0)?,
                libc::RTA_TABLE => r.table = u32_at(v, 0)?,
                // RTA_VIA: a gateway of the other address family.
                18 => r.gateway = v.get(2..).and_then(addr),
                // RTA_NH_ID
                30 => r.shared_hop = u32_at(v, 0),
                libc::RTA_MULTIPATH => {
                    // The first of several next hops: rtnexthop {len, flags, hops, ifindex}.
                    r.multipath = true;
                    r.oif = r.oif.or(u32_at(v, 4));
                    let len = usize::from(u16_at(v, 0)?).clamp(8, v.len().max(8));
                    for (k, v) in attrs(v.get(..len).unwrap_or_default(), 8) {
                        if k == libc::RTA_GATEWAY {
                            r.gateway = addr(v);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(r)
    }
}

impl Rule {
    pub(super) fn parse(b: &[u8]) -> Option<Rule> {
        const FRA_SRC: u16 = 2;
        const FRA_PRIORITY: u16 = 6;
        const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
        const FRA_TABLE: u16 = 15;
        const FRA_PAD: u16 = 18;
        const FRA_PROTOCOL: u16 = 21;
        const FR_ACT_TO_TBL: u8 = 1;
        const FIB_RULE_INVERT: u32 = 2;
        // fib_rule_hdr: family, dst_len, src_len, tos, table, two bytes, action, flags.
        let header: &[u8; 12] = b.first_chunk()?;
        let [family, dst_len, src_len, tos, table, _, _, action, ..] = *header;
        let mut r = Rule {
            ipv4: unspecified(family)?.is_ipv4(),
            priority: 0,
            table: table.into(),
            src: (src_len > 0).then_some((unspecified(family)?, src_len)),
            invert: u32_at(b, 8)? & FIB_RULE_INVERT != 0,
            plain: action == FR_ACT_TO_TBL && dst_len == 0 && tos == 0,
        };
        for (kind, v) in attrs(b, 12) {
            match kind {
                FRA_SRC => r.src = Some((addr(v)?, src_len)),
                FRA_PRIORITY => r.priority = u32_at(v, 0)?,
                FRA_TABLE => r.table = u32_at(v, 0)?,
                FRA_SUPPRESS_PREFIXLEN | FRA_PROTOCOL | FRA_PAD => {}
                _ => r.plain = false,
            }
        }
        Some(r)
    }
}

/// The number of a next hop that routes may share.
pub(super) fn hop_id(b: &[u8]) -> Option<u32> {
    const NHA_ID: u16 = 1;
    let mut attributes = attrs(b, 8);
    attributes.find_map(|(kind, v)| u32_at(v, 0).filter(|_| kind == NHA_ID))
}

impl Neigh {
    pub(super) fn parse(b: &[u8]) -> Option<Neigh> {
        let (mut dst, mut lladdr) = (None, None);
        for (kind, v) in attrs(b, 12) {
            match kind {
                libc::NDA_DST => dst = addr(v),
                libc::NDA_LLADDR => lladdr = mac(v),
                _ => {}
            }
        }
        Some(Neigh {
            index: u32_at(b, 4)?,
            addr: dst?,
            mac: lladdr,
            state: u16_at(b, 8)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_messages_never_panic() {
        let mut m = vec![40u8, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        m.extend_from_slice(&[0; 12]);
        m.extend_from_slice(&[0xff, 0xff, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for end in 0..m.len() {
            for x in messages(&m[..end]) {
                let _ = (Link::parse(x.body), Addr::parse(x.body));
            }
            let b = &m[..end];
            let _ = (
                Link::parse(b),
                Addr::parse(b),
                Rule::parse(b),
                Route::parse(b),
                Neigh::parse(b),
            );
        }
    }
}
