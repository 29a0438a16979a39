//! The servers, what is between them, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrovs_json::parse_bytes;
use ferrovs_ovsdb::Uuid;
use ferrovs_raft::machine::{Destination, Role};
use ferrovs_raft::message::Context;
use ferrovs_raft::{
    Body, Header, HeaderState, Input, Message, Output, Raft, RecordBody, Servers, Snapshot, Status,
};

use super::checks::{Checks, FIRST, next_sum};
use super::disk::Disk;
use super::{Failure, Random, Summary};

/// Nothing was broken, but nothing works either.
pub const NOT_BACK: &str = "the cluster does not come back";

/// How a run differs from the usual one.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Called with each machine that starts.
    pub prepare: Option<fn(&mut Raft)>,
    /// Prints what happens.
    pub trace: bool,
}

struct Node {
    id: Uuid,
    raft: Option<Raft>,
    disk: Disk,
    /// Counts starts, so that nothing of an earlier life arrives in a later one.
    life: u64,
    /// What the node's clock is ahead.
    ahead: u64,
    tick_at: u64,
    last_write: u64,
    synced: u64,
    commit: u64,
    index: u64,
    eid: Uuid,
    sum: u64,
    left: bool,
}

enum Event {
    Deliver { to: usize, message: Arc<Message> },
    Tick { node: usize, life: u64 },
    Sync { node: usize, life: u64, number: u64 },
    Start(usize),
    Crash { node: usize, life: u64 },
    Fault,
    Client,
    Operator,
    Mend(u64),
}

pub struct World {
    random: Random,
    options: Options,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    checks: Checks,
    summary: Summary,
    next_eid: u64,
    /// The last command that was acknowledged.
    done: u64,
    /// Faults end then.
    calm: u64,
    loss: u64,
    doubling: u64,
    delay: u64,
    late: u64,
    fault_every: u64,
    client_every: u64,
    sync_time: u64,
    operator_every: u64,
    /// Of a thousand promises that a server makes, after so many it crashes at once.
    crash_after_promise: u64,
    entries_max: usize,
    /// Links that carry nothing, one way, and which fault cut them.
    cuts: BTreeMap<(usize, usize), u64>,
    kicked: BTreeSet<Uuid>,
}

fn node_id(n: usize) -> Uuid {
    Uuid::from_u64_pair((n as u64 + 1) << 48 | 0x4000, 0x8000 << 48 | n as u64)
}

fn address(n: usize) -> String {
    format!("tcp:10.0.0.{}:6644", n + 1)
}

