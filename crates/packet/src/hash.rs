//! Hashes of keys: fast, well mixed, the same on every run of the program unless they begin with [`seed`].

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::OnceLock;

mod fields;
pub mod known;

pub use fields::HashFields;

/// Mixes a word into a hash: a 64 by 64 to 128 bit multiplication folded to 64 bits.
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
