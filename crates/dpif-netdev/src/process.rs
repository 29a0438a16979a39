//! From packets to flows: caches, tables, and the upcall when nothing matches.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;
use ferrovs_datapath::dpif::Ufid;
use ferrovs_datapath::upcall::{Upcall, UpcallKind};
use ferrovs_packet::buffer::{BATCH, Batch, Packet};
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_packet::hash::{flow_hash_5tuple, fold32, mix};
use ferrovs_packet::miniflow::{MiniRef, MiniflowBuf};
use ferrovs_packet::parse::Parsed;
use ferrovs_packet::types::{DpPort, eth_type};
use ferrovs_runtime::coverage;
use ferrovs_sys::cycles;

use crate::counters::Count;
use crate::flow::{Actions, DpFlow};
use crate::worker::Worker;

/// Packed keys of a batch.
pub struct Keys([MiniflowBuf; BATCH]);

impl Keys {
    fn new() -> Box<Keys> {
        Box::new(Keys(std::array::from_fn(|_| MiniflowBuf::new())))
    }
}

/// Packets of a batch that hit the same flow.
struct Group {
    flow: Arc<DpFlow>,
    packets: u64,
    bytes: u64,
    tcp_flags: u16,
}

const NONE: u8 = u8::MAX;

/// TCP flags in a key. For neighbour discovery the member holds its option type, which counts as flags too: so
/// it is in the statistics that users know.
#[inline]
fn tcp_flags(key: MiniRef<'_>) -> u16 {
    const FLAGS: usize = offset_of!(Flow, tcp_flags) / 8;
    let bytes = key.word(FLAGS).to_ne_bytes();
    let at = offset_of!(Flow, tcp_flags) % 8;
    u16::from_be_bytes([bytes[at], bytes[at + 1]]) & 0xfff
}

impl Worker {
    /// Looks up the flows of a batch, whose packets came from one port or one recirculation, and runs their
    /// actions. Leaves the batch empty.
    pub fn process(&mut self, batch: &mut Batch, emc: bool, depth: u32) {
        let mut keys = self.keys.pop().unwrap_or_else(Keys::new);
        let mut groups: ArrayVec<Group, BATCH> = ArrayVec::new();
        let mut group_of = [NONE; BATCH];
        let mut misses: ArrayVec<u8, BATCH> = ArrayVec::new();
        let mut dropped = false;
        let inverse = self.dp.emc_inverse.load(Relaxed);
        let emc = emc && inverse != 0;
        let smc = self.dp.smc.load(Relaxed);
        let (mut n_emc, mut n_smc, mut n_mega, mut n_masks) = (0, 0, 0, 0);
        let in_port = batch.first().map_or(DpPort::NONE, |p| p.md.in_port);
        let mut dpcls = self.dpcls.get_mut(&in_port.0);
        // With one mask its table is as quick as the cache of signatures.
        let signatures = smc || dpcls.as_ref().is_some_and(|d| d.masks() > 1);
        for (i, packet) in batch.iter_mut().enumerate() {
            let key = &mut keys.0[i];
            let parsed = key.extract(packet);
            if parsed == Parsed::TruncatedEthernet {
                coverage::DATAPATH_DROP_RX_INVALID_PACKET.inc();
                dropped = true;
                continue;
            }
            if parsed != Parsed::Complete {
                count_malformed(parsed, key);
            }
            let key = key.view();
            let mut hash = match packet.rss_hash {
                Some(hash) => hash,
                None => *packet.rss_hash.insert(flow_hash_5tuple(key, 0)),
            };
            if depth > 0 {
                hash = fold32(mix(u64::from(hash), u64::from(packet.md.recirc_id)));
            }
            let size = packet.size() as u64;
            if emc && let Some(flow) = self.emc.lookup(hash, key) {
                n_emc += 1;
                group_of[i] = join(&mut groups, flow, size, tcp_flags(key));
                continue;
            }
            self.dense.fill(key);
            if signatures && let Some(flow) = self.signatures.lookup(hash, &self.dense, &self.slots)
            {
                self.dense.clear(key);
                if smc {
                    n_smc += 1;
                } else {
                    n_mega += 1;
                    n_masks += 1;
                }
                group_of[i] = join(&mut groups, flow, size, tcp_flags(key));
                if emc && wins(&mut self.random, inverse) {
                    self.emc.insert(hash, key, flow);
                }
                continue;
            }
            let found = dpcls.as_mut().map(|d| d.lookup(&self.dense));
            self.dense.clear(key);
            match found.unwrap_or((None, 0)) {
                (Some(flow), masks) => {
                    n_mega += 1;
                    n_masks += masks as u64;
                    group_of[i] = join(&mut groups, flow, size, tcp_flags(key));
                    if signatures {
                        self.signatures.insert(hash, flow.slot.load(Relaxed));
                    }
                    if emc && wins(&mut self.random, inverse) {
                        self.emc.insert(hash, key, flow);
                    }
                }
                (None, _) => misses.push(i as u8),
            }
        }
        let c = &self.me.counters;
        coverage::FLOW_EXTRACT.add(batch.len() as u64);
        for (count, n) in [
            (Count::EmcHit, n_emc),
            (Count::SmcHit, n_smc),
            (Count::MegaflowHit, n_mega),
            (Count::MaskLookup, n_masks),
        ] {
            if n > 0 {
                c.add(count, n);
            }
        }
        if !dropped && misses.is_empty() && groups.len() == 1 {
            // The common case: the batch is one stream, and nothing has to move.
            self.keys.push(keys);
            let g = &groups[0];
            g.flow.count(g.packets, g.bytes, g.tcp_flags, self.now);
            let actions = g.flow.actions.load();
            self.execute(batch, &actions, depth);
            return;
        }
        let mut packets: ArrayVec<Option<Packet>, BATCH> = batch.drain(..).map(Some).collect();
        for i in misses {
            if let Some(packet) = packets[usize::from(i)].take() {
                self.miss(packet, keys.0[usize::from(i)].view(), depth);
            }
        }
        self.keys.push(keys);
        for (g, group) in groups.iter().enumerate() {
            let mut same = Batch::new();
            for (packet, of) in packets.iter_mut().zip(group_of) {
                if usize::from(of) == g
                    && let Some(packet) = packet.take()
                {
                    same.push(packet);
                }
            }
            group
                .flow
                .count(group.packets, group.bytes, group.tcp_flags, self.now);
            let actions = group.flow.actions.load();
            self.execute(&mut same, &actions, depth);
        }
    }

