//! Ports and queues.

use std::fmt::Write;

use ferrovs_packet::field::format_port;
use ferrovs_packet::types::OfPort;

use super::Print;
use crate::port::*;
use crate::text::format::{duration, hex};

pub fn port_name(port: OfPort, p: Print<'_>, out: &mut String) {
    format_port(port, p.names.ports, out);
}

/// Names of a bit set, or 0; bits without a name in hexadecimal.
fn bits(value: u32, names: &[(u32, &str)], out: &mut String) {
    if value == 0 {
        out.push('0');
        return;
    }
    let mut rest = value;
    let mut first = true;
    for (bit, name) in names {
        if rest & bit != 0 {
            if !first {
                out.push(' ');
            }
            first = false;
            out.push_str(name);
            rest &= !bit;
        }
    }
    if rest != 0 {
        if !first {
            out.push(' ');
        }
        let _ = write!(out, "{}", hex(rest.into()));
    }
}

const CONFIG: [(u32, &str); 7] = [
    (1 << 0, "PORT_DOWN"),
    (1 << 1, "NO_STP"),
    (1 << 2, "NO_RECV"),
    (1 << 3, "NO_RECV_STP"),
    (1 << 4, "NO_FLOOD"),
    (1 << 5, "NO_FWD"),
    (1 << 6, "NO_PACKET_IN"),
];

const FEATURES: [(u32, &str); 16] = [
    (1 << 0, "10MB-HD"),
    (1 << 1, "10MB-FD"),
    (1 << 2, "100MB-HD"),
    (1 << 3, "100MB-FD"),
    (1 << 4, "1GB-HD"),
    (1 << 5, "1GB-FD"),
    (1 << 6, "10GB-FD"),
    (1 << 7, "40GB-FD"),
    (1 << 8, "100GB-FD"),
    (1 << 9, "1TB-FD"),
    (1 << 10, "OTHER"),
    (1 << 11, "COPPER"),
    (1 << 12, "FIBER"),
    (1 << 13, "AUTO_NEG"),
    (1 << 14, "AUTO_PAUSE"),
    (1 << 15, "AUTO_PAUSE_ASYM"),
];

fn features(f: PortFeatures, out: &mut String) {
    bits(f.bits(), &FEATURES, out);
    out.push('\n');
}

fn state(s: PortState, out: &mut String) {
    // The spanning tree's state is a number in two bits; listening is 0.
    let stp = ["", "STP_LEARN", "STP_FORWARD", "STP_BLOCK"][(s.bits() >> 8 & 3) as usize];
    out.push_str(stp);
    let plain = s.bits() & !PortState::STP_MASK;
    if plain != 0 || stp.is_empty() {
        bits(plain, &[(1, "LINK_DOWN"), (2, "BLOCKED"), (4, "LIVE")], out);
    }
    out.push('\n');
}

pub fn phy_port(d: &PortDesc, p: Print<'_>, out: &mut String) {
    out.push(' ');
    // The number, not the name: the name stands in parentheses.
    let no_names = Print {
        names: crate::text::Names {
            ports: &ferrovs_packet::field::NoPorts,
            ..p.names
        },
        ..p
    };
    port_name(d.port_no, no_names, out);
    // A name ends where it is no longer text.
    let printable = |c: &char| (' '..='~').contains(c);
    let name: String = d.name.chars().take_while(printable).collect();
    let _ = write!(out, "({name}): addr:{}", d.hw_addr);
    if d.hw_addr64 != [0; 8] {
        let text: Vec<String> = d.hw_addr64.iter().map(|b| format!("{b:02x}")).collect();
        let _ = write!(out, " addr64: {}", text.join(":"));
    }
    out.push_str("\n     config:     ");
    bits(d.config.bits(), &CONFIG, out);
    out.push_str("\n     state:      ");
    state(d.state, out);
    for (label, f) in [
        ("current:    ", d.curr),
        ("advertised: ", d.advertised),
        ("supported:  ", d.supported),
        ("peer:       ", d.peer),
    ] {
        if !f.is_empty() {
            let _ = write!(out, "     {label}");
            features(f, out);
        }
    }
    let _ = writeln!(
        out,
        "     speed: {} Mbps now, {} Mbps max",
        d.curr_speed / 1000,
        d.max_speed / 1000
    );
}

pub fn port_status(s: &PortStatus, p: Print<'_>, out: &mut String) {
    out.push_str(match s.reason {
        PortReason::Add => " ADD:",
        PortReason::Delete => " DEL:",
        PortReason::Modify => " MOD:",
    });
    phy_port(&s.desc, p, out);
}

