//! Datums as the database commands write and read them: `5`, `[1, 2]`, `{a=b, "c d"=e}`.
//!
//! Brackets and braces may be left out on input; members are separated by commas or blanks.

use crate::types::{ColumnType, text_error};
use crate::{Atom, Datum, SymbolTable};

/// Characters that end a bare token.
const SPECIAL: &str = ":=, []{}!<>";

/// The token that `s` starts with, and how much of `s` it takes up: it goes on up to a special character that is
/// neither escaped nor in quotes. Quotes and what is in them stay as they are; elsewhere a backslash only protects.
pub fn token(s: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut quoted = false;
    let mut chars = s.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                if quoted {
                    out.push(c);
                }
                match chars.next() {
                    Some((_, protected)) => out.push(protected),
                    None => return Err(format!("{s}: backslash at end of argument")),
                }
            }
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            _ if !quoted && SPECIAL.contains(c) => return Ok((out, i)),
            _ => out.push(c),
        }
    }
    match quoted {
        true => Err(format!("{s}: quoted string extends past end of argument")),
        false => Ok((out, s.len())),
    }
}

/// True for what C's isspace accepts.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

impl Datum {
    /// The form that `from_text` reads.
    pub fn to_text(&self, ty: &ColumnType) -> String {
        if ty.is_map() {
            let pairs = self.pairs().iter();
            let v: Vec<_> = pairs
                .map(|(k, v)| format!("{}={}", k.to_text(), v.to_text()))
                .collect();
            return format!("{{{}}}", v.join(", "));
        }
        match self {
            Self::Atom(a) if ty.max <= 1 => a.to_text(),
            _ => {
                let v: Vec<_> = self.atoms().iter().map(Atom::to_text).collect();
                format!("[{}]", v.join(", "))
            }
        }
    }

    /// Members separated by blanks, nothing quoted.
    pub fn to_bare(&self) -> String {
        let v: Vec<_> = match self {
            Self::Map(m) => m
                .iter()
                .map(|(k, v)| format!("{}={}", k.to_bare(), v.to_bare()))
                .collect(),
            _ => self.atoms().iter().map(Atom::to_bare).collect(),
        };
        v.join(" ")
    }

    /// Reads a value of the type, constraints and number of members included.
    pub fn from_text(
        ty: &ColumnType,
        text: &str,
        mut symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, String> {
        let open = if ty.is_map() { ('{', '}') } else { ('[', ']') };
        let mut rest = text.trim_start_matches(is_space);
        let bracketed = rest.starts_with(open.0);
        if bracketed {
            rest = rest[1..].trim_start_matches(is_space);
        }
        let mut atoms = Vec::new();
        let mut pairs = Vec::new();
        while let Some(c) = rest.chars().next() {
            if bracketed && c == open.1 {
                break;
            }
            if SPECIAL.contains(c) {
                return Err(format!(
                    "{text}: unexpected \"{c}\" parsing {}",
                    ty.english()
                ));
            }
            let whole = rest;
            let (word, n) = token(rest)?;
            let (key, end) = Atom::from_token(&ty.key, &word, symtab.as_deref_mut(), true)
                .map_err(text_error)?;
            rest = &rest[n..];
            if let Some(value) = &ty.value {
                let Some(after) = rest.strip_prefix('=') else {
                    // At the end of the text Open vSwitch prints the terminating NUL.
                    return Err(match rest.chars().next() {
                        Some(c) => format!("{whole}: syntax error at \"{c}\" expecting \"=\""),
                        None => format!("{whole}: syntax error at \""),
                    });
                };
                let (word, n) = token(after)?;
                let (v, _) = Atom::from_token(value, &word, symtab.as_deref_mut(), false)
                    .map_err(text_error)?;
                pairs.push((key, v));
                rest = &after[n..];
            } else {
                match (&key, end) {
                    (&Atom::Integer(a), Some(Atom::Integer(b))) => {
                        // A range cannot name more members than the type may hold.
                        let n = (i128::from(b) - i128::from(a) + 1) as usize;
                        if n > ty.max as usize || n > 1 << 20 {
                            return Err(too_many(text, n, ty));
                        }
                        atoms.extend((a..=b).map(Atom::Integer));
                    }
                    _ => atoms.push(key),
                }
            }
            rest = rest.trim_start_matches(is_space);
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start_matches(is_space);
            }
        }
        if bracketed {
            let Some(after) = rest.strip_prefix(open.1) else {
                return Err(format!("{text}: missing \"{}\" at end of data", open.1));
            };
            rest = after.trim_start_matches(is_space);
            if !rest.is_empty() {
                return Err(format!("{text}: trailing garbage after \"{}\"", open.1));
            }
        }
        let n = atoms.len().max(pairs.len());
        if n < ty.min as usize {
            return Err(format!(
                "{text}: {n} value(s) specified but the minimum number is {}",
                ty.min
            ));
        }
        if n > ty.max as usize {
            return Err(too_many(text, n, ty));
        }
        let d = if ty.is_map() {
            Self::from_pairs(pairs)
        } else {
            Self::from_atoms(atoms)
        };
        if d.len() != n {
            return Err(if ty.is_map() {
                format!("{text}: map contains duplicate key")
            } else {
                format!("{text}: set contains duplicate value")
            });
        }
        Ok(d)
    }
}

