use ferrovs_openflow::version::Version;
use ferrovs_runtime::clock;

use super::*;

/// A connection that was accepted and has agreed on a version, and the peer's end.
fn pair() -> (Rconn, Stream) {
    let now = clock::now();
    let (ours, mut peer) = Stream::pair().unwrap();
    let mut rconn = Rconn::accepted("test", ours, Versions::ALL, now);
    let hello = hello::encode(Versions::up_to(Version::V13), 1);
    assert_eq!(peer.send(&hello).unwrap(), hello.len());
    rconn.run(now);
    assert!(rconn.is_connected());
    (rconn, peer)
}

#[test]
fn a_peer_that_never_reads_is_disconnected_at_the_limit() {
    let (mut rconn, _peer) = pair();
    let now = clock::now();
    rconn.tx_limit = 1024 * 1024;
    let notice = vec![4, 12, 0, 8, 0, 0, 0, 0];
    let mut sent = 0;
    while rconn.is_connected() {
        rconn.send(notice.clone(), now);
        assert!(rconn.tx_memory <= rconn.tx_limit, "{}", rconn.tx_memory);
        sent += 1;
        assert!(sent < 1_000_000, "nothing stops it");
    }
    // It counts what a message takes up, not only its few bytes.
    assert!(sent * 8 < 1024 * 1024);
    assert!(!rconn.is_alive() && rconn.tx_backlog() == 0);
    assert_eq!(rconn.last_error(), Some("No buffer space available"));
}

#[test]
fn a_peer_that_reads_may_fall_behind_for_a_while() {
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    rconn.tx_limit = 1024 * 1024;
    let mut buffer = vec![0; 1024 * 1024];
    for _ in 0..100 {
        for _ in 0..1_000 {
            rconn.send(vec![4, 12, 0, 8, 0, 0, 0, 0], now);
        }
        while rconn.tx_backlog() > 0 {
            assert!(peer.recv(&mut buffer).unwrap() > 0);
            rconn.run(now);
        }
        assert_eq!(rconn.tx_memory, 0);
    }
    assert!(rconn.is_connected());
}

#[test]
fn several_messages_in_a_row_are_sent_as_what_they_are() {
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    let mut bytes = vec![4, 19, 0, 12, 0, 0, 0, 1, 7, 7, 7, 7];
    bytes.extend([4, 19, 0, 8, 0, 0, 0, 1]);
    rconn.send(Vec::new(), now);
    let queued = ferrovs_runtime::coverage::RCONN_QUEUED.total();
    rconn.send(bytes.clone(), now);
    assert!(ferrovs_runtime::coverage::RCONN_QUEUED.total() >= queued + 2);
    rconn.run(now);
    let mut buffer = [0; 64];
    let hello = hello::encode(Versions::ALL, 0).len();
    let mut got = Vec::new();
    while got.len() < hello + bytes.len() {
        let n = peer.recv(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(got[hello..], bytes);
}

#[test]
fn as_many_packet_ins_wait_for_a_peer_as_the_limit_says() {
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    let mut buffer = vec![0; 1024 * 1024];
    // Something that waits already lets nothing pass.
    while rconn.tx_backlog() == 0 {
        rconn.send(vec![4, 12, 0, 8, 0, 0, 0, 0], now);
    }
    for limit in [1, 10, 512] {
        for _ in 0..600 {
            rconn.send_packet_in(vec![4, 10, 0, 8, 0, 0, 0, 0], limit, now);
        }
        assert_eq!(rconn.tx_packet_ins, limit as usize);
    }
    while rconn.tx_backlog() > 0 {
        assert!(peer.recv(&mut buffer).unwrap() > 0);
        rconn.run(now);
    }
    assert_eq!(rconn.tx_packet_ins, 0);
}
