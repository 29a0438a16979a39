//! AF_XDP sockets: the frames of one receive queue of a device, as an XDP program hands them over, and frames that
//! are put on the device's wire, without a system call for each.
//!
//! ```text
//!   umem    | 0 | 1 | ... frames to receive into ... | n | n + 1 | ... frames to send from ... |
//!
//!   XskRx   fill ring   --- empty frames --->  kernel      XskTx   tx ring          --- frames to send --->  kernel
//!           rx ring     <-- full frames ----                       completion ring  <-- frames sent -------
//! ```
//!
//! Frames have half of the memory each way, so that whoever receives and whoever sends have nothing in common but the
//! socket, and may be different threads.
//!
//! Invariant: a frame is in one place at a time, in a ring or here. What the kernel says of frames is checked: one that
//! does not lie in its half of the memory is not touched.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::prefetch;

mod area;
mod ring;

use area::Area;
use ring::{Desc, Ring};

/// Room for a frame in the memory that is shared with the kernel.
pub const FRAME_SIZE: usize = 4096;
/// What the kernel keeps free in front of a received frame.
const XDP_PACKET_HEADROOM: usize = 256;
/// The longest frame that is received.
pub const MAX_FRAME: usize = FRAME_SIZE - XDP_PACKET_HEADROOM;
/// Frames that may wait in either direction; a power of 2.
const FRAMES: u32 = 2048;

/// What to open.
#[derive(Clone, Copy, Debug)]
pub struct XskConfig {
    /// The device, of the thread's network namespace.
    pub ifindex: u32,
    pub queue: u32,
    /// The device itself moves frames into and out of the memory. Without, the kernel copies them.
    pub zero_copy: bool,
    /// The kernel says when it wants to be woken up, and sleeps otherwise.
    pub need_wakeup: bool,
}

/// Counters of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XskStatistics {
    /// Frames that the kernel could not hand over, other than for the reasons below.
    pub rx_dropped: u64,
    pub rx_invalid_descs: u64,
    pub tx_invalid_descs: u64,
    pub rx_ring_full: u64,
}

/// A socket that is bound to a queue. It is closed when its halves are gone, too.
#[derive(Clone, Debug)]
pub struct Xsk(Arc<Socket>);

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    umem: Area,
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

