//! Protocol machines: what they learn and decide, with the time as an argument and no socket.
//!
//! * [`mac_learning`]: which addresses are behind which port of a bridge.
#![forbid(unsafe_code)]

pub mod mac_learning;
