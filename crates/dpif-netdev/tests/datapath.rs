//! The datapath with devices in memory and a made-up switch above it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{
    Dpif, Errno, Execute, FlowPut, Meter, MeterBand, PackedMatch, PmdId, Put, Ufid,
};
use ferrovs_datapath::text::{packet_from_text, parse_actions, parse_key};
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallReply};
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload, Packet};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::gso;
use ferrovs_packet::types::DpPort;
use ferrovs_testkit::memory::{self, Answers, device};

/// A datapath whose local port is in memory too, with ports 1 and up.
fn datapath(name: &str, ports: &[(&str, &str)]) -> Arc<dyn Dpif> {
    memory::datapath(&classes(Dummy::Normal), name, ports)
}

/// A switch that answers as the table says.
fn switch(dp: &Arc<dyn Dpif>, answers: &[(u32, &str)]) -> Arc<Answers> {
    let switch = Arc::new(Answers::new(answers));
    dp.set_upcall_handler(Some(switch.clone()));
    switch
}

const UDP: &str = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64,frag=no),udp(src=1,dst=2)";

fn packed(text: &str) -> Arc<PackedMatch> {
    let m = parse_key(text, None).unwrap().into_match().unwrap();
    Arc::new(PackedMatch::new(&m))
}

fn receive(port: &str, text: &str) {
    device(port).receive_one(packet_from_text(text, None).unwrap().data());
}

fn sent(port: &str) -> Vec<Vec<u8>> {
    device(port).sent()
}

#[test]
fn the_first_packet_asks_and_the_others_hit_the_flow_that_was_installed() {
    let dp = datapath(
        "dp-a",
        &[("a1", "memory"), ("a2", "memory"), ("a3", "memory")],
    );
    let switch = switch(&dp, &[(0, "push_vlan(vid=5,pcp=0),2,pop_vlan,3")]);
    for _ in 0..100 {
        receive("a1", UDP);
    }
    dp.quiesce();
    assert_eq!(switch.misses(), 1);
    let stats = dp.stats();
    assert_eq!(
        (stats.n_hit, stats.n_missed, stats.n_lost, stats.n_flows),
        (99, 1, 0, 1)
    );
    let (tagged, plain) = (sent("a2"), sent("a3"));
    assert_eq!((tagged.len(), plain.len()), (100, 100));
    assert_eq!(tagged[0][12..18], [0x81, 0, 0, 5, 8, 0]);
    assert_eq!(plain[99][12..14], [8, 0]);
    let mut flows = Vec::new();
    dp.flow_dump(&mut |f| flows.push(f));
    let size = plain[0].len() as u64;
    assert_eq!(
        (flows[0].stats.n_packets, flows[0].stats.n_bytes),
        (99, 99 * size)
    );
    // Actions that are replaced count at once, and a flow that is deleted is asked for again.
    let told_as = &Arc::new(PackedMatch::new(&flows[0].match_));
    dp.flow_put(FlowPut {
        ufid: flows[0].ufid,
        pmd: None,
        put: Put::Modify { told_as },
        actions: parse_actions("3", None).unwrap().into(),
        zero_stats: false,
    })
    .unwrap();
    receive("a1", UDP);
    dp.quiesce();
    assert_eq!((sent("a2").len(), sent("a3").len()), (0, 1));
    assert_eq!(dp.flow_del(flows[0].ufid, None).unwrap().n_packets, 100);
    assert_eq!(dp.flow_del(flows[0].ufid, None), Err(Errno::ENOENT));
    receive("a1", UDP);
    dp.quiesce();
    assert_eq!(switch.misses(), 2);
    dp.destroy();
}

#[test]
fn recirculated_packets_are_looked_up_again_and_stop_at_a_bound() {
    let dp = datapath("dp-b", &[("b1", "memory"), ("b2", "memory")]);
    let switch = switch(&dp, &[(0, "hash(l4(0)),recirc(7)"), (7, "2,recirc(7)")]);
    receive("b1", UDP);
    dp.quiesce();
    // Recirculated at most eight times, and a copy sent each time.
    assert_eq!(sent("b2").len(), 8);
    assert_eq!(switch.misses(), 2);
    dp.destroy();
}

