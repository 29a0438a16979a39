//! Storage that grows and never moves: readers hold on to what they found while the writer adds to it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zerocopy::{FromZeros, KnownLayout};

/// Places in the first chunk; each further one has twice as many as the one before.
const FIRST: u32 = 64;

/// Chunks with which all numbers of 32 bits are there.
const N_CHUNKS: usize = 26;

/// A growing list of places, numbered from 1.
pub(crate) struct Arena<N> {
    chunks: [OnceLock<Box<[N]>>; N_CHUNKS],
    len: AtomicU32,
}

impl<N> Default for Arena<N> {
    fn default() -> Self {
        Arena {
            chunks: [const { OnceLock::new() }; N_CHUNKS],
            len: AtomicU32::new(0),
        }
    }
}

/// Chunk of a place, and which of the chunk's places it is.
fn locate(number: u32) -> (usize, usize) {
    let n = u64::from(number - 1) + u64::from(FIRST);
    let chunk = n.ilog2() - FIRST.ilog2();
    (chunk as usize, (n - (u64::from(FIRST) << chunk)) as usize)
}

impl<N: FromZeros + KnownLayout> Arena<N> {
    /// The place of this number; none for 0 and for those that are not there yet.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&N> {
        if number == 0 {
            return None;
        }
        let (chunk, at) = locate(number);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// Adds a place, and tells its number. There is one caller at a time.
    pub fn grow(&self) -> u32 {
        let number = self.len.fetch_add(1, Relaxed) + 1;
        let (chunk, _) = locate(number);
        if let Some(places) = self.chunks.get(chunk) {
            places.get_or_init(|| {
                // Zeroes come from the system without being written: places that nobody uses take no memory.
                let n = (FIRST as usize) << chunk;
                <[N]>::new_box_zeroed_with_elems(n).unwrap_or_default()
            });
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_without_gaps() {
        let arena = Arena::<AtomicU32>::default();
        assert!(arena.get(0).is_none() && arena.get(1).is_none());
        for i in 1..=1000 {
            assert_eq!(arena.grow(), i);
            arena.get(i).unwrap().store(i, Relaxed);
        }
        assert!((1..=1000).all(|i| arena.get(i).unwrap().load(Relaxed) == i));
        assert_eq!(locate(64), (0, 63));
        assert_eq!(locate(65), (1, 0));
        assert_eq!(locate(u32::MAX).0, N_CHUNKS);
    }
}
