//! Packets and the messages that carry them.

use std::fmt::Write;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::field::format_port;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::types::{OfPort, eth_type, ip_proto};

use super::{Print, hex_dump};
use crate::packet_in::*;
use crate::text::Names;
use crate::text::action::format_actions;
use crate::text::format::hex;
use crate::text::key::format_flow_without_port;
use crate::text::match_::format_match;
use crate::tun::Tun;

/// Appends a packet as a flow, with its transport checksum. `packet_type` says what it begins with.
pub fn format_packet(packet: &[u8], packet_type: u32, out: &mut String) {
    let mut buffer = Packet::from_slice(packet);
    buffer.md.packet_type = packet_type;
    let flow = Flow::from_packet(&mut buffer);
    let tun = Tun::none();
    out.push_str(&format_flow_without_port(&flow, &Names::none(&tun)));
    if let Some((name, csum)) = l4_checksum(packet, &flow) {
        let _ = write!(out, " {name}:{csum:x}");
    }
    out.push('\n');
}

/// Finds the transport checksum of an unfragmented packet.
fn l4_checksum(packet: &[u8], flow: &Flow) -> Option<(&'static str, u32)> {
    let mut at = 12;
    loop {
        let ty = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
        at += 2;
        match ty {
            eth_type::VLAN_8021Q | eth_type::VLAN_8021AD => at += 2,
            _ => break,
        }
    }
    let l4 = match flow.dl_type.get() {
        eth_type::IP => at + usize::from(packet.get(at)? & 0xf) * 4,
        eth_type::IPV6 => at + 40,
        _ => return None,
    };
    let be16 = |ofs: usize| {
        Some(u32::from(u16::from_be_bytes([
            *packet.get(l4 + ofs)?,
            *packet.get(l4 + ofs + 1)?,
        ])))
    };
    match flow.nw_proto {
        ip_proto::TCP => Some(("tcp_csum", be16(16)?)),
        ip_proto::UDP => Some(("udp_csum", be16(6)?)),
        ip_proto::SCTP => Some(("sctp_csum", be16(8)? << 16 | be16(10)?)),
        ip_proto::ICMP => Some(("icmp_csum", be16(2)?)),
        ip_proto::ICMPV6 => Some(("icmp6_csum", be16(2)?)),
        _ => None,
    }
}

pub fn packet_in(pin: &PacketIn, p: Print<'_>, out: &mut String) {
    if pin.table_id != 0 {
        out.push_str(" table_id=");
        crate::text::format_table(pin.table_id, p.names.tables, out);
    }
    if pin.cookie != NO_COOKIE {
        let _ = write!(out, " cookie={:#x}", pin.cookie);
    }
    let _ = write!(out, " total_len={} ", pin.total_len);
    format_match(&pin.flow_metadata, None, &p.names, out);
    let _ = write!(out, " (via {})", pin.reason.name());
    let _ = write!(out, " data_len={}", pin.packet.len());
    if pin.buffer_id == NO_BUFFER {
        out.push_str(" (unbuffered)");
        if pin.total_len != pin.packet.len() {
            out.push_str(" (***total_len != data_len***)");
        }
    } else {
        let _ = write!(out, " buffer={:#010x}", pin.buffer_id);
        if pin.total_len < pin.packet.len() {
            out.push_str(" (***total_len < data_len***)");
        }
    }
    out.push('\n');
    if !pin.userdata.is_empty() {
        out.push_str(" userdata=");
        for (i, b) in pin.userdata.iter().enumerate() {
            let _ = write!(out, "{}{b:02x}", if i > 0 { "." } else { "" });
        }
        out.push('\n');
    }
    if let Some(c) = &pin.continuation {
        continuation(c, p, out);
    }
    if p.verbosity > 0 {
        format_packet(&pin.packet, pin.flow_metadata.flow.packet_type.get(), out);
    }
    if p.verbosity > 2 {
        hex_dump(&pin.packet, false, out);
    }
}

fn continuation(c: &Continuation, p: Print<'_>, out: &mut String) {
    let b = &c.bridge;
    let part =
        |r: std::ops::Range<usize>| -> String { b[r].iter().map(|x| format!("{x:02x}")).collect() };
    let _ = writeln!(
        out,
        " continuation.bridge={}-{}-{}-{}-{}",
        part(0..4),
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..16)
    );
    if !c.stack.is_empty() {
        out.push_str(" continuation.stack=");
        for (i, s) in c.stack.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            let text: String = s.iter().map(|x| format!("{x:02x}")).collect();
            let trimmed = text.trim_start_matches('0');
            let _ = write!(out, "0x{}", if trimmed.is_empty() { "0" } else { trimmed });
        }
        out.push('\n');
    }
    if c.mirrors != 0 {
        let _ = writeln!(out, " continuation.mirrors={}", hex(c.mirrors.into()));
    }
    if c.conntracked {
        out.push_str(" continuation.conntracked=true\n");
    }
    if c.table_id != 0xff && !c.actions.is_empty() {
        let _ = writeln!(out, " continuation.table_id={}", c.table_id);
    }
    if !c.actions.is_empty() {
        if c.cookie != NO_COOKIE {
            let _ = writeln!(out, " continuation.cookie={}", hex(c.cookie));
        }
        out.push_str(" continuation.actions=");
        format_actions(&c.actions, &p.names, out);
        out.push('\n');
    }
    if !c.action_set.is_empty() {
        out.push_str(" continuation.action_set=");
        format_actions(&c.action_set, &p.names, out);
        out.push('\n');
    }
    if let Some(port) = c.odp_port {
        let _ = writeln!(out, " continuation.odp_port={port}");
    }
}

pub fn packet_out(po: &PacketOut, p: Print<'_>, out: &mut String) {
    out.push(' ');
    if po.flow_metadata.wc.masks.in_port != 0 {
        let mut m = po.flow_metadata;
        m.flow.in_port = 0;
        m.wc.masks.in_port = 0;
        out.push_str("in_port=");
        format_port(
            OfPort(po.flow_metadata.flow.in_port as u16),
            p.names.ports,
            out,
        );
        let start = out.len();
        format_match(&m, None, &p.names, out);
        if out.len() != start {
            out.insert(start, ',');
        }
    }
    out.push_str(" actions=");
    format_actions(&po.actions, &p.names, out);
    if po.buffer_id == NO_BUFFER {
        let _ = write!(out, " data_len={}", po.packet.len());
        if p.verbosity > 0 && !po.packet.is_empty() {
            out.push('\n');
            format_packet(&po.packet, po.flow_metadata.flow.packet_type.get(), out);
        }
        if p.verbosity > 2 {
            hex_dump(&po.packet, false, out);
        }
    } else {
        let _ = write!(out, " buffer={:#010x}", po.buffer_id);
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}
