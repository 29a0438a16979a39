//! Devices of the host by AF_XDP: `afxdp`, polled by threads of their own, and `afxdp-nonpmd`, whose packets are
//! waited for.
//!
//! ```text
//!   driver --- XDP program --- XskRx of the queue ---> switch          (the host's stack does not see the packet)
//!   driver <------------------ XskTx of the queue <--- switch
//! ```
//!
//! A port takes `n_rxq` queues of the device, with a socket for each; packets of other queues go to the host as they
//! would without. What the host's tools can tell of the device and do to it is the same as for `system` devices, by
//! one of which this is backed; only packets take another way.
//!
//! Everything that options change (mode, queues, wake-ups) takes other sockets, so it is done when the queues are
//! closed ([`Netdev::reconfigure`]). A device that vanished and returned gets other sockets the same way.
//!
//! Checksums and segmentation: the kernel does nothing for frames that leave this way, so the switch finishes packets
//! itself. Frames that come are as they are in memory: those of a host at the other end of a veth pair lack the
//! checksum if that host has its device do it, which is noticed (`unfinished`). Large frames of such a host do not
//! come, because the kernel has it cut them as long as there is a program in `native` mode.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::{NETDEV, NETDEV_AFXDP};
use ferrovs_sync::Counter;

use crate::changes::changed;
use crate::{
    Capabilities, Features, Flags, Layout, LinkStats, Loss, LossSums, Netdev, Rxq, Stats, Txq,
    linux, offload,
};

mod attached;
mod queue;
mod settings;
#[cfg(test)]
mod tests;
mod unfinished;

use attached::Attached;
use queue::{XdpRxq, XdpTxq};
use settings::Settings;

const EINVAL: i32 = 22;
/// With it a frame with a VLAN tag, and what Open vSwitch keeps free in front of it, fill the memory for a frame.
const MAX_MTU: u32 = 3694;

/// The type whose queues are polled.
pub const POLLED: &str = "afxdp";
/// The type whose packets are waited for.
pub const WAITED_FOR: &str = "afxdp-nonpmd";

struct Device {
    /// The device as the host has it.
    host: Arc<dyn Netdev>,
    state: Mutex<State>,
    sums: Arc<Sums>,
}

/// What queues count for their device.
#[derive(Debug, Default)]
struct Sums {
    /// Frames that could not be sent.
    tx_dropped: Counter,
    /// Received frames that were none.
    malformed: Counter,
}

#[derive(Debug, Default)]
struct State {
    wanted: Settings,
    /// With which `attached` was made, or was to be made.
    tried: Settings,
    /// For which device of that name.
    ifindex: u32,
    /// How often that was.
    serial: u64,
    attached: Option<Attached>,
}

impl State {
    /// Whether the sockets are not those that they should be; `ifindex` is none for a device that is away.
    fn is_behind(&self, ifindex: Option<u32>) -> bool {
        self.wanted != self.tried || ifindex.is_some_and(|index| index != self.ifindex)
    }
}

/// Opens a device that the host has. It gets its sockets by [`Netdev::reconfigure`].
pub fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    let host = linux::open_existing(name, kind)?;
    Ok(Arc::new(Device {
        host,
        state: Mutex::default(),
        sums: Arc::default(),
    }))
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn queue(&self, queue: usize) -> io::Result<Arc<queue::Queue>> {
        let state = self.state();
        let attached = state.attached.as_ref();
        let found = attached.and_then(|a| a.queues.get(queue).cloned());
        found.ok_or_else(|| io::Error::from_raw_os_error(19)) // ENODEV
    }

    /// The counters of the link and the sockets'; what is zero is not told.
    fn stats_of(&self, mut stats: Stats) -> Stats {
        let told = |n: &mut Option<u64>| *n = n.filter(|n| *n > 0);
        let dropped = stats.tx_dropped.unwrap_or(0) + self.sums.tx_dropped.sum();
        stats.tx_dropped = Some(dropped);
        for n in [
            &mut stats.rx_packets,
            &mut stats.tx_packets,
            &mut stats.rx_bytes,
            &mut stats.tx_bytes,
            &mut stats.rx_errors,
            &mut stats.tx_errors,
            &mut stats.rx_dropped,
            &mut stats.tx_dropped,
            &mut stats.multicast,
            &mut stats.collisions,
            &mut stats.rx_length_errors,
            &mut stats.rx_over_errors,
            &mut stats.rx_crc_errors,
            &mut stats.rx_frame_errors,
            &mut stats.rx_fifo_errors,
            &mut stats.rx_missed_errors,
        ] {
            told(n);
        }
        stats.custom = self.custom();
        stats
    }

    fn custom(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let queues = state.attached.iter().flat_map(|a| a.queues.iter());
        let of_queue = |(queue, q): (usize, &Arc<queue::Queue>)| {
            let s = q.statistics();
            [
                ("rx_dropped", s.rx_dropped),
                ("rx_invalid_descs", s.rx_invalid_descs),
                ("tx_invalid_descs", s.tx_invalid_descs),
            ]
            .map(|(name, n)| (format!("xsk_queue_{queue}_{name}"), n))
        };
        queues.enumerate().flat_map(of_queue).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let name = self.host.name();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.attached = None;
        attached::remove_program(name, self.host.ifindex());
    }
}

