//! The tracker with whole packets and a clock that stands where the test says.

use std::time::{Duration, Instant};

use ferrovs_datapath::action::{Ct, Masked, Nat, NatKind};
use ferrovs_datapath::conntrack::{Conntrack, CtEntry, CtFilter, CtPattern, TcpState};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::checksum::{Sum, checksum, pseudo_v4};
use ferrovs_packet::flow::*;
use ferrovs_packet::miniflow::MiniflowBuf;

use crate::Tracker;
use crate::extract::{ACK, FIN, PSH, RST, SYN};

mod alg;
mod bytes;
mod flood;
mod frags;
mod nat;
mod random;
mod states;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

/// An Ethernet frame with an IPv4 packet.
fn ip(src: [u8; 4], dst: [u8; 4], proto: u8, l4: &[u8]) -> Packet {
    let mut h = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, proto, 0, 0];
    h[2..4].copy_from_slice(&(20 + l4.len() as u16).to_be_bytes());
    h.extend(src.iter().chain(&dst));
    let sum = checksum(&h);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2; 12];
    frame.extend([8, 0]);
    frame.extend(&h);
    frame.extend(l4);
    let mut packet = Packet::from_slice(&frame);
    MiniflowBuf::new().extract(&mut packet);
    packet
}

/// Puts the checksum of a transport message into its place.
fn summed(src: [u8; 4], dst: [u8; 4], proto: u8, at: usize, mut l4: Vec<u8>) -> Vec<u8> {
    let pseudo = match proto {
        1 => Sum::ZERO,
        _ => pseudo_v4(src, dst, proto, l4.len() as u32),
    };
    let sum = pseudo.add(&l4).finish();
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    l4
}

type End = ([u8; 4], u16);

fn udp(src: End, dst: End, payload: &[u8]) -> Packet {
    let mut l4 = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    ip(src.0, dst.0, 17, &summed(src.0, dst.0, 17, 6, l4))
}

fn tcp(src: End, dst: End, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Packet {
    let mut l4 = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    l4.extend(seq.to_be_bytes());
    l4.extend(ack.to_be_bytes());
    l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    l4.extend(payload);
    ip(src.0, dst.0, 6, &summed(src.0, dst.0, 6, 16, l4))
}

fn icmp(src: [u8; 4], dst: [u8; 4], ty: u8, id: u16, rest: &[u8]) -> Packet {
    let mut l4 = vec![ty, 0, 0, 0];
    l4.extend(id.to_be_bytes());
    l4.extend([0, 1]);
    l4.extend(rest);
    ip(src, dst, 1, &summed(src, dst, 1, 2, l4))
}

/// A tracker and its time.
struct Lab {
    tracker: Tracker,
    now: Instant,
}

impl Lab {
    fn new() -> Lab {
        // No test reads the clock: it only needs some instant.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Lab {
            tracker: Tracker::new(now),
            now,
        }
    }

    fn wait(&mut self, s: u64) {
        self.now += Duration::from_secs(s);
    }

    /// Tracks one packet, which comes back as it left.
    fn track(&self, packet: Packet, ct: &Ct) -> Packet {
        let mut batch: Batch = [packet].into_iter().collect();
        let rest = self.tracker.execute(&mut batch, ct, self.now);
        assert!(rest.is_empty());
        batch.pop().unwrap()
    }

    fn state(&self, packet: Packet, ct: &Ct) -> u8 {
        self.track(packet, ct).md.ct_state & !CS_TRACKED
    }

    fn entries(&self) -> Vec<CtEntry> {
        let mut all = Vec::new();
        self.tracker
            .dump(None, self.now, &mut |e| all.push(e.clone()));
        all
    }

    fn only(&self) -> CtEntry {
        let [entry] = &self.entries()[..] else {
            panic!("not one entry")
        };
        entry.clone()
    }
}

fn look() -> Ct {
    Ct {
        zone: 5,
        ..Ct::default()
    }
}

fn commit() -> Ct {
    Ct {
        commit: true,
        ..look()
    }
}

/// Addresses and ports of a packet, whose checksums are right.
fn ends(packet: &Packet) -> (End, End) {
    let (l3, l4) = (packet.l3_data(), packet.l4_data());
    assert_eq!(checksum(&l3[..20]), 0, "header checksum");
    let a = |at: usize| <[u8; 4]>::try_from(&l3[at..at + 4]).unwrap();
    let p = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    let (src, dst, proto) = (a(12), a(16), l3[9]);
    let pseudo = match proto {
        1 => Sum::ZERO,
        _ => pseudo_v4(src, dst, proto, l4.len() as u32),
    };
    assert_eq!(pseudo.add(l4).finish(), 0, "transport checksum");
    match proto {
        1 => ((src, p(4)), (dst, p(4))),
        _ => ((src, p(0)), (dst, p(2))),
    }
}
