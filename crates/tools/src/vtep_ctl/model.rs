//! Switches, ports, routers, MAC addresses and locators, by the names that users give them.
//!
//! Read from the database (with the transaction's changes) when a command first asks, kept up by
//! the commands that change it, and forgotten when a generic command may have changed it, so that
//! a long command line costs time in proportion to its length.

use super::{Ctx, Inv};
use crate::dbctl::{Command, Fail, Outcome, Prepare};
use ferrovs_idl::hardware_vtep::{
    Global, LogicalRouter, LogicalSwitch, McastMacsLocal, McastMacsRemote, PhysicalLocator,
    PhysicalLocatorSet, PhysicalPort, PhysicalSwitch, UcastMacsLocal, UcastMacsRemote,
};
use ferrovs_idl::kind::{Ref, Str};
use ferrovs_idl::{Column, Table, Uuid};
use std::collections::{BTreeMap, HashMap};

/// A physical switch.
#[derive(Clone, Debug)]
pub(super) struct Physical {
    pub row: Uuid,
    pub ports: BTreeMap<String, Uuid>,
}

/// Who knows a MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Local,
    Remote,
}

/// The rows for each MAC address; more than one only if somebody else made them.
pub(super) type Macs = BTreeMap<String, Vec<Uuid>>;

/// A logical switch; its tables of MAC addresses by [`Side`].
#[derive(Clone, Debug)]
pub(super) struct Logical {
    pub row: Uuid,
    pub ucast: [Macs; 2],
    pub mcast: [Macs; 2],
}

impl Logical {
    pub fn new(row: Uuid) -> Logical {
        Logical {
            row,
            ucast: Default::default(),
            mcast: Default::default(),
        }
    }
}

/// The model: see the module documentation.
pub(super) struct Vtep {
    pub root: Uuid,
    loaded: bool,
    pub physical: BTreeMap<String, Physical>,
    pub logical: BTreeMap<String, Logical>,
    pub routers: BTreeMap<String, Uuid>,
    /// By encapsulation and address.
    pub locators: HashMap<(String, String), Uuid>,
}

impl Vtep {
    pub fn new(root: Uuid) -> Vtep {
        Vtep {
            root,
            loaded: false,
            physical: BTreeMap::new(),
            logical: BTreeMap::new(),
            routers: BTreeMap::new(),
            locators: HashMap::new(),
        }
    }

    pub fn forget(&mut self) {
        self.loaded = false;
    }
}

/// A command that uses the model.
pub(super) const fn command(
    name: &'static str,
    args: (usize, usize),
    options: &'static [&'static str],
    run: fn(&mut Ctx<'_>, &mut Inv) -> Outcome,
    writes: bool,
) -> Command<Vtep> {
    Command {
        name,
        min_args: args.0,
        max_args: args.1,
        usage: "",
        options,
        prepare,
        run,
        finish: None,
        writes,
    }
}

fn prepare(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    p.need("Global", &["switches"]);
    p.need("Physical_Switch", &["name", "ports"]);
    p.need("Physical_Port", &["name", "vlan_bindings"]);
    p.need("Logical_Switch", &["name", "replication_mode"]);
    p.need("Logical_Router", &["name"]);
    for table in ["Ucast_Macs_Local", "Ucast_Macs_Remote"] {
        p.need(table, &["MAC", "logical_switch", "locator"]);
    }
    for table in ["Mcast_Macs_Local", "Mcast_Macs_Remote"] {
        p.need(table, &["MAC", "logical_switch", "locator_set"]);
    }
    p.need("Physical_Locator_Set", &["locators"]);
    p.need("Physical_Locator", &["dst_ip", "encapsulation_type"]);
    Ok(())
}

