//! The switch: the database on one side, bridges on the other, and the loop between them.
//!
//! At most one transaction is on its way at a time. A configuration is applied as soon as it is
//! seen; its outcome, with `cur_cfg`, goes back in one transaction, for which `ovs-vsctl` waits. A
//! database that changed meanwhile, or a transaction that failed, only means that it is done again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ferrovs_datapath::dpif::{Detach, DpifClass};
use ferrovs_datapath::offload;
use ferrovs_idl::open_vswitch::{self as db, OPEN_VSWITCH};
use ferrovs_idl::{Idl, Options, Status, Txn};
use ferrovs_netdev::Changes;
use ferrovs_ofproto::ofprotos::{DEFAULT_KIND, Ofprotos};
use ferrovs_ofproto::zones::Zones;
use ferrovs_packet::parse;
use ferrovs_runtime::memory::Usage;
use ferrovs_runtime::options::Ssl;
use ferrovs_runtime::vlog::modules::{BRIDGE, DPIF_OFFLOAD};
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_runtime::{Poller, clock, coverage};

use crate::apply;
use crate::auto_attach::AutoAttach;
use crate::bridges::Bridges;
use crate::closing::Closing;
use crate::config::{Config, Pairs, get_bool, get_int};
use crate::plan::{self, Step};
use crate::reader::Reader;
use crate::scope::Scope;
use crate::warnings::Warnings;
use crate::write::put;
use crate::{configure, refresh, rows};

/// Least time between two looks at the devices' states.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Least interval of statistics, and the default.
const STATS_INTERVAL_MS: i64 = 5000;

/// See the module's text.
pub struct Switch {
    idl: Idl,
    pub ofprotos: Ofprotos,
    ssl: Ssl,
    bridges: Bridges,
    config: Config,
    reader: Reader,
    /// What is to be read and applied, or was and did not arrive in the database yet.
    scope: Scope,
    /// The database's state that `config` was read from.
    seqno: u64,
    reconfigure: bool,
    txn: Option<Txn>,
    /// Whether the outcome of the first configuration is in the database.
    ready: bool,
    configured: bool,
    status_wanted: bool,
    next_status: Instant,
    next_stats: Instant,
    stats_interval: Duration,
    /// State of the controllers' connections when their rows were last written.
    controllers_seq: u64,
    /// After a transaction that failed, when to try again.
    not_before: Instant,
    devices_seq: u64,
    /// Some changed when it was looked the last time.
    devices_moved: bool,
    devices: Changes,
    /// Whether flows are being restored: `flow-restore-wait`.
    restoring: bool,
    warnings: Warnings,
    auto_attach: AutoAttach,
    /// Interfaces that do not work, and whether the host had a device of that name.
    broken: BTreeMap<String, bool>,
    closing: Closing,
}

impl Switch {
    /// A switch that takes its configuration from the database at `remote`.
    ///
    /// `ssl` is what the command line says about TLS; the database's `SSL` row overrules it.
    pub fn new(
        remote: &str,
        classes: Vec<Arc<dyn DpifClass>>,
        ssl: Ssl,
        now: Instant,
    ) -> std::io::Result<Switch> {
        ferrovs_stream::tls::configure(&ssl);
        let mut idl = Idl::new(remote, &OPEN_VSWITCH, Options::default(), now);
        rows::monitor(&mut idl);
        idl.track_changes();
        idl.set_lock(Some("ovs_vswitchd"));
        Ok(Switch {
            idl,
            ofprotos: Ofprotos::new(classes)?,
            ssl,
            bridges: Bridges::default(),
            config: Config::default(),
            reader: Reader::default(),
            scope: Scope::all(),
            seqno: 0,
            reconfigure: false,
            devices_moved: false,
            txn: None,
            ready: false,
            configured: false,
            status_wanted: false,
            next_status: now,
            next_stats: now,
            stats_interval: Duration::from_millis(STATS_INTERVAL_MS as u64),
            controllers_seq: 0,
            not_before: now,
            devices_seq: 0,
            devices: Changes::new(),
            restoring: false,
            warnings: Warnings::default(),
            auto_attach: AutoAttach::default(),
            broken: BTreeMap::new(),
            closing: Closing::default(),
        })
    }

