//! The datapath as the program's main thread uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ferrovs_datapath::dpif::{
    DpPortInfo, DpStats, Dpif, DumpWant, Errno, FlowView, Op, PmdId, PortEvents, PortLog,
    PortStats, Shard,
};
use ferrovs_datapath::features::DpFeatures;
use ferrovs_datapath::upcall::UpcallHandler;
use ferrovs_netdev::{Flags, PortClass};
use ferrovs_packet::types::DpPort;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{clock, coverage, vlog};

use crate::config::Config;
use crate::counters::Count;
use crate::meter::Meters;
use crate::port::{Port, Ports};
use crate::thread::{Assigned, Message, Thread};
use crate::worker::Worker;

/// What this datapath can do.
const FEATURES: DpFeatures = DpFeatures {
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

pub struct Datapath {
    name: String,
    kind: &'static str,
    dummy: bool,
    me: Weak<Datapath>,
    pub epoch: Instant,
    pub ports: ArcSwap<Ports>,
    /// Held while ports or threads change.
    changing: Mutex<()>,
    pub threads: ArcSwap<Vec<Arc<Thread>>>,
    handles: Mutex<HashMap<PmdId, JoinHandle<()>>>,
    handler: ArcSwap<Option<Arc<dyn UpcallHandler>>>,
    /// Whether the handler is asked.
    recv: AtomicBool,
    pub config: ArcSwap<Config>,
    /// Whether a configuration has come yet.
    pub configured: AtomicBool,
    /// One packet in so many enters the exact-match cache; 0 for none.
    pub emc_inverse: AtomicU32,
    pub smc: AtomicBool,
    pub meters: Meters,
    /// Totals of threads that have ended.
    retired: Mutex<DpStats>,
    destroyed: AtomicBool,
    /// Tells every change of `ports`.
    port_log: Arc<PortLog>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(Errno::EINVAL.0))
}

impl Datapath {
    /// Creates a datapath with its local port and the thread for ports that are not polled.
    pub fn new(name: &str, kind: &'static str, dummy: bool) -> Result<Arc<Datapath>, Errno> {
        let dp = Arc::new_cyclic(|me| Datapath {
            me: me.clone(),
            name: name.to_owned(),
            kind,
            dummy,
            epoch: clock::now(),
            ports: ArcSwap::default(),
            changing: Mutex::default(),
            threads: ArcSwap::default(),
            handles: Mutex::default(),
            handler: ArcSwap::from_pointee(None),
            recv: AtomicBool::new(true),
            config: ArcSwap::from_pointee(Config {
                rxq_isolate: true,
                ..Config::default()
            }),
            configured: AtomicBool::new(false),
            emc_inverse: AtomicU32::new(crate::config::EMC_INVERSE),
            smc: AtomicBool::new(false),
            meters: Meters::default(),
            retired: Mutex::default(),
            destroyed: AtomicBool::new(false),
            port_log: Arc::default(),
        });
        let thread = Thread::new(PmdId::NON_PMD, 0).map_err(|e| errno(&e))?;
        dp.start(thread)?;
        let local = if dummy { "dummy-internal" } else { "tap" };
        if let Err(error) = dp.attach(name, local, Some(DpPort::LOCAL)) {
            dp.destroy();
            return Err(error);
        }
        Ok(dp)
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// Gives a port of a dummy datapath another number; the error is the text that the user sees.
    pub fn renumber(&self, name: &str, number: u32) -> Result<(), &'static str> {
        if !self.dummy {
            return Err("unknown datapath or not a dummy");
        }
        let _guard = lock(&self.changing);
        let mut ports = Ports::clone(&self.ports.load());
        let port = ports.by_name(name).cloned().ok_or("unknown port")?;
        if number == 0 || number == DpPort::NONE.0 {
            return Err("bad port number");
        }
        if ports.get(DpPort(number)).is_some() {
            return Err("port number already in use");
        }
        ports.remove(port.number);
        let mut new = Port::new(DpPort(number), &port.name, &port.kind, port.netdev.clone());
        new.emc = AtomicBool::new(port.emc_enabled());
        new.config = Mutex::new(lock(&port.config).clone());
        ports.insert(Arc::new(new));
        self.ports.store(Arc::new(ports));
        self.port_log.note(name);
        self.reassign();
        Ok(())
    }

    /// Gives the receive queues to the threads anew, on demand.
    pub fn rebalance(&self) {
        let _guard = lock(&self.changing);
        self.reassign();
    }

