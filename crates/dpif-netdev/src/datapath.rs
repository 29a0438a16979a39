//! The datapath as the program's main thread uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
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
use crate::thread::{Message, Thread};
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
    ports: RwLock<Ports>,
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
            ports: RwLock::default(),
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
        self.ports_mut().insert(port.clone());
        self.port_log.note(&port.name);
        self.tell_all(|| Message::PortAdded(port.clone()));
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
        self.tell_all(|| Message::PortGone(port.clone()));
        if polled {
            self.reassign();
        }
        Some(port)
    }

    fn any_polled(&self) -> bool {
        self.ports().polled().next().is_some()
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        self.threads.load().iter().for_each(|t| t.post(message()));
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
        for port in self.ports().iter() {
            thread.post(Message::PortAdded(port.clone()));
        }
        thread.post(Message::Configure);
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
        crate::config::assign(self);
        let threads = self.threads.load();
        let polling = threads.iter().filter(|t| t.is_pmd());
        polling.for_each(|t| t.post(Message::Serve));
    }

    /// Gives a device the queues that it is to have, while no thread has one open. The caller holds `changing`.
    fn reconfigure(&self, port: &Arc<Port>) {
        self.tell_all(|| Message::PortGone(port.clone()));
        self.ask_all(Message::Barrier);
        if let Err(error) = port.netdev.reconfigure() {
            vlog::err!(
                DPIF_NETDEV,
                "Failed to set interface {} new configuration: {error}",
                port.name
            );
        }
        self.tell_all(|| Message::PortAdded(port.clone()));
    }

    /// Waits until every thread has done what was posted before, and what `message` asks for.
    fn ask_all(&self, message: impl Fn(SyncSender<()>) -> Message) {
        let threads = self.threads.load();
        let waits: Vec<_> = threads.iter().map(|t| t.ask(&message)).collect();
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
        {
            let mut now = lock(&port.config);
            if *now == *config && !other_queues {
                return Ok(());
            }
            now.clone_from(config);
        }
        if other_queues {
            self.reconfigure(&port);
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
        if port.netdev.is_pmd() {
            self.reassign();
        }
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
        self.ask_all(Message::Quiesce);
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
        *self.ports_mut() = Ports::default();
        self.handler.store(Arc::new(None));
    }
}
