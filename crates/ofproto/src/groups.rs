//! The group table of one bridge: read by translations without a lock, changed group by group.
//!
//! A [`Group`] is immutable but for its counters; a modification puts a new one in its place that goes on with
//! the old one's age. Groups are part of the version of the tables as rules are: a translation sees those of its
//! version, and a change of several (a bundle) is seen as a whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ferrovs_openflow::action::Action;
use ferrovs_openflow::group::{Bucket, GroupProps, GroupType};
use smallvec::SmallVec;

pub use selection::{DpHash, Selection};

use crate::lifespan::Lifespan;

mod selection;

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
    /// How a select group chooses.
    pub selection: Selection,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub counters: Arc<GroupCounters>,
    pub lifespan: Lifespan,
}

impl Group {
    /// A group that is visible from `version` on.
    pub fn new(
        id: u32,
        kind: GroupType,
        buckets: Vec<Bucket>,
        props: GroupProps,
        now_ms: i64,
        version: u64,
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
            selection: Selection::default(),
            created_ms: now_ms,
            modified_ms: now_ms,
            counters: Arc::default(),
            lifespan: Lifespan::from(version),
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

/// Groups of one id: at most one of them is visible in a version.
type Generations = SmallVec<[Arc<Group>; 1]>;

/// All groups of a bridge. Changed by a `Change` of the tables alone.
#[derive(Debug, Default)]
pub struct GroupTable {
    by_id: papaya::HashMap<u32, Generations>,
    /// Those whose end is not in sight.
    len: AtomicUsize,
}

impl GroupTable {
    /// The group with this id that a reader of `version` sees.
    pub fn find_in(&self, id: u32, version: u64) -> Option<Arc<Group>> {
        let by_id = self.by_id.pin();
        let mut groups = by_id.get(&id)?.iter();
        groups.find(|g| g.lifespan.covers(version)).cloned()
    }

    /// The group with this id, as the change under way stands.
    pub fn find(&self, id: u32) -> Option<Arc<Group>> {
        let by_id = self.by_id.pin();
        let mut groups = by_id.get(&id)?.iter();
        groups.find(|g| !g.lifespan.ends()).cloned()
    }

    /// All groups, as the change under way stands, ordered by id.
    pub fn all(&self) -> Vec<Arc<Group>> {
        let by_id = self.by_id.pin();
        let groups = by_id.values().flatten();
        let mut all: Vec<_> = groups.filter(|g| !g.lifespan.ends()).cloned().collect();
        all.sort_by_key(|g| g.id);
        all
    }

    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn link(&self, group: &Arc<Group>) {
        let by_id = self.by_id.pin();
        let mut groups = by_id.get(&group.id).cloned().unwrap_or_default();
        groups.push(group.clone());
        by_id.insert(group.id, groups);
        self.len.fetch_add(1, Relaxed);
    }

    /// Forgets a group that nobody can see.
    pub(crate) fn unlink(&self, group: &Arc<Group>) {
        let by_id = self.by_id.pin();
        let Some(groups) = by_id.get(&group.id) else {
            return;
        };
        let others = groups.iter().filter(|g| !Arc::ptr_eq(g, group));
        let others: Generations = others.cloned().collect();
        if others.is_empty() {
            by_id.remove(&group.id);
        } else {
            by_id.insert(group.id, others);
        }
    }

    /// Ends a group in `version`.
    pub(crate) fn hide(&self, group: &Group, version: u64) {
        group.lifespan.end_in(version);
        self.len.fetch_sub(1, Relaxed);
    }

    /// Takes an end back.
    pub(crate) fn unhide(&self, group: &Group) {
        group.lifespan.go_on();
        self.len.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_openflow::flow::{FlowMod, FlowModCommand};
    use ferrovs_sync::Waker;

    use super::*;
    use crate::tables::{Change, ChangeHook, Criteria, Requester, Tables};

    #[derive(Debug)]
    struct NoHook;

    impl ChangeHook for NoHook {
        fn flows_changed(&self) {}
    }

    fn tables() -> Tables {
        Tables::new(Arc::new(Waker::new().unwrap()), Box::new(NoHook))
    }

    fn set(change: &mut Change<'_>, id: u32, kind: GroupType) {
        let version = change.version();
        let props = GroupProps::default();
        change.set_group(Group::new(id, kind, Vec::new(), props, 0, version));
    }

    fn seen(tables: &Tables, version: u64) -> Vec<(u32, GroupType)> {
        let groups = (1..5).filter_map(|id| tables.groups().find_in(id, version));
        groups.map(|g| (g.id, g.kind)).collect()
    }

    #[test]
    fn a_change_of_groups_is_seen_as_a_whole_or_not_at_all() {
        use GroupType::{All, Select};
        let t = tables();
        let mut change = t.change(Requester::default(), 0);
        set(&mut change, 1, All);
        set(&mut change, 2, All);
        assert_eq!(seen(&t, t.current_version()), []);
        assert_eq!(seen(&t, change.version()), [(1, All), (2, All)]);
        change.commit();
        let both = [(1, All), (2, All)];
        assert_eq!(seen(&t, t.current_version()), both);
        let play = |change: &mut Change<'_>| {
            set(change, 1, Select);
            change.remove_group(1);
            set(change, 3, All);
            set(change, 2, Select);
            set(change, 2, All);
            set(change, 2, Select);
        };
        let mut change = t.change(Requester::default(), 0);
        play(&mut change);
        assert_eq!(seen(&t, change.version()), [(2, Select), (3, All)]);
        assert_eq!(seen(&t, t.current_version()), both);
        drop(change);
        assert_eq!(seen(&t, t.current_version() + 1), both, "no trace is left");
        assert_eq!((t.groups().len(), t.groups().all().len()), (2, 2));

        let pin = t.pin();
        let mut change = t.change(Requester::default(), 0);
        play(&mut change);
        change.commit();
        t.collect_garbage();
        assert_eq!(seen(&t, pin.version), both, "somebody looks at it");
        assert_eq!(seen(&t, t.current_version()), [(2, Select), (3, All)]);
        drop(pin);
        t.collect_garbage();
        let generations = t
            .groups()
            .by_id
            .pin()
            .values()
            .map(|g| g.len())
            .sum::<usize>();
        assert_eq!((generations, t.groups().len()), (2, 2));
    }

    #[test]
    fn flows_go_with_the_group_that_they_name() {
        let t = tables();
        let mut change = t.change(Requester::default(), 0);
        set(&mut change, 1, GroupType::All);
        for (priority, groups) in [(1, vec![1]), (2, vec![1, 2, 1]), (3, vec![2]), (4, vec![])] {
            let nested = vec![Action::WriteActions(
                groups.into_iter().map(Action::Group).collect(),
            )];
            let fm = FlowMod {
                command: FlowModCommand::Add,
                priority,
                actions: nested,
                ..FlowMod::default()
            };
            change.flow_mod(fm).unwrap();
        }
        change.commit();
        let named = |id| t.n_rules_of_group(id);
        assert_eq!((named(1), named(2), named(3)), (2, 2, 0));
        let priorities = || {
            let rules = t.collect_rules(&Criteria::all());
            let mut all: Vec<_> = rules.iter().map(|r| r.priority).collect();
            all.sort_unstable();
            all
        };
        let mut change = t.change(Requester::default(), 0);
        change.remove_group(1);
        drop(change);
        assert_eq!((priorities(), named(1)), (vec![1, 2, 3, 4], 2));
        let mut change = t.change(Requester::default(), 0);
        change.remove_group(1);
        change.commit();
        assert_eq!((priorities(), named(1), named(2)), (vec![3, 4], 0, 1));
    }
}
