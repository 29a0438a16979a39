//! Reading actions from text (ovs-actions(7)), with Open vSwitch's words for what is wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::field::{Field, FieldValue, PortMap, SubField, parse_port};
use ferrovs_packet::types::{MacAddr, OfPort};

use super::*;
use crate::token::{self, Token};

/// Where an action stands, for what may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    Clone,
    WriteActions,
    Ct,
}

type Parsed<T> = Result<T, String>;

/// Reads a list of actions and instructions; `drop` is the empty list.
pub fn parse_actions(text: &str, ports: &dyn PortMap) -> Parsed<Vec<Action>> {
    let actions = list(text, ports, Place::Top)?;
    check_order(&actions)?;
    Ok(actions)
}

fn list(text: &str, ports: &dyn PortMap, place: Place) -> Parsed<Vec<Action>> {
    let mut actions = Vec::new();
    let mut rest = text;
    let (mut n, mut drop) = (0, false);
    while let Some(token) = token::next(&mut rest) {
        n += 1;
        if token.key.eq_ignore_ascii_case("drop") && token.value.is_empty() {
            drop = true;
            continue;
        }
        one(&token, ports, place, &mut actions)?;
    }
    if drop && n > 1 {
        return Err("\"drop\" must not be accompanied by any other action or instruction".into());
    }
    Ok(actions)
}

/// Instructions have an order on the wire from OpenFlow 1.1 on.
fn check_order(actions: &[Action]) -> Parsed<()> {
    let rank = |a: &Action| match a {
        Action::Meter(_) => (0, "meter"),
        Action::ClearActions => (2, "clear_actions"),
        Action::WriteActions(_) => (3, "write_actions"),
        Action::WriteMetadata { .. } => (4, "write_metadata"),
        Action::GotoTable(_) => (5, "goto_table"),
        _ => (1, "apply_actions"),
    };
    for pair in actions.windows(2) {
        let ((before, first), (after, second)) = (rank(&pair[0]), rank(&pair[1]));
        if before > after {
            return Err(format!(
                "invalid instruction ordering: {second} must appear before {first}, for OpenFlow 1.1+ compatibility"
            ));
        }
        if before == after && before != 1 {
            return Err(format!(
                "duplicate {first} instruction not allowed, for OpenFlow 1.1+ compatibility"
            ));
        }
    }
    Ok(())
}

fn number<T: TryFrom<u64>>(text: &str, what: &str) -> Parsed<T> {
    let max = match size_of::<T>() {
        1 => u64::from(u8::MAX),
        2 => u64::from(u16::MAX),
        4 => u64::from(u32::MAX),
        _ => u64::MAX,
    };
    let n = token::bounded(text, what, max)?;
    T::try_from(n).map_err(|_| format!("invalid {what} \"{text}\""))
}

