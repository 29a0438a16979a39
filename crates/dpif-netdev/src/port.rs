//! Ports of a datapath, and how they get their numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_datapath::dpif::{DpPortInfo, port_number};
use ferrovs_netdev::Netdev;
use ferrovs_packet::types::DpPort;

use crate::counters::Load;
use crate::drops::PortDrops;

pub struct Port {
    pub number: DpPort,
    pub name: String,
    /// Kind of the device, as `dpctl/show` prints it.
    pub kind: String,
    pub netdev: Arc<dyn Netdev>,
    /// Whether packets that it receives may enter the exact-match cache.
    pub emc: AtomicBool,
    /// `tx-steering`: whether the packets of a thread are spread over the device's transmit queues by their hashes.
    pub spread: AtomicBool,
    /// `Interface.other_config` that concerns the datapath.
    pub config: Mutex<BTreeMap<String, String>>,
    /// Loads of the receive queues; they stay when a queue moves to another thread.
    pub loads: Mutex<Vec<Arc<Load>>>,
    /// Packets that were dropped on the way from it, or to it.
    pub drops: Arc<PortDrops>,
}

impl Port {
    pub fn new(number: DpPort, name: &str, kind: &str, netdev: Arc<dyn Netdev>) -> Port {
        Port {
            number,
            name: name.to_owned(),
            kind: kind.to_owned(),
            drops: Arc::new(PortDrops::new(number, name, netdev.clone())),
            netdev,
            emc: AtomicBool::new(true),
            spread: AtomicBool::new(false),
            config: Mutex::default(),
            loads: Mutex::default(),
        }
    }

    pub fn info(&self) -> DpPortInfo {
        DpPortInfo {
            name: self.name.clone(),
            kind: self.kind.clone(),
            port: self.number,
            config: self.netdev.config(),
        }
    }

    /// The load of a receive queue.
    pub fn load(&self, queue: usize) -> Arc<Load> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() <= queue {
            loads.resize_with(queue + 1, Arc::default);
        }
        loads[queue].clone()
    }

    pub fn emc_enabled(&self) -> bool {
        self.emc.load(Relaxed)
    }
}

/// All ports of a datapath.
#[derive(Default)]
pub struct Ports {
    by_number: BTreeMap<u32, Arc<Port>>,
    by_name: HashMap<String, Arc<Port>>,
    /// Those that a thread has to poll.
    polled: BTreeMap<u32, Arc<Port>>,
    /// No lower number is free, but for 0.
    lowest: u32,
}

impl Ports {
    pub fn get(&self, number: DpPort) -> Option<&Arc<Port>> {
        self.by_number.get(&number.0)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Port>> {
        self.by_name.get(name)
    }

    /// Those that a thread has to poll, in order of their numbers.
    pub fn polled(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.polled.values()
    }

    /// In order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.by_number.values()
    }

    pub fn insert(&mut self, port: Arc<Port>) {
        if port.netdev.is_pmd() {
            self.polled.insert(port.number.0, port.clone());
        }
        self.by_name.insert(port.name.clone(), port.clone());
        self.by_number.insert(port.number.0, port);
    }

    pub fn remove(&mut self, number: DpPort) -> Option<Arc<Port>> {
        let port = self.by_number.remove(&number.0)?;
        self.by_name.remove(&port.name);
        self.polled.remove(&number.0);
        self.lowest = self.lowest.min(number.0);
        Some(port)
    }

    /// A number for a new port called `name`, see [`port_number`].
    pub fn choose(&mut self, name: &str, dummy: bool) -> Option<DpPort> {
        let is_free = |n: u32| !self.by_number.contains_key(&n);
        let number = port_number(name, dummy, self.lowest, is_free)?;
        if !dummy {
            self.lowest = number.0;
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_netdev::dummy;

    fn add(ports: &mut Ports, name: &str, kind: &str) -> u32 {
        dummy::enable(dummy::Replace::Nothing);
        let netdev = ferrovs_netdev::open(name, kind).unwrap();
        let number = ports.choose(name, false).unwrap();
        ports.insert(Arc::new(Port::new(number, name, kind, netdev)));
        number.0
    }

    #[test]
    fn a_port_gets_the_lowest_number_that_is_free() {
        let mut ports = Ports::default();
        assert_eq!(
            ["n0", "n1", "n2"].map(|n| add(&mut ports, n, "dummy")),
            [1, 2, 3]
        );
        assert_eq!(ports.polled().count(), 0);
        ports.remove(DpPort(2)).unwrap();
        ports.remove(DpPort(1)).unwrap();
        assert_eq!(
            ["n3", "n4", "n5"].map(|n| add(&mut ports, n, "dummy-pmd")),
            [1, 2, 4]
        );
        assert_eq!(ports.polled().count(), 3);
        for n in [1, 2, 4] {
            ports.remove(DpPort(n)).unwrap();
        }
        assert_eq!(ports.polled().count(), 0);
        // A name says which number its port gets in a dummy datapath.
        assert_eq!(ports.choose("p7", true), Some(DpPort(7)));
    }
}
