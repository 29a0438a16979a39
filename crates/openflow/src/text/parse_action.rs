//! Actions from text.

mod args;

use args::{conjunction, decap, encap, multipath, nat};
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::field::{
    Field, FieldValue, SubField, parse_int_prefix, parse_mac_prefix, parse_port,
};
use ferrovs_packet::types::{Be16, MacAddr, OfPort, eth_type};

use super::cursor::{
    atoi, next_pair, parse_u64, u8 as num8, u16 as num16, u32 as num32, u64 as num64, words,
};
use super::{Names, parse_table};
use crate::action::verify::{Place, verify};
use crate::action::*;
use crate::flow::{GROUP_ALL, GROUP_ANY, GROUP_MAX};
use crate::packet_in::PacketInReason;
use crate::version::{Protocol, Version};
use crate::warn::{Topic, warn};

/// Nesting of actions that is read.
const MAX_DEPTH: usize = 100;
/// The least length that `output(max_len)` may cut to: an Ethernet header.
const MIN_TRUNC: u32 = 14;

const OF11_UP: Protocol = Protocol::OF11_STD
    .union(Protocol::OF12_OXM)
    .union(Protocol::OF13_OXM)
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
const OF13_UP: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
const NXM_OF11_UP: Protocol = OF11_UP.union(Protocol::OF10_NXM_ANY);

struct Parser<'a, 'b> {
    names: &'a Names<'a>,
    usable: &'b mut Protocol,
    depth: usize,
}

/// Reads a list of actions; instructions too if `instructions`. `usable` loses what cannot carry them.
pub fn parse_actions(
    s: &str,
    names: &Names<'_>,
    usable: &mut Protocol,
    instructions: bool,
) -> Result<Vec<Action>, String> {
    let mut out = Vec::new();
    Parser {
        names,
        usable,
        depth: 0,
    }
    .list(s, &mut out)?;
    let place = if instructions {
        Place::Flow
    } else {
        Place::Actions
    };
    verify(&out, place, Version::V11).map_err(|r| r.text)?;
    if !instructions && out.iter().any(|a| matches!(a, Action::Meter(_))) {
        // An action, not an instruction, from then on only.
        *usable &= Protocol::OF15_OXM;
    }
    check_size(s, &out, names)?;
    Ok(out)
}

/// A message must have room for the actions.
fn check_size(text: &str, list: &[Action], names: &Names<'_>) -> Result<(), String> {
    const MAX: usize = u16::MAX as usize;
    // No action takes more room than this for each byte of its text.
    if text.len() * 16 <= MAX {
        return Ok(());
    }
    let mut bytes = Vec::new();
    instructions::encode(list, Version::V13, names.tun, &mut bytes);
    if bytes.len() > MAX {
        return Err("input too big".to_owned());
    }
    Ok(())
}

/// `value->field` at the arrow.
fn arrow<'a>(arg: &'a str, what: &str) -> Result<(&'a str, &'a str), String> {
    let _ = what;
    let (value, dst) = arg
        .split_once("->")
        .ok_or_else(|| format!("{arg}: missing `->'"))?;
    if dst.is_empty() {
        return Err(format!("{arg}: missing field name following `->'"));
    }
    Ok((value, dst))
}

fn hex_bytes(s: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        rest = rest.trim_start_matches(['.', ' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            break;
        }
        out.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
        rest = &rest[2..];
    }
    Some(out)
}

/// A group number or `all`, `any`.
pub fn parse_group(s: &str) -> Option<u32> {
    if s.eq_ignore_ascii_case("all") {
        return Some(GROUP_ALL);
    }
    if s.eq_ignore_ascii_case("any") {
        return Some(GROUP_ANY);
    }
    let Some(n) = parse_u64(s).and_then(|n| u32::try_from(n).ok()) else {
        warn(Topic::Group, || {
            format!(
                "{s} is not a valid group ID.  (Valid group IDs are 32-bit nonnegative integers or the \
                 keywords ANY or ALL.)"
            )
        });
        return None;
    };
    if n > GROUP_MAX {
        warn(Topic::Group, || format!("group ID {n} is out of range"));
    }
    Some(n)
}

