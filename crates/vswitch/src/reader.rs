//! Reads the configuration out of the replica of the database, as much of it as changed.
//!
//! [`Reader::note`] goes through the rows that changed and marks what they concern; [`Reader::read`] reads that
//! anew. Where rows claim the same thing (an interface in two ports, a port twice in a bridge) it depends on all
//! of them who gets it, so then everything is read each time: such a database is not what `ovs-vsctl` makes.

use std::collections::{BTreeSet, HashMap};

use ferrovs_idl::open_vswitch as db;
use ferrovs_idl::{Change, Column, Datum, Idl, Row, Table, Uuid};
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::vlog::{self, RateLimit};

use crate::config::{BridgeConfig, Config, Place, PortConfig};
use crate::rows;
use crate::scope::Scope;

static RL: RateLimit = RateLimit::new(5, 1);

/// Which rows the configuration was read from; see the module's text.
#[derive(Default)]
pub(crate) struct Reader {
    bridges: HashMap<Uuid, Known>,
    bridge_names: HashMap<String, Uuid>,
    /// The bridge row of a port row.
    ports: HashMap<Uuid, Uuid>,
    /// The port row of an interface row.
    ifaces: HashMap<Uuid, Uuid>,
    /// Some rows claim the same thing, or lack something.
    irregular: bool,
}

/// A bridge row as it was last seen.
struct Known {
    name: String,
    ports: Datum,
    port_names: HashMap<Uuid, String>,
    port_rows: HashMap<String, Uuid>,
}

impl Reader {
    /// Adds what changed since changes were last cleared to `scope`.
    pub fn note(&mut self, idl: &Idl, scope: &mut Scope) {
        if self.irregular || self.bridges.is_empty() {
            scope.all |= idl.has_changes();
        }
        if scope.all {
            return;
        }
        for table in 0..idl.database().tables.len() {
            for (uuid, change) in idl.table_changes(table) {
                match table {
                    db::OpenVSwitch::INDEX => self.note_root(idl, change, scope),
                    db::Bridge::INDEX => self.note_bridge(idl, uuid, change, scope),
                    db::Port::INDEX => {
                        if is_told(idl, table, change, &[]) {
                            self.note_port(uuid, scope);
                        }
                    }
                    db::Interface::INDEX => self.note_iface(idl, uuid, change, scope),
                    db::Controller::INDEX
                    | db::Mirror::INDEX
                    | db::FlowTable::INDEX
                    | db::AutoAttach::INDEX => scope.settings |= is_told(idl, table, change, &[]),
                    _ => scope.all |= is_told(idl, table, change, &[]),
                }
                if scope.all {
                    return;
                }
            }
        }
    }

    fn note_root(&self, idl: &Idl, change: &Change, scope: &mut Scope) {
        type Root = db::OpenVSwitch;
        let apart = [at(Root::BRIDGES), at(Root::NEXT_CFG)];
        let Some(root) = idl.first::<Root>() else {
            scope.all = true;
            return;
        };
        if change.inserted || is_told(idl, Root::INDEX, change, &apart) {
            scope.all = true;
            return;
        }
        if !change.touches(Root::BRIDGES) {
            return;
        }
        let now: BTreeSet<Uuid> = root.bridges().iter().collect();
        for (uuid, bridge) in &self.bridges {
            if !now.contains(uuid) {
                scope.bridge(&bridge.name).whole = true;
            }
        }
        for uuid in now.iter().filter(|u| !self.bridges.contains_key(u)) {
            match idl.row::<db::Bridge>(*uuid) {
                Some(row) => scope.bridge(row.name()).whole = true,
                None => scope.all = true,
            }
        }
    }

    fn note_bridge(&mut self, idl: &Idl, uuid: Uuid, change: &Change, scope: &mut Scope) {
        type Bridge = db::Bridge;
        // Whether a bridge is there is the root's to say.
        let (Some(known), Some(row)) = (self.bridges.get_mut(&uuid), idl.row::<Bridge>(uuid))
        else {
            return;
        };
        scope.all |= row.name() != known.name;
        let part = scope.bridge(&known.name);
        part.whole |= change.touches(Bridge::DATAPATH_TYPE);
        part.settings |= is_told(idl, Bridge::INDEX, change, &[at(Bridge::PORTS)]);
        if !change.touches(Bridge::PORTS) || part.whole {
            return;
        }
        let (came, went) = difference(&known.ports, row.datum(Bridge::PORTS));
        known.ports = row.datum(Bridge::PORTS).clone();
        for port in went {
            remove_if(&mut self.ports, port, uuid);
            if let Some(name) = known.port_names.remove(&port) {
                known.port_rows.remove(&name);
                part.ports.insert(name);
            }
        }
        for port in came {
            let Some(row) = idl.row::<db::Port>(port) else {
                scope.all = true;
                return;
            };
            let name = row.name().to_string();
            part.ports.insert(name.clone());
            // It may have left another bridge, about which is to be heard yet.
            self.ports.insert(port, uuid);
            known.port_names.insert(port, name.clone());
            if known.port_rows.insert(name, port).is_some() {
                scope.all = true;
                return;
            }
        }
    }

