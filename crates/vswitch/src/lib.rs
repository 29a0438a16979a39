//! From the rows of the Open_vSwitch database to bridges, ports and devices, and back.
//!
//! ```text
//! rows -> rows::read -> Config -> plan(config, present) -> [Step] -> apply -> ofproto, netdev, dpif
//!                                                                     |
//! rows <- refresh (statistics, status) <- results (ofport, error) <---'
//! ```
//!
//! [`plan::plan`] is pure: it compares what is wanted with what is there and names the ports and
//! bridges to remove and to make. Everything else that a row says is a setting; settings are applied
//! whole at each change, and each setter below knows what is new. OVSDB rows stop here: no crate
//! below this one sees them. [`Switch`] is the whole of it, run by the daemon's main loop.

#![forbid(unsafe_code)]

mod apply;
mod auto_attach;
mod bonds;
mod closing;
pub mod config;
mod controllers;
pub mod features;
mod identity;
mod iface_status;
pub mod plan;
mod refresh;
mod rows;
mod settings;
mod switch;
mod system_stats;
mod warnings;
mod write;

pub use switch::Switch;
