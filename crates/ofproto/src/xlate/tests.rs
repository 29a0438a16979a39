//! The promise of megaflows: a packet that agrees with another in the bits that decided gets the same actions.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::action::{Action as DpAction, DropReason, HashAlg, Masked, Set, SlowPath};
use ferrovs_openflow::action::{Action, Resubmit};
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::group::GroupCommand;
use ferrovs_openflow::text::{
    Names, flow::parse_flow_mod, group::parse_group_mod, match_::format_match,
    parse_action::parse_actions,
};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::flow::{Flow, FlowWildcards, Match, NW_FRAG_ANY, NW_FRAG_LATER, VLAN_CFI};
use ferrovs_packet::types::{Be32, DpPort, MacAddr, OfPort, eth_type, ip_proto};
use ferrovs_sync::Waker;
use proptest::prelude::*;

use super::recirc::RecircTable;
use super::shared::SharedMap;
use super::snapshot::{
    AsyncPacketIn, FragHandling, PacketInSink, PriorityTags, VlanMode, XBridge, XBundle, XPort,
    XlateSnapshot,
};
use super::trace::Trace;
use super::xcache::{Draft, PacketCount};
use super::{Start, XlateIn, XlateOut, translate};
use crate::groups::{Group, Selection};
use crate::tables::{ChangeHook, Requester, Tables};

mod traces;

struct NoController;

impl PacketInSink for NoController {
    fn send(&self, _: AsyncPacketIn) {}

