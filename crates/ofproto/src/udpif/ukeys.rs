//! The records of all installed flows, by identifier and thread, in shards: upcalls of several threads do not wait for
//! each other, and several revalidators can go through them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_datapath::dpif::{PmdId, Ufid};
use foldhash::fast::FixedState;

use super::ukey::{Phase, Ukey};
use crate::xlate::recirc::Recirc;

/// Parts of the table, each with its lock.
pub const SHARDS: usize = 64;
/// Frozen states that belong to no installed flow are kept for this many later ones.
const HELD: usize = 1024;

/// What is known of one flow.
struct Slot {
    key: Arc<Ukey>,
    /// Takes the place of `key` if the datapath turns out to have lost the flow: it was asked to install it anew.
    next: Option<Arc<Ukey>>,
}

impl Slot {
    /// The record of that ticket.
    fn holds(&self, ticket: u64) -> Option<&Arc<Ukey>> {
        let all = std::iter::once(&self.key).chain(&self.next);
        all.into_iter().find(|key| key.ticket == ticket)
    }
}

type Shard = HashMap<(Ufid, PmdId), Slot, FixedState>;

/// See the module's text.
pub struct Ukeys {
    shards: [Mutex<Shard>; SHARDS],
    /// How many slots there are.
    len: AtomicUsize,
    /// The number of the last round that has begun.
    round: AtomicU64,
    held: Mutex<VecDeque<Arc<Recirc>>>,
}

impl Default for Ukeys {
    fn default() -> Self {
        Ukeys {
            shards: std::array::from_fn(|_| Mutex::default()),
            len: AtomicUsize::new(0),
            round: AtomicU64::new(0),
            held: Mutex::default(),
        }
    }
}

