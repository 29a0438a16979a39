//! Features, configuration, description, roles, asynchronous configuration, bundles, tunnel options.

use std::fmt::Write;

use super::{Print, actions10, format_message, port};
use crate::message::ErrorMsg;
use crate::packet_in::PacketInReason;
use crate::switch::*;
use crate::text::format::hex;
use crate::version::Version;

pub fn error(e: &ErrorMsg, p: Print<'_>, out: &mut String) {
    let Some(err) = e.error else {
        let _ = write!(out, " ***decode error: OFPBRC_BAD_LEN***");
        return;
    };
    let _ = writeln!(out, " {}", err.name());
    if err == crate::OfpErr::OFPHFC_INCOMPATIBLE || err == crate::OfpErr::OFPHFC_EPERM {
        // The data is text for people.
        for &b in &e.data {
            match b {
                0x20..=0x7e => out.push(b as char),
                _ => {
                    let _ = write!(out, "\\{b:03o}");
                }
            }
        }
    } else {
        format_message(&e.data, Print { verbosity: 1, ..p }, out);
    }
}

const CAPABILITIES: [(Capabilities, &str); 10] = [
    (Capabilities::FLOW_STATS, "FLOW_STATS"),
    (Capabilities::TABLE_STATS, "TABLE_STATS"),
    (Capabilities::PORT_STATS, "PORT_STATS"),
    // The same bit, by version.
    (Capabilities::STP, "STP"),
    (Capabilities::GROUP_STATS, "GROUP_STATS"),
    (Capabilities::IP_REASM, "IP_REASM"),
    (Capabilities::QUEUE_STATS, "QUEUE_STATS"),
    (Capabilities::ARP_MATCH_IP, "ARP_MATCH_IP"),
    (Capabilities::PORT_BLOCKED, "PORT_BLOCKED"),
    (Capabilities::BUNDLES, "BUNDLES"),
];

pub fn features(f: &SwitchFeatures, version: Version, p: Print<'_>, out: &mut String) {
    let _ = writeln!(out, " dpid:{:016x}", f.datapath_id);
    let _ = write!(out, "n_tables:{}, n_buffers:{}", f.n_tables, f.n_buffers);
    if f.auxiliary_id != 0 {
        let _ = write!(out, ", auxiliary_id:{}", f.auxiliary_id);
    }
    out.push_str("\ncapabilities: ");
    let mut names: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(c, _)| f.capabilities.contains(*c))
        .map(|c| c.1)
        .collect();
    if f.capabilities.contains(Capabilities::FLOW_MONITORING) {
        names.push("FLOW_MONITORING");
    }
    out.push_str(&if names.is_empty() {
        "0".to_owned()
    } else {
        names.join(" ")
    });
    out.push('\n');
    if version == Version::V10 {
        out.push_str("actions: ");
        actions10(f.actions, out);
        out.push('\n');
    }
    let mut ports: Vec<_> = f.ports.iter().collect();
    ports.sort_by_key(|p| p.port_no);
    for d in ports {
        port::phy_port(d, p, out);
    }
}

pub fn config(c: &SwitchConfig, out: &mut String) {
    let _ = write!(out, " frags={}", c.frag.name());
    if c.invalid_ttl_to_controller == Some(true) {
        out.push_str(" invalid_ttl_to_controller");
    }
    let _ = writeln!(out, " miss_send_len={}", c.miss_send_len);
}

pub fn desc(d: &DescStats, out: &mut String) {
    let _ = writeln!(out, "\nManufacturer: {}", d.mfr_desc);
    let _ = writeln!(out, "Hardware: {}", d.hw_desc);
    let _ = writeln!(out, "Software: {}", d.sw_desc);
    let _ = writeln!(out, "Serial Num: {}", d.serial_num);
    let _ = writeln!(out, "DP Description: {}", d.dp_desc);
}

fn role_name(r: Role, out: &mut String) {
    out.push_str(match r {
        Role::NoChange => "nochange",
        Role::Equal => "equal",
        Role::Primary => "primary",
        Role::Secondary => "secondary",
    });
}

pub fn role(r: &RoleRequest, out: &mut String) {
    out.push_str(" role=");
    // Nicira calls the equal role "other"; it is one and the same.
    role_name(r.role, out);
    if let Some(g) = r.generation_id {
        let _ = write!(out, " generation_id={g}");
    }
}

