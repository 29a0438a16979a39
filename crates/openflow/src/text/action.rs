//! Actions as text.

use std::fmt::Write;

use ferrovs_packet::field::{Field, FieldId, SubField, format_port};
use ferrovs_packet::types::OfPort;

use super::color::{self, Colors, Part};
use super::format::hex;
use super::{Names, format_table};
use crate::action::encode::{load_segments, mask_is_whole};
use crate::action::*;
use crate::packet_in::PacketInReason;

/// Appends a list of actions, joined by commas; `drop` if there are none.
pub fn format_actions(list: &[Action], names: &Names<'_>, out: &mut String) {
    let start = out.len();
    format_list(list, names, out);
    color::repaint(start, out, Colors::actions);
}

fn format_list(list: &[Action], names: &Names<'_>, out: &mut String) {
    if list.is_empty() {
        out.push_str("drop");
        return;
    }
    for (i, a) in list.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        format_action(a, names, out);
    }
}

/// The name of a field in actions that take a plain number for it.
fn subfield(sf: &SubField, out: &mut String) {
    sf.format(out);
}

fn list_of<T>(items: &[T], out: &mut String, mut one: impl FnMut(&T, &mut String)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        one(item, out);
    }
}

fn dotted(data: &[u8], out: &mut String) {
    for (i, b) in data.iter().enumerate() {
        if i > 0 {
            out.push('.');
        }
        let _ = write!(out, "{b:02x}");
    }
}

fn packet_type(pt: u32, out: &mut String) {
    let type_ = hex((pt & 0xffff).into());
    let _ = write!(out, "(ns={},type={type_})", pt >> 16);
}

/// Drops the comma that a list of optional parts ends with.
fn chomp(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
}

