//! What the two formats of rings have in common: buffers that the guest offers, one behind the other.
//!
//! Whoever uses a ring looks at buffers from a [`Place`](Format::Place) on, which takes none, and gives them back in
//! order; what was only looked at is found again next time. Everything in a ring is the guest's to write, at any
//! time: what is read is checked each time it is read, what does not make sense makes the buffer [`Body::Bad`], and
//! what leaves no next buffer to be found, the ring [`Broken`].

use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;
use ferrovs_sys::guest::{GuestArea, GuestMemory, GuestSlice};

/// A buffer with more pieces than this is a bad one.
pub const MAX_PIECES: usize = 256;

/// Flags of a descriptor, the same in both formats.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub const DESC: usize = 16;

/// The parts of a buffer, in order.
pub type Pieces<'m> = ArrayVec<GuestSlice<'m>, MAX_PIECES>;

/// Why a ring cannot be used any more, until the guest sets it up anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("more buffers than the ring has")]
    TooMany,
    #[error("descriptor {0} outside of the ring")]
    Outside(u16),
    #[error("a chain of descriptors without an end")]
    Endless,
}

/// Whether a buffer is one for the guest to read or for us to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromGuest,
    ToGuest,
}

impl Direction {
    /// Whether a descriptor's flags fit.
    #[inline]
    pub fn fits(self, flags: u16) -> bool {
        (flags & WRITE != 0) == (self == Direction::ToGuest)
    }
}

/// A buffer that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found<'m> {
    /// By which the guest knows it.
    pub id: u16,
    /// Places that it takes.
    pub places: u16,
    pub body: Body<'m>,
}

#[derive(Clone, Copy, Debug)]
pub enum Body<'m> {
    /// All of it is in one piece.
    One(GuestSlice<'m>),
    /// Its pieces are found by [`Format::walk`].
    Many,
    /// It is not where the guest's memory is, or not for this direction.
    Bad,
}

/// A ring of either format.
pub trait Format {
    /// Where in the order of all buffers one is.
    type Place: Copy;

    /// Where the next buffer is that was not given back.
    fn place(&self) -> Self::Place;
    /// The place so many places later.
    fn after(&self, place: Self::Place, places: u16) -> Self::Place;
    /// Sees what the guest has offered since the last time.
    fn begin(&mut self) -> Result<(), Broken>;
    /// Fetches what [`Format::look`] will see at so many places into the cache.
    fn prefetch(&self, place: Self::Place, n: usize);
    /// The buffer at a place; None if there is none yet.
    fn look<'m>(
        &self,
        memory: &'m GuestMemory,
        place: Self::Place,
        direction: Direction,
    ) -> Result<Option<Found<'m>>, Broken>;
    /// Adds the pieces of a buffer that was found there; false if it is a bad one.
    fn walk<'m>(
        &self,
        memory: &'m GuestMemory,
        place: Self::Place,
        found: &Found<'m>,
        direction: Direction,
        pieces: &mut Pieces<'m>,
    ) -> bool;
    /// Gives the buffer at [`Format::place`] back, with so many bytes written.
    fn give_back(&mut self, found: &Found<'_>, written: u32);
    /// Whether something was given back that the guest does not see yet.
    fn is_unpublished(&self) -> bool;
    /// Lets the guest see what was given back; true if it wants to be told.
    fn publish(&mut self, asks: bool) -> bool;
}

/// The slice at an address when it is all in one piece.
#[inline]
pub fn body(memory: &GuestMemory, address: u64, size: u32) -> Body<'_> {
    match memory.at(address, size as usize) {
        Some(slice) if slice.size() == size as usize => Body::One(slice),
        Some(_) => Body::Many,
        None => Body::Bad,
    }
}

/// Adds what is at an address, which may be in several pieces; false if it cannot be had.
pub fn add_pieces<'m>(
    memory: &'m GuestMemory,
    mut address: u64,
    size: u32,
    pieces: &mut Pieces<'m>,
) -> bool {
    let mut left = size as usize;
    while left > 0 {
        let Some(slice) = memory.at(address, left) else {
            return false;
        };
        if pieces.try_push(slice).is_err() {
            return false;
        }
        left -= slice.size();
        address = address.wrapping_add(slice.size() as u64);
    }
    true
}

/// A descriptor as it lies in memory; the last two words have other meanings in each format.
#[derive(Clone, Copy, Debug)]
pub struct Desc {
    pub address: u64,
    pub size: u32,
    pub words: [u16; 2],
}

impl Desc {
    #[inline]
    pub fn new(low: u64, high: u64) -> Desc {
        Desc {
            address: low,
            size: high as u32,
            words: [(high >> 32) as u16, (high >> 48) as u16],
        }
    }

    /// The entry of a ring's own table, which has that many at least.
    #[inline]
    pub fn of_ring(ring: &GuestArea, index: u16) -> Desc {
        let at = usize::from(index) * DESC;
        Desc::new(ring.load_u64(at, Relaxed), ring.load_u64(at + 8, Relaxed))
    }

    /// The entry of an indirect table, which may lie anywhere.
    pub fn of_table(memory: &GuestMemory, table: u64, index: usize) -> Option<Desc> {
        let at = table.checked_add((index * DESC) as u64)?;
        let mut bytes = [0; DESC];
        if memory.at(at, DESC)?.read(&mut bytes) != DESC {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        Some(Desc::new(word(0), word(8)))
    }
}

/// Whether the guest, which wants to hear of `event`, is to be told of what was given back from `old` to `new`.
#[inline]
pub fn wants(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
