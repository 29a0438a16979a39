//! Which thread serves which receive queue: the plan of [`assign`](crate::assign) carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_datapath::dpif::PmdId;
use ferrovs_runtime::vlog::modules::DPIF_NETDEV;
use ferrovs_runtime::{numa, vlog};

use crate::assign::{Algorithm, Policy, Poll, Queue, Step, plan};
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
    let polls: Vec<Poll> = threads
        .iter()
        .map(|t| Poll {
            core: t.id.0,
            numa: t.numa,
        })
        .collect();
    let queues: Vec<Queue> = rxqs.iter().map(queue).collect();
    let policy = Policy {
        algorithm: config.algorithm(),
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
