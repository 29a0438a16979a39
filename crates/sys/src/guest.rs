//! Memory that somebody who is not trusted shares with this process: a guest, through its virtual machine monitor.
//!
//! ```text
//!   the guest's addresses      0 ....... [ region ] ........ [ region ] ...
//!   the monitor's addresses         [ region ] ... [ region ]
//!   here                                [ mapped file ]   [ mapped file ]
//! ```
//!
//! Whoever shares the memory changes it at any time, so no reference to it is ever made: bytes are copied in and out,
//! and the words by which both sides agree are read and written as atomics. Addresses that the other side names are
//! looked up for each use; what is outside of all regions is not there. A file that is cut short under its mapping does no
//! harm either: see [`cut`].

mod cut;

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A run of the guest's memory, as its owner describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the guest sees it.
    pub guest: u64,
    pub size: u64,
    /// Where its owner sees it.
    pub user: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// A region, mapped.
#[derive(Debug)]
struct Mapped {
    region: Region,
    /// The region's first byte.
    base: NonNull<u8>,
    /// What was mapped, which may begin before the region.
    map: NonNull<libc::c_void>,
    map_size: usize,
    /// By which it is looked after.
    watch: usize,
}

// SAFETY: the mapping belongs to no thread, and is only accessed by atomics and copies that tolerate any content.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        cut::forget(self.watch);
        // SAFETY: exactly this was mapped, and who could access it borrows or holds what owns this.
        unsafe { libc::munmap(self.map.as_ptr(), self.map_size) };
    }
}

impl Mapped {
    fn new(region: Region, file: &OwnedFd) -> io::Result<Mapped> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let end = region.offset.checked_add(region.size);
        let end = end.ok_or_else(invalid)?;
        let fits = region.guest.checked_add(region.size).is_some()
            && region.user.checked_add(region.size).is_some();
        if region.size == 0 || !fits {
            return Err(invalid());
        }
        let stat = rustix::fs::fstat(file.as_fd())?;
        if u64::try_from(stat.st_size).unwrap_or(0) < end {
            return Err(invalid());
        }
        // Files of huge pages are mapped in such pages.
        let page = u64::try_from(stat.st_blksize).unwrap_or(0).max(4096);
        let first = region.offset - region.offset % page;
        let lead = (region.offset - first) as usize;
        let map_size = (end - first).checked_next_multiple_of(page);
        let map_size = map_size.and_then(|n| usize::try_from(n).ok());
        let map_size = map_size.ok_or_else(invalid)?;
        let offset = libc::off_t::try_from(first).map_err(|_| invalid())?;
        // SAFETY: a new mapping, at an address of the kernel's choice, disturbs nothing.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map).ok_or_else(invalid)?;
        // SAFETY: `lead` is less than what was mapped.
        let base = unsafe { map.cast::<u8>().add(lead) };
        // A guest's memory is not ours to show: it is no part of a core file.
        // SAFETY: the advice is about what was just mapped.
        unsafe { libc::madvise(map.as_ptr(), map_size, libc::MADV_DONTDUMP) };
        let watch = cut::watch(map.addr().get(), map_size, page as usize);
        if watch.is_err() {
            // SAFETY: exactly this was mapped, and nobody knows of it yet.
            unsafe { libc::munmap(map.as_ptr(), map_size) };
        }
        Ok(Mapped {
            region,
            base,
            map,
            map_size,
            watch: watch?,
        })
    }
}

/// All memory that a guest shares.
#[derive(Debug)]
pub struct GuestMemory {
    regions: Vec<Mapped>,
}

impl GuestMemory {
    /// Maps the files that make up the memory. Each must be as long as it is said to be.
    pub fn map(regions: impl IntoIterator<Item = (Region, OwnedFd)>) -> io::Result<GuestMemory> {
        let map = |(region, file): (Region, OwnedFd)| Mapped::new(region, &file);
        let regions = regions.into_iter().map(map).collect::<io::Result<_>>()?;
        Ok(GuestMemory { regions })
    }