impl Netdev for Device {
    fn name(&self) -> &str {
        self.host.name()
    }

    fn kind(&self) -> &'static str {
        self.host.kind()
    }

    fn is_ethernet(&self) -> bool {
        self.host.is_ethernet()
    }

    fn is_pmd(&self) -> bool {
        self.kind() == POLLED
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        let name = self.name();
        let settings = Settings::parse(options).map_err(|why| {
            vlog::err!(NETDEV_AFXDP, "{name}: {why}");
            let text = format!("{name}: could not set configuration (Invalid argument)");
            vlog::warn!(NETDEV, "{text}");
            text
        })?;
        let mut state = self.state();
        if state.wanted != settings {
            state.wanted = settings;
            drop(state);
            changed(name);
        }
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        self.state().wanted.to_options()
    }

    fn layout(&self) -> Layout {
        let state = self.state();
        Layout {
            n_rxq: state.tried.n_rxq,
            n_txq: state.tried.n_rxq,
            serial: state.serial,
            ..self.host.layout()
        }
    }

    fn requested(&self) -> Layout {
        let state = self.state();
        let behind = state.is_behind(self.host.ifindex());
        Layout {
            n_rxq: state.wanted.n_rxq,
            n_txq: state.wanted.n_rxq,
            serial: state.serial + u64::from(behind),
            ..self.host.layout()
        }
    }

    fn reconfigure(&self) -> io::Result<()> {
        let (name, ifindex) = (self.name(), self.host.ifindex());
        let mut state = self.state();
        if state.attached.is_some() && !state.is_behind(ifindex) {
            return Ok(());
        }
        state.attached = None;
        state.tried = state.wanted;
        state.ifindex = ifindex.unwrap_or(0);
        state.serial += 1;
        attached::remove_program(name, ifindex);
        match Attached::new(name, state.ifindex, &state.wanted, &self.sums) {
            Some(attached) => {
                state.attached = Some(attached);
                Ok(())
            }
            None => {
                attached::remove_program(name, ifindex);
                vlog::err!(
                    NETDEV_AFXDP,
                    "{name}: AF_XDP device reconfiguration failed."
                );
                Err(io::Error::from_raw_os_error(EINVAL))
            }
        }
    }

    fn rxq_open(&self, queue: usize) -> io::Result<Box<dyn Rxq>> {
        Ok(Box::new(XdpRxq {
            queue: self.queue(queue)?,
        }))
    }

    fn txq_open(&self, queue: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(XdpTxq {
            queue: self.queue(queue)?,
        }))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        self.host.etheraddr()
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        self.host.set_etheraddr(mac)
    }

    fn mtu(&self) -> io::Result<u32> {
        self.host.mtu()
    }

    fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        if mtu > MAX_MTU {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        self.host.set_mtu(mtu)
    }

    fn flags(&self) -> io::Result<Flags> {
        self.host.flags()
    }

    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()> {
        self.host.update_flags(off, on)
    }

    fn carrier(&self) -> bool {
        self.host.carrier()
    }

    fn carrier_resets(&self) -> u64 {
        self.host.carrier_resets()
    }

    fn ifindex(&self) -> Option<u32> {
        self.host.ifindex()
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(self.stats_of(self.host.stats()?))
    }

    fn stats_among(&self, links: &LinkStats) -> io::Result<Stats> {
        let stats = match self.host.stats_among(links) {
            // The sockets have theirs.
            Err(_) if self.ifindex().is_none() => Stats::default(),
            stats => stats?,
        };
        Ok(self.stats_of(stats))
    }

    fn rx_losses(&self) -> LossSums {
        let mut sums = LossSums::default();
        sums.add(Loss::Malformed, self.sums.malformed.sum());
        if let Some(attached) = &self.state().attached {
            for queue in &attached.queues {
                let s = queue.statistics();
                sums.add(Loss::QueueFull, s.rx_dropped + s.rx_ring_full);
            }
        }
        sums
    }

    fn features(&self) -> io::Result<Features> {
        self.host.features()
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        self.host.addresses()
    }

    fn status(&self) -> BTreeMap<String, String> {
        let mut status = self.host.status();
        if status.is_empty() {
            // Nothing is true of a device that is gone.
            return status;
        }
        status.extend(offload::status(self.capabilities()));
        if let Some(attached) = &self.state().attached {
            status.insert("xdp-mode".to_owned(), attached.mode.to_string());
        }
        status
    }

    fn change_seq(&self) -> u64 {
        self.host.change_seq()
    }
}
