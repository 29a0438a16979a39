//! Commands on flows: add, modify, delete, dump; packet-out.

use std::cmp::Ordering;
use std::io::{BufRead, Read};

use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowStats, FlowStatsRequest, PackedFlowMod};
use ferrovs_openflow::message::Message;
use ferrovs_openflow::packet_in::{NO_BUFFER, PacketOut};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::cursor;
use ferrovs_openflow::text::flow::{
    FlowShow, find_actions, format_flow_stats, is_unmeant, parse_flow_mod,
    parse_flow_stats_request, warn_unmeant,
};
use ferrovs_openflow::text::parse_action::parse_actions;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_packet::field::{Field, FieldValue, parse_port};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::{fatal, fatal_io};

use super::names::SwitchNames;
use super::vconn::{self, Vconn};
use super::{Options, die_of, names, noreply};

/// The formats in which this command may work, or the end of the program.
fn allowed(usable: Protocol, opt: &Options) -> Protocol {
    let both = usable & opt.protocols;
    if both.is_empty() {
        fatal(format_args!(
            "none of the usable flow formats ({}) is among the allowed flow formats ({})",
            usable.names(),
            opt.protocols.names()
        ));
    }
    both
}

/// The same, for use by other commands.
pub fn check_allowed(usable: Protocol, opt: &Options) {
    allowed(usable, opt);
}

/// Connects in one of the versions of `usable` and picks the least capable format of it.
pub fn open_for(switch: &str, usable: Protocol, opt: &Options) -> (Vconn, Protocol) {
    let usable = allowed(usable, opt);
    let versions = usable.versions().intersect(opt.versions);
    let mut v = vconn::open(switch, "mgmt", versions);
    let mut current = Protocol::default_for(v.version);
    for p in usable.each() {
        if vconn::try_protocol(&mut v, p, &mut current) {
            return (v, p);
        }
    }
    fatal(format_args!(
        "switch does not support any of the usable flow formats ({})",
        usable.names()
    ))
}

/// Connects and picks the most capable format for a dump.
pub fn open_for_dump(switch: &str, usable: Protocol, opt: &Options) -> (Vconn, Protocol) {
    // Which of the formats the switch has is only known of an open connection.
    let mut v = vconn::open_switch(switch, opt);
    let both = allowed(usable, opt);
    let mut current = Protocol::default_for(v.version);
    // Extended formats first. Table numbers do not matter to a dump, so those formats of OpenFlow
    // 1.0 that have them in flow mods are not among these, as in Open vSwitch: flows with table
    // numbers are compared in a later version only.
    let order = [
        Protocol::OF15_OXM,
        Protocol::OF14_OXM,
        Protocol::OF13_OXM,
        Protocol::OF12_OXM,
        Protocol::OF11_STD,
        Protocol::OF10_NXM,
        Protocol::OF10_STD,
    ];
    for p in order {
        if both.contains(p) && vconn::try_protocol(&mut v, p, &mut current) {
            return (v, p);
        }
    }
    fatal(format_args!(
        "switch does not support any of the usable flow formats ({})",
        usable.names()
    ))
}

/// A flow mod as a message of the chosen format.
pub fn flow_mod_message(mut fm: FlowMod, p: Protocol) -> Message {
    fm.tid = p.has_tid() && p.version() == Version::V10;
    Message::FlowMod {
        flow_mod: Box::new(fm),
        nxm: p.is_nxm(),
    }
}

