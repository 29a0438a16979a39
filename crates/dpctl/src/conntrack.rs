//! Connection tracking and reassembly.
//!
//! The datapaths here track no connections, and say of each command that it is not supported: an empty list would look
//! like a tracker without connections.

use super::Context;
use ferrovs_datapath::dpif::Errno;

/// As [`unsupported`], with arguments of the form `prefix=..` behind the datapath.
fn unsupported_with(cx: &mut Context<'_>, args: &[&str], prefix: &str, message: &str) {
    let is_value = |arg: &&&str| {
        let value = arg.strip_prefix(prefix);
        value.is_some_and(|v| v.parse::<u32>().is_ok())
    };
    let n = args.iter().rev().take_while(is_value).count();
    unsupported(cx, &args[..args.len() - n], 1, message);
}

/// Opens the datapath and says that what was asked is not supported.
fn unsupported(cx: &mut Context<'_>, args: &[&str], max: usize, message: &str) {
    if cx.datapath(args, max).is_some() {
        cx.error(message, Some(Errno::EOPNOTSUPP));
    }
}

pub fn dump(cx: &mut Context<'_>, args: &[&str]) {
    unsupported_with(cx, args, "zone=", "starting conntrack dump");
}

pub fn dump_expectations(cx: &mut Context<'_>, args: &[&str]) {
    unsupported_with(cx, args, "zone=", "starting conntrack dump");
}

pub fn flush(cx: &mut Context<'_>, args: &[&str]) {
    let zone = args.iter().find_map(|a| a.strip_prefix("zone="));
    if let Some(zone) = zone
        && zone.parse::<u16>().is_err()
    {
        return cx.error("failed to parse zone", Some(Errno::EINVAL));
    }
    let rest: Vec<&str> = args.iter().copied().filter(|a| !a.contains('=')).collect();
    unsupported(cx, &rest, 1, "failed to flush conntrack");
}

pub fn stats(cx: &mut Context<'_>, args: &[&str]) {
    unsupported_with(cx, args, "zone=", "starting conntrack dump");
}

pub fn buckets(cx: &mut Context<'_>, args: &[&str]) {
    unsupported_with(cx, args, "gt=", "starting conntrack dump");
}

pub fn set_maxconns(cx: &mut Context<'_>, args: &[&str]) {
    if args.last().is_none_or(|n| n.parse::<u32>().is_err()) {
        return cx.error("maxconns missing or malformed", Some(Errno::EINVAL));
    }
    unsupported(cx, args, 2, "ct set maxconns failed");
}

pub fn maxconns(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "maxconns could not be retrieved");
}

pub fn nconns(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "nconns could not be retrieved");
}

pub fn enable_seq_check(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "enabling TCP sequence checking failed");
}

pub fn disable_seq_check(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "disabling TCP sequence checking failed");
}

pub fn seq_check(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "get TCP sequence checking failed");
}

pub fn set_limits(cx: &mut Context<'_>, args: &[&str]) {
    let first = args.first().copied().unwrap_or_default();
    let own = usize::from(!first.contains('='));
    let Some(bad) = args[own..]
        .iter()
        .find(|a| !a.starts_with("default=") && !a.starts_with("zone="))
    else {
        return unsupported(cx, &args[..own], 1, "failed to set conntrack limit");
    };
    cx.error(&format!("invalid argument {bad}"), Some(Errno::EINVAL));
}

pub fn del_limits(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(
        cx,
        &args[..args.len() - 1],
        1,
        "failed to delete conntrack limit",
    );
}

pub fn limits(cx: &mut Context<'_>, args: &[&str]) {
    let own = args.iter().take_while(|a| !a.starts_with("zone=")).count();
    unsupported(cx, &args[..own], 1, "failed to get conntrack limit");
}

pub fn sweep_interval(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "failed to get sweep interval");
}

pub fn set_sweep_interval(cx: &mut Context<'_>, args: &[&str]) {
    if args.last().is_none_or(|n| n.parse::<u32>().is_err()) {
        return cx.error("invalid sweep value", Some(Errno::EINVAL));
    }
    unsupported(cx, args, 2, "failed to set sweep interval");
}

fn family(cx: &mut Context<'_>, args: &[&str], at: usize) -> bool {
    let ok = args.len() > at && matches!(args[args.len() - 1 - at], "v4" | "v6");
    if !ok {
        let message = "parameter missing: 'v4' for IPv4 or 'v6' for IPv6";
        cx.error(message, Some(Errno::EINVAL));
    }
    ok
}

pub fn ipf_enable(cx: &mut Context<'_>, args: &[&str]) {
    if family(cx, args, 0) {
        unsupported(cx, args, 2, "enabling fragmentation reassembly failed");
    }
}

pub fn ipf_disable(cx: &mut Context<'_>, args: &[&str]) {
    if family(cx, args, 0) {
        unsupported(cx, args, 2, "disabling fragmentation reassembly failed");
    }
}

pub fn ipf_min_frag(cx: &mut Context<'_>, args: &[&str]) {
    if family(cx, args, 1) {
        unsupported(cx, args, 3, "setting minimum fragment size failed");
    }
}

pub fn ipf_max_nfrags(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 2, "setting maximum fragments failed");
}

pub fn ipf_status(cx: &mut Context<'_>, args: &[&str]) {
    unsupported(cx, args, 1, "ipf status could not be retrieved");
}
