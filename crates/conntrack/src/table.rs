//! Where connections are: shards, each with a lock of its own, a slab and an index.
//!
//! A connection lives in the shard that the hash of its original tuple says. The hash is the same for both directions,
//! so one entry of the index serves both, unless addresses are translated: then the tuple of replies has an entry of
//! its own, an alias, which lives in the shard that *its* hash says and names the place of the connection.
//!
//! ```text
//!   hash(packet) --> shard --> index --> slot of slab: Conn
//!                                  \---> alias { tuple, place } --> other shard's slot
//! ```
//!
//! No thread holds the locks of two shards. So an alias may name a place whose connection is gone: whoever follows one
//! compares the tuple with what is there.
//!
//! A batch of packets takes three walks: [`Table::fetch_index`] for each, which holds nothing, then [`Shard::likely`]
//! and [`Shard::fetch`], then the search proper, which finds all of it near the processor.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use ferrovs_sys::prefetch;
use ferrovs_sys::spin::{Spin, SpinGuard};

use crate::conn::{Conn, flag};
use crate::index::{self, Index, Whereabouts};
use crate::tuple::Tuple;

/// Number of shards, a power of two.
pub const SHARDS: usize = 256;
/// Connections that are allocated together.
const CHUNK: usize = 64;
/// In numbers of an index: an alias.
const ALIAS: u32 = 1 << 31;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: u16,
    pub slot: u32,
}

#[derive(Clone, Copy)]
struct Alias {
    tuple: Tuple,
    place: Place,
}

/// What a tuple leads to in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The connection, and whether the tuple is that of replies.
    Here(u32, bool),
    /// Perhaps a connection in another shard, or in this one, to which the tuple is that of replies.
    There(Place),
}

/// Places of one type, in chunks, so that growing moves nothing and wastes little.
#[repr(C)]
struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    #[inline]
    fn get(&self, i: u32) -> Option<&T> {
        self.chunks.get(i as usize / CHUNK)?.get(i as usize % CHUNK)
    }

    #[inline]
    fn get_mut(&mut self, i: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(i as usize / CHUNK)?;
        chunk.get_mut(i as usize % CHUNK)
    }

    /// A free place.
    fn take(&mut self, new: impl Fn() -> T) -> u32 {
        if let Some(i) = self.free.pop() {
            return i;
        }
        let first = (self.chunks.len() * CHUNK) as u32;
        self.chunks.push((0..CHUNK).map(|_| new()).collect());
        self.free.extend((first + 1..first + CHUNK as u32).rev());
        first
    }

    fn give(&mut self, i: u32) {
        self.free.push(i);
    }

    fn len(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }
}

/// See the module's text.
#[derive(Default)]
#[repr(C)]
pub struct Shard {
    index: Index,
    conns: Slab<Conn>,
    aliases: Slab<Alias>,
    serial: u32,
}

/// What the index calls a hash.
#[inline]
fn tag(hash: u64) -> u32 {
    hash as u32
}

impl Shard {
    /// What packets with the tuple belong to.
    pub fn find(&self, hash: u64, t: &Tuple) -> Option<Found> {
        let mut reply = false;
        let at = self.index.find(tag(hash), |at| match self.alias(at) {
            Some(alias) => alias.tuple == *t,
            None => match self.conns.get(at).and_then(|c| c.direction_of(t)) {
                Some(direction) => {
                    reply = direction;
                    true
                }
                None => false,
            },
        })?;
        Some(match self.alias(at) {
            Some(alias) => Found::There(alias.place),
            None => Found::Here(at, reply),
        })
    }

    /// Where the connection of packets with the hash is, if no other has the like. `shard` is this one.
    #[inline]
    pub fn likely(&self, hash: u64, shard: u16) -> Option<Place> {
        let at = self.index.find(tag(hash), |_| true)?;
        Some(match self.alias(at) {
            Some(alias) => alias.place,
            None => Place { shard, slot: at },
        })
    }

