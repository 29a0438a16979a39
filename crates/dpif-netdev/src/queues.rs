//! Which thread serves which receive queue: the plan of [`assign`](crate::assign) carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_datapath::dpif::PmdId;
use ferrovs_runtime::vlog::Level;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{numa, vlog};

use crate::assign::{Algorithm, Policy, Poll, Queue, Step, plan};
use crate::balance::{self, Balancer, Busy};
use crate::config::{Config, tell_sleep};
use crate::port::{Port, Ports};
use crate::thread::{Assigned, Thread};
use crate::threads::Threads;

/// Makes the threads that there shall be and gives each its queues.
pub fn assign(all: &Threads, config: &Config, ports: &Ports) {
    make_threads(all, config, ports);
    let list = all.list();
    let threads: Vec<&Arc<Thread>> = list.iter().filter(|t| t.is_pmd()).collect();
    let rxqs: Vec<Assigned> = ports.polled().flat_map(rxqs_of).collect();
    let polls: Vec<Poll> = threads.iter().map(|t| poll(t)).collect();
    let queues: Vec<Queue> = rxqs.iter().map(queue).collect();
    let policy = policy(config);
    let steps = plan(&polls, &queues, policy);
    tell(&steps, &polls, &rxqs, policy.algorithm, Tell::Doing);
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

fn policy(config: &Config) -> Policy {
    Policy {
        algorithm: config.algorithm(),
        isolate: config.rxq_isolate,
    }
}

fn poll(thread: &Thread) -> Poll {
    Poll {
        core: thread.id.0,
        numa: thread.numa,
    }
}

/// Whether `pmd-auto-lb` wants the queues to be assigned anew, at its time.
pub fn shall_balance(
    balancer: &mut Balancer,
    all: &Threads,
    config: &Config,
    ports: &Ports,
) -> bool {
    let list = all.list();
    let busy = |t: &Arc<Thread>| Busy {
        poll: poll(t),
        isolated: t.isolated.load(Ordering::Relaxed),
        queues: t.rxqs.load().len(),
        busy: t.busy.recent(),
        total: t.load.recent(),
    };
    let threads: Vec<Busy> = list.iter().filter(|t| t.is_pmd()).map(busy).collect();
    let policy = policy(config);
    if let Some(why) = balancer.idle(&threads, policy.algorithm) {
        balance::tell_idle(why);
        return false;
    }
    if !balance::overloaded(&threads, &config.auto_lb) {
        return false;
    }
    vlog::dbg!(DPIF_NETDEV, "PMD auto load balance performing dry run.");
    let rxqs: Vec<Assigned> = ports.polled().flat_map(rxqs_of).collect();
    let queues: Vec<Queue> = rxqs.iter().map(queue).collect();
    let polls: Vec<Poll> = threads.iter().map(|t| t.poll).collect();
    let steps = plan(&polls, &queues, policy);
    tell(&steps, &polls, &rxqs, policy.algorithm, Tell::Trying);
    let estimate = balance::estimate(&threads, &queues, &steps);
    let met = balance::is_met(&estimate, &config.auto_lb);
    if met {
        vlog::info!(
            DPIF_NETDEV,
            "PMD auto load balance dry run. Requesting datapath reconfigure."
        );
    }
    met
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

/// Whether a plan is carried out, or only tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    Doing,
    Trying,
}

/// Says which thread serves which queue, or would.
fn tell(steps: &[Step], threads: &[Poll], rxqs: &[Assigned], algorithm: Algorithm, how: Tell) {
    let say = |level: Level, text: fmt::Arguments<'_>| {
        let level = if how == Tell::Doing {
            level
        } else {
            Level::Dbg
        };
        if DPIF_NETDEV.enabled(level) {
            vlog::write(&DPIF_NETDEV, level, text);
        }
    };
    let mut begun = how == Tell::Trying;
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
            let name = algorithm.name();
            say(
                Level::Info,
                format_args!("Performing pmd to rx queue assignment using {name} algorithm."),
            );
        }
        match *step {
            Step::Pinned { thread, .. } => {
                let Poll { core, numa } = threads[thread];
                say(
                    Level::Info,
                    format_args!(
                        "Core {core:2} on numa node {numa} is pinned with port '{name}' rx queue {id}{measured}"
                    ),
                );
            }
            Step::CannotPin { core, .. } => say(
                Level::Warn,
                format_args!(
                    "Core {core:2} cannot be pinned with port '{name}' rx queue {id}. Use pmd-cpu-mask to \
                     enable a pmd on core {core}. An alternative core will be assigned."
                ),
            ),
            Step::Assigned { thread, .. } => {
                let Poll { core, numa } = threads[thread];
                let near = rxq.port.netdev.layout().numa_id;
                if numa != near {
                    say(
                        Level::Info,
                        format_args!(
                            "There's no available (non-isolated) pmd thread on numa node {near}. Port '{name}' rx \
                             queue {id} will be assigned to a pmd on numa node {numa}. This may lead to reduced \
                             performance."
                        ),
                    );
                }
                say(
                    Level::Info,
                    format_args!(
                        "Core {core:2} on numa node {numa} assigned port '{name}' rx queue {id}{measured}."
                    ),
                );
            }
            Step::Unserved { .. } => say(
                Level::Warn,
                format_args!(
                    "No non-isolated pmd on any numa available for port '{name}' rx queue {id}{measured}. This \
                     rx queue will not be polled."
                ),
            ),
        }
    }
}

/// Starts and ends threads, so that there are those of `pmd-cpu-mask`.
fn make_threads(all: &Threads, config: &Config, ports: &Ports) {
    let topology = numa::topology();
    let wanted: BTreeSet<u32> = match &config.pmd_cores {
        _ if ports.polled().next().is_none() => BTreeSet::new(),
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
    for thread in all.list().iter().filter(|t| t.is_pmd()) {
        if !wanted.contains(&thread.id.0) {
            all.stop(thread);
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
        if all.get(PmdId(core)).is_some() {
            continue;
        }
        let node = topology.node_of(core).unwrap_or(0);
        match all.start(PmdId(core), node, ports) {
            Ok(()) => {
                changed = true;
                tell_sleep(node, core, config.sleep_of(core));
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
    let threads = all.list();
    for node in topology.nodes.keys() {
        let of_node = |t: &&Arc<Thread>| t.is_pmd() && t.numa == *node;
        let n = threads.iter().filter(of_node).count();
        if n > 0 {
            vlog::info!(DPIF_NETDEV, "There are {n} pmd threads on numa node {node}");
        }
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
