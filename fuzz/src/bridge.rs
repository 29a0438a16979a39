//! A bridge with a dummy datapath, two ports and three controllers that send what they like: messages that mean
//! something, in the version that each agreed on, and bytes that do not; time passes between them. Nothing panics, no
//! answer grows without bound, and a connection that is still open at the end answers an echo.

use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::Detach;
use ferrovs_ofproto::connmgr::rconn::Rconn;
use ferrovs_ofproto::connmgr::{ConnKind, ControllerSettings, OfConn, flow_events};
use ferrovs_ofproto::handlers;
use ferrovs_ofproto::ofprotos::Ofprotos;
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::group::GroupCommand;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::meter::MeterCommand;
use ferrovs_openflow::packet_in::{NO_BUFFER, PacketOut};
use ferrovs_openflow::switch::{BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags};
use ferrovs_openflow::text::flow::parse_flow_mod;
use ferrovs_openflow::text::group::parse_group_mod;
use ferrovs_openflow::text::meter::parse_meter_mod;
use ferrovs_openflow::text::{Names, parse_action};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_packet::flow::Match;
use ferrovs_runtime::clock;
use ferrovs_stream::Stream;
use ferrovs_testkit::database::Choose;

use crate::input::Input;

const BRIDGE: &str = "fuzzed";
/// More than this never waits for a controller that reads.
const MAX_BACKLOG: usize = 4 * 1024 * 1024;

const MATCHES: &[&str] = &[
    "",
    "in_port=1",
    "in_port=LOCAL",
    "ip",
    "arp",
    "tcp,tp_dst=80",
    "udp6,tp_src=53",
    "dl_vlan=5",
    "dl_src=50:54:00:00:00:01",
    "ip,nw_src=10.0.0.0/8",
    "ipv6,ipv6_dst=fe80::/10",
    "reg0=1",
    "metadata=0x10/0xf0",
    "tun_id=7",
    "mpls,mpls_label=9",
    "ct_state=+trk",
    "conj_id=1",
    "priority=7,icmp",
    "table=1",
    "table=2,reg0=1",
    "table=254",
    "cookie=1/1",
    "cookie=5",
    "idle_timeout=1",
    "hard_timeout=2",
    "send_flow_rem,check_overlap",
    "reset_counts,in_port=2",
];
const ACTIONS: &[&str] = &[
    "drop",
    "1",
    "2",
    "NORMAL",
    "FLOOD",
    "ALL",
    "IN_PORT",
    "CONTROLLER",
    "controller(max_len=9,userdata=01.02)",
    "group:1",
    "group:2",
    "meter:1,2",
    "resubmit(,1)",
    "resubmit(1,0)",
    "load:1->reg0",
    "push_vlan:0x8100,2",
    "set_field:9->vlan_vid,2",
    "pop_vlan,2",
    "push_mpls:0x8847,2",
    "pop_mpls:0x0800,resubmit(,1)",
    "dec_ttl,2",
    "learn(table=1,limit=3,eth_src,output:in_port)",
    "move:reg0->reg1",
    "push:reg0,pop:reg1",
    "learn(table=2,cookie=5,delete_learned,in_port,load:1->reg0)",
    "clone(set_field:1->reg0,2)",
    "conjunction(1,1/2)",
    "conjunction(1,2/2)",
    "fin_timeout(idle_timeout=1)",
    "note:01.02",
    "goto_table:1",
    "write_actions(output:2)",
    "clear_actions",
    "check_pkt_larger(100)->reg0[0],resubmit(,1)",
    "multipath(eth_src,50,modulo_n,1,0,reg0[])",
    "bundle(eth_src,0,active_backup,ofport,members:1,2)",
    "sample(probability=9)",
    "ct(commit)",
    "decap",
    "output(port=2,max_len=20)",
    "set_queue:1,2,pop_queue",
];
const GROUPS: &[&str] = &[
    "group_id=1,type=all,bucket=actions=2",
    "group_id=1,type=all,bucket=actions=group:2",
    "group_id=2,type=all,bucket=actions=group:1,bucket=actions=1",
    "group_id=2,type=indirect,bucket=actions=2",
    "group_id=1,type=select,bucket=weight:1,actions=1,bucket=weight:2,actions=2",
    "group_id=2,type=ff,bucket=watch_port:1,actions=1",
    "group_id=1",
    "group_id=all",
];
const METERS: &[&str] = &[
    "meter=1,kbps,bands=type=drop,rate=1",
    "meter=1,pktps,burst,bands=type=drop,rate=1,burst_size=2",
    "meter=1",
];

struct World {
    ofprotos: Ofprotos,
    conns: Vec<OfConn>,
    streams: Vec<Stream>,
    /// Peers that sent bytes which may be half a message.
    unframed: Vec<bool>,
    generation_id: Option<u64>,
    now: Instant,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        let peer = input.below(world.conns.len());
        match input.below(16) {
            0 => world.pass(Duration::from_millis(100 * input.below(100) as u64)),
            1 => {
                let n = input.below(100);
                let bytes = input.bytes(n).to_vec();
                world.unframed[peer] = true;
                world.send(peer, &bytes);
            }
            2..=4 => {
                let bytes = plausible(&mut input, world.version(peer));
                world.send(peer, &bytes);
            }
            _ => {
                let version = world.version(peer);
                if let Some(body) = message(&mut input, version) {
                    let xid = 5;
                    let msg = Msg { version, xid, body };
                    world.send(peer, &msg.to_bytes(&Tun::none()));
                }
            }
        }
        world.turn();
    }
    world.end();
}

