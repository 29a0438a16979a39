//! Actions on the way through the flow tables: looking the packet up again, leaving, timeouts, conjunctive matches.

use std::fmt::Write;

use ferrovs_packet::field::{Prereq, format_port};
use ferrovs_packet::types::{OfPort, ip_proto};

use super::decode::{must, zeros};
use super::encode::{self, nx};
use super::row::{MAX, Row, nicira, word};
use super::verify::{Company, Place};
use super::{Action, TABLE_ALL};
use crate::error::OfpErr;
use crate::text::action::{chomp, format_list};
use crate::text::color::{Colors, Paint, Part};
use crate::text::cursor::{next_pair, parse_u64, u16 as num16};
use crate::text::parse_action::Parser;
use crate::text::{Names, format_table, parse_table};
use crate::wire::{Put, Reader};

/// Looks the packet up again; `in_port` [`OfPort::IN_PORT`] and `table` [`TABLE_ALL`] mean "as it is".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resubmit {
    pub in_port: OfPort,
    pub table: u8,
    /// With the addresses and ports of the connection's original direction.
    pub with_ct_orig: bool,
    /// Whether it has the old form `resubmit:PORT`.
    pub port_only: bool,
}

const NXAST_RESUBMIT: u16 = 1;
pub(super) const NXAST_RESUBMIT_TABLE: u16 = 14;
const NXAST_RESUBMIT_TABLE_CT: u16 = 44;

/// Reads a resubmission with a table.
fn read_with_table(mut r: Reader<'_>, with_ct_orig: bool) -> Result<Action, OfpErr> {
    let a = Resubmit {
        in_port: OfPort(r.u16()?),
        table: r.u8()?,
        with_ct_orig,
        port_only: false,
    };
    zeros(&mut r)?;
    Ok(Action::Resubmit(a))
}

pub(super) static RESUBMIT: Row = Row {
    name: "resubmit",
    paint: Paint::named(Colors::to),
    words: &[word("resubmit", parse_resubmit)],
    wires: &[
        nicira(
            NXAST_RESUBMIT,
            0..=5,
            "NXAST_RESUBMIT",
            16..=16,
            |_, mut r| {
                Ok(Action::Resubmit(Resubmit {
                    in_port: OfPort(r.u16()?),
                    table: TABLE_ALL,
                    with_ct_orig: false,
                    port_only: true,
                }))
            },
        ),
        nicira(
            NXAST_RESUBMIT_TABLE,
            0..=5,
            "NXAST_RESUBMIT_TABLE",
            16..=16,
            |_, r| read_with_table(r, false),
        ),
        nicira(
            NXAST_RESUBMIT_TABLE_CT,
            0..=5,
            "NXAST_RESUBMIT_TABLE_CT",
            16..=16,
            |_, r| read_with_table(r, true),
        ),
    ],
    encode: |a, _, out| {
        let Action::Resubmit(r) = a else { return };
        if r.port_only && !r.with_ct_orig && r.table == TABLE_ALL {
            return nx(out, NXAST_RESUBMIT, |o| o.put_u16(r.in_port.0));
        }
        let subtype = if r.with_ct_orig {
            NXAST_RESUBMIT_TABLE_CT
        } else {
            NXAST_RESUBMIT_TABLE
        };
        nx(out, subtype, |o| {
            o.put_u16(r.in_port.0);
            o.put_u8(r.table);
        });
    },
    format: |a, names, out| {
        if let Action::Resubmit(r) = a {
            format_resubmit(r, names, out);
        }
    },
    // The original tuple can only be used where it exists.
    check: |a, c| match a {
        Action::Resubmit(r) if r.with_ct_orig && !Prereq::Ct.match_ok(&c.m) => {
            Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
        }
        _ => Ok(()),
    },
    ..Row::ACTION
};

