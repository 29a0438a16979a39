//! Clusters of OVSDB servers: Raft as Open vSwitch speaks it and stores it.
//!
//! ```text
//! message   what servers say to each other, to and from JSON
//! record    the records of a clustered database's file; stored: the file as a whole
//! machine   what a server does: messages, time and commands in; messages, writes, changes out
//! backlog   when a connection to a server that does not keep up is closed
//! ```
//!
//! PROTOCOL.md beside this has the facts: every message and record with its members, and what
//! servers were seen to do. README.md says why the machine is our own.
//!
//! Invariants: nothing here opens a socket or file or reads the clock: `now` is an argument, in
//! milliseconds of a clock that never goes back. Nothing is answered before what the answer rests
//! on is durable. An entry that is committed never changes: a message that asks for it is refused.

#![forbid(unsafe_code)]

pub mod backlog;
pub mod machine;
pub mod message;
pub mod record;
pub mod stored;
pub mod types;
mod wire;

#[cfg(test)]
extern crate self as ferrovs_raft;
#[cfg(test)]
mod simulated;
#[cfg(test)]
#[path = "../simulation/mod.rs"]
mod simulation;

pub use machine::{Input, Output, Raft};
pub use message::{Body, Message, Snapshot};
pub use record::{Header, HeaderState, Record, RecordBody};
pub use stored::Stored;
pub use types::{Data, Entry, Payload, Servers, Status};
