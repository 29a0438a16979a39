//! From a flow key to a packet that has it: what `netdev-dummy/receive`, `ofproto/trace` and tests feed the switch.
//!
//! Members that the key does not have are zero or what makes the packet valid: lengths, header sizes and
//! checksums are right. Parsing the packet gives the key back, as far as a packet can show it: fragments of IPv6
//! have no fragment header, and SCTP has no checksum.

use crate::buffer::Packet;
use crate::checksum::{Sum, pseudo_v4, pseudo_v6};
use crate::flow::{Flow, NW_FRAG_ANY, NW_FRAG_LATER, PT_ETH, VLAN_CFI};
use crate::types::{eth_type, ip_proto};

/// What follows the last header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Payload<'a> {
    /// 64 bytes that count from 0 where a payload makes sense: TCP without SYN, FIN and RST, UDP, ICMP echo.
    #[default]
    Default,
    Bytes(&'a [u8]),
    /// Zeros up to so many bytes of packet.
    TotalLen(usize),
}

const DEFAULT_PAYLOAD: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < 64 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

const TCP_SYN_FIN_RST: u16 = 0x7;

/// Builds a packet with the key `flow`. None if the headers alone are longer than the length that is asked for.
pub fn compose(flow: &Flow, payload: Payload<'_>) -> Option<Packet> {
    let mut out = Vec::with_capacity(256);
    let ethernet = flow.packet_type.get() == PT_ETH;
    if ethernet {
        push_ethernet(flow, &mut out);
    }
    let type_end = out.len();
    push_labels(flow, &mut out);
    match flow.dl_type.get() {
        eth_type::IP => push_ipv4(flow, payload, &mut out)?,
        eth_type::IPV6 => push_ipv6(flow, payload, &mut out)?,
        ty => {
            match ty {
                eth_type::ARP | eth_type::RARP => push_arp(flow, &mut out),
                eth_type::NSH => push_nsh(flow, &mut out),
                _ => {}
            }
            push_payload(payload, false, &mut out)?;
        }
    }
    if ethernet && flow.dl_type.get() < eth_type::MIN {
        // An IEEE 802.2 frame has its length in place of a type.
        let len = u16::try_from(out.len()).ok()?;
        out[type_end - 2..type_end].copy_from_slice(&len.to_be_bytes());
    }
    let mut packet = Packet::from_slice(&out);
    packet.md.packet_type = flow.packet_type.get();
    Some(packet)
}

/// Appends addresses, VLAN headers and type.
fn push_ethernet(flow: &Flow, out: &mut Vec<u8>) {
    out.extend_from_slice(&flow.dl_dst.0);
    out.extend_from_slice(&flow.dl_src.0);
    for vlan in &flow.vlans {
        let tci = vlan.tci.get();
        if tci & VLAN_CFI == 0 {
            break;
        }
        let tpid = match vlan.tpid.get() {
            0 => eth_type::VLAN_8021Q,
            tpid => tpid,
        };
        out.extend_from_slice(&tpid.to_be_bytes());
        out.extend_from_slice(&(tci & !VLAN_CFI).to_be_bytes());
    }
    out.extend_from_slice(&flow.dl_type.to_bytes());
}

/// Appends the labels of MPLS, up to the last of the stack.
fn push_labels(flow: &Flow, out: &mut Vec<u8>) {
    if matches!(flow.dl_type.get(), eth_type::MPLS | eth_type::MPLS_MCAST) {
        for lse in flow.mpls_lse {
            out.extend_from_slice(&lse.to_bytes());
            if lse.get() & 0x100 != 0 || lse.get() == 0 {
                break;
            }
        }
    }
}

/// Appends what follows the last header; `default`: whether something does where nothing is asked for.
fn push_payload(payload: Payload<'_>, default: bool, out: &mut Vec<u8>) -> Option<()> {
    match payload {
        Payload::Default if default => out.extend_from_slice(&DEFAULT_PAYLOAD),
        Payload::Default => {}
        Payload::Bytes(bytes) => out.extend_from_slice(bytes),
        Payload::TotalLen(len) if len < out.len() => return None,
        Payload::TotalLen(len) => out.resize(len, 0),
    }
    Some(())
}

