//! Conntrack zones of a datapath: timeout policies and limits; datapath capabilities.

use super::{Cmd, Ctx, Inv};
use crate::dbctl::{Fail, MANY, Outcome, Prepare, leading_number, leading_number_any_base};
use ferrovs_idl::open_vswitch::{CtTimeoutPolicy, CtZone, Datapath, OpenVSwitch};
use ferrovs_idl::{Datum, Table, Uuid};
use ferrovs_ovsdb::Atom;
use std::collections::BTreeMap;

/// A command that [`prepare`] serves.
const fn command(
    name: &'static str,
    args: (usize, usize),
    usage: &'static str,
    options: &'static [&'static str],
    run: fn(&mut Ctx<'_>, &mut Inv) -> Outcome,
    writes: bool,
) -> Cmd {
    super::command(name, args, usage, options, prepare, run, writes)
}

pub(super) const COMMANDS: &[Cmd] = &[
    command(
        "add-zone-tp",
        (3, MANY),
        "",
        &["--may-exist"],
        add_zone_tp,
        true,
    ),
    command(
        "del-zone-tp",
        (2, 2),
        "",
        &["--if-exists"],
        del_zone_tp,
        true,
    ),
    command("list-zone-tp", (1, 1), "", &[], list_zone_tp, false),
    command("set-zone-limit", (3, 3), "", &[], set_zone_limit, true),
    command(
        "del-zone-limit",
        (2, 2),
        "",
        &["--if-exists"],
        del_zone_limit,
        true,
    ),
    command("list-zone-limits", (1, 1), "", &[], list_zone_limits, false),
    command("list-dp-cap", (1, 1), "", &[], list_dp_cap, false),
];

fn prepare(p: &mut Prepare<'_>, inv: &Inv) -> Outcome {
    p.need("Open_vSwitch", &["datapaths"]);
    if inv.arg(0) == "list-dp-cap" {
        p.need("Datapath", &["capabilities"]);
        return Ok(());
    }
    p.need("Datapath", &["ct_zones"]);
    p.need("CT_Zone", &["timeout_policy"]);
    p.need("CT_Timeout_Policy", &["timeouts"]);
    if inv.arg(0).contains("limit") {
        p.need("Datapath", &["ct_zone_default_limit"]);
        p.need("CT_Zone", &["limit"]);
    } else if inv.arg(0) == "del-zone-tp" {
        // A zone with a limit outlives its policy; servers of before limits have none.
        p.need("CT_Zone", &[]);
    }
    Ok(())
}

fn find_datapath(ctx: &Ctx<'_>, name: &str) -> Option<Uuid> {
    ctx.view()
        .read(ctx.ext.root, OpenVSwitch::DATAPATHS)
        .get(name)
}

fn require_datapath(ctx: &Ctx<'_>, name: &str) -> Result<Uuid, Fail> {
    find_datapath(ctx, name).ok_or_else(|| format!("datapath {name} does not exist").into())
}

/// "zone=N", whatever follows the number.
fn zone_of_policy(text: &str) -> Result<i64, Fail> {
    let number = text.strip_prefix("zone=").map(str::trim_start);
    let digits = number.map(|n| n.strip_prefix(['-', '+']).unwrap_or(n));
    match (number, digits) {
        (Some(number), Some(digits)) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
            Ok(leading_number_any_base(number))
        }
        _ => Err(format!("invalid zone_id (\"{text}\")").into()),
    }
}

/// "zone=N", or N alone.
fn zone_number(text: &str) -> Result<i64, Fail> {
    let digits = text.strip_prefix("zone=").unwrap_or(text);
    match digits.parse::<i64>() {
        Ok(zone) => Ok(zone),
        Err(_) => Err(format!("invalid zone_id (\"{text}\")").into()),
    }
}

fn zones(ctx: &Ctx<'_>, datapath: Uuid) -> BTreeMap<i64, Uuid> {
    ctx.view()
        .read(datapath, Datapath::CT_ZONES)
        .iter()
        .collect()
}

fn put_zone(ctx: &mut Ctx<'_>, datapath: Uuid, zone: i64, row: Uuid) {
    let pair = Datum::from_pairs(vec![(Atom::Integer(zone), Atom::Uuid(row))]);
    ctx.txn.put(
        ctx.idl,
        Datapath::INDEX,
        datapath,
        Datapath::CT_ZONES.index(),
        &pair,
    );
}

fn drop_zone(ctx: &mut Ctx<'_>, datapath: Uuid, zone: i64, row: Uuid) {
    let key = Datum::from(Atom::Integer(zone));
    ctx.txn.remove(
        ctx.idl,
        Datapath::INDEX,
        datapath,
        Datapath::CT_ZONES.index(),
        &key,
    );
    ctx.txn.delete::<CtZone>(row);
}

