//! Network devices as ports of a switch: one trait, a registry of classes by type name, and the classes.
//!
//! [`open`] turns a name and a type into a shared device; the same name gives the same device as
//! long as somebody holds it, and the device is released with its last holder. A device sends from
//! any thread; each of its receive queues belongs to the thread that opened it. Checksums and
//! segmentation that a sender left undone travel with the packet
//! ([`Offload`](ferrovs_packet::buffer::Offload)) and are done by whoever puts it on a wire: the
//! kernel, for the classes here.
//!
//! [`run`] and [`wait`] belong in the main loop: they hear which links come, change and go.
#![forbid(unsafe_code)]

pub mod dummy;
mod linux;
pub mod offload;
mod registry;
mod replay;
mod virt;
mod vport;

pub use registry::{
    Class, change_seq, exists, kinds, lookup, open, open_all, register, run, set_keep_devices, wait,
};
pub use vport::{PacketTypeMode, TunnelConfig, dpif_port_name, set_egress_status, tunnels_changed};

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ferrovs_packet::buffer::Batch;
use ferrovs_packet::types::MacAddr;

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
    /// Appends up to the room in the batch; 0 when nothing waits. Sets no `in_port`.
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize>;
    /// What to poll for the next packet; None for a queue that must be polled busily.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// Throws away what waits.
    fn drain(&mut self) -> io::Result<()>;
}

/// A network device. All methods may be called from any thread.
pub trait Netdev: Send + Sync {
    fn name(&self) -> &str;
    /// Whether frames carry an Ethernet header: others cannot be attached to a datapath.
    fn is_ethernet(&self) -> bool {
        true
    }
    /// The kernel reports a change of the link of that name; None: it is gone.
    fn link_event(&self, _link: Option<&ferrovs_sys::rtnetlink::Link>) {}
    /// Type name, for example `system`.
    fn kind(&self) -> &'static str;
    fn is_pmd(&self) -> bool {
        false
    }
    /// The memory node that the device is near to.
    fn numa_id(&self) -> u32 {
        0
    }

    /// Applies `Interface.options`; the error is the text that the user sees.
    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String>;
    fn config(&self) -> BTreeMap<String, String>;

    fn n_rxq(&self) -> usize;
    fn n_txq(&self) -> usize;
    fn rxq_open(&self, queue: usize) -> io::Result<Box<dyn Rxq>>;
    /// Sends and empties the batch; packets that could not be sent are counted by the device.
    fn send(&self, queue: usize, batch: &mut Batch) -> io::Result<()>;

    fn etheraddr(&self) -> io::Result<MacAddr>;
    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()>;
    fn mtu(&self) -> io::Result<u32>;
    fn set_mtu(&self, mtu: u32) -> io::Result<()>;
    fn flags(&self) -> io::Result<Flags>;
    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()>;
    fn carrier(&self) -> bool;
    fn carrier_resets(&self) -> u64;
    fn ifindex(&self) -> Option<u32>;
    fn stats(&self) -> io::Result<Stats>;
    fn features(&self) -> io::Result<Features>;
    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>>;
    /// `Interface.status`.
    fn status(&self) -> BTreeMap<String, String>;
    /// Changes whenever something that a reader may have cached has changed.
    fn change_seq(&self) -> u64;
    /// Adds (packets, bytes) received and sent by a port that has no device: patch and tunnel ports.
    fn account(&self, _rx: (u64, u64), _tx: (u64, u64)) {}
    /// For tunnel ports: the way to their remote may have changed.
    fn route_event(&self) {}
    /// For tunnel ports: their configuration; see the tunnel crate.
    fn tunnel_config(&self) -> Option<Arc<TunnelConfig>> {
        None
    }
    /// For patch ports: the name of the peer.
    fn patch_peer(&self) -> Option<String> {
        None
    }
}
