//! Schemas: databases, tables, columns (RFC 7047 section 3.2).
//!
//! Columns keep the order of the JSON form (by name), after two that every table has: `_uuid` and
//! `_version`. A row stores its columns in that order, without `_uuid`, which is its key.

mod parse;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{BaseType, ColumnType, UNLIMITED};
use crate::{AtomType, Error};

#[derive(Clone, Debug)]
pub struct DatabaseSchema {
    pub name: String,
    /// `x.y.z`, or empty in old schemas.
    pub version: String,
    pub cksum: String,
    pub tables: BTreeMap<String, Arc<TableSchema>>,
}

#[derive(Clone, Debug)]
pub struct TableSchema {
    pub name: String,
    /// All columns; 0 is `_uuid`, 1 is `_version`, the rest ascends by name.
    pub columns: Vec<Arc<ColumnSchema>>,
    by_name: BTreeMap<String, usize>,
    pub max_rows: u32,
    pub is_root: bool,
    /// Each a list of column positions.
    pub indexes: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub struct ColumnSchema {
    pub name: String,
    /// Position in the table.
    pub index: usize,
    pub mutable: bool,
    /// Written to disk.
    pub persistent: bool,
    pub ty: ColumnType,
    /// The value of a column that was never set.
    pub default: crate::Datum,
    /// The default satisfies the constraints.
    pub default_ok: bool,
}

/// Position of `_uuid` in each table.
pub const COL_UUID: usize = 0;
/// Position of `_version` in each table.
pub const COL_VERSION: usize = 1;
/// Columns that each table has.
pub const STANDARD_COLUMNS: usize = 2;

impl DatabaseSchema {
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// True if no table is marked as root, which makes all of them root tables.
    fn all_root_by_default(tables: &BTreeMap<String, Arc<TableSchema>>) -> bool {
        !tables.values().any(|t| t.is_root)
    }
}

impl TableSchema {
    pub fn new(name: &str, columns: Vec<ColumnSchema>, max_rows: u32, is_root: bool) -> Self {
        let mut all = vec![
            ColumnSchema::new("_uuid", false, true, ColumnType::scalar(AtomType::Uuid)),
            ColumnSchema::new("_version", false, false, ColumnType::scalar(AtomType::Uuid)),
        ];
        let mut columns = columns;
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(columns);
        for (i, c) in all.iter_mut().enumerate() {
            c.index = i;
        }
        let by_name = all.iter().map(|c| (c.name.clone(), c.index)).collect();
        let columns = all.into_iter().map(Arc::new).collect();
        Self {
            name: name.to_owned(),
            columns,
            by_name,
            max_rows,
            is_root,
            indexes: Vec::new(),
        }
    }

    pub fn column(&self, name: &str) -> Option<&Arc<ColumnSchema>> {
        self.by_name.get(name).map(|&i| &self.columns[i])
    }

    /// The columns that the schema itself declares.
    pub fn own_columns(&self) -> &[Arc<ColumnSchema>] {
        &self.columns[STANDARD_COLUMNS..]
    }

    pub fn has_max_rows(&self) -> bool {
        self.max_rows != UNLIMITED
    }
}

impl ColumnSchema {
    pub fn new(name: &str, mutable: bool, persistent: bool, ty: ColumnType) -> Self {
        let default = ty.default_datum();
        let default_ok = default.check(&ty).is_ok();
        Self {
            name: name.to_owned(),
            index: 0,
            mutable,
            persistent,
            ty,
            default,
            default_ok,
        }
    }

    /// The same declaration, wherever the tables keep it.
    pub fn same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.mutable == other.mutable
            && self.persistent == other.persistent
            && self.ty == other.ty
    }

    /// Some base type refers to a table.
    pub fn has_refs(&self) -> bool {
        self.ty.bases().any(|b| b.reference().is_some())
    }
}

/// `x.y.z` with decimal numbers.
pub fn is_valid_version(s: &str) -> bool {
    parse_version(s).is_some()
}

/// The three numbers of a version.
pub fn parse_version(s: &str) -> Option<[u32; 3]> {
    let mut out = [0; 3];
    let mut parts = s.split('.');
    for x in &mut out {
        let p = parts.next()?;
        if p.is_empty() || !p.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *x = p.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

pub(crate) fn check_name(name: &str, json: &serde_json::Value) -> Result<(), Error> {
    if name.starts_with('_') {
        return Err(Error::syntax(
            json,
            "names beginning with \"_\" are reserved",
        ));
    }
    if !crate::parser::is_id(name) {
        return Err(Error::syntax(json, "name must be a valid id"));
    }
    Ok(())
}

/// The table that a base type refers to, if it is one of `tables`.
pub(crate) fn undefined_table<'a>(
    base: &'a BaseType,
    tables: &BTreeMap<String, Arc<TableSchema>>,
) -> Option<&'a str> {
    base.reference()
        .map(|(t, _)| t)
        .filter(|t| !tables.contains_key(*t))
}
