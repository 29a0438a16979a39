//! Edits against packets whose checksums are computed from scratch.

use ferrovs_packet::buffer::Checksum;
use ferrovs_packet::flow::{Flow, packet_type};
use proptest::prelude::*;

use super::*;
use crate::text::parse_actions;

/// One's complement sum of bytes, not folded.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn transport_sum(packet: &[u8], proto: u8) -> u16 {
    let ip = &packet[14..];
    let l4 = &ip[20..];
    let mut total = sum(&ip[12..20]) + u32::from(proto) + l4.len() as u32;
    total += sum(l4);
    !fold(total)
}

/// An IPv4 packet with right checksums.
fn packet(proto: u8, payload: &[u8]) -> Packet {
    let header = match proto {
        6 => vec![
            0, 80, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 2, 0, 100, 0, 0, 0, 0,
        ],
        _ => vec![0, 80, 0x1f, 0x90, 0, (8 + payload.len()) as u8, 0, 0],
    };
    let len = (20 + header.len() + payload.len()) as u16;
    let mut data = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    data.extend([0x45, 0]);
    data.extend(len.to_be_bytes());
    data.extend([0, 1, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let ip_sum = !fold(sum(&data[14..34]));
    data[24..26].copy_from_slice(&ip_sum.to_be_bytes());
    let csum = 34 + if proto == 6 { 16 } else { 6 };
    data.extend(header);
    data.extend(payload);
    let l4_sum = transport_sum(&data, proto);
    data[csum..csum + 2].copy_from_slice(&l4_sum.to_be_bytes());
    let mut packet = Packet::from_slice(&data);
    Flow::from_packet(&mut packet);
    packet
}

fn run(actions: &str, packet: &mut Packet) {
    for action in parse_actions(actions, None).unwrap() {
        assert_eq!(apply(&action, packet), Outcome::Done);
    }
}

proptest! {
    #[test]
    fn checksums_stay_right(src in any::<u32>(), mask in any::<u32>(), port in any::<u16>(), ttl in any::<u8>(),
                            tcp in any::<bool>(), payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let proto = if tcp { 6 } else { 17 };
        let mut p = packet(proto, &payload);
        let ip = |v: u32| std::net::Ipv4Addr::from(v);
        run(&format!("set(ipv4(src={}/{},dst={},ttl={ttl})),set({}(dst={port}))",
            ip(src), ip(mask), ip(!src), if tcp { "tcp" } else { "udp" }), &mut p);
        let flow = Flow::from_packet(&mut p);
        prop_assert_eq!(flow.nw_src.get(), 0x0a00_0001 & !mask | src & mask);
        prop_assert_eq!((flow.nw_dst.get(), flow.nw_ttl, flow.tp_dst.get()), (!src, ttl, port));
        prop_assert_eq!(fold(sum(&p.data()[14..34])), 0xffff);
        prop_assert_eq!(transport_sum(p.data(), proto), 0);
    }
}

#[test]
fn unfinished_checksums_keep_the_pseudo_header_right() {
    let mut p = packet(6, b"hello");
    let pseudo = |d: &[u8]| fold(sum(&d[26..34]) + 6 + (d.len() - 34) as u32);
    let partial = pseudo(p.data());
    p.data_mut()[50..52].copy_from_slice(&partial.to_be_bytes());
    p.offload.checksum = Checksum::Partial {
        start: 34,
        offset: 16,
    };
    run(
        "push_vlan(vid=5,pcp=1),set(ipv4(dst=1.2.3.4)),set(tcp(src=7)),pop_vlan",
        &mut p,
    );
    assert_eq!(
        p.offload.checksum,
        Checksum::Partial {
            start: 34,
            offset: 16
        }
    );
    let field = u16::from_be_bytes([p.data()[50], p.data()[51]]);
    assert_eq!(field, pseudo(p.data()));
}

#[test]
fn tags_and_labels_come_and_go() {
    let mut p = packet(17, b"payload");
    let before = p.data().to_vec();
    run("push_vlan(vid=5,pcp=3)", &mut p);
    assert_eq!(p.data()[12..18], [0x81, 0, 0x60, 5, 8, 0]);
    run(
        "push_mpls(label=9,tc=0,ttl=64,bos=1,eth_type=0x8847)",
        &mut p,
    );
    assert_eq!(p.data()[16..22], [0x88, 0x47, 0, 0, 0x91, 64]);
    run("pop_mpls(eth_type=0x800),pop_vlan", &mut p);
    assert_eq!(p.data(), before);
    run("pop_eth", &mut p);
    assert_eq!(
        (p.md.packet_type, p.data()),
        (packet_type(1, 0x800), &before[14..])
    );
    // A service header may stand in front of another.
    let nsh = "push_nsh(flags=0,ttl=63,mdtype=1,np=1,spi=0x5,si=4,c1=0x1)";
    run(&format!("{nsh},{nsh},pop_nsh(),pop_nsh()"), &mut p);
    assert_eq!(apply(&Action::PopNsh, &mut p), Outcome::Drop);
    run(
        "push_eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)",
        &mut p,
    );
    assert_eq!(p.data(), before);
}

#[test]
fn edits_of_absent_layers_leave_the_packet_alone() {
    let mut p = Packet::from_slice(&[0; 14]);
    Flow::from_packet(&mut p);
    run(
        "set(ipv4(src=1.1.1.1)),set(tcp(src=1)),set(nd(sll=00:00:00:00:00:01)),pop_vlan,set(arp(op=1))",
        &mut p,
    );
    assert_eq!(p.data(), [0; 14]);
}

#[test]
fn a_service_header_hides_the_labels_behind_it() {
    let label = "push_mpls(label=9,tc=0,ttl=64,bos=1,eth_type=0x8847)";
    let mut p = packet(17, b"payload");
    run(label, &mut p);
    let inside = p.data().to_vec();
    run(
        "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x5,si=4)",
        &mut p,
    );
    run(label, &mut p);
    assert_eq!(p.data()[..4], [0, 0, 0x91, 64]);
    assert_eq!(p.data()[4 + 8..], inside);
}

#[test]
fn reserved_bits_of_neighbour_discovery_are_set_without_its_options() {
    let mut data = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
    data.extend([0x60, 0, 0, 0, 0, 40, 58, 255]);
    data.extend([1; 32]);
    data.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    data.extend([7; 16]);
    data.extend([1, 1, 2, 0, 0, 0, 0, 1, 2, 1, 2, 0, 0, 0, 0, 2]);
    let mut p = Packet::from_slice(&data);
    Flow::from_packet(&mut p);
    run("set(nd_ext(nd_reserved=0x12345678))", &mut p);
    assert_eq!(p.data()[58..62], [0x12, 0x34, 0x56, 0x78]);
    assert_eq!((p.data()[78], p.data()[86]), (1, 2));
    run("set(nd_ext(nd_options_type=2))", &mut p);
    assert_eq!((p.data()[78], p.data()[86]), (2, 2));
}
