//! Packets and what is known about them: buffers, header views, the registry of match fields, flow keys in
//! their full ([`flow::Flow`]) and packed ([`miniflow::Miniflow`]) forms, masks and matches.
//!
//! Nothing here opens a socket or a file or reads the clock. A packet never yields an error per field: parsing
//! yields what is valid, and a named reason when something is not.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod checksum;
pub mod compose;
pub mod edit;
pub mod field;
pub mod flow;
pub mod gso;
pub mod hash;
pub mod miniflow;
pub mod parse;
pub mod text;
pub mod types;
pub mod wildcards;
