//! Keys of generated frames beside what an independent parser, etherparse, reads from them.
//!
//! Each frame is taken whole and cut at every length. etherparse reads one header after the other; where Open
//! vSwitch knowingly reads something else, that is a function of [`rules`], and where etherparse has no such header
//! (MPLS, SCTP, IGMP, options of neighbour discovery), it is read there byte by byte.
//!
//! `FUZZ_CASES` says how many frames.

use etherparse::{
    ArpPacketSlice, Ethernet2HeaderSlice, Icmpv4Slice, Icmpv6Slice, IpAuthHeaderSlice,
    Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    SingleVlanHeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};
use ferrovs_packet::buffer::{NO_OFFSET, Packet};
use ferrovs_packet::flow::{Flow, NW_FRAG_ANY, NW_FRAG_LATER, VLAN_CFI};
use ferrovs_packet::parse::{Brief, set_vlan_limit};
use ferrovs_packet::types::{DpPort, MacAddr, eth_type, ip_proto};

/// Where Open vSwitch and etherparse differ.
mod rules {
    use super::*;

    /// Open vSwitch reads no version behind an EtherType that says it; etherparse refuses another.
    pub fn with_version(ip: &[u8], version: u8) -> Vec<u8> {
        let mut ip = ip.to_vec();
        if let Some(first) = ip.first_mut() {
            *first = *first & 0x0f | version << 4;
        }
        ip
    }

    /// Open vSwitch knows two types of tags, and as many tags as it is told; all else is payload of that EtherType.
    pub fn is_tag(ty: u16) -> bool {
        matches!(ty, eth_type::VLAN_8021Q | eth_type::VLAN_8021AD)
    }

    /// What is no EtherType is a length. Of 802.2 only SNAP without an organisation has an EtherType.
    pub fn snap(payload: &[u8]) -> (u16, usize) {
        match payload.first_chunk::<8>() {
            Some([0xaa, 0xaa, 3, 0, 0, 0, high, low]) => {
                let ty = u16::from_be_bytes([*high, *low]);
                (if ty >= 0x600 { ty } else { eth_type::NOT_ETH }, 8)
            }
            _ => (eth_type::NOT_ETH, 0),
        }
    }

    /// etherparse reads no labels. The key has room for three, and the stack ends with the bottom or the frame.
    pub fn mpls(f: &mut Flow, mut payload: &[u8]) -> usize {
        let (mut n, mut size) = (0, 0);
        while let Some((lse, rest)) = payload.split_first_chunk::<4>() {
            if n < 3 {
                f.mpls_lse[n] = u32::from_be_bytes(*lse).into();
                n += 1;
            }
            size += 4;
            payload = rest;
            if lse[2] & 1 == 1 {
                break;
            }
        }
        size
    }

    /// RFC 8200: offset 13 bits, reserved 2, more fragments 1. etherparse takes the bits from the wrong end of the word;
    /// for Open vSwitch the reserved ones make a fragment too.
    pub fn frag_of_header(header: &Ipv6FragmentHeaderSlice<'_>) -> u8 {
        let h = header.slice();
        match u16::from_be_bytes([h[2], h[3]]) {
            0 => 0,
            word if word >> 3 == 0 => NW_FRAG_ANY,
            _ => NW_FRAG_ANY | NW_FRAG_LATER,
        }
    }

    /// An authentication header of the impossible length 0 is skipped as one of 8 bytes; etherparse refuses it.
    pub fn empty_authentication(header: &[u8]) -> Option<(u8, usize)> {
        (header.len() >= 8 && header[1] == 0).then(|| (header[0], 8))
    }

    /// Open vSwitch has the reserved bits of TCP among its flags.
    pub fn reserved_of_tcp(tcp: &TcpHeaderSlice<'_>) -> u16 {
        u16::from(tcp.slice()[12] & 0x0e) << 8
    }

    /// etherparse reads no SCTP. Its header has 12 bytes.
    pub fn sctp(l4: &[u8]) -> Option<(u16, u16)> {
        let h: &[u8; 12] = l4.first_chunk()?;
        Some((
            u16::from_be_bytes([h[0], h[1]]),
            u16::from_be_bytes([h[2], h[3]]),
        ))
    }

    /// etherparse reads no IGMP: type, code and group.
    pub fn igmp(l4: &[u8]) -> Option<(u8, u8, u32)> {
        let h: &[u8; 8] = l4.first_chunk()?;
        Some((h[0], h[1], u32::from_be_bytes([h[4], h[5], h[6], h[7]])))
    }

