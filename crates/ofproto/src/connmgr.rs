//! The OpenFlow connections of one bridge: who is listened for, who is connected to, and what is told to whom.
//!
//! Primary controllers are those that the switch connects to (`tcp:`, `ssl:`, `unix:`): only they count for the
//! fail mode. Service connections come in through listeners (`ptcp:`, `pssl:`, `punix:`, and always
//! `<bridge>.mgmt`). Connections to `<bridge>.snoop` get copies of what a controller and the switch say.
//!
//! Messages are handled by [`crate::handlers`]; this module runs the connections and delivers what is not an
//! answer ([`Notice`]) to those connections that want it. All of it lives on the main thread; packets for
//! controllers arrive from other threads through [`packet_in::PacketInQueue`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::port::{PortDesc, PortStatus};
use ferrovs_openflow::switch::{AsyncType, Role, RoleReason, RoleStatus};
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_runtime::{Poller, vlog};
use ferrovs_stream::{PStream, Stream, error_text};

use crate::ofproto::Ofproto;
use crate::xlate::snapshot::AsyncPacketIn;

pub mod conn;
mod fail_open;
pub mod flow_mods;
pub mod hello;
mod multipart;
pub mod packet_in;
pub mod parts;
pub mod rconn;
mod schedule;

pub use conn::{ConnKind, OfConn};
use fail_open::{Act, Controllers, FailOpen};
use multipart::Input;
use rconn::Rconn;

/// Messages that one connection may have handled before others get their turn.
const MESSAGES_PER_TURN: usize = 500;

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

/// What happens to traffic when no primary controller is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMode {
    #[default]
    Standalone,
    Secure,
}

/// A `Controller` row, or a listener of the switch's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerSettings {
    pub target: String,
    /// Overrides what the target says about primary or service.
    pub kind: Option<ConnKind>,
    pub max_backoff: Duration,
    /// None turns probing off.
    pub probe_interval: Option<Duration>,
    pub enable_async_messages: bool,
    pub allowed_versions: Versions,
    /// Packet-ins per second; 0 is without limit.
    pub rate_limit: u32,
    pub burst_limit: u32,
    /// Packet-ins that may wait, 1 to 512; 0 means the default.
    pub max_pktq_size: u32,
    pub dscp: u8,
}

impl ControllerSettings {
    pub fn new(target: &str) -> ControllerSettings {
        ControllerSettings {
            target: target.to_string(),
            kind: None,
            max_backoff: Duration::from_secs(8),
            probe_interval: Some(Duration::from_secs(5)),
            enable_async_messages: true,
            allowed_versions: Versions::NONE,
            rate_limit: 0,
            burst_limit: 0,
            max_pktq_size: 0,
            dscp: ferrovs_stream::DSCP_DEFAULT,
        }
    }

    fn is_passive(&self) -> bool {
        ["punix:", "ptcp:", "pssl:"]
            .iter()
            .any(|p| self.target.starts_with(p))
    }

    fn kind(&self) -> ConnKind {
        let default = if self.is_passive() {
            ConnKind::Service
        } else {
            ConnKind::Primary
        };
        self.kind.unwrap_or(default)
    }
}

/// What the `Controller` row says about a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerStatus {
    pub is_connected: bool,
    /// `other`, `master` or `slave`.
    pub role: &'static str,
    /// Column `status`.
    pub pairs: BTreeMap<String, String>,
}

/// Something to tell to the connections that want it.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A port's description as it is, and as it was before a change.
    Port {
        status: PortStatus,
        old: Option<PortDesc>,
    },
    /// A connection became primary: the others that were become secondary.
    Demote { except: u64 },
    /// A group or meter mod of one connection, for the others.
    Request { from: u64, request: Message },
    TableStatus {
        vacancy_up: bool,
        desc: ferrovs_openflow::switch::TableDesc,
    },
}

/// A configured target.
struct Service {
    settings: ControllerSettings,
    /// The versions that its connections may negotiate: others need other connections.
    allowed: Versions,
    listener: Option<PStream>,
    /// The listener could not be opened; tried again at times.
    failed: bool,
}

