//! A device in memory, whose receiver turns the count on when it hands packets over, and off when it is called again:
//! what is counted is all that the datapath's thread does with a batch.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_netdev::{Class, Features, Flags, Layout, Netdev, Rxq, Stats, Txq};
use ferrovs_packet::buffer::{Batch, Packet};
use ferrovs_packet::types::MacAddr;
use ferrovs_sync::Waker;
use ferrovs_sys::callgrind;

/// Frames that wait to be received by a device, in batches.
pub struct Waiting {
    batches: Mutex<VecDeque<Vec<Vec<u8>>>>,
    waker: Waker,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<Vec<u8>>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device receive these batches.
    pub fn receive(&self, batches: impl IntoIterator<Item = Vec<Vec<u8>>>) {
        self.lock().extend(batches);
        self.waker.wake();
    }
}

static DEVICES: Mutex<Option<HashMap<String, Arc<Waiting>>>> = Mutex::new(None);

/// What waits at the device `name`.
pub fn at(name: &str) -> Arc<Waiting> {
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let devices = devices.get_or_insert_default();
    let device = devices.entry(name.to_owned()).or_insert_with(|| {
        Arc::new(Waiting {
            batches: Mutex::default(),
            waker: Waker::new().expect("an event descriptor"),
        })
    });
    device.clone()
}

/// Makes the class `memory` known, also in place of the one of local ports.
pub fn register() {
    for kind in ["memory", "dummy-internal"] {
        ferrovs_netdev::register(Class { kind, open });
    }
}

fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Memory {
        name: name.to_owned(),
        kind,
        waiting: at(name),
    }))
}

struct Queue {
    waiting: Arc<Waiting>,
    counting: bool,
}

impl Rxq for Queue {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        if self.counting {
            callgrind::toggle_collect();
        }
        let mut batches = self.waiting.lock();
        let frames = batches.pop_front().unwrap_or_default();
        if batches.is_empty() {
            self.waiting.waker.drain();
        }
        drop(batches);
        batch.extend(frames.iter().map(|frame| Packet::from_slice(frame)));
        self.counting = !frames.is_empty();
        if self.counting {
            callgrind::toggle_collect();
        }
        Ok(frames.len())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.waiting.waker.as_fd())
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where packets that are sent go.
struct Nowhere;

impl Txq for Nowhere {
    fn send(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.clear();
        Ok(())
    }
}

struct Memory {
    name: String,
    kind: &'static str,
    waiting: Arc<Waiting>,
}

impl Netdev for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn set_config(&self, _: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn layout(&self) -> Layout {
        Layout::SINGLE
    }

    fn rxq_open(&self, _: usize) -> io::Result<Box<dyn Rxq>> {
        Ok(Box::new(Queue {
            waiting: self.waiting.clone(),
            counting: false,
        }))
    }

    fn txq_open(&self, _: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(Nowhere))
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(MacAddr([2, 0, 0, 0, 0, 9]))
    }

    fn set_etheraddr(&self, _: MacAddr) -> io::Result<()> {
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        Ok(1500)
    }

    fn set_mtu(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn flags(&self) -> io::Result<Flags> {
        Ok(Flags::UP)
    }

    fn update_flags(&self, _: Flags, _: Flags) -> io::Result<()> {
        Ok(())
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(Stats::default())
    }

    fn features(&self) -> io::Result<Features> {
        Ok(Features::default())
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(Vec::new())
    }

    fn status(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn change_seq(&self) -> u64 {
        1
    }
}
