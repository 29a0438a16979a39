//! Translation of whole packets, both ways.

use super::*;

fn v4(a: [u8; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    out[12..].copy_from_slice(&a);
    out
}

const X: [u8; 4] = [10, 1, 1, 1];

fn nat(kind: NatKind, addr: [u8; 4], port: u16) -> Nat {
    Nat {
        kind,
        ip_min: v4(addr),
        ip_max: v4(addr),
        port_min: port,
        port_max: port,
        ..Nat::default()
    }
}

fn with(nat: Nat, ct: Ct) -> Ct {
    Ct {
        nat: Some(nat),
        ..ct
    }
}

#[test]
fn a_source_is_hidden_and_found_again() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    let ct = with(nat(NatKind::Src, X, 5000), commit());
    let back = with(Nat::default(), look());
    let p = lab.track(udp(a, b, b"hello"), &ct);
    assert_eq!(ends(&p), ((X, 5000), b));
    assert_eq!(p.md.ct_state, CS_NEW | CS_SRC_NAT | CS_TRACKED);
    let p = lab.track(udp(b, (X, 5000), b"you"), &back);
    assert_eq!(ends(&p), (b, a));
    let answered = CS_ESTABLISHED | CS_REPLY_DIR | CS_DST_NAT;
    assert_eq!(p.md.ct_state, answered | CS_TRACKED);
    // Only where the action says so.
    let p = lab.track(udp(b, (X, 5000), b"you"), &look());
    assert_eq!(ends(&p), (b, (X, 5000)));
    // Errors name the packet that their receiver sent.
    let quote = udp((X, 5000), b, b"hello").l3_data()[..28].to_vec();
    let p = lab.track(icmp([9, 9, 9, 9], X, 3, 0, &quote), &back);
    assert_eq!((ends(&p).1).0, A);
    let inner = &p.l4_data()[8..];
    assert_eq!(
        (&inner[12..16], &inner[20..22]),
        (&A[..], &1000u16.to_be_bytes()[..])
    );
    assert_eq!(checksum(&inner[..20]), 0);
    let state = CS_RELATED | CS_REPLY_DIR | CS_DST_NAT | CS_TRACKED;
    assert_eq!(p.md.ct_state, state);
    // What was translated is not translated again in the zone.
    let p = lab.track(udp(a, b, b"hello"), &ct);
    let p = lab.track(p, &ct);
    assert_eq!(ends(&p), ((X, 5000), b));
}

#[test]
fn a_destination_is_replaced_and_put_back() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 80));
    let ct = with(nat(NatKind::Dst, X, 8080), commit());
    let p = lab.track(tcp(a, b, SYN, 1, 0, b""), &ct);
    assert_eq!(ends(&p), (a, (X, 8080)));
    let back = with(Nat::default(), look());
    let p = lab.track(tcp((X, 8080), a, SYN | ACK, 9, 2, b""), &back);
    assert_eq!(ends(&p), (b, a));
    assert_eq!(p.md.ct_state & (CS_SRC_NAT | CS_DST_NAT), CS_SRC_NAT);
    // Somebody else's connection to the same place moves its source.
    let p = lab.track(tcp(a, ([10, 0, 0, 9], 80), SYN, 1, 0, b""), &ct);
    assert_eq!(ends(&p), ((A, 1001), (X, 8080)));
}

#[test]
fn identifiers_of_queries_are_translated_as_ports_are() {
    let lab = Lab::new();
    let ct = with(nat(NatKind::Src, X, 5000), commit());
    let p = lab.track(icmp(A, B, 8, 7, b"data"), &ct);
    assert_eq!(ends(&p), ((X, 5000), (B, 5000)));
    let p = lab.track(icmp(B, X, 0, 5000, b"data"), &ct);
    assert_eq!(ends(&p), ((B, 7), (A, 7)));
}

