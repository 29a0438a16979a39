//! Fail-open for an hour of virtual time, against controllers that come and go, next to a small model of it; and what
//! controllers hear of each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowModFlags};
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::switch::{Role, RoleRequest};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_runtime::clock;
use ferrovs_stream::{PStream, Stream};
use ferrovs_sync::Waker;
use ferrovs_testkit::dpif::FakeDpif;

use super::Bridge;
use crate::backer::Backer;
use crate::connmgr::{ControllerSettings, FailMode, hello};
use crate::tables::{Criteria, TBL_INTERNAL};

const VERSION: Version = Version::V13;
const FAIL_OPEN: i32 = 0xf0_f0f0;
const OFPT_ECHO_REQUEST: u8 = 2;
const OFPT_PACKET_IN: u8 = 10;
const STEP: Duration = Duration::from_millis(500);
const TRIGGER: Duration = Duration::from_secs(15);

/// Xorshift: the same events in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A controller on a socket of its own, and what the model knows about it.
struct Controller {
    target: String,
    listener: Option<PStream>,
    stream: Option<Stream>,
    received: Vec<u8>,
    connected_at: Option<Instant>,
    admits: bool,
    last_admitted: Instant,
    n_packets: usize,
    /// Types of the messages that came, but for probes.
    heard: Vec<u8>,
}

impl Controller {
    fn new(target: String, now: Instant) -> Controller {
        Controller {
            target,
            listener: None,
            stream: None,
            received: Vec::new(),
            connected_at: None,
            admits: false,
            last_admitted: now,
            n_packets: 0,
            heard: Vec::new(),
        }
    }

    fn listen(&mut self) {
        let at = format!("p{}", self.target);
        self.listener = Some(PStream::open(&at).unwrap());
    }

    fn leave(&mut self) {
        (self.listener, self.stream) = (None, None);
        (self.connected_at, self.admits) = (None, false);
        self.received.clear();
    }

    fn send(&mut self, body: Message, now: Instant) {
        let (Some(stream), Some(since)) = (&mut self.stream, self.connected_at) else {
            return;
        };
        let admits = matches!(body, Message::BarrierRequest | Message::FlowMod { .. });
        let (version, xid) = (VERSION, 9);
        let bytes = Msg { version, xid, body }.to_bytes(&Tun::none());
        assert_eq!(stream.send(&bytes).unwrap(), bytes.len());
        let stood = now.duration_since(since) >= Duration::from_secs(30);
        self.admits |= admits || stood;
        if self.admits {
            self.last_admitted = now;
        }
    }

    /// Accepts, reads what came, and answers probes.
    fn run(&mut self, now: Instant) {
        if let Some(Ok(Some(mut stream))) = self.listener.as_mut().map(PStream::accept) {
            let hello = hello::encode(Versions::up_to(VERSION), 1);
            assert_eq!(stream.send(&hello).unwrap(), hello.len());
            self.stream = Some(stream);
            self.connected_at = Some(now);
        }
        let mut buffer = [0; 4096];
        while let Some(Ok(n @ 1..)) = self.stream.as_mut().map(|s| s.recv(&mut buffer)) {
            self.received.extend_from_slice(&buffer[..n]);
        }
        while let Some(&[_, kind, a, b]) = self.received.first_chunk() {
            let size = usize::from(u16::from_be_bytes([a, b]));
            if self.received.len() < size {
                break;
            }
            self.received.drain(..size);
            self.n_packets += usize::from(kind == OFPT_PACKET_IN);
            if kind == OFPT_ECHO_REQUEST {
                self.send(Message::EchoReply(Vec::new()), now);
            } else {
                self.heard.push(kind);
            }
        }
    }
}

struct World {
    bridge: Bridge,
    controllers: Vec<Controller>,
    now: Instant,
    random: Random,
    _dir: tempfile::TempDir,
    /// The model: whether the switch is open, and the priorities of the flows that it has then.
    open: bool,
    flows: Vec<i32>,
    n_opened: usize,
    n_closed: usize,
}

impl World {
    fn new(n: usize, seed: u64) -> World {
        let now = clock::now();
        ferrovs_netdev::dummy::enable(ferrovs_netdev::dummy::Replace::Nothing);
        let class = Arc::new(FakeDpif::default()).class();
        let backer = Arc::new(Backer::open(&*class, Arc::default()).unwrap());
        let waker = Arc::new(Waker::new().unwrap());
        let mut bridge = Bridge::new(
            &format!("hour-{}-{seed}", std::process::id()),
            1,
            backer,
            &waker,
            now,
        );
        let dir = tempfile::tempdir().unwrap();
        let target = |i| format!("unix:{}/c{i}", dir.path().display());
        let controllers: Vec<_> = (0..n).map(|i| Controller::new(target(i), now)).collect();
        let wanted = controllers.iter();
        let wanted = wanted.map(|c| ControllerSettings::new(&c.target));
        bridge.set_controllers(wanted.collect(), now);
        World {
            bridge,
            controllers,
            now,
            random: Random(seed),
            _dir: dir,
            open: false,
            flows: Vec::new(),
            n_opened: 0,
            n_closed: 0,
        }
    }
    /// Something may happen to each controller and to the bridge, and time goes on.
    fn step(&mut self) {
        let alone = self.controllers.iter().all(|c| c.stream.is_none());
        let far = alone && self.random.one_in(100);
        self.now += if far { STEP * 200 } else { STEP };
        for i in 0..self.controllers.len() {
            self.disturb(i);
        }
        if self.random.one_in(500) {
            let mode = match self.bridge.connmgr.fail_mode {
                FailMode::Standalone => FailMode::Secure,
                FailMode::Secure => FailMode::Standalone,
            };
            self.bridge.set_fail_mode(mode, self.now);
        }
        // Often enough for a connection to be made.
        for _ in 0..4 {
            self.bridge.run(self.now);
            self.controllers.iter_mut().for_each(|c| c.run(self.now));
        }
        self.update_model();
    }

