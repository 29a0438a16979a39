//! The language between the switch and its datapaths: flow keys and masks as text, the datapath's actions,
//! unique flow identifiers, statistics, and the two traits that are the only crossing between them:
//! [`Dpif`](dpif::Dpif) (flows, ports and packets go down) and [`UpcallHandler`](upcall::UpcallHandler)
//! (questions come up). A contract, no backend: who implements it is not known here.
#![forbid(unsafe_code)]

pub mod action;
pub mod conntrack;
pub mod dpif;
pub mod edit;
mod errno;
pub mod features;
mod flow;
pub mod help;
mod id;
pub mod offload;
mod port;
pub mod text;
pub mod upcall;
