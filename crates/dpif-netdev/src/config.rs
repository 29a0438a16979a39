//! Configuration: which thread serves which receive queue, and how the caches are used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_datapath::dpif::{Errno, PmdId};
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{numa, vlog};

use crate::datapath::Datapath;
use crate::thread::{Assigned, Thread};

/// One packet in so many enters the exact-match cache unless configured otherwise.
pub const EMC_INVERSE: u32 = 100;

/// `Open_vSwitch.other_config` as far as it concerns the datapath.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub all: BTreeMap<String, String>,
    /// `pmd-cpu-mask`; none means one core of each NUMA node.
    pub pmd_cores: Option<BTreeSet<u32>>,
    /// `pmd-sleep-max` in microseconds: for all threads, and for those on some cores.
    pub pmd_sleep_max: u64,
    pub pmd_sleep_cores: BTreeMap<u32, u64>,
    /// `tx-flush-interval` in microseconds: how long packets may wait for others to be sent with.
    pub tx_flush_interval: u64,
    pub pmd_perf_metrics: bool,
    pub rxq_isolate: bool,
}

/// Cores of a hexadecimal mask.
pub fn parse_core_mask(mask: &str) -> Option<BTreeSet<u32>> {
    let mask = mask
        .strip_prefix("0x")
        .or(mask.strip_prefix("0X"))
        .unwrap_or(mask);
    let mut cores = BTreeSet::new();
    for (i, c) in mask.chars().rev().enumerate() {
        let digit = c.to_digit(16)?;
        cores.extend(
            (0..4)
                .filter(|b| digit >> b & 1 != 0)
                .map(|b| i as u32 * 4 + b),
        );
    }
    Some(cores)
}

/// Takes the configuration over. None when nothing has changed, else whether the assignment of queues must be
/// made anew.
pub fn apply(dp: &Datapath, all: &BTreeMap<String, String>) -> Option<bool> {
    let old = dp.config.load_full();
    if old.all == *all {
        return None;
    }
    let get = |key: &str| all.get(key).map(String::as_str);
    let flag = |key: &str| get(key) == Some("true");
    let emc = get("emc-insert-inv-prob")
        .and_then(|v| v.parse().ok())
        .unwrap_or(EMC_INVERSE);
    if dp.emc_inverse.swap(emc, Ordering::Relaxed) != emc {
        if emc == 0 {
            vlog::info!(DPIF_NETDEV, "EMC insertion probability changed to zero");
        } else {
            vlog::info!(
                DPIF_NETDEV,
                "EMC insertion probability changed to 1/{emc} (~{:.2}%)",
                100.0 / f64::from(emc)
            );
        }
    }
    let smc = flag("smc-enable");
    if dp.smc.swap(smc, Ordering::Relaxed) != smc {
        let state = if smc { "enabled" } else { "disabled" };
        vlog::info!(DPIF_NETDEV, "SMC cache is {state}");
    }
    let sleeps = parse_sleeps(get("pmd-sleep-max").unwrap_or_default());
    if sleeps.0 != old.pmd_sleep_max {
        vlog::info!(DPIF_NETDEV, "PMD max sleep request is {} usecs.", sleeps.0);
        let state = if sleeps.0 > 0 { "enabled" } else { "disabled" };
        vlog::info!(DPIF_NETDEV, "PMD load based sleeps are {state}.");
    }
    let tx_flush_interval = get("tx-flush-interval")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
        .min(MAX_FLUSH_INTERVAL);
    if tx_flush_interval != old.tx_flush_interval {
        vlog::info!(
            DPIF_NETDEV,
            "Flushing interval for tx queues set to {tx_flush_interval} us"
        );
    }
    let new = Config {
        all: all.clone(),
        pmd_cores: get("pmd-cpu-mask").and_then(parse_core_mask),
        pmd_sleep_max: sleeps.0,
        pmd_sleep_cores: sleeps.1,
        tx_flush_interval,
        pmd_perf_metrics: flag("pmd-perf-metrics"),
        rxq_isolate: get("pmd-rxq-isolate") != Some("false"),
    };
    let reassign = old.pmd_cores != new.pmd_cores
        || old.rxq_isolate != new.rxq_isolate
        || Algorithm::of(&old) != Algorithm::of(&new);
    dp.config.store(Arc::new(new));
    Some(reassign)
}

