//! What a thread puts around actions: its ports, its lookup, and who answers questions.

use ferrovs_datapath::action::{Action, Cookie, Ct, TunnelPush, Userspace};
use ferrovs_datapath::upcall::{Upcall, UpcallKind};
use ferrovs_netdev::PortClass;
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage;
use ferrovs_sys::cycles;

use crate::actions::{self, Around};
use crate::counters::Count;
use crate::drops::Reason;
use crate::worker::Worker;

/// Segments of one large frame that a controller gets: all of what hosts send.
const CONTROLLER_SEGMENTS: usize = 128;

impl Worker {
    /// Runs `actions` on a batch and leaves it empty.
    pub fn execute(&mut self, batch: &mut Batch, actions: &[Action], depth: u32) {
        actions::run(self, batch, actions, depth);
    }

    /// Takes the outer headers off packets of which some are several in one, which they are cut into first.
    #[cold]
    fn tunnel_pop_segments(&mut self, batch: &mut Batch, port: DpPort, depth: u32) {
        let mut parts = Batch::new();
        for packet in batch.drain(..) {
            let mut n = 0;
            let mut add = |part| {
                n += 1;
                if parts.is_full() {
                    self.tunnel_pop(&mut parts, port, depth);
                }
                parts.push(part);
            };
            match gso::is_uso(&packet) {
                true => gso::segment(packet, add),
                false => add(packet),
            }
            self.became(n, port);
        }
        self.tunnel_pop(&mut parts, port, depth);
    }

    /// A packet that an action sent up got no answer.
    fn lost_above(&self, port: DpPort, copy: bool) {
        let reason = match copy {
            true => Reason::UserspaceCopyLost,
            false => Reason::UserspaceActionError,
        };
        self.count_drops(reason, port, 1);
    }

    /// A packet was cut into `n`.
    fn became(&mut self, n: usize, port: DpPort) {
        match n {
            0 => self.count_drops(Reason::NotSegmentable, port, 1),
            n => self.copied(n - 1),
        }
    }

    fn userspace_one(
        &mut self,
        mut packet: Packet,
        what: &Userspace,
        actions: &[Action],
        depth: u32,
        copy: bool,
    ) {
        // Copies are taken because someone asked for them, and the packets themselves go on.
        let start = cycles::now();
        if !copy && !self.may_ask(start) {
            return self.count_drops(Reason::UpcallShare, packet.md.in_port, 1);
        }
        let flow = Flow::from_packet(&mut packet);
        if packet.cutlen > 0 {
            gso::cut(&mut packet);
        }
        crate::log::upcall(&self.shared.name, "action", &packet, &flow);
        let (handler, hash) = (self.shared.handler(), packet.rss_hash);
        let reply = handler.and_then(|handler| {
            handler.upcall(Upcall {
                packet: &mut packet,
                flow: &flow,
                kind: UpcallKind::Action {
                    userspace: what,
                    actions: if what.with_actions { actions } else { &[] },
                    egress_tunnel: None,
                },
                pmd: self.me.id,
                ufid: None,
                hash,
                mru: 0,
            })
        });
        if !copy {
            self.has_asked(start);
        }
        let Some(reply) = reply else {
            return self.lost_above(packet.md.in_port, copy);
        };
        if reply.actions.is_empty() && !matches!(what.cookie, Cookie::SlowPath { .. }) {
            self.me.counters.add(Count::TakenUp, 1);
            if !copy {
                // Open vSwitch counts that there is nothing left to do for the packet.
                coverage::DATAPATH_DROP_USERSPACE_ACTION_ERROR.inc();
            }
            return;
        }
        let mut batch = Batch::new();
        batch.push(packet);
        self.execute(&mut batch, &reply.actions, depth);
    }
}

impl Around for Worker {
    fn output(&mut self, batch: &mut Batch, port: DpPort) {
        self.tx.output(batch, port);
        if !batch.is_empty() {
            self.drop_all(Reason::InvalidPort, batch);
        }
    }

