//! Applies what the rows of a bridge, its ports and interfaces say, as far as it changed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::Errno;
use ferrovs_netdev::{Flags, Netdev, PortClass};
use ferrovs_ofproto::ofproto::Ofproto;
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_packet::types::{MacAddr, OfPort};
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::{text, vlog};

use crate::bridges::{Bridge, Bridges, Iface};
use crate::config::{BridgeConfig, Config, InterfaceConfig, PortConfig};
use crate::scope::Scope;
use crate::{bonds, identity, settings};

/// The ports of a bridge that belong to a scope.
pub(crate) fn ports_of<'a>(config: &'a BridgeConfig, scope: &Scope) -> Vec<&'a PortConfig> {
    if scope.is_whole(&config.name) {
        return config.ports.values().collect();
    }
    let part = scope.bridges.get(&config.name);
    let names = part.into_iter().flat_map(|part| &part.ports);
    names.filter_map(|name| config.ports.get(name)).collect()
}

/// Applies what the rows of a bridge, its ports and interfaces say.
pub(crate) fn bridge(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    config: &BridgeConfig,
    scope: &Scope,
    errors: &mut BTreeMap<String, String>,
    now: Instant,
) {
    let name = &config.name;
    if bridges.get(name).is_none() {
        return;
    }
    let ports = ports_of(config, scope);
    for i in ports.iter().flat_map(|p| &p.interfaces) {
        interface(ofprotos, bridges, name, i, errors, now);
    }
    let (Some(bridge), Some(switch)) = (bridges.get_mut(name), ofprotos.bridge_mut(name)) else {
        return;
    };
    let ofproto = &mut switch.ofproto;
    let gone = gone(bridge, ofproto, config, scope);
    for port in &ports {
        let address = address(bridge, port);
        bridge.addresses.set(&port.name, address);
    }
    for port in &gone {
        bridge.addresses.set(port, None);
    }
    identify(bridge, ofproto, config);
    for port in ports {
        apply_port(bridge, ofproto, name, port);
    }
    for port in &gone {
        ofproto.bundle_remove(port);
        bridge.members.remove(port);
    }
    if scope.has_settings(name) {
        settings::configure(switch, config, now);
    } else {
        // They name ports.
        settings::mirrors(ofproto, config);
    }
}

/// Ports that are no more.
fn gone(
    bridge: &Bridge,
    ofproto: &Ofproto,
    config: &BridgeConfig,
    scope: &Scope,
) -> HashSet<String> {
    let is_gone = |name: &&String| !config.ports.contains_key(*name);
    if scope.is_whole(&config.name) {
        let bundles = ofproto.bundles.values().map(|b| &b.settings.name);
        let known = bundles
            .chain(bridge.members.keys())
            .chain(bridge.addresses.ports());
        return known.filter(is_gone).cloned().collect();
    }
    let part = scope.bridges.get(&config.name);
    let ports = part.into_iter().flat_map(|part| &part.ports);
    ports.filter(is_gone).cloned().collect()
}

/// Gives the bridge its address and its identifier.
fn identify(bridge: &mut Bridge, ofproto: &mut Ofproto, config: &BridgeConfig) {
    let name = &config.name;
    let mac = identity::bridge_mac(config, &bridge.addresses);
    if let Some(local) = bridge.iface(name)
        && local.netdev.etheraddr().is_ok_and(|m| m != mac)
        && let Err(e) = local.netdev.set_etheraddr(mac)
    {
        vlog::err!(
            BRIDGE,
            "bridge {name}: failed to set bridge Ethernet address: {}",
            text::errno(&e)
        );
    }
    let id = identity::datapath_id(config, mac);
    if bridge.datapath_id != id {
        bridge.datapath_id = id;
        vlog::info!(BRIDGE, "bridge {name}: using datapath ID {id:016x}");
        ofproto.datapath_id = id;
    }
}