    fn disturb(&mut self, i: usize) {
        let (now, c) = (self.now, &mut self.controllers[i]);
        if c.listener.is_none() {
            if self.random.one_in(60) {
                c.listen();
            }
            return;
        }
        match self.random.below(120) {
            0 => c.leave(),
            1 => c.send(Message::BarrierRequest, now),
            2 => c.send(Message::FeaturesRequest, now),
            3 if c.stream.is_some() => {
                let priority = 5 + i as u16;
                let flow_mod = Box::new(FlowMod {
                    priority,
                    table_id: 0,
                    ..FlowMod::default()
                });
                let nxm = false;
                c.send(Message::FlowMod { flow_mod, nxm }, now);
                self.flows.push(priority.into());
            }
            _ => {}
        }
    }

    fn update_model(&mut self) {
        let standalone = self.bridge.connmgr.fail_mode == FailMode::Standalone;
        let admitted = self.controllers.iter().any(|c| c.admits);
        let heard = self.controllers.iter().map(|c| c.last_admitted).max();
        let away = heard.map_or(Duration::ZERO, |at| self.now - at);
        if self.open && (admitted || !standalone) {
            self.open = false;
            self.flows.retain(|p| *p != FAIL_OPEN);
            self.n_closed += 1;
        } else if !self.open && standalone && !admitted && away >= TRIGGER {
            self.open = true;
            self.flows = vec![FAIL_OPEN];
            self.n_opened += 1;
        }
        self.flows.sort();
        self.flows.dedup();
    }

    /// Priorities of the flows outside the table of the switch's own, ascending.
    fn priorities(&self) -> Vec<i32> {
        let everything = Criteria {
            hidden: true,
            ..Criteria::all()
        };
        let rules = self.bridge.ofproto.tables.collect_rules(&everything);
        let rules = rules.iter().filter(|r| r.table_id != TBL_INTERNAL);
        let mut priorities: Vec<i32> = rules.map(|r| r.priority).collect();
        priorities.sort();
        priorities
    }
}

#[test]
fn a_bridge_fails_open_and_recovers_through_an_hour_of_controllers_that_come_and_go() {
    for (n, seed) in [(1, 1), (1, 2), (3, 3), (3, 4)] {
        let mut world = World::new(n, seed);
        let end = world.now + Duration::from_secs(3600);
        while world.now < end {
            world.step();
            assert_eq!(world.priorities(), world.flows, "{n} controllers, {seed}");
        }
        let packets: usize = world.controllers.iter().map(|c| c.n_packets).sum();
        let (opened, closed) = (world.n_opened, world.n_closed);
        assert!(
            opened > 2 && closed > 2 && packets > 5,
            "{opened}, {closed}, {packets}"
        );
    }
}

#[test]
fn without_controllers_for_a_whole_hour_the_bridge_stays_open() {
    let mut world = World::new(3, 5);
    let end = world.now + Duration::from_secs(3600);
    while world.now < end {
        world.now += Duration::from_millis(250);
        world.bridge.run(world.now);
        world.update_model();
        assert_eq!(world.priorities(), world.flows);
    }
    assert_eq!((world.n_opened, world.n_closed), (1, 0));
}

#[test]
fn what_a_message_means_to_others_is_told_before_the_next_is_read() {
    const OFPT_EXPERIMENTER: u8 = 4;
    const OFPT_FLOW_REMOVED: u8 = 11;
    const OFPT_ROLE_REPLY: u8 = 25;
    let mut world = World::new(2, 6);
    world.controllers.iter_mut().for_each(Controller::listen);
    let turn = |world: &mut World| {
        for _ in 0..8 {
            world.now += STEP;
            world.bridge.run(world.now);
            world.controllers.iter_mut().for_each(|c| c.run(world.now));
        }
        let heard = world.controllers.iter_mut();
        heard
            .map(|c| std::mem::take(&mut c.heard))
            .collect::<Vec<_>>()
    };
    turn(&mut world);
    let primary = |generation_id| {
        Message::RoleRequest(RoleRequest {
            role: Role::Primary,
            generation_id: Some(generation_id),
            nicira: false,
        })
    };
    let flow_mod = |command| Message::FlowMod {
        flow_mod: Box::new(FlowMod {
            command,
            table_id: 0,
            flags: FlowModFlags::SEND_FLOW_REM,
            ..FlowMod::default()
        }),
        nxm: false,
    };
    let now = world.now;
    world.controllers[0].send(primary(1), now);
    world.controllers[0].send(flow_mod(FlowModCommand::Add), now);
    assert_eq!(turn(&mut world), [vec![OFPT_ROLE_REPLY], vec![]]);
    // The first is secondary when the flow goes, and hears that it is, not that the flow went.
    world.controllers[1].send(primary(2), now);
    world.controllers[1].send(flow_mod(FlowModCommand::Delete), now);
    let heard = [
        vec![OFPT_EXPERIMENTER],
        vec![OFPT_ROLE_REPLY, OFPT_FLOW_REMOVED],
    ];
    assert_eq!(turn(&mut world), heard);
}
