//! What every Open vSwitch program needs and what none of it is about switching: the clock, the
//! poll loop, logging, the control socket, coverage counters, daemon life and command lines.
//!
//! Nothing else in the workspace reads a clock or sleeps. A daemon is one loop: each component
//! has `run` (do what can be done without blocking) and `wait` (tell the [`Poller`] what would make
//! another `run` worth while); then [`Poller::block`] sleeps. That order is explicit, nothing stays
//! registered, and time can be virtual (`time/stop`, `time/warp`) without any component knowing.

#![forbid(unsafe_code)]

pub mod clock;
pub mod coverage;
pub mod daemon;
pub mod dirs;
pub mod fatal_signal;
mod linger;
pub mod memory;
pub mod numa;
pub mod options;
mod poller;
pub mod text;
pub mod unixctl;
pub mod version;
pub mod vlog;

pub use fatal_signal::set_timeout;
pub use linger::Linger;
pub use poller::{Interest, Poller, Wants, is_quiet};
pub use text::{fatal, fatal_io, program_error};

/// Lets standard output that goes away end the program quietly, as it would end any filter, instead of by
/// a panic. A daemon has another hook once it runs.
pub fn end_with_standard_output() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map_or("", String::as_str);
        if text.starts_with("failed printing to std") {
            std::process::exit(1);
        }
        default(info);
    }));
}
