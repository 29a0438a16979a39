//! Connection tracking: sending the packet through the tracker, with translation of addresses nested in it.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::field::{SubField, format_ipv6, parse_ipv4_prefix};
use ferrovs_packet::types::{eth_type, ip_proto};

use super::Action;
use super::check::Checker;
use super::decode::{Decoder, check_bits, must, ofs_nbits};
use super::encode::{self, Encoder, nx, pack};
use super::row::{MAX, Row, nicira, word};
use super::verify::{Place, refuse};
use crate::error::OfpErr;
use crate::text::action::{chomp, format_list};
use crate::text::color::{Colors, Paint, Part};
use crate::text::cursor::{next_pair, u16 as num16};
use crate::text::parse_action::Parser;
use crate::text::{Names, format_table, parse_table};
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

/// `recirc_table` of `ct` when the packet is not recirculated.
pub const CT_NO_RECIRC: u8 = 0xff;
/// Helpers of `ct`, named by their ports.
pub const ALG_FTP: u16 = 21;
pub const ALG_TFTP: u16 = 69;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CtZone {
    Immediate(u16),
    Field(SubField),
}

/// Sends the packet through the connection tracker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ct {
    pub commit: bool,
    pub force: bool,
    pub zone: CtZone,
    /// [`CT_NO_RECIRC`] for none.
    pub recirc_table: u8,
    /// The helper's port: 21 ftp, 69 tftp, 0 none.
    pub alg: u16,
    /// Nested `nat` and what `exec` holds.
    pub actions: Vec<Action>,
}

/// Address translation; nested in `ct`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Nat {
    pub snat: bool,
    pub dnat: bool,
    pub persistent: bool,
    pub proto_hash: bool,
    pub proto_random: bool,
    pub range: NatRange,
    /// First and last port; 0 where not given.
    pub proto_min: u16,
    pub proto_max: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NatRange {
    #[default]
    None,
    V4 {
        min: Ipv4Addr,
        max: Option<Ipv4Addr>,
    },
    V6 {
        min: Ipv6Addr,
        max: Option<Ipv6Addr>,
    },
}

pub(super) static CT: Row = Row {
    name: "ct",
    paint: Paint {
        call: Colors::ct,
        ..Paint::alone(Part::Paren)
    },
    words: &[word("ct", parse_ct)],
    wires: &[nicira(35, 0..=5, "NXAST_CT", 24..=MAX, read_ct)],
    encode: |a, e, out| {
        if let Action::Ct(c) = a {
            encode_ct(c, e, out);
        }
    },
    format: |a, names, out| {
        if let Action::Ct(c) = a {
            format_ct(c, names, out);
        }
    },
    check: |a, c| match a {
        Action::Ct(ct) => check_ct(ct, c),
        _ => Ok(()),
    },
    ..Row::ACTION
};

fn check_ct(ct: &mut Ct, c: &mut Checker<'_>) -> Result<(), OfpErr> {
    let proto = c.m.flow.nw_proto;
    let helper = match ct.alg {
        ALG_FTP => proto == ip_proto::TCP,
        ALG_TFTP => proto == ip_proto::UDP,
        _ => true,
    };
    if !c.is_ip_any() || !helper {
        return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
    }
    if let CtZone::Field(sf) = &ct.zone {
        return c.src(sf);
    }
    c.nested(&mut ct.actions)
}

fn read_ct(d: &Decoder<'_, '_>, mut r: Reader<'_>) -> Result<Action, OfpErr> {
    let flags = r.u16()?;
    let mut zone_src = r.sub(4)?;
    let zone = r.u16()?;
    let recirc_table = r.u8()?;
    r.skip(3)?;
    let alg = r.u16()?;
    let zone = if zone_src.rest() == [0; 4] {
        CtZone::Immediate(zone)
    } else {
        let (ofs, n_bits) = ofs_nbits(zone);
        let sf = d.subfield(&mut zone_src, ofs, n_bits)?;
        check_bits(&sf)?;
        if n_bits != 16 {
            warn(Topic::Actions, || {
                format!("zone n_bits {n_bits} not within valid range [16..16]")
            });
            return Err(OfpErr::OFPBAC_BAD_SET_LEN);
        }
        CtZone::Field(sf)
    };
    let (commit, force) = (flags & 1 != 0, flags & 2 != 0);
    let actions = d.nested(r.rest(), Place::Ct)?;
    must(commit || !force, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    // Without commit only a plain "nat" may be nested.
    let plain_nat = |a: &Action| matches!(a, Action::Nat(n) if **n == Nat::default());
    if !commit && !actions.iter().all(plain_nat) {
        warn(Topic::Actions, || {
            "CT action requires commit flag if actions other than NAT without arguments are \
             specified."
                .to_owned()
        });
        return Err(OfpErr::OFPBAC_BAD_ARGUMENT);
    }
    Ok(Action::Ct(Box::new(Ct {
        commit,
        force,
        zone,
        recirc_table,
        alg,
        actions,
    })))
}

fn encode_ct(c: &Ct, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    nx(out, 35, |o| {
        o.put_u16(u16::from(c.commit) | u16::from(c.force) << 1);
        match &c.zone {
            CtZone::Immediate(z) => {
                o.put_u32(0);
                o.put_u16(*z);
            }
            CtZone::Field(sf) => {
                e.nxm(sf.field, o);
                o.put_u16(pack(sf));
            }
        }
        o.put_u8(c.recirc_table);
        o.put_zeros(3);
        o.put_u16(c.alg);
        encode::actions(&c.actions, e.version, e.tun, o);
    });
}

fn format_ct(c: &Ct, names: &Names<'_>, out: &mut String) {
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
            sf.format(out);
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
        format_nat(n, out);
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
        ALG_FTP => out.push_str("alg=ftp,"),
        ALG_TFTP => out.push_str("alg=tftp,"),
        n => {
            let _ = write!(out, "alg={n},");
        }
    }
    chomp(out);
    out.push(')');
}

