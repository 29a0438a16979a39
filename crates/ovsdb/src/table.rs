//! Tables: rows by UUID, hash indexes on the columns that the schema declares unique, and who
//! refers to the rows here.
//!
//! Inside a transaction an index may hold two rows with one key; commit refuses that. References:
//! strong ones are counted, weak ones are listed (they must be found when their target goes), each
//! as of the last commit. Both sets of rows are in shards ([`RowSet`]): they grow and are copied a
//! little at a time.

mod rows;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::row::Row;
use crate::schema::TableSchema;
use crate::{Datum, Uuid};

pub use rows::RowSet;

pub struct Table {
    pub schema: Arc<TableSchema>,
    hasher: RandomState,
    rows: RowSet,
    indexes: Vec<RowSet>,
    /// Keys and values in all rows: counted as they change, since to count them all takes long.
    pub(crate) n_atoms: usize,
    /// Strong references to each row, if any.
    pub(crate) strong: HashMap<Uuid, u32, RandomState>,
    /// (row here, table and row that refer to it weakly).
    pub(crate) weak: BTreeSet<(Uuid, u32, Uuid)>,
}

impl Table {
    pub fn new(schema: Arc<TableSchema>) -> Self {
        let indexes = schema.indexes.iter().map(|_| RowSet::default()).collect();
        Self {
            schema,
            hasher: RandomState::default(),
            rows: RowSet::default(),
            n_atoms: 0,
            indexes,
            strong: HashMap::default(),
            weak: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn get(&self, uuid: &Uuid) -> Option<&Arc<Row>> {
        self.rows
            .find(self.hasher.hash_one(uuid), |r| r.uuid == *uuid)
    }

    pub fn contains(&self, uuid: &Uuid) -> bool {
        self.get(uuid).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// The rows as they are now: a copy that shares what does not change.
    pub fn rows(&self) -> RowSet {
        self.rows.clone()
    }

    /// Puts a row in, takes one out or replaces it; the old one is returned.
    pub(crate) fn replace(&mut self, uuid: Uuid, new: Option<Arc<Row>>) -> Option<Arc<Row>> {
        let hash = self.hasher.hash_one(uuid);
        let hasher = &self.hasher;
        let same = |r: &Arc<Row>| r.uuid == uuid;
        let old = match &new {
            Some(new) => match self.rows.exchange(hash, Arc::clone(new), same) {
                Ok(old) => Some(old),
                Err(new) => {
                    self.rows.insert(hash, new, |r| hasher.hash_one(r.uuid));
                    None
                }
            },
            None => self.rows.remove(hash, same),
        };
        self.n_atoms += new.as_ref().map_or(0, |r| atoms(&self.schema, r));
        self.n_atoms -= old.as_ref().map_or(0, |r| atoms(&self.schema, r));
        for (columns, index) in self.schema.indexes.iter().zip(&mut self.indexes) {
            if let Some(o) = &old {
                let h = key_hash(hasher, columns, o);
                index.remove(h, |r| Arc::ptr_eq(r, o));
            }
            if let Some(n) = &new {
                let h = key_hash(hasher, columns, n);
                index.insert(h, Arc::clone(n), |r| key_hash(hasher, columns, r));
            }
        }
        old
    }

    /// Another row with the same key as `row` in the i-th index.
    pub(crate) fn duplicates<'a>(
        &'a self,
        i: usize,
        row: &'a Row,
    ) -> impl Iterator<Item = &'a Arc<Row>> + 'a {
        let columns = &self.schema.indexes[i];
        let h = key_hash(&self.hasher, columns, row);
        self.indexes[i]
            .iter_hash(h)
            .filter(move |r| r.uuid != row.uuid && same_key(columns, r, row))
    }

    /// Rows whose i-th index key is `key`, given in the index's column order.
    pub(crate) fn by_key<'a>(
        &'a self,
        i: usize,
        key: &'a [&'a Datum],
    ) -> impl Iterator<Item = &'a Arc<Row>> + 'a {
        let columns = &self.schema.indexes[i];
        let mut h = self.hasher.build_hasher();
        key.iter().for_each(|d| d.hash(&mut h));
        self.indexes[i]
            .iter_hash(h.finish())
            .filter(move |r| columns.iter().zip(key).all(|(&c, d)| *r.get(c) == **d))
    }

    /// How many strong references a row has.
    pub fn strong_refs(&self, uuid: &Uuid) -> u32 {
        self.strong.get(uuid).copied().unwrap_or(0)
    }
}

fn atoms(schema: &TableSchema, row: &Row) -> usize {
    let standard = schema.columns.len() - schema.own_columns().len();
    let own = row.fields().iter().map(|d| d.len() + d.pairs().len());
    standard + own.sum::<usize>()
}

fn key_hash(hasher: &RandomState, columns: &[usize], row: &Row) -> u64 {
    let mut h = hasher.build_hasher();
    for &c in columns {
        row.get(c).hash(&mut h);
    }
    h.finish()
}

pub(crate) fn same_key(columns: &[usize], a: &Row, b: &Row) -> bool {
    columns.iter().all(|&c| a.get(c) == b.get(c))
}
