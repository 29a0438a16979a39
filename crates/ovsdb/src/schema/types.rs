//! Types from JSON and to JSON. The shortest form is printed: a bare name for a plain scalar,
//! members at their defaults left out.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::atom::AtomType;
use crate::parser::{Kind, Parser};
use crate::types::{BaseType, ColumnType, Constraint, RefType, UNLIMITED};
use crate::{Datum, Error};

impl AtomType {
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        let Some(s) = json.as_str() else {
            return Err(Error::syntax(json, "atomic-type expected"));
        };
        Self::from_name(s)
            .ok_or_else(|| Error::syntax(json, format!("\"{s}\" is not an atomic-type")))
    }
}

impl BaseType {
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        if json.is_string() {
            return Ok(Self::plain(AtomType::from_json(json)?));
        }
        let mut p = Parser::new(json, "ovsdb type");
        let Some(kind) = p.required("type", Kind::STRING) else {
            return Err(p
                .finish()
                .err()
                .unwrap_or_else(|| Error::bare(crate::error::tag::SYNTAX)));
        };
        let atom = AtomType::from_json(kind)?;
        let mut constraint = Constraint::None;
        if let Some(values) = p.optional("enum", Kind::ANY) {
            let ty = ColumnType {
                key: Self::plain(atom),
                value: None,
                min: 1,
                max: UNLIMITED,
            };
            let d = Datum::from_json(&ty, values, None)?;
            constraint = Constraint::Enum(d.atoms().into());
        } else {
            match atom {
                AtomType::Integer => {
                    let min = p
                        .optional("minInteger", Kind::INTEGER)
                        .and_then(Value::as_i64);
                    let max = p
                        .optional("maxInteger", Kind::INTEGER)
                        .and_then(Value::as_i64);
                    let (lo, hi) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
                    if lo > hi {
                        p.raise_error(Error::syntax(json, "minInteger exceeds maxInteger"));
                    }
                    if min.is_some() || max.is_some() {
                        constraint = Constraint::Integer { min: lo, max: hi };
                    }
                }
                AtomType::Real => {
                    let min = p.optional("minReal", Kind::NUMBER).and_then(Value::as_f64);
                    let max = p.optional("maxReal", Kind::NUMBER).and_then(Value::as_f64);
                    let lo = min.unwrap_or(f64::NEG_INFINITY);
                    let hi = max.unwrap_or(f64::INFINITY);
                    if lo > hi {
                        p.raise_error(Error::syntax(json, "minReal exceeds maxReal"));
                    }
                    if min.is_some() || max.is_some() {
                        constraint = Constraint::Real { min: lo, max: hi };
                    }
                }
                AtomType::String => {
                    let min = length(&mut p, "minLength")?;
                    let max = length(&mut p, "maxLength")?;
                    let (lo, hi) = (min.unwrap_or(0), max.unwrap_or(UNLIMITED));
                    if lo > hi {
                        p.raise_error(Error::syntax(json, "minLength exceeds maxLength"));
                    }
                    if min.is_some() || max.is_some() {
                        constraint = Constraint::String { min: lo, max: hi };
                    }
                }
                AtomType::Uuid => {
                    if let Some(table) = p.optional("refTable", Kind::ID).and_then(Value::as_str) {
                        let mut kind = RefType::Strong;
                        if let Some(r) = p.optional("refType", Kind::STRING).and_then(Value::as_str)
                        {
                            match r {
                                "strong" => {}
                                "weak" => kind = RefType::Weak,
                                _ => p.raise_error(Error::syntax(
                                    json,
                                    format!("refType must be \"strong\" or \"weak\" (not \"{r}\")"),
                                )),
                            }
                        }
                        constraint = Constraint::Ref {
                            table: table.into(),
                            kind,
                        };
                    }
                }
                AtomType::Boolean => {}
            }
        }
        p.finish()?;
        Ok(Self { atom, constraint })
    }

    pub fn to_json(&self) -> Value {
        if self.constraint == Constraint::None {
            return self.atom.name().into();
        }
        let mut m = Map::new();
        m.insert("type".into(), self.atom.name().into());
        match &self.constraint {
            Constraint::None => {}
            Constraint::Enum(values) => {
                let ty = ColumnType {
                    key: Self::plain(self.atom),
                    value: None,
                    min: 1,
                    max: UNLIMITED,
                };
                let d = Datum::from_sorted_atoms(Arc::clone(values));
                m.insert("enum".into(), d.to_json(&ty));
            }
            &Constraint::Integer { min, max } => {
                if min != i64::MIN {
                    m.insert("minInteger".into(), min.into());
                }
                if max != i64::MAX {
                    m.insert("maxInteger".into(), max.into());
                }
            }
            &Constraint::Real { min, max } => {
                if min != f64::NEG_INFINITY {
                    m.insert("minReal".into(), min.into());
                }
                if max != f64::INFINITY {
                    m.insert("maxReal".into(), max.into());
                }
            }
            &Constraint::String { min, max } => {
                if min != 0 {
                    m.insert("minLength".into(), min.into());
                }
                if max != UNLIMITED {
                    m.insert("maxLength".into(), max.into());
                }
            }
            Constraint::Ref { table, kind } => {
                m.insert("refTable".into(), Value::String(table.to_string()));
                if *kind == RefType::Weak {
                    m.insert("refType".into(), "weak".into());
                }
            }
        }
        Value::Object(m)
    }
}

