//! What happens to a packet in the tracker.
//!
//! ```text
//!   packet --key--> shard --find--> connection --update--> state, mark, labels in the packet --> translation
//!              \                       \ expired, over, or to be forced: taken out
//!               \ none: invalid         --> none: new; with `commit` it is entered
//! ```
//!
//! A batch is walked three times: all keys are read and the index is fetched, what it says is fetched, and then packet
//! by packet is handled, in order. As long as packets belong to one shard its lock is kept. Nothing is allocated for a
//! packet of a connection that is there.

use ferrovs_datapath::action::{Ct, NatKind};
use ferrovs_packet::buffer::{BATCH, Batch, Checksum, CtConn, Packet};
use ferrovs_packet::edit;
use ferrovs_packet::flow::{
    CS_DST_NAT, CS_ESTABLISHED, CS_INVALID, CS_NEW, CS_RELATED, CS_REPLY_DIR, CS_SRC_NAT,
    CS_TRACKED,
};
use ferrovs_packet::types::ip_proto;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::CONNTRACK;
use ferrovs_runtime::{coverage, vlog};

use crate::Tracker;
use crate::alg::Helper;
use crate::conn::{Conn, State, flag};
use crate::control::Watched;
use crate::expect::Expected;
use crate::extract::{self, Invalid, Key};
use crate::frag::{self, Added};
use crate::nat;
use crate::rewrite;
use crate::table::{self, Found, Place, Table};
use crate::tcp::Verdict;
use crate::timeouts::{Class, DEFAULT_POLICY};
use crate::tuple::Tuple;

const CS_NAT: u8 = CS_SRC_NAT | CS_DST_NAT;

/// The lock of the shard that was looked at last.
struct Held<'a> {
    table: &'a Table,
    last: Option<(u16, table::Held<'a>)>,
    /// How often one was taken.
    taken: u32,
}

impl<'a> Held<'a> {
    #[inline]
    fn lock(&mut self, shard: u16) -> &mut table::Held<'a> {
        if self.last.as_ref().is_some_and(|(s, _)| *s != shard) {
            // Two are never held.
            self.last = None;
        }
        let (table, taken) = (self.table, &mut self.taken);
        let lock = || {
            *taken += 1;
            (shard, table.lock(shard))
        };
        &mut self.last.get_or_insert_with(lock).1
    }

    fn release(&mut self) {
        self.last = None;
    }
}

/// One batch and what is asked for it.
pub struct Run<'a> {
    tracker: &'a Tracker,
    ct: &'a Ct,
    now_ms: u64,
    checked: bool,
    held: Held<'a>,
    sums: Sums,
    /// Which taking of a lock the last search was under: as long as that lasts nobody else enters what was not found.
    searched: u32,
}

/// A packet of a batch, and what the walks have found of it.
#[derive(Clone, Copy)]
struct Walked {
    key: Key,
    hash: u64,
    what: What,
    /// Where its connection may be.
    place: Option<Place>,
}

impl Walked {
    /// All zero, so that many of them cost little.
    const NONE: Walked = Walked {
        key: Key::NONE,
        hash: 0,
        what: What::Keyed,
        place: None,
    };
}

/// How a packet is to be handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// By its key.
    Keyed,
    /// It was tracked in this zone before.
    Again,
    Invalid,
}

/// Checksums that were looked at, and that were wrong.
#[derive(Clone, Copy, Default)]
struct Sums {
    network: u64,
    network_wrong: u64,
    transport: u64,
    transport_wrong: u64,
}

/// What is left to do with a packet of a connection.
enum Next {
    Done,
    /// The connection is over.
    Renew,
    /// A helper wants to see the packet.
    Watch(Box<Watched>),
}

