//! The index of one table: which rule of the highest priority a packet meets, which rule has exactly this match
//! and priority, which rules lie within a match.
//!
//! Tuple space search: the rules that look at the same bits form a subtable, a hash table over those bits;
//! subtables are tried in the order of their highest priority until no better rule can come. A subtable is
//! tried in stages (metadata, then link, network and transport layer): each stage but the last knows the hashes
//! of the bits up to its end, so that a packet which cannot match is told from fewer bits, and the datapath flow
//! that results is wider.

use std::sync::{Arc, PoisonError, RwLock};

use ferrovs_packet::flow::{Flow, FlowWildcards};
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::RuleMatch;
use crate::rule::Rule;

/// The first word of each stage after the metadata.
const STAGES: [usize; 3] = [
    std::mem::offset_of!(Flow, dl_dst) / 8,
    std::mem::offset_of!(Flow, nw_src) / 8,
    std::mem::offset_of!(Flow, nd_target) / 8,
];

type Words = SmallVec<[u64; 16]>;

fn mix(hash: u64, word: u64) -> u64 {
    ferrovs_packet::hash::mix(hash, word)
}

/// Rules with the same values, highest priority first.
#[derive(Debug)]
struct Chain {
    hash: u64,
    rules: SmallVec<[Arc<Rule>; 1]>,
}

impl Chain {
    fn values(&self) -> &[u64] {
        self.rules.first().map_or(&[], |r| r.match_.values())
    }
}

/// A stage: how many of the subtable's words it ends after, and the hashes of its rules.
#[derive(Debug)]
struct Stage {
    end: usize,
    hashes: HashMap<u64, u32, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Subtable {
    map: u128,
    /// Positions and masks of the words.
    words: Box<[(u8, u64)]>,
    max_priority: i32,
    n_rules: usize,
    stages: Vec<Stage>,
    chains: HashTable<Chain>,
}

impl Subtable {
    fn new(map: u128, masks: &[u64]) -> Subtable {
        let mut rest = map;
        let words: Box<[(u8, u64)]> = masks
            .iter()
            .map(|&mask| {
                let i = rest.trailing_zeros() as u8;
                rest &= rest - 1;
                (i, mask)
            })
            .collect();
        // A stage in which the subtable looks at nothing new tells nothing new; the last is the chains' own.
        let mut ends: Vec<usize> = STAGES
            .iter()
            .map(|&first| words.partition_point(|(i, _)| usize::from(*i) < first))
            .filter(|&end| end > 0 && end < words.len())
            .collect();
        ends.dedup();
        let stages = ends.into_iter().map(|end| Stage {
            end,
            hashes: HashMap::default(),
        });
        Subtable {
            map,
            stages: stages.collect(),
            words,
            max_priority: i32::MIN,
            n_rules: 0,
            chains: HashTable::new(),
        }
    }

    fn is(&self, map: u128, masks: &[u64]) -> bool {
        self.map == map
            && self
                .words
                .iter()
                .zip(masks)
                .all(|((_, mask), other)| mask == other)
    }

    /// The hashes at the end of each stage, and of all words.
    fn hashes(&self, values: &[u64]) -> (SmallVec<[u64; 3]>, u64) {
        let mut at_stages = SmallVec::new();
        let mut stages = self.stages.iter().peekable();
        let mut hash = 0;
        for (n, &value) in values.iter().enumerate() {
            if stages.next_if(|s| s.end == n).is_some() {
                at_stages.push(hash);
            }
            hash = mix(hash, value);
        }
        (at_stages, hash)
    }

    fn unwildcard(&self, n_words: usize, wc: &mut Option<&mut FlowWildcards>) {
        if let Some(wc) = wc {
            for &(i, mask) in &self.words[..n_words] {
                wc.masks.words_mut()[usize::from(i)] |= mask;
            }
        }
    }

