//! The hash of a connection: of what names it in a key.

use super::{MiniRef, MiniflowBuf};
use crate::flow::Flow;
use crate::hash::{fold32, mix};

const fn w(ofs: usize) -> usize {
    ofs / 8
}

const W_NW: usize = w(std::mem::offset_of!(Flow, ipv6_label));
const W_IPV4: usize = w(std::mem::offset_of!(Flow, nw_src));
const W_IPV6: usize = w(std::mem::offset_of!(Flow, ipv6_src));
const W_TP: usize = w(std::mem::offset_of!(Flow, tp_src));
const W_ETH: usize = w(std::mem::offset_of!(Flow, dl_dst));

/// The word of `ports` without the connection's, that is the first four bytes in memory.
fn packet_ports(word: u64) -> u32 {
    let bytes = word.to_ne_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The transport's part of the hash in one word, for each step of a hash waits for the one before.
#[inline]
fn transport(proto: u8, ports: u32) -> u64 {
    u64::from(proto) << 32 | u64::from(ports)
}

impl MiniRef<'_> {
    /// Hash of addresses, protocol and ports of an IP packet, of the Ethernet header for others; as a port's
    /// receive-side hash would be.
    pub fn hash_5tuple(self, basis: u32) -> u32 {
        // One walk over the words that are there costs less than to find each.
        let (mut nw, mut tp, mut ipv4) = (0, 0, 0);
        let (mut eth, mut ipv6) = ([0; 2], [0; 4]);
        for (i, word) in self.iter() {
            match i {
                W_TP => tp = word,
                W_NW => nw = word,
                W_IPV4 => ipv4 = word,
                _ if (W_IPV6..W_IPV6 + 4).contains(&i) => ipv6[i - W_IPV6] = word,
                _ if i == W_ETH || i == W_ETH + 1 => eth[i - W_ETH] = word,
                _ => {}
            }
        }
        let basis = u64::from(basis);
        let proto = nw.to_ne_bytes()[7];
        if self.map.contains(W_IPV6) {
            let hash = ipv6.into_iter().fold(basis, mix);
            fold32(mix(hash, transport(proto, packet_ports(tp))))
        } else if self.map.contains(W_IPV4) {
            let tuple = Ipv4Tuple {
                addresses: ipv4,
                ports: packet_ports(tp),
                proto,
            };
            tuple.hash(basis)
        } else {
            fold32(mix(mix(basis, eth[0]), eth[1]))
        }
    }
}

/// What the hash of an IPv4 packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv4Tuple {
    /// The word of the key.
    pub addresses: u64,
    /// In the order of memory.
    pub ports: u32,
    pub proto: u8,
}

impl Ipv4Tuple {
    /// [`MiniRef::hash_5tuple`] of the packet.
    #[inline]
    pub fn hash(self, basis: u64) -> u32 {
        let transport = transport(self.proto, self.ports);
        fold32(mix(mix(basis, self.addresses), transport))
    }
}

/// [`MiniRef::hash_5tuple`] of a full key.
pub fn hash_5tuple(flow: &Flow, basis: u32) -> u32 {
    let mut buf = MiniflowBuf::new();
    buf.set_flow(flow);
    buf.view().hash_5tuple(basis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MacAddr, eth_type, ip_proto};

    fn tcp() -> Flow {
        Flow {
            dl_src: MacAddr([2, 0, 0, 0, 0, 1]),
            dl_dst: MacAddr([2, 0, 0, 0, 0, 2]),
            dl_type: eth_type::IP.into(),
            nw_src: 0x0a00_0001.into(),
            nw_dst: 0x0a00_0002.into(),
            nw_proto: ip_proto::TCP,
            tp_src: 1000.into(),
            tp_dst: 80.into(),
            ..Flow::default()
        }
    }

    #[test]
    fn small_changes_spread_over_all_bits() {
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for port in 0..1024u16 {
            let flow = Flow {
                tp_src: port.into(),
                ..tcp()
            };
            let hash = hash_5tuple(&flow, 0);
            low.insert(hash & 0xfff);
            high.insert(hash >> 20);
        }
        assert!(
            low.len() > 850 && high.len() > 850,
            "{} {}",
            low.len(),
            high.len()
        );
    }
}
