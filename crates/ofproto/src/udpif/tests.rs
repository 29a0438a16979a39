//! Upcalls and rounds over a datapath that fails on demand. Rounds are made by the tests themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ferrovs_datapath::dpif::{Detach, Dpif, FlowPut, PackedMatch, Put, Ufid};
use ferrovs_datapath::text::{format_actions, packet_from_text, parse_actions, parse_key};
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::text::{Names, flow::parse_flow_mod};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::types::{DpPort, OfPort};
use ferrovs_runtime::clock;
use ferrovs_sync::Snapshot;
use ferrovs_testkit::dpif::FakeDpif;

use super::revalidator::round;
use super::{Settings, Udpif};
use crate::backer::Backer;
use crate::tables::{Criteria, Requester};
use crate::xlate::snapshot::XBridge;

/// A bridge with ports 1 to 3, which are 10, 20 and 30 of the datapath.
struct Lab {
    dp: Arc<FakeDpif>,
    udpif: Arc<Udpif>,
    bridge: Arc<XBridge>,
}

const IN: DpPort = DpPort(10);

impl Lab {
    fn new(flows: &[&str]) -> Lab {
        let (mut snapshot, bridge) = crate::xlate::tests::bridge(flows);
        for port in 1..=3 {
            let place = (bridge.id, OfPort(port));
            snapshot
                .dp_ports
                .insert(DpPort(u32::from(port) * 10), place);
        }
        let dp = Arc::new(FakeDpif::default());
        let snapshot = Arc::new(Snapshot::new(snapshot));
        let settings = Arc::new(Settings::default());
        let udpif = Udpif::start(dp.clone(), snapshot, settings);
        udpif.set_paused(true);
        Lab { dp, udpif, bridge }
    }

    fn flow_mod(&self, text: &str) {
        let (tun, mut usable) = (Tun::auto(), Protocol::all());
        let names = Names::none(&tun);
        let add = FlowModCommand::Add;
        let fm = parse_flow_mod(text, add, &names, &mut usable).unwrap();
        let tables = &self.bridge.tables;
        tables.flow_mod(fm, Requester::default(), 0).unwrap();
        self.udpif.changed();
    }

    fn receive(&self, packet: Packet) {
        assert!(self.dp.receive(IN, packet, clock::now()));
    }

    /// Packets that the rules of the bridge were credited with.
    fn credited(&self) -> u64 {
        let rules = self.bridge.tables.collect_rules(&Criteria::all());
        rules.iter().map(|r| r.stats().n_packets).sum()
    }

    /// The actions of the flows in the datapath.
    fn actions(&self) -> Vec<String> {
        let mut all = Vec::new();
        let dp: &dyn Dpif = &*self.dp;
        dp.flow_dump(&mut |flow| {
            let mut text = String::new();
            format_actions(&mut text, &flow.actions, None);
            all.push(text);
        });
        all.sort();
        all
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.udpif.stop();
    }
}

fn packet(tp_dst: u16) -> Packet {
    let text = format!(
        "in_port(10),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),eth_type(0x0800),\
         ipv4(src=1.2.3.4,dst=5.6.7.8,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst={tp_dst})"
    );
    packet_from_text(&text, None).unwrap()
}

#[test]
fn a_flow_that_comes_while_a_round_runs_keeps_what_its_packets_are_credited_to() {
    // Whether the datapath's thread comes to say that the flow is installed before the round is over, or after.
    for told_in_time in [true, false] {
        let lab = Lab::new(&["in_port=1,actions=output:2"]);
        let mut pending = lab.dp.ask(IN, packet(1));
        assert!(pending.as_ref().unwrap().wants_flow());
        let late = Arc::new(std::sync::Mutex::new(None));
        let put_aside = late.clone();
        lab.dp.while_dumping(move |dp, shard| {
            if shard.index + 1 == shard.of
                && let Some(mut pending) = pending.take()
            {
                dp.install(&mut pending);
                match told_in_time {
                    true => dp.answer(pending, clock::now()),
                    false => *put_aside.lock().unwrap() = Some(pending),
                }
            }
        });
        // The dump has shown nothing, and the flow is there when it ends.
        round(&lab.udpif);
        assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (1, 1));
        let late = late.lock().unwrap().take();
        assert_eq!(late.is_none(), told_in_time);
        if let Some(pending) = late {
            // It is met before its record is told.
            lab.receive(packet(1));
            round(&lab.udpif);
            lab.dp.answer(pending, clock::now());
        } else {
            lab.receive(packet(1));
            round(&lab.udpif);
        }
        assert_eq!(lab.credited(), 2, "the first packet, and one that hit");
        assert_eq!(lab.dp.sent().len(), 2);
        assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (1, 1));
    }
}

#[test]
fn a_port_that_no_bridge_has_yet_leaves_no_flow_behind() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    // Packets come as soon as the device is there, which is before the bridge knows of it.
    assert!(!lab.dp.receive(DpPort(40), packet(1), clock::now()));
    assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (0, 0));
}