    fn lookup(
        &self,
        version: u64,
        flow: &Flow,
        wc: &mut Option<&mut FlowWildcards>,
    ) -> Option<&Arc<Rule>> {
        let words = flow.words();
        let mut values = Words::new();
        let mut stages = self.stages.iter().peekable();
        let mut hash = 0;
        for (n, &(i, mask)) in self.words.iter().enumerate() {
            if let Some(stage) = stages.next_if(|s| s.end == n)
                && !stage.hashes.contains_key(&hash)
            {
                self.unwildcard(n, wc);
                return None;
            }
            let value = words[usize::from(i)] & mask;
            hash = mix(hash, value);
            values.push(value);
        }
        self.unwildcard(self.words.len(), wc);
        let chain = self
            .chains
            .find(hash, |c| c.hash == hash && c.values() == &values[..])?;
        chain.rules.iter().find(|r| r.visible_in(version))
    }

    fn insert(&mut self, rule: Arc<Rule>) {
        let (at_stages, hash) = self.hashes(rule.match_.values());
        for (stage, hash) in self.stages.iter_mut().zip(at_stages) {
            *stage.hashes.entry(hash).or_default() += 1;
        }
        self.n_rules += 1;
        self.max_priority = self.max_priority.max(rule.priority);
        let same = |c: &Chain| c.hash == hash && c.values() == rule.match_.values();
        if let Some(chain) = self.chains.find_mut(hash, same) {
            let at = chain.rules.partition_point(|r| r.priority > rule.priority);
            chain.rules.insert(at, rule);
        } else {
            let rules = SmallVec::from_iter([rule]);
            self.chains
                .insert_unique(hash, Chain { hash, rules }, |c| c.hash);
        }
    }

    fn remove(&mut self, rule: &Arc<Rule>) {
        let (at_stages, hash) = self.hashes(rule.match_.values());
        let same = |c: &Chain| c.hash == hash && c.values() == rule.match_.values();
        let Ok(mut entry) = self.chains.find_entry(hash, same) else {
            return;
        };
        let chain = entry.get_mut();
        let Some(at) = chain.rules.iter().position(|r| Arc::ptr_eq(r, rule)) else {
            return;
        };
        chain.rules.remove(at);
        if chain.rules.is_empty() {
            entry.remove();
        }
        self.n_rules -= 1;
        for (stage, hash) in self.stages.iter_mut().zip(at_stages) {
            if let Some(n) = stage.hashes.get_mut(&hash) {
                *n -= 1;
                if *n == 0 {
                    stage.hashes.remove(&hash);
                }
            }
        }
    }

    fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.chains.iter().flat_map(|c| &c.rules)
    }
}

#[derive(Debug, Default)]
pub struct Index {
    /// Sorted by `max_priority`, greatest first.
    subtables: RwLock<Vec<Subtable>>,
}

impl Index {
    fn read<T>(&self, f: impl FnOnce(&[Subtable]) -> T) -> T {
        f(&self
            .subtables
            .read()
            .unwrap_or_else(PoisonError::into_inner))
    }

    pub fn lookup(
        &self,
        version: u64,
        flow: &Flow,
        mut wc: Option<&mut FlowWildcards>,
    ) -> Option<Arc<Rule>> {
        self.read(|subtables| {
            let mut best: Option<&Arc<Rule>> = None;
            for st in subtables {
                if best.is_some_and(|b| b.priority >= st.max_priority) {
                    break;
                }
                if let Some(rule) = st.lookup(version, flow, &mut wc)
                    && best.is_none_or(|b| b.priority < rule.priority)
                {
                    best = Some(rule);
                }
            }
            best.cloned()
        })
    }

    pub fn find_exactly(&self, m: &RuleMatch, priority: i32, version: u64) -> Option<Arc<Rule>> {
        let (map, masks) = m.mask();
        self.read(|subtables| {
            let st = subtables.iter().find(|st| st.is(map, masks))?;
            let hash = st.hashes(m.values()).1;
            let chain = st
                .chains
                .find(hash, |c| c.hash == hash && c.values() == m.values())?;
            chain
                .rules
                .iter()
                .find(|r| r.priority == priority && r.visible_in(version))
                .cloned()
        })
    }

    pub fn insert(&self, rule: Arc<Rule>) {
        let mut subtables = self
            .subtables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (map, masks) = rule.match_.mask();
        let at = match subtables.iter().position(|st| st.is(map, masks)) {
            Some(at) => at,
            None => {
                subtables.push(Subtable::new(map, masks));
                subtables.len() - 1
            }
        };
        let st = &mut subtables[at];
        let old_max = st.max_priority;
        st.insert(rule);
        if st.max_priority != old_max {
            subtables.sort_by_key(|st| std::cmp::Reverse(st.max_priority));
        }
    }

