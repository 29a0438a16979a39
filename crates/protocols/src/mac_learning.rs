//! The MAC learning table of a bridge: behind which port an address of a VLAN was last seen.
//!
//! Entries age out when they are not refreshed within the idle time. A full table makes room fairly: the port
//! with the most entries loses the one that was refreshed longest ago, so that a host that floods addresses
//! displaces its own entries first. Static entries neither age, nor move, nor get evicted.
//!
//! ```text
//!   index   (vlan, mac) -> slot
//!   slots   entries, linked twice: all dynamic ones by age, those of each port by age
//!   load    ports by number of dynamic entries
//! ```
//!
//! A gratuitous ARP that a port without a bond sent locks its entry for 5 seconds against gratuitous ARPs from
//! bonds, because a peer switch reflects them back over the other members of a bond.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ferrovs_packet::types::MacAddr;
use hashbrown::HashMap;

/// Default and limits of the number of entries.
pub const DEFAULT_MAX_ENTRIES: usize = 8192;
const MIN_ENTRIES: usize = 10;
const MAX_ENTRIES: usize = 1_000_000;
/// Default and limits of the idle time in seconds.
pub const DEFAULT_IDLE_TIME_S: u64 = 300;
const MIN_IDLE_TIME_S: u64 = 15;
const MAX_IDLE_TIME_S: u64 = 3600;
/// How long a gratuitous ARP locks an entry.
const GRATUITOUS_ARP_LOCK: Duration = Duration::from_secs(5);

/// Identifies a port (a bundle) of the bridge.
pub type PortKey = u32;

/// How a learned packet relates to gratuitous ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GratuitousArp {
    No,
    /// Through a port that is no bond.
    FromPort,
    FromBond,
}

/// Counters since the start or the last [`MacTable::clear_stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MacStats {
    pub learned: u64,
    pub expired: u64,
    pub evicted: u64,
    pub moved: u64,
    /// Packets that contradicted a static entry.
    pub static_none_moved: u64,
}

/// One entry as commands show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacEntry {
    pub mac: MacAddr,
    pub vlan: u16,
    pub port: PortKey,
    /// Seconds since it was refreshed; none for a static entry.
    pub age_s: Option<u64>,
}

/// What [`MacTable::add_static`] replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    Nothing,
    Static(PortKey),
    Dynamic(PortKey),
}

const NIL: u32 = u32::MAX;

/// Links of a list through the slots.
#[derive(Clone, Copy, Debug)]
struct Links {
    prev: u32,
    next: u32,
}

const UNLINKED: Links = Links {
    prev: NIL,
    next: NIL,
};

/// The ends of such a list: oldest and newest.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
    len: usize,
}

const NO_ENDS: Ends = Ends {
    first: NIL,
    last: NIL,
    len: 0,
};

#[derive(Debug)]
struct Slot {
    mac: MacAddr,
    vlan: u16,
    port: PortKey,
    is_static: bool,
    refreshed: Instant,
    grat_arp_lock: Option<Instant>,
    /// Grows with each refresh: the order in which entries are shown.
    order: u64,
    all: Links,
    of_port: Links,
}

#[derive(Clone, Copy)]
enum List {
    All,
    OfPort,
}

impl Slot {
    fn links(&mut self, list: List) -> &mut Links {
        match list {
            List::All => &mut self.all,
            List::OfPort => &mut self.of_port,
        }
    }
}

fn push_back(slots: &mut [Slot], ends: &mut Ends, list: List, i: u32) {
    *slots[i as usize].links(list) = Links {
        prev: ends.last,
        next: NIL,
    };
    match ends.last {
        NIL => ends.first = i,
        last => slots[last as usize].links(list).next = i,
    }
    ends.last = i;
    ends.len += 1;
}

fn unlink(slots: &mut [Slot], ends: &mut Ends, list: List, i: u32) {
    let Links { prev, next } = std::mem::replace(slots[i as usize].links(list), UNLINKED);
    match prev {
        NIL => ends.first = next,
        prev => slots[prev as usize].links(list).next = next,
    }
    match next {
        NIL => ends.last = prev,
        next => slots[next as usize].links(list).prev = prev,
    }
    ends.len -= 1;
}

/// See the module's text.
#[derive(Debug)]
pub struct MacTable {
    idle_time: Duration,
    max_entries: usize,
    index: HashMap<(u16, MacAddr), u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Dynamic entries by age.
    dynamic: Ends,
    ports: HashMap<PortKey, Ends>,
    /// `(dynamic entries, port)` of each port that has some.
    load: BTreeSet<(usize, PortKey)>,
    n_static: usize,
    next_order: u64,
    stats: MacStats,
}

