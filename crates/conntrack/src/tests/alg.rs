//! Transfers that control connections announce.

use super::*;

const X: [u8; 4] = [10, 100, 100, 100];

/// A control connection that stands; `nat` hides the client.
fn control(lab: &Lab, nat: Option<Nat>) -> (Ct, Ct) {
    let ct = Ct {
        helper: Some("ftp".into()),
        nat: nat.clone(),
        ..commit()
    };
    let back = Ct {
        nat: nat.map(|_| Nat::default()),
        ..look()
    };
    let client = lab.track(tcp((A, 1000), (B, 21), SYN, 100, 0, b""), &ct);
    let known = ends(&client).0;
    lab.track(tcp((B, 21), known, SYN | ACK, 500, 101, b""), &back);
    lab.track(tcp((A, 1000), (B, 21), ACK, 101, 501, b""), &ct);
    (ct, back)
}

fn payload(p: &Packet) -> &str {
    std::str::from_utf8(&p.l4_data()[20..]).unwrap()
}

fn seq_ack(p: &Packet) -> (u32, u32) {
    let at = |i: usize| u32::from_be_bytes(p.l4_data()[i..i + 4].try_into().unwrap());
    (at(4), at(8))
}

#[test]
fn both_ways_of_transfer_are_related() {
    let lab = Lab::new();
    let (_, back) = control(&lab, None);
    let port = tcp(
        (A, 1000),
        (B, 21),
        ACK | PSH,
        101,
        501,
        b"PORT 10,0,0,1,4,5\r\n",
    );
    assert_eq!(lab.state(port, &look()), CS_ESTABLISHED);
    let data = || tcp((B, 20), (A, 1029), SYN, 1, 0, b"");
    let p = lab.track(data(), &look());
    assert_eq!(p.md.ct_state, CS_NEW | CS_RELATED | CS_TRACKED);
    assert_eq!((p.md.ct_orig.tp_src, p.md.ct_orig.tp_dst), (1000, 21));
    lab.track(data(), &commit());
    let answer = tcp((A, 1029), (B, 20), SYN | ACK, 1, 2, b"");
    let state = CS_ESTABLISHED | CS_RELATED | CS_REPLY_DIR;
    assert_eq!(lab.state(answer, &look()), state);
    // The server announces where it waits.
    let text = b"229 Entering Extended Passive Mode (|||2000|)\r\n";
    lab.track(tcp((B, 21), (A, 1000), ACK | PSH, 501, 120, text), &back);
    let p = tcp((A, 7777), (B, 2000), SYN, 1, 0, b"");
    assert_eq!(lab.state(p, &look()), CS_NEW | CS_RELATED);
    // Somebody else's address announces nothing.
    let evil = b"PORT 10,0,0,9,4,7\r\n";
    lab.track(tcp((A, 1000), (B, 21), ACK | PSH, 120, 501, evil), &look());
    let p = tcp((B, 20), ([10, 0, 0, 9], 1031), SYN, 1, 0, b"");
    assert_eq!(lab.state(p, &look()), CS_NEW);
    // With the control connection goes what it announced.
    assert_eq!(lab.tracker.expectations(None).len(), 2);
    lab.tracker.flush(&CtFilter::default());
    assert_eq!(lab.tracker.expectations(None).len(), 0);
}

