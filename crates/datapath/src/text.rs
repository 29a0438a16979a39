//! Text forms of keys, masks, actions and statistics, both ways.
//!
//! The texts are those of `dpctl/dump-flows` and `dpctl/parse-actions`: scripts and tests compare them byte for
//! byte, so every rule about what is printed and in which order is a fact of the interface and not a choice.
//! A key is printed attribute by attribute (`eth(..)`, `ipv4(..)`), each member with `/mask` unless it is exact;
//! members and attributes that are wholly wildcarded appear only in verbose form (`-m`). Each attribute is a row of the
//! module `key`, each action one of `actions::rows`, which also know how long it is in a message.
//!
//! [`FieldWriter`] prints the members of one attribute and [`Cursor`](ferrovs_packet::text::Cursor) reads them back.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Instant;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_packet::text::hex;
use ferrovs_packet::types::{DpPort, MacAddr, eth_type, ip_proto};

use crate::flow::FlowStats;
use crate::id::Ufid;
use crate::port::DpPortInfo;

mod actions;
mod flow;
mod key;
mod members;

use actions::ActionParser;
pub use actions::{ActionsError, format_action, format_actions, message_size, parse_actions};
pub use flow::{format_flow, miniflow_bits};
pub use key::{KeyError, Misfit, ParsedKey, format_match, packet_from_text, parse_key};

/// Names and numbers of the ports of one datapath.
#[derive(Clone, Debug, Default)]
pub struct PortNames {
    names: HashMap<DpPort, String>,
    numbers: HashMap<String, DpPort>,
}

impl PortNames {
    pub fn new(ports: &[DpPortInfo]) -> PortNames {
        let mut out = PortNames::default();
        for port in ports {
            out.names.insert(port.port, port.name.clone());
            out.numbers.insert(port.name.clone(), port.port);
        }
        out
    }

    pub fn name(&self, port: DpPort) -> Option<&str> {
        self.names.get(&port).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<DpPort> {
        self.numbers.get(name).copied()
    }
}

/// How OpenFlow writes a key and a match: its language is not known here.
#[derive(Clone, Copy, Debug)]
pub struct OpenFlowTexts {
    pub flow: fn(&Flow) -> String,
    pub match_: fn(&Match) -> String,
}

static OPENFLOW: OnceLock<OpenFlowTexts> = OnceLock::new();

/// The program that knows OpenFlow calls this once, for logs.
pub fn set_openflow_texts(texts: OpenFlowTexts) {
    _ = OPENFLOW.set(texts);
}

/// A match as OpenFlow writes it; empty without [`set_openflow_texts`].
pub fn format_openflow_match(m: &Match) -> String {
    OPENFLOW.get().map(|o| (o.match_)(m)).unwrap_or_default()
}

/// What a packet is, in OpenFlow's language.
pub fn format_openflow_flow(flow: &Flow) -> String {
    OPENFLOW
        .get()
        .map(|texts| (texts.flow)(flow))
        .unwrap_or_default()
}

/// A packet as a flow in OpenFlow's language, with the checksum of its transport header.
pub fn format_packet(packet: &Packet) -> String {
    let Some(texts) = OPENFLOW.get() else {
        return String::new();
    };
    let mut copy = Packet::from_slice(packet.data());
    copy.md.packet_type = packet.md.packet_type;
    copy.md.in_port = DpPort(0);
    let flow = Flow::from_packet(&mut copy);
    let mut out = (texts.flow)(&flow);
    let (name, at) = match (flow.dl_type.get(), flow.nw_proto) {
        (eth_type::IP | eth_type::IPV6, ip_proto::TCP) => ("tcp_csum", 16),
        (eth_type::IP | eth_type::IPV6, ip_proto::UDP) => ("udp_csum", 6),
        (eth_type::IP | eth_type::IPV6, ip_proto::SCTP) => ("sctp_csum", 8),
        (eth_type::IP, ip_proto::ICMP) => ("icmp_csum", 2),
        (eth_type::IPV6, ip_proto::ICMPV6) => ("icmp6_csum", 2),
        _ => return out,
    };
    let size = if name == "sctp_csum" { 4 } else { 2 };
    if let Some(sum) = copy.l4_data().get(at..at + size) {
        let sum = sum.iter().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
        _ = write!(out, " {name}:{sum:x}");
    }
    out
}

/// Prints a port by name where one is known, else by number.
pub fn format_port(out: &mut String, port: DpPort, names: Option<&PortNames>) {
    match names.and_then(|n| n.name(port)) {
        Some(name) => out.push_str(name),
        None => _ = write!(out, "{}", port.0),
    }
}

/// Names of the TCP flags by bit; those that have none are told by their value.
pub const TCP_FLAGS: [&str; 12] = [
    "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]",
];
/// The flags in statistics, in the order in which they are told.
const SHORT_TCP_FLAGS: [(u16, &str); 12] = [
    (1 << 1, "S"),
    (1 << 0, "F"),
    (1 << 3, "P"),
    (1 << 2, "R"),
    (1 << 5, "U"),
    (1 << 4, "."),
    (1 << 6, "E"),
    (1 << 7, "C"),
    (1 << 8, "N"),
    (1 << 9, "[200]"),
    (1 << 10, "[400]"),
    (1 << 11, "[800]"),
];
/// Names of the connection states by bit.
pub const CT_STATES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// Names of the tunnel flags by bit of `FlowTnl::flags`.
pub const TUNNEL_FLAGS: [&str; 4] = ["oam", "df", "csum", "key"];

/// Prints set flags joined by `delimiter`; "0" when none is set, unknown bits as a number.
pub fn format_flags(out: &mut String, names: &[&str], flags: u32, delimiter: char) {
    if flags == 0 {
        out.push('0');
        return;
    }
    let mut first = true;
    let mut rest = flags;
    for (i, name) in names.iter().enumerate() {
        if flags & 1 << i != 0 {
            if !first {
                out.push(delimiter);
            }
            out.push_str(name);
            first = false;
            rest &= !(1 << i);
        }
    }
    if rest != 0 {
        if !first {
            out.push(delimiter);
        }
        _ = write!(out, "{rest:#x}");
    }
}

/// Prints `+set-unset` for the bits of `mask`.
pub fn format_flags_masked(out: &mut String, names: &[&str], flags: u32, mask: u32) {
    for bit in 0..32 {
        if mask & 1 << bit == 0 {
            continue;
        }
        out.push(if flags & 1 << bit != 0 { '+' } else { '-' });
        match names.get(bit) {
            Some(name) => out.push_str(name),
            None => _ = write!(out, "[{bit}]"),
        }
    }
}

/// TCP flags as in statistics: one letter each.
pub fn format_tcp_flags_short(out: &mut String, flags: u16) {
    if flags == 0 {
        out.push_str("none");
        return;
    }
    for (flag, text) in SHORT_TCP_FLAGS {
        if flags & flag != 0 {
            out.push_str(text);
        }
    }
}

/// `packets:1, bytes:42, used:0.500s, flags:S`.
pub fn format_flow_stats(out: &mut String, stats: &FlowStats, now: Instant) {
    _ = write!(
        out,
        "packets:{}, bytes:{}, used:",
        stats.n_packets, stats.n_bytes
    );
    match stats.used {
        Some(used) => {
            let ms = now.saturating_duration_since(used).as_millis();
            _ = write!(out, "{}.{:03}s", ms / 1000, ms % 1000);
        }
        None => out.push_str("never"),
    }
    if stats.tcp_flags != 0 {
        out.push_str(", flags:");
        format_tcp_flags_short(out, stats.tcp_flags);
    }
}

impl std::fmt::Display for Ufid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

impl Ufid {
    /// Reads the 36 characters of an identifier, without its `ufid:` prefix.
    pub fn parse(text: &str) -> Option<Ufid> {
        if text.len() != 36 {
            return None;
        }
        let id = uuid::Uuid::try_parse(text).ok()?;
        Some(Ufid(id.as_u128()))
    }
}

/// Prints the members of one attribute.
pub struct FieldWriter<'a> {
    out: &'a mut String,
    verbose: bool,
    first: bool,
}

