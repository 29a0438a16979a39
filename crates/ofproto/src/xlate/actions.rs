//! What each OpenFlow action does to the translation.

use std::sync::Arc;

use ferrovs_datapath::action::{Action as DpAction, Cookie, DropReason, SlowPath, Userspace};
use ferrovs_openflow::action::{Action, Resubmit, TABLE_ALL};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::field::{FieldId, FieldValue, SubField};
use ferrovs_packet::flow::PT_ETH;
use ferrovs_packet::gso;
use ferrovs_packet::types::OfPort;

use super::ctx::{Ctx, Walk, open_last_clone};
use super::describe;
use super::recirc::{FrozenMetadata, FrozenState};
use super::trace::NodeKind;
use crate::rule::Rule;

impl Ctx<'_> {
    /// Runs a list of actions. `last`: nothing follows that could see what they changed.
    pub fn do_actions(&mut self, actions: &[Action], last: bool) {
        for (i, action) in actions.iter().enumerate() {
            if self.error != DropReason::Ok {
                break;
            }
            self.recirculate_for_mpls(action);
            if self.exit {
                if self.freeze.on {
                    self.freeze_rest(&actions[i..]);
                }
                break;
            }
            self.trace_action(action);
            if let Action::CheckPktLarger { pkt_len, dst } = action
                && self.snapshot.features.check_pkt_len
            {
                // Both outcomes run the rest of the list, each in its branch.
                self.check_pkt_larger(*pkt_len, dst, &actions[i + 1..]);
                return;
            }
            let last = last && i + 1 == actions.len() && self.action_set.is_empty();
            self.do_action(action, last);
            if std::mem::take(&mut self.stop) {
                break;
            }
        }
        if actions.is_empty()
            && let Some(trace) = &mut self.trace
        {
            trace.leaf(NodeKind::Action, "drop");
        }
    }

    fn do_action(&mut self, action: &Action, last: bool) {
        match action {
            Action::Output { port, max_len } => self.output_action(*port, *max_len, true, last),
            Action::OutputReg { src, max_len } => self.output_reg(src, *max_len, last),
            Action::OutputTrunc { port, max_len } => self.output_trunc(*port, *max_len, last),
            Action::Group(id) => self.group(*id, last),
            Action::Controller(c) if c.pause => self.pause(c),
            Action::Controller(c) => {
                self.send_to_controller(c.max_len, c.reason, c.controller_id, &c.userdata);
            }
            Action::Enqueue { port, queue } => self.enqueue(*port, *queue, last),
            Action::Bundle(bundle) => self.bundle(bundle, last),
            Action::Learn(learn) => self.learn(learn),
            Action::Multipath(multipath) => self.multipath(multipath),
            Action::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard),

            Action::SetField(_)
            | Action::RegMove { .. }
            | Action::SetVlanVid { .. }
            | Action::SetVlanPcp { .. }
            | Action::StripVlan { .. }
            | Action::PushVlan(_)
            | Action::SetEthSrc(_)
            | Action::SetEthDst(_)
            | Action::SetIpv4Src(_)
            | Action::SetIpv4Dst(_)
            | Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::SetL4SrcPort { .. }
            | Action::SetL4DstPort { .. }
            | Action::DecTtl { .. }
            | Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecNshTtl
            | Action::DeleteField(_)
            | Action::SetTunnel { .. } => self.change_headers(action),
            Action::SetQueue(queue) => self.set_queue(*queue),
            Action::PopQueue => {
                self.wc.masks.skb_priority = u32::MAX;
                self.flow.skb_priority = self.orig_skb_priority;
            }

            Action::Resubmit(resubmit) => self.resubmit(resubmit, last),
            Action::StackPush(src) => self.stack_push(src),
            Action::StackPop(dst) => self.stack_pop(dst),
            Action::Exit => self.exit = true,
            Action::Clone(nested) => self.clone_actions(nested, last),
            Action::CheckPktLarger { pkt_len, dst } => self.is_pkt_larger(*pkt_len, dst),
            Action::DebugSlow => self.slow |= SlowPath::ACTION,
            Action::CtClear => self.ct_clear(),
            Action::UnrollXlate {
                table_id,
                rule_cookie,
            } => self.unroll(*table_id, *rule_cookie),
            Action::Ct(ct) => self.ct(ct),
            Action::Nat(nat) => self.ct_nat(nat),
            Action::Encap(_) | Action::Decap { .. } => self.drop_unsupported(action),
            Action::DebugRecirc => self.trigger_freeze(),
            // These say something about the flow and do nothing to the packet; nothing collects samples.
            Action::Conjunction { .. } | Action::Note(_) | Action::Sample(_) => {}

            Action::Meter(id) => self.meter(*id),
            Action::ClearActions => self.clear_action_set(),
            Action::WriteActions(set) => self.write_actions(set),
            Action::WriteMetadata { metadata, mask } => self.write_metadata(*metadata, *mask),
            Action::GotoTable(table) => self.goto_table(*table, last),
        }
    }

    fn output_reg(&mut self, src: &SubField, max_len: u16, last: bool) {
        let port = self.read(src).to_u64();
        if port <= u64::from(u16::MAX) {
            self.report(&format!("output port is {port}"));
            self.output_action(OfPort(port as u16), max_len, false, last);
        } else {
            self.warn(&format!("output port {port} is out of range"));
        }
    }

    fn enqueue(&mut self, port: OfPort, queue: u32, last: bool) {
        let before = self.flow.skb_priority;
        self.set_queue(queue);
        self.output_action(port, 0, false, last);
        self.flow.skb_priority = before;
    }

    fn stack_push(&mut self, src: &SubField) {
        let value = self.read(src);
        self.stack.push(value);
    }

    fn stack_pop(&mut self, dst: &SubField) {
        let Some(value) = self.stack.pop() else {
            return self.warn("attempted to pop from empty stack");
        };
        self.mask_subfield(dst);
        self.write(dst, &value);
        self.report_subfield(dst);
    }

    fn ct_clear(&mut self) {
        if self.conntracked {
            if self.snapshot.features.ct_clear {
                self.actions.push(DpAction::CtClear);
            }
            self.clear_conntrack();
            self.conntracked = false;
        }
    }

    /// Goes on behind a resubmit, in the table and rule that it stood in.
    fn unroll(&mut self, table_id: u8, rule_cookie: u64) {
        self.table_id = table_id;
        self.rule_cookie = rule_cookie;
        // The cookie is shown as it lies in memory.
        let cookie = rule_cookie.swap_bytes();
        let cookie = match cookie {
            0 => "0".to_string(),
            cookie => format!("{cookie:#x}"),
        };
        self.report_thaw(&format!(
            "restored state: table={table_id}, cookie={cookie}"
        ));
    }

    fn clear_action_set(&mut self) {
        if self.trace.is_some() {
            let was = self.describe_action_set("action set was");
            self.report(&was);
        }
        self.action_set.clear();
    }

    fn write_metadata(&mut self, metadata: u64, mask: u64) {
        let old = self.flow.metadata.get();
        self.wc.masks.metadata = (self.wc.masks.metadata.get() | mask).into();
        self.flow.metadata = (old & !mask | metadata & mask).into();
    }

    fn goto_table(&mut self, table: u8, last: bool) {
        let in_port = OfPort(self.flow.in_port as u16);
        let walk = Walk {
            honor_miss: true,
            last,
            ..Walk::default()
        };
        self.table_action(in_port, table, &walk);
    }

    /// Headers that this switch neither adds nor takes off: flows with such actions are refused, and what comes here
    /// all the same goes no further.
    fn drop_unsupported(&mut self, action: &Action) {
        self.error = DropReason::UnsupportedPacketType;
        if self.trace.is_some() {
            let action = self.with_names(|names| describe::action(action, names));
            let on = describe_packet_type(self.flow.packet_type.get());
            let text =
                format!("Dropping packet as {action} is not supported for packet type {on}.");
            self.trace_line(NodeKind::Action, &text);
        }
    }

    // Fields.

    /// The value of a subfield; its bits decide from now on.
    pub fn read(&mut self, src: &SubField) -> FieldValue {
        self.mask_subfield(src);
        src.value_in(&self.flow, &self.bridge.tun_table)
    }

    /// Gives a subfield a value.
    pub fn write(&mut self, dst: &SubField, value: &FieldValue) {
        let bridge = self.bridge;
        dst.set_in(value, &mut self.flow, &bridge.tun_table);
    }

    pub fn mask_subfield(&mut self, sub: &SubField) {
        sub.mask_bits_in(&mut self.wc, &self.bridge.tun_table);
    }

    /// The value of a whole field.
    pub fn field_value(&self, field: FieldId) -> FieldValue {
        let table = &self.bridge.tun_table;
        field.field().value_in(&self.flow, table)
    }

    pub fn mask_field_bits(&mut self, field: FieldId, mask: &FieldValue) {
        let table = &self.bridge.tun_table;
        let field = field.field();
        field.mask_field_bits_in(mask, &mut self.wc, table);
    }

    fn set_queue(&mut self, queue: u32) {
        self.wc.masks.skb_priority = u32::MAX;
        // The userspace datapath takes the queue's number itself for the priority.
        self.flow.skb_priority = queue;
    }

    /// Compares the length of this packet; that of the next of its flow may be another.
    fn is_pkt_larger(&mut self, pkt_len: u16, dst: &SubField) {
        let is_larger = |p: &Packet| gso::size_on_wire(p) > usize::from(pkt_len);
        let larger = self.packet.is_some_and(is_larger);
        self.slow |= SlowPath::ACTION;
        self.write(dst, &FieldValue::from(u128::from(larger)));
    }

    /// Leaves it to the datapath to compare the length of each packet, and translates `rest` for both outcomes.
    fn check_pkt_larger(&mut self, pkt_len: u16, dst: &SubField, rest: &[Action]) {
        self.commit();
        let outer = std::mem::take(&mut self.actions);
        let (flow, base) = (self.flow, self.base);
        let (stack, set) = (self.stack.clone(), self.action_set.clone());
        let (table, exit, stop) = (self.table_id, self.exit, self.stop);
        let (conntracked, was_mpls) = (self.conntracked, self.was_mpls);
        let branch = |ctx: &mut Self, larger: bool| {
            ctx.write(dst, &FieldValue::from(u128::from(larger)));
            ctx.depth += 1;
            ctx.do_actions(rest, true);
            ctx.end_pipeline();
            ctx.depth -= 1;
            (ctx.flow, ctx.base) = (flow, base);
            (ctx.stack, ctx.action_set) = (stack.clone(), set.clone());
            (ctx.table_id, ctx.exit, ctx.stop) = (table, exit, stop);
            (ctx.conntracked, ctx.was_mpls) = (conntracked, was_mpls);
            std::mem::take(&mut ctx.actions)
        };
        let greater = branch(self, true);
        let less_equal = branch(self, false);
        self.action_set.clear();
        self.actions = outer;
        self.actions.push(DpAction::CheckPktLen {
            size: pkt_len,
            greater,
            less_equal,
        });
    }

    // Tables and nesting.

    fn resubmit(&mut self, resubmit: &Resubmit, last: bool) {
        let in_port = match resubmit.in_port {
            OfPort::IN_PORT => OfPort(self.flow.in_port as u16),
            port => port,
        };
        let table = if resubmit.table == TABLE_ALL {
            self.table_id
        } else {
            resubmit.table
        };
        let walk = Walk {
            with_ct_orig: resubmit.with_ct_orig,
            last,
            ..Walk::default()
        };
        self.table_action(in_port, table, &walk);
    }

    /// Runs actions on a copy of the packet: in place if what they do to it can be undone by a later commit, else in
    /// a clone that the datapath makes.
    pub fn clone_actions(&mut self, actions: &[Action], last: bool) {
        let (flow, stack) = (self.flow, self.stack.clone());
        let set = std::mem::take(&mut self.action_set);
        if last {
            self.do_actions(actions, true);
            self.end_pipeline();
        } else {
            // What both the copy and the packet itself have changed is done once.
            self.commit();
            let (base, conntracked) = (self.base, self.conntracked);
            let was_mpls = self.was_mpls;
            let start = self.actions.len();
            self.do_actions(actions, false);
            self.end_pipeline();
            if !self.actions[start..].iter().all(is_reversible) {
                let mut inner = self.actions.split_off(start);
                open_last_clone(&mut inner);
                self.push_clone(inner);
                self.base = base;
            }
            (self.conntracked, self.was_mpls) = (conntracked, was_mpls);
        }
        (self.flow, self.stack, self.action_set) = (flow, stack, set);
    }

    /// What does to a copy of the packet what `inner` says.
    fn push_clone(&mut self, inner: Vec<DpAction>) {
        /// Levels that a datapath must have for samples to stand in for clones.
        const SAMPLE_NESTING: usize = 3;
        let features = &self.snapshot.features;
        if features.clone {
            self.actions.push(DpAction::Clone(inner));
        } else if features.sample_nesting >= SAMPLE_NESTING {
            self.actions.push(DpAction::Sample {
                probability: u32::MAX,
                actions: inner,
            });
        } else {
            self.report_error("Failed to compose clone action");
        }
    }

    fn write_actions(&mut self, set: &[Action]) {
        for action in set {
            let same = |a: &Action| match (a, action) {
                (Action::SetField(a), Action::SetField(b)) => a.field == b.field,
                (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
            };
            self.action_set.retain(|a| !same(a));
            self.action_set.push(action.clone());
            if let Action::Output { port, .. } = action {
                self.flow.actset_output = u32::from(port.0);
            }
        }
        if self
            .action_set
            .iter()
            .any(|a| matches!(a, Action::Group(_)))
        {
            self.flow.actset_output = u32::from(OfPort::UNSET.0);
        }
        if self.trace.is_some() {
            let is = self.describe_action_set("action set is:");
            self.report(&is);
        }
    }

    fn describe_action_set(&self, what: &str) -> String {
        let list = ordered_set(&self.action_set);
        if list.is_empty() {
            return format!("{} empty", what.trim_end_matches(':'));
        }
        let list = self.with_names(|names| describe::actions(&list, names));
        format!("{what} {list}")
    }

    /// Runs the action set that the packet collected on its way through the tables.
    pub fn run_action_set(&mut self) {
        if self.error != DropReason::Ok {
            return;
        }
        let set = std::mem::take(&mut self.action_set);
        let list = ordered_set(&set);
        if list.is_empty() {
            return;
        }
        if let Some(trace) = &mut self.trace {
            trace.open(NodeKind::Table, "--. Executing action set:");
        }
        self.in_action_set = true;
        self.do_actions(&list, true);
        self.in_action_set = false;
        if let Some(trace) = &mut self.trace {
            trace.close();
        }
    }

    // Controllers.

    /// Has the datapath send the packet, as it is now, to the controllers.
    pub fn send_to_controller(
        &mut self,
        max_len: u16,
        reason: PacketInReason,
        controller_id: u16,
        userdata: &[u8],
    ) {
        let in_port = OfPort(self.flow.in_port as u16);
        let table_miss = |r: &&Arc<Rule>| r.priority == 0 && r.match_.is_catchall();
        let reason = match reason {
            // The flow that takes what no other of its table takes.
            PacketInReason::Action if self.rule.as_ref().is_some_and(table_miss) => {
                PacketInReason::ExplicitMiss
            }
            other => other,
        };
        self.commit();
        let recirc = self.recirc_table.alloc(FrozenState {
            bridge: self.bridge.id,
            table_id: self.table_id,
            metadata: FrozenMetadata::of(&self.flow),
            stack: self.stack.clone(),
            actions: Vec::new(),
            action_set: Vec::new(),
            conntracked: self.conntracked,
            userdata: userdata.to_vec(),
            rule_cookie: self.rule_cookie,
            ingress: in_port,
        });
        self.actions.push(DpAction::Userspace(Userspace {
            pid: 0,
            cookie: Cookie::Controller {
                dont_send: self.trace.is_some() && self.packet.is_none(),
                continuation: false,
                reason: reason as u8,
                recirc_id: recirc.id,
                rule_cookie: self.rule_cookie,
                controller_id,
                max_len,
                ofp_in_port: in_port.0,
                ofproto: self.bridge.id,
            },
            with_actions: false,
            tunnel_out_port: None,
        }));
        self.recircs.push(recirc);
    }

    // Groups and meters.

    fn group(&mut self, id: u32, last: bool) {
        if !self.may_go_deeper() {
            return;
        }
        match self.bridge.tables.groups().find_in(id, self.version) {
            Some(group) => super::group::run(self, &group, last),
            None => self.warn(&format!("output to nonexistent group {id}")),
        }
    }

    fn meter(&mut self, id: u32) {
        match self.bridge.meters.pin().get(&id) {
            Some(&meter) => self.actions.push(DpAction::Meter(meter)),
            None => self.warn(&format!("meter {id} does not exist, ignored")),
        }
    }
}