/// Appends one action.
pub fn format_action(a: &Action, names: &Names<'_>, out: &mut String) {
    let port = |p: OfPort, out: &mut String| format_port(p, names.ports, out);
    match a {
        Action::Output { port: p, max_len } => {
            if p.0 < OfPort::MAX.0 {
                out.push_str("output:");
                port(*p, out);
            } else {
                port(*p, out);
                if *p == OfPort::CONTROLLER {
                    let _ = write!(out, ":{max_len}");
                }
            }
        }
        Action::OutputReg { src, .. } => {
            out.push_str("output:");
            subfield(src, out);
        }
        Action::OutputTrunc { port: p, max_len } => {
            out.push_str("output(port=");
            port(*p, out);
            let _ = write!(out, ",max_len={max_len})");
        }
        Action::Group(id) => {
            let _ = write!(out, "group:{id}");
        }
        Action::Controller(c) => controller(c, out),
        Action::Enqueue { port: p, queue } => {
            out.push_str("enqueue:");
            port(*p, out);
            let _ = write!(out, ":{queue}");
        }
        Action::Bundle(b) => {
            let name = if b.dst.is_some() {
                "bundle_load"
            } else {
                "bundle"
            };
            let alg = match b.algorithm {
                BundleAlgorithm::ActiveBackup => "active_backup",
                BundleAlgorithm::Hrw => "hrw",
            };
            let _ = write!(out, "{name}({},{},{alg},ofport,", b.fields.name(), b.basis);
            if let Some(dst) = &b.dst {
                subfield(dst, out);
                out.push(',');
            }
            out.push_str("members:");
            list_of(&b.members, out, |p, o| port(*p, o));
            out.push(')');
        }
        Action::SetField(sf) => set_field(sf, names, out),
        Action::RegMove { src, dst, .. } => {
            out.push_str("move:");
            subfield(src, out);
            out.push_str("->");
            subfield(dst, out);
        }
        Action::SetVlanVid {
            vid,
            push_if_needed,
            ..
        } => {
            let verb = if *push_if_needed { "mod" } else { "set" };
            let _ = write!(out, "{verb}_vlan_vid:{vid}");
        }
        Action::SetVlanPcp {
            pcp,
            push_if_needed,
            ..
        } => {
            let verb = if *push_if_needed { "mod" } else { "set" };
            let _ = write!(out, "{verb}_vlan_pcp:{pcp}");
        }
        Action::StripVlan { pop } => out.push_str(if *pop { "pop_vlan" } else { "strip_vlan" }),
        Action::PushVlan(ty) => {
            let _ = write!(out, "push_vlan:{:#06x}", ty.get());
        }
        Action::SetEthSrc(mac) => {
            let _ = write!(out, "mod_dl_src:{mac}");
        }
        Action::SetEthDst(mac) => {
            let _ = write!(out, "mod_dl_dst:{mac}");
        }
        Action::SetIpv4Src(ip) => {
            let _ = write!(out, "mod_nw_src:{ip}");
        }
        Action::SetIpv4Dst(ip) => {
            let _ = write!(out, "mod_nw_dst:{ip}");
        }
        Action::SetIpDscp(tos) => {
            let _ = write!(out, "mod_nw_tos:{tos}");
        }
        Action::SetIpEcn(ecn) => {
            let _ = write!(out, "mod_nw_ecn:{ecn}");
        }
        Action::SetIpTtl(ttl) => {
            let _ = write!(out, "mod_nw_ttl:{ttl}");
        }
        Action::SetL4SrcPort { port, .. } => {
            let _ = write!(out, "mod_tp_src:{port}");
        }
        Action::SetL4DstPort { port, .. } => {
            let _ = write!(out, "mod_tp_dst:{port}");
        }
        Action::DecTtl { ids, explicit_ids } => {
            out.push_str("dec_ttl");
            if *explicit_ids {
                out.push('(');
                list_of(ids, out, |id, o| {
                    let _ = write!(o, "{id}");
                });
                out.push(')');
            }
        }
        Action::SetMplsLabel(n) => {
            let _ = write!(out, "set_mpls_label({n})");
        }
        Action::SetMplsTc(n) => {
            let _ = write!(out, "set_mpls_tc({n})");
        }
        Action::SetMplsTtl(n) => {
            let _ = write!(out, "set_mpls_ttl({n})");
        }
        Action::DecMplsTtl => out.push_str("dec_mpls_ttl"),
        Action::PushMpls(ty) => {
            let _ = write!(out, "push_mpls:{:#06x}", ty.get());
        }
        Action::PopMpls(ty) => {
            let _ = write!(out, "pop_mpls:{:#06x}", ty.get());
        }
        Action::DecNshTtl => out.push_str("dec_nsh_ttl"),
        Action::DeleteField(f) => {
            let _ = write!(out, "delete_field:{}", f.field().name);
        }
        Action::SetTunnel { id, wide } => {
            let name = if *wide || *id > u32::MAX.into() {
                "set_tunnel64"
            } else {
                "set_tunnel"
            };
            let _ = write!(out, "{name}:{}", hex(*id));
        }
        Action::SetQueue(q) => {
            let _ = write!(out, "set_queue:{q}");
        }
        Action::PopQueue => out.push_str("pop_queue"),
        Action::FinTimeout { idle, hard } => {
            out.push_str("fin_timeout(");
            if *idle != 0 {
                let _ = write!(out, "idle_timeout={idle},");
            }
            if *hard != 0 {
                let _ = write!(out, "hard_timeout={hard},");
            }
            chomp(out);
            out.push(')');
        }
        Action::Resubmit(r) => {
            if r.in_port != OfPort::IN_PORT && r.table == TABLE_ALL {
                out.push_str("resubmit:");
                port(r.in_port, out);
            } else {
                out.push_str("resubmit(");
                if r.in_port != OfPort::IN_PORT {
                    port(r.in_port, out);
                }
                out.push(',');
                if r.table != TABLE_ALL {
                    format_table(r.table, names.tables, out);
                }
                if r.with_ct_orig {
                    out.push_str(",ct");
                }
                out.push(')');
            }
        }
        Action::Learn(l) => super::learn::format_learn(l, names, out),
        Action::Conjunction {
            id,
            clause,
            n_clauses,
        } => {
            let _ = write!(out, "conjunction({id},{}/{n_clauses})", clause + 1);
        }
        Action::Multipath(m) => {
            let alg = MultipathAlgorithm::ALL[m.algorithm as usize].1;
            let _ = write!(
                out,
                "multipath({},{},{alg},{},{},",
                m.fields.name(),
                m.basis,
                u32::from(m.max_link) + 1,
                m.arg
            );
            subfield(&m.dst, out);
            out.push(')');
        }
        Action::StackPush(sf) => {
            out.push_str("push:");
            subfield(sf, out);
        }
        Action::StackPop(sf) => {
            out.push_str("pop:");
            subfield(sf, out);
        }
        Action::Note(data) => {
            out.push_str("note:");
            dotted(data, out);
        }
        Action::Exit => out.push_str("exit"),
        Action::Sample(s) => {
            let _ = write!(
                out,
                "sample(probability={},collector_set_id={}",
                s.probability, s.collector_set_id
            );
            for (name, id) in [
                ("obs_domain_id", &s.obs_domain_id),
                ("obs_point_id", &s.obs_point_id),
            ] {
                let _ = write!(out, ",{name}=");
                match id {
                    SampleId::Immediate(n) => {
                        let _ = write!(out, "{n}");
                    }
                    SampleId::Field(sf) => subfield(sf, out),
                }
            }
            if s.sampling_port != OfPort::NONE {
                out.push_str(",sampling_port=");
                port(s.sampling_port, out);
            }
            out.push_str(match s.direction {
                SampleDirection::Default => "",
                SampleDirection::Ingress => ",ingress",
                SampleDirection::Egress => ",egress",
            });
            out.push(')');
        }
        Action::UnrollXlate {
            table_id,
            rule_cookie,
        } => {
            out.push_str("unroll_xlate(");
            if *table_id != 0xff {
                out.push_str("table=");
                format_table(*table_id, names.tables, out);
                let _ = write!(out, ", cookie={rule_cookie})");
            } else {
                out.push(')');
            }
        }
        Action::Ct(c) => ct(c, names, out),
        Action::Nat(n) => nat(n, out),
        Action::CtClear => out.push_str("ct_clear"),
        Action::Clone(list) => {
            out.push_str("clone(");
            format_list(list, names, out);
            out.push(')');
        }
        Action::CheckPktLarger { pkt_len, dst } => {
            let _ = write!(out, "check_pkt_larger({pkt_len})->");
            subfield(dst, out);
        }
        Action::Encap(e) => encap(e, out),
        Action::Decap { new_packet_type } => {
            out.push_str("decap(");
            // "Next protocol" needs no saying.
            if *new_packet_type != 0xfffe {
                out.push_str("packet_type");
                packet_type(*new_packet_type, out);
            }
            out.push(')');
        }
        Action::DebugSlow => out.push_str("debug_slow"),
        Action::DebugRecirc => out.push_str("debug_recirc"),
        Action::Meter(id) => {
            let _ = write!(out, "meter:{id}");
        }
        Action::ClearActions => out.push_str("clear_actions"),
        Action::WriteActions(list) => {
            out.push_str("write_actions(");
            format_list(list, names, out);
            out.push(')');
        }
        Action::WriteMetadata { metadata, mask } => {
            let _ = write!(out, "write_metadata:{}", hex(*metadata));
            if *mask != u64::MAX {
                let _ = write!(out, "/{}", hex(*mask));
            }
        }
        Action::GotoTable(t) => {
            out.push_str("goto_table:");
            format_table(*t, names.tables, out);
        }
    }
}

