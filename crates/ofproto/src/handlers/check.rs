//! Whether a list of actions makes sense for the packets that it will meet, and for this bridge.
//!
//! The match says what is known of the packets; actions that push or pop headers change it for those that
//! follow. OpenFlow 1.0 lets an action that does not apply to a packet pass it by, so there an inconsistent
//! action is refused only if it writes a field by its number.
//!
//! What the datapath cannot do is refused here as well, wherever it stands: a flow that is taken and then loses its
//! packets would be worse.

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::Action;
use ferrovs_openflow::version::Version;
use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::{Flow, Match, VLAN_CFI};
use ferrovs_packet::types::{OfPort, eth_type, ip_proto};
use ferrovs_runtime::vlog;

use crate::ofproto::{MAX_PORTS, Ofproto};

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

/// Bits of `ct_state` that say what address translation did.
const CT_STATE_NAT: u8 = 0xc0;

/// What actions are checked against.
pub(crate) struct Check<'a> {
    pub ofproto: &'a Ofproto,
    pub version: Version,
    /// The table that the actions belong to; goto_table must go beyond it.
    pub table_id: u8,
    /// Whether groups and meters that actions name must be there.
    pub references: bool,
}

fn check_out_port(port: OfPort) -> Result<(), OfpErr> {
    let known = matches!(
        port,
        OfPort::IN_PORT
            | OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::NONE
            | OfPort::LOCAL
    );
    if known || port.0 < MAX_PORTS {
        Ok(())
    } else {
        Err(OfpErr::OFPBAC_BAD_OUT_PORT)
    }
}

fn is_ip(flow: &Flow) -> bool {
    matches!(flow.dl_type.get(), eth_type::IP | eth_type::IPV6)
}

fn has_vlan(flow: &Flow) -> bool {
    flow.vlans[0].tci.get() & VLAN_CFI != 0
}

fn has_mpls(flow: &Flow) -> bool {
    matches!(flow.dl_type.get(), eth_type::MPLS | eth_type::MPLS_MCAST)
}