fn one(t: &Token<'_>, ports: &dyn PortMap, place: Place, out: &mut Vec<Action>) -> Parsed<()> {
    let v = t.value;
    let action = match t.key {
        "output" => output(v, ports)?,
        "group" => Action::Group(number(v, "group")?),
        "controller" | "CONTROLLER" => controller(t)?,
        "enqueue" => enqueue(v, ports)?,
        "bundle" => bundle(v, ports, false)?,
        "bundle_load" => bundle(v, ports, true)?,
        "set_field" => set_field(v, ports)?,
        "load" => load(v)?,
        "move" => reg_move(v)?,
        "mod_vlan_vid" | "set_vlan_vid" => {
            let vid: u16 = number(v, "VLAN VID")?;
            if vid & !0xfff != 0 {
                return Err(format!("{v}: not a valid VLAN VID"));
            }
            Action::SetVlanVid {
                vid,
                push_if_needed: t.key == "mod_vlan_vid",
                flow_has_vlan: false,
            }
        }
        "mod_vlan_pcp" | "set_vlan_pcp" => {
            let pcp: u8 = number(v, "VLAN PCP")?;
            if pcp & !7 != 0 {
                return Err(format!("{v}: not a valid VLAN PCP"));
            }
            Action::SetVlanPcp {
                pcp,
                push_if_needed: t.key == "mod_vlan_pcp",
                flow_has_vlan: false,
            }
        }
        "strip_vlan" | "pop_vlan" => Action::StripVlan,
        "push_vlan" => {
            let tpid: u16 = number(v, "ethertype")?;
            if tpid != 0x8100 && tpid != 0x88a8 {
                return Err(format!("{v}: not a valid VLAN ethertype"));
            }
            Action::PushVlan(tpid.into())
        }
        "mod_dl_src" => Action::SetEthSrc(mac(v)?),
        "mod_dl_dst" => Action::SetEthDst(mac(v)?),
        "mod_nw_src" => Action::SetIpv4Src(ip(v)?),
        "mod_nw_dst" => Action::SetIpv4Dst(ip(v)?),
        "mod_nw_tos" => {
            let tos: u8 = number(v, "TOS")?;
            if tos & 3 != 0 {
                return Err(format!("{v}: not a valid TOS"));
            }
            Action::SetIpDscp(tos)
        }
        "mod_nw_ecn" => {
            let ecn: u8 = number(v, "ECN")?;
            if ecn & !3 != 0 {
                return Err(format!("{v}: not a valid ECN"));
            }
            Action::SetIpEcn(ecn)
        }
        "mod_nw_ttl" => Action::SetIpTtl(number(v, "TTL")?),
        "mod_tp_src" => Action::SetL4SrcPort {
            port: number(v, "source port")?,
            flow_ip_proto: 0,
        },
        "mod_tp_dst" => Action::SetL4DstPort {
            port: number(v, "destination port")?,
            flow_ip_proto: 0,
        },
        "dec_ttl" => dec_ttl(v)?,
        "set_mpls_label" => {
            let label: u32 = number(v, "MPLS label")?;
            if label & !0xf_ffff != 0 {
                return Err(format!("{v}: not a valid MPLS label"));
            }
            Action::SetMplsLabel(label)
        }
        "set_mpls_tc" => {
            let tc: u8 = number(v, "MPLS TC")?;
            if tc & !7 != 0 {
                return Err(format!("{v}: not a valid MPLS TC"));
            }
            Action::SetMplsTc(tc)
        }
        "set_mpls_ttl" => Action::SetMplsTtl(number(v, "MPLS TTL")?),
        "dec_mpls_ttl" => Action::DecMplsTtl,
        "push_mpls" => Action::PushMpls(number::<u16>(v, "push_mpls")?.into()),
        "pop_mpls" => Action::PopMpls(number::<u16>(v, "pop_mpls")?.into()),
        "dec_nsh_ttl" => Action::DecNshTtl,
        "delete_field" => {
            let field = Field::by_name(v).ok_or_else(|| format!("unknown field `{v}'"))?;
            if field.id.tun_metadata_index().is_none() {
                return Err(format!("{v}: not a supported field"));
            }
            Action::DeleteField(field.id)
        }
        "set_tunnel" | "set_tunnel64" => Action::SetTunnel {
            id: number(v, "tunnel id")?,
            wide: t.key == "set_tunnel64",
        },
        "set_queue" => Action::SetQueue(number(v, "queue")?),
        "pop_queue" => Action::PopQueue,
        "fin_timeout" => fin_timeout(v)?,
        "resubmit" => resubmit(v, ports)?,
        "learn" => learn(v, ports)?,
        "conjunction" => conjunction(v)?,
        "multipath" => multipath(v)?,
        "push" => Action::StackPush(SubField::parse(v)?),
        "pop" => Action::StackPop(writable(SubField::parse(v)?)?),
        "note" => Action::Note(note(v)?),
        "exit" => Action::Exit,
        "sample" => sample(v, ports)?,
        "unroll_xlate" => {
            return Err("UNROLL is an internal action that shouldn't be used via OpenFlow".into());
        }
        "ct" => ct(v, ports)?,
        "nat" => {
            if place != Place::Ct {
                return Err("Cannot have NAT action outside of \"ct\" action".into());
            }
            nat(v)?
        }
        "ct_clear" => Action::CtClear,
        "clone" => Action::Clone(list(v, ports, Place::Clone)?),
        "check_pkt_larger" => check_pkt_larger(v)?,
        "encap" => encap(v)?,
        "decap" => decap(v)?,
        "debug_slow" => Action::DebugSlow,
        "debug_recirc" => Action::DebugRecirc,
        "meter" => Action::Meter(number(v, "meter")?),
        "clear_actions" => Action::ClearActions,
        "write_actions" => Action::WriteActions(list(v, ports, Place::WriteActions)?),
        "apply_actions" => return Err("apply_actions is the default instruction".into()),
        "write_metadata" => {
            let (value, mask) = v.split_once('/').map_or((v, None), |(a, b)| (a, Some(b)));
            let mask = mask.map_or(Ok(u64::MAX), |m| number(m, "metadata mask"))?;
            Action::WriteMetadata {
                metadata: number::<u64>(value, "metadata value")?,
                mask,
            }
        }
        "goto_table" => {
            Action::GotoTable(table(v).ok_or_else(|| format!("unknown table \"{v}\""))?)
        }
        key => match parse_port(key, ports).filter(|_| v.is_empty()) {
            Some(port) => Action::output(port),
            None => return Err(format!("unknown action {key}")),
        },
    };
    if action.is_instruction() && place != Place::Top {
        return Err(format!("{} instruction not allowed here", action.name()));
    }
    out.push(action);
    Ok(())
}

