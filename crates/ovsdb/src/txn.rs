//! Transactions: changes made in place with what is needed to undo them.
//!
//! Operations see the effect of earlier ones because the tables change at once. `commit` then makes
//! the whole consistent (or fails); `rollback` restores every row. Nobody else looks at the
//! database in between, the engine is single-threaded.

mod commit;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::Uuid;
use crate::db::Database;
use crate::row::Row;

/// What a transaction did to one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// Position of the table in the schema.
    pub table: usize,
    pub uuid: Uuid,
    pub old: Option<Arc<Row>>,
    pub new: Option<Arc<Row>>,
}

/// A transaction that took effect.
#[derive(Debug, Default)]
pub struct Committed {
    pub changes: Vec<Change>,
    pub comment: String,
    pub durable: bool,
}

#[derive(Default)]
pub struct Txn {
    changes: Vec<Change>,
    by_row: HashMap<(usize, Uuid), usize, RandomState>,
    /// Reference counts changed so far: target table, row, by how much.
    counts: Vec<(usize, Uuid, i32)>,
    pub comment: String,
    pub durable: bool,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What happened to a row so far, if anything.
    pub fn change(&self, table: usize, uuid: &Uuid) -> Option<&Change> {
        self.by_row.get(&(table, *uuid)).map(|&i| &self.changes[i])
    }

    /// True if the row was there before and this transaction deleted it.
    pub fn deleted(&self, table: usize, uuid: &Uuid) -> bool {
        self.change(table, uuid)
            .is_some_and(|c| c.old.is_some() && c.new.is_none())
    }

    pub fn insert(&mut self, db: &mut Database, table: usize, row: Row) {
        let uuid = row.uuid;
        self.put(db, table, uuid, Some(Arc::new(row)));
    }

    pub fn modify(&mut self, db: &mut Database, table: usize, row: Row) {
        let uuid = row.uuid;
        self.put(db, table, uuid, Some(Arc::new(row)));
    }

    pub fn delete(&mut self, db: &mut Database, table: usize, uuid: Uuid) {
        self.put(db, table, uuid, None);
    }

    fn put(&mut self, db: &mut Database, table: usize, uuid: Uuid, new: Option<Arc<Row>>) {
        let old = db.tables[table].replace(uuid, new.clone());
        match self.by_row.entry((table, uuid)) {
            hashbrown::hash_map::Entry::Occupied(e) => self.changes[*e.get()].new = new,
            hashbrown::hash_map::Entry::Vacant(e) => {
                e.insert(self.changes.len());
                self.changes.push(Change {
                    table,
                    uuid,
                    old,
                    new,
                });
            }
        }
    }

    pub fn append_comment(&mut self, s: &str) {
        if !self.comment.is_empty() {
            self.comment.push('\n');
        }
        self.comment.push_str(s);
    }

    /// Undoes everything.
    pub fn rollback(self, db: &mut Database) {
        // What was subtracted comes back first: a count must not pass below zero on the way.
        for &(table, uuid, n) in self.counts.iter().filter(|c| c.2 < 0) {
            commit::count(db, table, uuid, -n);
        }
        for &(table, uuid, n) in self.counts.iter().filter(|c| c.2 > 0) {
            commit::count(db, table, uuid, -n);
        }
        for c in self.changes {
            db.tables[c.table].replace(c.uuid, c.old);
        }
    }
}
