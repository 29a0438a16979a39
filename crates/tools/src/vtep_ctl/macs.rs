//! Which MAC address is behind which tunnel endpoint.
//!
//! Four tables of the same shape in pairs: unicast addresses have one locator, multicast ones a
//! set of locators. A set cannot be changed, so every change to one makes a new set. The tables
//! are told apart by a [`MacTable`], so that each command is written once.

use super::model::{Logical, Macs, Side, Vtep, command, find_logical, locators_of};
use super::{Ctx, Inv};
use crate::dbctl::{Command, Fail, Outcome};
use ferrovs_idl::hardware_vtep::{
    McastMacsLocal, McastMacsRemote, PhysicalLocator, PhysicalLocatorSet, UcastMacsLocal,
    UcastMacsRemote,
};
use ferrovs_idl::{Datum, Table, Uuid};
use ferrovs_ovsdb::Atom;
use std::collections::BTreeSet;

const ADD: (usize, usize) = (3, 4);
const DEL_UCAST: (usize, usize) = (2, 2);
const ALL: (usize, usize) = (1, 1);

// That clearing counts as reading decides how it is logged, as Open vSwitch does it.
pub(super) const COMMANDS: &[Command<Vtep>] = &[
    command(
        "add-ucast-local",
        ADD,
        &[],
        |c, i| add_ucast(c, i, Side::Local),
        true,
    ),
    command(
        "del-ucast-local",
        DEL_UCAST,
        &[],
        |c, i| del_ucast(c, i, Side::Local),
        true,
    ),
    command(
        "add-mcast-local",
        ADD,
        &[],
        |c, i| add_mcast(c, i, Side::Local),
        true,
    ),
    command(
        "del-mcast-local",
        ADD,
        &[],
        |c, i| del_mcast(c, i, Side::Local),
        true,
    ),
    command(
        "clear-local-macs",
        ALL,
        &[],
        |c, i| clear(c, i, Side::Local),
        false,
    ),
    command(
        "list-local-macs",
        ALL,
        &[],
        |c, i| list(c, i, Side::Local),
        false,
    ),
    command(
        "add-ucast-remote",
        ADD,
        &[],
        |c, i| add_ucast(c, i, Side::Remote),
        true,
    ),
    command(
        "del-ucast-remote",
        DEL_UCAST,
        &[],
        |c, i| del_ucast(c, i, Side::Remote),
        true,
    ),
    command(
        "add-mcast-remote",
        ADD,
        &[],
        |c, i| add_mcast(c, i, Side::Remote),
        true,
    ),
    command(
        "del-mcast-remote",
        ADD,
        &[],
        |c, i| del_mcast(c, i, Side::Remote),
        true,
    ),
    command(
        "clear-remote-macs",
        ALL,
        &[],
        |c, i| clear(c, i, Side::Remote),
        false,
    ),
    command(
        "list-remote-macs",
        ALL,
        &[],
        |c, i| list(c, i, Side::Remote),
        false,
    ),
];

/// A table of MAC addresses: positions of the table and of its columns.
#[derive(Clone, Copy)]
struct MacTable {
    table: usize,
    mac: usize,
    logical_switch: usize,
    /// The locator, or the set of locators.
    place: usize,
}

macro_rules! mac_table {
    ($table:ident, $place:ident) => {
        MacTable {
            table: $table::INDEX,
            mac: $table::MAC.index(),
            logical_switch: $table::LOGICAL_SWITCH.index(),
            place: $table::$place.index(),
        }
    };
}

impl MacTable {
    fn unicast(side: Side) -> MacTable {
        match side {
            Side::Local => mac_table!(UcastMacsLocal, LOCATOR),
            Side::Remote => mac_table!(UcastMacsRemote, LOCATOR),
        }
    }

    fn multicast(side: Side) -> MacTable {
        match side {
            Side::Local => mac_table!(McastMacsLocal, LOCATOR_SET),
            Side::Remote => mac_table!(McastMacsRemote, LOCATOR_SET),
        }
    }