    /// Whether the first configuration has been applied and its outcome written.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Does what is due.
    pub fn run(&mut self, now: Instant) {
        self.idl.run(now);
        self.finish_txn(now);
        if self.idl.is_lock_contended() {
            static RL: RateLimit = RateLimit::new(1, 1);
            vlog::err_rl!(
                RL,
                BRIDGE,
                "another ovs-vswitchd process is running, disabling this process (pid {}) until it goes away",
                ferrovs_sys::process::pid()
            );
            apply::remove_all(&mut self.ofprotos, &mut self.bridges, Detach::Keep);
            self.seqno = 0;
            self.scope = Scope::all();
            return;
        }
        if !self.configured && !self.may_configure(now) {
            return;
        }
        // Without its database the switch goes on with the configuration that it has.
        ferrovs_netdev::run();
        self.ofprotos.run(now);
        self.look_at_devices();
        self.reconfigure |= self.closing.ends();
        if self.may_configure(now) && self.is_stale() {
            self.configure(now);
        }
        if self.may_configure(now) {
            self.refresh(now);
        }
    }

    /// Whether the database can be written to, and nothing that was written is on its way.
    fn may_configure(&self, now: Instant) -> bool {
        self.txn.is_none()
            && self.idl.has_lock()
            && self.idl.is_connected()
            && now >= self.not_before
    }

    fn is_stale(&self) -> bool {
        self.reconfigure || self.idl.seqno() != self.seqno
    }

    /// Waits for something to do.
    pub fn wait(&self, poller: &mut Poller) {
        self.idl.wait(poller);
        if let Some(txn) = &self.txn {
            txn.wait(poller);
        }
        let now = clock::now();
        if self.may_configure(now) {
            if self.is_stale() {
                poller.wake_now();
            }
            if self.configured && !self.config.bridges.is_empty() {
                poller.wait_until(self.next_stats);
            }
            if self.status_wanted {
                poller.wait_until(self.next_status);
            }
            self.auto_attach.wait(poller);
        } else if self.txn.is_none() && now < self.not_before {
            poller.wait_until(self.not_before);
        }
        if self.configured {
            ferrovs_netdev::wait(poller);
            self.ofprotos.wait(poller);
            poller.wait_seq(ferrovs_netdev::change_seq(), self.devices_seq);
            self.closing.wait(poller);
        }
    }

    /// Counts what the switch holds, for `memory/show`.
    pub fn memory_usage(&self, usage: &mut Usage) {
        let (mut ports, mut rules) = (0, 0);
        for ofproto in self.ofprotos.ofprotos() {
            ports += ofproto.ports.len() as u64;
            rules += ofproto.n_rules() as u64;
        }
        let flows: usize = self.ofprotos.backers().map(|b| b.udpif.n_flows()).sum();
        let revalidators = self.ofprotos.backers().map(|b| b.udpif.n_revalidators());
        let revalidators = revalidators.sum::<usize>() as u64;
        for (name, n) in [
            ("ports", ports),
            ("revalidators", revalidators),
            ("rules", rules),
            ("udpif keys", flows as u64),
        ] {
            if n > 0 {
                usage.add(name, n);
            }
        }
        let mut cells = 0;
        for (table, def) in OPEN_VSWITCH.tables.iter().enumerate() {
            cells += (self.idl.table_rows(table).count() * def.columns.len()) as u64;
        }
        usage.add("idl-cells-Open_vSwitch", cells);
    }

    /// Takes everything down. Devices and datapaths stay for the next process unless `cleanup`.
    pub fn shut_down(&mut self, cleanup: bool) {
        ferrovs_netdev::set_keep_devices(!cleanup);
        // The lock goes with the connection: an answer that nobody reads would look like a failure to the server.
        let detach = if cleanup {
            Detach::Delete
        } else {
            Detach::Keep
        };
        apply::remove_all(&mut self.ofprotos, &mut self.bridges, detach);
        ferrovs_netdev::finish_closing();
    }

    fn finish_txn(&mut self, now: Instant) {
        let Some(mut txn) = self.txn.take() else {
            return;
        };
        match txn.commit(&mut self.idl) {
            Status::Incomplete | Status::Uncommitted => self.txn = Some(txn),
            Status::Success | Status::Unchanged => self.ready |= self.configured,
            status => {
                if let Status::Error(e) = &status {
                    static RL: RateLimit = RateLimit::new(5, 1);
                    vlog::err_rl!(RL, BRIDGE, "failed to write to the database: {e}");
                }
                // What it said may have been lost: say it again.
                self.fail(now);
            }
        }
    }

