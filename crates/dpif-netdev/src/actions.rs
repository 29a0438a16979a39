//! Runs actions on batches of packets.
//!
//! A batch is owned by the list of actions that runs on it: the last action that sends takes the packets
//! themselves, an earlier one duplicates, which share the bytes until somebody changes them. What an action needs
//! beyond the packets, ports and lookups and who answers questions, is [`Around`] it.

use ferrovs_datapath::action::{Action, Ct, DropReason, HashAlg, TunnelPush, Userspace};
use ferrovs_datapath::edit::{self, Outcome};
use ferrovs_datapath::help::MIN_TRUNCATED;
use ferrovs_packet::buffer::{BATCH, Batch, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::hash::{HashFields, fold32, mix};
use ferrovs_packet::miniflow::hash_5tuple;
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::coverage;

/// How deep actions may nest in actions.
const MAX_NESTING: u32 = 32;

/// What actions act upon. What takes a batch may leave packets in it, which are dropped.
pub trait Around {
    fn output(&mut self, batch: &mut Batch, port: DpPort);
    /// Looks the packets up again; they have been so `depth` times.
    fn recirculate(&mut self, batch: &mut Batch, depth: u32);
    /// Sends a packet up, for one of `actions`.
    fn userspace(&mut self, packet: Packet, what: &Userspace, actions: &[Action], depth: u32);
    /// Takes out what exceeds a meter.
    fn meter(&mut self, batch: &mut Batch, id: u32);
    /// Puts an outer header in front of the packets; what they are cut into may not fit in the batch.
    fn tunnel_push(&mut self, batch: &mut Batch, push: &TunnelPush, more: &mut Vec<Packet>);
    /// Takes the outer headers off and looks the packets up as ones that the tunnel port received.
    fn tunnel_pop(&mut self, batch: &mut Batch, port: DpPort, depth: u32);
    /// Has the packets tracked. Fragments may stay away until their packet is whole; what then finds no room in the
    /// batch is given back.
    fn track(&mut self, batch: &mut Batch, ct: &Ct) -> Vec<Packet>;
    /// Any number.
    fn chance(&mut self) -> u32;
}

/// Runs `actions` on a batch, whose packets were looked up again `depth` times, and leaves it empty.
pub fn run(around: &mut impl Around, batch: &mut Batch, actions: &[Action], depth: u32) {
    if actions.is_empty() {
        coverage::DROP_ACTION_OF_PIPELINE.add(batch.len() as u64);
    }
    Run { around, depth }.list(batch, actions, 0);
    batch.clear();
}

struct Run<'a, A> {
    around: &'a mut A,
    depth: u32,
}

