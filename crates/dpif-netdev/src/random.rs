//! Numbers that need only look random: which packet a cache takes, which a sample.

/// A generator of the xorshift kind.
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Random {
        // Anything but zero.
        Random(ferrovs_packet::hash::seed() | 1)
    }
}

impl Random {
    #[inline]
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// True once in so many times.
    #[inline]
    pub fn once_in(&mut self, times: u32) -> bool {
        times == 1 || self.next().is_multiple_of(times)
    }
}
