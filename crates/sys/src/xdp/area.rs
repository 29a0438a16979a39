//! Mapped memory that is shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// A mapping of its own. Its bytes are reached by offsets that are checked.
#[derive(Debug)]
pub struct Area {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Area {}
// SAFETY: the methods that touch bytes say who else may.
unsafe impl Sync for Area {}

impl Area {
    /// Fresh memory, all zero.
    pub fn anonymous(size: usize) -> io::Result<Area> {
        Area::map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What a descriptor has at an offset.
    pub fn of(fd: &OwnedFd, offset: libc::off_t, size: usize) -> io::Result<Area> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Area::map(size, flags, fd.as_raw_fd(), offset)
    }

    fn map(
        size: usize,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Area> {
        // SAFETY: a new mapping, at an address of the kernel's choice, disturbs nothing.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        match NonNull::new(map.cast()) {
            Some(base) if map != libc::MAP_FAILED => Ok(Area { base, size }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Where `n` values of `T` begin; None if they are not all within, or not aligned.
    pub fn at<T>(&self, offset: u64, n: usize) -> Option<NonNull<T>> {
        let offset = usize::try_from(offset).ok()?;
        let end = n.checked_mul(size_of::<T>())?.checked_add(offset)?;
        if end > self.size || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset is within the mapping, which begins with a page.
        Some(unsafe { self.base.add(offset) }.cast())
    }

    /// Bytes that the kernel is done with; None if they are not all within.
    #[inline]
    pub fn bytes(&self, at: usize, size: usize) -> Option<&[u8]> {
        if at.checked_add(size)? > self.size {
            return None;
        }
        // SAFETY: `at` is within the mapping.
        let from = unsafe { self.base.add(at) };
        // SAFETY: so are `size` bytes from there. The kernel has handed the frame over and leaves it alone until it
        // is given back, which who reads it does afterwards; sending does not touch frames to receive into.
        Some(unsafe { std::slice::from_raw_parts(from.as_ptr(), size) })
    }

    /// Writes bytes at `at`, where there is `room`; false if that is too little.
    #[inline]
    pub fn write(&self, at: usize, room: usize, data: &[u8]) -> bool {
        let end = at.checked_add(room);
        if data.len() > room || end.is_none_or(|end| end > self.size) {
            return false;
        }
        // SAFETY: `at` is within the mapping.
        let to = unsafe { self.base.add(at) };
        // SAFETY: so are `data.len()` bytes from there, which nobody reads: the frame is the writer's until it is
        // given to the kernel.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
        true
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: exactly this was mapped, and who could reach it borrowed it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reached_that_is_not_within() {
        let area = Area::anonymous(8192).unwrap();
        assert!(area.at::<u64>(8184, 1).is_some());
        assert!(area.at::<u64>(8184, 2).is_none());
        assert!(area.at::<u64>(8180, 1).is_none());
        assert!(area.at::<u32>(u64::MAX - 3, 2).is_none());
        assert!(area.at::<u64>(0, usize::MAX).is_none());
        assert!(area.bytes(8192, 0).is_some() && area.bytes(8192, 1).is_none());
        assert!(area.bytes(usize::MAX, 2).is_none());
        assert!(area.write(8190, 2, b"ab") && !area.write(8190, 2, b"abc"));
        assert!(!area.write(8190, 3, b"ab") && !area.write(usize::MAX, 2, b"a"));
        assert_eq!(area.bytes(8190, 2), Some(&b"ab"[..]));
    }
}
