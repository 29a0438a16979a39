//! The frames that most packets are, TCP or UDP in IPv4 with nothing special about it, parsed in one piece.
//!
//! What is pushed is what the general parser would push, word for word.

use super::{
    Layers, W_ARP, W_CT_IPV4, W_ETH, W_IPV4, W_NW, W_PORT, W_TP, offset, tcp_header, u16_at,
    word_at, word_from, word_of,
};
use crate::buffer::{CtOrigTuple, Metadata, NO_OFFSET};
use crate::flow::FlowTnl;
use crate::miniflow::{FlowMap, Ipv4Tuple, MiniflowBuf};
use crate::types::{DpPort, ip_proto};

const ETH: usize = 14;
const IP: usize = 20;
const L4: usize = ETH + IP;

const fn map(words: &[usize]) -> FlowMap {
    let mut map = [0; 2];
    let mut i = 0;
    while i < words.len() {
        map[words[i] / 64] |= 1 << (words[i] % 64);
        i += 1;
    }
    FlowMap(map)
}

/// The words of a header over IPv4 that says nothing unusual.
pub(super) const OUTER: FlowMap = map(&[0, W_TUN_ID, W_TUN_ID + 1]);
const W_TUN_ID: usize = std::mem::offset_of!(FlowTnl, tun_id) / 8;
const OUTER_UDP: FlowMap = OUTER.or(BARE_UDP);
const OUTER_TCP: FlowMap = OUTER.or(BARE_TCP);
const BARE_UDP: FlowMap = map(&[W_PORT, W_ETH, W_ETH + 1, W_IPV4, W_NW, W_TP]);
const BARE_TCP: FlowMap = map(&[W_PORT, W_ETH, W_ETH + 1, W_IPV4, W_NW, W_ARP + 1, W_TP]);
const UDP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_NW, W_TP]);
const TCP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_NW, W_ARP + 1, W_TP]);
const CT_UDP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_CT_IPV4, W_NW, W_TP]);
const CT_TCP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_CT_IPV4, W_NW, W_ARP + 1, W_TP]);
const _: () = assert!(
    W_TUN_ID + 1 < W_PORT
        && W_PORT < W_ETH
        && W_ETH + 1 < W_IPV4
        && W_IPV4 < W_CT_IPV4
        && W_CT_IPV4 < W_NW
        && W_NW < W_ARP
        && W_ARP + 1 < W_TP
);

/// The words of a connection's tuple: its addresses, and its ports as they stand beside those of the packet.
#[inline]
fn connection(ct: &CtOrigTuple) -> (u64, u32) {
    let four = |a: &[u8; 16]| [a[0], a[1], a[2], a[3]];
    let ([a, b], [c, d]) = (ct.tp_src.to_be_bytes(), ct.tp_dst.to_be_bytes());
    let ports = u32::from_ne_bytes([a, b, c, d]);
    (word_of(four(&ct.src), four(&ct.dst)), ports)
}

/// What the words of an ordinary frame are made of.
struct Ordinary {
    eth: [u64; 2],
    nw: u64,
    tuple: Ipv4Tuple,
    /// TCP's flags as the key has them; None for UDP.
    tcp: Option<u64>,
    layers: Layers,
}

