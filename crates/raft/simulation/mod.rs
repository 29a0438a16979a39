//! A cluster in one thread and virtual time: machines, their disks, a bad network, clients and
//! operators, all from one number. Whatever goes wrong goes wrong again with the same number.
//!
//! A run has two halves. In the first, everything happens: messages are lost, doubled, delayed and
//! overtaken, servers are cut off, crash with part of what they wrote on disk, come back, join,
//! leave, are kicked out, forget their logs, give leadership away. `checks` looks at each step. In
//! the second half all faults end, and the cluster has to work again.

mod checks;
mod disk;
mod world;

pub use world::{NOT_BACK, Options, World};

/// The numbers that chance comes from.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1234_5678_9abc_def1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True so often of a thousand times.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub crashes: u64,
    pub elections: u64,
    pub acknowledged: u64,
    pub members: u64,
    pub snapshots: u64,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

pub fn run(seed: u64, options: Options) -> Result<Summary, Failure> {
    World::new(seed, options).run()
}
