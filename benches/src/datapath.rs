//! Packets through the caches, tables and actions of the userspace datapath, in batches of 32.

use std::sync::Arc;

use ferrovs_datapath::dpif::{Dpif, FlowPut, PackedMatch, Put, Ufid};
use ferrovs_datapath::text::{parse_actions, parse_key};
use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_packet::buffer::BATCH;
use ferrovs_packet::hash;
use ferrovs_testkit::memory;

use crate::packet::{answer, packet, udp};
use crate::{Bench, counted_receive};

/// What a bench forwards at least.
const PACKETS: usize = 8192;

pub const BENCHES: &[Bench] = &[
    // 64 streams that the exact-match cache knows.
    ("datapath/emc", || {
        let dp = datapath("1");
        put(
            &dp,
            1,
            "in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
            "2",
        );
        forward(&dp, 64)
    }),
    ("datapath/1-mask", || {
        let dp = datapath("0");
        put(
            &dp,
            1,
            "in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
            "2",
        );
        forward(&dp, 64)
    }),
    // So many streams that no cache helps: each packet is looked for in up to eight tables.
    ("datapath/8-masks", || {
        let dp = datapath("0");
        for bit in 0..8u32 {
            let key = format!(
                "in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.{}/255.0.0.{},frag=no)",
                1 << bit,
                (2 << bit) - 1
            );
            put(&dp, bit.into(), &key, "2");
        }
        put(
            &dp,
            8,
            "in_port(1),eth(),eth_type(0x0800),ipv4(dst=10.0.0.0/255.0.0.255,frag=no)",
            "2",
        );
        forward(&dp, 8192)
    }),
    ("datapath/actions", || {
        let dp = datapath("1");
        let actions = "set(eth(src=02:00:00:00:00:03,dst=02:00:00:00:00:04)),set(ipv4(dst=10.9.9.9,ttl=63)),\
                       push_vlan(vid=5,pcp=0),2,pop_vlan,3";
        put(
            &dp,
            1,
            "in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
            actions,
        );
        forward(&dp, 64)
    }),
    ("datapath/drop", || {
        let dp = datapath("1");
        put(
            &dp,
            1,
            "in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)",
            "drop",
        );
        forward(&dp, 64)
    }),
    ("datapath/recirculation", || {
        let dp = datapath("1");
        let key = "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
        put(&dp, 1, key, "hash(l4(0)),recirc(7)");
        put(&dp, 2, &key.replace("recirc_id(0)", "recirc_id(0x7)"), "2");
        forward(&dp, 64)
    }),
    // Connections on which both sides speak; nobody has port 0.
    ("datapath/ct-established", || {
        let dp = tracking();
        let both = (1..=32)
            .flat_map(|i| [udp(i), answer(i)])
            .collect::<Vec<_>>();
        forward_all(&dp, &both)
    }),
    // So many that they are in no cache of the processor's: the tracker fetches those of a batch before it looks.
    ("datapath/ct-established-many", || {
        let dp = tracking();
        let both = (1..=4096)
            .flat_map(|i| [udp(i), answer(i)])
            .collect::<Vec<_>>();
        dp.quiesce();
        forward_all(&dp, &[&both[..], &both].concat())
    }),
    // Each packet begins one.
    ("datapath/ct-new", || {
        let dp = tracking();
        let each: Vec<_> = (1..=PACKETS as u16).map(udp).collect();
        forward_all(&dp, &each)
    }),
];

/// A datapath that sends packets of connections to port 2, and lets all begin one.
fn tracking() -> Arc<dyn Dpif> {
    let dp = datapath("0");
    let rest = "in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)";
    let flows = [
        ("recirc_id(0),ct_state(-trk)", "ct,recirc(7)"),
        ("recirc_id(0x7),ct_state(+new+trk)", "ct(commit),2"),
        ("recirc_id(0x7),ct_state(+est+trk)", "2"),
    ];
    for (ufid, (key, actions)) in (1..).zip(flows) {
        put(&dp, ufid, &format!("{key},{rest}"), actions);
    }
    dp
}

/// A datapath with ports 1 to 3; one packet of so many whose flow is not in the exact-match cache puts it there.
fn datapath(emc_inverse: &str) -> Arc<dyn Dpif> {
    hash::fix_seed();
    let ports = ["p1", "p2", "p3"].map(|port| (port, "memory"));
    let dp = memory::datapath(&classes(Dummy::Normal), "bench", &ports);
    for (port, _) in ports {
        memory::device(port).become_sink();
    }
    let config = ("emc-insert-inv-prob".to_owned(), emc_inverse.to_owned());
    dp.set_config(&[config].into());
    dp.quiesce();
    dp
}

fn put(dp: &Arc<dyn Dpif>, ufid: u128, key: &str, actions: &str) {
    let parsed = parse_key(key, None).expect(key);
    dp.flow_put(FlowPut {
        ufid: Ufid(ufid),
        pmd: None,
        put: Put::Create(&Arc::new(PackedMatch::new(
            &parsed.into_match().expect(key),
        ))),
        actions: parse_actions(actions, None).expect(actions).into(),
        zero_stats: false,
    })
    .expect(key);
    dp.quiesce();
}

/// Two rounds of packets of so many streams: the first warms the caches, and is counted with the second.
fn forward(dp: &Arc<dyn Dpif>, streams: u16) -> u64 {
    forward_all(dp, &(0..streams).map(udp).collect::<Vec<_>>())
}

/// The same for these packets.
fn forward_all(dp: &Arc<dyn Dpif>, texts: &[String]) -> u64 {
    let frames: Vec<Vec<u8>> = texts.iter().map(|t| packet(t).data().to_vec()).collect();
    let n = PACKETS.max(frames.len());
    let packets: Vec<Vec<u8>> = frames.iter().cycle().take(n).cloned().collect();
    let batches = packets.chunks(BATCH).map(<[_]>::to_vec);
    counted_receive(&memory::device("p1"), batches);
    dp.quiesce();
    let stats = dp.stats();
    assert_eq!((stats.n_missed, stats.n_lost), (0, 0));
    n as u64
}