#[inline]
fn read(data: &[u8]) -> Option<Ordinary> {
    let head = data.first_chunk::<{ L4 + 8 }>()?;
    // IPv4 without options, not a fragment.
    if head[12..15] != [8, 0, 0x45] || u16_at(head, ETH + 6) & 0x3fff != 0 {
        return None;
    }
    let total = usize::from(u16_at(head, ETH + 2));
    if total < IP + 8 || total > data.len() - ETH {
        return None;
    }
    let proto = head[ETH + 9];
    let ports = u32::from_ne_bytes([head[L4], head[L4 + 1], head[L4 + 2], head[L4 + 3]]);
    // A word that is all zero is left out.
    if ports == 0 {
        return None;
    }
    let tcp = match proto {
        ip_proto::UDP => None,
        ip_proto::TCP => {
            let tcp = &data[L4..ETH + total];
            if tcp.len() < tcp_header(tcp) {
                return None;
            }
            Some(word_of([0; 4], [tcp[12] & 0x0f, tcp[13], 0, 0]))
        }
        _ => return None,
    };
    let tail = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let dl_type = u32::from_ne_bytes([head[12], head[13], 0, 0]);
    let nw = u32::from_ne_bytes([0, head[ETH + 1], head[ETH + 8], proto]);
    Some(Ordinary {
        eth: [word_at(head, 0), word_from(tail, dl_type)],
        nw: word_from(0, nw),
        tuple: Ipv4Tuple {
            addresses: word_at(head, ETH + 12),
            ports,
            proto,
        },
        tcp,
        layers: Layers {
            l2_5: NO_OFFSET,
            l3: ETH as u16,
            l4: L4 as u16,
            l2_pad: offset(data.len() - ETH - total),
        },
    })
}

/// Whether nothing is known of a packet but where it came from.
#[inline]
pub(super) fn is_bare(md: &Metadata) -> bool {
    is_plain(md) && !md.tunnel.is_set()
}

/// Whether nothing is known of a packet but where it came from, and its outer header if there is one.
#[inline]
pub(super) fn is_plain(md: &Metadata) -> bool {
    let rare = md.skb_priority | md.pkt_mark | md.recirc_id | md.packet_type;
    rare | u32::from(md.ct_state) == 0
}

/// The words of an outer header that are [`OUTER`]; none where others are needed, or not all of these.
#[inline]
pub(super) fn outer(tunnel: &FlowTnl) -> Option<[u64; 3]> {
    match *tunnel.fixed() {
        [addresses, 0, 0, 0, 0, id, flags, 0, 0]
            if tunnel.ip_dst.get() != 0 && id != 0 && flags != 0 && !tunnel.has_options() =>
        {
            Some([addresses, id, flags])
        }
        _ => None,
    }
}

/// Fills the buffer with the key of an ordinary frame with such an outer header; None, with nothing done, for any other.
// On its own, so that frames without one have the registers.
#[inline(never)]
pub(super) fn fill_inner(buf: &mut MiniflowBuf, md: &Metadata, data: &[u8]) -> Option<Layers> {
    let [t0, t1, t2] = outer(md.tunnel.get()?)?;
    let o = read(data)?;
    let (port, ipv4) = (word_from(md.dp_hash, md.in_port.0), o.tuple.addresses);
    let tp = word_from(o.tuple.ports, 0);
    let [e0, e1] = o.eth;
    match o.tcp {
        None => buf.set(OUTER_UDP, [t0, t1, t2, port, e0, e1, ipv4, o.nw, tp]),
        Some(tcp) => {
            let words = [t0, t1, t2, port, e0, e1, ipv4, o.nw, tcp, tp];
            buf.set(OUTER_TCP, words);
        }
    }
    buf.tuple = Some(o.tuple);
    Some(o.layers)
}

/// Fills the buffer with the key of an ordinary frame of which nothing else is known; None, with nothing done, for any
/// other.
#[inline]
pub(super) fn fill(
    buf: &mut MiniflowBuf,
    in_port: DpPort,
    dp_hash: u32,
    data: &[u8],
) -> Option<Layers> {
    let o = read(data)?;
    let (port, ipv4) = (word_from(dp_hash, in_port.0), o.tuple.addresses);
    let tp = word_from(o.tuple.ports, 0);
    match o.tcp {
        None => buf.set(BARE_UDP, [port, o.eth[0], o.eth[1], ipv4, o.nw, tp]),
        Some(tcp) => buf.set(BARE_TCP, [port, o.eth[0], o.eth[1], ipv4, o.nw, tcp, tp]),
    }
    buf.tuple = Some(o.tuple);
    Some(o.layers)
}

