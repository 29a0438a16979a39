//! CPUs and NUMA nodes of this machine, from sysfs.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::vlog;
use crate::vlog::modules::OVS_NUMA;

/// The machine's CPUs by node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// CPU numbers of each node.
    pub nodes: BTreeMap<u32, Vec<u32>>,
}

impl Topology {
    /// Number of CPUs.
    pub fn cpu_count(&self) -> usize {
        self.nodes.values().map(Vec::len).sum()
    }

    /// The node that CPU `cpu` belongs to.
    pub fn node_of(&self, cpu: u32) -> Option<u32> {
        self.nodes
            .iter()
            .find(|(_, cpus)| cpus.contains(&cpu))
            .map(|(n, _)| *n)
    }

    /// Parses `--dummy-numa`: the node of each CPU in turn, as `0,0,1,1`.
    pub fn from_dummy(config: &str) -> Topology {
        let mut t = Topology::default();
        for (cpu, node) in config.split(',').filter(|s| !s.is_empty()).enumerate() {
            t.nodes
                .entry(node.trim().parse().unwrap_or(0))
                .or_default()
                .push(cpu as u32);
        }
        t
    }

    fn discover() -> Topology {
        let mut t = Topology::default();
        let names = std::fs::read_dir("/sys/devices/system/node")
            .map(|d| {
                d.filter_map(|e| e.ok()?.file_name().into_string().ok())
                    .collect::<Vec<_>>()
            })
            .unwrap_or_default();
        for name in names {
            let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else {
                continue;
            };
            let list = format!("/sys/devices/system/node/{name}/cpulist");
            let cpus = cpu_list(&std::fs::read_to_string(list).unwrap_or_default());
            if !cpus.is_empty() {
                t.nodes.insert(node, cpus);
            }
        }
        if t.nodes.is_empty() {
            let n = std::thread::available_parallelism().map_or(1, usize::from);
            t.nodes.insert(0, (0..n as u32).collect());
        }
        t
    }
}

fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(a), Ok(b)) = (a.parse::<u32>(), b.parse::<u32>())
            && b < 65536
        {
            cpus.extend(a..=b);
        }
    }
    cpus
}

static DUMMY: OnceLock<Topology> = OnceLock::new();
static TOPOLOGY: OnceLock<Topology> = OnceLock::new();

/// Pretends a topology; before the first look at [`topology`].
pub fn set_dummy(config: &str) {
    let _ = DUMMY.set(Topology::from_dummy(config));
}

/// The topology, discovered and logged at the first call.
pub fn topology() -> &'static Topology {
    TOPOLOGY.get_or_init(|| {
        let t = DUMMY.get().cloned().unwrap_or_else(Topology::discover);
        for (node, cpus) in &t.nodes {
            vlog::info!(
                OVS_NUMA,
                "Discovered {} CPU cores on NUMA node {node}",
                cpus.len()
            );
        }
        vlog::info!(
            OVS_NUMA,
            "Discovered {} NUMA nodes and {} CPU cores",
            t.nodes.len(),
            t.cpu_count()
        );
        t
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_and_dummy_topologies_parse() {
        assert_eq!(cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        let t = Topology::from_dummy("0,0,1,1");
        assert_eq!(t.nodes[&1], [2, 3]);
        assert_eq!(t.node_of(1), Some(0));
    }
}
