//! From packets to flows: which flow each packet of a batch hits.
//!
//! A batch is walked twice. The first walk reads headers and has the caches' entries fetched; the second looks the
//! keys up. Packets of ports all of whose flows are simple are done after the first.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;
use ferrovs_packet::buffer::{BATCH, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::hash::{fold32, mix};
use ferrovs_packet::miniflow::{MiniRef, MiniflowBuf};
use ferrovs_packet::parse::{Brief, Parsed};
use ferrovs_packet::types::{DpPort, eth_type};
use ferrovs_runtime::coverage;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::cache::{Emc, FlowSlots, SignatureCache};
use crate::classifier::{Dense, Dpcls};
use crate::counters::{Count, Counters};
use crate::flow::DpFlow;
use crate::random::Random;

/// Packed keys of a batch.
pub struct Keys([MiniflowBuf; BATCH]);

impl Keys {
    pub fn new() -> Box<Keys> {
        Box::new(Keys(std::array::from_fn(|_| MiniflowBuf::new())))
    }

    /// The key of a packet that hit no flow.
    pub fn view(&self, i: usize) -> MiniRef<'_> {
        self.0[i].view()
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
pub struct Group {
    pub flow: Arc<DpFlow>,
    pub packets: u64,
    pub bytes: u64,
    pub tcp_flags: u16,
}

const NONE: u8 = u8::MAX;

/// Which flows the packets of a batch hit.
pub struct Found {
    pub groups: ArrayVec<Group, BATCH>,
    /// For each packet its group, or [`NONE`].
    group_of: [u8; BATCH],
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
            group_of: [NONE; BATCH],
            misses: ArrayVec::new(),
            invalid: 0,
            simple: 0,
            emc: 0,
            smc: 0,
            megaflow: 0,
            masks: 0,
        }
    }

    /// Whether the packet is in the group.
    pub fn is_of(&self, packet: usize, group: usize) -> bool {
        usize::from(self.group_of[packet]) == group
    }

    /// Packet `i` hit the flow; gives its group.
    #[inline]
    fn join(&mut self, i: usize, flow: &Arc<DpFlow>, size: u64, flags: u16) -> u8 {
        let same = |g: &Group| Arc::ptr_eq(&g.flow, flow);
        let group = match self.groups.iter().rposition(same) {
            Some(group) => group as u8,
            None => {
                self.groups.push(Group {
                    flow: flow.clone(),
                    packets: 0,
                    bytes: 0,
                    tcp_flags: 0,
                });
                self.groups.len() as u8 - 1
            }
        };
        self.add(i, group, size, flags);
        group
    }

    #[inline]
    fn add(&mut self, i: usize, group: u8, size: u64, flags: u16) {
        self.group_of[i] = group;
        let g = &mut self.groups[usize::from(group)];
        g.packets += 1;
        g.bytes += size;
        g.tcp_flags |= flags;
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
#[derive(Default)]
pub struct Lookup {
    emc: Emc,
    signatures: SignatureCache,
    slots: FlowSlots,
    dense: Dense,
    ports: HashMap<u32, Dpcls, FixedState>,
    random: Random,
}

impl Lookup {
    /// Begins to find a flow.
    pub fn adopt(&mut self, flow: Arc<DpFlow>) {
        let dpcls = self.ports.entry(flow.in_port()).or_default();
        let mask = dpcls.insert(flow.clone());
        self.slots.insert(&flow, mask);
    }

    /// Forgets a flow, which is dead.
    pub fn remove(&mut self, flow: &Arc<DpFlow>) {
        let port = flow.in_port();
        if let Some(dpcls) = self.ports.get_mut(&port) {
            dpcls.remove(flow);
            if dpcls.is_empty() {
                self.ports.remove(&port);
            }
        }
        self.slots.remove(flow);
        self.emc.flow_died();
    }

    /// Now and then: lets go of dead flows.
    pub fn sweep(&mut self) {
        self.emc.slow_sweep();
    }

    /// Now and then: puts the masks that are hit most first.
    pub fn rank(&mut self) {
        self.ports.values_mut().for_each(Dpcls::rank);
    }

    /// Finds the flows of a batch, whose packets came from one port or one recirculation; `keys` are theirs then.
    pub fn find(&mut self, batch: &mut [Packet], how: How, keys: &mut Keys) -> Found {
        let mut found = Found::new();
        let mut hashes = [0; BATCH];
        let keyed = self.read(batch, how, keys, &mut hashes, &mut found);
        let mut dpcls = self.ports.get_mut(&how.in_port.0);
        // With one mask its table is as quick as the cache of signatures.
        let signatures = how.smc || dpcls.as_ref().is_some_and(|d| d.masks() > 1);
        let inverse = how.emc_inverse;
        for i in keyed {
            let at = usize::from(i);
            let (hash, size) = (hashes[at], batch[at].size() as u64);
            let key = keys.0[at].view();
            if inverse != 0
                && let Some(flow) = self.emc.lookup(hash, key)
            {
                found.emc += 1;
                found.join(at, flow, size, tcp_flags(key));
                continue;
            }
            self.dense.fill(key);
            let known = if signatures {
                self.signatures.lookup(hash, &self.dense, &self.slots)
            } else {
                None
            };
            let hit = match known {
                Some(flow) if how.smc => {
                    found.smc += 1;
                    Some(flow)
                }
                Some(flow) => {
                    (found.megaflow, found.masks) = (found.megaflow + 1, found.masks + 1);
                    Some(flow)
                }
                None => match dpcls.as_mut().map(|d| d.lookup(&mut self.dense)) {
                    Some((Some(flow), masks)) => {
                        found.megaflow += 1;
                        found.masks += masks as u64;
                        if signatures {
                            self.signatures.insert(hash, flow.slot.load(Relaxed));
                        }
                        Some(flow)
                    }
                    _ => None,
                },
            };
            self.dense.clear(key);
            match hit {
                Some(flow) => {
                    found.join(at, flow, size, tcp_flags(key));
                    if inverse != 0 && self.random.once_in(inverse) {
                        self.emc.insert(hash, key, flow);
                    }
                }
                None => found.misses.push(i),
            }
        }
        found
    }

    /// Reads the headers: finds what the simplest flows match, and makes keys and hashes of the other packets, which
    /// it gives back.
    #[inline]
    fn read(
        &self,
        batch: &mut [Packet],
        how: How,
        keys: &mut Keys,
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
                if let Some(flow) = simple.simple(brief) {
                    found.simple += 1;
                    last = Some((brief, found.join(i, flow, size, flags)));
                    continue;
                }
            }
            let key = &mut keys.0[i];
            let parsed = key.extract(packet);
            if parsed == Parsed::TruncatedEthernet {
                found.invalid += 1;
                continue;
            }
            if parsed != Parsed::Complete {
                count_malformed(parsed, key);
            }
            let hash = *packet.rss_hash.get_or_insert_with(|| key.hash_5tuple());
            hashes[i] = match how.fresh {
                true => hash,
                false => fold32(mix(hash.into(), packet.md.recirc_id.into())),
            };
            if how.emc_inverse != 0 {
                self.emc.prefetch(hashes[i]);
            }
            keyed.push(i as u8);
        }
        keyed
    }

    /// The flow of one key, by the masks alone; and how many were tried.
    pub fn find_one(&mut self, in_port: DpPort, key: MiniRef<'_>) -> Option<(Arc<DpFlow>, usize)> {
        let dpcls = self.ports.get_mut(&in_port.0)?;
        self.dense.fill(key);
        let (flow, masks) = dpcls.lookup(&mut self.dense);
        let found = flow.map(|flow| (flow.clone(), masks));
        self.dense.clear(key);
        found
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
        let (mut lookup, mut keys) = (Lookup::default(), Keys::new());
        let batch = || [udp(1), udp(2), udp(1), Packet::from_slice(&[0; 9])];
        let mut find = |lookup: &mut Lookup, how| {
            let mut batch: Batch = batch().into_iter().collect();
            lookup.find(&mut batch, how, &mut keys)
        };
        let none = find(&mut lookup, HOW);
        assert_eq!((hits(&none), none.invalid), ([0, 0, 0, 3], 1));
        let all = flow(1, udp(1), false);
        lookup.adopt(all.clone());
        let found = find(&mut lookup, HOW);
        assert_eq!(hits(&found), [3, 0, 0, 0]);
        assert_eq!((found.groups.len(), found.groups[0].packets), (1, 3));
        assert_eq!(found.groups[0].bytes, 3 * udp(1).size() as u64);
        // What has been through an action may have more to it than its bytes.
        let again = How {
            fresh: false,
            ..HOW
        };
        assert_eq!(hits(&find(&mut lookup, again)), [0, 1, 2, 0]);
        assert_eq!(hits(&find(&mut lookup, again)), [0, 3, 0, 0]);
        // One flow of the port that looks at more is enough.
        lookup.adopt(flow(2, udp(2), true));
        assert_eq!(hits(&find(&mut lookup, HOW))[0], 0);
        all.dead.store(true, Relaxed);
        lookup.remove(&all);
        let found = find(&mut lookup, HOW);
        assert_eq!((found.misses.len(), found.groups.len()), (2, 1));
        assert!(found.is_of(1, 0) && !found.is_of(0, 0));
    }
}
