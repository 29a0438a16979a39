//! Descriptors that somebody else owns.

use std::os::fd::{BorrowedFd, RawFd};

/// Views a raw descriptor that its owner keeps open across the call that uses it.
///
/// Only for poll(2) and epoll_ctl(2), where a descriptor that was closed meanwhile is reported as
/// `POLLNVAL` or `EBADF` and harms nothing.
pub fn assume_open(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: descriptors here come from `BorrowedFd`s and are never -1. If the owner has closed
    // one, the kernel reports that; no other operation is done on the result.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
