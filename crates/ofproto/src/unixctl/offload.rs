//! `dpif/offload/*`: who does the work of flows beside the datapaths.

use std::fmt::Write;

use ferrovs_datapath::dpif::Dpif;
use ferrovs_datapath::offload::{Provides, is_enabled};
use ferrovs_runtime::unixctl::{Format, Output, Reply, Request};
use serde_json::{Map, Value, json};

use super::text;
use crate::ofprotos::Ofprotos;

fn providers(dpif: &dyn Dpif) -> Vec<Provides> {
    dpif.offload().map(|o| o.providers()).unwrap_or_default()
}

pub fn show(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let datapaths = ofprotos
        .backers()
        .map(|b| (super::dpif::title(b), providers(&*b.dpif)));
    if request.format == Format::Json {
        let mut all: Map<String, Value> = datapaths
            .map(|(name, providers)| (name, for_programs(&providers)))
            .collect();
        all.insert("enabled".into(), is_enabled().into());
        return Ok(Output::Json(Value::Object(all)));
    }
    let mut out = format!("Globally enabled: {}\nDatapaths:\n", is_enabled());
    for (name, providers) in datapaths {
        let _ = writeln!(out, "{name}:");
        for provider in providers {
            let _ = writeln!(out, "  {}", provider.kind);
            for (number, port) in provider.ports {
                let _ = writeln!(out, "  - {port}: port_no: {}", number.0);
            }
        }
    }
    text(out)
}

fn for_programs(providers: &[Provides]) -> Value {
    let one = |p: &Provides| {
        let ports = p.ports.iter();
        let ports: Map<_, _> = ports
            .map(|(number, name)| (name.clone(), json!({ "port_no": number.0 })))
            .collect();
        let value = match ports.is_empty() {
            true => json!({}),
            false => json!({ "ports": ports }),
        };
        (p.kind.to_string(), value)
    };
    json!({
        "priority": providers.iter().map(|p| p.kind).collect::<Vec<_>>(),
        "providers": providers.iter().map(one).collect::<Map<_, _>>(),
    })
}

/// Every provider that there is, and the kinds of datapath that have it.
pub fn classes(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::from(
        "Offload Class     Supported dpif class(es)\n----------------  ------------------------\n",
    );
    let mut known: Vec<(&str, Vec<&str>)> = Vec::new();
    for backer in ofprotos.backers() {
        for p in providers(&*backer.dpif) {
            match known.iter_mut().find(|(kind, _)| *kind == p.kind) {
                Some((_, kinds)) => kinds.push(backer.dpif.kind()),
                None => known.push((p.kind, vec![backer.dpif.kind()])),
            }
        }
    }
    for (kind, kinds) in known {
        let _ = writeln!(out, "{kind:<16}  {}", kinds.join(" "));
    }
    text(out)
}