    /// Asks what to do with a packet that no flow matched.
    fn miss(&mut self, mut packet: Packet, key: MiniRef<'_>, depth: u32) {
        // An earlier packet of the batch may have had the flow installed.
        self.dense.fill(key);
        let dpcls = self.dpcls.get_mut(&packet.md.in_port.0);
        let found = dpcls.and_then(|d| match d.lookup(&self.dense) {
            (Some(flow), masks) => Some((flow.clone(), masks)),
            (None, _) => None,
        });
        self.dense.clear(key);
        if let Some((flow, masks)) = found {
            let c = &self.me.counters;
            c.add(Count::MegaflowHit, 1);
            c.add(Count::MaskLookup, masks as u64);
            flow.count(1, packet.size() as u64, tcp_flags(key), self.now);
            let mut batch = Batch::new();
            batch.push(packet);
            let actions = flow.actions.load();
            self.execute(&mut batch, &actions, depth);
            return;
        }
        let start = cycles::now();
        let flow = key.expand();
        crate::log::upcall(&self.dp, "miss", &packet, &flow);
        let handler = self.dp.handler.load_full();
        let reply = handler.as_ref().as_ref().and_then(|handler| {
            handler.upcall(Upcall {
                packet: &mut packet,
                flow: &flow,
                kind: UpcallKind::Miss,
                pmd: self.me.id,
            })
        });
        let c = &self.me.counters;
        let Some(reply) = reply else {
            c.add(Count::Lost, 1);
            coverage::DATAPATH_DROP_UPCALL_ERROR.inc();
            return;
        };
        c.add(Count::Miss, 1);
        if let Some(ufid) = reply.install {
            let m = Match {
                flow,
                wc: *reply.wc,
            };
            let actions = reply.flow_actions.as_ref().unwrap_or(&reply.actions);
            let installed = self.install(ufid, &m, actions);
            if let Some(handler) = handler.as_ref() {
                handler.installed(ufid, self.me.id, installed);
            }
        }
        self.me
            .counters
            .add(Count::CyclesUpcall, cycles::now().wrapping_sub(start));
        let mut batch = Batch::new();
        batch.push(packet);
        self.execute(&mut batch, &reply.actions, depth);
    }

    /// Adds a flow that an upcall asked for; false when there is one already.
    fn install(&mut self, ufid: Ufid, m: &Match, actions: &Actions) -> bool {
        let flow = Arc::new(DpFlow::new(ufid, m, actions.clone(), self.dp.epoch));
        {
            let flows = self.me.flows.pin();
            if flows.try_insert(ufid, flow.clone()).is_err() {
                return false;
            }
        }
        crate::log::flow_added(ufid, m, actions);
        self.adopt(flow);
        true
    }

    /// Looks packets up again, after an action changed their recirculation id or port.
    pub fn recirculate(&mut self, batch: &mut Batch, depth: u32) {
        if depth >= MAX_RECIRC_DEPTH {
            coverage::DATAPATH_DROP_RECIRC_ERROR.add(batch.len() as u64);
            batch.clear();
            return;
        }
        self.me.counters.add(Count::Recirc, batch.len() as u64);
        let emc = batch
            .first()
            .and_then(|p| self.tx.port(p.md.in_port))
            .is_none_or(|port| port.emc_enabled());
        self.process(batch, emc, depth + 1);
    }
}

/// How often a packet may be recirculated.
const MAX_RECIRC_DEPTH: u32 = 8;

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

/// The group of `flow`, which counts one more packet.
#[inline]
fn join(groups: &mut ArrayVec<Group, BATCH>, flow: &Arc<DpFlow>, size: u64, flags: u16) -> u8 {
    for (i, g) in groups.iter_mut().enumerate().rev() {
        if Arc::ptr_eq(&g.flow, flow) {
            g.packets += 1;
            g.bytes += size;
            g.tcp_flags |= flags;
            return i as u8;
        }
    }
    groups.push(Group {
        flow: flow.clone(),
        packets: 1,
        bytes: size,
        tcp_flags: flags,
    });
    groups.len() as u8 - 1
}

/// True once in `inverse` times.
#[inline]
fn wins(random: &mut u64, inverse: u32) -> bool {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    ((*random >> 32) as u32).is_multiple_of(inverse)
}
