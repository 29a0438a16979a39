//! Keys under masks.
//!
//! Where a packed key has the words of a mask depends on which words it has at all. Packets are much alike, so a mask
//! remembers that for the last kinds of keys that it was laid over, and need not look for each word again.

use ferrovs_packet::hash::mix;
use ferrovs_packet::miniflow::{FlowMap, MiniflowBuf, Minimask, Place};

use crate::flow::mask_words;

/// Words of a key under a mask, at most.
const WORDS: usize = 128;
/// Kinds of keys that a mask remembers.
const KINDS: usize = 4;

/// A mask that keys are put under.
#[derive(Debug)]
pub struct Plan {
    /// The [words that packets are compared in](mask_words), and what matters of each.
    words: Box<[(u8, u64)]>,
    kinds: [Kind; KINDS],
}

/// Where keys that have the words of `map` have those of the mask, and what matters of each.
#[derive(Debug, Default)]
struct Kind {
    map: FlowMap,
    places: Box<[(u64, Place)]>,
}

/// Room for a key under a mask.
pub struct Masked(Box<[u64; WORDS]>);

impl Default for Masked {
    fn default() -> Masked {
        Masked(Box::new([0; WORDS]))
    }
}

impl Plan {
    pub fn new(mask: &Minimask) -> Plan {
        let of_packets = mask_words(mask.view()).map(|(word, mask)| (word as u8, mask));
        let words: Box<[_]> = of_packets.collect();
        Plan {
            kinds: std::array::from_fn(|_| Kind {
                map: FlowMap::EMPTY,
                places: places(&words, FlowMap::EMPTY),
            }),
            words,
        }
    }

    #[inline]
    fn places(&mut self, map: FlowMap) -> &[(u64, Place)] {
        let [low, high] = map.0;
        let at = (low ^ high.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
        let kind = &mut self.kinds[at as usize % KINDS];
        if kind.map != map {
            kind.map = map;
            kind.places = places(&self.words, map);
        }
        &kind.places
    }

    /// The words of the key that the mask looks at, under it.
    #[inline]
    pub fn under<'a>(&mut self, key: &MiniflowBuf, room: &'a mut Masked) -> &'a [u64] {
        let places = self.places(key.map());
        let room = &mut room.0[..places.len()];
        for (word, (mask, place)) in room.iter_mut().zip(places) {
            *word = key.at(*place) & mask;
        }
        room
    }

    /// Whether the key has these words under the mask.
    #[inline]
    pub fn matches(&mut self, key: &MiniflowBuf, want: &[u64]) -> bool {
        let mut pairs = want.iter().zip(self.places(key.map()));
        pairs.all(|(want, (mask, place))| key.at(*place) & mask == *want)
    }
}

#[cold]
fn places(words: &[(u8, u64)], map: FlowMap) -> Box<[(u64, Place)]> {
    let place = |(word, mask): &(u8, u64)| (*mask, Place::new(map, usize::from(*word)));
    words.iter().map(place).collect()
}

/// Hash of words under a mask. Every other goes into one of two halves: each step waits for the one before, and so two
/// can be under way.
#[inline]
pub fn hash(words: &[u64], seed: u64) -> u64 {
    let (mut a, mut b) = (seed, seed);
    let (pairs, last) = words.as_chunks::<2>();
    for [first, second] in pairs {
        (a, b) = (mix(a, *first), mix(b, *second));
    }
    for word in last {
        a = mix(a, *word);
    }
    mix(a, b)
}

/// The masks of a thread by number.
#[derive(Debug, Default)]
pub struct Plans {
    plans: Vec<Option<Plan>>,
    free: Vec<u32>,
}

impl Plans {
    pub fn add(&mut self, mask: &Minimask) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.plans.push(None);
            self.plans.len() as u32 - 1
        });
        self.plans[id as usize] = Some(Plan::new(mask));
        id
    }

    pub fn remove(&mut self, id: u32) {
        self.plans[id as usize] = None;
        self.free.push(id);
    }

    #[inline]
    pub fn get(&mut self, id: u32) -> Option<&mut Plan> {
        self.plans.get_mut(id as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::flow::{FLOW_WORDS, Flow, FlowWildcards};
    use ferrovs_packet::miniflow::Miniflow;
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
        fn a_key_is_under_a_mask_what_it_is_without_a_plan(
            keys in prop::collection::vec(any_flow(), 1..20),
            mask in any_flow(),
        ) {
            let mask = Minimask::new(&FlowWildcards { masks: mask });
            let (mut plan, mut room) = (Plan::new(&mask), Masked::default());
            let mut buf = MiniflowBuf::new();
            // What an earlier key left is not seen, whichever kind it was of.
            for key in keys.iter().chain(&keys) {
                buf.set_flow(key);
                let view = Miniflow::new(key);
                let under = |(i, mask)| view.view().word(i) & mask;
                let want: Vec<u64> = mask_words(mask.view()).map(under).collect();
                prop_assert_eq!(plan.under(&buf, &mut room), &want[..]);
                prop_assert!(plan.matches(&buf, &want));
                if let Some(first) = want.first() {
                    let other = [&[!first], &want[1..]].concat();
                    prop_assert!(!plan.matches(&buf, &other));
                }
            }
        }
    }
}
