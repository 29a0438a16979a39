//! The entries of the neighbour cache.
//!
//! Threads that translate look entries up, refresh them and make them wanted without a lock: what changes in an entry is
//! atomic. Entries come and go under the lock of [`Notes`] alone. Who takes an entry out of the state "announced by a
//! port", by wanting or by removing it, counts it out: the exchange of [`Entry::from`] says who that is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrovs_packet::types::MacAddr;

use super::Bridge;

/// Neighbours that tunnels asked for or use.
pub(super) const MAX_WANTED: usize = 65536;
/// Neighbours that nobody asked for, over all ports: a few megabytes.
pub(super) const MAX_UNASKED: usize = 16384;

/// A bridge and an address beyond it.
pub(super) type Key = (Bridge, IpAddr);
/// A bridge and its port that an announcement came through.
type Source = (Bridge, u32);
/// Microseconds since some beginning.
pub(super) type Stamp = u64;

/// Of [`Entry::from`]: asked for, in use, or set.
const WANTED: u64 = u64::MAX;
/// Of [`Entry::from`]: no longer in the cache.
const GONE: u64 = u64::MAX - 1;

#[derive(Debug)]
struct Entry {
    mac: AtomicU64,
    expires: AtomicU64,
    /// The port that announced it, or what is said above.
    from: AtomicU64,
}

fn pack(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn unpack(mac: u64) -> MacAddr {
    let [_, _, a, b, c, d, e, f] = mac.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

#[derive(Debug, Default)]
struct Notes {
    /// Until when the answer for each missing neighbour is waited for.
    asked: HashMap<Key, Stamp>,
    /// What each port announced unasked, oldest first; entries that are wanted by now may be among them.
    unasked: HashMap<Source, VecDeque<IpAddr>>,
}

#[derive(Debug)]
pub(super) struct Cache {
    entries: papaya::HashMap<Key, Entry, foldhash::fast::RandomState>,
    n_unasked: AtomicUsize,
    /// No entry expires before, and no answer is given up.
    due: AtomicU64,
    notes: Mutex<Notes>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            entries: papaya::HashMap::default(),
            n_unasked: AtomicUsize::new(0),
            due: AtomicU64::new(Stamp::MAX),
            notes: Mutex::default(),
        }
    }
}

/// A neighbour, as a reader sees it.
pub(super) struct Neighbour {
    pub bridge: Bridge,
    pub ip: IpAddr,
    pub mac: MacAddr,
    pub expires: Stamp,
}

impl Cache {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a neighbour that has not expired; it stays until `expires` then. `want`: a tunnel uses it, and it keeps
    /// its place whatever others announce.
    pub fn get(&self, key: &Key, now: Stamp, expires: Stamp, want: bool) -> Option<MacAddr> {
        let entries = self.entries.pin();
        let entry = entries.get(key)?;
        if entry.expires.load(Relaxed) <= now {
            return None;
        }
        entry.expires.store(expires, Relaxed);
        if want {
            self.want(entry);
        }
        Some(unpack(entry.mac.load(Relaxed)))
    }

    fn want(&self, entry: &Entry) {
        let announced = |from| (from < GONE).then_some(WANTED);
        if entry.from.load(Relaxed) < GONE
            && entry.from.fetch_update(Relaxed, Relaxed, announced).is_ok()
        {
            self.n_unasked.fetch_sub(1, Relaxed);
        }
    }

    /// An entry leaves.
    fn leaves(&self, entry: &Entry) {
        if entry.from.swap(GONE, Relaxed) < GONE {
            self.n_unasked.fetch_sub(1, Relaxed);
        }
    }

    /// Takes note of a neighbour that the port `from` announced, or none that was set. Returns true if
    /// translations may have become wrong.
    pub fn set(&self, key: Key, mac: MacAddr, expires: Stamp, from: Option<u32>) -> bool {
        let mut notes = self.notes();
        let asked = notes.asked.remove(&key).is_some();
        self.due.fetch_min(expires, Relaxed);
        let entries = self.entries.pin();
        if let Some(old) = entries.get(&key) {
            let moved = old.mac.swap(pack(mac), Relaxed) != pack(mac);
            old.expires.store(expires, Relaxed);
            if asked || from.is_none() {
                self.want(old);
            }
            return moved;
        }
        let from = from.filter(|_| !asked);
        match from {
            None if entries.len().saturating_sub(self.n_unasked()) >= MAX_WANTED => return false,
            None => {}
            Some(port) => {
                if self.n_unasked() >= MAX_UNASKED {
                    self.evict(&mut notes);
                }
                self.n_unasked.fetch_add(1, Relaxed);
                let source = (key.0, port);
                notes.unasked.entry(source).or_default().push_back(key.1);
            }
        }
        let entry = Entry {
            mac: AtomicU64::new(pack(mac)),
            expires: AtomicU64::new(expires),
            from: AtomicU64::new(from.map_or(WANTED, u64::from)),
        };
        entries.insert(key, entry);
        true
    }

