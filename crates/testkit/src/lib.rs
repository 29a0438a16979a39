//! What tests need: a datapath that fails on demand (`dpif`), devices in memory for the one that does not (`memory`), and
//! for whole programs where the programs are, a switch of one's own, hosts in network namespaces, and the oracle (Debian's
//! Open vSwitch, unpacked and not installed) to compare with.
//!
//! Everything made here has a name of its own and is removed when it is dropped, so that tests run in parallel
//! and leave nothing behind. Traffic is sent only between namespaces that a test made.
#![forbid(unsafe_code)]

pub mod apt;
pub mod command;
pub mod database;
pub mod debian;
#[cfg(feature = "dpif")]
pub mod dpif;
#[cfg(feature = "guest")]
pub mod guest;
pub mod isolation;
pub mod matrix;
#[cfg(feature = "dpif")]
pub mod memory;
pub mod netns;
pub mod oracle;
pub mod packets;
pub mod pcap;
pub mod programs;
pub mod switch;
pub mod text;
pub mod trace;

pub use command::Outcome;
pub use netns::{Host, Netns};
pub use programs::Programs;
pub use switch::Switch;
