//! What happens to a batch: its packets are looked up, the actions of the flows that they hit run, and for those
//! that hit none somebody is asked.

use std::sync::Arc;

use ferrovs_datapath::upcall::{Install, Upcall, UpcallKind};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{coverage, vlog};
use ferrovs_sys::cycles;

use crate::actions::Around;
use crate::counters::Count;
use crate::drops::Reason;
use crate::flow::{Actions, DpFlow};
use crate::lookup::{Group, How, Scratch, tcp_flags};
use crate::worker::Worker;

impl Worker {
    /// Looks up the flows of a batch, whose packets came from one port or one recirculation, and runs their
    /// actions. Leaves the batch empty.
    pub fn process(&mut self, batch: &mut Batch, emc: bool, depth: u32) {
        let mut scratch = self.scratch.pop().unwrap_or_else(Scratch::new);
        let how = How {
            in_port: batch.first().map_or(DpPort::NONE, |p| p.md.in_port),
            emc_inverse: if emc { self.emc_inverse } else { 0 },
            smc: self.smc,
            fresh: depth == 0,
        };
        self.lookup.find(batch, how, &mut scratch);
        coverage::FLOW_EXTRACT.add(batch.len() as u64);
        scratch.found.count(&self.me.counters);
        match scratch.found.one_stream() {
            // The common case: the batch is one stream, and nothing has to move.
            Some(group) => self.run_group(&group, batch, depth),
            None => self.run_groups(batch, &mut scratch, how.in_port, depth),
        }
        self.scratch.push(scratch);
    }

    /// Handles packets that hit several flows, or none.
    fn run_groups(
        &mut self,
        batch: &mut Batch,
        scratch: &mut Scratch,
        in_port: DpPort,
        depth: u32,
    ) {
        let found = &scratch.found;
        self.count_drops(Reason::RxInvalid, in_port, found.invalid);
        for i in found.misses.iter().map(|i| usize::from(*i)) {
            let packet = batch[i].take();
            self.miss(packet, scratch.key(i), depth);
        }
        // Flows that send to the same port, one after the other, share a batch.
        let (mut same, mut port) = (Batch::new(), None);
        for group in &found.groups {
            let quick = self.lookup.flow(group.slot).and_then(|f| f.output());
            if port != quick
                && let Some(port) = port
            {
                self.output(&mut same, port);
            }
            port = quick;
            same.extend(found.packets(group).map(|i| batch[i].take()));
            match quick {
                Some(_) => self.count(group),
                None => self.run_group(group, &mut same, depth),
            }
        }
        if let Some(port) = port {
            self.output(&mut same, port);
        }
        batch.clear();
    }

    #[inline]
    fn count(&self, group: &Group) {
        if let Some(flow) = self.lookup.flow(group.slot) {
            flow.count(group.packets.into(), group.bytes, group.tcp_flags, self.now);
        }
    }

    /// Runs the actions of a flow on its packets, and leaves the batch empty.
    fn run_group(&mut self, group: &Group, batch: &mut Batch, depth: u32) {
        self.count(group);
        match self.lookup.flow(group.slot) {
            Some(flow) if let Some(port) = flow.output() => self.output(batch, port),
            Some(flow) => {
                let actions = flow.actions();
                self.execute(batch, &actions, depth);
            }
            // A flow stays as long as the batch that hit it.
            None => self.dropped(Reason::UpcallError, batch),
        }
    }

    /// Asks what to do with a packet that no flow matched.
    fn miss(&mut self, mut packet: Packet, key: &MiniflowBuf, depth: u32) {
        // An earlier packet of the batch may have had the flow installed.
        if let Some((slot, masks)) = self.lookup.find_one(packet.md.in_port, key)
            && let Some(flow) = self.lookup.flow(slot)
        {
            let c = &self.me.counters;
            c.add(Count::MegaflowHit, 1);
            c.add(Count::MaskLookup, masks as u64);
            flow.count(1, packet.size() as u64, tcp_flags(key.view()), self.now);
            let actions = flow.actions();
            let mut batch = Batch::new();
            batch.push(packet);
            self.execute(&mut batch, &actions, depth);
            return;
        }
        let start = cycles::now();
        if !self.may_ask(start) {
            self.me.counters.add(Count::Lost, 1);
            return self.count_drops(Reason::UpcallShare, packet.md.in_port, 1);
        }
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
            self.has_asked(start);
            self.me.counters.add(Count::Lost, 1);
            return self.count_drops(Reason::UpcallError, packet.md.in_port, 1);
        };
        self.me.counters.add(Count::Miss, 1);
        if let Some(install) = reply.install {
            let actions = reply.flow_actions.as_ref().unwrap_or(&reply.actions);
            let installed = self.install(&install, actions);
            if let Some(handler) = handler {
                handler.installed(install, self.me.id, installed);
            }
        }
        let took = self.has_asked(start);
        if self.metrics.is_some() {
            self.me.counters.add(Count::CyclesUpcall, took);
        }
        let mut batch = Batch::new();
        batch.push(packet);
        self.execute(&mut batch, &reply.actions, depth);
    }

    /// Whether a packet of the queue that is being handled may have an upcall.
    pub fn may_ask(&mut self, now: u64) -> bool {
        self.missed += 1;
        let queue = self.serving.and_then(|slot| self.rx.get_mut(slot));
        queue.is_none_or(|q| self.share.allows(&mut q.debt, now))
    }

    /// An upcall that began then is done: the cycles that it took.
    pub fn has_asked(&mut self, start: u64) -> u64 {
        let took = cycles::now().wrapping_sub(start);
        if let Some(q) = self.serving.and_then(|slot| self.rx.get_mut(slot)) {
            q.debt.add(took);
        }
        took
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
        self.shared.offloads.put(&flow, actions);
        self.lookup.adopt(&flow);
        true
    }

    /// Looks packets up again, after an action changed their recirculation id or port.
    pub fn look_up_again(&mut self, batch: &mut Batch, depth: u32) {
        if depth >= MAX_RECIRC_DEPTH {
            static RL: RateLimit = RateLimit::new(60, 5);
            let text = "Packet dropped. Max recirculation depth exceeded.";
            vlog::warn_rl!(RL, DPIF_NETDEV, "{text}");
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
