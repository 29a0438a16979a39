//! Patch and tunnel ports: a configuration and counters, no device.
//!
//! A packet that goes out of a patch port goes on at its peer in another bridge: translation does
//! that. What a tunnel port encapsulates into and accepts is its [`TunnelType`] and [`TunnelConfig`];
//! translation and the datapath act on them. Whoever translates adds to the counters
//! ([`PortClass::account`]). In the datapath, all tunnel ports with the same
//! protocol and port number share one port, whose name ([`dpif_port_name`]) is like
//! `vxlan_sys_4789`; opening a device by such a name gives a tunnel port that stands for all of
//! them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use ferrovs_encap::{PacketTypeMode, PortState, TunnelConfig, TunnelType, options, types};
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::{NETDEV, NETDEV_VPORT};

use crate::changes::changed;
use crate::known::remember;
use crate::virt::{VirtualStats, fresh_mac};
use crate::{Features, Flags, Layout, Netdev, PortClass, Rxq, Stats, Txq};

mod patch;

/// A patch or tunnel port as a device: what it does is its class.
#[derive(Debug)]
struct Vport {
    name: String,
    kind: &'static str,
    class: PortClass,
    mac: Mutex<MacAddr>,
    seq: AtomicU64,
}

/// What a patch port is. Its peer can be changed while it is open.
#[derive(Debug, Default)]
pub struct PatchPort {
    peer: ArcSwapOption<String>,
    stats: VirtualStats,
}

impl PatchPort {
    /// The name of the peer; none until configured.
    pub fn peer(&self) -> Option<Arc<String>> {
        self.peer.load_full()
    }

    /// Adds (packets, bytes) in each direction.
    pub fn account(&self, rx: (u64, u64), tx: (u64, u64)) {
        self.stats.account(rx, tx);
    }
}

/// What a tunnel port is. Its configuration can be changed while it is open, its protocol cannot.
#[derive(Debug)]
pub struct TunnelPort {
    ty: &'static TunnelType,
    /// What changes with the packets, for the port of the datapath.
    state: PortState,
    config: ArcSwap<TunnelConfig>,
    stats: VirtualStats,
}

impl TunnelPort {
    pub fn ty(&self) -> &'static TunnelType {
        self.ty
    }

    pub fn state(&self) -> &PortState {
        &self.state
    }

    /// The configuration as it is now; takes no lock.
    pub fn config(&self) -> Arc<TunnelConfig> {
        self.config.load_full()
    }

    /// Adds (packets, bytes) in each direction.
    pub fn account(&self, rx: (u64, u64), tx: (u64, u64)) {
        self.stats.account(rx, tx);
    }
}

/// Says through which device a tunnel's packets leave, and whether that has a carrier.
pub type EgressStatus = fn(&TunnelConfig) -> Option<(String, bool)>;

/// Tunnel ports that are open.
static TUNNELS: Mutex<Vec<Weak<Vport>>> = Mutex::new(Vec::new());

static EGRESS: OnceLock<EgressStatus> = OnceLock::new();

/// Lets tunnel ports report their egress device in `Interface.status`: who owns the routing table
/// calls this once.
pub fn set_egress_status(f: EgressStatus) {
    let _ = EGRESS.set(f);
}

/// Routes changed: tunnel ports may report another egress device.
pub fn tunnels_changed() {
    let mut tunnels = TUNNELS.lock().unwrap_or_else(PoisonError::into_inner);
    tunnels.retain(|t| {
        let tunnel = t.upgrade();
        tunnel.inspect(|t| t.changed()).is_some()
    });
}

fn open_tunnels() -> Vec<Arc<Vport>> {
    let tunnels = TUNNELS.lock().unwrap_or_else(PoisonError::into_inner);
    tunnels.iter().filter_map(Weak::upgrade).collect()
}

/// The name of the datapath port that serves the device: its own name, except for tunnel ports.
pub fn dpif_port_name(netdev: &dyn Netdev) -> String {
    match netdev.class() {
        PortClass::Tunnel(tunnel) => tunnel.ty.dpif_port_name(&tunnel.config()),
        _ => netdev.name().to_owned(),
    }
}

