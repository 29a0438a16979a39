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

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::{Detach, DpifClass, Errno, PortEvents};
use ferrovs_datapath::features::DpFeatures;
use ferrovs_netdev::Netdev;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::{Poller, coverage, is_quiet, vlog};
use ferrovs_sync::Waker;

use crate::backer::Backer;
use crate::bridge::Bridge;
use crate::monitor::{Monitor, PortMachines, VlanChange};
use crate::ofproto::{Ofproto, Port, PortError};
use crate::publication::Publication;
use crate::udpif::Settings;
use crate::zones::Zones;

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

/// The datapath type that an empty name means.
pub const DEFAULT_KIND: &str = "system";

/// See the module's text.
pub struct Ofprotos {
    classes: Vec<Arc<dyn DpifClass>>,
    backers: BTreeMap<String, Arc<Backer>>,
    /// What is published of each datapath.
    pub(crate) publications: BTreeMap<String, Publication>,
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
            publications: BTreeMap::new(),
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
                self.publications
                    .insert(kind.clone(), Publication::default());
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
        let Some(ofproto) = self.ofproto_mut(name) else {
            return;
        };
        ofproto.destroy(detach);
        let backer = ofproto.backer.clone();
        if let Some(publication) = self.publications.get_mut(&backer.kind) {
            publication.take_in(&mut self.bridges, &backer.kind);
            publication.forget(&self.bridges[name].ofproto);
        }
        // Its connections close.
        drop(self.bridges.remove(name));
        self.republish = true;
        self.publish();
        if !self.ofprotos().any(|o| o.backer.kind == backer.kind) {
            backer.close(detach);
            self.backers.remove(&backer.kind);
            self.publications.remove(&backer.kind);
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
        if self.is_duplicate(bridge, ofport) {
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
    fn is_duplicate(&mut self, bridge: &str, ofport: OfPort) -> bool {
        let Some(ofproto) = self.ofproto(bridge) else {
            return false;
        };
        let (id, kind) = (ofproto.id, ofproto.backer.kind.clone());
        let is_tunnel = |p: &Port| p.tunnel_port.is_some();
        if !ofproto.ports.get(&ofport).is_some_and(is_tunnel) {
            return false;
        }
        self.publications.get_mut(&kind).is_some_and(|publication| {
            publication.take_in(&mut self.bridges, &kind);
            publication.is_idle_tunnel((id, ofport))
        })
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

    /// Configures the zones of connection tracking of the datapath of a kind.
    pub fn set_zones(&mut self, kind: &str, zones: &Zones) {
        let backer = self.backers.get(kind);
        self.republish |= backer.is_some_and(|b| b.set_zones(zones));
    }

    /// Has the bridges of a kind make use of these features of their datapath, and makes all of its flows anew.
    pub fn set_features(&mut self, kind: &str, features: DpFeatures) {
        let Some(backer) = self.backers.get(kind).cloned() else {
            return;
        };
        backer.set_features(features);
        self.republish = true;
        self.publish();
        backer.udpif.purge();
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
        let backer = self.backers.get(kind);
        let (Some(backer), Some(publication)) = (backer, self.publications.get_mut(kind)) else {
            return;
        };
        publication.take_in(&mut self.bridges, kind);
        let (mut toggled, mut changed) = (false, false);
        let of_kind = |o: &&mut Ofproto| o.dirty && o.backer.kind == kind;
        let ofprotos = self.bridges.values_mut().map(|b| &mut b.ofproto);
        for ofproto in ofprotos.filter(of_kind) {
            publication.renew(ofproto);
            toggled |= ofproto.toggled;
            changed |= !ofproto.toggled;
            (ofproto.dirty, ofproto.toggled) = (false, false);
        }
        backer.snapshot.publish(publication.snapshot(backer));
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
