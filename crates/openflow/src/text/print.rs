//! Messages as text: what `ovs-ofctl` prints for replies, `monitor`, `snoop` and `ofp-print`.

mod hello;
mod monitor;
mod packet;
mod port;
mod switch;
mod table;
mod wire_match;

use std::fmt::Write;

use super::format::hex;
use super::{Names, format_table};
use crate::codec::decode_hello;
use crate::error::OfpErr;
use crate::flow::*;
use crate::group::{GroupFeatures, GroupMod};
use crate::message::{Message, Msg};
use crate::raw::{self, HEADER_LEN, Raw};
use crate::text::flow::{FlowShow, format_flow_mod, format_flow_stats};
use crate::text::match_::format_match;
use crate::version::Version;
use ferrovs_packet::types::OfPort;

pub use packet::format_packet;
pub use table::FeaturePrinter;
pub use wire_match::format_entries;

/// Appends bytes as rows of 16 with their offsets, and as characters if `ascii`.
pub fn hex_dump(data: &[u8], ascii: bool, out: &mut String) {
    for (row, chunk) in data.chunks(16).enumerate() {
        let _ = write!(out, "{:08x} ", row * 16);
        // A row of exactly eight ends with the hyphen that would join the next half, if text follows.
        let middle = if ascii {
            chunk.len() > 7
        } else {
            chunk.len() > 8
        };
        for i in 0..16 {
            out.push(if i == 8 && middle { '-' } else { ' ' });
            match chunk.get(i) {
                Some(b) => {
                    let _ = write!(out, "{b:02x}");
                }
                None => out.push_str("  "),
            }
        }
        if ascii {
            out.push_str(" |");
            for i in 0..16 {
                out.push(match chunk.get(i) {
                    Some(&b) if (0x20..0x7f).contains(&b) => b as char,
                    Some(_) => '.',
                    None => ' ',
                });
            }
            out.push('|');
        } else {
            out.truncate(out.trim_end_matches(' ').len());
        }
        out.push('\n');
    }
}

/// How a message is printed.
#[derive(Clone, Copy)]
pub struct Print<'a> {
    pub names: Names<'a>,
    /// 0 terse; 1 to 3 more; from 3 on packets are dumped in hexadecimal and matches shown as they are on the
    /// wire, from 5 on whole messages follow as dumps.
    pub verbosity: u8,
}

/// Appends one message, given as bytes, with a newline at the end.
pub fn format_message(msg: &[u8], p: Print<'_>, out: &mut String) {
    let start = out.len();
    let dump_after = message(msg, p, out);
    if !out[start..].ends_with('\n') {
        out.push('\n');
    }
    if dump_after {
        hex_dump(msg, true, out);
    }
}

/// Prints a message; whether its bytes shall follow.
fn message(msg: &[u8], p: Print<'_>, out: &mut String) -> bool {
    if msg.is_empty() {
        out.push_str("OpenFlow message is empty\n");
        return false;
    }
    if msg.len() < HEADER_LEN {
        let _ = writeln!(out, "OpenFlow packet too short (only {} bytes):", msg.len());
        return true;
    }
    let len = usize::from(u16::from_be_bytes([msg[2], msg[3]]));
    if len != msg.len() {
        // What is cut off has its name all the same, what is too long has none.
        if len > msg.len()
            && let Ok(parsed) = raw::identify(msg)
        {
            title(parsed.raw, msg, out);
            out.push('\n');
        }
        let n = msg.len();
        let _ = if len > n {
            writeln!(out, "(***truncated to {n} bytes from {len}***)")
        } else {
            writeln!(out, "(***only uses {len} bytes out of {n}***)")
        };
        return true;
    }
    let raw = match raw::parse_aloud(msg) {
        Ok(parsed) => parsed.raw,
        Err(e) => {
            let _ = writeln!(out, "***decode error: {}***", e.name());
            return true;
        }
    };
    title(raw, msg, out);
    let titled = out.len();
    match body(msg, raw, p, out) {
        Ok(()) => p.verbosity >= 5,
        Err(e) => {
            if out.len() == titled {
                out.push(' ');
            } else if !out.ends_with('\n') {
                out.push('\n');
            }
            let _ = writeln!(out, "***decode error: {}***", e.name());
            true
        }
    }
}

fn title(raw: &Raw, msg: &[u8], out: &mut String) {
    out.push_str(raw.name);
    match Version::from_wire(msg[0]) {
        Some(Version::V10) => {}
        Some(v) => {
            let _ = write!(out, " (OF1.{})", v.minor());
        }
        None => {
            let _ = write!(out, " (OF 0x{:02x})", msg[0]);
        }
    }
    let xid = u32::from_be_bytes([msg[4], msg[5], msg[6], msg[7]]);
    let _ = write!(out, " (xid={xid:#x}):");
}

