//! The lookup tables of one thread: exact-match cache, signature cache, and one hash table for each mask.
//!
//! ```text
//!   key, hash --> EMC: whole key equal ----------------------------------> flow
//!             --> signature cache: hash -> candidate, verified by mask --> flow
//!             --> for each mask of the port, most used first: ------------> flow
//! ```
//!
//! The caches hold candidates and are never flushed: whatever they give is verified against the packet's key,
//! and a flow that was removed is dead. The signature cache bounds the cost of many masks, because a packet of
//! a stream that was seen before compares one flow instead of walking all masks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ferrovs_packet::flow::FLOW_WORDS;
use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::miniflow::{FlowMap, MiniRef, Minimask};
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::flow::DpFlow;

/// A key in which each word has its place, so that masks find theirs without counting bits. All zero between
/// uses.
pub struct Dense {
    words: Box<[u64; FLOW_WORDS]>,
    /// What hashes in masks begin with.
    seed: u64,
}

impl Default for Dense {
    fn default() -> Dense {
        Dense {
            words: Box::new([0; FLOW_WORDS]),
            seed: hash::seed(),
        }
    }
}

impl Dense {
    #[inline]
    pub fn fill(&mut self, key: MiniRef<'_>) {
        for (i, word) in key.iter() {
            self.words[i] = word;
        }
    }

    /// Undoes [`Dense::fill`].
    #[inline]
    pub fn clear(&mut self, key: MiniRef<'_>) {
        for i in key.map.iter() {
            self.words[i] = 0;
        }
    }

    /// As [`MiniRef::hash_in_mask`].
    #[inline]
    fn hash_in_mask(&self, mask: MiniRef<'_>) -> u64 {
        mask.iter()
            .fold(self.seed, |h, (i, m)| mix(h, self.words[i] & m))
    }

    #[inline]
    fn matches(&self, flow: &DpFlow) -> bool {
        let want = flow.rule.flow.view().values;
        let mut pairs = flow.rule.mask.view().iter().zip(want);
        pairs.all(|((i, m), want)| self.words[i] & m == *want) && !flow.is_dead()
    }
}

/// Flows that share a mask.
#[derive(Debug)]
pub struct Subtable {
    mask: Minimask,
    flows: HashTable<Arc<DpFlow>>,
    /// Hits since the last ranking.
    hits: u64,
}

fn rule_hash(flow: &DpFlow) -> u64 {
    flow.rule
        .flow
        .view()
        .hash_in_mask(flow.rule.mask.view(), hash::seed())
}

/// The masks and flows of one input port, the most used mask first.
#[derive(Debug, Default)]
pub struct Dpcls {
    subtables: Vec<Subtable>,
}

impl Dpcls {
    /// The flow that matches, and how many masks were tried.
    #[inline]
    pub fn lookup(&mut self, key: &Dense) -> (Option<&Arc<DpFlow>>, usize) {
        let tried = self.subtables.len();
        for (i, table) in self.subtables.iter_mut().enumerate() {
            let hash = key.hash_in_mask(table.mask.view());
            if let Some(flow) = table.flows.find(hash, |f| key.matches(f)) {
                table.hits += 1;
                return (Some(flow), i + 1);
            }
        }
        (None, tried)
    }

    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    pub fn insert(&mut self, flow: Arc<DpFlow>) {
        let at = self
            .subtables
            .iter()
            .position(|t| t.mask == flow.rule.mask)
            .unwrap_or_else(|| {
                self.subtables.push(Subtable {
                    mask: flow.rule.mask.clone(),
                    flows: HashTable::new(),
                    hits: 0,
                });
                self.subtables.len() - 1
            });
        let hash = rule_hash(&flow);
        self.subtables[at]
            .flows
            .insert_unique(hash, flow, |f| rule_hash(f));
    }

    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let Some(at) = self.subtables.iter().position(|t| t.mask == flow.rule.mask) else {
            return;
        };
        let table = &mut self.subtables[at];
        if let Ok(entry) = table
            .flows
            .find_entry(rule_hash(flow), |f| Arc::ptr_eq(f, flow))
        {
            entry.remove();
        }
        if table.flows.is_empty() {
            self.subtables.remove(at);
        }
    }

    /// Puts the masks that were hit most first and begins to count anew.
    pub fn rank(&mut self) {
        self.subtables.sort_by_key(|t| std::cmp::Reverse(t.hits));
        for table in &mut self.subtables {
            table.hits = 0;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.subtables.is_empty()
    }
}

