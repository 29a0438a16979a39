//! The `learn` action in text.

use std::fmt::Write;

use ferrovs_packet::field::{Field, FieldId, FieldValue, SubField};
use ferrovs_packet::flow::Match;

use super::cursor::{next_pair, u16 as num16, u32 as num32, u64 as num64};
use super::format::hex;
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
            "priority" => l.priority = num16(value, "priority")?,
            "idle_timeout" => l.idle_timeout = num16(value, "idle_timeout")?,
            "hard_timeout" => l.hard_timeout = num16(value, "hard_timeout")?,
            "fin_idle_timeout" => l.fin_idle_timeout = num16(value, "fin_idle_timeout")?,
            "fin_hard_timeout" => l.fin_hard_timeout = num16(value, "fin_hard_timeout")?,
            "cookie" => l.cookie = num64(value)?,
            "send_flow_rem" => l.send_flow_rem = true,
            "delete_learned" => l.delete_learned = true,
            "limit" => l.limit = num32(value)?,
            "result_dst" => {
                let dst = SubField::parse(value)?;
                let f = dst.field.field();
                if !f.writable {
                    return Err(format!("{value}: cannot write into {}", f.name));
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
    // "field=value" with a field's plain name matches the whole field.
    let named = Field::by_name(name).or_else(|| Field::by_oxm_name(name).map(|(f, _)| f));
    if let Some(f) = named.filter(|_| !value.is_empty()) {
        if SubField::parse(value).is_ok_and(|src| src.n_bits == f.n_bits) {
            let src = SubField::parse(value)?;
            return Ok(LearnSpec {
                n_bits: f.n_bits,
                src: LearnSrc::Field(src),
                dst: LearnDst::Match(SubField::whole(f.id)),
            });
        }
        let v = f.parse_value(value, names.ports)?;
        f.set_match_exact(&v, so_far);
        return Ok(LearnSpec {
            n_bits: f.n_bits,
            src: LearnSrc::Immediate(v),
            dst: LearnDst::Match(SubField::whole(f.id)),
        });
    }
    if let Some(dst) = name
        .contains('[')
        .then(|| SubField::parse(name))
        .or_else(|| named.map(|f| Ok(SubField::whole(f.id))))
    {
        let dst = dst?;
        if value.is_empty() {
            return Ok(LearnSpec {
                n_bits: dst.n_bits,
                src: LearnSrc::Field(dst),
                dst: LearnDst::Match(dst),
            });
        }
        if let Ok(src) = SubField::parse(value) {
            if src.n_bits != dst.n_bits {
                return Err(format!(
                    "{orig}: bit widths of {name} ({}) and {value} ({}) differ",
                    src.n_bits, dst.n_bits
                ));
            }
            return Ok(LearnSpec {
                n_bits: dst.n_bits,
                src: LearnSrc::Field(src),
                dst: LearnDst::Match(dst),
            });
        }
        let v = immediate(value, dst.n_bits)
            .ok_or_else(|| format!("{orig}: {value}: invalid immediate value"))?;
        return Ok(LearnSpec {
            n_bits: dst.n_bits,
            src: LearnSrc::Immediate(v),
            dst: LearnDst::Match(dst),
        });
    }
    match name {
        "load" => {
            let (src, dst) = value
                .split_once("->")
                .ok_or_else(|| format!("load: missing `->' in `{value}'"))?;
            let dst = SubField::parse(dst)?;
            let src = match SubField::parse(src) {
                Ok(sf) if sf.n_bits == dst.n_bits => LearnSrc::Field(sf),
                Ok(sf) => {
                    return Err(format!(
                        "{value}: source field is {} bits wide but destination is {} bits wide",
                        sf.n_bits, dst.n_bits
                    ));
                }
                Err(_) if immediate(src, 128).is_some() && immediate(src, dst.n_bits).is_none() => {
                    return Err(format!(
                        "{value}: value does not fit into {} bits",
                        dst.n_bits
                    ));
                }
                Err(e) => match immediate(src, dst.n_bits) {
                    Some(v) => LearnSrc::Immediate(v),
                    None => {
                        let f = dst.field.field();
                        match f.parse_value(src, names.ports) {
                            Ok(v) => LearnSrc::Immediate(v),
                            Err(_) => return Err(e),
                        }
                    }
                },
            };
            Ok(LearnSpec {
                n_bits: dst.n_bits,
                src,
                dst: LearnDst::Load(dst),
            })
        }
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

/// A number that fits `n_bits`.
fn immediate(s: &str, n_bits: u16) -> Option<FieldValue> {
    let n = match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        Some(h) => u128::from_str_radix(h, 16).ok()?,
        None => s.parse().ok()?,
    };
    (n_bits >= 128 || n >> n_bits == 0).then(|| n.into())
}

/// The identity of a field by name, for tests and tools.
pub fn field_by_name(name: &str) -> Option<FieldId> {
    Field::by_name(name).map(|f| f.id)
}
