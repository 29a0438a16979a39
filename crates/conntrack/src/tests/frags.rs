//! Packets that come in fragments.

use ferrovs_datapath::action::Ct;

use super::*;

/// The fragments of an IPv4 packet: (offset, length) of the payload each, and whether more follow.
fn cut(whole: &Packet, id: u16, parts: &[(usize, usize, bool)]) -> Vec<Packet> {
    let (head, payload) = whole.l3_data().split_at(20);
    let one = |&(ofs, len, more): &(usize, usize, bool)| {
        let mut h = head.to_vec();
        h[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
        h[4..6].copy_from_slice(&id.to_be_bytes());
        let flags = (ofs / 8) as u16 | u16::from(more) << 13;
        h[6..8].copy_from_slice(&flags.to_be_bytes());
        h[10..12].fill(0);
        let sum = checksum(&h);
        h[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = [&whole.data()[..14], &h, &payload[ofs..ofs + len]].concat();
        let mut packet = Packet::from_slice(&frame);
        MiniflowBuf::new().extract(&mut packet);
        packet
    };
    parts.iter().map(one).collect()
}

/// Tracks packets as one batch; what comes out of it.
fn all(lab: &Lab, packets: Vec<Packet>, ct: &Ct) -> Vec<Packet> {
    let mut out = Vec::new();
    let mut packets = packets.into_iter().peekable();
    while packets.peek().is_some() {
        let mut batch: Batch = packets.by_ref().take(32).collect();
        let rest = lab.tracker.execute(&mut batch, ct, lab.now);
        out.extend(batch);
        out.extend(rest);
    }
    out
}

fn big() -> Packet {
    let payload: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
    udp((A, 1000), (B, 80), &payload)
}

const THREE: [(usize, usize, bool); 3] = [(0, 1480, true), (1480, 1480, true), (2960, 48, false)];

#[test]
fn fragments_wait_for_each_other_and_leave_as_they_came() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let lab = Lab::new();
        let whole = big();
        let parts = cut(&whole, 7, &THREE);
        let bytes: Vec<_> = parts.iter().map(|p| p.data().to_vec()).collect();
        let mut parts: Vec<_> = parts.into_iter().map(Some).collect();
        let mut out = Vec::new();
        for (n, i) in order.into_iter().enumerate() {
            assert_eq!(lab.tracker.frag_status().frags as usize, n);
            out.extend(all(&lab, vec![parts[i].take().unwrap()], &commit()));
        }
        assert_eq!(out.len(), 3);
        for (p, bytes) in out.iter().zip(bytes) {
            assert_eq!((p.data(), p.md.ct_state), (&bytes[..], CS_NEW | CS_TRACKED));
            assert_eq!(p.md.ct_orig.tp_src, 1000);
        }
        assert_eq!(lab.entries().len(), 1);
        let c = lab.tracker.frag_status();
        assert_eq!(
            (c.frags, c.v4.counters.accepted, c.v4.counters.completed),
            (0, 3, 3)
        );
    }
}

#[test]
fn fragments_are_translated_with_their_packet() {
    let lab = Lab::new();
    let mut addr = [0; 16];
    addr[12..].copy_from_slice(&[10, 1, 1, 1]);
    let nat = Nat {
        kind: NatKind::Src,
        ip_min: addr,
        ip_max: addr,
        port_min: 5000,
        port_max: 5000,
        ..Nat::default()
    };
    let ct = Ct {
        nat: Some(nat),
        ..commit()
    };
    let out = all(&lab, cut(&big(), 7, &THREE), &ct);
    // What the receiver puts together is a packet whose checksums hold.
    let mut payload = Vec::new();
    for p in &out {
        assert_eq!(checksum(&p.l3_data()[..20]), 0);
        assert_eq!(p.l3_data()[12..16], [10, 1, 1, 1]);
        payload.extend(&p.l3_data()[20..]);
    }
    let whole = ip([10, 1, 1, 1], B, 17, &payload);
    assert_eq!(ends(&whole), (([10, 1, 1, 1], 5000), (B, 80)));
    // Once more in the zone they are not translated again.
    let out = all(&lab, out, &ct);
    assert_eq!(
        (out.len(), &out[0].l3_data()[20..22]),
        (3, &5000u16.to_be_bytes()[..])
    );
}

