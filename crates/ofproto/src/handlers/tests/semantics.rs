//! What flow mods, group mods and bundles mean in each version, and what is refused.

use std::time::Duration;

use ferrovs_openflow::group::{GroupCommand, GroupMod};
use ferrovs_openflow::meter::MeterCommand;
use ferrovs_openflow::packet_in::{NO_BUFFER, PacketOut};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::parse_flow_mod;
use ferrovs_openflow::text::group::parse_group_mod;
use ferrovs_openflow::text::meter::parse_meter_mod;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::types::MacAddr;

use super::*;
use crate::ofproto::bundle::BundleSettings;
use crate::tables::Criteria;
use crate::xlate::snapshot::PriorityTags;

fn flow_mod(command: FlowModCommand, text: &str) -> FlowMod {
    let tun = Tun::none();
    parse_flow_mod(text, command, &Names::none(&tun), &mut Protocol::all()).unwrap()
}

fn flow(command: FlowModCommand, text: &str) -> Message {
    let flow_mod = Box::new(flow_mod(command, text));
    Message::FlowMod {
        flow_mod,
        nxm: false,
    }
}

fn group(command: GroupCommand, text: &str) -> GroupMod {
    let tun = Tun::none();
    parse_group_mod(text, command, &Names::none(&tun), &mut Protocol::all()).unwrap()
}

fn meter(text: &str) -> Message {
    let add = Some(MeterCommand::Add);
    Message::MeterMod(parse_meter_mod(text, add, &mut Protocol::all()).unwrap())
}

impl Peer {
    /// Sends a message and gives the errors that come back.
    fn ask(&mut self, body: Message) -> Vec<OfpErr> {
        self.send(11, body);
        self.errors()
    }

    fn add(&mut self, text: &str) -> Vec<OfpErr> {
        self.ask(flow(FlowModCommand::Add, text))
    }

    /// Tables and cookies of all flows, sorted.
    fn flows(&self) -> Vec<(u8, u64)> {
        let rules = self.ofproto.tables.collect_rules(&Criteria::all());
        let mut flows: Vec<_> = rules.iter().map(|r| (r.table_id, r.cookie)).collect();
        flows.sort();
        flows
    }

    /// Puts messages into a bundle and commits it; gives the errors that come back.
    fn bundle(&mut self, bodies: Vec<Message>) -> Vec<OfpErr> {
        self.bundle_up(bodies);
        self.errors()
    }

    fn bundle_up(&mut self, bodies: Vec<Message>) {
        let flags = BundleFlags::ATOMIC;
        let control = |type_| {
            Message::BundleControl(BundleCtrl {
                bundle_id: 3,
                type_,
                flags,
            })
        };
        self.send(2, control(BundleCtrlType::OpenRequest));
        for body in bodies {
            let (version, xid) = (self.version, 5);
            let msg = Msg { version, xid, body }.to_bytes(&Tun::none());
            let add = BundleAdd {
                bundle_id: 3,
                flags,
                msg,
            };
            self.send(5, Message::BundleAdd(add));
        }
        self.send(6, control(BundleCtrlType::CommitRequest));
    }
}

fn packet_out(in_port: u32, actions: Vec<Action>) -> Message {
    let mut flow_metadata = Match::default();
    flow_metadata.flow.in_port = in_port;
    flow_metadata.wc.masks.in_port = u32::MAX;
    Message::PacketOut(Box::new(PacketOut {
        packet: vec![0; 60],
        buffer_id: NO_BUFFER,
        flow_metadata,
        actions,
    }))
}

