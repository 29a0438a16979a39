//! Runs actions on batches of packets.
//!
//! A batch is owned by the list of actions that runs on it: the last action that sends takes the packets
//! themselves, an earlier one duplicates, which share the bytes until somebody changes them. Packets that are sent gather in a batch for each port until the received
//! batch is done.

use ferrovs_datapath::action::{Action, Cookie, DropReason, HashAlg, TunnelPush, Userspace};
use ferrovs_datapath::edit::{self, Outcome};
use ferrovs_datapath::help::MIN_TRUNCATED;
use ferrovs_datapath::upcall::{Upcall, UpcallKind};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::hash::{HashFields, fold32, hash_5tuple, mix};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage;

use crate::worker::Worker;

/// Segments of one large frame that a controller gets: all of what hosts send.
const CONTROLLER_SEGMENTS: usize = 128;
/// How deep actions may nest in actions.
const MAX_NESTING: u32 = 32;

impl Worker {
    /// Runs `actions` on a batch and leaves it empty.
    pub fn execute(&mut self, batch: &mut Batch, actions: &[Action], depth: u32) {
        if actions.is_empty() {
            coverage::DROP_ACTION_OF_PIPELINE.add(batch.len() as u64);
        }
        self.run_actions(batch, actions, depth, 0);
        batch.clear();
    }

    fn run_actions(&mut self, batch: &mut Batch, actions: &[Action], depth: u32, nesting: u32) {
        if nesting > MAX_NESTING {
            batch.clear();
            return;
        }
        for (i, action) in actions.iter().enumerate() {
            if batch.is_empty() {
                return;
            }
            let last = i + 1 == actions.len();
            match action {
                Action::Output(port) => {
                    if last {
                        self.tx.output(batch, *port);
                        return;
                    }
                    let mut copy = duplicate(batch);
                    uncut(batch);
                    self.tx.output(&mut copy, *port);
                }
                Action::Trunc(max) => {
                    for packet in batch.iter_mut() {
                        let max = (*max).max(MIN_TRUNCATED);
                        packet.cutlen = (packet.size() as u32).saturating_sub(max);
                    }
                }
                Action::Userspace(userspace) => {
                    let mut own;
                    let packets = if last {
                        &mut *batch
                    } else {
                        own = duplicate(batch);
                        uncut(batch);
                        &mut own
                    };
                    for packet in packets.drain(..) {
                        self.userspace(packet, userspace, actions, depth);
                    }
                }
                Action::Recirc(id) => {
                    let mut own;
                    let packets = if last {
                        &mut *batch
                    } else {
                        own = duplicate(batch);
                        &mut own
                    };
                    for packet in packets.iter_mut() {
                        packet.md.recirc_id = *id;
                    }
                    self.recirculate(packets, depth);
                }
                Action::Hash { alg, basis } => {
                    for packet in batch.iter_mut() {
                        let hash = match alg {
                            // The same whether a lookup has needed it before or not.
                            HashAlg::L4 => {
                                let rss = packet
                                    .rss_hash
                                    .unwrap_or_else(|| hash_5tuple(&Flow::from_packet(packet), 0));
                                fold32(mix(rss.into(), (*basis).into()))
                            }
                            HashAlg::SymL4 => {
                                HashFields::SymmetricL4.hash(&Flow::from_packet(packet), *basis)
                            }
                        };
                        // Zero would say that there is no hash.
                        packet.md.dp_hash = hash.max(1);
                    }
                }
                Action::Clone(inner) => {
                    let mut copy;
                    let packets = if last {
                        &mut *batch
                    } else {
                        copy = duplicate(batch);
                        &mut copy
                    };
                    self.run_actions(packets, inner, depth, nesting + 1);
                    packets.clear();
                }
                Action::Sample {
                    probability,
                    actions: inner,
                } => {
                    let mut chosen = Batch::new();
                    for packet in batch.iter() {
                        if self.random.next() < *probability || *probability == u32::MAX {
                            chosen.push(packet.duplicate());
                        }
                    }
                    self.run_actions(&mut chosen, inner, depth, nesting + 1);
                }
                Action::CheckPktLen {
                    size,
                    greater,
                    less_equal,
                } => {
                    let packets = if last {
                        std::mem::take(batch)
                    } else {
                        duplicate(batch)
                    };
                    let is_long = |p: &Packet| gso::size_on_wire(p) > usize::from(*size);
                    let (mut long, mut short): (Batch, Batch) =
                        packets.into_iter().partition(is_long);
                    self.run_actions(&mut long, greater, depth, nesting + 1);
                    self.run_actions(&mut short, less_equal, depth, nesting + 1);
                }
                Action::Meter(id) => {
                    self.dp.meters.run(*id, batch, self.now);
                }
                // Without an action behind it the packets would go nowhere.
                Action::TunnelPush(_) if last => {}
                Action::TunnelPush(push) => self.tunnel_push(batch, push),
                Action::TunnelPop(port) => {
                    let mut copy;
                    let packets = if last {
                        &mut *batch
                    } else {
                        copy = duplicate(batch);
                        &mut copy
                    };
                    self.tunnel_pop(packets, *port, depth);
                }
                Action::Drop(reason) => {
                    count_drop(*reason, batch.len() as u64);
                    batch.clear();
                    return;
                }
                Action::LbOutput(_) => {
                    coverage::DATAPATH_DROP_INVALID_BOND.add(batch.len() as u64);
                    batch.clear();
                    return;
                }
                // Connection tracking is not part of this datapath yet: its feature probe says so, and what
                // comes here nevertheless goes no further.
                Action::Ct(_) | Action::DecTtl { .. } | Action::Psample { .. } => {
                    coverage::DATAPATH_DROP_USERSPACE_ACTION_ERROR.add(batch.len() as u64);
                    batch.clear();
                    return;
                }
                edit => {
                    batch.retain(|packet| edit::apply(edit, packet) != Outcome::Drop);
                }
            }
        }
    }

