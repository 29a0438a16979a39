//! The flows of one thread by what they match.
//!
//! ```text
//!   headers --> simple match: port whose flows look at little more than the EtherType ---> flow
//!   key, hash --> EMC: whole key equal --------------------------------------------------> flow
//!             --> signature cache: hash -> candidate, verified by mask ------------------> flow
//!             --> for each mask of the port, most used first: its hash table ------------> flow
//!                 (of more than a few, for those that a tree says may have it)
//! ```
//!
//! The caches are in [`cache`](crate::cache). Flows are told apart by what is left of a key under a mask: a table
//! computes that once for a packet, and compares it with what the flow holds in one piece.

use std::sync::Arc;

use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::miniflow::{FlowMap, MiniRef, MiniflowBuf, Minimask};
use ferrovs_packet::parse::Brief;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::flow::{DpFlow, mask_words};
use crate::masks::{self, Masks, Tables};
use crate::plan::{self, Masked, Plans};
use crate::slots::Slots;

/// Flows that share a mask.
#[derive(Debug)]
pub struct Subtable {
    /// The words that packets are compared in, and what matters of each.
    words: FlowMap,
    masks: Box<[u64]>,
    plan: u32,
    /// By number, with their hashes, so that neither growth nor a lookup reads other flows.
    flows: HashTable<(u64, u32)>,
    /// The flow that was hit last.
    last: u32,
    /// Hits since the last ranking.
    hits: u64,
}

/// What a lookup needs to know of the flows of its thread.
pub struct Known<'a> {
    pub slots: &'a Slots,
    pub plans: &'a mut Plans,
    pub room: &'a mut Masked,
    /// What hashes in masks begin with.
    pub seed: u64,
}

fn brief_hash(brief: Brief) -> u64 {
    mix(hash::seed(), brief.0)
}

impl Subtable {
    fn new(mask: &Minimask, plan: u32) -> Subtable {
        let mut words = FlowMap::EMPTY;
        mask_words(mask.view()).for_each(|(i, _)| words.set(i));
        Subtable {
            words,
            masks: mask_words(mask.view()).map(|(_, mask)| mask).collect(),
            plan,
            flows: HashTable::new(),
            last: u32::MAX,
            hits: 0,
        }
    }

    fn mask(&self) -> MiniRef<'_> {
        MiniRef {
            map: self.words,
            values: &self.masks,
        }
    }

    /// What a packet must have for one of the flows.
    fn words<'a>(&self, flow: &'a DpFlow) -> MiniRef<'a> {
        MiniRef {
            map: self.words,
            values: flow.values(),
        }
    }

    /// The flow that matches.
    #[inline(always)]
    fn lookup(&mut self, key: &MiniflowBuf, known: &mut Known<'_>) -> Option<u32> {
        let plan = known.plans.get(self.plan)?;
        let own = |slot: u32| {
            let flow = known.slots.alive(slot);
            flow.filter(|(_, plan)| *plan == self.plan).map(|(f, _)| f)
        };
        // Packets for the same flow often follow each other.
        if own(self.last).is_none_or(|f| !plan.matches(key, f.values())) {
            let masked = plan.under(key, known.room);
            let hash = plan::hash(masked, known.seed);
            let is = |f: &DpFlow| f.values().iter().eq(masked.iter());
            let same = |&(h, slot): &(u64, u32)| h == hash && own(slot).is_some_and(is);
            self.last = self.flows.find(hash, same)?.1;
        }
        self.hits += 1;
        Some(self.last)
    }
}

/// The masks and flows of one input port.
#[derive(Debug, Default)]
pub struct Dpcls {
    subtables: Vec<Option<Subtable>>,
    free: Vec<u32>,
    by_mask: HashMap<Minimask, u32, RandomState>,
    /// The subtables that there are, the most used first.
    ranked: Vec<u32>,
    /// Tells them apart where there are more than a few.
    tree: Option<Masks>,
    n_flows: usize,
    /// Those of the flows that can be found without a whole key.
    simple: HashTable<(Brief, u32)>,
}

impl Dpcls {
    /// Whether no flow of the port needs a whole key.
    pub fn is_simple(&self) -> bool {
        self.n_flows == self.simple.len()
    }

