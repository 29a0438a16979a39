//! Whether actions may stand together: their order, and what may be nested where.
//!
//! This is asked of every list that is read, from text or from a message, before anything is known of a match.

use ferrovs_packet::field::FieldId;

use super::*;
use crate::error::OfpErr;
use crate::version::Version;
use crate::warn::{Topic, warn};

/// Where a list of actions stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The actions of a flow, whose instructions are part of the list.
    Flow,
    /// A list of actions only: a bucket's, a packet-out's.
    Actions,
    WriteActions,
    Clone,
    /// What `ct` nests.
    Ct,
}

/// Why a list is refused: the code for a message, and the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: OfpErr,
    pub text: String,
}

fn refuse(code: OfpErr, text: String) -> Result<(), Refusal> {
    Err(Refusal { code, text })
}

/// The instruction that an action is, or belongs to, in the order in which instructions come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Instruction {
    Meter,
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

impl Instruction {
    fn of(a: &Action, version: Version) -> Instruction {
        match a {
            // From OpenFlow 1.5 on it is an action.
            Action::Meter(_) if version >= Version::V15 => Instruction::Apply,
            Action::Meter(_) => Instruction::Meter,
            Action::ClearActions => Instruction::Clear,
            Action::WriteActions(_) => Instruction::Write,
            Action::WriteMetadata { .. } => Instruction::Metadata,
            Action::GotoTable(_) => Instruction::Goto,
            _ => Instruction::Apply,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Instruction::Meter => "meter",
            Instruction::Apply => "apply_actions",
            Instruction::Clear => "clear_actions",
            Instruction::Write => "write_actions",
            Instruction::Metadata => "write_metadata",
            Instruction::Goto => "goto_table",
        }
    }
}

/// Checks a list that was read from a message, and logs what is wrong with it.
pub fn verify_decoded(list: &[Action], place: Place, version: Version) -> Result<(), OfpErr> {
    verify(list, place, version).map_err(|r| {
        warn(Topic::Actions, || r.text.clone());
        r.code
    })
}

/// Checks the order of a list and how it is nested; text has the instructions of OpenFlow 1.1.
pub fn verify(list: &[Action], place: Place, version: Version) -> Result<(), Refusal> {
    let mut last: Option<Instruction> = None;
    for a in list {
        if matches!(a, Action::Conjunction { .. }) {
            return conjunction(list);
        }
        nested(a, place)?;
        let next = Instruction::of(a, version);
        let name = next.name();
        if let Some(last) = last {
            if next == last && next != Instruction::Apply {
                return refuse(
                    OfpErr::OFPBAC_UNSUPPORTED_ORDER,
                    format!(
                        "duplicate {name} instruction not allowed, for OpenFlow 1.1+ compatibility"
                    ),
                );
            }
            if next < last {
                return refuse(
                    OfpErr::OFPBAC_UNSUPPORTED_ORDER,
                    format!(
                        "invalid instruction ordering: {name} must appear before {}, for OpenFlow 1.1+ \
                         compatibility",
                        last.name()
                    ),
                );
            }
        }
        if place != Place::Flow && !matches!(next, Instruction::Apply | Instruction::Meter) {
            return refuse(
                OfpErr::OFPBIC_UNSUP_INST,
                format!("{name} instruction not allowed here"),
            );
        }
        last = Some(next);
    }
    Ok(())
}

/// Conjunctions stand alone, but for notes.
fn conjunction(list: &[Action]) -> Result<(), Refusal> {
    let other = |a: &&Action| !matches!(a, Action::Conjunction { .. } | Action::Note(_));
    match list.iter().find(other) {
        None => Ok(()),
        Some(a) => refuse(
            OfpErr::NXBAC_BAD_CONJUNCTION,
            format!(
                "\"conjunction\" actions may be used along with \"note\" but not any other kind of action \
                 (such as the \"{}\" action used here)",
                a.name()
            ),
        ),
    }
}

/// The field that an action writes, where that is what the action is for.
fn written_field(a: &Action) -> Option<FieldId> {
    match a {
        Action::SetField(sf) => Some(sf.field),
        Action::RegMove { dst, .. } => Some(dst.field),
        _ => None,
    }
}

fn nested(a: &Action, place: Place) -> Result<(), Refusal> {
    let field = written_field(a);
    let of_connection = field.is_some_and(|f| matches!(f, FieldId::CtMark | FieldId::CtLabel));
    if of_connection && place != Place::Ct {
        return refuse(
            OfpErr::OFPBAC_BAD_SET_ARGUMENT,
            "cannot set CT fields outside of ct action".to_owned(),
        );
    }
    match (a, place, field) {
        (Action::Nat(_), Place::Ct, _) => Ok(()),
        (Action::Nat(_), ..) => refuse(
            OfpErr::OFPBAC_BAD_SET_ARGUMENT,
            "Cannot have NAT action outside of \"ct\" action".to_owned(),
        ),
        (_, Place::Ct, Some(f)) if !of_connection => refuse(
            OfpErr::OFPBAC_BAD_ARGUMENT,
            format!("ct action doesn't support nested modification of {f}"),
        ),
        (_, Place::Ct, None) => not_in("ct", a),
        (Action::Meter(_), Place::Clone, _) => not_in("clone", a),
        (Action::Meter(_), Place::WriteActions, _) => not_in("write_actions", a),
        _ => Ok(()),
    }
}

fn not_in(outer: &str, a: &Action) -> Result<(), Refusal> {
    refuse(
        OfpErr::OFPBAC_BAD_ARGUMENT,
        format!("{outer} action doesn't support nested action {}", a.name()),
    )
}
