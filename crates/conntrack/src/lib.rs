//! Connection tracking for datapaths that have none of their own: zones, states, marks and labels, address translation,
//! helpers for FTP and TFTP, limits, timeouts and fragments, as Open vSwitch's userspace datapath has them.
//!
//! [`Tracker::execute`] handles a batch of packets for one `ct` action; any thread may call it. It opens nothing and
//! reads no clock: the time comes with the packets.
//!
//! ```text
//!   fragments --> extract --> table: shards of connections --> tcp, others: states --> nat, rewrite
//!                               \ swept for what has expired      \ alg, control, expect: what is announced
//! ```
//!
//! Memory is bounded: by [`MAX_CONNECTIONS`](limits) in all, by zone where the user says so, by numbers of
//! announcements and of fragments that wait.
#![forbid(unsafe_code)]

mod alg;
mod conn;
mod control;
mod expect;
mod extract;
mod frag;
mod index;
mod limits;
mod manage;
mod nat;
mod rewrite;
mod sweep;
mod table;
mod tcp;
mod timeouts;
mod track;
mod tuple;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ferrovs_datapath::action::Ct;
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::hash::{fold32, mix, seed};

use crate::alg::Helper;
use crate::expect::Expectations;
use crate::frag::Frags;
use crate::limits::Limits;
use crate::sweep::Sweeper;
use crate::table::{Found, Gone, Place, Shard, Table};
use crate::timeouts::Policies;
use crate::track::Run;
use crate::tuple::Tuple;

/// All connections of a datapath.
pub struct Tracker {
    /// What the tracker counts its time from.
    epoch: Instant,
    /// Of hashes that decide places and translations.
    key: u64,
    table: Table,
    limits: Limits,
    limits_protected: AtomicBool,
    policies: Policies,
    expectations: Expectations,
    frags: Frags,
    sweeper: Sweeper,
    checks_sequence: AtomicBool,
    random: AtomicU64,
}

impl Tracker {
    /// Without connections. `now` is any time before that of the first packet.
    pub fn new(now: Instant) -> Tracker {
        let key = mix(seed(), 0x6374);
        Tracker {
            epoch: now,
            key,
            table: Table::new(key),
            limits: Limits::default(),
            limits_protected: AtomicBool::new(false),
            policies: Policies::default(),
            expectations: Expectations::default(),
            frags: Frags::default(),
            sweeper: Sweeper::default(),
            checks_sequence: AtomicBool::new(true),
            random: AtomicU64::new(key),
        }
    }

    /// Tracks the packets of a batch as an action says. Their layer offsets are set. Fragments leave the batch until
    /// all of their packet are there; what then finds no room in it is given back.
    #[must_use]
    pub fn execute(&self, batch: &mut Batch, ct: &Ct, now: Instant) -> Vec<Packet> {
        Run::new(self, ct, self.ms(now)).batch(batch)
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    fn checks_sequence(&self) -> bool {
        self.checks_sequence.load(Relaxed)
    }

    /// Any number: of those who ask no two get the same sequence.
    fn random(&self) -> u32 {
        let n = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        fold32(mix(n, self.key))
    }

    /// Takes a connection out of a shard, which the caller holds, with what it announced.
    #[must_use]
    fn take(&self, shard: &mut Shard, place: Place) -> Option<Gone> {
        let watched = shard.get(place.slot).filter(|c| c.helper != Helper::None);
        if let Some(parent) = watched.map(|c| c.orig) {
            self.expectations.forget(&parent);
        }
        self.table.take(shard, place)
    }

    /// Whether nobody has the tuple, but for a connection that has expired: that one is taken out, and nobody need wait
    /// for the sweep. If so, it is the tuple of replies of the connection at `place` from then on, if that is given. The
    /// caller holds no shard.
    fn claim(&self, t: &Tuple, place: Option<Place>, now_ms: u64) -> bool {
        let hash = self.table.hash(t);
        let shard = Table::shard_of(hash);
        let mut held = self.table.lock(shard);
        let holder = match held.find(hash, t) {
            Some(Found::Here(slot, _)) => Place { shard, slot },
            Some(Found::There(place)) => place,
            None => {
                if let Some(place) = place {
                    held.enter_alias(hash, t, place);
                }
                return true;
            }
        };
        if holder.shard != shard {
            drop(held);
            held = self.table.lock(holder.shard);
        }
        let expired = held
            .get(holder.slot)
            .is_some_and(|c| c.has_expired(now_ms) && c.direction_of(t).is_some());
        if !expired {
            return false;
        }
        let gone = self.take(&mut held, holder);
        drop(held);
        self.table.forget(gone);
        self.claim(t, place, now_ms)
    }
}

#[cfg(test)]
mod tests;
