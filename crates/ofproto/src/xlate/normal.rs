//! The NORMAL action: a learning switch with VLANs.
//!
//! A packet comes in through a bundle, belongs to one VLAN by the bundle's mode ([`input_translate`]), teaches
//! where its source lives, and leaves through the bundle of its destination, or through all that carry the VLAN;
//! each output shows the VLAN as its bundle's mode wants ([`output_translate`]).

use ferrovs_runtime::coverage;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use ferrovs_packet::flow::{VLAN_CFI, VLAN_PCP_MASK, VLAN_VID_MASK, VlanHdr};
use ferrovs_packet::types::{MacAddr, OfPort, eth_type};
use ferrovs_protocols::mac_learning::GratuitousArp;

use super::ctx::Ctx;
use super::snapshot::{BundleId, PriorityTags, VlanMode, XBridge, XBundle};
use super::xcache::Credit;

/// The VLAN headers of a packet, outermost first; VID 0 without priority is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XVlan {
    pub v: [Vlan; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    pub tpid: u16,
    pub vid: u16,
    /// In place in the TCI (bits 13 to 15).
    pub pcp: u16,
}

impl XVlan {
    pub fn of(vlans: &[VlanHdr; 2]) -> XVlan {
        let one = |h: &VlanHdr| match h.tci.get() {
            tci if tci & VLAN_CFI != 0 => Vlan {
                tpid: h.tpid.get(),
                vid: tci & VLAN_VID_MASK,
                pcp: tci & VLAN_PCP_MASK,
            },
            _ => Vlan::default(),
        };
        XVlan {
            v: [one(&vlans[0]), one(&vlans[1])],
        }
    }

    fn headers(&self, tags: PriorityTags) -> [VlanHdr; 2] {
        self.v.map(|vlan| {
            let tci = vlan.vid | vlan.pcp;
            // A packet that came without a tag has none to be kept.
            let kept = tags == PriorityTags::Always && vlan.tpid != 0;
            if tci == 0 && !kept {
                return VlanHdr::default();
            }
            let tpid = if vlan.tpid == 0 {
                eth_type::VLAN_8021Q
            } else {
                vlan.tpid
            };
            VlanHdr {
                tpid: tpid.into(),
                tci: (tci | VLAN_CFI).into(),
            }
        })
    }

    /// Without the outer tag.
    fn popped(&self) -> XVlan {
        XVlan {
            v: [self.v[1], Vlan::default()],
        }
    }
}

impl XBundle {
    /// A port with a native VLAN carries that one, but not those without a tag.
    fn trunks_vlan(&self, vid: u16) -> bool {
        let native = matches!(
            self.vlan_mode,
            VlanMode::NativeTagged | VlanMode::NativeUntagged
        );
        match vid {
            _ if native && self.vlan != 0 && vid == self.vlan => true,
            0 if native && self.vlan != 0 => false,
            _ => self.trunks.as_ref().is_none_or(|t| t.contains(vid)),
        }
    }

    fn allows_cvlan(&self, vid: u16) -> bool {
        self.cvlans.as_ref().is_none_or(|c| c.contains(vid))
    }

    /// Whether packets of the VLAN leave through the bundle.
    fn includes(&self, xvlan: &XVlan) -> bool {
        let vid = xvlan.v[0].vid;
        match self.vlan_mode {
            VlanMode::Access => vid == self.vlan && xvlan.v[1].vid == 0,
            VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                self.trunks_vlan(vid)
            }
            VlanMode::Dot1qTunnel => vid == self.vlan && self.allows_cvlan(xvlan.v[1].vid),
        }
    }
}

/// The VLAN that a packet belongs to, given how it came in.
fn input_translate(bundle: &XBundle, xvlan: XVlan) -> XVlan {
    let mut out = xvlan;
    let untagged = xvlan.v[0].vid == 0;
    match bundle.vlan_mode {
        VlanMode::Access => {
            out.v[0].vid = bundle.vlan;
            out.v[1] = Vlan::default();
        }
        VlanMode::Trunk => {}
        VlanMode::NativeTagged | VlanMode::NativeUntagged if untagged => {
            out.v[0].vid = bundle.vlan;
            out.v[1] = Vlan::default();
        }
        VlanMode::NativeTagged | VlanMode::NativeUntagged => {}
        VlanMode::Dot1qTunnel => {
            let service = Vlan {
                tpid: bundle.qinq_ethtype,
                vid: bundle.vlan,
                pcp: 0,
            };
            out.v = [service, xvlan.v[0]];
        }
    }
    out
}