impl<'a> FieldWriter<'a> {
    pub fn new(out: &'a mut String, verbose: bool) -> Self {
        FieldWriter {
            out,
            verbose,
            first: true,
        }
    }

    pub fn raw(&mut self) -> &mut String {
        self.out
    }

    /// Begins a member; false when it is not to be printed.
    pub fn begin(&mut self, name: &str, wild: bool) -> bool {
        if wild && !self.verbose {
            return false;
        }
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push_str(name);
        self.out.push('=');
        true
    }

    /// A decimal member with a hexadecimal mask.
    pub fn dec(&mut self, name: &str, value: u64, mask: u64, full: u64) {
        if self.begin(name, mask == 0) {
            _ = write!(self.out, "{value}");
            self.mask(mask, full);
        }
    }

    pub fn hex(&mut self, name: &str, value: u64, mask: u64, full: u64) {
        if self.begin(name, mask == 0) {
            hex(self.out, value);
            self.mask(mask, full);
        }
    }

    fn mask(&mut self, mask: u64, full: u64) {
        if mask != full {
            self.out.push('/');
            hex(self.out, mask);
        }
    }

    pub fn mac(&mut self, name: &str, value: MacAddr, mask: MacAddr) {
        if self.begin(name, mask.is_zero()) {
            _ = write!(self.out, "{value}");
            if !mask.is_broadcast() {
                _ = write!(self.out, "/{mask}");
            }
        }
    }

    pub fn ipv4(&mut self, name: &str, value: u32, mask: u32) {
        if self.begin(name, mask == 0) {
            _ = write!(self.out, "{}", Ipv4Addr::from(value));
            if mask != u32::MAX {
                _ = write!(self.out, "/{}", Ipv4Addr::from(mask));
            }
        }
    }

    pub fn ipv6(&mut self, name: &str, value: [u8; 16], mask: [u8; 16]) {
        if self.begin(name, mask == [0; 16]) {
            _ = write!(self.out, "{}", Ipv6Addr::from(value));
            if mask != [0xff; 16] {
                _ = write!(self.out, "/{}", Ipv6Addr::from(mask));
            }
        }
    }
}

#[cfg(test)]
mod tests;
