//! Which types of device there are, which devices are open, and what the kernel says about links.
//!
//! The table of classes is filled with the built-in ones at first use; test classes are added (and
//! may replace built-in ones) before the first device is opened. Open devices are kept by weak
//! reference: whoever holds a device keeps it open.
//!
//! One rtnetlink monitor serves all devices. It is opened with the first device, in the network
//! namespace of the thread that opens it, and read by the main loop.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ferrovs_encap::types;
use ferrovs_runtime::vlog::modules::NETDEV;
use ferrovs_runtime::{Interest, Poller, is_quiet, vlog};
use ferrovs_sys::rtnetlink::{Event, Groups, Monitor, Rtnl};

use crate::changes::change_seq;
use crate::{Netdev, afxdp, linux, replay, vhost, vport};

/// A type of device.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Its name in `Interface.type`.
    pub kind: &'static str,
    /// Opens the device called so.
    pub open: fn(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>>,
}

struct Registry {
    classes: Vec<Class>,
    devices: HashMap<String, Weak<dyn Netdev>>,
    /// At so many devices those that nobody holds any more are cleared away.
    full: usize,
    monitor: Option<Monitor>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn with<T>(f: impl FnOnce(&mut Registry) -> T) -> T {
    let mut guard: MutexGuard<'_, Option<Registry>> =
        REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    f(guard.get_or_insert_with(|| Registry {
        classes: [
            Class {
                kind: "system",
                open: linux::open_existing,
            },
            Class {
                kind: "internal",
                open: linux::open_existing,
            },
            Class {
                kind: "tap",
                open: linux::open_tap,
            },
            Class {
                kind: afxdp::POLLED,
                open: afxdp::open,
            },
            Class {
                kind: afxdp::WAITED_FOR,
                open: afxdp::open,
            },
            Class {
                kind: "patch",
                open: vport::open,
            },
            Class {
                kind: "dpdk",
                open: no_dpdk,
            },
            Class {
                kind: "dpdkvhostuserclient",
                open: vhost::open_client,
            },
            Class {
                kind: "dpdkvhostuser",
                open: vhost::open_server,
            },
            Class {
                kind: "replay",
                open: replay::open,
            },
            Class {
                kind: "null",
                open: replay::open,
            },
        ]
        .into_iter()
        .chain(types::ports().map(|ty| Class {
            kind: ty.kind,
            open: vport::open,
        }))
        .collect(),
        devices: HashMap::new(),
        full: 0,
        monitor: None,
    }))
}

/// Adds a class, in place of one with the same name.
pub fn register(class: Class) {
    with(
        |r| match r.classes.iter_mut().find(|c| c.kind == class.kind) {
            Some(c) => *c = class,
            None => r.classes.push(class),
        },
    );
}

/// Classes for measurements, and the one that only says what to use instead: they are not told.
const UNTOLD: [&str; 3] = ["dpdk", "null", "replay"];

/// Cards are the host's business here.
fn no_dpdk(name: &str, _kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    let instead = "there is no DPDK in this switch: use the type system for a device of the host, \
                   dpdkvhostuserclient for a guest";
    vlog::warn!(
        NETDEV,
        "could not create netdev {name} of type dpdk: {instead}"
    );
    Err(io::Error::other(instead))
}

/// Names of the classes that users are told of, sorted.
pub fn kinds() -> Vec<&'static str> {
    let told = |c: &Class| (!UNTOLD.contains(&c.kind)).then_some(c.kind);
    let mut k: Vec<_> = with(|r| r.classes.iter().filter_map(told).collect());
    k.sort_unstable();
    k
}

/// Opens the device `name` of type `kind` ("" means "system"), or shares it if it is open.
///
/// Errors are those of the operating system: EAFNOSUPPORT for an unknown type, EEXIST for a device
/// that is open with another type, ENODEV for one that is not there.
pub fn open(name: &str, kind: &str) -> io::Result<Arc<dyn Netdev>> {
    let kind = if kind.is_empty() { "system" } else { kind };
    let class = with(|r| {
        if let Some(d) = r.devices.get(name).and_then(Weak::upgrade) {
            return if d.kind() == kind {
                Ok(Err(d))
            } else {
                Err(io::Error::from_raw_os_error(17)) // EEXIST
            };
        }
        match r.classes.iter().find(|c| c.kind == kind) {
            Some(c) => Ok(Ok(*c)),
            None => {
                vlog::warn!(
                    NETDEV,
                    "could not create netdev {name} of unknown type {kind}"
                );
                Err(io::Error::from_raw_os_error(97)) // EAFNOSUPPORT
            }
        }
    });
    let class = match class {
        Ok(Ok(class)) => class,
        Ok(Err(open)) => return Ok(open),
        Err(e) => return Err(e),
    };
    start_monitor();
    wait_for(name);
    // Outside the lock: opening may take time, and a device that closes takes the lock.
    let device = (class.open)(name, class.kind)?;
    Ok(with(|r| {
        if let Some(d) = r.devices.get(name).and_then(Weak::upgrade)
            && d.kind() == kind
        {
            return d; // Another thread was faster.
        }
        if r.devices.len() >= r.full {
            r.devices.retain(|_, d| d.strong_count() > 0);
            r.full = 2 * r.devices.len() + 16;
        }
        r.devices.insert(name.to_owned(), Arc::downgrade(&device));
        device
    }))
}

/// The open device called `name`.
pub fn lookup(name: &str) -> Option<Arc<dyn Netdev>> {
    with(|r| r.devices.get(name).and_then(Weak::upgrade))
}

/// Whether a device of that name is open, or on its way out of the host since nobody holds it any more.
pub fn is_in_use(name: &str) -> bool {
    lookup(name).is_some() || linux::closing::is_closing(name)
}

/// Waits until a device of that name that nobody holds any more is gone from the host.
pub fn wait_for(name: &str) {
    linux::closing::wait_for(Some(name));
}

/// Waits until every device that nobody holds any more is gone from the host.
pub fn finish_closing() {
    linux::closing::wait_for(None);
}

/// Whether the host has a device of that name.
pub fn exists(name: &str) -> bool {
    ferrovs_sys::ifreq::flags(name).is_ok()
}

fn start_monitor() {
    with(|r| {
        if r.monitor.is_none() {
            // Without rtnetlink the devices still work; they only do not hear of changes.
            r.monitor = Monitor::open(Groups {
                links: true,
                addrs: true,
                ..Groups::default()
            })
            .ok();
        }
    });
}

/// Tells the devices what happened to their links.
pub(crate) fn run() {
    let events = with(|r| {
        let monitor = r.monitor.as_mut().filter(|m| !is_quiet(m.as_fd()));
        monitor.and_then(|m| m.recv().ok()).unwrap_or_default()
    });
    if !events.is_empty() {
        deliver(events);
    }
}

/// Tells the devices that `events` concern.
pub(crate) fn deliver(events: Vec<Event>) {
    for e in events {
        match e {
            Event::NewLink(l) => linux::link_came(&l),
            Event::DelLink(l) => linux::link_went(&l),
            Event::Lost => resync(),
            _ => {}
        }
    }
    change_seq().change();
}

/// Tells every device the state of its link as it is now.
fn resync() {
    if let Ok(links) = Rtnl::open().and_then(|mut r| r.links()) {
        linux::links_are(&links);
    }
}

/// Says what would make [`run`] worth calling.
pub(crate) fn wait(poller: &mut Poller) {
    with(|r| {
        if let Some(m) = &r.monitor {
            poller.wait_fd(m.as_fd(), Interest::READ);
        }
    });
}
