//! Controllers, fail mode, managers, TLS and auto-attach.

use super::bridge::leading_number;
use super::switch::{find_bridge, find_real_bridge, prepare};
use super::{Ctx, Inv};
use crate::dbctl::{Command, Fail, MANY, Outcome, Prepare};
use ferrovs_idl::open_vswitch::{AutoAttach, Bridge, Controller, Manager, OpenVSwitch, Ssl};
use ferrovs_idl::{Datum, Table, Uuid};
use ferrovs_ovsdb::Atom;
use ferrovs_runtime::vlog::{self, modules};

type Cmd = Command<super::Switch>;

const fn command(
    name: &'static str,
    args: (usize, usize),
    usage: &'static str,
    options: &'static [&'static str],
    prepare: fn(&mut Prepare<'_>, &Inv) -> Outcome,
    run: fn(&mut Ctx<'_>, &mut Inv) -> Outcome,
    writes: bool,
) -> Cmd {
    Command {
        name,
        min_args: args.0,
        max_args: args.1,
        usage,
        options,
        prepare,
        run,
        finish: None,
        writes,
    }
}

const PROBE: &[&str] = &["--inactivity-probe="];

pub(super) const COMMANDS: &[Cmd] = &[
    command(
        "get-controller",
        (1, 1),
        "!BRIDGE",
        &[],
        need_controllers,
        get_controller,
        false,
    ),
    command(
        "del-controller",
        (1, 1),
        "!BRIDGE",
        &[],
        need_controllers,
        del_controller,
        true,
    ),
    command(
        "set-controller",
        (1, MANY),
        "!BRIDGE +TARGET",
        PROBE,
        need_controllers,
        set_controller,
        true,
    ),
    command(
        "get-fail-mode",
        (1, 1),
        "!BRIDGE",
        &[],
        prepare,
        get_fail_mode,
        false,
    ),
    command(
        "del-fail-mode",
        (1, 1),
        "!BRIDGE",
        &[],
        prepare,
        del_fail_mode,
        true,
    ),
    command(
        "set-fail-mode",
        (2, 2),
        "!BRIDGE !MODE",
        &[],
        prepare,
        set_fail_mode,
        true,
    ),
    command(
        "get-manager",
        (0, 0),
        "",
        &[],
        need_managers,
        get_manager,
        false,
    ),
    command(
        "del-manager",
        (0, 0),
        "",
        &[],
        need_managers,
        del_manager,
        true,
    ),
    command(
        "set-manager",
        (1, MANY),
        "+TARGET",
        PROBE,
        need_managers,
        set_manager,
        true,
    ),
    command("get-ssl", (0, 0), "", &[], need_ssl, get_ssl, false),
    command("del-ssl", (0, 0), "", &[], need_ssl, del_ssl, true),
    command(
        "set-ssl",
        (3, 3),
        "!PRIVATE-KEY !CERTIFICATE !CA-CERT",
        &["--bootstrap"],
        need_ssl,
        set_ssl,
        true,
    ),
    command(
        "add-aa-mapping",
        (3, 3),
        "!BRIDGE !ARG !ARG",
        &[],
        need_aa,
        add_aa_mapping,
        true,
    ),
    command(
        "del-aa-mapping",
        (3, 3),
        "!BRIDGE !ARG !ARG",
        &[],
        need_aa,
        del_aa_mapping,
        true,
    ),
    command(
        "get-aa-mapping",
        (1, 1),
        "!BRIDGE",
        &[],
        need_aa,
        get_aa_mapping,
        false,
    ),
];

fn need_controllers(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    prepare(p, inv)?;
    p.need("Controller", &["target", "inactivity_probe"]);
    Ok(())
}

fn controllers(ctx: &mut Ctx<'_>, name: &str) -> Result<(Uuid, Vec<Uuid>), Fail> {
    let bridge = find_real_bridge(ctx, name)?;
    let rows = ctx
        .view()
        .read(bridge.row, Bridge::CONTROLLER)
        .iter()
        .collect();
    Ok((bridge.row, rows))
}

fn get_controller(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (_, rows) = controllers(ctx, inv.arg(1))?;
    let mut targets: Vec<&str> = rows
        .iter()
        .map(|&row| ctx.view().read(row, Controller::TARGET))
        .collect();
    targets.sort_unstable();
    for target in targets {
        inv.say(target);
    }
    Ok(())
}

fn del_controller(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (bridge, rows) = controllers(ctx, inv.arg(1))?;
    if !rows.is_empty() {
        for row in rows {
            ctx.txn.delete::<Controller>(row);
        }
        ctx.txn.write(
            Bridge::INDEX,
            bridge,
            Bridge::CONTROLLER.index(),
            Datum::Empty,
        );
    }
    Ok(())
}

/// Warns of a target that no connection method knows.
fn check_target(target: &str) {
    let class = target.split(':').next().unwrap_or_default();
    let known = ["pssl", "ptcp", "punix", "ssl", "tcp", "unix"];
    if !target.contains(':') || !known.contains(&class) {
        vlog::warn!(
            modules::VSCTL,
            "target type \"{class}\" is possibly erroneous"
        );
    }
}

fn set_controller(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let probe = inv.option("--inactivity-probe").map(leading_number);
    del_controller(ctx, inv)?;
    let bridge = find_real_bridge(ctx, inv.arg(1))?;
    let mut rows = Vec::new();
    for target in &inv.argv[2..] {
        check_target(target);
        let row = ctx.txn.insert::<Controller>();
        ctx.txn.set(row, Controller::TARGET, target);
        if let Some(probe) = probe {
            ctx.txn.set(row, Controller::INACTIVITY_PROBE, Some(probe));
        }
        rows.push(row);
    }
    ctx.txn.set(bridge.row, Bridge::CONTROLLER, rows);
    Ok(())
}

fn get_fail_mode(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_real_bridge(ctx, inv.arg(1))?;
    if let Some(mode) = ctx
        .view()
        .read(bridge.row, Bridge::FAIL_MODE)
        .filter(|m| !m.is_empty())
    {
        inv.say(mode);
    }
    Ok(())
}

fn del_fail_mode(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_real_bridge(ctx, inv.arg(1))?;
    ctx.txn.set(bridge.row, Bridge::FAIL_MODE, None::<&str>);
    Ok(())
}

fn set_fail_mode(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_real_bridge(ctx, inv.arg(1))?;
    let mode = inv.arg(2);
    if !matches!(mode, "standalone" | "secure") {
        return Err("fail-mode must be \"standalone\" or \"secure\"".into());
    }
    ctx.txn.set(bridge.row, Bridge::FAIL_MODE, Some(mode));
    Ok(())
}

fn need_managers(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    p.need("Open_vSwitch", &["manager_options"]);
    p.need("Manager", &["target", "inactivity_probe"]);
    Ok(())
}

fn managers(ctx: &Ctx<'_>) -> Vec<Uuid> {
    ctx.view()
        .read(ctx.ext.root, OpenVSwitch::MANAGER_OPTIONS)
        .iter()
        .collect()
}

fn get_manager(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let mut targets: Vec<&str> = managers(ctx)
        .iter()
        .map(|&row| ctx.view().read(row, Manager::TARGET))
        .collect();
    targets.sort_unstable();
    for target in targets {
        inv.say(target);
    }
    Ok(())
}

fn del_manager(ctx: &mut Ctx<'_>, _: &mut Inv) -> Outcome {
    let root = ctx.ext.root;
    ctx.txn.verify(ctx.idl, root, OpenVSwitch::MANAGER_OPTIONS);
    for row in managers(ctx) {
        ctx.txn.delete::<Manager>(row);
    }
    let column = OpenVSwitch::MANAGER_OPTIONS.index();
    ctx.txn
        .write(OpenVSwitch::INDEX, root, column, Datum::Empty);
    Ok(())
}

fn set_manager(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let probe = inv.option("--inactivity-probe").map(leading_number);
    del_manager(ctx, inv)?;
    let mut rows = Vec::new();
    for target in &inv.argv[1..] {
        check_target(target);
        let row = ctx.txn.insert::<Manager>();
        ctx.txn.set(row, Manager::TARGET, target);
        if let Some(probe) = probe {
            ctx.txn.set(row, Manager::INACTIVITY_PROBE, Some(probe));
        }
        rows.push(row);
    }
    ctx.txn
        .set(ctx.ext.root, OpenVSwitch::MANAGER_OPTIONS, rows);
    Ok(())
}

fn need_ssl(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    p.need("Open_vSwitch", &["ssl"]);
    p.need(
        "SSL",
        &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"],
    );
    Ok(())
}

fn get_ssl(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    ctx.txn.verify(ctx.idl, ctx.ext.root, OpenVSwitch::SSL);
    if let Some(row) = ctx.view().read(ctx.ext.root, OpenVSwitch::SSL) {
        let view = ctx.view();
        inv.say(format_args!(
            "Private key: {}",
            view.read(row, Ssl::PRIVATE_KEY)
        ));
        inv.say(format_args!(
            "Certificate: {}",
            view.read(row, Ssl::CERTIFICATE)
        ));
        inv.say(format_args!(
            "CA Certificate: {}",
            view.read(row, Ssl::CA_CERT)
        ));
        inv.say(format_args!(
            "Bootstrap: {}",
            view.read(row, Ssl::BOOTSTRAP_CA_CERT)
        ));
    }
    Ok(())
}

fn del_ssl(ctx: &mut Ctx<'_>, _: &mut Inv) -> Outcome {
    let root = ctx.ext.root;
    ctx.txn.verify(ctx.idl, root, OpenVSwitch::SSL);
    if let Some(row) = ctx.view().read(root, OpenVSwitch::SSL) {
        ctx.txn.delete::<Ssl>(row);
        ctx.txn.set(root, OpenVSwitch::SSL, None::<Uuid>);
    }
    Ok(())
}

fn set_ssl(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    del_ssl(ctx, inv)?;
    let row = ctx.txn.insert::<Ssl>();
    ctx.txn.set(row, Ssl::PRIVATE_KEY, inv.arg(1));
    ctx.txn.set(row, Ssl::CERTIFICATE, inv.arg(2));
    ctx.txn.set(row, Ssl::CA_CERT, inv.arg(3));
    ctx.txn
        .set(row, Ssl::BOOTSTRAP_CA_CERT, inv.has("--bootstrap"));
    ctx.txn.set(ctx.ext.root, OpenVSwitch::SSL, Some(row));
    Ok(())
}

fn need_aa(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    prepare(p, inv)?;
    p.need("Bridge", &["auto_attach"]);
    p.need("AutoAttach", &["mappings"]);
    Ok(())
}

fn number(text: &str) -> Result<i64, Fail> {
    text.parse()
        .map_err(|_| format!("Invalid argument {text}").into())
}

fn add_aa_mapping(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (isid, vlan) = (number(inv.arg(2))?, number(inv.arg(3))?);
    let bridge = find_bridge(ctx, inv.arg(1))?;
    let row = match ctx.view().read(bridge.row, Bridge::AUTO_ATTACH) {
        Some(row) => row,
        None => {
            let row = ctx.txn.insert::<AutoAttach>();
            ctx.txn.set(bridge.row, Bridge::AUTO_ATTACH, Some(row));
            row
        }
    };
    let pair = Datum::from_pairs(vec![(Atom::Integer(isid), Atom::Integer(vlan))]);
    ctx.txn.put(
        ctx.idl,
        AutoAttach::INDEX,
        row,
        AutoAttach::MAPPINGS.index(),
        &pair,
    );
    Ok(())
}

fn del_aa_mapping(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (isid, vlan) = (number(inv.arg(2))?, number(inv.arg(3))?);
    let bridge = find_bridge(ctx, inv.arg(1))?;
    if let Some(row) = ctx.view().read(bridge.row, Bridge::AUTO_ATTACH) {
        let pair = Datum::from_pairs(vec![(Atom::Integer(isid), Atom::Integer(vlan))]);
        ctx.txn.remove(
            ctx.idl,
            AutoAttach::INDEX,
            row,
            AutoAttach::MAPPINGS.index(),
            &pair,
        );
    }
    Ok(())
}

fn get_aa_mapping(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let bridge = find_bridge(ctx, inv.arg(1))?;
    if let Some(row) = ctx.view().read(bridge.row, Bridge::AUTO_ATTACH) {
        for (isid, vlan) in ctx.view().read(row, AutoAttach::MAPPINGS).iter() {
            inv.say(format_args!("{isid} {vlan}"));
        }
    }
    Ok(())
}