    /// Puts an outer header in front of the packets.
    fn tunnel_push(&mut self, batch: &mut Batch, push: &TunnelPush) {
        if let Some(port) = self.tx.port(push.tnl_port) {
            crate::tunnel::push_batch(batch, push, port.netdev.class());
        } else {
            coverage::DATAPATH_DROP_INVALID_TNL_PORT.add(batch.len() as u64);
            batch.clear();
        }
    }

    /// Takes the outer headers off and looks the packets up as ones that the tunnel port received.
    fn tunnel_pop(&mut self, batch: &mut Batch, port: DpPort, depth: u32) {
        let Some(tunnel) = self.tx.port(port) else {
            coverage::DATAPATH_DROP_INVALID_TNL_PORT.add(batch.len() as u64);
            batch.clear();
            return;
        };
        crate::tunnel::pop_batch(batch, port, tunnel.netdev.class());
        if !batch.is_empty() {
            self.recirculate(batch, depth);
        }
    }

    /// Sends a packet up. What goes up is complete: whoever looks at it, or keeps it and gives it back, does not
    /// know of checksums and segments that were left to the hardware.
    fn userspace(&mut self, mut packet: Packet, what: &Userspace, actions: &[Action], depth: u32) {
        let max = packet.size().saturating_sub(packet.cutlen as usize);
        packet.cutlen = 0;
        let limit = match what.cookie {
            Cookie::Controller { .. } => CONTROLLER_SEGMENTS,
            _ => usize::MAX,
        };
        let mut n = 0;
        gso::finish(packet, |mut packet| {
            n += 1;
            if n > limit {
                coverage::DATAPATH_DROP_USERSPACE_ACTION_ERROR.inc();
                return;
            }
            packet.cutlen = packet.size().saturating_sub(max) as u32;
            self.userspace_one(packet, what, actions, depth);
        });
    }

    fn userspace_one(
        &mut self,
        mut packet: Packet,
        what: &Userspace,
        actions: &[Action],
        depth: u32,
    ) {
        let flow = Flow::from_packet(&mut packet);
        if packet.cutlen > 0 {
            gso::cut(&mut packet);
        }
        crate::log::upcall(&self.dp, "action", &packet, &flow);
        let (handler, hash) = (self.dp.handler(), packet.rss_hash);
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
        let Some(reply) = reply else {
            coverage::DATAPATH_DROP_USERSPACE_ACTION_ERROR.inc();
            return;
        };
        let mut batch = Batch::new();
        batch.push(packet);
        self.execute(&mut batch, &reply.actions, depth);
    }
}

/// Copies of all packets.
fn duplicate(batch: &Batch) -> Batch {
    batch.iter().map(Packet::duplicate).collect()
}

/// A truncation holds for one output.
fn uncut(batch: &mut Batch) {
    for packet in batch {
        packet.cutlen = 0;
    }
}

fn count_drop(reason: DropReason, n: u64) {
    let event = match reason {
        DropReason::Ok => &coverage::DROP_ACTION_OF_PIPELINE,
        DropReason::BridgeNotFound => &coverage::DROP_ACTION_BRIDGE_NOT_FOUND,
        DropReason::RecursionTooDeep => &coverage::DROP_ACTION_RECURSION_TOO_DEEP,
        DropReason::TooManyResubmits => &coverage::DROP_ACTION_TOO_MANY_RESUBMIT,
        DropReason::StackTooDeep => &coverage::DROP_ACTION_STACK_TOO_DEEP,
        DropReason::NoRecirculationContext => &coverage::DROP_ACTION_NO_RECIRCULATION_CONTEXT,
        DropReason::RecirculationConflict => &coverage::DROP_ACTION_RECIRCULATION_CONFLICT,
        DropReason::TooManyMplsLabels => &coverage::DROP_ACTION_TOO_MANY_MPLS_LABELS,
        DropReason::InvalidTunnelMetadata => &coverage::DROP_ACTION_INVALID_TUNNEL_METADATA,
        DropReason::UnsupportedPacketType => &coverage::DROP_ACTION_UNSUPPORTED_PACKET_TYPE,
        DropReason::CongestionDrop => &coverage::DROP_ACTION_CONGESTION,
        DropReason::ForwardingDisabled => &coverage::DROP_ACTION_FORWARDING_DISABLED,
        DropReason::TunnelRoutingFailed => &coverage::DROP_ACTION_TUNNEL_ROUTING_FAILED,
        DropReason::TunnelOutputNoEthernet => &coverage::DROP_ACTION_TUNNEL_OUTPUT_NO_ETHERNET,
        DropReason::TunnelNeighCacheMiss => &coverage::DROP_ACTION_TUNNEL_NEIGH_CACHE_MISS,
        DropReason::TunnelHeaderBuildFailed => &coverage::DROP_ACTION_TUNNEL_HEADER_BUILD_FAILED,
    };
    event.add(n);
}