fn format_resubmit(r: &Resubmit, names: &Names<'_>, out: &mut String) {
    if r.in_port != OfPort::IN_PORT && r.table == TABLE_ALL {
        out.push_str("resubmit:");
        return format_port(r.in_port, names.ports, out);
    }
    out.push_str("resubmit(");
    if r.in_port != OfPort::IN_PORT {
        format_port(r.in_port, names.ports, out);
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

fn parse_resubmit(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let mut r = Resubmit {
        in_port: OfPort::IN_PORT,
        table: TABLE_ALL,
        with_ct_orig: false,
        port_only: false,
    };
    let mut parts = v.split(',');
    if let Some(port) = parts.next().filter(|port| !port.is_empty()) {
        r.in_port = p
            .port(port)
            .ok_or_else(|| format!("{port}: resubmit to unknown port"))?;
    }
    let mut table_given = false;
    if let Some(t) = parts.next()
        && !t.is_empty()
    {
        r.table =
            parse_table(t, p.names).ok_or_else(|| format!("{t}: resubmit to unknown table"))?;
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

pub(super) static CONJUNCTION: Row = Row {
    name: "conjunction",
    words: &[word("conjunction", |_, v| parse_conjunction(v))],
    wires: &[nicira(
        34,
        0..=5,
        "NXAST_CONJUNCTION",
        16..=16,
        |_, mut r| {
            let (clause, n_clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
            must(
                (2..=64).contains(&n_clauses) && clause < n_clauses,
                OfpErr::NXBAC_BAD_CONJUNCTION,
            )?;
            Ok(Action::Conjunction {
                id,
                clause,
                n_clauses,
            })
        },
    )],
    encode: |a, _, out| {
        let Action::Conjunction {
            id,
            clause,
            n_clauses,
        } = a
        else {
            return;
        };
        nx(out, 34, |o| {
            o.put_u8(*clause);
            o.put_u8(*n_clauses);
            o.put_u32(*id);
        });
    },
    format: |a, _, out| {
        if let Action::Conjunction {
            id,
            clause,
            n_clauses,
        } = a
        {
            let _ = write!(out, "conjunction({id},{}/{n_clauses})", clause + 1);
        }
    },
    company: Company::Conjunctions,
    in_set: false,
    ..Row::ACTION
};

fn parse_conjunction(v: &str) -> Result<Action, String> {
    let syntax = || "\"conjunction\" syntax is \"conjunction(id,i/n)\"".to_owned();
    let number = |s: &str| {
        let n = parse_u64(s.trim()).and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(syntax)
    };
    let (id, rest) = v.split_once(',').ok_or_else(syntax)?;
    let (clause, n) = rest.split_once('/').ok_or_else(syntax)?;
    let (id, clause, n) = (number(id)?, number(clause)?, number(n)?);
    if n < 2 {
        return Err("conjunction must have at least 2 clauses".to_owned());
    }
    if n > 64 {
        return Err("conjunction must have at most 64 clauses".to_owned());
    }
    if clause < 1 {
        return Err("clause index must be positive".to_owned());
    }
    if clause > n {
        return Err("clause index must be less than or equal to number of clauses".to_owned());
    }
    Ok(Action::Conjunction {
        id,
        clause: clause as u8 - 1,
        n_clauses: n as u8,
    })
}

pub(super) static FIN_TIMEOUT: Row = Row {
    name: "fin_timeout",
    paint: Paint::call(Colors::arguments),
    words: &[word("fin_timeout", |_, v| {
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
    })],
    wires: &[nicira(
        19,
        0..=5,
        "NXAST_FIN_TIMEOUT",
        16..=16,
        |_, mut r| {
            Ok(Action::FinTimeout {
                idle: r.u16()?,
                hard: r.u16()?,
            })
        },
    )],
    encode: |a, _, out| {
        let Action::FinTimeout { idle, hard } = a else {
            return;
        };
        nx(out, 19, |o| {
            o.put_u16(*idle);
            o.put_u16(*hard);
        });
    },
    format: |a, _, out| {
        let Action::FinTimeout { idle, hard } = a else {
            return;
        };
        out.push_str("fin_timeout(");
        if *idle != 0 {
            let _ = write!(out, "idle_timeout={idle},");
        }
        if *hard != 0 {
            let _ = write!(out, "hard_timeout={hard},");
        }
        chomp(out);
        out.push(')');
    },
    check: |_, c| {
        c.legacy(c.m.flow.nw_proto == ip_proto::TCP);
        Ok(())
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static EXIT: Row = Row {
    name: "exit",
    paint: Paint::alone(Part::Special),
    words: &[word("exit", |_, _| Ok(Action::Exit))],
    wires: &[nicira(17, 0..=5, "NXAST_EXIT", 16..=16, |_, _| {
        Ok(Action::Exit)
    })],
    encode: |_, _, out| nx(out, 17, |_| {}),
    format: |_, _, out| out.push_str("exit"),
    in_set: false,
    ..Row::ACTION
};

pub(super) static CLONE: Row = Row {
    name: "clone",
    paint: Paint::call(Colors::list),
    words: &[word("clone", |p, v| {
        Ok(Action::Clone(p.nested(v, Place::Clone)?))
    })],
    wires: &[nicira(42, 0..=5, "NXAST_CLONE", 16..=MAX, |d, mut r| {
        r.skip(6)?;
        Ok(Action::Clone(d.nested(r.rest(), Place::Clone)?))
    })],
    encode: |a, e, out| {
        let Action::Clone(list) = a else { return };
        nx(out, 42, |o| {
            o.put_zeros(6);
            encode::actions(list, e.version, e.tun, o);
        });
    },
    format: |a, names, out| {
        if let Action::Clone(list) = a {
            out.push_str("clone(");
            format_list(list, names, out);
            out.push(')');
        }
    },
    check: |a, c| match a {
        Action::Clone(list) => c.nested(list),
        _ => Ok(()),
    },
    nested: |a| match a {
        Action::Clone(list) => list,
        _ => &[],
    },
    in_set: false,
    ..Row::ACTION
};