impl<'a> Run<'a> {
    pub fn new(tracker: &'a Tracker, ct: &'a Ct, now_ms: u64) -> Run<'a> {
        Run {
            tracker,
            ct,
            now_ms,
            checked: tracker.checks_sequence(),
            held: Held {
                table: &tracker.table,
                last: None,
                taken: 0,
            },
            sums: Sums::default(),
            searched: 0,
        }
    }

    /// Tracks all packets of a batch; see [`Tracker::execute`].
    pub fn batch(&mut self, batch: &mut Batch) -> Vec<Packet> {
        let rest = match self.walk(batch) {
            true => Vec::new(),
            false => self.fragments(batch),
        };
        self.sums.count();
        rest
    }

    /// Tracks packets, as many as a batch has at most; false, with nothing done, if a fragment is among them.
    fn walk(&mut self, packets: &mut [Packet]) -> bool {
        let mut walked = [Walked::NONE; BATCH];
        let before = self.sums;
        for (packet, walked) in packets.iter().zip(&mut walked) {
            if !self.read(packet, walked) {
                self.sums = before;
                return false;
            }
        }
        for walked in &mut walked[..packets.len().min(BATCH)] {
            self.fetch(walked);
        }
        for (packet, walked) in packets.iter_mut().zip(&walked) {
            self.handle(packet, walked);
        }
        true
    }

    /// Tracks a batch that has fragments in it.
    #[cold]
    fn fragments(&mut self, batch: &mut Batch) -> Vec<Packet> {
        let mut out = Vec::new();
        for mut packet in batch.drain(..) {
            if !frag::is_fragment(&packet) {
                self.packet(&mut packet);
                out.push(packet);
                continue;
            }
            self.held.release();
            match self.tracker.frags.add(packet, self.ct.zone, self.now_ms) {
                Added::Waits => {}
                Added::Refused(mut packet) => {
                    self.describe(&mut packet, CS_INVALID, None, None);
                    out.push(packet);
                }
                Added::Complete(mut all) => {
                    self.packet(&mut all.whole);
                    out.extend(all.finish());
                }
            }
        }
        let rest = out.split_off(out.len().min(BATCH));
        batch.extend(out);
        rest
    }

    /// Tracks a packet that comes alone.
    fn packet(&mut self, packet: &mut Packet) {
        if !self.walk(std::slice::from_mut(packet)) {
            self.describe(packet, CS_INVALID, None, None);
        }
    }

    /// First walk: what the packet is, and the hash of that. False if it is a fragment.
    #[inline]
    fn read(&mut self, packet: &Packet, walked: &mut Walked) -> bool {
        if self.may_come_again(packet) {
            walked.what = What::Again;
            return !frag::is_fragment(packet);
        }
        walked.key.tuple.zone = self.ct.zone;
        if extract::ordinary(packet, &mut walked.key).is_some() {
            self.sums.hold(packet, &walked.key);
        } else if frag::is_fragment(packet) {
            return false;
        } else {
            let read = extract::any(packet, &mut walked.key);
            self.sums.note(packet, &walked.key, read);
            if read.is_err() {
                walked.what = What::Invalid;
                return true;
            }
        }
        let table = &self.tracker.table;
        walked.hash = table.hash(&walked.key.tuple);
        table.fetch_index(walked.hash);
        true
    }

    /// Second walk: where the connection may be.
    #[inline]
    fn fetch(&mut self, walked: &mut Walked) {
        if walked.what != What::Keyed {
            return;
        }
        let shard = Table::shard_of(walked.hash);
        let held = self.held.lock(shard);
        walked.place = held.likely(walked.hash, shard);
        match walked.place {
            Some(place) => {
                let all = walked.key.tuple.proto == ip_proto::TCP || self.ct.nat.is_some();
                self.held.lock(place.shard).fetch(place.slot, all);
            }
            None if self.ct.commit => held.fetch_free(),
            None => {}
        }
    }

    /// Third walk.
    #[inline]
    fn handle(&mut self, packet: &mut Packet, walked: &Walked) {
        match walked.what {
            What::Keyed if self.known(packet, walked) => {}
            What::Keyed => self.keyed(packet, &walked.key, walked.hash),
            What::Invalid => self.describe(packet, CS_INVALID, None, None),
            What::Again if self.again(packet) => {}
            // The connection has gone.
            What::Again => {
                packet.md.ct_conn = CtConn::default();
                self.packet(packet);
            }
        }
    }

    /// Whether the packet has been tracked in this zone.
    #[inline]
    fn is_of_zone(&self, packet: &Packet) -> bool {
        packet.md.ct_state & CS_TRACKED != 0 && packet.md.ct_zone == self.ct.zone
    }

    /// Whether it was found to be of a connection there.
    #[inline]
    fn may_come_again(&self, packet: &Packet) -> bool {
        self.is_of_zone(packet) && packet.md.ct_conn.is_some() && !self.ct.force
    }

    /// Tracks a packet whose connection is where it was thought to be; false, with nothing done, if it is not so.
    #[inline]
    fn known(&mut self, packet: &mut Packet, walked: &Walked) -> bool {
        let Walked { key, hash, .. } = walked;
        walked
            .place
            .is_some_and(|place| self.belongs(packet, key, *hash, place, None))
    }

    /// Tracks a packet of the connection at a place, a `reply` or not, which its tuple says unless it is known. False,
    /// with nothing done, where no connection is that goes on with it.
    fn belongs(
        &mut self,
        packet: &mut Packet,
        key: &Key,
        hash: u64,
        place: Place,
        reply: Option<bool>,
    ) -> bool {
        let done = self.translated(packet);
        let (tracker, ct) = (self.tracker, self.ct);
        let (now_ms, checked) = (self.now_ms, self.checked);
        let conn = self.held.lock(place.shard).get_mut(place.slot);
        let Some(conn) = conn.filter(|c| !c.has_expired(now_ms)) else {
            return false;
        };
        let Some(reply) = reply.or_else(|| conn.direction_of(&key.tuple)) else {
            return false;
        };
        if ct.force && reply {
            return false;
        }
        let hit = Hit {
            tracker,
            ct,
            now_ms,
            checked,
            place,
            reply,
            done,
        };
        match hit.update(conn, packet, key) {
            Next::Done => {}
            Next::Watch(watched) => {
                self.held.release();
                tracker.watch(packet, &watched, ct);
            }
            Next::Renew => {
                self.remove(place);
                self.begin(packet, key, hash);
            }
        }
        true
    }

    /// What a packet has been translated for this zone: it is not translated for it again.
    #[inline]
    fn translated(&self, packet: &Packet) -> u8 {
        match self.is_of_zone(packet) {
            true => packet.md.ct_state & CS_NAT,
            false => 0,
        }
    }

    /// Tracks a packet whose connection has yet to be found, if there is one.
    fn keyed(&mut self, packet: &mut Packet, key: &Key, hash: u64) {
        let before = packet.md.ct_state;
        let done = self.translated(packet);
        let mut found = self.find(hash, &key.tuple);
        if found.is_none() && done != 0 && self.ct.nat.is_none() {
            found = self.find_original(packet, before);
        }
        if let Some((place, reply)) = found {
            if self.belongs(packet, key, hash, place, Some(reply)) {
                return;
            }
            self.remove(place);
        }
        self.begin(packet, key, hash);
    }

    /// The connection that packets with the tuple belong to, and whether they are replies.
    #[inline]
    fn find(&mut self, hash: u64, tuple: &Tuple) -> Option<(Place, bool)> {
        let shard = Table::shard_of(hash);
        let found = self.held.lock(shard).find(hash, tuple);
        self.searched = self.held.taken;
        match found? {
            Found::Here(slot, reply) => Some((Place { shard, slot }, reply)),
            Found::There(place) => {
                let conn = self.held.lock(place.shard).get(place.slot);
                let is_reply = conn.and_then(|c| c.direction_of(tuple)) == Some(true);
                is_reply.then_some((place, true))
            }
        }
    }

    /// The connection of a packet that was translated before, by what the packet shows of it.
    #[cold]
    fn find_original(&mut self, packet: &Packet, before: u8) -> Option<(Place, bool)> {
        let tuple = Tuple::of_flow(&packet.md.ct_orig, packet.md.ct_zone)?;
        let (place, _) = self.find(self.tracker.table.hash(&tuple), &tuple)?;
        Some((place, before & CS_REPLY_DIR != 0))
    }

    /// A packet that was tracked in this zone comes again: it counts once.
    fn again(&mut self, packet: &mut Packet) -> bool {
        let known = packet.md.ct_conn;
        let place = Place {
            shard: known.shard,
            slot: known.slot,
        };
        let ct = self.ct;
        let conn = self.held.lock(place.shard).get_mut(place.slot);
        let Some(conn) = conn.filter(|c| c.serial == known.serial && c.has(flag::USED)) else {
            return false;
        };
        let mut state = packet.md.ct_state;
        if ct.nat.is_some() && conn.has(flag::NAT) && state & CS_NAT == 0 {
            let reply = state & CS_REPLY_DIR != 0;
            let related = known.related;
            state |= translate(packet, conn, reply, related);
        }
        describe_conn(packet, conn, ct, state);
        true
    }

    /// Takes a connection out of the table.
    #[cold]
    fn remove(&mut self, place: Place) {
        let shard = self.held.lock(place.shard);
        let gone = self.tracker.take(shard, place);
        self.held.release();
        self.tracker.table.forget(gone);
    }

    /// Writes into a packet what is known without a connection.
    fn describe(
        &self,
        packet: &mut Packet,
        state: u8,
        orig: Option<&Tuple>,
        expected: Option<&Expected>,
    ) {
        let md = &mut packet.md;
        md.ct_state = state | CS_TRACKED;
        md.ct_zone = self.ct.zone;
        (md.ct_mark, md.ct_label) = (0, [0; 16]);
        let shown = expected.map(|e| &e.parent).or(orig);
        md.ct_orig = shown.map(|t| t.to_flow()).unwrap_or_default();
        md.ct_conn = CtConn::default();
    }

    /// A packet that belongs to no connection.
    fn begin(&mut self, packet: &mut Packet, key: &Key, hash: u64) {
        let began = match key.related {
            // There is nothing that it could be about.
            true => None,
            false => State::begin(key),
        };
        let Some((state, class)) = began else {
            return self.describe(packet, CS_INVALID, None, None);
        };
        let expected = self.tracker.expectations.find(&key.tuple);
        let expected = expected.filter(|e| self.is_alive(e.place, e.serial));
        let seen = match expected {
            Some(_) => CS_NEW | CS_RELATED,
            None => CS_NEW,
        };
        let conn = self.ct.commit.then(|| {
            let policy = self.policy();
            let helper = self.ct.helper.as_deref();
            let mut conn = Conn::new(key, state);
            conn.expires = self.now_ms + self.tracker.policies.time_ms(policy, class);
            conn.set_policy(policy);
            conn.helper = helper.map_or(Helper::None, Helper::named);
            conn
        });
        let entered = conn.is_some_and(|conn| {
            let conn = match expected {
                Some(e) => announced(conn, &e),
                None => conn,
            };
            self.enter(packet, conn, hash, expected.as_ref(), seen)
        });
        if !entered {
            self.describe(packet, seen, Some(&key.tuple), expected.as_ref());
        }
    }

    /// Whether the connection that was at a place is there still.
    #[cold]
    fn is_alive(&mut self, place: Place, serial: u32) -> bool {
        let now_ms = self.now_ms;
        let conn = self.held.lock(place.shard).get(place.slot);
        conn.is_some_and(|c| c.has(flag::USED) && c.serial == serial && !c.has_expired(now_ms))
    }

    fn policy(&self) -> u32 {
        let name = self.ct.timeout.as_deref();
        name.and_then(|n| n.parse().ok()).unwrap_or(DEFAULT_POLICY)
    }

    /// Enters a new connection, whose first packet it is; false if there is no room for it.
    fn enter(
        &mut self,
        packet: &mut Packet,
        mut conn: Conn,
        hash: u64,
        expected: Option<&Expected>,
        state: u8,
    ) -> bool {
        let tracker = self.tracker;
        let zone = conn.orig.zone;
        let limit = tracker.limits.of(zone);
        if limit != 0 && tracker.table.count_in(zone) >= limit {
            coverage::CONNTRACK_ZONE_FULL.inc();
            return false;
        }
        if !tracker.table.count_one(zone, tracker.limits.max()) {
            coverage::CONNTRACK_FULL.inc();
            return false;
        }
        let shard = Table::shard_of(hash);
        let slot = self.held.lock(shard).reserve();
        let place = Place { shard, slot };
        if !self.choose_reply(&mut conn, place, expected) {
            self.held.lock(shard).release(slot);
            // Nobody is to wait while it is written.
            self.held.release();
            tracker.table.uncount_one(zone);
            static RL: RateLimit = RateLimit::new(60, 5);
            vlog::warn_rl!(
                RL,
                CONNTRACK,
                "Unable to NAT due to tuple space exhaustion - if DoS attack, use firewalling and/or zone partitioning."
            );
            return false;
        }
        let alone = self.held.taken == self.searched;
        let shard = self.held.lock(shard);
        if !alone && shard.find(hash, &conn.orig).is_some() {
            // Another thread was faster; what it entered holds for the packets to come.
            shard.release(slot);
            self.held.release();
            tracker.table.uncount_one(zone);
            if conn.has(flag::ALIASED) {
                tracker.table.unalias(&conn.reply(), place);
            }
            return false;
        }
        let serial = shard.put(slot, hash, conn);
        let mut watched = None;
        if let Some(conn) = shard.get_mut(slot) {
            watched = (conn.helper != Helper::None)
                .then(|| Watched::new(conn, place, serial, false))
                .filter(|w| w.wants(packet));
            let state = match conn.has(flag::NAT) {
                true => state | translate(packet, conn, false, false),
                false => state,
            };
            describe_conn(packet, conn, self.ct, state);
            packet.md.ct_conn = CtConn::new(place.shard, place.slot, serial, false);
        }
        if let Some(watched) = watched {
            self.held.release();
            tracker.watch(packet, &watched, self.ct);
        }
        true
    }

    /// Decides the tuple of a connection's replies and, where it is not that of the connection reversed, enters it.
    fn choose_reply(&mut self, conn: &mut Conn, place: Place, expected: Option<&Expected>) -> bool {
        let Some(nat) = &self.ct.nat else {
            return true;
        };
        let plain = conn.orig.reversed();
        let (tracker, now_ms) = (self.tracker, self.now_ms);
        let mut aliased = false;
        let mut free = |t: &Tuple| {
            let other = *t != plain;
            let claimed = tracker.claim(t, other.then_some(place), now_ms);
            aliased = claimed && other;
            claimed
        };
        if let Some(e) = expected {
            // As the connection that announced it is translated, so is this one.
            let (src, dst, port) = e.reply;
            let mut reply = Tuple {
                src,
                dst,
                src_l4: port.into(),
                ..plain
            };
            if reply == plain {
                // It is said to be translated all the same: what might have been is its client's address.
                let flags = match conn.orig.dst == e.parent.dst {
                    true => flag::SRC_NAT,
                    false => flag::DST_NAT,
                };
                conn.set_reply(&plain, flags);
                return true;
            }
            let mut flags = 0;
            flags |= if dst != plain.dst { flag::SRC_NAT } else { 0 };
            let moved = src != plain.src || reply.src_l4 != plain.src_l4;
            flags |= if moved { flag::DST_NAT } else { 0 };
            self.held.release();
            let found = nat::next_port(&mut reply, &mut || self.tracker.random(), &mut free);
            set_reply(conn, &reply, flags, aliased);
            return found;
        }
        let flags = match nat.kind {
            NatKind::Existing => return true,
            NatKind::Src => flag::SRC_NAT,
            NatKind::Dst => flag::DST_NAT,
        };
        self.held.release();
        let random = &mut || self.tracker.random();
        let chosen = nat::choose(&conn.orig, nat, self.tracker.key, random, &mut free);
        let Some(reply) = chosen else { return false };
        set_reply(conn, &reply, flags, aliased);
        true
    }
}

