//! The tracker as commands and the switch see it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ferrovs_datapath::conntrack::{
    Conntrack, CtEntry, CtExpectation, CtFilter, CtTimeouts, CtZoneLimit, FragStatus, IpVersion,
};
use ferrovs_datapath::dpif::Errno;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::CONNTRACK;

use crate::Tracker;
use crate::alg::Helper;
use crate::conn::{Conn, flag};
use crate::limits::Change;
use crate::table::{SHARDS, Swept};

/// Places that are looked at while their shard is held.
const PART: u32 = 64;

impl Tracker {
    /// As [`Table::sweep`](crate::table::Table::sweep), with what the connections announced.
    pub(crate) fn forget_in(
        &self,
        shard: u16,
        first: u32,
        n: u32,
        which: &mut dyn FnMut(&Conn) -> bool,
    ) -> Swept {
        self.table.sweep(shard, first, n, &mut |c| {
            let goes = which(c);
            if goes && c.helper != Helper::None {
                self.expectations.forget(&c.orig);
            }
            goes
        })
    }
}

fn matches(c: &Conn, f: &CtFilter) -> bool {
    let label = |(i, byte): (usize, &u8)| {
        f.labels
            .is_none_or(|m| byte & m.mask[i] == m.value[i] & m.mask[i])
    };
    f.zone.is_none_or(|z| z == c.orig.zone)
        && f.mark.is_none_or(|m| c.mark & m.mask == m.value & m.mask)
        && c.labels().iter().enumerate().all(label)
        && (f.orig.is_empty() || f.orig.matches(&c.orig.to_entry()))
        && (f.reply.is_empty() || f.reply.matches(&c.reply().to_entry()))
}

impl Conntrack for Tracker {
    fn dump(&self, zone: Option<u16>, now: Instant, visit: &mut dyn FnMut(&CtEntry)) {
        let now_ms = self.ms(now);
        let mut part = Vec::new();
        for shard in 0..SHARDS as u16 {
            let mut first = 0u32;
            loop {
                let guard = self.table.lock(shard);
                let places = guard.places();
                for slot in first..first.saturating_add(PART).min(places) {
                    let conn = guard.get(slot).filter(|c| {
                        c.has(flag::USED)
                            && !c.has_expired(now_ms)
                            && zone.is_none_or(|z| z == c.orig.zone)
                    });
                    part.extend(conn.map(|c| c.to_entry(now_ms)));
                }
                drop(guard);
                for entry in part.drain(..) {
                    visit(&entry);
                }
                first = first.saturating_add(PART);
                if first >= places {
                    break;
                }
            }
        }
    }

    fn expectations(&self, zone: Option<u16>) -> Vec<CtExpectation> {
        let all = self.expectations.all().into_iter();
        let mut all: Vec<_> = all
            .filter(|e| zone.is_none_or(|z| z == e.tuple.zone))
            .map(|e| CtExpectation {
                orig: e.tuple.to_entry(),
                parent: e.parent.to_entry(),
                zone: e.tuple.zone,
            })
            .collect();
        all.sort_by_key(|e| (e.zone, e.orig.src, e.orig.dst));
        all
    }

    fn flush(&self, filter: &CtFilter) -> usize {
        let mut n = 0;
        for shard in 0..SHARDS as u16 {
            let mut next = Some(0);
            while let Some(first) = next {
                let swept = self.forget_in(shard, first, PART, &mut |c| matches(c, filter));
                n += swept.taken;
                next = swept.next;
            }
        }
        n
    }

    fn count(&self) -> u32 {
        self.table.count()
    }

    fn max_count(&self) -> u32 {
        self.limits.max()
    }

    fn set_max_count(&self, max: u32) {
        self.limits.set_max(max);
    }

    fn checks_tcp_sequence(&self) -> bool {
        self.checks_sequence()
    }

    fn check_tcp_sequence(&self, on: bool) {
        self.checks_sequence.store(on, Relaxed);
    }

    fn sweep_interval_ms(&self) -> u32 {
        self.sweeper.interval_ms()
    }

    fn set_sweep_interval_ms(&self, ms: u32) {
        self.sweeper.set_interval_ms(ms);
    }

    fn default_limit(&self) -> u32 {
        self.limits.default_limit()
    }

    fn set_limit(&self, zone: Option<u16>, limit: u32) {
        let Some(zone) = zone else {
            self.limits.set_default(limit);
            vlog::info!(CONNTRACK, "Set default zone limit to {limit}");
            return;
        };
        match self.limits.set(zone, Some(limit)) {
            Change::Created => {
                vlog::info!(CONNTRACK, "Created zone limit of {limit} for zone {zone}");
            }
            _ => vlog::info!(CONNTRACK, "Changed zone limit of {limit} for zone {zone}"),
        }
    }

    fn delete_limit(&self, zone: Option<u16>) {
        let Some(zone) = zone else {
            return self.set_limit(None, 0);
        };
        match self.limits.set(zone, None) {
            Change::WasNone => vlog::info!(
                CONNTRACK,
                "Attempted delete of non-existent zone limit: zone {zone}"
            ),
            _ => vlog::info!(CONNTRACK, "Deleted zone limit for zone {zone}"),
        }
    }

    fn limits(&self, zone: Option<u16>) -> Vec<CtZoneLimit> {
        let entry = |zone, limit| CtZoneLimit {
            zone,
            limit,
            // Where nothing is limited nothing is said to count.
            count: match limit {
                0 => 0,
                _ => self.table.count_in(zone),
            },
        };
        match zone {
            Some(zone) => vec![entry(zone, self.limits.of(zone))],
            None => {
                let own = self.limits.own().into_iter();
                own.map(|(zone, limit)| entry(zone, limit)).collect()
            }
        }
    }

    fn protect_limits(&self, on: bool) {
        self.limits_protected.store(on, Relaxed);
    }

    fn limits_are_protected(&self) -> bool {
        self.limits_protected.load(Relaxed)
    }

    fn set_timeouts(&self, policy: u32, timeouts: Option<&CtTimeouts>) {
        self.policies.set(policy, timeouts);
    }

    fn frag_status(&self) -> FragStatus {
        self.frags.status()
    }

    fn enable_frags(&self, version: IpVersion, on: bool) {
        self.frags.enable(version, on);
    }

    fn set_min_frag(&self, version: IpVersion, size: u32) -> Result<(), Errno> {
        self.frags.set_min_size(version, size)
    }

    fn set_max_frags(&self, max: u32) -> Result<(), Errno> {
        self.frags.set_max(max)
    }
}
