//! Configuration: which thread serves which receive queue, and how the caches are used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_datapath::dpif::{Errno, PmdId};
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{numa, vlog};

use crate::assign::{Algorithm, Policy, Poll, Queue, Step, plan};
use crate::datapath::Datapath;
use crate::port::Port;
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
    /// `pmd-rxq-isolate`, which only the assignment by groups can turn off.
    pub rxq_isolate: bool,
    /// `pmd-auto-lb` and what belongs to it. Queues are not moved by themselves yet.
    pub auto_lb: AutoLb,
}

/// `pmd-auto-lb*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoLb {
    pub wanted: bool,
    pub interval_min: u64,
    pub load_percent: u64,
    pub improvement_percent: u64,
}

impl Default for AutoLb {
    fn default() -> Self {
        AutoLb {
            wanted: false,
            interval_min: 1,
            load_percent: 95,
            improvement_percent: 25,
        }
    }
}

impl AutoLb {
    fn of(all: &BTreeMap<String, String>) -> AutoLb {
        let default = AutoLb::default();
        let number = |key: &str, default: u64| {
            let value = all.get(key).and_then(|v| v.parse().ok());
            value.unwrap_or(default)
        };
        let percent = |key, default| match number(key, default) {
            p if p > 100 => default,
            p => p,
        };
        let interval = number("pmd-auto-lb-rebal-interval", default.interval_min);
        AutoLb {
            wanted: all.get("pmd-auto-lb").is_some_and(|v| v == "true"),
            interval_min: match interval {
                0 => 1,
                n if n > 20_000 => 1,
                n => n,
            },
            load_percent: percent("pmd-auto-lb-load-threshold", default.load_percent),
            improvement_percent: percent(
                "pmd-auto-lb-improvement-threshold",
                default.improvement_percent,
            ),
        }
    }

