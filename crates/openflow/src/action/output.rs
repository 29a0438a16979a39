//! Actions that send the packet: to a port, a port that a field names, a queue of a port, a group.

use std::fmt::Write;

use ferrovs_packet::field::{SubField, format_port, port_to_ofp11};
use ferrovs_packet::types::OfPort;

use super::check::check_out_port;
use super::decode::{check_bits, must, ofs_nbits, port11, zeros};
use super::encode::{nx, pack, std};
use super::row::{Row, Target, nicira, of, word};
use super::{Action, MAX_LEN_NO_BUFFER};
use crate::error::OfpErr;
use crate::text::color::{Colors, Paint};
use crate::text::cursor::{next_pair, u32 as num32};
use crate::text::parse_action::Parser;
use crate::version::Version;
use crate::wire::Put;

/// The least length that `output(max_len)` may cut to: an Ethernet header.
const MIN_TRUNC: u32 = 14;

pub(super) static OUTPUT: Row = Row {
    name: "output",
    paint: Paint {
        call: Colors::output,
        ..Paint::named(Colors::to)
    },
    // A port's number or name alone means the same; the parser of lists knows.
    words: &[
        word("output", parse_output),
        word("output_reg", parse_output),
    ],
    wires: &[
        of(0, 0..=0, "OFPAT_OUTPUT", 8..=8, |_, mut r| {
            let (port, max_len) = (OfPort(r.u16()?), r.u16()?);
            check_out_port(port, OfPort::MAX)?;
            Ok(Action::Output { port, max_len })
        }),
        of(0, 1..=5, "OFPAT_OUTPUT", 16..=16, |_, mut r| {
            let (port, max_len) = (port11(r.u32()?)?, r.u16()?);
            check_out_port(port, OfPort::MAX)?;
            Ok(Action::Output { port, max_len })
        }),
    ],
    encode: |a, e, out| {
        let Action::Output { port, max_len } = a else {
            return;
        };
        std(out, 0, |o| {
            if e.version == Version::V10 {
                o.put_u16(port.0);
                o.put_u16(*max_len);
            } else {
                o.put_u32(port_to_ofp11(port.0));
                o.put_u16(*max_len);
                o.put_zeros(6);
            }
        });
    },
    format: |a, names, out| {
        let Action::Output { port, max_len } = a else {
            return;
        };
        if port.0 < OfPort::MAX.0 {
            out.push_str("output:");
        }
        format_port(*port, names.ports, out);
        if *port == OfPort::CONTROLLER {
            let _ = write!(out, ":{max_len}");
        }
    },
    check: |a, c| match a {
        Action::Output { port, .. } => check_out_port(*port, c.limits.max_ports),
        _ => Ok(()),
    },
    reaches: |a, target| matches!((a, target), (Action::Output { port, .. }, Target::Port(p)) if *port == p),
    ..Row::ACTION
};

