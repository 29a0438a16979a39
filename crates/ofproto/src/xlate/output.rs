//! How a packet leaves: by a datapath port, through a patch port into another bridge, or through a tunnel.

use ferrovs_datapath::action::{Action as DpAction, DropReason, SlowPath};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::flow::FLOW_N_REGS;
use ferrovs_packet::types::{DpPort, OfPort};

use super::ctx::{Ctx, PC_NO_FLOOD, PC_NO_FWD, Walk};
use super::snapshot::XPort;
use super::trace::NodeKind;

impl Ctx<'_> {
    /// Output to a port number, reserved ones included.
    pub fn output_action(&mut self, port: OfPort, max_len: u16, may_packet_in: bool, last: bool) {
        let in_port = OfPort(self.flow.in_port as u16);
        match port {
            OfPort::IN_PORT => self.compose_output(in_port, 0, last),
            OfPort::TABLE => {
                let walk = Walk {
                    honor_miss: may_packet_in,
                    last,
                    ..Walk::default()
                };
                self.table_action(in_port, 0, &walk);
            }
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => self.flood_ports(false, last),
            OfPort::ALL => self.flood_ports(true, last),
            OfPort::CONTROLLER => self.send_to_controller(max_len, self.output_reason(), 0, &[]),
            OfPort::NONE => {}
            port if port == in_port => self.warn("skipping output to input port"),
            port => self.compose_output(port, 0, last),
        }
    }

    /// Why a packet that is output to the controller goes there.
    fn output_reason(&self) -> PacketInReason {
        if self.in_packet_out {
            PacketInReason::PacketOut
        } else if self.in_bucket {
            PacketInReason::Group
        } else if self.in_action_set {
            PacketInReason::ActionSet
        } else {
            PacketInReason::Action
        }
    }

    /// Output of at most `max_len` bytes of the packet.
    pub fn output_trunc(&mut self, port: OfPort, max_len: u32, last: bool) {
        let in_port = OfPort(self.flow.in_port as u16);
        match port {
            OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::NONE => {
                self.warn(&format!("output_trunc does not support port: {}", port.0));
            }
            OfPort::IN_PORT => self.compose_output(in_port, max_len, last),
            port if port == in_port => self.warn("skipping output to input port"),
            port => self.compose_output(port, max_len, last),
        }
    }

    fn flood_ports(&mut self, all: bool, last: bool) {
        let in_port = OfPort(self.flow.in_port as u16);
        let bridge = self.bridge;
        let floods = |p: &XPort| all || p.config & PC_NO_FLOOD == 0;
        let is_output =
            |p: &&OfPort| **p != in_port && bridge.ports.get(*p).is_some_and(|p| floods(p));
        let mut ports = bridge.flood_order().iter().filter(is_output).peekable();
        while let Some(port) = ports.next() {
            self.compose_output(*port, 0, last && ports.peek().is_none());
        }
    }

    /// Sends the packet out of a port. `max_len` 0 sends all of it.
    pub fn compose_output(&mut self, ofport: OfPort, max_len: u32, last: bool) {
        let bridge = self.bridge;
        let Some(port) = bridge.ports.get(&ofport) else {
            self.warn("Nonexistent output port");
            return;
        };
        if port.config & PC_NO_FWD != 0 {
            self.report("OFPPC_NO_FWD set, skipping output");
            return;
        }
        if let Some(peer) = port.peer {
            if max_len > 0 {
                let text = format!("output_trunc does not support patch port {}", ofport.0);
                return self.report_error(&text);
            }
            return self.patch_output(port, peer, last);
        }
        if port.netdev.kind() == "patch" {
            self.report("Nonexistent patch port peer");
            return;
        }
        if port.tunnel.is_some() {
            return self.tunnel_output(port, max_len);
        }
        if port.dp_port == DpPort::NONE {
            return;
        }
        if !self.flow.is_ethernet() {
            return self.warn_no_ethernet();
        }
        self.trunc(max_len);
        self.commit();
        if let Some(tunnel_port) = self.terminates_tunnel(port) {
            self.actions.push(DpAction::TunnelPop(tunnel_port));
            return;
        }
        self.actions.push(DpAction::Output(port.dp_port));
    }

    /// Has the datapath cut the next output, if `max_len` is not 0.
    pub(super) fn trunc(&mut self, max_len: u32) {
        if max_len > 0 {
            self.actions.push(DpAction::Trunc(max_len));
            if !self.snapshot.features.trunc {
                self.slow |= SlowPath::ACTION;
            }
        }
    }

    pub(super) fn warn_no_ethernet(&mut self) {
        self.warn("Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.");
    }

    /// Goes on in the bridge at the other end, with nothing but the packet itself.
    fn patch_output(&mut self, port: &XPort, (peer_bridge, peer_port): (u128, OfPort), last: bool) {
        let snapshot = self.snapshot;
        let peer = snapshot
            .bridges
            .get(&peer_bridge)
            .and_then(|b| Some((b, b.ports.get(&peer_port)?)));
        let Some((bridge, peer)) = peer else {
            self.report("Nonexistent patch port peer");
            return;
        };
        self.credit_tx(port);
        let flow = self.flow;
        self.flow.in_port = u32::from(peer.ofport.0);
        self.flow.metadata = 0.into();
        self.flow.regs = [0; FLOW_N_REGS];
        self.flow.actset_output = u32::from(OfPort::UNSET.0);
        self.flow.conj_id = 0;
        self.clear_conntrack();
        self.in_bridge(bridge, |ctx| {
            ctx.credit_rx(peer);
            if !ctx.process_special(peer) && ctx.may_receive(peer) {
                let walk = Walk {
                    honor_miss: true,
                    cloned: true,
                    last,
                    ..Walk::default()
                };
                ctx.table_action(peer.ofport, 0, &walk);
                ctx.end_pipeline();
            }
        });
        self.flow = flow;
    }

    /// Runs part of the translation as another bridge, with a stack and an action set of its own.
    pub fn in_bridge(
        &mut self,
        bridge: &'_ std::sync::Arc<super::snapshot::XBridge>,
        run: impl FnOnce(&mut Self),
    ) {
        // The snapshot outlives the translation; look the bridge up there to get its lifetime.
        let Some(bridge) = self.snapshot.bridges.get(&bridge.id) else {
            return;
        };
        if let Some(trace) = &mut self.trace {
            trace.open(NodeKind::Bridge, &format!("bridge(\"{}\")", bridge.name));
        }
        let pin = bridge.tables.pin();
        let old_bridge = std::mem::replace(&mut self.bridge, bridge);
        let own = self.unpublished.filter(|_| bridge.id == self.home);
        let version = own.unwrap_or(pin.version);
        let old_version = std::mem::replace(&mut self.version, version);
        let stack = std::mem::take(&mut self.stack);
        let set = std::mem::take(&mut self.action_set);
        let saved = (
            self.table_id,
            self.rule_cookie,
            self.rule.take(),
            self.conntracked,
            self.was_mpls,
        );
        let in_bucket = std::mem::replace(&mut self.in_bucket, false);
        self.conntracked = false;
        run(self);
        (
            self.table_id,
            self.rule_cookie,
            self.rule,
            self.conntracked,
            self.was_mpls,
        ) = saved;
        // What ends or goes wrong there ends nothing here.
        self.exit = false;
        self.error = DropReason::Ok;
        self.in_bucket = in_bucket;
        self.bridge = old_bridge;
        self.version = old_version;
        self.stack = stack;
        self.action_set = set;
        if let Some(trace) = &mut self.trace {
            trace.close();
        }
    }
}
