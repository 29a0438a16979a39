//! Rings of the split format: a table of descriptors, a ring of those that the guest offers, a ring of those used.
//!
//! ```text
//!   desc   | address u64 | size u32 | flags u16 | next u16 | ...     one for each of `size` buffers
//!   avail  | flags u16 | idx u16 | head u16 ... | used_event u16 |   written by the guest
//!   used   | flags u16 | idx u16 | id u32, len u32 ... | avail_event u16 |   written by us
//! ```

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use ferrovs_sys::guest::{GuestArea, GuestMemory};

use super::format::{
    Body, Broken, DESC, Desc, Direction, Format, Found, INDIRECT, MAX_PIECES, NEXT, Pieces,
    add_pieces, body, wants,
};

/// In the flags of `avail`: the guest does not want to be told.
const NO_INTERRUPT: u16 = 1;
/// In the flags of `used`: we do not want to be told.
const NO_NOTIFY: u16 = 1;
/// Where the heads begin.
const HEADS: usize = 4;
/// Where the used elements begin.
const ELEMENTS: usize = 4;

#[derive(Debug)]
pub struct Split {
    desc: GuestArea,
    avail: GuestArea,
    used: GuestArea,
    /// One less than the ring's size, which is a power of two.
    mask: u16,
    /// Whether both sides say of which buffers they want to be told.
    event_idx: bool,
    /// The next buffer that is not given back, and the end of those that are offered, as last seen.
    next: u16,
    end: u16,
    /// The next buffer when the guest last saw.
    published: u16,
}

/// Where the front-end sees the three parts.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
}

impl Split {
    /// A ring of `size` buffers, a power of two. None if it is not all in the memory.
    pub fn new(
        memory: &std::sync::Arc<GuestMemory>,
        size: u16,
        parts: Parts,
        event_idx: bool,
    ) -> Option<Split> {
        let n = usize::from(size);
        let event = if event_idx { 2 } else { 0 };
        let used = memory.area(parts.used, ELEMENTS + 8 * n + event, 4)?;
        used.store_u16(0, NO_NOTIFY, Relaxed);
        // What was given back counts, whatever the front-end remembers of a back-end that ended without a word.
        let next = used.load_u16(2, Acquire);
        Some(Split {
            desc: memory.area(parts.desc, n * DESC, DESC)?,
            avail: memory.area(parts.avail, HEADS + 2 * n + event, 2)?,
            used,
            mask: size - 1,
            event_idx,
            next,
            end: next,
            published: next,
        })
    }

    /// Where a ring goes on that was stopped.
    pub fn base(&self) -> u16 {
        self.next
    }

    #[inline]
    fn desc(&self, index: u16) -> Desc {
        Desc::of_ring(&self.desc, index)
    }

    #[inline]
    fn head(&self, place: u16) -> u16 {
        let at = HEADS + 2 * usize::from(place & self.mask);
        self.avail.load_u16(at, Relaxed)
    }

    fn size(&self) -> usize {
        usize::from(self.mask) + 1
    }
}

impl Format for Split {
    type Place = u16;

    #[inline]
    fn place(&self) -> u16 {
        self.next
    }

    #[inline]
    fn after(&self, place: u16, places: u16) -> u16 {
        place.wrapping_add(places)
    }

    #[inline]
    fn begin(&mut self) -> Result<(), Broken> {
        self.end = self.avail.load_u16(2, Acquire);
        if usize::from(self.end.wrapping_sub(self.next)) > self.size() {
            return Err(Broken::TooMany);
        }
        Ok(())
    }

    #[inline]
    fn prefetch(&self, place: u16, n: usize) {
        let there = usize::from(self.end.wrapping_sub(place)).min(n);
        for i in 0..there {
            let head = self.head(place.wrapping_add(i as u16));
            self.desc.prefetch(usize::from(head) * DESC);
        }
        let first = ELEMENTS + 8 * usize::from(place & self.mask);
        for line in (0..8 * there).step_by(64) {
            self.used.prefetch_for_write(first + line);
        }
    }

    #[inline]
    fn look<'m>(
        &self,
        memory: &'m GuestMemory,
        place: u16,
        direction: Direction,
    ) -> Result<Option<Found<'m>>, Broken> {
        if place == self.end {
            return Ok(None);
        }
        let head = self.head(place);
        if head > self.mask {
            return Err(Broken::Outside(head));
        }
        let desc = self.desc(head);
        let [flags, _] = desc.words;
        let body = if flags & (NEXT | INDIRECT) != 0 {
            Body::Many
        } else if direction.fits(flags) {
            body(memory, desc.address, desc.size)
        } else {
            Body::Bad
        };
        Ok(Some(Found {
            id: head,
            places: 1,
            body,
        }))
    }

    fn walk<'m>(
        &self,
        memory: &'m GuestMemory,
        _place: u16,
        found: &Found<'m>,
        direction: Direction,
        pieces: &mut Pieces<'m>,
    ) -> bool {
        let mut desc = self.desc(found.id);
        // (address, entries) of the table in which the chain goes on.
        let mut table: Option<(u64, usize)> = None;
        // One more than pieces, for the descriptor of the table.
        for _ in 0..=MAX_PIECES {
            let [flags, next] = desc.words;
            if flags & INDIRECT != 0 {
                let entries = desc.size as usize / DESC;
                let makes_sense = table.is_none()
                    && flags & NEXT == 0
                    && entries > 0
                    && (desc.size as usize).is_multiple_of(DESC);
                if !makes_sense {
                    return false;
                }
                table = Some((desc.address, entries));
                let Some(first) = Desc::of_table(memory, desc.address, 0) else {
                    return false;
                };
                desc = first;
                continue;
            }
            if !direction.fits(flags) || !add_pieces(memory, desc.address, desc.size, pieces) {
                return false;
            }
            if flags & NEXT == 0 {
                return true;
            }
            let next_desc = match table {
                Some((address, entries)) => (usize::from(next) < entries)
                    .then(|| Desc::of_table(memory, address, next.into()))
                    .flatten(),
                None => (next <= self.mask).then(|| self.desc(next)),
            };
            match next_desc {
                Some(next) => desc = next,
                None => return false,
            }
        }
        false
    }

    #[inline]
    fn give_back(&mut self, found: &Found<'_>, written: u32) {
        let at = ELEMENTS + 8 * usize::from(self.next & self.mask);
        self.used.store_u32(at, found.id.into(), Relaxed);
        self.used.store_u32(at + 4, written, Relaxed);
        self.next = self.next.wrapping_add(1);
    }

    #[inline]
    fn is_unpublished(&self) -> bool {
        self.published != self.next
    }

    #[inline]
    fn publish(&mut self, asks: bool) -> bool {
        let old = self.published;
        if old == self.next {
            return false;
        }
        self.published = self.next;
        self.used.store_u16(2, self.next, Release);
        if !asks {
            return false;
        }
        // The guest sets what it wants and then looks for what is new; so do we, the other way round.
        fence(SeqCst);
        if self.event_idx {
            let event = self.avail.load_u16(HEADS + 2 * self.size(), Relaxed);
            wants(event, old, self.next)
        } else {
            self.avail.load_u16(0, Relaxed) & NO_INTERRUPT == 0
        }
    }
}