fn parse_output(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    if v.contains("port") && v.contains("max_len") {
        return parse_trunc(p, v);
    }
    if let Some(port) = p.port(v) {
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

pub(super) static OUTPUT_REG: Row = Row {
    name: "output_reg",
    wires: &[
        nicira(15, 0..=5, "NXAST_OUTPUT_REG", 24..=24, |d, mut r| {
            let (ofs, n_bits) = ofs_nbits(r.u16()?);
            let src = d.subfield(&mut r, ofs, n_bits)?;
            let max_len = r.u16()?;
            zeros(&mut r)?;
            check_bits(&src)?;
            Ok(Action::OutputReg { src, max_len })
        }),
        nicira(32, 0..=5, "NXAST_OUTPUT_REG2", 24..=24, |d, mut r| {
            let (ofs, n_bits) = ofs_nbits(r.u16()?);
            let max_len = r.u16()?;
            let src = d.subfield(&mut r, ofs, n_bits)?;
            zeros(&mut r)?;
            check_bits(&src)?;
            Ok(Action::OutputReg { src, max_len })
        }),
    ],
    encode: |a, e, out| {
        let Action::OutputReg { src, max_len } = a else {
            return;
        };
        let wide = src.field.field().oxm(0).is_some_and(|o| o.class == 0xffff);
        if wide || src.n_bits > 64 {
            nx(out, 32, |o| {
                o.put_u16(pack(src));
                o.put_u16(*max_len);
                e.nxm(src.field, o);
                while o.len() % 2 != 0 {
                    o.put_u8(0);
                }
            });
        } else {
            nx(out, 15, |o| {
                o.put_u16(pack(src));
                e.nxm(src.field, o);
                o.put_u16(*max_len);
                o.put_zeros(6);
            });
        }
    },
    format: |a, _, out| {
        if let Action::OutputReg { src, .. } = a {
            out.push_str("output:");
            src.format(out);
        }
    },
    check: |a, c| match a {
        Action::OutputReg { src, .. } => c.src(src),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static OUTPUT_TRUNC: Row = Row {
    name: "output_trunc",
    wires: &[nicira(
        39,
        0..=5,
        "NXAST_OUTPUT_TRUNC",
        16..=16,
        |_, mut r| {
            let (port, max_len) = (OfPort(r.u16()?), r.u32()?);
            is_single(port, OfPort::MAX)?;
            must(max_len >= MIN_TRUNC, OfpErr::OFPBAC_BAD_ARGUMENT)?;
            Ok(Action::OutputTrunc { port, max_len })
        },
    )],
    encode: |a, _, out| {
        let Action::OutputTrunc { port, max_len } = a else {
            return;
        };
        nx(out, 39, |o| {
            o.put_u16(port.0);
            o.put_u32(*max_len);
        });
    },
    format: |a, names, out| {
        let Action::OutputTrunc { port, max_len } = a else {
            return;
        };
        out.push_str("output(port=");
        format_port(*port, names.ports, out);
        let _ = write!(out, ",max_len={max_len})");
    },
    check: |a, c| match a {
        Action::OutputTrunc { port, .. } => check_out_port(*port, c.limits.max_ports),
        _ => Ok(()),
    },
    in_set: false,
    ..Row::ACTION
};

fn parse_trunc(p: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let (mut port, mut max_len) = (OfPort(0), 0);
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "port" => {
                port = p
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

/// One port that is there, not a set of them.
fn is_single(port: OfPort, max_ports: OfPort) -> Result<(), OfpErr> {
    let ok = port < max_ports || port == OfPort::IN_PORT || port == OfPort::LOCAL;
    must(ok, OfpErr::OFPBAC_BAD_OUT_PORT)
}

pub(super) static ENQUEUE: Row = Row {
    name: "enqueue",
    words: &[word("enqueue", |p, v| {
        let Some((port, queue)) = v.split_once([':', ',']) else {
            return Err(
                "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\""
                    .to_owned(),
            );
        };
        Ok(Action::Enqueue {
            port: p
                .port(port)
                .ok_or_else(|| format!("{port}: enqueue to unknown port"))?,
            queue: num32(queue)?,
        })
    })],
    wires: &[of(11, 0..=0, "OFPAT_ENQUEUE", 16..=16, |_, mut r| {
        let port = OfPort(r.u16()?);
        r.skip(6)?;
        is_single(port, OfPort::MAX)?;
        let queue = r.u32()?;
        Ok(Action::Enqueue { port, queue })
    })],
    encode: |a, e, out| {
        let &Action::Enqueue { port, queue } = a else {
            return;
        };
        if e.version == Version::V10 {
            std(out, 11, |o| {
                o.put_u16(port.0);
                o.put_zeros(6);
                o.put_u32(queue);
            });
        } else {
            let max_len = MAX_LEN_NO_BUFFER;
            e.action(&Action::SetQueue(queue), out);
            e.action(&Action::Output { port, max_len }, out);
            e.action(&Action::PopQueue, out);
        }
    },
    format: |a, names, out| {
        let Action::Enqueue { port, queue } = a else {
            return;
        };
        out.push_str("enqueue:");
        format_port(*port, names.ports, out);
        let _ = write!(out, ":{queue}");
    },
    check: |a, c| match a {
        Action::Enqueue { port, .. } => is_single(*port, c.limits.max_ports),
        _ => Ok(()),
    },
    reaches: |a, target| matches!((a, target), (Action::Enqueue { port, .. }, Target::Port(p)) if *port == p),
    in_set: false,
    ..Row::ACTION
};

pub(super) static GROUP: Row = Row {
    name: "group",
    paint: Paint::named(Colors::to),
    words: &[word("group", |_, v| Ok(Action::Group(num32(v)?)))],
    wires: &[
        of(22, 1..=5, "OFPAT_GROUP", 8..=8, |_, mut r| {
            Ok(Action::Group(r.u32()?))
        }),
        nicira(40, 0..=0, "OFPAT_GROUP", 16..=16, |_, mut r| {
            r.skip(2)?;
            Ok(Action::Group(r.u32()?))
        }),
    ],
    encode: |a, e, out| {
        let Action::Group(id) = a else { return };
        if e.version == Version::V10 {
            nx(out, 40, |o| {
                o.put_u16(0);
                o.put_u32(*id);
            });
        } else {
            std(out, 22, |o| o.put_u32(*id));
        }
    },
    format: |a, _, out| {
        if let Action::Group(id) = a {
            let _ = write!(out, "group:{id}");
        }
    },
    reaches: |a, target| matches!((a, target), (Action::Group(id), Target::Group(g)) if *id == g),
    ..Row::ACTION
};