/// How a packet of a VLAN looks when it leaves.
fn output_translate(bundle: &XBundle, xvlan: XVlan) -> XVlan {
    match bundle.vlan_mode {
        VlanMode::Access => XVlan::default(),
        VlanMode::Trunk | VlanMode::NativeTagged => xvlan,
        VlanMode::NativeUntagged if xvlan.v[0].vid == bundle.vlan => xvlan.popped(),
        VlanMode::NativeUntagged => xvlan,
        VlanMode::Dot1qTunnel => xvlan.popped(),
    }
}

/// Learns that `mac` lives behind `bundle`; true if that is news, so that flows that rely on it are stale.
pub fn learn(
    bridge: &XBridge,
    mac: MacAddr,
    vlan: u16,
    bundle: BundleId,
    arp: GratuitousArp,
    now: Instant,
) -> bool {
    // Mostly there is nothing to learn, and that is seen without keeping others out.
    let table = bridge.macs.read().unwrap_or_else(PoisonError::into_inner);
    if !table.would_learn(now, mac, vlan, bundle, arp) {
        return false;
    }
    drop(table);
    let mut table = bridge.macs.write().unwrap_or_else(PoisonError::into_inner);
    let before = table.stats;
    let news = table.learn(now, mac, vlan, bundle, arp);
    if news {
        let after = table.stats;
        coverage::MAC_LEARNING_LEARNED.add(after.learned - before.learned);
        coverage::MAC_LEARNING_MOVED.add(after.moved - before.moved);
        coverage::MAC_LEARNING_EVICTED.add(after.evicted - before.evicted);
    }
    news
}

/// What packets that a controller makes come through: a trunk that nothing goes out of.
fn no_bundle() -> Arc<XBundle> {
    Arc::new(XBundle {
        id: BundleId::MAX,
        name: "OFPP_NONE".into(),
        vlan_mode: VlanMode::Trunk,
        vlan: 0,
        trunks: None,
        cvlans: None,
        qinq_ethtype: eth_type::VLAN_8021AD,
        priority_tags: PriorityTags::Never,
        protected: false,
        floodable: false,
        ports: Vec::new(),
    })
}

