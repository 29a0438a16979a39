//! From single rows of the replica of the database to plain values. How they fit together is [`crate::reader`]'s.

use std::collections::BTreeMap;

use ferrovs_datapath::conntrack::{CT_TIMEOUTS, CtTimeouts};
use ferrovs_idl::kind::{Int, MapView, SetView, Str};
use ferrovs_idl::open_vswitch as db;
use ferrovs_idl::{Idl, Row, Uuid};
use ferrovs_ofproto::zones::{Zone, Zones};
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::vlog::{self, RateLimit};

use crate::config::{
    AutoAttachConfig, BridgeConfig, Config, ControllerConfig, FlowTableConfig, InterfaceConfig,
    MirrorConfig, Pairs, PortConfig, get_bool,
};

static RL: RateLimit = RateLimit::new(5, 1);

/// Monitors what the switch needs; what it writes itself does not wake it.
pub(crate) fn monitor(idl: &mut Idl) {
    idl.monitor_all();
    macro_rules! written {
        ($($table:ident: $($column:ident)*;)*) => {$($(
            idl.omit_alert(db::$table::$column);
        )*)*};
    }
    written! {
        OpenVSwitch: CUR_CFG STATISTICS DATAPATH_TYPES IFACE_TYPES DPDK_INITIALIZED DPDK_VERSION
            DB_VERSION OVS_VERSION SYSTEM_TYPE SYSTEM_VERSION EXTERNAL_IDS MANAGER_OPTIONS;
        Bridge: DATAPATH_ID DATAPATH_VERSION STATUS RSTP_STATUS EXTERNAL_IDS;
        Port: STATUS STATISTICS RSTP_STATUS RSTP_STATISTICS BOND_ACTIVE_SLAVE EXTERNAL_IDS;
        Interface: ADMIN_STATE BFD_STATUS CFM_FAULT CFM_FAULT_STATUS CFM_FLAP_COUNT CFM_HEALTH
            CFM_REMOTE_MPIDS CFM_REMOTE_OPSTATE DUPLEX ERROR IFINDEX LACP_CURRENT LINK_RESETS
            LINK_SPEED LINK_STATE MAC_IN_USE MTU OFPORT STATISTICS STATUS EXTERNAL_IDS;
        Controller: IS_CONNECTED ROLE STATUS EXTERNAL_IDS;
        Mirror: STATISTICS EXTERNAL_IDS;
        Manager: IS_CONNECTED STATUS EXTERNAL_IDS;
        Datapath: CAPABILITIES DATAPATH_VERSION EXTERNAL_IDS;
    }
}

/// What an `Open_vSwitch` row says beside its bridges.
pub(crate) fn read_root(idl: &Idl, root: Row<'_, db::OpenVSwitch>) -> Config {
    let tls = root.ssl().and_then(|u| idl.row::<db::Ssl>(u)).map(|row| {
        let text = |s: &str| s.to_string();
        let (key, certificate) = (text(row.private_key()), text(row.certificate()));
        (
            key,
            certificate,
            text(row.ca_cert()),
            row.bootstrap_ca_cert(),
        )
    });
    let datapaths = root.datapaths();
    Config {
        other_config: pairs(root.other_config()),
        tls,
        datapaths: datapaths.iter().map(|(k, u)| (k.to_string(), u)).collect(),
        zones: datapaths
            .iter()
            .filter_map(|(kind, u)| Some((kind.to_string(), read_zones(idl, idl.row(u)?))))
            .collect(),
        ..Config::default()
    }
}

/// The zones of a `Datapath` row.
fn read_zones(idl: &Idl, row: Row<'_, db::Datapath>) -> Zones {
    let number = |n: i64| u32::try_from(n).ok();
    let zones = row.ct_zones();
    let zones = zones.iter().filter_map(|(zone, u)| {
        let row = idl.row::<db::CtZone>(u)?;
        let policy = row.timeout_policy();
        let policy = policy.and_then(|u| idl.row::<db::CtTimeoutPolicy>(u));
        let timeouts = policy.map(|p| {
            let times = p.timeouts();
            let time = |name: &str| times.iter().find(|(key, _)| *key == name);
            let time = |name: &str| time(name).and_then(|(_, n)| number(n));
            CtTimeouts(CT_TIMEOUTS.map(time))
        });
        let limit = row.limit().and_then(number);
        Some((u16::try_from(zone).ok()?, Zone { limit, timeouts }))
    });
    Zones {
        default_limit: row.ct_zone_default_limit().and_then(number),
        zones: zones.collect(),
    }
}

/// What a `Bridge` row says beside its ports.
pub(crate) fn read_bridge(idl: &Idl, row: Row<'_, db::Bridge>) -> BridgeConfig {
    BridgeConfig {
        uuid: row.uuid(),
        name: row.name().to_string(),
        datapath_type: row.datapath_type().to_string(),
        secure: row.fail_mode() == Some("secure"),
        protocols: row.protocols().iter().map(str::to_string).collect(),
        flood_vlans: vlans(row.flood_vlans()),
        other_config: pairs(row.other_config()),
        controllers: row
            .controller()
            .iter()
            .filter_map(|u| idl.row::<db::Controller>(u))
            .map(read_controller)
            .collect(),
        mirrors: row
            .mirrors()
            .iter()
            .filter_map(|u| idl.row::<db::Mirror>(u))
            .map(|m| read_mirror(idl, m))
            .collect(),
        auto_attach: row
            .auto_attach()
            .and_then(|u| idl.row::<db::AutoAttach>(u))
            .map(read_auto_attach),
        flow_tables: row
            .flow_tables()
            .iter()
            .filter_map(|(id, u)| {
                Some((
                    u8::try_from(id).ok()?,
                    read_flow_table(idl.row::<db::FlowTable>(u)?),
                ))
            })
            .collect(),
        ports: BTreeMap::new(),
    }
}