fn set_reply(conn: &mut Conn, reply: &Tuple, flags: u8, aliased: bool) {
    let aliased = if aliased { flag::ALIASED } else { 0 };
    conn.set_reply(reply, flags | aliased);
}

/// A connection that was announced takes over from the one that did.
fn announced(mut conn: Conn, e: &Expected) -> Conn {
    conn.extra_mut().parent = Some(e.parent);
    conn.flags |= flag::RELATED;
    conn.mark = e.mark;
    conn.set_labels(&e.labels, &[0xff; 16]);
    conn
}

impl Sums {
    /// Notes what was looked at in a packet with such a key.
    fn note(&mut self, packet: &Packet, key: &Key, read: Result<(), Invalid>) {
        match read {
            Ok(()) => self.hold(packet, key),
            Err(Invalid::NetworkChecksum) => {
                self.network += 1;
                self.network_wrong += 1;
            }
            Err(Invalid::TransportChecksum) => {
                self.network += u64::from(edit::ipv4(packet).is_some());
                self.transport += 1;
                self.transport_wrong += 1;
            }
            Err(_) => {}
        }
    }

    /// Notes that what was looked at holds.
    #[inline]
    fn hold(&mut self, packet: &Packet, key: &Key) {
        self.network += u64::from(!key.tuple.ipv6);
        self.transport += u64::from(packet.offload.checksum == Checksum::Unknown);
    }

