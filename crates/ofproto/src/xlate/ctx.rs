//! The state of one translation, and how it walks the tables.
//!
//! `flow` is the packet as the pipeline sees it now, `base` the packet as the datapath would have it at this
//! point; they are brought together by [`commit`](super::commit::commit) before the packet leaves. Every bit of
//! the packet that decides anything is noted in `wc`: this makes the megaflow, so looking at a field without
//! noting it is an error that lets packets through that the tables would treat otherwise.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::action::{Action as DpAction, DropReason, SlowPath};
use ferrovs_datapath::text::message_size;
use ferrovs_encap::PacketTypeMode;
use ferrovs_openflow::action::{Action, TABLE_ALL};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_openflow::switch::TableMiss;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::key::format_flow;
use ferrovs_openflow::tun::Tun;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::field::{FieldValue, NoPorts, SubField};
use ferrovs_packet::flow::{
    CS_TRACKED, Flow, FlowTnl, FlowWildcards, IP_ECN_MASK, NW_FRAG_LATER, NW_FRAG_MASK, PT_ETH,
    TunMetadata,
};
use ferrovs_packet::types::{Be16, MacAddr, OfPort, eth_type, ip_proto};
use ferrovs_runtime::coverage;
use ferrovs_runtime::vlog::{self, RateLimit};

use super::commit::{commit, is_mpls};
use super::ct::CtResume;
use super::describe;
use super::freeze::Freeze;
use super::met::Met;
use super::recirc::{self, FrozenState, Recirc, RecircTable};
use super::snapshot::{BridgeId, FragHandling, XBridge, XPort, XlateSnapshot};
use super::trace::{NodeKind, Trace};
use super::tunnel::Request;
use super::xcache::{Credit, Draft, PacketCount, credit_found};
use crate::rule::Rule;
use crate::time::to_ms;

static ECN_RL: RateLimit = RateLimit::new(60, 5);

/// Nested resubmits, bridges and clones.
pub const MAX_DEPTH: usize = 64;
/// Table lookups in one translation.
pub const MAX_RESUBMITS: usize = MAX_DEPTH * MAX_DEPTH;

/// OpenFlow port configuration bits that translation obeys (`OFPPC_*`).
pub const PC_NO_RECV: u32 = 1 << 2;
pub const PC_NO_FLOOD: u32 = 1 << 4;
pub const PC_NO_FWD: u32 = 1 << 5;
pub const PC_NO_PACKET_IN: u32 = 1 << 6;

/// What to translate.
pub struct XlateIn<'a> {
    pub snapshot: &'a XlateSnapshot,
    pub recircs: &'a RecircTable,
    pub bridge: &'a Arc<XBridge>,
    /// With an OpenFlow port as `in_port`.
    pub flow: &'a Flow,
    /// The packet itself, if there is one; actions that look beyond the key need it.
    pub packet: Option<&'a Packet>,
    pub start: Start<'a>,
    /// Version of the bridge's tables, if not the current one.
    pub version: Option<u64>,
    /// Learn and send as a real packet does; without it nothing but the result changes.
    pub side_effects: bool,
    /// Packets to credit to rules and ports at once.
    pub count: Option<PacketCount>,
    pub xcache: Option<&'a mut Draft>,
    pub trace: Option<&'a mut Trace>,
    pub now: Instant,
}

