//! Atoms of a base type from JSON.

use serde_json::Value;

use super::BaseType;
use crate::atom::{Atom, AtomType};
use crate::parser::is_id;
use crate::{Error, SymbolTable};

impl Atom {
    /// Parses an atom of the base type and checks its constraints. With a symbol table,
    /// `["named-uuid", id]` is allowed and noted there.
    pub fn from_json(
        base: &BaseType,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        let atom = Self::parse(base, json, symtab)?;
        base.check(&atom)?;
        Ok(atom)
    }

    fn parse(
        base: &BaseType,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        match base.atom {
            AtomType::Integer => {
                if let Some(v) = json.as_i64() {
                    return Ok(Self::Integer(v));
                }
            }
            AtomType::Real => {
                if let Some(v) = json.as_f64() {
                    // -0 and 0 are one value.
                    return Ok(Self::Real(v + 0.0));
                }
            }
            AtomType::Boolean => {
                if let Some(v) = json.as_bool() {
                    return Ok(Self::Boolean(v));
                }
            }
            AtomType::String => {
                if let Some(s) = json.as_str() {
                    check_utf8(s)?;
                    return Ok(Self::string(s));
                }
            }
            AtomType::Uuid => return Self::parse_uuid(base, json, symtab),
        }
        Err(Error::syntax(
            json,
            format!("expected {}", base.atom.name()),
        ))
    }

    fn parse_uuid(
        base: &BaseType,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        if let Some([Value::String(kind), Value::String(s)]) = json.as_array().map(Vec::as_slice) {
            if kind == "uuid" {
                return match crate::uuid::parse(s) {
                    Some(u) => Ok(Self::Uuid(u)),
                    None => Err(Error::syntax(json, format!("\"{s}\" is not a valid UUID"))),
                };
            }
            if kind == "named-uuid"
                && let Some(symtab) = symtab
            {
                if !is_id(s) {
                    return Err(Error::syntax(json, "named-uuid string is not a valid <id>"));
                }
                return Ok(Self::symbol(base, symtab, s));
            }
        }
        Err(Error::syntax(json, "expected [\"uuid\", <string>]"))
    }

    /// The UUID of a symbol, noting the kind of reference.
    pub(crate) fn symbol(base: &BaseType, symtab: &mut SymbolTable, name: &str) -> Self {
        let symbol = symtab.insert(name);
        symbol.strong_ref |= base.is_strong_ref();
        symbol.weak_ref |= base.is_weak_ref();
        Self::Uuid(symbol.uuid)
    }
}

/// Refuses a parsed string that was not UTF-8.
pub(super) fn check_utf8(s: &str) -> Result<(), Error> {
    match crate::json::invalid_utf8(s) {
        None => Ok(()),
        Some(what) => Err(Error::constraint(format!(
            "not a valid UTF-8 string: {what}"
        ))),
    }
}
