//! Every type of tunnel: frames written by hand from the specifications, and what is put on comes off again.

use std::collections::BTreeMap;

use ferrovs_encap::header::{self, Link, TunnelHeader};
use ferrovs_encap::row::{Inside, PopError};
use ferrovs_encap::{PortState, TunnelConfig, options, pop, push, types};
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::checksum;
use ferrovs_packet::flow::{
    FLOW_TNL_F_CSUM, FLOW_TNL_F_DONT_FRAGMENT, FLOW_TNL_F_KEY, FLOW_TNL_F_OAM, FlowTnl, PT_ETH,
    packet_type,
};
use ferrovs_packet::gso;

#[path = "types/large.rs"]
mod large;
#[path = "types/odd.rs"]
mod odd;
#[path = "types/stt.rs"]
mod stt;

const IPV4: u32 = packet_type(1, 0x0800);
const IPV6: u32 = packet_type(1, 0x86dd);

fn config(kind: &str, list: &[(&str, &str)]) -> TunnelConfig {
    let options: BTreeMap<String, String> = list
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let ty = types::port(kind).unwrap();
    let parsed = options::parse(ty, "t", &options);
    parsed
        .config
        .unwrap_or_else(|| panic!("{:?}", parsed.messages))
}

fn refused(kind: &str, list: &[(&str, &str)]) -> String {
    let mut options: BTreeMap<String, String> = list
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    options.insert("remote_ip".into(), "10.0.0.2".into());
    let parsed = options::parse(types::port(kind).unwrap(), "t", &options);
    assert!(parsed.config.is_none());
    parsed.messages.join("\n")
}

/// An outer Ethernet and IPv4 header in front of `rest`.
fn outer(proto: u8, rest: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 8, 0];
    let len = (20 + rest.len()) as u16;
    let [l0, l1] = len.to_be_bytes();
    f.extend([
        0x45, 0, l0, l1, 0, 1, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    let sum = checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f.extend(rest);
    f
}

fn udp(port: u16, rest: &[u8]) -> Vec<u8> {
    let [p0, p1] = port.to_be_bytes();
    let [l0, l1] = ((8 + rest.len()) as u16).to_be_bytes();
    let mut f = vec![0x90, 1, p0, p1, l0, l1, 0, 0];
    f.extend(rest);
    outer(17, &f)
}

fn outer6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 0x86, 0xdd];
    let [l0, l1] = (rest.len() as u16).to_be_bytes();
    f.extend([0x60, 0, 0, 0, l0, l1, next, 64]);
    f.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    f.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    f.extend(rest);
    f
}

/// What a port of that kind makes of the frame.
fn popped(kind: &str, frame: &[u8]) -> Result<(Packet, FlowTnl), PopError> {
    let mut p = Packet::from_slice(frame);
    pop::pop(types::port(kind).unwrap(), &mut p)?;
    let tnl = *p.md.tunnel.get().unwrap();
    Ok((p, tnl))
}

/// Cut off anywhere before the inner packet it is refused, and nothing panics anywhere.
fn refused_when_cut(kind: &str, frame: &[u8], inner: usize) {
    for len in 0..frame.len() {
        let cut = popped(kind, &frame[..len]);
        assert!(cut.is_err(), "{kind} {len}");
    }
    // The same with an IP header that tells of no more.
    for gone in 1..frame.len() - 34 {
        let mut f = frame[..frame.len() - gone].to_vec();
        if f[12] == 8 {
            let total = (f.len() - 14) as u16;
            f[16..18].copy_from_slice(&total.to_be_bytes());
            f[24..26].fill(0);
            let sum = checksum(&f[14..34]);
            f[24..26].copy_from_slice(&sum.to_be_bytes());
        } else if f.len() > 54 {
            let len = (f.len() - 54) as u16;
            f[18..20].copy_from_slice(&len.to_be_bytes());
        }
        let header_is_whole = frame.len() - gone >= inner;
        assert!(
            popped(kind, &f).is_err() || header_is_whole,
            "{kind} {gone}"
        );
    }
}

const ETHERNET: [u8; 20] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf,
];

fn with(header: &[u8], inner: &[u8]) -> Vec<u8> {
    [header, inner].concat()
}

