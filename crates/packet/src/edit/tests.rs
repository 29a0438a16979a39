use proptest::prelude::*;

use super::*;
use crate::checksum::{Sum, pseudo_v4, pseudo_v6};
use crate::compose::{Payload, compose, tests::any_packet_flow};
use crate::flow::{Flow, FlowNsh, NW_FRAG_LATER};
use crate::types::{MacAddr, eth_type};

fn parsed(flow: &Flow) -> Packet {
    let mut packet = compose(flow, Payload::Default).unwrap();
    let again = Flow::from_packet(&mut packet);
    assert_eq!(again.dl_type, flow.dl_type);
    packet
}

/// Whether lengths and checksums of a packet are right.
fn is_sound(packet: &Packet) -> bool {
    let l4 = packet.l4_data();
    let (proto, pseudo, later) = if let Some(ip) = ipv4(packet) {
        let header = &packet.l3_data()[..20];
        if Sum::ZERO.add(header).fold() != 0xffff {
            return false;
        }
        let later = u16_at(header, 6) & 0x1fff != 0;
        (
            header[9],
            pseudo_v4(ip.src, ip.dst, header[9], l4.len() as u32),
            later,
        )
    } else if let Some(ip) = ipv6(packet) {
        let proto = packet.l3_data()[6];
        (
            proto,
            pseudo_v6(&ip.src, &ip.dst, proto, l4.len() as u32),
            false,
        )
    } else {
        return true;
    };
    later || l4_checksum(proto).is_none() || pseudo.add(l4).fold() == 0xffff
}

