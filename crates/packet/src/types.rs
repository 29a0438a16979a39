//! Small types that every packet crate shares: network-order integers, addresses and port numbers.
//!
//! Port numbers that look alike are different types: [`OfPort`] numbers a port of a bridge towards OpenFlow,
//! [`DpPort`] numbers a port of a datapath.

use std::fmt;
use std::str::FromStr;

pub use zerocopy::byteorder::network_endian::{
    U16 as Be16, U32 as Be32, U64 as Be64, U128 as Be128,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An Ethernet address in transmission order.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const ZERO: MacAddr = MacAddr([0; 6]);
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    pub fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// Whether IEEE 802.1D reserves the address (01:80:c2:00:00:00 to 0f) so that no bridge may forward it.
    pub fn is_reserved(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.0[5] & 0xf0 == 0
    }

    pub fn to_u64(self) -> u64 {
        self.0
            .iter()
            .fold(0, |acc, &byte| acc << 8 | u64::from(byte))
    }

    pub fn from_u64(value: u64) -> MacAddr {
        let b = value.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal octets joined by colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid Ethernet address")]
pub struct MacAddrError;

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(s: &str) -> Result<Self, MacAddrError> {
        let mut out = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut out {
            let part = parts.next().ok_or(MacAddrError)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(MacAddrError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacAddrError)?;
        }
        if parts.next().is_some() {
            Err(MacAddrError)
        } else {
            Ok(MacAddr(out))
        }
    }
}

/// An OpenFlow port number. Open vSwitch uses 16 bits inside; OpenFlow 1.1 and later carry the reserved
/// numbers as 0xffffff00 and up, which the codec maps to 0xff00 and up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfPort(pub u16);

impl OfPort {
    /// Numbers below this are ordinary ports (1 to 0xfeff).
    pub const MAX: OfPort = OfPort(0xff00);
    pub const UNSET: OfPort = OfPort(0xfff7);
    pub const IN_PORT: OfPort = OfPort(0xfff8);
    pub const TABLE: OfPort = OfPort(0xfff9);
    pub const NORMAL: OfPort = OfPort(0xfffa);
    pub const FLOOD: OfPort = OfPort(0xfffb);
    pub const ALL: OfPort = OfPort(0xfffc);
    pub const CONTROLLER: OfPort = OfPort(0xfffd);
    pub const LOCAL: OfPort = OfPort(0xfffe);
    pub const NONE: OfPort = OfPort(0xffff);
}

impl fmt::Debug for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OfPort({})", self.0)
    }
}

/// A datapath port number; port 0 is the datapath's local port.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DpPort(pub u32);

impl DpPort {
    pub const LOCAL: DpPort = DpPort(0);
    pub const NONE: DpPort = DpPort(u32::MAX);
}

impl fmt::Debug for DpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpPort({})", self.0)
    }
}

/// EtherTypes that the switch itself knows.
pub mod eth_type {
    pub const IP: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const TEB: u16 = 0x6558;
    pub const VLAN_8021Q: u16 = 0x8100;
    pub const VLAN_8021AD: u16 = 0x88a8;
    pub const RARP: u16 = 0x8035;
    pub const IPV6: u16 = 0x86dd;
    pub const LACP: u16 = 0x8809;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MCAST: u16 = 0x8848;
    pub const LLDP: u16 = 0x88cc;
    pub const CFM: u16 = 0x8902;
    pub const NSH: u16 = 0x894f;
    /// What a flow key carries for a frame with an IEEE 802.2 length instead of an EtherType.
    pub const NOT_ETH: u16 = 0x05ff;
    /// The smallest value that is an EtherType and not a length.
    pub const MIN: u16 = 0x600;
}

/// IP protocol numbers.
pub mod ip_proto {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_survive_text_and_integers() {
        let mac: MacAddr = "50:54:00:00:00:0a".parse().unwrap();
        assert_eq!(mac.to_string(), "50:54:00:00:00:0a");
        assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
        for bad in [
            "",
            "1:2:3:4:5",
            "1:2:3:4:5:6:7",
            "100:2:3:4:5:6",
            "x:2:3:4:5:6",
            "+1:2:3:4:5:6",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(MacAddrError), "{bad}");
        }
    }
}
