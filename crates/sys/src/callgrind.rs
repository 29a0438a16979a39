//! A word to valgrind's callgrind, which counts the instructions of benches. Outside of it nothing happens.

/// Lets the calling thread's instructions count from here on, or no longer.
#[inline(never)]
pub fn toggle_collect() {
    #[cfg(target_arch = "x86_64")]
    {
        /// `VG_USERREQ__TOGGLE_COLLECT`: the tool's initials, then the number of the request.
        const TOGGLE_COLLECT: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16 | 2;
        let request = [TOGGLE_COLLECT, 0, 0, 0, 0, 0];
        // SAFETY: this is how valgrind is addressed (its manual, "The Client Request mechanism"): a processor takes
        // the rotations by 128 bits in all and the exchange of a register with itself for nothing. Valgrind reads
        // the request that rax points to, which lives until the end of this block, and answers in rdx.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3",
                "rol rdi, 13",
                "rol rdi, 61",
                "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") request.as_ptr(),
                inout("rdx") 0u64 => _,
                options(nostack),
            );
        }
    }
}