    /// etherparse wants more of ICMP's timestamps than the 8 bytes that every message has.
    pub fn is_timestamp(l4: &[u8]) -> bool {
        l4.len() >= 8 && matches!(l4[..2], [13 | 14, 0])
    }

    /// Only Ethernet addresses for IPv4 addresses are read of ARP, and an operation that the key has no room for is 0.
    pub fn arp(f: &mut Flow, arp: &ArpPacketSlice<'_>) {
        let op = arp.operation().0;
        f.nw_proto = u8::try_from(op).unwrap_or(0);
    }

    /// etherparse reads no options of neighbour discovery. What follows a bad length is not read; an address that
    /// comes twice leaves neither addresses nor target.
    pub fn neighbour_discovery(f: &mut Flow, message: &Icmpv6Slice<'_>) {
        let l4 = message.slice();
        if !matches!(message.type_u8(), 135 | 136) || message.code_u8() != 0 {
            return;
        }
        f.igmp_group_ip4 = u32::from_be_bytes(message.bytes5to8()).into();
        let Some(target) = l4.get(8..24) else { return };
        let mut addresses = [MacAddr::ZERO; 2];
        let mut last = 0;
        let mut at = 24;
        while at + 8 <= l4.len() {
            let (kind, size) = (l4[at], usize::from(l4[at + 1]) * 8);
            if size == 0 || at + size > l4.len() {
                break;
            }
            if size == 8 && (kind == 1 || kind == 2) {
                let address = &mut addresses[usize::from(kind) - 1];
                if *address != MacAddr::ZERO {
                    return;
                }
                last = kind;
                address.0.copy_from_slice(&l4[at + 2..at + 8]);
            }
            at += size;
        }
        f.nd_target.copy_from_slice(target);
        [f.arp_sha, f.arp_tha] = addresses;
        // The type of the last option is kept where TCP's flags are.
        f.tcp_flags = u16::from(last).into();
    }
}

/// The key and the offsets of layer 3, layer 4 and the padding's size.
struct Read {
    flow: Flow,
    l3: usize,
    l4: usize,
    pad: usize,
}

const NONE: usize = NO_OFFSET as usize;

fn independent(frame: &[u8], vlan_limit: usize) -> Read {
    let mut r = Read {
        flow: Flow {
            in_port: 7,
            ..Flow::default()
        },
        l3: NONE,
        l4: NONE,
        pad: 0,
    };
    let Ok(eth) = Ethernet2HeaderSlice::from_slice(frame) else {
        return r;
    };
    let f = &mut r.flow;
    (f.dl_dst, f.dl_src) = (MacAddr(eth.destination()), MacAddr(eth.source()));
    let (mut ty, mut at) = (eth.ether_type().0, 14);
    for tag in &mut f.vlans[..vlan_limit] {
        if !rules::is_tag(ty) {
            break;
        }
        let Ok(vlan) = SingleVlanHeaderSlice::from_slice(&frame[at..]) else {
            break;
        };
        let pcp = u16::from(vlan.priority_code_point().value());
        // Where the tag has its drop eligible indicator, the key says that there is a tag.
        let tci = pcp << 13 | vlan.vlan_identifier().value();
        (tag.tpid, tag.tci) = (ty.into(), (tci | VLAN_CFI).into());
        (ty, at) = (vlan.ether_type().0, at + 4);
    }
    if ty < 0x600 {
        let (inside, size) = rules::snap(&frame[at..]);
        (ty, at) = (inside, at + size);
    }
    f.dl_type = ty.into();
    if matches!(ty, eth_type::MPLS | eth_type::MPLS_MCAST) {
        at += rules::mpls(f, &frame[at..]);
    }
    r.l3 = at;
    match ty {
        eth_type::IP => ipv4(&mut r, &frame[at..]),
        eth_type::IPV6 => ipv6(&mut r, &frame[at..]),
        eth_type::ARP | eth_type::RARP => arp(&mut r.flow, &frame[at..]),
        _ => {}
    }
    r
}

fn ipv4(r: &mut Read, bytes: &[u8]) {
    let bytes = rules::with_version(bytes, 4);
    let Ok(ip) = Ipv4HeaderSlice::from_slice(&bytes) else {
        return;
    };
    let (header, total) = (ip.slice().len(), usize::from(ip.total_len()));
    if ip.payload_len().is_err() || total > bytes.len() {
        return;
    }
    let f = &mut r.flow;
    (r.l4, r.pad) = (r.l3 + header, bytes.len() - total);
    f.nw_src = u32::from(ip.source_addr()).into();
    f.nw_dst = u32::from(ip.destination_addr()).into();
    f.nw_tos = ip.dcp().value() << 2 | ip.ecn().value();
    (f.nw_ttl, f.nw_proto) = (ip.ttl(), ip.protocol().0);
    if ip.is_fragmenting_payload() {
        f.nw_frag = NW_FRAG_ANY;
    }
    if ip.fragments_offset().value() > 0 {
        f.nw_frag |= NW_FRAG_LATER;
        return;
    }
    transport(f, &bytes[header..total], false);
}

