//! A look at the headers that reads only what the simplest flows match: EtherType, VLAN, whether it is a fragment,
//! and TCP's flags for the statistics.
//!
//! It takes the frames that are common and in order; all others are for the whole parser. What it says of a packet
//! is what the whole parser would.

use super::{is_vlan, need_of_transport, offset, u16_at, vlan_limit};
use crate::buffer::{NO_OFFSET, Packet};
use crate::flow::{
    Flow, FlowWildcards, Match, NW_FRAG_ANY, NW_FRAG_LATER, NW_FRAG_MASK, PT_ETH, VLAN_CFI,
    VLAN_VID_MASK,
};
use crate::miniflow::MiniRef;
use crate::types::{eth_type, ip_proto};

/// EtherType, fragment bits and VLAN of a frame, or of all that a flow matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Brief(pub u64);

impl Brief {
    fn new(dl_type: u16, nw_frag: u8, tci: u16) -> Brief {
        let tci = tci & (VLAN_CFI | VLAN_VID_MASK);
        Brief(u64::from(dl_type) << 32 | u64::from(nw_frag) << 16 | u64::from(tci))
    }

    /// What a flow matches beside the input port; None if it matches more than that, or less.
    pub fn of_match(m: &Match) -> Option<Brief> {
        let (flow, mut rest) = (&m.flow, m.wc.masks);
        let dl_type = flow.dl_type.get();
        let is_ip = matches!(dl_type, eth_type::IP | eth_type::IPV6);
        if flow.recirc_id != 0
            || flow.packet_type.get() != PT_ETH
            || (rest.recirc_id, rest.in_port) != (u32::MAX, u32::MAX)
            || (rest.packet_type.get(), rest.dl_type.get()) != (u32::MAX, u16::MAX)
            || rest.vlans[0].tci.get() != VLAN_CFI | VLAN_VID_MASK
            || is_ip && rest.nw_frag & NW_FRAG_MASK != NW_FRAG_MASK
        {
            return None;
        }
        (rest.recirc_id, rest.in_port, rest.nw_frag) = (0, 0, 0);
        (rest.packet_type, rest.dl_type) = (0.into(), 0.into());
        rest.vlans[0].tci = 0.into();
        let nw_frag = if is_ip {
            flow.nw_frag & NW_FRAG_MASK
        } else {
            0
        };
        (rest == Flow::default()).then(|| Brief::new(dl_type, nw_frag, flow.vlans[0].tci.get()))
    }

    /// The same for a packed match.
    pub fn of_packed(key: MiniRef<'_>, mask: MiniRef<'_>) -> Option<Brief> {
        // More words than these have the members that such a flow matches.
        const WORDS: usize = 6;
        if mask.values.len() > WORDS {
            return None;
        }
        let wc = FlowWildcards {
            masks: mask.expand(),
        };
        Brief::of_match(&Match {
            flow: key.expand(),
            wc,
        })
    }

    /// Reads a frame that a port has just received, and its TCP flags; sets the packet's layer offsets. None for one
    /// that the whole parser must read.
    #[inline]
    pub fn of_frame(packet: &mut Packet) -> Option<(Brief, u16)> {
        let seen = read(packet.data())?;
        packet.l2_5 = NO_OFFSET;
        packet.l3 = offset(seen.l3);
        packet.l4 = seen.l4.map_or(NO_OFFSET, offset);
        packet.l2_pad = offset(seen.l2_pad);
        Some((
            Brief::new(seen.dl_type, seen.nw_frag, seen.tci),
            seen.tcp_flags,
        ))
    }
}

#[derive(Default)]
struct Seen {
    dl_type: u16,
    nw_frag: u8,
    tci: u16,
    tcp_flags: u16,
    l3: usize,
    l4: Option<usize>,
    l2_pad: usize,
}

