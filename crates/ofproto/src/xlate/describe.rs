//! What a translation meets, in words: rules, actions and tunnels, for traces, commands and the log.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use ferrovs_encap::{PacketTypeMode, TunnelConfig};
use ferrovs_openflow::action::Action;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_action;
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::tun::Tun;
use ferrovs_packet::field::PortMap;
use ferrovs_packet::types::OfPort;

use super::snapshot::XBridge;
use crate::rule::Rule;

/// Runs `run` with the names of the ports of `bridge`, or with numbers only. Tables have numbers in any case.
pub fn with_names<R>(bridge: Option<&XBridge>, run: impl FnOnce(&Names<'_>) -> R) -> R {
    let tun = Tun::auto();
    let numbers = Names::none(&tun);
    match bridge {
        Some(bridge) => run(&Names {
            ports: &BridgePorts(bridge),
            ..numbers
        }),
        None => run(&numbers),
    }
}

/// A rule as a trace names it: match, priority, cookie if it has one.
pub fn rule(rule: &Rule, names: &Names<'_>) -> String {
    let mut text = String::new();
    // The priority is told behind the match, also when it is the default.
    format_match(&rule.match_.expand(), None, names, &mut text);
    if !text.is_empty() {
        text.push_str(", ");
    }
    let _ = write!(text, "priority {}", rule.priority);
    if rule.cookie != 0 {
        let _ = write!(text, ", cookie {:#x}", rule.cookie);
    }
    text
}

/// A rule that matched together with others.
pub fn conj_rule(rule: &Rule, names: &Names<'_>) -> String {
    let mut text = String::from("conj. ");
    format_match(
        &rule.match_.expand(),
        u16::try_from(rule.priority).ok(),
        names,
        &mut text,
    );
    text
}

pub fn action(action: &Action, names: &Names<'_>) -> String {
    let mut out = String::new();
    format_action(action, names, &mut out);
    out
}

/// The same for a list.
pub fn actions(actions: &[Action], names: &Names<'_>) -> String {
    let texts: Vec<_> = actions.iter().map(|a| action(a, names)).collect();
    texts.join(",")
}

/// What packets a tunnel port takes: addresses, key, kind of packets and the datapath's port.
pub fn tunnel_match(out: &mut String, c: &TunnelConfig, dp_port: u32) {
    let end = |ip: Option<IpAddr>, by_flow: bool| match ip {
        _ if by_flow => "flow".to_string(),
        Some(ip) => ip.to_string(),
        None => "::".to_string(),
    };
    let _ = write!(
        out,
        "{}->{}",
        end(c.src, c.ip_src_flow),
        end(c.dst, c.ip_dst_flow)
    );
    let _ = write!(out, ", key={}", tunnel_key(c.in_key_flow, c.in_key));
    let mode = match c.packet_type {
        PacketTypeMode::LegacyL2 => "legacy_l2",
        PacketTypeMode::LegacyL3 => "legacy_l3",
        PacketTypeMode::Ptap => "ptap",
    };
    let _ = write!(out, ", {mode}, dp port={dp_port}");
}

pub fn tunnel_key(by_flow: bool, key: u64) -> String {
    match key {
        _ if by_flow => "flow".to_string(),
        0 => "0".to_string(),
        key => format!("{key:#x}"),
    }
}

/// The names of a bridge's ports.
struct BridgePorts<'a>(&'a XBridge);

impl PortMap for BridgePorts<'_> {
    fn port_by_name(&self, name: &str) -> Option<OfPort> {
        let ports = &self.0.ports;
        ports.values().find(|p| p.name == name).map(|p| p.ofport)
    }

    fn name_of(&self, port: OfPort) -> Option<Cow<'_, str>> {
        let port = self.0.ports.get(&port)?;
        Some(Cow::Borrowed(port.name.as_str()))
    }
}
