//! A 64-bit counter that many threads add to without sharing a cache line.
//!
//! Each thread has a block of cells, eight bytes for each counter that somebody has added to; a counter itself is
//! little more than the index of its cells. Only its thread writes to a block, so that adding is a plain addition;
//! reading sums the cells of all blocks.
//!
//! ```text
//!              counter 1   counter 2   counter 3 ...
//!   thread A   [  cell  ]  [  cell  ]  [  cell  ]      in chunks that are allocated when first used
//!   thread B   [  cell  ]  [  cell  ]  [  cell  ]
//! ```
//!
//! A thread that ends leaves its block, with what it holds, to the next one that begins.

use std::mem::take;
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;

/// Cells of a chunk, and chunks of a block.
const CELLS: usize = 1024;
const CHUNKS: usize = 256;

/// Instead of an index: nothing was added yet, or all cells are taken.
const UNUSED: u32 = u32::MAX;
const NO_CELL: u32 = u32::MAX - 1;

/// A counter that starts at 0.
#[derive(Debug)]
pub struct Counter {
    /// Index of its cells.
    index: AtomicU32,
    /// What was added without a cell: by a thread that is being torn down, or for lack of cells.
    rest: AtomicU64,
}

#[repr(align(64))]
struct Chunk([AtomicU64; CELLS]);

/// The cells of one thread.
struct Block {
    chunks: [OnceLock<Box<Chunk>>; CHUNKS],
}

impl Block {
    fn get(&self, index: u32) -> Option<&AtomicU64> {
        let (chunk, cell) = (index as usize / CELLS, index as usize % CELLS);
        self.chunks[chunk].get().map(|c| &c.0[cell])
    }

    /// For the thread whose block it is.
    #[inline]
    fn add(&self, index: u32, n: u64) {
        let (chunk, cell) = (index as usize / CELLS, index as usize % CELLS);
        let new = || Box::new(Chunk([const { AtomicU64::new(0) }; CELLS]));
        let cell = &self.chunks[chunk].get_or_init(new).0[cell];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// All blocks, those too that no thread has.
static BLOCKS: LazyLock<ArcSwap<Vec<Arc<Block>>>> = LazyLock::new(ArcSwap::default);

/// Who has what.
struct Free {
    /// Blocks whose threads have ended.
    blocks: Vec<Arc<Block>>,
    /// Indices that counters gave back; all cells there are 0.
    indices: Vec<u32>,
    /// The first index that was never given away.
    next: u32,
}

static FREE: Mutex<Free> = Mutex::new(Free {
    blocks: Vec::new(),
    indices: Vec::new(),
    next: 0,
});

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The block of the calling thread.
struct Mine(Arc<Block>);

impl Mine {
    fn take() -> Mine {
        let mut free = free();
        Mine(free.blocks.pop().unwrap_or_else(|| {
            let block = Arc::new(Block {
                chunks: [const { OnceLock::new() }; CHUNKS],
            });
            let mut all = Vec::clone(&BLOCKS.load());
            all.push(block.clone());
            BLOCKS.store(Arc::new(all));
            block
        }))
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        free().blocks.push(self.0.clone());
    }
}

thread_local! {
    static MINE: Mine = Mine::take();
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}

impl Counter {
    /// A counter at 0.
    pub const fn new() -> Counter {
        Counter {
            index: AtomicU32::new(UNUSED),
            rest: AtomicU64::new(0),
        }
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        let mut index = self.index.load(Acquire);
        if index == UNUSED {
            index = self.take_index();
        }
        let done = index != NO_CELL && MINE.try_with(|mine| mine.0.add(index, n)).is_ok();
        if !done {
            self.rest.fetch_add(n, Relaxed);
        }
    }

    #[cold]
    fn take_index(&self) -> u32 {
        let mut free = free();
        let mut index = self.index.load(Relaxed);
        if index == UNUSED {
            index = free.indices.pop().unwrap_or(free.next);
            if index == free.next {
                free.next += 1;
            }
            if index as usize >= CELLS * CHUNKS {
                free.next = index;
                index = NO_CELL;
            }
            self.index.store(index, Release);
        }
        index
    }

    /// The total of all threads.
    pub fn sum(&self) -> u64 {
        let rest = self.rest.load(Relaxed);
        let index = self.index.load(Acquire);
        if index >= NO_CELL {
            return rest;
        }
        let blocks = BLOCKS.load();
        let cells = blocks.iter().filter_map(|b| b.get(index));
        cells.fold(rest, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let index = take(self.index.get_mut());
        if index >= NO_CELL {
            return;
        }
        // Whoever gets the index later has locked after this.
        let mut free = free();
        for cell in BLOCKS.load().iter().filter_map(|b| b.get(index)) {
            cell.store(0, Relaxed);
        }
        free.indices.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // On real threads: a block belongs to a thread of the system.
    #[test]
    fn threads_take_over_what_others_left() {
        let c = Counter::new();
        for _ in 0..50 {
            std::thread::scope(|s| {
                s.spawn(|| c.add(1));
            });
        }
        assert_eq!(c.sum(), 50);
        assert!(BLOCKS.load().len() < 50);
    }

    #[test]
    fn a_counter_is_small_and_begins_at_0_whosever_cells_it_gets() {
        assert!(size_of::<Counter>() <= 16);
        let unused = Counter::new();
        assert_eq!(unused.sum(), 0);
        assert_eq!(unused.index.load(Relaxed), UNUSED);
        for _ in 0..2000 {
            let c = Counter::new();
            std::thread::scope(|s| {
                s.spawn(|| c.add(7));
            });
            c.add(1);
            assert_eq!(c.sum(), 8);
        }
        // They were given back.
        assert!((free().next as usize) < CELLS);
    }
}
