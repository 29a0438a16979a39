//! Translation of a flow through the OpenFlow tables into datapath actions.

pub mod snapshot;
