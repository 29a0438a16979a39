//! Hashes of keys: fast, well mixed, the same on every run of the program unless they begin with [`seed`].

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

use crate::flow::Flow;
use crate::miniflow::MiniRef;

mod fields;
pub mod known;

pub use fields::HashFields;

/// Mixes a word into a hash: a 64 by 64 to 128 bit multiplication folded to 64 bits.
#[inline]
pub fn mix(hash: u64, word: u64) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    const SALT: u64 = 0xa076_1d64_78bd_642f;
    let product = u128::from(hash ^ word.wrapping_mul(K)) * u128::from(SALT ^ hash.rotate_left(32));
    (product as u64 ^ (product >> 64) as u64).wrapping_add(word)
}

/// What hash tables whose keys come from the network begin with, and the identifiers of flows. It differs between
/// processes, so that nobody can work out in advance which packets share a place, or two keys an identifier.
pub fn seed() -> u64 {
    *SEED.get_or_init(|| RandomState::new().hash_one(0))
}

/// Makes it the same in every run, for tests; without effect once somebody has asked for it.
pub fn fix_seed() {
    _ = SEED.set(0);
}

static SEED: OnceLock<u64> = OnceLock::new();

/// Hash of bytes.
pub fn hash_bytes(bytes: &[u8], basis: u64) -> u64 {
    let mut hash = mix(basis, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

/// For tables of names and numbers that are in the program, so that nobody chooses what collides.
pub type NameHasher = BuildHasherDefault<FixedHasher>;

/// See [`NameHasher`].
#[derive(Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes, self.0);
    }

    fn write_u8(&mut self, n: u8) {
        self.0 = mix(self.0, n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.0 = mix(self.0, n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = mix(self.0, n.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The upper half of a hash, where a 32-bit one is wanted.
#[inline]
pub fn fold32(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

const fn w(ofs: usize) -> usize {
    ofs / 8
}

const W_NW: usize = w(std::mem::offset_of!(Flow, ipv6_label));
const W_IPV4: usize = w(std::mem::offset_of!(Flow, nw_src));
const W_IPV6: usize = w(std::mem::offset_of!(Flow, ipv6_src));
const W_TP: usize = w(std::mem::offset_of!(Flow, tp_src));
const W_ETH: usize = w(std::mem::offset_of!(Flow, dl_dst));

/// The word of `ports` without the connection's, that is the first four bytes in memory.
fn packet_ports(word: u64) -> u64 {
    let bytes = word.to_ne_bytes();
    u64::from(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Hash of addresses, protocol and ports of an IP packet, of the Ethernet header for others; as a port's
/// receive-side hash would be.
pub fn flow_hash_5tuple(key: MiniRef<'_>, basis: u32) -> u32 {
    // One walk over the words that are there costs less than to find each.
    let (mut nw, mut tp, mut ipv4) = (0, 0, 0);
    let (mut eth, mut ipv6) = ([0; 2], [0; 4]);
    for (i, word) in key.iter() {
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
    if key.map.contains(W_IPV6) {
        let hash = ipv6.into_iter().fold(basis, mix);
        fold32(mix(mix(hash, proto.into()), packet_ports(tp)))
    } else if key.map.contains(W_IPV4) {
        ipv4_5tuple(ipv4, proto, tp, basis)
    } else {
        fold32(mix(mix(basis, eth[0]), eth[1]))
    }
}

/// [`flow_hash_5tuple`] of IPv4, from the words of the key.
#[inline]
pub(crate) fn ipv4_5tuple(ipv4: u64, proto: u8, tp: u64, basis: u64) -> u32 {
    fold32(mix(mix(mix(basis, ipv4), proto.into()), packet_ports(tp)))
}

/// [`flow_hash_5tuple`] of a full key.
pub fn hash_5tuple(flow: &Flow, basis: u32) -> u32 {
    let mut buf = crate::miniflow::MiniflowBuf::new();
    buf.set_flow(flow);
    flow_hash_5tuple(buf.view(), basis)
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
