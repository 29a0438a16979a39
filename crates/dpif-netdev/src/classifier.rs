//! The flows of one thread by what they match.
//!
//! ```text
//!   headers --> simple match: port whose flows look at little more than the EtherType ---> flow
//!   key, hash --> EMC: whole key equal --------------------------------------------------> flow
//!             --> signature cache: hash -> candidate, verified by mask ------------------> flow
//!             --> for each mask of the port, most used first: its hash table ------------> flow
//! ```
//!
//! The caches are in [`cache`](crate::cache). Flows are told apart by what is left of a key under a mask: a table
//! computes that once for a packet, and compares it with what the flow holds in one piece.

use std::sync::Arc;

use ferrovs_packet::flow::FLOW_WORDS;
use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::miniflow::{MiniRef, Minimask};
use ferrovs_packet::parse::Brief;
use hashbrown::HashTable;

use crate::flow::DpFlow;

/// The words of a mask, each with its place in a key.
#[derive(Debug)]
pub struct Units(Box<[(usize, u64)]>);

/// A key in which each word has its place, so that masks find theirs without counting bits. All zero between
/// uses.
pub struct Dense {
    words: Box<[u64; FLOW_WORDS]>,
    /// The key under the mask that was looked at last.
    masked: Box<[u64; FLOW_WORDS]>,
    /// What hashes in masks begin with.
    seed: u64,
}

/// A hash of words, of which every other goes into one of two halves: each step waits for the one before, and so two can
/// be under way.
struct Lanes(u64, u64);

impl Lanes {
    #[inline]
    fn new(seed: u64) -> Lanes {
        Lanes(seed, seed)
    }

    #[inline]
    fn pair(&mut self, [a, b]: [u64; 2]) {
        *self = Lanes(mix(self.0, a), mix(self.1, b));
    }

    #[inline]
    fn last(&mut self, word: u64) {
        self.0 = mix(self.0, word);
    }

    #[inline]
    fn hash(self) -> u64 {
        mix(self.0, self.1)
    }
}