pub fn role_status(r: &RoleStatus, out: &mut String) {
    out.push_str(" role=");
    role_name(r.role, out);
    if r.generation_id != u64::MAX {
        let _ = write!(out, " generation_id={}", r.generation_id);
    }
    out.push_str(" reason=");
    out.push_str(match r.reason {
        RoleReason::PrimaryRequest => "primary_request",
        RoleReason::Config => "configuration_changed",
        RoleReason::Experimenter => "experimenter_data_changed",
        RoleReason::Unknown => "(unknown)",
    });
}

pub fn async_config(c: &AsyncConfig, version: Version, out: &mut String) {
    // What a version has no reason for does not concern it.
    let packet_in = if version >= Version::V14 { 6 } else { 3 };
    let reason = |kind: usize, bit: usize| -> Option<&'static str> {
        match kind {
            0 => PacketInReason::ALL[..packet_in].get(bit).map(|r| r.1),
            1 => ["add", "delete", "modify"].get(bit).copied(),
            2 => crate::flow::FlowRemovedReason::ALL.get(bit).map(|r| r.1),
            3 => [
                "primary_request",
                "configuration_changed",
                "experimenter_data_changed",
            ]
            .get(bit)
            .copied(),
            4 => match bit {
                3 => Some("vacancy_down"),
                4 => Some("vacancy_up"),
                _ => None,
            },
            _ => ["group_mod_request", "meter_mod_request"].get(bit).copied(),
        }
    };
    for (name, masks) in [("primary", &c.primary), ("secondary", &c.secondary)] {
        let _ = writeln!(out, "\n {name}:");
        for (kind, label) in [
            "PACKET_IN",
            "PORT_STATUS",
            "FLOW_REMOVED",
            "ROLE_STATUS",
            "TABLE_STATUS",
            "REQUESTFORWARD",
        ]
        .iter()
        .enumerate()
        {
            let _ = write!(out, "{label:>16}:");
            let start = out.len();
            for bit in (0..32).filter(|b| masks[kind] & 1 << b != 0) {
                if let Some(r) = reason(kind, bit) {
                    let _ = write!(out, " {r}");
                }
            }
            if out.len() == start {
                out.push_str(" (off)");
            }
            out.push('\n');
        }
    }
}

pub fn bundle_flags(id: u32, flags: BundleFlags, type_: Option<BundleCtrlType>, out: &mut String) {
    let _ = write!(out, "\n bundle_id={}", hex(id.into()));
    if let Some(t) = type_ {
        out.push_str(" type=");
        out.push_str(
            [
                "OPEN_REQUEST",
                "OPEN_REPLY",
                "CLOSE_REQUEST",
                "CLOSE_REPLY",
                "COMMIT_REQUEST",
                "COMMIT_REPLY",
                "DISCARD_REQUEST",
                "DISCARD_REPLY",
            ][t as usize],
        );
    }
    out.push_str(" flags=");
    let mut names = Vec::new();
    if flags.contains(BundleFlags::ATOMIC) {
        names.push("atomic");
    }
    if flags.contains(BundleFlags::ORDERED) {
        names.push("ordered");
    }
    let rest = (flags - BundleFlags::all()).bits();
    let mut text = names.join(" ");
    if rest != 0 {
        let _ = write!(text, "{}{rest:#x}", if text.is_empty() { "" } else { " " });
    }
    out.push_str(if text.is_empty() { "0" } else { &text });
}

pub fn bundle_control(b: &BundleCtrl, out: &mut String) {
    bundle_flags(b.bundle_id, b.flags, Some(b.type_), out);
}

fn tlv_table(maps: &[TlvMap], out: &mut String) {
    out.push_str(" mapping table:\n");
    out.push_str("  class  type  length  match field\n");
    out.push_str(" ------  ----  ------  --------------");
    for m in maps {
        let _ = write!(
            out,
            "\n {:>6}  {:>4}  {:>6}  tun_metadata{}",
            hex(m.option_class.into()),
            hex(m.option_type.into()),
            m.option_len,
            m.index
        );
    }
}

