//! Hints for the processor's caches.

/// Says that `value` will be read soon.
#[inline]
pub fn read<T>(value: &T) {
    at(std::ptr::from_ref(value).addr());
}

/// Says that what is at an address will be read soon; nothing need be there.
#[inline]
pub fn at(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and of an address where nothing is it is not
        // even an error.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        _ = address;
    }
}

/// Says that what is at an address will be written soon, so that no other core keeps it; nothing need be there.
#[inline]
pub fn for_write(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        // The intrinsic would do the same as for reading, unless the whole program were built for newer processors;
        // on older ones the instruction does nothing.
        // SAFETY: as for reading.
        unsafe {
            core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        _ = address;
    }
}
