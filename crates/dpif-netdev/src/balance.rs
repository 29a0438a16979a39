//! `pmd-auto-lb`: whether the queues would be shared among the polling threads more evenly if they were assigned anew.
//!
//! Every interval, when a thread has more to do than `pmd-auto-lb-load-threshold`, a plan is made and not carried out. If
//! the variance of the threads' loads would fall by `pmd-auto-lb-improvement-threshold` on some memory node, it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;

use crate::assign::{Algorithm, Poll, Queue, Step};
use crate::config::AutoLb;

/// A polling thread and what it had to do of late.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    pub poll: Poll,
    /// Serves only queues that the user pinned to it.
    pub isolated: bool,
    pub queues: usize,
    /// Cycles of iterations with packets, and all.
    pub busy: u64,
    pub total: u64,
}

impl Busy {
    fn percent(&self) -> u64 {
        share(self.busy, self.total)
    }
}

fn share(part: u64, whole: u64) -> u64 {
    (part * 100).checked_div(whole).unwrap_or(0).min(100)
}

/// Why there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    Unchanged,
    RoundRobin,
    TooFew,
}

/// What the plan would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// Queues would go to threads of other nodes than their devices', so that loads now say little of loads then.
    CrossNuma,
    /// The variance of the threads' loads on each node, now and then.
    Variances(BTreeMap<u32, (u64, u64)>),
}

impl Estimate {
    /// By how many percent the variance falls on the node where it falls most.
    fn improvement(&self) -> u64 {
        match self {
            Estimate::CrossNuma => 0,
            Estimate::Variances(nodes) => {
                let all = nodes.values().map(|(now, then)| improvement(*now, *then));
                all.max().unwrap_or(0)
            }
        }
    }
}

fn improvement(now: u64, then: u64) -> u64 {
    (now.saturating_sub(then) * 100)
        .checked_div(now)
        .unwrap_or(0)
}

/// When to look next, and what the last look said.
#[derive(Debug, Default)]
pub struct Balancer {
    due: Option<Instant>,
    /// The last look said that it is no use.
    hopeless: bool,
}

impl Balancer {
    /// Whether it is time to look. Off means never; the first interval begins when it is turned on.
    pub fn is_due(&mut self, settings: &AutoLb, now: Instant) -> bool {
        if !settings.wanted {
            *self = Balancer::default();
            return false;
        }
        let interval = Duration::from_secs(settings.interval_min * 60);
        let due = *self.due.get_or_insert(now + interval);
        if now < due {
            return false;
        }
        self.due = Some(now + interval);
        true
    }

    /// The queues or threads are others now.
    pub fn changed(&mut self) {
        self.hopeless = false;
    }

    /// Why a dry run would be no use; that is remembered until something changes.
    pub fn idle(&mut self, threads: &[Busy], algorithm: Algorithm) -> Option<Idle> {
        if self.hopeless {
            return Some(Idle::Unchanged);
        }
        let open = || threads.iter().filter(|t| !t.isolated);
        let why = match algorithm {
            Algorithm::RoundRobin => Idle::RoundRobin,
            _ if open().count() < 2 || open().all(|t| t.queues < 2) => Idle::TooFew,
            _ => return None,
        };
        self.hopeless = true;
        Some(why)
    }
}

/// Whether a thread that can be relieved has that much to do.
pub fn overloaded(threads: &[Busy], settings: &AutoLb) -> bool {
    let open = threads.iter().filter(|t| !t.isolated && t.queues > 0);
    open.map(Busy::percent).any(|p| p >= settings.load_percent)
}

/// What it would be like if the queues were assigned anew by these steps.
pub fn estimate(threads: &[Busy], queues: &[Queue], steps: &[Step]) -> Estimate {
    let mut nodes: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for t in threads {
        nodes.entry(t.poll.numa).or_default();
    }
    let far = |s: &Step| match *s {
        Step::Assigned { queue, thread } => queues[queue].numa != threads[thread].poll.numa,
        _ => false,
    };
    if nodes.len() > 1 && steps.iter().any(far) {
        return Estimate::CrossNuma;
    }
    for (n, t) in threads.iter().enumerate().filter(|(_, t)| !t.isolated) {
        let load = |s: &Step| match *s {
            Step::Assigned { queue, thread } | Step::Pinned { queue, thread } if thread == n => {
                queues[queue].load
            }
            _ => 0,
        };
        let then = share(steps.iter().map(load).sum(), t.total);
        let node = nodes.entry(t.poll.numa).or_default();
        node.push((t.percent(), then));
    }
    let both = |loads: Vec<(u64, u64)>| {
        let (now, then): (Vec<u64>, Vec<u64>) = loads.into_iter().unzip();
        (variance(&now), variance(&then))
    };
    Estimate::Variances(
        nodes
            .into_iter()
            .map(|(n, loads)| (n, both(loads)))
            .collect(),
    )
}

/// Of percents, rounded down.
fn variance(loads: &[u64]) -> u64 {
    let n = loads.len() as u64;
    let Some(mean) = loads.iter().sum::<u64>().checked_div(n) else {
        return 0;
    };
    loads.iter().map(|l| l.abs_diff(mean).pow(2)).sum::<u64>() / n
}