pub fn tlv_mod(t: &TlvTableMod, out: &mut String) {
    out.push_str("\n ");
    match t.command {
        TlvTableCommand::Add => out.push_str("ADD"),
        TlvTableCommand::Delete => out.push_str("DEL"),
        TlvTableCommand::Clear => {
            out.push_str("CLEAR");
            return;
        }
    }
    tlv_table(&t.maps, out);
}

pub fn tlv_reply(t: &TlvTableReply, out: &mut String) {
    let used: u32 = t.maps.iter().map(|m| u32::from(m.option_len)).sum();
    let _ = writeln!(
        out,
        "\n max option space={} max fields={}",
        t.max_option_space, t.max_fields
    );
    let _ = writeln!(out, " allocated option space={used}\n");
    tlv_table(&t.maps, out);
}

fn ct_tuple(t: &CtTuple, v6: bool, proto: u8, with_proto: bool, out: &mut String) {
    use std::net::IpAddr;
    let field = if v6 { "ct_ipv6" } else { "ct_nw" };
    let text = |a: Option<IpAddr>| match a {
        Some(IpAddr::V4(a)) if v6 => ferrovs_packet::field::format_ipv6(a.to_ipv6_mapped().into()),
        Some(IpAddr::V4(a)) => a.to_string(),
        Some(IpAddr::V6(a)) => ferrovs_packet::field::format_ipv6(a.into()),
        None => "::".to_owned(),
    };
    let _ = write!(
        out,
        " '{field}_src={},{field}_dst={},",
        text(t.src),
        text(t.dst)
    );
    if proto == 1 || proto == 58 {
        let _ = write!(
            out,
            "icmp_id={},icmp_type={},icmp_code={}",
            t.icmp_id, t.icmp_type, t.icmp_code
        );
    } else {
        let _ = write!(out, "ct_tp_src={},ct_tp_dst={}", t.src_port, t.dst_port);
    }
    if with_proto {
        let _ = write!(out, ",ct_nw_proto={proto}");
    }
    out.push('\'');
}

pub fn ct_flush(f: &CtFlush, out: &mut String) {
    let _ = write!(out, " zone={}", f.zone.unwrap_or(0));
    if f.mark_mask != 0 {
        let _ = write!(out, " mark={}", hex(f.mark.into()));
        if f.mark_mask != u32::MAX {
            let _ = write!(out, "/{}", hex(f.mark_mask.into()));
        }
    }
    if f.labels_mask != 0 {
        let _ = write!(out, " labels={:#x}", f.labels);
        if f.labels_mask != u128::MAX {
            let _ = write!(out, "/{:#x}", f.labels_mask);
        }
    }
    let addrs = [f.orig.src, f.orig.dst, f.reply.src, f.reply.dst];
    // Without any address it is as good as IPv6.
    let v6 = !addrs.iter().flatten().any(std::net::IpAddr::is_ipv4);
    ct_tuple(&f.orig, v6, f.ip_proto, true, out);
    ct_tuple(&f.reply, v6, f.ip_proto, false, out);
}

fn ipfix_counters(s: &IpfixStats, indent: &str, out: &mut String) {
    let count = |out: &mut String, label: &str, n: u64| {
        out.push_str(label);
        if n == u64::MAX {
            out.push('?');
        } else {
            let _ = write!(out, "{n}");
        }
    };
    count(out, "flows=", s.total_flows);
    count(out, ", current flows=", s.current_flows);
    count(out, ", sampled pkts=", s.pkts);
    count(out, ", ipv4 ok=", s.ipv4_pkts);
    count(out, ", ipv6 ok=", s.ipv6_pkts);
    count(out, ", tx pkts=", s.tx_pkts);
    let _ = write!(out, "\n{indent}");
    count(out, "pkts errs=", s.error_pkts);
    count(out, ", ipv4 errs=", s.ipv4_error_pkts);
    count(out, ", ipv6 errs=", s.ipv6_error_pkts);
    count(out, ", tx errs=", s.tx_errors);
    out.push('\n');
}

pub fn ipfix_bridge(s: &IpfixStats, out: &mut String) {
    out.push_str("\n  bridge ipfix: ");
    ipfix_counters(s, "                ", out);
}

pub fn ipfix_flow(list: &[IpfixStats], out: &mut String) {
    let _ = writeln!(out, " {} ids", list.len());
    for s in list {
        let _ = write!(out, "  id {:>3}: ", s.collector_set_id);
        ipfix_counters(s, "          ", out);
    }
}
