//! Whether this bridge can do what a flow asks for.
//!
//! That actions suit the packets that they will meet is checked by the library of OpenFlow; here it is whether the
//! groups and meters that they name are there. What the datapath cannot do is refused here as well, wherever it
//! stands: a flow that is taken and then loses its packets would be worse.

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::check::{Limits, check_for_protocol};
use ferrovs_openflow::action::{Action, Ct, CtZone};
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;
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

    /// Refuses an action, which the log calls `what`, for want of something of the datapath.
    fn supported(&self, can: bool, what: &str, want: &str, error: OfpErr) -> Result<(), OfpErr> {
        if can {
            return Ok(());
        }
        vlog::warn_rl!(
            RL,
            vlog::modules::OFPROTO_DPIF,
            "Rejecting {what} action because datapath does not support {want} (your kernel module may be out of date)"
        );
        Err(error)
    }

    /// Whether the datapath can track connections as the action wants.
    fn ct(&self, ct: &Ct) -> Result<(), OfpErr> {
        let f = self.ofproto.backer.features();
        let zone = !matches!(ct.zone, CtZone::Immediate(0));
        let nat = ct.actions.iter().any(|a| matches!(a, Action::Nat(_)));
        let sets = |field| {
            let is = |a: &Action| matches!(a, Action::SetField(set) if set.field == field);
            ct.actions.iter().any(is)
        };
        let meta = (f.ct_mark || !sets(FieldId::CtMark)) && (f.ct_label || !sets(FieldId::CtLabel));
        for (can, want) in [
            (f.ct_state, "ct action"),
            (f.ct_zone || !zone, "ct zones"),
            (f.ct_state_nat || !nat, "nat"),
            (meta, "setting mark and/or label"),
        ] {
            self.supported(can, "ct", want, OfpErr::NXBAC_CT_DATAPATH_SUPPORT)?;
        }
        Ok(())
    }

    /// Checks `actions` for packets that meet `m`, and notes in them what is known of these.
    pub fn actions(&self, actions: &mut [Action], m: &Match) -> Result<(), OfpErr> {
        let limits = Limits {
            max_ports: OfPort(MAX_PORTS),
            ..Limits::any_switch(self.table_id)
        };
        check_for_protocol(actions, m, limits, Protocol::all_of(self.version))?;
        self.possible(actions)
    }

    /// Checks actions of a bucket: nothing is known of its packets, and so nothing is inconsistent with them.
    pub fn buckets(&self, actions: &[Action]) -> Result<(), OfpErr> {
        self.possible(actions)
    }

    /// Whether bridge and datapath have what the actions need.
    fn possible(&self, actions: &[Action]) -> Result<(), OfpErr> {
        actions.iter().try_for_each(|action| match action {
            Action::Group(id) => {
                if !self.references || self.ofproto.tables.groups().find(*id).is_some() {
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
            Action::Ct(ct) => self.ct(ct),
            Action::SetField(set)
                if matches!(set.field, FieldId::NdReserved | FieldId::NdOptionsType) =>
            {
                let can = self.ofproto.backer.features().nd_ext;
                let want = "setting IPv6 ND Extensions fields";
                self.supported(can, "set field", want, OfpErr::OFPBAC_BAD_SET_ARGUMENT)
            }
            // Translation does not know them.
            Action::Encap(_) => {
                self.supported(false, "encap", "encap action", OfpErr::OFPBAC_BAD_TYPE)
            }
            Action::Decap { .. } => {
                self.supported(false, "decap", "decap action", OfpErr::OFPBAC_BAD_TYPE)
            }
            Action::Clone(nested) | Action::WriteActions(nested) => self.possible(nested),
            _ => Ok(()),
        })
    }
}