impl Default for Dense {
    fn default() -> Dense {
        Dense {
            words: Box::new([0; FLOW_WORDS]),
            masked: Box::new([0; FLOW_WORDS]),
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

    /// Puts the key under a mask: its words there, and their hash.
    #[inline]
    fn mask(&mut self, mask: &Units) -> (&[u64], u64) {
        let Dense {
            words,
            masked,
            seed,
        } = self;
        let mut lanes = Lanes::new(*seed);
        let (pairs, last) = mask.0.as_chunks::<2>();
        let places = masked.as_chunks_mut::<2>().0;
        for (place, [(i, m), (j, n)]) in places.iter_mut().zip(pairs) {
            *place = [words[*i] & m, words[*j] & n];
            lanes.pair(*place);
        }
        let len = mask.0.len();
        if let [(i, m)] = last {
            masked[len - 1] = words[*i] & m;
            lanes.last(masked[len - 1]);
        }
        (&masked[..len], lanes.hash())
    }

    /// Whether the key has these words under the mask.
    #[inline]
    pub fn matches(&self, mask: &Units, want: &[u64]) -> bool {
        let mut pairs = mask.0.iter().zip(want);
        pairs.all(|((i, m), want)| self.words[*i] & m == *want)
    }
}

/// Flows that share a mask.
#[derive(Debug)]
pub struct Subtable {
    mask: Minimask,
    units: Arc<Units>,
    /// With their hashes, so that neither growth nor a lookup reads other flows.
    flows: HashTable<(u64, Arc<DpFlow>)>,
    /// Hits since the last ranking.
    hits: u64,
}

impl Subtable {
    fn new(mask: &Minimask) -> Subtable {
        Subtable {
            mask: mask.clone(),
            units: Arc::new(Units(mask.view().iter().collect())),
            flows: HashTable::new(),
            hits: 0,
        }
    }
}

/// As [`Dense::mask`] has it.
fn flow_hash(flow: &DpFlow) -> u64 {
    let mut lanes = Lanes::new(hash::seed());
    let (pairs, last) = flow.values().as_chunks::<2>();
    pairs.iter().for_each(|pair| lanes.pair(*pair));
    last.iter().for_each(|word| lanes.last(*word));
    lanes.hash()
}

fn brief_hash(brief: Brief) -> u64 {
    mix(hash::seed(), brief.0)
}

/// The masks and flows of one input port, the most used mask first.
#[derive(Debug, Default)]
pub struct Dpcls {
    subtables: Vec<Subtable>,
    n_flows: usize,
    /// Those of the flows that can be found without a whole key.
    simple: HashTable<(Brief, Arc<DpFlow>)>,
}

impl Dpcls {
    /// Whether no flow of the port needs a whole key.
    pub fn is_simple(&self) -> bool {
        self.n_flows == self.simple.len()
    }

    /// The flow that matches, if [`Dpcls::is_simple`].
    #[inline]
    pub fn simple(&self, brief: Brief) -> Option<&Arc<DpFlow>> {
        let same = |(b, flow): &(Brief, Arc<DpFlow>)| *b == brief && !flow.is_dead();
        let found = self.simple.find(brief_hash(brief), same);
        found.map(|(_, flow)| flow)
    }

    /// The flow that matches, and how many masks were tried.
    #[inline]
    pub fn lookup(&mut self, key: &mut Dense) -> (Option<&Arc<DpFlow>>, usize) {
        let tried = self.subtables.len();
        for (i, table) in self.subtables.iter_mut().enumerate() {
            let (masked, hash) = key.mask(&table.units);
            let same =
                |(h, f): &(u64, Arc<DpFlow>)| *h == hash && f.values() == masked && !f.is_dead();
            if let Some((_, flow)) = table.flows.find(hash, same) {
                table.hits += 1;
                return (Some(flow), i + 1);
            }
        }
        (None, tried)
    }

    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    /// Adds a flow and gives its mask, as tables have it.
    pub fn insert(&mut self, flow: Arc<DpFlow>) -> Arc<Units> {
        self.n_flows += 1;
        if let Some(brief) = flow.brief() {
            let hash = brief_hash(brief);
            let again = |(b, _): &(Brief, Arc<DpFlow>)| brief_hash(*b);
            self.simple
                .insert_unique(hash, (brief, flow.clone()), again);
        }
        let at = self.subtables.iter().position(|t| t.mask == *flow.mask());
        let at = at.unwrap_or_else(|| {
            self.subtables.push(Subtable::new(flow.mask()));
            self.subtables.len() - 1
        });
        let table = &mut self.subtables[at];
        let hash = flow_hash(&flow);
        table.flows.insert_unique(hash, (hash, flow), |(h, _)| *h);
        table.units.clone()
    }

    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let Some(at) = self.subtables.iter().position(|t| t.mask == *flow.mask()) else {
            return;
        };
        let table = &mut self.subtables[at];
        let found = table
            .flows
            .find_entry(flow_hash(flow), |(_, f)| Arc::ptr_eq(f, flow));
        let Ok(entry) = found else { return };
        entry.remove();
        self.n_flows -= 1;
        if table.flows.is_empty() {
            self.subtables.remove(at);
        }
        if let Some(brief) = flow.brief()
            && let Ok(entry) = self
                .simple
                .find_entry(brief_hash(brief), |(_, f)| Arc::ptr_eq(f, flow))
        {
            entry.remove();
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
        self.n_flows == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ferrovs_datapath::dpif::{PackedMatch, Ufid};
    use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
    use ferrovs_packet::miniflow::Miniflow;
    use proptest::prelude::*;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::cache::{Emc, FlowSlots, SignatureCache};

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
            Arc::new(PackedMatch::new(&m)),
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
                let flow = flow(0, &(key(ip), mask));
                let table = Subtable::new(flow.mask());
                dense.mask(&table.units).1 & 0xff
            };
            (1..100).map(dense).collect::<Vec<_>>()
        };
        assert_ne!(places(1), places(2));
        let seed = hash::seed();
        assert_eq!(places(seed), places(seed));
        let rules = (1..100).map(|ip| flow_hash(&flow(0, &(key(ip), mask))) & 0xff);
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
                let mask = dpcls.insert(f.clone());
                slots.insert(f, mask);
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
                    let wanted = flows.iter().any(|f| !f.is_dead() && f.matches(key));
                    // A hash with few values makes entries of the caches meet.
                    let hash = packet.nw_src.get() << 13 | u32::from(packet.nw_proto);
                    if let Some(f) = emc.lookup(hash, key) {
                        prop_assert!(f.matches(key) && !f.is_dead());
                    }
                    if let Some(f) = cache.lookup(hash, &dense, &slots) {
                        prop_assert!(f.matches(key) && !f.is_dead());
                    }
                    let found = dpcls.lookup(&mut dense).0.cloned();
                    prop_assert_eq!(found.is_some(), wanted);
                    if let Some(f) = found {
                        prop_assert!(f.matches(key) && !f.is_dead());
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