    pub fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Relaxed)
    }

    /// Starts a thread and adds it to the list.
    pub fn start(&self, thread: Thread) -> Result<(), Errno> {
        let thread = Arc::new(thread);
        let me = self.me.upgrade().ok_or(Errno::ENODEV)?;
        let taken: Vec<_> = self
            .threads
            .load()
            .iter()
            .map(|t| t.tx_id.load(Ordering::Relaxed))
            .collect();
        let free = (0..).find(|id| !taken.contains(id)).unwrap_or(0);
        thread.tx_id.store(free, Ordering::Relaxed);
        let worker = Worker::new(me, thread.clone()).map_err(|e| errno(&e))?;
        let name = if thread.is_pmd() {
            format!("pmd-c{:02}/id:", thread.id.0)
        } else {
            "dp".to_owned()
        };
        let handle = std::thread::Builder::new()
            .name(name)
            .stack_size(ferrovs_datapath::upcall::STACK_SIZE)
            .spawn(move || worker.run())
            .map_err(|e| errno(&e))?;
        lock(&self.handles).insert(thread.id, handle);
        let mut threads = Vec::clone(&self.threads.load());
        threads.push(thread);
        threads.sort_by_key(|t| (t.is_pmd(), t.id));
        self.threads.store(Arc::new(threads));
        Ok(())
    }

    /// Ends a thread and keeps its totals.
    pub fn stop(&self, thread: &Arc<Thread>) {
        let mut threads = Vec::clone(&self.threads.load());
        threads.retain(|t| !Arc::ptr_eq(t, thread));
        self.threads.store(Arc::new(threads));
        thread.post(Message::Exit);
        if let Some(handle) = lock(&self.handles).remove(&thread.id) {
            // A thread that panicked has said so; there is nothing more to do here.
            _ = handle.join();
        }
        add_stats(&mut lock(&self.retired), thread);
    }

    pub fn thread(&self, id: PmdId) -> Option<Arc<Thread>> {
        self.threads.load().iter().find(|t| t.id == id).cloned()
    }

    fn attach(&self, name: &str, kind: &str, wanted: Option<DpPort>) -> Result<DpPort, Errno> {
        let guard = lock(&self.changing);
        let mut ports = Ports::clone(&self.ports.load());
        if ports.by_name(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = match wanted {
            Some(number) if ports.get(number).is_some() => return Err(Errno::EBUSY),
            Some(number) => number,
            None => ports.choose(name, self.dummy).ok_or(Errno::EFBIG)?,
        };
        let netdev = ferrovs_netdev::open(name, kind).map_err(|e| errno(&e))?;
        let tunnel = matches!(netdev.class(), PortClass::Tunnel(_));
        if !netdev.is_ethernet() {
            vlog::err!(DPIF_NETDEV, "{name}: not an Ethernet device");
            return Err(Errno::EINVAL);
        }
        // Nobody has opened a queue of it yet.
        netdev.reconfigure().map_err(|e| errno(&e))?;
        if !tunnel {
            let flags = netdev.flags().map_err(|e| errno(&e))?;
            if flags.contains(Flags::LOOPBACK) {
                vlog::err!(DPIF_NETDEV, "{name}: cannot add a loopback device");
                return Err(Errno::EINVAL);
            }
            netdev
                .update_flags(Flags::empty(), Flags::PROMISC)
                .map_err(|e| errno(&e))?;
        }
        ports.insert(Arc::new(Port::new(number, name, kind, netdev)));
        self.ports.store(Arc::new(ports));
        self.port_log.note(name);
        self.reassign();
        drop(guard);
        Ok(number)
    }

    fn detach(&self, number: DpPort) -> Result<(), Errno> {
        {
            let _guard = lock(&self.changing);
            let mut ports = Ports::clone(&self.ports.load());
            let gone = ports.remove(number).ok_or(Errno::ENOENT)?;
            self.ports.store(Arc::new(ports));
            self.port_log.note(&gone.name);
            self.reassign();
        }
        // The threads let go of the device before its name can be used again.
        self.barrier();
        Ok(())
    }

    /// Gives the receive queues to the threads anew, starting and stopping threads as the configuration says.
    /// The caller holds `changing`.
    pub fn reassign(&self) {
        crate::config::assign(self);
        for thread in self.threads.load().iter() {
            thread.post(Message::Reload);
        }
    }

    /// Waits until no thread has a queue of the port open; what its queues are is assigned anew afterwards.
    fn close_queues(&self, port: &Arc<Port>) {
        port.closed.store(true, Ordering::Relaxed);
        for thread in self.threads.load().iter() {
            let rest = |a: &&Assigned| !Arc::ptr_eq(&a.port, port);
            let rest = thread.rxqs.load().iter().filter(rest).cloned().collect();
            thread.rxqs.store(Arc::new(rest));
            thread.post(Message::Reload);
        }
        self.barrier();
    }

    /// Waits until every thread has done what was posted before.
    fn barrier(&self) {
        let waits: Vec<_> = self.threads.load().iter().map(|t| t.barrier()).collect();
        for wait in waits {
            // An error means that the thread has ended, with all that was in its mailbox.
            _ = wait.recv_timeout(Duration::from_secs(10));
        }
    }

    /// Who answers misses, unless nobody shall just now.
    pub fn handler(&self) -> Option<Arc<dyn UpcallHandler>> {
        let enabled = self.recv.load(Ordering::Relaxed);
        enabled
            .then(|| Option::clone(&self.handler.load()))
            .flatten()
    }
}

