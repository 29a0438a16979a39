//! Flow keys and masks in packed form: a map of which words of a [`Flow`] are present, and those words in order.
//!
//! Most keys have about 12 of [`FLOW_WORDS`] words, so packing makes parsing, hashing, comparing and storing
//! cheap. A word that is absent is zero. Three holders share the operations of the borrowed view [`MiniRef`]:
//! [`MiniflowBuf`] is filled from packets and used again and again, [`Miniflow`] owns a key in as little memory
//! as it needs, and [`Minimask`] owns a mask.
//!
//! ```text
//!   map      ...0000 0111 0000 0000 1100...       bit i = word i of Flow is in `values`
//!   values   [w4][w5][w6][w22][w23]
//! ```

use std::fmt;

use crate::flow::{FLOW_WORDS, Flow, FlowWildcards, Match};
use crate::hash;

mod tuple;

pub(crate) use tuple::Ipv4Tuple;
pub use tuple::hash_5tuple;

/// Which words are present.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowMap(pub [u64; 2]);

impl FlowMap {
    pub const EMPTY: FlowMap = FlowMap([0; 2]);

    #[inline]
    pub fn set(&mut self, word: usize) {
        self.0[word / 64] |= 1 << (word % 64);
    }

    #[inline]
    pub fn contains(self, word: usize) -> bool {
        self.0[word / 64] >> (word % 64) & 1 != 0
    }

    /// The words of `flow` that are not zero.
    pub fn of(flow: &Flow) -> FlowMap {
        const GROUP: usize = 4;
        const _: () = assert!(FLOW_WORDS.is_multiple_of(GROUP) && 64 % GROUP == 0);
        let mut map = FlowMap::EMPTY;
        let (groups, _) = flow.words().as_chunks::<GROUP>();
        for (start, words) in (0..).step_by(GROUP).zip(groups) {
            // Most words are zero, and so are their neighbours.
            if words.iter().fold(0, |a, b| a | b) != 0 {
                let bit = |(i, w): (usize, &u64)| u64::from(*w != 0) << i;
                let bits = words.iter().enumerate().map(bit).fold(0, |a, b| a | b);
                map.0[start / 64] |= bits << (start % 64);
            }
        }
        map
    }

    /// Whether there is a word in both.
    #[inline]
    pub fn intersects(self, other: FlowMap) -> bool {
        !self.and(other).is_empty()
    }

    /// Number of words.
    #[inline]
    pub fn count(self) -> usize {
        (self.0[0].count_ones() + self.0[1].count_ones()) as usize
    }

    /// Place of `word` among the words that are present.
    #[inline]
    pub fn rank(self, word: usize) -> usize {
        let below = (1u64 << (word % 64)) - 1;
        if word < 64 {
            (self.0[0] & below).count_ones() as usize
        } else {
            (self.0[0].count_ones() + (self.0[1] & below).count_ones()) as usize
        }
    }

    pub fn is_empty(self) -> bool {
        self.0 == [0; 2]
    }

