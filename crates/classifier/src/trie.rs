//! Tries of the prefixes that rules match a field with.
//!
//! A lookup of a value tells for which prefix lengths some rule agrees with it, and how many leading bits of the
//! value that knowledge depends on.
//!
//! ```text
//!   root -> [10.1] -+-> [.0] -> [.1]      a node: a run of up to 32 bits, the number of rules whose prefix
//!                   +-> [.128.0.7]        ends with it, and what goes on with a 0 or a 1
//! ```
//!
//! Nodes live in an [arena](Arena) and name each other by number; a rule with prefixes of its own costs some 32
//! bytes a trie. There is one writer at a time, and readers take no lock. What a node says never changes, apart
//! from its count and from what follows it: another run is another node, which takes the old one's place by one
//! store. So a reader meets every prefix that was there from before its walk until after it, and that is what
//! a lookup needs: rules are inserted before, and removed after, the versions that show them.
//!
//! The place of a node that went is used again, which a reader could notice that still stands there. Therefore
//! places are set free many at a time, with a new *epoch*; a reader that finds another epoch at its end than at
//! its beginning walks again.
//!
//! Bits are numbered from the most significant; values are aligned to the left of 128 bits.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrovs_packet::field::{FieldId, FieldValue};
use ferrovs_packet::flow::{Flow, FlowWildcards};
use zerocopy::{FromZeros, KnownLayout};

use crate::arena::Arena;
use crate::rule::MatchRef;

/// Longest run of a node.
const MAX_RUN: u8 = 32;

/// Most nodes on the way of a value: a run of no bits at the root, then one bit each.
const MAX_DEPTH: usize = 129;

/// So many nodes that went, at least, are set free together.
const BATCH: usize = 512;

/// Walks after which a reader gives up, and knows nothing.
const MAX_WALKS: usize = 4;

/// Number of no node.
const NONE: u32 = 0;

/// A run of bits, and what follows them.
#[derive(Debug, FromZeros, KnownLayout)]
struct Node {
    /// The run itself, aligned to the left; the rest is zero.
    bits: AtomicU32,
    /// Its length, in the lowest six bits, and above them the number of rules whose prefix ends with it.
    counts: AtomicU32,
    /// What goes on with a 0 or a 1.
    next: [AtomicU32; 2],
}

/// What a new node begins with.
#[derive(Clone, Copy)]
struct Run {
    bits: u32,
    len: u8,
    n_rules: u32,
    next: [u32; 2],
}

/// Bits of a node's counts that are the length.
const LEN_BITS: u32 = 6;

/// More rules than are counted, that is so many, do not fit in a node: their prefix is there for ever.
const MANY: u32 = u32::MAX >> LEN_BITS;

impl Node {
    /// Its length and number of rules.
    fn counts(&self) -> (u8, u32) {
        let counts = self.counts.load(Relaxed);
        ((counts & ((1 << LEN_BITS) - 1)) as u8, counts >> LEN_BITS)
    }

    fn set_counts(&self, len: u8, n_rules: u32) {
        let counts = n_rules.min(MANY) << LEN_BITS | u32::from(len);
        self.counts.store(counts, Relaxed);
    }

    fn run(&self) -> Run {
        let (len, n_rules) = self.counts();
        Run {
            bits: self.bits.load(Relaxed),
            len,
            n_rules,
            next: [self.next[0].load(Acquire), self.next[1].load(Acquire)],
        }
    }
}

fn shl(value: u128, n: u8) -> u128 {
    value.checked_shl(n.into()).unwrap_or(0)
}

/// The first `n` bits.
fn prefix(value: u128, n: u8) -> u128 {
    value & !u128::MAX.checked_shr(n.into()).unwrap_or(0)
}

/// The first 32 bits.
fn top(value: u128) -> u32 {
    (value >> 96) as u32
}

fn first_bit(value: u128) -> usize {
    (value >> 127) as usize
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bit `n - 1` is set if some rule agrees with the value in a prefix of length `n`.
    pub lens: u128,
    /// Leading bits of the value on which `lens` depends.
    pub checked: u8,
}

impl Found {
    pub fn has_len(&self, len: u8) -> bool {
        self.lens >> (len - 1) & 1 != 0
    }
}

/// Places of nodes that went.
#[derive(Default)]
struct Free {
    /// Those that no reader can stand at.
    ready: Vec<u32>,
    /// Those that went in this epoch.
    retired: Vec<u32>,
}

/// A trie of values of one width.
#[derive(Default)]
pub(crate) struct Trie {
    nodes: Arena<Node>,
    root: AtomicU32,
    epoch: AtomicU32,
    /// Held by the writer.
    free: Mutex<Free>,
}

