//! Closes taps behind the back of whoever let go of them.
//!
//! A tap that goes costs several RCU periods of the kernel, some 20 ms in which neither a packet thread nor the main
//! loop should stand. So a thread takes taps that nobody holds any more, and ends when there are none. Taps that came
//! while it was busy go together: it puts them into a device group of their own and deletes the group, for which the
//! kernel waits once.
//!
//! A name is free again when the tap is gone: [`wait_for`] waits for that.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ferrovs_sys::ifreq;
use ferrovs_sys::netns::NetNs;
use ferrovs_sys::rtnetlink::Rtnl;
use ferrovs_sys::tap::Tap;

static KEEP: AtomicBool = AtomicBool::new(false);

/// Whether devices that this process created (taps) stay when they are closed from now on: so at
/// an exit without `--cleanup`, so that the next process finds them with their addresses.
pub fn set_keep_devices(keep: bool) {
    KEEP.store(keep, Ordering::Relaxed);
}

pub(super) fn keep_devices() -> bool {
    KEEP.load(Ordering::Relaxed)
}

/// A tap that this process made. It is deleted when it is dropped, unless devices are to be kept.
#[derive(Debug)]
pub(super) struct HostTap(Option<Tap>);

impl HostTap {
    pub fn new(tap: Tap) -> HostTap {
        HostTap(Some(tap))
    }
}

impl Deref for HostTap {
    type Target = Tap;

    fn deref(&self) -> &Tap {
        // Only dropping takes the tap out.
        self.0.as_ref().expect("a tap that is in use")
    }
}

impl Drop for HostTap {
    fn drop(&mut self) {
        if let Some(tap) = self.0.take()
            && !keep_devices()
        {
            close(tap);
        }
    }
}

/// A tap that nobody holds, and the namespace of the thread that held it last.
struct Unused {
    tap: Tap,
    netns: Option<u64>,
}

struct State {
    unused: Vec<Unused>,
    /// Names of taps that are not gone yet, and how many each.
    names: BTreeMap<String, usize>,
    running: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    unused: Vec::new(),
    names: BTreeMap::new(),
    running: false,
});
static GONE: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn netns() -> Option<u64> {
    NetNs::current().and_then(|n| n.id()).ok()
}

fn close(tap: Tap) {
    let netns = netns();
    let mut s = state();
    *s.names.entry(tap.name().to_owned()).or_default() += 1;
    s.unused.push(Unused { tap, netns });
    if !s.running {
        s.running = true;
        drop(s);
        let thread = std::thread::Builder::new().name("closing".into());
        if thread.spawn(run).is_err() {
            run();
        }
    }
}

/// Whether a tap of that name is being closed.
pub(crate) fn is_closing(name: &str) -> bool {
    state().names.contains_key(name)
}

/// Waits until no tap of that name, or without a name none at all, is being closed.
pub(crate) fn wait_for(name: Option<&str>) {
    let busy = |s: &mut State| match name {
        Some(name) => s.names.contains_key(name),
        None => !s.names.is_empty(),
    };
    drop(GONE.wait_while(state(), busy));
}

fn run() {
    loop {
        let unused = {
            let mut s = state();
            if s.unused.is_empty() {
                s.running = false;
                return;
            }
            std::mem::take(&mut s.unused)
        };
        let names: Vec<String> = unused.iter().map(|u| u.tap.name().to_owned()).collect();
        if unused.len() > 1 {
            // Those that are left, if any, go one by one.
            let _ = delete_together(&unused);
        }
        for u in unused {
            // Failures mean that the device is gone already.
            let _ = u.tap.set_persistent(false);
        }
        let mut s = state();
        for name in names {
            if let Some(n) = s.names.get_mut(&name) {
                *n -= 1;
                if *n == 0 {
                    s.names.remove(&name);
                }
            }
        }
        drop(s);
        GONE.notify_all();
    }
}

/// Deletes the taps of this thread's namespace at once.
fn delete_together(unused: &[Unused]) -> io::Result<()> {
    let mut rtnl = Rtnl::open()?;
    let here = netns();
    let group = any_group();
    let mut grouped = HashSet::new();
    for u in unused.iter().filter(|u| here.is_some() && u.netns == here) {
        if let Ok(index) = ifreq::ifindex(u.tap.name())
            && rtnl.set_group(index, group).is_ok()
        {
            grouped.insert(index);
        }
    }
    // Whoever happens to use that group keeps his devices.
    let links = rtnl.links()?;
    let mut members = links.iter().filter(|l| l.group == group);
    if !grouped.is_empty() && members.all(|l| grouped.contains(&l.index)) {
        rtnl.delete_group(group)?;
    }
    Ok(())
}

/// A number for a device group that nobody is likely to use.
fn any_group() -> u32 {
    const HIGH: u32 = 1 << 30;
    RandomState::new().build_hasher().finish() as u32 % HIGH + HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_sys::tap::TapOptions;

    fn tap(name: &str) -> HostTap {
        let tap = Tap::open(name, TapOptions::default()).unwrap();
        tap.set_persistent(true).unwrap();
        HostTap::new(tap)
    }

    #[test]
    fn taps_that_go_together_are_gone_when_their_names_are_free_and_others_stay() {
        ferrovs_sys::netns::unshare().unwrap();
        let names: Vec<String> = (0..20).map(|n| format!("closing{n}")).collect();
        let mut taps: Vec<_> = names.iter().map(|n| tap(n)).collect();
        let last = taps.pop();
        let _guard = ferrovs_sys::children::none_starting();
        drop(taps);
        for name in &names[..19] {
            wait_for(Some(name));
            assert!(!is_closing(name) && !crate::exists(name));
        }
        assert!(crate::exists(&names[19]));
        drop(last);
        wait_for(Some(&names[19]));
        assert!(!crate::exists(&names[19]));
    }
}
