//! Machines of the protocols that a bridge speaks: state, events and timers; no socket, no clock.
//!
//! A machine does nothing by itself. Whoever drives it asks and tells, always with the time:
//!
//! ```text
//!   input(now, frame)       something came
//!   poll_transmit(now)      the next frame to send now, until there is none
//!   poll_timeout()          when poll_transmit or a timer has something to do next
//!   poll_event()            what the driver must know, log or pass on, until there is nothing
//! ```
//!
//! `poll_transmit` is called when the time of `poll_timeout` has come, and after every `input`; it moves the timers
//! on. Settings change through methods of the machine's own. So the same machine runs on a thread of the switch, under
//! virtual time, and in a unit test that steps through an hour at once.
//!
//! [`lldp`] is such a machine. [`mac_learning`] is a table with a timer: nothing comes in or goes out.
#![forbid(unsafe_code)]

pub mod lldp;
pub mod mac_learning;
