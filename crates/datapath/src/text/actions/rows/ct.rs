//! Connection tracking.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrovs_packet::text::Cursor;

use super::{attribute, rows};
use crate::action::{Action, Ct, Masked, Nat, NatKind};
use crate::text::{ActionParser, members};

rows! {
    "ct" Either Action::Ct(ct) => {
        size: attribute(attribute(2) + attribute(8)),
        write(out, names): write_ct(out, ct),
        read(p, inside): Some(Action::Ct(Box::new(read_ct(p, inside)?))),
    }
    "ct_clear" Bare Action::CtClear => {
        size: attribute(0),
        write(out, names): out.push_str("ct_clear"),
        read(_p, _inside): Some(Action::CtClear),
    }
}

fn write_ct(out: &mut String, ct: &Ct) {
    out.push_str("ct");
    let start = out.len();
    let sep = |out: &mut String| out.push(if out.len() == start { '(' } else { ',' });
    if ct.force {
        sep(out);
        out.push_str("force_commit");
    } else if ct.commit {
        sep(out);
        out.push_str("commit");
    }
    if ct.zone != 0 {
        sep(out);
        _ = write!(out, "zone={}", ct.zone);
    }
    if let Some(mark) = ct.mark {
        sep(out);
        _ = write!(out, "mark={:#x}/{:#x}", mark.value, mark.mask);
    }
    if let Some(label) = ct.labels {
        sep(out);
        out.push_str("label=");
        members::write_masked128(
            out,
            u128::from_be_bytes(label.value),
            u128::from_be_bytes(label.mask),
        );
    }
    if let Some(helper) = &ct.helper {
        sep(out);
        _ = write!(out, "helper={helper}");
    }
    if let Some(timeout) = &ct.timeout {
        sep(out);
        _ = write!(out, "timeout={timeout}");
    }
    if let Some(nat) = &ct.nat {
        sep(out);
        write_nat(out, nat);
    }
    if out.len() != start {
        out.push(')');
    }
}

fn read_ct(p: &mut ActionParser<'_, '_>, inside: bool) -> Option<Ct> {
    let mut ct = Ct::default();
    if !inside {
        return Some(ct);
    }
    let word = |c: &mut Cursor<'_>| {
        let word = c.take_while(|b| !matches!(b, b',' | b')' | b' '));
        (!word.is_empty() && word.len() < 32).then(|| word.to_owned())
    };
    p.c.members(|name, c| {
        match name {
            "commit" => ct.commit = true,
            "force_commit" => (ct.commit, ct.force) = (true, true),
            "zone" => ct.zone = c.number(0xffff)? as u16,
            "mark" => {
                let (v, m) = c.masked(u32::MAX.into())?;
                ct.mark = Some(Masked {
                    value: v as u32,
                    mask: m as u32,
                });
            }
            "label" => {
                let (v, m) = c.masked128()?;
                ct.labels = Some(Masked {
                    value: v.to_be_bytes(),
                    mask: m.to_be_bytes(),
                });
            }
            "helper" => ct.helper = Some(word(c)?),
            "timeout" => ct.timeout = Some(word(c)?),
            "nat" => ct.nat = Some(read_nat(c)?),
            _ => return None,
        }
        Some(())
    })?;
    Some(ct)
}

fn write_nat(out: &mut String, nat: &Nat) {
    out.push_str("nat");
    let kind = match nat.kind {
        NatKind::Existing => return,
        NatKind::Src => "src",
        NatKind::Dst => "dst",
    };
    _ = write!(out, "({kind}");
    let zero = [0; 16];
    let ip = |out: &mut String, ip: [u8; 16], brackets: bool| {
        if nat.ipv6 {
            let ip = Ipv6Addr::from(ip);
            _ = if brackets {
                write!(out, "[{ip}]")
            } else {
                write!(out, "{ip}")
            };
        } else {
            _ = write!(out, "{}", Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]));
        }
    };
    if nat.ip_min != zero || nat.ip_max != zero || nat.port_min != 0 {
        out.push('=');
        let brackets = nat.port_min != 0;
        if nat.ip_min != zero || nat.ip_max != zero {
            ip(out, nat.ip_min, brackets);
            if nat.ip_max != zero && nat.ip_max != nat.ip_min {
                out.push('-');
                ip(out, nat.ip_max, brackets);
            }
        }
        if nat.port_min != 0 {
            _ = write!(out, ":{}", nat.port_min);
            if nat.port_max != 0 && nat.port_max != nat.port_min {
                _ = write!(out, "-{}", nat.port_max);
            }
        }
    }
    for (on, name) in [
        (nat.persistent, ",persistent"),
        (nat.hash, ",hash"),
        (nat.random, ",random"),
    ] {
        if on {
            out.push_str(name);
        }
    }
    out.push(')');
}

fn read_nat(c: &mut Cursor<'_>) -> Option<Nat> {
    let mut nat = Nat::default();
    if !c.eat("(") {
        return Some(nat);
    }
    c.members(|name, c| {
        match name {
            "src" | "dst" => {
                nat.kind = if name == "src" {
                    NatKind::Src
                } else {
                    NatKind::Dst
                };
                read_range(c, &mut nat)?;
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            _ => return None,
        }
        Some(())
    })?;
    Some(nat)
}

fn read_range(c: &mut Cursor<'_>, nat: &mut Nat) -> Option<()> {
    let v4 = |ip: u32| {
        let mut out = [0; 16];
        out[12..].copy_from_slice(&ip.to_be_bytes());
        out
    };
    match c.peek()? {
        b',' | b')' => return Some(()),
        b':' => {}
        _ => {
            if let Some(min) = c.ipv4() {
                nat.ip_min = v4(min);
                if c.eat("-") {
                    nat.ip_max = v4(c.ipv4()?);
                }
            } else {
                nat.ipv6 = true;
                let brackets = c.eat("[");
                nat.ip_min = c.ipv6()?;
                if brackets {
                    c.expect("]")?;
                }
                if c.eat("-") {
                    let brackets = c.eat("[");
                    nat.ip_max = c.ipv6()?;
                    if brackets {
                        c.expect("]")?;
                    }
                }
            }
        }
    }
    if c.eat(":") {
        nat.port_min = c.number(0xffff)? as u16;
        if c.eat("-") {
            nat.port_max = c.number(0xffff)? as u16;
        }
    }
    Some(())
}
