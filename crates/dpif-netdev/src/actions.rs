//! Runs actions on batches of packets.
//!
//! A batch is owned by the list of actions that runs on it: the last action that sends takes the packets
//! themselves, an earlier one duplicates, which share the bytes until somebody changes them. What an action needs
//! beyond the packets, ports and lookups and who answers questions, is [`Around`] it.
//!
//! No packet ends here without being told of: dropped for a reason, or spent, when it is a copy or a copy of it has
//! gone where it should.

use ferrovs_datapath::action::{Action, Ct, HashAlg, TunnelPush, Userspace};
use ferrovs_datapath::edit::{self, Outcome};
use ferrovs_datapath::help::MIN_TRUNCATED;
use ferrovs_packet::buffer::{BATCH, Batch, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::hash::{HashFields, fold32, mix};
use ferrovs_packet::miniflow::hash_5tuple;
use ferrovs_packet::types::DpPort;

use crate::drops::Reason;

/// How deep actions may nest in actions.
const MAX_NESTING: u32 = 32;

/// What actions act upon. Where packets go, none is left behind in the batch.
pub trait Around {
    /// Packets are dropped.
    fn dropped(&mut self, reason: Reason, batch: &mut Batch);
    /// There are so many packets more.
    fn copied(&mut self, n: usize);
    /// So many packets end of which a copy has gone where it should.
    fn spent(&mut self, n: usize);
    fn output(&mut self, batch: &mut Batch, port: DpPort);
    /// Looks the packets up again; they have been so `depth` times.
    fn recirculate(&mut self, batch: &mut Batch, depth: u32);
    /// Sends a packet up, for one of `actions`; `copy`: it is a copy, and the packet itself goes on.
    fn userspace(
        &mut self,
        packet: Packet,
        what: &Userspace,
        actions: &[Action],
        depth: u32,
        copy: bool,
    );
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
        // What a translation has nothing to do with.
        return around.dropped(Reason::OfPipeline, batch);
    }
    Run { around, depth }.list(batch, actions, 0, false);
}

struct Run<'a, A> {
    around: &'a mut A,
    depth: u32,
}

