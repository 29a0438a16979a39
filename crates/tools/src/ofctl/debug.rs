//! Commands that need no switch: reading and printing flows, matches, actions and messages.

use std::fmt::Write as _;

use ferrovs_openflow::action::{decode, encode, instructions};
use ferrovs_openflow::codec::{self, error_reply};
use ferrovs_openflow::error::OfpErr;
use ferrovs_openflow::flow::{FlowMod, FlowModCommand};
use ferrovs_openflow::group::GroupCommand;
use ferrovs_openflow::legacy;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::oxm::{self, PullOptions};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_actions;
use ferrovs_openflow::text::cursor;
use ferrovs_openflow::text::flow::{parse_flow_mod, warn_unmeant};
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::text::print::hex_dump;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_runtime::{fatal, fatal_io};

use super::flows::{flow_mod_message, parse_commands, read_file, stdin_lines};
use super::names::SwitchNames;
use super::{Options, print_message, put};

fn print_flow_mods(list: Vec<FlowMod>, usable: Protocol, tun: &Tun<'_>, opt: &Options) {
    let protocols = opt.protocols
        | if opt.protocols.is_empty() {
            Protocol::all()
        } else {
            Protocol::empty()
        };
    let Some(p) = (usable & protocols).each().next() else {
        println!("usable protocols: {}", usable.names());
        fatal("no usable protocol");
    };
    println!("usable protocols: {}", usable.names());
    println!("chosen protocol: {}", p.name().unwrap_or_default());
    for fm in list {
        let body = flow_mod_message(fm, p);
        let bytes = Msg::new(p.version(), super::vconn::next_xid(), body).to_bytes(tun);
        super::print_with(&bytes, Names::none(tun), opt.verbosity);
    }
}

pub fn parse_flow(args: &[String], opt: &mut Options) {
    let n = SwitchNames::none();
    let mut usable = Protocol::all();
    match parse_flow_mod(&args[0], FlowModCommand::Add, &n.names(), &mut usable) {
        Ok(fm) => {
            warn_unmeant(&fm);
            print_flow_mods(vec![fm], usable, &n.tun, opt);
        }
        Err(e) => fatal(e),
    }
}

pub fn parse_flows(args: &[String], opt: &mut Options) {
    let text = match read_file(&args[0]) {
        Ok(t) => t,
        Err(e) => fatal_io(&e, format_args!("{}: open failed", args[0])),
    };
    let n = SwitchNames::none();
    let mut usable = Protocol::all();
    let list = parse_commands(
        &text,
        &args[0],
        Some(FlowModCommand::Add),
        &n.names(),
        &mut usable,
    );
    print_flow_mods(list, usable, &n.tun, opt);
}

pub fn parse_group(args: &[String], opt: &mut Options) {
    let tun = Tun::auto();
    let mut usable = Protocol::all();
    let g = match ferrovs_openflow::text::group::parse_group_mod(
        &args[0],
        GroupCommand::Add,
        &Names::none(&tun),
        &mut usable,
    ) {
        Ok(g) => g,
        Err(e) => fatal(e),
    };
    println!("usable protocols: {}", usable.names());
    let Some(p) = (usable & opt.protocols).each().next() else {
        fatal("no usable protocol")
    };
    println!("chosen version: {}", p.version().name());
    let bytes =
        Msg::new(p.version(), super::vconn::next_xid(), Message::GroupMod(g)).to_bytes(&tun);
    print_message(&bytes, opt.verbosity);
}

/// Bytes in hexadecimal with blanks and comments.
fn hex_line(line: &str) -> Option<Vec<u8>> {
    let digits: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    Some(
        (0..digits.len() / 2)
            .filter_map(|i| u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).ok())
            .collect(),
    )
}

