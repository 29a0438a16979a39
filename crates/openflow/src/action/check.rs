//! Whether actions suit the match of their flow and the switch.
//!
//! An action on a header that the match does not promise is refused; for OpenFlow 1.0, where no such rule was,
//! some are let through and only the newer protocols are ruled out. Actions that push or pop headers change what
//! is known for those that follow. Checking also notes in actions what later encoding needs to know about the
//! packet (whether it has a VLAN tag, which L4 protocol it is).
//!
//! Whether actions may stand together at all is checked before, in [`verify`](super::verify).

use ferrovs_packet::field::SubField;
use ferrovs_packet::flow::{Match, PT_ETH, VLAN_CFI};
use ferrovs_packet::types::{OfPort, eth_type};

use super::{Action, check_writable};
use crate::error::OfpErr;
use crate::text::parse_action::OF11_UP;
use crate::version::Protocol;
use crate::warn::{Topic, warn};

/// What a switch allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Port numbers from this on that are not reserved do not exist.
    pub max_ports: OfPort,
    /// The table of the flow; 255 if none.
    pub table_id: u8,
    pub n_tables: u8,
}

impl Limits {
    /// What holds of every switch, for actions in this table.
    pub fn any_switch(table_id: u8) -> Limits {
        Limits {
            max_ports: OfPort::MAX,
            table_id,
            n_tables: 255,
        }
    }
}

/// Checks actions of a flow mod that came from a connection with this protocol.
pub fn check_for_protocol(
    actions: &mut [Action],
    m: &Match,
    limits: Limits,
    protocol: Protocol,
) -> Result<(), OfpErr> {
    let mut usable = Protocol::all();
    check(actions, m, limits, &mut usable)?;
    if usable.intersects(protocol) {
        Ok(())
    } else {
        Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
    }
}

/// Checks actions, and takes from `usable` the protocols that would refuse them.
pub fn check(
    actions: &mut [Action],
    m: &Match,
    limits: Limits,
    usable: &mut Protocol,
) -> Result<(), OfpErr> {
    let mut c = Checker {
        m: *m,
        limits,
        usable,
    };
    let mut actions = actions.iter_mut();
    actions.try_for_each(|a| (a.row().check)(a, &mut c))
}

/// Whether `port` can be sent to.
pub fn check_out_port(port: OfPort, max_ports: OfPort) -> Result<(), OfpErr> {
    match port {
        OfPort::IN_PORT
        | OfPort::TABLE
        | OfPort::NORMAL
        | OfPort::FLOOD
        | OfPort::ALL
        | OfPort::CONTROLLER
        | OfPort::LOCAL => Ok(()),
        p if p < max_ports => Ok(()),
        _ => Err(OfpErr::OFPBAC_BAD_OUT_PORT),
    }
}

/// What is known when an action runs.
pub(crate) struct Checker<'a> {
    /// What the match and the actions before promise of the packet.
    pub m: Match,
    pub limits: Limits,
    pub usable: &'a mut Protocol,
}

impl Checker<'_> {
    pub(super) fn is_ethernet(&self) -> bool {
        self.m.flow.packet_type.get() == PT_ETH
    }

    pub(super) fn is_ip_any(&self) -> bool {
        [eth_type::IP, eth_type::IPV6].contains(&self.m.flow.ether_type())
    }

    pub(super) fn is_mpls(&self) -> bool {
        [eth_type::MPLS, eth_type::MPLS_MCAST].contains(&self.m.flow.ether_type())
    }

    pub(super) fn has_vlan(&self) -> bool {
        self.m.flow.vlans[0].tci.get() & VLAN_CFI != 0
    }

    /// OpenFlow 1.0 does not mind an action that does not `fit`; later versions do.
    pub(super) fn legacy(&mut self, fits: bool) {
        if !fits {
            *self.usable &= !OF11_UP;
        }
    }

    pub(super) fn src(&self, sf: &SubField) -> Result<(), OfpErr> {
        prereqs_in(sf, "source", &self.m)
    }

    pub(super) fn dst(&self, sf: &SubField) -> Result<(), OfpErr> {
        prereqs_in(sf, "destination", &self.m)?;
        check_writable(sf)
    }

    /// Checks a nested list; what it does to the packet is undone behind it.
    pub(super) fn nested(&mut self, list: &mut [Action]) -> Result<(), OfpErr> {
        check(list, &self.m, self.limits, self.usable)
    }
}

/// Whether a match has what the field needs.
pub(super) fn prereqs_in(sf: &SubField, role: &str, m: &Match) -> Result<(), OfpErr> {
    let f = sf.field.field();
    if f.match_prereqs_ok(m) {
        return Ok(());
    }
    warn(Topic::MetaFlow, || {
        format!("{role} field {} lacks correct prerequisites", f.name)
    });
    Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
}
