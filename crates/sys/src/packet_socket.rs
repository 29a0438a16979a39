//! AF_PACKET sockets: every frame that enters a device, and frames put on its wire.
//!
//! Receiving and sending use two sockets, so that they never contend for one socket lock, and each
//! thread that sends has its own.
//!
//! [`PacketRx`] maps a TPACKET_V2 ring of 2 KB slots: small frames cost no system call, only a
//! look at the slot's status word. A frame that does not fit its slot (a 64 KB GSO frame) is
//! announced in the ring and waits whole in the socket's queue (`PACKET_COPY_THRESH`), from where
//! [`PacketRx::recv_large`] fetches it straight into the caller's buffer: one system call for
//! some 45 wire packets.
//!
//! Both carry the virtio-net header ([`VnetHdr`]), so partial checksums and GSO pass through.
//! VLAN tags that the kernel keeps beside the frame are reported in [`RxMeta::vlan`]. Frames that
//! this host sends (PACKET_OUTGOING) are never seen.

use std::cell::RefCell;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::vnet::{VNET_HDR_SIZE, VnetHdr};

mod ring;

use ring::{Ring, SLOT_SIZE, Slots};
pub use ring::{RxMeta, Slot};

const BLOCK_SIZE: usize = 64 * 1024;
const SLOTS_PER_BLOCK: usize = BLOCK_SIZE / SLOT_SIZE;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// Most frames that one system call hands over.
const TX_BATCH: usize = 32;

fn packet_socket(ifindex: u32, protocol: u16) -> io::Result<OwnedFd> {
    // Without a protocol nothing is received before bind says what.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_packet_opt(&fd, libc::PACKET_VNET_HDR, 1)?;
    if protocol == 0 {
        bind(&fd, ifindex, 0)?;
    }
    Ok(fd)
}

fn bind(fd: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is a plain C struct of integers; all zero is valid.
    let mut sll: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    sll.sll_family = libc::AF_PACKET as u16;
    sll.sll_protocol = protocol.to_be();
    sll.sll_ifindex = ifindex as i32;
    // SAFETY: bind reads `size_of::<sockaddr_ll>()` bytes of `sll`.
    let rc = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&sll).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_opt<T>(fd: &OwnedFd, level: libc::c_int, opt: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: setsockopt reads `size_of::<T>()` bytes of `value`.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            opt,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_packet_opt(fd: &OwnedFd, opt: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_opt(fd, libc::SOL_PACKET, opt, &value)
}

fn pending_error(fd: &OwnedFd) -> io::Result<()> {
    let mut e: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: SO_ERROR writes one int into `e`.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            std::ptr::from_mut(&mut e).cast(),
            &mut len,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else if e != 0 {
        Err(io::Error::from_raw_os_error(e))
    } else {
        Ok(())
    }
}

fn take_drops(fd: &OwnedFd) -> u64 {
    // SAFETY: tpacket_stats is a plain C struct of integers.
    let mut st: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: PACKET_STATISTICS writes at most `len` bytes into `st`.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            std::ptr::from_mut(&mut st).cast(),
            &mut len,
        )
    };
    if rc < 0 { 0 } else { st.tp_drops.into() }
}

/// Moves a socket to another device, or to the device that came back under another index.
#[derive(Debug)]
pub struct Binder {
    fd: OwnedFd,
    protocol: u16,
    cookie: u64,
}

impl Binder {
    /// Binds the socket to device `ifindex`; a pending "network is down" is forgotten.
    pub fn bind(&self, ifindex: u32) -> io::Result<()> {
        let _ = pending_error(&self.fd);
        bind(&self.fd, ifindex, self.protocol)
    }

    /// Whether this moves the socket of `rx`.
    pub fn is_of(&self, rx: &PacketRx) -> bool {
        self.cookie == rx.cookie
    }

    /// Whether this moves the socket of `tx`.
    pub fn is_of_tx(&self, tx: &PacketTx) -> bool {
        self.cookie == tx.cookie
    }

    /// Frames that the kernel could not store since the last call (receiving sockets).
    pub fn take_drops(&self) -> u64 {
        take_drops(&self.fd)
    }
}

/// Tells sockets of this process apart.
fn next_cookie() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The slots of a [`PacketRx`], which the kernel fills.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    slots: usize,
}

// SAFETY: the mapping belongs to the value alone and is reached only through `&self`; a mapping may be used from any
// thread.
unsafe impl Send for Mapping {}