fn push_ipv4(flow: &Flow, payload: Payload<'_>, out: &mut Vec<u8>) -> Option<()> {
    let l3 = out.len();
    let frag_off = match flow.nw_frag {
        f if f & NW_FRAG_LATER != 0 => 0x2064_u16,
        f if f & NW_FRAG_ANY != 0 => 0x2000,
        _ => 0,
    };
    out.extend_from_slice(&[0x45, flow.nw_tos, 0, 0, 0, 0]);
    out.extend_from_slice(&frag_off.to_be_bytes());
    out.extend_from_slice(&[flow.nw_ttl, flow.nw_proto, 0, 0]);
    out.extend_from_slice(&flow.nw_src.to_bytes());
    out.extend_from_slice(&flow.nw_dst.to_bytes());
    let l4 = out.len();
    let default = push_l4(flow, out);
    push_payload(payload, default, out)?;
    // What depends on the length and on what follows.
    let len = u16::try_from(out.len() - l3).ok()?;
    out[l3 + 2..l3 + 4].copy_from_slice(&len.to_be_bytes());
    let csum = Sum::ZERO.add(&out[l3..l4]).finish();
    out[l3 + 10..l3 + 12].copy_from_slice(&csum.to_be_bytes());
    let l4_len = (out.len() - l4) as u32;
    let pseudo = pseudo_v4(
        flow.nw_src.to_bytes(),
        flow.nw_dst.to_bytes(),
        flow.nw_proto,
        l4_len,
    );
    finish_l4(flow, &mut out[l4..], pseudo);
    Some(())
}

fn push_ipv6(flow: &Flow, payload: Payload<'_>, out: &mut Vec<u8>) -> Option<()> {
    let l3 = out.len();
    let word = 6 << 28 | u32::from(flow.nw_tos) << 20 | flow.ipv6_label.get() & 0xf_ffff;
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(&[0, 0, flow.nw_proto, flow.nw_ttl]);
    out.extend_from_slice(&flow.ipv6_src);
    out.extend_from_slice(&flow.ipv6_dst);
    let l4 = out.len();
    let default = push_l4(flow, out);
    push_payload(payload, default, out)?;
    let len = u16::try_from(out.len() - l4).ok()?;
    out[l3 + 4..l3 + 6].copy_from_slice(&len.to_be_bytes());
    let pseudo = pseudo_v6(
        &flow.ipv6_src,
        &flow.ipv6_dst,
        flow.nw_proto,
        u32::from(len),
    );
    finish_l4(flow, &mut out[l4..], pseudo);
    Some(())
}

fn push_arp(flow: &Flow, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, flow.nw_proto]);
    out.extend_from_slice(&flow.arp_sha.0);
    out.extend_from_slice(&flow.nw_src.to_bytes());
    out.extend_from_slice(&flow.arp_tha.0);
    out.extend_from_slice(&flow.nw_dst.to_bytes());
}

fn push_nsh(flow: &Flow, out: &mut Vec<u8>) {
    let len: u16 = if flow.nsh.mdtype == 1 { 6 } else { 2 };
    let word = u16::from(flow.nsh.flags & 3) << 12 | u16::from(flow.nsh.ttl & 0x3f) << 6 | len;
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(&[flow.nsh.mdtype, flow.nsh.np]);
    out.extend_from_slice(&flow.nsh.path_hdr.to_bytes());
    if flow.nsh.mdtype == 1 {
        flow.nsh
            .context
            .iter()
            .for_each(|c| out.extend_from_slice(&c.to_bytes()));
    }
}