/// Longest `tx-flush-interval` in microseconds.
const MAX_FLUSH_INTERVAL: u64 = 1_000_000;
/// Longest `pmd-sleep-max` in microseconds.
const MAX_SLEEP: u64 = 10_000;

/// Reads `pmd-sleep-max`: a list of microseconds for all threads and `core:microseconds` for one.
fn parse_sleeps(text: &str) -> (u64, BTreeMap<u32, u64>) {
    let (mut all, mut cores) = (0, BTreeMap::new());
    for item in text.split([',', ' ']).filter(|i| !i.is_empty()) {
        match item.split_once(':') {
            Some((core, us)) => {
                if let (Ok(core), Ok(us)) = (core.parse(), us.parse::<u64>()) {
                    cores.insert(core, us.min(MAX_SLEEP));
                }
            }
            None => all = item.parse().unwrap_or(0).min(MAX_SLEEP),
        }
    }
    (all, cores)
}

impl Config {
    /// How long the thread on `core` may sleep at a time, in microseconds.
    pub fn sleep_of(&self, core: u32) -> u64 {
        let own = self.pmd_sleep_cores.get(&core);
        own.copied().unwrap_or(self.pmd_sleep_max)
    }
}

/// Queues that a port's `pmd-rxq-affinity` pins, by queue.
fn affinity(config: &BTreeMap<String, String>) -> BTreeMap<usize, u32> {
    let Some(text) = config.get("pmd-rxq-affinity") else {
        return BTreeMap::new();
    };
    text.split(',')
        .filter_map(|pair| {
            let (queue, core) = pair.trim().split_once(':')?;
            Some((queue.parse().ok()?, core.parse().ok()?))
        })
        .collect()
}

/// `pmd-rxq-assign`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Cycles,
    RoundRobin,
    Group,
}

impl Algorithm {
    fn of(config: &Config) -> Algorithm {
        match config.all.get("pmd-rxq-assign").map(String::as_str) {
            Some("roundrobin") => Algorithm::RoundRobin,
            Some("group") => Algorithm::Group,
            _ => Algorithm::Cycles,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Algorithm::Cycles => "cycles",
            Algorithm::RoundRobin => "roundrobin",
            Algorithm::Group => "group",
        }
    }
}

