//! The action that adds or modifies a flow built from the packet that runs it.

use std::fmt::Write;

use ferrovs_packet::field::{
    EXPERIMENTER_CLASS, FieldValue, MAX_VALUE_BYTES, SubField, format_hex, parse_int_prefix,
    parse_wide_int_prefix,
};
use ferrovs_packet::flow::Match;

use super::check::{Checker, prereqs_in};
use super::decode::{Decoder, check_bits, must};
use super::encode::{Encoder, nx};
use super::row::{MAX, Row, nicira, word};
use super::{Action, check_writable};
use crate::error::OfpErr;
use crate::flow::DEFAULT_PRIORITY;
use crate::text::color::{Colors, Paint};
use crate::text::cursor::{atoi, next_pair, parse_u64_prefix};
use crate::text::format::hex;
use crate::text::parse_action::{check_fits, reg_move};
use crate::text::{Names, format_table, parse_table};
use crate::wire::{Put, Reader};

/// Where a learned match or load takes its value from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnSrc {
    Field(SubField),
    /// Right-justified value of the spec's width.
    Immediate(FieldValue),
}

/// What a learn spec makes of its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnDst {
    Match(SubField),
    Load(SubField),
    Output,
}

/// One part of a learned flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnSpec {
    pub n_bits: u16,
    pub src: LearnSrc,
    pub dst: LearnDst,
}

/// Adds or modifies a flow built from the packet that runs the action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learn {
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub fin_idle_timeout: u16,
    pub fin_hard_timeout: u16,
    pub priority: u16,
    pub table_id: u8,
    pub cookie: u64,
    pub send_flow_rem: bool,
    pub delete_learned: bool,
    /// Most flows with this cookie in the table; 0: no limit.
    pub limit: u32,
    /// One bit that tells whether the limit let the flow be learned.
    pub result_dst: Option<SubField>,
    /// Whether it came as NXAST_LEARN2 (always sent so if a limit or a result needs it).
    pub second: bool,
    pub specs: Vec<LearnSpec>,
}