    pub fn remove(&self, rule: &Arc<Rule>) {
        let mut subtables = self
            .subtables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (map, masks) = rule.match_.mask();
        let Some(at) = subtables.iter().position(|st| st.is(map, masks)) else {
            return;
        };
        let st = &mut subtables[at];
        st.remove(rule);
        if st.n_rules == 0 {
            subtables.remove(at);
        }
    }

    /// Calls `visit` with every rule that is visible in `version`.
    pub fn for_each(&self, version: u64, visit: &mut dyn FnMut(&Arc<Rule>)) {
        self.read(|subtables| {
            let rules = subtables.iter().flat_map(Subtable::rules);
            rules.filter(|r| r.visible_in(version)).for_each(visit);
        });
    }

    pub fn overlaps(&self, m: &RuleMatch, priority: i32, version: u64) -> bool {
        self.read(|subtables| {
            let candidates = subtables.iter().filter(|st| st.max_priority >= priority);
            candidates
                .flat_map(Subtable::rules)
                .any(|r| r.priority == priority && r.visible_in(version) && r.match_.overlaps(m))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{NewRule, RuleActions};
    use ferrovs_openflow::flow::FlowModFlags;
    use ferrovs_packet::flow::Match;

    fn rule(m: &Match, priority: i32) -> Arc<Rule> {
        let new = NewRule {
            table_id: 0,
            priority,
            match_: RuleMatch::new(m),
            actions: Arc::new(RuleActions::new(Vec::new())),
            cookie: 0,
            flags: FlowModFlags::empty(),
            importance: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            now_ms: 0,
        };
        Arc::new(Rule::new(new, 1))
    }

    proptest::proptest! {
        /// The index agrees with a look at every rule, and a flow that agrees in the bits that were looked at
        /// meets the same rule.
        #[test]
        fn lookups_equal_a_linear_scan(
            rules in proptest::collection::vec((0u32..3, 0u8..4, 0u8..4, 0u16..3, 0i32..6), 0..24),
            port in 0u32..3, proto in 0u8..4, tos in 0u8..4, dst in 0u16..3, other in 0u16..3,
        ) {
            let index = Index::default();
            let mut all: Vec<Arc<Rule>> = Vec::new();
            for (port, proto, tos, dst, priority) in rules {
                let mut m = Match::default();
                if port > 0 { m.flow.in_port = port; m.wc.masks.in_port = u32::MAX; }
                if proto > 0 { m.flow.nw_proto = proto; m.wc.masks.nw_proto = 0xff; }
                if tos > 0 { m.flow.nw_tos = tos & 2; m.wc.masks.nw_tos = 2; }
                if dst > 0 { m.flow.tp_dst = dst.into(); m.wc.masks.tp_dst = 0xffff.into(); }
                let rule = rule(&m, priority);
                if all.iter().any(|r| r.priority == priority && r.match_.overlaps(&rule.match_)) {
                    continue;
                }
                index.insert(rule.clone());
                all.push(rule);
            }
            let mut flow = Flow { in_port: port, nw_proto: proto, nw_tos: tos, ..Flow::default() };
            flow.tp_dst = dst.into();
            let mut wc = FlowWildcards::default();
            let found = index.lookup(1, &flow, Some(&mut wc)).map(|r| r.priority);
            let meets = all.iter().filter(|r| r.match_.matches(&flow));
            proptest::prop_assert_eq!(found, meets.map(|r| r.priority).max());
            let mut like = flow;
            like.tp_dst = other.into();
            let (mut a, mut b) = (flow, like);
            a.mask(&wc);
            b.mask(&wc);
            if a == b {
                let again = index.lookup(1, &like, None).map(|r| r.priority);
                proptest::prop_assert_eq!(found, again);
            }
            for rule in &all {
                index.remove(rule);
            }
            proptest::prop_assert!(index.lookup(1, &flow, None).is_none());
            proptest::prop_assert!(index.read(|s| s.is_empty()));
        }
    }
}