    fn note_port(&self, uuid: Uuid, scope: &mut Scope) {
        let bridge = self.ports.get(&uuid).and_then(|u| self.bridges.get(u));
        if let Some(bridge) = bridge
            && let Some(name) = bridge.port_names.get(&uuid)
        {
            scope.port(&bridge.name, name);
        }
    }

    fn note_iface(&self, idl: &Idl, uuid: Uuid, change: &Change, scope: &mut Scope) {
        type Iface = db::Interface;
        // What the switch itself wrote there is asked for at the next start of the port, and made good.
        let own = change.touches(Iface::OFPORT) || change.touches(Iface::ERROR);
        if !own && !is_told(idl, Iface::INDEX, change, &[]) {
            return;
        }
        if let Some(port) = self.ifaces.get(&uuid) {
            self.note_port(*port, scope);
        }
    }

    /// Reads what belongs to `scope`, and adds to it the interfaces of its ports. It becomes everything if it
    /// takes everything to find out.
    pub fn read(&mut self, idl: &Idl, config: &mut Config, scope: &mut Scope) {
        if !scope.all && self.read_part(idl, config, scope).is_none() {
            scope.all = true;
        }
        if scope.all {
            *config = self.read_all(idl);
        }
    }

    fn read_all(&mut self, idl: &Idl) -> Config {
        *self = Reader::default();
        let Some(root) = idl.first::<db::OpenVSwitch>() else {
            return Config::default();
        };
        let mut config = rows::read_root(idl, root);
        for uuid in root.bridges().iter() {
            let Some(row) = idl.row::<db::Bridge>(uuid) else {
                continue;
            };
            let name = row.name();
            if name.contains('/') || name.is_empty() {
                // A name with a slash would let the bridge's sockets escape from the run directory.
                vlog::warn_rl!(RL, BRIDGE, "ignoring bridge with invalid name \"{name}\"");
                self.irregular = true;
            } else if config.bridges.contains_key(name) {
                vlog::warn_rl!(RL, BRIDGE, "bridge {name} specified twice");
                self.irregular = true;
            } else {
                self.read_bridge(idl, row, &mut config, true);
            }
        }
        config
    }

    /// None if this part of the rows is not enough.
    fn read_part(&mut self, idl: &Idl, config: &mut Config, scope: &mut Scope) -> Option<()> {
        let settings: Vec<String> = match scope.settings {
            true => config.bridges.keys().cloned().collect(),
            false => Vec::new(),
        };
        for name in settings {
            scope.bridge(&name).settings = true;
        }
        // First all that goes, so that what moved can be taken up elsewhere.
        for (name, part) in &mut scope.bridges {
            if part.whole {
                part.ifaces.extend(self.forget_bridge(name, config));
            } else if let Some(bridge) = config.bridges.get_mut(name) {
                for port in &part.ports {
                    let Some(old) = bridge.ports.remove(port) else {
                        continue;
                    };
                    for iface in old.interfaces {
                        self.forget_iface(iface.uuid, old.uuid);
                        config.places.remove(&iface.name);
                        part.ifaces.insert(iface.name);
                    }
                }
            }
        }
        let root = idl.first::<db::OpenVSwitch>()?;
        if scope.bridges.values().any(|part| part.whole) {
            for uuid in root.bridges().iter() {
                if self.bridges.contains_key(&uuid) {
                    continue;
                }
                let row = idl.row::<db::Bridge>(uuid)?;
                if config.bridges.contains_key(row.name()) || row.name().contains('/') {
                    return None;
                }
                self.read_bridge(idl, row, config, false);
            }
        }
        for (name, part) in scope.bridges.iter_mut().filter(|(_, part)| !part.whole) {
            let Some(&uuid) = self.bridge_names.get(name) else {
                continue;
            };
            let row = idl.row::<db::Bridge>(uuid)?;
            if part.settings {
                let bridge = config.bridges.get_mut(name)?;
                let ports = std::mem::take(&mut bridge.ports);
                *bridge = BridgeConfig {
                    ports,
                    ..rows::read_bridge(idl, row)
                };
            }
            for port in &part.ports {
                let Some(&port) = self.bridges.get(&uuid)?.port_rows.get(port) else {
                    continue;
                };
                let row = idl.row::<db::Port>(port)?;
                let port = self.read_port(idl, name, row, &mut config.places, false);
                part.ifaces
                    .extend(port.interfaces.iter().map(|i| i.name.clone()));
                let bridge = config.bridges.get_mut(name)?;
                bridge.ports.insert(port.name.clone(), port);
            }
            self.irregular |= !config.bridges.get(name)?.ports.contains_key(name);
        }
        (!self.irregular).then_some(())
    }

