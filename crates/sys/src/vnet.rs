//! The virtio-net header that TAP devices and packet sockets put before each frame.
//!
//! With `IFF_VNET_HDR` (TAP) or `PACKET_VNET_HDR` (AF_PACKET) every frame that is read or written
//! starts with ten bytes that say two things: whether the transport checksum still has to be
//! filled in (and where), and whether the frame is one large segment that the kernel or the
//! device cuts into `gso_size` pieces later. Passing these ten bytes on is what lets 64 KB frames
//! and partial checksums cross the switch untouched.
//!
//! All fields are in host byte order on both kinds of descriptor (legacy virtio layout).

/// Bytes the header takes before the frame.
pub const VNET_HDR_SIZE: usize = 10;

/// `flags`: the checksum at `csum_start + csum_offset` is partial.
pub const VNET_F_NEEDS_CSUM: u8 = 1;
/// `flags`: the sender vouches for the checksums.
pub const VNET_F_DATA_VALID: u8 = 2;

/// `gso_type`: a plain frame.
pub const VNET_GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const VNET_GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
pub const VNET_GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP segmentation (one datagram for each `gso_size` bytes).
pub const VNET_GSO_UDP_L4: u8 = 5;
/// `gso_type`: bit added when the first TCP segment carries CWR.
pub const VNET_GSO_ECN: u8 = 0x80;

/// One virtio-net header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    /// `VNET_F_*`.
    pub flags: u8,
    /// `VNET_GSO_*`.
    pub gso_type: u8,
    /// Bytes of Ethernet, IP and transport header, for a large frame (a hint).
    pub hdr_len: u16,
    /// Payload bytes in each segment.
    pub gso_size: u16,
    /// Where the checksummed area begins, from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum field is, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// Reads the header from its bytes.
    #[inline]
    pub fn from_bytes(b: &[u8; VNET_HDR_SIZE]) -> VnetHdr {
        let w = |i: usize| u16::from_ne_bytes([b[i], b[i + 1]]);
        VnetHdr {
            flags: b[0],
            gso_type: b[1],
            hdr_len: w(2),
            gso_size: w(4),
            csum_start: w(6),
            csum_offset: w(8),
        }
    }

    /// The header's bytes.
    #[inline]
    pub fn to_bytes(self) -> [u8; VNET_HDR_SIZE] {
        let mut b = [0; VNET_HDR_SIZE];
        b[0] = self.flags;
        b[1] = self.gso_type;
        b[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        b[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        b[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        b[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        b
    }

    /// True if the checksum has to be completed.
    #[inline]
    pub fn needs_csum(&self) -> bool {
        self.flags & VNET_F_NEEDS_CSUM != 0
    }

    /// The GSO type without the ECN bit.
    #[inline]
    pub fn gso_kind(&self) -> u8 {
        self.gso_type & !VNET_GSO_ECN
    }

    /// True if this is a large frame.
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso_kind() != VNET_GSO_NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        let h = VnetHdr {
            flags: 1,
            gso_type: 0x81,
            hdr_len: 66,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(VnetHdr::from_bytes(&h.to_bytes()), h);
        assert!(h.is_gso() && h.needs_csum());
        assert_eq!(h.gso_kind(), VNET_GSO_TCPV4);
    }
}
