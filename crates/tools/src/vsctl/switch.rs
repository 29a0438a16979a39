//! The bridges, ports and interfaces as ovs-vsctl speaks of them.
//!
//! The database knows bridges with ports with interfaces; users also know "fake bridges": a VLAN
//! of a bridge under a name of its own, kept as a port with `fake_bridge` set. The model is read
//! from the database (with the transaction's changes) when a command first asks, kept up by the
//! commands that change it, and forgotten when a generic command may have changed it. A row that
//! `destroy` deletes is of the model as long as others refer to it: the server keeps such rows. But
//! the transaction can change it no more, so [`find_bridge`] and [`find_port`] do not find it.

use super::{Cmd, Ctx, Inv};
use crate::dbctl::{Fail, Outcome, Prepare};
use ferrovs_idl::open_vswitch::{Bridge, Interface, OpenVSwitch, Port};
use ferrovs_idl::{Column, Datum, Row, Table, Txn, Uuid, View};
use ferrovs_ovsdb::Atom;
use ferrovs_runtime::vlog::{self, modules};
use std::collections::{BTreeMap, HashSet};

/// A bridge, real or fake.
#[derive(Clone, Debug)]
pub(crate) struct BridgeInfo {
    pub name: String,
    /// The row in Bridge: its own, or its parent's.
    pub row: Uuid,
    /// Of a fake bridge: parent, VLAN, and the row in Port.
    pub fake: Option<(String, i64, Uuid)>,
}

/// A port that is not the local port of a bridge.
#[derive(Clone, Debug)]
pub(crate) struct PortInfo {
    pub row: Uuid,
    /// The name of its bridge, fake if its VLAN is.
    pub bridge: String,
}

/// An interface of such a port.
#[derive(Clone, Debug)]
pub(crate) struct IfaceInfo {
    pub row: Uuid,
    pub port: String,
}

/// The model: see the module documentation.
pub(crate) struct Switch {
    pub root: Uuid,
    loaded: bool,
    pub bridges: BTreeMap<String, BridgeInfo>,
    pub ports: BTreeMap<String, PortInfo>,
    pub ifaces: BTreeMap<String, IfaceInfo>,
    new_interfaces: Vec<Uuid>,
}

impl Switch {
    pub fn new(root: Uuid) -> Switch {
        Switch {
            root,
            loaded: false,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            ifaces: BTreeMap::new(),
            new_interfaces: Vec::new(),
        }
    }

    pub fn forget(&mut self) {
        self.loaded = false;
    }

    /// The interfaces that were inserted, whose fate is looked at after ovs-vswitchd applied them.
    pub fn take_new_interfaces(&mut self) -> Vec<Uuid> {
        std::mem::take(&mut self.new_interfaces)
    }

    /// The fake bridges on a real one.
    pub fn children(&self, parent: &str) -> Vec<String> {
        let is_child = |b: &&BridgeInfo| b.fake.as_ref().is_some_and(|(p, ..)| p == parent);
        self.bridges
            .values()
            .filter(is_child)
            .map(|b| b.name.clone())
            .collect()
    }
}

/// Whether a change there changes the model.
pub(crate) fn is_model(table: usize, column: Option<usize>) -> bool {
    const COLUMNS: &[(usize, &[usize])] = &[
        (OpenVSwitch::INDEX, &[OpenVSwitch::BRIDGES.index()]),
        (
            Bridge::INDEX,
            &[Bridge::NAME.index(), Bridge::PORTS.index()],
        ),
        (
            Port::INDEX,
            &[
                Port::NAME.index(),
                Port::INTERFACES.index(),
                Port::TAG.index(),
                Port::FAKE_BRIDGE.index(),
            ],
        ),
        (Interface::INDEX, &[Interface::NAME.index()]),
    ];
    let of_table = COLUMNS.iter().find(|(t, _)| *t == table);
    of_table.is_some_and(|(_, columns)| column.is_none_or(|c| columns.contains(&c)))
}

