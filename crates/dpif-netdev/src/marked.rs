//! Packets that come with their flow known, because it is offloaded in part.

use std::sync::Arc;

use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::miniflow::MiniflowBuf;
use ferrovs_packet::parse::Parsed;
use ferrovs_packet::types::DpPort;

use crate::counters::Count;
use crate::flow::DpFlow;
use crate::lookup::tcp_flags;
use crate::worker::Worker;

impl Worker {
    /// Handles packets that a port received: those first whose flows somebody else knows, each in its turn.
    pub fn received(&mut self, batch: &mut Batch, port: DpPort, emc: bool) {
        if self.shared.offloads.are_used() {
            self.received_marked(batch, port, emc);
        } else {
            self.process(batch, emc, 0);
        }
    }

    #[cold]
    fn received_marked(&mut self, batch: &mut Batch, port: DpPort, emc: bool) {
        let shared = self.shared.clone();
        let mut others = Batch::new();
        for mut packet in std::mem::take(batch) {
            let ufid = shared.offloads.recognise(port, &mut packet);
            let known = ufid.and_then(|ufid| self.me.flows.get(ufid));
            let Some(flow) = known else {
                others.push(packet);
                continue;
            };
            // Packets keep their order.
            if !others.is_empty() {
                self.process(&mut others, emc, 0);
            }
            self.run_marked(packet, &flow);
        }
        if !others.is_empty() {
            self.process(&mut others, emc, 0);
        }
    }

    /// Runs the actions of a flow on a packet of it.
    fn run_marked(&mut self, mut packet: Packet, flow: &Arc<DpFlow>) {
        // Actions need to know where headers are.
        let mut key = MiniflowBuf::new();
        let parsed = key.extract(&mut packet);
        let mut one = Batch::new();
        if parsed == Parsed::TruncatedEthernet {
            one.push(packet);
            return self.process(&mut one, false, 0);
        }
        self.me.counters.add(Count::MarkHit, 1);
        let flags = tcp_flags(key.view());
        flow.count(1, packet.size() as u64, flags, self.now);
        one.push(packet);
        let actions = flow.actions();
        self.execute(&mut one, &actions, 0);
    }
}
