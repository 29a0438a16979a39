//! From configuration to the settings that bridges take: bundles, mirrors, tables, controllers.

use std::time::Instant;

use ferrovs_ofproto::bridge::Bridge;
use ferrovs_ofproto::connmgr::FailMode;
use ferrovs_ofproto::ofproto::{BundleSettings, MirrorSettings, Ofproto};
use ferrovs_ofproto::xlate::snapshot::{PriorityTags, VlanMode, VlanSet};
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_packet::field::{Field, FieldId, SubField};
use ferrovs_packet::types::{OfPort, eth_type};
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::vlog::{self, RateLimit};

use crate::config::{BridgeConfig, FlowTableConfig, MirrorConfig, PortConfig, get_bool, get_int};
use crate::controllers;

static RL: RateLimit = RateLimit::new(5, 1);

/// A port as the NORMAL switch takes it, and whether all that its row says makes sense; `ports` are the numbers of its
/// interfaces that work.
pub(crate) fn bundle(port: &PortConfig, ports: Vec<OfPort>) -> (BundleSettings, bool) {
    let (name, mut makes_sense) = (&port.name, true);
    let mode = match port.vlan_mode.as_deref() {
        Some("access") => VlanMode::Access,
        Some("trunk") => VlanMode::Trunk,
        Some("native-tagged") => VlanMode::NativeTagged,
        Some("native-untagged") => VlanMode::NativeUntagged,
        Some("dot1q-tunnel") => VlanMode::Dot1qTunnel,
        Some(other) => {
            vlog::warn_rl!(
                RL,
                BRIDGE,
                "port {name}: unknown VLAN mode `{other}', falling back to trunk mode"
            );
            makes_sense = false;
            VlanMode::Trunk
        }
        None if port.tag.is_some() => {
            if !port.trunks.is_empty() {
                vlog::warn!(
                    BRIDGE,
                    "port {name}: ignoring trunks in favor of implicit vlan"
                );
                makes_sense = false;
            }
            VlanMode::Access
        }
        None => VlanMode::Trunk,
    };
    let vlan = port.tag.unwrap_or(0);
    let native = matches!(mode, VlanMode::NativeTagged | VlanMode::NativeUntagged);
    let trunks = match mode {
        VlanMode::Access | VlanMode::Dot1qTunnel => None,
        _ if port.trunks.is_empty() => None,
        _ => {
            let mut trunks = port.trunks.clone();
            if native && !trunks.contains(&vlan) {
                trunks.push(vlan);
                trunks.sort_unstable();
            }
            Some(trunks)
        }
    };
    let qinq_ethtype = match port.other_config.get("qinq-ethtype").map(String::as_str) {
        Some("802.1q") => eth_type::VLAN_8021Q,
        _ => eth_type::VLAN_8021AD,
    };
    let priority_tags = match port.other_config.get("priority-tags").map(String::as_str) {
        Some("true" | "if-nonzero") => PriorityTags::IfNonzero,
        Some("always") => PriorityTags::Always,
        _ => PriorityTags::Never,
    };
    let settings = BundleSettings {
        name: name.clone(),
        ports,
        vlan_mode: mode,
        vlan,
        trunks,
        cvlans: (!port.cvlans.is_empty()).then(|| port.cvlans.clone()),
        qinq_ethtype,
        priority_tags,
        protected: port.protected,
    };
    (settings, makes_sense)
}

/// A mirror, unless its row makes no sense.
fn mirror(bridge: &str, m: &MirrorConfig) -> Option<MirrorSettings> {
    let name = &m.name;
    if m.output_port.is_none() && m.output_vlan.is_none() {
        vlog::err!(
            BRIDGE,
            "bridge {bridge}: mirror {name} does not specify output; ignoring"
        );
        return None;
    }
    if m.output_port.is_some() && m.output_vlan.is_some() {
        vlog::err!(
            BRIDGE,
            "bridge {bridge}: mirror {name} specifies both output port and output vlan; using output port"
        );
    }
    Some(MirrorSettings {
        name: name.clone(),
        select_all: m.select_all,
        select_src: m.select_src.clone(),
        select_dst: m.select_dst.clone(),
        select_vlans: (!m.select_vlans.is_empty()).then(|| m.select_vlans.clone()),
        output_port: m.output_port.clone(),
        output_vlan: m.output_vlan.filter(|_| m.output_port.is_none()),
        snaplen: m.snaplen,
    })
}

/// The OpenFlow versions that a bridge's row allows; none means the default.
fn versions(protocols: &[String]) -> Versions {
    let number = |name: &str| {
        name.strip_prefix("OpenFlow1")
            .and_then(|n| n.parse::<u8>().ok())
    };
    let mut all = Versions::NONE;
    for version in protocols
        .iter()
        .filter_map(|p| Version::from_wire(number(p)? + 1))
    {
        all.insert(version);
    }
    all
}

