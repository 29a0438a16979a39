//! Tunnel types: what the outer header of each says, how a packet gets one and loses it, which options its ports
//! have.
//!
//! A type is a file and a [`row`] among [`types`]; everything else here is what all of them have in common.
//! [`options`] makes the [`config`] of a port, [`header`] builds the header of a flow once, [`push`] puts it on each packet,
//! [`pop`] takes one off and makes it the packet's tunnel metadata, [`text`] writes it in actions.
//!
//! Nothing here opens a socket, reads the clock, or allocates, locks or compares strings on a packet's way, but for
//! the segments of STT, which wait under a lock until they are one packet.

#![forbid(unsafe_code)]

pub mod config;
pub mod header;
pub mod options;
mod pieces;
pub mod pop;
pub mod push;
pub mod row;
mod segments;
pub mod text;
pub mod types;

pub use config::{PacketTypeMode, TunnelConfig};
pub use header::TunnelHeader;
pub use row::{HeaderType, PortState, Transport, TunnelType};
