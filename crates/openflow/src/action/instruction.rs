//! The instructions, which are the last of the actions: what OpenFlow 1.1 and later carry beside the list of actions.

use std::fmt::Write;

use ferrovs_packet::types::OfPort;

use super::Action;
use super::check::check;
use super::decode::{list, must};
use super::encode::{self, nx, std};
use super::instructions::{Carried, Stage};
use super::row::{Row, nicira, of, word};
use super::tables::NXAST_RESUBMIT_TABLE;
use super::verify::{Place, not_in};
use crate::error::OfpErr;
use crate::meter::METER_MAX;
use crate::text::action::format_list;
use crate::text::color::{Colors, Paint, Part};
use crate::text::cursor::{u32 as num32, u64 as num64};
use crate::text::format::hex;
use crate::text::parse_action::{NXM_OF11_UP, OF13_UP};
use crate::text::{format_table, parse_table};
use crate::version::{Protocol, Version};
use crate::warn::{Topic, warn};
use crate::wire::Put;

/// From OpenFlow 1.5 on an action like others.
pub(super) static METER: Row = Row {
    name: "meter",
    words: &[word("meter", |_, v| Ok(Action::Meter(num32(v)?))).only(OF13_UP)],
    wires: &[of(29, 5..=5, "OFPAT_METER", 8..=8, |_, mut r| {
        Ok(Action::Meter(r.u32()?))
    })],
    encode: |a, e, out| match a {
        Action::Meter(id) if e.version >= Version::V15 => std(out, 29, |o| o.put_u32(*id)),
        _ => {}
    },
    format: |a, _, out| {
        if let Action::Meter(id) = a {
            let _ = write!(out, "meter:{id}");
        }
    },
    check: |a, _| match a {
        Action::Meter(id) => must((1..=METER_MAX).contains(id), OfpErr::OFPMMFC_INVALID_METER),
        _ => Ok(()),
    },
    place: |a, place| match place {
        Place::Ct => not_in("ct", a),
        Place::Clone => not_in("clone", a),
        Place::WriteActions => not_in("write_actions", a),
        Place::Flow | Place::Actions => Ok(()),
    },
    stage: Stage::Meter,
    carried: Some(Carried {
        len: Some(8),
        // Earlier versions have no meters, but nobody minds their being read.
        since: Version::V13,
        read: |_, mut r| Ok(Action::Meter(r.u32()?)),
        write: |a, _, o| {
            if let Action::Meter(id) = a {
                o.put_u32(*id);
            }
        },
    }),
    in_set: false,
    ..Row::ACTION
};

pub(super) static CLEAR_ACTIONS: Row = Row {
    name: "clear_actions",
    paint: Paint::alone(Part::Value),
    words: &[word("clear_actions", |_, _| Ok(Action::ClearActions))],
    format: |_, _, out| out.push_str("clear_actions"),
    stage: Stage::Clear,
    carried: Some(Carried {
        len: Some(8),
        since: Version::V11,
        read: |_, _| Ok(Action::ClearActions),
        write: |_, _, o| o.put_zeros(4),
    }),
    in_set: false,
    ..Row::ACTION
};

pub(super) static WRITE_ACTIONS: Row = Row {
    name: "write_actions",
    paint: Paint::call(Colors::list),
    words: &[word("write_actions", |p, v| {
        Ok(Action::WriteActions(p.nested(v, Place::WriteActions)?))
    })],
    format: |a, names, out| {
        if let Action::WriteActions(list) = a {
            out.push_str("write_actions(");
            format_list(list, names, out);
            out.push(')');
        }
    },
    // An action set is executed later, on a packet of which nothing is known now.
    check: |a, c| match a {
        Action::WriteActions(list) => check(list, &c.m, c.limits, &mut Protocol::all()),
        _ => Ok(()),
    },
    stage: Stage::Write,
    carried: Some(Carried {
        len: None,
        since: Version::V11,
        read: |d, mut r| {
            r.skip(4)?;
            let list = list(r.rest(), d.version, d.tun, 0)?;
            if !list.iter().all(|a| a.row().in_set) {
                warn(Topic::Actions, || {
                    "disallowed action in action set".to_owned()
                });
                return Err(OfpErr::OFPBAC_BAD_TYPE);
            }
            Ok(Action::WriteActions(list))
        },
        write: |a, e, o| match a {
            // An empty set needs no instruction.
            Action::WriteActions(list) if !list.is_empty() => {
                o.put_zeros(4);
                encode::actions(list, e.version, e.tun, o);
            }
            _ => {}
        },
    }),
    nested: |a| match a {
        Action::WriteActions(list) => list,
        _ => &[],
    },
    in_set: false,
    ..Row::ACTION
};

