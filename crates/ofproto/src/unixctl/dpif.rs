//! `dpif/*`: datapaths as the bridges see them.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::text::{PortNames, format_actions, format_flow_stats, format_match};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Reply, Request};

use super::{bridge_arg, text};
use crate::backer::Backer;
use crate::ofprotos::Ofprotos;

pub fn dump_dps(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::new();
    for bridge in ofprotos.bridges() {
        let _ = writeln!(out, "{}@{}", bridge.backer.kind, bridge.name);
    }
    text(out)
}

pub fn show(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::new();
    for backer in ofprotos.backers() {
        show_backer(&mut out, ofprotos, backer);
    }
    text(out)
}

fn show_backer(out: &mut String, ofprotos: &Ofprotos, backer: &Arc<Backer>) {
    let stats = backer.dpif.stats();
    let name = format!("{}@{}", backer.kind, backer.dpif.name());
    let _ = writeln!(out, "{name}: hit:{} missed:{}", stats.n_hit, stats.n_missed);
    for bridge in ofprotos.bridges().filter(|b| b.backer.kind == backer.kind) {
        let _ = writeln!(out, "  {}:", bridge.name);
        let mut ports: Vec<_> = bridge.ports.values().collect();
        ports.sort_by(|a, b| a.name().cmp(b.name()));
        for port in ports {
            let _ = write!(out, "    {} {}/", port.name(), port.ofport.0);
            let _ = match port.dp_port {
                DpPort::NONE => write!(out, "none"),
                DpPort(n) => write!(out, "{n}"),
            };
            let _ = write!(out, ": ({}", port.netdev.kind());
            let mut separator = ": ";
            for (key, value) in port.netdev.config() {
                let _ = write!(out, "{separator}{key}={value}");
                separator = ", ";
            }
            out.push_str(")\n");
        }
    }
}

pub fn show_features(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let bridge = bridge_arg(ofprotos, request)?;
    let f = bridge.backer.snapshot.load().features;
    let mut out = String::new();
    let mut yes = |name: &str, on: bool| {
        let _ = writeln!(out, "{name}: {}", if on { "Yes" } else { "No" });
    };
    yes("Masked set action", f.masked_set_action);
    yes("Tunnel push pop", f.tnl_push_pop);
    yes("Ufid", f.ufid);
    yes("Truncate action", f.trunc);
    yes("Clone action", f.clone);
    let _ = writeln!(out, "Sample nesting: {}", f.sample_nesting);
    let mut yes = |name: &str, on: bool| {
        let _ = writeln!(out, "{name}: {}", if on { "Yes" } else { "No" });
    };
    yes("Conntrack eventmask", f.ct_eventmask);
    yes("Conntrack clear", f.ct_clear);
    let _ = writeln!(out, "Max dp_hash algorithm: {}", f.max_hash_alg);
    let mut yes = |name: &str, on: bool| {
        let _ = writeln!(out, "{name}: {}", if on { "Yes" } else { "No" });
    };
    yes("Check pkt length action", f.check_pkt_len);
    yes("Conntrack timeout policy", f.ct_timeout);
    yes("Explicit Drop action", f.explicit_drop_action);
    yes("Optimized Balance TCP mode", f.lb_output_action);
    yes("Conntrack all-zero IP SNAT", f.ct_zero_snat);
    yes("MPLS Label add", f.add_mpls);
    yes("psample", f.psample);
    let _ = writeln!(out, "Max VLAN headers: {}", f.max_vlan_headers);
    let _ = writeln!(out, "Max MPLS depth: {}", f.max_mpls_depth);
    let mut yes = |name: &str, on: bool| {
        let _ = writeln!(out, "{name}: {}", if on { "Yes" } else { "No" });
    };
    yes("Recirc", f.recirc);
    yes("CT state", f.ct_state);
    yes("CT zone", f.ct_zone);
    yes("CT mark", f.ct_mark);
    yes("CT label", f.ct_label);
    yes("CT state NAT", f.ct_state_nat);
    yes("CT orig tuple", f.ct_orig_tuple);
    yes("CT orig tuple for IPv6", f.ct_orig_tuple6);
    yes("IPv6 ND Extension", f.nd_ext);
    text(out)
}

/// Datapath flows whose packets come in through a port of the bridge.
pub fn dump_flows(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let mut verbose = false;
    let mut names = None;
    for option in &request.argv[1..request.argv.len() - 1] {
        match option.as_str() {
            "-m" => verbose = true,
            "--names" => names = Some(true),
            "--no-names" => names = Some(false),
            _ => {}
        }
    }
    let name = request.argv.last().map(String::as_str).unwrap_or_default();
    let bridge = ofprotos.bridge(name).ok_or("no such bridge")?;
    let dpif = &bridge.backer.dpif;
    let ports = names
        .unwrap_or(verbose)
        .then(|| PortNames::new(&dpif.ports()));
    let snapshot = bridge.backer.snapshot.load_full();
    let now = clock::now();
    let mut out = String::new();
    dpif.flow_dump(&mut |entry| {
        let through = snapshot.receive(&entry.match_.flow);
        if through.is_none_or(|(b, _)| b.id != bridge.id) {
            return;
        }
        if verbose {
            let _ = write!(out, "ufid:{} ", entry.ufid);
        }
        format_match(
            &mut out,
            &entry.match_.flow,
            Some(&entry.match_.wc),
            ports.as_ref(),
            verbose,
        );
        out.push_str(", ");
        format_flow_stats(&mut out, &entry.stats, now);
        out.push_str(", actions:");
        format_actions(&mut out, &entry.actions, ports.as_ref());
        out.push('\n');
    });
    text(out)
}