#[test]
fn connection_tracking_is_refused_by_a_datapath_that_cannot_do_it() {
    let mut peer = Peer::new();
    let actions = [
        "ip,actions=ct(table=1)",
        "ip,actions=clone(ct(commit)),2",
        "ip,actions=write_actions(ct(commit))",
    ];
    for text in actions {
        assert_eq!(
            peer.add(text),
            [OfpErr::NXBAC_CT_DATAPATH_SUPPORT],
            "{text}"
        );
    }
    let matches = [
        "ct_state=+trk,actions=2",
        "ct_state=-trk,actions=2",
        "ct_zone=1,actions=2",
        "ct_mark=1,actions=2",
        "ct_label=1,actions=2",
    ];
    for text in matches {
        assert_eq!(
            peer.add(text),
            [OfpErr::NXBMC_CT_DATAPATH_SUPPORT],
            "{text}"
        );
    }
    let bucket = group(
        GroupCommand::Add,
        "group_id=1,type=all,bucket=actions=ct(commit),2",
    );
    assert_eq!(
        peer.ask(Message::GroupMod(bucket)),
        [OfpErr::NXBAC_CT_DATAPATH_SUPPORT]
    );
    for text in ["actions=encap(ethernet),2", "actions=decap,2"] {
        assert_eq!(peer.add(text), [OfpErr::OFPBAC_BAD_TYPE], "{text}");
    }
    assert_eq!(peer.ask(Message::CtFlushZone(4)), []);
    assert_eq!(
        (peer.flows(), peer.ofproto.tables.groups().len()),
        (vec![], 0)
    );
    // Looking for such flows and deleting them is no harm.
    assert_eq!(peer.ask(flow(FlowModCommand::Delete, "ct_mark=1")), []);
}

#[test]
fn a_bundle_with_a_bad_packet_out_does_nothing() {
    let mut peer = Peer::new();
    let all = || vec![Action::output(OfPort(2))];
    let bad = [(
        packet_out(1, vec![Action::Group(9)]),
        vec![OfpErr::OFPBAC_BAD_OUT_GROUP, OfpErr::OFPBFC_MSG_FAILED],
    )];
    for (message, errors) in bad {
        assert_eq!(peer.bundle(vec![add(1, all()), message]), errors);
        assert_eq!(peer.flow_count(), 0);
    }
    // What an earlier message of the bundle adds may be used.
    let nine = group(GroupCommand::Add, "group_id=9,type=all,bucket=actions=2");
    let good = vec![
        Message::GroupMod(nine),
        add(1, vec![Action::Group(9)]),
        packet_out(1, vec![Action::Group(9)]),
    ];
    assert_eq!(peer.bundle(good), []);
    assert_eq!(peer.flow_count(), 1);
}

#[test]
fn a_packet_out_that_goes_in_circles_is_refused() {
    let mut peer = Peer::new();
    let table = || vec![Action::output(OfPort::TABLE)];
    assert_eq!(peer.ask(packet_out(1, table())), []);
    // In a bundle it counts what the bundle makes of the tables, and the bundle fails with it.
    let circle = || flow(FlowModCommand::Add, "actions=resubmit(,0)");
    let failed = [OfpErr::OFPFMFC_UNKNOWN, OfpErr::OFPBFC_MSG_FAILED];
    let messages = vec![circle(), packet_out(1, table())];
    assert_eq!(peer.bundle(messages), failed);
    assert_eq!(peer.flows(), []);

    assert_eq!(peer.ask(circle()), []);
    assert_eq!(peer.ask(packet_out(1, table())), [OfpErr::OFPFMFC_UNKNOWN]);
    let straight = flow(FlowModCommand::Add, "actions=drop");
    assert_eq!(peer.bundle(vec![straight, packet_out(1, table())]), []);
}