/// Whether the estimate meets the threshold; says so.
pub fn is_met(estimate: &Estimate, settings: &AutoLb) -> bool {
    let threshold = settings.improvement_percent;
    match estimate {
        Estimate::CrossNuma => {
            vlog::dbg!(
                DPIF_NETDEV,
                "PMD auto load balance detected cross-numa polling with multiple numa nodes. Unable to \
                 accurately estimate."
            );
            return false;
        }
        Estimate::Variances(nodes) => {
            for (node, &(now, then)) in nodes {
                vlog::dbg!(
                    DPIF_NETDEV,
                    "Numa node {node}. Current variance {now} Estimated variance {then}. Variance improvement \
                     {}%.",
                    improvement(now, then)
                );
            }
        }
    }
    let met = estimate.improvement() >= threshold;
    let is = if met { "is" } else { "is not" };
    vlog::dbg!(
        DPIF_NETDEV,
        "PMD load variance improvement threshold {threshold}% {is} met."
    );
    met
}

/// Says why there is nothing to do.
pub fn tell_idle(why: Idle) {
    let why = match why {
        Idle::Unchanged => "no configuration changes since last check.",
        Idle::RoundRobin => "pmd-rxq-assign=roundrobin assignment type configured.",
        Idle::TooFew => "not enough non-isolated PMDs or RxQs.",
    };
    vlog::dbg!(DPIF_NETDEV, "PMD auto load balance nothing to do, {why}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assign::{Policy, plan};

    fn steps(threads: &[Busy], queues: &[Queue]) -> Vec<Step> {
        let polls: Vec<Poll> = threads.iter().map(|t| t.poll).collect();
        plan(&polls, queues, POLICY)
    }

    const POLICY: Policy = Policy {
        algorithm: Algorithm::Cycles,
        isolate: true,
    };

    fn thread(core: u32, queues: usize, busy: u64) -> Busy {
        Busy {
            poll: Poll {
                core,
                numa: core / 4,
            },
            isolated: false,
            queues,
            busy,
            total: 1000,
        }
    }

    fn queue(numa: u32, load: u64) -> Queue {
        Queue {
            numa,
            load,
            pin: None,
        }
    }

    fn settings(load_percent: u64, improvement_percent: u64) -> AutoLb {
        AutoLb {
            wanted: true,
            load_percent,
            improvement_percent,
            ..AutoLb::default()
        }
    }

    #[test]
    fn a_plan_that_shares_the_load_is_an_improvement() {
        // One thread has both busy queues.
        let threads = [thread(0, 2, 980), thread(1, 2, 20)];
        let queues = [480, 500, 10, 10].map(|load| queue(0, load));
        let all = settings(95, 25);
        assert!(overloaded(&threads, &all) && !overloaded(&threads, &settings(99, 25)));
        let steps = steps(&threads, &queues);
        let estimate = estimate(&threads, &queues, &steps);
        let want = BTreeMap::from([(0, (48 * 48, 1))]);
        assert_eq!(estimate, Estimate::Variances(want));
        assert_eq!(estimate.improvement(), 99);
        assert!(is_met(&estimate, &all));
        let same = Estimate::Variances(BTreeMap::from([(0, (100, 80)), (1, (10, 10))]));
        assert!(is_met(&same, &settings(0, 20)) && !is_met(&same, &settings(0, 21)));
    }

    #[test]
    fn queues_that_would_change_nodes_cannot_be_estimated() {
        let threads = [thread(0, 2, 980), thread(4, 0, 0)];
        let queues = [queue(2, 500)];
        let steps = steps(&threads, &queues);
        let estimate = estimate(&threads, &queues, &steps);
        assert_eq!(estimate, Estimate::CrossNuma);
        assert!(!is_met(&estimate, &settings(0, 0)));
    }

    #[test]
    fn it_looks_once_an_interval_and_gives_up_until_something_changes() {
        let start = ferrovs_runtime::clock::now();
        let mut b = Balancer::default();
        let on = settings(0, 0);
        assert!(!b.is_due(&on, start));
        assert!(!b.is_due(&on, start + Duration::from_secs(59)));
        assert!(b.is_due(&on, start + Duration::from_secs(60)));
        assert!(!b.is_due(&on, start + Duration::from_secs(61)));
        let few = [thread(0, 1, 0), thread(1, 1, 0)];
        let idle = |b: &mut Balancer, algorithm| b.idle(&few, algorithm);
        assert_eq!(idle(&mut b, Algorithm::Cycles), Some(Idle::TooFew));
        assert_eq!(idle(&mut b, Algorithm::Cycles), Some(Idle::Unchanged));
        b.changed();
        assert_eq!(idle(&mut b, Algorithm::RoundRobin), Some(Idle::RoundRobin));
        b.changed();
        let enough = [thread(0, 2, 0), thread(1, 1, 0)];
        assert_eq!(b.idle(&enough, Algorithm::Group), None);
        let isolated = Busy {
            isolated: true,
            ..enough[1]
        };
        assert_eq!(
            b.idle(&[enough[0], isolated], Algorithm::Group),
            Some(Idle::TooFew)
        );
    }
}
