//! What translation needs to know of the bridges of one datapath, as an immutable snapshot.
//!
//! The owner of the bridges (`ofproto`) builds the records when ports, bundles, VLANs or settings change and
//! publishes a new [`XlateSnapshot`]; threads that translate load it without a lock. What changes by itself
//! (flow tables, groups, the MAC table, counters) is behind an `Arc` and safe for many threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Instant;

use ferrovs_datapath::action::SlowPath;
use ferrovs_encap::{PacketTypeMode, TunnelConfig, TunnelType};
use ferrovs_netdev::Netdev;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::key::format_flow;
use ferrovs_openflow::tun::Tun;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::field::TunTable;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::types::{DpPort, MacAddr, OfPort};
use ferrovs_protocols::mac_learning::MacTable;
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_tunnel::neigh;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

pub use ferrovs_datapath::features::DpFeatures;

use super::shared::SharedMap;
use crate::port_order;
use crate::tables::Tables;
use crate::zones::Policies;

static RL: RateLimit = RateLimit::new(60, 5);

/// Identifies a bridge across snapshots.
pub type BridgeId = u128;

/// Number of a bundle, unique within its bridge and never used twice.
pub type BundleId = u32;

/// All bridges of one datapath. Two snapshots share what is the same in both.
#[derive(Clone, Default)]
pub struct XlateSnapshot {
    pub bridges: SharedMap<BridgeId, Arc<XBridge>>,
    pub names: SharedMap<String, BridgeId>,
    /// Which port of which bridge a datapath port is. Tunnel ports share a datapath port and are found by
    /// [`TunnelMap`].
    pub dp_ports: SharedMap<DpPort, (BridgeId, OfPort)>,
    pub tunnels: Arc<TunnelMap>,
    pub features: DpFeatures,
    /// Timeout policies of zones of connection tracking.
    pub zone_policies: Arc<Policies>,
}

impl XlateSnapshot {
    pub fn bridge_by_name(&self, name: &str) -> Option<&Arc<XBridge>> {
        self.bridges.get(self.names.get(name)?)
    }

    /// The bridge and port through which a packet with this datapath key came.
    pub fn receive(&self, flow: &Flow) -> Option<(&Arc<XBridge>, OfPort)> {
        let dp_port = DpPort(flow.in_port);
        let (bridge, port) = match self.tunnels.receive(flow, dp_port) {
            Some(found) => found,
            // What a tunnel brings is for a port of its own.
            None if flow.tunnel.dst_is_set() => {
                vlog::warn_rl!(
                    RL,
                    vlog::modules::TUNNEL,
                    "receive tunnel port not found ({})",
                    format_flow(flow, &Names::none(&Tun::auto()))
                );
                return None;
            }
            None => *self.dp_ports.get(&dp_port)?,
        };
        Some((self.bridges.get(&bridge)?, port))
    }

    /// The bridge whose local port is the device of that name: where a native tunnel leaves.
    pub fn bridge_of_local_device(&self, name: &str) -> Option<&Arc<XBridge>> {
        // Which is called as the bridge is.
        let bridge = self.bridge_by_name(name);
        bridge.filter(|b| b.ports.contains_key(&OfPort::LOCAL))
    }
}

/// One bridge.
pub struct XBridge {
    pub id: BridgeId,
    pub name: String,
    pub tables: Arc<Tables>,
    /// Meters of the datapath, by OpenFlow meter.
    pub meters: Arc<papaya::HashMap<u32, u32>>,
    pub macs: Arc<RwLock<MacTable>>,
    pub ports: SharedMap<OfPort, Arc<XPort>>,
    pub bundles: SharedMap<BundleId, Arc<XBundle>>,
    /// The order of floods, found out by the first.
    pub flood_order: Arc<OnceLock<Vec<OfPort>>>,
    /// Frames to addresses that IEEE 802.1D reserves are forwarded.
    pub forward_bpdu: bool,
    /// VLANs in which no address is learned.
    pub flood_vlans: Option<Arc<VlanSet>>,
    /// What a fragment looks like to the tables.
    pub frag: FragHandling,
    pub mirrors: Vec<Arc<XMirror>>,
    /// Where packets for controllers go.
    pub packet_ins: Arc<dyn PacketInSink>,
    /// What the fields `tun_metadata0` and on stand for.
    pub tun_table: Arc<TunTable>,
    /// Whose neighbours tunnels know.
    pub neighbours: neigh::Bridge,
    /// The MAC address of the local port.
    pub local_mac: Option<MacAddr>,
}

