//! Physical switches, their ports, and the bindings of VLANs to logical switches.

use super::model::{Physical, Vtep, command, find_logical, find_physical, find_port, load};
use super::{Ctx, Inv};
use crate::dbctl::{Command, Fail, Outcome, leading_number_any_base};
use ferrovs_idl::hardware_vtep::{Global, LogicalSwitch, PhysicalPort, PhysicalSwitch};
use ferrovs_idl::{Datum, Table, Uuid};
use ferrovs_ovsdb::Atom;
use std::collections::BTreeMap;

// Bindings are changed by commands that count as reading: Open vSwitch logs them as such.
pub(super) const COMMANDS: &[Command<Vtep>] = &[
    command("add-ps", (1, 1), &["--may-exist"], add_ps, true),
    command("del-ps", (1, 1), &["--if-exists"], del_ps, true),
    command("list-ps", (0, 0), &[], list_ps, false),
    command("ps-exists", (1, 1), &[], ps_exists, false),
    command("list-ports", (1, 1), &[], list_ports, false),
    command("add-port", (2, 2), &["--may-exist"], add_port, true),
    command("del-port", (2, 2), &["--if-exists"], del_port, true),
    command("list-bindings", (2, 2), &[], list_bindings, false),
    command("bind-ls", (4, 4), &[], bind_ls, false),
    command("unbind-ls", (3, 3), &[], unbind_ls, false),
];

/// A set of one reference.
fn reference(row: Uuid) -> Datum {
    Datum::from(Atom::Uuid(row))
}

fn add_ps(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1).to_string();
    load(ctx);
    if ctx.ext.physical.contains_key(&name) {
        return match inv.has("--may-exist") {
            true => Ok(()),
            false => Err(
                format!("cannot create physical switch {name} because it already exists").into(),
            ),
        };
    }
    let row = ctx.txn.insert::<PhysicalSwitch>();
    ctx.txn.set(row, PhysicalSwitch::NAME, &name);
    let (idl, root) = (ctx.idl, ctx.ext.root);
    let switches = Global::SWITCHES.index();
    ctx.txn
        .add(idl, Global::INDEX, root, switches, &reference(row));
    let ports = BTreeMap::new();
    ctx.ext.physical.insert(name, Physical { row, ports });
    Ok(())
}

fn del_ps(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1).to_string();
    let found = find_physical(ctx, &name);
    let switch = match found {
        Err(_) if inv.has("--if-exists") => return Ok(()),
        found => found?,
    };
    for row in switch.ports.into_values() {
        ctx.txn.delete::<PhysicalPort>(row);
    }
    let (idl, root) = (ctx.idl, ctx.ext.root);
    let switches = Global::SWITCHES.index();
    ctx.txn
        .remove(idl, Global::INDEX, root, switches, &reference(switch.row));
    ctx.txn.delete::<PhysicalSwitch>(switch.row);
    ctx.ext.physical.remove(&name);
    Ok(())
}

fn list_ps(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    for name in ctx.ext.physical.keys() {
        inv.say(name);
    }
    Ok(())
}

fn ps_exists(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    match ctx.ext.physical.contains_key(inv.arg(1)) {
        true => Ok(()),
        false => Err(Fail::Exit(2)),
    }
}

fn list_ports(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    for name in find_physical(ctx, inv.arg(1))?.ports.keys() {
        inv.say(name);
    }
    Ok(())
}

fn add_port(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (switch, name) = (inv.arg(1).to_string(), inv.arg(2).to_string());
    let physical = find_physical(ctx, &switch)?;
    if physical.ports.contains_key(&name) {
        return match inv.has("--may-exist") {
            true => Ok(()),
            false => Err(format!(
                "cannot create a port named {name} on {switch} because a port with that name \
                 already exists"
            )
            .into()),
        };
    }
    let row = ctx.txn.insert::<PhysicalPort>();
    ctx.txn.set(row, PhysicalPort::NAME, &name);
    let (idl, table) = (ctx.idl, PhysicalSwitch::INDEX);
    let ports = PhysicalSwitch::PORTS.index();
    ctx.txn
        .add(idl, table, physical.row, ports, &reference(row));
    if let Some(physical) = ctx.ext.physical.get_mut(&switch) {
        physical.ports.insert(name, row);
    }
    Ok(())
}

fn del_port(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let found = find_port(ctx, inv.arg(1), inv.arg(2));
    let row = match found {
        Err(_) if inv.has("--if-exists") => return Ok(()),
        found => found?,
    };
    let idl = ctx.idl;
    if let Some(switch) = ctx.ext.physical.get_mut(inv.arg(1)) {
        switch.ports.remove(inv.arg(2));
        let (table, ports) = (PhysicalSwitch::INDEX, PhysicalSwitch::PORTS.index());
        ctx.txn
            .remove(idl, table, switch.row, ports, &reference(row));
    }
    ctx.txn.delete::<PhysicalPort>(row);
    Ok(())
}

fn list_bindings(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let port = find_port(ctx, inv.arg(1), inv.arg(2))?;
    let view = ctx.view();
    for (vlan, to) in view.read(port, PhysicalPort::VLAN_BINDINGS).iter() {
        let name = view.read(to, LogicalSwitch::NAME);
        inv.say(format_args!("{vlan:04} {name}"));
    }
    Ok(())
}

/// Whether a VLAN is bound under the very text that the user gave: numbers have other spellings.
fn is_bound(ctx: &Ctx<'_>, port: Uuid, vlan: &str) -> bool {
    let bindings = ctx.view().read(port, PhysicalPort::VLAN_BINDINGS);
    bindings.iter().any(|(bound, _)| bound.to_string() == vlan)
}

fn bind_ls(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let port = find_port(ctx, inv.arg(1), inv.arg(2))?;
    let vlan = inv.arg(3);
    let to = find_logical(ctx, inv.arg(4))?;
    if is_bound(ctx, port, vlan) {
        return Err(format!("multiple bindings for vlan {vlan}").into());
    }
    let vlan = Atom::Integer(leading_number_any_base(vlan));
    write_bindings(ctx, port, |pairs| {
        if !pairs.iter().any(|(bound, _)| *bound == vlan) {
            pairs.push((vlan, Atom::Uuid(to)));
        }
    });
    Ok(())
}

fn unbind_ls(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let port = find_port(ctx, inv.arg(1), inv.arg(2))?;
    let vlan = inv.arg(3);
    if !is_bound(ctx, port, vlan) {
        return Err(format!("no binding for vlan {vlan}").into());
    }
    let vlan = Atom::Integer(leading_number_any_base(vlan));
    write_bindings(ctx, port, |pairs| pairs.retain(|(bound, _)| *bound != vlan));
    Ok(())
}

/// Changes the bindings of a port, which are written whole: the server checks them whole.
fn write_bindings(ctx: &mut Ctx<'_>, port: Uuid, change: impl FnOnce(&mut Vec<(Atom, Atom)>)) {
    ctx.txn.verify(ctx.idl, port, PhysicalPort::VLAN_BINDINGS);
    let column = PhysicalPort::VLAN_BINDINGS.index();
    let mut pairs = ctx
        .view()
        .get(PhysicalPort::INDEX, port, column)
        .pairs()
        .to_vec();
    change(&mut pairs);
    let bindings = Datum::from_pairs(pairs);
    ctx.txn.write(PhysicalPort::INDEX, port, column, bindings);
}