    /// Sends a transaction, or puts it aside if there is nothing in it.
    fn send(&mut self, mut txn: Txn) {
        match txn.commit(&mut self.idl) {
            Status::Incomplete | Status::Uncommitted => self.txn = Some(txn),
            Status::Success | Status::Unchanged => self.ready |= self.configured,
            _ => self.fail(clock::now()),
        }
    }

    fn fail(&mut self, now: Instant) {
        self.reconfigure = true;
        self.scope = Scope::all();
        self.not_before = now + STATUS_INTERVAL;
    }

    /// Notices devices that came and that a port waits for. One that goes keeps its port: the device
    /// takes up its successor by itself.
    fn look_at_devices(&mut self) {
        let seq = ferrovs_netdev::change_seq().read();
        let same = std::mem::replace(&mut self.devices_seq, seq) == seq;
        // A port that a datapath gave up for what became of its device may be missed a moment later.
        let moved = std::mem::replace(&mut self.devices_moved, !same);
        if (moved || !same) && !apply::lost(&self.ofprotos, &self.bridges).is_empty() {
            self.reconfigure = true;
        }
        if same {
            return;
        }
        self.status_wanted = true;
        for (name, existed) in &self.broken {
            if ferrovs_netdev::exists(name) != *existed {
                self.reconfigure = true;
            }
        }
        if configure::members_are_stale(&self.bridges, &self.config) {
            self.reconfigure = true;
            self.scope = Scope::all();
        }
    }

    fn datapath_kind(&self, wanted: &str) -> String {
        datapath_kind(&self.ofprotos.kinds(), wanted).to_string()
    }

    fn configure(&mut self, now: Instant) {
        coverage::BRIDGE_RECONFIGURE.inc();
        self.seqno = self.idl.seqno();
        self.reconfigure = false;
        let steps = self.plan(now);
        let mut outcome = apply::apply(
            &mut self.ofprotos,
            &mut self.bridges,
            &self.config,
            &mut self.scope,
            steps,
            &self.closing,
            now,
        );
        self.hold_while_restoring();
        self.auto_attach
            .configure(&mut self.ofprotos, &self.config, &self.scope);
        self.configure_zones();
        self.ofprotos.publish();
        self.note_broken();
        // Who is told that a port went finds no device of its name any more.
        outcome.gone.retain(|name| ferrovs_netdev::is_in_use(name));
        outcome.closing.extend(outcome.gone.drain(..));
        self.closing.set(outcome.closing.clone());
        if !outcome.closing.is_empty() {
            // The rest follows, and then who waits for the outcome is told.
            return;
        }
        let scope = std::mem::take(&mut self.scope);
        self.tell(&scope, &outcome);
    }

    /// Datapaths without a row have no zones of their own.
    fn configure_zones(&mut self) {
        let kinds: Vec<String> = self.ofprotos.backers().map(|b| b.kind.clone()).collect();
        let none = Zones::default();
        for kind in kinds {
            let mut rows = self.config.zones.iter();
            let row = rows.find(|(wanted, _)| self.datapath_kind(wanted) == kind);
            let zones = row.map_or(&none, |(_, zones)| zones);
            self.ofprotos.set_zones(&kind, zones);
        }
    }

    /// Reads what changed, and finds out what has to go and come.
    fn plan(&mut self, now: Instant) -> Vec<Step> {
        self.reader.note(&self.idl, &mut self.scope);
        let (bridges, broken) = (&self.bridges, self.broken.keys());
        plan::retry(
            &self.config,
            bridges,
            broken,
            bridges.unmet(),
            &mut self.scope,
        );
        self.reader
            .read(&self.idl, &mut self.config, &mut self.scope);
        self.warnings.run(&self.idl, self.scope.all);
        self.idl.clear_changes();
        self.tell_chosen_datapaths();
        if self.scope.all {
            self.apply_global(now);
        }
        let (config, scope) = (&self.config, &mut self.scope);
        apply::forget_lost(&self.ofprotos, &mut self.bridges, config, scope);
        let kinds = self.ofprotos.kinds();
        let kind_of = |wanted: &str| datapath_kind(&kinds, wanted).to_string();
        let steps = plan::plan(&self.config, &self.bridges, &self.scope, kind_of);
        // What is left out of the scope is as it should be.
        debug_assert_eq!(
            steps,
            plan::plan(&self.config, &self.bridges, &Scope::all(), kind_of)
        );
        steps
    }

