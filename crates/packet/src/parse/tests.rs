use proptest::prelude::*;

use super::*;
use crate::types::{DpPort, MacAddr};

fn hex(s: &str) -> Vec<u8> {
    let digits: Vec<u8> = s
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect()
}

fn parse(bytes: &[u8]) -> (Flow, Parsed, Packet) {
    let mut packet = Packet::from_slice(bytes);
    packet.md.in_port = DpPort(3);
    let mut buf = MiniflowBuf::new();
    let parsed = buf.extract(&mut packet);
    (buf.expand(), parsed, packet)
}

const ETH: &str = "020000000002 020000000001";
const IP: &str = "4500 0028 0000 0000 4006 0000 0a000001 0a000002";
const TCP: &str = "03e8 0050 00000000 00000000 5012 0000 0000 0000";

#[test]
fn tcp_in_a_vlan_shows_all_its_fields() {
    let (flow, parsed, packet) = parse(&hex(&format!("{ETH} 8100 6005 0800 {IP} {TCP} 0000")));
    assert_eq!(parsed, Parsed::Complete);
    assert_eq!(flow.in_port, 3);
    assert_eq!(flow.dl_src, MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(flow.dl_dst, MacAddr([2, 0, 0, 0, 0, 2]));
    assert_eq!(
        (flow.vlans[0].tpid.get(), flow.vlans[0].tci.get()),
        (0x8100, 0x7005)
    );
    assert_eq!(flow.dl_type.get(), 0x800);
    assert_eq!(
        (flow.nw_src.get(), flow.nw_dst.get()),
        (0x0a000001, 0x0a000002)
    );
    assert_eq!(
        (flow.nw_proto, flow.nw_ttl, flow.nw_tos, flow.nw_frag),
        (6, 64, 0, 0)
    );
    assert_eq!(
        (flow.tp_src.get(), flow.tp_dst.get(), flow.tcp_flags.get()),
        (1000, 80, 0x12)
    );
    assert_eq!((packet.l3, packet.l4, packet.l2_pad), (18, 38, 2));
}

#[test]
fn wrong_ip_lengths_leave_the_network_fields_zero() {
    for (at, value) in [(14, 0x44), (14, 0x4f), (16, 0xff)] {
        let mut bytes = hex(&format!("{ETH} 0800 {IP} {TCP}"));
        bytes[at] = value;
        let (flow, parsed, packet) = parse(&bytes);
        if (at, value) == (14, 0x4f) {
            // 60 bytes of header in 40 bytes of packet.
            assert_eq!(parsed, Parsed::BadIpLength);
        }
        assert_eq!(
            (flow.nw_src.get(), flow.nw_proto),
            (0, 0),
            "{at} {value:#x} {parsed:?}"
        );
        assert_eq!((packet.l3, packet.l4), (14, NO_OFFSET));
        assert_eq!(flow.dl_type.get(), 0x800);
    }
}

#[test]
fn only_first_fragments_have_ports() {
    for (frag_off, nw_frag, port) in [
        ("2000", 1, 1000),
        ("2001", 3, 0),
        ("0001", 3, 0),
        ("4000", 0, 1000),
    ] {
        let ip = IP.replacen("0028 0000 0000", &format!("0028 0000 {frag_off}"), 1);
        let (flow, ..) = parse(&hex(&format!("{ETH} 0800 {ip} {TCP}")));
        assert_eq!(
            (flow.nw_frag, flow.tp_src.get()),
            (nw_frag, port),
            "{frag_off}"
        );
    }
}

#[test]
fn a_tcp_header_with_an_impossible_data_offset_is_none() {
    for (offset, port, flags) in [(0, 0, 0), (4, 0, 0), (5, 1000, 0x12), (6, 0, 0), (15, 0, 0)] {
        let mut bytes = hex(&format!("{ETH} 0800 {IP} {TCP}"));
        bytes[46] = offset << 4;
        let (flow, parsed, _) = parse(&bytes);
        assert_eq!(flow.nw_proto, 6);
        assert_eq!(
            (flow.tp_src.get(), flow.tcp_flags.get()),
            (port, flags),
            "{offset}"
        );
        assert_eq!(parsed == Parsed::Complete, port != 0, "{offset}");
    }
}

#[test]
fn control_messages_have_a_type_in_either_version_of_ip() {
    let addresses = "fe800000000000000000000000000001 fe800000000000000000000000000002";
    for (proto, message, want) in [
        ("01", "0800000000000000", (8, 0)),
        ("02", "16050000e0000001", (0x16, 5)),
        ("3a", "8001000000000000", (128, 1)),
    ] {
        let v6 = format!("{ETH} 86dd 60000000 0008 {proto} 40 {addresses} {message}");
        let v4 =
            format!("{ETH} 0800 4500001c 00000000 40 {proto} 0000 0a000001 0a000002 {message}");
        for frame in [v4, v6] {
            let (flow, ..) = parse(&hex(&frame));
            assert_eq!((flow.tp_src.get(), flow.tp_dst.get()), want, "{frame}");
        }
    }
}

#[test]
fn neighbour_discovery_keeps_what_came_before_a_bad_length_and_nothing_of_a_repeated_address() {
    let addresses = "fe800000000000000000000000000001 fe800000000000000000000000000002";
    let sll = "0101020000000001";
    for (options, target, address) in [
        ("0100020000000001".to_owned(), 9, 0),
        (format!("{sll} 0200020000000002"), 9, 1),
        (format!("{sll} 0202020000000002"), 9, 1),
        (format!("{sll} {sll}"), 0, 0),
        (format!("{sll} 0201"), 9, 1),
    ] {
        let body = hex(&format!(
            "87000000 00000000 fe800000000000000000000000000009 {options}"
        ));
        let mut bytes = hex(&format!(
            "{ETH} 86dd 60000000 00{:02x} 3a ff {addresses}",
            body.len()
        ));
        bytes.extend(body);
        let (flow, ..) = parse(&bytes);
        assert_eq!(
            (flow.nd_target[15], flow.arp_sha.0[5]),
            (target, address),
            "{options}"
        );
    }
}

#[test]
fn an_nsh_header_of_an_unknown_type_has_all_but_its_context() {
    for (mdtype, length, spi, context) in [
        ("01", "c6", 1, 0x01020304),
        ("01", "c5", 0, 0),
        ("02", "c2", 1, 0),
        ("00", "c6", 1, 0),
        ("f1", "c6", 1, 0),
    ] {
        let (flow, ..) = parse(&hex(&format!(
            "{ETH} 894f 0f{length}{mdtype}03 000001ff 0102030405060708090a0b0c0d0e0f10"
        )));
        let path = flow.nsh.path_hdr.get() >> 8;
        assert_eq!(
            (path, flow.nsh.context[0].get()),
            (spi, context),
            "{mdtype} {length}"
        );
    }
}

#[test]
fn frames_with_an_802_2_header_have_the_snap_type_or_none() {
    let (flow, ..) = parse(&hex(&format!("{ETH} 0010 aaaa03 000000 0800 {IP} {TCP}")));
    assert_eq!((flow.dl_type.get(), flow.tp_src.get()), (0x800, 1000));
    let (flow, ..) = parse(&hex(&format!("{ETH} 0026 4242 0300 0000 0000 0080 0000")));
    assert_eq!(flow.dl_type.get(), eth_type::NOT_ETH);
}

#[test]
fn arp_and_neighbour_discovery_share_their_storage() {
    let arp = "0001 0800 06 04 0002 020000000001 0a000001 020000000002 0a000002";
    let (flow, ..) = parse(&hex(&format!("{ETH} 0806 {arp}")));
    assert_eq!(
        (flow.nw_proto, flow.nw_src.get(), flow.nw_dst.get()),
        (2, 0x0a000001, 0x0a000002)
    );
    assert_eq!((flow.arp_sha.0[5], flow.arp_tha.0[5]), (1, 2));

    let nd = "87 00 0000 00000005 fe80000000000000 0000000000000002 01 01 020000000001";
    let ip6 =
        "6000 0000 0020 3a ff fe80000000000000 0000000000000001 ff02000000000000 00000001ff000002";
    let (flow, parsed, _) = parse(&hex(&format!("{ETH} 86dd {ip6} {nd}")));
    assert_eq!(parsed, Parsed::Complete);
    assert_eq!((flow.tp_src.get(), flow.tp_dst.get()), (135, 0));
    assert_eq!((flow.nd_target[0], flow.nd_target[15]), (0xfe, 2));
    assert_eq!(
        (
            flow.arp_sha.0[5],
            flow.tcp_flags.get(),
            flow.igmp_group_ip4.get()
        ),
        (1, 1, 5)
    );
}

#[test]
fn ipv6_extension_headers_are_skipped_up_to_a_later_fragment() {
    let addresses = "fe800000000000000000000000000001 fe800000000000000000000000000002";
    let udp = "0035 0036 0008 0000";
    for (first, headers, want) in [
        ("00", "3c00000000000000 1100000000000000", (17, 0, 0x35)),
        ("2c", "1100 0001 00000000", (17, 1, 0x35)),
        ("2c", "1100 0009 00000000", (44, 3, 0)),
        ("2c", "1100 0006 00000000", (17, 1, 0x35)),
        ("2c", "1100 0000 00000000", (17, 0, 0x35)),
        ("33", "11 01 0000 00000000 00000000", (17, 0, 0x35)),
        ("3b", "", (59, 0, 0)),
    ] {
        let body = hex(&format!("{headers} {udp}"));
        let mut bytes = hex(&format!(
            "{ETH} 86dd 60000000 00{:02x} {first} 40 {addresses}",
            body.len()
        ));
        bytes.extend(body);
        let (flow, ..) = parse(&bytes);
        assert_eq!(
            (flow.nw_proto, flow.nw_frag, flow.tp_src.get()),
            want,
            "{first} {headers}"
        );
    }
}

#[test]
fn mpls_labels_beyond_the_third_are_walked_but_not_kept() {
    let (flow, _, packet) = parse(&hex(&format!(
        "{ETH} 8847 00001040 00002040 00003040 00004140 {IP}"
    )));
    assert_eq!(flow.mpls_lse.map(|l| l.get()), [0x1040, 0x2040, 0x3040, 0]);
    assert_eq!((packet.l2_5, packet.l3), (14, 30));
}

proptest! {
    #[test]
    fn no_bytes_panic(ty in prop::sample::select(vec![0x800u16, 0x86dd, 0x806, 0x8847, 0x8100, 0x894f, 0x10]),
                      proto in prop::sample::select(vec![6u8, 17, 1, 2, 58, 132, 44, 0, 51]),
                      mut bytes in prop::collection::vec(any::<u8>(), 0..200), honest: bool) {
        if bytes.len() > 14 {
            bytes[12..14].copy_from_slice(&ty.to_be_bytes());
        }
        if honest && bytes.len() > 54 {
            let len = bytes.len();
            bytes[14] = if ty == 0x800 { 0x45 } else { 0x60 };
            let total = if ty == 0x800 { len - 14 } else { len - 54 };
            let at = if ty == 0x800 { 16 } else { 18 };
            bytes[at..at + 2].copy_from_slice(&(total as u16).to_be_bytes());
            bytes[if ty == 0x800 { 23 } else { 20 }] = proto;
        }
        let (flow, _, packet) = parse(&bytes);
        prop_assert!(packet.l3 == NO_OFFSET || usize::from(packet.l3) <= bytes.len());
        prop_assert!(packet.l4 == NO_OFFSET || usize::from(packet.l4) <= bytes.len());
        prop_assert_eq!(flow, Flow::from_packet(&mut packet.duplicate()));
    }
}
