//! What the row of a tunnel type says, and what its functions are given and give.
//!
//! A type has two sides. A [`HeaderType`] is a kind of outer header in the datapath's interface: its number, its text, and
//! what each packet fills in. A [`TunnelType`] is a type of port (`Interface.type`): its name and that of its port in
//! the datapath, what its packets are addressed to, its options and their checks, how its header is built and how one
//! is taken off. Whoever handles a port or a header holds a reference to its row and never looks at a name again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ferrovs_packet::buffer::{Offload, Packet};
use ferrovs_packet::flow::FlowTnl;
use ferrovs_packet::text::Cursor;

use crate::config::{PacketTypeMode, TunnelConfig};
use crate::segments::Segments;

/// A kind of outer header.
#[derive(Debug)]
pub struct HeaderType {
    /// `OVS_VPORT_TYPE_*`.
    pub number: u32,
    /// Writes what follows the outer IP header; ends early where the bytes do.
    pub format: fn(&mut String, &[u8]) -> Option<()>,
    /// Reads what [`HeaderType::format`] writes.
    pub parse: fn(&mut Cursor<'_>, &mut Vec<u8>) -> Option<()>,
    /// Fills in what depends on the packet, beyond the IP header.
    pub finish: fn(&mut Packet, &Outer<'_>),
    /// Whether a large packet gets the header whole: whoever cuts it into segments makes the header right in each.
    /// Otherwise only segments get it.
    pub large: fn(&Packet) -> bool,
    /// It tells the time of day.
    pub timed: bool,
    /// It cuts frames to what the device sends.
    pub cuts: bool,
}

impl PartialEq for HeaderType {
    fn eq(&self, other: &HeaderType) -> bool {
        self.number == other.number
    }
}

/// What the packets of a tunnel are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IP protocol.
    pub protocol: u8,
    /// For protocols with ports: the port unless configured.
    pub port: Option<u16>,
    /// The IP protocols of packets that it takes.
    pub listens: &'static [u8],
}

impl Transport {
    /// The port that a tunnel with this configuration listens on; 0 for protocols without ports.
    pub fn listens_on(&self, config: &TunnelConfig) -> u16 {
        self.port.map_or(0, |_| config.dst_port)
    }
}

/// Options that not all types have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub csum: bool,
    pub seq: bool,
    /// Names and bits of `exts`.
    pub exts: &'static [(&'static str, u32)],
    /// The members of ERSPAN's header, which all types take but only these show.
    pub erspan: bool,
    /// Headers have options of type, length and value.
    pub tlv: bool,
}

impl Options {
    pub const NONE: Options = Options {
        csum: false,
        seq: false,
        exts: &[],
        erspan: false,
        tlv: false,
    };
}

/// Which packets a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries {
    /// Ethernet frames.
    pub l2: bool,
    /// Packets without an Ethernet header.
    pub l3: bool,
    /// What the tunnel is called where that is told.
    pub called: &'static str,
}

impl Carries {
    /// Nothing but Ethernet frames.
    pub const fn l2(called: &'static str) -> Carries {
        Carries {
            l2: true,
            l3: false,
            called,
        }
    }

    /// Nothing but packets without an Ethernet header.
    pub const fn l3(called: &'static str) -> Carries {
        Carries {
            l2: false,
            l3: true,
            called,
        }
    }

    pub const fn both(called: &'static str) -> Carries {
        Carries {
            l2: true,
            l3: true,
            called,
        }
    }

    /// How packets look to the bridge unless configured.
    pub fn default_mode(&self) -> PacketTypeMode {
        match self.l2 {
            true => PacketTypeMode::LegacyL2,
            false => PacketTypeMode::LegacyL3,
        }
    }
}

