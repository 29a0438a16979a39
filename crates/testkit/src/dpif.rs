//! A datapath in memory that does what a test tells it, and fails as a test tells it.
//!
//! It shows that [`Dpif`] is a contract: nothing here knows of a switch, and a switch cannot tell it from a datapath that
//! forwards packets. It finds flows by trying one after the other, and runs the actions that edit and send packets.
//!
//! ```text
//!   receive ---> flow? -- yes --> count, run actions --> sent()
//!                      -- no ---> ask ---> UpcallHandler ---> Pending ---> install ---> answer
//! ```
//!
//! [`FakeDpif::receive`] does all of this. A test that wants something to happen between two steps takes them one by one.
//! Faults: [`FakeDpif::set_capacity`] (full), [`FakeDpif::while_dumping`] (slow: anything can happen meanwhile),
//! [`FakeDpif::lose_flows`] (lost).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferrovs_datapath::action::{Action, Userspace};
use ferrovs_datapath::dpif::{
    DpPortInfo, DpStats, Dpif, DpifClass, DumpWant, Errno, Execute, FlowAttrs, FlowEntry, FlowPut,
    FlowStats, FlowView, Meter, Meters, Op, PmdId, PortEvents, PortLog, PortStats, Shard, Ufid,
    port_number,
};
use ferrovs_datapath::edit::{self, Outcome};
use ferrovs_datapath::features::DpFeatures;
use ferrovs_datapath::offload::Offloaded;
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallKind};
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::types::DpPort;

/// What it says that it can do.
pub const FEATURES: DpFeatures = DpFeatures {
    masked_set_action: true,
    tnl_push_pop: true,
    ufid: true,
    trunc: true,
    clone: true,
    sample_nesting: 10,
    ct_eventmask: false,
    ct_clear: false,
    max_hash_alg: 1,
    check_pkt_len: true,
    ct_timeout: false,
    explicit_drop_action: true,
    lb_output_action: false,
    ct_zero_snat: false,
    add_mpls: true,
    psample: false,
    max_vlan_headers: 1,
    max_mpls_depth: 3,
    recirc: true,
    ct_state: false,
    ct_zone: false,
    ct_mark: false,
    ct_label: false,
    ct_state_nat: false,
    ct_orig_tuple: false,
    ct_orig_tuple6: false,
    nd_ext: true,
};

/// All flows belong to one thread.
pub const PMD: PmdId = PmdId(0);
/// How often a packet may be looked up.
const MAX_LOOKUPS: u32 = 8;

#[derive(Clone)]
struct FakeFlow {
    match_: Match,
    actions: Arc<[Action]>,
    stats: FlowStats,
}

#[derive(Default)]
struct Inner {
    flows: BTreeMap<Ufid, FakeFlow>,
    ports: BTreeMap<DpPort, DpPortInfo>,
    stats: DpStats,
    meters: BTreeMap<u32, Meter>,
    sent: Vec<(DpPort, Packet)>,
    handler: Option<Arc<dyn UpcallHandler>>,
}

type Hook = Box<dyn FnMut(&FakeDpif, Shard) + Send>;

/// See the module's text.
pub struct FakeDpif {
    inner: Mutex<Inner>,
    recv: AtomicBool,
    outlives: AtomicBool,
    shards: AtomicUsize,
    capacity: AtomicUsize,
    hook: Mutex<Option<Hook>>,
    port_log: Arc<PortLog>,
}

impl Default for FakeDpif {
    fn default() -> FakeDpif {
        FakeDpif {
            inner: Mutex::default(),
            recv: AtomicBool::new(true),
            outlives: AtomicBool::new(false),
            shards: AtomicUsize::new(4),
            capacity: AtomicUsize::new(usize::MAX),
            hook: Mutex::default(),
            port_log: Arc::default(),
        }
    }
}

/// A packet whose upcall was answered.
pub struct Pending {
    packet: Packet,
    actions: Arc<[Action]>,
    install: Option<(Install, FakeFlow)>,
    installed: bool,
}

