//! Flows as text and as messages, both ways.

use std::iter::repeat_n;

use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowStats};
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::{FlowShow, format_flow_stats, parse_flow_mod};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};

use crate::{Bench, counted};

/// Flows as users write them.
const FLOWS: &[&str] = &[
    "priority=0,actions=NORMAL",
    "table=1,priority=10,in_port=1,dl_dst=02:00:00:00:00:02,actions=output:2",
    "priority=100,ip,nw_dst=10.1.2.0/24,actions=mod_dl_dst:02:00:00:00:00:03,dec_ttl,output:3",
    "cookie=0x1234,table=3,priority=7,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=80,actions=resubmit(,4)",
    "priority=65535,arp,arp_op=1,arp_tpa=10.0.0.1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],\
     load:2->NXM_OF_ARP_OP[],in_port",
    "idle_timeout=60,hard_timeout=300,udp6,ipv6_dst=fe80::/64,tp_src=53,actions=set_field:7->reg0,\
     learn(table=5,priority=3,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),goto_table:9",
    "table=2,reg0=0x10/0xf0,metadata=5,dl_vlan=100,actions=strip_vlan,set_field:0x1->tun_id,output:4",
    "priority=3,tcp,tcp_flags=+syn-ack,actions=controller(reason=action,max_len=128),group:5",
];
/// How often they are all taken.
const ROUNDS: usize = 100;

pub const BENCHES: &[Bench] = &[
    ("flow-text/parse", || {
        let lines = FLOWS.iter().cycle().take(FLOWS.len() * ROUNDS);
        counted(lines, |line| parse(line))
    }),
    ("flow-text/print", || {
        let tun = Tun::auto();
        let flows: Vec<FlowStats> = FLOWS.iter().map(|line| stats(parse(line))).collect();
        let mut out = String::new();
        let all = repeat_n(&flows, ROUNDS).flatten();
        counted(all, |flow| {
            out.clear();
            format_flow_stats(flow, FlowShow { stats: true }, &Names::none(&tun), &mut out);
        })
    }),
    ("openflow/encode-flow-mod", || {
        let tun = Tun::auto();
        let messages: Vec<Msg> = FLOWS.iter().map(|line| message(parse(line))).collect();
        let mut out = Vec::new();
        counted(repeat_n(&messages, ROUNDS).flatten(), |msg| {
            out.clear();
            msg.encode(&tun, &mut out)
        })
    }),
    ("openflow/decode-flow-mod", || {
        let tun = Tun::auto();
        let bytes = FLOWS.iter().map(|line| message(parse(line)).to_bytes(&tun));
        let bytes: Vec<Vec<u8>> = bytes.collect();
        counted(repeat_n(&bytes, ROUNDS).flatten(), |bytes| {
            Msg::decode(bytes, &tun).expect("a message")
        })
    }),
];

fn parse(line: &str) -> FlowMod {
    let (tun, mut usable) = (Tun::auto(), Protocol::all());
    parse_flow_mod(line, FlowModCommand::Add, &Names::none(&tun), &mut usable).expect(line)
}

fn message(flow_mod: FlowMod) -> Msg {
    let body = Message::FlowMod {
        flow_mod: Box::new(flow_mod),
        nxm: false,
    };
    Msg::new(Version::V13, 1, body)
}

fn stats(fm: FlowMod) -> FlowStats {
    FlowStats {
        match_: fm.match_,
        cookie: fm.new_cookie,
        table_id: fm.table_id,
        priority: fm.priority,
        idle_timeout: fm.idle_timeout,
        hard_timeout: fm.hard_timeout,
        duration_sec: 5,
        duration_nsec: 250_000_000,
        idle_age: Some(1),
        hard_age: None,
        packet_count: 12345,
        byte_count: 987_654_321,
        flags: fm.flags,
        importance: 0,
        actions: fm.actions,
    }
}