    /// Has a connection fetched that will be asked for soon; all of it, or what each packet needs.
    #[inline]
    pub fn fetch(&self, slot: u32, all: bool) {
        if let Some(conn) = self.conns.get(slot) {
            prefetch::read(conn);
            if all {
                prefetch::at(std::ptr::from_ref(conn).addr() + size_of::<Conn>() / 2);
            }
        }
    }

    /// The same of the place that a connection to come will get, if there is one already.
    #[inline]
    pub fn fetch_free(&self) {
        if let Some(slot) = self.conns.free.last() {
            self.fetch(*slot, true);
        }
    }

    #[inline]
    fn alias(&self, at: u32) -> Option<&Alias> {
        match at & ALIAS {
            0 => None,
            _ => self.aliases.get(at & !ALIAS),
        }
    }

    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Conn> {
        self.conns.get(slot)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot)
    }

    /// A place for a connection to come, which nobody finds yet.
    pub fn reserve(&mut self) -> u32 {
        self.conns.take(Conn::default)
    }

    /// Gives a reserved place back.
    pub fn release(&mut self, slot: u32) {
        self.conns.give(slot);
    }

    /// Takes a connection out: its zone, and what alias is left of it.
    fn take(&mut self, slot: u32, key: u64) -> Option<(u16, Option<Tuple>)> {
        let conn = self.conns.get_mut(slot).filter(|c| c.has(flag::USED))?;
        let hash = conn.orig.hash(key);
        let left = conn.has(flag::ALIASED).then(|| conn.reply());
        let zone = conn.orig.zone;
        conn.clear();
        self.index.remove(tag(hash), slot);
        self.conns.give(slot);
        Some((zone, left))
    }

    fn remove_alias(&mut self, hash: u64, tuple: &Tuple, place: Place) {
        let found = self.index.find(tag(hash), |at| {
            self.alias(at)
                .is_some_and(|a| a.tuple == *tuple && a.place == place)
        });
        if let Some(at) = found
            && self.index.remove(tag(hash), at)
        {
            self.aliases.give(at & !ALIAS);
        }
    }

    /// Places that there are, used or not.
    pub fn places(&self) -> u32 {
        self.conns.len()
    }
}

/// A shard, and where its index is. What packets of connections need is in the first cache line.
#[derive(Default)]
#[repr(C, align(64))]
struct Cell {
    index: AtomicUsize,
    shard: Spin<Shard>,
}

/// A shard that is held.
pub struct Held<'a> {
    cell: &'a Cell,
    shard: SpinGuard<'a, Shard>,
}

impl Deref for Held<'_> {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Held<'_> {
    /// Puts a connection into its reserved place, where it is found from now on. Returns its serial number.
    pub fn put(&mut self, slot: u32, hash: u64, mut conn: Conn) -> u32 {
        self.shard.serial = self.shard.serial.wrapping_add(1).max(1);
        conn.serial = self.shard.serial;
        conn.flags |= flag::USED;
        if let Some(place) = self.shard.get_mut(slot) {
            *place = conn;
        }
        self.enter(hash, slot);
        self.shard.serial
    }

    /// Enters the tuple of replies of a connection at `place`, which nobody has.
    pub fn enter_alias(&mut self, hash: u64, tuple: &Tuple, place: Place) {
        let alias = Alias {
            tuple: *tuple,
            place,
        };
        let i = self.shard.aliases.take(|| alias);
        if let Some(a) = self.shard.aliases.get_mut(i) {
            *a = alias;
        }
        self.enter(hash, i | ALIAS);
    }

    fn enter(&mut self, hash: u64, at: u32) {
        if self.shard.index.insert(tag(hash), at) {
            let Whereabouts(there) = self.shard.index.whereabouts();
            self.cell.index.store(there, Relaxed);
        }
    }
}

