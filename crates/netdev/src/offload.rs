//! Between a packet's [`Offload`] and the virtio-net header of TAP devices and packet sockets.

use std::collections::BTreeMap;

use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload};
use ferrovs_packet::gso::MAX_SEGMENTS;
use ferrovs_runtime::coverage;
use ferrovs_sys::vnet::{
    VNET_F_DATA_VALID, VNET_F_NEEDS_CSUM, VNET_GSO_ECN, VNET_GSO_NONE, VNET_GSO_TCPV4,
    VNET_GSO_TCPV6, VNET_GSO_UDP_L4, VnetHdr,
};

/// Kinds of work that a device may take off its senders, as `Interface.status` names them, and whether the kernel's
/// devices do (what concerns tunnels' outer headers is done before they see a frame).
const OFFLOADS: [(&str, bool); 10] = [
    ("tx_geneve_tso_offload", false),
    ("tx_gre_tso_offload", false),
    ("tx_ip_csum_offload", false),
    ("tx_out_ip_csum_offload", false),
    ("tx_out_udp_csum_offload", false),
    ("tx_sctp_csum_offload", false),
    ("tx_tcp_csum_offload", true),
    ("tx_tcp_seg_offload", true),
    ("tx_udp_csum_offload", true),
    ("tx_vxlan_tso_offload", false),
];

/// What `Interface.status` says of offloads; `kernel` for a device of the kernel.
pub fn status(kernel: bool) -> BTreeMap<String, String> {
    let entry =
        |(name, by_kernel): (&str, bool)| (name.to_owned(), (kernel && by_kernel).to_string());
    OFFLOADS.map(entry).into()
}

/// What the header of a received frame of `len` bytes says, the frame having been shifted by
/// `shift` bytes (an inserted VLAN tag). None for something that cannot be carried, which counts as
/// `datapath_drop_rx_invalid_packet`.
#[inline]
pub fn from_vnet(h: &VnetHdr, len: usize, shift: u16) -> Option<Offload> {
    if h.flags == 0 && h.gso_type == VNET_GSO_NONE {
        return Some(Offload::default());
    }
    let offload = read(h, len, shift);
    if offload.is_none() {
        coverage::DATAPATH_DROP_RX_INVALID_PACKET.inc();
    }
    offload
}

fn read(h: &VnetHdr, len: usize, shift: u16) -> Option<Offload> {
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
    // A frame that stands for more others than any host sends is an attack on whoever cuts it.
    if h.gso_size == 0 || len.div_ceil(usize::from(h.gso_size)) > MAX_SEGMENTS {
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
    fn a_frame_that_asks_for_thousands_of_segments_is_refused() {
        let h = |gso_size| VnetHdr {
            flags: VNET_F_NEEDS_CSUM,
            gso_type: VNET_GSO_TCPV4,
            hdr_len: 54,
            gso_size,
            csum_start: 34,
            csum_offset: 16,
        };
        for (gso_size, len, taken) in [
            (1, 60_000, false),
            (0, 60_000, false),
            (48, 65_550, true),
            (1448, 65_550, true),
            (1, 1000, true),
        ] {
            let got = from_vnet(&h(gso_size), len, 0).is_some();
            assert_eq!(got, taken, "{gso_size} {len}");
        }
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