#[test]
fn packets_without_an_answer_are_lost_and_counted() {
    let dp = datapath("dp-c", &[("c1", "memory")]);
    switch(&dp, &[]);
    receive("c1", UDP);
    receive("c1", UDP);
    dp.quiesce();
    let stats = dp.stats();
    assert_eq!((stats.n_hit, stats.n_missed, stats.n_lost), (0, 0, 2));
    dp.destroy();
}

/// A switch that asks to be told of every packet, and notes from which port each came and its last byte.
#[derive(Default)]
struct Notes {
    /// Whether the first question is to wait until this is true.
    may_go_on: (Mutex<bool>, Condvar),
    seen: Mutex<Vec<(u32, u8)>>,
}

impl UpcallHandler for Notes {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        let (may, told) = &self.may_go_on;
        drop(told.wait_while(may.lock().unwrap(), |may| !*may).unwrap());
        let last = *upcall.packet.data().last().unwrap();
        self.seen.lock().unwrap().push((upcall.flow.in_port, last));
        Some(UpcallReply {
            actions: parse_actions("3", None).unwrap().into(),
            flow_actions: None,
            install: None,
        })
    }

    fn installed(&self, _: Install, _: PmdId, _: bool) {}
}

#[test]
fn a_port_that_asks_without_end_does_not_keep_others_from_asking() {
    for kind in ["memory", "memory-pmd"] {
        let name = |n: u8| format!("{}{n}", kind.replace("memory", "fair"));
        let ports: Vec<_> = (1..=3).map(name).collect();
        let list: Vec<_> = ports.iter().map(|port| (port.as_str(), kind)).collect();
        let dp = datapath(kind, &list);
        let switch = Arc::new(Notes::default());
        dp.set_upcall_handler(Some(switch.clone()));
        let frame = |n: u8| {
            let mut frame = packet_from_text(UDP, None).unwrap().data().to_vec();
            frame.push(n);
            frame
        };
        // All frames are there before the first is asked about.
        for batch in 0..40u8 {
            device(&ports[0]).receive([(0..32).map(|n| frame(batch ^ n)).collect()]);
        }
        for n in 0..3 {
            device(&ports[1]).receive_one(&frame(n));
        }
        *switch.may_go_on.0.lock().unwrap() = true;
        switch.may_go_on.1.notify_all();
        device(&ports[2]).wait_sent_frames(40 * 32 + 3);
        let seen = switch.seen.lock().unwrap();
        let places = |port| {
            let numbered = seen.iter().enumerate();
            numbered.filter(move |(_, s)| s.0 == port).map(|(n, _)| n)
        };
        // The port that floods has a turn, of four batches, each time before the other has.
        let second = places(2).max().unwrap();
        assert!(second <= 2 * 128 + 3, "{second}");
        // What was received first is asked about first.
        let order: Vec<_> = seen.iter().filter(|s| s.0 == 1).map(|s| s.1).collect();
        let want: Vec<_> = (0..40u8)
            .flat_map(|b| (0..32).map(move |n| b ^ n))
            .collect();
        assert_eq!(order, want);
        let sent = device(&ports[2]).sent();
        let sent: Vec<_> = sent.iter().map(|frame| *frame.last().unwrap()).collect();
        let asked: Vec<_> = seen.iter().map(|s| s.1).collect();
        assert_eq!(sent, asked);
        drop(seen);
        dp.destroy();
    }
}

