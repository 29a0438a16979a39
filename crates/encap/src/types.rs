//! The [rows](crate::row) of the tunnel types.
//!
//! What is common stays out of the rows: addresses, TOS, TTL and "don't fragment" of the outer IP header, and for
//! transports of UDP its header, source port and checksum ([`header`](crate::header), [`push`](crate::push),
//! [`pop`](crate::pop)).
//!
//! The sequence numbers of GRE and ERSPAN belong to the port of the datapath, which all ports of the type share:
//! `ferrovs_netdev::TunnelPort` holds the state, and the datapath finds it by `TunnelPush::tnl_port`.

use crate::row::{HeaderType, TunnelType};

pub mod bareudp;
pub mod erspan;
pub mod geneve;
pub mod gre;
pub mod gtpu;
pub mod lisp;
pub mod srv6;
pub mod stt;
pub mod vxlan;

/// Every kind of outer header.
static HEADERS: [&HeaderType; 11] = [
    &gre::GRE,
    &vxlan::HEADER,
    &geneve::HEADER,
    &erspan::ERSPAN,
    &erspan::IP6ERSPAN,
    &gre::IP6GRE,
    &gtpu::HEADER,
    &srv6::HEADER,
    &gre::GRE64,
    &lisp::HEADER,
    &stt::HEADER,
];

/// Every type of port.
static PORTS: [&TunnelType; 12] = [
    &vxlan::PORT,
    &geneve::PORT,
    &gre::PORT,
    &gre::IP6_PORT,
    &erspan::PORT,
    &erspan::IP6_PORT,
    &gtpu::PORT,
    &srv6::PORT,
    &bareudp::PORT,
    &gre::PORT64,
    &lisp::PORT,
    &stt::PORT,
];

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
        assert_eq!((header(6), port("teredo")), (None, None));
    }
}
