//! Interface ioctls: flags, MTU, hardware address and index of a network device.
//!
//! Each call opens its own datagram socket, so that it acts in the network namespace of the
//! calling thread at that moment; a descriptor kept around would stay in the namespace in which
//! it was born. These calls are rare (configuration), so the extra system call does not matter.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `IFF_UP`.
pub const IFF_UP: u32 = libc::IFF_UP as u32;
/// `IFF_PROMISC`.
pub const IFF_PROMISC: u32 = libc::IFF_PROMISC as u32;
/// `IFF_RUNNING`.
pub const IFF_RUNNING: u32 = libc::IFF_RUNNING as u32;
/// `IFF_LOOPBACK`.
pub const IFF_LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
/// `ARPHRD_ETHER`.
pub const ARPHRD_ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`.
pub const ARPHRD_LOOPBACK: u16 = 772;
/// Longest device name, without the terminating zero.
pub const IFNAME_MAX: usize = libc::IFNAMSIZ - 1;

/// A datagram socket for ioctls, in the calling thread's network namespace.
pub(crate) fn control_socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    Ok(socket_with(AddressFamily::INET, kind, flags, None)?)
}

/// An `ifreq` that names `name`, everything else zero.
pub(crate) fn ifreq(name: &str) -> io::Result<libc::ifreq> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if bytes.len() > IFNAME_MAX {
        // No device can have such a name; Open vSwitch says "File name too long".
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    // SAFETY: ifreq is a plain C struct (integers, arrays, a union of these and a pointer); all
    // zero is a valid value of it.
    let mut ifr: libc::ifreq = unsafe { std::mem::zeroed() };
    for (d, s) in ifr.ifr_name.iter_mut().zip(bytes) {
        *d = *s as libc::c_char;
    }
    Ok(ifr)
}

fn ioctl(request: libc::Ioctl, ifr: &mut libc::ifreq) -> io::Result<()> {
    let fd = control_socket()?;
    // SAFETY: every SIOC[GS]IF* request used in this module reads and writes exactly one ifreq,
    // which `ifr` is, for the duration of the call only.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), request, ifr as *mut libc::ifreq) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The device's `IFF_*` flags.
pub fn flags(name: &str) -> io::Result<u32> {
    let mut ifr = ifreq(name)?;
    ioctl(libc::SIOCGIFFLAGS as libc::Ioctl, &mut ifr)?;
    // SAFETY: SIOCGIFFLAGS filled the ifru_flags member of the union.
    Ok(unsafe { ifr.ifr_ifru.ifru_flags } as u16 as u32)
}

/// Turns `on` on and `off` off among the device's flags; does nothing if they are so already.
pub fn change_flags(name: &str, on: u32, off: u32) -> io::Result<()> {
    let old = flags(name)?;
    let new = (old | on) & !off;
    if new == old {
        return Ok(());
    }
    let mut ifr = ifreq(name)?;
    ifr.ifr_ifru.ifru_flags = new as u16 as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS as libc::Ioctl, &mut ifr)
}

/// The device's MTU in bytes.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mut ifr = ifreq(name)?;
    ioctl(libc::SIOCGIFMTU as libc::Ioctl, &mut ifr)?;
    // SAFETY: SIOCGIFMTU filled the ifru_mtu member of the union.
    Ok(unsafe { ifr.ifr_ifru.ifru_mtu } as u32)
}

/// Sets the device's MTU.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut ifr = ifreq(name)?;
    ifr.ifr_ifru.ifru_mtu =
        i32::try_from(mtu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    ioctl(libc::SIOCSIFMTU as libc::Ioctl, &mut ifr)
}

/// The device's hardware type (`ARPHRD_*`) and the first six bytes of its address.
pub fn hwaddr(name: &str) -> io::Result<(u16, [u8; 6])> {
    let mut ifr = ifreq(name)?;
    ioctl(libc::SIOCGIFHWADDR as libc::Ioctl, &mut ifr)?;
    // SAFETY: SIOCGIFHWADDR filled the ifru_hwaddr member of the union.
    let sa = unsafe { ifr.ifr_ifru.ifru_hwaddr };
    let mut mac = [0; 6];
    for (d, s) in mac.iter_mut().zip(sa.sa_data) {
        *d = s as u8;
    }
    Ok((sa.sa_family, mac))
}

/// Sets the Ethernet address of the device.
pub fn set_hwaddr(name: &str, mac: [u8; 6]) -> io::Result<()> {
    let mut ifr = ifreq(name)?;
    // SAFETY: sockaddr is a plain C struct of integers; all zero is valid.
    let mut sa: libc::sockaddr = unsafe { std::mem::zeroed() };
    sa.sa_family = ARPHRD_ETHER;
    for (d, s) in sa.sa_data.iter_mut().zip(mac) {
        *d = s as libc::c_char;
    }
    ifr.ifr_ifru.ifru_hwaddr = sa;
    ioctl(libc::SIOCSIFHWADDR as libc::Ioctl, &mut ifr)
}

/// The device's interface index.
pub fn ifindex(name: &str) -> io::Result<u32> {
    let mut ifr = ifreq(name)?;
    ioctl(libc::SIOCGIFINDEX as libc::Ioctl, &mut ifr)?;
    // SAFETY: SIOCGIFINDEX filled the ifru_ifindex member of the union.
    Ok(unsafe { ifr.ifr_ifru.ifru_ifindex } as u32)
}

/// The name of the device with index `index`.
pub fn ifname(index: u32) -> io::Result<String> {
    // SAFETY: as in `ifreq`: all zero is a valid ifreq.
    let mut ifr: libc::ifreq = unsafe { std::mem::zeroed() };
    ifr.ifr_ifru.ifru_ifindex = index as i32;
    ioctl(libc::SIOCGIFNAME as libc::Ioctl, &mut ifr)?;
    Ok(c_name(&ifr.ifr_name))
}

pub(crate) fn c_name(raw: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = raw
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| *c as u8)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_readable() {
        crate::netns::unshare().unwrap();
        assert_eq!(ifindex("lo").unwrap(), 1);
        assert_eq!(ifname(1).unwrap(), "lo");
        assert_eq!(hwaddr("lo").unwrap().0, ARPHRD_LOOPBACK);
        assert_eq!(mtu("lo").unwrap(), 65536);
        assert_eq!(flags("lo").unwrap() & IFF_UP, 0);
        change_flags("lo", IFF_UP, 0).unwrap();
        assert_ne!(flags("lo").unwrap() & IFF_UP, 0);
    }

    #[test]
    fn absent_and_impossible_names_give_their_errno() {
        assert_eq!(
            flags("nosuchdev0").unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        assert_eq!(flags("").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(
            flags("a-name-that-is-too-long").unwrap_err().raw_os_error(),
            Some(libc::ENAMETOOLONG)
        );
    }
}