    /// Tells the counters.
    fn count(&self) {
        for (event, n) in [
            (&coverage::CONNTRACK_L3CSUM_CHECKED, self.network),
            (&coverage::CONNTRACK_L3CSUM_ERR, self.network_wrong),
            (&coverage::CONNTRACK_L4CSUM_CHECKED, self.transport),
            (&coverage::CONNTRACK_L4CSUM_ERR, self.transport_wrong),
        ] {
            if n > 0 {
                event.add(n);
            }
        }
    }
}

/// Translates a packet as its connection says; returns the bits of its state that tell so.
fn translate(packet: &mut Packet, conn: &Conn, reply: bool, related: bool) -> u8 {
    let (from, to) = match reply {
        false => (conn.orig, conn.reply().reversed()),
        true => (conn.reply(), conn.orig.reversed()),
    };
    match related {
        false => rewrite::translate(packet, &from, &to),
        true => rewrite::translate_error(packet, &from, &to),
    }
    // What is the source one way is the destination the other way.
    let (src, dst) = match reply {
        false => (flag::SRC_NAT, flag::DST_NAT),
        true => (flag::DST_NAT, flag::SRC_NAT),
    };
    let bit = |flag, state| if conn.has(flag) { state } else { 0 };
    bit(src, CS_SRC_NAT) | bit(dst, CS_DST_NAT)
}