proptest! {
    #[test]
    fn rewritten_packets_have_the_new_fields_and_sound_checksums(flow in any_packet_flow(), new in any_packet_flow()) {
        let mut packet = parsed(&flow);
        set_eth_addrs(&mut packet, new.dl_src, new.dl_dst);
        let mut want = flow;
        (want.dl_src, want.dl_dst) = (new.dl_src, new.dl_dst);
        match flow.dl_type.get() {
            eth_type::IP => {
                let fields = Ipv4Fields {
                    src: new.nw_src.to_bytes(),
                    dst: new.nw_dst.to_bytes(),
                    tos: new.nw_tos,
                    ttl: new.nw_ttl,
                };
                set_ipv4(&mut packet, &fields);
                prop_assert_eq!(ipv4(&packet), Some(fields));
                (want.nw_src, want.nw_dst) = (new.nw_src, new.nw_dst);
                (want.nw_tos, want.nw_ttl) = (new.nw_tos, new.nw_ttl);
            }
            eth_type::IPV6 => {
                let fields = Ipv6Fields {
                    src: new.ipv6_src,
                    dst: new.ipv6_dst,
                    label: new.ipv6_label.get(),
                    tclass: new.nw_tos,
                    hlimit: new.nw_ttl,
                };
                set_ipv6(&mut packet, &fields);
                prop_assert_eq!(ipv6(&packet), Some(fields));
                (want.ipv6_src, want.ipv6_dst) = (new.ipv6_src, new.ipv6_dst);
                (want.nw_tos, want.nw_ttl, want.ipv6_label) = (new.nw_tos, new.nw_ttl, new.ipv6_label);
            }
            eth_type::ARP => {
                let mut fields = arp(&packet).unwrap();
                fields.op = u16::from(new.nw_proto);
                fields.tip = new.nw_dst.to_bytes();
                set_arp(&mut packet, &fields);
                (want.nw_proto, want.nw_dst) = (new.nw_proto, new.nw_dst);
            }
            _ => {}
        }
        let has_l4 = flow.nw_frag & NW_FRAG_LATER == 0 && flow.dl_type.get() != eth_type::ARP;
        let (sport, dport) = (new.tp_src.get(), new.tp_dst.get());
        if has_l4 {
            match flow.nw_proto {
                ip_proto::TCP => set_tcp_ports(&mut packet, sport, dport),
                ip_proto::UDP => set_udp_ports(&mut packet, sport, dport),
                ip_proto::SCTP => set_sctp_ports(&mut packet, sport, dport),
                ip_proto::ICMPV6 => {
                    set_nd(&mut packet, &new.nd_target, new.dl_src, new.dl_dst);
                    want.nd_target = new.nd_target;
                    if !want.arp_sha.is_zero() {
                        want.arp_sha = new.dl_src;
                    }
                }
                _ => {}
            }
            if matches!(flow.nw_proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP) {
                (want.tp_src, want.tp_dst) = (new.tp_src, new.tp_dst);
            }
        }
        prop_assert!(is_sound(&packet));
        let got = Flow::from_packet(&mut packet);
        // An all-zero address reads as "no option".
        prop_assume!(flow.arp_sha.is_zero() || !want.arp_sha.is_zero());
        let mut got = got;
        got.in_port = want.in_port;
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_partial_checksum_follows_the_pseudo_header_only(ips in any::<(u32, u32)>(), new in any::<[u8; 4]>()) {
        let flow = Flow {
            dl_type: eth_type::IP.into(),
            nw_proto: ip_proto::TCP,
            nw_src: ips.0.into(),
            nw_dst: ips.1.into(),
            ..Flow::default()
        };
        let mut packet = parsed(&flow);
        let len = packet.l4_data().len() as u32;
        let l4 = usize::from(packet.l4);
        let sum = |flow: &Flow| pseudo_v4(flow.nw_src.to_bytes(), flow.nw_dst.to_bytes(), 6, len).fold();
        put_u16(packet.data_mut(), l4 + 16, sum(&flow));
        packet.offload.checksum = Checksum::Partial { start: l4 as u16, offset: 16 };
        let mut fields = ipv4(&packet).unwrap();
        fields.dst = new;
        set_ipv4(&mut packet, &fields);
        set_tcp_ports(&mut packet, 1, 2);
        let want = Flow { nw_dst: u32::from_be_bytes(new).into(), ..flow };
        let (got, want) = (u16_at(packet.data(), l4 + 16), sum(&want));
        prop_assert!(got == want || got ^ want == 0xffff && got.wrapping_add(1) <= 1);
    }

    #[test]
    fn a_checksum_that_is_left_open_inside_of_a_tunnel_is_not_the_outer_one(src: u32, sport: u16, new in any::<[u8; 4]>()) {
        let flow = Flow {
            dl_type: eth_type::IP.into(),
            nw_proto: ip_proto::UDP,
            nw_src: src.into(),
            tp_src: sport.into(),
            ..Flow::default()
        };
        let mut packet = parsed(&flow);
        packet.offload.checksum = Checksum::Partial { start: packet.l4 + 8, offset: 6 };
        let mut fields = ipv4(&packet).unwrap();
        fields.dst = new;
        set_ipv4(&mut packet, &fields);
        set_udp_ports(&mut packet, 1, 2);
        prop_assert!(is_sound(&packet));
    }

    #[test]
    fn what_is_pushed_can_be_popped(flow in any_packet_flow(), tci in any::<u16>(), lse in any::<u32>()) {
        let mut packet = parsed(&flow);
        let before = (packet.data().to_vec(), packet.l2_5, packet.l3, packet.l4);
        let outer = eth_type_of(&packet).unwrap();

        push_vlan(&mut packet, eth_type::VLAN_8021Q, tci);
        let tagged = Flow::from_packet(&mut packet.duplicate());
        prop_assert_eq!(tagged.vlans[0].tci.get(), tci | crate::flow::VLAN_CFI);
        pop_vlan(&mut packet);
        prop_assert_eq!(&(packet.data().to_vec(), packet.l2_5, packet.l3, packet.l4), &before);

        let inner = flow.dl_type.get();
        let bottom = if inner == eth_type::MPLS { lse & !0x100 } else { lse | 0x100 };
        push_mpls(&mut packet, eth_type::MPLS, bottom);
        prop_assert_eq!(mpls_lse(&packet), Some(bottom));
        let labelled = Flow::from_packet(&mut packet.duplicate());
        prop_assert_eq!((labelled.dl_type.get(), labelled.mpls_lse[0].get()), (eth_type::MPLS, bottom));
        pop_mpls(&mut packet, inner);
        prop_assert_eq!(&(packet.data().to_vec(), packet.l2_5, packet.l3, packet.l4), &before);

        if !flow.has_vlan() && inner != eth_type::MPLS {
            pop_eth(&mut packet);
            prop_assert_eq!(packet.md.packet_type, crate::flow::packet_type(1, outer));
            let nsh = FlowNsh { ttl: 63, mdtype: 1, path_hdr: lse.into(), ..FlowNsh::default() };
            let carried = matches!(inner, eth_type::IP | eth_type::IPV6);
            push_nsh(&mut packet, &nsh, &[]);
            prop_assert_eq!(packet.md.packet_type == crate::flow::packet_type(1, eth_type::NSH), carried);
            if carried {
                let flow = Flow::from_packet(&mut packet.duplicate());
                prop_assert_eq!((flow.nsh.path_hdr.get(), flow.nsh.ttl, flow.nsh.mdtype), (lse, 63, 1));
                prop_assert!(pop_nsh(&mut packet) && !pop_nsh(&mut packet));
            }
            push_eth(&mut packet, flow.dl_src, flow.dl_dst);
            prop_assert_eq!(packet.data(), &before.0[..]);
        }
    }

    #[test]
    fn rewriting_junk_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), l2_5 in any::<u16>(),
                                     l3 in 0u16..130, l4 in 0u16..130, pad in 0u16..130) {
        let make = || {
            let mut packet = Packet::from_slice(&bytes);
            (packet.l2_5, packet.l3, packet.l4, packet.l2_pad) = (l2_5, l3, l4, pad);
            packet
        };
        let actions: [&dyn Fn(&mut Packet); 16] = [
            &|p| set_ipv4(p, &Ipv4Fields::default()),
            &|p| set_ipv6(p, &Ipv6Fields::default()),
            &|p| set_tcp_ports(p, 1, 2),
            &|p| set_udp_ports(p, 1, 2),
            &|p| set_sctp_ports(p, 1, 2),
            &|p| set_icmp(p, 1, 2),
            &|p| set_nd(p, &[1; 16], MacAddr::BROADCAST, MacAddr::BROADCAST),
            &|p| set_nd_ext(p, 1, 2),
            &|p| push_vlan(p, 0x8100, 5),
            &pop_vlan,
            &|p| push_mpls(p, 0x8847, 5),
            &|p| pop_mpls(p, 0x800),
            &pop_eth,
            &|p| {
                dec_ttl(p);
            },
            &|p| set_nsh(p, &FlowNsh::default(), &FlowNsh { flags: 3, ..FlowNsh::default() }),
            &|p| {
                p.md.packet_type = crate::flow::packet_type(1, eth_type::NSH);
                pop_nsh(p);
            },
        ];
        for action in actions {
            action(&mut make());
        }
    }
}
