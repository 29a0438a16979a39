//! The group table of one bridge: read by translations without a lock, replaced group by group.
//!
//! A [`Group`] is immutable but for its counters; a modification puts a new one in its place that goes on with
//! the old one's age.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use ferrovs_openflow::action::Action;
use ferrovs_openflow::group::{Bucket, GroupProps, GroupType};
use hashbrown::HashMap;

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

pub type Map = HashMap<u32, Arc<Group>>;

/// All groups of a bridge, by id. Written by the main thread alone.
#[derive(Debug, Default)]
pub struct GroupTable {
    map: ArcSwap<Map>,
}

impl GroupTable {
    pub fn new() -> GroupTable {
        GroupTable::default()
    }

    /// The group with this id.
    pub fn find(&self, id: u32) -> Option<Arc<Group>> {
        self.map.load().get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.map.load().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All groups, ordered by id.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = self.map.load().values().cloned().collect();
        all.sort_by_key(|g| g.id);
        all
    }

    /// Puts groups in, or in the place of others with their ids.
    pub fn insert(&self, group: Group) {
        let mut map = Map::clone(&self.map.load());
        map.insert(group.id, Arc::new(group));
        self.map.store(Arc::new(map));
    }

    pub fn remove(&self, id: u32) -> Option<Arc<Group>> {
        let mut map = Map::clone(&self.map.load());
        let removed = map.remove(&id);
        self.map.store(Arc::new(map));
        removed
    }

    pub fn clear(&self) {
        self.map.store(Arc::default());
    }

    /// The whole table, to put back with [`GroupTable::restore`].
    pub fn save(&self) -> Arc<Map> {
        self.map.load_full()
    }

    pub fn restore(&self, saved: Arc<Map>) {
        self.map.store(saved);
    }
}
