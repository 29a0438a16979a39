//! A connection and a bridge, without ports, on a datapath in memory: what is sent, and what comes back.

use std::sync::Arc;

use ferrovs_openflow::action::Action;
use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowStatsRequest};
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::switch::{
    BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags, Role, RoleRequest,
};
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_openflow::{OfpErr, tun::Tun};
use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::clock;
use ferrovs_stream::Stream;
use ferrovs_sync::Waker;
use ferrovs_testkit::dpif::FakeDpif;

use crate::backer::Backer;
use crate::connmgr::rconn::Rconn;
use crate::connmgr::{ConnKind, ControllerSettings, OfConn};
use crate::ofproto::Ofproto;
use crate::xlate::snapshot::XlateSnapshot;

const VERSION: Version = Version::V14;

mod semantics;

struct Peer {
    version: Version,
    ofproto: Ofproto,
    conn: OfConn,
    stream: Stream,
    received: Vec<u8>,
}

impl Peer {
    fn new() -> Peer {
        Peer::speaking(VERSION)
    }

    fn speaking(version: Version) -> Peer {
        let now = clock::now();
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let class = Arc::new(FakeDpif::default()).class();
        let backer = Arc::new(Backer::open(&*class, Arc::default()).unwrap());
        let waker = Arc::new(Waker::new().unwrap());
        let mut ofproto = Ofproto::new("test", 1, backer, &waker, now);
        let bridge = Arc::new(ofproto.make_xbridge());
        ofproto.backer.snapshot.publish(XlateSnapshot {
            bridges: [(ofproto.id, bridge)].into_iter().collect(),
            features: ofproto.backer.features(),
            ..XlateSnapshot::default()
        });
        let (ours, stream) = Stream::pair().unwrap();
        let rconn = Rconn::accepted("test", ours, Versions::ALL, now);
        let settings = ControllerSettings::new("punix:test");
        let conn = OfConn::new(1, rconn, ConnKind::Service, "punix:test", settings);
        let mut peer = Peer {
            version,
            ofproto,
            conn,
            stream,
            received: Vec::new(),
        };
        peer.send_bytes(&crate::connmgr::hello::encode(Versions::up_to(version), 1));
        peer.run();
        peer.replies();
        peer
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.stream.send(bytes).unwrap(), bytes.len());
    }

    fn send(&mut self, xid: u32, body: Message) {
        self.send_bytes(
            &Msg {
                version: self.version,
                xid,
                body,
            }
            .to_bytes(&Tun::none()),
        );
        self.run();
    }

    /// Does what the connection manager does with the connection.
    fn run(&mut self) {
        let now = clock::now();
        for _ in 0..3 {
            self.conn.run(now);
            self.conn.continue_replies(now);
            while self.conn.may_read() {
                let mut bytes = Vec::new();
                if !self.conn.rconn.recv(&mut bytes, now) {
                    break;
                }
                let (ofproto, conn) = (&mut self.ofproto, &mut self.conn);
                let handled = super::handle(ofproto, conn, &mut None, &bytes, now);
                conn.answer(&bytes, handled, now);
            }
        }
    }

    /// The messages that have come back.
    fn replies(&mut self) -> Vec<Message> {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = self.stream.recv(&mut buffer) {
            self.received.extend_from_slice(&buffer[..n]);
        }
        let mut messages = Vec::new();
        while self.received.len() >= 8 {
            let size = usize::from(u16::from_be_bytes([self.received[2], self.received[3]]));
            if self.received.len() < size {
                break;
            }
            let bytes: Vec<u8> = self.received.drain(..size).collect();
            messages.push(Msg::decode(&bytes, &Tun::none()).unwrap().body);
        }
        messages
    }

    fn errors(&mut self) -> Vec<OfpErr> {
        let errors = self.replies().into_iter().filter_map(|m| match m {
            Message::Error(e) => e.error,
            _ => None,
        });
        errors.collect()
    }

    fn flow_count(&mut self) -> u32 {
        let request = Box::new(FlowStatsRequest {
            aggregate: true,
            ..Default::default()
        });
        self.send(
            7,
            Message::FlowStatsRequest {
                request,
                nxm: false,
            },
        );
        match self.replies().pop() {
            Some(Message::AggregateReply { stats, .. }) => stats.flow_count,
            other => panic!("no aggregate: {other:?}"),
        }
    }
}

