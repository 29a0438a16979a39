//! Byte streams and JSON-RPC: how Open vSwitch's programs talk to each other.
//!
//! From the bottom up: [`inet`] reads "HOST:PORT"; [`Stream`] is a non-blocking connection
//! ("unix:", "tcp:", "ssl:") and [`PStream`] a listener ("punix:", "ptcp:", "pssl:");
//! [`reconnect::Reconnect`] is a pure machine that decides when to connect, probe and give up;
//! [`json`] reads values that arrive back to back; [`jsonrpc`] puts them together into
//! [`jsonrpc::Connection`] (one stream) and [`jsonrpc::Session`] (reconnection and echo).
//!
//! Nothing here blocks except the calls that say so by `_block`. Each object has `run` (do what
//! can be done now) and `wait` (tell the poller what would wake it).
//!
//! Invariant: nothing here knows what OVSDB or OpenFlow mean.

#![forbid(unsafe_code)]

mod dns;
pub mod inet;
pub mod json;
pub mod jsonrpc;
mod pstream;
pub mod reconnect;
mod socket;
mod stream;
pub mod tls;

pub use pstream::PStream;
pub use stream::{Stream, needs_probes, verify_active, verify_passive};

use std::io;

/// The OVSDB port that IANA assigned.
pub const OVSDB_PORT: u16 = 6640;
/// The OpenFlow port that IANA assigned.
pub const OPENFLOW_PORT: u16 = 6653;
/// Differentiated services code point of control connections, unless configured (CS6).
pub const DSCP_DEFAULT: u8 = 48;

/// The text of an error as Open vSwitch prints it: the C library's text alone, or "End of file".
pub fn error_text(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "End of file".into();
    }
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].into(),
        None => text,
    }
}

pub(crate) fn errno(e: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(e.raw_os_error())
}

/// The error for names that no stream class knows, and for hosts that do not resolve (yet).
pub(crate) fn address_family_error() -> io::Error {
    errno(rustix::io::Errno::AFNOSUPPORT)
}

/// The error for a peer that breaks the protocol: "Protocol error".
pub fn protocol_error() -> io::Error {
    errno(rustix::io::Errno::PROTO)
}

/// End of file as an error, for those who must tell it from other ends.
pub fn eof_error() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}
