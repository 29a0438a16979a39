//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), pseudo-headers, and the CRC-32C of SCTP.
//!
//! Sums are kept as [`Sum`], not yet folded or complemented, so that parts can be added in any order. A sum does
//! not care about byte order as long as all of it has the same one, so it is built from words in memory order
//! and turned to network order at the end.

/// A ones' complement sum in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    pub const ZERO: Sum = Sum(0);

    /// Adds bytes, which begin at an even offset of what is summed.
    #[inline]
    pub fn add(self, data: &[u8]) -> Sum {
        let mut sum = self.0;
        let (words, tail) = data.as_chunks::<4>();
        // Four chains let the processor add in parallel.
        let (blocks, rest) = words.as_chunks::<4>();
        let mut lanes = [0u64; 4];
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        for word in rest {
            lanes[0] += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        lanes[1] += u64::from(u32::from_ne_bytes(last));
        for lane in lanes {
            sum = add_carry(sum, lane);
        }
        Sum(sum)
    }

    /// Adds a 16-bit number.
    pub fn add_u16(self, n: u16) -> Sum {
        Sum(add_carry(self.0, u64::from(n.to_be())))
    }

    pub fn add_u32(self, n: u32) -> Sum {
        Sum(add_carry(self.0, u64::from(n.to_be())))
    }

    /// The 16-bit sum in network order as a number, not complemented.
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the sum.
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

#[inline]
fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// Checksum of bytes.
#[inline]
pub fn checksum(data: &[u8]) -> u16 {
    Sum::ZERO.add(data).finish()
}

/// Sum of the pseudo-header of a transport segment of `len` bytes over IPv4.
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], proto: u8, len: u32) -> Sum {
    Sum::ZERO
        .add(&src)
        .add(&dst)
        .add_u16(u16::from(proto))
        .add_u32(len)
}

/// Sum of the pseudo-header over IPv6.
pub fn pseudo_v6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len: u32) -> Sum {
    Sum::ZERO
        .add(src)
        .add(dst)
        .add_u16(u16::from(proto))
        .add_u32(len)
}

/// The sum of a pseudo-header after some of its bytes changed.
pub fn update_sum(sum: u16, old: &[u8], new: &[u8]) -> u16 {
    let minus = !Sum::ZERO.add(old).fold();
    Sum::ZERO.add_u16(sum).add_u16(minus).add(new).fold()
}

/// A checksum after some of the bytes under it changed (at an even offset).
pub fn update(csum: u16, old: &[u8], new: &[u8]) -> u16 {
    !update_sum(!csum, old, new)
}

/// CRC-32C (Castagnoli) as SCTP stores it.
pub fn crc32c(data: &[u8]) -> u32 {
    !crc32c_add(!0, data)
}

/// Goes on with a CRC that is not yet complemented.
pub fn crc32c_add(crc: u32, data: &[u8]) -> u32 {
    data.iter().fold(crc, |crc, &byte| {
        CRC32C[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    })
}

static CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn known_sums_come_out() {
        // Example of RFC 1071, section 3.
        assert_eq!(
            Sum::ZERO
                .add(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])
                .fold(),
            0xddf2
        );
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_slow_one(data in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(checksum(&data), slow(&data));
        }

        #[test]
        fn an_update_is_as_good_as_a_new_sum(mut data in prop::collection::vec(any::<u8>(), 20..60),
                                             new in any::<[u8; 4]>(), at in 0usize..8) {
            let old_csum = checksum(&data);
            let at = at * 2;
            let old = [data[at], data[at + 1], data[at + 2], data[at + 3]];
            data[at..at + 4].copy_from_slice(&new);
            let (updated, fresh) = (update(old_csum, &old, &new), checksum(&data));
            // 0 and 0xffff are the two zeros of ones' complement.
            prop_assert!(updated == fresh || updated ^ fresh == 0xffff && updated.wrapping_add(1) <= 1);
        }
    }
}
