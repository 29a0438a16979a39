//! Connection tracking.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ferrovs_datapath::conntrack::{
    Conntrack, CtEntry, CtExpectation, CtFilter, CtL4, CtPeer, CtTuple, TCPF_BE_LIBERAL,
    TCPF_WINDOW_SCALE, TcpState,
};
use ferrovs_datapath::dpif::{Dpif, Errno};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::CT_DPIF;

use super::Context;

mod flush;
mod frags;
mod limits;

pub use flush::flush;
pub use frags::{ipf_disable, ipf_enable, ipf_max_nfrags, ipf_min_frag, ipf_status};
pub use limits::{del_limits, limits, set_limits};

/// Opens the datapath that `args` name, of which there are `max` at most with it, and has `act` do its work on its
/// connections; a datapath that tracks none gets the error `message`.
fn on_datapath(
    cx: &mut Context<'_>,
    args: &[&str],
    max: usize,
    message: &str,
    act: impl FnOnce(&mut Context<'_>, &Arc<dyn Dpif>, &dyn Conntrack),
) {
    let Some((dpif, _)) = cx.datapath(args, max) else {
        return;
    };
    match dpif.conntrack() {
        Some(conntrack) => act(cx, &dpif, conntrack),
        None => cx.error(message, Some(Errno::EOPNOTSUPP)),
    }
}

/// As [`on_datapath`], with a number behind the name `prefix` (such as `zone=`) as the last argument perhaps.
fn on_datapath_with(
    cx: &mut Context<'_>,
    args: &[&str],
    prefix: &str,
    message: &str,
    act: impl FnOnce(&mut Context<'_>, &dyn Conntrack, Option<u32>),
) {
    let last = args.last().and_then(|a| a.strip_prefix(prefix));
    let value = last.and_then(|v| v.parse::<u32>().ok());
    let args = match value {
        Some(_) => &args[..args.len() - 1],
        None => args,
    };
    on_datapath(cx, args, 1, message, |cx, _, conntrack| {
        act(cx, conntrack, value)
    });
}

/// What a protocol is called in a dump.
fn proto_name(proto: u8) -> String {
    let name = match proto {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn tuple(out: &mut String, t: &CtTuple) {
    _ = write!(out, "src={},dst={},", t.src, t.dst);
    _ = match t.l4 {
        CtL4::Ports { src, dst } => write!(out, "sport={src},dport={dst}"),
        CtL4::Icmp {
            id,
            icmp_type,
            code,
        } => write!(out, "id={id},type={icmp_type},code={code}"),
    };
}

fn flags(out: &mut String, side: &str, flags: u8) {
    let name = match flags {
        f if f & TCPF_WINDOW_SCALE != 0 => "WINDOW_SCALE",
        f if f & TCPF_BE_LIBERAL != 0 => "BE_LIBERAL",
        _ => "0",
    };
    _ = write!(out, ",flags_{side}={name}");
}

/// The state of a TCP connection: that of the originator, and with more words all that is known.
fn protoinfo(out: &mut String, [orig, reply]: [CtPeer; 2], verbose: bool) {
    out.push_str(",protoinfo=(");
    if verbose {
        let (a, b) = (orig.state.name(), reply.state.name());
        _ = write!(out, "state_orig={a},state_reply={b}");
        if orig.wscale != 0 || reply.wscale != 0 {
            let (a, b) = (orig.wscale, reply.wscale);
            _ = write!(out, ",wscale_orig={a},wscale_reply={b}");
        }
        flags(out, "orig", orig.flags);
        flags(out, "reply", reply.flags);
    } else {
        _ = write!(out, "state={}", state([orig, reply]));
    }
    out.push(')');
}

/// The state of a whole connection: that of the side which is further, as a tracker with one state would have it.
fn state([orig, reply]: [CtPeer; 2]) -> &'static str {
    match orig.state.max(reply.state) {
        TcpState::FinWait2 => TcpState::TimeWait.name(),
        TcpState::SynRecv => TcpState::Established.name(),
        state => state.name(),
    }
}

fn entry(out: &mut String, e: &CtEntry, verbose: bool, statistics: bool) {
    _ = write!(out, "{},orig=(", proto_name(e.orig.proto));
    tuple(out, &e.orig);
    out.push_str("),reply=(");
    tuple(out, &e.reply);
    out.push(')');
    if verbose {
        out.push_str(",id=0");
    }
    if e.zone != 0 {
        _ = write!(out, ",zone={}", e.zone);
    }
    if verbose {
        out.push_str(",status=0");
    }
    if statistics {
        _ = write!(out, ",timeout={}", e.timeout_s);
    }
    if e.mark != 0 {
        _ = write!(out, ",mark={}", e.mark);
    }
    let labels = u128::from_be_bytes(e.labels);
    if labels != 0 {
        _ = write!(out, ",labels={labels:#x}");
    }
    if let Some(tcp) = e.tcp {
        protoinfo(out, tcp, verbose);
    }
    if let Some(helper) = e.helper {
        _ = write!(out, ",helper={helper}");
    }
    if verbose && let Some(parent) = &e.parent {
        out.push_str(",parent=(");
        tuple(out, parent);
        out.push(')');
    }
    out.push('\n');
}

pub fn dump(cx: &mut Context<'_>, args: &[&str]) {
    let message = "starting conntrack dump";
    on_datapath_with(cx, args, "zone=", message, |cx, conntrack, zone| {
        let (verbose, statistics, now) = (cx.verbose(), cx.statistics, cx.now);
        let Ok(zone) = zone.map(u16::try_from).transpose() else {
            return;
        };
        conntrack.dump(zone, now, &mut |e| {
            entry(&mut cx.out, e, verbose, statistics)
        });
    });
}

fn expectation(out: &mut String, e: &CtExpectation) {
    _ = write!(out, "{},orig=(", proto_name(e.orig.proto));
    tuple(out, &e.orig);
    out.push(')');
    if e.zone != 0 {
        _ = write!(out, ",zone={}", e.zone);
    }
    out.push_str(",parent=(");
    tuple(out, &e.parent);
    out.push_str(")\n");
}

pub fn dump_expectations(cx: &mut Context<'_>, args: &[&str]) {
    let message = "starting conntrack dump";
    on_datapath_with(cx, args, "zone=", message, |cx, conntrack, zone| {
        let Ok(zone) = zone.map(u16::try_from).transpose() else {
            return;
        };
        for e in conntrack.expectations(zone) {
            expectation(&mut cx.out, &e);
        }
    });
}

/// Numbers of connections by protocol.
#[derive(Default)]
struct Counts {
    total: usize,
    protos: [usize; 6],
    other: usize,
    tcp: BTreeMap<&'static str, usize>,
}

/// Protocols that are counted apart.
const COUNTED: [(u8, &str); 6] = [
    (6, "TCP"),
    (17, "UDP"),
    (136, "UDPLITE"),
    (132, "SCTP"),
    (1, "ICMP"),
    (33, "DCCP"),
];

pub fn stats(cx: &mut Context<'_>, args: &[&str]) {
    let mut args = args.to_vec();
    let mut verbose = cx.verbose();
    if args.last() == Some(&"verbose") {
        args.pop();
        verbose = true;
    }
    let message = "starting conntrack dump";
    on_datapath_with(cx, &args, "zone=", message, |cx, conntrack, zone| {
        let mut n = Counts::default();
        let zone = zone.map(|z| z as u16);
        conntrack.dump(zone, cx.now, &mut |e| n.add(e));
        n.write(&mut cx.out, verbose);
    });
}

impl Counts {
    fn add(&mut self, e: &CtEntry) {
        self.total += 1;
        match COUNTED.iter().position(|(proto, _)| *proto == e.orig.proto) {
            Some(i) => self.protos[i] += 1,
            None if e.orig.proto == 58 => self.protos[4] += 1,
            None => self.other += 1,
        }
        if let Some(tcp) = e.tcp {
            *self.tcp.entry(state(tcp)).or_default() += 1;
        }
    }

    fn write(&self, out: &mut String, verbose: bool) {
        _ = writeln!(out, "Connections Stats:\n    Total: {}", self.total);
        for ((proto, name), n) in COUNTED.iter().zip(self.protos).filter(|(_, n)| *n > 0) {
            _ = writeln!(out, "  {name}: {n}");
            if *proto == 6 && verbose {
                out.push_str("    Conn per TCP states:\n");
                for state in TcpState::ALL {
                    if let Some(n) = self.tcp.get(state.name()) {
                        _ = writeln!(out, "\t  [{}]={n}", state.name());
                    }
                }
            }
        }
        if self.other > 0 {
            _ = writeln!(out, "  Other: {}", self.other);
        }
    }
}

pub fn buckets(cx: &mut Context<'_>, args: &[&str]) {
    let message = "starting conntrack dump";
    on_datapath_with(cx, args, "gt=", message, |cx, conntrack, greater| {
        // All of the table counts as one bucket.
        let mut n = 0u32;
        conntrack.dump(None, cx.now, &mut |_| n += 1);
        _ = writeln!(cx.out, "Total Buckets: 1\nCurrent Connections: {n}\n");
        if n > 0 {
            let line = format!("+{}+{}+\n", "-".repeat(11), "-".repeat(41));
            cx.out.push_str(&line);
            cx.out
                .push_str("|  Buckets  |         Connections per Buckets         |\n");
            cx.out.push_str(&line);
            let shown = match greater {
                Some(least) if n <= least => ".".to_owned(),
                _ => n.to_string(),
            };
            _ = writeln!(cx.out, "   0..  7   | {shown:>5}\n");
        }
    });
}

pub fn set_maxconns(cx: &mut Context<'_>, args: &[&str]) {
    // As the C library reads it: more than fits wraps around.
    let max = args.last().and_then(|n| n.parse::<u64>().ok());
    let Some(max) = max else {
        return cx.error("maxconns missing or malformed", Some(Errno::EINVAL));
    };
    on_datapath(
        cx,
        &args[..args.len() - 1],
        1,
        "ct set maxconns failed",
        |cx, _, conntrack| {
            conntrack.set_max_count(max as u32);
            cx.out.push_str("setting maxconns successful\n");
        },
    );
}

pub fn maxconns(cx: &mut Context<'_>, args: &[&str]) {
    on_datapath(
        cx,
        args,
        1,
        "maxconns could not be retrieved",
        |cx, _, conntrack| {
            _ = writeln!(cx.out, "{}", conntrack.max_count());
        },
    );
}

pub fn nconns(cx: &mut Context<'_>, args: &[&str]) {
    on_datapath(
        cx,
        args,
        1,
        "nconns could not be retrieved",
        |cx, _, conntrack| {
            _ = writeln!(cx.out, "{}", conntrack.count());
        },
    );
}

fn set_seq_check(cx: &mut Context<'_>, args: &[&str], on: bool) {
    let word = if on { "enabling" } else { "disabling" };
    let message = format!("{word} TCP sequence checking failed");
    on_datapath(cx, args, 1, &message, |cx, _, conntrack| {
        conntrack.check_tcp_sequence(on);
        _ = writeln!(cx.out, "{word} TCP sequence checking successful");
    });
}

pub fn enable_seq_check(cx: &mut Context<'_>, args: &[&str]) {
    set_seq_check(cx, args, true);
}

pub fn disable_seq_check(cx: &mut Context<'_>, args: &[&str]) {
    set_seq_check(cx, args, false);
}

pub fn seq_check(cx: &mut Context<'_>, args: &[&str]) {
    on_datapath(
        cx,
        args,
        1,
        "get TCP sequence checking failed",
        |cx, _, conntrack| {
            let word = match conntrack.checks_tcp_sequence() {
                true => "enabled",
                false => "disabled",
            };
            _ = writeln!(cx.out, "TCP sequence checking: {word}");
        },
    );
}

pub fn sweep_interval(cx: &mut Context<'_>, args: &[&str]) {
    on_datapath(
        cx,
        args,
        1,
        "failed to get sweep interval",
        |cx, _, conntrack| {
            _ = writeln!(cx.out, "{}", conntrack.sweep_interval_ms());
        },
    );
}

pub fn set_sweep_interval(cx: &mut Context<'_>, args: &[&str]) {
    let ms = args.last().and_then(|n| n.parse::<u32>().ok());
    let Some(ms) = ms.filter(|ms| *ms != 0) else {
        return cx.error("invalid sweep value", Some(Errno::EINVAL));
    };
    let args = &args[..args.len() - 1];
    on_datapath(
        cx,
        args,
        1,
        "failed to set sweep interval",
        |cx, _, conntrack| {
            conntrack.set_sweep_interval_ms(ms);
            cx.out.push_str("setting sweep interval successful\n");
        },
    );
}
