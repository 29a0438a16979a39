//! A value of any field: up to 128 bytes in network order, right-aligned, so that numbers read the same whatever
//! the width of the field.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::types::MacAddr;

/// The widest value in bytes.
pub const MAX_VALUE_BYTES: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldValue {
    bytes: [u8; MAX_VALUE_BYTES],
}

impl FieldValue {
    pub const ZERO: FieldValue = FieldValue {
        bytes: [0; MAX_VALUE_BYTES],
    };

    /// From big-endian bytes; of more than [`MAX_VALUE_BYTES`] the last ones count.
    pub fn from_be_bytes(bytes: &[u8]) -> FieldValue {
        let mut value = FieldValue::ZERO;
        let bytes = &bytes[bytes.len().saturating_sub(MAX_VALUE_BYTES)..];
        value.bytes[MAX_VALUE_BYTES - bytes.len()..].copy_from_slice(bytes);
        value
    }

    /// The low `n_bits` bits set.
    pub fn ones(n_bits: usize) -> FieldValue {
        if n_bits <= 128 {
            return FieldValue::from(low_ones(n_bits));
        }
        let mut value = FieldValue::ZERO;
        value.low_bytes_mut(n_bits / 8).fill(0xff);
        (n_bits / 8 * 8..n_bits).for_each(|i| value.set_bit(i, true));
        value
    }

    /// The last `n` bytes, that is the value as a field of `n` bytes is sent.
    pub fn low_bytes(&self, n: usize) -> &[u8] {
        &self.bytes[MAX_VALUE_BYTES - n..]
    }

    pub fn low_bytes_mut(&mut self, n: usize) -> &mut [u8] {
        &mut self.bytes[MAX_VALUE_BYTES - n..]
    }

    pub fn to_u128(&self) -> u128 {
        let mut low = [0; 16];
        low.copy_from_slice(self.low_bytes(16));
        u128::from_be_bytes(low)
    }

    /// The low 64 bits.
    pub fn to_u64(&self) -> u64 {
        self.to_u128() as u64
    }

    pub fn to_mac(&self) -> MacAddr {
        MacAddr::from_u64(self.to_u64())
    }

    pub fn to_ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.to_u128() as u32)
    }

    pub fn is_zero(&self) -> bool {
        let (words, _) = self.bytes.as_chunks::<16>();
        words.iter().fold(0, |or, w| or | u128::from_ne_bytes(*w)) == 0
    }

    /// The value, if it is a number of at most 128 bits.
    pub fn as_u128(&self) -> Option<u128> {
        let (words, _) = self.bytes[..MAX_VALUE_BYTES - 16].as_chunks::<16>();
        let high = words.iter().fold(0, |or, w| or | u128::from_ne_bytes(*w));
        (high == 0).then(|| self.to_u128())
    }

    /// Whether the low `n_bits` bits are all set.
    pub fn is_ones(&self, n_bits: usize) -> bool {
        if n_bits <= 128 {
            let ones = low_ones(n_bits);
            return self.to_u128() & ones == ones;
        }
        self.low_bytes(n_bits / 8).iter().all(|&b| b == 0xff)
            && (n_bits / 8 * 8..n_bits).all(|i| self.bit(i))
    }

    /// Bit `i`, counted from the least significant one.
    pub fn bit(&self, i: usize) -> bool {
        self.bytes[MAX_VALUE_BYTES - 1 - i / 8] & 1 << (i % 8) != 0
    }

    fn set_bit(&mut self, i: usize, on: bool) {
        let byte = &mut self.bytes[MAX_VALUE_BYTES - 1 - i / 8];
        *byte = *byte & !(1 << (i % 8)) | u8::from(on) << (i % 8);
    }

    /// Bits `ofs..ofs + n_bits` as a value of their own.
    pub fn extract(&self, ofs: usize, n_bits: usize) -> FieldValue {
        let mut out = FieldValue::ZERO;
        if ofs + n_bits <= 128 {
            let low = self.to_u128().checked_shr(ofs as u32).unwrap_or(0);
            return FieldValue::from(low & low_ones(n_bits));
        }
        for i in 0..n_bits {
            out.set_bit(i, self.bit(ofs + i));
        }
        out
    }

    /// Puts the low `n_bits` bits of `value` at `ofs`, leaving the other bits as they are.
    pub fn insert(&mut self, ofs: usize, n_bits: usize, value: &FieldValue) {
        if ofs + n_bits <= 128 {
            let mask = low_ones(n_bits).checked_shl(ofs as u32).unwrap_or(0);
            let moved = value.to_u128().checked_shl(ofs as u32).unwrap_or(0);
            let low = self.to_u128() & !mask | moved & mask;
            self.low_bytes_mut(16).copy_from_slice(&low.to_be_bytes());
            return;
        }
        for i in 0..n_bits {
            self.set_bit(ofs + i, value.bit(i));
        }
    }

    /// `self` with the bits of `mask` taken from `value`.
    pub fn with_masked(&self, value: &FieldValue, mask: &FieldValue) -> FieldValue {
        let mut out = *self;
        for ((out, value), mask) in out.bytes.iter_mut().zip(value.bytes).zip(mask.bytes) {
            *out = *out & !mask | value & mask;
        }
        out
    }

    pub fn and(&self, other: &FieldValue) -> FieldValue {
        let mut out = *self;
        for (out, other) in out.bytes.iter_mut().zip(other.bytes) {
            *out &= other;
        }
        out
    }
}

/// The low `n` bits of 128.
fn low_ones(n: usize) -> u128 {
    u128::MAX.checked_shr(128 - n as u32).unwrap_or(0)
}

impl Default for FieldValue {
    fn default() -> Self {
        FieldValue::ZERO
    }
}

impl From<u128> for FieldValue {
    fn from(value: u128) -> Self {
        let mut out = FieldValue::ZERO;
        out.low_bytes_mut(16).copy_from_slice(&value.to_be_bytes());
        out
    }
}

impl From<u64> for FieldValue {
    fn from(value: u64) -> Self {
        FieldValue::from(u128::from(value))
    }
}

impl From<MacAddr> for FieldValue {
    fn from(value: MacAddr) -> Self {
        FieldValue::from(value.to_u64())
    }
}

impl From<Ipv4Addr> for FieldValue {
    fn from(value: Ipv4Addr) -> Self {
        FieldValue::from(u64::from(u32::from(value)))
    }
}

impl From<Ipv6Addr> for FieldValue {
    fn from(value: Ipv6Addr) -> Self {
        FieldValue::from(u128::from(value))
    }
}

impl fmt::Debug for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.bytes.iter().position(|&b| b != 0);
        f.write_str("0x")?;
        for byte in &self.bytes[start.unwrap_or(MAX_VALUE_BYTES - 1)..] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_extracted_and_inserted_at_any_place() {
        let value = FieldValue::from(0xabcd_u64);
        assert_eq!(value.extract(4, 8), FieldValue::from(0xbc_u64));
        let mut wide = FieldValue::ZERO;
        wide.insert(900, 16, &value);
        assert_eq!(wide.extract(900, 16), value);
        assert_eq!(wide.extract(904, 8), FieldValue::from(0xbc_u64));
        assert_eq!(wide.to_u128(), 0);
        let mut all = FieldValue::from(u128::MAX);
        all.insert(0, 128, &value);
        assert_eq!(all, value);
        assert!(FieldValue::ones(992).is_ones(992) && !FieldValue::ones(991).is_ones(992));
        assert_eq!(
            FieldValue::from(u128::MAX).extract(128, 0),
            FieldValue::ZERO
        );
    }
}
