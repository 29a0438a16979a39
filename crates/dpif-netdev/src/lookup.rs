//! From packets to flows: which flow each packet of a batch hits.
//!
//! A batch is walked twice. The first walk reads headers and has the caches' entries fetched; the second looks the
//! keys up. Packets of ports all of whose flows are simple are done after the first.

use std::mem::offset_of;
use std::sync::Arc;

use arrayvec::ArrayVec;
use ferrovs_packet::buffer::{BATCH, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::hash::{self, fold32, mix};
use ferrovs_packet::miniflow::{MiniRef, MiniflowBuf};
use ferrovs_packet::parse::{Brief, Parsed};
use ferrovs_packet::types::{DpPort, eth_type};
use ferrovs_runtime::coverage;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::cache::{Emc, SignatureCache};
use crate::classifier::{Dpcls, Known};
use crate::counters::{Count, Counters};
use crate::flow::DpFlow;
use crate::plan::{Masked, Plans};
use crate::random::Random;
use crate::slots::Slots;

/// What the lookup of a batch needs room for: packed keys, and what was found.
pub struct Scratch {
    keys: [MiniflowBuf; BATCH],
    pub found: Found,
}

impl Scratch {
    pub fn new() -> Box<Scratch> {
        Box::new(Scratch {
            keys: std::array::from_fn(|_| MiniflowBuf::new()),
            found: Found::new(),
        })
    }

    /// The key of a packet that hit no flow.
    pub fn key(&self, i: usize) -> &MiniflowBuf {
        &self.keys[i]
    }
}

/// How the packets of a batch are looked up.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub in_port: DpPort,
    /// One packet in so many that miss the exact-match cache enters it; 0: it is not used.
    pub emc_inverse: u32,
    /// The signature cache counts as a cache of its own.
    pub smc: bool,
    /// The port has just received the packets: nothing is known of them but what is in them.
    pub fresh: bool,
}

/// Packets of a batch that hit the same flow.
#[derive(Clone, Copy)]
pub struct Group {
    /// Number of the flow.
    pub slot: u32,
    pub packets: u32,
    pub bytes: u64,
    pub tcp_flags: u16,
    first: u8,
    last: u8,
}

const NONE: u8 = u8::MAX;

/// Which flows the packets of a batch hit.
pub struct Found {
    pub groups: ArrayVec<Group, BATCH>,
    /// For each packet the next one of its group, or [`NONE`].
    next: [u8; BATCH],
    /// Packets that hit no flow.
    pub misses: ArrayVec<u8, BATCH>,
    /// Packets that are none.
    pub invalid: usize,
    simple: u64,
    emc: u64,
    smc: u64,
    megaflow: u64,
    masks: u64,
}

impl Found {
    fn new() -> Found {
        Found {
            groups: ArrayVec::new(),
            next: [NONE; BATCH],
            misses: ArrayVec::new(),
            invalid: 0,
            simple: 0,
            emc: 0,
            smc: 0,
            megaflow: 0,
            masks: 0,
        }
    }

    fn clear(&mut self) {
        self.groups.clear();
        self.misses.clear();
        (self.invalid, self.simple, self.emc) = (0, 0, 0);
        (self.smc, self.megaflow, self.masks) = (0, 0, 0);
    }

    /// The only group, if all packets are in one.
    #[inline]
    pub fn one_stream(&self) -> Option<Group> {
        match self.groups[..] {
            [group] if self.invalid == 0 && self.misses.is_empty() => Some(group),
            _ => None,
        }
    }

    /// The packets of a group, in their order.
    #[inline]
    pub fn packets(&self, group: &Group) -> impl Iterator<Item = usize> {
        let first = Some(usize::from(group.first));
        std::iter::successors(first, |i| {
            let next = self.next[*i];
            (next != NONE).then(|| usize::from(next))
        })
    }

