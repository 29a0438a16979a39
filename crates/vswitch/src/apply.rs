//! Carries out the steps of a plan, then applies every setting.
//!
//! A step that fails is told in the log and, for an interface, in its row; the rest goes on. What
//! failed is tried again at the next change of the configuration.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::{Detach, Errno};
use ferrovs_idl::Uuid;
use ferrovs_netdev::{Flags, Netdev, PortClass};
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_packet::types::{MacAddr, OfPort};
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::{text, vlog};

use crate::closing::Closing;
use crate::config::{BridgeConfig, Config, InterfaceConfig, Pairs, PortConfig};
use crate::identity::{self, Candidate};
use crate::plan::{Present, PresentBridge, PresentIface, Step};
use crate::{bonds, settings};

/// A bridge that exists.
pub(crate) struct Bridge {
    pub kind: String,
    pub ifaces: BTreeMap<String, Iface>,
    pub datapath_id: u64,
    /// Of ports with several interfaces, the interface that carries the traffic.
    members: BTreeMap<String, String>,
}

/// An interface that exists.
pub(crate) struct Iface {
    pub kind: String,
    pub ofport: OfPort,
    pub netdev: Arc<dyn Netdev>,
    /// The options and settings that it has.
    options: Pairs,
    other_config: Pairs,
    /// State of the device when its row was last written.
    pub change_seq: u64,
}

/// All bridges that exist.
pub(crate) type Bridges = BTreeMap<String, Bridge>;

/// How the interfaces of a configuration came out: the numbers of those that work, and what one of them
/// lacks, the errors of the others, by row.
#[derive(Default)]
pub(crate) struct Outcome {
    pub works: Vec<(Uuid, OfPort, Option<String>)>,
    pub errors: Vec<(Uuid, String)>,
    /// Interfaces that were not tried, because the devices that had their names are not closed yet.
    pub closing: BTreeSet<String>,
    /// Interfaces that went, whose devices the switch had made on the host.
    pub gone: Vec<String>,
}

/// Forgets interfaces whose ports were taken away by others, so that they are added anew.
pub(crate) fn forget_lost(ofprotos: &Ofprotos, bridges: &mut Bridges) {
    for (name, bridge) in bridges {
        if let Some(ofproto) = ofprotos.ofproto(name) {
            bridge.ifaces.retain(|iface, i| {
                let stays = ofproto.ports.contains_key(&i.ofport);
                if !stays {
                    let number = i.ofport.0;
                    vlog::info!(
                        BRIDGE,
                        "bridge {name}: deleted interface {iface} on port {number}"
                    );
                }
                stays
            });
        }
    }
}

/// What is there, for planning.
pub(crate) fn present(bridges: &Bridges) -> Present {
    let iface = |i: &Iface| PresentIface {
        kind: i.kind.clone(),
        ofport: i.ofport,
    };
    bridges
        .iter()
        .map(|(name, b)| {
            let ifaces = b
                .ifaces
                .iter()
                .map(|(n, i)| (n.clone(), iface(i)))
                .collect();
            (
                name.clone(),
                PresentBridge {
                    kind: b.kind.clone(),
                    ifaces,
                },
            )
        })
        .collect()
}

