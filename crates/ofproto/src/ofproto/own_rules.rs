//! The rules that the switch makes for itself: those by which it decides about packets that no flow takes, and those
//! that make it a learning switch while no controller governs it.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_openflow::action::{Action, Controller};
use ferrovs_openflow::flow::{FlowModFlags, FlowRemovedReason};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;

use super::Ofproto;
use crate::rule::{MAX_PRIORITY, NewRule, RuleActions, RuleMatch};
use crate::tables::{Requester, TBL_INTERNAL};
use crate::time::to_ms;

/// Priority of the rule of a switch that fails open.
const FAIL_OPEN_PRIORITY: i32 = 0xf0_f0f0;

impl Ofproto {
    /// The rules by which the switch itself decides, in the table that OpenFlow cannot see.
    pub(super) fn add_internal_rules(&self, now: Instant) {
        let to_controller = Action::Controller(Box::new(Controller {
            max_len: u16::MAX,
            controller_id: 0,
            reason: PacketInReason::ImplicitMiss,
            pause: false,
            userdata: Vec::new(),
            meter_id: None,
            provider_meter_id: None,
            controller2: false,
        }));
        let mut change = self.tables.change(Requester::default(), to_ms(now));
        for (reg0, actions) in [(1, vec![to_controller]), (2, vec![]), (3, vec![])] {
            let mut m = Match::default();
            m.flow.regs[0] = reg0;
            m.wc.masks.regs[0] = u32::MAX;
            change.add_own(own_rule(TBL_INTERNAL, 0, &m, actions, now));
        }
        let mut not_recirculated = Match::default();
        not_recirculated.wc.masks.recirc_id = u32::MAX;
        change.add_own(own_rule(TBL_INTERNAL, 2, &not_recirculated, vec![], now));
        change.commit();
    }

    /// Makes the switch a learning one, by a flow that controllers can see and remove.
    pub fn add_normal_flow(&self, now: Instant) {
        let mut change = self.tables.change(Requester::default(), to_ms(now));
        let normal = vec![Action::output(OfPort::NORMAL)];
        change.add_own(own_rule(0, 0, &Match::default(), normal, now));
        change.commit();
    }

    /// Makes the switch a learning one by a hidden rule above all flows, or takes that back.
    pub fn set_fail_open(&self, open: bool, now: Instant) {
        let everything = Match::default();
        let mut change = self.tables.change(Requester::default(), to_ms(now));
        if open {
            let normal = vec![Action::output(OfPort::NORMAL)];
            change.add_own(own_rule(0, FAIL_OPEN_PRIORITY, &everything, normal, now));
        } else {
            let (packed, version) = (RuleMatch::new(&everything), change.version());
            let rule = (self.tables).find_exactly(0, &packed, FAIL_OPEN_PRIORITY, version);
            if let Some(rule) = rule {
                change.remove(rule, FlowRemovedReason::Delete);
            }
        }
        change.commit();
    }
}

fn own_rule(
    table_id: u8,
    priority: i32,
    match_: &Match,
    actions: Vec<Action>,
    now: Instant,
) -> NewRule {
    debug_assert!(priority <= MAX_PRIORITY || table_id == 0);
    NewRule {
        table_id,
        priority,
        match_: RuleMatch::new(match_),
        actions: Arc::new(RuleActions::new(actions)),
        cookie: 0,
        flags: FlowModFlags::empty(),
        importance: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        now_ms: to_ms(now),
    }
}