/// A table number; numbers that do not fit are logged by the port map's owner as Open vSwitch does.
fn table(text: &str) -> Option<u8> {
    token::number(text).and_then(|n| u8::try_from(n).ok())
}

fn mac(text: &str) -> Parsed<MacAddr> {
    text.parse()
        .map_err(|_| format!("invalid mac address {text}"))
}

fn ip(text: &str) -> Parsed<Ipv4Addr> {
    text.parse()
        .map_err(|_| format!("invalid IP address {text}"))
}

fn writable(sub: SubField) -> Parsed<SubField> {
    let field = sub.field.field();
    if field.writable {
        Ok(sub)
    } else {
        Err(format!("{} is read-only", field.name))
    }
}

fn output(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    if v.contains("port=") || v.contains("max_len=") {
        let mut rest = v;
        let (mut port, mut max_len) = (OfPort(0), None);
        while let Some(t) = token::next(&mut rest) {
            match t.key {
                "port" => {
                    port = parse_port(t.value, ports)
                        .ok_or_else(|| format!("output to unknown truncate port: {}", t.value))?;
                }
                "max_len" => {
                    let n: u32 = number(t.value, "max_len")
                        .map_err(|e| format!("output_trunc parse max_len {e}"))?;
                    if n < 14 {
                        return Err("max_len 0 - 13 is less than the minimum value 14"
                            .replace("0 - 13", &n.to_string()));
                    }
                    max_len = Some(n);
                }
                key => return Err(format!("invalid key '{key}' in output_trunc argument")),
            }
        }
        return Ok(Action::OutputTrunc {
            port,
            max_len: max_len.unwrap_or(0),
        });
    }
    if let Some(port) = parse_port(v, ports) {
        return Ok(Action::output(port));
    }
    match SubField::parse(v) {
        Ok(src) => Ok(Action::OutputReg {
            src,
            max_len: u16::MAX,
        }),
        Err(_) => Err(format!("{v}: output to unknown port")),
    }
}

fn controller(t: &Token<'_>) -> Parsed<Action> {
    let mut c = Controller {
        max_len: MAX_LEN_NO_BUFFER,
        controller_id: 0,
        reason: PacketInReason::Action,
        pause: false,
        userdata: Vec::new(),
        meter_id: None,
        provider_meter_id: None,
        controller2: false,
    };
    if t.value.is_empty() {
        return Ok(Action::output(OfPort::CONTROLLER));
    }
    if !t.value.contains('=') && !t.value.contains("pause") {
        let max_len = number(t.value, "max_len")?;
        return Ok(Action::Output {
            port: OfPort::CONTROLLER,
            max_len,
        });
    }
    let mut rest = t.value;
    while let Some(item) = token::next(&mut rest) {
        match item.key {
            "reason" => {
                let found = PacketInReason::ALL
                    .iter()
                    .find(|(_, name)| *name == item.value);
                c.reason = found
                    .ok_or_else(|| format!("unknown reason \"{}\"", item.value))?
                    .0;
            }
            "max_len" => c.max_len = number(item.value, "max_len")?,
            "id" => c.controller_id = number(item.value, "id")?,
            "userdata" => {
                c.userdata = note(item.value)
                    .map_err(|_| "bad hex digit in `controller' `userdata'".to_string())?
            }
            "pause" => c.pause = true,
            "meter_id" => c.meter_id = Some(number(item.value, "meter_id")?),
            key => return Err(format!("unknown key \"{key}\" parsing controller action")),
        }
    }
    let plain = c.reason == PacketInReason::Action && c.controller_id == 0;
    if plain && c.userdata.is_empty() && !c.pause && c.meter_id.is_none() {
        return Ok(Action::Output {
            port: OfPort::CONTROLLER,
            max_len: c.max_len,
        });
    }
    c.controller2 = !c.userdata.is_empty() || c.pause || c.meter_id.is_some();
    Ok(Action::Controller(Box::new(c)))
}

fn enqueue(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let (port, queue) = v
        .split_once([':', ','])
        .ok_or("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"")?;
    let port = parse_port(port, ports).ok_or_else(|| format!("{port}: enqueue to unknown port"))?;
    Ok(Action::Enqueue {
        port,
        queue: token::number(queue)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| format!("invalid queue \"{queue}\""))?,
    })
}