/// Where a translation begins.
pub enum Start<'a> {
    /// In table 0.
    Tables,
    /// With these actions (packet-out).
    Actions(&'a [Action]),
    /// Where an earlier one stopped.
    Frozen(&'a Recirc),
}

/// What came out.
pub struct XlateOut {
    pub actions: Vec<DpAction>,
    pub wc: FlowWildcards,
    /// Reasons for which every packet of the flow must be handled above the datapath.
    pub slow: SlowPath,
    pub error: DropReason,
    /// Numbers that the actions use; they stay valid as long as these are held.
    pub recircs: Vec<Arc<Recirc>>,
    /// The flow as it was at the end; told to traces only.
    pub final_flow: Option<Box<Flow>>,
    /// A MAC address or neighbour became known: other flows may be stale.
    pub learned: bool,
    /// The result holds for this packet only: no flow is to be installed.
    pub avoid_caching: bool,
    /// Where the packet comes back from the connection tracker; told to traces only.
    pub ct_resumes: Vec<CtResume>,
    /// Packets to send besides, such as a question for a neighbour.
    pub requests: Vec<Request>,
}

/// See the module's text.
pub struct Ctx<'a> {
    pub snapshot: &'a XlateSnapshot,
    pub recirc_table: &'a RecircTable,
    pub bridge: &'a Arc<XBridge>,
    /// The bridge that the translation begins in.
    pub home: BridgeId,
    pub version: u64,
    /// The version of the home bridge's tables, if it is not the current one.
    pub unpublished: Option<u64>,
    pub flow: Flow,
    pub base: Flow,
    pub wc: FlowWildcards,
    pub actions: Vec<DpAction>,
    pub action_set: Vec<Action>,
    pub stack: Vec<FieldValue>,
    pub depth: usize,
    pub resubmits: usize,
    /// The actions are those of a group's bucket.
    pub in_bucket: bool,
    pub in_action_set: bool,
    /// The actions are those of a packet-out, or reached from there.
    pub in_packet_out: bool,
    /// The next table's node of the trace stays open.
    pub keep_open: bool,
    /// The port that the packet came through does not receive.
    pub deaf: bool,
    /// An `exit` action ends the translation.
    pub exit: bool,
    /// The rest of this list of actions is not for the packet any more: its TTL ran out.
    pub stop: bool,
    pub error: DropReason,
    pub slow: SlowPath,
    pub table_id: u8,
    pub rule_cookie: u64,
    pub rule: Option<&'a Arc<Rule>>,
    /// Those that were met so far.
    met: &'a Met,
    pub conntracked: bool,
    /// `pop_mpls` took the last label off: what lies above is not known.
    pub was_mpls: bool,
    pub freeze: Freeze,
    /// Translation of addresses that the `ct` action in progress asks for.
    pub ct_nat: Option<ferrovs_datapath::action::Nat>,
    pub ct_resumes: Vec<CtResume>,
    pub recircs: Vec<Arc<Recirc>>,
    pub packet: Option<&'a Packet>,
    pub side_effects: bool,
    pub count: Option<PacketCount>,
    pub xcache: Option<&'a mut Draft>,
    pub trace: Option<&'a mut Trace>,
    pub now: Instant,
    now_ms: i64,
    pub learned: bool,
    /// The result holds for this packet only: no flow is to be installed.
    pub avoid_caching: bool,
    pub requests: Vec<Request>,
    /// The priority to which `pop_queue` returns.
    pub orig_skb_priority: u32,
    /// The tunnel through which the packet came.
    pub orig_tunnel: FlowTnl,
    /// Its header has options, or could have.
    has_options: bool,
}

/// How a table is looked up, and what is done with the rule found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// By the addresses of the connection's first packet.
    pub with_ct_orig: bool,
    /// A miss is for the controller if the table says so.
    pub honor_miss: bool,
    /// The rule's actions work on a copy of the packet.
    pub cloned: bool,
    /// Nothing follows that could see what the actions changed.
    pub last: bool,
}

impl Walk {
    /// The table that a packet begins with.
    pub const FIRST: Walk = Walk {
        with_ct_orig: false,
        honor_miss: true,
        cloned: false,
        last: true,
    };
}

pub fn is_ip_any(flow: &Flow) -> bool {
    matches!(flow.dl_type.get(), eth_type::IP | eth_type::IPV6)
}