impl Parser<'_, '_> {
    fn list(&mut self, s: &str, out: &mut Vec<Action>) -> Result<(), String> {
        if self.depth >= MAX_DEPTH {
            return Err("Action nested too deeply".to_owned());
        }
        let mut list = s;
        let mut drop = false;
        let first = out.len();
        while let Some((key, value)) = next_pair(&mut list) {
            if key.eq_ignore_ascii_case("drop") {
                drop = true;
            } else {
                self.one(key, value, out)?;
            }
        }
        if drop && out.len() != first {
            return Err(
                "\"drop\" must not be accompanied by any other action or instruction".to_owned(),
            );
        }
        Ok(())
    }

    fn port(&self, s: &str) -> Option<OfPort> {
        parse_port(s, self.names.ports)
    }

    fn nested(&mut self, s: &str, place: Place) -> Result<Vec<Action>, String> {
        let mut out = Vec::new();
        self.depth += 1;
        let result = self.list(s, &mut out);
        self.depth -= 1;
        result?;
        verify(&out, place, Version::V11).map_err(|r| r.text)?;
        Ok(out)
    }

    fn one(&mut self, key: &str, v: &str, out: &mut Vec<Action>) -> Result<(), String> {
        let lower = key.to_ascii_lowercase();
        let a = match lower.as_str() {
            "output" | "output_reg" => self.output(v)?,
            "group" => Action::Group(num32(v)?),
            "controller" => controller(v)?,
            "enqueue" => self.enqueue(v)?,
            "bundle" => self.bundle(v, false)?,
            "bundle_load" => self.bundle(v, true)?,
            "set_field" => self.set_field(v)?,
            "load" => self.load(v)?,
            "move" => {
                let (src, dst) = reg_move(v)?;
                let onf = false;
                Action::RegMove { src, dst, onf }
            }
            "set_vlan_vid" | "mod_vlan_vid" => {
                let vid = num16(v, "VLAN VID")?;
                if vid & !0xfff != 0 {
                    return Err(format!("{v}: not a valid VLAN VID"));
                }
                let push_if_needed = lower == "mod_vlan_vid";
                Action::SetVlanVid {
                    vid,
                    push_if_needed,
                    flow_has_vlan: false,
                }
            }
            "set_vlan_pcp" | "mod_vlan_pcp" => {
                let pcp = num8(v, "VLAN PCP")?;
                if pcp & !7 != 0 {
                    return Err(format!("{v}: not a valid VLAN PCP"));
                }
                let push_if_needed = lower == "mod_vlan_pcp";
                Action::SetVlanPcp {
                    pcp,
                    push_if_needed,
                    flow_has_vlan: false,
                }
            }
            "strip_vlan" | "pop_vlan" => Action::StripVlan { pop: false },
            "push_vlan" => {
                *self.usable &= OF11_UP;
                let ty = num16(v, "ethertype")?;
                if ty != eth_type::VLAN_8021Q && ty != eth_type::VLAN_8021AD {
                    return Err(format!("{v}: not a valid VLAN ethertype"));
                }
                Action::PushVlan(Be16::new(ty))
            }
            "mod_dl_src" => Action::SetEthSrc(mac(v)?),
            "mod_dl_dst" => Action::SetEthDst(mac(v)?),
            "mod_nw_src" => Action::SetIpv4Src(ipv4(v)?),
            "mod_nw_dst" => Action::SetIpv4Dst(ipv4(v)?),
            "mod_nw_tos" => {
                let tos = num8(v, "TOS")?;
                if tos & !0xfc != 0 {
                    return Err(format!("{v}: not a valid TOS"));
                }
                Action::SetIpDscp(tos)
            }
            "mod_nw_ecn" => {
                let ecn = num8(v, "ECN")?;
                if ecn & !3 != 0 {
                    return Err(format!("{v}: not a valid ECN"));
                }
                Action::SetIpEcn(ecn)
            }
            "mod_nw_ttl" | "set_nw_ttl" => Action::SetIpTtl(num8(v, "TTL")?),
            "mod_tp_src" => Action::SetL4SrcPort {
                port: num16(v, "source port")?,
                flow_ip_proto: 0,
            },
            "mod_tp_dst" => Action::SetL4DstPort {
                port: num16(v, "destination port")?,
                flow_ip_proto: 0,
            },
            "dec_ttl" => {
                if v.is_empty() {
                    Action::DecTtl {
                        ids: vec![0],
                        explicit_ids: false,
                    }
                } else {
                    let ids: Vec<u16> = words(v).map(|w| atoi(w) as u16).collect();
                    if ids.is_empty() {
                        return Err(
                            "dec_ttl_cnt_ids: expected at least one controller id.".to_owned()
                        );
                    }
                    Action::DecTtl {
                        ids,
                        explicit_ids: true,
                    }
                }
            }
            "set_mpls_label" | "set_mpls_tc" | "set_mpls_ttl" if v.is_empty() => {
                let what = &lower["set_mpls_".len()..];
                return Err(format!("{lower}: expected {what}."));
            }
            "set_mpls_label" => match num32(v)? {
                n if n > 0xfffff => return Err(format!("{v}: not a valid MPLS label")),
                n => Action::SetMplsLabel(n),
            },
            "set_mpls_tc" => match num8(v, "MPLS TC")? {
                n if n > 7 => return Err(format!("{v}: not a valid MPLS TC")),
                n => Action::SetMplsTc(n),
            },
            "set_mpls_ttl" => Action::SetMplsTtl(num8(v, "MPLS TTL")?),
            "dec_mpls_ttl" => Action::DecMplsTtl,
            "push_mpls" => {
                let ty = num16(v, "push_mpls")?;
                Action::PushMpls(Be16::new(ty))
            }
            "pop_mpls" => Action::PopMpls(Be16::new(num16(v, "pop_mpls")?)),
            "dec_nsh_ttl" => Action::DecNshTtl,
            "delete_field" => {
                let f = Field::by_name(v).ok_or_else(|| format!("unknown field `{v}'"))?;
                Action::DeleteField(f.id)
            }
            "set_tunnel" | "set_tunnel64" => Action::SetTunnel {
                id: num64(v)?,
                wide: lower == "set_tunnel64",
            },
            "set_queue" => Action::SetQueue(num32(v)?),
            "pop_queue" => Action::PopQueue,
            "fin_timeout" => fin_timeout(v)?,
            "resubmit" => self.resubmit(v)?,
            "learn" => Action::Learn(Box::new(super::learn::parse_learn(v, self.names)?)),
            "conjunction" => conjunction(v)?,
            "multipath" => multipath(v)?,
            "push" => Action::StackPush(stack_field(v)?),
            "pop" => {
                let sf = stack_field(v)?;
                Action::StackPop(sf)
            }
            "note" => Action::Note(
                hex_bytes(v).ok_or_else(|| "bad hex digit in `note' argument".to_owned())?,
            ),
            "exit" => Action::Exit,
            "sample" => self.sample(v)?,
            "unroll_xlate" => {
                return Err("UNROLL is an internal action that shouldn't be used via \
                                          OpenFlow"
                    .to_owned());
            }
            "ct" => self.ct(v)?,
            "nat" => Action::Nat(Box::new(nat(v)?)),
            "ct_clear" => Action::CtClear,
            "clone" => Action::Clone(self.nested(v, Place::Clone)?),
            "check_pkt_larger" => {
                let (len, dst) = v
                    .split_once("->")
                    .ok_or_else(|| format!("{v}: missing `->'"))?;
                let dst = SubField::parse(dst)?;
                if dst.n_bits != 1 {
                    return Err("Only 1-bit destination field is allowed".to_owned());
                }
                Action::CheckPktLarger {
                    pkt_len: num16(len.strip_suffix(')').unwrap_or(len), "(null)")?,
                    dst,
                }
            }
            "encap" => {
                *self.usable &= OF13_UP;
                encap(v)?
            }
            "decap" => decap(v)?,
            "debug_slow" => Action::DebugSlow,
            "debug_recirc" => Action::DebugRecirc,
            "meter" => {
                *self.usable &= OF13_UP;
                Action::Meter(num32(v)?)
            }
            "clear_actions" => Action::ClearActions,
            "write_actions" => Action::WriteActions(self.nested(v, Place::WriteActions)?),
            "apply_actions" => {
                return Err("apply_actions is the default instruction".to_owned());
            }
            "write_metadata" => {
                *self.usable &= NXM_OF11_UP;
                let (value, mask) = v.split_once('/').map_or((v, None), |(a, b)| (a, Some(b)));
                let mask = mask.map_or(Ok(u64::MAX), num64)?;
                Action::WriteMetadata {
                    metadata: num64(value)?,
                    mask,
                }
            }
            "goto_table" => {
                let t =
                    parse_table(v, self.names).ok_or_else(|| format!("unknown table \"{v}\""))?;
                Action::GotoTable(t)
            }
            _ => {
                // A port's name or number alone is an output.
                match self.port(key) {
                    Some(p) => Action::output(p),
                    None => return Err(format!("unknown action {key}")),
                }
            }
        };
        out.push(a);
        Ok(())
    }

