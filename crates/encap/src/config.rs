//! What tunnel ports can be told.

use std::net::{IpAddr, Ipv6Addr};

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
    pub erspan: Erspan,
    /// The segments of segment routing, the first first; none means the remote address alone.
    pub srv6_segs: Vec<Ipv6Addr>,
    pub srv6_flowlabel: FlowLabel,
    /// EtherType of what bareudp carries.
    pub payload_type: u16,
}

/// A member of a header that the configuration gives, or leaves to the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Is(u32),
    Flow,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting::Is(0)
    }
}

impl Setting {
    /// The value, which is `flow` where the configuration leaves it open.
    pub fn or(self, flow: u32) -> u32 {
        match self {
            Setting::Is(value) => value,
            Setting::Flow => flow,
        }
    }
}

/// What ERSPAN's header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erspan {
    pub ver: Setting,
    /// Version 1.
    pub idx: Setting,
    /// Version 2.
    pub dir: Setting,
    pub hwid: Setting,
}

/// The flow label of the outer IPv6 header of segment routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowLabel {
    /// That of the inner header.
    #[default]
    Copy,
    Zero,
    /// A hash of the inner flow.
    Compute,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketTypeMode {
    #[default]
    LegacyL2,
    LegacyL3,
    Ptap,
}

impl PacketTypeMode {
    /// What the `packet_type` option means.
    pub fn named(text: &str) -> Option<PacketTypeMode> {
        use PacketTypeMode::{LegacyL2, LegacyL3, Ptap};
        [LegacyL2, LegacyL3, Ptap]
            .into_iter()
            .find(|m| m.as_str() == text)
    }

    /// As the `packet_type` option writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PacketTypeMode::LegacyL2 => "legacy_l2",
            PacketTypeMode::LegacyL3 => "legacy_l3",
            PacketTypeMode::Ptap => "ptap",
        }
    }
}
