//! The `learn` action in text.

use std::fmt::Write;

use ferrovs_packet::field::{
    EXPERIMENTER_CLASS, FieldValue, MAX_VALUE_BYTES, SubField, parse_int_prefix,
    parse_wide_int_prefix,
};
use ferrovs_packet::flow::Match;

use super::cursor::{atoi, next_pair, parse_u64_prefix};
use super::format::hex;
use super::parse_action::{check_fits, reg_move};
use super::{Names, format_table, parse_table};
use crate::action::*;
use crate::flow::DEFAULT_PRIORITY;

/// Appends a learn action.
pub fn format_learn(l: &Learn, names: &Names<'_>, out: &mut String) {
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
                    let _ = write!(out, "={}", wide_hex(value));
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
                let _ = write!(out, "load:{}->", wide_hex(value));
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

fn wide_hex(v: &FieldValue) -> String {
    format!("{v:?}")
        .replacen("0x", "", 1)
        .trim_start_matches('0')
        .to_owned()
        .pipe_hex()
}

trait PipeHex {
    fn pipe_hex(self) -> String;
}

impl PipeHex for String {
    fn pipe_hex(self) -> String {
        if self.is_empty() {
            "0".to_owned()
        } else {
            format!("0x{self}")
        }
    }
}

/// Reads the arguments of a learn action.
pub fn parse_learn(arg: &str, names: &Names<'_>) -> Result<Learn, String> {
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
