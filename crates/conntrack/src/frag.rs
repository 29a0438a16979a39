//! Fragments: they wait until all of their packet are there; then the packet is tracked as a whole, and they go on as
//! they came, each with what was found out, and translated (RFC 791, RFC 8200 section 4.5).
//!
//! ```text
//!   fragment --add--> list of its packet --complete--> whole packet, tracked --finish--> the fragments
//!                \ too small, too many, overlapping, malformed: goes on at once, invalid
//! ```
//!
//! Fragments that overlap are refused (RFC 5722, and for IPv4 as well), as are small ones that are not the last, which
//! only serve to hide headers (RFC 1858). So many wait at most, in all; a list that is not complete after 15 seconds has
//! expired, and is forgotten 10 seconds later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrovs_datapath::conntrack::{FragCounters, FragFamily, FragList, FragStatus, IpVersion};
use ferrovs_datapath::dpif::Errno;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::checksum::{checksum, update};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::ip_proto;
use ferrovs_runtime::coverage;
use hashbrown::HashMap;

use crate::tuple::{Addr, Tuple, addr4};

const TIMEOUT_MS: u64 = 15_000;
/// How long a list stays when it has expired.
const PURGE_MS: u64 = 10_000;
/// Fragments of one packet.
const MAX_IN_LIST: usize = 128;
const DEFAULT_MAX: u32 = 1000;
const LIMIT_OF_MAX: u32 = 5000;
const MIN_SIZE: [u32; 2] = [1200, 1280];
/// The least that the user may set.
const LEAST_SIZE: [u32; 2] = [400, 400];

/// What fragments of one packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FragKey {
    src: Addr,
    dst: Addr,
    id: u32,
    recirc_id: u32,
    zone: u16,
    /// Zero in version 6, whose fragments may begin with other headers.
    proto: u8,
    ipv6: bool,
}

/// A fragment that waits.
struct Frag {
    start: usize,
    end: usize,
    packet: Packet,
}

struct List {
    frags: Vec<Frag>,
    /// Length of the whole payload, once the last fragment is there.
    whole: Option<usize>,
    since_ms: u64,
    expired: bool,
}

#[derive(Default)]
struct Inner {
    lists: HashMap<FragKey, List>,
    /// Lists in the order in which they expire; those that are gone or began anew meanwhile are passed over.
    order: VecDeque<(u64, FragKey)>,
    n: usize,
}

/// Counters of one version of IP.
#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    completed: AtomicU64,
    expired: AtomicU64,
    too_small: AtomicU64,
    overlapped: AtomicU64,
    purged: AtomicU64,
}

struct Family {
    enabled: AtomicBool,
    min_size: AtomicU32,
    counters: Counters,
}

/// See the module's text.
pub struct Frags {
    families: [Family; 2],
    max: AtomicU32,
    inner: Mutex<Inner>,
}

/// What a fragment says of itself.
struct Header {
    key: FragKey,
    start: usize,
    end: usize,
    more: bool,
    /// Where, from the network header on, its payload begins.
    payload: usize,
}

/// What became of a fragment.
pub enum Added {
    /// It waits.
    Waits,
    /// It does not belong to anything that could become whole.
    Refused(Packet),
    /// Nothing is missing.
    Complete(Box<Assembled>),
}

/// A packet and the fragments that it came in.
pub struct Assembled {
    pub whole: Packet,
    parts: Vec<Frag>,
}

/// Whether a packet is a fragment, by its network header.
#[inline]
pub fn is_fragment(packet: &Packet) -> bool {
    match packet.l3_data() {
        [first, _, _, _, _, _, high, low, ..] if first >> 4 == 4 => {
            u16::from_be_bytes([*high, *low]) & 0x3fff != 0
        }
        ip @ [first, _, _, _, _, _, next, ..] if first >> 4 == 6 => {
            *next == ip_proto::FRAGMENT
                || matches!(next, 0 | 43 | 51 | 60) && fragment6(ip).is_some()
        }
        _ => false,
    }
}

/// Where the fragment header of an IPv6 packet is, and where the byte that names it.
fn fragment6(ip: &[u8]) -> Option<(usize, usize)> {
    let (mut next, mut named, mut at) = (*ip.get(6)?, 6, 40);
    loop {
        let head = ip.get(at..at + 8)?;
        let len = match next {
            ip_proto::FRAGMENT => return Some((at, named)),
            0 | 43 | 60 => usize::from(head[1]) * 8 + 8,
            51 => usize::from(head[1]) * 4 + 8,
            _ => return None,
        };
        (next, named) = (head[0], at);
        at += len;
    }
}