pub fn port_mod(m: &PortMod, p: Print<'_>, out: &mut String) {
    out.push_str(" port: ");
    port_name(m.port_no, p, out);
    let _ = writeln!(out, ": addr:{}", m.hw_addr);
    out.push_str("     config: ");
    bits(m.config.bits(), &CONFIG, out);
    out.push_str("\n     mask:   ");
    bits(m.mask.bits(), &CONFIG, out);
    out.push_str("\n     advertise: ");
    if m.advertise.is_empty() {
        out.push_str("UNCHANGED\n");
    } else {
        features(m.advertise, out);
    }
}

fn count(out: &mut String, label: &str, n: u64, more: bool) {
    out.push_str(label);
    if n == u64::MAX {
        out.push('?');
    } else {
        let _ = write!(out, "{n}");
    }
    out.push_str(if more { ", " } else { "\n" });
}

pub fn port_stats(ports: &[PortStats], p: Print<'_>, out: &mut String) {
    let _ = writeln!(out, " {} ports", ports.len());
    if p.verbosity < 1 {
        return;
    }
    for s in ports {
        out.push_str("  port ");
        if s.port_no.0 < 10 {
            out.push(' ');
        }
        port_name(s.port_no, p, out);
        count(out, ": rx pkts=", s.rx_packets, true);
        count(out, "bytes=", s.rx_bytes, true);
        count(out, "drop=", s.rx_dropped, true);
        count(out, "errs=", s.rx_errors, true);
        count(out, "frame=", s.rx_frame_err, true);
        count(out, "over=", s.rx_over_err, true);
        count(out, "crc=", s.rx_crc_err, false);
        count(out, "           tx pkts=", s.tx_packets, true);
        count(out, "bytes=", s.tx_bytes, true);
        count(out, "drop=", s.tx_dropped, true);
        count(out, "errs=", s.tx_errors, true);
        count(out, "coll=", s.collisions, false);
        if s.duration_sec != u32::MAX {
            out.push_str("           duration=");
            duration(out, s.duration_sec, s.duration_nsec);
            out.push('\n');
        }
        if !s.custom.is_empty() {
            out.push_str("           CUSTOM Statistics");
            for (i, c) in s.custom.iter().enumerate() {
                out.push_str(if i % 3 == 0 {
                    "\n                      "
                } else {
                    " "
                });
                let _ = write!(out, "{}={},", c.name, c.value);
            }
            out.push('\n');
        }
    }
}

pub fn queue_name(queue: u32, out: &mut String) {
    if queue == QUEUE_ALL {
        out.push_str("ALL");
    } else {
        let _ = write!(out, "{queue}");
    }
}

pub fn queue_stats_request(q: &QueueRequest, p: Print<'_>, out: &mut String) {
    out.push_str(" port=");
    port_name(q.port, p, out);
    out.push_str(" queue=");
    queue_name(q.queue, out);
}

pub fn queue_stats(queues: &[QueueStats], p: Print<'_>, out: &mut String) {
    let _ = writeln!(out, " {} queues", queues.len());
    if p.verbosity < 1 {
        return;
    }
    for q in queues {
        out.push_str("  port ");
        port_name(q.port, p, out);
        out.push_str(" queue ");
        queue_name(q.queue, out);
        count(out, ": bytes=", q.tx_bytes, true);
        count(out, "pkts=", q.tx_packets, true);
        count(out, "errors=", q.tx_errors, true);
        out.push_str("duration=");
        if q.duration_sec == u32::MAX {
            out.push('?');
        } else {
            duration(out, q.duration_sec, q.duration_nsec);
        }
        out.push('\n');
    }
}

pub fn queue_config_request(q: &QueueRequest, p: Print<'_>, out: &mut String) {
    out.push_str(" port=");
    port_name(q.port, p, out);
    if q.queue != QUEUE_ALL {
        out.push_str(" queue=");
        queue_name(q.queue, out);
    }
}

fn rate(out: &mut String, label: &str, rate: Option<u16>) {
    let Some(r) = rate else { return };
    if r <= 1000 {
        let _ = write!(out, " {label}:{}.{}%", r / 10, r % 10);
    } else {
        let _ = write!(out, " {label}:(disabled)");
    }
}

pub fn queue_config_reply(port: OfPort, queues: &[QueueConfig], p: Print<'_>, out: &mut String) {
    let _ = port;
    let mut sorted = queues.to_vec();
    sorted.sort_by_key(|q| (q.port.0, q.queue));
    let mut last = None;
    for q in &sorted {
        if last != Some(q.port) {
            out.push_str(if last.is_some() { "port=" } else { " port=" });
            port_name(q.port, p, out);
            out.push('\n');
            last = Some(q.port);
        }
        let _ = write!(out, "queue {}:", q.queue);
        rate(out, "min_rate", q.min_rate);
        rate(out, "max_rate", q.max_rate);
        out.push('\n');
    }
}
