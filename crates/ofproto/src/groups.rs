//! The group table of one bridge: read by translations without a lock, replaced group by group.
//!
//! A [`Group`] is immutable but for its counters; a modification puts a new one in its place that goes on with
//! the old one's age.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_openflow::action::Action;
use ferrovs_openflow::group::{Bucket, GroupProps, GroupType};

/// Counters of a group or a bucket.
#[derive(Debug, Default)]
pub struct GroupCounters {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl GroupCounters {
    pub fn credit(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Packets and bytes.
    pub fn read(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }
}

#[derive(Debug)]
pub struct GroupBucket {
    pub bucket: Bucket,
    /// The bucket's actions, shared with translations.
    pub actions: Arc<[Action]>,
    pub counters: GroupCounters,
}

#[derive(Debug)]
pub struct Group {
    pub id: u32,
    pub kind: GroupType,
    pub buckets: Vec<Arc<GroupBucket>>,
    pub props: GroupProps,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub counters: Arc<GroupCounters>,
}

impl Group {
    pub fn new(
        id: u32,
        kind: GroupType,
        buckets: Vec<Bucket>,
        props: GroupProps,
        now_ms: i64,
    ) -> Group {
        let buckets = buckets.into_iter().map(|bucket| {
            let actions = bucket.actions.clone().into();
            Arc::new(GroupBucket {
                bucket,
                actions,
                counters: GroupCounters::default(),
            })
        });
        Group {
            id,
            kind,
            buckets: buckets.collect(),
            props,
            created_ms: now_ms,
            modified_ms: now_ms,
            counters: Arc::default(),
        }
    }

    /// Counts packets for the group and, if one was chosen, a bucket of it.
    pub fn credit(&self, bucket: Option<usize>, packets: u64, bytes: u64) {
        self.counters.credit(packets, bytes);
        if let Some(bucket) = bucket.and_then(|b| self.buckets.get(b)) {
            bucket.counters.credit(packets, bytes);
        }
    }
}

/// A group that was there, or that there was none, before a change.
type Before = (u32, Option<Arc<Group>>);

/// All groups of a bridge, by id. Written by the main thread alone.
#[derive(Debug, Default)]
pub struct GroupTable {
    map: papaya::HashMap<u32, Arc<Group>>,
    /// What to put back if the changes since [`GroupTable::begin`] are given up.
    journal: Mutex<Option<Vec<Before>>>,
}

impl GroupTable {
    pub fn new() -> GroupTable {
        GroupTable::default()
    }

    /// The group with this id.
    pub fn find(&self, id: u32) -> Option<Arc<Group>> {
        self.map.pin().get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All groups, ordered by id.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = self.map.pin().values().cloned().collect();
        all.sort_by_key(|g| g.id);
        all
    }

    fn journal(&self) -> MutexGuard<'_, Option<Vec<Before>>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: u32, before: Option<Arc<Group>>) {
        if let Some(journal) = &mut *self.journal() {
            journal.push((id, before));
        }
    }

    /// Puts a group in, or in the place of another with its id.
    pub fn insert(&self, group: Group) {
        let id = group.id;
        let old = self.map.pin().insert(id, Arc::new(group)).cloned();
        self.note(id, old);
    }

    pub fn remove(&self, id: u32) -> Option<Arc<Group>> {
        let removed = self.map.pin().remove(&id).cloned();
        if removed.is_some() {
            self.note(id, removed.clone());
        }
        removed
    }

    pub fn clear(&self) {
        for group in self.all() {
            self.remove(group.id);
        }
    }

    /// From now on changes can be taken back.
    pub fn begin(&self) {
        *self.journal() = Some(Vec::new());
    }

    /// Makes the changes since [`GroupTable::begin`] last.
    pub fn keep(&self) {
        *self.journal() = None;
    }

    /// Takes the changes since [`GroupTable::begin`] back.
    pub fn undo(&self) {
        let journal = self.journal().take().unwrap_or_default();
        let map = self.map.pin();
        for (id, before) in journal.into_iter().rev() {
            match before {
                Some(group) => drop(map.insert(id, group).cloned()),
                None => drop(map.remove(&id).cloned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32, kind: GroupType) -> Group {
        Group::new(id, kind, Vec::new(), GroupProps::default(), 0)
    }

    #[test]
    fn changes_that_are_taken_back_leave_no_trace() {
        let groups = GroupTable::new();
        groups.insert(group(1, GroupType::All));
        groups.insert(group(2, GroupType::All));
        groups.begin();
        groups.insert(group(1, GroupType::Select));
        groups.remove(1);
        groups.insert(group(3, GroupType::All));
        groups.clear();
        groups.insert(group(2, GroupType::Select));
        groups.undo();
        let all: Vec<_> = groups.all().iter().map(|g| (g.id, g.kind)).collect();
        assert_eq!(all, [(1, GroupType::All), (2, GroupType::All)]);
        groups.begin();
        groups.remove(2);
        groups.keep();
        groups.undo();
        assert_eq!(groups.len(), 1);
    }
}
