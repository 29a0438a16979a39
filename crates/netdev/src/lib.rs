//! Network devices as ports of a switch: one trait, a registry of classes by type name, and the classes.
//!
//! [`open`] turns a name and a type into a shared device; the same name gives the same device as
//! long as somebody holds it, and the device is released with its last holder. What a port is
//! ([`PortClass`]) is settled then. Packets come and go by queues ([`Rxq`], [`Txq`]), each owned by
//! the thread that opened it. Checksums and segmentation that a sender left undone travel with the
//! packet ([`Offload`](ferrovs_packet::buffer::Offload)); a transmit queue does itself what the
//! device behind it cannot ([`Capabilities`]).
//!
//! How many queues a device has, and where its memory is ([`Layout`]), changes in two steps, because
//! queues that are open must be closed first: options say what is wanted ([`Netdev::requested`]),
//! and whoever owns the queues calls [`Netdev::reconfigure`] when they are closed.
//!
//! [`run`] and [`wait`] belong in the main loop: they hear which links come, change and go.
#![forbid(unsafe_code)]

mod afxdp;
mod changes;
pub mod dummy;
mod known;
mod linux;
mod loss;
pub mod offload;
mod registry;
mod replay;
pub mod vhost;
mod virt;
mod vport;

pub use changes::{Changes, change_seq};
pub use linux::LinkStats;
pub use linux::closing::set_keep_devices;
pub use loss::{Loss, LossCounters, LossSums, Losses};
pub use offload::Capabilities;
pub use registry::{
    Class, exists, finish_closing, is_in_use, kinds, lookup, open, register, wait_for,
};
pub use vport::{PatchPort, TunnelPort, dpif_port_name, set_egress_status, tunnels_changed};

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ferrovs_encap::TunnelConfig;
use ferrovs_packet::buffer::Batch;
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::Poller;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u8 {
        const UP = 1;
        const PROMISC = 2;
        const LOOPBACK = 4;
    }
}

/// Counters of a device; None where the device cannot tell. Names are those of `Interface.statistics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub rx_packets: Option<u64>,
    pub tx_packets: Option<u64>,
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub rx_errors: Option<u64>,
    pub tx_errors: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub multicast: Option<u64>,
    pub collisions: Option<u64>,
    pub rx_length_errors: Option<u64>,
    pub rx_over_errors: Option<u64>,
    pub rx_crc_errors: Option<u64>,
    pub rx_frame_errors: Option<u64>,
    pub rx_fifo_errors: Option<u64>,
    pub rx_missed_errors: Option<u64>,
    pub custom: Vec<(String, u64)>,
}

/// Link features in OpenFlow 1.1 bits (`OFPPF_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub current: u32,
    pub advertised: u32,
    pub supported: u32,
    pub peer: u32,
    /// Mb/s.
    pub speed_current: u32,
    pub speed_max: u32,
    pub full_duplex: Option<bool>,
}

/// A receive queue, owned by the one thread that polls it.
pub trait Rxq: Send {
    /// Appends up to the room in the batch; 0 when nothing waits. Sets no `in_port`. After ENETDOWN there may be
    /// packets again, when the device is up.
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize>;
    /// What to poll for the next packet; None for a queue that must be polled busily.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// Throws away what waits.
    fn drain(&mut self) -> io::Result<()>;
}

/// A transmit queue, owned by the one thread that sends through it.
pub trait Txq: Send {
    /// Sends and empties the batch; tells what could not be sent, which the device counts too.
    fn send(&mut self, batch: &mut Batch) -> Losses;
}

/// What a port is; settled when it is opened.
#[derive(Clone, Debug)]
pub enum PortClass {
    /// Packets come and go by its queues.
    Device,
    /// The other half of a port of another bridge.
    Patch(Arc<PatchPort>),
    /// Packets come and go inside others.
    Tunnel(Arc<TunnelPort>),
}

impl PortClass {
    /// Configuration of a tunnel port.
    pub fn tunnel_config(&self) -> Option<Arc<TunnelConfig>> {
        match self {
            PortClass::Tunnel(tunnel) => Some(tunnel.config()),
            _ => None,
        }
    }

