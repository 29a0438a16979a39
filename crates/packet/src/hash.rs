//! Hashes of keys: fast, well mixed, the same on every run of the program unless they begin with [`seed`].

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

mod fields;
pub mod known;

pub use fields::HashFields;

/// Mixes a word into a hash: a 64 by 64 to 128 bit multiplication folded to 64 bits.
///
/// The hash is a factor, so that what becomes of a difference of words depends on it: of a hash that began with a seed
/// nobody knows which words meet. That takes two words, for the last one alone is not mixed enough; CRCs and sums never
/// have it.
#[inline]
pub fn mix(hash: u64, word: u64) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    const SALT: u64 = 0xa076_1d64_78bd_642f;
    let product = u128::from(hash ^ word.wrapping_mul(K)) * u128::from(SALT ^ hash.rotate_left(32));
    (product as u64 ^ (product >> 64) as u64).wrapping_add(word)
}

/// What hash tables whose keys come from the network begin with, and the identifiers of flows. It differs between
/// processes, so that nobody can work out in advance which packets share a place, or two keys an identifier.
pub fn seed() -> u64 {
    *SEED.get_or_init(|| RandomState::new().hash_one(0))
}

/// Makes it the same in every run, for tests; without effect once somebody has asked for it.
pub fn fix_seed() {
    _ = SEED.set(0);
}

static SEED: OnceLock<u64> = OnceLock::new();

/// Hash of bytes.
pub fn hash_bytes(bytes: &[u8], basis: u64) -> u64 {
    let mut hash = mix(basis, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

/// For tables of names and numbers that are in the program, so that nobody chooses what collides.
pub type NameHasher = BuildHasherDefault<FixedHasher>;

/// See [`NameHasher`].
#[derive(Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes, self.0);
    }

    fn write_u8(&mut self, n: u8) {
        self.0 = mix(self.0, n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.0 = mix(self.0, n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = mix(self.0, n.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The upper half of a hash, where a 32-bit one is wanted.
#[inline]
pub fn fold32(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most words in one of 4096 places, by the upper or the lower bits.
    fn most(hash: impl Fn(u64) -> u64, words: impl Iterator<Item = u64>) -> u16 {
        let mut places = [[0u16; 4096]; 2];
        for hash in words.map(hash) {
            places[0][hash as usize % 4096] += 1;
            places[1][(hash >> 52) as usize] += 1;
        }
        places.into_iter().flatten().max().unwrap_or(0)
    }

    #[test]
    fn words_that_an_attacker_may_choose_meet_no_more_than_by_chance() {
        // By which a word is multiplied, taken back: so each bit of the product can be chosen.
        let inverse = (0..6).fold(1u64, |x, _| {
            x.wrapping_mul(2u64.wrapping_sub(x.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        });
        assert_eq!(inverse.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1);
        let kinds: [fn(u64, u32) -> u64; 3] = [
            |i, shift| i << shift,
            |i, shift| (i ^ i >> 1) << shift,
            |i, shift| i.wrapping_mul(0x1_0000_0001) << (shift % 20),
        ];
        for n in 0..4u64 {
            let seed = mix(mix(0x5eed, n), n);
            for (shift, kind) in (0..=52)
                .step_by(4)
                .flat_map(|s| kinds.map(|kind| (s, kind)))
            {
                for by in [1, inverse] {
                    let words = || (0..4096).map(|i| kind(i, shift).wrapping_mul(by));
                    // As the first of two, and as both of them.
                    let first = most(|w| mix(mix(seed, w), 80), words());
                    let both = most(|w| mix(mix(seed, w), w.rotate_left(32)), words());
                    assert!(first.max(both) <= 16, "{first} {both}: {n} {shift} {by}");
                }
            }
        }
    }
}
