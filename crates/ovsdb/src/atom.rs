//! Atoms: one integer, real, boolean, string or UUID.
//!
//! 24 bytes; strings are shared, so cloning is cheap. The order is that of Open vSwitch (numbers by
//! value, strings by byte, UUIDs by their digits) and decides how sets and maps are stored and
//! printed.

mod text;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use crate::Uuid;

pub use text::string_needs_quotes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomType {
    Integer,
    Real,
    Boolean,
    String,
    Uuid,
}

#[derive(Clone, Debug)]
pub enum Atom {
    Integer(i64),
    Real(f64),
    Boolean(bool),
    String(Arc<str>),
    Uuid(Uuid),
}

impl AtomType {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    pub fn from_name(s: &str) -> Option<Self> {
        Some(match s {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    pub fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(0.0),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String(empty_string()),
            Self::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// One shared empty string: most string columns hold it.
fn empty_string() -> Arc<str> {
    static EMPTY: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
    Arc::clone(EMPTY.get_or_init(|| Arc::from("")))
}

impl Atom {
    pub fn string(s: &str) -> Self {
        if s.is_empty() {
            Self::String(empty_string())
        } else {
            Self::String(Arc::from(s))
        }
    }

    pub fn kind(&self) -> AtomType {
        match self {
            Self::Integer(_) => AtomType::Integer,
            Self::Real(_) => AtomType::Real,
            Self::Boolean(_) => AtomType::Boolean,
            Self::String(_) => AtomType::String,
            Self::Uuid(_) => AtomType::Uuid,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self {
            Some(s)
        } else {
            None
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    pub fn as_real(&self) -> Option<f64> {
        if let Self::Real(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    pub fn is_default(&self) -> bool {
        match self {
            Self::Integer(v) => *v == 0,
            Self::Real(v) => *v == 0.0,
            Self::Boolean(v) => !v,
            Self::String(s) => s.is_empty(),
            Self::Uuid(u) => u.is_nil(),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(v) => (*v).into(),
            Self::Real(v) => (*v).into(),
            Self::Boolean(v) => (*v).into(),
            Self::String(s) => Value::String(s.to_string()),
            Self::Uuid(u) => Value::Array(vec!["uuid".into(), u.to_string().into()]),
        }
    }

    /// Appends the JSON form without building a tree.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Integer(v) => crate::json::write_integer(out, *v),
            Self::Real(v) => crate::json::write_real(out, *v),
            Self::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
            Self::String(s) => crate::json::write_str(out, s),
            Self::Uuid(u) => {
                out.extend_from_slice(b"[\"uuid\",\"");
                crate::uuid::write(out, u);
                out.extend_from_slice(b"\"]");
            }
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => {
                if Arc::ptr_eq(a, b) {
                    Ordering::Equal
                } else {
                    a.as_bytes().cmp(b.as_bytes())
                }
            }
            (Self::Uuid(a), Self::Uuid(b)) => a.as_u128().cmp(&b.as_u128()),
            // Atoms of one column have one type; the rest only keeps the order total.
            _ => (self.kind() as u8).cmp(&(other.kind() as u8)),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::String(a), Self::String(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => self.cmp(other) == Ordering::Equal,
        }
    }
}

impl Eq for Atom {}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, h: &mut H) {
        match self {
            Self::Integer(v) => v.hash(h),
            Self::Real(v) => v.to_bits().hash(h),
            Self::Boolean(v) => v.hash(h),
            Self::String(s) => s.hash(h),
            Self::Uuid(u) => u.hash(h),
        }
    }
}

impl From<i64> for Atom {
    fn from(v: i64) -> Self {
        Self::Integer(v)
    }
}
impl From<f64> for Atom {
    fn from(v: f64) -> Self {
        Self::Real(v + 0.0)
    }
}
impl From<bool> for Atom {
    fn from(v: bool) -> Self {
        Self::Boolean(v)
    }
}
impl From<&str> for Atom {
    fn from(v: &str) -> Self {
        Self::string(v)
    }
}
impl From<String> for Atom {
    fn from(v: String) -> Self {
        Self::string(&v)
    }
}
impl From<Uuid> for Atom {
    fn from(v: Uuid) -> Self {
        Self::Uuid(v)
    }
}