/// Applies everything that a bridge's row says except for its ports.
pub(crate) fn configure(bridge: &mut Bridge, config: &BridgeConfig, now: Instant) {
    let other = &config.other_config;
    let versions = versions(&config.protocols);
    bridge.connmgr.set_allowed_versions(versions);
    let mode = if config.secure {
        FailMode::Secure
    } else {
        FailMode::Standalone
    };
    bridge.set_controllers(controllers::settings(config, versions), now);
    bridge.set_fail_mode(mode, now);
    let ofproto = &mut bridge.ofproto;
    ofproto.set_forward_bpdu(get_bool(other, "forward-bpdu", false));
    let flood = &config.flood_vlans;
    ofproto.set_flood_vlans((!flood.is_empty()).then(|| VlanSet::new(flood.iter().copied())));
    let text = |key: &str| {
        other
            .get(key)
            .cloned()
            .unwrap_or_else(|| "None".to_string())
    };
    ofproto.desc.dp_desc = text("dp-desc");
    ofproto.desc.serial_num = text("dp-sn");
    mac_table(ofproto, config);
    flow_tables(ofproto, config, now);
    mirrors(ofproto, config);
}

/// Applies the mirrors, which name ports.
pub(crate) fn mirrors(ofproto: &mut Ofproto, config: &BridgeConfig) {
    let mirrors: Vec<_> = config
        .mirrors
        .iter()
        .filter_map(|m| mirror(&config.name, m))
        .collect();
    ofproto.mirrors_set(&mirrors);
}

fn mac_table(ofproto: &mut Ofproto, config: &BridgeConfig) {
    const DEFAULT_SIZE: i64 = 8192;
    let other = &config.other_config;
    let aging = match get_int(other, "mac-aging-time", 300) {
        s if s > 0 => s,
        _ => 300,
    };
    let size = get_int(other, "mac-table-size", DEFAULT_SIZE);
    let size = if size > 0 { size } else { DEFAULT_SIZE };
    ofproto.set_mac_table_config(aging as u64, size as usize);
}

fn flow_tables(ofproto: &Ofproto, config: &BridgeConfig, now: Instant) {
    let default = FlowTableConfig::default();
    for id in 0..255u8 {
        let Some(table) = ofproto.tables.table(id) else {
            break;
        };
        let wanted = config.flow_tables.get(&id).unwrap_or(&default);
        let mut new = (*table.config()).clone();
        if !new.name_from_controller {
            new.name = wanted.name.clone();
        }
        new.max_flows = wanted.flow_limit;
        new.evict = wanted.evict;
        new.eviction_groups = eviction_groups(&config.name, id, wanted);
        new.prefixes = prefixes(&config.name, &wanted.prefixes);
        ofproto.configure_table(id, new, now);
    }
}

fn eviction_groups(bridge: &str, table: u8, wanted: &FlowTableConfig) -> Vec<SubField> {
    let parse = |text: &String| {
        SubField::parse(text)
            .map_err(|error| {
                vlog::warn_rl!(
                    RL,
                    BRIDGE,
                    "bridge {bridge} table {table}: error parsing 'groups' ({error})"
                );
            })
            .ok()
    };
    let fields: Vec<_> = wanted.groups.iter().filter_map(parse).collect();
    if wanted.evict { fields } else { Vec::new() }
}

/// The fields that a table's column names: `none` means no field, and no field that can be one the default.
fn prefixes(bridge: &str, names: &[String]) -> Option<Vec<FieldId>> {
    let mut fields = Vec::new();
    for name in names {
        let what = match Field::by_name(name) {
            _ if name == "none" => return Some(Vec::new()),
            Some(field) if field.prefix_trie => {
                fields.push(field.id);
                continue;
            }
            Some(_) => "incompatible",
            None => "unknown",
        };
        vlog::warn_rl!(
            RL,
            BRIDGE,
            "bridge {bridge}: 'prefixes' with {what} field: {name}"
        );
    }
    (!fields.is_empty()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(tag: Option<u16>, trunks: &[u16], mode: Option<&str>) -> BundleSettings {
        let port = PortConfig {
            name: "p".to_string(),
            tag,
            trunks: trunks.to_vec(),
            vlan_mode: mode.map(str::to_string),
            ..PortConfig::default()
        };
        bundle(&port, vec![OfPort(1)]).0
    }

    #[test]
    fn a_tag_without_a_mode_makes_an_access_port_and_nothing_makes_a_trunk() {
        let p = port(Some(10), &[20], None);
        assert_eq!(
            (p.vlan_mode, p.vlan, p.trunks),
            (VlanMode::Access, 10, None)
        );
        let p = port(None, &[20], None);
        assert_eq!((p.vlan_mode, p.trunks), (VlanMode::Trunk, Some(vec![20])));
        assert_eq!(port(None, &[], None).trunks, None);
    }

    #[test]
    fn the_native_vlan_is_always_among_the_trunks() {
        let p = port(Some(10), &[5, 20], Some("native-untagged"));
        assert_eq!(p.trunks, Some(vec![5, 10, 20]));
        assert_eq!(port(Some(10), &[], Some("native-tagged")).trunks, None);
    }

    #[test]
    fn protocols_become_versions() {
        let names = ["OpenFlow10".to_string(), "OpenFlow13".to_string()];
        assert_eq!(versions(&names), Versions((1 << 1) | (1 << 4)));
        assert_eq!(versions(&[]), Versions::NONE);
    }

    #[test]
    fn prefixes_are_the_fields_that_can_be_and_none_is_none() {
        let fields = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            prefixes("br0", &names)
        };
        assert_eq!(fields(&[]), None);
        assert_eq!(fields(&["eth_src", "nope"]), None);
        assert_eq!(fields(&["eth_src", "ip_dst"]), Some(vec![FieldId::IpDst]));
        assert_eq!(fields(&["ip_dst", "none", "nope"]), Some(Vec::new()));
    }
}