fn ipv6(r: &mut Read, bytes: &[u8]) {
    let bytes = rules::with_version(bytes, 6);
    let Ok(ip) = Ipv6HeaderSlice::from_slice(&bytes) else {
        return;
    };
    let end = 40 + usize::from(ip.payload_length());
    if end > bytes.len() {
        return;
    }
    let f = &mut r.flow;
    r.pad = bytes.len() - end;
    (f.ipv6_src, f.ipv6_dst) = (ip.source(), ip.destination());
    let (mut proto, mut rest, mut frag) = (ip.next_header().0, &bytes[40..end], 0);
    // A chain that does not fit leaves the addresses, and nothing else.
    loop {
        let (next, size) = match proto {
            0 | 43 | 60 => match Ipv6RawExtHeaderSlice::from_slice(rest) {
                Ok(h) => (h.next_header().0, h.slice().len()),
                Err(_) => return,
            },
            51 => match (
                rules::empty_authentication(rest),
                IpAuthHeaderSlice::from_slice(rest),
            ) {
                (Some(empty), _) => empty,
                (None, Ok(h)) => (h.next_header().0, h.slice().len()),
                (None, Err(_)) => return,
            },
            44 => {
                let Ok(h) = Ipv6FragmentHeaderSlice::from_slice(rest) else {
                    return;
                };
                let of_header = rules::frag_of_header(&h);
                if of_header != 0 {
                    frag = of_header;
                }
                if of_header & NW_FRAG_LATER != 0 {
                    // What a later fragment holds is of no protocol.
                    rest = &rest[8..];
                    break;
                }
                (h.next_header().0, 8)
            }
            _ => break,
        };
        (proto, rest) = (next, &rest[size..]);
    }
    r.l4 = r.l3 + end - rest.len();
    f.ipv6_label = ip.flow_label().value().into();
    (f.nw_tos, f.nw_ttl) = (ip.traffic_class(), ip.hop_limit());
    (f.nw_proto, f.nw_frag) = (proto, frag);
    if frag & NW_FRAG_LATER == 0 {
        transport(f, rest, true);
    }
}

fn arp(f: &mut Flow, bytes: &[u8]) {
    let Ok(arp) = ArpPacketSlice::from_slice(bytes) else {
        return;
    };
    let sizes = (arp.hw_addr_size(), arp.proto_addr_size());
    if arp.hw_addr_type().0 != 1 || arp.proto_addr_type().0 != eth_type::IP || sizes != (6, 4) {
        return;
    }
    rules::arp(f, &arp);
    let ip = |a: &[u8]| u32::from_be_bytes(a.try_into().unwrap());
    let mac = |a: &[u8]| MacAddr(a.try_into().unwrap());
    f.nw_src = ip(arp.sender_protocol_addr()).into();
    f.nw_dst = ip(arp.target_protocol_addr()).into();
    (f.arp_sha, f.arp_tha) = (mac(arp.sender_hw_addr()), mac(arp.target_hw_addr()));
}

fn transport(f: &mut Flow, l4: &[u8], v6: bool) {
    let (src, dst) = match f.nw_proto {
        ip_proto::TCP => {
            let Ok(tcp) = TcpHeaderSlice::from_slice(l4) else {
                return;
            };
            let bits = [
                tcp.fin(),
                tcp.syn(),
                tcp.rst(),
                tcp.psh(),
                tcp.ack(),
                tcp.urg(),
                tcp.ece(),
                tcp.cwr(),
                tcp.ns(),
            ];
            let flags: u16 = bits
                .iter()
                .enumerate()
                .map(|(i, b)| u16::from(*b) << i)
                .sum();
            f.tcp_flags = (flags | rules::reserved_of_tcp(&tcp)).into();
            (tcp.source_port(), tcp.destination_port())
        }
        ip_proto::UDP => match UdpHeaderSlice::from_slice(l4) {
            Ok(udp) => (udp.source_port(), udp.destination_port()),
            Err(_) => return,
        },
        ip_proto::SCTP => match rules::sctp(l4) {
            Some(ports) => ports,
            None => return,
        },
        ip_proto::ICMP if rules::is_timestamp(l4) => (l4[0].into(), l4[1].into()),
        ip_proto::ICMP => match Icmpv4Slice::from_slice(l4) {
            Ok(icmp) => (icmp.type_u8().into(), icmp.code_u8().into()),
            Err(_) => return,
        },
        ip_proto::ICMPV6 => match Icmpv6Slice::from_slice(l4) {
            Ok(icmp) => {
                // Over IPv4 it has a type and a code, and no neighbours.
                if v6 {
                    rules::neighbour_discovery(f, &icmp);
                }
                (icmp.type_u8().into(), icmp.code_u8().into())
            }
            Err(_) => return,
        },
        ip_proto::IGMP => match rules::igmp(l4) {
            Some((kind, code, group)) => {
                f.igmp_group_ip4 = group.into();
                (kind.into(), code.into())
            }
            None => return,
        },
        _ => return,
    };
    (f.tp_src, f.tp_dst) = (src.into(), dst.into());
}