#[test]
fn announcements_of_hidden_clients_are_translated_and_numbers_follow() {
    let lab = Lab::new();
    let mut addr = [0; 16];
    addr[12..].copy_from_slice(&X);
    let nat = Nat {
        kind: NatKind::Src,
        ip_min: addr,
        ip_max: addr,
        ..Nat::default()
    };
    let (ct, back) = control(&lab, Some(nat));
    let text = b"PORT 10,0,0,1,4,5\r\n";
    let port = || tcp((A, 1000), (B, 21), ACK | PSH, 101, 501, text);
    let p = lab.track(port(), &ct);
    assert_eq!(payload(&p), "PORT 10,100,100,100,4,5\r\n");
    assert_eq!(ends(&p), ((X, 1000), (B, 21)));
    let grown = 6;
    // The server acknowledges what it got.
    let ack = 101 + text.len() as u32 + grown;
    let p = lab.track(tcp((B, 21), (X, 1000), ACK, 501, ack, b"200 ok\r\n"), &back);
    assert_eq!(seq_ack(&p), (501, 101 + text.len() as u32));
    assert_eq!(p.md.ct_state & CS_INVALID, 0);
    ends(&p);
    // What the client sends next is behind it.
    let next = 101 + text.len() as u32;
    let p = lab.track(
        tcp((A, 1000), (B, 21), ACK | PSH, next, 509, b"RETR x\r\n"),
        &ct,
    );
    assert_eq!(seq_ack(&p), (next + grown, 509));
    ends(&p);
    // A retransmission is what it was before, once more.
    let p = lab.track(port(), &ct);
    assert_eq!(
        (payload(&p), seq_ack(&p).0),
        ("PORT 10,100,100,100,4,5\r\n", 101)
    );
    // A second announcement adds to the first.
    let text = b"PORT 10,0,0,1,4,6\r\n";
    let next = next + 8;
    let p = lab.track(tcp((A, 1000), (B, 21), ACK | PSH, next, 509, text), &ct);
    assert_eq!(seq_ack(&p).0, next + grown);
    let last = next + text.len() as u32;
    let p = lab.track(tcp((A, 1000), (B, 21), ACK, last, 509, b""), &ct);
    assert_eq!(seq_ack(&p).0, last + 2 * grown);
    // The server comes to where it was told, and the client is there.
    let p = lab.track(tcp((B, 20), (X, 1029), SYN, 1, 0, b""), &ct);
    assert_eq!(ends(&p), ((B, 20), (A, 1029)));
    assert_eq!(
        p.md.ct_state & (CS_RELATED | CS_DST_NAT),
        CS_RELATED | CS_DST_NAT
    );
    let p = lab.track(tcp((A, 1029), (B, 20), SYN | ACK, 1, 2, b""), &ct);
    assert_eq!(ends(&p), ((X, 1029), (B, 20)));
}

#[test]
fn selective_acknowledgements_are_shifted_back() {
    let lab = Lab::new();
    let mut addr = [0; 16];
    addr[12..].copy_from_slice(&X);
    let nat = Nat {
        kind: NatKind::Src,
        ip_min: addr,
        ip_max: addr,
        ..Nat::default()
    };
    let (ct, back) = control(&lab, Some(nat));
    let text = b"PORT 10,0,0,1,4,5\r\n";
    let next = 101 + text.len() as u32;
    lab.track(tcp((A, 1000), (B, 21), ACK | PSH, 101, 501, text), &ct);
    let (from, grown) = ((B, 21), 6);
    for nops in [1, 2] {
        // The server lacks what follows the line, and has what follows that.
        let edges = [next + grown + 8, next + grown + 20];
        let mut options = vec![1; nops];
        options.extend([5, 10]);
        options.extend(edges.iter().flat_map(|e| e.to_be_bytes()));
        options.resize(12, 0);
        let mut l4 = tcp(from, (X, 1000), ACK, 501, next + grown, b"")
            .l4_data()
            .to_vec();
        l4.extend(options);
        (l4[12], l4[16], l4[17]) = (0x80, 0, 0);
        let l4 = summed(B, X, 6, 16, l4);
        let p = lab.track(ip(B, X, 6, &l4), &back);
        assert_eq!(ends(&p), (from, (A, 1000)));
        assert_eq!(seq_ack(&p), (501, next));
        let at = 20 + nops + 2;
        let edge = |at: usize| u32::from_be_bytes(p.l4_data()[at..at + 4].try_into().unwrap());
        assert_eq!((edge(at), edge(at + 4)), (next + 8, next + 20));
    }
}

#[test]
fn what_an_expired_connection_announced_is_forgotten() {
    let mut lab = Lab::new();
    let ct = Ct {
        helper: Some("tftp".into()),
        ..commit()
    };
    lab.track(udp((A, 5000), (B, 69), b"\0\x01file\0octet\0"), &ct);
    lab.wait(61);
    let p = udp((B, 777), (A, 5000), b"\0\x03data");
    assert_eq!(lab.state(p, &look()), CS_NEW);
}

#[test]
fn a_file_server_answers_from_any_port() {
    let lab = Lab::new();
    let ct = Ct {
        helper: Some("tftp".into()),
        ..commit()
    };
    lab.track(udp((A, 5000), (B, 69), b"\0\x01file\0octet\0"), &ct);
    let p = udp((B, 777), (A, 5000), b"\0\x03data");
    assert_eq!(lab.state(p, &look()), CS_NEW | CS_RELATED);
}