/// Bytes under a right header.
fn plausible(input: &mut Input<'_>, version: Version) -> Vec<u8> {
    let mut bytes = vec![version.wire(), input.below(36) as u8, 0, 0, 0, 0, 0, 9];
    if input.chance(30) {
        // One of Nicira's, or a multipart request.
        bytes[1] = *input.pick(&[4, 16, 18]);
        let vendor = [0, 0, 0x23, 0x20, 0, 0, 0, input.below(40) as u8];
        let part = [0, input.below(20) as u8, 0, 0];
        bytes.extend_from_slice(if bytes[1] == 4 { &vendor } else { &part });
    }
    let n = input.below(120);
    bytes.extend_from_slice(input.bytes(n));
    if input.chance(80) {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let len = (bytes.len() as u16).to_be_bytes();
    bytes[2..4].copy_from_slice(&len);
    bytes
}

fn flow_mod(input: &mut Input<'_>) -> Option<Message> {
    use FlowModCommand::{Add, Delete, DeleteStrict, Modify, ModifyStrict};
    let command = *input.pick(&[Add, Add, Add, Modify, ModifyStrict, Delete, DeleteStrict]);
    let mut text: Vec<&str> = (0..input.below(4)).map(|_| *input.pick(MATCHES)).collect();
    text.retain(|t| !t.is_empty());
    let mut text = text.join(",");
    if !command.is_delete() {
        let actions: Vec<&str> = (0..=input.below(3)).map(|_| *input.pick(ACTIONS)).collect();
        if !text.is_empty() {
            text.push(',');
        }
        text += &format!("actions={}", actions.join(","));
    }
    let tun = Tun::none();
    let flow_mod = parse_flow_mod(&text, command, &Names::none(&tun), &mut Protocol::all()).ok()?;
    let nxm = input.chance(20);
    Some(Message::FlowMod {
        flow_mod: Box::new(flow_mod),
        nxm,
    })
}

fn packet_out(input: &mut Input<'_>) -> Option<Message> {
    let mut flow_metadata = Match::default();
    flow_metadata.flow.in_port = *input.pick(&[1, 2, 0xfffe, 0xffff, 0xfffd, 9]);
    flow_metadata.wc.masks.in_port = u32::MAX;
    let mut packet = vec![0x50, 0x54, 0, 0, 0, 2, 0x50, 0x54, 0, 0, 0, input.byte()];
    packet.extend_from_slice(input.pick::<[u8; 2]>(&[
        [8, 0],
        [0x86, 0xdd],
        [8, 6],
        [0x81, 0],
        [0x88, 0x47],
        [0x12, 0x34],
    ]));
    let n = input.below(80);
    packet.extend_from_slice(input.bytes(n));
    let tun = Tun::none();
    let text = if input.chance(50) {
        "table"
    } else {
        input.pick::<&str>(ACTIONS)
    };
    let actions =
        parse_action::parse_actions(text, &Names::none(&tun), &mut Protocol::all(), false).ok()?;
    let buffer_id = NO_BUFFER;
    Some(Message::PacketOut(Box::new(PacketOut {
        packet,
        buffer_id,
        flow_metadata,
        actions,
    })))
}

/// A message that a controller might send.
fn message(input: &mut Input<'_>, version: Version) -> Option<Message> {
    let tun = Tun::none();
    let names = Names::none(&tun);
    let mut usable = Protocol::all();
    match input.below(12) {
        0..=4 => flow_mod(input),
        5 | 6 => packet_out(input),
        7 => {
            use GroupCommand::{Add, AddOrModify, Delete, InsertBucket, Modify, RemoveBucket};
            let command =
                *input.pick(&[Add, AddOrModify, Modify, Delete, InsertBucket, RemoveBucket]);
            let text = *input.pick(GROUPS);
            parse_group_mod(text, command, &names, &mut usable)
                .ok()
                .map(Message::GroupMod)
        }
        8 => {
            let command = *input.pick(&[
                MeterCommand::Add,
                MeterCommand::Modify,
                MeterCommand::Delete,
            ]);
            parse_meter_mod(input.pick::<&str>(METERS), Some(command), &mut usable)
                .ok()
                .map(Message::MeterMod)
        }
        9 => {
            use BundleCtrlType::{CloseRequest, CommitRequest, DiscardRequest, OpenRequest};
            Some(Message::BundleControl(BundleCtrl {
                bundle_id: 1,
                type_: *input.pick(&[
                    OpenRequest,
                    CloseRequest,
                    CommitRequest,
                    CommitRequest,
                    DiscardRequest,
                ]),
                flags: BundleFlags::ATOMIC,
            }))
        }
        10 => {
            let body = if input.chance(70) {
                flow_mod(input)
            } else {
                packet_out(input)
            }?;
            let msg = Msg {
                version,
                xid: 5,
                body,
            }
            .to_bytes(&tun);
            let flags = BundleFlags::ATOMIC;
            Some(Message::BundleAdd(BundleAdd {
                bundle_id: 1,
                flags,
                msg,
            }))
        }
        _ => Some(match input.below(10) {
            0 => Message::BarrierRequest,
            1 => Message::FeaturesRequest,
            2 => Message::FlowStatsRequest {
                request: Box::default(),
                nxm: input.chance(50),
            },
            3 => Message::TableStatsRequest,
            4 => Message::GroupDescRequest { group: u32::MAX },
            5 => Message::GroupStatsRequest { group: u32::MAX },
            6 => Message::TableFeaturesRequest {
                tables: Vec::new(),
                more: false,
            },
            7 => Message::DescRequest,
            8 => Message::GetConfigRequest,
            _ => Message::EchoRequest(vec![1, 2, 3]),
        }),
    }
}

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let now = clock::now();
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let classes = ferrovs_dpif_netdev::classes(ferrovs_dpif_netdev::Dummy::Normal);
        let mut ofprotos = Ofprotos::new(classes).expect("descriptors");
        ofprotos.create(BRIDGE, "dummy", now).expect("a new bridge");
        for name in ["fuzzed-1", "fuzzed-2"] {
            let netdev = ferrovs_netdev::open(name, "dummy").expect("a dummy device");
            ofprotos.port_add(BRIDGE, netdev, None).expect("a new port");
        }
        ofprotos.publish();
        let mut world = World {
            ofprotos,
            conns: Vec::new(),
            streams: Vec::new(),
            unframed: vec![false; 3],
            generation_id: None,
            now,
        };
        for id in 0..3 {
            let (ours, stream) = Stream::pair().expect("descriptors");
            let rconn = Rconn::accepted("fuzz", ours, Versions::ALL, now);
            let settings = ControllerSettings::new("punix:fuzz");
            let kind = if id == 0 {
                ConnKind::Service
            } else {
                ConnKind::Primary
            };
            world
                .conns
                .push(OfConn::new(id, rconn, kind, "punix:fuzz", settings));
            world.streams.push(stream);
            let version = *input.pick(&Version::ALL);
            let hello = ferrovs_openflow::codec::encode_hello(Versions::up_to(version));
            world.send(id as usize, &hello);
        }
        world.turn();
        world
    }

    fn version(&self, peer: usize) -> Version {
        self.conns[peer].version()
    }

    /// What does not fit the socket is lost with the connection that does not read.
    fn send(&mut self, peer: usize, bytes: &[u8]) {
        _ = self.streams[peer].send(bytes);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Does what the connection manager and the main loop do; the peers read all they get.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        let now = self.now;
        self.ofprotos.run(now);
        let ofproto = self.ofprotos.ofproto_mut(BRIDGE).expect("the bridge");
        for conn in &mut self.conns {
            conn.run(now);
            conn.continue_replies(now);
            while conn.may_read() {
                let mut bytes = Vec::new();
                if !conn.rconn.recv(&mut bytes, now) {
                    break;
                }
                let generation_id = &mut self.generation_id;
                let handled = handlers::handle(ofproto, conn, generation_id, &bytes, now);
                conn.answer(&bytes, handled, now);
            }
            conn.expire_bundles(now);
            assert!(conn.rconn.tx_backlog() < MAX_BACKLOG);
        }
        let monitors = self.conns.iter().map(|c| c.monitors.len()).sum();
        ofproto.tables.set_monitors(monitors);
        for events in ofproto.take_events().flows {
            flow_events::deliver(&mut self.conns, &events, now);
        }
        self.streams.iter_mut().map(drain).collect()
    }

    fn end(mut self) {
        for _ in 0..20 {
            self.turn();
        }
        const ECHO: u32 = 0xec40_ec40;
        for peer in 0..self.conns.len() {
            let version = self.version(peer);
            let body = Message::EchoRequest(vec![7; 8]);
            let msg = Msg {
                version,
                xid: ECHO,
                body,
            };
            self.send(peer, &msg.to_bytes(&Tun::none()));
        }
        let mut got = vec![Vec::new(); self.conns.len()];
        for _ in 0..20 {
            for (all, bytes) in got.iter_mut().zip(self.turn()) {
                all.extend(bytes);
            }
        }
        for ((conn, got), unframed) in self.conns.iter().zip(&got).zip(&self.unframed) {
            let open = conn.rconn.is_connected() && !unframed;
            let answered = got.windows(4).any(|w| w == ECHO.to_be_bytes());
            assert!(!open || answered, "no answer to the echo");
        }
        self.ofprotos.destroy(BRIDGE, Detach::Delete);
    }
}

fn drain(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 65536];
    while let Ok(n @ 1..) = stream.recv(&mut buffer) {
        all.extend_from_slice(&buffer[..n]);
    }
    all
}