#[test]
fn a_full_datapath_forwards_without_flows() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    lab.dp.set_capacity(0);
    for _ in 0..3 {
        lab.receive(packet(1));
    }
    assert_eq!(lab.dp.sent().len(), 3);
    assert_eq!((lab.udpif.n_flows(), lab.credited()), (0, 3));
    lab.dp.set_capacity(1);
    lab.receive(packet(1));
    assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (1, 1));
}

#[test]
fn no_more_flows_are_installed_than_the_limit_allows() {
    let lab = Lab::new(&[
        "udp,udp_dst=1,actions=output:2",
        "priority=0,actions=output:3",
    ]);
    lab.udpif.set_flow_limit(1);
    lab.receive(packet(1));
    lab.receive(packet(2));
    assert_eq!((lab.udpif.n_flows(), lab.actions()), (1, vec!["20".into()]));
    lab.udpif.set_flow_limit(2);
    lab.receive(packet(2));
    assert_eq!(lab.actions(), ["20", "30"]);
    // Far beyond the limit all go.
    for port in 3..60 {
        lab.udpif.set_flow_limit(100);
        lab.receive(packet(port));
    }
    let n_flows = lab.udpif.n_flows();
    lab.udpif.set_flow_limit((n_flows - 1) / 2);
    round(&lab.udpif);
    assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (0, 0));
}

#[test]
fn flows_that_the_datapath_lost_are_forgotten_or_made_anew() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    lab.receive(packet(1));
    round(&lab.udpif);
    // The next packet comes before the loss is noticed.
    lab.dp.lose_flows();
    lab.receive(packet(1));
    lab.receive(packet(1));
    assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (1, 1));
    round(&lab.udpif);
    assert_eq!(lab.credited(), 3);
    lab.dp.lose_flows();
    round(&lab.udpif);
    assert_eq!(lab.udpif.n_flows(), 0);
}

#[test]
fn flows_follow_the_tables() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    lab.receive(packet(1));
    assert_eq!(lab.actions(), ["20"]);
    lab.flow_mod("in_port=1,actions=output:3");
    round(&lab.udpif);
    assert_eq!(lab.actions(), ["30"]);
    // One that is too wide for a new flow goes.
    lab.flow_mod("priority=40000,in_port=1,udp,udp_dst=7,actions=drop");
    round(&lab.udpif);
    assert!(lab.actions().is_empty());
    // One that cannot be modified goes as well.
    lab.receive(packet(1));
    lab.flow_mod("in_port=1,actions=output:2");
    lab.dp.while_dumping(|dp, _| dp.lose_flows());
    round(&lab.udpif);
    assert_eq!(lab.udpif.n_flows(), 0);
}

#[test]
fn idle_flows_go_and_their_last_packets_count() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    lab.receive(packet(1));
    lab.receive(packet(1));
    round(&lab.udpif);
    assert_eq!(lab.credited(), 2);
    lab.udpif.settings.max_idle_ms.store(0, Ordering::Relaxed);
    let once = AtomicBool::new(true);
    lab.dp.while_dumping(move |dp, _| {
        if once.swap(false, Ordering::Relaxed) {
            dp.receive(IN, packet(1), clock::now());
        }
    });
    round(&lab.udpif);
    assert_eq!((lab.udpif.n_flows(), lab.dp.stats().n_flows), (0, 0));
    assert_eq!(lab.credited(), 3, "one came after the dump");
}

#[test]
fn while_rounds_are_slow_only_busy_flows_are_worth_a_new_translation() {
    for (pps, slow, busy, left) in [
        (5, true, false, 0),
        (5, true, true, 1),
        (5, false, false, 1),
        (0, true, false, 1),
    ] {
        let lab = Lab::new(&["in_port=1,actions=output:2"]);
        lab.receive(packet(1));
        lab.receive(packet(1));
        round(&lab.udpif);
        let settings = &lab.udpif.settings;
        settings.min_revalidate_pps.store(pps, Ordering::Relaxed);
        let ms = if slow { 250 } else { 249 };
        lab.udpif.limit.duration_ms.store(ms, Ordering::Relaxed);
        if busy {
            for _ in 0..100 {
                lab.receive(packet(1));
            }
        }
        lab.udpif.changed();
        round(&lab.udpif);
        assert_eq!(lab.udpif.n_flows(), left, "{pps} {slow} {busy}");
    }
}

