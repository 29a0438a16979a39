//! Actions on what goes along with the packet: the tunnel that it shall leave by, its queue; and those that do
//! nothing to it.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrovs_packet::field::FieldId;

use super::Action;
use super::encode::{nx, std};
use super::row::{MAX, Row, nicira, of, word};
use super::verify::Company;
use crate::error::OfpErr;
use crate::text::action::dotted;
use crate::text::color::{Paint, Part};
use crate::text::cursor::{u32 as num32, u64 as num64};
use crate::text::format::hex;
use crate::text::parse_action::hex_bytes;
use crate::version::Version;
use crate::wire::Put;

fn parse_tunnel(v: &str, wide: bool) -> Result<Action, String> {
    Ok(Action::SetTunnel {
        id: num64(v)?,
        wide,
    })
}

pub(super) static SET_TUNNEL: Row = Row {
    name: "set_tunnel",
    words: &[
        word("set_tunnel", |_, v| parse_tunnel(v, false)),
        word("set_tunnel64", |_, v| parse_tunnel(v, true)),
    ],
    wires: &[
        nicira(2, 0..=5, "NXAST_SET_TUNNEL", 16..=16, |_, mut r| {
            r.skip(2)?;
            Ok(Action::SetTunnel {
                id: r.u32()?.into(),
                wide: false,
            })
        }),
        nicira(9, 0..=5, "NXAST_SET_TUNNEL64", 24..=24, |_, mut r| {
            r.skip(6)?;
            Ok(Action::SetTunnel {
                id: r.u64()?,
                wide: true,
            })
        }),
    ],
    encode: |a, e, out| {
        let &Action::SetTunnel { id, wide } = a else {
            return;
        };
        match u32::try_from(id) {
            _ if e.version >= Version::V12 => e.set_exact(FieldId::TunId, id, out),
            Ok(id) if !wide => nx(out, 2, |o| {
                o.put_u16(0);
                o.put_u32(id);
            }),
            _ => nx(out, 9, |o| {
                o.put_zeros(6);
                o.put_u64(id);
            }),
        }
    },
    format: |a, _, out| {
        let &Action::SetTunnel { id, wide } = a else {
            return;
        };
        let suffix = if wide || id > u32::MAX.into() {
            "64"
        } else {
            ""
        };
        let _ = write!(out, "set_tunnel{suffix}:{}", hex(id));
    },
    ..Row::ACTION
};

pub(super) static SET_QUEUE: Row = Row {
    name: "set_queue",
    words: &[word("set_queue", |_, v| Ok(Action::SetQueue(num32(v)?)))],
    wires: &[
        of(21, 1..=5, "OFPAT_SET_QUEUE", 8..=8, |_, mut r| {
            Ok(Action::SetQueue(r.u32()?))
        }),
        nicira(4, 0..=0, "OFPAT_SET_QUEUE", 16..=16, |_, mut r| {
            r.skip(2)?;
            Ok(Action::SetQueue(r.u32()?))
        }),
    ],
    encode: |a, e, out| {
        let &Action::SetQueue(queue) = a else { return };
        if e.version == Version::V10 {
            nx(out, 4, |o| {
                o.put_u16(0);
                o.put_u32(queue);
            });
        } else {
            std(out, 21, |o| o.put_u32(queue));
        }
    },
    format: |a, _, out| {
        if let Action::SetQueue(queue) = a {
            let _ = write!(out, "set_queue:{queue}");
        }
    },
    ..Row::ACTION
};

pub(super) static POP_QUEUE: Row = Row {
    name: "pop_queue",
    paint: Paint::alone(Part::Value),
    words: &[word("pop_queue", |_, _| Ok(Action::PopQueue))],
    wires: &[nicira(5, 0..=5, "NXAST_POP_QUEUE", 16..=16, |_, _| {
        Ok(Action::PopQueue)
    })],
    encode: |_, _, out| nx(out, 5, |_| {}),
    format: |_, _, out| out.push_str("pop_queue"),
    in_set: false,
    ..Row::ACTION
};

pub(super) static NOTE: Row = Row {
    name: "note",
    words: &[word("note", |_, v| {
        let data = hex_bytes(v).ok_or("bad hex digit in `note' argument")?;
        Ok(Action::Note(data))
    })],
    wires: &[nicira(8, 0..=5, "NXAST_NOTE", 16..=MAX, |_, r| {
        Ok(Action::Note(r.rest().to_vec()))
    })],
    encode: |a, _, out| {
        if let Action::Note(data) = a {
            nx(out, 8, |o| o.put(data));
        }
    },
    format: |a, _, out| {
        if let Action::Note(data) = a {
            out.push_str("note:");
            dotted(data, out);
        }
    },
    company: Company::All,
    in_set: false,
    ..Row::ACTION
};

/// Whether the actions that only serve tests are understood.
static DEBUG_ACTIONS: AtomicBool = AtomicBool::new(false);

/// Lets `debug_slow` and `debug_recirc` be used, as a daemon with dummy devices does.
pub fn enable_debug_actions() {
    DEBUG_ACTIONS.store(true, Ordering::Relaxed);
}

fn if_enabled(action: Action) -> Result<Action, OfpErr> {
    if DEBUG_ACTIONS.load(Ordering::Relaxed) {
        Ok(action)
    } else {
        Err(OfpErr::OFPBAC_BAD_VENDOR_TYPE)
    }
}

pub(super) static DEBUG_SLOW: Row = Row {
    name: "debug_slow",
    words: &[word("debug_slow", |_, _| Ok(Action::DebugSlow))],
    wires: &[nicira(254, 0..=5, "NXAST_DEBUG_SLOW", 16..=16, |_, _| {
        if_enabled(Action::DebugSlow)
    })],
    encode: |_, _, out| nx(out, 254, |_| {}),
    format: |_, _, out| out.push_str("debug_slow"),
    in_set: false,
    ..Row::ACTION
};

pub(super) static DEBUG_RECIRC: Row = Row {
    name: "debug_recirc",
    words: &[word("debug_recirc", |_, _| Ok(Action::DebugRecirc))],
    wires: &[nicira(255, 0..=5, "NXAST_DEBUG_RECIRC", 16..=16, |_, _| {
        if_enabled(Action::DebugRecirc)
    })],
    encode: |_, _, out| nx(out, 255, |_| {}),
    format: |_, _, out| out.push_str("debug_recirc"),
    in_set: false,
    ..Row::ACTION
};
