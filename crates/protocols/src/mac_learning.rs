//! The MAC learning table of a bridge: which port an address in a VLAN was last seen on.
//!
//! Entries age out when they are not refreshed. When the table is full, the port that has the most entries loses
//! the one that it refreshed longest ago, so that a port that floods addresses pushes out its own. Static
//! entries neither age nor move.
//!
//! A gratuitous ARP that a bond reflects back to the switch would teach a wrong port; one that comes in through
//! a plain port therefore locks its entry against those from bonds for [`GRATUITOUS_ARP_LOCK`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrovs_packet::types::MacAddr;
use hashbrown::HashMap;

/// Default of `mac-aging-time`.
pub const DEFAULT_AGING: Duration = Duration::from_secs(300);
/// Default of `mac-table-size`.
pub const DEFAULT_MAX_ENTRIES: usize = 8192;
/// How long a gratuitous ARP through a plain port protects an entry.
pub const GRATUITOUS_ARP_LOCK: Duration = Duration::from_secs(5);

/// Limits that the settings are held to.
const AGING_RANGE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3600));
const MAX_ENTRIES_RANGE: (usize, usize) = (10, 1_000_000);

/// Whether a packet is a gratuitous ARP, and through what it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GratuitousArp {
    #[default]
    No,
    ThroughPort,
    ThroughBond,
}

/// Counters of `fdb/stats-show`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub learned: u64,
    pub expired: u64,
    pub evicted: u64,
    pub moved: u64,
}

/// One entry, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacEntry {
    pub mac: MacAddr,
    pub vlan: u16,
    pub port: u32,
    /// Time since the last refresh; none for a static entry.
    pub age: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: u32,
    refreshed: Instant,
    /// Position in the order of refreshes; 0 for a static entry.
    turn: u64,
    /// Position in the order in which entries are shown.
    shown: u64,
    lock_until: Option<Instant>,
}

type Key = (MacAddr, u16);

/// See the module's text. Ports are numbers that mean something to the owner alone.
#[derive(Debug)]
pub struct MacTable {
    entries: HashMap<Key, Entry, foldhash::fast::RandomState>,
    /// Entries that age, oldest refresh first.
    order: BTreeMap<u64, Key>,
    /// The same for each port.
    per_port: HashMap<u32, BTreeMap<u64, Key>>,
    last_turn: u64,
    aging: Duration,
    max_entries: usize,
    pub stats: Stats,
}

impl Default for MacTable {
    fn default() -> Self {
        MacTable {
            entries: HashMap::default(),
            order: BTreeMap::new(),
            per_port: HashMap::new(),
            last_turn: 0,
            aging: DEFAULT_AGING,
            max_entries: DEFAULT_MAX_ENTRIES,
            stats: Stats::default(),
        }
    }
}

impl MacTable {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn max_entries(&self) -> usize {
        self.max_entries
    }

    /// Number of static entries.
    pub fn n_static(&self) -> usize {
        self.entries.len() - self.order.len()
    }

    pub fn set_aging(&mut self, aging: Duration) {
        self.aging = aging.clamp(AGING_RANGE.0, AGING_RANGE.1);
    }

    /// Entries beyond a smaller limit are evicted as new ones come.
    pub fn set_max_entries(&mut self, max: usize) {
        self.max_entries = max.clamp(MAX_ENTRIES_RANGE.0, MAX_ENTRIES_RANGE.1);
    }

    /// Whether [`MacTable::learn`] would change anything.
    pub fn would_learn(
        &self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: u32,
        arp: GratuitousArp,
    ) -> bool {
        let Some(old) = self.entries.get(&(mac, vlan)) else {
            return true;
        };
        let locked = old.lock_until.is_some_and(|until| until > now);
        if old.turn == 0 || arp == GratuitousArp::ThroughBond && locked {
            return false;
        }
        // An entry that is younger than a second needs no refresh.
        let fresh = now.saturating_duration_since(old.refreshed) < Duration::from_secs(1);
        !(fresh && old.port == port && arp == GratuitousArp::No)
    }

    /// Notes that `mac` was seen on `port`; true if the table said otherwise before.
    pub fn learn(
        &mut self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: u32,
        arp: GratuitousArp,
    ) -> bool {
        if !self.would_learn(now, mac, vlan, port, arp) {
            return false;
        }
        let key = (mac, vlan);
        let old = self.entries.get(&key).copied();
        let mut lock_until = None;
        match old {
            Some(old) => {
                lock_until = old.lock_until.filter(|&until| until > now);
                self.unlink(old);
            }
            None => self.make_room(),
        }
        if arp == GratuitousArp::ThroughPort {
            lock_until = Some(now + GRATUITOUS_ARP_LOCK);
        }
        self.last_turn += 1;
        let entry = Entry {
            port,
            refreshed: now,
            turn: self.last_turn,
            shown: self.last_turn,
            lock_until,
        };
        self.entries.insert(key, entry);
        self.order.insert(entry.turn, key);
        self.per_port
            .entry(port)
            .or_default()
            .insert(entry.turn, key);
        match old {
            None => self.stats.learned += 1,
            Some(old) if old.port != port => self.stats.moved += 1,
            Some(_) => return false,
        }
        true
    }

    /// Fixes an address to a port. True if the table said otherwise before.
    pub fn add_static(&mut self, now: Instant, mac: MacAddr, vlan: u16, port: u32) -> bool {
        let key = (mac, vlan);
        let old = self.entries.get(&key).copied();
        match old {
            Some(old) => self.unlink(old),
            None => self.make_room(),
        }
        self.last_turn += 1;
        self.entries.insert(
            key,
            Entry {
                port,
                refreshed: now,
                turn: 0,
                shown: self.last_turn,
                lock_until: None,
            },
        );
        old.is_none_or(|old| old.port != port)
    }