/// xorshift64*: the same frames each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

fn frame(r: &mut Random) -> Vec<u8> {
    let mut f = r.bytes(12);
    for _ in 0..r.one(&[0, 0, 0, 1, 1, 2, 3]) {
        f.extend(r.one(&[0x8100u16, 0x8100, 0x88a8, 0x9100]).to_be_bytes());
        f.extend(r.bytes(2));
    }
    let mut ty = r.one(&[
        0x800u16, 0x800, 0x800, 0x86dd, 0x86dd, 0x86dd, 0x806, 0x8035, 0x8847, 0x8848, 0x9000,
    ]);
    if r.below(16) == 0 {
        // 802.2, with SNAP or without.
        f.extend((r.below(0x600) as u16).to_be_bytes());
        f.extend(r.one(&[
            [0xaa, 0xaa, 3, 0, 0, 0],
            [0xaa, 0xaa, 3, 0, 0, 9],
            [0x42, 0x42, 3, 0, 0, 0],
        ]));
        if r.below(8) == 0 {
            ty = r.below(0x600) as u16;
        }
    }
    f.extend(ty.to_be_bytes());
    match ty {
        0x800 => ipv4_packet(r, &mut f),
        0x86dd => ipv6_packet(r, &mut f),
        0x806 | 0x8035 => {
            f.extend([0, 1, 8, 0, 6, 4, 0]);
            f.extend(r.bytes(21));
            let at = f.len() - 28 + r.below(7);
            if r.below(6) == 0 {
                f[at] = r.next() as u8;
            }
        }
        0x8847 | 0x8848 => {
            for _ in 0..r.below(5) {
                let mut lse = r.bytes(4);
                lse[2] &= if r.below(4) == 0 { 0xff } else { 0xfe };
                f.extend(lse);
            }
            f.extend(r.bytes(20));
        }
        _ => f.extend(r.bytes(30)),
    }
    if r.below(4) == 0 {
        let n = r.below(20);
        f.extend(r.bytes(n));
    }
    // Something is not as it should be.
    if r.below(6) == 0 {
        let at = r.below(f.len());
        f[at] = r.one(&[0, 1, 0xff, 0x45, 0x60, 0x7f]);
    }
    f
}

fn ipv4_packet(r: &mut Random, f: &mut Vec<u8>) {
    let proto = r.one(&[6u8, 6, 6, 17, 17, 1, 132, 2, 58, 47, 51]);
    let options = r.one(&[0, 0, 0, 1, 4, 10]);
    let l4 = l4(r, proto);
    let total = 20 + options * 4 + l4.len();
    f.extend([0x45 + options as u8, r.next() as u8]);
    f.extend((total as u16).to_be_bytes());
    f.extend(r.bytes(2));
    f.extend(
        r.one(&[0u16, 0, 0x4000, 0x2000, 0x2001, 5, 0x8000])
            .to_be_bytes(),
    );
    f.extend([r.next() as u8, proto]);
    f.extend(r.bytes(10 + options * 4));
    f.extend(l4);
}

fn ipv6_packet(r: &mut Random, f: &mut Vec<u8>) {
    let proto = r.one(&[6u8, 6, 17, 58, 58, 58, 132, 1, 59, 135]);
    let mut chain: Vec<u8> = (0..r.one(&[0, 0, 0, 1, 2, 4]))
        .map(|_| r.one(&[0u8, 43, 44, 51, 60]))
        .collect();
    chain.push(proto);
    let mut payload = Vec::new();
    for pair in chain.windows(2) {
        let size = r.one(&[0usize, 0, 1, 2]);
        payload.extend([pair[1], size as u8]);
        payload.extend(match pair[0] {
            44 => {
                let mut rest = r.one(&[0u16, 0, 1, 8, 9, 6]).to_be_bytes().to_vec();
                rest.extend(r.bytes(4));
                rest
            }
            51 => r.bytes(size * 4 + 6),
            _ => r.bytes(size * 8 + 6),
        });
    }
    payload.extend(l4(r, proto));
    f.push(0x60 | r.next() as u8 & 0x0f);
    f.extend(r.bytes(3));
    f.extend((payload.len() as u16).to_be_bytes());
    f.extend([chain[0], r.next() as u8]);
    f.extend(r.bytes(32));
    f.extend(payload);
}