fn add(in_port: u32, actions: Vec<Action>) -> Message {
    let mut match_ = Match::default();
    match_.flow.in_port = in_port;
    match_.wc.masks.in_port = u32::MAX;
    let command = FlowModCommand::Add;
    let fm = FlowMod {
        match_,
        actions,
        command,
        table_id: 0,
        ..FlowMod::default()
    };
    Message::FlowMod {
        flow_mod: Box::new(fm),
        nxm: false,
    }
}

#[test]
fn a_flow_mod_counts_in_the_statistics_asked_for_after_it() {
    let mut peer = Peer::new();
    peer.send(1, add(1, vec![Action::output(OfPort(2))]));
    peer.send(2, Message::BarrierRequest);
    assert_eq!(peer.replies(), [Message::BarrierReply]);
    assert_eq!(peer.flow_count(), 1);
}

#[test]
fn actions_on_what_is_not_there_are_refused() {
    let mut peer = Peer::new();
    peer.send(1, add(1, vec![Action::Group(5)]));
    peer.send(2, add(1, vec![Action::Meter(5)]));
    peer.send(3, add(1, vec![Action::output(OfPort(0xff05))]));
    peer.send(4, add(1, vec![Action::GotoTable(0)]));
    assert_eq!(
        peer.errors(),
        [
            OfpErr::OFPBAC_BAD_OUT_GROUP,
            OfpErr::OFPMMFC_INVALID_METER,
            OfpErr::OFPBAC_BAD_OUT_PORT,
            OfpErr::OFPBIC_BAD_TABLE_ID
        ]
    );
    assert_eq!(peer.flow_count(), 0);
}

#[test]
fn a_secondary_controller_may_look_but_not_change() {
    let mut peer = Peer::new();
    let role = RoleRequest {
        role: Role::Secondary,
        generation_id: Some(1),
        nicira: false,
    };
    peer.send(1, Message::RoleRequest(role));
    peer.replies();
    peer.send(2, add(1, vec![]));
    assert_eq!(peer.errors(), [OfpErr::OFPBRC_IS_SECONDARY]);
    assert_eq!(peer.flow_count(), 0);
}

#[test]
fn a_bundle_is_done_whole_or_not_at_all() {
    let mut peer = Peer::new();
    peer.send(1, add(9, vec![]));
    let flags = BundleFlags::ATOMIC;
    let control = |type_| {
        Message::BundleControl(BundleCtrl {
            bundle_id: 3,
            type_,
            flags,
        })
    };
    for (last, flows, n_errors) in [(Action::Group(5), 1, 2), (Action::output(OfPort(2)), 3, 0)] {
        peer.send(2, control(BundleCtrlType::OpenRequest));
        for (port, action) in [(1, Action::output(OfPort(2))), (2, last)] {
            let body = add(port, vec![action]);
            let msg = Msg {
                version: VERSION,
                xid: 5,
                body,
            }
            .to_bytes(&Tun::none());
            peer.send(
                5,
                Message::BundleAdd(BundleAdd {
                    bundle_id: 3,
                    flags,
                    msg,
                }),
            );
        }
        assert_eq!(peer.errors(), []);
        peer.send(6, control(BundleCtrlType::CommitRequest));
        assert_eq!(peer.errors().len(), n_errors);
        assert_eq!(peer.flow_count(), flows);
    }
}

#[test]
fn a_reader_that_stops_reading_holds_up_itself_in_bounded_memory() {
    let mut peer = Peer::new();
    let tables = peer.ofproto.tables.clone();
    for port in 1..2_000 {
        let Message::FlowMod { flow_mod, .. } = add(port, vec![]) else {
            unreachable!()
        };
        tables.flow_mod(*flow_mod, Default::default(), 0).unwrap();
    }
    let request = || Box::new(FlowStatsRequest::default());
    for xid in 0..20 {
        peer.send(
            xid,
            Message::FlowStatsRequest {
                request: request(),
                nxm: false,
            },
        );
    }
    let backlog = peer.conn.rconn.tx_backlog();
    assert!(backlog > 0 && backlog < 1024 * 1024, "{backlog} bytes wait");
    assert!(!peer.conn.may_read());
    // It loses nothing: all the flows of all the answers come when it reads again.
    let mut flows = 0;
    for _ in 0..10_000 {
        for reply in peer.replies() {
            if let Message::FlowStatsReply { flows: part, .. } = reply {
                flows += part.len();
            }
        }
        if flows == 20 * 1_999 {
            return;
        }
        peer.run();
    }
    panic!("only {flows} flows came");
}
