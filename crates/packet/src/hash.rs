//! Hashes of keys: fast, well mixed, the same on every run of the program unless they begin with [`seed`].

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::flow::{Flow, FlowWildcards, PT_ETH};
use crate::miniflow::MiniRef;
use crate::types::{eth_type, ip_proto};

/// Mixes a word into a hash: a 64 by 64 to 128 bit multiplication folded to 64 bits.
#[inline]
pub fn mix(hash: u64, word: u64) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    const SALT: u64 = 0xa076_1d64_78bd_642f;
    let product = u128::from(hash ^ word.wrapping_mul(K)) * u128::from(SALT ^ hash.rotate_left(32));
    (product as u64 ^ (product >> 64) as u64).wrapping_add(word)
}

/// What hash tables whose keys come from the network begin with. It differs between processes, so that nobody can
/// work out in advance which packets share a place.
pub fn seed() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    *SEED
}

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
    let proto = u64::from(nw.to_ne_bytes()[7]);
    let hash = if key.map.contains(W_IPV6) {
        ipv6.into_iter().fold(basis, mix)
    } else if key.map.contains(W_IPV4) {
        mix(basis, ipv4)
    } else {
        return fold32(mix(mix(basis, eth[0]), eth[1]));
    };
    fold32(mix(mix(hash, proto), packet_ports(tp)))
}

/// [`flow_hash_5tuple`] of a full key.
pub fn hash_5tuple(flow: &Flow, basis: u32) -> u32 {
    let mut buf = crate::miniflow::MiniflowBuf::new();
    buf.set_flow(flow);
    flow_hash_5tuple(buf.view(), basis)
}

/// What a hash of a flow covers, as `bundle`, `multipath` and select groups name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashFields {
    EthSrc,
    SymmetricL4,
    SymmetricL3L4,
    SymmetricL3L4Udp,
    NwSrc,
    NwDst,
    SymmetricL3,
}

impl HashFields {
    pub const ALL: [HashFields; 7] = [
        HashFields::EthSrc,
        HashFields::SymmetricL4,
        HashFields::SymmetricL3L4,
        HashFields::SymmetricL3L4Udp,
        HashFields::NwSrc,
        HashFields::NwDst,
        HashFields::SymmetricL3,
    ];

    /// Number in Nicira's actions.
    pub fn number(self) -> u16 {
        self as u16
    }

    pub fn from_number(number: u16) -> Option<HashFields> {
        HashFields::ALL.get(usize::from(number)).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            HashFields::EthSrc => "eth_src",
            HashFields::SymmetricL4 => "symmetric_l4",
            HashFields::SymmetricL3L4 => "symmetric_l3l4",
            HashFields::SymmetricL3L4Udp => "symmetric_l3l4+udp",
            HashFields::NwSrc => "nw_src",
            HashFields::NwDst => "nw_dst",
            HashFields::SymmetricL3 => "symmetric_l3",
        }
    }

    /// The one with this name, in any case.
    pub fn from_name(name: &str) -> Option<HashFields> {
        HashFields::ALL
            .into_iter()
            .find(|f| f.name().eq_ignore_ascii_case(name))
    }

    /// The hash of `flow`.
    pub fn hash(self, flow: &Flow, basis: u16) -> u32 {
        let b = u64::from(basis);
        let ip_any = is_ip(flow);
        fold32(match self {
            HashFields::EthSrc => mix(b, flow.dl_src.to_u64()),
            HashFields::SymmetricL4 => symmetric_l4(flow, b),
            HashFields::SymmetricL3L4 => symmetric_l3(flow, b, Some(false)),
            HashFields::SymmetricL3L4Udp => symmetric_l3(flow, b, Some(true)),
            HashFields::SymmetricL3 => symmetric_l3(flow, b, None),
            HashFields::NwSrc if ip_any => address(flow, b, true),
            HashFields::NwDst if ip_any => address(flow, b, false),
            HashFields::NwSrc | HashFields::NwDst => b,
        })
    }

    /// Makes what [`HashFields::hash`] looked at matter.
    pub fn mask(self, flow: &Flow, wc: &mut FlowWildcards) {
        let m = &mut wc.masks;
        let ports = |proto: u8, udp: bool| match proto {
            ip_proto::TCP | ip_proto::SCTP => true,
            ip_proto::UDP => udp,
            _ => false,
        };
        match self {
            HashFields::EthSrc => m.dl_src.0 = [0xff; 6],
            HashFields::SymmetricL4 => {
                m.dl_src.0 = [0xff; 6];
                m.dl_dst.0 = [0xff; 6];
                m.dl_type = u16::MAX.into();
                for vlan in &mut m.vlans {
                    vlan.tci = 0x1fff.into();
                }
                mask_addresses(flow, m, true, true);
                if is_ip(flow) {
                    m.nw_proto = u8::MAX;
                    m.nw_frag = crate::flow::NW_FRAG_MASK;
                    if ports(flow.nw_proto, false) {
                        m.tp_src = u16::MAX.into();
                        m.tp_dst = u16::MAX.into();
                    }
                }
            }
            HashFields::SymmetricL3L4 | HashFields::SymmetricL3L4Udp => {
                m.dl_type = u16::MAX.into();
                mask_addresses(flow, m, true, true);
                if is_ip(flow) {
                    m.nw_proto = u8::MAX;
                    m.nw_frag = crate::flow::NW_FRAG_MASK;
                    if ports(flow.nw_proto, self == HashFields::SymmetricL3L4Udp) {
                        m.tp_src = u16::MAX.into();
                        m.tp_dst = u16::MAX.into();
                    }
                }
            }
            HashFields::SymmetricL3 => {
                m.dl_type = u16::MAX.into();
                mask_addresses(flow, m, true, true);
            }
            HashFields::NwSrc | HashFields::NwDst => {
                m.dl_type = u16::MAX.into();
                mask_addresses(
                    flow,
                    m,
                    self == HashFields::NwSrc,
                    self == HashFields::NwDst,
                );
            }
        }
    }
}