impl Ukeys {
    fn shard(&self, ufid: Ufid) -> MutexGuard<'_, Shard> {
        lock(&self.shards[ufid.0 as usize % SHARDS])
    }

    /// How many flows are known.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many there are in the shards from `first` on, one in `step`.
    pub fn len_of(&self, first: usize, step: usize) -> usize {
        let shards = self.shards.iter().skip(first).step_by(step);
        shards.map(|shard| lock(shard).len()).sum()
    }

    /// Begins a round: what comes into the datapath from now on is no loss if the round does not meet it.
    pub fn begin_round(&self) -> u64 {
        self.round.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The present round, for a flow that has just come into the datapath. A round that begins later meets it: what
    /// is written here makes that order certain.
    fn now(&self) -> u64 {
        self.round.fetch_add(0, Ordering::AcqRel)
    }

    /// Adds the record of a flow that the datapath is going to be asked to install: [`Ukeys::settle`] says how that
    /// ended. False if it must not be asked, because it is so already, or deletes the flow just now.
    pub fn insert(&self, key: Arc<Ukey>) -> bool {
        let mut shard = self.shard(key.ufid);
        match shard.get_mut(&(key.ufid, key.pmd)) {
            None => {
                shard.insert((key.ufid, key.pmd), Slot { key, next: None });
                self.len.fetch_add(1, Ordering::Relaxed);
                true
            }
            Some(slot) if slot.key.phase() == Phase::Operational && slot.next.is_none() => {
                slot.next = Some(key);
                true
            }
            Some(_) => false,
        }
    }

    /// Notes whether a flow could be installed. If not, because it is there already, its first record stays, with all
    /// that its packets are to be credited to.
    pub fn settle(&self, ufid: Ufid, pmd: PmdId, ticket: u64, installed: bool) {
        let mut shard = self.shard(ufid);
        let place = (ufid, pmd);
        let Some(slot) = shard.get_mut(&place) else {
            return;
        };
        let Some(key) = slot.holds(ticket).cloned() else {
            return;
        };
        let is_next = !Arc::ptr_eq(&key, &slot.key);
        if installed {
            key.is_there(self.now());
            if is_next {
                slot.key.is_gone();
                *slot = Slot { key, next: None };
            }
            return;
        }
        if is_next {
            slot.next = None;
        } else if key.phase() == Phase::Visible {
            key.is_gone();
            self.take(&mut shard, place);
        }
        drop(shard);
        // The packet that the flow was made for is on its way to them.
        self.hold(&key.state().recircs);
    }

    /// The record of a flow that the datapath shows in `round`; `make` makes one if it has none yet. None while the
    /// flow is being deleted.
    pub fn meet(
        &self,
        ufid: Ufid,
        pmd: PmdId,
        round: u64,
        make: impl FnOnce() -> Ukey,
    ) -> Option<Arc<Ukey>> {
        let find = || self.shard(ufid).get(&(ufid, pmd)).map(|s| s.key.clone());
        let key = find().unwrap_or_else(|| {
            // Making it may take a question to the datapath, for which nobody should wait.
            let new = Arc::new(make());
            let mut shard = self.shard(ufid);
            let slot = shard.entry((ufid, pmd)).or_insert_with(|| {
                self.len.fetch_add(1, Ordering::Relaxed);
                Slot {
                    key: new,
                    next: None,
                }
            });
            slot.key.clone()
        });
        key.is_there(round).then_some(key)
    }

    /// Forgets the record of a flow that the datapath does not have any more, but not another one of the same flow.
    pub fn remove(&self, key: &Arc<Ukey>) {
        key.is_gone();
        let mut shard = self.shard(key.ufid);
        let place = (key.ufid, key.pmd);
        if shard.get(&place).is_some_and(|s| Arc::ptr_eq(&s.key, key)) {
            self.take(&mut shard, place);
        }
    }

    /// Takes the first record out of a slot, and the slot away unless another follows.
    fn take(&self, shard: &mut Shard, place: (Ufid, PmdId)) {
        let Some(slot) = shard.get_mut(&place) else {
            return;
        };
        match slot.next.take() {
            Some(next) => slot.key = next,
            None => {
                shard.remove(&place);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Forgets the flows of one shard that the datapath has lost: they had come before `round`, whose dump is over
    /// and did not meet them.
    pub fn sweep(&self, shard: usize, round: u64) {
        let mut shard = lock(&self.shards[shard]);
        let lost = shard.iter().filter(|(_, s)| s.key.is_lost(round));
        let lost: Vec<_> = lost.map(|(place, _)| *place).collect();
        for place in lost {
            if let Some(slot) = shard.get(&place) {
                slot.key.is_gone();
            }
            self.take(&mut shard, place);
        }
    }

    /// Forgets everything, and what it holds of bridges.
    pub fn clear(&self) {
        for shard in &self.shards {
            let slots = std::mem::take(&mut *lock(shard));
            self.len.fetch_sub(slots.len(), Ordering::Relaxed);
            for slot in slots.into_values() {
                slot.key.is_gone();
                // Somebody who looks at the flow just now has the record still.
                let mut state = slot.key.state();
                state.xcache = None;
                state.recircs = Box::default();
            }
        }
        lock(&self.held).clear();
    }

    /// Keeps frozen states alive for a while: a packet without a flow is on its way to them.
    pub fn hold(&self, recircs: &[Arc<Recirc>]) {
        if recircs.is_empty() {
            return;
        }
        let mut held = lock(&self.held);
        held.extend(recircs.iter().cloned());
        while held.len() > HELD {
            held.pop_front();
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::ukey::Translation;
    use super::*;
    use ferrovs_datapath::dpif::PackedMatch;
    use ferrovs_packet::flow::Match;

    const PMD: PmdId = PmdId(0);

    fn key(ufid: u128) -> Arc<Ukey> {
        let match_ = Arc::new(PackedMatch::new(&Match::default()));
        let translation = Translation::default();
        Arc::new(Ukey::new(Ufid(ufid), PMD, match_, translation))
    }

    fn found(ukeys: &Ukeys, key: &Arc<Ukey>) -> bool {
        let shard = ukeys.shard(key.ufid);
        shard
            .get(&(key.ufid, PMD))
            .is_some_and(|s| Arc::ptr_eq(&s.key, key))
    }

    fn settle(ukeys: &Ukeys, key: &Arc<Ukey>, installed: bool) {
        ukeys.settle(key.ufid, PMD, key.ticket, installed);
    }

    #[test]
    fn a_flow_that_is_there_already_keeps_its_record() {
        let ukeys = Ukeys::default();
        let first = key(1);
        assert!(ukeys.insert(first.clone()));
        assert!(!ukeys.insert(key(1)), "the datapath is being asked");
        settle(&ukeys, &first, true);
        // One that the datapath has after all leaves the first as it was.
        let second = key(1);
        assert!(ukeys.insert(second.clone()));
        settle(&ukeys, &second, false);
        assert!(found(&ukeys, &first));
        // One that the datapath had lost begins anew.
        let third = key(1);
        assert!(ukeys.insert(third.clone()));
        settle(&ukeys, &third, true);
        assert!(found(&ukeys, &third));
        assert_eq!(first.phase(), Phase::Deleted);
        // A flow that was never there leaves nothing.
        let other = key(2);
        assert!(ukeys.insert(other.clone()));
        assert_eq!(ukeys.len(), 2);
        settle(&ukeys, &other, false);
        assert_eq!(ukeys.len(), 1);
    }

    #[test]
    fn an_answer_is_for_the_record_that_it_was_asked_for() {
        let ukeys = Ukeys::default();
        let (first, second) = (key(1), key(1));
        ukeys.insert(first.clone());
        // A round met the flow and removed it before the datapath's thread came to say that it was installed.
        assert!(ukeys.meet(Ufid(1), PMD, 1, || unreachable!()).is_some());
        assert!(first.evict());
        assert!(!ukeys.insert(key(1)), "it is being deleted");
        ukeys.remove(&first);
        ukeys.insert(second.clone());
        settle(&ukeys, &first, false);
        assert!(found(&ukeys, &second), "the answer was for the first");
        settle(&ukeys, &first, true);
        assert_eq!(second.phase(), Phase::Visible);
        settle(&ukeys, &second, true);
        ukeys.remove(&first);
        assert!(found(&ukeys, &second));
        assert_eq!(ukeys.len(), 1);
    }

    #[test]
    fn a_round_forgets_only_what_was_there_before_it() {
        let ukeys = Ukeys::default();
        let sweep = |round| (0..SHARDS).for_each(|shard| ukeys.sweep(shard, round));
        let first = key(1);
        ukeys.insert(first.clone());
        let round = ukeys.begin_round();
        sweep(round);
        assert_eq!(ukeys.len(), 1, "it is on its way to the datapath");
        settle(&ukeys, &first, true);
        sweep(round);
        assert_eq!(ukeys.len(), 1, "it came while the round ran");
        let round = ukeys.begin_round();
        assert!(ukeys.meet(Ufid(1), PMD, round, || unreachable!()).is_some());
        sweep(round);
        assert_eq!(ukeys.len(), 1, "the round met it");
        // While the datapath is asked to install a lost flow anew, the record that went leaves its place.
        let second = key(1);
        ukeys.insert(second.clone());
        sweep(ukeys.begin_round());
        assert!(found(&ukeys, &second));
        assert_eq!((ukeys.len(), first.phase()), (1, Phase::Deleted));
        settle(&ukeys, &second, true);
        sweep(ukeys.begin_round());
        assert_eq!(ukeys.len(), 0);
    }
}
