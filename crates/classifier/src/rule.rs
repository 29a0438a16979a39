//! What a classifier holds, and matches in packed form.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::miniflow::{FlowMap, MiniMatch};

/// A packed match: which words of the key matter, their masks, and their masked values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchRef<'a> {
    pub map: FlowMap,
    pub masks: &'a [u64],
    pub values: &'a [u64],
}

impl<'a> From<&'a MiniMatch> for MatchRef<'a> {
    fn from(m: &'a MiniMatch) -> Self {
        MatchRef {
            map: m.mask.map(),
            masks: m.mask.view().values,
            values: m.flow.view().values,
        }
    }
}

impl MatchRef<'_> {
    /// Whether each packet that meets this match meets `wider`.
    pub fn is_within(self, wider: MatchRef<'_>) -> bool {
        wider.map.and(self.map) == wider.map
            && wider.map.iter().enumerate().all(|(at, i)| {
                let (mine, mask) = (self.map.rank(i), wider.masks[at]);
                self.masks[mine] & mask == mask && self.values[mine] & mask == wider.values[at]
            })
    }

    /// Whether a packet meets it; if so all that it looks at is noted.
    #[inline]
    pub(crate) fn takes(self, flow: &Flow, wc: &mut FlowWildcards) -> bool {
        let words = || self.map.iter().zip(self.masks);
        let mut values = words().zip(self.values);
        let takes = values.all(|((i, mask), value)| flow.words()[i] & mask == *value);
        if takes {
            words().for_each(|(i, mask)| wc.masks.words_mut()[i] |= mask);
        }
        takes
    }

    /// Whether some packet meets both.
    pub fn overlaps(self, other: MatchRef<'_>) -> bool {
        self.map.and(other.map).iter().all(|i| {
            let (a, b) = (self.map.rank(i), other.map.rank(i));
            (self.values[a] ^ other.values[b]) & self.masks[a] & other.masks[b] == 0
        })
    }

    /// The word `i` of the mask.
    pub(crate) fn mask(self, i: usize) -> u64 {
        if self.map.contains(i) {
            self.masks[self.map.rank(i)]
        } else {
            0
        }
    }

    /// The word `i` of the values.
    pub(crate) fn value(self, i: usize) -> u64 {
        if self.map.contains(i) {
            self.values[self.map.rank(i)]
        } else {
            0
        }
    }
}

/// The part `clause` (from 0) of `n_clauses` in the conjunctive match `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conjunction {
    pub id: u32,
    pub clause: u8,
    /// 2 to 64.
    pub n_clauses: u8,
}

/// What a classifier holds.
pub trait ClsEntry {
    fn match_ref(&self) -> MatchRef<'_>;

    fn priority(&self) -> i32;

    fn visible_in(&self, version: u64) -> bool;

    /// Where the classifier keeps what it notes about the rule; its own business.
    fn note(&self) -> &AtomicU32;

    /// The parts that the rule plays in conjunctive matches; not empty means that it matches only by them.
    fn conjunctions(&self) -> &[Conjunction] {
        &[]
    }
}

/// A rule that a lookup found.
pub enum Found<'a, T> {
    /// The classifier holds it until the lookup ends.
    Lent(&'a Arc<T>),
    Own(Arc<T>),
}

impl<T> Found<'_, T> {
    /// The rule, to keep.
    pub fn into_arc(self) -> Arc<T> {
        match self {
            Found::Lent(rule) => rule.clone(),
            Found::Own(rule) => rule,
        }
    }
}

impl<T> Deref for Found<'_, T> {
    type Target = Arc<T>;

    #[inline]
    fn deref(&self) -> &Arc<T> {
        match self {
            Found::Lent(rule) => rule,
            Found::Own(rule) => rule,
        }
    }
}

/// A rule that carries any data: an entry for who has none of its own.
#[derive(Debug)]
pub struct ClsRule<D> {
    match_: MiniMatch,
    priority: i32,
    conjunctions: Box<[Conjunction]>,
    added: u64,
    /// First version in which the rule is gone.
    removed: AtomicU64,
    note: AtomicU32,
    pub data: D,
}

impl<D> ClsRule<D> {
    /// A rule that is visible from version `added` on.
    pub fn new(m: &Match, priority: i32, added: u64, data: D) -> ClsRule<D> {
        ClsRule {
            match_: MiniMatch::new(m),
            priority,
            conjunctions: Box::default(),
            added,
            removed: AtomicU64::new(u64::MAX),
            note: AtomicU32::new(0),
            data,
        }
    }

    pub fn with_conjunctions(mut self, conjunctions: &[Conjunction]) -> ClsRule<D> {
        self.conjunctions = conjunctions.into();
        self
    }

    /// Hides the rule from `version` on; `u64::MAX` shows it again.
    pub fn remove_in(&self, version: u64) {
        self.removed.store(version, Relaxed);
    }

    pub fn mini_match(&self) -> &MiniMatch {
        &self.match_
    }
}

impl<D> ClsEntry for ClsRule<D> {
    fn match_ref(&self) -> MatchRef<'_> {
        MatchRef::from(&self.match_)
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn visible_in(&self, version: u64) -> bool {
        self.added <= version && version < self.removed.load(Relaxed)
    }

    fn note(&self) -> &AtomicU32 {
        &self.note
    }

    fn conjunctions(&self) -> &[Conjunction] {
        &self.conjunctions
    }
}
