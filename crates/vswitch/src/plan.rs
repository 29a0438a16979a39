//! What has to go and what has to come, from what is wanted and what is there.
//!
//! The order is Open vSwitch's: first everything that goes, so that names and port numbers are free;
//! then bridges; then ports, and of those first the ones that ask for a number, so that nobody else
//! takes it.

use std::collections::{BTreeMap, BTreeSet};

use ferrovs_packet::types::OfPort;

use crate::config::{BridgeConfig, Config, InterfaceConfig};
use crate::scope::Scope;

/// What is there.
pub trait Present {
    /// The bridges.
    fn bridges(&self) -> impl Iterator<Item = &String>;

    /// The type of a bridge's datapath.
    fn kind(&self, bridge: &str) -> Option<&str>;

    /// The interfaces of a bridge, in order of name.
    fn ifaces(&self, bridge: &str) -> impl Iterator<Item = &String>;

    /// The type, as the database calls it, and the number of an interface.
    fn iface(&self, bridge: &str, iface: &str) -> Option<(&str, OfPort)>;

    /// The interface with a number.
    fn holder(&self, bridge: &str, number: OfPort) -> Option<&str>;
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    RemovePort {
        bridge: String,
        iface: String,
    },
    RemoveBridge {
        name: String,
    },
    AddBridge {
        name: String,
        kind: String,
    },
    AddPort {
        bridge: String,
        iface: String,
        kind: String,
        wanted: Option<u16>,
    },
}

/// The steps from `present` to `config`, as far as `scope` goes; `kind_of` says which type of datapath a bridge gets
/// whose row names one, or none.
pub fn plan(
    config: &Config,
    present: &impl Present,
    scope: &Scope,
    kind_of: impl Fn(&str) -> String,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut staying: BTreeMap<&str, Part<'_>> = BTreeMap::new();
    let names = scope.names(config.bridges.keys().chain(present.bridges()));
    for &name in &names {
        let Some(kind) = present.kind(name) else {
            continue;
        };
        match config.bridges.get(name) {
            Some(wanted) if kind_of(&wanted.datapath_type) == kind => {
                staying.insert(name, Part::new(config, wanted, present, scope));
            }
            _ => {
                let ifaces = present.ifaces(name);
                steps.extend(ifaces.map(|iface| Step::RemovePort {
                    bridge: name.to_string(),
                    iface: iface.clone(),
                }));
                steps.push(Step::RemoveBridge {
                    name: name.to_string(),
                });
            }
        }
    }
    for (name, part) in &staying {
        steps.extend(part.going.iter().map(|iface| Step::RemovePort {
            bridge: name.to_string(),
            iface: iface.to_string(),
        }));
    }
    let wanted = || names.iter().filter_map(|name| config.bridges.get(*name));
    for bridge in wanted().filter(|b| !staying.contains_key(b.name.as_str())) {
        steps.push(Step::AddBridge {
            name: bridge.name.clone(),
            kind: kind_of(&bridge.datapath_type),
        });
    }
    for bridge in wanted() {
        let coming = match staying.get(bridge.name.as_str()) {
            Some(part) => part.coming(config, bridge, present, scope),
            None => bridge.interfaces().collect(),
        };
        add_ports(bridge, coming, &mut steps);
    }
    steps
}

/// Ports that shall come, in the order in which they get their numbers.
fn add_ports(bridge: &BridgeConfig, mut coming: Vec<&InterfaceConfig>, steps: &mut Vec<Step>) {
    if coming.is_empty() {
        return;
    }
    // The local port first: the bridge's own device is what everything else leans on.
    let class = |i: &InterfaceConfig| {
        if i.name == bridge.name {
            0
        } else if i.wanted_ofport().is_some() {
            1
        } else {
            2
        }
    };
    if coming.len() > 1 {
        let n_ports = bridge.interfaces().count();
        let place = |i: &InterfaceConfig| ferrovs_ofproto::port_order::place(&i.name, n_ports);
        coming.sort_by_key(|i| (class(i), place(i)));
    }
    steps.extend(coming.into_iter().map(|i| Step::AddPort {
        bridge: bridge.name.clone(),
        iface: i.name.clone(),
        kind: i.kind.clone(),
        wanted: i.wanted_ofport(),
    }));
}

