//! Port, bond and interface commands.

use super::switch::{
    IfaceInfo, PortInfo, add_refs, bridge_of, check_conflicts, command, delete_port, find_bridge,
    find_iface, find_port, insert_iface, insert_port, load, prepare_names, reference, remove_refs,
};
use super::{Cmd, Ctx, Inv};
use crate::dbctl::{MANY, Outcome, Prepare, set_column};
use ferrovs_idl::open_vswitch::{Bridge, Interface, Port};
use ferrovs_idl::{Table, Uuid};

pub(super) const COMMANDS: &[Cmd] = &[
    command("list-ports", (1, 1), "!BRIDGE", &[], list_ports, false),
    Cmd {
        prepare: prepare_add,
        ..command(
            "add-port",
            (2, MANY),
            "!BRIDGE !NEW-PORT *COLUMN?:KEY=VALUE",
            &["--may-exist"],
            add_port,
            true,
        )
    },
    Cmd {
        prepare: prepare_add,
        ..command(
            "add-bond",
            (4, MANY),
            "!BRIDGE !BOND +IFACE *COLUMN?:KEY=VALUE",
            &["--may-exist", "--fake-iface"],
            add_bond,
            true,
        )
    },
    Cmd {
        prepare: prepare_one,
        ..command(
            "del-port",
            (1, 2),
            "?BRIDGE !PORT|IFACE",
            &["--if-exists", "--with-iface"],
            del_port,
            true,
        )
    },
    Cmd {
        prepare: prepare_one,
        ..command("port-to-br", (1, 1), "!PORT", &[], port_to_br, false)
    },
    command(
        "add-bond-iface",
        (2, MANY),
        "!BOND !IFACE",
        &["--may-exist"],
        add_bond_iface,
        true,
    ),
    command(
        "del-bond-iface",
        (1, 2),
        "?BOND !IFACE",
        &["--if-exists"],
        del_bond_iface,
        true,
    ),
    command("list-ifaces", (1, 1), "!BRIDGE", &[], list_ifaces, false),
    command("iface-to-br", (1, 1), "!IFACE", &[], iface_to_br, false),
];

/// The port and its interfaces must be new. Settings may name any column of Port.
fn prepare_add(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    let ifaces = inv.argv[3..].iter().filter(|arg| !arg.contains('='));
    let names = inv.argv[2..3].iter().chain(ifaces);
    prepare_names(p, names.map(String::as_str));
    p.need_columns("Port", &["bond_fake_iface"]);
    let table = Port::INDEX;
    for setting in inv.argv.iter().skip(3).filter(|a| a.contains('=')) {
        let end = setting.find(['=', ':']).unwrap_or(setting.len());
        if end > 0 {
            p.need_column(table, &setting[..end])?;
        }
    }
    Ok(())
}

/// The last argument names the port, or an interface.
fn prepare_one(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    prepare_names(p, inv.argv.last().map(String::as_str).into_iter());
    Ok(())
}

fn list_ports(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    for (name, port) in &ctx.ext.ports {
        if port.bridge == bridge.name {
            inv.say(name);
        }
    }
    Ok(())
}

fn list_ifaces(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    for (name, iface) in &ctx.ext.ifaces {
        if ctx
            .ext
            .ports
            .get(&iface.port)
            .is_some_and(|p| p.bridge == bridge.name)
        {
            inv.say(name);
        }
    }
    Ok(())
}

fn port_to_br(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    inv.say(bridge_of(ctx, inv.arg(1))?);
    Ok(())
}

fn iface_to_br(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let iface = find_iface(ctx, inv.arg(1))?;
    inv.say(bridge_of(ctx, &iface.port)?);
    Ok(())
}

