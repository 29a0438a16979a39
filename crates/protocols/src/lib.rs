//! Machines of the protocols that a bridge speaks: state, events and timers; no socket, no clock. So far there is
//! one, the table of a learning switch.
#![forbid(unsafe_code)]

pub mod mac_learning;