    /// The port that the address was last seen on.
    pub fn lookup(&self, mac: MacAddr, vlan: u16) -> Option<u32> {
        self.entries.get(&(mac, vlan)).map(|e| e.port)
    }

    /// The port of an entry, and whether it is static.
    pub fn find(&self, mac: MacAddr, vlan: u16) -> Option<(u32, bool)> {
        let entry = self.entries.get(&(mac, vlan))?;
        Some((entry.port, entry.turn == 0))
    }

    /// Removes one entry; false if there was none.
    pub fn remove(&mut self, mac: MacAddr, vlan: u16) -> bool {
        let Some(old) = self.entries.remove(&(mac, vlan)) else {
            return false;
        };
        self.unlink(old);
        true
    }

    /// Forgets what was learned; static entries stay.
    pub fn flush(&mut self) {
        for (_, key) in std::mem::take(&mut self.order) {
            self.entries.remove(&key);
        }
        self.per_port.clear();
    }

    /// Forgets everything about a port.
    pub fn forget_port(&mut self, port: u32) {
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, e)| e.port == port)
            .map(|(k, _)| *k)
            .collect();
        for (mac, vlan) in gone {
            self.remove(mac, vlan);
        }
    }

    /// Removes entries that have aged out; true if there were any.
    pub fn tick(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((_, &key)) = self.order.first_key_value() {
            let Some(entry) = self.entries.get(&key).copied() else {
                break;
            };
            if entry.refreshed + self.aging > now {
                break;
            }
            self.remove(key.0, key.1);
            self.stats.expired += 1;
            any = true;
        }
        any
    }

    /// When [`MacTable::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let (_, key) = self.order.first_key_value()?;
        Some(self.entries.get(key)?.refreshed + self.aging)
    }

    /// All entries, the one refreshed longest ago first; static ones as if refreshed when they were added.
    pub fn entries(&self, now: Instant) -> Vec<MacEntry> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_unstable_by_key(|(_, e)| e.shown);
        let age = |e: &Entry| (e.turn != 0).then(|| now.saturating_duration_since(e.refreshed));
        let shown = all.into_iter().map(|(k, e)| MacEntry {
            mac: k.0,
            vlan: k.1,
            port: e.port,
            age: age(e),
        });
        shown.collect()
    }

    fn make_room(&mut self) {
        while self.entries.len() >= self.max_entries {
            let fullest = self.per_port.values().max_by_key(|list| list.len());
            let Some((_, &(mac, vlan))) = fullest.and_then(|list| list.first_key_value()) else {
                return;
            };
            self.remove(mac, vlan);
            self.stats.evicted += 1;
        }
    }

    fn unlink(&mut self, entry: Entry) {
        self.order.remove(&entry.turn);
        if let Some(list) = self.per_port.get_mut(&entry.port) {
            list.remove(&entry.turn);
            if list.is_empty() {
                self.per_port.remove(&entry.port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(0x0200_0000_0000 + n)
    }

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_address_is_found_where_it_was_last_seen_until_it_ages_out() {
        let (t, mut table) = (start(), MacTable::default());
        assert!(table.learn(t, mac(1), 0, 7, GratuitousArp::No));
        assert!(!table.learn(
            t + Duration::from_secs(100),
            mac(1),
            0,
            7,
            GratuitousArp::No
        ));
        assert_eq!(table.lookup(mac(1), 0), Some(7));
        assert_eq!(table.lookup(mac(1), 1), None);
        assert!(table.learn(
            t + Duration::from_secs(101),
            mac(1),
            0,
            8,
            GratuitousArp::No
        ));
        assert_eq!(table.lookup(mac(1), 0), Some(8));
        assert!(!table.tick(t + Duration::from_secs(400)));
        assert_eq!(table.deadline(), Some(t + Duration::from_secs(401)));
        assert!(table.tick(t + Duration::from_secs(401)));
        assert!(table.is_empty());
        assert_eq!(
            table.stats,
            Stats {
                learned: 1,
                moved: 1,
                expired: 1,
                evicted: 0
            }
        );
    }

    #[test]
    fn a_port_that_floods_addresses_pushes_out_its_own() {
        let (t, mut table) = (start(), MacTable::default());
        table.set_max_entries(10);
        table.learn(t, mac(0), 0, 1, GratuitousArp::No);
        for n in 1..100 {
            table.learn(t, mac(n), 0, 2, GratuitousArp::No);
        }
        assert_eq!((table.len(), table.lookup(mac(0), 0)), (10, Some(1)));
        assert_eq!(table.lookup(mac(99), 0), Some(2));
        assert_eq!(table.stats.evicted, 90);
    }

    #[test]
    fn static_entries_neither_move_nor_age() {
        let (t, mut table) = (start(), MacTable::default());
        assert!(table.add_static(t, mac(1), 5, 3));
        assert!(!table.learn(t, mac(1), 5, 4, GratuitousArp::No));
        table.tick(t + Duration::from_secs(10_000));
        table.flush();
        assert_eq!((table.lookup(mac(1), 5), table.n_static()), (Some(3), 1));
        table.forget_port(3);
        assert!(table.is_empty());
    }

    #[test]
    fn a_reflected_gratuitous_arp_does_not_move_an_entry() {
        let (t, mut table) = (start(), MacTable::default());
        table.learn(t, mac(1), 0, 1, GratuitousArp::ThroughPort);
        assert!(!table.learn(t, mac(1), 0, 2, GratuitousArp::ThroughBond));
        assert!(table.learn(
            t + GRATUITOUS_ARP_LOCK,
            mac(1),
            0,
            2,
            GratuitousArp::ThroughBond
        ));
    }
}