fn controller(c: &Controller, out: &mut String) {
    let plain = c.reason == PacketInReason::Action
        && c.controller_id == 0
        && !c.pause
        && c.userdata.is_empty()
        && c.meter_id.is_none();
    if plain {
        // Unlike the port of this name.
        color::head(Part::Special, "CONTROLLER:", out);
        let _ = write!(out, "{}", c.max_len);
        return;
    }
    out.push_str("controller(");
    if c.reason != PacketInReason::Action {
        let _ = write!(out, "reason={},", c.reason.name());
    }
    if c.max_len != MAX_LEN_NO_BUFFER {
        let _ = write!(out, "max_len={},", c.max_len);
    }
    if c.controller_id != 0 {
        let _ = write!(out, "id={},", c.controller_id);
    }
    if !c.userdata.is_empty() {
        out.push_str("userdata=");
        dotted(&c.userdata, out);
        out.push(',');
    }
    if c.pause {
        out.push_str("pause,");
    }
    if let Some(id) = c.meter_id {
        let _ = write!(out, "meter_id={id},");
    }
    chomp(out);
    out.push(')');
}

fn set_field(sf: &SetField, names: &Names<'_>, out: &mut String) {
    let f: &Field = sf.field.field();
    if sf.form == SetFieldForm::RegLoad {
        for (i, (dst, value)) in load_segments(sf).iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            let _ = write!(out, "load:{}->", hex(*value));
            subfield(dst, out);
        }
        return;
    }
    out.push_str("set_field:");
    let whole = mask_is_whole(f, &sf.mask, names.tun);
    f.format(
        &sf.value,
        if whole { None } else { Some(&sf.mask) },
        names.ports,
        out,
    );
    let _ = write!(out, "->{}", f.name);
}

