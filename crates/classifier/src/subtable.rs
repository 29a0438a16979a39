//! The rules of one mask.
//!
//! ```text
//!   words    | metadata | link layer | network | transport |     words of the mask, in stages
//!   indices  [  hash 1 ]
//!            [  hash 2              ]
//!            [  hash 3                        ]                  hashes of the first stages of each rule
//!   rules    {  all masked words -> rules by falling priority  }
//! ```

use std::hash::{BuildHasher, Hasher};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ferrovs_packet::flow::{FLOW_WORDS, Flow, FlowWildcards};
use ferrovs_packet::hash::mix;
use ferrovs_packet::miniflow::FlowMap;
use papaya::HashMap;
use smallvec::SmallVec;

use crate::rule::{ClsEntry, Found, MatchRef};
use crate::trie::Trie;

/// Words at which the stages end.
const STAGE_ENDS: [usize; 4] = [
    offset_of!(Flow, dl_dst) / 8,
    offset_of!(Flow, nw_src) / 8,
    offset_of!(Flow, nd_target) / 8,
    FLOW_WORDS,
];

/// The word that has the transport ports in its first four bytes.
const PORTS_WORD: usize = offset_of!(Flow, tp_src) / 8;

/// What a packet meets in a subtable.
pub(crate) enum Hit<'a, T> {
    /// A rule that matches by itself.
    Hard(Found<'a, T>),
    /// Visible rules by falling priority, the first of them conjunctive, up to one that matches by itself.
    Soft(Vec<Arc<T>>),
}

/// Rules whose masked words have one hash, which is to say, but for an accident, rules with equal match, by falling
/// priority. Those that last have one place: the age of the match in its subtable, and so the order in which rules are
/// listed.
/// Nearly all matches have one rule, and there may be a million of them.
enum Rules<T> {
    One(Arc<T>),
    More(Box<[Arc<T>]>),
}

/// A rule that this version does not show has an end.
const LAST_VERSION: u64 = u64::MAX - 1;

/// In a rule's [note](ClsEntry::note): another came in its place, which now stands for it in the tries and in the
/// indices of the stages. The other bits are the rule's place.
const REPLACED: u32 = 1 << 31;

fn place_of(rule: &impl ClsEntry) -> u32 {
    rule.note().load(Relaxed) & !REPLACED
}

/// Whether another rule stands for this one.
pub(crate) fn is_replaced(rule: &impl ClsEntry) -> bool {
    rule.note().load(Relaxed) & REPLACED != 0
}

impl<T: ClsEntry> Rules<T> {
    fn place(&self) -> u32 {
        let places = self.as_slice().iter().map(|rule| place_of(&**rule));
        places.max().unwrap_or(0)
    }

    fn as_slice(&self) -> &[Arc<T>] {
        match self {
            Rules::One(rule) => std::slice::from_ref(rule),
            Rules::More(rules) => rules,
        }
    }

    /// The rules with one more in place `at`.
    fn with(&self, at: usize, rule: Arc<T>) -> Rules<T> {
        let (before, after) = self.as_slice().split_at(at);
        let all = before.iter().chain([&rule]).chain(after);
        Rules::More(all.cloned().collect())
    }

    /// The rules without that in place `at`; none if there was no other.
    fn without(&self, at: usize) -> Option<Rules<T>> {
        let (before, after) = self.as_slice().split_at(at);
        match (before, after) {
            ([], [_]) => None,
            ([only], [_]) | ([], [_, only]) => Some(Rules::One(only.clone())),
            _ => Some(Rules::More(
                before.iter().chain(&after[1..]).cloned().collect(),
            )),
        }
    }
}

/// For keys that are hashes already.
#[derive(Clone, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, byte.into());
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for AsIs {
    type Hasher = AsIs;

    fn build_hasher(&self) -> AsIs {
        AsIs(0)
    }
}

/// The ports that the rules match, all under the same mask.
struct Ports {
    mask: u32,
    len: u8,
    trie: Trie,
}