    /// Packet `i` hit the flow; gives its group.
    #[inline]
    fn join(&mut self, i: usize, slot: u32, slots: &mut Slots, size: u64, flags: u16) -> u8 {
        let new = self.groups.len() as u8;
        let group = slots.group(slot, new);
        if group == new {
            self.groups.push(Group {
                slot,
                packets: 1,
                bytes: size,
                tcp_flags: flags,
                first: i as u8,
                last: i as u8,
            });
            self.next[i] = NONE;
        } else {
            self.add(i, group, size, flags);
        }
        group
    }

    #[inline]
    fn add(&mut self, i: usize, group: u8, size: u64, flags: u16) {
        let g = &mut self.groups[usize::from(group)];
        g.packets += 1;
        g.bytes += size;
        g.tcp_flags |= flags;
        self.next[usize::from(g.last) % BATCH] = i as u8;
        self.next[i] = NONE;
        g.last = i as u8;
    }

    pub fn count(&self, c: &Counters) {
        for (count, n) in [
            (Count::SimpleHit, self.simple),
            (Count::EmcHit, self.emc),
            (Count::SmcHit, self.smc),
            (Count::MegaflowHit, self.megaflow),
            (Count::MaskLookup, self.masks),
        ] {
            if n > 0 {
                c.add(count, n);
            }
        }
    }
}

/// TCP flags in a key. For neighbour discovery the member holds its option type, which counts as flags too: so
/// it is in the statistics that users know.
#[inline]
pub fn tcp_flags(key: MiniRef<'_>) -> u16 {
    const FLAGS: usize = offset_of!(Flow, tcp_flags) / 8;
    let bytes = key.word(FLAGS).to_ne_bytes();
    let at = offset_of!(Flow, tcp_flags) % 8;
    u16::from_be_bytes([bytes[at], bytes[at + 1]]) & 0xfff
}

/// The flows of a thread, and its caches of them.
pub struct Lookup {
    emc: Emc,
    signatures: SignatureCache,
    slots: Slots,
    plans: Plans,
    room: Masked,
    ports: HashMap<u32, Dpcls, FixedState>,
    random: Random,
    /// What hashes in masks begin with.
    seed: u64,
}

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup {
            emc: Emc::default(),
            signatures: SignatureCache::default(),
            slots: Slots::default(),
            plans: Plans::default(),
            room: Masked::default(),
            ports: HashMap::default(),
            random: Random::default(),
            seed: hash::seed(),
        }
    }
}

/// Packets of a batch that have a key, and which of them have that of the one before: packets of a stream often come in
/// trains.
#[derive(Default)]
struct Keyed {
    packets: ArrayVec<u8, BATCH>,
    /// A bit for each packet of the batch.
    repeats: u32,
}

impl Keyed {
    #[inline]
    fn repeats(&self, at: usize) -> bool {
        self.repeats >> (at % BATCH) & 1 != 0
    }
}

const _: () = assert!(BATCH <= u32::BITS as usize);

/// How a packet hit a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Emc,
    Smc,
    /// So many masks were tried.
    Megaflow(usize),
}

/// Where to look for the flow of a packet first.
#[derive(Clone, Copy)]
enum Try {
    /// The flow of a packet with the same key.
    Same(u32),
    /// The flow of a packet with the same hash.
    Like(u32),
    Nothing,
}

/// What finds the flows of a batch's packets once the caches have been asked.
struct Flows<'a> {
    /// None where the port has no flow.
    dpcls: Option<&'a mut Dpcls>,
    slots: &'a mut Slots,
    plans: &'a mut Plans,
    room: &'a mut Masked,
    seed: u64,
    /// Told what is found, if it is used.
    signatures: Option<&'a mut SignatureCache>,
    smc: bool,
}

