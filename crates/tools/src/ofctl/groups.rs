//! Groups, meters, tunnel option mappings, connection tracking flushes.

use std::net::IpAddr;

use ferrovs_openflow::flow::{GROUP_ALL, GROUP_ANY, GROUP_MAX};
use ferrovs_openflow::group::{BUCKET_ALL, GroupCommand, GroupMod, GroupProps, GroupType};
use ferrovs_openflow::message::Message;
use ferrovs_openflow::meter::{METER_ALL, MeterCommand, MeterConfig, MeterMod};
use ferrovs_openflow::switch::{CtFlush, CtTuple, TlvMap, TlvTableCommand, TlvTableMod};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::cursor;
use ferrovs_openflow::text::group::parse_group_mod;
use ferrovs_openflow::text::meter::parse_meter_mod;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_runtime::vlog::modules;
use ferrovs_runtime::{fatal, fatal_io, vlog};

use super::flows::{check_allowed, first_word, open_for, read_file};
use super::names::SwitchNames;
use super::vconn;
use super::{Options, dump_print, noreply, noreply_one};

const OF13_UP: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);

fn send_groups(
    switch: &str,
    list: Vec<GroupMod>,
    usable: Protocol,
    n: &SwitchNames,
    opt: &Options,
) {
    if opt.bundle {
        let msgs = list.into_iter().map(Message::GroupMod);
        return super::bundle::send(switch, msgs, usable, n, opt);
    }
    let (mut v, _) = open_for(switch, usable, opt);
    for g in list {
        let m = v.encode(Message::GroupMod(g), &n.tun);
        if m.1.is_empty() {
            fatal("none of the usable flow formats can carry this group command");
        }
        noreply(&mut v, &[m], n.names(), opt);
    }
}

/// Reads group commands, one a line; a line may name its command.
pub fn parse_group_lines(
    text: &str,
    file: &str,
    command: GroupCommand,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Vec<GroupMod> {
    *usable = Protocol::all();
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (cmd, rest) = group_line_command(line, command);
        let mut p = Protocol::all();
        match parse_group_mod(rest, cmd, names, &mut p) {
            Ok(g) => out.push(g),
            Err(e) => fatal(format_args!("{file}:{}: {e}", i + 1)),
        }
        *usable &= p;
    }
    out
}

/// The command that a line begins with, which may be cut short.
pub fn group_line_command(line: &str, default: GroupCommand) -> (GroupCommand, &str) {
    let commands = [
        ("add", GroupCommand::Add),
        ("delete", GroupCommand::Delete),
        ("modify", GroupCommand::Modify),
        ("add_or_mod", GroupCommand::AddOrModify),
        ("insert_bucket", GroupCommand::InsertBucket),
        ("remove_bucket", GroupCommand::RemoveBucket),
    ];
    first_word(line, &commands).unwrap_or((default, line))
}

fn group_command(args: &[String], command: GroupCommand, opt: &Options) {
    let n = SwitchNames::to_accept(&args[0], opt);
    let text = args.get(1).map_or("", |s| s.as_str());
    if text == "-" {
        return group_file(args, command, opt);
    }
    let mut usable = Protocol::all();
    match parse_group_mod(text, command, &n.names(), &mut usable) {
        Ok(g) => send_groups(&args[0], vec![g], usable, &n, opt),
        Err(e) => fatal(e),
    }
}

fn group_file(args: &[String], command: GroupCommand, opt: &Options) {
    let n = SwitchNames::to_accept(&args[0], opt);
    let file = args.get(1).map_or("-", |s| s.as_str());
    let text = match read_file(file) {
        Ok(t) => t,
        Err(e) => fatal_io(&e, format_args!("{file}: open failed")),
    };
    let mut usable = Protocol::all();
    let list = parse_group_lines(&text, file, command, &n.names(), &mut usable);
    send_groups(&args[0], list, usable, &n, opt);
}

pub fn add_group(args: &[String], opt: &mut Options) {
    group_command(args, GroupCommand::Add, opt);
}

