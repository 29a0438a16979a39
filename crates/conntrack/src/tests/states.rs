//! States of connections as packets show them.

use super::*;

const EST: u8 = CS_ESTABLISHED;
const RPL: u8 = CS_REPLY_DIR;

#[test]
fn datagrams_make_a_connection_that_both_sides_keep_up() {
    let mut lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    assert_eq!(lab.state(udp(a, b, b""), &look()), CS_NEW);
    assert!(lab.entries().is_empty());
    assert_eq!(lab.state(udp(a, b, b""), &commit()), CS_NEW);
    assert_eq!(lab.only().timeout_s, 60);
    assert_eq!(lab.state(udp(a, b, b""), &look()), CS_NEW);
    assert_eq!(lab.state(udp(b, a, b""), &look()), EST | RPL);
    assert_eq!(lab.state(udp(a, b, b""), &look()), EST);
    assert_eq!(lab.only().timeout_s, 30);
    lab.wait(29);
    assert_eq!(lab.state(udp(a, b, b""), &look()), EST);
    lab.wait(30);
    assert!(lab.entries().is_empty());
    assert_eq!(lab.state(udp(b, a, b""), &look()), CS_NEW);
    // Its place is given back when a packet comes, or the sweep.
    assert_eq!(lab.tracker.count(), 0);
}

#[test]
fn zones_know_nothing_of_each_other() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    lab.state(udp(a, b, b""), &commit());
    let other = Ct {
        zone: 6,
        ..Ct::default()
    };
    assert_eq!(lab.state(udp(b, a, b""), &other), CS_NEW);
    assert_eq!(lab.state(udp(b, a, b""), &look()), EST | RPL);
    let mut n = 0;
    lab.tracker.dump(Some(6), lab.now, &mut |_| n += 1);
    assert_eq!(n, 0);
}

#[test]
fn a_tcp_connection_lives_and_its_place_is_used_again() {
    let mut lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 80));
    let send = |lab: &Lab, reply: bool, flags, seq, ack, ct: &Ct| {
        let (src, dst) = if reply { (b, a) } else { (a, b) };
        lab.state(tcp(src, dst, flags, seq, ack, b""), ct)
    };
    assert_eq!(send(&lab, false, SYN, 100, 0, &commit()), CS_NEW);
    assert_eq!(send(&lab, true, SYN | ACK, 500, 101, &look()), EST | RPL);
    assert_eq!(send(&lab, false, ACK, 101, 501, &look()), EST);
    assert_eq!(lab.only().timeout_s, 86_400);
    let states = |lab: &Lab| lab.only().tcp.unwrap().map(|p| p.state);
    assert_eq!(states(&lab), [TcpState::Established; 2]);
    // Far outside of the window.
    let far = tcp(a, b, ACK | PSH, 10_000_101, 501, b"x");
    let far = lab.track(far, &look());
    assert_eq!(far.md.ct_state, CS_INVALID | CS_TRACKED);
    lab.tracker.check_tcp_sequence(false);
    assert_eq!(send(&lab, false, ACK, 101, 501, &look()), EST);
    lab.tracker.check_tcp_sequence(true);
    send(&lab, false, FIN | ACK, 101, 501, &look());
    send(&lab, true, FIN | ACK, 501, 102, &look());
    send(&lab, false, ACK, 102, 502, &look());
    assert_eq!(states(&lab), [TcpState::FinWait2; 2]);
    assert_eq!(send(&lab, false, SYN, 9000, 0, &commit()), CS_NEW);
    assert_eq!(states(&lab), [TcpState::SynSent, TcpState::Closed]);
    lab.wait(31);
    assert!(lab.entries().is_empty());
}

