//! Port and queue messages.

use bitflags::bitflags;
use ferrovs_packet::types::{MacAddr, OfPort};

bitflags! {
    /// Administrative settings of a port.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PortConfig: u32 {
        const DOWN = 1 << 0;
        const NO_STP = 1 << 1;
        const NO_RECV = 1 << 2;
        const NO_RECV_STP = 1 << 3;
        const NO_FLOOD = 1 << 4;
        const NO_FWD = 1 << 5;
        const NO_PACKET_IN = 1 << 6;
    }

    /// State of a port. The STP state of OpenFlow 1.0 is two bits wide (8 and 9).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PortState: u32 {
        const LINK_DOWN = 1 << 0;
        const BLOCKED = 1 << 1;
        const LIVE = 1 << 2;
        const STP_LEARN = 1 << 8;
        const STP_FORWARD = 2 << 8;
        const STP_BLOCK = 3 << 8;
    }

    /// Link modes; the numbers of OpenFlow 1.1 and later.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct PortFeatures: u32 {
        const F10MB_HD = 1 << 0;
        const F10MB_FD = 1 << 1;
        const F100MB_HD = 1 << 2;
        const F100MB_FD = 1 << 3;
        const F1GB_HD = 1 << 4;
        const F1GB_FD = 1 << 5;
        const F10GB_FD = 1 << 6;
        const F40GB_FD = 1 << 7;
        const F100GB_FD = 1 << 8;
        const F1TB_FD = 1 << 9;
        const OTHER = 1 << 10;
        const COPPER = 1 << 11;
        const FIBER = 1 << 12;
        const AUTONEG = 1 << 13;
        const PAUSE = 1 << 14;
        const PAUSE_ASYM = 1 << 15;
    }
}

impl PortState {
    /// The mask of the STP state.
    pub const STP_MASK: u32 = 3 << 8;
}

impl PortFeatures {
    /// The fastest speed of the set, in bits per second; 0 unknown.
    pub fn max_bps(self) -> u64 {
        const SPEEDS: [(PortFeatures, u64); 7] = [
            (PortFeatures::F1TB_FD, 1_000_000_000_000),
            (PortFeatures::F100GB_FD, 100_000_000_000),
            (PortFeatures::F40GB_FD, 40_000_000_000),
            (PortFeatures::F10GB_FD, 10_000_000_000),
            (
                PortFeatures::F1GB_HD.union(PortFeatures::F1GB_FD),
                1_000_000_000,
            ),
            (
                PortFeatures::F100MB_HD.union(PortFeatures::F100MB_FD),
                100_000_000,
            ),
            (
                PortFeatures::F10MB_HD.union(PortFeatures::F10MB_FD),
                10_000_000,
            ),
        ];
        SPEEDS
            .iter()
            .find(|(f, _)| self.intersects(*f))
            .map_or(0, |(_, bps)| *bps)
    }
}

/// A port's description.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortDesc {
    pub port_no: OfPort,
    pub hw_addr: MacAddr,
    /// An address of 64 bits, from OpenFlow 1.6's field that Open vSwitch knows; zero if none.
    pub hw_addr64: [u8; 8],
    pub name: String,
    pub config: PortConfig,
    pub state: PortState,
    pub curr: PortFeatures,
    pub advertised: PortFeatures,
    pub supported: PortFeatures,
    pub peer: PortFeatures,
    /// Speeds in kbps, from 1.1 on.
    pub curr_speed: u32,
    pub max_speed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PortReason {
    Add = 0,
    Delete = 1,
    Modify = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    pub reason: PortReason,
    pub desc: PortDesc,
}

/// Changes a port's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortMod {
    pub port_no: OfPort,
    pub hw_addr: MacAddr,
    pub config: PortConfig,
    pub mask: PortConfig,
    pub advertise: PortFeatures,
}

/// A counter that OpenFlow does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomStat {
    pub name: String,
    pub value: u64,
}

/// Counters of a port; `u64::MAX` where unknown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortStats {
    pub port_no: OfPort,
    /// Age of the port; `u32::MAX` seconds unknown.
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_err: u64,
    pub rx_over_err: u64,
    pub rx_crc_err: u64,
    pub collisions: u64,
    /// RFC 2819 histogram and error counters in the order of the ONF-registered Intel extension; empty: none.
    pub rfc2819: Vec<u64>,
    pub custom: Vec<CustomStat>,
}

/// A queue of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub port: OfPort,
    pub queue: u32,
    /// In tenths of a percent; `None` unknown.
    pub min_rate: Option<u16>,
    pub max_rate: Option<u16>,
}

/// Which queues a request is for. [`OfPort::NONE`] and [`QUEUE_ALL`]: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRequest {
    pub port: OfPort,
    pub queue: u32,
}

/// `queue` of a request for every queue.
pub const QUEUE_ALL: u32 = 0xffff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStats {
    pub port: OfPort,
    pub queue: u32,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    /// `u32::MAX` seconds: unknown.
    pub duration_sec: u32,
    pub duration_nsec: u32,
}
