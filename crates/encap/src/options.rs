//! Options of tunnel ports: which there are, what they mean, how they are shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferrovs_packet::types::eth_type;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::{NETDEV_VPORT, SOCKET_UTIL};

use crate::config::{Erspan, FlowLabel, PacketTypeMode, Setting, TunnelConfig};
use crate::row::{Carries, TunnelType};

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

/// The member of ERSPAN's header that an option is for, its greatest value, and what errors call it.
fn erspan_member<'a>(
    e: &'a mut Erspan,
    option: &str,
) -> Option<(&'a mut Setting, u32, &'static str)> {
    Some(match option {
        "erspan_ver" => (&mut e.ver, 2, "version"),
        "erspan_idx" => (&mut e.idx, 0xf_ffff, "index"),
        "erspan_dir" => (&mut e.dir, 1, "direction"),
        "erspan_hwid" => (&mut e.hwid, 0x3f, "hardware ID"),
        _ => return None,
    })
}

struct Wrong {
    text: String,
    /// Nothing can be made of the configuration; else only the option has no effect.
    fatal: bool,
}

/// Options of one type of tunnel, which no other type objects to. None if the option is none of these.
fn of_one_type(c: &mut TunnelConfig, option: &str, text: &str) -> Option<Result<(), Wrong>> {
    let wrong = |text: String, fatal: bool| Err(Wrong { text, fatal });
    Some(match option {
        "erspan_ver" | "erspan_idx" | "erspan_dir" | "erspan_hwid" => {
            set_erspan(&mut c.erspan, option, text).or_else(|text| wrong(text, true))
        }
        "srv6_segs" => match segments(text) {
            Some(segments) => {
                c.srv6_segs = segments;
                Ok(())
            }
            None => {
                let first = text.split(',').next().unwrap_or_default();
                wrong(format!("bad {first} 'srv6_segs'"), false)
            }
        },
        "srv6_flowlabel" => {
            c.srv6_flowlabel = match text {
                "zero" => FlowLabel::Zero,
                "compute" => FlowLabel::Compute,
                _ => FlowLabel::Copy,
            };
            Ok(())
        }
        "payload_type" => match payload_type(text) {
            Some(ty) => {
                c.payload_type = ty;
                Ok(())
            }
            None => wrong(format!("bad {text} 'payload_type'"), true),
        },
        _ => return None,
    })
}

fn set_erspan(e: &mut Erspan, option: &str, text: &str) -> Result<(), String> {
    if option == "erspan_ver" && text == "flow" {
        // Which members there are is open, and so are they.
        (e.ver, e.idx, e.dir, e.hwid) =
            (Setting::Flow, Setting::Flow, Setting::Flow, Setting::Flow);
        return Ok(());
    }
    let Some((member, max, called)) = erspan_member(e, option) else {
        return Ok(());
    };
    if text == "flow" {
        *member = Setting::Flow;
        return Ok(());
    }
    let value = match option {
        "erspan_ver" | "erspan_dir" => atoi(text),
        _ => hexadecimal(text),
    };
    let least = i64::from(option == "erspan_ver");
    if value < least || value > i64::from(max) {
        return Err(format!("invalid erspan {called}: {text}"));
    }
    // Once the version is left to the flow, the members are.
    if *member != Setting::Flow || option == "erspan_ver" {
        *member = Setting::Is(value as u32);
    }
    Ok(())
}

/// A number as strtol(3) reads it with base 16.
fn hexadecimal(text: &str) -> i64 {
    let t = text.trim_start();
    let t = t.strip_prefix("0x").or(t.strip_prefix("0X")).unwrap_or(t);
    let end = t.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(t.len());
    match end {
        0 => 0,
        _ => i64::from_str_radix(&t[..end], 16).unwrap_or(i64::MAX),
    }
}

/// The bits of the extensions that are named.
fn extensions(ty: &TunnelType, text: &str) -> u32 {
    let mut bits = 0;
    for ext in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        match ty.options.exts.iter().find(|(n, _)| *n == ext) {
            Some((_, bit)) => bits |= bit,
            None => vlog::warn!(NETDEV_VPORT, "unknown extension '{ext}'"),
        }
    }
    bits
}

