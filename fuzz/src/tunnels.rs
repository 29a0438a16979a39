//! Outer headers of every tunnel type, taken off one packet after another through one port of the datapath, so that
//! what waits there for the rest of its frame is met too.
//!
//! ```text
//!   type, [choices, length, frame]... --> mended checksum --> gather (STT's segments) --> pop --> key
//! ```
//!
//! What must hold: nothing panics, a frame is no longer than its packet, or than STT can tell if it is put together,
//! and no more segments are given up than came.

use std::time::{Duration, Instant};

use ferrovs_encap::{PortState, pop, types};
use ferrovs_packet::buffer::{Checksum, Packet};
use ferrovs_packet::checksum::checksum;
use ferrovs_packet::flow::Flow;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

/// The longest frame that STT's 16 bits tell, and the headers in front of it.
const LONGEST: usize = 65_535 + 14 + 8 + 40 + 20;

/// Outer headers that a choice of 1 to 15 puts in front, so that the fuzzer need not find them.
fn outer(protocol: u8, port: u16, payload: &[u8], segment: &[u8; 8]) -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let l4: Vec<u8> = match protocol {
        6 => {
            let mut tcp = 40_000u16.to_be_bytes().to_vec();
            tcp.extend(port.to_be_bytes());
            tcp.extend(segment);
            tcp.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
            tcp
        }
        17 => {
            let mut udp = 40_000u16.to_be_bytes().to_vec();
            udp.extend(port.to_be_bytes());
            udp.extend((8 + payload.len() as u16).to_be_bytes());
            udp.extend([0, 0]);
            udp
        }
        _ => Vec::new(),
    };
    let total = (20 + l4.len() + payload.len()) as u16;
    p.extend([0x45, 0]);
    p.extend(total.to_be_bytes());
    p.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum(&p[14..34]).to_be_bytes();
    p[24..26].copy_from_slice(&sum);
    p.extend(l4);
    p.extend(payload);
    p
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let n_types = types::ports().count();
    let Some(ty) = types::ports().nth(input.below(n_types)) else {
        return;
    };
    let state = PortState::default();
    let mut now = Instant::now();
    let (mut came, mut given_up) = (0, 0);
    while !input.is_empty() {
        let choices = input.byte();
        let len = usize::from(input.byte()) << (choices & 7);
        let mut bytes = if choices & 8 == 0 {
            // Identification, length and offset of a segment in few bytes, so that several meet.
            let (id, whole, at) = (input.byte() & 3, input.byte(), input.byte());
            let segment = [0, whole, 0, at, 0, 0, 0, id];
            let mut payload = input.bytes(len).to_vec();
            payload.resize(len.min(60_000), 0);
            let port = ty.transport.port.unwrap_or(0);
            outer(ty.transport.protocol, port, &payload, &segment)
        } else {
            input.bytes(len).to_vec()
        };
        if choices & 0x80 != 0 {
            now += Duration::from_millis(u64::from(choices) * 50);
        }
        if choices & 0x40 != 0 {
            let at = input.below(64).min(bytes.len().saturating_sub(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte();
            }
        }
        if bytes.len() < 14 {
            continue;
        }
        let mut packet = Packet::from_slice(&bytes);
        if choices & 0x20 != 0 {
            packet.offload.checksum = Checksum::Good;
        }
        _ = Flow::from_packet(&mut packet);
        let mut most = packet.size();
        if let Some(gather) = ty.gather {
            let Ok(gathered) = gather(&mut packet, &state, now) else {
                continue;
            };
            came += 1;
            given_up += gathered.given_up;
            assert!(given_up <= came, "given up {given_up} of {came}");
            if !gathered.whole {
                continue;
            }
            most = LONGEST;
            assert!(packet.size() <= most, "put together to {}", packet.size());
        }
        if pop::pop(ty, &mut packet).is_ok() {
            // A tag that the header carries comes back into the frame.
            assert!(packet.size() <= most + 4);
            _ = Flow::from_packet(&mut packet);
        }
    }
}