/// What a `Port` row says beside its interfaces.
pub(crate) fn read_port(row: Row<'_, db::Port>) -> PortConfig {
    let mac = row.mac().and_then(|m| m.parse().ok());
    PortConfig {
        uuid: row.uuid(),
        name: row.name().to_string(),
        interfaces: Vec::new(),
        tag: row.tag().map(|t| t as u16),
        trunks: vlans(row.trunks()),
        cvlans: vlans(row.cvlans()),
        vlan_mode: row.vlan_mode().map(str::to_string),
        protected: row.protected(),
        other_config: pairs(row.other_config()),
        mac,
        fake_mac: mac.filter(|_| row.fake_bridge()),
    }
}

/// The port that a bridge has also when the database forgot it: its own device.
pub(crate) fn local_port(bridge: &str) -> PortConfig {
    PortConfig {
        name: bridge.to_string(),
        interfaces: vec![InterfaceConfig {
            name: bridge.to_string(),
            kind: "internal".to_string(),
            ..InterfaceConfig::default()
        }],
        ..PortConfig::default()
    }
}

pub(crate) fn read_interface(bridge: &str, row: Row<'_, db::Interface>) -> InterfaceConfig {
    let name = row.name();
    // The local port is the bridge's own device, whatever the row says.
    let kind = match row.type_() {
        _ if name == bridge => "internal",
        "" => "system",
        kind => kind,
    };
    let mac = row.mac().and_then(|text| {
        let mac: Option<MacAddr> = text.parse().ok();
        if mac.is_none() {
            vlog::warn_rl!(
                RL,
                BRIDGE,
                "interface {name}: ignoring bad MAC address \"{text}\""
            );
        }
        mac
    });
    InterfaceConfig {
        uuid: Some(row.uuid()),
        name: name.to_string(),
        kind: kind.to_string(),
        options: pairs(row.options()),
        other_config: pairs(row.other_config()),
        ofport_request: row.ofport_request().map(|n| n as u16),
        ofport: row.ofport(),
        bad_mac: row.mac().is_some() && mac.is_none(),
        mac,
        mtu_request: row.mtu_request().and_then(|n| u32::try_from(n).ok()),
        lldp: {
            let lldp = pairs(row.lldp());
            (!lldp.is_empty()).then(|| get_bool(&lldp, "enable", false))
        },
    }
}

fn read_auto_attach(row: Row<'_, db::AutoAttach>) -> AutoAttachConfig {
    AutoAttachConfig {
        system_name: row.system_name().to_string(),
        system_description: row.system_description().to_string(),
        mappings: (row.mappings().iter())
            .map(|(isid, vlan)| (isid as u32, vlan as u16))
            .collect(),
    }
}

fn read_controller(row: Row<'_, db::Controller>) -> ControllerConfig {
    ControllerConfig {
        uuid: row.uuid(),
        target: row.target().to_string(),
        kind: row.type_().map(str::to_string),
        max_backoff_ms: row.max_backoff(),
        inactivity_probe_ms: row.inactivity_probe(),
        enable_async_messages: row.enable_async_messages(),
        rate_limit: row.controller_rate_limit(),
        burst_limit: row.controller_burst_limit(),
        queue_size: row.controller_queue_size(),
        other_config: pairs(row.other_config()),
    }
}

fn read_mirror(idl: &Idl, row: Row<'_, db::Mirror>) -> MirrorConfig {
    let name_of = |u: Uuid| idl.row::<db::Port>(u).map(|p| p.name().to_string());
    let src = row.select_src_port();
    let dst = row.select_dst_port();
    MirrorConfig {
        uuid: row.uuid(),
        name: row.name().to_string(),
        select_all: row.select_all(),
        select_src: src.iter().filter_map(name_of).collect(),
        select_dst: dst.iter().filter_map(name_of).collect(),
        select_vlans: vlans(row.select_vlan()),
        output_port: row.output_port().and_then(name_of),
        output_vlan: row.output_vlan().map(|v| v as u16),
        snaplen: row.snaplen().map_or(0, |n| n.clamp(0, 65535) as u16),
    }
}

fn read_flow_table(row: Row<'_, db::FlowTable>) -> FlowTableConfig {
    FlowTableConfig {
        name: row.name().map(str::to_string),
        flow_limit: row
            .flow_limit()
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        evict: row.overflow_policy() == Some("evict"),
        groups: row.groups().iter().map(str::to_string).collect(),
        prefixes: row.prefixes().iter().map(str::to_string).collect(),
    }
}

fn pairs(map: MapView<'_, Str, Str>) -> Pairs {
    map.iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect::<BTreeMap<_, _>>()
}

fn vlans(set: SetView<'_, Int>) -> Vec<u16> {
    set.iter()
        .filter(|v| (0..4096).contains(v))
        .map(|v| v as u16)
        .collect()
}