/// Writes into a packet what is known of its connection, and into the connection what the action says.
fn describe_conn(packet: &mut Packet, conn: &mut Conn, ct: &Ct, state: u8) {
    if let Some(m) = ct.mark {
        conn.mark = m.value & m.mask | conn.mark & !m.mask;
    }
    if let Some(m) = &ct.labels {
        conn.set_labels(&m.value, &m.mask);
    }
    let md = &mut packet.md;
    md.ct_state = state | CS_TRACKED;
    md.ct_zone = ct.zone;
    (md.ct_mark, md.ct_label) = (conn.mark, conn.labels());
    md.ct_orig = conn.shown().to_flow();
}

/// The same where the action says nothing and the connection has nothing but a mark.
#[inline]
fn describe_plain(packet: &mut Packet, conn: &Conn, ct: &Ct, state: u8) {
    let md = &mut packet.md;
    md.ct_state = state | CS_TRACKED;
    md.ct_zone = ct.zone;
    (md.ct_mark, md.ct_label) = (conn.mark, [0; 16]);
    md.ct_orig = conn.orig.to_flow();
}

/// A packet that belongs to a connection.
struct Hit<'a> {
    tracker: &'a Tracker,
    ct: &'a Ct,
    now_ms: u64,
    checked: bool,
    place: Place,
    reply: bool,
    /// Translation that the packet has had.
    done: u8,
}