impl<A: Around> Run<'_, A> {
    /// Leaves the batch empty. `spare`: of its packets there are copies.
    fn list(&mut self, batch: &mut Batch, actions: &[Action], nesting: u32, mut spare: bool) {
        if nesting > MAX_NESTING {
            return self.around.dropped(Reason::TooNested, batch);
        }
        for (i, action) in actions.iter().enumerate() {
            if batch.is_empty() {
                return;
            }
            let mut copy = Batch::new();
            let last = i + 1 == actions.len();
            match action {
                Action::Output(port) => {
                    let packets = self.lend(batch, &mut copy, last, &mut spare);
                    self.around.output(packets, *port);
                    uncut(batch);
                }
                Action::Userspace(userspace) => {
                    let packets = self.lend(batch, &mut copy, last, &mut spare);
                    for packet in packets.drain(..) {
                        self.around
                            .userspace(packet, userspace, actions, self.depth, !last);
                    }
                    uncut(batch);
                }
                Action::Recirc(id) => {
                    let packets = self.lend(batch, &mut copy, last, &mut spare);
                    for packet in packets.iter_mut() {
                        packet.md.recirc_id = *id;
                    }
                    self.around.recirculate(packets, self.depth);
                }
                Action::TunnelPop(port) => {
                    let packets = self.lend(batch, &mut copy, last, &mut spare);
                    self.around.tunnel_pop(packets, *port, self.depth);
                }
                // Most are not sampled: they need no copy.
                Action::Sample {
                    probability,
                    actions,
                } if !last => {
                    for packet in batch.iter() {
                        if self.is_sampled(*probability) {
                            copy.push(packet.duplicate());
                        }
                    }
                    self.around.copied(copy.len());
                    spare |= !copy.is_empty();
                    self.list(&mut copy, actions, nesting + 1, true);
                }
                Action::Clone(_) | Action::Sample { .. } | Action::CheckPktLen { .. } => {
                    let packets = self.lend(batch, &mut copy, last, &mut spare);
                    self.nested(packets, action, nesting + 1, spare);
                    if matches!(action, Action::Clone(_)) {
                        uncut(batch);
                    }
                }
                Action::Ct(ct) => {
                    let rest = self.around.track(batch, ct);
                    self.go_on(batch, rest, &actions[i + 1..], nesting, spare);
                }
                Action::Meter(id) => self.around.meter(batch, *id),
                // Without an action behind it the packets go nowhere.
                Action::TunnelPush(_) if last => {}
                Action::TunnelPush(push) => {
                    let mut more = Vec::new();
                    self.around.tunnel_push(batch, push, &mut more);
                    self.go_on(batch, more, &actions[i + 1..], nesting, spare);
                }
                Action::Drop(reason) => self.around.dropped((*reason).into(), batch),
                Action::LbOutput(_) => self.around.dropped(Reason::InvalidBond, batch),
                Action::DecTtl { .. } | Action::Psample { .. } => {
                    self.around.dropped(Reason::Unsupported, batch);
                }
                Action::PopNsh => {
                    let fails = |p: &mut Packet| edit::apply(action, p) == Outcome::Drop;
                    let (mut failed, good) = split(batch, fails);
                    *batch = good;
                    self.around.dropped(Reason::NshDecapError, &mut failed);
                }
                _ => change(batch, action),
            }
        }
        match spare {
            _ if batch.is_empty() => {}
            true => self.around.spent(batch.drain(..).count()),
            false => self.around.dropped(Reason::NoOutput, batch),
        }
    }

    /// The packets for an action that keeps them: themselves for the last one, else duplicates.
    fn lend<'a>(
        &mut self,
        batch: &'a mut Batch,
        copy: &'a mut Batch,
        last: bool,
        spare: &mut bool,
    ) -> &'a mut Batch {
        if last {
            return batch;
        }
        *spare = true;
        self.around.copied(batch.len());
        copy.extend(batch.iter().map(Packet::duplicate));
        copy
    }

    /// Runs what is left of a list on packets of which some found no room in the batch, in their order. Without such
    /// the list simply goes on.
    fn go_on(
        &mut self,
        batch: &mut Batch,
        rest: Vec<Packet>,
        after: &[Action],
        nesting: u32,
        spare: bool,
    ) {
        if rest.is_empty() {
            return;
        }
        self.list(batch, after, nesting, spare);
        let mut rest = rest.into_iter().peekable();
        while rest.peek().is_some() {
            let mut next: Batch = rest.by_ref().take(BATCH).collect();
            self.list(&mut next, after, nesting, spare);
        }
    }

    fn is_sampled(&mut self, probability: u32) -> bool {
        probability == u32::MAX || self.around.chance() < probability
    }

    /// Runs the actions that an action holds.
    fn nested(&mut self, batch: &mut Batch, action: &Action, nesting: u32, spare: bool) {
        match action {
            Action::Clone(inner) => self.list(batch, inner, nesting, spare),
            Action::Sample {
                probability,
                actions,
            } => {
                let (mut sampled, mut others) = split(batch, |_| self.is_sampled(*probability));
                self.around.dropped(Reason::SampleError, &mut others);
                self.list(&mut sampled, actions, nesting, spare);
            }
            Action::CheckPktLen {
                size,
                greater,
                less_equal,
            } => {
                let is_long = |p: &mut Packet| gso::size_on_wire(p) > usize::from(*size);
                let (mut long, mut short) = split(batch, is_long);
                self.list(&mut long, greater, nesting, spare);
                self.list(&mut short, less_equal, nesting, spare);
            }
            _ => {}
        }
    }
}

