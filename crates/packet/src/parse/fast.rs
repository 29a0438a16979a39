//! The frames that most packets are, TCP or UDP in IPv4 with nothing special about it, parsed in one piece.
//!
//! What is pushed is what the general parser would push, word for word.

use super::{
    Layers, W_ARP, W_ETH, W_IPV4, W_NW, W_TP, offset, tcp_header, u16_at, word_at, word_of,
};
use crate::miniflow::{FlowMap, MiniflowBuf, ipv4_5tuple};
use crate::types::ip_proto;

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

const UDP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_NW, W_TP]);
const TCP_WORDS: FlowMap = map(&[W_ETH, W_ETH + 1, W_IPV4, W_NW, W_ARP + 1, W_TP]);
const _: () = assert!(W_ETH + 1 < W_IPV4 && W_IPV4 < W_NW && W_NW < W_ARP && W_ARP + 1 < W_TP);

/// Pushes the headers of an ordinary frame of no tracked connection; false, with nothing pushed, for any other.
#[inline]
pub(super) fn push(buf: &mut MiniflowBuf, data: &[u8], layers: &mut Layers) -> bool {
    let Some(head) = data.first_chunk::<{ L4 + 8 }>() else {
        return false;
    };
    // IPv4 without options, not a fragment.
    if head[12..15] != [8, 0, 0x45] || u16_at(head, ETH + 6) & 0x3fff != 0 {
        return false;
    }
    let total = usize::from(u16_at(head, ETH + 2));
    if total < IP + 8 || total > data.len() - ETH {
        return false;
    }
    let (proto, ports) = (
        head[ETH + 9],
        [head[L4], head[L4 + 1], head[L4 + 2], head[L4 + 3]],
    );
    // A word that is all zero is left out.
    if ports == [0; 4] {
        return false;
    }
    let mut mac = [0; 8];
    mac[..6].copy_from_slice(&head[8..14]);
    let eth = [word_at(head, 0), u64::from_ne_bytes(mac)];
    let ipv4 = word_at(head, ETH + 12);
    let nw = word_of([0; 4], [0, head[ETH + 1], head[ETH + 8], proto]);
    let tp = word_of(ports, [0; 4]);
    match proto {
        ip_proto::UDP => buf.append(UDP_WORDS, [eth[0], eth[1], ipv4, nw, tp]),
        ip_proto::TCP => {
            let tcp = &data[L4..ETH + total];
            if tcp.len() < tcp_header(tcp) {
                return false;
            }
            let flags = word_of([0; 4], [tcp[12] & 0x0f, tcp[13], 0, 0]);
            buf.append(TCP_WORDS, [eth[0], eth[1], ipv4, nw, flags, tp]);
        }
        _ => return false,
    }
    buf.tuple_hash = Some(ipv4_5tuple(ipv4, proto, tp, 0));
    layers.l3 = ETH as u16;
    layers.l4 = L4 as u16;
    layers.l2_pad = offset(data.len() - ETH - total);
    true
}
