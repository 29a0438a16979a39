//! Instructions of OpenFlow 1.1 and later: how a flow's actions are carried there.
//!
//! Open vSwitch keeps one list; on the wire its `apply_actions` part and the instructions are apart and come in
//! a fixed order: meter, apply actions, clear actions, write actions, write metadata, goto table.

use super::verify::{Place, verify_decoded};
use super::{Action, decode, encode};
use crate::error::OfpErr;
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;

/// Reads instructions to the end of `data`.
pub fn decode(data: &[u8], version: Version, tun: &Tun<'_>) -> Result<Vec<Action>, OfpErr> {
    if version == Version::V10 {
        return decode::actions(data, version, tun);
    }
    if !data.len().is_multiple_of(8) {
        warn(Topic::Actions, || {
            let len = data.len();
            format!("OpenFlow message instructions length {len} is not a multiple of 8")
        });
        return Err(OfpErr::OFPBIC_BAD_LEN);
    }
    let mut found: [Option<Reader<'_>>; 7] = [None; 7];
    let mut r = Reader::with_error(data, OfpErr::OFPBIC_BAD_LEN);
    while !r.is_empty() {
        let mut h = r;
        let (type_, len) = (h.u16()?, usize::from(h.u16()?));
        if len < 8 || !len.is_multiple_of(8) || len > r.len() {
            warn(Topic::Actions, || {
                let offset = data.len() - r.len();
                format!("bad instruction format at offset {offset}")
            });
            return Err(OfpErr::OFPBIC_BAD_LEN);
        }
        let whole = r.take(len)?;
        let body = Reader::with_error(&whole[4..], OfpErr::OFPBIC_BAD_LEN);
        let fixed = match type_ {
            GOTO_TABLE | CLEAR_ACTIONS => Some(8),
            // Versions before 1.3 have no meters, but nobody minds their being read.
            METER if version <= Version::V14 => Some(8),
            WRITE_METADATA => Some(24),
            WRITE_ACTIONS | APPLY_ACTIONS => None,
            EXPERIMENTER => return Err(OfpErr::OFPBIC_BAD_EXPERIMENTER),
            _ => return Err(OfpErr::OFPBIC_UNKNOWN_INST),
        };
        if fixed.is_some_and(|n| n != len) {
            return Err(OfpErr::OFPBIC_BAD_LEN);
        }
        let slot = &mut found[usize::from(type_)];
        if slot.is_some() {
            return Err(OfpErr::OFPBIC_DUP_INST);
        }
        *slot = Some(body);
    }
    let mut out = Vec::new();
    if let Some(mut b) = found[usize::from(METER)] {
        out.push(Action::Meter(b.u32()?));
    }
    if let Some(mut b) = found[usize::from(APPLY_ACTIONS)] {
        b.skip(4)?;
        out.extend(decode::list(b.rest(), version, tun, 0)?);
    }
    if found[usize::from(CLEAR_ACTIONS)].is_some() {
        out.push(Action::ClearActions);
    }
    if let Some(mut b) = found[usize::from(WRITE_ACTIONS)] {
        b.skip(4)?;
        let list = decode::list(b.rest(), version, tun, 0)?;
        if !list.iter().all(allowed_in_set) {
            warn(Topic::Actions, || {
                "disallowed action in action set".to_owned()
            });
            return Err(OfpErr::OFPBAC_BAD_TYPE);
        }
        out.push(Action::WriteActions(list));
    }
    if let Some(mut b) = found[usize::from(WRITE_METADATA)] {
        b.skip(4)?;
        out.push(Action::WriteMetadata {
            metadata: b.u64()?,
            mask: b.u64()?,
        });
    }
    if let Some(mut b) = found[usize::from(GOTO_TABLE)] {
        out.push(Action::GotoTable(b.u8()?));
    }
    verify_decoded(&out, Place::Flow, version)?;
    Ok(out)
}

/// Whether an action set can hold the action: what changes the packet or sends it.
fn allowed_in_set(a: &Action) -> bool {
    !matches!(
        a,
        Action::Bundle(_)
            | Action::CheckPktLarger { .. }
            | Action::ClearActions
            | Action::Conjunction { .. }
            | Action::Controller(_)
            | Action::Clone(_)
            | Action::DebugRecirc
            | Action::DebugSlow
            | Action::DeleteField(_)
            | Action::Enqueue { .. }
            | Action::Exit
            | Action::FinTimeout { .. }
            | Action::GotoTable(_)
            | Action::Learn(_)
            | Action::Meter(_)
            | Action::Multipath(_)
            | Action::Note(_)
            | Action::OutputReg { .. }
            | Action::OutputTrunc { .. }
            | Action::PopQueue
            | Action::Sample(_)
            | Action::StackPop(_)
            | Action::StackPush(_)
            | Action::UnrollXlate { .. }
            | Action::WriteActions(_)
            | Action::WriteMetadata { .. }
    )
}

fn instruction(out: &mut Vec<u8>, type_: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(type_);
    out.put_u16(0);
    body(out);
    let len = out.len() - start;
    out.set_u16(start + 2, len as u16);
}

/// Appends a flow's actions: instructions, or in 1.0 a plain list.
pub fn encode(actions: &[Action], version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    if version == Version::V10 {
        return encode::actions(actions, version, tun, out);
    }
    let is_apply = |a: &Action| {
        !a.is_instruction() || matches!(a, Action::Meter(_)) && version >= Version::V15
    };
    let mut i = 0;
    while i < actions.len() {
        match &actions[i] {
            a if is_apply(a) => {
                let n = actions[i..].iter().take_while(|a| is_apply(a)).count();
                instruction(out, APPLY_ACTIONS, |o| {
                    o.put_zeros(4);
                    encode::actions(&actions[i..i + n], version, tun, o);
                });
                i += n;
                continue;
            }
            // Versions before 1.3 have no meters.
            Action::Meter(id) if version >= Version::V13 => {
                instruction(out, METER, |o| o.put_u32(*id));
            }
            Action::ClearActions => instruction(out, CLEAR_ACTIONS, |o| o.put_zeros(4)),
            Action::WriteActions(list) if !list.is_empty() => {
                instruction(out, WRITE_ACTIONS, |o| {
                    o.put_zeros(4);
                    encode::actions(list, version, tun, o);
                })
            }
            Action::WriteMetadata { metadata, mask } => instruction(out, WRITE_METADATA, |o| {
                o.put_zeros(4);
                o.put_u64(*metadata);
                o.put_u64(*mask);
            }),
            Action::GotoTable(t) => instruction(out, GOTO_TABLE, |o| {
                o.put_u8(*t);
                o.put_zeros(3);
            }),
            _ => {}
        }
        i += 1;
    }
}