#[test]
fn geneve_gives_its_options_and_flags() {
    let header = [
        3, 0x80, 0x65, 0x58, 0, 0, 0x4d, 0, // version 0, 3 words, OAM
        1, 2, 0x80, 1, 0xca, 0xfe, 0xba, 0xbe, 0, 7, 1, 0,
    ];
    let frame = udp(6081, &with(&header, &ETHERNET));
    let (p, t) = popped("geneve", &frame).unwrap();
    assert_eq!(p.data(), ETHERNET);
    assert_eq!((p.md.packet_type, t.tun_id.get()), (PT_ETH, 0x4d));
    assert_eq!(
        t.flags,
        FLOW_TNL_F_KEY | FLOW_TNL_F_OAM | FLOW_TNL_F_DONT_FRAGMENT
    );
    assert_eq!(t.metadata.len, 12);
    assert_eq!(t.metadata.opts[..12], header[8..]);
    refused_when_cut("geneve", &frame, frame.len() - ETHERNET.len());
    for (at, value) in [(42, 0x43), (44, 0x66), (42, 0x3f)] {
        let mut wrong = frame.clone();
        wrong[at] = value;
        assert!(popped("geneve", &wrong).is_err(), "{at}");
    }
}

#[test]
fn gre_checks_its_checksum_and_knows_what_is_inside() {
    // RFC 2784, 2890: checksum, key and sequence number present.
    let mut gre = with(
        &[0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9],
        &ETHERNET,
    );
    let sum = checksum(&gre);
    gre[4..6].copy_from_slice(&sum.to_be_bytes());
    let frame = outer(47, &gre);
    for kind in ["gre", "ip6gre"] {
        let (p, t) = popped(kind, &frame).unwrap();
        assert_eq!(p.data(), ETHERNET);
        assert_eq!(t.tun_id.get(), 7);
        assert_eq!(
            t.flags,
            FLOW_TNL_F_KEY | FLOW_TNL_F_CSUM | FLOW_TNL_F_DONT_FRAGMENT
        );
    }
    let (p, t) = popped("gre", &outer6(47, &gre)).unwrap();
    assert_eq!((p.data(), t.ipv6_src[0]), (&ETHERNET[..], 0xfd));
    let mut wrong = frame.clone();
    wrong[60] ^= 1;
    assert_eq!(popped("gre", &wrong).err(), Some(PopError::Checksum));
    refused_when_cut("gre", &frame, frame.len());
    // Without any of them, and IPv6 inside.
    let frame = outer(47, &[0, 0, 0x86, 0xdd, 0x60, 0, 0, 0]);
    let (p, t) = popped("gre", &frame).unwrap();
    assert_eq!((p.md.packet_type, p.size(), t.flags), (IPV6, 4, 2));
    // Version 1, routing, and a protocol that is none.
    for head in [[0x20, 1, 0x88, 0x0b], [0x40, 0, 8, 0], [0, 0, 0, 4]] {
        assert_eq!(
            popped("gre", &outer(47, &head)).err(),
            Some(PopError::Header)
        );
    }
}

#[test]
fn gre64_has_an_identifier_of_64_bits() {
    let head = [0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 9];
    let frame = outer(47, &with(&head, &ETHERNET));
    let (p, t) = popped("gre64", &frame).unwrap();
    assert_eq!((p.data(), t.tun_id.get()), (&ETHERNET[..], 9 << 32 | 7));
    refused_when_cut("gre64", &frame, frame.len() - ETHERNET.len());
    let without = outer(47, &with(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7], &ETHERNET));
    assert_eq!(popped("gre64", &without).err(), Some(PopError::Header));
}

#[test]
fn lisp_carries_packets_of_an_instance() {
    let inner = [0x60, 0, 0, 0, 0, 0, 59, 64];
    let frame = udp(4341, &with(&[0x48, 0, 0, 0, 0, 0, 9, 1], &inner));
    let (p, t) = popped("lisp", &frame).unwrap();
    assert_eq!((p.data(), p.md.packet_type), (&inner[..], IPV6));
    assert_eq!(
        (t.tun_id.get(), t.flags & FLOW_TNL_F_KEY),
        (9, FLOW_TNL_F_KEY)
    );
    refused_when_cut("lisp", &frame, 51);
    let nonce = udp(4341, &with(&[0x80, 1, 2, 3, 0, 0, 0, 1], &inner));
    assert_eq!(popped("lisp", &nonce).unwrap().1.tun_id.get(), 0);
}