    /// The bytes at one of the guest's addresses: `size` of them, or as many as are together; None if there are none.
    #[inline]
    pub fn at(&self, guest: u64, size: usize) -> Option<GuestSlice<'_>> {
        for m in &self.regions {
            // An address before the region is far behind it this way.
            let at = guest.wrapping_sub(m.region.guest);
            if at < m.region.size {
                let left = m.region.size - at;
                return Some(GuestSlice {
                    // SAFETY: `at` is inside of the mapping.
                    ptr: unsafe { m.base.add(at as usize) },
                    size: left.min(size as u64) as usize,
                    memory: PhantomData,
                });
            }
        }
        None
    }

    /// The guest's address of bytes that were found.
    pub fn address_of(&self, slice: GuestSlice<'_>) -> Option<u64> {
        self.regions.iter().find_map(|m| {
            let at = slice.ptr.addr().get().wrapping_sub(m.base.addr().get()) as u64;
            (at < m.region.size).then_some(m.region.guest + at)
        })
    }

    /// An area at one of the owner's addresses, aligned to `align` bytes, all of it in one region.
    pub fn area(self: &Arc<Self>, user: u64, size: usize, align: usize) -> Option<GuestArea> {
        let found = self.regions.iter().find_map(|m| {
            let at = user.wrapping_sub(m.region.user);
            let fits = at < m.region.size && m.region.size - at >= size as u64;
            // SAFETY: `at` is inside of the mapping.
            fits.then(|| unsafe { m.base.add(at as usize) })
        })?;
        found.addr().get().is_multiple_of(align).then(|| GuestArea {
            ptr: found,
            size,
            memory: self.clone(),
        })
    }

    /// The memory node of the first region; 0 where that makes no difference.
    pub fn numa_node(&self) -> u32 {
        let Some(first) = self.regions.first() else {
            return 0;
        };
        const MPOL_F_NODE: libc::c_ulong = 1;
        const MPOL_F_ADDR: libc::c_ulong = 2;
        let mut node: libc::c_int = 0;
        // SAFETY: the call writes one integer, and looks at the page of a mapped address.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut node,
                std::ptr::null_mut::<libc::c_ulong>(),
                0 as libc::c_ulong,
                first.base.as_ptr(),
                MPOL_F_NODE | MPOL_F_ADDR,
            )
        };
        if rc == 0 {
            u32::try_from(node).unwrap_or(0)
        } else {
            0
        }
    }
}

/// Bytes of the guest's memory, to be copied.
#[derive(Clone, Copy, Debug)]
pub struct GuestSlice<'a> {
    ptr: NonNull<u8>,
    size: usize,
    memory: PhantomData<&'a GuestMemory>,
}

impl<'a> GuestSlice<'a> {
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes behind the first `n`; none if there are no more.
    #[inline]
    pub fn behind(self, n: usize) -> GuestSlice<'a> {
        let n = n.min(self.size);
        GuestSlice {
            // SAFETY: at most the end of the slice.
            ptr: unsafe { self.ptr.add(n) },
            size: self.size - n,
            memory: PhantomData,
        }
    }

    /// Copies the first bytes out, as many as both have; returns how many.
    #[inline]
    pub fn read(&self, to: &mut [u8]) -> usize {
        let n = to.len().min(self.size);
        // SAFETY: both are that long, and apart: the mapping is nobody's memory here. The guest may write meanwhile,
        // then any bytes come out, which nobody trusts.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr.as_ptr(), to.as_mut_ptr(), n) };
        n
    }

    /// Copies bytes in, as many as find room; returns how many.
    #[inline]
    pub fn write(&self, from: &[u8]) -> usize {
        let n = from.len().min(self.size);
        // SAFETY: as for reading.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.ptr.as_ptr(), n) };
        n
    }

    /// Fetches the first bytes into the cache.
    #[inline]
    pub fn prefetch(&self) {
        crate::prefetch::at(self.ptr.addr().get());
    }

    /// The same for bytes that come later, if there are that many.
    #[inline]
    pub fn prefetch_at(&self, at: usize) {
        if at < self.size {
            crate::prefetch::at(self.ptr.addr().get() + at);
        }
    }

    /// Fetches bytes into the cache to write them, if there are that many.
    #[inline]
    pub fn prefetch_for_write(&self, at: usize) {
        if at < self.size {
            crate::prefetch::for_write(self.ptr.addr().get() + at);
        }
    }
}

/// A part of the guest's memory with words by which both sides agree. It keeps the memory mapped.
#[derive(Clone, Debug)]
pub struct GuestArea {
    ptr: NonNull<u8>,
    size: usize,
    memory: Arc<GuestMemory>,
}

// SAFETY: as for the memory, which it holds.
unsafe impl Send for GuestArea {}
// SAFETY: as above.
unsafe impl Sync for GuestArea {}

macro_rules! words {
    ($($load:ident $store:ident $word:ty, $atomic:ty;)*) => {$(
        /// The word there. The place must be a multiple of its size, inside of the area.
        #[inline]
        pub fn $load(&self, at: usize, order: Ordering) -> $word {
            self.check(at, size_of::<$word>());
            // SAFETY: in the mapping and aligned, see `check`; all in this process access it as atomics or by copies.
            let ptr = unsafe { self.ptr.add(at) };
            // SAFETY: as above.
            <$word>::from_le(unsafe { <$atomic>::from_ptr(ptr.cast().as_ptr()) }.load(order))
        }

        /// Sets the word there, as above.
        #[inline]
        pub fn $store(&self, at: usize, value: $word, order: Ordering) {
            self.check(at, size_of::<$word>());
            // SAFETY: as for loads.
            let ptr = unsafe { self.ptr.add(at) };
            // SAFETY: as above.
            unsafe { <$atomic>::from_ptr(ptr.cast().as_ptr()) }.store(value.to_le(), order);
        }
    )*};
}