/// Carries out `steps`, then makes every setting what `config` says. An interface whose device goes must
/// wait until that is closed, unless `closing` has no patience any more.
pub(crate) fn apply(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    config: &Config,
    steps: Vec<Step>,
    closing: &Closing,
    now: Instant,
) -> Outcome {
    let mut errors: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted: HashMap<&str, &InterfaceConfig> = HashMap::new();
    for i in config.bridges.values().flat_map(BridgeConfig::interfaces) {
        // A name stands for one interface only: what reads the rows sees to that.
        wanted.insert(&i.name, i);
    }
    configure_datapaths(ofprotos, config);
    let mut going = closing.names();
    let mut busy = BTreeSet::new();
    let mut gone = Vec::new();
    let mut is_published = true;
    for step in steps {
        if matches!(step, Step::AddBridge { .. } | Step::AddPort { .. }) && !is_published {
            // Lets go of what went.
            ofprotos.publish();
            is_published = true;
        }
        match step {
            Step::RemovePort { bridge, iface } => {
                if remove_port(ofprotos, bridges, &bridge, &iface) == Some("tap") {
                    gone.push(iface.clone());
                }
                going.insert(iface);
                is_published = false;
            }
            Step::RemoveBridge { name } => {
                bridges.remove(&name);
                ofprotos.destroy(&name, Detach::Delete);
            }
            Step::AddBridge { name, kind } => {
                add_bridge(ofprotos, bridges, &name, &kind, now);
                configure_datapaths(ofprotos, config);
            }
            Step::AddPort { bridge, iface, .. } => {
                let Some(wanted) = wanted.get(iface.as_str()) else {
                    continue;
                };
                if closing.is_patient()
                    && going.contains(&iface)
                    && ferrovs_netdev::is_in_use(&iface)
                {
                    busy.insert(iface);
                    continue;
                }
                if let Some(Err(e)) = add_port(ofprotos, bridges, &bridge, wanted) {
                    errors.insert(iface, e);
                }
            }
        }
    }
    for (name, wanted) in &config.bridges {
        configure_bridge(ofprotos, bridges, name, wanted, &mut errors, now);
    }
    Outcome {
        closing: busy,
        gone,
        ..outcome(bridges, config, errors)
    }
}

fn outcome(bridges: &Bridges, config: &Config, mut errors: BTreeMap<String, String>) -> Outcome {
    let mut outcome = Outcome::default();
    for (name, wanted) in &config.bridges {
        for iface in wanted.interfaces() {
            let Some(uuid) = iface.uuid else { continue };
            if let Some(i) = bridges.get(name).and_then(|b| b.ifaces.get(&iface.name)) {
                let lacks = lacking_peer(bridges, &bridges[name].kind, i);
                outcome.works.push((uuid, i.ofport, lacks));
            } else if let Some(e) = errors.remove(&iface.name) {
                outcome.errors.push((uuid, e));
            }
        }
    }
    outcome
}

/// What a patch port lacks whose peer is not there, or not a patch port that names it.
fn lacking_peer(bridges: &Bridges, kind: &str, iface: &Iface) -> Option<String> {
    let peer = iface.netdev.class().patch_peer()?;
    let name = iface.netdev.name();
    let is_usable = |b: &Bridge| {
        let there = b
            .ifaces
            .get(&*peer)
            .and_then(|p| p.netdev.class().patch_peer());
        b.kind == kind && there.is_some_and(|there| *there == name)
    };
    (!bridges.values().any(is_usable))
        .then(|| format!("No usable peer '{peer}' exists in '{kind}' datapath."))
}

/// Before it gets ports. Nothing happens where nothing is new.
fn configure_datapaths(ofprotos: &Ofprotos, config: &Config) {
    for backer in ofprotos.backers() {
        backer.dpif.set_config(&config.other_config);
    }
}

fn add_bridge(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    name: &str,
    kind: &str,
    now: Instant,
) {
    match ofprotos.create(name, kind, now) {
        Ok(()) => {
            let bridge = Bridge {
                kind: kind.to_string(),
                ifaces: BTreeMap::new(),
                datapath_id: 0,
                members: BTreeMap::new(),
            };
            bridges.insert(name.to_string(), bridge);
        }
        Err(e) => vlog::err!(BRIDGE, "failed to create bridge {name}: {e}"),
    }
}

/// Tells the kind of the port's device, if there was such a port.
fn remove_port(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    bridge: &str,
    name: &str,
) -> Option<&'static str> {
    let iface = bridges.get_mut(bridge)?.ifaces.remove(name)?;
    vlog::info!(
        BRIDGE,
        "bridge {bridge}: deleted interface {name} on port {}",
        iface.ofport.0
    );
    // Its device may be gone, and the port with it.
    let _ = ofprotos.port_del(bridge, iface.ofport);
    Some(iface.netdev.kind())
}

