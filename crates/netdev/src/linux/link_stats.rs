//! The counters of all links of the host, asked for once for many devices.

use std::cell::OnceCell;
use std::collections::HashMap;

use ferrovs_sys::rtnetlink::{self, Rtnl};

/// For so many devices it is less work to ask for all links of the host than for each.
const MANY: usize = 5;

/// The kernel's counters, as they are when the first device asks; see [`crate::Netdev::stats_among`].
#[derive(Debug)]
pub struct LinkStats {
    n_devices: usize,
    by_index: OnceCell<HashMap<u32, rtnetlink::LinkStats>>,
}

impl LinkStats {
    /// For so many devices that have links of the host.
    pub fn new(n_devices: usize) -> LinkStats {
        LinkStats {
            n_devices,
            by_index: OnceCell::new(),
        }
    }

    /// The counters of a link; none if it must be asked for by itself.
    pub(super) fn of(&self, index: u32) -> Option<&rtnetlink::LinkStats> {
        if self.n_devices < MANY {
            return None;
        }
        let ask = || {
            let links = Rtnl::open().and_then(|mut r| r.links()).unwrap_or_default();
            links.into_iter().map(|l| (l.index, l.stats)).collect()
        };
        self.by_index.get_or_init(ask).get(&index)
    }
}