/// Reads lines of flows to send; empty lines and comments are skipped, a command may stand before the flow.
pub fn parse_commands(
    text: &str,
    file: &str,
    command: Option<FlowModCommand>,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Vec<PackedFlowMod> {
    let mut unmeant = Vec::new();
    let note = |i, fm: &FlowMod| unmeant.extend(is_unmeant(&fm.match_).then_some(i));
    let list = parse_each(text, file, command, names, usable, note);
    // Only if all could be read.
    for i in unmeant {
        let fm: &PackedFlowMod = &list[i];
        warn_unmeant(&fm.match_.expand());
    }
    list
}

/// Reads lines of flows.
pub fn parse_lines(
    text: &str,
    file: &str,
    command: Option<FlowModCommand>,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Vec<PackedFlowMod> {
    parse_each(text, file, command, names, usable, |_, _| {})
}

/// The same; `note` is shown each flow, and which it is.
fn parse_each(
    text: &str,
    file: &str,
    command: Option<FlowModCommand>,
    names: &Names<'_>,
    usable: &mut Protocol,
    mut note: impl FnMut(usize, &FlowMod),
) -> Vec<PackedFlowMod> {
    *usable = Protocol::all();
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (cmd, rest) = line_command(line, command);
        let mut p = Protocol::all();
        match parse_flow_mod(rest, cmd, names, &mut p) {
            Ok(fm) => {
                note(out.len(), &fm);
                out.push(fm.pack());
            }
            Err(e) => fatal(format_args!("{file}:{}: {e}", i + 1)),
        }
        *usable &= p;
    }
    out
}

/// `add`, `modify` and so on at the front of a line, where the command does not fix it.
pub fn line_command(line: &str, command: Option<FlowModCommand>) -> (FlowModCommand, &str) {
    if let Some(c) = command {
        return (c, line);
    }
    let commands = [
        ("add", FlowModCommand::Add),
        ("delete", FlowModCommand::Delete),
        ("delete_strict", FlowModCommand::DeleteStrict),
        ("modify", FlowModCommand::Modify),
        ("modify_strict", FlowModCommand::ModifyStrict),
    ];
    first_word(line, &commands).unwrap_or((FlowModCommand::Add, line))
}

/// What the first word of a line means, which may be the beginning of a command's name, and the rest of the line.
pub fn first_word<'l, C: Copy>(line: &'l str, commands: &[(&str, C)]) -> Option<(C, &'l str)> {
    const SEPARATORS: [char; 3] = [' ', '\t', ','];
    let (word, rest) = line.split_at(line.find(SEPARATORS).unwrap_or(line.len()));
    let found = commands.iter().find(|(name, _)| name.starts_with(word))?;
    (!word.is_empty()).then(|| (found.1, rest.trim_start_matches(SEPARATORS)))
}

pub fn read_file(file: &str) -> Result<String, std::io::Error> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn send_flows(
    switch: &str,
    flows: Vec<PackedFlowMod>,
    usable: Protocol,
    n: &SwitchNames,
    opt: &Options,
) {
    let flows = flows.into_iter().map(PackedFlowMod::unpack);
    if opt.bundle {
        return super::bundle::send_flows(switch, flows, usable, n, opt);
    }
    let (mut v, p) = open_for(switch, usable, opt);
    // An error about one flow must not hide behind the next.
    let messages = flows.map(|fm| flow_mod_message(fm, p));
    match v.transact_each(messages, &n.tun) {
        Ok(None) => {}
        Ok(Some(error)) => die_of(&error, n.names(), opt),
        Err(e) => vconn::talking(&v, &e),
    }
}

fn flow_mod_command(args: &[String], command: FlowModCommand, opt: &Options) {
    let switch = &args[0];
    let n = SwitchNames::to_accept(switch, opt);
    let text = args.get(1).map_or("", |s| s.as_str());
    if text == "-" {
        return flow_mod_file(args, Some(command), opt);
    }
    let mut usable = Protocol::all();
    match parse_flow_mod(text, command, &n.names(), &mut usable) {
        Ok(fm) => {
            warn_unmeant(&fm.match_);
            send_flows(switch, vec![fm.pack()], usable, &n, opt);
        }
        Err(e) => fatal(e),
    }
}

fn flow_mod_file(args: &[String], command: Option<FlowModCommand>, opt: &Options) {
    let n = SwitchNames::to_accept(&args[0], opt);
    let file = args[1].as_str();
    let text = match read_file(file) {
        Ok(t) => t,
        Err(e) => fatal_io(&e, format_args!("{file}: open failed")),
    };
    let mut usable = Protocol::all();
    let flows = parse_commands(&text, file, command, &n.names(), &mut usable);
    send_flows(&args[0], flows, usable, &n, opt);
}

pub fn add_flow(args: &[String], opt: &mut Options) {
    flow_mod_command(args, FlowModCommand::Add, opt);
}

pub fn add_flows(args: &[String], opt: &mut Options) {
    flow_mod_file(args, None, opt);
}

pub fn mod_flows(args: &[String], opt: &mut Options) {
    let c = if opt.strict {
        FlowModCommand::ModifyStrict
    } else {
        FlowModCommand::Modify
    };
    flow_mod_command(args, c, opt);
}

pub fn del_flows(args: &[String], opt: &mut Options) {
    let c = if opt.strict {
        FlowModCommand::DeleteStrict
    } else {
        FlowModCommand::Delete
    };
    flow_mod_command(args, c, opt);
}