fn add_stats(stats: &mut DpStats, thread: &Thread) {
    let c = &thread.counters;
    stats.n_hit += [
        Count::SimpleHit,
        Count::EmcHit,
        Count::SmcHit,
        Count::MegaflowHit,
    ]
    .map(|hit| c.total(hit))
    .iter()
    .sum::<u64>();
    stats.n_missed += c.total(Count::Miss);
    stats.n_lost += c.total(Count::Lost);
}

impl Dpif for Datapath {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn features(&self) -> DpFeatures {
        FEATURES
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn stats(&self) -> DpStats {
        let mut stats = *lock(&self.retired);
        for thread in self.threads.load().iter() {
            add_stats(&mut stats, thread);
            stats.n_flows += thread.flows.len() as u64;
        }
        stats
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
        let ports = self.ports.load();
        ports.get(port).map(|p| p.info()).ok_or(Errno::ENOENT)
    }

    fn port_by_name(&self, name: &str) -> Result<DpPortInfo, Errno> {
        let ports = self.ports.load();
        ports.by_name(name).map(|p| p.info()).ok_or(Errno::ENODEV)
    }

    fn ports(&self) -> Vec<DpPortInfo> {
        self.ports.load().iter().map(|p| p.info()).collect()
    }

    fn port_events(&self) -> PortEvents {
        self.port_log.subscribe()
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats, Errno> {
        let ports = self.ports.load_full();
        let port = ports.get(port).ok_or(Errno::ENODEV)?;
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
        let ports = self.ports.load_full();
        let port = ports.get(port).ok_or(Errno::ENODEV)?;
        let other_queues = port.netdev.requested() != port.netdev.layout();
        {
            let mut now = lock(&port.config);
            if *now == *config && !other_queues {
                return Ok(());
            }
            now.clone_from(config);
        }
        if other_queues {
            self.close_queues(port);
            if let Err(error) = port.netdev.reconfigure() {
                vlog::err!(
                    DPIF_NETDEV,
                    "Failed to set interface {} new configuration: {error}",
                    port.name
                );
            }
            port.closed.store(false, Ordering::Relaxed);
        }
        let emc = config.get("emc-enable").is_none_or(|v| v != "false");
        if port.emc.swap(emc, Ordering::Relaxed) != emc {
            let name = &port.name;
            match self.emc_inverse.load(Ordering::Relaxed) {
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
        self.reassign();
        Ok(())
    }

    fn set_config(&self, config: &BTreeMap<String, String>) {
        let _guard = lock(&self.changing);
        let Some(reassign) = crate::config::apply(self, config) else {
            return;
        };
        if reassign {
            self.reassign();
        }
        for thread in self.threads.load().iter() {
            thread.post(Message::Configure);
        }
    }

    fn operate(&self, ops: &mut [Op<'_>]) {
        crate::flows::operate(self, ops);
    }

    fn dump_shards(&self) -> usize {
        crate::flow_table::SHARDS
    }

    fn dump(&self, shard: Shard, _: DumpWant, visit: &mut dyn FnMut(&dyn FlowView)) {
        crate::flows::dump(self, shard, visit);
    }

    fn flow_flush(&self) {
        crate::flows::flush(self);
    }

    fn set_upcall_handler(&self, handler: Option<Arc<dyn UpcallHandler>>) {
        self.handler.store(Arc::new(handler));
    }

    fn recv_enable(&self, enable: bool) {
        self.recv.store(enable, Ordering::Relaxed);
    }

    fn quiesce(&self) {
        self.barrier();
    }

    fn meters(&self) -> Option<&dyn ferrovs_datapath::dpif::Meters> {
        Some(&self.meters)
    }

    fn destroy(&self) {
        if self.destroyed.swap(true, Ordering::SeqCst) {
            return;
        }
        coverage::DPIF_DESTROY.inc();
        for thread in self.threads.load_full().iter() {
            self.stop(thread);
        }
        let _guard = lock(&self.changing);
        self.ports.store(Arc::default());
        self.handler.store(Arc::new(None));
    }
}