    /// Returns the interfaces that it had.
    fn forget_bridge(&mut self, name: &str, config: &mut Config) -> Vec<String> {
        if let Some(uuid) = self.bridge_names.remove(name)
            && let Some(known) = self.bridges.remove(&uuid)
        {
            for &port in known.port_names.keys() {
                remove_if(&mut self.ports, port, uuid);
            }
        }
        let mut had = Vec::new();
        let bridge = config.bridges.remove(name);
        for port in bridge.into_iter().flat_map(|b| b.ports.into_values()) {
            for iface in port.interfaces {
                self.forget_iface(iface.uuid, port.uuid);
                config.places.remove(&iface.name);
                had.push(iface.name);
            }
        }
        had
    }

    fn forget_iface(&mut self, iface: Option<Uuid>, port: Uuid) {
        if let Some(iface) = iface {
            remove_if(&mut self.ifaces, iface, port);
        }
    }

    /// `tell`: say what is wrong.
    fn read_bridge(
        &mut self,
        idl: &Idl,
        row: Row<'_, db::Bridge>,
        config: &mut Config,
        tell: bool,
    ) {
        let name = row.name();
        let mut bridge = rows::read_bridge(idl, row);
        let mut known = Known {
            name: name.to_string(),
            ports: row.datum(db::Bridge::PORTS).clone(),
            port_names: HashMap::new(),
            port_rows: HashMap::new(),
        };
        let mut rows: Vec<Row<'_, db::Port>> = row
            .ports()
            .iter()
            .filter_map(|u| idl.row::<db::Port>(u))
            .collect();
        self.irregular |= rows.len() != row.ports().len();
        rows.sort_by(|a, b| a.name().cmp(b.name()));
        for port_row in rows {
            let port_name = port_row.name();
            if bridge.ports.contains_key(port_name) {
                self.irregular = true;
                if tell {
                    vlog::warn_rl!(
                        RL,
                        BRIDGE,
                        "bridge {name}: {port_name} specified twice as bridge port"
                    );
                }
                continue;
            }
            let (uuid, text) = (port_row.uuid(), port_name.to_string());
            self.irregular |= self.ports.insert(uuid, row.uuid()).is_some();
            known.port_names.insert(uuid, text.clone());
            known.port_rows.insert(text, uuid);
            let port = self.read_port(idl, name, port_row, &mut config.places, tell);
            bridge.ports.insert(port.name.clone(), port);
        }
        if !bridge.ports.contains_key(name) {
            self.irregular = true;
            if !config.places.contains_key(name) {
                config.places.insert(name.to_string(), place(name, name));
                bridge
                    .ports
                    .insert(name.to_string(), rows::local_port(name));
            }
        }
        self.bridge_names.insert(name.to_string(), row.uuid());
        self.bridges.insert(row.uuid(), known);
        config.bridges.insert(name.to_string(), bridge);
    }

    fn read_port(
        &mut self,
        idl: &Idl,
        bridge: &str,
        row: Row<'_, db::Port>,
        places: &mut HashMap<String, Place>,
        tell: bool,
    ) -> PortConfig {
        let mut port = rows::read_port(row);
        let mut rows: Vec<Row<'_, db::Interface>> = row
            .interfaces()
            .iter()
            .filter_map(|u| idl.row::<db::Interface>(u))
            .collect();
        self.irregular |= rows.len() != row.interfaces().len();
        rows.sort_by(|a, b| a.name().cmp(b.name()));
        for iface in rows {
            let name = iface.name();
            if places.contains_key(name) {
                self.irregular = true;
                if tell {
                    vlog::warn_rl!(
                        RL,
                        BRIDGE,
                        "bridge {bridge}: interface {name} is already in use, ignoring it in port {}",
                        port.name
                    );
                }
                continue;
            }
            places.insert(name.to_string(), place(bridge, &port.name));
            self.ifaces.insert(iface.uuid(), row.uuid());
            port.interfaces.push(rows::read_interface(bridge, iface));
        }
        port
    }
}

/// Removes a key if it has this value.
fn remove_if(map: &mut HashMap<Uuid, Uuid>, key: Uuid, value: Uuid) {
    if map.get(&key) == Some(&value) {
        map.remove(&key);
    }
}

fn place(bridge: &str, port: &str) -> Place {
    Place {
        bridge: bridge.to_string(),
        port: port.to_string(),
    }
}

/// The position of a column.
fn at<T: Table, K>(column: Column<T, K>) -> usize {
    column.index()
}

/// Whether a change touches a column that others write, those in `apart` aside.
fn is_told(idl: &Idl, table: usize, change: &Change, apart: &[usize]) -> bool {
    idl.told(table, change)
        .any(|column| !apart.contains(&column))
}

/// The members that came and those that went between two sets of references.
fn difference(old: &Datum, new: &Datum) -> (Vec<Uuid>, Vec<Uuid>) {
    let rest = |a: &Datum, b: &Datum| {
        let rest = a.subtract(b);
        rest.atoms().iter().filter_map(|a| a.as_uuid()).collect()
    };
    (rest(new, old), rest(old, new))
}

#[cfg(test)]
mod tests;
