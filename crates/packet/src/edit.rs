//! Rewriting of headers in place: what the actions of a datapath do to a packet's bytes.
//!
//! All functions rely on the layer offsets that the parser left in the packet, and keep them. They check that
//! the header that they touch is really there and do nothing otherwise; a packet never makes them fail.
//! Checksums follow by incremental update. A packet whose transport checksum is still to be computed
//! ([`Checksum::Partial`]) carries the sum of the pseudo-header in its place, so only changes of the
//! pseudo-header are followed, and without the final complement.

mod ip;
mod l2;
mod l4;
mod nsh;

pub use ip::{Ipv4Fields, Ipv6Fields, dec_ttl, ipv4, ipv6, set_ipv4, set_ipv6};
pub use l2::{
    add_mpls, arp, eth_addrs, eth_type_of, mpls_lse, pop_eth, pop_mpls, pop_vlan, push_eth,
    push_mpls, push_vlan, set_arp, set_eth_addrs, set_mpls_lse,
};
pub use l4::{
    NdFields, icmp, nd, ports, set_icmp, set_nd, set_nd_ext, set_sctp_ports, set_tcp_ports,
    set_udp_ports,
};
pub use nsh::{pop_nsh, push_nsh, set_nsh};

use crate::buffer::{Checksum, Packet};
use crate::checksum;
use crate::types::ip_proto;

/// Fields of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ArpFields {
    pub op: u16,
    pub sip: [u8; 4],
    pub tip: [u8; 4],
    pub sha: crate::types::MacAddr,
    pub tha: crate::types::MacAddr,
}

fn u16_at(data: &[u8], ofs: usize) -> u16 {
    u16::from_be_bytes([data[ofs], data[ofs + 1]])
}

fn put_u16(data: &mut [u8], ofs: usize, value: u16) {
    data[ofs..ofs + 2].copy_from_slice(&value.to_be_bytes());
}

/// Overwrites bytes at an even offset and follows with the checksum at `csum`.
fn replace_summed(data: &mut [u8], ofs: usize, new: &[u8], csum: usize) {
    let sum = checksum::update(u16_at(data, csum), &data[ofs..ofs + new.len()], new);
    put_u16(data, csum, sum);
    data[ofs..ofs + new.len()].copy_from_slice(new);
}

/// Whether the sender left the transport checksum to the hardware: that of the transport header which the packet shows,
/// not one of a packet inside of it.
fn is_partial(packet: &Packet) -> bool {
    matches!(packet.offload.checksum, Checksum::Partial { start, .. } if start == packet.l4)
}

/// Where the transport checksum of `proto` is in its header, and how long the header is.
fn l4_checksum(proto: u8) -> Option<(usize, usize)> {
    match proto {
        ip_proto::TCP => Some((16, 20)),
        ip_proto::UDP => Some((6, 8)),
        ip_proto::ICMPV6 => Some((2, 8)),
        _ => None,
    }
}

/// Follows a change of the pseudo-header with the transport checksum.
fn update_pseudo(packet: &mut Packet, proto: u8, old: &[u8], new: &[u8]) {
    let Some((at, header)) = l4_checksum(proto) else {
        return;
    };
    if packet.l4_data().len() < header {
        return;
    }
    let partial = is_partial(packet);
    let at = usize::from(packet.l4) + at;
    let data = packet.data_mut();
    let was = u16_at(data, at);
    let now = if partial {
        checksum::update_sum(was, old, new)
    } else if proto == ip_proto::UDP && was == 0 {
        // The sender did not compute one.
        return;
    } else {
        match checksum::update(was, old, new) {
            0 if proto == ip_proto::UDP => 0xffff,
            sum => sum,
        }
    };
    put_u16(data, at, now);
}

#[cfg(test)]
mod tests;
