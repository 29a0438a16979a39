//! Text of a datapath: keys and lists of actions, and the arguments of the commands that take them, tuples of
//! connections, zones and limits.
//!
//! What must hold: nothing panics; what is read prints, and what is printed reads again and prints as the same; a
//! command answers whatever its arguments are.

use std::sync::Arc;

use ferrovs_datapath::text::{
    format_actions, format_match, message_size, packet_from_text, parse_actions, parse_key,
};
use ferrovs_dpctl::{COMMANDS, Context};
use ferrovs_testkit::database::Choose;
use ferrovs_testkit::dpif::FakeDpif;

use crate::input::Input;

/// Parts of texts; a choice of them meets more of the reader than any bytes do.
const WORDS: &[&str] = &[
    "in_port(",
    "recirc_id(",
    "dp_hash(",
    "skb_priority(",
    "skb_mark(",
    "ct_state(",
    "ct_zone(",
    "ct_mark(",
    "ct_label(",
    "ct_tuple4(",
    "ct_tuple6(",
    "packet_type(ns=0,id=0)",
    "eth(src=",
    "eth_type(",
    "vlan(vid=",
    "encap(",
    "mpls(label=",
    "ipv4(",
    "ipv6(",
    "tcp(src=",
    "udp(dst=",
    "sctp(",
    "icmp(type=",
    "icmpv6(",
    "arp(",
    "nd(target=",
    "nd_ext(",
    "nsh(",
    "tcp_flags(",
    "tunnel(",
    "tun_id=",
    "geneve({",
    "vxlan(gbp(",
    "erspan(ver=",
    "gtpu(",
    "flags(",
    "set(",
    "set_masked(",
    "push_vlan(vid=",
    "pop_vlan",
    "push_mpls(label=",
    "pop_mpls(eth_type=",
    "push_eth(src=",
    "pop_eth",
    "push_nsh(",
    "pop_nsh()",
    "clone(",
    "sample(sample=",
    "actions(",
    "trunc(",
    "hash(",
    "ct(",
    "commit",
    "force_commit",
    "zone=",
    "mark=",
    "labels=",
    "helper=ftp",
    "nat(",
    "src=",
    "dst=",
    "-",
    "random",
    "persistent",
    "timeout=",
    "check_pkt_len(size=",
    "gt(",
    "le(",
    "userspace(pid=",
    "userdata(",
    "controller(",
    "sFlow(",
    "flow_sample(",
    "ipfix(",
    "tnl_push(tnl_port(",
    "tnl_pop(",
    "header(size=",
    "type=",
    "out_port(",
    "meter(",
    "lb_output(",
    "drop",
    "drop(",
    "add_mpls(",
    "dec_ttl(",
    "psample(group=",
    "ct_clear",
    "recirc(",
    ")",
    "))",
    "),",
    ",",
    "(",
    "/",
    "+",
    "*",
    "0",
    "1",
    "2",
    "65535",
    "0x",
    "0xffff",
    "0x800",
    "0x86dd",
    "0x8100",
    "0x8847",
    "0x806",
    "-1",
    "4294967295",
    "18446744073709551615",
    "99999999999999999999",
    "1.2.3.4",
    "fe80::1",
    "00:00:00:00:00:01",
    "ff:ff:00:00:00:00",
    "ufid:",
    "src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64",
    "frag=no",
    "frag=first",
    "proto=17",
    "+est",
    "+trk",
    "+df",
    "-csum",
    "tp_src=1",
    "{}",
    "}",
    "00ff",
    " ",
    "ct_nw_src=1.2.3.4",
    ",ct_nw_proto=6",
    ",ct_tp_dst=80",
    "default=5",
    "zone=5,limit=3",
    "limit=",
    "v4",
    "v6",
    "é",
    "\t",
    "max_len=",
    "50%",
];

fn text(input: &mut Input<'_>) -> String {
    if input.below(4) == 0 {
        let len = usize::from(input.byte()) * 2;
        return String::from_utf8_lossy(input.bytes(len)).into_owned();
    }
    let n = input.below(48);
    (0..n).map(|_| WORDS[input.below(WORDS.len())]).collect()
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => key(&text(&mut input)),
        1 => actions(&text(&mut input)),
        _ => commands(input),
    }
}

fn key(text: &str) {
    _ = packet_from_text(text, None);
    let Ok(key) = parse_key(text, None) else {
        return;
    };
    _ = key.fit();
    for verbose in [false, true] {
        let mut out = String::new();
        format_match(&mut out, &key.flow, Some(&key.wc), None, verbose);
        // A datapath's flows have these whole, and nobody reads them with masks.
        let masks = &key.wc.masks;
        let whole = masks.recirc_id == u32::MAX && masks.packet_type.get() == u32::MAX;
        if key.fit().is_err() || verbose && !whole {
            continue;
        }
        let again = match parse_key(&out, None) {
            Ok(again) => again,
            Err(e) => panic!("{text}\n{out}\n{e}"),
        };
        let mut twice = String::new();
        format_match(&mut twice, &again.flow, Some(&again.wc), None, verbose);
        assert_eq!(out, twice, "{text}");
    }
    _ = key.into_match();
}

fn actions(text: &str) {
    let Ok(actions) = parse_actions(text, None) else {
        return;
    };
    _ = message_size(&actions);
    let mut out = String::new();
    format_actions(&mut out, &actions, None);
    let again = match parse_actions(&out, None) {
        Ok(again) => again,
        Err(e) => panic!("{text}\n{out}\n{e:?}"),
    };
    let mut twice = String::new();
    format_actions(&mut twice, &again, None);
    assert_eq!(out, twice, "{text}");
}

/// Commands that open no file and no device.
fn commands(mut input: Input<'_>) {
    let outside = [
        "dpctl/add-dp",
        "dpctl/del-dp",
        "dpctl/add-if",
        "dpctl/del-if",
        "dpctl/set-if",
        "dpctl/add-flows",
        "dpctl/mod-flows",
        "dpctl/del-flows",
    ];
    let dp = Arc::new(FakeDpif::default());
    let classes = [dp.class()];
    let inside: Vec<_> = COMMANDS
        .iter()
        .filter(|c| !outside.contains(&c.name))
        .collect();
    while !input.is_empty() {
        let command = inside[input.below(inside.len())];
        let n = input.below(6);
        let args: Vec<String> = (0..n).map(|_| text(&mut input)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let now = ferrovs_runtime::clock::now();
        let context = Context::new(&classes, "fuzz", now, |_, _| Err("no match".into()));
        let (Ok(said) | Err(said)) = context.run_with_options(command, &args);
        assert!(said.len() < 1 << 20, "{} bytes of answer", said.len());
    }
}
