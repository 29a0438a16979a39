//! What translation changes in a packet: addresses, ports, identifiers, and of ICMP errors also the packet that they
//! quote (RFC 5508, section 4). Checksums follow.

use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::{Sum, pseudo_v6, update};
use ferrovs_packet::edit;
use ferrovs_packet::parse::skip_ipv6_extensions;
use ferrovs_packet::types::ip_proto;

use crate::tuple::{Addr, Tuple};

fn set_addrs(packet: &mut Packet, ipv6: bool, src: Option<&Addr>, dst: Option<&Addr>) {
    if ipv6 {
        if let Some(mut fields) = edit::ipv6(packet) {
            fields.src = src.copied().unwrap_or(fields.src);
            fields.dst = dst.copied().unwrap_or(fields.dst);
            edit::set_ipv6(packet, &fields);
        }
    } else if let Some(mut fields) = edit::ipv4(packet) {
        let four = |a: &Addr| [a[0], a[1], a[2], a[3]];
        fields.src = src.map_or(fields.src, four);
        fields.dst = dst.map_or(fields.dst, four);
        edit::set_ipv4(packet, &fields);
    }
}

/// Gives a packet the tuple `to` in place of `from`.
pub fn translate(packet: &mut Packet, from: &Tuple, to: &Tuple) {
    if from == to {
        return;
    }
    let src = (from.src != to.src).then_some(&to.src);
    let dst = (from.dst != to.dst).then_some(&to.dst);
    if src.is_some() || dst.is_some() {
        set_addrs(packet, to.ipv6, src, dst);
    }
    if (from.src_l4, from.dst_l4) == (to.src_l4, to.dst_l4) {
        return;
    }
    let (src, dst) = (to.src_l4 as u16, to.dst_l4 as u16);
    match to.proto {
        ip_proto::TCP => edit::set_tcp_ports(packet, src, dst),
        ip_proto::UDP => edit::set_udp_ports(packet, src, dst),
        ip_proto::SCTP => edit::set_sctp_ports(packet, src, dst),
        _ if to.is_icmp() => set_icmp_id(packet, (to.src_l4 >> 16) as u16),
        _ => {}
    }
}

fn set_icmp_id(packet: &mut Packet, id: u16) {
    if packet.l4_data().len() < 8 {
        return;
    }
    let l4 = usize::from(packet.l4);
    let partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
    let message = &mut packet.data_mut()[l4..];
    put(message, 4, &id.to_be_bytes(), (!partial).then_some(2));
}

/// Overwrites bytes at an even offset; the checksum at `csum` follows if it is there.
fn put(data: &mut [u8], at: usize, new: &[u8], csum: Option<usize>) {
    if data.len() < at + new.len() {
        return;
    }
    if let Some(c) = csum.filter(|c| data.len() >= c + 2) {
        let old = u16::from_be_bytes([data[c], data[c + 1]]);
        let sum = update(old, &data[at..at + new.len()], new);
        data[c..c + 2].copy_from_slice(&sum.to_be_bytes());
    }
    data[at..at + new.len()].copy_from_slice(new);
}

/// Translates an ICMP error. `from` and `to` are tuples of answers to the quoted packet, as keys of errors have them.
pub fn translate_error(packet: &mut Packet, from: &Tuple, to: &Tuple) {
    if from == to {
        return;
    }
    // The header goes where the quoted packet came from. Who says the error is only replaced where its network is
    // hidden too.
    let src = (from.src != to.src).then_some(&to.src);
    let dst = (from.dst != to.dst).then_some(&to.dst);
    set_addrs(packet, to.ipv6, src, dst);
    let end = packet.size().saturating_sub(usize::from(packet.l2_pad));
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    if l4 + 8 > end || l3 >= l4 {
        return;
    }
    let data = packet.data_mut();
    quoted(&mut data[l4 + 8..end], &to.reversed());
    // What is quoted changed with its own checksums in it: the sum is taken anew.
    let (head, message) = data[..end].split_at_mut(l4);
    message[2..4].fill(0);
    let pseudo = match to.ipv6 {
        false => Sum::ZERO,
        true => match (
            head.get(l3 + 8..l3 + 24)
                .and_then(<[u8]>::first_chunk::<16>),
            head.get(l3 + 24..l3 + 40)
                .and_then(<[u8]>::first_chunk::<16>),
        ) {
            (Some(src), Some(dst)) => pseudo_v6(src, dst, ip_proto::ICMPV6, message.len() as u32),
            _ => return,
        },
    };
    let sum = pseudo.add(message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Gives a quoted packet, which may be cut short, a tuple.
fn quoted(inner: &mut [u8], to: &Tuple) {
    let l4 = if to.ipv6 {
        let Some((_, l4, _)) = (inner.len() >= 40)
            .then(|| skip_ipv6_extensions(inner))
            .flatten()
        else {
            return;
        };
        l4
    } else {
        match inner.first_chunk::<20>() {
            Some(h) => usize::from(h[0] & 15) * 4,
            None => return,
        }
    };
    let (first, size) = if to.ipv6 { (8, 16) } else { (12, 4) };
    // Whoever found the tuple has seen the addresses; a header that says less than it holds is not rewritten.
    if l4 > inner.len() || l4 < first + 2 * size {
        return;
    }
    let (ip, transport) = inner.split_at_mut(l4);
    // The checksum of the transport header, where the quotation has it and it is one.
    let csum = match to.proto {
        ip_proto::TCP => (transport.len() >= 18).then_some(16),
        ip_proto::UDP => (transport.len() >= 8 && transport[6..8] != [0, 0]).then_some(6),
        ip_proto::ICMP if !to.ipv6 => (transport.len() >= 4).then_some(2),
        ip_proto::ICMPV6 if to.ipv6 => (transport.len() >= 4).then_some(2),
        _ => None,
    };
    let over_addresses = csum.filter(|_| to.ipv6 || to.proto != ip_proto::ICMP);
    for (at, new) in [(first, &to.src[..size]), (first + size, &to.dst[..size])] {
        if let Some(c) = over_addresses {
            let old = u16::from_be_bytes([transport[c], transport[c + 1]]);
            let sum = update(old, &ip[at..at + size], new);
            transport[c..c + 2].copy_from_slice(&sum.to_be_bytes());
        }
        put(ip, at, new, (!to.ipv6).then_some(10));
    }
    if to.is_icmp() {
        put(
            transport,
            4,
            &((to.src_l4 >> 16) as u16).to_be_bytes(),
            csum,
        );
    } else if to.has_ports() {
        let csum = csum.filter(|_| to.proto != ip_proto::SCTP);
        put(transport, 0, &(to.src_l4 as u16).to_be_bytes(), csum);
        put(transport, 2, &(to.dst_l4 as u16).to_be_bytes(), csum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::addr4;

    #[test]
    fn a_quotation_may_end_anywhere() {
        let v4 = Tuple {
            src: addr4(&[10, 0, 0, 1]),
            dst: addr4(&[10, 0, 0, 2]),
            ..Tuple::default()
        };
        let v6 = Tuple {
            ipv6: true,
            ..Tuple::default()
        };
        for (tuple, version) in [(v4, 0x40), (v6, 0x60)] {
            for proto in [1, 6, 17, 58, 132] {
                let to = Tuple { proto, ..tuple };
                for words in 0..16 {
                    for len in 1..80 {
                        let mut inner = vec![1; len];
                        inner[0] = version | words;
                        if let Some(next) = inner.get_mut(if to.ipv6 { 6 } else { 9 }) {
                            *next = proto;
                        }
                        quoted(&mut inner, &to);
                    }
                }
            }
        }
    }
}