fn body(msg: &[u8], raw: &Raw, p: Print<'_>, out: &mut String) -> Result<(), OfpErr> {
    if raw.kind == raw::Kind::Hello {
        let (versions, ok) = decode_hello(msg);
        hello::format_hello(versions, ok, msg, out);
        return Ok(());
    }
    if raw.is_multipart() {
        multipart_flags(msg, raw, out);
    }
    let (decoded, broken) = match Msg::decode_for_show(msg, p.names.tun) {
        // No flow format is decoded as "unknown".
        Err(_) if raw.kind == raw::Kind::SetFlowFormat => {
            out.push_str(" format=(unknown)");
            return Ok(());
        }
        other => other?,
    };
    // Numbers that nobody knows are as good as no error message.
    if matches!(&decoded.body, Message::Error(e) if e.error.is_none())
        || raw.kind == raw::Kind::Error && Version::from_wire(msg[0]).is_none()
    {
        return Err(OfpErr::OFPBRC_BAD_LEN);
    }
    let as_on_wire = p.verbosity >= 3 && wire_match::is_shown(raw, decoded.version);
    match &decoded.body {
        Message::FlowMod { flow_mod, .. } if as_on_wire => {
            let body = &msg[raw::prefix_len(raw.carrier, decoded.version)..];
            let text = wire_match::format(body, raw);
            self::flow_mod(flow_mod, decoded.version, Some(&text), &p.names, out);
        }
        _ => format_body(&decoded, p, out),
    }
    if let (Some(_), Message::GroupStatsReply { .. }) = (broken, &decoded.body) {
        out.push_str(" ***parse error***");
    }
    broken.map_or(Ok(()), Err)
}

fn multipart_flags(msg: &[u8], raw: &Raw, out: &mut String) {
    let mut flags = u16::from_be_bytes([msg[10], msg[11]]);
    if flags == 0 {
        return;
    }
    out.push_str(" flags=");
    // Requests may come in parts from 1.3 on.
    if flags & 1 != 0 && (raw.is_multipart_reply() || msg[0] >= Version::V13.wire()) {
        out.push_str("[more]");
        flags &= !1;
    }
    if flags != 0 {
        let _ = write!(out, "[***unknown flags 0x{flags:04x}***]");
    }
}

