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
use crate::checksum::{self, pseudo_v4, pseudo_v6};
use crate::parse::skip_ipv6_extensions;
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
/// not one of a packet inside of it. One that is only claimed to be right is left to it now, for it is about to change.
fn is_partial(packet: &mut Packet) -> bool {
    match packet.offload.checksum {
        Checksum::Partial { start, .. } => start == packet.l4,
        Checksum::Claimed => open_transport(packet),
        _ => false,
    }
}

/// Leaves the transport checksum to whoever sends the packet; false if it has none.
#[cold]
pub fn open_transport(packet: &mut Packet) -> bool {
    let Some((at, sum)) = pseudo_header(packet) else {
        return false;
    };
    let start = packet.l4;
    put_u16(packet.data_mut(), usize::from(start) + at, sum);
    packet.offload.checksum = Checksum::Partial {
        start,
        offset: at as u16,
    };
    true
}

/// Where the transport checksum is in its header, and the sum of the pseudo-header that it covers.
fn pseudo_header(packet: &Packet) -> Option<(usize, u16)> {
    let (l3, l4) = (packet.l3_data(), packet.l4_data());
    let len = l4.len() as u32;
    let (proto, pseudo) = match l3.first()? >> 4 {
        4 => {
            let h = l3.first_chunk::<20>()?;
            let whole = u16_at(h, 6) & 0x3fff == 0;
            let pseudo = pseudo_v4(ip::take(h, 12), ip::take(h, 16), h[9], len);
            whole.then_some((h[9], pseudo))?
        }
        6 => {
            let h = l3.first_chunk::<40>()?;
            let (proto, _, frag) = skip_ipv6_extensions(l3)?;
            let pseudo = pseudo_v6(&ip::take(h, 8), &ip::take(h, 24), proto, len);
            (frag == 0).then_some((proto, pseudo))?
        }
        _ => return None,
    };
    let (at, header) = match proto {
        ip_proto::ICMP => return (l4.len() >= 8).then_some((2, 0)),
        proto => l4_checksum(proto)?,
    };
    // A UDP sender need not compute one.
    let has = l4.len() >= header && (proto != ip_proto::UDP || u16_at(l4, at) != 0);
    has.then(|| (at, pseudo.fold()))
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
