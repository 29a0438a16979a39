//! Carries out the steps of a plan, then applies every setting.
//!
//! A step that fails is told in the log and, for an interface, in its row; the rest goes on. What
//! failed is tried again at the next change of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ferrovs_datapath::dpif::Detach;
use ferrovs_idl::Uuid;
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::{text, vlog};

use crate::bridges::{Bridges, Iface};
use crate::closing::Closing;
use crate::config::{Config, InterfaceConfig};
use crate::configure;
use crate::plan::{Present, Step};
use crate::scope::Scope;

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

/// Interfaces whose ports were taken away by others: bridge, interface, port.
pub(crate) fn lost(ofprotos: &Ofprotos, bridges: &Bridges) -> Vec<(String, String, OfPort)> {
    let mut lost = Vec::new();
    for (name, bridge) in bridges.iter() {
        // Nobody else adds ports: as long as there are as many, they are the same.
        if let Some(ofproto) = ofprotos.ofproto(name)
            && ofproto.ports.len() != bridge.ifaces().len()
        {
            let gone = bridge
                .ifaces()
                .filter(|(_, i)| !ofproto.ports.contains_key(&i.ofport));
            lost.extend(gone.map(|(iface, i)| (name.clone(), iface.clone(), i.ofport)));
        }
    }
    lost
}

/// Forgets interfaces whose ports were taken away by others, so that they are added anew.
pub(crate) fn forget_lost(
    ofprotos: &Ofprotos,
    bridges: &mut Bridges,
    config: &Config,
    scope: &mut Scope,
) {
    for (bridge, iface, ofport) in lost(ofprotos, bridges) {
        let number = ofport.0;
        vlog::info!(
            BRIDGE,
            "bridge {bridge}: deleted interface {iface} on port {number}"
        );
        bridges.remove_iface(&bridge, &iface);
        scope.look_at(config, &bridge, &iface);
    }
}

/// Carries out `steps`, then makes every setting in `scope` what `config` says. An interface whose device goes must
/// wait until that is closed, unless `closing` has no patience any more.
pub(crate) fn apply(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    config: &Config,
    scope: &mut Scope,
    steps: Vec<Step>,
    closing: &Closing,
    now: Instant,
) -> Outcome {
    let mut errors: BTreeMap<String, String> = BTreeMap::new();
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
        if let Step::RemovePort { bridge, iface } | Step::AddPort { bridge, iface, .. } = &step {
            // It may have to go for the sake of another.
            scope.look_at(config, bridge, iface);
        }
        match step {
            Step::RemovePort { bridge, iface } => {
                if configure::remove_port(ofprotos, bridges, &bridge, &iface) == Some("tap") {
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
                let Some(wanted) = config.iface(&bridge, &iface) else {
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
    for name in scope.names(config.bridges.keys()) {
        if let Some(wanted) = config.bridges.get(name) {
            configure::bridge(ofprotos, bridges, wanted, scope, &mut errors, now);
        }
    }
    Outcome {
        closing: busy,
        gone,
        ..outcome(bridges, config, scope, errors)
    }
}

fn outcome(
    bridges: &Bridges,
    config: &Config,
    scope: &Scope,
    mut errors: BTreeMap<String, String>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut tell = |bridge: &str, iface: &InterfaceConfig| {
        let Some(uuid) = iface.uuid else { return };
        if let Some(i) = bridges.get(bridge).and_then(|b| b.iface(&iface.name)) {
            let lacks = bridges.lacking_peer(bridge, &iface.name);
            outcome.works.push((uuid, i.ofport, lacks));
        } else if let Some(e) = errors.remove(&iface.name) {
            outcome.errors.push((uuid, e));
        }
    };
    for name in scope.names(config.bridges.keys()) {
        let Some(wanted) = config.bridges.get(name) else {
            continue;
        };
        for port in configure::ports_of(wanted, scope) {
            port.interfaces.iter().for_each(|i| tell(name, i));
        }
    }
    // Who names as its peer what came, went or changed may lack it now, or no more.
    for (name, part) in scope.bridges.iter().filter(|_| !scope.all) {
        let ifaces = part.ifaces.iter().map(String::as_str);
        let wanted = config.bridges.get(name).filter(|_| part.whole);
        let whole = wanted
            .into_iter()
            .flat_map(|b| b.interfaces())
            .map(|i| i.name.as_str());
        for (bridge, patch) in ifaces.chain(whole).flat_map(|i| bridges.patches_to(i)) {
            if let Some(iface) = config.iface(bridge, patch) {
                tell(bridge, iface);
            }
        }
    }
    outcome
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
        Ok(()) => bridges.insert(name, kind),
        Err(e) => vlog::err!(BRIDGE, "failed to create bridge {name}: {e}"),
    }
}

/// None if the bridge does not exist: then its ports are not tried, and their rows stay as they are.
fn add_port(
    ofprotos: &mut Ofprotos,
    bridges: &mut Bridges,
    bridge: &str,
    config: &InterfaceConfig,
) -> Option<Result<(), String>> {
    let name = &config.name;
    let open_kind = ofprotos.port_open_kind(bridges.kind(bridge)?, &config.kind);
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
        configure::set_mtu(&*netdev, mtu);
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
    let iface = Iface::new(&config.kind, ofport, netdev, &config.options);
    bridges.insert_iface(bridge, name, iface);
    Some(Ok(()))
}

/// Takes every bridge down, and with [`Detach::Delete`] the datapaths too.
pub(crate) fn remove_all(ofprotos: &mut Ofprotos, bridges: &mut Bridges, detach: Detach) {
    for (name, bridge) in std::mem::take(bridges).iter() {
        for (iface, i) in bridge.ifaces() {
            vlog::info!(
                BRIDGE,
                "bridge {name}: deleted interface {iface} on port {}",
                i.ofport.0
            );
        }
        ofprotos.destroy(name, detach);
    }
}