    /// Where the address of a row is.
    fn place(self, ctx: &Ctx<'_>, row: Uuid) -> Option<Uuid> {
        ctx.view().get(self.table, row, self.place).as_uuid()
    }

    fn insert(self, ctx: &mut Ctx<'_>, logical_switch: Uuid, mac: &str, place: Uuid) -> Uuid {
        let row = ctx.txn.insert_row(self.table, None);
        let cells = [
            (self.mac, Atom::string(mac)),
            (self.logical_switch, Atom::Uuid(logical_switch)),
            (self.place, Atom::Uuid(place)),
        ];
        for (column, atom) in cells {
            ctx.txn.write(self.table, row, column, Datum::from(atom));
        }
        row
    }

    fn set_place(self, ctx: &mut Ctx<'_>, row: Uuid, place: Uuid) {
        let place = Datum::from(Atom::Uuid(place));
        ctx.txn.write(self.table, row, self.place, place);
    }
}

/// `LS MAC [ENCAP] IP`.
struct Args {
    switch: String,
    mac: String,
    locator: (String, String),
}

impl Args {
    fn new(inv: &Inv) -> Args {
        let (encap, ip) = match inv.argv.len() {
            0..=4 => ("vxlan_over_ipv4", inv.arg(3)),
            _ => (inv.arg(3), inv.arg(4)),
        };
        Args {
            switch: inv.arg(1).to_string(),
            mac: inv.arg(2).to_string(),
            locator: (encap.to_string(), ip.to_string()),
        }
    }
}

/// The locator of that encapsulation and address, made if there is none.
fn locator(ctx: &mut Ctx<'_>, key: (String, String)) -> Uuid {
    if let Some(&row) = ctx.ext.locators.get(&key) {
        return row;
    }
    let row = ctx.txn.insert::<PhysicalLocator>();
    let (encap, ip) = &key;
    ctx.txn.set(row, PhysicalLocator::ENCAPSULATION_TYPE, encap);
    ctx.txn.set(row, PhysicalLocator::DST_IP, ip);
    ctx.ext.locators.insert(key, row);
    row
}

/// The logical switch in the model, after [`find_logical`] has found it.
fn logical<'a>(ctx: &'a mut Ctx<'_>, name: &str) -> Result<&'a mut Logical, Fail> {
    let found = ctx.ext.logical.get_mut(name);
    found.ok_or_else(|| format!("no logical switch named {name}").into())
}

fn add_ucast(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    let args = Args::new(inv);
    let switch = find_logical(ctx, &args.switch)?;
    let place = locator(ctx, args.locator);
    let table = MacTable::unicast(side);
    let known = logical(ctx, &args.switch)?.ucast[side as usize].get(&args.mac);
    match known.and_then(|rows| rows.last().copied()) {
        Some(row) => table.set_place(ctx, row, place),
        None => {
            let row = table.insert(ctx, switch, &args.mac, place);
            let macs = &mut logical(ctx, &args.switch)?.ucast[side as usize];
            macs.insert(args.mac, vec![row]);
        }
    }
    Ok(())
}

/// Takes a row of a MAC address out of the model.
fn take_row(macs: &mut Macs, mac: &str) -> Option<Uuid> {
    let rows = macs.get_mut(mac)?;
    let row = rows.pop();
    if rows.is_empty() {
        macs.remove(mac);
    }
    row
}

fn del_ucast(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    find_logical(ctx, inv.arg(1))?;
    let macs = &mut logical(ctx, inv.arg(1))?.ucast[side as usize];
    if let Some(row) = take_row(macs, inv.arg(2)) {
        ctx.txn.delete_row(MacTable::unicast(side).table, row);
    }
    Ok(())
}

/// A new set of locators.
fn insert_set(ctx: &mut Ctx<'_>, locators: Vec<Uuid>) -> Uuid {
    let set = ctx.txn.insert::<PhysicalLocatorSet>();
    ctx.txn.set(set, PhysicalLocatorSet::LOCATORS, locators);
    set
}

