//! Bridge commands.

use super::switch::{
    BridgeInfo, add_refs, check_conflicts, command, delete_port, find_bridge, insert_iface,
    insert_port, load, prepare, reference, remove_port, remove_refs,
};
use super::{Cmd, Ctx, Inv};
use crate::dbctl::{Fail, Outcome, Prepare, leading_number};
use ferrovs_idl::kind::{Map, Str};
use ferrovs_idl::open_vswitch::{Bridge, Interface, OpenVSwitch, Port};
use ferrovs_idl::{Column, Datum, Table, Uuid};
use ferrovs_ovsdb::Atom;

pub(super) const COMMANDS: &[Cmd] = &[
    command(
        "add-br",
        (1, 3),
        "!NEW-BRIDGE ?PARENT ?NEW-VLAN",
        &["--may-exist"],
        add_br,
        true,
    ),
    command("del-br", (1, 1), "!BRIDGE", &["--if-exists"], del_br, true),
    command("list-br", (0, 0), "", &["--real", "--fake"], list_br, false),
    command("br-exists", (1, 1), "!BRIDGE", &[], br_exists, false),
    command("br-to-vlan", (1, 1), "!BRIDGE", &[], br_to_vlan, false),
    command("br-to-parent", (1, 1), "!BRIDGE", &[], br_to_parent, false),
    Cmd {
        prepare: prepare_external_ids,
        ..command(
            "br-set-external-id",
            (2, 3),
            "!BRIDGE !KEY ?VALUE",
            &[],
            set_external_id,
            true,
        )
    },
    Cmd {
        prepare: prepare_external_ids,
        ..command(
            "br-get-external-id",
            (1, 2),
            "!BRIDGE ?KEY",
            &[],
            external_id,
            false,
        )
    },
];

fn add_br(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1).to_string();
    if name.is_empty() {
        return Err("bridge name must not be empty string".into());
    }
    let parent = match inv.argv.len() {
        2 => None,
        4 => Some((inv.arg(2).to_string(), leading_number(inv.arg(3)))),
        _ => return Err(format!("'{}' command takes exactly 1 or 3 arguments", inv.arg(0)).into()),
    };
    if parent
        .as_ref()
        .is_some_and(|(_, vlan)| !(0..=4095).contains(vlan))
    {
        return Err(format!("{}: vlan must be between 0 and 4095", inv.arg(0)).into());
    }
    load(ctx)?;
    if inv.has("--may-exist")
        && let Some(bridge) = ctx.ext.bridges.get(&name)
    {
        return check_existing(bridge, &name, parent.as_ref());
    }
    check_conflicts(ctx, &name, &format!("cannot create a bridge named {name}"))?;
    match parent {
        None => add_real(ctx, &name),
        Some((parent, vlan)) => add_fake(ctx, &name, &parent, vlan)?,
    }
    // Ports of the parent on a fake bridge's VLAN are the new bridge's from now on.
    ctx.ext.forget();
    Ok(())
}

/// `--may-exist` demands that what exists is what is asked for.
fn check_existing(bridge: &BridgeInfo, name: &str, wanted: Option<&(String, i64)>) -> Outcome {
    match (wanted, &bridge.fake) {
        (None, None) => Ok(()),
        (None, Some((_, vlan, _))) => Err(format!(
            "\"--may-exist add-br {name}\" but {name} is a VLAN bridge for VLAN {vlan}"
        )
        .into()),
        (Some((parent, vlan)), fake) => {
            let command = format!("\"--may-exist add-br {name} {parent} {vlan}\"");
            match fake {
                None => Err(format!("{command} but {name} is not a VLAN bridge").into()),
                Some((p, ..)) if p != parent => {
                    Err(format!("{command} but {name} has the wrong parent {p}").into())
                }
                Some((_, v, _)) if v != vlan => Err(format!(
                    "{command} but {name} is a VLAN bridge for the wrong VLAN {v}"
                )
                .into()),
                Some(_) => Ok(()),
            }
        }
    }
}

fn add_real(ctx: &mut Ctx<'_>, name: &str) {
    let iface = insert_iface(ctx, name);
    ctx.txn.set(iface, Interface::TYPE, "internal");
    let port = insert_port(ctx.txn, name, &[iface]);
    let row = ctx.txn.insert::<Bridge>();
    ctx.txn.set(row, Bridge::NAME, name);
    ctx.txn.set(row, Bridge::PORTS, [port]);
    let root = ctx.ext.root;
    add_refs(ctx, root, OpenVSwitch::BRIDGES, &reference(row));
}

