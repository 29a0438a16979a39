//! Translation: one packet's flow key goes through the OpenFlow tables, and comes out as datapath actions with
//! the bits that decided.
//!
//! ```text
//! flow -> table 0 -> rule -> actions -> resubmit/goto -> ... -> output -> commit -> datapath actions
//!              wildcards: every bit looked at on the way
//! ```
//!
//! It runs on any thread, on snapshots ([`snapshot`]), without a lock on the way. [`ctx`] is the state and the
//! walk through the tables, [`actions`] what each action does, [`output`] how a packet leaves, [`normal`] the
//! learning switch, [`group`] buckets, [`multipath`] choices by a hash, [`tunnel`] encapsulation, [`learn`] the actions
//! that change flows, [`commit`] the difference between what the packet is and what it shall be. [`freeze`] stops a pipeline whose packet must go away first, [`recirc`] keeps what is left of it; [`xcache`] remembers whom to credit for packets
//! that the datapath forwards by itself. [`trace`] is the record of a translation for people, [`describe`] its words.

pub mod actions;
pub mod commit;
pub mod ct;
pub mod ctx;
pub mod describe;
pub mod freeze;
pub mod group;
mod headers;
pub mod learn;
mod met;
mod mpls;
pub mod multipath;
pub mod normal;
pub mod output;
pub mod recirc;
pub mod shared;
pub mod snapshot;
pub mod trace;
pub mod tunnel;
pub mod xcache;

#[cfg(test)]
pub(crate) mod tests;

pub use ctx::{Start, XlateIn, XlateOut, translate};
