//! Rings of the packed format: one table, in which the guest offers buffers and we write over them what was used.
//!
//! ```text
//!   desc   | address u64 | size u32 | id u16 | flags u16 | ...
//!   driver | offset and wrap u16 | flags u16 |   of which buffers the guest wants to be told
//!   device | offset and wrap u16 | flags u16 |   of which we want to be told: of none
//! ```
//!
//! Two bits of a descriptor's flags say whose it is: both change their meaning each time the table begins anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use ferrovs_sys::guest::{GuestArea, GuestMemory};

use super::format::{
    Body, Broken, DESC, Desc, Direction, Format, Found, INDIRECT, MAX_PIECES, NEXT, Pieces, WRITE,
    add_pieces, body, wants,
};
use super::split::Parts;

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Event flags: tell of all, of none, or of the one that is named.
const DISABLE: u16 = 1;
const NAMED: u16 = 2;
const WRAP: u16 = 1 << 15;

#[derive(Debug)]
pub struct Packed {
    desc: GuestArea,
    driver: GuestArea,
    size: u16,
    /// The next buffer that is not given back.
    next: Place,
    /// The first that was given back and is not published: all behind it wait for its flags.
    first: Option<(Place, u16)>,
    /// Places given back since the guest last saw.
    given: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: u16,
    wrap: bool,
}

impl Packed {
    /// A ring of `size` places, any number up to 32768. None if it is not all in the memory.
    pub fn new(memory: &Arc<GuestMemory>, size: u16, parts: Parts, base: u16) -> Option<Packed> {
        let desc = memory.area(parts.desc, usize::from(size) * DESC, DESC)?;
        let driver = memory.area(parts.avail, 4, 4)?;
        let device = memory.area(parts.used, 4, 4)?;
        device.store_u16(2, DISABLE, Relaxed);
        let index = base & !WRAP;
        (index < size).then_some(Packed {
            desc,
            driver,
            size,
            next: Place {
                index,
                wrap: base & WRAP != 0,
            },
            first: None,
            given: 0,
        })
    }

    /// Where a ring goes on that was stopped.
    pub fn base(&self) -> u16 {
        self.next.index | if self.next.wrap { WRAP } else { 0 }
    }

    #[inline]
    fn desc(&self, index: u16) -> Desc {
        Desc::of_ring(&self.desc, index)
    }

    #[inline]
    fn flags_at(place: Place) -> usize {
        usize::from(place.index) * DESC + 14
    }
}

impl Format for Packed {
    type Place = Place;

    #[inline]
    fn place(&self) -> Place {
        self.next
    }

    #[inline]
    fn after(&self, place: Place, places: u16) -> Place {
        let index = u32::from(place.index) + u32::from(places);
        if index >= u32::from(self.size) {
            Place {
                index: (index - u32::from(self.size)) as u16,
                wrap: !place.wrap,
            }
        } else {
            Place {
                index: index as u16,
                wrap: place.wrap,
            }
        }
    }

    #[inline]
    fn begin(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    #[inline]
    fn prefetch(&self, place: Place, n: usize) {
        let first = usize::from(place.index) * DESC;
        for line in (0..n * DESC).step_by(64) {
            self.desc.prefetch_for_write(first + line);
        }
    }

    #[inline]
    fn look<'m>(
        &self,
        memory: &'m GuestMemory,
        place: Place,
        direction: Direction,
    ) -> Result<Option<Found<'m>>, Broken> {
        let flags = self.desc.load_u16(Packed::flags_at(place), Acquire);
        let offered = (flags & AVAIL != 0) == place.wrap && (flags & USED != 0) != place.wrap;
        if !offered {
            return Ok(None);
        }
        let desc = self.desc(place.index);
        let [id, _] = desc.words;
        if flags & NEXT != 0 {
            return self.chain(place).map(Some);
        }
        let body = if flags & INDIRECT != 0 {
            Body::Many
        } else if direction.fits(flags) {
            body(memory, desc.address, desc.size)
        } else {
            Body::Bad
        };
        Ok(Some(Found {
            id,
            places: 1,
            body,
        }))
    }

    fn walk<'m>(
        &self,
        memory: &'m GuestMemory,
        mut place: Place,
        found: &Found<'m>,
        direction: Direction,
        pieces: &mut Pieces<'m>,
    ) -> bool {
        for _ in 0..found.places {
            let desc = self.desc(place.index);
            let [_, flags] = desc.words;
            if flags & INDIRECT != 0 {
                if found.places != 1 || !indirect(memory, &desc, direction, pieces) {
                    return false;
                }
            } else if !direction.fits(flags) || !add_pieces(memory, desc.address, desc.size, pieces)
            {
                return false;
            }
            place = self.after(place, 1);
        }
        true
    }

    #[inline]
    fn give_back(&mut self, found: &Found<'_>, written: u32) {
        let at = usize::from(self.next.index) * DESC;
        self.desc.store_u32(at + 8, written, Relaxed);
        self.desc.store_u16(at + 12, found.id, Relaxed);
        let ours = if self.next.wrap { AVAIL | USED } else { 0 };
        let flags = ours | if written > 0 { WRITE } else { 0 };
        if self.first.is_none() {
            self.first = Some((self.next, flags));
        } else {
            self.desc
                .store_u16(Packed::flags_at(self.next), flags, Release);
        }
        self.next = self.after(self.next, found.places);
        self.given = self.given.wrapping_add(found.places);
    }

    #[inline]
    fn is_unpublished(&self) -> bool {
        self.first.is_some()
    }

    #[inline]
    fn publish(&mut self, asks: bool) -> bool {
        let Some((first, flags)) = self.first.take() else {
            return false;
        };
        self.desc.store_u16(Packed::flags_at(first), flags, Release);
        let given = std::mem::take(&mut self.given);
        if !asks {
            return false;
        }
        fence(SeqCst);
        match self.driver.load_u16(2, Relaxed) & 3 {
            DISABLE => false,
            NAMED => {
                let named = self.driver.load_u16(0, Relaxed);
                let mut event = named & !WRAP;
                // Counted on from where the table began last.
                if (named & WRAP != 0) != self.next.wrap {
                    event = event.wrapping_sub(self.size);
                }
                let new = self.next.index;
                wants(event, new.wrapping_sub(given), new)
            }
            _ => true,
        }
    }
}

impl Packed {
    /// A chain that begins at a place; its id stands in the last descriptor.
    fn chain<'m>(&self, place: Place) -> Result<Found<'m>, Broken> {
        let mut at = place;
        for places in 1..=self.size.min(MAX_PIECES as u16) {
            let [id, flags] = self.desc(at.index).words;
            if flags & NEXT == 0 {
                return Ok(Found {
                    id,
                    places,
                    body: Body::Many,
                });
            }
            at = self.after(at, 1);
        }
        Err(Broken::Endless)
    }
}

/// Adds the pieces of an indirect table, all of which is one buffer.
fn indirect<'m>(
    memory: &'m GuestMemory,
    desc: &Desc,
    direction: Direction,
    pieces: &mut Pieces<'m>,
) -> bool {
    let size = desc.size as usize;
    if size == 0 || !size.is_multiple_of(DESC) {
        return false;
    }
    if size > MAX_PIECES * DESC {
        return false;
    }
    for index in 0..size / DESC {
        let Some(entry) = Desc::of_table(memory, desc.address, index) else {
            return false;
        };
        let [_, flags] = entry.words;
        let fits = flags & INDIRECT == 0 && direction.fits(flags);
        if !fits || !add_pieces(memory, entry.address, entry.size, pieces) {
            return false;
        }
    }
    true
}