/// Translates; see [`XlateIn`] and [`XlateOut`].
pub fn translate(xin: XlateIn<'_>) -> XlateOut {
    coverage::XLATE_ACTIONS.inc();
    let pin = xin.bridge.tables.pin();
    let mut xcache = xin.xcache;
    let met = Met::guessing(xcache.as_deref());
    let mut ctx = Ctx {
        snapshot: xin.snapshot,
        recirc_table: xin.recircs,
        bridge: xin.bridge,
        home: xin.bridge.id,
        version: xin.version.unwrap_or(pin.version),
        unpublished: xin.version,
        flow: *xin.flow,
        base: *xin.flow,
        wc: FlowWildcards::default(),
        actions: Vec::new(),
        action_set: Vec::new(),
        stack: Vec::new(),
        depth: 0,
        resubmits: 0,
        in_bucket: false,
        in_action_set: false,
        // A trace tells actions of a packet-out like any others.
        in_packet_out: matches!(xin.start, Start::Actions(_)) && xin.trace.is_none(),
        keep_open: false,
        deaf: false,
        exit: false,
        stop: false,
        error: DropReason::Ok,
        slow: SlowPath::NONE,
        table_id: 0,
        rule_cookie: u64::MAX,
        rule: None,
        met: &met,
        conntracked: false,
        was_mpls: false,
        freeze: Freeze::default(),
        recircs: Vec::new(),
        packet: xin.packet,
        side_effects: xin.side_effects,
        count: xin.count,
        xcache: xcache.as_deref_mut(),
        trace: xin.trace,
        now: xin.now,
        now_ms: to_ms(xin.now),
        learned: false,
        avoid_caching: false,
        ct_resumes: Vec::new(),
        ct_nat: None,
        orig_tunnel: xin.flow.tunnel,
        has_options: false,
        requests: Vec::new(),
        orig_skb_priority: xin.flow.skb_priority,
    };
    ctx.base.tunnel = Default::default();
    ctx.init_wildcards();
    if ctx.name_options() {
        ctx.run(xin.start);
    }
    if ctx.error == DropReason::Ok || ctx.trace.is_none() {
        ctx.finish_wildcards(xin.flow);
    }
    if ctx.is_oversized() || has_too_many_outputs(&ctx.actions) {
        ctx.slow |= SlowPath::ACTION;
    }
    if ctx.error != DropReason::Ok {
        ctx.slow = SlowPath::NONE;
        ctx.actions.clear();
    }
    open_last_clone(&mut ctx.actions);
    if ctx.actions.is_empty()
        && ctx.snapshot.features.explicit_drop_action
        && ctx.error != DropReason::Ok
    {
        ctx.actions.push(DpAction::Drop(ctx.error));
    }
    let out = XlateOut {
        actions: ctx.actions,
        wc: ctx.wc,
        slow: ctx.slow,
        error: ctx.error,
        recircs: ctx.recircs,
        final_flow: ctx.trace.is_some().then(|| Box::new(ctx.flow)),
        learned: ctx.learned,
        avoid_caching: ctx.avoid_caching,
        ct_resumes: ctx.ct_resumes,
        requests: ctx.requests,
    };
    if let Some(xcache) = xcache {
        met.note(xcache);
    }
    out
}

/// Whether a datapath might refuse so many outputs; those within other actions do not count.
fn has_too_many_outputs(actions: &[DpAction]) -> bool {
    const MOST: usize = 1000;
    let is_output = |a: &&DpAction| matches!(a, DpAction::Output(_));
    actions.len() > MOST && actions.iter().filter(is_output).count() > MOST
}

/// Nothing comes after the last clone that would need the packet.
pub(super) fn open_last_clone(actions: &mut Vec<DpAction>) {
    while let Some(DpAction::Clone(_)) = actions.last() {
        if let Some(DpAction::Clone(inner)) = actions.pop() {
            actions.extend(inner);
        }
    }
}

impl<'a> Ctx<'a> {
    fn run(&mut self, start: Start<'_>) {
        self.flow.actset_output = u32::from(OfPort::UNSET.0);
        match start {
            Start::Actions(actions) => self.do_actions(actions, true),
            Start::Frozen(recirc) => {
                if !self.thaw(recirc) {
                    return;
                }
            }
            Start::Tables => {
                let in_port = OfPort(self.flow.in_port as u16);
                let port = self.bridge.ports.get(&in_port).cloned();
                if let Some(port) = &port {
                    self.credit_rx(port);
                    if !self.enter_from_tunnel(port) || self.process_special(port) {
                        return;
                    }
                    // The packet is looked up and counted all the same.
                    self.deaf = !self.may_receive(port);
                }
                // The action set is told of below the first table.
                self.keep_open = true;
                self.table_action(in_port, 0, &Walk::FIRST);
            }
        }
        if self.error == DropReason::Ok {
            self.end_pipeline();
        }
    }