#[test]
fn erspan_of_both_versions_tells_its_session() {
    let one = [
        0x10, 0, 0x88, 0xbe, 0, 0, 0, 5, // GRE with a sequence number
        0x10, 0x64, 0x20, 0x03, 0, 0xf, 0x12, 0x34,
    ];
    let frame = outer(47, &with(&one, &ETHERNET));
    let (p, t) = popped("erspan", &frame).unwrap();
    assert_eq!(p.data(), ETHERNET);
    assert_eq!((t.tun_id.get(), t.erspan_ver), (3, 1));
    assert_eq!(t.erspan_idx, 0xf_1234);
    refused_when_cut("erspan", &frame, frame.len() - ETHERNET.len());
    let two = [
        0x10, 0, 0x22, 0xeb, 0, 0, 0, 5, 0x20, 0x64, 0x22, 0x04, 0, 0, 1, 0, 0, 0, 0, 0x98,
    ];
    let frame = outer6(47, &with(&two, &ETHERNET));
    let (p, t) = popped("ip6erspan", &frame).unwrap();
    assert_eq!(p.data(), ETHERNET);
    assert_eq!((t.tun_id.get(), t.erspan_ver), (0x204, 2));
    assert_eq!((t.erspan_dir, t.erspan_hwid), (1, 9));
    refused_when_cut("ip6erspan", &frame, frame.len() - ETHERNET.len());
    let mut three = frame.clone();
    three[62] = 0x30;
    assert_eq!(popped("ip6erspan", &three).err(), Some(PopError::Header));
}

#[test]
fn gtpu_gives_users_packets_and_leaves_other_messages() {
    let inner = [
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
    ];
    let frame = udp(2152, &with(&[0x30, 255, 0, 20, 0, 0, 0, 9], &inner));
    let (p, t) = popped("gtpu", &frame).unwrap();
    assert_eq!((p.data(), p.md.packet_type), (&inner[..], IPV4));
    assert_eq!(
        (t.tun_id.get(), t.gtpu_flags, t.gtpu_msgtype),
        (9, 0x30, 255)
    );
    refused_when_cut("gtpu", &frame, 51);
    // A sequence number, then one extension header of a word.
    let options = [0x36, 255, 0, 28, 0, 0, 0, 9, 0, 1, 0, 0x85, 1, 0, 0, 0];
    let (p, _) = popped("gtpu", &udp(2152, &with(&options, &inner))).unwrap();
    assert_eq!(p.data(), inner);
    refused_when_cut("gtpu", &udp(2152, &with(&options, &inner)), 59);
    // An echo request keeps everything.
    let echo = udp(2152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0]);
    let (p, t) = popped("gtpu", &echo).unwrap();
    assert_eq!((p.data(), t.gtpu_msgtype), (&echo[..], 1));
    assert_eq!(p.md.packet_type, PT_ETH);
    // Another version; what is no IP packet; an extension header of no length.
    let no_length = [0x34, 255, 0, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0];
    for wrong in [
        with(&[0x50, 255, 0, 20, 0, 0, 0, 9], &inner),
        with(&[0x30, 255, 0, 20, 0, 0, 0, 9], &[0x15; 20]),
        no_length.to_vec(),
    ] {
        let got = popped("gtpu", &udp(2152, &wrong));
        assert_eq!(got.err(), Some(PopError::Header));
    }
}

#[test]
fn srv6_takes_only_what_has_arrived() {
    let inner = [0x60, 0, 0, 0, 0, 0, 59, 64];
    let routing = |left: u8| {
        let mut r = vec![41, 2, 4, left, 0, 0, 0, 0];
        r.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        r
    };
    let frame = outer6(43, &with(&routing(0), &inner));
    let (p, _) = popped("srv6", &frame).unwrap();
    assert_eq!((p.data(), p.md.packet_type), (&inner[..], IPV6));
    refused_when_cut("srv6", &frame, 79);
    assert_eq!(
        popped("srv6", &outer6(41, &inner)).err(),
        Some(PopError::Header)
    );
    let got = popped("srv6", &outer6(43, &with(&routing(1), &inner)));
    assert_eq!(got.err(), Some(PopError::Header));
    assert_eq!(
        popped("srv6", &outer6(17, &inner)).err(),
        Some(PopError::Header)
    );
}