#[inline]
fn read(data: &[u8]) -> Option<Seen> {
    if data.len() < 14 {
        return None;
    }
    let (mut dl_type, mut l3, mut tci) = (u16_at(data, 12), 14, 0);
    if is_vlan(dl_type) {
        if data.len() < 18 {
            return None;
        }
        tci = u16_at(data, 14) | VLAN_CFI;
        (dl_type, l3) = (u16_at(data, 16), 18);
        if is_vlan(dl_type) && vlan_limit() > 1 {
            return None;
        }
    }
    let mut seen = Seen {
        dl_type,
        tci,
        l3,
        ..Seen::default()
    };
    let (ip, proto, header, end) = match dl_type {
        eth_type::IP => {
            let ip = data.get(l3..)?;
            let (header, end) = ipv4(ip)?;
            let frag = u16_at(ip, 6) & 0x3fff;
            if frag != 0 {
                seen.nw_frag = NW_FRAG_ANY;
                if frag & 0x1fff != 0 {
                    seen.nw_frag |= NW_FRAG_LATER;
                }
            }
            (ip, ip[9], header, end)
        }
        eth_type::IPV6 => {
            let ip = data.get(l3..)?;
            let end = 40 + usize::from(u16_at(ip.get(..40)?, 4));
            // Extension headers are for the whole parser, and so is neighbour discovery.
            let plain = matches!(ip[6], ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
            if !plain || end > ip.len() {
                return None;
            }
            (ip, ip[6], 40, end)
        }
        // What is in these shows in the key, or may be wrong.
        eth_type::MPLS | eth_type::MPLS_MCAST | eth_type::NSH => return None,
        eth_type::ARP | eth_type::RARP if data.len() < l3 + 28 => return None,
        ty if ty < eth_type::MIN => return None,
        _ => return Some(seen),
    };
    seen.l2_pad = ip.len() - end;
    seen.l4 = Some(l3 + header);
    if seen.nw_frag & NW_FRAG_LATER == 0 {
        let l4 = &ip[header..end];
        if need_of_transport(proto, l4).is_some_and(|need| l4.len() < need) {
            return None;
        }
        if proto == ip_proto::TCP {
            seen.tcp_flags = u16_at(l4, 12) & 0xfff;
        }
    }
    Some(seen)
}

/// Length of the header and of the packet.
#[inline]
fn ipv4(ip: &[u8]) -> Option<(usize, usize)> {
    if ip.len() < 20 {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16_at(ip, 2));
    (header >= 20 && header <= total && total <= ip.len()).then_some((header, total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::miniflow::MiniflowBuf;
    use crate::parse::{Layers, Parsed};

    /// Frames that look like something: an EtherType that is known, and an IP header whose lengths often fit.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let types = prop::sample::select(vec![
            0x0800u16, 0x86dd, 0x0806, 0x8035, 0x8847, 0x894f, 0x1234, 0x0100, 0x8100, 0x88a8,
        ]);
        let protos = prop::sample::select(vec![6u8, 17, 1, 2, 58, 132, 44, 0, 99]);
        let tag = prop::option::of((prop::bool::ANY, any::<u16>()));
        let rest = prop::collection::vec(any::<u8>(), 0..80);
        (tag, types, protos, rest, any::<(bool, bool, u8)>()).prop_map(
            |(tag, ty, proto, mut rest, (fits, whole, pad))| {
                if rest.len() >= 40 && fits {
                    let len = rest.len() - usize::from(pad % 4);
                    match ty {
                        0x0800 => {
                            rest[0] = 0x45 + (pad >> 4 & 1);
                            rest[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                            rest[9] = proto;
                            if whole {
                                rest[6..8].fill(0);
                            }
                        }
                        0x86dd => {
                            rest[4..6]
                                .copy_from_slice(&(len as u16).saturating_sub(40).to_be_bytes());
                            rest[6] = proto;
                        }
                        _ => {}
                    }
                    for at in [20 + 12, 24 + 12, 40 + 12] {
                        if let Some(b) = rest.get_mut(at)
                            && whole
                        {
                            *b = 0x50;
                        }
                    }
                }
                let mut frame = vec![2; 12];
                if let Some((ad, tci)) = tag {
                    frame.extend(if ad { [0x88, 0xa8] } else { [0x81, 0] });
                    frame.extend(tci.to_be_bytes());
                }
                frame.extend(ty.to_be_bytes());
                frame.extend(rest);
                frame
            },
        )
    }

    fn offsets(p: &Packet) -> [u16; 4] {
        [p.l2_5, p.l3, p.l4, p.l2_pad]
    }

    /// The key that the general parser makes, and the layers that it finds.
    fn general(packet: &mut Packet) -> (MiniflowBuf, [u16; 4]) {
        let mut layers = Layers {
            l2_5: NO_OFFSET,
            l3: NO_OFFSET,
            l4: NO_OFFSET,
            l2_pad: 0,
        };
        let mut buf = MiniflowBuf::new();
        buf.push_metadata(&packet.md);
        buf.push_headers(packet.data(), &packet.md, &mut layers);
        (buf, [layers.l2_5, layers.l3, layers.l4, layers.l2_pad])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_brief_look_sees_what_the_whole_parser_sees(frame in frame()) {
            let (mut a, mut b) = (Packet::from_slice(&frame), Packet::from_slice(&frame));
            if let Some((brief, flags)) = Brief::of_frame(&mut a) {
                let mut buf = MiniflowBuf::new();
                prop_assert_eq!(buf.extract(&mut b), Parsed::Complete);
                let flow = buf.expand();
                let tci = flow.vlans[0].tci.get();
                prop_assert_eq!(brief, Brief::new(flow.dl_type.get(), flow.nw_frag, tci));
                prop_assert_eq!(flags, flow.tcp_flags.get() & 0xfff);
                prop_assert_eq!(offsets(&a), offsets(&b));
            }
        }

        #[test]
        fn ordinary_frames_have_the_key_that_the_general_parser_makes(frame in frame(), port: u32, recirc: bool) {
            let mut packet = Packet::from_slice(&frame);
            packet.md.in_port = crate::types::DpPort(port);
            packet.md.recirc_id = recirc.into();
            let (want, layers) = general(&mut packet);
            let mut buf = MiniflowBuf::new();
            if buf.extract(&mut packet) != Parsed::TruncatedEthernet {
                prop_assert_eq!(buf.view().map, want.view().map);
                prop_assert_eq!(buf.view().values, want.view().values);
                prop_assert_eq!(buf.hash_5tuple(), want.view().hash_5tuple(0));
                prop_assert_eq!(offsets(&packet), layers);
            }
        }
    }

    #[test]
    fn common_frames_are_seen_and_a_flow_that_matches_only_this_is_brief() {
        let mut ip = [0; 60];
        ip[..2].copy_from_slice(&[0x45, 0]);
        ip[2..4].copy_from_slice(&60u16.to_be_bytes());
        ip[9] = ip_proto::UDP;
        let frame = [&[2; 12][..], &[8, 0], &ip].concat();
        let mut packet = Packet::from_slice(&frame);
        let (brief, flags) = Brief::of_frame(&mut packet).unwrap();
        assert_eq!((packet.l3, packet.l4, flags), (14, 34, 0));
        let mut m = Match::default();
        m.flow = Flow::from_packet(&mut packet);
        let masks = &mut m.wc.masks;
        (masks.in_port, masks.recirc_id) = (u32::MAX, u32::MAX);
        (masks.packet_type, masks.dl_type) = (u32::MAX.into(), u16::MAX.into());
        masks.vlans[0].tci = (VLAN_CFI | VLAN_VID_MASK).into();
        assert_eq!(Brief::of_match(&m), None);
        m.wc.masks.nw_frag = NW_FRAG_MASK;
        assert_eq!(Brief::of_match(&m), Some(brief));
        m.wc.masks.nw_proto = 0xff;
        assert_eq!(Brief::of_match(&m), None);
    }
}