/// A command that [`prepare`] serves.
pub(super) const fn command(
    name: &'static str,
    args: (usize, usize),
    usage: &'static str,
    options: &'static [&'static str],
    run: fn(&mut Ctx<'_>, &mut Inv) -> Outcome,
    writes: bool,
) -> Cmd {
    super::command(name, args, usage, options, prepare, run, writes)
}

const PORT_COLUMNS: [&str; 4] = ["name", "fake_bridge", "tag", "interfaces"];

/// Says that a command needs the model.
pub(crate) fn prepare(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    need_bridges(p);
    p.need("Port", &PORT_COLUMNS);
    p.need("Interface", &["name"]);
    Ok(())
}

fn need_bridges(p: &mut Prepare<'_>) {
    p.need_all("Open_vSwitch", &["bridges"]);
    p.need_all("Bridge", &["name", "controller", "fail_mode", "ports"]);
}

/// Says that a command needs, of the model, the bridges and what has one of these names.
pub(super) fn prepare_names<'n>(p: &mut Prepare<'_>, names: impl Iterator<Item = &'n str>) {
    need_bridges(p);
    p.need_columns("Port", &PORT_COLUMNS);
    p.need_columns("Interface", &["name"]);
    p.need_rows(Port::FAKE_BRIDGE, true);
    for name in names {
        p.need_rows(Port::NAME, name);
        p.need_rows(Interface::NAME, name);
    }
}

/// Reads the model if it is not there.
pub(crate) fn load(ctx: &mut Ctx<'_>) -> Outcome {
    if ctx.ext.loaded {
        return Ok(());
    }
    let root = ctx.ext.root;
    let idl = ctx.idl;
    ctx.txn.verify(idl, root, OpenVSwitch::BRIDGES);
    let mut read = Switch::new(root);
    let view = ctx.view();
    let rows = view.read(root, OpenVSwitch::BRIDGES).iter();
    let rows: Vec<Uuid> = rows.filter(|&b| view.is_known(Bridge::INDEX, b)).collect();
    if ctx.partial && is_shared(view, &rows) {
        return Err(Fail::Partial);
    }
    for &row in &rows {
        read.add_bridge(view, row);
    }
    for &row in &rows {
        read.add_ports(view, row);
    }
    if ctx.partial && read.misses_ifaces(view) {
        return Err(Fail::Partial);
    }
    let switch = &mut *ctx.ext;
    (switch.bridges, switch.ports, switch.ifaces) = (read.bridges, read.ports, read.ifaces);
    switch.loaded = true;
    Ok(())
}

/// Whether some port is on several bridges, or some interface on several ports: each is worth a
/// warning that has the names.
fn is_shared(view: View<'_>, bridges: &[Uuid]) -> bool {
    let ports = |bridge: &Uuid| view.read(*bridge, Bridge::PORTS).iter();
    let mut seen = HashSet::new();
    let mut again = |row: Uuid| !seen.insert(row);
    (bridges.len() > 1 && bridges.iter().flat_map(ports).any(&mut again))
        || view
            .idl
            .rows::<Port>()
            .flat_map(|port| port.interfaces().iter())
            .any(again)
}

/// The ports of a bridge's row.
fn ports_of(view: View<'_>, bridge: Uuid) -> impl Iterator<Item = Uuid> {
    let ports = view.read(bridge, Bridge::PORTS).iter();
    ports.filter(move |&p| view.is_known(Port::INDEX, p))
}

impl Switch {
    /// Takes in a bridge and the fake ones on it. Of several with one name the first stays.
    fn add_bridge(&mut self, view: View<'_>, row: Uuid) {
        let parent = view.read(row, Bridge::NAME).to_string();
        if self.bridges.contains_key(&parent) {
            vlog::warn!(
                modules::VSCTL,
                "{parent}: database contains duplicate bridge name"
            );
            return;
        }
        let mut add = |name: String, fake| {
            self.bridges
                .insert(name.clone(), BridgeInfo { name, row, fake })
        };
        add(parent.clone(), None);
        for port in ports_of(view, row) {
            let row = view.row::<Port>(port);
            if let (true, Some(vlan)) = (row.read(Port::FAKE_BRIDGE), row.read(Port::TAG)) {
                let name = row.read(Port::NAME).to_string();
                add(name, Some((parent.clone(), vlan, port)));
            }
        }
    }