impl Flows<'_> {
    /// The number of the flow that a packet hits, and how.
    #[inline]
    fn flow_of(&mut self, first: Try, key: &MiniflowBuf, hash: u32) -> Option<(u32, By)> {
        let alive = match first {
            Try::Same(slot) | Try::Like(slot) => self.slots.alive(slot),
            Try::Nothing => None,
        };
        match (first, alive) {
            (Try::Same(slot), Some(_)) => return Some((slot, By::Emc)),
            (Try::Like(slot), Some((flow, plan)))
                if let Some(plan) = self.plans.get(plan)
                    && plan.matches(key, flow.values()) =>
            {
                let by = if self.smc { By::Smc } else { By::Megaflow(1) };
                return Some((slot, by));
            }
            _ => {}
        }
        let mut known = Known {
            slots: self.slots,
            plans: self.plans,
            room: self.room,
            seed: self.seed,
        };
        let (slot, masks) = self.dpcls.as_mut()?.lookup(key, &mut known);
        let slot = slot?;
        if let Some(signatures) = &mut self.signatures {
            signatures.insert(hash, slot);
        }
        Some((slot, By::Megaflow(masks)))
    }
}

impl Lookup {
    /// Begins to find a flow.
    pub fn adopt(&mut self, flow: &Arc<DpFlow>) {
        let dpcls = self.ports.entry(flow.in_port()).or_default();
        dpcls.insert(flow, &mut self.slots, &mut self.plans, self.seed);
    }

