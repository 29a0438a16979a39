//! `where`: clauses `[column, function, value]` and the constants true and false.
//!
//! Operations want all clauses to hold, monitors any of them. A search uses `_uuid ==` or an index
//! all of whose columns are given by `==`; otherwise it walks the table.

use std::sync::Arc;

use serde_json::Value;

use crate::error::tag;
use crate::row::Row;
use crate::schema::{COL_UUID, TableSchema};
use crate::table::Table;
use crate::{AtomType, Datum, Error, SymbolTable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    False,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Includes,
    Excludes,
    True,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// Meaningless for the constants.
    pub column: usize,
    pub function: Function,
    pub arg: Datum,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    pub clauses: Vec<Clause>,
}

impl Function {
    pub fn from_name(s: &str) -> Option<Self> {
        Some(match s {
            "==" => Self::Eq,
            "!=" => Self::Ne,
            "<" => Self::Lt,
            "<=" => Self::Le,
            ">" => Self::Gt,
            ">=" => Self::Ge,
            "includes" => Self::Includes,
            "excludes" => Self::Excludes,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
            Self::True => "true",
        }
    }
}

impl Clause {
    fn from_json(
        schema: &TableSchema,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        if let Some(b) = json.as_bool() {
            let function = if b { Function::True } else { Function::False };
            return Ok(Self {
                column: 0,
                function,
                arg: Datum::Empty,
            });
        }
        let Some([Value::String(column), Value::String(function), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(Error::syntax(json, "Parse error in condition."));
        };
        let Some(column) = schema.column(column) else {
            return Err(Error::about(
                json,
                tag::UNKNOWN_COLUMN,
                format!("No column {column} in table {}.", schema.name),
            ));
        };
        let Some(f) = Function::from_name(function) else {
            return Err(Error::new(
                "unknown function",
                format!("No function named {function}."),
            ));
        };
        let mut ty = column.ty.clone();
        match f {
            Function::Lt | Function::Le | Function::Gt | Function::Ge => {
                let ordered = matches!(ty.key.atom, AtomType::Integer | AtomType::Real);
                if !ordered || ty.is_map() || ty.max != 1 {
                    return Err(Error::syntax(
                        json,
                        format!(
                            "Type mismatch: \"{function}\" operator may not be applied to column \
                             {} of type {}.",
                            column.name,
                            ty.english()
                        ),
                    ));
                }
                ty.min = 1;
            }
            Function::Includes if !ty.is_scalar() => ty.min = 0,
            Function::Excludes if !ty.is_scalar() => ty = ty.any_number(),
            _ => {}
        }
        Ok(Self {
            column: column.index,
            function: f,
            arg: Datum::from_json(&ty, arg, symtab)?,
        })
    }

    pub fn matches(&self, row: &Row) -> bool {
        match self.function {
            Function::True => return true,
            Function::False => return false,
            _ => {}
        }
        let d = row.get(self.column);
        match self.function {
            Function::Eq => *d == self.arg,
            Function::Ne => *d != self.arg,
            Function::Includes => d.includes_all(&self.arg),
            Function::Excludes => d.excludes_all(&self.arg),
            f => match (d.scalar(), self.arg.scalar()) {
                (Some(a), Some(b)) => match f {
                    Function::Lt => a < b,
                    Function::Le => a <= b,
                    Function::Gt => a > b,
                    _ => a >= b,
                },
                _ => false,
            },
        }
    }
}

impl Condition {
    pub fn from_json(
        schema: &TableSchema,
        json: &Value,
        mut symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        let Some(items) = json.as_array() else {
            return Err(Error::syntax(json, "array expected"));
        };
        let mut clauses = Vec::with_capacity(items.len());
        for item in items {
            clauses.push(Clause::from_json(schema, item, symtab.as_deref_mut())?);
        }
        Ok(Self { clauses })
    }

    /// Every clause holds.
    pub fn all(&self, row: &Row) -> bool {
        self.clauses.iter().all(|c| c.matches(row))
    }

    /// Some clause holds.
    pub fn any(&self, row: &Row) -> bool {
        self.clauses.iter().any(|c| c.matches(row))
    }

    /// The columns that the clauses look at.
    pub fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        let looks = |c: &&Clause| !matches!(c.function, Function::True | Function::False);
        self.clauses.iter().filter(looks).map(|c| c.column)
    }

    fn equality(&self, column: usize) -> Option<&Datum> {
        self.clauses
            .iter()
            .find(|c| c.function == Function::Eq && c.column == column)
            .map(|c| &c.arg)
    }

    /// The rows for which every clause holds.
    pub fn select(&self, table: &Table) -> Vec<Arc<Row>> {
        let keep = |r: &&Arc<Row>| self.all(r);
        if let Some(uuid) = self.equality(COL_UUID).and_then(Datum::as_uuid) {
            return table.get(&uuid).filter(keep).cloned().into_iter().collect();
        }
        for (i, columns) in table.schema.indexes.iter().enumerate() {
            let key: Option<Vec<&Datum>> = columns.iter().map(|&c| self.equality(c)).collect();
            if let Some(key) = key {
                return table.by_key(i, &key).filter(keep).cloned().collect();
            }
        }
        table.iter().filter(keep).cloned().collect()
    }
}