/// The address by which a port can serve the whole bridge: the one that its row gives it, else that of its first
/// interface. A device that the switch makes has one that means nothing.
fn address(bridge: &Bridge, port: &PortConfig) -> Option<MacAddr> {
    if port.mac.is_some() {
        return port.mac;
    }
    let i = port.interfaces.iter().find_map(|i| bridge.iface(&i.name))?;
    let is_virtual = i.kind == "internal" || matches!(i.netdev.class(), PortClass::Tunnel(_));
    if is_virtual {
        return None;
    }
    i.netdev.etheraddr().ok()
}

fn apply_port(bridge: &mut Bridge, ofproto: &mut Ofproto, name: &str, port: &PortConfig) {
    match active_member(bridge, port) {
        None => ofproto.bundle_remove(&port.name),
        Some((member, ofport)) => {
            let chosen = (port.interfaces.len() > 1).then(|| member.to_string());
            let (bundle, makes_sense) = settings::bundle(port, vec![ofport]);
            ofproto.bundle_set(bundle);
            if !makes_sense {
                bridge.note_unmet(member, true);
            }
            bonds::tell(
                name,
                port,
                bridge.members.get(&port.name),
                chosen.as_deref(),
            );
            match chosen {
                Some(member) => bridge.members.insert(port.name.clone(), member),
                None => bridge.members.remove(&port.name),
            };
        }
    }
    if let Some(mac) = port.fake_mac {
        for i in &port.interfaces {
            let netdev = bridge.iface(&i.name).map(|i| i.netdev.clone());
            if netdev.is_some_and(|netdev| !set_mac(name, &netdev, mac)) {
                bridge.note_unmet(&i.name, true);
            }
        }
    }
}

fn interface(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    bridge: &str,
    config: &InterfaceConfig,
    errors: &mut BTreeMap<String, String>,
    now: Instant,
) {
    let Some(b) = bridges.get_mut(bridge) else {
        return;
    };
    let Some(there) = b.iface_mut(&config.name) else {
        return;
    };
    if there.uuid != config.uuid {
        there.uuid = config.uuid;
        // Another row knows nothing of the device yet.
        there.change_seq = 0;
    }
    let (mut changed, mut untold) = (false, there.change_seq == 0);
    if there.options != config.options {
        if let Err(text) = there.netdev.set_config(&config.options) {
            errors.insert(config.name.clone(), text);
            remove_port(ofprotos, bridges, bridge, &config.name);
            return;
        }
        there.options = config.options.clone();
        there.change_seq = 0;
        (changed, untold) = (true, true);
    }
    let ofport = there.ofport;
    let granted = configure_iface(ofprotos, bridge, there, config);
    ofprotos.set_lldp(bridge, ofport, config.lldp, now);
    let asks = config.ofport_request.map(OfPort);
    let moves = asks.is_some_and(|n| n != ofport && ofport != OfPort::LOCAL);
    b.note_unmet(&config.name, moves || !granted || config.bad_mac);
    if untold {
        bridges.untell(bridge, &config.name);
    }
    if changed {
        if let Some(o) = ofprotos.ofproto_mut(bridge) {
            // Patch peers and tunnels are part of what translations see.
            o.port_changed(ofport);
        }
        bridges.list(bridge, &config.name);
    }
}

/// The interface of a port that carries its traffic, and its number.
fn active_member<'a>(bridge: &Bridge, port: &'a PortConfig) -> Option<(&'a str, OfPort)> {
    if let [only] = port.interfaces.as_slice() {
        // Nobody could take over, whatever its link does.
        let there = bridge.iface(&only.name)?;
        return Some((&only.name, there.ofport));
    }
    let there = |i: &&InterfaceConfig| bridge.iface(&i.name).is_some();
    let present = port.interfaces.iter().filter(there);
    let link = |i: &InterfaceConfig| bridge.iface(&i.name).is_some_and(|i| has_link(&*i.netdev));
    let members = present.map(|i| (i.name.as_str(), link(i)));
    let name = bonds::choose(bridge.members.get(&port.name).map(String::as_str), members)?;
    Some((name, bridge.iface(name)?.ofport))
}