pub fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    let class = initial(name, kind)?;
    let is_tunnel = matches!(class, PortClass::Tunnel(_));
    let port = Arc::new(Vport {
        name: name.to_owned(),
        kind,
        class,
        mac: Mutex::new(fresh_mac()),
        seq: AtomicU64::new(1),
    });
    if is_tunnel {
        remember(&TUNNELS, &port);
    }
    Ok(port)
}

fn initial(name: &str, kind: &str) -> io::Result<PortClass> {
    const EAFNOSUPPORT: i32 = 97;
    if kind == patch::KIND {
        return Ok(PortClass::Patch(Arc::default()));
    }
    let ty = types::port(kind).ok_or_else(|| io::Error::from_raw_os_error(EAFNOSUPPORT))?;
    // The port that stands for all: its transport's port is in its name, and it takes any packet type.
    let mut config = TunnelConfig::new(ty);
    config.packet_type = PacketTypeMode::Ptap;
    let number = name
        .strip_prefix(ty.dpif_port)
        .and_then(|n| n.strip_prefix('_'));
    if let Some(port) = number.and_then(|n| n.parse().ok()) {
        config.dst_port = port;
    }
    Ok(PortClass::Tunnel(Arc::new(TunnelPort {
        ty,
        state: PortState::default(),
        config: ArcSwap::from_pointee(config),
        stats: VirtualStats::default(),
    })))
}

impl Vport {
    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        changed(&self.name);
    }

    /// Why this tunnel cannot share its transport port with another that has it.
    fn clash(&self, ty: &TunnelType, config: &TunnelConfig) -> Option<&'static str> {
        let mut others = open_tunnels();
        others.retain(|t| t.kind == ty.kind && t.name != self.name);
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let mut configs = others.iter().filter_map(|t| t.class.tunnel_config());
        configs.find_map(|other| {
            // The port of the datapath that stands for all has no remote.
            let remote = other.dst.is_some() || other.ip_dst_flow;
            let shared = remote && other.dst_port == config.dst_port;
            shared.then(|| (ty.clash)(&other, config)).flatten()
        })
    }
}

