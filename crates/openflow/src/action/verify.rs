//! Whether actions may stand together: their order, and what may be nested where.
//!
//! This is asked of every list that is read, from text or from a message, before anything is known of a match.

use super::Action;
use super::instructions::Stage;
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

pub(super) fn refuse(code: OfpErr, text: String) -> Result<(), Refusal> {
    Err(Refusal { code, text })
}

/// What an action may share a list with: conjunctions stand alone, but for notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Any,
    Conjunctions,
    /// Both.
    All,
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
    let mut last: Option<Stage> = None;
    for a in list {
        if a.row().company == Company::Conjunctions {
            return conjunction(list);
        }
        (a.row().place)(a, place)?;
        let next = Stage::of(a, version);
        let name = next.name();
        if let Some(last) = last {
            if next == last && next != Stage::Apply {
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
        if place != Place::Flow && !matches!(next, Stage::Apply | Stage::Meter) {
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
    let other = |a: &&Action| a.row().company == Company::Any;
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

/// The words about an action that cannot be nested in `outer`.
pub(super) fn not_in(outer: &str, a: &Action) -> Result<(), Refusal> {
    refuse(
        OfpErr::OFPBAC_BAD_ARGUMENT,
        format!("{outer} action doesn't support nested action {}", a.name()),
    )
}