    /// Takes in the ports of a bridge, local ports aside. A port belongs to the first bridge.
    fn add_ports(&mut self, view: View<'_>, bridge: Uuid) {
        let parent = view.read(bridge, Bridge::NAME).to_string();
        let on_vlan: BTreeMap<i64, String> = self
            .children(&parent)
            .into_iter()
            .filter_map(|name| {
                let (_, vlan, _) = self.bridges.get(&name)?.fake.as_ref()?;
                Some((*vlan, name))
            })
            .collect();
        for row in ports_of(view, bridge) {
            let port_row = view.row::<Port>(row);
            let name = port_row.read(Port::NAME).to_string();
            if self.bridges.contains_key(&name) {
                continue;
            }
            let tag = port_row.read(Port::TAG);
            let bridge = tag.and_then(|vlan| on_vlan.get(&vlan)).unwrap_or(&parent);
            if let Some(port) = self.ports.get(&name) {
                if port.row == row {
                    vlog::warn!(
                        modules::VSCTL,
                        "{name}: port is in multiple bridges ({bridge} and {})",
                        port.bridge
                    );
                }
                continue;
            }
            let bridge = bridge.clone();
            self.ports.insert(name.clone(), PortInfo { row, bridge });
            for row in port_row.read(Port::INTERFACES).iter() {
                if view.is_known(Interface::INDEX, row) {
                    self.add_iface(view, row, &name);
                }
            }
        }
    }

    /// Whether an interface of a port is not here, or the port of an interface, local ones aside.
    fn misses_ifaces(&self, view: View<'_>) -> bool {
        let mut of_ports = HashSet::new();
        for port in self.ports.values() {
            of_ports.extend(view.read(port.row, Port::INTERFACES).iter());
        }
        let lacks_port = |row: Row<'_, Interface>| {
            !of_ports.contains(&row.uuid())
                && !self.bridges.contains_key(row.name())
                && !view.txn.is_deleted(Interface::INDEX, row.uuid())
        };
        let lacks = |iface: &Uuid| !view.is_known(Interface::INDEX, *iface);
        of_ports.iter().any(lacks) || view.idl.rows::<Interface>().any(lacks_port)
    }

    fn add_iface(&mut self, view: View<'_>, row: Uuid, port: &str) {
        let name = view.read(row, Interface::NAME).to_string();
        if let Some(iface) = self.ifaces.get(&name) {
            if iface.row == row {
                vlog::warn!(
                    modules::VSCTL,
                    "{name}: interface is in multiple ports ({port} and {})",
                    iface.port
                );
            }
            return;
        }
        let port = port.to_string();
        self.ifaces.insert(name, IfaceInfo { row, port });
    }
}

/// The bridge of that name, to be read or changed.
pub(crate) fn find_bridge(ctx: &mut Ctx<'_>, name: &str) -> Result<BridgeInfo, Fail> {
    load(ctx)?;
    let found = ctx.ext.bridges.get(name).cloned();
    let found = found.filter(|b| match &b.fake {
        Some((.., port)) => !ctx.txn.is_deleted(Port::INDEX, *port),
        None => !ctx.txn.is_deleted(Bridge::INDEX, b.row),
    });
    found.ok_or_else(|| format!("no bridge named {name}").into())
}

/// The name of the bridge that a port is on, whether or not the port is deleted.
pub(crate) fn bridge_of(ctx: &mut Ctx<'_>, port: &str) -> Result<String, Fail> {
    load(ctx)?;
    let found = ctx.ext.ports.get(port).map(|p| p.bridge.clone());
    found.ok_or_else(|| format!("no port named {port}").into())
}

/// The bridge of that name, which must not be a fake one.
pub(crate) fn find_real_bridge(ctx: &mut Ctx<'_>, name: &str) -> Result<BridgeInfo, Fail> {
    let bridge = find_bridge(ctx, name)?;
    match &bridge.fake {
        Some(_) => Err(format!("{name} is a fake bridge").into()),
        None => Ok(bridge),
    }
}