/// Addresses between commas.
fn segments(text: &str) -> Option<Vec<Ipv6Addr>> {
    const MAX: usize = 6;
    let parts = text.split(',').filter(|s| !s.is_empty());
    let segments: Option<Vec<_>> = parts.map(|s| s.parse().ok()).collect();
    segments.filter(|s| s.len() <= MAX)
}

/// An EtherType, or the name of one.
fn payload_type(text: &str) -> Option<u16> {
    match text {
        "mpls" => Some(eth_type::MPLS),
        "ip" => Some(eth_type::IP),
        _ => match number(text) {
            (ty, true) if ty >= eth_type::MIN.into() => u16::try_from(ty).ok(),
            _ => None,
        },
    }
}

/// How packets look to the bridge: as asked, if the tunnel carries such packets.
fn set_mode(
    c: &mut TunnelConfig,
    carries: Carries,
    asked: Option<PacketTypeMode>,
) -> Result<(), String> {
    let mode = asked.unwrap_or(carries.default_mode());
    let (can, layer) = match mode {
        PacketTypeMode::LegacyL2 => (carries.l2, "L2"),
        PacketTypeMode::LegacyL3 => (carries.l3, "L3"),
        PacketTypeMode::Ptap => (true, ""),
    };
    if !can {
        return Err(format!(
            "{} configured on {} tunnel that cannot carry {layer} traffic",
            mode.as_str(),
            carries.called
        ));
    }
    c.packet_type = mode;
    Ok(())
}

/// Reads the options of the port `name`.
pub fn parse(ty: &TunnelType, name: &str, options: &BTreeMap<String, String>) -> Parsed {
    let kind = ty.kind;
    let mut c = TunnelConfig::new(ty);
    let mut messages = Vec::new();
    let mut fatal = false;
    let mut mode = None;
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
            "exts" if !ty.options.exts.is_empty() => c.exts |= extensions(ty, v),
            "packet_type" => match PacketTypeMode::named(v) {
                Some(m) => mode = Some(m),
                None => {
                    messages.push(format!("{name}: unknown packet_type '{v}'"));
                    fatal = true;
                }
            },
            // Read below, or by the IPsec daemon.
            "key" | "in_key" | "out_key" | "psk" | "remote_cert" | "remote_name" => {}
            k if k.starts_with("ipsec_") => {}
            _ => match of_one_type(&mut c, k, v) {
                None => messages.push(format!("{name}: unknown {kind} argument '{k}'")),
                Some(Ok(())) => {}
                Some(Err(_)) if fatal => {}
                Some(Err(wrong)) => {
                    messages.push(format!("{name}: {}", wrong.text));
                    fatal |= wrong.fatal;
                }
            },
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
    let carries = (ty.carries)(&c);
    if let Err(text) = set_mode(&mut c, carries, mode)
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
    if c.packet_type != (ty.carries)(c).default_mode() {
        add("packet_type", c.packet_type.as_str().into());
    }
    if !c.dont_fragment {
        add("df_default", "false".into());
    }
    if let Some(mark) = c.egress_pkt_mark {
        add("egress_pkt_mark", mark.to_string());
    }
    if ty.options.erspan {
        let e = &c.erspan;
        let shown = |s: Setting, hex: bool| match s {
            Setting::Flow => "flow".to_owned(),
            Setting::Is(n) if hex => format!("{n:#x}"),
            Setting::Is(n) => n.to_string(),
        };
        add("erspan_ver", shown(e.ver, false));
        if matches!(e.ver, Setting::Is(1) | Setting::Flow) {
            add("erspan_idx", shown(e.idx, true));
        }
        if matches!(e.ver, Setting::Is(2) | Setting::Flow) {
            add("erspan_dir", shown(e.dir, false));
            add("erspan_hwid", shown(e.hwid, true));
        }
    }
    o
}
