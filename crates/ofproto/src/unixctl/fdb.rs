//! `fdb/*`: the MAC learning tables.

use std::fmt::Write;

use ferrovs_packet::types::{MacAddr, OfPort};
use ferrovs_protocols::mac_learning::MacEntry;
use ferrovs_runtime::unixctl::{Format, Output, Reply, Request};
use ferrovs_runtime::{clock, coverage};
use serde_json::json;

use super::{atoi, bridge_arg, text};
use crate::ofproto::Ofproto;
use crate::ofprotos::Ofprotos;

/// The port number that stands for a bundle.
fn port_name(bridge: &Ofproto, bundle: u32) -> String {
    let port = bridge
        .bundles
        .get(&bundle)
        .and_then(|b| b.settings.ports.first());
    match port {
        Some(&OfPort::LOCAL) => "LOCAL".into(),
        Some(port) => port.0.to_string(),
        None => String::new(),
    }
}

pub fn show(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let bridge = bridge_arg(ofprotos, request)?;
    if request.format == Format::Json {
        let entries = bridge.macs().entries(clock::now());
        let json = |e: MacEntry| {
            let port = bridge.bundles.get(&e.port);
            let port = port.and_then(|b| b.settings.ports.first());
            let mut entry = json!({
                "mac": e.mac.to_string(),
                "port": port.map_or(OfPort::NONE, |p| *p).0,
                "vlan": e.vlan,
            });
            match e.age {
                Some(age) => entry["age"] = age.as_secs().into(),
                None => entry["static"] = true.into(),
            }
            entry
        };
        return Ok(Output::Json(entries.into_iter().map(json).collect()));
    }
    let mut out = String::from(" port  VLAN  MAC                Age\n");
    for e in bridge.macs().entries(clock::now()) {
        let port = port_name(bridge, e.port);
        // Writing to a string cannot fail.
        let _ = write!(out, "{port:>5}  {:4}  {}  ", e.vlan, e.mac);
        let _ = match e.age {
            Some(age) => writeln!(out, "{:3}", age.as_secs()),
            None => writeln!(out, "static"),
        };
    }
    text(out)
}

fn mac_arg(arg: Option<&str>) -> Result<MacAddr, String> {
    arg.and_then(|a| a.parse().ok())
        .ok_or_else(|| "bad MAC address".to_string())
}

pub fn add(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let bridge = bridge_arg(ofprotos, request)?;
    let port = bridge.port_by_name(request.arg(2).unwrap_or_default());
    let bundle = port.and_then(|p| p.bundle);
    let bundle = bundle.ok_or("software error, odp port is present but no ofp port")?;
    let vlan = atoi(request.arg(3).unwrap_or_default()) as u16;
    let mac = mac_arg(request.arg(4))?;
    let old = bridge.macs().find(mac, vlan);
    bridge.macs().add_static(clock::now(), mac, vlan, bundle);
    bridge.backer.udpif.changed_by(&coverage::REV_MAC_LEARNING);
    match old.filter(|&old| old != (bundle, true)) {
        Some((port, is_static)) => {
            let kind = if is_static { "static" } else { "dynamic" };
            let port = port_name(bridge, port);
            text(format!(
                "Overriding already existing {kind} entry on {port}"
            ))
        }
        None => text(""),
    }
}

pub fn del(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let bridge = bridge_arg(ofprotos, request)?;
    let vlan = atoi(request.arg(2).unwrap_or_default()) as u16;
    let mac = mac_arg(request.arg(3))?;
    let is_static = |e: &MacEntry| e.mac == mac && e.vlan == vlan && e.age.is_none();
    let found = bridge.macs().entries(clock::now()).iter().any(is_static);
    if !found {
        return Err("could not find static mac entry".into());
    }
    bridge.macs().remove(mac, vlan);
    bridge.backer.udpif.changed_by(&coverage::REV_MAC_LEARNING);
    text("")
}

pub fn flush(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let flush_one = |bridge: &mut Ofproto| {
        bridge.macs().flush();
        bridge.backer.udpif.changed_by(&coverage::REV_MAC_LEARNING);
    };
    if request.arg(1).is_some() {
        flush_one(bridge_arg(ofprotos, request)?);
    } else {
        ofprotos
            .bridges_mut()
            .for_each(|b| flush_one(&mut b.ofproto));
    }
    text("table successfully flushed")
}

pub fn stats_show(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let bridge = bridge_arg(ofprotos, request)?;
    let macs = bridge.macs();
    let s = &macs.stats;
    text(format!(
        "Statistics for bridge \"{}\":\n  \
         Current/maximum MAC entries in the table: {}/{}\n  \
         Current static MAC entries in the table : {}\n  \
         Total number of learned MAC entries     : {}\n  \
         Total number of expired MAC entries     : {}\n  \
         Total number of evicted MAC entries     : {}\n  \
         Total number of port moved MAC entries  : {}\n",
        bridge.name,
        macs.len(),
        macs.max_entries(),
        macs.n_static(),
        s.learned,
        s.expired,
        s.evicted,
        s.moved,
    ))
}

pub fn stats_clear(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let clear = |bridge: &mut Ofproto| bridge.macs().stats = Default::default();
    if request.arg(1).is_some() {
        clear(bridge_arg(ofprotos, request)?);
    } else {
        ofprotos.bridges_mut().for_each(|b| clear(&mut b.ofproto));
    }
    text("statistics successfully cleared")
}