    /// The flow that matches, if [`Dpcls::is_simple`].
    #[inline]
    pub fn simple(&self, brief: Brief, slots: &Slots) -> Option<u32> {
        let same = |&(b, slot): &(Brief, u32)| b == brief && slots.alive(slot).is_some();
        let found = self.simple.find(brief_hash(brief), same);
        found.map(|&(_, slot)| slot)
    }

    /// The flow that matches, and how many masks were tried.
    #[inline]
    pub fn lookup(&mut self, key: &MiniflowBuf, known: &mut Known<'_>) -> (Option<u32>, usize) {
        if self.tree.is_some() {
            return self.lookup_in_tree(key, known);
        }
        for (i, at) in self.ranked.iter().enumerate() {
            if let Some(table) = &mut self.subtables[*at as usize]
                && let Some(slot) = table.lookup(key, known)
            {
                return (Some(slot), i + 1);
            }
        }
        (None, self.ranked.len())
    }

    #[inline(never)]
    fn lookup_in_tree(&mut self, key: &MiniflowBuf, known: &mut Known<'_>) -> (Option<u32>, usize) {
        let mut tried = 0;
        let subtables = &mut self.subtables;
        let mut look = |at: u32| {
            tried += 1;
            subtables.get_mut(at as usize)?.as_mut()?.lookup(key, known)
        };
        let tree = self.tree.as_ref();
        let hit = tree.and_then(|tree| tree.find(key.view(), &mut look));
        (hit, tried)
    }

    pub fn masks(&self) -> usize {
        self.ranked.len()
    }

    /// Adds a flow, and gives it a number.
    pub fn insert(&mut self, flow: &Arc<DpFlow>, slots: &mut Slots, plans: &mut Plans, seed: u64) {
        let at = match self.by_mask.get(flow.mask()) {
            Some(at) => *at,
            None => self.add_mask(flow.mask(), plans),
        };
        let Some(table) = &mut self.subtables[at as usize] else {
            return;
        };
        let slot = slots.insert(flow, table.plan);
        let hash = plan::hash(flow.values(), seed);
        table.flows.insert_unique(hash, (hash, slot), |(h, _)| *h);
        self.n_flows += 1;
        if let Some(brief) = flow.brief() {
            let again = |(b, _): &(Brief, u32)| brief_hash(*b);
            let new = (brief, slot);
            self.simple.insert_unique(brief_hash(brief), new, again);
        }
        let tables = View(&self.subtables, slots);
        match (&mut self.tree, tables.get(at)) {
            (Some(tree), Some(table)) => tree.insert(at, table.words(flow), &tables),
            (None, _) if self.ranked.len() > masks::FEW => {
                self.tree = Some(Masks::new(self.ranked.iter().copied(), &tables));
            }
            _ => {}
        }
    }

    #[cold]
    fn add_mask(&mut self, mask: &Minimask, plans: &mut Plans) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.subtables.push(None);
            self.subtables.len() as u32 - 1
        });
        self.subtables[at as usize] = Some(Subtable::new(mask, plans.add(mask)));
        self.by_mask.insert(mask.clone(), at);
        self.ranked.push(at);
        at
    }

    /// Forgets a flow and its number.
    pub fn remove(&mut self, flow: &Arc<DpFlow>, slots: &mut Slots, plans: &mut Plans, seed: u64) {
        let (Some(&at), Some(slot)) = (self.by_mask.get(flow.mask()), slots.remove(flow)) else {
            return;
        };
        let Some(table) = &mut self.subtables[at as usize] else {
            return;
        };
        let hash = plan::hash(flow.values(), seed);
        if let Ok(entry) = table.flows.find_entry(hash, |(_, s)| *s == slot) {
            entry.remove();
        }
        self.n_flows -= 1;
        if let Some(tree) = &mut self.tree {
            tree.remove(at, table.words(flow), table.mask());
        }
        if table.flows.is_empty() {
            plans.remove(table.plan);
            self.subtables[at as usize] = None;
            self.free.push(at);
            self.by_mask.remove(flow.mask());
            self.ranked.retain(|other| *other != at);
            if self.ranked.len() <= masks::FEW / 2 {
                self.tree = None;
            }
        }
        if let Some(brief) = flow.brief()
            && let Ok(entry) = self
                .simple
                .find_entry(brief_hash(brief), |(_, s)| *s == slot)
        {
            entry.remove();
        }
    }

    /// Puts the masks that were hit most first and begins to count anew.
    pub fn rank(&mut self) {
        if self.tree.is_some() {
            // It decides what is looked at.
            return;
        }
        let hits = |at: &u32| self.subtables[*at as usize].as_ref().map_or(0, |t| t.hits);
        self.ranked.sort_by_key(|at| std::cmp::Reverse(hits(at)));
        for table in self.subtables.iter_mut().flatten() {
            table.hits = 0;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.n_flows == 0
    }
}

