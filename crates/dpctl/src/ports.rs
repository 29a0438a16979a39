//! Datapaths and their ports.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_packet::types::DpPort;

use super::Context;
use ferrovs_datapath::dpif::{Dpif, Errno, PortStats};
use ferrovs_datapath::offload::{self, Provides};

fn full_name(dp: &dyn Dpif) -> String {
    format!("{}@{}", dp.kind(), dp.name())
}

pub fn add_dp(cx: &mut Context<'_>, args: &[&str]) {
    if cx.open(args[0], false).is_ok() {
        return cx.error("add_dp", Some(Errno::EEXIST));
    }
    match cx.open(args[0], true) {
        Ok(_) if args.len() > 1 => add_if(cx, args),
        Ok(_) => {}
        Err(errno) => cx.error("add_dp", Some(errno)),
    }
}

fn open(cx: &mut Context<'_>, name: &str) -> Option<Arc<dyn Dpif>> {
    match cx.open(name, false) {
        Ok(dp) => Some(dp),
        Err(errno) => {
            cx.error("opening datapath", Some(errno));
            None
        }
    }
}

pub fn del_dp(cx: &mut Context<'_>, args: &[&str]) {
    if let Some(dp) = open(cx, args[0]) {
        dp.destroy();
    }
}

pub fn dump_dps(cx: &mut Context<'_>, _: &[&str]) {
    for name in cx.all() {
        _ = writeln!(cx.out, "{name}");
    }
    cx.fail_if_incomplete();
}

/// `name,type=..,port_no=..`, the other options as they are.
struct PortSpec<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    number: Option<&'a str>,
}

fn spec(text: &str) -> PortSpec<'_> {
    let mut parts = text.split(',');
    let mut spec = PortSpec {
        name: parts.next().unwrap_or_default(),
        kind: None,
        number: None,
    };
    for part in parts {
        match part.split_once('=') {
            Some(("type", kind)) => spec.kind = Some(kind),
            Some(("port_no", number)) => spec.number = Some(number),
            // Options of the device: the classes here take theirs from the database.
            _ => {}
        }
    }
    spec
}

pub fn add_if(cx: &mut Context<'_>, args: &[&str]) {
    let Some(dp) = open(cx, args[0]) else { return };
    for arg in &args[1..] {
        let spec = spec(arg);
        let wanted = spec.number.and_then(|n| n.parse().ok()).map(DpPort);
        let kind = spec.kind.unwrap_or("system");
        match dp.port_add(spec.name, kind, wanted) {
            Ok(_) => {}
            // No such class of devices, or no such device.
            Err(errno @ (Errno(97) | Errno::ENODEV)) => {
                let name = spec.name;
                cx.error(
                    &format!("{name}: failed to open network device"),
                    Some(errno),
                );
            }
            Err(errno) => {
                let message = format!("adding {} to {} failed", spec.name, args[0]);
                cx.error(&message, Some(errno));
            }
        }
    }
}

pub fn set_if(cx: &mut Context<'_>, args: &[&str]) {
    let Some(dp) = open(cx, args[0]) else { return };
    for arg in &args[1..] {
        let spec = spec(arg);
        let name = spec.name;
        let port = match dp.port_by_name(name) {
            Ok(port) => port,
            Err(errno) => {
                let message = format!("{name}: failed to query port in {}", args[0]);
                cx.error(&message, Some(errno));
                continue;
            }
        };
        if let Some(kind) = spec.kind
            && kind != port.kind
        {
            let from = &port.kind;
            cx.error(
                &format!("{name}: can't change type from {from} to {kind}"),
                None,
            );
        }
        if let Some(number) = spec.number
            && number.parse() != Ok(port.port.0)
        {
            let from = port.port.0;
            cx.error(
                &format!("{name}: can't change port number from {from} to {number}"),
                None,
            );
        }
    }
}

pub fn del_if(cx: &mut Context<'_>, args: &[&str]) {
    let Some(dp) = open(cx, args[0]) else { return };
    for arg in &args[1..] {
        let port = match arg.parse() {
            Ok(number) => DpPort(number),
            Err(_) => match dp.port_by_name(arg) {
                Ok(port) => port.port,
                Err(_) => {
                    cx.error(&format!("no port named {arg}"), None);
                    continue;
                }
            },
        };
        if let Err(errno) = dp.port_del(port) {
            // A number without a port is no device.
            let errno = if errno == Errno::ENOENT {
                Errno::ENODEV
            } else {
                errno
            };
            let message = format!("deleting port {arg} from {} failed", args[0]);
            cx.error(&message, Some(errno));
        }
    }
}

