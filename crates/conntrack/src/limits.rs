//! How many connections there may be: in all, and in each zone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

/// Connections in all, unless somebody says otherwise.
const MAX_CONNECTIONS: u32 = 3_000_000;

/// Limits; 0 is none.
pub struct Limits {
    max: AtomicU32,
    default: AtomicU32,
    /// Whether `zones` has any.
    some: AtomicU32,
    zones: RwLock<BTreeMap<u16, u32>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max: AtomicU32::new(MAX_CONNECTIONS),
            default: AtomicU32::new(0),
            some: AtomicU32::new(0),
            zones: RwLock::default(),
        }
    }
}

/// What became of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Changed,
    Deleted,
    WasNone,
}

impl Limits {
    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    pub fn default_limit(&self) -> u32 {
        self.default.load(Relaxed)
    }

    pub fn set_default(&self, limit: u32) {
        self.default.store(limit, Relaxed);
    }

    /// Sets the limit that a zone has of its own, or takes it away.
    pub fn set(&self, zone: u16, limit: Option<u32>) -> Change {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        let old = match limit {
            Some(limit) => zones.insert(zone, limit),
            None => zones.remove(&zone),
        };
        self.some.store(zones.len() as u32, Relaxed);
        match (old, limit) {
            (None, Some(_)) => Change::Created,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Deleted,
            (None, None) => Change::WasNone,
        }
    }

    /// The limits that zones have of their own.
    pub fn own(&self) -> Vec<(u16, u32)> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        zones.iter().map(|(zone, limit)| (*zone, *limit)).collect()
    }

    /// What holds for a zone.
    #[inline]
    pub fn of(&self, zone: u16) -> u32 {
        if self.some.load(Relaxed) != 0 {
            let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(limit) = zones.get(&zone) {
                return *limit;
            }
        }
        self.default_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_own_limit_or_the_default() {
        let limits = Limits::default();
        assert_eq!((limits.of(1), limits.max()), (0, 3_000_000));
        limits.set_default(5);
        assert_eq!(limits.set(2, Some(0)), Change::Created);
        assert_eq!(limits.set(3, Some(4)), Change::Created);
        assert_eq!(limits.set(3, Some(7)), Change::Changed);
        assert_eq!((limits.of(1), limits.of(2), limits.of(3)), (5, 0, 7));
        assert_eq!(limits.own(), [(2, 0), (3, 7)]);
        assert_eq!(limits.set(3, None), Change::Deleted);
        assert_eq!(limits.set(3, None), Change::WasNone);
        assert_eq!(limits.of(3), 5);
    }
}
