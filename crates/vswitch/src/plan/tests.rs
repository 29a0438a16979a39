use super::*;
use crate::config::{BridgeConfig, InterfaceConfig, Place, PortConfig};
use ferrovs_idl::Uuid;

/// What is there, in a world where every step succeeds but for those that must not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct World {
    bridges: BTreeMap<String, There>,
    /// Interfaces that cannot be added.
    pub refused: BTreeSet<String>,
    last: u16,
}

/// The kind of a bridge, and the kind and number of each interface.
#[derive(Clone, Debug, Default, PartialEq)]
struct There {
    kind: String,
    ifaces: BTreeMap<String, (String, OfPort)>,
}

impl Present for World {
    fn bridges(&self) -> impl Iterator<Item = &String> {
        self.bridges.keys()
    }

    fn kind(&self, bridge: &str) -> Option<&str> {
        Some(&self.bridges.get(bridge)?.kind)
    }

    fn ifaces(&self, bridge: &str) -> impl Iterator<Item = &String> {
        self.bridges
            .get(bridge)
            .into_iter()
            .flat_map(|b| b.ifaces.keys())
    }

    fn iface(&self, bridge: &str, iface: &str) -> Option<(&str, OfPort)> {
        let (kind, ofport) = self.bridges.get(bridge)?.ifaces.get(iface)?;
        Some((kind, *ofport))
    }

    fn holder(&self, bridge: &str, number: OfPort) -> Option<&str> {
        let mut ifaces = self.bridges.get(bridge)?.ifaces.iter();
        ifaces
            .find(|(_, i)| i.1 == number)
            .map(|(name, _)| name.as_str())
    }
}

impl World {
    pub fn carry_out(&mut self, steps: &[Step]) {
        for step in steps {
            match step.clone() {
                Step::RemovePort { bridge, iface } => {
                    let bridge = self.bridges.get_mut(&bridge).unwrap();
                    bridge.ifaces.remove(&iface).unwrap();
                }
                Step::RemoveBridge { name } => {
                    assert!(self.bridges.remove(&name).unwrap().ifaces.is_empty());
                }
                Step::AddBridge { name, kind } => {
                    if self.refused.contains(&name) {
                        continue;
                    }
                    let made = There {
                        kind,
                        ..There::default()
                    };
                    assert!(self.bridges.insert(name, made).is_none());
                }
                Step::AddPort {
                    bridge,
                    iface,
                    kind,
                    wanted,
                } => self.add(&bridge, iface, kind, wanted),
            }
        }
    }

    fn add(&mut self, bridge: &str, iface: String, kind: String, wanted: Option<u16>) {
        if self.refused.contains(&iface) || !self.bridges.contains_key(bridge) {
            return;
        }
        let is_free = |n: u16| self.holder(bridge, OfPort(n)).is_none();
        let ofport = match wanted.filter(|n| is_free(*n)) {
            _ if iface == bridge => OfPort::LOCAL,
            Some(n) => OfPort(n),
            None => {
                self.last = (1..).map(|i| self.last + i).find(|n| is_free(*n)).unwrap();
                OfPort(self.last)
            }
        };
        let ifaces = &mut self.bridges.get_mut(bridge).unwrap().ifaces;
        assert!(ifaces.insert(iface, (kind, ofport)).is_none());
    }

    /// Interfaces of `config` that are not there although their bridge is.
    pub fn broken(&self, config: &Config) -> Vec<String> {
        let missing = |(name, place): &(&String, &Place)| {
            self.kind(&place.bridge).is_some() && self.iface(&place.bridge, name).is_none()
        };
        let mut all: Vec<_> = config.places.iter().filter(missing).collect();
        all.sort();
        all.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Interfaces that ask for another number than theirs, with their bridges.
    pub fn unmet(&self, config: &Config) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (bridge, there) in &self.bridges {
            for (name, (_, ofport)) in &there.ifaces {
                let asks = config.iface(bridge, name).and_then(|i| i.ofport_request);
                if asks.is_some_and(|n| OfPort(n) != *ofport) && *ofport != OfPort::LOCAL {
                    all.push((bridge.clone(), name.clone()));
                }
            }
        }
        all
    }

    /// The number of an interface.
    pub fn number(&self, iface: &str) -> Option<u16> {
        let mut all = self.bridges.values();
        all.find_map(|b| b.ifaces.get(iface)).map(|i| i.1.0)
    }
}

fn bridge(name: &str, kind: &str, ifaces: &[(&str, Option<u16>)]) -> BridgeConfig {
    let port = |&(name, ofport_request): &(&str, Option<u16>)| {
        let port = PortConfig {
            name: name.to_string(),
            interfaces: vec![InterfaceConfig {
                name: name.to_string(),
                ofport_request,
                ..InterfaceConfig::default()
            }],
            ..PortConfig::default()
        };
        (name.to_string(), port)
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
    let mut config = Config::default();
    for b in bridges {
        for port in b.ports.values() {
            let place = Place {
                bridge: b.name.clone(),
                port: port.name.clone(),
            };
            config.places.insert(port.name.clone(), place);
        }
        config.bridges.insert(b.name.clone(), b);
    }
    config
}

fn whole(config: &Config, world: &World) -> Vec<Step> {
    plan(config, world, &Scope::all(), |k| k.to_string())
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
    let mut world = World::default();
    for wanted in [&a, &b, &a, &config(vec![])] {
        world.carry_out(&whole(wanted, &world));
        assert_eq!(whole(wanted, &world), []);
        assert_eq!(world.bridges.len(), wanted.bridges.len());
    }
}

#[test]
fn ports_that_ask_for_a_number_come_before_those_that_take_any() {
    let c = config(vec![bridge(
        "br0",
        "",
        &[("a", None), ("b", Some(1)), ("br0", None)],
    )]);
    let order: Vec<_> = plan(&c, &World::default(), &Scope::all(), |_| {
        "netdev".to_string()
    })
    .into_iter()
    .filter_map(|s| match s {
        Step::AddPort { iface, .. } => Some(iface),
        _ => None,
    })
    .collect();
    assert_eq!(order, ["br0", "b", "a"]);
}

fn present(ifaces: &[(&str, &str, u16)]) -> World {
    let iface = |&(name, kind, ofport): &(&str, &str, u16)| {
        (name.to_string(), (kind.to_string(), OfPort(ofport)))
    };
    let bridge = There {
        kind: "netdev".to_string(),
        ifaces: ifaces.iter().map(iface).collect(),
    };
    World {
        bridges: BTreeMap::from([("br0".to_string(), bridge)]),
        ..World::default()
    }
}

/// The interfaces that go and those that come, with what they ask for.
fn moves(wanted: &[(&str, Option<u16>)], there: &[(&str, &str, u16)]) -> Vec<String> {
    let c = config(vec![bridge("br0", "netdev", wanted)]);
    let step = |s| match s {
        Step::RemovePort { iface, .. } => format!("-{iface}"),
        Step::AddPort { iface, wanted, .. } => format!("+{iface}{}", wanted.unwrap_or(0)),
        other => format!("{other:?}"),
    };
    whole(&c, &present(there)).into_iter().map(step).collect()
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