/// See the module's text.
#[derive(Default)]
pub struct ConnMgr {
    bridge: String,
    allowed: Option<Versions>,
    services: BTreeMap<String, Service>,
    conns: Vec<OfConn>,
    snoop: Option<PStream>,
    next_id: u64,
    /// The message in the works; its memory serves for all.
    message: Vec<u8>,
    pub fail_mode: FailMode,
    fail_open: FailOpen,
    /// Whether flows are being restored after a restart: no controller is connected to before they are.
    pub restoring: bool,
    /// Generation id of the last role request that had one.
    pub generation_id: Option<u64>,
}

impl ConnMgr {
    pub fn new(bridge: &str) -> ConnMgr {
        ConnMgr {
            bridge: bridge.to_string(),
            next_id: 1,
            ..ConnMgr::default()
        }
    }

    /// The versions that connections may negotiate unless their settings say otherwise.
    pub fn allowed_versions(&self) -> Versions {
        self.allowed
            .filter(|v| !v.is_empty())
            .unwrap_or(Versions::ALL)
    }

    /// Takes effect when the controllers are set.
    pub fn set_allowed_versions(&mut self, versions: Versions) {
        self.allowed = Some(versions);
    }

    /// Whether the database names primary controllers.
    pub fn has_controllers(&self) -> bool {
        self.services
            .values()
            .any(|s| s.settings.kind() == ConnKind::Primary)
    }

    fn primaries(&self) -> impl Iterator<Item = &OfConn> {
        self.conns.iter().filter(|c| c.kind == ConnKind::Primary)
    }

    pub fn conns(&self) -> &[OfConn] {
        &self.conns
    }

    /// Makes the targets exactly these, beside the listener for management. Returns whether the bridge went
    /// from having primary controllers to having none, or the reverse.
    pub fn set_controllers(&mut self, wanted: Vec<ControllerSettings>, now: Instant) -> bool {
        let had = self.has_controllers();
        if self.snoop.is_none() {
            self.open_snoop();
        }
        let mut wanted: BTreeMap<String, ControllerSettings> =
            wanted.into_iter().map(|s| (s.target.clone(), s)).collect();
        let mgmt = ferrovs_runtime::dirs::rundir().join(format!("{}.mgmt", self.bridge));
        let mgmt = format!("punix:{}", mgmt.display());
        wanted
            .entry(mgmt.clone())
            .or_insert_with(|| ControllerSettings {
                probe_interval: Some(Duration::from_secs(60)),
                dscp: 0,
                ..ControllerSettings::new(&mgmt)
            });
        let gone: Vec<String> = self
            .services
            .keys()
            .filter(|target| !wanted.contains_key(*target))
            .cloned()
            .collect();
        for (target, settings) in wanted {
            self.set_service(target, settings, now);
        }
        gone.iter().for_each(|target| self.remove_service(target));
        had != self.has_controllers()
    }

    fn remove_service(&mut self, target: &str) {
        let Some(service) = self.services.remove(target) else {
            return;
        };
        let kind = service.settings.kind().name();
        vlog::info!(
            vlog::modules::CONNMGR,
            "{}: removed {kind} controller \"{target}\"",
            self.bridge
        );
        self.drop_conns(target);
    }

    fn drop_conns(&mut self, target: &str) {
        let now = ferrovs_runtime::clock::now();
        for conn in self.conns.iter_mut().filter(|c| c.service == target) {
            conn.flow_mods.report(conn.rconn.name(), true, now);
        }
        self.conns.retain(|c| c.service != target);
    }

    fn set_service(&mut self, target: String, settings: ControllerSettings, now: Instant) {
        let allowed = self.versions_for(&settings);
        if let Some(service) = self.services.get_mut(&target) {
            if service.allowed == allowed {
                if service.settings != settings {
                    for conn in self.conns.iter_mut().filter(|c| c.service == target) {
                        conn.kind = settings.kind();
                        conn.apply(&settings, allowed, now);
                    }
                    service.settings = settings;
                }
                return;
            }
            vlog::info!(
                vlog::modules::CONNMGR,
                "{}: Changes to controller \"{target}\" expects re-initialization: Re-initializing now.",
                self.bridge
            );
            self.services.remove(&target);
            self.drop_conns(&target);
        }
        let kind = settings.kind();
        let mut service = Service {
            settings: settings.clone(),
            allowed,
            listener: None,
            failed: false,
        };
        if settings.is_passive() {
            service.open(&self.bridge);
        } else {
            let mut rconn = Rconn::active(&self.bridge, &target, settings.dscp, allowed, now);
            rconn.run(now);
            self.add_conn(rconn, kind, &target, &settings, now);
        }
        let name = kind.name();
        vlog::info!(
            vlog::modules::CONNMGR,
            "{}: added {name} controller \"{target}\"",
            self.bridge
        );
        self.services.insert(target, service);
    }