/// Appends the transport header; true if a payload behind it makes sense.
fn push_l4(flow: &Flow, out: &mut Vec<u8>) -> bool {
    if flow.nw_frag & NW_FRAG_LATER != 0 {
        return false;
    }
    let ipv6 = flow.dl_type.get() == eth_type::IPV6;
    let (src, dst) = (flow.tp_src.to_bytes(), flow.tp_dst.to_bytes());
    match flow.nw_proto {
        ip_proto::TCP => {
            out.extend_from_slice(&[src[0], src[1], dst[0], dst[1]]);
            out.extend_from_slice(&[0; 8]);
            let flags = flow.tcp_flags.get() & 0xfff;
            out.extend_from_slice(&(5 << 12 | flags).to_be_bytes());
            out.extend_from_slice(&[0; 6]);
            flags & TCP_SYN_FIN_RST == 0
        }
        ip_proto::UDP => {
            out.extend_from_slice(&[src[0], src[1], dst[0], dst[1], 0, 0, 0, 0]);
            true
        }
        ip_proto::SCTP => {
            out.extend_from_slice(&[src[0], src[1], dst[0], dst[1]]);
            out.extend_from_slice(&[0; 8]);
            false
        }
        ip_proto::ICMP if !ipv6 => {
            out.extend_from_slice(&[src[1], dst[1], 0, 0, 0, 0, 0, 0]);
            matches!(src[1], 0 | 8)
        }
        ip_proto::IGMP if !ipv6 => {
            out.extend_from_slice(&[src[1], dst[1], 0, 0]);
            out.extend_from_slice(&flow.igmp_group_ip4.to_bytes());
            false
        }
        ip_proto::ICMPV6 if ipv6 => {
            out.extend_from_slice(&[src[1], dst[1], 0, 0]);
            out.extend_from_slice(&flow.igmp_group_ip4.to_bytes());
            if dst[1] == 0 && matches!(src[1], 135 | 136) {
                out.extend_from_slice(&flow.nd_target);
                for (ty, mac) in [(1, flow.arp_sha), (2, flow.arp_tha)] {
                    if !mac.is_zero() {
                        out.extend_from_slice(&[ty, 1]);
                        out.extend_from_slice(&mac.0);
                    }
                }
            }
            matches!(src[1], 128 | 129)
        }
        _ => false,
    }
}

