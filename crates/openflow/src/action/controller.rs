//! Actions about controllers: sending them the packet, with a continuation if it shall be resumed.

use std::fmt::Write;

use ferrovs_packet::types::OfPort;

use super::decode::{must, props};
use super::encode::{nx, prop};
use super::row::{MAX, Row, Target, nicira, word};
use super::{Action, MAX_LEN_NO_BUFFER};
use crate::error::OfpErr;
use crate::packet_in::PacketInReason;
use crate::text::action::{chomp, dotted};
use crate::text::color::{self, Colors, Paint, Part};
use crate::text::cursor::{next_pair, u16 as num16, u32 as num32};
use crate::text::format_table;
use crate::text::parse_action::hex_bytes;
use crate::wire::{Put, Reader};

/// Sends the packet to controllers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    pub max_len: u16,
    pub controller_id: u16,
    pub reason: PacketInReason,
    /// Holds the packet's pipeline until the controller resumes it.
    pub pause: bool,
    pub userdata: Vec<u8>,
    /// `None`: the meter `controller`, or the one of a preceding meter action.
    pub meter_id: Option<u32>,
    pub provider_meter_id: Option<u32>,
    /// Whether it came as NXAST_CONTROLLER2 (always sent so if userdata, pause or meter need it).
    pub controller2: bool,
}

impl Controller {
    /// The whole packet to the controllers without a number.
    fn plain() -> Controller {
        Controller {
            max_len: MAX_LEN_NO_BUFFER,
            controller_id: 0,
            reason: PacketInReason::Action,
            pause: false,
            userdata: Vec::new(),
            meter_id: None,
            provider_meter_id: None,
            controller2: false,
        }
    }
}

pub(super) static CONTROLLER: Row = Row {
    name: "controller",
    paint: Paint::call(Colors::arguments),
    words: &[word("controller", |_, v| parse(v))],
    wires: &[
        nicira(20, 0..=5, "NXAST_CONTROLLER", 16..=16, |_, mut r| {
            let (max_len, controller_id, reason) = (r.u16()?, r.u16()?, r.u8()?);
            must(r.u8()? == 0, OfpErr::NXBRC_MUST_BE_ZERO)?;
            Ok(Action::Controller(Box::new(Controller {
                max_len,
                controller_id,
                reason: reason_from(reason)?,
                ..Controller::plain()
            })))
        }),
        nicira(37, 0..=5, "NXAST_CONTROLLER2", 16..=MAX, |_, r| read2(r)),
    ],
    encode: |a, _, out| {
        let Action::Controller(c) = a else { return };
        if c.controller2 || !c.userdata.is_empty() || c.pause || c.meter_id.is_some() {
            encode2(c, out);
        } else {
            nx(out, 20, |o| {
                o.put_u16(c.max_len);
                o.put_u16(c.controller_id);
                o.put_u8(c.reason as u8);
                o.put_u8(0);
            });
        }
    },
    format: |a, _, out| {
        if let Action::Controller(c) = a {
            format(c, out);
        }
    },
    reaches: |_, target| target == Target::Port(OfPort::CONTROLLER),
    in_set: false,
    ..Row::ACTION
};

fn reason_from(n: u8) -> Result<PacketInReason, OfpErr> {
    PacketInReason::from_wire(n).ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)
}

