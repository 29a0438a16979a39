//! Programs that tests run.
//!
//! A process that is being started holds all that its parent had open, also what is closed on exec, until it has come to
//! that. What one test closes is therefore not closed while another starts a program: who must see the end of a device or a
//! connection takes [`none_starting`] first.

use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

static STARTING: Mutex<()> = Mutex::new(());

/// No program is being started while this is held.
pub fn none_starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a shell's script, which ends at the first command that fails.
pub fn sh(script: &str) -> std::io::Result<ExitStatus> {
    let mut shell = Command::new("sh");
    shell.args(["-ec", script]);
    // Returns when the child is the other program.
    let started = {
        let _guard = none_starting();
        shell.spawn()
    };
    started?.wait()
}