#[test]
fn somebody_elses_flow_is_held_to_the_tables() {
    let lab = Lab::new(&["in_port=1,actions=output:2"]);
    let text = "recirc_id(0),in_port(10),packet_type(ns=0,id=0),eth(),eth_type(0x1234)";
    let key = parse_key(text, None).unwrap();
    let packed = Arc::new(PackedMatch::new(&key.into_match().unwrap()));
    let dp: &dyn Dpif = &*lab.dp;
    let put = |actions: &[ferrovs_datapath::action::Action]| {
        dp.flow_put(FlowPut {
            ufid: Ufid(9),
            pmd: None,
            put: Put::Create(&packed),
            actions: actions.into(),
            zero_stats: false,
        })
        .unwrap();
    };
    put(&[]);
    // As long as flows are restored it stays as it is, and nobody asks what to do with packets.
    lab.udpif.set_paused(false);
    lab.udpif.set_held(true);
    assert!(lab.udpif.ask_for_round().is_none());
    assert!(!lab.dp.receive(IN, packet(1), clock::now()));
    assert_eq!((lab.udpif.n_flows(), lab.actions().len()), (0, 1));
    lab.udpif.set_held(false);
    lab.udpif.barrier();
    assert_eq!((lab.udpif.n_flows(), lab.actions()), (1, vec!["20".into()]));
    lab.udpif.purge();
    assert_eq!((lab.udpif.n_flows(), lab.actions().len()), (0, 0));
}

#[test]
fn several_threads_share_a_round() {
    let lab = Lab::new(&["in_port=1,udp,udp_dst=0/0x8000,actions=output:2"]);
    lab.flow_mod("in_port=1,udp,udp_dst=1,actions=output:2");
    lab.udpif.set_revalidators(3);
    assert_eq!(lab.udpif.n_revalidators(), 3);
    for port in 0..1000 {
        lab.udpif.set_flow_limit(2000);
        lab.receive(packet(port));
    }
    let n_flows = lab.udpif.n_flows();
    let looked = Arc::new(AtomicUsize::new(0));
    let parts = looked.clone();
    lab.dp
        .while_dumping(move |_, _| _ = parts.fetch_add(1, Ordering::Relaxed));
    lab.udpif.set_paused(false);
    lab.flow_mod("in_port=1,udp,udp_dst=1,actions=output:3");
    lab.udpif.barrier();
    assert!(n_flows > 0 && looked.load(Ordering::Relaxed) > 0);
    assert_eq!(lab.credited(), 1000);
    let shown = lab.udpif.show("dummy@fake");
    let lines: Vec<_> = shown.lines().rev().take(3).collect();
    for (line, n) in lines.iter().zip([3, 2, 1]) {
        assert!(line.starts_with(&format!("  {n}: (keys ")), "{shown}");
    }
    // Other threads begin anew.
    lab.udpif.set_revalidators(0);
    assert_eq!((lab.udpif.n_revalidators(), lab.udpif.n_flows()), (1, 0));
    lab.udpif.barrier();
    assert_eq!(lab.dp.stats().n_flows, 0);
}

#[test]
fn the_limit_is_told_when_a_round_is_over() {
    let lab = Lab::new(&[]);
    round(&lab.udpif);
    lab.udpif.limit.end(Duration::from_millis(3), 200_000);
    let shown = lab.udpif.show("dummy@fake");
    let want = "dummy@fake:\n  flows         : (current 0) (avg 0) (max 0) (limit 10000)\n  \
                dump duration : 3ms\n  ufid enabled : true\n\n  1: (keys 0)\n";
    assert_eq!(shown, want);
}

#[test]
fn what_a_datapath_keeps_is_taken_up_by_the_process_that_follows() {
    let dp = Arc::new(FakeDpif::default());
    dp.set_outlives_process();
    ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
    let device = ferrovs_netdev::open("udpif-test-kept", "dummy").unwrap();
    let open = || Backer::open(&*dp.class(), Arc::default()).unwrap();
    let first = open();
    first.udpif.set_paused(true);
    let (port, _) = first.attach(&device).unwrap();
    let text = "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth(),eth_type(0x1234)";
    let key = parse_key(text, None).unwrap();
    let packed = Arc::new(PackedMatch::new(&key.into_match().unwrap()));
    let actions = parse_actions("clone(recirc(7)),recirc(3)", None).unwrap();
    first
        .dpif
        .flow_put(FlowPut {
            ufid: Ufid(9),
            pmd: None,
            put: Put::Create(&packed),
            actions: actions.into(),
            zero_stats: false,
        })
        .unwrap();
    first.detach(port, None, Detach::Keep).unwrap();
    first.close(Detach::Keep);
    assert_eq!((dp.ports().len(), dp.stats().n_flows), (1, 1));
    let second = open();
    assert_eq!(second.attach(&device), Ok((port, None)));
    // A packet on its way from the kept flow meets no state that is meant for others.
    let state = crate::xlate::recirc::tests::state(0);
    assert_eq!(second.udpif.recircs.alloc(state).id, 8);
    second.detach(port, None, Detach::Delete).unwrap();
    second.close(Detach::Delete);
    assert_eq!((dp.ports().len(), dp.stats().n_flows), (0, 0));
    // One that ends with the process has nothing to keep.
    let dp = Arc::new(FakeDpif::default());
    let backer = Backer::open(&*dp.class(), Arc::default()).unwrap();
    let (port, _) = backer.attach(&device).unwrap();
    backer.detach(port, None, Detach::Keep).unwrap();
    assert!(dp.ports().is_empty());
    backer.close(Detach::Keep);
}
