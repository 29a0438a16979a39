//! What identifies one direction of a connection, and its keyed hash.
//!
//! The hash is the same for both directions, so that a connection whose addresses are not translated is found by
//! packets of either under one entry. It is keyed: who does not know the key cannot choose tuples that collide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrovs_datapath::conntrack::{CtL4, CtTuple};
use ferrovs_packet::buffer::CtOrigTuple;
use ferrovs_packet::hash::mix;
use ferrovs_packet::types::ip_proto;

/// An address: IPv4 in the first four bytes, the others zero.
pub type Addr = [u8; 16];

/// One direction of a connection.
///
/// `src_l4` and `dst_l4` are ports; for ICMP and ICMPv6 each holds the identifier in its upper half, then the type and
/// code of messages that this end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Tuple {
    pub src: Addr,
    pub dst: Addr,
    pub src_l4: u32,
    pub dst_l4: u32,
    pub zone: u16,
    pub proto: u8,
    pub ipv6: bool,
}

#[inline]
fn words(a: &Addr) -> [u64; 2] {
    let (low, high) = a.split_at(8);
    let word = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
    [word(low), word(high)]
}

impl Tuple {
    pub const NONE: Tuple = Tuple {
        src: [0; 16],
        dst: [0; 16],
        src_l4: 0,
        dst_l4: 0,
        zone: 0,
        proto: 0,
        ipv6: false,
    };

    /// That of packets the other way.
    #[inline]
    pub fn reversed(&self) -> Tuple {
        Tuple {
            src: self.dst,
            dst: self.src,
            src_l4: self.dst_l4,
            dst_l4: self.src_l4,
            ..*self
        }
    }

    /// Whether the other is the same (false) or this one reversed (true); none if it is neither.
    #[inline]
    pub fn direction_of(&self, other: &Tuple) -> Option<bool> {
        let differs = |a: &Addr, a4: u32, b: &Addr, b4: u32| {
            let addr = number(a) ^ number(b);
            addr as u64 | (addr >> 64) as u64 | u64::from(a4 ^ b4)
        };
        let reversed = differs(&self.src, self.src_l4, &other.src, other.src_l4) != 0;
        let rest = match reversed {
            false => differs(&self.dst, self.dst_l4, &other.dst, other.dst_l4),
            true => {
                differs(&self.src, self.src_l4, &other.dst, other.dst_l4)
                    | differs(&self.dst, self.dst_l4, &other.src, other.src_l4)
            }
        };
        (rest | u64::from(self.kind() ^ other.kind()) == 0).then_some(reversed)
    }

    /// All but the ends.
    #[inline]
    fn kind(&self) -> u32 {
        // As they lie in memory, so that it takes one read.
        u32::from(self.zone) | u32::from(self.proto) << 16 | u32::from(self.ipv6) << 24
    }

    /// The port of its source, or the identifier that a protocol has in place of it.
    pub fn src_port(&self) -> u16 {
        port_of(self.src_l4, self.is_icmp())
    }

    pub fn dst_port(&self) -> u16 {
        port_of(self.dst_l4, self.is_icmp())
    }

    pub fn set_src_port(&mut self, port: u16) {
        let icmp = self.is_icmp();
        set_port(&mut self.src_l4, port, icmp);
    }

    pub fn set_dst_port(&mut self, port: u16) {
        let icmp = self.is_icmp();
        set_port(&mut self.dst_l4, port, icmp);
    }

    #[inline]
    pub fn is_icmp(&self) -> bool {
        matches!(self.proto, ip_proto::ICMP | ip_proto::ICMPV6)
    }

    /// Whether the protocol tells connections apart by ports, which translation may change.
    pub fn has_ports(&self) -> bool {
        matches!(self.proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP)
    }

    /// See the module's text.
    #[inline]
    pub fn hash(&self, key: u64) -> u64 {
        let end = |a: &Addr, l4: u32| {
            let [low, high] = words(a);
            let h = mix(key ^ u64::from(l4), low);
            match self.ipv6 {
                true => mix(h, high),
                false => h,
            }
        };
        let ends = end(&self.src, self.src_l4).wrapping_add(end(&self.dst, self.dst_l4));
        mix(ends, u64::from(self.zone) << 8 | u64::from(self.proto))
    }

