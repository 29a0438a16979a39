//! From the bridge's state to the records that translations read.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use ferrovs_netdev::PortClass;
use ferrovs_openflow::port::PortConfig;
use ferrovs_openflow::switch;
use ferrovs_packet::types::OfPort;

use super::{Bundle, Ofproto, Port};
use crate::xlate::shared::SharedMap;
use crate::xlate::snapshot::{
    BridgeId, BundleId, FragHandling, PacketInSink, PacketTaker, VlanSet, XBridge, XBundle, XPort,
    XTunnel,
};

/// The records of a bridge's ports and bundles as they were last made, and those that are to be made anew.
#[derive(Default)]
pub(crate) struct Records {
    ports: SharedMap<OfPort, Arc<XPort>>,
    bundles: SharedMap<BundleId, Arc<XBundle>>,
    flood_order: Arc<OnceLock<Vec<OfPort>>>,
    stale_ports: BTreeSet<OfPort>,
    stale_bundles: BTreeSet<BundleId>,
}

impl Ofproto {
    /// Notes that what translations see of a port, or of its bundle, changed.
    pub fn port_changed(&mut self, port: OfPort) {
        self.records.stale_ports.insert(port);
        if let Some(bundle) = self.ports.get(&port).and_then(|p| p.bundle) {
            // Whether one floods depends on its ports.
            self.records.stale_bundles.insert(bundle);
        }
        self.dirty = true;
    }

    pub(super) fn bundle_changed(&mut self, bundle: BundleId) {
        self.records.stale_bundles.insert(bundle);
        self.dirty = true;
    }

    /// The ports that changed since this was last asked.
    pub(crate) fn take_changed_ports(&mut self) -> BTreeSet<OfPort> {
        std::mem::take(&mut self.records.stale_ports)
    }

    /// The last record of a port.
    pub(crate) fn record(&self, port: OfPort) -> Option<&Arc<XPort>> {
        self.records.ports.get(&port)
    }

    /// Makes a port's record anew. `peer` is the other end of a patch port.
    pub(crate) fn renew_record(&mut self, ofport: OfPort, peer: Option<(BridgeId, OfPort)>) {
        let new = self
            .ports
            .get(&ofport)
            .map(|port| Arc::new(xport(port, peer)));
        let records = &mut self.records;
        let number = new.as_ref().map(|p| p.dp_port);
        let old = match new {
            Some(new) => records.ports.insert(ofport, new),
            None => records.ports.remove(&ofport),
        };
        if old.map(|p| p.dp_port) != number {
            records.flood_order = Arc::default();
        }
        self.dirty = true;
    }

    /// Makes all records anew the next time; returns those that there were.
    #[cfg(test)]
    pub(crate) fn begin_records(&mut self) -> Records {
        let new = Records {
            stale_ports: self.ports.keys().copied().collect(),
            stale_bundles: self.bundles.keys().copied().collect(),
            ..Records::default()
        };
        self.dirty = true;
        std::mem::replace(&mut self.records, new)
    }

    /// The bridge's record.
    pub(crate) fn make_xbridge(&mut self) -> XBridge {
        for id in std::mem::take(&mut self.records.stale_bundles) {
            let new = self.bundles.get(&id).map(|b| Arc::new(self.xbundle(b)));
            match new {
                Some(new) => self.records.bundles.insert(id, new),
                None => self.records.bundles.remove(&id),
            };
        }
        let packet_ins: Arc<dyn PacketInSink> = self.packet_ins.clone();
        XBridge {
            id: self.id,
            name: self.name.clone(),
            tables: self.tables.clone(),
            meters: self.meter_map.clone(),
            macs: self.macs.clone(),
            ports: self.records.ports.clone(),
            bundles: self.records.bundles.clone(),
            flood_order: self.records.flood_order.clone(),
            forward_bpdu: self.forward_bpdu,
            flood_vlans: self.flood_vlans.clone(),
            frag: match self.frag {
                switch::FragHandling::Drop => FragHandling::Drop,
                switch::FragHandling::NxMatch => FragHandling::NxMatch,
                switch::FragHandling::Normal | switch::FragHandling::Reassemble => {
                    FragHandling::Normal
                }
            },
            mirrors: self.mirrors.clone(),
            packet_ins,
            tun_table: self.tun_table.clone(),
            neighbours: ferrovs_tunnel::neigh::bridge(&self.name),
            local_mac: self.local_mac(),
        }
    }

    fn xbundle(&self, bundle: &Bundle) -> XBundle {
        let s = &bundle.settings;
        let floodable = |p: &OfPort| {
            self.ports
                .get(p)
                .is_none_or(|p| !p.config.contains(PortConfig::NO_FLOOD))
        };
        XBundle {
            id: bundle.id,
            name: s.name.clone(),
            vlan_mode: s.vlan_mode,
            vlan: s.vlan,
            trunks: s.trunks.clone().map(|v| Arc::new(VlanSet::new(v))),
            cvlans: s.cvlans.clone().map(|v| Arc::new(VlanSet::new(v))),
            qinq_ethtype: s.qinq_ethtype,
            priority_tags: s.priority_tags,
            protected: s.protected,
            floodable: s.ports.iter().all(floodable),
            ports: s.ports.clone(),
        }
    }
}

fn xport(port: &Port, peer: Option<(BridgeId, OfPort)>) -> XPort {
    let tunnel = match port.netdev.class() {
        PortClass::Tunnel(tunnel) if port.tunnel_port.is_some() => Some(XTunnel {
            ty: tunnel.ty(),
            config: tunnel.config(),
        }),
        _ => None,
    };
    XPort {
        ofport: port.ofport,
        name: port.name().to_string(),
        dp_port: port.dp_port,
        bundle: port.bundle,
        config: port.config.bits(),
        state: port.desc.state.bits(),
        may_enable: port.may_enable(),
        peer,
        tunnel,
        netdev: port.netdev.clone(),
        counters: port.counters.clone(),
        machines: port.machines.clone().map(|m| m as Arc<dyn PacketTaker>),
    }
}