    fn wants_misses(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct NoHook;

impl ChangeHook for NoHook {
    fn flows_changed(&self) {}
}

/// The patch ports of the two bridges.
const PATCH: u16 = 9;

/// Two bridges joined by patch ports. Each has three more ports: a trunk, an access port of VLAN 5, and a trunk with a
/// native VLAN. Flows and groups are those of the first bridge, or of the second after `br1:`.
pub(crate) fn bridge(flows: &[&str]) -> (XlateSnapshot, Arc<XBridge>) {
    ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
    let mut snapshot = XlateSnapshot {
        features: ferrovs_testkit::dpif::FEATURES,
        ..XlateSnapshot::default()
    };
    for id in [1, 2] {
        let bridge = Arc::new(one_bridge(id));
        let flows = flows.iter().filter_map(|f| match f.strip_prefix("br1:") {
            Some(flow) => (id == 2).then_some(flow),
            None => (id == 1).then_some(*f),
        });
        let tun = Tun::auto();
        let names = Names::none(&tun);
        for text in flows {
            let mut usable = Protocol::all();
            if text.starts_with("group_id") {
                add_group(&bridge, text);
                continue;
            }
            let fm = parse_flow_mod(text, FlowModCommand::Add, &names, &mut usable)
                .unwrap_or_else(|e| panic!("{text}: {e}"));
            let tables = &bridge.tables;
            tables.flow_mod(fm, Requester::default(), 0).expect(text);
        }
        snapshot.bridges.insert(id, bridge);
    }
    let first = snapshot.bridges.get(&1).expect("a bridge").clone();
    (snapshot, first)
}

fn add_group(bridge: &XBridge, text: &str) {
    let (tun, mut usable) = (Tun::auto(), Protocol::all());
    let gm = parse_group_mod(text, GroupCommand::Add, &Names::none(&tun), &mut usable)
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut change = bridge.tables.change(Requester::default(), 0);
    let version = change.version();
    let selection = Selection::new(&gm.buckets, &gm.props, true);
    let by_dp_hash = gm.props.selection_method == "dp_hash";
    let mut group = Group::new(gm.group_id, gm.type_, gm.buckets, gm.props, 0, version);
    // By default groups of these tests hash here: the packet need not go through a datapath in between.
    if by_dp_hash || !matches!(selection, Selection::DpHash(_)) {
        group.selection = selection;
    }
    change.set_group(group);
    change.commit();
}

fn one_bridge(id: u128) -> XBridge {
    let waker = Arc::new(Waker::new().expect("eventfd"));
    let tables = Arc::new(Tables::new(waker, Box::new(NoHook)));
    let mut ports = SharedMap::default();
    let mut bundles = SharedMap::default();
    let modes = [
        (1, VlanMode::Trunk),
        (2, VlanMode::Access),
        (3, VlanMode::NativeUntagged),
        (PATCH, VlanMode::Trunk),
    ];
    for (i, vlan_mode) in modes {
        let name = format!("xlate-test-{id}-{i}");
        let netdev = ferrovs_netdev::open(&name, "dummy").expect("dummy device");
        ports.insert(
            OfPort(i),
            Arc::new(XPort {
                ofport: OfPort(i),
                name: name.clone(),
                dp_port: match i {
                    PATCH => DpPort::NONE,
                    _ => DpPort(u32::from(i) * 10 + (id as u32 - 1) * 100),
                },
                bundle: Some(u32::from(i)),
                config: 0,
                state: 0,
                may_enable: true,
                peer: (i == PATCH).then_some((3 - id, OfPort(PATCH))),
                tunnel: None,
                netdev,
                counters: Arc::default(),
                machines: None,
            }),
        );
        bundles.insert(
            u32::from(i),
            Arc::new(XBundle {
                id: u32::from(i),
                name,
                vlan_mode,
                vlan: 5,
                trunks: None,
                cvlans: None,
                qinq_ethtype: 0x88a8,
                priority_tags: PriorityTags::IfNonzero,
                protected: false,
                floodable: true,
                ports: vec![OfPort(i)],
            }),
        );
    }
    let bridge = XBridge {
        id,
        name: format!("br{}", id - 1),
        tables,
        meters: Arc::new([(1, 7)].into_iter().collect()),
        macs: Arc::default(),
        ports,
        bundles,
        flood_order: Arc::default(),
        forward_bpdu: false,
        flood_vlans: None,
        frag: FragHandling::Normal,
        mirrors: vec![],
        packet_ins: Arc::new(NoController),
        tun_table: Arc::default(),
        neighbours: ferrovs_tunnel::neigh::bridge("test"),
        local_mac: None,
    };
    {
        let mut macs = bridge.macs.write().expect("no thread panicked with it");
        let now = origin();
        for (mac, vlan, port) in [(1, 0, 1), (2, 5, 2), (3, 5, 3)] {
            macs.learn(now, mac_of(mac), vlan, port, Default::default());
        }
    }
    bridge
}

#[allow(clippy::disallowed_methods)]
fn origin() -> Instant {
    Instant::now()
}

fn mac_of(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// Translates a packet that comes in.
fn run(
    snapshot: &XlateSnapshot,
    recircs: &RecircTable,
    bridge: &Arc<XBridge>,
    flow: &Flow,
) -> XlateOut {
    run_from(snapshot, recircs, bridge, flow, Start::Tables)
}

fn run_from(
    snapshot: &XlateSnapshot,
    recircs: &RecircTable,
    bridge: &Arc<XBridge>,
    flow: &Flow,
    start: Start<'_>,
) -> XlateOut {
    translate(XlateIn {
        snapshot,
        recircs,
        bridge,
        flow,
        packet: None,
        start,
        version: None,
        side_effects: false,
        count: None,
        xcache: None,
        trace: None,
        now: origin(),
    })
}

fn show(flow: &Flow) -> String {
    ferrovs_openflow::text::key::format_flow(flow, &Names::none(&Tun::auto()))
}

fn show_match(m: &Match) -> String {
    let mut out = String::new();
    format_match(m, None, &Names::none(&Tun::auto()), &mut out);
    out
}

/// What the datapath makes of the mask: packets with a tag are never those without.
fn megaflow(flow: &Flow, wc: &FlowWildcards) -> Match {
    let mut wc = *wc;
    if wc.masks.vlans[0].tci.get() == 0 {
        wc.masks.vlans[0].tci = 0x1fff.into();
    }
    Match::new(flow, &wc)
}

const FLOWS: [&str; 66] = [
    "priority=0,actions=NORMAL",
    "priority=1,in_port=1,actions=resubmit(,1)",
    "priority=2,ip,actions=resubmit(,1),NORMAL",
    "priority=3,tcp,tp_dst=80,actions=2",
    "priority=3,tcp,tp_src=0x8000/0x8000,actions=3",
    "priority=4,ip,nw_dst=10.0.0.0/8,actions=dec_ttl,2,resubmit(,1)",
    "priority=5,ip,nw_dst=10.0.0.0/30,actions=mod_nw_dst:10.0.0.9,resubmit(,2),3",
    "priority=6,dl_vlan=5,actions=strip_vlan,resubmit(,1)",
    "priority=6,vlan_tci=0x1000/0x1000,actions=2",
    "priority=7,arp,arp_op=1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],load:2->NXM_OF_ARP_OP[],in_port",
    "priority=8,ip,nw_frag=later,actions=3",
    "priority=8,ipv6,ipv6_dst=fe80::/10,actions=2",
    "priority=8,icmp6,icmpv6_type=135,actions=resubmit(,1),2",
    "priority=9,dl_dst=02:00:00:00:00:02,actions=load:1->NXM_NX_REG0[],resubmit(,2)",
    "priority=9,udp,actions=push:NXM_OF_UDP_DST[],pop:NXM_NX_REG1[0..15],resubmit(,2)",
    "priority=4,ip,nw_tos=8,actions=mod_nw_tos:16,2",
    "priority=3,conj_id=3,ip,actions=1,2",
    "priority=3,ip,nw_src=10.0.0.1,actions=conjunction(3,1/2)",
    "priority=3,tcp,tp_dst=81,actions=conjunction(3,2/2)",
    "table=1,priority=0,actions=resubmit(,2)",
    "table=1,priority=1,ip,nw_src=10.0.0.0/31,actions=move:NXM_OF_IP_SRC[0..7]->NXM_NX_REG1[8..15],resubmit(,2)",
    "table=1,priority=2,tcp,tcp_flags=+syn-ack,actions=mod_tp_dst:8080,3",
    "table=1,priority=3,vlan_tci=0,actions=mod_vlan_vid:7,resubmit(,2)",
    "table=1,priority=1,actions=NORMAL",
    "table=1,priority=4,ip,nw_ttl=1,actions=drop",
    "table=1,priority=2,dl_src=02:00:00:00:00:01,actions=set_field:02:00:00:00:00:03->eth_dst,NORMAL",
    "table=2,priority=1,reg0=1,actions=clone(dec_ttl,3),2",
    "table=2,priority=1,reg1=0x100/0x100,actions=3",
    "table=2,priority=2,ip,nw_ecn=1,actions=output:NXM_NX_REG1[0..15]",
    "table=2,priority=0,actions=2,ALL",
    "table=2,priority=3,reg1=80,actions=multipath(symmetric_l4,0,modulo_n,2,0,NXM_NX_REG2[]),resubmit(,3)",
    "table=2,priority=2,icmp,icmp_type=8,actions=load:0->NXM_OF_ICMP_TYPE[],in_port",
    "table=3,reg2=0,actions=2",
    "table=3,reg2=1,actions=3,set_queue:4,2",
    // Labels, and what is below them.
    "priority=3,mpls,actions=pop_mpls:0x800,resubmit(,1)",
    "priority=4,mpls,mpls_bos=1,actions=clone(pop_mpls:0x800,2),3",
    "priority=5,mpls,mpls_label=100,actions=dec_mpls_ttl,2,set_field:7->mpls_label,3",
    "priority=5,mpls,mpls_ttl=64,actions=pop_mpls:0x8847,2,push_mpls:0x8847,3",
    "priority=6,mpls,mpls_tc=1,actions=push_mpls:0x8847,set_field:1->mpls_tc,2",
    "priority=2,mpls,actions=group:1,2",
    "priority=5,ip,nw_tos=8,actions=push_mpls:0x8847,2,dec_mpls_ttl,3",
    "table=1,priority=4,mpls,actions=group:2",
    "table=1,priority=5,ip,nw_ecn=1,actions=clone(push_mpls:0x8847,2),dec_ttl,3",
    // ARP.
    "priority=8,arp,arp_spa=10.0.0.1,actions=set_field:10.0.0.7->arp_tpa,2,resubmit(,1)",
    "priority=8,arp,arp_tpa=10.0.0.0/31,actions=move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],2",
    "table=1,priority=6,arp,arp_op=2,actions=push:NXM_OF_ARP_SPA[],pop:NXM_NX_REG1[],resubmit(,2)",
    // Groups.
    "group_id=1,type=all,bucket=set_field:02:00:00:00:00:07->eth_dst,output:2,bucket=pop_mpls:0x800,dec_ttl,output:3,bucket=output:3",
    "group_id=2,type=all,bucket=push_mpls:0x8847,output:2,bucket=dec_ttl,output:3,bucket=output:9",
    "group_id=3,type=select,bucket=output:2,bucket=group:1,bucket=set_field:7->ip_dscp,output:3",
    "group_id=4,type=ff,bucket=watch_port:1,set_field:9.9.9.9->ip_src,output:9,bucket=watch_port:2,output:2",
    "priority=9,ip,nw_dst=10.0.0.1,actions=group:2,3",
    "priority=4,tcp,actions=group:3",
    "priority=5,icmp,actions=dec_ttl,group:4,2",
    "table=2,priority=4,ip,actions=write_actions(dec_ttl,group:2),goto_table:3",
    "table=3,priority=1,actions=output:9,2",
    // Behind the patch port.
    "priority=2,dl_src=02:00:00:00:00:02,actions=9,2",
    "br1:priority=0,actions=NORMAL",
    "br1:priority=1,ip,actions=push_mpls:0x8847,1",
    "br1:priority=2,mpls,actions=pop_mpls:0x800,resubmit(,1)",
    "br1:priority=3,ip,nw_ttl=2,actions=meter:1,dec_ttl,1,in_port",
    "br1:priority=4,dl_vlan=5,actions=strip_vlan,set_field:02:00:00:00:00:06->eth_src,1,2",
    "br1:table=1,ip,nw_proto=6,actions=dec_ttl,2",
    // What is learned, metered, cut and checked for its length.
    "priority=6,ip,nw_src=10.0.0.2,actions=learn(table=5,eth_type=0x800,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],output:NXM_OF_IN_PORT[]),2",
    "table=1,priority=3,ip,nw_dst=10.0.0.3,actions=meter:1,clone(dec_ttl,resubmit(,3)),2",
    "priority=4,udp,actions=output(port=2,max_len=100),mod_nw_src:1.1.1.1,3",
    "table=1,priority=3,udp,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,2)",
];

/// Flows that track connections, or see what the tracker says; metadata, and groups behind it.
const TRACKED: [&str; 14] = [
    "priority=4,ip,ct_state=-trk,actions=ct(table=1,zone=5)",
    "priority=5,tcp,ct_state=-trk,tp_dst=80,actions=ct(commit,table=2,zone=NXM_NX_REG0[0..15],nat(src=10.9.9.9))",
    "priority=5,ipv6,ct_state=-trk,actions=ct(table=2),2",
    "priority=6,udp,tp_src=80,actions=dec_ttl,ct(table=1,zone=5),resubmit(,3)",
    "priority=7,ip,nw_tos=9,actions=write_metadata:0x10/0xf0,goto_table:1",
    "table=1,priority=6,ip,ct_state=+trk+est,actions=dec_ttl,3",
    "table=1,priority=5,ip,ct_state=+trk+new,nw_src=10.0.0.1,actions=ct(commit,zone=5,exec(load:7->NXM_NX_CT_MARK[])),2",
    "table=1,priority=7,ip,ct_label=0x1/0x1,actions=3,ct(table=2)",
    "table=1,priority=8,metadata=0x10/0x10,actions=set_field:0x5->reg3,group:3",
    "table=2,priority=5,ct_mark=7,actions=move:NXM_NX_CT_MARK[0..3]->NXM_NX_REG0[0..3],resubmit(,3)",
    "table=2,priority=6,ip,ct_zone=5,actions=ct_clear,resubmit(,3),2",
    "table=2,priority=7,mpls,actions=pop_mpls:0x800,ct(table=1),3",
    "table=3,priority=2,ip,ct_state=+rpl,actions=in_port",
    "table=3,priority=3,ip,ct_mark=0x80/0x80,actions=move:NXM_OF_IP_SRC[0..7]->NXM_NX_REG1[8..15],3,resubmit(,2)",
];

/// A key without what a packet does not carry.
fn headers_of(mut flow: Flow) -> Flow {
    flow.in_port = u32::from(OfPort::NONE.0);
    flow.regs = Default::default();
    flow.skb_priority = 0;
    flow.actset_output = 0;
    if matches!(flow.nw_proto, ip_proto::ICMP | ip_proto::ICMPV6) {
        // What is set like a port is cut to the size of a type or code.
        flow.tp_src = (flow.tp_src.get() & 0xff).into();
        flow.tp_dst = (flow.tp_dst.get() & 0xff).into();
    }
    flow
}

/// Packets that differ in few values of the fields that the flows look at.
fn any_packet() -> impl Strategy<Value = Flow> {
    let l2 = (1u32..4, 0u8..4, 0u8..4, 0u16..4, 0usize..6);
    let l3 = (
        0u8..4,
        0u8..4,
        prop::sample::select(vec![0u8, 1, 8, 9]),
        1u8..3,
        0u8..4,
    );
    let l4 = (
        prop::sample::select(vec![79u16, 80, 81, 0x8000]),
        prop::sample::select(vec![80u16, 81, 443]),
        prop::sample::select(vec![2u16, 0x12, 0x10]),
    );
    (l2, l3, l4).prop_map(
        |((port, src, dst, vlan, kind), (a, b, tos, ttl, frag), (tsrc, tdst, flags))| {
            let mut f = Flow {
                in_port: port,
                dl_src: mac_of(src),
                dl_dst: if dst == 0 {
                    MacAddr::BROADCAST
                } else {
                    mac_of(dst)
                },
                ..Flow::default()
            };
            if vlan > 0 {
                f.vlans[0].tpid = eth_type::VLAN_8021Q.into();
                f.vlans[0].tci = (VLAN_CFI | [0, 5, 6, 0x6005][usize::from(vlan)]).into();
            }
            if kind == 0 {
                f.dl_type = eth_type::ARP.into();
                f.nw_proto = 1 + a % 2;
                f.nw_src = (0x0a00_0000 + u32::from(a)).into();
                f.nw_dst = (0x0a00_0000 + u32::from(b)).into();
                return f;
            }
            if kind == 5 {
                let label = |label: u32, bottom: u32| {
                    let (tc, ttl) = (u32::from(tos & 1), [1, 64][usize::from(ttl - 1)]);
                    Be32::from(label << 12 | tc << 9 | bottom << 8 | ttl)
                };
                f.dl_type = eth_type::MPLS.into();
                f.mpls_lse[0] = label(100 + 100 * u32::from(a & 1), u32::from(b & 1));
                if b & 1 == 0 {
                    f.mpls_lse[1] = label(20 + u32::from(a & 2), 1);
                }
                return f;
            }
            f.nw_proto = [
                0,
                ip_proto::TCP,
                ip_proto::UDP,
                ip_proto::ICMP,
                ip_proto::ICMPV6,
            ][kind];
            if kind == 4 {
                f.dl_type = eth_type::IPV6.into();
                f.ipv6_src[15] = a;
                f.ipv6_dst[0] = if b > 1 { 0xfe } else { 0x20 };
                f.ipv6_dst[1] = 0x80;
            } else {
                f.dl_type = eth_type::IP.into();
                f.nw_src = (0x0a00_0000 + u32::from(a)).into();
                f.nw_dst = (u32::from(b % 2) * 0x0a00_0000 + u32::from(b)).into();
                f.nw_frag = [0, 0, NW_FRAG_ANY, NW_FRAG_ANY | NW_FRAG_LATER][usize::from(frag)];
            }
            (f.nw_tos, f.nw_ttl) = (tos, ttl);
            if f.nw_frag & NW_FRAG_LATER == 0 {
                match kind {
                    1 => {
                        (f.tp_src, f.tp_dst) = (tsrc.into(), tdst.into());
                        f.tcp_flags = flags.into();
                    }
                    2 => (f.tp_src, f.tp_dst) = (tsrc.into(), tdst.into()),
                    3 => f.tp_src = if tsrc > 80 { 8 } else { 0 }.into(),
                    _ => f.tp_src = if tsrc > 80 { 135 } else { 128 }.into(),
                }
            }
            f
        },
    )
}

/// Actions that change packets, and some that do not.
const EDITS: [&str; 40] = [
    "mod_dl_src:02:00:00:00:00:77",
    "set_field:02:00:00:00:00:78->eth_dst",
    "mod_nw_src:1.2.3.4",
    "mod_nw_dst:5.6.7.8",
    "mod_nw_tos:32",
    "mod_nw_ecn:2",
    "mod_nw_ttl:9",
    "dec_ttl",
    "mod_tp_src:1111",
    "mod_tp_dst:2222",
    "push_vlan:0x8100",
    "push_vlan:0x88a8",
    "mod_vlan_vid:9",
    "mod_vlan_pcp:6",
    "strip_vlan",
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
    "move:NXM_OF_IP_SRC[0..15]->NXM_OF_IP_DST[16..31]",
    "move:NXM_OF_IP_TOS[2..7]->NXM_NX_REG0[0..5]",
    "load:0x5->NXM_OF_IP_SRC[8..11]",
    "load:3->NXM_OF_TCP_DST[]",
    "load:4->NXM_OF_UDP_SRC[]",
    "load:0x1234->NXM_OF_ARP_SPA[]",
    "load:2->NXM_OF_ARP_OP[]",
    "load:0x20000000005->NXM_NX_ARP_SHA[]",
    "load:0xfe800000->NXM_NX_IPV6_SRC[96..127]",
    "load:7->NXM_NX_IPV6_DST[0..7]",
    "load:0x12345->NXM_NX_IPV6_LABEL[]",
    "push_mpls:0x8847",
    "set_mpls_label:77",
    "set_mpls_ttl:12",
    "dec_mpls_ttl",
    "clone(dec_ttl,mod_dl_src:02:00:00:00:00:79)",
    "push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[]",
    "load:0->NXM_OF_ICMP_TYPE[]",
    "note:01",
    "push_mpls:0x8847,push_mpls:0x8848,set_mpls_label:79,pop_mpls:0x8847",
    "pop_mpls:PAYLOAD",
    "clone(pop_mpls:PAYLOAD,3)",
    "clone(push_mpls:0x8847,3)",
    "clone(set_mpls_label:78,output(port=3,max_len=60))",
];

#[test]
fn a_limit_of_learned_flows_lets_the_first_pass_and_counts_no_flow_twice() {
    let (snapshot, bridge) = bridge(&[
        "actions=learn(limit=2,result_dst=NXM_NX_REG0[0],table=1,cookie=7,NXM_OF_ETH_SRC[]),resubmit(,2)",
        "table=2,reg0=1,actions=2",
    ]);
    let recircs = RecircTable::default();
    let run = |source: u8, packet: bool| {
        let flow = Flow {
            in_port: 1,
            dl_src: mac_of(source),
            dl_type: 0x1234.into(),
            ..Flow::default()
        };
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &recircs,
            bridge: &bridge,
            flow: &flow,
            packet: None,
            start: Start::Tables,
            version: None,
            side_effects: packet,
            count: None,
            xcache: Some(&mut Draft::default()),
            trace: None,
            now: origin(),
        });
        (
            out.actions == [DpAction::Output(DpPort(20))],
            out.avoid_caching,
        )
    };
    let four = [1, 2, 3, 4];
    assert_eq!(
        four.map(|s| run(s, true).0),
        [true, true, false, false],
        "packets"
    );
    // Looked at again, the two learned flows do not stand in their own way; the others must be asked for anew.
    assert_eq!(four.map(|s| run(s, false).1), [false, false, true, true]);
    assert_eq!([1, 2].map(|s| run(s, false).0), [true, true]);
    assert_eq!(four.map(|s| run(s, true).0), [true, true, false, false]);
}

#[test]
fn each_bucket_that_a_packet_runs_through_counts_it() {
    let (snapshot, bridge) = bridge(&[
        "group_id=1,type=all,bucket=output:2,bucket=group:2",
        "group_id=2,type=all,bucket=output:3,bucket=output:2",
        "group_id=3,type=select,bucket=weight:0,output:2,bucket=weight:0,output:3",
        "priority=1,actions=write_actions(group:1)",
        "priority=2,arp,actions=group:3",
    ]);
    let recircs = RecircTable::default();
    let flow = Flow {
        in_port: 1,
        dl_type: 0x1234.into(),
        ..Flow::default()
    };
    let mut cache = Draft::default();
    let out = translate(XlateIn {
        snapshot: &snapshot,
        recircs: &recircs,
        bridge: &bridge,
        flow: &flow,
        packet: None,
        start: Start::Tables,
        version: None,
        side_effects: true,
        count: None,
        xcache: Some(&mut cache),
        trace: None,
        now: origin(),
    });
    let output = |port| DpAction::Output(DpPort(port));
    assert_eq!(out.actions, [output(20), output(30), output(20)]);
    let count = PacketCount {
        packets: 5,
        bytes: 300,
        tcp_flags: 0,
    };
    cache.record.push(count, origin());
    for id in [1, 2] {
        let group = bridge.tables.groups().find(id).expect("it was added");
        assert_eq!(group.counters.read(), (5, 300));
        let buckets: Vec<_> = group.buckets.iter().map(|b| b.counters.read()).collect();
        assert_eq!(buckets, [(5, 300); 2]);
    }
    // Nothing goes to buckets without weight.
    let arp = Flow {
        dl_type: eth_type::ARP.into(),
        ..flow
    };
    assert_eq!(run(&snapshot, &recircs, &bridge, &arp).actions, []);
}

#[test]
fn a_packet_comes_back_with_a_hash_that_numbers_its_bucket() {
    let (snapshot, bridge) = bridge(&[
        "group_id=1,type=select,selection_method=dp_hash,selection_method_param=5,\
         bucket=weight:1,output:2,bucket=weight:3,output:3",
        "actions=set_field:1->reg0,group:1,resubmit(,1)",
        "table=1,reg0=1,actions=output:2",
    ]);
    let recircs = RecircTable::default();
    let mut flow = Flow {
        in_port: 1,
        dl_type: 0x800.into(),
        nw_src: 0x0a00_0001.into(),
        ..Flow::default()
    };
    let first = run(&snapshot, &recircs, &bridge, &flow);
    let id = first.recircs[0].id;
    let (alg, basis) = (HashAlg::L4, 5);
    let hashed = [DpAction::Hash { alg, basis }, DpAction::Recirc(id)];
    assert_eq!(first.actions, hashed);
    assert_eq!(first.wc.masks.nw_src.get(), 0, "one flow for all packets");
    flow.recirc_id = id;
    let mut first_buckets = 0;
    for hash in 1..=16 {
        flow.dp_hash = hash << 8 | hash & 0xf;
        let thawed = Start::Frozen(&first.recircs[0]);
        let out = run_from(&snapshot, &recircs, &bridge, &flow, thawed);
        assert_eq!(out.wc.masks.dp_hash, 0xf);
        let by = |port| DpAction::Output(DpPort(port));
        first_buckets += usize::from(out.actions == [by(20), by(20)]);
        assert!(out.actions[1..] == [by(20)], "what stands behind the group");
    }
    assert_eq!(first_buckets, 4);
}

#[test]
fn more_outputs_than_any_datapath_takes_are_carried_out_above_it() {
    let flow = Flow {
        in_port: 1,
        ..Flow::default()
    };
    let slow = |n: usize| {
        let outputs = vec!["output:2"; n].join(",");
        let (snapshot, bridge) = bridge(&[&format!("actions={outputs}")]);
        run(&snapshot, &RecircTable::default(), &bridge, &flow).slow
    };
    assert_eq!(slow(1000), SlowPath::NONE);
    assert_eq!(slow(1001), SlowPath::ACTION);
}

#[test]
fn what_goes_in_circles_ends_after_as_many_tables_as_in_open_vswitch() {
    let loop_in = |n: u8| format!("table={n},ip,actions=resubmit(,{n})");
    let tree = (0..14u8).map(|i| {
        let next = i + 1;
        format!("table={i},ip,actions=resubmit(,{next}),resubmit(,{next})")
    });
    let tree: Vec<_> = tree.collect();
    let from = |n: u8| {
        vec![Action::Resubmit(Resubmit {
            in_port: OfPort::IN_PORT,
            table: n,
            with_ct_orig: false,
            port_only: false,
        })]
    };
    let looped = vec!["table=0,ip,actions=resubmit(,1)".to_string(), loop_in(1)];
    let flow = Flow {
        in_port: 1,
        dl_type: eth_type::IP.into(),
        ..Flow::default()
    };
    // Flows, where to begin, the reason of the end, tables told of.
    let cases = [
        (&looped, None, DropReason::RecursionTooDeep, 66),
        (&looped, Some(from(1)), DropReason::RecursionTooDeep, 65),
        (&looped, Some(from(0)), DropReason::RecursionTooDeep, 65),
        (&tree, None, DropReason::TooManyResubmits, 4097),
        (&tree, Some(from(0)), DropReason::TooManyResubmits, 4096),
    ];
    for (flows, actions, error, tables) in cases {
        let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
        let (snapshot, bridge) = bridge(&flows);
        let mut trace = Trace::default();
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &RecircTable::default(),
            bridge: &bridge,
            flow: &flow,
            packet: None,
            start: actions.as_deref().map_or(Start::Tables, Start::Actions),
            version: None,
            side_effects: false,
            count: None,
            xcache: None,
            trace: Some(&mut trace),
            now: origin(),
        });
        assert_eq!(out.error, error);
        let text = trace.text();
        let told = text
            .lines()
            .filter(|l| l.contains(". ip, priority") || l.contains(". No match"));
        assert_eq!(told.count(), tables, "{error:?}");
    }
}

