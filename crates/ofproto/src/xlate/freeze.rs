//! Stopping a translation in the middle: the packet goes through the datapath once more, or up to a controller that
//! decides when it goes on.
//!
//! [`Ctx::trigger_freeze`] makes every list of actions on the way end as `exit` would; each leaves what it has not
//! done ([`Ctx::freeze_rest`]) in the order in which it is to be done. Where the packet's way ends (the pipeline, a
//! bucket, a clone, a bridge behind a patch port) [`Ctx::finish_freezing`] puts all of it under a number.
//!
//! The main reason is `pop_mpls`: what lies above the last label was not in the packet's key. As soon as an action
//! or a table could look there, the packet is recirculated, and comes back with its real headers.

use ferrovs_datapath::action::{Action as DpAction, Cookie, HashAlg, Userspace};
use ferrovs_openflow::action::{Action, Controller, TABLE_ALL};
use ferrovs_packet::field::FieldId;
use ferrovs_packet::types::OfPort;

use super::ctx::Ctx;
use super::recirc::{FrozenMetadata, FrozenState};

/// What a translation that stops is to go on with.
#[derive(Default)]
pub struct Freeze {
    /// The translation stops; `exit` is set too.
    pub on: bool,
    actions: Vec<Action>,
    /// Table and cookie that the last `unroll_xlate` in `actions` restores.
    unrolled: Option<(u8, u64)>,
    /// The packet comes back with this hash of it: algorithm and basis.
    hash: Option<(HashAlg, u32)>,
    /// The packet waits for a controller.
    pause: Option<Controller>,
}

/// Whether an action works on a packet of which only Ethernet header and metadata are known. The actions of a
/// group's buckets are asked for themselves.
fn is_below_network(action: &Action) -> bool {
    match action {
        Action::Output { .. }
        | Action::OutputTrunc { .. }
        | Action::OutputReg { .. }
        | Action::Enqueue { .. }
        | Action::SetVlanVid { .. }
        | Action::SetVlanPcp { .. }
        | Action::SetEthSrc(_)
        | Action::SetEthDst(_)
        | Action::SetTunnel { .. }
        | Action::SetQueue(_)
        | Action::Group(_) => true,
        Action::SetField(set) => set.field < FieldId::IpSrc,
        _ => false,
    }
}

/// Whether an action depends on the table and the flow that it stands in: it may send to a controller, who is told
/// of both, or looks up in the same table.
fn depends_on_flow(action: &Action) -> bool {
    match action {
        Action::Output { .. }
        | Action::OutputTrunc { .. }
        | Action::OutputReg { .. }
        | Action::Group(_)
        | Action::Controller(_)
        | Action::DecTtl { .. }
        | Action::DecMplsTtl
        | Action::DecNshTtl => true,
        Action::Resubmit(resubmit) => resubmit.table == TABLE_ALL,
        _ => false,
    }
}

impl Ctx<'_> {
    /// Has the translation stop here.
    pub fn trigger_freeze(&mut self) {
        self.exit = true;
        self.freeze.on = true;
    }

    /// Has the packet come back with a hash that the datapath computes.
    pub fn recirculate_with_hash(&mut self, alg: HashAlg, basis: u32) {
        self.freeze.hash = Some((alg, basis));
        self.trigger_freeze();
    }

    /// Has the packet wait until the controller that it is sent to resumes it.
    pub fn pause(&mut self, controller: &Controller) {
        self.freeze.pause = Some(controller.clone());
        self.trigger_freeze();
    }

    /// Stops before `action` if it may look at what `pop_mpls` uncovered.
    pub fn recirculate_for_mpls(&mut self, action: &Action) {
        if self.was_mpls && !self.exit && !is_below_network(action) {
            self.trigger_freeze();
        }
    }

    /// Leaves the rest of a list of actions for later.
    pub fn freeze_rest(&mut self, rest: &[Action]) {
        let here = (self.table_id, self.rule_cookie);
        for action in rest {
            if depends_on_flow(action) && self.freeze.unrolled != Some(here) {
                self.freeze.unrolled = Some(here);
                self.freeze.actions.push(Action::UnrollXlate {
                    table_id: here.0,
                    rule_cookie: here.1,
                });
            }
            self.freeze.actions.push(action.clone());
        }
    }

    /// Ends the packet's way through the tables: its action set is run, or left for later.
    pub fn end_pipeline(&mut self) {
        if !self.freeze.on {
            self.run_action_set();
        }
        if self.freeze.on {
            self.finish_freezing();
        }
    }

    pub fn finish_freezing(&mut self) {
        let freeze = std::mem::take(&mut self.freeze);
        self.commit();
        if freeze.pause.is_some() && !self.side_effects && self.xcache.is_none() {
            // A trace must not have a controller resume what nobody sent.
            return;
        }
        let userdata = freeze.pause.as_ref().map(|p| p.userdata.clone());
        let recirc = self.recirc_table.alloc(FrozenState {
            bridge: self.bridge.id,
            table_id: 0,
            metadata: FrozenMetadata::of(&self.flow),
            stack: self.stack.clone(),
            actions: freeze.actions,
            action_set: self.action_set.clone(),
            conntracked: self.conntracked,
            userdata: userdata.unwrap_or_default(),
            rule_cookie: self.rule_cookie,
            ingress: OfPort(self.flow.in_port as u16),
        });
        let action = match &freeze.pause {
            None => DpAction::Recirc(recirc.id),
            Some(pause) => DpAction::Userspace(Userspace {
                pid: 0,
                cookie: Cookie::Controller {
                    dont_send: false,
                    continuation: true,
                    reason: pause.reason as u8,
                    recirc_id: recirc.id,
                    rule_cookie: self.rule_cookie,
                    controller_id: pause.controller_id,
                    max_len: pause.max_len,
                    ofp_in_port: self.flow.in_port as u16,
                    ofproto: self.bridge.id,
                },
                with_actions: false,
                tunnel_out_port: None,
            }),
        };
        if let Some((alg, basis)) = freeze.hash {
            self.actions.push(DpAction::Hash { alg, basis });
        }
        self.actions.push(action);
        self.recircs.push(recirc);
    }
}
