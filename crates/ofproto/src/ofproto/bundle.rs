//! Bundles (the ports of the NORMAL switch, each one or several OpenFlow ports) and mirrors.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ferrovs_packet::types::{OfPort, eth_type};

use super::Ofproto;
use crate::xlate::snapshot::{BundleId, PriorityTags, VlanMode, VlanSet, XMirror};

/// A `Port` row, as far as switching is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSettings {
    /// Identifies the bundle in its bridge.
    pub name: String,
    pub ports: Vec<OfPort>,
    pub vlan_mode: VlanMode,
    /// Access, native or service VLAN.
    pub vlan: u16,
    /// None: all.
    pub trunks: Option<Vec<u16>>,
    pub cvlans: Option<Vec<u16>>,
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    pub protected: bool,
}

impl Default for BundleSettings {
    fn default() -> Self {
        BundleSettings {
            name: String::new(),
            ports: Vec::new(),
            vlan_mode: VlanMode::Trunk,
            vlan: 0,
            trunks: None,
            cvlans: None,
            qinq_ethtype: eth_type::VLAN_8021AD,
            priority_tags: PriorityTags::Never,
            protected: false,
        }
    }
}

impl BundleSettings {
    /// The part on which it depends what addresses are learned.
    fn of_learning(&self) -> BundleSettings {
        let tunnel = self.vlan_mode == VlanMode::Dot1qTunnel;
        BundleSettings {
            name: String::new(),
            ports: Vec::new(),
            cvlans: self.cvlans.clone().filter(|_| tunnel),
            ..self.clone()
        }
    }
}

/// A bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub id: BundleId,
    pub settings: BundleSettings,
}

/// A `Mirror` row; bundles by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorSettings {
    pub name: String,
    pub select_all: bool,
    pub select_src: Vec<String>,
    pub select_dst: Vec<String>,
    /// None: packets of every VLAN.
    pub select_vlans: Option<Vec<u16>>,
    pub output_port: Option<String>,
    pub output_vlan: Option<u16>,
    /// 0: whole packets.
    pub snaplen: u16,
}

impl Ofproto {
    pub fn bundle_by_name(&self, name: &str) -> Option<&Bundle> {
        self.bundles.get(self.bundle_names.get(name)?)
    }

    /// Adds a bundle or changes the one with its name. A port belongs to the bundle that claimed it last.
    pub fn bundle_set(&mut self, settings: BundleSettings) {
        let known = self
            .bundle_by_name(&settings.name)
            .map(|b| (b.id, b.settings == settings));
        let id = match known {
            Some((id, true))
                if settings
                    .ports
                    .iter()
                    .all(|p| self.port_bundle(*p) == Some(id)) =>
            {
                return;
            }
            Some((id, _)) => id,
            None => {
                self.next_bundle += 1;
                self.next_bundle - 1
            }
        };
        let old_ports = self
            .bundles
            .get(&id)
            .map(|b| b.settings.ports.clone())
            .unwrap_or_default();
        for &port in old_ports.iter().filter(|p| !settings.ports.contains(p)) {
            self.leave_bundle(port, id);
        }
        for &port in &settings.ports {
            if let Some(other) = self.port_bundle(port).filter(|other| *other != id) {
                self.bundle_drop_port(other, port);
            }
            if let Some(p) = self.ports.get_mut(&port).filter(|p| p.bundle != Some(id)) {
                p.bundle = Some(id);
                self.port_changed(port);
            }
        }
        // Addresses that were learned under other settings may be wrong.
        let changed = |b: &Bundle| b.settings.of_learning() != settings.of_learning();
        if self.bundles.get(&id).is_some_and(changed) {
            self.macs().forget_port(id);
        }
        self.bundle_names.insert(settings.name.clone(), id);
        self.bundles.insert(id, Bundle { id, settings });
        self.bundle_changed(id);
    }

    fn leave_bundle(&mut self, port: OfPort, id: BundleId) {
        if let Some(p) = self.ports.get_mut(&port).filter(|p| p.bundle == Some(id)) {
            p.bundle = None;
            self.port_changed(port);
        }
    }

    fn port_bundle(&self, port: OfPort) -> Option<BundleId> {
        self.ports.get(&port)?.bundle
    }

    pub fn bundle_remove(&mut self, name: &str) {
        let Some(id) = self.bundle_names.get(name).copied() else {
            return;
        };
        if let Some(bundle) = self.bundle_take(id) {
            for port in bundle.settings.ports {
                self.leave_bundle(port, id);
            }
        }
        self.macs().forget_port(id);
        self.bundle_changed(id);
    }

    fn bundle_take(&mut self, id: BundleId) -> Option<Bundle> {
        let bundle = self.bundles.remove(&id)?;
        self.bundle_names.remove(&bundle.settings.name);
        Some(bundle)
    }

    pub(super) fn bundle_drop_port(&mut self, id: BundleId, port: OfPort) {
        let Some(bundle) = self.bundles.get_mut(&id) else {
            return;
        };
        bundle.settings.ports.retain(|p| *p != port);
        if bundle.settings.ports.is_empty() {
            self.bundle_take(id);
            self.macs().forget_port(id);
        }
        self.bundle_changed(id);
    }

    /// Makes the mirrors exactly these. Mirrors that stay keep their counts.
    pub fn mirrors_set(&mut self, wanted: &[MirrorSettings]) {
        let id = |name: &String| self.bundle_by_name(name).map(|b| b.id);
        let mirrors: Vec<Arc<XMirror>> = wanted
            .iter()
            .map(|m| {
                let old = self.mirrors.iter().find(|o| o.name == m.name);
                let count = |f: fn(&XMirror) -> &AtomicU64| {
                    AtomicU64::new(old.map_or(0, |o| f(o).load(Relaxed)))
                };
                Arc::new(XMirror {
                    name: m.name.clone(),
                    select_src: m.select_src.iter().filter_map(id).collect(),
                    select_dst: m.select_dst.iter().filter_map(id).collect(),
                    select_all: m.select_all,
                    vlans: m.select_vlans.clone().map(VlanSet::new),
                    out_bundle: m.output_port.as_ref().and_then(id),
                    out_vlan: m.output_vlan,
                    snaplen: m.snaplen,
                    packets: count(|o| &o.packets),
                    bytes: count(|o| &o.bytes),
                })
            })
            .collect();
        let same = mirrors.len() == self.mirrors.len()
            && mirrors.iter().zip(&self.mirrors).all(|(a, b)| {
                (&a.name, &a.select_src, &a.select_dst, a.select_all)
                    == (&b.name, &b.select_src, &b.select_dst, b.select_all)
                    && (&a.vlans, a.out_bundle, a.out_vlan, a.snaplen)
                        == (&b.vlans, b.out_bundle, b.out_vlan, b.snaplen)
            });
        if !same {
            self.mirrors = mirrors;
            self.dirty = true;
        }
    }
}
