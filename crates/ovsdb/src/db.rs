//! A database in memory: its schema, its tables, and which columns refer to which tables.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::schema::DatabaseSchema;
use crate::table::{RowSet, Table};
use crate::types::RefType;
use crate::{Atom, Datum, Uuid};

/// A column that refers to rows of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefColumn {
    pub column: usize,
    /// The keys refer to this table.
    pub key: Option<(usize, RefType)>,
    /// The values do.
    pub value: Option<(usize, RefType)>,
}

impl RefColumn {
    pub fn has(&self, kind: RefType) -> bool {
        [self.key, self.value]
            .iter()
            .flatten()
            .any(|(_, k)| *k == kind)
    }

    /// The references of one kind in a value of the column: target table and target.
    pub fn each(&self, d: &Datum, kind: RefType, mut f: impl FnMut(usize, Uuid)) {
        let of_kind = |target: Option<(usize, RefType)>| target.filter(|t| t.1 == kind);
        if let Some((target, _)) = of_kind(self.key) {
            d.keys()
                .filter_map(Atom::as_uuid)
                .for_each(|u| f(target, u));
        }
        if let Some((target, _)) = of_kind(self.value) {
            let values = d.pairs().iter().filter_map(|p| p.1.as_uuid());
            values.for_each(|u| f(target, u));
        }
    }
}

pub struct Database {
    pub schema: Arc<DatabaseSchema>,
    pub(crate) tables: Vec<Table>,
    by_name: HashMap<String, usize>,
    /// For each table its columns that refer to others.
    pub(crate) refs: Vec<Vec<RefColumn>>,
}

/// The rows of each table at one moment, to be written by another thread.
pub struct Snapshot {
    pub schema: Arc<DatabaseSchema>,
    /// In the order of the schema's tables.
    pub tables: Vec<RowSet>,
}

impl Database {
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        let tables: Vec<_> = schema
            .tables
            .values()
            .map(|t| Table::new(Arc::clone(t)))
            .collect();
        let by_name: HashMap<String, usize> = schema
            .tables
            .keys()
            .enumerate()
            .map(|(i, n)| (n.clone(), i))
            .collect();
        let target = |b: &crate::BaseType| {
            b.reference()
                .and_then(|(t, k)| by_name.get(t).map(|&i| (i, k)))
        };
        let refs = schema
            .tables
            .values()
            .map(|t| {
                t.own_columns()
                    .iter()
                    .map(|c| RefColumn {
                        column: c.index,
                        key: target(&c.ty.key),
                        value: c.ty.value.as_ref().and_then(target),
                    })
                    .filter(|r| r.key.is_some() || r.value.is_some())
                    .collect()
            })
            .collect();
        Self {
            schema,
            tables,
            by_name,
            refs,
        }
    }

    pub fn name(&self) -> &str {
        &self.schema.name
    }

    pub fn table_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        self.table_index(name).map(|i| &self.tables[i])
    }

    /// Tables in the order of the schema (by name).
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Shares the rows; takes time but no copy of the data.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            schema: Arc::clone(&self.schema),
            tables: self.tables.iter().map(Table::rows).collect(),
        }
    }

    pub fn n_rows(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Cells: one for each column of each row.
    pub fn n_cells(&self) -> usize {
        self.tables
            .iter()
            .map(|t| t.len() * t.schema.columns.len())
            .sum()
    }

    pub fn n_weak_refs(&self) -> usize {
        self.tables.iter().map(|t| t.weak.len()).sum()
    }

    /// Atoms in all rows, as `memory/show` counts them.
    pub fn n_atoms(&self) -> usize {
        self.tables.iter().map(|t| t.n_atoms).sum()
    }
}