fn request(
    args: &[String],
    aggregate: bool,
    opt: &Options,
) -> (FlowStatsRequest, Protocol, SwitchNames) {
    let text = args.get(1).map_or("", |s| s.as_str());
    // Names can only stand in a selection.
    let n = if text.is_empty() {
        SwitchNames::none()
    } else {
        SwitchNames::to_accept(&args[0], opt)
    };
    let mut usable = Protocol::all();
    match parse_flow_stats_request(text, aggregate, &n.names(), &mut usable) {
        Ok(q) => (q, usable, n),
        Err(e) => fatal(e),
    }
}

pub fn dump_flows(args: &[String], opt: &mut Options) {
    let (q, usable, n) = request(args, false, opt);
    let raw = opt.sort.is_empty() && !opt.show_names() && opt.stats;
    let (mut v, p) = open_for_dump(&args[0], usable, opt);
    if raw {
        let m = Message::FlowStatsRequest {
            request: Box::new(q),
            nxm: p.is_nxm(),
        };
        let show = SwitchNames::none();
        let _ = n;
        return super::dump_print(&mut v, m, show.names(), opt);
    }
    let shown = SwitchNames::to_show(&args[0], opt);
    let show = |flows: Vec<FlowStats>| {
        let mut out = String::new();
        for mut f in flows {
            f.idle_age = None;
            f.hard_age = None;
            out.push(' ');
            let show = FlowShow { stats: opt.stats };
            format_flow_stats(&f, show, &shown.names(), &mut out);
            out.push('\n');
        }
        super::put(&out);
    };
    if opt.sort.is_empty() {
        return fetch_flows(&mut v, q, p, &shown, show);
    }
    let mut flows = Vec::new();
    fetch_flows(&mut v, q, p, &shown, |list| flows.extend(list));
    flows.sort_by(|a, b| compare(a, b, &opt.sort));
    show(flows);
}

/// Asks for flows and hands out those of each message.
pub fn fetch_flows(
    v: &mut Vconn,
    q: FlowStatsRequest,
    p: Protocol,
    n: &SwitchNames,
    mut each: impl FnMut(Vec<FlowStats>),
) {
    let m = Message::FlowStatsRequest {
        request: Box::new(q),
        nxm: p.is_nxm(),
    };
    names::dump(v, m, &n.tun, |m| {
        if let Message::FlowStatsReply { flows: list, .. } = m {
            each(list);
        }
    });
}

/// Ends the program if `name` is not a field to sort by.
pub fn check_sort_field(name: &str) {
    if !name.is_empty() && !name.eq_ignore_ascii_case("priority") && Field::by_name(name).is_none()
    {
        fatal(format_args!("{name}: unknown field name"));
    }
}

fn compare(a: &FlowStats, b: &FlowStats, criteria: &[(String, bool)]) -> Ordering {
    for (name, descending) in criteria {
        let by_priority = name.is_empty() || name.eq_ignore_ascii_case("priority");
        let order = if by_priority {
            let o = a.priority.cmp(&b.priority);
            if *descending { o.reverse() } else { o }
        } else {
            let Some(f) = Field::by_name(name) else {
                continue;
            };
            // Flows that do not match the field come last, whatever the order.
            let wild = |s: &FlowStats| f.is_all_wild(&s.match_.wc);
            match (wild(a), wild(b)) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let value = |s: &FlowStats| -> FieldValue { f.value(&s.match_.flow) };
                    let n = usize::from(f.n_bytes);
                    let o = value(a).low_bytes(n).cmp(value(b).low_bytes(n));
                    if *descending { o.reverse() } else { o }
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    // What the criteria leave equal: the highest priority first.
    b.priority.cmp(&a.priority)
}

pub fn dump_aggregate(args: &[String], opt: &mut Options) {
    let (q, usable, n) = request(args, true, opt);
    let (mut v, p) = open_for_dump(&args[0], usable, opt);
    let m = Message::FlowStatsRequest {
        request: Box::new(q),
        nxm: p.is_nxm(),
    };
    super::dump_print(&mut v, m, n.names(), opt);
}

/// Bytes of a packet in hexadecimal, blanks allowed.
pub fn packet_bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let end = digits
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(digits.len());
    let bytes: Vec<u8> = (0..end / 2)
        .filter_map(|i| u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).ok())
        .collect();
    if end != digits.len() || end % 2 != 0 {
        return Err("Trailing garbage in packet data".to_owned());
    }
    if bytes.len() < 14 {
        return Err("Packet data too short for Ethernet".to_owned());
    }
    Ok(bytes)
}

/// Name space and type of a packet: `NS,TYPE` or `(NS,TYPE)`.
fn packet_type(s: &str) -> Option<u32> {
    let inner = s.strip_prefix('(').and_then(|s| s.strip_suffix(')'));
    let (ns, ty) = inner.unwrap_or(s).split_once(',')?;
    let number = |s: &str| cursor::u16(s.trim(), "").ok().map(u32::from);
    Some(number(ns)? << 16 | number(ty)?)
}

