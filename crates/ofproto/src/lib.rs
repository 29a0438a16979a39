//! OpenFlow bridges: tables, groups, ports, connections, and what turns packets that no datapath flow matches
//! into datapath flows.
//!
//! From the top, each knowing only those below it:
//!
//! * [`unixctl`]: the commands of all this.
//! * [`ofprotos`]: all bridges of the process; what the program that configures bridges calls.
//! * [`bridge`]: one bridge: a switch and its connections, which know nothing of each other's doings but through it.
//! * [`handlers`]: what each message does to the switch, and how it is answered.
//! * [`connmgr`]: OpenFlow connections: messages in, answers and what happened out.
//! * [`ofproto`]: the switch: ports, bundles, mirrors, settings, and the events that it has to tell.
//! * [`monitor`]: the thread that drives the protocols which the switch itself speaks on its ports.
//! * [`backer`]: what bridges on one datapath share.
//! * [`udpif`]: upcalls, and keeping installed flows true; [`trace`]: translation told step by step.
//! * [`xlate`]: translation of a flow through the tables into datapath actions.
//! * [`tables`]: the flow tables with their groups, versioned and readable from any thread; what is in them are
//!   [`rule`]s and [`groups`], each with its [`lifespan`]. [`meters`] stand beside them.
//!
//! The main thread changes things; any thread translates, on snapshots.
#![forbid(unsafe_code)]

pub mod backer;
pub mod bridge;
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
mod publication;
pub mod rule;
pub mod tables;
pub mod time;
pub mod trace;
pub mod udpif;
pub mod unixctl;
pub mod xlate;
pub mod zones;