pub(super) static LEARN: Row = Row {
    name: "learn",
    paint: Paint::call(Colors::learn),
    words: &[word("learn", |p, v| {
        Ok(Action::Learn(Box::new(parse(v, p.names)?)))
    })],
    wires: &[
        nicira(16, 0..=5, "NXAST_LEARN", 32..=MAX, |d, r| read(d, r, false)),
        nicira(45, 0..=5, "NXAST_LEARN2", 40..=MAX, |d, r| read(d, r, true)),
    ],
    encode: |a, e, out| {
        if let Action::Learn(l) = a {
            encode(l, e, out);
        }
    },
    format: |a, names, out| {
        if let Action::Learn(l) = a {
            format(l, names, out);
        }
    },
    check: |a, c| match a {
        Action::Learn(l) => check(l, c),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

fn check(l: &Learn, c: &Checker<'_>) -> Result<(), OfpErr> {
    let mut learned = Match::default();
    for s in &l.specs {
        if let LearnSrc::Field(src) = &s.src {
            c.src(src)?;
        }
        match &s.dst {
            LearnDst::Match(dst) => {
                prereqs_in(dst, "source", &learned)?;
                if let LearnSrc::Immediate(v) = &s.src {
                    let f = dst.field.field();
                    let (ofs, n_bits) = (dst.ofs.into(), dst.n_bits.into());
                    let mut value = f.value(&learned.flow);
                    value.insert(ofs, n_bits, v);
                    let mut mask = f.mask_of(&learned.wc);
                    mask.insert(ofs, n_bits, &FieldValue::ones(n_bits));
                    f.set_match(&value, &mask, &mut learned);
                }
            }
            LearnDst::Load(dst) => {
                prereqs_in(dst, "destination", &learned)?;
                check_writable(dst)?;
            }
            LearnDst::Output => {}
        }
    }
    Ok(())
}

fn read(d: &Decoder<'_, '_>, mut r: Reader<'_>, second: bool) -> Result<Action, OfpErr> {
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    let cookie = r.u64()?;
    let flags = r.u16()?;
    let table_id = r.u8()?;
    must(r.u8()? == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    let (fin_idle_timeout, fin_hard_timeout) = (r.u16()?, r.u16()?);
    let known = if second { 7 } else { 3 };
    must(
        flags & !known == 0 && table_id != 0xff,
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    let mut learn = Learn {
        idle_timeout,
        hard_timeout,
        fin_idle_timeout,
        fin_hard_timeout,
        priority,
        table_id,
        cookie,
        send_flow_rem: flags & 1 != 0,
        delete_learned: flags & 2 != 0,
        limit: 0,
        result_dst: None,
        second,
        specs: Vec::new(),
    };
    if second {
        learn.limit = r.u32()?;
        let ofs = r.u16()?;
        must(r.u16()? == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        if flags & 4 != 0 {
            let dst = d.subfield(&mut r, ofs, 1)?;
            d.check_dst(&dst)?;
            learn.result_dst = Some(dst);
        }
    }
    while r.len() >= 2 {
        let header = r.u16()?;
        if header == 0 {
            break;
        }
        let n_bits = header & 0x7ff;
        let immediate = header & 1 << 13 != 0;
        let kind = header >> 11 & 3;
        must(
            header & 0xc000 == 0 && n_bits != 0,
            OfpErr::OFPBAC_BAD_ARGUMENT,
        )?;
        let src = if immediate {
            let n = usize::from(n_bits).div_ceil(16) * 2;
            LearnSrc::Immediate(FieldValue::from_be_bytes(r.take(n)?))
        } else {
            let field = d.header(&mut r)?;
            let sf = SubField {
                field,
                ofs: r.u16()?,
                n_bits,
            };
            check_bits(&sf)?;
            LearnSrc::Field(sf)
        };
        let dst = match kind {
            0 | 1 => {
                let field = d.header(&mut r)?;
                let sf = SubField {
                    field,
                    ofs: r.u16()?,
                    n_bits,
                };
                check_bits(&sf)?;
                if kind == 0 {
                    LearnDst::Match(sf)
                } else {
                    d.check_dst(&sf)?;
                    LearnDst::Load(sf)
                }
            }
            2 if !immediate => LearnDst::Output,
            _ => return Err(OfpErr::OFPBAC_BAD_ARGUMENT),
        };
        learn.specs.push(LearnSpec { n_bits, src, dst });
    }
    let rest = r.len();
    must(r.zeros(rest)?, OfpErr::OFPBAC_BAD_ARGUMENT)?;
    Ok(Action::Learn(Box::new(learn)))
}

fn encode(l: &Learn, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    let second = l.second || l.limit != 0 || l.result_dst.is_some();
    nx(out, if second { 45 } else { 16 }, |o| {
        o.put_u16(l.idle_timeout);
        o.put_u16(l.hard_timeout);
        o.put_u16(l.priority);
        o.put_u64(l.cookie);
        o.put_u16(
            u16::from(l.send_flow_rem)
                | u16::from(l.delete_learned) << 1
                | u16::from(l.result_dst.is_some()) << 2,
        );
        o.put_u8(l.table_id);
        o.put_u8(0);
        o.put_u16(l.fin_idle_timeout);
        o.put_u16(l.fin_hard_timeout);
        if second {
            o.put_u32(l.limit);
            o.put_u16(l.result_dst.map_or(0, |d| d.ofs));
            o.put_u16(0);
            if let Some(dst) = &l.result_dst {
                e.nxm(dst.field, o);
            }
        }
        for s in &l.specs {
            let (kind, dst) = match &s.dst {
                LearnDst::Match(sf) => (0, Some(sf)),
                LearnDst::Load(sf) => (1, Some(sf)),
                LearnDst::Output => (2, None),
            };
            let immediate = matches!(s.src, LearnSrc::Immediate(_));
            o.put_u16(s.n_bits | kind << 11 | u16::from(immediate) << 13);
            match &s.src {
                LearnSrc::Field(sf) => {
                    e.nxm(sf.field, o);
                    o.put_u16(sf.ofs);
                }
                LearnSrc::Immediate(value) => {
                    o.put(value.low_bytes(usize::from(s.n_bits).div_ceil(16) * 2));
                }
            }
            if let Some(sf) = dst {
                e.nxm(sf.field, o);
                o.put_u16(sf.ofs);
            }
        }
    });
}

/// Appends a learn action.
fn format(l: &Learn, names: &Names<'_>, out: &mut String) {
    out.push_str("learn(table=");
    format_table(l.table_id, names.tables, out);
    let mut opt = |name: &str, n: u64| {
        if n != 0 {
            let _ = write!(out, ",{name}={n}");
        }
    };
    opt("idle_timeout", l.idle_timeout.into());
    opt("hard_timeout", l.hard_timeout.into());
    opt("fin_idle_timeout", l.fin_idle_timeout.into());
    opt("fin_hard_timeout", l.fin_hard_timeout.into());
    if l.priority != DEFAULT_PRIORITY {
        let _ = write!(out, ",priority={}", l.priority);
    }
    if l.send_flow_rem {
        out.push_str(",send_flow_rem");
    }
    if l.delete_learned {
        out.push_str(",delete_learned");
    }
    if l.cookie != 0 {
        let _ = write!(out, ",cookie={}", hex(l.cookie));
    }
    if l.limit != 0 {
        let _ = write!(out, ",limit={}", l.limit);
    }
    if let Some(dst) = &l.result_dst {
        out.push_str(",result_dst=");
        dst.format(out);
    }
    for s in &l.specs {
        out.push(',');
        match (&s.src, &s.dst) {
            (LearnSrc::Immediate(value), LearnDst::Match(dst)) => {
                let f = dst.field.field();
                let whole = dst.ofs == 0 && dst.n_bits == f.n_bits;
                if whole {
                    let _ = write!(out, "{}=", f.name);
                    f.format(value, None, names.ports, out);
                } else {
                    dst.format(out);
                    out.push('=');
                    format_hex(value, out);
                }
            }
            (LearnSrc::Field(src), LearnDst::Match(dst)) => {
                dst.format(out);
                if src != dst {
                    out.push('=');
                    src.format(out);
                }
            }
            (LearnSrc::Immediate(value), LearnDst::Load(dst)) => {
                out.push_str("load:");
                format_hex(value, out);
                out.push_str("->");
                dst.format(out);
            }
            (LearnSrc::Field(src), LearnDst::Load(dst)) => {
                out.push_str("load:");
                src.format(out);
                out.push_str("->");
                dst.format(out);
            }
            (LearnSrc::Field(src), LearnDst::Output) => {
                out.push_str("output:");
                src.format(out);
            }
            (LearnSrc::Immediate(_), LearnDst::Output) => {}
        }
    }
    out.push(')');
}

/// Reads the arguments of a learn action.
fn parse(arg: &str, names: &Names<'_>) -> Result<Learn, String> {
    let mut l = Learn {
        idle_timeout: 0,
        hard_timeout: 0,
        fin_idle_timeout: 0,
        fin_hard_timeout: 0,
        priority: DEFAULT_PRIORITY,
        table_id: 1,
        cookie: 0,
        send_flow_rem: false,
        delete_learned: false,
        limit: 0,
        result_dst: None,
        second: false,
        specs: Vec::new(),
    };
    // What is matched so far, for the prerequisites of later parts.
    let mut so_far = Match::default();
    let mut list = arg;
    while let Some((name, value)) = next_pair(&mut list) {
        match name {
            "table" => {
                l.table_id = parse_table(value, names)
                    .ok_or_else(|| format!("unknown table \"{value}\""))?;
                if l.table_id == 255 {
                    return Err(format!(
                        "{arg}: table id {} not valid for `learn' action",
                        l.table_id
                    ));
                }
            }
            // Numbers of which Open vSwitch takes what it can read.
            "priority" => l.priority = atoi(value) as u16,
            "idle_timeout" => l.idle_timeout = atoi(value) as u16,
            "hard_timeout" => l.hard_timeout = atoi(value) as u16,
            "fin_idle_timeout" => l.fin_idle_timeout = atoi(value) as u16,
            "fin_hard_timeout" => l.fin_hard_timeout = atoi(value) as u16,
            "cookie" => l.cookie = parse_u64_prefix(value).map_or(0, |(n, _)| n),
            "send_flow_rem" => l.send_flow_rem = true,
            "delete_learned" => l.delete_learned = true,
            "limit" => l.limit = atoi(value) as u32,
            "result_dst" => {
                let dst = SubField::parse(value)?;
                if !dst.field.field().writable {
                    return Err(format!("{value} is read-only"));
                }
                if dst.n_bits != 1 {
                    return Err("result_dst in 'learn' action must be a single bit".to_owned());
                }
                l.result_dst = Some(dst);
            }
            _ => {
                let spec = parse_spec(name, value, arg, names, &mut so_far)?;
                l.specs.push(spec);
            }
        }
    }
    Ok(l)
}

fn parse_spec(
    name: &str,
    value: &str,
    orig: &str,
    names: &Names<'_>,
    so_far: &mut Match,
) -> Result<LearnSpec, String> {
    if let Ok(dst) = SubField::parse(name) {
        check_header(&dst, orig, name)?;
        let src = match_source(&dst, name, value, orig, names)?;
        if let LearnSrc::Immediate(v) = &src {
            let f = dst.field.field();
            let mut whole = f.value(&so_far.flow);
            whole.insert(dst.ofs.into(), dst.n_bits.into(), v);
            f.set_match_exact(&whole, so_far);
        }
        return Ok(LearnSpec {
            n_bits: dst.n_bits,
            src,
            dst: LearnDst::Match(dst),
        });
    }
    match name {
        "load" => parse_load(value),
        "output" => {
            let src = SubField::parse(value)?;
            Ok(LearnSpec {
                n_bits: src.n_bits,
                src: LearnSrc::Field(src),
                dst: LearnDst::Output,
            })
        }
        _ => Err(format!("{orig}: unknown keyword {name}")),
    }
}

/// Fields whose code point belongs to an experimenter do not fit into a specification.
fn check_header(dst: &SubField, orig: &str, name: &str) -> Result<(), String> {
    let header = dst.field.field().oxm(0);
    if header.is_none_or(|h| h.class == EXPERIMENTER_CLASS) {
        return Err(format!(
            "{orig}: experimenter OXM field '{name}' not supported"
        ));
    }
    Ok(())
}

/// What a match takes its value from: itself, another field, or a value.
fn match_source(
    dst: &SubField,
    name: &str,
    value: &str,
    orig: &str,
    names: &Names<'_>,
) -> Result<LearnSrc, String> {
    if value.is_empty() {
        return Ok(LearnSrc::Field(*dst));
    }
    let not_field = match SubField::parse(value) {
        Ok(src) if src.n_bits == dst.n_bits => return Ok(LearnSrc::Field(src)),
        // The order of the widths is Open vSwitch's.
        Ok(src) => {
            return Err(format!(
                "{orig}: bit widths of {name} ({}) and {value} ({}) differ",
                src.n_bits, dst.n_bits
            ));
        }
        Err(e) => e,
    };
    let f = dst.field.field();
    let immediate = if *dst == SubField::whole(dst.field) {
        f.parse_value(value, names.ports)
    } else {
        match parse_int_prefix(value, f) {
            Some((v, "")) => check_fits(&v, dst, orig, names).map(|()| v),
            _ => Err(format!("{orig}: cannot parse integer value")),
        }
    };
    immediate.map(LearnSrc::Immediate).map_err(|e| {
        format!(
            "{orig}: {name} value {value} cannot be parsed as a subfield ({not_field}) or an immediate \
             value ({e})"
        )
    })
}

/// `VALUE->DST` or `SRC->DST`.
fn parse_load(value: &str) -> Result<LearnSpec, String> {
    let Some((src, dst)) = value.split_once("->") else {
        return Err(format!("load: missing `->' in `{value}'"));
    };
    if src.is_empty() {
        return Err(format!("load: missing source before `->' in `{value}'"));
    }
    let Some((imm, tail)) = parse_wide_int_prefix(src) else {
        let (src, dst) = reg_move(value)?;
        return Ok(LearnSpec {
            n_bits: src.n_bits,
            src: LearnSrc::Field(src),
            dst: LearnDst::Load(dst),
        });
    };
    if !tail.is_empty() {
        return Err(format!("load: garbage before `->' in `{value}'"));
    }
    let name = dst;
    let dst = SubField::parse(name)?;
    check_header(&dst, value, name)?;
    let n_bits = usize::from(dst.n_bits);
    if !imm.extract(n_bits, MAX_VALUE_BYTES * 8 - n_bits).is_zero() {
        return Err(format!("{value}: value does not fit into {n_bits} bits"));
    }
    Ok(LearnSpec {
        n_bits: dst.n_bits,
        src: LearnSrc::Immediate(imm),
        dst: LearnDst::Load(dst),
    })
}