impl Check<'_> {
    /// Refuses a match on what the datapath cannot tell of a packet.
    pub fn match_(&self, m: &Match) -> Result<(), OfpErr> {
        let masks = &m.wc.masks;
        let f = self.ofproto.backer.features();
        let original = masks.ct_tp_src.get() != 0 || masks.ct_tp_dst.get() != 0;
        let original = original || masks.ct_nw_proto != 0;
        let v4 = masks.ct_nw_src.get() != 0 || masks.ct_nw_dst.get() != 0;
        let v6 = masks.ct_ipv6_src != [0; 16] || masks.ct_ipv6_dst != [0; 16];
        let unknown = (masks.ct_state != 0 && !f.ct_state)
            || (masks.ct_state & CT_STATE_NAT != 0 && !f.ct_state_nat)
            || (masks.ct_zone != 0 && !f.ct_zone)
            || (masks.ct_mark != 0 && !f.ct_mark)
            || (masks.ct_label != [0; 16] && !f.ct_label)
            || (v4 && !f.ct_orig_tuple)
            || (v6 && !f.ct_orig_tuple6)
            || (original && !f.ct_orig_tuple && !f.ct_orig_tuple6);
        if unknown {
            return Err(OfpErr::NXBMC_CT_DATAPATH_SUPPORT);
        }
        Ok(())
    }

    /// Refuses an action, which the log calls `what`, that the datapath cannot carry out.
    fn supported(&self, can: bool, what: &str, error: OfpErr) -> Result<(), OfpErr> {
        if can {
            return Ok(());
        }
        vlog::warn_rl!(
            RL,
            vlog::modules::OFPROTO_DPIF,
            "Rejecting {what} action because datapath does not support {what} action (your kernel module may be out of date)"
        );
        Err(error)
    }

    /// Checks `actions` for packets that meet `m`, and notes in them what is known of these.
    pub fn actions(&self, actions: &mut [Action], m: &Match) -> Result<(), OfpErr> {
        self.list(actions, &mut m.flow.clone())
    }

    /// Checks actions of a bucket: nothing is known of its packets, and so nothing is inconsistent with them.
    pub fn buckets(&self, actions: &mut [Action]) -> Result<(), OfpErr> {
        let lenient = Check {
            version: Version::V10,
            ..*self
        };
        match lenient.actions(actions, &Match::default()) {
            Err(OfpErr::OFPBAC_MATCH_INCONSISTENT) => Ok(()),
            other => other,
        }
    }

    fn list(&self, actions: &mut [Action], flow: &mut Flow) -> Result<(), OfpErr> {
        actions
            .iter_mut()
            .try_for_each(|action| self.one(action, flow))
    }

    /// An old action that packets of the flow may not be fit for.
    fn legacy(&self, fits: bool) -> Result<(), OfpErr> {
        if fits || self.version == Version::V10 {
            Ok(())
        } else {
            Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
        }
    }

    fn field(&self, field: FieldId, flow: &Flow) -> Result<(), OfpErr> {
        let known = field.field().prereqs_ok(flow);
        if known {
            Ok(())
        } else {
            Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
        }
    }

    fn one(&self, action: &mut Action, flow: &mut Flow) -> Result<(), OfpErr> {
        match action {
            Action::Output { port, .. } | Action::OutputTrunc { port, .. } => check_out_port(*port),
            Action::Enqueue { port, .. } => {
                let ok = port.0 < MAX_PORTS || matches!(*port, OfPort::IN_PORT | OfPort::LOCAL);
                if ok {
                    Ok(())
                } else {
                    Err(OfpErr::OFPBAC_BAD_OUT_PORT)
                }
            }
            Action::OutputReg { src, .. } => self.field(src.field, flow),
            Action::Group(id) => {
                if !self.references || self.ofproto.groups.find(*id).is_some() {
                    Ok(())
                } else {
                    Err(OfpErr::OFPBAC_BAD_OUT_GROUP)
                }
            }
            Action::Meter(id) => {
                if !self.references || self.ofproto.meters.contains(*id) {
                    Ok(())
                } else {
                    Err(OfpErr::OFPMMFC_INVALID_METER)
                }
            }
            Action::SetField(set) => {
                self.field(set.field, flow)?;
                let is_vid = set.field == FieldId::VlanVid;
                if is_vid && !has_vlan(flow) {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                set.flow_has_vlan = has_vlan(flow);
                if set.field == FieldId::VlanTci {
                    let tci = set.value.to_u128() as u16;
                    flow.vlans[0].tci = tci.into();
                }
                Ok(())
            }
            Action::RegMove { src, dst, .. } => {
                self.field(src.field, flow)?;
                self.field(dst.field, flow)
            }
            Action::StackPush(sf) | Action::StackPop(sf) => self.field(sf.field, flow),
            Action::SetVlanVid {
                push_if_needed,
                flow_has_vlan,
                ..
            }
            | Action::SetVlanPcp {
                push_if_needed,
                flow_has_vlan,
                ..
            } => {
                *flow_has_vlan = has_vlan(flow);
                if !has_vlan(flow) {
                    self.legacy(*push_if_needed)?;
                }
                flow.vlans[0].tci = (flow.vlans[0].tci.get() | VLAN_CFI).into();
                Ok(())
            }
            Action::StripVlan { .. } => {
                self.legacy(has_vlan(flow))?;
                flow.vlans[0] = flow.vlans[1];
                flow.vlans[1] = Default::default();
                Ok(())
            }
            Action::PushVlan(tpid) => {
                flow.vlans[1] = flow.vlans[0];
                flow.vlans[0].tpid = *tpid;
                flow.vlans[0].tci = VLAN_CFI.into();
                Ok(())
            }
            Action::SetIpv4Src(_) | Action::SetIpv4Dst(_) => {
                self.legacy(flow.dl_type.get() == eth_type::IP)
            }
            Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::DecTtl { .. } => self.legacy(is_ip(flow)),
            Action::SetL4SrcPort { flow_ip_proto, .. }
            | Action::SetL4DstPort { flow_ip_proto, .. } => {
                let proto = flow.nw_proto;
                let l4 = matches!(proto, ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP);
                self.legacy(is_ip(flow) && l4)?;
                *flow_ip_proto = proto;
                Ok(())
            }
            Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl => self.legacy(has_mpls(flow)),
            Action::PushMpls(ty) => {
                flow.dl_type = *ty;
                flow.nw_proto = 0;
                Ok(())
            }
            Action::PopMpls(ty) => {
                let fits = has_mpls(flow);
                flow.dl_type = *ty;
                self.legacy(fits)
            }
            Action::Ct(_) => {
                let can = self.ofproto.backer.features().ct_state;
                self.supported(can, "ct", OfpErr::NXBAC_CT_DATAPATH_SUPPORT)
            }
            // Translation does not know them.
            Action::Encap(_) => self.supported(false, "encap", OfpErr::OFPBAC_BAD_TYPE),
            Action::Decap { .. } => self.supported(false, "decap", OfpErr::OFPBAC_BAD_TYPE),
            Action::Clone(nested) => self.list(nested, &mut flow.clone()),
            Action::WriteActions(nested) => self.list(nested, &mut flow.clone()),
            Action::GotoTable(table) => {
                if *table <= self.table_id {
                    return Err(OfpErr::OFPBIC_BAD_TABLE_ID);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
