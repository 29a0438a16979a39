use ferrovs_openflow::version::Version;
use ferrovs_runtime::clock;

use super::*;
use crate::connmgr::hello;

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
        assert!(
            rconn.outbox.memory() <= rconn.tx_limit,
            "{}",
            rconn.outbox.memory()
        );
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
        assert_eq!(rconn.outbox.memory(), 0);
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
        rconn.flush(now);
    }
    for limit in [1, 10, 512] {
        for _ in 0..600 {
            rconn.send_packet_in(vec![4, 10, 0, 8, 0, 0, 0, 0], limit, now);
        }
        assert_eq!(rconn.outbox.packet_ins(), limit as usize);
    }
    while rconn.tx_backlog() > 0 {
        assert!(peer.recv(&mut buffer).unwrap() > 0);
        rconn.run(now);
    }
    assert_eq!(rconn.outbox.packet_ins(), 0);
}

#[test]
fn messages_wait_for_the_flush_and_leave_together() {
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    let mut buffer = [0; 4096];
    let hello = peer.recv(&mut buffer).unwrap();
    assert_eq!(hello, hello::encode(Versions::ALL, 0).len());
    for xid in 0..100 {
        rconn.send(vec![4, 19, 0, 8, 0, 0, 0, xid], now);
    }
    let nothing = peer.recv(&mut buffer).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    rconn.flush(now);
    assert_eq!(rconn.tx_backlog(), 0);
    let mut got = Vec::new();
    while let Ok(n @ 1..) = peer.recv(&mut buffer) {
        got.extend_from_slice(&buffer[..n]);
    }
    let xids: Vec<u8> = got.chunks(8).map(|msg| msg[7]).collect();
    assert_eq!(xids, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_message_that_leaves_in_pieces_stays_whole() {
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    let mut sent = hello::encode(Versions::ALL, 0).len();
    for i in 0..64u8 {
        let mut msg = vec![i; 60_000];
        msg[..4].copy_from_slice(&[4, 10, 0xea, 0x60]);
        sent += msg.len();
        rconn.send(msg, now);
    }
    assert!(rconn.tx_backlog() > 0);
    let mut got = Vec::new();
    let mut buffer = vec![0; 10_007];
    while got.len() < sent {
        let n = peer.recv(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..n]);
        rconn.flush(now);
    }
    let messages = &got[sent - 64 * 60_000..];
    for (i, msg) in messages.chunks(60_000).enumerate() {
        assert!(msg[4..].iter().all(|b| usize::from(*b) == i), "{i}");
    }
    assert_eq!((rconn.tx_backlog(), rconn.outbox.memory()), (0, 0));
}

#[test]
fn a_peer_that_speaks_no_common_version_is_told_why() {
    let now = clock::now();
    let (ours, mut peer) = Stream::pair().unwrap();
    let mut rconn = Rconn::accepted("test", ours, Versions::up_to(Version::V10), now);
    // Version 1.3, and by its bitmap no other.
    let hello = [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 1 << 4];
    assert_eq!(peer.send(&hello).unwrap(), hello.len());
    rconn.run(now);
    assert!(!rconn.is_alive());
    let mut buffer = [0; 256];
    let n = peer.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]);
    assert!(text.ends_with("no common versions."), "{text}");
}

#[test]
fn a_peer_that_goes_on_as_soon_as_it_is_answered_is_heard_in_the_same_turn() {
    const ECHO: [u8; 8] = [4, 2, 0, 8, 0, 0, 0, 1];
    let (mut rconn, mut peer) = pair();
    let now = clock::now();
    rconn.run(now);
    let (mut message, mut buffer) = (Vec::new(), [0; 64]);
    let mut is_heard = false;
    // Nobody waits for a peer that is not known to be quick, nor on a machine without a processor for it.
    let mut tries = std::thread::available_parallelism().map_or(1, |n| 1000 * (n.get() - 1));
    while tries > 0 && !is_heard {
        peer.send(&ECHO).unwrap();
        assert!(!rconn.flush_and_listen(now), "nothing was answered");
        rconn.send(vec![4, 3, 0, 8, 0, 0, 0, 1], now);
        is_heard = rconn.flush_and_listen(now);
        rconn.run(now);
        assert!(rconn.recv(&mut message, now) && message == ECHO);
        assert!(peer.recv(&mut buffer).unwrap() > 0, "the answer has left");
        tries -= 1;
    }
    assert!(is_heard || tries == 0 && std::thread::available_parallelism().unwrap().get() == 1);
    // One that goes away meanwhile is gone.
    drop(peer);
    rconn.send(vec![4, 3, 0, 8, 0, 0, 0, 1], now);
    rconn.flush_and_listen(now);
    rconn.run(now);
    assert!(!rconn.recv(&mut message, now) && !rconn.is_alive());
}