impl Default for MacTable {
    fn default() -> Self {
        MacTable {
            idle_time: Duration::from_secs(DEFAULT_IDLE_TIME_S),
            max_entries: DEFAULT_MAX_ENTRIES,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            dynamic: NO_ENDS,
            ports: HashMap::new(),
            load: BTreeSet::new(),
            n_static: 0,
            next_order: 0,
            stats: MacStats::default(),
        }
    }
}

impl MacTable {
    pub fn new() -> MacTable {
        MacTable::default()
    }

    /// Where `mac` was last seen in `vlan`.
    pub fn lookup(&self, mac: MacAddr, vlan: u16) -> Option<PortKey> {
        let slot = *self.index.get(&(vlan, mac))?;
        Some(self.slots[slot as usize].port)
    }

    /// Notes that `mac` was seen in `vlan` behind `port`, which is no bond. True if that is news: flows that
    /// were made before may be wrong now.
    pub fn learn(
        &mut self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: PortKey,
        gratuitous_arp: bool,
    ) -> bool {
        let arp = if gratuitous_arp {
            GratuitousArp::FromPort
        } else {
            GratuitousArp::No
        };
        self.learn_from(now, mac, vlan, port, arp)
    }

    /// Like [`MacTable::learn`], for ports of any kind.
    pub fn learn_from(
        &mut self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: PortKey,
        arp: GratuitousArp,
    ) -> bool {
        if mac.is_multicast() {
            return false;
        }
        let Some(&i) = self.index.get(&(vlan, mac)) else {
            if self.index.len() >= self.max_entries && !self.evict_fairly() {
                return false;
            }
            let i = self.insert(now, mac, vlan, port, false);
            if arp == GratuitousArp::FromPort {
                self.slots[i as usize].grat_arp_lock = Some(now + GRATUITOUS_ARP_LOCK);
            }
            self.stats.learned += 1;
            return true;
        };
        let slot = &mut self.slots[i as usize];
        if slot.is_static {
            if slot.port != port {
                self.stats.static_none_moved += 1;
            }
            return false;
        }
        match arp {
            GratuitousArp::No => {}
            GratuitousArp::FromPort => slot.grat_arp_lock = Some(now + GRATUITOUS_ARP_LOCK),
            GratuitousArp::FromBond if slot.grat_arp_lock.is_some_and(|until| now < until) => {
                return false;
            }
            GratuitousArp::FromBond => {}
        }
        let moved = slot.port != port;
        self.unlink_dynamic(i);
        let slot = &mut self.slots[i as usize];
        slot.port = port;
        slot.refreshed = now;
        slot.order = self.next_order;
        self.next_order += 1;
        self.link_dynamic(i);
        if moved {
            self.stats.moved += 1;
        }
        moved
    }

    /// Whether learning would change anything that matters: the entry is missing, elsewhere, or at least a
    /// second old. Lets a reader avoid to become a writer.
    pub fn needs_update(&self, now: Instant, mac: MacAddr, vlan: u16, port: PortKey) -> bool {
        let Some(&i) = self.index.get(&(vlan, mac)) else {
            return !mac.is_multicast();
        };
        let slot = &self.slots[i as usize];
        if slot.is_static {
            return false;
        }
        slot.port != port || now.saturating_duration_since(slot.refreshed).as_secs() > 0
    }

    /// Adds a static entry, in place of what was there. None if the table is full of static entries.
    pub fn add_static(
        &mut self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: PortKey,
    ) -> Option<Replaced> {
        let replaced = match self.index.get(&(vlan, mac)).copied() {
            Some(i) => {
                let slot = &self.slots[i as usize];
                let (old, was_static) = (slot.port, slot.is_static);
                self.remove_slot(i);
                if was_static {
                    Replaced::Static(old)
                } else {
                    Replaced::Dynamic(old)
                }
            }
            None if self.index.len() >= self.max_entries && !self.evict_fairly() => return None,
            None => Replaced::Nothing,
        };
        self.insert(now, mac, vlan, port, true);
        Some(replaced)
    }

    /// Removes a static entry; false if there is none.
    pub fn remove_static(&mut self, mac: MacAddr, vlan: u16) -> bool {
        match self.index.get(&(vlan, mac)) {
            Some(&i) if self.slots[i as usize].is_static => {
                self.remove_slot(i);
                true
            }
            _ => false,
        }
    }

    /// Drops entries that are too old or too many; true if some went.
    pub fn run(&mut self, now: Instant) -> bool {
        let before = self.index.len();
        while let Some(oldest) = self.oldest() {
            let expires = self.slots[oldest as usize].refreshed + self.idle_time;
            if self.index.len() <= self.max_entries && now < expires {
                break;
            }
            self.remove_slot(oldest);
            self.stats.expired += 1;
        }
        self.index.len() != before
    }

