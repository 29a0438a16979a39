//! The bundles of a connection: messages that are kept until they are committed, and how many may be kept.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ferrovs_openflow::switch::BundleFlags;

/// Bundles that one connection may have open.
pub const MAX_BUNDLES: usize = 64;
/// Bytes of messages in all bundles of one connection, and of all connections.
const MAX_CONN_BYTES: usize = 512 * 1024 * 1024;
const MAX_BYTES: usize = 1024 * 1024 * 1024;
/// What a message takes besides its bytes.
const ENTRY_OVERHEAD: usize = 48;

/// Bytes in all bundles there are.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

pub struct Bundle {
    pub id: u32,
    pub flags: BundleFlags,
    pub closed: bool,
    pub used: Instant,
    /// If nothing is added for so long it is discarded: `bundle-idle-timeout` as it was at the start.
    timeout: Duration,
    /// The messages as they came, which is their smallest form; all of them could be read.
    entries: Vec<Box<[u8]>>,
    size: usize,
}

impl Bundle {
    pub fn new(id: u32, flags: BundleFlags, timeout: Duration, now: Instant) -> Bundle {
        Bundle {
            id,
            flags,
            closed: false,
            used: now,
            timeout,
            entries: Vec::new(),
            size: 0,
        }
    }

    pub fn deadline(&self) -> Instant {
        self.used + self.timeout
    }

    pub fn is_idle(&self, now: Instant) -> bool {
        now >= self.deadline()
    }

    /// What its messages take.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn push(&mut self, message: Vec<u8>) {
        let size = message.len() + ENTRY_OVERHEAD;
        self.size += size;
        TOTAL.fetch_add(size, Relaxed);
        self.entries.push(message.into());
    }

    /// The messages, in their order; they count until the bundle is dropped.
    pub fn take_entries(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.entries)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.size, Relaxed);
    }
}

/// Whether a message of so many bytes has room in the bundles of a connection that hold `held` bytes.
pub fn has_room(message: usize, held: usize) -> bool {
    fits(message, held, TOTAL.load(Relaxed))
}

/// The same, when all bundles together hold `total`.
fn fits(message: usize, held: usize, total: usize) -> bool {
    let size = message + ENTRY_OVERHEAD;
    held + size <= MAX_CONN_BYTES && total + size <= MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_share_one_limit_for_a_connection_and_one_for_all() {
        assert!(fits(100, 0, 0));
        assert!(!fits(100, MAX_CONN_BYTES - 100, 0));
        assert!(!fits(100, 0, MAX_BYTES - 100));
    }
}