#[test]
fn a_full_range_refuses_and_lets_the_packet_go_on() {
    let lab = Lab::new();
    let ct = with(nat(NatKind::Src, X, 5000), commit());
    lab.track(udp((A, 1), (B, 53), b""), &ct);
    let p = lab.track(udp((A, 2), (B, 53), b""), &ct);
    assert_eq!((p.md.ct_state, ends(&p).0), (CS_NEW | CS_TRACKED, (A, 2)));
    assert_eq!((lab.entries().len(), lab.tracker.count()), (1, 1));
    // The port is free for another destination, and once the connection is gone.
    let p = lab.track(udp((A, 2), ([10, 0, 0, 3], 53), b""), &ct);
    assert_eq!(ends(&p).0, (X, 5000));
    lab.tracker.flush(&CtFilter::default());
    let p = lab.track(udp((A, 2), (B, 53), b""), &ct);
    assert_eq!(ends(&p).0, (X, 5000));
}

#[test]
fn a_port_is_free_when_its_connection_has_expired() {
    let mut lab = Lab::new();
    let ct = with(nat(NatKind::Src, X, 5000), commit());
    lab.track(udp((A, 1), (B, 53), b""), &ct);
    lab.wait(61);
    // Nothing has been swept.
    let p = lab.track(udp((A, 2), (B, 53), b""), &ct);
    assert_eq!((ends(&p).0, lab.tracker.count()), ((X, 5000), 1));
    // A name that a connection without translation had is free likewise.
    lab.wait(61);
    lab.track(udp((X, 5000), (B, 53), b""), &commit());
    lab.wait(61);
    let p = lab.track(udp((A, 2), (B, 53), b""), &ct);
    assert_eq!((ends(&p).0, lab.tracker.count()), ((X, 5000), 1));
}

#[test]
fn invalid_packets_of_a_connection_are_translated() {
    let lab = Lab::new();
    let ct = with(nat(NatKind::Src, X, 5000), commit());
    lab.track(tcp((A, 1), (B, 80), SYN, 100, 0, b""), &ct);
    let p = lab.track(tcp((A, 1), (B, 80), SYN | FIN, 101, 0, b""), &ct);
    assert_eq!(p.md.ct_state, CS_INVALID | CS_SRC_NAT | CS_TRACKED);
    assert_eq!(ends(&p).0, (X, 5000));
}

#[test]
fn a_connection_that_expired_gives_its_translation_back() {
    let mut lab = Lab::new();
    let ct = with(nat(NatKind::Src, X, 0), commit());
    for _ in 0..3 {
        let p = lab.track(udp((A, 4000), (B, 53), b""), &ct);
        assert_eq!(ends(&p).0, (X, 4000));
        lab.wait(100);
    }
}

#[test]
fn addresses_of_version_6_are_translated() {
    let lab = Lab::new();
    let frame = |src: u8, dst: u8, sp: u16, dp: u16| {
        let (mut s, mut d) = ([0; 16], [0; 16]);
        (s[0], s[15], d[0], d[15]) = (0xfd, src, 0xfd, dst);
        let mut l4 = [sp.to_be_bytes(), dp.to_be_bytes(), [0, 9], [0, 0]].concat();
        l4.push(7);
        let sum = ferrovs_packet::checksum::pseudo_v6(&s, &d, 17, 9).add(&l4);
        l4[6..8].copy_from_slice(&sum.finish().to_be_bytes());
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, 17, 64]);
        frame.extend(s.iter().chain(&d));
        frame.extend(l4);
        let mut packet = Packet::from_slice(&frame);
        MiniflowBuf::new().extract(&mut packet);
        packet
    };
    let mut to = [0; 16];
    (to[0], to[15]) = (0xfd, 9);
    let nat = Nat {
        kind: NatKind::Src,
        ipv6: true,
        ip_min: to,
        ip_max: to,
        ..Nat::default()
    };
    let p = lab.track(frame(1, 2, 4000, 53), &with(nat, commit()));
    // The checksum holds, since the packet is the one with that source.
    assert_eq!(p.data(), frame(9, 2, 4000, 53).data());
    let back = with(Nat::default(), look());
    let p = lab.track(frame(2, 9, 53, 4000), &back);
    assert_eq!(p.data(), frame(2, 1, 53, 4000).data());
}
