//! A sorted map whose versions share what is the same in them.
//!
//! A snapshot of a thousand ports in which one is new shares all but a few dozen entries with the one before. The
//! entries lie in chunks; a copy shares them, and a change copies the one that it touches.

use std::borrow::Borrow;
use std::sync::Arc;

/// Entries that a chunk may have.
const CHUNK: usize = 64;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct SharedMap<K, V> {
    /// None is empty; each begins with its least key, which stands before it.
    chunks: Vec<(K, Arc<Vec<(K, V)>>)>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        SharedMap {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunk that has a key, if any has.
    fn chunk<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let after = self
            .chunks
            .partition_point(|(first, _)| first.borrow() <= key);
        after.saturating_sub(1)
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (_, chunk) = self.chunks.get(self.chunk(key))?;
        let at = chunk.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&chunk[at].1)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let i = self.chunk(&key);
        let Some((first, chunk)) = self.chunks.get_mut(i) else {
            self.chunks
                .push((key.clone(), Arc::new(vec![(key, value)])));
            self.len = 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        let at = match entries.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => return Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => at,
        };
        if at == 0 {
            *first = key.clone();
        }
        entries.insert(at, (key, value));
        self.len += 1;
        if entries.len() > CHUNK {
            // What comes at the end as a rule leaves chunks that are nearly full.
            let at = if at == CHUNK { CHUNK } else { CHUNK / 2 };
            let rest = entries.split_off(at);
            self.chunks
                .insert(i + 1, (rest[0].0.clone(), Arc::new(rest)));
        }
        None
    }

    /// Takes a key out; returns the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let i = self.chunk(key);
        let (first, chunk) = self.chunks.get_mut(i)?;
        let at = chunk.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        let entries = Arc::make_mut(chunk);
        let (_, value) = entries.remove(at);
        self.len -= 1;
        match entries.first() {
            Some((least, _)) => *first = least.clone(),
            None => drop(self.chunks.remove(i)),
        }
        Some(value)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.chunks.iter().flat_map(|(_, chunk)| &**chunk);
        entries.map(|(k, v)| (k, v))
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, v)| v)
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SharedMap::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_and_copies_stay_as_they_were(
            edits in prop::collection::vec((0u32..400, any::<bool>()), 0..2000),
        ) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let mut old = Vec::new();
            for (i, (key, insert)) in edits.into_iter().enumerate() {
                if i % 97 == 0 {
                    old.push((map.clone(), model.clone()));
                }
                if insert {
                    prop_assert_eq!(map.insert(key, i), model.insert(key, i));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            old.push((map, model));
            for (map, model) in old {
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().eq(model.iter()));
                for key in 0..400 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let map: SharedMap<u32, u32> = (0..1000).map(|i| (i, i)).collect();
        let mut next = map.clone();
        next.insert(1000, 0);
        next.insert(500, 7);
        let same = |(a, b): &(&(u32, Arc<_>), &(u32, Arc<_>))| Arc::ptr_eq(&a.1, &b.1);
        let shared = map.chunks.iter().zip(&next.chunks).filter(same).count();
        assert!(map.chunks.len() <= 17 && shared >= map.chunks.len() - 2);
    }
}
