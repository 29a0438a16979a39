//! Which polling thread serves which receive queue: a function of what there is.
//!
//! Queues that the user pinned go first. Each of the others goes to a thread of the memory node that its device is
//! near to, or, when no thread there is open to it, of another node, the nodes taking turns. Within a node the
//! algorithm decides. A thread that serves pinned queues is open to no others, unless they are not to isolate it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// `pmd-rxq-assign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The busiest queues choose first, in a zigzag over the threads, so that none is always the one with more.
    Cycles,
    /// One after the other.
    RoundRobin,
    /// The busiest queues choose first, each the thread that has least to do.
    Group,
}

impl Algorithm {
    pub fn parse(name: Option<&str>) -> Option<Algorithm> {
        match name {
            Some("roundrobin") => Some(Algorithm::RoundRobin),
            Some("group") => Some(Algorithm::Group),
            Some("cycles") | None => Some(Algorithm::Cycles),
            Some(_) => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Cycles => "cycles",
            Algorithm::RoundRobin => "roundrobin",
            Algorithm::Group => "group",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub algorithm: Algorithm,
    /// Threads with pinned queues get no others.
    pub isolate: bool,
}

/// A polling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    pub core: u32,
    pub numa: u32,
}

/// A receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The node of its device.
    pub numa: u32,
    /// The core that the user pinned it to.
    pub pin: Option<u32>,
    /// Cycles that it took of late.
    pub load: u64,
}

/// A decision; threads and queues are told by their place in the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Pinned {
        queue: usize,
        thread: usize,
    },
    /// There is no thread on the core; the queue is assigned as if it were not pinned.
    CannotPin {
        queue: usize,
        core: u32,
    },
    Assigned {
        queue: usize,
        thread: usize,
    },
    /// No thread is open to it.
    Unserved {
        queue: usize,
    },
}

/// All decisions, in the order in which they are made.
pub fn plan(threads: &[Poll], queues: &[Queue], policy: Policy) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut nodes = Nodes::new(threads);
    let mut rest = Vec::new();
    for (queue, q) in queues.iter().enumerate() {
        let Some(core) = q.pin else {
            rest.push(queue);
            continue;
        };
        match threads.iter().position(|t| t.core == core) {
            Some(thread) => {
                nodes.give(thread, q.load);
                nodes.threads[thread].isolated |= policy.isolate;
                steps.push(Step::Pinned { queue, thread });
            }
            None => {
                steps.push(Step::CannotPin { queue, core });
                rest.push(queue);
            }
        }
    }
    if policy.algorithm != Algorithm::RoundRobin {
        rest.sort_by_key(|queue| Reverse(queues[*queue].load));
    }
    for queue in rest {
        let q = queues[queue];
        let thread = nodes
            .find(q.numa)
            .and_then(|node| nodes.choose(node, q.load, policy.algorithm));
        steps.push(match thread {
            Some(thread) => {
                nodes.give(thread, q.load);
                Step::Assigned { queue, thread }
            }
            None => Step::Unserved { queue },
        });
    }
    steps
}

/// What a thread has got so far.
#[derive(Clone, Copy, Default)]
struct Share {
    isolated: bool,
    queues: usize,
    load: u64,
}

/// The threads of a node, in order of their cores, and the place of the one whose turn it is.
#[derive(Default)]
struct Node {
    threads: Vec<usize>,
    turn: usize,
    backwards: bool,
}

impl Node {
    /// Takes a turn and goes on to the next: around, or to and fro.
    fn next(&mut self, zigzag: bool) -> Option<usize> {
        let thread = self.threads.get(self.turn).copied();
        let last = self.threads.len().saturating_sub(1);
        match (zigzag, self.backwards) {
            (false, _) => self.turn = if self.turn == last { 0 } else { self.turn + 1 },
            // At an end the same thread has two turns.
            (true, false) if self.turn == last => self.backwards = true,
            (true, false) => self.turn += 1,
            (true, true) if self.turn == 0 => self.backwards = false,
            (true, true) => self.turn -= 1,
        }
        thread
    }
}

struct Nodes {
    threads: Vec<Share>,
    nodes: BTreeMap<u32, Node>,
    /// The node that last took a queue of another.
    last_far: Option<u32>,
}