impl<A: Around> Run<'_, A> {
    fn list(&mut self, batch: &mut Batch, actions: &[Action], nesting: u32) {
        if nesting > MAX_NESTING {
            batch.clear();
            return;
        }
        for (i, action) in actions.iter().enumerate() {
            if batch.is_empty() {
                return;
            }
            let mut copy = Batch::new();
            let last = i + 1 == actions.len();
            match action {
                Action::Output(port) => {
                    let packets = lend(batch, &mut copy, last);
                    self.around.output(packets, *port);
                    uncut(batch);
                }
                Action::Userspace(userspace) => {
                    for packet in lend(batch, &mut copy, last).drain(..) {
                        self.around
                            .userspace(packet, userspace, actions, self.depth);
                    }
                    uncut(batch);
                }
                Action::Recirc(id) => {
                    let packets = lend(batch, &mut copy, last);
                    for packet in packets.iter_mut() {
                        packet.md.recirc_id = *id;
                    }
                    self.around.recirculate(packets, self.depth);
                }
                Action::TunnelPop(port) => {
                    let packets = lend(batch, &mut copy, last);
                    self.around.tunnel_pop(packets, *port, self.depth);
                }
                Action::Clone(_) | Action::Sample { .. } | Action::CheckPktLen { .. } => {
                    self.nested(lend(batch, &mut copy, last), action, nesting + 1);
                }
                Action::Ct(ct) => {
                    let rest = self.around.track(batch, ct);
                    self.go_on(batch, rest, &actions[i + 1..], nesting);
                }
                Action::Meter(id) => self.around.meter(batch, *id),
                // Without an action behind it the packets would go nowhere.
                Action::TunnelPush(_) if last => {}
                Action::TunnelPush(push) => {
                    let mut more = Vec::new();
                    self.around.tunnel_push(batch, push, &mut more);
                    self.go_on(batch, more, &actions[i + 1..], nesting);
                }
                _ => change(batch, action),
            }
        }
    }

    /// Runs what is left of a list on packets of which some found no room in the batch, in their order. Without such
    /// the list simply goes on.
    fn go_on(&mut self, batch: &mut Batch, rest: Vec<Packet>, after: &[Action], nesting: u32) {
        if rest.is_empty() {
            return;
        }
        self.list(batch, after, nesting);
        let mut rest = rest.into_iter().peekable();
        while rest.peek().is_some() {
            let mut next: Batch = rest.by_ref().take(BATCH).collect();
            self.list(&mut next, after, nesting);
        }
        batch.clear();
    }

    /// Runs the actions that an action holds.
    fn nested(&mut self, batch: &mut Batch, action: &Action, nesting: u32) {
        match action {
            Action::Clone(inner) => self.list(batch, inner, nesting),
            Action::Sample {
                probability,
                actions,
            } => {
                batch.retain(|_| *probability == u32::MAX || self.around.chance() < *probability);
                self.list(batch, actions, nesting);
            }
            Action::CheckPktLen {
                size,
                greater,
                less_equal,
            } => {
                let is_long = |p: &Packet| gso::size_on_wire(p) > usize::from(*size);
                let (mut long, mut short): (Batch, Batch) = batch.drain(..).partition(is_long);
                self.list(&mut long, greater, nesting);
                self.list(&mut short, less_equal, nesting);
            }
            _ => {}
        }
    }
}

/// Does what concerns nothing but the packets.
fn change(batch: &mut Batch, action: &Action) {
    match action {
        Action::Trunc(max) => {
            for packet in batch {
                let max = (*max).max(MIN_TRUNCATED);
                packet.cutlen = (packet.size() as u32).saturating_sub(max);
            }
        }
        Action::Hash { alg, basis } => {
            for packet in batch {
                // Zero would say that there is no hash.
                packet.md.dp_hash = hash(packet, *alg, *basis).max(1);
            }
        }
        Action::Drop(reason) => {
            count_drop(*reason, batch.len() as u64);
            batch.clear();
        }
        Action::LbOutput(_) => {
            coverage::DATAPATH_DROP_INVALID_BOND.add(batch.len() as u64);
            batch.clear();
        }
        Action::DecTtl { .. } | Action::Psample { .. } => {
            coverage::DATAPATH_DROP_USERSPACE_ACTION_ERROR.add(batch.len() as u64);
            batch.clear();
        }
        edit => batch.retain(|packet| edit::apply(edit, packet) != Outcome::Drop),
    }
}

fn hash(packet: &mut Packet, alg: HashAlg, basis: u32) -> u32 {
    match alg {
        // The same whether a lookup has needed it before or not.
        HashAlg::L4 => {
            let known = packet.rss_hash;
            let rss = known.unwrap_or_else(|| hash_5tuple(&Flow::from_packet(packet), 0));
            fold32(mix(rss.into(), basis.into()))
        }
        HashAlg::SymL4 => HashFields::SymmetricL4.hash(&Flow::from_packet(packet), basis),
    }
}

