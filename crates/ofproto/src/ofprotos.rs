//! All bridges of the process, by name, over the datapaths that they use: what the program that configures
//! bridges calls.
//!
//! ```text
//! let mut ofprotos = Ofprotos::new(dpif_classes)?;
//! ofprotos.create("br0", "netdev")?;
//! ofprotos.port_add("br0", netdev, None)?;
//! ofprotos.ofproto_mut("br0").bundle_set(settings);   // and the other settings of a bridge: see Bridge
//! loop { ofprotos.run(now); ofprotos.wait(&mut poller); poller.block(); }
//! ```
//!
//! Changes reach translations when [`Ofprotos::publish`] is called, which [`Ofprotos::run`] does first.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::{Detach, DpifClass, Errno, PortEvents};
use ferrovs_encap::TunnelConfig;
use ferrovs_netdev::Netdev;
use ferrovs_packet::types::{DpPort, OfPort};
use ferrovs_runtime::{Poller, coverage, is_quiet, vlog};
use ferrovs_sync::Waker;

use crate::backer::Backer;
use crate::bridge::Bridge;
use crate::monitor::{Monitor, PortMachines, VlanChange};
use crate::ofproto::{Ofproto, Port, PortError};
use crate::udpif::Settings;
use crate::xlate::describe;
use crate::xlate::snapshot::{BridgeId, TunnelMap, XBridge, XlateSnapshot};

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

/// The datapath type that an empty name means.
pub const DEFAULT_KIND: &str = "system";

/// See the module's text.
pub struct Ofprotos {
    classes: Vec<Arc<dyn DpifClass>>,
    backers: BTreeMap<String, Arc<Backer>>,
    bridges: BTreeMap<String, Bridge>,
    /// Limits and intervals that hold for all datapaths.
    pub settings: Arc<Settings>,
    waker: Arc<Waker>,
    republish: bool,
    /// What others do to the ports of each datapath.
    port_events: BTreeMap<String, PortEvents>,
    monitor: Monitor,
    /// [`ferrovs_tunnel::change_seq`] as flows were last checked against.
    tunnel_seq: u64,
}

impl Ofprotos {
    pub fn new(classes: Vec<Arc<dyn DpifClass>>) -> io::Result<Ofprotos> {
        crate::log::install();
        Ok(Ofprotos {
            classes,
            backers: BTreeMap::new(),
            bridges: BTreeMap::new(),
            settings: Arc::default(),
            waker: Arc::new(Waker::new()?),
            republish: false,
            port_events: BTreeMap::new(),
            monitor: Monitor::default(),
            tunnel_seq: ferrovs_tunnel::change_seq().read(),
        })
    }