fn has_link(netdev: &dyn Netdev) -> bool {
    netdev.carrier() && netdev.flags().is_ok_and(|f| f.contains(Flags::UP))
}

/// Whether the link of a member that carries a port's traffic went, and another can take over.
pub(crate) fn members_are_stale(bridges: &Bridges, config: &Config) -> bool {
    let stale = |bridge: &Bridge, port: &PortConfig| {
        let current = bridge.members.get(&port.name).map(String::as_str);
        current.is_some() && active_member(bridge, port).map(|m| m.0) != current
    };
    bridges.iter().any(|(name, bridge)| {
        !bridge.members.is_empty()
            && (config.bridges.get(name))
                .is_some_and(|c| c.ports.values().any(|p| stale(bridge, p)))
    })
}

/// Tells the kind of the port's device, if there was such a port.
pub(crate) fn remove_port(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    bridge: &str,
    name: &str,
) -> Option<&'static str> {
    let iface = bridges.remove_iface(bridge, name)?;
    vlog::info!(
        BRIDGE,
        "bridge {bridge}: deleted interface {name} on port {}",
        iface.ofport.0
    );
    // Its device may be gone, and the port with it.
    let _ = ofprotos.port_del(bridge, iface.ofport);
    Some(iface.netdev.kind())
}

/// False if it asks for what it cannot have.
fn configure_iface(
    ofprotos: &mut Ofprotos,
    bridge: &str,
    there: &mut Iface,
    config: &InterfaceConfig,
) -> bool {
    let mut granted = config
        .mtu_request
        .is_none_or(|mtu| set_mtu(&*there.netdev, mtu));
    if let Some(mac) = config.mac {
        if there.ofport == OfPort::LOCAL {
            vlog::err!(
                BRIDGE,
                "interface {}: ignoring mac in Interface record (use Bridge record to set local port's mac)",
                config.name
            );
            granted = false;
        } else if config.kind == "internal" {
            granted &= set_mac(bridge, &there.netdev, mac);
        }
    }
    let Some(ofproto) = ofprotos.ofproto_mut(bridge) else {
        return granted;
    };
    ofproto.set_mtu_is_set(there.ofport, config.mtu_request.is_some());
    // Options may have given a polled device more queues or fewer.
    if there.other_config != config.other_config || there.netdev.is_pmd() {
        if let Some(port) = ofproto.ports.get(&there.ofport) {
            let done = ofproto
                .backer
                .dpif
                .port_set_config(port.dp_port, &config.other_config);
            if let Err(e) = done
                && e != Errno::EOPNOTSUPP
                && e != Errno::ENODEV
            {
                vlog::warn!(BRIDGE, "{}: could not apply other_config: {e}", config.name);
            }
        }
        there.other_config = config.other_config.clone();
    }
    granted
}

/// False if that cannot be.
fn set_mac(bridge: &str, netdev: &Arc<dyn Netdev>, mac: MacAddr) -> bool {
    let name = netdev.name();
    if mac.is_multicast() || mac.is_zero() {
        let what = if mac.is_zero() {
            "all zero"
        } else {
            "multicast"
        };
        vlog::err!(BRIDGE, "interface {name}: cannot set MAC to {what} address");
        return false;
    }
    if netdev.etheraddr().is_ok_and(|m| m != mac)
        && let Err(e) = netdev.set_etheraddr(mac)
    {
        let text = text::errno(&e);
        vlog::err!(
            BRIDGE,
            "bridge {bridge}: interface {name}: setting MAC failed ({text})"
        );
        return false;
    }
    true
}

/// False if that cannot be.
pub(crate) fn set_mtu(netdev: &dyn Netdev, mtu: u32) -> bool {
    if netdev.mtu().is_ok_and(|m| m != mtu)
        && let Err(e) = netdev.set_mtu(mtu)
    {
        vlog::warn!(
            vlog::modules::NETDEV,
            "failed to set MTU for network device {}: {}",
            netdev.name(),
            text::errno(&e)
        );
        return false;
    }
    true
}