fn parse_ct(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
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
                c.recirc_table =
                    parse_table(val, p.names).ok_or_else(|| format!("unknown table {val}"))?;
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
                let n = parse_nat(val)?;
                c.actions.push(Action::Nat(Box::new(n)));
            }
            "exec" => {
                let list = p.nested(val, Place::Ct)?;
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

pub(super) static NAT: Row = Row {
    name: "nat",
    paint: Paint {
        call: Colors::nat,
        ..Paint::alone(Part::Paren)
    },
    words: &[word("nat", |_, v| Ok(Action::Nat(Box::new(parse_nat(v)?))))],
    wires: &[nicira(36, 0..=5, "NXAST_NAT", 16..=MAX, |_, r| read_nat(r))],
    encode: |a, _, out| {
        if let Action::Nat(n) = a {
            encode_nat(n, out);
        }
    },
    format: |a, _, out| {
        if let Action::Nat(n) = a {
            format_nat(n, out);
        }
    },
    check: |a, c| {
        let Action::Nat(n) = a else { return Ok(()) };
        let fits = match n.range {
            NatRange::None => c.is_ip_any(),
            NatRange::V4 { .. } => c.m.flow.ether_type() == eth_type::IP,
            NatRange::V6 { .. } => c.m.flow.ether_type() == eth_type::IPV6,
        };
        must(fits, OfpErr::OFPBAC_MATCH_INCONSISTENT)
    },
    place: |_, place| match place {
        Place::Ct => Ok(()),
        _ => refuse(
            OfpErr::OFPBAC_BAD_SET_ARGUMENT,
            "Cannot have NAT action outside of \"ct\" action".to_owned(),
        ),
    },
    ..Row::ACTION
};

fn read_nat(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    r.skip(2)?;
    let flags = r.u16()?;
    let present = r.u16()?;
    must(flags & !0x1f == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let mut n = Nat {
        snat: flags & 1 != 0,
        dnat: flags & 2 != 0,
        persistent: flags & 4 != 0,
        proto_hash: flags & 8 != 0,
        proto_random: flags & 16 != 0,
        ..Nat::default()
    };
    must(
        !(n.snat && n.dnat || n.proto_hash && n.proto_random),
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    let (min_v4, max_v4, min_v6, max_v6) = (1, 2, 4, 8);
    let (min_port, max_port) = (16, 32);
    let has = |bits: u16| present & bits != 0;
    // An end needs its beginning, ports need addresses, and those are of one kind.
    let sound = !(has(max_v4) && !has(min_v4)
        || has(max_v6) && !has(min_v6)
        || has(max_port) && !has(min_port)
        || has(min_port) && !has(min_v4 | min_v6)
        || has(min_v4) && has(min_v6));
    must(sound, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let mut backwards = false;
    if has(min_v4) {
        let min = Ipv4Addr::from(r.u32()?);
        let max = has(max_v4).then(|| r.u32()).transpose()?;
        let max = max.map(Ipv4Addr::from);
        backwards |= max.is_some_and(|max| max < min);
        n.range = NatRange::V4 { min, max };
    } else if has(min_v6) {
        let min = Ipv6Addr::from(r.array::<16>()?);
        let max = has(max_v6).then(|| r.array::<16>()).transpose()?;
        let max = max.map(Ipv6Addr::from);
        backwards |= max.is_some_and(|max| max < min);
        n.range = NatRange::V6 { min, max };
    }
    if has(min_port) {
        n.proto_min = r.u16()?;
    }
    if has(max_port) {
        n.proto_max = r.u16()?;
    }
    must(!backwards, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::Nat(Box::new(n)))
}

fn encode_nat(n: &Nat, out: &mut Vec<u8>) {
    nx(out, 36, |o| {
        o.put_u16(0);
        let flags = [n.snat, n.dnat, n.persistent, n.proto_hash, n.proto_random];
        o.put_u16(
            flags
                .iter()
                .enumerate()
                .map(|(i, &f)| u16::from(f) << i)
                .sum(),
        );
        let present_at = o.len();
        o.put_u16(0);
        let mut present = 0;
        match n.range {
            NatRange::None => {}
            NatRange::V4 { min, max } => {
                present |= 1;
                o.put(&min.octets());
                if let Some(max) = max {
                    present |= 2;
                    o.put(&max.octets());
                }
            }
            NatRange::V6 { min, max } => {
                present |= 4;
                o.put(&min.octets());
                if let Some(max) = max {
                    present |= 8;
                    o.put(&max.octets());
                }
            }
        }
        if n.proto_min != 0 {
            present |= 16;
            o.put_u16(n.proto_min);
            if n.proto_max != 0 {
                present |= 32;
                o.put_u16(n.proto_max);
            }
        }
        o.set_u16(present_at, present);
    });
}

fn format_nat(n: &Nat, out: &mut String) {
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
                let v6 = |ip: Ipv6Addr| format_ipv6(ip.into());
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

fn parse_nat(v: &str) -> Result<Nat, String> {
    let mut n = Nat::default();
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "src" | "dst" => {
                if k == "src" {
                    n.snat = true;
                } else {
                    n.dnat = true;
                }
                if !val.is_empty() {
                    nat_range(val, &mut n)?;
                }
            }
            "persistent" => n.persistent = true,
            "hash" => n.proto_hash = true,
            "random" => n.proto_random = true,
            _ => return Err(format!("invalid key \"{k}\" in \"nat\" argument")),
        }
    }
    if n.snat && n.dnat {
        return Err("May only specify one of \"src\" or \"dst\".".to_owned());
    }
    if !n.snat && !n.dnat {
        if n.persistent {
            return Err("Flags allowed only with \"src\" or \"dst\".".to_owned());
        }
        if n.proto_hash || n.proto_random {
            return Err("Flags allowed only with \"src\" or \"dst\".".to_owned());
        }
    }
    if n.proto_hash && n.proto_random {
        return Err("Both \"hash\" and \"random\" are not allowed.".to_owned());
    }
    Ok(n)
}

/// `A[-B][:P[-Q]]`, IPv6 addresses in brackets if ports follow. As in Open vSwitch, characters of an address that
/// make none are passed over.
fn nat_range(v: &str, n: &mut Nat) -> Result<(), String> {
    let invalid = || format!("invalid nat range \"{v}\"");
    let mut rest = v;
    if let Some((min, tail)) = parse_ipv4_prefix(rest) {
        let mut max = None;
        rest = tail;
        if let Some(tail) = rest.strip_prefix('-') {
            let (last, tail) = parse_ipv4_prefix(tail).ok_or_else(invalid)?;
            if last < min {
                return Err(invalid());
            }
            (max, rest) = (Some(last), tail);
        }
        if !min.is_unspecified() {
            n.range = NatRange::V4 { min, max };
        }
    } else {
        let (min, tail) = ipv6_prefix(rest);
        rest = tail;
        if let Some(min) = min {
            let mut max = None;
            if let Some(tail) = rest.strip_prefix('-') {
                let (last, tail) = ipv6_prefix(tail);
                let last = last.filter(|last| *last >= min).ok_or_else(invalid)?;
                (max, rest) = (Some(last), tail);
            }
            if !min.is_unspecified() {
                n.range = NatRange::V6 { min, max };
            }
        }
    }
    if let Some(ports) = rest.strip_prefix(':') {
        let (first, tail) = port_prefix(ports).ok_or_else(invalid)?;
        n.proto_min = first;
        rest = tail;
        if let Some(tail) = rest.strip_prefix('-') {
            let (last, tail) = port_prefix(tail).ok_or_else(invalid)?;
            if last < first {
                return Err(invalid());
            }
            n.proto_max = last;
            rest = tail;
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    let pos = v.len() - rest.len();
    Err(format!(
        "garbage ({rest}) after nat range \"{v}\" (pos: {pos})"
    ))
}

/// An IPv6 address at the front, which may be in brackets, and what follows its characters.
fn ipv6_prefix(s: &str) -> (Option<Ipv6Addr>, &str) {
    let address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let end = |s: &str| s.find(|c| !address(c)).unwrap_or(s.len());
    if let Some(inner) = s.strip_prefix('[') {
        let (text, tail) = inner.split_at(end(inner));
        if let Some(tail) = tail.strip_prefix(']') {
            return (text.parse().ok(), tail);
        }
    }
    let (text, tail) = s.split_at(end(s));
    (text.parse().ok(), tail)
}

/// A port at the front; like Open vSwitch, only the low 16 bits of a larger number count.
fn port_prefix(s: &str) -> Option<(u16, &str)> {
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let (digits, tail) = s.split_at(end);
    let n = digits.bytes().fold(0u16, |n, c| {
        n.wrapping_mul(10).wrapping_add(u16::from(c - b'0'))
    });
    (end > 0).then_some((n, tail))
}

pub(super) static CT_CLEAR: Row = Row {
    name: "ct_clear",
    paint: Paint::alone(Part::Value),
    words: &[word("ct_clear", |_, _| Ok(Action::CtClear))],
    wires: &[nicira(43, 0..=5, "NXAST_CT_CLEAR", 16..=16, |_, _| {
        Ok(Action::CtClear)
    })],
    encode: |_, _, out| nx(out, 43, |_| {}),
    format: |_, _, out| out.push_str("ct_clear"),
    ..Row::ACTION
};