/// Appends what a decoded message says, without its title.
#[expect(
    clippy::too_many_lines,
    reason = "each message has its line, and none can be forgotten"
)]
fn format_body(m: &Msg, p: Print<'_>, out: &mut String) {
    let names = &p.names;
    match &m.body {
        Message::Hello { .. }
        | Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::BarrierRequest
        | Message::BarrierReply
        | Message::GetAsyncRequest
        | Message::DescRequest
        | Message::TableStatsRequest
        | Message::GroupFeaturesRequest
        | Message::MeterFeaturesRequest
        | Message::TableDescRequest
        | Message::FlowAge
        | Message::TlvTableRequest
        | Message::FlowMonitorPaused
        | Message::FlowMonitorResumed
        | Message::IpfixBridgeRequest
        | Message::IpfixFlowRequest => {}
        Message::Error(e) => switch::error(e, p, out),
        Message::EchoRequest(d) | Message::EchoReply(d) => echo(d, p, out),
        Message::FeaturesReply(f) => switch::features(f, m.version, p, out),
        Message::GetConfigReply(c) | Message::SetConfig(c) => switch::config(c, out),
        Message::DescReply(d) => switch::desc(d, out),
        Message::PacketIn { packet_in, .. } => packet::packet_in(packet_in, p, out),
        Message::Resume(pin) => packet::packet_in(pin, p, out),
        Message::PacketOut(po) => packet::packet_out(po, p, out),
        Message::FlowRemoved { removed, .. } => flow_removed(removed, names, out),
        Message::PortStatus(s) => port::port_status(s, p, out),
        Message::FlowMod { flow_mod, .. } => self::flow_mod(flow_mod, m.version, None, names, out),
        Message::GroupMod(g) => group_mod(g, m.version, names, out),
        Message::PortMod(pm) => port::port_mod(pm, p, out),
        Message::TableMod(t) => table::table_mod(t, p, out),
        Message::QueueGetConfigRequest(q) => port::queue_config_request(q, p, out),
        Message::QueueGetConfigReply { port, queues, .. } => {
            port::queue_config_reply(*port, queues, p, out);
        }
        Message::RoleRequest(r) | Message::RoleReply(r) => switch::role(r, out),
        Message::RoleStatus(r) => switch::role_status(r, out),
        Message::GetAsyncReply(c) => switch::async_config(c, m.version, out),
        Message::SetAsync { change, .. } => {
            let mut c = Default::default();
            crate::switch::AsyncConfig::apply(&mut c, change);
            switch::async_config(&c, m.version, out);
        }
        Message::MeterMod(mm) => super::meter::format_meter_mod(mm, out),
        Message::RequestForward { request, .. } => request_forward(request, m.version, names, out),
        Message::TableStatus { vacancy_up, desc } => {
            let reason = if *vacancy_up { "UP" } else { "DOWN" };
            let _ = write!(out, " reason=VACANCY_{reason}\ntable_desc:-");
            table::table_desc(desc, p, out);
        }
        Message::BundleControl(b) => switch::bundle_control(b, out),
        Message::BundleAdd(b) => {
            switch::bundle_flags(b.bundle_id, b.flags, None, out);
            out.push('\n');
            format_message(&b.msg, p, out);
        }
        Message::FlowStatsRequest { request, .. } => flow_stats_request(request, p, out),
        Message::FlowStatsReply { flows, .. } => {
            let show = FlowShow { stats: true };
            each(flows, "\n ", out, |f, out| {
                format_flow_stats(f, show, names, out)
            });
        }
        Message::AggregateReply { stats, .. } => {
            let _ = write!(
                out,
                " packet_count={} byte_count={} flow_count={}",
                stats.packet_count, stats.byte_count, stats.flow_count
            );
        }
        Message::TableStatsReply { tables, .. } => table::table_stats(tables, p, out),
        Message::PortStatsRequest { port } => {
            out.push_str(" port_no=");
            port::port_name(*port, p, out);
        }
        Message::PortStatsReply { ports, .. } => port::port_stats(ports, p, out),
        Message::QueueStatsRequest(q) => port::queue_stats_request(q, p, out),
        Message::QueueStatsReply { queues, .. } => port::queue_stats(queues, p, out),
        Message::GroupStatsRequest { group } | Message::GroupDescRequest { group } => {
            out.push_str(" group_id=");
            super::group::format_group_id(*group, out);
        }
        Message::GroupStatsReply { groups, .. } => {
            each(groups, "\n ", out, super::group::format_group_stats);
        }
        Message::GroupDescReply { groups, .. } => {
            each(groups, "\n ", out, |g, out| {
                super::group::format_group_desc(g, m.version, names, out);
            });
        }
        Message::GroupFeaturesReply(f) => group_features(f, m.version, out),
        Message::MeterStatsRequest { meter } | Message::MeterConfigRequest { meter } => {
            out.push_str(" meter=");
            super::meter::format_meter_id(*meter, '=', out);
        }
        Message::MeterStatsReply { meters, .. } => {
            each(meters, "\n", out, super::meter::format_meter_stats);
        }
        Message::MeterConfigReply { meters, .. } => {
            each(meters, "\n", out, |c, out| {
                super::meter::format_meter_config(c, false, out)
            });
        }
        Message::MeterFeaturesReply(f) => super::meter::format_meter_features(f, out),
        Message::TableFeaturesRequest { tables, .. }
        | Message::TableFeaturesReply { tables, .. } => {
            if !tables.is_empty() {
                out.push('\n');
            }
            table::table_features_list(tables, p, out);
        }
        Message::TableDescReply { tables, .. } => {
            each(tables, "", out, |t, out| table::table_desc(t, p, out));
        }
        Message::PortDescRequest { port } => {
            out.push_str(" port=");
            port::port_name(*port, p, out);
        }
        Message::PortDescReply { ports, .. } => {
            out.push('\n');
            let mut sorted: Vec<_> = ports.iter().collect();
            sorted.sort_by_key(|d| d.port_no);
            each(&sorted, "", out, |d, out| port::phy_port(d, p, out));
        }
        Message::FlowMonitorRequest(list) => {
            each(list, "", out, |r, out| monitor::request(r, p, out));
        }
        Message::FlowMonitorReply { updates, .. } => {
            each(updates, "", out, |u, out| monitor::update(u, p, out));
            if out.ends_with(' ') {
                out.pop();
            }
        }
        Message::FlowMonitorCancel { id } => {
            let _ = write!(out, " id={id}");
        }
        Message::SetFlowFormat { nxm } => {
            let _ = write!(out, " format={}", if *nxm { "nxm" } else { "openflow10" });
        }
        Message::FlowModTableId(on) => {
            let _ = write!(out, " {}", if *on { "enable" } else { "disable" });
        }
        Message::SetPacketInFormat(f) => {
            let _ = write!(out, " format={}", f.name());
        }
        Message::SetControllerId(id) => {
            let _ = write!(out, " id={id}");
        }
        Message::TlvTableMod(t) => switch::tlv_mod(t, out),
        Message::TlvTableReply(t) => switch::tlv_reply(t, out),
        Message::CtFlushZone(z) => {
            let _ = write!(out, " zone_id={z}");
        }
        Message::CtFlush(f) => switch::ct_flush(f, out),
        Message::IpfixBridgeReply(s) => switch::ipfix_bridge(s, out),
        Message::IpfixFlowReply(list) => switch::ipfix_flow(list, out),
    }
}

