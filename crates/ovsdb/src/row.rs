//! Rows: immutable once made, shared by `Arc` between the table, transactions, monitors and
//! snapshots. A change makes a new row; unchanged sets and maps stay shared with the old one.

use std::borrow::Cow;

use serde_json::Value;

use crate::error::tag;
use crate::schema::{COL_UUID, COL_VERSION, STANDARD_COLUMNS, TableSchema};
use crate::{Atom, Datum, Error, SymbolTable, Uuid};

#[derive(Clone, Debug)]
pub struct Row {
    pub uuid: Uuid,
    /// Changes whenever the row does.
    pub version: Uuid,
    /// The columns that the schema declares, in its order.
    fields: Box<[Datum]>,
}

impl Row {
    /// A row with the defaults of the table.
    pub fn new(schema: &TableSchema, uuid: Uuid) -> Self {
        let fields = schema
            .own_columns()
            .iter()
            .map(|c| c.default.clone())
            .collect();
        Self {
            uuid,
            version: crate::uuid::random(),
            fields,
        }
    }

    /// A copy to be changed, with a version of its own.
    pub fn next(&self) -> Self {
        Self {
            uuid: self.uuid,
            version: crate::uuid::random(),
            fields: self.fields.clone(),
        }
    }

    /// Any column by its position in the schema.
    pub fn get(&self, column: usize) -> Cow<'_, Datum> {
        match column {
            COL_UUID => Cow::Owned(Datum::Atom(Atom::Uuid(self.uuid))),
            COL_VERSION => Cow::Owned(Datum::Atom(Atom::Uuid(self.version))),
            c => Cow::Borrowed(&self.fields[c - STANDARD_COLUMNS]),
        }
    }

    /// A column that the schema declares (position 2 and up).
    pub fn field(&self, column: usize) -> &Datum {
        &self.fields[column - STANDARD_COLUMNS]
    }

    pub fn set(&mut self, column: usize, value: Datum) {
        self.fields[column - STANDARD_COLUMNS] = value;
    }

    /// All declared columns.
    pub fn fields(&self) -> &[Datum] {
        &self.fields
    }

    /// True if every declared column is equal.
    pub fn same_fields(&self, other: &Row) -> bool {
        self.fields == other.fields
    }
}

/// The columns that a JSON row names, by position, with their values.
pub type Columns = Vec<(usize, Datum)>;

/// Parses a `<row>`. `_uuid` and `_version` may be named; who calls decides what that means.
pub fn columns_from_json(
    schema: &TableSchema,
    json: &Value,
    mut symtab: Option<&mut SymbolTable>,
) -> Result<Columns, Error> {
    let Some(map) = json.as_object() else {
        return Err(Error::syntax(json, "row must be JSON object"));
    };
    let mut out = Vec::with_capacity(map.len());
    for (name, value) in map {
        let Some(column) = schema.column(name) else {
            return Err(Error::about(
                json,
                tag::UNKNOWN_COLUMN,
                format!("No column {name} in table {}.", schema.name),
            ));
        };
        out.push((
            column.index,
            Datum::from_json(&column.ty, value, symtab.as_deref_mut())?,
        ));
    }
    Ok(out)
}