    /// Writes how the configuration came out, and that it did.
    fn tell(&mut self, scope: &Scope, outcome: &apply::Outcome) {
        let mut txn = Txn::new();
        if scope.all {
            refresh::abilities(&mut txn, &self.idl, &self.ofprotos);
            let kind_of = |wanted: &str| self.datapath_kind(wanted);
            refresh::datapaths(&mut txn, &self.idl, &self.ofprotos, &self.config, kind_of);
        }
        refresh::outcome(&mut txn, &self.idl, outcome);
        refresh::bridges(&mut txn, &self.idl, &self.bridges, &self.config, scope);
        self.refresh_status(&mut txn);
        if let Some(root) = self.idl.first::<db::OpenVSwitch>() {
            let next = root.next_cfg();
            put(
                &mut txn,
                &self.idl,
                root.uuid(),
                db::OpenVSwitch::CUR_CFG,
                next,
            );
        }
        self.configured = true;
        self.send(txn);
    }

    /// Writes the state of the devices that changed. What depends on them is looked at again with the next change of
    /// the configuration.
    fn refresh_status(&mut self, txn: &mut Txn) {
        let (config, scope) = (&self.config, &mut self.scope);
        match self.devices.take() {
            Some(names) => {
                for name in names {
                    if let Some(place) = config.places.get(&name) {
                        self.bridges.untell(&place.bridge, &name);
                    }
                }
            }
            None => self.bridges.untell_all(),
        }
        refresh::status(txn, &self.idl, &mut self.bridges, |bridge, iface| {
            scope.look_at(config, bridge, iface);
        });
    }

    /// Says which datapath a new bridge gets whose row names none, or one that is not there.
    fn tell_chosen_datapaths(&self) {
        let names = self.scope.names(self.config.bridges.keys());
        for (name, b) in names
            .into_iter()
            .filter_map(|n| Some((n, self.config.bridges.get(n)?)))
        {
            let (wanted, kind) = (&b.datapath_type, self.datapath_kind(&b.datapath_type));
            let default = [DEFAULT_KIND, ""].contains(&wanted.as_str());
            if default && kind != DEFAULT_KIND && self.bridges.get(name).is_none() {
                vlog::info!(
                    BRIDGE,
                    "bridge {name}: there is no datapath of type {DEFAULT_KIND}, using {kind}"
                );
            }
        }
    }

    /// `Open_vSwitch.other_config`, as far as it concerns no single bridge.
    fn apply_global(&mut self, now: Instant) {
        let other: &Pairs = &self.config.other_config;
        let ms = get_int(other, "stats-update-interval", STATS_INTERVAL_MS);
        let interval = Duration::from_millis(ms.max(STATS_INTERVAL_MS) as u64);
        if self.stats_interval != interval {
            // Nobody waits for the end of an interval that does not hold any more.
            self.stats_interval = interval;
            self.next_stats = now;
        }
        if get_bool(other, "userspace-tso-enable", false) {
            ferrovs_netdev::offload::enable_userspace_tso();
        }
        configure_offload(other);
        if let Some((key, certificate, ca_cert, bootstrap)) = &self.config.tls {
            let mut ssl = self.ssl.clone();
            ssl.private_key = Some(key.into());
            ssl.certificate = Some(certificate.into());
            ssl.ca_cert = (!bootstrap).then(|| ca_cert.into());
            ssl.bootstrap_ca_cert = bootstrap.then(|| ca_cert.into());
            ferrovs_stream::tls::reconfigure(&ssl);
        }
        let settings = &self.ofprotos.settings;
        let int =
            |key: &str, default: i64, least: i64| get_int(other, key, default).max(least) as u64;
        settings
            .flow_limit
            .store(int("flow-limit", 200_000, 0) as usize, Relaxed);
        settings
            .max_idle_ms
            .store(int("max-idle", 10_000, 500), Relaxed);
        settings
            .max_revalidator_ms
            .store(int("max-revalidator", 500, 100), Relaxed);
        settings
            .min_revalidate_pps
            .store(int("min-revalidate-pps", 5, 0), Relaxed);
        let revalidators = int("n-revalidator-threads", 0, 0) as usize;
        settings.n_revalidators.store(revalidators, Relaxed);
        for backer in self.ofprotos.backers() {
            backer.udpif.set_revalidators(revalidators);
        }
        settings
            .bundle_idle_timeout_s
            .store(int("bundle-idle-timeout", 10, 1), Relaxed);
        let socket_dir = other.get("vhost-sock-dir").filter(|dir| !dir.is_empty());
        ferrovs_netdev::vhost::set_socket_dir(socket_dir.map(String::as_str));
        // What keys hold of a packet: flows that were installed before hold something else.
        let before = parse::vlan_limit();
        parse::set_vlan_limit(int("vlan-limit", 1, 0) as usize);
        if parse::vlan_limit() != before {
            self.ofprotos.backers().for_each(|b| b.udpif.changed());
        }
    }

