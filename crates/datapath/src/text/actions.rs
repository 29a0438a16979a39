//! Lists of actions, written and read. What single actions look like is in their rows.

use ferrovs_packet::text::Cursor;
use ferrovs_packet::types::DpPort;

use super::PortNames;
use crate::action::Action;

mod rows;

pub use rows::message_size;

/// A list of actions that cannot be read; Open vSwitch says no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("odp_actions_from_string")]
pub struct ActionsError;

/// How deep actions may nest in text.
const MAX_DEPTH: usize = 32;
/// Separators between actions.
const DELIMITERS: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// A list of actions; an empty one prints `drop`.
pub fn format_actions(out: &mut String, actions: &[Action], names: Option<&PortNames>) {
    if actions.is_empty() {
        out.push_str("drop");
    }
    for (i, action) in actions.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        format_action(out, action, names);
    }
}

/// One action.
pub fn format_action(out: &mut String, action: &Action, names: Option<&PortNames>) {
    rows::write(out, action, names);
}

/// Reads a list of actions; `drop` alone is the empty list. Port names are understood when `names` are given.
pub fn parse_actions(input: &str, names: Option<&PortNames>) -> Result<Vec<Action>, ActionsError> {
    if input.trim() == "drop" {
        return Ok(Vec::new());
    }
    let mut p = ActionParser {
        c: Cursor::new(input),
        names,
        depth: 0,
    };
    let mut out = Vec::new();
    loop {
        p.c.skip_any(&DELIMITERS);
        if p.c.is_empty() {
            return Ok(out);
        }
        p.action(&mut out).ok_or(ActionsError)?;
        // What follows an action must separate it from the next.
        if !p.c.is_empty() && !p.c.rest().starts_with(DELIMITERS) {
            return Err(ActionsError);
        }
    }
}

/// What remains to be read of a list of actions.
pub(crate) struct ActionParser<'a, 'n> {
    pub c: Cursor<'a>,
    names: Option<&'n PortNames>,
    depth: usize,
}

impl ActionParser<'_, '_> {
    /// Actions up to and including the closing parenthesis.
    pub fn nested(&mut self) -> Option<Vec<Action>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut out = Vec::new();
        if !self.c.eat("drop)") {
            loop {
                self.c.skip_any(&DELIMITERS);
                if self.c.eat(")") {
                    break;
                }
                self.action(&mut out)?;
            }
        }
        self.depth -= 1;
        Some(out)
    }

    /// A port, by number or by name.
    pub fn port(&mut self) -> Option<DpPort> {
        if let Some(n) = self.c.number(u32::MAX.into()) {
            return Some(DpPort(n as u32));
        }
        let mut copy = self.c;
        let name = copy.take_while(|b| !matches!(b, b',' | b')' | b' ' | b'\t' | b'\n'));
        let port = self.names?.number(name)?;
        self.c = copy;
        Some(port)
    }

    /// A number and the closing parenthesis behind it.
    pub fn last_number(&mut self, max: u64) -> Option<u64> {
        let number = self.c.number(max)?;
        self.c.expect(")")?;
        Some(number)
    }

    fn action(&mut self, out: &mut Vec<Action>) -> Option<()> {
        if self.c.peek()?.is_ascii_digit() {
            let port = DpPort(self.c.number(u32::MAX.into())? as u32);
            out.push(Action::Output(port));
            return Some(());
        }
        let before = self.c;
        let name = self
            .c
            .take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        let inside = self.c.eat("(");
        let action = match rows::read(self, name, inside) {
            Some(action) => action?,
            // No action's name, so a port's.
            None => {
                self.c = before;
                Action::Output(self.port()?)
            }
        };
        out.push(action);
        Some(())
    }
}
