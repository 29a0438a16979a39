//! `bridge/*` and `ofproto/*` but for the traces: bridges, all their flows, their connections and tunnels.

use std::fmt::Write;

use ferrovs_encap::TunnelConfig;
use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Reply, Request};

use super::text;
use crate::ofprotos::Ofprotos;
use crate::tables::Criteria;
use crate::time::to_ms;
use crate::xlate::describe;

pub fn list(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    text(
        ofprotos
            .ofprotos()
            .fold(String::new(), |out, b| out + &b.name + "\n"),
    )
}

pub fn reconnect(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let now = clock::now();
    match request.arg(1) {
        Some(name) => {
            let bridge = ofprotos.bridge_mut(name).ok_or("Unknown bridge")?;
            bridge.connmgr.reconnect(now);
        }
        None => ofprotos
            .bridges_mut()
            .for_each(|b| b.connmgr.reconnect(now)),
    }
    text("")
}

/// Every flow, also those that OpenFlow does not see.
pub fn dump_flows(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let mut offload_stats = false;
    for option in &request.argv[1..request.argv.len() - 1] {
        offload_stats |= option == "--offload-stats";
    }
    let name = request.argv.last().map(String::as_str).unwrap_or_default();
    let bridge = ofprotos.ofproto(name).ok_or("Unknown bridge")?;
    let now_ms = to_ms(clock::now());
    let mut rules = bridge.tables.collect_rules(&Criteria {
        hidden: true,
        ..Criteria::all()
    });
    rules.sort_by_key(|r| (r.table_id, std::cmp::Reverse(r.priority), r.cookie));
    let mut out = String::new();
    for rule in rules {
        let stats = rule.stats();
        if rule.table_id != 0 {
            let _ = write!(out, "table_id={}, ", rule.table_id);
        }
        let _ = write!(
            out,
            "duration={}s, n_packets={}, n_bytes={}, ",
            (now_ms - rule.created_ms) / 1000,
            stats.n_packets,
            stats.n_bytes
        );
        if offload_stats {
            out.push_str("n_offload_packets=0, n_offload_bytes=0, ");
        }
        crate::codec::format_match(
            &mut out,
            &rule.match_.expand(),
            rule.priority,
            &bridge.tun_table,
        );
        out.push_str(",actions=");
        crate::codec::format_actions(&mut out, &rule.actions.actions, &bridge.tun_table);
        out.push('\n');
    }
    text(out)
}

pub fn list_tunnels(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::new();
    for bridge in ofprotos.ofprotos() {
        for port in bridge.ports.values().filter(|p| p.tunnel_port.is_some()) {
            let Some(config) = port.netdev.class().tunnel_config() else {
                continue;
            };
            let n = port.dp_port.0;
            let _ = write!(out, "port {n}: {} ({}: ", port.name(), port.netdev.kind());
            write_tunnel(&mut out, &config, n);
            out.push_str(")\n");
        }
    }
    text(out)
}

fn write_tunnel(out: &mut String, c: &TunnelConfig, dp_port: u32) {
    describe::tunnel_match(out, c, dp_port);
    let in_key = (c.in_key_present, c.in_key_flow, c.in_key);
    let out_key = (c.out_key_present, c.out_key_flow, c.out_key);
    if in_key != out_key {
        let shown = if c.out_key_present {
            describe::tunnel_key(c.out_key_flow, c.out_key)
        } else {
            "none".to_string()
        };
        let _ = write!(out, ", out_key={shown}");
    }
    let _ = match c.ttl_inherit {
        true => write!(out, ", ttl=inherit"),
        false => write!(out, ", ttl={}", c.ttl),
    };
    if c.tos_inherit {
        out.push_str(", tos=inherit");
    } else if c.tos != 0 {
        let _ = write!(out, ", tos={:#x}", c.tos);
    }
    if !c.dont_fragment {
        out.push_str(", df=false");
    }
    if c.csum == Some(true) {
        out.push_str(", csum=true");
    }
}