fn bundle(v: &str, ports: &dyn PortMap, load: bool) -> Parsed<Action> {
    let (head, members) = v
        .split_once("members:")
        .or_else(|| v.split_once("slaves:"))
        .ok_or_else(|| format!("{v}: not enough arguments to bundle action"))?;
    let args: Vec<&str> = head.split([',', ' ']).filter(|a| !a.is_empty()).collect();
    let want = if load { 5 } else { 4 };
    if args.len() != want {
        return Err(format!("{v}: not enough arguments to bundle action"));
    }
    let fields =
        hash_fields(args[0]).ok_or_else(|| format!("{v}: unknown fields `{}'", args[0]))?;
    let algorithm = match args[2] {
        "hrw" => BundleAlgorithm::Hrw,
        "active_backup" => BundleAlgorithm::ActiveBackup,
        other => return Err(format!("{v}: unknown algorithm `{other}'")),
    };
    if args[3] != "ofport" {
        return Err(format!("{v}: unknown member_type `{}'", args[3]));
    }
    let mut list = Vec::new();
    for member in members.split([',', ' ']).filter(|m| !m.is_empty()) {
        list.push(parse_port(member, ports).ok_or_else(|| format!("{member}: bad port number"))?);
    }
    let dst = if load {
        Some(writable(SubField::parse(args[4])?)?)
    } else {
        None
    };
    Ok(Action::Bundle(Box::new(Bundle {
        fields,
        basis: number(args[1], "basis")?,
        algorithm,
        dst,
        members: list,
    })))
}

fn hash_fields(name: &str) -> Option<HashFields> {
    HashFields::ALL
        .iter()
        .find(|(_, n)| *n == name)
        .map(|p| p.0)
}

fn arrow(v: &str) -> Parsed<(&str, &str)> {
    let (value, dst) = v
        .split_once("->")
        .ok_or_else(|| format!("{v}: missing `->'"))?;
    if dst.is_empty() {
        return Err(format!("{value}: missing field name following `->'"));
    }
    Ok((value, dst))
}

fn set_field(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let (value_text, key) = arrow(v)?;
    let field =
        Field::by_name(key).ok_or_else(|| format!("{key} is not a valid OXM field name"))?;
    if !field.writable {
        return Err(format!("{key} is read-only"));
    }
    let (value, mask) = field.parse(value_text, ports)?;
    if !field.is_value_valid(&value) {
        return Err(format!("{value_text} is not a valid value for field {key}"));
    }
    let mask = mask.and(&FieldValue::ones(usize::from(field.n_bits)));
    let value = value.and(&mask);
    let form = SetFieldForm::SetField;
    Ok(Action::SetField(Box::new(SetField {
        field: field.id,
        value,
        mask,
        form,
        flow_has_vlan: false,
    })))
}

fn load(v: &str) -> Parsed<Action> {
    let (value_text, key) = arrow(v)?;
    let dst = writable(SubField::parse(key)?)?;
    let n_bits = usize::from(dst.n_bits);
    let wide = value_text
        .strip_prefix("0x")
        .and_then(|hex| u128::from_str_radix(hex, 16).ok())
        .or_else(|| token::number(value_text).map(u128::from))
        .ok_or_else(|| format!("{v}: invalid value"))?;
    if n_bits < 128 && wide >> n_bits != 0 {
        return Err(
            format!("{v}: value {value_text} does not fit into {n_bits} bits").replace(
                &format!("value {value_text} "),
                &format!("value {wide:#x} "),
            ),
        );
    }
    let mut value = FieldValue::ZERO;
    value.insert(usize::from(dst.ofs), n_bits, &FieldValue::from(wide));
    let form = SetFieldForm::RegLoad;
    Ok(Action::SetField(Box::new(SetField {
        field: dst.field,
        value,
        mask: dst.mask(),
        form,
        flow_has_vlan: false,
    })))
}

fn reg_move(v: &str) -> Parsed<Action> {
    // The source ends at the arrow, which is no part of a field's name.
    let (src, rest) = v
        .split_once("->")
        .ok_or_else(|| format!("{v}: missing `->' following source"))?;
    let src = SubField::parse(src).map_err(|e| {
        format!(
            "{v}: {}",
            e.trim_start_matches(src).trim_start_matches(": ")
        )
    })?;
    let (dst, rest) = SubField::parse_prefix(rest)?;
    if !rest.is_empty() {
        return Err(format!("{v}: trailing garbage following destination"));
    }
    if src.n_bits != dst.n_bits {
        return Err(format!(
            "{v}: source field is {} bits wide but destination is {} bits wide",
            src.n_bits, dst.n_bits
        ));
    }
    Ok(Action::RegMove {
        src,
        dst: writable(dst)?,
    })
}

fn dec_ttl(v: &str) -> Parsed<Action> {
    if v.is_empty() {
        return Ok(Action::DecTtl {
            ids: vec![0],
            explicit_ids: false,
        });
    }
    let mut ids = Vec::new();
    for id in v.split([',', ' ']).filter(|s| !s.is_empty()) {
        ids.push(number(id, "controller id")?);
    }
    if ids.is_empty() {
        return Err("dec_ttl_cnt_ids: expected at least one controller id.".into());
    }
    Ok(Action::DecTtl {
        ids,
        explicit_ids: true,
    })
}

