//! Translation alone: keys through OpenFlow tables into datapath actions.

use ferrovs_ofproto::xlate::recirc::RecircTable;
use ferrovs_ofproto::xlate::{Start, XlateIn, translate};
use ferrovs_packet::flow::Flow;
use ferrovs_runtime::clock;

use crate::packet::{packet, udp};
use crate::switch::{bridge, pipeline, switch};
use crate::{Bench, counted};

pub const BENCHES: &[Bench] = &[
    ("xlate/1-table", || xlate(&pipeline(1))),
    ("xlate/20-tables", || xlate(&pipeline(20))),
    ("xlate/normal", || xlate(&["actions=NORMAL".into()])),
];

fn xlate(flows: &[String]) -> u64 {
    let ofprotos = switch(flows);
    let bridge = bridge(&ofprotos);
    let snapshot = bridge.backer.snapshot.load_full();
    let xbridge = snapshot.bridges.get(&bridge.id).expect("a bridge");
    let recircs = RecircTable::default();
    let now = clock::now();
    let keys: Vec<Flow> = (0..500)
        .map(|stream| Flow {
            in_port: 1,
            ..Flow::from_packet(&mut packet(&udp(stream)))
        })
        .collect();
    counted(&keys, |flow| {
        let out = translate(XlateIn {
            snapshot: &snapshot,
            recircs: &recircs,
            bridge: xbridge,
            flow,
            packet: None,
            start: Start::Tables,
            version: None,
            side_effects: false,
            count: None,
            xcache: None,
            trace: None,
            now,
        });
        assert!(!out.actions.is_empty());
    })
}