    /// Takes out the oldest of the port that announced most.
    fn evict(&self, notes: &mut Notes) {
        let entries = self.entries.pin();
        while let Some((source, queue)) = notes.unasked.iter_mut().max_by_key(|(_, q)| q.len()) {
            let Some(ip) = queue.pop_front() else {
                notes.unasked.clear();
                return;
            };
            let (key, port) = ((source.0, ip), u64::from(source.1));
            let theirs = |e: &&Entry| {
                let gone = e.from.compare_exchange(port, GONE, Relaxed, Relaxed);
                gone.is_ok()
            };
            if entries.get(&key).filter(theirs).is_some() {
                entries.remove(&key);
                self.n_unasked.fetch_sub(1, Relaxed);
                return;
            }
        }
    }

    /// Whether a missing neighbour shall be asked for now: its answer is waited for `until` then. False while one is
    /// waited for.
    pub fn ask(&self, key: Key, now: Stamp, until: Stamp) -> bool {
        let mut notes = self.notes();
        let waits = notes.asked.get(&key).is_some_and(|until| now < *until);
        if waits || notes.asked.len() >= MAX_WANTED {
            return false;
        }
        notes.asked.insert(key, until);
        self.due.fetch_min(until, Relaxed);
        true
    }

    /// Answers are waited for as long as it is said now.
    pub fn shift_asked(&self, old: Stamp, new: Stamp) {
        let mut notes = self.notes();
        for until in notes.asked.values_mut() {
            *until = until.saturating_sub(old) + new;
        }
        self.find_due(&notes);
    }

    /// The neighbours whose answers are waited for, in no order.
    pub fn asked(&self, now: Stamp) -> Vec<Key> {
        let notes = self.notes();
        let waits = notes.asked.iter().filter(|(_, until)| now < **until);
        waits.map(|(key, _)| *key).collect()
    }

    /// Whether [`Cache::expire`] has something to do.
    pub fn is_due(&self, now: Stamp) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// When the first entry may expire, or the first answer be given up.
    pub fn due(&self) -> Option<Stamp> {
        Some(self.due.load(Relaxed)).filter(|due| *due != Stamp::MAX)
    }

    /// Forgets what is too old; true if there were such neighbours, or answers that did not come: they are to be
    /// asked for again.
    pub fn expire(&self, now: Stamp) -> bool {
        let mut notes = self.notes();
        let waited = notes.asked.len();
        notes.asked.retain(|_, until| now < *until);
        let given_up = notes.asked.len() != waited;
        let expired = self.retain(&mut notes, |e| e.expires.load(Relaxed) > now);
        self.find_due(&notes);
        expired || given_up
    }

    pub fn clear(&self) {
        let mut notes = self.notes();
        notes.asked.clear();
        self.retain(&mut notes, |_| false);
        self.due.store(Stamp::MAX, Relaxed);
    }

    fn retain(&self, notes: &mut Notes, keep: impl Fn(&Entry) -> bool) -> bool {
        let entries = self.entries.pin();
        let before = entries.len();
        entries.retain(|_, e| {
            let keep = keep(e);
            if !keep {
                self.leaves(e);
            }
            keep
        });
        notes.unasked.retain(|(bridge, port), queue| {
            let unasked = |ip: &IpAddr| {
                let entry = entries.get(&(*bridge, *ip));
                entry.is_some_and(|e| e.from.load(Relaxed) == u64::from(*port))
            };
            queue.retain(unasked);
            !queue.is_empty()
        });
        entries.len() != before
    }

    /// The ageing time changed: what is known keeps its age.
    pub fn shift(&self, old: Stamp, new: Stamp) {
        let notes = self.notes();
        for entry in self.entries.pin().values() {
            let expires = entry.expires.load(Relaxed);
            entry
                .expires
                .store(expires.saturating_sub(old) + new, Relaxed);
        }
        self.find_due(&notes);
    }

    fn find_due(&self, notes: &Notes) {
        let entries = self.entries.pin();
        let expiries = entries.values().map(|e| e.expires.load(Relaxed));
        let first = expiries.chain(notes.asked.values().copied()).min();
        self.due.store(first.unwrap_or(Stamp::MAX), Relaxed);
    }

    fn n_unasked(&self) -> usize {
        self.n_unasked.load(Relaxed)
    }

