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
    command(
        "set-zone-limit",
        (3, 3),
        "!ARG !ARG !ARG",
        &[],
        set_zone_limit,
        true,
    ),
    command(
        "del-zone-limit",
        (2, 2),
        "!ARG !ARG",
        &["--if-exists"],
        del_zone_limit,
        true,
    ),
    command(
        "list-zone-limits",
        (1, 1),
        "!ARG",
        &[],
        list_zone_limits,
        false,
    ),
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
        // A zone with a limit outlives its policy.
        p.need("CT_Zone", &["limit"]);
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

/// The number that `text` begins with, in the base that its prefix tells; None without digits. What
/// follows does not matter.
fn number(text: &str) -> Option<i64> {
    let digits = text.trim_start();
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let found = digits.starts_with(|c: char| c.is_ascii_digit());
    found.then(|| leading_number_any_base(text))
}

/// "zone=N".
fn zone_of_policy(text: &str) -> Result<i64, Fail> {
    text.strip_prefix("zone=")
        .and_then(number)
        .ok_or_else(|| format!("invalid zone argument, {text}").into())
}

/// N, or the datapath's default.
#[derive(Clone, Copy)]
enum Limited {
    Default,
    Zone(i64),
}

fn limited(text: &str) -> Result<Limited, Fail> {
    match (text, number(text)) {
        ("default", _) => Ok(Limited::Default),
        (_, Some(zone)) => Ok(Limited::Zone(zone)),
        (_, None) => Err(format!("invalid zone id, {text}").into()),
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
        return Err(format!("zone id {zone} already has a policy").into());
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
    let Some(row) = row.filter(|&row| ctx.view().read(row, CtZone::TIMEOUT_POLICY).is_some())
    else {
        return match inv.has("--if-exists") {
            true => Ok(()),
            // The number is told as the unsigned one that it is kept in.
            false => Err(format!("zone id {} does not have a policy", zone as u64).into()),
        };
    };
    match ctx.view().read(row, CtZone::LIMIT) {
        Some(_) => ctx.txn.set(row, CtZone::TIMEOUT_POLICY, None::<Uuid>),
        None => drop_zone(ctx, datapath, zone, row),
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
    let limited = limited(inv.arg(2))?;
    let Some(limit) = number(inv.arg(3)) else {
        return Err(format!("invalid limit, {}", inv.arg(3)).into());
    };
    if u32::try_from(limit).is_err() {
        return Err(format!("limit ({limit}) out of range").into());
    }
    let zone = match limited {
        Limited::Zone(zone) if u16::try_from(zone).is_err() => {
            return Err(format!("zone_id ({zone}) out of range").into());
        }
        Limited::Zone(zone) => Some(zone),
        Limited::Default => None,
    };
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let Some(zone) = zone else {
        ctx.txn
            .set(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT, Some(limit));
        return Ok(());
    };
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
    let limited = limited(inv.arg(2))?;
    let datapath = require_datapath(ctx, inv.arg(1))?;
    let must_exist = !inv.has("--if-exists");
    let Limited::Zone(zone) = limited else {
        let limit = ctx.view().read(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT);
        if must_exist && limit.is_none() {
            return Err(format!("datapath {} does not have a limit", inv.arg(1)).into());
        }
        ctx.txn
            .set(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT, None::<i64>);
        return Ok(());
    };
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
        return Err(format!("datapath: {name} record not found").into());
    };
    if let Some(limit) = ctx.view().read(datapath, Datapath::CT_ZONE_DEFAULT_LIMIT) {
        inv.say(format_args!("Default, Limit: {limit}"));
    }
    for (zone, row) in zones(ctx, datapath) {
        if let Some(limit) = ctx.view().read(row, CtZone::LIMIT) {
            inv.say(format_args!("Zone: {zone}, Limit: {limit}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_the_number_that_its_argument_begins_with() {
        let zone = |text| match limited(text) {
            Ok(Limited::Zone(zone)) => Ok(zone.to_string()),
            Ok(Limited::Default) => Ok("default".to_string()),
            Err(Fail::Fatal(text)) => Err(text),
            Err(_) => Err(String::new()),
        };
        for (text, number) in [
            ("6", "6"),
            (" 0x5y", "5"),
            ("-1", "-1"),
            ("default", "default"),
        ] {
            assert_eq!(zone(text), Ok(number.to_string()));
        }
        for text in ["w", "zone=7", "", "defaultx"] {
            assert_eq!(zone(text), Err(format!("invalid zone id, {text}")));
        }
        assert_eq!(zone_of_policy("zone=0x5y").ok(), Some(5));
        for text in ["5", "zone=", "zone=x"] {
            let Err(Fail::Fatal(error)) = zone_of_policy(text) else {
                panic!("{text} is taken");
            };
            assert_eq!(error, format!("invalid zone argument, {text}"));
        }
    }
}