// SAFETY: mapped memory begins with a page and is zero at first; it is there until the value is dropped, and the kernel
// keeps to the statuses.
unsafe impl Slots for Mapping {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    #[inline]
    fn count(&self) -> usize {
        self.slots
    }
}

impl Mapping {
    /// Maps the ring of a socket that has one, of so many slots.
    fn new(fd: &OwnedFd, slots: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh shared mapping of the ring at an address of the kernel's choice.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slots * SLOT_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(p.cast()) {
            Some(base) if p != libc::MAP_FAILED => Ok(Mapping { base, slots }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` came from mmap with exactly this length and is not used afterwards.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.slots * SLOT_SIZE) };
    }
}

/// Receives every frame that enters one device.
#[derive(Debug)]
pub struct PacketRx {
    // Declared before `fd`: unmapped first.
    ring: Ring<Mapping>,
    fd: OwnedFd,
    cookie: u64,
}

impl PacketRx {
    /// Starts to receive from device `ifindex` through a ring of about `slots` slots.
    pub fn open(ifindex: u32, slots: usize) -> io::Result<PacketRx> {
        let fd = packet_socket(ifindex, libc::ETH_P_ALL as u16)?;
        set_packet_opt(
            &fd,
            libc::PACKET_VERSION,
            libc::tpacket_versions::TPACKET_V2 as i32,
        )?;
        // Older kernels lack it; there the slot's sll_pkttype would have to be looked at.
        set_packet_opt(&fd, PACKET_IGNORE_OUTGOING, 1)?;
        // How many bytes of large frames may wait. Failing is harmless: the default stays.
        let rcvbuf: libc::c_int = 8 << 20;
        let _ = set_opt(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &rcvbuf);
        set_packet_opt(&fd, libc::PACKET_COPY_THRESH, 1)?;
        let blocks = slots.div_ceil(SLOTS_PER_BLOCK).max(1);
        let slots = blocks * SLOTS_PER_BLOCK;
        let req = libc::tpacket_req {
            tp_block_size: BLOCK_SIZE as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: SLOT_SIZE as u32,
            tp_frame_nr: slots as u32,
        };
        set_opt(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &req)?;
        let ring = Ring::new(Mapping::new(&fd, slots)?);
        bind(&fd, ifindex, libc::ETH_P_ALL as u16)?;
        Ok(PacketRx {
            ring,
            fd,
            cookie: next_cookie(),
        })
    }

    /// Looks at the next frame without consuming it. Call [`PacketRx::release`] afterwards unless
    /// it is `Empty`.
    #[inline]
    pub fn peek(&mut self) -> Slot<'_> {
        self.ring.peek()
    }

    /// Gives the slot that `peek` showed back to the kernel.
    #[inline]
    pub fn release(&mut self) {
        self.ring.release();
    }

    /// Fetches the frame that `peek` announced as [`Slot::Large`]. Returns its length, which is
    /// more than `buf` holds if it was cut off.
    pub fn recv_large(&mut self, buf: &mut [u8]) -> io::Result<(VnetHdr, usize)> {
        let mut hdr = [0u8; VNET_HDR_SIZE];
        let mut iov = [
            libc::iovec {
                iov_base: hdr.as_mut_ptr().cast(),
                iov_len: VNET_HDR_SIZE,
            },
            libc::iovec {
                iov_base: buf.as_mut_ptr().cast(),
                iov_len: buf.len(),
            },
        ];
        // SAFETY: msghdr is a plain C struct; all zero is a valid, empty one.
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_iov = iov.as_mut_ptr();
        msg.msg_iovlen = iov.len();
        // SAFETY: `msg` refers to iovecs over live, exclusively borrowed memory.
        let n = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut msg, libc::MSG_TRUNC) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((
            VnetHdr::from_bytes(&hdr),
            (n as usize).saturating_sub(VNET_HDR_SIZE),
        ))
    }

    /// Frames that the kernel could not store since the last call.
    pub fn take_drops(&self) -> u64 {
        take_drops(&self.fd)
    }

    /// The error that the socket reports (ENETDOWN when the device went down or away).
    pub fn take_error(&self) -> io::Result<()> {
        pending_error(&self.fd)
    }

    /// A handle that moves the socket to another device while someone else receives from it.
    pub fn binder(&self) -> io::Result<Binder> {
        Ok(Binder {
            fd: self.fd.try_clone()?,
            protocol: libc::ETH_P_ALL as u16,
            cookie: self.cookie,
        })
    }

    /// Drops every frame that waits. Returns how many.
    pub fn drain(&mut self) -> usize {
        let mut n = 0;
        // Bounded: the kernel may refill as fast as we empty.
        while n < 2 * self.ring.slots() {
            match self.peek() {
                Slot::Empty => break,
                Slot::Large(_) => {
                    let _ = self.recv_large(&mut []);
                }
                Slot::Frame(..) | Slot::Truncated => {}
            }
            self.release();
            n += 1;
        }
        n
    }
}

impl AsFd for PacketRx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One frame to send.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// Checksum and segmentation left to the kernel.
    pub vnet: VnetHdr,
    /// The frame from its Ethernet header on.
    pub data: &'a [u8],
}

/// Puts frames on the wire of one device.
#[derive(Debug)]
pub struct PacketTx {
    fd: OwnedFd,
    cookie: u64,
}

impl PacketTx {
    /// A sender for device `ifindex`.
    pub fn open(ifindex: u32) -> io::Result<PacketTx> {
        let fd = packet_socket(ifindex, 0)?;
        // A full 64 KB frame charges over 100 KB; the default would block after two.
        let sndbuf: libc::c_int = 8 << 20;
        let _ = set_opt(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &sndbuf);
        let cookie = next_cookie();
        Ok(PacketTx { fd, cookie })
    }

    /// A handle that moves the socket to another device.
    pub fn binder(&self) -> io::Result<Binder> {
        Ok(Binder {
            fd: self.fd.try_clone()?,
            protocol: 0,
            cookie: self.cookie,
        })
    }

    /// Sends all `frames`, in order; those that the kernel refuses are dropped, and it is told why.
    pub fn send<'a>(
        &mut self,
        frames: impl IntoIterator<Item = TxFrame<'a>>,
        mut refused: impl FnMut(io::Error),
    ) {
        let mut frames = frames.into_iter();
        MESSAGES.with_borrow_mut(|m| {
            loop {
                let n = m.fill(&mut frames);
                self.send_messages(m, n, &mut refused);
                if n < TX_BATCH {
                    return;
                }
            }
        });
    }

    /// Sends the first `n` messages.
    fn send_messages(&self, m: &mut Messages, n: usize, refused: &mut impl FnMut(io::Error)) {
        let mut done = 0;
        while done < n {
            let rest = &mut m.msgs[done..n];
            // SAFETY: `fill` has made the messages refer to iovecs and headers of `m`, which
            // nobody touches meanwhile, and to frames that are borrowed until `send` returns; the
            // kernel only reads them.
            let rc = unsafe {
                libc::sendmmsg(
                    self.fd.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            if rc > 0 {
                done += rc as usize;
                continue;
            }
            let e = io::Error::last_os_error();
            if e.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // The first of the rest was refused: drop it and go on with the others.
            done += 1;
            refused(e);
        }
    }
}

/// What sendmmsg(2) reads; kept by each thread, because it takes kilobytes that are not worth
/// clearing for each batch.
struct Messages {
    hdrs: [[u8; VNET_HDR_SIZE]; TX_BATCH],
    iovs: [[libc::iovec; 2]; TX_BATCH],
    msgs: [libc::mmsghdr; TX_BATCH],
}

thread_local! {
    static MESSAGES: RefCell<Box<Messages>> = RefCell::new(Messages::new());
}

impl Messages {
    fn new() -> Box<Messages> {
        // SAFETY: bytes, iovec and mmsghdr are plain C data; all zero is valid (and empty).
        unsafe { Box::new(std::mem::zeroed()) }
    }

    /// Makes messages of the next frames, as many as there is room for; says how many.
    #[inline]
    fn fill<'a>(&mut self, frames: &mut impl Iterator<Item = TxFrame<'a>>) -> usize {
        let parts = self.hdrs.iter_mut().zip(&mut self.iovs).zip(&mut self.msgs);
        let mut n = 0;
        for (((hdr, iov), msg), f) in parts.zip(frames) {
            *hdr = f.vnet.to_bytes();
            iov[0].iov_base = hdr.as_mut_ptr().cast();
            iov[0].iov_len = VNET_HDR_SIZE;
            iov[1].iov_base = f.data.as_ptr().cast_mut().cast();
            iov[1].iov_len = f.data.len();
            msg.msg_hdr.msg_iov = iov.as_mut_ptr();
            msg.msg_hdr.msg_iovlen = 2;
            n += 1;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fd::{Events, PollEntry, poll};
    use crate::ifreq::{self, IFF_UP};
    use crate::tap::tests::tap;
    use crate::tap::{Tap, TapOptions};

    fn frame(len: usize) -> Vec<u8> {
        let mut f = vec![0u8; len];
        f[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
        f[12..14].copy_from_slice(&[0x88, 0xb5]);
        f[len - 1] = 0x5a;
        f
    }

    /// The next frame of our test Ethertype (0x88b5), skipping the host's own chatter.
    fn next(rx: &mut PacketRx) -> (RxMeta, Vec<u8>) {
        loop {
            let got = match rx.peek() {
                Slot::Empty => {
                    let mut ready = [PollEntry::new(rx.as_fd().as_raw_fd(), Events::IN)];
                    let n = poll(&mut ready, Some(Duration::from_secs(10))).unwrap();
                    assert_eq!(n, 1, "no frame");
                    continue;
                }
                Slot::Frame(m, d) => (m, d.to_vec()),
                Slot::Large(m) => {
                    let mut buf = vec![0; m.len];
                    let (_, n) = rx.recv_large(&mut buf).unwrap();
                    assert_eq!(n, m.len);
                    (m, buf)
                }
                Slot::Truncated => panic!("truncated"),
            };
            rx.release();
            if got.1[12..14] == [0x88, 0xb5] {
                return got;
            }
        }
    }

    #[test]
    fn frames_of_every_size_arrive_whole_and_in_order() {
        let tap = tap("t0");
        ifreq::set_mtu("t0", 65000).unwrap();
        ifreq::change_flags("t0", IFF_UP, 0).unwrap();
        let mut rx = PacketRx::open(ifreq::ifindex("t0").unwrap(), 64).unwrap();
        let sizes = [60, 1972, 1973, 9000, 60, 64000];
        for s in sizes {
            tap.send(VnetHdr::default(), &frame(s)).unwrap();
        }
        for s in sizes {
            let (m, d) = next(&mut rx);
            assert_eq!((m.len, d.len(), d[s - 1]), (s, s, 0x5a));
        }
        // More frames than slots: the rest is counted.
        for _ in 0..100 {
            tap.send(VnetHdr::default(), &frame(60)).unwrap();
        }
        assert!(rx.take_drops() >= 36);
        assert!(rx.drain() >= 32);
        assert!(matches!(rx.peek(), Slot::Empty));
    }

    #[test]
    fn a_vlan_tag_is_reported_and_sent_frames_are_not_received() {
        let tap = tap("t0");
        ifreq::change_flags("t0", IFF_UP, 0).unwrap();
        let ifindex = ifreq::ifindex("t0").unwrap();
        let mut rx = PacketRx::open(ifindex, 64).unwrap();
        let mut tx = PacketTx::open(ifindex).unwrap();
        let f = frame(60);
        let one = TxFrame {
            vnet: VnetHdr::default(),
            data: &f,
        };
        tx.send([one; 100], |error| panic!("{error}"));
        let mut tagged = frame(64);
        tagged.copy_within(12..60, 16);
        tagged[12..16].copy_from_slice(&[0x81, 0x00, 0x20, 0x2a]);
        tap.send(VnetHdr::default(), &tagged).unwrap();
        let (m, d) = next(&mut rx);
        assert_eq!(m.vlan, Some((0x8100, 0x202a)));
        assert_eq!(d.len(), 60);
        // The tap's end sees what was sent.
        let (mut a, mut b) = ([0u8; 128], [0u8; 2000]);
        let mut seen = 0;
        while let Ok((_, n)) = tap.recv(&mut a, &mut b) {
            seen += usize::from(n == 60 && a[12..14] == [0x88, 0xb5]);
        }
        assert_eq!(seen, 100);
    }

    #[test]
    fn a_device_that_goes_away_is_reported() {
        crate::netns::unshare().unwrap();
        let tap = Tap::open("t0", TapOptions::default()).unwrap();
        ifreq::change_flags("t0", IFF_UP, 0).unwrap();
        let ifindex = ifreq::ifindex("t0").unwrap();
        let rx = PacketRx::open(ifindex, 64).unwrap();
        let mut tx = PacketTx::open(ifindex).unwrap();
        let _guard = crate::children::none_starting();
        drop(tap);
        assert_eq!(
            rx.take_error().unwrap_err().raw_os_error(),
            Some(libc::ENETDOWN)
        );
        let f = frame(60);
        let one = TxFrame {
            vnet: VnetHdr::default(),
            data: &f,
        };
        let mut refused = 0;
        tx.send([one], |_| refused += 1);
        assert_eq!(refused, 1);
        assert_eq!(
            PacketRx::open(ifindex, 64).unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
    }
}