pub fn show(cx: &mut Context<'_>, args: &[&str]) {
    if args.is_empty() {
        for name in cx.all() {
            match cx.open(&name, false) {
                Ok(dp) => show_one(cx, &*dp),
                Err(errno) => cx.error(&format!("opening datapath {name} failed"), Some(errno)),
            }
        }
        cx.fail_if_incomplete();
        return;
    }
    for name in args {
        match cx.open(name, false) {
            Ok(dp) => show_one(cx, &*dp),
            Err(errno) => cx.error(&format!("opening datapath {name} failed"), Some(errno)),
        }
    }
}

fn show_one(cx: &mut Context<'_>, dp: &dyn Dpif) {
    let stats = dp.stats();
    let with_stats = cx.statistics;
    let out = &mut cx.out;
    _ = writeln!(out, "{}:", full_name(dp));
    _ = writeln!(
        out,
        "  lookups: hit:{} missed:{} lost:{}",
        stats.n_hit, stats.n_missed, stats.n_lost
    );
    _ = writeln!(out, "  flows: {}", stats.n_flows);
    for port in dp.ports() {
        _ = write!(out, "  port {}: {}", port.port.0, port.name);
        if port.kind != "system" {
            _ = write!(out, " ({}", port.kind);
            for (i, (key, value)) in port.config.iter().enumerate() {
                _ = write!(out, "{} {key}={value}", if i == 0 { ":" } else { "," });
            }
            out.push(')');
        }
        out.push('\n');
        if with_stats {
            match dp.port_stats(port.port) {
                Ok(stats) => show_stats(out, &stats),
                Err(errno) => {
                    _ = write!(out, ", could not retrieve stats ({errno})");
                }
            }
        }
    }
}

fn number(out: &mut String, label: &str, value: Option<u64>) {
    _ = match value {
        Some(value) => write!(out, "{label}{value}"),
        None => write!(out, "{label}?"),
    };
}

fn human_size(out: &mut String, value: Option<u64>) {
    let Some(value) = value else { return };
    for (power, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if value >= 1 << power {
            _ = write!(
                out,
                " ({:.1} {unit})",
                value as f64 / (1u64 << power) as f64
            );
            return;
        }
    }
}

fn show_stats(out: &mut String, s: &PortStats) {
    number(out, "    RX packets:", s.rx_packets);
    number(out, " errors:", s.rx_errors);
    number(out, " dropped:", s.rx_dropped);
    number(out, " overruns:", s.rx_over_errors);
    number(out, " frame:", s.rx_frame_errors);
    number(out, "\n    TX packets:", s.tx_packets);
    number(out, " errors:", s.tx_errors);
    number(out, " dropped:", s.tx_dropped);
    number(out, " aborted:", s.tx_aborted_errors);
    number(out, " carrier:", s.tx_carrier_errors);
    number(out, "\n    collisions:", s.collisions);
    number(out, "\n    RX bytes:", s.rx_bytes);
    human_size(out, s.rx_bytes);
    number(out, "  TX bytes:", s.tx_bytes);
    human_size(out, s.tx_bytes);
    // No datapath here counts them by port.
    number(out, "\n    UPCALL packets:", None);
    number(out, " errors:", None);
    out.push('\n');
}

pub fn offload_stats(cx: &mut Context<'_>, args: &[&str]) {
    let Some((dp, _)) = cx.datapath(args, 1) else {
        return;
    };
    cx.out.push_str("HW Offload stats:\n");
    if !offload::is_enabled() {
        return;
    }
    let providers = dp.offload().map(|o| o.providers()).unwrap_or_default();
    for Provides { kind, ports } in providers {
        let name = full_name(&*dp);
        _ = writeln!(
            cx.out,
            "  {kind}[{name}]:\n    Offloaded port count: {:6}",
            ports.len()
        );
    }
}

pub fn cache_size(cx: &mut Context<'_>, args: &[&str]) {
    if args.is_empty() {
        for name in cx.all() {
            _ = writeln!(cx.out, "{name}:");
        }
        cx.fail_if_incomplete();
    } else if let Some((dp, _)) = cx.datapath(args, 1) {
        _ = writeln!(cx.out, "{}:", full_name(&*dp));
    }
}

pub fn cache_set_size(cx: &mut Context<'_>, args: &[&str]) {
    if cx.datapath(args, 3).is_none() {
        return;
    }
    match args[2].parse::<u32>() {
        Ok(_) => cx.error("Setting caches not supported", Some(Errno::EOPNOTSUPP)),
        Err(_) => cx.error("size is malformed", Some(Errno::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_cannot_tell_is_a_question_mark() {
        let stats = PortStats {
            rx_packets: Some(7),
            tx_bytes: Some(3588),
            ..PortStats::default()
        };
        let mut out = String::new();
        show_stats(&mut out, &stats);
        assert_eq!(
            out,
            "    RX packets:7 errors:? dropped:? overruns:? frame:?\n    \
             TX packets:? errors:? dropped:? aborted:? carrier:?\n    \
             collisions:?\n    \
             RX bytes:?  TX bytes:3588 (3.5 KiB)\n    \
             UPCALL packets:? errors:?\n"
        );
    }
}