/// Reads a fragment; none if it is malformed.
fn header(packet: &Packet, zone: u16) -> Option<Header> {
    let ip = packet.l3_data();
    let recirc_id = packet.md.recirc_id;
    if ip.first()? >> 4 == 4 {
        let h = ip.first_chunk::<20>()?;
        let payload = usize::from(h[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if payload < 20 || total <= payload || total > ip.len() {
            return None;
        }
        if checksum(&ip[..payload]) != 0 {
            coverage::IPF_L3CSUM_ERR.inc();
            return None;
        }
        let flags = u16::from_be_bytes([h[6], h[7]]);
        let start = usize::from(flags & 0x1fff) * 8;
        return Some(Header {
            key: FragKey {
                src: addr4(&h[12..]),
                dst: addr4(&h[16..]),
                id: u16::from_be_bytes([h[4], h[5]]).into(),
                recirc_id,
                zone,
                proto: h[9],
                ipv6: false,
            },
            start,
            end: start + total - payload,
            more: flags & 0x2000 != 0,
            payload,
        });
    }
    let h = ip.first_chunk::<40>()?;
    let total = 40 + usize::from(u16::from_be_bytes([h[4], h[5]]));
    let (at, _) = fragment6(ip)?;
    let payload = at + 8;
    if total <= payload || total > ip.len() {
        return None;
    }
    let word = u16::from_be_bytes([ip[at + 2], ip[at + 3]]);
    let start = usize::from(word & 0xfff8);
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&h[8..24]);
    dst.copy_from_slice(&h[24..40]);
    Some(Header {
        key: FragKey {
            src,
            dst,
            id: u32::from_be_bytes([ip[at + 4], ip[at + 5], ip[at + 6], ip[at + 7]]),
            recirc_id,
            zone,
            proto: 0,
            ipv6: true,
        },
        start,
        end: start + total - payload,
        more: word & 1 != 0,
        payload,
    })
}

impl Default for Frags {
    fn default() -> Self {
        Frags {
            families: MIN_SIZE.map(|min| Family {
                enabled: AtomicBool::new(true),
                min_size: AtomicU32::new(min),
                counters: Counters::default(),
            }),
            max: AtomicU32::new(DEFAULT_MAX),
            inner: Mutex::default(),
        }
    }
}

impl Frags {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fragment, which is tracked for `zone`.
    pub fn add(&self, packet: Packet, zone: u16, now_ms: u64) -> Added {
        self.expire(now_ms);
        let Some(h) = header(&packet, zone) else {
            return Added::Refused(packet);
        };
        let family = &self.families[usize::from(h.key.ipv6)];
        // What is behind a fragment begins at a multiple of eight, and the whole packet can say its length.
        let head = h.payload - if h.key.ipv6 { 48 } else { 0 };
        let fits = head + h.end <= usize::from(u16::MAX)
            && (!h.more || (h.end - h.start).is_multiple_of(8));
        if !family.enabled.load(Relaxed) || !fits {
            return Added::Refused(packet);
        }
        let size = h.payload + h.end - h.start;
        if h.more && size < family.min_size.load(Relaxed) as usize {
            family.counters.too_small.fetch_add(1, Relaxed);
            return Added::Refused(packet);
        }
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.n >= self.max.load(Relaxed) as usize {
            return Added::Refused(packet);
        }
        inner.tidy();
        let list = inner.lists.entry(h.key).or_insert_with(|| {
            inner.order.push_back((now_ms, h.key));
            List {
                frags: Vec::new(),
                whole: None,
                since_ms: now_ms,
                expired: false,
            }
        });
        let overlaps = list
            .frags
            .iter()
            .any(|f| h.start < f.end && f.start < h.end);
        let beyond = list.whole.is_some_and(|len| h.end > len || !h.more)
            || !h.more && list.frags.iter().any(|f| f.end > h.end);
        if overlaps || beyond || list.frags.len() >= MAX_IN_LIST {
            if overlaps {
                family.counters.overlapped.fetch_add(1, Relaxed);
            }
            return Added::Refused(packet);
        }
        let at = list.frags.partition_point(|f| f.start < h.start);
        let frag = Frag {
            start: h.start,
            end: h.end,
            packet,
        };
        list.frags.insert(at, frag);
        if !h.more {
            list.whole = Some(h.end);
        }
        inner.n += 1;
        family.counters.accepted.fetch_add(1, Relaxed);
        if !list.is_complete() {
            return Added::Waits;
        }
        let Some(list) = inner.lists.remove(&h.key) else {
            return Added::Waits;
        };
        inner.n -= list.frags.len();
        let n = list.frags.len() as u64;
        family.counters.completed.fetch_add(n, Relaxed);
        Added::Complete(Box::new(Assembled::new(list.frags)))
    }

    /// Notes which lists have waited long enough, and forgets those that have waited longer.
    pub fn expire(&self, now_ms: u64) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        // The oldest are in front; a list is looked at twice before it is forgotten.
        while let Some((since, key)) = inner.order.front().copied() {
            let Some(list) = inner.lists.get_mut(&key).filter(|l| l.since_ms == since) else {
                inner.order.pop_front();
                continue;
            };
            let counters = &self.families[usize::from(key.ipv6)].counters;
            let n = list.frags.len();
            if now_ms < since + TIMEOUT_MS {
                break;
            }
            if !list.expired {
                list.expired = true;
                counters.expired.fetch_add(n as u64, Relaxed);
                coverage::IPF_STUCK_FRAG_LIST_EXPIRED.inc();
            }
            if now_ms < since + TIMEOUT_MS + PURGE_MS {
                break;
            }
            inner.lists.remove(&key);
            inner.order.pop_front();
            inner.n -= n;
            counters.purged.fetch_add(n as u64, Relaxed);
            coverage::IPF_STUCK_FRAG_LIST_PURGED.inc();
        }
    }

    /// Lists that are remembered, there or not.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.lock().order.len()
    }

    /// Whether any wait.
    pub fn is_empty(&self) -> bool {
        self.lock().n == 0
    }

    pub fn status(&self) -> FragStatus {
        let family = |f: &Family| {
            let n = |c: &AtomicU64| c.load(Relaxed);
            let c = &f.counters;
            FragFamily {
                enabled: f.enabled.load(Relaxed),
                min_size: f.min_size.load(Relaxed),
                counters: FragCounters {
                    accepted: n(&c.accepted),
                    completed: n(&c.completed),
                    expired: n(&c.expired),
                    too_small: n(&c.too_small),
                    overlapped: n(&c.overlapped),
                    purged: n(&c.purged),
                },
            }
        };
        let inner = self.lock();
        let lists = inner.lists.iter().map(|(key, list)| list.show(key));
        FragStatus {
            v4: family(&self.families[0]),
            v6: family(&self.families[1]),
            max_frags: self.max.load(Relaxed),
            frags: inner.n as u32,
            lists: lists.collect(),
        }
    }

    pub fn enable(&self, version: IpVersion, on: bool) {
        self.families[version as usize].enabled.store(on, Relaxed);
    }

    pub fn set_min_size(&self, version: IpVersion, size: u32) -> Result<(), Errno> {
        if size < LEAST_SIZE[version as usize] {
            return Err(Errno::EPERM);
        }
        self.families[version as usize]
            .min_size
            .store(size, Relaxed);
        Ok(())
    }

    pub fn set_max(&self, max: u32) -> Result<(), Errno> {
        if max > LIMIT_OF_MAX {
            return Err(Errno::EPERM);
        }
        self.max.store(max, Relaxed);
        Ok(())
    }
}

