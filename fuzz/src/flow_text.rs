//! Flows, groups and meters in text, as the user of ovs-ofctl writes them. No text makes the reader panic; what is
//! read prints, and what is printed reads as the same again; and one of the formats that are said to carry it does.

use std::fmt::Write;

use ferrovs_openflow::flow::{FlowMod, FlowModCommand};
use ferrovs_openflow::group::{GroupCommand, GroupMod};
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::meter::MeterCommand;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_actions;
use ferrovs_openflow::text::flow::{parse_flow_mod, parse_flow_stats_request};
use ferrovs_openflow::text::group::{format_group_mod, parse_group_mod};
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::text::meter::{format_meter_config, parse_meter_mod};
use ferrovs_openflow::text::print::{Print, format_message};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_testkit::database::Choose;

use crate::input::Input;

/// Parts of texts; a choice of them joined by commas meets more of the reader than any bytes do.
const WORDS: &[&str] = &[
    "ip",
    "tcp",
    "udp6",
    "arp",
    "mpls",
    "icmp6",
    "eth",
    "in_port=",
    "dl_vlan=",
    "vlan_tci=",
    "nw_src=",
    "ipv6_dst=",
    "tp_dst=",
    "tcp_flags=",
    "ct_state=",
    "ct_mark=",
    "reg0=",
    "reg4[8..11]=",
    "xxreg1=",
    "tun_id=",
    "metadata=",
    "tun_metadata0=",
    "packet_type=",
    "priority=",
    "cookie=",
    "table=",
    "idle_timeout=",
    "out_port=",
    "out_group=",
    "send_flow_rem",
    "actions=",
    "output:",
    "output(port=",
    "max_len=",
    "controller(",
    "userdata=",
    "enqueue:",
    "group:",
    "bundle(",
    "bundle_load(",
    "eth_src,",
    "hrw,",
    "ofport,",
    "members:",
    "set_field:",
    "load:",
    "move:",
    "->",
    "NXM_NX_REG0[]",
    "NXM_OF_VLAN_TCI[0..11]",
    "reg1",
    "eth_src",
    "ip_dst",
    "ct_label",
    "mod_vlan_vid:",
    "push_vlan:0x8100",
    "strip_vlan",
    "mod_nw_tos:",
    "mod_tp_dst:",
    "dec_ttl(",
    "set_mpls_ttl(",
    "push_mpls:0x8847",
    "pop_mpls:0x0800",
    "set_tunnel:",
    "resubmit(",
    "learn(",
    "limit=",
    "result_dst=",
    "conjunction(",
    "1/2",
    "multipath(",
    "symmetric_l4,",
    "modulo_n,",
    "push:",
    "pop:",
    "note:",
    "exit",
    "sample(probability=",
    "ct(",
    "commit",
    "zone=",
    "nat(",
    "src=",
    "exec(",
    "alg=ftp",
    "clone(",
    "check_pkt_larger(",
    "encap(nsh(",
    "md_type=",
    "tlv(",
    "decap(",
    "meter:",
    "clear_actions",
    "write_actions(",
    "write_metadata:",
    "goto_table:",
    "drop",
    "group_id=",
    "type=select",
    "type=all",
    "type=ff",
    "bucket=",
    "weight:",
    "watch_port:",
    "bucket_id:",
    "selection_method=hash",
    "fields(",
    "command_bucket_id=",
    "meter=",
    "kbps",
    "burst",
    "bands=type=drop",
    "rate=",
    "burst_size=",
    "type=dscp_remark",
    "prec_level=",
    "0",
    "1",
    "2",
    "10",
    "0x1f",
    "255",
    "65535",
    "0xffff",
    "4294967295",
    "1.2.3.4",
    "10.0.0.0/8",
    "fe80::1",
    "::1/64",
    "00:11:22:33:44:55",
    "+trk-new",
    "(1,0x800)",
    "LOCAL",
    "CONTROLLER",
    "ANY",
    "/",
    "/0xff",
    "[0..3]",
    ")",
    ")",
    ")",
    "(",
    "]",
    "=",
    ":",
    " ",
    ",",
    ",",
    ",",
    "-",
    "x",
];

fn text(input: &mut Input<'_>) -> String {
    if input.byte() & 1 == 0 {
        return String::from_utf8_lossy(input.rest()).into_owned();
    }
    let mut out = String::new();
    while !input.is_empty() && out.len() < 4000 {
        out.push_str(WORDS[input.below(WORDS.len())]);
    }
    out
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let text = text(&mut input);
    match kind % 4 {
        0 | 1 => flow(&text, usize::from(kind / 4)),
        2 => group(&text, usize::from(kind / 4)),
        _ => meter(&text),
    }
}

/// Encodes in the most capable of the formats, and prints the message.
fn encode(body: Message, usable: Protocol, tun: &Tun<'_>) {
    let Some(p) = usable.each().last() else {
        return;
    };
    let bytes = Msg::new(p.version(), 1, body).to_bytes(tun);
    let mut out = String::new();
    let print = Print {
        names: Names::none(tun),
        verbosity: 0,
    };
    format_message(&bytes, print, &mut out);
    assert!(bytes.is_empty() || !out.is_empty());
}