/// The packets for an action that keeps them: themselves for the last one, else duplicates.
fn lend<'a>(batch: &'a mut Batch, copy: &'a mut Batch, last: bool) -> &'a mut Batch {
    if last {
        return batch;
    }
    copy.extend(batch.iter().map(Packet::duplicate));
    copy
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

#[cfg(test)]
mod tests {
    use ferrovs_datapath::text::parse_actions;

    use super::*;

    /// What was done with packets, in order: a word, and the size of each.
    #[derive(Default)]
    struct Seen(Vec<(String, Vec<usize>)>);

    impl Seen {
        fn note(&mut self, what: String, batch: &Batch) {
            let sizes = batch.iter().map(|p| p.size() - p.cutlen as usize);
            self.0.push((what, sizes.collect()));
        }
    }

    impl Around for Seen {
        fn output(&mut self, batch: &mut Batch, port: DpPort) {
            self.note(format!("out {}", port.0), batch);
        }
        fn recirculate(&mut self, batch: &mut Batch, depth: u32) {
            let id = batch[0].md.recirc_id;
            self.note(format!("recirc {id} {depth}"), batch);
        }
        fn userspace(&mut self, packet: Packet, _: &Userspace, _: &[Action], _: u32) {
            self.note("up".to_owned(), &[packet].into_iter().collect());
        }
        fn meter(&mut self, batch: &mut Batch, id: u32) {
            batch.truncate(id as usize);
        }
        fn tunnel_push(&mut self, batch: &mut Batch, _: &TunnelPush, _: &mut Vec<Packet>) {
            self.note("push".to_owned(), batch);
        }
        fn tunnel_pop(&mut self, batch: &mut Batch, port: DpPort, _: u32) {
            self.note(format!("pop {}", port.0), batch);
        }
        fn track(&mut self, batch: &mut Batch, ct: &Ct) -> Vec<Packet> {
            self.note(format!("ct {}", ct.zone), batch);
            (0..ct.zone).map(|_| Packet::from_slice(&[0; 70])).collect()
        }
        fn chance(&mut self) -> u32 {
            self.0.len() as u32
        }
    }

    fn seen(sizes: &[usize], text: &str) -> Vec<(String, Vec<usize>)> {
        let mut seen = Seen::default();
        let packets = sizes.iter().map(|n| Packet::from_slice(&vec![0; *n]));
        let mut batch: Batch = packets.collect();
        run(
            &mut seen,
            &mut batch,
            &parse_actions(text, None).unwrap(),
            2,
        );
        assert!(batch.is_empty());
        seen.0
    }

    fn list(of: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        of.iter()
            .map(|(w, n)| (w.to_string(), n.to_vec()))
            .collect()
    }

    #[test]
    fn each_action_sees_what_those_before_it_left() {
        let (a, b) = (&[60, 200][..], &[64, 204][..]);
        assert_eq!(
            seen(a, "1,push_vlan(vid=5,pcp=0),2,pop_vlan,recirc(7)"),
            list(&[("out 1", a), ("out 2", b), ("recirc 7 2", a)])
        );
        assert_eq!(
            seen(a, "trunc(100),1,2,meter(1),tnl_pop(4),drop,5"),
            list(&[("out 1", &[60, 100]), ("out 2", a), ("pop 4", &[60])])
        );
        assert_eq!(
            seen(a, "ct(commit),recirc(9)"),
            list(&[("ct 0", a), ("recirc 9 2", a)])
        );
        // Fragments that had to wait for each other come out together.
        let (full, rest) = ([70; BATCH], [70; 8]);
        assert_eq!(
            seen(a, "ct(zone=40),recirc(9)"),
            list(&[
                ("ct 40", a),
                ("recirc 9 2", a),
                ("recirc 9 2", &full),
                ("recirc 9 2", &rest)
            ])
        );
        assert_eq!(
            seen(a, "userspace(pid=0,userdata(01)),3"),
            list(&[("up", &[60]), ("up", &[200]), ("out 3", a)])
        );
    }

    #[test]
    fn actions_in_actions_change_packets_of_their_own() {
        let a = &[60, 200][..];
        assert_eq!(
            seen(a, "clone(push_vlan(vid=5,pcp=0),1),2"),
            list(&[("out 1", &[64, 204]), ("out 2", a)])
        );
        assert_eq!(
            seen(a, "check_pkt_len(size=100,gt(1),le(2)),3"),
            list(&[("out 1", &[200]), ("out 2", &[60]), ("out 3", a)])
        );
        // The chance is one less than the least that is taken, then more.
        assert_eq!(
            seen(
                a,
                "sample(sample=100.0%,actions(1)),sample(sample=0.0%,actions(2))"
            ),
            list(&[("out 1", a)])
        );
    }
}