impl Inner {
    /// Forgets what the order remembers of lists that are gone, before it is much longer than what is there: behind one
    /// list that waits any number may become complete.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.lists.len() + 64 {
            let lists = &self.lists;
            self.order
                .retain(|(since, key)| lists.get(key).is_some_and(|l| l.since_ms == *since));
        }
    }
}

impl List {
    fn is_complete(&self) -> bool {
        let mut at = 0;
        for f in &self.frags {
            if f.start != at {
                return false;
            }
            at = f.end;
        }
        self.whole == Some(at)
    }

    fn show(&self, key: &FragKey) -> FragList {
        let tuple = Tuple {
            src: key.src,
            dst: key.dst,
            proto: key.proto,
            ipv6: key.ipv6,
            ..Tuple::default()
        };
        let ends = tuple.to_entry();
        FragList {
            src: ends.src,
            dst: ends.dst,
            recirc_id: key.recirc_id,
            id: key.id,
            zone: key.zone,
            proto: key.proto,
            frags: self.frags.len() as u32,
            has_first: self.frags.first().is_some_and(|f| f.start == 0),
            has_last: self.whole.is_some(),
        }
    }
}

impl Assembled {
    /// From all fragments of a packet, in order.
    fn new(parts: Vec<Frag>) -> Assembled {
        let first = &parts[0].packet;
        let l3 = usize::from(first.l3);
        let len = parts.last().map_or(0, |f| f.end);
        let (head, named) = network_head(first);
        let mut bytes = first.data()[..l3 + head].to_vec();
        let ip = &mut bytes[l3..];
        match named {
            None => {
                let total = ((head + len) as u16).to_be_bytes();
                ip[2..4].copy_from_slice(&total);
                ip[6] &= 0xc0;
                ip[7] = 0;
                ip[10..12].fill(0);
                let sum = checksum(ip).to_be_bytes();
                ip[10..12].copy_from_slice(&sum);
            }
            Some(named) => {
                // The fragment header goes; what it named takes its place.
                ip[named] = ip[head - 8];
                let total = ((head - 8 - 40 + len) as u16).to_be_bytes();
                ip[4..6].copy_from_slice(&total);
                bytes.truncate(l3 + head - 8);
            }
        }
        let mut whole = Packet::with_capacity(bytes.len() + len);
        whole.append(&bytes);
        for f in &parts {
            let (head, _) = network_head(&f.packet);
            let payload = &f.packet.l3_data()[head..];
            whole.append(&payload[..(f.end - f.start).min(payload.len())]);
        }
        let md = &parts[0].packet.md;
        whole.md.in_port = md.in_port;
        whole.md.packet_type = md.packet_type;
        (whole.md.ct_state, whole.md.ct_zone) = (md.ct_state, md.ct_zone);
        (whole.md.ct_orig, whole.md.ct_conn) = (md.ct_orig, md.ct_conn);
        MiniflowBuf::new().extract(&mut whole);
        Assembled { whole, parts }
    }