fn ct(c: &Ct, names: &Names<'_>, out: &mut String) {
    out.push_str("ct(");
    if c.commit {
        out.push_str("commit,");
    }
    if c.force {
        out.push_str("force,");
    }
    if c.recirc_table != CT_NO_RECIRC {
        out.push_str("table=");
        format_table(c.recirc_table, names.tables, out);
        out.push(',');
    }
    match &c.zone {
        CtZone::Field(sf) => {
            out.push_str("zone=");
            subfield(sf, out);
            out.push(',');
        }
        CtZone::Immediate(0) => {}
        CtZone::Immediate(z) => {
            let _ = write!(out, "zone={z},");
        }
    }
    // Address translation is nested first and stands before what is to be executed.
    let mut rest = &c.actions[..];
    if let Some((Action::Nat(n), tail)) = rest.split_first() {
        nat(n, out);
        out.push(',');
        rest = tail;
    }
    if !rest.is_empty() {
        out.push_str("exec(");
        format_list(rest, names, out);
        out.push_str("),");
    }
    match c.alg {
        0 => {}
        21 => out.push_str("alg=ftp,"),
        69 => out.push_str("alg=tftp,"),
        n => {
            let _ = write!(out, "alg={n},");
        }
    }
    chomp(out);
    out.push(')');
}

fn nat(n: &Nat, out: &mut String) {
    out.push_str("nat");
    if !n.snat && !n.dnat {
        return;
    }
    out.push('(');
    out.push_str(if n.snat { "src" } else { "dst" });
    if n.range != NatRange::None {
        out.push('=');
        match n.range {
            NatRange::None => {}
            NatRange::V4 { min, max } => {
                let _ = write!(out, "{min}");
                if let Some(max) = max.filter(|max| *max != min) {
                    let _ = write!(out, "-{max}");
                }
            }
            NatRange::V6 { min, max } => {
                // Brackets keep the address apart from the port.
                let brackets = n.proto_min != 0;
                let v6 = |ip: std::net::Ipv6Addr| ferrovs_packet::field::format_ipv6(ip.into());
                let (open, close) = if brackets { ("[", "]") } else { ("", "") };
                let _ = write!(out, "{open}{}{close}", v6(min));
                if let Some(max) = max.filter(|max| *max != min) {
                    let _ = write!(out, "-{open}{}{close}", v6(max));
                }
            }
        }
        if n.proto_min != 0 {
            let _ = write!(out, ":{}", n.proto_min);
            if n.proto_max != 0 && n.proto_max != n.proto_min {
                let _ = write!(out, "-{}", n.proto_max);
            }
        }
    } else if n.proto_min != 0 {
        let _ = write!(out, "=:{}", n.proto_min);
        if n.proto_max != 0 && n.proto_max != n.proto_min {
            let _ = write!(out, "-{}", n.proto_max);
        }
    }
    out.push(',');
    for (on, name) in [
        (n.persistent, "persistent,"),
        (n.proto_hash, "hash,"),
        (n.proto_random, "random,"),
    ] {
        if on {
            out.push_str(name);
        }
    }
    chomp(out);
    out.push(')');
}

fn encap(e: &Encap, out: &mut String) {
    out.push_str("encap(");
    match e.new_packet_type {
        0 => out.push_str("ethernet"),
        0x1894f => out.push_str("nsh"),
        0x18847 => out.push_str("mpls"),
        0x18848 => out.push_str("mpls_mc"),
        pt => {
            out.push_str("packet_type=");
            packet_type(pt, out);
        }
    }
    if !e.props.is_empty() {
        out.push('(');
        list_of(&e.props, out, |p, o| match p {
            EncapProp::NshMdType(t) => {
                let _ = write!(o, "md_type={t}");
            }
            EncapProp::NshTlv { class, type_, data } => {
                let _ = write!(o, "tlv({class:#06x},{type_},0x");
                data.iter().for_each(|b| {
                    let _ = write!(o, "{b:02x}");
                });
                o.push(')');
            }
        });
        out.push(')');
    }
    out.push(')');
}

/// A field's name as a destination of older actions.
pub fn field_name(id: FieldId) -> &'static str {
    id.field().name
}
