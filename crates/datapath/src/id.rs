//! What flows and threads are called.

use ferrovs_packet::flow::Flow;
use ferrovs_packet::hash::{self, mix};

/// Unique flow identifier: a hash of the masked key, made by [`Ufid::of`] or by who installs the flow. It has the form
/// of a random UUID, and a key's differs from process to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ufid(pub u128);

impl Ufid {
    /// A hash of the whole key: the identifier of a flow that is made by hand.
    pub fn of(flow: &Flow) -> Ufid {
        let seed = hash::seed();
        let half = |basis: u64| {
            let words = flow.words().iter();
            u128::from(words.fold(basis ^ seed, |hash, word| mix(hash, *word)))
        };
        Ufid::from_hash(half(0x6b65_795f_6869_6768) << 64 | half(0x6b65_795f_6c6f_7700))
    }

    /// The bits that make a hash look like a random UUID (RFC 9562, version 4).
    pub fn from_hash(hash: u128) -> Ufid {
        Ufid(
            uuid::Builder::from_random_bytes(hash.to_be_bytes())
                .into_uuid()
                .as_u128(),
        )
    }
}

/// Which polling thread a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PmdId(pub u32);

impl PmdId {
    /// The thread that serves the ports that are not polled ("main thread" in texts).
    pub const NON_PMD: PmdId = PmdId(i32::MAX as u32);
}
