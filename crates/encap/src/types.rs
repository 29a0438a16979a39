//! The rows of the tunnel types.
//!
//! A type has two sides. A [`HeaderType`] is a kind of outer header in the datapath's interface: its number, its text, and
//! what each packet fills in. A [`TunnelType`] is a type of port (`Interface.type`): its name and that of its port in
//! the datapath, what its packets are addressed to, its options and their checks, how its header is built and how one
//! is taken off. Whoever handles a port or a header holds a reference to its row and never looks at a name again.
//!
//! What is common stays out of the rows: addresses, TOS, TTL and "don't fragment" of the outer IP header, and for
//! transports of UDP its header, source port and checksum ([`header`](crate::header), [`push`](crate::push),
//! [`pop`](crate::pop)).
//!
//! # How types that have only a header would get ports
//!
//! *Geneve* (`geneve.rs`): `kind: "geneve"`, `dpif_port: "genev_sys"`, a transport of UDP with port 6081, `csum` among the
//! options; `build` appends flags, 0x6558, the identifier and the options, which are in `FlowTnl::metadata` as they go on
//! the wire; `pop` checks the version and the length, copies the options to `FlowTnl::metadata` and says where the frame
//! begins; `finish` is that of UDP. Which `tun_metadata` field an option is decides the bridge's TLV table, not the type.
//!
//! *GRE* (`gre.rs`): `kind: "gre"`, `dpif_port: "gre_sys"`, a transport of IP protocol 47 without a port; `csum` and `seq`
//! among the options; `header` is [`gre::GRE`] and `header6` [`gre::IP6GRE`]. `build` appends flags, protocol, and room for
//! checksum, key and sequence number. `pop` gets all bytes behind the IP header, so it can verify the checksum, and
//! takes what the protocol says as the packet type of the inner packet. `finish` counts [`PortState::sequence`] up where the
//! header has room for a number, then sums up the rest of the frame where it has room for a checksum. ERSPAN is the
//! same with another header behind. The sequence belongs to the port of the datapath, which all ports of the type
//! share: `ferrovs_netdev::TunnelPort` holds the state, and the datapath finds it by `TunnelPush::tnl_port`.

use std::sync::atomic::AtomicU32;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::FlowTnl;
use ferrovs_packet::text::Cursor;

use crate::config::TunnelConfig;
use crate::pop::{Inner, PopError};
use crate::push::Outer;

pub mod erspan;
pub mod geneve;
pub mod gre;
pub mod gtpu;
pub mod srv6;
pub mod vxlan;

/// Every kind of outer header.
static HEADERS: [&HeaderType; 8] = [
    &gre::GRE,
    &vxlan::HEADER,
    &geneve::HEADER,
    &erspan::ERSPAN,
    &erspan::IP6ERSPAN,
    &gre::IP6GRE,
    &gtpu::HEADER,
    &srv6::HEADER,
];

/// Every type of port.
static PORTS: [&TunnelType; 1] = [&vxlan::PORT];

/// A kind of outer header.
#[derive(Debug)]
pub struct HeaderType {
    /// `OVS_VPORT_TYPE_*`.
    pub number: u32,
    /// Writes what follows the outer IP header; ends early where the bytes do.
    pub format: fn(&mut String, &[u8]) -> Option<()>,
    /// Reads what [`HeaderType::format`] writes.
    pub parse: fn(&mut Cursor<'_>, &mut Vec<u8>) -> Option<()>,
    /// Fills in what depends on the packet, beyond the IP header.
    pub finish: fn(&mut Packet, &Outer<'_>),
}

impl PartialEq for HeaderType {
    fn eq(&self, other: &HeaderType) -> bool {
        self.number == other.number
    }
}

/// What the packets of a tunnel are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IP protocol.
    pub protocol: u8,
    /// For protocols with ports: the port unless configured.
    pub port: Option<u16>,
}

impl Transport {
    /// The port that a tunnel with this configuration listens on; 0 for protocols without ports.
    pub fn listens_on(&self, config: &TunnelConfig) -> u16 {
        self.port.map_or(0, |_| config.dst_port)
    }
}

/// Options that not all types have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub csum: bool,
    pub seq: bool,
    /// Names and bits of `exts`.
    pub exts: &'static [(&'static str, u32)],
}

/// A type of tunnel port.
#[derive(Debug)]
pub struct TunnelType {
    /// Its name in `Interface.type`.
    pub kind: &'static str,
    /// Name of its port in the datapath, or the beginning of it where the transport's port follows.
    pub dpif_port: &'static str,
    pub transport: Transport,
    pub options: Options,
    /// TTL of outer headers unless configured.
    pub ttl: u8,
    /// Says what is wrong with a configuration, beyond what would be wrong with one of any type.
    pub check: fn(&TunnelConfig) -> Result<(), &'static str>,
    /// Says why two tunnels cannot share one transport port.
    pub clash: fn(&TunnelConfig, &TunnelConfig) -> Option<&'static str>,
    /// The header over IPv4 and over IPv6.
    pub header: &'static HeaderType,
    pub header6: &'static HeaderType,
    /// Appends what follows the outer IP header, or the UDP header where that is the transport.
    pub build: fn(&mut Vec<u8>, &TunnelConfig, &FlowTnl) -> Option<()>,
    /// Reads the same, which goes on to the end of the packet.
    pub pop: fn(&[u8], &mut FlowTnl) -> Result<Inner, PopError>,
}

impl PartialEq for TunnelType {
    fn eq(&self, other: &TunnelType) -> bool {
        std::ptr::eq(self, other)
    }
}

impl TunnelType {
    /// Name of the port of the datapath that serves a tunnel with this configuration.
    pub fn dpif_port_name(&self, config: &TunnelConfig) -> String {
        match self.transport.port {
            Some(_) => format!("{}_{}", self.dpif_port, config.dst_port),
            None => self.dpif_port.to_owned(),
        }
    }
}

/// What changes with the packets that go through a port of the datapath.
#[derive(Debug, Default)]
pub struct PortState {
    /// The last sequence number sent, for headers that have one.
    pub sequence: AtomicU32,
}

/// The kind of header with that number.
pub fn header(number: u32) -> Option<&'static HeaderType> {
    HEADERS.into_iter().find(|t| t.number == number)
}

/// The type of port with that name.
pub fn port(kind: &str) -> Option<&'static TunnelType> {
    PORTS.into_iter().find(|t| t.kind == kind)
}

/// Every type of port.
pub fn ports() -> impl Iterator<Item = &'static TunnelType> {
    PORTS.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_tell_types_apart() {
        for (i, a) in HEADERS.iter().enumerate() {
            assert!(HEADERS[..i].iter().all(|b| a.number != b.number));
            assert_eq!(header(a.number), Some(*a));
        }
        for (i, a) in PORTS.iter().enumerate() {
            let same = |b: &&TunnelType| a.kind == b.kind || a.dpif_port == b.dpif_port;
            assert!(!PORTS[..i].iter().any(same));
            assert_eq!(port(a.kind), Some(*a));
        }
        assert_eq!((header(6), port("geneve")), (None, None));
    }
}
