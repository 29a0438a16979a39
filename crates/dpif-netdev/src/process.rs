//! What happens to a batch: its packets are looked up, the actions of the flows that they hit run, and for those
//! that hit none somebody is asked.

use std::sync::Arc;

use arrayvec::ArrayVec;
use ferrovs_datapath::upcall::{Install, Upcall, UpcallKind};
use ferrovs_packet::buffer::{BATCH, Batch, Packet};
use ferrovs_packet::miniflow::MiniRef;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage;
use ferrovs_sys::cycles;

use crate::counters::Count;
use crate::drops::Reason;
use crate::flow::{Actions, DpFlow};
use crate::lookup::{How, Keys, tcp_flags};
use crate::worker::Worker;

impl Worker {
    /// Looks up the flows of a batch, whose packets came from one port or one recirculation, and runs their
    /// actions. Leaves the batch empty.
    pub fn process(&mut self, batch: &mut Batch, emc: bool, depth: u32) {
        let mut keys = self.keys.pop().unwrap_or_else(Keys::new);
        let how = How {
            in_port: batch.first().map_or(DpPort::NONE, |p| p.md.in_port),
            emc_inverse: if emc { self.emc_inverse } else { 0 },
            smc: self.smc,
            fresh: depth == 0,
        };
        let mut found = self.lookup.find(batch, how, &mut keys);
        coverage::FLOW_EXTRACT.add(batch.len() as u64);
        found.count(&self.me.counters);
        if found.invalid == 0
            && found.misses.is_empty()
            && let [g] = &found.groups[..]
        {
            // The common case: the batch is one stream, and nothing has to move.
            self.keys.push(keys);
            g.flow.count(g.packets, g.bytes, g.tcp_flags, self.now);
            let actions = g.flow.actions.load();
            self.execute(batch, &actions, depth);
            return;
        }
        self.count_drops(Reason::RxInvalid, how.in_port, found.invalid);
        let mut packets: ArrayVec<Option<Packet>, BATCH> = batch.drain(..).map(Some).collect();
        for i in found.misses.drain(..).map(usize::from) {
            if let Some(packet) = packets[i].take() {
                self.miss(packet, keys.view(i), depth);
            }
        }
        self.keys.push(keys);
        for (n, g) in found.groups.iter().enumerate() {
            let mut same = Batch::new();
            for (i, packet) in packets.iter_mut().enumerate() {
                if found.is_of(i, n)
                    && let Some(packet) = packet.take()
                {
                    same.push(packet);
                }
            }
            g.flow.count(g.packets, g.bytes, g.tcp_flags, self.now);
            let actions = g.flow.actions.load();
            self.execute(&mut same, &actions, depth);
        }
    }

    /// Asks what to do with a packet that no flow matched.
    fn miss(&mut self, mut packet: Packet, key: MiniRef<'_>, depth: u32) {
        // An earlier packet of the batch may have had the flow installed.
        if let Some((flow, masks)) = self.lookup.find_one(packet.md.in_port, key) {
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
        let start = self.metrics.is_some().then(cycles::now);
        let flow = key.expand();
        crate::log::upcall(&self.shared.name, "miss", &packet, &flow);
        let (handler, hash) = (self.shared.handler(), packet.rss_hash);
        let reply = handler.as_ref().and_then(|handler| {
            handler.upcall(Upcall {
                packet: &mut packet,
                flow: &flow,
                kind: UpcallKind::Miss,
                pmd: self.me.id,
                ufid: None,
                hash,
                mru: 0,
            })
        });
        let Some(reply) = reply else {
            self.me.counters.add(Count::Lost, 1);
            self.count_drops(Reason::UpcallError, packet.md.in_port, 1);
            return;
        };
        self.me.counters.add(Count::Miss, 1);
        if let Some(install) = reply.install {
            let actions = reply.flow_actions.as_ref().unwrap_or(&reply.actions);
            let installed = self.install(&install, actions);
            if let Some(handler) = handler {
                handler.installed(install, self.me.id, installed);
            }
        }
        if let Some(start) = start {
            let took = cycles::now().wrapping_sub(start);
            self.me.counters.add(Count::CyclesUpcall, took);
        }
        let mut batch = Batch::new();
        batch.push(packet);
        self.execute(&mut batch, &reply.actions, depth);
    }

    /// Adds a flow that an upcall asked for; false when there is one already.
    fn install(&mut self, install: &Install, actions: &Actions) -> bool {
        let match_ = install.match_.clone();
        let flow = DpFlow::new(install.ufid, match_, actions.clone(), self.shared.epoch);
        let flow = Arc::new(flow);
        if !self.me.flows.insert(&flow) {
            return false;
        }
        crate::log::flow_added(&flow, actions);
        self.lookup.adopt(flow);
        true
    }

    /// Looks packets up again, after an action changed their recirculation id or port.
    pub fn look_up_again(&mut self, batch: &mut Batch, depth: u32) {
        if depth >= MAX_RECIRC_DEPTH {
            return self.drop_all(Reason::RecircError, batch);
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