    /// `flow-restore-wait`: as long as a script restores flows after a restart, no packet is handled
    /// by tables that are not complete, and no controller meddles.
    fn hold_while_restoring(&mut self) {
        let restoring = get_bool(&self.config.other_config, "flow-restore-wait", false);
        for backer in self.ofprotos.backers() {
            if restoring || self.restoring {
                backer.udpif.set_held(restoring);
            }
        }
        for name in self.scope.names(self.config.bridges.keys()) {
            if let Some(bridge) = self.ofprotos.bridge_mut(name) {
                bridge.connmgr.restoring = restoring;
            }
        }
        self.restoring = restoring;
    }

    /// Remembers which interfaces do not work.
    fn note_broken(&mut self) {
        if self.scope.all {
            self.broken.clear();
        }
        for part in self.scope.bridges.values() {
            for iface in &part.ifaces {
                self.broken.remove(iface);
            }
        }
        for name in self.scope.names(self.config.bridges.keys()) {
            let wanted = self.config.bridges.get(name);
            let (Some(wanted), Some(bridge)) = (wanted, self.bridges.get(name)) else {
                continue;
            };
            for port in configure::ports_of(wanted, &self.scope) {
                for i in port
                    .interfaces
                    .iter()
                    .filter(|i| bridge.iface(&i.name).is_none())
                {
                    let exists = ferrovs_netdev::exists(&i.name);
                    self.broken.insert(i.name.clone(), exists);
                }
            }
        }
    }

    /// Writes states that changed and, when it is time, statistics.
    fn refresh(&mut self, now: Instant) {
        let controllers_seq = self.ofprotos.bridges().fold(0u64, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(b.connmgr.status_seq())
        });
        self.status_wanted |= controllers_seq != self.controllers_seq;
        let status = self.status_wanted && now >= self.next_status;
        let stats = now >= self.next_stats;
        let vlans = self.auto_attach.is_due(&self.ofprotos, now);
        if !status && !stats && !vlans {
            return;
        }
        let mut txn = Txn::new();
        if vlans {
            self.auto_attach
                .write_vlans(&mut txn, &self.idl, &self.ofprotos, &self.config);
        }
        if status {
            self.status_wanted = false;
            self.next_status = now + STATUS_INTERVAL;
            self.refresh_status(&mut txn);
            self.controllers_seq = controllers_seq;
            refresh::controllers(&mut txn, &self.idl, &self.ofprotos, &self.config, now);
        }
        if stats {
            self.next_stats = now + self.stats_interval;
            let (idl, bridges) = (&self.idl, &self.bridges);
            refresh::statistics(&mut txn, idl, &self.ofprotos, bridges, &self.config, now);
        }
        self.send(txn);
    }
}

/// `hw-offload*`: what holds until the program ends.
fn configure_offload(other: &Pairs) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if get_bool(other, "hw-offload", false) && offload::enable() {
        vlog::info!(DPIF_OFFLOAD, "Flow HW offload is enabled");
    }
    let priority = other.get("hw-offload-priority").map_or("", String::as_str);
    if !offload::set_priority(priority) {
        TOLD.call_once(|| {
            vlog::info!(
                DPIF_OFFLOAD,
                "hw-offload-priority configuration changed; restart required"
            );
        });
    }
}

/// The type of datapath that a bridge gets: the one that its row names, or, for a row that names none or
/// the kernel's, the best there is.
fn datapath_kind<'a>(kinds: &[&str], wanted: &'a str) -> &'a str {
    match wanted {
        "" | DEFAULT_KIND if kinds.contains(&DEFAULT_KIND) => DEFAULT_KIND,
        "" | DEFAULT_KIND => "netdev",
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_for_the_kernels_datapath_get_the_best_there_is() {
        for wanted in ["", "system"] {
            assert_eq!(datapath_kind(&["netdev"], wanted), "netdev");
            assert_eq!(datapath_kind(&["netdev", "system"], wanted), "system");
        }
        for wanted in ["netdev", "dummy", "nope"] {
            assert_eq!(datapath_kind(&["netdev"], wanted), wanted);
        }
    }
}
