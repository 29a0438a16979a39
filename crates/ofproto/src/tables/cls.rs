//! The index of one table: which rule of the highest priority a packet meets, which rule has exactly this match
//! and priority, which rules lie within a match.

use std::sync::{Arc, PoisonError, RwLock};

use ferrovs_packet::flow::{Flow, FlowWildcards};
use hashbrown::HashMap;

use super::RuleMatch;
use crate::rule::Rule;

#[derive(Debug)]
struct Subtable {
    map: u128,
    masks: Box<[u64]>,
    max_priority: i32,
    n_rules: usize,
    /// Rules by the values of the masked words, highest priority first.
    rules: HashMap<Box<[u64]>, Vec<Arc<Rule>>>,
}

impl Subtable {
    fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut map = self.map;
        self.masks.iter().map(move |&mask| {
            let i = map.trailing_zeros() as usize;
            map &= map - 1;
            (i, mask)
        })
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
                if let Some(wc) = &mut wc {
                    st.words()
                        .for_each(|(i, mask)| wc.masks.words_mut()[i] |= mask);
                }
                let key: Box<[u64]> = st.words().map(|(i, mask)| flow.words()[i] & mask).collect();
                let found = st
                    .rules
                    .get(&key)
                    .and_then(|l| l.iter().find(|r| r.visible_in(version)));
                if let Some(rule) = found
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
            let st = subtables
                .iter()
                .find(|st| st.map == map && *st.masks == *masks)?;
            let list = st.rules.get(m.values())?;
            list.iter()
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
        let at = match subtables
            .iter()
            .position(|st| st.map == map && *st.masks == *masks)
        {
            Some(at) => at,
            None => {
                subtables.push(Subtable {
                    map,
                    masks: masks.into(),
                    max_priority: i32::MIN,
                    n_rules: 0,
                    rules: HashMap::new(),
                });
                subtables.len() - 1
            }
        };
        let st = &mut subtables[at];
        let priority = rule.priority;
        let list = st.rules.entry(rule.match_.values().into()).or_default();
        let pos = list.partition_point(|r| r.priority > priority);
        list.insert(pos, rule);
        st.n_rules += 1;
        if priority > st.max_priority {
            st.max_priority = priority;
            subtables.sort_by_key(|st| std::cmp::Reverse(st.max_priority));
        }
    }

    pub fn remove(&self, rule: &Arc<Rule>) {
        let mut subtables = self
            .subtables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (map, masks) = rule.match_.mask();
        let Some(at) = subtables
            .iter()
            .position(|st| st.map == map && *st.masks == *masks)
        else {
            return;
        };
        let st = &mut subtables[at];
        if let Some(list) = st.rules.get_mut(rule.match_.values()) {
            let before = list.len();
            list.retain(|r| !Arc::ptr_eq(r, rule));
            st.n_rules -= before - list.len();
            if list.is_empty() {
                st.rules.remove(rule.match_.values());
            }
        }
        if st.n_rules == 0 {
            subtables.remove(at);
        }
    }

    /// Calls `visit` with every rule that is visible in `version`.
    pub fn for_each(&self, version: u64, visit: &mut dyn FnMut(&Arc<Rule>)) {
        self.read(|subtables| {
            let lists = subtables.iter().flat_map(|st| st.rules.values());
            lists
                .flatten()
                .filter(|r| r.visible_in(version))
                .for_each(visit);
        });
    }

    pub fn overlaps(&self, m: &RuleMatch, priority: i32, version: u64) -> bool {
        self.read(|subtables| {
            let lists = subtables.iter().flat_map(|st| st.rules.values());
            lists
                .flatten()
                .any(|r| r.priority == priority && r.visible_in(version) && r.match_.overlaps(m))
        })
    }
}
