//! The [rows](crate::row) of the tunnel types.
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
//! takes what the protocol says as the packet type of the inner packet. `finish` counts [`PortState::sequence`](crate::row::PortState::sequence) up where the
//! header has room for a number, then sums up the rest of the frame where it has room for a checksum. ERSPAN is the
//! same with another header behind. The sequence belongs to the port of the datapath, which all ports of the type
//! share: `ferrovs_netdev::TunnelPort` holds the state, and the datapath finds it by `TunnelPush::tnl_port`.

use crate::row::{HeaderType, TunnelType};

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