/// Reads the model if it is not there.
pub(super) fn load(ctx: &mut Ctx<'_>) {
    if ctx.ext.loaded {
        return;
    }
    let (idl, root) = (ctx.idl, ctx.ext.root);
    ctx.txn.verify(idl, root, Global::SWITCHES);
    let mut vtep = Vtep::new(root);
    vtep.loaded = true;
    let view = ctx.view();
    for row in view.read(root, Global::SWITCHES).iter() {
        let ports = view.read(row, PhysicalSwitch::PORTS).iter();
        let ports = ports.map(|p| (view.read(p, PhysicalPort::NAME).to_string(), p));
        let ports = ports.collect();
        let name = view.read(row, PhysicalSwitch::NAME).to_string();
        vtep.physical.insert(name, Physical { row, ports });
    }
    let mut names: HashMap<Uuid, String> = HashMap::new();
    for row in view.rows::<LogicalSwitch>() {
        let name = view.read(row, LogicalSwitch::NAME).to_string();
        names.insert(row, name.clone());
        vtep.logical.insert(name, Logical::new(row));
    }
    for row in view.rows::<LogicalRouter>() {
        let name = view.read(row, LogicalRouter::NAME).to_string();
        vtep.routers.insert(name, row);
    }
    for row in view.rows::<PhysicalLocator>() {
        let encap = view.read(row, PhysicalLocator::ENCAPSULATION_TYPE);
        let ip = view.read(row, PhysicalLocator::DST_IP);
        vtep.locators.insert((encap.into(), ip.into()), row);
    }
    let mut read = Reader {
        ctx,
        names: &names,
        vtep: &mut vtep,
    };
    use Side::{Local, Remote};
    read.macs(UcastMacsLocal::MAC, UcastMacsLocal::LOGICAL_SWITCH, |l| {
        &mut l.ucast[Local as usize]
    });
    read.macs(UcastMacsRemote::MAC, UcastMacsRemote::LOGICAL_SWITCH, |l| {
        &mut l.ucast[Remote as usize]
    });
    read.macs(McastMacsLocal::MAC, McastMacsLocal::LOGICAL_SWITCH, |l| {
        &mut l.mcast[Local as usize]
    });
    read.macs(McastMacsRemote::MAC, McastMacsRemote::LOGICAL_SWITCH, |l| {
        &mut l.mcast[Remote as usize]
    });
    *ctx.ext = vtep;
}

/// Sorts rows of MAC addresses to their logical switches.
struct Reader<'a, 'b> {
    ctx: &'a Ctx<'b>,
    names: &'a HashMap<Uuid, String>,
    vtep: &'a mut Vtep,
}

impl Reader<'_, '_> {
    fn macs<T: Table>(
        &mut self,
        mac: Column<T, Str>,
        logical_switch: Column<T, Ref>,
        place: fn(&mut Logical) -> &mut Macs,
    ) {
        let view = self.ctx.view();
        for row in view.rows::<T>() {
            let of = self.names.get(&view.read(row, logical_switch));
            if let Some(logical) = of.and_then(|name| self.vtep.logical.get_mut(name)) {
                let mac = view.read(row, mac).to_string();
                place(logical).entry(mac).or_default().push(row);
            }
        }
    }
}

pub(super) fn find_physical(ctx: &mut Ctx<'_>, name: &str) -> Result<Physical, Fail> {
    load(ctx);
    let found = ctx.ext.physical.get(name).cloned();
    found.ok_or_else(|| format!("no physical switch named {name}").into())
}

/// The row of a port. No such switch is no such port.
pub(super) fn find_port(ctx: &mut Ctx<'_>, switch: &str, name: &str) -> Result<Uuid, Fail> {
    load(ctx);
    let switch = ctx.ext.physical.get(switch);
    let found = switch.and_then(|s| s.ports.get(name)).copied();
    found.ok_or_else(|| format!("no port named {name}").into())
}

/// The row of a logical switch.
pub(super) fn find_logical(ctx: &mut Ctx<'_>, name: &str) -> Result<Uuid, Fail> {
    load(ctx);
    let found = ctx.ext.logical.get(name).map(|l| l.row);
    found.ok_or_else(|| format!("no logical switch named {name}").into())
}

/// The locators of a set.
pub(super) fn locators_of(ctx: &Ctx<'_>, set: Uuid) -> Vec<Uuid> {
    let view = ctx.view();
    view.read(set, PhysicalLocatorSet::LOCATORS)
        .iter()
        .collect()
}
