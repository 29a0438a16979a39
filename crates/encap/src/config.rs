//! What tunnel ports can be told.

use std::net::IpAddr;

/// The TTL that most types give to outer headers unless configured.
pub const DEFAULT_TTL: u8 = 64;

/// Configuration of a tunnel port, parsed from `Interface.options`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelConfig {
    pub in_key_present: bool,
    pub in_key_flow: bool,
    pub in_key: u64,
    pub out_key_present: bool,
    pub out_key_flow: bool,
    pub out_key: u64,
    pub dst_port: u16,
    pub ip_src_flow: bool,
    pub ip_dst_flow: bool,
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    /// Bits of the row's `options.exts`.
    pub exts: u32,
    pub egress_pkt_mark: Option<u32>,
    pub ttl: u8,
    pub ttl_inherit: bool,
    pub tos: u8,
    pub tos_inherit: bool,
    pub csum: Option<bool>,
    pub dont_fragment: bool,
    pub seq: bool,
    pub packet_type: PacketTypeMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketTypeMode {
    #[default]
    LegacyL2,
    LegacyL3,
    Ptap,
}

impl PacketTypeMode {
    /// As the `packet_type` option writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PacketTypeMode::LegacyL2 => "legacy_l2",
            PacketTypeMode::LegacyL3 => "legacy_l3",
            PacketTypeMode::Ptap => "ptap",
        }
    }
}