    /// The name of the peer that a patch port has been given.
    pub fn patch_peer(&self) -> Option<Arc<String>> {
        match self {
            PortClass::Patch(patch) => patch.peer(),
            _ => None,
        }
    }

    /// Adds (packets, bytes) received and sent by a port that has no device which counts them.
    pub fn account(&self, rx: (u64, u64), tx: (u64, u64)) {
        match self {
            PortClass::Device => {}
            PortClass::Patch(patch) => patch.account(rx, tx),
            PortClass::Tunnel(tunnel) => tunnel.account(rx, tx),
        }
    }
}

/// What cannot change while queues are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub n_rxq: usize,
    pub n_txq: usize,
    /// The memory node that the device is near to.
    pub numa_id: u32,
    /// Another number when anything else is to be otherwise than when queues were opened.
    pub serial: u64,
}

impl Layout {
    /// Of a port without queues.
    pub const NONE: Layout = Layout {
        n_rxq: 0,
        n_txq: 0,
        numa_id: 0,
        serial: 0,
    };
    /// Of a device with one queue each way.
    pub const SINGLE: Layout = Layout {
        n_rxq: 1,
        n_txq: 1,
        numa_id: 0,
        serial: 0,
    };
}

/// A network device. All methods may be called from any thread.
pub trait Netdev: Send + Sync {
    fn name(&self) -> &str;
    /// Type name, for example `system`.
    fn kind(&self) -> &'static str;
    fn class(&self) -> &PortClass {
        &PortClass::Device
    }
    /// Whether frames carry an Ethernet header: others cannot be attached to a datapath.
    fn is_ethernet(&self) -> bool {
        true
    }
    fn is_pmd(&self) -> bool {
        false
    }

    /// Applies `Interface.options`; the error is the text that the user sees. What queues stand in
    /// the way of is only asked for: see [`Netdev::reconfigure`].
    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String>;
    fn config(&self) -> BTreeMap<String, String>;

    /// What holds now.
    fn layout(&self) -> Layout;
    /// What shall hold after the next [`Netdev::reconfigure`].
    fn requested(&self) -> Layout {
        self.layout()
    }
    /// Makes what was asked for hold. The caller has closed all queues.
    fn reconfigure(&self) -> io::Result<()> {
        Ok(())
    }
    /// Whether the other end of a receive queue uses it.
    fn rxq_enabled(&self, _queue: usize) -> bool {
        true
    }
    fn rxq_open(&self, queue: usize) -> io::Result<Box<dyn Rxq>>;
    /// Opens a transmit queue. Threads that open the same one share what is behind it.
    fn txq_open(&self, queue: usize) -> io::Result<Box<dyn Txq>>;
    /// What the device does for those who send through it.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn etheraddr(&self) -> io::Result<MacAddr>;
    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()>;
    fn mtu(&self) -> io::Result<u32>;
    fn set_mtu(&self, mtu: u32) -> io::Result<()>;
    fn flags(&self) -> io::Result<Flags>;
    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()>;
    fn carrier(&self) -> bool {
        true
    }
    fn carrier_resets(&self) -> u64 {
        0
    }
    fn ifindex(&self) -> Option<u32> {
        None
    }
    fn stats(&self) -> io::Result<Stats>;
    /// What the device received and could not hand on.
    fn rx_losses(&self) -> LossSums {
        LossSums::default()
    }
    /// The same for one device among several, whose links are asked for at once.
    fn stats_among(&self, _links: &LinkStats) -> io::Result<Stats> {
        self.stats()
    }
    fn features(&self) -> io::Result<Features>;
    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>>;
    /// `Interface.status`.
    fn status(&self) -> BTreeMap<String, String>;
    /// Changes whenever something that a reader may have cached has changed.
    fn change_seq(&self) -> u64;
}

/// Lets the streams of dummy devices make progress, and tells devices what happened to their links.
pub fn run() {
    dummy::run();
    registry::run();
}

/// Says what would make [`run`] worth calling.
pub fn wait(poller: &mut Poller) {
    dummy::wait(poller);
    registry::wait(poller);
}