/// Fills in lengths and checksum of the transport layer.
fn finish_l4(flow: &Flow, l4: &mut [u8], pseudo: Sum) {
    if flow.nw_frag & NW_FRAG_LATER != 0 {
        return;
    }
    let ipv6 = flow.dl_type.get() == eth_type::IPV6;
    let len = l4.len() as u16;
    let (at, pseudo) = match flow.nw_proto {
        ip_proto::TCP => (16, pseudo),
        ip_proto::UDP => {
            l4[4..6].copy_from_slice(&len.to_be_bytes());
            (6, pseudo)
        }
        ip_proto::ICMPV6 if ipv6 => (2, pseudo),
        ip_proto::ICMP | ip_proto::IGMP if !ipv6 => (2, Sum::ZERO),
        _ => return,
    };
    let csum = match pseudo.add(l4).finish() {
        0 if flow.nw_proto == ip_proto::UDP => 0xffff,
        csum => csum,
    };
    l4[at..at + 2].copy_from_slice(&csum.to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::miniflow::MiniflowBuf;
    use crate::parse::Parsed;
    use crate::types::MacAddr;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn base() -> Flow {
        Flow {
            dl_dst: MacAddr([0x50, 0x54, 0, 0, 0, 7]),
            dl_src: MacAddr([0x50, 0x54, 0, 0, 0, 5]),
            nw_src: 0xc0a8_0001.into(),
            nw_dst: 0xc0a8_0002.into(),
            nw_ttl: 64,
            ..Flow::default()
        }
    }

    #[test]
    fn packets_are_those_that_open_vswitch_makes() {
        let icmp = Flow {
            dl_type: eth_type::IP.into(),
            nw_proto: 1,
            tp_src: 3.into(),
            tp_dst: 1.into(),
            ..base()
        };
        let packet = compose(&icmp, Payload::Default).unwrap();
        assert_eq!(
            hex(packet.data()),
            "50540000000750540000000508004500001c000000004001f98dc0a80001c0a800020301fcfe00000000"
        );
        let packet = compose(
            &Flow {
                tp_src: 8.into(),
                tp_dst: 0.into(),
                ..icmp
            },
            Payload::TotalLen(80),
        );
        assert!(hex(packet.unwrap().data()).starts_with(
            "505400000007505400000005080045000042000000004001f967c0a80001c0a800020800f7ff0000"
        ));
        let tcp = Flow {
            nw_proto: 6,
            tp_src: 8.into(),
            tp_dst: 9.into(),
            nw_frag: NW_FRAG_ANY,
            ..icmp
        };
        let packet = compose(&tcp, Payload::Default).unwrap();
        assert!(hex(packet.data()).starts_with(
            "505400000007505400000005080045000068000020004006d93cc0a80001c0a80002000800090000000000000000500000004a3c0000000102"
        ));
        assert!(compose(&tcp, Payload::TotalLen(30)).is_none());
        let none = Flow {
            dl_type: eth_type::NOT_ETH.into(),
            ..base()
        };
        assert!(hex(compose(&none, Payload::Default).unwrap().data()).ends_with("000e"));
    }

    /// Keys of packets that exist.
    pub(crate) fn any_packet_flow() -> impl Strategy<Value = Flow> {
        let l2 = (
            any::<[u8; 6]>(),
            any::<[u8; 6]>(),
            prop::option::of(0u16..0xfff),
        );
        let l3 = (
            0usize..9,
            any::<[u8; 16]>(),
            any::<[u8; 16]>(),
            any::<[u8; 4]>(),
            0u8..3,
        );
        let l4 = (any::<u16>(), any::<u16>(), 0u16..0x1000, any::<u32>());
        (l2, l3, l4).prop_map(
            |((src, dst, vlan), (kind, a, b, nw, frag), (sport, dport, flags, word))| {
                let mut f = Flow::default();
                (f.dl_src, f.dl_dst) = (MacAddr(src), MacAddr(dst));
                if let Some(vid) = vlan {
                    f.vlans[0].tpid = eth_type::VLAN_8021Q.into();
                    f.vlans[0].tci = (vid | VLAN_CFI | 0x6000).into();
                }
                let ip = |f: &mut Flow, v6: bool| {
                    if v6 {
                        f.dl_type = eth_type::IPV6.into();
                        (f.ipv6_src, f.ipv6_dst) = (a, b);
                        f.ipv6_label = (word & 0xf_ffff).into();
                    } else {
                        f.dl_type = eth_type::IP.into();
                        f.nw_src = u32::from_be_bytes([a[0], a[1], a[2], a[3]]).into();
                        f.nw_dst = u32::from_be_bytes([b[0], b[1], b[2], b[3]]).into();
                        f.nw_frag =
                            [0, NW_FRAG_ANY, NW_FRAG_ANY | NW_FRAG_LATER][usize::from(frag)];
                    }
                    (f.nw_tos, f.nw_ttl) = (nw[0], nw[1]);
                };
                match kind {
                    0..=5 => {
                        ip(&mut f, kind % 2 == 1);
                        f.nw_proto = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP][kind / 2];
                        if f.nw_frag & NW_FRAG_LATER == 0 {
                            (f.tp_src, f.tp_dst) = (sport.into(), dport.into());
                            if f.nw_proto == ip_proto::TCP {
                                f.tcp_flags = flags.into();
                            }
                        }
                    }
                    6 => {
                        ip(&mut f, true);
                        f.nw_proto = ip_proto::ICMPV6;
                        f.tp_src = (135 + sport % 2).into();
                        f.nd_target = b;
                        f.igmp_group_ip4 = word.into();
                        if frag > 0 {
                            f.arp_sha = MacAddr([nw[0] | 1, 2, 3, 4, 5, 6]);
                            f.tcp_flags = 1.into();
                        }
                    }
                    7 => {
                        f.dl_type = eth_type::ARP.into();
                        f.nw_proto = nw[0];
                        f.nw_src = word.into();
                        f.arp_sha = MacAddr(src);
                        f.arp_tha = MacAddr(dst);
                    }
                    _ => {
                        f.dl_type = eth_type::MPLS.into();
                        f.mpls_lse[0] = (word & !0x100).into();
                        f.mpls_lse[1] = (word | 0x100).into();
                        if word & !0x100 == 0 {
                            f.mpls_lse[0] = 0x1000.into();
                        }
                    }
                }
                f
            },
        )
    }

    proptest! {
        #[test]
        fn parsing_gives_the_key_back(flow in any_packet_flow(), len in prop::option::of(200usize..300)) {
            let payload = len.map_or(Payload::Default, Payload::TotalLen);
            // A payload would be taken for options of neighbour discovery.
            prop_assume!(flow.nw_proto != ip_proto::ICMPV6 || len.is_none());
            let mut packet = compose(&flow, payload).unwrap();
            packet.md.in_port = crate::types::DpPort(0);
            let mut buf = MiniflowBuf::new();
            prop_assert_eq!(buf.extract(&mut packet), Parsed::Complete);
            prop_assert_eq!(buf.expand(), flow);
        }
    }
}
