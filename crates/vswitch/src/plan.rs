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
        let there = &present[name].ifaces;
        let moving = moving(&wanted, there);
        for (iface, there) in there {
            let config = wanted.get(iface.as_str());
            if config.is_some_and(|c| c.kind == there.kind) && !moving.contains(iface.as_str()) {
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

/// Interfaces that have to go for the sake of port numbers, and come back with others: those that ask
/// for a number which is not theirs, and those that hold such a number by chance. Of several that ask
/// for one number, the one that holds it keeps it, and the others keep what they have.
fn moving<'a>(
    wanted: &HashMap<&str, &InterfaceConfig>,
    there: &'a BTreeMap<String, PresentIface>,
) -> BTreeSet<&'a str> {
    let holders: HashMap<OfPort, &str> = there
        .iter()
        .map(|(name, i)| (i.ofport, name.as_str()))
        .collect();
    let request = |name: &str| wanted.get(name)?.ofport_request.map(OfPort);
    let mut moving = BTreeSet::new();
    for (name, iface) in there {
        let Some(number) = request(name) else {
            continue;
        };
        if iface.ofport == number || iface.ofport == OfPort::LOCAL {
            continue;
        }
        match holders.get(&number) {
            Some(holder) if request(holder) == Some(number) => {}
            holder => {
                moving.insert(name.as_str());
                moving.extend(holder);
            }
        }
    }
    moving
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
            auto_attach: None,
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

    fn present(ifaces: &[(&str, &str, u16)]) -> Present {
        let iface = |&(name, kind, ofport): &(&str, &str, u16)| {
            let kind = kind.to_string();
            (
                name.to_string(),
                PresentIface {
                    kind,
                    ofport: OfPort(ofport),
                },
            )
        };
        let bridge = PresentBridge {
            kind: "netdev".to_string(),
            ifaces: ifaces.iter().map(iface).collect(),
        };
        Present::from([("br0".to_string(), bridge)])
    }

    /// The interfaces that go and those that come, with what they ask for.
    fn moves(wanted: &[(&str, Option<u16>)], there: &[(&str, &str, u16)]) -> Vec<String> {
        let c = config(vec![bridge("br0", "netdev", wanted)]);
        let step = |s| match s {
            Step::RemovePort { iface, .. } => format!("-{iface}"),
            Step::AddPort { iface, wanted, .. } => format!("+{iface}{}", wanted.unwrap_or(0)),
            other => format!("{other:?}"),
        };
        plan(&c, &present(there), |k| k.to_string())
            .into_iter()
            .map(step)
            .collect()
    }

    #[test]
    fn of_ports_that_ask_for_one_number_the_holder_keeps_it_and_the_others_what_they_have() {
        let there = [("p1", "", 1), ("p2", "", 2)];
        for request in [1, 2] {
            assert!(moves(&[("p1", Some(request)), ("p2", Some(request))], &there).is_empty());
        }
        // Nobody holds it: whoever comes first gets it.
        let both = [("p1", Some(7)), ("p2", Some(7))];
        let mut steps = moves(&both, &there);
        steps.sort();
        assert_eq!(steps, ["+p17", "+p27", "-p1", "-p2"]);
    }

    #[test]
    fn who_holds_a_number_by_chance_gives_it_to_who_asks_for_it() {
        let there = [("p1", "", 1), ("p2", "", 2)];
        assert_eq!(
            moves(&[("p1", None), ("p2", Some(1))], &there),
            ["-p1", "-p2", "+p21", "+p10"]
        );
        let mut steps = moves(&[("p1", Some(2)), ("p2", Some(1))], &there);
        steps.sort();
        assert_eq!(steps, ["+p12", "+p21", "-p1", "-p2"]);
        assert_eq!(
            moves(&[("p1", Some(9)), ("p2", None)], &there),
            ["-p1", "+p19"]
        );
    }

    #[test]
    fn a_type_that_changes_takes_the_port_away_before_it_comes_again() {
        let there = [("p1", "dummy", 1), ("p2", "", 2)];
        assert_eq!(
            moves(&[("p1", None), ("p2", None)], &there),
            ["-p1", "+p10"]
        );
    }
}