    /// Forgets a flow, which is dead.
    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let port = flow.in_port();
        if let Some(dpcls) = self.ports.get_mut(&port) {
            dpcls.remove(flow, &mut self.slots, &mut self.plans, self.seed);
            if dpcls.is_empty() {
                self.ports.remove(&port);
            }
        }
    }

    /// The flow of that number.
    #[inline]
    pub fn flow(&self, slot: u32) -> Option<&Arc<DpFlow>> {
        self.slots.get(slot)
    }

    /// Every second: puts the masks that are hit most first.
    pub fn rank(&mut self) {
        self.signatures.age();
        self.ports.values_mut().for_each(Dpcls::rank);
    }

    /// Finds the flows of a batch, whose packets came from one port or one recirculation.
    pub fn find(&mut self, batch: &mut [Packet], how: How, scratch: &mut Scratch) {
        let Scratch { keys, found } = scratch;
        found.clear();
        self.slots.begin_batch();
        // With one mask its table is as quick as the cache of signatures.
        let masks = self.ports.get(&how.in_port.0).map_or(0, Dpcls::masks);
        let signatures = how.smc || masks > 1;
        let mut hashes = [0; BATCH];
        let keyed = self.read(batch, how, signatures, keys, &mut hashes, found);
        if keyed.packets.is_empty() {
            return;
        }
        let inverse = how.emc_inverse;
        let mut tries = [Try::Nothing; BATCH];
        for at in keyed.packets.iter().map(|i| usize::from(*i)) {
            if keyed.repeats(at) {
                continue;
            }
            tries[at] = self.candidate(hashes[at], &keys[at], inverse != 0, signatures);
            if let Try::Same(slot) | Try::Like(slot) = tries[at] {
                self.slots.prefetch(slot);
            }
        }
        let mut flows = Flows {
            dpcls: self.ports.get_mut(&how.in_port.0),
            slots: &mut self.slots,
            plans: &mut self.plans,
            room: &mut self.room,
            seed: self.seed,
            signatures: signatures.then_some(&mut self.signatures),
            smc: how.smc,
        };
        let mut before = None;
        for i in keyed.packets.iter().copied() {
            let at = usize::from(i);
            let key = &keys[at];
            let (hash, size, flags) = (hashes[at], batch[at].size() as u64, tcp_flags(key.view()));
            let hit = match keyed.repeats(at) {
                true => before.map(|(slot, by, group)| {
                    found.add(at, group, size, flags);
                    // Whatever found the flow would find it again, at once.
                    let by = match by {
                        By::Megaflow(_) => By::Megaflow(1),
                        by => by,
                    };
                    (slot, by, group)
                }),
                false => flows.flow_of(tries[at], key, hash).map(|(slot, by)| {
                    let group = found.join(at, slot, flows.slots, size, flags);
                    (slot, by, group)
                }),
            };
            before = hit;
            let Some((slot, by, _)) = hit else {
                // Who asks for a flow is told it.
                batch[at].rss_hash.get_or_insert_with(|| key.hash_5tuple());
                found.misses.push(i);
                continue;
            };
            match by {
                By::Emc => found.emc += 1,
                By::Smc => found.smc += 1,
                By::Megaflow(masks) => {
                    found.megaflow += 1;
                    found.masks += masks as u64;
                }
            }
            if by != By::Emc && inverse != 0 && self.random.once_in(inverse) {
                let flow = flows.slots.name(slot);
                self.emc.insert(hash, key.view(), flow, flows.slots);
            }
        }
    }

    /// Asks the caches for the flow of a packet.
    #[inline]
    fn candidate(&self, hash: u32, key: &MiniflowBuf, emc: bool, signatures: bool) -> Try {
        if emc
            && let Some(flow) = self.emc.lookup(hash, key.view())
            && self.slots.is(flow)
        {
            return Try::Same(flow.slot);
        }
        if signatures && let Some(slot) = self.signatures.lookup(hash) {
            return Try::Like(slot);
        }
        Try::Nothing
    }

    /// Reads the headers: finds what the simplest flows match, and makes keys and hashes of the other packets, which
    /// it gives back.
    #[inline]
    fn read(
        &mut self,
        batch: &mut [Packet],
        how: How,
        signatures: bool,
        keys: &mut [MiniflowBuf; BATCH],
        hashes: &mut [u32; BATCH],
        found: &mut Found,
    ) -> Keyed {
        let dpcls = self.ports.get(&how.in_port.0);
        let simple = dpcls.filter(|d| how.fresh && d.is_simple());
        // Packets of one stream follow each other.
        let mut last: Option<(Brief, u8)> = None;
        let mut keyed = Keyed::default();
        // The last packet with a key, and its hash if it has one.
        let mut before: Option<(usize, Option<u32>)> = None;
        for (i, packet) in batch.iter_mut().enumerate() {
            if let Some(simple) = simple
                && let Some((brief, flags)) = Brief::of_frame(packet)
            {
                let size = packet.size() as u64;
                if let Some((_, group)) = last.filter(|(same, _)| *same == brief) {
                    found.simple += 1;
                    found.add(i, group, size, flags);
                    continue;
                }
                if let Some(slot) = simple.simple(brief, &self.slots) {
                    found.simple += 1;
                    let group = found.join(i, slot, &mut self.slots, size, flags);
                    last = Some((brief, group));
                    continue;
                }
            }
            let (earlier, later) = keys.split_at_mut(i);
            let key = &mut later[0];
            let parsed = key.extract(packet);
            if parsed == Parsed::TruncatedEthernet {
                found.invalid += 1;
                continue;
            }
            if parsed != Parsed::Complete {
                count_malformed(parsed, key);
            }
            keyed.packets.push(i as u8);
            if let Some((at, hash)) = before
                && key.repeats(&earlier[at])
            {
                keyed.repeats |= 1 << i;
                packet.rss_hash = packet.rss_hash.or(hash);
                hashes[i] = hashes[at];
                before = Some((i, hash));
                continue;
            }
            // Only the caches ask for it here.
            if how.emc_inverse == 0 && !signatures {
                before = Some((i, packet.rss_hash));
                continue;
            }
            let hash = *packet.rss_hash.get_or_insert_with(|| key.hash_5tuple());
            before = Some((i, Some(hash)));
            hashes[i] = match how.fresh {
                true => hash,
                false => fold32(mix(hash.into(), packet.md.recirc_id.into())),
            };
            if how.emc_inverse != 0 {
                self.emc.prefetch(hashes[i]);
            }
            if signatures {
                self.signatures.prefetch(hashes[i]);
            }
        }
        keyed
    }

    /// The number of the flow of one key, by the masks alone; and how many were tried.
    pub fn find_one(&mut self, in_port: DpPort, key: &MiniflowBuf) -> Option<(u32, usize)> {
        let dpcls = self.ports.get_mut(&in_port.0)?;
        let mut known = Known {
            slots: &self.slots,
            plans: &mut self.plans,
            room: &mut self.room,
            seed: self.seed,
        };
        let (slot, masks) = dpcls.lookup(key, &mut known);
        Some((slot?, masks))
    }
}

