//! Actions that say where a packet goes and what becomes of it.

use std::fmt::Write;

use ferrovs_packet::text::{Cursor, hex, write_long_hex};

use super::{attribute, message_size, rows};
use crate::action::{Action, DropReason, HashAlg};
use crate::text::{PortNames, format_actions, format_port};

const U32: u64 = u32::MAX as u64;

rows! {
    "output" Inside Action::Output(port) => {
        size: attribute(4),
        write(out, names): format_port(out, *port, names),
        // Written without its name: the parser reads it where no name is known.
        read(_p, _inside): None,
    }
    "sample" Inside Action::Sample { probability, actions } => {
        size: attribute(attribute(4) + attribute(message_size(actions))),
        write(out, names): {
            let percent = 100.0 * f64::from(*probability) / f64::from(u32::MAX);
            _ = write!(out, "sample(sample={percent:.1}%,actions(");
            format_actions(out, actions, names);
            out.push_str("))");
        },
        read(p, _inside): {
            p.c.expect("sample=")?;
            let percent = p.c.take_while(|b| b.is_ascii_digit() || b == b'.');
            let percent: f64 = percent.parse().ok()?;
            if !(0.0..=100.0).contains(&percent) {
                return None;
            }
            p.c.expect("%,actions(")?;
            let actions = p.nested()?;
            p.c.expect(")")?;
            // Rounded down to a full probability at 100 percent.
            let probability = (f64::from(u32::MAX) * (percent / 100.0) + 0.5) as u32;
            Some(Action::Sample { probability, actions })
        },
    }
    "recirc" Inside Action::Recirc(id) => {
        size: attribute(4),
        write(out, names): {
            out.push_str("recirc(");
            hex(out, (*id).into());
            out.push(')');
        },
        read(p, _inside): Some(Action::Recirc(p.last_number(U32)? as u32)),
    }
    "hash" Inside Action::Hash { alg, basis } => {
        size: attribute(8),
        write(out, names): {
            let alg = match alg {
                HashAlg::L4 => "l4",
                HashAlg::SymL4 => "sym_l4",
            };
            _ = write!(out, "hash({alg}({basis}))");
        },
        read(p, _inside): {
            let alg = match p.c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_') {
                "l4" | "hash_l4" => HashAlg::L4,
                "sym_l4" | "hash_sym_l4" => HashAlg::SymL4,
                _ => return None,
            };
            p.c.expect("(")?;
            let basis = p.c.number(U32)? as u32;
            p.c.expect("))")?;
            Some(Action::Hash { alg, basis })
        },
    }
    "trunc" Inside Action::Trunc(len) => {
        size: attribute(4),
        write(out, names): _ = write!(out, "trunc({len})"),
        read(p, _inside): Some(Action::Trunc(p.last_number(U32)? as u32)),
    }
    "meter" Inside Action::Meter(id) => {
        size: attribute(4),
        write(out, names): _ = write!(out, "meter({id})"),
        read(p, _inside): Some(Action::Meter(p.last_number(U32)? as u32)),
    }
    "clone" Inside Action::Clone(actions) => {
        size: attribute(message_size(actions)),
        write(out, names): nested(out, "clone", actions, names),
        read(p, _inside): Some(Action::Clone(p.nested()?)),
    }
    "check_pkt_len" Inside Action::CheckPktLen { size, greater, less_equal } => {
        size: {
            let nested = |actions: &[Action]| attribute(message_size(actions));
            attribute(attribute(2) + nested(greater) + nested(less_equal))
        },
        write(out, names): {
            _ = write!(out, "check_pkt_len(size={size},");
            nested(out, "gt", greater, names);
            out.push(',');
            nested(out, "le", less_equal, names);
            out.push(')');
        },
        read(p, _inside): {
            p.c.expect("size=")?;
            let size = p.c.number(0xffff)? as u16;
            p.c.expect(",gt(")?;
            let greater = p.nested()?;
            p.c.expect(",le(")?;
            let less_equal = p.nested()?;
            p.c.expect(")")?;
            Some(Action::CheckPktLen { size, greater, less_equal })
        },
    }
    "dec_ttl" Inside Action::DecTtl { exceeded } => {
        size: attribute(attribute(message_size(exceeded))),
        write(out, names): {
            out.push_str("dec_ttl(");
            nested(out, "le_1", exceeded, names);
            out.push(')');
        },
        read(p, _inside): {
            p.c.expect("le_1(")?;
            let exceeded = p.nested()?;
            p.c.expect(")")?;
            Some(Action::DecTtl { exceeded })
        },
    }
    "drop" Bare Action::Drop(_) => {
        size: attribute(4),
        write(out, names): out.push_str("drop"),
        read(_p, _inside): Some(Action::Drop(DropReason::Ok)),
    }
    "psample" Inside Action::Psample { group, cookie } => {
        size: attribute(attribute(4) + attribute(cookie.len())),
        write(out, names): {
            _ = write!(out, "psample(group={group}");
            if !cookie.is_empty() {
                out.push_str(",cookie=");
                write_long_hex(out, cookie);
            }
            out.push(')');
        },
        read(p, _inside): {
            let (mut group, mut cookie) = (None, Vec::new());
            p.c.members(|name, c| {
                match name {
                    "group" => group = Some(c.number(U32)? as u32),
                    "cookie" => {
                        c.expect("0x")?;
                        let digits = c.take_while(|b| b.is_ascii_hexdigit());
                        // A digit that has no other goes.
                        let pairs = digits.get(..digits.len() & !1)?;
                        cookie = Cursor::new(pairs).hex_bytes().filter(|_| !digits.is_empty())?;
                    }
                    _ => return None,
                }
                Some(())
            })?;
            let group = group.filter(|_| cookie.len() <= 16)?;
            Some(Action::Psample { group, cookie })
        },
    }
    "lb_output" Inside Action::LbOutput(bond) => {
        size: attribute(4),
        write(out, names): _ = write!(out, "lb_output({bond})"),
        read(p, _inside): Some(Action::LbOutput(p.last_number(U32)? as u32)),
    }
}

fn nested(out: &mut String, name: &str, actions: &[Action], names: Option<&PortNames>) {
    out.push_str(name);
    out.push('(');
    format_actions(out, actions, names);
    out.push(')');
}
