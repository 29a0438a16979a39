//! Strict access to the members of a JSON object: each member that is wanted is asked for with the
//! types that it may have; `finish` complains about the first problem, and about members that
//! nobody asked for. The texts are Open vSwitch's.

use std::borrow::Cow;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::Error;

/// What JSON types a member may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(u16);

impl Kind {
    pub const NULL: Kind = Kind(1);
    pub const FALSE: Kind = Kind(2);
    pub const TRUE: Kind = Kind(4);
    pub const BOOLEAN: Kind = Kind(6);
    pub const OBJECT: Kind = Kind(8);
    pub const ARRAY: Kind = Kind(16);
    pub const INTEGER: Kind = Kind(32);
    pub const REAL: Kind = Kind(64);
    pub const NUMBER: Kind = Kind(96);
    pub const STRING: Kind = Kind(128);
    /// A string that is an `<id>`.
    pub const ID: Kind = Kind(256);
    pub const ANY: Kind = Kind(255);

    pub const fn or(self, other: Kind) -> Kind {
        Kind(self.0 | other.0)
    }

    fn accepts(self, v: &Value) -> bool {
        let bit = match v {
            Value::Null => 1,
            Value::Bool(false) => 2,
            Value::Bool(true) => 4,
            Value::Object(_) => 8,
            Value::Array(_) => 16,
            Value::Number(n) if n.is_i64() => 32,
            Value::Number(_) => 64,
            Value::String(_) => 128,
        };
        if self.0 & bit != 0 {
            return true;
        }
        self.0 & 256 != 0 && v.as_str().is_some_and(is_id)
    }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, the `<id>` of RFC 7047.
pub fn is_id(s: &str) -> bool {
    let mut b = s.bytes();
    b.next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && b.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// What is parsed, for messages.
pub enum What {
    Named(Cow<'static, str>),
    /// An operation: so many of how many.
    Operation(usize, usize),
}

impl From<&'static str> for What {
    fn from(name: &'static str) -> Self {
        Self::Named(name.into())
    }
}

impl From<String> for What {
    fn from(name: String) -> Self {
        Self::Named(name.into())
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Operation(i, n) => write!(f, "ovsdb operation {i} of {n}"),
        }
    }
}

pub struct Parser<'a> {
    what: What,
    json: &'a Value,
    map: Option<&'a Map<String, Value>>,
    used: SmallVec<[&'static str; 8]>,
    error: Option<Error>,
}

impl<'a> Parser<'a> {
    /// Starts on `json`; `what` names it in messages ("Parsing {what} failed: ...").
    pub fn new(json: &'a Value, what: impl Into<What>) -> Self {
        let mut p = Self {
            what: what.into(),
            json,
            map: json.as_object(),
            used: SmallVec::new(),
            error: None,
        };
        if p.map.is_none() {
            p.error = Some(Error::plain_syntax(format!(
                "Parsing {} failed: Object expected.",
                p.what
            )));
        }
        p
    }

    /// A member that may be absent.
    pub fn optional(&mut self, name: &'static str, kinds: Kind) -> Option<&'a Value> {
        let v = self.map?.get(name)?;
        self.used.push(name);
        if kinds.accepts(v) {
            Some(v)
        } else {
            self.raise(format!("Type mismatch for member '{name}'."));
            None
        }
    }

    /// A member that must be there.
    pub fn required(&mut self, name: &'static str, kinds: Kind) -> Option<&'a Value> {
        let map = self.map?;
        if !map.contains_key(name) {
            self.raise(format!("Required '{name}' member is missing."));
            return None;
        }
        self.optional(name, kinds)
    }

    /// Records a problem; the first one wins.
    pub fn raise(&mut self, message: impl AsRef<str>) {
        if self.error.is_none() {
            self.error = Some(Error::syntax(
                self.json,
                format!("Parsing {} failed: {}", self.what, message.as_ref()),
            ));
        }
    }

    /// Records an error that is complete already.
    pub fn raise_error(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// The value that is being parsed.
    pub fn json(&self) -> &'a Value {
        self.json
    }

    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// Accepts whatever members are left.
    pub fn ignore_rest(&mut self) {
        self.map = None;
    }

    pub fn finish(mut self) -> Result<(), Error> {
        if self.error.is_none()
            && let Some(map) = self.map
            && self.used.len() < map.len()
            && let Some(extra) = map.keys().find(|k| !self.used.contains(&k.as_str()))
        {
            let is_extra = |k: &&String| !self.used.contains(&k.as_str());
            let message = match map.keys().filter(is_extra).count() - 1 {
                0 => format!("Member '{extra}' is present but not allowed here."),
                n => format!(
                    "Member '{extra}' and {n} other member{} are present but not allowed here.",
                    if n == 1 { "" } else { "s" }
                ),
            };
            self.raise(message);
        }
        self.error.map_or(Ok(()), Err)
    }
}