fn too_many(text: &str, n: usize, ty: &ColumnType) -> String {
    let what = if ty.is_map() { "pair" } else { "value" };
    format!(
        "{text}: {n} {what}(s) specified but the maximum number is {}",
        ty.max
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BaseType, UNLIMITED};
    use crate::{AtomType, types::Constraint};

    fn ints() -> ColumnType {
        let key = BaseType {
            atom: AtomType::Integer,
            constraint: Constraint::Integer { min: 0, max: 4095 },
        };
        ColumnType {
            key,
            value: None,
            min: 0,
            max: 4096,
        }
    }

    fn strings() -> ColumnType {
        let b = || BaseType::plain(AtomType::String);
        ColumnType {
            key: b(),
            value: Some(b()),
            min: 0,
            max: UNLIMITED,
        }
    }

    #[test]
    fn sets_read_as_open_vswitch_reads_them() {
        for (text, want) in [
            ("[1 2]", Ok("[1, 2]")),
            ("1, 2 ", Ok("[1, 2]")),
            ("1-3", Ok("[1, 2, 3]")),
            ("[1,]", Ok("[1]")),
            ("+1", Ok("[1]")),
            ("[]", Ok("[]")),
            ("abc", Err("\"abc\" is not a valid integer or range")),
            ("\"1\"", Err("\"\"1\"\" is not a valid integer or range")),
            ("[1,2", Err("[1,2: missing \"]\" at end of data")),
            ("[1,1]", Err("[1,1]: set contains duplicate value")),
            (
                "{1,2}",
                Err("{1,2}: unexpected \"{\" parsing set of up to 4096 integers"),
            ),
            (
                "5000",
                Err("constraint violation: 5000 is not in the valid range 0 to 4095 (inclusive)"),
            ),
        ] {
            let got = Datum::from_text(&ints(), text, None).map(|d| d.to_text(&ints()));
            assert_eq!(
                got,
                want.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn maps_read_as_open_vswitch_reads_them() {
        for (text, want) in [
            ("a=b c=d", Ok("{a=b, c=d}")),
            ("\"a b\"=\"c,d\"", Ok("{\"a b\"=\"c,d\"}")),
            ("true=1", Ok("{\"true\"=\"1\"}")),
            ("_x=-1", Ok("{_x=\"-1\"}")),
            ("a=\"\"", Ok("{a=\"\"}")),
            ("a", Err("a: syntax error at \"")),
            ("a:b=c", Err("a:b=c: syntax error at \":\" expecting \"=\"")),
            (
                "=b",
                Err("=b: unexpected \"=\" parsing map of (string, string) pairs"),
            ),
            (
                "a=b}",
                Err("a=b}: unexpected \"}\" parsing map of (string, string) pairs"),
            ),
            ("a=b,a=c", Err("a=b,a=c: map contains duplicate key")),
            (
                "\"a",
                Err("\"a: quoted string extends past end of argument"),
            ),
            ("\"a\\q\"", Err("\"a\\q\": bad escape \\q")),
            (
                "a=",
                Err(
                    "An empty string is not valid as input; use \"\" to represent the empty string",
                ),
            ),
        ] {
            let got = Datum::from_text(&strings(), text, None).map(|d| d.to_text(&strings()));
            assert_eq!(
                got,
                want.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn a_backslash_outside_of_quotes_protects_one_character() {
        let ty = strings();
        for (text, want) in [
            (r"a=b\,c,d=e", r#"{a="b,c", d=e}"#),
            (r"d\:e=f", r#"{"d:e"=f}"#),
            (r"{a=b\}c}", r#"{a="b}c"}"#),
            (r"a=b\\c", r#"{a="b\\c"}"#),
            (r#"a=b\"c"#, r#"{a="b\"c"}"#),
            (r#"a"b\"c=d"e=f"#, r#"{"a\"b\\\"c=d\"e"=f}"#),
        ] {
            let datum = Datum::from_text(&ty, text, None).unwrap();
            assert_eq!(datum.to_text(&ty), want, "{text}");
        }
        for (text, error) in [
            (r"a=b\", r"b\: backslash at end of argument"),
            (
                r#"a=b"c"#,
                r#"b"c: quoted string extends past end of argument"#,
            ),
            (
                r#""a"b=c"#,
                r#""a"b: missing quote at end of quoted string"#,
            ),
        ] {
            assert_eq!(
                Datum::from_text(&ty, text, None),
                Err(error.into()),
                "{text}"
            );
        }
    }
}
