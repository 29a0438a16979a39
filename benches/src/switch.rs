//! A bridge with three ports in memory; what changes its tables, and what packets of new streams cost.

use ferrovs_dpif_netdev::{Dummy, classes};
use ferrovs_ofproto::ofproto::{BundleSettings, Ofproto};
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_ofproto::tables::Requester;
use ferrovs_openflow::flow::{FlowMod, FlowModCommand};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::parse_flow_mod;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_runtime::clock;
use ferrovs_testkit::memory;

use crate::packet::{packet, udp};
use crate::{Bench, counted, counted_receive};

pub const BENCHES: &[Bench] = &[
    ("tables/add", || {
        let ofprotos = switch(&[]);
        let tables = &bridge(&ofprotos).tables;
        counted(flows("add"), |fm| {
            tables.flow_mod(fm, Requester::default(), 0)
        })
    }),
    ("tables/bundle", || {
        let ofprotos = switch(&[]);
        let flows = flows("add");
        let n = flows.len() as u64;
        counted([flows], |flows| {
            let mut change = bridge(&ofprotos).tables.change(Requester::default(), 0);
            for fm in flows {
                change.flow_mod(fm).expect("a flow");
            }
            change.commit();
        });
        n
    }),
    ("tables/delete", || {
        let ofprotos = switch(&[]);
        let tables = &bridge(&ofprotos).tables;
        for fm in flows("add") {
            tables
                .flow_mod(fm, Requester::default(), 0)
                .expect("a flow");
        }
        counted(flows("delete_strict"), |fm| {
            tables.flow_mod(fm, Requester::default(), 0)
        })
    }),
    ("upcall/1-table", || new_streams(1)),
    ("upcall/20-tables", || new_streams(20)),
    ("upcall/1-short-table", || exact_streams(1)),
    ("upcall/20-short-tables", || exact_streams(20)),
];

/// Flows that hand packets from table to table, 50 in each, and send them.
pub fn pipeline(tables: u32) -> Vec<String> {
    let last = tables - 1;
    let table = |t: u32| {
        let go = if t == last {
            "output:2".to_owned()
        } else {
            format!("load:{t}->NXM_NX_REG0[0..15],resubmit(,{})", t + 1)
        };
        let other = move |n: u32| format!("table={t},priority=20,tcp,tp_dst={n},actions=drop");
        let main = format!("table={t},priority=10,ip,nw_dst=10.0.0.0/16,actions={go}");
        (1..50).map(other).chain([main])
    };
    (0..tables).flat_map(table).collect()
}

/// A bridge `br0` with three ports and these flows.
pub fn switch(flows: &[String]) -> Ofprotos {
    memory::register();
    let mut ofprotos = Ofprotos::new(classes(Dummy::Normal)).expect("bridges");
    let now = clock::now();
    ofprotos.create("br0", "dummy", now).expect("a bridge");
    for port in ["p1", "p2", "p3"] {
        let device = ferrovs_netdev::open(port, "memory").expect("a device");
        ofprotos.port_add("br0", device, None).expect("a port");
        memory::device(port).become_sink();
    }
    let ports = bridge(&ofprotos).ports.keys().copied().collect::<Vec<_>>();
    for port in ports {
        let bundle = BundleSettings {
            name: port.0.to_string(),
            ports: vec![port],
            ..BundleSettings::default()
        };
        let bridge = ofprotos.ofproto_mut("br0").expect("the bridge");
        bridge.bundle_set(bundle);
    }
    ofprotos.publish();
    let tables = &bridge(&ofprotos).tables;
    for text in flows {
        let fm = flow_mod(text, FlowModCommand::Add);
        tables.flow_mod(fm, Requester::default(), 0).expect(text);
    }
    ofprotos
}

pub fn bridge(ofprotos: &Ofprotos) -> &Ofproto {
    ofprotos.ofproto("br0").expect("the bridge")
}

fn flow_mod(text: &str, command: FlowModCommand) -> FlowMod {
    let (tun, mut usable) = (Tun::auto(), Protocol::all());
    parse_flow_mod(text, command, &Names::none(&tun), &mut usable).expect(text)
}

/// 4,000 flows of three shapes, to add or to delete.
fn flows(what: &str) -> Vec<FlowMod> {
    let (command, actions) = match what {
        "add" => (
            FlowModCommand::Add,
            ",actions=mod_dl_dst:02:00:00:00:00:09,output:2",
        ),
        _ => (FlowModCommand::DeleteStrict, ""),
    };
    let flow = |n: u32| {
        let (high, low) = (n >> 8, n & 255);
        let what = match n % 3 {
            0 => format!("table=1,priority=5,ip,nw_dst=10.0.{high}.{low}"),
            1 => format!("priority=7,in_port=1,dl_dst=02:00:00:00:{high:02x}:{low:02x}"),
            _ => format!(
                "table=2,priority={},tcp,nw_src=10.{high}.{low}.0/24,tp_dst=80",
                n % 50
            ),
        };
        flow_mod(&format!("{what}{actions}"), command)
    };
    (0..4000).map(flow).collect()
}

/// Tables of one flow, each of which hands packets to the next; megaflows are off, so that each stream has a flow.
fn exact_streams(tables: u32) -> u64 {
    let table = |t: u32| match t + 1 {
        next if next == tables => format!("table={t},priority=1,in_port=1,actions=output:2"),
        next => format!(
            "table={t},priority=1,in_port=1,actions=load:{t}->NXM_NX_REG0[],resubmit(,{next})"
        ),
    };
    let ofprotos = switch(&(0..tables).map(table).collect::<Vec<_>>());
    bridge(&ofprotos).backer.udpif.set_megaflows(false);
    upcalls(&ofprotos)
}

/// Packets that no flow of the datapath matches, one a batch: each is translated, and its flow installed.
fn new_streams(tables: u32) -> u64 {
    let mut flows = pipeline(tables);
    // All of the address decides: each stream gets a flow of its own.
    let address = "priority=40,ip,reg9=0,actions=move:NXM_OF_IP_DST[]->NXM_NX_REG9[],set_field:1/1->reg9,resubmit(,0)";
    flows.push(address.to_owned());
    upcalls(&switch(&flows))
}

/// Receives packets of new streams, each of which needs an upcall.
fn upcalls(ofprotos: &Ofprotos) -> u64 {
    const STREAMS: u16 = 200;
    let dpif = bridge(ofprotos).backer.dpif.clone();
    let frames = (0..STREAMS).map(|stream| packet(&udp(stream)).data().to_vec());
    counted_receive(&memory::device("p1"), frames.map(|frame| vec![frame]));
    dpif.quiesce();
    let stats = dpif.stats();
    assert_eq!((stats.n_missed, stats.n_lost), (STREAMS.into(), 0));
    stats.n_missed
}
