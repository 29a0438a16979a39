//! What ports without a device of the host share: counters and made-up addresses.

use std::sync::atomic::{AtomicU32, Ordering};

use ferrovs_packet::types::MacAddr;
use ferrovs_sync::Counter;

use crate::Stats;

/// Packet and byte counters of a port that only exists in the switch.
#[derive(Debug, Default)]
pub struct VirtualStats {
    rx_packets: Counter,
    rx_bytes: Counter,
    tx_packets: Counter,
    tx_bytes: Counter,
}

impl VirtualStats {
    /// Adds (packets, bytes) in each direction.
    pub fn account(&self, rx: (u64, u64), tx: (u64, u64)) {
        for (c, n) in [
            (&self.rx_packets, rx.0),
            (&self.rx_bytes, rx.1),
            (&self.tx_packets, tx.0),
            (&self.tx_bytes, tx.1),
        ] {
            if n != 0 {
                c.add(n);
            }
        }
    }

    /// The totals.
    pub fn stats(&self) -> Stats {
        Stats {
            rx_packets: Some(self.rx_packets.sum()),
            rx_bytes: Some(self.rx_bytes.sum()),
            tx_packets: Some(self.tx_packets.sum()),
            tx_bytes: Some(self.tx_bytes.sum()),
            ..Stats::default()
        }
    }
}

/// A local unicast address that no other port of this process has.
pub fn fresh_mac() -> MacAddr {
    use std::hash::{BuildHasher, Hasher};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // RandomState is seeded once per process from the operating system.
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let seed = *SEED.get_or_init(|| {
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish()
    });
    let mut mac = MacAddr::from_u64(seed.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into()));
    mac.0[0] = (mac.0[0] & !1) | 2;
    mac
}