impl Ctx<'_> {
    /// The NORMAL action for the packet as it is now.
    pub fn normal(&mut self) {
        let m = &mut self.wc.masks;
        m.dl_src = MacAddr::BROADCAST;
        m.dl_dst = MacAddr::BROADCAST;
        m.vlans[0].tci = (m.vlans[0].tci.get() | VLAN_VID_MASK | VLAN_CFI).into();
        let bridge = self.bridge;

        let Some((in_port, in_bundle)) = self.input_bundle() else {
            return;
        };
        if self.is_cut_in_tag() {
            if self.packet.is_some() {
                self.report_error(&format!(
                    "dropping packet with partial VLAN tag received on port {}",
                    in_bundle.name
                ));
            }
            self.warn("partial VLAN tag, dropping");
            return;
        }
        let in_xvlan = XVlan::of(&self.flow.vlans);
        if !self.input_vid_is_valid(&in_bundle, &in_xvlan) {
            self.warn("disallowed VLAN VID for this input port, dropping");
            return;
        }
        let xvlan = input_translate(&in_bundle, in_xvlan);
        let vid = xvlan.v[0].vid;
        if !bridge.forward_bpdu && self.flow.dl_dst.is_reserved() {
            self.report("packet has reserved destination MAC, dropping");
            return;
        }
        self.learn_source(&in_bundle, in_port, vid);

        let known = (!self.flow.dl_dst.is_multicast())
            .then(|| self.find_mac(self.flow.dl_dst, vid))
            .flatten();
        match known {
            Some(bundle) if bundle == in_bundle.id => {
                self.report("learned port is input port, dropping")
            }
            Some(bundle) => {
                let Some(out) = bridge.bundles.get(&bundle) else {
                    self.report("learned port is gone, flooding");
                    return self.flood_bundles(&in_bundle, &xvlan);
                };
                if out.protected && in_bundle.protected {
                    self.report("learned port is protected, dropping");
                } else {
                    self.report("forwarding to learned port");
                    self.output_normal(out, xvlan);
                }
            }
            None => {
                self.report("no learned MAC for destination, flooding");
                self.flood_bundles(&in_bundle, &xvlan);
            }
        }
    }

    /// Whether the packet ends in its first VLAN header.
    fn is_cut_in_tag(&self) -> bool {
        let vlan = matches!(
            self.flow.dl_type.get(),
            eth_type::VLAN_8021Q | eth_type::VLAN_8021AD
        );
        vlan && self.flow.vlans[0].tci.get() & VLAN_CFI == 0
    }

    fn input_bundle(&mut self) -> Option<(OfPort, Arc<XBundle>)> {
        let in_port = OfPort(self.flow.in_port as u16);
        let bridge = self.bridge;
        if matches!(in_port, OfPort::NONE | OfPort::CONTROLLER) {
            return Some((OfPort::NONE, no_bundle()));
        }
        let bundle = bridge
            .ports
            .get(&in_port)
            .and_then(|p| bridge.bundles.get(&p.bundle?));
        if bundle.is_none() {
            self.report_error(&format!("received packet on unknown port {}", in_port.0));
            self.warn("no input bundle, dropping");
        }
        bundle.map(|b| (in_port, b.clone()))
    }

    fn input_vid_is_valid(&mut self, bundle: &XBundle, xvlan: &XVlan) -> bool {
        let vid = xvlan.v[0].vid;
        match bundle.vlan_mode {
            VlanMode::Access if vid != 0 => {
                self.report_error(&format!(
                    "dropping VLAN {vid} tagged packet received on port {} configured as VLAN {} access port",
                    bundle.name, bundle.vlan
                ));
                false
            }
            VlanMode::Access => true,
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => true,
            VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                let carried = bundle.trunks_vlan(vid);
                if !carried {
                    self.report_error(&format!(
                        "dropping VLAN {vid} packet received on port {} not configured for trunking VLAN {vid}",
                        bundle.name
                    ));
                }
                carried
            }
            VlanMode::Dot1qTunnel => {
                let allowed = bundle.allows_cvlan(vid);
                if !allowed {
                    self.report_error(&format!(
                        "dropping VLAN {vid} packet received on dot1q-tunnel port {} that excludes this VLAN",
                        bundle.name
                    ));
                }
                allowed
            }
        }
    }

    fn learn_source(&mut self, in_bundle: &XBundle, in_port: OfPort, vlan: u16) {
        let mac = self.flow.dl_src;
        if mac.is_multicast() || in_port == OfPort::NONE {
            return;
        }
        if self.is_flood_vlan(vlan) {
            return;
        }
        let arp = match self.is_gratuitous_arp() {
            false => GratuitousArp::No,
            true if in_bundle.ports.len() > 1 => GratuitousArp::ThroughBond,
            true => GratuitousArp::ThroughPort,
        };
        let credit = Credit::Mac {
            bridge: self.bridge.clone(),
            mac,
            vlan,
            bundle: in_bundle.id,
            arp,
        };
        if self.side_effects && learn(self.bridge, mac, vlan, in_bundle.id, arp, self.now) {
            self.report(&format!(
                "learned that {mac} is on port {} in VLAN {vlan}",
                in_bundle.name
            ));
            self.learned = true;
        }
        if let Some(cache) = &mut self.xcache {
            cache.record.credits.push(credit);
        }
    }

    fn is_gratuitous_arp(&mut self) -> bool {
        if self.flow.dl_type.get() != eth_type::ARP || !self.flow.dl_dst.is_broadcast() {
            return false;
        }
        self.wc.masks.nw_proto = 0xff;
        match self.flow.nw_proto {
            2 => true,
            1 => {
                self.wc.masks.nw_src = u32::MAX.into();
                self.wc.masks.nw_dst = u32::MAX.into();
                self.flow.nw_src == self.flow.nw_dst
            }
            _ => false,
        }
    }

    fn is_flood_vlan(&self, vlan: u16) -> bool {
        let all = self.bridge.flood_vlans.as_ref();
        all.is_some_and(|f| f.contains(vlan))
    }

    fn find_mac(&self, mac: MacAddr, vlan: u16) -> Option<BundleId> {
        // Nor do addresses count there that were given.
        if self.is_flood_vlan(vlan) {
            return None;
        }
        let table = self
            .bridge
            .macs
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        table.lookup(mac, vlan)
    }

    fn flood_bundles(&mut self, in_bundle: &XBundle, xvlan: &XVlan) {
        let bridge = self.bridge;
        for bundle in bridge.bundles.values() {
            if bundle.vlan_mode == VlanMode::Dot1qTunnel && bundle.cvlans.is_some() {
                self.wc.masks.vlans[1].tci = 0xffff.into();
            }
            if bundle.id == in_bundle.id || !bundle.floodable || !bundle.includes(xvlan) {
                continue;
            }
            if bundle.protected && in_bundle.protected {
                self.warn("Flow is between protected ports, skipping output.");
                continue;
            }
            self.output_normal(bundle, *xvlan);
        }
    }

    fn output_normal(&mut self, bundle: &XBundle, xvlan: XVlan) {
        let Some(&port) = bundle.ports.first() else {
            return;
        };
        let mut out = output_translate(bundle, xvlan);
        let before = self.flow.vlans;
        if bundle.priority_tags != PriorityTags::Never {
            out.v[0].pcp = before[0].tci.get() & VLAN_PCP_MASK;
        }
        self.flow.vlans = out.headers(bundle.priority_tags);
        self.compose_output(port, 0, false);
        self.flow.vlans = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xlate::snapshot::VlanSet;

    fn bundle(vlan_mode: VlanMode, vlan: u16) -> XBundle {
        XBundle {
            id: 1,
            name: "p1".into(),
            vlan_mode,
            vlan,
            trunks: None,
            cvlans: None,
            qinq_ethtype: 0x88a8,
            priority_tags: PriorityTags::Never,
            protected: false,
            floodable: true,
            ports: vec![OfPort(1)],
        }
    }

    fn tagged(vid: u16) -> XVlan {
        XVlan {
            v: [
                Vlan {
                    tpid: 0x8100,
                    vid,
                    pcp: 0,
                },
                Vlan::default(),
            ],
        }
    }

    #[test]
    fn vlan_modes_translate_in_and_out() {
        let untagged = XVlan::default();
        assert_eq!(
            input_translate(&bundle(VlanMode::Access, 10), untagged).v[0].vid,
            10
        );
        assert_eq!(
            output_translate(&bundle(VlanMode::Access, 10), tagged(10)),
            untagged
        );
        assert_eq!(
            input_translate(&bundle(VlanMode::Trunk, 0), tagged(7)),
            tagged(7)
        );
        assert_eq!(
            input_translate(&bundle(VlanMode::NativeTagged, 9), untagged).v[0].vid,
            9
        );
        assert_eq!(
            output_translate(&bundle(VlanMode::NativeUntagged, 9), tagged(9)).v[0].vid,
            0
        );
        assert_eq!(
            output_translate(&bundle(VlanMode::NativeTagged, 9), tagged(9)).v[0].vid,
            9
        );
        let double = input_translate(&bundle(VlanMode::Dot1qTunnel, 100), tagged(5));
        assert_eq!(
            (double.v[0].vid, double.v[0].tpid, double.v[1].vid),
            (100, 0x88a8, 5)
        );
        assert_eq!(
            output_translate(&bundle(VlanMode::Dot1qTunnel, 100), double),
            tagged(5)
        );
    }

    #[test]
    fn a_native_vlan_stands_in_for_no_vlan() {
        let mut port = bundle(VlanMode::NativeUntagged, 9);
        let carries = |port: &XBundle, vid| port.includes(&tagged(vid));
        assert_eq!([0, 9, 11].map(|v| carries(&port, v)), [false, true, true]);
        port.trunks = Some(Arc::new(VlanSet::new([0, 11])));
        assert_eq!([0, 9, 11].map(|v| carries(&port, v)), [false, true, true]);
        assert!(!carries(&port, 12));
        port.vlan_mode = VlanMode::Trunk;
        assert_eq!([0, 9, 11].map(|v| carries(&port, v)), [true, false, true]);
    }

    #[test]
    fn a_service_tag_has_a_priority_of_its_own() {
        let mut port = bundle(VlanMode::Dot1qTunnel, 100);
        port.cvlans = Some(Arc::new(VlanSet::new([5])));
        let mut customer = tagged(5);
        customer.v[0].pcp = 3 << 13;
        let xvlan = input_translate(&port, customer);
        let service = Vlan {
            tpid: 0x88a8,
            vid: 100,
            pcp: 0,
        };
        assert_eq!(xvlan.v, [service, customer.v[0]]);
        assert!(port.includes(&xvlan));
        assert_eq!(output_translate(&port, xvlan), customer);
        assert!(!port.includes(&input_translate(&port, tagged(6))));
    }

    #[test]
    fn a_priority_tag_is_kept_only_as_the_port_says() {
        let tci = |xvlan: XVlan, tags| xvlan.headers(tags).map(|h| h.tci.get());
        let mut priority = tagged(0);
        assert_eq!(tci(priority, PriorityTags::IfNonzero), [0, 0]);
        assert_eq!(tci(priority, PriorityTags::Always), [VLAN_CFI, 0]);
        priority.v[0].pcp = 3 << 13;
        assert_eq!(
            tci(priority, PriorityTags::IfNonzero),
            [VLAN_CFI | 3 << 13, 0]
        );
        // Without a tag there is nothing to keep.
        assert_eq!(tci(XVlan::default(), PriorityTags::Always), [0, 0]);
    }
}
