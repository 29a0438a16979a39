//! Packets between switch and controller: packet-in in all its formats, packet-out, and resumption.
//!
//! A packet-in that comes from `controller(pause)` carries a [`Continuation`]: what the pipeline needs to go on
//! when the controller sends the packet back with NXT_RESUME.

use ferrovs_packet::flow::Match;
use ferrovs_packet::types::OfPort;

use crate::action::Action;

/// Formats in which a switch may send packet-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum PacketInFormat {
    /// The version's own message.
    Standard = 0,
    Nxt = 1,
    Nxt2 = 2,
}

impl PacketInFormat {
    pub fn from_wire(n: u32) -> Option<PacketInFormat> {
        [
            PacketInFormat::Standard,
            PacketInFormat::Nxt,
            PacketInFormat::Nxt2,
        ]
        .get(n as usize)
        .copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            PacketInFormat::Standard => "standard",
            PacketInFormat::Nxt => "nxt_packet_in",
            PacketInFormat::Nxt2 => "nxt_packet_in2",
        }
    }

    pub fn from_name(s: &str) -> Option<PacketInFormat> {
        match s {
            "standard" | "openflow10" => Some(PacketInFormat::Standard),
            "nxt_packet_in" | "nxm" => Some(PacketInFormat::Nxt),
            "nxt_packet_in2" => Some(PacketInFormat::Nxt2),
            _ => None,
        }
    }
}

/// Why a packet goes to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketInReason {
    NoMatch = 0,
    Action = 1,
    InvalidTtl = 2,
    ActionSet = 3,
    Group = 4,
    PacketOut = 5,
    /// An explicit table-miss flow sent it; only inside the switch.
    ExplicitMiss = 6,
    /// The implicit table-miss behaviour sent it; only inside the switch.
    ImplicitMiss = 7,
}

impl PacketInReason {
    pub const ALL: [(PacketInReason, &'static str); 8] = [
        (PacketInReason::NoMatch, "no_match"),
        (PacketInReason::Action, "action"),
        (PacketInReason::InvalidTtl, "invalid_ttl"),
        (PacketInReason::ActionSet, "action_set"),
        (PacketInReason::Group, "group"),
        (PacketInReason::PacketOut, "packet_out"),
        (PacketInReason::ExplicitMiss, ""),
        (PacketInReason::ImplicitMiss, ""),
    ];

    pub fn from_wire(n: u8) -> Option<PacketInReason> {
        Self::ALL.get(usize::from(n)).map(|p| p.0)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The cookie of a packet-in that no flow sent.
pub const NO_COOKIE: u64 = u64::MAX;
/// `buffer_id` of a packet that is not buffered.
pub const NO_BUFFER: u32 = u32::MAX;

/// A packet for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketIn {
    /// The bytes that are sent: all of the packet or its beginning.
    pub packet: Vec<u8>,
    /// Length of the whole packet.
    pub total_len: usize,
    /// [`NO_BUFFER`] always when Open vSwitch sends.
    pub buffer_id: u32,
    pub reason: PacketInReason,
    pub table_id: u8,
    /// [`NO_COOKIE`] if none.
    pub cookie: u64,
    /// Pipeline fields: in_port, metadata, registers, tunnel, ct.
    pub flow_metadata: Match,
    pub userdata: Vec<u8>,
    pub continuation: Option<Box<Continuation>>,
}

impl Default for PacketIn {
    fn default() -> Self {
        PacketIn {
            packet: Vec::new(),
            total_len: 0,
            buffer_id: NO_BUFFER,
            reason: PacketInReason::NoMatch,
            table_id: 0,
            cookie: NO_COOKIE,
            flow_metadata: Match::default(),
            userdata: Vec::new(),
            continuation: None,
        }
    }
}

/// A pipeline's saved state, opaque for the controller.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Continuation {
    /// The bridge's UUID.
    pub bridge: [u8; 16],
    /// Elements of the stack, oldest first.
    pub stack: Vec<Vec<u8>>,
    pub mirrors: u32,
    pub conntracked: bool,
    pub table_id: u8,
    pub cookie: u64,
    pub odp_port: Option<u32>,
    pub actions: Vec<Action>,
    pub action_set: Vec<Action>,
}

/// A packet that a controller sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketOut {
    pub packet: Vec<u8>,
    pub buffer_id: u32,
    /// Pipeline fields; `in_port` at least.
    pub flow_metadata: Match,
    pub actions: Vec<Action>,
}

impl PacketOut {
    pub fn in_port(&self) -> OfPort {
        OfPort(self.flow_metadata.flow.in_port as u16)
    }
}