fn fin_timeout(v: &str) -> Parsed<Action> {
    let (mut idle, mut hard, mut rest) = (0, 0, v);
    while let Some(t) = token::next(&mut rest) {
        match t.key {
            "idle_timeout" => idle = number(t.value, t.key)?,
            "hard_timeout" => hard = number(t.value, t.key)?,
            key => return Err(format!("invalid key '{key}' in 'fin_timeout' argument")),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}

fn resubmit(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let mut parts = v.splitn(3, ',').map(str::trim);
    let port_text = parts.next().unwrap_or("");
    let table_text = parts.next().unwrap_or("");
    let in_port = match port_text {
        "" => OfPort::IN_PORT,
        text => {
            parse_port(text, ports).ok_or_else(|| format!("{text}: resubmit to unknown port"))?
        }
    };
    let table_id = match table_text {
        "" => TABLE_ALL,
        text => table(text).ok_or_else(|| format!("{text}: resubmit to unknown table"))?,
    };
    let with_ct_orig = match parts.next() {
        None | Some("") => false,
        Some("ct") => true,
        Some(other) => return Err(format!("{other}: unknown parameter")),
    };
    if in_port == OfPort::IN_PORT && table_id == TABLE_ALL {
        return Err("at least one \"in_port\" or \"table\" must be specified  on resubmit".into());
    }
    let port_only = table_id == TABLE_ALL && !with_ct_orig;
    Ok(Action::Resubmit(super::Resubmit {
        in_port,
        table: table_id,
        with_ct_orig,
        port_only,
    }))
}

fn learn(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let mut l = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        priority: crate::flow::DEFAULT_PRIORITY,
        table_id: 1,
        cookie: 0,
        send_flow_rem: false,
        delete_learned: false,
        limit: 0,
        result_dst: None,
        specs: Vec::new(),
    };
    let mut rest = v;
    while let Some(t) = token::next(&mut rest) {
        match t.key {
            "table" => {
                l.table_id = table(t.value)
                    .filter(|&n| n != TABLE_ALL)
                    .ok_or_else(|| format!("unknown table \"{}\"", t.value))?
            }
            "priority" => l.priority = number(t.value, "priority")?,
            "idle_timeout" => l.idle_timeout = number(t.value, t.key)?,
            "hard_timeout" => l.hard_timeout = number(t.value, t.key)?,
            "fin_idle_timeout" => l.fin_idle_timeout = number(t.value, t.key)?,
            "fin_hard_timeout" => l.fin_hard_timeout = number(t.value, t.key)?,
            "cookie" => l.cookie = number(t.value, t.key)?,
            "send_flow_rem" => l.send_flow_rem = true,
            "delete_learned" => l.delete_learned = true,
            "limit" => l.limit = number(t.value, t.key)?,
            "result_dst" => l.result_dst = Some(writable(SubField::parse(t.value)?)?),
            _ => l.specs.push(learn_spec(&t, v, ports)?),
        }
    }
    Ok(Action::Learn(Box::new(l)))
}

fn learn_spec(t: &Token<'_>, whole: &str, ports: &dyn PortMap) -> Parsed<LearnSpec> {
    if t.key == "load" {
        let (src, dst) = arrow(t.value)?;
        let dst = writable(SubField::parse(dst)?)?;
        let src = match SubField::parse(src) {
            Ok(src) => LearnSrc::Field(src),
            Err(_) => {
                let n = src
                    .strip_prefix("0x")
                    .and_then(|hex| u128::from_str_radix(hex, 16).ok())
                    .or_else(|| token::number(src).map(u128::from))
                    .ok_or_else(|| format!("{whole}: {}: invalid value", t.value))?;
                LearnSrc::Immediate(FieldValue::from(n))
            }
        };
        return Ok(LearnSpec {
            n_bits: dst.n_bits,
            src,
            dst: LearnDst::Load(dst),
        });
    }
    if t.key == "output" {
        let src = SubField::parse(t.value).map_err(|e| format!("{whole}: {e}"))?;
        return Ok(LearnSpec {
            n_bits: src.n_bits,
            src: LearnSrc::Field(src),
            dst: LearnDst::Output,
        });
    }
    if let Some(field) = Field::by_name(t.key) {
        let dst = SubField::whole(field.id);
        if t.value.is_empty() {
            return Ok(LearnSpec {
                n_bits: dst.n_bits,
                src: LearnSrc::Field(dst),
                dst: LearnDst::Match(dst),
            });
        }
        if let Ok(src) = SubField::parse(t.value) {
            return spec_of_field(src, dst, t);
        }
        let value = field
            .parse_value(t.value, ports)
            .map_err(|e| format!("{whole}: {e}"))?;
        return Ok(LearnSpec {
            n_bits: dst.n_bits,
            src: LearnSrc::Immediate(value),
            dst: LearnDst::Match(dst),
        });
    }
    let dst = SubField::parse(t.key).map_err(|_| format!("{whole}: unknown keyword {}", t.key))?;
    if t.value.is_empty() {
        return Ok(LearnSpec {
            n_bits: dst.n_bits,
            src: LearnSrc::Field(dst),
            dst: LearnDst::Match(dst),
        });
    }
    if let Ok(src) = SubField::parse(t.value) {
        return spec_of_field(src, dst, t);
    }
    let n = token::number(t.value).ok_or_else(|| format!("{whole}: {}: invalid value", t.value))?;
    Ok(LearnSpec {
        n_bits: dst.n_bits,
        src: LearnSrc::Immediate(FieldValue::from(u128::from(n))),
        dst: LearnDst::Match(dst),
    })
}

fn spec_of_field(src: SubField, dst: SubField, t: &Token<'_>) -> Parsed<LearnSpec> {
    if src.n_bits != dst.n_bits {
        return Err(format!(
            "{}={}: bit widths of {} ({}) and {} ({}) differ",
            t.key, t.value, t.key, dst.n_bits, t.value, src.n_bits
        ));
    }
    Ok(LearnSpec {
        n_bits: dst.n_bits,
        src: LearnSrc::Field(src),
        dst: LearnDst::Match(dst),
    })
}

fn conjunction(v: &str) -> Parsed<Action> {
    let bad = || format!("{v}: syntax error in conjunction");
    let (id, clauses) = v.split_once(',').ok_or_else(bad)?;
    let (k, n) = clauses.trim().split_once('/').ok_or_else(bad)?;
    let id = token::number(id.trim())
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(bad)?;
    let k: u8 = k.trim().parse().map_err(|_| bad())?;
    let n: u8 = n.trim().parse().map_err(|_| bad())?;
    if n < 2 {
        return Err("conjunction must have at least 2 clauses".into());
    }
    if n > 64 {
        return Err("conjunction must have at most 64 clauses".into());
    }
    if k < 1 {
        return Err("clause index must be positive".into());
    }
    if k > n {
        return Err("clause index must be less than or equal to number of clauses".into());
    }
    Ok(Action::Conjunction {
        id,
        clause: k - 1,
        n_clauses: n,
    })
}

fn multipath(v: &str) -> Parsed<Action> {
    let args: Vec<&str> = v.split([',', ' ']).filter(|a| !a.is_empty()).collect();
    let [fields, basis, algorithm, n_links, arg, dst] = args[..] else {
        return Err(format!("{v}: not enough arguments to multipath action"));
    };
    let fields = hash_fields(fields).ok_or_else(|| format!("{v}: unknown fields `{fields}'"))?;
    let found = MultipathAlgorithm::ALL
        .iter()
        .find(|(_, name)| *name == algorithm);
    let algorithm = found
        .ok_or_else(|| format!("{v}: unknown algorithm `{algorithm}'"))?
        .0;
    let links: u32 = n_links.parse().unwrap_or(0);
    if !(1..=65536).contains(&links) {
        return Err(format!(
            "{v}: n_links {n_links} is not in valid range 1 to 65536"
        ));
    }
    let dst = writable(SubField::parse(dst)?)?;
    if dst.n_bits < 16 && links > 1 << dst.n_bits {
        return Err(format!(
            "{v}: {}-bit destination field has {} possible values, less than specified n_links {links}",
            dst.n_bits,
            1u32 << dst.n_bits
        ));
    }
    Ok(Action::Multipath(Box::new(Multipath {
        fields,
        basis: number(basis, "basis")?,
        algorithm,
        max_link: (links - 1) as u16,
        arg: number(arg, "arg")?,
        dst,
    })))
}

/// Bytes as hexadecimal digits, with or without dots between them.
fn note(v: &str) -> Parsed<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut digits = v.chars().filter(|c| *c != '.').peekable();
    while digits.peek().is_some() {
        let (a, b) = (digits.next(), digits.next());
        let (Some(a), Some(b)) = (
            a.and_then(|c| c.to_digit(16)),
            b.and_then(|c| c.to_digit(16)),
        ) else {
            return Err("bad hex digit in `note' argument".into());
        };
        bytes.push((a << 4 | b) as u8);
    }
    Ok(bytes)
}