#[test]
fn vxlan_gpe_tells_what_is_inside() {
    for (next, ty) in [
        (1, IPV4),
        (2, IPV6),
        (3, PT_ETH),
        (4, packet_type(1, 0x894f)),
    ] {
        let frame = udp(4790, &with(&[0xc, 0, 0, next, 0, 0, 8, 0], &ETHERNET));
        let (p, t) = popped("vxlan", &frame).unwrap();
        assert_eq!((p.md.packet_type, t.tun_id.get()), (ty, 8));
    }
    let wrong = udp(4790, &with(&[0xc, 0, 0, 5, 0, 0, 8, 0], &ETHERNET));
    assert_eq!(popped("vxlan", &wrong).err(), Some(PopError::Header));
    let group = udp(
        4789,
        &with(&[0x88, 0x48, 0x12, 0x34, 0, 0, 8, 0], &ETHERNET),
    );
    let (_, t) = popped("vxlan", &group).unwrap();
    assert_eq!((t.gbp_id.get(), t.gbp_flags), (0x1234, 0x48));
}

/// An inner packet of UDP whose checksum is partial, with an Ethernet header or without.
fn datagram(ty: u32) -> Packet {
    let mut f = vec![2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 8, 0];
    f.extend([
        0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    f.extend([0, 1, 0, 2, 0, 13, 0, 0, 1, 2, 3, 4, 5]);
    let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 13];
    let sum = !checksum(&pseudo);
    f[40..42].copy_from_slice(&sum.to_be_bytes());
    let mut p = Packet::from_slice(&f);
    p.offload.checksum = Checksum::Partial {
        start: 34,
        offset: 6,
    };
    (p.l3, p.l4) = (14, 34);
    if ty != PT_ETH {
        p.pull(14);
        (p.l3, p.l4) = (0, 20);
    }
    p.md.packet_type = ty;
    p
}

const ETH: &[u32] = &[PT_ETH];
const IP: &[u32] = &[IPV4];
const BOTH: &[u32] = &[PT_ETH, IPV4];

/// Types, options, and the types of packets that are carried.
const ALL: [(&str, &[(&str, &str)], &[u32]); 18] = [
    ("vxlan", &[("csum", "true")], ETH),
    ("vxlan", &[("exts", "gbp")], ETH),
    ("vxlan", &[("exts", "gpe")], BOTH),
    ("geneve", &[("csum", "true")], ETH),
    ("geneve", &[], ETH),
    ("gre", &[("key", "42")], BOTH),
    (
        "gre",
        &[("key", "42"), ("csum", "true"), ("seq", "true")],
        BOTH,
    ),
    ("ip6gre", &[("key", "42"), ("csum", "true")], BOTH),
    ("erspan", &[("erspan_ver", "1"), ("erspan_idx", "7")], ETH),
    ("erspan", &[("erspan_ver", "flow")], ETH),
    (
        "ip6erspan",
        &[
            ("erspan_ver", "2"),
            ("erspan_dir", "1"),
            ("erspan_hwid", "9"),
        ],
        ETH,
    ),
    ("gtpu", &[("key", "42")], IP),
    ("srv6", &[("srv6_flowlabel", "compute")], IP),
    ("srv6", &[], IP),
    ("gre64", &[("csum", "true")], ETH),
    ("gre64", &[], ETH),
    ("lisp", &[("csum", "true")], IP),
    ("stt", &[], ETH),
];

#[test]
fn what_is_put_on_comes_off() {
    for (kind, list, inside) in ALL {
        for v6 in [false, true] {
            for ty in inside {
                if kind != "srv6" || v6 {
                    on_and_off(kind, list, v6, *ty);
                }
            }
        }
    }
}

/// The header that a port of the kind with these options puts on packets of that type, with what it is built from.
fn header_of(
    kind: &str,
    list: &[(&str, &str)],
    v6: bool,
    packet_type: u32,
) -> (TunnelConfig, FlowTnl, TunnelHeader) {
    let remote = if v6 { "fd00::2" } else { "10.0.0.2" };
    let list: Vec<_> = list
        .iter()
        .copied()
        .chain([("remote_ip", remote)])
        .collect();
    let config = config(kind, &list);
    let ty = types::port(kind).unwrap();
    let mut tnl = FlowTnl {
        tun_id: 42.into(),
        ip_ttl: 64,
        erspan_ver: 2,
        erspan_hwid: 0x3f,
        ..FlowTnl::default()
    };
    if config.csum == Some(true) {
        tnl.flags |= FLOW_TNL_F_CSUM;
    }
    if kind == "geneve" {
        tnl.metadata.len = 8;
        tnl.metadata.opts[..8].copy_from_slice(&[1, 2, 0x80, 1, 9, 9, 9, 9]);
    }
    let src = if v6 {
        tnl.ipv6_dst = remote.parse::<std::net::Ipv6Addr>().unwrap().octets();
        "fd00::1".parse().unwrap()
    } else {
        tnl.ip_dst = 0x0a00_0002.into();
        "10.0.0.1".parse().unwrap()
    };
    let link = Link {
        eth_src: "02:00:00:00:00:01".parse().unwrap(),
        eth_dst: "02:00:00:00:00:02".parse().unwrap(),
        src,
    };
    let inside = Inside {
        tnl: &tnl,
        packet_type,
    };
    let header = header::build(ty, &config, &inside, &link).unwrap();
    (config, tnl, header)
}

fn on_and_off(kind: &str, list: &[(&str, &str)], v6: bool, packet_type: u32) {
    let (config, tnl, header) = header_of(kind, list, v6, packet_type);
    let ty = types::port(kind).unwrap();
    let state = PortState::default();
    for complete in [false, true] {
        let mut want = datagram(packet_type);
        let mut sent = datagram(packet_type);
        if complete {
            // Of a packet of its own the checksum is found by Ethernet's length.
            gso::complete_checksum(&mut sent);
        }
        gso::complete_checksum(&mut want);
        let mut out = Vec::new();
        push::push(sent, &header, Some(&state), |p| out.push(p));
        let mut p = out.pop().unwrap();
        assert!(out.is_empty());
        assert_eq!((p.md.packet_type, p.l3), (PT_ETH, 14));
        gso::complete_checksum(&mut p);
        pop::pop(ty, &mut p).unwrap_or_else(|e| panic!("{kind} {list:?} {v6}: {e}"));
        // STT tells what the sender left open.
        gso::complete_checksum(&mut p);
        assert_eq!(p.data(), want.data(), "{kind} {list:?} {v6}");
        assert_eq!(p.md.packet_type, packet_type);
        let t = p.md.tunnel.get().unwrap();
        if kind != "srv6" {
            assert_eq!(
                t.tun_id.get(),
                if config.out_key_present || kind != "gre" && kind != "ip6gre" {
                    42
                } else {
                    0
                }
            );
        }
        assert_eq!(t.metadata, tnl.metadata);
        assert_eq!(t.ip_ttl, 64);
        if kind.ends_with("erspan") {
            assert!(state.next() > 0);
        }
    }
}

#[test]
fn options_are_refused_in_open_vswitchs_words() {
    for (kind, list, text) in [
        (
            "erspan",
            ("erspan_ver", "3"),
            "t: invalid erspan version: 3",
        ),
        (
            "vxlan",
            ("erspan_hwid", "0x40"),
            "t: invalid erspan hardware ID: 0x40",
        ),
        (
            "bareudp",
            ("payload_type", "bad"),
            "t: bad bad 'payload_type'",
        ),
        (
            "geneve",
            ("packet_type", "legacy_l3"),
            "t: legacy_l3 configured on geneve tunnel that cannot carry L3 traffic",
        ),
        (
            "srv6",
            ("packet_type", "legacy_l2"),
            "t: legacy_l2 configured on srv6 tunnel that cannot carry L2 traffic",
        ),
    ] {
        assert_eq!(refused(kind, &[list]), text);
    }
}

#[test]
fn options_are_shown_where_they_differ_from_defaults() {
    let shown = |kind: &str, list: &[(&str, &str)]| {
        let list: Vec<_> = list
            .iter()
            .copied()
            .chain([("remote_ip", "1.1.1.1")])
            .collect();
        let shown = options::to_options(types::port(kind).unwrap(), &config(kind, &list));
        let pairs: Vec<_> = shown.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(", ")
    };
    let two = [
        ("erspan_ver", "2"),
        ("erspan_dir", "1"),
        ("erspan_hwid", "3f"),
    ];
    assert_eq!(
        shown("erspan", &two),
        "erspan_dir=1, erspan_hwid=0x3f, erspan_ver=2, remote_ip=1.1.1.1"
    );
    assert_eq!(
        shown("erspan", &[("erspan_ver", "flow"), ("erspan_idx", "5")]),
        "erspan_dir=flow, erspan_hwid=flow, erspan_idx=flow, erspan_ver=flow, remote_ip=1.1.1.1"
    );
    assert_eq!(
        shown("gtpu", &[("packet_type", "legacy_l3")]),
        "remote_ip=1.1.1.1"
    );
    assert_eq!(
        shown("gre", &[("packet_type", "legacy_l3"), ("seq", "true")]),
        "packet_type=legacy_l3, remote_ip=1.1.1.1, seq=true"
    );
}
