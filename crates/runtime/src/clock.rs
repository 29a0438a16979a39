//! The one clock.
//!
//! [`now`] is the monotonic clock that every timer in the daemons uses. `time/stop` freezes it and
//! `time/warp` moves it, which makes a whole switch deterministic: tests say how much time passes.
//! The wall clock ([`wall`]) only stamps log lines and rows and is never virtual.
//!
//! A warp of more than one step belongs to the main loop: each call of [`crate::Poller::block`] on
//! the main thread advances one step ([`advance`]), wakes every sleeping thread, and waits until
//! those that woke have gone back to sleep, so that each step is seen by all before the next.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrovs_sync::Waker;

static ORIGIN: OnceLock<Instant> = OnceLock::new();
/// Set once `stop` or `warp` has been used; until then `now` is the bare system call.
static VIRTUAL: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);
/// Nanoseconds since `ORIGIN` at which the clock stopped.
static STOPPED_AT: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds added by warps.
static WARPED: AtomicU64 = AtomicU64::new(0);

struct Warp {
    remaining: Duration,
    step: Duration,
    done: Vec<Box<dyn FnOnce() + Send>>,
}

static WARP: Mutex<Warp> = Mutex::new(Warp {
    remaining: Duration::ZERO,
    step: Duration::ZERO,
    done: Vec::new(),
});

/// One poll loop, as the clock sees it.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) waker: Arc<Waker>,
    /// Set while the loop is inside its sleep.
    pub(crate) asleep: AtomicBool,
    /// How often the loop went to sleep.
    pub(crate) sleeps: AtomicU64,
}

static SLEEPERS: Mutex<Vec<Weak<Sleeper>>> = Mutex::new(Vec::new());

#[allow(clippy::disallowed_methods)] // This is the clock that the rest of the workspace reads.
fn real() -> Instant {
    Instant::now()
}

fn origin() -> Instant {
    *ORIGIN.get_or_init(real)
}

/// The present, on the clock that timers use.
#[inline]
pub fn now() -> Instant {
    if !VIRTUAL.load(SeqCst) {
        return real();
    }
    let warped = Duration::from_nanos(WARPED.load(SeqCst));
    if STOPPED.load(SeqCst) {
        origin() + Duration::from_nanos(STOPPED_AT.load(SeqCst)) + warped
    } else {
        real() + warped
    }
}

/// When the program started.
pub fn boot() -> Instant {
    origin()
}

/// The present on the real monotonic clock, for measuring how long something took.
pub fn real_now() -> Instant {
    real()
}

/// The time of day.
#[allow(clippy::disallowed_methods)] // This is the clock that the rest of the workspace reads.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970.
pub fn wall_ms() -> i64 {
    wall()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

/// Milliseconds since the system started, moved by warps like [`now`].
pub fn boot_ms() -> i64 {
    let base = ferrovs_sys::process::boot_time().as_millis() as i64;
    if !VIRTUAL.load(SeqCst) {
        return base;
    }
    let ahead = now().saturating_duration_since(real()).as_millis() as i64;
    let behind = real().saturating_duration_since(now()).as_millis() as i64;
    base + ahead - behind
}

/// Milliseconds between the first look at the clock and [`now`]: small numbers for texts.
pub fn ms_since_start() -> i64 {
    now().saturating_duration_since(origin()).as_millis() as i64
}

/// Notes the start of the program. Without it the first look at the clock is taken for the start.
pub fn init() {
    origin();
}

/// Stops the clock for good; only warps move it from now on.
pub fn stop() {
    let o = origin();
    if STOPPED.load(SeqCst) {
        return;
    }
    let elapsed = real().saturating_duration_since(o);
    STOPPED_AT.store(elapsed.as_nanos() as u64, SeqCst);
    STOPPED.store(true, SeqCst);
    VIRTUAL.store(true, SeqCst);
    wake_all();
}

/// Whether the clock is stopped.
pub fn is_stopped() -> bool {
    STOPPED.load(SeqCst)
}

/// Starts a warp of `total` in steps of `step`, driven by the main loop.
pub fn warp(total: Duration, step: Duration) {
    warp_then(total, step, || ());
}

/// Like [`warp`]; `done` runs on the main thread after the last step. The caller makes sure that no
/// warp is pending ([`warp_pending`]).
///
/// The first step is taken at once, so a warp of one step is over, and `done` has run, when this
/// returns.
pub fn warp_then(total: Duration, step: Duration, done: impl FnOnce() + Send + 'static) {
    origin();
    {
        let mut w = WARP.lock().unwrap_or_else(PoisonError::into_inner);
        w.remaining = total;
        w.step = step;
        w.done.push(Box::new(done));
    }
    advance();
}

/// Whether a warp has steps left.
pub fn warp_pending() -> bool {
    VIRTUAL.load(SeqCst)
        && !WARP
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remaining
            .is_zero()
}

/// Takes the next step of a warp. Returns false if there is none.
pub(crate) fn advance() -> bool {
    let (step, done) = {
        let mut w = WARP.lock().unwrap_or_else(PoisonError::into_inner);
        if w.remaining.is_zero() {
            return false;
        }
        let step = if w.step.is_zero() {
            w.remaining
        } else {
            w.step.min(w.remaining)
        };
        w.remaining -= step;
        let done = if w.remaining.is_zero() {
            std::mem::take(&mut w.done)
        } else {
            Vec::new()
        };
        (step, done)
    };
    WARPED.fetch_add(step.as_nanos() as u64, SeqCst);
    VIRTUAL.store(true, SeqCst);
    wake_all();
    for d in done {
        d();
    }
    true
}

pub(crate) fn register(sleeper: &Arc<Sleeper>) {
    let mut sleepers = SLEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    sleepers.retain(|s| s.strong_count() > 0);
    sleepers.push(Arc::downgrade(sleeper));
}

/// Longest real time that one step waits for the other threads.
const SETTLE: Duration = Duration::from_millis(50);

fn wake_all() {
    let sleepers: Vec<Arc<Sleeper>> = SLEEPERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    let mut waiting = Vec::new();
    for s in sleepers {
        let sleeps = s.sleeps.load(SeqCst);
        if s.asleep.load(SeqCst) {
            waiting.push((s.clone(), sleeps));
        }
        s.waker.wake();
    }
    let deadline = real() + SETTLE;
    waiting.retain(|(s, n)| s.sleeps.load(SeqCst) == *n);
    while !waiting.is_empty() && real() < deadline {
        std::thread::sleep(Duration::from_micros(50));
        waiting.retain(|(s, n)| s.sleeps.load(SeqCst) == *n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_moves_by_warps_only() {
        stop();
        let t = now();
        let before = real();
        while real() == before {}
        assert_eq!(now(), t);
        let done = Arc::new(AtomicBool::new(false));
        let d = done.clone();
        warp_then(Duration::from_secs(3), Duration::from_secs(2), move || {
            d.store(true, SeqCst)
        });
        assert_eq!(now() - t, Duration::from_secs(2));
        assert!(!done.load(SeqCst) && warp_pending());
        assert!(advance());
        assert_eq!(now() - t, Duration::from_secs(3));
        assert!(done.load(SeqCst) && !advance());
    }
}
