//! What is remembered of each installed flow.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{FlowStats, PmdId, Ufid};
use ferrovs_packet::flow::{Flow, FlowWildcards};
use ferrovs_runtime::clock;

use crate::xlate::recirc::Recirc;
use crate::xlate::xcache::XCache;

/// One installed flow.
pub struct Ukey {
    pub ufid: Ufid,
    pub pmd: PmdId,
    /// The key of the packet that the flow was made for.
    pub flow: Flow,
    pub state: Mutex<UkeyState>,
}

pub struct UkeyState {
    pub wc: FlowWildcards,
    pub actions: Arc<[Action]>,
    /// What had been credited at the last dump.
    pub stats: FlowStats,
    pub created: Instant,
    /// Value of the sequence number that the translation is true for.
    pub reval_seq: u64,
    pub xcache: Option<XCache>,
    pub recircs: Vec<Arc<Recirc>>,
    /// When the datapath had the flow; none while it is still asked to install it.
    pub installed: Option<Instant>,
    /// The record that takes this one's place if the datapath turns out to have lost the flow.
    successor: Option<Arc<Ukey>>,
}

impl Ukey {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        ufid: Ufid,
        pmd: PmdId,
        flow: &Flow,
        wc: &FlowWildcards,
        actions: Arc<[Action]>,
        xcache: Option<XCache>,
        recircs: Vec<Arc<Recirc>>,
        reval_seq: u64,
    ) -> Ukey {
        let state = UkeyState {
            wc: *wc,
            actions,
            stats: FlowStats::default(),
            created: clock::now(),
            reval_seq,
            xcache,
            recircs,
            installed: None,
            successor: None,
        };
        Ukey {
            ufid,
            pmd,
            flow: *flow,
            state: Mutex::new(state),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, UkeyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The identifier of the megaflow that `flow` belongs to.
pub fn ufid_of(flow: &Flow, wc: &FlowWildcards) -> Ufid {
    // The same for all threads and over restarts of a thread, so that equal megaflows meet.
    let process = Ufid::seed();
    let half = |seed: u64| {
        let mut hasher = foldhash::quality::FixedState::with_seed(seed ^ process).build_hasher();
        for (value, mask) in flow.words().iter().zip(wc.masks.words()) {
            hasher.write_u64(value & mask);
            hasher.write_u64(*mask);
        }
        u128::from(hasher.finish())
    };
    Ufid::from_hash(half(0x6675_6c6c) << 64 | half(0x666c_6f77))
}

const SHARDS: usize = 64;
/// Frozen states that belong to no installed flow are kept for this many later ones.
const HELD: usize = 1024;

type Shard = HashMap<(Ufid, PmdId), Arc<Ukey>, foldhash::fast::FixedState>;

/// All installed flows, in shards so that upcalls of several threads do not wait for each other.
pub struct Ukeys {
    shards: [Mutex<Shard>; SHARDS],
    held: Mutex<VecDeque<Arc<Recirc>>>,
}

impl Default for Ukeys {
    fn default() -> Self {
        Ukeys {
            shards: std::array::from_fn(|_| Mutex::default()),
            held: Mutex::default(),
        }
    }
}

impl Ukeys {
    fn shard(&self, ufid: Ufid) -> MutexGuard<'_, Shard> {
        self.shards[ufid.0 as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the record of a flow that the datapath is asked to install: [`Ukeys::settle`] says how that ended.
    pub fn insert(&self, key: Ukey) {
        let mut shard = self.shard(key.ufid);
        let place = (key.ufid, key.pmd);
        let key = Arc::new(key);
        if let Some(old) = shard.get(&place) {
            let mut state = old.state();
            if state.installed.is_some() {
                state.successor = Some(key);
                return;
            }
        }
        shard.insert(place, key);
    }

    /// The record of a flow that is in the datapath: `key` if it has none yet.
    pub fn adopt(&self, key: Ukey) -> Arc<Ukey> {
        key.state().installed = Some(clock::now());
        let place = (key.ufid, key.pmd);
        let mut shard = self.shard(key.ufid);
        shard.entry(place).or_insert_with(|| Arc::new(key)).clone()
    }

    /// Notes whether a flow could be installed. If not, because it is there already, its record stays, with all that its
    /// packets are to be credited to.
    pub fn settle(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        let mut shard = self.shard(ufid);
        let place = (ufid, pmd);
        let Some(key) = shard.get(&place).cloned() else {
            return;
        };
        let mut state = key.state();
        let successor = state.successor.take();
        if !installed {
            if state.installed.is_none() {
                shard.remove(&place);
            }
        } else if let Some(next) = successor {
            next.state().installed = Some(clock::now());
            shard.insert(place, next);
        } else {
            state.installed = Some(clock::now());
        }
    }

    /// Forgets flows that a round of `since` did not see, unless they were installed since.
    pub fn forget_unseen(&self, since: Instant, seen: impl Fn(&Ukey) -> bool) {
        self.retain(|key| {
            let fresh = || key.state().installed.is_none_or(|at| at >= since);
            seen(key) || fresh()
        });
    }

    pub fn find(&self, ufid: Ufid, pmd: PmdId) -> Option<Arc<Ukey>> {
        self.shard(ufid).get(&(ufid, pmd)).cloned()
    }

    pub fn remove(&self, ufid: Ufid, pmd: PmdId) -> Option<Arc<Ukey>> {
        self.shard(ufid).remove(&(ufid, pmd))
    }

    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Forgets flows that `keep` rejects.
    pub fn retain(&self, mut keep: impl FnMut(&Ukey) -> bool) {
        for shard in &self.shards {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, key| keep(key));
        }
    }

    /// Keeps frozen states alive for a while: a packet without a flow is on its way to them.
    pub fn hold(&self, recircs: &[Arc<Recirc>]) {
        if recircs.is_empty() {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(recircs.iter().cloned());
        while held.len() > HELD {
            held.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(ufid: u128) -> Ukey {
        let (flow, wc) = (Flow::default(), FlowWildcards::default());
        let none: Arc<[Action]> = Arc::new([]);
        Ukey::new(Ufid(ufid), PmdId(0), &flow, &wc, none, None, vec![], 0)
    }

    #[test]
    fn a_flow_that_is_there_already_keeps_its_record() {
        let (ukeys, ufid, pmd) = (Ukeys::default(), Ufid(1), PmdId(0));
        ukeys.insert(key(1));
        ukeys.settle(ufid, pmd, true);
        let first = ukeys.find(ufid, pmd).unwrap();
        // Two more packets of the same batch missed as well.
        for _ in 0..2 {
            ukeys.insert(key(1));
        }
        ukeys.settle(ufid, pmd, false);
        assert!(Arc::ptr_eq(&first, &ukeys.find(ufid, pmd).unwrap()));
        // One that the datapath had lost begins anew.
        ukeys.insert(key(1));
        ukeys.settle(ufid, pmd, true);
        assert!(!Arc::ptr_eq(&first, &ukeys.find(ufid, pmd).unwrap()));
        // A flow that was never there leaves nothing.
        ukeys.insert(key(2));
        ukeys.settle(Ufid(2), pmd, false);
        assert_eq!(ukeys.len(), 1);
    }

    #[test]
    fn a_round_forgets_only_what_was_installed_before_it() {
        let ukeys = Ukeys::default();
        ukeys.insert(key(1));
        let hour = Duration::from_secs(3600);
        let later = clock::now() + hour;
        ukeys.forget_unseen(later, |_| false);
        assert_eq!(ukeys.len(), 1, "it is on its way to the datapath");
        ukeys.settle(Ufid(1), PmdId(0), true);
        ukeys.forget_unseen(clock::now().checked_sub(hour).unwrap(), |_| false);
        assert_eq!(ukeys.len(), 1, "it came while the round ran");
        ukeys.forget_unseen(later, |key| key.ufid == Ufid(1));
        assert_eq!(ukeys.len(), 1);
        ukeys.forget_unseen(later, |_| false);
        assert_eq!(ukeys.len(), 0);
    }
}