/// Appends items, each behind `front`.
fn each<T>(items: &[T], front: &str, out: &mut String, mut item: impl FnMut(&T, &mut String)) {
    for i in items {
        out.push_str(front);
        item(i, out);
    }
}

fn echo(payload: &[u8], p: Print<'_>, out: &mut String) {
    let _ = writeln!(out, " {} bytes of payload", payload.len());
    if p.verbosity > 1 {
        hex_dump(payload, true, out);
    }
}

fn group_mod(g: &GroupMod, version: Version, names: &Names<'_>, out: &mut String) {
    out.push_str("\n ");
    super::group::format_group_mod(g, version, names, out);
}

fn request_forward(request: &Message, version: Version, names: &Names<'_>, out: &mut String) {
    out.push_str(" reason=");
    match request {
        Message::GroupMod(g) => {
            out.push_str("group_mod");
            group_mod(g, version, names, out);
        }
        Message::MeterMod(mm) => {
            out.push_str("meter_mod");
            super::meter::format_meter_mod(mm, out);
        }
        _ => {}
    }
}

fn flow_mod(
    fm: &FlowMod,
    version: Version,
    wire: Option<&str>,
    names: &Names<'_>,
    out: &mut String,
) {
    out.push(' ');
    let mut flags = fm.flags;
    if version < Version::V12 {
        // Adding always resets counters there; the message does not say so.
        flags -= FlowModFlags::RESET_COUNTS;
    }
    format_flow_mod(fm, flags, wire, names, out);
}

fn flow_removed(fr: &FlowRemoved, names: &Names<'_>, out: &mut String) {
    out.push(' ');
    format_match(&fr.match_, Some(fr.priority), names, out);
    let _ = write!(out, " reason={}", fr.reason.name());
    if fr.table_id != 0xff {
        out.push_str(" table_id=");
        format_table(fr.table_id, names.tables, out);
    }
    if fr.cookie != 0 {
        let _ = write!(out, " cookie:{}", hex(fr.cookie));
    }
    out.push_str(" duration");
    super::format::duration(out, fr.duration_sec, fr.duration_nsec);
    let _ = write!(out, " idle{}", fr.idle_timeout);
    if fr.hard_timeout != 0 {
        // The reply of 1.0 has no hard timeout.
        let _ = write!(out, " hard{}", fr.hard_timeout);
    }
    let _ = write!(out, " pkts{} bytes{}", fr.packet_count, fr.byte_count);
}

fn flow_stats_request(q: &FlowStatsRequest, p: Print<'_>, out: &mut String) {
    if q.table_id != 0xff {
        out.push_str(" table=");
        format_table(q.table_id, p.names.tables, out);
    }
    if q.out_port != OfPort::NONE {
        out.push_str(" out_port=");
        port::port_name(q.out_port, p, out);
    }
    let start = out.len();
    out.push(' ');
    format_match(&q.match_, None, &p.names, out);
    if out.len() == start + 1 {
        out.pop();
    }
}

/// 1.0's actions by number.
const ACTIONS10: [&str; 12] = [
    "output",
    "set_vlan_vid",
    "set_vlan_pcp",
    "strip_vlan",
    "mod_dl_src",
    "mod_dl_dst",
    "mod_nw_src",
    "mod_nw_dst",
    "mod_nw_tos",
    "mod_tp_src",
    "mod_tp_dst",
    "enqueue",
];

/// Names of 1.0's actions in a bit set, in the order in which actions are shown.
pub(crate) fn actions10(bits: u32, out: &mut String) {
    let order = [0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let mut first = true;
    for i in order {
        if bits & 1 << i != 0 {
            if !first {
                out.push(' ');
            }
            first = false;
            out.push_str(ACTIONS10[i]);
        }
    }
    if first {
        out.push_str("<none>");
    }
}

fn group_features(f: &GroupFeatures, version: Version, out: &mut String) {
    let _ = writeln!(out, "\n Group table:");
    let _ = writeln!(out, "    Types:  {:#x}", f.types);
    let _ = writeln!(out, "    Capabilities:  {:#x}", f.capabilities);
    for (i, name) in ["all", "select", "indirect", "fast failover"]
        .iter()
        .enumerate()
    {
        if f.types & 1 << i == 0 {
            continue;
        }
        let _ = writeln!(out, "    {name} group:");
        let _ = writeln!(out, "       max_groups={}", hex(f.max_groups[i].into()));
        out.push_str("       actions: ");
        if version == Version::V10 {
            actions10(f.actions[i], out);
        } else {
            table::actions(crate::codec::action_name_bits(f.actions[i], version), out);
        }
        out.push('\n');
    }
}