    /// Says what has changed since `old`, or what holds at the start.
    fn log(&self, old: Option<&AutoLb>) {
        let differs = |of: fn(&AutoLb) -> u64| old.is_none_or(|old| of(old) != of(self));
        if differs(|lb| lb.interval_min) {
            vlog::info!(
                DPIF_NETDEV,
                "PMD auto load balance interval set to {} mins",
                self.interval_min
            );
        }
        if differs(|lb| lb.improvement_percent) {
            vlog::info!(
                DPIF_NETDEV,
                "PMD auto load balance improvement threshold set to {}%",
                self.improvement_percent
            );
        }
        if differs(|lb| lb.load_percent) {
            vlog::info!(
                DPIF_NETDEV,
                "PMD auto load balance load threshold set to {}%",
                self.load_percent
            );
        }
        match old {
            Some(old) if old == self || !self.wanted && !old.wanted => {}
            // Queues stay where they are until it is built, which is said of the setting.
            _ if self.wanted => {}
            _ => vlog::info!(DPIF_NETDEV, "PMD auto load balance is disabled."),
        }
    }
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
    let first = !dp.configured.swap(true, Ordering::Relaxed);
    if old.all == *all && !first {
        // What is wrong with it is told each time.
        assignment(all);
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
    let text = get("pmd-sleep-max").or_else(|| {
        let old = get("pmd-maxsleep")?;
        vlog::warn!(
            DPIF_NETDEV,
            "pmd-maxsleep is deprecated. Please use pmd-sleep-max instead."
        );
        Some(old)
    });
    let sleeps = parse_sleeps(text.unwrap_or_default());
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
    let (algorithm, rxq_isolate) = assignment(all);
    if algorithm != algorithm_of(&old) {
        vlog::info!(
            DPIF_NETDEV,
            "Rxq to PMD assignment mode changed to: '{}'.",
            algorithm.name()
        );
    }
    if first || rxq_isolate != old.rxq_isolate {
        let does = if rxq_isolate {
            "isolates"
        } else {
            "does not isolate"
        };
        vlog::info!(DPIF_NETDEV, "pmd-rxq-affinity {does} PMD core");
    }
    let auto_lb = AutoLb::of(all);
    auto_lb.log((!first).then_some(&old.auto_lb));
    if first || sleeps.0 != old.pmd_sleep_max {
        vlog::info!(
            DPIF_NETDEV,
            "Default PMD thread max sleep: {:4} us.",
            sleeps.0
        );
    }
    let new = Config {
        all: all.clone(),
        pmd_cores: get("pmd-cpu-mask").and_then(parse_core_mask),
        pmd_sleep_max: sleeps.0,
        pmd_sleep_cores: sleeps.1,
        tx_flush_interval,
        pmd_perf_metrics: flag("pmd-perf-metrics"),
        rxq_isolate,
        auto_lb,
    };
    for thread in dp.threads.load().iter().filter(|t| t.is_pmd()) {
        let core = thread.id.0;
        if new.sleep_of(core) != old.sleep_of(core) {
            log_sleep(thread.numa, core, new.sleep_of(core));
        }
    }
    let reassign = old.pmd_cores != new.pmd_cores
        || old.rxq_isolate != new.rxq_isolate
        || algorithm_of(&old) != algorithm_of(&new);
    dp.config.store(Arc::new(new));
    Some(reassign)
}

fn log_sleep(numa: u32, core: u32, us: u64) {
    vlog::info!(
        DPIF_NETDEV,
        "PMD thread on numa_id: {numa}, core id: {core:2}, max sleep: {us:4} us."
    );
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

/// How queues are assigned, and whether a thread with pinned queues gets no others. Says what of it cannot be.
fn assignment(all: &BTreeMap<String, String>) -> (Algorithm, bool) {
    let get = |key: &str| all.get(key).map(String::as_str);
    let algorithm = algorithm_named(get("pmd-rxq-assign"));
    let isolate = get("pmd-rxq-isolate") != Some("false");
    if !isolate && algorithm != Algorithm::Group {
        vlog::warn!(
            DPIF_NETDEV,
            "pmd-rxq-isolate can only be set false when using pmd-rxq-assign=group"
        );
        return (algorithm, true);
    }
    (algorithm, isolate)
}

/// The algorithm that holds, whatever the configuration says.
fn algorithm_of(config: &Config) -> Algorithm {
    let name = config.all.get("pmd-rxq-assign").map(String::as_str);
    Algorithm::parse(name).unwrap_or(Algorithm::Cycles)
}

/// The algorithm of that name, with a word about a name that there is not.
fn algorithm_named(name: Option<&str>) -> Algorithm {
    Algorithm::parse(name).unwrap_or_else(|| {
        vlog::warn!(
            DPIF_NETDEV,
            "Unsupported rx queue to PMD assignment mode in pmd-rxq-assign. Defaulting to 'cycles'."
        );
        Algorithm::Cycles
    })
}

/// Makes the threads that there shall be and gives each its queues.
pub fn assign(dp: &Datapath) {
    let ports: Vec<Arc<Port>> = dp.ports().polled().cloned().collect();
    let config = dp.config.load_full();
    let polled = !ports.is_empty();
    make_threads(dp, &config, polled);
    let all = dp.threads.load_full();
    let threads: Vec<&Arc<Thread>> = all.iter().filter(|t| t.is_pmd()).collect();
    let rxqs: Vec<Assigned> = ports.iter().flat_map(rxqs_of).collect();
    let polls: Vec<Poll> = threads
        .iter()
        .map(|t| Poll {
            core: t.id.0,
            numa: t.numa,
        })
        .collect();
    let queues: Vec<Queue> = rxqs.iter().map(queue).collect();
    let policy = Policy {
        algorithm: algorithm_of(&config),
        isolate: config.rxq_isolate,
    };
    let steps = plan(&polls, &queues, policy);
    tell(&steps, &polls, &rxqs, policy.algorithm);
    let mut lists = vec![Vec::new(); threads.len()];
    let mut isolated = vec![false; threads.len()];
    for step in steps {
        match step {
            Step::Pinned { queue, thread } => {
                let mut rxq = rxqs[queue].clone();
                rxq.pinned = true;
                lists[thread].push(rxq);
                isolated[thread] = policy.isolate;
            }
            Step::Assigned { queue, thread } => lists[thread].push(rxqs[queue].clone()),
            Step::CannotPin { .. } | Step::Unserved { .. } => {}
        }
    }
    for ((thread, list), isolated) in threads.into_iter().zip(lists).zip(isolated) {
        thread.isolated.store(isolated, Ordering::Relaxed);
        thread.rxqs.store(Arc::new(list));
    }
}

/// The receive queues of a port.
fn rxqs_of(port: &Arc<Port>) -> impl Iterator<Item = Assigned> {
    let port = port.clone();
    (0..port.netdev.layout().n_rxq).map(move |queue| Assigned {
        port: port.clone(),
        queue,
        pinned: false,
        load: port.load(queue),
    })
}

/// A receive queue as the plan sees it.
fn queue(rxq: &Assigned) -> Queue {
    let config = rxq.port.config.lock().unwrap_or_else(|e| e.into_inner());
    Queue {
        numa: rxq.port.netdev.layout().numa_id,
        pin: affinity(&config).get(&rxq.queue).copied(),
        load: rxq.load.recent(),
    }
}

/// Says which thread serves which queue.
fn tell(steps: &[Step], threads: &[Poll], rxqs: &[Assigned], algorithm: Algorithm) {
    let mut begun = false;
    for step in steps {
        let (Step::Pinned { queue, .. }
        | Step::CannotPin { queue, .. }
        | Step::Assigned { queue, .. }
        | Step::Unserved { queue }) = *step;
        let rxq = &rxqs[queue];
        let (name, id) = (&rxq.port.name, rxq.queue);
        // What decides beside the turn: nothing in `roundrobin`.
        let measured = match algorithm {
            Algorithm::RoundRobin => String::new(),
            _ => format!(" (measured processing cycles {})", rxq.load.recent()),
        };
        if !begun && matches!(step, Step::Assigned { .. } | Step::Unserved { .. }) {
            begun = true;
            vlog::info!(
                DPIF_NETDEV,
                "Performing pmd to rx queue assignment using {} algorithm.",
                algorithm.name()
            );
        }
        match *step {
            Step::Pinned { thread, .. } => vlog::info!(
                DPIF_NETDEV,
                "Core {:2} on numa node {} is pinned with port '{name}' rx queue {id}{measured}",
                threads[thread].core,
                threads[thread].numa
            ),
            Step::CannotPin { core, .. } => vlog::warn!(
                DPIF_NETDEV,
                "Core {core:2} cannot be pinned with port '{name}' rx queue {id}. Use pmd-cpu-mask to \
                 enable a pmd on core {core}. An alternative core will be assigned."
            ),
            Step::Assigned { thread, .. } => {
                let Poll { core, numa } = threads[thread];
                let near = rxq.port.netdev.layout().numa_id;
                if numa != near {
                    vlog::info!(
                        DPIF_NETDEV,
                        "There's no available (non-isolated) pmd thread on numa node {near}. Port '{name}' rx \
                         queue {id} will be assigned to a pmd on numa node {numa}. This may lead to reduced \
                         performance."
                    );
                }
                vlog::info!(
                    DPIF_NETDEV,
                    "Core {core:2} on numa node {numa} assigned port '{name}' rx queue {id}{measured}."
                );
            }
            Step::Unserved { .. } => vlog::warn!(
                DPIF_NETDEV,
                "No non-isolated pmd on any numa available for port '{name}' rx queue {id}{measured}. This rx \
                 queue will not be polled."
            ),
        }
    }
}

/// Starts and ends threads, so that there are those of `pmd-cpu-mask`.
fn make_threads(dp: &Datapath, config: &Config, polled: bool) {
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
            .filter_map(|cpus| cpus.iter().min().copied())
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
                log_sleep(node, core, config.sleep_of(core));
                vlog::info!(
                    DPIF_NETDEV,
                    "PMD thread on numa_id: {node}, core id: {core:2} created."
                );
            }
            Err(error) => vlog::err!(DPIF_NETDEV, "cannot create PMD thread: {error}"),
        }
    }
    if !changed {
        return;
    }
    let threads = dp.threads.load_full();
    for node in topology.nodes.keys() {
        let of_node = |t: &&Arc<Thread>| t.is_pmd() && t.numa == *node;
        let n = threads.iter().filter(of_node).count();
        if n > 0 {
            vlog::info!(DPIF_NETDEV, "There are {n} pmd threads on numa node {node}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn load_balancing_keeps_to_the_ranges_of_its_settings() {
        let lb = AutoLb::of(&config(&[
            ("pmd-auto-lb-rebal-interval", "0"),
            ("pmd-auto-lb-load-threshold", "101"),
            ("pmd-auto-lb-improvement-threshold", "10"),
        ]));
        assert_eq!(
            (lb.interval_min, lb.load_percent, lb.improvement_percent),
            (1, 95, 10)
        );
        let far = config(&[("pmd-auto-lb-rebal-interval", "20001")]);
        assert_eq!(AutoLb::of(&far).interval_min, 1);
    }

    #[test]
    fn sleeps_are_a_default_and_those_of_cores() {
        let (all, cores) = parse_sleeps("0:100,20,3:20000");
        assert_eq!(all, 20);
        assert_eq!(cores, BTreeMap::from([(0, 100), (3, MAX_SLEEP)]));
    }
}