fn sample(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let mut s = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: SampleId::Immediate(0),
        obs_point_id: SampleId::Immediate(0),
        sampling_port: OfPort::NONE,
        direction: super::SampleDirection::Default,
        form: 1,
    };
    let id = |t: &Token<'_>| match SubField::parse(t.value) {
        Ok(src) => Ok(SampleId::Field(src)),
        Err(_) => number(t.value, t.key).map(SampleId::Immediate),
    };
    let mut rest = v;
    while let Some(t) = token::next(&mut rest) {
        match t.key {
            "probability" => {
                s.probability = number(t.value, t.key)?;
                if s.probability == 0 {
                    return Err("invalid probability value \"0\"".replace('0', t.value));
                }
            }
            "collector_set_id" => s.collector_set_id = number(t.value, t.key)?,
            "obs_domain_id" => s.obs_domain_id = id(&t)?,
            "obs_point_id" => s.obs_point_id = id(&t)?,
            "sampling_port" => {
                s.sampling_port = parse_port(t.value, ports)
                    .ok_or_else(|| format!("{}: unknown port", t.value))?;
            }
            "ingress" => s.direction = super::SampleDirection::Ingress,
            "egress" => s.direction = super::SampleDirection::Egress,
            key => return Err(format!("invalid key \"{key}\" in \"sample\" argument")),
        }
    }
    if s.probability == 0 {
        return Err("non-zero \"probability\" must be specified on sample".into());
    }
    let field = |id: &SampleId| matches!(id, SampleId::Field(_));
    s.form = match () {
        () if field(&s.obs_domain_id) || field(&s.obs_point_id) => 4,
        () if s.direction != super::SampleDirection::Default => 3,
        () if s.sampling_port != OfPort::NONE => 2,
        () => 1,
    };
    Ok(Action::Sample(Box::new(s)))
}