    pub const fn or(self, other: FlowMap) -> FlowMap {
        FlowMap([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    pub fn and(self, other: FlowMap) -> FlowMap {
        FlowMap([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    /// Words `start..end`.
    pub fn range(start: usize, end: usize) -> FlowMap {
        let low = |n: usize| match n {
            0 => FlowMap([0, 0]),
            1..64 => FlowMap([(1 << n) - 1, 0]),
            64 => FlowMap([u64::MAX, 0]),
            65..128 => FlowMap([u64::MAX, (1 << (n - 64)) - 1]),
            _ => FlowMap([u64::MAX; 2]),
        };
        let (a, b) = (low(start), low(end));
        FlowMap([b.0[0] & !a.0[0], b.0[1] & !a.0[1]])
    }

    /// Indexes of the words, ascending.
    #[inline]
    pub fn iter(self) -> FlowMapIter {
        FlowMapIter(self)
    }
}

impl fmt::Debug for FlowMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// See [`FlowMap::iter`].
pub struct FlowMapIter(FlowMap);

impl Iterator for FlowMapIter {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let [low, high] = &mut self.0.0;
        if *low != 0 {
            let i = low.trailing_zeros() as usize;
            *low &= *low - 1;
            Some(i)
        } else if *high != 0 {
            let i = high.trailing_zeros() as usize;
            *high &= *high - 1;
            Some(64 + i)
        } else {
            None
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, usize) -> B>(self, init: B, mut f: F) -> B {
        let FlowMap([mut low, mut high]) = self.0;
        let mut all = init;
        while low != 0 {
            all = f(all, low.trailing_zeros() as usize);
            low &= low - 1;
        }
        while high != 0 {
            all = f(all, 64 + high.trailing_zeros() as usize);
            high &= high - 1;
        }
        all
    }

    // What is collected from here is allocated once, in its size.
    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.0.count();
        (n, Some(n))
    }
}

impl ExactSizeIterator for FlowMapIter {}

/// A view of a packed key or mask.
#[derive(Clone, Copy, Debug)]
pub struct MiniRef<'a> {
    pub map: FlowMap,
    /// As many as `map` has bits.
    pub values: &'a [u64],
}

impl<'a> MiniRef<'a> {
    /// Word `i` of the flow.
    #[inline]
    pub fn word(self, i: usize) -> u64 {
        if self.map.contains(i) {
            self.values.get(self.map.rank(i)).copied().unwrap_or(0)
        } else {
            0
        }
    }

    /// Words with their indexes.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (usize, u64)> + 'a {
        self.map.iter().zip(self.values.iter().copied())
    }

    pub fn expand(self) -> Flow {
        let mut flow = Flow::default();
        for (i, word) in self.iter() {
            flow.words_mut()[i] = word;
        }
        flow
    }

    /// Hash of all words and which they are.
    pub fn hash(self, basis: u64) -> u64 {
        let h = hash::mix(basis ^ self.map.0[0], self.map.0[1]);
        self.values.iter().fold(h, |h, &w| hash::mix(h, w))
    }

    /// Hash of the words that `mask` has, masked.
    #[inline]
    pub fn hash_in_mask(self, mask: MiniRef<'_>, basis: u64) -> u64 {
        let pairs = mask.iter();
        pairs.fold(basis, |h, (i, m)| hash::mix(h, self.word(i) & m))
    }

    /// Whether the masked words are `want`, which are as many as `mask` has.
    #[inline]
    pub fn matches(self, want: &[u64], mask: MiniRef<'_>) -> bool {
        mask.iter()
            .zip(want)
            .all(|((i, m), &w)| self.word(i) & m == w)
    }

    /// Same key: equal words, absent ones being zero.
    pub fn same(self, other: MiniRef<'_>) -> bool {
        if self.map == other.map {
            return self.values == other.values;
        }
        self.map
            .or(other.map)
            .iter()
            .all(|i| self.word(i) == other.word(i))
    }
}

/// A packed key that owns its words.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Miniflow {
    map: FlowMap,
    values: Box<[u64]>,
}

impl Miniflow {
    /// From the words of `flow` that are not zero.
    pub fn new(flow: &Flow) -> Miniflow {
        Miniflow::with_map(flow, FlowMap::of(flow))
    }

    /// From the words of `flow` that `map` names, zero or not.
    pub fn with_map(flow: &Flow, map: FlowMap) -> Miniflow {
        let mut values = Vec::with_capacity(map.count());
        map.iter().for_each(|i| values.push(flow.words()[i]));
        let values = values.into();
        Miniflow { map, values }
    }

    /// Whether it is what would be packed from the words of `flow` that `map` names.
    fn is(&self, map: FlowMap, flow: &Flow) -> bool {
        let mut words = map.iter().zip(&self.values);
        self.map == map && words.all(|(i, word)| flow.words()[i] == *word)
    }

    #[inline]
    pub fn view(&self) -> MiniRef<'_> {
        MiniRef {
            map: self.map,
            values: &self.values,
        }
    }

    pub fn expand(&self) -> Flow {
        self.view().expand()
    }
}

impl From<MiniRef<'_>> for Miniflow {
    fn from(mini: MiniRef<'_>) -> Self {
        Miniflow {
            map: mini.map,
            values: mini.values.into(),
        }
    }
}

