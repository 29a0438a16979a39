//! An eventfd by which any thread wakes a thread that sleeps in poll(2).
//!
//! Wakes coalesce: any number of [`Waker::wake`] calls before the sleeper drains count as one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// A wake-up that a poll loop can wait for.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// Creates a waker that nobody has woken yet.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { fd })
    }

    /// Wakes the sleeper, or makes its next sleep return at once.
    pub fn wake(&self) {
        // The only error that a valid eventfd can give is EAGAIN, when 2^64 - 2 wakes are pending:
        // then the sleeper is awake already.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Forgets pending wakes. Returns true if there were any.
    pub fn drain(&self) -> bool {
        let mut buf = [0u8; 8];
        rustix::io::read(&self.fd, &mut buf).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_coalesce_and_draining_forgets_them() {
        let w = Waker::new().unwrap();
        assert!(!w.drain());
        w.wake();
        w.wake();
        assert!(w.drain());
        assert!(!w.drain());
    }
}