impl Hit<'_> {
    #[inline]
    fn update(&self, conn: &mut Conn, packet: &mut Packet, key: &Key) -> Next {
        let asks = self.ct.mark.is_some() || self.ct.labels.is_some();
        let plain = conn.flags == flag::USED && conn.helper == Helper::None;
        match plain && !key.related && !asks {
            true => self.follow_plain(conn, packet, key),
            false => self.follow(conn, packet, key),
        }
    }

    /// What most packets need: nothing but the state of the connection changes, and nothing of the packet.
    #[inline]
    fn follow_plain(&self, conn: &mut Conn, packet: &mut Packet, key: &Key) -> Next {
        let (state, class) = match self.verdict(conn, key) {
            Ok(known) => known,
            Err(next) => return next,
        };
        if let Some(class) = class {
            let time = self.tracker.policies.time_ms(DEFAULT_POLICY, class);
            conn.expires = self.now_ms + time;
        }
        describe_plain(packet, conn, self.ct, self.done | state);
        packet.md.ct_conn = match state {
            CS_INVALID => CtConn::default(),
            _ => CtConn::new(self.place.shard, self.place.slot, conn.serial, false),
        };
        Next::Done
    }

    /// What a packet is to the state of its connection, and the class that it is in now if it is to live so long.
    #[inline]
    fn verdict(&self, conn: &mut Conn, key: &Key) -> Result<(u8, Option<Class>), Next> {
        let direction = if self.reply { CS_REPLY_DIR } else { 0 };
        Ok(match conn.update(key, self.reply, self.checked) {
            Verdict::Valid(class) => (CS_ESTABLISHED | direction, Some(class)),
            Verdict::Tolerated => (CS_ESTABLISHED | direction, None),
            Verdict::ValidNew(class) => (CS_NEW, Some(class)),
            Verdict::Invalid => (CS_INVALID, None),
            Verdict::New => return Err(Next::Renew),
        })
    }

    /// What all packets need.
    fn follow(&self, conn: &mut Conn, packet: &mut Packet, key: &Key) -> Next {
        let (ct, reply) = (self.ct, self.reply);
        let mut state = self.done;
        let mut shift = None;
        if key.related {
            state |= CS_RELATED | if reply { CS_REPLY_DIR } else { 0 };
        } else {
            let shifted;
            let mut key = key;
            if let Some(extra) = conn.extra() {
                shift = extra.shift_for(&key.tcp, reply);
                if let Some(s) = shift {
                    // The sender of what was acknowledged counts as it sent.
                    let mut other = *key;
                    other.tcp.ack = s.ack;
                    shifted = other;
                    key = &shifted;
                }
            }
            let (known, class) = match self.verdict(conn, key) {
                Ok(known) => known,
                Err(next) => return next,
            };
            if known == CS_INVALID {
                // Whoever lets it pass has it translated as the others are.
                state |= CS_INVALID | self.translate(packet, conn, false);
                describe_conn(packet, conn, ct, state);
                packet.md.ct_conn = CtConn::default();
                return Next::Done;
            }
            state |= known;
            if conn.has(flag::RELATED) {
                state |= CS_RELATED;
            }
            if let Some(class) = class {
                conn.expires = self.now_ms + self.tracker.policies.time_ms(conn.policy(), class);
            }
        }
        let watched = (conn.helper != Helper::None && !key.related)
            .then(|| Watched::new(conn, self.place, conn.serial, reply))
            .filter(|w| w.wants(packet));
        if let Some(shift) = shift {
            shift.apply(packet);
        }
        state |= self.translate(packet, conn, key.related);
        describe_conn(packet, conn, ct, state);
        let Place { shard, slot } = self.place;
        packet.md.ct_conn = CtConn::new(shard, slot, conn.serial, key.related);
        match watched {
            Some(watched) => Next::Watch(Box::new(watched)),
            None => Next::Done,
        }
    }

    /// Translates the packet if that is asked for and has not been done; returns what its state has of it.
    fn translate(&self, packet: &mut Packet, conn: &Conn, related: bool) -> u8 {
        match self.ct.nat.is_some() && conn.has(flag::NAT) && self.done == 0 {
            true => translate(packet, conn, self.reply, related),
            false => 0,
        }
    }
}