/// All shards, and how many connections they hold.
pub struct Table {
    key: u64,
    shards: Box<[Cell]>,
    count: AtomicU32,
    /// By zone.
    zones: Box<[AtomicU32]>,
}

impl Table {
    /// With the key of its hashes.
    pub fn new(key: u64) -> Table {
        Table {
            key,
            shards: (0..SHARDS).map(|_| Cell::default()).collect(),
            count: AtomicU32::new(0),
            zones: (0..=u16::MAX).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    #[inline]
    pub fn hash(&self, t: &Tuple) -> u64 {
        t.hash(self.key)
    }

    #[inline]
    pub fn shard_of(hash: u64) -> u16 {
        (hash >> 40) as u16 % SHARDS as u16
    }

    #[inline]
    fn cell(&self, shard: u16) -> &Cell {
        &self.shards[usize::from(shard) % SHARDS]
    }

    #[inline]
    pub fn lock(&self, shard: u16) -> Held<'_> {
        let cell = self.cell(shard);
        Held {
            cell,
            shard: cell.shard.lock(),
        }
    }

    /// Has that of an index fetched which will be looked at for a hash.
    #[inline]
    pub fn fetch_index(&self, hash: u64) {
        let cell = self.cell(Self::shard_of(hash));
        // What has moved meanwhile is fetched in vain, no more.
        index::fetch(Whereabouts(cell.index.load(Relaxed)), tag(hash));
    }

    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    pub fn count_in(&self, zone: u16) -> u32 {
        self.zones[usize::from(zone)].load(Relaxed)
    }

    /// Counts a connection that is to come, unless there are `max` already.
    pub fn count_one(&self, zone: u16, max: u32) -> bool {
        let more = |n| (n < max).then_some(n + 1);
        let counted = self.count.fetch_update(Relaxed, Relaxed, more).is_ok();
        if counted {
            self.zones[usize::from(zone)].fetch_add(1, Relaxed);
        }
        counted
    }

    /// Takes back what [`Table::count_one`] counted.
    pub fn uncount_one(&self, zone: u16) {
        self.count.fetch_sub(1, Relaxed);
        self.zones[usize::from(zone)].fetch_sub(1, Relaxed);
    }

    pub fn unalias(&self, tuple: &Tuple, place: Place) {
        let hash = self.hash(tuple);
        let mut shard = self.lock(Self::shard_of(hash));
        shard.remove_alias(hash, tuple, place);
    }

    /// Takes a connection out of a shard that the caller holds. What is given back is to be handed to
    /// [`Table::forget`] when the shard is no longer held.
    #[must_use]
    pub fn take(&self, shard: &mut Shard, place: Place) -> Option<Gone> {
        let (zone, reply) = shard.take(place.slot, self.key)?;
        self.uncount_one(zone);
        Some(Gone { reply, place })
    }

    /// Forgets what is left of a connection that was taken out.
    pub fn forget(&self, gone: Option<Gone>) {
        if let Some(Gone {
            reply: Some(reply),
            place,
        }) = gone
        {
            self.unalias(&reply, place);
        }
    }

    /// Takes connections out of one shard that `which` says, among `n` places from `first` on; [`MOST`] at most, so
    /// that nobody waits long for the shard.
    pub fn sweep(
        &self,
        shard: u16,
        first: u32,
        n: u32,
        which: &mut dyn FnMut(&Conn) -> bool,
    ) -> Swept {
        let mut gone: ArrayVec<Gone, MOST> = ArrayVec::new();
        let mut held = self.lock(shard);
        let places = held.places();
        let end = first.saturating_add(n).min(places);
        let (mut taken, mut slot) = (0, first);
        while slot < end && taken < MOST {
            let conn = held.get(slot).filter(|c| c.has(flag::USED));
            if conn.is_some_and(&mut *which) {
                let one = self.take(&mut held, Place { shard, slot });
                taken += 1;
                gone.extend(one.filter(|g| g.reply.is_some()));
            }
            slot += 1;
        }
        drop(held);
        gone.into_iter().for_each(|one| self.forget(Some(one)));
        Swept {
            taken,
            next: (slot < places).then_some(slot),
        }
    }
}

/// Connections that a sweep takes out at most before it lets go of the shard.
const MOST: usize = 32;

/// What a sweep did: how many it took out, and from where to go on, if there is more of the shard.
pub struct Swept {
    pub taken: usize,
    pub next: Option<u32>,
}

/// What is left of a connection that was taken out.
pub struct Gone {
    reply: Option<Tuple>,
    place: Place,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::addr4;