/// Whether the key is of a packet that `pop_mpls` uncovered: it does not show the header that the packet has.
fn is_hidden(flow: &Flow) -> bool {
    let l3 = [eth_type::IP, eth_type::IPV6, eth_type::ARP];
    l3.contains(&flow.dl_type.get()) && flow.nw_proto == 0
}

/// Nothing but Ethernet header and VLANs.
fn hide(flow: &Flow) -> Flow {
    Flow {
        packet_type: flow.packet_type,
        dl_src: flow.dl_src,
        dl_dst: flow.dl_dst,
        dl_type: flow.dl_type,
        vlans: flow.vlans,
        ..Flow::default()
    }
}

/// The datapath, and the translation that it asks when a packet comes back.
struct Datapath<'a> {
    snapshot: &'a XlateSnapshot,
    recircs: RecircTable,
    bridge: &'a Arc<XBridge>,
    /// What port 20 sent, as keys.
    sent: Vec<Flow>,
    /// The key of the last translation when it had done all of it; none if it stopped early.
    last: Option<Flow>,
}

impl Datapath<'_> {
    fn translate(&mut self, packet: &Packet, start: Start<'_>) {
        let mut packet = packet.duplicate();
        let mut flow = Flow::from_packet(&mut packet);
        flow.in_port = 1;
        let mut trace = Trace::default();
        let out = translate(XlateIn {
            snapshot: self.snapshot,
            recircs: &self.recircs,
            bridge: self.bridge,
            flow: &flow,
            packet: None,
            start,
            version: None,
            side_effects: false,
            count: None,
            xcache: None,
            trace: Some(&mut trace),
            now: origin(),
        });
        // A packet whose TTL ran out goes to the controller, and no further.
        let whole = |a: &DpAction| !matches!(a, DpAction::Userspace(_) | DpAction::Recirc(_));
        let done = out.error == DropReason::Ok && out.actions.iter().all(whole);
        self.last = out.final_flow.filter(|_| done).map(|flow| *flow);
        self.execute(&out.actions, &mut packet);
    }

    fn execute(&mut self, actions: &[DpAction], packet: &mut Packet) {
        for action in actions {
            match action {
                DpAction::Output(DpPort(20)) => {
                    let key = Flow::from_packet(&mut packet.duplicate());
                    self.sent.push(key);
                }
                DpAction::Output(_) | DpAction::Userspace(_) | DpAction::Drop(_) => {}
                DpAction::Trunc(_) => {}
                DpAction::Clone(inner) => self.execute(inner, &mut packet.duplicate()),
                DpAction::Recirc(id) => {
                    let recirc = self.recircs.find(*id).expect("the translation holds it");
                    self.translate(packet, Start::Frozen(&recirc));
                }
                edit => {
                    let _ = ferrovs_datapath::edit::apply(edit, packet);
                }
            }
        }
    }
}

