//! Actions as text, as `ovs-ofctl dump-flows` shows them and `ovs-ofctl add-flow` takes them
//! (ovs-actions(7)). Reading is in [`parse`](super::parse).

use std::fmt::Write;

use ferrovs_packet::field::{NoPorts, PortMap, SubField, format_port};
use ferrovs_packet::types::OfPort;

use super::*;

/// One action as text, without port names.
pub fn format(action: &Action) -> String {
    let mut out = String::new();
    format_action(action, &NoPorts, &mut out);
    out
}

/// A list of actions; `drop` if it is empty.
pub fn format_actions(actions: &[Action], ports: &dyn PortMap, out: &mut String) {
    if actions.is_empty() {
        out.push_str("drop");
    }
    for (i, action) in actions.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        format_action(action, ports, out);
    }
}

/// One action.
pub fn format_action(action: &Action, ports: &dyn PortMap, out: &mut String) {
    let port = |port: OfPort, out: &mut String| format_port(port, ports, out);
    // Writing to a string cannot fail.
    let _ = match action {
        Action::Output {
            port: OfPort::CONTROLLER,
            max_len,
        } => write!(out, "CONTROLLER:{max_len}"),
        Action::Output { port: to, .. } => {
            if to.0 < OfPort::MAX.0 {
                out.push_str("output:");
            }
            port(*to, out);
            Ok(())
        }
        Action::OutputReg { src, .. } => write!(out, "output:{src}"),
        Action::OutputTrunc { port: to, max_len } => {
            out.push_str("output(port=");
            port(*to, out);
            write!(out, ",max_len={max_len})")
        }
        Action::Group(id) => write!(out, "group:{id}"),
        Action::Controller(c) => {
            controller(c, out);
            Ok(())
        }
        Action::Enqueue { port: to, queue } => {
            out.push_str("enqueue:");
            port(*to, out);
            write!(out, ":{queue}")
        }
        Action::Bundle(b) => {
            bundle(b, ports, out);
            Ok(())
        }
        Action::SetField(set) => {
            set_field(set, ports, out);
            Ok(())
        }
        Action::RegMove { src, dst } => write!(out, "move:{src}->{dst}"),
        Action::SetVlanVid {
            vid,
            push_if_needed,
            ..
        } => {
            write!(
                out,
                "{}:{vid}",
                if *push_if_needed {
                    "mod_vlan_vid"
                } else {
                    "set_vlan_vid"
                }
            )
        }
        Action::SetVlanPcp {
            pcp,
            push_if_needed,
            ..
        } => {
            write!(
                out,
                "{}:{pcp}",
                if *push_if_needed {
                    "mod_vlan_pcp"
                } else {
                    "set_vlan_pcp"
                }
            )
        }
        Action::StripVlan => write!(out, "strip_vlan"),
        Action::PushVlan(tpid) => write!(out, "push_vlan:0x{:04x}", tpid.get()),
        Action::SetEthSrc(mac) => write!(out, "mod_dl_src:{mac}"),
        Action::SetEthDst(mac) => write!(out, "mod_dl_dst:{mac}"),
        Action::SetIpv4Src(ip) => write!(out, "mod_nw_src:{ip}"),
        Action::SetIpv4Dst(ip) => write!(out, "mod_nw_dst:{ip}"),
        Action::SetIpDscp(tos) => write!(out, "mod_nw_tos:{tos}"),
        Action::SetIpEcn(ecn) => write!(out, "mod_nw_ecn:{ecn}"),
        Action::SetIpTtl(ttl) => write!(out, "mod_nw_ttl:{ttl}"),
        Action::SetL4SrcPort { port, .. } => write!(out, "mod_tp_src:{port}"),
        Action::SetL4DstPort { port, .. } => write!(out, "mod_tp_dst:{port}"),
        Action::DecTtl { ids, explicit_ids } => {
            out.push_str("dec_ttl");
            if *explicit_ids {
                let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
                out.push_str(&format!("({})", ids.join(",")));
            }
            Ok(())
        }
        Action::SetMplsLabel(label) => write!(out, "set_mpls_label({label})"),
        Action::SetMplsTc(tc) => write!(out, "set_mpls_tc({tc})"),
        Action::SetMplsTtl(ttl) => write!(out, "set_mpls_ttl({ttl})"),
        Action::DecMplsTtl => write!(out, "dec_mpls_ttl"),
        Action::PushMpls(t) => write!(out, "push_mpls:0x{:04x}", t.get()),
        Action::PopMpls(t) => write!(out, "pop_mpls:0x{:04x}", t.get()),
        Action::DecNshTtl => write!(out, "dec_nsh_ttl"),
        Action::DeleteField(field) => write!(out, "delete_field:{}", field.field().name),
        Action::SetTunnel { id, wide } => {
            let wide = *wide || *id > u64::from(u32::MAX);
            write!(
                out,
                "set_tunnel{}:{}",
                if wide { "64" } else { "" },
                Hex(*id)
            )
        }
        Action::SetQueue(queue) => write!(out, "set_queue:{queue}"),
        Action::PopQueue => write!(out, "pop_queue"),
        Action::FinTimeout { idle, hard } => {
            out.push_str("fin_timeout(");
            let mut parts = Vec::new();
            if *idle > 0 {
                parts.push(format!("idle_timeout={idle}"));
            }
            if *hard > 0 {
                parts.push(format!("hard_timeout={hard}"));
            }
            write!(out, "{})", parts.join(","))
        }
        Action::Resubmit(r) => {
            resubmit(r, ports, out);
            Ok(())
        }
        Action::Learn(l) => {
            learn(l, ports, out);
            Ok(())
        }
        Action::Conjunction {
            id,
            clause,
            n_clauses,
        } => {
            write!(
                out,
                "conjunction({id},{}/{n_clauses})",
                u16::from(*clause) + 1
            )
        }
        Action::Multipath(m) => {
            let algorithm = MultipathAlgorithm::ALL
                .iter()
                .find(|a| a.0 == m.algorithm)
                .map_or("", |a| a.1);
            let n_links = u32::from(m.max_link) + 1;
            write!(
                out,
                "multipath({},{},{algorithm},{n_links},{},{})",
                m.fields.name(),
                m.basis,
                m.arg,
                m.dst
            )
        }
        Action::StackPush(src) => write!(out, "push:{src}"),
        Action::StackPop(dst) => write!(out, "pop:{dst}"),
        Action::Note(data) => {
            out.push_str("note:");
            hex_bytes(data, out);
            Ok(())
        }
        Action::Exit => write!(out, "exit"),
        Action::Sample(s) => {
            sample(s, ports, out);
            Ok(())
        }
        Action::UnrollXlate {
            table_id,
            rule_cookie,
        } => {
            write!(out, "unroll_xlate(table={table_id}, cookie={rule_cookie})")
        }
        Action::Ct(c) => {
            ct(c, ports, out);
            Ok(())
        }
        Action::Nat(n) => {
            nat(n, out);
            Ok(())
        }
        Action::CtClear => write!(out, "ct_clear"),
        Action::Clone(nested) => {
            out.push_str("clone(");
            format_actions(nested, ports, out);
            write!(out, ")")
        }
        Action::CheckPktLarger { pkt_len, dst } => {
            write!(out, "check_pkt_larger({pkt_len})->{dst}")
        }
        Action::Encap(e) => {
            encap(e, out);
            Ok(())
        }
        Action::Decap { new_packet_type } => {
            out.push_str("decap(");
            if *new_packet_type != 0x1_fffe {
                out.push_str(&format!(
                    "packet_type(ns={},id={:#x})",
                    new_packet_type >> 16,
                    new_packet_type & 0xffff
                ));
            }
            write!(out, ")")
        }
        Action::DebugSlow => write!(out, "debug_slow"),
        Action::DebugRecirc => write!(out, "debug_recirc"),
        Action::Meter(id) => write!(out, "meter:{id}"),
        Action::ClearActions => write!(out, "clear_actions"),
        Action::WriteActions(nested) => {
            out.push_str("write_actions(");
            format_actions(nested, ports, out);
            write!(out, ")")
        }
        Action::WriteMetadata { metadata, mask } => {
            out.push_str(&format!("write_metadata:{}", Hex(*metadata)));
            if *mask != u64::MAX {
                out.push_str(&format!("/{}", Hex(*mask)));
            }
            Ok(())
        }
        Action::GotoTable(table) => write!(out, "goto_table:{table}"),
    };
}