    fn output(&mut self, v: &str) -> Result<Action, String> {
        if v.contains("port") && v.contains("max_len") {
            return self.output_trunc(v);
        }
        if let Some(p) = self.port(v) {
            return Ok(Action::output(p));
        }
        match SubField::parse(v) {
            Ok(src) => Ok(Action::OutputReg {
                src,
                max_len: u16::MAX,
            }),
            Err(_) => Err(format!("{v}: output to unknown port")),
        }
    }

    fn output_trunc(&mut self, v: &str) -> Result<Action, String> {
        let (mut port, mut max_len) = (OfPort(0), 0);
        let mut list = v;
        while let Some((k, val)) = next_pair(&mut list) {
            match k {
                "port" => {
                    port = self
                        .port(val)
                        .ok_or_else(|| format!("output to unknown truncate port: {val}"))?;
                    if port > OfPort::MAX && ![OfPort::LOCAL, OfPort::IN_PORT].contains(&port) {
                        return Err(format!("output to unsupported truncate port: {val}"));
                    }
                }
                "max_len" => {
                    max_len = num32(val)?;
                    if max_len < MIN_TRUNC {
                        return Err(format!(
                            "max_len {max_len} is less than the minimum value {MIN_TRUNC}"
                        ));
                    }
                }
                _ => return Err(format!("invalid key '{k}' in output_trunc argument")),
            }
        }
        Ok(Action::OutputTrunc { port, max_len })
    }

