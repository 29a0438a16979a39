//! What a datapath and its threads look at alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use ferrovs_conntrack::Tracker;
use ferrovs_datapath::upcall::UpcallHandler;
use ferrovs_runtime::clock;

use crate::config::Config;
use crate::drops::Ledger;
use crate::meter::Meters;
use crate::offload::Offloads;

pub struct Shared {
    /// The datapath's name.
    pub name: String,
    /// What flows count the time of their last packet from.
    pub epoch: Instant,
    /// Threads are told when it is another.
    pub config: ArcSwap<Config>,
    pub meters: Meters,
    pub conntrack: Tracker,
    pub drops: Arc<Ledger>,
    pub offloads: Offloads,
    handler: ArcSwap<Option<Arc<dyn UpcallHandler>>>,
    /// Whether the handler is asked.
    recv: AtomicBool,
}

impl Shared {
    pub fn new(name: &str, dummy: bool) -> Arc<Shared> {
        let epoch = clock::now();
        Arc::new(Shared {
            name: name.to_owned(),
            epoch,
            config: ArcSwap::default(),
            meters: Meters::default(),
            conntrack: Tracker::new(epoch),
            drops: Arc::default(),
            offloads: Offloads::new(dummy),
            handler: ArcSwap::from_pointee(None),
            recv: AtomicBool::new(true),
        })
    }

    /// Who answers misses, unless nobody shall just now.
    pub fn handler(&self) -> Option<Arc<dyn UpcallHandler>> {
        let enabled = self.recv.load(Ordering::Relaxed);
        enabled
            .then(|| Option::clone(&self.handler.load()))
            .flatten()
    }

    pub fn set_handler(&self, handler: Option<Arc<dyn UpcallHandler>>) {
        self.handler.store(Arc::new(handler));
    }

    /// Whether the handler is asked from now on.
    pub fn ask_handler(&self, enable: bool) {
        self.recv.store(enable, Ordering::Relaxed);
    }
}