pub(super) static WRITE_METADATA: Row = Row {
    name: "write_metadata",
    words: &[word("write_metadata", |_, v| {
        let (value, mask) = v.split_once('/').map_or((v, None), |(a, b)| (a, Some(b)));
        let mask = mask.map_or(Ok(u64::MAX), num64)?;
        Ok(Action::WriteMetadata {
            metadata: num64(value)?,
            mask,
        })
    })
    .only(NXM_OF11_UP)],
    wires: &[nicira(
        22,
        0..=5,
        "NXAST_WRITE_METADATA",
        32..=32,
        |_, mut r| {
            must(r.zeros(6)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
            Ok(Action::WriteMetadata {
                metadata: r.u64()?,
                mask: r.u64()?,
            })
        },
    )],
    encode: |a, e, out| match a {
        Action::WriteMetadata { metadata, mask } if e.version == Version::V10 => {
            nx(out, 22, |o| {
                o.put_zeros(6);
                o.put_u64(*metadata);
                o.put_u64(*mask);
            });
        }
        _ => {}
    },
    format: |a, _, out| {
        let &Action::WriteMetadata { metadata, mask } = a else {
            return;
        };
        let _ = write!(out, "write_metadata:{}", hex(metadata));
        if mask != u64::MAX {
            let _ = write!(out, "/{}", hex(mask));
        }
    },
    stage: Stage::Metadata,
    carried: Some(Carried {
        len: Some(24),
        since: Version::V11,
        read: |_, mut r| {
            r.skip(4)?;
            Ok(Action::WriteMetadata {
                metadata: r.u64()?,
                mask: r.u64()?,
            })
        },
        write: |a, _, o| {
            if let Action::WriteMetadata { metadata, mask } = a {
                o.put_zeros(4);
                o.put_u64(*metadata);
                o.put_u64(*mask);
            }
        },
    }),
    in_set: false,
    ..Row::ACTION
};

pub(super) static GOTO_TABLE: Row = Row {
    name: "goto_table",
    words: &[word("goto_table", |p, v| {
        let table = parse_table(v, p.names).ok_or_else(|| format!("unknown table \"{v}\""))?;
        Ok(Action::GotoTable(table))
    })],
    // 1.0 comes nearest by looking the packet up there.
    encode: |a, e, out| match a {
        Action::GotoTable(table) if e.version == Version::V10 => {
            nx(out, NXAST_RESUBMIT_TABLE, |o| {
                o.put_u16(OfPort::IN_PORT.0);
                o.put_u8(*table);
            });
        }
        _ => {}
    },
    format: |a, names, out| {
        if let Action::GotoTable(table) = a {
            out.push_str("goto_table:");
            format_table(*table, names.tables, out);
        }
    },
    check: |a, c| {
        let Action::GotoTable(t) = a else {
            return Ok(());
        };
        let l = &c.limits;
        if l.table_id != 255 && *t <= l.table_id || l.n_tables != 255 && *t >= l.n_tables {
            return Err(OfpErr::OFPBIC_BAD_TABLE_ID);
        }
        Ok(())
    },
    stage: Stage::Goto,
    carried: Some(Carried {
        len: Some(8),
        since: Version::V11,
        read: |_, mut r| Ok(Action::GotoTable(r.u8()?)),
        write: |a, _, o| {
            if let Action::GotoTable(table) = a {
                o.put_u8(*table);
                o.put_zeros(3);
            }
        },
    }),
    in_set: false,
    ..Row::ACTION
};
