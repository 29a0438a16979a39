//! Lists of actions from text; what the words of an action mean is said in its [row](crate::action::row).

use ferrovs_packet::field::{FieldValue, SubField, parse_port};
use ferrovs_packet::types::OfPort;

use super::Names;
use super::cursor::{next_pair, parse_u64};
use crate::action::row::Word;
use crate::action::verify::{Place, verify};
use crate::action::*;
use crate::flow::{GROUP_ALL, GROUP_ANY, GROUP_MAX};
use crate::version::{Protocol, Version};
use crate::warn::{Topic, warn};

/// Nesting of actions that is read.
const MAX_DEPTH: usize = 100;

pub(crate) const OF11_UP: Protocol = Protocol::OF11_STD
    .union(Protocol::OF12_OXM)
    .union(Protocol::OF13_OXM)
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
pub(crate) const OF13_UP: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
pub(crate) const NXM_OF11_UP: Protocol = OF11_UP.union(Protocol::OF10_NXM_ANY);

/// What reading an action depends on.
pub(crate) struct Parser<'a, 'b> {
    pub names: &'a Names<'a>,
    /// The protocols that can carry what has been read.
    pub usable: &'b mut Protocol,
    depth: usize,
}

/// Reads a list of actions; instructions too if `instructions`. `usable` loses what cannot carry them.
pub fn parse_actions(
    s: &str,
    names: &Names<'_>,
    usable: &mut Protocol,
    instructions: bool,
) -> Result<Vec<Action>, String> {
    let mut out = Vec::new();
    Parser {
        names,
        usable,
        depth: 0,
    }
    .list(s, &mut out)?;
    let place = if instructions {
        Place::Flow
    } else {
        Place::Actions
    };
    verify(&out, place, Version::V11).map_err(|r| r.text)?;
    if !instructions && out.iter().any(|a| matches!(a, Action::Meter(_))) {
        // An action, not an instruction, from then on only.
        *usable &= Protocol::OF15_OXM;
    }
    check_size(s, &out, names)?;
    Ok(out)
}

/// A message must have room for the actions.
fn check_size(text: &str, list: &[Action], names: &Names<'_>) -> Result<(), String> {
    const MAX: usize = u16::MAX as usize;
    // No action takes more room than this for each byte of its text.
    if text.len() * 16 <= MAX {
        return Ok(());
    }
    let mut bytes = Vec::new();
    instructions::encode(list, Version::V13, names.tun, &mut bytes);
    if bytes.len() > MAX {
        return Err("input too big".to_owned());
    }
    Ok(())
}

/// `value->field` at the arrow.
pub(crate) fn arrow(arg: &str) -> Result<(&str, &str), String> {
    let (value, dst) = arg
        .split_once("->")
        .ok_or_else(|| format!("{arg}: missing `->'"))?;
    if dst.is_empty() {
        return Err(format!("{arg}: missing field name following `->'"));
    }
    Ok((value, dst))
}

/// Bytes in hexadecimal, with dots and blanks between them.
pub(crate) fn hex_bytes(s: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        rest = rest.trim_start_matches(['.', ' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            break;
        }
        out.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
        rest = &rest[2..];
    }
    Some(out)
}

/// A group number or `all`, `any`.
pub fn parse_group(s: &str) -> Option<u32> {
    if s.eq_ignore_ascii_case("all") {
        return Some(GROUP_ALL);
    }
    if s.eq_ignore_ascii_case("any") {
        return Some(GROUP_ANY);
    }
    let Some(n) = parse_u64(s).and_then(|n| u32::try_from(n).ok()) else {
        warn(Topic::Group, || {
            format!(
                "{s} is not a valid group ID.  (Valid group IDs are 32-bit nonnegative integers or the \
                 keywords ANY or ALL.)"
            )
        });
        return None;
    };
    if n > GROUP_MAX {
        warn(Topic::Group, || format!("group ID {n} is out of range"));
    }
    Some(n)
}

impl Parser<'_, '_> {
    fn list(&mut self, s: &str, out: &mut Vec<Action>) -> Result<(), String> {
        if self.depth >= MAX_DEPTH {
            return Err("Action nested too deeply".to_owned());
        }
        let mut list = s;
        let mut drop = false;
        let first = out.len();
        while let Some((key, value)) = next_pair(&mut list) {
            if key.eq_ignore_ascii_case("drop") {
                drop = true;
            } else {
                out.push(self.one(key, value)?);
            }
        }
        if drop && out.len() != first {
            return Err(
                "\"drop\" must not be accompanied by any other action or instruction".to_owned(),
            );
        }
        Ok(())
    }

    /// A port's number or name.
    pub(crate) fn port(&self, s: &str) -> Option<OfPort> {
        parse_port(s, self.names.ports)
    }

    /// Reads a list that stands inside an action.
    pub(crate) fn nested(&mut self, s: &str, place: Place) -> Result<Vec<Action>, String> {
        let mut out = Vec::new();
        self.depth += 1;
        let result = self.list(s, &mut out);
        self.depth -= 1;
        result?;
        verify(&out, place, Version::V11).map_err(|r| r.text)?;
        Ok(out)
    }

    fn one(&mut self, key: &str, value: &str) -> Result<Action, String> {
        if let Some(word) = Word::by_name(key) {
            return word.parse(self, value);
        }
        if key.eq_ignore_ascii_case("apply_actions") {
            return Err("apply_actions is the default instruction".to_owned());
        }
        // A port's name or number alone is an output.
        match self.port(key) {
            Some(port) => Ok(Action::output(port)),
            None => Err(format!("unknown action {key}")),
        }
    }
}

/// A value of a subfield in `whole` must not have more bits than the subfield.
pub(crate) fn check_fits(
    value: &FieldValue,
    sf: &SubField,
    whole: &str,
    names: &Names<'_>,
) -> Result<(), String> {
    let f = sf.field.field();
    let n_bits = usize::from(sf.n_bits);
    let above = usize::from(f.n_bytes) * 8 - n_bits;
    if value.extract(n_bits, above).is_zero() {
        return Ok(());
    }
    let mut text = String::new();
    f.format(value, None, names.ports, &mut text);
    Err(format!(
        "{whole}: value {text} does not fit into {n_bits} bits"
    ))
}

/// `SRC->DST`, fields of one width.
pub(crate) fn reg_move(v: &str) -> Result<(SubField, SubField), String> {
    let (src, rest) = SubField::parse_prefix(v)?;
    let dst = rest
        .strip_prefix("->")
        .ok_or_else(|| format!("{v}: missing `->' following source"))?;
    let dst = SubField::parse(dst)?;
    if src.n_bits != dst.n_bits {
        return Err(format!(
            "{v}: source field is {} bits wide but destination is {} bits wide",
            src.n_bits, dst.n_bits
        ));
    }
    Ok((src, dst))
}