#[test]
fn a_packet_out_of_a_bundle_meets_the_flows_and_groups_that_came_before_it() {
    let mut peer = Peer::new();
    let learn = "cookie=7,priority=7,in_port=1,actions=learn(table=9,cookie=8,NXM_OF_IN_PORT[])";
    let out = || packet_out(1, vec![Action::output(OfPort::TABLE)]);
    let add = |text| flow(FlowModCommand::Add, text);
    let nine = |command, text| Message::GroupMod(group(command, text));
    let bundle = vec![
        add("cookie=1,priority=1,in_port=1,actions=drop"),
        out(),
        add("cookie=2,priority=2,in_port=1,actions=group:9"),
        nine(
            GroupCommand::Add,
            "group_id=9,type=all,bucket=actions=resubmit(,4)",
        ),
        add("cookie=4,table=4,in_port=1,actions=drop"),
    ];
    // A group must be there before the flow that names it.
    let missing = [OfpErr::OFPBAC_BAD_OUT_GROUP, OfpErr::OFPBFC_MSG_FAILED];
    assert_eq!(peer.bundle(bundle), missing);
    assert_eq!(peer.flows(), []);
    let bundle = vec![
        add("cookie=1,priority=1,in_port=1,actions=drop"),
        out(),
        nine(
            GroupCommand::Add,
            "group_id=9,type=all,bucket=actions=resubmit(,4)",
        ),
        add("cookie=4,table=4,in_port=1,actions=drop"),
        add("cookie=2,priority=2,in_port=1,actions=group:9"),
        out(),
        out(),
        nine(
            GroupCommand::Modify,
            "group_id=9,type=all,bucket=actions=drop",
        ),
        out(),
        add(learn),
        out(),
    ];
    assert_eq!(peer.bundle(bundle), []);
    let rules = peer.ofproto.tables.collect_rules(&Criteria::all());
    let mut counts: Vec<_> = rules
        .iter()
        .map(|r| (r.cookie, r.stats().n_packets))
        .collect();
    counts.sort();
    assert_eq!(counts, [(1, 1), (2, 3), (4, 2), (7, 1), (8, 0)]);
}

#[test]
fn a_bundle_that_fails_sends_no_packet_and_quotes_the_message_as_it_was_added() {
    let mut peer = Peer::new();
    assert_eq!(peer.add("cookie=1,in_port=1,actions=drop"), []);
    let failing = vec![
        packet_out(1, vec![Action::output(OfPort::TABLE)]),
        flow(FlowModCommand::Add, "in_port=2,actions=group:9"),
    ];
    peer.bundle_up(failing);
    let quotes = peer.replies().into_iter().filter_map(|m| match m {
        Message::Error(e) => Some(Msg::decode(&e.data, &Tun::none()).unwrap().body),
        _ => None,
    });
    let quotes: Vec<_> = quotes.collect();
    assert!(
        matches!(
            quotes[..],
            [Message::BundleAdd(_), Message::BundleControl(_)]
        ),
        "{quotes:?}"
    );
    let rules = peer.ofproto.tables.collect_rules(&Criteria::all());
    assert_eq!((rules.len(), rules[0].stats().n_packets), (1, 0));
}

#[test]
fn what_a_datapath_cannot_do_is_refused_when_it_is_added_to_a_bundle() {
    let mut peer = Peer::new();
    let ct = flow(FlowModCommand::Add, "ip,actions=ct(commit)");
    let errors = peer.bundle(vec![add(1, vec![]), ct]);
    assert_eq!(errors, [OfpErr::NXBAC_CT_DATAPATH_SUPPORT]);
}

#[test]
fn deletion_in_1_1_concerns_the_table_that_it_names() {
    for (version, left) in [
        (Version::V11, vec![(1, 1), (2, 2)]),
        (Version::V13, vec![(1, 1), (2, 2)]),
    ] {
        let mut peer = Peer::speaking(version);
        for table in 0..3 {
            let text = format!("table={table},cookie={table},in_port=1,actions=2");
            assert_eq!(peer.add(&text), []);
        }
        assert_eq!(peer.ask(flow(FlowModCommand::Delete, "table=0")), []);
        assert_eq!(peer.flows(), left);
    }
}

