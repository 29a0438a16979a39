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
        if let Some(e) = self.entries.get(Emc::places(hash)[0]) {
            prefetch::read(&e.hash);
            prefetch::read(&e.values[WORDS / 2]);
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

/// Buckets of the signature cache, a power of two, and places in each.
const BUCKETS: usize = 1 << 14;
const WAYS: usize = 4;

/// A hash and the slot of a flow, plus one; 0 for none.
type Place = (u32, u32);

/// Signature cache: which flow a packet with this hash hit last.
#[derive(Debug, Default)]
pub struct SignatureCache {
    buckets: Vec<[Place; WAYS]>,
    victim: usize,
}

impl SignatureCache {
    #[inline]
    fn bucket(hash: u32) -> usize {
        (hash ^ hash >> 16) as usize & (BUCKETS - 1)
    }

    /// A lookup of this hash will follow.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        if let Some(bucket) = self.buckets.get(SignatureCache::bucket(hash)) {
            prefetch::read(bucket);
        }
    }

    /// The number of a flow that may match.
    #[inline]
    pub fn lookup(&self, hash: u32) -> Option<u32> {
        let bucket = self.buckets.get(SignatureCache::bucket(hash))?;
        let &(_, slot) = bucket.iter().find(|p| p.0 == hash && p.1 != 0)?;
        Some(slot - 1)
    }

    /// Takes the place of an older entry with the same hash, a free place, or any.
    #[inline]
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, [(0, 0); WAYS]);
        }
        let bucket = &mut self.buckets[SignatureCache::bucket(hash)];
        let same = bucket.iter().position(|p| p.0 == hash && p.1 != 0);
        let at = same.or_else(|| bucket.iter().position(|p| p.1 == 0));
        let at = at.unwrap_or_else(|| {
            self.victim = (self.victim + 1) % WAYS;
            self.victim
        });
        bucket[at] = (hash, slot + 1);
    }
}
