//! Instructions of OpenFlow 1.1 and later: how a flow's actions are carried there.
//!
//! Open vSwitch keeps one list; on the wire its `apply_actions` part and the instructions are apart and come in
//! a fixed order: meter, apply actions, clear actions, write actions, write metadata, goto table.

use super::decode::Decoder;
use super::encode::Encoder;
use super::instruction::{CLEAR_ACTIONS, GOTO_TABLE, METER, WRITE_ACTIONS, WRITE_METADATA};
use super::row::Row;
use super::verify::{Place, verify_decoded};
use super::{Action, decode, encode};
use crate::error::OfpErr;
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

/// The instructions in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Meter,
    /// All actions that are no instruction.
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

const EXPERIMENTER: u16 = 0xffff;

const N_STAGES: usize = 6;

/// Each stage with its number and name, and the row of what is carried there if that is no list of actions.
static STAGES: [(Stage, u16, &str, Option<&Row>); N_STAGES] = [
    (Stage::Meter, 6, "meter", Some(&METER)),
    (Stage::Apply, 4, "apply_actions", None),
    (Stage::Clear, 5, "clear_actions", Some(&CLEAR_ACTIONS)),
    (Stage::Write, 3, "write_actions", Some(&WRITE_ACTIONS)),
    (Stage::Metadata, 2, "write_metadata", Some(&WRITE_METADATA)),
    (Stage::Goto, 1, "goto_table", Some(&GOTO_TABLE)),
];

impl Stage {
    pub fn name(self) -> &'static str {
        STAGES[self as usize].2
    }

    fn number(self) -> u16 {
        STAGES[self as usize].1
    }

    /// The stage of an action in `version`.
    pub fn of(a: &Action, version: Version) -> Stage {
        match a.row().stage {
            // From OpenFlow 1.5 on it is an action.
            Stage::Meter if version >= Version::V15 => Stage::Apply,
            stage => stage,
        }
    }

    /// How the instruction is carried, but for the one that is a list of actions.
    fn carried(self) -> Option<&'static Carried> {
        STAGES[self as usize].3?.carried.as_ref()
    }
}

/// How an instruction is carried.
pub(crate) struct Carried {
    /// How long it is, header and all, if that is always the same.
    pub len: Option<usize>,
    /// The first version in which it is sent.
    pub since: Version,
    /// Reads what stands behind the header.
    pub read: fn(&Decoder<'_, '_>, Reader<'_>) -> Result<Action, OfpErr>,
    /// Writes what stands behind the header; nothing if it is not to be sent.
    pub write: fn(&Action, &Encoder<'_, '_>, &mut Vec<u8>),
}

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
    let found = split(data, version)?;
    let d = Decoder {
        version,
        tun,
        depth: 0,
    };
    let mut out = Vec::new();
    for (stage, body) in STAGES.iter().map(|s| s.0).zip(found) {
        let Some(mut body) = body else { continue };
        match stage.carried() {
            Some(carried) => out.push((carried.read)(&d, body)?),
            None => {
                body.skip(4)?;
                decode::append(body.rest(), version, tun, 0, &mut out)?;
            }
        }
    }
    verify_decoded(&out, Place::Flow, version)?;
    Ok(out)
}

/// What stands behind the headers of the instructions, by stage.
fn split(data: &[u8], version: Version) -> Result<[Option<Reader<'_>>; N_STAGES], OfpErr> {
    let mut found = [None; N_STAGES];
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
        if type_ == EXPERIMENTER {
            return Err(OfpErr::OFPBIC_BAD_EXPERIMENTER);
        }
        let stage = STAGES
            .iter()
            .find(|s| s.1 == type_)
            .map(|s| s.0)
            .filter(|stage| *stage != Stage::Meter || version <= Version::V14)
            .ok_or(OfpErr::OFPBIC_UNKNOWN_INST)?;
        let fixed = stage.carried().and_then(|carried| carried.len);
        if fixed.is_some_and(|n| n != len) {
            return Err(OfpErr::OFPBIC_BAD_LEN);
        }
        let slot = &mut found[stage as usize];
        if slot.is_some() {
            return Err(OfpErr::OFPBIC_DUP_INST);
        }
        *slot = Some(body);
    }
    Ok(found)
}

/// Writes an instruction, unless it turns out to have no body.
fn instruction(out: &mut Vec<u8>, stage: Stage, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u16(stage.number());
    out.put_u16(0);
    body(out);
    let len = out.len() - start;
    if len == 4 {
        return out.truncate(start);
    }
    out.set_u16(start + 2, len as u16);
}

/// Appends a flow's actions: instructions, or in 1.0 a plain list.
pub fn encode(actions: &[Action], version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    if version == Version::V10 {
        return encode::actions(actions, version, tun, out);
    }
    let e = Encoder { version, tun };
    let is_apply = |a: &Action| Stage::of(a, version) == Stage::Apply;
    let mut rest = actions;
    while let [a, tail @ ..] = rest {
        rest = tail;
        if is_apply(a) {
            let n = 1 + tail.iter().take_while(|a| is_apply(a)).count();
            let list;
            (list, rest) = actions[actions.len() - tail.len() - 1..].split_at(n);
            instruction(out, Stage::Apply, |o| {
                o.put_zeros(4);
                list.iter().for_each(|a| e.action(a, o));
            });
        } else if let Some(carried) = a.row().carried.as_ref().filter(|c| version >= c.since) {
            instruction(out, a.row().stage, |o| (carried.write)(a, &e, o));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ROWS;

    #[test]
    fn stages_and_rows_agree() {
        for (i, (stage, _, _, row)) in STAGES.iter().enumerate() {
            assert_eq!(*stage as usize, i);
            assert!(row.is_none_or(|row| row.stage == *stage && row.carried.is_some()));
        }
        for row in ROWS {
            assert_eq!(
                row.stage == Stage::Apply,
                row.carried.is_none(),
                "{}",
                row.name
            );
        }
    }
}
