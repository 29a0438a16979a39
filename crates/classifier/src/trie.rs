//! Tries of the prefixes that rules match a field with.
//!
//! A lookup of a value tells for which prefix lengths some rule agrees with it, and how many leading bits of the
//! value that knowledge depends on. Nodes are immutable and path-compressed; a change builds the nodes on its
//! path anew and publishes the root, so that readers walk without a lock.
//!
//! Bits are numbered from the most significant; values are aligned to the left of 128 bits.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ferrovs_packet::field::{FieldId, FieldValue};
use ferrovs_packet::flow::{Flow, FlowWildcards};

use crate::rule::MatchRef;

/// A run of bits, and what follows them.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The run itself, aligned to the left; the rest is zero.
    bits: u128,
    len: u8,
    /// Rules whose prefix ends with this run.
    n_rules: u32,
    /// What goes on with a 0 or a 1.
    next: [Option<Arc<Node>>; 2],
}

fn shl(value: u128, n: u8) -> u128 {
    value.checked_shl(n.into()).unwrap_or(0)
}

/// The first `n` bits.
fn prefix(value: u128, n: u8) -> u128 {
    value & !u128::MAX.checked_shr(n.into()).unwrap_or(0)
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

/// Looks `value` of `width` bits up.
pub(crate) fn lookup(root: Option<&Node>, mut value: u128, width: u8) -> Found {
    let mut found = Found::default();
    let Some(mut node) = root else { return found };
    let mut ofs = 0;
    loop {
        let common = (value ^ node.bits).leading_zeros().min(node.len.into()) as u8;
        if common < node.len {
            found.checked = (ofs + common + 1).min(width);
            return found;
        }
        ofs += node.len;
        value = shl(value, node.len);
        if node.n_rules > 0 && ofs > 0 {
            found.lens |= 1 << (ofs - 1);
        }
        if ofs >= width {
            found.checked = width;
            return found;
        }
        match &node.next[first_bit(value)] {
            Some(next) => node = next,
            None => {
                // With a branch to the other side the next bit decided too.
                let branch = node.next.iter().any(Option::is_some);
                found.checked = ofs + u8::from(branch);
                return found;
            }
        }
    }
}

/// The trie with one more rule of the first `len` bits of `value`.
pub(crate) fn insert(node: Option<&Node>, value: u128, len: u8) -> Arc<Node> {
    let Some(node) = node else {
        return Arc::new(Node {
            bits: prefix(value, len),
            len,
            n_rules: 1,
            next: [None, None],
        });
    };
    let common = (value ^ node.bits).leading_zeros().min(node.len.into()) as u8;
    let common = common.min(len);
    if common < node.len {
        // Split the run where the prefix ends or leaves it.
        let rest = Node {
            bits: shl(node.bits, common),
            len: node.len - common,
            ..node.clone()
        };
        let mut split = Node {
            bits: prefix(node.bits, common),
            len: common,
            n_rules: 0,
            next: [None, None],
        };
        let side = first_bit(rest.bits);
        split.next[side] = Some(Arc::new(rest));
        if common == len {
            split.n_rules = 1;
        } else {
            let value = shl(value, common);
            split.next[first_bit(value)] = Some(insert(None, value, len - common));
        }
        return Arc::new(split);
    }
    let mut new = node.clone();
    if common == len {
        new.n_rules += 1;
    } else {
        let value = shl(value, common);
        let next = &mut new.next[first_bit(value)];
        *next = Some(insert(next.as_deref(), value, len - common));
    }
    Arc::new(new)
}

/// The trie with one rule of the first `len` bits of `value` less.
pub(crate) fn remove(node: Option<&Node>, value: u128, len: u8) -> Option<Arc<Node>> {
    let node = node?;
    let common = (value ^ node.bits).leading_zeros().min(node.len.into()) as u8;
    let mut new = node.clone();
    if common.min(len) < node.len {
        return Some(Arc::new(new));
    }
    if len == node.len {
        new.n_rules = new.n_rules.saturating_sub(1);
    } else {
        let value = shl(value, node.len);
        let next = &mut new.next[first_bit(value)];
        *next = remove(next.as_deref(), value, len - node.len);
    }
    if new.n_rules > 0 {
        return Some(Arc::new(new));
    }
    // A run without rules that does not branch joins what follows.
    match &new.next {
        [None, None] => None,
        [Some(only), None] | [None, Some(only)] => Some(Arc::new(Node {
            bits: new.bits | only.bits.checked_shr(new.len.into()).unwrap_or(0),
            len: new.len + only.len,
            n_rules: only.n_rules,
            next: only.next.clone(),
        })),
        _ => Some(Arc::new(new)),
    }
}

/// The trie of one field over all rules of a classifier.
pub(crate) struct TrieField {
    field: FieldId,
    width: u8,
    /// First word of the flow key that has the field.
    word: usize,
    root: ArcSwapOption<Node>,
}

/// What a lookup in the classifier knows about one trie; filled when first needed.
#[derive(Default)]
pub(crate) struct TrieCtx(Option<Found>);

impl TrieField {
    pub fn new(field: FieldId) -> TrieField {
        let mut wc = FlowWildcards::default();
        field.field().mask_field(&mut wc);
        TrieField {
            field,
            width: field.field().n_bits as u8,
            word: wc.masks.words().iter().position(|&w| w != 0).unwrap_or(0),
            root: ArcSwapOption::empty(),
        }
    }

    pub fn field(&self) -> FieldId {
        self.field
    }

    /// Whether the field begins in words `start..end` of the key.
    pub fn is_in(&self, start: usize, end: usize) -> bool {
        (start..end).contains(&self.word)
    }

    fn value(&self, flow: &Flow) -> u128 {
        shl(self.field.field().value(flow).to_u128(), 128 - self.width)
    }

    /// Length of the prefix that a mask has in the field; 0 if it is no prefix.
    pub fn prefix_len(&self, mask: &Flow) -> u8 {
        let mask = self.value(mask);
        let len = mask.leading_ones() as u8;
        if shl(mask, len) == 0 { len } else { 0 }
    }

    fn prefix_of(&self, m: MatchRef<'_>) -> Option<(u128, u8)> {
        if !m.map.contains(self.word) {
            return None;
        }
        let (mut mask, mut value) = (Flow::default(), Flow::default());
        for (at, i) in m.map.iter().enumerate() {
            mask.words_mut()[i] = m.masks[at];
            value.words_mut()[i] = m.values[at];
        }
        let len = self.prefix_len(&mask);
        (len > 0).then(|| (self.value(&value), len))
    }

    pub fn insert(&self, m: MatchRef<'_>) {
        if let Some((value, len)) = self.prefix_of(m) {
            let root = insert(self.root.load().as_deref(), value, len);
            self.root.store(Some(root));
        }
    }

    pub fn remove(&self, m: MatchRef<'_>) {
        if let Some((value, len)) = self.prefix_of(m) {
            let root = remove(self.root.load().as_deref(), value, len);
            self.root.store(root);
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
            lookup(self.root.load().as_deref(), self.value(flow), self.width)
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

    proptest! {
        #[test]
        fn a_trie_tells_what_a_list_of_prefixes_tells(
            prefixes in prop::collection::vec((any::<u8>(), 1u8..=8), 0..20),
            removed in prop::collection::vec(any::<bool>(), 20),
        ) {
            let place = |v: u8| u128::from(v) << 120;
            let mut root = None;
            for (value, len) in &prefixes {
                root = Some(insert(root.as_deref(), place(*value), *len));
            }
            let mut kept = Vec::new();
            for ((value, len), gone) in prefixes.iter().zip(removed) {
                if gone {
                    root = remove(root.as_deref(), place(*value), *len);
                } else {
                    kept.push((*value, *len));
                }
            }
            for value in 0..=255u8 {
                let found = lookup(root.as_deref(), place(value), 8);
                let mut lens = 0;
                for (prefix, len) in &kept {
                    if (prefix ^ value).leading_zeros() as u8 >= *len {
                        lens |= 1 << (len - 1);
                    }
                }
                prop_assert_eq!(found.lens, lens);
                // Whoever agrees in the checked bits gets the same lengths.
                for other in 0..=255u8 {
                    if (other ^ value).leading_zeros() as u8 >= found.checked {
                        prop_assert_eq!(lookup(root.as_deref(), place(other), 8), found);
                    }
                }
            }
            prop_assert!(!kept.is_empty() || root.is_none());
        }
    }
}
