//! What bridges of one datapath type share: the datapath, the flows in it, and the ports of it that carry the
//! tunnels of all bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_datapath::dpif::{Detach, Dpif, DpifClass, Errno};
use ferrovs_netdev::{Netdev, PortClass};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog;
use ferrovs_sync::Snapshot;

use crate::meters::MAX_METERS;
use crate::udpif::{Settings, Udpif};
use crate::xlate::snapshot::{DpFeatures, XlateSnapshot};
use crate::zones::{Applied, Policies, Zones};

/// A port of the datapath that stands for all tunnels of one type and port number.
struct TunnelPort {
    dp_port: DpPort,
    users: usize,
    /// IP protocols and port number that outer packets are addressed to; 0 for protocols without ports.
    listens: (&'static [u8], u16),
    /// Keeps the device open.
    _netdev: Arc<dyn Netdev>,
}

impl TunnelPort {
    /// Packets to the port are to be decapsulated, for one user more.
    fn listen(&self, name: &str) {
        for proto in self.listens.0 {
            ferrovs_tunnel::ports::insert(self.dp_port, *proto, self.listens.1, name);
        }
    }

    /// For one user less.
    fn unlisten(&self) {
        for proto in self.listens.0 {
            ferrovs_tunnel::ports::remove(self.dp_port, *proto, self.listens.1);
        }
    }
}

/// Which meters of the datapath are taken: those below `next` that were not given back.
#[derive(Default)]
struct MeterIds {
    next: u32,
    free: BTreeSet<u32>,
}

/// Tells in the log what the datapath can do.
fn log_features(dpif: &dyn Dpif, f: &DpFeatures) {
    let name = format!("{}@{}", dpif.kind(), dpif.name());
    let say = |text: String| vlog::info!(vlog::modules::OFPROTO_DPIF, "{name}: {text}");
    let can = |on: bool, what: &str| {
        say(format!(
            "Datapath {} {what}",
            if on { "supports" } else { "does not support" }
        ));
    };
    can(f.recirc, "recirculation");
    say(format!(
        "VLAN header stack length probed as {}",
        f.max_vlan_headers
    ));
    say(format!(
        "MPLS label stack length probed as {}",
        f.max_mpls_depth
    ));
    can(f.trunc, "truncate action");
    can(f.ufid, "unique flow ids");
    can(f.clone, "clone action");
    say(format!(
        "Max sample nesting level probed as {}",
        f.sample_nesting
    ));
    can(f.ct_eventmask, "eventmask in conntrack action");
    can(f.ct_clear, "ct_clear action");
    say(format!(
        "Max dp_hash algorithm probed to be {}",
        f.max_hash_alg
    ));
    can(f.check_pkt_len, "check_pkt_len action");
    can(f.ct_timeout, "timeout policy in conntrack action");
    can(f.explicit_drop_action, "explicit drop action");
    can(f.ct_zero_snat, "ct_zero_snat");
    can(f.add_mpls, "add_mpls action");
    can(f.psample, "psample action");
    can(f.ct_state, "ct_state");
    can(f.ct_zone, "ct_zone");
    can(f.ct_mark, "ct_mark");
    can(f.ct_label, "ct_label");
    can(f.ct_state_nat, "ct_state_nat");
    can(f.ct_orig_tuple, "ct_orig_tuple");
    can(f.ct_orig_tuple6, "ct_orig_tuple6");
    can(f.nd_ext, "IPv6 ND Extensions");
}

/// See the module's text.
pub struct Backer {
    pub kind: String,
    pub dpif: Arc<dyn Dpif>,
    pub udpif: Arc<Udpif>,
    pub snapshot: Arc<Snapshot<XlateSnapshot>>,
    /// What the datapath can do, and what of that translation may use.
    boot_features: DpFeatures,
    features: Mutex<DpFeatures>,
    tunnels: Mutex<BTreeMap<String, TunnelPort>>,
    zones: Mutex<Applied>,
    meter_ids: Mutex<MeterIds>,
}

impl Backer {
    /// Opens the datapath `ovs-<kind>`, makes it if need be, and begins to answer its questions.
    pub fn open(class: &dyn DpifClass, settings: Arc<Settings>) -> Result<Backer, Errno> {
        let dpif = class.open(&format!("ovs-{}", class.kind()), true)?;
        let features = dpif.features();
        log_features(&*dpif, &features);
        let snapshot = Arc::new(Snapshot::new(XlateSnapshot::default()));
        let udpif = Udpif::start(dpif.clone(), snapshot.clone(), settings);
        Ok(Backer {
            kind: class.kind().to_string(),
            dpif,
            udpif,
            snapshot,
            boot_features: features,
            features: Mutex::new(features),
            tunnels: Mutex::default(),
            zones: Mutex::default(),
            meter_ids: Mutex::default(),
        })
    }