#[test]
fn queries_and_errors_belong_to_connections() {
    let lab = Lab::new();
    assert_eq!(lab.state(icmp(A, B, 8, 7, b""), &commit()), CS_NEW);
    assert_eq!(lab.state(icmp(B, A, 0, 7, b""), &look()), EST | RPL);
    for id in [8, 0] {
        let unasked = icmp(B, A, 0, id, b"");
        assert_eq!(lab.state(unasked, &look()), CS_INVALID, "{id}");
    }
    let (a, b) = ((A, 1000), (B, 53));
    lab.state(udp(a, b, b""), &commit());
    let quote = |p: Packet| p.l3_data()[..28].to_vec();
    let error = icmp([9, 9, 9, 9], A, 3, 0, &quote(udp(a, b, b"payload")));
    assert_eq!(lab.state(error, &look()), CS_RELATED | RPL);
    // About nothing that is known, and about a packet of somebody else.
    let error = icmp(B, A, 3, 0, &quote(udp((A, 1), b, b"")));
    assert_eq!(lab.state(error, &look()), CS_INVALID);
    let error = icmp([9, 9, 9, 9], [10, 0, 0, 7], 3, 0, &quote(udp(a, b, b"")));
    assert_eq!(lab.state(error, &look()), CS_INVALID);
    // Neither query nor error.
    assert_eq!(lab.state(icmp(A, B, 9, 7, b""), &commit()), CS_INVALID);
}

#[test]
fn what_cannot_be_told_apart_is_invalid() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    let broken = |at: usize| {
        let mut p = udp(a, b, b"payload");
        p.data_mut()[at] ^= 1;
        lab.state(p, &commit())
    };
    // Header checksum, a fragment, transport checksum, length.
    for at in [24, 20, 40, 42, 39] {
        assert_eq!(broken(at), CS_INVALID, "{at}");
    }
    // Nobody has port 0.
    for (src, dst) in [((A, 0), b), (a, (B, 0))] {
        assert_eq!(lab.state(udp(src, dst, b""), &commit()), CS_INVALID);
        let syn = tcp(src, dst, SYN, 1, 0, b"");
        assert_eq!(lab.state(syn, &commit()), CS_INVALID);
    }
    let mut not_ip = Packet::from_slice(&[2; 60]);
    MiniflowBuf::new().extract(&mut not_ip);
    assert_eq!(lab.state(not_ip, &commit()), CS_INVALID);
    assert_eq!(lab.state(ip(A, B, 47, &[1, 2]), &commit()), CS_NEW);
    assert_eq!(lab.state(ip(B, A, 47, &[]), &commit()), EST | RPL);
    assert_eq!(
        lab.state(tcp(a, b, SYN | ACK, 1, 1, b""), &commit()),
        CS_INVALID
    );
}

#[test]
fn marks_and_labels_stay_with_the_connection() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    let marked = |value, mask| Ct {
        mark: Some(Masked { value, mask }),
        ..commit()
    };
    let p = lab.track(udp(a, b, b""), &marked(0x11, u32::MAX));
    assert_eq!((p.md.ct_mark, p.md.ct_zone), (0x11, 5));
    lab.track(udp(b, a, b""), &marked(0x2f, 0xf0));
    let mut label = commit();
    let (mut value, mut mask) = ([0; 16], [0; 16]);
    (value[15], mask[15]) = (3, 1);
    label.labels = Some(Masked { value, mask });
    lab.track(udp(a, b, b""), &label);
    let p = lab.track(udp(b, a, b""), &look());
    assert_eq!((p.md.ct_mark, p.md.ct_label[15]), (0x21, 1));
    // Replies show the tuple of the one who began.
    let o = p.md.ct_orig;
    assert_eq!(
        (&o.src[..4], o.tp_src, o.tp_dst, o.proto),
        (&A[..], 1000, 53, 17)
    );
    assert_eq!((lab.only().mark, lab.only().labels[15]), (0x21, 1));
}