    fn versions_for(&self, settings: &ControllerSettings) -> Versions {
        if settings.allowed_versions.is_empty() {
            self.allowed_versions()
        } else {
            settings.allowed_versions
        }
    }

    fn add_conn(
        &mut self,
        rconn: Rconn,
        kind: ConnKind,
        service: &str,
        settings: &ControllerSettings,
        now: Instant,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        let allowed = self.versions_for(settings);
        let mut conn = OfConn::new(id, rconn, kind, service, settings.clone());
        conn.apply(settings, allowed, now);
        self.conns.push(conn);
    }

    /// Opens `<bridge>.snoop`.
    fn open_snoop(&mut self) {
        let path = ferrovs_runtime::dirs::rundir().join(format!("{}.snoop", self.bridge));
        let target = format!("punix:{}", path.display());
        match PStream::open(&target) {
            Ok(listener) => self.snoop = Some(listener),
            Err(e) => {
                let text = error_text(&e);
                vlog::warn!(
                    vlog::modules::CONNMGR,
                    "failed to listen on {target}: {text}"
                );
            }
        }
    }

    /// Drops every connection to a controller; those that this side made are made anew.
    pub fn reconnect(&mut self, now: Instant) {
        for conn in &mut self.conns {
            conn.rconn.reconnect(now);
        }
    }

    /// Differs after a connection to a controller came, went or changed its state or role.
    pub fn status_seq(&self) -> u64 {
        let controllers = self.conns.iter().filter(|c| !self.is_mgmt(&c.service));
        controllers.fold(0u64, |sum, c| {
            let state = (c.rconn.state() as u64) << 8 | c.role as u64;
            // Spread, so that two changes do not cancel out.
            let mixed = (c.id << 16 ^ state ^ c.rconn.connection_seqno() << 40)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum.wrapping_add(mixed ^ mixed >> 29)
        })
    }

    fn is_mgmt(&self, target: &str) -> bool {
        let name = target.strip_suffix(".mgmt");
        name.and_then(|n| n.strip_suffix(self.bridge.as_str()))
            .is_some_and(|n| n.ends_with('/'))
    }

    /// States of the configured targets, for their rows.
    pub fn controller_status(&self, now: Instant) -> BTreeMap<String, ControllerStatus> {
        let mut all = BTreeMap::new();
        for (target, service) in &self.services {
            if self.is_mgmt(target) {
                continue;
            }
            let mut conns = self.conns.iter().filter(|c| c.service == *target);
            let mut status = ControllerStatus::default();
            if service.settings.is_passive() {
                let n = conns.clone().filter(|c| c.rconn.is_connected()).count();
                status.is_connected = n > 0;
                if n > 1 {
                    status.pairs.insert("n_connections".into(), n.to_string());
                }
            }
            if let Some(conn) = conns.next() {
                let more = std::mem::take(&mut status.pairs);
                status = conn.status(now);
                status.pairs.extend(more);
            }
            all.insert(target.clone(), status);
        }
        all
    }

    fn accept(&mut self, now: Instant) {
        let mut accepted: Vec<(Stream, ControllerSettings)> = Vec::new();
        for service in self
            .services
            .values_mut()
            .filter(|s| s.settings.is_passive())
        {
            if service.listener.is_none() && !service.failed {
                service.open(&self.bridge);
            }
            let Some(listener) = &mut service.listener else {
                continue;
            };
            loop {
                match listener.accept() {
                    Ok(Some(stream)) => accepted.push((stream, service.settings.clone())),
                    Ok(None) => break,
                    Err(e) => {
                        let (name, text) = (listener.name(), error_text(&e));
                        vlog::warn_rl!(
                            RL,
                            vlog::modules::CONNMGR,
                            "accept failed on {name} ({text})"
                        );
                        break;
                    }
                }
            }
        }
        for (stream, settings) in accepted {
            let allowed = self.versions_for(&settings);
            let rconn = Rconn::accepted(&self.bridge, stream, allowed, now);
            let target = settings.target.clone();
            self.add_conn(rconn, settings.kind(), &target, &settings, now);
        }
        while let Some(Ok(Some(stream))) = self.snoop.as_mut().map(PStream::accept) {
            let snooper = Rconn::accepted(&self.bridge, stream, Versions::ALL, now);
            let best = self.conns.iter_mut().max_by_key(|c| c.snoop_preference());
            match best.filter(|c| c.snoop_preference() > 0) {
                Some(conn) => {
                    let name = snooper.target();
                    vlog::info!(vlog::modules::RCONN, "new monitor connection from {name}");
                    conn.rconn.add_snooper(snooper);
                }
                None => {
                    vlog::info_rl!(
                        RL,
                        vlog::modules::CONNMGR,
                        "no controller connection to snoop"
                    );
                }
            }
        }
    }

