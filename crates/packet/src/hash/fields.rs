//! The fields by which `multipath`, `bundle` and select groups spread packets.

use crate::flow::{Flow, FlowWildcards, VLAN_VID_MASK};
use crate::types::{eth_type, ip_proto};

use super::known;

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

    /// The hash of `flow`, the one by which Open vSwitch chooses.
    pub fn hash(self, flow: &Flow, basis: u32) -> u32 {
        match self {
            HashFields::EthSrc => known::jenkins(&flow.dl_src.0, basis),
            HashFields::SymmetricL4 => symmetric_l4(flow, basis),
            HashFields::SymmetricL3L4 => symmetric_l3l4(flow, basis, false),
            HashFields::SymmetricL3L4Udp => symmetric_l3l4(flow, basis, true),
            HashFields::SymmetricL3 => symmetric_l3(flow, basis),
            HashFields::NwSrc => address(flow, basis, flow.nw_src.get(), &flow.ipv6_src),
            HashFields::NwDst => address(flow, basis, flow.nw_dst.get(), &flow.ipv6_dst),
        }
    }

    /// Makes what [`HashFields::hash`] looked at matter.
    pub fn mask(self, flow: &Flow, wc: &mut FlowWildcards) {
        let m = &mut wc.masks;
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
                    if flow.nw_proto != ip_proto::UDP {
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
                    if has_ports(flow, self == HashFields::SymmetricL3L4Udp) {
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

/// Whether a hash has the ports of this IP packet in it: `udp` says whether it has those of UDP.
fn has_ports(flow: &Flow, udp: bool) -> bool {
    match flow.nw_proto {
        ip_proto::TCP | ip_proto::SCTP => true,
        ip_proto::UDP => udp,
        _ => false,
    }
}

/// A packet without addresses keeps the basis.
fn address(flow: &Flow, basis: u32, ipv4: u32, ipv6: &[u8; 16]) -> u32 {
    match flow.dl_type.get() {
        eth_type::IP => known::jenkins(&ipv4.to_be_bytes(), basis),
        eth_type::IPV6 => known::jenkins(ipv6, basis),
        _ => basis,
    }
}

/// Addresses folded so that both directions agree; IPv4 in the first four bytes, zeros for other packets.
fn both_addresses(flow: &Flow) -> [u8; 16] {
    let mut both = [0; 16];
    match flow.dl_type.get() {
        eth_type::IP => {
            both[..4].copy_from_slice(&(flow.nw_src.get() ^ flow.nw_dst.get()).to_be_bytes());
        }
        eth_type::IPV6 => xor(&mut both, &flow.ipv6_src, &flow.ipv6_dst),
        _ => {}
    }
    both
}

fn xor(out: &mut [u8], a: &[u8], b: &[u8]) {
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = a ^ b;
    }
}

fn all_vlans(flow: &Flow) -> [u8; 2] {
    let vlans = flow.vlans.iter().map(|v| v.tci.get() & VLAN_VID_MASK);
    vlans.fold(0, |acc, vid| acc ^ vid).to_be_bytes()
}

fn both_ports(flow: &Flow) -> [u8; 2] {
    (flow.tp_src.get() ^ flow.tp_dst.get()).to_be_bytes()
}

fn symmetric_l4(flow: &Flow, basis: u32) -> u32 {
    let mut key = [0u8; 32];
    key[..16].copy_from_slice(&both_addresses(flow));
    key[16..18].copy_from_slice(&flow.dl_type.get().to_be_bytes());
    key[18..20].copy_from_slice(&all_vlans(flow));
    xor(&mut key[22..28], &flow.dl_src.0, &flow.dl_dst.0);
    if is_ip(flow) {
        key[28] = flow.nw_proto;
        if has_ports(flow, false) {
            key[20..22].copy_from_slice(&both_ports(flow));
        }
    }
    known::jenkins(&key, basis)
}

/// What is no IP packet goes by its Ethernet header.
fn symmetric_l3l4(flow: &Flow, basis: u32, udp: bool) -> u32 {
    let key = both_addresses(flow);
    let hash = match flow.dl_type.get() {
        eth_type::IP => known::words(&key[..4]).fold(basis, known::murmur_add),
        eth_type::IPV6 => known::words(&key).fold(basis, known::murmur_add),
        other => {
            let mut key = [0u8; 12];
            key[..2].copy_from_slice(&other.to_be_bytes());
            key[2..4].copy_from_slice(&all_vlans(flow));
            xor(&mut key[4..10], &flow.dl_src.0, &flow.dl_dst.0);
            let hash = known::words(&key).fold(basis, known::murmur_add);
            return known::murmur_finish(hash, basis);
        }
    };
    let mut hash = known::murmur_add(hash, flow.nw_proto.into());
    if has_ports(flow, udp) {
        let ports = u16::from_le_bytes(both_ports(flow));
        hash = known::murmur_add(hash, ports.into());
    }
    known::murmur_finish(hash, basis)
}

fn symmetric_l3(flow: &Flow, basis: u32) -> u32 {
    let mut key = [0u8; 20];
    key[..16].copy_from_slice(&both_addresses(flow));
    key[16..18].copy_from_slice(&flow.dl_type.get().to_be_bytes());
    known::jenkins(&key, basis)
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
        assert_eq!(
            HashFields::from_name("symmetric_l3l4+udp"),
            HashFields::from_number(3)
        );
    }

    #[test]
    fn hashes_are_those_of_open_vswitch() {
        // Told by `multipath(FIELDS,50,modulo_n,65536,...)` for the lower half, hash_threshold for the upper.
        let with = |dl_type: u16, nw_proto| Flow {
            dl_type: dl_type.into(),
            nw_proto,
            tp_src: 5.into(),
            tp_dst: 6.into(),
            ..tcp()
        };
        let six = |last| {
            let mut address = [0; 16];
            address[15] = last;
            address
        };
        let mut ipv6 = with(eth_type::IPV6, ip_proto::TCP);
        (ipv6.ipv6_src, ipv6.tp_src, ipv6.tp_dst) = (six(1), 1.into(), 2.into());
        let mut udp6 = ipv6;
        udp6.nw_proto = ip_proto::UDP;
        let mut vlan = with(0x1234, 0);
        vlan.vlans[0].tci = 0x7005.into();
        let all = [
            (
                with(eth_type::IP, ip_proto::TCP),
                [
                    0x6851_b17f,
                    0xa19e_07f3,
                    0xc0ce_195b,
                    0xc0ce_195b,
                    0xc505_3000,
                    0x7747_fcfb,
                    0x7df2_b195,
                ],
            ),
            (
                with(eth_type::IP, ip_proto::ICMP),
                [
                    0x6851_b17f,
                    0x7510_15dc,
                    0x8914_5fb6,
                    0x8914_5fb6,
                    0xc505_3000,
                    0x7747_fcfb,
                    0x7df2_b195,
                ],
            ),
            (
                with(0x1234, 0),
                [
                    0x6851_b17f,
                    0xbff3_fc2a,
                    0xe278_cd56,
                    0xe278_cd56,
                    50,
                    50,
                    0xe0f8_2484,
                ],
            ),
            (
                vlan,
                [
                    0x6851_b17f,
                    0x939b_d1d9,
                    0x6a1b_f004,
                    0x6a1b_f004,
                    50,
                    50,
                    0xe0f8_2484,
                ],
            ),
            (
                ipv6,
                [
                    0x6851_b17f,
                    0xc378_0ad8,
                    0xaebe_6af2,
                    0xaebe_6af2,
                    0xf512_ef21,
                    0xaa17_adcd,
                    0x3d72_6b09,
                ],
            ),
            (
                udp6,
                [
                    0x6851_b17f,
                    0x34e6_d41b,
                    0x3a49_3f5f,
                    0x8de8_3639,
                    0xf512_ef21,
                    0xaa17_adcd,
                    0x3d72_6b09,
                ],
            ),
        ];
        for (flow, want) in all {
            let got = HashFields::ALL.map(|fields| fields.hash(&flow, 50));
            assert_eq!(got, want, "{flow:?}");
        }
    }

    #[test]
    fn the_ports_of_all_but_udp_matter_to_symmetric_l4() {
        for (nw_proto, mask) in [
            (0, u16::MAX),
            (ip_proto::ICMP, u16::MAX),
            (ip_proto::UDP, 0),
        ] {
            let mut wc = FlowWildcards::catchall();
            HashFields::SymmetricL4.mask(&Flow { nw_proto, ..tcp() }, &mut wc);
            assert_eq!(wc.masks.tp_src.get(), mask, "{nw_proto}");
        }
    }
}