#[test]
fn modifications_add_and_change_cookies_as_their_version_has_it() {
    // Version, whether a modification of nothing adds a flow, and whether one changes the cookie of a flow.
    let versions = [
        (Version::V10, true, true),
        (Version::V11, true, false),
        (Version::V12, false, false),
        (Version::V13, false, false),
        (Version::V15, false, false),
    ];
    for (version, adds, recooks) in versions {
        let mut peer = Peer::speaking(version);
        let modify = |peer: &mut Peer, text: &str| {
            assert_eq!(peer.ask(flow(FlowModCommand::Modify, text)), [], "{text}");
        };
        modify(&mut peer, "cookie=3,in_port=1,actions=2");
        let added = if adds { vec![(0, 3)] } else { vec![] };
        assert_eq!(peer.flows(), added, "{version:?}");
        assert_eq!(peer.add("cookie=5,in_port=1,actions=2"), []);
        modify(&mut peer, "cookie=9,in_port=1,actions=3");
        let cookie = if recooks { 9 } else { 5 };
        assert_eq!(peer.flows(), [(0, cookie)], "{version:?}");
        // Without a cookie one that is there stays where it can be left out, and a flow that is added has none.
        modify(&mut peer, "in_port=1,actions=4");
        modify(&mut peer, "in_port=2,actions=4");
        let mut flows = vec![(0, if recooks { 0 } else { cookie })];
        if adds {
            flows.insert(0, (0, 0));
        }
        assert_eq!(peer.flows(), flows, "{version:?}");
    }
}

#[test]
fn a_changed_flow_has_not_been_used() {
    let mut peer = Peer::new();
    let start = clock::now();
    let after = |secs| start + Duration::from_secs(secs);
    let text = "in_port=1,idle_timeout=60,actions=2";
    let change = |peer: &mut Peer, at, command, text: &str| {
        let fm = flow_mod(command, text);
        let tables = &peer.ofproto.tables;
        tables
            .flow_mod(fm, Default::default(), crate::time::to_ms(at))
            .unwrap();
        let rule = tables.collect_rules(&Criteria::all()).remove(0);
        let secs = |ms: i64| (ms - crate::time::to_ms(start)) / 1000;
        (
            secs(rule.created_ms),
            secs(rule.modified_ms()),
            secs(rule.stats().used_ms),
        )
    };
    let (add, modify) = (FlowModCommand::Add, FlowModCommand::Modify);
    assert_eq!(change(&mut peer, after(0), add, text), (0, 0, 0));
    let reset = "reset_counts,in_port=1,actions=4";
    assert_eq!(change(&mut peer, after(5), modify, reset), (0, 5, 0));
    assert_eq!(
        change(&mut peer, after(6), modify, "in_port=1,actions=3"),
        (0, 6, 0)
    );
    assert_eq!(change(&mut peer, after(9), add, text), (9, 9, 0));
}

#[test]
fn buckets_are_inserted_and_removed_at_will_and_keep_their_weights() {
    let mut peer = Peer::speaking(Version::V15);
    let mut change = |command, text: &str| {
        let errors = peer.ask(Message::GroupMod(group(command, text)));
        assert_eq!(errors, [], "{text}");
        let group = peer.ofproto.tables.groups().find(1);
        group.map(|g| {
            g.buckets
                .iter()
                .map(|b| b.bucket.weight)
                .collect::<Vec<_>>()
        })
    };
    use GroupCommand::{Add, Delete, InsertBucket, RemoveBucket};
    change(
        Add,
        "group_id=1,type=ff,bucket=bucket_id:1,watch_port:1,actions=1",
    );
    let unwatched = "group_id=1,command_bucket_id=last,bucket=bucket_id:2,actions=2";
    assert_eq!(change(InsertBucket, unwatched), Some(vec![0, 0]));
    change(Delete, "group_id=1");
    change(Add, "group_id=1,type=indirect,bucket=bucket_id:1,actions=1");
    change(InsertBucket, unwatched);
    let all = "group_id=1,command_bucket_id=all";
    assert_eq!(change(RemoveBucket, all), Some(vec![]));
    change(Delete, "group_id=1");
    let select = "group_id=1,type=select,bucket=bucket_id:1,weight:50,actions=1";
    change(Add, select);
    let mut weighted = group(InsertBucket, unwatched);
    weighted.buckets[0].weight = 100;
    weighted.type_ = ferrovs_openflow::group::GroupType::Select;
    assert_eq!(peer.ask(Message::GroupMod(weighted)), []);
    let one = peer.ofproto.tables.groups().find(1).unwrap();
    let weights: Vec<_> = one.buckets.iter().map(|b| b.bucket.weight).collect();
    assert_eq!(weights, [50, 100]);
}

