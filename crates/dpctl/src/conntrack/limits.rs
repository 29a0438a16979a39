//! How many connections zones may have.

use std::fmt::Write;

use ferrovs_datapath::conntrack::Conntrack;
use ferrovs_datapath::dpif::Errno;

use super::on_datapath;
use crate::Context;

/// Zones behind `zone=`, with commas between them.
fn zones(text: &str) -> Option<Vec<u16>> {
    let numbers = text.split(',').filter(|t| !t.is_empty());
    numbers.map(|n| number(n).map(|n| n as u16)).collect()
}

/// A number as the C library reads it: one that is too large loses its upper bits.
fn number(text: &str) -> Option<u32> {
    text.parse::<u64>().ok().map(|n| n as u32)
}

/// How many of the arguments come before the first that is about limits.
fn own(args: &[&str]) -> usize {
    let about = |a: &&&str| a.starts_with("zone=") || a.starts_with("default");
    args.iter().take_while(|a| !about(a)).count()
}

/// Sets a limit of zones: `zone=N,limit=L`.
fn zone_limit(text: &str) -> Result<(u16, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let place = match name {
            "zone" => &mut zone,
            "limit" => &mut limit,
            _ => return Err(format!("invalid zone limit field: {name}")),
        };
        let value = number(value).filter(|n| name != "zone" || *n <= u16::MAX.into());
        *place = Some(value.ok_or_else(|| format!("failed to parse field {name}"))?);
    }
    match (zone, limit) {
        (Some(zone), Some(limit)) => Ok((zone as u16, limit)),
        _ => Err("failed to parse zone limit".to_owned()),
    }
}

/// Whether the limits are the database's, which is an error then.
fn is_protected(cx: &mut Context<'_>, conntrack: &dyn Conntrack, verb: &str) -> bool {
    let is = conntrack.limits_are_protected();
    if is {
        let message = format!(
            "the zone limits are set via database, use 'ovs-vsctl {verb}-zone-limit <...>' instead."
        );
        cx.error(&message, Some(Errno::EPERM));
    }
    is
}

pub fn set_limits(cx: &mut Context<'_>, args: &[&str]) {
    let (names, mut rest) = args.split_at(own(args));
    let mut wanted = Vec::new();
    if let Some(limit) = rest.first().and_then(|a| a.strip_prefix("default=")) {
        let Some(limit) = number(limit) else {
            return cx.error("invalid default limit", Some(Errno::EINVAL));
        };
        wanted.push((None, limit));
        rest = &rest[1..];
    }
    for text in rest {
        match zone_limit(text) {
            Ok((zone, limit)) => wanted.push((Some(zone), limit)),
            Err(message) => return cx.error(&message, Some(Errno::EINVAL)),
        }
    }
    let message = "failed to set conntrack limit";
    on_datapath(cx, names, 1, message, |cx, _, conntrack| {
        if is_protected(cx, conntrack, "set") {
            return;
        }
        for (zone, limit) in wanted {
            conntrack.set_limit(zone, limit);
        }
    });
}

pub fn del_limits(cx: &mut Context<'_>, args: &[&str]) {
    let (names, rest) = args.split_at(own(args));
    let mut wanted = Vec::new();
    for text in rest {
        match (*text, text.strip_prefix("zone=").map(zones)) {
            ("default", _) => wanted.push(None),
            (_, Some(Some(zones))) => wanted.extend(zones.into_iter().map(Some)),
            (_, Some(None)) => return cx.error("invalid zone", Some(Errno::EINVAL)),
            (other, None) => {
                return cx.error(&format!("invalid argument {other}"), Some(Errno::EINVAL));
            }
        }
    }
    if let Some(unknown) = names.iter().find(|n| !n.contains('@')) {
        return cx.error(&format!("invalid argument {unknown}"), Some(Errno::EINVAL));
    }
    let message = "failed to delete conntrack limit";
    on_datapath(cx, names, 1, message, |cx, _, conntrack| {
        if is_protected(cx, conntrack, "del") {
            return;
        }
        for zone in wanted {
            conntrack.delete_limit(zone);
        }
    });
}

pub fn limits(cx: &mut Context<'_>, args: &[&str]) {
    let (names, rest) = args.split_at(own(args));
    let mut wanted = Vec::new();
    for text in rest {
        match text.strip_prefix("zone=").map(zones) {
            Some(Some(zones)) => wanted.extend(zones.into_iter().map(Some)),
            _ => return cx.error("invalid zone", Some(Errno::EINVAL)),
        }
    }
    if let Some(unknown) = names.iter().find(|n| !n.contains('@')) {
        return cx.error(&format!("invalid argument {unknown}"), Some(Errno::EINVAL));
    }
    if wanted.is_empty() {
        wanted.push(None);
    }
    let message = "failed to get conntrack limit";
    on_datapath(cx, names, 1, message, |cx, _, conntrack| {
        _ = writeln!(cx.out, "default limit={}", conntrack.default_limit());
        for zone in wanted {
            for l in conntrack.limits(zone) {
                let (zone, limit, count) = (l.zone, l.limit, l.count);
                _ = writeln!(cx.out, "zone={zone},limit={limit},count={count}");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_field_by_field() {
        assert_eq!(zone_limit("zone=1,limit=5"), Ok((1, 5)));
        for (text, message) in [
            ("zone=1", "failed to parse zone limit"),
            ("zone=x", "failed to parse field zone"),
            ("zone=70000,limit=3", "failed to parse field zone"),
            ("zone=1,limit=x", "failed to parse field limit"),
            ("default=2", "invalid zone limit field: default"),
            ("zone=1,foo=2", "invalid zone limit field: foo"),
        ] {
            assert_eq!(zone_limit(text), Err(message.to_owned()));
        }
        assert_eq!(zones("70000,2"), Some(vec![4464, 2]));
        assert_eq!((zones(""), zones("1,x")), (Some(vec![]), None));
    }
}
