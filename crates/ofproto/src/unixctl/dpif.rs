//! `dpif/*`: datapaths as the bridges see them.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_datapath::dpif::{DumpWant, Shard};
use ferrovs_datapath::features::{DpFeatures, FEATURES, Feature, Value};
use ferrovs_datapath::text::{PortNames, format_actions, format_flow_stats, format_match};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::unixctl::{Format, Output, Reply, Request};
use ferrovs_runtime::{clock, vlog};

use super::{bridge_arg, text};
use crate::backer::Backer;
use crate::ofproto::Port;
use crate::ofprotos::Ofprotos;
use crate::port_order;

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
    let features = bridge.backer.boot_features();
    let mut out = String::new();
    for feature in FEATURES {
        // Writing to a string cannot fail.
        let _ = match (feature.get)(&features) {
            Value::Bool(true) => writeln!(out, "{}: Yes", feature.label),
            Value::Bool(false) => writeln!(out, "{}: No", feature.label),
            Value::Number(n) => writeln!(out, "{}: {n}", feature.label),
        };
    }
    text(out)
}

/// What a feature is now and was at the start.
fn feature_line(out: &mut String, feature: &Feature, now: &DpFeatures, boot: &DpFeatures) {
    let (now, boot) = ((feature.get)(now), (feature.get)(boot));
    let Feature { key, label, .. } = feature;
    let _ = writeln!(
        out,
        "{key} ({label}) : [run time]:{now}, [boot time]:{boot}"
    );
}

/// The value that is to be set, or why not.
fn new_value(
    feature: &Feature,
    boot: &DpFeatures,
    force: bool,
    value: &str,
) -> Result<Value, &'static str> {
    match (feature.get)(boot) {
        Value::Bool(able) => {
            let value = match value.to_ascii_lowercase().as_str() {
                "true" => true,
                "false" => false,
                _ => return Err("Boolean value expected\n"),
            };
            if value && !able {
                if !force {
                    return Err("Can not enable features not supported by the datapath\n");
                }
                vlog::warn!(
                    vlog::modules::OFPROTO_DPIF,
                    "Enabling an unsupported feature is very dangerous"
                );
            }
            Ok(Value::Bool(value))
        }
        Value::Number(most) => match value.parse::<i32>() {
            Err(_) => Err("Integer number expected\n"),
            Ok(n) => match u32::try_from(n) {
                Err(_) => Err("Negative number not expected\n"),
                Ok(n) if n > most => Err("Can not set value beyond the datapath capability\n"),
                Ok(n) => Ok(Value::Number(n)),
            },
        },
    }
}

/// Shows features, or has the bridges of a datapath do without one that it has.
pub fn set_features(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let args: Vec<&str> = request.argv[1..].iter().map(String::as_str).collect();
    let (force, args) = match args.split_first() {
        Some((&"--force", rest)) if !rest.is_empty() => (true, rest),
        _ => (false, &args[..]),
    };
    let bridge = args.first().and_then(|name| ofprotos.ofproto(name));
    let backer = bridge.ok_or("no such bridge")?.backer.clone();
    let (now, boot) = (backer.features(), backer.boot_features());
    let mut out = String::new();
    let Some(key) = args.get(1) else {
        let all: Vec<&Feature> = FEATURES.iter().collect();
        for feature in port_order::by_name(&all, |f| f.key) {
            feature_line(&mut out, feature, &now, &boot);
        }
        return text(out);
    };
    let Some(feature) = FEATURES.iter().find(|f| f.key == *key) else {
        return text("Unexpected support field\n");
    };
    let Some(value) = args.get(2) else {
        feature_line(&mut out, feature, &now, &boot);
        return text(out);
    };
    match new_value(feature, &boot, force, value) {
        Err(complaint) => text(complaint),
        Ok(value) => {
            let mut features = now;
            (feature.set)(&mut features, value);
            ofprotos.set_features(&backer.kind, features);
            text("")
        }
    }
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
