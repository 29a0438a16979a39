//! Options of tunnel ports: which there are, what they mean, how they are shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::{NETDEV_VPORT, SOCKET_UTIL};

use crate::config::{PacketTypeMode, TunnelConfig};
use crate::row::TunnelType;

/// The outcome of parsing: without a configuration the messages are the error, else warnings.
pub struct Parsed {
    pub config: Option<TunnelConfig>,
    pub messages: Vec<String>,
}

/// An address option: an address, or (true) "flow".
fn address(text: &str) -> Option<(Option<IpAddr>, bool)> {
    if text == "flow" {
        return Some((None, true));
    }
    match text.parse::<IpAddr>() {
        Ok(a) => Some((Some(a), false)),
        Err(_) => {
            vlog::err!(SOCKET_UTIL, "\"{text}\" is not a valid IP address");
            None
        }
    }
}

/// A number as strtoull(3) reads it with base 0, as far as it goes; and whether that is all.
fn number(text: &str) -> (u64, bool) {
    let t = text.trim_start();
    let (digits, radix) = if let Some(h) = t.strip_prefix("0x").or(t.strip_prefix("0X")) {
        (h, 16)
    } else if t.len() > 1 && t.starts_with('0') {
        (&t[1..], 8)
    } else {
        (t, 10)
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let value = digits[..end].chars().fold(0u64, |v, c| {
        v.saturating_mul(radix.into())
            .saturating_add(c.to_digit(radix).unwrap_or(0).into())
    });
    (value, end == digits.len() && end > 0 || t == "0")
}

/// A number as atoi(3) reads it.
fn atoi(text: &str) -> i64 {
    let t = text.trim_start();
    let (t, sign) = t
        .strip_prefix('-')
        .map_or((t.strip_prefix('+').unwrap_or(t), 1), |t| (t, -1));
    let end = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    sign * t[..end]
        .parse::<i64>()
        .unwrap_or(if end == 0 { 0 } else { i64::MAX / 2 })
}

/// The key for one direction: (present, from the flow, value).
fn key(options: &BTreeMap<String, String>, name: &str) -> (bool, bool, u64) {
    match options
        .get(name)
        .or_else(|| options.get("key"))
        .map(String::as_str)
    {
        None => (false, false, 0),
        Some("flow") => (true, true, 0),
        Some(k) => (true, false, number(k).0),
    }
}

/// Reads the options of the port `name`.
pub fn parse(ty: &TunnelType, name: &str, options: &BTreeMap<String, String>) -> Parsed {
    let kind = ty.kind;
    let mut c = TunnelConfig::new(ty);
    let mut messages = Vec::new();
    let mut fatal = false;
    for (k, v) in options {
        match k.as_str() {
            "remote_ip" => match address(v) {
                None => messages.push(format!("{name}: bad {kind} 'remote_ip'")),
                Some((Some(a), _)) if a.is_multicast() => {
                    messages.push(format!("{name}: multicast remote_ip={v} not allowed"));
                    fatal = true;
                }
                Some((a, flow)) => (c.dst, c.ip_dst_flow) = (a, flow),
            },
            "local_ip" => match address(v) {
                None => messages.push(format!("{name}: bad {kind} 'local_ip'")),
                Some((a, flow)) => (c.src, c.ip_src_flow) = (a, flow),
            },
            "tos" if v == "inherit" => c.tos_inherit = true,
            "tos" => match number(v) {
                // The lower two bits are congestion notification's, not ours to set.
                (t, true) if t <= 0xff && t & 3 == 0 => c.tos = t as u8,
                _ => messages.push(format!("{name}: invalid TOS {v}")),
            },
            "ttl" if v == "inherit" => c.ttl_inherit = true,
            "ttl" => {
                c.ttl = atoi(v) as u8;
                if c.ttl == 0 {
                    c.ttl = ty.ttl;
                }
            }
            "dst_port" if ty.transport.port.is_some() => c.dst_port = atoi(v) as u16,
            "csum" if ty.options.csum => match v.as_str() {
                "true" => c.csum = Some(true),
                "false" => c.csum = Some(false),
                _ => {}
            },
            "seq" if ty.options.seq => c.seq = v == "true",
            "df_default" => c.dont_fragment = v == "true",
            "egress_pkt_mark" => c.egress_pkt_mark = Some(number(v).0 as u32),
            "exts" if !ty.options.exts.is_empty() => {
                for ext in v.split(',').map(str::trim).filter(|e| !e.is_empty()) {
                    match ty.options.exts.iter().find(|(n, _)| *n == ext) {
                        Some((_, bit)) => c.exts |= bit,
                        None => vlog::warn!(NETDEV_VPORT, "unknown extension '{ext}'"),
                    }
                }
            }
            "packet_type" => match v.as_str() {
                "legacy_l2" => c.packet_type = PacketTypeMode::LegacyL2,
                "legacy_l3" => c.packet_type = PacketTypeMode::LegacyL3,
                "ptap" => c.packet_type = PacketTypeMode::Ptap,
                _ => {
                    messages.push(format!("{name}: unknown packet_type '{v}'"));
                    fatal = true;
                }
            },
            // Read below, or by the IPsec daemon.
            "key" | "in_key" | "out_key" | "psk" | "remote_cert" | "remote_name" => {}
            k if k.starts_with("ipsec_") => {}
            _ => messages.push(format!("{name}: unknown {kind} argument '{k}'")),
        }
    }
    if c.dst.is_none() && !c.ip_dst_flow && !fatal {
        messages.push(format!(
            "{name}: {kind} type requires valid 'remote_ip' argument"
        ));
        fatal = true;
    }
    if c.ip_src_flow && !c.ip_dst_flow && !fatal {
        messages.push(format!(
            "{name}: {kind} type requires 'remote_ip=flow' with 'local_ip=flow'"
        ));
        fatal = true;
    }
    if let Err(text) = (ty.check)(&c)
        && !fatal
    {
        messages.push(format!("{name}: {text}"));
        fatal = true;
    }
    if let (Some(s), Some(d)) = (c.src, c.dst)
        && s.is_ipv4() != d.is_ipv4()
        && !fatal
    {
        messages.push(format!(
            "{name}: 'remote_ip' and 'local_ip' has to be of the same address family"
        ));
        fatal = true;
    }
    (c.in_key_present, c.in_key_flow, c.in_key) = key(options, "in_key");
    (c.out_key_present, c.out_key_flow, c.out_key) = key(options, "out_key");
    Parsed {
        config: (!fatal).then_some(c),
        messages,
    }
}

/// The options that would make this configuration, without those at their defaults.
pub fn to_options(ty: &TunnelType, c: &TunnelConfig) -> BTreeMap<String, String> {
    let mut o: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |k: &str, v: String| {
        o.insert(k.to_owned(), v);
    };
    let set = |a: Option<IpAddr>| {
        a.filter(|a| *a != Ipv4Addr::UNSPECIFIED && *a != Ipv6Addr::UNSPECIFIED)
    };
    if let Some(a) = set(c.dst) {
        add("remote_ip", a.to_string());
    } else if c.ip_dst_flow {
        add("remote_ip", "flow".into());
    }
    if let Some(a) = set(c.src) {
        add("local_ip", a.to_string());
    } else if c.ip_src_flow {
        add("local_ip", "flow".into());
    }
    if c.in_key_flow && c.out_key_flow {
        add("key", "flow".into());
    } else if c.in_key_present
        && c.out_key_present
        && !c.in_key_flow
        && !c.out_key_flow
        && c.in_key == c.out_key
    {
        add("key", c.in_key.to_string());
    } else {
        let mut one = |k: &str, present: bool, flow: bool, value: u64| {
            if flow {
                add(k, "flow".into());
            } else if present {
                add(k, value.to_string());
            }
        };
        one("in_key", c.in_key_present, c.in_key_flow, c.in_key);
        one("out_key", c.out_key_present, c.out_key_flow, c.out_key);
    }
    if c.ttl_inherit {
        add("ttl", "inherit".into());
    } else if c.ttl != ty.ttl {
        add("ttl", c.ttl.to_string());
    }
    if c.tos_inherit {
        add("tos", "inherit".into());
    } else if c.tos != 0 {
        add("tos", format!("{:#x}", c.tos));
    }
    if c.dst_port != 0 && Some(c.dst_port) != ty.transport.port {
        add("dst_port", c.dst_port.to_string());
    }
    if let Some(csum) = c.csum {
        add("csum", csum.to_string());
    }
    if c.seq {
        add("seq", "true".into());
    }
    if c.packet_type != PacketTypeMode::LegacyL2 {
        add("packet_type", c.packet_type.as_str().into());
    }
    if !c.dont_fragment {
        add("df_default", "false".into());
    }
    if let Some(mark) = c.egress_pkt_mark {
        add("egress_pkt_mark", mark.to_string());
    }
    o
}