/// None if the bridge does not exist: then its ports are not tried, and their rows stay as they are.
fn add_port(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    bridge: &str,
    config: &InterfaceConfig,
) -> Option<Result<(), String>> {
    let b = bridges.get_mut(bridge)?;
    let name = &config.name;
    let open_kind = ofprotos.port_open_kind(&b.kind, &config.kind);
    let netdev = match ferrovs_netdev::open(name, &open_kind) {
        Ok(n) => n,
        Err(e) => {
            let text = format!("could not open network device {name} ({})", text::errno(&e));
            vlog::warn!(BRIDGE, "{text}");
            return Some(Err(text));
        }
    };
    if let Err(text) = netdev.set_config(&config.options) {
        return Some(Err(text));
    }
    if let Some(mtu) = config.mtu_request {
        set_mtu(&*netdev, mtu);
    }
    let wanted = config.wanted_ofport().map(OfPort);
    let ofport = match ofprotos.port_add(bridge, netdev.clone(), wanted) {
        Ok(p) => p,
        Err(e) => {
            let text = format!("could not add network device {name} to ofproto ({e})");
            vlog::warn!(BRIDGE, "{text}");
            return Some(Err(text));
        }
    };
    vlog::info!(
        BRIDGE,
        "bridge {bridge}: added interface {name} on port {}",
        ofport.0
    );
    let iface = Iface {
        kind: config.kind.clone(),
        ofport,
        netdev,
        options: config.options.clone(),
        other_config: Pairs::new(),
        change_seq: 0,
    };
    b.ifaces.insert(name.clone(), iface);
    Some(Ok(()))
}

fn set_mtu(netdev: &dyn Netdev, mtu: u32) {
    if netdev.mtu().is_ok_and(|m| m != mtu)
        && let Err(e) = netdev.set_mtu(mtu)
    {
        vlog::warn!(
            vlog::modules::NETDEV,
            "failed to set MTU for network device {}: {}",
            netdev.name(),
            text::errno(&e)
        );
    }
}

/// Applies what the rows of a bridge, its ports and interfaces say.
fn configure_bridge(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    name: &str,
    config: &BridgeConfig,
    errors: &mut BTreeMap<String, String>,
    now: Instant,
) {
    if !bridges.contains_key(name) {
        return;
    }
    let ifaces: Vec<&InterfaceConfig> = config.interfaces().collect();
    for i in &ifaces {
        let Some(there) = bridges
            .get_mut(name)
            .and_then(|b| b.ifaces.get_mut(&i.name))
        else {
            continue;
        };
        if there.options != i.options {
            if let Err(text) = there.netdev.set_config(&i.options) {
                errors.insert(i.name.clone(), text);
                remove_port(ofprotos, bridges, name, &i.name);
                continue;
            }
            there.options = i.options.clone();
            there.change_seq = 0;
            if let Some(o) = ofprotos.ofproto_mut(name) {
                // Patch peers and tunnels are part of what translations see.
                o.dirty = true;
            }
        }
        configure_iface(ofprotos, name, there, i);
        ofprotos.set_lldp(name, there.ofport, i.lldp, now);
    }
    let Some(bridge) = bridges.get_mut(name) else {
        return;
    };
    let mac = bridge_mac(bridge, config);
    if let Some(local) = bridge.ifaces.get(name)
        && local.netdev.etheraddr().is_ok_and(|m| m != mac)
        && let Err(e) = local.netdev.set_etheraddr(mac)
    {
        vlog::err!(
            BRIDGE,
            "bridge {name}: failed to set bridge Ethernet address: {}",
            text::errno(&e)
        );
    }
    let Some(switch) = ofprotos.bridge_mut(name) else {
        return;
    };
    let ofproto = &mut switch.ofproto;
    let id = identity::datapath_id(config, mac);
    if bridge.datapath_id != id {
        bridge.datapath_id = id;
        vlog::info!(BRIDGE, "bridge {name}: using datapath ID {id:016x}");
        ofproto.datapath_id = id;
    }
    for port in &config.ports {
        match active_member(bridge, port) {
            None => ofproto.bundle_remove(&port.name),
            Some((member, ofport)) => {
                let chosen = (port.interfaces.len() > 1).then(|| member.to_string());
                ofproto.bundle_set(settings::bundle(port, vec![ofport]));
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
            for i in port
                .interfaces
                .iter()
                .filter_map(|i| bridge.ifaces.get(&i.name))
            {
                set_mac(name, &i.netdev, mac);
            }
        }
    }
    let names: HashSet<&str> = config.ports.iter().map(|p| p.name.as_str()).collect();
    let stale: Vec<String> = ofproto
        .bundles
        .values()
        .map(|b| b.settings.name.clone())
        .filter(|n| !names.contains(n.as_str()))
        .collect();
    stale.iter().for_each(|n| ofproto.bundle_remove(n));
    bridge
        .members
        .retain(|port, _| names.contains(port.as_str()));
    settings::configure(switch, config, now);
}

/// The interface of a port that carries its traffic, and its number.
fn active_member<'a>(bridge: &Bridge, port: &'a PortConfig) -> Option<(&'a str, OfPort)> {
    if let [only] = port.interfaces.as_slice() {
        // Nobody could take over, whatever its link does.
        let there = bridge.ifaces.get(&only.name)?;
        return Some((&only.name, there.ofport));
    }
    let there = |i: &&InterfaceConfig| bridge.ifaces.contains_key(&i.name);
    let present = port.interfaces.iter().filter(there);
    let members = present.map(|i| (i.name.as_str(), has_link(&*bridge.ifaces[&i.name].netdev)));
    let name = bonds::choose(bridge.members.get(&port.name).map(String::as_str), members)?;
    Some((name, bridge.ifaces[name].ofport))
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
            && (config.bridges.get(name)).is_some_and(|c| c.ports.iter().any(|p| stale(bridge, p)))
    })
}

