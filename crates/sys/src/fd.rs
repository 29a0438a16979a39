//! poll(2) and epoll_ctl(2) on descriptors by their numbers.
//!
//! Who waits for others knows only the numbers of their descriptors, which may be closed by then. The kernel
//! looks at the numbers itself and says so; nothing else is done with them here, so that no borrow of a closed
//! descriptor leaves this module.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

bitflags::bitflags! {
    /// What to wait for, and what happened.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Events: i16 {
        /// Something can be read.
        const IN = libc::POLLIN;
        /// Something can be written.
        const OUT = libc::POLLOUT;
        /// An error, always waited for.
        const ERR = libc::POLLERR;
        /// The other end is gone, always waited for.
        const HUP = libc::POLLHUP;
        /// The descriptor is not open, always noticed.
        const NVAL = libc::POLLNVAL;
        const _ = !0;
    }
}

/// A descriptor by its number, what is waited for on it, and what happened.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PollEntry(libc::pollfd);

impl PollEntry {
    /// Nothing has happened yet. The number may be of a descriptor that is no longer open: that shows as
    /// [`Events::NVAL`], or, if another was opened under it, as that one's events.
    pub fn new(fd: RawFd, events: Events) -> PollEntry {
        PollEntry(libc::pollfd {
            fd,
            events: events.bits(),
            revents: 0,
        })
    }

    /// What happened, according to the last [`poll`].
    pub fn revents(&self) -> Events {
        Events::from_bits_retain(self.0.revents)
    }
}

/// Waits until something happens on one of `entries`, at most for `timeout`, rounded up to milliseconds; None
/// waits forever. Returns on how many something happened.
pub fn poll(entries: &mut [PollEntry], timeout: Option<Duration>) -> io::Result<usize> {
    // A timer that is early by a fraction only spins.
    let ms = timeout.map_or(-1, |t| {
        let ms = t.as_millis() + u128::from(t.subsec_nanos() % 1_000_000 != 0);
        libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: `PollEntry` is a `pollfd` in memory; the kernel reads and writes as many as are said, and looks
    // at no other memory. It checks the numbers of the descriptors itself.
    let n = unsafe {
        libc::poll(
            entries.as_mut_ptr().cast::<libc::pollfd>(),
            entries.len() as libc::nfds_t,
            ms,
        )
    };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(n as usize)
}

/// Has `epoll` report `events` on `fd` with `data`, in place of what it reported on it before.
pub fn epoll_set(epoll: impl AsFd, fd: RawFd, data: u64, events: Events) -> io::Result<()> {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, events.contains(Events::IN));
    flags.set(EventFlags::OUT, events.contains(Events::OUT));
    let data = EventData::new_u64(data);
    with_number(fd, |fd| match epoll::modify(&epoll, fd, data, flags) {
        Err(Errno::NOENT) => epoll::add(&epoll, fd, data, flags),
        other => other,
    })
}

/// Has `epoll` report nothing more on `fd`.
pub fn epoll_delete(epoll: impl AsFd, fd: RawFd) -> io::Result<()> {
    with_number(fd, |fd| epoll::delete(&epoll, fd))
}

/// Calls epoll_ctl(2) with a number that may be of no open descriptor.
fn with_number(fd: RawFd, f: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<()>) -> io::Result<()> {
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the number is not -1, and the borrow ends with `f`, which does nothing with it but pass it to
    // epoll_ctl(2); that answers EBADF for a number of nothing.
    Ok(f(unsafe { BorrowedFd::borrow_raw(fd) })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_closed_descriptor_is_reported_and_harms_nothing() {
        let (read, write) = crate::process::pipe().unwrap();
        let mut entries = [
            PollEntry::new(read.as_raw_fd(), Events::IN),
            PollEntry::new(write.as_raw_fd(), Events::OUT),
            // No process has so many.
            PollEntry::new(RawFd::MAX, Events::IN),
        ];
        assert_eq!(poll(&mut entries, None).unwrap(), 2);
        let got = entries.map(|e| e.revents());
        assert_eq!(got, [Events::empty(), Events::OUT, Events::NVAL]);
        let nothing = poll(&mut entries[..1], Some(Duration::from_nanos(1))).unwrap();
        assert_eq!(nothing, 0);
    }
    #[test]
    fn epoll_takes_numbers_and_refuses_those_of_nothing() {
        let (read, _write) = crate::process::pipe().unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for events in [Events::IN, Events::OUT] {
            epoll_set(&epoll, read.as_raw_fd(), 7, events).unwrap();
        }
        epoll_delete(&epoll, read.as_raw_fd()).unwrap();
        assert!(epoll_delete(&epoll, read.as_raw_fd()).is_err());
        for nothing in [-1, RawFd::MAX] {
            let e = epoll_set(&epoll, nothing, 7, Events::IN).unwrap_err();
            assert_eq!(e.raw_os_error(), Some(libc::EBADF));
        }
    }
}
