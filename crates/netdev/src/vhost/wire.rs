//! Messages of the vhost-user protocol, as a front-end (a virtual machine monitor) and a back-end (we) exchange them.
//!
//! ```text
//!   0        4        8        12
//!   | request| flags  | size   | payload ...
//! ```
//!
//! All numbers are in the host's byte order, since both ends are on one host. Descriptors come beside the bytes.
//! The specification is QEMU's `docs/interop/vhost-user.rst`.

use ferrovs_sys::guest::Region;

/// Size of a message without its payload.
pub const HEADER: usize = 12;
/// No payload that we take is larger.
pub const MAX_PAYLOAD: usize = 512;
/// Regions that a memory table may have.
pub const MAX_REGIONS: usize = 8;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

bitflags::bitflags! {
    /// What a device and its driver agree on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// The device takes frames whose checksum is still to be computed.
        const CSUM = 1;
        /// So does the driver.
        const GUEST_CSUM = 1 << 1;
        const GUEST_TSO4 = 1 << 7;
        const GUEST_TSO6 = 1 << 8;
        const GUEST_ECN = 1 << 9;
        const HOST_TSO4 = 1 << 11;
        const HOST_TSO6 = 1 << 12;
        const HOST_ECN = 1 << 13;
        /// A frame for the guest may fill several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The monitor does these three itself, if it may.
        const CTRL_VQ = 1 << 17;
        const CTRL_RX = 1 << 18;
        const GUEST_ANNOUNCE = 1 << 21;
        const MQ = 1 << 22;
        /// What is written into the guest's memory is to be logged.
        const LOG_ALL = 1 << 26;
        /// A virtio-net header need not be in a descriptor of its own.
        const ANY_LAYOUT = 1 << 27;
        const INDIRECT_DESC = 1 << 28;
        const EVENT_IDX = 1 << 29;
        /// Of vhost-user: there are [`Protocol`] features.
        const PROTOCOL_FEATURES = 1 << 30;
        const VERSION_1 = 1 << 32;
        const RING_PACKED = 1 << 34;
        /// Buffers are used in the order in which they were offered.
        const IN_ORDER = 1 << 35;
        const GUEST_USO4 = 1 << 54;
        const GUEST_USO6 = 1 << 55;
        const HOST_USO = 1 << 56;
    }

    /// What a front-end and a back-end agree on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protocol: u64 {
        const MQ = 1;
        /// The log is memory that is shared.
        const LOG_SHMFD = 1 << 1;
        const REPLY_ACK = 1 << 3;
        const RESET_DEVICE = 1 << 13;
        const STATUS = 1 << 16;
    }
}

/// A message from the front-end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    SetMemTable(Vec<Region>),
    /// How many bytes the log has, and where it begins in its file.
    SetLogBase(u64, u64),
    SetLogFd,
    SetVringNum(VringState),
    SetVringAddr(VringAddr),
    SetVringBase(VringState),
    GetVringBase(VringState),
    SetVringKick(VringFd),
    SetVringCall(VringFd),
    SetVringErr(VringFd),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable(VringState),
    ResetDevice,
    SetStatus(u64),
    GetStatus,
}

/// A number that concerns a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VringState {
    pub index: u32,
    pub num: u32,
}

/// Where the front-end sees the parts of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VringAddr {
    pub index: u32,
    pub desc: u64,
    /// Of a packed ring: the device's event suppression.
    pub used: u64,
    /// Of a packed ring: the driver's event suppression.
    pub avail: u64,
    /// The guest's address under which what is given back is logged, if it is.
    pub log: Option<u64>,
}

/// A descriptor that concerns a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VringFd {
    pub index: u32,
    /// Otherwise there is none.
    pub has_fd: bool,
}

/// Why a message cannot be understood, which ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("version {0} of the protocol")]
    Version(u32),
    #[error("message {0} with {1} bytes")]
    Size(u32, usize),
    #[error("unknown message {0}")]
    Unknown(u32),
    #[error("{0} regions of memory")]
    Regions(u32),
}

/// The first part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub request: u32,
    flags: u32,
    pub size: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Header {
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Header, Malformed> {
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        let (request, flags, size) = (word(0), word(4), word(8) as usize);
        if flags & VERSION_MASK != VERSION {
            return Err(Malformed::Version(flags & VERSION_MASK));
        }
        if size > MAX_PAYLOAD {
            return Err(Malformed::Size(request, size));
        }
        Ok(Header {
            request,
            flags,
            size,
        })
    }

    /// Whether the front-end waits to hear how a request went that has no other answer.
    pub fn needs_reply(&self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    /// The answer to this message.
    pub fn reply(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + payload.len());
        out.extend(self.request.to_ne_bytes());
        out.extend((VERSION | REPLY).to_ne_bytes());
        out.extend((payload.len() as u32).to_ne_bytes());
        out.extend(payload);
        out
    }
}

impl Request {
    pub fn parse(header: &Header, payload: &[u8]) -> Result<Request, Malformed> {
        let number = header.request;
        let parsed = Request::read(number, payload)?;
        parsed.ok_or(Malformed::Size(number, payload.len()))
    }