fn configure_iface(
    ofprotos: &mut Ofprotos,
    bridge: &str,
    there: &mut Iface,
    config: &InterfaceConfig,
) {
    if let Some(mtu) = config.mtu_request {
        set_mtu(&*there.netdev, mtu);
    }
    if let Some(mac) = config.mac {
        if there.ofport == OfPort::LOCAL {
            vlog::err!(
                BRIDGE,
                "interface {}: ignoring mac in Interface record (use Bridge record to set local port's mac)",
                config.name
            );
        } else if config.kind == "internal" {
            set_mac(bridge, &there.netdev, mac);
        }
    }
    let Some(ofproto) = ofprotos.ofproto_mut(bridge) else {
        return;
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
}

fn set_mac(bridge: &str, netdev: &Arc<dyn Netdev>, mac: MacAddr) {
    let name = netdev.name();
    if mac.is_multicast() || mac.is_zero() {
        let what = if mac.is_zero() {
            "all zero"
        } else {
            "multicast"
        };
        vlog::err!(BRIDGE, "interface {name}: cannot set MAC to {what} address");
    } else if netdev.etheraddr().is_ok_and(|m| m != mac)
        && let Err(e) = netdev.set_etheraddr(mac)
    {
        let text = text::errno(&e);
        vlog::err!(
            BRIDGE,
            "bridge {bridge}: interface {name}: setting MAC failed ({text})"
        );
    }
}

fn bridge_mac(bridge: &Bridge, config: &BridgeConfig) -> MacAddr {
    // A port's address is the one that its row gives it, else that of its first interface. The local
    // port has none of its own: it is the one that is chosen.
    let candidates = config.ports.iter().filter_map(|port| {
        if let Some(mac) = port.mac {
            let virtual_device = false;
            return Some(Candidate {
                mac,
                virtual_device,
            });
        }
        let i = port
            .interfaces
            .iter()
            .find_map(|i| bridge.ifaces.get(&i.name))?;
        Some(Candidate {
            mac: i.netdev.etheraddr().ok()?,
            virtual_device: i.kind == "internal"
                || matches!(i.netdev.class(), PortClass::Tunnel(_)),
        })
    });
    identity::bridge_mac(config, candidates)
}

/// Takes every bridge down, and with [`Detach::Delete`] the datapaths too.
pub(crate) fn remove_all(ofprotos: &mut Ofprotos, bridges: &mut Bridges, detach: Detach) {
    for (name, bridge) in std::mem::take(bridges) {
        for (iface, i) in &bridge.ifaces {
            vlog::info!(
                BRIDGE,
                "bridge {name}: deleted interface {iface} on port {}",
                i.ofport.0
            );
        }
        ofprotos.destroy(&name, detach);
    }
}