/// Actions as they must be the same for all packets of a megaflow: of a label only what is set counts.
fn comparable(actions: &[DpAction]) -> Vec<DpAction> {
    let one = |action: &DpAction| match action {
        DpAction::Set(Set::Mpls(m)) => DpAction::Set(Set::Mpls(Masked {
            value: m.value & m.mask,
            mask: m.mask,
        })),
        DpAction::Clone(inner) => DpAction::Clone(comparable(inner)),
        DpAction::CheckPktLen {
            size,
            greater,
            less_equal,
        } => DpAction::CheckPktLen {
            size: *size,
            greater: comparable(greater),
            less_equal: comparable(less_equal),
        },
        other => other.clone(),
    };
    actions.iter().map(one).collect()
}

/// Where a list of actions sends packets back to.
fn recirculations(actions: &[DpAction]) -> Vec<u32> {
    let one = |action: &DpAction| match action {
        DpAction::Recirc(id) => vec![*id],
        DpAction::Clone(inner) => recirculations(inner),
        DpAction::CheckPktLen {
            greater,
            less_equal,
            ..
        } => [recirculations(greater), recirculations(less_equal)].concat(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(one).collect()
}

/// `FUZZ_CASES` asks for more: each has 40 packets and those that come back.
fn cases(or: u32) -> ProptestConfig {
    let cases = std::env::var("FUZZ_CASES").map_or(or, |n| n.parse().expect("a number"));
    ProptestConfig::with_cases(cases)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_datapath_makes_of_a_packet_what_the_tables_made_of_its_key(
        edits in prop::collection::vec(prop::sample::select(EDITS.to_vec()), 1..8),
        flow in any_packet(),
    ) {
        ferrovs_packet::parse::set_vlan_limit(2);
        let packet = compose(&flow, Payload::Default).expect("any length");
        let (snapshot, bridge) = bridge(&[]);
        let (tun, mut usable) = (Tun::auto(), Protocol::all());
        let payload = match flow.dl_type.get() {
            eth_type::MPLS => eth_type::IP,
            other => other,
        };
        let text = format!("{},output:2", edits.join(","));
        let text = text.replace("PAYLOAD", &format!("{payload:#x}"));
        let actions = parse_actions(&text, &Names::none(&tun), &mut usable, false);
        let actions = actions.unwrap_or_else(|e| panic!("{text}: {e}"));
        let mut dp = Datapath {
            snapshot: &snapshot,
            recircs: RecircTable::default(),
            bridge: &bridge,
            sent: Vec::new(),
            last: None,
        };
        dp.translate(&packet, Start::Actions(&actions));
        let Some(want) = dp.last else { return Ok(()) };
        let Some(got) = dp.sent.last() else {
            return Err(TestCaseError::fail(format!("{text} on {}: nothing sent", show(&flow))));
        };
        // Labels hide what is above them until the last is gone; the datapath does not look there either.
        prop_assume!(got.n_mpls() == want.n_mpls());
        let known = |f: &Flow| match want.dl_type == got.dl_type && is_hidden(&want) {
            true => hide(f),
            false => *f,
        };
        let (a, b) = (show(&headers_of(known(got))), show(&headers_of(known(&want))));
        prop_assert_eq!(a, b, "{} on {}", text, show(&flow));
    }

}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn packets_of_one_megaflow_get_the_same_actions(
        flows in prop::sample::subsequence([&FLOWS[..], &TRACKED[..]].concat(), 1..=FLOWS.len() + TRACKED.len()),
        packets in prop::collection::vec(any_packet(), 40).no_shrink(),
    ) {
        let (mut snapshot, bridge) = bridge(&flows);
        let features = &mut snapshot.features;
        (features.ct_state, features.ct_zone, features.ct_mark, features.ct_label) = (true, true, true, true);
        (features.ct_state_nat, features.ct_orig_tuple) = (true, true);
        // Equal numbers mean that packets go on in the same way when they come back.
        let recircs = RecircTable::default();
        let first = packets.iter().map(|p| (*p, run(&snapshot, &recircs, &bridge, p)));
        let mut results: Vec<_> = first.collect();
        // They come back with whatever the tracker says of them.
        let mut at = 0;
        while at < results.len() && results.len() < 200 {
            let (packet, actions) = (results[at].0, results[at].1.actions.clone());
            for recirc in recirculations(&actions).into_iter().filter_map(|id| recircs.find(id)) {
                for (state, zone, mark) in [(0u8, 0, 0), (0x21, 5, 0), (0x22, 5, 7), (0x2a, 0, 0xff)] {
                    let mut back = packet;
                    back.recirc_id = recirc.id;
                    (back.ct_state, back.ct_zone, back.ct_mark) = (state, zone, mark);
                    back.ct_label[15] = mark as u8;
                    let out = run_from(&snapshot, &recircs, &bridge, &back, Start::Frozen(&recirc));
                    results.push((back, out));
                }
            }
            at += 1;
        }
        for (packet, out) in &results {
            let mega = megaflow(packet, &out.wc);
            for (other, theirs) in results.iter().filter(|(p, _)| mega.matches(p)) {
                prop_assert!(
                    comparable(&out.actions) == comparable(&theirs.actions)
                        && out.slow == theirs.slow,
                    "{}\n  gets {:?}\n{}\n  gets {:?}\nmegaflow {}\n{flows:#?}",
                    show(packet), out.actions, show(other), theirs.actions, show_match(&mega)
                );
            }
        }
    }
}