impl Ports {
    fn of(word: u64) -> u32 {
        let [a, b, c, d, ..] = word.to_ne_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn word(ports: u32) -> u64 {
        let [a, b, c, d] = ports.to_be_bytes();
        u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
    }

    fn key(&self, word: u64) -> u128 {
        u128::from(Ports::of(word) & self.mask) << 96
    }
}

/// Whether a key has these values in the words, each under its mask.
#[inline]
fn agree(flow: &Flow, words: &[(usize, u64)], values: &[u64]) -> bool {
    // Word by word: there are few, and a call would take longer.
    let mut pairs = std::iter::zip(words, values);
    pairs.all(|(&(i, mask), &value)| flow.words()[i] & mask == value)
}

pub(crate) struct Subtable<T> {
    map: FlowMap,
    masks: Box<[u64]>,
    /// The mask in full.
    mask: Box<Flow>,
    /// Index and mask of each word.
    words: Box<[(usize, u64)]>,
    /// Number of `words` up to the end of each stage that has some; the last is all of them.
    stages: SmallVec<[usize; 4]>,
    /// Word of the key at which each stage ends.
    stage_ends: SmallVec<[usize; 4]>,
    /// For each stage but the last how many rules have each hash.
    indices: SmallVec<[HashMap<u64, AtomicU32, AsIs>; 3]>,
    /// By the hash of all masked words.
    rules: HashMap<u64, Rules<T>, AsIs>,
    next_place: AtomicU32,
    /// What hashes begin with.
    seed: u64,
    ports: Option<Ports>,
}

impl<T: ClsEntry> Subtable<T> {
    pub fn new(m: MatchRef<'_>) -> Subtable<T> {
        let mut mask = Box::new(Flow::default());
        let words: Box<[_]> = m.map.iter().zip(m.masks.iter().copied()).collect();
        for &(i, bits) in &words {
            mask.words_mut()[i] = bits;
        }
        let mut stages = SmallVec::new();
        let mut stage_ends = SmallVec::new();
        for end in STAGE_ENDS {
            let n = words.iter().take_while(|(i, _)| *i < end).count();
            if n > stages.last().copied().unwrap_or(0) {
                stages.push(n);
                stage_ends.push(end);
            }
        }
        let n_indices = stages.len().saturating_sub(1);
        let ports_mask = Ports::of(mask.words()[PORTS_WORD]);
        Subtable {
            map: m.map,
            masks: m.masks.into(),
            mask,
            words,
            stages,
            stage_ends,
            indices: (0..n_indices)
                .map(|_| HashMap::with_hasher(AsIs(0)))
                .collect(),
            rules: HashMap::with_hasher(AsIs(0)),
            next_place: AtomicU32::new(0),
            seed: ferrovs_packet::hash::seed(),
            ports: (ports_mask != 0).then(|| Ports {
                mask: ports_mask,
                len: 32 - ports_mask.trailing_zeros() as u8,
                trie: Trie::default(),
            }),
        }
    }

    pub fn mask(&self) -> &Flow {
        &self.mask
    }

    pub fn has_mask(&self, m: MatchRef<'_>) -> bool {
        self.map == m.map && *self.masks == *m.masks
    }

    /// Whether some rule of this mask can lie within `target`.
    pub fn may_be_within(&self, target: MatchRef<'_>) -> bool {
        let mut words = target.map.iter().zip(target.masks);
        words.all(|(i, &mask)| self.mask.words()[i] & mask == mask)
    }

    /// The hashes of the stages of masked words: all but the last, and the last.
    fn hashes(&self, values: &[u64]) -> (SmallVec<[u64; 3]>, u64) {
        let mut partial = SmallVec::new();
        let (mut hash, mut done) = (self.seed, 0);
        for (i, &end) in self.stages.iter().enumerate() {
            hash = values[done..end].iter().fold(hash, |h, &w| mix(h, w));
            done = end;
            if i + 1 < self.stages.len() {
                partial.push(hash);
            }
        }
        (partial, hash)
    }

