//! Zones of connection tracking as the database has them: how many connections each may have, and when idle ones are
//! forgotten.
//!
//! Timeouts are a policy of the datapath, which has a number; zones with the same timeouts share one. Translation puts
//! the number of a zone's policy into the actions that commit connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrovs_datapath::conntrack::{Conntrack, CtTimeouts};

/// What the database says of one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    pub limit: Option<u32>,
    pub timeouts: Option<CtTimeouts>,
}

/// What it says of all zones of a datapath.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    pub default_limit: Option<u32>,
    pub zones: BTreeMap<u16, Zone>,
}

/// Numbers of policies by zone.
pub type Policies = BTreeMap<u16, u32>;

/// What was last applied to a datapath.
#[derive(Debug, Default)]
pub struct Applied {
    zones: Zones,
    policies: BTreeMap<u32, CtTimeouts>,
    last_id: u32,
    by_zone: Arc<Policies>,
}

impl Zones {
    fn limits(&self) -> impl Iterator<Item = (Option<u16>, u32)> {
        let own = self.zones.iter();
        let own = own.filter_map(|(zone, z)| Some((Some(*zone), z.limit?)));
        own.chain(self.default_limit.map(|limit| (None, limit)))
    }
}

impl Applied {
    pub fn policies(&self) -> Arc<Policies> {
        self.by_zone.clone()
    }

    /// Makes a datapath have what is wanted. Returns whether other policies hold now.
    pub fn apply(&mut self, wanted: &Zones, conntrack: &dyn Conntrack) -> bool {
        if self.zones == *wanted {
            return false;
        }
        let old: BTreeMap<_, _> = self.zones.limits().collect();
        let new: BTreeMap<_, _> = wanted.limits().collect();
        for (zone, limit) in new
            .iter()
            .filter(|(zone, limit)| old.get(zone) != Some(limit))
        {
            conntrack.set_limit(*zone, *limit);
        }
        for zone in old.keys().filter(|zone| !new.contains_key(zone)) {
            conntrack.delete_limit(*zone);
        }
        conntrack.protect_limits(!new.is_empty());
        let mut by_zone = Policies::new();
        for (zone, z) in &wanted.zones {
            if let Some(timeouts) = &z.timeouts {
                by_zone.insert(*zone, self.policy(timeouts, conntrack));
            }
        }
        let used: BTreeSet<u32> = by_zone.values().copied().collect();
        self.policies.retain(|id, _| {
            let stays = used.contains(id);
            if !stays {
                conntrack.set_timeouts(*id, None);
            }
            stays
        });
        self.zones = wanted.clone();
        let changed = *self.by_zone != by_zone;
        self.by_zone = Arc::new(by_zone);
        changed
    }

    /// The number of the policy with these timeouts.
    fn policy(&mut self, timeouts: &CtTimeouts, conntrack: &dyn Conntrack) -> u32 {
        let known = self.policies.iter().find(|(_, t)| *t == timeouts);
        if let Some((id, _)) = known {
            return *id;
        }
        self.last_id += 1;
        conntrack.set_timeouts(self.last_id, Some(timeouts));
        self.policies.insert(self.last_id, *timeouts);
        self.last_id
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_conntrack::Tracker;
    use ferrovs_runtime::clock;

    use super::*;

    #[test]
    fn zones_share_policies_and_lose_what_is_wanted_no_more() {
        let tracker = Tracker::new(clock::now());
        let mut applied = Applied::default();
        let mut timeouts = CtTimeouts::default();
        timeouts.0[0] = Some(7);
        let zone = |limit, timeouts| Zone { limit, timeouts };
        let mut wanted = Zones {
            default_limit: Some(9),
            zones: BTreeMap::from([
                (1, zone(Some(5), Some(timeouts))),
                (2, zone(None, Some(timeouts))),
                (3, zone(None, None)),
            ]),
        };
        assert!(applied.apply(&wanted, &tracker));
        assert_eq!(*applied.policies(), Policies::from([(1, 1), (2, 1)]));
        assert_eq!(
            (tracker.limits(Some(1))[0].limit, tracker.default_limit()),
            (5, 9)
        );
        assert!(tracker.limits_are_protected() && !applied.apply(&wanted, &tracker));
        timeouts.0[0] = Some(8);
        wanted.zones.insert(2, zone(None, Some(timeouts)));
        assert!(applied.apply(&wanted, &tracker));
        assert_eq!(*applied.policies(), Policies::from([(1, 1), (2, 2)]));
        assert!(applied.apply(&Zones::default(), &tracker));
        assert!(applied.policies().is_empty() && applied.policies.is_empty());
        assert_eq!((tracker.limits(None), tracker.default_limit()), (vec![], 0));
        assert!(!tracker.limits_are_protected());
    }
}