fn flow(text: &str, command: usize) {
    use FlowModCommand::*;
    let commands = [Add, Modify, ModifyStrict, Delete, DeleteStrict];
    let Some(&command) = commands.get(command % 6) else {
        let tun = Tun::auto();
        let mut usable = Protocol::all();
        let _ = parse_flow_stats_request(text, false, &Names::none(&tun), &mut usable);
        return;
    };
    let read = |text: &str| {
        let tun = Tun::auto();
        let mut usable = Protocol::all();
        let fm = parse_flow_mod(text, command, &Names::none(&tun), &mut usable)?;
        let printed = printed_flow(&fm, &Names::none(&tun));
        Ok::<_, String>((fm, usable, tun, printed))
    };
    let Ok((fm, usable, tun, printed)) = read(text) else {
        return;
    };
    // The address 0 is none: ports alone can be written so, and no switch takes them.
    let ports_alone = printed.contains("nat(src=:") || printed.contains("nat(dst=:");
    // Some bits of a port print as bits of an ICMP type or code, all of which are its low byte when they are read.
    let bits_of_icmp = ["icmp_type=0x", "icmp_code=0x"]
        .iter()
        .any(|f| printed.contains(f));
    if !command.is_delete() && says_all(&fm) && !ports_alone && !bits_of_icmp {
        match read(&printed) {
            Ok((.., again)) => assert_eq!(again, printed, "from {text}"),
            // A port or TCP flags written under a mask print as what of ICMP shares their place, which takes none.
            Err(e) if e.contains("invalid mask for field icmp") => {}
            Err(e) if e.contains("invalid mask for field nd_") => {}
            // A port beyond 255 is a type or code that no packet has; Open vSwitch prints it all the same.
            Err(e) if e.contains("value too large for 1-byte field icmp") => {}
            Err(e) => panic!("{printed}: {e}, from {text}"),
        }
    }
    let nxm = usable.each().last().is_some_and(Protocol::is_nxm);
    let flow_mod = Box::new(fm);
    encode(Message::FlowMod { flow_mod, nxm }, usable, &tun);
}

/// Whether the text of a match says all of it: that of ERSPAN and GTP-U headers and of group policies does not.
fn says_all(fm: &FlowMod) -> bool {
    let t = &fm.match_.wc.masks.tunnel;
    let erspan = [t.erspan_ver, t.erspan_dir, t.erspan_hwid];
    let short = [t.gtpu_flags, t.gtpu_msgtype, t.gbp_flags];
    t.erspan_idx == 0 && erspan.iter().chain(&short).all(|&mask| mask == 0)
}

fn printed_flow(fm: &FlowMod, names: &Names<'_>) -> String {
    let mut out = String::new();
    if fm.table_id != 0xff {
        let _ = write!(out, "table={},", fm.table_id);
    }
    format_match(&fm.match_, Some(fm.priority), names, &mut out);
    out.push_str(" actions=");
    format_actions(&fm.actions, names, &mut out);
    out
}

fn group(text: &str, command: usize) {
    use GroupCommand::*;
    let commands = [Add, Modify, AddOrModify, Delete, InsertBucket, RemoveBucket];
    let command = commands[command % commands.len()];
    let tun = Tun::auto();
    let read = |text: &str| {
        let mut usable = Protocol::all();
        let g = parse_group_mod(text, command, &Names::none(&tun), &mut usable)?;
        Ok::<_, String>((g, usable))
    };
    let printed = |g: &GroupMod| {
        let mut out = String::new();
        format_group_mod(g, Version::V15, &Names::none(&tun), &mut out);
        // The command stands before the group.
        out.split_once(' ').map_or("", |(_, g)| g).to_owned()
    };
    let Ok((g, usable)) = read(text) else {
        return;
    };
    // Any text is a method. One that holds what ends or divides a list does not read back as the same.
    let method = g.props.selection_method.bytes();
    let word = { method }.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if command == Add && word && g.buckets.iter().all(|b| !b.actions.is_empty()) {
        let first = printed(&g);
        match read(&first) {
            Ok((again, _)) => assert_eq!(printed(&again), first, "from {text}"),
            Err(e) => panic!("{first}: {e}, from {text}"),
        }
    }
    encode(Message::GroupMod(g), usable, &tun);
}

fn meter(text: &str) {
    let read = |text: &str| {
        let mut usable = Protocol::all();
        let m = parse_meter_mod(text, Some(MeterCommand::Add), &mut usable)?;
        let mut out = String::new();
        format_meter_config(&m.meter, true, &mut out);
        Ok::<_, String>((m, usable, out))
    };
    let Ok((m, usable, printed)) = read(text) else {
        return;
    };
    match read(&printed) {
        Ok((.., again)) => assert_eq!(again, printed, "from {text}"),
        Err(e) => panic!("{printed}: {e}, from {text}"),
    }
    encode(Message::MeterMod(m), usable, &Tun::auto());
}
