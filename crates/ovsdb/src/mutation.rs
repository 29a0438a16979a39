//! Mutations: `[column, mutator, value]`, arithmetic on each member or set insertion and deletion.

use serde_json::Value;

use crate::error::tag;
use crate::row::Row;
use crate::schema::TableSchema;
use crate::types::{BaseType, ColumnType, UNLIMITED};
use crate::{Atom, AtomType, Datum, Error, SymbolTable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Insert,
    Delete,
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub column: usize,
    pub mutator: Mutator,
    pub arg: Datum,
}

impl Mutator {
    fn from_name(s: &str) -> Option<Self> {
        Some(match s {
            "+=" => Self::Add,
            "-=" => Self::Sub,
            "*=" => Self::Mul,
            "/=" => Self::Div,
            "%=" => Self::Mod,
            "insert" => Self::Insert,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Sub => "-=",
            Self::Mul => "*=",
            Self::Div => "/=",
            Self::Mod => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// Parses an array of mutations.
pub fn from_json(
    schema: &TableSchema,
    json: &Value,
    mut symtab: Option<&mut SymbolTable>,
) -> Result<Vec<Mutation>, Error> {
    let Some(items) = json.as_array() else {
        return Err(Error::syntax(json, "array expected"));
    };
    items
        .iter()
        .map(|m| Mutation::from_json(schema, m, symtab.as_deref_mut()))
        .collect()
}

impl Mutation {
    fn from_json(
        schema: &TableSchema,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        let Some([Value::String(column), Value::String(name), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(Error::syntax(json, "Parse error in mutation."));
        };
        let Some(column) = schema.column(column) else {
            return Err(Error::about(
                json,
                tag::UNKNOWN_COLUMN,
                format!("No column {column} in table {}.", schema.name),
            ));
        };
        if !column.mutable {
            return Err(Error::about(
                json,
                tag::CONSTRAINT,
                format!(
                    "Cannot mutate immutable column {} in table {}.",
                    column.name, schema.name
                ),
            ));
        }
        let Some(mutator) = Mutator::from_name(name) else {
            return Err(Error::new(
                "unknown mutator",
                format!("No mutator named {name}."),
            ));
        };
        let ty = &column.ty;
        let mismatch = || {
            Err(Error::syntax(
                json,
                format!(
                    "Type mismatch: \"{name}\" operator may not be applied to column {} of type \
                     {}.",
                    column.name,
                    ty.english()
                ),
            ))
        };
        let arg = match mutator {
            Mutator::Insert | Mutator::Delete => {
                if ty.is_scalar() {
                    return mismatch();
                }
                if mutator == Mutator::Insert {
                    let ty = ColumnType {
                        min: 0,
                        ..ty.clone()
                    };
                    Datum::from_json(&ty, arg, symtab)?
                } else {
                    Self::delete_arg(ty, arg, symtab)?
                }
            }
            _ => {
                let fits = match ty.key.atom {
                    AtomType::Integer => true,
                    AtomType::Real => mutator != Mutator::Mod,
                    _ => false,
                };
                if !fits || ty.is_map() {
                    return mismatch();
                }
                // The operand is bound by the type, not by the constraints on the result.
                Datum::from_json(&ColumnType::scalar(ty.key.atom), arg, symtab)?
            }
        };
        Ok(Self {
            column: column.index,
            mutator,
            arg,
        })
    }

    /// What to delete: any number of members or pairs, or of a map's keys. What is neither is judged as
    /// keys.
    fn delete_arg(
        ty: &ColumnType,
        arg: &Value,
        mut symtab: Option<&mut SymbolTable>,
    ) -> Result<Datum, Error> {
        let any = ty.any_number();
        match Datum::from_json(&any, arg, symtab.as_deref_mut()) {
            Err(_) if ty.is_map() => {
                let keys = ColumnType { value: None, ..any };
                Datum::from_json(&keys, arg, symtab)
            }
            other => other,
        }
    }

    /// Changes the row.
    pub fn apply(&self, schema: &TableSchema, row: &mut Row) -> Result<(), Error> {
        let column = &schema.columns[self.column];
        let old = row.field(self.column);
        let new = match self.mutator {
            Mutator::Insert => old.union(&self.arg),
            Mutator::Delete => old.subtract(&self.arg),
            _ => self.arithmetic(&column.ty.key, old)?,
        };
        let n = new.len();
        if n < column.ty.min as usize || (column.ty.max != UNLIMITED && n > column.ty.max as usize)
        {
            return Err(Error::constraint(format!(
                "Attempted to store {n} elements in {}.",
                column.ty.english()
            )));
        }
        row.set(self.column, new);
        Ok(())
    }

    fn arithmetic(&self, base: &BaseType, old: &Datum) -> Result<Datum, Error> {
        let Some(arg) = self.arg.scalar() else {
            return Ok(old.clone());
        };
        let mut out = Vec::with_capacity(old.len());
        for a in old.atoms() {
            let new = match (a, arg) {
                (&Atom::Integer(a), &Atom::Integer(b)) => Atom::Integer(self.integer(a, b)?),
                (&Atom::Real(a), &Atom::Real(b)) => Atom::Real(self.real(a, b)?),
                _ => a.clone(),
            };
            base.check(&new)?;
            out.push(new);
        }
        let d = Datum::from_atoms(out);
        if d.len() != old.len() {
            return Err(Error::constraint(format!(
                "Result of \"{}\" operation contains duplicates.",
                self.mutator.name()
            )));
        }
        Ok(d)
    }

    fn out_of_range(&self) -> Error {
        Error::new(
            tag::RANGE,
            format!(
                "Result of \"{}\" operation is out of range.",
                self.mutator.name()
            ),
        )
    }

    fn integer(&self, a: i64, b: i64) -> Result<i64, Error> {
        if b == 0 && matches!(self.mutator, Mutator::Div | Mutator::Mod) {
            return Err(Error::new(tag::DOMAIN, "Division by zero."));
        }
        match self.mutator {
            Mutator::Add => a.checked_add(b),
            Mutator::Sub => a.checked_sub(b),
            Mutator::Mul => a.checked_mul(b),
            Mutator::Div => a.checked_div(b),
            _ => a.checked_rem(b),
        }
        .ok_or_else(|| self.out_of_range())
    }

    fn real(&self, a: f64, b: f64) -> Result<f64, Error> {
        if b == 0.0 && self.mutator == Mutator::Div {
            return Err(Error::new(tag::DOMAIN, "Division by zero."));
        }
        let v = match self.mutator {
            Mutator::Add => a + b,
            Mutator::Sub => a - b,
            Mutator::Mul => a * b,
            _ => a / b,
        };
        // What is too small to be read again is out of range, too.
        if v.is_finite() && !v.is_subnormal() {
            Ok(v + 0.0)
        } else {
            Err(self.out_of_range())
        }
    }
}