    /// What the datapath can do.
    pub fn boot_features(&self) -> DpFeatures {
        self.boot_features
    }

    /// What of it is made use of.
    pub fn features(&self) -> DpFeatures {
        *self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what comes from now on make use of other features. Translations know when the snapshot is published.
    pub(crate) fn set_features(&self, features: DpFeatures) {
        *self.features.lock().unwrap_or_else(PoisonError::into_inner) = features;
        self.udpif.set_ufid_support(features.ufid);
    }

    /// Configures the zones of connection tracking; returns whether translations have to know.
    pub fn set_zones(&self, wanted: &Zones) -> bool {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let conntrack = self.dpif.conntrack();
        conntrack.is_some_and(|c| zones.apply(wanted, c))
    }

    /// Which zones have timeouts of their own.
    pub fn zone_policies(&self) -> Arc<Policies> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.policies()
    }

    fn tunnels(&self) -> MutexGuard<'_, BTreeMap<String, TunnelPort>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a device its place in the datapath; for a tunnel also the name of the port that it shares.
    pub fn attach(&self, netdev: &Arc<dyn Netdev>) -> Result<(DpPort, Option<String>), Errno> {
        let tunnel = match netdev.class() {
            PortClass::Patch(_) => return Ok((DpPort::NONE, None)),
            PortClass::Device => {
                return Ok((self.add(netdev.name(), netdev.kind())?, None));
            }
            PortClass::Tunnel(tunnel) => tunnel,
        };
        let (ty, config) = (tunnel.ty(), tunnel.config());
        let name = ty.dpif_port_name(&config);
        let listens = (ty.transport.listens, ty.transport.listens_on(&config));
        let mut tunnels = self.tunnels();
        if let Some(tunnel) = tunnels.get_mut(&name) {
            tunnel.users += 1;
            tunnel.listen(&name);
            return Ok((tunnel.dp_port, Some(name)));
        }
        let shared = ferrovs_netdev::open(&name, netdev.kind())
            .map_err(|e| Errno(e.raw_os_error().unwrap_or(Errno::EINVAL.0)))?;
        let dp_port = self.add(&name, netdev.kind())?;
        let tunnel = TunnelPort {
            dp_port,
            users: 1,
            listens,
            _netdev: shared,
        };
        tunnel.listen(&name);
        tunnels.insert(name.clone(), tunnel);
        Ok((dp_port, Some(name)))
    }

    /// The number that a port of the datapath gets, or has from an earlier process.
    fn add(&self, name: &str, kind: &str) -> Result<DpPort, Errno> {
        match self.dpif.port_add(name, kind, None) {
            Err(Errno::EEXIST) if self.dpif.outlives_process() => {
                self.dpif.port_by_name(name).map(|kept| kept.port)
            }
            added => added,
        }
    }

    /// Whether tunnels share the port of the datapath that is called so.
    pub fn is_shared(&self, name: &str) -> bool {
        self.tunnels().contains_key(name)
    }

    /// Takes a device's place back; a tunnel's shared port goes with the last that uses it. What is kept stays only in a
    /// datapath that outlives the process: in another it would be in the way of whoever opens the device next.
    pub fn detach(
        &self,
        dp_port: DpPort,
        tunnel: Option<&str>,
        detach: Detach,
    ) -> Result<(), Errno> {
        if dp_port == DpPort::NONE {
            return Ok(());
        }
        if let Some(name) = tunnel {
            let mut tunnels = self.tunnels();
            if let Some(t) = tunnels.get_mut(name) {
                t.users -= 1;
                t.unlisten();
                if t.users > 0 {
                    return Ok(());
                }
                tunnels.remove(name);
            }
        }
        match detach {
            Detach::Keep if self.dpif.outlives_process() => Ok(()),
            Detach::Keep | Detach::Delete => self.dpif.port_del(dp_port),
        }
    }

    /// A meter of the datapath that nobody uses.
    pub fn take_meter_id(&self) -> Option<u32> {
        let mut ids = self
            .meter_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.free.pop_first() {
            return Some(id);
        }
        let id = ids.next;
        (id < MAX_METERS).then(|| {
            ids.next += 1;
            id
        })
    }

    pub fn free_meter_id(&self, id: u32) {
        self.meter_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free
            .insert(id);
    }

    /// Stops answering the datapath's questions.
    pub fn close(&self, detach: Detach) {
        self.udpif.stop();
        if detach == Detach::Delete {
            self.dpif.destroy();
        }
    }
}