fn set_opt<T>(fd: &OwnedFd, opt: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: setsockopt reads `size_of::<T>()` bytes of `value`.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            opt,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// # Safety
///
/// Any bytes are a value of `T`.
unsafe fn opt<T>(fd: &OwnedFd, opt: libc::c_int) -> io::Result<T> {
    // SAFETY: all zero is a value, as the caller says.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `len` bytes into `value`.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            opt,
            std::ptr::from_mut(&mut value).cast(),
            &mut len,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<T>() {
        // A kernel before 5.4 knows less.
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    Ok(value)
}

/// Binds to a queue. Frames come when a program hands them over; frames can be sent at once.
pub fn open(config: &XskConfig) -> io::Result<(Xsk, XskRx, XskTx)> {
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::XDP, SocketType::RAW, flags, None)?;
    // Frames that are on their way are charged to the socket, several times their size.
    let sndbuf: libc::c_int = 64 << 20;
    set_send_buffer(&fd, sndbuf);
    let umem = Area::anonymous(2 * FRAMES as usize * FRAME_SIZE)?;
    register(&fd, &umem)?;
    for ring in [
        libc::XDP_UMEM_FILL_RING,
        libc::XDP_UMEM_COMPLETION_RING,
        libc::XDP_RX_RING,
        libc::XDP_TX_RING,
    ] {
        set_opt(&fd, ring, &FRAMES)?;
    }
    // SAFETY: the struct is of integers alone.
    let offsets: libc::xdp_mmap_offsets = unsafe { opt(&fd, libc::XDP_MMAP_OFFSETS) }?;
    let page = |offset: libc::c_ulonglong| offset as libc::off_t;
    let mut fill = Ring::<u64>::map(
        &fd,
        page(libc::XDP_UMEM_PGOFF_FILL_RING),
        &offsets.fr,
        FRAMES,
    )?;
    let completion = Ring::<u64>::map(
        &fd,
        page(libc::XDP_UMEM_PGOFF_COMPLETION_RING),
        &offsets.cr,
        FRAMES,
    )?;
    let rx = Ring::<Desc>::map(&fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, FRAMES)?;
    let tx = Ring::<Desc>::map(&fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, FRAMES)?;
    for frame in 0..FRAMES {
        fill.put(frame_at(frame));
    }
    fill.publish();
    bind(&fd, config)?;
    let socket = Xsk(Arc::new(Socket { fd, umem }));
    let rx = XskRx {
        socket: socket.clone(),
        rx,
        fill,
        invalid: 0,
    };
    let tx = XskTx {
        socket: socket.clone(),
        tx,
        completion,
        // The first to be taken is the last.
        free: (FRAMES..2 * FRAMES).rev().collect(),
        need_wakeup: config.need_wakeup,
    };
    Ok((socket, rx, tx))
}

fn set_send_buffer(fd: &OwnedFd, size: libc::c_int) {
    // SAFETY: setsockopt reads one int. A failure leaves the default, with which fewer frames may be on their way.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            std::ptr::from_ref(&size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

fn register(fd: &OwnedFd, umem: &Area) -> io::Result<()> {
    let region = libc::xdp_umem_reg {
        addr: umem.base().addr().get() as u64,
        len: umem.size() as u64,
        chunk_size: FRAME_SIZE as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_opt(fd, libc::XDP_UMEM_REG, &region)
}

fn bind(fd: &OwnedFd, config: &XskConfig) -> io::Result<()> {
    let mut flags = match config.zero_copy {
        true => libc::XDP_ZEROCOPY,
        false => libc::XDP_COPY,
    };
    if config.need_wakeup {
        flags |= libc::XDP_USE_NEED_WAKEUP;
    }
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: config.ifindex,
        sxdp_queue_id: config.queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: bind reads `size_of::<sockaddr_xdp>()` bytes of `address`.
    let rc = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Where a frame of the memory begins.
fn frame_at(frame: u32) -> u64 {
    u64::from(frame) * FRAME_SIZE as u64
}

impl Xsk {
    pub fn statistics(&self) -> io::Result<XskStatistics> {
        // SAFETY: the struct is of integers alone.
        let s: libc::xdp_statistics = unsafe { opt(&self.0.fd, libc::XDP_STATISTICS) }?;
        Ok(XskStatistics {
            rx_dropped: s.rx_dropped,
            rx_invalid_descs: s.rx_invalid_descs,
            tx_invalid_descs: s.tx_invalid_descs,
            rx_ring_full: s.rx_ring_full,
        })
    }
}

/// The receiving half of a socket.
#[derive(Debug)]
pub struct XskRx {
    // Declared before the socket: unmapped first.
    rx: Ring<Desc>,
    fill: Ring<u64>,
    socket: Xsk,
    /// What the kernel handed over and is no frame of ours.
    invalid: u64,
}

impl XskRx {
    /// Shows up to `max` frames that have come to `take`, each once, and gives them back.
    #[inline]
    pub fn recv(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> usize {
        let n = self.rx.waiting().min(max as u32);
        if n == 0 {
            self.wake();
            return 0;
        }
        let umem = &self.socket.0.umem;
        for i in 0..n {
            if let Some(data) = frame(umem, &self.rx.peek(i)) {
                prefetch::at(data.as_ptr().addr());
            }
        }
        let mut taken = 0;
        for i in 0..n {
            let desc = self.rx.peek(i);
            match frame(umem, &desc) {
                Some(data) => {
                    take(data);
                    taken += 1;
                    let at = desc.addr - desc.addr % FRAME_SIZE as u64;
                    self.fill.put(at);
                }
                None => self.invalid += 1,
            }
        }
        self.rx.release(n);
        self.fill.publish();
        taken
    }

    /// Tells the kernel that there are empty frames, if it has run out of them.
    fn wake(&self) {
        if self.fill.wants_wakeup() {
            // SAFETY: recvfrom with no buffer takes nothing and writes nothing.
            unsafe {
                libc::recvfrom(
                    self.socket.0.fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        }
    }

    /// Frames that the kernel described wrongly.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }
}

/// The bytes of a received frame; None if it is not one of those to receive into.
#[inline]
fn frame<'a>(umem: &'a Area, desc: &Desc) -> Option<&'a [u8]> {
    let at = usize::try_from(desc.addr).ok()?;
    let size = desc.len as usize;
    let in_frame = at % FRAME_SIZE + size <= FRAME_SIZE;
    if !in_frame || at >= FRAMES as usize * FRAME_SIZE {
        return None;
    }
    umem.bytes(at, size)
}

/// The sending half of a socket.
#[derive(Debug)]
pub struct XskTx {
    // Declared before the socket: unmapped first.
    tx: Ring<Desc>,
    completion: Ring<u64>,
    socket: Xsk,
    /// Frames that wait for nothing, by number.
    free: Vec<u32>,
    need_wakeup: bool,
}

impl XskTx {
    /// Puts a frame among those to send; false if there is no room. [`XskTx::flush`] sends them.
    #[inline]
    pub fn put(&mut self, data: &[u8]) -> bool {
        if self.free.is_empty() {
            self.reap();
        }
        let Some(number) = self.free.pop() else {
            return false;
        };
        let addr = frame_at(number);
        let written = self.socket.0.umem.write(addr as usize, FRAME_SIZE, data);
        let desc = Desc {
            addr,
            len: data.len() as u32,
            options: 0,
        };
        if !written || !self.tx.put(desc) {
            self.free.push(number);
            return false;
        }
        true
    }

    /// Takes back the frames that were sent.
    #[inline]
    fn reap(&mut self) {
        let n = self.completion.waiting();
        for i in 0..n {
            let number = self.completion.peek(i) / FRAME_SIZE as u64;
            let ours = u64::from(FRAMES)..u64::from(2 * FRAMES);
            if ours.contains(&number) && self.free.len() < FRAMES as usize {
                self.free.push(number as u32);
            }
        }
        self.completion.release(n);
    }

    /// Has the kernel send what was put.
    pub fn flush(&mut self) -> io::Result<()> {
        self.tx.publish();
        // Each call sends some; more are worth it as long as they do.
        let mut left = self.tx.left();
        while left > 0 && (!self.need_wakeup || self.tx.wants_wakeup()) {
            let sent = self.kick();
            let now = self.tx.left();
            match sent {
                Err(e) if !is_busy(&e) => return Err(e),
                _ if now >= left => break,
                _ => left = now,
            }
        }
        self.reap();
        Ok(())
    }

    /// Whether some of what was put is still to be sent.
    pub fn is_behind(&mut self) -> bool {
        self.tx.left() > 0
    }

    fn kick(&self) -> io::Result<()> {
        // SAFETY: sendto without a buffer reads nothing; it has the kernel look at the ring.
        let rc = unsafe {
            libc::sendto(
                self.socket.0.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Whether the kernel could not send all at once.
fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{Hook, Program, XdpLink, XskMap};
    use crate::ifreq;

    /// A namespace of the test's own with the veth pair a0 - b0, both up.
    fn veth() {
        crate::netns::unshare().unwrap();
        let script = "ip link add a0 type veth peer name b0
            sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set a0 up; ip link set b0 up";
        assert!(crate::children::sh(script).unwrap().success());
    }

    fn config(name: &str) -> XskConfig {
        XskConfig {
            ifindex: ifreq::ifindex(name).unwrap(),
            queue: 0,
            zero_copy: false,
            need_wakeup: true,
        }
    }

    #[test]
    fn frames_cross_a_pair_of_devices_each_once_and_in_order() {
        veth();
        for hook in [Hook::Native, Hook::Generic] {
            let (_, _, mut tx) = open(&config("a0")).unwrap();
            let (socket, mut rx, _) = open(&config("b0")).unwrap();
            let map = XskMap::new(1).unwrap();
            map.set(0, &socket).unwrap();
            let program = Program::redirect(&map).unwrap();
            let link = XdpLink::attach(&program, config("b0").ifindex, hook).unwrap();
            // More often than there are frames, so that each is used again.
            let (mut sent, mut got) = (0u32, 0u32);
            let mut patience = 0;
            while got < 3 * FRAMES {
                for _ in 0..16 {
                    let mut data = [0xff; 100];
                    data[14..18].copy_from_slice(&sent.to_ne_bytes());
                    if sent < 3 * FRAMES && tx.put(&data) {
                        sent += 1;
                    }
                }
                tx.flush().unwrap();
                let n = rx.recv(32, |data| {
                    assert_eq!(data.len(), 100);
                    assert_eq!(data[14..18], got.to_ne_bytes(), "{hook:?}");
                    got += 1;
                });
                patience = if n == 0 { patience + 1 } else { 0 };
                assert!(patience < 1_000_000, "{sent} {got}");
            }
            assert_eq!((rx.recv(32, |_| {}), rx.invalid()), (0, 0));
            assert_eq!(socket.statistics().unwrap(), XskStatistics::default());
            drop((link, tx, rx, socket));
            // The kernel lets go of a queue a little later.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    }

    #[test]
    fn what_is_no_frame_to_receive_into_is_not_shown() {
        let umem = Area::anonymous(2 * FRAMES as usize * FRAME_SIZE).unwrap();
        let half = frame_at(FRAMES);
        for (addr, len, shown) in [
            (256, 100, true),
            (half - FRAME_SIZE as u64 + 256, MAX_FRAME as u32, true),
            (256, MAX_FRAME as u32 + 1, false),
            (0, u32::MAX, false),
            (half, 60, false),
            (u64::MAX, 1, false),
            (u64::MAX - 10, u32::MAX, false),
        ] {
            let desc = Desc {
                addr,
                len,
                options: 0,
            };
            assert_eq!(frame(&umem, &desc).is_some(), shown, "{addr} {len}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_or_finds_no_room_is_not_taken() {
        veth();
        let (_, _, mut tx) = open(&config("a0")).unwrap();
        assert!(!tx.put(&[0; FRAME_SIZE + 1]));
        let put = (0..2 * FRAMES).filter(|_| tx.put(&[0xff; 60])).count();
        assert_eq!(put, FRAMES as usize);
        tx.flush().unwrap();
        assert!(!tx.is_behind());
        let zero_copy = XskConfig {
            zero_copy: true,
            ..config("b0")
        };
        let refused = open(&zero_copy).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
        let no_queue = XskConfig {
            queue: 77,
            ..config("b0")
        };
        let refused = open(&no_queue).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