impl Trie {
    /// Looks `value` of `width` bits up.
    pub fn lookup(&self, value: u128, width: u8) -> Found {
        for _ in 0..MAX_WALKS {
            let epoch = self.epoch.load(Acquire);
            let found = self.walk(value, width);
            fence(Acquire);
            if self.epoch.load(Relaxed) == epoch {
                return found;
            }
        }
        Found {
            lens: u128::MAX,
            checked: width,
        }
    }

    fn walk(&self, mut value: u128, width: u8) -> Found {
        let mut found = Found::default();
        let (mut at, mut ofs) = (&self.root, 0);
        // A reader that has lost its way ends too.
        for _ in 0..MAX_DEPTH {
            let Some(node) = self.nodes.get(at.load(Acquire)) else {
                return found;
            };
            let (bits, (len, n_rules)) = (node.bits.load(Relaxed), node.counts());
            let common = (top(value) ^ bits).leading_zeros().min(len.into()) as u8;
            if common < len {
                found.checked = (ofs + common + 1).min(width);
                return found;
            }
            ofs = ofs.saturating_add(len);
            value = shl(value, len);
            if ofs > 0 && ofs <= width && n_rules > 0 {
                found.lens |= 1 << (ofs - 1);
            }
            if ofs >= width {
                found.checked = width;
                return found;
            }
            let side = first_bit(value);
            // With a branch to the other side the next bit decided too. If it goes on, what is there says more.
            let branch = node.next[1 - side].load(Acquire) != NONE;
            found.checked = ofs + u8::from(branch);
            at = &node.next[side];
        }
        found
    }

    /// One more rule of the first `len` bits of `value`.
    pub fn insert(&self, mut value: u128, mut len: u8) {
        let mut free = self.writer();
        let mut at = &self.root;
        loop {
            let index = at.load(Relaxed);
            let Some(node) = self.nodes.get(index) else {
                let new = self.chain(&mut free, value, len);
                return at.store(new, Release);
            };
            let run = node.run();
            let common = (top(value) ^ run.bits).leading_zeros().min(run.len.into()) as u8;
            let common = common.min(len);
            if common < run.len {
                let split = self.split(&mut free, run, common, value, len);
                at.store(split, Release);
                return free.retired.push(index);
            }
            if len == run.len {
                return node.set_counts(run.len, run.n_rules + 1);
            }
            value = shl(value, run.len);
            len -= run.len;
            at = &node.next[first_bit(value)];
        }
    }

    /// Splits a run after `common` bits, where the prefix of `len` bits of `value` ends or leaves it.
    fn split(&self, free: &mut Free, run: Run, common: u8, value: u128, len: u8) -> u32 {
        let rest = Run {
            bits: run.bits << common,
            len: run.len - common,
            ..run
        };
        let side = (rest.bits >> 31) as usize;
        let mut next = [NONE; 2];
        next[side] = self.add(free, rest);
        if common < len {
            next[1 - side] = self.chain(free, shl(value, common), len - common);
        }
        let split = Run {
            bits: run.bits & !u32::MAX.checked_shr(common.into()).unwrap_or(0),
            len: common,
            n_rules: u32::from(common == len),
            next,
        };
        self.add(free, split)
    }

    /// Nodes for a prefix where nothing is yet.
    fn chain(&self, free: &mut Free, value: u128, len: u8) -> u32 {
        let mut next = NONE;
        let mut done = len;
        // From the end on: a node needs to know what follows.
        while done > 0 {
            let start = (done - 1) / MAX_RUN * MAX_RUN;
            let rest = shl(value, start);
            let mut sides = [NONE; 2];
            if next != NONE {
                sides[first_bit(shl(value, done))] = next;
            }
            let run = Run {
                bits: top(prefix(rest, done - start)),
                len: done - start,
                n_rules: u32::from(done == len),
                next: sides,
            };
            next = self.add(free, run);
            done = start;
        }
        next
    }

