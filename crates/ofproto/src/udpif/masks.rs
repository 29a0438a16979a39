//! Masks of flows: there are few, and most flows share theirs with many others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_packet::flow::FlowWildcards;
use ferrovs_packet::hash::mix;
use ferrovs_packet::miniflow::{FlowMap, Minimask};

use super::ukey;

/// A mask that flows share, and its hash in their identifiers.
#[derive(Clone)]
pub struct Shared {
    pub mask: Arc<Minimask>,
    pub hash: [u64; 2],
}

/// Those that flows got lately.
pub struct Masks {
    by_hash: [Mutex<Option<Shared>>; 64],
    /// The last for each kind of packet, as it was before it was packed: likely it is the next one too.
    by_kind: [Mutex<Option<Box<(FlowWildcards, Shared)>>>; 64],
}

impl Default for Masks {
    fn default() -> Masks {
        Masks {
            by_hash: [const { Mutex::new(None) }; 64],
            by_kind: [const { Mutex::new(None) }; 64],
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Masks {
    /// The mask of a packet of this kind, packed: that of other flows if it is the same.
    pub fn pack(&self, wc: &FlowWildcards, kind: usize) -> Shared {
        let mut last = lock(&self.by_kind[kind % self.by_kind.len()]);
        if let Some(last) = &*last
            && last.0.masks.words() == wc.masks.words()
        {
            return last.1.clone();
        }
        let shared = self.find(wc);
        *last = Some(Box::new((*wc, shared.clone())));
        shared
    }

    fn find(&self, wc: &FlowWildcards) -> Shared {
        let map = FlowMap::of(&wc.masks);
        let words = wc.masks.words();
        let hash = map.iter().fold(0, |hash, i| mix(hash, words[i]));
        let mut recent = lock(&self.by_hash[hash as usize % self.by_hash.len()]);
        if let Some(shared) = &*recent
            && shared.mask.is(map, wc)
        {
            return shared.clone();
        }
        let mask = Arc::new(Minimask::new(wc));
        let hash = ukey::hash_mask(&mask);
        recent.insert(Shared { mask, hash }).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_masks_are_one() {
        let masks = Masks::default();
        let mut wc = FlowWildcards::default();
        wc.masks.nw_src = u32::MAX.into();
        let first = masks.pack(&wc, 1);
        assert_eq!(first.hash, ukey::hash_mask(&first.mask));
        for kind in [1, 2] {
            assert!(Arc::ptr_eq(&first.mask, &masks.pack(&wc, kind).mask));
        }
        for len in 1..=200u32 {
            (wc.masks.nw_dst, wc.masks.in_port) = (len.into(), len);
            let shared = masks.pack(&wc, 1);
            assert_eq!(shared.mask.expand(), wc);
            assert_eq!(shared.hash, ukey::hash_mask(&shared.mask));
            assert_ne!(shared.hash, first.hash);
        }
    }
}