/// Hexadecimal as `printf("%#x")` writes it.
struct Hex(u64);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 {
            f.write_str("0")
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

fn hex_bytes(data: &[u8], out: &mut String) {
    let bytes: Vec<String> = data.iter().map(|b| format!("{b:02x}")).collect();
    out.push_str(&bytes.join("."));
}

fn controller(c: &Controller, out: &mut String) {
    let plain = c.reason == PacketInReason::Action
        && c.controller_id == 0
        && c.userdata.is_empty()
        && !c.pause
        && c.meter_id.is_none();
    if plain {
        out.push_str(&format!("CONTROLLER:{}", c.max_len));
        return;
    }
    out.push_str("controller(");
    if c.reason != PacketInReason::Action {
        out.push_str(&format!("reason={},", c.reason.name()));
    }
    if c.max_len != MAX_LEN_NO_BUFFER {
        out.push_str(&format!("max_len={},", c.max_len));
    }
    if c.controller_id != 0 {
        out.push_str(&format!("id={},", c.controller_id));
    }
    if !c.userdata.is_empty() {
        out.push_str("userdata=");
        hex_bytes(&c.userdata, out);
        out.push(',');
    }
    if c.pause {
        out.push_str("pause,");
    }
    if let Some(meter) = c.meter_id {
        out.push_str(&format!("meter_id={meter},"));
    }
    if out.ends_with(',') {
        out.pop();
    }
    out.push(')');
}

fn bundle(b: &Bundle, ports: &dyn PortMap, out: &mut String) {
    let algorithm = match b.algorithm {
        BundleAlgorithm::ActiveBackup => "active_backup",
        BundleAlgorithm::Hrw => "hrw",
    };
    let name = if b.dst.is_some() {
        "bundle_load"
    } else {
        "bundle"
    };
    out.push_str(&format!(
        "{name}({},{},{algorithm},ofport,",
        b.fields.name(),
        b.basis
    ));
    if let Some(dst) = &b.dst {
        out.push_str(&format!("{dst},"));
    }
    out.push_str("members:");
    for (i, member) in b.members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        format_port(*member, ports, out);
    }
    out.push(')');
}