/// A packed mask; words that are all zero are absent.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Minimask(Miniflow);

impl Minimask {
    pub fn new(wc: &FlowWildcards) -> Minimask {
        Minimask(Miniflow::new(&wc.masks))
    }

    #[inline]
    pub fn view(&self) -> MiniRef<'_> {
        self.0.view()
    }

    #[inline]
    pub fn map(&self) -> FlowMap {
        self.0.map
    }

    pub fn expand(&self) -> FlowWildcards {
        FlowWildcards {
            masks: self.0.expand(),
        }
    }

    pub fn is_catchall(&self) -> bool {
        self.0.map.is_empty()
    }

    /// Whether it is the packed form of `wc`, whose words that are not zero are those of `map`.
    pub fn is(&self, map: FlowMap, wc: &FlowWildcards) -> bool {
        self.0.is(map, &wc.masks)
    }

    /// Whether every bit of `other` is in `self`.
    pub fn covers(&self, other: &Minimask) -> bool {
        other
            .view()
            .iter()
            .all(|(i, m)| self.view().word(i) & m == m)
    }
}

/// A packed match: the words of the key that the mask has, and the mask.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct MiniMatch {
    /// With the map of `mask`.
    pub flow: Miniflow,
    pub mask: Minimask,
}

impl MiniMatch {
    pub fn new(m: &Match) -> MiniMatch {
        let mask = Minimask::new(&m.wc);
        let mut flow = Miniflow::with_map(&m.flow, mask.map());
        for (value, mask) in flow.values.iter_mut().zip(mask.view().values) {
            *value &= mask;
        }
        MiniMatch { flow, mask }
    }

    pub fn expand(&self) -> Match {
        Match {
            flow: self.flow.expand(),
            wc: self.mask.expand(),
        }
    }

    pub fn matches(&self, flow: MiniRef<'_>) -> bool {
        flow.matches(&self.flow.values, self.mask.view())
    }
}

/// Places in a [`MiniflowBuf`], more than there are words.
const PLACES: usize = 128;
const _: () = assert!(FLOW_WORDS < PLACES);

/// Where a packed key has a word: see [`MiniflowBuf::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u8);

impl Place {
    /// Of `word` in keys that have these words.
    pub fn new(map: FlowMap, word: usize) -> Place {
        let at = if map.contains(word) {
            map.rank(word)
        } else {
            PLACES - 1
        };
        Place(at as u8)
    }
}

/// Room for a packed key that is filled many times.
// What every key has comes first.
#[derive(Clone)]
#[repr(C)]
pub struct MiniflowBuf {
    map: FlowMap,
    len: usize,
    /// Addresses and ports, where the parser had them at hand.
    pub(crate) tuple: Option<Ipv4Tuple>,
    /// The words that are there; behind them is what earlier keys left, and zero in the last place.
    values: [u64; PLACES],
}

impl Default for MiniflowBuf {
    fn default() -> Self {
        MiniflowBuf {
            map: FlowMap::EMPTY,
            len: 0,
            tuple: None,
            values: [0; PLACES],
        }
    }
}

impl MiniflowBuf {
    pub fn new() -> MiniflowBuf {
        MiniflowBuf::default()
    }

    #[inline]
    pub fn clear(&mut self) {
        self.map = FlowMap::EMPTY;
        self.len = 0;
        self.tuple = None;
    }

    /// Adds word `i`; each must be higher than those before.
    #[inline]
    pub(crate) fn push(&mut self, i: usize, word: u64) {
        debug_assert!(
            self.map.iter().all(|j| j < i),
            "words must be pushed in order"
        );
        self.map.set(i);
        self.values[self.len] = word;
        self.len += 1;
    }