fn l4(r: &mut Random, proto: u8) -> Vec<u8> {
    let mut l4 = r.bytes(8);
    match proto {
        6 => {
            let options = r.one(&[0, 0, 1, 3, 10]);
            l4.extend(r.bytes(12 + options * 4));
            l4[12] = (5 + options as u8) << 4 | l4[12] & 0x0f;
        }
        132 => l4.extend(r.bytes(4)),
        1 => l4[..2].copy_from_slice(&[r.one(&[0, 8, 3, 13, 14]), r.one(&[0, 0, 1])]),
        58 => {
            l4[..2].copy_from_slice(&[r.one(&[128, 135, 135, 136]), r.one(&[0, 0, 0, 1])]);
            if r.below(3) == 0 {
                l4[4..8].fill(0);
            }
            l4.extend(r.bytes(16));
            for _ in 0..r.below(4) {
                let size = r.one(&[1u8, 1, 1, 2, 0]);
                l4.extend([r.one(&[1, 2, 5]), size]);
                l4.extend(r.bytes(usize::from(size.max(1)) * 8 - 2));
            }
        }
        _ => {}
    }
    let n = r.one(&[0, 0, 3, 12]);
    l4.extend(r.bytes(n));
    l4
}

fn compare(frame: &[u8], vlan_limit: usize) {
    let mut packet = Packet::from_slice(frame);
    packet.md.in_port = DpPort(7);
    let flow = Flow::from_packet(&mut packet);
    let (l3, l4, pad) = (packet.l3.into(), packet.l4.into(), packet.l2_pad.into());
    let got = Read { flow, l3, l4, pad };
    let want = independent(frame, vlan_limit);
    let words = got.flow.words().iter().zip(want.flow.words());
    let differ: Vec<_> = words.enumerate().filter(|(_, (a, b))| a != b).collect();
    let layers = |r: &Read| (r.l3, r.l4, r.pad);
    assert!(
        differ.is_empty() && layers(&got) == layers(&want),
        "{frame:02x?} of {} bytes, {vlan_limit} tags\nwords of the key that differ {differ:x?}, layers {:?} {:?}",
        frame.len(),
        layers(&got),
        layers(&want)
    );
    // Ordinary frames are read in one piece, by themselves or behind metadata; that of a connection over IPv6 has all
    // frames read header by header. All ways read the same.
    for connection in [false, true] {
        let mut packet = Packet::from_slice(frame);
        packet.md.in_port = DpPort(7);
        packet.md.recirc_id = 5;
        if connection {
            packet.md.ct_state = 1;
            (packet.md.ct_orig.proto, packet.md.ct_orig.ipv6) = (6, true);
        }
        let mut other = Flow::from_packet(&mut packet);
        assert_eq!(other.recirc_id, 5);
        (other.recirc_id, other.ct_state, other.ct_nw_proto) = (0, 0, 0);
        assert!(other == flow, "{frame:02x?} of a connection: {connection}");
        let layers = (packet.l3.into(), packet.l4.into(), packet.l2_pad.into());
        assert_eq!(layers, (got.l3, got.l4, got.pad));
    }
    // The brief look that the simplest flows take is the same as the whole one.
    let mut again = Packet::from_slice(frame);
    if let Some((_, flags)) = Brief::of_frame(&mut again) {
        let offsets = (again.l3, again.l4, again.l2_pad);
        assert_eq!(offsets, (packet.l3, packet.l4, packet.l2_pad));
        assert_eq!(flags, flow.tcp_flags.get() & 0xfff, "{frame:02x?}");
    }
}

#[test]
fn keys_are_what_an_independent_parser_reads_whole_or_cut_anywhere() {
    let cases = std::env::var("FUZZ_CASES").map_or(1000, |n| n.parse().unwrap());
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    for vlan_limit in [1, 2] {
        set_vlan_limit(vlan_limit);
        for _ in 0..cases / 2 {
            let frame = frame(&mut r);
            for len in 0..=frame.len() {
                compare(&frame[..len], vlan_limit);
            }
        }
    }
}