    /// None if the payload has not the size that it must have.
    fn read(number: u32, p: &[u8]) -> Result<Option<Request>, Malformed> {
        let empty = |request: Request| p.is_empty().then_some(request);
        // Some front-ends send a payload where the specification has none.
        let any = |request: Request| Some(request);
        let word = || u64_at(p, 0).filter(|_| p.len() == 8);
        Ok(match number {
            1 => any(Request::GetFeatures),
            2 => word().map(Request::SetFeatures),
            3 => any(Request::SetOwner),
            4 => any(Request::ResetOwner),
            5 => return regions(p).map(|r| r.map(Request::SetMemTable)),
            6 => log_base(p),
            7 => any(Request::SetLogFd),
            8 => state(p).map(Request::SetVringNum),
            9 => addr(p).map(Request::SetVringAddr),
            10 => state(p).map(Request::SetVringBase),
            11 => state(p).map(Request::GetVringBase),
            12 => word().map(|w| Request::SetVringKick(fd(w))),
            13 => word().map(|w| Request::SetVringCall(fd(w))),
            14 => word().map(|w| Request::SetVringErr(fd(w))),
            15 => any(Request::GetProtocolFeatures),
            16 => word().map(Request::SetProtocolFeatures),
            17 => any(Request::GetQueueNum),
            18 => state(p).map(Request::SetVringEnable),
            34 => empty(Request::ResetDevice),
            39 => word().map(Request::SetStatus),
            40 => any(Request::GetStatus),
            other => return Err(Malformed::Unknown(other)),
        })
    }
}

fn state(p: &[u8]) -> Option<VringState> {
    let state = VringState {
        index: u32_at(p, 0)?,
        num: u32_at(p, 4)?,
    };
    (p.len() == 8).then_some(state)
}

fn addr(p: &[u8]) -> Option<VringAddr> {
    const LOGGED: u32 = 1;
    let flags = u32_at(p, 4)?;
    let addr = VringAddr {
        index: u32_at(p, 0)?,
        desc: u64_at(p, 8)?,
        used: u64_at(p, 16)?,
        avail: u64_at(p, 24)?,
        log: u64_at(p, 32).filter(|_| flags & LOGGED != 0),
    };
    (p.len() == 40).then_some(addr)
}

fn log_base(p: &[u8]) -> Option<Request> {
    let request = Request::SetLogBase(u64_at(p, 0)?, u64_at(p, 8)?);
    (p.len() == 16).then_some(request)
}

fn fd(word: u64) -> VringFd {
    const NO_FD: u64 = 1 << 8;
    VringFd {
        index: word as u32 & 0xff,
        has_fd: word & NO_FD == 0,
    }
}

fn regions(p: &[u8]) -> Result<Option<Vec<Region>>, Malformed> {
    const SIZE: usize = 32;
    let Some(count) = u32_at(p, 0) else {
        return Ok(None);
    };
    if count as usize > MAX_REGIONS {
        return Err(Malformed::Regions(count));
    }
    let region = |at: usize| {
        Some(Region {
            guest: u64_at(p, at)?,
            size: u64_at(p, at + 8)?,
            user: u64_at(p, at + 16)?,
            offset: u64_at(p, at + 24)?,
        })
    };
    // Some front-ends always send all of the table.
    Ok((0..count as usize).map(|i| region(8 + i * SIZE)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(request: u32, payload: &[u8]) -> Result<Request, Malformed> {
        let header = Header {
            request,
            flags: VERSION,
            size: payload.len(),
        };
        Request::parse(&header, payload)
    }

    #[test]
    fn messages_are_understood_and_malformed_ones_are_not() {
        let pair = [7u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat();
        let state = VringState { index: 7, num: 9 };
        assert_eq!(parse(8, &pair), Ok(Request::SetVringNum(state)));
        assert_eq!(parse(8, &pair[..7]), Err(Malformed::Size(8, 7)));
        assert_eq!(parse(99, &[]), Err(Malformed::Unknown(99)));
        let word = |w: u64| parse(12, &w.to_ne_bytes());
        let fd = |index, has_fd| Ok(Request::SetVringKick(VringFd { index, has_fd }));
        assert_eq!(word(3), fd(3, true));
        assert_eq!(word(0x1ff), fd(255, false));
        let mut table = [2u32.to_ne_bytes(), [0; 4]].concat();
        for n in 1..=8u64 {
            table.extend(n.to_ne_bytes());
        }
        let Ok(Request::SetMemTable(regions)) = parse(5, &table) else {
            panic!("no table")
        };
        assert_eq!(
            (regions.len(), regions[1].guest, regions[1].offset),
            (2, 5, 8)
        );
        assert_eq!(parse(5, &table[..71]), Err(Malformed::Size(5, 71)));
        table[0] = 9;
        assert_eq!(parse(5, &table), Err(Malformed::Regions(9)));
    }

    #[test]
    fn a_header_says_how_much_follows_and_gets_its_answer() {
        let bytes = |request: u32, flags: u32, size: u32| -> [u8; HEADER] {
            let words = [request, flags, size].map(u32::to_ne_bytes);
            words.concat().try_into().unwrap()
        };
        let header = Header::parse(&bytes(1, 9, 8)).unwrap();
        assert!(header.needs_reply() && header.size == 8);
        let reply = header.reply(&[1, 2]);
        assert_eq!(reply[..HEADER], bytes(1, 5, 2));
        assert_eq!(reply[HEADER..], [1, 2]);
        assert_eq!(Header::parse(&bytes(1, 2, 0)), Err(Malformed::Version(2)));
        let long = Header::parse(&bytes(1, 1, 1 << 20));
        assert_eq!(long, Err(Malformed::Size(1, 1 << 20)));
    }
}
