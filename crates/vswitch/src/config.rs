//! What the database wants, as plain values: the rows that matter, with references followed.

use std::collections::{BTreeMap, HashMap};

use ferrovs_idl::Uuid;
use ferrovs_ofproto::zones::Zones;
use ferrovs_packet::types::MacAddr;

/// A map column of strings.
pub type Pairs = BTreeMap<String, String>;

pub(crate) fn get_bool(pairs: &Pairs, key: &str, default: bool) -> bool {
    match pairs.get(key).map(String::as_str) {
        Some(v) if default => !v.eq_ignore_ascii_case("false"),
        Some(v) => v.eq_ignore_ascii_case("true"),
        None => default,
    }
}

pub(crate) fn get_int(pairs: &Pairs, key: &str, default: i64) -> i64 {
    pairs
        .get(key)
        .and_then(|v| v.trim().parse().ok())
        .unwrap_or(default)
}

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `Open_vSwitch.other_config`.
    pub other_config: Pairs,
    /// The `SSL` row: private key, certificate, CA certificate, whether to learn the last.
    pub tls: Option<(String, String, String, bool)>,
    /// `Datapath` rows by the type of datapath.
    pub datapaths: BTreeMap<String, Uuid>,
    /// Zones of connection tracking by the type of datapath.
    pub zones: BTreeMap<String, Zones>,
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeConfig>,
    /// Where each interface is: a device can be in one place only.
    pub places: HashMap<String, Place>,
}

/// The port that an interface belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub bridge: String,
    pub port: String,
}

impl Config {
    pub fn port(&self, bridge: &str, port: &str) -> Option<&PortConfig> {
        self.bridges.get(bridge)?.ports.get(port)
    }

    /// The port that has an interface of this name.
    pub fn port_of(&self, iface: &str) -> Option<&PortConfig> {
        let place = self.places.get(iface)?;
        self.port(&place.bridge, &place.port)
    }

    /// An interface of a bridge.
    pub fn iface(&self, bridge: &str, iface: &str) -> Option<&InterfaceConfig> {
        let place = self.places.get(iface).filter(|p| p.bridge == bridge)?;
        let mut ifaces = self.port(bridge, &place.port)?.interfaces.iter();
        ifaces.find(|i| i.name == iface)
    }
}

/// A `Bridge` row.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConfig {
    pub uuid: Uuid,
    pub name: String,
    pub datapath_type: String,
    pub secure: bool,
    /// Names of OpenFlow versions; empty means the default.
    pub protocols: Vec<String>,
    pub flood_vlans: Vec<u16>,
    pub other_config: Pairs,
    /// Ports by name.
    pub ports: BTreeMap<String, PortConfig>,
    pub controllers: Vec<ControllerConfig>,
    pub mirrors: Vec<MirrorConfig>,
    pub auto_attach: Option<AutoAttachConfig>,
    /// Tables by number.
    pub flow_tables: BTreeMap<u8, FlowTableConfig>,
}

impl BridgeConfig {
    /// The interfaces of all ports.
    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceConfig> {
        self.ports.values().flat_map(|p| &p.interfaces)
    }
}

/// A `Port` row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortConfig {
    pub uuid: Uuid,
    pub name: String,
    pub interfaces: Vec<InterfaceConfig>,
    pub tag: Option<u16>,
    pub trunks: Vec<u16>,
    pub cvlans: Vec<u16>,
    pub vlan_mode: Option<String>,
    pub protected: bool,
    pub other_config: Pairs,
    /// The address that the row gives the port, for the choice of the bridge's.
    pub mac: Option<MacAddr>,
    /// The address of a fake bridge.
    pub fake_mac: Option<MacAddr>,
}

/// An `Interface` row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceConfig {
    /// None for the local port of a bridge whose database has no row for it.
    pub uuid: Option<Uuid>,
    pub name: String,
    pub kind: String,
    pub options: Pairs,
    pub other_config: Pairs,
    pub ofport_request: Option<u16>,
    /// The number that the row says it had.
    pub ofport: Option<i64>,
    pub mac: Option<MacAddr>,
    /// The row's address is none.
    pub bad_mac: bool,
    pub mtu_request: Option<u32>,
    /// Whether it speaks LLDP, if the row says anything about that.
    pub lldp: Option<bool>,
}

impl InterfaceConfig {
    /// The number to ask for: the one requested, else the one that it had.
    pub fn wanted_ofport(&self) -> Option<u16> {
        let had = self
            .ofport
            .filter(|n| (1..0xff00).contains(n))
            .map(|n| n as u16);
        self.ofport_request.or(had)
    }
}

/// A `Controller` row.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerConfig {
    pub uuid: Uuid,
    pub target: String,
    pub kind: Option<String>,
    pub max_backoff_ms: Option<i64>,
    pub inactivity_probe_ms: Option<i64>,
    pub enable_async_messages: Option<bool>,
    pub rate_limit: Option<i64>,
    pub burst_limit: Option<i64>,
    pub queue_size: Option<i64>,
    pub other_config: Pairs,
}

/// An `AutoAttach` row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoAttachConfig {
    pub system_name: String,
    pub system_description: String,
    /// VLANs by I-SID.
    pub mappings: BTreeMap<u32, u16>,
}

/// A `Mirror` row; ports by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorConfig {
    pub uuid: Uuid,
    pub name: String,
    pub select_all: bool,
    pub select_src: Vec<String>,
    pub select_dst: Vec<String>,
    pub select_vlans: Vec<u16>,
    pub output_port: Option<String>,
    pub output_vlan: Option<u16>,
    pub snaplen: u16,
}

/// A `Flow_Table` row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowTableConfig {
    pub name: Option<String>,
    pub flow_limit: Option<u32>,
    pub evict: bool,
    pub groups: Vec<String>,
    pub prefixes: Vec<String>,
}
