//! What each OpenFlow action does to the translation.

use std::sync::Arc;

use ferrovs_datapath::action::{Action as DpAction, Cookie, DropReason, SlowPath, Userspace};
use ferrovs_openflow::action::{Action, Resubmit, SetField, TABLE_ALL};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::field::{FieldId, FieldValue, Prereq, SubField};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_MAX_VLAN_HEADERS, Flow, IP_DSCP_MASK, IP_ECN_MASK, MPLS_BOS_MASK,
    PT_ETH, VLAN_CFI, VLAN_PCP_MASK, VLAN_PCP_SHIFT, VLAN_VID_MASK, VlanHdr,
};
use ferrovs_packet::types::{Be16, Be32, MacAddr, OfPort, eth_type};

use super::commit::{is_bottom, is_mpls, mpls_count, pop_label, push_label, vlan_count};
use super::ctx::{Ctx, Walk, is_ip_any};
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
            if let Action::CheckPktLarger { pkt_len, dst } = action {
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
            Action::OutputReg { src, max_len } => {
                let port = self.read(src).to_u64();
                if port <= u64::from(u16::MAX) {
                    self.report(&format!("output port is {port}"));
                    self.output_action(OfPort(port as u16), *max_len, false, last);
                } else {
                    self.warn(&format!("output port {port} is out of range"));
                }
            }
            Action::OutputTrunc { port, max_len } => self.output_trunc(*port, *max_len, last),
            Action::Group(id) => self.group(*id, last),
            Action::Controller(c) if c.pause => self.pause(c),
            Action::Controller(c) => {
                self.send_to_controller(c.max_len, c.reason, c.controller_id, &c.userdata);
            }
            Action::Enqueue { port, queue } => {
                let before = self.flow.skb_priority;
                self.set_queue(*queue);
                self.output_action(*port, 0, false, last);
                self.flow.skb_priority = before;
            }
            Action::Bundle(bundle) => self.bundle(bundle, last),
            Action::Learn(learn) => self.learn(learn),
            Action::Multipath(multipath) => self.multipath(multipath),
            Action::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard),

            Action::SetField(set) => self.set_field(set),
            Action::RegMove { src, dst, .. } => self.reg_move(src, dst),
            Action::SetVlanVid {
                vid,
                push_if_needed,
                ..
            } => {
                self.set_vlan_tci(VLAN_VID_MASK, *vid, *push_if_needed);
            }
            Action::SetVlanPcp {
                pcp,
                push_if_needed,
                ..
            } => {
                self.set_vlan_tci(
                    VLAN_PCP_MASK,
                    u16::from(*pcp) << VLAN_PCP_SHIFT,
                    *push_if_needed,
                );
            }
            Action::StripVlan { .. } => self.pop_vlan(),
            Action::PushVlan(tpid) => self.push_vlan(*tpid),
            Action::SetEthSrc(mac) => {
                self.wc.masks.dl_src = MacAddr::BROADCAST;
                self.flow.dl_src = *mac;
            }
            Action::SetEthDst(mac) => {
                self.wc.masks.dl_dst = MacAddr::BROADCAST;
                self.flow.dl_dst = *mac;
            }
            Action::SetIpv4Src(ip) if self.flow.dl_type.get() == eth_type::IP => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_src = u32::MAX.into();
                self.flow.nw_src = u32::from(*ip).into();
            }
            Action::SetIpv4Dst(ip) if self.flow.dl_type.get() == eth_type::IP => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_dst = u32::MAX.into();
                self.flow.nw_dst = u32::from(*ip).into();
            }
            Action::SetIpDscp(dscp) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_tos |= IP_DSCP_MASK;
                self.flow.nw_tos = self.flow.nw_tos & !IP_DSCP_MASK | dscp & IP_DSCP_MASK;
            }
            Action::SetIpEcn(ecn) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_tos |= IP_ECN_MASK;
                self.flow.nw_tos = self.flow.nw_tos & !IP_ECN_MASK | ecn & IP_ECN_MASK;
            }
            Action::SetIpTtl(ttl) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_ttl = 0xff;
                self.flow.nw_ttl = *ttl;
            }
            Action::SetL4SrcPort { port, .. } if self.has_ports() => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.tp_src = 0xffff.into();
                self.flow.tp_src = (*port).into();
            }
            Action::SetL4DstPort { port, .. } if self.has_ports() => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.tp_dst = 0xffff.into();
                self.flow.tp_dst = (*port).into();
            }
            // The packet has no such header.
            Action::SetIpv4Src(_)
            | Action::SetIpv4Dst(_)
            | Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::SetL4SrcPort { .. }
            | Action::SetL4DstPort { .. } => {}
            Action::DecTtl { ids, .. } => self.dec_ttl(ids),
            Action::SetMplsLabel(label) => self.set_mpls(0xffff_f000, label << 12),
            Action::SetMplsTc(tc) => self.set_mpls(0x0000_0e00, u32::from(*tc) << 9),
            Action::SetMplsTtl(ttl) => self.set_mpls(0x0000_00ff, u32::from(*ttl)),
            Action::DecMplsTtl => self.dec_mpls_ttl(),
            Action::PushMpls(ethertype) => self.push_mpls(*ethertype),
            Action::PopMpls(ethertype) => self.pop_mpls(*ethertype),
            Action::DecNshTtl => {
                if self.flow.dl_type.get() == eth_type::NSH {
                    self.wc.masks.nsh.ttl = 0xff;
                    if self.flow.nsh.ttl > 1 {
                        self.flow.nsh.ttl -= 1;
                    } else {
                        self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, 0, &[]);
                        self.stop = true;
                    }
                }
            }
            Action::DeleteField(field) => {
                self.set_field_value(*field, &FieldValue::ZERO);
            }
            Action::SetTunnel { id, .. } => self.flow.tunnel.tun_id = (*id).into(),
            Action::SetQueue(queue) => self.set_queue(*queue),
            Action::PopQueue => {
                self.wc.masks.skb_priority = u32::MAX;
                self.flow.skb_priority = self.orig_skb_priority;
            }

            Action::Resubmit(resubmit) => self.resubmit(resubmit, last),
            Action::StackPush(src) => {
                let value = self.read(src);
                self.stack.push(value);
            }
            Action::StackPop(dst) => match self.stack.pop() {
                Some(value) => {
                    self.mask_subfield(dst);
                    self.write(dst, &value);
                    self.report_subfield(dst);
                }
                None => self.warn("attempted to pop from empty stack"),
            },
            Action::Exit => self.exit = true,
            Action::Clone(nested) => self.clone_actions(nested, last),
            // `do_actions` does it.
            Action::CheckPktLarger { .. } => {}
            Action::DebugSlow => self.slow |= SlowPath::ACTION,
            Action::CtClear => {
                if self.conntracked {
                    self.actions.push(DpAction::CtClear);
                    self.clear_conntrack();
                    self.conntracked = false;
                }
            }
            Action::UnrollXlate {
                table_id,
                rule_cookie,
            } => {
                self.table_id = *table_id;
                self.rule_cookie = *rule_cookie;
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
            Action::Ct(ct) => self.ct(ct),
            Action::Nat(nat) => self.ct_nat(nat),
            Action::Encap(_) | Action::Decap { .. } => self.drop_unsupported(action),
            Action::DebugRecirc => self.trigger_freeze(),
            // These say something about the flow and do nothing to the packet; nothing collects samples.
            Action::Conjunction { .. } | Action::Note(_) | Action::Sample(_) => {}

            Action::Meter(id) => self.meter(*id),
            Action::ClearActions => {
                if self.trace.is_some() {
                    let was = self.describe_action_set("action set was");
                    self.report(&was);
                }
                self.action_set.clear();
            }
            Action::WriteActions(set) => self.write_actions(set),
            Action::WriteMetadata { metadata, mask } => {
                let old = self.flow.metadata.get();
                self.wc.masks.metadata = (self.wc.masks.metadata.get() | mask).into();
                self.flow.metadata = (old & !mask | metadata & mask).into();
            }
            Action::GotoTable(table) => {
                let in_port = OfPort(self.flow.in_port as u16);
                let walk = Walk {
                    honor_miss: true,
                    last,
                    ..Walk::default()
                };
                self.table_action(in_port, *table, &walk);
            }
        }
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

    fn set_field_value(&mut self, field: FieldId, value: &FieldValue) {
        let bridge = self.bridge;
        let field = field.field();
        field.set_value_in(value, &mut self.flow, &bridge.tun_table);
    }

    fn prereqs_ok(&mut self, field: FieldId) -> bool {
        let field = field.field();
        field.prereq.mask(&mut self.wc);
        field.prereqs_ok(&self.flow)
    }

    fn set_field(&mut self, set: &SetField) {
        if !self.prereqs_ok(set.field) {
            self.warn(&format!(
                "unmet prerequisites for {}, set_field ignored",
                set.field.field().name
            ));
            return;
        }
        self.mask_protocol_of(set.field);
        self.mask_field_bits(set.field, &set.mask);
        let value = self.field_value(set.field);
        let value = value.with_masked(&set.value, &set.mask);
        self.set_field_value(set.field, &value);
    }

    fn reg_move(&mut self, src: &SubField, dst: &SubField) {
        if !(self.prereqs_ok(src.field) && self.prereqs_ok(dst.field)) {
            self.warn("unmet prerequisites for move, move ignored");
            return;
        }
        let value = self.read(src);
        self.mask_subfield(dst);
        self.write(dst, &value);
        self.report_subfield(dst);
    }

    /// The protocol decides which checksum follows a change of an IP header, the opcode what ARP says.
    fn mask_protocol_of(&mut self, field: FieldId) {
        if matches!(
            field.field().prereq,
            Prereq::Ipv4 | Prereq::Ipv6 | Prereq::IpAny | Prereq::Arp
        ) {
            self.wc.masks.nw_proto = 0xff;
        }
    }

    /// Whether there is something in the place of ports; what it is does not matter, so that the type of an ICMP
    /// message can be set like a port.
    fn has_ports(&self) -> bool {
        is_ip_any(&self.flow) && self.flow.nw_frag & ferrovs_packet::flow::NW_FRAG_LATER == 0
    }

    fn set_vlan_tci(&mut self, mask: u16, value: u16, push_if_needed: bool) {
        self.mask_outer_vlan();
        let have = self.flow.vlans[0].tci.get() & VLAN_CFI != 0;
        if !have && !push_if_needed {
            return;
        }
        let vlan = &mut self.flow.vlans[0];
        if !have {
            vlan.tpid = eth_type::VLAN_8021Q.into();
        }
        vlan.tci = (vlan.tci.get() & !mask | value & mask | VLAN_CFI).into();
    }

    fn mask_outer_vlan(&mut self) {
        self.wc.masks.vlans[0].tci = 0xffff.into();
    }

    /// The headers below become visible; that the first goes is for the commit to say.
    fn pop_vlan(&mut self) {
        let n = vlan_count(&self.flow);
        self.mask_vlans(n.min(1)..n);
        let vlans = &mut self.flow.vlans;
        vlans.copy_within(1.., 0);
        vlans[FLOW_MAX_VLAN_HEADERS - 1] = VlanHdr::default();
    }

    fn mask_vlans(&mut self, range: std::ops::Range<usize>) {
        self.wc.masks.vlans[range].fill(VlanHdr {
            tpid: 0xffff.into(),
            tci: 0xffff.into(),
        });
    }

    /// Where a key shows no more headers, the innermost gives way.
    fn push_vlan(&mut self, tpid: Be16) {
        self.mask_vlans(0..vlan_count(&self.flow));
        self.flow.vlans.copy_within(..FLOW_MAX_VLAN_HEADERS - 1, 1);
        self.flow.vlans[0] = VlanHdr {
            tpid,
            tci: VLAN_CFI.into(),
        };
    }

    fn dec_ttl(&mut self, ids: &[u16]) {
        if !is_ip_any(&self.flow) {
            return;
        }
        self.wc.masks.nw_ttl = 0xff;
        self.wc.masks.nw_proto = 0xff;
        if self.flow.nw_ttl > 1 {
            self.flow.nw_ttl -= 1;
            return;
        }
        for &id in ids {
            self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, id, &[]);
        }
        self.warn("IPv4 decrement TTL exception");
        self.stop = true;
    }

    fn set_mpls(&mut self, mask: u32, value: u32) {
        if !is_mpls(self.flow.dl_type) {
            return;
        }
        self.wc.masks.mpls_lse[0] = (self.wc.masks.mpls_lse[0].get() | mask).into();
        self.flow.mpls_lse[0] = (self.flow.mpls_lse[0].get() & !mask | value & mask).into();
    }

    fn dec_mpls_ttl(&mut self) {
        if !is_mpls(self.flow.dl_type) {
            return;
        }
        let ttl = self.flow.mpls_lse[0].get() & 0xff;
        self.wc.masks.mpls_lse[0] = (self.wc.masks.mpls_lse[0].get() | 0xff).into();
        if ttl > 1 {
            self.set_mpls(0xff, ttl - 1);
        } else {
            self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, 0, &[]);
            self.warn("MPLS decrement TTL exception");
            self.stop = true;
        }
    }

    fn push_mpls(&mut self, ethertype: Be16) {
        let n = self.count_mpls();
        if n >= FLOW_MAX_MPLS_LABELS {
            let text = (self.packet.is_some()).then(|| {
                format!(
                    "dropping packet on which an MPLS push action can't be performed as it would have more MPLS LSEs than the {FLOW_MAX_MPLS_LABELS} supported."
                )
            });
            self.fail_with(DropReason::TooManyMplsLabels, text.as_deref());
            return;
        }
        if n == 0 {
            // What is above the network layer can be changed no more: the datapath must have it first.
            self.commit();
            let lse = self.first_label();
            push_label(&mut self.flow, 0, lse, ethertype);
            clear_above_mpls(&mut self.flow);
            return;
        }
        for mask in &mut self.wc.masks.mpls_lse[..n] {
            *mask = u32::MAX.into();
        }
        let lse = self.flow.mpls_lse[0].get() & !MPLS_BOS_MASK;
        push_label(&mut self.flow, n, lse.into(), ethertype);
    }

    /// The label for a packet that has none: explicit null of its protocol, with the packet's TTL and as much of
    /// its class as fits.
    fn first_label(&mut self) -> Be32 {
        let f = &self.flow;
        let (mut tc, mut ttl) = (0, 64);
        if is_ip_any(f) {
            self.wc.masks.nw_tos |= IP_DSCP_MASK;
            self.wc.masks.nw_ttl = 0xff;
            tc = u32::from(f.nw_tos & IP_DSCP_MASK) >> 2 & 7;
            if f.nw_ttl != 0 {
                ttl = u32::from(f.nw_ttl);
            }
        }
        let label = match f.dl_type.get() {
            eth_type::IPV6 => 2,
            _ => 0,
        };
        (label << 12 | tc << 9 | MPLS_BOS_MASK | ttl).into()
    }

    /// Number of labels; the bottom-of-stack bits that tell it matter.
    fn count_mpls(&mut self) -> usize {
        if !is_mpls(self.flow.dl_type) {
            return 0;
        }
        let labels = &self.flow.mpls_lse[..FLOW_MAX_MPLS_LABELS];
        for (lse, mask) in labels.iter().zip(&mut self.wc.masks.mpls_lse) {
            *mask = (mask.get() | MPLS_BOS_MASK).into();
            if is_bottom(*lse) {
                break;
            }
        }
        mpls_count(&self.flow)
    }

    fn pop_mpls(&mut self, ethertype: Be16) {
        let n = self.count_mpls();
        // The labels below become visible.
        for mask in &mut self.wc.masks.mpls_lse[n.min(1)..n] {
            *mask = u32::MAX.into();
        }
        if pop_label(&mut self.flow, ethertype) {
            self.was_mpls |= !is_mpls(ethertype) && self.snapshot.features.recirc;
        } else if n >= FLOW_MAX_MPLS_LABELS {
            let text = (self.packet.is_some()).then(|| {
                format!(
                    "dropping packet on which an MPLS pop action can't be performed as it has more MPLS LSEs than the {FLOW_MAX_MPLS_LABELS} supported."
                )
            });
            self.fail_with(DropReason::TooManyMplsLabels, text.as_deref());
        }
    }

    fn set_queue(&mut self, queue: u32) {
        self.wc.masks.skb_priority = u32::MAX;
        // The userspace datapath takes the queue's number itself for the priority.
        self.flow.skb_priority = queue;
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
                let inner = self.actions.split_off(start);
                self.actions.push(DpAction::Clone(inner));
                self.base = base;
            }
            (self.conntracked, self.was_mpls) = (conntracked, was_mpls);
        }
        (self.flow, self.stack, self.action_set) = (flow, stack, set);
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
        let table_miss = |r: &Arc<Rule>| r.priority == 0 && r.match_.is_catchall();
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
            | DpAction::Recirc(_)
            | DpAction::CheckPktLen { .. }
            | DpAction::Clone(_)
            | DpAction::Userspace(_)
            | DpAction::Sample { .. }
            | DpAction::TunnelPush(_)
    )
}

fn clear_above_mpls(f: &mut Flow) {
    f.nw_src = 0.into();
    f.nw_dst = 0.into();
    f.ipv6_src = [0; 16];
    f.ipv6_dst = [0; 16];
    f.ipv6_label = 0.into();
    (f.nw_frag, f.nw_tos, f.nw_ttl, f.nw_proto) = (0, 0, 0, 0);
    f.nd_target = [0; 16];
    f.arp_sha = MacAddr::ZERO;
    f.arp_tha = MacAddr::ZERO;
    f.tcp_flags = Be16::ZERO;
    f.tp_src = Be16::ZERO;
    f.tp_dst = Be16::ZERO;
    f.igmp_group_ip4 = 0.into();
}
