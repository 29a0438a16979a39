//! TAP devices: an Ethernet device whose other end is this process.
//!
//! The device exists as long as a handle does, unless [`Tap::set_persistent`] says that it stays.
//! With `vnet_hdr` every frame carries a [`VnetHdr`], and `set_offload` tells the
//! host's stack that it may hand over partial checksums and frames of up to 64 KB.
//! The descriptor is always non-blocking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::ifreq::{c_name, ifreq};
use crate::vnet::{VNET_HDR_SIZE, VnetHdr};

const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// How to create a TAP device.
#[derive(Clone, Copy, Debug, Default)]
pub struct TapOptions {
    /// Frames carry a virtio-net header.
    pub vnet_hdr: bool,
    /// Several handles may attach to the same device, a queue each.
    pub multi_queue: bool,
    /// Refuse if the device exists already.
    pub exclusive: bool,
}

/// What the host's stack may leave to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapOffload {
    /// Complete checksums, frames no larger than the MTU.
    None,
    /// Partial checksums, frames no larger than the MTU.
    Csum,
    /// Partial checksums, TCP segmentation.
    CsumTso,
    /// Partial checksums, TCP and UDP segmentation.
    CsumTsoUso,
}

/// One queue of a TAP device.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
    vnet_hdr: bool,
}

impl Tap {
    /// Creates (or attaches to) the TAP device `name` in the thread's network namespace.
    pub fn open(name: &str, options: TapOptions) -> io::Result<Tap> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(c"/dev/net/tun", flags, Mode::empty())?;
        let mut ifr = ifreq(name)?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
        if options.vnet_hdr {
            flags |= libc::IFF_VNET_HDR;
        }
        if options.multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if options.exclusive {
            flags |= libc::IFF_TUN_EXCL;
        }
        ifr.ifr_ifru.ifru_flags = flags as u16 as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut ifr) };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Tap {
            fd,
            name: c_name(&ifr.ifr_name),
            vnet_hdr: options.vnet_hdr,
        })
    }

    /// The device's name, as the kernel chose it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells the host's stack what it may leave undone in frames it sends to us.
    pub fn set_offload(&self, offload: TapOffload) -> io::Result<()> {
        let bits = match offload {
            TapOffload::None => 0,
            TapOffload::Csum => TUN_F_CSUM,
            TapOffload::CsumTso => TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
            TapOffload::CsumTsoUso => {
                TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6
            }
        };
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let rc = unsafe {
            libc::ioctl(
                self.fd.as_raw_fd(),
                libc::TUNSETOFFLOAD as libc::Ioctl,
                bits,
            )
        };
        if rc < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Turns on the most that this kernel grants, and says what that is.
    pub fn set_best_offload(&self) -> TapOffload {
        for o in [
            TapOffload::CsumTsoUso,
            TapOffload::CsumTso,
            TapOffload::Csum,
        ] {
            if self.set_offload(o).is_ok() {
                return o;
            }
        }
        TapOffload::None
    }

    /// Whether the device outlives its handles.
    pub fn set_persistent(&self, on: bool) -> io::Result<()> {
        let v = libc::c_ulong::from(on);
        // SAFETY: TUNSETPERSIST takes its argument by value.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST as libc::Ioctl, v) };
        if rc < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Reads one frame that the host sent into `first`, and what does not fit there into `rest`.
    /// Returns the header (default without `vnet_hdr`) and the length of the frame.
    #[inline]
    pub fn recv(&self, first: &mut [u8], rest: &mut [u8]) -> io::Result<(VnetHdr, usize)> {
        let mut hdr = [0u8; VNET_HDR_SIZE];
        let hdr_size = if self.vnet_hdr { VNET_HDR_SIZE } else { 0 };
        let iov = [
            libc::iovec {
                iov_base: hdr.as_mut_ptr().cast(),
                iov_len: hdr_size,
            },
            libc::iovec {
                iov_base: first.as_mut_ptr().cast(),
                iov_len: first.len(),
            },
            libc::iovec {
                iov_base: rest.as_mut_ptr().cast(),
                iov_len: rest.len(),
            },
        ];
        // SAFETY: the three iovecs describe live, exclusively borrowed memory of these lengths.
        let n = unsafe { libc::readv(self.fd.as_raw_fd(), iov.as_ptr(), 3) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((
            VnetHdr::from_bytes(&hdr),
            (n as usize).saturating_sub(hdr_size),
        ))
    }

    /// Hands one frame to the host. EIO means that the device is down.
    #[inline]
    pub fn send(&self, vnet: VnetHdr, frame: &[u8]) -> io::Result<()> {
        let hdr = vnet.to_bytes();
        let hdr_size = if self.vnet_hdr { VNET_HDR_SIZE } else { 0 };
        let iov = [
            libc::iovec {
                iov_base: hdr.as_ptr().cast_mut().cast(),
                iov_len: hdr_size,
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        // SAFETY: writev only reads the memory that the iovecs describe, which is borrowed.
        let n = unsafe { libc::writev(self.fd.as_raw_fd(), iov.as_ptr(), 2) };
        if n < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fd::{Events, PollEntry, poll};
    use crate::ifreq::{self, IFF_UP};

    /// A tap of that name, whose frames have virtio-net headers, in a namespace of the test's own.
    pub(crate) fn tap(name: &str) -> Tap {
        crate::netns::unshare().unwrap();
        let options = TapOptions {
            vnet_hdr: true,
            ..TapOptions::default()
        };
        Tap::open(name, options).unwrap()
    }

    #[test]
    fn host_frames_arrive_and_ours_are_refused_while_down() {
        let tap = tap("t0");
        assert_eq!(tap.name(), "t0");
        assert_ne!(tap.set_best_offload(), TapOffload::None);
        let frame = [0u8; 60];
        let e = tap.send(VnetHdr::default(), &frame).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EIO));
        ifreq::change_flags("t0", IFF_UP, 0).unwrap();
        tap.send(VnetHdr::default(), &frame).unwrap();
        // Coming up makes the host send router solicitations or multicast reports.
        let (mut a, mut b) = ([0u8; 64], [0u8; 2000]);
        let mut ready = [PollEntry::new(tap.as_fd().as_raw_fd(), Events::IN)];
        let n = poll(&mut ready, Some(std::time::Duration::from_secs(10))).unwrap();
        assert_eq!(n, 1, "no frame from the host");
        let (_, len) = tap.recv(&mut a, &mut b).unwrap();
        assert!(len >= 42);
        let _guard = crate::children::none_starting();
        drop(tap);
        assert_eq!(
            ifreq::ifindex("t0").unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
    }
}