fn ct(v: &str, ports: &dyn PortMap) -> Parsed<Action> {
    let mut c = Ct {
        commit: false,
        force: false,
        zone: CtZone::Immediate(0),
        recirc_table: CT_NO_RECIRC,
        alg: 0,
        actions: Vec::new(),
    };
    let mut exec = Vec::new();
    let mut rest = v;
    while let Some(t) = token::next(&mut rest) {
        match t.key {
            "commit" => c.commit = true,
            "force" => c.force = true,
            "table" => {
                c.recirc_table =
                    table(t.value).ok_or_else(|| format!("unknown table {}", t.value))?;
                if c.recirc_table == CT_NO_RECIRC {
                    return Err("invalid table 0xff".into());
                }
            }
            "zone" => {
                c.zone = match token::number(t.value).and_then(|n| u16::try_from(n).ok()) {
                    Some(zone) => CtZone::Immediate(zone),
                    None => CtZone::Field(SubField::parse(t.value)?),
                };
            }
            "alg" => {
                c.alg = match t.value {
                    "ftp" => 21,
                    "tftp" => 69,
                    other => token::number(other)
                        .and_then(|n| u16::try_from(n).ok())
                        .ok_or_else(|| {
                            format!("invalid IP ALG \"{other}\"").replace("IP ALG", "port or ALG")
                        })?,
                };
            }
            "nat" => c.actions.push(nat(t.value)?),
            "exec" => exec = list(t.value, ports, Place::Ct)?,
            key => return Err(format!("invalid argument to \"ct\" action: `{key}'")),
        }
    }
    if c.commit && c.force && !c.commit {
        return Err("\"force\" flag requires \"commit\" flag.".into());
    }
    if c.force && !c.commit {
        return Err("\"force\" flag requires \"commit\" flag.".into());
    }
    c.actions.extend(exec);
    Ok(Action::Ct(Box::new(c)))
}

fn nat(v: &str) -> Parsed<Action> {
    let mut n = Nat::default();
    let mut rest = v;
    while let Some(t) = token::next(&mut rest) {
        match t.key {
            "src" | "dst" => {
                if t.key == "src" {
                    n.snat = true;
                } else {
                    n.dnat = true;
                }
                if !t.value.is_empty() {
                    nat_range(t.value, &mut n)?;
                }
            }
            "persistent" => n.persistent = true,
            "hash" => n.proto_hash = true,
            "random" => n.proto_random = true,
            key => return Err(format!("invalid key \"{key}\" in \"nat\" argument")),
        }
    }
    if n.snat && n.dnat {
        return Err("May only specify one of \"src\" or \"dst\".".into());
    }
    if !n.snat && !n.dnat && (n.persistent || n.proto_hash || n.proto_random) {
        return Err("Flags allowed only with \"src\" or \"dst\".".into());
    }
    if n.proto_hash && n.proto_random {
        return Err("Both \"hash\" and \"random\" are not allowed.".into());
    }
    Ok(Action::Nat(Box::new(n)))
}