    fn thaw(&mut self, recirc: &Recirc) -> bool {
        let state = &recirc.state;
        if state.bridge != self.bridge.id {
            let Some(bridge) = self.snapshot.bridges.get(&state.bridge) else {
                self.fail(
                    DropReason::BridgeNotFound,
                    "bridge of the frozen state is gone",
                );
                return false;
            };
            self.bridge = bridge;
            self.version = bridge.tables.current_version();
        }
        self.trace_thaw(state);
        state.metadata.restore(&mut self.flow);
        state.metadata.restore(&mut self.base);
        self.base.tunnel = Default::default();
        self.stack = state.stack.clone();
        self.action_set = state.action_set.clone();
        self.table_id = state.table_id;
        self.conntracked = state.conntracked;
        if !state.conntracked {
            self.clear_conntrack();
        }
        if state.actions.is_empty() {
            let in_port = OfPort(self.flow.in_port as u16);
            self.keep_open = true;
            self.table_action(in_port, state.table_id, &Walk::FIRST);
        } else {
            self.do_actions(&state.actions, true);
        }
        true
    }

    pub fn clear_conntrack(&mut self) {
        recirc::clear_conntrack(&mut self.flow);
    }

    /// Options of the tunnel's header become the fields that they are in this bridge. False if they cannot be
    /// understood, and so the packet is not.
    fn name_options(&mut self) -> bool {
        let in_port = OfPort(self.flow.in_port as u16);
        let tunnel = self
            .bridge
            .ports
            .get(&in_port)
            .and_then(|p| p.tunnel.as_ref());
        let raw = self.flow.tunnel.metadata;
        // A packet that somebody described may have the fields at once.
        let could_have = || {
            let by_fields = raw.present != 0 || !self.flow.tunnel.dst_is_set();
            !by_fields && tunnel.is_some_and(|t| t.ty.options.tlv)
        };
        self.has_options = raw.len != 0 || could_have();
        if raw.len == 0 {
            return true;
        }
        match self.bridge.tun_table.fields_of(&raw) {
            Some(fields) => self.flow.tunnel.metadata = fields,
            None => self.fail(
                DropReason::InvalidTunnelMetadata,
                "Invalid Geneve tunnel metadata",
            ),
        }
        self.error == DropReason::Ok
    }

    /// What comes through a tunnel is looked up as what the bridge takes: packets without an Ethernet header get an empty
    /// one, and congestion that the outer header tells of becomes the packet's own. False if that cannot be, for
    /// packets whose hosts do not understand it.
    fn enter_from_tunnel(&mut self, port: &XPort) -> bool {
        let Some(tunnel) = &port.tunnel else {
            return true;
        };
        let flow = &mut self.flow;
        if is_ip_any(flow) && flow.tunnel.ip_tos & IP_ECN_MASK == IP_ECN_MASK {
            self.wc.masks.nw_tos |= IP_ECN_MASK;
            if flow.nw_tos & IP_ECN_MASK == 0 {
                vlog::warn_rl!(
                    ECN_RL,
                    vlog::modules::TUNNEL,
                    "dropping tunnel packet marked ECN CE but is not ECN capable"
                );
                self.fail_with(DropReason::CongestionDrop, None);
                return false;
            }
            flow.nw_tos |= IP_ECN_MASK;
        }
        if !flow.is_ethernet() && tunnel.config.packet_type == PacketTypeMode::LegacyL3 {
            flow.packet_type = PT_ETH.into();
            flow.dl_src = MacAddr::ZERO;
            flow.dl_dst = MacAddr::ZERO;
        }
        true
    }

    /// Members that every megaflow names.
    fn init_wildcards(&mut self) {
        let m = &mut self.wc.masks;
        m.in_port = u32::MAX;
        if self.snapshot.features.recirc {
            m.recirc_id = u32::MAX;
        }
        m.packet_type = u32::MAX.into();
        m.dl_type = 0xffff.into();
        if is_ip_any(&self.flow) {
            m.nw_frag = NW_FRAG_MASK;
        }
        if self.flow.tunnel.dst_is_set() {
            let t = &mut m.tunnel;
            if self.flow.tunnel.ip_dst.get() != 0 {
                t.ip_src = u32::MAX.into();
                t.ip_dst = u32::MAX.into();
            } else {
                t.ipv6_src = [0xff; 16];
                t.ipv6_dst = [0xff; 16];
            }
            t.tun_id = u64::MAX.into();
            t.flags = ferrovs_packet::flow::FLOW_TNL_F_DONT_FRAGMENT
                | ferrovs_packet::flow::FLOW_TNL_F_CSUM
                | ferrovs_packet::flow::FLOW_TNL_F_KEY;
            t.ip_tos = 0xff;
            if is_ip_any(&self.flow) && self.flow.tunnel.ip_tos & IP_ECN_MASK == IP_ECN_MASK {
                m.nw_tos |= IP_ECN_MASK;
            }
        }
    }