    /// As keys of flows show the tuple.
    #[inline]
    pub fn to_flow(self) -> CtOrigTuple {
        let (tp_src, tp_dst) = match self.is_icmp() {
            true => (self.src_l4 as u16 >> 8, self.src_l4 as u16 & 0xff),
            false => (self.src_l4 as u16, self.dst_l4 as u16),
        };
        CtOrigTuple {
            ipv6: self.ipv6,
            src: self.src,
            dst: self.dst,
            proto: self.proto,
            tp_src,
            tp_dst,
        }
    }

    /// From what the key of a flow shows; none for protocols of which it does not show enough.
    pub fn of_flow(t: &CtOrigTuple, zone: u16) -> Option<Tuple> {
        let tuple = Tuple {
            src: t.src,
            dst: t.dst,
            src_l4: t.tp_src.into(),
            dst_l4: t.tp_dst.into(),
            zone,
            proto: t.proto,
            ipv6: t.ipv6,
        };
        (t.proto != 0 && !tuple.is_icmp()).then_some(tuple)
    }

    pub fn to_entry(self) -> CtTuple {
        CtTuple {
            src: ip(&self.src, self.ipv6),
            dst: ip(&self.dst, self.ipv6),
            proto: self.proto,
            l4: match self.is_icmp() {
                true => CtL4::Icmp {
                    id: (self.src_l4 >> 16) as u16,
                    icmp_type: (self.src_l4 >> 8) as u8,
                    code: self.src_l4 as u8,
                },
                false => CtL4::Ports {
                    src: self.src_l4 as u16,
                    dst: self.dst_l4 as u16,
                },
            },
        }
    }
}

#[inline]
fn number(a: &Addr) -> u128 {
    u128::from_ne_bytes(*a)
}

fn port_of(l4: u32, icmp: bool) -> u16 {
    if icmp { (l4 >> 16) as u16 } else { l4 as u16 }
}

fn set_port(l4: &mut u32, port: u16, icmp: bool) {
    *l4 = match icmp {
        true => u32::from(port) << 16 | *l4 & 0xffff,
        false => port.into(),
    };
}

fn ip(a: &Addr, ipv6: bool) -> IpAddr {
    match ipv6 {
        true => Ipv6Addr::from(*a).into(),
        false => Ipv4Addr::new(a[0], a[1], a[2], a[3]).into(),
    }
}

/// An IPv4 address as tuples hold it.
#[inline]
pub fn addr4(bytes: &[u8]) -> Addr {
    // As one number: what is written in one piece can be read again at once in any.
    let four = bytes.first_chunk::<4>();
    four.map_or(0, |four| u128::from(u32::from_le_bytes(*four)))
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_hash_and_ends_do_not_cancel_out() {
        let t = Tuple {
            src: addr4(&[10, 0, 0, 1]),
            dst: addr4(&[10, 0, 0, 2]),
            src_l4: 1000,
            dst_l4: 80,
            zone: 5,
            proto: 6,
            ipv6: false,
        };
        assert_eq!(t.hash(7), t.reversed().hash(7));
        assert_eq!(t.direction_of(&t), Some(false));
        assert_eq!(t.direction_of(&t.reversed()), Some(true));
        assert_eq!(t.reversed().reversed(), t);
        assert_ne!(t.hash(7), t.hash(8));
        let swapped = Tuple {
            src_l4: 80,
            dst_l4: 1000,
            ..t
        };
        assert_ne!(t.hash(7), swapped.hash(7));
        assert_ne!(t.hash(7), Tuple { zone: 6, ..t }.hash(7));
        let mut other = [t; 7];
        (other[0].src[15], other[1].dst[0]) = (1, 11);
        (other[2].src_l4, other[3].dst_l4) = (1 << 16 | 1000, 81);
        (other[4].zone, other[5].proto, other[6].ipv6) = (4, 17, true);
        for o in other {
            assert_eq!(t.direction_of(&o), None, "{o:?}");
            assert_eq!(t.direction_of(&o.reversed()), None, "{o:?}");
        }
    }
}
