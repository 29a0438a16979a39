//! Meter messages.

use bitflags::bitflags;

/// The greatest ordinary meter id.
pub const METER_MAX: u32 = 0xffff_0000;
pub const METER_SLOWPATH: u32 = 0xffff_fffd;
pub const METER_CONTROLLER: u32 = 0xffff_fffe;
pub const METER_ALL: u32 = 0xffff_ffff;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MeterFlags: u16 {
        const KBPS = 1 << 0;
        const PKTPS = 1 << 1;
        const BURST = 1 << 2;
        const STATS = 1 << 3;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MeterCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MeterBandType {
    Drop = 1,
    DscpRemark = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeterBand {
    pub type_: MeterBandType,
    pub prec_level: u8,
    pub rate: u32,
    pub burst_size: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MeterConfig {
    pub meter_id: u32,
    pub flags: MeterFlags,
    pub bands: Vec<MeterBand>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterMod {
    pub command: MeterCommand,
    pub meter: MeterConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterBandStats {
    pub packet_count: u64,
    pub byte_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MeterStats {
    pub meter_id: u32,
    pub flow_count: u32,
    pub packet_in_count: u64,
    pub byte_in_count: u64,
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub bands: Vec<MeterBandStats>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterFeatures {
    pub max_meters: u32,
    /// Bit n: band type n.
    pub band_types: u32,
    /// Bits of [`MeterFlags`].
    pub capabilities: u32,
    pub max_bands: u8,
    pub max_color: u8,
}