/// Entries of the exact-match cache, a power of two.
const EMC_ENTRIES: usize = 8192;

#[derive(Debug, Default)]
struct EmcEntry {
    hash: u32,
    map: FlowMap,
    values: SmallVec<[u64; 12]>,
    flow: Option<Arc<DpFlow>>,
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

    #[inline]
    pub fn lookup(&self, hash: u32, key: MiniRef<'_>) -> Option<&Arc<DpFlow>> {
        if self.entries.is_empty() {
            return None;
        }
        for at in Emc::places(hash) {
            let e = &self.entries[at];
            if e.hash == hash
                && e.map == key.map
                && let Some(flow) = &e.flow
                && e.values[..] == *key.values
                && !flow.is_dead()
            {
                return Some(flow);
            }
        }
        None
    }

    pub fn insert(&mut self, hash: u32, key: MiniRef<'_>, flow: &Arc<DpFlow>) {
        if self.entries.is_empty() {
            self.entries.resize_with(EMC_ENTRIES, EmcEntry::default);
        }
        let mut victim = None;
        for at in Emc::places(hash) {
            let e = &self.entries[at];
            let alive = e.flow.as_ref().is_some_and(|f| !f.is_dead());
            if e.hash == hash && e.map == key.map && e.values[..] == *key.values {
                victim = Some(at);
                break;
            }
            // A free or dead place first, else the one with the smaller hash: the choice is only to be stable.
            victim = match victim {
                None => Some(at),
                Some(v) if !alive && self.entries[v].flow.is_some() => Some(at),
                Some(v)
                    if alive && self.entries[v].flow.is_some() && e.hash < self.entries[v].hash =>
                {
                    Some(at)
                }
                keep => keep,
            };
        }
        let Some(at) = victim else { return };
        let e = &mut self.entries[at];
        e.hash = hash;
        e.map = key.map;
        e.values.clear();
        e.values.extend_from_slice(key.values);
        e.flow = Some(flow.clone());
    }

