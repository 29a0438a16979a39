//! Caches of one thread: which flow a packet like this one hit last.
//!
//! They hold candidates and are never flushed: whatever they give is verified against the packet's key, and a flow
//! that was removed is dead. The exact-match cache compares whole keys; the signature cache takes a flow whose hash
//! is that of the packet and compares what the flow matches. So a packet of a stream that was seen before compares
//! one flow instead of walking all masks.

use ferrovs_packet::miniflow::{FlowMap, MiniRef};
use ferrovs_sys::prefetch;

use crate::slots::{FlowRef, Slots};

/// Entries of the exact-match cache, a power of two.
const EMC_ENTRIES: usize = 8192;
/// Words that a key in the exact-match cache has at most: those of all but odd packets.
const WORDS: usize = 12;

/// Two cache lines.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
struct EmcEntry {
    hash: u32,
    /// Number of words; 0 in an entry that is free.
    len: u32,
    flow: FlowRef,
    map: FlowMap,
    values: [u64; WORDS],
}

impl EmcEntry {
    #[inline]
    fn is(&self, hash: u32, key: MiniRef<'_>) -> bool {
        self.hash == hash
            && self.map == key.map
            && self.len as usize == key.values.len()
            && self.values.iter().zip(key.values).all(|(a, b)| a == b)
    }
}

/// Exact-match cache: whole keys, each in one of two places that its hash says.
#[derive(Debug, Default)]
pub struct Emc {
    entries: Vec<EmcEntry>,
}

impl Emc {
    fn places(hash: u32) -> [usize; 2] {
        [
            hash as usize & (EMC_ENTRIES - 1),
            hash as usize >> 13 & (EMC_ENTRIES - 1),
        ]
    }

    /// A lookup of this hash will follow.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        // Most entries that are not the key's are known by their beginning.
        for e in Emc::places(hash).map(|at| self.entries.get(at)) {
            e.inspect(|e| prefetch::read(&e.hash));
        }
    }

    #[inline]
    pub fn lookup(&self, hash: u32, key: MiniRef<'_>) -> Option<FlowRef> {
        let places = Emc::places(hash);
        let mut entries = places.iter().filter_map(|at| self.entries.get(*at));
        let entry = entries.find(|e| e.is(hash, key) && e.len != 0)?;
        Some(entry.flow)
    }

    pub fn insert(&mut self, hash: u32, key: MiniRef<'_>, flow: FlowRef, flows: &Slots) {
        if key.values.len() > WORDS {
            return;
        }
        if self.entries.is_empty() {
            self.entries.resize(EMC_ENTRIES, EmcEntry::default());
        }
        let [first, second] = Emc::places(hash);
        let free = |at: usize| {
            let e = &self.entries[at];
            e.len == 0 || !flows.is(e.flow)
        };
        let is = |at: usize| self.entries[at].is(hash, key);
        // The place that it has; else a free place; else the one with the smaller hash: the choice is only to be stable.
        let at = match (is(first), is(second)) {
            (true, _) => first,
            (_, true) => second,
            _ if free(first) => first,
            _ if free(second) => second,
            _ if self.entries[second].hash < self.entries[first].hash => second,
            _ => first,
        };
        let e = &mut self.entries[at];
        (e.hash, e.len, e.flow, e.map) = (hash, key.values.len() as u32, flow, key.map);
        e.values[..key.values.len()].copy_from_slice(key.values);
    }
}

/// Buckets of the signature cache at first and at most, powers of two, and places in each.
const BUCKETS: usize = 1 << 14;
const MAX_BUCKETS: usize = 1 << 19;
const WAYS: usize = 4;

/// A hash and the slot of a flow, plus one; 0 for none.
type Place = (u32, u32);

/// Signature cache: which flow a packet with this hash hit last. It grows while there are more streams than places.
#[derive(Debug, Default)]
pub struct SignatureCache {
    buckets: Vec<[Place; WAYS]>,
    victim: usize,
    /// Places that were taken from others of late.
    evicted: usize,
}

impl SignatureCache {
    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        (hash ^ hash >> 16) as usize & self.buckets.len().wrapping_sub(1)
    }

    /// A lookup of this hash will follow.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        if let Some(bucket) = self.buckets.get(self.bucket(hash)) {
            prefetch::read(bucket);
        }
    }

    /// The number of a flow that may match.
    #[inline]
    pub fn lookup(&self, hash: u32) -> Option<u32> {
        let bucket = self.buckets.get(self.bucket(hash))?;
        let &(_, slot) = bucket.iter().find(|p| p.0 == hash && p.1 != 0)?;
        Some(slot - 1)
    }

    /// Takes the place of an older entry with the same hash, a free place, or any.
    #[inline]
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if self.evicted >= self.buckets.len() * WAYS {
            self.grow();
        }
        let at = self.bucket(hash);
        let bucket = &mut self.buckets[at];
        let same = bucket.iter().position(|p| p.0 == hash && p.1 != 0);
        let at = same.or_else(|| bucket.iter().position(|p| p.1 == 0));
        let at = at.unwrap_or_else(|| {
            self.evicted += 1;
            self.victim = (self.victim + 1) % WAYS;
            self.victim
        });
        bucket[at] = (hash, slot + 1);
    }

    /// Every second: what was pushed out long ago counts for less.
    pub fn age(&mut self) {
        self.evicted /= 2;
    }

    /// Makes room for twice as many, or for the first. What was known is soon known again.
    #[cold]
    fn grow(&mut self) {
        let n = (self.buckets.len() * 2).clamp(BUCKETS, MAX_BUCKETS);
        if n != self.buckets.len() {
            self.buckets = vec![[(0, 0); WAYS]; n];
        }
        self.evicted = 0;
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::hash::{fold32, mix};

    use super::*;

    #[test]
    fn the_signature_cache_grows_while_streams_push_each_other_out() {
        let mut cache = SignatureCache::default();
        let hash = |n: u32| fold32(mix(1, n.into()));
        let known = |cache: &SignatureCache, n| {
            (0..n)
                .filter(|i| cache.lookup(hash(*i)) == Some(*i))
                .count()
        };
        let round = |cache: &mut SignatureCache, n| {
            for i in (0..n).map(|i: u32| (hash(i), i)) {
                if cache.lookup(i.0) != Some(i.1) {
                    cache.insert(i.0, i.1);
                }
            }
        };
        round(&mut cache, 30_000);
        assert_eq!(cache.buckets.len(), BUCKETS);
        assert!(known(&cache, 30_000) > 29_000);
        for _ in 0..20 {
            round(&mut cache, 300_000);
        }
        assert!(cache.buckets.len() > BUCKETS && known(&cache, 300_000) > 280_000);
        // There is an end to it.
        for i in 0..10_000_000 {
            cache.insert(hash(i), i);
        }
        assert_eq!(cache.buckets.len(), MAX_BUCKETS);
    }
}
