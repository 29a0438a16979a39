//! What the bridges of one datapath show to translations, made anew as far as it changed.
//!
//! Bridges note which of their ports changed. Those are taken in one by one: where their packets come in, who is the
//! other end of a patch port (whose record changes too), which tunnel takes which packets. Then the records of the
//! bridges concerned are put together, and one snapshot is published; all else in it is shared with the last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ferrovs_encap::TunnelConfig;
use ferrovs_packet::types::{DpPort, OfPort};
use ferrovs_runtime::vlog;

use crate::backer::Backer;
use crate::bridge::Bridge;
use crate::ofproto::{Ofproto, Port};
use crate::xlate::describe;
use crate::xlate::snapshot::{BridgeId, XPort, XlateSnapshot};

type Place = (BridgeId, OfPort);

/// See the module's text.
#[derive(Default)]
pub(crate) struct Publication {
    next: XlateSnapshot,
    /// Patch ports, by name.
    patches: HashMap<String, Place>,
    /// Tunnels that get nothing, since another takes their packets.
    idle_tunnels: BTreeSet<Place>,
}

/// The bridges of all kinds.
type Bridges = BTreeMap<String, Bridge>;

impl Publication {
    /// Takes in the ports that changed on the bridges of a kind.
    pub fn take_in(&mut self, bridges: &mut Bridges, kind: &str) {
        let mut changed: BTreeMap<BridgeId, (String, BTreeSet<OfPort>)> = BTreeMap::new();
        let of_kind = |o: &&mut Ofproto| o.dirty && o.backer.kind == kind;
        let ofprotos = bridges.values_mut().map(|b| &mut b.ofproto);
        for bridge in ofprotos.filter(of_kind) {
            let ports = bridge.take_changed_ports();
            if !ports.is_empty() {
                changed.insert(bridge.id, (bridge.name.clone(), ports));
            }
        }
        if changed.is_empty() {
            return;
        }
        let mut peers = BTreeSet::new();
        let mut tunnels_went = false;
        for (&id, (name, ports)) in &changed {
            let bridge = &bridges[name].ofproto;
            for old in ports.iter().filter_map(|p| bridge.record(*p)) {
                tunnels_went |= old.tunnel.is_some();
                self.take_out(id, old);
                peers.extend(old.peer);
            }
        }
        let mut tunnels = Vec::new();
        for (&id, (name, ports)) in &changed {
            let bridge = &bridges[name].ofproto;
            for port in ports.iter().filter_map(|p| bridge.ports.get(p)) {
                self.put_in((id, port.ofport), port, &mut tunnels);
            }
        }
        if tunnels_went {
            // What it took may be for those that it was in the way of.
            tunnels.extend(std::mem::take(&mut self.idle_tunnels));
        }
        for place in tunnels {
            self.put_in_tunnel(place, bridges);
        }
        for (&id, (name, ports)) in &changed {
            for &port in ports {
                peers.extend(self.peer((id, port), bridges));
                self.renew_port(name, (id, port), bridges);
            }
        }
        for peer in peers {
            if let Some(name) = self.name(peer.0, bridges) {
                self.renew_port(&name, peer, bridges);
            }
        }
    }

    fn take_out(&mut self, bridge: BridgeId, old: &XPort) {
        let place = (bridge, old.ofport);
        self.idle_tunnels.remove(&place);
        if let Some(tunnel) = &old.tunnel {
            Arc::make_mut(&mut self.next.tunnels).remove(old.dp_port, &tunnel.config, place);
        } else if self.next.dp_ports.get(&old.dp_port) == Some(&place) {
            self.next.dp_ports.remove(&old.dp_port);
        }
        if self.patches.get(&old.name) == Some(&place) {
            self.patches.remove(&old.name);
        }
    }

    fn put_in(&mut self, place: Place, port: &Port, tunnels: &mut Vec<Place>) {
        if port.tunnel_port.is_some() {
            tunnels.push(place);
        } else if port.dp_port != DpPort::NONE {
            // Patch ports have no port of the datapath.
            self.next.dp_ports.insert(port.dp_port, place);
        }
        if port.netdev.class().patch_peer().is_some() {
            self.patches.insert(port.name().to_string(), place);
        }
    }