    /// Drops what no datapath can match and what the packet `orig` did not have (actions that add a header look at
    /// it too), and completes what only matters as a whole.
    fn finish_wildcards(&mut self, orig: &Flow) {
        let m = &mut self.wc.masks;
        m.regs = [0; ferrovs_packet::flow::FLOW_N_REGS];
        m.metadata = 0.into();
        m.actset_output = 0;
        m.conj_id = 0;
        if !orig.tunnel.dst_is_set() {
            m.tunnel = FlowTnl::default();
        }
        let (raw, looked_at) = (&orig.tunnel.metadata, &mut m.tunnel.metadata);
        if self.has_options {
            *looked_at = self.bridge.tun_table.options_mask(raw, looked_at);
        } else if raw.present == 0 {
            *looked_at = TunMetadata::NONE;
        }
        if !orig.is_ethernet() {
            m.dl_src = MacAddr::ZERO;
            m.dl_dst = MacAddr::ZERO;
        }
        if !is_mpls(orig.dl_type) {
            m.mpls_lse = Default::default();
        }
        let n_vlans = orig.n_vlans();
        for vlan in &mut m.vlans[n_vlans..] {
            *vlan = Default::default();
        }
        for vlan in &mut m.vlans[..n_vlans] {
            if vlan.tci.get() != 0 {
                vlan.tci = (vlan.tci.get() | ferrovs_packet::flow::VLAN_CFI).into();
            }
        }
        if !is_ip_any(orig) {
            return;
        }
        // Types and codes have 8 bits; later fragments have no ports to look at.
        if matches!(orig.nw_proto, ip_proto::ICMP | ip_proto::ICMPV6) {
            m.tp_src = (m.tp_src.get() & 0xff).into();
            m.tp_dst = (m.tp_dst.get() & 0xff).into();
        }
        if orig.nw_frag & NW_FRAG_LATER != 0 {
            m.tp_src = Be16::ZERO;
            m.tp_dst = Be16::ZERO;
        }
    }

    // Tables.

    /// Looks the packet up in a table as if it had come from `in_port`, and runs what it finds.
    pub fn table_action(&mut self, in_port: OfPort, table_id: u8, walk: &Walk) {
        let keep_open = std::mem::take(&mut self.keep_open);
        if self.was_mpls {
            // The tables shall see the packet's real header.
            self.trigger_freeze();
            return;
        }
        if !self.may_go_deeper() {
            return;
        }
        // The first table is not a nested one.
        self.resubmits += usize::from(!keep_open);
        let old_table = self.table_id;
        let old_in_port = self.flow.in_port;
        self.table_id = table_id;
        self.flow.in_port = u32::from(in_port.0);
        let swapped = walk.with_ct_orig && self.swap_ct_tuple();
        let rule = self.lookup(walk.honor_miss);
        if swapped {
            self.swap_ct_tuple();
        }
        self.flow.in_port = old_in_port;
        if std::mem::take(&mut self.deaf) {
            // The port does not receive.
        } else if let Found::Rule(rule) = rule {
            let (old_rule, old_cookie) = (self.rule.replace(rule), self.rule_cookie);
            self.rule_cookie = rule.cookie;
            // A pipeline may be long, as long as it goes forward.
            let deeper = usize::from(!keep_open && table_id <= old_table);
            self.depth += deeper;
            let in_bucket = std::mem::replace(&mut self.in_bucket, false);
            match walk.cloned {
                true => self.clone_actions(&rule.actions.actions, walk.last),
                false => self.do_actions(&rule.actions.actions, walk.last),
            }
            self.in_bucket = in_bucket;
            self.depth -= deeper;
            // What comes behind all tables (an action set, a pause) is told with the cookie of the first flow.
            if !keep_open {
                self.rule = old_rule;
                self.rule_cookie = old_cookie;
            }
        } else if let Found::ToController = rule {
            self.controller_miss();
        }
        if let Some(trace) = &mut self.trace {
            if matches!(rule, Found::Nothing) {
                trace.leaf(NodeKind::Action, "drop");
            }
            if !keep_open {
                trace.close();
            }
        }
        self.table_id = old_table;
    }

    /// Whether the actions do not fit into a message to a datapath. Few do in any case: it need not be counted.
    fn is_oversized(&self) -> bool {
        const FEW: usize = 100;
        self.actions.len() > FEW && message_size(&self.actions) > usize::from(u16::MAX)
    }

