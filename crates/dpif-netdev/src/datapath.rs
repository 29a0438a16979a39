//! The datapath as the program's main thread uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ferrovs_datapath::conntrack::Conntrack;
use ferrovs_datapath::dpif::{
    DpPortInfo, DpStats, Dpif, DumpWant, Errno, FlowView, Op, PmdId, PortEvents, PortLog,
    PortStats, Shard,
};
use ferrovs_datapath::features::DpFeatures;
use ferrovs_datapath::offload::Offload;
use ferrovs_datapath::upcall::UpcallHandler;
use ferrovs_netdev::{Changes, Flags, Netdev, PortClass};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{clock, coverage, vlog};

use crate::balance::Balancer;
use crate::config::tell_sleep;
use crate::port::{Port, Ports};
use crate::shared::Shared;
use crate::thread::Message;
use crate::threads::{Threads, errno};
use crate::{flow_table, flows, queues};

/// What this datapath can do.
const FEATURES: DpFeatures = DpFeatures {
    masked_set_action: true,
    tnl_push_pop: true,
    ufid: true,
    trunc: true,
    clone: true,
    sample_nesting: 10,
    ct_eventmask: true,
    ct_clear: true,
    max_hash_alg: 1,
    check_pkt_len: true,
    ct_timeout: true,
    explicit_drop_action: true,
    lb_output_action: false,
    ct_zero_snat: true,
    add_mpls: true,
    psample: false,
    max_vlan_headers: 1,
    max_mpls_depth: 3,
    recirc: true,
    ct_state: true,
    ct_zone: true,
    ct_mark: true,
    ct_label: true,
    ct_state_nat: true,
    ct_orig_tuple: true,
    ct_orig_tuple6: true,
    nd_ext: true,
};

pub struct Datapath {
    kind: &'static str,
    dummy: bool,
    pub shared: Arc<Shared>,
    pub threads: Threads,
    ports: RwLock<Ports>,
    /// Held while ports or threads change.
    changing: Mutex<()>,
    /// Whether a configuration has come yet.
    configured: AtomicBool,
    destroyed: AtomicBool,
    /// Held by the main thread alone.
    balancer: Mutex<Balancer>,
    /// Devices may come to want other queues, as guests come and go.
    devices: Mutex<Changes>,
    /// Tells every change of `ports`.
    port_log: Arc<PortLog>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Datapath {
    /// Creates a datapath with its local port and the thread for ports that are not polled.
    pub fn new(name: &str, kind: &'static str, dummy: bool) -> Result<Arc<Datapath>, Errno> {
        crate::implementation::log_defaults();
        let shared = Shared::new(name, dummy);
        let dp = Arc::new(Datapath {
            kind,
            dummy,
            threads: Threads::new(shared.clone()),
            shared,
            ports: RwLock::default(),
            changing: Mutex::default(),
            configured: AtomicBool::new(false),
            destroyed: AtomicBool::new(false),
            balancer: Mutex::default(),
            devices: Mutex::default(),
            port_log: Arc::default(),
        });
        dp.threads.start(PmdId::NON_PMD, 0, &dp.ports())?;
        let local = if dummy { "dummy-internal" } else { "tap" };
        if let Err(error) = dp.attach(name, local, Some(DpPort::LOCAL)) {
            dp.destroy();
            return Err(error);
        }
        Ok(dp)
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.shared.name == name
    }

    /// Gives a port of a dummy datapath another number; the error is the text that the user sees.
    pub fn renumber(&self, name: &str, number: u32) -> Result<(), &'static str> {
        if !self.dummy {
            return Err("unknown datapath or not a dummy");
        }
        let _guard = lock(&self.changing);
        let old = self.ports().by_name(name).cloned();
        let old = old.ok_or("unknown port")?;
        if number == 0 || number == DpPort::NONE.0 {
            return Err("bad port number");
        }
        if self.ports().get(DpPort(number)).is_some() {
            return Err("port number already in use");
        }
        let mut new = Port::new(DpPort(number), name, &old.kind, old.netdev.clone());
        new.emc = AtomicBool::new(old.emc_enabled());
        new.spread = AtomicBool::new(old.spread.load(Ordering::Relaxed));
        new.config = Mutex::new(lock(&old.config).clone());
        self.take_out(old.number);
        self.put_in(Arc::new(new));
        Ok(())
    }

