//! A port's hold on its device: a socket for each queue, and the program that gives them their packets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ferrovs_runtime::vlog::modules::NETDEV_AFXDP;
use ferrovs_runtime::{text, vlog};
use ferrovs_sys::bpf::{Hook, Program, XdpLink, XskMap};
use ferrovs_sys::ethtool;
use ferrovs_sys::process::unlimit_locked_memory;
use ferrovs_sys::rtnetlink::Rtnl;
use ferrovs_sys::xdp::{self, XskConfig};

use super::queue::Queue;
use super::settings::{Mode, Settings};
use super::{Sums, unfinished};

#[derive(Debug)]
pub struct Attached {
    // The first to go: afterwards the host gets the packets again.
    _link: XdpLink,
    pub mode: Mode,
    pub queues: Vec<Arc<Queue>>,
}

/// A mode, tried out on the first queue.
struct Attempt<'a> {
    name: &'a str,
    ifindex: u32,
    settings: &'a Settings,
    sums: &'a Arc<Sums>,
    map: XskMap,
    program: Program,
    /// What comes was sent on this host, perhaps.
    local: bool,
}

impl Attached {
    /// Takes hold of the device as `settings` say. Failures are told in the log.
    pub fn new(
        name: &str,
        ifindex: u32,
        settings: &Settings,
        sums: &Arc<Sums>,
    ) -> Option<Attached> {
        vlog::info!(
            NETDEV_AFXDP,
            "{name}: Setting XDP mode to {}.",
            settings.mode
        );
        if let Err(error) = unlimit_locked_memory() {
            let error = text::errno(&error);
            vlog::err!(NETDEV_AFXDP, "setrlimit(RLIMIT_MEMLOCK) failed: {error}");
        }
        let program = XskMap::new(settings.n_rxq as u32)
            .and_then(|map| Program::redirect(&map).map(|program| (map, program)));
        let failed = |error: &io::Error| {
            let error = text::errno(error);
            vlog::err!(NETDEV_AFXDP, "{name}: Failed to load XDP program: {error}");
        };
        let (map, program) = program.inspect_err(failed).ok()?;
        let attempt = Attempt {
            name,
            ifindex,
            settings,
            sums,
            map,
            program,
            local: ethtool::driver_info(name)
                .is_ok_and(|d| unfinished::DRIVERS.contains(&&*d.driver)),
        };
        match settings.mode {
            Mode::BestEffort => attempt.best(),
            mode => {
                let first = attempt.first(mode);
                let first = first.map_err(|error| attempt.failed(mode, 0, &error));
                attempt.all(mode, first.ok()?)
            }
        }
    }
}

impl Attempt<'_> {
    /// In the first mode in which the first queue works.
    fn best(&self) -> Option<Attached> {
        let name = self.name;
        for mode in Mode::DEFINITE {
            match self.first(mode) {
                Ok(first) => {
                    vlog::info!(NETDEV_AFXDP, "{name}: {mode} XDP mode will be in use.");
                    return self.all(mode, first);
                }
                Err(error) => {
                    let error = text::errno(&error);
                    vlog::dbg!(NETDEV_AFXDP, "{name}: no {mode} XDP mode: {error}");
                }
            }
        }
        vlog::err!(NETDEV_AFXDP, "{name}: Failed to detect suitable XDP mode.");
        None
    }

    /// The first queue, and the program.
    fn first(&self, mode: Mode) -> io::Result<(Arc<Queue>, XdpLink)> {
        let queue = self.open(mode, 0)?;
        let hook = match mode {
            Mode::Generic => Hook::Generic,
            _ => Hook::Native,
        };
        let link = XdpLink::attach(&self.program, self.ifindex, hook)?;
        Ok((queue, link))
    }

    /// The other queues.
    fn all(&self, mode: Mode, (first, link): (Arc<Queue>, XdpLink)) -> Option<Attached> {
        let mut queues = vec![first];
        for queue in 1..self.settings.n_rxq {
            let opened = self.open(mode, queue);
            let opened = opened.map_err(|error| self.failed(mode, queue, &error));
            queues.push(opened.ok()?);
        }
        Some(Attached {
            _link: link,
            mode,
            queues,
        })
    }

    fn open(&self, mode: Mode, queue: usize) -> io::Result<Arc<Queue>> {
        let config = XskConfig {
            ifindex: self.ifindex,
            queue: queue as u32,
            zero_copy: mode == Mode::NativeZeroCopy,
            need_wakeup: self.settings.need_wakeup,
        };
        let halves = patiently(|| xdp::open(&config))?;
        self.map.set(config.queue, &halves.0)?;
        let queue = Queue::new(self.name, self.local, halves, self.sums.clone());
        Ok(Arc::new(queue))
    }

    fn failed(&self, mode: Mode, queue: usize, error: &io::Error) {
        let (name, wakeup) = (self.name, self.settings.need_wakeup);
        let error = text::errno(error);
        vlog::err!(
            NETDEV_AFXDP,
            "xsk_socket__create failed ({error}) mode: {mode}, use-need-wakeup: {wakeup}, qid: {queue}"
        );
        vlog::err!(
            NETDEV_AFXDP,
            "{name}: Failed to create AF_XDP socket on queue {queue} in {mode} mode."
        );
        vlog::err!(
            NETDEV_AFXDP,
            "{name}: Failed to create AF_XDP socket on queue {queue}."
        );
    }
}

/// Tries again while the kernel has not let go of a queue yet, whose last socket was closed just now.
fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..TRIES {
        match open() {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    open()
}

/// Takes a program off the device that somebody has left there.
pub fn remove_program(name: &str, ifindex: Option<u32>) {
    vlog::info!(NETDEV_AFXDP, "{name}: Removing xdp program.");
    let Some(index) = ifindex else { return };
    let found = Rtnl::open().and_then(|mut rtnl| Ok((rtnl.link(name)?.xdp_program, rtnl)));
    let removed = match found {
        Ok((0, _)) => {
            vlog::info!(NETDEV_AFXDP, "No XDP program is loaded at ifindex {index}");
            return;
        }
        Ok((_, mut rtnl)) => rtnl.remove_xdp(index),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        let error = text::errno(&error);
        vlog::warn!(
            NETDEV_AFXDP,
            "{name}: could not remove XDP program: {error}"
        );
    }
}
