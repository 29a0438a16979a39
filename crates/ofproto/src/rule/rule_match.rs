//! The match of a rule, packed: only the words of the flow key that the match looks at are kept.
//!
//! Few masks serve many matches, which share them. Two matches are equal exactly when their packed forms are.

use std::sync::Arc;

use ferrovs_packet::flow::{FLOW_WORDS, Flow, Match};
use smallvec::SmallVec;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleMatch {
    mask: Arc<RuleMask>,
    /// The words of the key, masked. Most matches look at one or two.
    values: SmallVec<[u64; 2]>,
}

/// The words that a match looks at.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct RuleMask {
    /// Which ones.
    map: u128,
    /// Their masks, lowest first.
    words: Box<[u64]>,
}

impl RuleMask {
    pub fn new(map: u128, words: &[u64]) -> RuleMask {
        let words = words.into();
        RuleMask { map, words }
    }

    pub fn is(&self, map: u128, words: &[u64]) -> bool {
        self.map == map && *self.words == *words
    }
}

/// The positions of the bits of `map`, lowest first.
fn positions(mut map: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (map != 0).then(|| {
            let i = map.trailing_zeros() as usize;
            map &= map - 1;
            i
        })
    })
}

impl RuleMatch {
    pub fn new(m: &Match) -> RuleMatch {
        RuleMatch::sharing(m, |map, words| Arc::new(RuleMask::new(map, words)))
    }

    /// The same; `mask` gives the mask of these words.
    pub(crate) fn sharing(
        m: &Match,
        mask: impl FnOnce(u128, &[u64]) -> Arc<RuleMask>,
    ) -> RuleMatch {
        let masks = m.wc.masks.words();
        let mut map = 0u128;
        for (i, &mask) in masks.iter().enumerate() {
            map |= u128::from(mask != 0) << i;
        }
        let words: SmallVec<[u64; 16]> = positions(map).map(|i| masks[i]).collect();
        let key = m.flow.words();
        RuleMatch {
            mask: mask(map, &words),
            values: positions(map).map(|i| key[i] & masks[i]).collect(),
        }
    }

    /// The match in full.
    pub fn expand(&self) -> Match {
        let mut m = Match::default();
        let (masks, values) = self.parts();
        for (at, i) in positions(self.mask.map).enumerate() {
            m.wc.masks.words_mut()[i] = masks[at];
            m.flow.words_mut()[i] = values[at];
        }
        m
    }

    fn parts(&self) -> (&[u64], &[u64]) {
        (&self.mask.words, &self.values)
    }

    /// Which words, and their masks.
    pub(crate) fn mask(&self) -> (u128, &[u64]) {
        (self.mask.map, &self.mask.words)
    }

    pub(crate) fn values(&self) -> &[u64] {
        &self.values
    }

    /// Bytes that the match surely does not exceed in a message: every word may be eight fields of a byte.
    pub fn size_bound(&self) -> usize {
        self.values.len() * 64
    }

    pub fn is_catchall(&self) -> bool {
        self.mask.map == 0
    }

    /// Whether a packet with this key meets the match.
    pub fn matches(&self, flow: &Flow) -> bool {
        let (masks, values) = self.parts();
        let words = flow.words();
        positions(self.mask.map)
            .enumerate()
            .all(|(at, i)| words[i] & masks[at] == values[at])
    }

    /// Whether every packet that meets this match meets `wider`.
    pub fn is_within(&self, wider: &RuleMatch) -> bool {
        if wider.mask.map & !self.mask.map != 0 {
            return false;
        }
        let (masks, values) = self.parts();
        let (wide_masks, wide_values) = wider.parts();
        positions(wider.mask.map).enumerate().all(|(wide_at, i)| {
            let at = self.at(i);
            let mask = wide_masks[wide_at];
            masks[at] & mask == mask && values[at] & mask == wide_values[wide_at]
        })
    }

    /// Whether some packet meets both matches.
    pub fn overlaps(&self, other: &RuleMatch) -> bool {
        let (masks, values) = self.parts();
        let (other_masks, other_values) = other.parts();
        positions(self.mask.map & other.mask.map).all(|i| {
            let (a, b) = (self.at(i), other.at(i));
            (values[a] ^ other_values[b]) & masks[a] & other_masks[b] == 0
        })
    }

    /// Where word `i`, which must be in the map, is kept.
    fn at(&self, i: usize) -> usize {
        (self.mask.map & ((1u128 << i) - 1)).count_ones() as usize
    }
}

const _: () = assert!(FLOW_WORDS <= 128);

#[cfg(test)]
mod tests {
    use super::*;

    fn m(in_port: u32, metadata: Option<(u64, u64)>) -> RuleMatch {
        let mut m = Match::default();
        if in_port != 0 {
            m.flow.in_port = in_port;
            m.wc.masks.in_port = u32::MAX;
        }
        if let Some((value, mask)) = metadata {
            m.flow.metadata = value.into();
            m.wc.masks.metadata = mask.into();
        }
        RuleMatch::new(&m)
    }

    #[test]
    fn packing_keeps_the_match() {
        let mut full = Match::default();
        full.flow.metadata = 0x1200.into();
        full.wc.masks.metadata = 0xff00.into();
        full.flow.ct_tp_dst = 80.into();
        full.wc.masks.ct_tp_dst = 0xffff.into();
        assert_eq!(RuleMatch::new(&full).expand(), full);
    }

    #[test]
    fn narrower_matches_are_within_wider_ones_and_overlap_is_symmetric() {
        let wide = m(0, Some((0x10, 0xf0)));
        let narrow = m(3, Some((0x15, 0xff)));
        assert!(narrow.is_within(&wide) && !wide.is_within(&narrow));
        assert!(narrow.is_within(&m(0, None)));
        let port = m(3, None);
        assert!(wide.overlaps(&port) && port.overlaps(&wide));
        assert!(!port.is_within(&wide) && !wide.is_within(&port));
        assert!(!m(3, None).overlaps(&m(4, None)));
        assert!(!m(3, Some((0x20, 0xf0))).overlaps(&wide));
    }
}