fn add_zone_tp(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let zone = zone_of_policy(inv.arg(2))?;
    let existing = zones(ctx, datapath).get(&zone).copied();
    let policy_of = |ctx: &Ctx<'_>, row| ctx.view().read(row, CtZone::TIMEOUT_POLICY);
    if existing.is_some_and(|row| policy_of(ctx, row).is_some()) && !inv.has("--may-exist") {
        return Err(format!("zone id {zone} already exists").into());
    }
    let mut timeouts: BTreeMap<&str, i64> = BTreeMap::new();
    for arg in &inv.argv[3..] {
        let (key, value) = arg.split_once('=').unwrap_or((arg, ""));
        // The number is as wide as C's int; of several for one state the smallest counts.
        let value = i64::from(leading_number(value) as i32);
        let least = timeouts.entry(key).or_insert(value);
        *least = value.min(*least);
    }
    let policy = ctx.txn.insert::<CtTimeoutPolicy>();
    ctx.txn.set(policy, CtTimeoutPolicy::TIMEOUTS, timeouts);
    let row = match existing {
        Some(row) => row,
        None => {
            let row = ctx.txn.insert::<CtZone>();
            put_zone(ctx, datapath, zone, row);
            row
        }
    };
    ctx.txn.set(row, CtZone::TIMEOUT_POLICY, Some(policy));
    Ok(())
}

fn del_zone_tp(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let zone = zone_of_policy(inv.arg(2))?;
    let row = zones(ctx, datapath).get(&zone).copied();
    match row {
        None if inv.has("--if-exists") => {}
        None => return Err(format!("zone id {zone} does not exist").into()),
        Some(row) if ctx.view().read(row, CtZone::LIMIT).is_some() => {
            ctx.txn.set(row, CtZone::TIMEOUT_POLICY, None::<Uuid>);
        }
        Some(row) => drop_zone(ctx, datapath, zone, row),
    }
    Ok(())
}

fn list_zone_tp(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1);
    let Some(datapath) = find_datapath(ctx, name) else {
        return Err(format!("datapath: {name} record not found").into());
    };
    for (zone, row) in zones(ctx, datapath) {
        let policy = ctx.view().read(row, CtZone::TIMEOUT_POLICY);
        let timeouts: Vec<String> = policy
            .map(|policy| {
                let timeouts = ctx.view().read(policy, CtTimeoutPolicy::TIMEOUTS);
                timeouts.iter().map(|(k, v)| format!("{k}={v}")).collect()
            })
            .unwrap_or_default();
        let timeouts = match timeouts.is_empty() {
            true => "system default".to_string(),
            false => timeouts.join(" "),
        };
        inv.say(format_args!("Zone:{zone}, Timeout Policies: {timeouts}"));
    }
    Ok(())
}

fn set_zone_limit(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let limit: i64 = inv
        .arg(3)
        .parse()
        .map_err(|_| Fail::from(format!("invalid limit (\"{}\")", inv.arg(3))))?;
    if inv.arg(2) == "default" {
        ctx.txn
            .set(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT, Some(limit));
        return Ok(());
    }
    let zone = zone_number(inv.arg(2))?;
    let row = match zones(ctx, datapath).get(&zone) {
        Some(&row) => row,
        None => {
            let row = ctx.txn.insert::<CtZone>();
            put_zone(ctx, datapath, zone, row);
            row
        }
    };
    ctx.txn.set(row, CtZone::LIMIT, Some(limit));
    Ok(())
}

fn del_zone_limit(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let must_exist = !inv.has("--if-exists");
    if inv.arg(2) == "default" {
        if must_exist
            && ctx
                .view()
                .read(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT)
                .is_none()
        {
            return Err(format!("datapath {} does not have a limit", inv.arg(1)).into());
        }
        ctx.txn
            .set(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT, None::<i64>);
        return Ok(());
    }
    let zone = zone_number(inv.arg(2))?;
    let row = zones(ctx, datapath).get(&zone).copied();
    let Some(row) = row.filter(|&row| ctx.view().read(row, CtZone::LIMIT).is_some()) else {
        return match must_exist {
            true => Err(format!("zone_id {zone} does not have a limit").into()),
            false => Ok(()),
        };
    };
    match ctx.view().read(row, CtZone::TIMEOUT_POLICY) {
        Some(_) => ctx.txn.set(row, CtZone::LIMIT, None::<i64>),
        None => drop_zone(ctx, datapath, zone, row),
    }
    Ok(())
}

fn list_zone_limits(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1);
    let Some(datapath) = find_datapath(ctx, name) else {
        return Err(format!("datapath {name} record not found").into());
    };
    if let Some(limit) = ctx.view().read(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT) {
        inv.say(format_args!("zone=default, limit={limit}"));
    }
    for (zone, row) in zones(ctx, datapath) {
        if let Some(limit) = ctx.view().read(row, CtZone::LIMIT) {
            inv.say(format_args!("zone={zone}, limit={limit}"));
        }
    }
    Ok(())
}

fn list_dp_cap(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    let name = inv.arg(1);
    let Some(datapath) = find_datapath(ctx, name) else {
        return Err(format!("datapath \"{name}\" record not found").into());
    };
    let capabilities: Vec<String> = ctx
        .view()
        .read(datapath, Datapath::CAPABILITIES)
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    inv.say(capabilities.join(" "));
    Ok(())
}
