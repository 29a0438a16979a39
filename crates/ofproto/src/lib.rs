//! OpenFlow bridges: tables, groups, ports, connections, and what turns packets that no datapath flow matches
//! into datapath flows.
//!
//! * [`tables`] and [`rule`]: the flow tables, versioned and readable from any thread; [`groups`] beside them.
//! * [`xlate`]: translation of a flow through the tables into datapath actions.
#![forbid(unsafe_code)]

pub mod groups;
pub mod rule;
pub mod tables;
pub mod time;
pub mod trace;
pub mod udpif;
pub mod xlate;
