//! Ports of a datapath, and how they get their numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ferrovs_datapath::dpif::DpPortInfo;
use ferrovs_netdev::Netdev;
use ferrovs_packet::types::DpPort;

use crate::counters::Load;

/// Numbers below this can be given to ports.
const MAX_PORTS: u32 = 65535;

pub struct Port {
    pub number: DpPort,
    pub name: String,
    /// Kind of the device, as `dpctl/show` prints it.
    pub kind: String,
    pub netdev: Arc<dyn Netdev>,
    /// Whether packets that it receives may enter the exact-match cache.
    pub emc: AtomicBool,
    /// `Interface.other_config` that concerns the datapath.
    pub config: Mutex<BTreeMap<String, String>>,
    /// Its queues shall be closed, because the device changes how many it has.
    pub closed: AtomicBool,
    /// Loads of the receive queues; they stay when a queue moves to another thread.
    pub loads: Mutex<Vec<Arc<Load>>>,
}

impl Port {
    pub fn new(number: DpPort, name: &str, kind: &str, netdev: Arc<dyn Netdev>) -> Port {
        Port {
            number,
            name: name.to_owned(),
            kind: kind.to_owned(),
            netdev,
            emc: AtomicBool::new(true),
            config: Mutex::default(),
            closed: AtomicBool::new(false),
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

/// All ports of a datapath; replaced as a whole.
#[derive(Clone, Default)]
pub struct Ports {
    by_number: BTreeMap<u32, Arc<Port>>,
    by_name: HashMap<String, Arc<Port>>,
}

impl Ports {
    pub fn get(&self, number: DpPort) -> Option<&Arc<Port>> {
        self.by_number.get(&number.0)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Port>> {
        self.by_name.get(name)
    }

    /// In order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.by_number.values()
    }

    pub fn insert(&mut self, port: Arc<Port>) {
        self.by_name.insert(port.name.clone(), port.clone());
        self.by_number.insert(port.number.0, port);
    }

    pub fn remove(&mut self, number: DpPort) -> Option<Arc<Port>> {
        let port = self.by_number.remove(&number.0)?;
        self.by_name.remove(&port.name);
        Some(port)
    }

    fn free(&self, number: u32) -> bool {
        number < MAX_PORTS && !self.by_number.contains_key(&number)
    }

    /// A number for a new port called `name`: in a dummy datapath the first number in the name (100 more for a
    /// name that begins with "br") if it is free, else and otherwise the lowest that is free.
    pub fn choose(&self, name: &str, dummy: bool) -> Option<DpPort> {
        if dummy {
            let digits: String = name
                .chars()
                .skip_while(|c| !c.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            let base = if name.starts_with("br") { 100 } else { 0 };
            if let Ok(n) = digits.parse::<u32>()
                && let Some(n) = n.checked_add(base)
                && n > 0
                && self.free(n)
            {
                return Some(DpPort(n));
            }
        }
        (1..MAX_PORTS).find(|n| self.free(*n)).map(DpPort)
    }
}
