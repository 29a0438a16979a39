//! Caches of one thread: which flow a packet like this one hit last.
//!
//! They hold candidates and are never flushed: whatever they give is verified against the packet's key, and a flow
//! that was removed is dead. The exact-match cache compares whole keys; the signature cache takes a flow whose hash
//! is that of the packet and compares what the flow matches. So a packet of a stream that was seen before compares
//! one flow instead of walking all masks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ferrovs_packet::miniflow::{FlowMap, MiniRef};
use ferrovs_sys::prefetch;
use smallvec::SmallVec;

use crate::classifier::{Dense, Units};
use crate::flow::DpFlow;

/// Entries of the exact-match cache, a power of two.
const EMC_ENTRIES: usize = 8192;

#[derive(Debug, Default)]
#[repr(C)]
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
    /// Where the sweep is, and how many entries it has still to look at.
    swept: usize,
    stale: usize,
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
            prefetch::read(&e.flow);
        }
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

    /// Some flow has died; entries may hold it.
    pub fn flow_died(&mut self) {
        self.stale = self.entries.len();
    }

    /// Lets go of flows that are dead, a part of the cache at each call; nothing when none has died.
    #[inline]
    pub fn slow_sweep(&mut self) {
        if self.stale > 0 {
            self.sweep();
        }
    }

    #[cold]
    fn sweep(&mut self) {
        let n = self.stale.min(64);
        self.stale -= n;
        for _ in 0..n {
            let e = &mut self.entries[self.swept];
            if e.flow.as_ref().is_some_and(|f| f.is_dead()) {
                e.flow = None;
            }
            self.swept = (self.swept + 1) % EMC_ENTRIES;
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
        let (flow, mask) = flows.slots.get(slot as usize - 1)?.as_ref()?;
        (key.matches(mask, flow.values()) && !flow.is_dead()).then_some(flow)
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

/// Small numbers for the flows of a thread, and the mask of each.
#[derive(Debug, Default)]
pub struct FlowSlots {
    slots: Vec<Option<(Arc<DpFlow>, Arc<Units>)>>,
    free: Vec<u32>,
}

impl FlowSlots {
    pub fn insert(&mut self, flow: &Arc<DpFlow>, mask: Arc<Units>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some((flow.clone(), mask));
        flow.slot.store(slot, Relaxed);
    }

    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let slot = flow.slot.load(Relaxed);
        if let Some(place) = self.slots.get_mut(slot as usize)
            && place.as_ref().is_some_and(|(f, _)| Arc::ptr_eq(f, flow))
        {
            *place = None;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::dpif::Ufid;
    use ferrovs_packet::flow::Flow;
    use ferrovs_packet::miniflow::Miniflow;
    use ferrovs_runtime::clock;

    use super::*;

    #[test]
    fn the_sweep_lets_go_of_dead_flows_and_then_rests() {
        let key = Miniflow::new(&Flow {
            in_port: 1,
            ..Flow::default()
        });
        let flow = |n| {
            let new = DpFlow::new(Ufid(n), Arc::default(), Arc::default(), clock::now());
            Arc::new(new)
        };
        let (dies, lives) = (flow(1), flow(2));
        let mut emc = Emc::default();
        emc.insert(0x1_2345, key.view(), &dies);
        emc.insert(0x1_2346, key.view(), &lives);
        dies.dead.store(true, Relaxed);
        emc.slow_sweep();
        assert_eq!(emc.stale, 0);
        assert_eq!(Arc::strong_count(&dies), 2);
        emc.flow_died();
        while emc.stale > 0 {
            emc.slow_sweep();
        }
        assert_eq!(
            (Arc::strong_count(&dies), Arc::strong_count(&lives)),
            (1, 2)
        );
    }
}
