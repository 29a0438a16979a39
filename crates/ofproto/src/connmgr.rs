//! The OpenFlow connections of one bridge: who is listened for, who is connected to, and what is told to whom.
//!
//! Primary controllers are those that the switch connects to (`tcp:`, `ssl:`, `unix:`): only they count for the
//! fail mode. Service connections come in through listeners (`ptcp:`, `pssl:`, `punix:`, and always
//! `<bridge>.mgmt`). Connections to `<bridge>.snoop` get copies of what a controller and the switch say.
//!
//! Connections know the switch by what it has to tell them ([`Events`](crate::ofproto::Events)), and give out messages
//! without knowing what they do: [`crate::bridge`] has them carried out and hands the answers back ([`Reply`]), with
//! what other connections are to hear ([`Notice`]). All of it lives on the main thread.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use ferrovs_openflow::version::Versions;
use ferrovs_runtime::{Poller, vlog};
use ferrovs_stream::{PStream, Stream, error_text};

use crate::ofproto::Ofproto;

pub mod bundle;
pub mod conn;
pub mod fail_open;
pub mod flow_events;
pub mod flow_mods;
pub mod hello;
pub mod monitor;
mod multipart;
pub mod packet_in;
pub mod parts;
pub mod rconn;
mod reply;
mod schedule;
mod settings;
mod tell;

pub use conn::{ConnKind, OfConn};
use fail_open::{Act, Controllers, FailOpen};
pub use multipart::Input;
use rconn::Rconn;
pub use reply::{Answer, Notice, Reply};
pub use settings::{ControllerSettings, ControllerStatus, FailMode};

static RL: vlog::RateLimit = vlog::RateLimit::new(1, 5);

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
    pub fail_mode: FailMode,
    fail_open: FailOpen,
    /// Whether flows are being restored after a restart: no controller is connected to before they are.
    pub restoring: bool,
    /// Generation id of the last role request that had one.
    generation_id: Option<u64>,
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
    fn allowed_versions(&self) -> Versions {
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

    /// Takes connections that wait.
    pub fn accept(&mut self, now: Instant) {
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

    /// Numbers of the connections there are.
    pub fn places(&self) -> Range<usize> {
        0..self.conns.len()
    }

    /// Does what is due on connection `i`. False if it does not count yet.
    pub fn run_conn(&mut self, i: usize, ofproto: &Ofproto, now: Instant) -> bool {
        let conn = &mut self.conns[i];
        if self.restoring && conn.kind == ConnKind::Primary && !conn.rconn.is_connected() {
            return false;
        }
        conn.run(now);
        conn.tun_table.clone_from(&ofproto.tun_table);
        monitor::resume(conn, &ofproto.tables, now);
        conn.expire_bundles(now);
        conn.expire_multipart(now);
        true
    }

    /// Connection `i`, and the generation id of all.
    pub fn conn_mut(&mut self, i: usize) -> (&mut OfConn, &mut Option<u64>) {
        (&mut self.conns[i], &mut self.generation_id)
    }

    /// Sends what is to be sent, and forgets connections that have ended.
    pub fn flush(&mut self, now: Instant) {
        for conn in &mut self.conns {
            conn.rconn.flush(now);
            conn.flow_mods
                .report(conn.rconn.name(), !conn.rconn.is_alive(), now);
        }
        self.conns.retain(|c| c.rconn.is_alive());
    }

    /// Whether the bridge, if left alone, is to be a learning switch.
    pub fn is_ungoverned(&self) -> bool {
        !self.has_controllers() && self.fail_mode == FailMode::Standalone
    }

    pub fn is_fail_open(&self) -> bool {
        self.fail_open.is_open()
    }

    /// What the fail mode asks for.
    pub fn run_fail_open(&mut self, now: Instant) -> Option<Act> {
        self.fail_open.run(self.governors(now), now)
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