    /// Whether another table or group may be visited.
    pub fn may_go_deeper(&mut self) -> bool {
        if self.depth >= MAX_DEPTH {
            self.fail(
                DropReason::RecursionTooDeep,
                "over max translation depth 64",
            );
        } else if self.resubmits >= MAX_RESUBMITS {
            self.fail(DropReason::TooManyResubmits, "over 4096 resubmit actions");
        } else if self.stack.len() * size_of::<FieldValue>() > 65536 {
            self.fail(
                DropReason::StackTooDeep,
                "resubmits yielded over 64 kB of stack",
            );
        } else if self.is_oversized() {
            // Not wrong, but more than a flow of the datapath holds.
            self.report_error("resubmits yielded over 64 kB of actions");
            self.exit = true;
        } else {
            return true;
        }
        false
    }

    fn lookup(&mut self, honor_miss: bool) -> Found<'a> {
        let saved = (self.flow.tp_src, self.flow.tp_dst);
        if self.flow.nw_frag & ferrovs_packet::flow::NW_FRAG_ANY != 0 && is_ip_any(&self.flow) {
            match self.bridge.frag {
                FragHandling::Normal => {
                    self.flow.tp_src = Be16::ZERO;
                    self.flow.tp_dst = Be16::ZERO;
                }
                FragHandling::Drop => {
                    self.trace_miss(self.table_id, Miss::Fragment);
                    return Found::Nothing;
                }
                FragHandling::NxMatch => {}
            }
        }
        let mut table_id = self.table_id;
        let mut conj_rules = Vec::new();
        let found = loop {
            let tables = &self.bridge.tables;
            let told = self.trace.is_some().then_some(&mut conj_rules);
            let index = tables.table(table_id).map(|table| table.index());
            let rule = index.and_then(|index| {
                let (flow, wc, met) = (&self.flow, &mut self.wc, self.met);
                let expected = met.expected();
                index.lookup_with(self.version, flow, wc, expected, told, |rule| {
                    met.add(tables, rule)
                })
            });
            if let Some(rule) = rule {
                self.table_id = table_id;
                if let Some(count) = self.count {
                    credit_found(tables, rule, count, self.now_ms);
                }
                self.trace_rule(table_id, rule, &conj_rules);
                break Found::Rule(rule);
            }
            self.credit_miss(table_id);
            if !honor_miss {
                self.trace_miss(table_id, Miss::Drop);
                break Found::Nothing;
            }
            match self.bridge.tables.miss_config(table_id) {
                TableMiss::Continue if table_id + 1 < TABLE_ALL - 1 => table_id += 1,
                TableMiss::Controller => {
                    self.trace_miss(table_id, Miss::ToController);
                    break Found::ToController;
                }
                TableMiss::Default if self.bridge.packet_ins.wants_misses() => {
                    self.trace_miss(table_id, Miss::ToController);
                    break Found::ToController;
                }
                _ => {
                    self.trace_miss(table_id, Miss::Drop);
                    break Found::Nothing;
                }
            }
        };
        (self.flow.tp_src, self.flow.tp_dst) = saved;
        found
    }

    fn controller_miss(&mut self) {
        let in_port = OfPort(self.flow.in_port as u16);
        let port = self.bridge.ports.get(&in_port);
        if port.is_none_or(|p| p.config & PC_NO_PACKET_IN == 0) {
            // The miss is a flow of its own, without a cookie.
            let cookie = std::mem::replace(&mut self.rule_cookie, 0);
            self.send_to_controller(u16::MAX, PacketInReason::ImplicitMiss, 0, &[]);
            self.rule_cookie = cookie;
        }
    }

    /// Shows the tables the original direction of the connection in place of the packet's own addresses.
    fn swap_ct_tuple(&mut self) -> bool {
        let m = &mut self.wc.masks;
        m.ct_state |= CS_TRACKED;
        let f = &mut self.flow;
        let v4 = f.ct_nw_src.get() != 0 && f.dl_type.get() == eth_type::IP;
        let v6 = f.ct_ipv6_src != [0; 16] && f.dl_type.get() == eth_type::IPV6;
        if f.ct_state & CS_TRACKED == 0 || !(v4 || v6) {
            return false;
        }
        std::mem::swap(&mut f.nw_src, &mut f.ct_nw_src);
        std::mem::swap(&mut f.nw_dst, &mut f.ct_nw_dst);
        std::mem::swap(&mut f.ipv6_src, &mut f.ct_ipv6_src);
        std::mem::swap(&mut f.ipv6_dst, &mut f.ct_ipv6_dst);
        std::mem::swap(&mut f.nw_proto, &mut f.ct_nw_proto);
        std::mem::swap(&mut f.tp_src, &mut f.ct_tp_src);
        std::mem::swap(&mut f.tp_dst, &mut f.ct_tp_dst);
        std::mem::swap(&mut m.nw_src, &mut m.ct_nw_src);
        std::mem::swap(&mut m.nw_dst, &mut m.ct_nw_dst);
        std::mem::swap(&mut m.ipv6_src, &mut m.ct_ipv6_src);
        std::mem::swap(&mut m.ipv6_dst, &mut m.ct_ipv6_dst);
        std::mem::swap(&mut m.nw_proto, &mut m.ct_nw_proto);
        std::mem::swap(&mut m.tp_src, &mut m.ct_tp_src);
        std::mem::swap(&mut m.tp_dst, &mut m.ct_tp_dst);
        true
    }

    // Credits.

    pub fn credit(&mut self, credit: Credit) {
        if let Some(count) = self.count {
            credit.push(count, self.now);
        }
        if let Some(cache) = &mut self.xcache {
            cache.record.credits.push(credit);
        }
    }

    fn credit_miss(&mut self, table_id: u8) {
        if self.count.is_some() || self.xcache.is_some() {
            self.credit(Credit::Miss {
                tables: self.bridge.tables.clone(),
                table_id,
            });
        }
    }

    /// Counts a packet received by a port that no datapath counts.
    pub fn credit_rx(&mut self, port: &XPort) {
        if port.tunnel.is_some() || port.peer.is_some() {
            self.credit(Credit::PortRx(port.counters.clone()));
        }
    }

    pub fn credit_tx(&mut self, port: &XPort) {
        self.credit(Credit::PortTx(port.counters.clone()));
    }

    // Small things.

    /// Brings the datapath's packet to the state of the flow.
    pub fn commit(&mut self) {
        let masked = self.snapshot.features.masked_set_action;
        let (base, wc) = (&mut self.base, &mut self.wc);
        if commit(&self.flow, base, &mut self.actions, wc, masked) {
            self.slow |= SlowPath::ACTION;
        }
    }

    /// Whether the port takes packets at all.
    pub fn may_receive(&self, port: &XPort) -> bool {
        port.config & PC_NO_RECV == 0
    }

    /// Handles packets that belong to the switch itself; true if the packet was one.
    pub fn process_special(&mut self, port: &XPort) -> bool {
        let machines = port.machines.as_ref();
        let Some((machines, protocol)) = machines.and_then(|m| Some((m, m.claims(&self.flow)?)))
        else {
            return false;
        };
        if let Some(packet) = self.packet.filter(|_| self.side_effects) {
            machines.input(self.now, packet);
        }
        self.slow |= protocol;
        if let Some(trace) = &mut self.trace {
            // No table is asked.
            trace.leaf(NodeKind::Table, " 0. priority 0");
        }
        true
    }

    /// Ends the translation: nothing that it has composed so far will run.
    pub fn fail(&mut self, error: DropReason, text: &str) {
        self.fail_with(error, Some(text));
    }

    /// The same; without a text nobody is told why.
    pub fn fail_with(&mut self, error: DropReason, text: Option<&str>) {
        if self.error != DropReason::Ok {
            return;
        }
        self.error = error;
        if let Some(text) = text {
            self.report_error(text);
        }
    }

    /// Tells the value that an action gave to a subfield.
    pub fn report_subfield(&mut self, sub: &SubField) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        let field = sub.field.field();
        let mut text = format!("{sub} is now ");
        if sub.ofs == 0 && sub.n_bits >= field.n_bits {
            let value = field.value_in(&self.flow, &self.bridge.tun_table);
            field.format(&value, None, &NoPorts, &mut text);
        } else {
            let value = sub.value_in(&self.flow, &self.bridge.tun_table).to_u128();
            text += &if value == 0 {
                "0".to_string()
            } else {
                format!("{value:#x}")
            };
        }
        trace.leaf(NodeKind::Detail, &text);
    }

    pub fn report(&mut self, text: &str) {
        if let Some(trace) = &mut self.trace {
            trace.leaf(NodeKind::Detail, text);
        }
    }

    /// Tells what a translation that goes on begins with.
    pub fn report_thaw(&mut self, text: &str) {
        if let Some(trace) = &mut self.trace {
            trace.leaf(NodeKind::Thaw, text);
        }
    }

    /// Tells of something that is wrong with the packet or the configuration: the trace, or else the log, with the
    /// packet as the datapath has it by now. Flows that are looked at again have been told of before.
    pub fn report_error(&mut self, text: &str) {
        if let Some(trace) = &mut self.trace {
            trace.leaf(NodeKind::Error, text);
        } else if self.side_effects {
            static RL: RateLimit = RateLimit::new(5, 1);
            vlog::warn_rl!(
                RL,
                vlog::modules::OFPROTO_DPIF_XLATE,
                "{text} on bridge {} while processing {}",
                self.bridge.name,
                format_flow(&self.base, &Names::none(&Tun::auto()))
            );
        }
    }

    pub fn warn(&mut self, text: &str) {
        if let Some(trace) = &mut self.trace {
            trace.leaf(NodeKind::Warn, text);
        }
    }

    fn trace_thaw(&mut self, state: &FrozenState) {
        if self.trace.is_none() {
            return;
        }
        let mut lines = vec![format!("Resuming from table {}", state.table_id)];
        for (what, actions) in [
            ("Restoring action set", &state.action_set),
            ("Restoring actions", &state.actions),
        ] {
            if !actions.is_empty() {
                let list = self.with_names(|names| describe::actions(actions, names));
                lines.push(format!("{what}: {list}"));
            }
        }
        let Some(trace) = &mut self.trace else {
            return;
        };
        trace.open(NodeKind::Thaw, "thaw");
        for line in &lines {
            trace.leaf(NodeKind::Thaw, line);
        }
        trace.close();
    }

    fn trace_rule(&mut self, table_id: u8, rule: &Rule, conj_rules: &[Arc<Rule>]) {
        if self.trace.is_none() {
            return;
        }
        let text = self.with_names(|names| describe::rule(rule, names));
        let parts: Vec<_> = self.with_names(|names| {
            let parts = conj_rules.iter();
            parts.map(|r| describe::conj_rule(r, names)).collect()
        });
        if let Some(trace) = &mut self.trace {
            trace.open(NodeKind::Table, &format!("{table_id:2}. {text}"));
            for part in &parts {
                trace.leaf(NodeKind::Detail, part);
            }
        }
    }

    /// Tells an action that is about to be done.
    #[inline]
    pub fn trace_action(&mut self, action: &Action) {
        if self.trace.is_some() {
            let text = self.with_names(|names| describe::action(action, names));
            self.trace_line(NodeKind::Action, &text);
        }
    }

    pub fn trace_line(&mut self, kind: NodeKind, text: &str) {
        if let Some(trace) = &mut self.trace {
            trace.leaf(kind, text);
        }
    }

    /// Runs `run` with the names that the trace is to tell.
    pub fn with_names<R>(&self, run: impl FnOnce(&Names<'_>) -> R) -> R {
        let named = self.trace.as_ref().is_some_and(|t| t.has_names());
        describe::with_names(named.then_some(&**self.bridge), run)
    }

    fn trace_miss(&mut self, table_id: u8, miss: Miss) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        let text = match miss {
            // Behind a patch port it shows as the hidden flow that it is.
            _ if self.bridge.id != self.home => format!("reg0={:#x}, priority 0", miss as u8),
            Miss::ToController => "No match, flow generates \"packet in\"s.".into(),
            Miss::Drop => "No match.".into(),
            Miss::Fragment => {
                "Packets are IP fragments and the fragment handling mode is \"drop\".".into()
            }
        };
        trace.open(NodeKind::Table, &format!("{table_id:2}. {text}"));
        if matches!(miss, Miss::ToController) && self.bridge.id != self.home {
            trace.leaf(NodeKind::Action, "controller(reason=)");
        }
    }
}

/// What happens to a packet that no flow takes; by number of the hidden flow that it then meets.
#[derive(Clone, Copy)]
enum Miss {
    ToController = 1,
    Drop = 2,
    Fragment = 3,
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Rule(&'a Arc<Rule>),
    ToController,
    Nothing,
}