#[test]
fn what_cannot_become_whole_is_invalid_at_once() {
    let lab = Lab::new();
    let whole = big();
    let state = |id, part| {
        let out = all(&lab, cut(&whole, id, &[part]), &commit());
        out.first().map(|p| p.md.ct_state & !CS_TRACKED)
    };
    assert_eq!(state(1, (0, 1480, true)), None);
    // Overlapping, twice the same, too small, not a multiple of eight.
    assert_eq!(state(1, (1472, 1480, true)), Some(CS_INVALID));
    assert_eq!(state(1, (0, 1480, true)), Some(CS_INVALID));
    assert_eq!(state(2, (0, 160, true)), Some(CS_INVALID));
    assert_eq!(state(2, (0, 1483, true)), Some(CS_INVALID));
    // Behind the last, and a last one before others.
    assert_eq!(state(3, (1480, 1480, false)), None);
    assert_eq!(state(3, (2960, 48, false)), Some(CS_INVALID));
    assert_eq!(state(4, (1480, 1480, true)), None);
    assert_eq!(state(4, (0, 1480, false)), Some(CS_INVALID));
    let c = lab.tracker.frag_status().v4.counters;
    assert_eq!((c.too_small, c.overlapped), (1, 2));
    lab.tracker
        .enable_frags(ferrovs_datapath::conntrack::IpVersion::V4, false);
    assert_eq!(state(5, (0, 1480, true)), Some(CS_INVALID));
}

#[test]
fn only_so_many_fragments_wait_and_only_so_long() {
    let mut lab = Lab::new();
    assert!(lab.tracker.set_max_frags(5001).is_err());
    lab.tracker.set_max_frags(10).unwrap();
    let whole = big();
    let mut refused = 0;
    for id in 0..20 {
        refused += all(&lab, cut(&whole, id, &THREE[..1]), &commit()).len();
    }
    assert_eq!((refused, lab.tracker.frag_status().frags), (10, 10));
    lab.wait(16);
    // Late, but not too late.
    lab.tracker.set_max_frags(12).unwrap();
    assert_eq!(all(&lab, cut(&whole, 3, &THREE[1..]), &commit()).len(), 3);
    lab.tracker.sweep(lab.now);
    let s = lab.tracker.frag_status();
    assert_eq!((s.frags, s.v4.counters.purged), (9, 0));
    assert!(s.v4.counters.expired > 0);
    lab.wait(10);
    lab.tracker.sweep(lab.now);
    let s = lab.tracker.frag_status();
    assert_eq!((s.frags, s.v4.counters.purged), (0, 9));
}

#[test]
fn many_fragments_come_out_in_several_batches() {
    let lab = Lab::new();
    lab.tracker
        .set_min_frag(ferrovs_datapath::conntrack::IpVersion::V4, 400)
        .unwrap();
    let payload = vec![7; 392 * 50 - 8];
    let whole = udp((A, 1000), (B, 80), &payload);
    let parts: Vec<_> = (0..50).map(|i| (i * 392, 392, i < 49)).collect();
    let out = all(&lab, cut(&whole, 7, &parts), &commit());
    assert_eq!(out.len(), 50);
    assert!(out.iter().all(|p| p.md.ct_state == CS_NEW | CS_TRACKED));
}

#[test]
fn what_is_remembered_of_fragments_does_not_grow_behind_one_that_waits() {
    let lab = Lab::new();
    all(&lab, cut(&big(), 1, &THREE[..1]), &look());
    for id in 2..2000 {
        assert_eq!(all(&lab, cut(&big(), id, &THREE), &look()).len(), 3);
    }
    assert_eq!(lab.tracker.frag_status().frags, 1);
    assert!(lab.tracker.frags.remembered() < 100);
}

#[test]
fn a_packet_that_could_not_say_its_length_is_refused() {
    let lab = Lab::new();
    // The last fragment would end at 65,535, behind a header of 20 bytes.
    let (at, len) = (65_528, 7);
    let mut last = cut(&big(), 3, &[(0, len, false)]).remove(0);
    let ip = &mut last.data_mut()[14..];
    ip[6..8].copy_from_slice(&((at / 8) as u16).to_be_bytes());
    ip[10..12].fill(0);
    let sum = checksum(&ip[..20]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let out = all(&lab, vec![last], &look());
    assert_eq!(out[0].md.ct_state, CS_INVALID | CS_TRACKED);
    assert_eq!(lab.tracker.frag_status().frags, 0);
}
