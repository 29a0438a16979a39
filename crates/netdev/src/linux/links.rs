//! What the kernel says of links, brought to the devices that it concerns.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use ferrovs_packet::types::MacAddr;
use ferrovs_sys::rtnetlink::Link;

use super::{Device, Linux, lock};
use crate::Netdev;

/// Devices that are open, by name.
static OPEN: Mutex<Option<HashMap<String, Weak<Linux>>>> = Mutex::new(None);

/// Lets the device hear of its link from now on.
pub(super) fn listen(device: Device) -> Arc<dyn Netdev> {
    let mut open = lock(&OPEN);
    let open = open.get_or_insert_default();
    open.insert(device.0.name.clone(), Arc::downgrade(&device.0));
    Arc::new(device)
}

/// The device called so is closed; one of the same name may be open already.
pub(super) fn forget(name: &str) {
    if let Some(open) = &mut *lock(&OPEN)
        && open.get(name).is_some_and(|d| d.strong_count() == 0)
    {
        open.remove(name);
    }
}

fn device(name: &str) -> Option<Arc<Linux>> {
    lock(&OPEN).as_ref()?.get(name)?.upgrade()
}

/// The link is there, as `link` says.
pub fn link_came(link: &Link) {
    if let Some(d) = device(&link.name) {
        d.link_is(Some(link));
    }
}

/// The link is gone.
pub fn link_went(link: &Link) {
    let Some(d) = device(&link.name) else { return };
    // Another may have taken the name before we heard.
    let index = d.ifindex.load(Ordering::Relaxed);
    if index == 0 || index == link.index {
        d.link_is(None);
    }
}

/// These are all links that there are.
pub fn links_are(links: &[Link]) {
    let open: Vec<_> = lock(&OPEN)
        .iter()
        .flat_map(|open| open.values().filter_map(Weak::upgrade))
        .collect();
    for d in open {
        d.link_is(links.iter().find(|l| l.name == d.name));
    }
}

impl Linux {
    /// Takes over what the kernel says of the link; None: it is gone.
    fn link_is(&self, link: Option<&Link>) {
        let (flags, mtu, mac) = match link {
            Some(l) => {
                self.appear(l.index);
                (l.flags, l.mtu, l.mac.map_or(0, |m| MacAddr(m).to_u64()))
            }
            None => {
                self.ifindex.store(0, Ordering::Relaxed);
                (0, 0, 0)
            }
        };
        self.note_flags(flags);
        self.mtu.store(mtu, Ordering::Relaxed);
        self.mac.store(mac, Ordering::Relaxed);
        self.changed();
    }
}
