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

use ferrovs_packet::hash::{self, mix};
use ferrovs_packet::miniflow::{MiniflowBuf, Minimask};
use ferrovs_packet::parse::Brief;
use hashbrown::HashTable;

use crate::flow::DpFlow;
use crate::plan::{self, Masked, Plans};
use crate::slots::Slots;

/// Flows that share a mask.
#[derive(Debug)]
pub struct Subtable {
    mask: Minimask,
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

/// The masks and flows of one input port, the most used mask first.
#[derive(Debug, Default)]
pub struct Dpcls {
    subtables: Vec<Subtable>,
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
        let (tried, slots) = (self.subtables.len(), known.slots);
        for (i, table) in self.subtables.iter_mut().enumerate() {
            let Some(plan) = known.plans.get(table.plan) else {
                continue;
            };
            let masked = plan.under(key, known.room);
            let is = |slot: u32| {
                let flow = slots.alive(slot);
                flow.is_some_and(|(f, plan)| plan == table.plan && f.values() == masked)
            };
            // Packets for the same flow often follow each other.
            if is(table.last) {
                table.hits += 1;
                return (Some(table.last), i + 1);
            }
            let hash = plan::hash(masked, known.seed);
            let same = |&(h, slot): &(u64, u32)| h == hash && is(slot);
            if let Some(&(_, slot)) = table.flows.find(hash, same) {
                table.hits += 1;
                table.last = slot;
                return (Some(slot), i + 1);
            }
        }
        (None, tried)
    }

    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    /// Adds a flow, and gives it a number.
    pub fn insert(&mut self, flow: &Arc<DpFlow>, slots: &mut Slots, plans: &mut Plans, seed: u64) {
        let at = self.subtables.iter().position(|t| t.mask == *flow.mask());
        let at = at.unwrap_or_else(|| {
            self.subtables.push(Subtable {
                mask: flow.mask().clone(),
                plan: plans.add(flow.mask()),
                flows: HashTable::new(),
                last: u32::MAX,
                hits: 0,
            });
            self.subtables.len() - 1
        });
        let table = &mut self.subtables[at];
        let slot = slots.insert(flow, table.plan);
        let hash = plan::hash(flow.values(), seed);
        table.flows.insert_unique(hash, (hash, slot), |(h, _)| *h);
        self.n_flows += 1;
        if let Some(brief) = flow.brief() {
            let again = |(b, _): &(Brief, u32)| brief_hash(*b);
            let new = (brief, slot);
            self.simple.insert_unique(brief_hash(brief), new, again);
        }
    }

    /// Forgets a flow and its number.
    pub fn remove(&mut self, flow: &Arc<DpFlow>, slots: &mut Slots, plans: &mut Plans, seed: u64) {
        let (Some(at), Some(slot)) = (
            self.subtables.iter().position(|t| t.mask == *flow.mask()),
            slots.remove(flow),
        ) else {
            return;
        };
        let table = &mut self.subtables[at];
        let hash = plan::hash(flow.values(), seed);
        if let Ok(entry) = table.flows.find_entry(hash, |(_, s)| *s == slot) {
            entry.remove();
        }
        self.n_flows -= 1;
        if table.flows.is_empty() {
            plans.remove(table.plan);
            self.subtables.remove(at);
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