    fn enqueue(&mut self, v: &str) -> Result<Action, String> {
        let mut parts = v.splitn(2, [':', ',']);
        let (Some(port), Some(queue)) = (parts.next(), parts.next()) else {
            return Err(
                "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\""
                    .to_owned(),
            );
        };
        let p = self
            .port(port)
            .ok_or_else(|| format!("{port}: enqueue to unknown port"))?;
        Ok(Action::Enqueue {
            port: p,
            queue: num32(queue)?,
        })
    }

    fn bundle(&mut self, v: &str, load: bool) -> Result<Action, String> {
        let mut w = words(v);
        let mut next = || w.next();
        let few = || format!("{v}: not enough arguments to bundle action");
        let (Some(fields), Some(basis), Some(alg), Some(ty)) = (next(), next(), next(), next())
        else {
            return Err(few());
        };
        let dst = if load {
            Some(next().ok_or_else(few)?)
        } else {
            None
        };
        let delimiter = next().ok_or_else(few)?;
        // The delimiter is joined to the first member: "members:1".
        let (word, first) = delimiter.split_once(':').unwrap_or((delimiter, ""));
        if !["members", "slaves"].contains(&word) {
            return Err(format!(
                "{v}: missing member delimiter, expected `members', got `{word}'"
            ));
        }
        let mut members = Vec::new();
        // The list may be in brackets.
        let parts = std::iter::once(first).chain(w);
        for m in parts.flat_map(|m| m.split(['[', ']'])) {
            if m.is_empty() {
                continue;
            }
            let p = self
                .port(m)
                .ok_or_else(|| format!("{m}: bad port number"))?;
            members.push(p);
        }
        let hash = HashFields::from_name(fields)
            .ok_or_else(|| format!("{v}: unknown fields `{fields}'"))?;
        let algorithm = match alg.to_ascii_lowercase().as_str() {
            "active_backup" => BundleAlgorithm::ActiveBackup,
            "hrw" => BundleAlgorithm::Hrw,
            _ => return Err(format!("{v}: unknown algorithm `{alg}'")),
        };
        if !ty.eq_ignore_ascii_case("ofport") {
            return Err(format!("{v}: unknown member_type `{ty}'"));
        }
        let dst = match dst {
            Some(d) => Some(SubField::parse(d)?),
            None => None,
        };
        Ok(Action::Bundle(Box::new(Bundle {
            fields: hash,
            basis: atoi(basis) as u16,
            algorithm,
            dst,
            members,
        })))
    }