    /// Handles what came on the connections, and tells what is to be told.
    pub fn run(&mut self, ofproto: &mut Ofproto, now: Instant) {
        self.accept(now);
        let mut i = 0;
        while i < self.conns.len() {
            self.run_conn(i, ofproto, now);
            i += 1;
        }
        self.deliver(ofproto, now);
        self.send_packet_ins(ofproto, now);
        for conn in &mut self.conns {
            conn.rconn.flush(now);
            conn.flow_mods
                .report(conn.rconn.name(), !conn.rconn.is_alive(), now);
        }
        self.conns.retain(|c| c.rconn.is_alive());
        if !self.restoring {
            self.run_fail_open(ofproto, now);
        }
        ofproto.packet_ins.set_wants_misses(self.wants_misses());
    }

    fn run_conn(&mut self, i: usize, ofproto: &mut Ofproto, now: Instant) {
        let conn = &mut self.conns[i];
        if self.restoring && conn.kind == ConnKind::Primary && !conn.rconn.is_connected() {
            return;
        }
        conn.run(now);
        conn.tun_table.clone_from(&ofproto.tun_table);
        crate::handlers::monitor::resume(conn, &ofproto.tables, now);
        conn.expire_bundles(now);
        conn.expire_multipart(now);
        for _ in 0..MESSAGES_PER_TURN {
            let conn = &mut self.conns[i];
            conn.continue_replies(now);
            if !conn.may_read() {
                break;
            }
            if !conn.rconn.recv(&mut self.message, now) {
                break;
            }
            // Whoever speaks now may be the controller that the bridge was waiting for.
            if self.fail_open.is_open() {
                self.run_fail_open(ofproto, now);
            }
            let conn = &mut self.conns[i];
            let generation = &mut self.generation_id;
            match conn.multipart.input(now, &self.message) {
                Input::Whole(m) => crate::handlers::handle(ofproto, conn, generation, &m, now),
                Input::Wait => {}
                Input::Refused(m, error) => crate::handlers::refuse(conn, &m, error, now),
            }
            conn.tun_table.clone_from(&ofproto.tun_table);
            self.deliver(ofproto, now);
        }
        self.conns[i].rconn.flush(now);
    }

    /// Delivers notices and events of the tables.
    fn deliver(&mut self, ofproto: &mut Ofproto, now: Instant) {
        ofproto
            .tables
            .set_monitors(self.conns.iter().map(|c| c.monitors.len()).sum());
        for event in ofproto.tables.take_events() {
            crate::handlers::flow_events::deliver(&mut self.conns, &event, now);
        }
        for notice in std::mem::take(&mut ofproto.notices) {
            self.tell(notice, now);
        }
    }

