//! Work that senders leave to devices: which device can do what, who does the rest, and how a packet's [`Offload`]
//! becomes the virtio-net header of TAP devices and packet sockets and back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrovs_packet::buffer::{self, Batch, Checksum, Gso, GsoType, IpChecksum, Offload, Packet};
use ferrovs_packet::gso::{self, MAX_SEGMENTS};
use ferrovs_runtime::vlog::modules::USERSPACE_TSO;
use ferrovs_runtime::{coverage, vlog};
use ferrovs_sys::vnet::{
    VNET_F_DATA_VALID, VNET_F_NEEDS_CSUM, VNET_GSO_ECN, VNET_GSO_NONE, VNET_GSO_TCPV4,
    VNET_GSO_TCPV6, VNET_GSO_UDP_L4, VnetHdr,
};

use crate::{Loss, Losses};

bitflags::bitflags! {
    /// Work that a device takes off those who send through it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u16 {
        const IP_CSUM = 1;
        const TCP_CSUM = 1 << 1;
        const UDP_CSUM = 1 << 2;
        const SCTP_CSUM = 1 << 3;
        const TCP_SEG = 1 << 4;
        /// UDP segmentation, one datagram a segment.
        const UDP_SEG = 1 << 5;
        const OUTER_IP_CSUM = 1 << 6;
        const OUTER_UDP_CSUM = 1 << 7;
        const VXLAN_SEG = 1 << 8;
        const GENEVE_SEG = 1 << 9;
        const GRE_SEG = 1 << 10;
    }
}

impl Capabilities {
    /// What the kernel does for packet sockets and taps. Outer headers of tunnels are done before it sees a frame.
    pub const KERNEL: Capabilities = Capabilities::TCP_CSUM
        .union(Capabilities::UDP_CSUM)
        .union(Capabilities::TCP_SEG)
        .union(Capabilities::UDP_SEG);
}

/// Capabilities as `Interface.status` names them; it does not tell of UDP segmentation.
const NAMES: [(&str, Capabilities); 10] = [
    ("tx_geneve_tso_offload", Capabilities::GENEVE_SEG),
    ("tx_gre_tso_offload", Capabilities::GRE_SEG),
    ("tx_ip_csum_offload", Capabilities::IP_CSUM),
    ("tx_out_ip_csum_offload", Capabilities::OUTER_IP_CSUM),
    ("tx_out_udp_csum_offload", Capabilities::OUTER_UDP_CSUM),
    ("tx_sctp_csum_offload", Capabilities::SCTP_CSUM),
    ("tx_tcp_csum_offload", Capabilities::TCP_CSUM),
    ("tx_tcp_seg_offload", Capabilities::TCP_SEG),
    ("tx_udp_csum_offload", Capabilities::UDP_CSUM),
    ("tx_vxlan_tso_offload", Capabilities::VXLAN_SEG),
];

/// Whether `userspace-tso-enable` was seen.
static TSO: AtomicBool = AtomicBool::new(false);

/// From now on, until the program ends, devices for tests deal in trains. Those of the kernel always do.
pub fn enable_userspace_tso() {
    if !TSO.swap(true, Ordering::Relaxed) {
        vlog::info!(
            USERSPACE_TSO,
            "Userspace TCP Segmentation Offloading support enabled"
        );
    }
}

/// Whether they do.
pub fn userspace_tso() -> bool {
    TSO.load(Ordering::Relaxed)
}

/// What `Interface.status` says of a device that can do `can`.
pub fn status(can: Capabilities) -> BTreeMap<String, String> {
    let entry = |(name, what): (&str, _)| (name.to_owned(), can.contains(what).to_string());
    NAMES.map(entry).into()
}

/// Gives `send` the packets of a batch when nothing is left to do with them but what the device can. The batch is
/// empty afterwards. A packet that makes several frames is lost, once, if one of them is.
pub fn complete(
    batch: &mut Batch,
    can: Capabilities,
    mut send: impl FnMut(&[Packet]) -> Losses,
) -> Losses {
    if batch.iter().all(|p| is_done(p, can)) {
        let losses = send(batch);
        buffer::free(batch);
        return losses;
    }
    let mut losses = Losses::default();
    for mut p in batch.drain(..) {
        let (mut frames, mut lost) = (0, None);
        // One at a time, while it is in the cache.
        let mut one = |p: Packet| {
            frames += 1;
            lost = lost.or(send(std::slice::from_ref(&p)).first());
        };
        if is_done(&p, can) {
            one(p);
        } else if can.contains(Capabilities::UDP_SEG) && gso::is_tunnel(&p) {
            gso::complete_ip_checksum(&mut p);
            gso::to_uso(p, &mut one);
        } else {
            gso::finish(p, &mut one);
        }
        if frames == 0 {
            // It could not be cut.
            lost = Some(Loss::Malformed);
        }
        if let Some(loss) = lost {
            losses.add(loss);
        }
    }
    losses
}

/// Whether the device can do all that was left to it.
fn is_done(p: &Packet, can: Capabilities) -> bool {
    let segments = match p.offload.gso {
        None => true,
        // No device here cuts what is inside of a tunnel.
        Some(_) if gso::is_tunnel(p) => false,
        Some(g) => can.contains(match g.kind {
            GsoType::Tcp4 | GsoType::Tcp6 => Capabilities::TCP_SEG,
            GsoType::Udp => Capabilities::UDP_SEG,
        }),
    };
    let transport = match p.offload.checksum {
        Checksum::Partial { offset: 16, .. } => can.contains(Capabilities::TCP_CSUM),
        Checksum::Partial { offset: 6, .. } => can.contains(Capabilities::UDP_CSUM),
        // Who does both stores a sum wherever the packet says, whatever the protocol.
        Checksum::Partial { .. } => {
            can.contains(Capabilities::TCP_CSUM.union(Capabilities::UDP_CSUM))
        }
        _ => true,
    };
    let ip = p.md.ip_checksum != IpChecksum::Open || can.contains(Capabilities::IP_CSUM);
    segments && ip && transport
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
        Checksum::Unknown | Checksum::Claimed => {}
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
    fn a_device_gets_no_packet_that_asks_for_more_than_it_can_do() {
        let packet = |partial: bool| {
            let mut p = Packet::from_slice(&[1; 60]);
            if partial {
                p.offload.checksum = Checksum::Partial {
                    start: 34,
                    offset: 6,
                };
            }
            p
        };
        for (can, calls) in [(Capabilities::KERNEL, 1), (Capabilities::empty(), 3)] {
            let mut batch: Batch = [packet(false), packet(true), packet(false)]
                .into_iter()
                .collect();
            let (mut seen, mut n) = (Vec::new(), 0);
            let losses = complete(&mut batch, can, |packets| {
                n += 1;
                seen.extend(packets.iter().map(|p| p.offload.checksum));
                Losses::all(Loss::Down, packets.len())
            });
            assert!(batch.is_empty());
            assert_eq!(losses, Losses::all(Loss::Down, 3));
            assert_eq!((n, seen.len()), (calls, 3));
            let left = matches!(seen[1], Checksum::Partial { .. });
            assert_eq!(left, can == Capabilities::KERNEL);
        }
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
