//! From the rows of the Open_vSwitch database to bridges, ports and devices, and back.
//!
//! ```text
//! rows -> reader -> Config, Scope -> plan(config, present, scope) -> [Step] -> apply, configure
//!                                                                                    | ofproto, netdev, dpif
//! rows <- refresh (statistics, status) <- results (ofport, error) <------------------'
//! ```
//!
//! The [`scope`] says what changed: a change of a port is read, planned and applied for that port alone.
//! [`plan::plan`] is pure: it compares what is wanted with what is there and names the ports and
//! bridges to remove and to make. Everything else that a row says is a setting; each setter below knows
//! what is new. OVSDB rows stop here: no crate
//! below this one sees them. [`Switch`] is the whole of it, run by the daemon's main loop.

#![forbid(unsafe_code)]

mod apply;
mod auto_attach;
mod bonds;
mod bridges;
mod closing;
pub mod config;
mod configure;
mod controllers;
pub mod features;
mod identity;
mod iface_status;
pub mod plan;
mod reader;
mod refresh;
mod rows;
pub mod scope;
mod settings;
mod switch;
mod system_stats;
mod warnings;
mod write;

pub use switch::Switch;