fn add_mcast(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    let args = Args::new(inv);
    let switch = find_logical(ctx, &args.switch)?;
    let new = locator(ctx, args.locator);
    let table = MacTable::multicast(side);
    let known = logical(ctx, &args.switch)?.mcast[side as usize].get(&args.mac);
    match known.and_then(|rows| rows.last().copied()) {
        Some(row) => {
            let old = table.place(ctx, row);
            let mut locators = old.map_or_else(Vec::new, |set| locators_of(ctx, set));
            locators.push(new);
            let set = insert_set(ctx, locators);
            table.set_place(ctx, row, set);
        }
        None => {
            let set = insert_set(ctx, vec![new]);
            let row = table.insert(ctx, switch, &args.mac, set);
            let macs = &mut logical(ctx, &args.switch)?.mcast[side as usize];
            macs.insert(args.mac, vec![row]);
        }
    }
    Ok(())
}

fn del_mcast(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    let args = Args::new(inv);
    find_logical(ctx, &args.switch)?;
    let table = MacTable::multicast(side);
    let known = logical(ctx, &args.switch)?.mcast[side as usize].get(&args.mac);
    let row = known.and_then(|rows| rows.last().copied());
    let gone = ctx.ext.locators.get(&args.locator).copied();
    let (Some(row), Some(gone)) = (row, gone) else {
        return Ok(());
    };
    let set = table.place(ctx, row);
    let mut locators = set.map_or_else(Vec::new, |set| locators_of(ctx, set));
    if !locators.contains(&gone) {
        return Ok(());
    }
    locators.retain(|&l| l != gone);
    if locators.is_empty() {
        take_row(
            &mut logical(ctx, &args.switch)?.mcast[side as usize],
            &args.mac,
        );
        ctx.txn.delete_row(table.table, row);
    } else {
        let set = insert_set(ctx, locators);
        table.set_place(ctx, row, set);
    }
    Ok(())
}

fn clear(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    find_logical(ctx, inv.arg(1))?;
    let logical = logical(ctx, inv.arg(1))?;
    let unicast = std::mem::take(&mut logical.ucast[side as usize]);
    let multicast = std::mem::take(&mut logical.mcast[side as usize]);
    for row in unicast.into_values().flatten() {
        ctx.txn.delete_row(MacTable::unicast(side).table, row);
    }
    for row in multicast.into_values().flatten() {
        ctx.txn.delete_row(MacTable::multicast(side).table, row);
    }
    Ok(())
}

/// "MAC -> ENCAP/IP".
fn line(ctx: &Ctx<'_>, mac: &str, locator: Uuid) -> String {
    let view = ctx.view();
    let encap = view.read(locator, PhysicalLocator::ENCAPSULATION_TYPE);
    let ip = view.read(locator, PhysicalLocator::DST_IP);
    format!("  {mac} -> {encap}/{ip}")
}

fn list(ctx: &mut Ctx<'_>, inv: &mut Inv, side: Side) -> Outcome {
    find_logical(ctx, inv.arg(1))?;
    let known = logical(ctx, inv.arg(1))?.clone();
    let name = match side {
        Side::Local => "local",
        Side::Remote => "remote",
    };
    let mut unicast = Vec::new();
    for (mac, rows) in &known.ucast[side as usize] {
        let places = rows
            .iter()
            .filter_map(|&row| MacTable::unicast(side).place(ctx, row));
        unicast.extend(places.map(|place| line(ctx, mac, place)));
    }
    let mut multicast = Vec::new();
    for (mac, rows) in &known.mcast[side as usize] {
        for set in rows
            .iter()
            .filter_map(|&row| MacTable::multicast(side).place(ctx, row))
        {
            let distinct: BTreeSet<Uuid> = locators_of(ctx, set).into_iter().collect();
            multicast.extend(distinct.into_iter().map(|place| line(ctx, mac, place)));
        }
    }
    for (kind, mut lines) in [("ucast", unicast), ("mcast", multicast)] {
        lines.sort_unstable();
        inv.say(format_args!("{kind}-mac-{name}"));
        for line in lines {
            inv.say(line);
        }
        inv.say("");
    }
    Ok(())
}