    /// The fragments, with what was found out of the whole packet and what was changed in it. Where a helper changed
    /// its length they are no longer parts of it: then it goes on as it is.
    pub fn finish(self) -> Vec<Packet> {
        let Assembled { whole, parts } = self;
        let head = match network_head(&parts[0].packet) {
            (head, None) => head,
            (head, Some(_)) => head - 8,
        };
        if whole.l3_data().len() != head + parts.last().map_or(0, |f| f.end) {
            return vec![whole];
        }
        let part = |f: Frag| {
            let mut packet = f.packet;
            let from = &whole.md;
            (packet.md.ct_state, packet.md.ct_zone) = (from.ct_state, from.ct_zone);
            (packet.md.ct_mark, packet.md.ct_label) = (from.ct_mark, from.ct_label);
            (packet.md.ct_orig, packet.md.ct_conn) = (from.ct_orig, from.ct_conn);
            let payload = &whole.l3_data()[head + f.start..head + f.end];
            rewrite(&mut packet, whole.l3_data(), payload);
            packet
        };
        parts.into_iter().map(part).collect()
    }
}

/// Length of the network headers of a packet, and for IPv6 which byte names the fragment header, if there is one.
fn network_head(packet: &Packet) -> (usize, Option<usize>) {
    let ip = packet.l3_data();
    match ip.first().map(|b| b >> 4) {
        Some(4) => (usize::from(ip[0] & 15) * 4, None),
        _ => match fragment6(ip) {
            Some((at, named)) => (at + 8, Some(named)),
            None => (usize::from(packet.l4.saturating_sub(packet.l3)), None),
        },
    }
}

/// Gives a fragment the addresses of the whole packet, and its part of the payload.
fn rewrite(packet: &mut Packet, whole: &[u8], payload: &[u8]) {
    let (head, _) = network_head(packet);
    let l3 = usize::from(packet.l3);
    let addrs = match whole.first().map(|b| b >> 4) {
        Some(4) => 12..20,
        _ => 8..40,
    };
    let (Some(new), Some(old)) = (
        whole.get(addrs.clone()),
        packet.l3_data().get(addrs.clone()),
    ) else {
        return;
    };
    let same = new == old;
    let same_payload = packet.l3_data().get(head..head + payload.len()) == Some(payload);
    if same && same_payload {
        return;
    }
    let ip = &mut packet.data_mut()[l3..];
    if addrs.start == 12 {
        let sum = update(u16::from_be_bytes([ip[10], ip[11]]), &ip[12..20], new);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    ip[addrs].copy_from_slice(new);
    if let Some(place) = ip.get_mut(head..head + payload.len()) {
        place.copy_from_slice(payload);
    }
}