impl XBridge {
    /// The ports in the order in which packets are flooded to them.
    pub fn flood_order(&self) -> &[OfPort] {
        let ports = || self.ports.values().map(|p| (p.ofport, p.dp_port));
        self.flood_order.get_or_init(|| port_order::listed(ports()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FragHandling {
    /// Transport ports of all fragments read as zero.
    #[default]
    Normal,
    Drop,
    /// Transport ports of first fragments are visible.
    NxMatch,
}

/// One OpenFlow port.
pub struct XPort {
    pub ofport: OfPort,
    pub name: String,
    /// [`DpPort::NONE`] for a patch port.
    pub dp_port: DpPort,
    pub bundle: Option<BundleId>,
    /// OpenFlow configuration bits (`OFPPC_*`).
    pub config: u32,
    /// OpenFlow state bits (`OFPPS_*`).
    pub state: u32,
    /// Has carrier and is not held by a bond or spanning tree.
    pub may_enable: bool,
    /// The other end of a patch port: bridge and port.
    pub peer: Option<(BridgeId, OfPort)>,
    pub tunnel: Option<XTunnel>,
    pub netdev: Arc<dyn Netdev>,
    /// Packets through a port that no datapath counts: patch and tunnel ports.
    pub counters: Arc<PortCounters>,
    /// Protocols that the switch itself speaks on the port.
    pub machines: Option<Arc<dyn PacketTaker>>,
}

/// Takes the packets of protocols that the switch itself speaks.
pub trait PacketTaker: std::fmt::Debug + Send + Sync {
    /// Which protocol a packet belongs to, if to one of these.
    fn claims(&self, flow: &Flow) -> Option<SlowPath>;

    /// Takes such a packet.
    fn input(&self, now: Instant, packet: &Packet);
}

/// What makes an OpenFlow port a tunnel.
#[derive(Clone, Debug)]
pub struct XTunnel {
    pub ty: &'static TunnelType,
    pub config: Arc<TunnelConfig>,
}

/// Counters of a port that translation itself keeps.
#[derive(Debug, Default)]
pub struct PortCounters {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
}

impl PortCounters {
    pub fn rx(&self, packets: u64, bytes: u64) {
        self.rx_packets.fetch_add(packets, Relaxed);
        self.rx_bytes.fetch_add(bytes, Relaxed);
    }

    pub fn tx(&self, packets: u64, bytes: u64) {
        self.tx_packets.fetch_add(packets, Relaxed);
        self.tx_bytes.fetch_add(bytes, Relaxed);
    }
}

/// Set of VLAN IDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet(pub Box<[u64; 64]>);

impl VlanSet {
    pub fn new(vids: impl IntoIterator<Item = u16>) -> VlanSet {
        let mut bits = Box::new([0; 64]);
        for vid in vids {
            bits[usize::from(vid & 0xfff) / 64] |= 1 << (vid % 64);
        }
        VlanSet(bits)
    }

    pub fn contains(&self, vid: u16) -> bool {
        self.0[usize::from(vid & 0xfff) / 64] & 1 << (vid % 64) != 0
    }
}

/// `Port.vlan_mode`, with the default already decided from `tag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VlanMode {
    Access,
    #[default]
    Trunk,
    NativeTagged,
    NativeUntagged,
    Dot1qTunnel,
}

/// `Port.other_config:priority-tags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PriorityTags {
    #[default]
    Never,
    IfNonzero,
    Always,
}

/// A logical port of the NORMAL switch: one OpenFlow port, or several bonded ones.
pub struct XBundle {
    pub id: BundleId,
    pub name: String,
    pub vlan_mode: VlanMode,
    /// Access or native VLAN.
    pub vlan: u16,
    /// VLANs that a trunk carries; none means all.
    pub trunks: Option<Arc<VlanSet>>,
    pub cvlans: Option<Arc<VlanSet>>,
    pub qinq_ethtype: u16,
    pub priority_tags: PriorityTags,
    pub protected: bool,
    /// No member forbids flooding.
    pub floodable: bool,
    pub ports: Vec<OfPort>,
}

/// A mirror; see `Mirror` in ovs-vswitchd.conf.db(5).
pub struct XMirror {
    pub name: String,
    pub select_src: Vec<BundleId>,
    pub select_dst: Vec<BundleId>,
    pub select_all: bool,
    pub vlans: Option<VlanSet>,
    pub out_bundle: Option<BundleId>,
    pub out_vlan: Option<u16>,
    pub snaplen: u16,
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
}

/// Which tunnel port a packet belongs to, by what its configuration says and what `flow` leaves open.
#[derive(Clone, Default)]
pub struct TunnelMap {
    by_key: HashMap<TunnelKey, (BridgeId, OfPort), RandomState>,
    /// Datapath ports that carry tunnels, and how many.
    dp_ports: HashMap<DpPort, usize, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TunnelKey {
    dp_port: DpPort,
    in_key: Option<u64>,
    src: Option<[u8; 16]>,
    dst: Option<[u8; 16]>,
    src_flow: bool,
    dst_flow: bool,
    mode: u8,
}

fn ip_bytes(ip: std::net::IpAddr) -> [u8; 16] {
    match ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

fn flow_ip(v4: ferrovs_packet::types::Be32, v6: [u8; 16]) -> [u8; 16] {
    if v4.get() != 0 {
        ip_bytes(std::net::Ipv4Addr::from(v4.get()).into())
    } else {
        v6
    }
}

impl TunnelMap {
    fn key(dp_port: DpPort, config: &TunnelConfig) -> TunnelKey {
        TunnelKey {
            dp_port,
            in_key: (!config.in_key_flow).then_some(config.in_key),
            src: config.src.map(ip_bytes),
            dst: config.dst.map(ip_bytes),
            src_flow: config.ip_src_flow,
            dst_flow: config.ip_dst_flow,
            mode: config.packet_type as u8,
        }
    }

    /// The port that takes the packets of such a tunnel.
    pub fn owner(&self, dp_port: DpPort, config: &TunnelConfig) -> Option<(BridgeId, OfPort)> {
        self.by_key.get(&Self::key(dp_port, config)).copied()
    }

    /// Takes a port out, if it is the one that takes the packets.
    pub fn remove(&mut self, dp_port: DpPort, config: &TunnelConfig, from: (BridgeId, OfPort)) {
        if self.owner(dp_port, config) != Some(from) {
            return;
        }
        self.by_key.remove(&Self::key(dp_port, config));
        if let Some(n) = self.dp_ports.get_mut(&dp_port) {
            *n -= 1;
            if *n == 0 {
                self.dp_ports.remove(&dp_port);
            }
        }
    }

    /// Adds a port; false (and nothing changes) if another port would take the same packets.
    pub fn insert(
        &mut self,
        dp_port: DpPort,
        config: &TunnelConfig,
        to: (BridgeId, OfPort),
    ) -> bool {
        let key = Self::key(dp_port, config);
        if self.by_key.contains_key(&key) {
            return false;
        }
        *self.dp_ports.entry(dp_port).or_default() += 1;
        self.by_key.insert(key, to);
        true
    }

    /// The most specific port first: a given key before `key=flow`, then given addresses before open ones.
    fn receive(&self, flow: &Flow, dp_port: DpPort) -> Option<(BridgeId, OfPort)> {
        self.dp_ports.get(&dp_port)?;
        let local = flow_ip(flow.tunnel.ip_dst, flow.tunnel.ipv6_dst);
        let remote = flow_ip(flow.tunnel.ip_src, flow.tunnel.ipv6_src);
        let own = match flow.packet_type.get() {
            0 => PacketTypeMode::LegacyL2,
            _ => PacketTypeMode::LegacyL3,
        };
        for in_key in [Some(flow.tunnel.tun_id.get()), None] {
            for (dst, dst_flow) in [(Some(remote), false), (None, true)] {
                for (src, src_flow) in [(Some(local), false), (None, false), (None, true)] {
                    for mode in [own, PacketTypeMode::Ptap] {
                        let key = TunnelKey {
                            dp_port,
                            in_key,
                            src,
                            dst,
                            src_flow,
                            dst_flow,
                            mode: mode as u8,
                        };
                        if let Some(found) = self.by_key.get(&key) {
                            return Some(*found);
                        }
                    }
                }
            }
        }
        None
    }
}

/// A packet on its way to the controllers of a bridge.
pub struct AsyncPacketIn {
    pub data: Vec<u8>,
    /// Metadata of the packet when it was sent: `in_port`, registers, tunnel, connection tracking.
    pub flow: Box<Flow>,
    /// `OFPR_*`.
    pub reason: u8,
    pub table_id: u8,
    pub cookie: u64,
    pub controller_id: u16,
    pub max_len: u16,
    pub userdata: Vec<u8>,
    /// Whether the packet came here because no flow matched (`OFPR_NO_MATCH` is then limited apart).
    pub miss: bool,
    pub now: Instant,
}

/// Takes packets for controllers from any thread; must not block.
pub trait PacketInSink: Send + Sync {
    fn send(&self, packet_in: AsyncPacketIn);
    /// Whether some controller wants packets that match no flow when the table does not say what to do
    /// (OpenFlow 1.0 to 1.2 behaviour).
    fn wants_misses(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_tunnel_takes_the_packet() {
        let mut map = TunnelMap::default();
        let remote = "172.31.1.2".parse().ok();
        let fixed = TunnelConfig {
            in_key: 42,
            in_key_present: true,
            dst: remote,
            ..Default::default()
        };
        let open = TunnelConfig {
            in_key_flow: true,
            ip_dst_flow: true,
            ..Default::default()
        };
        assert!(map.insert(DpPort(3), &fixed, (1, OfPort(10))));
        assert!(map.insert(DpPort(3), &open, (1, OfPort(11))));
        assert!(!map.insert(DpPort(3), &open, (1, OfPort(12))));
        let mut flow = Flow::default();
        flow.tunnel.ip_src = 0xac1f0102.into();
        flow.tunnel.ip_dst = 0xac1f0101.into();
        flow.tunnel.tun_id = 42.into();
        assert_eq!(map.receive(&flow, DpPort(3)), Some((1, OfPort(10))));
        flow.tunnel.tun_id = 43.into();
        assert_eq!(map.receive(&flow, DpPort(3)), Some((1, OfPort(11))));
        assert_eq!(map.receive(&flow, DpPort(4)), None);
        // Only who takes the packets can give them up.
        map.remove(DpPort(3), &open, (1, OfPort(12)));
        assert_eq!(map.owner(DpPort(3), &open), Some((1, OfPort(11))));
        map.remove(DpPort(3), &open, (1, OfPort(11)));
        assert_eq!(map.receive(&flow, DpPort(3)), None);
        assert!(map.insert(DpPort(3), &open, (1, OfPort(12))));
        assert_eq!(map.receive(&flow, DpPort(3)), Some((1, OfPort(12))));
    }
}
