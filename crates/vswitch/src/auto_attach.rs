//! Auto Attach: a bridge's row says which I-SIDs it wants mapped to VLANs, and what it is called.
//!
//! Ports that speak LLDP carry the VLANs that are mapped. The machines of the ports say which those are; once a
//! second they become the trunks of the ports' rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ferrovs_idl::open_vswitch as db;
use ferrovs_idl::{Idl, Txn};
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_protocols::lldp::Identity;
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::{Poller, vlog};

use crate::config::{AutoAttachConfig, Config, PortConfig};
use crate::scope::Scope;
use crate::write::put;

/// How long changes of trunks are gathered.
const INTERVAL: Duration = Duration::from_secs(1);

/// What bridges are known to want mapped.
#[derive(Default)]
pub(crate) struct AutoAttach {
    /// VLANs by I-SID, by bridge.
    known: BTreeMap<String, BTreeMap<u32, u16>>,
    /// When the trunks that changed are written.
    write_at: Option<Instant>,
}

impl AutoAttach {
    /// Applies the rows. A bridge without one keeps what it wanted.
    pub fn configure(&mut self, ofprotos: &mut Ofprotos, config: &Config, scope: &Scope) {
        self.known
            .retain(|name, _| config.bridges.contains_key(name));
        for name in scope.names(config.bridges.keys()) {
            let bridge = config.bridges.get(name);
            let Some(bridge) = bridge.filter(|_| scope.has_settings(name)) else {
                continue;
            };
            if let Some(ofproto) = ofprotos.ofproto_mut(name) {
                ofproto.set_lldp_identity(bridge.auto_attach.as_ref().map(identity));
            }
            if let Some(wanted) = &bridge.auto_attach {
                let known = self.known.entry(name.to_string()).or_default();
                for (isid, vlan) in
                    known.extract_if(.., |isid, _| !wanted.mappings.contains_key(isid))
                {
                    vlog::info!(BRIDGE, "Deleting isid={isid}, vlan={vlan}");
                    ofprotos.remove_mapping(isid);
                }
                for (&isid, &vlan) in &wanted.mappings {
                    known.entry(isid).or_insert_with(|| {
                        vlog::info!(BRIDGE, "Adding isid={isid}, vlan={vlan}");
                        ofprotos.add_mapping(isid, vlan);
                        vlan
                    });
                }
            }
        }
    }

    /// Whether trunks that changed are to be written now.
    pub fn is_due(&mut self, ofprotos: &Ofprotos, now: Instant) -> bool {
        if !ofprotos.has_vlan_changes() {
            return false;
        }
        let at = *self.write_at.get_or_insert(now + INTERVAL);
        now >= at
    }

    pub fn wait(&self, poller: &mut Poller) {
        if let Some(at) = self.write_at {
            poller.wait_until(at);
        }
    }

    /// Writes what ports shall carry: those of bridges with a row.
    pub fn write_vlans(&mut self, txn: &mut Txn, idl: &Idl, ofprotos: &Ofprotos, config: &Config) {
        self.write_at = None;
        let mut trunks: BTreeMap<&str, (&PortConfig, BTreeSet<u16>)> = BTreeMap::new();
        for change in ofprotos.take_vlan_changes() {
            let (name, vlan) = (&change.port, change.vlan);
            let oper = if change.add { 1 } else { 2 };
            vlog::info!(BRIDGE, "ifname={name}, vlan={vlan}, oper={oper}");
            let Some(port) = port_of(config, name) else {
                continue;
            };
            let (_, trunks) = trunks
                .entry(&port.name)
                .or_insert_with(|| (port, port.trunks.iter().copied().collect()));
            match change.add {
                true => trunks.insert(vlan),
                false => trunks.remove(&vlan),
            };
        }
        for (port, trunks) in trunks.values() {
            let trunks: Vec<i64> = trunks.iter().map(|&v| v.into()).collect();
            put(txn, idl, port.uuid, db::Port::TRUNKS, trunks);
            put(txn, idl, port.uuid, db::Port::VLAN_MODE, Some("trunk"));
        }
    }
}

fn identity(row: &AutoAttachConfig) -> Identity {
    Identity {
        system_name: Some(row.system_name.clone()).filter(|name| !name.is_empty()),
        system_description: row.system_description.clone(),
    }
}

/// The port of an interface, on a bridge that has a row.
fn port_of<'a>(config: &'a Config, iface: &str) -> Option<&'a PortConfig> {
    let place = config.places.get(iface)?;
    let bridge = config.bridges.get(&place.bridge)?;
    bridge.auto_attach.as_ref()?;
    bridge.ports.get(&place.port)
}
