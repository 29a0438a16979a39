//! From the bridge's state to the records that translations read.

use std::collections::HashMap;
use std::sync::Arc;

use ferrovs_netdev::PortClass;
use ferrovs_openflow::port::PortConfig;
use ferrovs_openflow::switch;
use ferrovs_packet::types::OfPort;

use super::{Bundle, Ofproto, Port};
use crate::xlate::snapshot::{
    BridgeId, FragHandling, PacketInSink, PacketTaker, VlanSet, XBridge, XBundle, XPort, XTunnel,
};

impl Ofproto {
    /// The bridge's record. `peer` finds the other end of a patch port by its name.
    pub(crate) fn to_xbridge(
        &self,
        peer: &dyn Fn(&str, &str) -> Option<(BridgeId, OfPort)>,
    ) -> XBridge {
        let ports: HashMap<_, _> = self
            .ports
            .iter()
            .map(|(n, p)| (*n, Arc::new(xport(p, peer))))
            .collect();
        let bundles = self
            .bundles
            .iter()
            .map(|(id, b)| (*id, Arc::new(self.xbundle(b))))
            .collect();
        let packet_ins: Arc<dyn PacketInSink> = self.packet_ins.clone();
        XBridge {
            id: self.id,
            name: self.name.clone(),
            tables: self.tables.clone(),
            meters: self.meter_map.clone(),
            macs: self.macs.clone(),
            ports,
            bundles,
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

fn xport(port: &Port, peer: &dyn Fn(&str, &str) -> Option<(BridgeId, OfPort)>) -> XPort {
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
        peer: port
            .netdev
            .class()
            .patch_peer()
            .and_then(|name| peer(port.name(), &name)),
        tunnel,
        netdev: port.netdev.clone(),
        counters: port.counters.clone(),
        machines: port.machines.clone().map(|m| m as Arc<dyn PacketTaker>),
    }
}