/// Pushes the headers of an ordinary frame, of a connection over IPv4 perhaps; None, with nothing pushed, for any
/// other.
#[inline]
pub(super) fn push(buf: &mut MiniflowBuf, data: &[u8], ct: Option<&CtOrigTuple>) -> Option<Layers> {
    let o = read(data)?;
    let (ipv4, ct) = (o.tuple.addresses, ct.map(connection));
    let tp = word_from(o.tuple.ports, ct.map_or(0, |(_, ports)| ports));
    match (o.tcp, ct) {
        (None, None) => buf.append(UDP_WORDS, [o.eth[0], o.eth[1], ipv4, o.nw, tp]),
        (None, Some((ct, _))) => {
            buf.append(CT_UDP_WORDS, [o.eth[0], o.eth[1], ipv4, ct, o.nw, tp]);
        }
        (Some(tcp), None) => buf.append(TCP_WORDS, [o.eth[0], o.eth[1], ipv4, o.nw, tcp, tp]),
        (Some(tcp), Some((ct, _))) => {
            let words = [o.eth[0], o.eth[1], ipv4, ct, o.nw, tcp, tp];
            buf.append(CT_TCP_WORDS, words);
        }
    }
    buf.tuple = Some(o.tuple);
    Some(o.layers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::{Metadata, Packet};

    proptest! {
        #[test]
        fn what_is_pushed_in_one_piece_is_what_the_general_parser_pushes(
            tcp in any::<bool>(),
            tracked in any::<bool>(),
            ipv6 in any::<bool>(),
            words in any::<[u8; 40]>(),
            state in 1u8..,
            outer in prop::option::of((any::<[u8; 8]>(), 0u64..2, any::<bool>(), any::<bool>())),
        ) {
            let mut data = vec![0; 80];
            data[..12].copy_from_slice(&words[..12]);
            data[12..15].copy_from_slice(&[8, 0, 0x45]);
            data[16..18].copy_from_slice(&[0, 50]);
            (data[15], data[22], data[23]) = (words[12], words[13], if tcp { 6 } else { 17 });
            data[26..38].copy_from_slice(&words[14..26]);
            data[46..48].copy_from_slice(&[0x50, words[27]]);
            let mut md = Metadata::default();
            if tracked {
                md.ct_state = state;
                md.ct_orig.ipv6 = ipv6;
                md.ct_orig.proto = words[28];
                md.ct_orig.src[..4].copy_from_slice(&words[29..33]);
                md.ct_orig.dst[..4].copy_from_slice(&words[33..37]);
                (md.ct_orig.tp_src, md.ct_orig.tp_dst) = (words[37].into(), words[38].into());
            }
            let mut packet = Packet::from_slice(&data);
            (packet.md.ct_state, packet.md.ct_orig) = (md.ct_state, md.ct_orig);
            if let Some((addresses, id, over_ipv6, options)) = outer {
                let mut tnl = FlowTnl {
                    ip_ttl: addresses[0],
                    tun_id: id.into(),
                    ..FlowTnl::ZERO
                };
                match over_ipv6 {
                    true => tnl.ipv6_dst[..8].copy_from_slice(&addresses),
                    false => {
                        let at = |i| u32::from_ne_bytes([addresses[i], 0, 0, addresses[i + 1]]);
                        (tnl.ip_dst, tnl.ip_src) = (at(2).into(), at(4).into());
                    }
                }
                tnl.metadata.len = 4 * u8::from(options);
                tnl.metadata.opts[..4].copy_from_slice(&addresses[4..]);
                if !options {
                    tnl.metadata.opts = [0; _];
                }
                packet.md.tunnel.set(&tnl);
            }
            let (mut fast, mut general) = (MiniflowBuf::new(), MiniflowBuf::new());
            fast.extract(&mut packet);
            general.push_metadata(&packet.md);
            let mut layers = Layers { l2_5: 0, l3: 0, l4: 0, l2_pad: 0 };
            general.push_headers(packet.data(), &packet.md, &mut layers);
            prop_assert!(fast.view().same(general.view()));
            prop_assert_eq!((packet.l3, packet.l4, packet.l2_pad), (layers.l3, layers.l4, layers.l2_pad));
            prop_assert_eq!(fast.hash_5tuple(), general.view().hash_5tuple(0));
        }
    }
}
