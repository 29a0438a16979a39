//! From bytes to keys.

use std::iter::repeat_n;

use ferrovs_datapath::text::packet_from_text;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::miniflow::MiniflowBuf;

use crate::{Bench, counted};

pub const BENCHES: &[Bench] = &[
    ("packet/parse-udp", || parse(&udp(1))),
    ("packet/parse-tagged-tcp", || {
        parse(
            "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x8100),vlan(vid=5,pcp=0),\
             encap(eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,ttl=64,frag=no),tcp(src=1,dst=2),\
             tcp_flags(ack))",
        )
    }),
    ("packet/parse-tcp6", || {
        parse(
            "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x86dd),\
             ipv6(src=fe80::1,dst=fe80::2,proto=6,hlimit=64,frag=no),tcp(src=1,dst=2),tcp_flags(ack)",
        )
    }),
];

/// An ordinary frame as text, of one of many streams.
pub fn udp(stream: u16) -> String {
    format!(
        "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.0.1,dst=10.0.{}.{},proto=17,ttl=64,frag=no),udp(src={stream},dst=2)",
        stream >> 8,
        stream & 255
    )
}

/// What answers it.
pub fn answer(stream: u16) -> String {
    format!(
        "eth(src=02:00:00:00:00:02,dst=02:00:00:00:00:01),eth_type(0x0800),\
         ipv4(src=10.0.{}.{},dst=10.0.0.1,proto=17,ttl=64,frag=no),udp(src=2,dst={stream})",
        stream >> 8,
        stream & 255
    )
}

pub fn packet(text: &str) -> Packet {
    packet_from_text(text, Some(100)).expect("a packet")
}

fn parse(text: &str) -> u64 {
    let mut packet = Packet::from_slice(packet(text).data());
    let mut key = MiniflowBuf::new();
    counted(repeat_n((), 1000), |()| key.extract(&mut packet))
}