#[test]
fn a_packet_that_comes_again_counts_once() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    let p = lab.track(udp(a, b, b""), &commit());
    let p = lab.track(p, &look());
    // As a second packet it would have another timeout.
    assert_eq!(p.md.ct_state, CS_NEW | CS_TRACKED);
    let p = lab.track(udp(b, a, b""), &look());
    let p = lab.track(p, &commit());
    assert_eq!(p.md.ct_state, EST | RPL | CS_TRACKED);
    // In another zone it is another packet.
    let other = Ct {
        zone: 6,
        ..Ct::default()
    };
    assert_eq!(lab.track(p, &other).md.ct_state, CS_NEW | CS_TRACKED);
}

#[test]
fn what_is_invalid_in_one_zone_may_be_valid_in_another() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 80));
    let other = Ct {
        zone: 6,
        ..commit()
    };
    lab.state(tcp(a, b, SYN, 100, 0, b""), &commit());
    lab.state(tcp(b, a, SYN | ACK, 500, 101, b""), &look());
    lab.state(tcp(a, b, ACK, 101, 501, b""), &look());
    let p = lab.track(tcp(a, b, ACK | PSH, 10_000_101, 501, b"x"), &look());
    assert_eq!(p.md.ct_state, CS_INVALID | CS_TRACKED);
    let p = lab.track(p, &other);
    assert_eq!(p.md.ct_state, CS_NEW | CS_TRACKED);
}

#[test]
fn force_begins_anew_from_the_other_side() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 53));
    lab.state(udp(a, b, b""), &commit());
    let force = Ct {
        force: true,
        ..commit()
    };
    assert_eq!(lab.state(udp(a, b, b""), &force), CS_NEW);
    assert_eq!(lab.only().orig.src, std::net::IpAddr::from(A));
    assert_eq!(lab.state(udp(b, a, b""), &force), CS_NEW);
    assert_eq!(lab.only().orig.src, std::net::IpAddr::from(B));
}

#[test]
fn connections_are_forgotten_by_zone_tuple_mark_and_label() {
    let lab = Lab::new();
    for (port, mark) in [(1, 1), (2, 2), (3, 3)] {
        let ct = Ct {
            mark: Some(Masked {
                value: mark,
                mask: u32::MAX,
            }),
            ..commit()
        };
        lab.state(udp((A, port), (B, 53), b""), &ct);
    }
    let flush = |f: CtFilter| lab.tracker.flush(&f);
    let zone = CtFilter {
        zone: Some(6),
        ..CtFilter::default()
    };
    assert_eq!(flush(zone), 0);
    let reply = CtPattern {
        tp_dst: Some(2),
        ..CtPattern::default()
    };
    let by_reply = CtFilter {
        reply,
        ..CtFilter::default()
    };
    assert_eq!(flush(by_reply), 1);
    let mark = Masked { value: 1, mask: 2 };
    let by_mark = CtFilter {
        mark: Some(mark),
        ..CtFilter::default()
    };
    assert_eq!(flush(by_mark.clone()), 1);
    assert_eq!(lab.only().mark, 3);
    assert_eq!(flush(CtFilter::default()), 1);
    assert_eq!(lab.tracker.count(), 0);
}

#[test]
fn resets_of_strangers_end_nothing() {
    let lab = Lab::new();
    let (a, b) = ((A, 1000), (B, 80));
    lab.state(tcp(a, b, SYN, 100, 0, b""), &commit());
    lab.state(tcp(b, a, SYN | ACK, 500, 101, b""), &look());
    lab.state(tcp(a, b, ACK, 101, 501, b""), &look());
    for seq in [0, 7_000, 90_000, u32::MAX] {
        assert_eq!(lab.state(tcp(b, a, RST, seq, 0, b""), &look()), CS_INVALID);
    }
    assert_eq!(lab.only().timeout_s, 86_400);
}

#[test]
fn who_answers_a_request_with_a_request_has_no_direction_yet() {
    let lab = Lab::new();
    lab.state(tcp((A, 1), (B, 2), SYN, 100, 0, b""), &commit());
    let crossing = tcp((B, 2), (A, 1), SYN, 500, 0, b"");
    assert_eq!(lab.state(crossing, &look()), CS_NEW);
}
