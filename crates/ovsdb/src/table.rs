//! Tables: rows by UUID, hash indexes on the columns that the schema declares unique, and who
//! refers to the rows here.
//!
//! Inside a transaction an index may hold two rows with one key; commit refuses that. References:
//! strong ones are counted, weak ones are listed (they must be found when their target goes), each
//! as of the last commit.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::row::Row;
use crate::schema::TableSchema;
use crate::{Datum, Uuid};

pub struct Table {
    pub schema: Arc<TableSchema>,
    hasher: RandomState,
    rows: HashTable<Arc<Row>>,
    indexes: Vec<HashTable<Arc<Row>>>,
    /// Strong references to each row, if any.
    pub(crate) strong: HashMap<Uuid, u32, RandomState>,
    /// (row here, table and row that refer to it weakly).
    pub(crate) weak: BTreeSet<(Uuid, u32, Uuid)>,
}

impl Table {
    pub fn new(schema: Arc<TableSchema>) -> Self {
        let indexes = schema.indexes.iter().map(|_| HashTable::new()).collect();
        Self {
            schema,
            hasher: RandomState::default(),
            rows: HashTable::new(),
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

    pub fn reserve(&mut self, n: usize) {
        let hasher = &self.hasher;
        self.rows.reserve(n, |r| hasher.hash_one(r.uuid));
    }

    /// Puts a row in, takes one out or replaces it; the old one is returned.
    pub(crate) fn replace(&mut self, uuid: Uuid, new: Option<Arc<Row>>) -> Option<Arc<Row>> {
        let hash = self.hasher.hash_one(uuid);
        let hasher = &self.hasher;
        let entry = self
            .rows
            .entry(hash, |r| r.uuid == uuid, |r| hasher.hash_one(r.uuid));
        let old = match (entry, &new) {
            (hashbrown::hash_table::Entry::Occupied(mut e), Some(n)) => {
                Some(std::mem::replace(e.get_mut(), Arc::clone(n)))
            }
            (hashbrown::hash_table::Entry::Occupied(e), None) => Some(e.remove().0),
            (hashbrown::hash_table::Entry::Vacant(e), Some(n)) => {
                e.insert(Arc::clone(n));
                None
            }
            (hashbrown::hash_table::Entry::Vacant(_), None) => None,
        };
        for (columns, index) in self.schema.indexes.iter().zip(&mut self.indexes) {
            if let Some(o) = &old {
                let h = key_hash(hasher, columns, o);
                if let Ok(e) = index.find_entry(h, |r| Arc::ptr_eq(r, o)) {
                    e.remove();
                }
            }
            if let Some(n) = &new {
                let h = key_hash(hasher, columns, n);
                index.insert_unique(h, Arc::clone(n), |r| key_hash(hasher, columns, r));
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

    /// Gives back memory after a large change.
    pub fn shrink(&mut self) {
        let hasher = &self.hasher;
        self.rows.shrink_to_fit(|r| hasher.hash_one(r.uuid));
        for (columns, index) in self.schema.indexes.iter().zip(&mut self.indexes) {
            index.shrink_to_fit(|r| key_hash(hasher, columns, r));
        }
        self.strong.shrink_to_fit();
    }
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