fn add_fake(ctx: &mut Ctx<'_>, name: &str, parent: &str, vlan: i64) -> Outcome {
    let Some(parent) = ctx.ext.bridges.get(parent).cloned() else {
        return Err(format!("parent bridge {parent} does not exist").into());
    };
    if parent.fake.is_some() {
        return Err("cannot create bridge with fake bridge as parent".into());
    }
    for child in ctx.ext.children(&parent.name) {
        let on = ctx.ext.bridges[&child].fake.as_ref().map(|(_, v, _)| *v);
        if on == Some(vlan) {
            return Err(format!(
                "bridge {} already has a child VLAN bridge {child} on VLAN {vlan}",
                parent.name
            )
            .into());
        }
    }
    let iface = insert_iface(ctx, name);
    ctx.txn.set(iface, Interface::TYPE, "internal");
    let port = insert_port(ctx.txn, name, &[iface]);
    ctx.txn.set(port, Port::FAKE_BRIDGE, true);
    ctx.txn.set(port, Port::TAG, Some(vlan));
    add_refs(ctx, parent.row, Bridge::PORTS, &reference(port));
    Ok(())
}

fn del_br(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    let name = inv.arg(1).to_string();
    match ctx.ext.bridges.get(&name).cloned() {
        Some(bridge) => delete_bridge(ctx, &bridge),
        None if inv.has("--if-exists") => {}
        None => return Err(format!("no bridge named {name}").into()),
    }
    Ok(())
}

fn delete_bridge(ctx: &mut Ctx<'_>, bridge: &BridgeInfo) {
    for child in ctx.ext.children(&bridge.name) {
        let child = ctx.ext.bridges[&child].clone();
        delete_bridge(ctx, &child);
    }
    let of_it = |p: &&super::switch::PortInfo| p.bridge == bridge.name;
    let ports: Vec<String> = ctx
        .ext
        .ports
        .iter()
        .filter(|(_, p)| of_it(p))
        .map(|(name, _)| name.clone())
        .collect();
    for port in ports {
        delete_port(ctx, &port);
    }
    match &bridge.fake {
        Some((_, _, port)) => remove_port(ctx, bridge.row, *port),
        None => {
            let rest: Vec<Uuid> = ctx.view().read(bridge.row, Bridge::PORTS).iter().collect();
            for port in rest {
                remove_port(ctx, bridge.row, port);
            }
            let root = ctx.ext.root;
            remove_refs(ctx, root, OpenVSwitch::BRIDGES, &reference(bridge.row));
            ctx.txn.delete::<Bridge>(bridge.row);
        }
    }
    ctx.ext.bridges.remove(&bridge.name);
}

fn list_br(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    let (real, fake) = (inv.has("--real"), inv.has("--fake"));
    let both = real == fake;
    for bridge in ctx.ext.bridges.values() {
        if both || bridge.fake.is_some() == fake {
            inv.say(&bridge.name);
        }
    }
    Ok(())
}

fn br_exists(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    match ctx.ext.bridges.contains_key(inv.arg(1)) {
        true => Ok(()),
        false => Err(Fail::Exit(2)),
    }
}

fn br_to_vlan(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    inv.say(bridge.fake.map_or(0, |(_, vlan, _)| vlan));
    Ok(())
}

fn br_to_parent(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    inv.say(bridge.fake.map_or(bridge.name, |(parent, ..)| parent));
    Ok(())
}

/// A fake bridge's ids are kept at its port, under this prefix.
const FAKE_PREFIX: &str = "fake-bridge-";

fn prepare_external_ids(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    prepare(p, inv)?;
    p.need("Bridge", &["external_ids"]);
    p.need("Port", &["external_ids"]);
    Ok(())
}

fn change_id<T: Table>(
    ctx: &mut Ctx<'_>,
    row: Uuid,
    column: Column<T, Map<Str, Str>>,
    key: &str,
    value: Option<&str>,
) {
    let (idl, at) = (ctx.idl, column.index());
    let key = Atom::string(key);
    match value {
        Some(value) => {
            let pair = Datum::from_pairs(vec![(key, Atom::string(value))]);
            ctx.txn.put(idl, T::INDEX, row, at, &pair);
        }
        None => ctx.txn.remove(idl, T::INDEX, row, at, &Datum::from(key)),
    }
}

fn set_external_id(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    let value = inv.argv.get(3).map(String::as_str);
    match &bridge.fake {
        None => change_id(ctx, bridge.row, Bridge::EXTERNAL_IDS, inv.arg(2), value),
        Some((_, _, port)) => {
            let key = format!("{FAKE_PREFIX}{}", inv.arg(2));
            change_id(ctx, *port, Port::EXTERNAL_IDS, &key, value);
        }
    }
    Ok(())
}

fn external_id(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    let (ids, prefix) = match &bridge.fake {
        None => (ctx.view().read(bridge.row, Bridge::EXTERNAL_IDS), ""),
        Some((_, _, port)) => (ctx.view().read(*port, Port::EXTERNAL_IDS), FAKE_PREFIX),
    };
    let wanted = inv.argv.get(2).cloned();
    let mut lines = Vec::new();
    for (key, value) in ids.iter() {
        let Some(key) = key.strip_prefix(prefix) else {
            continue;
        };
        match &wanted {
            Some(wanted) if wanted == key => lines.push(value.to_string()),
            Some(_) => {}
            None => lines.push(format!("{key}={value}")),
        }
    }
    for line in lines {
        inv.say(line);
    }
    Ok(())
}