pub(crate) fn find_port(ctx: &mut Ctx<'_>, name: &str) -> Result<PortInfo, Fail> {
    load(ctx)?;
    let found = ctx.ext.ports.get(name).cloned();
    let found = found.filter(|p| !ctx.txn.is_deleted(Port::INDEX, p.row));
    found.ok_or_else(|| format!("no port named {name}").into())
}

pub(crate) fn find_iface(ctx: &mut Ctx<'_>, name: &str) -> Result<IfaceInfo, Fail> {
    load(ctx)?;
    let found = ctx.ext.ifaces.get(name).cloned();
    found.ok_or_else(|| format!("no interface named {name}").into())
}

/// Fails if something has the name already; `what` begins the message.
pub(crate) fn check_conflicts(ctx: &mut Ctx<'_>, name: &str, what: &str) -> Outcome {
    load(ctx)?;
    let switch = &ctx.ext;
    let taken = if switch.bridges.contains_key(name) {
        format!("a bridge named {name} already exists")
    } else if let Some(port) = switch.ports.get(name) {
        format!(
            "a port named {name} already exists on bridge {}",
            port.bridge
        )
    } else if let Some(iface) = switch.ifaces.get(name) {
        let bridge = switch.ports.get(&iface.port).map_or("", |p| &p.bridge);
        format!("an interface named {name} already exists on bridge {bridge}")
    } else {
        return Ok(());
    };
    Err(format!("{what} because {taken}").into())
}

/// A set of one reference.
pub(crate) fn reference(row: Uuid) -> Datum {
    Datum::from(Atom::Uuid(row))
}

/// Adds references to a column without writing it whole.
pub(crate) fn add_refs<T: Table, K>(
    ctx: &mut Ctx<'_>,
    row: Uuid,
    column: Column<T, K>,
    refs: &Datum,
) {
    ctx.txn.add(ctx.idl, T::INDEX, row, column.index(), refs);
}

/// Removes references from a column without writing it whole.
pub(crate) fn remove_refs<T: Table, K>(
    ctx: &mut Ctx<'_>,
    row: Uuid,
    column: Column<T, K>,
    refs: &Datum,
) {
    ctx.txn.remove(ctx.idl, T::INDEX, row, column.index(), refs);
}

/// Inserts an interface, whose setting up is looked at afterwards.
pub(crate) fn insert_iface(ctx: &mut Ctx<'_>, name: &str) -> Uuid {
    let row = ctx.txn.insert::<Interface>();
    ctx.txn.set(row, Interface::NAME, name);
    ctx.ext.new_interfaces.push(row);
    row
}

/// Inserts a port with its interfaces.
pub(crate) fn insert_port(txn: &mut Txn, name: &str, ifaces: &[Uuid]) -> Uuid {
    let row = txn.insert::<Port>();
    txn.set(row, Port::NAME, name);
    txn.set(row, Port::INTERFACES, ifaces.iter().copied());
    row
}

/// Removes a port with its interfaces from a bridge's row.
pub(crate) fn remove_port(ctx: &mut Ctx<'_>, bridge: Uuid, port: Uuid) {
    let ifaces: Vec<Uuid> = ctx.view().read(port, Port::INTERFACES).iter().collect();
    remove_refs(ctx, bridge, Bridge::PORTS, &reference(port));
    for iface in ifaces {
        ctx.txn.delete::<Interface>(iface);
    }
    ctx.txn.delete::<Port>(port);
}

/// Removes a port that users see, from the database and from the model.
pub(crate) fn delete_port(ctx: &mut Ctx<'_>, name: &str) {
    let Some(port) = ctx.ext.ports.remove(name) else {
        return;
    };
    ctx.ext.ifaces.retain(|_, iface| iface.port != name);
    if let Some(bridge) = ctx.ext.bridges.get(&port.bridge).map(|b| b.row) {
        remove_port(ctx, bridge, port.row);
    }
}
