//! Atoms as the database commands write them: strings bare where that is unambiguous, quoted as
//! JSON strings otherwise.

use super::Atom;

/// True unless `s` reads back as itself without quotes.
pub fn string_needs_quotes(s: &str) -> bool {
    let b = s.as_bytes();
    let Some(&first) = b.first() else { return true };
    if !first.is_ascii_alphabetic() && first != b'_' {
        return true;
    }
    if !b[1..]
        .iter()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
    {
        return true;
    }
    s == "true" || s == "false" || crate::uuid::parse(s).is_some()
}

impl Atom {
    /// The form that `from_text` reads.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(s) if string_needs_quotes(s) => {
                let mut out = Vec::new();
                crate::json::write_str(&mut out, s);
                String::from_utf8_lossy(&out).into_owned()
            }
            _ => self.to_bare(),
        }
    }

    /// The form without any quoting.
    pub fn to_bare(&self) -> String {
        match self {
            Self::Integer(v) => v.to_string(),
            Self::Real(v) => crate::json::format_real(*v),
            Self::Boolean(v) => v.to_string(),
            Self::String(s) => s.to_string(),
            Self::Uuid(u) => u.to_string(),
        }
    }
}
