//! The promise of megaflows: a packet that agrees with another in the bits that decided gets the same actions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ferrovs_datapath::action::{Action as DpAction, DropReason};
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::text::{
    Names, flow::parse_flow_mod, match_::format_match, parse_action::parse_actions,
};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::compose::{Payload, compose};
use ferrovs_packet::flow::{Flow, FlowWildcards, Match, NW_FRAG_ANY, NW_FRAG_LATER, VLAN_CFI};
use ferrovs_packet::types::{DpPort, MacAddr, OfPort, eth_type, ip_proto};
use ferrovs_sync::{Snapshot, Waker};
use proptest::prelude::*;

use super::recirc::RecircTable;
use super::snapshot::{
    AsyncPacketIn, FragHandling, PacketInSink, PriorityTags, VlanMode, XBridge, XBundle, XPort,
    XlateSnapshot,
};
use super::{Start, XlateIn, XlateOut, translate};
use crate::groups::GroupTable;
use crate::tables::{ChangeHook, Requester, Tables};

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

/// Three ports: a trunk, an access port of VLAN 5, and a trunk with a native VLAN.
fn bridge(flows: &[&str]) -> (XlateSnapshot, Arc<XBridge>) {
    ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
    let waker = Arc::new(Waker::new().expect("eventfd"));
    let tables = Arc::new(Tables::new(waker, Box::new(NoHook)));
    let tun = Tun::auto();
    for text in flows {
        let mut usable = Protocol::all();
        let names = Names::none(&tun);
        let fm = parse_flow_mod(text, FlowModCommand::Add, &names, &mut usable)
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        tables.flow_mod(fm, Requester::default(), 0).expect(text);
    }
    let mut ports = HashMap::new();
    let mut bundles = HashMap::new();
    let modes = [VlanMode::Trunk, VlanMode::Access, VlanMode::NativeUntagged];
    for (i, vlan_mode) in (1u16..).zip(modes) {
        let name = format!("xlate-test-{i}");
        let netdev = ferrovs_netdev::open(&name, "dummy").expect("dummy device");
        ports.insert(
            OfPort(i),
            Arc::new(XPort {
                ofport: OfPort(i),
                name: name.clone(),
                dp_port: DpPort(u32::from(i) * 10),
                bundle: Some(u32::from(i)),
                config: 0,
                state: 0,
                may_enable: true,
                peer: None,
                tunnel: None,
                tunnel_kind: "",
                netdev,
                counters: Arc::default(),
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
    let bridge = Arc::new(XBridge {
        id: 1,
        name: "br0".into(),
        tables,
        groups: Arc::new(GroupTable::new()),
        meters: Arc::new(Snapshot::new(HashMap::new())),
        macs: Arc::new(Mutex::default()),
        ports,
        bundles,
        forward_bpdu: false,
        flood_vlans: None,
        frag: FragHandling::Normal,
        mirrors: vec![],
        packet_ins: Arc::new(NoController),
        local_mac: None,
    });
    {
        let mut macs = bridge.macs.lock().expect("no thread panicked with it");
        let now = origin();
        for (mac, vlan, port) in [(1, 0, 1), (2, 5, 2), (3, 5, 3)] {
            macs.learn(now, mac_of(mac), vlan, port, Default::default());
        }
    }
    let mut snapshot = XlateSnapshot::default();
    snapshot.bridges.insert(1, bridge.clone());
    (snapshot, bridge)
}

#[allow(clippy::disallowed_methods)]
fn origin() -> Instant {
    Instant::now()
}

fn mac_of(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn run(snapshot: &XlateSnapshot, bridge: &Arc<XBridge>, flow: &Flow) -> XlateOut {
    translate(XlateIn {
        snapshot,
        recircs: &RecircTable::default(),
        bridge,
        flow: *flow,
        packet: None,
        start: Start::Tables,
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

const FLOWS: [&str; 34] = [
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
];

/// A key without what a packet does not carry.
fn headers_of(mut flow: Flow) -> Flow {
    flow.in_port = u32::from(OfPort::NONE.0);
    flow.regs = Default::default();
    flow.skb_priority = 0;
    flow.actset_output = 0;
    flow
}

/// Packets that differ in few values of the fields that the flows look at.
fn any_packet() -> impl Strategy<Value = Flow> {
    let l2 = (1u32..4, 0u8..4, 0u8..4, 0u16..4, 0usize..5);
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
const EDITS: [&str; 35] = [
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
];

/// What the datapath sends out of its port 20, as keys.
fn sent(actions: &[DpAction], packet: &Packet) -> Vec<Flow> {
    let mut packet = packet.duplicate();
    let mut out = Vec::new();
    for action in actions {
        match action {
            DpAction::Output(DpPort(20)) => out.push(Flow::from_packet(&mut packet.duplicate())),
            DpAction::Output(_) | DpAction::Userspace(_) | DpAction::Drop(_) => {}
            DpAction::Clone(inner) => out.extend(sent(inner, &packet)),
            edit => {
                let _ = ferrovs_datapath::edit::apply(edit, &mut packet);
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_datapath_makes_of_a_packet_what_the_tables_made_of_its_key(
        edits in prop::collection::vec(prop::sample::select(EDITS.to_vec()), 1..8),
        flow in any_packet(),
    ) {
        ferrovs_packet::parse::set_vlan_limit(2);
        let mut packet = compose(&flow, Payload::Default).expect("any length");
        let mut flow = Flow::from_packet(&mut packet);
        flow.in_port = 1;
        let (snapshot, bridge) = bridge(&[]);
        let (tun, mut usable) = (Tun::auto(), Protocol::all());
        let text = format!("{},output:2", edits.join(","));
        let actions = parse_actions(&text, &Names::none(&tun), &mut usable, false);
        let actions = actions.unwrap_or_else(|e| panic!("{text}: {e}"));
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &RecircTable::default(),
            bridge: &bridge,
            flow,
            packet: Some(&packet),
            start: Start::Actions(&actions),
            side_effects: false,
            count: None,
            xcache: None,
            trace: None,
            now: origin(),
        });
        let got = sent(&out.actions, &packet);
        let Some(got) = got.last().filter(|_| out.error == DropReason::Ok) else {
            return Ok(());
        };
        let want = out.final_flow;
        // Labels hide what is above them until the last is gone; the datapath does not look there either.
        prop_assume!(got.n_mpls() == want.n_mpls());
        let (a, b) = (show(&headers_of(*got)), show(&headers_of(want)));
        prop_assert_eq!(a, b, "{} on {}: {:?}", text, show(&flow), out.actions);
    }

    #[test]
    fn packets_of_one_megaflow_get_the_same_actions(
        flows in prop::sample::subsequence(FLOWS.to_vec(), 1..=FLOWS.len()),
        packets in prop::collection::vec(any_packet(), 40).no_shrink(),
    ) {
        let (snapshot, bridge) = bridge(&flows);
        let results: Vec<_> = packets.iter().map(|p| (p, run(&snapshot, &bridge, p))).collect();
        for (packet, out) in &results {
            let mega = megaflow(packet, &out.wc);
            for (other, theirs) in results.iter().filter(|(p, _)| mega.matches(p)) {
                prop_assert!(
                    out.actions == theirs.actions && out.slow == theirs.slow,
                    "{}\n  gets {:?}\n{}\n  gets {:?}\nmegaflow {}\n{flows:#?}",
                    show(packet), out.actions, show(other), theirs.actions, show_match(&mega)
                );
            }
        }
    }
}