/// The text of entries: `NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(0a000000/ff000000)`.
fn entries_from_text(line: &str) -> Option<Vec<u8>> {
    use ferrovs_packet::field::Field;
    let mut out = Vec::new();
    let mut rest = line.trim();
    if rest == "<any>" {
        return Some(out);
    }
    while !rest.is_empty() {
        let (name, tail) = rest.split_once('(')?;
        let (value, tail) = tail.split_once(')')?;
        let name = name.trim();
        let (base, masked) = match name.strip_suffix("_W") {
            Some(b) => (b, true),
            None => (name, false),
        };
        let (val, mask) = value
            .split_once('/')
            .map_or((value, None), |(a, b)| (a, Some(b)));
        let v = hex_line(val)?;
        let m = match mask {
            Some(m) => Some(hex_line(m)?),
            None => None,
        };
        if base == "NXM_NX_COOKIE" {
            let header: u32 =
                0x0001 << 16 | 30 << 9 | u32::from(masked) << 8 | if masked { 16 } else { 8 };
            out.extend_from_slice(&header.to_be_bytes());
        } else {
            let (_, o) = Field::by_oxm_name(base)?;
            o.header(v.len() as u8, masked || m.is_some())
                .write(&mut out);
        }
        out.extend(&v);
        out.extend(m.iter().flatten());
        rest = tail.trim_start_matches([',', ' ']);
    }
    Some(out)
}

fn entries_to_text(mut data: &[u8]) -> String {
    use ferrovs_packet::field::{Field, OxmHeader};
    if data.is_empty() {
        return "<any>".to_owned();
    }
    let mut out = String::new();
    while let Some(h) = OxmHeader::read(data) {
        data = &data[h.size()..];
        let n = usize::from(h.len).min(data.len());
        let (body, rest) = data.split_at(n);
        data = rest;
        if !out.is_empty() {
            out.push_str(", ");
        }
        let cookie = h.class == 1 && h.number == 30 && n >= 8;
        match Field::by_oxm(h) {
            _ if cookie => out.push_str("NXM_NX_COOKIE"),
            Some((_, o)) => out.push_str(o.name),
            None => {
                let _ = write!(out, "{}:{}", h.class, h.number);
            }
        }
        if h.has_mask {
            out.push_str("_W");
        }
        out.push('(');
        let hex = |b: &[u8], out: &mut String| {
            b.iter().for_each(|x| {
                let _ = write!(out, "{x:02x}");
            })
        };
        if h.has_mask {
            hex(&body[..n / 2], &mut out);
            out.push('/');
            hex(&body[n / 2..], &mut out);
        } else {
            hex(body, &mut out);
        }
        out.push(')');
    }
    out
}

fn parse_entries(flavor: oxm::Flavor, opt: &Options) {
    let tun = Tun::auto();
    for line in stdin_lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            println!("{line}");
            continue;
        }
        let Some(bytes) = entries_from_text(line) else {
            fatal(format_args!("{line}: unknown field or bad syntax"));
        };
        let o = PullOptions {
            lenient: !opt.strict,
            cookie: flavor.is_none(),
            ..Default::default()
        };
        match oxm::pull_entries(&bytes, &o, &tun) {
            Ok(p) => {
                let mut out = Vec::new();
                oxm::put_entries(&p.match_, flavor, p.cookie, p.cookie_mask, &tun, &mut out);
                println!("{}", entries_to_text(&out));
            }
            Err(e) => println!("nx_pull_match() returned error {}", e.name()),
        }
    }
}

pub fn parse_nxm(_: &[String], opt: &mut Options) {
    parse_entries(None, opt);
}

pub fn parse_oxm(args: &[String], opt: &mut Options) {
    match Version::from_name(&args[0]) {
        Some(v) if v >= Version::V12 => parse_entries(Some(v), opt),
        _ => fatal(
            format_args!("{}: not a valid OXM version", args[0])
                .to_string()
                .as_str(),
        ),
    }
}

fn version_arg(s: &str) -> Version {
    match Version::from_name(s) {
        Some(v) => v,
        None => fatal(
            format_args!("{s}: not a valid OpenFlow version")
                .to_string()
                .as_str(),
        ),
    }
}

fn parse_hex_actions(args: &[String], as_instructions: bool) {
    let version = version_arg(&args[0]);
    let tun = Tun::auto();
    for line in stdin_lines() {
        let Some(bytes) = hex_line(line.split('#').next().unwrap_or("")) else {
            fatal("Trailing garbage in hex data");
        };
        if bytes.is_empty() {
            println!("{line}");
            continue;
        }
        let result = if as_instructions {
            instructions::decode(&bytes, version, &tun)
        } else {
            decode::action_list(&bytes, version, &tun)
        };
        match result {
            Ok(list) => {
                let mut out = String::from("actions=");
                format_actions(&list, &Names::none(&tun), &mut out);
                println!("{out}");
                let mut again = Vec::new();
                if as_instructions {
                    instructions::encode(&list, version, &tun, &mut again);
                } else {
                    encode::actions(&list, version, &tun, &mut again);
                }
                differences(&bytes, &again);
            }
            Err(e) => println!(
                "bad {} {}: {}\n",
                version.name(),
                if as_instructions {
                    "instructions"
                } else {
                    "actions"
                },
                e.name()
            ),
        }
    }
}

