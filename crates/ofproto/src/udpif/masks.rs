//! Masks of flows: there are few, and most flows share theirs with many others.

use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_packet::flow::FlowWildcards;
use ferrovs_packet::hash::mix;
use ferrovs_packet::miniflow::{FlowMap, Minimask};

/// Those that flows got lately, by hash.
pub struct Masks([Mutex<Option<Arc<Minimask>>>; 64]);

impl Default for Masks {
    fn default() -> Masks {
        Masks([const { Mutex::new(None) }; 64])
    }
}

impl Masks {
    /// The mask, packed: that of other flows if it is the same.
    pub fn pack(&self, wc: &FlowWildcards) -> Arc<Minimask> {
        let map = FlowMap::of(&wc.masks);
        let words = wc.masks.words();
        let hash = map.iter().fold(0, |hash, i| mix(hash, words[i]));
        let place = &self.0[hash as usize % self.0.len()];
        let mut recent = place.lock().unwrap_or_else(PoisonError::into_inner);
        match &*recent {
            Some(shared) if shared.is(map, wc) => shared.clone(),
            _ => recent.insert(Arc::new(Minimask::new(wc))).clone(),
        }
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
        let first = masks.pack(&wc);
        assert!(Arc::ptr_eq(&first, &masks.pack(&wc)));
        assert_eq!(first.expand(), wc);
        for len in 1..=200u32 {
            (wc.masks.nw_dst, wc.masks.in_port) = (len.into(), len);
            assert_eq!(masks.pack(&wc).expand(), wc);
        }
    }
}
