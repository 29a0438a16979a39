//! What has to go and what has to come, from what is wanted and what is there.
//!
//! The order is Open vSwitch's: first everything that goes, so that names and port numbers are free;
//! then bridges; then ports, and of those first the ones that ask for a number, so that nobody else
//! takes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ferrovs_packet::types::OfPort;

use crate::config::{Config, InterfaceConfig};

/// The bridges that exist, by name.
pub type Present = BTreeMap<String, PresentBridge>;

/// A bridge that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentBridge {
    /// Its datapath's type.
    pub kind: String,
    /// Its interfaces by name.
    pub ifaces: BTreeMap<String, PresentIface>,
}

/// An interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentIface {
    /// Type, as the database calls it.
    pub kind: String,
    pub ofport: OfPort,
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

/// The steps from `present` to `config`; `kind_of` says which type of datapath a bridge gets whose
/// row names one, or none.
pub fn plan(config: &Config, present: &Present, kind_of: impl Fn(&str) -> String) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut staying: BTreeSet<&str> = BTreeSet::new();
    for (name, there) in present {
        let wanted = config.bridges.get(name);
        if wanted.is_some_and(|b| kind_of(&b.datapath_type) == there.kind) {
            staying.insert(name);
            continue;
        }
        for iface in there.ifaces.keys() {
            steps.push(Step::RemovePort {
                bridge: name.clone(),
                iface: iface.clone(),
            });
        }
        steps.push(Step::RemoveBridge { name: name.clone() });
    }
    let mut kept: BTreeSet<(&str, &str)> = BTreeSet::new();
    for &name in &staying {
        let wanted: HashMap<&str, &InterfaceConfig> = config.bridges[name]
            .interfaces()
            .map(|i| (i.name.as_str(), i))
            .collect();
        for (iface, there) in &present[name].ifaces {
            let config = wanted.get(iface.as_str());
            let stays = config.is_some_and(|c| {
                let number = c
                    .ofport_request
                    .is_none_or(|n| there.ofport == OfPort::LOCAL || there.ofport == OfPort(n));
                c.kind == there.kind && number
            });
            if stays {
                kept.insert((name, iface));
            } else {
                steps.push(Step::RemovePort {
                    bridge: name.to_string(),
                    iface: iface.clone(),
                });
            }
        }
    }
    for (name, bridge) in &config.bridges {
        if !staying.contains(name.as_str()) {
            let kind = kind_of(&bridge.datapath_type);
            steps.push(Step::AddBridge {
                name: name.clone(),
                kind,
            });
        }
    }
    for (name, bridge) in &config.bridges {
        let ifaces = || {
            bridge
                .interfaces()
                .filter(|i| !kept.contains(&(name.as_str(), i.name.as_str())))
        };
        // The local port first: the bridge's own device is what everything else leans on.
        let class = |i: &InterfaceConfig| {
            if i.name == *name {
                0
            } else if i.wanted_ofport().is_some() {
                1
            } else {
                2
            }
        };
        let n_ports = bridge.interfaces().count();
        let mut order: Vec<_> = ifaces().collect();
        order.sort_by_key(|i| {
            (
                class(i),
                ferrovs_ofproto::port_order::place(&i.name, n_ports),
            )
        });
        for i in order {
            steps.push(Step::AddPort {
                bridge: name.clone(),
                iface: i.name.clone(),
                kind: i.kind.clone(),
                wanted: i.wanted_ofport(),
            });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BridgeConfig, InterfaceConfig, PortConfig};
    use ferrovs_idl::Uuid;

    fn bridge(name: &str, kind: &str, ifaces: &[(&str, Option<u16>)]) -> BridgeConfig {
        let port = |&(name, ofport_request): &(&str, Option<u16>)| PortConfig {
            name: name.to_string(),
            interfaces: vec![InterfaceConfig {
                name: name.to_string(),
                ofport_request,
                ..InterfaceConfig::default()
            }],
            ..PortConfig::default()
        };
        BridgeConfig {
            uuid: Uuid::nil(),
            name: name.to_string(),
            datapath_type: kind.to_string(),
            secure: false,
            protocols: Vec::new(),
            flood_vlans: Vec::new(),
            other_config: BTreeMap::new(),
            ports: ifaces.iter().map(port).collect(),
            controllers: Vec::new(),
            mirrors: Vec::new(),
            flow_tables: BTreeMap::new(),
        }
    }

    fn config(bridges: Vec<BridgeConfig>) -> Config {
        let bridges = bridges.into_iter().map(|b| (b.name.clone(), b)).collect();
        Config {
            bridges,
            ..Config::default()
        }
    }

    /// What is there after `steps`, when every step succeeds.
    fn after(mut present: Present, steps: &[Step]) -> Present {
        let mut next = 100;
        for step in steps {
            match step.clone() {
                Step::RemovePort { bridge, iface } => {
                    present
                        .get_mut(&bridge)
                        .unwrap()
                        .ifaces
                        .remove(&iface)
                        .unwrap();
                }
                Step::RemoveBridge { name } => {
                    assert!(present.remove(&name).unwrap().ifaces.is_empty());
                }
                Step::AddBridge { name, kind } => {
                    let made = PresentBridge {
                        kind,
                        ..PresentBridge::default()
                    };
                    assert!(present.insert(name, made).is_none());
                }
                Step::AddPort {
                    bridge,
                    iface,
                    kind,
                    wanted,
                } => {
                    next += 1;
                    let ofport = if iface == bridge {
                        OfPort::LOCAL
                    } else {
                        OfPort(wanted.unwrap_or(next))
                    };
                    let made = PresentIface { kind, ofport };
                    let ifaces = &mut present.get_mut(&bridge).unwrap().ifaces;
                    assert!(ifaces.insert(iface, made).is_none());
                }
            }
        }
        present
    }

    #[test]
    fn steps_lead_to_what_is_wanted_and_then_there_are_none_left() {
        let a = config(vec![
            bridge(
                "br0",
                "netdev",
                &[("br0", None), ("p1", None), ("p2", Some(7))],
            ),
            bridge("br1", "netdev", &[("br1", None), ("p3", None)]),
        ]);
        let b = config(vec![
            bridge(
                "br0",
                "netdev",
                &[("br0", None), ("p3", None), ("p2", Some(8))],
            ),
            bridge("br1", "dummy", &[("br1", None), ("p1", Some(7))]),
            bridge("br2", "netdev", &[("br2", None)]),
        ]);
        let kind_of = |k: &str| k.to_string();
        let mut present = Present::new();
        for wanted in [&a, &b, &a, &config(vec![])] {
            present = after(present.clone(), &plan(wanted, &present, kind_of));
            assert_eq!(plan(wanted, &present, kind_of), []);
            assert_eq!(present.len(), wanted.bridges.len());
        }
    }

    #[test]
    fn ports_that_ask_for_a_number_come_before_those_that_take_any() {
        let c = config(vec![bridge(
            "br0",
            "",
            &[("a", None), ("b", Some(1)), ("br0", None)],
        )]);
        let order: Vec<_> = plan(&c, &Present::new(), |_| "netdev".to_string())
            .into_iter()
            .filter_map(|s| match s {
                Step::AddPort { iface, .. } => Some(iface),
                _ => None,
            })
            .collect();
        assert_eq!(order, ["br0", "b", "a"]);
    }
}