impl Pending {
    /// Whether the switch wants a flow for it.
    pub fn wants_flow(&self) -> bool {
        self.install.is_some()
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeDpif {
    /// As the only datapath of a class, for switches that open theirs.
    pub fn class(self: &Arc<Self>) -> Arc<dyn DpifClass> {
        Arc::new(FakeClass(self.clone()))
    }

    /// At most so many flows from now on: a fault.
    pub fn set_capacity(&self, flows: usize) {
        self.capacity.store(flows, SeqCst);
    }

    /// Loses all flows without a word: a fault.
    pub fn lose_flows(&self) {
        lock(&self.inner).flows.clear();
    }

    /// Makes dumps slow: `hook` runs after each part of one, before whoever reads the dump goes on.
    pub fn while_dumping(&self, hook: impl FnMut(&FakeDpif, Shard) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// Ports and flows were there before the process, and will be after it.
    pub fn set_outlives_process(&self) {
        self.outlives.store(true, SeqCst);
    }

    /// The packets that were sent since the last call, and to where.
    pub fn sent(&self) -> Vec<(DpPort, Packet)> {
        std::mem::take(&mut lock(&self.inner).sent)
    }

    /// A packet comes in through a port. False if nobody could say what to do with it.
    pub fn receive(&self, port: DpPort, mut packet: Packet, now: Instant) -> bool {
        packet.md.in_port = port;
        self.handle(packet, now, 0)
    }

    /// A packet that no flow matches goes up: the first step of what [`FakeDpif::receive`] does with it.
    pub fn ask(&self, port: DpPort, mut packet: Packet) -> Option<Pending> {
        packet.md.in_port = port;
        let flow = Flow::from_packet(&mut packet);
        self.ask_about(packet, flow)
    }

    /// Installs the flow that the switch wants: the second step.
    pub fn install(&self, pending: &mut Pending) {
        let Some((install, flow)) = &pending.install else {
            return;
        };
        let mut inner = lock(&self.inner);
        if inner.flows.len() < self.capacity.load(SeqCst)
            && !inner.flows.contains_key(&install.ufid)
        {
            inner.flows.insert(install.ufid, flow.clone());
            pending.installed = true;
        }
    }

    /// Tells the switch how that ended, and runs the packet's actions: the last step.
    pub fn answer(&self, pending: Pending, now: Instant) {
        self.finish(pending, now, 0);
    }

    fn handler(&self) -> Option<Arc<dyn UpcallHandler>> {
        let recv = self.recv.load(SeqCst);
        recv.then(|| lock(&self.inner).handler.clone()).flatten()
    }

    fn handle(&self, mut packet: Packet, now: Instant, depth: u32) -> bool {
        let flow = Flow::from_packet(&mut packet);
        let hit = {
            let mut inner = lock(&self.inner);
            let mut all = inner.flows.values_mut();
            let hit = all.find(|f| matches(&f.match_, &flow));
            let actions = hit.map(|f| {
                f.stats.n_packets += 1;
                f.stats.n_bytes += packet.size() as u64;
                f.stats.used = Some(now);
                f.stats.tcp_flags |= flow.tcp_flags.get();
                f.actions.clone()
            });
            inner.stats.n_hit += u64::from(actions.is_some());
            actions
        };
        if let Some(actions) = hit {
            self.run_actions(packet, &actions, now, depth);
            return true;
        }
        let pending = self.ask_about(packet, flow);
        let answered = pending.is_some();
        if let Some(mut pending) = pending {
            self.install(&mut pending);
            self.finish(pending, now, depth);
        }
        answered
    }

    fn ask_about(&self, mut packet: Packet, flow: Flow) -> Option<Pending> {
        let reply = self.handler().and_then(|handler| {
            handler.upcall(Upcall {
                packet: &mut packet,
                flow: &flow,
                kind: UpcallKind::Miss,
                pmd: PMD,
                ufid: None,
                hash: None,
                mru: 0,
            })
        });
        let mut inner = lock(&self.inner);
        let Some(reply) = reply else {
            inner.stats.n_lost += 1;
            return None;
        };
        inner.stats.n_missed += 1;
        let actions = reply.flow_actions.unwrap_or_else(|| reply.actions.clone());
        let install = reply.install.map(|install| {
            let stats = FlowStats::default();
            let match_ = install.match_.expand();
            (
                install,
                FakeFlow {
                    match_,
                    actions,
                    stats,
                },
            )
        });
        Some(Pending {
            packet,
            actions: reply.actions,
            install,
            installed: false,
        })
    }

    fn finish(&self, pending: Pending, now: Instant, depth: u32) {
        if let Some((install, _)) = pending.install
            && let Some(handler) = self.handler()
        {
            handler.installed(install, PMD, pending.installed);
        }
        self.run_actions(pending.packet, &pending.actions, now, depth);
    }

    fn run_actions(&self, mut packet: Packet, actions: &[Action], now: Instant, depth: u32) {
        if depth > MAX_LOOKUPS {
            return;
        }
        for action in actions {
            match action {
                Action::Output(port) => lock(&self.inner).sent.push((*port, packet.duplicate())),
                Action::Userspace(userspace) => {
                    self.send_up(packet.duplicate(), userspace, actions, now, depth);
                }
                Action::Recirc(id) => {
                    let mut again = packet.duplicate();
                    again.md.recirc_id = *id;
                    self.handle(again, now, depth + 1);
                }
                Action::Clone(inner) => {
                    self.run_actions(packet.duplicate(), inner, now, depth + 1);
                }
                edit => {
                    if let Outcome::Drop = edit::apply(edit, &mut packet) {
                        return;
                    }
                }
            }
        }
    }

    fn send_up(
        &self,
        mut packet: Packet,
        userspace: &Userspace,
        actions: &[Action],
        now: Instant,
        depth: u32,
    ) {
        let flow = Flow::from_packet(&mut packet);
        let reply = self.handler().and_then(|handler| {
            handler.upcall(Upcall {
                packet: &mut packet,
                flow: &flow,
                kind: UpcallKind::Action {
                    userspace,
                    actions: if userspace.with_actions { actions } else { &[] },
                    egress_tunnel: None,
                },
                pmd: PMD,
                ufid: None,
                hash: None,
                mru: 0,
            })
        });
        if let Some(reply) = reply {
            self.run_actions(packet, &reply.actions, now, depth + 1);
        }
    }

    fn put(&self, put: &FlowPut<'_>) -> Result<(), Errno> {
        const ENOSPC: Errno = Errno(28);
        let mut inner = lock(&self.inner);
        let n_flows = inner.flows.len();
        match (inner.flows.get_mut(&put.ufid), put.put.create()) {
            (Some(_), _) if !put.put.modifies() => Err(Errno::EEXIST),
            (Some(flow), _) => {
                flow.actions = put.actions.clone();
                if put.zero_stats {
                    flow.stats = FlowStats::default();
                }
                Ok(())
            }
            (None, None) => Err(Errno::ENOENT),
            (None, Some(_)) if n_flows >= self.capacity.load(SeqCst) => Err(ENOSPC),
            (None, Some(match_)) => {
                let flow = FakeFlow {
                    match_: match_.expand(),
                    actions: put.actions.clone(),
                    stats: FlowStats::default(),
                };
                inner.flows.insert(put.ufid, flow);
                Ok(())
            }
        }
    }
}

fn matches(m: &Match, flow: &Flow) -> bool {
    let masks = m.wc.masks.words().iter();
    let mut words = masks.zip(m.flow.words()).zip(flow.words());
    words.all(|((mask, want), have)| (want ^ have) & mask == 0)
}

/// A flow as a dump shows it.
struct Shown(Ufid, FakeFlow);

impl FlowView for Shown {
    fn ufid(&self) -> Ufid {
        self.0
    }
    fn pmd(&self) -> PmdId {
        PMD
    }
    fn stats(&self) -> FlowStats {
        self.1.stats
    }
    fn key(&self) -> Flow {
        self.1.match_.flow
    }
    fn mask(&self) -> FlowWildcards {
        self.1.match_.wc
    }
    fn actions(&self) -> Arc<[Action]> {
        self.1.actions.clone()
    }
    fn attrs(&self) -> FlowAttrs {
        FlowAttrs {
            offloaded: Offloaded::No,
            dp_layer: "fake",
            dp_extra_info: None,
        }
    }
}

impl Dpif for FakeDpif {
    fn kind(&self) -> &'static str {
        "dummy"
    }

    fn name(&self) -> &str {
        "fake"
    }

    fn features(&self) -> DpFeatures {
        FEATURES
    }

    fn outlives_process(&self) -> bool {
        self.outlives.load(SeqCst)
    }

    fn stats(&self) -> DpStats {
        let inner = lock(&self.inner);
        DpStats {
            n_flows: inner.flows.len() as u64,
            ..inner.stats
        }
    }

    fn port_add(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno> {
        let mut inner = lock(&self.inner);
        if inner.ports.values().any(|p| p.name == name) {
            return Err(Errno::EEXIST);
        }
        let is_free = |n| !inner.ports.contains_key(&DpPort(n));
        let port = match wanted {
            Some(port) if is_free(port.0) => port,
            Some(_) => return Err(Errno::EBUSY),
            None => port_number(name, false, 1, is_free).ok_or(Errno::EFBIG)?,
        };
        let info = DpPortInfo {
            name: name.to_owned(),
            kind: kind.to_owned(),
            port,
            config: BTreeMap::new(),
        };
        inner.ports.insert(port, info);
        drop(inner);
        self.port_log.note(name);
        Ok(port)
    }

    fn port_del(&self, port: DpPort) -> Result<(), Errno> {
        let gone = lock(&self.inner).ports.remove(&port);
        self.port_log.note(&gone.ok_or(Errno::ENOENT)?.name);
        Ok(())
    }

    fn port_by_number(&self, port: DpPort) -> Result<DpPortInfo, Errno> {
        let inner = lock(&self.inner);
        inner.ports.get(&port).cloned().ok_or(Errno::ENOENT)
    }

    fn port_by_name(&self, name: &str) -> Result<DpPortInfo, Errno> {
        let inner = lock(&self.inner);
        let mut ports = inner.ports.values();
        ports.find(|p| p.name == name).cloned().ok_or(Errno::ENODEV)
    }

    fn ports(&self) -> Vec<DpPortInfo> {
        lock(&self.inner).ports.values().cloned().collect()
    }

    fn port_events(&self) -> PortEvents {
        self.port_log.subscribe()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, Errno> {
        self.port_by_number(port).map(|_| PortStats::default())
    }

    fn port_set_config(&self, port: DpPort, _: &BTreeMap<String, String>) -> Result<(), Errno> {
        self.port_by_number(port).map(|_| ())
    }

    fn set_config(&self, _: &BTreeMap<String, String>) {}

    fn operate(&self, ops: &mut [Op<'_>]) {
        for op in ops {
            match op {
                Op::Put { put, result } => *result = self.put(put),
                Op::Del { ufid, result, .. } => {
                    let gone = lock(&self.inner).flows.remove(ufid);
                    *result = gone.map(|f| f.stats).ok_or(Errno::ENOENT);
                }
                Op::Get { ufid, result, .. } => {
                    let found = lock(&self.inner).flows.get(ufid).cloned();
                    let found = found.ok_or(Errno::ENOENT);
                    *result = found.map(|f| Box::new(FlowEntry::of(&Shown(*ufid, f))));
                }
                Op::Execute { execute, result } => {
                    if let Some(Execute { actions, .. }) = execute {
                        let actions = actions.clone();
                        if let Some(packet) = execute.take().map(Execute::into_packet) {
                            self.run_actions(packet, &actions, now(), 0);
                        }
                        *result = Ok(());
                    }
                }
            }
        }
    }

    fn dump_shards(&self) -> usize {
        self.shards.load(SeqCst)
    }

    fn dump(&self, shard: Shard, _: DumpWant, visit: &mut dyn FnMut(&dyn FlowView)) {
        let all: Vec<Shown> = {
            let inner = lock(&self.inner);
            let of_shard = |ufid: &Ufid| ufid.0 as usize % shard.of == shard.index;
            let part = inner.flows.iter().filter(|(ufid, _)| of_shard(ufid));
            part.map(|(ufid, f)| Shown(*ufid, f.clone())).collect()
        };
        all.iter().for_each(|flow| visit(flow));
        let hook = lock(&self.hook).take();
        if let Some(mut hook) = hook {
            hook(self, shard);
            lock(&self.hook).get_or_insert(hook);
        }
    }

    fn flow_flush(&self) {
        self.lose_flows();
    }

    fn set_upcall_handler(&self, handler: Option<Arc<dyn UpcallHandler>>) {
        lock(&self.inner).handler = handler;
    }

    fn recv_enable(&self, enable: bool) {
        self.recv.store(enable, SeqCst);
    }

    /// Nothing waits here.
    fn quiesce(&self) {}

    fn meters(&self) -> Option<&dyn Meters> {
        Some(self)
    }

    fn destroy(&self) {
        *lock(&self.inner) = Inner::default();
    }
}

/// For packets that the switch made, and flows that they hit.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// They drop nothing.
impl Meters for FakeDpif {
    fn set(&self, id: u32, meter: &Meter, _: Instant) -> Result<(), Errno> {
        lock(&self.inner).meters.insert(id, meter.clone());
        Ok(())
    }

    fn stats(&self, id: u32) -> Result<Meter, Errno> {
        let inner = lock(&self.inner);
        inner.meters.get(&id).cloned().ok_or(Errno::ENOENT)
    }

    fn delete(&self, id: u32) -> Result<Meter, Errno> {
        lock(&self.inner).meters.remove(&id).ok_or(Errno::ENOENT)
    }
}

struct FakeClass(Arc<FakeDpif>);

impl DpifClass for FakeClass {
    fn kind(&self) -> &'static str {
        "dummy"
    }

    fn enumerate(&self) -> Vec<String> {
        vec![self.0.name().to_owned()]
    }

    fn open(&self, _: &str, _: bool) -> Result<Arc<dyn Dpif>, Errno> {
        Ok(self.0.clone())
    }

    fn port_open_kind(&self, kind: &str) -> String {
        match kind {
            "internal" => "dummy-internal",
            other => other,
        }
        .to_owned()
    }
}
