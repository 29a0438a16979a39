//! Logical switches and routers.

use super::model::{Logical, Vtep, command, find_logical, load};
use super::{Ctx, Inv};
use crate::dbctl::{Command, Fail, Outcome};
use ferrovs_idl::hardware_vtep::{LogicalRouter, LogicalSwitch};

pub(super) const COMMANDS: &[Command<Vtep>] = &[
    command("add-ls", (1, 1), &["--may-exist"], add_ls, true),
    command("del-ls", (1, 1), &["--if-exists"], del_ls, true),
    command("list-ls", (0, 0), &[], list_ls, false),
    command("ls-exists", (1, 1), &[], ls_exists, false),
    command("set-replication-mode", (2, 2), &[], set_mode, true),
    command("get-replication-mode", (1, 1), &[], mode, false),
    command("add-lr", (1, 1), &["--may-exist"], add_lr, true),
    command("del-lr", (1, 1), &["--if-exists"], del_lr, true),
    command("list-lr", (0, 0), &[], list_lr, false),
    command("lr-exists", (1, 1), &[], lr_exists, false),
];

fn add_ls(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1).to_string();
    load(ctx);
    if ctx.ext.logical.contains_key(&name) {
        return match inv.has("--may-exist") {
            true => Ok(()),
            false => {
                Err(format!("cannot create logical switch {name} because it already exists").into())
            }
        };
    }
    let row = ctx.txn.insert::<LogicalSwitch>();
    ctx.txn.set(row, LogicalSwitch::NAME, &name);
    ctx.ext.logical.insert(name, Logical::new(row));
    Ok(())
}

fn del_ls(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let found = find_logical(ctx, inv.arg(1));
    let row = match found {
        Err(_) if inv.has("--if-exists") => return Ok(()),
        found => found?,
    };
    ctx.txn.delete::<LogicalSwitch>(row);
    ctx.ext.logical.remove(inv.arg(1));
    Ok(())
}

fn list_ls(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    for name in ctx.ext.logical.keys() {
        inv.say(name);
    }
    Ok(())
}

fn ls_exists(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    match ctx.ext.logical.contains_key(inv.arg(1)) {
        true => Ok(()),
        false => Err(Fail::Exit(2)),
    }
}

fn set_mode(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let mode = inv.arg(2);
    if !["service_node", "source_node"].contains(&mode) {
        return Err("Replication mode must be 'service_node' or 'source_node'".into());
    }
    let row = find_logical(ctx, inv.arg(1))?;
    ctx.txn
        .set(row, LogicalSwitch::REPLICATION_MODE, Some(mode));
    Ok(())
}

fn mode(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let row = find_logical(ctx, inv.arg(1))?;
    let mode = ctx.view().read(row, LogicalSwitch::REPLICATION_MODE);
    // What Open vSwitch's program prints when there is none.
    inv.say(mode.unwrap_or("(null)"));
    Ok(())
}

fn add_lr(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1).to_string();
    load(ctx);
    if ctx.ext.routers.contains_key(&name) {
        return match inv.has("--may-exist") {
            true => Ok(()),
            false => {
                Err(format!("cannot create logical router {name} because it already exists").into())
            }
        };
    }
    let row = ctx.txn.insert::<LogicalRouter>();
    ctx.txn.set(row, LogicalRouter::NAME, &name);
    ctx.ext.routers.insert(name, row);
    Ok(())
}

fn del_lr(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    match ctx.ext.routers.remove(inv.arg(1)) {
        Some(row) => ctx.txn.delete::<LogicalRouter>(row),
        None if inv.has("--if-exists") => {}
        None => return Err(format!("no logical router named {}", inv.arg(1)).into()),
    }
    Ok(())
}

fn list_lr(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    for name in ctx.ext.routers.keys() {
        inv.say(name);
    }
    Ok(())
}

fn lr_exists(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    load(ctx);
    match ctx.ext.routers.contains_key(inv.arg(1)) {
        true => Ok(()),
        false => Err(Fail::Exit(2)),
    }
}