/// The tables as the tree over their masks sees them.
struct View<'a>(&'a [Option<Subtable>], &'a Slots);

impl View<'_> {
    fn get(&self, table: u32) -> Option<&Subtable> {
        self.0.get(table as usize)?.as_ref()
    }
}

impl Tables for View<'_> {
    fn mask(&self, table: u32) -> MiniRef<'_> {
        const NONE: MiniRef<'_> = MiniRef {
            map: FlowMap::EMPTY,
            values: &[],
        };
        self.get(table).map_or(NONE, Subtable::mask)
    }

    fn len(&self, table: u32) -> usize {
        self.get(table).map_or(0, |t| t.flows.len())
    }

    fn for_each(&self, table: u32, visit: &mut dyn FnMut(MiniRef<'_>)) {
        let Some(table) = self.get(table) else { return };
        for flow in table.flows.iter().filter_map(|(_, slot)| self.1.get(*slot)) {
            visit(table.words(flow));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ferrovs_datapath::dpif::{PackedMatch, Ufid};
    use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
    use proptest::prelude::*;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::cache::{Emc, SignatureCache};

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
            let place = |ip| plan::hash(flow(0, &(key(ip), mask)).values(), seed) & 0xff;
            (1..100).map(place).collect::<Vec<_>>()
        };
        assert_ne!(places(1), places(2));
        assert_eq!(places(1), places(1));
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
            let (mut cache, mut slots) = (SignatureCache::default(), Slots::default());
            let (mut plans, mut room, seed) = (Plans::default(), Masked::default(), hash::seed());
            for f in &flows {
                dpcls.insert(f, &mut slots, &mut plans, seed);
            }
            for round in 0..2 {
                if round == 1 {
                    for (f, _) in flows.iter().zip(&removed).filter(|(_, r)| **r) {
                        f.dead.store(true, Relaxed);
                    }
                    // Some are dead already and still there.
                    for (f, _) in flows.iter().zip(&removed).filter(|(_, r)| **r).step_by(2) {
                        dpcls.remove(f, &mut slots, &mut plans, seed);
                    }
                    dpcls.rank();
                }
                for packet in &packets {
                    let mut key = MiniflowBuf::new();
                    key.set_flow(packet);
                    let view = key.view();
                    let wanted = flows.iter().any(|f| !f.is_dead() && f.matches(view));
                    // A hash with few values makes entries of the caches meet.
                    let hash = packet.nw_src.get() << 13 | u32::from(packet.nw_proto);
                    if let Some(name) = emc.lookup(hash, view).filter(|f| slots.is(*f)) {
                        prop_assert!(slots.get(name.slot).unwrap().matches(view));
                    }
                    let mut known = Known { slots: &slots, plans: &mut plans, room: &mut room, seed };
                    let found = dpcls.lookup(&key, &mut known).0;
                    prop_assert_eq!(found.is_some(), wanted);
                    if let Some(slot) = found {
                        let (f, plan) = slots.alive(slot).unwrap();
                        prop_assert!(f.matches(view));
                        prop_assert!(plans.get(plan).unwrap().matches(&key, f.values()));
                        emc.insert(hash, view, slots.name(slot), &slots);
                        // The key of nothing is not worth a place.
                        let kept = (!view.values.is_empty()).then(|| slots.name(slot));
                        prop_assert_eq!(emc.lookup(hash, view), kept);
                        cache.insert(hash, slot);
                        prop_assert_eq!(cache.lookup(hash), Some(slot));
                    }
                }
            }
        }
    }
}
