//! `dpif/*`: datapaths as the bridges see them.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::dpif::{DumpWant, Shard};
use ferrovs_datapath::features::{FEATURES, Value};
use ferrovs_datapath::text::{PortNames, format_actions, format_flow_stats, format_match};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Format, Output, Reply, Request};

use super::{bridge_arg, text};
use crate::backer::Backer;
use crate::ofproto::Port;
use crate::ofprotos::Ofprotos;

pub fn dump_dps(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::new();
    for bridge in ofprotos.ofprotos() {
        let _ = writeln!(out, "{}@{}", bridge.backer.kind, bridge.name);
    }
    text(out)
}

pub fn show(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    if request.format == Format::Json {
        let all = ofprotos.backers().map(|b| (title(b), json(ofprotos, b)));
        return Ok(Output::Json(serde_json::Value::Object(all.collect())));
    }
    let mut out = String::new();
    for backer in ofprotos.backers() {
        show_backer(&mut out, ofprotos, backer);
    }
    text(out)
}

/// The datapath's name with its kind.
pub(super) fn title(backer: &Backer) -> String {
    format!("{}@{}", backer.kind, backer.dpif.name())
}

fn dp_port_text(port: &Port) -> String {
    match port.dp_port {
        DpPort::NONE => "none".to_string(),
        DpPort(n) => n.to_string(),
    }
}

/// One datapath for programs, every number a string.
fn json(ofprotos: &Ofprotos, backer: &Arc<Backer>) -> serde_json::Value {
    let port = |port: &Port| {
        let mut members = serde_json::json!({
            "ofport": port.ofport.0.to_string(),
            "port_no": dp_port_text(port),
            "type": port.netdev.kind(),
        });
        let config = port.netdev.config();
        if !config.is_empty() {
            members["config"] = config.into_iter().collect();
        }
        (port.name().to_string(), members)
    };
    let bridges = ofprotos.ofprotos().filter(|b| b.backer.kind == backer.kind);
    let bridges = bridges.map(|b| {
        let ports: serde_json::Value = b.ports.values().map(port).collect();
        (b.name.clone(), ports)
    });
    let stats = backer.dpif.stats();
    serde_json::json!({
        "bridges": bridges.collect::<serde_json::Value>(),
        "stats": { "hit": stats.n_hit.to_string(), "missed": stats.n_missed.to_string() },
    })
}

fn show_backer(out: &mut String, ofprotos: &Ofprotos, backer: &Arc<Backer>) {
    let stats = backer.dpif.stats();
    let name = title(backer);
    let _ = writeln!(out, "{name}: hit:{} missed:{}", stats.n_hit, stats.n_missed);
    for bridge in ofprotos.ofprotos().filter(|b| b.backer.kind == backer.kind) {
        let _ = writeln!(out, "  {}:", bridge.name);
        let mut ports: Vec<_> = bridge.ports.values().collect();
        ports.sort_by(|a, b| a.name().cmp(b.name()));
        for port in ports {
            let (dp_port, kind) = (dp_port_text(port), port.netdev.kind());
            let _ = write!(
                out,
                "    {} {}/{dp_port}: ({kind}",
                port.name(),
                port.ofport.0
            );
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
    let features = bridge.backer.features();
    let mut out = String::new();
    for feature in &FEATURES {
        // Writing to a string cannot fail.
        let _ = match (feature.get)(&features) {
            Value::Bool(true) => writeln!(out, "{}: Yes", feature.label),
            Value::Bool(false) => writeln!(out, "{}: No", feature.label),
            Value::Number(n) => writeln!(out, "{}: {n}", feature.label),
        };
    }
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
    let bridge = ofprotos.ofproto(name).ok_or("no such bridge")?;
    let dpif = &bridge.backer.dpif;
    let ports = names
        .unwrap_or(verbose)
        .then(|| PortNames::new(&dpif.ports()));
    let snapshot = bridge.backer.snapshot.load_full();
    let now = clock::now();
    let mut out = String::new();
    dpif.dump(Shard::WHOLE, DumpWant::ALL, &mut |flow| {
        let key = flow.key();
        let through = snapshot.receive(&key);
        if through.is_none_or(|(b, _)| b.id != bridge.id) {
            return;
        }
        if verbose {
            let _ = write!(out, "ufid:{} ", flow.ufid());
        }
        format_match(&mut out, &key, Some(&flow.mask()), ports.as_ref(), verbose);
        out.push_str(", ");
        format_flow_stats(&mut out, &flow.stats(), now);
        out.push_str(", actions:");
        format_actions(&mut out, &flow.actions(), ports.as_ref());
        out.push('\n');
    });
    text(out)
}