    /// Datapath types that can be used, sorted.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.classes.iter().map(|c| c.kind()).collect();
        kinds.sort_unstable();
        kinds
    }

    fn class(&self, kind: &str) -> Option<&Arc<dyn DpifClass>> {
        let kind = if kind.is_empty() { DEFAULT_KIND } else { kind };
        self.classes.iter().find(|c| c.kind() == kind)
    }

    /// The type of device to open for a port that the user calls `port_kind`, on a datapath of `dp_kind`.
    pub fn port_open_kind(&self, dp_kind: &str, port_kind: &str) -> String {
        self.class(dp_kind)
            .map_or_else(|| port_kind.to_string(), |c| c.port_open_kind(port_kind))
    }

    /// Makes a bridge. EAFNOSUPPORT for a datapath type that is not known.
    pub fn create(&mut self, name: &str, dp_kind: &str, now: Instant) -> Result<(), Errno> {
        const EAFNOSUPPORT: Errno = Errno(97);
        if self.bridges.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let Some(class) = self.class(dp_kind).cloned() else {
            vlog::warn!(vlog::modules::OFPROTO, "unknown datapath type {dp_kind}");
            vlog::warn!(
                vlog::modules::OFPROTO,
                "could not create datapath {name} of unknown type {dp_kind}"
            );
            return Err(EAFNOSUPPORT);
        };
        let backer = match self.backers.get(class.kind()) {
            Some(backer) => backer.clone(),
            None => {
                let backer = Arc::new(Backer::open(&*class, self.settings.clone()).inspect_err(
                    |e| {
                        let kind = class.kind();
                        vlog::err!(
                            vlog::modules::OFPROTO,
                            "failed to open datapath of type {kind}: {e}"
                        );
                    },
                )?);
                let kind = class.kind().to_string();
                let events = backer.dpif.port_events();
                self.port_events.insert(kind.clone(), events);
                self.backers.insert(kind, backer.clone());
                backer
            }
        };
        let id = uuid::Uuid::new_v4().as_u128();
        let bridge = Bridge::new(name, id, backer, &self.waker, now);
        self.bridges.insert(name.to_string(), bridge);
        Ok(())
    }

    /// Ends a bridge, and lets go of the datapath when no bridge uses it any more.
    pub fn destroy(&mut self, name: &str, detach: Detach) {
        let Some(bridge) = self.bridges.remove(name) else {
            return;
        };
        let backer = bridge.ofproto.backer.clone();
        bridge.destroy(detach);
        self.republish = true;
        self.publish();
        if !self.ofprotos().any(|o| o.backer.kind == backer.kind) {
            backer.close(detach);
            self.backers.remove(&backer.kind);
            self.port_events.remove(&backer.kind);
        }
    }

    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.bridges.get(name)
    }

    pub fn bridge_mut(&mut self, name: &str) -> Option<&mut Bridge> {
        self.bridges.get_mut(name)
    }

    /// All bridges, by name.
    pub fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridges.values()
    }

    pub fn bridges_mut(&mut self) -> impl Iterator<Item = &mut Bridge> {
        self.bridges.values_mut()
    }

    /// Their switches.
    pub fn ofprotos(&self) -> impl Iterator<Item = &Ofproto> {
        self.bridges.values().map(|b| &b.ofproto)
    }

    /// The switch of one.
    pub fn ofproto(&self, name: &str) -> Option<&Ofproto> {
        self.bridges.get(name).map(|b| &b.ofproto)
    }

    pub fn ofproto_mut(&mut self, name: &str) -> Option<&mut Ofproto> {
        self.bridges.get_mut(name).map(|b| &mut b.ofproto)
    }

    /// Datapaths in use, by type.
    pub fn backers(&self) -> impl Iterator<Item = &Arc<Backer>> {
        self.backers.values()
    }

    pub fn backer(&self, kind: &str) -> Option<&Arc<Backer>> {
        self.backers.get(kind)
    }

    /// Adds a device to a bridge; `wanted` is the OpenFlow port number that it asks for.
    pub fn port_add(
        &mut self,
        bridge: &str,
        netdev: Arc<dyn Netdev>,
        wanted: Option<OfPort>,
    ) -> Result<OfPort, PortError> {
        let name = netdev.name().to_string();
        let ofproto = self.ofproto_mut(bridge).ok_or(PortError::NoSuchPort)?;
        let ofport = ofproto.add_port(netdev, wanted)?;
        if self.duplicate_of(bridge, ofport) {
            self.port_del(bridge, ofport)?;
            vlog::warn_rl!(
                RL,
                vlog::modules::OFPROTO,
                "{bridge}: could not add port {name} ({})",
                PortError::Exists
            );
            return Err(PortError::Exists);
        }
        Ok(ofport)
    }

    /// Whether a port is a tunnel that would take the packets of another, which is then told in the log.
    fn duplicate_of(&self, bridge: &str, ofport: OfPort) -> bool {
        let Some(bridge) = self.ofproto(bridge) else {
            return false;
        };
        let tunnel = |port: &Port| {
            let config = port
                .tunnel_port
                .as_ref()
                .map(|_| port.netdev.class().tunnel_config());
            config.flatten()
        };
        let port = bridge.ports.get(&ofport);
        let Some((port, config)) = port.and_then(|p| Some((p, tunnel(p)?))) else {
            return false;
        };
        let same = |other: &&Port| {
            other.dp_port == port.dp_port
                && other.name() != port.name()
                && tunnel(other).is_some_and(|c| TunnelMap::same(&c, &config))
        };
        let of_kind = (self.ofprotos()).filter(|b| b.backer.kind == bridge.backer.kind);
        let other = of_kind.flat_map(|b| b.ports.values()).find(same);
        if let Some(other) = other {
            warn_same(port.name(), other.name(), &config, port.dp_port);
        }
        other.is_some()
    }

    pub fn port_del(&mut self, bridge: &str, ofport: OfPort) -> Result<(), PortError> {
        self.ofproto_mut(bridge)
            .ok_or(PortError::NoSuchPort)?
            .remove_port(ofport)
    }

    /// Whether a port speaks LLDP; see [`Ofproto::set_lldp`].
    pub fn set_lldp(&mut self, bridge: &str, ofport: OfPort, wanted: Option<bool>, now: Instant) {
        if let Some(bridge) = self.bridges.get_mut(bridge) {
            bridge
                .ofproto
                .set_lldp(ofport, wanted, &mut self.monitor, now);
        }
    }

    /// The machines of all ports that have some, by bridge.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<PortMachines>> {
        self.ofprotos().flat_map(Ofproto::machines)
    }

    /// Wants an I-SID mapped to a VLAN on every port that speaks LLDP.
    pub fn add_mapping(&mut self, isid: u32, vlan: u16) {
        let ofprotos = self.bridges.values().map(|b| &b.ofproto);
        let ports = ofprotos.flat_map(Ofproto::machines);
        self.monitor.add_mapping(isid, vlan, ports);
    }

    /// Wants it no more.
    pub fn remove_mapping(&mut self, isid: u32) {
        let ofprotos = self.bridges.values().map(|b| &b.ofproto);
        let ports = ofprotos.flat_map(Ofproto::machines);
        self.monitor.remove_mapping(isid, ports);
    }

    pub fn has_vlan_changes(&self) -> bool {
        self.monitor.has_vlan_changes()
    }

    /// VLANs that ports shall carry for mappings' sake, or no more.
    pub fn take_vlan_changes(&self) -> Vec<VlanChange> {
        self.monitor.take_vlan_changes()
    }

    /// For tests of translation: see [`Backer::pretend_conntrack`]. Dummy datapaths alone can be lied about.
    pub fn pretend_conntrack(&mut self) {
        for backer in self.backers.values().filter(|b| b.kind == "dummy") {
            backer.pretend_conntrack();
        }
        self.republish = true;
    }

    /// Makes what changed visible to translations, and lets installed flows be checked against it.
    pub fn publish(&mut self) {
        self.note_port_changes();
        let mut kinds: Vec<String> = Vec::new();
        for Bridge { ofproto, .. } in self.bridges.values_mut() {
            ofproto.update_mtus();
            if ofproto.dirty {
                kinds.push(ofproto.backer.kind.clone());
            }
        }
        if self.republish {
            self.republish = false;
            kinds = self.backers.keys().cloned().collect();
        }
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            self.publish_kind(&kind);
        }
    }

    /// Follows what others did to the ports of datapaths.
    fn note_port_changes(&mut self) {
        for (kind, events) in &mut self.port_events {
            let Some(changes) = events.take() else {
                continue;
            };
            let ofprotos = self.bridges.values_mut().map(|b| &mut b.ofproto);
            ofprotos
                .filter(|b| b.backer.kind == *kind)
                .for_each(|b| b.follow_datapath(&changes));
        }
    }

    fn publish_kind(&mut self, kind: &str) {
        let Some(backer) = self.backers.get(kind).cloned() else {
            return;
        };
        let of_kind = || self.ofprotos().filter(|b| b.backer.kind == kind);
        let peer = |name: &str, peer: &str| -> Option<(BridgeId, OfPort)> {
            of_kind().find_map(|b| {
                let port = b.port_by_name(peer)?;
                let back = port.netdev.class().patch_peer();
                back.is_some_and(|back| *back == name)
                    .then_some((b.id, port.ofport))
            })
        };
        let mut next = XlateSnapshot {
            features: backer.features(),
            ..XlateSnapshot::default()
        };
        let mut tunnels = TunnelMap::default();
        let mut same = Vec::new();
        let bridges: HashMap<BridgeId, Arc<XBridge>> = of_kind()
            .map(|b| (b.id, Arc::new(b.to_xbridge(&peer))))
            .collect();
        for bridge in of_kind() {
            for port in bridge.ports.values() {
                let place = (bridge.id, port.ofport);
                if port.tunnel_port.is_none() {
                    // Patch ports have no port of the datapath.
                    if port.dp_port != DpPort::NONE {
                        next.dp_ports.insert(port.dp_port, place);
                    }
                } else if let Some(config) = port.netdev.class().tunnel_config()
                    && !tunnels.insert(port.dp_port, &config, place)
                {
                    // Its options became those of another, which goes on taking the packets.
                    same.push((bridge.name.clone(), port.ofport));
                }
            }
        }
        for (bridge, ofport) in same {
            self.duplicate_of(&bridge, ofport);
        }
        next.bridges = bridges;
        next.tunnels = tunnels;
        backer.snapshot.publish(next);
        let of_kind = |b: &&mut Ofproto| b.backer.kind == kind;
        let (mut toggled, mut changed) = (false, false);
        let ofprotos = self.bridges.values_mut().map(|b| &mut b.ofproto);
        for bridge in ofprotos.filter(of_kind) {
            toggled |= bridge.toggled;
            changed |= bridge.dirty && !bridge.toggled;
            (bridge.dirty, bridge.toggled) = (false, false);
        }
        backer.udpif.changed_by(match toggled && !changed {
            true => &coverage::REV_PORT_TOGGLED,
            false => &coverage::REV_RECONFIGURE,
        });
    }

    /// Does what is due: ports, flows, connections.
    pub fn run(&mut self, now: Instant) {
        if !is_quiet(self.waker.as_fd()) {
            self.waker.drain();
        }
        ferrovs_tunnel::run();
        let seq = ferrovs_tunnel::change_seq().read();
        if seq != self.tunnel_seq {
            self.tunnel_seq = seq;
            let changed = |b: &Arc<Backer>| b.udpif.changed_by(&coverage::REV_RECONFIGURE);
            self.backers.values().for_each(changed);
        }
        self.publish();
        for backer in self.backers.values() {
            backer.dpif.run();
        }
        for bridge in self.bridges.values_mut() {
            bridge.run(now);
        }
        self.publish();
    }

    pub fn wait(&self, poller: &mut Poller) {
        poller.wait_fd(self.waker.as_fd(), ferrovs_runtime::Interest::READ);
        for events in self.port_events.values() {
            let (seq, seen) = events.seq();
            poller.wait_seq(seq, seen);
        }
        ferrovs_tunnel::wait(poller);
        poller.wait_seq(ferrovs_tunnel::change_seq(), self.tunnel_seq);
        for bridge in self.bridges.values() {
            bridge.wait(poller);
            if bridge.ofproto.dirty {
                poller.wake_now();
            }
        }
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