    fn put_in_tunnel(&mut self, place: Place, bridges: &Bridges) {
        let port = self.port(place, bridges);
        let Some((port, config)) = port.and_then(|p| Some((p, p.netdev.class().tunnel_config()?)))
        else {
            return;
        };
        let tunnels = &mut self.next.tunnels;
        if let Some(owner) = tunnels.owner(port.dp_port, &config) {
            // The other goes on taking the packets.
            self.idle_tunnels.insert(place);
            let other = self.port(owner, bridges).map_or("", Port::name);
            warn_same(port.name(), other, &config, port.dp_port);
        } else {
            Arc::make_mut(tunnels).insert(port.dp_port, &config, place);
        }
    }

    /// Whether a port is a tunnel whose packets another takes.
    pub fn is_idle_tunnel(&self, place: Place) -> bool {
        self.idle_tunnels.contains(&place)
    }

    fn name(&self, bridge: BridgeId, bridges: &Bridges) -> Option<String> {
        let known = self.next.bridges.get(&bridge).map(|b| b.name.clone());
        known.or_else(|| {
            // It was not published yet.
            let mut ofprotos = bridges.values().map(|b| &b.ofproto);
            let new = ofprotos.find(|o| o.id == bridge);
            new.map(|o| o.name.clone())
        })
    }

    fn port<'a>(&self, (bridge, port): Place, bridges: &'a Bridges) -> Option<&'a Port> {
        bridges
            .get(&self.name(bridge, bridges)?)?
            .ofproto
            .ports
            .get(&port)
    }

    /// The other end of a patch port: one that is called so and names this one.
    fn peer(&self, place: Place, bridges: &Bridges) -> Option<Place> {
        let port = self.port(place, bridges)?;
        let peer = *self.patches.get(&*port.netdev.class().patch_peer()?)?;
        let back = self.port(peer, bridges)?.netdev.class().patch_peer()?;
        (*back == port.name()).then_some(peer)
    }

    fn renew_port(&self, name: &str, place: Place, bridges: &mut Bridges) {
        let peer = self.peer(place, bridges);
        if let Some(bridge) = bridges.get_mut(name) {
            bridge.ofproto.renew_record(place.1, peer);
        }
    }

    /// Puts the record of a bridge together.
    pub fn renew(&mut self, bridge: &mut Ofproto) {
        let record = Arc::new(bridge.make_xbridge());
        if self.next.bridges.insert(bridge.id, record).is_none() {
            self.next.names.insert(bridge.name.clone(), bridge.id);
        }
    }

    /// Takes a bridge out whose ports are gone.
    pub fn forget(&mut self, bridge: &Ofproto) {
        self.next.bridges.remove(&bridge.id);
        self.next.names.remove(&bridge.name);
    }

    /// What is to be published.
    pub fn snapshot(&mut self, backer: &Backer) -> XlateSnapshot {
        self.next.features = backer.features();
        self.next.zone_policies = backer.zone_policies();
        self.next.clone()
    }
}

