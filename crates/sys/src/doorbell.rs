//! A descriptor that somebody who is not trusted gave to be told by: an eventfd, if it is honest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// Whatever it is, to ring it never waits.
    pub fn new(fd: OwnedFd) -> io::Result<Doorbell> {
        crate::process::set_nonblocking(&fd)?;
        Ok(Doorbell(fd))
    }

    /// Tells the other side.
    #[inline]
    pub fn ring(&self) {
        // A failure means that nobody listens, or that much is still to be heard.
        _ = rustix::io::write(self.0.as_fd(), &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_that_nobody_hears_does_not_stop_who_rings() {
        let (read, write) = crate::process::pipe().unwrap();
        let bell = Doorbell::new(write).unwrap();
        for _ in 0..100_000 {
            bell.ring();
        }
        let mut bytes = [0; 8];
        rustix::io::read(&read, &mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 1);
    }
}