    fn tell(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Port { status, old } => {
                let reason = status.reason as u32;
                for conn in &mut self.conns {
                    if !conn.wants(AsyncType::PortStatus, reason) {
                        continue;
                    }
                    // A change that the connection's version cannot say is no news to it.
                    let say = |desc: &PortDesc| {
                        let body = Message::PortStatus(PortStatus {
                            reason: status.reason,
                            desc: desc.clone(),
                        });
                        let version = conn.version();
                        crate::codec::encode(
                            &Msg {
                                version,
                                xid: 0,
                                body,
                            },
                            &conn.tun_table,
                        )
                    };
                    if old
                        .as_ref()
                        .is_some_and(|old| say(old) == say(&status.desc))
                    {
                        continue;
                    }
                    conn.send(Message::PortStatus(status.clone()), now);
                }
            }
            Notice::Demote { except } => {
                let generation_id = self.generation_id.unwrap_or(u64::MAX);
                for conn in &mut self.conns {
                    if conn.id != except && conn.role == Role::Primary {
                        conn.role = Role::Secondary;
                        // Whoever loses its role is told, whatever else it wants to hear.
                        if conn.version() >= Version::V13 {
                            let status = RoleStatus {
                                role: Role::Secondary,
                                generation_id,
                                reason: RoleReason::PrimaryRequest,
                            };
                            conn.send(Message::RoleStatus(status), now);
                        }
                    }
                }
            }
            Notice::Request { from, request } => {
                let reason = u32::from(matches!(request, Message::MeterMod(_)));
                for conn in &mut self.conns {
                    if conn.id != from && conn.wants(AsyncType::RequestForward, reason) {
                        let request = Box::new(request.clone());
                        conn.send(Message::RequestForward { xid: 0, request }, now);
                    }
                }
            }
            Notice::TableStatus { vacancy_up, desc } => {
                let reason = if vacancy_up { 4 } else { 3 };
                for conn in &mut self.conns {
                    let has_message = conn.version() >= Version::V14;
                    if has_message && conn.wants(AsyncType::TableStatus, reason) {
                        conn.send(Message::TableStatus { vacancy_up, desc }, now);
                    }
                }
            }
        }
    }

    fn send_packet_ins(&mut self, ofproto: &mut Ofproto, now: Instant) {
        for packet_in in ofproto.packet_ins.take() {
            if !ofproto.forbids_packet_in(&packet_in) {
                self.send_packet_in(&packet_in, now);
            }
        }
        self.conns.iter_mut().for_each(|c| c.run_schedules(now));
    }

    fn send_packet_in(&mut self, packet_in: &AsyncPacketIn, now: Instant) {
        for conn in &mut self.conns {
            if conn.wants_packet_in(packet_in) {
                conn.schedule_packet_in(packet_in, now);
            }
        }
    }

    /// Whether a packet that meets no flow goes to some controller when its table does not say.
    fn wants_misses(&self) -> bool {
        self.conns.iter().any(|c| {
            c.rconn.is_connected() && c.version() < Version::V13 && c.wants(AsyncType::PacketIn, 0)
        })
    }

    /// Does what the fail mode asks for.
    fn run_fail_open(&mut self, ofproto: &mut Ofproto, now: Instant) {
        match self.fail_open.run(self.governors(now), now) {
            None => {}
            Some(Act::Open) => {
                ofproto.remove_flows(now);
                fail_open::set_rule(ofproto, true, now);
            }
            Some(Act::Close) => fail_open::set_rule(ofproto, false, now),
            Some(Act::Packet) => {
                let packet_in = fail_open::bogus_packet_in(now);
                self.send_packet_in(&packet_in, now);
            }
        }
    }

    /// What the fail mode has to know, if it is one that does something.
    fn governors(&self, now: Instant) -> Option<Controllers> {
        if self.fail_mode != FailMode::Standalone || !self.has_controllers() {
            return None;
        }
        let away = self.primaries().map(|c| c.rconn.failure_duration(now));
        let probes = self.primaries().filter_map(|c| c.rconn.probe_interval());
        Some(Controllers {
            // The one that was there last counts.
            away: away.min().flatten(),
            probe: probes.max().unwrap_or_default(),
            any_connected: self.primaries().any(|c| c.rconn.is_connected()),
        })
    }

    pub fn wait(&self, poller: &mut Poller) {
        for service in self.services.values() {
            if let Some(listener) = &service.listener {
                listener.wait(poller);
            }
        }
        if let Some(snoop) = &self.snoop {
            snoop.wait(poller);
        }
        for conn in &self.conns {
            if !self.restoring || conn.kind != ConnKind::Primary || conn.rconn.is_connected() {
                conn.wait(poller);
            }
        }
        if !self.restoring {
            self.fail_open.wait(poller);
        }
    }
}

impl Service {
    fn open(&mut self, bridge: &str) {
        let target = &self.settings.target;
        let port = Some(ferrovs_stream::OPENFLOW_PORT);
        match PStream::open_with(target, port, Some(self.settings.dscp)) {
            Ok(listener) => self.listener = Some(listener),
            Err(e) => {
                self.failed = true;
                let text = error_text(&e);
                vlog::err!(
                    vlog::modules::CONNMGR,
                    "{bridge}: failed to listen on {target}: {text}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