/// Counts an IP header that could not be read.
#[cold]
fn count_malformed(parsed: Parsed, key: &MiniflowBuf) {
    let event = match (parsed, key.expand().dl_type.get()) {
        (Parsed::TruncatedNetwork, eth_type::IP) => &coverage::MINIFLOW_EXTRACT_IPV4_PKT_TOO_SHORT,
        (Parsed::BadIpLength, eth_type::IP) => &coverage::MINIFLOW_EXTRACT_IPV4_PKT_LEN_ERROR,
        (Parsed::TruncatedNetwork, eth_type::IPV6) => {
            &coverage::MINIFLOW_EXTRACT_IPV6_PKT_TOO_SHORT
        }
        (Parsed::BadIpLength, eth_type::IPV6) => &coverage::MINIFLOW_EXTRACT_IPV6_PKT_LEN_ERROR,
        _ => return,
    };
    event.inc();
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::dpif::{PackedMatch, Ufid};
    use ferrovs_datapath::upcall::complete;
    use ferrovs_packet::buffer::Batch;
    use ferrovs_packet::flow::{FlowWildcards, Match, NW_FRAG_MASK};
    use ferrovs_runtime::clock;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    const HOW: How = How {
        in_port: DpPort(3),
        emc_inverse: 1,
        smc: false,
        fresh: true,
    };

    /// A UDP packet to a port, as port 3 receives it.
    fn udp(dst: u16) -> Packet {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9]);
        frame.extend(dst.to_be_bytes());
        frame.extend([0, 8, 0, 0]);
        let mut packet = Packet::from_slice(&frame);
        packet.md.in_port = HOW.in_port;
        packet
    }

    /// A flow for packets like this one, that looks at the UDP port or not.
    fn flow(n: u128, mut like: Packet, port: bool) -> Arc<DpFlow> {
        let mut wc = FlowWildcards::default();
        complete(&mut wc);
        wc.masks.packet_type = u32::MAX.into();
        wc.masks.dl_type = u16::MAX.into();
        wc.masks.nw_frag = NW_FRAG_MASK;
        if port {
            wc.masks.tp_dst = u16::MAX.into();
        }
        let flow = Flow::from_packet(&mut like);
        let match_ = Arc::new(PackedMatch::new(&Match { flow, wc }));
        let new = DpFlow::new(Ufid(n), match_, Arc::default(), clock::now());
        Arc::new(new)
    }

    fn hits(f: &Found) -> [u64; 4] {
        [f.simple, f.emc, f.megaflow, f.misses.len() as u64]
    }

    #[test]
    fn packets_are_read_no_further_than_the_flows_of_their_port_need() {
        let (mut lookup, mut scratch) = (Lookup::default(), Scratch::new());
        let batch = || [udp(1), udp(2), udp(1), Packet::from_slice(&[0; 9])];
        let mut find = |lookup: &mut Lookup, how| {
            let mut batch: Batch = batch().into_iter().collect();
            lookup.find(&mut batch, how, &mut scratch);
            let found = &scratch.found;
            let groups = found.groups.iter().map(|g| (g.packets, g.bytes));
            let packets = found.groups.iter().map(|g| found.packets(g).collect());
            let (groups, packets) = (groups.collect::<Vec<_>>(), packets.collect::<Vec<Vec<_>>>());
            (hits(found), found.invalid, groups, packets)
        };
        let none = find(&mut lookup, HOW);
        assert_eq!((none.0, none.1), ([0, 0, 0, 3], 1));
        let all = flow(1, udp(1), false);
        lookup.adopt(&all);
        let size = udp(1).size() as u64;
        let three = ([3, 0, 0, 0], 1, vec![(3, 3 * size)], vec![vec![0, 1, 2]]);
        assert_eq!(find(&mut lookup, HOW), three);
        // What has been through an action may have more to it than its bytes.
        let again = How {
            fresh: false,
            ..HOW
        };
        assert_eq!(find(&mut lookup, again).0, [0, 0, 3, 0]);
        assert_eq!(find(&mut lookup, again).0, [0, 3, 0, 0]);
        // One flow of the port that looks at more is enough.
        lookup.adopt(&flow(2, udp(2), true));
        let both = find(&mut lookup, HOW);
        assert_eq!((both.0[0], both.2.iter().map(|g| g.0).sum::<u32>()), (0, 3));
        // A flow that has died is not found, whether it has been taken away already or not.
        all.dead.store(true, Relaxed);
        for round in 0..2 {
            let left = find(&mut lookup, HOW);
            assert_eq!(
                (left.0[3], left.2, left.3),
                (2, vec![(1, size)], vec![vec![1]]),
                "{round}"
            );
            lookup.remove(&all);
        }
    }

    #[test]
    fn packets_in_trains_are_found_as_each_alone_would_be() {
        // Numbers of ports; none has a flow beyond 3, and 0 stands for bytes that are no frame.
        let trains: [&[u16]; 6] = [
            &[1, 1, 1, 2, 2, 1],
            &[4, 4, 1, 1, 4, 4],
            &[1, 0, 1, 0, 0, 1],
            &[3, 2, 2, 3, 3, 3],
            &[0, 0, 5, 5, 2, 2],
            &[2; 6],
        ];
        for (emc_inverse, smc) in [(0, false), (1, false), (0, true)] {
            let how = How {
                emc_inverse,
                smc,
                ..HOW
            };
            let (mut lookup, mut scratch) = (Lookup::default(), Scratch::new());
            (1..=3).for_each(|n| lookup.adopt(&flow(n.into(), udp(n), true)));
            let packet = |n: u16| match n {
                0 => Packet::from_slice(&[0; 9]),
                n => udp(n),
            };
            for train in trains.iter().chain(&trains) {
                let mut batch: Batch = train.iter().map(|n| packet(*n)).collect();
                lookup.find(&mut batch, how, &mut scratch);
                let found = &scratch.found;
                let at = |n: u16| {
                    (0..)
                        .zip(*train)
                        .filter(move |(_, m)| **m == n)
                        .map(|(i, _)| i)
                };
                for g in &found.groups {
                    let packets: Vec<usize> = found.packets(g).collect();
                    let n = train[packets[0]];
                    assert_eq!(packets, at(n).collect::<Vec<_>>(), "{train:?}");
                    assert_eq!(g.packets as usize, packets.len());
                    assert_eq!(g.bytes, packets.len() as u64 * udp(1).size() as u64);
                }
                let known = train.iter().filter(|n| (1..=3).contains(*n)).count() as u64;
                assert_eq!(found.simple + found.emc + found.smc + found.megaflow, known);
                let unknown: Vec<u8> = (0..)
                    .zip(*train)
                    .filter(|(_, n)| **n > 3)
                    .map(|(i, _)| i)
                    .collect();
                assert_eq!(found.misses[..], unknown);
                assert_eq!(found.invalid, at(0).count());
                assert!(emc_inverse != 0 || found.emc == 0);
            }
        }
    }
}
