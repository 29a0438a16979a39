//! Moments as milliseconds: what rules and ports keep, in eight bytes that can be stored atomically.

use std::sync::OnceLock;
use std::time::Instant;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Milliseconds from a moment that is the same for the whole process to `at`; may be negative.
pub fn to_ms(at: Instant) -> i64 {
    let origin = *ORIGIN.get_or_init(|| at);
    match at.checked_duration_since(origin) {
        Some(after) => after.as_millis() as i64,
        None => -(origin.duration_since(at).as_millis() as i64),
    }
}

/// Seconds and nanoseconds of a duration in milliseconds, as OpenFlow tells durations.
pub fn sec_nsec(ms: i64) -> (u32, u32) {
    let ms = ms.max(0);
    ((ms / 1000) as u32, (ms % 1000) as u32 * 1_000_000)
}