fn differences(a: &[u8], b: &[u8]) {
    for i in 0..a.len().max(b.len()) {
        let text = |x: Option<&u8>| x.map_or("(none)".to_owned(), |b| format!("{b:02x}"));
        if a.get(i) != b.get(i) {
            println!("{i:2}: {} -> {}", text(a.get(i)), text(b.get(i)));
        }
    }
    println!();
}

pub fn parse_actions(args: &[String], _: &mut Options) {
    parse_hex_actions(args, false);
}

pub fn parse_instructions(args: &[String], _: &mut Options) {
    parse_hex_actions(args, true);
}

fn parse_legacy(len: usize, v11: bool) {
    let tun = Tun::auto();
    for line in stdin_lines() {
        let text = line.split('#').next().unwrap_or("");
        let Some(bytes) = hex_line(text) else {
            fatal("Trailing garbage in hex data")
        };
        if bytes.is_empty() {
            println!("{line}");
            continue;
        }
        if bytes.len() != len {
            fatal(
                format_args!("{} bytes, but {len} expected", bytes.len())
                    .to_string()
                    .as_str(),
            );
        }
        let parsed = if v11 {
            legacy::match_from_ofp11(&bytes)
        } else {
            legacy::match_from_ofp10(&bytes)
        };
        match parsed {
            Ok(m) => {
                let mut out = String::new();
                format_match(&m, None, &Names::none(&tun), &mut out);
                println!("{out}");
                let mut again = if v11 { vec![0, 0, 0, 88] } else { Vec::new() };
                if v11 {
                    legacy::match_to_ofp11(&m, &mut again);
                } else {
                    legacy::match_to_ofp10(&m, &mut again);
                }
                differences(&bytes, &again);
            }
            Err(e) => println!("bad ofp11_match: {}\n", e.name()),
        }
    }
}

pub fn parse_ofp10_match(_: &[String], _: &mut Options) {
    parse_legacy(legacy::OFP10_MATCH_LEN, false);
}

pub fn parse_ofp11_match(_: &[String], _: &mut Options) {
    parse_legacy(legacy::OFP11_MATCH_LEN, true);
}

pub fn print_error(args: &[String], _: &mut Options) {
    let Some(e) = OfpErr::from_name(&args[0]) else {
        fatal(format_args!("unknown error \"{}\"", args[0]));
    };
    for v in Version::ALL {
        if let Some(c) = e.code(v) {
            let vendor = if c.vendor == 0 {
                "0".to_owned()
            } else {
                format!("{:#x}", c.vendor)
            };
            println!(
                "OpenFlow 1.{}: vendor {vendor}, type {}, code {}",
                v.minor(),
                c.type_,
                c.code
            );
        }
    }
}

pub fn encode_error_reply(args: &[String], _: &mut Options) {
    let Some(e) = OfpErr::from_name(&args[0]) else {
        fatal(format_args!("unknown error \"{}\"", args[0]));
    };
    let Some(bytes) = hex_line(&args[1]) else {
        fatal("Trailing garbage in hex data")
    };
    super::put_hex(&error_reply(e, &bytes));
}

pub fn ofp_print(args: &[String], opt: &mut Options) {
    let Some(bytes) = hex_line(&args[0]) else {
        fatal("trailing garbage following hex bytes");
    };
    let verbosity = args.get(1).map_or(opt.verbosity, |v| cursor::atoi(v) as u8);
    print_message(
        &bytes,
        if args.len() > 1 {
            verbosity
        } else {
            verbosity.max(2)
        },
    );
}

/// `encode-hello BITMAP`
pub fn encode_hello(args: &[String], _: &mut Options) {
    let bits = cursor::parse_u64(&args[0]).unwrap_or(0) as u32;
    let bytes = codec::encode_hello(Versions(bits));
    let mut out = String::new();
    hex_dump(&bytes, false, &mut out);
    put(&out);
    print_message(&bytes, 0);
}