    fn set_field(&mut self, v: &str) -> Result<Action, String> {
        let (value, name) = arrow(v, "set_field")?;
        let f =
            Field::by_name(name).ok_or_else(|| format!("{name} is not a valid OXM field name"))?;
        if !f.writable {
            return Err(format!("{name} is read-only"));
        }
        let (val, mask) = f.parse(value, self.names.ports)?;
        if !f.is_value_valid(&val) {
            return Err(format!("{value} is not a valid value for field {name}"));
        }
        let mask = if f.id.tun_metadata_index().is_some() {
            let len = value
                .split('/')
                .next()
                .and_then(|s| s.strip_prefix("0x"))
                .map_or(1, |h| h.len().div_ceil(2))
                .clamp(1, 124);
            self.names
                .tun
                .ensure(f, len)
                .map_err(|_| format!("field {name} is not mapped"))?;
            mask.and(&FieldValue::ones(self.names.tun.bits(f)))
        } else {
            mask.and(&f.exact_mask())
        };
        *self.usable &= super::flow::field_protocols(f, &f.exact_mask());
        Ok(Action::SetField(Box::new(SetField {
            field: f.id,
            value: val.and(&mask),
            mask,
            form: SetFieldForm::SetField,
            flow_has_vlan: false,
        })))
    }

    fn load(&mut self, v: &str) -> Result<Action, String> {
        let (value, dst) = arrow(v, "load")?;
        let sf = SubField::parse(dst)?;
        let f = sf.field.field();
        // What follows the number does not matter, as in Open vSwitch.
        let (val, _) =
            parse_int_prefix(value, f).ok_or_else(|| format!("{v}: cannot parse integer value"))?;
        check_fits(&val, &sf, v, self.names)?;
        let mut full = FieldValue::ZERO;
        full.insert(sf.ofs.into(), sf.n_bits.into(), &val);
        Ok(Action::SetField(Box::new(SetField {
            field: sf.field,
            value: full,
            mask: sf.mask(),
            form: SetFieldForm::RegLoad,
            flow_has_vlan: false,
        })))
    }

    fn resubmit(&mut self, v: &str) -> Result<Action, String> {
        let mut r = Resubmit {
            in_port: OfPort::IN_PORT,
            table: TABLE_ALL,
            with_ct_orig: false,
            port_only: false,
        };
        let mut parts = v.split(',');
        if let Some(port) = parts.next().filter(|p| !p.is_empty()) {
            r.in_port = self
                .port(port)
                .ok_or_else(|| format!("{port}: resubmit to unknown port"))?;
        }
        let mut table_given = false;
        if let Some(t) = parts.next()
            && !t.is_empty()
        {
            r.table = parse_table(t, self.names)
                .ok_or_else(|| format!("{t}: resubmit to unknown table"))?;
            table_given = true;
        }
        if let Some(p) = parts.next() {
            if p == "ct" {
                r.with_ct_orig = true;
            } else {
                return Err(format!("{p}: unknown parameter"));
            }
        }
        if r.in_port == OfPort::IN_PORT && r.table == TABLE_ALL {
            return Err(
                "at least one \"in_port\" or \"table\" must be specified on resubmit".to_owned(),
            );
        }
        r.port_only = !table_given && !r.with_ct_orig;
        Ok(Action::Resubmit(r))
    }

