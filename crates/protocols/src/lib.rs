//! Machines of the protocols that a bridge speaks: state, events and timers; no socket, no clock.
#![forbid(unsafe_code)]

pub mod mac_learning;