fn set_field(set: &SetField, ports: &dyn PortMap, out: &mut String) {
    let field = set.field.field();
    if set.form != SetFieldForm::SetField {
        // A load names the bits that it writes, which are always one run.
        let (ofs, n_bits) = run_of(&set.mask, usize::from(field.n_bits));
        let value = set.value.extract(ofs, n_bits).to_u64();
        let dst = SubField {
            field: set.field,
            ofs: ofs as u16,
            n_bits: n_bits as u16,
        };
        out.push_str(&format!("load:{}->{dst}", Hex(value)));
        return;
    }
    out.push_str("set_field:");
    let mask = (!set.mask.is_ones(usize::from(field.n_bits))).then_some(&set.mask);
    field.format(&set.value, mask, ports, out);
    out.push_str(&format!("->{}", field.name));
}

/// The first bit and the number of bits of a mask that is one run of ones.
fn run_of(mask: &FieldValue, width: usize) -> (usize, usize) {
    let ofs = (0..width).find(|&i| mask.bit(i)).unwrap_or(0);
    let n_bits = (ofs..width).take_while(|&i| mask.bit(i)).count();
    (ofs, n_bits)
}

fn resubmit(r: &Resubmit, ports: &dyn PortMap, out: &mut String) {
    if r.in_port != OfPort::IN_PORT && r.table == TABLE_ALL && !r.with_ct_orig {
        out.push_str("resubmit:");
        format_port(r.in_port, ports, out);
        return;
    }
    out.push_str("resubmit(");
    if r.in_port != OfPort::IN_PORT {
        format_port(r.in_port, ports, out);
    }
    out.push(',');
    if r.table != TABLE_ALL {
        out.push_str(&r.table.to_string());
    }
    if r.with_ct_orig {
        out.push_str(",ct");
    }
    out.push(')');
}