pub fn add_groups(args: &[String], opt: &mut Options) {
    group_file(args, GroupCommand::Add, opt);
}

pub fn mod_group(args: &[String], opt: &mut Options) {
    let c = if opt.may_create {
        GroupCommand::AddOrModify
    } else {
        GroupCommand::Modify
    };
    group_command(args, c, opt);
}

pub fn del_groups(args: &[String], opt: &mut Options) {
    if args.len() > 1 {
        return group_command(args, GroupCommand::Delete, opt);
    }
    let all = GroupMod {
        command: GroupCommand::Delete,
        type_: GroupType::All,
        group_id: GROUP_ALL,
        command_bucket_id: BUCKET_ALL,
        buckets: Vec::new(),
        props: GroupProps::default(),
    };
    send_groups(
        &args[0],
        vec![all],
        Protocol::all(),
        &SwitchNames::none(),
        opt,
    );
}

pub fn insert_buckets(args: &[String], opt: &mut Options) {
    need_buckets("insert-bucket", opt);
    group_command(args, GroupCommand::InsertBucket, opt);
}

pub fn remove_buckets(args: &[String], opt: &mut Options) {
    need_buckets("remove-bucket", opt);
    group_command(args, GroupCommand::RemoveBucket, opt);
}

/// Single buckets are for 1.5 and Nicira's extension of 1.0.
fn need_buckets(name: &str, opt: &Options) {
    if !opt.versions.contains(Version::V15) && !opt.versions.contains(Version::V10) {
        fatal(format_args!(
            "{name} needs OpenFlow 1.5 or later ('-O OpenFlow15')"
        ));
    }
}

/// The group that a dump is about.
fn group_id(args: &[String]) -> u32 {
    let Some(text) = args.get(1) else {
        return GROUP_ALL;
    };
    if text.eq_ignore_ascii_case("all") {
        return GROUP_ALL;
    }
    if text.eq_ignore_ascii_case("any") {
        return GROUP_ANY;
    }
    match cursor::parse_u64(text).and_then(|n| u32::try_from(n).ok()) {
        Some(n) => {
            if n > GROUP_MAX {
                vlog::warn!(modules::OFP_GROUP, "group ID {n} is out of range");
            }
            n
        }
        None => {
            vlog::warn!(
                modules::OFP_GROUP,
                "{text} is not a valid group ID.  (Valid group IDs are 32-bit nonnegative integers or the \
                 keywords ANY or ALL.)"
            );
            GROUP_ALL
        }
    }
}

pub fn dump_groups(args: &[String], opt: &mut Options) {
    let group = group_id(args);
    let mut v = vconn::open_switch(&args[0], opt);
    let shown = SwitchNames::to_show(&args[0], opt);
    // Only 1.5 (and 1.0's extension) can ask for one group.
    let group = match v.version {
        Version::V10 | Version::V15 => group,
        _ => GROUP_ALL,
    };
    dump_print(
        &mut v,
        Message::GroupDescRequest { group },
        shown.names(),
        opt,
    );
}

pub fn dump_group_stats(args: &[String], opt: &mut Options) {
    let n = SwitchNames::to_accept(&args[0], opt);
    // The selection may be a group's description.
    let group = match args.get(1) {
        Some(t) => {
            let mut usable = Protocol::all();
            match parse_group_mod(t, GroupCommand::Delete, &n.names(), &mut usable) {
                Ok(g) => g.group_id,
                Err(e) => fatal(e),
            }
        }
        _ => group_id(args),
    };
    let mut v = vconn::open_switch(&args[0], opt);
    dump_print(&mut v, Message::GroupStatsRequest { group }, n.names(), opt);
}

pub fn dump_group_features(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    dump_print(
        &mut v,
        Message::GroupFeaturesRequest,
        Names::none(&tun),
        opt,
    );
}

