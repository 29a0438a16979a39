//! What happened to each row since its owner last looked.
//!
//! Changes are net: a row that came and went was never there, one that went and came back counts as
//! modified where it differs. So the contents of the last look, with the changes on top, are the
//! contents of now, also across reconnections and changes of conditions.

use crate::row::RowData;
use crate::schema::{Column, Table};
use ferrovs_ovsdb::Uuid;
use std::collections::BTreeMap;

/// What happened to a row since changes were last cleared.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The row is new.
    pub inserted: bool,
    /// The row is gone; this is what it was.
    pub deleted: Option<RowData>,
    /// A row that this one refers to, at any distance, changed (see `Idl::track_references`).
    pub referenced: bool,
    columns: u64,
}

impl Change {
    /// Whether the row is new, gone, or differs in `column`.
    pub fn touches<T: Table, K>(&self, column: Column<T, K>) -> bool {
        self.touches_column(column.index())
    }

    /// The same by position.
    pub fn touches_column(&self, column: usize) -> bool {
        self.inserted || self.deleted.is_some() || self.columns & (1 << column) != 0
    }

    /// Whether the row was there, is there, and differs in some column.
    pub fn modified(&self) -> bool {
        !self.inserted && self.deleted.is_none() && self.columns != 0
    }
}

/// The changed rows of a table.
#[derive(Default)]
pub(super) struct Changes {
    pub rows: BTreeMap<Uuid, Change>,
}

impl Changes {
    /// `references`: rows below this one may have changed while it was away.
    pub fn insert(&mut self, id: Uuid, row: &RowData, references: bool) {
        let change = self.rows.entry(id).or_default();
        match change.deleted.take() {
            None => change.inserted = true,
            Some(old) => {
                change.columns |= differing(&old, row);
                change.referenced = references;
                if change.columns == 0 && !references {
                    self.rows.remove(&id);
                }
            }
        }
    }

    pub fn modify(&mut self, id: Uuid, columns: u64) {
        self.rows.entry(id).or_default().columns |= columns;
    }

    pub fn delete(&mut self, id: Uuid, row: RowData) {
        if self.rows.get(&id).is_some_and(|c| c.inserted) {
            self.rows.remove(&id);
        } else {
            let change = self.rows.entry(id).or_default();
            change.deleted = Some(row);
            change.referenced = false;
        }
    }

    /// Notes that something below the row changed; false if the row is noted already.
    pub fn refer(&mut self, id: Uuid) -> bool {
        let change = self.rows.entry(id).or_default();
        !std::mem::replace(&mut change.referenced, true)
    }
}

/// The columns in which two rows of a table differ, as bits.
pub(super) fn differing(a: &RowData, b: &RowData) -> u64 {
    let columns = a.columns.iter().zip(b.columns.iter()).enumerate();
    columns
        .filter(|(_, (a, b))| a != b)
        .fold(0, |bits, (i, _)| bits | 1 << i)
}