#[test]
fn many_masks_find_the_right_flow() {
    let dp = datapath(
        "dp-d",
        &[("d1", "memory"), ("d2", "memory"), ("d3", "memory")],
    );
    let switch = Arc::new(Answers::new(&[(0, "drop")]).without_flows());
    dp.set_upcall_handler(Some(switch.clone()));
    let put = |text: &str, actions: &str, n: u128| {
        dp.flow_put(FlowPut {
            ufid: Ufid(n),
            pmd: None,
            put: Put::Create(&packed(text)),
            actions: parse_actions(actions, None).unwrap().into(),
            zero_stats: false,
        })
        .unwrap();
    };
    // One mask for each length of a prefix; flow n is the one whose bit n is set first.
    for bits in 1..=32u32 {
        let mask = u32::MAX << (32 - bits);
        let ip = |v: u32| std::net::Ipv4Addr::from(v);
        let text = format!(
            "in_port(1),eth(),eth_type(0x0800),ipv4(src={}/{},frag=no)",
            ip(1 << (32 - bits)),
            ip(mask)
        );
        let out = 2 + bits % 2;
        put(&text, &format!("set(ipv4(ttl={bits})),{out}"), bits.into());
    }
    for round in 0..3 {
        for bits in 1..=32u32 {
            let low = if bits == 32 {
                0
            } else {
                round % (1 << (32 - bits))
            };
            let ip = std::net::Ipv4Addr::from(1u32 << (32 - bits) | low);
            let packet = UDP.replace("src=10.0.0.1", &format!("src={ip}"));
            receive("d1", &packet);
            dp.quiesce();
            let out = sent(if bits % 2 == 0 { "d2" } else { "d3" });
            assert_eq!(out.len(), 1, "{ip}");
            assert_eq!(u32::from(out[0][22]), bits, "{ip}");
        }
    }
    receive("d1", &UDP.replace("src=10.0.0.1", "src=0.0.0.0"));
    dp.quiesce();
    assert_eq!(switch.misses(), 1);
    dp.destroy();
}

#[test]
fn truncation_holds_for_one_output_and_packets_can_be_sent_up_or_out() {
    let dp = datapath("dp-e", &[("e1", "memory"), ("e2", "memory")]);
    let switch = switch(&dp, &[]);
    let packet = packet_from_text(UDP, None).unwrap();
    let size = packet.size();
    let text = "trunc(20),2,2,clone(pop_eth,1),check_pkt_len(size=20,gt(2),le(drop)),\
                sample(sample=100.0%,actions(2)),userspace(pid=0,slow_path(action))";
    execute(&dp, packet, text);
    let sizes: Vec<_> = sent("e2").iter().map(Vec::len).collect();
    assert_eq!(sizes, [20, size, size, size]);
    assert_eq!(sent("e1")[0].len(), size - 14);
    assert_eq!(switch.sent_up(), [size]);
    dp.destroy();
}

/// Runs actions on a packet that came through port 1.
fn execute(dp: &Arc<dyn Dpif>, packet: Packet, actions: &str) {
    dp.execute(Execute {
        packet,
        flow: Box::new(Flow {
            in_port: 1,
            ..Flow::default()
        }),
        actions: parse_actions(actions, None).unwrap().into(),
        mtu: 0,
        needs_help: false,
    })
    .unwrap();
    dp.quiesce();
}

/// A TCP packet that stands for three.
fn large() -> Packet {
    let text = UDP
        .replace("proto=17", "proto=6")
        .replace("udp(src=1,dst=2)", "tcp(src=1,dst=2)");
    let mut packet = packet_from_text(&text, Some(54 + 2500)).unwrap();
    packet.offload = Offload {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Some(Gso {
            kind: GsoType::Tcp4,
            size: 1000,
            hdr_len: 54,
            ecn: false,
        }),
    };
    packet
}

#[test]
fn large_frames_are_sent_up_as_ordinary_ones_with_their_checksums() {
    let dp = datapath("dp-j", &[("j1", "memory"), ("j2", "memory")]);
    let switch = switch(&dp, &[]);
    execute(&dp, large(), "2,userspace(pid=0,slow_path(action))");
    assert_eq!(switch.sent_up(), [1054, 1054, 554]);
    assert_eq!(sent("j2")[0].len(), 2554);
    dp.destroy();
}