    /// Every neighbour, in no order.
    pub fn all(&self) -> Vec<Neighbour> {
        let entries = self.entries.pin();
        let all = entries.iter().map(|((bridge, ip), e)| Neighbour {
            bridge: *bridge,
            ip: *ip,
            mac: unpack(e.mac.load(Relaxed)),
            expires: e.expires.load(Relaxed),
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BR0: Bridge = Bridge([0; 16]);
    const LATER: Stamp = 900;
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn ip(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn being_used_keeps_an_entry() {
        let c = Cache::default();
        let key = (BR0, ip(1));
        assert!(c.set(key, MAC, LATER, None));
        assert!(!c.set(key, MAC, LATER, None));
        assert_eq!(c.get(&key, 10, LATER + 10, true), Some(MAC));
        assert!(!c.expire(LATER));
        assert_eq!(c.due(), Some(LATER + 10));
        let moved = MacAddr([2, 0, 0, 0, 0, 2]);
        assert!(c.set(key, moved, LATER + 10, None));
        assert_eq!(c.get(&key, LATER + 9, LATER + 10, false), Some(moved));
        assert_eq!(c.get(&key, LATER + 10, LATER + 20, false), None);
        assert!(c.expire(LATER + 10));
        assert_eq!((c.all().len(), c.due()), (0, None));
    }

    #[test]
    fn a_flood_of_announcements_keeps_no_real_peer_out() {
        let c = Cache::default();
        let known = |ip| c.entries.pin().contains_key(&(BR0, ip));
        let (used, quiet, peer) = (ip(0xff_0001), ip(0xff_0002), ip(0xff_0003));
        // One that nobody asked for and a tunnel uses, and one announced by a port that says little.
        assert!(c.set((BR0, used), MAC, LATER, Some(1)));
        assert!(c.get(&(BR0, used), 0, LATER, true).is_some());
        assert!(c.set((BR0, quiet), MAC, LATER, Some(2)));
        for n in 0..70_000 {
            c.set((BR0, ip(n)), MAC, LATER, Some(1));
        }
        assert_eq!(c.n_unasked(), MAX_UNASKED);
        assert_eq!(c.all().len(), MAX_UNASKED + 1);
        // A tunnel asks, and the peer answers through the flooded port.
        assert!(c.ask((BR0, peer), 0, 1));
        assert!(c.set((BR0, peer), MAC, LATER, Some(1)));
        for n in 70_000..140_000 {
            c.set((BR0, ip(n)), MAC, LATER, Some(1));
        }
        for kept in [used, quiet, peer, ip(139_999)] {
            assert!(known(kept), "{kept}");
        }
        assert!(!known(ip(70_000)));
        let queued: usize = c.notes().unasked.values().map(VecDeque::len).sum();
        assert!(queued <= MAX_UNASKED + 1, "{queued}");
        assert!(c.expire(LATER));
        let left = (c.all().len(), c.n_unasked(), c.notes().unasked.len());
        assert_eq!((left, c.due()), ((0, 0, 0), None));
    }

    #[test]
    fn an_answer_is_waited_for_once_and_given_up_in_time() {
        let c = Cache::default();
        let (a, b) = ((BR0, ip(1)), (BR0, ip(2)));
        assert!(c.ask(a, 0, 100) && !c.ask(a, 99, 199));
        assert!(c.ask(b, 50, 150));
        assert_eq!((c.due(), c.asked(60).len()), (Some(100), 2));
        assert!(c.expire(100));
        assert_eq!((c.due(), c.asked(100)), (Some(150), vec![b]));
        c.shift_asked(100, 110);
        assert_eq!((c.due(), c.asked(155)), (Some(160), vec![b]));
        // What comes is no longer waited for.
        assert!(c.set(b, MAC, LATER, Some(1)));
        assert_eq!((c.asked(120), c.n_unasked()), (vec![], 0));
        assert!(!c.expire(120));
        assert!(c.ask(a, 120, 220));
        c.clear();
        assert_eq!((c.asked(120), c.due()), (vec![], None));
    }

    #[test]
    fn what_leaves_while_it_is_wanted_is_counted_out_once() {
        for _ in 0..50 {
            let c = Cache::default();
            for n in 0..64 {
                c.set((BR0, ip(n)), MAC, LATER, Some(1));
            }
            std::thread::scope(|s| {
                let want = || (0..64).for_each(|n| _ = c.get(&(BR0, ip(n)), 0, LATER, true));
                s.spawn(want);
                s.spawn(want);
                s.spawn(|| c.expire(LATER));
            });
            assert_eq!((c.all().len(), c.n_unasked()), (0, 0));
        }
    }
}
