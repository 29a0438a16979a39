//! Pipelines that wait for their packet: recirculation identifiers and the state behind them.
//!
//! When a packet must visit the datapath in the middle of a translation, or goes up to a controller, what is
//! known so far is frozen under a number that the packet carries. Equal states share a number; a number lives
//! as long as some flow that uses it holds its [`Recirc`].

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferrovs_openflow::action::Action;
use ferrovs_packet::field::FieldValue;
use ferrovs_packet::flow::{FLOW_N_REGS, Flow, FlowTnl};
use ferrovs_packet::types::{Be64, OfPort};

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

/// A number in use, and its state.
#[derive(Debug)]
pub struct Recirc {
    pub id: u32,
    pub state: FrozenState,
}

/// All numbers in use of one datapath.
#[derive(Default)]
pub struct RecircTable {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u32,
    by_id: HashMap<u32, Weak<Recirc>>,
    by_hash: HashMap<u64, Vec<Weak<Recirc>>>,
    /// Size of `by_id` at which dead entries are swept.
    sweep_at: usize,
}

fn hash_of(state: &FrozenState) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

impl RecircTable {
    /// The number for `state`: an existing one if the state is in use.
    pub fn alloc(&self, state: FrozenState) -> Arc<Recirc> {
        let hash = hash_of(&state);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inner.by_hash.get(&hash)
            && let Some(found) = known
                .iter()
                .filter_map(Weak::upgrade)
                .find(|r| r.state == state)
        {
            return found;
        }
        if inner.by_id.len() >= inner.sweep_at {
            inner.by_id.retain(|_, r| r.strong_count() > 0);
            inner.by_hash.retain(|_, list| {
                list.retain(|r| r.strong_count() > 0);
                !list.is_empty()
            });
            inner.sweep_at = inner.by_id.len() * 2 + 64;
        }
        let id = loop {
            inner.last = inner.last.wrapping_add(1).max(1);
            if inner
                .by_id
                .get(&inner.last)
                .is_none_or(|r| r.strong_count() == 0)
            {
                break inner.last;
            }
        };
        let recirc = Arc::new(Recirc { id, state });
        inner.by_id.insert(id, Arc::downgrade(&recirc));
        inner
            .by_hash
            .entry(hash)
            .or_default()
            .push(Arc::downgrade(&recirc));
        recirc
    }

    pub fn find(&self, id: u32) -> Option<Arc<Recirc>> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(&id)?
            .upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_states_share_a_number_while_one_is_held() {
        let table = RecircTable::default();
        let state = |table_id| FrozenState {
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
        };
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