impl Nodes {
    fn new(threads: &[Poll]) -> Nodes {
        let mut nodes: BTreeMap<u32, Node> = BTreeMap::new();
        let mut order: Vec<usize> = (0..threads.len()).collect();
        order.sort_by_key(|t| threads[*t].core);
        for t in order {
            nodes.entry(threads[t].numa).or_default().threads.push(t);
        }
        Nodes {
            threads: vec![Share::default(); threads.len()],
            nodes,
            last_far: None,
        }
    }

    fn give(&mut self, thread: usize, load: u64) {
        let share = &mut self.threads[thread];
        share.queues += 1;
        share.load += load;
    }

    fn is_open(&self, numa: u32) -> bool {
        let open = |t: &usize| !self.threads[*t].isolated;
        self.nodes
            .get(&numa)
            .is_some_and(|n| n.threads.iter().any(open))
    }

    /// The node that shall serve a queue of the node `numa`.
    fn find(&mut self, numa: u32) -> Option<u32> {
        if self.is_open(numa) {
            return Some(numa);
        }
        let all: Vec<u32> = self.nodes.keys().copied().collect();
        let after = |n: &&u32| self.last_far.is_some_and(|last| **n > last);
        let start = all.iter().position(|n| after(&n)).unwrap_or(0);
        let turns = all[start..].iter().chain(&all[..start]);
        let found = turns.copied().find(|n| self.is_open(*n))?;
        self.last_far = Some(found);
        Some(found)
    }