/// Makes the threads that there shall be and gives each its queues.
pub fn assign(dp: &Datapath) {
    let ports = dp.ports.load_full();
    let config = dp.config.load_full();
    let polled = ports.iter().any(|p| p.netdev.is_pmd());
    let topology = numa::topology();
    let wanted: BTreeSet<u32> = match &config.pmd_cores {
        _ if !polled => BTreeSet::new(),
        Some(cores) => cores
            .iter()
            .copied()
            .filter(|c| topology.node_of(*c).is_some())
            .collect(),
        None => topology
            .nodes
            .values()
            .filter_map(|cpus| cpus.iter().max().copied())
            .collect(),
    };
    let mut changed = false;
    for thread in dp.threads.load_full().iter().filter(|t| t.is_pmd()) {
        if !wanted.contains(&thread.id.0) {
            dp.stop(thread);
            changed = true;
            vlog::info!(
                DPIF_NETDEV,
                "PMD thread on numa_id: {}, core id: {:2} destroyed.",
                thread.numa,
                thread.id.0
            );
        }
    }
    for core in wanted {
        if dp.thread(PmdId(core)).is_some() {
            continue;
        }
        let node = topology.node_of(core).unwrap_or(0);
        let started = Thread::new(PmdId(core), node)
            .map_err(|e| Errno(e.raw_os_error().unwrap_or(Errno::EINVAL.0)))
            .and_then(|t| dp.start(t));
        match started {
            Ok(()) => {
                changed = true;
                vlog::info!(
                    DPIF_NETDEV,
                    "PMD thread on numa_id: {node}, core id: {core:2} created."
                );
            }
            Err(error) => vlog::err!(DPIF_NETDEV, "cannot create PMD thread: {error}"),
        }
    }
    let threads = dp.threads.load_full();
    if changed {
        for node in topology.nodes.keys() {
            let n = threads
                .iter()
                .filter(|t| t.is_pmd() && t.numa == *node)
                .count();
            if n > 0 {
                vlog::info!(DPIF_NETDEV, "There are {n} pmd threads on numa node {node}");
            }
        }
    }
    let mut lists: Vec<Vec<Assigned>> = vec![Vec::new(); threads.len()];
    let pmds: Vec<usize> = (0..threads.len())
        .filter(|&i| threads[i].is_pmd())
        .collect();
    let mut isolated = BTreeSet::new();
    let mut rest = Vec::new();
    for port in ports.iter() {
        let pins = affinity(&port.config.lock().unwrap_or_else(|e| e.into_inner()));
        for queue in 0..port.netdev.n_rxq() {
            let mut rxq = Assigned {
                port: port.clone(),
                queue,
                pinned: false,
                load: port.load(queue),
            };
            if !port.netdev.is_pmd() {
                lists[0].push(rxq);
                continue;
            }
            let pin = pins
                .get(&queue)
                .and_then(|core| pmds.iter().copied().find(|&i| threads[i].id.0 == *core));
            match pin {
                Some(at) => {
                    rxq.pinned = true;
                    lists[at].push(rxq);
                    if config.rxq_isolate {
                        isolated.insert(at);
                    }
                }
                None => rest.push(rxq),
            }
        }
    }
    let algorithm = Algorithm::of(&config);
    if polled {
        vlog::info!(
            DPIF_NETDEV,
            "Performing pmd to rx queue assignment using {} algorithm.",
            algorithm.name()
        );
    }
    // The busiest queues choose first, so that what is left evens out.
    if algorithm != Algorithm::RoundRobin {
        rest.sort_by_key(|rxq| std::cmp::Reverse(rxq.load.recent()));
    }
    let open: Vec<usize> = pmds
        .iter()
        .copied()
        .filter(|i| !isolated.contains(i))
        .collect();
    let open = if open.is_empty() { pmds } else { open };
    for (n, rxq) in rest.into_iter().enumerate() {
        let Some(len) = std::num::NonZeroUsize::new(open.len()) else {
            vlog::warn!(
                DPIF_NETDEV,
                "There's no available (non-isolated) pmd thread on numa node 0. Port '{}' rx queue {} will not be polled.",
                rxq.port.name,
                rxq.queue
            );
            continue;
        };
        let (lap, turn) = (n / len, n % len);
        let at = match algorithm {
            Algorithm::RoundRobin => open[turn],
            // In a zigzag, so that no thread is always the one with more.
            Algorithm::Cycles if lap % 2 == 0 => open[turn],
            Algorithm::Cycles => open[len.get() - 1 - turn],
            // Where there is least to do.
            Algorithm::Group => {
                let least = |&&i: &&usize| {
                    let load: u64 = lists[i].iter().map(|a| a.load.recent()).sum();
                    (load, lists[i].len())
                };
                open.iter().min_by_key(least).copied().unwrap_or(open[turn])
            }
        };
        lists[at].push(rxq);
    }
    for (i, (thread, list)) in threads.iter().zip(lists).enumerate() {
        thread
            .isolated
            .store(isolated.contains(&i), Ordering::Relaxed);
        thread.rxqs.store(Arc::new(list));
    }
}
