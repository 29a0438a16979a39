//! A ring between the kernel and this process, with one who puts in and one who takes out.
//!
//! ```text
//!   producer, consumer   numbers that only grow (and wrap): who puts in writes the first, who takes out the second
//!   entries              2^k of them; number n is in entry n % 2^k
//! ```
//!
//! A ring is used from one end here, and the kernel has the other. Entries are within the mapping whatever the kernel
//! writes into its number; one that cannot be (more entries than there are) counts as none to take, or none free.

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::area::Area;

/// A frame, or a part of one: where it is in the memory, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub options: u32,
}

/// What may be in a ring: integers alone, so that any bytes are one.
pub trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for Desc {}

/// Our end of a ring of `T`.
#[derive(Debug)]
pub struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// The number up to which we have put in, or taken out.
    ours: u32,
    /// The kernel's number, as last looked at.
    theirs: u32,
    _memory: Area,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into the mapping that the value owns, which belongs to no thread.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// Maps a ring of a socket that has one, of `size` entries, a power of 2.
    pub fn map(
        fd: &OwnedFd,
        page: libc::off_t,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Ring<T>> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let entries = size as usize * size_of::<T>();
        let end = usize::try_from(offsets.desc).ok();
        let end = end.and_then(|at| at.checked_add(entries));
        let memory = Area::of(fd, page, end.ok_or_else(invalid)?)?;
        Ring::new(memory, offsets, size).ok_or_else(invalid)
    }

    fn new(memory: Area, offsets: &libc::xdp_ring_offset, size: u32) -> Option<Ring<T>> {
        if !size.is_power_of_two() {
            return None;
        }
        let mut ring = Ring {
            producer: memory.at(offsets.producer, 1)?,
            consumer: memory.at(offsets.consumer, 1)?,
            flags: memory.at(offsets.flags, 1)?,
            entries: memory.at(offsets.desc, size as usize)?,
            size,
            ours: 0,
            theirs: 0,
            _memory: memory,
            _entries: PhantomData,
        };
        ring.ours = ring.producer().load(Ordering::Relaxed);
        ring.theirs = ring.ours;
        Some(ring)
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it is within the mapping and aligned, and only used as an atomic.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    /// Whether the kernel sleeps and wants to be told of what we put in.
    #[inline]
    pub fn wants_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    #[inline]
    fn entry(&self, number: u32) -> NonNull<T> {
        let at = (number & (self.size - 1)) as usize;
        // SAFETY: it is one of `size` entries, which are within the mapping.
        unsafe { self.entries.add(at) }
    }

    /// How many entries wait to be taken out.
    #[inline]
    pub fn waiting(&mut self) -> u32 {
        self.theirs = self.producer().load(Ordering::Acquire);
        match self.theirs.wrapping_sub(self.ours) {
            n if n <= self.size => n,
            _ => 0,
        }
    }

    /// The entry that comes `i` behind the next one, which is one of those that wait.
    #[inline]
    pub fn peek(&self, i: u32) -> T {
        let entry = self.entry(self.ours.wrapping_add(i));
        // SAFETY: it is within the mapping and aligned, and any bytes are a value. The kernel is done with it, as its
        // number says.
        unsafe { entry.read_volatile() }
    }

    /// Takes out `n` of those that wait.
    #[inline]
    pub fn release(&mut self, n: u32) {
        self.ours = self.ours.wrapping_add(n);
        self.consumer().store(self.ours, Ordering::Release);
    }

    /// Puts an entry in, which the kernel sees after [`Ring::publish`]; false if there is no room.
    #[inline]
    pub fn put(&mut self, value: T) -> bool {
        if self.ours.wrapping_sub(self.theirs) >= self.size {
            self.theirs = self.consumer().load(Ordering::Acquire);
            if self.ours.wrapping_sub(self.theirs) >= self.size {
                return false;
            }
        }
        let entry = self.entry(self.ours);
        // SAFETY: it is within the mapping and aligned. It is free, as the kernel's number says.
        unsafe { entry.write_volatile(value) };
        self.ours = self.ours.wrapping_add(1);
        true
    }

    /// Shows the kernel what was put in.
    #[inline]
    pub fn publish(&mut self) {
        self.producer().store(self.ours, Ordering::Release);
    }

    /// How many of the entries that were put in the kernel has not taken out yet.
    #[inline]
    pub fn left(&self) -> u32 {
        let theirs = self.consumer().load(Ordering::Acquire);
        self.ours.wrapping_sub(theirs).min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        flags: 128,
        desc: 192,
    };

    fn ring() -> Ring<u64> {
        Ring::new(Area::anonymous(4096).unwrap(), &OFFSETS, 4).unwrap()
    }

    #[test]
    fn a_ring_holds_as_many_as_it_has_entries_also_when_its_numbers_wrap() {
        let mut ring = ring();
        let start = u32::MAX - 1;
        (ring.ours, ring.theirs) = (start, start);
        ring.consumer().store(start, Ordering::Relaxed);
        let put = (0..6).filter(|n| ring.put(*n)).count();
        ring.publish();
        assert_eq!((put, ring.left()), (4, 4));
        assert_eq!(ring.producer().load(Ordering::Relaxed), 2);
        ring.consumer().store(u32::MAX, Ordering::Relaxed);
        assert!(ring.put(9) && !ring.put(10));
        assert_eq!(ring.left(), 4);

        // The other end.
        (ring.ours, ring.theirs) = (u32::MAX, u32::MAX);
        ring.producer().store(2, Ordering::Relaxed);
        assert_eq!(ring.waiting(), 3);
        assert_eq!([0, 1, 2].map(|i| ring.peek(i)), [1, 2, 3]);
        ring.release(3);
        assert_eq!(
            (ring.waiting(), ring.consumer().load(Ordering::Relaxed)),
            (0, 2)
        );
    }

    #[test]
    fn a_number_that_cannot_be_counts_as_nothing() {
        let mut ring = ring();
        for theirs in [5, u32::MAX, 1 << 31] {
            ring.producer().store(theirs, Ordering::Relaxed);
            assert_eq!(ring.waiting(), 0, "{theirs}");
        }
        (ring.ours, ring.theirs) = (4, 0);
        for theirs in [5, u32::MAX, 1 << 31] {
            ring.consumer().store(theirs, Ordering::Relaxed);
            assert!(!ring.put(1), "{theirs}");
            assert!(ring.left() <= 4);
        }
        ring.flags_for_test(1);
        assert!(ring.wants_wakeup());
    }

    #[test]
    fn a_ring_that_is_not_all_within_its_memory_is_refused() {
        for (bad, size) in [
            (
                libc::xdp_ring_offset {
                    desc: 4072,
                    ..OFFSETS
                },
                4,
            ),
            (
                libc::xdp_ring_offset {
                    producer: 4094,
                    ..OFFSETS
                },
                4,
            ),
            (
                libc::xdp_ring_offset {
                    consumer: u64::MAX,
                    ..OFFSETS
                },
                4,
            ),
            (
                libc::xdp_ring_offset {
                    flags: 1,
                    ..OFFSETS
                },
                4,
            ),
            (OFFSETS, 3),
            (OFFSETS, 0),
        ] {
            let memory = Area::anonymous(4096).unwrap();
            assert!(Ring::<u64>::new(memory, &bad, size).is_none(), "{bad:?}");
        }
    }

    impl Ring<u64> {
        fn flags_for_test(&self, flags: u32) {
            // SAFETY: it is within the mapping and aligned, and only used as an atomic.
            unsafe { self.flags.as_ref() }.store(flags, Ordering::Relaxed);
        }
    }
}
