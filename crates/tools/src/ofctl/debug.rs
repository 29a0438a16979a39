//! Commands that need no switch: reading and printing flows, matches, actions and messages.

use std::fmt::Write as _;

use ferrovs_openflow::action::check::{Limits, check_for_protocol};
use ferrovs_openflow::action::{decode, encode, instructions};
use ferrovs_openflow::codec::{self, error_reply};
use ferrovs_openflow::error::OfpErr;
use ferrovs_openflow::flow::{FlowModCommand, PackedFlowMod};
use ferrovs_openflow::group::GroupCommand;
use ferrovs_openflow::legacy;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::oxm::{self, PullOptions};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_actions;
use ferrovs_openflow::text::cursor;
use ferrovs_openflow::text::flow::{parse_flow_mod, warn_unmeant};
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::text::print::{Print, format_entries, format_message, hex_dump};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_packet::flow::{Match, VLAN_PCP_SHIFT};
use ferrovs_runtime::{fatal, fatal_io};

use super::flows::{flow_mod_message, parse_commands, read_file, stdin_lines};
use super::names::SwitchNames;
use super::packets::Capture;
use super::{Options, print_message, put};

fn print_flow_mods(list: Vec<PackedFlowMod>, usable: Protocol, tun: &Tun<'_>, opt: &Options) {
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
    let print = Print {
        names: Names::none(tun),
        verbosity: opt.verbosity,
    };
    let mut out = super::Pieces::default();
    for fm in list {
        let body = flow_mod_message(fm.unpack(), p);
        let bytes = Msg::new(p.version(), super::vconn::next_xid(), body).to_bytes(tun);
        format_message(&bytes, print, &mut out.0);
        out.relieve();
    }
}