fn cluster_id() -> Uuid {
    Uuid::from_u64_pair(0xc105_0000_0000_4000, 0x8000_0000_0000_0001)
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let n = [1, 2, 3, 3, 3, 4, 5][random.below(7) as usize];
        let quiet = random.chance(150);
        let mut world = Self {
            options,
            now: 1000,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: Vec::new(),
            checks: Checks::default(),
            summary: Summary::default(),
            next_eid: 1,
            done: 0,
            calm: 1000 + 5000 + random.below(25_000),
            loss: if quiet { 0 } else { random.below(200) },
            doubling: random.below(100),
            delay: 1 + random.below(60),
            late: random.below(60),
            fault_every: match random.below(10) {
                0..=2 => 20 + random.below(300),
                _ => 200 + random.below(4000),
            },
            client_every: 10 + random.below(150),
            sync_time: match random.below(10) {
                0..=2 => 50 + random.below(600),
                _ => 1 + random.below(60),
            },
            operator_every: match random.below(10) {
                0..=3 => 30 + random.below(300),
                _ => 2500,
            },
            crash_after_promise: match random.below(10) {
                0..=3 => random.below(60),
                _ => 0,
            },
            entries_max: match random.below(10) {
                0..=3 => 1 + random.below(3) as usize,
                _ => 1000,
            },
            cuts: BTreeMap::new(),
            kicked: BTreeSet::new(),
            random,
        };
        let servers: Servers = (0..n).map(|i| (node_id(i), address(i))).collect();
        let snapshot = Snapshot {
            index: FIRST,
            term: 1,
            eid: Uuid::nil(),
            data: "[\"0\"]".into(),
            servers: Arc::new(servers),
            election_timer: 100 + world.random.below(1200),
        };
        for _ in 0..n {
            let cluster = cluster_id();
            let snapshot = snapshot.clone();
            world.add_node(HeaderState::Member { cluster, snapshot });
        }
        for event in [Event::Fault, Event::Client, Event::Operator] {
            world.later(1 + n as u64, event);
        }
        world
    }

    fn add_node(&mut self, state: HeaderState) {
        let n = self.nodes.len();
        let header = Header {
            server: node_id(n),
            local_address: address(n),
            name: "Fleet".to_owned(),
            state,
        };
        self.nodes.push(Node {
            id: node_id(n),
            raft: None,
            disk: Disk::new(&header),
            life: 0,
            ahead: n as u64 * 1000,
            tick_at: 0,
            last_write: 0,
            synced: 0,
            commit: 0,
            index: 0,
            eid: Uuid::nil(),
            sum: 0,
            left: false,
        });
        self.later(0, Event::Start(n));
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    pub fn run(mut self) -> Result<Summary, Failure> {
        let seed_end = self.calm;
        while self.now < seed_end {
            self.step()?;
        }
        self.settle()?;
        self.summary.acknowledged = self.checks.acknowledged;
        Ok(self.summary)
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:6} {}", self.now, text());
        }
    }

    fn step(&mut self) -> Result<(), Failure> {
        let Some(((time, _), event)) = self.events.pop_first() else {
            return Err(Failure("nothing happens any more".to_owned()));
        };
        self.now = time;
        self.summary.steps += 1;
        let calm = self.now >= self.calm;
        match event {
            Event::Deliver { to, message } => {
                let message = Message::clone(&message);
                self.input(to, Input::Message(message))?;
            }
            Event::Tick { node, life } if self.nodes[node].life == life => {
                self.nodes[node].tick_at = 0;
                self.input(node, Input::Tick)?;
            }
            Event::Sync { node, life, number } if self.nodes[node].life == life => {
                self.nodes[node].disk.sync(number);
                self.input(node, Input::Synced(number))?;
            }
            Event::Start(node) => self.start(node)?,
            Event::Crash { node, life } if !calm && self.nodes[node].life == life => {
                self.crash(node);
            }
            Event::Client => {
                self.client()?;
                let delay = 1 + self.random.below(2 * self.client_every);
                self.later(delay, Event::Client);
            }
            Event::Fault if !calm => {
                self.fault()?;
                let delay = 1 + self.random.below(2 * self.fault_every);
                self.later(delay, Event::Fault);
            }
            Event::Operator if !calm => {
                self.operator()?;
                let delay = 1 + self.random.below(self.operator_every);
                self.later(delay, Event::Operator);
            }
            Event::Mend(fault) => self.cuts.retain(|_, f| *f != fault),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, n: usize) -> Result<(), Failure> {
        if self.nodes[n].raft.is_some() || self.nodes[n].left {
            return Ok(());
        }
        let seed = self.random.next();
        let node = &mut self.nodes[n];
        let stored = match node.disk.read() {
            Ok(stored) => stored,
            // Its last words were that it left.
            Err(e) if e.0.contains("has left the cluster") => {
                node.left = true;
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let started = Raft::new(stored, self.now + node.ahead, seed);
        let mut raft = match started {
            Ok(raft) => raft,
            // Removed without being told.
            Err(e) if e.to_string().contains("does not belong") => {
                node.left = true;
                return Ok(());
            }
            Err(e) => return Err(Failure(format!("cannot start: {e}"))),
        };
        raft.limit_entries(self.entries_max);
        if let Some(prepare) = self.options.prepare {
            prepare(&mut raft);
        }
        (node.life, node.tick_at) = (node.life + 1, 0);
        (node.last_write, node.synced, node.commit) = (0, 0, 0);
        node.raft = Some(raft);
        self.trace(|| format!("start {n}"));
        self.after(n)
    }

    fn input(&mut self, n: usize, input: Input) -> Result<(), Failure> {
        let node = &mut self.nodes[n];
        let Some(raft) = &mut node.raft else {
            return Ok(());
        };
        raft.input(self.now + node.ahead, input);
        self.after(n)
    }

    /// Checks a machine and does what it wants.
    fn after(&mut self, n: usize) -> Result<(), Failure> {
        self.check(n)?;
        while let Some(output) = self.nodes[n].raft.as_mut().and_then(Raft::output) {
            self.perform(n, output)?;
        }
        let node = &mut self.nodes[n];
        let Some(raft) = &node.raft else {
            return Ok(());
        };
        let at = raft.timeout().saturating_sub(node.ahead).max(self.now + 1);
        let (life, left) = (node.life, raft.has_left());
        if !left && at < u64::MAX / 2 && (node.tick_at == 0 || at < node.tick_at) {
            node.tick_at = at;
            let delay = at - self.now;
            self.later(delay, Event::Tick { node: n, life });
        }
        if self.nodes[n].last_write > self.nodes[n].synced {
            let number = self.nodes[n].last_write;
            self.nodes[n].synced = number;
            let delay = self.random.below(self.sync_time);
            self.later(
                delay,
                Event::Sync {
                    node: n,
                    life,
                    number,
                },
            );
        }
        Ok(())
    }

    fn check(&mut self, n: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[n];
        let Some(raft) = &node.raft else {
            return Ok(());
        };
        // What this server had committed, in this life or another, first.
        for index in node.commit.max(raft.first_index() - 1) + 1..=raft.commit() {
            self.checks.commit(raft, index)?;
        }
        node.commit = raft.commit();
        if raft.role() == Role::Leader && self.checks.leader(raft)? {
            self.summary.elections += 1;
        }
        Ok(())
    }

    fn perform(&mut self, n: usize, output: Output) -> Result<(), Failure> {
        match output {
            Output::Send { to, message } => {
                self.trace(|| format!("{n} -> {to:?} {:?}", message.body));
                self.promise(n, &message.body);
                self.send(n, to, message)?;
            }
            Output::Write { number, write } => {
                let node = &mut self.nodes[n];
                node.last_write = number;
                node.disk.write(number, &write);
                if let (ferrovs_raft::machine::Write::Append(record), Some(raft)) =
                    (&write, &node.raft)
                    && let RecordBody::Entry { index, entry } = &record.body
                {
                    self.checks.entry(raft, *index, entry)?;
                }
            }
            Output::Install(snapshot) => {
                self.summary.snapshots += 1;
                let sum = self.checks.snapshot(&snapshot)?;
                let node = &mut self.nodes[n];
                (node.index, node.eid, node.sum) = (snapshot.index, snapshot.eid, sum);
            }
            Output::Apply { index, payload } => {
                let node = &mut self.nodes[n];
                node.index = index;
                node.eid = payload.eid;
                node.sum = next_sum(node.sum, payload.eid);
                self.checks.state(index, node.eid, node.sum)?;
            }
            Output::Done { eid, status, index } => {
                if let (Status::Success, Some(index)) = (status, index) {
                    self.checks.acknowledged(eid, index)?;
                    self.done = self.done.max(eid.as_u64_pair().1);
                }
            }
            Output::Left => self.nodes[n].left = true,
            Output::Log(_, text) => self.trace(|| format!("{n} says {text}")),
            Output::Answer(_) => {}
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: Destination, message: Message) -> Result<(), Failure> {
        let to = self
            .nodes
            .iter()
            .enumerate()
            .position(|(i, node)| match &to {
                Destination::Server(id) => node.id == *id,
                Destination::Address(at) => *at == address(i),
            });
        let Some(to) = to else {
            return Ok(());
        };
        let calm = self.now >= self.calm;
        if !calm && (self.cuts.contains_key(&(from, to)) || self.random.chance(self.loss)) {
            return Ok(());
        }
        if self.random.chance(10) {
            self.round_trip(to, &message)?;
        }
        let message = Arc::new(message);
        let times = if !calm && self.random.chance(self.doubling) {
            2
        } else {
            1
        };
        for _ in 0..times {
            let mut delay = 1 + self.random.below(self.delay);
            if !calm && self.random.chance(self.late) {
                delay += self.random.below(4000);
            }
            let message = Arc::clone(&message);
            self.later(delay, Event::Deliver { to, message });
        }
        Ok(())
    }

    /// What is sent is what is read.
    fn round_trip(&self, to: usize, message: &Message) -> Result<(), Failure> {
        let wrong = |why: String| Failure(format!("{}: {why}", message.body.method()));
        let text = message.encode();
        let json = parse_bytes(&text).map_err(|e| wrong(e.to_string()))?;
        let params = json["params"].as_array().cloned().unwrap_or_default();
        let context = Context {
            server: self.nodes[to].id,
            cluster: Some(cluster_id()),
        };
        let method = json["method"].as_str().unwrap_or_default();
        let read = Message::decode(method, &params, context).map_err(|e| wrong(e.to_string()))?;
        if read == *message {
            return Ok(());
        }
        Err(wrong("another message was read".to_owned()))
    }

    /// A server that crashes right after it promised something may not know of it any more.
    fn promise(&mut self, n: usize, body: &Body) {
        let promise = match body {
            Body::AppendReply(m) => m.ok && m.n_entries > 0,
            Body::VoteReply(m) => !m.prevote,
            Body::AppendRequest(m) => !m.entries.is_empty(),
            Body::SnapshotReply(_) | Body::VoteRequest(_) => true,
            _ => false,
        };
        if promise && self.random.chance(self.crash_after_promise) {
            let life = self.nodes[n].life;
            let delay = self.random.below(10);
            self.later(delay, Event::Crash { node: n, life });
        }
    }

    fn crash(&mut self, n: usize) {
        if self.nodes[n].raft.take().is_none() {
            return;
        }
        self.trace(|| format!("crash {n}"));
        self.summary.crashes += 1;
        let node = &mut self.nodes[n];
        node.life += 1;
        node.disk.crash(&mut self.random);
        let delay = match self.random.below(3) {
            0 => 1,
            1 => self.random.below(500),
            _ => self.random.below(8000),
        };
        self.later(delay, Event::Start(n));
    }

    fn any_node(&mut self) -> usize {
        self.random.below(self.nodes.len() as u64) as usize
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| {
            let raft = node.raft.as_ref().filter(|r| r.role() == Role::Leader);
            raft.map(Raft::term)
        };
        let leaders = self.nodes.iter().enumerate();
        let leaders = leaders.filter_map(|(n, node)| Some((leads(node)?, n)));
        leaders.max().map(|(_, n)| n)
    }

    fn fault(&mut self) -> Result<(), Failure> {
        match self.random.below(10) {
            0..=2 => {
                let n = self.any_node();
                self.crash(n);
            }
            3 => {
                if let Some(n) = self.leader() {
                    self.crash(n);
                }
            }
            4 if self.random.chance(500) => {
                for n in 0..self.nodes.len() {
                    self.crash(n);
                }
            }
            5 | 6 => self.partition(),
            7 => {
                let (a, b) = (self.any_node(), self.any_node());
                self.cut([(a, b)].into());
            }
            8 => {
                let n = self.any_node();
                self.nodes[n].ahead += self.random.below(3000);
                self.input(n, Input::Tick)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Cuts the servers in two, perhaps the leader from the rest.
    fn partition(&mut self) {
        let mut side: BTreeSet<usize> = BTreeSet::new();
        match self.leader() {
            Some(leader) if self.random.chance(400) => {
                side.insert(leader);
            }
            _ => {
                for n in 0..self.nodes.len() {
                    if self.random.chance(500) {
                        side.insert(n);
                    }
                }
            }
        }
        let all = 0..self.nodes.len();
        let links = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
        let links = links.filter(|(a, b)| side.contains(a) != side.contains(b));
        let links = links.collect();
        self.cut(links);
    }

    fn cut(&mut self, links: Vec<(usize, usize)>) {
        let fault = self.sequence;
        self.trace(|| format!("cut {links:?}"));
        for link in links {
            self.cuts.insert(link, fault);
        }
        let delay = self.random.below(6000);
        self.later(delay, Event::Mend(fault));
    }

    fn client(&mut self) -> Result<(), Failure> {
        let n = match self.leader() {
            Some(leader) if self.random.chance(600) => leader,
            _ => self.any_node(),
        };
        self.submit(n)
    }

    fn submit(&mut self, n: usize) -> Result<(), Failure> {
        let node = &self.nodes[n];
        if node.raft.as_ref().is_none_or(|r| r.commit() < FIRST) {
            return Ok(());
        }
        let eid = Uuid::from_u64_pair(0xe1d0_0000_0000_4000, 0x8000 << 48 | self.next_eid);
        self.next_eid += 1;
        let prereq = node.eid;
        self.checks.command(eid, prereq);
        let data = format!("[null,{{\"n\":{}}}]", self.next_eid).into();
        self.input(n, Input::Command { eid, prereq, data })
    }

    fn operator(&mut self) -> Result<(), Failure> {
        let n = self.any_node();
        match self.random.below(8) {
            0 | 1 => self.compact(n),
            2 => match self.leader() {
                Some(leader) => {
                    let ms = 100 + self.random.below(1500);
                    self.input(leader, Input::ChangeElectionTimer(ms))
                }
                None => Ok(()),
            },
            3 => match self.leader() {
                Some(leader) => self.input(leader, Input::Transfer("test")),
                None => Ok(()),
            },
            4 | 5 if self.nodes.len() < 7 => {
                let remotes = (0..self.nodes.len()).map(address).collect();
                let cluster = self.random.chance(500).then(cluster_id);
                self.trace(|| "join".to_owned());
                self.add_node(HeaderState::Joining { cluster, remotes });
                Ok(())
            }
            6 if self.members() > 2 => self.input(n, Input::Leave),
            7 if self.members() > 2 => {
                let target = self.any_node();
                let target = self.nodes[target].id;
                self.kicked.insert(target);
                self.input(n, Input::Kick(target))
            }
            _ => Ok(()),
        }
    }

    /// Servers that will be there at the end.
    fn members(&self) -> usize {
        let leader = self.leader();
        let raft = leader.and_then(|n| self.nodes[n].raft.as_ref());
        raft.map_or(0, |raft| raft.servers().len())
    }

    fn compact(&mut self, n: usize) -> Result<(), Failure> {
        let node = &self.nodes[n];
        let Some(raft) = &node.raft else {
            return Ok(());
        };
        let index = raft.commit();
        let data = format!("[\"{}\"]", node.sum).into();
        self.input(n, Input::Compact { index, data })
    }

    /// All faults are over: the cluster has to come to work again, and to agree.
    fn settle(&mut self) -> Result<(), Failure> {
        self.cuts.clear();
        self.client_every = 300;
        // Disks that take longer than the election timer are a fault too.
        self.sync_time = self.sync_time.min(30);
        self.delay = self.delay.min(30);
        for n in 0..self.nodes.len() {
            self.later(1, Event::Start(n));
        }
        let deadline = self.now + 120_000;
        let before = self.next_eid;
        while self.now < deadline {
            let until = self.now + 500;
            while self.now < until {
                self.step()?;
            }
            if self.done >= before && self.agree() {
                self.summary.members = self.members() as u64;
                return Ok(());
            }
        }
        // A cluster may have lost its majority for good: servers that left in the middle of it.
        if self.lost_majority() {
            return Ok(());
        }
        Err(Failure(NOT_BACK.to_owned()))
    }

    fn agree(&self) -> bool {
        let Some(leader) = self.leader().and_then(|n| self.nodes[n].raft.as_ref()) else {
            return false;
        };
        let here = |node: &&Node| leader.servers().contains_key(&node.id) && !node.left;
        let mut members = self.nodes.iter().filter(here);
        let committed = self.checks.last_committed();
        leader.commit() == committed
            && members.all(|node| {
                let raft = node.raft.as_ref();
                raft.is_some_and(|r| {
                    r.commit() == committed && r.last_index() == leader.last_index()
                })
            })
    }

    fn lost_majority(&self) -> bool {
        let newest = self.nodes.iter().filter_map(|node| node.raft.as_ref());
        let newest = newest.filter(|r| !r.has_left());
        let Some(newest) = newest.max_by_key(|r| (r.term_at(r.last_index()), r.last_index()))
        else {
            return true;
        };
        let alive = |id: &&Uuid| {
            let node = self.nodes.iter().find(|node| node.id == **id);
            node.is_some_and(|node| node.raft.as_ref().is_some_and(|r| !r.has_left()))
        };
        let servers = newest.servers();
        servers.keys().filter(alive).count() < servers.len() / 2 + 1
    }
}