    /// The thread of a node for a queue.
    fn choose(&mut self, numa: u32, load: u64, algorithm: Algorithm) -> Option<usize> {
        let node = self.nodes.get_mut(&numa)?;
        if algorithm == Algorithm::Group {
            let open = node.threads.iter().copied();
            let open = open.filter(|t| !self.threads[*t].isolated);
            // Queues without a load are spread by number.
            return open.min_by_key(|t| match load {
                0 => self.threads[*t].queues as u64,
                _ => self.threads[*t].load,
            });
        }
        let zigzag = algorithm == Algorithm::Cycles;
        // In a zigzag each thread has its turn within two laps.
        (0..2 * node.threads.len())
            .filter_map(|_| node.next(zigzag))
            .find(|t| !self.threads[*t].isolated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CYCLES: Policy = Policy {
        algorithm: Algorithm::Cycles,
        isolate: true,
    };
    const ROUND: Policy = Policy {
        algorithm: Algorithm::RoundRobin,
        ..CYCLES
    };
    const GROUP: Policy = Policy {
        algorithm: Algorithm::Group,
        ..CYCLES
    };

    /// Threads on the cores of nodes: two cores each.
    fn threads(cores: &[u32]) -> Vec<Poll> {
        let poll = |core: &u32| Poll {
            core: *core,
            numa: *core / 2,
        };
        cores.iter().map(poll).collect()
    }

    fn queue(numa: u32, load: u64) -> Queue {
        Queue {
            numa,
            load,
            pin: None,
        }
    }

    /// The core of each queue, in order of the queues.
    fn cores(threads: &[Poll], queues: &[Queue], policy: Policy) -> Vec<Option<u32>> {
        let mut out = vec![None; queues.len()];
        for step in plan(threads, queues, policy) {
            if let Step::Pinned { queue, thread } | Step::Assigned { queue, thread } = step {
                assert_eq!(out[queue].replace(threads[thread].core), None);
            }
        }
        out
    }

    fn some(cores: &[u32]) -> Vec<Option<u32>> {
        cores.iter().copied().map(Some).collect()
    }

    #[test]
    fn each_algorithm_deals_in_its_own_way() {
        let t = threads(&[0, 1]);
        let idle = [queue(0, 0); 5];
        assert_eq!(cores(&t, &idle, CYCLES), some(&[0, 1, 1, 0, 0]));
        assert_eq!(cores(&t, &idle, ROUND), some(&[0, 1, 0, 1, 0]));
        assert_eq!(cores(&t, &idle, GROUP), some(&[0, 1, 0, 1, 0]));
        let busy = [10, 90, 20, 30].map(|load| queue(0, load));
        // 90 and 10 against 30 and 20; one after the other; 90 against all others.
        assert_eq!(cores(&t, &busy, CYCLES), some(&[0, 0, 1, 1]));
        assert_eq!(cores(&t, &busy, ROUND), some(&[0, 1, 0, 1]));
        assert_eq!(cores(&t, &busy, GROUP), some(&[1, 0, 1, 1]));
    }

    #[test]
    fn the_busiest_queues_are_told_first_and_equal_ones_in_their_order() {
        let queues = [queue(0, 1), queue(0, 5), queue(0, 5)];
        let order = |policy| {
            let steps = plan(&threads(&[0]), &queues, policy);
            let queue = |s: &Step| match s {
                Step::Assigned { queue, .. } => *queue,
                other => panic!("{other:?}"),
            };
            steps.iter().map(queue).collect::<Vec<_>>()
        };
        assert_eq!(order(CYCLES), [1, 2, 0]);
        assert_eq!(order(ROUND), [0, 1, 2]);
    }

    #[test]
    fn a_queue_stays_on_the_node_of_its_device_if_a_thread_there_is_open() {
        let t = threads(&[0, 1, 2, 3]);
        let queues = [
            queue(1, 0),
            queue(0, 0),
            queue(1, 0),
            queue(1, 0),
            queue(0, 0),
        ];
        assert_eq!(cores(&t, &queues, CYCLES), some(&[2, 0, 3, 3, 1]));
        assert_eq!(cores(&t, &queues, GROUP), some(&[2, 0, 3, 2, 1]));
    }

    #[test]
    fn other_nodes_take_turns_at_the_queues_of_one_without_threads() {
        // As Open vSwitch deals three queues of node 1, five of node 0 and six of node 1 to nodes 0 and 2.
        let t = threads(&[0, 1, 4, 5]);
        let mut queues = vec![queue(1, 0); 3];
        queues.extend([queue(0, 0); 5]);
        queues.extend([queue(1, 0); 6]);
        let cycles = [0, 4, 1, 1, 0, 0, 1, 1, 5, 0, 5, 0, 4, 1];
        assert_eq!(cores(&t, &queues, CYCLES), some(&cycles));
        let round = [0, 4, 1, 0, 1, 0, 1, 0, 5, 1, 4, 0, 5, 1];
        assert_eq!(cores(&t, &queues, ROUND), some(&round));
        let group = [0, 4, 1, 0, 1, 0, 1, 0, 5, 1, 4, 0, 5, 1];
        assert_eq!(cores(&t, &queues, GROUP), some(&group));
    }

    #[test]
    fn pinned_queues_isolate_their_threads_unless_they_shall_not() {
        let pinned = |core| Queue {
            pin: Some(core),
            ..queue(0, 7)
        };
        let t = threads(&[0, 1]);
        let queues = [queue(0, 0), pinned(0), queue(0, 0), queue(0, 9)];
        assert_eq!(cores(&t, &queues, CYCLES), some(&[1, 0, 1, 1]));
        assert_eq!(cores(&t, &queues, GROUP), some(&[1, 0, 1, 1]));
        let shared = Policy {
            isolate: false,
            ..GROUP
        };
        assert_eq!(cores(&t, &queues, shared), some(&[0, 0, 1, 1]));
        // With every thread isolated nobody serves the others.
        let queues = [pinned(0), pinned(1), queue(0, 0)];
        assert_eq!(cores(&t, &queues, CYCLES), [Some(0), Some(1), None]);
        // A node whose threads are isolated is as one without.
        let t = threads(&[0, 2]);
        assert_eq!(cores(&t, &[pinned(0), queue(0, 0)], CYCLES), some(&[0, 2]));
    }

    #[test]
    fn a_queue_that_cannot_be_pinned_is_dealt_with_the_rest() {
        let far = Queue {
            pin: Some(7),
            ..queue(0, 0)
        };
        let steps = plan(&threads(&[0]), &[far], CYCLES);
        let want = [
            Step::CannotPin { queue: 0, core: 7 },
            Step::Assigned {
                queue: 0,
                thread: 0,
            },
        ];
        assert_eq!(steps, want);
        assert_eq!(plan(&[], &[far], CYCLES)[1], Step::Unserved { queue: 0 });
    }
}