    fn tuple(a: u8, port: u16) -> Tuple {
        Tuple {
            src: addr4(&[10, 0, 0, a]),
            dst: addr4(&[10, 0, 0, 2]),
            src_l4: port.into(),
            dst_l4: 80,
            zone: 1,
            proto: 17,
            ipv6: false,
        }
    }

    fn add(table: &Table, orig: Tuple, reply: Tuple) -> Place {
        let hash = table.hash(&orig);
        let shard = Table::shard_of(hash);
        assert!(table.count_one(orig.zone, 1000));
        let slot = table.lock(shard).reserve();
        let place = Place { shard, slot };
        let mut conn = Conn::default();
        conn.orig = orig;
        if reply != orig.reversed() {
            conn.set_reply(&reply, flag::SRC_NAT | flag::ALIASED);
            let hash = table.hash(&reply);
            let mut held = table.lock(Table::shard_of(hash));
            held.enter_alias(hash, &reply, place);
        }
        table.lock(shard).put(slot, hash, conn);
        place
    }

    fn find(table: &Table, t: &Tuple) -> Option<(Place, bool)> {
        let hash = table.hash(t);
        let shard = Table::shard_of(hash);
        match table.lock(shard).find(hash, t)? {
            Found::Here(slot, reply) => Some((Place { shard, slot }, reply)),
            Found::There(place) => Some((place, true)),
        }
    }

    #[test]
    fn connections_are_found_from_both_sides_until_they_are_taken_out() {
        let table = Table::new(3);
        let plain = tuple(1, 5);
        let translated = tuple(3, 5);
        let answer = tuple(9, 700).reversed();
        let a = add(&table, plain, plain.reversed());
        let b = add(&table, translated, answer);
        assert_eq!(find(&table, &plain), Some((a, false)));
        assert_eq!(find(&table, &plain.reversed()), Some((a, true)));
        assert_eq!(find(&table, &translated), Some((b, false)));
        assert_eq!(find(&table, &answer), Some((b, true)));
        // What was translated does not come back as it went.
        assert_eq!(find(&table, &translated.reversed()), None);
        let mut guard = table.lock(b.shard);
        let gone = table.take(&mut guard, b);
        drop(guard);
        table.forget(gone);
        assert_eq!(
            (find(&table, &answer), find(&table, &translated)),
            (None, None)
        );
        assert_eq!((table.count(), table.count_in(1)), (1, 1));
    }

    #[test]
    fn sweeps_see_each_place_once() {
        let table = Table::new(3);
        for port in 0..500 {
            let t = tuple(1, port);
            add(&table, t, t.reversed());
        }
        let mut seen = 0;
        for shard in 0..SHARDS as u16 {
            let mut next = Some(0);
            while let Some(first) = next {
                let odd = &mut |c: &Conn| {
                    seen += 1;
                    c.orig.src_l4 % 2 == 1
                };
                next = table.sweep(shard, first, 3, odd).next;
            }
        }
        assert_eq!((seen, table.count()), (500, 250));
        // Their places are used again.
        let places = |t: &Table| (0..SHARDS as u16).map(|s| t.lock(s).places()).sum::<u32>();
        let before = places(&table);
        for port in (0..500).filter(|p| p % 2 == 1) {
            let t = tuple(1, port);
            add(&table, t, t.reversed());
        }
        assert_eq!(places(&table), before);
    }
}