    /// What `flow` meets here in `version`. `hopeless` tells of a range of the key's words whether a trie rules
    /// them out; bits that decided are added to `wc`.
    pub fn find<'a>(
        &self,
        version: u64,
        flow: &Flow,
        mut hopeless: impl FnMut(usize, usize, &mut FlowWildcards) -> bool,
        wc: &mut FlowWildcards,
    ) -> Option<Hit<'a, T>> {
        let (mut hash, mut start, mut done) = (self.seed, 0, 0);
        for (stage, (&n, &end)) in self.stages.iter().zip(&self.stage_ends).enumerate() {
            if hopeless(start, end, wc) {
                self.fold(done, wc);
                return None;
            }
            for &(i, mask) in &self.words[done..n] {
                hash = mix(hash, flow.words()[i] & mask);
            }
            (start, done) = (end, n);
            if let Some(index) = self.indices.get(stage)
                && index.pin().get(&hash).is_none()
            {
                self.fold(done, wc);
                return None;
            }
        }
        let rules = self.rules.pin();
        let chain = rules.get(&hash);
        let met = chain.map_or(&[][..], Rules::as_slice).iter();
        let same = |r: &Arc<T>| agree(flow, &self.words, r.match_ref().values);
        let mut visible = met.filter(|r| r.visible_in(version) && same(r));
        let Some(first) = visible.next() else {
            self.fold_miss(flow, wc);
            return None;
        };
        self.fold(done, wc);
        if first.conjunctions().is_empty() {
            return Some(Hit::Hard(Found::Own(first.clone())));
        }
        let mut list = vec![first.clone()];
        for rule in visible {
            list.push(rule.clone());
            if rule.conjunctions().is_empty() {
                break;
            }
        }
        Some(Hit::Soft(list))
    }

    /// Whether a packet meets `only`, which is the only rule here, if no trie can rule it out.
    #[inline]
    pub fn meets(&self, only: &T, version: u64, flow: &Flow, wc: &mut FlowWildcards) -> bool {
        if agree(flow, &self.words, only.match_ref().values) && only.visible_in(version) {
            self.fold(self.words.len(), wc);
            return true;
        }
        // The stage in which they differ tells what decided.
        self.meets_in_stages(only, version, flow, |_, _, _| false, wc)
    }

    /// The same; `hopeless` as in [`Subtable::find`].
    pub fn meets_in_stages(
        &self,
        only: &T,
        version: u64,
        flow: &Flow,
        mut hopeless: impl FnMut(usize, usize, &mut FlowWildcards) -> bool,
        wc: &mut FlowWildcards,
    ) -> bool {
        let values = only.match_ref().values;
        let (mut start, mut done) = (0, 0);
        for (&n, &end) in self.stages.iter().zip(&self.stage_ends) {
            if hopeless(start, end, wc) {
                self.fold(done, wc);
                return false;
            }
            let same = agree(flow, &self.words[done..n], &values[done..n]);
            (start, done) = (end, n);
            if !same && n < self.words.len() {
                self.fold(done, wc);
                return false;
            } else if !same {
                self.fold_miss(flow, wc);
                return false;
            }
        }
        if !only.visible_in(version) {
            self.fold_miss(flow, wc);
            return false;
        }
        self.fold(done, wc);
        true
    }

    /// A rule, if there is one.
    pub fn first(&self) -> Option<Arc<T>> {
        let rules = self.rules.pin();
        let first = rules.values().next()?;
        first.as_slice().first().cloned()
    }

    /// The first `n` words of the mask matter.
    fn fold(&self, n: usize, wc: &mut FlowWildcards) {
        for &(i, mask) in &self.words[..n] {
            wc.masks.words_mut()[i] |= mask;
        }
    }

    /// All words matter, but of the ports only as many bits as keep the packet from every rule.
    fn fold_miss(&self, flow: &Flow, wc: &mut FlowWildcards) {
        let Some(ports) = &self.ports else {
            return self.fold(self.words.len(), wc);
        };
        let key = ports.key(flow.words()[PORTS_WORD]);
        let checked = ports.trie.lookup(key, ports.len).checked;
        let needed = u32::MAX.checked_shl(32 - u32::from(checked)).unwrap_or(0);
        let spared = Ports::word(ports.mask & !needed);
        for &(i, mask) in &self.words {
            let mask = if i == PORTS_WORD {
                mask & !spared
            } else {
                mask
            };
            wc.masks.words_mut()[i] |= mask;
        }
    }

    pub fn find_exactly(&self, values: &[u64], priority: i32, version: u64) -> Option<Arc<T>> {
        let (_, hash) = self.hashes(values);
        let rules = self.rules.pin();
        let mut same = rules.get(&hash)?.as_slice().iter();
        let found = same.find(|r| {
            r.priority() == priority && r.visible_in(version) && r.match_ref().values == values
        });
        found.cloned()
    }

    pub fn insert(&self, rule: Arc<T>) {
        let m = rule.match_ref();
        let (partial, hash) = self.hashes(m.values);
        if let Some(ports) = &self.ports {
            let key = ports.key(m.value(PORTS_WORD));
            ports.trie.insert(key, ports.len);
        }
        for (index, hash) in self.indices.iter().zip(partial) {
            let index = index.pin();
            match index.get(&hash) {
                Some(n) => {
                    n.fetch_add(1, Relaxed);
                }
                None => {
                    index.insert(hash, AtomicU32::new(1));
                }
            }
        }
        self.chain(hash, rule, None);
    }

    /// Adds a rule where another of the same match is, which it then stands for.
    pub fn replace(&self, old: &T, rule: Arc<T>) {
        let (_, hash) = self.hashes(rule.match_ref().values);
        self.chain(hash, rule, Some(place_of(old)));
        old.note().fetch_or(REPLACED, Relaxed);
    }

    /// Takes that back.
    pub fn unreplace(&self, old: &T, rule: &Arc<T>) {
        let (_, hash) = self.hashes(rule.match_ref().values);
        self.unchain(hash, rule);
        old.note().fetch_and(!REPLACED, Relaxed);
    }

    /// Adds a rule to those of its match, in this place or that of those that last.
    fn chain(&self, hash: u64, rule: Arc<T>, place: Option<u32>) {
        let rules = self.rules.pin();
        let chain = match rules.get(&hash) {
            None => {
                rule.note().store(self.new_place(), Relaxed);
                Rules::One(rule)
            }
            Some(old) => {
                let list = old.as_slice();
                let lasting = || list.iter().find(|r| r.visible_in(LAST_VERSION));
                let place = place.or_else(|| lasting().map(|r| place_of(&**r)));
                let place = place.unwrap_or_else(|| self.new_place());
                rule.note().store(place, Relaxed);
                let at = list.partition_point(|r| r.priority() >= rule.priority());
                old.with(at, rule)
            }
        };
        rules.insert(hash, chain);
    }

    fn new_place(&self) -> u32 {
        if self.next_place.load(Relaxed) == REPLACED {
            self.renumber();
        }
        self.next_place.fetch_add(1, Relaxed)
    }

    /// Gives all rules new places in their order, from 0 on.
    fn renumber(&self) {
        let rules = self.rules.pin();
        let mut chains: Vec<_> = rules.values().collect();
        chains.sort_by_key(|chain| chain.place());
        for (chain, place) in chains.iter().zip(0..) {
            for rule in chain.as_slice() {
                let replaced = rule.note().load(Relaxed) & REPLACED;
                rule.note().store(place | replaced, Relaxed);
            }
        }
        self.next_place.store(chains.len() as u32, Relaxed);
    }

    /// False if the rule is not here.
    pub fn remove(&self, rule: &Arc<T>) -> bool {
        let m = rule.match_ref();
        let (partial, hash) = self.hashes(m.values);
        if !self.unchain(hash, rule) {
            return false;
        }
        if is_replaced(&**rule) {
            return true;
        }
        for (index, hash) in self.indices.iter().zip(partial) {
            let index = index.pin();
            if index
                .get(&hash)
                .is_some_and(|n| n.fetch_sub(1, Relaxed) == 1)
            {
                index.remove(&hash);
            }
        }
        if let Some(ports) = &self.ports {
            let key = ports.key(m.value(PORTS_WORD));
            ports.trie.remove(key, ports.len);
        }
        true
    }

    fn unchain(&self, hash: u64, rule: &Arc<T>) -> bool {
        let rules = self.rules.pin();
        let Some(list) = rules.get(&hash) else {
            return false;
        };
        let Some(at) = list.as_slice().iter().position(|r| Arc::ptr_eq(r, rule)) else {
            return false;
        };
        match list.without(at) {
            Some(left) => {
                rules.insert(hash, left);
            }
            None => {
                rules.remove(&hash);
            }
        }
        true
    }

    /// Visits the rules that `wanted` picks, in the order in which their matches came, each by falling priority.
    pub fn for_each(&self, wanted: &dyn Fn(&T) -> bool, visit: &mut dyn FnMut(&Arc<T>)) {
        let mut found = Vec::new();
        for (_, chain) in &self.rules.pin() {
            let rules = chain.as_slice().iter().filter(|r| wanted(r));
            found.extend(rules.map(|r| (place_of(&**r), r.clone())));
        }
        found.sort_by_key(|(place, _)| *place);
        found.iter().for_each(|(_, rule)| visit(rule));
    }

    /// Visits every rule, in any order and whatever its versions.
    pub fn for_all(&self, visit: &mut dyn FnMut(&Arc<T>)) {
        for (_, chain) in &self.rules.pin() {
            chain.as_slice().iter().for_each(&mut *visit);
        }
    }
}

impl<T> std::fmt::Debug for Subtable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subtable({:?} {:x?})", self.map, self.masks)
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::flow::Match;

    use super::*;
    use crate::rule::ClsRule;

    #[test]
    fn rules_are_listed_in_their_order_also_when_numbers_have_run_out() {
        let rule = |metadata: u64| {
            let mut m = Match::default();
            (m.flow.metadata, m.wc.masks.metadata) = (metadata.into(), u64::MAX.into());
            Arc::new(ClsRule::new(&m, 1, 1, metadata))
        };
        let first = rule(0);
        let table = Subtable::new(first.match_ref());
        table.next_place.store(REPLACED - 3, Relaxed);
        table.insert(first);
        (1..9).for_each(|i| table.insert(rule(i)));
        let mut listed = Vec::new();
        table.for_each(&|_| true, &mut |rule| listed.push(rule.data));
        assert_eq!(listed, (0..9).collect::<Vec<_>>());
        assert_eq!(table.next_place.load(Relaxed), 9);
    }
}