    /// One rule of the first `len` bits of `value` less.
    pub fn remove(&self, mut value: u128, mut len: u8) {
        let mut free = self.writer();
        let mut way = Vec::with_capacity(16);
        let mut at = &self.root;
        loop {
            let Some(node) = self.nodes.get(at.load(Relaxed)) else {
                return;
            };
            let run = node.run();
            let common = (top(value) ^ run.bits).leading_zeros().min(run.len.into()) as u8;
            if common.min(len) < run.len {
                return;
            }
            way.push(at);
            if len == run.len {
                if run.n_rules < MANY {
                    node.set_counts(run.len, run.n_rules.saturating_sub(1));
                }
                break;
            }
            value = shl(value, run.len);
            len -= run.len;
            at = &node.next[first_bit(value)];
        }
        // A run without rules goes if nothing follows, and joins what follows if it does not branch.
        while let Some(at) = way.pop() {
            let index = at.load(Relaxed);
            let Some(run) = self.nodes.get(index).map(Node::run) else {
                return;
            };
            match run.next {
                _ if run.n_rules > 0 => return,
                [NONE, NONE] => at.store(NONE, Release),
                [only, NONE] | [NONE, only] => {
                    let joined = self.nodes.get(only).map(Node::run);
                    let Some(joined) = joined.filter(|j| run.len + j.len <= MAX_RUN) else {
                        return;
                    };
                    let bits = joined.bits.checked_shr(run.len.into()).unwrap_or(0);
                    let joined = Run {
                        bits: run.bits | bits,
                        len: run.len + joined.len,
                        ..joined
                    };
                    at.store(self.add(&mut free, joined), Release);
                    free.retired.push(only);
                }
                _ => return,
            }
            free.retired.push(index);
        }
    }

    /// A new node, which nobody sees yet.
    fn add(&self, free: &mut Free, run: Run) -> u32 {
        if free.ready.is_empty() && free.retired.len() >= BATCH {
            free.ready = std::mem::take(&mut free.retired);
            self.epoch.fetch_add(1, AcqRel);
            fence(Release);
        }
        let index = free.ready.pop().unwrap_or_else(|| self.nodes.grow());
        if let Some(node) = self.nodes.get(index) {
            node.bits.store(run.bits, Relaxed);
            node.set_counts(run.len, run.n_rules);
            for (place, next) in node.next.iter().zip(run.next) {
                place.store(next, Relaxed);
            }
        }
        index
    }

    fn writer(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.root.load(Relaxed) == NONE
    }
}

/// The trie of one field over all rules of a classifier.
pub(crate) struct TrieField {
    field: FieldId,
    width: u8,
    /// Place of the field's first byte in the flow key; its bytes are in network order.
    ofs: usize,
    trie: Trie,
}

/// What a lookup in the classifier knows about one trie; filled when first needed.
#[derive(Default)]
pub(crate) struct TrieCtx(Option<Found>);

impl TrieField {
    pub fn new(field: FieldId) -> TrieField {
        let mut wc = FlowWildcards::default();
        field.field().mask_field(&mut wc);
        let mut bytes = wc.masks.words().iter().flat_map(|word| word.to_ne_bytes());
        TrieField {
            field,
            width: field.field().n_bits as u8,
            ofs: bytes.position(|byte| byte != 0).unwrap_or(0),
            trie: Trie::default(),
        }
    }

    pub fn field(&self) -> FieldId {
        self.field
    }

    /// Whether the field begins in words `start..end` of the key.
    pub fn is_in(&self, start: usize, end: usize) -> bool {
        (start..end).contains(&(self.ofs / 8))
    }

    /// The field in a key of which `word` gives the words.
    fn value(&self, word: impl Fn(usize) -> u64) -> u128 {
        let first = self.ofs / 8;
        let mut bytes = [0; 24];
        let last = (self.ofs + usize::from(self.width) / 8 - 1) / 8;
        for (place, i) in bytes.chunks_exact_mut(8).zip(first..=last) {
            place.copy_from_slice(&word(i).to_ne_bytes());
        }
        let mut value = [0; 16];
        value.copy_from_slice(&bytes[self.ofs % 8..][..16]);
        prefix(u128::from_be_bytes(value), self.width)
    }

    /// Length of the prefix that a mask has in the field; 0 if it is no prefix.
    fn mask_len(mask: u128) -> u8 {
        let len = mask.leading_ones() as u8;
        if shl(mask, len) == 0 { len } else { 0 }
    }

    /// The same of the mask of a subtable.
    pub fn prefix_len(&self, mask: &Flow) -> u8 {
        TrieField::mask_len(self.value(|i| mask.words()[i]))
    }

    fn prefix_of(&self, m: MatchRef<'_>) -> Option<(u128, u8)> {
        let len = TrieField::mask_len(self.value(|i| m.mask(i)));
        (len > 0).then(|| (self.value(|i| m.value(i)), len))
    }

    pub fn insert(&self, m: MatchRef<'_>) {
        if let Some((value, len)) = self.prefix_of(m) {
            self.trie.insert(value, len);
        }
    }

    pub fn remove(&self, m: MatchRef<'_>) {
        if let Some((value, len)) = self.prefix_of(m) {
            self.trie.remove(value, len);
        }
    }