/// Reads a packet-out: `in_port=P packet=HEX actions=...`.
pub fn parse_packet_out(
    text: &str,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<PacketOut, String> {
    *usable = Protocol::all();
    let (head, act) = find_actions(text).unwrap_or((text, ""));
    let mut po = PacketOut {
        packet: Vec::new(),
        buffer_id: NO_BUFFER,
        flow_metadata: Default::default(),
        actions: Vec::new(),
    };
    let set_port = |po: &mut PacketOut, p: OfPort| {
        po.flow_metadata.flow.in_port = p.0.into();
        po.flow_metadata.wc.masks.in_port = u32::MAX;
    };
    set_port(&mut po, OfPort::NONE);
    let mut have_packet = false;
    let mut list = head;
    while let Some((k, v)) = cursor::next_pair(&mut list) {
        if v.is_empty() {
            return Err(format!("field {k} missing value"));
        }
        match k {
            "in_port" => {
                let p = parse_port(v, names.ports)
                    .ok_or_else(|| format!("{v} is not a valid OpenFlow port"))?;
                if p > OfPort::MAX
                    && ![OfPort::LOCAL, OfPort::NONE, OfPort::CONTROLLER].contains(&p)
                {
                    return Err(format!("{v} is not a valid OpenFlow port for PACKET_OUT"));
                }
                set_port(&mut po, p);
            }
            "packet_type" => {
                let ty = packet_type(v)
                    .ok_or_else(|| format!("packet_type({v}) can't be interpreted"))?;
                po.flow_metadata.flow.packet_type = ty.into();
                po.flow_metadata.wc.masks.packet_type = u32::MAX.into();
            }
            "packet" => {
                po.packet = packet_bytes(v).map_err(|e| format!("packet: {e}"))?;
                have_packet = true;
            }
            _ => {
                let f = Field::by_name(k).ok_or_else(|| format!("unknown keyword {k}"))?;
                if !ferrovs_openflow::oxm::is_pipeline_field(f.id) {
                    return Err(format!("{k} is not a valid pipeline field for PACKET_OUT"));
                }
                ferrovs_openflow::text::flow::parse_match_field(
                    f,
                    v,
                    names,
                    &mut po.flow_metadata,
                    usable,
                )?;
            }
        }
    }
    if !have_packet {
        return Err("must specify packet".to_owned());
    }
    let mut p = Protocol::all();
    po.actions = parse_actions(act, names, &mut p, false)?;
    *usable &= p;
    Ok(po)
}

pub fn packet_out(args: &[String], opt: &mut Options) {
    let switch = &args[0];
    let n = SwitchNames::to_accept(switch, opt);
    let mut usable = Protocol::all();
    let mut list = Vec::new();
    if args.len() == 3 {
        fatal("Too many arguments (4)");
    }
    if args.len() == 2 {
        match parse_packet_out(&args[1], &n.names(), &mut usable) {
            Ok(po) => list.push(po),
            Err(e) => fatal(e),
        }
    } else {
        // The older form: IN_PORT ACTIONS PACKET...
        let actions = match parse_actions(&args[2], &n.names(), &mut usable, false) {
            Ok(a) => a,
            Err(e) => fatal(e),
        };
        let port = match parse_port(&args[1], n.names().ports) {
            Some(p) => p,
            None => fatal(format_args!("{switch}: unknown port `{}'", args[1])),
        };
        let mut po = PacketOut {
            packet: Vec::new(),
            buffer_id: NO_BUFFER,
            flow_metadata: Default::default(),
            actions,
        };
        po.flow_metadata.flow.in_port = port.0.into();
        po.flow_metadata.wc.masks.in_port = u32::MAX;
        let (mut v, _) = open_for(switch, usable, opt);
        for hex in &args[3..] {
            po.packet = packet_bytes(hex).unwrap_or_else(|e| fatal(e));
            let m = v.encode(Message::PacketOut(Box::new(po.clone())), &n.tun);
            noreply(&mut v, &[m], n.names(), opt);
        }
        return;
    }
    let (mut v, _) = open_for(switch, usable, opt);
    for po in list {
        let m = v.encode(Message::PacketOut(Box::new(po)), &n.tun);
        noreply(&mut v, &[m], n.names(), opt);
    }
}

/// Reads lines of standard input.
pub fn stdin_lines() -> impl Iterator<Item = String> {
    std::io::stdin().lock().lines().map_while(Result::ok)
}