pub fn parse_flow(args: &[String], opt: &mut Options) {
    let n = SwitchNames::none();
    let mut usable = Protocol::all();
    match parse_flow_mod(&args[0], FlowModCommand::Add, &n.names(), &mut usable) {
        Ok(fm) => {
            warn_unmeant(&fm.match_);
            print_flow_mods(vec![fm.pack()], usable, &n.tun, opt);
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
                let mut text = String::new();
                format_entries(&out, &mut text);
                println!("{text}");
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
    for line in stdin_lines() {
        let text = line.split('#').next().unwrap_or("");
        // A table may stand before instructions.
        let (table, hex) = match text.split_once(',') {
            Some((table, hex)) => (cursor::atoi(table) as u8, hex),
            None => (0, text),
        };
        let Some(bytes) = hex_line(hex) else {
            fatal("Trailing garbage in hex data");
        };
        if bytes.is_empty() {
            continue;
        }
        // The options that a line names have all the room.
        let tun = Tun::auto();
        let result = if as_instructions {
            instructions::decode(&bytes, version, &tun).and_then(|mut list| {
                let limits = Limits::any_switch(table);
                let protocol = Protocol::all_of(version);
                check_for_protocol(&mut list, &Match::default(), limits, protocol)?;
                Ok(list)
            })
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
    if bytes.len() < 8 {
        fatal("Request too short");
    }
    super::put_hex(&error_reply(e, &bytes));
}

pub fn ofp_print(args: &[String], opt: &mut Options) {
    let line = if args[0] == "-" {
        stdin_lines().next()
    } else {
        Some(args[0].clone())
    };
    let Some(line) = line else {
        fatal("Failed to read stdin");
    };
    let Some(bytes) = hex_line(&line) else {
        fatal("trailing garbage following hex bytes");
    };
    let verbosity = match args.get(1) {
        Some(v) => cursor::atoi(v) as u8,
        None => opt.verbosity.max(2),
    };
    print_message(&bytes, verbosity);
}

/// `check-vlan TCI MASK`: how a match on the VLAN tag looks in every format, and what comes back from it.
pub fn check_vlan(args: &[String], _: &mut Options) {
    let [tci, mask] = [&args[0], &args[1]].map(|s| {
        let digits = s.trim_start_matches("0x");
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        let digits = &digits[..end.unwrap_or(digits.len())];
        // As much of the number as 16 bits hold.
        digits[digits.len().saturating_sub(4)..]
            .bytes()
            .fold(0, |n, c| {
                n << 4 | (c as char).to_digit(16).unwrap_or(0) as u16
            })
    });
    let tun = Tun::auto();
    let mut m = Match::default();
    m.flow.vlans[0].tci = tci.into();
    m.wc.masks.vlans[0].tci = mask.into();
    let of = |m: &Match| (m.flow.vlans[0].tci.get(), m.wc.masks.vlans[0].tci.get());
    let mut out = String::new();
    format_match(&m, None, &Names::none(&tun), &mut out);
    // What reading complains about comes behind the text.
    put(&format!("{out} -> "));
    out.clear();
    let _ = writeln!(out, "{:04x}/{mask:04x}", tci & mask);
    for (label, flavor) in [("NXM", None), ("OXM", Some(Version::V12))] {
        let mut bytes = Vec::new();
        oxm::put_entries(&m, flavor, 0, 0, &tun, &mut bytes);
        let _ = write!(out, "{label}: ");
        format_entries(&bytes, &mut out);
        let read = oxm::pull_entries(&bytes, &PullOptions::default(), &tun);
        out.push_str(" -> ");
        let _ = match (read.map(|p| of(&p.match_)), flavor) {
            (Err(e), _) => writeln!(out, "{}", e.name()),
            (Ok((tci, mask)), None) => writeln!(out, "{tci:04x}/{mask:04x}"),
            (Ok((tci, mask)), Some(_)) => {
                let pcp = match mask >> VLAN_PCP_SHIFT {
                    0 => "--".to_owned(),
                    _ => format!("{:02x}", tci >> VLAN_PCP_SHIFT),
                };
                writeln!(out, "{:04x}/{:04x},{pcp}", tci & 0x1fff, mask & 0x1fff)
            }
        };
    }
    let mut old = Vec::new();
    legacy::match_to_ofp10(&m, &mut old);
    let mut newer = vec![0, 0, 0, 88];
    legacy::match_to_ofp11(&m, &mut newer);
    let bits = |bytes: &[u8], at: usize, vid: u32, pcp: u32| {
        let w = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (u8::from(w & 1 << vid != 0), u8::from(w & 1 << pcp != 0))
    };
    // Where the wildcards stand and which bits are the tag's, and where the tag is.
    let old_bits = bits(&old, 0, 1, 20);
    let newer_bits = bits(&newer, 8, 1, 2);
    for (label, bytes, (vid, pcp), at, read) in [
        ("OF1.0", &old, old_bits, 18, legacy::match_from_ofp10(&old)),
        (
            "OF1.1",
            &newer,
            newer_bits,
            36,
            legacy::match_from_ofp11(&newer),
        ),
    ] {
        let tag = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let _ = write!(
            out,
            "{label}: {tag:04x}/{vid},{:02x}/{pcp} -> ",
            bytes[at + 2]
        );
        let _ = match read.map(|m| of(&m)) {
            Ok((tci, mask)) => writeln!(out, "{tci:04x}/{mask:04x}"),
            Err(e) => writeln!(out, "{}", e.name()),
        };
    }
    put(&out);
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

/// Bytes of one direction of a TCP connection, in their order; what comes early is dropped, as it comes again.
#[derive(Default)]
struct TcpStream {
    next: Option<u32>,
    bytes: Vec<u8>,
}

impl TcpStream {
    fn add(&mut self, segment: &Segment<'_>) {
        if segment.syn {
            *self = TcpStream {
                next: Some(segment.seq.wrapping_add(1)),
                bytes: Vec::new(),
            };
        } else if *self.next.get_or_insert(segment.seq) == segment.seq {
            self.bytes.extend_from_slice(segment.payload);
            self.next = Some(segment.seq.wrapping_add(segment.payload.len() as u32));
        }
    }

    /// Takes the first message.
    fn message(&mut self) -> Option<Vec<u8>> {
        match codec::frame_len(&self.bytes)? {
            Ok(len) if len <= self.bytes.len() => Some(self.bytes.drain(..len).collect()),
            Ok(_) => None,
            Err(_) => {
                self.bytes.clear();
                None
            }
        }
    }
}

/// Prints the OpenFlow messages of a packet capture, put together per TCP flow.
pub fn ofp_parse_pcap(args: &[String], opt: &mut Options) {
    let name = &args[0];
    let mut file = match Capture::open(name) {
        Ok(f) => f,
        Err(e) => fatal_io(&e, format_args!("{name}: open failed")),
    };
    let ports: Vec<u16> = if args.len() > 1 {
        args[1..].iter().map(|a| cursor::atoi(a) as u16).collect()
    } else {
        vec![6653, 6633]
    };
    let mut streams: std::collections::HashMap<Vec<u8>, TcpStream> = Default::default();
    let mut first = true;
    loop {
        let packet = match file.next() {
            Ok(Some(p)) => p,
            Ok(None) => return,
            Err(e) => fatal_io(&e, format_args!("{name}: read failed")),
        };
        let Some(s) = tcp_segment(&packet) else {
            continue;
        };
        if !ports.contains(&s.from) && !ports.contains(&s.to) {
            continue;
        }
        let stream = streams.entry(s.key.to_vec()).or_default();
        stream.add(&s);
        while let Some(msg) = stream.message() {
            let ip = |b: &[u8]| format!("{}.{}.{}.{}", b[0], b[1], b[2], b[3]);
            let (src, dst) = (ip(&s.key[0..4]), ip(&s.key[4..8]));
            let gap = if first { "" } else { "\n" };
            first = false;
            put(&format!("{gap}{src}.{} > {dst}.{}:\n", s.from, s.to));
            print_message(&msg, opt.verbosity + 1);
        }
    }
}

struct Segment<'a> {
    /// Addresses and ports.
    key: &'a [u8],
    from: u16,
    to: u16,
    seq: u32,
    syn: bool,
    payload: &'a [u8],
}

/// The TCP segment of an IPv4 packet without options.
fn tcp_segment(p: &[u8]) -> Option<Segment<'_>> {
    const IP: usize = 14;
    if p.get(12..14)? != [8, 0] || *p.get(23)? != 6 || *p.get(IP)? != 0x45 {
        return None;
    }
    let be16 = |o: usize| Some(u16::from_be_bytes([*p.get(o)?, *p.get(o + 1)?]));
    let total = usize::from(be16(16)?);
    let tcp = IP + 20;
    let header = usize::from(p.get(tcp + 12)? >> 4) * 4;
    Some(Segment {
        key: p.get(26..tcp + 4)?,
        from: be16(tcp)?,
        to: be16(tcp + 2)?,
        seq: u32::from(be16(tcp + 4)?) << 16 | u32::from(be16(tcp + 6)?),
        syn: p.get(tcp + 13)? & 2 != 0,
        payload: p.get(tcp + header..(IP + total).min(p.len()))?,
    })
}