/// The text that the user sees, and the reason that the log tells.
struct Refused(String, &'static str);

const INVALID: &str = "Invalid argument";

impl Vport {
    /// True if the peer is another now.
    fn set_peer(
        &self,
        patch: &PatchPort,
        options: &BTreeMap<String, String>,
    ) -> Result<bool, Refused> {
        let peer = patch::parse(&self.name, options).map_err(|text| {
            vlog::err!(NETDEV_VPORT, "{text}");
            Refused(text, INVALID)
        })?;
        let old = patch.peer.swap(Some(Arc::new(peer.clone())));
        Ok(old.is_none_or(|old| *old != peer))
    }

    /// True if the configuration is another now.
    fn set_tunnel(
        &self,
        tunnel: &TunnelPort,
        options: &BTreeMap<String, String>,
    ) -> Result<bool, Refused> {
        let parsed = options::parse(tunnel.ty, &self.name, options);
        let text = parsed.messages.join("\n");
        if !text.is_empty() {
            vlog::warn!(NETDEV_VPORT, "{text}");
        }
        let config = parsed.config.ok_or(Refused(text, INVALID))?;
        if let Some(clash) = self.clash(tunnel.ty, &config) {
            let text = format!("{}: {clash}", self.name);
            vlog::warn!(NETDEV_VPORT, "{text}");
            return Err(Refused(text, "File exists"));
        }
        let old = tunnel.config.swap(Arc::new(config.clone()));
        Ok(*old != config)
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(95)) // EOPNOTSUPP
}

impl Netdev for Vport {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn class(&self) -> &PortClass {
        &self.class
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        let changed = match &self.class {
            PortClass::Device => Ok(false),
            PortClass::Patch(patch) => self.set_peer(patch, options),
            PortClass::Tunnel(tunnel) => self.set_tunnel(tunnel, options),
        };
        let changed = changed.map_err(|Refused(text, why)| {
            vlog::warn!(NETDEV, "{}: could not set configuration ({why})", self.name);
            text
        })?;
        if changed {
            self.changed();
        }
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        match &self.class {
            PortClass::Device => BTreeMap::new(),
            PortClass::Patch(patch) => patch::to_options(patch.peer().as_ref().map(|p| p.as_str())),
            PortClass::Tunnel(tunnel) => options::to_options(tunnel.ty, &tunnel.config()),
        }
    }

    fn layout(&self) -> Layout {
        Layout::NONE
    }

    fn rxq_open(&self, _queue: usize) -> io::Result<Box<dyn Rxq>> {
        unsupported()
    }

    fn txq_open(&self, _queue: usize) -> io::Result<Box<dyn Txq>> {
        unsupported()
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(*self.mac.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        *self.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
        self.changed();
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        unsupported()
    }

    fn set_mtu(&self, _mtu: u32) -> io::Result<()> {
        unsupported()
    }

    fn flags(&self) -> io::Result<Flags> {
        Ok(Flags::UP | Flags::PROMISC)
    }

    fn update_flags(&self, off: Flags, _on: Flags) -> io::Result<()> {
        if off.intersects(Flags::UP | Flags::PROMISC) {
            unsupported()
        } else {
            Ok(())
        }
    }

    fn stats(&self) -> io::Result<Stats> {
        match &self.class {
            PortClass::Device => unsupported(),
            PortClass::Patch(patch) => Ok(patch.stats.stats()),
            PortClass::Tunnel(tunnel) => Ok(tunnel.stats.stats()),
        }
    }

    fn features(&self) -> io::Result<Features> {
        unsupported()
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        unsupported()
    }

    fn status(&self) -> BTreeMap<String, String> {
        let Some(config) = self.class.tunnel_config() else {
            return BTreeMap::new();
        };
        let mut status = crate::offload::status(self.capabilities());
        if let Some((iface, carrier)) = EGRESS.get().and_then(|f| f(&config)) {
            let carrier = if carrier { "up" } else { "down" };
            let egress = [
                ("tunnel_egress_iface", iface.as_str()),
                ("tunnel_egress_iface_carrier", carrier),
            ];
            status.extend(egress.map(|(k, v)| (k.to_owned(), v.to_owned())));
        }
        status
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> BTreeMap<String, String> {
        list.iter()
            .map(|o| o.split_once('=').unwrap())
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    /// What Open vSwitch shows of a vxlan port with these options.
    fn shown(list: &[&str]) -> String {
        let v = open("v", "vxlan").unwrap();
        match v.set_config(&options(list)) {
            Ok(()) => v
                .config()
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join(", "),
            Err(e) => e,
        }
    }

    #[test]
    fn options_are_read_and_shown_as_open_vswitch_does() {
        let r = "remote_ip=1.1.1.1";
        assert_eq!(shown(&[r]), "remote_ip=1.1.1.1");
        assert_eq!(
            shown(&["remote_ip=flow", "key=flow", "local_ip=flow"]),
            "key=flow, local_ip=flow, remote_ip=flow"
        );
        assert_eq!(
            shown(&[
                r,
                "key=5",
                "local_ip=2.2.2.2",
                "tos=inherit",
                "ttl=inherit",
                "df_default=false",
                "csum=true"
            ]),
            "csum=true, df_default=false, key=5, local_ip=2.2.2.2, remote_ip=1.1.1.1, tos=inherit, ttl=inherit"
        );
        assert_eq!(
            shown(&[r, "tos=16", "ttl=10", "dst_port=4790"]),
            "dst_port=4790, remote_ip=1.1.1.1, tos=0x10, ttl=10"
        );
        assert_eq!(
            shown(&[r, "in_key=5", "out_key=7"]),
            "in_key=5, out_key=7, remote_ip=1.1.1.1"
        );
        assert_eq!(shown(&[r, "in_key=5"]), "in_key=5, remote_ip=1.1.1.1");
        assert_eq!(
            shown(&[r, "out_key=flow"]),
            "out_key=flow, remote_ip=1.1.1.1"
        );
        assert_eq!(
            shown(&[r, "key=flow", "in_key=6"]),
            "in_key=6, out_key=flow, remote_ip=1.1.1.1"
        );
        assert_eq!(
            shown(&[r, "key=0xffffffffff"]),
            "key=1099511627775, remote_ip=1.1.1.1"
        );
        assert_eq!(shown(&[r, "key=abc"]), "key=0, remote_ip=1.1.1.1");
        assert_eq!(
            shown(&[r, "packet_type=ptap"]),
            "packet_type=ptap, remote_ip=1.1.1.1"
        );
        assert_eq!(
            shown(&[r, "egress_pkt_mark=123"]),
            "egress_pkt_mark=123, remote_ip=1.1.1.1"
        );
        assert_eq!(
            shown(&[r, "dst_port=70000"]),
            "dst_port=4464, remote_ip=1.1.1.1"
        );
        for ignored in [
            "dst_port=0",
            "tos=abc",
            "tos=0x13",
            "ttl=0",
            "unknown=x",
            "psk=x",
            "ipsec_encapsulation=yes",
            "exts=unknown",
            "local_ip=bad",
        ] {
            assert_eq!(shown(&[r, ignored]), "remote_ip=1.1.1.1", "{ignored}");
        }
    }

    #[test]
    fn bad_options_are_refused_with_open_vswitchs_words() {
        assert_eq!(
            shown(&[]),
            "v: vxlan type requires valid 'remote_ip' argument"
        );
        assert_eq!(
            shown(&["remote_ip=bad!"]),
            "v: bad vxlan 'remote_ip'\nv: vxlan type requires valid 'remote_ip' argument"
        );
        assert_eq!(
            shown(&["remote_ip=224.0.0.1"]),
            "v: multicast remote_ip=224.0.0.1 not allowed"
        );
        assert_eq!(
            shown(&["remote_ip=1.1.1.1", "local_ip=fc00::2"]),
            "v: 'remote_ip' and 'local_ip' has to be of the same address family"
        );
        assert_eq!(
            shown(&["remote_ip=1.1.1.1", "packet_type=xxx"]),
            "v: unknown packet_type 'xxx'"
        );
        assert_eq!(
            shown(&["remote_ip=1.1.1.1", "packet_type=legacy_l3"]),
            "v: legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic"
        );
    }

    #[test]
    fn tunnels_with_and_without_group_policy_do_not_share_a_udp_port() {
        let open = |name| crate::open(name, "vxlan").unwrap();
        let set = |d: &Arc<dyn Netdev>, list: &[&str]| d.set_config(&options(list));
        let (a, b) = (open("policy0"), open("policy1"));
        let r = "remote_ip=1.1.1.1";
        set(&a, &[r, "dst_port=7000"]).unwrap();
        assert_eq!(
            set(&b, &[r, "dst_port=7000", "exts=gbp"]).unwrap_err(),
            "policy1: VXLAN-GBP, and non-VXLAN-GBP tunnels can't be configured on the same dst_port"
        );
        set(&b, &[r, "dst_port=7001", "exts=gbp"]).unwrap();
        set(&b, &[r, "dst_port=7000"]).unwrap();
    }

    #[test]
    fn ports_with_one_udp_port_share_a_datapath_port() {
        let v = open("v", "vxlan").unwrap();
        v.set_config(&options(&["remote_ip=1.1.1.1", "dst_port=4790"]))
            .unwrap();
        assert_eq!(dpif_port_name(&*v), "vxlan_sys_4790");
        let all = open("vxlan_sys_4790", "vxlan").unwrap();
        assert_eq!(
            all.config(),
            options(&["dst_port=4790", "packet_type=ptap"])
        );
        assert_eq!(dpif_port_name(&*all), "vxlan_sys_4790");
        v.class().account((1, 60), (2, 120));
        assert_eq!(v.stats().unwrap().tx_bytes, Some(120));
    }
}