/// [`HashFields::hash`] as a function.
pub fn hash_fields(flow: &Flow, fields: HashFields, basis: u16) -> u32 {
    fields.hash(flow, basis)
}

/// [`HashFields::mask`] as a function.
pub fn mask_hash_fields(flow: &Flow, wc: &mut FlowWildcards, fields: HashFields) {
    fields.mask(flow, wc);
}

fn is_ip(flow: &Flow) -> bool {
    matches!(flow.dl_type.get(), eth_type::IP | eth_type::IPV6)
}

fn mask_addresses(flow: &Flow, m: &mut Flow, src: bool, dst: bool) {
    match flow.dl_type.get() {
        eth_type::IP => {
            if src {
                m.nw_src = u32::MAX.into();
            }
            if dst {
                m.nw_dst = u32::MAX.into();
            }
        }
        eth_type::IPV6 => {
            if src {
                m.ipv6_src = [0xff; 16];
            }
            if dst {
                m.ipv6_dst = [0xff; 16];
            }
        }
        _ => {}
    }
}

fn address(flow: &Flow, basis: u64, src: bool) -> u64 {
    if flow.dl_type.get() == eth_type::IP {
        return mix(
            basis,
            u64::from(if src { flow.nw_src } else { flow.nw_dst }.get()),
        );
    }
    let ip = u128::from_be_bytes(if src { flow.ipv6_src } else { flow.ipv6_dst });
    mix(mix(basis, (ip >> 64) as u64), ip as u64)
}

/// Addresses folded so that both directions agree.
fn both_addresses(flow: &Flow) -> u128 {
    if flow.dl_type.get() == eth_type::IP {
        u128::from(flow.nw_src.get() ^ flow.nw_dst.get())
    } else {
        u128::from_be_bytes(flow.ipv6_src) ^ u128::from_be_bytes(flow.ipv6_dst)
    }
}

fn symmetric_l3(flow: &Flow, basis: u64, l4: Option<bool>) -> u64 {
    if !is_ip(flow) {
        // Without addresses there is nothing to spread by.
        return 0;
    }
    let ip = both_addresses(flow);
    let mut hash = mix(mix(basis, (ip >> 64) as u64), ip as u64);
    if let Some(udp) = l4 {
        hash = mix(hash, u64::from(flow.nw_proto));
        let with_ports = match flow.nw_proto {
            ip_proto::TCP | ip_proto::SCTP => true,
            ip_proto::UDP => udp,
            _ => false,
        };
        if with_ports {
            hash = mix(hash, u64::from(flow.tp_src.get() ^ flow.tp_dst.get()));
        }
    }
    hash
}

fn symmetric_l4(flow: &Flow, basis: u64) -> u64 {
    let mac = flow.dl_src.to_u64() ^ flow.dl_dst.to_u64();
    let vlans = flow
        .vlans
        .iter()
        .fold(0, |acc, v| acc ^ v.tci.get() & 0x1fff);
    let mut hash = mix(basis, mac);
    hash = mix(hash, u64::from(vlans) << 16 | u64::from(flow.dl_type.get()));
    if is_ip(flow) {
        let ip = both_addresses(flow);
        hash = mix(mix(hash, (ip >> 64) as u64), ip as u64);
        hash = mix(hash, u64::from(flow.nw_proto));
        if matches!(flow.nw_proto, ip_proto::TCP | ip_proto::SCTP) {
            hash = mix(hash, u64::from(flow.tp_src.get() ^ flow.tp_dst.get()));
        }
    }
    hash
}

/// Symmetric hash of addresses and ports as the datapath's `hash(sym_l4)` and select groups use.
pub fn flow_hash_symmetric_l4(flow: &Flow, basis: u32) -> u32 {
    fold32(symmetric_l4(flow, u64::from(basis)))
}

/// Hash of the addresses of a non-Ethernet or Ethernet packet for spreading over bond members: both MACs, VLAN.
pub fn flow_hash_l2(flow: &Flow, basis: u32) -> u32 {
    debug_assert!(flow.packet_type.get() == PT_ETH || flow.dl_src.is_zero());
    let vlan = u64::from(flow.vlans[0].tci.get() & 0xfff);
    fold32(mix(mix(u64::from(basis), flow.dl_src.to_u64()), vlan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MacAddr;

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
    fn symmetric_hashes_agree_on_both_directions_and_depend_on_what_they_mask() {
        let a = tcp();
        let mut b = a;
        (b.dl_src, b.dl_dst) = (a.dl_dst, a.dl_src);
        (b.nw_src, b.nw_dst) = (a.nw_dst, a.nw_src);
        (b.tp_src, b.tp_dst) = (a.tp_dst, a.tp_src);
        for fields in HashFields::ALL {
            let symmetric = fields.name().starts_with("symmetric");
            assert_eq!(
                fields.hash(&a, 1) == fields.hash(&b, 1),
                symmetric,
                "{fields:?}"
            );
            let mut wc = FlowWildcards::catchall();
            fields.mask(&a, &mut wc);
            let mut masked = a;
            masked.mask(&wc);
            masked.dl_type = a.dl_type;
            assert_eq!(fields.hash(&masked, 1), fields.hash(&a, 1), "{fields:?}");
        }
        assert_ne!(hash_5tuple(&a, 0), hash_5tuple(&b, 0));
        assert_eq!(
            HashFields::from_name("symmetric_l3l4+udp"),
            HashFields::from_number(3)
        );
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
