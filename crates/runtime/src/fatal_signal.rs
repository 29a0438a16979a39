//! Signals that end the program, and what must not be left behind when it ends.
//!
//! Files that were registered (sockets, pidfiles) are removed at every kind of orderly end: return
//! from main, `exit`, and SIGTERM, SIGINT, SIGHUP and SIGALRM, which the main thread's poll loop
//! turns into: clean up, then die by that very signal. SIGSEGV leaves a backtrace in the log and
//! cleans nothing up.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferrovs_sys::crash;
use ferrovs_sys::signal::{self, SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGTERM};

use crate::clock;
use crate::vlog;
use crate::vlog::modules::FATAL_SIGNAL;

struct State {
    files: Vec<PathBuf>,
    alarm: Option<Instant>,
}

static STATE: Mutex<State> = Mutex::new(State {
    files: Vec::new(),
    alarm: None,
});
static INITIALISED: AtomicBool = AtomicBool::new(false);

fn lock() -> std::sync::MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Catches the signals and arranges for the cleanup at exit. Called as needed by the rest.
pub fn init() {
    if INITIALISED.swap(true, Ordering::SeqCst) {
        return;
    }
    for s in [SIGTERM, SIGINT, SIGHUP, SIGALRM] {
        let _ = signal::catch(s, true);
    }
    // The standard library catches these to tell of a stack that is too small; a daemon dies by
    // them, so that its monitor sees why.
    crash::catch();
    signal::default(signal::SIGBUS);
    ferrovs_sys::process::at_exit(cleanup_at_exit);
}

fn cleanup_at_exit() {
    cleanup();
}

/// Removes `path` when the program ends.
pub fn unlink_on_exit(path: &Path) {
    init();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    lock().files.push(path);
}

/// Leaves `path` alone after all.
pub fn keep(path: &Path) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    lock().files.retain(|f| *f != path);
}

/// Removes `path` now, and not again at the end.
pub fn unlink_now(path: &Path) {
    keep(path);
    let _ = std::fs::remove_file(path);
}

/// In a forked child: what the parent registered is the parent's.
pub(crate) fn forget_all() {
    lock().files.clear();
}

fn cleanup() {
    // A panic elsewhere must not keep the files: the lock may be poisoned, and that is fine.
    let files = std::mem::take(&mut lock().files);
    for f in files {
        let _ = std::fs::remove_file(f);
    }
}

/// Handles the signals that have come: does not return if one of them is fatal.
pub fn run() {
    if alarm_left() == Some(Duration::ZERO) {
        lock().alarm = None;
        signal::inject(SIGALRM);
    }
    if !signal::pending() {
        return;
    }
    for s in signal::take() {
        if [SIGTERM, SIGINT, SIGHUP, SIGALRM].contains(&s) {
            die(s);
        }
    }
}

/// Cleans up and dies by `signal`.
pub fn die(signal: i32) -> ! {
    if signal != SIGPIPE {
        vlog::warn!(
            FATAL_SIGNAL,
            "terminating with signal {signal} ({})",
            ferrovs_sys::signal::describe(signal)
        );
    }
    cleanup();
    ferrovs_sys::signal::die_by(signal)
}

/// Ends the program by SIGALRM `seconds` from now, for `--timeout`. 0 takes the limit away.
pub fn set_timeout(seconds: u32) {
    init();
    let when = clock::real_now() + Duration::from_secs(seconds.into());
    lock().alarm = (seconds > 0).then_some(when);
    // For a program that is stuck outside of its poll loop: the handler alone does not end it, but
    // it ends the system call, and the next sleep sees the signal.
    ferrovs_sys::process::alarm(seconds);
}

/// Time until the timeout, if one is set.
pub(crate) fn alarm_left() -> Option<Duration> {
    if !INITIALISED.load(Ordering::Relaxed) {
        return None;
    }
    let alarm = lock().alarm?;
    Some(alarm.saturating_duration_since(clock::real_now()))
}