impl GuestArea {
    words! {
        load_u16 store_u16 u16, AtomicU16;
        load_u32 store_u32 u32, AtomicU32;
        load_u64 store_u64 u64, AtomicU64;
    }

    /// Sets bits of the byte there; nothing if the area is not that long.
    pub fn set_bits(&self, at: usize, bits: u8) {
        if at < self.size {
            // SAFETY: inside of the mapping, see `check`.
            let ptr = unsafe { self.ptr.add(at) };
            // SAFETY: as above; a byte is always aligned.
            unsafe { AtomicU8::from_ptr(ptr.as_ptr()) }.fetch_or(bits, Ordering::Relaxed);
        }
    }

    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Fetches what is there into the cache.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        if at < self.size {
            crate::prefetch::at(self.ptr.addr().get() + at);
        }
    }

    /// The same, to write it.
    #[inline]
    pub fn prefetch_for_write(&self, at: usize) {
        if at < self.size {
            crate::prefetch::for_write(self.ptr.addr().get() + at);
        }
    }

    #[inline]
    fn check(&self, at: usize, size: usize) {
        let aligned = (self.ptr.addr().get().wrapping_add(at)).is_multiple_of(size);
        assert!(
            aligned && self.size >= size && at <= self.size - size,
            "a word outside of its area"
        );
    }
}

/// A file in memory of that size, to be shared.
pub fn file(size: u64) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, size)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, size: u64, user: u64, offset: u64) -> Region {
        Region {
            guest,
            size,
            user,
            offset,
        }
    }

    #[test]
    fn addresses_are_found_where_they_are_and_nowhere_else() {
        let (low, high) = (file(0x3000).unwrap(), file(0x1000).unwrap());
        let memory = GuestMemory::map([
            (region(0x1000, 0x1800, 0x7000_0000, 0x800), low),
            (region(0x10_0000, 0x1000, 0x8000_0000, 0), high),
        ])
        .unwrap();
        let size = |at, n| memory.at(at, n).map(|s| s.size());
        assert_eq!(size(0x1000, 64), Some(64));
        assert_eq!(size(0x27ff, 64), Some(1));
        for outside in [0, 0xfff, 0x2800, 0xf_ffff, 0x10_1000, u64::MAX] {
            assert_eq!(size(outside, 1), None, "{outside:#x}");
        }
        let memory = Arc::new(memory);
        let area = memory.area(0x7000_0000, 16, 16).unwrap();
        area.store_u32(4, 0x0403_0201, Ordering::Release);
        let mut bytes = [0; 4];
        assert_eq!(memory.at(0x1004, 4).unwrap().read(&mut bytes), 4);
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(memory.at(0x1004, 9).unwrap().behind(2).write(&[9; 2]), 2);
        assert_eq!(area.load_u16(6, Ordering::Relaxed), 0x0909);
        // Not all in one region, or not aligned.
        assert!(memory.area(0x7000_17f8, 16, 2).is_none());
        assert!(memory.area(0x7000_0008, 16, 16).is_none());
    }

    #[test]
    fn a_file_that_is_cut_short_does_no_harm() {
        const SIZE: u64 = 16 << 20;
        let shared = file(SIZE).unwrap();
        let whole = region(0, SIZE, 0, 0);
        let memory = GuestMemory::map([(whole, shared.try_clone().unwrap())]).unwrap();
        let memory = Arc::new(memory);
        let area = memory.area(0, SIZE as usize, 8).unwrap();
        area.store_u64(8, 1, Ordering::Relaxed);
        rustix::fs::ftruncate(&shared, 0).unwrap();
        for at in (0..SIZE).step_by(4096) {
            let slice = memory.at(at, 64).unwrap();
            assert_eq!(slice.write(&[7; 64]), 64);
            let mut bytes = [0; 64];
            slice.read(&mut bytes);
            assert_eq!(bytes, [7; 64]);
        }
        area.store_u64(8, 2, Ordering::Relaxed);
        // Others are as they were.
        let other = GuestMemory::map([(region(0, 4096, 0, 0), file(4096).unwrap())]).unwrap();
        let mut byte = [1];
        other.at(0, 1).unwrap().read(&mut byte);
        assert_eq!(byte, [0]);
    }

    #[test]
    fn what_is_not_in_the_file_is_not_mapped() {
        let map = |r| GuestMemory::map([(r, file(0x1000).unwrap())]);
        assert!(map(region(0, 0x1000, 0, 0)).is_ok());
        for r in [
            region(0, 0x1001, 0, 0),
            region(0, 0x1000, 0, 1),
            region(0, 0, 0, 0),
            region(u64::MAX, 0x1000, 0, 0),
            region(0, 0x1000, u64::MAX - 1, 0),
            region(0, u64::MAX, 0, 2),
        ] {
            assert!(map(r).is_err(), "{r:?}");
        }
    }
}