fn meter_command(args: &[String], command: MeterCommand, opt: &Options) {
    let mut usable = OF13_UP;
    let mm = match args.get(1) {
        Some(text) => match parse_meter_mod(text, Some(command), &mut usable) {
            Ok(m) => m,
            Err(e) => fatal(e),
        },
        None => MeterMod {
            command,
            meter: MeterConfig {
                meter_id: METER_ALL,
                ..Default::default()
            },
        },
    };
    let (mut v, _) = open_for(&args[0], usable, opt);
    let tun = Tun::auto();
    noreply_one(&mut v, Message::MeterMod(mm), Names::none(&tun), opt);
}

pub fn add_meter(args: &[String], opt: &mut Options) {
    meter_command(args, MeterCommand::Add, opt);
}

pub fn mod_meter(args: &[String], opt: &mut Options) {
    meter_command(args, MeterCommand::Modify, opt);
}

pub fn del_meters(args: &[String], opt: &mut Options) {
    meter_command(args, MeterCommand::Delete, opt);
}

fn meter_request(args: &[String], opt: &Options, make: impl FnOnce(u32) -> Message) {
    let mut usable = OF13_UP;
    let id = match args.get(1) {
        Some(text) => match parse_meter_mod(text, None, &mut usable) {
            Ok(m) if m.meter.meter_id != 0 => m.meter.meter_id,
            Ok(_) => METER_ALL,
            Err(e) => fatal(e),
        },
        None => METER_ALL,
    };
    check_allowed(usable, opt);
    let (mut v, _) = open_for(&args[0], usable, opt);
    let tun = Tun::auto();
    dump_print(&mut v, make(id), Names::none(&tun), opt);
}

pub fn dump_meters(args: &[String], opt: &mut Options) {
    meter_request(args, opt, |meter| Message::MeterConfigRequest { meter });
}

pub fn meter_stats(args: &[String], opt: &mut Options) {
    meter_request(args, opt, |meter| Message::MeterStatsRequest { meter });
}

pub fn meter_features(args: &[String], opt: &mut Options) {
    meter_request(&args[..1], opt, |_| Message::MeterFeaturesRequest);
}

/// Reads `{class=C,type=T,len=L}->tun_metadataN`, several joined by commas.
fn parse_tlv_maps(text: &str) -> Result<Vec<TlvMap>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ']);
        let inner = rest.strip_prefix('{').ok_or("invalid tlv mapping")?;
        let (body, tail) = inner.split_once('}').ok_or("invalid tlv mapping")?;
        let mut m = TlvMap {
            option_class: 0,
            option_type: 0,
            option_len: 0,
            index: 0,
        };
        let mut list = body;
        while let Some((k, v)) = cursor::next_pair(&mut list) {
            match k {
                "class" => m.option_class = cursor::u16(v, "class")?,
                "type" => m.option_type = cursor::u8(v, "type")?,
                "len" => m.option_len = cursor::u8(v, "len")?,
                _ => return Err("invalid tlv mapping".to_owned()),
            }
        }
        let field = tail
            .strip_prefix("->tun_metadata")
            .ok_or("invalid tlv mapping")?;
        let end = field
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(field.len());
        m.index = field[..end]
            .parse()
            .map_err(|_| "invalid tlv mapping".to_owned())?;
        out.push(m);
        rest = field[end..].trim();
    }
    // Nothing is a list of mappings too: it is what ovs-save writes for a bridge without any.
    Ok(out)
}

fn tlv_mod(args: &[String], command: TlvTableCommand, opt: &Options) {
    let maps = match args.get(1) {
        Some(text) => match parse_tlv_maps(text) {
            Ok(m) => m,
            Err(e) => fatal(e),
        },
        None => Vec::new(),
    };
    let mut v = vconn::open_switch(&args[0], opt);
    // The flow format is asked for first.
    let _ = vconn::next_xid();
    let _ = vconn::next_xid();
    let tun = Tun::auto();
    let m = Message::TlvTableMod(TlvTableMod { command, maps });
    noreply_one(&mut v, m, Names::none(&tun), opt);
}

