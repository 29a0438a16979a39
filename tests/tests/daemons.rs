//! Whole programs: real daemons, real sockets, network namespaces, and the oracle beside ours.

#[path = "daemons/bridge.rs"]
mod bridge;