    /// Makes these the words.
    #[inline]
    pub(crate) fn set<const N: usize>(&mut self, map: FlowMap, words: [u64; N]) {
        debug_assert_eq!(map.count(), N);
        (self.map, self.len) = (map, N);
        if let Some(room) = self.values.first_chunk_mut::<N>() {
            *room = words;
        }
    }

    /// Adds words that are higher than those before.
    #[inline]
    pub(crate) fn append<const N: usize>(&mut self, map: FlowMap, words: [u64; N]) {
        debug_assert_eq!(map.count(), N);
        if let Some(room) = self.values.get_mut(self.len..self.len + N) {
            room.copy_from_slice(&words);
        }
        self.map = self.map.or(map);
        self.len += N;
    }

    /// [`MiniRef::hash_5tuple`] of the key, without a basis.
    #[inline]
    pub fn hash_5tuple(&self) -> u32 {
        match self.tuple {
            Some(tuple) => tuple.hash(0),
            None => self.view().hash_5tuple(0),
        }
    }

    #[inline]
    pub fn view(&self) -> MiniRef<'_> {
        MiniRef {
            map: self.map,
            values: &self.values[..self.len],
        }
    }

    /// Whether it is the key of an IPv4 packet that `other` is too, word for word. Says no quickly, and of all others.
    #[inline]
    pub fn repeats(&self, other: &MiniflowBuf) -> bool {
        self.tuple.is_some()
            && self.tuple == other.tuple
            && self.map == other.map
            && self.view().values == other.view().values
    }

    /// Which words are there.
    #[inline]
    pub fn map(&self) -> FlowMap {
        self.map
    }

    /// The word at a place of keys that have the words of this one; zero if it is not there.
    #[inline]
    pub fn at(&self, place: Place) -> u64 {
        self.values[usize::from(place.0) % PLACES]
    }

    /// Takes the words of a flow that are not zero.
    pub fn set_flow(&mut self, flow: &Flow) {
        self.clear();
        for (i, &word) in flow.words().iter().enumerate() {
            if word != 0 {
                self.push(i, word);
            }
        }
    }

    pub fn expand(&self) -> Flow {
        self.view().expand()
    }
}

impl fmt::Debug for MiniflowBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_flow() -> impl Strategy<Value = Flow> {
        prop::collection::vec((0..FLOW_WORDS, any::<u64>()), 0..20).prop_map(|words| {
            let mut flow = Flow::default();
            words.into_iter().for_each(|(i, w)| flow.words_mut()[i] = w);
            flow
        })
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(flow in any_flow(), mask in any_flow()) {
            let mini = Miniflow::new(&flow);
            prop_assert_eq!(mini.expand(), flow);
            let mut buf = MiniflowBuf::new();
            buf.set_flow(&flow);
            prop_assert!(buf.view().same(mini.view()));
            for i in 0..FLOW_WORDS {
                prop_assert_eq!(mini.view().word(i), flow.words()[i]);
            }
            let m = Match::new(&flow, &FlowWildcards { masks: mask });
            let packed = MiniMatch::new(&m);
            prop_assert_eq!(packed.expand(), m);
            prop_assert!(packed.matches(mini.view()));
        }

        #[test]
        fn a_packed_match_decides_as_the_full_one(a in any_flow(), b in any_flow(), mask in any_flow()) {
            let m = Match::new(&a, &FlowWildcards { masks: mask });
            prop_assert_eq!(MiniMatch::new(&m).matches(Miniflow::new(&b).view()), m.matches(&b));
            let mask = Minimask::new(&m.wc);
            let (a, b) = (Miniflow::new(&a), Miniflow::new(&b));
            if m.matches(&b.expand()) {
                prop_assert_eq!(a.view().hash_in_mask(mask.view(), 1), b.view().hash_in_mask(mask.view(), 1));
            }
        }
    }

    #[test]
    fn ranges_of_words_have_their_ends() {
        assert_eq!(
            FlowMap::range(60, 70).iter().collect::<Vec<_>>(),
            (60..70).collect::<Vec<_>>()
        );
        assert!(FlowMap::range(64, 64).is_empty());
        assert_eq!(FlowMap::range(0, 128).count(), 128);
    }
}