/// Empties a batch into those of which something is true, and the others.
fn split(batch: &mut Batch, is: impl FnMut(&mut Packet) -> bool) -> (Batch, Batch) {
    let mut is = is;
    let (mut yes, mut no) = (Batch::new(), Batch::new());
    for mut packet in batch.drain(..) {
        match is(&mut packet) {
            true => yes.push(packet),
            false => no.push(packet),
        }
    }
    (yes, no)
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
        edit => {
            for packet in batch {
                edit::apply(edit, packet);
            }
        }
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

/// A truncation holds for one output, or for what a clone does.
fn uncut(batch: &mut Batch) {
    for packet in batch {
        packet.cutlen = 0;
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::text::parse_actions;

    use super::*;

    /// What was done with packets, in order: a word, and the size of each.
    #[derive(Default)]
    struct Seen {
        seen: Vec<(String, Vec<usize>)>,
        /// Copies, less what was spent.
        more: i32,
    }

    impl Seen {
        fn note(&mut self, what: String, batch: &Batch) {
            let sizes = batch.iter().map(|p| p.size() - p.cutlen as usize);
            self.seen.push((what, sizes.collect()));
        }
    }

    impl Around for Seen {
        fn dropped(&mut self, reason: Reason, batch: &mut Batch) {
            if !batch.is_empty() {
                self.note(reason.name().to_owned(), batch);
                batch.clear();
            }
        }
        fn copied(&mut self, n: usize) {
            self.more += n as i32;
        }
        fn spent(&mut self, n: usize) {
            self.more -= n as i32;
        }
        fn output(&mut self, batch: &mut Batch, port: DpPort) {
            self.note(format!("out {}", port.0), batch);
            batch.clear();
        }
        fn recirculate(&mut self, batch: &mut Batch, depth: u32) {
            let id = batch[0].md.recirc_id;
            self.note(format!("recirc {id} {depth}"), batch);
            batch.clear();
        }
        fn userspace(&mut self, packet: Packet, _: &Userspace, _: &[Action], _: u32, _: bool) {
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
            batch.clear();
        }
        fn track(&mut self, batch: &mut Batch, ct: &Ct) -> Vec<Packet> {
            self.note(format!("ct {}", ct.zone), batch);
            (0..ct.zone).map(|_| Packet::from_slice(&[0; 70])).collect()
        }
        fn chance(&mut self) -> u32 {
            self.seen.len() as u32
        }
    }

    fn seen(sizes: &[usize], text: &str) -> Vec<(String, Vec<usize>)> {
        ended(sizes, &parse(text)).0
    }

    fn parse(text: &str) -> Vec<Action> {
        parse_actions(text, None).expect(text)
    }

    fn ended(sizes: &[usize], actions: &[Action]) -> (Vec<(String, Vec<usize>)>, i32) {
        let mut seen = Seen::default();
        let packets = sizes.iter().map(|n| Packet::from_slice(&vec![0; *n]));
        let mut batch: Batch = packets.collect();
        run(&mut seen, &mut batch, actions, 2);
        assert!(batch.is_empty());
        (seen.seen, seen.more)
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
            list(&[
                ("out 1", &[60, 100]),
                ("out 2", a),
                ("pop 4", &[60]),
                ("of-pipeline", &[60])
            ])
        );
        assert_eq!(
            seen(
                a,
                "trunc(100),clone(1,2),3,trunc(100),sample(sample=100.0%,actions(1)),2"
            ),
            list(&[
                ("out 1", &[60, 100]),
                ("out 2", a),
                ("out 3", a),
                ("out 1", &[60, 100]),
                ("out 2", &[60, 100])
            ])
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
            list(&[("out 1", a), ("sample-error", a)])
        );
    }

    #[test]
    fn each_packet_that_ends_is_told_of() {
        let a = &[60, 200][..];
        // What comes of a list, with how many packets more there are for a time.
        for (text, want, more) in [
            ("", &[("of-pipeline", a)][..], 0),
            ("1", &[("out 1", a)], 0),
            ("1,2", &[("out 1", a), ("out 2", a)], 2),
            // A copy has gone where it should: there is nothing lost.
            ("1,pop_vlan", &[("out 1", a)], 0),
            ("1,clone(pop_vlan)", &[("out 1", a)], 0),
            ("pop_vlan", &[("no-output", a)], 0),
            ("clone(pop_vlan),1", &[("out 1", a)], 0),
            ("1,drop", &[("out 1", a), ("of-pipeline", a)], 2),
            ("pop_nsh(),1", &[("nsh-decap-error", a)], 0),
            ("lb_output(3)", &[("invalid-bond", a)], 0),
            (
                "check_pkt_len(size=100,gt(1),le(drop))",
                &[("out 1", &[200]), ("no-output", &[60])],
                0,
            ),
            ("sample(sample=0.0%,actions(1)),2", &[("out 2", a)], 0),
            (
                "sample(sample=0.0%,actions(1)),pop_vlan",
                &[("no-output", a)],
                0,
            ),
            ("meter(1)", &[("no-output", &[60])], 0),
        ] {
            let (told, copies) = ended(a, &parse(text));
            assert_eq!((told, copies), (list(want), more), "{text}");
        }
        let deep = (0..40).fold(parse("1"), |inner, _| vec![Action::Clone(inner)]);
        assert_eq!(ended(a, &deep).0, list(&[("too-nested", a)]));
    }
}