/// A type of tunnel port.
#[derive(Debug)]
pub struct TunnelType {
    /// Its name in `Interface.type`.
    pub kind: &'static str,
    /// Name of its port in the datapath, or the beginning of it where the transport's port follows.
    pub dpif_port: &'static str,
    pub transport: Transport,
    pub options: Options,
    /// TTL of outer headers unless configured.
    pub ttl: u8,
    /// What a tunnel with this configuration carries.
    pub carries: fn(&TunnelConfig) -> Carries,
    /// Says why two tunnels cannot share one transport port.
    pub clash: fn(&TunnelConfig, &TunnelConfig) -> Option<&'static str>,
    /// The header over IPv4 and over IPv6.
    pub header: &'static HeaderType,
    pub header6: &'static HeaderType,
    /// Appends what follows the outer IP header, or the UDP header where that is the transport. None where what the flow
    /// says makes no header.
    pub build: fn(&mut Vec<u8>, &TunnelConfig, &Inside<'_>) -> Option<()>,
    /// Reads the same, which goes on to the end of the packet.
    pub pop: fn(&Received<'_>, &mut FlowTnl) -> Result<Inner, PopError>,
    /// Where several packets make one of the tunnel: looks at each as it comes, and puts them together. What is whole
    /// can be read by `pop`.
    pub gather: Option<fn(&mut Packet, &PortState, Instant) -> Result<Gathered, PopError>>,
}

impl PartialEq for TunnelType {
    fn eq(&self, other: &TunnelType) -> bool {
        std::ptr::eq(self, other)
    }
}

impl TunnelType {
    /// Name of the port of the datapath that serves a tunnel with this configuration.
    pub fn dpif_port_name(&self, config: &TunnelConfig) -> String {
        match self.transport.port {
            Some(_) => format!("{}_{}", self.dpif_port, config.dst_port),
            None => self.dpif_port.to_owned(),
        }
    }
}

/// What changes with the packets that go through a port of the datapath.
#[derive(Debug, Default)]
pub struct PortState {
    /// The next sequence number, for headers that have one.
    sequence: AtomicU32,
    /// Time of day in units of 100 microseconds, for headers that tell it.
    clock: AtomicU32,
    /// The longest IP packet that the device sends; 0 before that is told.
    mtu: AtomicU32,
    /// What waits for the rest of its packet.
    segments: Mutex<Segments>,
}

impl PortState {
    /// The number of the next packet.
    pub fn next(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the longest IP packet that the device sends, for headers that [cut](HeaderType::cuts).
    pub fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// What was last told; that of Ethernet before.
    pub fn mtu(&self) -> u32 {
        match self.mtu.load(Ordering::Relaxed) {
            0 => 1500,
            mtu => mtu,
        }
    }

    /// What waits for the rest of its packet, for types that [gather](TunnelType::gather).
    pub(crate) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the time of day.
    pub fn set_clock(&self, since_epoch: Duration) {
        let stamp = (since_epoch.as_micros() / 100) as u32;
        self.clock.store(stamp, Ordering::Relaxed);
    }

    /// The time that was last told, in units of 100 microseconds.
    pub fn stamp(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }
}

impl TunnelConfig {
    /// What a tunnel has before any option is looked at.
    pub fn new(ty: &TunnelType) -> TunnelConfig {
        TunnelConfig {
            dst_port: ty.transport.port.unwrap_or(0),
            ttl: ty.ttl,
            dont_fragment: true,
            packet_type: (ty.carries)(&TunnelConfig::default()).default_mode(),
            ..TunnelConfig::default()
        }
    }
}

/// What a header is built for.
#[derive(Debug)]
pub struct Inside<'a> {
    /// What the flow says of the outer header.
    pub tnl: &'a FlowTnl,
    /// Type of the packets, as in `packet_type`.
    pub packet_type: u32,
}

/// What is behind the outer IP header, or the UDP header where that is the transport.
#[derive(Debug)]
pub struct Received<'a> {
    pub bytes: &'a [u8],
    /// Length of the headers in front of that.
    pub behind: usize,
    /// IP protocol.
    pub protocol: u8,
    /// A checksum need not be verified: someone has, or the packet comes from this host.
    pub trusted: bool,
}

/// What is known of a packet that has just got its header.
#[derive(Debug)]
pub struct Outer<'a> {
    /// Where what follows the outer IP header begins.
    pub l4: usize,
    pub v6: bool,
    /// Hash of the inner flow.
    pub hash: u32,
    /// Of the port of the datapath through which the packet goes, if there is one.
    pub state: Option<&'a PortState>,
}

/// Why a packet cannot be decapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PopError {
    /// Shorter than its headers, or than they say.
    #[error("truncated")]
    Truncated,
    /// A checksum is wrong.
    #[error("bad checksum")]
    Checksum,
    /// A header that the protocol does not allow.
    #[error("invalid header")]
    Header,
}

/// What a type's header says of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Length of the type's own header; none where the packet stays as it came.
    pub at: Option<usize>,
    /// Type of the inner packet, as in `packet_type`.
    pub packet_type: u32,
    /// What the sender left to be done, where the header can say so.
    pub left: Option<Left>,
}

/// What was left to whoever receives an inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub offload: Offload,
    /// A VLAN's tag that the header carries.
    pub vlan: Option<u16>,
}

/// What became of a packet that may be part of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The packet is whole, if need be put together. Otherwise a copy of it waits.
    pub whole: bool,
    /// So many that waited were given up.
    pub given_up: usize,
}
