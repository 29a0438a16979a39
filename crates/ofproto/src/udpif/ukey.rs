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
    let half = |seed: u64| {
        let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
        for (value, mask) in flow.words().iter().zip(wc.masks.words()) {
            hasher.write_u64(value & mask);
            hasher.write_u64(*mask);
        }
        u128::from(hasher.finish())
    };
    Ufid(half(0x6675_6c6c) << 64 | half(0x666c_6f77))
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

    pub fn insert(&self, key: Ukey) {
        self.shard(key.ufid)
            .insert((key.ufid, key.pmd), Arc::new(key));
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
