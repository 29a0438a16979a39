//! In which versions of the tables something is visible.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// No end in sight.
const FOREVER: u64 = u64::MAX;

/// From one version on, and perhaps up to another.
#[derive(Debug)]
pub struct Lifespan {
    from: u64,
    /// The first version in which it is over.
    until: AtomicU64,
}

impl Lifespan {
    pub fn from(version: u64) -> Lifespan {
        Lifespan {
            from: version,
            until: AtomicU64::new(FOREVER),
        }
    }

    pub fn covers(&self, version: u64) -> bool {
        self.from <= version && version < self.until.load(Relaxed)
    }

    /// Whether there is an end, be it in a version that is not published yet.
    pub fn ends(&self) -> bool {
        self.until.load(Relaxed) != FOREVER
    }

    pub fn end_in(&self, version: u64) {
        self.until.store(version, Relaxed);
    }

    /// Takes the end back.
    pub fn go_on(&self) {
        self.until.store(FOREVER, Relaxed);
    }
}
