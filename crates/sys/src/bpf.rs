//! bpf(2): the little that AF_XDP needs of it. A map of sockets by receive queue, the program that hands each packet
//! of a queue to the socket of that queue, and the link that holds the program at a device.
//!
//! The program is written as instructions, so that no compiler or library is needed where the switch runs. The link
//! goes with its descriptor: a process that ends, however it does, takes its program off the device.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a program looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the host makes a packet of its own of what came.
    Native,
    /// After that, which works with any driver.
    Generic,
}

/// A command of bpf(2), whose attributes are the fields of `attr`; the rest of them is zero.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attr`, a `repr(C)` struct without gaps whose pointers, if
    // any, lead to memory that is borrowed meanwhile and whose sizes it names.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(rc as libc::c_int)
}

/// The descriptor that a command made.
fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel has just made the descriptor, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sockets by the receive queue whose packets they get.
#[derive(Debug)]
pub struct XskMap(OwnedFd);

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl XskMap {
    /// For `n` queues.
    pub fn new(n: u32) -> io::Result<XskMap> {
        let mut attr = MapCreate {
            map_type: BPF_MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: n.max(1),
            map_flags: 0,
        };
        bpf(BPF_MAP_CREATE, &mut attr).map(|fd| XskMap(owned(fd)))
    }

    /// From now on an AF_XDP socket gets the packets of a queue. It is forgotten when it is closed.
    pub fn set(&self, queue: u32, socket: &impl AsFd) -> io::Result<()> {
        let value = socket.as_fd().as_raw_fd();
        let mut attr = MapUpdate {
            map_fd: self.0.as_raw_fd() as u32,
            reserved: 0,
            key: std::ptr::from_ref(&queue) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }
}

/// An instruction: code, registers (destination, source), offset, immediate value.
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = if cfg!(target_endian = "little") {
        dst | src << 4
    } else {
        dst << 4 | src
    };
    bytes[2..4].copy_from_slice(&off.to_ne_bytes());
    bytes[4..].copy_from_slice(&imm.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// `return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS)`: packets of queues without a socket go to the host.
fn redirect(map: &XskMap) -> [u64; 6] {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_IMM64: u8 = 0x18;
    const SET: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const RX_QUEUE_INDEX: i16 = 16;
    const IS_MAP: u8 = 1;
    const REDIRECT_MAP: i32 = 51;
    const XDP_PASS: i32 = 2;
    [
        insn(LOAD_WORD, 2, 1, RX_QUEUE_INDEX, 0),
        insn(LOAD_IMM64, 1, IS_MAP, 0, map.0.as_raw_fd()),
        insn(0, 0, 0, 0, 0),
        insn(SET, 3, 0, 0, XDP_PASS),
        insn(CALL, 0, 0, 0, REDIRECT_MAP),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

/// A program for an XDP hook.
#[derive(Debug)]
pub struct Program(OwnedFd);

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

impl Program {
    /// The program that hands packets to the sockets of `map`.
    pub fn redirect(map: &XskMap) -> io::Result<Program> {
        let insns = redirect(map);
        let license = c"Apache-2.0";
        let mut attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: *b"xsk_redirect\0\0\0\0",
            prog_ifindex: 0,
            expected_attach_type: BPF_XDP,
        };
        bpf(BPF_PROG_LOAD, &mut attr).map(|fd| Program(owned(fd)))
    }
}

/// A program at a device, as long as this lives.
#[derive(Debug)]
pub struct XdpLink(#[expect(dead_code, reason = "it is closed when this goes")] OwnedFd);

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl XdpLink {
    /// Puts a program at a device of the thread's network namespace.
    pub fn attach(program: &Program, ifindex: u32, hook: Hook) -> io::Result<XdpLink> {
        let mut attr = LinkCreate {
            prog_fd: program.0.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: match hook {
                Hook::Native => XDP_FLAGS_DRV_MODE,
                Hook::Generic => XDP_FLAGS_SKB_MODE,
            },
        };
        bpf(BPF_LINK_CREATE, &mut attr).map(|fd| XdpLink(owned(fd)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifreq;
    use crate::rtnetlink::Rtnl;

    #[test]
    fn a_program_is_at_a_device_as_long_as_its_link_lives() {
        crate::netns::unshare().unwrap();
        crate::children::sh("ip link add a0 type veth peer name b0").unwrap();
        let map = XskMap::new(4).unwrap();
        let program = Program::redirect(&map).unwrap();
        let index = ifreq::ifindex("a0").unwrap();
        let loaded = || Rtnl::open().unwrap().link("a0").unwrap().xdp_program;
        assert_eq!(loaded(), 0);
        for hook in [Hook::Native, Hook::Generic] {
            let link = XdpLink::attach(&program, index, hook).unwrap();
            assert_ne!(loaded(), 0);
            let second = XdpLink::attach(&program, index, hook).unwrap_err();
            assert_eq!(second.raw_os_error(), Some(libc::EBUSY));
            let guard = crate::children::none_starting();
            drop(link);
            assert_eq!(loaded(), 0);
            drop(guard);
        }
        XdpLink::attach(&program, 1 << 30, Hook::Native).unwrap_err();
    }
}