#[test]
fn groups_and_meters_go_with_the_flows_when_controllers_change() {
    let mut peer = Peer::new();
    let one = group(GroupCommand::Add, "group_id=1,type=all,bucket=actions=2");
    assert_eq!(peer.ask(Message::GroupMod(one)), []);
    assert_eq!(peer.ask(meter("meter=1,kbps,bands=type=drop,rate=1")), []);
    assert_eq!(peer.add("actions=meter:1,group:1"), []);
    peer.ofproto.remove_flows(clock::now());
    let there = (
        peer.ofproto.tables.groups().len(),
        peer.ofproto.meters.by_id.len(),
    );
    assert_eq!(there, (0, 0));
    assert_eq!(peer.ask(meter("meter=1,kbps,bands=type=drop,rate=1")), []);
}

#[test]
fn a_flow_that_no_answer_has_room_for_is_left_out() {
    let mut peer = Peer::speaking(Version::V13);
    // The message that adds it has room, with a header that is shorter than the answer's.
    let note = |n: usize| format!("note:{}", vec!["00"; n].join("."));
    let text = |n| format!("actions={}", note(n));
    assert_eq!(peer.add("in_port=1,actions=2"), []);
    let largest = 65535 - 56 - 8 - 8 - 16;
    assert_eq!(peer.add(&text(largest)), []);
    assert_eq!(peer.flow_count(), 2);
    let request = Box::new(FlowStatsRequest::default());
    let nxm = false;
    peer.send(8, Message::FlowStatsRequest { request, nxm });
    let flows: usize = peer
        .replies()
        .iter()
        .map(|m| match m {
            Message::FlowStatsReply { flows, .. } => flows.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(flows, 1);
}

#[test]
fn a_change_of_several_flows_is_one_update() {
    use ferrovs_openflow::action::TABLE_ALL;
    use ferrovs_openflow::flow::{
        FlowMonitorCommand, FlowMonitorFlags, FlowMonitorRequest, FlowUpdate, GROUP_ANY,
    };
    let watch = |flags| {
        Message::FlowMonitorRequest(vec![FlowMonitorRequest {
            id: 1,
            command: FlowMonitorCommand::Add,
            flags,
            out_port: OfPort::NONE,
            out_group: GROUP_ANY,
            table_id: TABLE_ALL,
            match_: Match::default(),
        }])
    };
    let all = FlowMonitorFlags::ADD | FlowMonitorFlags::REMOVED;
    for (flags, n) in [(all | FlowMonitorFlags::ONLY_OWN, 3), (all, 1)] {
        let mut peer = Peer::new();
        peer.send(1, watch(flags));
        peer.replies();
        peer.ofproto.tables.set_monitors(1);
        for port in 1..4 {
            peer.send(20, add(port, vec![]));
        }
        peer.ofproto.tables.take_events();
        peer.send(21, flow(FlowModCommand::Delete, ""));
        for events in peer.ofproto.tables.take_events() {
            let conns = std::slice::from_mut(&mut peer.conn);
            crate::connmgr::flow_events::deliver(conns, &events, clock::now());
        }
        peer.run();
        let replies = peer.replies();
        let [Message::FlowMonitorReply { updates, .. }] = &replies[..] else {
            panic!("{replies:?}");
        };
        assert_eq!(updates.len(), n);
        let abbrev = FlowUpdate::Abbrev { xid: 21 };
        assert_eq!(updates.contains(&abbrev), n == 1);
    }
}

#[test]
fn every_port_has_queue_0() {
    use ferrovs_openflow::port::{QUEUE_ALL, QueueRequest};
    let mut peer = Peer::new();
    let ask = |port, queue| Message::QueueStatsRequest(QueueRequest { port, queue });
    let bad_port = ask(OfPort(9), 0);
    assert_eq!(peer.ask(bad_port), [OfpErr::OFPQOFC_BAD_PORT]);
    let bad_queue = ask(OfPort::NONE, 7);
    assert_eq!(peer.ask(bad_queue), [OfpErr::OFPQOFC_BAD_QUEUE]);
    let name = "queue-0-device";
    let netdev = ferrovs_netdev::open(name, "dummy").unwrap();
    let port = peer.ofproto.add_port(netdev, Some(OfPort(3))).unwrap();
    for queue in [0, QUEUE_ALL] {
        peer.send(4, ask(port, queue));
        let Some(Message::QueueStatsReply { queues, .. }) = peer.replies().pop() else {
            panic!("no statistics");
        };
        assert_eq!(
            (queues.len(), queues[0].port, queues[0].queue),
            (1, port, 0)
        );
    }
    peer.send(
        5,
        Message::QueueGetConfigRequest(QueueRequest { port, queue: 0 }),
    );
    let Some(Message::QueueGetConfigReply { queues, .. }) = peer.replies().pop() else {
        panic!("no configuration");
    };
    assert_eq!(queues.len(), 1);
    // A port that somebody takes from the datapath is gone from the bridge as well.
    let dp_port = peer.ofproto.ports[&port].dp_port;
    let mut events = peer.ofproto.backer.dpif.port_events();
    peer.ofproto.backer.dpif.port_del(dp_port).unwrap();
    peer.ofproto.follow_datapath(&events.take().unwrap());
    assert!(peer.ofproto.ports.is_empty());
}

#[test]
fn a_modification_that_finds_no_flow_may_name_what_is_not_there() {
    let mut peer = Peer::new();
    let modify = |text| flow(FlowModCommand::Modify, text);
    for text in ["in_port=1,actions=group:5", "in_port=1,actions=meter:5"] {
        assert_eq!(peer.ask(modify(text)), []);
        assert_eq!(peer.bundle(vec![modify(text)]), []);
    }
    assert_eq!(peer.add("in_port=1,actions=2"), []);
    let missing = OfpErr::OFPBAC_BAD_OUT_GROUP;
    let text = "in_port=1,actions=group:5";
    assert_eq!(peer.ask(modify(text)), [missing]);
    assert_eq!(
        peer.bundle(vec![modify(text)]),
        [missing, OfpErr::OFPBFC_MSG_FAILED]
    );
}

#[test]
fn how_packets_come_back_from_the_datapath_is_not_for_controllers_to_match_on() {
    let mut peer = Peer::new();
    for text in [
        "dp_hash=5,actions=drop",
        "dp_hash=0,actions=drop",
        "recirc_id=5,actions=drop",
    ] {
        for command in [FlowModCommand::Add, FlowModCommand::ModifyStrict] {
            assert_eq!(peer.ask(flow(command, text)), [OfpErr::OFPBRC_EPERM]);
        }
    }
    assert_eq!(
        peer.ask(flow(FlowModCommand::Add, "recirc_id=0,actions=drop")),
        []
    );
    assert_eq!(peer.ask(flow(FlowModCommand::Delete, "dp_hash=5")), []);
}

#[test]
fn the_switchs_table_is_not_for_controllers_whatever_it_holds() {
    let mut peer = Peer::new();
    for command in [
        FlowModCommand::Add,
        FlowModCommand::Modify,
        FlowModCommand::ModifyStrict,
    ] {
        let text = "table=254,icmp,actions=group:9";
        assert_eq!(peer.ask(flow(command, text)), [OfpErr::OFPBRC_EPERM]);
        assert_eq!(
            peer.bundle(vec![flow(command, text)]),
            [OfpErr::OFPBRC_EPERM]
        );
    }
}

#[test]
fn a_meter_that_the_datapath_cannot_be_is_refused() {
    use ferrovs_openflow::meter::{MeterBand, MeterBandType, MeterConfig, MeterFlags, MeterMod};
    let band = |type_| MeterBand {
        type_,
        rate: 4,
        burst_size: 0,
        prec_level: 0,
    };
    let (drop, remark) = (band(MeterBandType::Drop), band(MeterBandType::DscpRemark));
    let cases = [
        (0, vec![drop], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (4, vec![drop], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (8, vec![], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (12, vec![remark], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (0x101, vec![drop], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (0x8002, vec![drop], Some(OfpErr::OFPMMFC_BAD_FLAGS)),
        (1, vec![], Some(OfpErr::OFPMMFC_OUT_OF_BANDS)),
        (1, vec![drop, remark], Some(OfpErr::OFPMMFC_BAD_BAND)),
        (9, vec![drop], None),
        (2, vec![drop, drop], None),
    ];
    let mut peer = Peer::new();
    assert_eq!(peer.ask(meter("meter=2,kbps,bands=type=drop,rate=1")), []);
    for (flags, bands, error) in cases {
        for (command, meter_id) in [(MeterCommand::Add, 1), (MeterCommand::Modify, 2)] {
            let meter = MeterConfig {
                meter_id,
                flags: MeterFlags::from_bits_retain(flags),
                bands: bands.clone(),
            };
            let errors = peer.ask(Message::MeterMod(MeterMod { command, meter }));
            assert_eq!(errors.first().copied(), error, "{flags:#x} {command:?}");
            if meter_id == 1 && error.is_none() {
                peer.ofproto.remove_meters(&[1]);
            }
        }
    }
}

#[test]
fn a_meter_must_be_there_before_its_bands_matter() {
    let mut peer = Peer::new();
    let remark = "meter=1,kbps,bands=type=dscp_remark,rate=1,prec_level=1";
    let mut ask = |command, text: &str| {
        let m = parse_meter_mod(text, Some(command), &mut Protocol::all()).unwrap();
        peer.ask(Message::MeterMod(m))
    };
    use MeterCommand::{Add, Modify};
    assert_eq!(ask(Modify, remark), [OfpErr::OFPMMFC_UNKNOWN_METER]);
    assert_eq!(ask(Add, remark), [OfpErr::OFPMMFC_BAD_BAND]);
    assert_eq!(ask(Add, "meter=1,kbps,bands=type=drop,rate=1"), []);
    assert_eq!(ask(Add, remark), [OfpErr::OFPMMFC_METER_EXISTS]);
    assert_eq!(ask(Modify, remark), [OfpErr::OFPMMFC_BAD_BAND]);
}

#[test]
fn flows_that_expire_together_are_told_apart() {
    let mut peer = Peer::new();
    peer.ofproto.tables.set_monitors(1);
    for port in 1..4 {
        let text = format!("in_port={port},hard_timeout=1,actions=2");
        assert_eq!(peer.add(&text), []);
    }
    peer.ofproto.tables.take_events();
    peer.ofproto.expire(clock::now() + Duration::from_secs(5));
    let told = peer.ofproto.tables.take_events();
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn addresses_are_learned_anew_when_a_port_is_set_up_otherwise() {
    let peer = &mut Peer::new().ofproto;
    let settings = |change: fn(&mut BundleSettings)| {
        let mut settings = BundleSettings {
            name: "p1".into(),
            ..BundleSettings::default()
        };
        change(&mut settings);
        settings
    };
    let changes: [(fn(&mut BundleSettings), bool); 6] = [
        (|_| {}, false),
        (|b| b.protected = true, true),
        (|b| b.priority_tags = PriorityTags::Always, true),
        (|b| b.trunks = Some(vec![0, 5]), true),
        (|b| b.qinq_ethtype = 0x8100, true),
        // Means something to a port of another mode only.
        (|b| b.cvlans = Some(vec![5]), false),
    ];
    for (i, (change, anew)) in changes.into_iter().enumerate() {
        peer.bundle_set(settings(|_| {}));
        let id = peer.bundle_by_name("p1").unwrap().id;
        peer.macs()
            .learn(clock::now(), MacAddr([2; 6]), 0, id, Default::default());
        peer.bundle_set(settings(change));
        let kept = peer.macs().lookup(MacAddr([2; 6]), 0);
        assert_eq!(kept.is_none(), anew, "change {i}");
    }
}
