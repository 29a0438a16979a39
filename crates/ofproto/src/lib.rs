//! OpenFlow bridges: tables, groups, ports, connections, and what turns packets that no datapath flow matches
//! into datapath flows.
//!
//! * [`ofprotos`]: all bridges of the process; what the program that configures bridges calls.
//! * [`ofproto`]: one bridge: ports, bundles, mirrors, settings; [`backer`]: what bridges on one datapath share.
//! * [`connmgr`]: OpenFlow connections; [`handlers`]: what each message does.
//! * [`tables`], [`rule`] and [`groups`]: the flow tables with their groups, versioned and readable from any thread;
//!   [`meters`] beside them.
//! * [`monitor`]: the thread that drives the protocols which the switch itself speaks on its ports.
//! * [`xlate`]: translation of a flow through the tables into datapath actions; [`udpif`]: upcalls, and keeping
//!   installed flows true; [`trace`]: translation told step by step.
//! * [`unixctl`]: the commands of all this.
//!
//! The main thread changes things; any thread translates, on snapshots.
#![forbid(unsafe_code)]

pub mod backer;
mod codec;
pub mod connmgr;
pub mod groups;
pub mod handlers;
pub mod lifespan;
mod log;
pub mod meters;
pub mod monitor;
pub mod ofproto;
pub mod ofprotos;
pub mod port_order;
pub mod rule;
pub mod tables;
pub mod time;
pub mod trace;
pub mod udpif;
pub mod unixctl;
pub mod xlate;