fn learn(l: &Learn, ports: &dyn PortMap, out: &mut String) {
    out.push_str(&format!("learn(table={}", l.table_id));
    let numbers = [
        ("idle_timeout", l.idle_timeout),
        ("hard_timeout", l.hard_timeout),
        ("fin_idle_timeout", l.fin_idle_timeout),
        ("fin_hard_timeout", l.fin_hard_timeout),
    ];
    for (name, value) in numbers.iter().filter(|(_, v)| *v != 0) {
        out.push_str(&format!(",{name}={value}"));
    }
    if l.priority != crate::flow::DEFAULT_PRIORITY {
        out.push_str(&format!(",priority={}", l.priority));
    }
    if l.send_flow_rem {
        out.push_str(",send_flow_rem");
    }
    if l.delete_learned {
        out.push_str(",delete_learned");
    }
    if l.cookie != 0 {
        out.push_str(&format!(",cookie={:#x}", l.cookie));
    }
    if l.limit != 0 {
        out.push_str(&format!(",limit={}", l.limit));
    }
    if let Some(dst) = &l.result_dst {
        out.push_str(&format!(",result_dst={dst}"));
    }
    for spec in &l.specs {
        out.push(',');
        match (&spec.src, &spec.dst) {
            (LearnSrc::Immediate(value), LearnDst::Match(dst)) => {
                let field = dst.field.field();
                if dst.ofs == 0 && dst.n_bits == field.n_bits {
                    out.push_str(&format!("{}=", field.name));
                    field.format(value, None, ports, out);
                } else {
                    out.push_str(&format!("{dst}={}", hex_value(value, spec.n_bits)));
                }
            }
            (LearnSrc::Field(src), LearnDst::Match(dst)) if src == dst => {
                out.push_str(&dst.to_string())
            }
            (LearnSrc::Field(src), LearnDst::Match(dst)) => out.push_str(&format!("{dst}={src}")),
            (LearnSrc::Immediate(value), LearnDst::Load(dst)) => {
                out.push_str(&format!("load:{}->{dst}", hex_value(value, spec.n_bits)));
            }
            (LearnSrc::Field(src), LearnDst::Load(dst)) => {
                out.push_str(&format!("load:{src}->{dst}"))
            }
            (LearnSrc::Field(src), LearnDst::Output) => out.push_str(&format!("output:{src}")),
            (LearnSrc::Immediate(value), LearnDst::Output) => {
                out.push_str(&format!("output:{}", hex_value(value, spec.n_bits)));
            }
        }
    }
    out.push(')');
}

/// A value as 0x and its digits without leading zeros.
fn hex_value(value: &FieldValue, n_bits: u16) -> String {
    let digits: String = value
        .low_bytes(usize::from(n_bits).div_ceil(8))
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    match digits.trim_start_matches('0') {
        "" => "0".into(),
        digits => format!("0x{digits}"),
    }
}

