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

/// Where to look for the flow of a packet first.
#[derive(Clone, Copy)]
enum Try {
    /// The flow of a packet with the same key.
    Same(u32),
    /// The flow of a packet with the same hash.
    Like(u32),
    Nothing,
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
        if keyed.is_empty() {
            return;
        }
        let inverse = how.emc_inverse;
        let mut tries = [Try::Nothing; BATCH];
        for at in keyed.iter().map(|i| usize::from(*i)) {
            tries[at] = self.candidate(hashes[at], &keys[at], inverse != 0, signatures);
            if let Try::Same(slot) | Try::Like(slot) = tries[at] {
                self.slots.prefetch(slot);
            }
        }
        let mut dpcls = self.ports.get_mut(&how.in_port.0);
        for i in keyed {
            let at = usize::from(i);
            let key = &keys[at];
            let (hash, size, flags) = (hashes[at], batch[at].size() as u64, tcp_flags(key.view()));
            let alive = match tries[at] {
                Try::Same(slot) | Try::Like(slot) => self.slots.alive(slot),
                Try::Nothing => None,
            };
            let hit = match (tries[at], alive) {
                (Try::Same(slot), Some(_)) => {
                    found.emc += 1;
                    found.join(at, slot, &mut self.slots, size, flags);
                    continue;
                }
                (Try::Like(slot), Some((flow, plan)))
                    if let Some(plan) = self.plans.get(plan)
                        && plan.matches(key, flow.values()) =>
                {
                    if how.smc {
                        found.smc += 1;
                    } else {
                        (found.megaflow, found.masks) = (found.megaflow + 1, found.masks + 1);
                    }
                    Some(slot)
                }
                _ => None,
            };
            let hit = hit.or_else(|| {
                let mut known = Known {
                    slots: &self.slots,
                    plans: &mut self.plans,
                    room: &mut self.room,
                    seed: self.seed,
                };
                let (slot, masks) = dpcls.as_mut()?.lookup(key, &mut known);
                let slot = slot?;
                found.megaflow += 1;
                found.masks += masks as u64;
                if signatures {
                    self.signatures.insert(hash, slot);
                }
                Some(slot)
            });
            match hit {
                Some(slot) => {
                    found.join(at, slot, &mut self.slots, size, flags);
                    if inverse != 0 && self.random.once_in(inverse) {
                        let flow = self.slots.name(slot);
                        self.emc.insert(hash, key.view(), flow, &self.slots);
                    }
                }
                None => {
                    // Who asks for a flow is told it.
                    batch[at].rss_hash.get_or_insert_with(|| key.hash_5tuple());
                    found.misses.push(i);
                }
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
    ) -> ArrayVec<u8, BATCH> {
        let dpcls = self.ports.get(&how.in_port.0);
        let simple = dpcls.filter(|d| how.fresh && d.is_simple());
        // Packets of one stream follow each other.
        let mut last: Option<(Brief, u8)> = None;
        let mut keyed = ArrayVec::new();
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
            let key = &mut keys[i];
            let parsed = key.extract(packet);
            if parsed == Parsed::TruncatedEthernet {
                found.invalid += 1;
                continue;
            }
            if parsed != Parsed::Complete {
                count_malformed(parsed, key);
            }
            keyed.push(i as u8);
            // Only the caches ask for it here.
            if how.emc_inverse == 0 && !signatures {
                continue;
            }
            let hash = *packet.rss_hash.get_or_insert_with(|| key.hash_5tuple());
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
}
