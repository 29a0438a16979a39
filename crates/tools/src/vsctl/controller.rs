//! Controllers and fail mode.

use super::switch::{find_bridge, find_real_bridge, prepare};
use super::{Cmd, Ctx, Inv, command};
use crate::dbctl::{Fail, MANY, Outcome, Prepare, check_target, leading_number};
use ferrovs_idl::open_vswitch::{Bridge, Controller};
use ferrovs_idl::{Datum, Table, Uuid};
use ferrovs_runtime::vlog::modules;

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
];

fn need_controllers(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    prepare(p, inv)?;
    p.need("Controller", &["target", "inactivity_probe"]);
    Ok(())
}

/// A bridge's row and its controllers; a fake bridge has those of its parent.
fn controllers(ctx: &mut Ctx<'_>, name: &str) -> Result<(Uuid, Vec<Uuid>), Fail> {
    let bridge = find_bridge(ctx, name)?;
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
    find_real_bridge(ctx, inv.arg(1))?;
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

fn set_controller(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let probe = inv.option("--inactivity-probe").map(leading_number);
    del_controller(ctx, inv)?;
    let bridge = find_real_bridge(ctx, inv.arg(1))?;
    let mut rows = Vec::new();
    for target in &inv.argv[2..] {
        check_target(&modules::VSCTL, target);
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
    let bridge = find_bridge(ctx, inv.arg(1))?;
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