pub fn add_tlv_map(args: &[String], opt: &mut Options) {
    tlv_mod(args, TlvTableCommand::Add, opt);
}

pub fn del_tlv_map(args: &[String], opt: &mut Options) {
    let c = if args.len() > 1 {
        TlvTableCommand::Delete
    } else {
        TlvTableCommand::Clear
    };
    tlv_mod(args, c, opt);
}

pub fn dump_tlv_map(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    dump_print(&mut v, Message::TlvTableRequest, Names::none(&tun), opt);
}

pub fn ct_flush_zone(args: &[String], opt: &mut Options) {
    let zone = match cursor::u16(&args[1], "zone_id") {
        Ok(z) => z,
        Err(e) => fatal(e),
    };
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    noreply_one(&mut v, Message::CtFlushZone(zone), Names::none(&tun), opt);
}

fn ct_tuple(text: &str, proto: &mut u8) -> Result<CtTuple, String> {
    let mut t = CtTuple::default();
    let mut list = text;
    while let Some((k, v)) = cursor::next_pair(&mut list) {
        let addr = || -> Result<IpAddr, String> {
            v.parse().map_err(|_| format!("failed to parse field {k}"))
        };
        match k {
            "ct_nw_src" | "ct_ipv6_src" => t.src = Some(addr()?),
            "ct_nw_dst" | "ct_ipv6_dst" => t.dst = Some(addr()?),
            "ct_nw_proto" => *proto = cursor::u8(v, k)?,
            "ct_tp_src" => t.src_port = cursor::u16(v, k)?,
            "ct_tp_dst" => t.dst_port = cursor::u16(v, k)?,
            "icmp_type" => t.icmp_type = cursor::u8(v, k)?,
            "icmp_code" => t.icmp_code = cursor::u8(v, k)?,
            "icmp_id" => t.icmp_id = cursor::u16(v, k)?,
            _ => return Err(format!("invalid conntrack tuple field: {k}")),
        }
    }
    if let (Some(a), Some(b)) = (t.src, t.dst)
        && a.is_ipv4() != b.is_ipv4()
    {
        return Err("L3 protocol does not match between source and destination".to_owned());
    }
    Ok(t)
}

pub fn ct_flush(args: &[String], opt: &mut Options) {
    let mut f = CtFlush::default();
    let mut tuples = 0;
    for a in &args[1..] {
        if let Some(z) = a.strip_prefix("zone=") {
            match cursor::u16(z, "zone") {
                Ok(z) => f.zone = Some(z),
                Err(_) => fatal("failed to parse zone"),
            }
            continue;
        }
        if let Some(m) = a.strip_prefix("mark=") {
            let (v, mask) = m.split_once('/').map_or((m, None), |(v, k)| (v, Some(k)));
            f.mark = cursor::u32(v).unwrap_or_else(|_| fatal("failed to parse mark"));
            f.mark_mask = mask.map_or(u32::MAX, |k| {
                cursor::u32(k).unwrap_or_else(|_| fatal("failed to parse mark"))
            });
            continue;
        }
        if let Some(l) = a.strip_prefix("labels=") {
            let number = |s: &str| {
                let h = s.strip_prefix("0x").unwrap_or(s);
                u128::from_str_radix(h, 16).unwrap_or_else(|_| fatal("failed to parse labels"))
            };
            let (v, mask) = l.split_once('/').map_or((l, None), |(v, k)| (v, Some(k)));
            f.labels = number(v);
            f.labels_mask = mask.map_or(u128::MAX, number);
            continue;
        }
        match ct_tuple(a, &mut f.ip_proto) {
            Ok(t) if tuples == 0 => f.orig = t,
            Ok(t) => f.reply = t,
            Err(e) => fatal(e),
        }
        tuples += 1;
    }
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    noreply_one(
        &mut v,
        Message::CtFlush(Box::new(f)),
        Names::none(&tun),
        opt,
    );
}
