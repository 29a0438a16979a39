//! Between a packet's [`Offload`] and the virtio-net header of TAP devices and packet sockets.

use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload};
use ferrovs_sys::vnet::{
    VNET_F_DATA_VALID, VNET_F_NEEDS_CSUM, VNET_GSO_ECN, VNET_GSO_NONE, VNET_GSO_TCPV4,
    VNET_GSO_TCPV6, VNET_GSO_UDP_L4, VnetHdr,
};

/// What the header of a received frame of `len` bytes says, the frame having been shifted by
/// `shift` bytes (an inserted VLAN tag). None for something that cannot be carried.
#[inline]
pub fn from_vnet(h: &VnetHdr, len: usize, shift: u16) -> Option<Offload> {
    if h.flags == 0 && h.gso_type == VNET_GSO_NONE {
        return Some(Offload::default());
    }
    let checksum = if h.flags & VNET_F_NEEDS_CSUM != 0 {
        let start = h.csum_start.checked_add(shift)?;
        if usize::from(start) + usize::from(h.csum_offset) + 2 > len {
            return None;
        }
        Checksum::Partial {
            start,
            offset: h.csum_offset,
        }
    } else if h.flags & VNET_F_DATA_VALID != 0 {
        Checksum::Good
    } else {
        Checksum::Unknown
    };
    let kind = match h.gso_kind() {
        VNET_GSO_NONE => {
            return Some(Offload {
                checksum,
                gso: None,
            });
        }
        VNET_GSO_TCPV4 => GsoType::Tcp4,
        VNET_GSO_TCPV6 => GsoType::Tcp6,
        VNET_GSO_UDP_L4 => GsoType::Udp,
        _ => return None,
    };
    if h.gso_size == 0 {
        return None;
    }
    let hdr_len = if h.hdr_len == 0 {
        0
    } else {
        h.hdr_len.checked_add(shift)?
    };
    let ecn = h.gso_type & VNET_GSO_ECN != 0;
    Some(Offload {
        checksum,
        gso: Some(Gso {
            kind,
            size: h.gso_size,
            hdr_len,
            ecn,
        }),
    })
}

/// The header that makes the kernel finish what `offload` leaves undone. `trust` tells it that
/// verified checksums need no second look.
#[inline]
pub fn to_vnet(offload: &Offload, trust: bool) -> VnetHdr {
    let mut h = VnetHdr::default();
    match offload.checksum {
        Checksum::Unknown => {}
        Checksum::Good if trust => h.flags = VNET_F_DATA_VALID,
        Checksum::Good => {}
        Checksum::Partial { start, offset } => {
            h.flags = VNET_F_NEEDS_CSUM;
            h.csum_start = start;
            h.csum_offset = offset;
        }
    }
    if let Some(g) = offload.gso {
        h.gso_type = match g.kind {
            GsoType::Tcp4 => VNET_GSO_TCPV4,
            GsoType::Tcp6 => VNET_GSO_TCPV6,
            GsoType::Udp => VNET_GSO_UDP_L4,
        } | if g.ecn { VNET_GSO_ECN } else { 0 };
        h.gso_size = g.size;
        h.hdr_len = g.hdr_len;
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gso_header_survives_both_ways_and_follows_a_shift() {
        let h = VnetHdr {
            flags: VNET_F_NEEDS_CSUM,
            gso_type: VNET_GSO_TCPV4 | VNET_GSO_ECN,
            hdr_len: 66,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(to_vnet(&from_vnet(&h, 64000, 0).unwrap(), false), h);
        let shifted = to_vnet(&from_vnet(&h, 64000, 4).unwrap(), false);
        assert_eq!(
            (shifted.csum_start, shifted.hdr_len, shifted.gso_size),
            (38, 70, 1448)
        );
    }

    #[test]
    fn a_checksum_field_outside_the_frame_is_refused() {
        let h = VnetHdr {
            flags: VNET_F_NEEDS_CSUM,
            csum_start: 34,
            csum_offset: 16,
            ..VnetHdr::default()
        };
        assert!(from_vnet(&h, 52, 0).is_some());
        assert!(from_vnet(&h, 51, 0).is_none());
    }
}
