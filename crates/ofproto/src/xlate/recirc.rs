//! Pipelines that wait for their packet: recirculation identifiers and the state behind them.
//!
//! When a packet must visit the datapath in the middle of a translation, or goes up to a controller, what is
//! known so far is frozen under a number that the packet carries. Equal states share a number; a number lives
//! as long as some flow that uses it holds its [`Recirc`].

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferrovs_openflow::action::Action;
use ferrovs_packet::field::FieldValue;
use ferrovs_packet::flow::{FLOW_N_REGS, Flow, FlowTnl};
use ferrovs_packet::types::{Be16, Be64, OfPort};
use hashbrown::HashMap;

use super::snapshot::BridgeId;

/// Members of a flow key that a packet loses when the datapath has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrozenMetadata {
    pub tunnel: FlowTnl,
    pub metadata: Be64,
    pub regs: [u32; FLOW_N_REGS],
    pub in_port: u32,
}

impl FrozenMetadata {
    pub fn of(flow: &Flow) -> FrozenMetadata {
        FrozenMetadata {
            tunnel: flow.tunnel,
            metadata: flow.metadata,
            regs: flow.regs,
            in_port: flow.in_port,
        }
    }

    pub fn restore(&self, flow: &mut Flow) {
        flow.tunnel = self.tunnel;
        flow.metadata = self.metadata;
        flow.regs = self.regs;
        flow.in_port = self.in_port;
    }
}

/// Where and how a translation goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrozenState {
    pub bridge: BridgeId,
    /// Table in which to look the packet up when `actions` is empty.
    pub table_id: u8,
    pub metadata: FrozenMetadata,
    /// Values pushed by `push` actions, last one on top.
    pub stack: Vec<FieldValue>,
    /// What is left to do before any table.
    pub actions: Vec<Action>,
    pub action_set: Vec<Action>,
    /// The connection tracker has seen the packet.
    pub conntracked: bool,
    /// For packets to controllers.
    pub userdata: Vec<u8>,
    pub rule_cookie: u64,
    pub ingress: OfPort,
}

/// Makes a key that of a packet which no tracker has seen.
pub fn clear_conntrack(flow: &mut Flow) {
    flow.ct_state = 0;
    flow.ct_zone = 0;
    flow.ct_mark = 0;
    flow.ct_label = [0; 16];
    flow.ct_nw_proto = 0;
    flow.ct_tp_src = Be16::ZERO;
    flow.ct_tp_dst = Be16::ZERO;
    flow.ct_nw_src = 0.into();
    flow.ct_nw_dst = 0.into();
    flow.ct_ipv6_src = [0; 16];
    flow.ct_ipv6_dst = [0; 16];
}

/// A number in use, and its state.
#[derive(Debug)]
pub struct Recirc {
    pub id: u32,
    pub state: FrozenState,
}

type ById = papaya::HashMap<u32, Weak<Recirc>, foldhash::fast::RandomState>;

/// Parts of the table: threads that freeze different states seldom meet.
const SHARDS: usize = 16;

/// All numbers in use of one datapath. Going on from a number takes no lock.
#[derive(Default)]
pub struct RecircTable {
    by_id: ById,
    by_hash: [Mutex<Shard>; SHARDS],
    /// The number that was given out last.
    last: AtomicU32,
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Shard {
    known: HashMap<u64, Vec<(u32, Weak<Recirc>)>, foldhash::fast::RandomState>,
    /// How many there are, those that nobody holds any more among them, and at how many these are swept.
    n: usize,
    sweep_at: usize,
}

impl Shard {
    /// Forgets states that nobody holds, and their numbers unless those were given to others.
    fn sweep(&mut self, by_id: &ById) {
        let by_id = by_id.pin();
        self.known.retain(|_, list| {
            list.retain(|(id, r)| {
                let held = r.strong_count() > 0;
                if !held {
                    _ = by_id.remove_if(id, |_, r| r.strong_count() == 0);
                }
                held
            });
            !list.is_empty()
        });
        self.n = self.known.values().map(Vec::len).sum();
        self.sweep_at = self.n * 2 + 16;
    }
}

impl RecircTable {
    /// A table that begins behind a number that others may still use.
    pub fn after(last: u32) -> RecircTable {
        RecircTable {
            last: AtomicU32::new(last),
            ..RecircTable::default()
        }
    }

    /// The number for `state`: an existing one if the state is in use.
    pub fn alloc(&self, state: FrozenState) -> Arc<Recirc> {
        let hash = self.hasher.hash_one(&state);
        let shard = &self.by_hash[(hash >> 32) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shard.known.get(&hash)
            && let Some(found) = known
                .iter()
                .filter_map(|(_, r)| r.upgrade())
                .find(|r| r.state == state)
        {
            return found;
        }
        if shard.n >= shard.sweep_at {
            shard.sweep(&self.by_id);
        }
        let recirc = self.number(state);
        let list = shard.known.entry(hash).or_default();
        list.push((recirc.id, Arc::downgrade(&recirc)));
        shard.n += 1;
        recirc
    }

    /// Gives a state a number that none has that is in use.
    fn number(&self, state: FrozenState) -> Arc<Recirc> {
        let by_id = self.by_id.pin();
        loop {
            let id = self.last.fetch_add(1, Relaxed).wrapping_add(1);
            let is_free = by_id.get(&id).is_none_or(|r| r.strong_count() == 0);
            if id != 0 && is_free {
                let recirc = Arc::new(Recirc { id, state });
                by_id.insert(id, Arc::downgrade(&recirc));
                return recirc;
            }
        }
    }

    pub fn find(&self, id: u32) -> Option<Arc<Recirc>> {
        self.by_id.pin().get(&id)?.upgrade()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn state(table_id: u8) -> FrozenState {
        FrozenState {
            bridge: 1,
            table_id,
            metadata: FrozenMetadata::of(&Flow::default()),
            stack: vec![],
            actions: vec![],
            action_set: vec![],
            conntracked: false,
            userdata: vec![],
            rule_cookie: 0,
            ingress: OfPort(1),
        }
    }

    #[test]
    fn threads_that_freeze_the_same_states_get_the_same_numbers() {
        let table = RecircTable::default();
        let freeze = || -> Vec<_> { (0..=255).map(|t| table.alloc(state(t))).collect() };
        let all = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(freeze)).collect();
            let joined = threads.into_iter().map(|t| t.join().unwrap());
            joined.collect::<Vec<_>>()
        });
        let ids = |held: &[Arc<Recirc>]| held.iter().map(|r| r.id).collect::<Vec<_>>();
        assert!(all.iter().all(|held| ids(held) == ids(&all[0])));
        let mut distinct = ids(&all[0]);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 256);
        // What nobody holds any more goes, though not at once.
        drop(all);
        for _ in 0..8 {
            (0..=255).for_each(|t| drop(table.alloc(state(t))));
        }
        assert!(
            table.by_id.len() <= 2 * 256 + SHARDS * 16,
            "{}",
            table.by_id.len()
        );
    }

    #[test]
    fn equal_states_share_a_number_while_one_is_held() {
        let table = RecircTable::default();
        let a = table.alloc(state(0));
        assert_eq!(table.alloc(state(0)).id, a.id);
        let b = table.alloc(state(1));
        assert_ne!(a.id, b.id);
        assert_eq!(table.find(b.id).map(|r| r.state.table_id), Some(1));
        let id = b.id;
        drop(b);
        assert!(table.find(id).is_none());
    }
}