fn read2(mut r: Reader<'_>) -> Result<Action, OfpErr> {
    must(r.zeros(6)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
    let mut c = Controller {
        controller2: true,
        ..Controller::plain()
    };
    for prop in props(r) {
        let (type_, mut p) = prop?;
        match type_ {
            0 => c.max_len = p.u16()?,
            1 => c.controller_id = p.u16()?,
            2 => c.reason = reason_from(p.u8()?)?,
            3 => c.userdata = p.rest().to_vec(),
            4 => c.pause = true,
            5 => c.meter_id = Some(p.u32()?),
            _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
        }
    }
    Ok(Action::Controller(Box::new(c)))
}

fn encode2(c: &Controller, out: &mut Vec<u8>) {
    nx(out, 37, |o| {
        o.put_zeros(6);
        if c.max_len != MAX_LEN_NO_BUFFER {
            prop(o, 0, |o| o.put_u16(c.max_len));
        }
        if c.controller_id != 0 {
            prop(o, 1, |o| o.put_u16(c.controller_id));
        }
        if c.reason != PacketInReason::Action {
            prop(o, 2, |o| o.put_u8(c.reason as u8));
        }
        if !c.userdata.is_empty() {
            prop(o, 3, |o| o.put(&c.userdata));
        }
        if c.pause {
            prop(o, 4, |_| {});
        }
        if let Some(id) = c.meter_id {
            prop(o, 5, |o| o.put_u32(id));
        }
    });
}

fn parse(v: &str) -> Result<Action, String> {
    let output = |max_len| Action::Output {
        port: OfPort::CONTROLLER,
        max_len,
    };
    if v.is_empty() {
        return Ok(output(u16::MAX));
    }
    if v.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(output(num16(v, "max_len")?));
    }
    let mut c = Controller::plain();
    // Even userdata of no bytes needs an action of its own.
    let mut userdata = false;
    let mut list = v;
    while let Some((k, val)) = next_pair(&mut list) {
        match k {
            "reason" => {
                c.reason = PacketInReason::ALL[..6]
                    .iter()
                    .find(|r| r.1 == val)
                    .ok_or_else(|| format!("unknown reason \"{val}\""))?
                    .0;
            }
            "max_len" => c.max_len = num16(val, "max_len")?,
            "id" => c.controller_id = num16(val, "id")?,
            "userdata" => {
                userdata = true;
                c.userdata =
                    hex_bytes(val).ok_or("bad hex digit in `controller' action `userdata'")?;
            }
            "pause" => c.pause = true,
            "meter_id" => c.meter_id = Some(num32(val)?).filter(|&id| id != 0),
            _ => return Err(format!("unknown key \"{k}\" parsing controller action")),
        }
    }
    if c.reason == PacketInReason::Action
        && c.controller_id == 0
        && !userdata
        && !c.pause
        && c.meter_id.is_none()
    {
        return Ok(output(c.max_len));
    }
    Ok(Action::Controller(Box::new(c)))
}

fn format(c: &Controller, out: &mut String) {
    let plain = c.reason == PacketInReason::Action
        && c.controller_id == 0
        && !c.pause
        && c.userdata.is_empty()
        && c.meter_id.is_none();
    if plain {
        // Unlike the port of this name.
        color::head(Part::Special, "CONTROLLER:", out);
        let _ = write!(out, "{}", c.max_len);
        return;
    }
    out.push_str("controller(");
    if c.reason != PacketInReason::Action {
        let _ = write!(out, "reason={},", c.reason.name());
    }
    if c.max_len != MAX_LEN_NO_BUFFER {
        let _ = write!(out, "max_len={},", c.max_len);
    }
    if c.controller_id != 0 {
        let _ = write!(out, "id={},", c.controller_id);
    }
    if !c.userdata.is_empty() {
        out.push_str("userdata=");
        dotted(&c.userdata, out);
        out.push(',');
    }
    if c.pause {
        out.push_str("pause,");
    }
    if let Some(id) = c.meter_id {
        let _ = write!(out, "meter_id={id},");
    }
    chomp(out);
    out.push(')');
}

/// Only in frozen state, so that it has no form in messages.
pub(super) static UNROLL_XLATE: Row = Row {
    name: "unroll_xlate",
    words: &[word("unroll_xlate", |_, _| {
        Err("UNROLL is an internal action that shouldn't be used via OpenFlow".to_owned())
    })],
    format: |a, names, out| {
        let Action::UnrollXlate {
            table_id,
            rule_cookie,
        } = a
        else {
            return;
        };
        out.push_str("unroll_xlate(");
        if *table_id != 0xff {
            out.push_str("table=");
            format_table(*table_id, names.tables, out);
            let _ = write!(out, ", cookie={rule_cookie})");
        } else {
            out.push(')');
        }
    },
    in_set: false,
    ..Row::ACTION
};
