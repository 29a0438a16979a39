//! Atoms of a base type as the database commands read them: as they are written, and besides
//! `@name` for a row that a command creates, and `A-B` for a range of integers where a set is
//! wanted.

use super::BaseType;
use super::atom::check_utf8;
use crate::atom::{Atom, AtomType};
use crate::{Error, SymbolTable};

impl Atom {
    /// Reads one token. The second value is the end of a range of integers, if it is one.
    pub(crate) fn from_token(
        base: &BaseType,
        token: &str,
        symtab: Option<&mut SymbolTable>,
        ranges: bool,
    ) -> Result<(Self, Option<Self>), Error> {
        let plain = |m: String| Error {
            tag: PLAIN,
            details: Some(m),
            syntax: None,
            io: None,
        };
        let mut end = None;
        let atom = match base.atom {
            AtomType::Integer => {
                if let Some(v) = parse_integer(token) {
                    Self::Integer(v)
                } else if let Some((a, b)) = parse_range(token).filter(|_| ranges) {
                    if b < a {
                        return Err(plain(format!(
                            "\"{token}\" is not a valid range. Range end cannot be before start."
                        )));
                    }
                    end = Some(Self::Integer(b));
                    Self::Integer(a)
                } else {
                    return Err(plain(format!(
                        "\"{token}\" is not a valid integer or range"
                    )));
                }
            }
            AtomType::Real => match parse_real(token) {
                Some(v) => Self::Real(v + 0.0),
                None => {
                    return Err(plain(format!("\"{token}\" is not a valid real number")));
                }
            },
            AtomType::Boolean => match token {
                "true" | "yes" | "on" | "1" => Self::Boolean(true),
                "false" | "no" | "off" | "0" => Self::Boolean(false),
                _ => {
                    return Err(plain(format!(
                        "\"{token}\" is not a valid boolean (use \"true\" or \"false\")"
                    )));
                }
            },
            AtomType::String => {
                if token.is_empty() {
                    return Err(plain(
                        "An empty string is not valid as input; use \"\" to represent the empty \
                         string"
                            .into(),
                    ));
                }
                if token.starts_with('"') {
                    if token.len() < 2 || !token.ends_with('"') {
                        return Err(plain(format!(
                            "{token}: missing quote at end of quoted string"
                        )));
                    }
                    match crate::json::parse_string_token(token) {
                        Ok(s) => {
                            check_utf8(&s)?;
                            Self::string(&s)
                        }
                        Err(m) => return Err(plain(format!("{token}: {m}"))),
                    }
                } else {
                    Self::string(token)
                }
            }
            AtomType::Uuid => match (token.strip_prefix('@'), symtab) {
                (Some(_), Some(symtab)) => Self::symbol(base, symtab, token),
                _ => match crate::uuid::parse(token) {
                    Some(u) => Self::Uuid(u),
                    None => return Err(plain(format!("\"{token}\" is not a valid UUID"))),
                },
            },
        };
        base.check(&atom)?;
        if let Some(e) = &end {
            base.check(e)?;
        }
        Ok((atom, end))
    }

    /// Reads a whole text as one atom of the base type.
    pub fn from_text(
        base: &BaseType,
        text: &str,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, String> {
        Self::from_token(base, text, symtab, false)
            .map(|(a, _)| a)
            .map_err(text_error)
    }
}

/// Tag of errors whose text stands alone.
const PLAIN: &str = "";

/// The message that the database commands print.
pub(crate) fn text_error(e: Error) -> String {
    if e.tag == PLAIN {
        e.details.unwrap_or_default()
    } else {
        e.to_string()
    }
}

/// Decimal, with what strtoll allows before it (blanks, a sign) and nothing after it.
fn parse_integer(s: &str) -> Option<i64> {
    let t = s.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let digits = t.strip_prefix(['+', '-']).unwrap_or(t);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    t.parse().ok()
}

fn parse_range(s: &str) -> Option<(i64, i64)> {
    let dash = s.char_indices().skip(1).find(|(_, c)| *c == '-')?.0;
    let (a, b) = (parse_integer(&s[..dash])?, parse_integer(&s[dash + 1..])?);
    Some((a, b))
}

fn parse_real(s: &str) -> Option<f64> {
    let t = s.trim_start();
    if !t
        .bytes()
        .all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'+' | b'e' | b'E'))
    {
        return None;
    }
    t.parse().ok().filter(|v: &f64| v.is_finite())
}
