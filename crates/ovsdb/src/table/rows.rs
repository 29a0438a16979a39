//! A hash set of rows that grows, and is copied, a little at a time.
//!
//! A hash table of a million rows stops the server for a tenth of a second when it doubles, and
//! again when a compaction wants a copy of it. So the rows are in shards of some hundred. The number
//! of shards grows by one at a time (linear hashing): the new one takes its rows from one other. A
//! copy shares the shards, and a change copies the one that it touches.
//!
//! ```text
//! 6 shards:   mask = 7         bits & 7 = 0 1 2 3 4 5   6 7     there are no shards 6 and 7 yet:
//!             shard            0 1 2 3 4 5              2 3     their rows are in 2 and 3
//! ```

use std::sync::Arc;

use hashbrown::HashTable;

use crate::row::Row;

/// Rows of a shard on average; twice as many before it is split.
const SHARD: usize = 512;

#[derive(Clone)]
pub struct RowSet {
    shards: Vec<Arc<HashTable<Arc<Row>>>>,
    len: usize,
}

impl Default for RowSet {
    fn default() -> Self {
        Self {
            shards: vec![Arc::new(HashTable::new())],
            len: 0,
        }
    }
}

/// The bits of a hash that choose the shard: those that the table of a shard makes least of.
fn bits(hash: u64) -> usize {
    (hash >> 24) as usize
}

impl RowSet {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.shards.iter().flat_map(|s| s.iter())
    }

    fn shard(&self, hash: u64) -> usize {
        let n = self.shards.len();
        let mask = n.next_power_of_two() - 1;
        let i = bits(hash) & mask;
        if i < n { i } else { i & (mask >> 1) }
    }

    pub fn find(&self, hash: u64, eq: impl FnMut(&Arc<Row>) -> bool) -> Option<&Arc<Row>> {
        self.shards[self.shard(hash)].find(hash, eq)
    }

    /// Rows that may have this hash.
    pub fn iter_hash(&self, hash: u64) -> impl Iterator<Item = &Arc<Row>> {
        self.shards[self.shard(hash)].iter_hash(hash)
    }

    /// Adds a row that is not there.
    pub fn insert(&mut self, hash: u64, row: Arc<Row>, hasher: impl Fn(&Arc<Row>) -> u64) {
        let i = self.shard(hash);
        Arc::make_mut(&mut self.shards[i]).insert_unique(hash, row, &hasher);
        self.len += 1;
        if self.len > self.shards.len() * SHARD {
            self.split(hasher);
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, hash: u64, eq: impl FnMut(&Arc<Row>) -> bool) -> Option<Arc<Row>> {
        let i = self.shard(hash);
        let entry = Arc::make_mut(&mut self.shards[i]).find_entry(hash, eq);
        let (row, _) = entry.ok()?.remove();
        self.len -= 1;
        Some(row)
    }

    /// Puts a row in the place of one with the same hash.
    pub fn exchange(
        &mut self,
        hash: u64,
        row: Arc<Row>,
        eq: impl FnMut(&Arc<Row>) -> bool,
    ) -> Result<Arc<Row>, Arc<Row>> {
        let i = self.shard(hash);
        match Arc::make_mut(&mut self.shards[i]).find_mut(hash, eq) {
            Some(place) => Ok(std::mem::replace(place, row)),
            None => Err(row),
        }
    }

    /// Adds a shard.
    fn split(&mut self, hasher: impl Fn(&Arc<Row>) -> u64) {
        let n = self.shards.len();
        let mask = (n + 1).next_power_of_two() - 1;
        let from = Arc::make_mut(&mut self.shards[n & (mask >> 1)]);
        let mut new = HashTable::with_capacity(from.len() / 2);
        for row in from.extract_if(|r| bits(hasher(r)) & mask == n) {
            new.insert_unique(hasher(&row), row, &hasher);
        }
        from.shrink_to_fit(&hasher);
        self.shards.push(Arc::new(new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatabaseSchema, Uuid};
    use std::hash::BuildHasher;

    #[test]
    fn rows_are_found_while_the_set_grows_and_copies_stay_as_they_were() {
        let schema = r#"{"name":"d","tables":{"t":{"columns":{"c":{"type":"integer"}}}}}"#;
        let schema = DatabaseSchema::from_json(&crate::json::parse(schema).unwrap()).unwrap();
        let table = schema.tables.values().next().unwrap();
        let state = foldhash::fast::FixedState::default();
        let hasher = |r: &Arc<Row>| state.hash_one(r.uuid);
        let id = |i: u64| {
            let text = format!("00000000-0000-4000-8000-{i:012x}");
            crate::uuid::parse(&text).unwrap()
        };
        let is = |u: Uuid| move |r: &Arc<Row>| r.uuid == u;
        let mut set = RowSet::default();
        let n = 20 * SHARD as u64;
        let mut copies = Vec::new();
        for i in 0..n {
            let row = Arc::new(Row::new(table, id(i)));
            set.insert(hasher(&row), row, hasher);
            if i % (3 * SHARD as u64) == 0 {
                copies.push((i + 1, set.clone()));
            }
        }
        assert_eq!(set.shards.len(), 20);
        let largest = set.shards.iter().map(|s| s.len()).max();
        assert!(largest < Some(3 * SHARD), "{largest:?}");
        for i in 0..n {
            let hash = state.hash_one(id(i));
            assert!(set.find(hash, is(id(i))).is_some());
            if i % 2 == 0 {
                assert!(set.remove(hash, is(id(i))).is_some());
            }
            assert_eq!(set.find(hash, is(id(i))).is_some(), i % 2 == 1);
        }
        assert_eq!(
            (set.len() as u64, set.iter().count() as u64),
            (n / 2, n / 2)
        );
        for (rows, copy) in copies {
            assert_eq!(
                (copy.len() as u64, copy.iter().count() as u64),
                (rows, rows)
            );
        }
    }
}