    /// The ports as they are now. Whoever holds this keeps them from changing.
    pub fn ports(&self) -> RwLockReadGuard<'_, Ports> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports_mut(&self) -> RwLockWriteGuard<'_, Ports> {
        self.ports.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a port and has the threads serve it. The caller holds `changing`.
    fn put_in(&self, port: Arc<Port>) {
        self.shared.drops.open(&port.drops);
        let config = lock(&port.config).clone();
        self.shared.offloads.port_added(&port, &config);
        self.ports_mut().insert(port.clone());
        self.port_log.note(&port.name);
        self.threads.tell(|| Message::PortAdded(port.clone()));
        if self.any_polled() {
            self.reassign();
        }
    }

    /// Takes a port out and has the threads let go of it, which they do when they come to it. The caller holds
    /// `changing`.
    fn take_out(&self, number: DpPort) -> Option<Arc<Port>> {
        let polled = self.any_polled();
        let port = self.ports_mut().remove(number)?;
        self.port_log.note(&port.name);
        self.shared.offloads.port_gone(number);
        self.threads.tell(|| Message::PortGone(port.clone()));
        if polled {
            self.reassign();
        }
        Some(port)
    }

    fn any_polled(&self) -> bool {
        self.ports().polled().next().is_some()
    }

    /// Gives the receive queues to the threads anew, on demand.
    pub fn rebalance(&self) {
        let _guard = lock(&self.changing);
        self.reassign();
    }

    pub fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Relaxed)
    }

    fn attach(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno> {
        let _guard = lock(&self.changing);
        let number = {
            let mut ports = self.ports_mut();
            if ports.by_name(name).is_some() {
                return Err(Errno::EEXIST);
            }
            match wanted {
                Some(number) if ports.get(number).is_some() => return Err(Errno::EBUSY),
                Some(number) => number,
                None => ports.choose(name, self.dummy).ok_or(Errno::EFBIG)?,
            }
        };
        let netdev = ferrovs_netdev::open(name, kind).map_err(|e| errno(&e))?;
        let tunnel = matches!(netdev.class(), PortClass::Tunnel(_));
        if !netdev.is_ethernet() {
            vlog::err!(DPIF_NETDEV, "{name}: not an Ethernet device");
            return Err(Errno::EINVAL);
        }
        if !tunnel {
            let flags = netdev.flags().map_err(|e| errno(&e))?;
            if flags.contains(Flags::LOOPBACK) {
                vlog::err!(DPIF_NETDEV, "{name}: cannot add a loopback device");
                return Err(Errno::EINVAL);
            }
        }
        // Nobody has opened a queue of it yet.
        set_up(&netdev).map_err(|e| errno(&e))?;
        if !tunnel {
            netdev
                .update_flags(Flags::empty(), Flags::PROMISC)
                .map_err(|e| errno(&e))?;
        }
        self.put_in(Arc::new(Port::new(number, name, kind, netdev)));
        Ok(number)
    }

    fn detach(&self, number: DpPort) -> Result<(), Errno> {
        let _guard = lock(&self.changing);
        self.take_out(number).map(drop).ok_or(Errno::ENOENT)
    }

    /// Gives the queues of polled ports to threads anew, starting and stopping threads as the configuration says.
    /// The caller holds `changing`.
    fn reassign(&self) {
        queues::assign(&self.threads, &self.shared.config.load(), &self.ports());
        lock(&self.balancer).changed();
        self.threads.tell_polling(|| Message::Serve);
    }

    /// Gives devices that changed the queues that they want now.
    fn follow_devices(&self) {
        let changed = lock(&self.devices).take();
        if changed.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let _guard = lock(&self.changing);
        let wants = |port: &&Arc<Port>| port.netdev.requested() != port.netdev.layout();
        let ports: Vec<Arc<Port>> = {
            let ports = self.ports();
            match &changed {
                Some(names) => {
                    let names: BTreeSet<&String> = names.iter().collect();
                    let named = names.into_iter().filter_map(|name| ports.by_name(name));
                    named.filter(wants).cloned().collect()
                }
                None => ports.iter().filter(wants).cloned().collect(),
            }
        };
        for port in &ports {
            self.reconfigure(port);
        }
        if !ports.is_empty() && self.any_polled() {
            self.reassign();
        }
    }

    /// Gives a device the queues that it is to have, while no thread has one open. One that cannot have them is no port
    /// any more. The caller holds `changing`.
    fn reconfigure(&self, port: &Arc<Port>) {
        self.threads.tell(|| Message::PortGone(port.clone()));
        self.threads.ask(Message::Barrier);
        if set_up(&port.netdev).is_err() {
            self.take_out(port.number);
            return;
        }
        self.threads.tell(|| Message::PortAdded(port.clone()));
    }
}