/// The command as it was given, for messages.
fn as_given(inv: &Inv) -> String {
    let options = inv.command.options.iter().filter(|o| inv.has(o));
    let options = options.map(|o| o.to_string());
    options
        .chain(inv.argv.iter().cloned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn add_port(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let ifaces = vec![inv.arg(2).to_string()];
    let settings = inv.argv[3..].to_vec();
    add(ctx, inv, &ifaces, &settings, false)
}

fn add_bond(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let rest = &inv.argv[3..];
    let n = rest
        .iter()
        .position(|a| a.contains('='))
        .unwrap_or(rest.len());
    let (ifaces, settings) = (rest[..n].to_vec(), rest[n..].to_vec());
    let fake = inv.has("--fake-iface");
    add(ctx, inv, &ifaces, &settings, fake)
}

fn add(
    ctx: &mut Ctx<'_>,
    inv: &mut Inv,
    ifaces: &[String],
    settings: &[String],
    fake_iface: bool,
) -> Outcome {
    if inv.arg(2).is_empty() {
        return Err("port name must not be empty string".into());
    }
    if ifaces.iter().any(String::is_empty) {
        return Err("interface name must not be empty string".into());
    }
    load(ctx)?;
    let (bridge_name, port_name) = (inv.arg(1).to_string(), inv.arg(2).to_string());
    if inv.has("--may-exist")
        && let Some(port) = ctx.ext.ports.get(&port_name).cloned()
    {
        return check_existing(ctx, inv, &port_name, &port, ifaces);
    }
    check_conflicts(
        ctx,
        &port_name,
        &format!("cannot create a port named {port_name}"),
    )?;
    for iface in ifaces.iter().filter(|i| **i != port_name) {
        check_conflicts(
            ctx,
            iface,
            &format!("cannot create an interface named {iface}"),
        )?;
    }
    let bridge = find_bridge(ctx, &bridge_name)?;
    let rows: Vec<Uuid> = ifaces.iter().map(|name| insert_iface(ctx, name)).collect();
    let port = insert_port(ctx.txn, &port_name, &rows);
    if fake_iface {
        ctx.txn.set(port, Port::BOND_FAKE_IFACE, true);
    }
    if let Some((_, vlan, _)) = &bridge.fake {
        ctx.txn.set(port, Port::TAG, Some(*vlan));
    }
    for setting in settings {
        set_column(ctx, Port::INDEX, port, setting)?;
    }
    // Only where fake bridges are, a port's VLAN says whose it is.
    let real = bridge
        .fake
        .as_ref()
        .map_or(&bridge.name, |(parent, ..)| parent);
    if ctx.ext.children(real).is_empty() {
        ctx.touched.clear();
    }
    add_refs(ctx, bridge.row, Bridge::PORTS, &reference(port));
    for (name, row) in ifaces.iter().zip(rows) {
        ctx.ext.ifaces.insert(
            name.clone(),
            IfaceInfo {
                row,
                port: port_name.clone(),
            },
        );
    }
    ctx.ext.ports.insert(
        port_name,
        PortInfo {
            row: port,
            bridge: bridge.name,
        },
    );
    Ok(())
}

/// `--may-exist` demands that what exists is what is asked for.
fn check_existing(
    ctx: &mut Ctx<'_>,
    inv: &Inv,
    name: &str,
    port: &PortInfo,
    ifaces: &[String],
) -> Outcome {
    let command = as_given(inv);
    if port.bridge != inv.arg(1) {
        return Err(format!(
            "\"{command}\" but {name} is actually attached to bridge {}",
            port.bridge
        )
        .into());
    }
    let mut wanted: Vec<&String> = ifaces.iter().collect();
    wanted.sort();
    let have: Vec<&String> = ctx
        .ext
        .ifaces
        .iter()
        .filter(|(_, i)| i.port == name)
        .map(|(n, _)| n)
        .collect();
    if wanted != have {
        let have: Vec<&str> = have.into_iter().map(String::as_str).collect();
        return Err(format!(
            "\"{command}\" but {name} actually has interface(s) {}",
            have.join(", ")
        )
        .into());
    }
    Ok(())
}

fn del_port(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    let must_exist = !inv.has("--if-exists");
    let with_iface = inv.has("--with-iface");
    let target = inv.argv[inv.argv.len() - 1].clone();
    let name = match ctx.ext.ports.contains_key(&target) {
        true => Some(target.clone()),
        false if with_iface => ctx.ext.ifaces.get(&target).map(|i| i.port.clone()),
        false => None,
    };
    if name.is_none() && must_exist && ctx.ext.bridges.contains_key(&target) {
        return Err(format!(
            "cannot delete port {target} because it is the local port for bridge {target} \
             (deleting this port requires deleting the entire bridge)"
        )
        .into());
    }
    if inv.argv.len() == 3 && (name.is_some() || must_exist) {
        let bridge = find_bridge(ctx, inv.arg(1))?;
        if let Some(port) = name.as_ref().and_then(|n| ctx.ext.ports.get(n))
            && port.bridge != bridge.name
        {
            let parent = ctx
                .ext
                .bridges
                .get(&port.bridge)
                .and_then(|b| b.fake.as_ref());
            let hint = match parent {
                Some((parent, ..)) if *parent == bridge.name => {
                    format!(" (although its child bridge {} does)", port.bridge)
                }
                _ => String::new(),
            };
            return Err(
                format!("bridge {} does not have a port {target}{hint}", bridge.name).into(),
            );
        }
    }
    match name {
        Some(name) => delete_port(ctx, &name),
        None if must_exist => {
            let what = if with_iface {
                "port or interface"
            } else {
                "port"
            };
            return Err(format!("no {what} named {target}").into());
        }
        None => {}
    }
    Ok(())
}

fn add_bond_iface(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    let (port_name, name) = (inv.arg(1).to_string(), inv.arg(2).to_string());
    let port = find_port(ctx, &port_name)?;
    if inv.has("--may-exist")
        && let Some(iface) = ctx.ext.ifaces.get(&name)
    {
        if iface.port != port_name {
            return Err(format!(
                "\"{}\" but {name} is actually attached to port {}",
                as_given(inv),
                iface.port
            )
            .into());
        }
        return Ok(());
    }
    check_conflicts(
        ctx,
        &name,
        &format!("cannot create an interface named {name}"),
    )?;
    let row = insert_iface(ctx, &name);
    add_refs(ctx, port.row, Port::INTERFACES, &reference(row));
    ctx.ext.ifaces.insert(
        name,
        IfaceInfo {
            row,
            port: port_name,
        },
    );
    Ok(())
}

fn del_bond_iface(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx)?;
    let name = inv.argv[inv.argv.len() - 1].clone();
    let Some(iface) = ctx.ext.ifaces.get(&name).cloned() else {
        if inv.has("--if-exists") {
            return Ok(());
        }
        return Err(format!("no interface named {name}").into());
    };
    let bond = match inv.argv.len() {
        3 => {
            let bond = inv.arg(1).to_string();
            find_port(ctx, &bond)?;
            Some(bond)
        }
        _ => None,
    };
    if let Some(bond) = bond.filter(|bond| *bond != iface.port) {
        return Err(format!("port {bond} does not have an interface {name}").into());
    }
    let of_port = ctx
        .ext
        .ifaces
        .values()
        .filter(|i| i.port == iface.port)
        .count();
    if of_port <= 1 {
        return Err(format!("cannot delete last interface from port {}", iface.port).into());
    }
    let port = find_port(ctx, &iface.port)?;
    remove_refs(ctx, port.row, Port::INTERFACES, &reference(iface.row));
    ctx.txn.delete::<Interface>(iface.row);
    ctx.ext.ifaces.remove(&name);
    Ok(())
}
