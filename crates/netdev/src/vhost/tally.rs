//! What is counted of each ring: frames by size and kind.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Sizes of frames that are told apart, as `Interface.statistics` names them.
pub const SIZES: [&str; 8] = [
    "undersize_packets",
    "size_64_packets",
    "size_65_127_packets",
    "size_128_255_packets",
    "size_256_511_packets",
    "size_512_1023_packets",
    "size_1024_1518_packets",
    "size_1519_max_packets",
];

/// What one batch adds.
#[derive(Debug, Default)]
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
    pub multicast: u64,
    pub broadcast: u64,
    pub sizes: [u64; SIZES.len()],
    pub malformed: u64,
    /// How often the guest was told.
    pub told: u64,
}

impl Tally {
    /// Counts a frame.
    #[inline]
    pub fn note(&mut self, frame: &[u8]) {
        let size = frame.len();
        self.packets += 1;
        self.bytes += size as u64;
        let bits = usize::BITS - size.leading_zeros();
        let class = match size {
            0..64 => 0,
            64 => 1,
            65..1024 => bits as usize - 5,
            1024..1519 => 6,
            _ => 7,
        };
        self.sizes[class] += 1;
        if frame.first().is_some_and(|b| b & 1 != 0) {
            if frame.starts_with(&[0xff; 6]) {
                self.broadcast += 1;
            } else {
                self.multicast += 1;
            }
        }
    }
}

/// The sums of a ring. Only who holds the ring adds, so that it takes no locked instruction; anybody reads.
#[derive(Debug, Default)]
pub struct Sums {
    packets: AtomicU64,
    bytes: AtomicU64,
    multicast: AtomicU64,
    broadcast: AtomicU64,
    sizes: [AtomicU64; SIZES.len()],
    malformed: AtomicU64,
    told: AtomicU64,
}

impl Sums {
    #[inline]
    pub fn add(&self, tally: &Tally) {
        let add = |sum: &AtomicU64, n: u64| {
            if n != 0 {
                sum.store(sum.load(Relaxed).wrapping_add(n), Relaxed);
            }
        };
        add(&self.packets, tally.packets);
        add(&self.bytes, tally.bytes);
        add(&self.multicast, tally.multicast);
        add(&self.broadcast, tally.broadcast);
        for (sum, n) in self.sizes.iter().zip(tally.sizes) {
            add(sum, n);
        }
        add(&self.malformed, tally.malformed);
        add(&self.told, tally.told);
    }

    /// Begins anew, when another guest comes.
    pub fn clear(&self) {
        let all = [
            &self.packets,
            &self.bytes,
            &self.multicast,
            &self.broadcast,
            &self.malformed,
            &self.told,
        ];
        for sum in all.into_iter().chain(&self.sizes) {
            sum.store(0, Relaxed);
        }
    }

    pub fn read(&self) -> Tally {
        Tally {
            packets: self.packets.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            multicast: self.multicast.load(Relaxed),
            broadcast: self.broadcast.load(Relaxed),
            sizes: self.sizes.each_ref().map(|s| s.load(Relaxed)),
            malformed: self.malformed.load(Relaxed),
            told: self.told.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_size_and_kind() {
        let mut tally = Tally::default();
        for size in [
            14, 63, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1518, 1519, 60000,
        ] {
            tally.note(&vec![0; size]);
        }
        assert_eq!(tally.sizes, [2, 1, 2, 2, 2, 2, 2, 2]);
        tally.note(&[0xff; 64]);
        tally.note(&[1; 64]);
        assert_eq!((tally.broadcast, tally.multicast), (1, 1));
        let sums = Sums::default();
        sums.add(&tally);
        sums.add(&tally);
        assert_eq!(sums.read().packets, 34);
        sums.clear();
        assert_eq!(sums.read().sizes, [0; 8]);
    }
}