    fn sample(&mut self, v: &str) -> Result<Action, String> {
        let mut s = Sample {
            probability: 0,
            collector_set_id: 0,
            obs_domain_id: SampleId::Immediate(0),
            obs_point_id: SampleId::Immediate(0),
            sampling_port: OfPort::NONE,
            direction: SampleDirection::Default,
            form: 1,
        };
        let id = |name: &str, val: &str| -> Result<SampleId, String> {
            match num32(val) {
                Ok(n) => Ok(SampleId::Immediate(n)),
                Err(_) => {
                    let sf = SubField::parse(val)?;
                    if sf.n_bits > 32 {
                        return Err(format!(
                            "size of {name} field ({}) exceeds maximum (32)",
                            sf.n_bits
                        ));
                    }
                    Ok(SampleId::Field(sf))
                }
            }
        };
        let mut list = v;
        while let Some((k, val)) = next_pair(&mut list) {
            match k {
                "probability" => {
                    s.probability = num16(val, "probability")?;
                    if s.probability == 0 {
                        return Err(format!("invalid probability value \"{val}\""));
                    }
                }
                "collector_set_id" => s.collector_set_id = num32(val)?,
                "obs_domain_id" => s.obs_domain_id = id(k, val)?,
                "obs_point_id" => s.obs_point_id = id(k, val)?,
                "sampling_port" => {
                    s.sampling_port = self
                        .port(val)
                        .ok_or_else(|| format!("{val}: unknown port"))?;
                }
                "ingress" => s.direction = SampleDirection::Ingress,
                "egress" => s.direction = SampleDirection::Egress,
                _ => return Err(format!("invalid key \"{k}\" in \"sample\" argument")),
            }
        }
        if s.probability == 0 {
            return Err("non-zero \"probability\" must be specified on sample".to_owned());
        }
        Ok(Action::Sample(Box::new(s)))
    }

    fn ct(&mut self, v: &str) -> Result<Action, String> {
        let mut c = Ct {
            commit: false,
            force: false,
            zone: CtZone::Immediate(0),
            recirc_table: CT_NO_RECIRC,
            alg: 0,
            actions: Vec::new(),
        };
        let mut list = v;
        while let Some((k, val)) = next_pair(&mut list) {
            match k {
                "commit" => c.commit = true,
                "force" => c.force = true,
                "table" => {
                    c.recirc_table = parse_table(val, self.names)
                        .ok_or_else(|| format!("unknown table {val}"))?;
                    if c.recirc_table == CT_NO_RECIRC {
                        return Err("invalid table 0xff".to_owned());
                    }
                }
                "zone" => {
                    c.zone = match num16(val, "zone") {
                        Ok(z) => CtZone::Immediate(z),
                        Err(_) => CtZone::Field(SubField::parse(val)?),
                    };
                }
                "alg" => {
                    c.alg = match val {
                        "ftp" => ALG_FTP,
                        "tftp" => ALG_TFTP,
                        _ => return Err(format!("invalid conntrack helper \"{val}\"")),
                    };
                }
                "nat" => {
                    let n = nat(val)?;
                    c.actions.push(Action::Nat(Box::new(n)));
                }
                "exec" => {
                    let list = self.nested(val, Place::Ct)?;
                    c.actions.extend(list);
                }
                _ => return Err(format!("invalid argument to \"ct\" action: `{k}'")),
            }
        }
        if c.force && !c.commit {
            return Err("\"force\" flag requires \"commit\" flag.".to_owned());
        }
        Ok(Action::Ct(Box::new(c)))
    }
}