fn nat_range(v: &str, n: &mut Nat) -> Parsed<()> {
    let bad = || {
        format!("invalid IP address \"{v}\" in \"nat\" argument")
            .replace(" in \"nat\" argument", "")
    };
    let (addresses, ports) = if let Some(rest) = v.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or_else(bad)?;
        // A range of bracketed addresses is written either `[a-b]` or `[a]-[b]`.
        match after.strip_prefix("-[").and_then(|r| r.split_once(']')) {
            Some((second, after)) => (format!("{inside}-{second}"), after.strip_prefix(':')),
            None => (inside.to_string(), after.strip_prefix(':')),
        }
    } else if v.matches(':').count() > 1 {
        (v.to_string(), None)
    } else {
        match v.split_once(':') {
            Some((a, p)) => (a.to_string(), Some(p)),
            None => (v.to_string(), None),
        }
    };
    let (min, max) = addresses
        .split_once('-')
        .map_or((addresses.as_str(), None), |(a, b)| (a, Some(b)));
    if let Ok(min) = min.parse::<Ipv4Addr>() {
        let max = max
            .map(|m| m.parse::<Ipv4Addr>().map_err(|_| bad()))
            .transpose()?;
        if max.is_some_and(|m| m < min) {
            return Err("invalid range: max < min".replace("max < min", &format!("{v}")));
        }
        n.range = NatRange::V4 {
            min,
            max: max.filter(|m| *m != min),
        };
    } else if let Ok(min) = min.parse::<Ipv6Addr>() {
        let max = max
            .map(|m| m.parse::<Ipv6Addr>().map_err(|_| bad()))
            .transpose()?;
        n.range = NatRange::V6 {
            min,
            max: max.filter(|m| *m != min),
        };
    } else if !min.is_empty() {
        return Err(bad());
    }
    if let Some(ports) = ports {
        let (a, b) = ports
            .split_once('-')
            .map_or((ports, None), |(a, b)| (a, Some(b)));
        n.proto_min = number(a, "port")?;
        n.proto_max = b.map_or(Ok(0), |b| number(b, "port"))?;
        if n.proto_max != 0 && n.proto_max < n.proto_min {
            return Err("invalid port range".into());
        }
        if n.proto_max == n.proto_min {
            n.proto_max = 0;
        }
    }
    Ok(())
}

fn check_pkt_larger(v: &str) -> Parsed<Action> {
    let (len, dst) = v
        .split_once(")->")
        .ok_or_else(|| format!("{v}: missing `->'"))?;
    let dst = writable(SubField::parse(dst)?)?;
    if dst.n_bits != 1 {
        return Err("Only 1-bit destination field is allowed".into());
    }
    Ok(Action::CheckPktLarger {
        pkt_len: number(len, "pkt_len")?,
        dst,
    })
}

fn encap(v: &str) -> Parsed<Action> {
    let mut rest = v;
    let Some(t) = token::next(&mut rest) else {
        return Err("Missing encap hdr: ".into());
    };
    let new_packet_type = match t.key {
        "ethernet" => 0,
        "nsh" => 0x1_894f,
        "mpls" => 0x1_8847,
        "mpls_mc" => 0x1_8848,
        key => return Err(format!("Encap hdr not supported: {key}")),
    };
    let mut props = Vec::new();
    let mut inner = t.value;
    while let Some(p) = token::next(&mut inner) {
        match p.key {
            "md_type" => {
                let kind: u8 = number(p.value, "md_type")?;
                if kind != 1 && kind != 2 {
                    return Err("invalid md_type".into());
                }
                props.push(EncapProp::NshMdType(kind));
            }
            "tlv" => {
                let parts: Vec<&str> = p.value.split(',').collect();
                let [class, kind, data] = parts[..] else {
                    return Err(format!("Invalid NSH TLV header: {}", p.value));
                };
                let data = note(data.trim_start_matches("0x"))
                    .map_err(|_| "Invalid NSH TLV data".to_string())?;
                props.push(EncapProp::NshTlv {
                    class: number(class, "tlv_class")?,
                    type_: number(kind, "tlv_type")?,
                    data,
                });
            }
            key => return Err(format!("Invalid property: {key}")),
        }
    }
    Ok(Action::Encap(super::Encap {
        new_packet_type,
        header_size: 0,
        props,
    }))
}

fn decap(v: &str) -> Parsed<Action> {
    let mut rest = v;
    let Some(t) = token::next(&mut rest) else {
        return Ok(Action::Decap {
            new_packet_type: 0x1_fffe,
        });
    };
    if t.key != "packet_type" {
        return Err(format!("Invalid decap argument: {}", t.key));
    }
    let (mut ns, mut id, mut inner) = (0u16, 0u16, t.value);
    while let Some(p) = token::next(&mut inner) {
        match p.key {
            "ns" => ns = number(p.value, "namespace")?,
            "type" | "id" => id = number(p.value, "type")?,
            key => return Err(format!("Invalid packet_type argument: {key}")),
        }
    }
    Ok(Action::Decap {
        new_packet_type: u32::from(ns) << 16 | u32::from(id),
    })
}