/// A packet type as texts of errors have it.
fn describe_packet_type(packet_type: u32) -> String {
    match packet_type {
        PT_ETH => "ethernet".into(),
        other => format!("({},{:#x})", other >> 16, other & 0xffff),
    }
}

/// The actions of a set in the order of OpenFlow 1.5.1, section 5.6; nothing if none of them sends the packet.
pub fn ordered_set(set: &[Action]) -> Vec<Action> {
    let rank = |a: &Action| match a {
        Action::StripVlan { .. } => 0,
        Action::PopMpls(_) => 1,
        Action::Decap { .. } => 2,
        Action::Encap(_) => 3,
        Action::PushMpls(_) => 4,
        Action::PushVlan(_) => 5,
        Action::DecTtl { .. } => 6,
        Action::DecMplsTtl => 7,
        Action::DecNshTtl => 8,
        Action::SetQueue(_) => 10,
        Action::Group(_) => 11,
        Action::Output { .. } => 12,
        Action::Resubmit(_) => 13,
        Action::Ct(_) => 14,
        _ => 9,
    };
    let Some(chosen) = set.iter().map(rank).filter(|&r| r > 10).min() else {
        return Vec::new();
    };
    let mut list: Vec<Action> = set
        .iter()
        .filter(|a| rank(a) <= 10 || rank(a) == chosen)
        .cloned()
        .collect();
    list.sort_by_key(rank);
    list
}

/// Whether a later commit can undo what the action did to the packet.
fn is_reversible(action: &DpAction) -> bool {
    matches!(
        action,
        DpAction::Output(_)
            | DpAction::Set(_)
            | DpAction::PushVlan { .. }
            | DpAction::PopVlan
            | DpAction::PushMpls { .. }
            | DpAction::PopMpls { .. }
            | DpAction::Hash { .. }
            | DpAction::Recirc(_)
            | DpAction::CheckPktLen { .. }
            | DpAction::Clone(_)
            | DpAction::Userspace(_)
            | DpAction::Sample { .. }
            | DpAction::TunnelPush(_)
    )
}
