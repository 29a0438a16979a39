//! What anybody on a network can say about itself: LLDP with Auto Attach, ARP and neighbour advertisements.
//!
//! What must hold: nothing panics; what is remembered is bounded; whether a packet announces a neighbour depends on
//! nothing but the bits that are noted in the wildcards.

use std::time::{Duration, Instant};

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_protocols::lldp::{Event, Lldp, status_name};
use ferrovs_testkit::database::Choose;
use ferrovs_tunnel::neigh;

use crate::input::Input;

const MOST: usize = 1024;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(2) {
        0 => lldp(input),
        _ => snoop(input),
    }
}

fn lldp(mut input: Input<'_>) {
    let mut now = Instant::now();
    let mut machine = Lldp::new("p1");
    machine.set_on(true, now);
    for isid in 0..input.below(4) as u32 {
        machine.add_mapping(isid, 1);
    }
    let mut frames = 0;
    while !input.is_empty() {
        let choices = input.byte();
        let len = usize::from(choices & 7) << 8 | usize::from(input.byte());
        let frame = input.bytes(len);
        now += Duration::from_secs(u64::from(choices >> 3));
        machine.input(now, frame);
        frames += 1;
        while let Some(event) = machine.poll_event() {
            if let Event::Discarded(why) = event {
                assert!(why.text("p1").is_none_or(|(_, text)| text.len() < 200));
            }
        }
        if let Some(frame) = machine.poll_transmit(now) {
            // What we say is heard by another.
            let mut other = Lldp::new("p2");
            other.set_on(true, now);
            other.input(now, &frame);
            assert_eq!(other.neighbours().len(), 1, "our own frame is not heard");
        }
    }
    let counters = machine.counters();
    assert_eq!(counters.rx, frames);
    assert!(machine.neighbours().len() <= MOST && counters.insert <= frames);
    for mapping in machine.mappings() {
        assert!(!status_name(mapping.status).is_empty());
    }
}

fn snoop(mut input: Input<'_>) {
    let bridge = neigh::bridge("fuzzed");
    while !input.is_empty() {
        let (port, len) = (u32::from(input.byte() & 3), usize::from(input.byte()));
        let frame = input.bytes(len);
        if frame.len() < 14 {
            continue;
        }
        let mut packet = Packet::from_slice(frame);
        let mut flow = Flow::from_packet(&mut packet);
        flow.in_port = port;
        let mut wc = FlowWildcards::default();
        neigh::snoop(&flow, &mut wc, bridge, true);
        // Whatever else the packet had said, the same bits had mattered.
        let noise = input.byte();
        let mut other = flow.clone();
        let bits = other.words_mut().iter_mut().zip(wc.masks.words());
        for (word, mask) in bits {
            *word ^= !mask & u64::from(noise).wrapping_mul(0x0101_0101_0101_0101);
        }
        // The type of the frame and the protocol are always looked at.
        (other.dl_type, other.nw_proto) = (flow.dl_type, flow.nw_proto);
        let mut again = FlowWildcards::default();
        neigh::snoop(&other, &mut again, bridge, false);
        assert_eq!(wc.masks.words(), again.masks.words());
    }
}