/// A value of a subfield in `whole` must not have more bits than the subfield.
pub(super) fn check_fits(
    value: &FieldValue,
    sf: &SubField,
    whole: &str,
    names: &Names<'_>,
) -> Result<(), String> {
    let f = sf.field.field();
    let n_bits = usize::from(sf.n_bits);
    let above = usize::from(f.n_bytes) * 8 - n_bits;
    if value.extract(n_bits, above).is_zero() {
        return Ok(());
    }
    let mut text = String::new();
    f.format(value, None, names.ports, &mut text);
    Err(format!(
        "{whole}: value {text} does not fit into {n_bits} bits"
    ))
}

/// `SRC->DST`, fields of one width.
pub(super) fn reg_move(v: &str) -> Result<(SubField, SubField), String> {
    let (src, rest) = SubField::parse_prefix(v)?;
    let dst = rest
        .strip_prefix("->")
        .ok_or_else(|| format!("{v}: missing `->' following source"))?;
    let dst = SubField::parse(dst)?;
    if src.n_bits != dst.n_bits {
        return Err(format!(
            "{v}: source field is {} bits wide but destination is {} bits wide",
            src.n_bits, dst.n_bits
        ));
    }
    Ok((src, dst))
}

fn mac(v: &str) -> Result<MacAddr, String> {
    parse_mac_prefix(v).ok_or_else(|| format!("invalid mac address {v}"))
}

fn ipv4(v: &str) -> Result<Ipv4Addr, String> {
    v.parse().map_err(|_| {
        warn(Topic::SocketUtil, || {
            format!("\"{v}\" is not a valid IP address")
        });
        format!("{v}: could not convert to IP address")
    })
}

fn stack_field(v: &str) -> Result<SubField, String> {
    match SubField::parse_prefix(v)? {
        (sf, "") => Ok(sf),
        (_, tail) => Err(format!("{tail}: trailing garbage following push or pop")),
    }
}

fn controller(v: &str) -> Result<Action, String> {
    let mut c = Controller {
        max_len: u16::MAX,
        controller_id: 0,
        reason: PacketInReason::Action,
        pause: false,
        userdata: Vec::new(),
        meter_id: None,
        provider_meter_id: None,
        controller2: false,
    };
    if v.is_empty() {
        return Ok(Action::Output {
            port: OfPort::CONTROLLER,
            max_len: u16::MAX,
        });
    }
    if v.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Action::Output {
            port: OfPort::CONTROLLER,
            max_len: num16(v, "max_len")?,
        });
    }
    // Even userdata of no bytes needs an action of its own.
    let mut userdata = false;
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "reason" => {
                c.reason = PacketInReason::ALL[..6]
                    .iter()
                    .find(|r| r.1 == val)
                    .ok_or_else(|| format!("unknown reason \"{val}\""))?
                    .0;
            }
            "max_len" => c.max_len = num16(val, "max_len")?,
            "id" => c.controller_id = num16(val, "id")?,
            "userdata" => {
                userdata = true;
                c.userdata =
                    hex_bytes(val).ok_or("bad hex digit in `controller' action `userdata'")?;
            }
            "pause" => c.pause = true,
            "meter_id" => c.meter_id = Some(num32(val)?).filter(|&id| id != 0),
            _ => return Err(format!("unknown key \"{k}\" parsing controller action")),
        }
    }
    if c.reason == PacketInReason::Action
        && c.controller_id == 0
        && !userdata
        && !c.pause
        && c.meter_id.is_none()
    {
        return Ok(Action::Output {
            port: OfPort::CONTROLLER,
            max_len: c.max_len,
        });
    }
    Ok(Action::Controller(Box::new(c)))
}

fn fin_timeout(v: &str) -> Result<Action, String> {
    let (mut idle, mut hard) = (0, 0);
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "idle_timeout" => idle = num16(val, k)?,
            "hard_timeout" => hard = num16(val, k)?,
            _ => return Err(format!("invalid key '{k}' in 'fin_timeout' argument")),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}