pub fn parse_key_value(args: &[String], _: &mut Options) {
    for a in args {
        let mut list = a.as_str();
        let mut out = String::new();
        while let Some((k, v)) = cursor::next_pair(&mut list) {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(k);
            if !v.is_empty() {
                let _ = write!(out, "={v}");
            }
        }
        println!("{out}");
    }
}

pub fn ofp_parse(args: &[String], opt: &mut Options) {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = if args[0] == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(&args[0]).and_then(|mut f| f.read_to_end(&mut bytes))
    };
    if let Err(e) = read {
        fatal_io(&e, format_args!("{}: open", args[0]));
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        if rest.len() < 8 {
            fatal(format_args!(
                "{}: unexpected end of file mid-message",
                args[0]
            ));
        }
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if len < 8 {
            fatal(format_args!(
                "{}: {len}-byte message is too short for OpenFlow",
                args[0]
            ));
        }
        if len > rest.len() {
            fatal(format_args!(
                "{}: unexpected end of file mid-message",
                args[0]
            ));
        }
        print_message(&rest[..len], opt.verbosity + 2);
        rest = &rest[len..];
    }
}

/// Prints the OpenFlow messages of a packet capture, put together per TCP flow.
pub fn ofp_parse_pcap(args: &[String], opt: &mut Options) {
    let bytes = match std::fs::read(&args[0]) {
        Ok(b) => b,
        Err(e) => fatal_io(&e, format_args!("{}: open", args[0])),
    };
    let ports: Vec<u16> = if args.len() > 1 {
        args[1..].iter().filter_map(|a| a.parse().ok()).collect()
    } else {
        vec![6633, 6653]
    };
    let mut streams: std::collections::HashMap<Vec<u8>, Vec<u8>> = Default::default();
    let u32_at = |o: usize, swap: bool| -> Option<u32> {
        let b: [u8; 4] = bytes.get(o..o + 4)?.try_into().ok()?;
        Some(if swap {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    };
    let swap = match u32_at(0, false) {
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d) => false,
        Some(0xd4c3_b2a1 | 0x4d3c_b2a1) => true,
        _ => fatal(
            format_args!("{}: bad magic, not a pcap file", args[0])
                .to_string()
                .as_str(),
        ),
    };
    let mut at = 24;
    while let Some(len) = u32_at(at + 8, swap) {
        let Some(packet) = bytes.get(at + 16..at + 16 + len as usize) else {
            break;
        };
        at += 16 + len as usize;
        if let Some((key, payload, from, to)) = tcp_payload(packet) {
            if !ports.contains(&from) && !ports.contains(&to) {
                continue;
            }
            let s = streams.entry(key.clone()).or_default();
            s.extend_from_slice(payload);
            while s.len() >= 8 {
                let n = usize::from(u16::from_be_bytes([s[2], s[3]]));
                if n < 8 {
                    s.clear();
                    break;
                }
                if s.len() < n {
                    break;
                }
                let msg: Vec<u8> = s.drain(..n).collect();
                let ip = |b: &[u8]| format!("{}.{}.{}.{}", b[0], b[1], b[2], b[3]);
                println!("{}.{from} > {}.{to}:", ip(&key[0..4]), ip(&key[4..8]));
                print_message(&msg, opt.verbosity + 1);
            }
        }
    }
}

/// Addresses and ports as a key, payload, ports.
fn tcp_payload(p: &[u8]) -> Option<(Vec<u8>, &[u8], u16, u16)> {
    if p.get(12..14)? != [8, 0] || *p.get(23)? != 6 {
        return None;
    }
    let ihl = usize::from(p.get(14)? & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([*p.get(16)?, *p.get(17)?]));
    let tcp = 14 + ihl;
    let off = usize::from(p.get(tcp + 12)? >> 4) * 4;
    let port = |o: usize| Some(u16::from_be_bytes([*p.get(o)?, *p.get(o + 1)?]));
    let (from, to) = (port(tcp)?, port(tcp + 2)?);
    let mut key = p.get(26..34)?.to_vec();
    key.extend_from_slice(p.get(tcp..tcp + 4)?);
    let payload = p.get(tcp + off..(14 + total).min(p.len()))?;
    Some((key, payload, from, to))
}