    /// Whether no rule with a prefix of length `len` can match `flow`. If so, the bits that tell are added to `wc`;
    /// it is not said when they would be more than those of the prefix itself.
    pub fn rules_out(
        &self,
        ctx: &mut TrieCtx,
        flow: &Flow,
        len: u8,
        wc: &mut FlowWildcards,
    ) -> bool {
        // Some places of the key hold different fields by turns: other packets have other values here.
        if !self.field.field().prereqs_ok(flow) {
            return false;
        }
        let found = *ctx.0.get_or_insert_with(|| {
            let value = self.value(|i| flow.words()[i]);
            self.trie.lookup(value, self.width)
        });
        if found.has_len(len) || found.checked > len {
            return false;
        }
        let mask = prefix(u128::MAX, found.checked) >> (128 - u32::from(self.width));
        self.field.field().mask_field_bits_in(
            &FieldValue::from(mask),
            wc,
            &ferrovs_packet::field::NO_TUN_TABLE,
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the first `len` bits are the same.
    fn agree(a: u128, b: u128, len: u8) -> bool {
        (a ^ b).leading_zeros() >= len.into()
    }

    proptest! {
        #[test]
        fn a_trie_tells_what_a_list_of_prefixes_tells(
            prefixes in prop::collection::vec((any::<u8>(), 1u8..=8), 0..20),
            removed in prop::collection::vec(any::<bool>(), 20),
        ) {
            let place = |v: u8| u128::from(v) << 120;
            let trie = Trie::default();
            for (value, len) in &prefixes {
                trie.insert(place(*value), *len);
            }
            let mut kept = Vec::new();
            for ((value, len), gone) in prefixes.iter().zip(removed) {
                if gone {
                    trie.remove(place(*value), *len);
                } else {
                    kept.push((*value, *len));
                }
            }
            for value in 0..=255u8 {
                let found = trie.lookup(place(value), 8);
                let mut lens = 0;
                for (prefix, len) in &kept {
                    if agree(place(*prefix), place(value), *len) {
                        lens |= 1 << (len - 1);
                    }
                }
                prop_assert_eq!(found.lens, lens);
                // Whoever agrees in the checked bits gets the same lengths.
                for other in 0..=255u8 {
                    if agree(place(other), place(value), found.checked) {
                        prop_assert_eq!(trie.lookup(place(other), 8), found);
                    }
                }
            }
            prop_assert!(!kept.is_empty() || trie.is_empty());
        }

        #[test]
        fn long_runs_are_several_nodes(
            prefixes in prop::collection::vec((0u8..4, 1u8..=128, any::<bool>()), 1..30),
        ) {
            // Few bits that differ, far apart.
            let place = |v: u8| u128::from(v & 1) << 90 | u128::from(v >> 1) << 3;
            let trie = Trie::default();
            for (value, len, _) in &prefixes {
                trie.insert(place(*value), *len);
            }
            for (value, len, _) in prefixes.iter().filter(|p| p.2) {
                trie.remove(place(*value), *len);
            }
            let mut kept = prefixes;
            kept.retain(|p| !p.2);
            for value in 0..4 {
                let lens = kept.iter().filter(|p| agree(place(p.0), place(value), p.1));
                let lens = lens.fold(0u128, |lens, p| lens | 1 << (p.1 - 1));
                prop_assert_eq!(trie.lookup(place(value), 128).lens, lens);
            }
            prop_assert!(!kept.is_empty() || trie.is_empty());
        }
    }

    #[test]
    fn places_are_used_again() {
        let trie = Trie::default();
        let value = |i: u32| u128::from(i.wrapping_mul(0x9e37_79b9)) << 96;
        for round in 0..20 {
            for i in 0..1000 {
                trie.insert(value(i + round), 32);
            }
            for i in 0..1000 {
                trie.remove(value(i + round), 32);
            }
        }
        assert!(trie.is_empty());
        let free = trie.writer();
        let n = free.ready.len() + free.retired.len();
        assert!((n as u32) < 6000, "{n} places for 2000 nodes");
    }

    #[test]
    fn readers_meet_what_stays_while_other_prefixes_come_and_go() {
        let trie = Trie::default();
        let value = |i: u32| u128::from(i.wrapping_mul(0x9e37_79b9)) << 96;
        for i in 0..100 {
            trie.insert(value(i), 32);
        }
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    while !stop.load(Relaxed) {
                        for i in 0..100 {
                            assert!(trie.lookup(value(i), 32).has_len(32), "{i}");
                        }
                    }
                });
            }
            for round in 0..200 {
                for i in 100..300 {
                    trie.insert(value(i + round), 24 + (i % 9) as u8);
                }
                for i in 100..300 {
                    trie.remove(value(i + round), 24 + (i % 9) as u8);
                }
            }
            stop.store(true, Relaxed);
        });
    }
}