#[test]
fn packets_of_a_tunnel_that_came_as_one_frame_are_taken_out_one_by_one() {
    let dp = datapath(
        "dp-k",
        &[
            ("k1", "memory"),
            ("k2", "memory"),
            ("vxlan_sys_4789", "vxlan"),
        ],
    );
    switch(&dp, &[(0, "2")]);
    let push = "tnl_push(tnl_port(4789),header(size=50,type=4,\
                eth(dst=02:00:00:00:00:08,src=02:00:00:00:00:09,dl_type=0x0800),\
                ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),\
                udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x1c7)),out_port(1))";
    let actions = parse_actions(push, None).unwrap();
    let [Action::TunnelPush(push)] = &actions[..] else {
        unreachable!("one action")
    };
    let mut frames = Vec::new();
    ferrovs_encap::push::push(large(), &push.header, None, |tunnelled| {
        gso::to_uso(tunnelled, |frame| frames.push(frame));
    });
    assert_eq!(frames.len(), 1);
    execute(&dp, frames.remove(0), "tnl_pop(4789)");
    let sizes: Vec<_> = sent("k2").iter().map(Vec::len).collect();
    assert_eq!(sizes, [1054, 1054, 554]);
    dp.destroy();
}

#[test]
fn large_frames_that_a_header_cannot_carry_are_cut_and_keep_their_order() {
    let dp = datapath(
        "dp-gre",
        &[("gre1", "memory"), ("gre2", "memory"), ("gre_sys", "gre")],
    );
    switch(&dp, &[]);
    let number = dp.port_by_name("gre_sys").unwrap().port.0;
    let mut packet = large();
    packet.offload.gso = packet.offload.gso.map(|gso| Gso { size: 50, ..gso });
    // More segments than there is room for in a batch.
    let push = format!(
        "tnl_push(tnl_port({number}),header(size=42,type=3,\
         eth(dst=02:00:00:00:00:08,src=02:00:00:00:00:09,dl_type=0x0800),\
         ipv4(src=1.1.2.88,dst=1.1.2.92,proto=47,tos=0,ttl=64,frag=0x4000),\
         gre((flags=0x1000,proto=0x6558),seq=0x0)),out_port(1)),2"
    );
    execute(&dp, packet, &push);
    let frames = sent("gre2");
    let numbers: Vec<u8> = frames.iter().map(|f| f[41]).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
    assert!(frames.iter().all(|f| f.len() == 42 + 54 + 50));
    dp.destroy();
}

#[test]
fn meters_drop_what_exceeds_them() {
    let dp = datapath("dp-f", &[("f1", "memory"), ("f2", "memory")]);
    switch(&dp, &[(0, "meter(3),2")]);
    let meter = Meter {
        flags: 2 | 4,
        bands: vec![MeterBand {
            rate: 1,
            burst_size: 5,
            ..MeterBand::default()
        }],
        ..Meter::default()
    };
    let meters = dp.meters().unwrap();
    meters
        .set(3, &meter, ferrovs_runtime::clock::now())
        .unwrap();
    for _ in 0..20 {
        receive("f1", UDP);
    }
    dp.quiesce();
    assert_eq!(sent("f2").len(), 5);
    let stats = meters.delete(3).unwrap();
    assert_eq!((stats.n_packets, stats.bands[0].n_packets), (20, 15));
    assert_eq!(meters.delete(3), Err(Errno::ENOENT));
    dp.destroy();
}

#[test]
fn polled_devices_have_a_thread_that_ends_with_them() {
    let dp = datapath("dp-g", &[("g1", "memory-pmd"), ("g2", "memory")]);
    switch(&dp, &[(0, "2")]);
    receive("g1", UDP);
    dp.quiesce();
    assert_eq!(sent("g2").len(), 1);
    let mut pmds = Vec::new();
    dp.flow_dump(&mut |f| pmds.push(f.pmd));
    assert_ne!(pmds, [PmdId::NON_PMD]);
    dp.port_del(DpPort(1)).unwrap();
    assert_eq!(dp.stats().n_missed, 1);
    pmds.clear();
    dp.flow_dump(&mut |f| pmds.push(f.pmd));
    assert!(pmds.is_empty());
    assert_eq!(dp.port_by_name("g1").unwrap_err(), Errno::ENODEV);
    dp.destroy();
}