fn warn_same(name: &str, other: &str, config: &TunnelConfig, dp_port: DpPort) {
    let mut text = String::new();
    describe::tunnel_match(&mut text, config, dp_port.0);
    vlog::warn!(
        vlog::modules::TUNNEL,
        "{name}: attempting to add tunnel port with same config as port '{other}' ({text})"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ofproto::{BundleSettings, Records};
    use crate::ofprotos::Ofprotos;
    use ferrovs_datapath::dpif::Detach;
    use ferrovs_openflow::port::{PortConfig, PortMod};
    use ferrovs_runtime::clock;
    use ferrovs_testkit::dpif::FakeDpif;

    /// What translations would see, as text.
    fn seen(snapshot: &XlateSnapshot) -> String {
        let mut out = format!("{:?}", Vec::from_iter(snapshot.dp_ports.iter()));
        for bridge in snapshot.bridges.values() {
            out += &format!("\n{} {:?}", bridge.name, bridge.flood_order());
            for p in bridge.ports.values() {
                let owner = p
                    .tunnel
                    .as_ref()
                    .map(|t| snapshot.tunnels.owner(p.dp_port, &t.config));
                let (dp_port, config, peer) = (p.dp_port, p.config, p.peer);
                out += &format!(
                    "\n  {} {dp_port:?} {:?} {config} {peer:?} {owner:?}",
                    p.name, p.bundle
                );
            }
            for b in bridge.bundles.values() {
                out += &format!("\n  {} {} {:?} {}", b.id, b.vlan, b.ports, b.floodable);
            }
        }
        out
    }

    /// The same with everything made anew, beside what is there.
    fn anew(ofprotos: &mut Ofprotos, kind: &str) -> String {
        let records: Vec<Records> = ofprotos
            .bridges_mut()
            .map(|b| b.ofproto.begin_records())
            .collect();
        let new = BTreeMap::from([(kind.to_string(), Publication::default())]);
        let publications = std::mem::replace(&mut ofprotos.publications, new);
        ofprotos.publish();
        let text = seen(&ofprotos.backer(kind).unwrap().snapshot.load());
        ofprotos.publications = publications;
        for (bridge, records) in ofprotos.bridges_mut().zip(records) {
            bridge.ofproto.records = records;
        }
        text
    }

    fn options(kind: &str, i: usize) -> BTreeMap<String, String> {
        let pairs = match kind {
            "patch" => vec![("peer", format!("published{}", i ^ 1))],
            "vxlan" => vec![
                ("remote_ip", "10.0.0.1".to_string()),
                ("key", i.to_string()),
            ],
            _ => vec![],
        };
        pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
    }

    #[test]
    fn what_is_published_bit_by_bit_is_what_everything_made_anew_would_be() {
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let now = clock::now();
        let mut ofprotos = Ofprotos::new(vec![Arc::new(FakeDpif::default()).class()]).unwrap();
        let kind = ofprotos.kinds()[0];
        let (mut state, mut n_peers) = (1usize, 0);
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..400 {
            for _ in 0..=random(3) {
                let (bridge, i) = (["p-br0", "p-br1", "p-br2"][random(3)], random(12));
                let name = format!("published{i}");
                if ofprotos.ofproto(bridge).is_none() {
                    ofprotos.create(bridge, kind, now).unwrap();
                }
                let port = ofprotos
                    .ofproto(bridge)
                    .unwrap()
                    .port_by_name(&name)
                    .map(|p| p.ofport);
                match (random(20), port) {
                    (0, _) => ofprotos.destroy(bridge, Detach::Delete),
                    (1..6, Some(port)) => drop(ofprotos.port_del(bridge, port)),
                    (6..9, Some(port)) => {
                        let settings = BundleSettings {
                            name: format!("bundle{}", random(4)),
                            vlan: random(3) as u16,
                            ports: vec![port],
                            ..BundleSettings::default()
                        };
                        ofprotos.ofproto_mut(bridge).unwrap().bundle_set(settings);
                    }
                    (9, Some(port)) => {
                        let change = PortMod {
                            port_no: port,
                            config: [PortConfig::NO_FLOOD, PortConfig::empty()][random(2)],
                            mask: PortConfig::NO_FLOOD,
                            hw_addr: Default::default(),
                            advertise: Default::default(),
                        };
                        ofprotos
                            .ofproto_mut(bridge)
                            .unwrap()
                            .port_mod(&change)
                            .unwrap();
                    }
                    (10, _) => {
                        let bundle = format!("bundle{}", random(4));
                        ofprotos.ofproto_mut(bridge).unwrap().bundle_remove(&bundle);
                    }
                    (_, Some(_)) => {}
                    (_, None) => {
                        let kind = ["patch", "patch", "vxlan", "dummy"][random(4)];
                        // It may be open on another bridge.
                        if ferrovs_netdev::lookup(&name).is_none() {
                            let netdev = ferrovs_netdev::open(&name, kind).unwrap();
                            netdev.set_config(&options(kind, i)).unwrap();
                            ofprotos.port_add(bridge, netdev, None).unwrap();
                        }
                    }
                }
            }
            ofprotos.publish();
            let Some(backer) = ofprotos.backer(kind) else {
                continue;
            };
            let snapshot = backer.snapshot.load_full();
            let ports = snapshot.bridges.values().flat_map(|b| b.ports.values());
            n_peers += ports.filter(|p| p.peer.is_some()).count();
            assert_eq!(seen(&snapshot), anew(&mut ofprotos, kind));
        }
        assert!(n_peers > 0);
    }
}