fn length(p: &mut Parser<'_>, name: &'static str) -> Result<Option<u32>, Error> {
    let Some(v) = p.optional(name, Kind::INTEGER) else {
        return Ok(None);
    };
    match v.as_i64().and_then(|n| u32::try_from(n).ok()) {
        Some(n) => Ok(Some(n)),
        None => Err(Error::syntax(
            v,
            format!("{name} out of valid range 0 to {UNLIMITED}"),
        )),
    }
}

fn count(json: Option<&Value>) -> Result<u32, Error> {
    match json {
        None => Ok(1),
        Some(v) if v == "unlimited" => Ok(UNLIMITED),
        Some(v) => v
            .as_i64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n != UNLIMITED)
            .ok_or_else(|| Error::syntax(v, "bad min or max value")),
    }
}

impl ColumnType {
    pub fn from_json(json: &Value) -> Result<Self, Error> {
        if json.is_string() {
            return Ok(Self::scalar(AtomType::from_json(json)?));
        }
        let mut p = Parser::new(json, "ovsdb type");
        let key = p.required("key", Kind::STRING.or(Kind::OBJECT));
        let value = p.optional("value", Kind::STRING.or(Kind::OBJECT));
        let min = p.optional("min", Kind::INTEGER);
        let max = p.optional("max", Kind::INTEGER.or(Kind::STRING));
        p.finish()?;
        let Some(key) = key else {
            return Err(Error::bare(crate::error::tag::SYNTAX));
        };
        let key = BaseType::from_json(key)?;
        let value = value.map(BaseType::from_json).transpose()?;
        let (min, max) = (count(min)?, count(max)?);
        if min > 1 || max < 1 {
            return Err(Error::syntax(json, "ovsdb type fails constraint checks"));
        }
        Ok(Self {
            key,
            value,
            min,
            max,
        })
    }

    pub fn to_json(&self) -> Value {
        let key = self.key.to_json();
        if self.is_scalar() && key.is_string() {
            return key;
        }
        let mut m = Map::new();
        m.insert("key".into(), key);
        if let Some(v) = &self.value {
            m.insert("value".into(), v.to_json());
        }
        if self.min != 1 {
            m.insert("min".into(), self.min.into());
        }
        if self.max == UNLIMITED {
            m.insert("max".into(), json!("unlimited"));
        } else if self.max != 1 {
            m.insert("max".into(), self.max.into());
        }
        Value::Object(m)
    }
}
