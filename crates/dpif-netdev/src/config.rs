//! Configuration: how threads share the work, how long they may rest, and how the caches are used.

use std::collections::{BTreeMap, BTreeSet};

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;

use crate::assign::Algorithm;

/// One packet in so many enters the exact-match cache unless configured otherwise.
const EMC_INVERSE: u32 = 100;

/// `Open_vSwitch.other_config` as far as it concerns the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    all: BTreeMap<String, String>,
    /// `emc-insert-inv-prob`: one packet in so many enters the exact-match cache; 0 for none.
    pub emc_inverse: u32,
    /// `smc-enable`.
    pub smc: bool,
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
    /// `pmd-auto-lb` and what belongs to it.
    pub auto_lb: AutoLb,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            all: BTreeMap::new(),
            emc_inverse: EMC_INVERSE,
            smc: false,
            pmd_cores: None,
            pmd_sleep_max: 0,
            pmd_sleep_cores: BTreeMap::new(),
            tx_flush_interval: 0,
            pmd_perf_metrics: false,
            rxq_isolate: true,
            auto_lb: AutoLb::default(),
        }
    }
}

impl Config {
    /// What follows when the settings are `all`, for the `first` time or not; says what is different then. None when
    /// nothing has changed.
    pub fn next(&self, all: &BTreeMap<String, String>, first: bool) -> Option<Config> {
        if self.all == *all && !first {
            // What is wrong with it is told each time.
            assignment(all);
            return None;
        }
        let get = |key: &str| all.get(key).map(String::as_str);
        let is_true = |key: &str| is_true(all, key);
        let emc = get("emc-insert-inv-prob").and_then(|v| v.parse().ok());
        let mut new = Config {
            all: all.clone(),
            emc_inverse: emc.unwrap_or(EMC_INVERSE),
            smc: is_true("smc-enable"),
            pmd_cores: get("pmd-cpu-mask").and_then(parse_core_mask),
            tx_flush_interval: get("tx-flush-interval")
                .and_then(|v| v.parse().ok())
                .unwrap_or(0)
                .min(MAX_FLUSH_INTERVAL),
            pmd_perf_metrics: is_true("pmd-perf-metrics"),
            auto_lb: AutoLb::of(all),
            ..Config::default()
        };
        self.tell_caches(&new);
        let text = get("pmd-sleep-max").or_else(|| {
            let old = get("pmd-maxsleep")?;
            vlog::warn!(
                DPIF_NETDEV,
                "pmd-maxsleep is deprecated. Please use pmd-sleep-max instead."
            );
            Some(old)
        });
        (new.pmd_sleep_max, new.pmd_sleep_cores) = parse_sleeps(text.unwrap_or_default());
        if new.tx_flush_interval != self.tx_flush_interval {
            vlog::info!(
                DPIF_NETDEV,
                "Flushing interval for tx queues set to {} us",
                new.tx_flush_interval
            );
        }
        let algorithm;
        (algorithm, new.rxq_isolate) = assignment(all);
        if algorithm != self.algorithm() {
            vlog::info!(
                DPIF_NETDEV,
                "Rxq to PMD assignment mode changed to: '{}'.",
                algorithm.name()
            );
        }
        if first || new.rxq_isolate != self.rxq_isolate {
            let does = if new.rxq_isolate {
                "isolates"
            } else {
                "does not isolate"
            };
            vlog::info!(DPIF_NETDEV, "pmd-rxq-affinity {does} PMD core");
        }
        new.auto_lb.log((!first).then_some(&self.auto_lb));
        if first || new.pmd_sleep_max != self.pmd_sleep_max {
            vlog::info!(
                DPIF_NETDEV,
                "Default PMD thread max sleep: {:4} us.",
                new.pmd_sleep_max
            );
        }
        Some(new)
    }

    /// Says how the caches are used otherwise in `new`, and whether iterations are measured.
    fn tell_caches(&self, new: &Config) {
        if self.emc_inverse != new.emc_inverse {
            match new.emc_inverse {
                0 => vlog::info!(DPIF_NETDEV, "EMC insertion probability changed to zero"),
                n => vlog::info!(
                    DPIF_NETDEV,
                    "EMC insertion probability changed to 1/{n} (~{:.2}%)",
                    100.0 / f64::from(n)
                ),
            }
        }
        if new.pmd_perf_metrics != self.pmd_perf_metrics {
            let state = if new.pmd_perf_metrics {
                "enabled"
            } else {
                "disabled"
            };
            vlog::info!(DPIF_NETDEV, "PMD performance metrics collection {state}");
        }
        if self.smc != new.smc {
            let state = if new.smc { "enabled" } else { "disabled" };
            vlog::info!(DPIF_NETDEV, "SMC cache is {state}");
        }
    }

    /// How queues are assigned to threads.
    pub fn algorithm(&self) -> Algorithm {
        let name = self.all.get("pmd-rxq-assign").map(String::as_str);
        Algorithm::parse(name).unwrap_or(Algorithm::Cycles)
    }

    /// Whether queues have to be assigned anew after `old`.
    pub fn assigns_otherwise(&self, old: &Config) -> bool {
        self.pmd_cores != old.pmd_cores
            || self.rxq_isolate != old.rxq_isolate
            || self.algorithm() != old.algorithm()
    }

    /// How long the thread on `core` may sleep at a time, in microseconds.
    pub fn sleep_of(&self, core: u32) -> u64 {
        let own = self.pmd_sleep_cores.get(&core);
        own.copied().unwrap_or(self.pmd_sleep_max)
    }
}

/// Says how long a thread may sleep at a time.
pub fn tell_sleep(numa: u32, core: u32, us: u64) {
    vlog::info!(
        DPIF_NETDEV,
        "PMD thread on numa_id: {numa}, core id: {core:2}, max sleep: {us:4} us."
    );
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

/// Whether a setting is true, in letters of either case.
fn is_true(all: &BTreeMap<String, String>, key: &str) -> bool {
    all.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"))
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
            wanted: is_true(all, "pmd-auto-lb"),
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
            _ if self.wanted => vlog::info!(
                DPIF_NETDEV,
                "PMD auto load balance is enabled, interval {} mins, pmd load threshold {}%, improvement \
                 threshold {}%.",
                self.interval_min,
                self.load_percent,
                self.improvement_percent
            ),
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
