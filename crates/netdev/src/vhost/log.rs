//! Which pages of a guest's memory were written, as a monitor wants to know while it moves the guest to another host: a
//! bit for each, in memory that it shares.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ferrovs_sys::guest::{GuestArea, GuestMemory, GuestSlice, Region};

const PAGE: u64 = 4096;

#[derive(Clone, Debug)]
pub struct Log {
    bits: GuestArea,
}

impl Log {
    /// The bits are so many bytes of a file.
    pub fn map(size: u64, offset: u64, file: OwnedFd) -> io::Result<Log> {
        let region = Region {
            guest: 0,
            size,
            user: 0,
            offset,
        };
        let invalid = || io::Error::from_raw_os_error(22);
        let bytes = usize::try_from(size).map_err(|_| invalid())?;
        let memory = Arc::new(GuestMemory::map([(region, file)])?);
        let bits = memory.area(0, bytes, 1).ok_or_else(invalid)?;
        Ok(Log { bits })
    }

    /// Bytes at one of the guest's addresses were written.
    pub fn mark(&self, address: u64, size: u64) {
        if size == 0 {
            return;
        }
        for page in address / PAGE..=address.saturating_add(size - 1) / PAGE {
            let byte = usize::try_from(page / 8).unwrap_or(usize::MAX);
            self.bits.set_bits(byte, 1 << (page % 8));
        }
    }

    /// The first bytes of what was found in the memory were written.
    pub fn mark_slice(&self, memory: &GuestMemory, slice: GuestSlice<'_>, size: usize) {
        if let Some(address) = memory.address_of(slice) {
            self.mark(address, slice.size().min(size) as u64);
        }
    }
}
