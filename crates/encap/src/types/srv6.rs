//! Segment routing over IPv6 (RFC 8754): a routing header with the segments in reverse order. Its text is only written.
//!
//! ```text
//!   | next header | length | 4 | segments left | last entry | flags | tag 2 | segments, 16 each ... |
//! ```

use std::fmt::Write;
use std::net::Ipv6Addr;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{FlowTnl, packet_type};
use ferrovs_packet::types::{eth_type, ip_proto};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NATIVE_TNL;

use crate::config::{DEFAULT_TTL, FlowLabel, TunnelConfig};
use crate::header::{ETH_LEN, IPV6_LEN};
use crate::pieces::be32;
use crate::pop::RL;
use crate::row::{
    Carries, HeaderType, Inner, Inside, Options, Outer, PopError, Received, Transport, TunnelType,
};

/// IP's numbers for packets of IP inside.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
/// Routing headers of type 4 hold segments.
const SEGMENTS: u8 = 4;
/// The flow label, in the first word of an IPv6 header.
const LABEL: u32 = 0xf_ffff;

pub static HEADER: HeaderType = HeaderType {
    number: 112,
    format,
    parse: |_, _| None,
    finish,
    large: |_| false,
    timed: false,
    cuts: false,
};

pub static PORT: TunnelType = TunnelType {
    kind: "srv6",
    dpif_port: "srv6_sys",
    transport: Transport {
        protocol: ip_proto::ROUTING,
        port: None,
        listens: &[IPV4, IPV6],
    },
    options: Options::NONE,
    ttl: DEFAULT_TTL,
    carries: |_| Carries::l3("srv6"),
    clash: |_, _| None,
    header: &HEADER,
    header6: &HEADER,
    build,
    pop,
    gather: None,
};

/// How the flow label of a prebuilt header tells which one the packets get.
const LABELS: [FlowLabel; 3] = [FlowLabel::Copy, FlowLabel::Zero, FlowLabel::Compute];

fn build(bytes: &mut Vec<u8>, config: &TunnelConfig, inside: &Inside<'_>) -> Option<()> {
    let next = match inside.packet_type {
        ty if ty == packet_type(1, eth_type::IP) => IPV4,
        ty if ty == packet_type(1, eth_type::IPV6) => IPV6,
        _ => return None,
    };
    // The packets go to the first segment first.
    let dst = Ipv6Addr::from(inside.tnl.ipv6_dst);
    let own = [dst];
    let segments = match config.srv6_segs.as_slice() {
        [] => &own,
        segments if segments[0] == dst => segments,
        _ => return None,
    };
    if bytes.len() == ETH_LEN + IPV6_LEN {
        let label = LABELS.iter().position(|l| *l == config.srv6_flowlabel);
        bytes[ETH_LEN + 3] |= label? as u8;
    }
    let last = (segments.len() - 1) as u8;
    bytes.extend([next, (last + 1) * 2, SEGMENTS, last, last, 0, 0, 0]);
    for segment in segments.iter().rev() {
        bytes.extend(segment.octets());
    }
    Some(())
}

fn finish(p: &mut Packet, outer: &Outer<'_>) {
    if !outer.v6 {
        return;
    }
    let Some(word) = be32(p.data(), ETH_LEN) else {
        return;
    };
    let label = match LABELS.get((word & LABEL) as usize) {
        Some(FlowLabel::Copy) => inner_label(p.data(), outer.l4),
        Some(FlowLabel::Compute) => outer.hash & LABEL,
        _ => 0,
    };
    let word = word & !LABEL | label;
    p.data_mut()[ETH_LEN..ETH_LEN + 4].copy_from_slice(&word.to_be_bytes());
}

/// The flow label of the packet behind the routing header, if it is IPv6.
fn inner_label(data: &[u8], routing: usize) -> u32 {
    let len = data.get(routing + 1).map_or(0, |len| usize::from(*len));
    let first = be32(data, routing + 8 + len * 8);
    first.filter(|w| w >> 28 == 6).map_or(0, |w| w & LABEL)
}

fn pop(received: &Received<'_>, _: &mut FlowTnl) -> Result<Inner, PopError> {
    let bytes = received.bytes;
    if received.protocol != ip_proto::ROUTING {
        return Err(PopError::Header);
    }
    let [next, len, kind, left, ..] = *bytes else {
        return Err(PopError::Truncated);
    };
    if kind != SEGMENTS {
        return Err(PopError::Header);
    }
    if left > 0 {
        vlog::warn_rl!(RL, NATIVE_TNL, "invalid srv6 segments_left={left}");
        return Err(PopError::Header);
    }
    let at = 8 + usize::from(len) * 8;
    if at >= bytes.len() {
        return Err(PopError::Truncated);
    }
    let packet_type = match next {
        IPV4 => packet_type(1, eth_type::IP),
        IPV6 => packet_type(1, eth_type::IPV6),
        _ => return Err(PopError::Header),
    };
    Ok(Inner {
        at: Some(at),
        packet_type,
        left: None,
    })
}

fn format(out: &mut String, l4: &[u8]) -> Option<()> {
    let segments = usize::from(*l4.get(1)?) * 8 / 16;
    _ = write!(out, ",srv6(segments_left={},segs(", l4.get(3)?);
    for i in 0..segments {
        if i > 0 {
            out.push(',');
        }
        let at = 8 + 16 * (segments - 1 - i);
        let segment: [u8; 16] = l4.get(at..at + 16)?.try_into().ok()?;
        _ = write!(out, "{}", Ipv6Addr::from(segment));
    }
    out.push_str("))");
    Some(())
}