#[test]
fn a_few_flows_are_dumped_in_the_order_in_which_they_were_made() {
    let dp = datapath("dp-o", &[("o1", "memory")]);
    let made: Vec<Ufid> = (0..20).map(|n| Ufid(n * 0x9e37_79b9_7f4a_7c15)).collect();
    for (n, ufid) in made.iter().enumerate() {
        let text = format!("in_port(1),eth(),eth_type(0x{:04x})", 0x2000 + n);
        dp.flow_put(FlowPut {
            ufid: *ufid,
            pmd: None,
            put: Put::Create(&packed(&text)),
            actions: Arc::new([]),
            zero_stats: false,
        })
        .unwrap();
    }
    let mut seen = Vec::new();
    dp.flow_dump(&mut |f| seen.push(f.ufid));
    assert_eq!(seen, made);
    dp.destroy();
}

#[test]
fn a_port_that_comes_or_goes_costs_the_others_nothing() {
    let names: Vec<String> = (0..20).map(|n| format!("q{n}")).collect();
    let ports: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "memory")).collect();
    let dp = datapath("dp-q", &ports);
    dp.port_del(dp.port_by_name("q7").unwrap().port).unwrap();
    dp.port_add("q20", "memory", None).unwrap();
    dp.quiesce();
    // The thread has let go of the device.
    assert_eq!(device("q7").n_open(), 0);
    let counts = |name: &str| device(name).times();
    for name in names.iter().map(String::as_str).chain(["q20"]) {
        assert_eq!(counts(name), [1, 0], "{name}");
    }
    // Each is served all the same.
    switch(&dp, &[]);
    receive("q20", UDP);
    receive("q3", UDP);
    dp.quiesce();
    assert!(counts("q3")[1] > 0 && counts("q20")[1] > 0 && counts("q4")[1] == 0);
}

#[test]
fn ports_of_a_dummy_are_numbered_by_their_names() {
    let dp = datapath(
        "dp-h",
        &[
            ("br7", "memory"),
            ("p7", "memory"),
            ("q7", "memory"),
            ("x", "memory"),
        ],
    );
    let ports: Vec<_> = dp
        .ports()
        .iter()
        .map(|p| (p.name.clone(), p.port.0))
        .collect();
    let want = [("dp-h", 0), ("q7", 1), ("x", 2), ("p7", 7), ("br7", 107)];
    assert_eq!(ports, want.map(|(n, p)| (n.to_owned(), p)));
    assert_eq!(
        dp.port_add("y", "memory", Some(DpPort(7))),
        Err(Errno::EBUSY)
    );
    assert_eq!(dp.port_add("p7", "memory", None), Err(Errno::EEXIST));
    dp.destroy();
}

#[test]
fn packets_may_wait_to_be_sent_with_others_but_not_longer_than_told() {
    let dp = datapath("dp-i", &[("i1", "memory"), ("i2", "memory")]);
    switch(&dp, &[(0, "2")]);
    let config = [("tx-flush-interval", "20000"), ("emc-insert-inv-prob", "1")];
    dp.set_config(&config.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    dp.quiesce();
    receive("i1", UDP);
    // That it goes out by itself is what counts.
    assert_eq!(device("i2").wait_sent().len(), 1);
    // A barrier waits for no interval.
    for _ in 0..3 {
        receive("i1", UDP);
        dp.quiesce();
    }
    assert_eq!(sent("i2").len(), 3);
    dp.destroy();
}

#[test]
fn queues_are_closed_before_a_device_changes_how_many_it_has() {
    let dp = datapath("dp-rq", &[("rq1", "memory-pmd"), ("rq2", "memory-pmd")]);
    let port = dp.port_by_name("rq1").unwrap().port;
    let to = dp.port_by_name("rq2").unwrap().port;
    switch(&dp, &[(0, "1,2")]);
    assert_eq!((port, to), (DpPort(1), DpPort(2)));
    receive("rq1", UDP);
    dp.quiesce();
    let inner = device("rq1");
    // One queue to receive and one to send.
    assert_eq!(inner.n_open(), 2);
    inner.want_rxq(3);
    dp.port_set_config(port, &BTreeMap::new()).unwrap();
    dp.quiesce();
    assert_eq!(inner.n_rxq(), 3);
    assert_eq!(inner.n_open(), 3);
    receive("rq1", UDP);
    dp.quiesce();
    assert_eq!((sent("rq1").len(), sent("rq2").len()), (2, 2));
    dp.destroy();
    assert_eq!(inner.n_open(), 0);
}