/// What happens to a bridge that stays.
struct Part<'a> {
    /// Interfaces that go, be it to come again.
    going: BTreeSet<&'a str>,
}

impl<'a> Part<'a> {
    fn new(
        config: &'a Config,
        bridge: &'a BridgeConfig,
        present: &'a impl Present,
        scope: &'a Scope,
    ) -> Part<'a> {
        let name = bridge.name.as_str();
        let looked_at: Vec<&str> = match scope.bridges.get(name) {
            _ if scope.is_whole(name) => present.ifaces(name).map(String::as_str).collect(),
            Some(part) => part.ifaces.iter().map(String::as_str).collect(),
            None => Vec::new(),
        };
        let mut going = moving(config, name, present, &looked_at);
        going.extend(looked_at.into_iter().filter(|iface| {
            let there = present.iface(name, iface).map(|(kind, _)| kind);
            let wanted = config.iface(name, iface).map(|i| i.kind.as_str());
            there.is_some() && there != wanted
        }));
        Part { going }
    }

    /// Interfaces that come, in the order of their ports.
    fn coming(
        &self,
        config: &'a Config,
        bridge: &'a BridgeConfig,
        present: &impl Present,
        scope: &Scope,
    ) -> Vec<&'a InterfaceConfig> {
        let name = bridge.name.as_str();
        let comes = |i: &&InterfaceConfig| {
            self.going.contains(i.name.as_str()) || present.iface(name, &i.name).is_none()
        };
        if scope.is_whole(name) {
            return bridge.interfaces().filter(comes).collect();
        }
        let part = scope.bridges.get(name);
        let mut ports: BTreeSet<&str> = BTreeSet::new();
        ports.extend(part.iter().flat_map(|p| &p.ports).map(String::as_str));
        let places = self.going.iter().filter_map(|i| config.places.get(*i));
        ports.extend(places.filter(|p| p.bridge == name).map(|p| p.port.as_str()));
        let ports = ports.into_iter().filter_map(|p| bridge.ports.get(p));
        ports.flat_map(|p| &p.interfaces).filter(comes).collect()
    }
}

/// Interfaces that have to go for the sake of port numbers, and come back with others: those that ask
/// for a number which is not theirs, and those that hold such a number by chance. Of several that ask
/// for one number, the one that holds it keeps it, and the others keep what they have.
fn moving<'a>(
    config: &Config,
    bridge: &str,
    present: &'a impl Present,
    looked_at: &[&'a str],
) -> BTreeSet<&'a str> {
    let request = |name: &str| config.iface(bridge, name)?.ofport_request.map(OfPort);
    let mut moving = BTreeSet::new();
    for &name in looked_at {
        let (Some(number), Some((_, ofport))) = (request(name), present.iface(bridge, name)) else {
            continue;
        };
        if ofport == number || ofport == OfPort::LOCAL {
            continue;
        }
        match present.holder(bridge, number) {
            Some(holder) if request(holder) == Some(number) => {}
            holder => {
                moving.insert(name);
                moving.extend(holder);
            }
        }
    }
    moving
}

/// Adds to `scope` what did not come out as it should the last time: interfaces that do not work or that have not the
/// number that they ask for (by bridge), and bridges that are not there.
pub fn retry<'a>(
    config: &Config,
    present: &impl Present,
    broken: impl Iterator<Item = &'a String>,
    unmet: impl Iterator<Item = (&'a String, &'a String)>,
    scope: &mut Scope,
) {
    for iface in broken {
        if let Some(place) = config.places.get(iface) {
            scope.iface(&place.bridge, &place.port, iface);
        }
    }
    for (bridge, iface) in unmet {
        scope.look_at(config, bridge, iface);
    }
    if present.bridges().count() != config.bridges.len() {
        for name in config.bridges.keys().filter(|b| present.kind(b).is_none()) {
            scope.bridge(name).whole = true;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