    /// Lets go of flows that are dead, a part of the cache at each call.
    pub fn slow_sweep(&mut self, at: &mut usize) {
        if self.entries.is_empty() {
            return;
        }
        for _ in 0..64 {
            let e = &mut self.entries[*at & (EMC_ENTRIES - 1)];
            if e.flow.as_ref().is_some_and(|f| f.is_dead()) {
                e.flow = None;
            }
            *at = at.wrapping_add(1);
        }
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

    #[inline]
    pub fn lookup<'a>(
        &self,
        hash: u32,
        key: &Dense,
        flows: &'a FlowSlots,
    ) -> Option<&'a Arc<DpFlow>> {
        let bucket = self.buckets.get(SignatureCache::bucket(hash))?;
        let &(_, slot) = bucket.iter().find(|p| p.0 == hash && p.1 != 0)?;
        let flow = flows.slots.get(slot as usize - 1)?.as_ref()?;
        key.matches(flow).then_some(flow)
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

/// Small numbers for the flows of a thread.
#[derive(Debug, Default)]
pub struct FlowSlots {
    slots: Vec<Option<Arc<DpFlow>>>,
    free: Vec<u32>,
}

impl FlowSlots {
    pub fn insert(&mut self, flow: &Arc<DpFlow>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(flow.clone());
        flow.slot.store(slot, Relaxed);
    }

    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let slot = flow.slot.load(Relaxed);
        if let Some(place) = self.slots.get_mut(slot as usize)
            && place.as_ref().is_some_and(|f| Arc::ptr_eq(f, flow))
        {
            *place = None;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ferrovs_datapath::dpif::Ufid;
    use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
    use ferrovs_packet::miniflow::Miniflow;
    use proptest::prelude::*;

    use super::*;

    /// Keys and masks that often meet: a few members, few bits.
    fn key() -> impl Strategy<Value = Flow> {
        (0..4u32, 0..4u8, 0..4u16, 0..4u32).prop_map(|(ip, proto, port, mark)| Flow {
            nw_src: ip.into(),
            nw_proto: proto,
            tp_dst: port.into(),
            pkt_mark: mark,
            ..Flow::default()
        })
    }

    #[allow(clippy::disallowed_methods)]
    fn flow(n: usize, (key, mask): &(Flow, Flow)) -> Arc<DpFlow> {
        let m = Match {
            flow: *key,
            wc: FlowWildcards { masks: *mask },
        };
        Arc::new(DpFlow::new(
            Ufid(n as u128),
            &m,
            Arc::default(),
            Instant::now(),
        ))
    }

    #[test]
    fn nobody_knows_in_advance_which_flows_meet_in_a_table() {
        let exact = FlowWildcards::for_packet(&Flow::default()).masks;
        let key = |ip: u32| Flow {
            nw_src: ip.into(),
            ..Flow::default()
        };
        let mask = Flow {
            nw_src: u32::MAX.into(),
            ..exact
        };
        let places = |seed: u64| {
            let dense = |ip| {
                let mut dense = Dense {
                    seed,
                    ..Dense::default()
                };
                dense.fill(Miniflow::new(&key(ip)).view());
                dense.hash_in_mask(flow(0, &(key(ip), mask)).rule.mask.view()) & 0xff
            };
            (1..100).map(dense).collect::<Vec<_>>()
        };
        assert_ne!(places(1), places(2));
        let seed = hash::seed();
        assert_eq!(places(seed), places(seed));
        let rules = (1..100).map(|ip| rule_hash(&flow(0, &(key(ip), mask))) & 0xff);
        assert_eq!(rules.collect::<Vec<_>>(), places(seed));
    }

    proptest! {
        #[test]
        fn a_lookup_finds_a_flow_that_matches_if_there_is_one(
            rules in prop::collection::vec((key(), key()), 0..40),
            removed in prop::collection::vec(any::<bool>(), 40),
            packets in prop::collection::vec(key(), 1..60),
        ) {
            let flows: Vec<_> = rules.iter().enumerate().map(|(n, r)| flow(n, r)).collect();
            let (mut dpcls, mut emc) = (Dpcls::default(), Emc::default());
            let mut dense = Dense::default();
            let (mut cache, mut slots) = (SignatureCache::default(), FlowSlots::default());
            for f in &flows {
                dpcls.insert(f.clone());
                slots.insert(f);
            }
            for round in 0..2 {
                if round == 1 {
                    for (f, _) in flows.iter().zip(&removed).filter(|(_, r)| **r) {
                        f.dead.store(true, Relaxed);
                        dpcls.remove(f);
                        slots.remove(f);
                    }
                    dpcls.rank();
                }
                for packet in &packets {
                    let mini = Miniflow::new(packet);
                    let key = mini.view();
                    dense.fill(key);
                    let wanted = flows.iter().any(|f| !f.is_dead() && f.rule.matches(key));
                    // A hash with few values makes entries of the caches meet.
                    let hash = packet.nw_src.get() << 13 | u32::from(packet.nw_proto);
                    if let Some(f) = emc.lookup(hash, key) {
                        prop_assert!(f.rule.matches(key) && !f.is_dead());
                    }
                    if let Some(f) = cache.lookup(hash, &dense, &slots) {
                        prop_assert!(f.rule.matches(key) && !f.is_dead());
                    }
                    let found = dpcls.lookup(&dense).0.cloned();
                    prop_assert_eq!(found.is_some(), wanted);
                    if let Some(f) = found {
                        prop_assert!(f.rule.matches(key) && !f.is_dead());
                        emc.insert(hash, key, &f);
                        prop_assert!(Arc::ptr_eq(emc.lookup(hash, key).unwrap(), &f));
                        cache.insert(hash, f.slot.load(Relaxed));
                        prop_assert!(cache.lookup(hash, &dense, &slots).is_some());
                    }
                    dense.clear(key);
                    prop_assert!(dense.words.iter().all(|w| *w == 0));
                }
            }
        }
    }
}
