//! Auto-attach: mappings of I-SIDs to VLANs.

use super::switch::{find_bridge, prepare};
use super::{Cmd, Ctx, Inv, command};
use crate::dbctl::{Fail, Outcome, Prepare};
use ferrovs_idl::Uuid;
use ferrovs_idl::open_vswitch::{AutoAttach, Bridge};
use std::collections::BTreeMap;

pub(super) const COMMANDS: &[Cmd] = &[
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

fn mappings(ctx: &Ctx<'_>, row: Uuid) -> BTreeMap<i64, i64> {
    ctx.view().read(row, AutoAttach::MAPPINGS).iter().collect()
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
    let mut mappings: BTreeMap<i64, i64> = mappings(ctx, row);
    // A mapping that is there stays.
    mappings.entry(isid).or_insert(vlan);
    ctx.txn.set(row, AutoAttach::MAPPINGS, mappings);
    Ok(())
}

fn del_aa_mapping(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let (isid, vlan) = (number(inv.arg(2))?, number(inv.arg(3))?);
    let bridge = find_bridge(ctx, inv.arg(1))?;
    if let Some(row) = ctx.view().read(bridge.row, Bridge::AUTO_ATTACH) {
        let mut mappings = mappings(ctx, row);
        mappings.retain(|&i, &mut v| (i, v) != (isid, vlan));
        ctx.txn.set(row, AutoAttach::MAPPINGS, mappings);
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
