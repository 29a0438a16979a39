//! Column types: a base type with constraints for the key, perhaps one for the value, and how many.
//!
//! `{"type":{"key":...,"value":...,"min":0,"max":"unlimited"}}` of RFC 7047 section 3.2.

mod atom;
mod english;
mod text;

use std::sync::Arc;

use crate::Error;
use crate::atom::{Atom, AtomType};

pub(crate) use text::text_error;

/// What `max: "unlimited"` is in memory.
pub const UNLIMITED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefType {
    Strong,
    Weak,
}

/// Constraint of a base type. At most one kind, which fits the atom type.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    None,
    /// Sorted distinct values.
    Enum(Arc<[Atom]>),
    Integer {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    /// Length in characters.
    String {
        min: u32,
        max: u32,
    },
    Ref {
        table: Arc<str>,
        kind: RefType,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    pub atom: AtomType,
    pub constraint: Constraint,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnType {
    pub key: BaseType,
    /// Present for maps only.
    pub value: Option<BaseType>,
    pub min: u32,
    pub max: u32,
}

impl BaseType {
    pub const fn plain(atom: AtomType) -> Self {
        Self {
            atom,
            constraint: Constraint::None,
        }
    }

    /// The table that values refer to, and how.
    pub fn reference(&self) -> Option<(&str, RefType)> {
        match &self.constraint {
            Constraint::Ref { table, kind } => Some((table, *kind)),
            _ => None,
        }
    }

    pub fn is_strong_ref(&self) -> bool {
        matches!(
            self.constraint,
            Constraint::Ref {
                kind: RefType::Strong,
                ..
            }
        )
    }

    pub fn is_weak_ref(&self) -> bool {
        matches!(
            self.constraint,
            Constraint::Ref {
                kind: RefType::Weak,
                ..
            }
        )
    }

    /// Checks the constraints; the atom must be of this type already.
    pub fn check(&self, atom: &Atom) -> Result<(), Error> {
        match (&self.constraint, atom) {
            (Constraint::Enum(values), a) if values.binary_search(a).is_err() => {
                return Err(Error::constraint(format!(
                    "{} is not one of the allowed values ([{}])",
                    atom.to_text(),
                    values
                        .iter()
                        .map(Atom::to_text)
                        .collect::<Vec<_>>()
                        .join(", ")
                )));
            }
            (&Constraint::Integer { min, max }, &Atom::Integer(v)) => {
                range(v, min, max, min != i64::MIN, max != i64::MAX, |v| {
                    v.to_string()
                })?;
            }
            (&Constraint::Real { min, max }, &Atom::Real(v)) => {
                let (lo, hi) = (min != f64::NEG_INFINITY, max != f64::INFINITY);
                range(v, min, max, lo, hi, crate::json::format_real)?;
            }
            (&Constraint::String { min, max }, Atom::String(s)) => {
                let n = s.chars().count();
                if n < min as usize {
                    return Err(Error::constraint(format!(
                        "\"{s}\" length {n} is less than minimum allowed length {min}"
                    )));
                }
                if n > max as usize {
                    return Err(Error::constraint(format!(
                        "\"{s}\" length {n} is greater than maximum allowed length {max}"
                    )));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn range<T: PartialOrd + Copy>(
    v: T,
    min: T,
    max: T,
    has_min: bool,
    has_max: bool,
    text: impl Fn(T) -> String,
) -> Result<(), Error> {
    if v >= min && v <= max {
        return Ok(());
    }
    Err(Error::constraint(match (has_min, has_max) {
        (true, true) => format!(
            "{} is not in the valid range {} to {} (inclusive)",
            text(v),
            text(min),
            text(max)
        ),
        (true, false) => {
            format!(
                "{} is less than minimum allowed value {}",
                text(v),
                text(min)
            )
        }
        _ => format!(
            "{} is greater than maximum allowed value {}",
            text(v),
            text(max)
        ),
    }))
}

impl ColumnType {
    pub const fn scalar(atom: AtomType) -> Self {
        Self {
            key: BaseType::plain(atom),
            value: None,
            min: 1,
            max: 1,
        }
    }

    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// A set that may have more than one member.
    pub fn is_composite(&self) -> bool {
        self.max > 1
    }

    /// The same type with the number of members unbounded, for mutations and partial values.
    pub fn any_number(&self) -> Self {
        Self {
            min: 0,
            max: UNLIMITED,
            ..self.clone()
        }
    }

    pub fn bases(&self) -> impl Iterator<Item = &BaseType> {
        std::iter::once(&self.key).chain(self.value.as_ref())
    }
}