/// Makes what was asked of a device hold.
fn set_up(netdev: &Arc<dyn Netdev>) -> io::Result<()> {
    netdev.reconfigure().inspect_err(|_| {
        vlog::err!(
            DPIF_NETDEV,
            "Failed to set interface {} new configuration",
            netdev.name()
        );
    })
}

impl Dpif for Datapath {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn name(&self) -> &str {
        &self.shared.name
    }

    fn run(&self) {
        self.follow_devices();
        let config = self.shared.config.load();
        if !lock(&self.balancer).is_due(&config.auto_lb, clock::now()) {
            return;
        }
        let _guard = lock(&self.changing);
        let mut balancer = lock(&self.balancer);
        let shall = queues::shall_balance(&mut balancer, &self.threads, &config, &self.ports());
        drop(balancer);
        if shall {
            self.reassign();
        }
    }

    fn features(&self) -> DpFeatures {
        FEATURES
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn stats(&self) -> DpStats {
        self.threads.stats()
    }

    fn port_add(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno> {
        let port = self.attach(name, kind, wanted)?;
        coverage::DPIF_PORT_ADD.inc();
        Ok(port)
    }

    fn port_del(&self, port: DpPort) -> Result<(), Errno> {
        if port == DpPort::LOCAL {
            return Err(Errno::EINVAL);
        }
        self.detach(port)?;
        coverage::DPIF_PORT_DEL.inc();
        Ok(())
    }

    fn port_by_number(&self, port: DpPort) -> Result<DpPortInfo, Errno> {
        let ports = self.ports();
        ports.get(port).map(|p| p.info()).ok_or(Errno::ENOENT)
    }

    fn port_by_name(&self, name: &str) -> Result<DpPortInfo, Errno> {
        let ports = self.ports();
        ports.by_name(name).map(|p| p.info()).ok_or(Errno::ENODEV)
    }

    fn ports(&self) -> Vec<DpPortInfo> {
        self.ports().iter().map(|p| p.info()).collect()
    }

    fn port_events(&self) -> PortEvents {
        self.port_log.subscribe()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, Errno> {
        let port = self.ports().get(port).cloned().ok_or(Errno::ENODEV)?;
        let s = port.netdev.stats().map_err(|e| errno(&e))?;
        Ok(PortStats {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            collisions: s.collisions,
            rx_over_errors: s.rx_over_errors,
            rx_frame_errors: s.rx_frame_errors,
            tx_aborted_errors: None,
            tx_carrier_errors: None,
        })
    }

    fn port_set_config(
        &self,
        port: DpPort,
        config: &BTreeMap<String, String>,
    ) -> Result<(), Errno> {
        let _guard = lock(&self.changing);
        let port = self.ports().get(port).cloned().ok_or(Errno::ENODEV)?;
        let other_queues = port.netdev.requested() != port.netdev.layout();
        let old = std::mem::replace(&mut *lock(&port.config), config.clone());
        if old == *config && !other_queues {
            return Ok(());
        }
        let name = &port.name;
        if old.is_empty() {
            self.shared.offloads.port_configured(&port, config);
        }
        if other_queues {
            self.reconfigure(&port);
        }
        let emc = config.get("emc-enable").is_none_or(|v| v != "false");
        if port.emc.swap(emc, Ordering::Relaxed) != emc {
            match self.shared.config.load().emc_inverse {
                _ if !emc => vlog::info!(DPIF_NETDEV, "{name}: EMC has been disabled."),
                0 => vlog::info!(
                    DPIF_NETDEV,
                    "{name}: EMC has been enabled. Current insertion probability is zero."
                ),
                n => vlog::info!(
                    DPIF_NETDEV,
                    "{name}: EMC has been enabled. Current insertion probability is 1/{n} (~{:.2}%).",
                    100.0 / f64::from(n)
                ),
            }
        }
        let spread = config.get("tx-steering").is_some_and(|mode| mode == "hash");
        let steers = port.spread.swap(spread, Ordering::Relaxed) != spread;
        if steers {
            let mode = if spread { "hash" } else { "thread" };
            vlog::info!(
                DPIF_NETDEV,
                "{name}: Tx packet steering mode has been set to '{mode}'."
            );
        }
        let is_pinned = |config: &BTreeMap<_, _>| config.get("pmd-rxq-affinity").cloned();
        let pins = port.netdev.is_pmd() && is_pinned(&old) != is_pinned(config);
        if (other_queues || pins || steers) && self.any_polled() {
            self.reassign();
        }
        Ok(())
    }

    fn set_config(&self, config: &BTreeMap<String, String>) {
        let _guard = lock(&self.changing);
        let old = self.shared.config.load_full();
        let first = !self.configured.swap(true, Ordering::Relaxed);
        let Some(new) = old.next(config, first) else {
            return;
        };
        for thread in self.threads.list().iter().filter(|t| t.is_pmd()) {
            let core = thread.id.0;
            if new.sleep_of(core) != old.sleep_of(core) {
                tell_sleep(thread.numa, core, new.sleep_of(core));
            }
        }
        let reassign = new.assigns_otherwise(&old);
        self.shared.config.store(Arc::new(new));
        if reassign {
            self.reassign();
        }
        self.threads.tell(|| Message::Configure);
    }

    fn operate(&self, ops: &mut [Op<'_>]) {
        flows::operate(&self.threads.list(), &self.shared, ops);
    }

    fn dump_shards(&self) -> usize {
        flow_table::SHARDS
    }

    fn dump(&self, shard: Shard, _: DumpWant, visit: &mut dyn FnMut(&dyn FlowView)) {
        flows::dump(&self.threads.list(), shard, visit);
    }

    fn flow_flush(&self) {
        flows::flush(&self.threads.list(), &self.shared);
    }

    fn set_upcall_handler(&self, handler: Option<Arc<dyn UpcallHandler>>) {
        self.shared.set_handler(handler);
    }

    fn recv_enable(&self, enable: bool) {
        self.shared.ask_handler(enable);
    }

    fn quiesce(&self) {
        self.threads.ask(Message::Quiesce);
    }

    fn meters(&self) -> Option<&dyn ferrovs_datapath::dpif::Meters> {
        Some(&self.shared.meters)
    }

    fn offload(&self) -> Option<&dyn Offload> {
        Some(&self.shared.offloads)
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        Some(&self.shared.conntrack)
    }

    fn destroy(&self) {
        if self.destroyed.swap(true, Ordering::SeqCst) {
            return;
        }
        coverage::DPIF_DESTROY.inc();
        for thread in self.threads.list().iter() {
            self.threads.stop(thread);
        }
        let _guard = lock(&self.changing);
        *self.ports_mut() = Ports::default();
        self.shared.set_handler(None);
    }
}
