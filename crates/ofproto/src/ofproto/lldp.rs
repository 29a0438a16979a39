//! LLDP on the bridge's ports.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_packet::types::OfPort;
use ferrovs_protocols::lldp::Identity;

use super::Ofproto;
use crate::monitor::{Monitor, PortMachines};

/// What a bridge says about itself that is not told otherwise.
pub(super) fn default_identity() -> Identity {
    Identity {
        system_name: None,
        system_description: format!("openvswitch {}", ferrovs_runtime::version::VERSION),
    }
}

impl Ofproto {
    /// Whether a port speaks LLDP. Without a word about it a port that spoke it forgets what it knew; one that had been told
    /// to be silent does not.
    pub(crate) fn set_lldp(
        &mut self,
        ofport: OfPort,
        wanted: Option<bool>,
        monitor: &mut Monitor,
        now: Instant,
    ) {
        let place = (self.id, ofport);
        let Some(port) = self.ports.get_mut(&ofport) else {
            return;
        };
        let had_some = port.machines.is_some();
        let was_on = port.machines.as_ref().is_some_and(|m| m.lldp_is_on());
        let on = wanted == Some(true);
        if wanted.is_none() && was_on {
            port.machines = None;
        } else if on && port.machines.is_none() {
            let machines = monitor.add_port(port.netdev.name(), place, &self.backer);
            machines.set_identity(&self.lldp_identity);
            machines.set_mac(port.desc.hw_addr);
            port.machines = Some(machines);
        }
        if let Some(machines) = &port.machines
            && on != was_on
        {
            machines.set_lldp(on, now);
        }
        if on != was_on || port.machines.is_some() != had_some {
            self.port_changed(ofport);
        }
    }

    /// What the bridge says about itself to neighbours. None takes the description back, but not the name.
    pub fn set_lldp_identity(&mut self, wanted: Option<Identity>) {
        let identity = wanted.unwrap_or_else(|| Identity {
            system_name: self.lldp_identity.system_name.take(),
            ..default_identity()
        });
        self.machines().for_each(|m| m.set_identity(&identity));
        self.lldp_identity = identity;
    }

    /// The machines of the ports that have some.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &Arc<PortMachines>> {
        self.ports.values().filter_map(|p| p.machines.as_ref())
    }
}