    fn recirculate(&mut self, batch: &mut Batch, depth: u32) {
        self.look_up_again(batch, depth);
    }

    fn meter(&mut self, batch: &mut Batch, id: u32) {
        let port = batch.first().map_or(DpPort::NONE, |p| p.md.in_port);
        let before = batch.len();
        self.shared.meters.run(id, batch, self.now);
        self.count_drops(Reason::Meter, port, before - batch.len());
    }

    fn track(&mut self, batch: &mut Batch, ct: &Ct) -> Vec<Packet> {
        self.shared.conntrack.execute(batch, ct, self.now)
    }

    fn chance(&mut self) -> u32 {
        self.random.next()
    }

    fn tunnel_push(&mut self, batch: &mut Batch, push: &TunnelPush, more: &mut Vec<Packet>) {
        let port = self.tx.port(push.tnl_port).map(|p| p.netdev.class());
        let Some(PortClass::Tunnel(tunnel)) = port else {
            return self.drop_all(Reason::TunnelPushError, batch);
        };
        let before = batch.len();
        let mtu = || self.tx.port(push.out_port)?.netdev.mtu().ok();
        let dropped = crate::tunnel::push_batch(batch, push, tunnel, mtu, more);
        self.count_drops(Reason::TunnelPushError, push.tnl_port, dropped);
        self.copied((batch.len() + more.len()) - (before - dropped));
    }

    fn tunnel_pop(&mut self, batch: &mut Batch, port: DpPort, depth: u32) {
        if batch.iter().any(gso::is_uso) {
            return self.tunnel_pop_segments(batch, port, depth);
        }
        let class = self.tx.port(port).map(|p| p.netdev.class());
        let Some(PortClass::Tunnel(tunnel)) = class else {
            return self.drop_all(Reason::InvalidTnlPort, batch);
        };
        let before = batch.len();
        let mut refused = 0;
        let popped = crate::tunnel::pop_batch(batch, port, tunnel, self.now, |error| {
            refused += 1;
            self.count_drops(Reason::popping(error), port, 1);
        });
        self.count_drops(Reason::FragmentExpired, port, popped.given_up);
        // Those that wait have ended in others, until they are given up.
        let ended = batch.len() + refused + popped.given_up;
        let copied = ended.wrapping_sub(before) as u64;
        if copied != 0 {
            self.me.counters.add(Count::Copied, copied);
        }
        if !batch.is_empty() {
            self.look_up_again(batch, depth);
        }
    }

    /// Sends a packet up. What goes up is complete: whoever looks at it, or keeps it and gives it back, does not
    /// know of checksums and segments that were left to the hardware.
    fn userspace(
        &mut self,
        mut packet: Packet,
        what: &Userspace,
        actions: &[Action],
        depth: u32,
        copy: bool,
    ) {
        let max = packet.size().saturating_sub(packet.cutlen as usize);
        packet.cutlen = 0;
        let limit = match what.cookie {
            Cookie::Controller { .. } => CONTROLLER_SEGMENTS,
            _ => usize::MAX,
        };
        let in_port = packet.md.in_port;
        let mut n = 0;
        gso::finish(packet, |mut packet| {
            n += 1;
            if n > limit {
                return self.lost_above(in_port, copy);
            }
            packet.cutlen = packet.size().saturating_sub(max) as u32;
            self.userspace_one(packet, what, actions, depth, copy);
        });
        self.became(n, in_port);
    }

    fn dropped(&mut self, reason: Reason, batch: &mut Batch) {
        self.drop_all(reason, batch);
    }

    fn copied(&mut self, n: usize) {
        if n > 0 {
            self.me.counters.add(Count::Copied, n as u64);
        }
    }

    fn spent(&mut self, n: usize) {
        self.me
            .counters
            .add(Count::Copied, (n as u64).wrapping_neg());
    }
}