fn sample(s: &Sample, ports: &dyn PortMap, out: &mut String) {
    let id = |id: &SampleId| match id {
        SampleId::Immediate(n) => n.to_string(),
        SampleId::Field(src) => src.to_string(),
    };
    out.push_str(&format!(
        "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
        s.probability,
        s.collector_set_id,
        id(&s.obs_domain_id),
        id(&s.obs_point_id)
    ));
    if s.sampling_port != OfPort::NONE {
        out.push_str(",sampling_port=");
        format_port(s.sampling_port, ports, out);
    }
    match s.direction {
        SampleDirection::Default => {}
        SampleDirection::Ingress => out.push_str(",ingress"),
        SampleDirection::Egress => out.push_str(",egress"),
    }
    out.push(')');
}

fn ct(c: &Ct, ports: &dyn PortMap, out: &mut String) {
    out.push_str("ct(");
    let mut parts = Vec::new();
    if c.commit {
        parts.push("commit".to_string());
    }
    if c.force {
        parts.push("force".to_string());
    }
    if c.recirc_table != CT_NO_RECIRC {
        parts.push(format!("table={}", c.recirc_table));
    }
    match &c.zone {
        CtZone::Immediate(0) => {}
        CtZone::Immediate(zone) => parts.push(format!("zone={zone}")),
        CtZone::Field(src) => parts.push(format!("zone={src}")),
    }
    let mut exec = Vec::new();
    for action in &c.actions {
        match action {
            Action::Nat(n) => {
                let mut text = String::new();
                nat(n, &mut text);
                parts.push(text);
            }
            other => exec.push(other.clone()),
        }
    }
    if !exec.is_empty() {
        let mut text = String::from("exec(");
        format_actions(&exec, ports, &mut text);
        parts.push(text + ")");
    }
    match c.alg {
        0 => {}
        21 => parts.push("alg=ftp".into()),
        69 => parts.push("alg=tftp".into()),
        port => parts.push(format!("alg={port}")),
    }
    out.push_str(&parts.join(","));
    out.push(')');
}

fn nat(n: &Nat, out: &mut String) {
    if !n.snat && !n.dnat {
        out.push_str("nat");
        return;
    }
    out.push_str(if n.snat { "nat(src" } else { "nat(dst" });
    let ports = n.proto_min != 0 || n.proto_max != 0;
    match &n.range {
        NatRange::None => {}
        NatRange::V4 { min, max } => {
            out.push_str(&format!("={min}"));
            if let Some(max) = max {
                out.push_str(&format!("-{max}"));
            }
        }
        NatRange::V6 { min, max } => {
            out.push_str(&if ports {
                format!("=[{min}")
            } else {
                format!("={min}")
            });
            if let Some(max) = max {
                out.push_str(&format!("-{max}"));
            }
            if ports {
                out.push(']');
            }
        }
    }
    if ports {
        if n.range == NatRange::None {
            out.push('=');
        }
        out.push_str(&format!(":{}", n.proto_min));
        if n.proto_max != 0 {
            out.push_str(&format!("-{}", n.proto_max));
        }
    }
    for (set, name) in [
        (n.persistent, ",persistent"),
        (n.proto_hash, ",hash"),
        (n.proto_random, ",random"),
    ] {
        if set {
            out.push_str(name);
        }
    }
    out.push(')');
}

fn encap(e: &Encap, out: &mut String) {
    let name = match e.new_packet_type {
        0 => "ethernet".to_string(),
        0x1_8847 => "mpls".into(),
        0x1_8848 => "mpls_mc".into(),
        0x1_894f => "nsh".into(),
        pt => format!("packet_type(ns={},id={:#x})", pt >> 16, pt & 0xffff),
    };
    out.push_str(&format!("encap({name}"));
    if !e.props.is_empty() {
        let props: Vec<String> = e
            .props
            .iter()
            .map(|p| match p {
                EncapProp::NshMdType(t) => format!("md_type={t}"),
                EncapProp::NshTlv { class, type_, data } => {
                    let data: String = data.iter().map(|b| format!("{b:02x}")).collect();
                    format!("tlv(0x{class:04x},0x{type_:02x},0x{data})")
                }
            })
            .collect();
        out.push_str(&format!("({})", props.join(",")));
    }
    out.push(')');
}