    /// When [`MacTable::run`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let oldest = self.oldest()?;
        Some(self.slots[oldest as usize].refreshed + self.idle_time)
    }

    /// Drops all dynamic entries; true if there were some.
    pub fn flush(&mut self) -> bool {
        let mut any = false;
        while let Some(oldest) = self.oldest() {
            self.remove_slot(oldest);
            any = true;
        }
        any
    }

    /// Drops the entries, static ones too, that `doomed` picks; true if there were some.
    pub fn remove_if(&mut self, mut doomed: impl FnMut(&MacEntry) -> bool, now: Instant) -> bool {
        let victims: Vec<u32> = self
            .index
            .values()
            .copied()
            .filter(|&i| doomed(&self.entry(i, now)))
            .collect();
        victims.iter().for_each(|&i| self.remove_slot(i));
        !victims.is_empty()
    }

    /// Drops all entries of a port that is going away.
    pub fn remove_port(&mut self, port: PortKey) -> bool {
        let of_port = |s: &&u32| self.slots[**s as usize].port == port;
        let victims: Vec<u32> = self.index.values().filter(of_port).copied().collect();
        victims.iter().for_each(|&i| self.remove_slot(i));
        !victims.is_empty()
    }

    /// Sets the idle time, within its limits. Entries keep their last refresh, so that their end moves along.
    pub fn set_idle_time_s(&mut self, seconds: u64) {
        self.idle_time = Duration::from_secs(seconds.clamp(MIN_IDLE_TIME_S, MAX_IDLE_TIME_S));
    }

    /// Sets how many entries there may be, within limits; excess ones go at the next [`MacTable::run`].
    pub fn set_max_entries(&mut self, n: usize) {
        self.max_entries = n.clamp(MIN_ENTRIES, MAX_ENTRIES);
    }

    pub fn max_entries(&self) -> usize {
        self.max_entries
    }

    pub fn idle_time_s(&self) -> u64 {
        self.idle_time.as_secs()
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub fn n_static(&self) -> usize {
        self.n_static
    }

    pub fn stats(&self) -> MacStats {
        self.stats
    }

    pub fn clear_stats(&mut self) {
        self.stats = MacStats::default();
    }

    /// All entries, those refreshed longest ago first.
    pub fn entries(&self, now: Instant) -> Vec<MacEntry> {
        let mut slots: Vec<u32> = self.index.values().copied().collect();
        slots.sort_unstable_by_key(|&i| self.slots[i as usize].order);
        slots.into_iter().map(|i| self.entry(i, now)).collect()
    }

    fn entry(&self, i: u32, now: Instant) -> MacEntry {
        let slot = &self.slots[i as usize];
        let age = now.saturating_duration_since(slot.refreshed).as_secs();
        MacEntry {
            mac: slot.mac,
            vlan: slot.vlan,
            port: slot.port,
            age_s: (!slot.is_static).then_some(age),
        }
    }

    fn oldest(&self) -> Option<u32> {
        (self.dynamic.first != NIL).then_some(self.dynamic.first)
    }

    /// Makes room for one entry; false if all entries are static.
    fn evict_fairly(&mut self) -> bool {
        let Some(&(_, port)) = self.load.last() else {
            return false;
        };
        let Some(oldest) = self.ports.get(&port).map(|ends| ends.first) else {
            return false;
        };
        self.remove_slot(oldest);
        self.stats.evicted += 1;
        true
    }

    fn insert(
        &mut self,
        now: Instant,
        mac: MacAddr,
        vlan: u16,
        port: PortKey,
        is_static: bool,
    ) -> u32 {
        let slot = Slot {
            mac,
            vlan,
            port,
            is_static,
            refreshed: now,
            grat_arp_lock: None,
            order: self.next_order,
            all: UNLINKED,
            of_port: UNLINKED,
        };
        self.next_order += 1;
        let i = match self.free.pop() {
            Some(i) => {
                self.slots[i as usize] = slot;
                i
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert((vlan, mac), i);
        if is_static {
            self.n_static += 1;
        } else {
            self.link_dynamic(i);
        }
        i
    }

    fn remove_slot(&mut self, i: u32) {
        let slot = &self.slots[i as usize];
        self.index.remove(&(slot.vlan, slot.mac));
        if slot.is_static {
            self.n_static -= 1;
        } else {
            self.unlink_dynamic(i);
        }
        self.free.push(i);
    }

    fn link_dynamic(&mut self, i: u32) {
        push_back(&mut self.slots, &mut self.dynamic, List::All, i);
        let port = self.slots[i as usize].port;
        let ends = self.ports.entry(port).or_insert(NO_ENDS);
        self.load.remove(&(ends.len, port));
        push_back(&mut self.slots, ends, List::OfPort, i);
        self.load.insert((ends.len, port));
    }

    fn unlink_dynamic(&mut self, i: u32) {
        unlink(&mut self.slots, &mut self.dynamic, List::All, i);
        let port = self.slots[i as usize].port;
        let Some(ends) = self.ports.get_mut(&port) else {
            return;
        };
        self.load.remove(&(ends.len, port));
        unlink(&mut self.slots, ends, List::OfPort, i);
        if ends.len > 0 {
            self.load.insert((ends.len, port));
        } else {
            self.ports.remove(&port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> MacAddr {
        MacAddr::from_u64(n)
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn addresses_are_learned_per_vlan_move_and_age() {
        let (mut table, t0) = (MacTable::new(), Instant::now_for_tests());
        assert!(table.learn(t0, mac(2), 1, 10, false));
        assert!(!table.learn(t0, mac(2), 1, 10, false));
        assert!(table.learn(t0, mac(2), 2, 11, false));
        assert!(!table.learn(t0, MacAddr::BROADCAST, 2, 11, false));
        assert!(table.learn(t0 + secs(100), mac(2), 1, 12, false));
        assert_eq!(
            (table.lookup(mac(2), 1), table.lookup(mac(2), 2)),
            (Some(12), Some(11))
        );
        assert_eq!(table.deadline(), Some(t0 + secs(300)));
        assert!(table.run(t0 + secs(300)));
        assert_eq!(
            (table.lookup(mac(2), 1), table.lookup(mac(2), 2)),
            (Some(12), None)
        );
        assert!(!table.run(t0 + secs(399)) && table.run(t0 + secs(400)));
        let stats = table.stats();
        assert_eq!((stats.learned, stats.moved, stats.expired), (2, 1, 2));
    }

    #[test]
    fn a_full_table_evicts_from_the_port_with_most_entries() {
        let (mut table, t0) = (MacTable::new(), Instant::now_for_tests());
        table.set_max_entries(10);
        table.learn(t0, mac(2), 0, 1, false);
        for i in 0..100 {
            table.learn(t0, mac(0x1000 + i * 2), 0, 2, false);
        }
        assert_eq!((table.len(), table.lookup(mac(2), 0)), (10, Some(1)));
        assert_eq!(table.stats().evicted, 91);
        assert_eq!(table.lookup(mac(0x1000 + 99 * 2), 0), Some(2));
        assert_eq!(table.lookup(mac(0x1000), 0), None);
    }

    #[test]
    fn static_entries_stay_where_they_are() {
        let (mut table, t0) = (MacTable::new(), Instant::now_for_tests());
        table.learn(t0, mac(2), 0, 1, false);
        assert_eq!(
            table.add_static(t0, mac(2), 0, 3),
            Some(Replaced::Dynamic(1))
        );
        assert!(!table.learn(t0, mac(2), 0, 1, false));
        assert!(!table.flush() && !table.run(t0 + secs(100_000)));
        assert_eq!((table.lookup(mac(2), 0), table.n_static()), (Some(3), 1));
        assert_eq!(table.entries(t0)[0].age_s, None);
        assert!(table.remove_static(mac(2), 0) && !table.remove_static(mac(2), 0));
        table.set_max_entries(10);
        for i in 0..10 {
            table.add_static(t0, mac(i * 2), 0, 1);
        }
        assert_eq!(table.add_static(t0, mac(100), 0, 1), None);
        assert!(!table.learn(t0, mac(100), 0, 1, false));
        assert!(table.remove_port(1) && table.is_empty());
    }

    #[test]
    fn a_gratuitous_arp_from_a_port_locks_out_its_reflection_over_a_bond() {
        let (mut table, t0) = (MacTable::new(), Instant::now_for_tests());
        table.learn(t0, mac(2), 0, 1, true);
        assert!(!table.learn_from(t0 + secs(4), mac(2), 0, 2, GratuitousArp::FromBond));
        assert_eq!(table.lookup(mac(2), 0), Some(1));
        assert!(table.learn_from(t0 + secs(6), mac(2), 0, 2, GratuitousArp::FromBond));
    }

    #[test]
    fn entries_are_shown_oldest_refresh_first() {
        let (mut table, t0) = (MacTable::new(), Instant::now_for_tests());
        for i in 1..4 {
            table.learn(t0, mac(i * 2), 0, i as u32, false);
        }
        table.learn(t0 + secs(7), mac(2), 0, 1, false);
        let shown = table.entries(t0 + secs(9));
        let shown: Vec<_> = shown.iter().map(|e| (e.port, e.age_s)).collect();
        assert_eq!(shown, [(2, Some(9)), (3, Some(9)), (1, Some(2))]);
    }

    /// Tests of other crates may not read the clock; these need an origin only.
    trait Origin {
        fn now_for_tests() -> Instant;
    }

    impl Origin for Instant {
        #[allow(clippy::disallowed_methods)]
        fn now_for_tests() -> Instant {
            Instant::now()
        }
    }
}
