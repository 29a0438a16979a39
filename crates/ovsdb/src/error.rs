//! `Error`: an OVSDB error as RFC 7047 shapes it, with Open vSwitch's texts.
//!
//! The tag is the `error` member ("constraint violation"), `details` the explanation, `syntax` the
//! JSON that could not be understood. As JSON it is an object with those members; as text it reads
//! `syntax "{...}": constraint violation: details (Strerror)`.

use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub tag: &'static str,
    pub details: Option<String>,
    pub syntax: Option<String>,
    /// Text of the system error behind an I/O error, as strerror gives it.
    pub io: Option<String>,
}

pub mod tag {
    pub const SYNTAX: &str = "syntax error";
    pub const UNKNOWN_COLUMN: &str = "unknown column";
    pub const UNKNOWN_DATABASE: &str = "unknown database";
    pub const CONSTRAINT: &str = "constraint violation";
    pub const REFERENTIAL: &str = "referential integrity violation";
    pub const RESOURCES: &str = "resources exhausted";
    pub const IO: &str = "I/O error";
    pub const DUPLICATE_UUID_NAME: &str = "duplicate uuid-name";
    pub const DUPLICATE_UUID: &str = "duplicate uuid";
    pub const DOMAIN: &str = "domain error";
    pub const RANGE: &str = "range error";
    pub const TIMED_OUT: &str = "timed out";
    pub const NOT_OWNER: &str = "not owner";
    pub const NOT_SUPPORTED: &str = "not supported";
    pub const ABORTED: &str = "aborted";
    pub const CANCELED: &str = "canceled";
    pub const INTERNAL: &str = "internal error";
    pub const OVSDB: &str = "ovsdb error";
    pub const PERMISSION: &str = "permission error";
    pub const NOT_ALLOWED: &str = "not allowed";
    pub const NOT_AVAILABLE: &str = "database not available";
    pub const INVALID_PARAMETERS: &str = "invalid parameters";
}

impl Error {
    pub fn new(tag: &'static str, details: impl Into<String>) -> Self {
        Self {
            tag,
            details: Some(details.into()),
            syntax: None,
            io: None,
        }
    }

    /// A tag alone, without details.
    pub fn bare(tag: &'static str) -> Self {
        Self {
            tag,
            details: None,
            syntax: None,
            io: None,
        }
    }

    /// A syntax error about `json`.
    pub fn syntax(json: &Value, details: impl Into<String>) -> Self {
        Self::about(json, tag::SYNTAX, details)
    }

    /// An error with another tag about `json`.
    pub fn about(json: &Value, tag: &'static str, details: impl Into<String>) -> Self {
        Self {
            tag,
            details: Some(details.into()),
            syntax: Some(crate::json::to_string(json)),
            io: None,
        }
    }

    pub fn plain_syntax(details: impl Into<String>) -> Self {
        Self::new(tag::SYNTAX, details)
    }

    pub fn constraint(details: impl Into<String>) -> Self {
        Self::new(tag::CONSTRAINT, details)
    }

    pub fn ovsdb(details: impl Into<String>) -> Self {
        Self::new(tag::OVSDB, details)
    }

    /// An I/O error with the system's explanation.
    pub fn io(err: &std::io::Error, details: impl Into<String>) -> Self {
        Self {
            tag: tag::IO,
            details: Some(details.into()),
            syntax: None,
            io: Some(strerror(err)),
        }
    }

    /// Wraps the details: "context: details".
    pub fn context(mut self, context: &str) -> Self {
        self.details = Some(match self.details {
            Some(d) => format!("{context}: {d}"),
            None => context.to_owned(),
        });
        self
    }

    pub fn to_json(&self) -> Value {
        let mut m = Map::new();
        m.insert("error".into(), self.tag.into());
        if let Some(d) = &self.details {
            m.insert("details".into(), d.as_str().into());
        }
        if let Some(s) = &self.syntax {
            m.insert("syntax".into(), s.as_str().into());
        }
        if let Some(io) = &self.io {
            m.insert("io-error".into(), io.as_str().into());
        }
        Value::Object(m)
    }
}

/// strerror's text, without the " (os error N)" that the standard library appends.
pub fn strerror(err: &std::io::Error) -> String {
    let s = err.to_string();
    match s.find(" (os error") {
        Some(i) => s[..i].to_owned(),
        None => s,
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(s) = &self.syntax {
            write!(f, "syntax \"{s}\": ")?;
        }
        f.write_str(self.tag)?;
        if let Some(d) = &self.details {
            write!(f, ": {d}")?;
        }
        if let Some(io) = &self.io {
            write!(f, " ({io})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
